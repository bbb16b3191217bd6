/* graph.c - embedding, then per layer attention and a gated feed-forward block (dense or of experts), then the output head. */
#include "model/graph.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

/* ---- memory ---- */

static uint32_t form_bit(const qn_linear *l, bool f32) { return 1u << qn_form_for(&l->w, f32); }

typedef struct input_masks {
    uint32_t attn_in, attn_out, ffn_in, ffn_out, head_in;
    uint32_t expert_in, expert_mid;
} input_masks;

static uint32_t expert_bits(const qn_matrix *experts, uint32_t n, bool f32)
{
    uint32_t mask = 0;
    for (uint32_t i = 0; i < n; i++) {
        mask |= 1u << qn_form_for(&experts[i], f32);
    }
    return mask;
}

static input_masks collect_masks(const qn_model_config *c, const qn_weights *w, bool f32)
{
    input_masks m = {.head_in = form_bit(&w->output, f32)};
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const qn_layer_weights *l = &w->layers[i];
        m.attn_in |= form_bit(&l->q, f32) | form_bit(&l->k, f32) | form_bit(&l->v, f32);
        m.attn_out |= form_bit(&l->o, f32);
        if (l->expert_gate != NULL) {
            m.expert_in |= expert_bits(l->expert_gate, c->n_experts, f32) | expert_bits(l->expert_up, c->n_experts, f32);
            m.expert_mid |= expert_bits(l->expert_down, c->n_experts, f32);
            m.ffn_in |= form_bit(&l->router, f32) | m.expert_in;
        } else {
            m.ffn_in |= form_bit(&l->gate, f32) | form_bit(&l->up, f32);
            m.ffn_out |= form_bit(&l->down, f32);
        }
    }
    return m;
}

/* Walks through the buffers: with memory NULL only counts. One function, so that the plan and the layout cannot differ. */
typedef struct layout {
    char *memory;
    size_t used;
} layout;

static void *take(layout *l, size_t bytes)
{
    void *p = l->memory != NULL ? l->memory + l->used : NULL;
    l->used += qn_align_up(bytes, 64);
    return p;
}

static float *take_rows(layout *l, size_t rows, size_t cols) { return take(l, rows * cols * sizeof(float)); }

static void take_input(layout *l, qn_input *input, uint32_t mask, size_t rows, size_t cols)
{
    void *p = take(l, qn_input_bytes(mask, rows, cols));
    if (p != NULL) {
        qn_input_bind(input, mask, rows, cols, p);
    }
}

static void take_experts(layout *l, qn_graph_buffers *b, const qn_model_config *c, const input_masks *m, size_t rows)
{
    qn_expert_buffers *e = &b->experts;
    size_t slots = rows * c->n_experts_used;
    e->router = take_rows(l, rows, c->n_experts);
    e->chosen = take(l, slots * sizeof *e->chosen);
    e->weight = take_rows(l, rows, c->n_experts_used);
    e->slot = take(l, slots * sizeof *e->slot);
    e->first = take(l, (c->n_experts + 1) * sizeof *e->first);
    take_input(l, &e->in, m->expert_in, slots, c->hidden_size);
    take_input(l, &e->mid, m->expert_mid, slots, c->expert_ffn_size);
    e->gate = take_rows(l, slots, c->expert_ffn_size);
    e->up = take_rows(l, slots, c->expert_ffn_size);
    e->out = take_rows(l, slots, c->hidden_size);
}

static size_t lay_out(qn_graph_buffers *b, const qn_model_config *c, const qn_weights *w, bool f32, size_t rows, size_t logit_rows,
                      void *memory)
{
    layout l = {.memory = memory};
    input_masks m = collect_masks(c, w, f32);
    size_t q_cols = (size_t)c->n_heads * c->head_dim, kv_cols = (size_t)c->n_kv_heads * c->head_dim;
    b->x = take_rows(&l, rows, c->hidden_size);
    b->q = take_rows(&l, rows, q_cols);
    b->k = take_rows(&l, rows, kv_cols);
    b->v = take_rows(&l, rows, kv_cols);
    b->gate = take_rows(&l, rows, c->ffn_size);
    b->up = take_rows(&l, rows, c->ffn_size);
    b->cos_sin = take_rows(&l, rows, c->rope.n_rot);
    take_input(&l, &b->attn_in, m.attn_in, rows, c->hidden_size);
    take_input(&l, &b->attn_out, m.attn_out, rows, q_cols);
    take_input(&l, &b->ffn_in, m.ffn_in, rows, c->hidden_size);
    take_input(&l, &b->ffn_out, m.ffn_out, rows, c->ffn_size);
    take_input(&l, &b->head_in, m.head_in, logit_rows, c->hidden_size);
    b->kept_position = take(&l, rows * sizeof *b->kept_position);
    b->kept_view = take(&l, rows * sizeof *b->kept_view);
    if (m.expert_in != 0) {
        take_experts(&l, b, c, &m, rows);
    }
    return l.used;
}

