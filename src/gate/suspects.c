/* suspects.c - see suspects.h. A model with source tensors put back is a shallow copy whose weights point into both mappings. */
#include "gate/suspects.h"

#include <string.h>

#include "backend/cpu_int.h"
#include "base/alloc.h"
#include "engine/engine_int.h"
#include "quern/machine.h"

/* The whole, the embedding, the head, 24 layers, and the matrices of two of them. */
enum { LAYERS_MAX = 24, RUNS_MAX = 41, CHUNKS = 3 };

static const double share_min = 0.1;

typedef struct trial {
    qn_quality_base *base;
    const quern_model *own;
    quern_model mixed; /* own with source tensors in places */
    qn_layer_weights *layers;
    float *reordered[QN_PLACE_K + 1]; /* values of the source's q and k of one layer, rows as own has them */
    double whole;                     /* divergence of own */
    uint64_t reordered_max;           /* bytes they may take together */
    size_t n_runs;
    quern_error *err;
} trial;

/* ---- places ---- */

static qn_linear *linear_at(qn_layer_weights *l, qn_place place)
{
    switch (place) {
    case QN_PLACE_Q: return &l->q;
    case QN_PLACE_K: return &l->k;
    case QN_PLACE_V: return &l->v;
    case QN_PLACE_O: return &l->o;
    case QN_PLACE_GATE: return &l->gate;
    case QN_PLACE_UP: return &l->up;
    case QN_PLACE_DOWN: return &l->down;
    case QN_PLACE_ROUTER: return &l->router;
    default: return NULL;
    }
}

static const qn_matrix **experts_at(qn_layer_weights *l, qn_place place)
{
    switch (place) {
    case QN_PLACE_EXPERT_GATE: return &l->expert_gate;
    case QN_PLACE_EXPERT_UP: return &l->expert_up;
    case QN_PLACE_EXPERT_DOWN: return &l->expert_down;
    default: return NULL;
    }
}

/* The first matrix of a place, or NULL where the model has none there. */
static const qn_matrix *matrix_at(const quern_model *m, qn_place place, uint32_t layer)
{
    const qn_matrix *w = NULL;
    if (place == QN_PLACE_EMBEDDING) {
        w = &m->weights.embedding;
    } else if (place == QN_PLACE_HEAD) {
        w = m->weights.output.w.data != m->weights.embedding.data ? &m->weights.output.w : NULL;
    } else {
        qn_layer_weights *l = &m->weights.layers[layer];
        const qn_linear *linear = linear_at(l, place);
        w = linear != NULL ? &linear->w : *experts_at(l, place);
    }
    return w != NULL && w->data != NULL ? w : NULL;
}

/* The rows of q and k lie in another order where only one of the two models rotates neighbours. */
static bool is_reordered(const trial *t, qn_place place)
{
    return t->own->config.rope.interleaved != t->base->model->config.rope.interleaved && (place == QN_PLACE_Q || place == QN_PLACE_K);
}

/* The copies of a layer's q and k are there at once where all of the layer is put back. */
static bool has_room(const trial *t, uint32_t layer)
{
    const qn_layer_weights *l = &t->own->weights.layers[layer];
    uint64_t q = (uint64_t)l->q.w.n_rows * l->q.w.n_cols, k = (uint64_t)l->k.w.n_rows * l->k.w.n_cols;
    return (q + k) * sizeof(float) <= t->reordered_max;
}

/* Whether a matrix of the output has its like in the source, and may have lost something that the source's would bring back. */
static bool may_have_lost(const trial *t, qn_place place, uint32_t layer)
{
    const qn_matrix *own = matrix_at(t->own, place, layer), *source = NULL;
    if (own == NULL) {
        return false;
    }
    /* the source's head may be its embedding where the output has a copy of that */
    source = place == QN_PLACE_HEAD ? &t->base->model->weights.output.w : matrix_at(t->base->model, place, layer);
    if (source == NULL || source->n_rows != own->n_rows || source->n_cols != own->n_cols ||
        (is_reordered(t, place) && t->own->config.head_dim % 2 != 0)) {
        return false;
    }
    return own->dtype != QN_DTYPE_F32 && (own->dtype != source->dtype || (own->dtype != QN_DTYPE_F16 && own->dtype != QN_DTYPE_BF16));
}

