/* sensitivity.c - see sensitivity.h.
 *
 * An engine's layers are its own copies of the matrices' descriptions (model/shard.h), so replacing one there touches neither the model nor
 * the other engine. */
#include "quantize/sensitivity.h"

#include <stdint.h>
#include <string.h>

#include "base/builtin_text.h"
#include "base/human_number.h"
#include "engine/engine_int.h"
#include "quant/codec.h"
#include "quantize/slices.h"
#include "quantize/source_finite.h"
#include "quern/measure.h"

enum {
    CHUNK_TOKENS = 256,
    CHUNKS_MIN = 2,
    CHUNKS_MAX = 4,
    SAMPLE_ELEMENTS = 1 << 17,
    ROWS_A_TASK = 256 /* at least; whole heads where rows are interleaved */
};

/* Chunks of the text times parameters, about: a probe then takes seconds for any model. */
static const double chunk_parameters = 8e9;

size_t qn_stored_row_bytes(const qn_stored_form *f, size_t n_cols)
{
    if (f->dtype == QN_DTYPE_MLX_AFFINE) {
        return n_cols / 8 * f->affine.bits + 2 * (n_cols / f->affine.group) * qn_dtype_get(f->plain)->block_bytes;
    }
    const qn_dtype_traits *t = qn_dtype_get(f->dtype);
    return n_cols / t->block_size * t->block_bytes;
}

/* Where the three streams of a matrix of n_rows lie in its memory; a GGUF row has one. */
static qn_matrix lay_out(const qn_stored_form *f, uint8_t *memory, size_t n_rows, size_t n_cols)
{
    qn_matrix m = {.dtype = f->dtype, .data = memory, .row_bytes = qn_stored_row_bytes(f, n_cols), .n_rows = n_rows, .n_cols = n_cols};
    if (f->dtype == QN_DTYPE_MLX_AFFINE) {
        m.affine = f->affine;
        m.affine_dtype = f->plain;
        m.row_bytes = n_cols / 8 * f->affine.bits;
        m.scales = memory + n_rows * m.row_bytes;
        m.biases = m.scales + n_rows * (n_cols / f->affine.group) * qn_dtype_get(f->plain)->block_bytes;
    }
    return m;
}

/* Rows first .. first + n of the matrix in its memory. */
static void encode_rows(const qn_matrix *m, uint8_t *memory, size_t first, size_t n, const float *x)
{
    if (m->dtype != QN_DTYPE_MLX_AFFINE) {
        qn_encode_row(m->dtype, x, memory + first * m->row_bytes, n * m->n_cols, NULL);
        return;
    }
    size_t scale_bytes = m->n_cols / m->affine.group * qn_dtype_get(m->affine_dtype)->block_bytes;
    uint8_t *scales = memory + (size_t)(m->scales - m->data) + first * scale_bytes;
    uint8_t *biases = memory + (size_t)(m->biases - m->data) + first * scale_bytes;
    qn_encode_affine_row_fitted(m->affine, x, (uint32_t *)(void *)(memory + first * m->row_bytes), scales, biases, m->affine_dtype,
                                n * m->n_cols, NULL);
}

quern_status qn_stored_errors(const qn_piece *p, const qn_stored_form *forms, size_t n, double *squared_error, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_cols = (size_t)p->n_cols, widest = 0;
    uint64_t all_rows = p->n_rows * p->n_parts, rows = SAMPLE_ELEMENTS / n_cols;
    rows = rows < 16 ? 16 : rows;
    uint64_t stride = (all_rows + rows - 1) / rows;
    for (size_t k = 0; k < n; k++) {
        size_t bytes = qn_stored_row_bytes(&forms[k], n_cols);
        widest = bytes > widest ? bytes : widest;
        squared_error[k] = 0;
    }
    float *x = qn_malloc_array(2 * n_cols, sizeof *x);
    uint8_t *encoded = qn_malloc_aligned(widest);
    if (x == NULL || encoded == NULL) {
        QN_FAIL_MEMORY(err, "a row and its forms", 2 * n_cols * sizeof *x + widest);
    }
    for (uint64_t r = 0; r < all_rows; r += stride) {
        float *y = x + n_cols;
        qn_piece_decode(p, (size_t)(r / p->n_rows), r % p->n_rows, 1, x);
        for (size_t k = 0; k < n; k++) {
            qn_matrix m = lay_out(&forms[k], encoded, 1, n_cols);
            encode_rows(&m, encoded, 0, 1, x);
            if (m.dtype == QN_DTYPE_MLX_AFFINE) {
                qn_decode_affine_row(m.affine, (const uint32_t *)(const void *)encoded, m.scales, m.biases, m.affine_dtype, y, n_cols);
            } else {
                qn_decode_row(m.dtype, encoded, y, n_cols);
            }
            for (size_t j = 0; j < n_cols; j++) {
                double d = (double)y[j] - (double)x[j];
                squared_error[k] += d * d;
            }
        }
    }
done:
    qn_free(x);
    qn_free_aligned(encoded);
    return status;
}

