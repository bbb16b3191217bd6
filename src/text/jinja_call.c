/* jinja_call.c - calls: arguments, their binding to parameters as Python binds them, macros, callers, everything callable.
 */
#include <string.h>

#include "base/alloc.h"
#include "text/jinja_run.h"

/* ---- evaluating arguments ---- */

void qn_jargs_deinit(qn_jrun *run, qn_jcall_args *a)
{
    for (size_t i = 0; i < a->args.n; i++) {
        qn_jrelease(run, a->positional[i]);
    }
    for (size_t i = 0; i < a->args.n_keywords; i++) {
        qn_jobj_release(run, &a->keywords[i].name->head);
        qn_jrelease(run, a->keywords[i].value);
    }
    if (a->positional != a->local) {
        qn_jfree(run, a->positional, a->positional_cap * sizeof *a->positional);
    }
    qn_jfree(run, a->keywords, a->keywords_cap * sizeof *a->keywords);
    a->args = (qn_jargs){0};
}

/* Takes v over. */
static bool add_positional(qn_jrun *run, qn_jcall_args *a, qn_jval v)
{
    if (a->args.n == a->positional_cap) {
        size_t cap = a->positional_cap * 2;
        qn_jval *bigger = qn_jalloc(run, cap * sizeof *bigger);
        if (bigger == NULL) {
            qn_jrelease(run, v);
            return false;
        }
        memcpy(bigger, a->positional, a->args.n * sizeof *bigger);
        if (a->positional != a->local) {
            qn_jfree(run, a->positional, a->positional_cap * sizeof *bigger);
        }
        a->positional = bigger;
        a->positional_cap = cap;
    }
    a->positional[a->args.n++] = v;
    a->args.positional = a->positional;
    return true;
}

/* Takes v over; retains name. */
bool qn_jargs_add_keyword(qn_jrun *run, qn_jcall_args *a, qn_jstr *name, qn_jval v)
{
    if (a->args.n_keywords == a->keywords_cap) {
        size_t cap = a->keywords_cap == 0 ? 4 : a->keywords_cap * 2;
        qn_jkeyword *bigger = qn_jrealloc(run, a->keywords, a->keywords_cap * sizeof *bigger, cap * sizeof *bigger);
        if (bigger == NULL) {
            qn_jrelease(run, v);
            return false;
        }
        a->keywords = bigger;
        a->keywords_cap = cap;
    }
    qn_jobj_retain(&name->head);
    a->keywords[a->args.n_keywords++] = (qn_jkeyword){.name = name, .value = v};
    a->args.keywords = a->keywords;
    return true;
}

static bool add_star(qn_jrun *run, qn_jcall_args *a, qn_jval v)
{
    qn_jval iterator, item;
    if (!qn_jiter_new(run, v, &iterator)) {
        return false;
    }
    int more;
    while ((more = qn_jiter_next(run, iterator.u.iter, &item)) == 1) {
        if (!add_positional(run, a, item)) {
            more = -1;
            break;
        }
    }
    qn_jrelease(run, iterator);
    return more == 0;
}

static bool add_star_star(qn_jrun *run, qn_jcall_args *a, qn_jval v)
{
    if (v.kind != QN_JV_DICT) {
        return qn_jfail(run, "argument after ** must be a mapping, not %s", qn_jtype_name(v));
    }
    if (v.u.dict->n > QN_JINJA_NAMES_MAX) {
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "a call has more than %d keyword arguments", QN_JINJA_NAMES_MAX);
    }
    for (size_t i = 0; i < v.u.dict->n; i++) {
        const qn_jentry *e = &v.u.dict->entries[i];
        if (e->key.kind != QN_JV_STRING) {
            return qn_jfail(run, "keywords must be strings");
        }
        for (size_t k = 0; k < a->args.n_keywords; k++) {
            if (a->keywords[k].name->len == e->key.u.str->len &&
                memcmp(a->keywords[k].name->data, e->key.u.str->data, e->key.u.str->len) == 0) {
                return qn_jfail(run, "got multiple values for keyword argument '%.100s'", e->key.u.str->data);
            }
        }
        if (!qn_jargs_add_keyword(run, a, e->key.u.str, qn_jretain(e->value))) {
            return false;
        }
    }
    return qn_jcharge(run, v.u.dict->n * (a->args.n_keywords / 16 + 1));
}

