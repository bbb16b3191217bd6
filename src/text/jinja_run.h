/* jinja_run.h - the running template: variables of functions, loops, macros, iterators, and the evaluator's entries. */
#ifndef QN_TEXT_JINJA_RUN_H
#define QN_TEXT_JINJA_RUN_H

#include "text/jinja.h"
#include "text/jinja_ast.h"
#include "text/jinja_builtin.h"
#include "text/jinja_string.h"

/* The variables of one run of a function. Macros made in it keep it alive. */
typedef struct qn_jenv {
    qn_jobj head;
    struct qn_jenv *parent;
    const qn_jfunction *function;
    qn_jval slots[];
} qn_jenv;

typedef struct qn_jmacro {
    qn_jobj head;
    const qn_jnode *node; /* QN_N_MACRO, QN_N_CALL_BLOCK */
    qn_jenv *env;         /* where it was defined */
} qn_jmacro;

typedef struct qn_jmethod {
    qn_jobj head;
    qn_jval self;
    const qn_jbuiltin *definition;
} qn_jmethod;

typedef struct qn_jblock { /* `self` (node == NULL) and self.name */
    qn_jobj head;
    const qn_jnode *node;
} qn_jblock;

typedef struct qn_jloop {
    qn_jobj head;
    const qn_jnode *node;
    qn_jenv *env;      /* around the loop */
    qn_jenv *test_env; /* of the loop's test, made with the first item */
    qn_jval iterable;  /* what is looped over */
    qn_jval iterator;
    qn_jval after, current, before; /* after: peeked at; missing if not */
    qn_jval changed;                /* what loop.changed was called with last */
    int64_t index0, depth0, length; /* length: -1 = not known yet */
    bool tested;                    /* what the iterator still gives has passed the loop's test */
} qn_jloop;

typedef enum qn_jiter_kind {
    QN_IT_LIST,
    QN_IT_TEXT,
    QN_IT_DICT,
    QN_IT_RANGE,
    QN_IT_EMPTY,
    QN_IT_MAP,
    QN_IT_SELECT,
    QN_IT_UNIQUE,
    QN_IT_BATCH,
    QN_IT_SLICE
} qn_jiter_kind;

struct qn_jiter {
    qn_jobj head;
    qn_jiter_kind what;
    qn_jview_kind view; /* DICT */
    bool reversed, done;
    const char *type_name;
    qn_jval source; /* the container; for lazy filters the iterator they draw from */
    size_t at;      /* position in the container, slices given so far */
    /* lazy filters: */
    qn_jval parts;                 /* of an attribute path, or missing */
    qn_jval fallback;              /* default of map, fill of batch and slice */
    const qn_jbuiltin *definition; /* filter of map, test of select; NULL: truth */
    qn_jval args;                  /* list: further arguments */
    qn_jval keywords;              /* dict */
    qn_jval seen;                  /* dict: keys of unique */
    int64_t n;                     /* of batch and slice */
    bool negate, case_sensitive, by_attribute;
    /* Looks at the source and the arguments when the first item is asked for, and sets all of the above; NULL: done. */
    bool (*start)(qn_jrun *run, qn_jiter *it);
    uint32_t pos; /* where the filter stands, for its messages */
};

/* ---- objects (jinja_value.c, jinja_run.c) ---- */

void qn_jobj_adopt(qn_jrun *run, qn_jobj *o, size_t bytes); /* enters a new object of one reference into the list */
void qn_jrun_release_children(qn_jrun *run, qn_jobj *o);

/* ---- iterators (jinja_iter.c) ---- */

/* iter(v): an iterator over v; v itself if it is one. */
bool qn_jiter_new(qn_jrun *run, qn_jval v, qn_jval *out);
bool qn_jiter_reversed(qn_jrun *run, qn_jval v, bool *possible, qn_jval *out);
/* A lazy filter over `source`, to be filled in by the caller. */
bool qn_jiter_lazy(qn_jrun *run, qn_jiter_kind what, qn_jval source, qn_jiter **out);
/* The same, but even the source is looked at by `start`; without it, the iterator is empty. */
bool qn_jiter_generator(qn_jrun *run, qn_jval source, bool (*start)(qn_jrun *run, qn_jiter *it), qn_jiter **out);
/* Draws from an iterator over the source from now on. */
bool qn_jiter_draw(qn_jrun *run, qn_jiter_kind what, qn_jiter *it);
/* 1: *out is the next item; 0: no more; -1: failed. */
int qn_jiter_next(qn_jrun *run, qn_jiter *it, qn_jval *out);
bool qn_jis_iterable(qn_jval v);
const char *qn_jiter_type_name(qn_jval v);
/* list(v) or tuple(v). */
bool qn_jcollect(qn_jrun *run, qn_jval v, qn_jkind kind, qn_jval *out);

