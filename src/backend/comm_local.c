/* comm_local.c - the world of one rank. */
#include "backend/comm.h"

static void all_reduce_nothing(const qn_comm *comm, qn_member member, float *data, size_t n)
{
    (void)comm;
    (void)member;
    (void)data;
    (void)n;
}

const qn_comm *qn_comm_local(void)
{
    static const qn_comm local = {.rank = 0, .world = 1, .all_reduce_sum = all_reduce_nothing};
    return &local;
}
