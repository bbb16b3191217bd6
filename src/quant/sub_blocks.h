/* sub_blocks.h - the stored scales of a quantized block in one form for all types: value = scale * level + offset.
 *
 * Owns the reading of scales and mins, not of codes (codec.h decodes, block_codes.h writes). Invariant: with these numbers every value that the decoder can
 * give is scale * level + offset up to the rounding of float32.
 */
#ifndef QN_QUANT_SUB_BLOCKS_H
#define QN_QUANT_SUB_BLOCKS_H

#include "quant/dtype.h"

enum { QN_SUB_BLOCKS_MAX = 16 };

/* The levels that a code can name: whole numbers low..high, or a table in ascending order. */
typedef struct qn_levels_of {
    int low, high;
    const int8_t *table; /* NULL: whole numbers */
    size_t n_table;
} qn_levels_of;

typedef struct qn_sub_blocks {
    size_t n, len; /* sub-blocks of a block, elements each */
    float scale[QN_SUB_BLOCKS_MAX], offset[QN_SUB_BLOCKS_MAX];
    float stored; /* the float16 that the scales are multiples of; the scale itself where there is one */
    qn_levels_of levels;
} qn_sub_blocks;

/* Reads the scales of one block of a GGUF type; false for types of one element a block. */
bool qn_sub_blocks_read(qn_dtype t, const uint8_t *block, qn_sub_blocks *out);
/* The levels of MXFP4, in halves of fp4 values: a table in ascending order. */
qn_levels_of qn_fp4_levels(void);
/* The level nearest to the exact position p. */
float qn_nearest_level(const qn_levels_of *levels, float p);

#endif
