/* jinja_value.h - the values templates compute with: Python's, counted, and the render state that owns them.
 *
 * Every heap object of a render hangs in one list of its qn_jrun, so that even cyclic garbage is freed at its end.
 * Constants of a parsed template (strings with refs == QN_JREFS_CONST) are shared by all renders and never written to.
 * `content` marks what did not come from the template: in strings a character at a time, in numbers as a whole.
 *
 * Functions that can fail return false after qn_jfail has stored why. A qn_jval that is returned through an out
 * parameter is the caller's (release it); one that is passed in is borrowed.
 */
#ifndef QN_TEXT_JINJA_VALUE_H
#define QN_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

typedef struct qn_jrun qn_jrun;

typedef enum qn_jkind {
    QN_JV_MISSING, /* an unset variable or argument; templates never see it */
    QN_JV_NONE,
    QN_JV_BOOL,
    QN_JV_INT,
    QN_JV_FLOAT,
    /* from here on: heap objects */
    QN_JV_UNDEFINED,
    QN_JV_STRING,
    QN_JV_LIST,
    QN_JV_TUPLE,
    QN_JV_DICT,
    QN_JV_VIEW, /* keys, values or items of a dict */
    QN_JV_RANGE,
    QN_JV_ITER, /* a generator or another one-pass iterator */
    QN_JV_NAMESPACE,
    QN_JV_LOOP,
    QN_JV_MACRO,
    QN_JV_BUILTIN, /* a global function such as range; not counted, points to a static table */
    QN_JV_METHOD,
    QN_JV_CYCLER,
    QN_JV_JOINER,
    QN_JV_BLOCK, /* `self` and `self.name` */
    QN_JV_ENV    /* the variables of a running function; internal */
} qn_jkind;

#define QN_JREFS_CONST UINT32_MAX

typedef struct qn_jobj {
    struct qn_jobj *next, *prev;
    size_t bytes; /* of this allocation, as charged to the render */
    uint32_t refs;
    uint8_t kind;
} qn_jobj;

typedef struct qn_jstr qn_jstr;
typedef struct qn_jlist qn_jlist;
typedef struct qn_jdict qn_jdict;
typedef struct qn_jiter qn_jiter;
typedef struct qn_jbuiltin qn_jbuiltin;

typedef struct qn_jval {
    uint8_t kind; /* qn_jkind */
    bool content; /* numbers, bools and none: not from the template */
    union {
        bool b;
        int64_t i;
        double d;
        qn_jobj *obj;
        qn_jstr *str;
        qn_jlist *list;
        qn_jdict *dict;
        qn_jiter *iter;
        const qn_jbuiltin *builtin;
    } u;
} qn_jval;

/* Why a name or attribute gave nothing; the message is made only when somebody trips over it. */
typedef struct qn_jundefined {
    qn_jobj head;
    const char *hint;      /* a fixed sentence, or NULL */
    const char *type_name; /* of the object that lacks `name` ("dict object"), NULL for a variable */
    qn_jval name;
    bool unsafe;       /* refused by the sandbox */
    bool not_provided; /* a parameter without argument and default */
} qn_jundefined;

struct qn_jlist { /* list and tuple */
    qn_jobj head;
    qn_jval *items;
    size_t n, cap;
    bool is_group; /* a (grouper, list) pair of the groupby filter */
};

typedef struct qn_jentry {
    qn_jval key, value;
    uint64_t hash;
} qn_jentry;

struct qn_jdict {
    qn_jobj head;
    qn_jentry *entries; /* in insertion order */
    size_t n, cap;
    uint32_t *index;  /* open addressing, entry number + 1; NULL while small */
    size_t index_cap; /* a power of two */
};

typedef enum qn_jview_kind { QN_VIEW_KEYS, QN_VIEW_VALUES, QN_VIEW_ITEMS } qn_jview_kind;
typedef struct qn_jview {
    qn_jobj head;
    qn_jdict *dict;
    qn_jview_kind what;
} qn_jview;

typedef struct qn_jrange {
    qn_jobj head;
    int64_t start, stop, step, n;
} qn_jrange;

typedef struct qn_jnamespace {
    qn_jobj head;
    qn_jdict *attributes;
} qn_jnamespace;

