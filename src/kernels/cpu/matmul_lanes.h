/* matmul_lanes.h - decode kernels that hold two rows in the lanes of a register of 32 bytes (matmul_lanes_avx512vnni.c), for the kernels that hand
 * rows on to them. */
#ifndef QN_KERNELS_CPU_MATMUL_LANES_H
#define QN_KERNELS_CPU_MATMUL_LANES_H

#include "kernels/matmul.h"

/* The contract of qn_matmul_fn for the first of the rows [r0, r1), as many as fill tiles of eight; returns the first row that is left. That is r0 where
 * another way is faster: on processors that are not qn_cpu_has_half_registers, and where the type has no function for t1 - t0 tokens. */
size_t qn_matmul_lanes_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                  size_t y_stride, void *scratch);

#endif
