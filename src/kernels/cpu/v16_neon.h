/* v16_neon.h - sixteen floats in four NEON registers; see v16_avx512.h for what each function does. */
#ifndef QN_KERNELS_CPU_V16_NEON_H
#define QN_KERNELS_CPU_V16_NEON_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V16_INLINE static inline __attribute__((always_inline))
#define V16_ISA QN_ISA_NEON
#define V16_NAME(base) base##_neon
#define V16_ACCUMULATORS 6

typedef struct v16 {
    float32x4_t a, b, c, d; /* lanes 0..3, 4..7, 8..11, 12..15 */
} v16;

V16_INLINE v16 v16_set1(float x)
{
    float32x4_t v = vdupq_n_f32(x);
    return (v16){v, v, v, v};
}
V16_INLINE v16 v16_zero(void) { return v16_set1(0.0f); }
V16_INLINE v16 v16_load(const float *p) { return (v16){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
V16_INLINE void v16_store(float *p, v16 x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}

V16_INLINE v16 v16_load_n(const void *p, size_t n)
{
    float buffer[16] = {0};
    memcpy(buffer, p, n * sizeof buffer[0]);
    return v16_load(buffer);
}

V16_INLINE void v16_store_n(float *p, v16 x, size_t n)
{
    float buffer[16];
    v16_store(buffer, x);
    memcpy(p, buffer, n * sizeof buffer[0]);
}

V16_INLINE v16 v16_load_f32(const void *p)
{
    const uint8_t *b = p;
    return (v16){vreinterpretq_f32_u8(vld1q_u8(b)), vreinterpretq_f32_u8(vld1q_u8(b + 16)), vreinterpretq_f32_u8(vld1q_u8(b + 32)),
                 vreinterpretq_f32_u8(vld1q_u8(b + 48))};
}

V16_INLINE v16 v16_load_f32_n(const void *p, size_t n) { return v16_load_n(p, n); }

/* Eight 16-bit elements at any address. */
V16_INLINE uint16x8_t v16_load_u16(const void *p) { return vreinterpretq_u16_u8(vld1q_u8(p)); }

V16_INLINE float32x4_t v16_quarter_from_f16(uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); }

V16_INLINE v16 v16_load_f16(const void *p)
{
    uint16x8_t x = v16_load_u16(p), y = v16_load_u16((const uint8_t *)p + 16);
    return (v16){v16_quarter_from_f16(vget_low_u16(x)), v16_quarter_from_f16(vget_high_u16(x)), v16_quarter_from_f16(vget_low_u16(y)),
                 v16_quarter_from_f16(vget_high_u16(y))};
}

V16_INLINE float32x4_t v16_quarter_from_bf16(uint16x4_t h) { return vreinterpretq_f32_u32(vshll_n_u16(h, 16)); }

V16_INLINE v16 v16_load_bf16(const void *p)
{
    uint16x8_t x = v16_load_u16(p), y = v16_load_u16((const uint8_t *)p + 16);
    return (v16){v16_quarter_from_bf16(vget_low_u16(x)), v16_quarter_from_bf16(vget_high_u16(x)), v16_quarter_from_bf16(vget_low_u16(y)),
                 v16_quarter_from_bf16(vget_high_u16(y))};
}

V16_INLINE v16 v16_load_f16_n(const void *p, size_t n)
{
    uint16_t buffer[16] = {0};
    memcpy(buffer, p, n * sizeof buffer[0]);
    return v16_load_f16(buffer);
}

V16_INLINE v16 v16_load_bf16_n(const void *p, size_t n)
{
    uint16_t buffer[16] = {0};
    memcpy(buffer, p, n * sizeof buffer[0]);
    return v16_load_bf16(buffer);
}

V16_INLINE uint16x8_t v16_half_from_f8(uint8x8_t codes)
{
    const int16x8_t upper = vreinterpretq_s16_u16(vshll_n_u8(codes, 8));
    return vandq_u16(vreinterpretq_u16_s16(vshrq_n_s16(upper, 1)), vdupq_n_u16(0xbf80));
}

V16_INLINE v16 v16_from_halves(uint16x8_t x, uint16x8_t y)
{
    return (v16){v16_quarter_from_f16(vget_low_u16(x)), v16_quarter_from_f16(vget_high_u16(x)), v16_quarter_from_f16(vget_low_u16(y)),
                 v16_quarter_from_f16(vget_high_u16(y))};
}

V16_INLINE v16 v16_load_f8_finite(const void *p)
{
    const uint8x16_t codes = vld1q_u8(p);
    return v16_from_halves(v16_half_from_f8(vget_low_u8(codes)), v16_half_from_f8(vget_high_u8(codes)));
}

V16_INLINE uint16x8_t v16_nan_in_half(uint16x8_t half)
{
    const uint16x8_t magnitude = vdupq_n_u16(0x3f80), nan = vceqq_u16(vandq_u16(half, magnitude), magnitude);
    return vorrq_u16(half, vandq_u16(nan, vdupq_n_u16(0x7e00)));
}

V16_INLINE v16 v16_load_f8(const void *p)
{
    const uint8x16_t codes = vld1q_u8(p);
    return v16_from_halves(v16_nan_in_half(v16_half_from_f8(vget_low_u8(codes))), v16_nan_in_half(v16_half_from_f8(vget_high_u8(codes))));
}

V16_INLINE uint64_t v16_f8_has_nan(const void *p)
{
    const uint8_t *b = p;
    const uint8x16_t magnitude = vdupq_n_u8(0x7f);
    uint8x16_t most = vandq_u8(vld1q_u8(b), magnitude);
    for (size_t i = 16; i < 64; i += 16) {
        most = vmaxq_u8(most, vandq_u8(vld1q_u8(b + i), magnitude));
    }
    return vmaxvq_u8(most) == 0x7f;
}

V16_INLINE v16 v16_load_f8_n(const void *p, size_t n)
{
    uint8_t buffer[16] = {0};
    memcpy(buffer, p, n);
    return v16_load_f8(buffer);
}

V16_INLINE v16 v16_load_i8(const void *p)
{
    int8x16_t x = vld1q_s8(p);
    int16x8_t lo = vmovl_s8(vget_low_s8(x)), hi = vmovl_s8(vget_high_s8(x));
    return (v16){vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
                 vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi)))};
}

