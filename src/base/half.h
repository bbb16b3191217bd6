/* half.h - float16 and bfloat16 to and from float32, exact and portable (no hardware rounding modes involved).
 * Narrowing rounds to nearest, ties to even; NaN stays NaN (quiet), overflow becomes infinity. */
#ifndef QN_BASE_HALF_H
#define QN_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float qn_f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t qn_f32_to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float qn_f32_from_bf16(uint16_t h) { return qn_f32_from_bits((uint32_t)h << 16); }

static inline uint16_t qn_bf16_from_f32(float f)
{
    uint32_t u = qn_f32_to_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)((u >> 16) | 0x40u); /* keep NaN a NaN when its payload sits in the low bits */
    }
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static inline float qn_f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1fu;
    uint32_t mantissa = h & 0x3ffu;
    if (exponent == 0) {
        /* zero or subnormal: mantissa * 2^-24, exact in float32 */
        float magnitude = (float)mantissa * 5.9604644775390625e-8f;
        return qn_f32_from_bits(sign | qn_f32_to_bits(magnitude));
    }
    if (exponent == 31) {
        return qn_f32_from_bits(sign | 0x7f800000u | (mantissa << 13));
    }
    return qn_f32_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

static inline uint16_t qn_f16_from_f32(float f)
{
    uint32_t u = qn_f32_to_bits(f);
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    uint32_t a = u & 0x7fffffffu;
    if (a > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu));
    }
    if (a >= 0x47800000u) { /* 65536 and above, and infinity */
        return (uint16_t)(sign | 0x7c00u);
    }
    if (a >= 0x38800000u) { /* normal in float16; a carry out of the mantissa correctly becomes infinity */
        uint32_t r = a + 0xfffu + ((a >> 13) & 1u);
        return (uint16_t)(sign | ((r - 0x38000000u) >> 13));
    }
    if (a < 0x33000000u) { /* below half of the smallest subnormal */
        return sign;
    }
    uint32_t shift = 126u - (a >> 23); /* 14..24 bits of the 24-bit significand fall away */
    uint32_t significand = (a & 0x7fffffu) | 0x800000u;
    uint32_t kept = significand >> shift;
    uint32_t rest = significand & ((1u << shift) - 1u);
    uint32_t half = 1u << (shift - 1u);
    kept += (rest > half || (rest == half && (kept & 1u))) ? 1u : 0u;
    return (uint16_t)(sign | kept);
}

#endif
