/* plain_model.c - see plain_model.h. */
#include "gate/plain_model.h"

#include <string.h>

#include "backend/cpu_int.h"
#include "gate/plain_encoder.h"
#include "quant/codec.h"

typedef struct builder {
    qn_plain_model *out;
    const quern_model *source, *own;
    qn_pool *pool;
    float *free; /* values not yet given away */
    float *rows; /* (n_threads, widest) */
    size_t widest, n_experts;
    /* the matrix under way */
    const qn_matrix *from, *type;
    float *to;
} builder;

static uint64_t elements(const qn_matrix *w) { return (uint64_t)w->n_rows * w->n_cols; }

static bool is_tied(const quern_model *m) { return m->weights.output.w.data == m->weights.embedding.data; }

typedef void visit_fn(void *user, const qn_matrix *own, const qn_matrix *source, qn_matrix *to);

/* Every matrix of the layers, with its partner in the source and its place in the copy (both NULL where only sizes are wanted). */
static void visit_layer(const qn_layer_weights *own, const qn_layer_weights *source, qn_layer_weights *to, size_t n_experts,
                        visit_fn *visit, void *user)
{
    const size_t linears[] = {offsetof(qn_layer_weights, q),    offsetof(qn_layer_weights, k),     offsetof(qn_layer_weights, v),
                              offsetof(qn_layer_weights, o),    offsetof(qn_layer_weights, gate),  offsetof(qn_layer_weights, up),
                              offsetof(qn_layer_weights, down), offsetof(qn_layer_weights, router)};
    const size_t experts[] = {offsetof(qn_layer_weights, expert_gate), offsetof(qn_layer_weights, expert_up),
                              offsetof(qn_layer_weights, expert_down)};
    for (size_t i = 0; i < sizeof linears / sizeof linears[0]; i++) {
        const qn_linear *mine = (const void *)((const char *)own + linears[i]);
        const qn_linear *theirs = source != NULL ? (const void *)((const char *)source + linears[i]) : NULL;
        qn_linear *place = to != NULL ? (void *)((char *)to + linears[i]) : NULL;
        if (mine->w.data != NULL) {
            visit(user, &mine->w, theirs != NULL ? &theirs->w : NULL, place != NULL ? &place->w : NULL);
        }
    }
    for (size_t i = 0; own->expert_gate != NULL && i < sizeof experts / sizeof experts[0]; i++) {
        const qn_matrix *mine = *(const qn_matrix *const *)(const void *)((const char *)own + experts[i]);
        const qn_matrix *theirs = source != NULL ? *(const qn_matrix *const *)(const void *)((const char *)source + experts[i]) : NULL;
        qn_matrix *place = to != NULL ? *(qn_matrix **)(void *)((char *)to + experts[i]) : NULL;
        for (size_t e = 0; e < n_experts; e++) {
            visit(user, &mine[e], theirs != NULL ? &theirs[e] : NULL, place != NULL ? &place[e] : NULL);
        }
    }
}

static void count(void *user, const qn_matrix *own, const qn_matrix *source, qn_matrix *to)
{
    (void)source;
    (void)to;
    *(uint64_t *)user += elements(own);
}

uint64_t qn_plain_model_bytes(const quern_model *own)
{
    uint64_t n = elements(&own->weights.embedding) + (is_tied(own) ? 0 : elements(&own->weights.output.w));
    for (uint32_t i = 0; i < own->config.n_layers; i++) {
        visit_layer(&own->weights.layers[i], NULL, NULL, own->config.n_experts, count, &n);
    }
    return n * sizeof(float);
}

/* The values that plain encoding in the type of `t` gives a row. */
static void encode_plainly(const qn_matrix *t, float *x, float *y)
{
    if (t->dtype == QN_DTYPE_MLX_AFFINE) {
        qn_plain_affine(t->affine, t->affine_dtype, x, y, t->n_cols);
    } else if (qn_dtype_get(t->dtype)->block_size > 1) {
        qn_plain_blocks(t->dtype, x, y, t->n_cols);
    } else { /* rounded; a type that is only read (float8) is taken as it is */
        memcpy(y, x, t->n_cols * sizeof *y);
        if (t->dtype == QN_DTYPE_F16 || t->dtype == QN_DTYPE_BF16) {
            qn_encode_row(t->dtype, y, (uint8_t *)x, t->n_cols, NULL);
            qn_decode_row(t->dtype, (const uint8_t *)x, y, t->n_cols);
        }
    }
}