V16_INLINE v16 v16_set1_f16(const void *p)
{
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    float32x4_t x = v16_quarter_from_f16(vdup_n_u16(bits));
    return (v16){x, x, x, x};
}

V16_INLINE void v16_store_f16(uint16_t *p, v16 x)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x.a)));
    vst1_u16(p + 4, vreinterpret_u16_f16(vcvt_f16_f32(x.b)));
    vst1_u16(p + 8, vreinterpret_u16_f16(vcvt_f16_f32(x.c)));
    vst1_u16(p + 12, vreinterpret_u16_f16(vcvt_f16_f32(x.d)));
}

V16_INLINE v16 v16_add(v16 x, v16 y) { return (v16){vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b), vaddq_f32(x.c, y.c), vaddq_f32(x.d, y.d)}; }
V16_INLINE v16 v16_sub(v16 x, v16 y) { return (v16){vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b), vsubq_f32(x.c, y.c), vsubq_f32(x.d, y.d)}; }
V16_INLINE v16 v16_mul(v16 x, v16 y) { return (v16){vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)}; }
V16_INLINE v16 v16_div(v16 x, v16 y) { return (v16){vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b), vdivq_f32(x.c, y.c), vdivq_f32(x.d, y.d)}; }
V16_INLINE v16 v16_fma(v16 x, v16 y, v16 z)
{
    return (v16){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c), vfmaq_f32(z.d, x.d, y.d)};
}
V16_INLINE v16 v16_neg(v16 x) { return (v16){vnegq_f32(x.a), vnegq_f32(x.b), vnegq_f32(x.c), vnegq_f32(x.d)}; }
/* A NaN in either operand is kept here. */
V16_INLINE v16 v16_max(v16 x, v16 y) { return (v16){vmaxq_f32(x.a, y.a), vmaxq_f32(x.b, y.b), vmaxq_f32(x.c, y.c), vmaxq_f32(x.d, y.d)}; }

/* All ones in lanes of the low 4 bits of mask. */
V16_INLINE uint32x4_t v16_quarter_mask(uint32_t mask)
{
    static const uint32_t bits[4] = {1, 2, 4, 8};
    return vtstq_u32(vdupq_n_u32(mask), vld1q_u32(bits));
}

