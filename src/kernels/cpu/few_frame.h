/* few_frame.h - the frame of the few-token kernels (decode): what is common to all weight types and instruction sets. Included at the end of
 * few_avx512vnni.h and few_avx2.h, which say what a register is.
 *
 * A tile is FEW_ROWS rows, one register. Stage one goes through the tile's rows, one of each stream at a time, and leaves in scratch the exact
 * isum of every block and what else of the row the float step needs (raw: scale bits, sub-block mins). Stage two transposes both and runs the
 * float chains of the tile's rows in the lanes of one register.
 *
 *   stage one: row r  ->  isum[token][r][block]   raw[r][...]
 *   tile:      raw    ->  d[block][row]  m[block][row]  (min_pairs[block][4 or 8][row])
 *   stage two: block b -> lanes = rows:  acc = fma(d * a, isum, acc); acc = fma(m * a, msum, acc)
 *
 * Columns are cut into chunks so that the activations stay in the first-level cache; between chunks y holds the chains. A tile is finished, chunk
 * by chunk, before the next begins: parts of rows, with the others a pass later, are read at half the speed, for the hardware fetches both. Only
 * rows too wide for the activations that scratch holds (a span: 128k columns of one token, 16k of eight) are read in such strips.
 * Invariant: stage one touches no byte outside the row's blocks. What scratch holds of rows and blocks that do not exist is anything: chains end
 * with the blocks, and lanes of other rows are not stored.
 */
#ifndef QN_KERNELS_FEW_FRAME_H
#define QN_KERNELS_FEW_FRAME_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/cpu.h"
#include "kernels/cpu/variant.h"
#include "kernels/matmul_kernels.h"

enum {
    FEW_TOKENS = 8,   /* tokens a pass over the weights serves */
    FEW_BLOCKS = 128, /* blocks of a chunk, at most */
    FEW_COLUMNS = 8192,
    FEW_Q = FEW_COLUMNS / 4 * FEW_Q_QUARTERS, /* prepared activations of a chunk */
    FEW_AHEAD = 256,                          /* lines of 64 bytes between work and prefetch, of all streams together */
    FEW_STRIDE = FEW_BLOCKS + FEW_ROWS        /* not a power of two: rows of a column must not share cache sets */
};

/* A chunk's activations of one token as the type wants them. */
typedef struct few_input {
    int8_t q[FEW_Q];
    int16_t sums[FEW_COLUMNS / 16];
    int32_t block_sum[FEW_BLOCKS];
    int32_t block_start[FEW_BLOCKS]; /* what of isum the activations alone decide: MLX 8 bits for AVX2 */
} few_input;

/* What is to be prefetched next: the n_lines lines from `at` on, of one part of memory, and those of the other streams' parts beside it. A part
 * is all rows of a stream, or with several chunks one row's chunk; after that come the tile's other rows, then its next chunk, then the next tile.
 * Rows are counted from the stream's first. */
typedef struct few_ahead {
    uintptr_t at;
    size_t n_lines;
    size_t stride; /* bytes from a stream's line to the next stream's */
    size_t tile, row, chunk;
    size_t n_each[2]; /* lines of each stream that a step of stage one and of stage two asks for */
    ptrdiff_t owed;   /* bytes that the tiles so far have read and not asked for; below 0: asked for and not read */
} few_ahead;

typedef struct few_scratch {
    int32_t isum[FEW_TOKENS][FEW_ROWS][FEW_STRIDE];
    uint32_t raw[FEW_ROWS][FEW_STRIDE];
    float d[FEW_BLOCKS][FEW_ROWS], m[FEW_BLOCKS][FEW_ROWS];
    int32_t min_pairs[FEW_COLUMNS / 256][8][FEW_ROWS]; /* two 16-bit mins a dword, in the order of sums; of 8 sub-blocks four are used */
    few_input inputs[FEW_INPUTS];                      /* of a span: each chunk's tokens together */
    few_ahead ahead;
} few_scratch;
static_assert(sizeof(few_scratch) <= QN_MATMUL_SCRATCH_BYTES, "the few-token kernels must fit the scratch");
static_assert(offsetof(few_scratch, d) % 64 == 0 && offsetof(few_scratch, min_pairs) % 64 == 0 && offsetof(few_scratch, inputs) % 64 == 0 &&
                  sizeof(few_input) % 64 == 0,
              "what is loaded as whole registers must be aligned");
