/* tile_multiply_i8mm.c - the multipliers of the normal form (tile.h) with SMMLA: two tokens times two rows times eight columns an instruction.
 *
 * A register of codes holds eight columns of two rows (the unpackers lay them out so), one of activations eight columns of two tokens, and one of
 * sums token 0 of both rows, then token 1. Everything that meets sums is brought into that form: activations and what depends on them once for a
 * group of tokens, scales when they are loaded; sums take the form of rows only where they meet memory. The last token of an odd number is its
 * own neighbour: both get the same value. Every number of pairs is compiled from one body for super types and one for flat types, and
 * rows are taken eight at a time, so that two sums for each of 24 pairs stay in registers. Invariant: the order of the float steps of matmul.h.
 */
#include <assert.h>

#include "kernels/cpu/tile_sums_neon.h"
#include "kernels/cpu/variant.h"

enum {
    PAIRS = TILE_GROUP / 2,
    LANES = 4,
    QUADS = 4, /* pairs of rows of half a tile */
    HALF_ROWS = TILE_ROWS / 2,
    DEPTH = 8,                  /* columns of a product */
    CODE_BYTES = TILE_ROWS * 4, /* four columns of a tile */
};

/* What depends on a group's tokens alone, by pairs of tokens. Scales and sums: of token 0 twice, then of token 1. */
typedef struct group_work {
    int8_t x[PAIRS][TILE_COLUMNS / DEPTH][2 * DEPTH];
    float scale[TILE_COLUMNS / 32][PAIRS][LANES];
    int32_t sum[TILE_COLUMNS / 32][PAIRS][LANES]; /* flat types with a min: of a block */
    int8_t low[2][PAIRS][16], high[2][PAIRS][16]; /* super types with a min: sums of eight sub-blocks are 256 high + low */
} group_work;
static_assert(sizeof(group_work) <= TILE_WORK_BYTES, "a group's work must fit");

/* Sums of half a tile: token 0 of two rows, token 1 of them. */
typedef struct quad_sums {
    int32x4_t of[PAIRS][QUADS];
} quad_sums;

typedef struct quad_floats {
    float32x4_t of[PAIRS][QUADS];
} quad_floats;

TILE_INLINE int32x4_t zip_low(int32x4_t x, int32x4_t y)
{
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(x), vreinterpretq_s64_s32(y)));
}
TILE_INLINE int32x4_t zip_high(int32x4_t x, int32x4_t y)
{
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(x), vreinterpretq_s64_s32(y)));
}
TILE_INLINE float32x4_t zip_low_floats(float32x4_t x, float32x4_t y)
{
    return vreinterpretq_f32_s32(zip_low(vreinterpretq_s32_f32(x), vreinterpretq_s32_f32(y)));
}
TILE_INLINE float32x4_t zip_high_floats(float32x4_t x, float32x4_t y)
{
    return vreinterpretq_f32_s32(zip_high(vreinterpretq_s32_f32(x), vreinterpretq_s32_f32(y)));
}

/* The second token of a pair: the first again where there is none. */
TILE_INLINE size_t second_of(const qn_tile_args *a, size_t p) { return 2 * p + 1 < a->n_tokens ? 2 * p + 1 : 2 * p; }

/* ---- once for a group ---- */

TILE_INLINE void lay_out_activations(const qn_tile_args *a, const size_t n_pairs, group_work *w)
{
    const size_t n = a->n_blocks * a->block / 32;
    for (size_t p = 0; p < n_pairs; p++) {
        const int8_t *x = a->q + 2 * p * a->q_stride, *y = a->q + second_of(a, p) * a->q_stride;
        int8_t *out = w->x[p][0];
        for (size_t i = 0; i < n; i++, x += 32, y += 32, out += 64) {
            int32x4_t x0 = vreinterpretq_s32_s8(vld1q_s8(x)), x1 = vreinterpretq_s32_s8(vld1q_s8(x + 16));
            int32x4_t y0 = vreinterpretq_s32_s8(vld1q_s8(y)), y1 = vreinterpretq_s32_s8(vld1q_s8(y + 16));
            vst1q_s8(out, vreinterpretq_s8_s32(zip_low(x0, y0)));
            vst1q_s8(out + 16, vreinterpretq_s8_s32(zip_high(x0, y0)));
            vst1q_s8(out + 32, vreinterpretq_s8_s32(zip_low(x1, y1)));
            vst1q_s8(out + 48, vreinterpretq_s8_s32(zip_high(x1, y1)));
        }
    }
}

