/* random_weights.h - random but valid bytes of any weight type, for tests and benches of kernels (no model file needed).
 *
 * Invariant: codes and sub-block scales are any bytes at all; only float16 fields are chosen, so that sums stay finite unless asked otherwise. */
#ifndef QN_RANDOM_WEIGHTS_H
#define QN_RANDOM_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"
#include "kernels/matmul.h"

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static inline uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static inline uint32_t random_u32(void) { return (uint32_t)(random_u64() >> 32); }

static inline float random_unit(void) { return (float)((double)random_u32() / 2147483648.0 - 1.0); } /* [-1, 1) */

static inline void random_bytes(uint8_t *p, size_t n)
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v = random_u64();
        memcpy(p + i, &v, 8);
    }
    for (; i < n; i++) {
        p[i] = (uint8_t)random_u32();
    }
}

typedef enum scale_mode { SCALES_USUAL, SCALES_EXTREME, SCALES_WITH_NAN } scale_mode;

/* A float16 scale: usual sizes; or any finite pattern with many zeros, subnormals and largest values; or now and then NaN or infinity. */
static inline uint16_t random_f16(scale_mode mode)
{
    static const uint16_t odd[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x3c00};
    if (mode == SCALES_USUAL) {
        return qn_f16_from_f32(0.02f * random_unit());
    }
    if (mode == SCALES_WITH_NAN && random_u32() % 6 == 0) {
        return random_u32() % 2 == 0 ? 0x7e01 : 0xfc00;
    }
    if (random_u32() % 2 == 0) {
        return odd[random_u32() % (sizeof odd / sizeof odd[0])];
    }
    uint16_t h = (uint16_t)random_u32();
    return (h & 0x7c00u) == 0x7c00u ? (uint16_t)(h & 0x83ffu) : h;
}

/* Where float16 fields stand in a block; -1: none. */
typedef struct f16_fields {
    int first, second;
} f16_fields;

static inline f16_fields fields_of(qn_dtype t)
{
    switch (t) {
    case QN_DTYPE_Q4_1:
    case QN_DTYPE_Q5_1:
    case QN_DTYPE_Q4_K:
    case QN_DTYPE_Q5_K: return (f16_fields){0, 2};
    case QN_DTYPE_Q2_K: return (f16_fields){80, 82};
    case QN_DTYPE_Q3_K: return (f16_fields){108, -1};
    case QN_DTYPE_Q6_K: return (f16_fields){208, -1};
    case QN_DTYPE_TQ1_0: return (f16_fields){52, -1};
    case QN_DTYPE_TQ2_0: return (f16_fields){64, -1};
    case QN_DTYPE_MXFP4: return (f16_fields){-1, -1};
    default: return (f16_fields){0, -1};
    }
}

/* n values of type t (F32, F16 or BF16), drawn from [-1, 1) or as scales of the mode. */
static inline void random_floats(uint8_t *p, qn_dtype t, size_t n, const scale_mode *mode)
{
    for (size_t i = 0; i < n; i++) {
        float v = mode == NULL ? random_unit() : qn_f32_from_f16(random_f16(*mode));
        uint16_t h = t == QN_DTYPE_F16 ? qn_f16_from_f32(v) : qn_bf16_from_f32(v);
        if (t == QN_DTYPE_F32) {
            memcpy(p + 4 * i, &v, 4);
        } else {
            memcpy(p + 2 * i, &h, 2);
        }
    }
}

static inline bool is_plain_float(qn_dtype t)
{
    return t == QN_DTYPE_F32 || t == QN_DTYPE_F16 || t == QN_DTYPE_BF16 || t == QN_DTYPE_F8_E4M3;
}

/* Any codes but NaN, which models have none of: kernels have a slower way for it. */
static inline void random_f8(uint8_t *p, size_t n)
{
    random_bytes(p, n);
    for (size_t i = 0; i < n; i++) {
        p[i] = (p[i] & 0x7fu) == 0x7fu ? 0 : p[i];
    }
}

/* Whole blocks of type t (not MLX affine). */
static inline void random_blocks(uint8_t *p, qn_dtype t, size_t bytes, scale_mode mode)
{
    size_t block_bytes = qn_dtype_get(t)->block_bytes;
    if (t == QN_DTYPE_F8_E4M3) {
        random_f8(p, bytes);
        return;
    }
    if (is_plain_float(t)) {
        random_floats(p, t, bytes / block_bytes, NULL);
        return;
    }
    random_bytes(p, bytes);
    f16_fields f = fields_of(t);
    for (uint8_t *block = p; block < p + bytes; block += block_bytes) {
        uint16_t first = random_f16(mode), second = random_f16(mode);
        if (f.first >= 0) {
            memcpy(block + f.first, &first, 2);
        } else if (mode == SCALES_USUAL) {
            *block = (uint8_t)(110 + *block % 20);
        }
        if (f.second >= 0) {
            memcpy(block + f.second, &second, 2);
        }
    }
}

#endif
