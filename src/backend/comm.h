/* comm.h - collectives between the ranks that share one model. The graph calls them whatever the world size is.
 *
 * Called by every member of a rank's thread team at the same place; data is complete when the call returns. */
#ifndef QN_BACKEND_COMM_H
#define QN_BACKEND_COMM_H

#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/thread_pool.h"

typedef struct qn_comm qn_comm;
struct qn_comm {
    uint32_t rank, world;
    /* data[i] = sum over ranks, added in rank order, so that every rank gets the same bits. */
    void (*all_reduce_sum)(const qn_comm *comm, qn_member member, float *data, size_t n);
};

/* The group of one: nothing to add. */
const qn_comm *qn_comm_local(void);

#endif
