/* feedback_panel.h - sixteen rows of a matrix while their codes are chosen column by column: what the forms of feedback share (feedback_affine.c,
 * feedback_blocks.c). See feedback.h for the method.
 *
 * Element c of row r lies at [16 * c + r]. Invariant: no row sees another; sums run over columns in ascending order, however they are cut.
 */
#ifndef QN_QUANT_FEEDBACK_PANEL_H
#define QN_QUANT_FEEDBACK_PANEL_H

#include "quant/search.h"

enum { QN_PANEL_BLOCK_MAX = 256, QN_PANEL_GRIDS_MAX = 16, QN_PANEL_BLOCK_FLOATS = QN_COLUMNS * QN_PANEL_BLOCK_MAX };

typedef struct qn_panel {
    const qn_search *search;
    const float *factor;     /* NULL: nothing is fed back */
    const float *importance; /* (n): what columns count without a factor; may be NULL */
    size_t n;
    float *x;      /* (n, 16): the weights */
    float *error;  /* (n, 16): weight minus decoded, of the columns that are done */
    float *sums;   /* (block, 16): what the columns before the block ask of its columns */
    float *levels; /* (block, 16) */
} qn_panel;

/* What the rows' values in a block can be: scale * level + offset, a scale and an offset for each run of `len` columns (a multiple of 16). */
typedef struct qn_panel_grids {
    size_t len;
    qn_level_set set;
    float scale[QN_PANEL_GRIDS_MAX][QN_COLUMNS], offset[QN_PANEL_GRIDS_MAX][QN_COLUMNS];
} qn_panel_grids;

/* Floats that qn_panel_init takes of its scratch; a multiple of 16. */
size_t qn_panel_floats(size_t n);
void qn_panel_init(qn_panel *p, const float *factor, const float *importance, size_t n, float *scratch);
/* Loads up to 16 rows of src; lanes without one repeat the last. */
void qn_panel_load(qn_panel *p, const float *src, size_t n_rows);
/* What an error against the wish in a column costs: R_jj^2, which is what no column behind it can take up; without a factor its importance. */
float qn_panel_weight(const qn_panel *p, size_t column);
/* Fills p->sums for columns [first, first + len). */
void qn_panel_sum(qn_panel *p, size_t first, size_t len);
/* What row r's value in column first + k should be met by, as far as the columns before the block ask for it; always finite. */
float qn_panel_wish(const qn_panel *p, size_t first, size_t k, size_t r, float strength);
/* Chooses levels and errors of these columns, with `strength` of what is asked. squared: each row's sum of errors^2. */
void qn_panel_choose(qn_panel *p, size_t first, size_t len, const float strength[QN_COLUMNS], const qn_panel_grids *g,
                     float squared[QN_COLUMNS]);

#endif
