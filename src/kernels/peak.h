/* peak.h - loops that do nothing but use one resource of the machine to the full: the yardsticks that speeds are given as shares of.
 *
 * They own no threads and no clock: the caller runs one on every thread and divides by its own time.
 */
#ifndef QN_KERNELS_PEAK_H
#define QN_KERNELS_PEAK_H

#include <stddef.h>
#include <stdint.h>
#include "base/cpu.h"

/* Reads bytes [0, bytes) of p once (p 64-byte aligned, bytes a multiple of 256), from n_streams >= 1 places side by side: which number of streams
 * keeps memory busiest depends on the machine. The result only keeps the loads alive. */
enum { QN_PEAK_STREAMS = 4 };
uint64_t qn_peak_read(qn_isa isa, const void *p, size_t bytes, size_t n_streams);

/* Runs `rounds` rounds of independent float32 multiply-adds and returns how many operations that were (a multiply-add is two). */
uint64_t qn_peak_fma_f32(qn_isa isa, uint64_t rounds);

/* The same with 8-bit integer dot products (VPDPBUSD, SDOT; AVX2: VPMADDUBSW and additions of 16 bits); 0 operations without SIMD. */
uint64_t qn_peak_int8(qn_isa isa, uint64_t rounds);

/* The same with products of 8-bit integer matrices (TDPBUSD, SMMLA); 0 operations below QN_ISA_AMX and QN_ISA_I8MM. */
uint64_t qn_peak_int8_tiles(qn_isa isa, uint64_t rounds);

/* The same with products of bfloat16 matrices (TDPBF16PS); 0 operations below QN_ISA_AMX and where qn_cpu_has_amx_bf16 says no. */
uint64_t qn_peak_bf16_tiles(qn_isa isa, uint64_t rounds);

/* The loops of each instruction set, for peak.c. Reading: n_streams times `bytes` bytes that begin `stride` bytes from each other, 256 of each at a
 * time; QN_PEAK_READ_AHEAD is what they prefetch at. */
enum { QN_PEAK_READ_AHEAD = 1024 };
uint64_t qn_peak_read_scalar(const void *p, size_t bytes, size_t stride, size_t n_streams);
uint64_t qn_peak_read_avx2(const void *p, size_t bytes, size_t stride, size_t n_streams);
uint64_t qn_peak_read_avx512(const void *p, size_t bytes, size_t stride, size_t n_streams);
uint64_t qn_peak_read_neon(const void *p, size_t bytes, size_t stride, size_t n_streams);
uint64_t qn_peak_fma_f32_scalar(uint64_t rounds);
uint64_t qn_peak_fma_f32_avx2(uint64_t rounds);
uint64_t qn_peak_fma_f32_avx512(uint64_t rounds);
uint64_t qn_peak_fma_f32_neon(uint64_t rounds);
uint64_t qn_peak_int8_avx2(uint64_t rounds);
uint64_t qn_peak_int8_avx512vnni(uint64_t rounds);
uint64_t qn_peak_int8_amx(uint64_t rounds);
uint64_t qn_peak_bf16_amx(uint64_t rounds);
uint64_t qn_peak_int8_neon(uint64_t rounds);
uint64_t qn_peak_int8_i8mm(uint64_t rounds);

#endif
