/* cpu_backend.c - the layer-level entries on threads: who computes what. All arithmetic is in the kernels.
 *
 * Work is cut into chunks that members claim from one atomic counter a phase, so a core that is slowed by other load does less.
 * On machines whose processors have memory of their own, each node's members begin with the rows that lie there and then help the others.
 * Which member computes a chunk never changes its bits. Every entry is one or two phases, each closed by a barrier.
 */
#include "backend/backend.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "backend/cpu_int.h"
#include "base/alloc.h"
#include "quant/codec.h"

/* Rows of output a chunk has at least, and chunks wanted per member: enough to even out, few enough to keep streams long. */
enum { CHUNK_ROWS_MIN = 32, CHUNKS_PER_MEMBER = 12 };

/* Rows decoded together when activations stay float32. */
enum { DECODED_ROWS = 16 };

static qn_cpu *cpu_of(qn_backend *b) { return (qn_cpu *)b; }

/* ---- claiming work ---- */

void qn_cpu_begin_phase(qn_cpu *c, qn_member m) { c->lanes[m.index].phase++; }

size_t qn_cpu_claim_of(qn_cpu *c, qn_member m, size_t node)
{
    qn_claim *claim = &c->claims[c->lanes[m.index].phase % QN_CPU_PHASES * c->n_nodes + node];
    return atomic_fetch_add_explicit(&claim->next, 1, memory_order_relaxed);
}

size_t qn_cpu_claim(qn_cpu *c, qn_member m) { return qn_cpu_claim_of(c, m, 0); }

static void reset_phase(qn_cpu *c, size_t phase)
{
    for (size_t node = 0; node < c->n_nodes; node++) {
        atomic_store_explicit(&c->claims[phase % QN_CPU_PHASES * c->n_nodes + node].next, 0, memory_order_relaxed);
    }
}

void qn_cpu_end_phase(qn_cpu *c, qn_member m)
{
    qn_member_barrier(m);
    /* Everyone has left this phase's counters; those used QN_CPU_PHASES / 2 phases from now are made ready. */
    if (m.index == 0) {
        reset_phase(c, c->lanes[0].phase + QN_CPU_PHASES / 2);
    }
}

static void cpu_run(qn_backend *b, qn_pool_fn fn, void *arg)
{
    qn_cpu *c = cpu_of(b);
    for (size_t i = 0; i < QN_CPU_PHASES; i++) {
        reset_phase(c, i);
    }
    for (size_t i = 0; i < c->n_threads; i++) {
        c->lanes[i].phase = 0;
    }
    qn_pool_run(c->pool, fn, arg);
}

/* ---- inputs ---- */

void qn_cpu_quantize_rows(qn_cpu *c, qn_input *input, size_t row0, size_t row1)
{
    for (int form = QN_FORM_I8_32; form < QN_FORM_COUNT; form++) {
        if ((input->mask >> form & 1u) != 0) {
            qn_act_quantize(c->isa, &input->forms[form], input->f, input->n_cols, row0, row1);
        }
    }
}

static void cpu_embed(qn_backend *b, qn_member m, const qn_matrix *e, const int32_t *ids, size_t n_rows, float *out)
{
    (void)b;
    size_t row0, row1;
    qn_member_span(m, n_rows, 1, &row0, &row1);
    for (size_t r = row0; r < row1; r++) {
        qn_cpu_decode_row(e, (size_t)ids[r], out + r * e->n_cols);
    }
    qn_member_barrier(m);
}

static void cpu_norm_input(qn_backend *b, qn_member m, const float *x, size_t x_stride, const float *weight, float eps, size_t n_rows,
                           qn_input *input)
{
    qn_cpu *c = cpu_of(b);
    size_t row0, row1;
    qn_member_span(m, n_rows, 1, &row0, &row1);
    for (size_t r = row0; r < row1; r++) {
        c->ops->rms_norm(input->f + r * input->n_cols, x + r * x_stride, weight, input->n_cols, eps);
        qn_cpu_quantize_rows(c, input, r, r + 1);
    }
    qn_member_barrier(m);
}

