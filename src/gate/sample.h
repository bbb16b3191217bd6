/* sample.h - for models that cannot run whole: some layers, each by itself between the source's embedding and the source's head.
 *
 * Source layer and output layer get the same input, and what comes out is compared through the same norm and head, so the divergence is that of
 * the layer alone. Memory: one layer of each and the source's embedding and head.
 */
#ifndef QN_GATE_SAMPLE_H
#define QN_GATE_SAMPLE_H

#include "gate/quality.h"

enum { QN_SAMPLE_LAYERS_MAX = 64 };

typedef struct qn_sampled_layer {
    uint32_t layer;
    double kld_mean, top1_agreement;
} qn_sampled_layer;

typedef struct qn_sample {
    qn_sampled_layer layers[QN_SAMPLE_LAYERS_MAX];
    size_t n;
} qn_sample;

/* n layers, spread evenly. */
quern_status qn_sample_measure(qn_quality_base *base, const quern_model *own, size_t n, qn_sample *out, quern_error *err);
/* Lossy where one layer alone breaks the policy's limit on the divergence of the whole. */
quern_status qn_sample_judge(const qn_sample *s, quern_gate_policy policy, double bits, qn_findings *f, quern_error *err);
/* [{"layer","kld_mean","top1_agreement"}]; NULL when out of memory. */
qn_json *qn_sample_to_json(const qn_sample *s);

#endif
