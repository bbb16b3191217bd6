/* tokenizer_int.h - what the tokenizer's files share: the vocabulary, the merge table, the pipeline, one encoding call.
 *
 * Pipeline of one encoding call (the order of Hugging Face's tokenizers library):
 *
 *   text -> added tokens not normalized -> normalizer -> added tokens normalized -> pre-tokenizer steps -> BPE of each piece
 *
 * Text of a token in the pool: byte-level BPE keeps the raw bytes the token stands for (the printable alphabet of GPT-2 is undone
 * once, at creation), SentencePiece BPE the spelling with U+2581; added tokens always their content.
 * Invariant: a text without parsed added tokens yields tokens of kind NORMAL, BYTE and UNKNOWN, and user-defined tokens of a single
 * character, where else that character would be lost; every other token is reachable through qn_added_match alone.
 */
#ifndef QN_TEXT_TOKENIZER_INT_H
#define QN_TEXT_TOKENIZER_INT_H

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/utf8.h"
#include "quern/tokenizer.h"
#include "text/normalize.h"
#include "text/pretokenize.h"

#define QN_NO_TOKEN UINT32_MAX

enum {
    QN_TOKENS_MAX = 4 << 20,     /* ids, four times the largest vocabulary published */
    QN_TOKENS_SPARE = 65536,     /* how far ids may lie beyond the number of entries: published vocabularies have gaps */
    QN_ADDED_BYTES_MAX = 1024,   /* of one added token: bounds the work of matching at one place */
    QN_SPM_PIECE_BYTES_MAX = 256 /* of one SentencePiece token: bounds the work of finding its splits */
};

/* U+2581, which stands for the blank in SentencePiece vocabularies. */
#define QN_BLANK "\xe2\x96\x81"
#define QN_BLANK_LEN 3u

enum {
    QN_TOKEN_ADDED = 1,       /* an added token: matched in trusted text, never made by merging */
    QN_TOKEN_SPECIAL = 2,     /* left out when decoding without special tokens */
    QN_TOKEN_LITERAL = 4,     /* byte-level BPE: the text is not in the printable alphabet and is written as it is */
    QN_TOKEN_PRESENT = 8,     /* the id has an entry */
    QN_TOKEN_BYTE_VALUE = 16, /* SentencePiece byte token: `byte` holds its value */
    QN_TOKEN_SYMBOL = 32      /* a user-defined token of one character, which is how that character is spelled in any text */
};

typedef struct qn_token {
    uint32_t begin, len; /* in the pool */
    uint8_t kind;        /* quern_token_kind */
    uint8_t flags;
    uint8_t byte;
} qn_token;

/* Exact-text index of the tokens: open addressing, hash and id + 1 side by side. */
typedef struct qn_text_slot {
    uint32_t hash, id_plus_1;
} qn_text_slot;

typedef struct qn_text_index {
    qn_text_slot *slots;
    size_t mask;
} qn_text_index;

/* Two adjacent symbols that may become one: open addressing on (left, right). Lower rank first, then leftmost. */
typedef struct qn_merge {
    uint64_t pair; /* left << 32 | right; QN_MERGE_FREE in a free slot */
    uint32_t rank, result;
} qn_merge;
#define QN_MERGE_FREE UINT64_MAX

typedef struct qn_merge_table {
    qn_merge *slots;
    size_t mask, n, cap; /* grows when it has cap rules */
    uint64_t seed;
} qn_merge_table;

/* One added token as it is looked for. */
typedef struct qn_added {
    uint32_t id;
    uint32_t begin, len; /* of the text to match, in the matcher's pool */
    bool single_word, left_strip, right_strip;
} qn_added;

/* Sorted by text; first[b] .. first[b + 1] are those beginning with byte b. */
typedef struct qn_added_matcher {
    qn_added *items;
    size_t n;
    char *pool;
    uint32_t first[257];
} qn_added_matcher;

/* How ids become text. */
typedef enum qn_decode_mode { QN_DECODE_BYTES, QN_DECODE_BLANKS } qn_decode_mode;