/* ---- one piece in an engine ---- */

/* A piece in its quantized form. */
typedef struct replacement {
    uint8_t *memory;
    qn_matrix *matrices; /* (n_parts) */
} replacement;

typedef struct encoding {
    const qn_piece *piece;
    const replacement *to;
    size_t rows_a_task, tasks_a_part;
    float **buffers; /* (n_threads): 2 * rows_a_task * n_cols */
} encoding;

static void encode_tasks(void *arg, qn_member m)
{
    const encoding *e = arg;
    const qn_piece *p = e->piece;
    size_t n_cols = (size_t)p->n_cols, begin, end;
    qn_member_span(m, e->tasks_a_part * p->n_parts, 1, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        size_t part = i / e->tasks_a_part, first = i % e->tasks_a_part * e->rows_a_task;
        size_t left = (size_t)p->n_rows - first, n = left < e->rows_a_task ? left : e->rows_a_task;
        float *x = e->buffers[m.index];
        qn_piece_decode(p, part, first, n, x);
        if (p->interleave_dim != 0) { /* the engine runs the rows as the file has them */
            float *y = x + e->rows_a_task * n_cols;
            qn_interleave_rows(x, n, n_cols, p->interleave_dim, y);
            x = y;
        }
        const qn_matrix *matrix = &e->to->matrices[part];
        encode_rows(matrix, e->to->memory + (size_t)(matrix->data - e->to->memory), first, n, x);
    }
}

static void replacement_deinit(replacement *r)
{
    qn_free_aligned(r->memory);
    qn_free(r->matrices);
    *r = (replacement){0};
}

static size_t rows_a_task(const qn_piece *p)
{
    size_t unit = p->interleave_dim != 0 ? p->interleave_dim : 1;
    return (ROWS_A_TASK + unit - 1) / unit * unit;
}

/* For a thread: rows as decoded, and as reordered. */
static size_t buffer_bytes(const qn_piece *p) { return 2 * rows_a_task(p) * (size_t)p->n_cols * sizeof(float); }

static quern_status quantize_piece(const qn_piece *p, const qn_stored_form *form, qn_pool *pool, replacement *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_cols = (size_t)p->n_cols, n_rows = (size_t)p->n_rows, n_threads = qn_pool_n_threads(pool);
    size_t rows = rows_a_task(p);
    size_t part_bytes = qn_align_up(n_rows * qn_stored_row_bytes(form, n_cols), 64);
    encoding e = {.piece = p, .to = out, .rows_a_task = rows, .tasks_a_part = (n_rows + rows - 1) / rows};
    out->memory = qn_malloc_aligned(part_bytes * p->n_parts);
    out->matrices = qn_malloc_array(p->n_parts, sizeof *out->matrices);
    e.buffers = qn_calloc(n_threads, sizeof *e.buffers);
    if (out->memory == NULL || out->matrices == NULL || e.buffers == NULL) {
        QN_FAIL_MEMORY(err, "a quantized tensor", part_bytes * p->n_parts);
    }
    for (size_t i = 0; i < n_threads; i++) {
        e.buffers[i] = qn_malloc_aligned(buffer_bytes(p));
        if (e.buffers[i] == NULL) {
            QN_FAIL_MEMORY(err, "rows of a tensor", buffer_bytes(p));
        }
    }
    for (size_t i = 0; i < p->n_parts; i++) {
        out->matrices[i] = lay_out(form, out->memory + i * part_bytes, n_rows, n_cols);
    }
    qn_pool_run(pool, encode_tasks, &e);
done:
    for (size_t i = 0; e.buffers != NULL && i < n_threads; i++) {
        qn_free_aligned(e.buffers[i]);
    }
    qn_free(e.buffers);
    return status;
}

