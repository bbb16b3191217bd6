/* vocab_build.c - making a tokenizer from entries, added tokens and merges. */
#include "text/vocab_build.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"

/* ---- GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 and on, in order ---- */

static bool is_printable_byte(unsigned b) { return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff); }

uint32_t qn_alphabet_char(unsigned byte)
{
    if (is_printable_byte(byte)) {
        return byte;
    }
    return byte <= 0x20 ? 0x100 + byte : (byte <= 0xa0 ? 0x121 + (byte - 0x7f) : 0x143);
}

int qn_alphabet_byte(uint32_t cp)
{
    if (cp < 0x100) {
        return is_printable_byte(cp) ? (int)cp : -1;
    }
    if (cp <= 0x120) {
        return (int)(cp - 0x100);
    }
    if (cp <= 0x142) {
        return (int)(cp - 0x121 + 0x7f);
    }
    return cp == 0x143 ? 0xad : -1;
}

/* ---- entries ---- */

quern_status qn_builder_init(qn_vocab_builder *b, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    *b = (qn_vocab_builder){.what = what, .err = err};
    qn_buf_init(&b->pool, UINT32_MAX - 1);
    b->t = qn_calloc(1, sizeof *b->t);
    if (b->t == NULL) {
        QN_FAIL_MEMORY(err, "a tokenizer", sizeof *b->t);
    }
    /* Hash seeds differ from run to run, so that nobody can write a vocabulary whose entries collide. */
    b->t->seed = qn_hash_mix(qn_hash_mix(qn_clock_ns(), (uintptr_t)b->t), (uintptr_t)b);
    b->t->info = (quern_tokenizer_info){.bos_id = -1, .eos_id = -1, .unk_id = -1, .pad_id = -1};
    b->t->unknown = QN_NO_TOKEN;
    b->t->add_space_prefix = -1;
done:
    return status;
}

void qn_builder_deinit(qn_vocab_builder *b)
{
    quern_tokenizer_destroy(b->t);
    qn_buf_deinit(&b->pool);
    qn_free(b->entries);
    qn_free(b->added);
}

quern_tokenizer *qn_builder_take(qn_vocab_builder *b)
{
    quern_tokenizer *t = b->t;
    b->t = NULL;
    return t;
}

quern_status qn_builder_check_id(const qn_vocab_builder *b, int64_t id, const char *text, size_t len)
{
    quern_status status = QUERN_OK;
    if (id < 0 || id >= QN_TOKENS_MAX) {
        QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: token \"%.*s\" has id %lld, expected 0 to %d", b->what, qn_shown(text, len), text,
                (long long)id, QN_TOKENS_MAX - 1);
    }
done:
    return status;
}

/* Makes room for one more element of *array. */
static quern_status grow(const qn_vocab_builder *b, void **array, size_t n, size_t *cap, size_t element_bytes)
{
    quern_status status = QUERN_OK;
    if (n < *cap) {
        return QUERN_OK;
    }
    size_t more = *cap < 64 ? 64 : *cap * 2;
    void *p = qn_realloc_array(*array, more, element_bytes);
    if (p == NULL) {
        QN_FAIL_MEMORY(b->err, "a vocabulary", more * element_bytes);
    }
    *array = p;
    *cap = more;
done:
    return status;
}

/* Appends text and a NUL to the pool. */
static quern_status put_text(qn_vocab_builder *b, const char *text, size_t len, uint32_t *begin)
{
    quern_status status = QUERN_OK;
    size_t at = b->pool.len;
    if (len >= b->pool.max_len - at) {
        QN_FAIL(b->err, QUERN_ERROR_LIMIT, "%s: tokens of more than %zu bytes in all", b->what, b->pool.max_len);
    }
    if ((len > 0 && !qn_buf_append(&b->pool, text, len)) || !qn_buf_append_char(&b->pool, '\0')) {
        QN_FAIL_MEMORY(b->err, "a vocabulary", at + len);
    }
    *begin = (uint32_t)at;
done:
    return status;
}

quern_status qn_builder_add(qn_vocab_builder *b, int64_t id, const char *text, size_t len, quern_token_kind kind, int flags)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_builder_check_id(b, id, text, len));
    QN_TRY(grow(b, (void **)&b->entries, b->n_entries, &b->entries_cap, sizeof *b->entries));
    qn_entry e = {.id = (uint32_t)id, .len = (uint32_t)len, .kind = (uint8_t)kind, .flags = (uint8_t)flags};
    QN_TRY(put_text(b, text, len, &e.begin));
    b->entries[b->n_entries++] = e;
    b->max_id = e.id > b->max_id ? e.id : b->max_id;
