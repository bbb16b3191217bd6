/* jinja_globals.c - the functions every template can call: range, dict, namespace, cycler, joiner, and the two of
 * transformers, raise_exception and strftime_now. */
#include <string.h>

#include "text/jinja_run.h"

enum { RANGE_MAX = 100000 }; /* of Jinja2's sandbox */

static bool g_range(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    (void)self;
    int64_t numbers[3] = {0, 0, 1};
    if (args->n < 1 || args->n > 3 || args->n_keywords > 0) {
        return qn_jfail(run, "range expected 1 to 3 arguments, got %zu", args->n + args->n_keywords);
    }
    for (size_t i = 0; i < args->n; i++) {
        if (!qn_jarg_int(run, args->positional[i], 0, &numbers[args->n == 1 ? 1 : i])) {
            return false;
        }
    }
    if (numbers[2] == 0) {
        return qn_jfail(run, "range() arg 3 must not be zero");
    }
    if (!qn_jrange_new(run, numbers[0], numbers[1], numbers[2], out)) {
        return false;
    }
    if (((const qn_jrange *)out->u.obj)->n > RANGE_MAX) {
        qn_jrelease(run, *out);
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", RANGE_MAX);
    }
    return true;
}

static bool add_pairs(qn_jrun *run, qn_jval pairs, qn_jdict *into)
{
    qn_jval iterator, pair, items;
    if (!qn_jiter_new(run, pairs, &iterator)) {
        return false;
    }
    int more;
    bool ok = true;
    while (ok && (more = qn_jiter_next(run, iterator.u.iter, &pair)) == 1) {
        ok = qn_jcollect(run, pair, QN_JV_TUPLE, &items);
        qn_jrelease(run, pair);
        if (ok) {
            ok = items.u.list->n == 2 ? qn_jdict_set(run, into, qn_jretain(items.u.list->items[0]), qn_jretain(items.u.list->items[1]))
                                      : qn_jfail(run, "dictionary update sequence element has length %zu; 2 is required", items.u.list->n);
            qn_jrelease(run, items);
        }
    }
    ok = ok && more == 0;
    qn_jrelease(run, iterator);
    return ok;
}

bool qn_jdict_fill(qn_jrun *run, const qn_jargs *args, qn_jdict *into)
{
    if (args->n > 1) {
        return qn_jfail(run, "dict expected at most 1 argument, got %zu", args->n);
    }
    if (args->n == 1) {
        qn_jval source = args->positional[0];
        if (source.kind == QN_JV_UNDEFINED) {
            return qn_jundefined_fail(run, source);
        }
        if (!(source.kind == QN_JV_DICT ? qn_jdict_copy(run, source.u.dict, into) : add_pairs(run, source, into))) {
            return false;
        }
    }
    for (size_t i = 0; i < args->n_keywords; i++) {
        qn_jobj_retain(&args->keywords[i].name->head);
        if (!qn_jdict_set(run, into, qn_jobject(args->keywords[i].name), qn_jretain(args->keywords[i].value))) {
            return false;
        }
    }
    return true;
}

static bool g_dict(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    (void)self;
    if (!qn_jdict_new(run, out)) {
        return false;
    }
    if (!qn_jdict_fill(run, args, out->u.dict)) {
        qn_jrelease(run, *out);
        return false;
    }
    return true;
}

static bool g_fromkeys(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval iterator, key;
    if (!qn_jdict_new(run, out) || !qn_jiter_new(run, a[0], &iterator)) {
        return false;
    }
    int more;
    bool ok = true;
    while (ok && (more = qn_jiter_next(run, iterator.u.iter, &key)) == 1) {
        ok = qn_jdict_set(run, out->u.dict, key, a[1].kind == QN_JV_MISSING ? qn_jnone() : qn_jretain(a[1]));
    }
    qn_jrelease(run, iterator);
    return ok && more == 0;
}

static bool g_namespace(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    qn_jval attributes;
    if (!g_dict(run, self, args, &attributes)) {
        return false;
    }
    qn_jnamespace *ns = qn_jobj_new(run, QN_JV_NAMESPACE, sizeof *ns);
    if (ns == NULL) {
        qn_jrelease(run, attributes);
        return false;
    }
    ns->attributes = attributes.u.dict;
    *out = qn_jobject(ns);
    return true;
}

static bool g_cycler(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    (void)self;
    qn_jval items;
    if (args->n == 0 || args->n_keywords > 0) {
        return qn_jfail(run, "at least one item has to be provided");
    }
    if (!qn_jlist_new(run, QN_JV_TUPLE, args->n, &items)) {
        return false;
    }
    for (size_t i = 0; i < args->n; i++) {
        items.u.list->items[items.u.list->n++] = qn_jretain(args->positional[i]);
    }
    qn_jcycler *c = qn_jobj_new(run, QN_JV_CYCLER, sizeof *c);
    if (c == NULL) {
        qn_jrelease(run, items);
        return false;
    }
    c->items = items.u.list;
    *out = qn_jobject(c);
    return true;
}

static bool g_joiner(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval separator;
    if (!(a[0].kind == QN_JV_MISSING ? qn_jstr_new(run, ", ", 2, false, &separator) : (separator = qn_jretain(a[0]), true))) {
        return false;
    }
    qn_jjoiner *j = qn_jobj_new(run, QN_JV_JOINER, sizeof *j);
    if (j == NULL) {
        qn_jrelease(run, separator);
        return false;
    }
    j->separator = separator;
    *out = qn_jobject(j);
    return true;
}

static bool g_lipsum(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    (void)self;
    (void)args;
    (void)out;
    return qn_jfail_status(run, QUERN_ERROR_UNSUPPORTED, "lipsum() is refused: the same messages must always give the same prompt");
}

static bool g_raise_exception(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)out;
    qn_jval text;
    if (qn_jto_string(run, a[0], &text)) {
        (void)qn_jfail_plain(run, text.u.str->data, text.u.str->len);
        qn_jrelease(run, text);
    }
    return false;
}

static bool g_strftime_now(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *format;
    return qn_jarg_str(run, a[0], "strftime() argument 1", &format) && qn_jformat_time(run, run->now, format, out);
}

static const qn_jbuiltin ROWS[] = {
    {"cycler", NULL, 0, false, NULL, g_cycler},
    {"dict", NULL, 0, false, NULL, g_dict},
    {"dict.fromkeys", "iterable,value", 1, true, g_fromkeys, NULL},
    {"joiner", "sep", 0, false, g_joiner, NULL},
    {"lipsum", NULL, 0, false, NULL, g_lipsum},
    {"namespace", NULL, 0, false, NULL, g_namespace},
    {"raise_exception", "message", 1, false, g_raise_exception, NULL},
    {"range", NULL, 0, false, NULL, g_range},
    {"strftime_now", "format", 1, false, g_strftime_now, NULL},
};

const qn_jbuiltin *qn_jglobal_find(const char *name, size_t len)
{
    return qn_jtable_find((qn_jtable){ROWS, sizeof ROWS / sizeof ROWS[0]}, name, len);
}
