/* jinja_dict.c - insertion-ordered dicts; hashing, equality, order and membership of values.
 *
 * Small dicts are searched in order; larger ones have an index with linear probing. Every probe is paid for, so keys
 * chosen to collide cost budget, not unbounded time.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "text/jinja_run.h"
#include "text/jinja_string.h"
#include "text/jinja_value.h"

enum { SMALL_DICT = 8, INDEX_MIN = 32 };

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

static uint64_t hash_text(uint64_t seed, const char *text, size_t len)
{
    uint64_t h = mix(seed, len);
    while (len >= 8) {
        uint64_t chunk;
        memcpy(&chunk, text, 8);
        h = mix(h, chunk);
        text += 8;
        len -= 8;
    }
    uint64_t rest = 0;
    for (size_t i = 0; i < len; i++) {
        rest = rest << 8 | (uint8_t)text[i];
    }
    return mix(mix(h, rest), 0x5851f42d4c957f2du);
}

static uint64_t hash_number(uint64_t seed, qn_jval v)
{
    if (v.kind == QN_JV_FLOAT) {
        double d = v.u.d;
        bool integral = d >= -9223372036854775808.0 && d < 9223372036854775808.0 && d == floor(d);
        if (!integral) {
            uint64_t bits;
            memcpy(&bits, &d, sizeof bits);
            return mix(seed ^ 1u, bits);
        }
        return mix(seed, (uint64_t)(int64_t)d); /* equal numbers hash alike whatever their type */
    }
    return mix(seed, (uint64_t)qn_jas_int(v));
}

bool qn_jhash(qn_jrun *run, qn_jval v, uint64_t *hash)
{
    switch ((qn_jkind)v.kind) {
    case QN_JV_STRING: *hash = hash_text(run->hash_seed, v.u.str->data, v.u.str->len); return qn_jcharge_bytes(run, v.u.str->len);
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT: *hash = hash_number(run->hash_seed, v); return true;
    case QN_JV_TUPLE: {
        uint64_t h = run->hash_seed ^ 3u;
        if (!qn_jenter(run)) {
            return false;
        }
        bool ok = qn_jcharge(run, v.u.list->n);
        for (size_t i = 0; ok && i < v.u.list->n; i++) {
            uint64_t one = 0;
            ok = qn_jhash(run, v.u.list->items[i], &one);
            h = mix(h, one);
        }
        qn_jleave(run);
        *hash = h;
        return ok;
    }
    case QN_JV_RANGE: *hash = mix(run->hash_seed, (uint64_t)((const qn_jrange *)v.u.obj)->n); return true;
    case QN_JV_LIST:
    case QN_JV_DICT:
    case QN_JV_VIEW: return qn_jfail(run, "unhashable type: '%s'", qn_jtype_name(v));
    case QN_JV_NONE:
    case QN_JV_UNDEFINED: *hash = mix(run->hash_seed, v.kind); return true;
    case QN_JV_ITER:
    case QN_JV_NAMESPACE:
    case QN_JV_LOOP:
    case QN_JV_MACRO:
    case QN_JV_BUILTIN:
    case QN_JV_METHOD:
    case QN_JV_CYCLER:
    case QN_JV_JOINER:
    case QN_JV_BLOCK:
    case QN_JV_ENV:
    case QN_JV_MISSING: break;
    }
    *hash = mix(run->hash_seed, (uint64_t)(uintptr_t)v.u.obj);
    return true;
}

/* ---- dicts ---- */

bool qn_jdict_new(qn_jrun *run, qn_jval *out)
{
    qn_jdict *d = qn_jobj_new(run, QN_JV_DICT, sizeof *d);
    if (d == NULL) {
        return false;
    }
    *out = qn_jobject(d);
    return true;
}

static bool same_text(qn_jval key, const char *text, size_t len)
{
    return key.kind == QN_JV_STRING && key.u.str->len == len && memcmp(key.u.str->data, text, len) == 0;
}

