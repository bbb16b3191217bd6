/* kquant_encode.c - float32 to Q2_K ... Q6_K and IQ4_XS: super-blocks of 256 whose sub-blocks have integer scales under one float16.
 *
 * Method, for the sixteen sub-blocks that stand in columns (one super-block of 16, or two of 8):
 *   1. each sub-block alone: the real scale (and min) of least weighted error (search.h);
 *   2. d (and dmin): such that the greatest scale (min) reaches the largest integer or a slightly smaller one, float16; whichever lets
 *      all scales (and mins) be met best, judged by the second derivatives of each sub-block's error;
 *   3. each sub-block: the integers around scale/d (and min/dmin), the best by the error that a decoder will see;
 *   4. least squares for d (and dmin) with codes and integers held, rounded to float16, and step 3 again from there;
 *      kept if the super-block's error fell.
 * Invariant: errors in steps 3 and 4 are those of the bytes that are written, float16 rounding included.
 */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "quant/block_codes.h"
#include "quant/blocks.h"
#include "quant/codec_int.h"
#include "quant/columns.h"
#include "quant/iq4.h"
#include "quant/kquant_pack.h"

/* A type with scales and mins (Q2_K, Q4_K, Q5_K). */
typedef struct affine_type {
    size_t len;        /* elements a sub-block */
    float q_max;       /* greatest code */
    float integer_max; /* greatest integer scale and min */
    qn_clip_grid grid;
    float magnitude_weight;
} affine_type;

/* A type with signed scales (Q3_K, Q6_K, IQ4_XS). */
typedef struct signed_type {
    size_t len;
    qn_level_set levels;
    const float *targets;
    size_t n_targets;
    float integer_low, integer_high;
    int reach; /* integers tried on either side */
    float magnitude_weight;
} signed_type;

/* What step 3 settles on, a column. d and dmin are in the column's unit and equal within a super-block. */
typedef struct choice {
    alignas(64) float d[QN_COLUMNS];
    alignas(64) float dmin[QN_COLUMNS];
    alignas(64) float scale[QN_COLUMNS]; /* integers */
    alignas(64) float min[QN_COLUMNS];
    alignas(64) float error[QN_COLUMNS];
} choice;

static float clamp(float v, float low, float high) { return v < low ? low : v > high ? high : v; }

static size_t n_sub_blocks(size_t len) { return QN_K / len; }

/* Weighted sums over one column with given codes q. */
typedef struct column_sums {
    float w[QN_COLUMNS], q[QN_COLUMNS], qq[QN_COLUMNS], x[QN_COLUMNS], xq[QN_COLUMNS];
} column_sums;

static void sum_columns(const qn_columns *cols, const float *codes, column_sums *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < cols->len; i++) {
        const float *x = cols->x + QN_COLUMNS * i;
        const float *w = cols->w + QN_COLUMNS * i;
        const float *q = codes + QN_COLUMNS * i;
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            float wq = w[j] * q[j];
            out->w[j] += w[j];
            out->q[j] += wq;
            out->qq[j] += wq * q[j];
            out->x[j] += w[j] * x[j];
            out->xq[j] += wq * x[j];
        }
    }
}

/* Candidates of step 2: the greatest scale is met by the largest integer or one of the next seven. */
enum { N_STEPS = 8 };

/* To the nearest integer for |v| < 2^22; vectorises on every machine, unlike rintf. */
static float nearest(float v)
{
    float shifted = v + 12582912.0f;
    return shifted - 12582912.0f;
}

/* Step 2 for one of the two: integers 0..integer_max and a common float16 `unit` a super-block such that unit * integer meets `wanted`
 * (>= 0) with the least sum of curvature * difference^2. */
static void choose_unit(const qn_columns *cols, size_t n_sub, float integer_max, const float *wanted, const float *curvature, float *common,
                        float *integers)
{
    for (size_t first = 0; first < QN_COLUMNS; first += n_sub) {
        float greatest = 0;
        for (size_t j = first; j < first + n_sub; j++) {
            greatest = wanted[j] > greatest ? wanted[j] : greatest;
        }
        float best_error = 3e38f;
        for (int k = 0; k < N_STEPS; k++) {
            float tried = qn_round_to_half(greatest / (integer_max - (float)k), cols->unit[first]);
            float inverse = tried > 0 ? 1.0f / tried : 0;
            float rounded[QN_COLUMNS];
            float error = 0;
            for (size_t j = 0; j < n_sub; j++) {
                float integer = nearest(wanted[first + j] * inverse);
                rounded[j] = integer < integer_max ? integer : integer_max;
                float difference = tried * rounded[j] - wanted[first + j];
                error += difference * difference * curvature[first + j];
            }
            if (error < best_error) {
                best_error = error;
                for (size_t j = 0; j < n_sub; j++) {
                    common[first + j] = tried;
                    integers[first + j] = rounded[j];
                }
            }
        }
    }
}