typedef struct qn_jcycler {
    qn_jobj head;
    qn_jlist *items;
    size_t position;
} qn_jcycler;

typedef struct qn_jjoiner {
    qn_jobj head;
    qn_jval separator;
    bool used;
} qn_jjoiner;

/* ---- the render's memory, budget and errors (jinja_value.c) ---- */

struct qn_jbuf;
struct qn_jnode;

struct qn_jrun {
    const struct qn_jinja *template_;
    quern_error *err;
    quern_status status; /* QUERN_OK until the first failure */
    uint32_t pos;        /* offset in the source of what is being evaluated, for messages */
    qn_jobj objects;     /* ring of all live objects */
    qn_jobj *dead;       /* waiting to be freed */
    bool freeing;
    size_t used_bytes, cap_bytes, peak_bytes;
    uint64_t steps_left, max_steps;
    uint32_t depth, max_depth; /* nested evaluations */
    uint32_t calls, max_calls; /* nested calls of macros, blocks and recursive loops */
    struct qn_jbuf *out;       /* where output goes now */
    size_t max_output_bytes;
    qn_jdict *globals; /* the context */
    qn_jdict *vars;    /* what top-level set and macro statements export */
    uint64_t hash_seed;
    int64_t now;
    bool autoescape;
};

/* Stores the first failure with place and message (a cause from Python's vocabulary where there is one); returns false. */
bool qn_jfail(qn_jrun *run, const char *format, ...) QN_PRINTF(2, 3);
bool qn_jfail_status(qn_jrun *run, quern_status status, const char *format, ...) QN_PRINTF(3, 4);
/* The same without name and place in front: for raise_exception. */
bool qn_jfail_plain(qn_jrun *run, const char *message, size_t len);

/* Pays for work; n is about 20 ns each. */
bool qn_jcharge(qn_jrun *run, uint64_t n);
/* Pays for touching `bytes` bytes once or twice (copying, comparing). */
static inline bool qn_jcharge_bytes(qn_jrun *run, size_t bytes) { return bytes < 64 || qn_jcharge(run, bytes / 64); }
bool qn_jenter(qn_jrun *run); /* one level deeper; fails at the limit. Leave with qn_jleave only after true. */
static inline void qn_jleave(qn_jrun *run) { run->depth--; }

void *qn_jalloc(qn_jrun *run, size_t bytes); /* not zeroed; NULL after qn_jfail */
void *qn_jrealloc(qn_jrun *run, void *p, size_t old_bytes, size_t bytes);
void qn_jfree(qn_jrun *run, void *p, size_t bytes);

/* A zeroed object of `bytes` bytes with one reference. */
void *qn_jobj_new(qn_jrun *run, qn_jkind kind, size_t bytes);
void qn_jobj_drop(qn_jrun *run, qn_jobj *o); /* the last reference is gone */
/* Ends the render: frees every object that is left and says how many there were (cycles; 0 in a tidy render). */
size_t qn_jrun_sweep(qn_jrun *run);

static inline bool qn_jis_object(qn_jval v) { return v.kind >= QN_JV_UNDEFINED && v.kind != QN_JV_BUILTIN; }

static inline void qn_jobj_retain(qn_jobj *o)
{
    if (o->refs != QN_JREFS_CONST) {
        o->refs++;
    }
}

static inline void qn_jobj_release(qn_jrun *run, qn_jobj *o)
{
    if (o->refs != QN_JREFS_CONST && --o->refs == 0) {
        qn_jobj_drop(run, o);
    }
}

static inline qn_jval qn_jretain(qn_jval v)
{
    if (qn_jis_object(v)) {
        qn_jobj_retain(v.u.obj);
    }
    return v;
}

static inline void qn_jrelease(qn_jrun *run, qn_jval v)
{
    if (qn_jis_object(v)) {
        qn_jobj_release(run, v.u.obj);
    }
}

/* *slot = v (taken over), releasing what was there. */
static inline void qn_jassign(qn_jrun *run, qn_jval *slot, qn_jval v)
{
    qn_jval old = *slot;
    *slot = v;
    qn_jrelease(run, old);
}

