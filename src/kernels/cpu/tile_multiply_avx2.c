/* tile_multiply_avx2.c - the multipliers of the normal form (tile.h) with VPMADDUBSW: codes are the unsigned operand, four activations are
 * broadcast as the signed one.
 *
 * A step adds two products to 16 bits. How many steps fit before the sums must be widened depends on the largest code, so that is a constant
 * of each multiplier: codes to 15 give 8 steps (8 * 2 * 15 * 127 = 30480), to 31 four, to 63 two; larger codes are split into two nibbles.
 * Widening multiplies with the sub-block scale in the same instruction (VPMADDWD). Invariant: no 16-bit sum saturates; float steps in the order
 * of matmul.h.
 */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/tile.h"
#include "kernels/cpu/variant.h"

#define TILE_INLINE static inline __attribute__((always_inline))

enum { GROUP = 4, SPLIT = 0 }; /* SPLIT: as number of steps, codes above 63 */

/* Four activations, or the sums of two sub-blocks, in every lane. */
TILE_INLINE __m256i broadcast4(const void *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

TILE_INLINE __m256i load_half(const void *sixteen, size_t half) { return _mm256_load_si256((const __m256i *)sixteen + half); }

/* 16-bit sums: of codes (their low nibbles if split), and of high nibbles. Halves are rows 0..7 and 8..15. */
typedef struct short_sums {
    __m256i low[GROUP][2], high[GROUP][2];
} short_sums;

TILE_INLINE void add_four(const qn_tile_args *a, size_t k, const bool split, const size_t n_tokens, short_sums *s)
{
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i low[2], high[2];
    for (size_t h = 0; h < 2; h++) {
        low[h] = load_half(a->tiles[0].code[k], h);
        if (split) {
            high[h] = _mm256_and_si256(_mm256_srli_epi16(low[h], 4), mask);
            low[h] = _mm256_and_si256(low[h], mask);
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        __m256i x = broadcast4(a->q + t * a->q_stride + 4 * k);
        for (size_t h = 0; h < 2; h++) {
            s->low[t][h] = _mm256_add_epi16(s->low[t][h], _mm256_maddubs_epi16(low[h], x));
            if (split) {
                s->high[t][h] = _mm256_add_epi16(s->high[t][h], _mm256_maddubs_epi16(high[h], x));
            }
        }
    }
}

/* Sums of 2, 4 or 8 steps from zero. Written out: in a loop over k compilers move every sum between two registers each time round.
 * (The build tells GCC to leave the order of these additions alone: compile_flags.cmake.) */
TILE_INLINE void sum_steps(const qn_tile_args *a, size_t k, const size_t steps, const bool split, const size_t n_tokens, short_sums *s)
{
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t h = 0; h < 2; h++) {
            s->low[t][h] = _mm256_setzero_si256();
            s->high[t][h] = _mm256_setzero_si256();
        }
    }
    add_four(a, k, split, n_tokens, s);
    add_four(a, k + 1, split, n_tokens, s);
    if (steps >= 4) {
        add_four(a, k + 2, split, n_tokens, s);
        add_four(a, k + 3, split, n_tokens, s);
    }
    if (steps == 8) {
        add_four(a, k + 4, split, n_tokens, s);
        add_four(a, k + 5, split, n_tokens, s);
        add_four(a, k + 6, split, n_tokens, s);
        add_four(a, k + 7, split, n_tokens, s);
    }
}

/* isum += scale * codes * activations over `width` columns. scale: pairs of equal 16-bit numbers. */
TILE_INLINE void add_products(const qn_tile_args *a, size_t column, const size_t width, const size_t steps, const __m256i scale[2],
                              const size_t n_tokens, __m256i isum[GROUP][2])
{
    const bool split = steps == SPLIT;
    const size_t most = split ? 8 : steps;
    const size_t n = width / 4 < most ? width / 4 : most;
    for (size_t k = column / 4; k < (column + width) / 4; k += n) {
        short_sums s;
        sum_steps(a, k, n, split, n_tokens, &s);
        for (size_t h = 0; h < 2; h++) {
            for (size_t t = 0; t < n_tokens; t++) {
                isum[t][h] = _mm256_add_epi32(isum[t][h], _mm256_madd_epi16(s.low[t][h], scale[h]));
                if (split) {
                    isum[t][h] = _mm256_add_epi32(isum[t][h], _mm256_madd_epi16(s.high[t][h], _mm256_slli_epi16(scale[h], 4)));
                }
            }
        }
    }
}

