/* jinja_filters_list.c - filters on sequences that work at once: ordering, grouping, adding up. args[0] is the filtered value. The lazy
 * ones are in jinja_filters_lazy.c. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "text/jinja_run.h"

/* ---- attributes of items ---- */

static bool all_digits(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
    }
    return len > 0 && len < 19;
}

static bool push_path(qn_jrun *run, qn_jstr *path, size_t from, size_t to, qn_jlist *parts)
{
    while (from <= to) {
        const char *dot = memchr(path->data + from, '.', to - from);
        size_t end = dot != NULL ? (size_t)(dot - path->data) : to;
        qn_jval part;
        if (all_digits(path->data + from, end - from)) {
            part = qn_jint((int64_t)strtoll(path->data + from, NULL, 10));
        } else if (!qn_jstr_slice(run, path, from, end, &part)) {
            return false;
        }
        if (!qn_jcharge(run, 1) || !qn_jlist_push(run, parts, part)) {
            return false;
        }
        from = end + 1;
    }
    return true;
}

static bool parts_of(qn_jrun *run, qn_jval attribute, size_t from, size_t to, qn_jval *parts)
{
    if (!qn_jlist_new(run, QN_JV_LIST, 0, parts)) {
        return false;
    }
    bool ok = true;
    if (attribute.kind == QN_JV_STRING) {
        ok = push_path(run, attribute.u.str, from, to, parts->u.list);
    } else if (qn_jarg_given(attribute)) {
        ok = qn_jlist_push(run, parts->u.list, qn_jretain(attribute));
    }
    if (!ok) {
        qn_jrelease(run, *parts);
    }
    return ok;
}

bool qn_jattribute_parts(qn_jrun *run, qn_jval attribute, qn_jval *parts)
{
    return parts_of(run, attribute, 0, attribute.kind == QN_JV_STRING ? attribute.u.str->len : 0, parts);
}

bool qn_jattribute_get(qn_jrun *run, qn_jval item, const qn_jlist *parts, qn_jval fallback, qn_jval *out)
{
    qn_jval v = qn_jretain(item), next;
    for (size_t i = 0; i < parts->n; i++) {
        bool ok = qn_jcharge(run, 1) && qn_jgetitem(run, v, parts->items[i], &next);
        qn_jrelease(run, v);
        if (!ok) {
            return false;
        }
        v = next;
        if (v.kind == QN_JV_UNDEFINED && qn_jarg_given(fallback)) {
            qn_jassign(run, &v, qn_jretain(fallback));
        }
    }
    *out = v;
    return true;
}

/* The value an item is compared by. */
static bool item_key(qn_jrun *run, qn_jval item, const qn_jlist *parts, qn_jval fallback, bool case_sensitive, qn_jval *out)
{
    qn_jval v;
    if (!qn_jattribute_get(run, item, parts, fallback, &v)) {
        return false;
    }
    if (case_sensitive) {
        *out = v;
        return true;
    }
    bool ok = qn_jignore_case(run, v, out);
    qn_jrelease(run, v);
    return ok;
}

/* ---- ordering ---- */

static bool less(qn_jrun *run, qn_jval a, qn_jval b, bool *result)
{
    int order;
    bool ok = qn_jcompare(run, a, b, "<", &order);
    *result = ok && order == -1;
    return ok;
}

static bool merge(qn_jrun *run, const qn_jval *keys, bool reverse, const uint32_t *from, uint32_t *to, size_t low, size_t middle,
                  size_t high)
{
    size_t i = low, j = middle;
    for (size_t k = low; k < high; k++) {
        bool take_right = i >= middle;
        if (i < middle && j < high) {
            qn_jval left = keys[from[i]], right = keys[from[j]];
            if (!less(run, reverse ? left : right, reverse ? right : left, &take_right)) {
                return false;
            }
        }
        to[k] = take_right ? from[j++] : from[i++];
    }
    return true;
}

