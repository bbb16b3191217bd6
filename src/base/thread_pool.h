/* thread_pool.h - a team of threads that runs one function together (SPMD), with barriers inside it.
 *
 * qn_pool_run calls fn(arg, member) on every member at once, the calling thread being member 0, and returns when all
 * are done. Workers spin briefly between runs and then park, so an idle pool costs nothing.
 * Results must never depend on n_threads or on which member does what.
 *
 * A worker cannot be lost: a signal that ends or stops one thread ends or stops the process (POSIX), so no member waits for one that is gone.
 * A parked worker sleeps on a condition variable and takes part in the next run, however long it slept; one that gets no core, or is moved to
 * another, delays the run and changes no result.
 */
#ifndef QN_BASE_THREAD_POOL_H
#define QN_BASE_THREAD_POOL_H

#include <stdatomic.h>
#include <stddef.h>
#include "base/error.h"
#include "base/numa.h"

typedef struct qn_pool qn_pool;

typedef struct qn_member {
    qn_pool *pool;
    size_t index; /* 0..n_threads-1 */
    size_t n_threads;
    size_t node; /* whose processors it runs on; 0 in a team without nodes */
} qn_member;

typedef void (*qn_pool_fn)(void *arg, qn_member member);

/* Threads this process may use: CPU affinity and cgroup quota respected, 1 to 1024. */
size_t qn_cpu_usable_count(void);

/* n_threads 1..1024; the pool makes n_threads - 1 of its own. */
quern_status qn_pool_create(qn_pool **out, size_t n_threads, quern_error *err);
/* The same with members bound to memory nodes (qn_numa_node_of); the calling thread too while it is in qn_pool_run. `numa` must outlive the pool;
 * NULL or fewer threads than nodes: nobody is bound. */
quern_status qn_pool_create_on(qn_pool **out, size_t n_threads, const qn_numa *numa, quern_error *err);
void qn_pool_destroy(qn_pool *pool); /* NULL is fine */
size_t qn_pool_n_threads(const qn_pool *pool);
void qn_pool_run(qn_pool *pool, qn_pool_fn fn, void *arg);

/* Inside fn: returns when every member has arrived. */
void qn_member_barrier(qn_member m);

/* Inside fn: the half-open part [*begin, *end) of n items that belongs to this member, cut at multiples of `unit`.
 * The parts of all members are disjoint and cover [0, n). */
void qn_member_span(qn_member m, size_t n, size_t unit, size_t *begin, size_t *end);

#endif