static bool keys_equal(qn_jrun *run, qn_jval a, qn_jval b, bool *equal)
{
    if (a.kind == QN_JV_STRING) {
        *equal = same_text(b, a.u.str->data, a.u.str->len);
        return true;
    }
    return qn_jequal(run, a, b, equal);
}

/* Finds the entry number of a key with this hash, or SIZE_MAX. */
static bool find_entry(qn_jrun *run, const qn_jdict *d, qn_jval key, uint64_t hash, size_t *found)
{
    *found = SIZE_MAX;
    if (d->index == NULL) {
        for (size_t i = 0; i < d->n; i++) {
            bool equal = false;
            if (d->entries[i].hash == hash && !keys_equal(run, key, d->entries[i].key, &equal)) {
                return false;
            }
            if (equal) {
                *found = i;
                return true;
            }
        }
        return true;
    }
    size_t mask = d->index_cap - 1;
    for (size_t at = (size_t)hash & mask; d->index[at] != 0; at = (at + 1) & mask) {
        size_t entry = d->index[at] - 1;
        bool equal = false;
        if (!qn_jcharge(run, 1) || (d->entries[entry].hash == hash && !keys_equal(run, key, d->entries[entry].key, &equal))) {
            return false;
        }
        if (equal) {
            *found = entry;
            return true;
        }
    }
    return true;
}

bool qn_jdict_find(qn_jrun *run, const qn_jdict *d, qn_jval key, qn_jval **found)
{
    *found = NULL;
    uint64_t hash = 0;
    size_t entry;
    if (!qn_jhash(run, key, &hash) || !find_entry(run, d, key, hash, &entry)) {
        return false;
    }
    if (entry != SIZE_MAX) {
        *found = &d->entries[entry].value;
    }
    return true;
}

qn_jval *qn_jdict_find_text(qn_jrun *run, const qn_jdict *d, const char *text, size_t len)
{
    if (d->index == NULL) {
        for (size_t i = 0; i < d->n; i++) {
            if (same_text(d->entries[i].key, text, len)) {
                return &d->entries[i].value;
            }
        }
        return NULL;
    }
    uint64_t hash = hash_text(run->hash_seed, text, len);
    size_t mask = d->index_cap - 1;
    for (size_t at = (size_t)hash & mask; d->index[at] != 0 && qn_jcharge(run, 1); at = (at + 1) & mask) {
        qn_jentry *e = &d->entries[d->index[at] - 1];
        if (e->hash == hash && same_text(e->key, text, len)) {
            return &e->value;
        }
    }
    return NULL;
}

static void index_entry(qn_jdict *d, size_t entry)
{
    size_t mask = d->index_cap - 1;
    size_t at = (size_t)d->entries[entry].hash & mask;
    while (d->index[at] != 0) {
        at = (at + 1) & mask;
    }
    d->index[at] = (uint32_t)entry + 1;
}

static bool grow_index(qn_jrun *run, qn_jdict *d)
{
    size_t cap = d->index_cap == 0 ? INDEX_MIN : d->index_cap * 2;
    uint32_t *index = cap <= UINT32_MAX / 4 ? qn_jalloc(run, cap * sizeof *index) : NULL;
    if (index == NULL) {
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "a dict of %zu entries is too large", d->n);
    }
    memset(index, 0, cap * sizeof *index);
    qn_jfree(run, d->index, d->index_cap * sizeof *index);
    d->index = index;
    d->index_cap = cap;
    for (size_t i = 0; i < d->n; i++) {
        index_entry(d, i);
    }
    return qn_jcharge(run, d->n);
}