static_assert(FEW_ROWS % QN_CPU_STREAMS_MAX == 0, "a tile has as many rows of each stream");

/* Rows that are cut into tiles: the streams begin `distance` rows from each other and are read through side by side, so that a tile's rows are
 * stream_rows of each. Of fewer rows than a tile has there is one tile, whose last streams may be short or empty. */
typedef struct few_band {
    size_t n_streams, stream_rows; /* see "memory"; together FEW_ROWS */
    size_t row0, n_rows, distance, n_tiles;
} few_band;

FEW_INLINE few_band few_band_of(size_t n_streams, size_t r0, size_t r1)
{
    const size_t stream_rows = FEW_ROWS / n_streams, n_tiles = (r1 - r0) / FEW_ROWS;
    return n_tiles > 0 ? (few_band){n_streams, stream_rows, r0, n_tiles * FEW_ROWS, n_tiles * stream_rows, n_tiles}
                       : (few_band){n_streams, stream_rows, r0, r1 - r0, stream_rows, 1};
}

/* The part of a product whose activations are prepared together: tokens [t0, t0 + n_tokens) and the columns from `block0` on, n_chunks times
 * chunk_blocks blocks, of which the last chunk may have fewer. */
typedef struct few_span {
    const qn_matrix *w;
    const qn_act *a;
    size_t t0, n_tokens, block0, n_blocks, chunk_blocks, n_chunks, block_bytes;
    bool whole_rows; /* one chunk has all columns: a stream's rows are one part of memory */
    few_band band;
    few_scratch *s;
} few_span;

/* Where work stands: the tile whose first row is row0, blocks [block0, block0 + n_blocks) of its rows, tokens [t0, t0 + n_tokens). */
typedef struct few_chunk {
    const qn_matrix *w;
    const qn_act *a;
    size_t block0, n_blocks, t0, n_tokens;
    size_t row0;
    few_scratch *s;
    few_input *in; /* of each token */
    const few_span *span;
} few_chunk;

/* The matrix's row that is the tile's row r, which exists. */
FEW_INLINE size_t few_row_of(const few_chunk *c, size_t r)
{
    const few_band *b = &c->span->band;
    return c->row0 + r / b->stream_rows * b->distance + r % b->stream_rows;
}

/* Rows of every tile that exist. */
FEW_INLINE size_t few_n_rows(const few_chunk *c) { return c->span->band.n_rows < FEW_ROWS ? c->span->band.n_rows : FEW_ROWS; }

/* The n rows of a tile that exist, a chunk of each: of stream k the rows begin at first + k * stride, row_bytes from each other; they are the tile's
 * rows from k * stream_rows on. */
typedef struct few_rows {
    const uint8_t *first;
    size_t row_bytes, stride, stream_rows, n;
} few_rows;

FEW_INLINE few_chunk few_chunk_of(const few_span *p, size_t i, size_t row0)
{
    const size_t begin = i * p->chunk_blocks, left = p->n_blocks - begin;
    return (few_chunk){.w = p->w,
                       .a = p->a,
                       .block0 = p->block0 + begin,
                       .n_blocks = left < p->chunk_blocks ? left : p->chunk_blocks,
                       .t0 = p->t0,
                       .n_tokens = p->n_tokens,
                       .row0 = row0,
                       .s = p->s,
                       .in = &p->s->inputs[i * p->n_tokens],
                       .span = p};
}

/* ---- memory ----
 *
 * Weights come from memory once, so the kernels are as fast as lines are asked for in time. One stream of addresses does not keep a core's memory
 * busy: the hardware's prefetching looks a few lines ahead and stops at pages, and asking by hand has few places for what is under way. Places far
 * from each other, read side by side, are streams of their own, each with the hardware's prefetching ahead of it. How many are best is the
 * processor's nature: qn_cpu_read_streams. Besides, steps ask for the lines that come FEW_AHEAD later, across rows, chunks and tiles; those of
 * stage two, which reads hardly any weights, as much as those of stage one, so that memory does not rest meanwhile. */

