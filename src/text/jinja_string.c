/* jinja_string.c - marked strings: building, cutting, counting and searching them.
 *
 * A string under construction lives in a qn_jbuf and enters the render's object list when it is finished.
 */
#include "text/jinja_string.h"

#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/jinja_run.h"

/* ---- building ---- */

void qn_jbuf_init(qn_jbuf *b, qn_jrun *run) { *b = (qn_jbuf){.run = run, .max_len = QN_JSTR_MAX}; }

static size_t block_bytes(size_t cap) { return sizeof(qn_jstr) + cap + 1; }

void qn_jbuf_deinit(qn_jbuf *b)
{
    if (b->str != NULL) {
        qn_jfree(b->run, b->str, block_bytes(b->cap));
    }
    qn_jfree(b->run, b->ends, b->ends_cap * sizeof *b->ends);
    qn_jbuf_init(b, b->run);
}

bool qn_jbuf_reserve(qn_jbuf *b, size_t extra)
{
    size_t need;
    if (!qn_size_add(b->len, extra, &need) || need > b->max_len) {
        return qn_jfail_status(b->run, QUERN_ERROR_LIMIT, "a text would be longer than %zu bytes", b->max_len);
    }
    if (b->str != NULL && need <= b->cap) {
        return true;
    }
    size_t cap = b->str == NULL ? need : need < b->cap * 2 ? b->cap * 2 : need;
    cap = cap < 24 ? 24 : cap > b->max_len ? b->max_len : cap;
    cap = cap < need ? need : cap;
    qn_jstr *str = b->str == NULL ? qn_jalloc(b->run, block_bytes(cap))
                                  : qn_jrealloc(b->run, b->str, block_bytes(b->cap), block_bytes(cap));
    if (str == NULL) {
        return false;
    }
    b->str = str;
    b->cap = cap;
    return true;
}

/* Makes the open run one of this mark. */
static bool begin_run(qn_jbuf *b, bool content)
{
    if (b->len == 0) {
        b->first = b->last = content;
        return true;
    }
    if (b->last == content) {
        return true;
    }
    if (b->n_ends == b->ends_cap) {
        size_t cap = b->ends_cap < 8 ? 8 : b->ends_cap * 2;
        uint32_t *ends = qn_jrealloc(b->run, b->ends, b->ends_cap * sizeof *ends, cap * sizeof *ends);
        if (ends == NULL) {
            return false;
        }
        b->ends = ends;
        b->ends_cap = cap;
    }
    b->ends[b->n_ends++] = (uint32_t)b->len;
    b->last = content;
    return true;
}

bool qn_jbuf_append(qn_jbuf *b, const char *text, size_t len, bool content)
{
    if (len == 0) {
        return true;
    }
    if (!qn_jcharge_bytes(b->run, len) || !qn_jbuf_reserve(b, len) || !begin_run(b, content)) {
        return false;
    }
    memcpy(b->str->data + b->len, text, len);
    b->len += len;
    return true;
}

bool qn_jbuf_append_text(qn_jbuf *b, const char *text, bool content) { return qn_jbuf_append(b, text, strlen(text), content); }

bool qn_jbuf_append_code_point(qn_jbuf *b, uint32_t cp, bool content)
{
    char bytes[4];
    size_t n = qn_utf8_encode(cp, bytes);
    return qn_jbuf_append(b, bytes, n, content);
}

bool qn_jbuf_append_slice(qn_jbuf *b, const qn_jstr *s, size_t from, size_t to)
{
    if (s->n_runs == 0) {
        return qn_jbuf_append(b, s->data + from, to - from, s->content);
    }
    while (from < to) {
        bool content;
        size_t end = qn_jstr_run(s, from, &content);
        end = end < to ? end : to;
        if (!qn_jcharge(b->run, 1) || !qn_jbuf_append(b, s->data + from, end - from, content)) {
            return false;
        }
        from = end;
    }
    return true;
}

bool qn_jbuf_append_str(qn_jbuf *b, const qn_jstr *s)
{
    if (s->n_runs == 0) {
        return qn_jbuf_append(b, s->data, s->len, s->content);
    }
    size_t from = 0;
    bool content = s->content;
    if (!qn_jcharge(b->run, s->n_runs) || !qn_jbuf_reserve(b, s->len)) {
        return false;
    }
    for (uint32_t i = 0; i < s->n_runs; i++) {
        if (!qn_jbuf_append(b, s->data + from, s->ends[i] - from, content)) {
            return false;
        }
        from = s->ends[i];
        content = !content;
    }
    return true;
}

