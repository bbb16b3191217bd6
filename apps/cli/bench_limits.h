/* bench_limits.h - what a measurement of `quern bench` could not have been faster than, on the machine as it was right before and right after.
 *
 * A step reads its bytes and computes its products; whichever of the two takes longer at the machine's measured rates binds it. Products with weights
 * run on the unit of the instruction set for the weights' type, attention in float32; both take the same cores, so their times add up. */
#ifndef QN_CLI_BENCH_LIMITS_H
#define QN_CLI_BENCH_LIMITS_H

#include "bench_run.h"

typedef enum qn_bench_kind { QN_BENCH_PREFILL, QN_BENCH_DECODE, QN_BENCH_BATCH } qn_bench_kind;

/* Of what is timed: a whole prompt, a decoded token, or a step of all sequences. */
typedef struct qn_bench_limit {
    double bytes, operations, attention_operations; /* a multiply-add is two; operations without attention's */
    const char *bound; /* "read_bandwidth", "cached_bandwidth" (the model stays in caches), "vnni_int8" and so on; NULL: not known */
    bool is_memory;
    double before, after; /* the bound's rate: bytes/s or operations/s; NaN where it was not measured */
    /* Shares of the larger of the two, NaN where there is none to give: */
    double of_limit;     /* of the limit that binds, attention included */
    double of_bandwidth; /* of memory's, or of the caches' where the model stays in them */
    double of_peak;      /* of the unit's, by the products with weights alone */
    const char *refused; /* "not_measured", "no_limit", "samples_differ", "limits_differ"; NULL if there is a share */
} qn_bench_limit;

/* The unit on which products with the model's weights run ("vnni_int8"); NULL where its peak is not known, as of integers in plain C. */
const char *qn_bench_unit(const quern_engine *e, const char *weights, const quern_machine_rates *rates, double *peak);
/* weights: the model's most frequent type, as quern_model_info has it. */
qn_bench_limit qn_bench_limit_of(const quern_engine *e, const char *weights, qn_bench_kind kind, const qn_bench_result *r);
/* Bytes that are read again and again while a model decodes: its weights, all experts' too. */
uint64_t qn_bench_working_set(const quern_engine *e, const quern_model *m);
/* How far the limits before and after are apart, as a part of the larger; 0 where they were not measured. */
double qn_bench_drift(const qn_bench_limit *l);
bool qn_bench_is_steady(const qn_bench_result *r);

#endif
