/* suspects.h - which tensors an output's loss comes from: source tensors are put back, one layer at a time, and the divergence that goes with them
 * is measured.
 *
 * Bounded: so many layers, spread evenly, on a few chunks of the text; then the matrices of the layers that counted, until a number of runs is spent.
 */
#ifndef QN_GATE_SUSPECTS_H
#define QN_GATE_SUSPECTS_H

#include "gate/quality.h"

/* The matrices that are looked at. */
typedef enum qn_place {
    QN_PLACE_Q,
    QN_PLACE_K,
    QN_PLACE_V,
    QN_PLACE_O,
    QN_PLACE_GATE,
    QN_PLACE_UP,
    QN_PLACE_DOWN,
    QN_PLACE_ROUTER,
    QN_PLACE_EXPERT_GATE, /* of all experts of a layer */
    QN_PLACE_EXPERT_UP,
    QN_PLACE_EXPERT_DOWN,
    QN_PLACE_EMBEDDING, /* with a tied head that too; layer is 0 */
    QN_PLACE_HEAD,      /* where it is not the embedding; layer is 0 */
    QN_PLACE_COUNT
} qn_place;

enum { QN_SUSPECTS_MAX = 16 };

typedef struct qn_suspect {
    qn_place place;
    uint32_t layer;
    double share; /* of the divergence that goes when the source's tensor is put back */
} qn_suspect;

typedef struct qn_suspects {
    qn_suspect items[QN_SUSPECTS_MAX]; /* the worst first; only those that take a tenth of the divergence or more */
    size_t n;
    uint32_t n_layers, n_layers_looked;
    size_t n_matrices_left; /* of layers that count: not looked at, the runs were spent */
    size_t
        n_matrices_unfit; /* of layers looked at: no memory for their rows in another order (base's memory_bytes, half of what is free) */
} qn_suspects;

/* base's engine is there (qn_quality_measure made it). */
quern_status qn_suspects_find(qn_quality_base *base, const quern_model *own, qn_suspects *out, quern_error *err);

#endif
