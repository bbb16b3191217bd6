/* tile_multiply_amx.c - the multipliers of the normal form (tile.h) with AMX: 16 rows times 16 tokens times 64 columns an instruction.
 *
 * A scale for every 16 or 32 columns would leave the unit idle between short sums. So scales are folded into codes first: their exact product
 * has at most 14 bits and a sign and is kept as two planes of bytes, product = 256 * high + low (low unsigned, high signed), and the sums over
 * all 256 columns of both planes give isum. Q2_K needs one plane. Flat types have a float scale a block: one sum a block, codes as they are
 * (offsets taken away, so that they are signed).
 *
 * A panel is a list of items: 16 tokens and all tiles, or 16 tokens and one tile. While the unit multiplies one item, the float steps of the
 * item before are done. The last 16 tokens overlap those before them when tokens are no multiple of 16; what was added is not added again.
 * Invariants: the order of the float steps of matmul.h; registers are released before returning.
 */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/tile_sums_avx512vnni.h"
#include "kernels/cpu/variant.h"

enum {
    TOKENS = 16, /* of an item */
    PARTS = 4,   /* an item is multiplied 64 columns at a time */
    PART_COLUMNS = TILE_COLUMNS / PARTS,
    SUMS = 8, /* of an item: blocks of 32, or two planes of two tiles */
};

/* Codes or folded codes of one tile, as the unit wants them: [k / 4][row][k % 4]. */
typedef uint8_t amx_plane[TILE_COLUMNS / 4][TILE_ROWS][4];

/* Of two items in turn: the one that is multiplied, and the one before. */
typedef struct amx_sums {
    _Alignas(64) int32_t of[SUMS][TOKENS][TILE_ROWS];
} amx_sums;

/* Sums of a token's activations, which mins are multiplied with: as pairs (super types), or of blocks. */
typedef union amx_token_sums {
    _Alignas(32) int16_t pair[16];
    _Alignas(32) float block[TILE_COLUMNS / 32];
} amx_token_sums;

typedef struct amx_work {
    _Alignas(64) amx_plane plane[2][2]; /* [tile][low, high] */
    amx_sums sums[2];
    amx_token_sums token_sums[TILE_TOKENS]; /* of types with mins */
} amx_work;
_Static_assert(sizeof(amx_work) <= TILE_WORK_BYTES, "the planes must fit what a multiplier may use");

/* What a body is compiled for. */
typedef struct amx_shape {
    size_t sub; /* columns of an integer scale; 0: flat */
    bool has_min;
    bool one_plane; /* super types */
} amx_shape;

typedef struct amx_item {
    size_t token, first; /* tokens [token + first, token + n_tokens) are still to be added */
    size_t n_tokens;
    size_t tile; /* flat types */
    amx_sums *sums;
    const amx_token_sums *token_sums;
} amx_item;

/* ---- folding ---- */

/* (code - offset) * scale for the columns of a sub-block. */
TILE_INLINE void fold_sub_block(const qn_tile *tile, size_t s, const amx_shape shape, int offset, amx_plane plane[2])
{
    const __m512i even_bytes = _mm512_set1_epi16(0x00ff);
    __m512i scale = _mm512_load_si512(tile->scale[s]);
    scale = _mm512_or_si512(_mm512_and_si512(scale, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32(scale, 16));
    const __m512i moved = _mm512_mullo_epi16(scale, _mm512_set1_epi16((short)offset));
    QN_UNROLL
    for (size_t k = s * shape.sub / 4; k < (s + 1) * shape.sub / 4; k++) {
        const __m512i code = _mm512_load_si512(tile->code[k]);
        const __m512i even = _mm512_sub_epi16(_mm512_mullo_epi16(_mm512_and_si512(code, even_bytes), scale), moved);
        const __m512i odd = _mm512_sub_epi16(_mm512_mullo_epi16(_mm512_srli_epi16(code, 8), scale), moved);
        _mm512_store_si512(plane[0][k], _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaau, even, _mm512_slli_epi16(odd, 8)));
        if (!shape.one_plane) {
            _mm512_store_si512(plane[1][k], _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaau, _mm512_srli_epi16(even, 8), odd));
        }
    }
}

TILE_INLINE void take_offset(const qn_tile *tile, size_t n_columns, int offset, amx_plane plane)
{
    for (size_t k = 0; k < n_columns / 4; k++) {
        _mm512_store_si512(plane[k], _mm512_sub_epi8(_mm512_load_si512(tile->code[k]), _mm512_set1_epi8((char)offset)));
    }
}

