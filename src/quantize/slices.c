/* slices.c - decoding and encoding a slice, and measuring what was lost. See slices.h. */
#include "quantize/slices.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "quant/codec.h"
#include "quant/feedback.h"
#include "quantize/hf_to_gguf.h"

/* Elements of a slice, about: large enough to hide what a slice costs beside its elements, small enough to stay in the cache. */
enum { SLICE_ELEMENTS = 1 << 17 };

/* Rows that must stay together where an output reorders them: whether or not one of this run does, so that sums do not depend on it. */
static uint64_t rows_together(const qn_job *job, size_t piece)
{
    const qn_model_config *c = &job->source.config;
    const qn_recipe_tensor *what = &job->source.pieces[piece].what;
    return what->n_dims > 1 && qn_gguf_reorders(c, what->part) && c->head_dim > 1 ? c->head_dim : 1;
}

qn_slicing qn_slicing_of(const qn_job *job, size_t piece)
{
    const qn_piece *p = &job->source.pieces[piece];
    uint64_t unit = rows_together(job, piece);
    uint64_t rows = SLICE_ELEMENTS / p->n_cols / unit * unit;
    rows = rows < unit ? unit : rows;
    rows = rows > p->n_rows ? p->n_rows : rows;
    uint64_t slices = (p->n_rows + rows - 1) / rows;
    return (qn_slicing){.rows_a_slice = rows, .slices_a_part = slices, .n_slices = slices * p->n_parts};
}

qn_slice qn_slice_at(const qn_piece *p, const qn_slicing *s, uint64_t index)
{
    qn_slice slice = {.part = (size_t)(index / s->slices_a_part), .first_row = index % s->slices_a_part * s->rows_a_slice};
    uint64_t left = p->n_rows - slice.first_row;
    slice.n_rows = left < s->rows_a_slice ? left : s->rows_a_slice;
    slice.output_row = slice.part * p->n_rows + slice.first_row;
    return slice;
}

size_t qn_slice_elements_max(const qn_job *job)
{
    uint64_t most = 0;
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        uint64_t n = qn_slicing_of(job, i).rows_a_slice * job->source.pieces[i].n_cols;
        most = n > most ? n : most;
    }
    return (size_t)qn_align_up((size_t)most, 16);
}

size_t qn_slice_buffer_bytes(const qn_job *job)
{
    enum { BUFFERS = 4 }; /* the rows, reordered, decoded, and room for the encoder */
    uint64_t widest = 0;
    for (size_t i = 0; i < job->source.n_pieces && job->calibration.pieces != NULL; i++) {
        const qn_piece *p = &job->source.pieces[i]; /* matrices may get an importance yet: the plan is made before they are weighed */
        widest = p->what.n_dims > 1 && p->n_cols > widest ? p->n_cols : widest;
    }
    return (BUFFERS * qn_slice_elements_max(job) + (widest > 0 ? qn_feedback_scratch((size_t)widest) : 0)) * sizeof(float);
}

void qn_interleave_rows(const float *x, size_t n_rows, size_t n_cols, size_t dim, float *out)
{
    for (size_t r = 0; r < n_rows; r++) {
        memcpy(out + r * n_cols, x + (size_t)qn_interleaved_from(r, dim) * n_cols, n_cols * sizeof *x);
    }
}

/* Sums beyond these have left what float32 squares hold, or come near it: such a batch is summed in double. */
static bool is_summable(double squared_error, double squared_source)
{
    return squared_source >= 1e-20 && squared_source <= 1e30 && squared_error <= 1e30;
}

static void sum_wide(const float *x, const float *y, size_t n, double *squared_error, double *squared_source)
{
    *squared_error = *squared_source = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)y[i] - (double)x[i];
        *squared_error += d * d;
        *squared_source += (double)x[i] * (double)x[i];
    }
}