static bool eval_star(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jcall_args *a, bool (*add)(qn_jrun *, qn_jcall_args *, qn_jval))
{
    qn_jval v;
    if (node == NULL) {
        return true;
    }
    if (!qn_jeval(run, env, node, &v)) {
        return false;
    }
    run->pos = node->pos;
    bool ok = add(run, a, v);
    qn_jrelease(run, v);
    return ok;
}

bool qn_jargs_eval(qn_jrun *run, qn_jenv *env, const qn_jargs_ast *ast, qn_jcall_args *out)
{
    out->args = (qn_jargs){0};
    out->positional = out->local;
    out->positional_cap = sizeof out->local / sizeof out->local[0];
    out->keywords = NULL;
    out->keywords_cap = 0;
    for (const qn_jnode *arg = ast->args; arg != NULL; arg = arg->next) {
        qn_jval v;
        if (!qn_jeval(run, env, arg, &v) || !add_positional(run, out, v)) {
            return false;
        }
    }
    for (const qn_jnode *keyword = ast->keywords; keyword != NULL; keyword = keyword->next) {
        qn_jval v;
        if (!qn_jeval(run, env, keyword->u.keyword.value, &v) || !qn_jargs_add_keyword(run, out, keyword->u.keyword.name, v)) {
            return false;
        }
    }
    return eval_star(run, env, ast->star, out, add_star) && eval_star(run, env, ast->star_star, out, add_star_star);
}

/* ---- binding to a builtin's parameters ---- */

/* Position of a name in "a,b,c", or -1. */
static int param_index(const char *params, const qn_jstr *name)
{
    int index = 0;
    for (const char *p = params; *p != '\0'; index++) {
        size_t len = strcspn(p, ",");
        if (len == name->len && memcmp(p, name->data, len) == 0) {
            return index;
        }
        p += len + (p[len] == ',');
    }
    return -1;
}

static size_t count_params(const char *params)
{
    size_t n = *params != '\0';
    for (const char *p = params; *p != '\0'; p++) {
        n += *p == ',';
    }
    return n;
}

static bool bind(qn_jrun *run, const qn_jbuiltin *b, qn_jval self, const qn_jargs *args, qn_jval *bound)
{
    size_t n = count_params(b->params), given = 0, first = self.kind != QN_JV_MISSING;
    for (size_t i = 0; i < QN_JPARAMS_MAX; i++) {
        bound[i] = qn_jmissing();
    }
    if (first > 0) {
        bound[given++] = self;
    }
    if (args->n > n - first) {
        return qn_jfail(run, "%s() takes at most %zu arguments (%zu given)", b->name, n - first, args->n);
    }
    for (size_t i = 0; i < args->n; i++) {
        bound[given++] = args->positional[i];
    }
    for (size_t i = 0; i < args->n_keywords; i++) {
        const qn_jkeyword *k = &args->keywords[i];
        if (b->positional_only) {
            return qn_jfail(run, "%s() takes no keyword arguments", b->name);
        }
        int at = param_index(b->params, k->name);
        if (at < 0) {
            return qn_jfail(run, "%s() got an unexpected keyword argument '%.100s'", b->name, k->name->data);
        }
        if (bound[at].kind != QN_JV_MISSING) {
            return qn_jfail(run, "%s() got multiple values for argument '%.100s'", b->name, k->name->data);
        }
        bound[at] = k->value;
    }
    for (size_t i = 0; i < first + b->required; i++) {
        if (bound[i].kind == QN_JV_MISSING) {
            return qn_jfail(run, "%s() is missing a required argument", b->name);
        }
    }
    return true;
}

