/* jinja_text.c - algorithms on strings that both methods and filters use: case, strip, replace, split, join.
 *
 * Invariant: every character of a result has the mark of the character it was made from.
 */
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_run.h"
#include "text/unicode_props.h"

size_t qn_jstr_char(const qn_jstr *s, size_t at, uint32_t *cp) { return qn_utf8_decode(s->data + at, s->len - at, cp); }

/* Begin of the character that ends at byte `end`. */
static size_t char_before(const qn_jstr *s, size_t end)
{
    do {
        end--;
    } while (end > 0 && ((uint8_t)s->data[end] & 0xc0u) == 0x80u);
    return end;
}

/* ---- case ---- */

/* True for a capital sigma at byte `at` that ends a word: something with case before it, nothing with case behind. */
static bool is_final_sigma(const qn_jstr *s, size_t at)
{
    uint32_t cp;
    size_t i = at, next = at + 2; /* U+03A3 has two bytes */
    bool cased_before = false;
    while (i > 0) {
        i = char_before(s, i);
        (void)qn_jstr_char(s, i, &cp);
        uint32_t props = qn_unicode_props(cp);
        if ((props & QN_UNICODE_CASE_IGNORABLE) == 0) {
            cased_before = (props & QN_UNICODE_CASED) != 0;
            break;
        }
    }
    while (cased_before && next < s->len) {
        next += qn_jstr_char(s, next, &cp);
        uint32_t props = qn_unicode_props(cp);
        if ((props & QN_UNICODE_CASE_IGNORABLE) == 0) {
            return (props & QN_UNICODE_CASED) == 0;
        }
    }
    return cased_before;
}

static size_t map_lower(const qn_jstr *s, size_t at, uint32_t cp, uint32_t out[3])
{
    if (cp == 0x3a3u) {
        out[0] = is_final_sigma(s, at) ? 0x3c2u : 0x3c3u;
        return 1;
    }
    return qn_unicode_map_case(cp, QN_CASE_LOWER, out);
}

static size_t map_char(const qn_jstr *s, size_t at, uint32_t cp, qn_jcase_change change, bool *after_cased, uint32_t out[3])
{
    uint32_t props;
    switch (change) {
    case QN_TO_UPPER: return qn_unicode_map_case(cp, QN_CASE_UPPER, out);
    case QN_TO_LOWER: return map_lower(s, at, cp, out);
    case QN_TO_FOLDED: return qn_unicode_map_case(cp, QN_CASE_FOLD, out);
    case QN_TO_CAPITALIZED: return at == 0 ? qn_unicode_map_case(cp, QN_CASE_TITLE, out) : map_lower(s, at, cp, out);
    case QN_TO_TITLE: {
        bool first = !*after_cased;
        *after_cased = (qn_unicode_props(cp) & QN_UNICODE_CASED) != 0;
        return first ? qn_unicode_map_case(cp, QN_CASE_TITLE, out) : map_lower(s, at, cp, out);
    }
    case QN_TO_SWAPPED: break;
    }
    props = qn_unicode_props(cp);
    if ((props & QN_UNICODE_UPPER) != 0) {
        return map_lower(s, at, cp, out);
    }
    if ((props & QN_UNICODE_LOWER) != 0) {
        return qn_unicode_map_case(cp, QN_CASE_UPPER, out);
    }
    out[0] = cp;
    return 1;
}

bool qn_jstr_change_case(qn_jrun *run, qn_jstr *s, qn_jcase_change change, qn_jval *out)
{
    qn_jbuf b;
    char chunk[128];
    bool ok = qn_jcharge(run, s->len / 4), after_cased = false;
    qn_jbuf_init(&b, run);
    ok = ok && qn_jbuf_reserve(&b, s->len);
    for (size_t from = 0, end; ok && from < s->len; from = end) {
        bool content;
        size_t n = 0;
        end = qn_jstr_run(s, from, &content);
        for (size_t at = from; ok && at < end;) {
            uint32_t cp, mapped[3];
            size_t len = qn_jstr_char(s, at, &cp), count = map_char(s, at, cp, change, &after_cased, mapped);
            if (n + 12 > sizeof chunk) {
                ok = qn_jbuf_append(&b, chunk, n, content);
                n = 0;
            }
            for (size_t i = 0; i < count; i++) {
                n += qn_utf8_encode(mapped[i], chunk + n);
            }
            at += len;
        }
        ok = ok && qn_jbuf_append(&b, chunk, n, content);
    }
    ok = ok && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = s->markup;
    }
    qn_jbuf_deinit(&b);
    return ok;
}

