/* jinja_wrap.c - the wordwrap filter: lines of at most `width` characters, cut as Python's textwrap cuts.
 *
 * A line is first cut into chunks (white space; words, which may end behind a hyphen; dashes between words); chunks are
 * then laid into lines. White space at the ends of lines goes.
 */
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_run.h"
#include "text/unicode_props.h"

typedef struct wrapper {
    qn_jrun *run;
    const qn_jstr *s;
    uint32_t *cp; /* characters of the current line */
    uint32_t *at; /* their byte offsets in s, and the end's */
    size_t n;
    uint32_t *begin; /* first characters of the chunks, and n */
    size_t n_chunks;
    int64_t width;
    bool break_words, hyphens;
    const qn_jstr *separator;
    qn_jbuf out;
    size_t lines; /* of the current input line */
} wrapper;

static bool is_blank(uint32_t cp) { return (cp >= 0x09u && cp <= 0x0du) || cp == ' '; }
static bool is_word(uint32_t cp) { return cp == '_' || (qn_unicode_props(cp) & QN_UNICODE_ALNUM) != 0; }
static bool is_letter(uint32_t cp) { return is_word(cp) && (qn_unicode_props(cp) & QN_UNICODE_DECIMAL) == 0; }
static bool is_word_punct(uint32_t cp) { return is_word(cp) || (cp < 0x80u && cp != 0 && strchr("!\"'&.,?", (int)cp) != NULL); }

static bool letter_at(const wrapper *w, size_t i) { return i < w->n && is_letter(w->cp[i]); }

/* Two or more hyphens at i with a word behind: the place of the word, or 0. */
static size_t dash_end(const wrapper *w, size_t i)
{
    size_t end = i;
    while (end < w->n && w->cp[end] == '-') {
        end++;
    }
    return end - i >= 2 && end < w->n && is_word(w->cp[end]) ? end : 0;
}

/* True if a hyphen at i joins two parts of a word, with two letters (or letter, hyphen, letter) on each side. */
static bool joins_words(const wrapper *w, size_t i)
{
    if (w->cp[i] != '-') {
        return false;
    }
    bool before = (i >= 2 && is_letter(w->cp[i - 1]) && is_letter(w->cp[i - 2])) ||
                  (i >= 3 && is_letter(w->cp[i - 1]) && w->cp[i - 2] == '-' && is_letter(w->cp[i - 3]));
    bool after = letter_at(w, i + 1) && (letter_at(w, i + 2) || (i + 2 < w->n && w->cp[i + 2] == '-' && letter_at(w, i + 3)));
    return before && after;
}

/* End of the chunk that begins at i. */
static size_t chunk_end(const wrapper *w, size_t i)
{
    size_t end = i;
    if (is_blank(w->cp[i])) {
        while (end < w->n && is_blank(w->cp[end])) {
            end++;
        }
        return end;
    }
    if (!w->hyphens) {
        while (end < w->n && !is_blank(w->cp[end])) {
            end++;
        }
        return end;
    }
    if (i > 0 && is_word_punct(w->cp[i - 1]) && dash_end(w, i) != 0) {
        return dash_end(w, i);
    }
    for (end = i + 1; end < w->n && !is_blank(w->cp[end]); end++) {
        if (joins_words(w, end)) {
            return end + 1;
        }
        if (w->cp[end] == '-' && is_word_punct(w->cp[end - 1]) && dash_end(w, end) != 0) {
            return end;
        }
    }
    return end;
}

static bool only_space(const wrapper *w, size_t from, size_t to)
{
    for (; from < to; from++) {
        if (!qn_unicode_is_space(w->cp[from])) {
            return false;
        }
    }
    return true;
}

static bool put_line(wrapper *w, size_t from, size_t to)
{
    w->lines++;
    return (w->lines == 1 || qn_jbuf_append_str(&w->out, w->separator)) && qn_jcharge(w->run, 2) &&
           qn_jbuf_append_slice(&w->out, w->s, w->at[from], w->at[to]);
}

