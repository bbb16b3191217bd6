/* tokenizer_decode.c - from ids to text, at once or as a stream. */
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

/* What decoding remembers between two tokens. */
typedef struct decode_state {
    bool with_special;
    bool begun;        /* a token has been written */
    uint32_t to_strip; /* blanks that may still be removed from the front */
} decode_state;

static decode_state begin_decoding(const quern_tokenizer *t, bool with_special)
{
    return (decode_state){.with_special = with_special, .to_strip = t->strip_leading};
}

static bool put(decode_state *d, qn_buf *out, const char *s, size_t n)
{
    for (; d->to_strip > 0 && n > 0; s++, n--) {
        if (s[0] != ' ') {
            d->to_strip = 0;
            break;
        }
        d->to_strip--;
    }
    return n == 0 || qn_buf_append(out, s, n);
}

/* Text with U+2581 for blanks; hide: leave the blanks out. */
static bool put_blanks(decode_state *d, qn_buf *out, const char *s, size_t n, bool hide)
{
    size_t from = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < n;) {
        if (n - i >= QN_BLANK_LEN && memcmp(s + i, QN_BLANK, QN_BLANK_LEN) == 0) {
            ok = put(d, out, s + from, i - from) && (hide || put(d, out, " ", 1));
            i += QN_BLANK_LEN;
            from = i;
        } else {
            i++;
        }
    }
    return ok && put(d, out, s + from, n - from);
}

/* Ids without a token, and tokens that are not in use, add nothing. */
static quern_status decode_one(const quern_tokenizer *t, decode_state *d, int32_t id, qn_buf *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (id < 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "token id %d: expected 0 to %zu", id, t->info.n_tokens - 1);
    }
    if ((size_t)id >= t->info.n_tokens) {
        return QUERN_OK;
    }
    const qn_token *k = &t->tokens[id];
    if (k->kind == QUERN_TOKEN_UNUSED || ((k->flags & QN_TOKEN_SPECIAL) != 0 && !d->with_special)) {
        return QUERN_OK;
    }
    bool ok;
    if ((k->flags & QN_TOKEN_BYTE_VALUE) != 0) {
        char byte = (char)k->byte;
        ok = put(d, out, &byte, 1);
    } else if (t->decode_mode == QN_DECODE_BLANKS) {
        ok = put_blanks(d, out, t->pool + k->begin, k->len, t->strip_first_token && !d->begun);
    } else {
        ok = put(d, out, t->pool + k->begin, k->len);
    }
    d->begun = true;
    if (!ok) {
        QN_FAIL_MEMORY(err, "decoded text", out->len + k->len);
    }
done:
    return status;
}

quern_status quern_tokenizer_decode(const quern_tokenizer *t, const int32_t *ids, size_t n_ids, bool with_special, char **text, size_t *len,
                                    quern_error *err)
{
    quern_status status = QUERN_OK;
    decode_state d = begin_decoding(t, with_special);
    qn_buf out;
    *text = NULL;
    qn_buf_init(&out, SIZE_MAX / 2);
    for (size_t i = 0; i < n_ids; i++) {
        QN_TRY(decode_one(t, &d, ids[i], &out, err));
    }
    *text = qn_buf_take(&out, len);
    if (*text == NULL) {
        QN_FAIL_MEMORY(err, "decoded text", out.len);
    }
done:
    qn_buf_deinit(&out);
    return status;
}

/* ---- streaming ---- */

struct quern_decoder {
    const quern_tokenizer *t;
    decode_state state;
    qn_buf pending; /* the beginning of a character, and then the token's bytes */
    qn_buf ready;   /* what the last call gave away */
};

quern_status quern_decoder_create(quern_decoder **out, const quern_tokenizer *t, bool with_special, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_decoder *d = qn_calloc(1, sizeof *d);
    *out = d;
    if (d == NULL) {
        QN_FAIL_MEMORY(err, "a decoder", sizeof *d);
    }
    d->t = t;
    d->state = begin_decoding(t, with_special);
    qn_buf_init(&d->pending, SIZE_MAX / 8);
    qn_buf_init(&d->ready, SIZE_MAX / 2);
done:
    return status;
}

void quern_decoder_destroy(quern_decoder *d)
{
    if (d != NULL) {
        qn_buf_deinit(&d->pending);
        qn_buf_deinit(&d->ready);
        qn_free(d);
    }
}

void quern_decoder_reset(quern_decoder *d)
{
    d->state = begin_decoding(d->t, d->state.with_special);
    qn_buf_reset(&d->pending);
    qn_buf_reset(&d->ready);
}

/* Bytes of the ill-formed sequence at s that one U+FFFD replaces: the longest beginning of a character, else one byte
 * (Unicode, section 3.9). */
static size_t broken_len(const char *s, size_t n)
{
    for (size_t len = n < 3 ? n : 3; len > 1; len--) {
        if (qn_utf8_complete_prefix(s, len) == 0) {
            return len;
        }
    }
    return 1;
}

/* Moves pending[0..n) to ready, each broken sequence as U+FFFD. */
static bool release(quern_decoder *d, size_t n)
{
    const char *s = qn_buf_text(&d->pending);
    size_t from = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < n;) {
        uint32_t cp;
        size_t len = qn_utf8_decode(s + i, n - i, &cp);
        if (cp == QN_UTF8_INVALID) {
            ok = qn_buf_append(&d->ready, s + from, i - from) && qn_buf_append(&d->ready, "\xef\xbf\xbd", 3);
            len = broken_len(s + i, n - i);
            from = i + len;
        }
        i += len;
    }
    ok = ok && (from >= n || qn_buf_append(&d->ready, s + from, n - from));
    if (ok && n > 0) {
        d->pending.len -= n;
        memmove(d->pending.data, d->pending.data + n, d->pending.len + 1);
    }
    return ok;
}

static quern_status give(quern_decoder *d, size_t n, const char **text, size_t *len, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf_reset(&d->ready);
    *text = "";
    *len = 0;
    if (!release(d, n)) {
        QN_FAIL_MEMORY(err, "decoded text", d->pending.len * 3);
    }
    *text = qn_buf_text(&d->ready);
    *len = d->ready.len;
done:
    return status;
}

quern_status quern_decoder_push(quern_decoder *d, int32_t id, const char **text, size_t *len, quern_error *err)
{
    quern_status status = QUERN_OK;
    *text = "";
    *len = 0;
    QN_TRY(decode_one(d->t, &d->state, id, &d->pending, err));
    QN_TRY(give(d, qn_utf8_complete_prefix(qn_buf_text(&d->pending), d->pending.len), text, len, err));
done:
    return status;
}

quern_status quern_decoder_finish(quern_decoder *d, const char **text, size_t *len, quern_error *err)
{
    return give(d, d->pending.len, text, len, err);
}
