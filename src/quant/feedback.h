/* feedback.h - rows whose codes take up the errors of the codes before them, so that a matrix's output changes least.
 *
 * For inputs with second moments H = sum x x^T the squared change of a row's output is e H e^T, e = w - decoded. With H = R R^T, R upper
 * triangular, that is the sum over columns j of (R_jj (e_j + sum_{i<j} e_i R_ij / R_jj))^2, so column j, once the columns before it are fixed,
 * should decode to w_j + sum_{i<j} e_i R_ij / R_jj: the order-by-column rounding of GPTQ (arXiv 2210.17323), in the form that QuIP
 * (arXiv 2307.13304, "LDLQ") shows to be the same.
 *
 * Invariant: the plain squared error of a block is at most QN_FEEDBACK_BOUND times that of mlx's own choice (qn_encode_affine_row), for
 * GGUF's types of what qn_encode_row makes of it without importance.
 */
#ifndef QN_QUANT_FEEDBACK_H
#define QN_QUANT_FEEDBACK_H

#include <stdbool.h>

#include "quant/dtype.h"

#define QN_FEEDBACK_BOUND 1.2f

/* In place: h (n, n) holds second moments, element [j][i] with i <= j; afterwards element [j][i], i < j, is R_ij / R_jj, and [j][j] is R_jj. damping
 * is added to the diagonal, in units of its mean. False if that does not make h positive definite, or h holds what is not finite. */
bool qn_feedback_factor(float *h, size_t n, float damping);

/* Floats of scratch that the encoders below need for rows of n. */
size_t qn_feedback_scratch(size_t n);
/* Rows of src (n_rows, n) as qn_encode_affine_row_fitted writes them, row after row in each stream. factor: qn_feedback_factor's, (n, n); scales
 * and biases are fitted with the weights R_jj^2, which is what an error of column j costs once the columns behind it took up what they can. NULL:
 * nothing is fed back, the codes are the nearest, importance (n, or NULL) weighs, and the bound is kept. A row's bytes depend on that row alone.
 * scratch: 64-byte aligned. */
void qn_encode_affine_feedback(qn_affine a, const float *factor, const float *importance, const float *src, size_t n_rows, size_t n,
                               uint32_t *packed, void *scales, void *biases, qn_dtype sb, float *scratch);

/* The same for GGUF's types, whole blocks, laid out as qn_encode_row writes them. */
bool qn_feedback_supports(qn_dtype t);
void qn_encode_blocks_feedback(qn_dtype t, const float *factor, const float *importance, const float *src, size_t n_rows, size_t n,
                               uint8_t *out, float *scratch);

/* What the error of a weight x is weighted by in type t. At two and three bits importance alone makes text unlike the calibration text worse than
 * it was: its square root, with large values weighing more as without calibration, serves both (docs/formats.md has the figures).
 * per_magnitude: of the row. */
float qn_importance_per_magnitude(qn_dtype t, const float *x, size_t n);
float qn_importance_weight(qn_dtype t, float importance, float x, float per_magnitude);

#endif