done:
    return status;
}

quern_status qn_builder_add_added(qn_vocab_builder *b, int64_t id, const char *text, size_t len, qn_added_entry like)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_builder_check_id(b, id, text, len));
    if (len > QN_ADDED_BYTES_MAX) {
        QN_FAIL(b->err, QUERN_ERROR_LIMIT, "%s: added token \"%.*s...\" is %zu bytes long, at most %d", b->what, qn_shown(text, len), text,
                len, QN_ADDED_BYTES_MAX);
    }
    QN_TRY(grow(b, (void **)&b->added, b->n_added, &b->added_cap, sizeof *b->added));
    like.id = (uint32_t)id;
    like.len = (uint32_t)len;
    QN_TRY(put_text(b, text, len, &like.begin));
    b->added[b->n_added++] = like;
    b->max_id = like.id > b->max_id ? like.id : b->max_id;
done:
    return status;
}

static bool is_one_char(const char *s, size_t n, uint32_t *cp)
{
    return n > 0 && n <= 4 && qn_utf8_decode(s, n, cp) == n && *cp != QN_UTF8_INVALID;
}

/* A text that is a symbol to begin merging with: a character, or a byte that the alphabet spells as itself. */
static bool is_symbol(const qn_vocab_builder *b, const char *text, size_t len)
{
    uint32_t cp;
    return is_one_char(text, len, &cp) && (!b->t->byte_level || (cp > 0x20 && cp < 0x7f));
}

/* Puts an added token in its place, or marks the entry that has its text and id already. The first description of a token counts; a later
 * one is emptied. */
static quern_status place_added(qn_vocab_builder *b, qn_added_entry *a)
{
    quern_status status = QUERN_OK;
    quern_tokenizer *t = b->t;
    qn_token *k = &t->tokens[a->id];
    const char *text = b->pool.data + a->begin;
    if ((k->flags & QN_TOKEN_PRESENT) != 0 && (k->len != a->len || memcmp(b->pool.data + k->begin, text, a->len) != 0)) {
        QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: id %u is both token \"%.*s\" and added token \"%.*s\"", b->what, a->id,
                qn_shown(b->pool.data + k->begin, k->len), b->pool.data + k->begin, qn_shown(text, a->len), text);
    }
    if ((k->flags & QN_TOKEN_ADDED) != 0) {
        a->len = 0;
    } else {
        t->info.n_added++;
        bool symbol = !a->special && (a->in_model || (k->flags & QN_TOKEN_PRESENT) != 0) && is_symbol(b, text, a->len);
        int flags = QN_TOKEN_PRESENT | QN_TOKEN_ADDED | (a->special ? QN_TOKEN_SPECIAL : 0) | (symbol ? QN_TOKEN_SYMBOL : 0);
        quern_token_kind kind = a->special ? QUERN_TOKEN_CONTROL : QUERN_TOKEN_USER_DEFINED;
        *k = (qn_token){.begin = a->begin, .len = a->len, .kind = (uint8_t)kind, .flags = (uint8_t)flags};
    }
done:
    return status;
}

