/* shard.h - which part of a model one rank of a group holds (tensor parallelism).
 *
 * Attention is cut by key/value heads with the query heads that read them, feed-forward blocks and experts by their inner rows. So q, k, v, gate
 * and up are cut into rows, o and down into columns; after o and down the ranks' partial sums are added by comm. Embedding, norms, router and
 * output head are whole in every rank. With world = 1 the part is the whole. Nothing is copied: a part points into the same mapping. */
#ifndef QN_MODEL_SHARD_H
#define QN_MODEL_SHARD_H

#include "base/alloc.h"
#include "base/error.h"
#include "model/config.h"
#include "model/weights.h"

typedef struct qn_shard {
    uint32_t rank, world; /* rank < world, world >= 1 */
} qn_shard;

static inline qn_shard qn_shard_whole(void) { return (qn_shard){.rank = 0, .world = 1}; }

/* The rank's configuration and weights; arrays come from `arena`, everything else stays the model's. QUERN_ERROR_UNSUPPORTED, naming the place,
 * where a size is no multiple of world or a cut would go through a block of a quantized row. */
quern_status qn_shard_model(qn_shard shard, const qn_model_config *config, const qn_weights *weights, qn_arena *arena,
                            qn_model_config *part_config, qn_weights *part, quern_error *err);

#endif
