/* bench_run.c - the measurements: quern_engine_step with a clock around it, and the machine's limits right before and after. */
#include "bench_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "signals.h"

enum { PAGE_TOKENS = 64, WARM_UP_ROWS = 32 };

static uint64_t whole_pages(uint64_t n) { return (n + PAGE_TOKENS - 1) / PAGE_TOKENS * PAGE_TOKENS; }

static uint64_t largest(const uint64_t *values, size_t n)
{
    uint64_t most = 0;
    for (size_t i = 0; i < n; i++) {
        most = values[i] > most ? values[i] : most;
    }
    return most;
}

size_t qn_bench_longest(const qn_bench_plan *p)
{
    uint64_t prompt = largest(p->prompt, p->n_prompt);
    uint64_t decode = p->n_decode > 0 ? largest(p->depth, p->n_depth) + largest(p->decode, p->n_decode) + 1 : 0;
    uint64_t most = prompt > decode ? prompt : decode;
    uint64_t batch = p->n_parallel > 0 ? QN_BATCH_STEPS + 1 : 0;
    most = batch > most ? batch : most;
    return (size_t)(most > WARM_UP_ROWS ? most : WARM_UP_ROWS);
}

size_t qn_bench_context(const qn_bench_plan *p)
{
    uint64_t batch = largest(p->parallel, p->n_parallel) * whole_pages(QN_BATCH_STEPS + 1), longest = qn_bench_longest(p);
    return (size_t)whole_pages(batch > longest ? batch : longest);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value below which a part q of n sorted values lies (nearest rank). */
static double quantile(const double *sorted, size_t n, double q)
{
    size_t rank = (size_t)ceil(q * (double)n);
    return n == 0 ? (double)NAN : sorted[rank > 0 ? rank - 1 : 0];
}

double qn_bench_median(const qn_bench_result *r)
{
    double sorted[QN_SAMPLES_MAX];
    memcpy(sorted, r->samples, r->n_samples * sizeof *sorted);
    qsort(sorted, r->n_samples, sizeof *sorted, compare_doubles);
    size_t n = r->n_samples;
    return n == 0 ? (double)NAN : n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

double qn_bench_spread(const qn_bench_result *r)
{
    double low = INFINITY, high = 0;
    for (size_t i = 0; i < r->n_samples; i++) {
        low = r->samples[i] < low ? r->samples[i] : low;
        high = r->samples[i] > high ? r->samples[i] : high;
    }
    return r->n_samples < 2 ? 0 : (high - low) / 2 / qn_bench_median(r);
}

/* ---- clocks and limits ---- */

static double cpu_seconds(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void start_clocks(qn_bench *b)
{
    qn_energy_begin(&b->energy, QN_ENERGY_FOLDER);
    b->begin_cpu_seconds = cpu_seconds();
    b->begin_ns = qn_clock_ns();
}

static void stop_clocks(qn_bench *b)
{
    b->seconds += qn_clock_seconds(b->begin_ns, qn_clock_ns());
    b->cpu_seconds += cpu_seconds() - b->begin_cpu_seconds;
    b->energy_j += qn_energy_joules(&b->energy);
    qn_memory_peak_pause(&b->peak);
}

static void widen(double *best, double value) { *best = value > *best ? value : *best; }

static void take_best(quern_machine_rates *best, const quern_machine_rates *now)
{
    widen(&best->read_bandwidth_all, now->read_bandwidth_all);
    widen(&best->read_bandwidth_cached, now->read_bandwidth_cached);
    widen(&best->peak_fma_f32, now->peak_fma_f32);
    widen(&best->peak_avx2_int8, now->peak_avx2_int8);
    widen(&best->peak_vnni_int8, now->peak_vnni_int8);
    widen(&best->peak_amx_int8, now->peak_amx_int8);
    widen(&best->peak_amx_bf16, now->peak_amx_bf16);
    widen(&best->peak_neon_int8, now->peak_neon_int8);
    widen(&best->peak_i8mm_int8, now->peak_i8mm_int8);
}

/* n sequences, each with the same work; weights are read once for all. */
static quern_work add_up(quern_work w, uint64_t n)
{
    w.kv_bytes *= (double)n;
    w.integer_macs *= (double)n;
    w.float_macs *= (double)n;
    w.attention_macs *= (double)n;
    return w;
}

quern_work qn_bench_work(const quern_engine *e, qn_bench_kind kind, const qn_bench_result *r)
{
    return kind == QN_BENCH_PREFILL  ? quern_engine_get_work(e, 0, r->n, 1)
           : kind == QN_BENCH_DECODE ? quern_engine_get_decode_work(e, r->depth, r->n)
                                     : add_up(quern_engine_get_decode_work(e, 0, QN_BATCH_STEPS), r->n);
}

/* Whether what was measured last holds for this many bytes that are read again and again: for the same, and for others where both leave every cache. */
static bool limits_hold_for(const qn_bench *b, uint64_t working_set)
{
    const uint64_t last = b->limit_options.working_set, uncached = b->limits.read_bytes;
    return b->limits_are_fresh && (working_set == last || (working_set >= uncached && last >= uncached));
}

/* The machine's limits for a measurement, into *out. Where some cannot be measured, for want of memory mostly, those are 0, and that is in b. */
static quern_status take_limits(qn_bench *b, qn_bench_kind kind, const qn_bench_result *r, quern_machine_rates *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_work w = qn_bench_work(b->engine, kind, r);
    const uint64_t working_set = (uint64_t)(w.weight_bytes + w.kv_bytes) + b->idle_weight_bytes;
    if (b->with_limits && !limits_hold_for(b, working_set)) {
        stop_clocks(b);
        b->limit_options.working_set = working_set;
        status = quern_machine_measure(&b->limits, &b->limit_options, &b->limits_error);
        qn_memory_peak_go_on(&b->peak);
        start_clocks(b);
        if (status == QUERN_ERROR_CANCELLED) {
            b->limits_error.message[0] = '\0'; /* told as the run's end */
            QN_FAIL(err, status, "interrupted; the figures so far are kept");
        }
        b->limits_are_fresh = status == QUERN_OK;
        status = QUERN_OK;
        take_best(&b->best_limits, &b->limits);
    }
    *out = b->limits;
done:
    return status;
}

/* ---- steps ---- */

static int32_t random_id(qn_bench *b)
{
    b->rng = b->rng * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator: any spread over the vocabulary does */
    return (int32_t)((b->rng >> 33) % b->n_vocab);
}

quern_status qn_bench_count(qn_bench *b, uint64_t tokens, quern_error *err)
{
    b->work_done += tokens;
    b->limits_are_fresh = false;
    qn_progress_update(b->progress, b->work_done, b->work_total);
    return qn_signals_stopped() ? qn_error_set(err, QUERN_ERROR_CANCELLED, "interrupted; the figures so far are kept") : QUERN_OK;
}

/* Appends n random tokens in chunks; logits of the last one if wanted. */
static quern_status feed(qn_bench *b, quern_sequence *s, uint64_t n, bool want_logits, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_batch = quern_engine_get_info(b->engine)->n_batch;
    for (uint64_t done = 0; done < n;) {
        size_t rows = n - done < n_batch ? (size_t)(n - done) : n_batch;
        for (size_t i = 0; i < rows; i++) {
            b->ids[i] = random_id(b);
        }
        bool last = done + rows == n;
        const quern_step_item item = {
            .sequence = s, .ids = b->ids, .n_ids = rows, .n_logits = last && want_logits ? 1 : 0, .logits = b->logits};
        QN_TRY(quern_engine_step(b->engine, &item, 1, err));
        done += rows;
        QN_TRY(qn_bench_count(b, rows, err));
    }
done:
    return status;
}

/* Brings the weights into memory, the threads awake and the caches filled: before the first figure, and after limits were measured, which reads other
 * memory. Its own context, so that no sequence changes. */
static quern_status warm_up(qn_bench *b, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_sequence *s = NULL;
    QN_TRY(quern_sequence_create(&s, b->engine, err));
    QN_TRY(feed(b, s, WARM_UP_ROWS - 1, false, err));
    QN_TRY(feed(b, s, 1, true, err));
done:
    quern_sequence_destroy(s);
    return status;
}

static quern_status measure_prefill(qn_bench *b, qn_bench_result *r, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_sequence *s = NULL;
    QN_TRY(take_limits(b, QN_BENCH_PREFILL, r, &r->before, err));
    QN_TRY(warm_up(b, err));
    for (size_t i = 0; i < b->plan->repeat; i++) {
        QN_TRY(quern_sequence_create(&s, b->engine, err));
        uint64_t begin = qn_clock_ns();
        QN_TRY(feed(b, s, r->n, true, err));
        r->samples[r->n_samples++] = (double)r->n / qn_clock_seconds(begin, qn_clock_ns());
        quern_sequence_destroy(s);
        s = NULL;
    }
    QN_TRY(take_limits(b, QN_BENCH_PREFILL, r, &r->after, err));
done:
    quern_sequence_destroy(s);
    return status;
}

/* Brings a sequence to so many tokens: what it has of them it keeps. */
static quern_status go_to(qn_bench *b, quern_sequence *s, uint64_t depth, quern_error *err)
{
    const uint64_t now = quern_sequence_n_tokens(s);
    return depth < now ? quern_sequence_truncate(s, (size_t)depth, err) : feed(b, s, depth - now, false, err);
}

static quern_status measure_decode(qn_bench *b, quern_sequence *s, qn_bench_result *r, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(go_to(b, s, r->depth, err));
    QN_TRY(take_limits(b, QN_BENCH_DECODE, r, &r->before, err));
    QN_TRY(feed(b, s, 1, true, err)); /* limits were measured in other memory */
    QN_TRY(quern_sequence_truncate(s, (size_t)r->depth, err));
    for (size_t i = 0; i < b->plan->repeat; i++) {
        uint64_t begin = qn_clock_ns();
        for (uint64_t k = 0; k < r->n; k++) {
            QN_TRY(feed(b, s, 1, true, err));
        }
        r->samples[r->n_samples++] = (double)r->n / qn_clock_seconds(begin, qn_clock_ns());
        QN_TRY(quern_sequence_truncate(s, (size_t)r->depth, err));
    }
    QN_TRY(take_limits(b, QN_BENCH_DECODE, r, &r->after, err));
done:
    return status;
}

/* All depths in one sequence: filling 32,768 tokens takes minutes, and half of them are those of 16,384. */
static quern_status measure_decodes(qn_bench *b, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_bench_plan *p = b->plan;
    quern_sequence *s = NULL;
    QN_TRY(quern_sequence_create(&s, b->engine, err));
    for (size_t i = 0; i < p->n_depth; i++) {
        for (size_t k = 0; k < p->n_decode; k++) {
            qn_bench_result *r = &b->decode[b->n_decode++];
            *r = (qn_bench_result){.n = p->decode[k], .depth = p->depth[i]};
            QN_TRY(measure_decode(b, s, r, err));
        }
    }
done:
    quern_sequence_destroy(s);
    return status;
}

/* One token of each of n sequences; the items' ids are b's. */
static quern_status step_all(qn_bench *b, const quern_step_item *items, size_t n, double *seconds, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < n; i++) {
        b->ids[i] = random_id(b);
    }
    const uint64_t begin = qn_clock_ns();
    QN_TRY(quern_engine_step(b->engine, items, n, err));
    *seconds = qn_clock_seconds(begin, qn_clock_ns());
    QN_TRY(qn_bench_count(b, n, err));
done:
    return status;
}

static quern_status begin_anew(quern_sequence **sequences, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < n; i++) {
        QN_TRY(quern_sequence_truncate(sequences[i], 0, err));
    }
done:
    return status;
}

/* r->n sequences, one token of each in a step; latencies are of all steps of all samples. */
static quern_status measure_batch(qn_bench *b, qn_bench_result *r, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n = (size_t)r->n, n_steps = 0;
    double latencies[QN_SAMPLES_MAX * QN_BATCH_STEPS], uncounted;
    quern_sequence **sequences = qn_calloc(n, sizeof *sequences);
    quern_step_item *items = qn_calloc(n, sizeof *items);
    if (sequences == NULL || items == NULL) {
        QN_FAIL_MEMORY(err, "sequences", n * sizeof *items);
    }
    for (size_t i = 0; i < n; i++) {
        QN_TRY(quern_sequence_create(&sequences[i], b->engine, err));
        items[i] = (quern_step_item){
            .sequence = sequences[i], .ids = &b->ids[i], .n_ids = 1, .n_logits = 1, .logits = b->logits + i * b->n_vocab};
    }
    QN_TRY(take_limits(b, QN_BENCH_BATCH, r, &r->before, err));
    QN_TRY(step_all(b, items, n, &uncounted, err)); /* limits were measured in other memory */
    QN_TRY(begin_anew(sequences, n, err));
    for (size_t k = 0; k < b->plan->repeat; k++) {
        double total = 0;
        for (size_t step = 0; step < QN_BATCH_STEPS; step++) {
            QN_TRY(step_all(b, items, n, &latencies[n_steps], err));
            total += latencies[n_steps++];
        }
        r->samples[r->n_samples++] = (double)n * QN_BATCH_STEPS / total;
        QN_TRY(begin_anew(sequences, n, err));
    }
    QN_TRY(take_limits(b, QN_BENCH_BATCH, r, &r->after, err));
done:
    qsort(latencies, n_steps, sizeof *latencies, compare_doubles);
    r->latency_p50_s = quantile(latencies, n_steps, 0.5);
    r->latency_p99_s = quantile(latencies, n_steps, 0.99);
    r->n_latencies = n_steps;
    for (size_t i = 0; sequences != NULL && i < n; i++) {
        quern_sequence_destroy(sequences[i]);
    }
    qn_free(sequences);
    qn_free(items);
    return status;
}

/* ---- the whole plan ---- */

static void count_total(qn_bench *b, uint64_t n_more)
{
    const qn_bench_plan *p = b->plan;
    b->work_total = WARM_UP_ROWS + n_more;
    for (size_t i = 0; i < p->n_prompt; i++) {
        b->work_total += WARM_UP_ROWS + p->prompt[i] * p->repeat;
    }
    uint64_t filled = 0;
    for (size_t i = 0; i < p->n_depth && p->n_decode > 0; i++) {
        b->work_total += p->depth[i] > filled ? p->depth[i] - filled : 0;
        filled = p->depth[i];
        for (size_t k = 0; k < p->n_decode; k++) {
            b->work_total += 1 + p->decode[k] * p->repeat;
        }
    }
    for (size_t i = 0; i < p->n_parallel; i++) {
        b->work_total += p->parallel[i] * (1 + QN_BATCH_STEPS * p->repeat);
    }
}

quern_status qn_bench_run(qn_bench *b, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_bench_plan *p = b->plan;
    QN_TRY(warm_up(b, err));
    for (size_t i = 0; i < p->n_prompt; i++) {
        qn_bench_result *r = &b->prefill[b->n_prefill++];
        *r = (qn_bench_result){.n = p->prompt[i]};
        QN_TRY(measure_prefill(b, r, err));
    }
    QN_TRY(measure_decodes(b, err));
    for (size_t i = 0; i < p->n_parallel; i++) {
        qn_bench_result *r = &b->batch[b->n_batch++];
        *r = (qn_bench_result){.n = p->parallel[i]};
        QN_TRY(measure_batch(b, r, err));
    }
done:
    return status;
}

void qn_bench_begin(qn_bench *b, uint64_t n_more)
{
    count_total(b, n_more);
    start_clocks(b);
}

void qn_bench_end(qn_bench *b)
{
    stop_clocks(b);
    b->energy_j = b->energy_j > 0 ? b->energy_j : (double)NAN; /* counters that stand still count nothing */
}
