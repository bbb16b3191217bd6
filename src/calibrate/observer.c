/* observer.c - see observer.h.
 *
 * Second moments of a step are the product of the transposed input with itself, so the matrix kernels make them: each element is one fixed
 * chain over the step's rows, whatever the instruction set, and steps are added up in order. Only columns i <= j are computed.
 */
#include "calibrate/observer.h"

#include <string.h>

/* Columns of the moments that a member computes at a time. */
enum { BAND = 64 };

static qn_observer *observer_of(qn_backend *b) { return (qn_observer *)b; }

size_t qn_observer_scratch_bytes(size_t n_cols) { return qn_align_up(n_cols * BAND * sizeof(float), 64) + QN_MATMUL_SCRATCH_BYTES; }

size_t qn_observer_transposed_bytes(size_t n_cols, size_t n_rows) { return (n_cols + 1) * qn_align_up(n_rows, 16) * sizeof(float); }

/* Columns are shared among members; a column's sum runs over the rows in order. */
static void add_squares(qn_member m, const float *x, size_t n_rows, size_t n_cols, double *sums)
{
    size_t begin, end;
    qn_member_span(m, n_cols, 16, &begin, &end);
    for (size_t r = 0; r < n_rows; r++) {
        const float *row = x + r * n_cols;
        for (size_t c = begin; c < end; c++) {
            sums[c] += (double)row[c] * (double)row[c];
        }
    }
}

static void transpose(const qn_observer *o, qn_member m, const float *x, size_t n_rows, size_t padded, size_t n_cols)
{
    size_t begin, end;
    qn_member_span(m, n_cols, 16, &begin, &end);
    for (size_t c = begin; c < end; c++) {
        float *out = o->transposed + c * padded;
        for (size_t r = 0; r < n_rows; r++) {
            out[r] = x[r * n_cols + c];
        }
        memset(out + n_rows, 0, (padded - n_rows) * sizeof *out);
    }
}

static void add_moments(qn_observer *o, qn_member m, const float *x, size_t n_rows, const qn_site_stats *s)
{
    size_t n = s->n_cols, padded = qn_align_up(n_rows, 16);
    float *products = (float *)(void *)o->scratch[m.index];
    void *kernel_scratch = o->scratch[m.index] + o->products_bytes;
    const qn_act act = {.kind = QN_ACT_F32, .n_rows = n, .n_cols = padded, .f = o->transposed, .f_stride = padded};
    transpose(o, m, x, n_rows, padded, n);
    qn_member_barrier(m);
    for (size_t band = m.index * BAND; band < n; band += m.n_threads * BAND) {
        size_t width = n - band < BAND ? n - band : BAND;
        const qn_matrix w = {.dtype = QN_DTYPE_F32,
                             .data = (const uint8_t *)(o->transposed + band * padded),
                             .row_bytes = padded * sizeof(float),
                             .n_rows = width,
                             .n_cols = padded};
        /* y (band + width, BAND): element (i, j - band) = sum over rows of x_i x_j */
        qn_matmul(o->isa, &w, 0, width, &act, 0, band + width, products, BAND, kernel_scratch);
        for (size_t j = 0; j < width; j++) {
            float *row = s->moments + (band + j) * n;
            for (size_t i = 0; i <= band + j; i++) {
                row[i] += products[i * BAND + j];
            }
        }
    }
}

static void observe(qn_observer *o, qn_member m, const float *x, size_t n_rows, const qn_site_stats *s, size_t part)
{
    if (s == NULL || s->n_cols == 0 || n_rows == 0) {
        return;
    }
    add_squares(m, x, n_rows, s->n_cols, s->square_sums + part * s->n_cols);
    if (m.index == 0) {
        s->n_rows[part] += n_rows;
    }
    if (s->moments != NULL) {
        add_moments(o, m, x, n_rows, s);
        qn_member_barrier(m);
    }
}

