/* bench_run.h - what `quern bench` measures, as numbers; printing is cmd_bench.c's.
 *
 * Tokens are random but the same in every run. Each figure is a number of samples, of which the median is reported. */
#ifndef QN_CLI_BENCH_RUN_H
#define QN_CLI_BENCH_RUN_H

#include "cli.h"
#include "energy.h"
#include "memory_use.h"
#include "progress.h"
#include "quern/machine.h"

enum { QN_SAMPLES_MAX = 64, QN_BATCH_STEPS = 32, QN_BENCH_P99_SAMPLES = 100 /* of fewer, the 99th percentile is the largest */ };
/* Samples further apart than this (half their distance, as a part of the median) give no ratio, of a limit or of each other, and no cost without a
 * word: it would be noise in a precise dress. */
#define QN_BENCH_SPREAD_MAX 0.10
/* Limits that were further apart than this before and after (as a part of the longer time) give no share: nobody knows which of them held. */
#define QN_BENCH_DRIFT_MAX 0.10

typedef struct qn_bench_result {
    uint64_t n;                     /* prompt tokens, decoded tokens, or sequences at once */
    uint64_t depth;                 /* decode: tokens in the context before */
    double samples[QN_SAMPLES_MAX]; /* tokens per second */
    size_t n_samples;
    double latency_p50_s, latency_p99_s; /* batch: of a step */
    size_t n_latencies;
    quern_machine_rates before, after; /* the machine's limits right before and after the samples; 0 = not measured */
} qn_bench_result;

typedef enum qn_bench_kind { QN_BENCH_PREFILL, QN_BENCH_DECODE, QN_BENCH_BATCH } qn_bench_kind;

typedef struct qn_bench_plan {
    const uint64_t *prompt, *decode, *depth, *parallel;
    size_t n_prompt, n_decode, n_depth, n_parallel;
    size_t repeat;
} qn_bench_plan;

typedef struct qn_bench {
    const qn_bench_plan *plan;
    quern_engine *engine;
    size_t n_vocab;
    int32_t *ids;  /* (n_batch) */
    float *logits; /* (largest number of sequences, n_vocab) */
    uint64_t rng;
    qn_progress *progress;
    uint64_t work_done, work_total; /* tokens, for the bar */
    qn_bench_result prefill[QN_COUNTS_MAX], decode[QN_COUNTS_MAX * QN_COUNTS_MAX], batch[QN_COUNTS_MAX];
    size_t n_prefill, n_decode, n_batch;
    /* the machine's limits */
    bool with_limits; /* wanted */
    quern_machine_options limit_options;
    uint64_t idle_weight_bytes;              /* of experts that a token does not choose, but others do: they want a place in caches too */
    quern_machine_rates limits, best_limits; /* as last measured; the largest of all */
    bool limits_are_fresh;                   /* nothing was computed since */
    quern_error limits_error;                /* why some are missing; no message if none are */
    /* figures of the work alone, without measuring limits */
    uint64_t begin_ns;
    double begin_cpu_seconds;
    qn_energy energy;
    double seconds, cpu_seconds; /* wall and processor time */
    double energy_j;             /* of all processor packages; NaN where the machine does not tell */
    qn_memory_peak peak;
} qn_bench;

/* What such a measurement needs: of a prompt, of a token, or of a step of all sequences. */
quern_work qn_bench_work(const quern_engine *e, qn_bench_kind kind, const qn_bench_result *r);
/* Tokens of the longest sequence. */
size_t qn_bench_longest(const qn_bench_plan *p);
/* Tokens of context that the plan needs, of all sequences together. */
size_t qn_bench_context(const qn_bench_plan *p);
/* So many tokens more are done; QUERN_ERROR_CANCELLED after Ctrl-C. */
quern_status qn_bench_count(qn_bench *b, uint64_t tokens, quern_error *err);
/* The median of the samples; NaN without any. */
double qn_bench_median(const qn_bench_result *r);
/* Half the distance between the smallest and the largest sample, as a part of the median. */
double qn_bench_spread(const qn_bench_result *r);
/* Starts the clocks; n_more tokens are measured besides the plan. */
void qn_bench_begin(qn_bench *b, uint64_t n_more);
/* Runs the plan, with the machine's limits before and after each measurement if they are wanted; Ctrl-C gives QUERN_ERROR_CANCELLED with what was
 * measured so far in b. Where limits cannot be measured, that is in b and the plan goes on without. */
quern_status qn_bench_run(qn_bench *b, quern_error *err);
void qn_bench_end(qn_bench *b);

#endif