/* ---- integer sums ---- */

/* 64 columns of one plane of a tile of a super type. Registers 0 to 3 hold the sums: two planes of two tiles. */
TILE_INLINE void multiply_plane(const amx_work *w, size_t part, const size_t tile, const size_t plane)
{
    const uint8_t *code = w->plane[tile][plane][part * PART_COLUMNS / 4][0];
    switch (2 * tile + plane) {
    case 0:
        AMX_LOAD(5, code, 64);
        AMX_DOT_US(0, 4, 5);
        break;
    case 1:
        AMX_LOAD(6, code, 64);
        AMX_DOT_SS(1, 4, 6);
        break;
    case 2:
        AMX_LOAD(7, code, 64);
        AMX_DOT_US(2, 4, 7);
        break;
    default:
        AMX_LOAD(5, code, 64);
        AMX_DOT_SS(3, 4, 5);
        break;
    }
}

TILE_INLINE void store_super_sums(const amx_item *item, const amx_shape shape, const size_t n_tiles)
{
    AMX_STORE(0, item->sums->of[0], 64);
    if (!shape.one_plane) {
        AMX_STORE(1, item->sums->of[1], 64);
    }
    if (n_tiles > 1) {
        AMX_STORE(2, item->sums->of[2], 64);
        if (!shape.one_plane) {
            AMX_STORE(3, item->sums->of[3], 64);
        }
    }
}

/* Columns [column, column + 64) of an item of a flat type, or 32 with blocks of 32. */
TILE_INLINE void multiply_flat(const qn_tile_args *a, const amx_plane *plane, const amx_item *item, size_t column, const amx_shape shape)
{
    if (column % a->block == 0) {
        AMX_ZERO(0);
    }
    AMX_LOAD(4, a->q + item->token * a->q_stride + column, a->q_stride);
    AMX_LOAD(5, (*plane)[column / 4], 64);
    if (shape.has_min) {
        AMX_DOT_US(0, 4, 5);
    } else {
        AMX_DOT_SS(0, 4, 5);
    }
    if (a->block == 32 || (column + PART_COLUMNS) % a->block == 0) {
        AMX_STORE(0, item->sums->of[column / a->block], 64);
    }
}

/* ---- float steps ---- */

/* What the float steps of super types need of two tiles, in registers: loads are what binds them. */
typedef struct amx_factors {
    __m512 d[2], m[2];
    __m512i pair[2][TILE_COLUMNS / 32];
} amx_factors;

TILE_INLINE amx_factors take_factors(const qn_tile *tiles, const amx_shape shape, const size_t n_tiles)
{
    amx_factors f = {0};
    if (shape.sub == 0) {
        return f;
    }
    QN_UNROLL
    for (size_t i = 0; i < n_tiles; i++) {
        f.d[i] = _mm512_load_ps(tiles[i].d[0]);
        if (shape.has_min) {
            f.m[i] = _mm512_load_ps(tiles[i].m[0]);
            QN_UNROLL
            for (size_t j = 0; j < TILE_COLUMNS / shape.sub / 2; j++) {
                f.pair[i][j] = _mm512_load_si512(tiles[i].pair[j]);
            }
        }
    }
    return f;
}

TILE_INLINE void finish_super_token(const qn_tile_args *a, const amx_item *item, const amx_factors *f, size_t t, const amx_shape shape,
                                    const size_t n_tiles)
{
    const amx_sums *s = item->sums;
    const float activation_scale = a->d[(item->token + t) * a->d_stride];
    float *out = a->acc + (item->token + t) * n_tiles * TILE_ROWS;
    __m512i msum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    if (shape.has_min) {
        QN_UNROLL
        for (size_t j = 0; j < TILE_COLUMNS / shape.sub / 2; j++) {
            const __m512i sums = broadcast4(item->token_sums[t].pair + 2 * j);
            QN_UNROLL
            for (size_t i = 0; i < n_tiles; i++) {
                msum[i] = _mm512_dpwssd_epi32(msum[i], f->pair[i][j], sums);
            }
        }
    }
    QN_UNROLL
    for (size_t i = 0; i < n_tiles; i++) {
        __m512i isum = _mm512_load_si512(s->of[2 * i][t]);
        if (!shape.one_plane) {
            isum = _mm512_add_epi32(isum, _mm512_slli_epi32(_mm512_load_si512(s->of[2 * i + 1][t]), 8));
        }
        __m512 acc = tile_step(_mm512_load_ps(out + i * TILE_ROWS), f->d[i], activation_scale, _mm512_cvtepi32_ps(isum));
        if (shape.has_min) {
            acc = tile_step(acc, f->m[i], activation_scale, _mm512_cvtepi32_ps(msum[i]));
        }
        _mm512_store_ps(out + i * TILE_ROWS, acc);
    }
}