/* Four blocks' values of two tokens, each as a register: the first token's twice, then the second's. */
TILE_INLINE void spread_four(int32x4_t first, int32x4_t second, int32x4_t out[4])
{
    int32x4_t first_low = vzip1q_s32(first, first), second_low = vzip1q_s32(second, second);
    int32x4_t first_high = vzip2q_s32(first, first), second_high = vzip2q_s32(second, second);
    out[0] = zip_low(first_low, second_low);
    out[1] = zip_high(first_low, second_low);
    out[2] = zip_low(first_high, second_high);
    out[3] = zip_high(first_high, second_high);
}

/* Planes of scales are padded to lines of 16, so four can be read wherever four blocks of 32 or 64 columns begin. */
TILE_INLINE void lay_out_scales(const qn_tile_args *a, const size_t n_pairs, group_work *w)
{
    for (size_t p = 0; p < n_pairs; p++) {
        const float *d0 = a->d + 2 * p * a->d_stride, *d1 = a->d + second_of(a, p) * a->d_stride;
        if (a->block > 64) {
            for (size_t b = 0; b < a->n_blocks; b++) {
                vst1q_f32(w->scale[b][p], vcombine_f32(vdup_n_f32(d0[b]), vdup_n_f32(d1[b])));
            }
            continue;
        }
        for (size_t b = 0; b < a->n_blocks; b += 4) {
            int32x4_t four[4];
            spread_four(vreinterpretq_s32_f32(vld1q_f32(d0 + b)), vreinterpretq_s32_f32(vld1q_f32(d1 + b)), four);
            for (size_t i = 0; i < 4; i++) {
                vst1q_f32(w->scale[b + i][p], vreinterpretq_f32_s32(four[i]));
            }
        }
    }
}

TILE_INLINE void lay_out_block_sums(const qn_tile_args *a, const size_t n_pairs, group_work *w)
{
    for (size_t p = 0; p < n_pairs; p++) {
        int32x4_t first[2], second[2], four[4];
        take_block_sums(a->sum16 + 2 * p * a->s_stride, a->block, first);
        take_block_sums(a->sum16 + second_of(a, p) * a->s_stride, a->block, second);
        for (size_t b = 0; b < a->n_blocks; b += 4) {
            spread_four(first[b / 4], second[b / 4], four);
            for (size_t i = 0; i < 4; i++) {
                vst1q_s32(w->sum[b + i][p], four[i]);
            }
        }
    }
}

/* Sums of activations as two bytes, since pair holds small factors: at most 32 * 127 in size. */
TILE_INLINE void lay_out_pair_sums(const qn_tile_args *a, const size_t sub, const size_t n_pairs, group_work *w)
{
    for (size_t p = 0; p < n_pairs; p++) {
        int16x8_t first[2], second[2];
        take_pair_sums(a->sum16 + 2 * p * a->s_stride, sub, first);
        take_pair_sums(a->sum16 + second_of(a, p) * a->s_stride, sub, second);
        for (size_t i = 0; i < TILE_COLUMNS / sub / DEPTH; i++) {
            vst1q_s8(w->low[i][p], vmovn_high_s16(vmovn_s16(first[i]), second[i]));
            vst1q_s8(w->high[i][p], vrshrn_high_n_s16(vrshrn_n_s16(first[i], 8), second[i], 8));
        }
    }
}

/* ---- sums ---- */

TILE_INLINE void set_sums(quad_sums *s, int32x4_t v, const size_t n_pairs)
{
    QN_UNROLL
    for (size_t p = 0; p < n_pairs; p++) {
        QN_UNROLL
        for (size_t i = 0; i < QUADS; i++) {
            s->of[p][i] = v;
        }
    }
}

/* Where half a tile's codes and the activations of some columns begin: everything else is a constant distance away. */
typedef struct columns_at {
    const uint8_t *code;
    const int8_t *x;
} columns_at;

TILE_INLINE columns_at first_columns(const qn_tile *tile, const group_work *w, size_t half)
{
    return (columns_at){tile->code[0][HALF_ROWS * half], w->x[0][0]};
}

