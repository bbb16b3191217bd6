/* plain.c - the types of one element: floats of 64, 32, 16 and 8 bits to float32.
 *
 * Does not own float16 and bfloat16 arithmetic (base/half.h). Invariant: every widening is exact; float64 rounds to nearest.
 */
#include <string.h>

#include "base/half.h"
#include "quant/codec.h"
#include "quant/codec_int.h"

/* A value of 8 bits with `mantissa_bits` bits of mantissa and the exponent bias `bias`; not for special codes. */
static float f8_value(uint8_t code, uint32_t mantissa_bits, int bias)
{
    uint32_t mantissa = code & ((1u << mantissa_bits) - 1u);
    uint32_t exponent = (uint32_t)(code & 0x7fu) >> mantissa_bits;
    uint32_t sign = (uint32_t)(code & 0x80u) << 24;
    if (exponent == 0) { /* zero and subnormals: mantissa * 2^(1 - bias - mantissa_bits) */
        float unit = qn_f32_from_bits((uint32_t)(128 - bias - (int)mantissa_bits) << 23);
        return qn_f32_from_bits(sign | qn_f32_to_bits((float)mantissa * unit));
    }
    return qn_f32_from_bits(sign | ((uint32_t)((int)exponent + 127 - bias) << 23) | (mantissa << (23u - mantissa_bits)));
}

float qn_f32_from_e4m3(uint8_t code)
{
    if ((code & 0x7fu) == 0x7fu) { /* e4m3fn has one NaN a sign and no infinity */
        return qn_f32_from_bits(((uint32_t)(code & 0x80u) << 24) | 0x7fc00000u);
    }
    return f8_value(code, 3, 7);
}

float qn_f32_from_e5m2(uint8_t code)
{
    uint32_t magnitude = code & 0x7fu;
    if (magnitude >= 0x7cu) {
        uint32_t special = magnitude == 0x7cu ? 0x7f800000u : 0x7fc00000u;
        return qn_f32_from_bits(((uint32_t)(code & 0x80u) << 24) | special);
    }
    return f8_value(code, 2, 15);
}

void qn_decode_f32(const uint8_t *src, float *dst, size_t n) { memcpy(dst, src, n * sizeof *dst); }

void qn_decode_f16(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        dst[i] = qn_f32_from_f16(h);
    }
}

void qn_decode_bf16(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        dst[i] = qn_f32_from_bf16(h);
    }
}

void qn_decode_f64(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, src + 8 * i, sizeof v);
        dst[i] = (float)v;
    }
}

/* The same value as qn_f32_from_e4m3 without branches, so that loops over it are vectors: the code's seven lower bits as a float32's
 * upper ones have the exponent 2^-120 too low, subnormals included. */
static inline float e4m3_value(uint8_t code)
{
    uint32_t magnitude = code & 0x7fu;
    uint32_t sign = (uint32_t)(code & 0x80u) << 24;
    float scaled = qn_f32_from_bits(magnitude << 20) * 0x1p+120f;
    uint32_t bits = magnitude == 0x7fu ? 0x7fc00000u : qn_f32_to_bits(scaled);
    return qn_f32_from_bits(sign | bits);
}

void qn_decode_e4m3(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        dst[i] = e4m3_value(src[i]);
    }
}

void qn_decode_fp8_row(const uint8_t *src, const qn_scale_grid *grid, size_t row, float *dst, size_t n)
{
    const float *factors = qn_scale_grid_row(grid, row);
    for (size_t begin = 0; begin < n; begin += grid->cols) {
        size_t end = n - begin < grid->cols ? n : begin + grid->cols;
        float factor = factors[begin / grid->cols];
        for (size_t i = begin; i < end; i++) {
            dst[i] = e4m3_value(src[i]) * factor;
        }
    }
}

void qn_decode_e5m2(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        dst[i] = qn_f32_from_e5m2(src[i]);
    }
}

void qn_encode_f32(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    (void)s;
    (void)importance;
    memcpy(dst, src, n * sizeof *src);
}

/* Values beyond the range become the greatest finite one. */
void qn_encode_f16(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    (void)s;
    (void)importance;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = qn_f16_from_f32(src[i]);
        h = (uint16_t)(h - ((h & 0x7fffu) == 0x7c00u));
        memcpy(dst + 2 * i, &h, sizeof h);
    }
}

void qn_encode_bf16(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    (void)s;
    (void)importance;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = qn_bf16_from_f32(src[i]);
        h = (uint16_t)(h - ((h & 0x7fffu) == 0x7f80u));
        memcpy(dst + 2 * i, &h, sizeof h);
    }
}
