/* sample.c - see sample.h. A layer by itself is a shallow copy of its model with one layer. */
#include "gate/sample.h"

#include <string.h>

#include "engine/engine_int.h"

enum { CHUNKS = 4 };

/* Without the layers around it a layer has more weight: on the demo model its divergence is up to ten times that of the whole model in types
 * that are good, four times in those that are not (docs/quality.md). */
static const double alone_factor = 4;

/* The model's layer between the source's ends. */
static quern_model layer_alone(const quern_model *m, const quern_model *ends, uint32_t layer)
{
    quern_model alone = *m;
    alone.config.n_layers = 1;
    alone.config.layers = m->config.layers + layer;
    alone.weights.layers = m->weights.layers + layer;
    alone.weights.embedding = ends->weights.embedding;
    alone.weights.output = ends->weights.output;
    alone.weights.output_norm = ends->weights.output_norm;
    return alone;
}

static quern_status measure_layer(qn_quality_base *base, const quern_model *own, uint32_t layer, qn_sampled_layer *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_model mine = layer_alone(own, base->model, layer), theirs = layer_alone(base->model, base->model, layer);
    quern_engine *engine = NULL, *source = NULL;
    quern_perplexity a, b;
    quern_divergence d;
    const quern_engine_options options = {
        .n_threads = base->n_threads, .n_ctx = base->n_ctx, .kv_type = QUERN_KV_F32, .arithmetic = QUERN_ARITHMETIC_F32_ACTIVATIONS};
    const quern_measure_options measure = {.text = base->text, .len = base->text_len, .n_ctx = base->n_ctx, .max_chunks = CHUNKS};
    QN_TRY(quern_engine_create(&engine, &mine, &options, err));
    QN_TRY(quern_engine_create(&source, &theirs, &options, err));
    status = quern_measure(engine, source, &measure, &a, &b, &d, err);
    if (status == QUERN_ERROR_INVALID) { /* whose fault it is */
        base->broken = quern_measure(source, NULL, &measure, &b, NULL, NULL, err) == QUERN_ERROR_INVALID;
    }
    QN_TRY(status);
    *out = (qn_sampled_layer){.layer = layer, .kld_mean = d.kld_mean, .top1_agreement = d.top1_agreement};
done:
    quern_engine_destroy(engine);
    quern_engine_destroy(source);
    return status;
}

quern_status qn_sample_measure(qn_quality_base *base, const quern_model *own, size_t n, qn_sample *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_layers = own->config.n_layers;
    n = n < n_layers ? n : n_layers;
    n = n < QN_SAMPLE_LAYERS_MAX ? n : QN_SAMPLE_LAYERS_MAX;
    out->n = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t layer = n > 1 ? (uint32_t)(i * (n_layers - 1) / (n - 1)) : (uint32_t)(n_layers / 2);
        QN_TRY(measure_layer(base, own, layer, &out->layers[i], err));
        out->n = i + 1;
    }
done:
    return status;
}

quern_status qn_sample_judge(const qn_sample *s, quern_gate_policy policy, double bits, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    double limit = alone_factor * qn_quality_kld_limit(policy, bits);
    for (size_t i = 0; i < s->n; i++) {
        if (!(s->layers[i].kld_mean <= limit)) {
            QN_TRY(qn_findings_lossy(f, err,
                                     "layer %u by itself has a KLD of %.5f nats from the source's; the policy %s wants at most %.2f of one",
                                     (unsigned)s->layers[i].layer, s->layers[i].kld_mean, quern_gate_policy_name(policy), limit));
        }
    }
done:
    return status;
}

qn_json *qn_sample_to_json(const qn_sample *s)
{
    qn_json *list = qn_json_new_array();
    bool fits = list != NULL;
    for (size_t i = 0; i < s->n && fits; i++) {
        qn_json *v = qn_json_new_object();
        fits = qn_json_set(v, "layer", qn_json_new_int(s->layers[i].layer)) &&
               qn_json_set(v, "kld_mean", qn_json_new_real(s->layers[i].kld_mean)) &&
               qn_json_set(v, "top1_agreement", qn_json_new_real(s->layers[i].top1_agreement));
        fits = qn_json_append(list, v) && fits;
    }
    if (!fits) {
        qn_json_free(list);
    }
    return fits ? list : NULL;
}
