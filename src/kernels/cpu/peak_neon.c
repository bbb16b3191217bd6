/* peak_neon.c - bandwidth, multiply-add and SDOT loops. Invariant: enough independent chains that latency never shows. */
#include <math.h>

#include "kernels/cpu/peak_neon.h"

uint64_t qn_peak_read_neon(const void *p, size_t bytes, size_t stride, size_t n_streams)
{
    uint8x16_t a = vdupq_n_u8(0), b = a, c = a, d = a;
    for (size_t i = 0; i < bytes; i += 256) {
        for (size_t s = 0; s < n_streams; s++) {
            const uint8_t *at = (const uint8_t *)p + s * stride + i;
            for (size_t line = 0; line < 256; line += 4 * sizeof a) {
                __builtin_prefetch((const void *)((uintptr_t)at + QN_PEAK_READ_AHEAD + line), 0, 2);
                a = veorq_u8(a, vld1q_u8(at + line));
                b = veorq_u8(b, vld1q_u8(at + line + sizeof a));
                c = veorq_u8(c, vld1q_u8(at + line + 2 * sizeof a));
                d = veorq_u8(d, vld1q_u8(at + line + 3 * sizeof a));
            }
        }
    }
    uint64x2_t all = vreinterpretq_u64_u8(veorq_u8(veorq_u8(a, b), veorq_u8(c, d)));
    return vgetq_lane_u64(all, 0) ^ vgetq_lane_u64(all, 1);
}

uint64_t qn_peak_fma_f32_neon(uint64_t rounds)
{
    enum { CHAINS = 16 };
    float32x4_t acc[CHAINS];
    for (int j = 0; j < CHAINS; j++) {
        acc[j] = vdupq_n_f32((float)j);
    }
    const float32x4_t factor = vdupq_n_f32(0.999f), other = vdupq_n_f32(0.5f);
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < CHAINS; j++) {
            acc[j] = vfmaq_f32(acc[j], factor, other);
        }
    }
    for (int j = 1; j < CHAINS; j++) {
        acc[0] = vaddq_f32(acc[0], acc[j]);
    }
    return isnan(vaddvq_f32(acc[0])) ? 0 : rounds * CHAINS * 4 * 2; /* never NaN; the use keeps the loop */
}

NEON_PEAK_INT8(qn_peak_int8_neon, vdotq_s32, 16)