/* Step 3 around the integers in *c. */
static void affine_improve(const qn_search *s, const affine_type *t, const qn_columns *cols, choice *c)
{
    choice best = *c;
    for (size_t j = 0; j < QN_COLUMNS; j++) {
        best.error[j] = INFINITY;
    }
    for (int a = -1; a <= 1; a++) {
        for (int b = -1; b <= 1; b++) {
            alignas(64) float scale[QN_COLUMNS];
            alignas(64) float min[QN_COLUMNS];
            alignas(64) float error[QN_COLUMNS];
            for (size_t j = 0; j < QN_COLUMNS; j++) {
                scale[j] = c->d[j] * clamp(c->scale[j] + (float)a, 0, t->integer_max);
                min[j] = c->dmin[j] * clamp(c->min[j] + (float)b, 0, t->integer_max);
            }
            s->affine_error(cols->x, cols->w, t->len, t->q_max, scale, min, error);
            for (size_t j = 0; j < QN_COLUMNS; j++) {
                bool better = error[j] < best.error[j];
                best.error[j] = better ? error[j] : best.error[j];
                best.scale[j] = better ? clamp(c->scale[j] + (float)a, 0, t->integer_max) : best.scale[j];
                best.min[j] = better ? clamp(c->min[j] + (float)b, 0, t->integer_max) : best.min[j];
            }
        }
    }
    *c = best;
}

static void affine_decoded(const choice *c, float *scale, float *min)
{
    for (size_t j = 0; j < QN_COLUMNS; j++) {
        scale[j] = c->d[j] * c->scale[j];
        min[j] = c->dmin[j] * c->min[j];
    }
}

/* Step 4: new d and dmin into *c (integers kept). */
static void affine_refit(const qn_search *s, const affine_type *t, const qn_columns *cols, choice *c)
{
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float min[QN_COLUMNS];
    alignas(64) float codes[32 * QN_COLUMNS];
    column_sums sums;
    affine_decoded(c, scale, min);
    s->affine_codes(cols->x, t->len, t->q_max, scale, min, codes);
    sum_columns(cols, codes, &sums);
    for (size_t first = 0; first < QN_COLUMNS; first += n_sub_blocks(t->len)) {
        double dd = 0;
        double dm = 0;
        double mm = 0;
        double xd = 0;
        double xm = 0;
        for (size_t j = first; j < first + n_sub_blocks(t->len); j++) {
            double a = (double)c->scale[j];
            double b = (double)c->min[j];
            dd += a * a * (double)sums.qq[j];
            dm -= a * b * (double)sums.q[j];
            mm += b * b * (double)sums.w[j];
            xd += a * (double)sums.xq[j];
            xm -= b * (double)sums.x[j];
        }
        double det = dd * mm - dm * dm;
        double d = (double)c->d[first];
        double dmin = (double)c->dmin[first];
        if (det > 1e-6 * dd * mm) {
            d = (xd * mm - xm * dm) / det;
            dmin = (xm * dd - xd * dm) / det;
        } else if (dd > 0) {
            d = (xd - dm * dmin) / dd;
        }
        if (d > 0 && dmin >= 0) {
            float unit = cols->unit[first];
            for (size_t j = first; j < first + n_sub_blocks(t->len); j++) {
                c->d[j] = qn_round_to_half((float)d, unit);
                c->dmin[j] = qn_round_to_half((float)dmin, unit);
            }
        }
    }
}

/* Takes, a super-block, whichever of the two has the smaller error. */
static void keep_better_half(choice *best, const choice *other, size_t n_sub)
{
    for (size_t first = 0; first < QN_COLUMNS; first += n_sub) {
        float old_error = 0;
        float new_error = 0;
        for (size_t j = first; j < first + n_sub; j++) {
            old_error += best->error[j];
            new_error += other->error[j];
        }
        if (new_error < old_error) {
            for (size_t j = first; j < first + n_sub; j++) {
                best->d[j] = other->d[j];
                best->dmin[j] = other->dmin[j];
                best->scale[j] = other->scale[j];
                best->min[j] = other->min[j];
                best->error[j] = other->error[j];
            }
        }
    }
}