static inline qn_jval qn_jmissing(void) { return (qn_jval){.kind = QN_JV_MISSING}; }
static inline qn_jval qn_jnone(void) { return (qn_jval){.kind = QN_JV_NONE}; }
static inline qn_jval qn_jbool(bool b) { return (qn_jval){.kind = QN_JV_BOOL, .u.b = b}; }
static inline qn_jval qn_jint(int64_t i) { return (qn_jval){.kind = QN_JV_INT, .u.i = i}; }
static inline qn_jval qn_jfloat(double d) { return (qn_jval){.kind = QN_JV_FLOAT, .u.d = d}; }
static inline qn_jval qn_jobject(void *o) { return (qn_jval){.kind = ((qn_jobj *)o)->kind, .u.obj = o}; }
/* v with its mark: content if it or `other` is (for results of arithmetic). */
static inline qn_jval qn_jmarked(qn_jval v, bool content)
{
    v.content = content;
    return v;
}

/* ---- making and reading containers ---- */

bool qn_jundefined_new(qn_jrun *run, const char *hint, const char *type_name, qn_jval name, qn_jval *out);
/* Fails with the message of an undefined value. */
bool qn_jundefined_fail(qn_jrun *run, qn_jval v);

bool qn_jlist_new(qn_jrun *run, qn_jkind kind, size_t cap, qn_jval *out); /* kind: QN_JV_LIST or QN_JV_TUPLE */
bool qn_jlist_push(qn_jrun *run, qn_jlist *list, qn_jval v);              /* takes v over, also on failure */
bool qn_jpair_new(qn_jrun *run, qn_jval a, qn_jval b, qn_jval *out);      /* the tuple (a, b); borrows */

bool qn_jdict_new(qn_jrun *run, qn_jval *out);
/* *found points to the value (borrowed) or is NULL. Fails for a key that cannot be hashed. */
bool qn_jdict_find(qn_jrun *run, const qn_jdict *d, qn_jval key, qn_jval **found);
/* Lookup by a string's bytes. */
qn_jval *qn_jdict_find_text(qn_jrun *run, const qn_jdict *d, const char *text, size_t len);
/* Sets or replaces; takes key and value over, also on failure. A replaced entry keeps its place and its first key. */
bool qn_jdict_set(qn_jrun *run, qn_jdict *d, qn_jval key, qn_jval value);
bool qn_jdict_copy(qn_jrun *run, const qn_jdict *from, qn_jdict *into);

bool qn_jrange_new(qn_jrun *run, int64_t start, int64_t stop, int64_t step, qn_jval *out);
bool qn_jview_new(qn_jrun *run, qn_jdict *d, qn_jview_kind what, qn_jval *out);

/* Python's name of the value's type: "str", "NoneType", "generator". */
const char *qn_jtype_name(qn_jval v);
bool qn_jtruth(qn_jval v);
/* Elements of a sized value; false (without failure) if it has no len(). */
bool qn_jlength(qn_jrun *run, qn_jval v, size_t *n);
bool qn_jhash(qn_jrun *run, qn_jval v, uint64_t *hash);
/* a == b as Python has it; marks never count. */
bool qn_jequal(qn_jrun *run, qn_jval a, qn_jval b, bool *equal);
/* *order: -1, 0, 1, or 2 for unordered (NaN). op is the operator for the message of a TypeError. */
bool qn_jcompare(qn_jrun *run, qn_jval a, qn_jval b, const char *op, int *order);
/* `needle in haystack`. */
bool qn_jcontains(qn_jrun *run, qn_jval haystack, qn_jval needle, bool *found);
/* Numbers: bool counts as int. */
static inline bool qn_jis_number(qn_jval v) { return v.kind == QN_JV_BOOL || v.kind == QN_JV_INT || v.kind == QN_JV_FLOAT; }
static inline bool qn_jis_int(qn_jval v) { return v.kind == QN_JV_BOOL || v.kind == QN_JV_INT; }
static inline int64_t qn_jas_int(qn_jval v) { return v.kind == QN_JV_BOOL ? (int64_t)v.u.b : v.u.i; }
static inline double qn_jas_double(qn_jval v) { return v.kind == QN_JV_FLOAT ? v.u.d : (double)qn_jas_int(v); }

#endif
