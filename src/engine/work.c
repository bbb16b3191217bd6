/* work.c - the bytes and multiply-adds that rows cannot be computed without, counted from the model's shapes; nothing is measured here. */
#include "engine/engine_int.h"
#include "kernels/matmul.h"

static void add_matrix(quern_work *w, const qn_matrix *x, uint64_t times, uint64_t n_rows)
{
    uint32_t block;
    if (x->data != NULL && n_rows > 0) {
        const size_t scales = x->scales != NULL ? x->n_cols / x->affine.group * 2 * qn_dtype_get(x->affine_dtype)->block_bytes : 0;
        const double macs = (double)times * (double)x->n_rows * (double)x->n_cols * (double)n_rows;
        w->weight_bytes += (double)times * (double)x->n_rows * (double)(x->row_bytes + scales);
        *(qn_act_kind_for(x->dtype, x->affine, &block) == QN_ACT_F32 ? &w->float_macs : &w->integer_macs) += macs;
    }
}

/* Positions that n rows behind `depth` others look on, each row's own and those before it, all rows added up; window as in qn_layer_config. */
static double count_looks(uint64_t depth, uint64_t n, uint64_t window)
{
    const uint64_t growing = window == 0 || depth + n < window ? n : window > depth ? window - depth : 0;
    return (double)growing * ((double)depth + (double)(growing + 1) / 2) + (double)(n - growing) * (double)window;
}

/* Positions that any of them looks on. */
static uint64_t count_positions(uint64_t depth, uint64_t n, uint64_t window)
{
    return window == 0 || depth + 1 < window ? depth + n : window - 1 + n;
}

/* n_rows of keys and values; of all else the last n_asking of them. */
static void add_layer(quern_work *w, const quern_engine *e, uint32_t layer, uint64_t depth, uint64_t n_rows, uint64_t n_asking)
{
    const qn_model_config *c = &e->model->config;
    const qn_layer_weights *l = &e->model->weights.layers[layer];
    const uint64_t window = c->layers[layer].window, before = depth + n_rows - n_asking;
    const qn_matrix *const of_asking[] = {&l->q.w, &l->o.w, &l->gate.w, &l->up.w, &l->down.w, &l->router.w};
    const qn_matrix *const experts[] = {l->expert_gate, l->expert_up, l->expert_down};
    add_matrix(w, &l->k.w, 1, n_rows);
    add_matrix(w, &l->v.w, 1, n_rows);
    for (size_t i = 0; i < sizeof of_asking / sizeof of_asking[0]; i++) {
        add_matrix(w, of_asking[i], 1, n_asking);
    }
    for (size_t i = 0; l->expert_gate != NULL && i < sizeof experts / sizeof experts[0]; i++) {
        add_matrix(w, experts[i], c->n_experts_used, n_asking);
    }
    if (n_asking > 0) {
        w->kv_bytes += (double)count_positions(before, n_asking, window) * (double)(e->info.plan.kv_per_token / c->n_layers);
        w->attention_macs += count_looks(before, n_asking, window) * 2 * (double)c->n_heads * (double)c->head_dim;
    }
}

quern_work quern_engine_get_work(const quern_engine *e, uint64_t depth, uint64_t n_rows, uint64_t n_logits)
{
    quern_work w = {0};
    const uint32_t n_layers = e->model->config.n_layers;
    const uint64_t n_last = n_logits < n_rows ? n_logits : n_rows;
    for (uint32_t i = 0; n_rows > 0 && i < n_layers; i++) {
        add_layer(&w, e, i, depth, n_rows, i + 1 < n_layers ? n_rows : n_last);
    }
    add_matrix(&w, &e->model->weights.output.w, 1, n_last);
    return w;
}

quern_work quern_engine_get_decode_work(const quern_engine *e, uint64_t depth, uint64_t n_tokens)
{
    enum { SAMPLES_MAX = 256 }; /* exact up to so many; of more within half a position, where windows do not fill meanwhile */
    const uint64_t n = n_tokens < SAMPLES_MAX ? n_tokens : SAMPLES_MAX;
    quern_work average = quern_engine_get_work(e, depth, 1, 1);
    double kv = 0, attention = 0;
    for (uint64_t i = 0; i < n; i++) {
        const quern_work w = quern_engine_get_work(e, depth + (n > 1 ? i * (n_tokens - 1) / (n - 1) : 0), 1, 1);
        kv += w.kv_bytes / (double)n;
        attention += w.attention_macs / (double)n;
    }
    average.kv_bytes = n > 0 ? kv : 0;
    average.attention_macs = n > 0 ? attention : 0;
    return average;
}
