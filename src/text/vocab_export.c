/* vocab_export.c - a tokenizer as the arrays of GGUF metadata, such that reading them gives the same ids.
 *
 * Byte-level: merges in the order of their ranks. SentencePiece: GGUF has scores and merges whatever makes a token; so merges that came
 * from tokenizer.json are turned into scores only if they are all of those there can be, and ordered by their results.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_int.h"
#include "text/vocab.h"

typedef struct owned {
    qn_buf text;
    qn_text_span *tokens, *merges;
    float *scores;
    int32_t *types;
} owned;

void qn_vocab_export_deinit(qn_vocab_export *e)
{
    owned *o = e->owned;
    if (o != NULL) {
        qn_buf_deinit(&o->text);
        qn_free(o->tokens);
        qn_free(o->merges);
        qn_free(o->scores);
        qn_free(o->types);
        qn_free(o);
    }
    *e = (qn_vocab_export){0};
}

/* ---- texts ---- */

/* Appends a token as GGUF spells it. */
static bool put_spelling(const quern_tokenizer *t, uint32_t id, qn_buf *out)
{
    const qn_token *k = &t->tokens[id];
    const char *s = t->pool + k->begin;
    bool raw_bytes = t->byte_level && (k->flags & (QN_TOKEN_ADDED | QN_TOKEN_LITERAL)) == 0 &&
                     (k->kind == QUERN_TOKEN_NORMAL || k->kind == QUERN_TOKEN_UNKNOWN);
    if (!raw_bytes) {
        return k->len == 0 || qn_buf_append(out, s, k->len);
    }
    for (uint32_t i = 0; i < k->len; i++) {
        char bytes[4];
        if (!qn_buf_append(out, bytes, qn_utf8_encode(qn_alphabet_char((unsigned char)s[i]), bytes))) {
            return false;
        }
    }
    return true;
}

static int32_t type_of(const qn_token *k)
{
    switch ((quern_token_kind)k->kind) {
    case QUERN_TOKEN_NORMAL: return 1;
    case QUERN_TOKEN_UNKNOWN: return 2;
    case QUERN_TOKEN_CONTROL: return 3;
    case QUERN_TOKEN_USER_DEFINED: return 4;
    case QUERN_TOKEN_BYTE: return 6;
    case QUERN_TOKEN_UNUSED: break;
    }
    return 5;
}

/* All spellings go into one buffer; spans hold offsets until it is complete. */
static quern_status write_tokens(const quern_tokenizer *t, size_t n_vocab, owned *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    o->tokens = qn_malloc_array(n_vocab, sizeof *o->tokens);
    o->types = qn_malloc_array(n_vocab, sizeof *o->types);
    if (o->tokens == NULL || o->types == NULL) {
        QN_FAIL_MEMORY(err, "a vocabulary", n_vocab * sizeof *o->tokens);
    }
    for (size_t i = 0; i < n_vocab; i++) {
        size_t before = o->text.len;
        bool present = i < t->info.n_tokens && (t->tokens[i].flags & QN_TOKEN_PRESENT) != 0;
        bool ok = present ? put_spelling(t, (uint32_t)i, &o->text) : qn_buf_printf(&o->text, "[PAD%zu]", i);
        if (!ok) {
            QN_FAIL_MEMORY(err, "a vocabulary", o->text.len);
        }
        o->tokens[i].len = o->text.len - before;
        o->types[i] = present ? type_of(&t->tokens[i]) : 5;
    }
done:
    return status;
}

static quern_status write_merges(const quern_tokenizer *t, owned *o, size_t *n_merges, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_merge *list = qn_merge_table_sorted(&t->merges);
    o->merges = qn_malloc_array(t->merges.n, sizeof *o->merges);
    if (list == NULL || o->merges == NULL) {
        QN_FAIL_MEMORY(err, "merges", t->merges.n * sizeof *list);
    }
    for (size_t i = 0; i < t->merges.n; i++) {
        size_t before = o->text.len;
        uint32_t left = (uint32_t)(list[i].pair >> 32), right = (uint32_t)list[i].pair;
        if (!put_spelling(t, left, &o->text) || !qn_buf_append_char(&o->text, ' ') || !put_spelling(t, right, &o->text)) {
            QN_FAIL_MEMORY(err, "merges", o->text.len);
        }
        o->merges[i].len = o->text.len - before;
    }
    *n_merges = t->merges.n;
done:
    qn_free(list);
    return status;
}

