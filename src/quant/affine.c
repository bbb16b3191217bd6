/* affine.c - MLX affine quantization: w = scale * q + bias, with scale and bias per group of a row.
 *
 * Invariant: codes are one little-endian bit stream a row: element i occupies bits i*bits .. i*bits + bits - 1 of the packed words,
 * across byte and word borders.
 */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "quant/affine_fit.h"
#include "quant/codec.h"
#include "quant/codec_int.h"

/* Scale or bias number i of an array of type sb. */
static float load_float(const void *values, qn_dtype sb, size_t i)
{
    const uint8_t *p = values;
    if (sb == QN_DTYPE_F32) {
        float f;
        memcpy(&f, p + 4 * i, sizeof f);
        return f;
    }
    uint16_t h;
    memcpy(&h, p + 2 * i, sizeof h);
    return sb == QN_DTYPE_F16 ? qn_f32_from_f16(h) : qn_f32_from_bf16(h);
}

void qn_unpack_affine(uint32_t bits, const uint32_t *packed, size_t first, size_t n, uint8_t *codes)
{
    const uint8_t *bytes = (const uint8_t *)packed;
    uint32_t mask = (1u << bits) - 1u;
    for (size_t i = 0; i < n; i++) {
        size_t bit = (first + i) * bits;
        uint32_t window = bytes[bit / 8];
        if (bit % 8 + bits > 8) { /* reads the next byte only where the code reaches into it */
            window |= (uint32_t)bytes[bit / 8 + 1] << 8;
        }
        codes[i] = (uint8_t)((window >> (bit % 8)) & mask);
    }
}

void qn_decode_affine_row(qn_affine a, const uint32_t *packed, const void *scales, const void *biases, qn_dtype sb, float *dst, size_t n)
{
    uint8_t codes[128];
    for (size_t g = 0; g * a.group < n; g++) {
        float scale = load_float(scales, sb, g);
        float bias = load_float(biases, sb, g);
        qn_unpack_affine(a.bits, packed, g * a.group, a.group, codes);
        float *out = dst + g * a.group;
        for (size_t j = 0; j < a.group; j++) {
            float product = scale * (float)codes[j];
            out[j] = product + bias;
        }
    }
}

/* The bits of f as float16 or bfloat16; beyond the range, of the greatest finite value. */
static uint16_t narrow(qn_dtype sb, float f)
{
    uint32_t h = sb == QN_DTYPE_F16 ? qn_f16_from_f32(f) : qn_bf16_from_f32(f);
    return (uint16_t)(h - ((h & 0x7fffu) == (sb == QN_DTYPE_F16 ? 0x7c00u : 0x7f80u)));
}

static void store_float(void *values, qn_dtype sb, size_t i, float f)
{
    uint8_t *p = values;
    if (sb == QN_DTYPE_F32) {
        memcpy(p + 4 * i, &f, sizeof f);
        return;
    }
    uint16_t h = narrow(sb, f);
    memcpy(p + 2 * i, &h, sizeof h);
}

/* f rounded to what type sb holds. */
static float round_to(qn_dtype sb, float f)
{
    uint16_t h = narrow(sb, f);
    return sb == QN_DTYPE_F32 ? f : load_float(&h, sb, 0);
}

void qn_affine_store(void *values, qn_dtype sb, size_t i, float f) { store_float(values, sb, i, f); }

void qn_affine_pack(uint32_t bits, const uint8_t *codes, size_t n, uint32_t *words)
{
    uint64_t window = 0;
    uint32_t filled = 0;
    for (size_t i = 0; i < n; i++) {
        window |= (uint64_t)codes[i] << filled;
        filled += bits;
        if (filled >= 32) {
            *words++ = (uint32_t)window;
            window >>= 32;
            filled -= 32;
        }
    }
}

