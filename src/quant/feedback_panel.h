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
    const float *factor; /* NULL: nothing is fed back */
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
void qn_panel_init(qn_panel *p, const float *factor, size_t n, float *scratch);
/* Loads up to 16 rows of src; lanes without one repeat the last. */
void qn_panel_load(qn_panel *p, const float *src, size_t n_rows);
/* Fills p->sums for columns [first, first + len). */
void qn_panel_sum(qn_panel *p, size_t first, size_t len);
/* Chooses levels and errors of these columns, with `strength` of what is asked. squared: each row's sum of errors^2; loss: what the choice costs
 * the output, up to what is the same for every choice; NULL where it is not wanted. */
void qn_panel_choose(qn_panel *p, size_t first, size_t len, const float strength[QN_COLUMNS], const qn_panel_grids *g,
                     float squared[QN_COLUMNS], float loss[QN_COLUMNS]);

#endif
