/* tile_multiply_avx512vnni.c - the multipliers of the normal form (tile.h) with VPDPBUSD: codes are the unsigned operand, four activations are
 * broadcast as the signed one.
 *
 * One body for super types and one for flat types; every number of tiles and tokens is compiled from it, so that all sums stay in registers
 * (two tiles times six tokens use 24 for sums). Invariant: the order of the float steps of matmul.h.
 */
#include "kernels/cpu/tile_sums_avx512vnni.h"
#include "kernels/cpu/variant.h"

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
        _mm_prefetch((const char *)(a->y + j * a->y_stride + TILE_ROWS), _MM_HINT_T1);
    }
}

/* sum[t][i] += codes of columns 4k .. 4k + 3 times activations. */
TILE_INLINE void add_four(const qn_tile_args *a, size_t k, const size_t n_tiles, const size_t n_tokens, __m512i sum[TILE_GROUP][2])
{
    __m512i code[2];
    for (size_t i = 0; i < n_tiles; i++) {
        code[i] = _mm512_load_si512(a->tiles[i].code[k]);
    }
    for (size_t t = 0; t < n_tokens; t++) {
        __m512i x = broadcast4(a->q + t * a->q_stride + 4 * k);
        for (size_t i = 0; i < n_tiles; i++) {
            sum[t][i] = _mm512_dpbusd_epi32(sum[t][i], code[i], x);
        }
    }
}

/* The same for 16 and 32 columns. Written out: in a loop over k compilers move every sum between two registers each time round. */
TILE_INLINE void add_16(const qn_tile_args *a, size_t column, const size_t n_tiles, const size_t n_tokens, __m512i sum[TILE_GROUP][2])
{
    size_t k = column / 4;
    add_four(a, k, n_tiles, n_tokens, sum);
    add_four(a, k + 1, n_tiles, n_tokens, sum);
    add_four(a, k + 2, n_tiles, n_tokens, sum);
    add_four(a, k + 3, n_tiles, n_tokens, sum);
}

TILE_INLINE void add_32(const qn_tile_args *a, size_t column, const size_t n_tiles, const size_t n_tokens, __m512i sum[TILE_GROUP][2])
{
    add_16(a, column, n_tiles, n_tokens, sum);
    add_16(a, column + 16, n_tiles, n_tokens, sum);
}

typedef struct pair_sums {
    _Alignas(32) int16_t of[TILE_GROUP][16];
} pair_sums;

/* One super-block: integer scales per `sub` columns. */
QN_VARIANT void multiply_super(const qn_tile_args *a, const size_t sub, const bool has_min, const size_t n_tiles, const size_t n_tokens)
{
    pair_sums sums;
    for (size_t t = 0; t < n_tokens; t++) {
        take_pair_sums(a->sum16 + t * a->s_stride, sub, sums.of[t]);
    }
    __m512i isum[TILE_GROUP][2];
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t i = 0; i < n_tiles; i++) {
            isum[t][i] = has_min ? _mm512_setzero_si512() : pair_sum((const void *)a->tiles[i].pair, sums.of[t], sub);
        }
    }
    for (size_t s = 0; s < TILE_COLUMNS / sub; s++) {
        prefetch_part(a, s, TILE_COLUMNS / sub);
        __m512i sum[TILE_GROUP][2];
        for (size_t t = 0; t < n_tokens; t++) {
            for (size_t i = 0; i < n_tiles; i++) {
                sum[t][i] = _mm512_setzero_si512();
            }
        }
        if (sub == 16) {
            add_16(a, s * sub, n_tiles, n_tokens, sum);
        } else {
            add_32(a, s * sub, n_tiles, n_tokens, sum);
        }
        for (size_t i = 0; i < n_tiles; i++) {
            __m512i scale = _mm512_load_si512(a->tiles[i].scale[s]);
            for (size_t t = 0; t < n_tokens; t++) {
                isum[t][i] = _mm512_add_epi32(isum[t][i], _mm512_mullo_epi32(sum[t][i], scale));
            }
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        float activation_scale = a->d[t * a->d_stride];
        for (size_t i = 0; i < n_tiles; i++) {
            float *out = a->acc + (t * n_tiles + i) * TILE_ROWS;
            __m512 acc = tile_step(_mm512_load_ps(out), _mm512_load_ps(a->tiles[i].d[0]), activation_scale, _mm512_cvtepi32_ps(isum[t][i]));
            if (has_min) {
                acc = tile_step(acc, _mm512_load_ps(a->tiles[i].m[0]), activation_scale,
                                _mm512_cvtepi32_ps(pair_sum((const void *)a->tiles[i].pair, sums.of[t], sub)));
            }
            _mm512_store_ps(out, acc);
        }
    }
}

