/* matmul_int_neon.c - the integer family for NEON with dot products: Q4_0, Q8_0, Q4_K, Q6_K. Other types are served by the scalar kernel
 * there.
 *
 * Four rows at a time: a block of each is unpacked to signed bytes once and multiplied by every token; the four float chains of a token
 * stand in one register while they are worked on, and in y between blocks. Invariant: integers are exact in any order, floats follow
 * matmul.h. */
#include <arm_neon.h>
#include <stdbool.h>
#include <string.h>

#include "base/half.h"
#include "kernels/matmul_kernels.h"
#include "quant/blocks.h"

enum { TILE_ROWS = 4, SUBS_MAX = 16 };

/* One block of four rows. A sub-block (of 32 or 16 elements) has one scale, and in Q4_K a min. */
typedef struct tile {
    int8_t code[TILE_ROWS][QN_K];
    int32_t scale[TILE_ROWS][SUBS_MAX];
    int32_t min[TILE_ROWS][8];
    float d[TILE_ROWS], m[TILE_ROWS];
} tile;

typedef void (*unpack_fn)(tile *t, size_t row, const uint8_t *block);

static float load_f16(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return qn_f32_from_f16(h);
}

static uint8x16_t low_nibbles(uint8x16_t x) { return vandq_u8(x, vdupq_n_u8(15)); }
static uint8x16_t high_nibbles(uint8x16_t x) { return vshrq_n_u8(x, 4); }

static void store_codes(int8_t *code, uint8x16_t x, int8_t offset) { vst1q_s8(code, vsubq_s8(vreinterpretq_s8_u8(x), vdupq_n_s8(offset))); }

static void unpack_q4_0(tile *t, size_t row, const uint8_t *block)
{
    uint8x16_t x = vld1q_u8(block + offsetof(qn_block_q4_0, qs));
    t->d[row] = load_f16(block);
    store_codes(t->code[row], low_nibbles(x), 8);
    store_codes(t->code[row] + 16, high_nibbles(x), 8);
}

static void unpack_q8_0(tile *t, size_t row, const uint8_t *block)
{
    t->d[row] = load_f16(block);
    memcpy(t->code[row], block + offsetof(qn_block_q8_0, qs), 32);
}

static void unpack_q4_k(tile *t, size_t row, const uint8_t *block)
{
    t->d[row] = load_f16(block);
    t->m[row] = -load_f16(block + offsetof(qn_block_q4_k, dmin));
    for (int j = 0; j < 8; j++) {
        uint8_t scale, min;
        qn_k4_scale_min(block + offsetof(qn_block_q4_k, scales), j, &scale, &min);
        t->scale[row][j] = scale;
        t->min[row][j] = min;
    }
    const uint8_t *qs = block + offsetof(qn_block_q4_k, qs);
    int8_t *code = t->code[row];
    for (size_t j = 0; j < 4; j++, qs += 32, code += 64) {
        uint8x16_t x = vld1q_u8(qs), y = vld1q_u8(qs + 16);
        store_codes(code, low_nibbles(x), 0);
        store_codes(code + 16, low_nibbles(y), 0);
        store_codes(code + 32, high_nibbles(x), 0);
        store_codes(code + 48, high_nibbles(y), 0);
    }
}

static void unpack_q6_k(tile *t, size_t row, const uint8_t *block)
{
    const uint8_t *low = block + offsetof(qn_block_q6_k, ql), *high = block + offsetof(qn_block_q6_k, qh);
    int8_t scales[SUBS_MAX], *code = t->code[row];
    memcpy(scales, block + offsetof(qn_block_q6_k, scales), sizeof scales);
    t->d[row] = load_f16(block + offsetof(qn_block_q6_k, d));
    for (size_t j = 0; j < SUBS_MAX; j++) {
        t->scale[row][j] = scales[j];
    }
    uint8x16_t pair = vdupq_n_u8(0x30);
    for (size_t h = 0; h < 2; h++, low += 64, high += 32, code += 128) {
        for (size_t l = 0; l < 32; l += 16) {
            uint8x16_t x = vld1q_u8(low + l), y = vld1q_u8(low + 32 + l), two = vld1q_u8(high + l);
            store_codes(code + l, vorrq_u8(low_nibbles(x), vandq_u8(vshlq_n_u8(two, 4), pair)), 32);
            store_codes(code + 32 + l, vorrq_u8(low_nibbles(y), vandq_u8(vshlq_n_u8(two, 2), pair)), 32);
            store_codes(code + 64 + l, vorrq_u8(high_nibbles(x), vandq_u8(two, pair)), 32);
            store_codes(code + 96 + l, vorrq_u8(high_nibbles(y), vandq_u8(vshrq_n_u8(two, 2), pair)), 32);
        }
    }
}

