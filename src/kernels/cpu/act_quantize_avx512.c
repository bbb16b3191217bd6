/* act_quantize_avx512.c - activation rows to int8, 16 columns at a time. Invariant: the sequence of act_quantize_scalar.c, operation for
 * operation; VCVTPS2DQ rounds to nearest even as the default MXCSR says.
 */
#include <immintrin.h>

#include "base/half.h"
#include "kernels/matmul_kernels.h"

static void quantize_block(const float *x, size_t n, int8_t *q, float *d, int16_t *sums)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i most = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 16) {
        most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
    }
    uint32_t largest = _mm512_reduce_max_epu32(most);
    float amax = qn_f32_from_bits(largest);
    bool finite = largest < 0x7f800000u;
    *d = finite ? amax / 127.0f : qn_f32_from_bits(0x7fc00000u);
    float inverse = finite && largest != 0 ? 127.0f / amax : 0.0f;
    if (!finite || qn_f32_to_bits(inverse) >= 0x7f800000u) { /* all codes zero; no product, since infinity times zero is NaN */
        for (size_t i = 0; i < n; i += 16) {
            _mm_storeu_si128((__m128i *)(void *)(q + i), _mm_setzero_si128());
            sums[i / 16] = 0;
        }
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(inverse)));
        _mm_storeu_si128((__m128i *)(void *)(q + i), _mm512_cvtepi32_epi8(code));
        sums[i / 16] = (int16_t)_mm512_reduce_add_epi32(code);
    }
}

void qn_act_quantize_avx512(qn_act *a, const float *x, size_t x_stride, size_t row0, size_t row1)
{
    for (size_t r = row0; r < row1; r++) {
        for (size_t b = 0; b * a->block < a->n_cols; b++) {
            size_t column = b * a->block;
            quantize_block(x + r * x_stride + column, a->block, a->q + r * a->q_stride + column, a->d + r * a->d_stride + b,
                           a->sum16 + r * a->s_stride + column / 16);
        }
    }
}
