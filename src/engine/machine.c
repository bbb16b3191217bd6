/* machine.c - the yardsticks: what this machine's memory and arithmetic units give at best, measured in a few seconds.
 *
 * A figure is the best of several short runs: other load can only make a run slower. */
#include "quern/machine.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/memory_info.h"
#include "base/thread_pool.h"
#include "engine/engine_int.h"
#include "kernels/peak.h"
#include "model/model_int.h"

enum { RUNS = 4, QUICK_RUNS = 2 };

/* Bytes of a model that are read to measure its mapping, and to compare it with plain memory many times; enough to leave every cache. */
#define MAPPING_BYTES_MAX ((size_t)4 << 30)
#define COMPARED_BYTES_MAX ((size_t)1 << 30)
#define COMPARED_BYTES_MIN ((size_t)256 << 20)
/* Turns beyond the third begin within this time. */
#define TURNS_SECONDS 2.0
#define BUFFER_BYTES_LEAST ((size_t)64 << 20) /* where memory is short */
/* A thread's peak loop runs about this long. */
#define PEAK_SECONDS 0.15
#define QUICK_PEAK_SECONDS 0.04
/* A working set is read so often in a run that the threads' beginning and end do not count. */
#define CACHED_RUN_BYTES ((size_t)64 << 20)

/* ---- what the system says ---- */

static const char *isa_of(const quern_machine_options *o) { return o != NULL ? o->isa : NULL; }

/* Memory's limit is the machine's, whatever instruction set computes: what a weaker set's loads reach would flatter its shares. */
static qn_isa reading_isa(void) { return qn_isa_best(); }

quern_status quern_machine_detect(quern_machine *out, const char *isa_wanted, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_isa isa;
    qn_numa *numa = NULL;
    *out = (quern_machine){0};
    QN_TRY(qn_engine_choose_isa(isa_wanted, &isa, err));
    QN_TRY(qn_numa_detect(&numa, QN_NUMA_NODES, err));
    out->n_memory_nodes = qn_numa_n_nodes(numa);
    for (size_t i = 0; numa != NULL && i < numa->n_nodes && i < sizeof out->memory_nodes / sizeof out->memory_nodes[0]; i++) {
        out->memory_nodes[i].id = numa->nodes[i].id;
        out->memory_nodes[i].n_cpus = numa->nodes[i].n_processors;
    }
    (void)snprintf(out->cpu, sizeof out->cpu, "%s", qn_cpu_name());
    for (int i = 0; i < QN_ISA_COUNT; i++) {
        if (qn_isa_available((qn_isa)i)) {
            out->isa_available[out->n_isa_available++] = qn_isa_name((qn_isa)i);
        }
    }
    out->isa_chosen = qn_isa_name(isa);
    out->isa_reading = qn_isa_name(reading_isa());
    out->n_cpus = qn_cpu_usable_count();
    out->last_level_cache_bytes = qn_cpu_last_level_cache_bytes(QN_CPU_PROCESSORS);
    out->n_last_level_caches = qn_cpu_last_level_cache_count(QN_CPU_PROCESSORS);
    out->memory_bytes = qn_memory_info_get().total_bytes;
    uint64_t available = qn_available_memory_bytes();
    out->memory_available_bytes = available == UINT64_MAX ? 0 : available;
done:
    qn_numa_destroy(numa);
    return status;
}

/* Whether the caller wants more; else an error. */
static quern_status go_on(const quern_machine_options *o, quern_error *err)
{
    return o == NULL || o->go_on == NULL || o->go_on(o->user) ? QUERN_OK : qn_error_set(err, QUERN_ERROR_CANCELLED, "interrupted");
}

static bool is_quick(const quern_machine_options *o) { return o != NULL && o->quick; }
static size_t threads_of(const quern_machine_options *o) { return o != NULL && o->n_threads != 0 ? o->n_threads : qn_cpu_usable_count(); }

/* ---- bandwidth ---- */

typedef struct region {
    const uint8_t *data;
    size_t bytes;
} region;

typedef struct read_job {
    const region *regions;
    size_t n_regions, n_streams, n_passes;
    bool one_thread;
    _Atomic(uint64_t) checksum; /* keeps the reads alive */
} read_job;

static void read_part(void *arg, qn_member m)
{
    read_job *j = arg;
    const qn_isa isa = reading_isa();
    uint64_t sum = 0;
    if (j->one_thread && m.index > 0) {
        return;
    }
    for (size_t k = 0; k < j->n_passes * j->n_regions; k++) {
        const size_t i = k % j->n_regions;
        size_t begin = 0, end = j->regions[i].bytes;
        if (!j->one_thread) {
            qn_member_span(m, j->regions[i].bytes, 4096, &begin, &end);
        }
        if (end > begin) {
            sum += qn_peak_read(isa, j->regions[i].data + begin, (end - begin) & ~(size_t)255, j->n_streams);
        }
    }
    atomic_fetch_add(&j->checksum, sum);
}

