/* ternary.c - weights -d, 0, d: TQ2_0 (two bits each) and TQ1_0 (five trits a byte).
 *
 * A byte of TQ1_0 holds t0*81 + t1*27 + t2*9 + t3*3 + t4 as the fixed-point fraction ceil(value * 256 / 243): multiplying it by
 * 3^k modulo 256 brings trit k to the top, where (byte * 3) >> 8 reads it. Elements of a block of 256:
 *
 *   qs[0..31]   elements 32k + m   (k = trit 0..4, m = byte)          160
 *   qs[32..47]  elements 160 + 16k + m                                80
 *   qh[0..3]    elements 240 + 4k + m (k = 0..3; the fifth trit is 0) 16
 */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/codec_int.h"
#include "quant/columns.h"

static const uint8_t power_of_three[5] = {1, 3, 9, 27, 81};

/* Trits of `n_bytes` bytes, `n_trits` of each, into n_bytes * n_trits floats. */
static void decode_trits(const uint8_t *bytes, size_t n_bytes, size_t n_trits, float d, float *dst)
{
    for (size_t k = 0; k < n_trits; k++) {
        for (size_t m = 0; m < n_bytes; m++) {
            uint8_t shifted = (uint8_t)(bytes[m] * power_of_three[k]);
            int trit = (shifted * 3) >> 8;
            dst[k * n_bytes + m] = (float)(trit - 1) * d;
        }
    }
}

void qn_decode_tq1_0(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_tq1_0 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        decode_trits(b.qs, 32, 5, d, dst + i);
        decode_trits(b.qs + 32, 16, 5, d, dst + i + 160);
        decode_trits(b.qh, 4, 4, d, dst + i + 240);
    }
}

void qn_decode_tq2_0(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_tq2_0 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t e = 0; e < QN_K; e++) {
            int code = (b.qs[32 * (e / 128) + e % 32] >> (2 * ((e / 32) % 4))) & 3;
            dst[i + e] = (float)(code - 1) * d;
        }
    }
}

/* Sums of weights and weighted magnitudes over the elements that get a trit other than zero. */
typedef struct tail {
    double w, wx;
} tail;

static tail sum_above(const float *x, const float *w, float threshold)
{
    tail t = {0, 0};
    for (size_t i = 0; i < QN_K; i++) {
        float magnitude = fabsf(x[i]);
        if (magnitude > threshold) {
            t.w += (double)w[i];
            t.wx += (double)w[i] * (double)magnitude;
        }
    }
    return t;
}

/* The d of least weighted error. For any d the best trits are those of |x| > d/2, so the elements with a trit are the k greatest
 * magnitudes for some k; with them d is their weighted mean and the error falls by (sum w|x|)^2 / sum w. k is tried at the borders of
 * 256 equal classes of magnitude, then d and the threshold d/2 are improved in turn, which never raises the error. */
static float best_ternary_scale(const float *x, const float *w)
{
    enum { N_CLASSES = 256 };
    float greatest = 0;
    for (size_t i = 0; i < QN_K; i++) {
        greatest = fabsf(x[i]) > greatest ? fabsf(x[i]) : greatest;
    }
    if (!(greatest > 0)) {
        return 0;
    }
    tail classes[N_CLASSES] = {{0, 0}};
    for (size_t i = 0; i < QN_K; i++) {
        size_t c = (size_t)(fabsf(x[i]) / greatest * (N_CLASSES - 1));
        classes[c].w += (double)w[i];
        classes[c].wx += (double)w[i] * (double)fabsf(x[i]);
    }
    tail sum = {0, 0};
    double best_gain = 0;
    double d = 0;
    for (size_t c = N_CLASSES; c-- > 0;) {
        sum.w += classes[c].w;
        sum.wx += classes[c].wx;
        if (sum.w > 0 && sum.wx * sum.wx > best_gain * sum.w) {
            best_gain = sum.wx * sum.wx / sum.w;
            d = sum.wx / sum.w;
        }
    }
    for (int round = 0; round < 4; round++) {
        tail t = sum_above(x, w, (float)(0.5 * d));
        if (!(t.w > 0) || t.wx / t.w == d) {
            break;
        }
        d = t.wx / t.w;
    }
    return (float)d;
}

/* Scale as stored and trits 0..2 (value plus one) of one block. */
static uint16_t find_trits(const float *x, const float *importance, uint8_t trits[QN_K])
{
    float w[QN_K];
    float sum = 0;
    for (size_t i = 0; i < QN_K; i++) {
        w[i] = importance != NULL ? importance[i] : 1.0f;
        sum += w[i];
    }
    for (size_t i = 0; i < QN_K && !(sum > 0); i++) {
        w[i] = 1.0f;
    }
    float d = qn_round_to_half(best_ternary_scale(x, w), 1.0f);
    for (size_t i = 0; i < QN_K; i++) {
        trits[i] = d > 0 && fabsf(x[i]) > 0.5f * d ? (x[i] < 0 ? 0 : 2) : 1;
    }
    return qn_half_bits(d, 1.0f);
}

/* n_trits trits of each of n_bytes bytes, most significant first; missing ones count as 0. */
static void encode_trits(const uint8_t *trits, size_t n_bytes, size_t n_trits, uint8_t *bytes)
{
    for (size_t m = 0; m < n_bytes; m++) {
        uint32_t value = 0;
        for (size_t k = 0; k < 5; k++) {
            value = 3 * value + (k < n_trits ? trits[k * n_bytes + m] : 0u);
        }
        bytes[m] = (uint8_t)((value * 256u + 242u) / 243u);
    }
}

void qn_encode_tq1_0(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    (void)s;
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_tq1_0 b;
        uint8_t trits[QN_K];
        b.d = find_trits(src + i, importance != NULL ? importance + i : NULL, trits);
        encode_trits(trits, 32, 5, b.qs);
        encode_trits(trits + 160, 16, 5, b.qs + 32);
        encode_trits(trits + 240, 4, 4, b.qh);
        memcpy(dst, &b, sizeof b);
        dst += sizeof b;
    }
}

void qn_encode_tq2_0(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    (void)s;
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_tq2_0 b = {0};
        uint8_t trits[QN_K];
        b.d = find_trits(src + i, importance != NULL ? importance + i : NULL, trits);
        for (size_t e = 0; e < QN_K; e++) {
            b.qs[32 * (e / 128) + e % 32] |= (uint8_t)(trits[e] << (2 * ((e / 32) % 4)));
        }
        memcpy(dst, &b, sizeof b);
        dst += sizeof b;
    }
}