static void cpu_gate_input(qn_backend *b, qn_member m, const float *gate, const float *up, size_t n_rows, qn_input *input)
{
    qn_cpu *c = cpu_of(b);
    size_t n = input->n_cols, row0, row1;
    qn_member_span(m, n_rows, 1, &row0, &row1);
    for (size_t r = row0; r < row1; r++) {
        c->ops->silu_mul(input->f + r * n, gate + r * n, up + r * n, n);
        qn_cpu_quantize_rows(c, input, r, r + 1);
    }
    qn_member_barrier(m);
}

/* ---- products ---- */

void qn_cpu_decode_row(const qn_matrix *w, size_t row, float *out)
{
    const uint8_t *data = w->data + row * w->row_bytes;
    if (w->dtype == QN_DTYPE_MLX_AFFINE) {
        size_t groups = w->n_cols / w->affine.group, element = qn_dtype_get(w->affine_dtype)->block_bytes;
        qn_decode_affine_row(w->affine, (const uint32_t *)(const void *)data, w->scales + row * groups * element,
                             w->biases + row * groups * element, w->affine_dtype, out, w->n_cols);
    } else if (w->dtype == QN_DTYPE_F8_E4M3) {
        qn_decode_fp8_row(data, &w->grid, w->grid_row + row, out, w->n_cols);
    } else {
        qn_decode_row(w->dtype, data, out, w->n_cols);
    }
}

/* y = W x for rows [r0, r1) and tokens [t0, t1) with W decoded to float32 first. */
static void multiply_decoded(qn_cpu *c, qn_lane *lane, const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1,
                             float *y, size_t y_stride)
{
    for (size_t r = r0; r < r1; r += DECODED_ROWS) {
        size_t n = r1 - r < DECODED_ROWS ? r1 - r : DECODED_ROWS;
        for (size_t i = 0; i < n; i++) {
            qn_cpu_decode_row(w, r + i, lane->decoded + i * w->n_cols);
        }
        qn_matrix tile = {.dtype = QN_DTYPE_F32,
                          .data = (const uint8_t *)lane->decoded,
                          .row_bytes = w->n_cols * sizeof(float),
                          .n_rows = n,
                          .n_cols = w->n_cols};
        qn_matmul(c->isa, &tile, 0, n, a, t0, t1, y + r, y_stride, lane->scratch);
    }
}

void qn_cpu_multiply_rows(qn_cpu *c, qn_lane *lane, const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1,
                          float *y, size_t y_stride)
{
    uint32_t block;
    const bool plain = qn_act_kind_for(w->dtype, w->affine, &block) == QN_ACT_F32;
    if (qn_matrix_is_decoded(w) || (c->f32_activations && !plain)) {
        multiply_decoded(c, lane, w, r0, r1, a, t0, t1, y, y_stride);
    } else {
        qn_matmul(c->isa, w, r0, r1, a, t0, t1, y, y_stride, lane->scratch);
    }
}

static void finish_rows(qn_cpu *c, const qn_product *p, const float *sum, size_t sum_stride, size_t r0, size_t r1, size_t n_rows)
{
    size_t n = r1 - r0;
    for (size_t t = 0; t < n_rows; t++) {
        float *y = p->y + t * p->y_stride + r0;
        if (p->add) {
            const float *s = sum + t * sum_stride + r0;
            if (p->bias != NULL) {
                for (size_t i = 0; i < n; i++) {
                    y[i] += s[i] + p->bias[r0 + i];
                }
            } else {
                c->ops->add(y, s, n);
            }
        } else if (p->bias != NULL) {
            c->ops->add(y, p->bias + r0, n);
        }
    }
}

static void multiply_chunk(qn_cpu *c, qn_lane *lane, const qn_input *input, size_t n_rows, const qn_product *p, size_t r0, size_t r1)
{
    const qn_act *a = &input->forms[qn_form_for(p->w, c->f32_activations)];
    float *y = p->add ? c->sums : p->y;
    size_t stride = p->add ? p->w->n_rows : p->y_stride;
    qn_cpu_multiply_rows(c, lane, p->w, r0, r1, a, 0, n_rows, y, stride);
    finish_rows(c, p, y, stride, r0, r1, n_rows);
}

