/* plain_encoder.c - see plain_encoder.h. Formulas: docs/formats.md; the flat types follow ggml's reference rounding. */
#include "gate/plain_encoder.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/codec.h"
#include "quant/sub_blocks.h"

enum { FLAT = 32 };

static float half_rounded(float v)
{
    float h = qn_f32_from_f16(qn_f16_from_f32(v));
    return isfinite(h) ? h : v < 0 ? -65504.0f : 65504.0f;
}

/* 0 where what is stored is 0, and where d is so small that its inverse overflows: then the codes decide nothing. */
static float inverse_of(float d, float stored) { return stored != 0 ? 1.0f / d : 0; }

static float clamped(float v, float low, float high) { return v < low ? low : v > high ? high : v; }

/* The value of greatest magnitude, with its sign; the first of equals. */
static float extreme(const float *x, size_t n)
{
    float found = 0;
    for (size_t i = 0; i < n; i++) {
        found = fabsf(x[i]) > fabsf(found) ? x[i] : found;
    }
    return found;
}

static void range_of(const float *x, size_t n, float *low, float *high)
{
    *low = *high = x[0];
    for (size_t i = 1; i < n; i++) {
        *low = x[i] < *low ? x[i] : *low;
        *high = x[i] > *high ? x[i] : *high;
    }
}

/* ---- flat types: one scale (and min) per 32 ---- */

static void plain_q8_0(const float *x, float *y)
{
    float d = fabsf(extreme(x, FLAT)) / 127.0f, stored = half_rounded(d), inverse = inverse_of(d, stored);
    for (size_t i = 0; i < FLAT; i++) {
        y[i] = stored * roundf(x[i] * inverse);
    }
}

/* Q4_0 and Q5_0: the value of greatest magnitude becomes the lowest code. */
static void plain_signed(const float *x, float *y, float low)
{
    float d = extreme(x, FLAT) / low, stored = half_rounded(d), inverse = inverse_of(d, stored);
    for (size_t i = 0; i < FLAT; i++) {
        float code = floorf(x[i] * inverse + (0.5f - low));
        y[i] = (clamped(code, 0, -2 * low - 1) + low) * stored;
    }
}

static void plain_offset(const float *x, float *y, float high_code)
{
    float low, high;
    range_of(x, FLAT, &low, &high);
    float d = (high - low) / high_code, stored = half_rounded(d), min = half_rounded(low), inverse = inverse_of(d, stored);
    for (size_t i = 0; i < FLAT; i++) {
        y[i] = clamped(floorf((x[i] - low) * inverse + 0.5f), 0, high_code) * stored + min;
    }
}

static void plain_mxfp4(const float *x, float *y)
{
    qn_levels_of levels = qn_fp4_levels();
    float greatest = fabsf(extreme(x, FLAT));
    int exponent = 0;
    (void)frexpf(greatest, &exponent);             /* greatest in [2^(exponent - 1), 2^exponent) */
    int e = greatest > 0 ? exponent - 3 + 127 : 0; /* 4 is the largest power of two of fp4 */
    float d = qn_e8m0_half((uint8_t)(e < 0 ? 0 : e > 254 ? 254 : e));
    for (size_t i = 0; i < FLAT; i++) {
        y[i] = d * qn_nearest_level(&levels, x[i] / d);
    }
}

/* ---- types with levels of a table ---- */

static void nearest_values(const qn_levels_of *levels, float scale, float offset, const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = scale != 0 ? scale * qn_nearest_level(levels, (x[i] - offset) / scale) + offset : offset;
    }
}

static const qn_levels_of iq4 = {.low = -127, .high = 113, .table = qn_iq4_levels, .n_table = 16};

static void plain_iq4_xs(const float *x, float *y)
{
    float wish[8], greatest = 0;
    for (size_t s = 0; s < 8; s++) {
        wish[s] = extreme(x + 32 * s, 32) / -127.0f;
        greatest = fabsf(wish[s]) > fabsf(greatest) ? wish[s] : greatest;
    }
    float d = half_rounded(greatest / -32.0f);
    for (size_t s = 0; s < 8; s++) {
        float scale = d != 0 ? d * clamped(rintf(wish[s] / d), -32, 31) : 0;
        nearest_values(&iq4, scale, 0, x + 32 * s, y + 32 * s, 32);
    }
}

/* ---- super-blocks ---- */

/* Scales only: Q3_K, Q6_K. */
static void plain_k_scales(const float *x, float *y, float low_level, float high_level, float low_scale, float high_scale)
{
    const qn_levels_of levels = {.low = (int)low_level, .high = (int)high_level};
    float wish[16], greatest = 0;
    for (size_t s = 0; s < 16; s++) {
        wish[s] = extreme(x + 16 * s, 16) / low_level;
        greatest = fabsf(wish[s]) > fabsf(greatest) ? wish[s] : greatest;
    }
    float d = half_rounded(greatest / low_scale);
    for (size_t s = 0; s < 16; s++) {
        float scale = d != 0 ? d * clamped(rintf(wish[s] / d), low_scale, high_scale) : 0;
        nearest_values(&levels, scale, 0, x + 16 * s, y + 16 * s, 16);
    }
}

