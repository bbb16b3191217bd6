/* codec.c - one table each: which function decodes and which encodes a type.
 *
 * Owns the dispatch and the check for finite values; the arithmetic is in the files named in codec_int.h.
 */
#include "quant/codec.h"

#include "base/half.h"
#include "quant/codec_int.h"

static const qn_decode_fn decoders[QN_DTYPE_COUNT] = {
    [QN_DTYPE_F32] = qn_decode_f32,     [QN_DTYPE_F16] = qn_decode_f16,       [QN_DTYPE_BF16] = qn_decode_bf16,
    [QN_DTYPE_F64] = qn_decode_f64,     [QN_DTYPE_F8_E4M3] = qn_decode_e4m3,  [QN_DTYPE_F8_E5M2] = qn_decode_e5m2,
    [QN_DTYPE_Q8_0] = qn_decode_q8_0,   [QN_DTYPE_Q4_0] = qn_decode_q4_0,     [QN_DTYPE_Q4_1] = qn_decode_q4_1,
    [QN_DTYPE_Q5_0] = qn_decode_q5_0,   [QN_DTYPE_Q5_1] = qn_decode_q5_1,     [QN_DTYPE_Q2_K] = qn_decode_q2_k,
    [QN_DTYPE_Q3_K] = qn_decode_q3_k,   [QN_DTYPE_Q4_K] = qn_decode_q4_k,     [QN_DTYPE_Q5_K] = qn_decode_q5_k,
    [QN_DTYPE_Q6_K] = qn_decode_q6_k,   [QN_DTYPE_IQ4_NL] = qn_decode_iq4_nl, [QN_DTYPE_IQ4_XS] = qn_decode_iq4_xs,
    [QN_DTYPE_TQ1_0] = qn_decode_tq1_0, [QN_DTYPE_TQ2_0] = qn_decode_tq2_0,   [QN_DTYPE_MXFP4] = qn_decode_mxfp4,
};

static const qn_encode_fn encoders[QN_DTYPE_COUNT] = {
    [QN_DTYPE_F32] = qn_encode_f32,     [QN_DTYPE_F16] = qn_encode_f16,       [QN_DTYPE_BF16] = qn_encode_bf16,
    [QN_DTYPE_Q8_0] = qn_encode_q8_0,   [QN_DTYPE_Q4_0] = qn_encode_q4_0,     [QN_DTYPE_Q4_1] = qn_encode_q4_1,
    [QN_DTYPE_Q5_0] = qn_encode_q5_0,   [QN_DTYPE_Q5_1] = qn_encode_q5_1,     [QN_DTYPE_Q2_K] = qn_encode_q2_k,
    [QN_DTYPE_Q3_K] = qn_encode_q3_k,   [QN_DTYPE_Q4_K] = qn_encode_q4_k,     [QN_DTYPE_Q5_K] = qn_encode_q5_k,
    [QN_DTYPE_Q6_K] = qn_encode_q6_k,   [QN_DTYPE_IQ4_NL] = qn_encode_iq4_nl, [QN_DTYPE_IQ4_XS] = qn_encode_iq4_xs,
    [QN_DTYPE_TQ1_0] = qn_encode_tq1_0, [QN_DTYPE_TQ2_0] = qn_encode_tq2_0,   [QN_DTYPE_MXFP4] = qn_encode_mxfp4,
};

bool qn_decode_supported(qn_dtype t) { return t < QN_DTYPE_COUNT && decoders[t] != NULL; }

void qn_decode_row(qn_dtype t, const void *src, float *dst, size_t n) { decoders[t](src, dst, n); }

bool qn_encode_supported(qn_dtype t) { return t < QN_DTYPE_COUNT && encoders[t] != NULL; }

void qn_encode_row_with(const qn_search *s, qn_dtype t, const float *src, void *dst, size_t n, const float *importance)
{
    encoders[t](s, src, dst, n, importance);
}

void qn_encode_row(qn_dtype t, const float *src, void *dst, size_t n, const float *importance)
{
    encoders[t](qn_search_get(qn_isa_best()), src, dst, n, importance);
}

size_t qn_find_non_finite(const float *v, size_t n)
{
    enum { STRIDE = 64 };
    size_t i = 0;
    for (; i + STRIDE <= n; i += STRIDE) { /* no early exit inside the stride, so that it vectorises */
        uint32_t bad = 0;
        for (size_t j = 0; j < STRIDE; j++) {
            bad |= (qn_f32_to_bits(v[i + j]) & 0x7f800000u) == 0x7f800000u;
        }
        if (bad != 0) {
            break;
        }
    }
    for (; i < n; i++) {
        if ((qn_f32_to_bits(v[i]) & 0x7f800000u) == 0x7f800000u) {
            return i;
        }
    }
    return n;
}
