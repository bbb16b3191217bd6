/* shard.h - which part of a model one rank of a group holds (tensor parallelism).
 *
 * Attention is cut by key/value heads, feed-forward blocks by hidden rows; after the output and the down projection the ranks' partial
 * sums are added by comm. With world = 1 every part is the whole. */
#ifndef QN_MODEL_SHARD_H
#define QN_MODEL_SHARD_H

#include <stdint.h>
#include "base/error.h"

typedef struct qn_shard {
    uint32_t rank, world; /* rank < world, world >= 1 */
} qn_shard;

static inline qn_shard qn_shard_whole(void) { return (qn_shard){.rank = 0, .world = 1}; }

/* The half-open part [*begin, *end) of n units for this rank; n must be a multiple of world: QUERN_ERROR_UNSUPPORTED naming `what` if not. */
quern_status qn_shard_part(qn_shard shard, uint32_t n, const char *what, uint32_t *begin, uint32_t *end, quern_error *err);

#endif
