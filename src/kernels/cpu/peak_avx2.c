/* peak_avx2.c - bandwidth, multiply-add and integer loops. Invariant: enough independent chains that latency never shows. */
#include <immintrin.h>
#include <math.h>

#include "kernels/peak.h"

uint64_t qn_peak_read_avx2(const void *p, size_t bytes, size_t stride, size_t n_streams)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (size_t i = 0; i < bytes; i += 256) {
        for (size_t s = 0; s < n_streams; s++) {
            const char *at = (const char *)p + s * stride + i;
            for (size_t half = 0; half < 256; half += 4 * sizeof a) {
                _mm_prefetch((const char *)((uintptr_t)at + QN_PEAK_READ_AHEAD + half), _MM_HINT_T1);
                _mm_prefetch((const char *)((uintptr_t)at + QN_PEAK_READ_AHEAD + half + 64), _MM_HINT_T1);
                a = _mm256_xor_si256(a, _mm256_load_si256((const void *)(at + half)));
                b = _mm256_xor_si256(b, _mm256_load_si256((const void *)(at + half + sizeof a)));
                c = _mm256_xor_si256(c, _mm256_load_si256((const void *)(at + half + 2 * sizeof a)));
                d = _mm256_xor_si256(d, _mm256_load_si256((const void *)(at + half + 3 * sizeof a)));
            }
        }
    }
    __m256i all = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
    uint64_t parts[4];
    _mm256_storeu_si256((__m256i *)(void *)parts, all);
    return parts[0] ^ parts[1] ^ parts[2] ^ parts[3];
}

uint64_t qn_peak_fma_f32_avx2(uint64_t rounds)
{
    enum { CHAINS = 10 };
    __m256 acc[CHAINS];
    for (int j = 0; j < CHAINS; j++) {
        acc[j] = _mm256_set1_ps((float)j);
    }
    const __m256 factor = _mm256_set1_ps(0.999f), addend = _mm256_set1_ps(0.5f);
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < CHAINS; j++) {
            acc[j] = _mm256_fmadd_ps(acc[j], factor, addend);
        }
    }
    for (int j = 1; j < CHAINS; j++) {
        acc[0] = _mm256_add_ps(acc[0], acc[j]);
    }
    float parts[8];
    _mm256_storeu_ps(parts, acc[0]);
    float total = parts[0];
    return isnan(total) ? 0 : rounds * CHAINS * 8 * 2; /* never NaN; the use keeps the loop */
}

/* As kernels without VNNI multiply: pairs of products are added up in 16 bits as long as they fit, whatever comes after. */
uint64_t qn_peak_int8_avx2(uint64_t rounds)
{
    enum { CHAINS = 10 };
    __m256i acc[CHAINS];
    for (int j = 0; j < CHAINS; j++) {
        acc[j] = _mm256_set1_epi16((short)(0x0101 * (j + 1)));
    }
    const __m256i s = _mm256_set1_epi32(0x04fd0201);
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < CHAINS; j++) {
            acc[j] = _mm256_add_epi16(acc[j], _mm256_maddubs_epi16(acc[j], s));
        }
    }
    for (int j = 1; j < CHAINS; j++) {
        acc[0] = _mm256_xor_si256(acc[0], acc[j]);
    }
    uint64_t kept = (uint64_t)(uint32_t)_mm256_extract_epi32(acc[0], 0) & 1u; /* used so that the loop stays, and cleared again */
    return ((rounds * CHAINS * 32 * 2) | kept) & ~(uint64_t)1;
}