/* ---- scores from merges ---- */

/* How many ways there are to cut a token into two symbols; *stray: one of them has a part that is a character without a token. */
static size_t count_cuts(const quern_tokenizer *t, uint32_t id, bool *stray)
{
    const qn_token *k = &t->tokens[id];
    const char *s = t->pool + k->begin;
    size_t n = 0;
    uint32_t cp;
    for (size_t i = qn_utf8_decode(s, k->len, &cp); i < k->len;) {
        size_t len = qn_utf8_decode(s + i, k->len - i, &cp), first_len = qn_utf8_decode(s, k->len, &cp);
        bool left = qn_vocab_find_piece(t, s, i) != QN_NO_TOKEN, right = qn_vocab_find_piece(t, s + i, k->len - i) != QN_NO_TOKEN;
        bool left_char = !left && i == first_len, right_char = !right && i + len == k->len;
        n += left && right ? 1 : 0;
        *stray = *stray || ((left || left_char) && (right || right_char) && (left_char || right_char));
        i += len;
    }
    return n;
}

static quern_status scores_from_merges(const quern_tokenizer *t, size_t n_vocab, owned *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_merge *list = qn_merge_table_sorted(&t->merges);
    uint32_t *n_rules = qn_calloc(t->info.n_tokens, sizeof *n_rules);
    if (list == NULL || n_rules == NULL) {
        QN_FAIL_MEMORY(err, "scores", t->merges.n * sizeof *list);
    }
    for (size_t i = 0; i < n_vocab; i++) {
        o->scores[i] = -1e9f; /* what no merge makes */
    }
    for (size_t i = 0; i < t->merges.n; i++) {
        uint32_t result = list[i].result;
        if (n_rules[result]++ > 0 && list[i - 1].result != result) {
            QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "GGUF cannot say this order of merges: those that make token %u are not together",
                    result);
        }
        o->scores[result] = n_rules[result] == 1 ? -(float)i : o->scores[result];
    }
    for (uint32_t id = 0; id < t->info.n_tokens; id++) {
        bool stray = false;
        if (qn_token_reachable(&t->tokens[id]) && (count_cuts(t, id, &stray) != n_rules[id] || stray)) {
            QN_FAIL(err, QUERN_ERROR_UNSUPPORTED,
                    "GGUF would merge what this tokenizer does not: token %u has %u merges of %zu possible ones", id, n_rules[id],
                    count_cuts(t, id, &stray));
        }
    }
done:
    qn_free(list);
    qn_free(n_rules);
    return status;
}

static quern_status write_scores(const quern_tokenizer *t, size_t n_vocab, owned *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (t->add_space_prefix < 0) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "GGUF cannot say this tokenizer's normalizer and pre_tokenizer");
    }
    if (t->ignore_merges) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "GGUF cannot say ignore_merges of a SentencePiece vocabulary");
    }
    o->scores = qn_malloc_array(n_vocab, sizeof *o->scores);
    if (o->scores == NULL) {
        QN_FAIL_MEMORY(err, "scores", n_vocab * sizeof *o->scores);
    }
    if (t->scores == NULL) {
        QN_TRY(scores_from_merges(t, n_vocab, o, err));
    } else {
        memcpy(o->scores, t->scores, t->info.n_tokens * sizeof *o->scores);
        for (size_t i = t->info.n_tokens; i < n_vocab; i++) {
            o->scores[i] = -1e9f;
        }
    }
done:
    return status;
}

/* ---- the whole ---- */

/* True if every token is what its own text merges to: then ignoring merges for whole pieces makes no difference. */
static quern_status merges_reach_all(const quern_tokenizer *t, uint32_t *exception, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_merge_work work = {0};
    *exception = QN_NO_TOKEN;
    for (uint32_t id = 0; id < t->info.n_tokens && *exception == QN_NO_TOKEN; id++) {
        const qn_token *k = &t->tokens[id];
        if (!qn_token_reachable(k) || k->len == 0) {
            continue;
        }
        QN_TRY(qn_merge_work_reserve(&work, k->len, err));
        bool known = true;
        for (uint32_t i = 0; i < k->len; i++) {
            work.symbols[i] = t->byte_symbol[(unsigned char)t->pool[k->begin + i]];
            known = known && work.symbols[i] != QN_NO_TOKEN;
        }
        bool alone = known && qn_merge_symbols(&t->merges, work.symbols, k->len, &work) == 1 && work.symbols[0] == id;
        *exception = alone ? QN_NO_TOKEN : id;
    }
done:
    qn_merge_work_deinit(&work);
    return status;
}