static bool can_swap(const trial *t, qn_place place, uint32_t layer)
{
    return may_have_lost(t, place, layer) && (!is_reordered(t, place) || has_room(t, layer));
}

/* The row of the source that row r of the output is: its model rotates neighbours and the source halves of a head, or the other way round. */
static size_t source_row(const trial *t, size_t r)
{
    size_t dim = t->own->config.head_dim, within = r % dim;
    return r - within +
           (t->own->config.rope.interleaved ? within % 2 * (dim / 2) + within / 2 : within % (dim / 2) * 2 + within / (dim / 2));
}

static quern_status swap_reordered(trial *t, qn_place place, const qn_matrix *source, qn_matrix *to)
{
    quern_status status = QUERN_OK;
    size_t n = 0;
    float *x = qn_size_mul(source->n_rows, source->n_cols, &n) ? qn_malloc_array(n, sizeof *x) : NULL;
    if (x == NULL) {
        QN_FAIL_MEMORY(t->err, "a matrix with its rows in another order", n * sizeof *x);
    }
    for (size_t r = 0; r < source->n_rows; r++) {
        qn_cpu_decode_row(source, source_row(t, r), x + r * source->n_cols);
    }
    t->reordered[place] = x;
    *to = (qn_matrix){.dtype = QN_DTYPE_F32,
                      .data = (const uint8_t *)x,
                      .row_bytes = source->n_cols * sizeof *x,
                      .n_rows = source->n_rows,
                      .n_cols = source->n_cols};
done:
    return status;
}

/* Matrices only: biases are not quantized, and have their order with the rows. */
static quern_status swap_in(trial *t, qn_place place, uint32_t layer)
{
    quern_status status = QUERN_OK;
    const quern_model *source = t->base->model;
    qn_weights *w = &t->mixed.weights;
    if (!can_swap(t, place, layer)) {
        goto done;
    }
    if (place == QN_PLACE_EMBEDDING) {
        bool tied = t->own->weights.output.w.data == t->own->weights.embedding.data;
        w->embedding = source->weights.embedding;
        w->output.w = tied ? source->weights.output.w : w->output.w;
    } else if (place == QN_PLACE_HEAD) {
        w->output.w = source->weights.output.w;
    } else if (is_reordered(t, place)) {
        QN_TRY(swap_reordered(t, place, matrix_at(source, place, layer), &linear_at(&t->layers[layer], place)->w));
    } else if (linear_at(&t->layers[layer], place) != NULL) {
        linear_at(&t->layers[layer], place)->w = *matrix_at(source, place, layer);
    } else {
        *experts_at(&t->layers[layer], place) = matrix_at(source, place, layer);
    }
done:
    return status;
}

static void restore(trial *t)
{
    t->mixed.weights = t->own->weights;
    t->mixed.weights.layers = t->layers;
    memcpy(t->layers, t->own->weights.layers, t->own->config.n_layers * sizeof *t->layers);
    for (size_t i = 0; i <= QN_PLACE_K; i++) {
        qn_free(t->reordered[i]);
        t->reordered[i] = NULL;
    }
}

/* ---- search ---- */

static quern_status divergence_of(trial *t, double *out)
{
    quern_status status = QUERN_OK;
    quern_engine *engine = NULL;
    quern_perplexity mine, theirs;
    quern_divergence d;
    t->n_runs++;
    const quern_engine_options options = qn_quality_engine_options(t->base, t->base->n_ctx);
    const quern_measure_options measure = {.text = t->base->text, .len = t->base->text_len, .n_ctx = t->base->n_ctx, .max_chunks = CHUNKS};
    QN_TRY(quern_engine_create(&engine, &t->mixed, &options, t->err));
    QN_TRY(quern_measure(engine, t->base->engine, &measure, &mine, &theirs, &d, t->err));
    *out = d.kld_mean;
done:
    quern_engine_destroy(engine);
    return status;
}

