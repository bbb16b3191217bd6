/* rows_neon.h - one dword of each of 16 rows in four registers: the vocabulary of tile_unpack.inc, for NEON. (rows_avx2.h: the same words.)
 */
#ifndef QN_KERNELS_ROWS_NEON_H
#define QN_KERNELS_ROWS_NEON_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ROWS_INLINE static inline __attribute__((always_inline))

/* SDOT takes signed bytes only. */
enum { ROWS_SIGNED_CODES = 1 };

typedef struct rows {
    uint32x4_t a, b, c, d; /* rows 0..3, 4..7, 8..11, 12..15 */
} rows;

ROWS_INLINE uint32x4_t rows_from_bytes(uint8x16_t v) { return vreinterpretq_u32_u8(v); }
ROWS_INLINE uint8x16_t rows_bytes(uint32x4_t v) { return vreinterpretq_u8_u32(v); }

ROWS_INLINE rows rows_set(uint32_t v)
{
    uint32x4_t all = vdupq_n_u32(v);
    return (rows){all, all, all, all};
}
ROWS_INLINE rows rows_and(rows x, rows y)
{
    return (rows){vandq_u32(x.a, y.a), vandq_u32(x.b, y.b), vandq_u32(x.c, y.c), vandq_u32(x.d, y.d)};
}
ROWS_INLINE rows rows_or(rows x, rows y)
{
    return (rows){vorrq_u32(x.a, y.a), vorrq_u32(x.b, y.b), vorrq_u32(x.c, y.c), vorrq_u32(x.d, y.d)};
}
ROWS_INLINE rows rows_xor(rows x, rows y)
{
    return (rows){veorq_u32(x.a, y.a), veorq_u32(x.b, y.b), veorq_u32(x.c, y.c), veorq_u32(x.d, y.d)};
}
ROWS_INLINE uint32x4_t rows_add8_part(uint32x4_t x, uint32x4_t y) { return rows_from_bytes(vaddq_u8(rows_bytes(x), rows_bytes(y))); }
ROWS_INLINE rows rows_add8(rows x, rows y)
{
    return (rows){rows_add8_part(x.a, y.a), rows_add8_part(x.b, y.b), rows_add8_part(x.c, y.c), rows_add8_part(x.d, y.d)};
}
ROWS_INLINE rows rows_sub32(rows x, rows y)
{
    return (rows){vsubq_u32(x.a, y.a), vsubq_u32(x.b, y.b), vsubq_u32(x.c, y.c), vsubq_u32(x.d, y.d)};
}
ROWS_INLINE rows rows_mul32(rows x, rows y)
{
    return (rows){vmulq_u32(x.a, y.a), vmulq_u32(x.b, y.b), vmulq_u32(x.c, y.c), vmulq_u32(x.d, y.d)};
}
/* Shifts by less than 32, as operators: their intrinsics want a constant in the source, or shift by a register though the number is known. */
ROWS_INLINE rows rows_srl(rows x, unsigned n) { return (rows){x.a >> n, x.b >> n, x.c >> n, x.d >> n}; }
ROWS_INLINE rows rows_sll(rows x, unsigned n) { return (rows){x.a << n, x.b << n, x.c << n, x.d << n}; }
ROWS_INLINE uint32x4_t rows_sra_part(uint32x4_t x, int n) { return vreinterpretq_u32_s32(vreinterpretq_s32_u32(x) >> n); }
ROWS_INLINE rows rows_sra(rows x, unsigned n)
{
    int count = (int)n;
    return (rows){rows_sra_part(x.a, count), rows_sra_part(x.b, count), rows_sra_part(x.c, count), rows_sra_part(x.d, count)};
}
ROWS_INLINE uint32x4_t rows_at_least8_part(uint32x4_t x, uint8_t least)
{
    return rows_from_bytes(vandq_u8(vcgeq_u8(rows_bytes(x), vdupq_n_u8(least)), vdupq_n_u8(1)));
}
/* 1 in each byte of x that is at least `least` (unsigned), else 0. */
ROWS_INLINE rows rows_at_least8(rows x, uint8_t least)
{
    return (rows){rows_at_least8_part(x.a, least), rows_at_least8_part(x.b, least), rows_at_least8_part(x.c, least),
                  rows_at_least8_part(x.d, least)};
}
ROWS_INLINE uint32x4_t rows_lookup_part(uint8x16_t table, uint32x4_t index)
{
    return rows_from_bytes(vqtbl1q_u8(table, rows_bytes(index)));
}
/* table[byte] for bytes below 16. */
ROWS_INLINE rows rows_lookup(const int8_t table[16], rows index)
{
    uint8x16_t t = vreinterpretq_u8_s8(vld1q_s8(table));
    return (rows){rows_lookup_part(t, index.a), rows_lookup_part(t, index.b), rows_lookup_part(t, index.c), rows_lookup_part(t, index.d)};
}
ROWS_INLINE void rows_store(void *p, rows x)
{
    uint32_t *out = p;
    vst1q_u32(out, x.a);
    vst1q_u32(out + 4, x.b);
    vst1q_u32(out + 8, x.c);
    vst1q_u32(out + 12, x.d);
}
ROWS_INLINE rows rows_load(const void *p)
{
    const uint32_t *from = p;
    return (rows){vld1q_u32(from), vld1q_u32(from + 4), vld1q_u32(from + 8), vld1q_u32(from + 12)};
}