typedef struct flat_sums {
    _Alignas(32) int32_t of[TILE_GROUP][TILE_COLUMNS / 32];
} flat_sums;

/* The float step of block b. */
TILE_INLINE void finish_block(const qn_tile_args *a, const flat_sums *sums, size_t b, const bool has_min, const size_t n_tiles,
                              const size_t n_tokens, __m512i sum[TILE_GROUP][2], __m512 acc[TILE_GROUP][2])
{
    for (size_t i = 0; i < n_tiles; i++) {
        for (size_t t = 0; t < n_tokens; t++) {
            acc[t][i] = tile_step(acc[t][i], _mm512_load_ps(a->tiles[i].d[b]), a->d[t * a->d_stride + b], _mm512_cvtepi32_ps(sum[t][i]));
            if (has_min) {
                acc[t][i] = tile_step(acc[t][i], _mm512_load_ps(a->tiles[i].m[b]), a->d[t * a->d_stride + b],
                                      _mm512_set1_ps((float)sums->of[t][b]));
            }
        }
    }
}

/* The blocks of a panel, a float scale each. `narrow`: blocks of 32; else wider ones. */
QN_VARIANT void multiply_flat(const qn_tile_args *a, const bool has_min, const bool narrow, const size_t n_tiles, const size_t n_tokens)
{
    flat_sums sums;
    for (size_t t = 0; t < n_tokens; t++) {
        _mm256_store_si256((__m256i *)(void *)sums.of[t], block_sums(a->sum16 + t * a->s_stride, a->block, has_min ? 1 : -a->offset));
    }
    __m512 acc[TILE_GROUP][2];
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t i = 0; i < n_tiles; i++) {
            acc[t][i] = _mm512_load_ps(a->acc + (t * n_tiles + i) * TILE_ROWS);
        }
    }
    for (size_t b = 0; b < a->n_blocks; b++) {
        prefetch_part(a, b, a->n_blocks);
        __m512i sum[TILE_GROUP][2];
        for (size_t t = 0; t < n_tokens; t++) {
            __m512i first = has_min ? _mm512_setzero_si512() : _mm512_set1_epi32(sums.of[t][b]);
            for (size_t i = 0; i < n_tiles; i++) {
                sum[t][i] = first;
            }
        }
        if (narrow) {
            add_32(a, b * 32, n_tiles, n_tokens, sum);
        } else {
            for (size_t column = b * a->block; column < (b + 1) * a->block; column += 32) {
                add_32(a, column, n_tiles, n_tokens, sum);
            }
        }
        finish_block(a, &sums, b, has_min, n_tiles, n_tokens, sum, acc);
    }
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t i = 0; i < n_tiles; i++) {
            _mm512_store_ps(a->acc + (t * n_tiles + i) * TILE_ROWS, acc[t][i]);
        }
    }
}

/* Functions NAME_<tiles>_<tokens> of one body for all numbers of tiles, and tokens up to 4 or 6; and the multiplier NAME of them. */
/* The formatter has no form for functions and data made by macros. */
/* clang-format off */
#define ONE(name, body, tiles, tokens) \
    static void name##_##tiles##_##tokens(const qn_tile_args *a) { body(a, tiles, tokens); }
#define UP_TO_4(name, body, tiles) \
    ONE(name, body, tiles, 1) ONE(name, body, tiles, 2) ONE(name, body, tiles, 3) ONE(name, body, tiles, 4)
