/* block_form.h - a weight block of any integer-family type as plain integers: what the scalar kernel multiplies and what the tile unpackers of
 * the vector kernels are held to.
 *
 * Not the fast path: vector kernels read the file's layout themselves. Invariant: with these fields the contract of matmul.h reads
 *   isum = sum over sub-blocks of scale[s] * sum(code * q);  msum = sum over sub-blocks of min[s] * sum(q).
 */
#ifndef QN_KERNELS_BLOCK_FORM_H
#define QN_KERNELS_BLOCK_FORM_H

#include "kernels/matmul.h"

typedef struct qn_block_form {
    float d, m;        /* m: the factor of msum; unused without mins */
    int16_t code[256]; /* after the type's offset or table */
    int16_t scale[16]; /* one a sub-block */
    int16_t min[16];
} qn_block_form;

typedef struct qn_block_shape {
    uint32_t block; /* elements a block; 0 if the type is not of the integer family */
    uint32_t sub;   /* elements a sub-block: 16, or a multiple of 32 up to the block */
    bool has_min;
} qn_block_shape;

qn_block_shape qn_block_shape_of(qn_dtype t, qn_affine affine);
/* Reads block number `block` of row `row`. */
void qn_block_form_read(const qn_matrix *w, size_t row, size_t block, qn_block_form *out);

#endif
