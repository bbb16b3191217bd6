/* tensor.h - a tensor as a file has it: name, type, shape and checked bytes. Shared by all readers and writers. */
#ifndef QN_FORMATS_TENSOR_H
#define QN_FORMATS_TENSOR_H

#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "quant/dtype.h"

#define QN_TENSOR_DIMS_MAX 8
#define QN_TENSOR_NAME_MAX 1024u /* bytes; far above every published name, so that a message can hold one */

typedef struct qn_tensor {
    const char *name; /* NUL-terminated, lives as long as the file */
    qn_dtype dtype;
    uint32_t n_dims;                    /* 0 = scalar */
    uint64_t shape[QN_TENSOR_DIMS_MAX]; /* row-major: last dimension fastest (GGUF's order reversed) */
    uint64_t n_elements;
    const uint8_t *data; /* inside the mapping; not aligned beyond what the file gives */
    size_t n_bytes;
    uint32_t file_index;  /* which shard */
    uint64_t file_offset; /* of data, in that shard */
} qn_tensor;

/* Fills n_elements and n_bytes from dtype, n_dims and shape. False, with the reason in words, if a product overflows or a
 * row (the last dimension) is no whole number of blocks. */
bool qn_tensor_measure(qn_tensor *t, const char **why);
/* Fails (QUERN_ERROR_INVALID, naming path and both tensors) if two of the n tensors, all of one file, share a byte. */
quern_status qn_tensor_check_overlap(const qn_tensor *tensors, size_t n, const char *path, quern_error *err);
/* A name that may go into C strings and messages: 1..QN_TENSOR_NAME_MAX bytes of UTF-8 without NUL. */
bool qn_tensor_name_valid(const char *name, size_t len);
/* For "%.*s": how many bytes of an untrusted name a message shows (whole characters, at most 160 bytes). */
int qn_name_shown(const char *name, size_t len);

#endif
