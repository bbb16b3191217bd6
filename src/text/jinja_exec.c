/* jinja_exec.c - statements: output, assignments, loops, branches, blocks and their scopes.
 *
 * Output goes to run->out; what captures (set blocks, filter blocks, functions) puts a buffer of its own there.
 */
#include "text/jinja_run.h"

static qn_jflow exec(qn_jrun *run, qn_jenv *env, const qn_jnode *node);

/* ---- functions' variables and scopes ---- */

bool qn_jenv_new(qn_jrun *run, const qn_jfunction *function, qn_jenv *parent, qn_jenv **out)
{
    qn_jenv *env = qn_jobj_new(run, QN_JV_ENV, sizeof *env + function->n_slots * sizeof env->slots[0]);
    if (env == NULL) {
        return false;
    }
    env->function = function; /* slots are zero: missing */
    if (parent != NULL) {
        qn_jobj_retain(&parent->head);
        env->parent = parent;
    }
    *out = env;
    return qn_jcharge(run, function->n_slots / 8);
}

void qn_jenv_end(qn_jrun *run, qn_jenv *env)
{
    /* Macros defined here point back here. If nothing else holds them, the cycle is broken now. */
    uint32_t own = 0;
    for (uint32_t i = 0; i < env->function->n_slots; i++) {
        qn_jval v = env->slots[i];
        own += v.kind == QN_JV_MACRO && v.u.obj->refs == 1 && ((const qn_jmacro *)v.u.obj)->env == env;
    }
    if (env->head.refs == own + 1 || env->parent == NULL) {
        for (uint32_t i = 0; i < env->function->n_slots; i++) {
            qn_jassign(run, &env->slots[i], qn_jmissing());
        }
    }
    qn_jobj_release(run, &env->head);
}

bool qn_jscope_enter(qn_jrun *run, qn_jenv *env, const qn_jscope *scope)
{
    for (const qn_jload *load = scope->loads; load != NULL; load = load->next) {
        qn_jval v = qn_jmissing();
        switch (load->kind) {
        case QN_LOAD_PARAM: continue;
        case QN_LOAD_MISSING: break;
        case QN_LOAD_ALIAS: v = qn_jretain(*qn_jenv_slot(env, load->source)); break;
        case QN_LOAD_RESOLVE:
            if (!qn_jresolve(run, load->name->str, &v)) {
                return false;
            }
            break;
        }
        qn_jassign(run, &env->slots[load->slot], v);
    }
    return qn_jcharge(run, 1 + scope->n_slots / 2);
}

void qn_jscope_leave(qn_jrun *run, qn_jenv *env, const qn_jscope *scope)
{
    for (uint32_t i = 0; i < scope->n_slots; i++) {
        qn_jassign(run, &env->slots[scope->first_slot + i], qn_jmissing());
    }
}

/* ---- capturing output ---- */

bool qn_jcapture(qn_jrun *run, qn_jenv *env, const qn_jnode *body, qn_jflow *flow, qn_jval *out)
{
    qn_jbuf own, *before = run->out;
    qn_jbuf_init(&own, run);
    run->out = &own;
    *flow = qn_jexec_body(run, env, body);
    run->out = before;
    bool ok = *flow != QN_FLOW_FAIL && qn_jbuf_finish(&own, out);
    qn_jbuf_deinit(&own);
    if (ok) {
        out->u.str->markup = run->autoescape;
    }
    return ok;
}

/* ---- assignment ---- */

static bool assign_namespace(qn_jrun *run, qn_jenv *env, const qn_jnode *target, qn_jval v)
{
    qn_jval ns = *qn_jenv_slot(env, target->u.nsref.ref);
    run->pos = target->pos;
    if (ns.kind != QN_JV_NAMESPACE) {
        return qn_jfail(run, "cannot assign attribute on non-namespace object");
    }
    qn_jdict *attributes = ((qn_jnamespace *)ns.u.obj)->attributes;
    return qn_jdict_set(run, attributes, qn_jobject(target->u.nsref.attribute), qn_jretain(v));
}

static bool unpack(qn_jrun *run, qn_jval v, uint32_t n, qn_jval *out)
{
    if (!qn_jis_iterable(v)) {
        return qn_jfail(run, "cannot unpack non-iterable %s object", qn_jtype_name(v));
    }
    if (!qn_jcollect(run, v, QN_JV_TUPLE, out)) {
        return false;
    }
    size_t got = out->u.list->n;
    if (got != n) {
        qn_jrelease(run, *out);
        return got < n ? qn_jfail(run, "not enough values to unpack (expected %u, got %zu)", n, got)
                       : qn_jfail(run, "too many values to unpack (expected %u)", n);
    }
    return true;
}

