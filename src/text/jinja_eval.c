/* jinja_eval.c - expressions. Every evaluated node costs one step and one level of depth.
 *
 * qn_jeval keeps its own stack frame small: what needs room is in functions of its own.
 */
#include "text/jinja_run.h"

static bool eval_name(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    qn_jval v = *qn_jenv_slot(env, node->u.name.ref);
    if (v.kind == QN_JV_MISSING) {
        return qn_jundefined_new(run, NULL, NULL, qn_jobject(node->u.name.name->str), out);
    }
    *out = qn_jretain(v);
    return true;
}

static bool eval_list(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    qn_jval list;
    if (!qn_jlist_new(run, node->kind == QN_N_TUPLE ? QN_JV_TUPLE : QN_JV_LIST, node->u.list.n, &list)) {
        return false;
    }
    for (const qn_jnode *item = node->u.list.items; item != NULL; item = item->next) {
        if (!qn_jeval(run, env, item, &list.u.list->items[list.u.list->n])) {
            qn_jrelease(run, list);
            return false;
        }
        list.u.list->n++;
    }
    *out = list;
    return true;
}

static bool eval_dict(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    qn_jval dict;
    if (!qn_jdict_new(run, &dict)) {
        return false;
    }
    for (const qn_jnode *pair = node->u.list.items; pair != NULL; pair = pair->next) {
        qn_jval key, value;
        if (!qn_jeval(run, env, pair->u.pair.key, &key)) {
            goto fail;
        }
        if (!qn_jeval(run, env, pair->u.pair.value, &value)) {
            qn_jrelease(run, key);
            goto fail;
        }
        run->pos = pair->pos;
        if (!qn_jdict_set(run, dict.u.dict, key, value)) {
            goto fail;
        }
    }
    *out = dict;
    return true;
fail:
    qn_jrelease(run, dict);
    return false;
}

/* A sum that begins with two plain strings: all further strings go into one buffer, so that n parts are copied once.
 * Takes `left` over; *link is the first link that was not consumed. */
static bool sum_strings(qn_jrun *run, qn_jenv *env, const qn_jnode **link, qn_jval *left)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    qn_jval right = qn_jmissing(), sum;
    bool ok = qn_jbuf_append_str(&b, left->u.str);
    while (ok && *link != NULL && (*link)->op == QN_OP_ADD) {
        ok = qn_jeval(run, env, (*link)->u.unary.operand, &right);
        if (!ok || right.kind != QN_JV_STRING || right.u.str->markup) {
            break;
        }
        ok = qn_jbuf_append_str(&b, right.u.str);
        qn_jrelease(run, right);
        right = qn_jmissing();
        *link = (*link)->next;
    }
    ok = ok && qn_jbuf_finish(&b, &sum);
    qn_jbuf_deinit(&b);
    if (ok) {
        qn_jassign(run, left, sum);
        if (right.kind != QN_JV_MISSING) { /* something that is no plain string ended the run */
            run->pos = (*link)->pos;
            ok = qn_jbinary(run, QN_OP_ADD, *left, right, &sum);
            if (ok) {
                qn_jassign(run, left, sum);
                *link = (*link)->next;
            }
        }
    }
    qn_jrelease(run, right);
    return ok;
}

static bool eval_chain(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    qn_jval left, right, result;
    if (!qn_jeval(run, env, node->u.chain.first, &left)) {
        return false;
    }
    const qn_jnode *link = node->u.chain.links;
    while (link != NULL) {
        bool ok;
        if (link->op == QN_OP_ADD && left.kind == QN_JV_STRING && !left.u.str->markup && link->next != NULL) {
            ok = sum_strings(run, env, &link, &left);
        } else {
            ok = qn_jeval(run, env, link->u.unary.operand, &right);
            if (ok) {
                run->pos = link->pos;
                ok = qn_jbinary(run, (qn_jop)link->op, left, right, &result);
                qn_jrelease(run, right);
            }
            if (ok) {
                qn_jassign(run, &left, result);
                link = link->next;
            }
        }
        if (!ok) {
            qn_jrelease(run, left);
            return false;
        }
    }
    *out = left;
    return true;
}

