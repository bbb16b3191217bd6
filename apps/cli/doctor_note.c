/* doctor_note.c - see doctor_note.h. */
#include "doctor_note.h"

#include <math.h>
#include <stdio.h>

#include "bench_run.h"

/* A page layout that costs more is worth a word. */
#define WORTH_TELLING 0.05

static qn_bench_result result_of(const double *readings, size_t n)
{
    qn_bench_result r = {0};
    for (size_t i = 0; i < n && i < QN_SAMPLES_MAX; i++) {
        r.samples[r.n_samples++] = readings[i];
    }
    return r;
}

qn_layout qn_layout_judge(const quern_mapping_turns *turns)
{
    qn_layout l = {.kind = QN_LAYOUT_UNKNOWN, .cost = (double)NAN};
    const qn_bench_result mapped = result_of(turns->mapped, turns->n), plain = result_of(turns->plain, turns->n);
    if (turns->n < 2) {
        return l;
    }
    l.mapped = qn_bench_median(&mapped);
    l.plain = qn_bench_median(&plain);
    l.mapped_spread = qn_bench_spread(&mapped);
    l.plain_spread = qn_bench_spread(&plain);
    const double gap = 1 - l.mapped / l.plain, spread = fmax(l.mapped_spread, l.plain_spread);
    if (gap > WORTH_TELLING) {
        l.kind = gap > spread ? QN_LAYOUT_COSTS : QN_LAYOUT_NOISE;
    } else {
        l.kind = spread <= QN_BENCH_SPREAD_MAX ? QN_LAYOUT_FREE : QN_LAYOUT_NOISE;
    }
    l.cost = l.kind == QN_LAYOUT_NOISE ? (double)NAN : fmax(0, gap);
    return l;
}

void qn_layout_note(const qn_layout *l, char *out, size_t size)
{
    switch (l->kind) {
    case QN_LAYOUT_UNKNOWN: (void)snprintf(out, size, "mapped"); break;
    case QN_LAYOUT_FREE: (void)snprintf(out, size, "mapped; plain memory: %.1f GB/s", l->plain / 1e9); break;
    case QN_LAYOUT_COSTS:
        (void)snprintf(out, size, "mapped: its page layout costs %.0f %% (plain memory: %.1f GB/s); --load copy avoids that", l->cost * 100,
                       l->plain / 1e9);
        break;
    case QN_LAYOUT_NOISE:
        (void)snprintf(out, size, "mapped; plain memory: %.1f GB/s; readings differ by +- %.0f %%, too much to compare the two",
                       l->plain / 1e9, fmax(l->mapped_spread, l->plain_spread) * 100);
        break;
    }
}

const char *qn_layout_name(qn_layout_kind kind)
{
    static const char *const names[] = {NULL, "free", "costs", "noise"};
    return names[kind];
}

bool qn_one_above_all(double one, double all, size_t n_threads) { return n_threads > 1 && one > all * (1 + WORTH_TELLING); }

void qn_one_thread_note(double one, double all, size_t n_threads, char *out, size_t size)
{
    (void)snprintf(out, size, "%.1f GB/s with one thread%s", one / 1e9,
                   qn_one_above_all(one, all, n_threads) ? ", more than with all: noise; measure again when the machine is quiet" : "");
}