bool qn_jsort(qn_jrun *run, const qn_jval *keys, size_t n, bool reverse, uint32_t *order)
{
    uint32_t *other = qn_jalloc(run, (n + 1) * sizeof *other), *from = order, *to = other;
    if (other == NULL) {
        return false;
    }
    bool ok = qn_jcharge(run, n);
    for (size_t i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t width = 1; ok && width < n; width *= 2) {
        for (size_t low = 0; ok && low < n; low += 2 * width) {
            size_t middle = low + width < n ? low + width : n, high = middle + width < n ? middle + width : n;
            ok = merge(run, keys, reverse, from, to, low, middle, high);
        }
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    if (ok && from != order) {
        memcpy(order, from, n * sizeof *order);
    }
    qn_jfree(run, other, (n + 1) * sizeof *other);
    return ok;
}

/* A list of the items in the order of the keys; both have the same length. */
static bool sorted_list(qn_jrun *run, const qn_jlist *items, const qn_jlist *keys, bool reverse, qn_jval *out)
{
    size_t n = items->n;
    uint32_t *order = n < UINT32_MAX ? qn_jalloc(run, (n + 1) * sizeof *order) : NULL;
    if (order == NULL) {
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "a list is too long to be sorted");
    }
    bool ok = qn_jsort(run, keys->items, n, reverse, order) && qn_jlist_new(run, QN_JV_LIST, n, out);
    for (size_t i = 0; ok && i < n; i++) {
        out->u.list->items[out->u.list->n++] = qn_jretain(items->items[order[i]]);
    }
    qn_jfree(run, order, (n + 1) * sizeof *order);
    return ok;
}

/* For each item a list of its keys: one for every attribute in a comma-separated text. */
static bool sort_keys(qn_jrun *run, const qn_jlist *items, qn_jval attribute, bool case_sensitive, qn_jlist *keys)
{
    qn_jval paths;
    if (!qn_jlist_new(run, QN_JV_LIST, 0, &paths)) {
        return false;
    }
    bool ok = true;
    size_t from = 0, len = attribute.kind == QN_JV_STRING ? attribute.u.str->len : 0;
    do {
        const char *comma = attribute.kind == QN_JV_STRING ? memchr(attribute.u.str->data + from, ',', len - from) : NULL;
        size_t end = comma != NULL ? (size_t)(comma - attribute.u.str->data) : len;
        qn_jval parts;
        ok = qn_jcharge(run, 1) && parts_of(run, attribute, from, end, &parts) && qn_jlist_push(run, paths.u.list, parts);
        from = end + 1;
    } while (ok && from <= len);
    for (size_t i = 0; ok && i < items->n; i++) {
        qn_jval key, part;
        ok = qn_jlist_new(run, QN_JV_LIST, paths.u.list->n, &key) && qn_jlist_push(run, keys, key);
        for (size_t k = 0; ok && k < paths.u.list->n; k++) {
            ok = item_key(run, items->items[i], paths.u.list->items[k].u.list, qn_jmissing(), case_sensitive, &part) &&
                 qn_jlist_push(run, key.u.list, part);
        }
    }
    qn_jrelease(run, paths);
    return ok;
}

static bool f_sort(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval items, keys;
    int64_t reverse;
    if (!qn_jcollect(run, a[0], QN_JV_LIST, &items)) {
        return false;
    }
    bool ok = qn_jlist_new(run, QN_JV_LIST, items.u.list->n, &keys);
    if (ok) {
        ok = qn_jarg_int(run, a[1], 0, &reverse) && sort_keys(run, items.u.list, a[3], qn_jtruth(a[2]), keys.u.list) &&
             sorted_list(run, items.u.list, keys.u.list, reverse != 0, out);
        qn_jrelease(run, keys);
    }
    qn_jrelease(run, items);
    return ok;
}

