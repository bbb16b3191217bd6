/* tile_multiply_neon.c - the multipliers of the normal form (tile.h) with SDOT: a register holds four columns of four rows, and meets four
 * activations that an element of another register holds.
 *
 * SDOT sums signed bytes times signed bytes in 32 bits, so nothing saturates and no offset is left to correct; only MLX codes of eight bits are
 * stored 128 less (tile.h), and their sums begin at 128 times the sum of activations. One body for super types and one for flat types; every
 * number of tokens is compiled from it, so that sums stay in registers: super types sum twice (over a sub-block, then with scales), so they
 * take eight rows at a time. Invariant: the order of the float steps of matmul.h.
 */
#include "kernels/cpu/tile_sums_neon.h"
#include "kernels/cpu/variant.h"

enum { GROUP = 4, LANES = 4, PARTS = TILE_ROWS / LANES /* registers of a tile's rows */, HALF = PARTS / 2 };

/* Sums of `width` registers of rows for each token. */
typedef struct row_sums {
    int32x4_t of[GROUP][PARTS];
} row_sums;

/* s += codes of columns 4k .. 4k + 3 times element `lane` of x. A macro: the element is part of the instruction. */
#define ADD_FOUR(lane) \
    do { \
        QN_UNROLL \
        for (size_t i = 0; i < width; i++) { \
            int8x16_t codes = vreinterpretq_s8_u8(vld1q_u8(code + (lane) * sizeof(a->tiles->code[0]) + 16 * i)); \
            QN_UNROLL \
            for (size_t t = 0; t < n_tokens; t++) { \
                s->of[t][i] = vdotq_laneq_s32(s->of[t][i], codes, x[t], lane); \
            } \
        } \
    } while (0)

/* The same for 16 columns; the registers of rows from `part` on. */
TILE_INLINE void add_16(const qn_tile_args *a, size_t column, size_t part, const size_t width, const size_t n_tokens, row_sums *s)
{
    const uint8_t *code = a->tiles->code[column / 4][part * LANES];
    int8x16_t x[GROUP];
    QN_UNROLL
    for (size_t t = 0; t < n_tokens; t++) {
        x[t] = vld1q_s8(a->q + t * a->q_stride + column);
    }
    ADD_FOUR(0);
    ADD_FOUR(1);
    ADD_FOUR(2);
    ADD_FOUR(3);
}

TILE_INLINE float32x4_t step(float32x4_t acc, const float *scale, float activation_scale, int32x4_t sum)
{
    return vfmaq_f32(acc, vmulq_n_f32(vld1q_f32(scale), activation_scale), vcvtq_f32_s32(sum));
}

/* What take_pair_sums gives of each token. */
typedef struct pair_sums {
    int16_t of[GROUP][16];
} pair_sums;

TILE_INLINE void store_pair_sums(const qn_tile_args *a, const size_t sub, const size_t n_tokens, pair_sums *out)
{
    for (size_t t = 0; t < n_tokens; t++) {
        int16x8_t two[2];
        take_pair_sums(a->sum16 + t * a->s_stride, sub, two);
        vst1q_s16(out->of[t], two[0]);
        if (sub == 16) {
            vst1q_s16(out->of[t] + 8, two[1]);
        }
    }
}

/* s = sum pair * sums for eight rows. */
TILE_INLINE void take_min_sums(const qn_tile_args *a, const pair_sums *sums, const size_t sub, size_t part, const size_t n_tokens,
                               row_sums *s)
{
    QN_UNROLL
    for (size_t t = 0; t < n_tokens; t++) {
        s->of[t][0] = s->of[t][1] = vdupq_n_s32(0);
    }
    for (size_t i = 0; i < TILE_COLUMNS / sub / 2; i++) {
        const int32_t *pair = a->tiles->pair[i] + part * LANES;
        int16x8_t first = vreinterpretq_s16_s32(vld1q_s32(pair)), second = vreinterpretq_s16_s32(vld1q_s32(pair + LANES));
        int16x8_t even = vuzp1q_s16(first, second), odd = vuzp2q_s16(first, second); /* sub-blocks 2i, 2i + 1 of eight rows */
        QN_UNROLL
        for (size_t t = 0; t < n_tokens; t++) {
            s->of[t][0] = vmlal_n_s16(s->of[t][0], vget_low_s16(even), sums->of[t][2 * i]);
            s->of[t][1] = vmlal_high_n_s16(s->of[t][1], even, sums->of[t][2 * i]);
            s->of[t][0] = vmlal_n_s16(s->of[t][0], vget_low_s16(odd), sums->of[t][2 * i + 1]);
            s->of[t][1] = vmlal_high_n_s16(s->of[t][1], odd, sums->of[t][2 * i + 1]);
        }
    }
}

/* acc[token][row], as one step with the scales `scale` of 16 rows: the registers of rows from `part` on. */
TILE_INLINE void finish(const qn_tile_args *a, const float *scale, size_t block, size_t part, const size_t width, const size_t n_tokens,
                        const row_sums *s)
{
    QN_UNROLL
    for (size_t t = 0; t < n_tokens; t++) {
        float activation_scale = a->d[t * a->d_stride + block];
        QN_UNROLL
        for (size_t i = 0; i < width; i++) {
            size_t row = (part + i) * LANES;
            float *acc = a->acc + t * TILE_ROWS + row;
            vst1q_f32(acc, step(vld1q_f32(acc), scale + row, activation_scale, s->of[t][i]));
        }
    }
}

