/* few_avx512vnni.h - registers of the few-token kernels for AVX-512 VNNI: a tile is 16 rows. The frame is few_frame.h. */
#ifndef QN_KERNELS_FEW_AVX512VNNI_H
#define QN_KERNELS_FEW_AVX512VNNI_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define FEW_INLINE static inline __attribute__((always_inline))

typedef __m512 few_floats;
typedef __m512i few_ints;

enum {
    FEW_ROWS = 16,
    FEW_Q_QUARTERS = 5, /* of a byte, of prepared activations a column: TQ1_0 pads 256 columns to 320 */
    FEW_INPUTS = 32,    /* chunks of columns times tokens that are prepared together */
    FEW_GROUP = 3       /* tokens that share one unpacking in registers */
};

/* Lanes of x times 16 rows become 16 registers, one a column: out[c] lane r = x[r] lane c. */
FEW_INLINE void few_transpose(__m512i x[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) { /* x[i + j]: lane L holds column 4L + j of rows i..i+3 */
        x[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; j++) {
        __m512i a = _mm512_shuffle_i32x4(x[j], x[4 + j], 0x88), b = _mm512_shuffle_i32x4(x[j], x[4 + j], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0x88), d = _mm512_shuffle_i32x4(x[8 + j], x[12 + j], 0xdd);
        t[j] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[8 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
        t[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    for (int i = 0; i < 16; i++) {
        x[i] = t[i];
    }
}

FEW_INLINE few_floats few_set(float v) { return _mm512_set1_ps(v); }
FEW_INLINE few_ints few_set_ints(int32_t v) { return _mm512_set1_epi32(v); }
FEW_INLINE few_floats few_load(const float *p) { return _mm512_load_ps(p); }
FEW_INLINE few_ints few_load_ints(const void *p) { return _mm512_loadu_si512(p); }
FEW_INLINE void few_store(float *p, few_floats v) { _mm512_store_ps(p, v); }
FEW_INLINE few_floats few_mul(few_floats a, few_floats b) { return _mm512_mul_ps(a, b); }
FEW_INLINE few_floats few_fma(few_floats a, few_floats b, few_floats c) { return _mm512_fmadd_ps(a, b, c); }
FEW_INLINE few_floats few_to_float(few_ints v) { return _mm512_cvtepi32_ps(v); }
FEW_INLINE few_ints few_upper_halves(few_ints v) { return _mm512_srli_epi32(v, 16); }
FEW_INLINE few_ints few_upper_halves_signed(few_ints v) { return _mm512_srai_epi32(v, 16); }

/* Adds the products of the two 16-bit numbers in every dword. */
FEW_INLINE few_ints few_add_products(few_ints sum, few_ints a, few_ints b) { return _mm512_dpwssd_epi32(sum, a, b); }

/* Adds the four dwords of each lane over four registers: dword j of lane L = sum of lane L of p[j]. 9 instructions. */
FEW_INLINE __m512i few_sum_lanes(const __m512i p[4])
{
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(p[0], p[1]), _mm512_unpackhi_epi32(p[0], p[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(p[2], p[3]), _mm512_unpackhi_epi32(p[2], p[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* The sums of four registers. */
FEW_INLINE __m128i few_sum_registers(const __m512i p[4])
{
    __m512i lanes = few_sum_lanes(p);
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* Two blocks a register, eight dwords each: from few_sum_lanes of registers 0..3 and 4..7 the sums of blocks 0..15. */
FEW_INLINE __m512i few_sum_halves(__m512i a, __m512i b)
{
    __m512i sum = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88),
                                   _mm512_shuffle_i32x4(a, b, 0xdd)); /* lanes: blocks 0 2 4 6 | 1 3 5 7 | 8.. | 9.. */
    return _mm512_permutexvar_epi32(_mm512_set_epi32(15, 11, 14, 10, 13, 9, 12, 8, 7, 3, 6, 2, 5, 1, 4, 0), sum);
}

/* Four blocks a register, a lane each: from few_sum_lanes of registers 0..3 the sums of blocks 0..15. */
FEW_INLINE __m512i few_sum_quarters(__m512i a)
{
    return _mm512_permutexvar_epi32(_mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0), a);
}

/* out[j]: bits 2j and 2j + 1 of every byte at its bottom, with other bits above them. */
FEW_INLINE void few_shift_pairs(__m512i x, __m512i out[4])
{
    out[0] = x;
    out[1] = _mm512_srli_epi16(x, 2);
    out[2] = _mm512_srli_epi16(x, 4);
    out[3] = _mm512_srli_epi16(x, 6);
}

/* float16 in the low halves of 16 dwords. */
FEW_INLINE __m512 few_half_to_float(__m512i dwords) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(dwords)); }

/* 16 bytes at each of four addresses, zero beyond n. */
FEW_INLINE __m512i few_load_lanes(const uint8_t *p, size_t stride, size_t n)
{
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)p));
    v = n > 1 ? _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(const void *)(p + stride)), 1)
              : _mm512_zextsi128_si512(_mm512_castsi512_si128(v));
    v = n > 2 ? _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i *)(const void *)(p + 2 * stride)), 2)
              : _mm512_zextsi256_si512(_mm512_castsi512_si256(v));
    __m128i last = n > 3 ? _mm_loadu_si128((const __m128i *)(const void *)(p + 3 * stride)) : _mm_setzero_si128();
    return _mm512_inserti32x4(v, last, 3);
}

FEW_INLINE __m512 few_negate(__m512 v)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), _mm512_set1_epi32(INT32_MIN)));
}

#include "kernels/cpu/few_frame.h"

/* Stage one for one, two and three tokens, so that registers are fixed. */
#define FEW_ROWS_FUNCTION(name, body) \
    static void name(const few_chunk *c, const few_rows *rows, size_t token, size_t n_tokens) \
    { \
        switch (n_tokens) { \
        case 1: body(c, rows, token, 1); break; \
        case 2: body(c, rows, token, 2); break; \
        default: body(c, rows, token, 3); break; \
        } \
    }

#endif
