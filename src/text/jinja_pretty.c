/* jinja_pretty.c - the pprint filter: repr() broken into lines of at most 80 characters, keys of dicts in order. */
#include <string.h>

#include "text/jinja_run.h"
#include "text/unicode_props.h"

enum { WIDTH = 80 };

/* Numbers of a dict's entries, sorted if all keys are strings. Free with qn_jfree(order, (n + 1) * 4). */
static bool key_order(qn_jrun *run, const qn_jdict *d, uint32_t **out)
{
    uint32_t *order = d->n < UINT32_MAX ? qn_jalloc(run, (d->n + 1) * sizeof *order) : NULL;
    qn_jval keys;
    if (order == NULL || !qn_jlist_new(run, QN_JV_LIST, d->n, &keys)) {
        qn_jfree(run, order, (d->n + 1) * sizeof *order);
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "a dict is too large to be printed");
    }
    bool strings = true, ok = true;
    for (size_t i = 0; i < d->n; i++) {
        order[i] = (uint32_t)i;
        strings = strings && d->entries[i].key.kind == QN_JV_STRING;
        keys.u.list->items[keys.u.list->n++] = qn_jretain(d->entries[i].key);
    }
    if (strings) {
        ok = qn_jsort(run, keys.u.list->items, d->n, false, order);
    }
    qn_jrelease(run, keys);
    if (!ok) {
        qn_jfree(run, order, (d->n + 1) * sizeof *order);
        order = NULL;
    }
    *out = order;
    return ok;
}

static bool append_sorted_repr(qn_jbuf *b, qn_jval v);

static bool append_sorted_dict(qn_jbuf *b, const qn_jdict *d)
{
    uint32_t *order;
    if (!key_order(b->run, d, &order)) {
        return false;
    }
    bool ok = qn_jbuf_append_char(b, '{', false);
    for (size_t i = 0; ok && i < d->n; i++) {
        const qn_jentry *e = &d->entries[order[i]];
        ok = (i == 0 || qn_jbuf_append(b, ", ", 2, false)) && append_sorted_repr(b, e->key) && qn_jbuf_append(b, ": ", 2, false) &&
             append_sorted_repr(b, e->value);
    }
    qn_jfree(b->run, order, (d->n + 1) * sizeof *order);
    return ok && qn_jbuf_append_char(b, '}', false);
}

static bool append_sorted_repr(qn_jbuf *b, qn_jval v)
{
    if (v.kind != QN_JV_LIST && v.kind != QN_JV_TUPLE && v.kind != QN_JV_DICT) {
        return qn_jbuf_append_repr(b, v);
    }
    if (!qn_jcharge(b->run, 1) || !qn_jenter(b->run)) {
        return false;
    }
    bool ok;
    if (v.kind == QN_JV_DICT) {
        ok = append_sorted_dict(b, v.u.dict);
    } else {
        const qn_jlist *list = v.u.list;
        ok = qn_jbuf_append_char(b, v.kind == QN_JV_LIST ? '[' : '(', false);
        for (size_t i = 0; ok && i < list->n; i++) {
            ok = (i == 0 || qn_jbuf_append(b, ", ", 2, false)) && append_sorted_repr(b, list->items[i]);
        }
        ok = ok && qn_jbuf_append_text(b, v.kind == QN_JV_LIST ? "]" : list->n == 1 ? ",)" : ")", false);
    }
    qn_jleave(b->run);
    return ok;
}