quern_status qn_builder_place(qn_vocab_builder *b)
{
    quern_status status = QUERN_OK;
    quern_tokenizer *t = b->t;
    size_t n_known = b->n_entries + b->n_added, n = (size_t)b->max_id + 1;
    if (b->n_entries == 0) {
        QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: the vocabulary is empty", b->what);
    }
    if (n > 2 * n_known + QN_TOKENS_SPARE) {
        QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: a token has id %u in a vocabulary of %zu entries", b->what, b->max_id, n_known);
    }
    t->tokens = qn_calloc(n, sizeof *t->tokens);
    if (t->tokens == NULL) {
        QN_FAIL_MEMORY(b->err, "a vocabulary", n * sizeof *t->tokens);
    }
    t->info.n_tokens = n;
    for (size_t i = 0; i < n; i++) {
        t->tokens[i].kind = QUERN_TOKEN_UNUSED;
    }
    for (size_t i = 0; i < b->n_entries; i++) {
        const qn_entry *e = &b->entries[i];
        qn_token *k = &t->tokens[e->id];
        if ((k->flags & QN_TOKEN_PRESENT) != 0) {
            QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: tokens \"%.*s\" and \"%.*s\" share id %u", b->what,
                    qn_shown(b->pool.data + k->begin, k->len), b->pool.data + k->begin, qn_shown(b->pool.data + e->begin, e->len),
                    b->pool.data + e->begin, e->id);
        }
        *k = (qn_token){.begin = e->begin, .len = e->len, .kind = e->kind, .flags = (uint8_t)(e->flags | QN_TOKEN_PRESENT)};
    }
    for (size_t i = 0; i < b->n_added; i++) {
        QN_TRY(place_added(b, &b->added[i]));
    }
    t->pool = qn_buf_take(&b->pool, NULL);
    if (t->pool == NULL) {
        QN_FAIL_MEMORY(b->err, "a vocabulary", b->pool.len);
    }
    qn_free(b->entries);
    b->entries = NULL;
    QN_TRY(qn_vocab_index(t, b->what, b->err));
    for (size_t i = 0; i < b->n_added; i++) {
        const qn_added_entry *a = &b->added[i];
        uint32_t other = qn_vocab_find_any(t, t->pool + a->begin, a->len);
        if (other != a->id && a->len > 0) {
            QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: added token \"%.*s\" has id %u, but that text is token %u", b->what,
                    qn_shown(t->pool + a->begin, a->len), t->pool + a->begin, a->id, other);
        }
    }
done:
    return status;
}

/* The value of "<0x0A>", or -1. */
static int byte_value(const char *s, size_t n)
{
    static const char digits[] = "0123456789ABCDEF";
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') {
        return -1;
    }
    const char *high = memchr(digits, s[3], 16), *low = memchr(digits, s[4], 16);
    return high != NULL && low != NULL ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

void qn_builder_mark_unknown(qn_vocab_builder *b, uint32_t id)
{
    qn_token *k = &b->t->tokens[id];
    if (!b->t->byte_level || (k->flags & QN_TOKEN_ADDED) == 0) { /* byte-level vocabularies name their end token here; it stays one */
        k->kind = QUERN_TOKEN_UNKNOWN;
    }
    b->t->unknown = id;
}

void qn_builder_mark_bytes(qn_vocab_builder *b)
{
    quern_tokenizer *t = b->t;
    for (size_t i = 0; i < t->info.n_tokens; i++) {
        qn_token *k = &t->tokens[i];
        if (qn_token_reachable(k) && byte_value(t->pool + k->begin, k->len) >= 0) {
            k->kind = QUERN_TOKEN_BYTE;
        }
    }
}

/* ---- merges ---- */

quern_status qn_builder_merges_begin(qn_vocab_builder *b)
{
    /* Most vocabularies have one merge a token. */
    return qn_merge_table_init(&b->t->merges, b->t->info.n_tokens, b->t->seed, b->err);
}

quern_status qn_builder_merge(qn_vocab_builder *b, size_t rank, const char *left, size_t left_len, const char *right, size_t right_len,
                              bool replace)
{
    quern_status status = QUERN_OK;
    quern_tokenizer *t = b->t;
    if (rank >= UINT32_MAX) {
        QN_FAIL(b->err, QUERN_ERROR_LIMIT, "%s: more than %u merges", b->what, UINT32_MAX);
    }
    uint32_t l = qn_vocab_find_any(t, left, left_len), r = qn_vocab_find_any(t, right, right_len);
    if (l == QN_NO_TOKEN || r == QN_NO_TOKEN) {
        const char *missing = l == QN_NO_TOKEN ? left : right;
        QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: merge %zu: \"%.*s\" is not in the vocabulary", b->what, rank,
                qn_shown(missing, l == QN_NO_TOKEN ? left_len : right_len), missing);
    }
    qn_buf_reset(&b->pool); /* free since the vocabulary took its content */
    if (!qn_buf_append(&b->pool, left, left_len) || !qn_buf_append(&b->pool, right, right_len)) {
        QN_FAIL_MEMORY(b->err, "a merge", left_len + right_len);
    }
    uint32_t result = qn_vocab_find_any(t, b->pool.data, b->pool.len);
    if (result == QN_NO_TOKEN) {
        QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: merge %zu: its result \"%.*s\" is not in the vocabulary", b->what, rank,
                qn_shown(b->pool.data, b->pool.len), b->pool.data);
    }
    bool possible = qn_token_reachable(&t->tokens[l]) && qn_token_reachable(&t->tokens[r]) && qn_token_reachable(&t->tokens[result]);
    if (possible && !qn_merge_table_add(&t->merges, l, r, (uint32_t)rank, result, replace)) {
        QN_FAIL_MEMORY(b->err, "merges", t->merges.n * 2 * sizeof(qn_merge));
    }