struct quern_tokenizer {
    quern_tokenizer_info info;
    char *pool;
    qn_token *tokens; /* info.n_tokens */
    qn_text_index index;
    uint64_t seed; /* of all hashes: differs from run to run, results never depend on it */

    bool byte_level;            /* symbols are bytes; else characters */
    bool ignore_merges;         /* a piece that is a token becomes it without merging */
    bool fuse_unknown;          /* neighbouring unknown characters give one unknown token */
    bool cut_at_blanks;         /* character BPE: no merge crosses into a U+2581 that follows another character */
    uint32_t unknown;           /* or QN_NO_TOKEN: what has no symbol is left out */
    uint32_t byte_symbol[256];  /* byte-level: the byte's token; character BPE: its fallback token; or QN_NO_TOKEN */
    uint32_t ascii_symbol[128]; /* character BPE: symbol of a one-byte character, or QN_NO_TOKEN */
    qn_merge_table merges;
    uint32_t n_extra;      /* symbols n_tokens .. n_tokens + n_extra - 1: characters that are no token but part of merges */
    uint32_t *extra_chars; /* sorted code points of the extra symbols */

    float *scores; /* SentencePiece vocabulary as it was given, for export; NULL if it came with merges */

    qn_normalizer normalizer;
    qn_pretokenizer pretokenizer;
    qn_added_matcher added_raw, added_normalized;

    qn_decode_mode decode_mode;
    uint32_t strip_leading;       /* blanks removed from the front of a decoded text */
    bool strip_first_token;       /* instead: all blanks of its first token */
    const char *pre_name;         /* static: the name GGUF has for this pipeline, or NULL */
    const char *pre_name_merging; /* static: GGUF's name if ignore_merges did not matter, or NULL */
    int add_space_prefix;         /* SentencePiece: 0 or 1; -1 where GGUF has nothing like the pipeline */
    bool prefix_differs;          /* GGUF puts the blank in front of more texts than the pipeline does */
};

/* ---- vocab.c ---- */
static inline uint64_t qn_hash_mix(uint64_t a, uint64_t b)
{
    a ^= b;
    a *= 0x9e3779b97f4a7c15u;
    return a ^ (a >> 29);
}

static inline uint64_t qn_text_hash(uint64_t seed, const char *s, size_t n)
{
    uint64_t h = qn_hash_mix(seed, n), word;
    for (; n >= 8; n -= 8, s += 8) {
        memcpy(&word, s, 8);
        h = qn_hash_mix(h, word);
    }
    word = 0;
    for (size_t i = 0; i < n; i++) {
        word = word << 8 | (unsigned char)s[i];
    }
    h = qn_hash_mix(h, word);
    h *= 0xd6e8feb86659fd93u;
    return h ^ (h >> 32);
}

/* How many bytes of a text go into a message: at most 100, whole characters. */
static inline int qn_shown(const char *s, size_t n) { return (int)(n < 100 ? n : qn_utf8_complete_prefix(s, 100)); }

static inline const char *qn_token_text(const quern_tokenizer *t, uint32_t id) { return t->pool + t->tokens[id].begin; }
/* Reachable by merging. */
static inline bool qn_token_reachable(const qn_token *k)
{
    return (k->flags & QN_TOKEN_SYMBOL) != 0 || (k->kind == QUERN_TOKEN_NORMAL && (k->flags & (QN_TOKEN_ADDED | QN_TOKEN_LITERAL)) == 0);
}
/* The reachable token with this text, or QN_NO_TOKEN. */
uint32_t qn_vocab_find_piece(const quern_tokenizer *t, const char *s, size_t n);
/* Any token with this text: a reachable one if there is one; or QN_NO_TOKEN. */
uint32_t qn_vocab_find_any(const quern_tokenizer *t, const char *s, size_t n);
/* The symbol of a part of a token: a reachable token, or a single character that has a symbol of its own; or QN_NO_TOKEN. */
uint32_t qn_vocab_part_symbol(const quern_tokenizer *t, const char *s, size_t n);
/* The character of GPT-2's printable alphabet that stands for a byte, and the inverse (-1 if the character is not in it). */
uint32_t qn_alphabet_char(unsigned byte);
int qn_alphabet_byte(uint32_t cp);
/* Builds the index anew from the tokens' present texts. Of equal texts it keeps one reachable and one other token; two reachable ones are
 * QUERN_ERROR_INVALID. */