/* The site that a matrix reads; NULL for none. */
static const qn_site_stats *site_of(const qn_observer *o, const qn_matrix *w)
{
    for (uint32_t i = 0; i < o->stats->n_layers; i++) {
        const qn_layer_weights *l = &o->weights->layers[i];
        const struct {
            const void *matrix;
            qn_site site;
        } places[] = {{&l->q.w, QN_SITE_ATTN_IN},     {&l->o.w, QN_SITE_ATTN_OUT},   {&l->gate.w, QN_SITE_FFN_IN},
                      {&l->router.w, QN_SITE_FFN_IN}, {&l->down.w, QN_SITE_FFN_OUT}, {l->expert_gate, QN_SITE_EXPERT_IN}};
        for (size_t k = 0; k < sizeof places / sizeof places[0]; k++) {
            if (places[k].matrix == w) {
                return qn_statistics_get(o->stats, i, places[k].site);
            }
        }
    }
    return NULL;
}

static void observed_run(qn_backend *b, qn_pool_fn fn, void *arg) { observer_of(b)->inner->run(observer_of(b)->inner, fn, arg); }

static void observed_embed(qn_backend *b, qn_member m, const qn_matrix *e, const int32_t *ids, size_t n_rows, float *out)
{
    observer_of(b)->inner->embed(observer_of(b)->inner, m, e, ids, n_rows, out);
}

static void observed_norm_input(qn_backend *b, qn_member m, const float *x, size_t x_stride, const float *weight, float eps, size_t n_rows,
                                qn_input *input)
{
    observer_of(b)->inner->norm_input(observer_of(b)->inner, m, x, x_stride, weight, eps, n_rows, input);
}

static void observed_multiply(qn_backend *b, qn_member m, const qn_input *input, size_t n_rows, const qn_product *products,
                              size_t n_products)
{
    qn_observer *o = observer_of(b);
    if (products[0].w == &o->weights->output.w) {
        observe(o, m, input->f, n_rows, qn_statistics_get(o->stats, 0, QN_SITE_HEAD), 0);
        qn_member_barrier(m);
        return;
    }
    observe(o, m, input->f, n_rows, site_of(o, products[0].w), 0);
    o->inner->multiply(o->inner, m, input, n_rows, products, n_products); /* ends in a barrier */
}

static void observed_rope_store(qn_backend *b, qn_member m, const qn_heads *h, const qn_step_rows *rows, bool use_rope, float *q, float *k,
                                const float *v)
{
    observer_of(b)->inner->rope_store(observer_of(b)->inner, m, h, rows, use_rope, q, k, v);
}

static void observed_attend(qn_backend *b, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, qn_input *input)
{
    observer_of(b)->inner->attend(observer_of(b)->inner, m, h, rows, q, input);
}

static void observed_gate_input(qn_backend *b, qn_member m, const float *gate, const float *up, size_t n_rows, qn_input *input)
{
    observer_of(b)->inner->gate_input(observer_of(b)->inner, m, gate, up, n_rows, input);
}

/* The rows of each expert lie together in the buffers that the other backend has filled. */
static void observed_mix_experts(qn_backend *b, qn_member m, const qn_experts *e, const qn_input *input, size_t n_rows,
                                 qn_expert_buffers *buffers, float *x, bool keep)
{
    qn_observer *o = observer_of(b);
    o->inner->mix_experts(o->inner, m, e, input, n_rows, buffers, x, keep);
    const qn_site_stats *in = site_of(o, e->gate), *mid = in != NULL ? in + (QN_SITE_EXPERT_MID - QN_SITE_EXPERT_IN) : NULL;
    for (size_t i = 0; i < e->n_experts; i++) {
        size_t first = buffers->first[i], n = buffers->first[i + 1] - first;
        observe(o, m, buffers->in.f + first * buffers->in.n_cols, n, in, i);
        observe(o, m, buffers->mid.f + first * buffers->mid.n_cols, n, mid, i);
    }
    qn_member_barrier(m);
}

static void observed_destroy(qn_backend *b) { observer_of(b)->inner->destroy(observer_of(b)->inner); }

void qn_observer_init(qn_observer *o, qn_backend *inner)
{
    o->inner = inner;
    o->backend = (qn_backend){.name = inner->name,
                              .run = observed_run,
                              .embed = observed_embed,
                              .norm_input = observed_norm_input,
                              .multiply = observed_multiply,
                              .rope_store = observed_rope_store,
                              .attend = observed_attend,
                              .gate_input = observed_gate_input,
                              .mix_experts = observed_mix_experts,
                              .destroy = observed_destroy};
}
