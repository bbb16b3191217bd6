/* bench_limits.c - see bench_limits.h. */
#include "bench_limits.h"

#include <math.h>
#include <string.h>

bool qn_bench_is_steady(const qn_bench_result *r) { return qn_bench_spread(r) <= QN_BENCH_SPREAD_MAX; }

/* ---- rates ---- */

const char *qn_bench_unit(const quern_engine *e, const char *weights, const quern_machine_rates *rates, double *peak)
{
    static const char *const floats[] = {"F32", "F16", "BF16", "F8_E4M3"}; /* the last is decoded to float32 */
    const char *isa = quern_engine_get_info(e)->isa;
    bool is_float = false;
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        is_float = is_float || strcmp(weights, floats[i]) == 0;
    }
    *peak = (double)NAN;
    if (is_float) {
        *peak = rates->peak_fma_f32 > 0 ? rates->peak_fma_f32 : (double)NAN;
        return rates->peak_fma_f32 > 0 ? "fma_f32" : NULL;
    }
    const struct {
        const char *isa, *unit;
        double peak;
    } units[] = {
        {"avx2", "avx2_int8", rates->peak_avx2_int8},
        {"avx512", "avx2_int8", rates->peak_avx2_int8}, /* whose integer kernels are AVX2's */
        {"avx512vnni", "vnni_int8", rates->peak_vnni_int8},
        {"amx", "amx_int8", rates->peak_amx_int8}, /* a run that was interrupted may have measured VNNI alone, which does not bound it */
        {"neon", "neon_int8", rates->peak_neon_int8},
        {"i8mm", "i8mm_int8", rates->peak_i8mm_int8},
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(isa, units[i].isa) == 0 && units[i].peak > 0) {
            *peak = units[i].peak;
            return units[i].unit;
        }
    }
    return NULL;
}

/* What bounds reading: caches where the model stays in them. NaN if it was not measured. */
static double bandwidth_of(const quern_machine_rates *rates)
{
    const double memory = rates->read_bandwidth_all, cached = rates->read_bandwidth_cached;
    return fmax(memory, cached) > 0 ? fmax(memory, cached) : (double)NAN;
}

uint64_t qn_bench_working_set(const quern_engine *e, const quern_model *m)
{
    const quern_model_info *info = quern_model_get_info(m);
    return info->n_experts > 0 ? info->weight_bytes : quern_engine_get_work(e, 0, 1, 1).weight_bytes;
}

/* A rate as it was measured before and after; NaN where it was not. */
typedef struct rate {
    double before, after;
} rate;

/* A limit is what the machine could do at its better moment: the share of it flatters nobody. */
static double better_of(rate r) { return isnan(r.before) || isnan(r.after) ? (double)NAN : fmax(r.before, r.after); }

typedef struct rates {
    rate memory, unit, fma;
    const char *unit_name;
} rates;

static rates rates_of(const quern_engine *e, const char *weights, const qn_bench_result *r)
{
    const double none = (double)NAN;
    rates all = {
        .memory = {bandwidth_of(&r->before), bandwidth_of(&r->after)},
        .fma = {r->before.peak_fma_f32 > 0 ? r->before.peak_fma_f32 : none, r->after.peak_fma_f32 > 0 ? r->after.peak_fma_f32 : none}};
    all.unit_name = qn_bench_unit(e, weights, &r->before, &all.unit.before);
    (void)qn_bench_unit(e, weights, &r->after, &all.unit.after);
    return all;
}

/* ---- work ---- */

/* n sequences, each with the same work; weights are read once for all. */
static void set_work(qn_bench_limit *l, quern_work w, uint64_t n)
{
    l->bytes = (double)w.weight_bytes + (double)n * (double)w.kv_bytes;
    l->operations = 2 * (double)n * w.matrix_macs;
    l->attention_operations = 2 * (double)n * w.attention_macs;
}

/* Of n tokens one by one behind `depth` others: the average of the first's and the last's. */
static quern_work average_token(const quern_engine *e, uint64_t depth, uint64_t n)
{
    const quern_work first = quern_engine_get_work(e, depth, 1, 1);
    quern_work w = quern_engine_get_work(e, depth + n - 1, 1, 1);
    w.kv_bytes = (first.kv_bytes + w.kv_bytes) / 2;
    w.attention_macs = (first.attention_macs + w.attention_macs) / 2;
    return w;
}

static void count_work(qn_bench_limit *l, const quern_engine *e, qn_bench_kind kind, const qn_bench_result *r)
{
    switch (kind) {
    case QN_BENCH_PREFILL: set_work(l, quern_engine_get_work(e, 0, r->n, 1), 1); break;
    case QN_BENCH_DECODE: set_work(l, average_token(e, r->depth, r->n), 1); break;
    case QN_BENCH_BATCH: set_work(l, average_token(e, 0, QN_BATCH_STEPS), r->n); break;
    }
}

/* ---- shares ---- */

static void set_bound(qn_bench_limit *l, const char *name, rate r)
{
    l->bound = name;
    l->before = r.before;
    l->after = r.after;
}

/* What binds, and the seconds that it takes at least; NaN where that is not known. */
static double find_bound(qn_bench_limit *l, const rates *all, qn_bench_kind kind, const qn_bench_result *r)
{
    const double reading = l->bytes / better_of(all->memory), products = l->operations / better_of(all->unit),
                 attention = l->attention_operations / better_of(all->fma);
    const bool computing_is_known = all->unit_name != NULL && !isnan(products + attention);
    if (isnan(reading) || (!computing_is_known && kind == QN_BENCH_PREFILL)) { /* with one of the two nobody knows which binds */
        return (double)NAN;
    }
    if (computing_is_known && products + attention > reading) {
        set_bound(l, attention > products ? "fma_f32" : all->unit_name, attention > products ? all->fma : all->unit);
        return products + attention;
    }
    set_bound(l, r->before.read_bandwidth_cached > r->before.read_bandwidth_all ? "cached_bandwidth" : "read_bandwidth", all->memory);
    l->is_memory = true;
    return reading;
}

double qn_bench_drift(const qn_bench_limit *l)
{
    return isnan(l->before) || isnan(l->after) ? 0 : fabs(l->before - l->after) / fmax(l->before, l->after);
}

qn_bench_limit qn_bench_limit_of(const quern_engine *e, const char *weights, qn_bench_kind kind, const qn_bench_result *r)
{
    const double none = (double)NAN;
    qn_bench_limit l = {.before = none, .after = none, .of_limit = none, .of_bandwidth = none, .of_peak = none};
    const rates all = rates_of(e, weights, r);
    count_work(&l, e, kind, r);
    const double least_seconds = find_bound(&l, &all, kind, r);
    if (r->n_samples == 0) {
        l.refused = "not_measured";
    } else if (isnan(least_seconds)) {
        l.refused = "no_limit";
    } else if (!qn_bench_is_steady(r)) {
        l.refused = "samples_differ";
    } else if (qn_bench_drift(&l) > QN_BENCH_DRIFT_MAX) {
        l.refused = "limits_differ";
    } else {
        const double seconds = (kind == QN_BENCH_DECODE ? 1 : (double)r->n) / qn_bench_median(r);
        l.of_limit = least_seconds / seconds;
        l.of_bandwidth = l.bytes / better_of(all.memory) / seconds;
        l.of_peak = l.operations / better_of(all.unit) / seconds;
    }
    return l;
}
