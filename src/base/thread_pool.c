/* thread_pool.c - the SPMD team. Whoever waits for a word to change (workers for a new generation number, members at a barrier, the caller for the last
 * worker) spins first and then parks on a condition variable, so that on a shared machine it gives its core to whom it waits for.
 *
 * Invariant: `generation` counts runs; a worker that has seen generation g takes part in run g + 1 exactly once. */
#include "base/thread_pool.h"

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cgroup.h"
#include "base/clock.h"
#include "base/float_mode.h"

/* How long a waiter spins before it gives its core away. A step's phases are tens of microseconds apart, so this covers them; between
 * tokens (sampling, printing) too; an idle pool parks after it. */
enum { SPIN_NS = 100000 };
/* Within a run members wait for work that is unevenly long, too. A wait that outlasts this spin is taken for one for a member that was not on a core:
 * others want the machine, and a spinning member takes from them what its own team waits for. So many waits after such a one park at once, and twice as
 * many each time that spinning fails again. (A small model beside a busy process: three to four times the speed.) It may as well be that another
 * member's work was that much longer, which cannot be told from here: the waits after it then pay for waking up, on cores that nobody else wanted. */
enum { SPIN_IN_RUN_NS = 500000, CROWDED_WAITS = 64, CROWDED_WAITS_MAX = 8192 };
enum { THREADS_MAX = 1024 };

struct qn_pool {
    size_t n_threads;
    pthread_t *threads;
    size_t n_started;
    const qn_numa *numa;               /* NULL: members run wherever the process may */
    qn_processors before, within, now; /* the caller's affinity: before a run, within it, and what is found of it at the end */

    qn_pool_fn fn;
    void *arg;
    _Alignas(64) _Atomic(uint32_t) generation;
    _Alignas(64) _Atomic(uint32_t) n_running;
    _Alignas(64) _Atomic(uint32_t) barrier_count;
    _Alignas(64) _Atomic(uint32_t) barrier_phase;
    _Atomic(uint32_t) n_parked;
    _Atomic(uint32_t) crowded;      /* waits that are to park at once; a guess, so that lost updates do no harm */
    _Atomic(uint32_t) crowded_next; /* how many after the next wait that outlasts its spin; 0: CROWDED_WAITS */
    atomic_bool stop;
    bool oversubscribed; /* more threads than cores: spinning would only steal time */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

typedef struct worker_start {
    qn_pool *pool;
    size_t index;
} worker_start;

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#if defined(__linux__)
static size_t affinity_count(void)
{
    qn_processors p;
    const size_t n = qn_affinity_get(&p) ? qn_processors_count(&p) : 1;
    qn_processors_deinit(&p);
    return n > 0 ? n : 1;
}
#endif

size_t qn_cpu_usable_count(void)
{
    size_t n = 1;
#if defined(__linux__)
    const size_t quota = qn_cgroup_cores(QN_CGROUP_SELF, QN_CGROUP_MOUNT);
    n = affinity_count();
    n = quota < n ? quota : n;
#else
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    n = online > 0 ? (size_t)online : 1;
#endif
    return n < THREADS_MAX ? n : THREADS_MAX;
}

/* True if *word still equals `seen` after the spin. */
static bool spin_while_equal(const _Atomic(uint32_t) *word, uint32_t seen, uint64_t spin_ns)
{
    uint64_t begin = 0;
    for (unsigned i = 0;; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen) {
            return false;
        }
        cpu_relax();
        if ((i & 255u) == 255u) {
            uint64_t now = qn_clock_ns();
            begin = begin == 0 ? now : begin;
            if (now - begin > spin_ns) {
                return true;
            }
        }
    }
}

/* Until *word differs from `seen`. Who changes it calls wake_parked: of the two, one sees what the other has written. */
static void park_while_equal(qn_pool *p, const _Atomic(uint32_t) *word, uint32_t seen)
{
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->n_parked, 1);
    while (atomic_load(word) == seen) {
        pthread_cond_wait(&p->wake, &p->mutex);
    }
    atomic_fetch_sub(&p->n_parked, 1);
    pthread_mutex_unlock(&p->mutex);
}

