/* tokenizer_encode.c - from text to ids: trust, added tokens, normalizer, pre-tokenizer, pieces, in this order.
 *
 * Trust is kept per byte. What lies between two added tokens is one text for everything that follows, whatever its trust; trust only says
 * where an added token may be seen.
 */
#include <string.h>

#include "text/tokenizer_int.h"

void quern_ids_deinit(quern_ids *ids)
{
    qn_free(ids->data);
    *ids = (quern_ids){0};
}

quern_status qn_ids_reserve(quern_ids *ids, size_t extra, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (ids->cap - ids->len >= extra) {
        return QUERN_OK;
    }
    size_t need, cap;
    if (!qn_size_add(ids->len, extra, &need) || !qn_size_add(need, ids->len / 2 + 16, &cap)) {
        QN_FAIL_MEMORY(err, "token ids", extra);
    }
    int32_t *data = qn_realloc_array(ids->data, cap, sizeof *data);
    if (data == NULL) {
        QN_FAIL_MEMORY(err, "token ids", cap);
    }
    ids->data = data;
    ids->cap = cap;
done:
    return status;
}

static quern_status push_id(qn_encoding *e, uint32_t id)
{
    quern_status status = qn_ids_reserve(e->ids, 1, e->err);
    if (status == QUERN_OK) {
        e->ids->data[e->ids->len++] = (int32_t)id;
    }
    return status;
}

static quern_status encode_piece(void *user, const char *s, size_t n)
{
    qn_encoding *e = user;
    return e->t->byte_level ? qn_encode_bytes_piece(e, s, n) : qn_encode_chars_piece(e, s, n);
}

/* Text without added tokens. */
static quern_status encode_plain(qn_encoding *e, const char *s, size_t n, bool at_start)
{
    return n == 0 ? QUERN_OK : qn_pretokenize(&e->t->pretokenizer, &e->buffers, s, n, at_start, encode_piece, e, e->err);
}

/* Calls `plain` for what lies between added tokens. */
typedef struct walk {
    qn_encoding *e;
    const qn_added_matcher *matcher;
    quern_status (*plain)(struct walk *w, const char *s, size_t n, const char *trust, bool at_start);
    qn_marked_text *work; /* for normalizing */
    bool look;            /* for added tokens at all */
} walk;

static quern_status walk_text(walk *w, const char *s, size_t n, const char *trust, bool at_start)
{
    quern_status status = QUERN_OK;
    size_t done_to = 0, begin, end;
    const qn_added *a;
    while (w->look && (a = qn_added_match(w->matcher, s, n, trust, done_to, done_to, &begin, &end)) != NULL) {
        if (begin > done_to) {
            QN_TRY(w->plain(w, s + done_to, begin - done_to, trust != NULL ? trust + done_to : NULL, at_start && done_to == 0));
        }
        QN_TRY(push_id(w->e, a->id));
        done_to = end;
    }
    if (done_to < n) {
        QN_TRY(w->plain(w, s + done_to, n - done_to, trust != NULL ? trust + done_to : NULL, at_start && done_to == 0));
    }
done:
    return status;
}

static quern_status plain_is_final(walk *w, const char *s, size_t n, const char *trust, bool at_start)
{
    (void)trust;
    return encode_plain(w->e, s, n, at_start);
}

static quern_status plain_to_normalize(walk *w, const char *s, size_t n, const char *trust, bool at_start)
{
    quern_status status = QUERN_OK;
    const quern_tokenizer *t = w->e->t;
    bool look = w->look && t->added_normalized.n > 0;
    QN_TRY(qn_normalize(&t->normalizer, s, n, look ? trust : NULL, w->work, &s, &n, &trust, w->e->err));
    walk inner = {.e = w->e, .matcher = &t->added_normalized, .plain = plain_is_final, .look = look};
    QN_TRY(walk_text(&inner, s, n, trust, at_start));
done:
    return status;
}

