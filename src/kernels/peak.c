/* peak.c - chooses the peak loops of an instruction set. Invariant: a level without a loop of its own uses the next weaker one's. */
#include "kernels/peak.h"

static uint64_t read_streams(qn_isa isa, const void *p, size_t bytes, size_t stride, size_t n_streams);

uint64_t qn_peak_read(qn_isa isa, const void *p, size_t bytes, size_t n_streams)
{
    const size_t each = bytes / n_streams / 256 * 256, rest = bytes - n_streams * each;
    return read_streams(isa, p, each, each, n_streams) ^ read_streams(isa, (const char *)p + n_streams * each, rest, 0, 1);
}

#if defined(__x86_64__)
static uint64_t read_streams(qn_isa isa, const void *p, size_t bytes, size_t stride, size_t n_streams)
{
    if (isa >= QN_ISA_AVX512) {
        return qn_peak_read_avx512(p, bytes, stride, n_streams);
    }
    return isa >= QN_ISA_AVX2 ? qn_peak_read_avx2(p, bytes, stride, n_streams) : qn_peak_read_scalar(p, bytes, stride, n_streams);
}

uint64_t qn_peak_fma_f32(qn_isa isa, uint64_t rounds)
{
    if (isa >= QN_ISA_AVX512) {
        return qn_peak_fma_f32_avx512(rounds);
    }
    return isa >= QN_ISA_AVX2 ? qn_peak_fma_f32_avx2(rounds) : qn_peak_fma_f32_scalar(rounds);
}

uint64_t qn_peak_int8(qn_isa isa, uint64_t rounds)
{
    if (isa >= QN_ISA_AVX512VNNI) {
        return qn_peak_int8_avx512vnni(rounds);
    }
    return isa >= QN_ISA_AVX2 ? qn_peak_int8_avx2(rounds) : 0;
}

uint64_t qn_peak_int8_tiles(qn_isa isa, uint64_t rounds) { return isa == QN_ISA_AMX ? qn_peak_int8_amx(rounds) : 0; }

uint64_t qn_peak_bf16_tiles(qn_isa isa, uint64_t rounds)
{
    return isa == QN_ISA_AMX && qn_cpu_has_amx_bf16() ? qn_peak_bf16_amx(rounds) : 0;
}
#elif defined(__aarch64__)
static uint64_t read_streams(qn_isa isa, const void *p, size_t bytes, size_t stride, size_t n_streams)
{
    return isa >= QN_ISA_NEON ? qn_peak_read_neon(p, bytes, stride, n_streams) : qn_peak_read_scalar(p, bytes, stride, n_streams);
}

uint64_t qn_peak_fma_f32(qn_isa isa, uint64_t rounds)
{
    return isa >= QN_ISA_NEON ? qn_peak_fma_f32_neon(rounds) : qn_peak_fma_f32_scalar(rounds);
}

uint64_t qn_peak_int8(qn_isa isa, uint64_t rounds) { return isa >= QN_ISA_NEON ? qn_peak_int8_neon(rounds) : 0; }

uint64_t qn_peak_int8_tiles(qn_isa isa, uint64_t rounds) { return isa == QN_ISA_I8MM ? qn_peak_int8_i8mm(rounds) : 0; }

uint64_t qn_peak_bf16_tiles(qn_isa isa, uint64_t rounds)
{
    (void)isa;
    (void)rounds;
    return 0;
}
#else
static uint64_t read_streams(qn_isa isa, const void *p, size_t bytes, size_t stride, size_t n_streams)
{
    (void)isa;
    return qn_peak_read_scalar(p, bytes, stride, n_streams);
}

uint64_t qn_peak_fma_f32(qn_isa isa, uint64_t rounds)
{
    (void)isa;
    return qn_peak_fma_f32_scalar(rounds);
}

uint64_t qn_peak_int8(qn_isa isa, uint64_t rounds)
{
    (void)isa;
    (void)rounds;
    return 0;
}

uint64_t qn_peak_int8_tiles(qn_isa isa, uint64_t rounds)
{
    (void)isa;
    (void)rounds;
    return 0;
}

uint64_t qn_peak_bf16_tiles(qn_isa isa, uint64_t rounds)
{
    (void)isa;
    (void)rounds;
    return 0;
}
#endif