ROWS_INLINE uint32x4_t rows_zip_low(uint32x4_t x, uint32x4_t y)
{
    return vreinterpretq_u32_u64(vtrn1q_u64(vreinterpretq_u64_u32(x), vreinterpretq_u64_u32(y)));
}
ROWS_INLINE uint32x4_t rows_zip_high(uint32x4_t x, uint32x4_t y)
{
    return vreinterpretq_u32_u64(vtrn2q_u64(vreinterpretq_u64_u32(x), vreinterpretq_u64_u32(y)));
}

/* Four consecutive dwords of four rows: out[i] = dword i. */
ROWS_INLINE void rows_load4_part(const uint8_t *const row[4], size_t offset, uint32x4_t out[4])
{
    uint32x4_t w = rows_from_bytes(vld1q_u8(row[0] + offset)), x = rows_from_bytes(vld1q_u8(row[1] + offset));
    uint32x4_t y = rows_from_bytes(vld1q_u8(row[2] + offset)), z = rows_from_bytes(vld1q_u8(row[3] + offset));
    uint32x4_t even_low = vtrn1q_u32(w, x), odd_low = vtrn2q_u32(w, x), even_high = vtrn1q_u32(y, z), odd_high = vtrn2q_u32(y, z);
    out[0] = rows_zip_low(even_low, even_high);
    out[1] = rows_zip_low(odd_low, odd_high);
    out[2] = rows_zip_high(even_low, even_high);
    out[3] = rows_zip_high(odd_low, odd_high);
}

/* Two neighbouring dwords of 16 rows, which become [row 0: both, row 1: both], and so on with rows 4, 8, 12 (first) and 2, 6, 10, 14. */
ROWS_INLINE void rows_zip_pairs(rows two[2])
{
    rows x = two[0], y = two[1];
    two[0] = (rows){vzip1q_u32(x.a, y.a), vzip1q_u32(x.b, y.b), vzip1q_u32(x.c, y.c), vzip1q_u32(x.d, y.d)};
    two[1] = (rows){vzip2q_u32(x.a, y.a), vzip2q_u32(x.b, y.b), vzip2q_u32(x.c, y.c), vzip2q_u32(x.d, y.d)};
}

