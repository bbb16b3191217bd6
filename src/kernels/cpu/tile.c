/* tile.c - drives the many-token kernels: which rows, panels and tokens meet when. Runs no arithmetic of its own.
 *
 * Order: a few passes of one or two tiles of 16 rows, then panels of 256 columns, then the passes (tiles unpacked into the first-level cache), then
 * all tokens in groups; the chains of the rows for all tokens wait in scratch between panels. Invariant: panels of a row are visited in index order.
 */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "kernels/cpu/tile.h"
#include "quant/blocks.h"

enum { TILES = 2, PASSES = 4 };

typedef struct tile_scratch {
    qn_tile tiles[TILES];
    float acc[PASSES][TILE_TOKENS * TILES * TILE_ROWS]; /* [token][tile][row] */
    _Alignas(64) uint8_t work[TILE_WORK_BYTES];
} tile_scratch;
static_assert(sizeof(tile_scratch) <= QN_MATMUL_SCRATCH_BYTES, "the tile kernels must fit the scratch");

typedef struct tile_traits {
    qn_tile_type type;
    int offset; /* offset types: what the unpacker adds to codes */
} tile_traits;

static const tile_traits block_types[QN_DTYPE_COUNT] = {
    [QN_DTYPE_Q4_0] = {QN_TILE_Q4_0, 8},       [QN_DTYPE_Q4_1] = {QN_TILE_Q4_1, 0},   [QN_DTYPE_Q5_0] = {QN_TILE_Q5_0, 16},
    [QN_DTYPE_Q5_1] = {QN_TILE_Q5_1, 0},       [QN_DTYPE_Q8_0] = {QN_TILE_Q8_0, 128}, [QN_DTYPE_IQ4_NL] = {QN_TILE_IQ4_NL, 128},
    [QN_DTYPE_MXFP4] = {QN_TILE_MXFP4, 12},    [QN_DTYPE_Q2_K] = {QN_TILE_Q2_K, 0},   [QN_DTYPE_Q3_K] = {QN_TILE_Q3_K, 4},
    [QN_DTYPE_Q4_K] = {QN_TILE_Q4_K, 0},       [QN_DTYPE_Q5_K] = {QN_TILE_Q5_K, 0},   [QN_DTYPE_Q6_K] = {QN_TILE_Q6_K, 32},
    [QN_DTYPE_IQ4_XS] = {QN_TILE_IQ4_XS, 128}, [QN_DTYPE_TQ1_0] = {QN_TILE_TQ1_0, 1}, [QN_DTYPE_TQ2_0] = {QN_TILE_TQ2_0, 1},
};

static tile_traits traits_of(const qn_matrix *w)
{
    static const qn_tile_type by_bits[9] = {[1] = QN_TILE_MLX1, [2] = QN_TILE_MLX2, [3] = QN_TILE_MLX3, [4] = QN_TILE_MLX4,
                                            [5] = QN_TILE_MLX5, [6] = QN_TILE_MLX6, [8] = QN_TILE_MLX8};
    if (w->dtype == QN_DTYPE_MLX_AFFINE) {
        return (tile_traits){by_bits[w->affine.bits], 0};
    }
    return block_types[w->dtype];
}

/* What stays the same over the whole product. */
typedef struct tile_job {
    const qn_tile_engine *engine;
    const qn_matrix *w;
    const qn_act *a;
    tile_traits traits;
    size_t block, block_bytes; /* block_bytes of MLX: of a group */
    tile_scratch *s;
} tile_job;

/* Points at panel columns [column, ...) of 16 rows from row0 on; rows past r1 repeat the last. */
static void locate(const tile_job *j, size_t row0, size_t r1, size_t column, qn_tile_source *out)
{
    const qn_matrix *w = j->w;
    size_t block = column / j->block;
    size_t left = (w->n_cols - column) / j->block, most = TILE_COLUMNS / j->block;
    out->n_blocks = left < most ? left : most;
    out->affine_dtype = w->affine_dtype;
    out->bits = w->affine.bits;
    out->group = w->affine.group;
    size_t item = w->affine_dtype == QN_DTYPE_F32 ? 4 : 2;
    for (size_t i = 0; i < TILE_ROWS; i++) {
        size_t row = row0 + i < r1 ? row0 + i : r1 - 1;
        out->row[i] = w->data + row * w->row_bytes + block * j->block_bytes;
        if (w->dtype == QN_DTYPE_MLX_AFFINE) {
            size_t at = (row * (w->n_cols / j->block) + block) * item;
            out->scale[i] = w->scales + at;
            out->bias[i] = w->biases + at;
        }
    }
}

/* The part of the next tiles' bytes, in memory order, that is to be asked for while this panel is worked on. */
typedef struct ahead {
    uintptr_t base;
    size_t n_lines;
} ahead;

/* Of rows [row, row + n_rows), which are worked on again `distance` rows further on. */
static ahead ahead_of(const tile_job *j, size_t row, size_t n_rows, size_t distance, size_t column)
{
    size_t total = n_rows * j->w->row_bytes;
    size_t next = column + TILE_COLUMNS < j->w->n_cols ? column + TILE_COLUMNS : j->w->n_cols;
    size_t begin = total * column / j->w->n_cols / 64, end = total * next / j->w->n_cols / 64;
    return (ahead){(uintptr_t)j->w->data + (row + distance) * j->w->row_bytes + begin * 64, end - begin};
}

/* Rows that are worked on together: `passes` times one or two tiles. */
typedef struct rows_at {
    size_t row, r1; /* of this pass */
    size_t n_tiles, pass, distance;
} rows_at;

