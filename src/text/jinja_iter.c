/* jinja_iter.c - iterators: over containers, and the lazy ones that map, select, unique, batch and slice return.
 *
 * A lazy iterator holds its source and does its work when an item is asked for, as Python's generators do.
 */
#include <string.h>

#include "text/jinja_run.h"

static bool new_iter(qn_jrun *run, qn_jiter_kind what, qn_jval source, qn_jiter **out)
{
    qn_jiter *it = qn_jobj_new(run, QN_JV_ITER, sizeof *it);
    if (it == NULL) {
        return false;
    }
    it->what = what;
    it->source = qn_jretain(source);
    *out = it;
    return true;
}

bool qn_jiter_lazy(qn_jrun *run, qn_jiter_kind what, qn_jval source, qn_jiter **out)
{
    qn_jval input;
    if (!qn_jiter_new(run, source, &input)) {
        return false;
    }
    bool ok = new_iter(run, what, input, out);
    if (ok) {
        (*out)->type_name = "generator";
    }
    qn_jrelease(run, input);
    return ok;
}

bool qn_jiter_generator(qn_jrun *run, qn_jval source, bool (*start)(qn_jrun *run, qn_jiter *it), qn_jiter **out)
{
    if (!new_iter(run, QN_IT_EMPTY, source, out)) {
        return false;
    }
    (*out)->type_name = "generator";
    (*out)->start = start;
    (*out)->pos = run->pos;
    return true;
}

bool qn_jiter_draw(qn_jrun *run, qn_jiter_kind what, qn_jiter *it)
{
    qn_jval input;
    if (!qn_jiter_new(run, it->source, &input)) {
        return false;
    }
    qn_jassign(run, &it->source, input);
    it->what = what;
    return true;
}

bool qn_jis_iterable(qn_jval v)
{
    switch ((qn_jkind)v.kind) {
    case QN_JV_UNDEFINED:
    case QN_JV_STRING:
    case QN_JV_LIST:
    case QN_JV_TUPLE:
    case QN_JV_DICT:
    case QN_JV_VIEW:
    case QN_JV_RANGE:
    case QN_JV_ITER:
    case QN_JV_LOOP: return true;
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT:
    case QN_JV_NAMESPACE:
    case QN_JV_MACRO:
    case QN_JV_BUILTIN:
    case QN_JV_METHOD:
    case QN_JV_CYCLER:
    case QN_JV_JOINER:
    case QN_JV_BLOCK:
    case QN_JV_ENV: break;
    }
    return false;
}

const char *qn_jiter_type_name(qn_jval v) { return v.u.iter->type_name; }

/* How a container is iterated; false if it is none. */
static bool choose(qn_jval v, qn_jiter_kind *what, qn_jview_kind *view, qn_jval *source, const char **type_name)
{
    static const char *const VIEW_ITERATORS[] = {"dict_keyiterator", "dict_valueiterator", "dict_itemiterator"};
    *view = QN_VIEW_KEYS;
    *source = v;
    switch ((qn_jkind)v.kind) {
    case QN_JV_UNDEFINED:
        *what = QN_IT_EMPTY;
        *type_name = "generator";
        return true;
    case QN_JV_STRING:
        *what = QN_IT_TEXT;
        *type_name = "str_iterator";
        return true;
    case QN_JV_LIST:
        *what = QN_IT_LIST;
        *type_name = "list_iterator";
        return true;
    case QN_JV_TUPLE:
        *what = QN_IT_LIST;
        *type_name = "tuple_iterator";
        return true;
    case QN_JV_RANGE:
        *what = QN_IT_RANGE;
        *type_name = "range_iterator";
        return true;
    case QN_JV_DICT:
        *what = QN_IT_DICT;
        *type_name = VIEW_ITERATORS[0];
        return true;
    case QN_JV_VIEW:
        *what = QN_IT_DICT;
        *view = ((const qn_jview *)v.u.obj)->what;
        *source = qn_jobject(((const qn_jview *)v.u.obj)->dict);
        *type_name = VIEW_ITERATORS[*view];
        return true;
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT:
    case QN_JV_ITER:
    case QN_JV_NAMESPACE:
    case QN_JV_LOOP:
    case QN_JV_MACRO:
    case QN_JV_BUILTIN:
    case QN_JV_METHOD:
    case QN_JV_CYCLER:
    case QN_JV_JOINER:
    case QN_JV_BLOCK:
    case QN_JV_ENV: break;
    }
    return false;
}

