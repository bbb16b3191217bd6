/* matmul.h - the contract of all matrix kernels: y[t][r] = sum_k w[r][k] * x[t][k], rows as the file stores them.
 *
 * The bits of an output element are fixed by (weight row, activation row) alone; every kernel of a family gives them.
 *
 * INTEGER FAMILY (all quantized weights). The activation row was quantized once (qn_act_quantize) in blocks of B elements:
 * B = 256 for Q2_K..Q6_K, IQ4_XS, TQ*; 32 for Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4; the group for MLX affine.
 * Starting from acc = 0, for each block b in order, with d = the weight block's scale as float32, a = act d[b]:
 *   types without a min:  acc = fmaf(d * a, (float)isum, acc)
 *   types with a min:     acc = fmaf(d * a, (float)isum, acc); acc = fmaf(m * a, (float)msum, acc)
 * isum: exact int32 sum over the block of (integer scale of the sub-block) * code * q_act. For types whose code has an offset
 * (Q4_0: -8, Q5_0: -16, Q6_K: -32, Q3_K: -4, IQ4: table value) the code is the signed value after the offset.
 * msum and m: Q4_1, Q5_1: m = the block's min, msum = sum of q_act.  Q2_K, Q4_K, Q5_K: m = -dmin (float32),
 * msum = sum over sub-blocks of min_j * (sum of q_act in it).  MLX: d = scale, m = bias, msum = sum of q_act in the group.
 * (d * a) and (m * a) are single float32 products rounded once.
 *
 * FLOAT FAMILY (F32 F16 BF16 F8_E4M3 weights, float32 activations): 16 lanes; lane l takes elements k = l, l+16, l+32, ... in order:
 * lane = fmaf(w, x, lane), from 0; w of F8_E4M3 is its value times its block's factor, rounded once to float32; a tail shorter than 16 only updates its
 * lanes. Then the fixed tree: s8[l] = lane[l] + lane[l+8]; s4[l] = s8[l] + s8[l+4]; s2[l] = s4[l] + s4[l+2]; y = s2[0] + s2[1].
 *
 * Outputs are written, not accumulated. y rows are y_stride floats apart. Shapes were checked at load: kernels cannot fail.
 * Weights may be unaligned (2 bytes at best); activations are 64-byte aligned, their rows padded as qn_act says.
 */
#ifndef QN_KERNELS_MATMUL_H
#define QN_KERNELS_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cpu.h"
#include "quant/dtype.h"

/* A weight matrix where the file has it: n_rows rows of n_cols elements. */
typedef struct qn_matrix {
    qn_dtype dtype;
    qn_affine affine;      /* MLX only */
    qn_dtype affine_dtype; /* type of scales and biases, MLX only */
    const uint8_t *data;
    const uint8_t *scales, *biases; /* MLX only: (n_rows, n_cols / group) */
    size_t row_bytes;               /* of data */
    size_t n_rows, n_cols;
    qn_scale_grid grid; /* F8_E4M3 only */
    size_t grid_row;    /* F8_E4M3 only: row 0 here is this row of the matrix that the grid covers */
} qn_matrix;

/* How activations are held for a weight type. */
typedef enum qn_act_kind { QN_ACT_F32, QN_ACT_I8 } qn_act_kind;

/* Activation rows. F32: f (n, f_stride). I8: planes
 *   q    (n, q_stride) int8, -127..127, padding zero
 *   d    (n, d_stride) float32, one a block of `block` elements
 *   sum16 (n, s_stride) int16, sums of q over 16 elements each
 * Strides are in elements, in memory that qn_act_bind laid out an odd number of 64-byte lines each; every plane's rows start 64-byte aligned. */
typedef struct qn_act {
    qn_act_kind kind;
    size_t n_rows, n_cols;
    uint32_t block;
    float *f;
    size_t f_stride;
    int8_t *q;
    float *d;
    int16_t *sum16;
    size_t q_stride, d_stride, s_stride;
} qn_act;

/* The activation form a weight type wants; block is set for QN_ACT_I8. */
qn_act_kind qn_act_kind_for(qn_dtype t, qn_affine affine, uint32_t *block);
/* Bytes that qn_act_bind needs for n_rows rows of n_cols columns (64-byte aligned memory). */
size_t qn_act_bytes(qn_act_kind kind, uint32_t block, size_t n_rows, size_t n_cols);
/* Lays the planes out in `memory` and zeroes padding. */
void qn_act_bind(qn_act *a, qn_act_kind kind, uint32_t block, size_t n_rows, size_t n_cols, void *memory);

/* Quantizes rows [row0, row1) of x (row stride x_stride) into a. Per block: amax = max |x|; d = amax / 127;
 * q = round-half-even(x * (127 / amax)); q = 0 where amax is 0 or so small that 127 / amax is infinite; NaN or infinity in x gives d = NaN
 * and q = 0. Same bits on every ISA. */
typedef void (*qn_act_quantize_fn)(qn_act *a, const float *x, size_t x_stride, size_t row0, size_t row1);

/* Columns of weights = rows of the matrix [r0, r1), all rows of a; y points at y[0][0] of the whole output: element (t, r) is
 * y[t * y_stride + r]. scratch: qn_matmul_scratch_bytes of 64-byte aligned memory private to the calling thread. */
typedef void (*qn_matmul_fn)(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
                             void *scratch);

/* One row of matmul.inc: X(fn, isa, dtype, mlx_bits, min_tokens): used for this type from min_tokens rows on, if isa <= chosen. */
typedef struct qn_matmul_kernel {
    const char *name;
    qn_isa isa;
    qn_dtype dtype;
    uint32_t mlx_bits; /* 0 for other types */
    uint32_t min_tokens;
    qn_matmul_fn fn;
} qn_matmul_kernel;

/* All kernels, for tests and benches. */
size_t qn_matmul_kernel_count(void);
const qn_matmul_kernel *qn_matmul_kernel_at(size_t i);
/* Calls that kernel number i has served since start (relaxed counter; tests check that a forced kernel ran). */
uint64_t qn_matmul_kernel_calls(size_t i);

/* True for a matrix that no kernel takes as it is: F8_E4M3 under a grid whose blocks end between two steps of 16 columns. Its rows are decoded to float32
 * a few at a time and multiplied as those, with the same bits. */
static inline bool qn_matrix_is_decoded(const qn_matrix *w)
{
    return w->dtype == QN_DTYPE_F8_E4M3 && w->grid.cols % 16 != 0 && w->grid.cols < w->n_cols;
}

/* True if some kernel multiplies with this type. */
bool qn_matmul_supported(qn_dtype t, qn_affine affine);
/* Runs the best kernel of at most `isa` for this type and number of tokens (t1 - t0), and counts the call. Rows should be cut at
 * multiples of QN_MATMUL_ROW_UNIT so that tiles are whole. */
#define QN_MATMUL_ROW_UNIT 16
void qn_matmul(qn_isa isa, const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
               void *scratch);
#define QN_MATMUL_SCRATCH_BYTES (512u * 1024u)

/* Dispatches qn_act_quantize_fn by isa. */
void qn_act_quantize(qn_isa isa, qn_act *a, const float *x, size_t x_stride, size_t row0, size_t row1);

#endif