TILE_INLINE __m256 step(__m256 acc, const float *scale, float activation_scale, __m256 sum)
{
    return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_load_ps(scale), _mm256_set1_ps(activation_scale)), sum, acc);
}

/* Part `i` of `n` of the lines to ask for. */
TILE_INLINE void prefetch_part(const qn_tile_args *a, size_t i, size_t n)
{
    for (size_t j = i; j < a->n_ahead; j += n) {
        _mm_prefetch((const char *)(a->ahead + 64 * j), _MM_HINT_T1);
    }
    for (size_t j = i; j < a->n_next; j += n) {
        for (size_t k = 0; k < TILE_COLUMNS; k += 64) {
            _mm_prefetch((const char *)(a->next + j * a->q_stride + k), _MM_HINT_T0);
        }
    }
    for (size_t j = i; a->y != NULL && j < a->n_tokens; j += n) {
        _mm_prefetch((const char *)(a->y + j * a->y_stride), _MM_HINT_T1);
    }
}

/* The panel's sums of activations that `pair` multiplies, two a dword: of 16 columns as they are, of 32 added up. */
typedef struct pair_sums {
    _Alignas(16) int16_t of[GROUP][16];
} pair_sums;

TILE_INLINE void take_pair_sums(const qn_tile_args *a, const size_t sub, const size_t n_tokens, pair_sums *out)
{
    for (size_t t = 0; t < n_tokens; t++) {
        __m256i sum16 = _mm256_loadu_si256((const __m256i *)(const void *)(a->sum16 + t * a->s_stride));
        if (sub == 16) {
            _mm256_storeu_si256((__m256i *)(void *)out->of[t], sum16);
        } else {
            __m256i sum32 = _mm256_madd_epi16(sum16, _mm256_set1_epi16(1));
            _mm_store_si128((__m128i *)(void *)out->of[t],
                            _mm_packs_epi32(_mm256_castsi256_si128(sum32), _mm256_extracti128_si256(sum32, 1)));
        }
    }
}

TILE_INLINE __m256i pair_sum(const qn_tile_args *a, const pair_sums *sums, const size_t sub, size_t half, size_t token)
{
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i < TILE_COLUMNS / sub / 2; i++) {
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(load_half(a->tiles[0].pair[i], half), broadcast4(&sums->of[token][2 * i])));
    }
    return sum;
}

/* One super-block: integer scales per `sub` columns. */
QN_VARIANT void multiply_super(const qn_tile_args *a, const size_t sub, const bool has_min, const size_t steps, const size_t n_tokens)
{
    const qn_tile *tile = a->tiles;
    pair_sums sums;
    take_pair_sums(a, sub, n_tokens, &sums);
    __m256i isum[GROUP][2];
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t h = 0; h < 2; h++) {
            isum[t][h] = has_min ? _mm256_setzero_si256() : pair_sum(a, &sums, sub, h, t);
        }
    }
    for (size_t s = 0; s < TILE_COLUMNS / sub; s++) {
        prefetch_part(a, s, TILE_COLUMNS / sub);
        __m256i scale[2] = {load_half(tile->scale[s], 0), load_half(tile->scale[s], 1)};
        add_products(a, s * sub, sub, steps, scale, n_tokens, isum);
    }
    for (size_t t = 0; t < n_tokens; t++) {
        float activation_scale = a->d[t * a->d_stride];
        for (size_t h = 0; h < 2; h++) {
            float *out = a->acc + t * TILE_ROWS + 8 * h;
            __m256 acc = step(_mm256_load_ps(out), tile->d[0] + 8 * h, activation_scale, _mm256_cvtepi32_ps(isum[t][h]));
            if (has_min) {
                acc = step(acc, tile->m[0] + 8 * h, activation_scale, _mm256_cvtepi32_ps(pair_sum(a, &sums, sub, h, t)));
            }
            _mm256_store_ps(out, acc);
        }
    }
}

