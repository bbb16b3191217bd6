/* suspects.c - see suspects.h. A model with source tensors put back is a shallow copy whose weights point into both mappings. */
#include "gate/suspects.h"

#include <string.h>

#include "base/alloc.h"
#include "engine/engine_int.h"

enum { LAYERS_MAX = 24, CHUNKS = 3 };

static const double share_min = 0.1;

typedef struct trial {
    qn_quality_base *base;
    const quern_model *own;
    quern_model mixed; /* own with source tensors in places */
    qn_layer_weights *layers;
    double whole; /* divergence of own */
    quern_error *err;
} trial;

/* Rows of q and k lie in another order where one of the two rotates neighbours: they cannot be exchanged. */
static bool can_swap(const trial *t, qn_place place)
{
    bool same_order = t->own->config.rope.interleaved == t->base->model->config.rope.interleaved;
    return same_order || (place != QN_PLACE_Q && place != QN_PLACE_K);
}

static void swap_in(trial *t, qn_place place, uint32_t layer)
{
    const qn_layer_weights *from = &t->base->model->weights.layers[layer];
    qn_layer_weights *to = &t->layers[layer];
    if (!can_swap(t, place)) {
        return;
    }
    switch (place) {
    case QN_PLACE_Q: to->q = from->q; break;
    case QN_PLACE_K: to->k = from->k; break;
    case QN_PLACE_V: to->v = from->v; break;
    case QN_PLACE_O: to->o = from->o; break;
    case QN_PLACE_GATE: to->gate = from->gate; break;
    case QN_PLACE_UP: to->up = from->up; break;
    case QN_PLACE_DOWN: to->down = from->down; break;
    case QN_PLACE_EXPERTS:
        to->expert_gate = from->expert_gate;
        to->expert_up = from->expert_up;
        to->expert_down = from->expert_down;
        break;
    case QN_PLACE_EMBEDDING:
        t->mixed.weights.embedding = t->base->model->weights.embedding;
        t->mixed.weights.output = t->base->model->weights.output;
        break;
    case QN_PLACE_COUNT: break;
    }
}

static void restore(trial *t)
{
    t->mixed.weights = t->own->weights;
    t->mixed.weights.layers = t->layers;
    memcpy(t->layers, t->own->weights.layers, t->own->config.n_layers * sizeof *t->layers);
}

static quern_status divergence_of(trial *t, double *out)
{
    quern_status status = QUERN_OK;
    quern_engine *engine = NULL;
    quern_perplexity mine, theirs;
    quern_divergence d;
    const quern_engine_options options = qn_quality_engine_options(t->base, t->base->n_ctx);
    const quern_measure_options measure = {.text = t->base->text, .len = t->base->text_len, .n_ctx = t->base->n_ctx, .max_chunks = CHUNKS};
    QN_TRY(quern_engine_create(&engine, &t->mixed, &options, t->err));
    QN_TRY(quern_measure(engine, t->base->engine, &measure, &mine, &theirs, &d, t->err));
    *out = d.kld_mean;
done:
    quern_engine_destroy(engine);
    return status;
}

/* The share of the divergence that goes with the given places of a layer: one, or all (QN_PLACE_COUNT). */
static quern_status share_of(trial *t, qn_place place, uint32_t layer, double *share)
{
    quern_status status = QUERN_OK;
    double left = 0;
    for (int p = 0; p < QN_PLACE_EMBEDDING; p++) {
        if (place == QN_PLACE_COUNT || p == (int)place) {
            swap_in(t, (qn_place)p, layer);
        }
    }
    if (place == QN_PLACE_EMBEDDING) {
        swap_in(t, place, 0);
    }
    status = divergence_of(t, &left);
    *share = t->whole > 0 ? (t->whole - left) / t->whole : 0;
    restore(t);
    return status;
}

static void insert(qn_suspect out[QN_SUSPECTS_MAX], size_t *n, qn_suspect s)
{
    size_t at = *n;
    if (s.share < share_min) {
        return;
    }
    while (at > 0 && out[at - 1].share < s.share) {
        at--;
    }
    for (size_t i = *n < QN_SUSPECTS_MAX ? (*n)++ : QN_SUSPECTS_MAX - 1; i > at; i--) {
        out[i] = out[i - 1];
    }
    if (at < QN_SUSPECTS_MAX) {
        out[at] = s;
    }
}

static quern_status search(trial *t, qn_suspect out[QN_SUSPECTS_MAX], size_t *n)
{
    quern_status status = QUERN_OK;
    uint32_t n_layers = t->own->config.n_layers, n_looked = n_layers < LAYERS_MAX ? n_layers : LAYERS_MAX, worst = 0;
    double share, most = -1;
    QN_TRY(divergence_of(t, &t->whole));
    QN_TRY(share_of(t, QN_PLACE_EMBEDDING, 0, &share));
    insert(out, n, (qn_suspect){.place = QN_PLACE_EMBEDDING, .share = share});
    for (uint32_t i = 0; i < n_looked; i++) {
        uint32_t layer = (uint32_t)((uint64_t)i * n_layers / n_looked);
        QN_TRY(share_of(t, QN_PLACE_COUNT, layer, &share));
        worst = share > most ? layer : worst;
        most = share > most ? share : most;
    }
    for (int p = 0; p < QN_PLACE_EMBEDDING; p++) {
        bool experts = t->own->config.layers[worst].experts;
        bool there = p == QN_PLACE_EXPERTS ? experts : p < QN_PLACE_GATE || !experts;
        if (there && can_swap(t, (qn_place)p)) {
            QN_TRY(share_of(t, (qn_place)p, worst, &share));
            insert(out, n, (qn_suspect){.place = (qn_place)p, .layer = worst, .share = share});
        }
    }
done:
    return status;
}

quern_status qn_suspects_find(qn_quality_base *base, const quern_model *own, qn_suspect out[QN_SUSPECTS_MAX], size_t *n, quern_error *err)
{
    quern_status status = QUERN_OK;
    trial t = {.base = base, .own = own, .mixed = *own, .err = err};
    *n = 0;
    t.layers = qn_malloc_array(own->config.n_layers, sizeof *t.layers);
    if (t.layers == NULL) {
        QN_FAIL_MEMORY(err, "weights of a mixed model", own->config.n_layers * sizeof *t.layers);
    }
    restore(&t);
    QN_TRY(search(&t, out, n));
done:
    qn_free(t.layers);
    return status;
}