static void encode_rows(void *user, qn_member m)
{
    const builder *b = user;
    float *row = b->rows + m.index * b->widest;
    size_t begin, end;
    qn_member_span(m, b->from->n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        qn_cpu_decode_row(b->from, r, row);
        encode_plainly(b->type, row, b->to + r * b->from->n_cols);
    }
}

static void encode_matrix(void *user, const qn_matrix *own, const qn_matrix *source, qn_matrix *to)
{
    builder *b = user;
    b->from = source;
    b->type = own;
    b->to = b->free;
    b->free += elements(source);
    *to = (qn_matrix){.dtype = QN_DTYPE_F32,
                      .data = (const uint8_t *)b->to,
                      .row_bytes = source->n_cols * sizeof(float),
                      .n_rows = source->n_rows,
                      .n_cols = source->n_cols};
    qn_pool_run(b->pool, encode_rows, b);
}

static quern_status allocate(builder *b, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &b->source->config;
    size_t n_threads = qn_pool_n_threads(b->pool), n_matrices = 3 * (size_t)c->n_layers * c->n_experts;
    uint64_t bytes = qn_plain_model_bytes(b->own);
    b->widest = b->source->weights.embedding.n_cols;
    for (uint32_t i = 0; i < c->n_layers; i++) {
        const qn_layer_weights *l = &b->source->weights.layers[i];
        const size_t widths[] = {l->o.w.n_cols, l->down.w.n_cols, l->expert_down != NULL ? l->expert_down[0].n_cols : 0};
        for (size_t k = 0; k < sizeof widths / sizeof widths[0]; k++) {
            b->widest = widths[k] > b->widest ? widths[k] : b->widest;
        }
    }
    b->out->values = bytes <= SIZE_MAX ? qn_malloc_aligned((size_t)bytes) : NULL;
    b->out->layers = qn_malloc_array(c->n_layers, sizeof *b->out->layers);
    b->out->experts = qn_malloc_array(n_matrices, sizeof *b->out->experts);
    b->rows = qn_malloc_array(n_threads * b->widest, sizeof *b->rows);
    if (b->out->values == NULL || b->out->layers == NULL || b->out->experts == NULL || b->rows == NULL) {
        QN_FAIL_MEMORY(err, "the plainly encoded model", (size_t)bytes);
    }
    b->free = b->out->values;
done:
    return status;
}

/* The experts' descriptions are shared by models; a copy has its own. */
static void own_experts(builder *b, qn_layer_weights *l)
{
    const qn_matrix **const places[] = {&l->expert_gate, &l->expert_up, &l->expert_down};
    size_t n = b->source->config.n_experts;
    for (size_t i = 0; l->expert_gate != NULL && i < 3; i++) {
        qn_matrix *copy = b->out->experts + b->n_experts;
        memcpy(copy, *places[i], n * sizeof *copy);
        *places[i] = copy;
        b->n_experts += n;
    }
}

quern_status qn_plain_model_make(qn_plain_model *out, const quern_model *source, const quern_model *own, size_t n_threads, quern_error *err)
{
    quern_status status = QUERN_OK;
    builder b = {.out = out, .source = source, .own = own};
    *out = (qn_plain_model){.model = *source};
    QN_TRY(qn_pool_create(&b.pool, n_threads, err));
    QN_TRY(allocate(&b, err));
    memcpy(out->layers, source->weights.layers, source->config.n_layers * sizeof *out->layers);
    out->model.weights.layers = out->layers;
    encode_matrix(&b, &own->weights.embedding, &source->weights.embedding, &out->model.weights.embedding);
    if (is_tied(own)) {
        out->model.weights.output.w = out->model.weights.embedding;
    } else {
        encode_matrix(&b, &own->weights.output.w, &source->weights.output.w, &out->model.weights.output.w);
    }
    for (uint32_t i = 0; i < source->config.n_layers; i++) {
        own_experts(&b, &out->layers[i]);
        visit_layer(&own->weights.layers[i], &source->weights.layers[i], &out->layers[i], source->config.n_experts, encode_matrix, &b);
    }
done:
    qn_free(b.rows);
    qn_pool_destroy(b.pool);
    return status;
}

void qn_plain_model_free(qn_plain_model *m)
{
    qn_free_aligned(m->values);
    qn_free(m->layers);
    qn_free(m->experts);
    *m = (qn_plain_model){0};
}
