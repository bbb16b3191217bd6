/* few_avx2.h - the frame of the few-token kernels (decode) for AVX2. The same two stages as few_avx512vnni.h:
 *
 *   stage one: row r  ->  isum[token][r][block]   raw[r][...]          rows in the order of memory
 *   tile:      raw    ->  d[block][row]  m[block][row]  (min_pairs[block][4][row])
 *   stage two: block b -> lanes = rows:  acc = fma(d * a, isum, acc); acc = fma(m * a, msum, acc)
 *
 * A tile is 8 rows here, one register; transpositions are 8 x 8.
 * Invariant: stage one touches no byte outside the row's blocks. Lanes of rows and blocks that do not exist hold anything finite times a scale
 * of zero, or are not stored.
 */
#ifndef QN_KERNELS_FEW_AVX2_H
#define QN_KERNELS_FEW_AVX2_H

#include <assert.h>
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/variant.h"
#include "kernels/matmul_kernels.h"

#define FEW_INLINE static inline __attribute__((always_inline))

enum {
    FEW_ROWS = 8,
    FEW_TOKENS = 8,   /* tokens a pass over the weights serves */
    FEW_GROUP = 2,    /* tokens that share one unpacking in registers */
    FEW_BLOCKS = 128, /* blocks of a chunk, at most */
    FEW_COLUMNS = 8192,
    FEW_AHEAD = 8192,           /* bytes between work and prefetch; see few_avx512vnni.h */
    FEW_STRIDE = FEW_BLOCKS + 8 /* not a power of two: rows of a column must not share cache sets */
};

typedef struct few_scratch {
    int32_t isum[FEW_TOKENS][FEW_ROWS][FEW_STRIDE];
    uint32_t raw[FEW_ROWS][FEW_STRIDE];
    float d[FEW_BLOCKS][FEW_ROWS], m[FEW_BLOCKS][FEW_ROWS];
    int32_t min_pairs[FEW_COLUMNS / 256][4][FEW_ROWS]; /* two 16-bit mins a dword: sub-blocks 0 2, 1 3, 4 6, 5 7 */
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

/* out[c] lane r = x[r] lane c. */
FEW_INLINE void few_transpose8(__m256i x[8])
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

/* 8 blocks of 8 rows from a scratch plane. */
FEW_INLINE void few_load_columns(const void *plane, size_t block, __m256i out[8])
{
    const char *p = (const char *)plane + block * sizeof(int32_t);
    for (size_t r = 0; r < 8; r++) {
        out[r] = _mm256_loadu_si256((const __m256i *)(const void *)(p + r * FEW_STRIDE * sizeof(int32_t)));
    }
    few_transpose8(out);
}

/* The sums of four registers. */
FEW_INLINE __m128i few_sum_4(const __m256i p[4])
{
    __m256i a = _mm256_add_epi32(_mm256_unpacklo_epi32(p[0], p[1]), _mm256_unpackhi_epi32(p[0], p[1]));
    __m256i b = _mm256_add_epi32(_mm256_unpacklo_epi32(p[2], p[3]), _mm256_unpackhi_epi32(p[2], p[3]));
    __m256i lanes = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    return _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
}

FEW_INLINE __m256i few_load_32(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* 16 bytes in both lanes. */
FEW_INLINE __m256i few_load_16_twice(const void *p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)); }

/* Asks for the lines that lie FEW_AHEAD bytes further on. An address past the end is only a hint and harmless. */
FEW_INLINE void few_prefetch(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) {
        _mm_prefetch((const char *)((uintptr_t)p + FEW_AHEAD + i), _MM_HINT_T1);
    }
}

/* float16 in the low halves of 8 dwords. */
FEW_INLINE __m256 few_half_to_float(__m256i dwords)
{
    __m256i low = _mm256_and_si256(dwords, _mm256_set1_epi32(0xffff));
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0xd8);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
}

/* Blocks are handled 8 at a time; the scales of those past the end become zero, so that they add nothing. */
FEW_INLINE __m256 few_scale_or_zero(__m256 scale, size_t block, size_t n_blocks) { return block < n_blocks ? scale : _mm256_setzero_ps(); }

FEW_INLINE __m256 few_negate(__m256 v) { return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)); }

