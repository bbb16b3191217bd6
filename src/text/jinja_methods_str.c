/* jinja_methods_str.c - the methods of str that cut, find, join and change text.
 *
 * Tables are sorted by name. args[0] is the string itself. Positions and lengths are in characters.
 */
#include <string.h>

#include "base/alloc.h"
#include "text/jinja_run.h"
#include "text/unicode_props.h"

bool qn_jarg_int(qn_jrun *run, qn_jval v, int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (v.kind == QN_JV_MISSING) {
        return true;
    }
    if (v.kind == QN_JV_UNDEFINED) {
        return qn_jundefined_fail(run, v);
    }
    if (!qn_jis_int(v)) {
        return qn_jfail(run, "'%s' object cannot be interpreted as an integer", qn_jtype_name(v));
    }
    *out = qn_jas_int(v);
    return true;
}

bool qn_jarg_str(qn_jrun *run, qn_jval v, const char *what, qn_jstr **out)
{
    *out = NULL;
    if (v.kind == QN_JV_UNDEFINED) {
        return qn_jundefined_fail(run, v);
    }
    if (v.kind != QN_JV_STRING) {
        return qn_jfail(run, "%s must be str, not %s", what, qn_jtype_name(v));
    }
    *out = v.u.str;
    return true;
}

/* ---- case ---- */

static bool m_capitalize(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    return qn_jstr_change_case(run, a[0].u.str, QN_TO_CAPITALIZED, out);
}
static bool m_casefold(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jstr_change_case(run, a[0].u.str, QN_TO_FOLDED, out); }
static bool m_lower(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jstr_change_case(run, a[0].u.str, QN_TO_LOWER, out); }
static bool m_swapcase(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jstr_change_case(run, a[0].u.str, QN_TO_SWAPPED, out); }
static bool m_title(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jstr_change_case(run, a[0].u.str, QN_TO_TITLE, out); }
static bool m_upper(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jstr_change_case(run, a[0].u.str, QN_TO_UPPER, out); }

/* ---- strip ---- */

static bool m_strip(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    return qn_jstr_strip(run, a[0].u.str, a[1], QN_STRIP_LEFT | QN_STRIP_RIGHT, out);
}
static bool m_lstrip(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jstr_strip(run, a[0].u.str, a[1], QN_STRIP_LEFT, out); }
static bool m_rstrip(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jstr_strip(run, a[0].u.str, a[1], QN_STRIP_RIGHT, out); }

static bool has_text_at(const qn_jstr *s, size_t from, size_t to, const qn_jstr *part, bool at_end)
{
    return to - from >= part->len && memcmp(s->data + (at_end ? to - part->len : from), part->data, part->len) == 0;
}

static bool m_removeprefix(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *s = a[0].u.str, *part;
    return qn_jarg_str(run, a[1], "removeprefix() argument", &part) &&
           qn_jstr_slice(run, s, has_text_at(s, 0, s->len, part, false) ? part->len : 0, s->len, out);
}

static bool m_removesuffix(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *s = a[0].u.str, *part;
    return qn_jarg_str(run, a[1], "removesuffix() argument", &part) &&
           qn_jstr_slice(run, s, 0, s->len - (has_text_at(s, 0, s->len, part, true) ? part->len : 0), out);
}

/* ---- find ---- */

/* Byte range of the characters [start, end) as Python clips them; false if it is empty in a way that nothing is found. */
static bool bounds(qn_jrun *run, const qn_jstr *s, qn_jval start, qn_jval end, size_t *from, size_t *to, bool *valid)
{
    int64_t n = (int64_t)s->n_chars, i, j;
    qn_jval none = qn_jmissing();
    if (!qn_jarg_int(run, start.kind == QN_JV_NONE ? none : start, 0, &i) ||
        !qn_jarg_int(run, end.kind == QN_JV_NONE ? none : end, n, &j)) {
        return false;
    }
    j = j > n ? n : j < 0 ? j + n : j;
    j = j < 0 ? 0 : j;
    i = i < 0 ? i + n : i;
    i = i < 0 ? 0 : i;
    *valid = i <= j;
    *from = *valid ? qn_jstr_offset(s, (size_t)i) : 0;
    *to = *valid ? qn_jstr_offset(s, (size_t)j) : 0;
    return true;
}

