/* known_encoders.h - what encoders that are known exactly make of rows of the source, and whether a block of the output is that.
 *
 * Owns the reading of an output's scales in one form for all its storages. Stateless.
 */
#ifndef QN_GATE_KNOWN_ENCODERS_H
#define QN_GATE_KNOWN_ENCODERS_H

#include "gate/tensor_check.h"
#include "quant/sub_blocks.h"

/* Scales of block number b of row `row`, counted over all parts. */
void qn_known_scales(const qn_checked_tensor *t, uint64_t row, size_t b, qn_sub_blocks *s);
/* Half a unit in the last place of what stores scales, relative; 0 where scales are exact once stored (sub-block integers). */
double qn_known_scale_rounding(const qn_checked_tensor *t);
/* Whether the PLAIN encoder of the tensor's type is llama.cpp's search for scales (llama_encoder.h), and not plain encoding. */
bool qn_known_is_searched(const qn_checked_tensor *t);
/* Whether the encoder could have made the tensor. */
bool qn_known_may_be(const qn_checked_tensor *t, qn_encoder encoder);
/* Decoded values z of what the encoder (not RECODE) writes for whole blocks x. `bytes` holds the encoded rows: 4 bytes an element are enough for
 * every type. */
void qn_known_encode(const qn_checked_tensor *t, qn_encoder encoder, const float *x, size_t n, uint8_t *bytes, float *z);
/* Plain encoding of whole blocks of a quantized type. */
void qn_known_plain(const qn_checked_tensor *t, const float *x, float *z, size_t n);
bool qn_known_same(const float *a, const float *b, size_t n);
/* Whether what another compiler's arithmetic rounds otherwise explains a block y that is not the encoder's z. */
bool qn_known_explains(const qn_checked_tensor *t, const qn_sub_blocks *s, const float *x, const float *y, const float *z);
/* By how many steps y is farther from x than the nearest level of sub-block k is; 0 up to what the encoder's own float32 arithmetic leaves,
 * which is *slack. */
double qn_known_excess(const qn_sub_blocks *s, size_t k, float x, float y, double *slack);
/* x as the output's maker had it: what the weights went through, and in a folder of MLX the type of its scales. */
void qn_known_narrow(const qn_checked_tensor *t, float *x, size_t n);

#endif
