/* observer.h - a backend that passes every call on to another one and adds up what matrices read; see statistics.h.
 *
 * Invariant: the values that the other backend computes are not changed, except that the output matrix's product is left out: only its input
 * counts.
 */
#ifndef QN_CALIBRATE_OBSERVER_H
#define QN_CALIBRATE_OBSERVER_H

#include "backend/backend.h"
#include "calibrate/statistics.h"
#include "model/weights.h"

typedef struct qn_observer {
    qn_backend backend; /* first, so that a qn_backend * is a qn_observer * */
    qn_backend *inner;
    const qn_weights *weights; /* as the graph has them: products are told by their addresses */
    qn_statistics *stats;
    qn_isa isa;
    float *transposed;     /* (columns of the widest site with moments, rows of a step rounded up to 16) */
    char **scratch;        /* one a member */
    size_t products_bytes; /* of scratch that hold products, before the kernel's own */
} qn_observer;

/* Bytes of scratch a member needs, and of `transposed`, for sites up to n_cols wide. */
size_t qn_observer_scratch_bytes(size_t n_cols);
size_t qn_observer_transposed_bytes(size_t n_cols, size_t n_rows);
/* Fills in the entries; everything else is set by the caller. */
void qn_observer_init(qn_observer *o, qn_backend *inner);

#endif