/* The rows of all products that lie in a node's memory, `rows` at a time. */
static void multiply_share(qn_cpu *c, qn_member m, size_t node, const qn_input *input, size_t n_rows, const qn_product *products,
                           size_t n_products, size_t rows)
{
    size_t mine = qn_cpu_claim_of(c, m, node), item = 0;
    for (size_t i = 0; i < n_products; i++) {
        size_t begin, end;
        qn_numa_cut(c->numa, node, products[i].w->n_rows, QN_MATMUL_ROW_UNIT, &begin, &end);
        const size_t n = (end - begin + rows - 1) / rows;
        for (; mine < item + n; mine = qn_cpu_claim_of(c, m, node)) {
            const size_t r0 = begin + (mine - item) * rows, r1 = r0 + rows < end ? r0 + rows : end;
            multiply_chunk(c, &c->lanes[m.index], input, n_rows, &products[i], r0, r1);
        }
        item += n;
    }
}

static void cpu_multiply(qn_backend *b, qn_member m, const qn_input *input, size_t n_rows, const qn_product *products, size_t n_products)
{
    qn_cpu *c = cpu_of(b);
    size_t total = 0;
    for (size_t i = 0; i < n_products; i++) {
        total += products[i].w->n_rows;
    }
    size_t rows = total / (m.n_threads * CHUNKS_PER_MEMBER);
    rows = qn_align_up(rows > CHUNK_ROWS_MIN ? rows : CHUNK_ROWS_MIN, QN_MATMUL_ROW_UNIT);
    qn_cpu_begin_phase(c, m);
    for (size_t turn = 0; turn < c->n_nodes; turn++) {
        multiply_share(c, m, qn_cpu_node_in_turn(c, m, turn), input, n_rows, products, n_products, rows);
    }
    qn_cpu_end_phase(c, m);
}

/* ---- rope and cache ---- */

static void rope_store_head(qn_cpu *c, const qn_heads *h, const qn_step_rows *rows, bool use_rope, size_t r, size_t head, float *q,
                            float *k, const float *v)
{
    size_t hd = h->head_dim;
    bool is_key = head >= h->n_heads;
    size_t kv_head = head - (is_key ? h->n_heads : 0);
    float *x = is_key ? k + (r * h->n_kv_heads + kv_head) * hd : q + (r * h->n_heads + head) * hd;
    const float *norm = is_key ? h->k_norm : h->q_norm;
    if (norm != NULL) {
        c->ops->rms_norm(x, x, norm, hd, h->eps);
    }
    if (use_rope) {
        (h->interleaved ? c->ops->rope_interleaved : c->ops->rope_half)(x, rows->cos_sin + r * h->n_rot, h->n_rot);
    }
    if (is_key) {
        const qn_kv_view *view = rows->view[r];
        size_t page = rows->position[r] / QN_KV_PAGE, slot = rows->position[r] % QN_KV_PAGE;
        /* The engine owns the pages and hands them out const to readers; this is the one place that writes them. */
        c->ops->kv_store(view->format, (void *)(uintptr_t)view->k_pages[page], (void *)(uintptr_t)view->v_pages[page], kv_head, hd, slot, x,
                         v + (r * h->n_kv_heads + kv_head) * hd);
    }
}

static void cpu_rope_store(qn_backend *b, qn_member m, const qn_heads *h, const qn_step_rows *rows, bool use_rope, float *q, float *k,
                           const float *v)
{
    qn_cpu *c = cpu_of(b);
    size_t per_row = h->n_heads + h->n_kv_heads, first, last;
    qn_member_span(m, rows->n_rows * per_row, 1, &first, &last);
    for (size_t i = first; i < last; i++) {
        rope_store_head(c, h, rows, use_rope, i / per_row, i % per_row, q, k, v);
    }
    qn_member_barrier(m);
}

static void cpu_attend(qn_backend *b, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, qn_input *input)
{
    qn_cpu *c = cpu_of(b);
    qn_cpu_attention(c, m, h, rows, q, input->f);
    size_t row0, row1;
    qn_member_span(m, rows->n_rows, 1, &row0, &row1);
    qn_cpu_quantize_rows(c, input, row0, row1);
    qn_member_barrier(m);
}

/* ---- making and unmaking ---- */

