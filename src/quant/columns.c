/* columns.c - loading blocks into columns. See columns.h. */
#include "quant/columns.h"

#include <math.h>
#include <string.h>

#include "base/half.h"

/* The power of two at or below the greatest magnitude, 1 for zeros; never so small that its inverse overflows. */
static float unit_of(const float *v, size_t n)
{
    uint32_t greatest = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = qn_f32_to_bits(v[i]) & 0x7fffffffu; /* the order of magnitudes is the order of their bits */
        greatest = bits > greatest ? bits : greatest;
    }
    uint32_t exponent = greatest >> 23;
    if (greatest == 0) {
        return 1.0f;
    }
    return qn_f32_from_bits((exponent < 2 ? 2u : exponent) << 23);
}

static float root_mean_square(const float *v, size_t n, float scale)
{
    float sums[16] = {0};
    for (size_t i = 0; i < n; i += 16) {
        for (size_t j = 0; j < 16; j++) {
            float x = v[i + j] * scale;
            sums[j] += x * x;
        }
    }
    float total = 0;
    for (size_t j = 0; j < 16; j++) {
        total += sums[j];
    }
    return sqrtf(total / (float)n);
}

/* importance_inverse: a power of two that brings the weights of the blocks that share a unit near 1. */
static void load_weights(qn_columns *c, size_t column, const float *importance, float importance_inverse, float per_magnitude)
{
    float sum = 0;
    for (size_t i = 0; i < c->len; i++) {
        float *w = &c->w[i * QN_COLUMNS + column];
        *w = importance != NULL ? importance[i] * importance_inverse : 1.0f + per_magnitude * fabsf(c->x[i * QN_COLUMNS + column]);
        sum += *w;
    }
    if (!(sum > 0)) {
        for (size_t i = 0; i < c->len; i++) {
            c->w[i * QN_COLUMNS + column] = 1.0f;
        }
    }
}

void qn_columns_load(qn_columns *c, const float *src, const float *importance, size_t len, size_t n_blocks, size_t shared,
                     float magnitude_weight)
{
    c->len = len;
    c->n_used = n_blocks;
    for (size_t first = 0; first < QN_COLUMNS; first += shared) {
        if (first >= n_blocks) {
            for (size_t b = first; b < first + shared; b++) {
                c->unit[b] = 1.0f;
                for (size_t i = 0; i < len; i++) {
                    c->x[i * QN_COLUMNS + b] = 0;
                    c->w[i * QN_COLUMNS + b] = 1.0f;
                }
            }
            continue;
        }
        const float *v = src + first * len;
        float unit = unit_of(v, shared * len);
        float inverse = 1.0f / unit;
        float per_magnitude = 0;
        if (importance == NULL && magnitude_weight > 0) {
            float rms = root_mean_square(v, shared * len, inverse);
            per_magnitude = rms > 0 ? magnitude_weight / rms : 0;
        }
        float importance_inverse = importance != NULL ? 1.0f / unit_of(importance + first * len, shared * len) : 1.0f;
        for (size_t b = first; b < first + shared; b++) {
            c->unit[b] = unit;
            for (size_t i = 0; i < len; i++) {
                c->x[i * QN_COLUMNS + b] = src[b * len + i] * inverse;
            }
            load_weights(c, b, importance != NULL ? importance + b * len : NULL, importance_inverse, per_magnitude);
        }
    }
}

float qn_round_to_half(float value, float unit)
{
    float real = value * unit;
    real = real > 65504.0f ? 65504.0f : real < -65504.0f ? -65504.0f : real;
    return qn_f32_from_f16(qn_f16_from_f32(real)) / unit;
}

uint16_t qn_half_bits(float value, float unit) { return qn_f16_from_f32(value * unit); }

float qn_half_neighbour(float value, float unit, int steps)
{
    int bits = (int)qn_half_bits(value, unit);
    int magnitude = (bits & 0x7fff) + steps;
    magnitude = magnitude < 0 ? 0 : magnitude > 0x7bff ? 0x7bff : magnitude;
    return qn_f32_from_f16((uint16_t)((bits & 0x8000) | magnitude)) / unit;
}

void qn_fit_half_scale(const qn_search *s, const qn_columns *c, const qn_level_set *set, const float *targets, size_t n_targets,
                       float scale[QN_COLUMNS])
{
    alignas(64) float fitted[QN_COLUMNS];
    alignas(64) float tried[QN_COLUMNS];
    alignas(64) float error[QN_COLUMNS];
    float least[QN_COLUMNS] = {0};
    float peak[QN_COLUMNS] = {0};
    s->fit_scale(c->x, c->w, c->len, set, targets, n_targets, fitted);
    for (size_t i = 0; i < c->len; i++) {
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            float v = c->x[QN_COLUMNS * i + j];
            peak[j] = fabsf(v) > fabsf(peak[j]) ? v : peak[j];
        }
    }
    for (int k = 0; k < 4; k++) {
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            float rounded = qn_round_to_half(k < 3 ? fitted[j] : peak[j] / targets[0], c->unit[j]);
            tried[j] = k == 1 || k == 2 ? qn_half_neighbour(rounded, c->unit[j], 2 * k - 3) : rounded;
        }
        s->scale_error(c->x, c->w, c->len, set, tried, error);
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            if (k == 0 || error[j] < least[j]) {
                least[j] = error[j];
                scale[j] = tried[j];
            }
        }
    }
}