/* ---- loops (jinja_exec.c) ---- */

bool qn_jloop_length(qn_jrun *run, qn_jval loop, int64_t *n);
/* Looks at the item after the current one: 1 and *item borrowed, 0: there is none, -1: failed. */
int qn_jloop_peek(qn_jrun *run, qn_jloop *loop, qn_jval *item);

/* ---- expressions (jinja_eval.c, jinja_ops.c) ---- */

bool qn_jeval(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out);
bool qn_jeval_filters(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval input, qn_jval *out); /* of a filter or set block */
bool qn_jbinary(qn_jrun *run, qn_jop op, qn_jval a, qn_jval b, qn_jval *out);
bool qn_jnegate(qn_jrun *run, qn_jval v, bool negative, qn_jval *out);
/* obj.name; if it is a method and `method` is not NULL, *method is set instead of *out. */
bool qn_jgetattr(qn_jrun *run, qn_jval obj, qn_jstr *name, qn_jval *out, const qn_jbuiltin **method);
bool qn_jgetitem(qn_jrun *run, qn_jval obj, qn_jval index, qn_jval *out);
/* Only an attribute, no item; *out missing if there is none. */
bool qn_jgetattr_only(qn_jrun *run, qn_jval obj, qn_jstr *name, qn_jval *out);
bool qn_jslice(qn_jrun *run, qn_jval obj, qn_jval start, qn_jval stop, qn_jval step, qn_jval *out);

/* ---- calls and statements (jinja_call.c, jinja_exec.c) ---- */

bool qn_jcall(qn_jrun *run, qn_jval callee, const qn_jargs *args, qn_jval *out);
bool qn_jeval_call(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval caller, qn_jval *out);
/* Evaluated arguments that own their values. */
typedef struct qn_jcall_args {
    qn_jargs args;
    qn_jval *positional;
    size_t positional_cap;
    qn_jkeyword *keywords;
    size_t keywords_cap;
    qn_jval local[4];
} qn_jcall_args;
bool qn_jargs_eval(qn_jrun *run, qn_jenv *env, const qn_jargs_ast *ast, qn_jcall_args *out);
bool qn_jargs_add_keyword(qn_jrun *run, qn_jcall_args *args, qn_jstr *name, qn_jval value);
void qn_jargs_deinit(qn_jrun *run, qn_jcall_args *args);

bool qn_jenv_new(qn_jrun *run, const qn_jfunction *function, qn_jenv *parent, qn_jenv **out);
void qn_jenv_end(qn_jrun *run, qn_jenv *env); /* the function returns */
bool qn_jscope_enter(qn_jrun *run, qn_jenv *env, const qn_jscope *scope);
void qn_jscope_leave(qn_jrun *run, qn_jenv *env, const qn_jscope *scope);
bool qn_jassign_target(qn_jrun *run, qn_jenv *env, const qn_jnode *target, qn_jval v);
static inline qn_jval *qn_jenv_slot(qn_jenv *env, qn_jref ref)
{
    for (uint16_t up = ref.up; up > 0; up--) {
        env = env->parent;
    }
    return &env->slots[ref.slot];
}

typedef enum qn_jflow { QN_FLOW_NEXT, QN_FLOW_BREAK, QN_FLOW_CONTINUE, QN_FLOW_FAIL } qn_jflow;
qn_jflow qn_jexec_body(qn_jrun *run, qn_jenv *env, const qn_jnode *first);
/* Renders a list of statements into a string of its own. */
bool qn_jcapture(qn_jrun *run, qn_jenv *env, const qn_jnode *body, qn_jflow *flow, qn_jval *out);
bool qn_jexec_recursive_loop(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval iterable, int64_t depth0, qn_jval *out);
bool qn_jexec_block(qn_jrun *run, const qn_jnode *block);
bool qn_jresolve(qn_jrun *run, const qn_jstr *name, qn_jval *out); /* of the context; missing if unknown */

/* JSON to values (jinja_run.c). */
bool qn_jfrom_json(qn_jrun *run, const qn_json *v, bool trusted, qn_jval *out);

#endif