bool qn_jbuf_append_spaces(qn_jbuf *b, size_t n)
{
    static const char BLANKS[64] = "                                                               ";
    if (!qn_jbuf_reserve(b, n)) {
        return false;
    }
    while (n > 0) {
        size_t part = n < sizeof BLANKS - 1 ? n : sizeof BLANKS - 1;
        if (!qn_jcharge(b->run, 1) || !qn_jbuf_append(b, BLANKS, part, false)) {
            return false;
        }
        n -= part;
    }
    return true;
}

bool qn_jbuf_append_repeated(qn_jbuf *b, const qn_jstr *s, size_t n)
{
    size_t total;
    if (s->len == 0) {
        return true;
    }
    if (!qn_size_mul(s->len, n, &total)) {
        total = SIZE_MAX;
    }
    if (!qn_jbuf_reserve(b, total)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!qn_jcharge(b->run, 1) || !qn_jbuf_append_str(b, s)) {
            return false;
        }
    }
    return true;
}

/* Characters of valid UTF-8: bytes that do not continue one. */
static size_t count_chars(const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        n += ((uint8_t)text[i] & 0xc0u) != 0x80u;
    }
    return n;
}

bool qn_jbuf_finish(qn_jbuf *b, qn_jval *out)
{
    if (!qn_jcharge_bytes(b->run, b->len) || !qn_jbuf_reserve(b, 0)) {
        return false;
    }
    size_t n_runs = b->n_ends > 0 ? b->n_ends + 1 : 0;
    uint32_t *ends = NULL;
    if (n_runs > 0) {
        ends = qn_jrealloc(b->run, b->ends, b->ends_cap * sizeof *ends, n_runs * sizeof *ends);
        if (ends == NULL) {
            return false;
        }
        ends[n_runs - 1] = (uint32_t)b->len;
        b->ends = ends;
        b->ends_cap = n_runs;
    }
    if (b->cap - b->len > 64 + b->len / 4) {
        qn_jstr *str = qn_jrealloc(b->run, b->str, block_bytes(b->cap), block_bytes(b->len));
        if (str == NULL) {
            return false;
        }
        b->str = str;
        b->cap = b->len;
    }
    qn_jstr *s = b->str;
    s->head.kind = QN_JV_STRING;
    s->len = b->len;
    s->data[b->len] = '\0';
    s->n_chars = count_chars(s->data, s->len);
    s->ends = ends;
    s->n_runs = (uint32_t)n_runs;
    s->content = b->len > 0 && b->first;
    s->markup = false;
    if (n_runs == 0) {
        qn_jfree(b->run, b->ends, b->ends_cap * sizeof *b->ends);
    }
    qn_jobj_adopt(b->run, &s->head, block_bytes(b->cap));
    *out = qn_jobject(s);
    qn_jbuf_init(b, b->run);
    return true;
}