bool qn_jassign_target(qn_jrun *run, qn_jenv *env, const qn_jnode *target, qn_jval v)
{
    if (target->kind == QN_N_NAME) {
        qn_jassign(run, qn_jenv_slot(env, target->u.name.ref), qn_jretain(v));
        return true;
    }
    if (target->kind == QN_N_NSREF) {
        return assign_namespace(run, env, target, v);
    }
    qn_jval items;
    run->pos = target->pos;
    if (!unpack(run, v, target->u.list.n, &items)) {
        return false;
    }
    bool ok = true;
    size_t i = 0;
    for (const qn_jnode *t = target->u.list.items; ok && t != NULL; t = t->next) {
        ok = qn_jassign_target(run, env, t, items.u.list->items[i++]);
    }
    qn_jrelease(run, items);
    return ok;
}

/* Assignments at the top level are also what blocks and later look-ups in the context see. */
static bool export_target(qn_jrun *run, qn_jenv *env, const qn_jnode *target)
{
    if (target->kind == QN_N_TUPLE) {
        for (const qn_jnode *t = target->u.list.items; t != NULL; t = t->next) {
            if (!export_target(run, env, t)) {
                return false;
            }
        }
    }
    if (target->kind != QN_N_NAME) {
        return true;
    }
    qn_jval v = *qn_jenv_slot(env, target->u.name.ref);
    return v.kind == QN_JV_MISSING || qn_jdict_set(run, run->vars, qn_jobject(target->u.name.name->str), qn_jretain(v));
}

static bool assign_statement(qn_jrun *run, qn_jenv *env, const qn_jnode *node, const qn_jnode *target, qn_jval v)
{
    return qn_jassign_target(run, env, target, v) && (!node->toplevel || export_target(run, env, target));
}

static qn_jflow exec_set(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    qn_jval v;
    if (!qn_jeval(run, env, node->u.set.value, &v)) {
        return QN_FLOW_FAIL;
    }
    bool ok = assign_statement(run, env, node, node->u.set.target, v);
    qn_jrelease(run, v);
    return ok ? QN_FLOW_NEXT : QN_FLOW_FAIL;
}

static qn_jflow exec_set_block(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    qn_jval text;
    qn_jflow flow = QN_FLOW_FAIL;
    bool ok = qn_jscope_enter(run, env, &node->u.set_block.scope) && qn_jcapture(run, env, node->u.set_block.body, &flow, &text);
    if (ok && flow == QN_FLOW_NEXT) {
        if (node->u.set_block.filter != NULL) {
            qn_jval filtered;
            ok = qn_jeval_filters(run, env, node->u.set_block.filter, text, &filtered);
            if (ok) {
                qn_jassign(run, &text, filtered);
            }
        }
        ok = ok && assign_statement(run, env, node, node->u.set_block.target, text);
        qn_jrelease(run, text);
    } else if (ok) {
        qn_jrelease(run, text);
    }
    qn_jscope_leave(run, env, &node->u.set_block.scope);
    return ok ? flow : QN_FLOW_FAIL;
}

/* ---- output ---- */

static bool emit(qn_jrun *run, qn_jval v)
{
    if (!run->autoescape) {
        return qn_jbuf_append_value(run->out, v);
    }
    qn_jval escaped;
    if (!qn_jescape(run, v, &escaped)) {
        return false;
    }
    bool ok = qn_jbuf_append_str(run->out, escaped.u.str);
    qn_jrelease(run, escaped);
    return ok;
}

static qn_jflow exec_output(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    for (const qn_jnode *item = node->u.list.items; item != NULL; item = item->next) {
        if (item->kind == QN_N_DATA) {
            if (!qn_jcharge(run, 1) || !qn_jbuf_append_str(run->out, item->u.constant.u.str)) {
                return QN_FLOW_FAIL;
            }
            continue;
        }
        qn_jval v;
        if (!qn_jeval(run, env, item, &v)) {
            return QN_FLOW_FAIL;
        }
        run->pos = item->pos;
        bool ok = emit(run, v);
        qn_jrelease(run, v);
        if (!ok) {
            return QN_FLOW_FAIL;
        }
    }
    return QN_FLOW_NEXT;
}