/* All blocks of one or two tokens, whose chains run side by side. */
TILE_INLINE void finish_flat_tokens(const qn_tile_args *a, const amx_item *item, size_t from, const size_t n, const amx_shape shape,
                                    const size_t n_tiles)
{
    const qn_tile *tile = &a->tiles[item->tile];
    const float *activation_scale = a->d + (item->token + from) * a->d_stride;
    float *out = a->acc + ((item->token + from) * n_tiles + item->tile) * TILE_ROWS;
    __m512 acc[2];
    QN_UNROLL
    for (size_t t = 0; t < n; t++) {
        acc[t] = _mm512_load_ps(out + t * n_tiles * TILE_ROWS);
    }
    for (size_t b = 0; b < a->n_blocks; b++) {
        const __m512 d = _mm512_load_ps(tile->d[b]), m = shape.has_min ? _mm512_load_ps(tile->m[b]) : _mm512_setzero_ps();
        QN_UNROLL
        for (size_t t = 0; t < n; t++) {
            const float x = activation_scale[t * a->d_stride + b];
            acc[t] = tile_step(acc[t], d, x, _mm512_cvtepi32_ps(_mm512_load_si512(item->sums->of[b][from + t])));
            if (shape.has_min) {
                acc[t] = tile_step(acc[t], m, x, _mm512_set1_ps(item->token_sums[from + t].block[b]));
            }
        }
    }
    QN_UNROLL
    for (size_t t = 0; t < n; t++) {
        _mm512_store_ps(out + t * n_tiles * TILE_ROWS, acc[t]);
    }
}

/* Tokens [from, from + n) of an item, as far as it has them and they were not added before. */
TILE_INLINE void finish_tokens(const qn_tile_args *a, const amx_item *item, const amx_factors *f, size_t from, const size_t n,
                               const amx_shape shape, const size_t n_tiles)
{
    if (shape.sub == 0 && from >= item->first && from + n <= item->n_tokens) {
        finish_flat_tokens(a, item, from, n, shape, n_tiles);
        return;
    }
    for (size_t t = from < item->first ? item->first : from; t < from + n && t < item->n_tokens; t++) {
        if (shape.sub != 0) {
            finish_super_token(a, item, f, t, shape, n_tiles);
        } else {
            finish_flat_tokens(a, item, t, 1, shape, n_tiles);
        }
    }
}

/* ---- panels ---- */

TILE_INLINE void prepare_planes(const qn_tile_args *a, amx_work *w, const amx_shape shape, const size_t n_tiles)
{
    for (size_t i = 0; i < n_tiles; i++) {
        if (shape.sub != 0) {
            QN_UNROLL
            for (size_t s = 0; s < TILE_COLUMNS / shape.sub; s++) {
                fold_sub_block(&a->tiles[i], s, shape, shape.has_min ? 0 : a->offset, w->plane[i]);
            }
        } else if (!shape.has_min) {
            take_offset(&a->tiles[i], a->n_blocks * a->block, a->offset, w->plane[i][0]);
        }
    }
}

/* The sums of all tokens over the panel's columns; later passes find them. */
TILE_INLINE void take_token_sums(const qn_tile_args *a, amx_work *w, const amx_shape shape)
{
    for (size_t t = 0; t < a->n_tokens; t++) {
        const int16_t *sum16 = a->sum16 + t * a->s_stride;
        if (shape.sub != 0) {
            take_pair_sums(sum16, shape.sub, w->token_sums[t].pair);
        } else {
            _mm256_store_ps(w->token_sums[t].block, _mm256_cvtepi32_ps(block_sums(sum16, a->block, 1)));
        }
    }
}

