/* bpe_bytes.c - byte-level BPE of one piece: symbols are bytes, then merging. */
#include <string.h>

#include "text/tokenizer_int.h"

/* ---- the cache of one call, shared with bpe_spm.c ---- */

const qn_word *qn_word_find(const qn_encoding *e, const char *s, size_t n, qn_word **slot)
{
    *slot = NULL;
    if (n > QN_WORD_BYTES_MAX || e->words == NULL) {
        return NULL;
    }
    qn_word *w = &e->words[qn_text_hash(e->t->seed, s, n) & e->word_mask];
    if (w->len == n && memcmp(w->text, s, n) == 0) {
        return w;
    }
    *slot = w;
    return NULL;
}

void qn_word_keep(qn_word *slot, const char *s, size_t n, const int32_t *ids, size_t n_ids)
{
    if (slot == NULL || n_ids > QN_WORD_IDS_MAX) {
        return;
    }
    slot->len = (uint8_t)n;
    slot->n_ids = (uint8_t)n_ids;
    memcpy(slot->text, s, n);
    memcpy(slot->ids, ids, n_ids * sizeof *ids);
}

/* ---- one piece ---- */

/* Appends the symbols' ids; QN_NO_TOKEN stands for a byte without a token. */
static void append_symbols(qn_encoding *e, const uint32_t *symbols, size_t n)
{
    bool after_unknown = false;
    for (size_t i = 0; i < n; i++) {
        bool unknown = symbols[i] == QN_NO_TOKEN;
        if (!unknown || !after_unknown || !e->t->fuse_unknown) {
            e->ids->data[e->ids->len++] = (int32_t)(unknown ? e->t->unknown : symbols[i]);
        }
        after_unknown = unknown;
    }
}

quern_status qn_encode_bytes_piece(qn_encoding *e, const char *s, size_t n)
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
    size_t before = e->ids->len, count = 0;
    uint32_t whole = t->ignore_merges ? qn_vocab_find_piece(t, s, n) : QN_NO_TOKEN;
    if (whole != QN_NO_TOKEN) {
        short_symbols[0] = whole;
        count = 1;
    } else {
        if (n > QN_MERGE_SHORT) {
            QN_TRY(qn_merge_work_reserve(&e->work, n, e->err));
            symbols = e->work.symbols;
        }
        for (size_t i = 0; i < n; i++) {
            uint32_t symbol = t->byte_symbol[(unsigned char)s[i]];
            if (symbol != QN_NO_TOKEN || t->unknown != QN_NO_TOKEN) {
                symbols[count++] = symbol;
            }
        }
        count = qn_merge_symbols(&t->merges, symbols, count, &e->work);
    }
    append_symbols(e, symbols, count);
    qn_word_keep(slot, s, n, e->ids->data + before, e->ids->len - before);
done:
    return status;
}
