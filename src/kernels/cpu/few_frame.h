/* few_frame.h - the frame of the few-token kernels (decode): what is common to all weight types and instruction sets. Included at the end of
 * few_avx512vnni.h and few_avx2.h, which say what a register is.
 *
 * A tile is FEW_ROWS rows, one register. Stage one goes through the tile row by row, so memory is read in the order it lies in, and leaves in scratch the
 * exact isum of every block and what else of the row the float step needs (raw: scale bits, sub-block mins). Stage two transposes both and runs the
 * float chains of the tile's rows in the lanes of one register.
 *
 *   stage one: row r  ->  isum[token][r][block]   raw[r][...]
 *   tile:      raw    ->  d[block][row]  m[block][row]  (min_pairs[block][4 or 8][row])
 *   stage two: block b -> lanes = rows:  acc = fma(d * a, isum, acc); acc = fma(m * a, msum, acc)
 *
 * Columns are cut into chunks so that the activations stay in the first-level cache; between chunks y holds the chains.
 * Invariant: stage one touches no byte outside the row's blocks. Lanes of rows and blocks that do not exist hold anything finite times a scale
 * of zero, or are not stored.
 */
#ifndef QN_KERNELS_FEW_FRAME_H
#define QN_KERNELS_FEW_FRAME_H

#include <assert.h>
#include <string.h>

#include "kernels/cpu/variant.h"
#include "kernels/matmul_kernels.h"

enum {
    FEW_TOKENS = 8,   /* tokens a pass over the weights serves */
    FEW_BLOCKS = 128, /* blocks of a chunk, at most */
    FEW_COLUMNS = 8192,
    FEW_Q = FEW_COLUMNS / 4 * FEW_Q_QUARTERS, /* prepared activations of a chunk */
    FEW_AHEAD = 8192,                         /* bytes between work and prefetch */
    FEW_STRIDE = FEW_BLOCKS + FEW_ROWS        /* not a power of two: rows of a column must not share cache sets */
};

typedef struct few_scratch {
    int32_t isum[FEW_TOKENS][FEW_ROWS][FEW_STRIDE];
    uint32_t raw[FEW_ROWS][FEW_STRIDE];
    float d[FEW_BLOCKS][FEW_ROWS], m[FEW_BLOCKS][FEW_ROWS];
    int32_t min_pairs[FEW_COLUMNS / 256][8][FEW_ROWS]; /* two 16-bit mins a dword, in the order of sums; of 8 sub-blocks four are used */
    /* activations as the type wants them, filled once a chunk */
    int8_t q[FEW_TOKENS][FEW_Q];
    int16_t sums[FEW_TOKENS][FEW_COLUMNS / 16];
    int32_t block_sum[FEW_TOKENS][FEW_BLOCKS];
    int32_t block_start[FEW_TOKENS][FEW_BLOCKS]; /* what of isum the activations alone decide: MLX 8 bits for AVX2 */
} few_scratch;
static_assert(sizeof(few_scratch) <= QN_MATMUL_SCRATCH_BYTES, "the few-token kernels must fit the scratch");

/* Where a chunk stands: blocks [block0, block0 + n_blocks) of the row, tokens [t0, t0 + n_tokens). */
typedef struct few_chunk {
    const qn_matrix *w;
    const qn_act *a;
    size_t block0, n_blocks, t0, n_tokens;
    few_scratch *s;
} few_chunk;

/* FEW_ROWS blocks of the tile's rows from a scratch plane. */
FEW_INLINE void few_load_columns(const void *plane, size_t block, few_ints out[FEW_ROWS])
{
    const char *p = (const char *)plane + block * sizeof(int32_t);
    for (size_t r = 0; r < FEW_ROWS; r++) {
        out[r] = few_load_ints(p + r * FEW_STRIDE * sizeof(int32_t));
    }
    few_transpose(out);
}

/* Asks for the lines that lie FEW_AHEAD bytes further on, across rows and pages, where the hardware's own prefetching stops. An address past
 * the end is only a hint and harmless. */
FEW_INLINE void few_prefetch(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) {
        _mm_prefetch((const char *)((uintptr_t)p + FEW_AHEAD + i), _MM_HINT_T1);
    }
}

/* Blocks are handled FEW_ROWS at a time; the scales of those past the end become zero, so that they add nothing. */
FEW_INLINE few_floats few_scale_or_zero(few_floats scale, size_t block, size_t n_blocks) { return block < n_blocks ? scale : few_set(0); }

/* raw[r][block] = float16 bits of d, or of d and m (in the upper half). */
FEW_INLINE void few_unpack_scales(few_scratch *s, size_t n_blocks, bool with_m)
{
    for (size_t b = 0; b < n_blocks; b += FEW_ROWS) {
        few_ints x[FEW_ROWS];
        few_load_columns(s->raw, b, x);
        for (size_t j = 0; j < FEW_ROWS; j++) {
            few_store(s->d[b + j], few_scale_or_zero(few_half_to_float(x[j]), b + j, n_blocks));
            if (with_m) {
                few_store(s->m[b + j], few_scale_or_zero(few_half_to_float(few_upper_halves(x[j])), b + j, n_blocks));
            }
        }
    }
}

/* ---- preparations that both instruction sets use ---- */

/* block_sum = factor * sum of q over each block. */
FEW_INLINE void few_sum_blocks(const few_chunk *c, int factor)
{
    const size_t n = c->a->block / 16;
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int16_t *sum16 = c->a->sum16 + (c->t0 + t) * c->a->s_stride + c->block0 * n;
        for (size_t b = 0; b < c->n_blocks; b++) {
            int32_t sum = 0;
            for (size_t i = 0; i < n; i++) {
                sum += sum16[b * n + i];
            }
            c->s->block_sum[t][b] = factor * sum;
        }
    }
}

