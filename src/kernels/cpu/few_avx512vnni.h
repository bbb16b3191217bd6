/* few_avx512vnni.h - the frame of the few-token kernels (decode): what is common to all weight types.
 *
 * A tile is 16 rows. Stage one goes through the tile row by row, so memory is read in the order it lies in, and leaves in scratch the exact
 * isum of every block and what else of the row the float step needs (raw: scale bits, sub-block mins). Stage two transposes both and runs the
 * float chains of the 16 rows in the lanes of one register.
 *
 *   stage one: row r  ->  isum[token][r][block]   raw[r][...]
 *   tile:      raw    ->  d[block][row]  m[block][row]  (min_pairs[block][4][row])
 *   stage two: block b -> lanes = rows:  acc = fma(d * a, isum, acc); acc = fma(m * a, msum, acc)
 *
 * Columns are cut into chunks so that the activations stay in the first-level cache; between chunks y holds the chains.
 * Invariant: stage one touches no byte outside the row's blocks. Lanes of rows and blocks that do not exist hold anything finite times a scale
 * of zero, or are not stored.
 */
#ifndef QN_KERNELS_FEW_AVX512VNNI_H
#define QN_KERNELS_FEW_AVX512VNNI_H

#include <assert.h>
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/variant.h"
#include "kernels/matmul_kernels.h"

#define FEW_INLINE static inline __attribute__((always_inline))

enum {
    FEW_TOKENS = 8,   /* tokens a pass over the weights serves */
    FEW_GROUP = 3,    /* tokens that share one unpacking in registers */
    FEW_BLOCKS = 128, /* blocks of a chunk, at most */
    FEW_COLUMNS = 8192,
    FEW_AHEAD = 8192,
    FEW_STRIDE = FEW_BLOCKS + 16 /* not a power of two: rows of a column must not share cache sets */
};

typedef struct few_scratch {
    int32_t isum[FEW_TOKENS][16][FEW_STRIDE];
    uint32_t raw[16][FEW_STRIDE];
    float d[FEW_BLOCKS][16], m[FEW_BLOCKS][16];
    int32_t min_pairs[FEW_COLUMNS / 256][4][16]; /* two 16-bit mins a dword: sub-blocks 0 2, 1 3, 4 6, 5 7 */
    /* activations as the type wants them, filled once a chunk */
    int8_t q[FEW_TOKENS][FEW_COLUMNS];
    int16_t sums[FEW_TOKENS][FEW_COLUMNS / 16];
    int32_t block_sum[FEW_TOKENS][FEW_BLOCKS];
} few_scratch;
static_assert(sizeof(few_scratch) <= QN_MATMUL_SCRATCH_BYTES, "the few-token kernels must fit the scratch");

/* Where a chunk stands: blocks [block0, block0 + n_blocks) of the row, tokens [t0, t0 + n_tokens). */
typedef struct few_chunk {
    const qn_matrix *w;
    const qn_act *a;
    size_t block0, n_blocks, t0, n_tokens;
    few_scratch *s;
} few_chunk;

/* Lanes of x times 16 rows become 16 registers, one a column: out[c] lane r = x[r] lane c. */
FEW_INLINE void few_transpose16(__m512i x[16])
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

/* 16 blocks of 16 rows from a scratch plane. */
FEW_INLINE void few_load_columns(const void *plane, size_t block, __m512i out[16])
{
    const char *p = (const char *)plane + block * sizeof(int32_t);
    for (size_t r = 0; r < 16; r++) {
        out[r] = _mm512_loadu_si512(p + r * FEW_STRIDE * sizeof(int32_t));
    }
    few_transpose16(out);
}

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

/* Asks for the lines that lie FEW_AHEAD bytes further on, across rows and pages, where the hardware's own prefetching stops. An address past
 * the end is only a hint and harmless. */
FEW_INLINE void few_prefetch(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) {
        _mm_prefetch((const char *)((uintptr_t)p + FEW_AHEAD + i), _MM_HINT_T1);
    }
}

/* Blocks are handled 16 at a time; the scales of those past the end become zero, so that they add nothing. */
FEW_INLINE __m512 few_scale_or_zero(__m512 scale, size_t block, size_t n_blocks) { return block < n_blocks ? scale : _mm512_setzero_ps(); }

FEW_INLINE __m512 few_negate(__m512 v)
{
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(v), _mm512_set1_epi32(INT32_MIN)));
}

/* raw[r][block] = float16 bits of d, or of d and m (in the upper half). */
FEW_INLINE void few_unpack_scales(few_scratch *s, size_t n_blocks, bool with_m)
{
    for (size_t b = 0; b < n_blocks; b += 16) {
        __m512i x[16];
        few_load_columns(s->raw, b, x);
        for (size_t j = 0; j < 16; j++) {
            _mm512_store_ps(s->d[b + j], few_scale_or_zero(few_half_to_float(x[j]), b + j, n_blocks));
            if (with_m) {
                _mm512_store_ps(s->m[b + j], few_scale_or_zero(few_half_to_float(_mm512_srli_epi32(x[j], 16)), b + j, n_blocks));
            }
        }
    }
}