static bool f_dictsort(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval view, items, keys;
    int64_t reverse;
    bool by_value = a[2].kind == QN_JV_STRING && qn_jstr_equals(a[2].u.str, "value");
    if (a[2].kind != QN_JV_MISSING && !by_value && !(a[2].kind == QN_JV_STRING && qn_jstr_equals(a[2].u.str, "key"))) {
        return qn_jfail(run, "You can only sort by either \"key\" or \"value\"");
    }
    if (a[0].kind != QN_JV_DICT) {
        return a[0].kind == QN_JV_UNDEFINED ? qn_jundefined_fail(run, a[0])
                                            : qn_jfail(run, "'%s' object has no attribute 'items'", qn_jtype_name(a[0]));
    }
    const qn_jdict *d = a[0].u.dict;
    if (!qn_jarg_int(run, a[3], 0, &reverse) || !qn_jview_new(run, a[0].u.dict, QN_VIEW_ITEMS, &view)) {
        return false;
    }
    bool ok = qn_jcollect(run, view, QN_JV_LIST, &items);
    qn_jrelease(run, view);
    if (!ok) {
        return false;
    }
    ok = qn_jlist_new(run, QN_JV_LIST, d->n, &keys);
    for (size_t i = 0; ok && i < d->n; i++) {
        qn_jval key, v = by_value ? d->entries[i].value : d->entries[i].key;
        ok = (qn_jtruth(a[1]) ? (key = qn_jretain(v), true) : qn_jignore_case(run, v, &key)) && qn_jlist_push(run, keys.u.list, key);
    }
    ok = ok && sorted_list(run, items.u.list, keys.u.list, reverse != 0, out);
    if (ok) {
        qn_jrelease(run, keys);
    }
    qn_jrelease(run, items);
    return ok;
}

static bool extreme(qn_jrun *run, const qn_jval *a, bool largest, qn_jval *out)
{
    qn_jval iterator, item, parts, best_key = qn_jmissing();
    if (!qn_jiter_new(run, a[0], &iterator)) {
        return false;
    }
    bool ok = qn_jattribute_parts(run, a[2], &parts);
    int more = 0;
    *out = qn_jmissing();
    while (ok && (more = qn_jiter_next(run, iterator.u.iter, &item)) == 1) {
        qn_jval key;
        int order = 0;
        ok = item_key(run, item, parts.u.list, qn_jmissing(), qn_jtruth(a[1]), &key);
        if (!ok) {
            break;
        }
        bool first = out->kind == QN_JV_MISSING;
        ok = first || qn_jcompare(run, key, best_key, largest ? ">" : "<", &order);
        if (ok && (first || order == (largest ? 1 : -1))) {
            qn_jassign(run, &best_key, key);
            qn_jassign(run, out, item);
        } else {
            qn_jrelease(run, key);
            qn_jrelease(run, item);
        }
    }
    ok = ok && more == 0;
    if (ok) {
        qn_jrelease(run, parts);
        qn_jrelease(run, best_key);
    }
    qn_jrelease(run, iterator);
    if (ok && out->kind == QN_JV_MISSING) {
        return qn_jundefined_new(run, "No aggregated item, sequence was empty.", NULL, qn_jmissing(), out);
    }
    return ok;
}

static bool f_max(qn_jrun *run, const qn_jval *a, qn_jval *out) { return extreme(run, a, true, out); }
static bool f_min(qn_jrun *run, const qn_jval *a, qn_jval *out) { return extreme(run, a, false, out); }

/* ---- grouping ---- */

static bool push_group(qn_jrun *run, qn_jlist *groups, qn_jval key, qn_jval *members)
{
    qn_jval pair, list;
    if (!qn_jlist_new(run, QN_JV_LIST, 0, &list)) {
        return false;
    }
    bool ok = qn_jpair_new(run, key, list, &pair);
    qn_jrelease(run, list);
    if (!ok) {
        return false;
    }
    pair.u.list->is_group = true;
    *members = list;
    return qn_jlist_push(run, groups, pair);
}