/* Four dwords of four rows: [rows 0, 1: dwords 0, 1], [rows 2, 3: dwords 0, 1], and the same of dwords 2 and 3. */
ROWS_INLINE void rows_load4_pairs_part(const uint8_t *const row[4], size_t offset, uint32x4_t out[4])
{
    uint32x4_t w = rows_from_bytes(vld1q_u8(row[0] + offset)), x = rows_from_bytes(vld1q_u8(row[1] + offset));
    uint32x4_t y = rows_from_bytes(vld1q_u8(row[2] + offset)), z = rows_from_bytes(vld1q_u8(row[3] + offset));
    out[0] = rows_zip_low(w, x);
    out[1] = rows_zip_low(y, z);
    out[2] = rows_zip_high(w, x);
    out[3] = rows_zip_high(y, z);
}

/* Four parts of four rows, as `rows`. */
ROWS_INLINE void rows_from_parts(uint32x4_t part[4][4], rows out[4])
{
    out[0] = (rows){part[0][0], part[1][0], part[2][0], part[3][0]};
    out[1] = (rows){part[0][1], part[1][1], part[2][1], part[3][1]};
    out[2] = (rows){part[0][2], part[1][2], part[2][2], part[3][2]};
    out[3] = (rows){part[0][3], part[1][3], part[2][3], part[3][3]};
}

/* Four consecutive dwords of each row: out[i] = dword i. */
ROWS_INLINE void rows_load4(const uint8_t *const row[16], size_t offset, rows out[4])
{
    uint32x4_t part[4][4];
    rows_load4_part(row, offset, part[0]);
    rows_load4_part(row + 4, offset, part[1]);
    rows_load4_part(row + 8, offset, part[2]);
    rows_load4_part(row + 12, offset, part[3]);
    rows_from_parts(part, out);
}

/* Four consecutive dwords of each row in the order of rows_zip_pairs: as that would make it of the first two, and of the last two. */
ROWS_INLINE void rows_load4_pairs(const uint8_t *const row[16], size_t offset, rows out[4])
{
    uint32x4_t part[4][4];
    rows_load4_pairs_part(row, offset, part[0]);
    rows_load4_pairs_part(row + 4, offset, part[1]);
    rows_load4_pairs_part(row + 8, offset, part[2]);
    rows_load4_pairs_part(row + 12, offset, part[3]);
    rows_from_parts(part, out);
}

/* Sixteen consecutive dwords of each row, four rows at a time: each cache line is read once, which counts where rows lie a multiple of 4096 bytes
 * apart and so share the sets of the first-level cache. */
ROWS_INLINE void rows_load16_in(const uint8_t *const row[16], size_t offset, const bool in_pairs, rows out[16])
{
    uint32x4_t part[4][16];
    for (size_t g = 0; g < 4; g++) {
        for (size_t i = 0; i < 4; i++) {
            (in_pairs ? rows_load4_pairs_part : rows_load4_part)(row + 4 * g, offset + 16 * i, part[g] + 4 * i);
        }
    }
    for (size_t i = 0; i < 16; i++) {
        out[i] = (rows){part[0][i], part[1][i], part[2][i], part[3][i]};
    }
}

ROWS_INLINE void rows_load16(const uint8_t *const row[16], size_t offset, rows out[16]) { rows_load16_in(row, offset, false, out); }

/* The same in the order of rows_zip_pairs. */
ROWS_INLINE void rows_load16_pairs(const uint8_t *const row[16], size_t offset, rows out[16]) { rows_load16_in(row, offset, true, out); }

/* float16 bits in the low halves of the dwords, as floats. */
ROWS_INLINE void rows_store_halves(float *out, rows x)
{
    vst1q_f32(out, vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(x.a))));
    vst1q_f32(out + 4, vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(x.b))));
    vst1q_f32(out + 8, vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(x.c))));
    vst1q_f32(out + 12, vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(x.d))));
}

/* An integer sub-block scale as the multiplier of this instruction set wants it: 32 bits for MLA. */
ROWS_INLINE rows rows_scale(rows x) { return x; }

#endif