/* Character position of the first or last match, -1 if there is none. */
static bool find_in(qn_jrun *run, const qn_jval *a, bool last, int64_t *position)
{
    qn_jstr *s = a[0].u.str, *part;
    size_t from, to, found = SIZE_MAX;
    bool valid;
    qn_jfinder finder;
    if (!qn_jarg_str(run, a[1], "argument", &part) || !bounds(run, s, a[2], a[3], &from, &to, &valid) ||
        !qn_jcharge_bytes(run, s->len * 2) || !qn_jfinder_init(&finder, run, part)) {
        return false;
    }
    if (valid) {
        found = last ? qn_jfinder_last(&finder, s->data, from, to) : qn_jfinder_next(&finder, s->data, from, to);
    }
    qn_jfinder_deinit(&finder, run);
    *position = found == SIZE_MAX ? -1 : (int64_t)qn_jstr_count_chars(s, 0, found);
    return true;
}

static bool find_result(qn_jrun *run, const qn_jval *a, bool last, bool must, qn_jval *out)
{
    int64_t position;
    if (!find_in(run, a, last, &position)) {
        return false;
    }
    if (must && position < 0) {
        return qn_jfail(run, "substring not found");
    }
    *out = qn_jint(position);
    return true;
}

static bool m_find(qn_jrun *run, const qn_jval *a, qn_jval *out) { return find_result(run, a, false, false, out); }
static bool m_index(qn_jrun *run, const qn_jval *a, qn_jval *out) { return find_result(run, a, false, true, out); }
static bool m_rfind(qn_jrun *run, const qn_jval *a, qn_jval *out) { return find_result(run, a, true, false, out); }
static bool m_rindex(qn_jrun *run, const qn_jval *a, qn_jval *out) { return find_result(run, a, true, true, out); }

static bool m_count(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *s = a[0].u.str, *part;
    size_t from, to;
    bool valid;
    qn_jfinder finder;
    if (!qn_jarg_str(run, a[1], "argument", &part) || !bounds(run, s, a[2], a[3], &from, &to, &valid) ||
        !qn_jcharge_bytes(run, s->len * 2) || !qn_jfinder_init(&finder, run, part)) {
        return false;
    }
    int64_t n = 0;
    if (valid && part->len == 0) {
        n = (int64_t)qn_jstr_count_chars(s, from, to) + 1;
    } else if (valid) {
        size_t found;
        while ((found = qn_jfinder_next(&finder, s->data, from, to)) != SIZE_MAX) {
            n++;
            from = found + part->len;
        }
    }
    qn_jfinder_deinit(&finder, run);
    *out = qn_jint(n);
    return qn_jcharge(run, (uint64_t)n / 8);
}

/* startswith and endswith, with one string or a tuple of them. */
static bool affix(qn_jrun *run, const qn_jval *a, bool at_end, qn_jval *out)
{
    const qn_jstr *s = a[0].u.str;
    size_t from, to, n = 1;
    bool valid, result = false;
    const qn_jval *parts = &a[1];
    if (!bounds(run, s, a[2], a[3], &from, &to, &valid)) {
        return false;
    }
    if (a[1].kind == QN_JV_TUPLE) {
        parts = a[1].u.list->items;
        n = a[1].u.list->n;
    }
    for (size_t i = 0; i < n && !result; i++) {
        qn_jstr *part;
        if (!qn_jarg_str(run, parts[i], at_end ? "endswith first arg" : "startswith first arg", &part) || !qn_jcharge(run, 1) ||
            !qn_jcharge_bytes(run, part->len)) {
            return false;
        }
        result = valid && has_text_at(s, from, to, part, at_end);
    }
    *out = qn_jbool(result);
    return true;
}

static bool m_startswith(qn_jrun *run, const qn_jval *a, qn_jval *out) { return affix(run, a, false, out); }
static bool m_endswith(qn_jrun *run, const qn_jval *a, qn_jval *out) { return affix(run, a, true, out); }

/* ---- split ---- */

static bool push_part(qn_jrun *run, qn_jlist *list, qn_jstr *s, size_t from, size_t to)
{
    qn_jval part;
    return qn_jcharge(run, 1) && qn_jstr_slice(run, s, from, to, &part) && qn_jlist_push(run, list, part);
}

static void reverse_items(qn_jlist *list)
{
    for (size_t i = 0; i < list->n / 2; i++) {
        qn_jval swap = list->items[i];
        list->items[i] = list->items[list->n - 1 - i];
        list->items[list->n - 1 - i] = swap;
    }
}

