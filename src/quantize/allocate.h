/* allocate.h - which of several sizes each of many tensors gets, so that together they fit and lose least.
 *
 * Pure arithmetic: knows nothing of types or files.
 */
#ifndef QN_QUANTIZE_ALLOCATE_H
#define QN_QUANTIZE_ALLOCATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* One way to store an item. loss >= 0, in a unit that adds up over items. */
typedef struct qn_candidate {
    uint64_t bytes;
    double loss;
} qn_candidate;

/* chosen[i] is a number below n_candidates for each of n_items; candidates is (n_items, n_candidates), in any order. The sum of bytes is at most
 * `limit`, and the sum of losses small: every item starts at its smallest candidate and climbs its lower convex hull, the step with the greatest
 * loss avoided per byte first (the greedy solution of the multiple-choice knapsack's linear relaxation; it is at most one step from the
 * optimum). Equal steps are taken in the order of items. QUERN_ERROR_LIMIT if not even the smallest fit. */
quern_status qn_allocate(const qn_candidate *candidates, size_t n_items, size_t n_candidates, uint64_t limit, size_t *chosen,
                         quern_error *err);

#endif
