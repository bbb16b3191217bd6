/* feedback_affine.c - groups of MLX with the error fed back. See feedback.h and feedback_panel.h. */
#include <string.h>

#include "quant/affine_fit.h"
#include "quant/feedback.h"
#include "quant/feedback_panel.h"

/* Sixteen rows. */
typedef struct affine_panel {
    qn_panel panel;
    qn_affine a;
    qn_dtype sb;
} affine_panel;

/* Scale and bias of each row's group whose values (shifted by the sums, times strength) should be met. */
static void fit(const affine_panel *p, size_t first, const float strength[QN_COLUMNS], bool plain, float stored[QN_COLUMNS][2])
{
    qn_columns cols;
    float blocks[QN_COLUMNS * QN_COLUMN_BLOCK_MAX], weights[QN_COLUMNS * QN_COLUMN_BLOCK_MAX];
    float unused_scale[QN_COLUMNS], unused_min[QN_COLUMNS];
    size_t group = p->a.group;
    for (size_t k = 0; k < group; k++) {
        float weight = qn_panel_weight(&p->panel, first + k);
        for (size_t r = 0; r < QN_COLUMNS; r++) {
            blocks[r * group + k] = qn_panel_wish(&p->panel, first, k, r, strength[r]);
            weights[r * group + k] = weight;
        }
    }
    qn_columns_load(&cols, blocks, plain ? NULL : weights, group, QN_COLUMNS, 1, 0);
    qn_affine_fit(p->panel.search, &cols, blocks, (float)((1u << p->a.bits) - 1u), p->sb, stored, unused_scale, unused_min);
}

/* Chooses the codes of a group in order of columns; out[r] is the plain squared error. */
static void choose_codes(affine_panel *p, size_t first, const float strength[QN_COLUMNS], float stored[QN_COLUMNS][2],
                         float out[QN_COLUMNS])
{
    qn_panel_grids g = {.len = p->a.group, .set = {QN_LEVELS_INTEGER, 0, (float)((1u << p->a.bits) - 1u)}};
    for (size_t r = 0; r < QN_COLUMNS; r++) {
        g.scale[0][r] = stored[r][0];
        g.offset[0][r] = stored[r][1];
    }
    qn_panel_choose(&p->panel, first, p->a.group, strength, &g, out);
}

/* One group of sixteen rows. Where a row's error is beyond its bound, it is tried again with less of the feedback, at last with none. */
static void encode_group(affine_panel *p, size_t first, float stored[QN_COLUMNS][2])
{
    static const float strengths[] = {1.0f, 0.75f, 0.5f, 0.25f, 0.0f};
    enum { N_STRENGTHS = sizeof strengths / sizeof strengths[0] };
    float bound[QN_COLUMNS], error[QN_COLUMNS], strength[QN_COLUMNS], group[QN_COLUMN_BLOCK_MAX], plain[QN_COLUMNS][2];
    size_t step[QN_COLUMNS] = {0};
    for (size_t r = 0; r < QN_COLUMNS; r++) {
        for (size_t k = 0; k < p->a.group; k++) {
            group[k] = p->panel.x[QN_COLUMNS * (first + k) + r];
        }
        bound[r] = QN_FEEDBACK_BOUND * qn_affine_plain_error(p->a, group, p->sb);
        strength[r] = strengths[0];
    }
    qn_panel_sum(&p->panel, first, p->a.group);
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

static void encode_panel(affine_panel *p, size_t n_rows, uint32_t *packed, void *scales, void *biases, size_t row0)
{
    size_t groups = p->panel.n / p->a.group, row_words = p->panel.n * p->a.bits / 32;
    for (size_t g = 0; g < groups; g++) {
        float stored[QN_COLUMNS][2];
        encode_group(p, g * p->a.group, stored);
        for (size_t r = 0; r < n_rows; r++) {
            uint8_t codes[QN_COLUMN_BLOCK_MAX];
            for (size_t k = 0; k < p->a.group; k++) {
                codes[k] = (uint8_t)p->panel.levels[QN_COLUMNS * k + r];
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
    affine_panel p = {.a = a, .sb = sb};
    qn_panel_init(&p.panel, factor, importance, n, scratch);
    for (size_t row0 = 0; row0 < n_rows; row0 += QN_COLUMNS) {
        size_t here = n_rows - row0 < QN_COLUMNS ? n_rows - row0 : QN_COLUMNS;
        qn_panel_load(&p.panel, src + row0 * n, here);
        encode_panel(&p, here, packed, scales, biases, row0);
    }
}
