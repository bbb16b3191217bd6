/* plain_model.h - the source as plain encoding stores it in the types of an output, to be run beside both: what the types by themselves cost.
 *
 * The values are those of plain_encoder.h, held as float32: four bytes a weight. Invariant: matrices are those of the source in number, shape and
 * order of rows; everything else is the source's own.
 */
#ifndef QN_GATE_PLAIN_MODEL_H
#define QN_GATE_PLAIN_MODEL_H

#include "model/model_int.h"

typedef struct qn_plain_model {
    quern_model model; /* a shallow copy of the source but for its matrices */
    qn_layer_weights *layers;
    qn_matrix *experts;
    float *values;
} qn_plain_model;

/* Bytes of all values. */
uint64_t qn_plain_model_bytes(const quern_model *own);
/* `own` gives the type of every matrix; it has the source's layers and shapes. n_threads 1..1024. */
quern_status qn_plain_model_make(qn_plain_model *out, const quern_model *source, const quern_model *own, size_t n_threads,
                                 quern_error *err);
void qn_plain_model_free(qn_plain_model *m);

#endif
