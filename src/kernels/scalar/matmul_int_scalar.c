/* matmul_int_scalar.c - the integer family in plain C, every type: runs on any machine, and is what all vector kernels must equal bit by bit.
 *
 * A block is read once and used for all tokens; y holds the float chains meanwhile. Invariant: the order of matmul.h.
 */
#include <math.h>

#include "kernels/matmul_kernels.h"
#include "kernels/scalar/block_form.h"

static float multiply_block(const qn_block_form *f, qn_block_shape s, const int8_t *q, const int16_t *sum16, float a, float acc)
{
    int32_t isum = 0;
    int32_t msum = 0;
    for (size_t j = 0; j * s.sub < s.block; j++) {
        int32_t dot = 0;
        for (size_t i = j * s.sub; i < (j + 1) * s.sub; i++) {
            dot += f->code[i] * q[i];
        }
        isum += f->scale[j] * dot;
        if (s.has_min) {
            int32_t sum = 0;
            for (size_t i = j * s.sub / 16; i < (j + 1) * s.sub / 16; i++) {
                sum += sum16[i];
            }
            msum += f->min[j] * sum;
        }
    }
    acc = fmaf(f->d * a, (float)isum, acc);
    return s.has_min ? fmaf(f->m * a, (float)msum, acc) : acc;
}

void qn_matmul_int_scalar(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
                          void *scratch)
{
    (void)scratch;
    qn_block_shape shape = qn_block_shape_of(w->dtype, w->affine);
    size_t n_blocks = w->n_cols / shape.block;
    qn_block_form form;
    for (size_t r = r0; r < r1; r++) {
        for (size_t t = t0; t < t1; t++) {
            y[t * y_stride + r] = 0.0f;
        }
        for (size_t b = 0; b < n_blocks; b++) {
            qn_block_form_read(w, r, b, &form);
            size_t column = b * shape.block;
            for (size_t t = t0; t < t1; t++) {
                float *acc = &y[t * y_stride + r];
                *acc = multiply_block(&form, shape, a->q + t * a->q_stride + column, a->sum16 + t * a->s_stride + column / 16,
                                      a->d[t * a->d_stride + b], *acc);
            }
        }
    }
}