/* The share of the divergence that goes with one place, or with all of a layer (QN_PLACE_COUNT). */
static quern_status share_of(trial *t, qn_place place, uint32_t layer, double *share)
{
    quern_status status = QUERN_OK;
    double left = 0;
    if (place != QN_PLACE_COUNT) {
        QN_TRY(swap_in(t, place, layer));
    }
    for (int p = 0; place == QN_PLACE_COUNT && p < QN_PLACE_EMBEDDING; p++) {
        QN_TRY(swap_in(t, (qn_place)p, layer));
    }
    status = divergence_of(t, &left);
    if (status == QUERN_ERROR_INVALID) { /* logits that are not finite are the mixture's: that says nothing of the output */
        *share = 0;
        status = QUERN_OK;
        goto done;
    }
    QN_TRY(status);
    *share = t->whole > 0 ? (t->whole - left) / t->whole : 0;
done:
    restore(t);
    return status;
}

/* Keeps the cap greatest of those that count, the greatest first. */
static void insert(qn_suspect *list, size_t *n, size_t cap, qn_suspect s)
{
    size_t at = *n;
    if (!(s.share >= share_min)) {
        return;
    }
    while (at > 0 && list[at - 1].share < s.share) {
        at--;
    }
    for (size_t i = *n < cap ? (*n)++ : cap - 1; i > at; i--) {
        list[i] = list[i - 1];
    }
    if (at < cap) {
        list[at] = s;
    }
}

static quern_status look_at(trial *t, qn_place place, uint32_t layer, qn_suspects *out)
{
    quern_status status = QUERN_OK;
    double share;
    if (!can_swap(t, place, layer)) {
        goto done;
    }
    if (t->n_runs >= RUNS_MAX) {
        out->n_matrices_left++;
        goto done;
    }
    QN_TRY(share_of(t, place, layer, &share));
    insert(out->items, &out->n, QN_SUSPECTS_MAX, (qn_suspect){.place = place, .layer = layer, .share = share});
done:
    return status;
}

static quern_status search(trial *t, qn_suspects *out)
{
    quern_status status = QUERN_OK;
    uint32_t n_layers = t->own->config.n_layers;
    qn_suspect layers[LAYERS_MAX];
    size_t n = 0;
    double share;
    out->n_layers_looked = n_layers < LAYERS_MAX ? n_layers : LAYERS_MAX;
    QN_TRY(divergence_of(t, &t->whole));
    QN_TRY(look_at(t, QN_PLACE_EMBEDDING, 0, out));
    QN_TRY(look_at(t, QN_PLACE_HEAD, 0, out));
    for (uint32_t i = 0; i < out->n_layers_looked; i++) {
        uint32_t layer = (uint32_t)((uint64_t)i * n_layers / out->n_layers_looked);
        for (int p = 0; p < QN_PLACE_EMBEDDING; p++) {
            out->n_matrices_unfit += may_have_lost(t, (qn_place)p, layer) && !can_swap(t, (qn_place)p, layer);
        }
        QN_TRY(share_of(t, QN_PLACE_COUNT, layer, &share));
        insert(layers, &n, LAYERS_MAX, (qn_suspect){.place = QN_PLACE_COUNT, .layer = layer, .share = share});
    }
    for (size_t i = 0; i < n; i++) {
        for (int p = 0; p < QN_PLACE_EMBEDDING; p++) {
            QN_TRY(look_at(t, (qn_place)p, layers[i].layer, out));
        }
    }
done:
    return status;
}

quern_status qn_suspects_find(qn_quality_base *base, const quern_model *own, qn_suspects *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_machine machine;
    trial t = {.base = base, .own = own, .mixed = *own, .err = err};
    *out = (qn_suspects){.n_layers = own->config.n_layers};
    if (own->config.n_layers != base->model->config.n_layers || own->config.n_experts != base->model->config.n_experts) {
        return QUERN_OK; /* another model: nothing has its like */
    }
    QN_TRY(quern_machine_detect(&machine, NULL, err));
    t.reordered_max = machine.memory_available_bytes / 2;
    if (base->memory_bytes != 0 && base->memory_bytes < t.reordered_max) {
        t.reordered_max = base->memory_bytes;
    }
    t.layers = qn_malloc_array(own->config.n_layers, sizeof *t.layers);
    if (t.layers == NULL) {
        QN_FAIL_MEMORY(err, "weights of a mixed model", own->config.n_layers * sizeof *t.layers);
    }
    restore(&t);
    QN_TRY(search(&t, out));
done:
    qn_free(t.layers);
    return status;
}
