/* bench_limits.h - what a measurement of `quern bench` could not have been faster than, on the machine as it was right before and right after.
 *
 * A step reads its bytes and computes its products; whichever of the two takes longer at the machine's measured rates binds it. Products with quantized
 * weights run on the instruction set's integer unit, those with float weights and attention in float32; both take the same cores, so their times add up. */
#ifndef QN_CLI_BENCH_LIMITS_H
#define QN_CLI_BENCH_LIMITS_H

#include "bench_run.h"

/* Of what is timed: a whole prompt, a decoded token, or a step of all sequences. */
typedef struct qn_bench_limit {
    double bytes, operations, attention_operations; /* a multiply-add is two; operations: with weights */
    const char *unit; /* on which most of the products with weights run ("vnni_int8"); NULL where its peak is not known */
    const char *
        bound; /* that unit; "fma_f32" where attention takes longer; "read_bandwidth", or "cached_bandwidth" where caches read on; NULL: not known */
    bool is_memory; /* the bound is a bandwidth */
    const char *
        besides; /* "fma_f32" where the bound is another unit and float32's part of the time (attention, float weights) a twentieth or more; or NULL */
    double before, after; /* the bound's rate: bytes/s or operations/s; NaN where it was not measured */
    double drift; /* how far the limit's times before and after are apart, as a part of the longer; 0 where they were not measured */
    /* Shares of the machine's better moment, NaN where there is none to give, or where what it is a share of moved too far: */
    double of_limit;     /* of the limit that binds, attention included */
    double of_bandwidth; /* of memory's; beyond 1 where caches give more */
    double of_peak;      /* of the units' by the products with weights alone */
    const char *refused; /* of of_limit: "not_measured", "no_limit", "samples_differ", "limits_differ"; NULL if there is one */
} qn_bench_limit;

qn_bench_limit qn_bench_limit_of(const quern_engine *e, qn_bench_kind kind, const qn_bench_result *r);
/* What tables say in a share's place ("samples differ too much"); "-" where there is nothing to say. `refused` may be NULL. */
const char *qn_bench_refusal_text(const char *refused);
bool qn_bench_is_steady(const qn_bench_result *r);

#endif