/* raw[r][block] = float16 bits of d, or of d and m (in the upper half). */
FEW_INLINE void few_unpack_scales(few_scratch *s, size_t n_blocks, bool with_m)
{
    for (size_t b = 0; b < n_blocks; b += 8) {
        __m256i x[8];
        few_load_columns(s->raw, b, x);
        for (size_t j = 0; j < 8; j++) {
            _mm256_store_ps(s->d[b + j], few_scale_or_zero(few_half_to_float(x[j]), b + j, n_blocks));
            if (with_m) {
                _mm256_store_ps(s->m[b + j], few_scale_or_zero(few_half_to_float(_mm256_srli_epi32(x[j], 16)), b + j, n_blocks));
            }
        }
    }
}

/* What multiplies m * a: nothing, the block's sum of activations (the same for all rows), or mins times the sums of its sub-blocks. */
typedef enum few_min { FEW_MIN_NONE, FEW_MIN_OF_BLOCK, FEW_MIN_OF_SUBS } few_min;

/* Stage two for one token: continues the chains of 8 rows in acc over the chunk's blocks. */
FEW_INLINE __m256 few_chain(const few_chunk *c, size_t token, __m256 acc, few_min min)
{
    const few_scratch *s = c->s;
    const float *a = c->a->d + (c->t0 + token) * c->a->d_stride + c->block0; /* padded with zeros to a multiple of 16 */
    for (size_t b = 0; b < c->n_blocks; b += 8) {
        __m256i isum[8];
        few_load_columns(s->isum[token], b, isum);
        for (size_t j = 0; j < 8; j++) {
            __m256 scale = _mm256_set1_ps(a[b + j]);
            acc = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_load_ps(s->d[b + j]), scale), _mm256_cvtepi32_ps(isum[j]), acc);
            if (min == FEW_MIN_OF_BLOCK) {
                __m256 sum = _mm256_set1_ps((float)s->block_sum[token][b + j]);
                acc = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_load_ps(s->m[b + j]), scale), sum, acc);
            } else if (min == FEW_MIN_OF_SUBS) {
                __m256i sum = _mm256_setzero_si256();
                for (size_t i = 0; i < 4; i++) {
                    int32_t pair;
                    memcpy(&pair, &s->sums[token][(b + j) * 8 + 2 * i], sizeof pair);
                    __m256i mins = _mm256_load_si256((const __m256i *)(const void *)s->min_pairs[b + j][i]);
                    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(mins, _mm256_set1_epi32(pair)));
                }
                acc = _mm256_fmadd_ps(_mm256_mul_ps(_mm256_load_ps(s->m[b + j]), scale), _mm256_cvtepi32_ps(sum), acc);
            }
        }
    }
    return acc;
}

/* One type: how activations are prepared for a chunk, how the sums of one row are taken for n tokens from `token` of the chunk on, how the
 * tile's scales are read after that. */
typedef struct few_type {
    size_t block;       /* elements */
    size_t block_bytes; /* 0: stage one finds its place itself */
    few_min min;
    void (*prepare)(const few_chunk *c);
    void (*row)(const few_chunk *c, const uint8_t *row, size_t r, size_t token, size_t n_tokens);
    void (*scales)(const few_chunk *c, size_t row0, size_t n_rows);
} few_type;

FEW_INLINE void few_tile(const few_chunk *c, const few_type *type, size_t row0, size_t n_rows, float *y, size_t y_stride)
{
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = c->w->data + (row0 + r) * c->w->row_bytes + c->block0 * type->block_bytes;
        for (size_t token = 0; token < c->n_tokens; token += FEW_GROUP) {
            type->row(c, row, r, token, c->n_tokens - token < FEW_GROUP ? c->n_tokens - token : FEW_GROUP);
        }
    }
    type->scales(c, row0, n_rows);
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n_rows), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
    for (size_t token = 0; token < c->n_tokens; token++) {
        float *out = y + (c->t0 + token) * y_stride + row0;
        __m256 acc = c->block0 == 0 ? _mm256_setzero_ps() : _mm256_maskload_ps(out, mask);
        _mm256_maskstore_ps(out, mask, few_chain(c, token, acc, type->min));
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
            type->prepare(&c);
            for (size_t r = r0; r < r1; r += FEW_ROWS) {
                few_tile(&c, type, r, r1 - r < FEW_ROWS ? r1 - r : FEW_ROWS, y, y_stride);
            }
        }
    }
}

#endif
