/* legacy.c - the types of 32 elements with one float16 scale (and min): Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
 *
 * Invariant: element i < 16 sits in the low nibble of byte i, element 16 + i in the high nibble; bit i of qh is bit 4 of
 * element i.
 */
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/codec_int.h"

enum { BLOCK = 32, HALF = 16 };

void qn_decode_q8_0(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        qn_block_q8_0 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t j = 0; j < BLOCK; j++) {
            dst[i + j] = (float)b.qs[j] * d;
        }
    }
}

void qn_decode_q4_0(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        qn_block_q4_0 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t j = 0; j < HALF; j++) {
            dst[i + j] = (float)((b.qs[j] & 15) - 8) * d;
            dst[i + HALF + j] = (float)((b.qs[j] >> 4) - 8) * d;
        }
    }
}

void qn_decode_q4_1(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        qn_block_q4_1 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        float m = qn_f32_from_f16(b.m);
        for (size_t j = 0; j < HALF; j++) {
            dst[i + j] = (float)(b.qs[j] & 15) * d + m;
            dst[i + HALF + j] = (float)(b.qs[j] >> 4) * d + m;
        }
    }
}

static uint32_t load_high_bits(const uint8_t qh[4])
{
    return (uint32_t)qh[0] | (uint32_t)qh[1] << 8 | (uint32_t)qh[2] << 16 | (uint32_t)qh[3] << 24;
}

void qn_decode_q5_0(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        qn_block_q5_0 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        uint32_t high = load_high_bits(b.qh);
        for (size_t j = 0; j < HALF; j++) {
            int low_code = (int)((b.qs[j] & 15u) | ((high >> j) & 1u) << 4);
            int high_code = (int)((uint32_t)(b.qs[j] >> 4) | ((high >> (j + HALF)) & 1u) << 4);
            dst[i + j] = (float)(low_code - 16) * d;
            dst[i + HALF + j] = (float)(high_code - 16) * d;
        }
    }
}

void qn_decode_q5_1(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        qn_block_q5_1 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        float m = qn_f32_from_f16(b.m);
        uint32_t high = load_high_bits(b.qh);
        for (size_t j = 0; j < HALF; j++) {
            uint32_t low_code = (b.qs[j] & 15u) | ((high >> j) & 1u) << 4;
            uint32_t high_code = (uint32_t)(b.qs[j] >> 4) | ((high >> (j + HALF)) & 1u) << 4;
            dst[i + j] = (float)low_code * d + m;
            dst[i + HALF + j] = (float)high_code * d + m;
        }
    }
}