bool qn_jignore_case(qn_jrun *run, qn_jval v, qn_jval *out)
{
    if (v.kind == QN_JV_STRING) {
        return qn_jstr_change_case(run, v.u.str, QN_TO_LOWER, out);
    }
    *out = qn_jretain(v);
    return true;
}

/* ---- strip ---- */

static bool in_set(const qn_jstr *set, uint32_t cp)
{
    if (set == NULL) {
        return qn_unicode_is_space(cp);
    }
    for (size_t at = 0; at < set->len;) {
        uint32_t member;
        at += qn_jstr_char(set, at, &member);
        if (member == cp) {
            return true;
        }
    }
    return false;
}

bool qn_jstr_strip(qn_jrun *run, qn_jstr *s, qn_jval chars, int sides, qn_jval *out)
{
    const qn_jstr *set = NULL;
    if (qn_jarg_given(chars)) {
        if (chars.kind != QN_JV_STRING) {
            return qn_jfail(run, "strip arg must be None or str, not %s", qn_jtype_name(chars));
        }
        set = chars.u.str;
    }
    uint64_t cost = set != NULL ? 1 + set->len / 8 : 1;
    size_t from = 0, to = s->len;
    uint32_t cp;
    while ((sides & QN_STRIP_LEFT) != 0 && from < to) {
        size_t n = qn_jstr_char(s, from, &cp);
        if (!in_set(set, cp)) {
            break;
        }
        from += n;
        if (!qn_jcharge(run, cost)) {
            return false;
        }
    }
    while ((sides & QN_STRIP_RIGHT) != 0 && to > from) {
        size_t begin = char_before(s, to);
        (void)qn_jstr_char(s, begin, &cp);
        if (!in_set(set, cp)) {
            break;
        }
        to = begin;
        if (!qn_jcharge(run, cost)) {
            return false;
        }
    }
    return qn_jstr_slice(run, s, from, to, out);
}

/* ---- replace ---- */

/* An empty `from` matches before every character and at the end. */
static bool insert_between(qn_jrun *run, qn_jbuf *b, const qn_jstr *s, const qn_jstr *to, int64_t count)
{
    size_t at = 0;
    bool ok = true;
    while (ok && count != 0) {
        ok = qn_jcharge(run, 1) && qn_jbuf_append_str(b, to);
        count -= count > 0;
        if (at == s->len) {
            return ok;
        }
        uint32_t cp;
        size_t n = qn_jstr_char(s, at, &cp);
        ok = ok && qn_jbuf_append_slice(b, s, at, at + n);
        at += n;
    }
    return ok && qn_jbuf_append_slice(b, s, at, s->len);
}

bool qn_jstr_replace(qn_jrun *run, qn_jstr *s, qn_jstr *from, qn_jstr *to, int64_t count, qn_jval *out)
{
    qn_jbuf b;
    qn_jfinder finder;
    if (!qn_jcharge_bytes(run, s->len) || !qn_jfinder_init(&finder, run, from)) {
        return false;
    }
    qn_jbuf_init(&b, run);
    bool ok = true;
    if (from->len == 0) {
        ok = insert_between(run, &b, s, to, count);
    } else {
        size_t at = 0, found;
        while (ok && count != 0 && (found = qn_jfinder_next(&finder, s->data, at, s->len)) != SIZE_MAX) {
            ok = qn_jcharge(run, 1) && qn_jbuf_append_slice(&b, s, at, found) && qn_jbuf_append_str(&b, to);
            at = found + from->len;
            count -= count > 0;
        }
        ok = ok && qn_jbuf_append_slice(&b, s, at, s->len);
    }
    qn_jfinder_deinit(&finder, run);
    ok = ok && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = s->markup;
    }
    qn_jbuf_deinit(&b);
    return ok;
}

/* ---- split ---- */

static bool push_slice(qn_jrun *run, qn_jlist *list, qn_jstr *s, size_t from, size_t to)
{
    qn_jval part;
    return qn_jcharge(run, 1) && qn_jstr_slice(run, s, from, to, &part) && qn_jlist_push(run, list, part);
}

static bool is_line_end(uint32_t cp)
{
    return (cp >= 0x0au && cp <= 0x0du) || (cp >= 0x1cu && cp <= 0x1eu) || cp == 0x85u || cp == 0x2028u || cp == 0x2029u;
}