/* ---- loops ---- */

/* Assigns an item to the targets of a loop in the function of its test, where the slots are found by name. */
static bool assign_test_target(qn_jrun *run, qn_jenv *env, const qn_jnode *target, qn_jval v, qn_jval *repacked)
{
    if (target->kind == QN_N_NAME) {
        for (const qn_jload *load = env->function->scope.loads; load != NULL; load = load->next) {
            if (load->name == target->u.name.name) {
                qn_jassign(run, &env->slots[load->slot], qn_jretain(v));
            }
        }
        *repacked = qn_jretain(v);
        return true;
    }
    qn_jval items;
    run->pos = target->pos;
    if (!unpack(run, v, target->u.list.n, &items)) {
        return false;
    }
    size_t i = 0;
    for (const qn_jnode *t = target->u.list.items; t != NULL; t = t->next, i++) {
        qn_jval inner;
        if (!assign_test_target(run, env, t, items.u.list->items[i], &inner)) {
            qn_jrelease(run, items);
            return false;
        }
        qn_jassign(run, &items.u.list->items[i], inner);
    }
    *repacked = items;
    return true;
}

static int loop_test(qn_jrun *run, qn_jloop *loop, qn_jval *item)
{
    qn_jval repacked, result;
    if (loop->test_env == NULL) {
        if (!qn_jenv_new(run, loop->node->u.loop.test_function, loop->env, &loop->test_env) ||
            !qn_jscope_enter(run, loop->test_env, &loop->node->u.loop.test_function->scope)) {
            return -1;
        }
    }
    if (!assign_test_target(run, loop->test_env, loop->node->u.loop.target, *item, &repacked)) {
        return -1;
    }
    qn_jassign(run, item, repacked);
    if (!qn_jeval(run, loop->test_env, loop->node->u.loop.test, &result)) {
        return -1;
    }
    bool passes = qn_jtruth(result);
    qn_jrelease(run, result);
    return passes;
}

/* The next item that passes the loop's test: 1, 0 at the end, -1 on failure. */
static int pull(qn_jrun *run, qn_jloop *loop, qn_jval *out)
{
    int more;
    while ((more = qn_jiter_next(run, loop->iterator.u.iter, out)) == 1) {
        int passes = loop->node->u.loop.test == NULL || loop->tested ? 1 : loop_test(run, loop, out);
        if (passes == 1) {
            return 1;
        }
        qn_jrelease(run, *out);
        if (passes < 0) {
            return -1;
        }
    }
    return more;
}

int qn_jloop_peek(qn_jrun *run, qn_jloop *loop, qn_jval *item)
{
    if (loop->after.kind == QN_JV_MISSING) {
        qn_jval next;
        int more = pull(run, loop, &next);
        if (more != 1) {
            return more;
        }
        loop->after = next;
    }
    *item = loop->after;
    return 1;
}

bool qn_jloop_length(qn_jrun *run, qn_jval v, int64_t *n)
{
    qn_jloop *loop = (qn_jloop *)v.u.obj;
    size_t length;
    if (loop->length < 0 && loop->node->u.loop.test == NULL && qn_jlength(run, loop->iterable, &length)) {
        loop->length = (int64_t)length;
    }
    if (loop->length < 0) { /* no len(): what is left is collected, counted, and looped over from the list */
        qn_jval rest, item, iterator;
        int more = 0;
        if (!qn_jlist_new(run, QN_JV_LIST, 0, &rest)) {
            return false;
        }
        bool ok = true;
        while (ok && (more = pull(run, loop, &item)) == 1) {
            ok = qn_jlist_push(run, rest.u.list, item);
        }
        ok = ok && more == 0 && qn_jiter_new(run, rest, &iterator);
        if (ok) {
            loop->length = (int64_t)rest.u.list->n + loop->index0 + 1 + (loop->after.kind != QN_JV_MISSING);
            qn_jassign(run, &loop->iterator, iterator);
            loop->tested = true; /* the items have passed the loop's test already */
        }
        qn_jrelease(run, rest);
        if (!ok) {
            return false;
        }
    }
    *n = loop->length;
    return true;
}