/* Step 2. The error of a sub-block exceeds its least by dd^2 sum wqq - 2 dd dm sum wq + dm^2 sum w for a scale off by dd and a min off by
 * dm. d is chosen with every min free to follow its scale (dm = dd * sum wq / sum w), then dmin for the mins wanted so. */
static void affine_steps(const affine_type *t, const qn_columns *cols, const column_sums *sums, const float *scale, const float *min,
                         choice *best)
{
    float curvature[QN_COLUMNS];
    float wanted[QN_COLUMNS];
    for (size_t j = 0; j < QN_COLUMNS; j++) {
        float c = sums->qq[j] - sums->q[j] * sums->q[j] / sums->w[j];
        curvature[j] = c > 0 ? c : 0;
    }
    choose_unit(cols, n_sub_blocks(t->len), t->integer_max, scale, curvature, best->d, best->scale);
    for (size_t j = 0; j < QN_COLUMNS; j++) {
        float m = min[j] + (best->d[j] * best->scale[j] - scale[j]) * sums->q[j] / sums->w[j];
        wanted[j] = m > 0 ? m : 0;
    }
    choose_unit(cols, n_sub_blocks(t->len), t->integer_max, wanted, sums->w, best->dmin, best->min);
}

static void affine_search(const qn_search *s, const affine_type *t, const qn_columns *cols, choice *best)
{
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float min[QN_COLUMNS];
    alignas(64) float codes[32 * QN_COLUMNS];
    column_sums sums;
    s->fit_affine(cols->x, cols->w, t->len, t->q_max, &t->grid, 1, false, scale, min);
    s->affine_codes(cols->x, t->len, t->q_max, scale, min, codes);
    sum_columns(cols, codes, &sums);
    affine_steps(t, cols, &sums, scale, min, best);
    affine_improve(s, t, cols, best);
    choice refitted = *best;
    affine_refit(s, t, cols, &refitted);
    affine_improve(s, t, cols, &refitted);
    keep_better_half(best, &refitted, n_sub_blocks(t->len));
}

static void signed_improve(const qn_search *s, const signed_type *t, const qn_columns *cols, choice *c)
{
    choice best = *c;
    for (size_t j = 0; j < QN_COLUMNS; j++) {
        best.error[j] = INFINITY;
    }
    for (int a = -t->reach; a <= t->reach; a++) {
        alignas(64) float scale[QN_COLUMNS];
        alignas(64) float error[QN_COLUMNS];
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            scale[j] = c->d[j] * clamp(c->scale[j] + (float)a, t->integer_low, t->integer_high);
        }
        s->scale_error(cols->x, cols->w, t->len, &t->levels, scale, error);
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            bool better = error[j] < best.error[j];
            best.error[j] = better ? error[j] : best.error[j];
            best.scale[j] = better ? clamp(c->scale[j] + (float)a, t->integer_low, t->integer_high) : best.scale[j];
        }
    }
    *c = best;
}

static void signed_refit(const qn_search *s, const signed_type *t, const qn_columns *cols, choice *c)
{
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float levels[32 * QN_COLUMNS];
    column_sums sums;
    for (size_t j = 0; j < QN_COLUMNS; j++) {
        scale[j] = c->d[j] * c->scale[j];
    }
    s->scale_levels(cols->x, t->len, &t->levels, scale, levels);
    sum_columns(cols, levels, &sums);
    for (size_t first = 0; first < QN_COLUMNS; first += n_sub_blocks(t->len)) {
        double dd = 0;
        double xd = 0;
        for (size_t j = first; j < first + n_sub_blocks(t->len); j++) {
            double a = (double)c->scale[j];
            dd += a * a * (double)sums.qq[j];
            xd += a * (double)sums.xq[j];
        }
        if (dd > 0) {
            float d = qn_round_to_half((float)(xd / dd), cols->unit[first]);
            for (size_t j = first; j < first + n_sub_blocks(t->len); j++) {
                c->d[j] = d;
            }
        }
    }
}

/* Step 2 for signed scales: the peak is met by integer_low or one of the next seven. */
static void signed_steps(const signed_type *t, const qn_columns *cols, const column_sums *sums, const float *scale, choice *best)
{
    size_t n_sub = n_sub_blocks(t->len);
    choice tried;
    memset(&tried, 0, sizeof tried);
    for (int k = 0; k < N_STEPS; k++) {
        for (size_t first = 0; first < QN_COLUMNS; first += n_sub) {
            float peak = 0;
            for (size_t j = first; j < first + n_sub; j++) {
                peak = fabsf(scale[j]) > fabsf(peak) ? scale[j] : peak;
            }
            float d = qn_round_to_half(peak / (t->integer_low + (float)k), cols->unit[first]);
            for (size_t j = first; j < first + n_sub; j++) {
                tried.d[j] = d;
            }
        }
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            float inverse = tried.d[j] != 0 ? 1.0f / tried.d[j] : 0;
            tried.scale[j] = nearest(clamp(scale[j] * inverse, t->integer_low, t->integer_high));
            float dd = tried.d[j] * tried.scale[j] - scale[j];
            tried.error[j] = dd * dd * sums->qq[j];
        }
        if (k == 0) {
            *best = tried;
        } else {
            keep_better_half(best, &tried, n_sub);
        }
    }
}

