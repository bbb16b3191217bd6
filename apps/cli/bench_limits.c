/* bench_limits.c - see bench_limits.h. */
#include "bench_limits.h"

#include <math.h>
#include <string.h>

#define NONE ((double)NAN)

bool qn_bench_is_steady(const qn_bench_result *r) { return qn_bench_spread(r) <= QN_BENCH_SPREAD_MAX; }

const char *qn_bench_refusal_text(const char *refused)
{
    return refused == NULL                          ? "-"
           : strcmp(refused, "samples_differ") == 0 ? "samples differ too much"
           : strcmp(refused, "limits_differ") == 0  ? "limit changed meanwhile"
                                                    : "-";
}

/* ---- rates ---- */

static double rate_or_none(double rate) { return rate > 0 ? rate : NONE; }

/* The integer unit of an instruction set; NULL where its peak was not measured, or there is no loop for it: integers in plain C. */
static const char *integer_unit(const char *isa, const quern_machine_rates *rates, double *peak)
{
    const struct {
        const char *isa, *unit;
        double peak;
    } units[] = {
        {"avx2", "avx2_int8", rates->peak_avx2_int8},
        {"avx512", "avx2_int8", rates->peak_avx2_int8}, /* whose integer kernels are AVX2's */
        {"avx512vnni", "vnni_int8", rates->peak_vnni_int8},
        {"amx", "amx_int8", rates->peak_amx_int8},
        {"neon", "neon_int8", rates->peak_neon_int8},
        {"i8mm", "i8mm_int8", rates->peak_i8mm_int8},
    };
    *peak = NONE;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(isa, units[i].isa) == 0 && units[i].peak > 0) {
            *peak = units[i].peak;
            return units[i].unit;
        }
    }
    return NULL;
}

/* Caches count as read from where they gave more than two measurements of one memory differ by. */
static bool from_caches(const quern_machine_rates *rates)
{
    return rates->read_bandwidth_cached * (1 - QN_BENCH_DRIFT_MAX) > rates->read_bandwidth_all;
}

/* ---- the limit at one moment ---- */

typedef struct moment {
    double memory, reading; /* bytes/s of memory; seconds that the bytes take, from caches where they stay in them */
    double integers, floats,
        attention; /* seconds of the three kinds of products; 0 where there are none, NaN where their unit was not measured */
    double reading_rate, unit_rate, fma; /* of `reading`, of the unit with most of the products, of float32 */
    const char *unit;
} moment;

static double products(const moment *m) { return m->integers + m->floats; }
static double computing(const moment *m) { return products(m) + m->attention; }

static double seconds_of(double macs, double peak) { return macs > 0 ? 2 * macs / peak : 0; }

static moment moment_of(const char *isa, const qn_bench_limit *l, quern_work w, const quern_machine_rates *rates)
{
    double peak;
    const char *integer = integer_unit(isa, rates, &peak);
    moment m = {.memory = rate_or_none(rates->read_bandwidth_all), .fma = rate_or_none(rates->peak_fma_f32)};
    m.reading_rate = from_caches(rates) ? rates->read_bandwidth_cached : m.memory;
    m.reading = l->bytes / m.reading_rate;
    m.integers = seconds_of(w.integer_macs, peak);
    m.floats = seconds_of(w.float_macs, m.fma);
    m.attention = seconds_of(w.attention_macs, m.fma);
    const bool mostly_floats = isnan(m.integers) ? w.float_macs > w.integer_macs : m.floats > m.integers;
    m.unit = mostly_floats ? (isnan(m.fma) ? NULL : "fma_f32") : integer;
    m.unit_rate = mostly_floats ? m.fma : peak;
    return m;
}

/* Seconds that it takes at least; NaN where that is not known. Of tokens one by one it is known without computing's time, for want of a loop that
 * measures it: reading is what they mostly wait for. */
static double least_seconds(const moment *m, qn_bench_kind kind)
{
    return isnan(m->reading) ? NONE : !isnan(computing(m)) ? fmax(m->reading, computing(m)) : kind == QN_BENCH_PREFILL ? NONE : m->reading;
}

static bool memory_binds(const moment *m) { return isnan(computing(m)) || m->reading >= computing(m); }

/* ---- shares ---- */

static double drift_of(double before, double after) { return fabs(before - after) / fmax(before, after); }

/* What both moments allow: the better one's time, so that the share flatters nobody; NaN where one is missing or they lie too far apart. */
static double agreed(double before, double after)
{
    return drift_of(before, after) <= QN_BENCH_DRIFT_MAX ? fmin(before, after) : NONE; /* false of NaN too */
}

static void name_bound(qn_bench_limit *l, const moment *better, const moment *before, const moment *after, const quern_machine_rates *rates)
{
    const bool attends = better->attention > products(better);
    l->is_memory = memory_binds(better);
    if (l->is_memory) {
        l->bound = from_caches(rates) ? "cached_bandwidth" : "read_bandwidth";
        l->before = before->reading_rate;
        l->after = after->reading_rate;
    } else {
        l->bound = attends ? "fma_f32" : better->unit;
        l->besides = strcmp(l->bound, "fma_f32") != 0 && 20 * (better->floats + better->attention) >= computing(better) ? "fma_f32" : NULL;
        l->before = attends ? before->fma : before->unit_rate;
        l->after = attends ? after->fma : after->unit_rate;
    }
}

qn_bench_limit qn_bench_limit_of(const quern_engine *e, qn_bench_kind kind, const qn_bench_result *r)
{
    const char *isa = quern_engine_get_info(e)->isa;
    const quern_work w = qn_bench_work(e, kind, r);
    qn_bench_limit l = {.bytes = w.weight_bytes + w.kv_bytes,
                        .operations = 2 * (w.integer_macs + w.float_macs),
                        .attention_operations = 2 * w.attention_macs,
                        .before = NONE,
                        .after = NONE,
                        .of_limit = NONE,
                        .of_bandwidth = NONE,
                        .of_peak = NONE};
    const moment before = moment_of(isa, &l, w, &r->before), after = moment_of(isa, &l, w, &r->after);
    const double least_before = least_seconds(&before, kind), least_after = least_seconds(&after, kind);
    l.unit = before.unit != NULL && after.unit != NULL ? after.unit : NULL;
    if (!isnan(least_before) && !isnan(least_after)) {
        const bool first = least_before <= least_after;
        name_bound(&l, first ? &before : &after, &before, &after, first ? &r->before : &r->after);
        l.drift = drift_of(least_before, least_after);
    }
    if (r->n_samples > 0 && qn_bench_is_steady(r)) {
        const double seconds = (kind == QN_BENCH_DECODE ? 1 : (double)r->n) / qn_bench_median(r);
        l.of_limit = agreed(least_before, least_after) / seconds;
        l.of_bandwidth = agreed(l.bytes / before.memory, l.bytes / after.memory) / seconds;
        l.of_peak = agreed(products(&before), products(&after)) / seconds;
    }
    l.refused = r->n_samples == 0        ? "not_measured"
                : l.bound == NULL        ? "no_limit"
                : !qn_bench_is_steady(r) ? "samples_differ"
                : isnan(l.of_limit)      ? "limits_differ"
                                         : NULL;
    return l;
}
