/* sample.c - see sample.h. A layer by itself is a shallow copy of its model with one layer, whose embedding is the hidden states before it: token i is
 * row i. */
#include "gate/sample.h"

#include <math.h>
#include <string.h>

#include "backend/cpu_int.h"
#include "engine/engine_int.h"

enum { CHUNKS = 4, STATES_BYTES_MAX = 64 << 20 };

/* Multiply-adds times two, about, for the source's pass: large models get fewer chunks. */
static const double operations_max = 2e13;

typedef struct sampler {
    qn_quality_base *base;
    size_t n_rows, n_ctx, hidden;
    float *before, *source, *own; /* (n_rows, hidden): hidden states before the layer, and behind it */
    int32_t *rows;                /* (n_ctx) */
} sampler;

/* ---- one layer ---- */

static quern_model layer_alone(const sampler *s, const quern_model *m, uint32_t layer)
{
    quern_model alone = *m;
    alone.config.n_layers = 1;
    alone.config.layers = m->config.layers + layer;
    alone.config.n_vocab = (uint32_t)s->n_rows;
    alone.weights.layers = m->weights.layers + layer;
    alone.weights.embedding = (qn_matrix){.dtype = QN_DTYPE_F32,
                                          .data = (const uint8_t *)s->before,
                                          .row_bytes = s->hidden * sizeof(float),
                                          .n_rows = s->n_rows,
                                          .n_cols = s->hidden};
    alone.weights.output = (qn_linear){.w = alone.weights.embedding}; /* never asked for */
    return alone;
}

/* out (n_rows, hidden): what the model's layer makes of the states; every chunk is a sequence of its own. */
static quern_status run_layer(sampler *s, const quern_model *m, uint32_t layer, float *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_model alone = layer_alone(s, m, layer);
    quern_engine *e = NULL;
    quern_sequence *sequence = NULL;
    const quern_engine_options options = qn_quality_engine_options(s->base, s->n_ctx);
    QN_TRY(quern_engine_create(&e, &alone, &options, err));
    e->graph.all_rows = true;
    QN_TRY(quern_sequence_create(&sequence, e, err));
    for (size_t chunk = 0; chunk < s->n_rows; chunk += s->n_ctx) {
        QN_TRY(quern_sequence_truncate(sequence, 0, err));
        for (size_t at = 0; at < s->n_ctx;) {
            size_t n = s->n_ctx - at < e->info.n_batch ? s->n_ctx - at : e->info.n_batch;
            for (size_t i = 0; i < n; i++) {
                s->rows[i] = (int32_t)(chunk + at + i);
            }
            const quern_step_item item = {.sequence = sequence, .ids = s->rows, .n_ids = n};
            QN_TRY(quern_engine_step(e, &item, 1, err));
            memcpy(out + (chunk + at) * s->hidden, e->graph.buffers.x, n * s->hidden * sizeof *out);
            at += n;
        }
    }
done:
    quern_sequence_destroy(sequence);
    quern_engine_destroy(e);
    return status;
}

/* |a - b|^2; with b NULL |a|^2 */
static double squared_distance(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (b != NULL ? (double)b[i] : 0);
        sum += d * d;
    }
    return sum;
}

static quern_status compare_layer(sampler *s, const quern_model *own, uint32_t layer, qn_sampled_layer *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n = s->n_rows * s->hidden;
    QN_TRY(run_layer(s, own, layer, s->own, err));
    double error = squared_distance(s->own, s->source, n), size = squared_distance(s->source, NULL, n);
    double added = squared_distance(s->source, s->before, n);
    if (!isfinite(error)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: layer %u gives values that are not finite", own->info.path, (unsigned)layer);
    }
    *out = (qn_sampled_layer){
        .layer = layer, .hidden_error = size > 0 ? sqrt(error / size) : 0, .block_error = added > 0 ? sqrt(error / added) : 0};
done:
    return status;
}

/* ---- all of them ---- */