bool qn_jdict_set(qn_jrun *run, qn_jdict *d, qn_jval key, qn_jval value)
{
    uint64_t hash = 0;
    size_t entry;
    if (!qn_jhash(run, key, &hash) || !find_entry(run, d, key, hash, &entry)) {
        goto fail;
    }
    if (entry != SIZE_MAX) {
        qn_jassign(run, &d->entries[entry].value, value);
        qn_jrelease(run, key);
        return true;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap < 4 ? 4 : d->cap * 2;
        qn_jentry *entries = qn_jrealloc(run, d->entries, d->cap * sizeof *entries, cap * sizeof *entries);
        if (entries == NULL) {
            goto fail;
        }
        d->entries = entries;
        d->cap = cap;
    }
    if (d->n + 1 > SMALL_DICT && (d->n + 1) * 2 > d->index_cap && !grow_index(run, d)) {
        goto fail;
    }
    d->entries[d->n] = (qn_jentry){.key = key, .value = value, .hash = hash};
    d->n++;
    if (d->index != NULL) {
        index_entry(d, d->n - 1);
    }
    return true;
fail:
    qn_jrelease(run, key);
    qn_jrelease(run, value);
    return false;
}

bool qn_jdict_copy(qn_jrun *run, const qn_jdict *from, qn_jdict *into)
{
    for (size_t i = 0; i < from->n; i++) {
        if (!qn_jcharge(run, 1) || !qn_jdict_set(run, into, qn_jretain(from->entries[i].key), qn_jretain(from->entries[i].value))) {
            return false;
        }
    }
    return true;
}

/* ---- equality and order ---- */

/* -1, 0, 1, or 2 where a NaN makes them unordered; exact also where a 64-bit integer does not fit a double. */
static int compare_numbers(qn_jval a, qn_jval b)
{
    if (qn_jis_int(a) && qn_jis_int(b)) {
        int64_t x = qn_jas_int(a), y = qn_jas_int(b);
        return x < y ? -1 : x > y;
    }
    if (a.kind == QN_JV_FLOAT && b.kind == QN_JV_FLOAT) {
        return isnan(a.u.d) || isnan(b.u.d) ? 2 : a.u.d < b.u.d ? -1 : a.u.d > b.u.d;
    }
    bool swapped = a.kind != QN_JV_FLOAT;
    double d = swapped ? b.u.d : a.u.d;
    int64_t i = qn_jas_int(swapped ? a : b);
    int order; /* of d against i */
    if (isnan(d)) {
        return 2;
    }
    if (d >= 9223372036854775808.0) {
        order = 1;
    } else if (d < -9223372036854775808.0) {
        order = -1;
    } else {
        double whole = floor(d);
        int64_t w = (int64_t)whole;
        order = w < i ? -1 : w > i ? 1 : d > whole;
    }
    return swapped ? -order : order;
}

static bool lists_equal(qn_jrun *run, const qn_jlist *a, const qn_jlist *b, bool *equal)
{
    *equal = a->n == b->n;
    for (size_t i = 0; *equal && i < a->n; i++) {
        if (!qn_jequal(run, a->items[i], b->items[i], equal)) {
            return false;
        }
    }
    return true;
}

static bool dicts_equal(qn_jrun *run, const qn_jdict *a, const qn_jdict *b, bool keys_only, bool *equal)
{
    *equal = a->n == b->n;
    for (size_t i = 0; *equal && i < a->n; i++) {
        size_t entry;
        if (!find_entry(run, b, a->entries[i].key, a->entries[i].hash, &entry)) {
            return false;
        }
        *equal = entry != SIZE_MAX;
        if (*equal && !keys_only && !qn_jequal(run, a->entries[i].value, b->entries[entry].value, equal)) {
            return false;
        }
    }
    return true;
}

static bool ranges_equal(const qn_jrange *a, const qn_jrange *b)
{
    return a->n == b->n && (a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step)));
}

