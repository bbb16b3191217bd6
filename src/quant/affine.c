/* affine.c - MLX affine quantization: w = scale * q + bias, with scale and bias per group of a row.
 *
 * Invariant: codes are one little-endian bit stream a row: element i occupies bits i*bits .. i*bits + bits - 1 of the packed words,
 * across byte and word borders.
 */
#include <string.h>

#include "base/half.h"
#include "quant/codec.h"

/* Scale or bias number i of an array of type sb. */
static float load_float(const void *values, qn_dtype sb, size_t i)
{
    const uint8_t *p = values;
    if (sb == QN_DTYPE_F32) {
        float f;
        memcpy(&f, p + 4 * i, sizeof f);
        return f;
    }
    uint16_t h;
    memcpy(&h, p + 2 * i, sizeof h);
    return sb == QN_DTYPE_F16 ? qn_f32_from_f16(h) : qn_f32_from_bf16(h);
}

void qn_unpack_affine(uint32_t bits, const uint32_t *packed, size_t first, size_t n, uint8_t *codes)
{
    const uint8_t *bytes = (const uint8_t *)packed;
    uint32_t mask = (1u << bits) - 1u;
    for (size_t i = 0; i < n; i++) {
        size_t bit = (first + i) * bits;
        uint32_t window = bytes[bit / 8];
        if (bit % 8 + bits > 8) { /* reads the next byte only where the code reaches into it */
            window |= (uint32_t)bytes[bit / 8 + 1] << 8;
        }
        codes[i] = (uint8_t)((window >> (bit % 8)) & mask);
    }
}

void qn_decode_affine_row(qn_affine a, const uint32_t *packed, const void *scales, const void *biases, qn_dtype sb, float *dst, size_t n)
{
    uint8_t codes[128];
    for (size_t g = 0; g * a.group < n; g++) {
        float scale = load_float(scales, sb, g);
        float bias = load_float(biases, sb, g);
        qn_unpack_affine(a.bits, packed, g * a.group, a.group, codes);
        float *out = dst + g * a.group;
        for (size_t j = 0; j < a.group; j++) {
            float product = scale * (float)codes[j];
            out[j] = product + bias;
        }
    }
}