static bool loop_new(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval iterable, int64_t depth0, qn_jval *out)
{
    qn_jval iterator;
    if (!qn_jiter_new(run, iterable, &iterator)) {
        return false;
    }
    qn_jloop *loop = qn_jobj_new(run, QN_JV_LOOP, sizeof *loop);
    if (loop == NULL) {
        qn_jrelease(run, iterator);
        return false;
    }
    loop->node = node;
    loop->env = env;
    qn_jobj_retain(&env->head);
    loop->iterable = qn_jretain(iterable);
    loop->iterator = iterator;
    loop->index0 = -1;
    loop->depth0 = depth0;
    loop->length = -1;
    *out = qn_jobject(loop);
    return true;
}

/* Steps to the next item: 1 and *item (owned by the caller), 0, -1. */
static int loop_next(qn_jrun *run, qn_jloop *loop, qn_jval *item)
{
    qn_jval next;
    int more = qn_jloop_peek(run, loop, &next);
    if (more != 1) {
        return more;
    }
    loop->after = qn_jmissing();
    loop->index0++;
    qn_jassign(run, &loop->before, loop->current);
    loop->current = next;
    *item = qn_jretain(next);
    return 1;
}

/* *completed: some iteration came to the end of the body. Only then Jinja2 skips the else branch. */
static qn_jflow exec_iterations(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jloop *loop, bool *completed)
{
    const qn_jscope *scope = &node->u.loop.scope;
    qn_jval item;
    int more;
    qn_jflow flow = QN_FLOW_NEXT;
    while (flow != QN_FLOW_BREAK && (more = loop_next(run, loop, &item)) != 0) {
        if (more < 0) {
            return QN_FLOW_FAIL;
        }
        bool ok = qn_jassign_target(run, env, node->u.loop.target, item);
        qn_jrelease(run, item);
        if (node->u.loop.uses_loop) {
            qn_jassign(run, qn_jenv_slot(env, node->u.loop.loop), qn_jretain(qn_jobject(loop)));
        }
        flow = ok && qn_jscope_enter(run, env, scope) ? qn_jexec_body(run, env, node->u.loop.body) : QN_FLOW_FAIL;
        if (flow == QN_FLOW_FAIL) {
            return QN_FLOW_FAIL;
        }
        *completed = *completed || flow == QN_FLOW_NEXT;
    }
    return QN_FLOW_NEXT;
}

/* A loop over `iterable` with its else branch; env: of the function that holds the loop's variables. */
static qn_jflow exec_loop(qn_jrun *run, qn_jenv *env, qn_jenv *around, const qn_jnode *node, qn_jval iterable, int64_t depth0)
{
    qn_jval loop;
    run->pos = node->u.loop.iterable->pos;
    if (!loop_new(run, around, node, iterable, depth0, &loop)) {
        return QN_FLOW_FAIL;
    }
    bool completed = false;
    qn_jflow flow = exec_iterations(run, env, node, (qn_jloop *)loop.u.obj, &completed);
    qn_jscope_leave(run, env, &node->u.loop.scope);
    if (flow == QN_FLOW_NEXT && !completed && node->u.loop.otherwise != NULL) {
        flow = qn_jscope_enter(run, env, &node->u.loop.else_scope) ? qn_jexec_body(run, env, node->u.loop.otherwise) : QN_FLOW_FAIL;
        qn_jscope_leave(run, env, &node->u.loop.else_scope);
    }
    qn_jrelease(run, loop);
    return flow;
}

bool qn_jexec_recursive_loop(qn_jrun *run, qn_jenv *around, const qn_jnode *node, qn_jval iterable, int64_t depth0, qn_jval *out)
{
    qn_jenv *env;
    qn_jbuf own, *before = run->out;
    if (!qn_jenv_new(run, node->u.loop.function, around, &env)) {
        return false;
    }
    qn_jbuf_init(&own, run);
    run->out = &own;
    qn_jflow flow = exec_loop(run, env, around, node, iterable, depth0);
    run->out = before;
    bool ok = flow != QN_FLOW_FAIL && qn_jbuf_finish(&own, out);
    qn_jbuf_deinit(&own);
    qn_jenv_end(run, env);
    if (ok) {
        out->u.str->markup = run->autoescape;
    }
    return ok;
}

static qn_jflow exec_for(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    qn_jval iterable;
    if (!qn_jeval(run, env, node->u.loop.iterable, &iterable)) {
        return QN_FLOW_FAIL;
    }
    qn_jflow flow = QN_FLOW_FAIL;
    if (!node->u.loop.recursive) {
        flow = exec_loop(run, env, env, node, iterable, 0);
    } else {
        qn_jval text;
        if (qn_jexec_recursive_loop(run, env, node, iterable, 0, &text)) {
            flow = emit(run, text) ? QN_FLOW_NEXT : QN_FLOW_FAIL;
            qn_jrelease(run, text);
        }
    }
    qn_jrelease(run, iterable);
    return flow;
}

