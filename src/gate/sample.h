/* sample.h - for models that cannot run whole: block by block, on the hidden states that the source itself has there.
 *
 * The source runs one layer at a time over some text; at the chosen layers the output's layer gets the same input, and what comes out is compared.
 * Memory: the weights of one layer of each, and three arrays of hidden states.
 */
#ifndef QN_GATE_SAMPLE_H
#define QN_GATE_SAMPLE_H

#include "gate/quality.h"

enum { QN_SAMPLE_LAYERS_MAX = 64 };

/* s: the source's hidden states behind the layer, y: the output's from the same input x. */
typedef struct qn_sampled_layer {
    uint32_t layer;
    double hidden_error; /* |y - s| / |s|, over all tokens */
    double block_error;  /* |y - s| / |s - x|: of what the layer adds */
} qn_sampled_layer;

typedef struct qn_sample {
    qn_sampled_layer layers[QN_SAMPLE_LAYERS_MAX];
    size_t n, n_tokens;
} qn_sample;

/* n layers, spread evenly from the first to the last. QUERN_ERROR_INVALID for states that are not finite, with base->broken set where they are
 * the source's. */
quern_status qn_sample_measure(qn_quality_base *base, const quern_model *own, size_t n, qn_sample *out, quern_error *err);
/* Lossy where one layer breaks the policy's limit. */
quern_status qn_sample_judge(const qn_sample *s, quern_gate_policy policy, double bits, qn_findings *f, quern_error *err);
/* {"tokens","layers":[{"layer","hidden_error","block_error"}]}; NULL when out of memory. */
qn_json *qn_sample_to_json(const qn_sample *s);

#endif
