/* codec_int.h - what the codec files share: one decoder and one encoder a type, called by codec.c only after it has
 * checked type and block count.
 *
 * Sources may lie at any address (a mapped file gives no alignment), so blocks are copied out before their fields are
 * read. n is always a whole number of blocks.
 */
#ifndef QN_QUANT_CODEC_INT_H
#define QN_QUANT_CODEC_INT_H

#include <stddef.h>
#include <stdint.h>

#include "quant/dtype.h"
#include "quant/search.h"

typedef void (*qn_decode_fn)(const uint8_t *src, float *dst, size_t n);
/* importance: NULL or one weight an element. */
typedef void (*qn_encode_fn)(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);

/* qn_encode_row with a chosen form of the search, for tests of their equality. */
void qn_encode_row_with(const qn_search *s, qn_dtype t, const float *src, void *dst, size_t n, const float *importance);

/* plain.c */
void qn_decode_f32(const uint8_t *src, float *dst, size_t n);
void qn_decode_f16(const uint8_t *src, float *dst, size_t n);
void qn_decode_bf16(const uint8_t *src, float *dst, size_t n);
void qn_decode_f64(const uint8_t *src, float *dst, size_t n);
void qn_decode_e4m3(const uint8_t *src, float *dst, size_t n);
void qn_decode_e5m2(const uint8_t *src, float *dst, size_t n);
void qn_encode_f32(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_f16(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_bf16(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);

/* legacy.c */
void qn_decode_q8_0(const uint8_t *src, float *dst, size_t n);
void qn_decode_q4_0(const uint8_t *src, float *dst, size_t n);
void qn_decode_q4_1(const uint8_t *src, float *dst, size_t n);
void qn_decode_q5_0(const uint8_t *src, float *dst, size_t n);
void qn_decode_q5_1(const uint8_t *src, float *dst, size_t n);
void qn_encode_q8_0(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_q4_0(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_q4_1(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_q5_0(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_q5_1(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);

/* kquant_decode.c */
void qn_decode_q2_k(const uint8_t *src, float *dst, size_t n);
void qn_decode_q3_k(const uint8_t *src, float *dst, size_t n);
void qn_decode_q4_k(const uint8_t *src, float *dst, size_t n);
void qn_decode_q5_k(const uint8_t *src, float *dst, size_t n);
void qn_decode_q6_k(const uint8_t *src, float *dst, size_t n);

/* kquant_encode.c */
void qn_encode_q2_k(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_q3_k(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_q4_k(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_q5_k(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_q6_k(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_iq4_xs(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);

/* iquant.c */
void qn_decode_iq4_nl(const uint8_t *src, float *dst, size_t n);
void qn_decode_iq4_xs(const uint8_t *src, float *dst, size_t n);
void qn_encode_iq4_nl(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);

/* ternary.c */
void qn_decode_tq1_0(const uint8_t *src, float *dst, size_t n);
void qn_decode_tq2_0(const uint8_t *src, float *dst, size_t n);
void qn_encode_tq1_0(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);
void qn_encode_tq2_0(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);

/* mxfp.c */
void qn_decode_mxfp4(const uint8_t *src, float *dst, size_t n);
void qn_encode_mxfp4(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance);

#endif
