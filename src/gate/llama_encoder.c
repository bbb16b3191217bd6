/* llama_encoder.c - see llama_encoder.h.
 *
 * Two searches: levels with an offset (Q2_K, Q4_K, Q5_K), whose scale and minimum are solved for by least squares for a number of trial roundings; and
 * levels without (Q6_K, IQ4), where the scale is. Q3_K moves single codes while that helps. The first two run on sixteen sub-blocks at once (search.h).
 */
#include "gate/llama_encoder.h"

#include <math.h>
#include <stdalign.h>
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/search.h"
#include "quant/sub_blocks.h"

static float half_rounded(float v) { return qn_f32_from_f16(qn_f16_from_f32(v)); }

/* a * b + c. */
static inline float madd(float a, float b, float c, bool fused) { return fused ? fmaf(a, b, c) : a * b + c; }

/* a * b to the nearest integer in [low, high], read from the mantissa of the sum with 1.5 * 2^23: NaN is 0, infinity the lowest. */
static inline float rounded(float a, float b, float low, float high, bool fused)
{
    float l = (float)((int32_t)(qn_f32_to_bits(madd(a, b, 12582912.0f, fused)) & 0x7fffffu) - 0x400000);
    return l < low ? low : l > high ? high : l;
}

static inline float nearest(float v, float low, float high) { return rounded(v, 1, low, high, false); }

/* Sub-blocks side by side, as search.h wants them; those beyond n are zeros. */
enum { SUB_MAX = 32 };

typedef struct side_by_side {
    alignas(64) float x[SUB_MAX * QN_COLUMNS];
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float min[QN_COLUMNS];
} side_by_side;

static void put_side_by_side(side_by_side *s, const float *x, size_t len, size_t n)
{
    for (size_t i = 0; i < len; i++) {
        for (size_t c = 0; c < QN_COLUMNS; c++) {
            s->x[QN_COLUMNS * i + c] = c < n ? x[c * len + i] : 0;
        }
    }
}

/* ---- levels with an offset ---- */

static void store_offsets(const float *x, float *y, const float *scale, const float *min, size_t len, float top, float top_scale)
{
    size_t n_subs = QN_K / len;
    float greatest = 0, greatest_min = 0;
    for (size_t s = 0; s < n_subs; s++) {
        greatest = scale[s] > greatest ? scale[s] : greatest;
        greatest_min = -min[s] > greatest_min ? -min[s] : greatest_min;
    }
    float inverse = greatest > 0 ? top_scale / greatest : 0, inverse_min = greatest_min > 0 ? top_scale / greatest_min : 0;
    float d = half_rounded(greatest / top_scale), dmin = half_rounded(greatest_min / top_scale);
    for (size_t s = 0; s < n_subs; s++) {
        float stored = d * nearest(inverse * scale[s], 0, top_scale), offset = dmin * nearest(inverse_min * -min[s], 0, top_scale);
        for (size_t i = s * len; i < (s + 1) * len; i++) {
            y[i] = stored != 0 ? stored * nearest((x[i] + offset) / stored, 0, top) - offset : -offset;
        }
    }
}

static void encode_offsets(const qn_search *search, const qn_llama_offsets *o, size_t len, float top_scale, bool fused, const float *x,
                           float *y, size_t n)
{
    side_by_side subs;
    size_t a_block = QN_K / len, at_once = QN_COLUMNS * len;
    for (size_t at = 0; at < n; at += at_once) {
        size_t here = n - at < at_once ? n - at : at_once;
        put_side_by_side(&subs, x + at, len, here / len);
        search->llama_offsets(subs.x, len, o, fused, subs.scale, subs.min);
        for (size_t c = 0; c < here / len; c += a_block) {
            store_offsets(x + at + c * len, y + at + c * len, subs.scale + c, subs.min + c, len, o->top, top_scale);
        }
    }
}

/* ---- levels without ---- */

/* Q3_K: codes move one at a time, up to five rounds. */
static inline float search_q3(const float *x, bool fused)
{
    enum { N = 16, ROUNDS = 5 };
    float peak = 0, l[N], sum_xl = 0, sum_l2 = 0;
    for (size_t i = 0; i < N; i++) {
        peak = fabsf(x[i]) > fabsf(peak) ? x[i] : peak;
    }
    if (fabsf(peak) < QN_LLAMA_NEGLIGIBLE) {
        return 0;
    }
    float inverse = -4 / peak;
    for (size_t i = 0; i < N; i++) {
        l[i] = rounded(inverse, x[i], -4, 3, fused);
        float w = x[i] * x[i];
        sum_xl = madd(w * x[i], l[i], sum_xl, fused);
        sum_l2 = madd(w * l[i], l[i], sum_l2, fused);
    }
    bool moved = true;
    for (int round = 0; round < ROUNDS && moved; round++) {
        moved = false;
        for (size_t i = 0; i < N; i++) {
            float w = x[i] * x[i], rest_xl = madd(-(w * x[i]), l[i], sum_xl, fused);
            if (!(rest_xl > 0)) {
                continue;
            }
            float rest_l2 = madd(-(w * l[i]), l[i], sum_l2, fused), to = nearest(x[i] * rest_l2 / rest_xl, -4, 3);
            if (to == l[i]) {
                continue;
            }
            rest_xl = madd(w * x[i], to, rest_xl, fused);
            rest_l2 = madd(w * to, to, rest_l2, fused);
            if (rest_l2 > 0 && rest_xl * rest_xl * sum_l2 > sum_xl * sum_xl * rest_l2) {
                l[i] = to;
                sum_xl = rest_xl;
                sum_l2 = rest_l2;
                moved = true;
            }
        }
    }
    return sum_xl / sum_l2;
}