bool qn_jiter_new(qn_jrun *run, qn_jval v, qn_jval *out)
{
    qn_jiter_kind what;
    qn_jview_kind view;
    qn_jval source;
    const char *type_name;
    if (v.kind == QN_JV_ITER) {
        *out = qn_jretain(v);
        return true;
    }
    if (!choose(v, &what, &view, &source, &type_name)) {
        return qn_jfail(run, "'%s' object is not iterable", qn_jtype_name(v));
    }
    qn_jiter *it;
    if (!new_iter(run, what, source, &it)) {
        return false;
    }
    it->view = view;
    it->type_name = type_name;
    *out = qn_jobject(it);
    return true;
}

bool qn_jiter_reversed(qn_jrun *run, qn_jval v, bool *possible, qn_jval *out)
{
    qn_jiter_kind what;
    qn_jview_kind view;
    qn_jval source;
    const char *type_name;
    *possible = choose(v, &what, &view, &source, &type_name);
    if (!*possible) {
        return true;
    }
    qn_jiter *it;
    if (!new_iter(run, what, source, &it)) {
        return false;
    }
    it->view = view;
    it->reversed = true;
    it->type_name = v.kind == QN_JV_LIST ? "list_reverseiterator" : v.kind == QN_JV_DICT ? "dict_reversekeyiterator" : "reversed";
    *out = qn_jobject(it);
    return true;
}

bool qn_jcollect(qn_jrun *run, qn_jval v, qn_jkind kind, qn_jval *out)
{
    qn_jval iterator, item;
    if (!qn_jiter_new(run, v, &iterator)) {
        return false;
    }
    int more = 0;
    bool ok = qn_jlist_new(run, kind, 0, out);
    while (ok && (more = qn_jiter_next(run, iterator.u.iter, &item)) == 1) {
        ok = qn_jlist_push(run, out->u.list, item);
        if (!ok) {
            qn_jrelease(run, *out);
        }
    }
    if (ok && more < 0) {
        qn_jrelease(run, *out);
        ok = false;
    }
    qn_jrelease(run, iterator);
    return ok;
}

/* ---- over containers ---- */

/* Index of the next element of n, or n if there is none; steps on. */
static size_t step(qn_jiter *it, size_t n)
{
    if (it->at >= n) {
        return n;
    }
    size_t i = it->reversed ? n - 1 - it->at : it->at;
    it->at++;
    return i;
}

static int next_char(qn_jrun *run, qn_jiter *it, qn_jval *out)
{
    qn_jstr *s = it->source.u.str; /* at counts bytes here */
    if (it->at >= s->len) {
        return 0;
    }
    size_t begin, end;
    if (it->reversed) {
        end = s->len - it->at;
        begin = end - 1;
        while (((uint8_t)s->data[begin] & 0xc0u) == 0x80u) {
            begin--;
        }
    } else {
        begin = it->at;
        end = begin + 1;
        while (end < s->len && ((uint8_t)s->data[end] & 0xc0u) == 0x80u) {
            end++;
        }
    }
    it->at += end - begin;
    return qn_jstr_new(run, s->data + begin, end - begin, qn_jstr_mark(s, begin), out) ? 1 : -1;
}

static int next_entry(qn_jrun *run, qn_jiter *it, qn_jval *out)
{
    const qn_jdict *d = it->source.u.dict;
    size_t i = step(it, d->n);
    if (i >= d->n) {
        return 0;
    }
    if (it->view == QN_VIEW_ITEMS) {
        return qn_jpair_new(run, d->entries[i].key, d->entries[i].value, out) ? 1 : -1;
    }
    *out = qn_jretain(it->view == QN_VIEW_KEYS ? d->entries[i].key : d->entries[i].value);
    return 1;
}

