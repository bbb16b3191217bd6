/* json_tokens.h - JSON token by token, without building a tree and without allocating.
 *
 * For untrusted documents of a fixed form (a safetensors header), where a tree would cost many times the text. Checks what
 * a single token can be (escapes, UTF-8, number syntax); the order of tokens is the caller's to check. */
#ifndef QN_BASE_JSON_TOKENS_H
#define QN_BASE_JSON_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum qn_json_token {
    QN_JSON_TOKEN_END,
    QN_JSON_TOKEN_BAD,
    QN_JSON_TOKEN_OBJECT,
    QN_JSON_TOKEN_OBJECT_END,
    QN_JSON_TOKEN_ARRAY,
    QN_JSON_TOKEN_ARRAY_END,
    QN_JSON_TOKEN_COLON,
    QN_JSON_TOKEN_COMMA,
    QN_JSON_TOKEN_STRING,
    QN_JSON_TOKEN_INT,
    QN_JSON_TOKEN_REAL,
    QN_JSON_TOKEN_TRUE,
    QN_JSON_TOKEN_FALSE,
    QN_JSON_TOKEN_NULL
} qn_json_token;

typedef struct qn_json_tokens {
    const char *data;
    size_t size;
    size_t next;         /* where the search for the next token begins */
    qn_json_token token; /* the last one */
    size_t begin, end;   /* its bytes; of a string, those between the quotes */
} qn_json_tokens;

void qn_json_tokens_init(qn_json_tokens *s, const char *data, size_t size);
qn_json_token qn_json_tokens_next(qn_json_tokens *s);
/* Skips one whole value, the last token being its first; at most 512 levels deep. Afterwards the last token is the value's
 * last one. False (and the last token QN_JSON_TOKEN_BAD) if it is not well formed. */
bool qn_json_tokens_skip(qn_json_tokens *s);
/* Decodes the string token into out, which has room for end - begin bytes; returns the bytes written (no NUL is added). */
size_t qn_json_tokens_string(const qn_json_tokens *s, char *out);
/* The value of the integer token; false if it is negative or above 2^64 - 1. */
bool qn_json_tokens_u64(const qn_json_tokens *s, uint64_t *out);
/* "a string", "'{'" and so on, for messages. */
const char *qn_json_token_text(qn_json_token token);

#endif