/* Of n_subs sub-blocks, the one of greatest magnitude; the first of equals. */
static float greatest_of(const float *scale, size_t n_subs)
{
    float greatest = 0;
    for (size_t s = 0; s < n_subs; s++) {
        greatest = fabsf(scale[s]) > fabsf(greatest) ? scale[s] : greatest;
    }
    return greatest;
}

/* Q3_K, Q6_K. */
static void store_scales(const float *x, float *y, const float *scale, float low, float high, float low_scale, float high_scale,
                         float least)
{
    enum { LEN = 16, N_SUBS = QN_K / LEN };
    float greatest = greatest_of(scale, N_SUBS);
    if (greatest == 0 || fabsf(greatest) < least) {
        memset(y, 0, QN_K * sizeof *y);
        return;
    }
    float inverse = low_scale / greatest, d = half_rounded(1 / inverse);
    for (size_t s = 0; s < N_SUBS; s++) {
        float stored = d * nearest(inverse * scale[s], low_scale, high_scale);
        for (size_t i = LEN * s; i < LEN * (s + 1); i++) {
            y[i] = stored != 0 ? stored * nearest(x[i] / stored, low, high) : 0;
        }
    }
}

static void encode_q3(bool fused, const float *x, float *y, size_t n)
{
    enum { LEN = 16 };
    for (size_t at = 0; at < n; at += QN_K) {
        float scale[QN_K / LEN];
        for (size_t s = 0; s < QN_K / LEN; s++) {
            scale[s] = search_q3(x + at + LEN * s, fused);
        }
        store_scales(x + at, y + at, scale, -4, 3, -32, 31, 0);
    }
}

static void encode_q6(const qn_search *search, bool fused, const float *x, float *y, size_t n)
{
    static const qn_llama_scales trials = {.low = -32, .high = 31, .step = 0.1f, .n_trials = 9};
    side_by_side subs;
    for (size_t at = 0; at < n; at += QN_K) {
        put_side_by_side(&subs, x + at, QN_K / QN_COLUMNS, QN_COLUMNS);
        search->llama_scales(subs.x, QN_K / QN_COLUMNS, &trials, fused, subs.scale);
        store_scales(x + at, y + at, subs.scale, -32, 31, -128, 127, QN_LLAMA_NEGLIGIBLE);
    }
}

/* One sub-block of IQ4_NL (its own block), eight of IQ4_XS. Codes are chosen before the scale is rounded. */
static void store_iq4(const float *x, float *y, const float *scale, size_t n_subs)
{
    static const qn_levels_of levels = {.low = -127, .high = 113, .table = qn_iq4_levels, .n_table = 16};
    float d = n_subs > 1 ? -greatest_of(scale, n_subs) / 32 : scale[0], stored = half_rounded(d), inverse = d != 0 ? 1 / d : 0;
    for (size_t s = 0; s < n_subs; s++) {
        float count = n_subs > 1 ? nearest(inverse * scale[s], -32, 31) : 1, wished = d * count, own = wished != 0 ? 1 / wished : 0;
        for (size_t i = SUB_MAX * s; i < SUB_MAX * (s + 1); i++) {
            y[i] = stored * count * qn_nearest_level(&levels, own * x[i]);
        }
    }
}

static void encode_iq4(const qn_search *search, size_t n_subs, bool fused, const float *x, float *y, size_t n)
{
    static const qn_llama_scales trials = {.iq4 = true, .low = -127, .n_trials = 7};
    side_by_side subs;
    for (size_t at = 0; at < n; at += QN_COLUMNS * SUB_MAX) {
        size_t here = n - at < QN_COLUMNS * SUB_MAX ? n - at : QN_COLUMNS * SUB_MAX;
        put_side_by_side(&subs, x + at, SUB_MAX, here / SUB_MAX);
        search->llama_scales(subs.x, SUB_MAX, &trials, fused, subs.scale);
        for (size_t c = 0; c < here / SUB_MAX; c += n_subs) {
            store_iq4(x + at + c * SUB_MAX, y + at + c * SUB_MAX, subs.scale + c, n_subs);
        }
    }
}

/* ---- */

bool qn_llama_searches(qn_dtype t)
{
    return t == QN_DTYPE_Q2_K || t == QN_DTYPE_Q3_K || t == QN_DTYPE_Q4_K || t == QN_DTYPE_Q5_K || t == QN_DTYPE_Q6_K ||
           t == QN_DTYPE_IQ4_NL || t == QN_DTYPE_IQ4_XS;
}

void qn_llama_blocks(qn_dtype t, bool fused, const float *x, float *y, size_t n)
{
    static const qn_llama_offsets q2 = {.top = 3, .first = -0.5f, .step = 0.1f, .n_steps = 15, .absolute = true},
                                  q4 = {.top = 15, .first = -1, .step = 0.1f, .n_steps = 20},
                                  q5 = {.top = 31, .first = -0.5f, .step = 0.1f, .n_steps = 15};
    const qn_search *search = qn_search_get(qn_isa_best());
    switch (t) {
    case QN_DTYPE_Q2_K: encode_offsets(search, &q2, 16, 15, fused, x, y, n); break;
    case QN_DTYPE_Q3_K: encode_q3(fused, x, y, n); break;
    case QN_DTYPE_Q4_K: encode_offsets(search, &q4, 32, 63, fused, x, y, n); break;
    case QN_DTYPE_Q5_K: encode_offsets(search, &q5, 32, 63, fused, x, y, n); break;
    case QN_DTYPE_Q6_K: encode_q6(search, fused, x, y, n); break;
    case QN_DTYPE_IQ4_XS: encode_iq4(search, 8, fused, x, y, n); break;
    default: encode_iq4(search, 1, fused, x, y, n); break;
    }
}
