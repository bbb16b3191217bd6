/* bpe_spm.c - SentencePiece-style BPE of one piece: symbols are characters, then merging; characters without a token become their bytes'
 * tokens, or the unknown token.
 *
 * A piece may be the whole text. Where no token reaches across the beginning of a word (a U+2581 behind another character), merging word by
 * word gives the same ids, and words repeat.
 */
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"

static uint32_t find_extra(const quern_tokenizer *t, uint32_t cp)
{
    size_t low = 0, high = t->n_extra;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (t->extra_chars[mid] < cp) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < t->n_extra && t->extra_chars[low] == cp ? (uint32_t)(t->info.n_tokens + low) : QN_NO_TOKEN;
}

/* The symbol of the character s[0..n), or QN_NO_TOKEN. */
static uint32_t symbol_of(const quern_tokenizer *t, const char *s, size_t n, uint32_t cp)
{
    if (cp < 128) {
        return t->ascii_symbol[cp];
    }
    if (cp == QN_UTF8_INVALID) {
        return QN_NO_TOKEN;
    }
    uint32_t id = qn_vocab_find_piece(t, s, n);
    return id != QN_NO_TOKEN ? id : find_extra(t, cp);
}

/* Puts what stands for a character without a token; returns the new count. */
static size_t put_unknown(const quern_tokenizer *t, const char *s, size_t n, uint32_t *symbols, size_t count)
{
    size_t n_bytes = 0;
    for (; n_bytes < n && t->byte_symbol[(unsigned char)s[n_bytes]] != QN_NO_TOKEN; n_bytes++) {
        symbols[count + n_bytes] = t->byte_symbol[(unsigned char)s[n_bytes]];
    }
    if (n_bytes == n) {
        return count + n;
    }
    symbols[count] = QN_NO_TOKEN;
    return t->unknown != QN_NO_TOKEN ? count + 1 : count;
}

static void append_symbols(qn_encoding *e, const uint32_t *symbols, size_t n)
{
    const quern_tokenizer *t = e->t;
    bool after_unknown = false;
    for (size_t i = 0; i < n; i++) {
        uint32_t symbol = symbols[i];
        char bytes[4];
        uint32_t stand_in[4];
        size_t n_stand_in = 0;
        if (symbol != QN_NO_TOKEN && symbol >= t->info.n_tokens) { /* a character that was only good for merging, and was not merged */
            size_t len = qn_utf8_encode(t->extra_chars[symbol - t->info.n_tokens], bytes);
            n_stand_in = put_unknown(t, bytes, len, stand_in, 0);
        } else {
            stand_in[n_stand_in++] = symbol;
        }
        for (size_t k = 0; k < n_stand_in; k++) {
            bool unknown = stand_in[k] == QN_NO_TOKEN;
            if (!unknown || !after_unknown || !t->fuse_unknown) {
                e->ids->data[e->ids->len++] = (int32_t)(unknown ? t->unknown : stand_in[k]);
            }
            after_unknown = unknown;
        }
    }
}

static quern_status encode_word(qn_encoding *e, const char *s, size_t n)
{
    quern_status status = QUERN_OK;
    const quern_tokenizer *t = e->t;
    uint32_t short_symbols[QN_MERGE_SHORT], *symbols = short_symbols;
    qn_word *slot;
    const qn_word *word = qn_word_find(e, s, n, &slot);
    QN_TRY(qn_ids_reserve(e->ids, n + QN_WORD_IDS_MAX, e->err));
    if (word != NULL) {
        memcpy(e->ids->data + e->ids->len, word->ids, sizeof word->ids);
        e->ids->len += word->n_ids;
        return QUERN_OK;
    }
    if (n > QN_MERGE_SHORT) { /* a character gives at most as many symbols as it has bytes */
        QN_TRY(qn_merge_work_reserve(&e->work, n, e->err));
        symbols = e->work.symbols;
    }
    size_t before = e->ids->len, count = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = qn_utf8_decode(s + i, n - i, &cp);
        uint32_t symbol = symbol_of(t, s + i, len, cp);
        if (symbol != QN_NO_TOKEN) {
            symbols[count++] = symbol;
        } else {
            count = put_unknown(t, s + i, len, symbols, count);
        }
        i += len;
    }
    count = qn_merge_symbols(&t->merges, symbols, count, &e->work);
    append_symbols(e, symbols, count);
    qn_word_keep(slot, s, n, e->ids->data + before, e->ids->len - before);
done:
    return status;
}

/* Where the word that begins at `from` ends: before the next U+2581 that follows another character. */
static size_t word_end(const char *s, size_t n, size_t from)
{
    size_t i = from;
    while (n - i >= QN_BLANK_LEN && memcmp(s + i, QN_BLANK, QN_BLANK_LEN) == 0) {
        i += QN_BLANK_LEN;
    }
    while (i < n) {
        const char *hit = memchr(s + i, QN_BLANK[0], n - i);
        if (hit == NULL) {
            return n;
        }
        i = (size_t)(hit - s);
        if (n - i >= QN_BLANK_LEN && memcmp(hit, QN_BLANK, QN_BLANK_LEN) == 0) {
            return i;
        }
        i++;
    }
    return n;
}

quern_status qn_encode_chars_piece(qn_encoding *e, const char *s, size_t n)
{
    quern_status status = QUERN_OK;
    uint32_t whole = e->t->ignore_merges ? qn_vocab_find_piece(e->t, s, n) : QN_NO_TOKEN;
    if (whole != QN_NO_TOKEN) {
        QN_TRY(qn_ids_reserve(e->ids, 1, e->err));
        e->ids->data[e->ids->len++] = (int32_t)whole;
        return QUERN_OK;
    }
    for (size_t at = 0, end; at < n; at = end) {
        end = e->t->cut_at_blanks ? word_end(s, n, at) : n;
        QN_TRY(encode_word(e, s + at, end - at));
    }
done:
    return status;
}