void qn_jstr_line(const qn_jstr *s, size_t from, size_t *end, size_t *next)
{
    size_t at = from, n = 0;
    uint32_t cp = 0;
    while (at < s->len) {
        n = qn_jstr_char(s, at, &cp);
        if (is_line_end(cp)) {
            break;
        }
        at += n;
    }
    *end = at;
    *next = at < s->len ? at + n : at;
    if (at < s->len && cp == '\r' && *next < s->len && s->data[*next] == '\n') {
        (*next)++;
    }
}

bool qn_jstr_split_lines(qn_jrun *run, qn_jstr *s, bool keep_ends, qn_jval *out)
{
    if (!qn_jcharge(run, s->len / 8) || !qn_jlist_new(run, QN_JV_LIST, 0, out)) {
        return false;
    }
    bool ok = true;
    for (size_t from = 0, end, next; ok && from < s->len; from = next) {
        qn_jstr_line(s, from, &end, &next);
        ok = push_slice(run, out->u.list, s, from, keep_ends ? next : end);
    }
    if (!ok) {
        qn_jrelease(run, *out);
    }
    return ok;
}

bool qn_jstr_split_space(qn_jrun *run, qn_jstr *s, int64_t max_splits, qn_jval *out)
{
    size_t at = 0;
    if (!qn_jcharge(run, s->len / 8) || !qn_jlist_new(run, QN_JV_LIST, 0, out)) {
        return false;
    }
    bool ok = true;
    while (ok) {
        uint32_t cp;
        size_t n;
        while (at < s->len && (n = qn_jstr_char(s, at, &cp), qn_unicode_is_space(cp))) {
            at += n;
        }
        if (at == s->len) {
            break;
        }
        size_t end = at;
        if (max_splits == 0) { /* the rest, with the white space at its end */
            end = s->len;
        }
        while (end < s->len && (n = qn_jstr_char(s, end, &cp), !qn_unicode_is_space(cp))) {
            end += n;
        }
        ok = push_slice(run, out->u.list, s, at, end);
        at = end;
        max_splits -= max_splits > 0;
    }
    if (!ok) {
        qn_jrelease(run, *out);
    }
    return ok;
}

/* ---- join and center ---- */

static bool join_item(qn_jrun *run, qn_jbuf *b, qn_jval item, size_t index, bool to_text, bool markup)
{
    if (!to_text && item.kind != QN_JV_STRING && !markup) {
        return qn_jfail(run, "sequence item %zu: expected str instance, %s found", index, qn_jtype_name(item));
    }
    if (!markup) {
        return qn_jbuf_append_value(b, item);
    }
    qn_jval escaped;
    if (!qn_jescape(run, item, &escaped)) {
        return false;
    }
    bool ok = qn_jbuf_append_str(b, escaped.u.str);
    qn_jrelease(run, escaped);
    return ok;
}

bool qn_jstr_join(qn_jrun *run, qn_jstr *separator, qn_jval iterable, bool to_text, qn_jval *out)
{
    qn_jval iterator, item;
    if (!qn_jiter_new(run, iterable, &iterator)) {
        return false;
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = true, markup = separator->markup && !to_text;
    size_t index = 0;
    int more = 0;
    while (ok && (more = qn_jiter_next(run, iterator.u.iter, &item)) == 1) {
        ok = (index == 0 || qn_jbuf_append_str(&b, separator)) && join_item(run, &b, item, index, to_text, markup);
        qn_jrelease(run, item);
        index++;
    }
    ok = ok && more == 0 && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = markup;
    }
    qn_jbuf_deinit(&b);
    qn_jrelease(run, iterator);
    return ok;
}

bool qn_jstr_center(qn_jrun *run, qn_jstr *s, int64_t width, qn_jval fill, qn_jval *out)
{
    if (width <= 0 || (uint64_t)width <= s->n_chars) {
        *out = qn_jretain(qn_jobject(s));
        return true;
    }
    uint64_t margin = (uint64_t)width - s->n_chars;
    /* an odd blank goes to the left only in a field of odd width */
    uint64_t left = margin / 2 + (margin & (uint64_t)width & 1u);
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = fill.kind == QN_JV_STRING
                  ? qn_jbuf_append_repeated(&b, fill.u.str, left) && qn_jbuf_append_str(&b, s) &&
                        qn_jbuf_append_repeated(&b, fill.u.str, margin - left)
                  : qn_jbuf_append_spaces(&b, left) && qn_jbuf_append_str(&b, s) && qn_jbuf_append_spaces(&b, margin - left);
    ok = ok && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = s->markup;
    }
    qn_jbuf_deinit(&b);
    return ok;
}