static void multiply_panel(const tile_job *j, const rows_at *at, size_t n_blocks, size_t column, size_t t0, size_t n_tokens, const float *y,
                           size_t y_stride)
{
    const qn_act *a = j->a;
    const qn_tile_multiplier *multiplier = j->engine->multiplier[j->traits.type];
    const ahead next = ahead_of(j, at->row, at->r1 - at->row, at->distance, column);
    size_t n_groups = (n_tokens + multiplier->max_group - 1) / multiplier->max_group;
    size_t line = 0;
    for (size_t g = 0, t = 0; g < n_groups; g++) { /* groups of equal size, or one less */
        size_t n = (n_tokens - t + n_groups - g - 1) / (n_groups - g);
        if (multiplier->in_pairs && n % 2 == 1 && t + n < n_tokens) {
            n++; /* max_group is even, so no more than that, and something is left for each group */
        }
        size_t n_lines = (next.n_lines - line + n_groups - g - 1) / (n_groups - g);
        qn_tile_args args = {
            .tiles = j->s->tiles,
            .n_tiles = at->n_tiles,
            .n_tokens = n,
            .pass = at->pass,
            .q = a->q + (t0 + t) * a->q_stride + column,
            .sum16 = a->sum16 + (t0 + t) * a->s_stride + column / 16,
            .d = a->d + (t0 + t) * a->d_stride + column / j->block,
            .q_stride = a->q_stride,
            .s_stride = a->s_stride,
            .d_stride = a->d_stride,
            .acc = j->s->acc[at->pass] + t * at->n_tiles * TILE_ROWS,
            .n_blocks = n_blocks,
            .block = j->block,
            .offset = j->traits.offset,
            .ahead = next.base + line * 64,
            .n_ahead = n_lines,
            .next = a->q + (t0 + t + n) * a->q_stride + column,
            .n_next = g + 1 < n_groups ? n : 0,
            .y = y != NULL ? y + t * y_stride : NULL,
            .y_stride = y_stride,
            .work = j->s->work,
        };
        (multiplier->any[at->n_tiles - 1] != NULL ? multiplier->any[at->n_tiles - 1] : multiplier->fn[at->n_tiles - 1][n - 1])(&args);
        t += n;
        line += n_lines;
    }
}

static void put_rows(const float *acc, size_t n_tiles, size_t n_rows, size_t n_tokens, float *y, size_t y_stride)
{
    const size_t width = n_tiles * TILE_ROWS;
    for (size_t t = 0; t < n_tokens; t++) {
        if (n_rows == TILES * TILE_ROWS) { /* nearly always: a size that compilers know needs no call */
            memcpy(y + t * y_stride, acc + t * width, TILES * TILE_ROWS * sizeof(float));
        } else {
            memcpy(y + t * y_stride, acc + t * width, n_rows * sizeof(float));
        }
    }
}

/* All tokens [t0, t0 + n_tokens) of the rows [row0, r1), at most n_passes * max_tiles * 16. */
static void multiply_rows(const tile_job *j, size_t row0, size_t r1, size_t t0, size_t n_tokens, float *y, size_t y_stride)
{
    const size_t rows_a_pass = j->engine->max_tiles * TILE_ROWS, n_passes = (r1 - row0 + rows_a_pass - 1) / rows_a_pass;
    rows_at at[PASSES];
    for (size_t p = 0; p < n_passes; p++) {
        const size_t row = row0 + p * rows_a_pass, end = row + rows_a_pass < r1 ? row + rows_a_pass : r1;
        at[p] = (rows_at){row, end, end - row > TILE_ROWS ? 2 : 1, p, r1 - row0};
        memset(j->s->acc[p], 0, n_tokens * at[p].n_tiles * TILE_ROWS * sizeof(float));
    }
    for (size_t column = 0; column < j->w->n_cols; column += TILE_COLUMNS) {
        const bool last = column + TILE_COLUMNS >= j->w->n_cols;
        for (size_t p = 0; p < n_passes; p++) {
            qn_tile_source source;
            for (size_t i = 0; i < at[p].n_tiles; i++) {
                locate(j, at[p].row + i * TILE_ROWS, at[p].r1, column, &source);
                j->engine->unpack[j->traits.type](&source, &j->s->tiles[i]);
            }
            multiply_panel(j, &at[p], source.n_blocks, column, t0, n_tokens, last ? y + t0 * y_stride + at[p].row : NULL, y_stride);
        }
    }
    for (size_t p = 0; p < n_passes; p++) {
        put_rows(j->s->acc[p], at[p].n_tiles, at[p].r1 - at[p].row, n_tokens, y + t0 * y_stride + at[p].row, y_stride);
    }
}

void qn_tile_matmul(const qn_tile_engine *e, const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                    size_t y_stride, void *scratch)
{
    tile_job j = {.engine = e, .w = w, .a = a, .traits = traits_of(w), .block = a->block, .s = scratch};
    j.block_bytes = w->dtype == QN_DTYPE_MLX_AFFINE ? a->block / 8 * w->affine.bits : qn_dtype_get(w->dtype)->block_bytes;
    const size_t rows = e->max_tiles * (e->n_passes != 0 ? e->n_passes : 1) * TILE_ROWS;
    size_t n_parts = (t1 - t0 + TILE_TOKENS - 1) / TILE_TOKENS; /* of equal size, or one less: a small rest would pay for unpacking alone */
    for (size_t t = t0, n_tokens; t < t1; t += n_tokens) {
        n_tokens = (t1 - t + n_parts - 1) / n_parts;
        n_parts--;
        for (size_t r = r0; r < r1; r += rows) {
            size_t end = r + rows < r1 ? r + rows : r1;
            multiply_rows(&j, r, end, t, n_tokens, y, y_stride);
        }
    }
}