/* One super-block: integer scales per `sub` columns. */
QN_VARIANT void multiply_super(const qn_tile_args *a, const size_t sub, const bool has_min, const size_t n_tokens)
{
    const qn_tile *tile = a->tiles;
    pair_sums sums;
    if (has_min) {
        store_pair_sums(a, sub, n_tokens, &sums);
    }
    for (size_t part = 0; part < PARTS; part += HALF) {
        row_sums isum;
        QN_UNROLL
        for (size_t t = 0; t < n_tokens; t++) {
            isum.of[t][0] = isum.of[t][1] = vdupq_n_s32(0);
        }
        for (size_t j = 0; j < TILE_COLUMNS / sub; j++) {
            prefetch_part(a, part / HALF * (TILE_COLUMNS / sub) + j, 2 * (TILE_COLUMNS / sub));
            row_sums sum;
            QN_UNROLL
            for (size_t t = 0; t < n_tokens; t++) {
                sum.of[t][0] = sum.of[t][1] = vdupq_n_s32(0);
            }
            add_16(a, j * sub, part, HALF, n_tokens, &sum);
            if (sub == 32) {
                add_16(a, j * sub + 16, part, HALF, n_tokens, &sum);
            }
            QN_UNROLL
            for (size_t i = 0; i < HALF; i++) {
                int32x4_t scale = vld1q_s32(tile->scale[j] + (part + i) * LANES);
                QN_UNROLL
                for (size_t t = 0; t < n_tokens; t++) {
                    isum.of[t][i] = vmlaq_s32(isum.of[t][i], sum.of[t][i], scale);
                }
            }
        }
        finish(a, tile->d[0], 0, part, HALF, n_tokens, &isum);
        if (has_min) {
            row_sums msum;
            take_min_sums(a, &sums, sub, part, n_tokens, &msum);
            finish(a, tile->m[0], 0, part, HALF, n_tokens, &msum);
        }
    }
}

/* Sums of a token's activations over the panel's blocks. */
typedef struct block_sums {
    int32_t of[GROUP][TILE_COLUMNS / 32];
} block_sums;

TILE_INLINE void store_block_sums(const qn_tile_args *a, const size_t n_tokens, block_sums *out)
{
    for (size_t t = 0; t < n_tokens; t++) {
        int32x4_t two[2];
        take_block_sums(a->sum16 + t * a->s_stride, a->block, two);
        vst1q_s32(out->of[t], two[0]);
        vst1q_s32(out->of[t] + 4, two[1]);
    }
}

/* The blocks of a panel, a float scale each. `moved`: codes are 128 less than they should be. */
QN_VARIANT void multiply_flat(const qn_tile_args *a, const bool has_min, const bool moved, const size_t n_tokens)
{
    const qn_tile *tile = a->tiles;
    block_sums sums;
    if (has_min) {
        store_block_sums(a, n_tokens, &sums);
    }
    for (size_t b = 0; b < a->n_blocks; b++) {
        prefetch_part(a, b, a->n_blocks);
        row_sums sum;
        QN_UNROLL
        for (size_t t = 0; t < n_tokens; t++) {
            int32x4_t first = vdupq_n_s32(moved ? 128 * sums.of[t][b] : 0);
            QN_UNROLL
            for (size_t i = 0; i < PARTS; i++) {
                sum.of[t][i] = first;
            }
        }
        /* a loop for blocks of 32 too: written out, GCC loads all of a block's codes first, which then spill */
        for (size_t column = b * a->block; column < (b + 1) * a->block; column += 16) {
            add_16(a, column, 0, PARTS, n_tokens, &sum);
        }
        finish(a, tile->d[b], b, 0, PARTS, n_tokens, &sum);
        if (has_min) {
            QN_UNROLL
            for (size_t t = 0; t < n_tokens; t++) {
                int32x4_t msum = vdupq_n_s32(sums.of[t][b]);
                QN_UNROLL
                for (size_t i = 0; i < PARTS; i++) {
                    sum.of[t][i] = msum;
                }
            }
            finish(a, tile->m[b], b, 0, PARTS, n_tokens, &sum);
        }
    }
}

/* Functions NAME_<tokens> of one body, and the multiplier NAME of them. */
/* The formatter has no form for functions and data made by macros. */
/* clang-format off */
#define ONE(name, body, tokens) \
    static void name##_##tokens(const qn_tile_args *a) { body(a, tokens); }
#define MULTIPLIER_4(name, body) \
    ONE(name, body, 1) ONE(name, body, 2) ONE(name, body, 3) ONE(name, body, 4) \
    static const qn_tile_multiplier name = {.max_group = GROUP, .fn = {{name##_1, name##_2, name##_3, name##_4}}};
/* clang-format on */

#define SUPER16(a, tokens) multiply_super(a, 16, false, tokens)
#define SUPER16_MIN(a, tokens) multiply_super(a, 16, true, tokens)
#define SUPER32(a, tokens) multiply_super(a, 32, false, tokens)
#define SUPER32_MIN(a, tokens) multiply_super(a, 32, true, tokens)
#define FLAT(a, tokens) multiply_flat(a, false, false, tokens)
#define FLAT_MIN(a, tokens) multiply_flat(a, true, false, tokens)
#define FLAT_MIN_MOVED(a, tokens) multiply_flat(a, true, true, tokens)
MULTIPLIER_4(super16, SUPER16)
MULTIPLIER_4(super16_min, SUPER16_MIN)
MULTIPLIER_4(super32, SUPER32)
MULTIPLIER_4(super32_min, SUPER32_MIN)
MULTIPLIER_4(flat, FLAT)
MULTIPLIER_4(flat_min, FLAT_MIN)
MULTIPLIER_4(flat_min_moved, FLAT_MIN_MOVED)

static const qn_tile_engine engine = {
    .max_tiles = 1,
    .unpack = qn_tile_unpack_neon,
    .multiplier = NEON_MULTIPLIERS,
};

void qn_matmul_tile_neon(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
                         void *scratch)
{
    qn_tile_matmul(&engine, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}
