/* matmul_lanes.h - the decode kernels that hold two rows in the lanes of a register of 32 bytes (matmul_lanes_avx512vnni.c), for the kernels that hand
 * their rows on to them. */
#ifndef QN_KERNELS_CPU_MATMUL_LANES_H
#define QN_KERNELS_CPU_MATMUL_LANES_H

#include "base/cpu.h"
#include "kernels/matmul_kernels.h"

enum { LANES_ROWS = 8, LANES_TOKENS = 3 };

/* Rows [r0, r1) of w times n_tokens tokens from t0 on: as many of the first rows as fill tiles of LANES_ROWS; the others are left alone. Returns how
 * many it were: 0 also where a type has no function for so many tokens, or they do not fit the scratch. */
size_t qn_matmul_lanes_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t n_tokens, float *y,
                                  size_t y_stride, void *scratch);

/* The same on processors that read from two places (AMD's, of which Zen 4 was measured), where it is the faster way; no row elsewhere. Returns the
 * first row that is left. */
static inline size_t qn_matmul_by_lanes(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                        size_t y_stride, void *scratch)
{
    return qn_cpu_read_streams() == 2 ? r0 + qn_matmul_lanes_avx512vnni(w, r0, r1, a, t0, t1 - t0, y, y_stride, scratch) : r0;
}

#endif