V16_INLINE v16 v16_select(uint32_t mask, v16 x, v16 y)
{
    return (v16){vbslq_f32(v16_quarter_mask(mask), x.a, y.a), vbslq_f32(v16_quarter_mask(mask >> 4), x.b, y.b),
                 vbslq_f32(v16_quarter_mask(mask >> 8), x.c, y.c), vbslq_f32(v16_quarter_mask(mask >> 12), x.d, y.d)};
}

/* Bit l for a quarter's lane l that is all ones. */
V16_INLINE uint32_t v16_quarter_bits(uint32x4_t m)
{
    static const uint32_t bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(m, vld1q_u32(bits)));
}

V16_INLINE uint32_t v16_equal_mask(v16 x, v16 y)
{
    return v16_quarter_bits(vceqq_f32(x.a, y.a)) | v16_quarter_bits(vceqq_f32(x.b, y.b)) << 4 | v16_quarter_bits(vceqq_f32(x.c, y.c)) << 8 |
           v16_quarter_bits(vceqq_f32(x.d, y.d)) << 12;
}
V16_INLINE uint32_t v16_nan_mask(v16 x) { return ~v16_equal_mask(x, x) & 0xffffu; }
V16_INLINE float v16_first(v16 x) { return vgetq_lane_f32(x.a, 0); }

V16_INLINE float v16_sum(v16 x)
{
    float32x4_t s4 = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
    return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}

V16_INLINE float v16_max_lane(v16 x) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.a, x.b), vmaxq_f32(x.c, x.d))); }

V16_INLINE void v16_unzip(v16 x, v16 y, v16 *even, v16 *odd)
{
    *even = (v16){vuzp1q_f32(x.a, x.b), vuzp1q_f32(x.c, x.d), vuzp1q_f32(y.a, y.b), vuzp1q_f32(y.c, y.d)};
    *odd = (v16){vuzp2q_f32(x.a, x.b), vuzp2q_f32(x.c, x.d), vuzp2q_f32(y.a, y.b), vuzp2q_f32(y.c, y.d)};
}

V16_INLINE void v16_zip(v16 even, v16 odd, v16 *x, v16 *y)
{
    *x = (v16){vzip1q_f32(even.a, odd.a), vzip2q_f32(even.a, odd.a), vzip1q_f32(even.b, odd.b), vzip2q_f32(even.b, odd.b)};
    *y = (v16){vzip1q_f32(even.c, odd.c), vzip2q_f32(even.c, odd.c), vzip1q_f32(even.d, odd.d), vzip2q_f32(even.d, odd.d)};
}

/* p * 2^n in two steps as vmath.c does it. */
V16_INLINE float32x4_t v16_quarter_scale(float32x4_t p, float32x4_t t)
{
    uint32x4_t n = vsubq_u32(vreinterpretq_u32_f32(t), vdupq_n_u32(0x4b400000u - 256u)), half = vshrq_n_u32(n, 1), one = vdupq_n_u32(1);
    float32x4_t a = vreinterpretq_f32_u32(vshlq_n_u32(vsubq_u32(half, one), 23));
    float32x4_t b = vreinterpretq_f32_u32(vshlq_n_u32(vsubq_u32(vsubq_u32(n, half), one), 23));
    return vmulq_f32(vmulq_f32(p, a), b);
}

#define EXP_V float32x4_t
#define EXP_NAME v16_quarter_exp
#define EXP_SET(c) vdupq_n_f32(c)
#define EXP_FMA(a, b, c) vfmaq_f32(c, a, b)
#define EXP_ADD(a, b) vaddq_f32(a, b)
#define EXP_SUB(a, b) vsubq_f32(a, b)
#define EXP_MUL(a, b) vmulq_f32(a, b)
#define EXP_CLAMP(x, lo, hi) vmaxq_f32(vdupq_n_f32(lo), vminq_f32(vdupq_n_f32(hi), x))
#define EXP_SCALE(p, t) v16_quarter_scale(p, t)
#include "kernels/vmath_exp.inc"

V16_INLINE v16 v16_exp(v16 x) { return (v16){v16_quarter_exp(x.a), v16_quarter_exp(x.b), v16_quarter_exp(x.c), v16_quarter_exp(x.d)}; }

#endif
