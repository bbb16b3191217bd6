/* peak_avx512.c - bandwidth and multiply-add loops. Invariant: enough independent chains that latency never shows. */
#include <immintrin.h>
#include <math.h>

#include "kernels/peak.h"

uint64_t qn_peak_read_avx512(const void *p, size_t bytes, size_t stride, size_t n_streams)
{
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i < bytes; i += 4 * sizeof a) {
        for (size_t s = 0; s < n_streams; s++) {
            const char *at = (const char *)p + s * stride + i;
            for (size_t line = 0; line < 256; line += 64) {
                _mm_prefetch((const char *)((uintptr_t)at + QN_PEAK_READ_AHEAD + line), _MM_HINT_T1);
            }
            a = _mm512_xor_si512(a, _mm512_load_si512((const void *)at));
            b = _mm512_xor_si512(b, _mm512_load_si512((const void *)(at + sizeof a)));
            c = _mm512_xor_si512(c, _mm512_load_si512((const void *)(at + 2 * sizeof a)));
            d = _mm512_xor_si512(d, _mm512_load_si512((const void *)(at + 3 * sizeof a)));
        }
    }
    __m512i all = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
    uint64_t parts[8];
    _mm512_storeu_si512(parts, all);
    return parts[0] ^ parts[1] ^ parts[2] ^ parts[3] ^ parts[4] ^ parts[5] ^ parts[6] ^ parts[7];
}

uint64_t qn_peak_fma_f32_avx512(uint64_t rounds)
{
    enum { CHAINS = 12 };
    __m512 acc[CHAINS];
    for (int j = 0; j < CHAINS; j++) {
        acc[j] = _mm512_set1_ps((float)j);
    }
    const __m512 factor = _mm512_set1_ps(0.999f), addend = _mm512_set1_ps(0.5f);
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < CHAINS; j++) {
            acc[j] = _mm512_fmadd_ps(acc[j], factor, addend);
        }
    }
    for (int j = 1; j < CHAINS; j++) {
        acc[0] = _mm512_add_ps(acc[0], acc[j]);
    }
    float total = _mm512_reduce_add_ps(acc[0]);
    return isnan(total) ? 0 : rounds * CHAINS * 16 * 2; /* never NaN; the use keeps the loop */
}
