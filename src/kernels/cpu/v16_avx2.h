/* v16_avx2.h - sixteen floats in two AVX2 registers; see v16_avx512.h for what each function does. */
#ifndef QN_KERNELS_CPU_V16_AVX2_H
#define QN_KERNELS_CPU_V16_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V16_INLINE static inline __attribute__((always_inline))
#define V16_ISA QN_ISA_AVX2
#define V16_NAME(base) base##_avx2
#define V16_ACCUMULATORS 6

typedef struct v16 {
    __m256 lo, hi; /* lanes 0..7, 8..15 */
} v16;

V16_INLINE v16 v16_zero(void) { return (v16){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
V16_INLINE v16 v16_set1(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
V16_INLINE v16 v16_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
V16_INLINE void v16_store(float *p, v16 x)
{
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}

/* All ones in lanes of the low 8 bits of mask. */
V16_INLINE __m256i v16_half_mask(uint32_t mask)
{
    __m256i bits = _mm256_set_epi32(128, 64, 32, 16, 8, 4, 2, 1);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)mask), bits), bits);
}

V16_INLINE v16 v16_load_n(const void *p, size_t n)
{
    const float *f = p;
    uint32_t mask = (1u << n) - 1u;
    return (v16){_mm256_maskload_ps(f, v16_half_mask(mask)), _mm256_maskload_ps(f + 8, v16_half_mask(mask >> 8))};
}

V16_INLINE void v16_store_n(float *p, v16 x, size_t n)
{
    uint32_t mask = (1u << n) - 1u;
    _mm256_maskstore_ps(p, v16_half_mask(mask), x.lo);
    _mm256_maskstore_ps(p + 8, v16_half_mask(mask >> 8), x.hi);
}

V16_INLINE v16 v16_load_f32(const void *p) { return v16_load(p); }
V16_INLINE v16 v16_load_f32_n(const void *p, size_t n) { return v16_load_n(p, n); }

V16_INLINE v16 v16_load_f16(const void *p)
{
    const __m128i *h = p;
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}

V16_INLINE __m256 v16_half_from_bf16(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }

V16_INLINE v16 v16_load_bf16(const void *p)
{
    const __m128i *h = p;
    return (v16){v16_half_from_bf16(_mm_loadu_si128(h)), v16_half_from_bf16(_mm_loadu_si128(h + 1))};
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

V16_INLINE __m256i v16_half_from_f8(const void *p)
{
    const __m256i to_upper = _mm256_set_epi8(15, -1, 14, -1, 13, -1, 12, -1, 11, -1, 10, -1, 9, -1, 8, -1, 7, -1, 6, -1, 5, -1, 4, -1, 3,
                                             -1, 2, -1, 1, -1, 0, -1);
    const __m256i upper = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)), to_upper);
    return _mm256_and_si256(_mm256_srai_epi16(upper, 1), _mm256_set1_epi16((short)0xbf80));
}

V16_INLINE v16 v16_from_halves(__m256i h)
{
    return (v16){_mm256_cvtph_ps(_mm256_castsi256_si128(h)), _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1))};
}

V16_INLINE v16 v16_load_f8_finite(const void *p) { return v16_from_halves(v16_half_from_f8(p)); }

V16_INLINE v16 v16_load_f8(const void *p)
{
    const __m256i half = v16_half_from_f8(p), magnitude = _mm256_set1_epi16(0x3f80);
    const __m256i nan = _mm256_cmpeq_epi16(_mm256_and_si256(half, magnitude), magnitude);
    return v16_from_halves(_mm256_or_si256(half, _mm256_and_si256(nan, _mm256_set1_epi16(0x7e00))));
}

V16_INLINE uint64_t v16_f8_has_nan(const void *p)
{
    const __m256i sign = _mm256_set1_epi8((char)0x80), nan = _mm256_set1_epi8((char)0xff), *codes = p;
    const __m256i a = _mm256_cmpeq_epi8(_mm256_or_si256(_mm256_loadu_si256(codes), sign), nan);
    const __m256i b = _mm256_cmpeq_epi8(_mm256_or_si256(_mm256_loadu_si256(codes + 1), sign), nan);
    return (uint32_t)_mm256_movemask_epi8(_mm256_or_si256(a, b));
}

V16_INLINE v16 v16_load_f8_n(const void *p, size_t n)
{
    uint8_t buffer[16] = {0};
    memcpy(buffer, p, n);
    return v16_load_f8(buffer);
}

V16_INLINE __m256 v16_half_from_i8(__m128i x) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)); }

V16_INLINE v16 v16_load_i8(const void *p)
{
    const uint8_t *b = p;
    return (v16){v16_half_from_i8(_mm_loadl_epi64((const __m128i *)(const void *)b)),
                 v16_half_from_i8(_mm_loadl_epi64((const __m128i *)(const void *)(b + 8)))};
}

V16_INLINE v16 v16_set1_f16(const void *p)
{
    int16_t bits;
    memcpy(&bits, p, sizeof bits);
    __m256 x = _mm256_cvtph_ps(_mm_set1_epi16(bits));
    return (v16){x, x};
}