/* Scales and mins: Q2_K, Q4_K, Q5_K. Mins are not positive. */
static void plain_k_mins(const float *x, float *y, size_t n_subs, float high_level, float high_scale)
{
    const qn_levels_of levels = {.low = 0, .high = (int)high_level};
    size_t len = QN_K / n_subs;
    float wish[16], min[16], greatest = 0, greatest_min = 0;
    for (size_t s = 0; s < n_subs; s++) {
        float low, high;
        range_of(x + len * s, len, &low, &high);
        low = low < 0 ? low : 0;
        wish[s] = (high > low ? high - low : 0) / high_level;
        min[s] = -low;
        greatest = wish[s] > greatest ? wish[s] : greatest;
        greatest_min = min[s] > greatest_min ? min[s] : greatest_min;
    }
    float d = half_rounded(greatest / high_scale), dmin = half_rounded(greatest_min / high_scale);
    for (size_t s = 0; s < n_subs; s++) {
        float scale = d != 0 ? d * clamped(rintf(wish[s] / d), 0, high_scale) : 0;
        float offset = dmin != 0 ? -(dmin * clamped(rintf(min[s] / dmin), 0, high_scale)) : 0;
        nearest_values(&levels, scale, offset, x + len * s, y + len * s, len);
    }
}

static void plain_ternary(const float *x, float *y)
{
    float d = fabsf(extreme(x, QN_K)), stored = half_rounded(d), inverse = inverse_of(d, stored);
    for (size_t i = 0; i < QN_K; i++) {
        y[i] = stored * roundf(x[i] * inverse);
    }
}

static void plain_block(qn_dtype t, const float *x, float *y)
{
    switch (t) {
    case QN_DTYPE_Q8_0: plain_q8_0(x, y); break;
    case QN_DTYPE_Q4_0: plain_signed(x, y, -8); break;
    case QN_DTYPE_Q5_0: plain_signed(x, y, -16); break;
    case QN_DTYPE_Q4_1: plain_offset(x, y, 15); break;
    case QN_DTYPE_Q5_1: plain_offset(x, y, 31); break;
    case QN_DTYPE_IQ4_NL: nearest_values(&iq4, half_rounded(extreme(x, FLAT) / -127.0f), 0, x, y, FLAT); break;
    case QN_DTYPE_IQ4_XS: plain_iq4_xs(x, y); break;
    case QN_DTYPE_MXFP4: plain_mxfp4(x, y); break;
    case QN_DTYPE_Q2_K: plain_k_mins(x, y, 16, 3, 15); break;
    case QN_DTYPE_Q4_K: plain_k_mins(x, y, 8, 15, 63); break;
    case QN_DTYPE_Q5_K: plain_k_mins(x, y, 8, 31, 63); break;
    case QN_DTYPE_Q3_K: plain_k_scales(x, y, -4, 3, -32, 31); break;
    case QN_DTYPE_Q6_K: plain_k_scales(x, y, -32, 31, -128, 127); break;
    default: plain_ternary(x, y); break;
    }
}

void qn_plain_blocks(qn_dtype t, const float *x, float *y, size_t n)
{
    size_t block = qn_dtype_get(t)->block_size;
    for (size_t i = 0; i < n; i += block) {
        plain_block(t, x + i, y + i);
    }
}

void qn_plain_affine(qn_affine a, qn_dtype sb, const float *x, float *y, size_t n)
{
    uint32_t packed[128 * 8 / 32];
    uint8_t scale[4], bias[4];
    for (size_t i = 0; i < n; i += a.group) {
        qn_encode_affine_row(a, x + i, packed, scale, bias, sb, a.group);
        qn_decode_affine_row(a, packed, scale, bias, sb, y + i, a.group);
    }
}

void qn_plain_mlx_mxfp4(const float *x, float *y, size_t n, bool nearest)
{
    qn_levels_of levels = qn_fp4_levels();
    for (size_t i = 0; i < n; i += FLAT) {
        float greatest = fabsf(extreme(x + i, FLAT));
        double wish = greatest > 0 ? log2((double)(greatest / 6.0f)) : -127;
        int e = (int)(nearest ? round(wish) : ceil(wish)) + 127;
        nearest_values(&levels, qn_e8m0_half((uint8_t)(e < 0 ? 0 : e > 254 ? 254 : e)), 0, x + i, y + i, FLAT);
    }
}