/* Of a worker between runs, when nothing may come for long. */
static void wait_for_run(qn_pool *p, uint32_t seen)
{
    if (p->oversubscribed ? atomic_load_explicit(&p->generation, memory_order_acquire) == seen
                          : spin_while_equal(&p->generation, seen, SPIN_NS)) {
        park_while_equal(p, &p->generation, seen);
    }
}

/* Of a member within a run, for others that are at work. */
static void wait_for_others(qn_pool *p, const _Atomic(uint32_t) *word, uint32_t seen)
{
    uint32_t crowded = atomic_load_explicit(&p->crowded, memory_order_relaxed);
    if (atomic_load_explicit(word, memory_order_acquire) != seen) {
        return;
    }
    if (p->oversubscribed || crowded > 0) {
        atomic_store_explicit(&p->crowded, crowded > 0 ? crowded - 1 : 0, memory_order_relaxed);
    } else if (spin_while_equal(word, seen, SPIN_IN_RUN_NS)) {
        uint32_t next = atomic_load_explicit(&p->crowded_next, memory_order_relaxed);
        next = next > 0 ? next : CROWDED_WAITS;
        atomic_store_explicit(&p->crowded, next, memory_order_relaxed);
        atomic_store_explicit(&p->crowded_next, next < CROWDED_WAITS_MAX ? 2 * next : next, memory_order_relaxed);
    } else {
        atomic_store_explicit(&p->crowded_next, 0, memory_order_relaxed);
        return;
    }
    park_while_equal(p, word, seen);
}

static void wake_parked(qn_pool *p)
{
    if (atomic_load(&p->n_parked) > 0) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->mutex);
    }
}

static qn_member member_of(qn_pool *p, size_t index)
{
    return (qn_member){.pool = p, .index = index, .n_threads = p->n_threads, .node = qn_numa_node_of(p->numa, index, p->n_threads)};
}

static void *worker_main(void *arg)
{
    worker_start start = *(worker_start *)arg;
    qn_free(arg);
    qn_pool *p = start.pool;
    const qn_member member = member_of(p, start.index);
    if (p->numa != NULL) {
        (void)qn_affinity_set(&p->numa->nodes[member.node].processors); /* refused, it runs anywhere and reads from afar */
    }
    (void)qn_float_mode_enter(); /* it has its creator's */
    for (uint32_t seen = 0;; seen++) {
        wait_for_run(p, seen);
        if (atomic_load_explicit(&p->stop, memory_order_acquire)) {
            return NULL;
        }
        p->fn(p->arg, member);
        if (atomic_fetch_sub(&p->n_running, 1) == 1) {
            wake_parked(p);
        }
    }
}

/* Starts a new generation. */
static void announce(qn_pool *p)
{
    atomic_fetch_add(&p->generation, 1);
    wake_parked(p);
}

quern_status qn_pool_create(qn_pool **out, size_t n_threads, quern_error *err) { return qn_pool_create_on(out, n_threads, NULL, err); }

quern_status qn_pool_create_on(qn_pool **out, size_t n_threads, const qn_numa *numa, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_pool *p = NULL;
    *out = NULL;
    if (n_threads < 1 || n_threads > THREADS_MAX) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "threads: %zu, expected 1 to %d", n_threads, (int)THREADS_MAX);
    }
    p = qn_malloc_aligned(sizeof *p);
    if (p == NULL) {
        QN_FAIL_MEMORY(err, "a thread pool", sizeof *p);
    }
    *p = (qn_pool){.n_threads = n_threads,
                   .oversubscribed = n_threads > qn_cpu_usable_count(),
                   .numa = n_threads >= qn_numa_n_nodes(numa) ? numa : NULL};
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->threads = qn_calloc(n_threads, sizeof *p->threads);
    const qn_processors *like = p->numa != NULL ? &p->numa->nodes[0].processors : NULL;
    if (like != NULL &&
        (!qn_processors_init(&p->before, like) || !qn_processors_init(&p->within, like) || !qn_processors_init(&p->now, like))) {
        QN_FAIL_MEMORY(err, "a thread pool", 3 * like->n_words * sizeof *like->words);
    }
    if (p->threads == NULL) {
        QN_FAIL_MEMORY(err, "a thread pool", n_threads * sizeof *p->threads);
    }
    for (size_t i = 1; i < n_threads; i++) {
        worker_start *start = qn_malloc(sizeof *start);
        if (start == NULL) {
            QN_FAIL_MEMORY(err, "a thread", sizeof *start);
        }
        *start = (worker_start){.pool = p, .index = i};
        if (pthread_create(&p->threads[i], NULL, worker_main, start) != 0) {
            qn_free(start);
            QN_FAIL(err, QUERN_ERROR_LIMIT, "the system refused thread %zu of %zu", i + 1, n_threads);
        }
        p->n_started++;
    }
    *out = p;
    p = NULL;
