/* tile.h - the many-token (prefill) kernels: a tile of 16 rows is unpacked once into a normal form and multiplied with many tokens.
 *
 * Three parts that meet here: one unpacker a weight type (tile_unpack.inc, compiled for AVX2, AVX-512, NEON and I8MM), a few multipliers an instruction
 * set (tile_multiply_*.c; that of AMX folds scales into codes first), and one driver (tile.c). A new type needs an unpacker and a row in the table
 * of tile.c, nothing else.
 *
 * The normal form covers a panel of at most 256 columns. Codes are unsigned; of a type with signed codes ("offset type") something was added.
 *
 *   code[k / 4][row][k % 4]   one register of 16 rows takes four columns a lane, as VPDPBUSD, VPMADDUBSW and SDOT want them
 *   super types (a float scale per 256 columns, integer scales per sub-block of 16 or 32):
 *     scale[sub][row]   pair[i][row]: two 16-bit factors for the activation sums of sub-blocks 2i and 2i + 1:
 *                       the mins, or minus offset times scale
 *   flat types (a float scale per block of 32, 64, 128 or 256):  d[block][row], m[block][row]
 *
 * SDOT takes signed codes only: of NEON's tiles the offset is taken off again, `pair` of offset types is not there, and codes of eight bits
 * without an offset (MLX) are 128 less, which the multiplier makes good from the sum of activations. SMMLA wants eight columns of two rows in a
 * register: of I8MM's tiles, two neighbouring codes hold [row 0: 8 columns, row 1: 8 columns], rows 4 and 5, 8 and 9, 12 and 13, and then rows
 * 2 and 3, 6 and 7, 10 and 11, 14 and 15.
 *
 * Invariant: isum = sum scale * code * q + [offset types] sum pair * sum(q), msum = [min types] sum pair * sum(q), exactly.
 */
#ifndef QN_KERNELS_TILE_H
#define QN_KERNELS_TILE_H

#include "kernels/matmul_kernels.h"

enum {
    TILE_ROWS = 16,
    TILE_COLUMNS = 256,         /* of a panel */
    TILE_GROUP = 6,             /* most tokens of one multiplier call */
    TILE_TOKENS = 512,          /* tokens that one unpacking serves */
    TILE_WORK_BYTES = 64 * 1024 /* what a multiplier may use for itself */
};

typedef struct qn_tile {
    uint8_t code[TILE_COLUMNS / 4][TILE_ROWS][4];
    int32_t scale[TILE_COLUMNS / 16][TILE_ROWS];
    int32_t pair[TILE_COLUMNS / 32][TILE_ROWS];
    float d[TILE_COLUMNS / 32][TILE_ROWS];
    float m[TILE_COLUMNS / 32][TILE_ROWS];
} qn_tile;

/* 16 rows at the first byte of a panel. Rows past the end repeat the last one. */
typedef struct qn_tile_source {
    const uint8_t *row[TILE_ROWS];
    const uint8_t *scale[TILE_ROWS], *bias[TILE_ROWS]; /* MLX: of the panel's first group */
    qn_dtype affine_dtype;
    uint32_t bits, group; /* MLX */
    size_t n_blocks;      /* of the panel */
} qn_tile_source;

typedef void (*qn_tile_unpack_fn)(const qn_tile_source *s, qn_tile *out);

/* One panel times one group of tokens. Pointers are at the panel's first column and the group's first token. */
typedef struct qn_tile_args {
    const qn_tile *tiles; /* one or two */
    size_t n_tiles, n_tokens;
    size_t pass; /* which of the passes over these columns and tokens: what depends on them alone can stay in `work` after the first */
    const int8_t *q;
    const int16_t *sum16;
    const float *d; /* activation scales */
    size_t q_stride, s_stride, d_stride;
    float *acc; /* [token][tile][row], 64-byte aligned */
    size_t n_blocks, block;
    int offset;      /* offset types: what was added to codes */
    uintptr_t ahead; /* cache lines to ask for meanwhile, spread over the work: a burst would make other loads wait */
    size_t n_ahead;
    const int8_t *next; /* activations of the next group, to be asked for likewise */
    size_t n_next;
    const float *y; /* at the last panel: where the group's results will go, to be asked for likewise; else NULL */
    size_t y_stride;
    void *work; /* TILE_WORK_BYTES, 64-byte aligned */
} qn_tile_args;

typedef void (*qn_tile_multiply_fn)(const qn_tile_args *a);

/* Types that have an unpacker, in the order of the unpacker tables. */
typedef enum qn_tile_type {
    QN_TILE_Q4_0,
    QN_TILE_Q4_1,
    QN_TILE_Q5_0,
    QN_TILE_Q5_1,
    QN_TILE_Q8_0,
    QN_TILE_IQ4_NL,
    QN_TILE_MXFP4,
    QN_TILE_Q2_K,
    QN_TILE_Q3_K,
    QN_TILE_Q4_K,
    QN_TILE_Q5_K,
    QN_TILE_Q6_K,
    QN_TILE_IQ4_XS,
    QN_TILE_TQ1_0,
    QN_TILE_TQ2_0,
    QN_TILE_MLX1,
    QN_TILE_MLX2,
    QN_TILE_MLX3,
    QN_TILE_MLX4,
    QN_TILE_MLX5,
    QN_TILE_MLX6,
    QN_TILE_MLX8,
    QN_TILE_TYPE_COUNT
} qn_tile_type;

extern const qn_tile_unpack_fn qn_tile_unpack_avx2[QN_TILE_TYPE_COUNT];
extern const qn_tile_unpack_fn qn_tile_unpack_avx512[QN_TILE_TYPE_COUNT];
extern const qn_tile_unpack_fn qn_tile_unpack_neon[QN_TILE_TYPE_COUNT];
extern const qn_tile_unpack_fn qn_tile_unpack_i8mm[QN_TILE_TYPE_COUNT];

/* The multiplier of some types: one function for each number of tiles and tokens, or one for any number of tokens. */
typedef struct qn_tile_multiplier {
    size_t max_group; /* tokens of a call that make it fastest; entries beyond are NULL */
    bool in_pairs;    /* tokens meet in pairs: groups are even while tokens are left; max_group is even */
    qn_tile_multiply_fn fn[2][TILE_GROUP];
    qn_tile_multiply_fn any[2]; /* by number of tiles; if not NULL, instead of fn */
} qn_tile_multiplier;

/* An instruction set's parts, by type. */
typedef struct qn_tile_engine {
    size_t max_tiles; /* 1 or 2 */
    size_t n_passes;  /* pairs of tiles that one panel of activations meets while it is in the caches: up to 4; 0 is 1 */
    const qn_tile_unpack_fn *unpack;
    const qn_tile_multiplier *multiplier[QN_TILE_TYPE_COUNT];
} qn_tile_engine;

/* The product, with an engine's parts. */
void qn_tile_matmul(const qn_tile_engine *e, const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                    size_t y_stride, void *scratch);

#endif