/* What multiplies m * a: nothing, the block's sum of activations (the same for all rows), or mins times the sums of its sub-blocks. */
typedef enum few_min { FEW_MIN_NONE, FEW_MIN_OF_BLOCK, FEW_MIN_OF_SUBS } few_min;

/* Stage two for one token: continues the chains of 16 rows in acc over the chunk's blocks. */
FEW_INLINE __m512 few_chain(const few_chunk *c, size_t token, __m512 acc, few_min min)
{
    const few_scratch *s = c->s;
    const float *a = c->a->d + (c->t0 + token) * c->a->d_stride + c->block0; /* padded with zeros to a multiple of 16 */
    for (size_t b = 0; b < c->n_blocks; b += 16) {
        __m512i isum[16];
        few_load_columns(s->isum[token], b, isum);
        for (size_t j = 0; j < 16; j++) {
            __m512 scale = _mm512_set1_ps(a[b + j]);
            acc = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(s->d[b + j]), scale), _mm512_cvtepi32_ps(isum[j]), acc);
            if (min == FEW_MIN_OF_BLOCK) {
                __m512 sum = _mm512_set1_ps((float)s->block_sum[token][b + j]);
                acc = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(s->m[b + j]), scale), sum, acc);
            } else if (min == FEW_MIN_OF_SUBS) {
                __m512i sum = _mm512_setzero_si512();
                for (size_t i = 0; i < 4; i++) {
                    int32_t pair;
                    memcpy(&pair, &s->sums[token][(b + j) * 8 + 2 * i], sizeof pair);
                    sum = _mm512_dpwssd_epi32(sum, _mm512_load_si512(s->min_pairs[b + j][i]), _mm512_set1_epi32(pair));
                }
                acc = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(s->m[b + j]), scale), _mm512_cvtepi32_ps(sum), acc);
            }
        }
    }
    return acc;
}

/* One type: how activations are prepared for a chunk (may be NULL), how the sums of one row are taken for n tokens from `token` of the chunk
 * on, how the tile's scales are read after that. */
typedef struct few_type {
    size_t block;       /* elements */
    size_t block_bytes; /* 0: rows have no whole-byte blocks of their own; stage one finds its place itself */
    few_min min;
    void (*prepare)(const few_chunk *c);
    void (*row)(const few_chunk *c, const uint8_t *row, size_t r, size_t token, size_t n_tokens);
    void (*scales)(const few_chunk *c, size_t row0, size_t n_rows);
} few_type;

FEW_INLINE void few_tile(const few_chunk *c, const few_type *type, size_t row0, size_t n_rows, float *y, size_t y_stride)
{
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = c->w->data + (row0 + r) * c->w->row_bytes + c->block0 * type->block_bytes;
        for (size_t token = 0; token < c->n_tokens;) { /* groups of nearly equal size: 4 = 2 + 2 */
            size_t left = c->n_tokens - token;
            size_t n_groups = (left + FEW_GROUP - 1) / FEW_GROUP;
            size_t n = (left + n_groups - 1) / n_groups;
            type->row(c, row, r, token, n);
            token += n;
        }
    }
    type->scales(c, row0, n_rows);
    __mmask16 mask = (__mmask16)((1u << n_rows) - 1u);
    for (size_t token = 0; token < c->n_tokens; token++) {
        float *out = y + (c->t0 + token) * y_stride + row0;
        __m512 acc = c->block0 == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, out);
        _mm512_mask_storeu_ps(out, mask, few_chain(c, token, acc, type->min));
    }
}

/* The whole product. Always inlined, so that `type` is a constant and its functions are called directly. */
FEW_INLINE void few_matmul(const few_type *type, const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                           size_t y_stride, void *scratch)
{
    size_t n_blocks = w->n_cols / type->block;
    size_t most = FEW_COLUMNS / type->block < FEW_BLOCKS ? FEW_COLUMNS / type->block : FEW_BLOCKS;
    for (size_t t = t0; t < t1; t += FEW_TOKENS) {
        few_chunk c = {.w = w, .a = a, .t0 = t, .n_tokens = t1 - t < FEW_TOKENS ? t1 - t : FEW_TOKENS, .s = scratch};
        for (c.block0 = 0; c.block0 < n_blocks; c.block0 += c.n_blocks) {
            size_t left = n_blocks - c.block0;
            size_t n_chunks = (left + most - 1) / most;
            size_t even = ((left + n_chunks - 1) / n_chunks + 15) / 16 * 16; /* whole transpositions, chunks of nearly equal size */
            c.n_blocks = even < left ? even : left;
            if (type->prepare != NULL) {
                type->prepare(&c);
            }
            for (size_t r = r0; r < r1; r += 16) {
                few_tile(&c, type, r, r1 - r < 16 ? r1 - r : 16, y, y_stride);
            }
        }
    }
}

/* One loop for each number of tokens, so that its registers are fixed. */
#define FEW_FOR_TOKENS(call) \
    switch (n_tokens) { \
    case 1: call(1); break; \
    case 2: call(2); break; \
    default: call(3); break; \
    }

#endif