static bool split_by(qn_jrun *run, qn_jstr *s, qn_jstr *separator, int64_t max_splits, bool from_right, qn_jlist *list)
{
    qn_jfinder finder;
    if (separator->len == 0) {
        return qn_jfail(run, "empty separator");
    }
    if (!qn_jcharge_bytes(run, s->len) || !qn_jfinder_init(&finder, run, separator)) {
        return false;
    }
    size_t at = 0, end = s->len, found;
    bool ok = true;
    while (ok && max_splits != 0) {
        found = from_right ? qn_jfinder_last(&finder, s->data, 0, end) : qn_jfinder_next(&finder, s->data, at, end);
        if (found == SIZE_MAX) {
            break;
        }
        if (from_right) {
            ok = push_part(run, list, s, found + separator->len, end);
            /* a long needle is searched from the front each time */
            ok = ok && (finder.fail == NULL || qn_jcharge_bytes(run, end));
            end = found;
        } else {
            ok = push_part(run, list, s, at, found);
            at = found + separator->len;
        }
        max_splits -= max_splits > 0;
    }
    qn_jfinder_deinit(&finder, run);
    return ok && push_part(run, list, s, at, end);
}

/* rsplit without separator: words from the right, the rest keeps its leading white space. */
static bool rsplit_space(qn_jrun *run, qn_jstr *s, int64_t max_splits, qn_jlist *list)
{
    size_t end = s->len;
    for (;;) {
        uint32_t cp = 0;
        size_t begin = end;
        while (end > 0) {
            begin = end - 1;
            while (begin > 0 && ((uint8_t)s->data[begin] & 0xc0u) == 0x80u) {
                begin--;
            }
            (void)qn_jstr_char(s, begin, &cp);
            if (!qn_unicode_is_space(cp)) {
                break;
            }
            end = begin;
        }
        if (end == 0) {
            return true;
        }
        begin = max_splits == 0 ? 0 : end;
        while (begin > 0) {
            size_t before = begin - 1;
            while (before > 0 && ((uint8_t)s->data[before] & 0xc0u) == 0x80u) {
                before--;
            }
            (void)qn_jstr_char(s, before, &cp);
            if (qn_unicode_is_space(cp)) {
                break;
            }
            begin = before;
        }
        if (!push_part(run, list, s, begin, end)) {
            return false;
        }
        end = begin;
        max_splits -= max_splits > 0;
    }
}

static bool split(qn_jrun *run, const qn_jval *a, bool from_right, qn_jval *out)
{
    int64_t max_splits;
    if (!qn_jarg_int(run, a[2], -1, &max_splits)) {
        return false;
    }
    max_splits = max_splits < 0 ? -1 : max_splits;
    if (!qn_jarg_given(a[1]) && !from_right) {
        return qn_jstr_split_space(run, a[0].u.str, max_splits, out);
    }
    qn_jstr *separator = NULL;
    if (qn_jarg_given(a[1]) && !qn_jarg_str(run, a[1], "separator", &separator)) {
        return false;
    }
    if (!qn_jlist_new(run, QN_JV_LIST, 0, out)) {
        return false;
    }
    bool ok = separator != NULL ? split_by(run, a[0].u.str, separator, max_splits, from_right, out->u.list)
                                : qn_jcharge(run, a[0].u.str->len / 8) && rsplit_space(run, a[0].u.str, max_splits, out->u.list);
    if (!ok) {
        qn_jrelease(run, *out);
        return false;
    }
    if (from_right) {
        reverse_items(out->u.list);
    }
    return true;
}

static bool m_split(qn_jrun *run, const qn_jval *a, qn_jval *out) { return split(run, a, false, out); }
static bool m_rsplit(qn_jrun *run, const qn_jval *a, qn_jval *out) { return split(run, a, true, out); }
static bool m_splitlines(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    return qn_jstr_split_lines(run, a[0].u.str, qn_jtruth(a[1]), out);
}