static double bandwidth_of(qn_pool *pool, const region *regions, size_t n_regions, size_t n_passes, size_t n_streams, bool one_thread)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n_regions; i++) {
        bytes += regions[i].bytes;
    }
    read_job job = {.regions = regions, .n_regions = n_regions, .n_passes = n_passes, .n_streams = n_streams, .one_thread = one_thread};
    uint64_t begin = qn_clock_ns();
    qn_pool_run(pool, read_part, &job);
    return (double)n_passes * (double)bytes / qn_clock_seconds(begin, qn_clock_ns());
}

static double bandwidth(qn_pool *pool, const region *regions, size_t n_regions, size_t n_streams, bool one_thread)
{
    return bandwidth_of(pool, regions, n_regions, 1, n_streams, one_thread);
}

/* From several places side by side and from one in turns: machines differ in what keeps memory busiest. */
static size_t streams_of(int run) { return run % 2 == 0 ? QN_PEAK_STREAMS : 1; }

static quern_status best_bandwidth(const quern_machine_options *o, qn_pool *pool, const region *buffer, bool one_thread, double *best,
                                   quern_error *err)
{
    quern_status status = QUERN_OK;
    double found = 0;
    for (int run = 0; run < 2 * RUNS; run++) {
        QN_TRY(go_on(o, err));
        found = fmax(found, bandwidth(pool, buffer, 1, streams_of(run), one_thread));
    }
    *best = found;
done:
    return status;
}

/* Who reads a page writes it first, so that it comes from that thread's memory node. */
static void write_part(void *arg, qn_member m)
{
    const read_job *j = arg;
    size_t begin = 0, end = j->regions->bytes;
    if (!j->one_thread) {
        qn_member_span(m, j->regions->bytes, 4096, &begin, &end);
    }
    if (!j->one_thread || m.index == 0) {
        memset((uint8_t *)(uintptr_t)j->regions->data + begin, 1, end - begin);
    }
}

/* The yardstick: memory in huge pages, every page written once. A group's limit ends the program only when pages are written, so the buffer is
 * held against it before. */
static quern_status make_buffer(qn_pool *pool, bool one_thread, region *out, quern_error *err)
{
    const size_t cache = qn_cpu_last_level_cache_bytes(QN_CPU_PROCESSORS) *
                         (one_thread ? 1 : qn_cpu_last_level_cache_count(QN_CPU_PROCESSORS));
    const size_t least = cache * 2 > BUFFER_BYTES_LEAST ? cache * 2 : BUFFER_BYTES_LEAST;
    const uint64_t available = qn_available_memory_bytes();
    size_t bytes = qn_cpu_bytes_beyond(cache);
    while (bytes > available / 4 && bytes / 2 >= least) {
        bytes /= 2;
    }
    uint8_t *data = bytes <= available / 2 ? qn_malloc_pages(bytes) : NULL;
    while (data == NULL && bytes <= available / 2 && bytes / 2 >= least) {
        bytes /= 2;
        data = qn_malloc_pages(bytes);
    }
    if (data == NULL) {
        return qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: measuring bandwidth (%zu bytes)", bytes);
    }
    bytes &= ~(size_t)4095;
    *out = (region){.data = data, .bytes = bytes};
    qn_pool_run(pool, write_part, &(read_job){.regions = out, .n_regions = 1, .one_thread = one_thread});
    return QUERN_OK;
}

/* The caches' share of a working set is what they keep of it from pass to pass, whatever the machine's caches are. 0 where it is as large as the
 * buffer, which leaves every cache. In memory of its own, each thread's part touched by that thread first. */
static quern_status cached_bandwidth(const quern_machine_options *o, qn_pool *pool, size_t buffer_bytes, double *best, quern_error *err)
{
    quern_status status = QUERN_OK;
    double found = 0;
    region set = {0};
    if (o == NULL || o->working_set == 0 || o->working_set >= buffer_bytes) {
        goto done;
    }
    QN_TRY(go_on(o, err));
    set.bytes = qn_align_up((size_t)o->working_set, 4096);
    set.data = set.bytes <= qn_available_memory_bytes() / 2 ? qn_malloc_pages(set.bytes) : NULL;
    if (set.data == NULL) {
        QN_FAIL_MEMORY(err, "measuring caches", set.bytes);
    }
    qn_pool_run(pool, write_part, &(read_job){.regions = &set, .n_regions = 1});
    for (int run = 0; run < 2 * RUNS; run++) {
        QN_TRY(go_on(o, err));
        found = fmax(found, bandwidth_of(pool, &set, 1, CACHED_RUN_BYTES / set.bytes + 1, streams_of(run), false));
    }
    *best = found;
done:
    qn_free_aligned((void *)(uintptr_t)set.data);
    return status;
}

