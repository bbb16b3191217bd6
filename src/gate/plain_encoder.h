/* plain_encoder.h - what a straightforward encoder makes of a block: scales from the least and greatest value (or the greatest magnitude),
 * rounded as the format stores them, and every value rounded to the nearest code.
 *
 * The measure that an output's blocks are held to. For Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, TQ1_0, TQ2_0, MXFP4 and MLX affine it is also exactly what
 * llama.cpp and mlx-lm write without an importance matrix (for the other types: llama_encoder.h). Does not pack: it gives the values that a decoder would see.
 */
#ifndef QN_GATE_PLAIN_ENCODER_H
#define QN_GATE_PLAIN_ENCODER_H

#include "quant/dtype.h"

/* y = the decoded values of x (n elements, whole blocks) in a GGUF type. */
void qn_plain_blocks(qn_dtype t, const float *x, float *y, size_t n);
/* The same for MLX affine with scales of type sb; whole groups. */
void qn_plain_affine(qn_affine a, qn_dtype sb, const float *x, float *y, size_t n);
/* MXFP4 as mlx chooses its exponent: the power of two at or above greatest / 6 (on processors), or the nearest one by logarithm (`nearest`; its
 * kernels for Metal). Blocks of 32. */
void qn_plain_mlx_mxfp4(const float *x, float *y, size_t n, bool nearest);

#endif
