/* peak_neon.h - the loop of aarch64's integer units, registers only: SDOT and SMMLA differ in the instruction and its number of products. */
#ifndef QN_KERNELS_PEAK_NEON_H
#define QN_KERNELS_PEAK_NEON_H

#include <arm_neon.h>

#include "kernels/peak.h"

/* Sixteen chains, so that latency never shows. A macro: `multiply_add` is an instruction of the including file's set. */
#define NEON_PEAK_INT8(name, multiply_add, products) \
    uint64_t name(uint64_t rounds) \
    { \
        enum { CHAINS = 16 }; \
        int32x4_t acc[CHAINS]; \
        for (int j = 0; j < CHAINS; j++) { \
            acc[j] = vdupq_n_s32(j); \
        } \
        const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(0x01020304)), y = vreinterpretq_s8_s32(vdupq_n_s32(0x04fd0201)); \
        for (uint64_t i = 0; i < rounds; i++) { \
            for (int j = 0; j < CHAINS; j++) { \
                acc[j] = multiply_add(acc[j], x, y); \
            } \
        } \
        for (int j = 1; j < CHAINS; j++) { \
            acc[0] = veorq_s32(acc[0], acc[j]); \
        } \
        /* The low bit of the result is used so that the loop stays, and cleared again. */ \
        uint64_t kept = (uint64_t)(uint32_t)vaddvq_s32(acc[0]) & 1u; \
        return ((rounds * CHAINS * (products)*2) | kept) & ~(uint64_t)1; \
    }

#endif
