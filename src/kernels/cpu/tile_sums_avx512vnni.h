/* tile_sums_avx512vnni.h - what the multipliers of the normal form (tile.h) with 512-bit registers share: the float step, and the sums of
 * activations that mins and offsets are multiplied with. For tile_multiply_avx512vnni.c and tile_multiply_amx.c.
 */
#ifndef QN_KERNELS_TILE_SUMS_AVX512VNNI_H
#define QN_KERNELS_TILE_SUMS_AVX512VNNI_H

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/tile.h"

#define TILE_INLINE static inline __attribute__((always_inline))

/* Four activations, or the sums of two times 16, in every lane. */
TILE_INLINE __m512i broadcast4(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

TILE_INLINE __m512 tile_step(__m512 acc, __m512 scale, float activation_scale, __m512 sum)
{
    return _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(activation_scale)), sum, acc);
}

/* A token's sums of activations over a panel that `pair` multiplies, two a dword: of 16 columns as they are, of 32 added up. 32-byte aligned. */
TILE_INLINE void take_pair_sums(const int16_t *sum16, const size_t sub, int16_t out[16])
{
    __m256i sums = _mm256_loadu_si256((const __m256i *)(const void *)sum16);
    if (sub == 16) {
        _mm256_store_si256((__m256i *)(void *)out, sums);
    } else {
        _mm_store_si128((__m128i *)(void *)out, _mm256_cvtepi32_epi16(_mm256_madd_epi16(sums, _mm256_set1_epi16(1))));
    }
}

/* sum pair * sums for 16 rows. */
TILE_INLINE __m512i pair_sum(const __m512i *pair, const int16_t *sums, const size_t sub)
{
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < TILE_COLUMNS / sub / 2; i++) {
        sum = _mm512_dpwssd_epi32(sum, _mm512_load_si512(pair + i), broadcast4(sums + 2 * i));
    }
    return sum;
}

/* A token's sums of activations over a panel's blocks, times `factor`: first those of the blocks, then anything. */
TILE_INLINE __m256i block_sums(const int16_t *sum16, size_t block, int factor)
{
    __m256i sums = _mm256_loadu_si256((const __m256i *)(const void *)sum16);
    sums = _mm256_madd_epi16(sums, _mm256_set1_epi16((short)factor));
    for (size_t width = 32; width < block; width *= 2) { /* neighbours meet until a sum covers a block */
        sums = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sums, sums), 0xd8);
    }
    return sums;
}

#endif
