/* feedback_blocks.c - GGUF's blocks with the error fed back. See feedback.h and feedback_panel.h.
 *
 * A block's scales are what its encoder (codec.h) gives for the weights shifted by what the columns before the block ask for; its codes follow
 * one after another under those scales. sub_blocks.h reads the scales, block_codes.h writes the codes.
 */
#include <math.h>
#include <string.h>

#include "quant/block_codes.h"
#include "quant/blocks.h"
#include "quant/codec.h"
#include "quant/codec_int.h"
#include "quant/feedback.h"
#include "quant/feedback_panel.h"
#include "quant/sub_blocks.h"

/* How a block is tried, in order, until it keeps its bound. */
typedef enum weighing { BY_WEIGHT, BY_ROOT, PLAINLY } weighing;
typedef struct attempt {
    float strength;
    weighing weighing;
} attempt;

static const attempt attempts[] = {{1.0f, BY_WEIGHT}, {0.75f, BY_WEIGHT}, {0.5f, BY_WEIGHT}, {0.25f, BY_WEIGHT},
                                   {0.0f, BY_WEIGHT}, {0.0f, BY_ROOT},    {0.0f, PLAINLY}};
enum { N_ATTEMPTS = sizeof attempts / sizeof attempts[0], BLOCK_BYTES_MAX = 256 };

/* Sixteen rows. */
typedef struct block_panel {
    qn_panel panel;
    qn_dtype t;
    size_t len, bytes; /* of a block */
    float per_magnitude[QN_COLUMNS];
    float *targets, *weights; /* (16, len): whole blocks behind one another */
    uint8_t *encoded, *plain; /* (16, bytes) */
    qn_panel_grids grids;
} block_panel;

bool qn_feedback_supports(qn_dtype t) { return qn_codes_get(t) != NULL; }

float qn_importance_per_magnitude(qn_dtype t, const float *x, size_t n)
{
    const float magnitude_weight = 0.5f;
    double squares = 0;
    if (t != QN_DTYPE_Q2_K && t != QN_DTYPE_Q3_K) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        squares += (double)x[i] * (double)x[i];
    }
    return squares > 0 ? magnitude_weight / (float)sqrt(squares / (double)n) : 0;
}

float qn_importance_weight(qn_dtype t, float importance, float x, float per_magnitude)
{
    return t == QN_DTYPE_Q2_K || t == QN_DTYPE_Q3_K ? sqrtf(importance) * (1.0f + per_magnitude * fabsf(x)) : importance;
}

/* Row r's block as number c of targets, with its weights. */
static void place_block(const block_panel *p, size_t first, size_t r, const attempt *how, size_t c)
{
    float *target = p->targets + c * p->len, *weight = p->weights + c * p->len;
    for (size_t k = 0; k < p->len; k++) {
        float x = p->panel.x[QN_COLUMNS * (first + k) + r], counts = qn_panel_weight(&p->panel, first + k);
        target[k] = qn_panel_wish(&p->panel, first, k, r, how->strength);
        weight[k] = how->weighing == BY_ROOT ? sqrtf(counts) : qn_importance_weight(p->t, counts, x, p->per_magnitude[r]);
    }
}

/* Encodes the rows' own blocks into p->plain and notes what their errors may be. */
static void encode_plainly(block_panel *p, size_t first, float bound[QN_COLUMNS])
{
    float *decoded = p->weights;
    for (size_t r = 0; r < QN_COLUMNS; r++) {
        for (size_t k = 0; k < p->len; k++) {
            p->targets[r * p->len + k] = p->panel.x[QN_COLUMNS * (first + k) + r];
        }
    }
    qn_encode_row_with(p->panel.search, p->t, p->targets, p->plain, QN_COLUMNS * p->len, NULL);
    qn_decode_row(p->t, p->plain, decoded, QN_COLUMNS * p->len);
    for (size_t r = 0; r < QN_COLUMNS; r++) {
        float sum = 0;
        for (size_t k = r * p->len; k < (r + 1) * p->len; k++) {
            sum += (p->targets[k] - decoded[k]) * (p->targets[k] - decoded[k]);
        }
        bound[r] = QN_FEEDBACK_BOUND * sum;
    }
}

static void take_grids(block_panel *p, const uint8_t *block, size_t r)
{
    qn_sub_blocks s;
    (void)qn_sub_blocks_read(p->t, block, &s);
    p->grids.len = s.len;
    p->grids.set.kind = s.levels.table == NULL ? QN_LEVELS_INTEGER : s.levels.table == qn_iq4_levels ? QN_LEVELS_IQ4 : QN_LEVELS_FP4;
    p->grids.set.low = (float)s.levels.low;
    p->grids.set.high = (float)s.levels.high;
    for (size_t k = 0; k < s.n; k++) {
        p->grids.scale[k][r] = s.scale[k];
        p->grids.offset[k][r] = s.offset[k];
    }
}

