/* rows_avx2.h - one dword of each of 16 rows in two registers: the vocabulary of tile_unpack.inc, for AVX2. (rows_avx512.h: the same words.)
 */
#ifndef QN_KERNELS_ROWS_AVX2_H
#define QN_KERNELS_ROWS_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define ROWS_INLINE static inline __attribute__((always_inline))

/* VPMADDUBSW takes codes as unsigned bytes. */
enum { ROWS_SIGNED_CODES = 0 };

typedef struct rows {
    __m256i low, high; /* rows 0..7, 8..15 */
} rows;

ROWS_INLINE rows rows_set(uint32_t v) { return (rows){_mm256_set1_epi32((int)v), _mm256_set1_epi32((int)v)}; }
ROWS_INLINE rows rows_and(rows a, rows b) { return (rows){_mm256_and_si256(a.low, b.low), _mm256_and_si256(a.high, b.high)}; }
ROWS_INLINE rows rows_or(rows a, rows b) { return (rows){_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)}; }
ROWS_INLINE rows rows_xor(rows a, rows b) { return (rows){_mm256_xor_si256(a.low, b.low), _mm256_xor_si256(a.high, b.high)}; }
ROWS_INLINE rows rows_add8(rows a, rows b) { return (rows){_mm256_add_epi8(a.low, b.low), _mm256_add_epi8(a.high, b.high)}; }
ROWS_INLINE rows rows_sub32(rows a, rows b) { return (rows){_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)}; }
ROWS_INLINE rows rows_mul32(rows a, rows b) { return (rows){_mm256_mullo_epi32(a.low, b.low), _mm256_mullo_epi32(a.high, b.high)}; }
ROWS_INLINE rows rows_srl(rows a, unsigned n)
{
    __m128i count = _mm_cvtsi32_si128((int)n);
    return (rows){_mm256_srl_epi32(a.low, count), _mm256_srl_epi32(a.high, count)};
}
ROWS_INLINE rows rows_sll(rows a, unsigned n)
{
    __m128i count = _mm_cvtsi32_si128((int)n);
    return (rows){_mm256_sll_epi32(a.low, count), _mm256_sll_epi32(a.high, count)};
}
ROWS_INLINE rows rows_sra(rows a, unsigned n)
{
    __m128i count = _mm_cvtsi32_si128((int)n);
    return (rows){_mm256_sra_epi32(a.low, count), _mm256_sra_epi32(a.high, count)};
}
/* 1 in each byte of a that is at least `least` (unsigned), else 0. */
ROWS_INLINE rows rows_at_least8(rows a, uint8_t least)
{
    __m256i l = _mm256_set1_epi8((char)least), one = _mm256_set1_epi8(1);
    return (rows){_mm256_and_si256(_mm256_cmpeq_epi8(_mm256_max_epu8(a.low, l), a.low), one),
                  _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_max_epu8(a.high, l), a.high), one)};
}
/* table[byte] for bytes below 16. */
ROWS_INLINE rows rows_lookup(const int8_t table[16], rows index)
{
    __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
    return (rows){_mm256_shuffle_epi8(t, index.low), _mm256_shuffle_epi8(t, index.high)};
}
ROWS_INLINE void rows_store(void *p, rows a)
{
    _mm256_store_si256(p, a.low);
    _mm256_store_si256((__m256i *)p + 1, a.high);
}
ROWS_INLINE rows rows_load(const void *p) { return (rows){_mm256_load_si256(p), _mm256_load_si256((const __m256i *)p + 1)}; }

ROWS_INLINE void rows_load4_half(const uint8_t *const row[8], size_t offset, __m256i out[4])
{
    __m256i v[4];
    for (int i = 0; i < 4; i++) {
        __m256i x = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(row[i] + offset)));
        v[i] = _mm256_inserti128_si256(x, _mm_loadu_si128((const __m128i *)(const void *)(row[i + 4] + offset)), 1);
    }
    __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpackhi_epi32(v[0], v[1]);
    __m256i c = _mm256_unpacklo_epi32(v[2], v[3]), d = _mm256_unpackhi_epi32(v[2], v[3]);
    out[0] = _mm256_unpacklo_epi64(a, c);
    out[1] = _mm256_unpackhi_epi64(a, c);
    out[2] = _mm256_unpacklo_epi64(b, d);
    out[3] = _mm256_unpackhi_epi64(b, d);
}

/* Four consecutive dwords of each row: out[i] = dword i. */
ROWS_INLINE void rows_load4(const uint8_t *const row[16], size_t offset, rows out[4])
{
    __m256i low[4], high[4];
    rows_load4_half(row, offset, low);
    rows_load4_half(row + 8, offset, high);
    for (int i = 0; i < 4; i++) {
        out[i] = (rows){low[i], high[i]};
    }
}

/* Sixteen consecutive dwords of each row, by way of a copy: each cache line is read once, which counts where rows lie a multiple of 4096 bytes
 * apart and so share the sets of the first-level cache. */
ROWS_INLINE void rows_load16(const uint8_t *const row[16], size_t offset, rows out[16])
{
    _Alignas(32) uint8_t lines[16][96];
    const uint8_t *copy[16];
    for (int r = 0; r < 16; r++) {
        const __m256i *from = (const __m256i *)(const void *)(row[r] + offset);
        _mm256_store_si256((__m256i *)(void *)lines[r], _mm256_loadu_si256(from));
        _mm256_store_si256((__m256i *)(void *)(lines[r] + 32), _mm256_loadu_si256(from + 1));
        copy[r] = lines[r];
    }
    for (size_t i = 0; i < 4; i++) {
        rows_load4(copy, 16 * i, out + 4 * i);
    }
}

/* float16 bits in the low halves of the dwords, as floats. */
ROWS_INLINE void rows_store_halves(float *out, rows a)
{
    const __m256i low_half = _mm256_set1_epi32(0xffff);
    __m256i packed = _mm256_packus_epi32(_mm256_and_si256(a.low, low_half), _mm256_and_si256(a.high, low_half));
    packed = _mm256_permute4x64_epi64(packed, 0xd8);
    _mm256_store_ps(out, _mm256_cvtph_ps(_mm256_castsi256_si128(packed)));
    _mm256_store_ps(out + 8, _mm256_cvtph_ps(_mm256_extracti128_si256(packed, 1)));
}

/* An integer sub-block scale as the multiplier of this instruction set wants it: twice 16 bits for VPMADDWD. */
ROWS_INLINE rows rows_scale(rows a) { return rows_or(rows_and(a, rows_set(0xffff)), rows_sll(a, 16)); }

#endif