/* GGUF's name for how a byte-level tokenizer cuts text. */
static quern_status find_pre(const quern_tokenizer *t, const char **name, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint32_t exception = QN_NO_TOKEN;
    *name = t->pre_name;
    if (*name == NULL && t->pre_name_merging != NULL) {
        QN_TRY(merges_reach_all(t, &exception, err));
        *name = exception == QN_NO_TOKEN ? t->pre_name_merging : NULL;
    }
    if (exception != QN_NO_TOKEN) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED,
                "GGUF cannot say ignore_merges for pre-tokenizer %s, and token %u is not what merging makes of its text",
                t->pre_name_merging, exception);
    }
    if (*name == NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "GGUF has no name for this tokenizer's normalizer and pre_tokenizer (%s)",
                t->info.pre_tokenizer);
    }
done:
    return status;
}

static bool any_strips(const qn_added_matcher *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->items[i].single_word || l->items[i].left_strip || l->items[i].right_strip) {
            return true;
        }
    }
    return false;
}

static void note(qn_vocab_export *e, const char *sentence) { e->notes[e->n_notes++] = sentence; }

static void note_all(const quern_tokenizer *t, qn_vocab_export *e)
{
    if (t->prefix_differs) {
        note(
            e,
            "GGUF readers put a blank in front of every text between two special tokens; this tokenizer does so only in front of the first, "
            "or where there is none");
    }
    if (any_strips(&t->added_raw) || any_strips(&t->added_normalized)) {
        note(e, "GGUF cannot say that added tokens strip white space or match whole words only");
    }
    if (t->added_normalized.n > 0 && t->normalizer.n_steps > 0) {
        note(e, "GGUF cannot say that added tokens are looked for in normalized text");
    }
}

static void point_spans(qn_text_span *spans, size_t n, const char **text)
{
    for (size_t i = 0; i < n; i++) {
        spans[i].data = *text;
        *text += spans[i].len;
    }
}

quern_status qn_tokenizer_export(const quern_tokenizer *t, size_t n_vocab, qn_vocab_export *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_tokenizer_info *info = &t->info;
    *out = (qn_vocab_export){0};
    if (n_vocab < info->n_tokens || n_vocab > QN_TOKENS_MAX) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "a vocabulary of %zu ids for a tokenizer of %zu", n_vocab, info->n_tokens);
    }
    owned *o = qn_calloc(1, sizeof *o);
    if (o == NULL) {
        QN_FAIL_MEMORY(err, "a vocabulary", sizeof *o);
    }
    out->owned = o;
    qn_buf_init(&o->text, SIZE_MAX / 2);
    qn_vocab_spec *s = &out->spec;
    *s = (qn_vocab_spec){.what = "tokenizer",
                         .model = t->byte_level ? "gpt2" : "llama",
                         .n_tokens = n_vocab,
                         .bos_id = info->bos_id,
                         .eos_id = info->eos_id,
                         .unk_id = info->unk_id,
                         .pad_id = info->pad_id,
                         .add_bos = info->add_bos ? 1 : 0,
                         .add_eos = info->add_eos ? 1 : 0,
                         .add_space_prefix = t->byte_level ? -1 : t->add_space_prefix};
    QN_TRY(write_tokens(t, n_vocab, o, err));
    if (t->byte_level) {
        QN_TRY(find_pre(t, &s->pre, err));
        QN_TRY(write_merges(t, o, &s->n_merges, err));
    } else {
        s->pre = "default";
        QN_TRY(write_scores(t, n_vocab, o, err));
    }
    const char *text = qn_buf_text(&o->text);
    point_spans(o->tokens, n_vocab, &text);
    point_spans(o->merges, s->n_merges, &text);
    s->tokens = o->tokens;
    s->merges = o->merges;
    s->scores = o->scores;
    s->types = o->types;
    note_all(t, out);
done:
    if (status != QUERN_OK) {
        qn_vocab_export_deinit(out);
    }
    return status;
}
