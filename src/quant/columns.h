/* columns.h - sixteen small blocks of a row side by side, as search.h wants them, in units that keep float32 far from its limits.
 *
 * Invariant: what is stored for a block depends on that block's own values and weights only (its super-block's, where blocks share a
 * unit), never on its neighbours or on the place in the row.
 */
#ifndef QN_QUANT_COLUMNS_H
#define QN_QUANT_COLUMNS_H

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/search.h"

enum { QN_COLUMN_BLOCK_MAX = 128 };

typedef struct qn_columns {
    alignas(64) float x[QN_COLUMN_BLOCK_MAX * QN_COLUMNS]; /* value / unit */
    alignas(64) float w[QN_COLUMN_BLOCK_MAX * QN_COLUMNS];
    float unit[QN_COLUMNS]; /* a power of two near the greatest magnitude of the blocks that share it; 1 for zeros */
    size_t len;             /* elements a block */
    size_t n_used;          /* columns that hold a block; the rest are zeros */
} qn_columns;

/* Loads n_blocks (1..16) blocks of len elements from src. Each run of `shared` blocks gets one unit. importance: one weight an element,
 * or NULL, where weights are 1 + magnitude_weight * |x| / rms, rms over the blocks that share a unit. A block whose weights are all zero
 * counts as equally weighted. */
void qn_columns_load(qn_columns *c, const float *src, const float *importance, size_t len, size_t n_blocks, size_t shared,
                     float magnitude_weight);

/* value (in units) rounded to what float16 can hold of value * unit, never infinite; again in units. */
float qn_round_to_half(float value, float unit);
/* The float16 bits of a value that qn_round_to_half gave. */
uint16_t qn_half_bits(float value, float unit);

/* The float16 `steps` places further from zero (nearer for negative steps), as long as it keeps its sign and stays finite. */
float qn_half_neighbour(float value, float unit, int steps);

/* One float16 scale a column, in units: least error over the fit from `targets` (search.h) and the float16 neighbours of what it
 * gives, and of the plain choice that puts the greatest magnitude on targets[0]. */
void qn_fit_half_scale(const qn_search *s, const qn_columns *c, const qn_level_set *set, const float *targets, size_t n_targets,
                       float scale[QN_COLUMNS]);

#endif