TILE_INLINE amx_item item_at(const qn_tile_args *a, amx_work *w, size_t index, const size_t items_a_group)
{
    const size_t n = a->n_tokens < TOKENS ? a->n_tokens : TOKENS, wanted = index / items_a_group * TOKENS, last = a->n_tokens - n;
    const size_t token = wanted < last ? wanted : last;
    return (amx_item){.token = token,
                      .first = wanted - token,
                      .n_tokens = n,
                      .tile = index % items_a_group,
                      .sums = &w->sums[index % 2],
                      .token_sums = w->token_sums + token};
}

/* Lines to ask for while an item is multiplied: of the next tiles' bytes, of the next item's activations and results. */
typedef struct amx_ahead {
    size_t line, n_lines; /* the next one; of an item's part */
    size_t token;
} amx_ahead;

TILE_INLINE void prefetch_part(const qn_tile_args *a, amx_ahead *ahead, size_t part, const size_t n_tiles)
{
    const size_t end = ahead->line + ahead->n_lines < a->n_ahead ? ahead->line + ahead->n_lines : a->n_ahead;
    for (; ahead->line < end; ahead->line++) {
        _mm_prefetch((const char *)(a->ahead + 64 * ahead->line), _MM_HINT_T1);
    }
    for (size_t t = part * (TOKENS / PARTS); a->y != NULL && t < (part + 1) * (TOKENS / PARTS) && ahead->token + t < a->n_tokens; t++) {
        for (size_t i = 0; i < n_tiles; i++) {
            _mm_prefetch((const char *)(a->y + (ahead->token + t) * a->y_stride + i * TILE_ROWS), _MM_HINT_T1);
        }
    }
    for (size_t t = ahead->token + part * (TOKENS / PARTS); t < ahead->token + (part + 1) * (TOKENS / PARTS) && t < a->n_tokens; t++) {
        for (size_t k = 0; k < TILE_COLUMNS; k += 64) {
            _mm_prefetch((const char *)(a->q + t * a->q_stride + k), _MM_HINT_T0);
        }
    }
}

/* The sums of one item, and the float steps of the one before, a few after each instruction of the unit: both run side by side then, while a
 * longer stretch of either would leave the other idle. */
TILE_INLINE void run_super_item(const qn_tile_args *a, amx_work *w, const amx_item *item, const amx_item *before, const amx_factors *f,
                                amx_ahead *ahead, const amx_shape shape, const size_t n_tiles)
{
    const size_t n_planes = shape.one_plane ? 1 : 2, each = TOKENS / (PARTS * n_tiles * n_planes);
    size_t t = 0;
    AMX_ZERO(0);
    AMX_ZERO(1);
    AMX_ZERO(2);
    AMX_ZERO(3);
    for (size_t part = 0; part < PARTS; part++) {
        AMX_LOAD(4, a->q + item->token * a->q_stride + part * PART_COLUMNS, a->q_stride);
        prefetch_part(a, ahead, part, n_tiles);
        QN_UNROLL
        for (size_t i = 0; i < n_tiles * n_planes; i++, t += each) {
            multiply_plane(w, part, i / n_planes, i % n_planes);
            finish_tokens(a, before, f, t, each, shape, n_tiles);
        }
    }
    store_super_sums(item, shape, n_tiles);
}

TILE_INLINE void run_flat_item(const qn_tile_args *a, amx_work *w, const amx_item *item, const amx_item *before, amx_ahead *ahead,
                               const amx_shape shape, const size_t n_tiles)
{
    const amx_plane *plane = shape.has_min ? &a->tiles[item->tile].code : &w->plane[item->tile][0];
    const size_t n_columns = a->n_blocks * a->block;
    for (size_t part = 0; part < PARTS; part++) {
        const size_t column = part * PART_COLUMNS;
        prefetch_part(a, ahead, part, n_tiles);
        if (column < n_columns) {
            multiply_flat(a, plane, item, column, shape);
        }
        finish_tokens(a, before, NULL, part * 4, 2, shape, n_tiles);
        if (a->block == 32 && column + 32 < n_columns) {
            multiply_flat(a, plane, item, column + 32, shape);
        }
        finish_tokens(a, before, NULL, part * 4 + 2, 2, shape, n_tiles);
    }
}

