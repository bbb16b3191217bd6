/* peak_scalar.c - peak loops for any machine, in plain C that a compiler turns into whatever its baseline has. */
#include <math.h>

#include "kernels/peak.h"

uint64_t qn_peak_read_scalar(const void *p, size_t bytes, size_t stride, size_t n_streams)
{
    uint64_t sum[8] = {0};
    for (size_t i = 0; i < bytes; i += 256) {
        for (size_t s = 0; s < n_streams; s++) {
            const uint64_t *v = (const void *)((const char *)p + s * stride + i);
            for (size_t line = 0; line < 256; line += 64) {
                __builtin_prefetch((const char *)((uintptr_t)v + QN_PEAK_READ_AHEAD + line), 0, 2);
            }
            for (size_t j = 0; j < 32; j++) {
                sum[j % 8] ^= v[j];
            }
        }
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

uint64_t qn_peak_fma_f32_scalar(uint64_t rounds)
{
    enum { CHAINS = 32 };
    float acc[CHAINS];
    for (int j = 0; j < CHAINS; j++) {
        acc[j] = (float)j;
    }
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < CHAINS; j++) {
            acc[j] = acc[j] * 0.999f + 0.5f;
        }
    }
    float sum = 0.0f;
    for (int j = 0; j < CHAINS; j++) {
        sum += acc[j];
    }
    return isnan(sum) ? 0 : rounds * CHAINS * 2; /* never NaN; the use keeps the loop */
}
