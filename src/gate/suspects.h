/* suspects.h - which tensors an output's loss comes from: source tensors are put back, one layer at a time, and the divergence that goes with them
 * is measured.
 *
 * Bounded: so many layers, spread evenly, on a few chunks of the text; then the matrices of the layer that counted most.
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
    QN_PLACE_EXPERTS,
    QN_PLACE_EMBEDDING, /* with a tied head that too; layer is 0 */
    QN_PLACE_COUNT
} qn_place;

enum { QN_SUSPECTS_MAX = 3 };

typedef struct qn_suspect {
    qn_place place;
    uint32_t layer;
    double share; /* of the divergence that goes when the source's tensor is put back */
} qn_suspect;

/* The worst first; only those that take a tenth of the divergence or more. base's engine is there (qn_quality_measure made it). */
quern_status qn_suspects_find(qn_quality_base *base, const quern_model *own, qn_suspect out[QN_SUSPECTS_MAX], size_t *n, quern_error *err);

#endif