static bool partition(qn_jrun *run, const qn_jval *a, bool last, qn_jval *out)
{
    qn_jstr *s = a[0].u.str, *separator;
    qn_jfinder finder;
    if (!qn_jarg_str(run, a[1], "separator", &separator)) {
        return false;
    }
    if (separator->len == 0) {
        return qn_jfail(run, "empty separator");
    }
    if (!qn_jcharge_bytes(run, s->len) || !qn_jfinder_init(&finder, run, separator)) {
        return false;
    }
    size_t found = last ? qn_jfinder_last(&finder, s->data, 0, s->len) : qn_jfinder_next(&finder, s->data, 0, s->len);
    qn_jfinder_deinit(&finder, run);
    if (!qn_jlist_new(run, QN_JV_TUPLE, 3, out)) {
        return false;
    }
    bool hit = found != SIZE_MAX;
    size_t before = hit ? found : last ? 0 : s->len, after = hit ? found + separator->len : last ? 0 : s->len;
    qn_jval middle = qn_jmissing();
    bool ok = push_part(run, out->u.list, s, 0, before) &&
              (hit ? push_part(run, out->u.list, s, found, after)
                   : qn_jstr_new(run, "", 0, false, &middle) && qn_jlist_push(run, out->u.list, middle)) &&
              push_part(run, out->u.list, s, after, s->len);
    if (!ok) {
        qn_jrelease(run, *out);
    }
    return ok;
}

static bool m_partition(qn_jrun *run, const qn_jval *a, qn_jval *out) { return partition(run, a, false, out); }
static bool m_rpartition(qn_jrun *run, const qn_jval *a, qn_jval *out) { return partition(run, a, true, out); }

/* ---- join, replace, format ---- */

static bool m_join(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jstr_join(run, a[0].u.str, a[1], false, out); }

static bool m_replace(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *from, *to;
    int64_t count;
    if (!qn_jarg_str(run, a[1], "replace() argument 1", &from) || !qn_jarg_str(run, a[2], "replace() argument 2", &to) ||
        !qn_jarg_int(run, a[3], -1, &count)) {
        return false;
    }
    if (!a[0].u.str->markup) {
        return qn_jstr_replace(run, a[0].u.str, from, to, count, out);
    }
    qn_jval escaped;
    if (!qn_jescape(run, a[2], &escaped)) {
        return false;
    }
    bool ok = qn_jstr_replace(run, a[0].u.str, from, escaped.u.str, count, out);
    qn_jrelease(run, escaped);
    return ok;
}

static bool m_format(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    return qn_jformat_braces(run, self.u.str, args, qn_jmissing(), out);
}

static bool m_format_map(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jformat_braces(run, a[0].u.str, NULL, a[1], out); }

static bool m_encode(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    (void)self;
    (void)args;
    (void)out;
    return qn_jfail_status(run, QUERN_ERROR_UNSUPPORTED, "str.encode(): bytes are not supported in templates");
}

static const qn_jbuiltin ROWS[] = {
    {"capitalize", "self", 0, true, m_capitalize, NULL},
    {"casefold", "self", 0, true, m_casefold, NULL},
    {"count", "self,sub,start,end", 1, true, m_count, NULL},
    {"encode", NULL, 0, false, NULL, m_encode},
    {"endswith", "self,suffix,start,end", 1, true, m_endswith, NULL},
    {"find", "self,sub,start,end", 1, true, m_find, NULL},
    {"format", NULL, 0, false, NULL, m_format},
    {"format_map", "self,mapping", 1, true, m_format_map, NULL},
    {"index", "self,sub,start,end", 1, true, m_index, NULL},
    {"join", "self,iterable", 1, true, m_join, NULL},
    {"lower", "self", 0, true, m_lower, NULL},
    {"lstrip", "self,chars", 0, true, m_lstrip, NULL},
    {"partition", "self,sep", 1, true, m_partition, NULL},
    {"removeprefix", "self,prefix", 1, true, m_removeprefix, NULL},
    {"removesuffix", "self,suffix", 1, true, m_removesuffix, NULL},
    {"replace", "self,old,new,count", 2, true, m_replace, NULL},
    {"rfind", "self,sub,start,end", 1, true, m_rfind, NULL},
    {"rindex", "self,sub,start,end", 1, true, m_rindex, NULL},
    {"rpartition", "self,sep", 1, true, m_rpartition, NULL},
    {"rsplit", "self,sep,maxsplit", 0, false, m_rsplit, NULL},
    {"rstrip", "self,chars", 0, true, m_rstrip, NULL},
    {"split", "self,sep,maxsplit", 0, false, m_split, NULL},
    {"splitlines", "self,keepends", 0, false, m_splitlines, NULL},
    {"startswith", "self,prefix,start,end", 1, true, m_startswith, NULL},
    {"strip", "self,chars", 0, true, m_strip, NULL},
    {"swapcase", "self", 0, true, m_swapcase, NULL},
    {"title", "self", 0, true, m_title, NULL},
    {"upper", "self", 0, true, m_upper, NULL},
};
const qn_jtable qn_jmethods_str = {ROWS, sizeof ROWS / sizeof ROWS[0]};
