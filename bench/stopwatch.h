/* stopwatch.h - time that work takes on all threads of a pool; for the benches of this folder. */
#ifndef QN_BENCH_STOPWATCH_H
#define QN_BENCH_STOPWATCH_H

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/thread_pool.h"
#include "kernels/peak.h"

enum { THREADS_MAX = 256 };

/* Bytes that do not stay in all last-level caches from one pass to the next, at most `most`. */
static size_t bytes_beyond_caches(size_t most)
{
    const size_t bytes = qn_cpu_bytes_beyond(qn_cpu_last_level_cache_bytes(QN_CPU_PROCESSORS) * qn_cpu_last_level_cache_count(QN_CPU_PROCESSORS));
    return bytes < most ? bytes : most;
}

typedef struct stopwatch {
    double busy[THREADS_MAX]; /* processor seconds of each thread */
    qn_pool_fn fn;
    void *arg;
} stopwatch;

static double thread_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void timed_part(void *arg, qn_member m)
{
    stopwatch *s = arg;
    double begin = thread_seconds();
    s->fn(s->arg, m);
    s->busy[m.index] = thread_seconds() - begin;
}

/* Seconds that fn takes on all threads; with cpu_clock those of the busiest one's processor time. */
static double timed_run(qn_pool *pool, bool cpu_clock, qn_pool_fn fn, void *arg)
{
    static stopwatch s;
    double most = 0;
    s.fn = fn;
    s.arg = arg;
    uint64_t begin = qn_clock_ns();
    qn_pool_run(pool, timed_part, &s);
    if (!cpu_clock) {
        return qn_clock_seconds(begin, qn_clock_ns());
    }
    for (size_t i = 0; i < qn_pool_n_threads(pool); i++) {
        most = s.busy[i] > most ? s.busy[i] : most;
    }
    return most;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of at least three runs after one that warms up (the best with the processor clock). */
static double timed_median(qn_pool *pool, bool cpu_clock, double seconds, qn_pool_fn fn, void *arg)
{
    enum { RUNS_MAX = 1001 };
    static double times[RUNS_MAX];
    size_t n = 0;
    qn_pool_run(pool, fn, arg);
    for (double total = 0; n < 3 || (n < RUNS_MAX && total < seconds); n++) {
        times[n] = timed_run(pool, cpu_clock, fn, arg);
        total += times[n];
    }
    qsort(times, n, sizeof times[0], compare_doubles);
    return cpu_clock ? times[0] : times[n / 2];
}

/* ---- reading memory: the yardstick of what is bound by it ---- */

typedef struct read_task {
    const char *data;
    size_t bytes, n_streams;
    qn_isa isa;
    uint64_t sink[THREADS_MAX];
} read_task;

static void read_part(void *arg, qn_member m)
{
    read_task *t = arg;
    size_t begin, end;
    qn_member_span(m, t->bytes, 4096, &begin, &end);
    t->sink[m.index] += qn_peak_read(t->isa, t->data + begin, (end - begin) & ~(size_t)255, t->n_streams);
}

#endif
