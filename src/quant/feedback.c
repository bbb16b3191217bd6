/* feedback.c - see feedback.h. Sixteen rows stand side by side, one a lane, so that their running sums are vectors; no lane sees another. */
#include "quant/feedback.h"

#include <math.h>
#include <string.h>

#include "quant/affine_fit.h"
#include "quant/codec_int.h"

/* ---- the factor ---- */

enum { FACTOR_ROWS = 16, FACTOR_TILE = 512 };

/* Subtracts from rows [first, end) what the finished rows from `end` on contribute: h[j][i] -= R_ik R_jk for k = end .. n - 1 in order. */
static void subtract_finished(float *h, size_t n, size_t first, size_t end)
{
    for (size_t tile = 0; tile < end; tile += FACTOR_TILE) {
        for (size_t k = end; k < n; k++) {
            const float *finished = h + k * n;
            for (size_t j = first; j < end; j++) {
                size_t stop = tile + FACTOR_TILE < j + 1 ? tile + FACTOR_TILE : j + 1;
                float factor = finished[j], *row = h + j * n;
                for (size_t i = tile; i < stop; i++) {
                    row[i] -= factor * finished[i];
                }
            }
        }
    }
}

/* Rows of one block, from its last on: the same sums, then divided by the root of the diagonal. */
static bool finish_rows(float *h, size_t n, size_t first, size_t end)
{
    for (size_t j = end; j-- > first;) {
        float *row = h + j * n;
        for (size_t k = j + 1; k < end; k++) {
            const float *finished = h + k * n;
            float factor = finished[j];
            for (size_t i = 0; i <= j; i++) {
                row[i] -= factor * finished[i];
            }
        }
        if (!(row[j] > 0) || !isfinite(row[j])) {
            return false;
        }
        float inverse = 1.0f / sqrtf(row[j]);
        for (size_t i = 0; i <= j; i++) {
            row[i] *= inverse;
        }
    }
    return true;
}

bool qn_feedback_factor(float *h, size_t n, float damping)
{
    double trace = 0;
    for (size_t j = 0; j < n; j++) {
        trace += (double)h[j * n + j];
    }
    if (!(trace > 0) || !isfinite(trace)) {
        return false;
    }
    double scale = (double)n / trace; /* the mean of the diagonal becomes 1 */
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i <= j; i++) {
            h[j * n + i] = (float)((double)h[j * n + i] * scale);
        }
        h[j * n + j] += damping;
    }
    for (size_t end = n; end > 0;) {
        size_t first = end > FACTOR_ROWS ? (end - 1) / FACTOR_ROWS * FACTOR_ROWS : 0;
        subtract_finished(h, n, first, end);
        if (!finish_rows(h, n, first, end)) {
            return false;
        }
        end = first;
    }
    for (size_t j = 0; j < n; j++) {
        float inverse = 1.0f / h[j * n + j];
        for (size_t i = 0; i < j; i++) {
            h[j * n + i] *= inverse;
        }
    }
    return true;
}

/* ---- encoding ---- */

/* Sixteen rows of a matrix while they are encoded, column-major: element c of row r is at [16 * c + r]. */
typedef struct panel {
    qn_affine a;
    qn_dtype sb;
    const qn_search *search;
    const float *factor, *importance;
    size_t n;
    float *x;                 /* (n, 16): the weights */
    float *error;             /* (n, 16): weight minus decoded, of the columns that are done */
    float (*sum)[QN_COLUMNS]; /* (group, 16): what the groups before this one ask of its columns */
    uint8_t *codes;           /* (group, 16) */
} panel;

size_t qn_feedback_scratch(size_t n) { return 2 * QN_COLUMNS * n + 2 * QN_COLUMNS * QN_COLUMN_BLOCK_MAX; }

/* sum[r] += factor[i] * error[i][r] over columns [begin, end), in order. */
static void add_errors(const float *factor, const float *error, size_t begin, size_t end, float sum[QN_COLUMNS])
{
    float s[QN_COLUMNS];
    memcpy(s, sum, sizeof s);
    for (size_t i = begin; i < end; i++) {
        const float *e = error + QN_COLUMNS * i, f = factor[i];
        for (size_t r = 0; r < QN_COLUMNS; r++) {
            s[r] += f * e[r];
        }
    }
    memcpy(sum, s, sizeof s);
}

/* Scale and bias of each row's group whose values (shifted by the sums, times strength) should be met. */
static void fit(const panel *p, size_t first, const float strength[QN_COLUMNS], bool plain, float stored[QN_COLUMNS][2])
{
    qn_columns cols;
    float blocks[QN_COLUMNS * QN_COLUMN_BLOCK_MAX], weights[QN_COLUMNS * QN_COLUMN_BLOCK_MAX];
    float unused_scale[QN_COLUMNS], unused_min[QN_COLUMNS];
    size_t group = p->a.group;
    for (size_t r = 0; r < QN_COLUMNS; r++) {
        for (size_t k = 0; k < group; k++) {
            blocks[r * group + k] = p->x[QN_COLUMNS * (first + k) + r] + strength[r] * p->sum[k][r];
            weights[r * group + k] = p->importance != NULL ? p->importance[first + k] : 1.0f;
        }
    }
    qn_columns_load(&cols, blocks, plain ? NULL : weights, group, QN_COLUMNS, 1, 0);
    qn_affine_fit(p->search, &cols, blocks, (float)((1u << p->a.bits) - 1u), p->sb, stored, unused_scale, unused_min);
}