static void measure(const float *x, const float *y, size_t n, qn_tensor_error *e)
{
    enum { LANES = 16, BATCH = 512 };
    double squared_error = 0;
    double squared_source = 0;
    float greatest[LANES] = {0};
    for (size_t i = 0; i < n; i += BATCH) { /* float sums over a batch, double over batches */
        size_t end = n - i < BATCH ? n : i + BATCH;
        float error_sums[LANES] = {0};
        float source_sums[LANES] = {0};
        double batch_error = 0, batch_source = 0;
        size_t j = i;
        for (; j + LANES <= end; j += LANES) {
            for (size_t l = 0; l < LANES; l++) {
                float d = y[j + l] - x[j + l];
                float magnitude = fabsf(d);
                error_sums[l] += d * d;
                source_sums[l] += x[j + l] * x[j + l];
                greatest[l] = magnitude > greatest[l] ? magnitude : greatest[l];
            }
        }
        for (; j < end; j++) {
            float d = y[j] - x[j];
            error_sums[0] += d * d;
            source_sums[0] += x[j] * x[j];
            greatest[0] = fabsf(d) > greatest[0] ? fabsf(d) : greatest[0];
        }
        for (size_t l = 0; l < LANES; l++) {
            batch_error += (double)error_sums[l];
            batch_source += (double)source_sums[l];
        }
        if (!is_summable(batch_error, batch_source)) {
            sum_wide(x + i, y + i, end - i, &batch_error, &batch_source);
        }
        squared_error += batch_error;
        squared_source += batch_source;
    }
    float most = 0;
    for (size_t l = 0; l < LANES; l++) {
        most = greatest[l] > most ? greatest[l] : most;
    }
    *e = (qn_tensor_error){.squared_error = squared_error, .squared_source = squared_source, .max_abs_error = (double)most};
}

/* Rows on their way through one encoder. */
typedef struct rows {
    const float *x; /* (n_rows, n_cols) */
    size_t n_rows, n_cols;
    const float *importance; /* (n_cols) or NULL */
    const float *factor;     /* or NULL */
    float *weights;          /* room for a number a block */
    float *scratch;          /* qn_feedback_scratch(n_cols), of which encode_weighted_row needs 5 n_cols */
    float *decoded;          /* (n_rows, n_cols): the result as it will be read */
} rows;

/* Most that weighing by importance may cost in plain squared error, a block: what is far worse there would look like damage, and rests on a few
 * columns of one text. */
#define IMPORTANCE_BOUND 1.2f

static float squared_error(const float *x, const float *y, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (x[i] - y[i]) * (x[i] - y[i]);
    }
    return sum;
}

static void fill_weights(qn_dtype t, const rows *r, const float *x, float *weights)
{
    float per_magnitude = qn_importance_per_magnitude(t, x, r->n_cols);
    for (size_t i = 0; i < r->n_cols; i++) {
        weights[i] = qn_importance_weight(t, r->importance[i], x[i], per_magnitude);
    }
}

/* One row by importance; blocks in which that breaks the bound by its square root, and if that does too, plainly. */
static void encode_weighted_row(qn_dtype t, const rows *r, const float *x, uint8_t *out)
{
    size_t n = r->n_cols, block = qn_dtype_get(t)->block_size, block_bytes = qn_dtype_get(t)->block_bytes;
    float *plain_values = r->scratch, *values = plain_values + n, *weights = values + n;
    uint8_t *plain = (uint8_t *)(weights + n), *tried = plain + n * sizeof(float);
    bool again = true;
    qn_encode_row(t, x, plain, n, NULL);
    qn_decode_row(t, plain, plain_values, n);
    fill_weights(t, r, x, weights);
    qn_encode_row(t, x, out, n, weights);
    for (int k = 0; k < 2 && again; k++) {
        again = false;
        if (k > 0) {
            for (size_t i = 0; i < n; i++) {
                weights[i] = sqrtf(r->importance[i]);
            }
            qn_encode_row(t, x, tried, n, weights);
        }
        qn_decode_row(t, k > 0 ? tried : out, values, n);
        for (size_t b = 0; b < n / block; b++) {
            const float *from = x + b * block;
            float bound = IMPORTANCE_BOUND * squared_error(from, plain_values + b * block, block);
            bool holds = isfinite(bound) && squared_error(from, values + b * block, block) <= bound; /* plainly where squares overflow */
            if (k == 0) {
                r->weights[b] = holds ? 1.0f : 0.0f;
                again = again || !holds;
            } else if (!(r->weights[b] > 0)) {
                memcpy(out + b * block_bytes, (holds ? tried : plain) + b * block_bytes, block_bytes);
            }
        }
    }
}

static void encode_affine(const qn_sink *sink, const rows *r, uint8_t *const streams[QN_STREAMS_MAX])
{
    uint32_t *packed = (uint32_t *)(void *)streams[0];
    if (r->importance != NULL) {
        qn_encode_affine_feedback(sink->affine, r->factor, r->importance, r->x, r->n_rows, r->n_cols, packed, streams[1], streams[2],
                                  sink->dtype, r->scratch);
    } else {
        qn_encode_affine_row_fitted(sink->affine, r->x, packed, streams[1], streams[2], sink->dtype, r->n_rows * r->n_cols, NULL);
    }
}