bool qn_jstr_new(qn_jrun *run, const char *text, size_t len, bool content, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jbuf_append(&b, text, len, content) && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

/* ---- cutting and counting ---- */

bool qn_jstr_slice(qn_jrun *run, qn_jstr *s, size_t from, size_t to, qn_jval *out)
{
    if (from == 0 && to == s->len) {
        *out = qn_jretain(qn_jobject(s));
        return true;
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jbuf_append_slice(&b, s, from, to) && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = s->markup;
    }
    qn_jbuf_deinit(&b);
    return ok;
}

size_t qn_jstr_offset(const qn_jstr *s, size_t i)
{
    if (qn_jstr_is_ascii(s)) {
        return i;
    }
    size_t at = 0;
    if (i <= s->n_chars / 2) {
        for (; i > 0; i--) {
            at++;
            while (((uint8_t)s->data[at] & 0xc0u) == 0x80u) {
                at++;
            }
        }
        return at;
    }
    at = s->len;
    for (i = s->n_chars - i; i > 0; i--) {
        at--;
        while (((uint8_t)s->data[at] & 0xc0u) == 0x80u) {
            at--;
        }
    }
    return at;
}

size_t qn_jstr_count_chars(const qn_jstr *s, size_t from, size_t to)
{
    return qn_jstr_is_ascii(s) ? to - from : count_chars(s->data + from, to - from);
}

/* Number of the run that holds byte `at`. */
static uint32_t find_run(const qn_jstr *s, size_t at)
{
    uint32_t low = 0, high = s->n_runs - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->ends[middle] <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

size_t qn_jstr_run(const qn_jstr *s, size_t at, bool *content)
{
    if (s->n_runs == 0) {
        *content = s->content;
        return s->len;
    }
    uint32_t run = find_run(s, at);
    *content = s->content != ((run & 1u) != 0);
    return s->ends[run];
}

bool qn_jstr_mark(const qn_jstr *s, size_t at)
{
    bool content = s->content;
    if (s->n_runs != 0) {
        (void)qn_jstr_run(s, at, &content);
    }
    return content;
}

bool qn_jstr_equals(const qn_jstr *s, const char *text)
{
    size_t len = strlen(text);
    return s->len == len && memcmp(s->data, text, len) == 0;
}

bool qn_jstr_with_markup(qn_jrun *run, qn_jstr *s, bool markup, qn_jval *out)
{
    if (s->markup == markup) {
        *out = qn_jretain(qn_jobject(s));
        return true;
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jbuf_append_str(&b, s) && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = markup;
    }
    qn_jbuf_deinit(&b);
    return ok;
}

/* ---- searching ---- */

/* Up to this length comparing at every candidate is linear enough; longer needles get a failure table. */
enum { PLAIN_NEEDLE = 16 };

bool qn_jfinder_init(qn_jfinder *f, qn_jrun *run, const qn_jstr *needle)
{
    *f = (qn_jfinder){.needle = needle->data, .len = needle->len};
    if (needle->len <= PLAIN_NEEDLE) {
        return true;
    }
    f->fail = qn_jalloc(run, needle->len * sizeof *f->fail);
    if (f->fail == NULL) {
        return false;
    }
    f->fail[0] = 0;
    uint32_t matched = 0;
    for (size_t i = 1; i < needle->len; i++) {
        while (matched > 0 && needle->data[i] != needle->data[matched]) {
            matched = f->fail[matched - 1];
        }
        if (needle->data[i] == needle->data[matched]) {
            matched++;
        }
        f->fail[i] = matched;
    }
    if (!qn_jcharge_bytes(run, needle->len * 4)) {
        qn_jfinder_deinit(f, run);
        return false;
    }
    return true;
}

void qn_jfinder_deinit(qn_jfinder *f, qn_jrun *run)
{
    qn_jfree(run, f->fail, f->len * sizeof *f->fail);
    f->fail = NULL;
}

static size_t find_plain(const qn_jfinder *f, const char *text, size_t from, size_t to)
{
    while (to - from >= f->len) {
        const char *p = memchr(text + from, f->needle[0], to - from - f->len + 1);
        if (p == NULL) {
            break;
        }
        if (memcmp(p, f->needle, f->len) == 0) {
            return (size_t)(p - text);
        }
        from = (size_t)(p - text) + 1;
    }
    return SIZE_MAX;
}

size_t qn_jfinder_next(const qn_jfinder *f, const char *text, size_t from, size_t to)
{
    if (f->len == 0) {
        return from <= to ? from : SIZE_MAX;
    }
    if (from > to || to - from < f->len) {
        return SIZE_MAX;
    }
    if (f->fail == NULL) {
        return find_plain(f, text, from, to);
    }
    uint32_t matched = 0;
    for (size_t i = from; i < to; i++) {
        if (matched == 0) { /* skip fast to a place where the needle can begin */
            const char *p = memchr(text + i, f->needle[0], to - i);
            if (p == NULL) {
                return SIZE_MAX;
            }
            i = (size_t)(p - text);
        }
        while (matched > 0 && text[i] != f->needle[matched]) {
            matched = f->fail[matched - 1];
        }
        if (text[i] == f->needle[matched]) {
            matched++;
        }
        if (matched == f->len) {
            return i + 1 - f->len;
        }
    }
    return SIZE_MAX;
}

size_t qn_jfinder_last(const qn_jfinder *f, const char *text, size_t from, size_t to)
{
    if (f->len == 0) {
        return from <= to ? to : SIZE_MAX;
    }
    if (from > to || to - from < f->len) {
        return SIZE_MAX;
    }
    if (f->fail == NULL) {
        for (size_t at = to - f->len + 1; at > from; at--) {
            if (memcmp(text + at - 1, f->needle, f->len) == 0) {
                return at - 1;
            }
        }
        return SIZE_MAX;
    }
    size_t last = SIZE_MAX;
    uint32_t matched = 0;
    for (size_t i = from; i < to; i++) {
        while (matched > 0 && (matched == f->len || text[i] != f->needle[matched])) {
            matched = f->fail[matched - 1];
        }
        if (text[i] == f->needle[matched]) {
            matched++;
        }
        if (matched == f->len) {
            last = i + 1 - f->len;
        }
    }
    return last;
}