size_t qn_graph_bytes(const qn_model_config *c, const qn_weights *w, bool f32_activations, size_t cap_rows, size_t cap_logit_rows)
{
    qn_graph_buffers unused;
    return lay_out(&unused, c, w, f32_activations, cap_rows, cap_logit_rows, NULL);
}

void qn_graph_bind(qn_graph_buffers *b, const qn_model_config *c, const qn_weights *w, bool f32_activations, size_t cap_rows,
                   size_t cap_logit_rows, void *memory)
{
    (void)lay_out(b, c, w, f32_activations, cap_rows, cap_logit_rows, memory);
}

/* ---- the pass ---- */

static qn_product product(const qn_linear *l, float *y, bool add)
{
    return (qn_product){.w = &l->w, .bias = l->bias, .y = y, .y_stride = l->w.n_rows, .add = add};
}

/* x += down(silu(gate) * up); keep: see run_layer. */
static void run_dense_block(const qn_graph *g, const qn_layer_weights *w, size_t n_rows, bool keep, qn_member m)
{
    qn_graph_buffers b = g->buffers;
    const qn_product gate_up[2] = {product(&w->gate, b.gate, false), product(&w->up, b.up, false)};
    g->backend->multiply(g->backend, m, &b.ffn_in, n_rows, gate_up, 2);
    g->backend->gate_input(g->backend, m, b.gate, b.up, n_rows, &b.ffn_out);
    const qn_product down = product(&w->down, b.x, keep);
    g->backend->multiply(g->backend, m, &b.ffn_out, n_rows, &down, 1);
}

static void run_expert_block(const qn_graph *g, const qn_layer_weights *w, size_t n_rows, bool keep, qn_member m)
{
    const qn_model_config *c = g->config;
    qn_graph_buffers b = g->buffers;
    const qn_experts experts = {.n_experts = c->n_experts,
                                .n_used = c->n_experts_used,
                                .normalize = c->norm_topk_prob,
                                .gate = w->expert_gate,
                                .up = w->expert_up,
                                .down = w->expert_down};
    const qn_product router = product(&w->router, b.experts.router, false);
    g->backend->multiply(g->backend, m, &b.ffn_in, n_rows, &router, 1);
    g->backend->mix_experts(g->backend, m, &experts, &b.ffn_in, n_rows, &b.experts, b.x, keep);
}

/* True if the last layer keeps only rows that logits are wanted of. They stand at the front of x from there on. */
static bool keeps_few(const qn_graph *g, const qn_graph_step *s) { return s->n_logit_rows < s->n_rows && !g->all_rows; }

/* Moves chosen rows to the front. A member moves its own columns, first rows first, so that nothing is overwritten that is still to be read. */
static void keep_rows(float *x, size_t n_cols, const size_t *chosen, size_t n, qn_member m)
{
    size_t begin, end;
    qn_member_span(m, n_cols, 16, &begin, &end);
    for (size_t i = 0; i < n; i++) {
        if (chosen[i] != i) {
            memcpy(x + i * n_cols + begin, x + chosen[i] * n_cols + begin, (end - begin) * sizeof *x);
        }
    }
}

/* The last layer up to the queries: keys and values of all rows, queries of those that are kept, which `rows` then has. */
static void run_few_queries(const qn_graph *g, const qn_graph_step *s, const qn_heads *heads, uint32_t layer, qn_step_rows *rows,
                            qn_member m)
{
    const qn_model_config *c = g->config;
    const qn_layer_weights *w = &g->weights->layers[layer];
    qn_graph_buffers b = g->buffers;
    qn_backend *be = g->backend;
    qn_heads keys = *heads, queries = *heads;
    keys.n_heads = queries.n_kv_heads = 0;
    const qn_product kv[2] = {product(&w->k, b.k, false), product(&w->v, b.v, false)}, q = product(&w->q, b.q, false);
    be->multiply(be, m, &b.attn_in, s->n_rows, kv, 2);
    be->rope_store(be, m, &keys, rows, c->layers[layer].rope, b.q, b.k, b.v);
    keep_rows(b.x, c->hidden_size, s->logit_rows, s->n_logit_rows, m);
    keep_rows(b.cos_sin, c->rope.n_rot, s->logit_rows, s->n_logit_rows, m);
    size_t begin, end;
    qn_member_span(m, s->n_logit_rows, 1, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        b.kept_position[i] = s->position[s->logit_rows[i]];
        b.kept_view[i] = s->view[layer][s->logit_rows[i]];
    }
    qn_member_barrier(m);
    rows->n_rows = s->n_logit_rows;
    rows->position = b.kept_position;
    rows->view = b.kept_view;
    if (rows->n_rows > 0) {
        be->norm_input(be, m, b.x, c->hidden_size, w->attn_norm, heads->eps, rows->n_rows, &b.attn_in);
        be->multiply(be, m, &b.attn_in, rows->n_rows, &q, 1);
        be->rope_store(be, m, &queries, rows, c->layers[layer].rope, b.q, b.k, b.v);
    }
}

