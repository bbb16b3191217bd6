/* rows_avx512.h - one dword of each of 16 rows in a register: the vocabulary of tile_unpack.inc, for AVX-512. (rows_avx2.h: the same words.)
 * Needs F, BW, VL and DQ only.
 */
#ifndef QN_KERNELS_ROWS_AVX512_H
#define QN_KERNELS_ROWS_AVX512_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define ROWS_INLINE static inline __attribute__((always_inline))

/* VPDPBUSD takes codes as unsigned bytes. */
enum { ROWS_SIGNED_CODES = 0 };

typedef __m512i rows;

ROWS_INLINE rows rows_set(uint32_t v) { return _mm512_set1_epi32((int)v); }
ROWS_INLINE rows rows_and(rows a, rows b) { return _mm512_and_si512(a, b); }
ROWS_INLINE rows rows_or(rows a, rows b) { return _mm512_or_si512(a, b); }
ROWS_INLINE rows rows_xor(rows a, rows b) { return _mm512_xor_si512(a, b); }
ROWS_INLINE rows rows_add8(rows a, rows b) { return _mm512_add_epi8(a, b); }
ROWS_INLINE rows rows_sub32(rows a, rows b) { return _mm512_sub_epi32(a, b); }
ROWS_INLINE rows rows_mul32(rows a, rows b) { return _mm512_mullo_epi32(a, b); }
ROWS_INLINE rows rows_srl(rows a, unsigned n) { return _mm512_srl_epi32(a, _mm_cvtsi32_si128((int)n)); }
ROWS_INLINE rows rows_sll(rows a, unsigned n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128((int)n)); }
ROWS_INLINE rows rows_sra(rows a, unsigned n) { return _mm512_sra_epi32(a, _mm_cvtsi32_si128((int)n)); }
/* 1 in each byte of a that is at least `least` (unsigned), else 0. */
ROWS_INLINE rows rows_at_least8(rows a, uint8_t least)
{
    return _mm512_maskz_mov_epi8(_mm512_cmpge_epu8_mask(a, _mm512_set1_epi8((char)least)), _mm512_set1_epi8(1));
}
/* table[byte] for bytes below 16. */
ROWS_INLINE rows rows_lookup(const int8_t table[16], rows index)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table)), index);
}
ROWS_INLINE void rows_store(void *p, rows a) { _mm512_store_si512(p, a); }
ROWS_INLINE rows rows_load(const void *p) { return _mm512_load_si512(p); }

/* v[i] holds, lane by lane, four dwords of each of the rows i, i + 4, i + 8, i + 12: dword i of all rows instead. */
ROWS_INLINE void rows_transpose4(rows v[4])
{
    rows a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
    rows c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm512_unpacklo_epi64(a, c);
    v[1] = _mm512_unpackhi_epi64(a, c);
    v[2] = _mm512_unpacklo_epi64(b, d);
    v[3] = _mm512_unpackhi_epi64(b, d);
}

/* Four consecutive dwords of each row: out[i] = dword i. */
ROWS_INLINE void rows_load4(const uint8_t *const row[16], size_t offset, rows out[4])
{
    for (int i = 0; i < 4; i++) {
        __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)(row[i] + offset)));
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(const void *)(row[i + 4] + offset)), 1);
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(const void *)(row[i + 8] + offset)), 2);
        out[i] = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(const void *)(row[i + 12] + offset)), 3);
    }
    rows_transpose4(out);
}

/* Sixteen consecutive dwords of each row: each cache line is read once, which counts where rows lie a multiple of 4096 bytes apart and so
 * share the sets of the first-level cache. */
ROWS_INLINE void rows_load16(const uint8_t *const row[16], size_t offset, rows out[16])
{
    rows t[16];
    for (int i = 0; i < 16; i += 4) {
        rows v[4];
        for (int j = 0; j < 4; j++) {
            v[j] = _mm512_loadu_si512(row[i + j] + offset);
        }
        rows a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
        rows c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
        t[i] = _mm512_unpacklo_epi64(a, c); /* lane L: dword 4L of rows i..i + 3 */
        t[i + 1] = _mm512_unpackhi_epi64(a, c);
        t[i + 2] = _mm512_unpacklo_epi64(b, d);
        t[i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    for (int j = 0; j < 4; j++) {
        rows a = _mm512_shuffle_i32x4(t[j], t[4 + j], 0x88), b = _mm512_shuffle_i32x4(t[j], t[4 + j], 0xdd);
        rows c = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0x88), d = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0xdd);
        out[j] = _mm512_shuffle_i32x4(a, c, 0x88);
        out[4 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
        out[8 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
        out[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

/* float16 bits in the low halves of the dwords, as floats. */
ROWS_INLINE void rows_store_halves(float *out, rows a) { _mm512_store_ps(out, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a))); }

/* An integer sub-block scale as the multiplier of this instruction set wants it: 32 bits for VPMULLD. */
ROWS_INLINE rows rows_scale(rows a) { return a; }

#endif