static bool objects_equal(qn_jrun *run, qn_jval a, qn_jval b, bool *equal)
{
    *equal = a.u.obj == b.u.obj;
    if (*equal) {
        return true;
    }
    switch ((qn_jkind)a.kind) {
    case QN_JV_LIST:
    case QN_JV_TUPLE: return lists_equal(run, a.u.list, b.u.list, equal);
    case QN_JV_DICT: return dicts_equal(run, a.u.dict, b.u.dict, false, equal);
    case QN_JV_RANGE: *equal = ranges_equal((const qn_jrange *)a.u.obj, (const qn_jrange *)b.u.obj); return true;
    case QN_JV_VIEW: {
        const qn_jview *x = (const qn_jview *)a.u.obj, *y = (const qn_jview *)b.u.obj;
        bool sets = x->what == y->what && x->what != QN_VIEW_VALUES;
        return sets ? dicts_equal(run, x->dict, y->dict, x->what == QN_VIEW_KEYS, equal) : true;
    }
    case QN_JV_UNDEFINED: *equal = true; return true;
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT:
    case QN_JV_STRING:
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
    return true;
}

bool qn_jequal(qn_jrun *run, qn_jval a, qn_jval b, bool *equal)
{
    *equal = false;
    if (!qn_jcharge(run, 1)) {
        return false;
    }
    if (qn_jis_number(a) && qn_jis_number(b)) {
        *equal = compare_numbers(a, b) == 0;
        return true;
    }
    if (a.kind != b.kind) {
        return true;
    }
    if (a.kind == QN_JV_STRING) {
        *equal = same_text(a, b.u.str->data, b.u.str->len);
        return qn_jcharge_bytes(run, *equal ? a.u.str->len : 0);
    }
    if (a.kind == QN_JV_NONE) {
        *equal = true;
        return true;
    }
    if (!qn_jenter(run)) {
        return false;
    }
    bool ok = objects_equal(run, a, b, equal);
    qn_jleave(run);
    return ok;
}

static bool compare_lists(qn_jrun *run, const qn_jlist *a, const qn_jlist *b, const char *op, int *order)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        bool equal;
        if (!qn_jequal(run, a->items[i], b->items[i], &equal)) {
            return false;
        }
        if (!equal) {
            return qn_jcompare(run, a->items[i], b->items[i], op, order);
        }
    }
    *order = a->n < b->n ? -1 : a->n > b->n;
    return true;
}

bool qn_jcompare(qn_jrun *run, qn_jval a, qn_jval b, const char *op, int *order)
{
    if (!qn_jcharge(run, 1)) {
        return false;
    }
    if (qn_jis_number(a) && qn_jis_number(b)) {
        *order = compare_numbers(a, b);
        return true;
    }
    if (a.kind == QN_JV_STRING && b.kind == QN_JV_STRING) {
        size_t n = a.u.str->len < b.u.str->len ? a.u.str->len : b.u.str->len;
        int c = memcmp(a.u.str->data, b.u.str->data, n); /* the order of bytes is that of code points */
        *order = c != 0 ? (c < 0 ? -1 : 1) : a.u.str->len < b.u.str->len ? -1 : a.u.str->len > b.u.str->len;
        return qn_jcharge_bytes(run, n);
    }
    if (a.kind == b.kind && (a.kind == QN_JV_LIST || a.kind == QN_JV_TUPLE)) {
        if (!qn_jenter(run)) {
            return false;
        }
        bool ok = compare_lists(run, a.u.list, b.u.list, op, order);
        qn_jleave(run);
        return ok;
    }
    if (a.kind == QN_JV_UNDEFINED || b.kind == QN_JV_UNDEFINED) {
        return qn_jundefined_fail(run, a.kind == QN_JV_UNDEFINED ? a : b);
    }
    return qn_jfail(run, "'%s' not supported between instances of '%s' and '%s'", op, qn_jtype_name(a), qn_jtype_name(b));
}

/* ---- membership ---- */