static void replace(qn_weights *w, const qn_recipe_tensor *what, bool tied, const qn_matrix *m)
{
    qn_layer_weights *l = &w->layers[what->layer];
    switch (what->part) {
    case QN_PART_TOKEN_EMBD:
        w->embedding = m[0];
        w->output.w = tied ? m[0] : w->output.w;
        break;
    case QN_PART_OUTPUT: w->output.w = m[0]; break;
    case QN_PART_ATTN_Q: l->q.w = m[0]; break;
    case QN_PART_ATTN_K: l->k.w = m[0]; break;
    case QN_PART_ATTN_V: l->v.w = m[0]; break;
    case QN_PART_ATTN_OUTPUT: l->o.w = m[0]; break;
    case QN_PART_FFN_GATE: l->gate.w = m[0]; break;
    case QN_PART_FFN_UP: l->up.w = m[0]; break;
    case QN_PART_FFN_DOWN: l->down.w = m[0]; break;
    case QN_PART_GATE_EXPS: l->expert_gate = m; break;
    case QN_PART_UP_EXPS: l->expert_up = m; break;
    case QN_PART_DOWN_EXPS: l->expert_down = m; break;
    default: break; /* vectors and routers are never quantized here */
    }
}

/* ---- the measurement ---- */

typedef struct prober {
    const qn_job *job;
    quern_model *model;
    quern_engine *probed, *base;
    qn_pool *pool;
    replacement *replacements; /* (n_pieces) */
    quern_ids ids;             /* of the text, as many as are run */
    quern_measure_options options;
    uint64_t engine_bytes; /* of both, less the weights, which are mapped */
} prober;

/* The first n tokens of the calibration text. */
static quern_status read_ids(prober *p, size_t n, quern_error *err)
{
    enum { BYTES_A_TOKEN = 16 }; /* more than any tokenizer needs on average */
    quern_status status = QUERN_OK;
    size_t len = 0;
    const char *text = qn_builtin_text_calibration(&len);
    const quern_tokenizer *t = quern_model_get_tokenizer(p->model);
    if (t == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: measuring which tensors matter needs a tokenizer", p->job->source.path);
    }
    int flags = quern_tokenizer_get_info(t)->add_bos ? QUERN_ENCODE_ADD_BOS : 0;
    QN_TRY(quern_tokenizer_encode(t, text, n * BYTES_A_TOKEN < len ? n * BYTES_A_TOKEN : len, flags, &p->ids, err));
    p->options = (quern_measure_options){.ids = p->ids.data, .n_ids = p->ids.len < n ? p->ids.len : n, .n_ctx = CHUNK_TOKENS};
done:
    return status;
}

static quern_status check_bytes(const prober *p, uint64_t bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (bytes > p->job->memory_bytes) {
        qn_number needed, limit;
        QN_FAIL(err, QUERN_ERROR_LIMIT, "measuring which tensors matter needs %s of memory, the limit is %s",
                qn_format_bytes(needed, bytes), qn_format_bytes(limit, p->job->memory_bytes));
    }
done:
    return status;
}

static quern_status plan_engines(prober *p, const quern_engine_options *options, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_engine_plan plan;
    QN_TRY(quern_engine_make_plan(p->model, options, &plan, err));
    p->engine_bytes = 2 * (plan.total - plan.weights_mapped);
    QN_TRY(check_bytes(p, p->engine_bytes, err));
done:
    return status;
}