quern_status qn_vocab_index(quern_tokenizer *t, const char *what, quern_error *err);

/* ---- bpe_merge.c ---- */
quern_status qn_merge_table_init(qn_merge_table *m, size_t n_expected, uint64_t seed, quern_error *err);
void qn_merge_table_deinit(qn_merge_table *m);
/* Adds a pair; a second rule for the same pair is ignored, or replaces the first. False when out of memory. */
bool qn_merge_table_add(qn_merge_table *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t result, bool replace);

/* The rules in the order of their ranks (m->n; qn_free), NULL when out of memory. */
qn_merge *qn_merge_table_sorted(const qn_merge_table *m);

/* Memory for merging long pieces, reused within one call. */
typedef struct qn_merge_work {
    uint32_t *symbols, *prev, *next;
    uint64_t *heap;
    size_t cap;
} qn_merge_work;
void qn_merge_work_deinit(qn_merge_work *w);
quern_status qn_merge_work_reserve(qn_merge_work *w, size_t n, quern_error *err);
/* Merges symbols[0..n) in place; returns how many are left. More than QN_MERGE_SHORT symbols must be w->symbols. */
enum { QN_MERGE_SHORT = 32 };
size_t qn_merge_symbols(const qn_merge_table *m, uint32_t *symbols, size_t n, qn_merge_work *w);

/* ---- added_tokens.c ---- */
typedef struct qn_added_spec {
    qn_added token;
    const char *text;
} qn_added_spec;
quern_status qn_added_matcher_init(qn_added_matcher *m, qn_added_spec *specs, size_t n, quern_error *err);
void qn_added_matcher_deinit(qn_added_matcher *m);
/* Finds the next added token at or after `from`: the leftmost one, the longest of those that begin there. Its spelling lies in trusted
 * characters only (trust: one byte a byte of text, NULL = all trusted). *begin and *end include stripped white space, begin never
 * before `floor`. NULL if there is none. */
const qn_added *qn_added_match(const qn_added_matcher *m, const char *s, size_t n, const char *trust, size_t from, size_t floor,
                               size_t *begin, size_t *end);

/* ---- one encoding call ---- */
enum { QN_WORD_BYTES_MAX = 22, QN_WORD_IDS_MAX = 10 };
typedef struct qn_word { /* 64 bytes: the ids of a short piece */
    uint8_t len, n_ids;
    char text[QN_WORD_BYTES_MAX];
    uint32_t ids[QN_WORD_IDS_MAX];
} qn_word;

typedef struct qn_encoding {
    const quern_tokenizer *t;
    quern_ids *ids;
    quern_error *err;
    qn_word *words; /* direct-mapped cache of this call */
    size_t word_mask;
    qn_merge_work work;
    qn_pretokenize_buffers buffers;
} qn_encoding;

quern_status qn_ids_reserve(quern_ids *ids, size_t extra, quern_error *err);
/* Appends the ids of one piece (bpe_bytes.c, bpe_spm.c). */
quern_status qn_encode_bytes_piece(qn_encoding *e, const char *s, size_t n);
quern_status qn_encode_chars_piece(qn_encoding *e, const char *s, size_t n);
/* The cached ids of a short piece, or NULL and the slot to fill (NULL for a long piece). */
const qn_word *qn_word_find(const qn_encoding *e, const char *s, size_t n, qn_word **slot);
void qn_word_keep(qn_word *slot, const char *s, size_t n, const int32_t *ids, size_t n_ids);

#endif