/* Scales for the rows whose numbers are listed, each by its own attempt. */
static void fit_scales(block_panel *p, size_t first, const size_t *step, const size_t *rows, size_t n_rows)
{
    for (size_t c = 0; c < n_rows; c++) {
        place_block(p, first, rows[c], &attempts[step[rows[c]]], c);
    }
    uint8_t fitted[QN_COLUMNS * BLOCK_BYTES_MAX];
    qn_encode_row_with(p->panel.search, p->t, p->targets, fitted, n_rows * p->len, p->weights);
    for (size_t c = 0; c < n_rows; c++) {
        size_t r = rows[c];
        const uint8_t *block = attempts[step[r]].weighing == PLAINLY ? p->plain + r * p->bytes : fitted + c * p->bytes;
        memcpy(p->encoded + r * p->bytes, block, p->bytes);
        take_grids(p, block, r);
    }
}

/* One block of sixteen rows into p->encoded. */
static void encode_block(block_panel *p, size_t first)
{
    float bound[QN_COLUMNS], strength[QN_COLUMNS], error[QN_COLUMNS];
    size_t step[QN_COLUMNS] = {0}, rows[QN_COLUMNS], n_rows = QN_COLUMNS;
    encode_plainly(p, first, bound);
    qn_panel_sum(&p->panel, first, p->len);
    for (size_t r = 0; r < QN_COLUMNS; r++) {
        rows[r] = r;
    }
    while (n_rows > 0) {
        fit_scales(p, first, step, rows, n_rows);
        for (size_t r = 0; r < QN_COLUMNS; r++) {
            strength[r] = attempts[step[r]].strength;
        }
        qn_panel_choose(&p->panel, first, p->len, strength, &p->grids, error);
        n_rows = 0;
        for (size_t r = 0; r < QN_COLUMNS; r++) {
            if (!(error[r] <= bound[r]) && step[r] + 1 < N_ATTEMPTS) { /* not a number is beyond it too */
                step[r]++;
                rows[n_rows++] = r;
            }
        }
    }
    for (size_t r = 0; r < QN_COLUMNS; r++) {
        int levels[QN_PANEL_BLOCK_MAX];
        for (size_t k = 0; k < p->len; k++) {
            levels[k] = (int)p->panel.levels[QN_COLUMNS * k + r];
        }
        qn_codes_get(p->t)(levels, p->encoded + r * p->bytes);
    }
}

size_t qn_feedback_scratch(size_t n)
{
    return qn_panel_floats(n) + 2 * QN_PANEL_BLOCK_FLOATS + 2 * QN_COLUMNS * BLOCK_BYTES_MAX / sizeof(float);
}

void qn_encode_blocks_feedback(qn_dtype t, const float *factor, const float *importance, const float *src, size_t n_rows, size_t n,
                               uint8_t *out, float *scratch)
{
    block_panel p = {.t = t, .len = qn_dtype_get(t)->block_size, .bytes = qn_dtype_get(t)->block_bytes};
    size_t row_bytes = n / p.len * p.bytes;
    qn_panel_init(&p.panel, factor, importance, n, scratch);
    p.targets = scratch + qn_panel_floats(n);
    p.weights = p.targets + QN_PANEL_BLOCK_FLOATS;
    p.encoded = (uint8_t *)(p.weights + QN_PANEL_BLOCK_FLOATS);
    p.plain = p.encoded + (size_t)QN_COLUMNS * BLOCK_BYTES_MAX;
    for (size_t row0 = 0; row0 < n_rows; row0 += QN_COLUMNS) {
        size_t here = n_rows - row0 < QN_COLUMNS ? n_rows - row0 : QN_COLUMNS;
        qn_panel_load(&p.panel, src + row0 * n, here);
        for (size_t r = 0; r < QN_COLUMNS; r++) {
            p.per_magnitude[r] = qn_importance_per_magnitude(t, src + (row0 + (r < here ? r : here - 1)) * n, n);
        }
        for (size_t b = 0; b < n / p.len; b++) {
            encode_block(&p, b * p.len);
            for (size_t r = 0; r < here; r++) {
                memcpy(out + (row0 + r) * row_bytes + b * p.bytes, p.encoded + r * p.bytes, p.bytes);
            }
        }
    }
}
