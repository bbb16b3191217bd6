/* act.c - how activation rows are held for the matrix kernels: which form a weight type wants, the layout in memory, and the choice of
 * quantizer.
 *
 * Invariant: every plane's rows start 64-byte aligned and are padded with zeros to their stride, so a kernel may read whole registers.
 */
#include <string.h>

#include "base/alloc.h"
#include "kernels/matmul_kernels.h"
#include "quant/blocks.h"

enum { PLANE_ALIGN = 64, SUM_WIDTH = 16 };

qn_act_kind qn_act_kind_for(qn_dtype t, qn_affine affine, uint32_t *block)
{
    switch (t) {
    case QN_DTYPE_Q4_0:
    case QN_DTYPE_Q4_1:
    case QN_DTYPE_Q5_0:
    case QN_DTYPE_Q5_1:
    case QN_DTYPE_Q8_0:
    case QN_DTYPE_IQ4_NL:
    case QN_DTYPE_MXFP4: *block = 32; return QN_ACT_I8;
    case QN_DTYPE_Q2_K:
    case QN_DTYPE_Q3_K:
    case QN_DTYPE_Q4_K:
    case QN_DTYPE_Q5_K:
    case QN_DTYPE_Q6_K:
    case QN_DTYPE_IQ4_XS:
    case QN_DTYPE_TQ1_0:
    case QN_DTYPE_TQ2_0: *block = QN_K; return QN_ACT_I8;
    case QN_DTYPE_MLX_AFFINE: *block = affine.group; return QN_ACT_I8;
    default: *block = 0; return QN_ACT_F32;
    }
}

/* Elements of a row of a plane with n of them: whole 64-byte lines, an odd number, since rows a power of two apart would share a few sets of
 * the caches. */
static size_t stride_for(size_t n, size_t element_bytes)
{
    size_t lines = (n * element_bytes + PLANE_ALIGN - 1) / PLANE_ALIGN;
    return (lines | 1) * (PLANE_ALIGN / element_bytes);
}

static size_t q_stride_for(size_t n_cols) { return stride_for(n_cols, sizeof(int8_t)); }
static size_t d_stride_for(size_t n_cols, uint32_t block) { return stride_for((n_cols + block - 1) / block, sizeof(float)); }
static size_t s_stride_for(size_t n_cols) { return stride_for((n_cols + SUM_WIDTH - 1) / SUM_WIDTH, sizeof(int16_t)); }
static size_t f_stride_for(size_t n_cols) { return stride_for(n_cols, sizeof(float)); }

size_t qn_act_bytes(qn_act_kind kind, uint32_t block, size_t n_rows, size_t n_cols)
{
    if (n_cols > SIZE_MAX / 16) { /* no row of that length exists; the caller's allocation fails */
        return SIZE_MAX;
    }
    size_t row_bytes = kind == QN_ACT_F32
                           ? f_stride_for(n_cols) * sizeof(float)
                           : q_stride_for(n_cols) + d_stride_for(n_cols, block) * sizeof(float) + s_stride_for(n_cols) * sizeof(int16_t);
    size_t bytes;
    return qn_size_mul(row_bytes, n_rows, &bytes) ? bytes : SIZE_MAX;
}

static void zero_padding(void *plane, size_t n_rows, size_t used, size_t stride, size_t element_bytes)
{
    char *p = plane;
    for (size_t r = 0; r < n_rows && used < stride; r++) {
        memset(p + (r * stride + used) * element_bytes, 0, (stride - used) * element_bytes);
    }
}

void qn_act_bind(qn_act *a, qn_act_kind kind, uint32_t block, size_t n_rows, size_t n_cols, void *memory)
{
    *a = (qn_act){.kind = kind, .n_rows = n_rows, .n_cols = n_cols, .block = block};
    char *at = memory;
    if (kind == QN_ACT_F32) {
        a->f = memory;
        a->f_stride = f_stride_for(n_cols);
        zero_padding(a->f, n_rows, n_cols, a->f_stride, sizeof *a->f);
        return;
    }
    a->q_stride = q_stride_for(n_cols);
    a->d_stride = d_stride_for(n_cols, block);
    a->s_stride = s_stride_for(n_cols);
    a->q = (int8_t *)at;
    at += n_rows * a->q_stride;
    a->d = (float *)(void *)at;
    at += n_rows * a->d_stride * sizeof *a->d;
    a->sum16 = (int16_t *)(void *)at;
    zero_padding(a->q, n_rows, n_cols, a->q_stride, sizeof *a->q);
    zero_padding(a->d, n_rows, n_cols / block, a->d_stride, sizeof *a->d);
    zero_padding(a->sum16, n_rows, n_cols / SUM_WIDTH, a->s_stride, sizeof *a->sum16);
}

void qn_act_quantize(qn_isa isa, qn_act *a, const float *x, size_t x_stride, size_t row0, size_t row1)
{
#if defined(__x86_64__)
    static const qn_act_quantize_fn quantizers[QN_ISA_COUNT] = {
        [QN_ISA_SCALAR] = qn_act_quantize_scalar,     [QN_ISA_AVX2] = qn_act_quantize_avx2,  [QN_ISA_AVX512] = qn_act_quantize_avx512,
        [QN_ISA_AVX512VNNI] = qn_act_quantize_avx512, [QN_ISA_AMX] = qn_act_quantize_avx512, [QN_ISA_NEON] = qn_act_quantize_scalar,
        [QN_ISA_I8MM] = qn_act_quantize_scalar,
    };
    quantizers[isa](a, x, x_stride, row0, row1);
#else
    (void)isa;
    qn_act_quantize_scalar(a, x, x_stride, row0, row1);
#endif
}