QN_VARIANT void multiply_panel(const qn_tile_args *a, const amx_shape shape, const size_t n_tiles)
{
    amx_work *w = a->work;
    const size_t items_a_group = shape.sub != 0 ? 1 : n_tiles, n_items = (a->n_tokens + TOKENS - 1) / TOKENS * items_a_group;
    amx_ahead ahead = {.n_lines = (a->n_ahead + n_items * PARTS - 1) / (n_items * PARTS)};
    amx_item before = {0};
    prepare_planes(a, w, shape, n_tiles);
    if (shape.has_min && a->pass == 0) {
        take_token_sums(a, w, shape);
    }
    const amx_factors factors = take_factors(a->tiles, shape, n_tiles);
    for (size_t i = 0; i < n_items; i++) {
        const amx_item item = item_at(a, w, i, items_a_group);
        ahead.token = item.token + TOKENS;
        if (shape.sub != 0) {
            run_super_item(a, w, &item, &before, &factors, &ahead, shape, n_tiles);
        } else {
            run_flat_item(a, w, &item, &before, &ahead, shape, n_tiles);
        }
        before = item;
    }
    for (size_t t = 0; t < TOKENS; t += 2) {
        finish_tokens(a, &before, &factors, t, 2, shape, n_tiles);
    }
}

/* ---- the engine ---- */

/* The formatter has no form for functions and data made by macros. */
/* clang-format off */
#define MULTIPLIER(name, ...) \
    static void name##_1(const qn_tile_args *a) { multiply_panel(a, (amx_shape){__VA_ARGS__}, 1); } \
    static void name##_2(const qn_tile_args *a) { multiply_panel(a, (amx_shape){__VA_ARGS__}, 2); } \
    static const qn_tile_multiplier name = {.max_group = TILE_TOKENS, .any = {name##_1, name##_2}};
/* clang-format on */
MULTIPLIER(super16_min, .sub = 16, .has_min = true, .one_plane = true) /* Q2_K: at most 3 * 15 */
MULTIPLIER(super16_offset, .sub = 16)
MULTIPLIER(super32_min, .sub = 32, .has_min = true)
MULTIPLIER(super32_offset, .sub = 32)
MULTIPLIER(flat_min, .has_min = true)
MULTIPLIER(flat_offset, .has_min = false)

static const qn_tile_engine engine = {
    .max_tiles = 2,
    .n_passes = 4,
    .unpack = qn_tile_unpack_avx512,
    .multiplier =
        {
            [QN_TILE_Q4_0] = &flat_offset,      [QN_TILE_Q4_1] = &flat_min,     [QN_TILE_Q5_0] = &flat_offset,
            [QN_TILE_Q5_1] = &flat_min,         [QN_TILE_Q8_0] = &flat_offset,  [QN_TILE_IQ4_NL] = &flat_offset,
            [QN_TILE_MXFP4] = &flat_offset,     [QN_TILE_Q2_K] = &super16_min,  [QN_TILE_Q3_K] = &super16_offset,
            [QN_TILE_Q4_K] = &super32_min,      [QN_TILE_Q5_K] = &super32_min,  [QN_TILE_Q6_K] = &super16_offset,
            [QN_TILE_IQ4_XS] = &super32_offset, [QN_TILE_TQ1_0] = &flat_offset, [QN_TILE_TQ2_0] = &flat_offset,
            [QN_TILE_MLX1] = &flat_min,         [QN_TILE_MLX2] = &flat_min,     [QN_TILE_MLX3] = &flat_min,
            [QN_TILE_MLX4] = &flat_min,         [QN_TILE_MLX5] = &flat_min,     [QN_TILE_MLX6] = &flat_min,
            [QN_TILE_MLX8] = &flat_min,
        },
};

/* Registers for groups of n_tokens (at least 1): 0 to 3 sums, 4 activations, 5 to 7 codes. */
static amx_config config_of(size_t n_tokens, bool narrow)
{
    amx_config c = {.palette = 1};
    const uint8_t rows = (uint8_t)(n_tokens < TOKENS ? n_tokens : TOKENS);
    const uint16_t depth = narrow ? 32 : PART_COLUMNS;
    for (int i = 0; i < 8; i++) {
        c.rows[i] = i <= 4 ? rows : (uint8_t)(depth / 4);
        c.row_bytes[i] = i == 4 ? depth : 4 * TILE_ROWS;
    }
    return c;
}

void qn_matmul_tile_amx(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
                        void *scratch)
{
    const amx_config config = config_of(t1 - t0, a->block == 32);
    amx_configure(&config);
    qn_tile_matmul(&engine, w, r0, r1, a, t0, t1, y, y_stride, scratch);
    amx_release();
}
