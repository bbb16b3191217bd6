/* mxfp.c - MXFP4: 32 values of e2m1 under a scale that is a power of two (e8m0). OCP Microscaling Formats 1.0.
 *
 * Invariant: value = fp4 * 2^(e - 127). The table holds doubled values, so the scale used is 2^(e - 128), which needs float32
 * subnormals for e = 0 and 1. Element i < 16 sits in the low nibble of byte i, element 16 + i in the high one (GGUF's order).
 */
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/codec_int.h"

const int8_t qn_fp4_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

float qn_e8m0_half(uint8_t e) { return qn_f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

void qn_decode_mxfp4(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 32) {
        qn_block_mxfp4 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_e8m0_half(b.e);
        for (size_t j = 0; j < 16; j++) {
            dst[i + j] = (float)qn_fp4_doubled[b.qs[j] & 15] * d;
            dst[i + 16 + j] = (float)qn_fp4_doubled[b.qs[j] >> 4] * d;
        }
    }
}
