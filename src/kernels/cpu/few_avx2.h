/* few_avx2.h - registers of the few-token kernels for AVX2: a tile is 8 rows. The frame is few_frame.h. */
#ifndef QN_KERNELS_FEW_AVX2_H
#define QN_KERNELS_FEW_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define FEW_INLINE static inline __attribute__((always_inline))

typedef __m256 few_floats;
typedef __m256i few_ints;

enum {
    FEW_ROWS = 8,
    FEW_Q_QUARTERS = 8, /* of a byte, of prepared activations a column: MLX 8 bits has two bytes */
    FEW_INPUTS = 24,    /* chunks of columns times tokens that are prepared together */
    FEW_GROUP = 2       /* tokens that share one unpacking in registers */
};

/* out[c] lane r = x[r] lane c. */
FEW_INLINE void few_transpose(__m256i x[8])
{
    __m256i t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) { /* x[i + j]: lane L holds column 4L + j of rows i..i + 3 */
        x[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        x[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        x[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        x[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; j++) {
        t[j] = _mm256_permute2x128_si256(x[j], x[4 + j], 0x20);
        t[4 + j] = _mm256_permute2x128_si256(x[j], x[4 + j], 0x31);
    }
    for (int i = 0; i < 8; i++) {
        x[i] = t[i];
    }
}

FEW_INLINE few_floats few_set(float v) { return _mm256_set1_ps(v); }
FEW_INLINE few_ints few_set_ints(int32_t v) { return _mm256_set1_epi32(v); }
FEW_INLINE few_floats few_load(const float *p) { return _mm256_load_ps(p); }
FEW_INLINE few_ints few_load_ints(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
FEW_INLINE void few_store(float *p, few_floats v) { _mm256_store_ps(p, v); }
FEW_INLINE few_floats few_mul(few_floats a, few_floats b) { return _mm256_mul_ps(a, b); }
FEW_INLINE few_floats few_fma(few_floats a, few_floats b, few_floats c) { return _mm256_fmadd_ps(a, b, c); }
FEW_INLINE few_floats few_to_float(few_ints v) { return _mm256_cvtepi32_ps(v); }
FEW_INLINE few_ints few_upper_halves(few_ints v) { return _mm256_srli_epi32(v, 16); }
FEW_INLINE few_ints few_upper_halves_signed(few_ints v) { return _mm256_srai_epi32(v, 16); }

/* Adds the products of the two 16-bit numbers in every dword. */
FEW_INLINE few_ints few_add_products(few_ints sum, few_ints a, few_ints b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

/* Adds the four dwords of each lane over four registers: dword j of lane L = sum of lane L of p[j]. */
FEW_INLINE __m256i few_sum_lanes(const __m256i p[4])
{
    __m256i a = _mm256_add_epi32(_mm256_unpacklo_epi32(p[0], p[1]), _mm256_unpackhi_epi32(p[0], p[1]));
    __m256i b = _mm256_add_epi32(_mm256_unpacklo_epi32(p[2], p[3]), _mm256_unpackhi_epi32(p[2], p[3]));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

/* The sums of eight lanes, two a register. */
FEW_INLINE __m256i few_sum_8(const __m256i p[4])
{
    return _mm256_permutevar8x32_epi32(few_sum_lanes(p), _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0));
}

/* The sums of four registers. */
FEW_INLINE __m128i few_sum_4(const __m256i p[4])
{
    __m256i lanes = few_sum_lanes(p);
    return _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
}

/* 16 bytes in both lanes. */
FEW_INLINE __m256i few_load_16_twice(const void *p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)); }

/* float16 in the low halves of 8 dwords. */
FEW_INLINE __m256 few_half_to_float(__m256i dwords)
{
    __m256i low = _mm256_and_si256(dwords, _mm256_set1_epi32(0xffff));
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0xd8);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}

FEW_INLINE __m256 few_negate(__m256 v) { return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)); }

#include "kernels/cpu/few_frame.h"

/* Stage one for one and for two tokens, so that registers are fixed. */
#define FEW_ROWS_FUNCTION(name, body) \
    static void name(const few_chunk *c, const few_rows *rows, size_t token, size_t n_tokens) \
    { \
        if (n_tokens == 1) { \
            body(c, rows, token, 1); \
        } else { \
            body(c, rows, token, 2); \
        } \
    }

/* A kernel from its few_type. */
#define FEW_KERNEL(name, ...) \
    void name(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride, void *scratch) \
    { \
        const few_type type = __VA_ARGS__; \
        few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch); \
    }

#endif
