/* mxfp.h - MXFP4 before packing: codes and exponents, which GGUF and MLX files store in different orders.
 */
#ifndef QN_QUANT_MXFP_H
#define QN_QUANT_MXFP_H

#include <stddef.h>
#include <stdint.h>

#include "quant/search.h"

/* n elements (a multiple of 32): one e8m0 exponent per 32, one fp4 code (0..15) an element. */
void qn_encode_mxfp4_codes(const qn_search *s, const float *src, size_t n, const float *importance, uint8_t *exponents, uint8_t *codes);

#endif