static quern_status open_prober(prober *p, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_job *job = p->job;
    const quern_engine_options options = {
        .n_threads = job->n_threads, .n_ctx = CHUNK_TOKENS, .kv_type = QUERN_KV_F32, .arithmetic = QUERN_ARITHMETIC_F32_ACTIVATIONS};
    double chunks = chunk_parameters / (double)job->source.n_parameters;
    size_t n_chunks = chunks > CHUNKS_MAX ? CHUNKS_MAX : chunks < CHUNKS_MIN ? CHUNKS_MIN : (size_t)chunks;
    p->replacements = qn_calloc(job->source.n_pieces, sizeof *p->replacements);
    if (p->replacements == NULL) {
        QN_FAIL_MEMORY(err, "tensors that are probed", job->source.n_pieces * sizeof *p->replacements);
    }
    QN_TRY(quern_model_open(&p->model, job->source.path, &(quern_model_options){.architecture = job->source.as}, err));
    QN_TRY(read_ids(p, n_chunks * CHUNK_TOKENS, err));
    QN_TRY(plan_engines(p, &options, err));
    QN_TRY(quern_engine_create(&p->base, p->model, &options, err));
    QN_TRY(quern_engine_create(&p->probed, p->model, &options, err));
    QN_TRY(qn_pool_create(&p->pool, job->n_threads, err));
done:
    return status;
}

static void close_prober(prober *p)
{
    for (size_t i = 0; p->replacements != NULL && i < p->job->source.n_pieces; i++) {
        replacement_deinit(&p->replacements[i]);
    }
    qn_free(p->replacements);
    quern_ids_deinit(&p->ids);
    qn_pool_destroy(p->pool);
    quern_engine_destroy(p->probed);
    quern_engine_destroy(p->base);
    quern_model_close(p->model);
}

static quern_status check_memory(const prober *p, const size_t *group, size_t g, const qn_stored_form *probe, quern_error *err)
{
    uint64_t bytes = p->engine_bytes, most_rows = 0;
    for (size_t i = 0; i < p->job->source.n_pieces; i++) {
        const qn_piece *piece = &p->job->source.pieces[i];
        if (group[i] == g) {
            uint64_t part_bytes = qn_align_up((size_t)piece->n_rows * qn_stored_row_bytes(&probe[i], (size_t)piece->n_cols), 64);
            uint64_t rows = buffer_bytes(piece) * qn_pool_n_threads(p->pool);
            bytes += part_bytes * piece->n_parts;
            most_rows = rows > most_rows ? rows : most_rows;
        }
    }
    return check_bytes(p, bytes + most_rows, err); /* rows are there for one piece after the other */
}

static quern_status measure_group(prober *p, const size_t *group, size_t g, const qn_stored_form *probe, double *divergence,
                                  quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_source *source = &p->job->source;
    quern_perplexity own, base;
    quern_divergence d;
    quern_error why = {0};
    const qn_weights *whole = &p->base->weights;
    QN_TRY(check_memory(p, group, g, probe, err));
    for (size_t i = 0; i < source->n_pieces; i++) {
        if (group[i] == g) {
            QN_TRY(quantize_piece(&source->pieces[i], &probe[i], p->pool, &p->replacements[i], err));
            replace(&p->probed->weights, &source->pieces[i].what, source->config.tied_embeddings, p->replacements[i].matrices);
        }
    }
    status = quern_measure(p->probed, p->base, &p->options, &own, &base, &d, &why);
    if (status == QUERN_ERROR_INVALID) { /* the text is long enough, so it is the logits */
        quern_status found = qn_source_explain_overflow(source, &why);
        status = found != QUERN_OK ? found : status;
    }
    if (status != QUERN_OK) {
        QN_FAIL(err, status, "%s", why.message);
    }
    *divergence = d.kld_mean;
done:
    memcpy(p->probed->weights.layers, whole->layers, source->config.n_layers * sizeof *whole->layers);
    p->probed->weights.embedding = whole->embedding;
    p->probed->weights.output = whole->output;
    for (size_t i = 0; i < source->n_pieces; i++) {
        replacement_deinit(&p->replacements[i]);
    }
    return status;
}

quern_status qn_sensitivity_measure(const qn_job *job, const size_t *group, size_t n_groups, const qn_stored_form *probe,
                                    double *divergence, qn_report *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    prober p = {.job = job};
    QN_TRY(open_prober(&p, err));
    for (size_t g = 0; g < n_groups; g++) {
        quern_quantize_progress progress = {.stage = QUERN_QUANTIZE_PROBE, .tensor = "", .tensors_done = g, .tensors_total = n_groups};
        QN_TRY(qn_report_progress(report, &progress, true, err));
        QN_TRY(measure_group(&p, group, g, probe, &divergence[g], err));
    }
done:
    close_prober(&p);
    return status;
}