done:
    qn_pool_destroy(p);
    return status;
}

void qn_pool_destroy(qn_pool *p)
{
    if (p == NULL) {
        return;
    }
    atomic_store_explicit(&p->stop, true, memory_order_release);
    announce(p);
    for (size_t i = 1; i <= p->n_started; i++) {
        pthread_join(p->threads[i], NULL);
    }
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    qn_processors_deinit(&p->before);
    qn_processors_deinit(&p->within);
    qn_processors_deinit(&p->now);
    qn_free(p->threads);
    qn_free_aligned(p);
}

size_t qn_pool_n_threads(const qn_pool *pool) { return pool->n_threads; }

/* The calling thread to those of its processors that are a node's. True if that changed something; a thread that was bound elsewhere stays there. */
static bool enter_node(qn_pool *p, size_t node)
{
    return p->numa != NULL && qn_affinity_read(&p->before) &&
           qn_processors_common(&p->before, &p->numa->nodes[node].processors, &p->within) && !qn_processors_equal(&p->before, &p->within) &&
           qn_affinity_set(&p->within);
}

/* Back to where it was, unless somebody else has bound it anew in between. */
static void leave_node(qn_pool *p)
{
    if (qn_affinity_read(&p->now) && qn_processors_equal(&p->now, &p->within)) {
        (void)qn_affinity_set(&p->before);
    }
}

void qn_pool_run(qn_pool *p, qn_pool_fn fn, void *arg)
{
    p->fn = fn;
    p->arg = arg;
    atomic_store_explicit(&p->n_running, (uint32_t)(p->n_threads - 1), memory_order_relaxed);
    if (p->n_threads > 1) {
        announce(p);
    }
    const qn_member caller = member_of(p, 0);
    const bool bound = enter_node(p, caller.node);
    const qn_float_mode before = qn_float_mode_enter();
    fn(arg, caller);
    qn_float_mode_leave(before);
    uint32_t running;
    while ((running = atomic_load_explicit(&p->n_running, memory_order_acquire)) != 0) {
        wait_for_others(p, &p->n_running, running);
    }
    if (bound) {
        leave_node(p);
    }
}

void qn_member_barrier(qn_member m)
{
    qn_pool *p = m.pool;
    if (m.n_threads == 1) {
        return;
    }
    uint32_t phase = atomic_load_explicit(&p->barrier_phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&p->barrier_count, 1, memory_order_acq_rel) + 1 == m.n_threads) {
        atomic_store_explicit(&p->barrier_count, 0, memory_order_relaxed);
        atomic_store(&p->barrier_phase, phase + 1);
        wake_parked(p);
        return;
    }
    wait_for_others(p, &p->barrier_phase, phase);
}

void qn_member_span(qn_member m, size_t n, size_t unit, size_t *begin, size_t *end)
{
    size_t units = (n + unit - 1) / unit;
    size_t share = units / m.n_threads, extra = units % m.n_threads;
    size_t first = m.index * share + (m.index < extra ? m.index : extra);
    size_t last = first + share + (m.index < extra ? 1 : 0);
    *begin = first * unit < n ? first * unit : n;
    *end = last * unit < n ? last * unit : n;
}