/* Where a word that begins at `from` and is longer than `room` is cut. */
static size_t cut_word(const wrapper *w, size_t from, size_t to, size_t room)
{
    if (w->hyphens && to - from > room) {
        for (size_t i = from + room; i > from + 1; i--) { /* behind the last hyphen that something else precedes */
            bool other = false;
            for (size_t k = from; w->cp[i - 1] == '-' && k < i - 1 && !other; k++) {
                other = w->cp[k] != '-';
            }
            if (w->cp[i - 1] == '-') {
                return other ? i : from + room;
            }
        }
    }
    return from + room < to ? from + room : to;
}

/* Lays the chunks of the current line into lines of the result. */
static bool lay_out(wrapper *w)
{
    size_t chunk = 0, position = 0; /* position: first character that is not placed */
    size_t width = (size_t)w->width;
    while (chunk < w->n_chunks) {
        if (w->lines > 0 && only_space(w, position, w->begin[chunk + 1])) {
            position = w->begin[++chunk];
        }
        size_t first = position, last = position; /* last: begin of the line's last chunk */
        while (chunk < w->n_chunks && w->begin[chunk + 1] - first <= width) {
            last = position;
            position = w->begin[++chunk];
        }
        if (chunk < w->n_chunks && w->begin[chunk + 1] - position > width) { /* fits into no line */
            size_t room = width - (position - first), end = w->begin[chunk + 1];
            if (w->break_words) {
                last = position;
                position = cut_word(w, position, end, room);
                if (position == end) {
                    chunk++;
                }
            } else if (position == first) {
                last = position;
                position = end;
                chunk++;
            }
        }
        size_t end = position > first && only_space(w, last, position) ? last : position;
        if (end > first && !put_line(w, first, end)) {
            return false;
        }
    }
    return true;
}

static bool wrap_line(wrapper *w, size_t from, size_t to)
{
    size_t bytes = (to - from + 1) * sizeof *w->cp;
    w->cp = qn_jalloc(w->run, bytes);
    w->at = w->cp != NULL ? qn_jalloc(w->run, bytes) : NULL;
    w->begin = w->at != NULL ? qn_jalloc(w->run, bytes) : NULL;
    bool ok = w->begin != NULL && qn_jcharge(w->run, (to - from) / 2);
    if (ok) {
        w->n = w->n_chunks = w->lines = 0;
        for (size_t at = from; at < to;) {
            w->at[w->n] = (uint32_t)at;
            at += qn_jstr_char(w->s, at, &w->cp[w->n]);
            w->n++;
        }
        w->at[w->n] = (uint32_t)to;
        for (size_t i = 0; i < w->n; i = chunk_end(w, i)) {
            w->begin[w->n_chunks++] = (uint32_t)i;
        }
        w->begin[w->n_chunks] = (uint32_t)w->n;
        ok = lay_out(w);
    }
    qn_jfree(w->run, w->cp, bytes);
    qn_jfree(w->run, w->at, bytes);
    qn_jfree(w->run, w->begin, bytes);
    return ok;
}

bool qn_jstr_wrap(qn_jrun *run, qn_jstr *s, int64_t width, bool break_words, qn_jstr *separator, bool break_hyphens, qn_jval *out)
{
    wrapper w = {.run = run, .s = s, .width = width, .break_words = break_words, .hyphens = break_hyphens, .separator = separator};
    if (width <= 0) {
        return qn_jfail(run, "invalid width %lld (must be > 0)", (long long)width);
    }
    w.width = width < (int64_t)QN_JSTR_MAX ? width : (int64_t)QN_JSTR_MAX;
    qn_jbuf_init(&w.out, run);
    bool ok = true;
    for (size_t from = 0, end, next; ok && from < s->len; from = next) {
        qn_jstr_line(s, from, &end, &next);
        ok = (from == 0 || qn_jbuf_append_str(&w.out, separator)) && wrap_line(&w, from, end);
    }
    ok = ok && qn_jbuf_finish(&w.out, out);
    qn_jbuf_deinit(&w.out);
    return ok;
}