done:
    return status;
}

/* ---- merges from scores ---- */

static int compare_scores(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x > y ? -1 : x < y;
}

/* The rank of a score in the descending list of different scores. */
static uint32_t rank_of_score(const float *scores, size_t n, float score)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (scores[mid] > score) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return (uint32_t)low;
}

static int compare_chars(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

uint32_t qn_vocab_part_symbol(const quern_tokenizer *t, const char *s, size_t n)
{
    uint32_t id = qn_vocab_find_piece(t, s, n), cp;
    if (id != QN_NO_TOKEN || !is_one_char(s, n, &cp) || t->n_extra == 0) {
        return id;
    }
    const uint32_t *hit = bsearch(&cp, t->extra_chars, t->n_extra, sizeof cp, compare_chars);
    return hit != NULL ? (uint32_t)(t->info.n_tokens + (size_t)(hit - t->extra_chars)) : QN_NO_TOKEN;
}

/* Calls `visit` for every cut of every reachable token between two characters. */
static quern_status each_cut(qn_vocab_builder *b, quern_status (*visit)(qn_vocab_builder *b, void *user, uint32_t id, size_t cut),
                             void *user)
{
    quern_status status = QUERN_OK;
    const quern_tokenizer *t = b->t;
    for (uint32_t id = 0; id < t->info.n_tokens; id++) {
        const qn_token *k = &t->tokens[id];
        if (!qn_token_reachable(k)) {
            continue;
        }
        const char *s = t->pool + k->begin;
        uint32_t cp;
        for (size_t i = qn_utf8_decode(s, k->len, &cp); i < k->len; i += qn_utf8_decode(s + i, k->len - i, &cp)) {
            if (k->len > QN_SPM_PIECE_BYTES_MAX) {
                QN_FAIL(b->err, QUERN_ERROR_UNSUPPORTED, "%s: token %u is %u bytes long, at most %d in a SentencePiece vocabulary", b->what,
                        id, k->len, QN_SPM_PIECE_BYTES_MAX);
            }
            QN_TRY(visit(b, user, id, i));
        }
    }
done:
    return status;
}

/* Collects characters at either end of a cut that are no tokens. */
static quern_status collect_extra(qn_vocab_builder *b, void *user, uint32_t id, size_t cut)
{
    quern_status status = QUERN_OK;
    quern_tokenizer *t = b->t;
    size_t *cap = user;
    const qn_token *k = &t->tokens[id];
    const char *s = t->pool + k->begin;
    for (int side = 0; side < 2; side++) {
        const char *part = side == 0 ? s : s + cut;
        size_t len = side == 0 ? cut : k->len - cut;
        uint32_t cp;
        if (is_one_char(part, len, &cp) && qn_vocab_find_piece(t, part, len) == QN_NO_TOKEN) {
            QN_TRY(grow(b, (void **)&t->extra_chars, t->n_extra, cap, sizeof *t->extra_chars));
            t->extra_chars[t->n_extra++] = cp;
        }
    }
done:
    return status;
}

typedef struct score_merges {
    const float *scores, *sorted; /* sorted: descending, all different */
    size_t n_sorted;
} score_merges;

static quern_status add_score_merge(qn_vocab_builder *b, void *user, uint32_t id, size_t cut)
{
    quern_status status = QUERN_OK;
    const score_merges *m = user;
    quern_tokenizer *t = b->t;
    const qn_token *k = &t->tokens[id];
    const char *s = t->pool + k->begin;
    uint32_t left = qn_vocab_part_symbol(t, s, cut);
    uint32_t right = left != QN_NO_TOKEN ? qn_vocab_part_symbol(t, s + cut, k->len - cut) : QN_NO_TOKEN;
    if (right == QN_NO_TOKEN) {
        return QUERN_OK;
    }
    if (!qn_merge_table_add(&t->merges, left, right, rank_of_score(m->sorted, m->n_sorted, m->scores[id]), id, false)) {
        QN_FAIL_MEMORY(b->err, "merges", t->merges.n * 2 * sizeof(qn_merge));
    }
done:
    return status;
}

static size_t unique_chars(uint32_t *chars, size_t n)
{
    qsort(chars, n, sizeof *chars, compare_chars);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept == 0 || chars[kept - 1] != chars[i]) {
            chars[kept++] = chars[i];
        }
    }
    return kept;
}