/* s += codes of 16 columns times activations, half a tile's rows; goes on to the next columns. */
TILE_INLINE void add_16(columns_at *at, const size_t n_pairs, quad_sums *s)
{
    QN_UNROLL
    for (size_t k = 0; k < 2; k++) {
        int8x16_t x[PAIRS];
        QN_UNROLL
        for (size_t p = 0; p < n_pairs; p++) {
            x[p] = vld1q_s8(at->x + 2 * DEPTH * k + p * 2 * TILE_COLUMNS);
        }
        int8x16_t codes[QUADS]; /* in the order of addresses: LDP takes two */
        QN_UNROLL
        for (size_t i = 0; i < QUADS; i++) {
            codes[i / 2 + i % 2 * 2] = vld1q_s8((const int8_t *)at->code + (2 * k + i / 2) * CODE_BYTES + i % 2 * (LANES * 4));
        }
        QN_UNROLL
        for (size_t i = 0; i < QUADS; i++) {
            QN_UNROLL
            for (size_t p = 0; p < n_pairs; p++) {
                s->of[p][i] = vmmlaq_s32(s->of[p][i], x[p], codes[i]);
            }
        }
    }
    at->code += 4 * CODE_BYTES;
    at->x += 4 * DEPTH;
}

/* Factors of eight sub-blocks, of two rows each in a register: the low bytes of pair's halves, put together by rows. */
TILE_INLINE void take_factors(const int32_t pair[][TILE_ROWS], size_t half, int8x16_t out[QUADS])
{
    static const uint8_t rows_0_1[16] = {0, 1, 8, 9, 16, 17, 24, 25, 2, 3, 10, 11, 18, 19, 26, 27};
    const uint8x16_t first = vld1q_u8(rows_0_1), second = vaddq_u8(first, vdupq_n_u8(4));
    for (size_t i = 0; i < QUADS; i += 2) {
        const int32_t *at = pair[0] + HALF_ROWS * half + i / 2 * LANES;
        int8x16_t two[4];
        for (size_t j = 0; j < 4; j++) {
            two[j] = vreinterpretq_s8_s32(vld1q_s32(at + j * TILE_ROWS));
        }
        int8x16x2_t all = {{vuzp1q_s8(two[0], two[1]), vuzp1q_s8(two[2], two[3])}};
        out[i] = vqtbl2q_s8(all, first);
        out[i + 1] = vqtbl2q_s8(all, second);
    }
}

/* s = sum pair * sums. */
TILE_INLINE void take_min_sums(const qn_tile *tile, const group_work *w, const size_t sub, size_t half, const size_t n_pairs, quad_sums *s)
{
    int8x16_t factors[2][QUADS];
    const size_t n = TILE_COLUMNS / sub / DEPTH;
    for (size_t j = 0; j < n; j++) {
        take_factors(tile->pair + 4 * j, half, factors[j]);
    }
    set_sums(s, vdupq_n_s32(0), n_pairs);
    QN_UNROLL
    for (size_t p = 0; p < n_pairs; p++) {
        QN_UNROLL
        for (size_t i = 0; i < QUADS; i++) {
            for (size_t j = 0; j < n; j++) {
                s->of[p][i] = vmmlaq_s32(s->of[p][i], vld1q_s8(w->high[j][p]), factors[j][i]);
            }
            s->of[p][i] = vshlq_n_s32(s->of[p][i], 8);
            for (size_t j = 0; j < n; j++) {
                s->of[p][i] = vmmlaq_s32(s->of[p][i], vld1q_s8(w->low[j][p]), factors[j][i]);
            }
        }
    }
}

/* ---- float steps ---- */

/* Where the float chains of half a tile are: every number that the loops need, since stores of floats make compilers read `a` again. */
typedef struct acc_at {
    float *first;
    size_t token, last; /* floats from one token to the next, and from the first of the last pair to the second */
} acc_at;

TILE_INLINE acc_at find_acc(const qn_tile_args *a, size_t tile, size_t half)
{
    const size_t token = a->n_tiles * TILE_ROWS;
    return (acc_at){a->acc + tile * TILE_ROWS + half * HALF_ROWS, token, a->n_tokens % 2 == 0 ? token : 0};
}

TILE_INLINE void load_acc(acc_at at, const size_t n_pairs, quad_floats *acc)
{
    QN_UNROLL
    for (size_t p = 0; p < n_pairs; p++) {
        const float *x = at.first + 2 * p * at.token, *y = x + (p + 1 < n_pairs ? at.token : at.last);
        QN_UNROLL
        for (size_t i = 0; i < QUADS; i += 2) {
            float32x4_t first = vld1q_f32(x + i / 2 * LANES), second = vld1q_f32(y + i / 2 * LANES);
            acc->of[p][i] = zip_low_floats(first, second);
            acc->of[p][i + 1] = zip_high_floats(first, second);
        }
    }
}

