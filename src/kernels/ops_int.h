/* ops_int.h - what the files that implement qn_ops share: the tables and the call counter. */
#ifndef QN_KERNELS_OPS_INT_H
#define QN_KERNELS_OPS_INT_H

#include "kernels/ops.h"

extern const qn_ops qn_ops_scalar;
#if defined(__x86_64__)
extern const qn_ops qn_ops_avx2;
extern const qn_ops qn_ops_avx512;
#elif defined(__aarch64__)
extern const qn_ops qn_ops_neon;
#endif

/* Adds one to what qn_ops_calls(isa) reports. Cheap from many threads at once. */
void qn_ops_count_call(qn_isa isa);

#endif