/* The embeddings of the text's first tokens, in whole chunks. */
static quern_status fill_states(sampler *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_model *m = s->base->model;
    const quern_tokenizer *t = quern_model_get_tokenizer(m);
    const quern_tokenizer_info *info = quern_tokenizer_get_info(t);
    quern_ids ids = {0};
    size_t most = STATES_BYTES_MAX / (s->hidden * sizeof(float)) / s->n_ctx;
    QN_TRY(quern_tokenizer_encode(t, s->base->text, s->base->text_len,
                                  QUERN_ENCODE_PARSE_SPECIAL | (info->add_bos ? QUERN_ENCODE_ADD_BOS : 0), &ids, err));
    double affordable = operations_max / (2.0 * (double)m->info.n_parameters) / (double)s->n_ctx;
    size_t n_chunks = ids.len / s->n_ctx < CHUNKS ? ids.len / s->n_ctx : CHUNKS; /* at least two: qn_quality_check_text */
    n_chunks = (double)n_chunks > affordable ? (size_t)affordable : n_chunks;
    n_chunks = n_chunks > most ? most : n_chunks;
    n_chunks = n_chunks > 0 ? n_chunks : 1;
    s->n_rows = n_chunks * s->n_ctx;
    s->before = qn_malloc_aligned(s->n_rows * s->hidden * sizeof(float));
    s->source = qn_malloc_aligned(s->n_rows * s->hidden * sizeof(float));
    s->own = qn_malloc_aligned(s->n_rows * s->hidden * sizeof(float));
    s->rows = qn_malloc_array(s->n_ctx, sizeof *s->rows);
    if (s->before == NULL || s->source == NULL || s->own == NULL || s->rows == NULL) {
        QN_FAIL_MEMORY(err, "hidden states", 3 * s->n_rows * s->hidden * sizeof(float));
    }
    for (size_t i = 0; i < s->n_rows; i++) {
        bool begins = i % s->n_ctx == 0 && info->add_bos && info->bos_id >= 0;
        int32_t id = begins ? info->bos_id : ids.data[i];
        if (id < 0 || (size_t)id >= m->weights.embedding.n_rows) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: token %d has no embedding", m->info.path, (int)id);
        }
        qn_cpu_decode_row(&m->weights.embedding, (size_t)id, s->before + i * s->hidden);
    }
done:
    quern_ids_deinit(&ids);
    return status;
}

quern_status qn_sample_measure(qn_quality_base *base, const quern_model *own, size_t n, qn_sample *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    sampler s = {.base = base, .n_ctx = base->n_ctx, .hidden = base->model->config.hidden_size};
    size_t n_layers = own->config.n_layers;
    n = n < n_layers ? n : n_layers;
    n = n < QN_SAMPLE_LAYERS_MAX ? n : QN_SAMPLE_LAYERS_MAX;
    out->n = 0;
    QN_TRY(fill_states(&s, err));
    out->n_tokens = s.n_rows;
    for (uint32_t layer = 0; layer < n_layers && out->n < n; layer++) {
        status = run_layer(&s, base->model, layer, s.source, err);
        if (status == QUERN_OK && !isfinite(squared_distance(s.source, NULL, s.n_rows * s.hidden))) {
            status = qn_error_set(err, QUERN_ERROR_INVALID, "%s: layer %u gives values that are not finite", base->model->info.path,
                                  (unsigned)layer);
        }
        base->broken = status == QUERN_ERROR_INVALID || status == QUERN_ERROR_UNSUPPORTED;
        QN_TRY(status);
        if (layer == (n > 1 ? out->n * (n_layers - 1) / (n - 1) : n_layers / 2)) {
            QN_TRY(compare_layer(&s, own, layer, &out->layers[out->n], err));
            out->n++;
        }
        float *done_with = s.before;
        s.before = s.source;
        s.source = done_with;
    }
done:
    qn_free_aligned(s.before);
    qn_free_aligned(s.source);
    qn_free_aligned(s.own);
    qn_free(s.rows);
    return status;
}

/* ---- judging ---- */

quern_status qn_sample_judge(const qn_sample *s, quern_gate_policy policy, double bits, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    double limit = qn_quality_block_limit(policy, bits);
    for (size_t i = 0; i < s->n; i++) {
        const qn_sampled_layer *l = &s->layers[i];
        if (!(l->block_error <= limit)) {
            QN_TRY(qn_findings_lossy(f, err,
                                     "layer %u adds to the hidden states with an error of %.1f %%; the policy %s wants at most %.0f %%",
                                     (unsigned)l->layer, 100 * l->block_error, quern_gate_policy_name(policy), 100 * limit));
        }
    }
done:
    return status;
}

qn_json *qn_sample_to_json(const qn_sample *s)
{
    qn_json *root = qn_json_new_object(), *list = qn_json_new_array();
    bool fits = root != NULL && list != NULL;
    for (size_t i = 0; i < s->n && fits; i++) {
        qn_json *v = qn_json_new_object();
        fits = qn_json_set(v, "layer", qn_json_new_int(s->layers[i].layer)) &&
               qn_json_set(v, "hidden_error", qn_json_new_real(s->layers[i].hidden_error)) &&
               qn_json_set(v, "block_error", qn_json_new_real(s->layers[i].block_error));
        fits = qn_json_append(list, v) && fits;
    }
    fits = fits && qn_json_set(root, "tokens", qn_json_new_int((int64_t)s->n_tokens));
    fits = qn_json_set(root, "layers", list) && fits;
    if (!fits) {
        qn_json_free(root);
    }
    return fits ? root : NULL;
}
