/* vocab.c - the vocabulary: its index, and what can be asked of it. */
#include <string.h>

#include "text/pretokenize.h"
#include "text/tokenizer_int.h"

static bool has_text(const quern_tokenizer *t, const qn_token *k, const char *s, size_t n)
{
    return k->len == n && (n == 0 || memcmp(t->pool + k->begin, s, n) == 0);
}

static quern_status index_token(quern_tokenizer *t, uint32_t id, const char *what, quern_error *err)
{
    const qn_token *k = &t->tokens[id];
    const char *text = t->pool + k->begin;
    uint64_t hash = qn_text_hash(t->seed, text, k->len);
    size_t i = (size_t)hash & t->index.mask;
    for (; t->index.slots[i].id_plus_1 != 0; i = (i + 1) & t->index.mask) {
        qn_text_slot slot = t->index.slots[i];
        const qn_token *other = &t->tokens[slot.id_plus_1 - 1];
        if (slot.hash != (uint32_t)(hash >> 32) || !has_text(t, other, text, k->len) ||
            qn_token_reachable(other) != qn_token_reachable(k)) {
            continue;
        }
        if (!qn_token_reachable(k)) {
            return QUERN_OK;
        }
        return qn_error_set(err, QUERN_ERROR_INVALID, "%s: tokens %u and %u have the same text \"%.*s\"", what, slot.id_plus_1 - 1, id,
                            qn_shown(text, k->len), text);
    }
    t->index.slots[i] = (qn_text_slot){.hash = (uint32_t)(hash >> 32), .id_plus_1 = id + 1};
    return QUERN_OK;
}

quern_status qn_vocab_index(quern_tokenizer *t, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_slots = 16;
    while (n_slots / 3 * 2 < t->info.n_tokens) {
        n_slots *= 2;
    }
    if (t->index.slots == NULL) {
        t->index.slots = qn_malloc_array(n_slots, sizeof *t->index.slots);
        if (t->index.slots == NULL) {
            QN_FAIL_MEMORY(err, "the vocabulary's index", n_slots * sizeof *t->index.slots);
        }
        t->index.mask = n_slots - 1;
    }
    memset(t->index.slots, 0, n_slots * sizeof *t->index.slots);
    for (uint32_t id = 0; id < t->info.n_tokens; id++) {
        if ((t->tokens[id].flags & QN_TOKEN_PRESENT) != 0) {
            QN_TRY(index_token(t, id, what, err));
        }
    }
done:
    return status;
}

/* A token with this text: a reachable one or one that is not, as preferred, else the other; or QN_NO_TOKEN. */
static uint32_t find(const quern_tokenizer *t, const char *s, size_t n, bool prefer_reachable)
{
    uint64_t hash = qn_text_hash(t->seed, s, n);
    uint32_t found = QN_NO_TOKEN;
    for (size_t i = (size_t)hash & t->index.mask; t->index.slots[i].id_plus_1 != 0; i = (i + 1) & t->index.mask) {
        qn_text_slot slot = t->index.slots[i];
        if (slot.hash == (uint32_t)(hash >> 32) && has_text(t, &t->tokens[slot.id_plus_1 - 1], s, n)) {
            found = slot.id_plus_1 - 1;
            if (qn_token_reachable(&t->tokens[found]) == prefer_reachable) {
                break;
            }
        }
    }
    return found;
}

uint32_t qn_vocab_find_piece(const quern_tokenizer *t, const char *s, size_t n)
{
    uint32_t id = find(t, s, n, true);
    return id != QN_NO_TOKEN && qn_token_reachable(&t->tokens[id]) ? id : QN_NO_TOKEN;
}

uint32_t qn_vocab_find_any(const quern_tokenizer *t, const char *s, size_t n) { return find(t, s, n, true); }

/* ---- public ---- */

void quern_tokenizer_destroy(quern_tokenizer *t)
{
    if (t == NULL) {
        return;
    }
    qn_free(t->pool);
    qn_free(t->tokens);
    qn_free(t->index.slots);
    qn_merge_table_deinit(&t->merges);
    qn_free(t->extra_chars);
    qn_free(t->scores);
    qn_pretokenizer_deinit(&t->pretokenizer);
    qn_added_matcher_deinit(&t->added_raw);
    qn_added_matcher_deinit(&t->added_normalized);
    qn_free(t);
}

const quern_tokenizer_info *quern_tokenizer_get_info(const quern_tokenizer *t) { return &t->info; }

const char *quern_tokenizer_get_text(const quern_tokenizer *t, int32_t id, size_t *len)
{
    if (id < 0 || (size_t)id >= t->info.n_tokens) {
        return NULL;
    }
    if (len != NULL) {
        *len = t->tokens[id].len;
    }
    return qn_token_text(t, (uint32_t)id);
}

quern_token_kind quern_tokenizer_get_kind(const quern_tokenizer *t, int32_t id)
{
    return id < 0 || (size_t)id >= t->info.n_tokens ? QUERN_TOKEN_UNUSED : (quern_token_kind)t->tokens[id].kind;
}

int32_t quern_tokenizer_find(const quern_tokenizer *t, const char *text, size_t len)
{
    uint32_t id = find(t, text, len, false);
    return id == QN_NO_TOKEN ? -1 : (int32_t)id;
}