FEW_INLINE void few_seek(const few_span *p, few_ahead *x)
{
    const size_t begin = x->chunk * p->chunk_blocks, left = p->n_blocks - begin;
    const size_t stream_rows = p->band.distance < p->band.n_rows ? p->band.distance : p->band.n_rows;
    const size_t n_rows = p->whole_rows ? stream_rows : 1;
    const size_t bytes = (n_rows - 1) * p->w->row_bytes + (left < p->chunk_blocks ? left : p->chunk_blocks) * p->block_bytes;
    x->at = (uintptr_t)p->w->data + (p->band.row0 + x->row) * p->w->row_bytes + (p->block0 + begin) * p->block_bytes;
    x->n_lines = x->row < p->band.distance && x->row < p->band.n_rows ? (bytes + 63) / 64 : 0;
}

FEW_INLINE void few_next_part(const few_span *p, few_ahead *x)
{
    if (p->whole_rows) {
        x->row = p->band.distance; /* nothing is left */
    } else if (++x->row == x->tile + (p->band.stream_rows < p->band.n_rows ? p->band.stream_rows : p->band.n_rows)) {
        if (++x->chunk == p->n_chunks) {
            x->chunk = 0;
            x->tile += p->band.stream_rows;
        }
        x->row = x->tile;
    }
    few_seek(p, x);
}

/* Asks for n lines of each of n_streams, which is a constant. Unrolled: with a loop around single ones, Q6_K from the cache took 8 % longer. */
FEW_INLINE void few_ask(uintptr_t at, size_t n, size_t stride, const size_t n_streams)
{
    for (; n >= 4; n -= 4, at += 4 * 64) {
        QN_UNROLL
        for (size_t i = 0; i < 4; i++) {
            QN_UNROLL
            for (size_t k = 0; k < n_streams; k++) {
                _mm_prefetch((const char *)(at + 64 * i + k * stride), _MM_HINT_T1);
            }
        }
    }
    for (; n > 0; n--, at += 64) {
        QN_UNROLL
        for (size_t k = 0; k < n_streams; k++) {
            _mm_prefetch((const char *)(at + k * stride), _MM_HINT_T1);
        }
    }
}

/* Asks for n lines of each stream, of this part at most; how many it were. An address past the end is only a hint and harmless. */
FEW_INLINE size_t few_prefetch_lines(const few_span *p, few_ahead *x, size_t n)
{
    n = n < x->n_lines ? n : x->n_lines;
    switch (p->band.n_streams) {
    case 1: few_ask(x->at, n, 0, 1); break;
    case 2: few_ask(x->at, n, x->stride, 2); break;
    default: few_ask(x->at, n, x->stride, QN_CPU_STREAMS_MAX); break;
    }
    x->at += 64 * n;
    x->n_lines -= n;
    if (x->n_lines == 0) {
        few_next_part(p, x);
    }
    return n;
}

/* A step's share of prefetching. */
FEW_INLINE void few_prefetch(const few_chunk *c, const size_t stage)
{
    few_ahead *x = &c->s->ahead;
    for (size_t n = x->n_each[stage - 1]; n > 0 && x->n_lines > 0;) {
        n -= few_prefetch_lines(c->span, x, n);
    }
}

/* Stage one: group(row, r, block, n) for every row, one of each stream side by side, `step` blocks at a time and of them `blocks`, which divides it;
 * n is the constant `blocks` except for what is left at the end. */
#define FEW_FOR_GROUPS(c, rows, step, blocks, group) \
    do { \
        const few_rows all = *(rows); /* in registers, whatever is stored */ \
        for (size_t first_r = 0; first_r < all.stream_rows && first_r < all.n; first_r++) { \
            const uint8_t *const row = all.first + first_r * all.row_bytes; \
            size_t block = 0; \
            for (; block + (step) <= (c)->n_blocks; block += (step)) { \
                few_prefetch(c, 1); \
                for (size_t at = 0, r = first_r; r < all.n; at += all.stride, r += all.stream_rows) { \
                    for (size_t i = 0; i < (step); i += (blocks)) { \
                        group(row + at, r, block + i, blocks); \
                    } \
                } \
            } \
            if (block < (c)->n_blocks) { \
                few_prefetch(c, 1); \
                for (size_t at = 0, r = first_r; r < all.n; at += all.stride, r += all.stream_rows) { \
                    size_t i = block; \
                    for (; (step) > (blocks) && i + (blocks) <= (c)->n_blocks; i += (blocks)) { \
                        group(row + at, r, i, blocks); \
                    } \
                    if (i < (c)->n_blocks) { \
                        group(row + at, r, i, (c)->n_blocks - i); \
                    } \
                } \
            } \
        } \
    } while (0)

