/* gguf_read.h - GGUF v2 and v3, one file or split, read in place.
 *
 * Owns the mapping and the index of keys and tensors. Knows nothing of models: what a key means is decided above.
 * Invariant: after a successful open every key, string, array and tensor span lies inside its file, names are unique, spans do not overlap.
 */
#ifndef QN_FORMATS_GGUF_READ_H
#define QN_FORMATS_GGUF_READ_H

#include <stdbool.h>
#include "base/error.h"
#include "base/fs.h"
#include "formats/tensor.h"

typedef struct qn_gguf qn_gguf;

typedef enum qn_gguf_type {
    QN_GGUF_U8,
    QN_GGUF_I8,
    QN_GGUF_U16,
    QN_GGUF_I16,
    QN_GGUF_U32,
    QN_GGUF_I32,
    QN_GGUF_F32,
    QN_GGUF_BOOL,
    QN_GGUF_STRING,
    QN_GGUF_ARRAY,
    QN_GGUF_U64,
    QN_GGUF_I64,
    QN_GGUF_F64
} qn_gguf_type; /* the file's own numbers */

/* A string inside the mapping, not NUL-terminated. */
typedef struct qn_span {
    const char *data;
    size_t len;
} qn_span;

typedef struct qn_gguf_value {
    qn_span key;
    qn_gguf_type type;
    qn_gguf_type element; /* of an array */
    uint64_t n;           /* elements of an array, else 1 */
    const uint8_t *data;  /* first byte of the value (for arrays: of the first element) */
    size_t n_bytes;       /* of all elements together */
} qn_gguf_value;

/* Opens a file; if it is the first shard of a split one ("-00001-of-00005.gguf", split.count), opens all of them.
 * copy: read into memory instead of mapping. */
quern_status qn_gguf_open(qn_gguf **out, const char *path, bool copy, quern_error *err);
/* Parses memory that outlives the result; `what` names it in messages. A split file's further shards are refused. */
quern_status qn_gguf_parse(qn_gguf **out, const uint8_t *data, size_t size, const char *what, quern_error *err);
void qn_gguf_close(qn_gguf *g);

uint32_t qn_gguf_version(const qn_gguf *g);
const char *qn_gguf_path(const qn_gguf *g);
size_t qn_gguf_n_files(const qn_gguf *g);
const char *qn_gguf_file_path(const qn_gguf *g, size_t i);
uint64_t qn_gguf_file_bytes(const qn_gguf *g, size_t i);
/* How its bytes came here; NULL for memory that the caller owns. */
const qn_mapping *qn_gguf_file_mapping(const qn_gguf *g, size_t i);
size_t qn_gguf_n_tensors(const qn_gguf *g);
const qn_tensor *qn_gguf_tensor_at(const qn_gguf *g, size_t i);
const qn_tensor *qn_gguf_find_tensor(const qn_gguf *g, const char *name); /* NULL if absent */
size_t qn_gguf_n_keys(const qn_gguf *g);
const qn_gguf_value *qn_gguf_key_at(const qn_gguf *g, size_t i);
const qn_gguf_value *qn_gguf_find(const qn_gguf *g, const char *key); /* NULL if absent */

/* Typed reading. _get fails (QUERN_ERROR_INVALID naming file, key and both types) if the key has another type;
 * *found tells whether it was there (then *out is set). Integers of any width and sign are accepted where they fit. */
quern_status qn_gguf_get_u64(const qn_gguf *g, const char *key, uint64_t *out, bool *found, quern_error *err);
quern_status qn_gguf_get_f64(const qn_gguf *g, const char *key, double *out, bool *found, quern_error *err);
quern_status qn_gguf_get_bool(const qn_gguf *g, const char *key, bool *out, bool *found, quern_error *err);
quern_status qn_gguf_get_string(const qn_gguf *g, const char *key, qn_span *out, bool *found, quern_error *err);
/* "u32", "string", ...; "unknown" for numbers that are no type. */
const char *qn_gguf_type_name(uint32_t type);
/* Element i of an array (0 for a scalar): false if the type does not fit. */
bool qn_gguf_element_i64(const qn_gguf_value *v, uint64_t i, int64_t *out);
bool qn_gguf_element_f64(const qn_gguf_value *v, uint64_t i, double *out);
/* Walks the strings of an array: *cursor starts as v->data; n times. */
qn_span qn_gguf_next_string(const uint8_t **cursor);

#endif