quern_status qn_builder_merges_from_scores(qn_vocab_builder *b, const float *scores)
{
    quern_status status = QUERN_OK;
    quern_tokenizer *t = b->t;
    size_t n = t->info.n_tokens, extra_cap = 0;
    float *sorted = qn_malloc_array(n, sizeof *sorted);
    if (sorted == NULL) {
        QN_FAIL_MEMORY(b->err, "scores", n * sizeof *sorted);
    }
    score_merges m = {.scores = scores, .sorted = sorted};
    for (size_t i = 0; i < n; i++) {
        if (isnan(scores[i])) {
            QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: the score of token %zu is not a number", b->what, i);
        }
        sorted[i] = scores[i];
    }
    qsort(sorted, n, sizeof *sorted, compare_scores);
    for (size_t i = 0; i < n; i++) {
        if (m.n_sorted == 0 || sorted[m.n_sorted - 1] > sorted[i]) {
            sorted[m.n_sorted++] = sorted[i];
        }
    }
    QN_TRY(each_cut(b, collect_extra, &extra_cap));
    t->n_extra = t->n_extra > 0 ? (uint32_t)unique_chars(t->extra_chars, t->n_extra) : 0;
    QN_TRY(qn_builder_merges_begin(b));
    QN_TRY(each_cut(b, add_score_merge, &m));
done:
    qn_free(sorted);
    return status;
}

/* ---- finishing ---- */

/* Replaces a text in the printable alphabet by the bytes it stands for, in place. False if a character is not in the alphabet. */
static bool decode_alphabet(char *s, uint32_t *len)
{
    size_t n = *len, out = 0;
    uint32_t cp;
    for (size_t i = 0; i < n;) {
        i += qn_utf8_decode(s + i, n - i, &cp);
        if (cp == QN_UTF8_INVALID || qn_alphabet_byte(cp) < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < n;) {
        i += qn_utf8_decode(s + i, n - i, &cp);
        s[out++] = (char)qn_alphabet_byte(cp); /* never overtakes the reading */
    }
    s[out] = '\0';
    *len = (uint32_t)out;
    return true;
}

static quern_status finish_bytes(qn_vocab_builder *b)
{
    quern_tokenizer *t = b->t;
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[4];
        size_t len = qn_utf8_encode(qn_alphabet_char(byte), text);
        t->byte_symbol[byte] = qn_vocab_find_piece(t, text, len);
    }
    for (size_t i = 0; i < t->info.n_tokens; i++) {
        qn_token *k = &t->tokens[i];
        bool is_piece = (k->flags & QN_TOKEN_ADDED) == 0 && (k->kind == QUERN_TOKEN_NORMAL || k->kind == QUERN_TOKEN_UNKNOWN);
        if (is_piece && !decode_alphabet(t->pool + k->begin, &k->len)) {
            k->flags |= QN_TOKEN_LITERAL;
        }
    }
    return qn_vocab_index(t, b->what, b->err);
}

/* True if no reachable token has a U+2581 behind another character. */
static bool blanks_begin_tokens(const quern_tokenizer *t)
{
    if (qn_vocab_find_piece(t, QN_BLANK, QN_BLANK_LEN) == QN_NO_TOKEN) {
        return false;
    }
    for (size_t i = 0; i < t->info.n_tokens; i++) {
        const qn_token *k = &t->tokens[i];
        const char *s = t->pool + k->begin;
        bool other = false;
        for (size_t at = 0; qn_token_reachable(k) && at < k->len;) {
            uint32_t cp;
            at += qn_utf8_decode(s + at, k->len - at, &cp);
            if (cp == 0x2581 && other) {
                return false;
            }
            other = other || cp != 0x2581;
        }
    }
    return true;
}