/* ---- arithmetic ---- */

typedef struct peak_job {
    qn_isa isa;
    uint64_t (*loop)(qn_isa isa, uint64_t rounds);
    uint64_t rounds;
    _Atomic(uint64_t) operations;
} peak_job;

static void run_peak(void *arg, qn_member m)
{
    peak_job *j = arg;
    (void)m;
    atomic_fetch_add(&j->operations, j->loop(j->isa, j->rounds));
}

/* Operations a second, and how long it took. */
static double peak_run(qn_pool *pool, qn_isa isa, uint64_t (*loop)(qn_isa isa, uint64_t rounds), uint64_t rounds, double *seconds)
{
    peak_job job = {.isa = isa, .loop = loop, .rounds = rounds};
    const uint64_t begin = qn_clock_ns();
    qn_pool_run(pool, run_peak, &job);
    *seconds = qn_clock_seconds(begin, qn_clock_ns());
    return (double)job.operations / *seconds;
}

static quern_status best_peak(const quern_machine_options *o, qn_pool *pool, qn_isa isa, uint64_t (*loop)(qn_isa isa, uint64_t rounds),
                              double *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t rounds = 250;
    const double wanted = is_quick(o) ? QUICK_PEAK_SECONDS : PEAK_SECONDS;
    const int n_runs = is_quick(o) ? QUICK_RUNS : RUNS;
    double best = 0;
    if (loop(isa, 1) == 0) {
        goto done; /* the instruction set has no such unit; the machine may */
    }
    double seconds = 0;
    while (seconds < wanted / 8 && rounds < UINT64_MAX / 8) { /* how many fill the time; the first of all wakes the threads too */
        QN_TRY(go_on(o, err));
        rounds *= 4;
        (void)peak_run(pool, isa, loop, rounds, &seconds);
    }
    rounds = (uint64_t)((double)rounds * wanted / fmax(seconds, 1e-6)) + 1;
    for (int run = 0, tries = 0; run < n_runs && tries < 4 * n_runs; tries++) {
        QN_TRY(go_on(o, err));
        const double rate = peak_run(pool, isa, loop, rounds, &seconds);
        if (seconds < wanted / 2 && tries + n_runs - run < 4 * n_runs) { /* a pause had made the rounds seem to fill the time */
            rounds = (uint64_t)((double)rounds * wanted / fmax(seconds, 1e-6)) + 1;
        } else {
            best = fmax(best, rate);
            run++;
        }
    }
    *out = best;
done:
    return status;
}

quern_status quern_machine_measure(quern_machine_rates *m, const quern_machine_options *options, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_pool *pool = NULL;
    qn_numa *numa = NULL;
    qn_isa isa;
    region buffer = {0};
    *m = (quern_machine_rates){0};
    QN_TRY(qn_engine_choose_isa(isa_of(options), &isa, err));
    QN_TRY(qn_numa_detect(&numa, QN_NUMA_NODES, err));
    QN_TRY(qn_pool_create_on(&pool, threads_of(options), numa, err));
    QN_TRY(best_peak(options, pool, isa, qn_peak_fma_f32, &m->peak_fma_f32, err));
    /* an instruction set has x86's units or aarch64's */
    double *int8 = isa >= QN_ISA_NEON ? &m->peak_neon_int8 : isa >= QN_ISA_AVX512VNNI ? &m->peak_vnni_int8 : &m->peak_avx2_int8;
    QN_TRY(best_peak(options, pool, isa, qn_peak_int8, int8, err));
    QN_TRY(best_peak(options, pool, isa, qn_peak_int8_tiles, isa >= QN_ISA_NEON ? &m->peak_i8mm_int8 : &m->peak_amx_int8, err));
    QN_TRY(best_peak(options, pool, isa, qn_peak_bf16_tiles, &m->peak_amx_bf16, err));
    if (!is_quick(options)) {
        QN_TRY(make_buffer(pool, numa != NULL, &buffer, err));
        QN_TRY(best_bandwidth(options, pool, &buffer, true, &m->read_bandwidth_one, err));
    }
    if (buffer.data == NULL || numa != NULL) { /* one thread's is all in one node */
        qn_free_aligned((void *)(uintptr_t)buffer.data);
        buffer = (region){0};
        QN_TRY(make_buffer(pool, false, &buffer, err));
    }
    QN_TRY(best_bandwidth(options, pool, &buffer, false, &m->read_bandwidth_all, err));
    for (int again = 0; again < RUNS && m->read_bandwidth_all < m->read_bandwidth_one;
         again++) { /* all have at least what one has: other load */
        double more;
        QN_TRY(best_bandwidth(options, pool, &buffer, false, &more, err));
        m->read_bandwidth_all = fmax(m->read_bandwidth_all, more);
    }
    m->read_bytes = buffer.bytes;
    qn_free_aligned((void *)(uintptr_t)buffer.data);
    buffer = (region){0};
    QN_TRY(cached_bandwidth(options, pool, (size_t)m->read_bytes, &m->read_bandwidth_cached, err));
done:
    qn_free_aligned((void *)(uintptr_t)buffer.data);
    qn_pool_destroy(pool);
    qn_numa_destroy(numa);
    return status;
}

