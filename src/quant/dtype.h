/* dtype.h - the element types of tensors: one row a type in dtypes.inc, everything else derives from it.
 *
 * A quantized type stores blocks of `block_size` elements in `block_bytes` bytes; a matrix row is a whole
 * number of blocks. MLX affine tensors are described by qn_affine (bits, group) beside the packed words and are
 * therefore QN_DTYPE_MLX_AFFINE with block figures of their own.
 */
#ifndef QN_QUANT_DTYPE_H
#define QN_QUANT_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum qn_dtype {
#define X(name, text, ggml_id, st_name, block_size, block_bytes) QN_DTYPE_##name,
#include "quant/dtypes.inc"
#undef X
    QN_DTYPE_COUNT
} qn_dtype;

typedef struct qn_dtype_traits {
    const char *name;        /* "Q4_K", "F16"; as in GGUF tools */
    int ggml_id;             /* type number in GGUF, -1 if GGUF has none */
    const char *safetensors; /* dtype string in safetensors, NULL if it has none */
    uint32_t block_size;     /* elements a block; 1 for plain types; 0 for MLX affine */
    uint32_t block_bytes;
} qn_dtype_traits;

const qn_dtype_traits *qn_dtype_get(qn_dtype t); /* t < QN_DTYPE_COUNT */
bool qn_dtype_from_ggml_id(uint32_t id, qn_dtype *out);
bool qn_dtype_from_safetensors(const char *name, qn_dtype *out);
/* Bytes of `n` elements in a row; false if n is no whole number of blocks or the product overflows. */
bool qn_dtype_row_bytes(qn_dtype t, uint64_t n, size_t *bytes);

/* MLX affine quantization: w = scale * q + bias, q of `bits` bits packed as one little-endian bit stream a row,
 * scale and bias (dtype F32, F16 or BF16) per `group` elements. */
typedef struct qn_affine {
    uint32_t bits;  /* 1..6 or 8 */
    uint32_t group; /* 32, 64 or 128 */
} qn_affine;

#define QN_SCALE_GRID_MAX \
    0x1p100f /* of a factor's magnitude: kernels multiply it by a power of two beforehand, and no model has one near it */

/* FP8 weights with block scales: w = e4m3 * factor, one float32 factor for each block of rows x cols elements of a matrix; the blocks at
 * the right and lower edge may be cut. values (ceil(n_rows / rows), n_across), n_across = ceil(n_cols / cols). */
typedef struct qn_scale_grid {
    const float *values;
    uint32_t rows, cols;
    size_t n_across;
} qn_scale_grid;
/* The factors of a row, one a block. */
static inline const float *qn_scale_grid_row(const qn_scale_grid *g, size_t row) { return g->values + row / g->rows * g->n_across; }

#endif
