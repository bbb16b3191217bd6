/* matmul_float_scalar.c - products with F32, F16, BF16 and F8_E4M3 weights in plain C: 16 lanes and the fixed tree of matmul.h, as it is written
 * there.
 *
 * Invariant: one output element depends on one weight row and one activation row only, in the stated order. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/matmul_kernels.h"
#include "quant/codec.h"

/* Element k of a row; the address need not be aligned. */
static float load_f32(const uint8_t *row, size_t k)
{
    float x;
    memcpy(&x, row + k * sizeof x, sizeof x);
    return x;
}

static float load_f16(const uint8_t *row, size_t k)
{
    uint16_t h;
    memcpy(&h, row + k * sizeof h, sizeof h);
    return qn_f32_from_f16(h);
}

static float load_bf16(const uint8_t *row, size_t k)
{
    uint16_t h;
    memcpy(&h, row + k * sizeof h, sizeof h);
    return qn_f32_from_bf16(h);
}

static inline float sum_lanes(const float lane[16])
{
    float s8[8], s4[4];
    for (size_t l = 0; l < 8; l++) {
        s8[l] = lane[l] + lane[l + 8];
    }
    for (size_t l = 0; l < 4; l++) {
        s4[l] = s8[l] + s8[l + 4];
    }
    return (s4[0] + s4[2]) + (s4[1] + s4[3]);
}

static inline float dot(float (*load)(const uint8_t *row, size_t k), const uint8_t *row, const float *x, size_t n)
{
    float lane[16] = {0};
    for (size_t k = 0; k < n; k++) {
        lane[k % 16] = fmaf(load(row, k), x[k], lane[k % 16]);
    }
    return sum_lanes(lane);
}

static float dot_f8(const qn_matrix *w, size_t r, const float *x)
{
    const uint8_t *codes = w->data + r * w->row_bytes;
    const float *factors = qn_scale_grid_row(&w->grid, w->grid_row + r);
    float lane[16] = {0};
    for (size_t k = 0; k < w->n_cols; k++) {
        const float weight = qn_f32_from_e4m3(codes[k]) * factors[k / w->grid.cols];
        lane[k % 16] = fmaf(weight, x[k], lane[k % 16]);
    }
    return sum_lanes(lane);
}

#define MATMUL(type) \
    void qn_matmul_##type##_scalar(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, \
                                   size_t y_stride, void *scratch) \
    { \
        (void)scratch; \
        for (size_t r = r0; r < r1; r++) { \
            for (size_t t = t0; t < t1; t++) { \
                y[t * y_stride + r] = dot(load_##type, w->data + r * w->row_bytes, a->f + t * a->f_stride, w->n_cols); \
            } \
        } \
    }
MATMUL(f32)
MATMUL(f16)
MATMUL(bf16)

void qn_matmul_f8_scalar(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
                         void *scratch)
{
    (void)scratch;
    for (size_t r = r0; r < r1; r++) {
        for (size_t t = t0; t < t1; t++) {
            y[t * y_stride + r] = dot_f8(w, r, a->f + t * a->f_stride);
        }
    }
}
