/* kquant_decode.c - Q2_K to Q6_K back to float32. Layouts: blocks.h.
 *
 * Invariant: the sub-block scale is rounded to float32 first (d * scale), then multiplied with the code, then the rounded min is
 * subtracted: the order of operations that defines the values bit for bit.
 */
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/codec_int.h"
#include "quant/kquant_pack.h"

void qn_decode_q2_k(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_q2_k b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        float dmin = qn_f32_from_f16(b.dmin);
        for (size_t s = 0; s < 16; s++) { /* sub-block of 16 */
            const uint8_t *q = b.qs + 32 * (s / 8) + 16 * (s % 2);
            uint32_t shift = 2u * ((uint32_t)(s / 2) % 4u);
            float scale = d * (float)(b.scales[s] & 15);
            float min = dmin * (float)(b.scales[s] >> 4);
            for (size_t l = 0; l < 16; l++) {
                dst[i + 16 * s + l] = scale * (float)((q[l] >> shift) & 3) - min;
            }
        }
    }
}

void qn_decode_q3_k(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_q3_k b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        int8_t scales[16];
        qn_q3_k_unpack_scales(b.scales, scales);
        for (size_t s = 0; s < 16; s++) {
            const uint8_t *q = b.qs + 32 * (s / 8) + 16 * (s % 2);
            const uint8_t *high = b.hmask + 16 * (s % 2);
            uint32_t shift = 2u * ((uint32_t)(s / 2) % 4u);
            uint32_t high_bit = (uint32_t)(s / 2);
            float scale = d * (float)scales[s];
            for (size_t l = 0; l < 16; l++) {
                int code = ((q[l] >> shift) & 3) - (((high[l] >> high_bit) & 1) != 0 ? 0 : 4);
                dst[i + 16 * s + l] = scale * (float)code;
            }
        }
    }
}

void qn_decode_q4_k(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_q4_k b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        float dmin = qn_f32_from_f16(b.dmin);
        for (size_t s = 0; s < 8; s++) { /* sub-block of 32 */
            const uint8_t *q = b.qs + 32 * (s / 2);
            uint32_t shift = 4u * (uint32_t)(s % 2);
            uint8_t sc;
            uint8_t m;
            qn_k4_scale_min(b.scales, (int)s, &sc, &m);
            float scale = d * (float)sc;
            float min = dmin * (float)m;
            for (size_t l = 0; l < 32; l++) {
                dst[i + 32 * s + l] = scale * (float)((q[l] >> shift) & 15) - min;
            }
        }
    }
}

void qn_decode_q5_k(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_q5_k b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        float dmin = qn_f32_from_f16(b.dmin);
        for (size_t s = 0; s < 8; s++) {
            const uint8_t *q = b.qs + 32 * (s / 2);
            uint32_t shift = 4u * (uint32_t)(s % 2);
            uint8_t sc;
            uint8_t m;
            qn_k4_scale_min(b.scales, (int)s, &sc, &m);
            float scale = d * (float)sc;
            float min = dmin * (float)m;
            for (size_t l = 0; l < 32; l++) {
                int code = ((q[l] >> shift) & 15) | ((b.qh[l] >> s) & 1) << 4;
                dst[i + 32 * s + l] = scale * (float)code - min;
            }
        }
    }
}

void qn_decode_q6_k(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_q6_k b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t s = 0; s < 16; s++) {
            size_t half = s / 8;
            size_t within = s % 8; /* sub-block of 16 inside the half of 128 */
            const uint8_t *low = b.ql + 64 * half + 16 * (within % 4);
            const uint8_t *high = b.qh + 32 * half + 16 * (within % 2);
            uint32_t low_shift = 4u * (uint32_t)(within / 4);
            uint32_t high_shift = 2u * (uint32_t)(within / 2);
            float scale = d * (float)b.scales[s];
            for (size_t l = 0; l < 16; l++) {
                int code = ((low[l] >> low_shift) & 15) | ((high[l] >> high_shift) & 3) << 4;
                dst[i + 16 * s + l] = scale * (float)(code - 32);
            }
        }
    }
}