static void encode_blocks(const qn_sink *sink, const rows *r, uint8_t *out)
{
    if (r->importance == NULL || qn_dtype_get(sink->dtype)->block_size == 1) {
        qn_encode_row(sink->dtype, r->x, out, r->n_rows * r->n_cols, NULL);
        return;
    }
    if (r->factor != NULL && qn_feedback_supports(sink->dtype)) {
        qn_encode_blocks_feedback(sink->dtype, r->factor, r->importance, r->x, r->n_rows, r->n_cols, out, r->scratch);
        return;
    }
    for (size_t i = 0; i < r->n_rows; i++) {
        encode_weighted_row(sink->dtype, r, r->x + i * r->n_cols, out + i * sink->row_bytes[0]);
    }
}

static void encode_mxfp4(const rows *r, uint8_t *const streams[QN_STREAMS_MAX])
{
    size_t n = r->n_rows * r->n_cols;
    if (r->factor == NULL) { /* its scales are powers of two: there is little to weigh */
        qn_encode_mxfp4_row(r->x, streams[0], streams[1], n, NULL);
        return;
    }
    uint8_t *blocks = (uint8_t *)r->decoded; /* 17 bytes for 32 values */
    qn_encode_blocks_feedback(QN_DTYPE_MXFP4, r->factor, r->importance, r->x, r->n_rows, r->n_cols, blocks, r->scratch);
    qn_mxfp4_blocks_to_row(blocks, streams[0], streams[1], n);
}

static void encode(const qn_sink *sink, const rows *r, uint8_t *const streams[QN_STREAMS_MAX])
{
    size_t n = r->n_rows * r->n_cols;
    switch (sink->coding) {
    case QN_CODING_BLOCKS:
        encode_blocks(sink, r, streams[0]);
        qn_decode_row(sink->dtype, streams[0], r->decoded, n);
        break;
    case QN_CODING_AFFINE:
        encode_affine(sink, r, streams);
        qn_decode_affine_row(sink->affine, (const uint32_t *)(const void *)streams[0], streams[1], streams[2], sink->dtype, r->decoded, n);
        break;
    case QN_CODING_MXFP4:
        encode_mxfp4(r, streams);
        qn_decode_mxfp4_row(streams[0], streams[1], r->decoded, n);
        break;
    }
}

static float greatest_magnitude(const float *x, size_t n)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = qn_f32_to_bits(x[i]) & 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return qn_f32_from_bits(most);
}

void qn_slice_convert(const qn_job *job, size_t piece, qn_slice slice, float *buffers, size_t elements_max,
                      uint8_t *(*bytes)[QN_STREAMS_MAX], qn_tensor_error *errors, qn_slice_result *result)
{
    const qn_piece *p = &job->source.pieces[piece];
    float *x = buffers;
    float *reordered = buffers + elements_max;
    size_t n_cols = (size_t)p->n_cols;
    size_t n = (size_t)slice.n_rows * n_cols;
    bool is_reordered = false;
    qn_piece_decode(p, slice.part, slice.first_row, slice.n_rows, x);
    size_t bad = qn_find_non_finite(x, n);
    *result = (qn_slice_result){.finite = bad == n, .greatest = greatest_magnitude(x, n)};
    if (bad < n) {
        result->bad_row = slice.first_row + bad / n_cols;
        result->bad_column = bad % n_cols;
        return;
    }
    rows r = {.n_rows = (size_t)slice.n_rows,
              .n_cols = n_cols,
              .decoded = buffers + 2 * elements_max,
              .weights = buffers + 3 * elements_max,
              .scratch = buffers + 4 * elements_max};
    if (job->calibration.pieces != NULL && job->calibration.pieces[piece].importance != NULL) {
        r.importance = job->calibration.pieces[piece].importance + slice.part * n_cols;
        r.factor = job->calibration.pieces[piece].factor;
    }
    for (size_t o = 0; o < job->n_outputs; o++) {
        const qn_sink *sink = &job->outputs[o].sinks[piece];
        const float *chosen = x;
        if (sink->permute_dim != 0) {
            if (!is_reordered) {
                bool vector = p->what.n_dims == 1;
                qn_interleave_rows(x, vector ? n : (size_t)slice.n_rows, vector ? 1 : n_cols, sink->permute_dim, reordered);
                is_reordered = true;
            }
            chosen = reordered;
        }
        r.x = chosen;
        encode(sink, &r, bytes[o]);
        measure(chosen, r.decoded, n, &errors[o]);
    }
}
