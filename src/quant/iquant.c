/* iquant.c - the four-bit types with uneven levels: IQ4_NL (one scale per 32) and IQ4_XS (6-bit scales under one float16).
 *
 * Invariant: codes index qn_iq4_levels, nibbles lie as in Q4_0 within each 32 elements.
 */
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/codec_int.h"

const int8_t qn_iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

void qn_decode_iq4_nl(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 32) {
        qn_block_iq4_nl b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t j = 0; j < 16; j++) {
            dst[i + j] = d * (float)qn_iq4_levels[b.qs[j] & 15];
            dst[i + 16 + j] = d * (float)qn_iq4_levels[b.qs[j] >> 4];
        }
    }
}

void qn_decode_iq4_xs(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_iq4_xs b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t s = 0; s < 8; s++) {
            int low = (b.scales_l[s / 2] >> (4 * (s % 2))) & 15;
            int high = (b.scales_h >> (2 * s)) & 3;
            float scale = d * (float)((low | high << 4) - 32);
            const uint8_t *q = b.qs + 16 * s;
            for (size_t j = 0; j < 16; j++) {
                dst[i + 32 * s + j] = scale * (float)qn_iq4_levels[q[j] & 15];
                dst[i + 32 * s + 16 + j] = scale * (float)qn_iq4_levels[q[j] >> 4];
            }
        }
    }
}
