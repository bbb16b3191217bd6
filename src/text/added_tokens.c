/* added_tokens.c - finding added tokens in text.
 *
 * The tokens are kept sorted. At a place of the text the tokens that begin with the bytes read so far are one range of that order; each
 * further byte narrows it by binary search. The work at one place is bounded by the longest token.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

static int compare_specs(const void *a, const void *b)
{
    const qn_added_spec *x = a, *y = b;
    size_t n = x->token.len < y->token.len ? x->token.len : y->token.len;
    int order = memcmp(x->text, y->text, n);
    if (order != 0) {
        return order;
    }
    if (x->token.len != y->token.len) {
        return x->token.len < y->token.len ? -1 : 1;
    }
    return x->token.id < y->token.id ? -1 : x->token.id > y->token.id;
}

static const char *item_text(const qn_added_matcher *m, size_t i) { return m->pool + m->items[i].begin; }

quern_status qn_added_matcher_init(qn_added_matcher *m, qn_added_spec *specs, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t bytes = 0;
    *m = (qn_added_matcher){0};
    if (n == 0) {
        return QUERN_OK;
    }
    for (size_t i = 0; i < n; i++) {
        bytes += specs[i].token.len; /* at most QN_ADDED_BYTES_MAX each */
    }
    if (n > QN_TOKENS_MAX || bytes > UINT32_MAX) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "%zu added tokens of %zu bytes in all: at most %d tokens and %u bytes", n, bytes, QN_TOKENS_MAX,
                UINT32_MAX);
    }
    qsort(specs, n, sizeof *specs, compare_specs);
    m->items = qn_malloc_array(n, sizeof *m->items);
    m->pool = qn_malloc(bytes);
    if (m->items == NULL || m->pool == NULL) {
        qn_added_matcher_deinit(m);
        QN_FAIL_MEMORY(err, "added tokens", n * sizeof *m->items + bytes);
    }
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        qn_added token = specs[i].token;
        memcpy(m->pool + at, specs[i].text, token.len);
        token.begin = at;
        at += token.len;
        m->items[m->n++] = token;
    }
    for (unsigned b = 0, i = 0; b < 257; b++) {
        while (i < n && b < 256 && (unsigned char)item_text(m, i)[0] < b) {
            i++;
        }
        m->first[b] = b == 256 ? (uint32_t)n : i;
    }
done:
    return status;
}

void qn_added_matcher_deinit(qn_added_matcher *m)
{
    qn_free(m->items);
    qn_free(m->pool);
    *m = (qn_added_matcher){0};
}

/* The first item in [low, high) whose byte at `depth` is at least b; all of them are longer than depth. */
static size_t lower_bound(const qn_added_matcher *m, size_t low, size_t high, size_t depth, unsigned b)
{
    while (low < high) {
        size_t mid = (low + high) / 2;
        if ((unsigned char)item_text(m, mid)[depth] < b) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* The longest token that s[0..n) begins with, or NULL. */
static const qn_added *longest_at(const qn_added_matcher *m, const char *s, size_t n, const char *trust)
{
    const qn_added *best = NULL;
    size_t low = m->first[(unsigned char)s[0]], high = m->first[(unsigned char)s[0] + 1];
    for (size_t depth = 1; low < high && (trust == NULL || trust[depth - 1] != 0); depth++) {
        if (m->items[low].len == depth) { /* equal texts stand together; only the first can match */
            best = &m->items[low];
            do {
                low++;
            } while (low < high && m->items[low].len == depth);
        }
        if (depth == n || low == high) {
            break;
        }
        unsigned b = (unsigned char)s[depth];
        low = lower_bound(m, low, high, depth, b);
        high = lower_bound(m, low, high, depth, b + 1);
    }
    return best;
}

static bool word_before(const char *s, size_t at)
{
    for (size_t back = 1; back <= 4 && back <= at; back++) {
        if (((unsigned char)s[at - back] & 0xc0) != 0x80) {
            size_t next;
            return (qn_class_at(s, at, at - back, &next) & QN_CLASS_WORD) != 0 && next == at;
        }
    }
    return false;
}

static bool word_after(const char *s, size_t n, size_t at)
{
    size_t next;
    return at < n && (qn_class_at(s, n, at, &next) & QN_CLASS_WORD) != 0;
}

static size_t strip_left(const char *s, size_t begin, size_t floor)
{
    while (begin > floor) {
        size_t at = begin - 1, next;
        while (at > floor && begin - at < 4 && ((unsigned char)s[at] & 0xc0) == 0x80) {
            at--;
        }
        if ((qn_class_at(s, begin, at, &next) & QN_CLASS_SPACE) == 0 || next != begin) {
            break;
        }
        begin = at;
    }
    return begin;
}

static size_t strip_right(const char *s, size_t n, size_t end)
{
    size_t next;
    while (end < n && (qn_class_at(s, n, end, &next) & QN_CLASS_SPACE) != 0) {
        end = next;
    }
    return end;
}

const qn_added *qn_added_match(const qn_added_matcher *m, const char *s, size_t n, const char *trust, size_t from, size_t floor,
                               size_t *begin, size_t *end)
{
    if (m->n == 0) {
        return NULL;
    }
    for (size_t i = from; i < n;) {
        unsigned b = (unsigned char)s[i];
        if (m->first[b] == m->first[b + 1] || (trust != NULL && trust[i] == 0)) {
            i++;
            continue;
        }
        const qn_added *a = longest_at(m, s + i, n - i, trust != NULL ? trust + i : NULL);
        if (a == NULL) {
            i++;
            continue;
        }
        size_t stop = i + a->len;
        if (a->single_word && (word_before(s, i) || word_after(s, n, stop))) {
            i = stop;
            continue;
        }
        *begin = a->left_strip ? strip_left(s, i, floor) : i;
        *end = a->right_strip ? strip_right(s, n, stop) : stop;
        return a;
    }
    return NULL;
}