static bool sorted_repr(qn_jrun *run, qn_jval v, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = append_sorted_repr(&b, v) && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

static bool put(qn_jbuf *b, qn_jval v, size_t indent, size_t allowance, int level);

static bool put_items(qn_jbuf *b, const qn_jlist *list, size_t indent, size_t allowance, int level)
{
    bool ok = true;
    indent++;
    for (size_t i = 0; ok && i < list->n; i++) {
        ok = (i == 0 || (qn_jbuf_append(b, ",\n", 2, false) && qn_jbuf_append_spaces(b, indent))) &&
             put(b, list->items[i], indent, i + 1 == list->n ? allowance : 1, level);
    }
    return ok;
}

static bool put_dict(qn_jbuf *b, const qn_jdict *d, size_t indent, size_t allowance, int level)
{
    uint32_t *order;
    if (!key_order(b->run, d, &order)) {
        return false;
    }
    bool ok = qn_jbuf_append_char(b, '{', false);
    indent++;
    for (size_t i = 0; ok && i < d->n; i++) {
        const qn_jentry *e = &d->entries[order[i]];
        qn_jval key;
        ok = (i == 0 || (qn_jbuf_append(b, ",\n", 2, false) && qn_jbuf_append_spaces(b, indent))) && sorted_repr(b->run, e->key, &key);
        if (ok) {
            size_t at = indent + key.u.str->n_chars + 2;
            ok = qn_jbuf_append_str(b, key.u.str) && qn_jbuf_append(b, ": ", 2, false) &&
                 put(b, e->value, at, i + 1 == d->n ? allowance + 1 : 1, level);
            qn_jrelease(b->run, key);
        }
    }
    qn_jfree(b->run, order, (d->n + 1) * sizeof *order);
    return ok && qn_jbuf_append_char(b, '}', false);
}

/* ---- long strings: pieces that end behind white space, each as a literal of its own ---- */

static bool push_repr(qn_jrun *run, qn_jlist *chunks, qn_jstr *s, size_t from, size_t to, size_t *n_chars, bool keep)
{
    qn_jval part, text;
    if (!qn_jstr_slice(run, s, from, to, &part)) {
        return false;
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jbuf_append_repr(&b, part) && qn_jbuf_finish(&b, &text);
    qn_jbuf_deinit(&b);
    qn_jrelease(run, part);
    if (!ok) {
        return false;
    }
    *n_chars = text.u.str->n_chars;
    if (keep) {
        return qn_jlist_push(run, chunks, text);
    }
    qn_jrelease(run, text);
    return true;
}

/* End of a piece: characters that are no white space, then white space. */
static size_t piece_end(const qn_jstr *s, size_t at, size_t to)
{
    uint32_t cp;
    size_t n;
    while (at < to && (n = qn_jstr_char(s, at, &cp), !qn_unicode_is_space(cp))) {
        at += n;
    }
    while (at < to && (n = qn_jstr_char(s, at, &cp), qn_unicode_is_space(cp))) {
        at += n;
    }
    return at;
}

static bool split_line(qn_jrun *run, qn_jlist *chunks, qn_jstr *s, size_t from, size_t to, int64_t width, int64_t last_width)
{
    size_t current = from, at = from, n_chars;
    while (at < to) {
        size_t end = piece_end(s, at, to);
        int64_t allowed = end == to ? last_width : width;
        if (!qn_jcharge(run, 2) || !push_repr(run, chunks, s, current, end, &n_chars, false)) {
            return false;
        }
        if ((int64_t)n_chars > allowed) {
            if (at > current && !push_repr(run, chunks, s, current, at, &n_chars, true)) {
                return false;
            }
            current = at;
        }
        at = end;
    }
    return current == to || push_repr(run, chunks, s, current, to, &n_chars, true);
}

static bool put_string(qn_jbuf *b, qn_jval v, size_t indent, size_t allowance, int level)
{
    qn_jstr *s = v.u.str;
    qn_jval chunks;
    indent += level == 1;
    allowance += level == 1;
    int64_t width = WIDTH - (int64_t)indent, last_width = width - (int64_t)allowance;
    if (!qn_jlist_new(b->run, QN_JV_LIST, 0, &chunks)) {
        return false;
    }
    bool ok = true;
    for (size_t from = 0, end, next; ok && from < s->len; from = next) {
        size_t n_chars;
        qn_jstr_line(s, from, &end, &next);
        bool last = next == s->len;
        ok = push_repr(b->run, chunks.u.list, s, from, next, &n_chars, false);
        ok = ok && ((int64_t)n_chars <= (last ? last_width : width)
                        ? push_repr(b->run, chunks.u.list, s, from, next, &n_chars, true)
                        : split_line(b->run, chunks.u.list, s, from, next, width, last ? last_width : width));
    }
    bool parentheses = level == 1 && chunks.u.list->n > 1;
    ok = ok && (!parentheses || qn_jbuf_append_char(b, '(', false));
    for (size_t i = 0; ok && i < chunks.u.list->n; i++) {
        ok = (i == 0 || (qn_jbuf_append_char(b, '\n', false) && qn_jbuf_append_spaces(b, indent))) &&
             qn_jbuf_append_str(b, chunks.u.list->items[i].u.str);
    }
    qn_jrelease(b->run, chunks);
    return ok && (!parentheses || qn_jbuf_append_char(b, ')', false));
}

static bool put(qn_jbuf *b, qn_jval v, size_t indent, size_t allowance, int level)
{
    qn_jval text;
    if (!qn_jcharge(b->run, 1) || !qn_jenter(b->run)) {
        return false;
    }
    bool ok = sorted_repr(b->run, v, &text);
    if (ok) {
        bool fits = (int64_t)text.u.str->n_chars <= WIDTH - (int64_t)indent - (int64_t)allowance;
        if (!fits && v.kind == QN_JV_DICT) {
            ok = put_dict(b, v.u.dict, indent, allowance, level + 1);
        } else if (!fits && (v.kind == QN_JV_LIST || v.kind == QN_JV_TUPLE)) {
            const char *close = v.kind == QN_JV_LIST ? "]" : v.u.list->n == 1 ? ",)" : ")";
            ok = qn_jbuf_append_char(b, v.kind == QN_JV_LIST ? '[' : '(', false) &&
                 put_items(b, v.u.list, indent, allowance + strlen(close), level + 1) && qn_jbuf_append_text(b, close, false);
        } else if (!fits && v.kind == QN_JV_STRING && v.u.str->len > 0) {
            ok = put_string(b, v, indent, allowance, level + 1);
        } else {
            ok = qn_jbuf_append_str(b, text.u.str);
        }
        qn_jrelease(b->run, text);
    }
    qn_jleave(b->run);
    return ok;
}

bool qn_jpretty(qn_jrun *run, qn_jval v, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = put(&b, v, 0, 0, 0) && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}
