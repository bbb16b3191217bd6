/* quern/tokenizer.h - text to token ids and back.
 *
 * A tokenizer is immutable after creation and may be used from many threads at once.
 * Two ways in: `quern_tokenizer_encode` for plain text, where added (special) tokens are looked for only if asked;
 * and `quern_tokenizer_encode_segments` for text whose parts are trusted or not: special tokens are looked for in
 * trusted parts only, while everything between two special tokens is pre-tokenized and merged as one string.
 */
#ifndef QUERN_TOKENIZER_H
#define QUERN_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "quern/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_tokenizer quern_tokenizer;

/* A list of token ids that the library allocates; free with quern_ids_deinit. Zero-initialise before first use. */
typedef struct quern_ids {
    int32_t *data;
    size_t len;
    size_t cap;
} quern_ids;
/* Frees the list and zeroes the struct. */
QUERN_API void quern_ids_deinit(quern_ids *ids);

/* A piece of text; `trusted` characters came from a template, the others from a user. */
typedef struct quern_segment {
    const char *text;
    size_t len;
    bool trusted;
} quern_segment;

enum {
    QUERN_ENCODE_PARSE_SPECIAL = 1, /* text that spells an added token becomes that token */
    QUERN_ENCODE_ADD_BOS = 2        /* begin with the BOS token if the vocabulary has one */
};

typedef enum quern_token_kind {
    QUERN_TOKEN_NORMAL, QUERN_TOKEN_UNKNOWN, QUERN_TOKEN_CONTROL, QUERN_TOKEN_USER_DEFINED, QUERN_TOKEN_UNUSED, QUERN_TOKEN_BYTE
} quern_token_kind;

/* What a vocabulary says of itself; -1 where it has no such token. Strings live as long as the tokenizer. */
typedef struct quern_tokenizer_info {
    const char *model;          /* "bpe" (byte-level) or "spm" (SentencePiece BPE) */
    const char *pre_tokenizer;  /* name of the recognised scanner ("qwen2", "llama3", ...), "regex", "metaspace", "sequence" or "none" */
    size_t n_tokens;            /* ids run from 0 to n_tokens - 1 */
    size_t n_added;
    int32_t bos_id, eos_id, unk_id, pad_id;
    bool add_bos, add_eos;      /* what the model's own configuration asks for */
} quern_tokenizer_info;

/* From the text of a tokenizer.json; `config` (tokenizer_config.json's text) may be NULL. */
QUERN_API quern_status quern_tokenizer_create_from_json(quern_tokenizer **out, const char *json, size_t json_len,
                                                        const char *config, size_t config_len, quern_error *err);
QUERN_API void quern_tokenizer_destroy(quern_tokenizer *t); /* NULL is fine */

/* Valid until the tokenizer is destroyed. */
QUERN_API const quern_tokenizer_info *quern_tokenizer_get_info(const quern_tokenizer *t);
/* The stored spelling of a token (byte-level BPE: the raw bytes it stands for). NULL if id is out of range. */
QUERN_API const char *quern_tokenizer_get_text(const quern_tokenizer *t, int32_t id, size_t *len);
QUERN_API quern_token_kind quern_tokenizer_get_kind(const quern_tokenizer *t, int32_t id);
/* The id of a token with exactly this stored spelling (added tokens included), or -1. */
QUERN_API int32_t quern_tokenizer_find(const quern_tokenizer *t, const char *text, size_t len);

/* Appends the ids of text to *ids, which stays as it was on failure. Invalid UTF-8 is encoded byte by byte, never refused. */
QUERN_API quern_status quern_tokenizer_encode(const quern_tokenizer *t, const char *text, size_t len, int flags,
                                              quern_ids *ids, quern_error *err);
/* The same for parts of one text. Added tokens are always looked for in trusted parts (QUERN_ENCODE_PARSE_SPECIAL is implied), and only in
 * trusted characters; a token may span neighbouring trusted parts. */
QUERN_API quern_status quern_tokenizer_encode_segments(const quern_tokenizer *t, const quern_segment *segments, size_t n_segments,
                                                       int flags, quern_ids *ids, quern_error *err);

/* Decodes ids into new NUL-terminated memory (free with quern_free). Control tokens are spelled out if with_special,
 * else left out. Bytes that are no UTF-8 stay as they are. Ids without a token (a model's vocabulary may be padded) add nothing; a negative
 * id is QUERN_ERROR_INVALID. */
QUERN_API quern_status quern_tokenizer_decode(const quern_tokenizer *t, const int32_t *ids, size_t n_ids, bool with_special,
                                              char **text, size_t *len, quern_error *err);

/* Streaming: feeds one id, gives the bytes that are now complete UTF-8 (maybe none). A character is never split;
 * bytes that can no longer become a character come out as U+FFFD. */
typedef struct quern_decoder quern_decoder;
QUERN_API quern_status quern_decoder_create(quern_decoder **out, const quern_tokenizer *t, bool with_special, quern_error *err);
QUERN_API void quern_decoder_destroy(quern_decoder *d);
QUERN_API void quern_decoder_reset(quern_decoder *d);
/* *text is valid until the next call on d. */
QUERN_API quern_status quern_decoder_push(quern_decoder *d, int32_t id, const char **text, size_t *len, quern_error *err);
/* What is still pending at the end (incomplete bytes as U+FFFD). */
QUERN_API quern_status quern_decoder_finish(quern_decoder *d, const char **text, size_t *len, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
