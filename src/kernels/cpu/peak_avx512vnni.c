/* peak_avx512vnni.c - the VPDPBUSD loop: registers only, the limit that integer prefill is measured against. */
#include <immintrin.h>

#include "kernels/peak.h"

uint64_t qn_peak_int8_avx512vnni(uint64_t rounds)
{
    enum { CHAINS = 12 };
    __m512i acc[CHAINS];
    for (int j = 0; j < CHAINS; j++) {
        acc[j] = _mm512_set1_epi32(j);
    }
    const __m512i u = _mm512_set1_epi32(0x01020304), s = _mm512_set1_epi32(0x04fd0201);
    for (uint64_t i = 0; i < rounds; i++) {
        for (int j = 0; j < CHAINS; j++) {
            acc[j] = _mm512_dpbusd_epi32(acc[j], u, s);
        }
    }
    for (int j = 1; j < CHAINS; j++) {
        acc[0] = _mm512_xor_si512(acc[0], acc[j]);
    }
    /* The low bit of the result is used so that the loop stays, and cleared again. */
    uint64_t kept = (uint64_t)(uint32_t)_mm512_reduce_add_epi32(acc[0]) & 1u;
    return ((rounds * CHAINS * 64 * 2) | kept) & ~(uint64_t)1;
}
