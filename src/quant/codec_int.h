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

typedef void (*qn_decode_fn)(const uint8_t *src, float *dst, size_t n);

/* plain.c */
void qn_decode_f32(const uint8_t *src, float *dst, size_t n);
void qn_decode_f16(const uint8_t *src, float *dst, size_t n);
void qn_decode_bf16(const uint8_t *src, float *dst, size_t n);
void qn_decode_f64(const uint8_t *src, float *dst, size_t n);
void qn_decode_e4m3(const uint8_t *src, float *dst, size_t n);
void qn_decode_e5m2(const uint8_t *src, float *dst, size_t n);

/* legacy.c */
void qn_decode_q8_0(const uint8_t *src, float *dst, size_t n);
void qn_decode_q4_0(const uint8_t *src, float *dst, size_t n);
void qn_decode_q4_1(const uint8_t *src, float *dst, size_t n);
void qn_decode_q5_0(const uint8_t *src, float *dst, size_t n);
void qn_decode_q5_1(const uint8_t *src, float *dst, size_t n);

/* kquant_decode.c */
void qn_decode_q2_k(const uint8_t *src, float *dst, size_t n);
void qn_decode_q3_k(const uint8_t *src, float *dst, size_t n);
void qn_decode_q4_k(const uint8_t *src, float *dst, size_t n);
void qn_decode_q5_k(const uint8_t *src, float *dst, size_t n);
void qn_decode_q6_k(const uint8_t *src, float *dst, size_t n);

/* iquant.c */
void qn_decode_iq4_nl(const uint8_t *src, float *dst, size_t n);
void qn_decode_iq4_xs(const uint8_t *src, float *dst, size_t n);

/* ternary.c */
void qn_decode_tq1_0(const uint8_t *src, float *dst, size_t n);
void qn_decode_tq2_0(const uint8_t *src, float *dst, size_t n);

/* mxfp.c */
void qn_decode_mxfp4(const uint8_t *src, float *dst, size_t n);

#endif
