/* llama_encoder.h - what llama.cpp makes of a block of the types that it searches scales for, without an importance matrix.
 *
 * Its encoders differ from the plain one and from Quern's: among weights of which few are large, by several times the error either way. What they make is
 * no fault. Follows ggml's arithmetic operation by operation, so that most blocks come out to the bit. Does not pack; not for encoding (search.h is better).
 */
#ifndef QN_GATE_LLAMA_ENCODER_H
#define QN_GATE_LLAMA_ENCODER_H

#include <stdbool.h>
#include <stddef.h>

#include "quant/dtype.h"

bool qn_llama_searches(qn_dtype t);
/* y = the decoded values of x (n elements, whole blocks). fused: multiply-adds round once, as compilers make them for processors that have them. */
void qn_llama_blocks(qn_dtype t, bool fused, const float *x, float *y, size_t n);

#endif