static size_t decoded_bytes(const qn_cpu_options *opt)
{
    return opt->f32_activations || opt->decodes_weights ? (size_t)DECODED_ROWS * opt->max_cols * sizeof(float) : 0;
}

static size_t lane_bytes(const qn_cpu_options *opt)
{
    size_t attention = QN_ATTN_SCRATCH_BYTES((size_t)QN_CPU_QUERY_BLOCK, opt->head_dim);
    size_t scratch = QN_MATMUL_SCRATCH_BYTES > attention ? QN_MATMUL_SCRATCH_BYTES : attention;
    return qn_align_up(scratch, 64) + qn_align_up(decoded_bytes(opt), 64);
}

static size_t parts_bytes(const qn_cpu_options *opt)
{
    return qn_cpu_split_parts(opt->n_ctx) * QN_CPU_SPLIT_ROWS * opt->n_heads * (opt->head_dim + 2) * sizeof(float);
}

static size_t sums_bytes(const qn_cpu_options *opt) { return qn_align_up(opt->max_rows * opt->hidden_size * sizeof(float), 64); }

size_t qn_cpu_bytes(const qn_cpu_options *opt)
{
    return sizeof(qn_cpu) + QN_CPU_PHASES * qn_numa_n_nodes(opt->numa) * sizeof(qn_claim) +
           opt->n_threads * (sizeof(qn_lane) + lane_bytes(opt)) + qn_align_up(parts_bytes(opt), 64) + sums_bytes(opt) + 4096;
}

static void cpu_destroy(qn_backend *b)
{
    if (b != NULL) {
        qn_cpu *c = cpu_of(b);
        qn_pool_destroy(c->pool);
        qn_arena_deinit(&c->arena);
        qn_free_aligned(c);
    }
}

quern_status qn_cpu_create(qn_backend **out, const qn_cpu_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_cpu *c = qn_malloc_aligned(sizeof *c);
    *out = NULL;
    if (c == NULL) {
        QN_FAIL_MEMORY(err, "the CPU backend", sizeof *c);
    }
    memset(c, 0, sizeof *c);
    c->backend = (qn_backend){.name = "cpu",
                              .run = cpu_run,
                              .embed = cpu_embed,
                              .norm_input = cpu_norm_input,
                              .multiply = cpu_multiply,
                              .rope_store = cpu_rope_store,
                              .attend = cpu_attend,
                              .gate_input = cpu_gate_input,
                              .mix_experts = qn_cpu_mix_experts,
                              .destroy = cpu_destroy};
    qn_arena_init(&c->arena, 0);
    c->n_threads = opt->n_threads;
    c->numa = opt->numa;
    c->n_nodes = qn_numa_n_nodes(opt->numa);
    c->isa = opt->isa;
    c->ops = qn_ops_get(opt->isa);
    c->f32_activations = opt->f32_activations;
    c->split_parts = qn_cpu_split_parts(opt->n_ctx);
    c->claims = qn_arena_alloc_aligned(&c->arena, QN_CPU_PHASES * c->n_nodes * sizeof *c->claims);
    c->lanes = qn_arena_alloc_aligned(&c->arena, opt->n_threads * sizeof *c->lanes);
    c->parts = qn_arena_alloc_aligned(&c->arena, parts_bytes(opt));
    c->sums = qn_arena_alloc_aligned(&c->arena, sums_bytes(opt));
    if (c->claims == NULL || c->lanes == NULL || c->parts == NULL || c->sums == NULL) {
        QN_FAIL_MEMORY(err, "the CPU backend", qn_cpu_bytes(opt));
    }
    for (size_t i = 0; i < opt->n_threads; i++) {
        char *memory = qn_arena_alloc_aligned(&c->arena, lane_bytes(opt));
        if (memory == NULL) {
            QN_FAIL_MEMORY(err, "the CPU backend", qn_cpu_bytes(opt));
        }
        c->lanes[i].scratch = memory;
        c->lanes[i].decoded = (float *)(void *)(memory + lane_bytes(opt) - qn_align_up(decoded_bytes(opt), 64));
    }
    QN_TRY(qn_pool_create_on(&c->pool, opt->n_threads, opt->numa, err));
    *out = &c->backend;
    c = NULL;
done:
    cpu_destroy((qn_backend *)c);
    return status;
}