/* ---- what stage one leaves in scratch ---- */

/* FEW_ROWS blocks of the tile's rows from a plane of scratch. */
FEW_INLINE void few_load_columns(const few_chunk *c, const void *plane, size_t block, few_ints out[FEW_ROWS])
{
    few_prefetch(c, 2);
    const char *p = (const char *)plane + block * sizeof(int32_t);
    for (size_t r = 0; r < FEW_ROWS; r++) {
        out[r] = few_load_ints(p + r * FEW_STRIDE * sizeof(int32_t));
    }
    few_transpose(out);
}

/* raw[r][block] = float16 bits of d, or of d and m (in the upper half). */
FEW_INLINE void few_unpack_scales(const few_chunk *c, bool with_m)
{
    few_scratch *s = c->s;
    const size_t n_blocks = c->n_blocks;
    for (size_t b = 0; b < n_blocks; b += FEW_ROWS) {
        few_ints x[FEW_ROWS];
        few_load_columns(c, s->raw, b, x);
        for (size_t j = 0; j < FEW_ROWS; j++) {
            few_store(s->d[b + j], few_half_to_float(x[j]));
            if (with_m) {
                few_store(s->m[b + j], few_half_to_float(few_upper_halves(x[j])));
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
            c->in[t].block_sum[b] = factor * sum;
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
                    c->in[t].q[i + width * j + k] = q[i + per_byte * k + j];
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
            int8_t *x = &c->in[t].q[b * 320];
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

/* What multiplies m * a: nothing, the block's sum of activations (the same for all rows), or mins times the sums of its 8 or 16 sub-blocks.
 * FEW_D_WITH_SUM: nothing, and stage one has left d with isum, which fits 16 bits: its float16 is the lower half of the dword. */
typedef enum few_min { FEW_MIN_NONE, FEW_D_WITH_SUM, FEW_MIN_OF_BLOCK, FEW_MIN_OF_8_SUBS, FEW_MIN_OF_16_SUBS } few_min;

/* One block further: acc = fma(d * a, isum, acc), then acc = fma(m * a, msum, acc). */
FEW_INLINE few_floats few_chain_block(const few_chunk *c, size_t token, few_floats acc, few_min min, size_t block, few_ints isum)
{
    const few_scratch *s = c->s;
    const few_floats scale = few_set(c->a->d[(c->t0 + token) * c->a->d_stride + c->block0 + block]);
    if (min == FEW_D_WITH_SUM) {
        return few_fma(few_mul(few_half_to_float(isum), scale), few_to_float(few_upper_halves_signed(isum)), acc);
    }
    acc = few_fma(few_mul(few_load(s->d[block]), scale), few_to_float(isum), acc);
    if (min == FEW_MIN_OF_BLOCK) {
        few_floats sum = few_set((float)c->in[token].block_sum[block]);
        acc = few_fma(few_mul(few_load(s->m[block]), scale), sum, acc);
    } else if (min != FEW_MIN_NONE) {
        const size_t n_pairs = min == FEW_MIN_OF_8_SUBS ? 4 : 8;
        few_ints sum = few_set_ints(0);
        for (size_t i = 0; i < n_pairs; i++) {
            int32_t pair;
            memcpy(&pair, &c->in[token].sums[2 * (block * n_pairs + i)], sizeof pair);
            sum = few_add_products(sum, few_load_ints(s->min_pairs[block][i]), few_set_ints(pair));
        }
        acc = few_fma(few_mul(few_load(s->m[block]), scale), few_to_float(sum), acc);
    }
    return acc;
}

/* Stage two for one token: continues the chains of the tile's rows in acc over the chunk's blocks. */
FEW_INLINE few_floats few_chain(const few_chunk *c, size_t token, few_floats acc, few_min min)
{
    for (size_t b = 0; b < c->n_blocks; b += FEW_ROWS) {
        few_ints isum[FEW_ROWS];
        few_load_columns(c, c->s->isum[token], b, isum);
        if (c->n_blocks - b >= FEW_ROWS) {
            for (size_t j = 0; j < FEW_ROWS; j++) {
                acc = few_chain_block(c, token, acc, min, b + j, isum[j]);
            }
        } else {
            for (size_t j = 0; j < c->n_blocks - b; j++) {
                acc = few_chain_block(c, token, acc, min, b + j, isum[j]);
            }
        }
    }
    return acc;
}

/* One type: how activations are prepared for a chunk (may be NULL), how the sums of some rows are taken for n tokens from `token` of the chunk
 * on, how the tile's scales are read after that (may be NULL). */
typedef struct few_type {
    size_t block; /* elements */
    size_t block_bytes;
    size_t step; /* blocks that `rows` takes at a time */
    few_min min;
    void (*prepare)(const few_chunk *c);
    void (*rows)(const few_chunk *c, const few_rows *rows, size_t token, size_t n_tokens);
    void (*scales)(const few_chunk *c);
} few_type;

/* Transpositions of stage two in a tile's chunk. */
FEW_INLINE size_t few_transpositions(const few_chunk *c, const few_type *type)
{
    const bool has_mins = type->min == FEW_MIN_OF_8_SUBS || type->min == FEW_MIN_OF_16_SUBS;
    const size_t raw_dwords = type->min == FEW_D_WITH_SUM ? 0 : has_mins ? 4 * c->n_blocks : c->n_blocks;
    return (raw_dwords + FEW_ROWS - 1) / FEW_ROWS + (c->n_blocks + FEW_ROWS - 1) / FEW_ROWS * c->n_tokens;
}

/* How many lines a step of either stage asks for, so that a tile's chunk asks for as many as it reads. The numbers stay the same for a stage's
 * steps, and nearly from tile to tile: loops that end now here, now there are mispredicted. Of several groups of tokens the first asks for all. */
FEW_INLINE void few_pace(const few_chunk *c, const few_type *type)
{
    few_ahead *x = &c->s->ahead;
    const size_t row_bytes = c->n_blocks * type->block_bytes;
    const size_t stream_rows = c->span->band.stream_rows;
    const size_t bytes = stream_rows * (c->span->whole_rows ? row_bytes : (row_bytes + 63) / 64 * 64);
    const size_t n_steps = stream_rows * ((c->n_blocks + type->step - 1) / type->step);
    const size_t n_transpositions = few_transpositions(c, type);
    const size_t n_lines = bytes / 64, n_all = n_steps + n_transpositions;
    const size_t even = (n_lines + n_all - 1) / n_all; /* rounded up, if so many are read: stage one must not eat up its lead */
    x->n_each[0] = even * n_steps <= n_lines ? even : n_lines / n_all;
    x->owed += (ptrdiff_t)(bytes - 64 * n_steps * x->n_each[0]);
    x->n_each[1] = x->owed > 0 ? ((size_t)x->owed + 64 * n_transpositions - 1) / (64 * n_transpositions) : 0;
    x->owed -= (ptrdiff_t)(64 * n_transpositions * x->n_each[1]);
}

/* The chains of a tile's rows as they stand in y, and back. */
FEW_INLINE few_floats few_load_rows(const few_chunk *c, const float *y)
{
    _Alignas(64) float lanes[FEW_ROWS] = {0};
    const few_band *b = &c->span->band;
    for (size_t r = 0, row = c->row0, n = few_n_rows(c); r < n; r += b->stream_rows, row += b->distance) {
        memcpy(lanes + r, y + row, (n - r < b->stream_rows ? n - r : b->stream_rows) * sizeof(float));
    }
    return few_load(lanes);
}

FEW_INLINE void few_store_rows(const few_chunk *c, float *y, few_floats acc)
{
    _Alignas(64) float lanes[FEW_ROWS];
    few_store(lanes, acc);
    const few_band *b = &c->span->band;
    for (size_t r = 0, row = c->row0, n = few_n_rows(c); r < n; r += b->stream_rows, row += b->distance) {
        memcpy(y + row, lanes + r, (n - r < b->stream_rows ? n - r : b->stream_rows) * sizeof(float));
    }
}

/* One chunk of a tile. */
FEW_INLINE void few_tile(const few_chunk *c, const few_type *type, float *y, size_t y_stride)
{
    const size_t row_bytes = c->w->row_bytes;
    const few_band *b = &c->span->band;
    const few_rows rows = {c->w->data + c->row0 * row_bytes + c->block0 * type->block_bytes, row_bytes, b->distance * row_bytes,
                           b->stream_rows, few_n_rows(c)};
    few_pace(c, type);
    for (size_t token = 0; token < c->n_tokens;) { /* groups of nearly equal size: with groups of 3, 4 = 2 + 2 */
        size_t left = c->n_tokens - token;
        size_t n_groups = (left + FEW_GROUP - 1) / FEW_GROUP;
        size_t n = (left + n_groups - 1) / n_groups;
        type->rows(c, &rows, token, n);
        c->s->ahead.n_each[0] = 0; /* the first group has read the tile's chunk, and asked for as much */
        token += n;
    }
    if (type->scales != NULL) {
        type->scales(c);
    }
    for (size_t token = 0; token < c->n_tokens; token++) {
        float *out = y + (c->t0 + token) * y_stride;
        few_floats acc = c->block0 == 0 ? few_set(0) : few_load_rows(c, out);
        few_store_rows(c, out, few_chain(c, token, acc, type->min));
    }
}

/* One span of columns for the rows of its band. All chunks of a tile follow each other, so that memory is read through, not in strips. */
FEW_INLINE void few_matmul_band(const few_span *p, const few_type *type, bool prepares, float *y, size_t y_stride)
{
    few_ahead *x = &p->s->ahead;
    *x = (few_ahead){.stride = p->band.distance * p->w->row_bytes};
    few_seek(p, x);
    for (size_t n = FEW_AHEAD / p->band.n_streams; n > 0 && x->n_lines > 0;) {
        n -= few_prefetch_lines(p, x, n);
    }
    for (size_t i = 0; i < p->n_chunks && prepares; i++) {
        few_chunk c = few_chunk_of(p, i, 0);
        type->prepare(&c);
    }
    for (size_t tile = 0; tile < p->band.n_tiles; tile++) {
        for (size_t i = 0; i < p->n_chunks; i++) {
            few_chunk c = few_chunk_of(p, i, p->band.row0 + tile * p->band.stream_rows);
            few_tile(&c, type, y, y_stride);
        }
    }
}

/* The whole product. Always inlined, so that `type` is a constant and its functions are called directly. */
FEW_INLINE void few_matmul(const few_type *type, const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                           size_t y_stride, void *scratch)
{
    const size_t n_streams = qn_cpu_read_streams();
    const size_t n_blocks = w->n_cols / type->block;
    const size_t most = FEW_COLUMNS / type->block < FEW_BLOCKS ? FEW_COLUMNS / type->block : FEW_BLOCKS;
    const size_t n_chunks = (n_blocks + most - 1) / most;
    const size_t chunk_blocks = ((n_blocks + n_chunks - 1) / n_chunks + 15) / 16 * 16; /* whole transpositions */
    for (size_t t = t0; t < t1; t += FEW_TOKENS) {
        few_span p = {.w = w,
                      .a = a,
                      .t0 = t,
                      .n_tokens = t1 - t < FEW_TOKENS ? t1 - t : FEW_TOKENS,
                      .chunk_blocks = chunk_blocks,
                      .block_bytes = type->block_bytes,
                      .whole_rows = n_chunks == 1,
                      .s = scratch};
        for (; p.block0 < n_blocks; p.block0 += p.n_blocks) {
            const size_t left = n_blocks - p.block0;
            const size_t together = FEW_INPUTS / p.n_tokens * chunk_blocks;
            p.n_blocks = left < together ? left : together;
            p.n_chunks = (p.n_blocks + chunk_blocks - 1) / chunk_blocks;
            for (size_t r = r0; r < r1; r += p.band.n_rows) {
                p.band = few_band_of(n_streams, r, r1);
                few_matmul_band(&p, type, r == r0 && type->prepare != NULL, y, y_stride);
            }
        }
    }
}

#endif