static void finish_chars(qn_vocab_builder *b)
{
    quern_tokenizer *t = b->t;
    for (unsigned byte = 0; byte < 256; byte++) {
        t->byte_symbol[byte] = QN_NO_TOKEN;
    }
    for (uint32_t id = 0; id < t->info.n_tokens; id++) {
        qn_token *k = &t->tokens[id];
        int byte = k->kind == QUERN_TOKEN_BYTE ? byte_value(t->pool + k->begin, k->len) : -1;
        if (byte >= 0) {
            t->byte_symbol[byte] = id;
            k->byte = (uint8_t)byte;
            k->flags |= QN_TOKEN_BYTE_VALUE;
        }
    }
    for (uint32_t c = 0; c < 128; c++) {
        char text = (char)c;
        t->ascii_symbol[c] = qn_vocab_part_symbol(t, &text, 1);
    }
    t->cut_at_blanks = blanks_begin_tokens(t);
}

/* The text by which an added token is found: normalized as the text will be, if it asks for that. */
static quern_status normalized_text(qn_vocab_builder *b, const qn_added_entry *a, qn_marked_text work[2], qn_buf *out, size_t *begin,
                                    size_t *len)
{
    quern_status status = QUERN_OK;
    quern_tokenizer *t = b->t;
    const char *s, *trust;
    QN_TRY(qn_normalize(&t->normalizer, t->pool + a->begin, a->len, NULL, work, &s, len, &trust, b->err));
    *begin = out->len;
    if (*len > 0 && !qn_buf_append(out, s, *len)) {
        QN_FAIL_MEMORY(b->err, "added tokens", out->len);
    }
done:
    return status;
}

static quern_status finish_added(qn_vocab_builder *b)
{
    quern_status status = QUERN_OK;
    quern_tokenizer *t = b->t;
    size_t counts[2] = {0};
    qn_marked_text work[2];
    qn_buf texts;
    qn_added_spec *specs[2] = {qn_calloc(b->n_added, sizeof(qn_added_spec)), qn_calloc(b->n_added, sizeof(qn_added_spec))};
    qn_buf_init(&texts, UINT32_MAX);
    for (size_t i = 0; i < 2; i++) {
        qn_buf_init(&work[i].text, 0);
        qn_buf_init(&work[i].trust, 0);
    }
    if (specs[0] == NULL || specs[1] == NULL) {
        QN_FAIL_MEMORY(b->err, "added tokens", b->n_added * sizeof(qn_added_spec));
    }
    for (size_t i = 0; i < b->n_added; i++) {
        const qn_added_entry *a = &b->added[i];
        size_t begin = 0, len = a->len;
        if (a->normalized) {
            QN_TRY(normalized_text(b, a, work, &texts, &begin, &len));
        }
        if (len > QN_ADDED_BYTES_MAX) {
            QN_FAIL(b->err, QUERN_ERROR_LIMIT, "%s: added token %u is %zu bytes long when normalized, at most %d", b->what, a->id, len,
                    QN_ADDED_BYTES_MAX);
        }
        if (len == 0) {
            continue; /* cannot be seen in a text */
        }
        specs[a->normalized][counts[a->normalized]++] = (qn_added_spec){.token = {.id = a->id,
                                                                                  .begin = (uint32_t)begin,
                                                                                  .len = (uint32_t)len,
                                                                                  .single_word = a->single_word,
                                                                                  .left_strip = a->left_strip,
                                                                                  .right_strip = a->right_strip},
                                                                        .text = a->normalized ? NULL : t->pool + a->begin};
    }
    for (size_t i = 0; i < counts[1]; i++) { /* now that the buffer no longer moves */
        specs[1][i].text = texts.data + specs[1][i].token.begin;
    }
    QN_TRY(qn_added_matcher_init(&t->added_raw, specs[0], counts[0], b->err));
    QN_TRY(qn_added_matcher_init(&t->added_normalized, specs[1], counts[1], b->err));
done:
    for (size_t i = 0; i < 2; i++) {
        qn_buf_deinit(&work[i].text);
        qn_buf_deinit(&work[i].trust);
        qn_free(specs[i]);
    }
    qn_buf_deinit(&texts);
    return status;
}

quern_status qn_builder_finish(qn_vocab_builder *b)
{
    quern_status status = QUERN_OK;
    QN_TRY(finish_added(b));
    if (b->t->byte_level) {
        QN_TRY(finish_bytes(b));
    } else {
        finish_chars(b);
    }
    b->t->info.model = b->t->byte_level ? "bpe" : "spm";
done:
    return status;
}