/* Items with equal keys that follow each other in the sorted list form a group. */
static bool make_groups(qn_jrun *run, const qn_jval *a, const qn_jlist *sorted, const qn_jlist *parts, bool case_sensitive,
                        qn_jlist *groups)
{
    qn_jval key = qn_jmissing(), members = qn_jmissing();
    bool ok = true;
    for (size_t i = 0; ok && i < sorted->n; i++) {
        qn_jval next, shown;
        bool same = false;
        ok = item_key(run, sorted->items[i], parts, a[2], case_sensitive, &next);
        if (!ok) {
            break;
        }
        if (i > 0) {
            ok = qn_jequal(run, key, next, &same);
        }
        if (ok && !same) { /* shown with the case that the first member has */
            ok = qn_jattribute_get(run, sorted->items[i], parts, a[2], &shown);
            if (ok) {
                ok = push_group(run, groups, shown, &members);
                qn_jrelease(run, shown);
            }
        }
        qn_jassign(run, &key, next);
        ok = ok && qn_jlist_push(run, members.u.list, qn_jretain(sorted->items[i]));
    }
    qn_jrelease(run, key);
    return ok;
}

static bool f_groupby(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval items, keys, parts, sorted, key;
    bool case_sensitive = qn_jtruth(a[3]);
    if (!qn_jcollect(run, a[0], QN_JV_LIST, &items)) {
        return false;
    }
    bool ok = qn_jattribute_parts(run, a[1], &parts) && qn_jlist_new(run, QN_JV_LIST, items.u.list->n, &keys);
    for (size_t i = 0; ok && i < items.u.list->n; i++) {
        ok = item_key(run, items.u.list->items[i], parts.u.list, a[2], case_sensitive, &key) && qn_jlist_push(run, keys.u.list, key);
    }
    ok = ok && sorted_list(run, items.u.list, keys.u.list, false, &sorted);
    if (ok) {
        ok = qn_jlist_new(run, QN_JV_LIST, 0, out) && make_groups(run, a, sorted.u.list, parts.u.list, case_sensitive, out->u.list);
        qn_jrelease(run, sorted);
        qn_jrelease(run, keys);
        qn_jrelease(run, parts);
    }
    qn_jrelease(run, items);
    return ok;
}

/* ---- one item, all items ---- */

static bool f_first(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval iterator;
    if (!qn_jiter_new(run, a[0], &iterator)) {
        return false;
    }
    int more = qn_jiter_next(run, iterator.u.iter, out);
    qn_jrelease(run, iterator);
    return more == 1 || (more == 0 && qn_jundefined_new(run, "No first item, sequence was empty.", NULL, qn_jmissing(), out));
}

static bool f_last(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval iterator;
    bool possible;
    if (!qn_jiter_reversed(run, a[0], &possible, &iterator)) {
        return false;
    }
    if (!possible) {
        return qn_jfail(run, "'%s' object is not reversible", qn_jtype_name(a[0]));
    }
    int more = qn_jiter_next(run, iterator.u.iter, out);
    qn_jrelease(run, iterator);
    return more == 1 || (more == 0 && qn_jundefined_new(run, "No last item, sequence was empty.", NULL, qn_jmissing(), out));
}

static bool f_length(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    size_t n;
    if (!qn_jlength(run, a[0], &n)) {
        return qn_jfail(run, "object of type '%s' has no len()", qn_jtype_name(a[0]));
    }
    *out = qn_jint((int64_t)n);
    return true;
}

static bool f_list(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jcollect(run, a[0], QN_JV_LIST, out); }