/* (sum of a, sum of b, sum of c, sum of d) */
static int32x4_t sum_each(const int32x4_t v[TILE_ROWS]) { return vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3])); }

/* isum of the four rows. sub: elements that share a scale; `scaled` is false where a block is one sub-block and its scale 1. */
static inline int32x4_t dot_rows(const tile *t, const int8_t *q, size_t block, size_t sub, bool scaled)
{
    int32x4_t sum[TILE_ROWS] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    for (size_t e = 0; e < block; e += sub) {
        int8x16_t first = vld1q_s8(q + e), second = sub == 32 ? vld1q_s8(q + e + 16) : vdupq_n_s8(0);
        for (size_t r = 0; r < TILE_ROWS; r++) {
            int32x4_t dot = vdotq_s32(vdupq_n_s32(0), vld1q_s8(t->code[r] + e), first);
            if (sub == 32) {
                dot = vdotq_s32(dot, vld1q_s8(t->code[r] + e + 16), second);
            }
            sum[r] = scaled ? vmlaq_n_s32(sum[r], dot, t->scale[r][e / sub]) : vaddq_s32(sum[r], dot);
        }
    }
    return sum_each(sum);
}

/* msum of the four rows: eight sub-blocks of 32, whose activations' sums are pairs of sum16. */
static inline int32x4_t min_rows(const tile *t, const int16_t *sum16)
{
    int32x4_t low = vpaddlq_s16(vld1q_s16(sum16)), high = vpaddlq_s16(vld1q_s16(sum16 + 8)), sum[TILE_ROWS];
    for (size_t r = 0; r < TILE_ROWS; r++) {
        sum[r] = vmlaq_s32(vmulq_s32(low, vld1q_s32(t->min[r])), high, vld1q_s32(t->min[r] + 4));
    }
    return sum_each(sum);
}

/* A matrix type: how to unpack it and what its blocks are made of. */
typedef struct form {
    unpack_fn unpack;
    size_t block, block_bytes, sub;
    bool scaled, has_min;
} form;

static inline __attribute__((always_inline)) void multiply(form f, const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0,
                                                           size_t t1, float *y, size_t y_stride)
{
    tile tile_of_rows;
    size_t n_blocks = w->n_cols / f.block;
    for (size_t r = r0; r < r1; r += TILE_ROWS) {
        size_t n_rows = r1 - r < TILE_ROWS ? r1 - r : TILE_ROWS;
        for (size_t b = 0; b < n_blocks; b++) {
            for (size_t i = 0; i < TILE_ROWS; i++) { /* past the last row: the last one again, its result unused */
                size_t row = r + (i < n_rows ? i : n_rows - 1);
                f.unpack(&tile_of_rows, i, w->data + row * w->row_bytes + b * f.block_bytes);
            }
            float32x4_t d = vld1q_f32(tile_of_rows.d), m = f.has_min ? vld1q_f32(tile_of_rows.m) : vdupq_n_f32(0.0f);
            for (size_t t = t0; t < t1; t++) {
                float lane[TILE_ROWS] = {0}, *out = y + t * y_stride + r, a_d = a->d[t * a->d_stride + b];
                if (b > 0) {
                    memcpy(lane, out, n_rows * sizeof *lane);
                }
                int32x4_t isum = dot_rows(&tile_of_rows, a->q + t * a->q_stride + b * f.block, f.block, f.sub, f.scaled);
                float32x4_t acc = vfmaq_f32(vld1q_f32(lane), vmulq_n_f32(d, a_d), vcvtq_f32_s32(isum));
                if (f.has_min) {
                    int32x4_t msum = min_rows(&tile_of_rows, a->sum16 + t * a->s_stride + b * (f.block / 16));
                    acc = vfmaq_f32(acc, vmulq_n_f32(m, a_d), vcvtq_f32_s32(msum));
                }
                vst1q_f32(lane, acc);
                memcpy(out, lane, n_rows * sizeof *lane);
            }
        }
    }
}

#define MATMUL(name, unpack, block, struct_name, sub, scaled, has_min) \
    void qn_matmul_##name##_neon(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, \
                                 size_t y_stride, void *scratch) \
    { \
        (void)scratch; \
        multiply((form){unpack, block, sizeof(struct_name), sub, scaled, has_min}, w, r0, r1, a, t0, t1, y, y_stride); \
    }
MATMUL(q4_0, unpack_q4_0, 32, qn_block_q4_0, 32, false, false)
MATMUL(q8_0, unpack_q8_0, 32, qn_block_q8_0, 32, false, false)
MATMUL(q4_k, unpack_q4_k, QN_K, qn_block_q4_k, 32, true, true)
MATMUL(q6_k, unpack_q6_k, QN_K, qn_block_q6_k, 16, true, false)