static bool compare(qn_jrun *run, qn_jop op, qn_jval a, qn_jval b, bool *result)
{
    static const char *const ORDER[] = {[QN_OP_LT] = "<", [QN_OP_LE] = "<=", [QN_OP_GT] = ">", [QN_OP_GE] = ">="};
    bool ok;
    int order;
    switch (op) {
    case QN_OP_EQ: return qn_jequal(run, a, b, result);
    case QN_OP_NE:
        ok = qn_jequal(run, a, b, result);
        *result = !*result;
        return ok;
    case QN_OP_IN: return qn_jcontains(run, b, a, result);
    case QN_OP_NOT_IN:
        ok = qn_jcontains(run, b, a, result);
        *result = !*result;
        return ok;
    default: break;
    }
    if (!qn_jcompare(run, a, b, ORDER[op], &order)) {
        return false;
    }
    *result = order != 2 && (op == QN_OP_LT ? order < 0 : op == QN_OP_LE ? order <= 0 : op == QN_OP_GT ? order > 0 : order >= 0);
    return true;
}

static bool eval_compare(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    qn_jval left, right;
    bool result = true;
    if (!qn_jeval(run, env, node->u.chain.first, &left)) {
        return false;
    }
    for (const qn_jnode *link = node->u.chain.links; result && link != NULL; link = link->next) {
        bool ok = qn_jeval(run, env, link->u.unary.operand, &right);
        if (ok) {
            run->pos = link->pos;
            ok = compare(run, (qn_jop)link->op, left, right, &result);
            qn_jassign(run, &left, right);
        }
        if (!ok) {
            qn_jrelease(run, left);
            return false;
        }
    }
    qn_jrelease(run, left);
    *out = qn_jbool(result);
    return true;
}

static bool eval_concat(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = true, markup = false;
    for (const qn_jnode *item = node->u.list.items; ok && item != NULL; item = item->next) {
        qn_jval v;
        ok = qn_jeval(run, env, item, &v);
        if (!ok) {
            break;
        }
        if (run->autoescape && !markup && v.kind == QN_JV_STRING && v.u.str->markup) { /* from here on all is escaped */
            qn_jval before, escaped;
            markup = true;
            ok = qn_jbuf_finish(&b, &before);
            if (ok) {
                ok = qn_jescape(run, before, &escaped);
                qn_jrelease(run, before);
            }
            if (ok) {
                ok = qn_jbuf_append_str(&b, escaped.u.str);
                qn_jrelease(run, escaped);
            }
        }
        run->pos = item->pos;
        if (ok && markup) {
            qn_jval escaped;
            ok = qn_jescape(run, v, &escaped);
            qn_jassign(run, &v, ok ? escaped : qn_jmissing());
        }
        ok = ok && qn_jbuf_append_value(&b, v);
        qn_jrelease(run, v);
    }
    ok = ok && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = markup;
    }
    qn_jbuf_deinit(&b);
    return ok;
}

/* `and` and `or`: the first operand that decides, or the last. */
static bool eval_logic(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    bool stop_at = node->kind == QN_N_OR;
    for (const qn_jnode *item = node->u.list.items;; item = item->next) {
        if (!qn_jeval(run, env, item, out)) {
            return false;
        }
        if (item->next == NULL || qn_jtruth(*out) == stop_at) {
            return true;
        }
        qn_jrelease(run, *out);
    }
}

static bool eval_truth(qn_jrun *run, qn_jenv *env, const qn_jnode *node, bool *truth)
{
    qn_jval v;
    if (!qn_jeval(run, env, node, &v)) {
        return false;
    }
    *truth = qn_jtruth(v);
    qn_jrelease(run, v);
    return true;
}

static bool eval_cond(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    bool truth;
    if (!eval_truth(run, env, node->u.cond.test, &truth)) {
        return false;
    }
    if (truth) {
        return qn_jeval(run, env, node->u.cond.then, out);
    }
    if (node->u.cond.otherwise != NULL) {
        return qn_jeval(run, env, node->u.cond.otherwise, out);
    }
    return qn_jundefined_new(run, "the inline if-expression evaluated to false and no else section was defined.", NULL, qn_jmissing(), out);
}

static bool eval_unary(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    qn_jval v;
    if (!qn_jeval(run, env, node->u.unary.operand, &v)) {
        return false;
    }
    run->pos = node->pos;
    bool ok = true;
    if (node->kind == QN_N_NOT) {
        *out = qn_jbool(!qn_jtruth(v));
    } else {
        ok = qn_jnegate(run, v, node->kind == QN_N_NEG, out);
    }
    qn_jrelease(run, v);
    return ok;
}

static bool eval_getattr(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    qn_jval obj;
    if (!qn_jeval(run, env, node->u.attr.object, &obj)) {
        return false;
    }
    run->pos = node->pos;
    bool ok = qn_jgetattr(run, obj, node->u.attr.attribute, out, NULL);
    qn_jrelease(run, obj);
    return ok;
}