TILE_INLINE void store_acc(acc_at at, const size_t n_pairs, const quad_floats *acc)
{
    QN_UNROLL
    for (size_t p = 0; p < n_pairs; p++) {
        float *x = at.first + 2 * p * at.token, *y = x + (p + 1 < n_pairs ? at.token : at.last);
        QN_UNROLL
        for (size_t i = 0; i < QUADS; i += 2) {
            vst1q_f32(x + i / 2 * LANES, zip_low_floats(acc->of[p][i], acc->of[p][i + 1]));
            vst1q_f32(y + i / 2 * LANES, zip_high_floats(acc->of[p][i], acc->of[p][i + 1]));
        }
    }
}

/* One step with the scales of 16 rows. */
TILE_INLINE void step(const group_work *w, size_t block, const float *scale, size_t half, const size_t n_pairs, const quad_sums *s,
                      quad_floats *acc)
{
    QN_UNROLL
    for (size_t i = 0; i < QUADS; i += 2) {
        float32x4_t four = vld1q_f32(scale + HALF_ROWS * half + i / 2 * LANES);
        float32x4_t first = zip_low_floats(four, four), second = zip_high_floats(four, four);
        QN_UNROLL
        for (size_t p = 0; p < n_pairs; p++) {
            float32x4_t activation_scale = vld1q_f32(w->scale[block][p]);
            acc->of[p][i] = vfmaq_f32(acc->of[p][i], vmulq_f32(first, activation_scale), vcvtq_f32_s32(s->of[p][i]));
            acc->of[p][i + 1] = vfmaq_f32(acc->of[p][i + 1], vmulq_f32(second, activation_scale), vcvtq_f32_s32(s->of[p][i + 1]));
        }
    }
}

/* ---- bodies ---- */

/* The sums of one super-block, half a tile: integer scales per `sub` columns. */
TILE_INLINE void sum_super(const qn_tile *tile, const group_work *w, size_t half, const size_t sub, const size_t n_pairs, quad_sums *isum)
{
    columns_at at = first_columns(tile, w, half);
    const int32_t *scale = tile->scale[0] + HALF_ROWS * half;
    set_sums(isum, vdupq_n_s32(0), n_pairs);
    for (size_t j = 0; j < TILE_COLUMNS / sub; j++, scale += TILE_ROWS) {
        quad_sums sum;
        set_sums(&sum, vdupq_n_s32(0), n_pairs);
        add_16(&at, n_pairs, &sum);
        if (sub == 32) {
            add_16(&at, n_pairs, &sum);
        }
        QN_UNROLL
        for (size_t i = 0; i < QUADS; i += 2) {
            int32x4_t four = vld1q_s32(scale + i / 2 * LANES);
            int32x4_t first = zip_low(four, four), second = zip_high(four, four);
            QN_UNROLL
            for (size_t p = 0; p < n_pairs; p++) {
                isum->of[p][i] = vmlaq_s32(isum->of[p][i], sum.of[p][i], first);
                isum->of[p][i + 1] = vmlaq_s32(isum->of[p][i + 1], sum.of[p][i + 1], second);
            }
        }
    }
}

QN_VARIANT void multiply_super(const qn_tile_args *a, const size_t sub, const bool has_min, const size_t n_pairs)
{
    group_work *w = a->work;
    lay_out_activations(a, n_pairs, w);
    lay_out_scales(a, n_pairs, w);
    if (has_min) {
        lay_out_pair_sums(a, sub, n_pairs, w);
    }
    for (size_t t = 0; t < a->n_tiles; t++) {
        for (size_t half = 0; half < 2; half++) {
            const acc_at at = find_acc(a, t, half);
            quad_sums sum;
            quad_floats acc;
            prefetch_part(a, 2 * t + half, 2 * a->n_tiles);
            sum_super(&a->tiles[t], w, half, sub, n_pairs, &sum);
            load_acc(at, n_pairs, &acc);
            step(w, 0, a->tiles[t].d[0], half, n_pairs, &sum, &acc);
            if (has_min) {
                take_min_sums(&a->tiles[t], w, sub, half, n_pairs, &sum);
                step(w, 0, a->tiles[t].m[0], half, n_pairs, &sum, &acc);
            }
            store_acc(at, n_pairs, &acc);
        }
    }
}

