/* act_quantize_scalar.c - activation rows to int8, in plain C: the definition that the vector forms are held to.
 *
 * Invariant, the exact sequence of a block: amax from the bit patterns (so a NaN or infinity is simply the largest); not finite: d = NaN and
 * q = 0; else d = amax / 127 and inverse = 127 / amax, one rounding each; an inverse that is not finite (amax is zero or below 2^-121) gives
 * q = 0; else q = x * inverse, one rounding, then to the nearest integer, ties to even.
 */
#include <string.h>

#include "base/half.h"
#include "kernels/matmul_kernels.h"

/* Adding 1.5 * 2^23 rounds |v| < 2^22 to an integer, ties to even; the integer then stands in the low bits of the sum. */
#define ROUNDING_BIAS 12582912.0f

static void quantize_block(const float *x, size_t n, int8_t *q, float *d)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = qn_f32_to_bits(x[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    if (largest >= 0x7f800000u) {
        *d = qn_f32_from_bits(0x7fc00000u);
        memset(q, 0, n);
        return;
    }
    float amax = qn_f32_from_bits(largest);
    *d = amax / 127.0f;
    if (largest == 0 || qn_f32_to_bits(127.0f / amax) >= 0x7f800000u) {
        memset(q, 0, n);
        return;
    }
    float inverse = 127.0f / amax;
    for (size_t i = 0; i < n; i++) {
        float product = x[i] * inverse;
        q[i] = (int8_t)(qn_f32_to_bits(product + ROUNDING_BIAS) - qn_f32_to_bits(ROUNDING_BIAS));
    }
}

void qn_act_quantize_scalar(qn_act *a, const float *x, size_t x_stride, size_t row0, size_t row1)
{
    for (size_t r = row0; r < row1; r++) {
        int8_t *q = a->q + r * a->q_stride;
        for (size_t b = 0; b * a->block < a->n_cols; b++) {
            quantize_block(x + r * x_stride + b * a->block, a->block, q + b * a->block, a->d + r * a->d_stride + b);
        }
        int16_t *sums = a->sum16 + r * a->s_stride;
        for (size_t s = 0; s < a->n_cols / 16; s++) {
            int sum = 0;
            for (size_t i = 0; i < 16; i++) {
                sum += q[16 * s + i];
            }
            sums[s] = (int16_t)sum;
        }
    }
}
