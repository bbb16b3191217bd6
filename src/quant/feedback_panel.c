/* feedback_panel.c - see feedback_panel.h. */
#include "quant/feedback_panel.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 16 }; /* columns whose sums over all before them are taken together */

size_t qn_panel_floats(size_t n) { return 2 * QN_COLUMNS * n + 2 * QN_PANEL_BLOCK_FLOATS; }

void qn_panel_init(qn_panel *p, const float *factor, const float *importance, size_t n, float *scratch)
{
    *p = (qn_panel){.search = qn_search_get(qn_isa_best()), .factor = factor, .importance = importance, .n = n, .x = scratch};
    p->error = p->x + QN_COLUMNS * n;
    p->sums = p->error + QN_COLUMNS * n;
    p->levels = p->sums + QN_PANEL_BLOCK_FLOATS;
}

void qn_panel_load(qn_panel *p, const float *src, size_t n_rows)
{
    for (size_t r = 0; r < QN_COLUMNS; r++) {
        const float *row = src + (r < n_rows ? r : n_rows - 1) * p->n;
        for (size_t c = 0; c < p->n; c++) {
            p->x[QN_COLUMNS * c + r] = row[c];
        }
    }
}

float qn_panel_weight(const qn_panel *p, size_t column)
{
    if (p->factor != NULL) {
        float diagonal = p->factor[column * p->n + column];
        return diagonal * diagonal;
    }
    return p->importance != NULL ? p->importance[column] : 1.0f;
}

void qn_panel_sum(qn_panel *p, size_t first, size_t len)
{
    memset(p->sums, 0, QN_COLUMNS * len * sizeof *p->sums);
    if (p->factor != NULL) {
        p->search->feedback_sums(p->factor + first * p->n, p->n, len, p->error, 0, first, p->sums);
    }
}

float qn_panel_wish(const qn_panel *p, size_t first, size_t k, size_t r, float strength)
{
    float x = p->x[QN_COLUMNS * (first + k) + r], wish = x + strength * p->sums[QN_COLUMNS * k + r];
    return isfinite(wish) ? wish : x;
}

void qn_panel_choose(qn_panel *p, size_t first, size_t len, const float strength[QN_COLUMNS], const qn_panel_grids *g,
                     float squared[QN_COLUMNS])
{
    float sums[QN_COLUMNS * CHUNK], inverse[QN_COLUMNS];
    memset(squared, 0, QN_COLUMNS * sizeof *squared);
    for (size_t k = 0; k < len; k += CHUNK) {
        const float *scale = g->scale[k / g->len], *offset = g->offset[k / g->len];
        const float *factor = p->factor != NULL ? p->factor + (first + k) * p->n : NULL;
        for (size_t r = 0; r < QN_COLUMNS; r++) {
            inverse[r] = scale[r] != 0 ? 1.0f / scale[r] : 0;
        }
        memcpy(sums, p->sums + QN_COLUMNS * k, sizeof sums);
        if (factor != NULL) {
            p->search->feedback_sums(factor, p->n, CHUNK, p->error, first, first + k, sums);
        }
        const qn_feedback_columns c = {.x = p->x + QN_COLUMNS * (first + k),
                                       .factor = factor != NULL ? factor + first + k : NULL,
                                       .stride = p->n,
                                       .n = CHUNK,
                                       .sums = sums,
                                       .strength = strength,
                                       .scale = scale,
                                       .inverse = inverse,
                                       .offset = offset,
                                       .set = g->set,
                                       .error = p->error + QN_COLUMNS * (first + k),
                                       .levels = p->levels + QN_COLUMNS * k,
                                       .squared = squared};
        p->search->feedback_codes(&c);
    }
}
