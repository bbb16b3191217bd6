/* affine_fit.h - the parts of the MLX affine encoder that its two forms share: codes nearest to the weights (affine.c), and codes chosen with
 * the error fed back (feedback.c). */
#ifndef QN_QUANT_AFFINE_FIT_H
#define QN_QUANT_AFFINE_FIT_H

#include "quant/columns.h"
#include "quant/dtype.h"

/* Scale and bias with the least weighted error of up to 16 groups: stored[j] has them in real units as type sb holds them, scale and min in
 * units of the column. src: the groups one behind the other, as loaded into cols. mlx's own choice is among the candidates. */
void qn_affine_fit(const qn_search *s, const qn_columns *cols, const float *src, float q_max, qn_dtype sb, float stored[QN_COLUMNS][2],
                   float scale[QN_COLUMNS], float min[QN_COLUMNS]);
/* Squared error of one group as qn_encode_affine_row stores it. */
float qn_affine_plain_error(qn_affine a, const float *x, qn_dtype sb);
/* Value number i of an array of scales or biases. */
void qn_affine_store(void *values, qn_dtype sb, size_t i, float f);
/* Writes the codes of a group (a multiple of 32 bits) behind one another. */
void qn_affine_pack(uint32_t bits, const uint8_t *codes, size_t n, uint32_t *words);

#endif