/* ---- a model's own pages ---- */

static size_t model_tensors(const quern_model *m)
{
    return m->gguf != NULL ? qn_gguf_n_tensors(m->gguf) : qn_safetensors_n_tensors(m->safetensors);
}

/* The weights to read, at most `most` bytes of them, taken from all over the file. */
static size_t find_regions(const quern_model *model, size_t most, region *regions, size_t *bytes)
{
    size_t n = 0, total = 0, seen = 0, taken = 0;
    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < model_tensors(model); i++) {
            const qn_tensor *t = model->gguf != NULL ? qn_gguf_tensor_at(model->gguf, i) : qn_safetensors_tensor_at(model->safetensors, i);
            size_t skip = (size_t)(-(uintptr_t)t->data & 63u);
            if (t->n_bytes <= skip + 4096) {
                continue;
            }
            if (pass == 0) {
                total += t->n_bytes;
            } else if ((double)taken <= (double)most * ((double)seen / (double)total) || total <= most) {
                regions[n++] = (region){.data = t->data + skip, .bytes = (t->n_bytes - skip) & ~(size_t)255};
                taken += t->n_bytes;
            }
            seen += pass == 1 ? t->n_bytes : 0;
        }
    }
    *bytes = taken;
    return n;
}

/* The faster of several streams and one. */
static double one_reading(qn_pool *pool, const region *regions, size_t n)
{
    double streams = bandwidth(pool, regions, n, QN_PEAK_STREAMS, false);
    return fmax(streams, bandwidth(pool, regions, n, 1, false));
}

/* Mapped, plain, mapped, plain, ...: what changes from one moment to the next meets both. */
static quern_status take_turns(const quern_machine_options *o, qn_pool *pool, const region *regions, size_t n, quern_mapping_turns *turns,
                               quern_error *err)
{
    quern_status status = QUERN_OK;
    region buffer = {0};
    QN_TRY(make_buffer(pool, false, &buffer, err));
    (void)bandwidth(pool, regions, n, 1, false); /* brings the pages in */
    const uint64_t begin = qn_clock_ns();
    while (turns->n < QUERN_MAPPING_TURNS && (turns->n < 3 || qn_clock_seconds(begin, qn_clock_ns()) < TURNS_SECONDS)) {
        QN_TRY(go_on(o, err));
        turns->mapped[turns->n] = one_reading(pool, regions, n);
        turns->plain[turns->n] = one_reading(pool, &buffer, 1);
        turns->n++;
    }
done:
    qn_free_aligned((void *)(uintptr_t)buffer.data);
    return status;
}

quern_status quern_machine_measure_mapping(const quern_model *model, const quern_machine_options *options, double *mapped,
                                           quern_mapping_turns *turns, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_pool *pool = NULL;
    qn_numa *numa = NULL;
    region *regions = NULL;
    size_t n, total;
    *mapped = 0;
    if (turns != NULL) {
        *turns = (quern_mapping_turns){0};
    }
    if (!model->has_weights) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "%s was opened without weights", model->info.path);
    }
    regions = qn_malloc_array(model_tensors(model), sizeof *regions);
    if (regions == NULL) {
        QN_FAIL_MEMORY(err, "measuring a mapping", model_tensors(model) * sizeof *regions);
    }
    n = find_regions(model, turns != NULL ? COMPARED_BYTES_MAX : MAPPING_BYTES_MAX, regions, &total);
    if (total == 0) {
        goto done;
    }
    QN_TRY(qn_numa_detect(&numa, QN_NUMA_NODES, err));
    QN_TRY(qn_pool_create_on(&pool, threads_of(options), numa, err));
    if (turns != NULL && total >= COMPARED_BYTES_MIN) {
        QN_TRY(take_turns(options, pool, regions, n, turns, err));
        for (size_t i = 0; i < turns->n; i++) {
            *mapped = fmax(*mapped, turns->mapped[i]);
        }
    }
    for (int run = 0; run < RUNS && (turns == NULL || turns->n == 0); run++) {
        QN_TRY(go_on(options, err));
        *mapped = fmax(*mapped, bandwidth(pool, regions, n, streams_of(run), false));
    }
done:
    qn_free(regions);
    qn_pool_destroy(pool);
    qn_numa_destroy(numa);
    return status;
}
