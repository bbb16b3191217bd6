/* kv_q8_0.h - how the q8_0 pages of ops.h are written, and where their parts are. Reading is the affair of each instruction set.
 *
 * Invariant: the same operations in the same order wherever this is compiled, so a page has the same bytes on every instruction set. */
#ifndef QN_KERNELS_KV_Q8_0_H
#define QN_KERNELS_KV_Q8_0_H

#include <string.h>

#include "base/half.h"
#include "kernels/ops.h"

/* One block of a group of keys: 16 scales, then the codes of 32 dimensions. */
enum {
    QN_KV_Q8_0_KEY_SCALES = QN_KV_GROUP * 2,
    QN_KV_Q8_0_KEY_BLOCK = QN_KV_Q8_0_KEY_SCALES + QN_KV_BLOCK * QN_KV_GROUP,
};

/* Adding 1.5 * 2^23 rounds |v| < 2^22 to an integer, ties to even; the integer then stands in the low bits of the sum. */
#define QN_KV_Q8_0_BIAS 12582912.0f

/* Codes of 32 elements; returns the bits of their scale. */
static inline uint16_t qn_kv_q8_0_encode(int8_t *codes, const float *x)
{
    uint32_t largest = 0; /* by bit patterns, where infinity and NaN are above all numbers */
    for (size_t i = 0; i < QN_KV_BLOCK; i++) {
        uint32_t magnitude = qn_f32_to_bits(x[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    float d = qn_f32_from_bits(largest) / 127.0f;
    uint16_t scale = qn_f16_from_f32(d);
    if (scale == 0 || scale >= 0x7c00u) {
        memset(codes, 0, QN_KV_BLOCK);
        return scale == 0 ? scale : (uint16_t)0x7e00u;
    }
    float inverse = 1.0f / d;
    for (size_t i = 0; i < QN_KV_BLOCK; i++) {
        float product = x[i] * inverse;
        codes[i] = (int8_t)(qn_f32_to_bits(product + QN_KV_Q8_0_BIAS) - qn_f32_to_bits(QN_KV_Q8_0_BIAS));
    }
    return scale;
}

/* kv_store of qn_ops. */
static inline void qn_kv_q8_0_store(void *k_page, void *v_page, size_t kv_head, size_t head_dim, size_t slot, const float *k,
                                    const float *v)
{
    size_t row_bytes = qn_kv_row_bytes(QN_KV_FORMAT_Q8_0, head_dim), head = kv_head * QN_KV_PAGE * row_bytes, lane = slot % QN_KV_GROUP;
    uint8_t *keys = (uint8_t *)k_page + head + slot / QN_KV_GROUP * QN_KV_GROUP * row_bytes;
    uint8_t *values = (uint8_t *)v_page + head + slot * row_bytes;
    for (size_t b = 0; b < head_dim / QN_KV_BLOCK; b++, keys += QN_KV_Q8_0_KEY_BLOCK) {
        int8_t codes[QN_KV_BLOCK];
        uint16_t scale = qn_kv_q8_0_encode(codes, k + b * QN_KV_BLOCK);
        memcpy(keys + lane * sizeof scale, &scale, sizeof scale);
        for (size_t i = 0; i < QN_KV_BLOCK; i++) {
            keys[QN_KV_Q8_0_KEY_SCALES + i * QN_KV_GROUP + lane] = (uint8_t)codes[i];
        }
        scale = qn_kv_q8_0_encode(codes, v + b * QN_KV_BLOCK);
        memcpy(values + b * QN_KV_BLOCK, codes, sizeof codes);
        memcpy(values + head_dim + b * sizeof scale, &scale, sizeof scale);
    }
}

#endif
