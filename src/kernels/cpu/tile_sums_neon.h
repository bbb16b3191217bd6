/* tile_sums_neon.h - what the multipliers of the normal form (tile.h) for aarch64 share: what is asked for ahead, and a token's sums of activations
 * that mins are multiplied with. For tile_multiply_neon.c and tile_multiply_i8mm.c.
 */
#ifndef QN_KERNELS_TILE_SUMS_NEON_H
#define QN_KERNELS_TILE_SUMS_NEON_H

#include <arm_neon.h>

#include "kernels/cpu/tile.h"

#define TILE_INLINE static inline __attribute__((always_inline))

/* Part `i` of `n` of the lines to ask for. */
TILE_INLINE void prefetch_part(const qn_tile_args *a, size_t i, size_t n)
{
    for (size_t j = i; j < a->n_ahead; j += n) {
        __builtin_prefetch((const void *)(a->ahead + 64 * j), 0, 2);
    }
    for (size_t j = i; j < a->n_next; j += n) {
        for (size_t k = 0; k < TILE_COLUMNS; k += 64) {
            __builtin_prefetch(a->next + j * a->q_stride + k, 0, 3);
        }
    }
    for (size_t j = i; a->y != NULL && j < a->n_tokens; j += n) {
        for (size_t k = 0; k < a->n_tiles; k++) {
            __builtin_prefetch(a->y + j * a->y_stride + k * TILE_ROWS, 1, 2);
        }
    }
}

/* A token's sums of activations over a panel that `pair` multiplies: of 16 columns as they are, of 32 (the first eight) added up. */
TILE_INLINE void take_pair_sums(const int16_t *sum16, const size_t sub, int16x8_t out[2])
{
    out[0] = vld1q_s16(sum16);
    out[1] = vld1q_s16(sum16 + 8);
    if (sub == 32) {
        out[0] = vpaddq_s16(out[0], out[1]);
    }
}

/* A token's sums of activations over a panel's blocks: first those of the blocks, then zeros. */
TILE_INLINE void take_block_sums(const int16_t *sum16, size_t block, int32x4_t out[2])
{
    out[0] = vpaddlq_s16(vld1q_s16(sum16));
    out[1] = vpaddlq_s16(vld1q_s16(sum16 + 8));
    for (size_t width = 32; width < block; width *= 2) { /* neighbours meet until a sum covers a block */
        out[0] = vpaddq_s32(out[0], out[1]);
        out[1] = vdupq_n_s32(0);
    }
}

/* What multiplies which type, as the initializer of an engine's table: both files name their multipliers alike. */
/* clang-format off */
#define NEON_MULTIPLIERS \
    { \
        [QN_TILE_Q4_0] = &flat,      [QN_TILE_Q4_1] = &flat_min,       [QN_TILE_Q5_0] = &flat,        [QN_TILE_Q5_1] = &flat_min, \
        [QN_TILE_Q8_0] = &flat,      [QN_TILE_IQ4_NL] = &flat,         [QN_TILE_MXFP4] = &flat,       [QN_TILE_Q2_K] = &super16_min, \
        [QN_TILE_Q3_K] = &super16,   [QN_TILE_Q4_K] = &super32_min,    [QN_TILE_Q5_K] = &super32_min, [QN_TILE_Q6_K] = &super16, \
        [QN_TILE_IQ4_XS] = &super32, [QN_TILE_TQ1_0] = &flat,          [QN_TILE_TQ2_0] = &flat,       [QN_TILE_MLX1] = &flat_min, \
        [QN_TILE_MLX2] = &flat_min,  [QN_TILE_MLX3] = &flat_min,       [QN_TILE_MLX4] = &flat_min,    [QN_TILE_MLX5] = &flat_min, \
        [QN_TILE_MLX6] = &flat_min,  [QN_TILE_MLX8] = &flat_min_moved, \
    }
/* clang-format on */

#endif
