/* ternary.c - weights -d, 0, d: TQ2_0 (two bits each) and TQ1_0 (five trits a byte).
 *
 * A byte of TQ1_0 holds t0*81 + t1*27 + t2*9 + t3*3 + t4 as the fixed-point fraction ceil(value * 256 / 243): multiplying it by
 * 3^k modulo 256 brings trit k to the top, where (byte * 3) >> 8 reads it. Elements of a block of 256:
 *
 *   qs[0..31]   elements 32k + m   (k = trit 0..4, m = byte)          160
 *   qs[32..47]  elements 160 + 16k + m                                80
 *   qh[0..3]    elements 240 + 4k + m (k = 0..3; the fifth trit is 0) 16
 */
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/codec_int.h"

static const uint8_t power_of_three[5] = {1, 3, 9, 27, 81};

/* Trits of `n_bytes` bytes, `n_trits` of each, into n_bytes * n_trits floats. */
static void decode_trits(const uint8_t *bytes, size_t n_bytes, size_t n_trits, float d, float *dst)
{
    for (size_t k = 0; k < n_trits; k++) {
        for (size_t m = 0; m < n_bytes; m++) {
            uint8_t shifted = (uint8_t)(bytes[m] * power_of_three[k]);
            int trit = (shifted * 3) >> 8;
            dst[k * n_bytes + m] = (float)(trit - 1) * d;
        }
    }
}

void qn_decode_tq1_0(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_tq1_0 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        decode_trits(b.qs, 32, 5, d, dst + i);
        decode_trits(b.qs + 32, 16, 5, d, dst + i + 160);
        decode_trits(b.qh, 4, 4, d, dst + i + 240);
    }
}

void qn_decode_tq2_0(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_tq2_0 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t e = 0; e < QN_K; e++) {
            int code = (b.qs[32 * (e / 128) + e % 32] >> (2 * ((e / 32) % 4))) & 3;
            dst[i + e] = (float)(code - 1) * d;
        }
    }
}