/* ---- lazy filters ---- */

/* Calls the filter or test of an iterator. */
static bool call_definition(qn_jrun *run, const qn_jiter *it, qn_jval item, qn_jval *out)
{
    const qn_jlist *args = it->args.u.list;
    const qn_jdict *d = it->keywords.u.dict;
    qn_jkeyword keywords[QN_JPARAMS_MAX];
    for (size_t i = 0; i < d->n; i++) {
        keywords[i] = (qn_jkeyword){.name = d->entries[i].key.u.str, .value = d->entries[i].value};
    }
    const qn_jargs call = {.positional = args->items, .n = args->n, .keywords = keywords, .n_keywords = d->n};
    return qn_jbuiltin_call(run, it->definition, item, &call, out);
}

static int next_mapped(qn_jrun *run, qn_jiter *it, qn_jval *out)
{
    qn_jval item;
    int more = qn_jiter_next(run, it->source.u.iter, &item);
    if (more != 1) {
        return more;
    }
    bool ok = it->parts.kind != QN_JV_MISSING ? qn_jattribute_get(run, item, it->parts.u.list, it->fallback, out)
                                              : call_definition(run, it, item, out);
    qn_jrelease(run, item);
    return ok ? 1 : -1;
}

static bool item_passes(qn_jrun *run, const qn_jiter *it, qn_jval item, bool *passes)
{
    qn_jval value = qn_jretain(item);
    if (it->parts.kind != QN_JV_MISSING) {
        qn_jrelease(run, value);
        if (!qn_jattribute_get(run, item, it->parts.u.list, qn_jmissing(), &value)) {
            return false;
        }
    }
    bool ok = true;
    if (it->definition == NULL) {
        *passes = qn_jtruth(value) != it->negate;
    } else {
        qn_jval result;
        ok = call_definition(run, it, value, &result);
        if (ok) {
            *passes = qn_jtruth(result) != it->negate;
            qn_jrelease(run, result);
        }
    }
    qn_jrelease(run, value);
    return ok;
}

static int next_selected(qn_jrun *run, qn_jiter *it, qn_jval *out)
{
    int more;
    while ((more = qn_jiter_next(run, it->source.u.iter, out)) == 1) {
        bool passes = false;
        if (!item_passes(run, it, *out, &passes)) {
            qn_jrelease(run, *out);
            return -1;
        }
        if (passes) {
            return 1;
        }
        qn_jrelease(run, *out);
    }
    return more;
}

static bool note_unique(qn_jrun *run, qn_jiter *it, qn_jval item, bool *is_new)
{
    qn_jval key = qn_jretain(item), *found;
    if (it->parts.kind != QN_JV_MISSING) {
        qn_jrelease(run, key);
        if (!qn_jattribute_get(run, item, it->parts.u.list, qn_jmissing(), &key)) {
            return false;
        }
    }
    if (!it->case_sensitive) {
        qn_jval folded;
        bool ok = qn_jignore_case(run, key, &folded);
        qn_jrelease(run, key);
        if (!ok) {
            return false;
        }
        key = folded;
    }
    bool ok = qn_jdict_find(run, it->seen.u.dict, key, &found);
    *is_new = ok && found == NULL;
    if (*is_new) {
        return qn_jdict_set(run, it->seen.u.dict, key, qn_jnone());
    }
    qn_jrelease(run, key);
    return ok;
}

static int next_unique(qn_jrun *run, qn_jiter *it, qn_jval *out)
{
    int more;
    while ((more = qn_jiter_next(run, it->source.u.iter, out)) == 1) {
        bool is_new = false;
        if (!note_unique(run, it, *out, &is_new)) {
            qn_jrelease(run, *out);
            return -1;
        }
        if (is_new) {
            return 1;
        }
        qn_jrelease(run, *out);
    }
    return more;
}