/* Chooses the codes of a group in order of columns; out[r] is the plain squared error. */
static void choose_codes(panel *p, size_t first, const float strength[QN_COLUMNS], float stored[QN_COLUMNS][2], float out[QN_COLUMNS])
{
    float q_max = (float)((1u << p->a.bits) - 1u), inverse[QN_COLUMNS];
    for (size_t r = 0; r < QN_COLUMNS; r++) {
        inverse[r] = stored[r][0] != 0 ? 1.0f / stored[r][0] : 0;
        out[r] = 0;
    }
    for (size_t k = 0; k < p->a.group; k++) {
        float sum[QN_COLUMNS];
        const float *x = p->x + QN_COLUMNS * (first + k);
        float *error = p->error + QN_COLUMNS * (first + k);
        memcpy(sum, p->sum[k], sizeof sum);
        if (p->factor != NULL) {
            add_errors(p->factor + (first + k) * p->n, p->error, first, first + k, sum);
        }
        for (size_t r = 0; r < QN_COLUMNS; r++) {
            float q = rintf((x[r] + strength[r] * sum[r] - stored[r][1]) * inverse[r]);
            q = !(q > 0) ? 0 : q > q_max ? q_max : q; /* 0 too where a grid that overflowed makes it not a number */
            float product = stored[r][0] * q;
            error[r] = x[r] - (product + stored[r][1]);
            out[r] += error[r] * error[r];
            p->codes[QN_COLUMNS * k + r] = (uint8_t)q;
        }
    }
}

/* One group of sixteen rows. Where a row's error is beyond its bound, it is tried again with less of the feedback, at last with none. */
static void encode_group(panel *p, size_t first, float stored[QN_COLUMNS][2])
{
    static const float strengths[] = {1.0f, 0.75f, 0.5f, 0.25f, 0.0f};
    enum { N_STRENGTHS = sizeof strengths / sizeof strengths[0] };
    float bound[QN_COLUMNS], error[QN_COLUMNS], strength[QN_COLUMNS], group[QN_COLUMN_BLOCK_MAX], plain[QN_COLUMNS][2];
    size_t step[QN_COLUMNS] = {0};
    for (size_t r = 0; r < QN_COLUMNS; r++) {
        for (size_t k = 0; k < p->a.group; k++) {
            group[k] = p->x[QN_COLUMNS * (first + k) + r];
        }
        bound[r] = QN_FEEDBACK_BOUND * qn_affine_plain_error(p->a, group, p->sb);
        strength[r] = strengths[0];
    }
    for (size_t k = 0; k < p->a.group; k++) {
        memset(p->sum[k], 0, sizeof p->sum[k]);
        if (p->factor != NULL) {
            add_errors(p->factor + (first + k) * p->n, p->error, 0, first, p->sum[k]);
        }
    }
    for (bool again = true; again;) {
        again = false;
        fit(p, first, strength, false, stored);
        for (size_t r = 0; r < QN_COLUMNS; r++) {
            if (step[r] == N_STRENGTHS) { /* importance alone breaks the bound: the plain fit, which cannot */
                fit(p, first, strength, true, plain);
                memcpy(stored[r], plain[r], sizeof plain[r]);
            }
        }
        choose_codes(p, first, strength, stored, error);
        for (size_t r = 0; r < QN_COLUMNS; r++) {
            if (!(error[r] <= bound[r]) && step[r] < N_STRENGTHS) { /* not a number is beyond it too */
                step[r]++;
                strength[r] = step[r] < N_STRENGTHS ? strengths[step[r]] : 0.0f;
                again = true;
            }
        }
    }
}

static void encode_panel(panel *p, size_t n_rows, uint32_t *packed, void *scales, void *biases, size_t row0)
{
    size_t groups = p->n / p->a.group, row_words = p->n * p->a.bits / 32;
    for (size_t g = 0; g < groups; g++) {
        float stored[QN_COLUMNS][2];
        encode_group(p, g * p->a.group, stored);
        for (size_t r = 0; r < n_rows; r++) {
            uint8_t codes[QN_COLUMN_BLOCK_MAX];
            for (size_t k = 0; k < p->a.group; k++) {
                codes[k] = p->codes[QN_COLUMNS * k + r];
            }
            qn_affine_pack(p->a.bits, codes, p->a.group, packed + (row0 + r) * row_words + g * p->a.group * p->a.bits / 32);
            qn_affine_store(scales, p->sb, (row0 + r) * groups + g, stored[r][0]);
            qn_affine_store(biases, p->sb, (row0 + r) * groups + g, stored[r][1]);
        }
    }
}

void qn_encode_affine_feedback(qn_affine a, const float *factor, const float *importance, const float *src, size_t n_rows, size_t n,
                               uint32_t *packed, void *scales, void *biases, qn_dtype sb, float *scratch)
{
    panel p = {.a = a, .sb = sb, .search = qn_search_get(qn_isa_best()), .factor = factor, .importance = importance, .n = n, .x = scratch};
    p.error = p.x + QN_COLUMNS * n;
    p.sum = (float(*)[QN_COLUMNS])(p.error + QN_COLUMNS * n);
    p.codes = (uint8_t *)(p.sum + QN_COLUMN_BLOCK_MAX);
    for (size_t row0 = 0; row0 < n_rows; row0 += QN_COLUMNS) {
        size_t here = n_rows - row0 < QN_COLUMNS ? n_rows - row0 : QN_COLUMNS;
        for (size_t r = 0; r < QN_COLUMNS; r++) { /* lanes without a row repeat the last one */
            const float *row = src + (row0 + (r < here ? r : here - 1)) * n;
            for (size_t c = 0; c < n; c++) {
                p.x[QN_COLUMNS * c + r] = row[c];
            }
        }
        encode_panel(&p, here, packed, scales, biases, row0);
    }
}