static bool eval_optional(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    *out = qn_jmissing();
    return node == NULL || qn_jeval(run, env, node, out);
}

static bool eval_getitem(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    const qn_jnode *index = node->u.item.index;
    qn_jval obj, a = qn_jmissing(), b = qn_jmissing(), c = qn_jmissing();
    if (!qn_jeval(run, env, node->u.item.object, &obj)) {
        return false;
    }
    bool ok;
    if (index->kind == QN_N_SLICE) {
        ok = eval_optional(run, env, index->u.slice.start, &a) && eval_optional(run, env, index->u.slice.stop, &b) &&
             eval_optional(run, env, index->u.slice.step, &c);
        run->pos = ok ? node->pos : run->pos;
        ok = ok && qn_jslice(run, obj, a, b, c, out);
    } else {
        ok = qn_jeval(run, env, index, &a);
        run->pos = ok ? node->pos : run->pos;
        ok = ok && qn_jgetitem(run, obj, a, out);
    }
    qn_jrelease(run, a);
    qn_jrelease(run, b);
    qn_jrelease(run, c);
    qn_jrelease(run, obj);
    return ok;
}

/* Applies one filter or test to v (borrowed). */
static bool apply(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval v, qn_jval *out)
{
    qn_jcall_args args;
    if (node->u.apply.definition == NULL) {
        run->pos = node->pos;
        return qn_jfail(run, "No %s named '%.100s' found.", node->kind == QN_N_FILTER ? "filter" : "test", node->u.apply.name->data);
    }
    bool ok = qn_jargs_eval(run, env, &node->u.apply.args, &args);
    if (ok) {
        run->pos = node->pos;
        ok = qn_jbuiltin_call(run, node->u.apply.definition, v, &args.args, out);
    }
    qn_jargs_deinit(run, &args);
    return ok;
}

static bool eval_apply(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    qn_jval v;
    if (!qn_jeval(run, env, node->u.apply.object, &v)) {
        return false;
    }
    bool ok = apply(run, env, node, v, out);
    qn_jrelease(run, v);
    return ok;
}

bool qn_jeval_filters(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval input, qn_jval *out)
{
    qn_jval v;
    if (node->u.apply.object == NULL) {
        v = qn_jretain(input);
    } else if (!qn_jeval_filters(run, env, node->u.apply.object, input, &v)) {
        return false;
    }
    bool ok = apply(run, env, node, v, out);
    qn_jrelease(run, v);
    return ok;
}

static bool eval_inner(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    switch ((qn_jnode_kind)node->kind) {
    case QN_N_CONST: *out = node->u.constant; return true; /* strings of a template are not counted */
    case QN_N_NAME: return eval_name(run, env, node, out);
    case QN_N_TUPLE:
    case QN_N_LIST: return eval_list(run, env, node, out);
    case QN_N_DICT: return eval_dict(run, env, node, out);
    case QN_N_CHAIN: return eval_chain(run, env, node, out);
    case QN_N_COMPARE: return eval_compare(run, env, node, out);
    case QN_N_AND:
    case QN_N_OR: return eval_logic(run, env, node, out);
    case QN_N_NOT:
    case QN_N_NEG:
    case QN_N_POS: return eval_unary(run, env, node, out);
    case QN_N_CONCAT: return eval_concat(run, env, node, out);
    case QN_N_COND: return eval_cond(run, env, node, out);
    case QN_N_GETATTR: return eval_getattr(run, env, node, out);
    case QN_N_GETITEM: return eval_getitem(run, env, node, out);
    case QN_N_CALL: return qn_jeval_call(run, env, node, qn_jmissing(), out);
    case QN_N_FILTER:
    case QN_N_TEST: return eval_apply(run, env, node, out);
    default: break;
    }
    return qn_jfail_status(run, QUERN_ERROR_INTERNAL, "an expression of kind %d cannot be evaluated", node->kind);
}

bool qn_jeval(qn_jrun *run, qn_jenv *env, const qn_jnode *node, qn_jval *out)
{
    if (!qn_jcharge(run, 1) || !qn_jenter(run)) {
        *out = qn_jmissing();
        return false;
    }
    bool ok = eval_inner(run, env, node, out);
    if (!ok) {
        *out = qn_jmissing(); /* so that callers may release what they evaluated without asking how far they got */
    }
    qn_jleave(run);
    return ok;
}