/* mlx's own choice, in float32: the codes run from the edge of greater magnitude, and the scale is adjusted so that zero falls on a code. */
static void min_max_scale(const float *x, size_t n, float q_max, float *scale, float *bias)
{
    float low = x[0];
    float high = x[0];
    for (size_t i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float range = high - low;
    float s = range / q_max;
    s = s > 1e-7f ? s : 1e-7f;
    float edge = low;
    if (fabsf(low) <= fabsf(high)) {
        edge = high;
        s = -s;
    }
    float zero_code = rintf(edge / s);
    *bias = 0;
    *scale = s;
    if (zero_code != 0) {
        *scale = edge / zero_code;
        *bias = edge;
    }
}

float qn_affine_plain_error(qn_affine a, const float *x, qn_dtype sb)
{
    float q_max = (float)((1u << a.bits) - 1u), scale, bias, sum = 0;
    min_max_scale(x, a.group, q_max, &scale, &bias);
    float stored_scale = round_to(sb, scale), stored_bias = round_to(sb, bias);
    for (size_t i = 0; i < a.group; i++) {
        float q = rintf((x[i] - bias) / scale);
        float product = stored_scale * (q < 0 ? 0 : q > q_max ? q_max : q);
        float error = x[i] - (product + stored_bias);
        sum += error * error;
    }
    return sum;
}

void qn_encode_affine_row(qn_affine a, const float *src, uint32_t *packed, void *scales, void *biases, qn_dtype sb, size_t n)
{
    float q_max = (float)((1u << a.bits) - 1u);
    for (size_t g = 0; g * a.group < n; g++) {
        const float *x = src + g * a.group;
        uint8_t codes[128];
        float scale;
        float bias;
        min_max_scale(x, a.group, q_max, &scale, &bias);
        for (size_t i = 0; i < a.group; i++) {
            float q = rintf((x[i] - bias) / scale); /* NaN where a group's range is beyond float32 */
            codes[i] = (uint8_t)(q > 0 ? (q < q_max ? q : q_max) : 0);
        }
        qn_affine_pack(a.bits, codes, a.group, packed + g * a.group * a.bits / 32);
        store_float(scales, sb, g, scale);
        store_float(biases, sb, g, bias);
    }
}

/* The value of type sb next to f, away from zero for up, towards it otherwise; f itself for float32. */
static float neighbour(qn_dtype sb, float f, bool up)
{
    if (sb == QN_DTYPE_F32) {
        return f;
    }
    uint32_t bits = narrow(sb, f);
    uint32_t magnitude = bits & 0x7fffu;
    uint32_t greatest = sb == QN_DTYPE_F16 ? 0x7bffu : 0x7f7fu;
    magnitude = up ? magnitude + (magnitude < greatest) : magnitude - (magnitude > 0);
    uint16_t moved = (uint16_t)((bits & 0x8000u) | magnitude);
    return load_float(&moved, sb, 0);
}

/* Candidate number k for the pair of column j: 0 to 8 the rounded fit and its neighbours, 9 mlx's. In real units. */
static void candidate(qn_dtype sb, int k, float scale, float bias, const float *own, float *out)
{
    if (k == 9) {
        out[0] = round_to(sb, own[0]);
        out[1] = round_to(sb, own[1]);
        return;
    }
    out[0] = round_to(sb, scale);
    out[1] = round_to(sb, bias);
    if (k % 3 != 0) {
        out[0] = neighbour(sb, out[0], k % 3 == 1);
    }
    if (k / 3 != 0) {
        out[1] = neighbour(sb, out[1], k / 3 == 1);
    }
}

void qn_affine_fit(const qn_search *s, const qn_columns *cols, const float *src, float q_max, qn_dtype sb, float stored[QN_COLUMNS][2],
                   float scale[QN_COLUMNS], float min[QN_COLUMNS])
{
    static const float clips[] = {-0.3f, -0.05f, 0.2f, 0.45f, 0.7f};
    static const qn_clip_grid grid = {clips, sizeof clips / sizeof clips[0]};
    alignas(64) float fitted[2][QN_COLUMNS];
    alignas(64) float tried[2][QN_COLUMNS];
    alignas(64) float error[QN_COLUMNS];
    float least[QN_COLUMNS] = {0};
    float own[QN_COLUMNS][2] = {{0}};
    s->fit_affine(cols->x, cols->w, cols->len, q_max, &grid, 2, true, fitted[0], fitted[1]);
    for (size_t j = 0; j < cols->n_used; j++) {
        min_max_scale(src + j * cols->len, cols->len, q_max, &own[j][0], &own[j][1]);
    }
    for (int k = 0; k < 10; k++) {
        float pairs[QN_COLUMNS][2];
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            float unit = cols->unit[j];
            candidate(sb, k, fitted[0][j] * unit, -fitted[1][j] * unit, own[j], pairs[j]);
            tried[0][j] = pairs[j][0] / unit;
            tried[1][j] = -pairs[j][1] / unit;
        }
        s->affine_error(cols->x, cols->w, cols->len, q_max, tried[0], tried[1], error);
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            if (k == 0 || error[j] < least[j]) {
                least[j] = error[j];
                scale[j] = tried[0][j];
                min[j] = tried[1][j];
                stored[j][0] = pairs[j][0];
                stored[j][1] = pairs[j][1];
            }
        }
    }
}

/* Clipping the one large value of a long group costs a model more than its share of the squared error says (docs/formats.md). */
static float magnitude_weight(qn_affine a) { return a.group > 32 ? 1.0f : 0.0f; }

void qn_encode_affine_row_fitted(qn_affine a, const float *src, uint32_t *packed, void *scales, void *biases, qn_dtype sb, size_t n,
                                 const float *importance)
{
    const qn_search *s = qn_search_get(qn_isa_best());
    float q_max = (float)((1u << a.bits) - 1u);
    qn_columns cols;
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float min[QN_COLUMNS];
    alignas(64) float levels[QN_COLUMN_BLOCK_MAX * QN_COLUMNS];
    float stored[QN_COLUMNS][2];
    size_t n_groups = n / a.group;
    for (size_t g = 0; g < n_groups; g += QN_COLUMNS) {
        size_t here = n_groups - g < QN_COLUMNS ? n_groups - g : QN_COLUMNS;
        const float *x = src + g * a.group;
        qn_columns_load(&cols, x, importance != NULL ? importance + g * a.group : NULL, a.group, here, 1, magnitude_weight(a));
        qn_affine_fit(s, &cols, x, q_max, sb, stored, scale, min);
        s->affine_codes(cols.x, a.group, q_max, scale, min, levels);
        for (size_t j = 0; j < here; j++) {
            uint8_t codes[QN_COLUMN_BLOCK_MAX];
            for (size_t i = 0; i < a.group; i++) {
                codes[i] = (uint8_t)levels[QN_COLUMNS * i + j];
            }
            qn_affine_pack(a.bits, codes, a.group, packed + (g + j) * a.group * a.bits / 32);
            store_float(scales, sb, g + j, stored[j][0]);
            store_float(biases, sb, g + j, stored[j][1]);
        }
    }
}