static int next_batch(qn_jrun *run, qn_jiter *it, qn_jval *out)
{
    qn_jval list = qn_jmissing(), item;
    int more = 1;
    /* Python's filter compares the length before it appends: a width below 1 never closes a batch of items. */
    while ((list.kind == QN_JV_MISSING || (int64_t)list.u.list->n != it->n) && (more = qn_jiter_next(run, it->source.u.iter, &item)) == 1) {
        if (list.kind == QN_JV_MISSING && !qn_jlist_new(run, QN_JV_LIST, 0, &list)) {
            qn_jrelease(run, item);
            return -1;
        }
        if (!qn_jlist_push(run, list.u.list, item)) {
            more = -1;
            break;
        }
    }
    if (list.kind == QN_JV_MISSING || more < 0) {
        qn_jrelease(run, list);
        return more < 0 ? -1 : 0;
    }
    while (it->fallback.kind != QN_JV_MISSING && (int64_t)list.u.list->n < it->n) {
        if (!qn_jcharge(run, 1) || !qn_jlist_push(run, list.u.list, qn_jretain(it->fallback))) {
            qn_jrelease(run, list);
            return -1;
        }
    }
    *out = list;
    return 1;
}

/* Part number `at` of n nearly equal parts of a list; the first ones are one longer. */
static int next_slice(qn_jrun *run, qn_jiter *it, qn_jval *out)
{
    const qn_jlist *all = it->args.u.list;
    if ((int64_t)it->at >= it->n) {
        return 0;
    }
    size_t n = (size_t)it->n, i = it->at++;
    size_t each = all->n / n, longer = all->n % n;
    size_t from = i * each + (i < longer ? i : longer), to = from + each + (i < longer);
    qn_jval part;
    if (!qn_jlist_new(run, QN_JV_LIST, to - from + 1, &part)) {
        return -1;
    }
    for (size_t k = from; k < to; k++) {
        part.u.list->items[part.u.list->n++] = qn_jretain(all->items[k]);
    }
    if (it->fallback.kind != QN_JV_MISSING && i >= longer) {
        part.u.list->items[part.u.list->n++] = qn_jretain(it->fallback);
    }
    *out = part;
    return 1;
}

static int next_of_kind(qn_jrun *run, qn_jiter *it, qn_jval *out)
{
    switch (it->what) {
    case QN_IT_LIST: {
        const qn_jlist *list = it->source.u.list;
        size_t i = step(it, list->n);
        if (i >= list->n) {
            return 0;
        }
        *out = qn_jretain(list->items[i]);
        return 1;
    }
    case QN_IT_RANGE: {
        const qn_jrange *r = (const qn_jrange *)it->source.u.obj;
        size_t i = step(it, (size_t)r->n);
        if (i >= (size_t)r->n) {
            return 0;
        }
        *out = qn_jint((int64_t)((uint64_t)r->start + (uint64_t)i * (uint64_t)r->step));
        return 1;
    }
    case QN_IT_TEXT: return next_char(run, it, out);
    case QN_IT_DICT: return next_entry(run, it, out);
    case QN_IT_EMPTY: return 0;
    case QN_IT_MAP: return next_mapped(run, it, out);
    case QN_IT_SELECT: return next_selected(run, it, out);
    case QN_IT_UNIQUE: return next_unique(run, it, out);
    case QN_IT_BATCH: return next_batch(run, it, out);
    case QN_IT_SLICE: return next_slice(run, it, out);
    }
    return 0;
}

static bool start(qn_jrun *run, qn_jiter *it)
{
    bool (*const pending)(qn_jrun *, qn_jiter *) = it->start;
    if (pending == NULL) {
        return true;
    }
    uint32_t pos = run->pos;
    it->start = NULL;
    run->pos = it->pos;
    bool ok = pending(run, it);
    run->pos = pos;
    return ok;
}

int qn_jiter_next(qn_jrun *run, qn_jiter *it, qn_jval *out)
{
    if (it->done) {
        return 0;
    }
    if (!qn_jcharge(run, 1) || !qn_jenter(run)) {
        return -1;
    }
    int more = start(run, it) ? next_of_kind(run, it, out) : -1;
    qn_jleave(run);
    it->done = more != 1;
    return more;
}
