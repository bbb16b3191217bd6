/* jinja_filters_lazy.c - the filters that are generators in Jinja2: map, select, unique, batch and their kin.
 *
 * Calling one only keeps its value and arguments. They are looked at, and found wanting, when the first item is asked for: a template may
 * select from what is none and never use the result. The items themselves are made in jinja_iter.c.
 */
#include <string.h>

#include "text/jinja_run.h"

/* Keeps what the filter was called with. */
static bool keep_arguments(qn_jrun *run, const qn_jargs *args, qn_jiter *it)
{
    if (!qn_jlist_new(run, QN_JV_LIST, args->n, &it->args) || !qn_jdict_new(run, &it->keywords)) {
        return false;
    }
    for (size_t i = 0; i < args->n; i++) {
        it->args.u.list->items[it->args.u.list->n++] = qn_jretain(args->positional[i]);
    }
    for (size_t i = 0; i < args->n_keywords; i++) {
        const qn_jkeyword *k = &args->keywords[i];
        if (i == QN_JPARAMS_MAX) {
            return qn_jfail(run, "too many keyword arguments");
        }
        qn_jobj_retain(&k->name->head);
        if (!qn_jdict_set(run, it->keywords.u.dict, qn_jobject(k->name), qn_jretain(k->value))) {
            return false;
        }
    }
    return true;
}

static bool generator(qn_jrun *run, qn_jval source, const qn_jargs *args, bool (*start)(qn_jrun *run, qn_jiter *it), qn_jval *out)
{
    qn_jiter *it;
    if (!qn_jiter_generator(run, source, start, &it)) {
        return false;
    }
    *out = qn_jobject(it);
    return keep_arguments(run, args, it);
}

static void drop_first(qn_jrun *run, qn_jlist *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        qn_jrelease(run, list->items[i]);
    }
    list->n -= n;
    memmove(list->items, list->items + n, list->n * sizeof *list->items);
}

static qn_jval find_keyword(const qn_jiter *it, const char *name)
{
    const qn_jdict *d = it->keywords.u.dict;
    for (size_t i = 0; i < d->n; i++) {
        if (qn_jstr_equals(d->entries[i].key.u.str, name)) {
            return d->entries[i].value;
        }
    }
    return qn_jmissing();
}

/* ---- map ---- */

static bool start_map_attribute(qn_jrun *run, qn_jiter *it)
{
    const qn_jdict *d = it->keywords.u.dict;
    for (size_t i = 0; i < d->n; i++) {
        const qn_jstr *name = d->entries[i].key.u.str;
        if (!qn_jstr_equals(name, "attribute") && !qn_jstr_equals(name, "default")) {
            return qn_jfail(run, "Unexpected keyword argument '%.100s'", name->data);
        }
    }
    it->fallback = qn_jretain(find_keyword(it, "default"));
    return qn_jattribute_parts(run, find_keyword(it, "attribute"), &it->parts) && qn_jiter_draw(run, QN_IT_MAP, it);
}

static bool start_map(qn_jrun *run, qn_jiter *it)
{
    qn_jlist *args = it->args.u.list;
    qn_jstr *name;
    if (!qn_jtruth(it->source)) {
        return true;
    }
    if (args->n == 0 && find_keyword(it, "attribute").kind != QN_JV_MISSING) {
        return start_map_attribute(run, it);
    }
    if (args->n == 0) {
        return qn_jfail(run, "map requires a filter argument");
    }
    if (!qn_jarg_str(run, args->items[0], "the filter of map", &name)) {
        return false;
    }
    it->definition = qn_jfilter_find(name->data, name->len);
    if (it->definition == NULL) {
        return qn_jfail(run, "No filter named '%.100s'.", name->data);
    }
    drop_first(run, args, 1);
    return qn_jiter_draw(run, QN_IT_MAP, it);
}

static bool f_map(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out) { return generator(run, self, args, start_map, out); }

/* ---- select and its kin ---- */

static bool start_select(qn_jrun *run, qn_jiter *it)
{
    qn_jlist *args = it->args.u.list;
    size_t at = it->by_attribute ? 1 : 0;
    qn_jstr *name;
    if (!qn_jtruth(it->source)) {
        return true;
    }
    if (it->by_attribute && args->n == 0) {
        return qn_jfail(run, "Missing parameter for attribute name");
    }
    if (it->by_attribute && !qn_jattribute_parts(run, args->items[0], &it->parts)) {
        return false;
    }
    if (args->n > at) { /* else: the truth of the value */
        if (!qn_jarg_str(run, args->items[at], "the test of a selection", &name)) {
            return false;
        }
        it->definition = qn_jtest_find(name->data, name->len);
        if (it->definition == NULL) {
            return qn_jfail(run, "No test named '%.100s'.", name->data);
        }
        drop_first(run, args, at + 1);
    }
    return qn_jiter_draw(run, QN_IT_SELECT, it);
}