/* Sums of a token's activations over the panel's blocks, times `factor`. */
typedef struct block_sums {
    _Alignas(32) int32_t of[GROUP][TILE_COLUMNS / 32];
} block_sums;

TILE_INLINE void take_block_sums(const qn_tile_args *a, int factor, const size_t n_tokens, block_sums *out)
{
    for (size_t t = 0; t < n_tokens; t++) {
        __m256i sum16 = _mm256_loadu_si256((const __m256i *)(const void *)(a->sum16 + t * a->s_stride));
        _mm256_store_si256((__m256i *)(void *)out->of[t], _mm256_madd_epi16(sum16, _mm256_set1_epi16((short)factor)));
    }
    for (size_t width = 32; width < a->block; width *= 2) { /* neighbours meet until a sum covers a block */
        for (size_t t = 0; t < n_tokens; t++) {
            for (size_t i = 0; i < TILE_COLUMNS / width / 2; i++) {
                out->of[t][i] = out->of[t][2 * i] + out->of[t][2 * i + 1];
            }
        }
    }
}

/* The blocks of a panel, a float scale each. */
QN_VARIANT void multiply_flat(const qn_tile_args *a, const bool has_min, const bool narrow, const size_t steps, const size_t n_tokens)
{
    const qn_tile *tile = a->tiles;
    const __m256i ones[2] = {_mm256_set1_epi16(1), _mm256_set1_epi16(1)};
    block_sums sums;
    take_block_sums(a, has_min ? 1 : -a->offset, n_tokens, &sums);
    for (size_t b = 0; b < a->n_blocks; b++) {
        prefetch_part(a, b, a->n_blocks);
        __m256i isum[GROUP][2];
        for (size_t t = 0; t < n_tokens; t++) {
            isum[t][0] = isum[t][1] = has_min ? _mm256_setzero_si256() : _mm256_set1_epi32(sums.of[t][b]);
        }
        if (narrow) {
            add_products(a, b * 32, 32, steps, ones, n_tokens, isum);
        } else {
            for (size_t column = b * a->block; column < (b + 1) * a->block; column += 32) {
                add_products(a, column, 32, steps, ones, n_tokens, isum);
            }
        }
        for (size_t t = 0; t < n_tokens; t++) {
            float activation_scale = a->d[t * a->d_stride + b];
            for (size_t h = 0; h < 2; h++) {
                float *out = a->acc + t * TILE_ROWS + 8 * h;
                __m256 acc = step(_mm256_load_ps(out), tile->d[b] + 8 * h, activation_scale, _mm256_cvtepi32_ps(isum[t][h]));
                if (has_min) {
                    acc = step(acc, tile->m[b] + 8 * h, activation_scale, _mm256_set1_ps((float)sums.of[t][b]));
                }
                _mm256_store_ps(out, acc);
            }
        }
    }
}

/* Functions NAME_<tokens> of one body, and the multiplier NAME of them. */
/* The formatter has no form for functions and data made by macros. */
/* clang-format off */
#define ONE(name, body, tokens) \
    static void name##_##tokens(const qn_tile_args *a) { body(a, tokens); }