/* ---- the other statements ---- */

static qn_jflow exec_if(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    const qn_jnode *branch = node, *next = node->u.branch.elifs;
    for (;;) {
        qn_jval v;
        if (!qn_jeval(run, env, branch->u.branch.test, &v)) {
            return QN_FLOW_FAIL;
        }
        bool truth = qn_jtruth(v);
        qn_jrelease(run, v);
        if (truth) {
            return qn_jexec_body(run, env, branch->u.branch.body);
        }
        if (next == NULL) {
            return qn_jexec_body(run, env, node->u.branch.otherwise);
        }
        branch = next;
        next = next->next;
    }
}

static qn_jflow exec_macro(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    qn_jmacro *macro = qn_jobj_new(run, QN_JV_MACRO, sizeof *macro);
    if (macro == NULL) {
        return QN_FLOW_FAIL;
    }
    macro->node = node;
    macro->env = env;
    qn_jobj_retain(&env->head);
    qn_jval v = qn_jobject(macro);
    qn_jassign(run, qn_jenv_slot(env, node->u.macro.ref), v);
    bool ok = !node->toplevel || qn_jdict_set(run, run->vars, qn_jobject(node->u.macro.name->str), qn_jretain(v));
    return ok ? QN_FLOW_NEXT : QN_FLOW_FAIL;
}

/* A call block, or a generation block, which is one without a call around it. */
static qn_jflow exec_call_block(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    qn_jmacro *caller = qn_jobj_new(run, QN_JV_MACRO, sizeof *caller);
    if (caller == NULL) {
        return QN_FLOW_FAIL;
    }
    caller->node = node;
    caller->env = env;
    qn_jobj_retain(&env->head);
    qn_jval text;
    const qn_jargs none = {0};
    bool ok = node->kind == QN_N_GENERATION ? qn_jcall(run, qn_jobject(caller), &none, &text)
                                            : qn_jeval_call(run, env, node->u.macro.call, qn_jobject(caller), &text);
    qn_jobj_release(run, &caller->head);
    if (!ok) {
        return QN_FLOW_FAIL;
    }
    ok = emit(run, text);
    qn_jrelease(run, text);
    return ok ? QN_FLOW_NEXT : QN_FLOW_FAIL;
}

static qn_jflow exec_filter_block(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    qn_jval text, filtered;
    qn_jflow flow = QN_FLOW_FAIL;
    bool ok = qn_jscope_enter(run, env, &node->u.filter_block.scope) && qn_jcapture(run, env, node->u.filter_block.body, &flow, &text);
    if (ok && flow == QN_FLOW_NEXT) {
        ok = qn_jeval_filters(run, env, node->u.filter_block.filter, text, &filtered);
        if (ok) {
            ok = filtered.kind == QN_JV_STRING ? emit(run, filtered)
                                               : qn_jfail(run, "expected str instance, %s found", qn_jtype_name(filtered));
            qn_jrelease(run, filtered);
        }
        qn_jrelease(run, text);
    } else if (ok) {
        qn_jrelease(run, text); /* break or continue: what was captured is lost, as in Jinja2 */
    }
    qn_jscope_leave(run, env, &node->u.filter_block.scope);
    return ok ? flow : QN_FLOW_FAIL;
}

static qn_jflow exec_with(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    bool ok = qn_jscope_enter(run, env, &node->u.with.scope);
    const qn_jnode *value = node->u.with.values;
    for (const qn_jnode *target = node->u.with.targets; ok && target != NULL; target = target->next, value = value->next) {
        qn_jval v;
        ok = qn_jeval(run, env, value, &v);
        if (ok) {
            ok = qn_jassign_target(run, env, target, v);
            qn_jrelease(run, v);
        }
    }
    qn_jflow flow = ok ? qn_jexec_body(run, env, node->u.with.body) : QN_FLOW_FAIL;
    qn_jscope_leave(run, env, &node->u.with.scope);
    return flow;
}