static void signed_search(const qn_search *s, const signed_type *t, const qn_columns *cols, choice *best)
{
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float levels[32 * QN_COLUMNS];
    column_sums sums;
    s->fit_scale(cols->x, cols->w, t->len, &t->levels, t->targets, t->n_targets, scale);
    s->scale_levels(cols->x, t->len, &t->levels, scale, levels);
    sum_columns(cols, levels, &sums);
    signed_steps(t, cols, &sums, scale, best);
    signed_improve(s, t, cols, best);
    choice refitted = *best;
    signed_refit(s, t, cols, &refitted);
    signed_improve(s, t, cols, &refitted);
    keep_better_half(best, &refitted, n_sub_blocks(t->len));
}

/* One super-block's results in element and sub-block order. */
typedef struct super_block {
    uint16_t d, dmin;
    int scales[16];
    int mins[16];
    int levels[QN_K];
} super_block;

static void take_super_block(const qn_columns *cols, const choice *c, const float *codes, size_t first, super_block *out)
{
    size_t n_sub = n_sub_blocks(cols->len);
    out->d = qn_half_bits(c->d[first], cols->unit[first]);
    out->dmin = qn_half_bits(c->dmin[first], cols->unit[first]);
    for (size_t k = 0; k < n_sub; k++) {
        out->scales[k] = (int)c->scale[first + k];
        out->mins[k] = (int)c->min[first + k];
        for (size_t i = 0; i < cols->len; i++) {
            out->levels[k * cols->len + i] = (int)codes[i * QN_COLUMNS + first + k];
        }
    }
}

typedef void (*pack_fn)(const super_block *s, uint8_t *dst);

static void encode_affine(const qn_search *s, const affine_type *t, const float *src, uint8_t *dst, size_t block_bytes, size_t n,
                          const float *importance, pack_fn pack)
{
    qn_columns cols;
    choice best;
    super_block block;
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float min[QN_COLUMNS];
    alignas(64) float codes[32 * QN_COLUMNS];
    size_t n_sub = n_sub_blocks(t->len);
    size_t step = QN_COLUMNS * t->len;
    for (size_t i = 0; i < n; i += step) {
        size_t here = n - i < step ? n - i : step;
        qn_columns_load(&cols, src + i, importance != NULL ? importance + i : NULL, t->len, here / t->len, n_sub, t->magnitude_weight);
        affine_search(s, t, &cols, &best);
        affine_decoded(&best, scale, min);
        s->affine_codes(cols.x, t->len, t->q_max, scale, min, codes);
        for (size_t first = 0; first < here / t->len; first += n_sub) {
            take_super_block(&cols, &best, codes, first, &block);
            pack(&block, dst);
            dst += block_bytes;
        }
    }
}

static void encode_signed(const qn_search *s, const signed_type *t, const float *src, uint8_t *dst, size_t block_bytes, size_t n,
                          const float *importance, pack_fn pack)
{
    qn_columns cols;
    choice best;
    super_block block;
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float levels[32 * QN_COLUMNS];
    size_t n_sub = n_sub_blocks(t->len);
    size_t step = QN_COLUMNS * t->len;
    for (size_t i = 0; i < n; i += step) {
        size_t here = n - i < step ? n - i : step;
        qn_columns_load(&cols, src + i, importance != NULL ? importance + i : NULL, t->len, here / t->len, n_sub, t->magnitude_weight);
        signed_search(s, t, &cols, &best);
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            scale[j] = best.d[j] * best.scale[j];
        }
        s->scale_levels(cols.x, t->len, &t->levels, scale, levels);
        for (size_t first = 0; first < here / t->len; first += n_sub) {
            take_super_block(&cols, &best, levels, first, &block);
            pack(&block, dst);
            dst += block_bytes;
        }
    }
}