bool qn_jbuiltin_call(qn_jrun *run, const qn_jbuiltin *b, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    if (!qn_jcharge(run, 2)) {
        return false;
    }
    if (b->raw != NULL) {
        return b->raw(run, self, args, out);
    }
    qn_jval bound[QN_JPARAMS_MAX];
    return bind(run, b, self, args, bound) && b->bound(run, bound, out);
}

const qn_jbuiltin *qn_jtable_find(qn_jtable table, const char *name, size_t len)
{
    size_t low = 0, high = table.n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *candidate = table.rows[middle].name;
        int c = strncmp(candidate, name, len);
        if (c == 0 && candidate[len] == '\0') {
            return &table.rows[middle];
        }
        if (c < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* ---- macros ---- */

static bool same_name(const qn_jstr *a, const qn_jstr *b) { return a->len == b->len && memcmp(a->data, b->data, a->len) == 0; }

static const char *macro_name(const qn_jnode *node) { return node->kind == QN_N_MACRO ? node->u.macro.name->str->data : "caller"; }

/* The keyword argument of this name, once: *used marks it. */
static const qn_jkeyword *take_keyword(const qn_jargs *args, bool *used, const qn_jstr *name)
{
    for (size_t i = 0; i < args->n_keywords; i++) {
        if (!used[i] && same_name(args->keywords[i].name, name)) {
            used[i] = true;
            return &args->keywords[i];
        }
    }
    return NULL;
}

static bool bind_kwargs(qn_jrun *run, qn_jenv *env, const qn_jnode *node, const qn_jargs *args, const bool *used)
{
    const qn_jsignature *sig = &node->u.macro.signature;
    qn_jval kwargs = qn_jmissing();
    if (sig->takes_kwargs && !qn_jdict_new(run, &kwargs)) {
        return false;
    }
    for (size_t i = 0; i < args->n_keywords; i++) {
        const qn_jkeyword *k = &args->keywords[i];
        if (used[i]) {
            continue;
        }
        if (!sig->takes_kwargs) {
            return qn_jstr_equals(k->name, "caller")
                       ? qn_jfail(run,
                                  "macro '%.100s' was invoked with two values for the special caller argument. This is most likely a bug.",
                                  macro_name(node))
                       : qn_jfail(run, "macro '%.100s' takes no keyword argument '%.100s'", macro_name(node), k->name->data);
        }
        qn_jobj_retain(&k->name->head);
        if (!qn_jdict_set(run, kwargs.u.dict, qn_jobject(k->name), qn_jretain(k->value))) {
            return false;
        }
    }
    if (sig->takes_kwargs) {
        qn_jassign(run, qn_jenv_slot(env, sig->kwargs), kwargs);
    }
    return true;
}

static bool bind_varargs(qn_jrun *run, qn_jenv *env, const qn_jnode *node, const qn_jargs *args)
{
    const qn_jsignature *sig = &node->u.macro.signature;
    if (!sig->takes_varargs) {
        return args->n <= sig->n_params ||
               qn_jfail(run, "macro '%.100s' takes not more than %u argument(s)", macro_name(node), sig->n_params);
    }
    qn_jval rest;
    if (!qn_jlist_new(run, QN_JV_TUPLE, 0, &rest)) {
        return false;
    }
    for (size_t i = sig->n_params; i < args->n; i++) {
        if (!qn_jlist_push(run, rest.u.list, qn_jretain(args->positional[i]))) {
            return false;
        }
    }
    qn_jassign(run, qn_jenv_slot(env, sig->varargs), rest);
    return true;
}

/* Puts the arguments into the variables of the macro's new function. Parameters without a value stay missing. */
static bool bind_macro(qn_jrun *run, qn_jenv *env, const qn_jnode *node, const qn_jargs *args)
{
    const qn_jsignature *sig = &node->u.macro.signature;
    bool local[8] = {false}, *used = local;
    size_t index = 0;
    bool found_caller = args->n >= sig->n_params && sig->explicit_caller;
    if (args->n_keywords > sizeof local) {
        used = qn_jalloc(run, args->n_keywords);
        if (used == NULL) {
            return false;
        }
        memset(used, 0, args->n_keywords);
    }
    for (const qn_jnode *param = sig->params; param != NULL; param = param->next, index++) {
        const qn_jkeyword *k = index < args->n ? NULL : take_keyword(args, used, param->u.name.name->str);
        if (index < args->n || k != NULL) {
            qn_jassign(run, qn_jenv_slot(env, param->u.name.ref), qn_jretain(k != NULL ? k->value : args->positional[index]));
        }
        found_caller = found_caller || (index >= args->n && qn_jstr_equals(param->u.name.name->str, "caller"));
    }
    bool ok = true;
    if (sig->takes_caller && !found_caller) {
        qn_jval caller = qn_jmissing();
        for (size_t i = 0; i < args->n_keywords; i++) {
            if (!used[i] && qn_jstr_equals(args->keywords[i].name, "caller")) {
                used[i] = true;
                caller = qn_jretain(args->keywords[i].value);
            }
        }
        ok = qn_jarg_given(caller) || qn_jundefined_new(run, "No caller defined", NULL, qn_jmissing(), &caller);
        if (ok) {
            qn_jassign(run, qn_jenv_slot(env, sig->caller), caller);
        }
    }
    ok = ok && bind_kwargs(run, env, node, args, used) && bind_varargs(run, env, node, args);
    if (used != local) {
        qn_jfree(run, used, args->n_keywords);
    }
    return ok;
}

/* Defaults are evaluated in the macro, in order, for parameters that got nothing. */
static bool fill_defaults(qn_jrun *run, qn_jenv *env, const qn_jsignature *sig)
{
    const qn_jnode *value = sig->defaults;
    uint32_t index = 0;
    for (const qn_jnode *param = sig->params; param != NULL; param = param->next, index++) {
        qn_jval v;
        bool has_default = index >= sig->n_params - sig->n_defaults;
        if (qn_jenv_slot(env, param->u.name.ref)->kind == QN_JV_MISSING) {
            bool ok = has_default ? qn_jeval(run, env, value, &v)
                                  : qn_jundefined_new(run, NULL, NULL, qn_jobject(param->u.name.name->str), &v);
            if (!ok) {
                return false;
            }
            if (!has_default) {
                ((qn_jundefined *)v.u.obj)->not_provided = true;
            }
            qn_jassign(run, qn_jenv_slot(env, param->u.name.ref), v);
        }
        value = has_default ? value->next : value;
    }
    return true;
}

static bool call_macro(qn_jrun *run, const qn_jmacro *macro, const qn_jargs *args, qn_jval *out)
{
    const qn_jnode *node = macro->node;
    qn_jenv *env;
    qn_jflow flow = QN_FLOW_FAIL;
    if (!qn_jenv_new(run, node->u.macro.function, macro->env, &env)) {
        return false;
    }
    bool ok = bind_macro(run, env, node, args) && qn_jscope_enter(run, env, &node->u.macro.function->scope) &&
              fill_defaults(run, env, &node->u.macro.signature) && qn_jcapture(run, env, node->u.macro.body, &flow, out);
    qn_jenv_end(run, env);
    return ok;
}

/* ---- calling anything ---- */

static bool call_block(qn_jrun *run, const qn_jblock *block, qn_jval *out)
{
    if (block->node == NULL) {
        return qn_jfail(run, "'TemplateReference' object is not callable");
    }
    qn_jbuf own, *before = run->out;
    qn_jbuf_init(&own, run);
    run->out = &own;
    bool ok = qn_jexec_block(run, block->node);
    run->out = before;
    ok = ok && qn_jbuf_finish(&own, out);
    qn_jbuf_deinit(&own);
    return ok;
}

static bool call_loop(qn_jrun *run, qn_jloop *loop, const qn_jargs *args, qn_jval *out)
{
    if (!loop->node->u.loop.recursive) {
        return qn_jfail(run, "The loop must have the 'recursive' marker to be called recursively.");
    }
    if (args->n != 1 || args->n_keywords != 0) {
        return qn_jfail(run, "loop() takes exactly one argument");
    }
    return qn_jexec_recursive_loop(run, loop->env, loop->node, args->positional[0], loop->depth0 + 1, out);
}

static bool call_joiner(qn_jrun *run, qn_jjoiner *joiner, qn_jval *out)
{
    if (joiner->used) {
        *out = qn_jretain(joiner->separator);
        return true;
    }
    joiner->used = true;
    return qn_jstr_new(run, "", 0, false, out);
}

static bool call_object(qn_jrun *run, qn_jval callee, const qn_jargs *args, qn_jval *out)
{
    switch ((qn_jkind)callee.kind) {
    case QN_JV_MACRO: return call_macro(run, (const qn_jmacro *)callee.u.obj, args, out);
    case QN_JV_BUILTIN: return qn_jbuiltin_call(run, callee.u.builtin, qn_jmissing(), args, out);
    case QN_JV_METHOD: {
        const qn_jmethod *m = (const qn_jmethod *)callee.u.obj;
        return qn_jbuiltin_call(run, m->definition, m->self, args, out);
    }
    case QN_JV_LOOP: return call_loop(run, (qn_jloop *)callee.u.obj, args, out);
    case QN_JV_JOINER: return call_joiner(run, (qn_jjoiner *)callee.u.obj, out);
    case QN_JV_BLOCK: return call_block(run, (const qn_jblock *)callee.u.obj, out);
    case QN_JV_UNDEFINED: return qn_jundefined_fail(run, callee);
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT:
    case QN_JV_STRING:
    case QN_JV_LIST:
    case QN_JV_TUPLE:
    case QN_JV_DICT:
    case QN_JV_VIEW:
    case QN_JV_RANGE:
    case QN_JV_ITER:
    case QN_JV_NAMESPACE:
    case QN_JV_CYCLER:
    case QN_JV_ENV: break;
    }
    return qn_jfail(run, "'%s' object is not callable", qn_jtype_name(callee));
}

bool qn_jcall(qn_jrun *run, qn_jval callee, const qn_jargs *args, qn_jval *out)
{
    if (run->calls >= run->max_calls) {
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "calls are nested deeper than %u levels", run->max_calls);
    }
    run->calls++;
    bool ok = call_object(run, callee, args, out);
    run->calls--;
    return ok;
}

bool qn_jeval_call(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval caller, qn_jval *out)
{
    const qn_jnode *callee = node->u.call.callee;
    const qn_jbuiltin *method = NULL;
    qn_jval target = qn_jmissing(), self = qn_jmissing();
    qn_jcall_args args;
    bool ok;
    if (callee->kind == QN_N_GETATTR) { /* obj.method(...) without an object for the bound method */
        ok = qn_jeval(run, env, callee->u.attr.object, &self);
        run->pos = ok ? callee->pos : run->pos;
        ok = ok && qn_jgetattr(run, self, callee->u.attr.attribute, &target, &method);
        target = ok && method == NULL ? target : qn_jmissing();
    } else {
        ok = qn_jeval(run, env, callee, &target);
    }
    if (ok) {
        ok = qn_jargs_eval(run, env, &node->u.call.args, &args);
        if (ok && caller.kind != QN_JV_MISSING) {
            ok = qn_jargs_add_keyword(run, &args, run->template_->caller_name, qn_jretain(caller));
        }
        run->pos = ok ? node->pos : run->pos;
        ok = ok && (method != NULL ? qn_jbuiltin_call(run, method, self, &args.args, out) : qn_jcall(run, target, &args.args, out));
        qn_jargs_deinit(run, &args);
    }
    qn_jrelease(run, target);
    qn_jrelease(run, self);
    return ok;
}
