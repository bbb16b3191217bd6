/* shard.c - cutting heads and rows evenly over ranks. */
#include "model/shard.h"

quern_status qn_shard_part(qn_shard shard, uint32_t n, const char *what, uint32_t *begin, uint32_t *end, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (shard.world == 0 || shard.rank >= shard.world || n % shard.world != 0) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%u %s cannot be cut into %u equal parts (rank %u)", n, what, shard.world, shard.rank);
    }
    *begin = n / shard.world * shard.rank;
    *end = n / shard.world * (shard.rank + 1);
done:
    return status;
}