V16_INLINE void v16_store_f16(uint16_t *p, v16 x)
{
    __m128i *h = (__m128i *)(void *)p;
    _mm_storeu_si128(h, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
}

V16_INLINE v16 v16_add(v16 a, v16 b) { return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
V16_INLINE v16 v16_sub(v16 a, v16 b) { return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
V16_INLINE v16 v16_mul(v16 a, v16 b) { return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
V16_INLINE v16 v16_div(v16 a, v16 b) { return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
V16_INLINE v16 v16_fma(v16 a, v16 b, v16 c) { return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
V16_INLINE v16 v16_neg(v16 a)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign)};
}
V16_INLINE v16 v16_max(v16 a, v16 b) { return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
V16_INLINE v16 v16_select(uint32_t mask, v16 a, v16 b)
{
    return (v16){_mm256_blendv_ps(b.lo, a.lo, _mm256_castsi256_ps(v16_half_mask(mask))),
                 _mm256_blendv_ps(b.hi, a.hi, _mm256_castsi256_ps(v16_half_mask(mask >> 8)))};
}
V16_INLINE uint32_t v16_sign_mask(__m256 lo, __m256 hi) { return (uint32_t)_mm256_movemask_ps(lo) | (uint32_t)_mm256_movemask_ps(hi) << 8; }
V16_INLINE uint32_t v16_equal_mask(v16 a, v16 b)
{
    return v16_sign_mask(_mm256_cmp_ps(a.lo, b.lo, _CMP_EQ_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_EQ_OQ));
}
V16_INLINE uint32_t v16_nan_mask(v16 a)
{
    return v16_sign_mask(_mm256_cmp_ps(a.lo, a.lo, _CMP_UNORD_Q), _mm256_cmp_ps(a.hi, a.hi, _CMP_UNORD_Q));
}
V16_INLINE float v16_first(v16 a) { return _mm256_cvtss_f32(a.lo); }

V16_INLINE float v16_sum(v16 a)
{
    __m256 s8 = _mm256_add_ps(a.lo, a.hi);
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

V16_INLINE float v16_max_lane(v16 a)
{
    __m256 m8 = _mm256_max_ps(a.lo, a.hi);
    __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
    __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
    return _mm_cvtss_f32(_mm_max_ss(m2, _mm_movehdup_ps(m2)));
}

V16_INLINE __m256 v16_fix_halves(__m256 x) { return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0xd8)); }

V16_INLINE void v16_unzip(v16 a, v16 b, v16 *even, v16 *odd)
{
    *even = (v16){v16_fix_halves(_mm256_shuffle_ps(a.lo, a.hi, 0x88)), v16_fix_halves(_mm256_shuffle_ps(b.lo, b.hi, 0x88))};
    *odd = (v16){v16_fix_halves(_mm256_shuffle_ps(a.lo, a.hi, 0xdd)), v16_fix_halves(_mm256_shuffle_ps(b.lo, b.hi, 0xdd))};
}

V16_INLINE v16 v16_zip_half(__m256 even, __m256 odd)
{
    __m256 low = _mm256_unpacklo_ps(even, odd), high = _mm256_unpackhi_ps(even, odd); /* pairs 0 1 4 5 and 2 3 6 7 */
    return (v16){_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
}

V16_INLINE void v16_zip(v16 even, v16 odd, v16 *a, v16 *b)
{
    *a = v16_zip_half(even.lo, odd.lo);
    *b = v16_zip_half(even.hi, odd.hi);
}

/* p * 2^n in two steps as vmath.c does it: n + 256 is split in halves, each made the exponent of a factor. */
V16_INLINE __m256 v16_half_scale(__m256 p, __m256 t)
{
    __m256i n = _mm256_sub_epi32(_mm256_castps_si256(t), _mm256_set1_epi32(0x4b400000 - 256)), half = _mm256_srli_epi32(n, 1);
    __m256i one = _mm256_set1_epi32(1), a = _mm256_slli_epi32(_mm256_sub_epi32(half, one), 23);
    __m256i b = _mm256_slli_epi32(_mm256_sub_epi32(_mm256_sub_epi32(n, half), one), 23);
    return _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
}

#define EXP_V __m256
#define EXP_NAME v16_half_exp
#define EXP_SET(c) _mm256_set1_ps(c)
#define EXP_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define EXP_ADD(a, b) _mm256_add_ps(a, b)
#define EXP_SUB(a, b) _mm256_sub_ps(a, b)
#define EXP_MUL(a, b) _mm256_mul_ps(a, b)
#define EXP_CLAMP(x, lo, hi) _mm256_max_ps(_mm256_set1_ps(lo), _mm256_min_ps(_mm256_set1_ps(hi), x))
#define EXP_SCALE(p, t) v16_half_scale(p, t)
#include "kernels/vmath_exp.inc"

V16_INLINE v16 v16_exp(v16 x) { return (v16){v16_half_exp(x.lo), v16_half_exp(x.hi)}; }

#endif