static qn_jflow exec_autoescape(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    qn_jval v;
    qn_jflow flow = QN_FLOW_FAIL;
    if (qn_jscope_enter(run, env, &node->u.autoescape.scope) && qn_jeval(run, env, node->u.autoescape.value, &v)) {
        bool before = run->autoescape;
        run->autoescape = qn_jtruth(v);
        qn_jrelease(run, v);
        flow = qn_jexec_body(run, env, node->u.autoescape.body);
        run->autoescape = before;
    }
    qn_jscope_leave(run, env, &node->u.autoescape.scope);
    return flow;
}

/* Runs a block as the function it is: it sees the context, not the variables around it. */
bool qn_jexec_block(qn_jrun *run, const qn_jnode *node)
{
    qn_jenv *env;
    if (node->u.block.required) {
        return qn_jfail(run, "Required block '%s' not found", node->u.block.name->str->data);
    }
    if (run->calls >= run->max_calls) {
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "calls are nested deeper than %u levels", run->max_calls);
    }
    if (!qn_jenv_new(run, node->u.block.function, NULL, &env)) {
        return false;
    }
    run->calls++;
    bool ok = qn_jscope_enter(run, env, &node->u.block.function->scope);
    if (ok && node->u.block.uses_self) {
        qn_jblock *self = qn_jobj_new(run, QN_JV_BLOCK, sizeof *self);
        ok = self != NULL;
        if (ok) {
            qn_jassign(run, qn_jenv_slot(env, node->u.block.self), qn_jobject(self));
        }
    }
    ok = ok && qn_jexec_body(run, env, node->u.block.body) != QN_FLOW_FAIL;
    run->calls--;
    qn_jenv_end(run, env);
    return ok;
}

static qn_jflow exec_block(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    run->pos = node->pos;
    if (!node->u.block.scoped) {
        return qn_jexec_block(run, node) ? QN_FLOW_NEXT : QN_FLOW_FAIL;
    }
    qn_jdict *before = run->vars;
    qn_jval derived;
    if (!qn_jdict_new(run, &derived)) {
        return QN_FLOW_FAIL;
    }
    bool ok = qn_jdict_copy(run, before, derived.u.dict);
    for (const struct qn_jblock_local *local = node->u.block.locals; ok && local != NULL; local = local->next) {
        qn_jval v = *qn_jenv_slot(env, local->ref);
        ok = v.kind == QN_JV_MISSING || qn_jdict_set(run, derived.u.dict, qn_jobject(local->name->str), qn_jretain(v));
    }
    run->vars = derived.u.dict;
    ok = ok && qn_jexec_block(run, node);
    run->vars = before;
    qn_jrelease(run, derived);
    return ok ? QN_FLOW_NEXT : QN_FLOW_FAIL;
}

static qn_jflow exec(qn_jrun *run, qn_jenv *env, const qn_jnode *node)
{
    switch ((qn_jnode_kind)node->kind) {
    case QN_N_OUTPUT: return exec_output(run, env, node);
    case QN_N_SET: return exec_set(run, env, node);
    case QN_N_IF: return exec_if(run, env, node);
    case QN_N_FOR: return exec_for(run, env, node);
    case QN_N_SET_BLOCK: return exec_set_block(run, env, node);
    case QN_N_MACRO: return exec_macro(run, env, node);
    case QN_N_CALL_BLOCK:
    case QN_N_GENERATION: return exec_call_block(run, env, node);
    case QN_N_FILTER_BLOCK: return exec_filter_block(run, env, node);
    case QN_N_WITH: return exec_with(run, env, node);
    case QN_N_AUTOESCAPE: return exec_autoescape(run, env, node);
    case QN_N_BLOCK: return exec_block(run, env, node);
    case QN_N_BREAK: return QN_FLOW_BREAK;
    case QN_N_CONTINUE: return QN_FLOW_CONTINUE;
    default: break;
    }
    (void)qn_jfail_status(run, QUERN_ERROR_INTERNAL, "a statement of kind %d cannot be executed", node->kind);
    return QN_FLOW_FAIL;
}

qn_jflow qn_jexec_body(qn_jrun *run, qn_jenv *env, const qn_jnode *first)
{
    qn_jflow flow = QN_FLOW_NEXT;
    if (first != NULL && !qn_jenter(run)) {
        return QN_FLOW_FAIL;
    }
    for (const qn_jnode *node = first; node != NULL && flow == QN_FLOW_NEXT; node = node->next) {
        flow = qn_jcharge(run, 1) ? exec(run, env, node) : QN_FLOW_FAIL;
    }
    if (first != NULL) {
        qn_jleave(run);
    }
    return flow;
}