static bool choose(qn_jrun *run, qn_jval self, const qn_jargs *args, bool negate, bool by_attribute, qn_jval *out)
{
    if (!generator(run, self, args, start_select, out)) {
        return false;
    }
    out->u.iter->negate = negate;
    out->u.iter->by_attribute = by_attribute;
    return true;
}

static bool f_select(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out) { return choose(run, self, args, false, false, out); }
static bool f_reject(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out) { return choose(run, self, args, true, false, out); }
static bool f_selectattr(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    return choose(run, self, args, false, true, out);
}
static bool f_rejectattr(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    return choose(run, self, args, true, true, out);
}

/* ---- with fixed parameters: the two behind the value are kept, given or not ---- */

static bool bound_generator(qn_jrun *run, const qn_jval *a, bool (*start)(qn_jrun *run, qn_jiter *it), qn_jval *out)
{
    const qn_jargs args = {.positional = a + 1, .n = 2};
    return generator(run, a[0], &args, start, out);
}

static bool start_unique(qn_jrun *run, qn_jiter *it)
{
    const qn_jval *a = it->args.u.list->items;
    it->case_sensitive = qn_jtruth(a[0]);
    return qn_jdict_new(run, &it->seen) && (!qn_jarg_given(a[1]) || qn_jattribute_parts(run, a[1], &it->parts)) &&
           qn_jiter_draw(run, QN_IT_UNIQUE, it);
}

static bool f_unique(qn_jrun *run, const qn_jval *a, qn_jval *out) { return bound_generator(run, a, start_unique, out); }

/* A width that no length equals makes one batch of everything; only filling it up needs a number. */
static bool start_batch(qn_jrun *run, qn_jiter *it)
{
    const qn_jval *a = it->args.u.list->items;
    it->fallback = qn_jarg_given(a[1]) ? qn_jretain(a[1]) : qn_jmissing();
    it->n = -1;
    if ((qn_jis_int(a[0]) || it->fallback.kind != QN_JV_MISSING) && !qn_jarg_int(run, a[0], 0, &it->n)) {
        return false;
    }
    return qn_jiter_draw(run, QN_IT_BATCH, it);
}

static bool f_batch(qn_jrun *run, const qn_jval *a, qn_jval *out) { return bound_generator(run, a, start_batch, out); }

static bool start_slice(qn_jrun *run, qn_jiter *it)
{
    qn_jval all;
    const qn_jval *a = it->args.u.list->items;
    it->fallback = qn_jarg_given(a[1]) ? qn_jretain(a[1]) : qn_jmissing();
    if (!qn_jcollect(run, it->source, QN_JV_LIST, &all)) {
        return false;
    }
    bool ok = qn_jarg_int(run, a[0], 0, &it->n) && (it->n != 0 || qn_jfail(run, "integer division or modulo by zero"));
    qn_jassign(run, &it->args, all); /* the arguments go, the items are kept in their place */
    it->what = QN_IT_SLICE;
    return ok;
}

static bool f_slice(qn_jrun *run, const qn_jval *a, qn_jval *out) { return bound_generator(run, a, start_slice, out); }

static bool start_items(qn_jrun *run, qn_jiter *it)
{
    if (it->source.kind == QN_JV_UNDEFINED) {
        return true;
    }
    if (it->source.kind != QN_JV_DICT) {
        return qn_jfail(run, "Can only get item pairs from a mapping.");
    }
    it->what = QN_IT_DICT;
    it->view = QN_VIEW_ITEMS;
    return true;
}

static bool f_items(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    const qn_jargs none = {0};
    return generator(run, a[0], &none, start_items, out);
}

static const qn_jbuiltin ROWS[] = {
    {"batch", "value,linecount,fill_with", 1, false, f_batch, NULL},
    {"items", "value", 0, false, f_items, NULL},
    {"map", NULL, 0, false, NULL, f_map},
    {"reject", NULL, 0, false, NULL, f_reject},
    {"rejectattr", NULL, 0, false, NULL, f_rejectattr},
    {"select", NULL, 0, false, NULL, f_select},
    {"selectattr", NULL, 0, false, NULL, f_selectattr},
    {"slice", "value,slices,fill_with", 1, false, f_slice, NULL},
    {"unique", "value,case_sensitive,attribute", 0, false, f_unique, NULL},
};
const qn_jtable qn_jfilters_lazy = {ROWS, sizeof ROWS / sizeof ROWS[0]};
