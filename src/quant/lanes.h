/* lanes.h - vectors of floats for the encoders' search: QN_LANES blocks side by side, one a lane.
 *
 * Include only from files that are compiled once per instruction set (search_*.c). Every operation is one IEEE operation a lane,
 * so that a lane's result depends neither on the width nor on the instruction set.
 */
#ifndef QN_QUANT_LANES_H
#define QN_QUANT_LANES_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#define QN_LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define QN_LANES 8
#elif defined(__SSE2__)
#include <emmintrin.h>
#define QN_LANES 4
#else
#define QN_LANES 4
#endif

typedef float vf __attribute__((vector_size(QN_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(QN_LANES * 4)));

static inline vf vf_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void vf_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
static inline vf vf_set(float x) { return (vf){0} + x; }

/* a where the mask (all ones or zero a lane) is set, else b. */
static inline vf vf_select(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }

#if defined(__AVX512F__)
static inline vf vf_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
static inline vf vf_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__)
static inline vf vf_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
static inline vf vf_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
#elif defined(__SSE2__)
static inline vf vf_min(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
static inline vf vf_max(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
#else
static inline vf vf_min(vf a, vf b) { return vf_select(a < b, a, b); }
static inline vf vf_max(vf a, vf b) { return vf_select(a > b, a, b); }
#endif

static inline vf vf_abs(vf v) { return (vf)((vi)v & 0x7fffffff); }
static inline vf vf_clamp(vf v, vf low, vf high) { return vf_min(vf_max(v, low), high); }

/* To the nearest integer, ties to even, for |v| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction. */
static inline vf vf_round(vf v)
{
    const vf magic = vf_set(12582912.0f);
    return (v + magic) - magic;
}

#endif
