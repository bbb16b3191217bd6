/* v16_avx512.h - sixteen floats in one AVX-512 register. The three v16_*.h offer the same functions with the same bits; the *_body.inc
 * files are written in them and compiled once for each instruction set.
 *
 * Loads and stores need no alignment. `n` forms touch only the first n elements of memory, n < 16, and load zeros beyond. A mask has bit
 * l for lane l. */
#ifndef QN_KERNELS_CPU_V16_AVX512_H
#define QN_KERNELS_CPU_V16_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V16_INLINE static inline __attribute__((always_inline))
#define V16_ISA QN_ISA_AVX512
#define V16_NAME(base) base##_avx512
/* Accumulators (of 16 floats) that fit in registers beside the operands. */
#define V16_ACCUMULATORS 24

typedef __m512 v16;

V16_INLINE v16 v16_zero(void) { return _mm512_setzero_ps(); }
V16_INLINE v16 v16_set1(float x) { return _mm512_set1_ps(x); }
V16_INLINE v16 v16_load(const float *p) { return _mm512_loadu_ps(p); }
V16_INLINE v16 v16_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p); }
V16_INLINE void v16_store(float *p, v16 x) { _mm512_storeu_ps(p, x); }
V16_INLINE void v16_store_n(float *p, v16 x, size_t n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), x); }

/* Weights in four types, at any address. */
V16_INLINE v16 v16_load_f32(const void *p) { return _mm512_loadu_ps(p); }
V16_INLINE v16 v16_load_f32_n(const void *p, size_t n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p); }
V16_INLINE v16 v16_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
V16_INLINE v16 v16_load_f16_n(const void *p, size_t n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1u), p)); }
V16_INLINE v16 v16_from_bf16(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
V16_INLINE v16 v16_load_bf16(const void *p) { return v16_from_bf16(_mm256_loadu_si256((const __m256i *)p)); }
V16_INLINE v16 v16_load_bf16_n(const void *p, size_t n) { return v16_from_bf16(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1u), p)); }
/* 2^-8 of sixteen float8 E4M3, exactly. Their exponent has one bit fewer than float16's and a bias that is 8 smaller: a code's seven lower bits as a
 * float16's bits 7 to 13 are that value, subnormals too (which as float32 are slow on some processors). The code 0x7f, its only NaN, is 480 * 2^-8 here. */
V16_INLINE __m256i v16_half_from_f8(__m128i codes)
{
    const __m256i to_upper = _mm256_set_epi8(15, -1, 14, -1, 13, -1, 12, -1, 11, -1, 10, -1, 9, -1, 8, -1, 7, -1, 6, -1, 5, -1, 4, -1, 3,
                                             -1, 2, -1, 1, -1, 0, -1);
    const __m256i upper = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(codes),
                                              to_upper); /* each code in a word's upper byte, zeros below */
    return _mm256_and_si256(_mm256_srai_epi16(upper, 1), _mm256_set1_epi16((short)0xbf80));
}
V16_INLINE v16 v16_load_f8_finite(const void *p) { return _mm512_cvtph_ps(v16_half_from_f8(_mm_loadu_si128((const __m128i *)p))); }
/* The same with NaN for NaN. */
V16_INLINE v16 v16_from_f8(__m128i codes)
{
    const __mmask16 nan = _mm_cmpeq_epi8_mask(_mm_or_si128(codes, _mm_set1_epi8((char)0x80)), _mm_set1_epi8((char)0xff));
    return _mm512_cvtph_ps(_mm256_mask_mov_epi16(v16_half_from_f8(codes), nan, _mm256_set1_epi16(0x7e00)));
}
V16_INLINE v16 v16_load_f8(const void *p) { return v16_from_f8(_mm_loadu_si128((const __m128i *)p)); }
V16_INLINE v16 v16_load_f8_n(const void *p, size_t n) { return v16_from_f8(_mm_maskz_loadu_epi8((__mmask16)((1u << n) - 1u), p)); }
/* Whether one of 64 codes is NaN. */
V16_INLINE uint64_t v16_f8_has_nan(const void *p)
{
    return _mm512_cmpeq_epi8_mask(_mm512_or_si512(_mm512_loadu_si512(p), _mm512_set1_epi8((char)0x80)), _mm512_set1_epi8((char)0xff));
}
/* Sixteen int8, and one float16 in all lanes. */
V16_INLINE v16 v16_load_i8(const void *p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p))); }
V16_INLINE v16 v16_set1_f16(const void *p)
{
    int16_t bits;
    memcpy(&bits, p, sizeof bits);
    return _mm512_cvtph_ps(_mm256_set1_epi16(bits));
}
V16_INLINE void v16_store_f16(uint16_t *p, v16 x)
{
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

V16_INLINE v16 v16_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
V16_INLINE v16 v16_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
V16_INLINE v16 v16_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
V16_INLINE v16 v16_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
V16_INLINE v16 v16_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
V16_INLINE v16 v16_neg(v16 a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
/* b where the comparison fails, so a NaN in a is dropped and one in b kept. */
V16_INLINE v16 v16_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
/* a in lanes of mask, else b. */
V16_INLINE v16 v16_select(uint32_t mask, v16 a, v16 b) { return _mm512_mask_blend_ps((__mmask16)mask, b, a); }
V16_INLINE uint32_t v16_equal_mask(v16 a, v16 b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
V16_INLINE uint32_t v16_nan_mask(v16 a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
V16_INLINE float v16_first(v16 a) { return _mm512_cvtss_f32(a); }

/* The tree of matmul.h. */
V16_INLINE float v16_sum(v16 a)
{
    __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

V16_INLINE float v16_max_lane(v16 a) { return _mm512_reduce_max_ps(a); }

/* (a0 a1 .. a15)(b0 .. b15) to elements of even and of odd number, and back. */
V16_INLINE void v16_unzip(v16 a, v16 b, v16 *even, v16 *odd)
{
    __m512i e = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    *even = _mm512_permutex2var_ps(a, e, b);
    *odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(e, _mm512_set1_epi32(1)), b);
}

V16_INLINE void v16_zip(v16 even, v16 odd, v16 *a, v16 *b)
{
    __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    *a = _mm512_permutex2var_ps(even, low, odd);
    *b = _mm512_permutex2var_ps(even, _mm512_add_epi32(low, _mm512_set1_epi32(8)), odd);
}

/* A minimum or maximum with the limit first returns x where x is a NaN. p * 2^n is exact or rounded once in one instruction as in two
 * steps. */
#define EXP_V v16
#define EXP_NAME v16_exp
#define EXP_SET(c) _mm512_set1_ps(c)
#define EXP_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define EXP_ADD(a, b) _mm512_add_ps(a, b)
#define EXP_SUB(a, b) _mm512_sub_ps(a, b)
#define EXP_MUL(a, b) _mm512_mul_ps(a, b)
#define EXP_CLAMP(x, lo, hi) _mm512_max_ps(_mm512_set1_ps(lo), _mm512_min_ps(_mm512_set1_ps(hi), x))
#define EXP_SCALE(p, t) _mm512_scalef_ps(p, _mm512_sub_ps(t, _mm512_set1_ps(EXP_MAGIC)))
#include "kernels/vmath_exp.inc"

#endif