/* The cache is sized by the text: clearing it must not cost more than encoding. Encoding works without it. */
static void make_cache(qn_encoding *e, size_t n)
{
    size_t n_words = 16;
    while (n_words < 8192 && n_words < n / 16) {
        n_words *= 2;
    }
    e->words = n >= 64 ? qn_calloc(n_words, sizeof *e->words) : NULL;
    e->word_mask = n_words - 1;
}

/* trust: NULL = all trusted; look: added tokens are looked for. */
static quern_status encode(const quern_tokenizer *t, const char *s, size_t n, const char *trust, bool look, int flags, quern_ids *ids,
                           quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_encoding e = {.t = t, .ids = ids, .err = err};
    qn_marked_text work[2];
    size_t before = ids->len;
    for (size_t i = 0; i < 2; i++) {
        qn_buf_init(&work[i].text, 0);
        qn_buf_init(&work[i].trust, 0);
    }
    qn_pretokenize_buffers_init(&e.buffers);
    make_cache(&e, n);
    if ((flags & QUERN_ENCODE_ADD_BOS) != 0 && t->info.bos_id >= 0) {
        QN_TRY(push_id(&e, (uint32_t)t->info.bos_id));
    }
    QN_TRY(qn_ids_reserve(ids, n / 4, err));
    walk w = {.e = &e, .matcher = &t->added_raw, .plain = plain_to_normalize, .work = work, .look = look};
    QN_TRY(walk_text(&w, s, n, trust, true));
done:
    for (size_t i = 0; i < 2; i++) {
        qn_buf_deinit(&work[i].text);
        qn_buf_deinit(&work[i].trust);
    }
    qn_pretokenize_buffers_deinit(&e.buffers);
    qn_merge_work_deinit(&e.work);
    qn_free(e.words);
    if (status != QUERN_OK) {
        ids->len = before;
    }
    return status;
}

quern_status quern_tokenizer_encode(const quern_tokenizer *t, const char *text, size_t len, int flags, quern_ids *ids, quern_error *err)
{
    return encode(t, len > 0 ? text : "", len, NULL, (flags & QUERN_ENCODE_PARSE_SPECIAL) != 0, flags, ids, err);
}

quern_status quern_tokenizer_encode_segments(const quern_tokenizer *t, const quern_segment *segments, size_t n_segments, int flags,
                                             quern_ids *ids, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf text, trust;
    size_t n_trusted = 0, total = 0;
    qn_buf_init(&text, SIZE_MAX / 4);
    qn_buf_init(&trust, SIZE_MAX / 4);
    for (size_t i = 0; i < n_segments; i++) {
        if (!qn_size_add(total, segments[i].len, &total)) {
            QN_FAIL_MEMORY(err, "segments", SIZE_MAX);
        }
        n_trusted += segments[i].trusted ? segments[i].len : 0;
    }
    if (n_segments == 1 || total == 0) {
        const char *s = n_segments == 1 && total > 0 ? segments[0].text : "";
        QN_TRY(encode(t, s, total, NULL, n_trusted > 0, flags, ids, err));
        goto done;
    }
    for (size_t i = 0; i < n_segments; i++) {
        if (segments[i].len > 0) {
            (void)qn_buf_append(&text, segments[i].text, segments[i].len);
        }
    }
    if (n_trusted > 0 && n_trusted < total && qn_buf_append_zeros(&trust, total)) {
        size_t at = 0;
        for (size_t i = 0; i < n_segments; i++) {
            memset(trust.data + at, segments[i].trusted ? 1 : 0, segments[i].len);
            at += segments[i].len;
        }
    }
    if (text.failed || trust.failed) {
        QN_FAIL_MEMORY(err, "segments", total);
    }
    QN_TRY(encode(t, text.data, total, n_trusted > 0 && n_trusted < total ? trust.data : NULL, n_trusted > 0, flags, ids, err));
done:
    qn_buf_deinit(&text);
    qn_buf_deinit(&trust);
    return status;
}
