/* matmul_kernels.h - declarations of every kernel that matmul.inc lists, and of the activation quantizers. For select.c, act.c and the
 * files that define them; everybody else goes through matmul.h.
 */
#ifndef QN_KERNELS_MATMUL_KERNELS_H
#define QN_KERNELS_MATMUL_KERNELS_H

#include "kernels/matmul.h"

#define X(fn, isa, dtype, mlx_bits, min_tokens) \
    void fn(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride, void *scratch);
#include "kernels/matmul.inc"
#undef X

void qn_act_quantize_scalar(qn_act *a, const float *x, size_t x_stride, size_t row0, size_t row1);
void qn_act_quantize_avx2(qn_act *a, const float *x, size_t x_stride, size_t row0, size_t row1);
void qn_act_quantize_avx512(qn_act *a, const float *x, size_t x_stride, size_t row0, size_t row1);

#endif
