/* act_quantize_avx2.c - activation rows to int8, 16 columns at a time. Invariant: the sequence of act_quantize_scalar.c, operation for
 * operation; VCVTPS2DQ rounds to nearest even as the default MXCSR says.
 */
#include <immintrin.h>

#include "base/half.h"
#include "kernels/matmul_kernels.h"

static uint32_t largest_magnitude(const float *x, size_t n)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 8) {
        most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(const void *)(x + i)), magnitude));
    }
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    __m128i two = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(two, _mm_shuffle_epi32(two, 0xb1)));
}

static void quantize_block(const float *x, size_t n, int8_t *q, float *d, int16_t *sums)
{
    uint32_t largest = largest_magnitude(x, n);
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
    const __m256 factor = _mm256_set1_ps(inverse);
    for (size_t i = 0; i < n; i += 16) {
        __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), factor));
        __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8), factor));
        __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
        __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128((__m128i *)(void *)(q + i), bytes);
        __m256i eight = _mm256_add_epi32(low, high);
        __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
        __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
        sums[i / 16] = (int16_t)_mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
    }
}

void qn_act_quantize_avx2(qn_act *a, const float *x, size_t x_stride, size_t row0, size_t row1)
{
    for (size_t r = row0; r < row1; r++) {
        for (size_t b = 0; b * a->block < a->n_cols; b++) {
            size_t column = b * a->block;
            quantize_block(x + r * x_stride + column, a->block, a->q + r * a->q_stride + column, a->d + r * a->d_stride + b,
                           a->sum16 + r * a->s_stride + column / 16);
        }
    }
}