#define MULTIPLIER_2(name, body) \
    ONE(name, body, 1) ONE(name, body, 2) \
    static const qn_tile_multiplier name = {.max_group = 2, .fn = {{name##_1, name##_2}}};
#define MULTIPLIER_4(name, body) \
    ONE(name, body, 1) ONE(name, body, 2) ONE(name, body, 3) ONE(name, body, 4) \
    static const qn_tile_multiplier name = {.max_group = 4, .fn = {{name##_1, name##_2, name##_3, name##_4}}};
/* clang-format on */

#define SUPER16_MIN(a, tokens) multiply_super(a, 16, true, 4, tokens)
#define SUPER16_OFFSET(a, tokens) multiply_super(a, 16, false, 4, tokens)
#define SUPER16_OFFSET_63(a, tokens) multiply_super(a, 16, false, 2, tokens)
#define SUPER32_MIN(a, tokens) multiply_super(a, 32, true, 8, tokens)
#define SUPER32_MIN_31(a, tokens) multiply_super(a, 32, true, 4, tokens)
#define SUPER32_OFFSET_SPLIT(a, tokens) multiply_super(a, 32, false, SPLIT, tokens)
#define FLAT32_MIN(a, tokens) multiply_flat(a, true, true, 8, tokens)
#define FLAT32_MIN_31(a, tokens) multiply_flat(a, true, true, 4, tokens)
#define FLAT32_OFFSET(a, tokens) multiply_flat(a, false, true, 8, tokens)
#define FLAT32_OFFSET_31(a, tokens) multiply_flat(a, false, true, 4, tokens)
#define FLAT32_OFFSET_SPLIT(a, tokens) multiply_flat(a, false, true, SPLIT, tokens)
#define FLAT_MIN(a, tokens) multiply_flat(a, true, false, 8, tokens)
#define FLAT_MIN_31(a, tokens) multiply_flat(a, true, false, 4, tokens)
#define FLAT_MIN_63(a, tokens) multiply_flat(a, true, false, 2, tokens)
#define FLAT_MIN_SPLIT(a, tokens) multiply_flat(a, true, false, SPLIT, tokens)
#define FLAT_OFFSET(a, tokens) multiply_flat(a, false, false, 8, tokens)
MULTIPLIER_4(super16_min, SUPER16_MIN)
MULTIPLIER_4(super16_offset, SUPER16_OFFSET)
MULTIPLIER_4(super16_offset_63, SUPER16_OFFSET_63)
MULTIPLIER_4(super32_min, SUPER32_MIN)
MULTIPLIER_4(super32_min_31, SUPER32_MIN_31)
MULTIPLIER_4(flat32_min, FLAT32_MIN)
MULTIPLIER_4(flat32_min_31, FLAT32_MIN_31)
MULTIPLIER_4(flat32_offset, FLAT32_OFFSET)
MULTIPLIER_4(flat32_offset_31, FLAT32_OFFSET_31)
MULTIPLIER_4(flat_min, FLAT_MIN)
MULTIPLIER_4(flat_min_31, FLAT_MIN_31)
MULTIPLIER_4(flat_min_63, FLAT_MIN_63)
MULTIPLIER_4(flat_offset, FLAT_OFFSET)
/* two sums each of low and high nibbles: more than two tokens would spill */
MULTIPLIER_2(super32_offset_split, SUPER32_OFFSET_SPLIT)
MULTIPLIER_2(flat32_offset_split, FLAT32_OFFSET_SPLIT)
MULTIPLIER_2(flat_min_split, FLAT_MIN_SPLIT)

static const qn_tile_engine engine = {
    .max_tiles = 1,
    .unpack = qn_tile_unpack_avx2,
    .multiplier =
        {
            [QN_TILE_Q4_0] = &flat32_offset,
            [QN_TILE_Q4_1] = &flat32_min,
            [QN_TILE_Q5_0] = &flat32_offset_31,
            [QN_TILE_Q5_1] = &flat32_min_31,
            [QN_TILE_Q8_0] = &flat32_offset_split,
            [QN_TILE_IQ4_NL] = &flat32_offset_split,
            [QN_TILE_MXFP4] = &flat32_offset_31,
            [QN_TILE_Q2_K] = &super16_min,
            [QN_TILE_Q3_K] = &super16_offset,
            [QN_TILE_Q4_K] = &super32_min,
            [QN_TILE_Q5_K] = &super32_min_31,
            [QN_TILE_Q6_K] = &super16_offset_63,
            [QN_TILE_IQ4_XS] = &super32_offset_split,
            [QN_TILE_TQ1_0] = &flat_offset,
            [QN_TILE_TQ2_0] = &flat_offset,
            [QN_TILE_MLX1] = &flat_min,
            [QN_TILE_MLX2] = &flat_min,
            [QN_TILE_MLX3] = &flat_min,
            [QN_TILE_MLX4] = &flat_min,
            [QN_TILE_MLX5] = &flat_min_31,
            [QN_TILE_MLX6] = &flat_min_63,
            [QN_TILE_MLX8] = &flat_min_split,
        },
};

void qn_matmul_tile_avx2(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
                         void *scratch)
{
    qn_tile_matmul(&engine, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}