static void run_layer(const qn_graph *g, const qn_graph_step *s, uint32_t layer, qn_member m)
{
    const qn_model_config *c = g->config;
    const qn_layer_weights *w = &g->weights->layers[layer];
    const qn_layer_config *lc = &c->layers[layer];
    qn_graph_buffers b = g->buffers;
    qn_backend *be = g->backend;
    float eps = (float)c->rms_eps;
    const qn_heads heads = {.n_heads = c->n_heads,
                            .n_kv_heads = c->n_kv_heads,
                            .head_dim = c->head_dim,
                            .n_rot = c->rope.n_rot,
                            .interleaved = c->rope.interleaved,
                            .q_norm = w->q_norm,
                            .k_norm = w->k_norm,
                            .eps = eps,
                            .window = lc->window,
                            .scale = 1.0f / sqrtf((float)c->head_dim)};
    qn_step_rows rows = {.n_rows = s->n_rows, .position = s->position, .view = s->view[layer], .cos_sin = b.cos_sin};

    be->norm_input(be, m, b.x, c->hidden_size, w->attn_norm, eps, s->n_rows, &b.attn_in);
    if (layer + 1 == c->n_layers && keeps_few(g, s)) {
        run_few_queries(g, s, &heads, layer, &rows, m);
        if (rows.n_rows == 0) {
            return;
        }
    } else {
        const qn_product qkv[3] = {product(&w->q, b.q, false), product(&w->k, b.k, false), product(&w->v, b.v, false)};
        be->multiply(be, m, &b.attn_in, s->n_rows, qkv, 3);
        be->rope_store(be, m, &heads, &rows, lc->rope, b.q, b.k, b.v);
    }
    be->attend(be, m, &heads, &rows, b.q, &b.attn_out);
    const bool keep = g->comm->rank == 0; /* one rank carries the residual into the sum over ranks */
    const qn_product out = product(&w->o, b.x, keep);
    be->multiply(be, m, &b.attn_out, rows.n_rows, &out, 1);
    g->comm->all_reduce_sum(g->comm, m, b.x, rows.n_rows * c->hidden_size);

    be->norm_input(be, m, b.x, c->hidden_size, w->ffn_norm, eps, rows.n_rows, &b.ffn_in);
    if (w->expert_gate != NULL) {
        run_expert_block(g, w, rows.n_rows, keep, m);
    } else {
        run_dense_block(g, w, rows.n_rows, keep, m);
    }
    g->comm->all_reduce_sum(g->comm, m, b.x, rows.n_rows * c->hidden_size);
}

/* Logits of chosen rows, as many at a time as the head's input holds of those that lie beside each other, and whose logits do. */
static void run_head(const qn_graph *g, const qn_graph_step *s, qn_member m)
{
    const qn_model_config *c = g->config;
    qn_graph_buffers b = g->buffers;
    qn_backend *be = g->backend;
    const bool few = keeps_few(g, s);
    for (size_t done = 0; done < s->n_logit_rows;) {
        size_t most = b.head_in.cap_rows, n = 1;
        const size_t *row = s->logit_rows + done, first = few ? done : row[0];
        while (done + n < s->n_logit_rows && n < most && (few || row[n] == row[0] + n) &&
               s->logits[done + n] == s->logits[done] + n * c->n_vocab) {
            n++;
        }
        be->norm_input(be, m, b.x + first * c->hidden_size, c->hidden_size, g->weights->output_norm, (float)c->rms_eps, n, &b.head_in);
        const qn_product head = product(&g->weights->output, s->logits[done], false);
        be->multiply(be, m, &b.head_in, n, &head, 1);
        done += n;
    }
}

void qn_graph_run(const qn_graph *g, const qn_graph_step *s, qn_member m)
{
    size_t row0, row1;
    qn_member_span(m, s->n_rows, 1, &row0, &row1);
    for (size_t r = row0; r < row1; r++) {
        qn_rope_fill(g->rope, s->position[r], g->buffers.cos_sin + r * g->rope->n_rot);
    }
    g->backend->embed(g->backend, m, &g->weights->embedding, s->ids, s->n_rows, g->buffers.x);
    for (uint32_t layer = 0; layer < g->config->n_layers; layer++) {
        run_layer(g, s, layer, m);
    }
    run_head(g, s, m);
}
