/* codec.h - scalar decoders and encoders of every type: the definition that kernels and files are held to.
 *
 * Decoding gives the float32 values that the format defines, bit for bit (checked against goldens). */
#ifndef QN_QUANT_CODEC_H
#define QN_QUANT_CODEC_H

#include "quant/dtype.h"

/* Decodes n elements (whole blocks) of type t at src into dst. t must have a decoder: qn_decode_supported. */
bool qn_decode_supported(qn_dtype t);
void qn_decode_row(qn_dtype t, const void *src, float *dst, size_t n);

/* One 8-bit float: e4m3fn (bias 7, no infinity, 0x7f and 0xff NaN, largest 448) and e5m2 (bias 15, IEEE-like). */
float qn_f32_from_e4m3(uint8_t code);
float qn_f32_from_e5m2(uint8_t code);

/* Row number `row` of a matrix of e4m3 codes under a grid of factors: n codes at src, w = e4m3 * factor rounded once to float32. */
void qn_decode_fp8_row(const uint8_t *src, const qn_scale_grid *grid, size_t row, float *dst, size_t n);

/* Decodes n elements of an MLX affine row that starts at element 0: packed words, and scale/bias of type sb
 * (F32, F16 or BF16). w = scale*q + bias rounded as `scale*q` then `+ bias` in float32. n is a multiple of the group. */
void qn_decode_affine_row(qn_affine a, const uint32_t *packed, const void *scales, const void *biases, qn_dtype sb, float *dst, size_t n);
/* The integer codes of elements [first, first+n) of such a row. */
void qn_unpack_affine(uint32_t bits, const uint32_t *packed, size_t first, size_t n, uint8_t *codes);

/* Encodes n elements (whole blocks) into dst. `importance` (n weights >= 0, one a column) may be NULL.
 * Rows must be finite: qn_find_non_finite first. */
bool qn_encode_supported(qn_dtype t);
void qn_encode_row(qn_dtype t, const float *src, void *dst, size_t n, const float *importance);
/* MLX affine; writes packed words, and scales and biases as type sb (F32, F16, BF16). The first is mlx's own choice from the least and
 * greatest value, reproduced exactly; the second searches for the least error of what is stored and never does worse. */
void qn_encode_affine_row(qn_affine a, const float *src, uint32_t *packed, void *scales, void *biases, qn_dtype sb, size_t n);
void qn_encode_affine_row_fitted(qn_affine a, const float *src, uint32_t *packed, void *scales, void *biases, qn_dtype sb, size_t n,
                                 const float *importance);

/* MXFP4 as MLX stores it: codes of 4 bits, the first in the lowest bits of a little-endian word, and one e8m0 scale per 32; n is a multiple
 * of 32. (GGUF's blocks of the same values: QN_DTYPE_MXFP4 above.) */
void qn_encode_mxfp4_row(const float *src, uint8_t *packed, uint8_t *scales, size_t n, const float *importance);
void qn_decode_mxfp4_row(const uint8_t *packed, const uint8_t *scales, float *dst, size_t n);
/* The same codes and scales as GGUF's blocks: n / 32 of QN_DTYPE_MXFP4 at dst. */
void qn_mxfp4_row_to_blocks(const uint8_t *packed, const uint8_t *scales, void *dst, size_t n);
void qn_mxfp4_blocks_to_row(const void *src, uint8_t *packed, uint8_t *scales, size_t n);

/* Index of the first NaN or infinity, or n if there is none. */
size_t qn_find_non_finite(const float *v, size_t n);

#endif