/* Sums of a block's activations, the same for all rows; 128 of them where codes are 128 less than they should be. */
TILE_INLINE void take_block_sum(const group_work *w, size_t block, const bool times_128, const size_t n_pairs, quad_sums *s)
{
    QN_UNROLL
    for (size_t p = 0; p < n_pairs; p++) {
        int32x4_t sum = vld1q_s32(w->sum[block][p]);
        sum = times_128 ? vshlq_n_s32(sum, 7) : sum;
        QN_UNROLL
        for (size_t i = 0; i < QUADS; i++) {
            s->of[p][i] = sum;
        }
    }
}

/* The blocks of a panel, a float scale each. `moved`: codes are 128 less than they should be. */
QN_VARIANT void multiply_flat(const qn_tile_args *a, const bool has_min, const bool moved, const size_t n_pairs)
{
    group_work *w = a->work;
    const size_t n_blocks = a->n_blocks, n_steps = a->block / 16;
    lay_out_activations(a, n_pairs, w);
    lay_out_scales(a, n_pairs, w);
    if (has_min) {
        lay_out_block_sums(a, n_pairs, w);
    }
    for (size_t t = 0; t < a->n_tiles; t++) {
        const qn_tile *tile = &a->tiles[t];
        for (size_t half = 0; half < 2; half++) {
            const acc_at at = find_acc(a, t, half);
            columns_at columns = first_columns(tile, w, half);
            quad_floats acc;
            prefetch_part(a, 2 * t + half, 2 * a->n_tiles);
            load_acc(at, n_pairs, &acc);
            for (size_t b = 0; b < n_blocks; b++) {
                quad_sums sum;
                if (moved) {
                    take_block_sum(w, b, true, n_pairs, &sum);
                } else {
                    set_sums(&sum, vdupq_n_s32(0), n_pairs);
                }
                size_t left = n_steps;
                do { /* a loop for blocks of 32 too: written out, GCC loads all of a block's codes first, which then spill */
                    add_16(&columns, n_pairs, &sum);
                } while (--left > 0);
                step(w, b, tile->d[b], half, n_pairs, &sum, &acc);
                if (has_min) {
                    take_block_sum(w, b, false, n_pairs, &sum);
                    step(w, b, tile->m[b], half, n_pairs, &sum, &acc);
                }
            }
            store_acc(at, n_pairs, &acc);
        }
    }
}

/* Functions NAME_<pairs> of one body, and the multiplier NAME of them. */
/* The formatter has no form for functions and data made by macros. */
/* clang-format off */
#define ONE(name, body, pairs) \
    static void name##_##pairs(const qn_tile_args *a) { body(a, pairs); }
#define LIST(name) {name##_1, name##_1, name##_2, name##_2, name##_3, name##_3}
#define MULTIPLIER(name, body) \
    ONE(name, body, 1) ONE(name, body, 2) ONE(name, body, 3) \
    static const qn_tile_multiplier name = {.max_group = TILE_GROUP, .in_pairs = true, .fn = {LIST(name), LIST(name)}};
/* clang-format on */

#define SUPER16(a, pairs) multiply_super(a, 16, false, pairs)
#define SUPER16_MIN(a, pairs) multiply_super(a, 16, true, pairs)
#define SUPER32(a, pairs) multiply_super(a, 32, false, pairs)
#define SUPER32_MIN(a, pairs) multiply_super(a, 32, true, pairs)
#define FLAT(a, pairs) multiply_flat(a, false, false, pairs)
#define FLAT_MIN(a, pairs) multiply_flat(a, true, false, pairs)
#define FLAT_MIN_MOVED(a, pairs) multiply_flat(a, true, true, pairs)
MULTIPLIER(super16, SUPER16)
MULTIPLIER(super16_min, SUPER16_MIN)
MULTIPLIER(super32, SUPER32)
MULTIPLIER(super32_min, SUPER32_MIN)
MULTIPLIER(flat, FLAT)
MULTIPLIER(flat_min, FLAT_MIN)
MULTIPLIER(flat_min_moved, FLAT_MIN_MOVED)

static const qn_tile_engine engine = {
    .max_tiles = 2,
    .unpack = qn_tile_unpack_i8mm,
    .multiplier = NEON_MULTIPLIERS,
};

void qn_matmul_tile_i8mm(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
                         void *scratch)
{
    qn_tile_matmul(&engine, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}