static bool text_contains(qn_jrun *run, qn_jval haystack, qn_jval needle, bool *found)
{
    if (needle.kind != QN_JV_STRING) {
        return qn_jfail(run, "'in <string>' requires string as left operand, not %s", qn_jtype_name(needle));
    }
    qn_jfinder finder;
    if (!qn_jcharge_bytes(run, haystack.u.str->len) || !qn_jfinder_init(&finder, run, needle.u.str)) {
        return false;
    }
    *found = qn_jfinder_next(&finder, haystack.u.str->data, 0, haystack.u.str->len) != SIZE_MAX;
    qn_jfinder_deinit(&finder, run);
    return true;
}

static bool view_contains(qn_jrun *run, const qn_jview *view, qn_jval needle, bool *found)
{
    qn_jval *value;
    if (view->what == QN_VIEW_KEYS) {
        bool ok = qn_jdict_find(run, view->dict, needle, &value);
        *found = value != NULL;
        return ok;
    }
    if (view->what == QN_VIEW_ITEMS) {
        if (needle.kind != QN_JV_TUPLE || needle.u.list->n != 2) {
            return true;
        }
        return qn_jdict_find(run, view->dict, needle.u.list->items[0], &value) &&
               (value == NULL || qn_jequal(run, *value, needle.u.list->items[1], found));
    }
    for (size_t i = 0; !*found && i < view->dict->n; i++) {
        if (!qn_jequal(run, view->dict->entries[i].value, needle, found)) {
            return false;
        }
    }
    return true;
}

static bool range_contains(const qn_jrange *r, qn_jval needle)
{
    int64_t i;
    if (qn_jis_int(needle)) {
        i = qn_jas_int(needle);
    } else if (needle.kind == QN_JV_FLOAT && needle.u.d == floor(needle.u.d) && fabs(needle.u.d) < 9.2e18) {
        i = (int64_t)needle.u.d;
    } else {
        return false;
    }
    bool inside = r->step > 0 ? i >= r->start && i < r->stop : i <= r->start && i > r->stop;
    uint64_t away = r->step > 0 ? (uint64_t)i - (uint64_t)r->start : (uint64_t)r->start - (uint64_t)i;
    uint64_t step = r->step > 0 ? (uint64_t)r->step : 0 - (uint64_t)r->step;
    return inside && away % step == 0;
}

/* Consumes the iterator up to the match, as Python does. */
static bool iter_contains(qn_jrun *run, qn_jval haystack, qn_jval needle, bool *found)
{
    qn_jval item;
    int more = 0;
    while (!*found && (more = qn_jiter_next(run, haystack.u.iter, &item)) == 1) {
        bool ok = qn_jequal(run, item, needle, found);
        qn_jrelease(run, item);
        if (!ok) {
            return false;
        }
    }
    return more >= 0;
}

bool qn_jcontains(qn_jrun *run, qn_jval haystack, qn_jval needle, bool *found)
{
    *found = false;
    switch ((qn_jkind)haystack.kind) {
    case QN_JV_STRING: return text_contains(run, haystack, needle, found);
    case QN_JV_LIST:
    case QN_JV_TUPLE:
        for (size_t i = 0; !*found && i < haystack.u.list->n; i++) {
            if (!qn_jequal(run, haystack.u.list->items[i], needle, found)) {
                return false;
            }
        }
        return true;
    case QN_JV_DICT: {
        qn_jval *value;
        bool ok = qn_jdict_find(run, haystack.u.dict, needle, &value);
        *found = value != NULL;
        return ok;
    }
    case QN_JV_VIEW: return view_contains(run, (const qn_jview *)haystack.u.obj, needle, found);
    case QN_JV_RANGE: *found = range_contains((const qn_jrange *)haystack.u.obj, needle); return true;
    case QN_JV_ITER: return iter_contains(run, haystack, needle, found);
    case QN_JV_UNDEFINED: return true;
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT:
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
    return qn_jfail(run, "argument of type '%s' is not iterable", qn_jtype_name(haystack));
}
