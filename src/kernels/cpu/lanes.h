/* lanes.h - the decode kernels that hold two rows in the lanes of a register of 32 bytes (matmul_lanes_avx512vnni.c), for the kernels that hand
 * their rows on to them. */
#ifndef QN_KERNELS_CPU_LANES_H
#define QN_KERNELS_CPU_LANES_H

#include "base/cpu.h"
#include "kernels/matmul_kernels.h"

enum { LANES_ROWS = 8 };

/* Rows [r0, r1) of w times one token: as many of the first ones as fill tiles of LANES_ROWS, whose number is returned, the others are left alone.
 * y: the token's row. Types: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL MXFP4 Q4_K Q5_K IQ4_XS. */
size_t qn_matmul_lanes_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t token, float *y, void *scratch);

/* The same where it is the faster way: one token, on processors that read from two places (AMD's; Zen 4 was measured). Returns the first row that is
 * left. */
static inline size_t qn_matmul_by_lanes(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                        size_t y_stride, void *scratch)
{
    return t1 - t0 == 1 && qn_cpu_read_streams() == 2 ? r0 + qn_matmul_lanes_avx512vnni(w, r0, r1, a, t0, y + t0 * y_stride, scratch) : r0;
}

#endif
