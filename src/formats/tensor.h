/* tensor.h - a tensor as a file has it: name, type, shape and checked bytes. Shared by all readers. */
#ifndef QN_FORMATS_TENSOR_H
#define QN_FORMATS_TENSOR_H

#include <stddef.h>
#include <stdint.h>
#include "quant/dtype.h"

#define QN_TENSOR_DIMS_MAX 8

typedef struct qn_tensor {
    const char *name;      /* NUL-terminated, lives as long as the file */
    qn_dtype dtype;
    uint32_t n_dims;       /* 0 = scalar */
    uint64_t shape[QN_TENSOR_DIMS_MAX]; /* row-major: last dimension fastest (GGUF's order reversed) */
    uint64_t n_elements;
    const uint8_t *data;   /* inside the mapping; not aligned beyond what the file gives */
    size_t n_bytes;
    uint32_t file_index;   /* which shard */
    uint64_t file_offset;  /* of data, in that shard */
} qn_tensor;

#endif
