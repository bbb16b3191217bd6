/* block_codes.h - writes the codes of a GGUF block and leaves its scales and mins alone: the one copy of where codes lie, for the encoders and
 * for feedback_blocks.c. (Reading scales: sub_blocks.h.)
 *
 * Levels are what a scale is multiplied by: 0..3, 0..15 or 0..31 in types with mins; -4..3 in Q3_K, -8..7 in Q4_0, -16..15 in Q5_0, -32..31 in
 * Q6_K, -127..127 in Q8_0; a value of qn_iq4_levels or qn_fp4_doubled in the types that have them.
 */
#ifndef QN_QUANT_BLOCK_CODES_H
#define QN_QUANT_BLOCK_CODES_H

#include "quant/dtype.h"

/* One level an element of the block. */
typedef void (*qn_codes_fn)(const int *levels, uint8_t *block);

void qn_codes_q8_0(const int *levels, uint8_t *block);
void qn_codes_q4_0(const int *levels, uint8_t *block);
void qn_codes_q4_1(const int *levels, uint8_t *block);
void qn_codes_q5_0(const int *levels, uint8_t *block);
void qn_codes_q5_1(const int *levels, uint8_t *block);
void qn_codes_q2_k(const int *levels, uint8_t *block);
void qn_codes_q3_k(const int *levels, uint8_t *block);
void qn_codes_q4_k(const int *levels, uint8_t *block);
void qn_codes_q5_k(const int *levels, uint8_t *block);
void qn_codes_q6_k(const int *levels, uint8_t *block);
void qn_codes_iq4_nl(const int *levels, uint8_t *block);
void qn_codes_iq4_xs(const int *levels, uint8_t *block);
void qn_codes_mxfp4(const int *levels, uint8_t *block);

/* NULL for types of one element a block and ternary ones. */
qn_codes_fn qn_codes_get(qn_dtype t);

/* The code (0..15) of a doubled fp4 value. */
uint8_t qn_fp4_code(int doubled);

#endif