#define UP_TO_6(name, body, tiles) UP_TO_4(name, body, tiles) ONE(name, body, tiles, 5) ONE(name, body, tiles, 6)
#define LIST_4(name, tiles) name##_##tiles##_1, name##_##tiles##_2, name##_##tiles##_3, name##_##tiles##_4
#define MULTIPLIER_4(name, body) \
    UP_TO_4(name, body, 1) UP_TO_4(name, body, 2) \
    static const qn_tile_multiplier name = {.max_group = 4, .fn = {{LIST_4(name, 1)}, {LIST_4(name, 2)}}};
#define MULTIPLIER_6(name, body) \
    UP_TO_6(name, body, 1) UP_TO_6(name, body, 2) \
    static const qn_tile_multiplier name = {.max_group = 6, .fn = {{LIST_4(name, 1), name##_1_5, name##_1_6}, {LIST_4(name, 2), name##_2_5, name##_2_6}}};
/* clang-format on */

#define SUPER16_MIN(a, tiles, tokens) multiply_super(a, 16, true, tiles, tokens)
#define SUPER16_OFFSET(a, tiles, tokens) multiply_super(a, 16, false, tiles, tokens)
#define SUPER32_MIN(a, tiles, tokens) multiply_super(a, 32, true, tiles, tokens)
#define SUPER32_OFFSET(a, tiles, tokens) multiply_super(a, 32, false, tiles, tokens)
#define FLAT32_MIN(a, tiles, tokens) multiply_flat(a, true, true, tiles, tokens)
#define FLAT32_OFFSET(a, tiles, tokens) multiply_flat(a, false, true, tiles, tokens)
#define FLAT_MIN(a, tiles, tokens) multiply_flat(a, true, false, tiles, tokens)
#define FLAT_OFFSET(a, tiles, tokens) multiply_flat(a, false, false, tiles, tokens)
MULTIPLIER_6(super16_min, SUPER16_MIN)
MULTIPLIER_6(super16_offset, SUPER16_OFFSET)
MULTIPLIER_6(super32_min, SUPER32_MIN)
MULTIPLIER_6(super32_offset, SUPER32_OFFSET)
/* these keep float sums in registers too: more than four tokens would spill */
MULTIPLIER_4(flat32_min, FLAT32_MIN)
MULTIPLIER_4(flat32_offset, FLAT32_OFFSET)
MULTIPLIER_4(flat_min, FLAT_MIN)
MULTIPLIER_4(flat_offset, FLAT_OFFSET)

static const qn_tile_engine engine = {
    .max_tiles = 2,
    .unpack = qn_tile_unpack_avx512,
    .multiplier =
        {
            [QN_TILE_Q4_0] = &flat32_offset,    [QN_TILE_Q4_1] = &flat32_min,    [QN_TILE_Q5_0] = &flat32_offset,
            [QN_TILE_Q5_1] = &flat32_min,       [QN_TILE_Q8_0] = &flat32_offset, [QN_TILE_IQ4_NL] = &flat32_offset,
            [QN_TILE_MXFP4] = &flat32_offset,   [QN_TILE_Q2_K] = &super16_min,   [QN_TILE_Q3_K] = &super16_offset,
            [QN_TILE_Q4_K] = &super32_min,      [QN_TILE_Q5_K] = &super32_min,   [QN_TILE_Q6_K] = &super16_offset,
            [QN_TILE_IQ4_XS] = &super32_offset, [QN_TILE_TQ1_0] = &flat_offset,  [QN_TILE_TQ2_0] = &flat_offset,
            [QN_TILE_MLX1] = &flat_min,         [QN_TILE_MLX2] = &flat_min,      [QN_TILE_MLX3] = &flat_min,
            [QN_TILE_MLX4] = &flat_min,         [QN_TILE_MLX5] = &flat_min,      [QN_TILE_MLX6] = &flat_min,
            [QN_TILE_MLX8] = &flat_min,
        },
};

void qn_matmul_tile_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
                               void *scratch)
{
    qn_tile_matmul(&engine, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}