static bool f_join(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval separator, source = qn_jretain(a[0]), parts;
    bool ok = a[1].kind == QN_JV_MISSING ? qn_jstr_new(run, "", 0, false, &separator) : qn_jto_string(run, a[1], &separator);
    if (ok && qn_jarg_given(a[2])) {
        qn_jiter *it;
        ok = qn_jattribute_parts(run, a[2], &parts) && qn_jiter_lazy(run, QN_IT_MAP, a[0], &it);
        if (ok) {
            it->parts = parts;
            qn_jassign(run, &source, qn_jobject(it));
        }
    }
    if (ok) {
        ok = qn_jstr_join(run, separator.u.str, source, true, out);
        qn_jrelease(run, separator);
    }
    qn_jrelease(run, source);
    return ok;
}

static bool f_reverse(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    bool possible;
    if (a[0].kind == QN_JV_STRING) {
        return qn_jslice(run, a[0], qn_jmissing(), qn_jmissing(), qn_jint(-1), out);
    }
    if (!qn_jiter_reversed(run, a[0], &possible, out)) {
        return false;
    }
    if (possible) {
        return true;
    }
    if (a[0].kind != QN_JV_ITER) {
        return qn_jfail(run, "argument must be iterable");
    }
    if (!qn_jcollect(run, a[0], QN_JV_LIST, out)) {
        return false;
    }
    qn_jlist *list = out->u.list;
    for (size_t i = 0; i < list->n / 2; i++) {
        qn_jval swap = list->items[i];
        list->items[i] = list->items[list->n - 1 - i];
        list->items[list->n - 1 - i] = swap;
    }
    return true;
}

static bool f_sum(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval iterator, item, parts, total = a[2].kind == QN_JV_MISSING ? qn_jint(0) : qn_jretain(a[2]);
    if (total.kind == QN_JV_STRING) {
        return qn_jfail(run, "sum() can't sum strings [use ''.join(seq) instead]");
    }
    if (!qn_jiter_new(run, a[0], &iterator) || !qn_jattribute_parts(run, a[1], &parts)) {
        return false;
    }
    bool ok = true;
    int more = 0;
    while (ok && (more = qn_jiter_next(run, iterator.u.iter, &item)) == 1) {
        qn_jval value, next;
        ok = qn_jattribute_get(run, item, parts.u.list, qn_jmissing(), &value);
        if (ok) {
            ok = qn_jbinary(run, QN_OP_ADD, total, value, &next);
            qn_jrelease(run, value);
        }
        if (ok) {
            qn_jassign(run, &total, next);
        }
        qn_jrelease(run, item);
    }
    qn_jrelease(run, parts);
    qn_jrelease(run, iterator);
    *out = total;
    return ok && more == 0;
}

static bool f_random(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)a;
    (void)out;
    return qn_jfail_status(run, QUERN_ERROR_UNSUPPORTED,
                           "the filter 'random' is refused: the same messages must always give the same prompt");
}

static const qn_jbuiltin ROWS[] = {
    {"count", "obj", 0, true, f_length, NULL},
    {"dictsort", "value,case_sensitive,by,reverse", 0, false, f_dictsort, NULL},
    {"first", "seq", 0, false, f_first, NULL},
    {"groupby", "value,attribute,default,case_sensitive", 1, false, f_groupby, NULL},
    {"join", "value,d,attribute", 0, false, f_join, NULL},
    {"last", "seq", 0, false, f_last, NULL},
    {"length", "obj", 0, true, f_length, NULL},
    {"list", "value", 0, false, f_list, NULL},
    {"max", "value,case_sensitive,attribute", 0, false, f_max, NULL},
    {"min", "value,case_sensitive,attribute", 0, false, f_min, NULL},
    {"random", "seq", 0, false, f_random, NULL},
    {"reverse", "value", 0, false, f_reverse, NULL},
    {"sort", "value,reverse,case_sensitive,attribute", 0, false, f_sort, NULL},
    {"sum", "iterable,attribute,start", 0, false, f_sum, NULL},
};
const qn_jtable qn_jfilters_list = {ROWS, sizeof ROWS / sizeof ROWS[0]};