static void pack_q2_k(const super_block *s, uint8_t *dst)
{
    qn_block_q2_k b = {.d = s->d, .dmin = s->dmin};
    for (size_t k = 0; k < 16; k++) {
        b.scales[k] = (uint8_t)(s->scales[k] | s->mins[k] << 4);
    }
    memcpy(dst, &b, sizeof b);
    qn_codes_q2_k(s->levels, dst);
}

static void pack_q3_k(const super_block *s, uint8_t *dst)
{
    qn_block_q3_k b = {.d = s->d};
    qn_q3_k_pack_scales(s->scales, b.scales);
    memcpy(dst, &b, sizeof b);
    qn_codes_q3_k(s->levels, dst);
}

static void pack_q4_k(const super_block *s, uint8_t *dst)
{
    qn_block_q4_k b = {.d = s->d, .dmin = s->dmin};
    qn_k4_pack_scales(s->scales, s->mins, b.scales);
    memcpy(dst, &b, sizeof b);
    qn_codes_q4_k(s->levels, dst);
}

static void pack_q5_k(const super_block *s, uint8_t *dst)
{
    qn_block_q5_k b = {.d = s->d, .dmin = s->dmin};
    qn_k4_pack_scales(s->scales, s->mins, b.scales);
    memcpy(dst, &b, sizeof b);
    qn_codes_q5_k(s->levels, dst);
}

static void pack_q6_k(const super_block *s, uint8_t *dst)
{
    qn_block_q6_k b = {.d = s->d};
    for (size_t k = 0; k < 16; k++) {
        b.scales[k] = (int8_t)s->scales[k];
    }
    memcpy(dst, &b, sizeof b);
    qn_codes_q6_k(s->levels, dst);
}

static void pack_iq4_xs(const super_block *s, uint8_t *dst)
{
    qn_block_iq4_xs b = {.d = s->d};
    for (size_t k = 0; k < 8; k++) {
        int stored = s->scales[k] + 32;
        b.scales_l[k / 2] |= (uint8_t)((stored & 15) << (4 * (k % 2)));
        b.scales_h |= (uint16_t)((stored >> 4) << (2 * k));
    }
    memcpy(dst, &b, sizeof b);
    qn_codes_iq4_xs(s->levels, dst);
}

static const float clips_coarse[] = {-0.2f, 0.05f, 0.3f, 0.55f};
static const float clips_fine[] = {-0.3f, 0.0f, 0.3f, 0.6f};

void qn_encode_q2_k(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    static const affine_type type = {16, 3.0f, 15.0f, {clips_coarse, 4}, 0.5f};
    encode_affine(s, &type, src, dst, sizeof(qn_block_q2_k), n, importance, pack_q2_k);
}

void qn_encode_q4_k(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    static const affine_type type = {32, 15.0f, 63.0f, {clips_fine, 4}, 0.5f};
    encode_affine(s, &type, src, dst, sizeof(qn_block_q4_k), n, importance, pack_q4_k);
}

void qn_encode_q5_k(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    static const affine_type type = {32, 31.0f, 63.0f, {clips_fine, 4}, 2.0f};
    encode_affine(s, &type, src, dst, sizeof(qn_block_q5_k), n, importance, pack_q5_k);
}

void qn_encode_q3_k(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    static const float targets[] = {-4.6f, -4.4f, -4.2f, -4.0f, -3.8f, -3.6f, -3.4f, 2.6f, 2.8f, 3.0f, 3.2f, 3.4f, 3.6f};
    static const signed_type type = {16,  {QN_LEVELS_INTEGER, -4.0f, 3.0f}, targets, sizeof targets / sizeof targets[0], -32.0f, 31.0f, 1,
                                     1.0f};
    encode_signed(s, &type, src, dst, sizeof(qn_block_q3_k), n, importance, pack_q3_k);
}

void qn_encode_q6_k(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    static const float targets[] = {-33.0f, -32.5f, -32.0f, -31.5f, -31.0f, -30.5f, -30.0f, -29.5f, -29.0f, -28.5f};
    static const signed_type type = {
        16, {QN_LEVELS_INTEGER, -32.0f, 31.0f}, targets, sizeof targets / sizeof targets[0], -128.0f, 127.0f, 3, 0.5f};
    encode_signed(s, &type, src, dst, sizeof(qn_block_q6_k), n, importance, pack_q6_k);
}

void qn_encode_iq4_xs(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    static const signed_type type = {32, {QN_LEVELS_IQ4, -127.0f, 113.0f}, qn_iq4_targets, QN_N_IQ4_TARGETS, -32.0f, 31.0f, 1, 0.5f};
    encode_signed(s, &type, src, dst, sizeof(qn_block_iq4_xs), n, importance, pack_iq4_xs);
}