/* Activations as codes come out of `width` bytes that hold `per_byte` codes each, the first ones lowest: first the columns whose codes are the
 * lowest bits of all bytes, then the next. */
FEW_INLINE void few_order_by_place(const few_chunk *c, const size_t per_byte, const size_t width)
{
    size_t n_columns = c->n_blocks * c->a->block;
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int8_t *q = c->a->q + (c->t0 + t) * c->a->q_stride + c->block0 * c->a->block;
        for (size_t i = 0; i < n_columns; i += width * per_byte) { /* the last ones may be partly past the end */
            size_t n = n_columns - i < width * per_byte ? n_columns - i : width * per_byte;
            for (size_t k = 0; k < n / per_byte; k++) {
                for (size_t j = 0; j < per_byte; j++) {
                    c->s->q[t][i + width * j + k] = q[i + per_byte * k + j];
                }
            }
        }
    }
}

/* TQ1_0, whose bytes are taken apart as 16-bit words: where byte i of a block's 52 bytes of trits is then, even bytes in the lower half of each
 * lane, odd ones in the upper. */
FEW_INLINE size_t few_trit_place(size_t i) { return i / 16 * 16 + i % 2 * 8 + i % 16 / 2; }

/* Of each block five times 64 activations, one a trit of a byte; zeros where a byte has no such trit. */
FEW_INLINE void few_order_by_trit(const few_chunk *c)
{
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int8_t *q = c->a->q + (c->t0 + t) * c->a->q_stride + c->block0 * 256;
        for (size_t b = 0; b < c->n_blocks; b++, q += 256) {
            int8_t *x = &c->s->q[t][b * 320];
            memset(x, 0, 320);
            for (size_t k = 0; k < 5; k++) {
                for (size_t i = 0; i < 48; i++) {
                    x[64 * k + few_trit_place(i)] = i < 32 ? q[32 * k + i] : q[160 + 16 * k + i - 32];
                }
                for (size_t i = 0; i < 4 && k < 4; i++) {
                    x[64 * k + few_trit_place(48 + i)] = q[240 + 4 * k + i];
                }
            }
        }
    }
}

/* Codes of 3, 5 or 6 bits straddle bytes. Of every 16 codes the 16-bit word m takes two, 2m and 2m + 1: they begin at bit 2m * bits, so that
 * some 16 bits that begin with a byte hold both. */
#define FEW_WORD_START(bits, m) (2 * (m) * (bits) % 8)
#define FEW_WORD_BYTE(bits, m) (2 * (m) * (bits) / 8)

/* ---- stage two ---- */

/* What multiplies m * a: nothing, the block's sum of activations (the same for all rows), or mins times the sums of its 8 or 16 sub-blocks. */
typedef enum few_min { FEW_MIN_NONE, FEW_MIN_OF_BLOCK, FEW_MIN_OF_8_SUBS, FEW_MIN_OF_16_SUBS } few_min;

/* Stage two for one token: continues the chains of the tile's rows in acc over the chunk's blocks. */
FEW_INLINE few_floats few_chain(const few_chunk *c, size_t token, few_floats acc, few_min min)
{
    const few_scratch *s = c->s;
    const float *a = c->a->d + (c->t0 + token) * c->a->d_stride + c->block0; /* padded with zeros to a multiple of 16 */
    for (size_t b = 0; b < c->n_blocks; b += FEW_ROWS) {
        few_ints isum[FEW_ROWS];
        few_load_columns(s->isum[token], b, isum);
        for (size_t j = 0; j < FEW_ROWS; j++) {
            few_floats scale = few_set(a[b + j]);
            acc = few_fma(few_mul(few_load(s->d[b + j]), scale), few_to_float(isum[j]), acc);
            if (min == FEW_MIN_OF_BLOCK) {
                few_floats sum = few_set((float)s->block_sum[token][b + j]);
                acc = few_fma(few_mul(few_load(s->m[b + j]), scale), sum, acc);
            } else if (min != FEW_MIN_NONE) {
                const size_t n_pairs = min == FEW_MIN_OF_8_SUBS ? 4 : 8;
                few_ints sum = few_set_ints(0);
                for (size_t i = 0; i < n_pairs; i++) {
                    int32_t pair;
                    memcpy(&pair, &s->sums[token][2 * ((b + j) * n_pairs + i)], sizeof pair);
                    sum = few_add_products(sum, few_load_ints(s->min_pairs[b + j][i]), few_set_ints(pair));
                }
                acc = few_fma(few_mul(few_load(s->m[b + j]), scale), few_to_float(sum), acc);
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
        for (size_t token = 0; token < c->n_tokens;) { /* groups of nearly equal size: with groups of 3, 4 = 2 + 2 */
            size_t left = c->n_tokens - token;
            size_t n_groups = (left + FEW_GROUP - 1) / FEW_GROUP;
            size_t n = (left + n_groups - 1) / n_groups;
            type->row(c, row, r, token, n);
            token += n;
        }
    }
    type->scales(c, row0, n_rows);
    for (size_t token = 0; token < c->n_tokens; token++) {
        float *out = y + (c->t0 + token) * y_stride + row0;
        few_floats acc = c->block0 == 0 ? few_set(0) : few_load_first(out, n_rows);
        few_store_first(out, n_rows, few_chain(c, token, acc, type->min));
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
            for (size_t r = r0; r < r1; r += FEW_ROWS) {
                few_tile(&c, type, r, r1 - r < FEW_ROWS ? r1 - r : FEW_ROWS, y, y_stride);
            }
        }
    }
}

#endif
