/* vocab_build.h - making a tokenizer: what the ways in (tokenizer.json, arrays) share.
 *
 * Order: begin, entries, place, added tokens, merges (texts are still as spelled in the file), finish.
 */
#ifndef QN_TEXT_VOCAB_BUILD_H
#define QN_TEXT_VOCAB_BUILD_H

#include "text/tokenizer_int.h"

typedef struct qn_entry {
    uint32_t id, begin, len; /* text in the pool */
    uint8_t kind, flags;
} qn_entry;

/* An added token as the file describes it. */
typedef struct qn_added_entry {
    uint32_t id, begin, len; /* text in the pool */
    bool single_word, left_strip, right_strip, normalized, special;
    bool in_model; /* the list of the model's own tokens and that of added tokens are one */
} qn_added_entry;

typedef struct qn_vocab_builder {
    quern_tokenizer *t; /* owned until qn_builder_take */
    const char *what;   /* names the source in messages */
    quern_error *err;
    qn_buf pool;
    qn_entry *entries;
    size_t n_entries, entries_cap;
    qn_added_entry *added;
    size_t n_added, added_cap;
    uint32_t max_id;
} qn_vocab_builder;

quern_status qn_builder_init(qn_vocab_builder *b, const char *what, quern_error *err);
void qn_builder_deinit(qn_vocab_builder *b);
quern_tokenizer *qn_builder_take(qn_vocab_builder *b);

/* Fails for an id that is negative or above QN_TOKENS_MAX, naming the token. */
quern_status qn_builder_check_id(const qn_vocab_builder *b, int64_t id, const char *text, size_t len);
quern_status qn_builder_add(qn_vocab_builder *b, int64_t id, const char *text, size_t len, quern_token_kind kind, int flags);
quern_status qn_builder_add_added(qn_vocab_builder *b, int64_t id, const char *text, size_t len, qn_added_entry like);
/* Gives every id its entry; ids must not lie far beyond the number of entries, and no two entries share one. Texts are indexed as
 * spelled. */
quern_status qn_builder_place(qn_vocab_builder *b);
/* Makes a placed token the unknown token. */
void qn_builder_mark_unknown(qn_vocab_builder *b, uint32_t id);
/* Marks the byte tokens <0x00> to <0xFF> among the normal ones. */
void qn_builder_mark_bytes(qn_vocab_builder *b);
/* Rule number `rank`: left + right. Both and their concatenation must be tokens; a rule that makes an unreachable token is
 * left out. */
quern_status qn_builder_merges_begin(qn_vocab_builder *b);
quern_status qn_builder_merge(qn_vocab_builder *b, size_t rank, const char *left, size_t left_len, const char *right, size_t right_len,
                              bool replace);
/* SentencePiece: every way to cut a token into two symbols is a merge, ranked by the token's score. */
quern_status qn_builder_merges_from_scores(qn_vocab_builder *b, const float *scores);
/* Turns texts into what they stand for, finds the symbols of bytes and characters, and makes the matchers of added tokens. */
quern_status qn_builder_finish(qn_vocab_builder *b);

#endif
