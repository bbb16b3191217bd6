/* search_body.h - the text of search.h's functions for one instruction set; included once by each search_<isa>.c, which names the
 * table in QN_SEARCH_TABLE.
 *
 * Invariant: only IEEE operations in a fixed order a column (no fused multiply-add, no approximate reciprocal), so that all tables give
 * equal bits.
 * (llama_search_body.h joins multiply-adds where it is asked to, in every table alike.)
 *
 * Least squares on residuals: with codes q of t = (x - low) / step, the residual r = t - q is fitted by alpha + beta * q. Sums of r are
 * small numbers, so float32 keeps their digits where sums of x would cancel.
 */
#include <float.h>
#include <math.h>

#include "quant/blocks.h"
#include "quant/lanes.h"
#include "quant/search.h"

/* Sums over one column of codes and residuals. */
typedef struct fit_sums {
    vf q, qq, r, rq, rr;
} fit_sums;

/* A candidate in units of its own step: x = (t + offset) / inv. */
typedef struct affine_fit {
    vf scale, min, error;
} affine_fit;

static inline fit_sums affine_pass(const float *x, const float *w, size_t len, vf inv, vf low, vf q_max)
{
    fit_sums s = {vf_set(0), vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
    for (size_t i = 0; i < len; i++) {
        vf weight = vf_load(w + QN_COLUMNS * i);
        vf t = (vf_load(x + QN_COLUMNS * i) - low) * inv;
        vf q = vf_round(vf_clamp(t, vf_set(0), q_max));
        vf r = t - q;
        vf wq = weight * q;
        vf wr = weight * r;
        s.q += wq;
        s.qq += wq * q;
        s.r += wr;
        s.rq += wr * q;
        s.rr += wr * r;
    }
    return s;
}

/* Least squares for the codes of one pass; error in units of x^2 divided by unit^2. */
static inline affine_fit affine_solve(fit_sums s, vf sum_w, vf inv, vf low, vf unit, bool free_min)
{
    const vf zero = vf_set(0);
    const vf one = vf_set(1.0f);
    vf det = sum_w * s.qq - s.q * s.q;
    vi flat = det <= sum_w * s.qq * vf_set(1e-6f); /* (almost) all codes equal: only the offset can be fitted */
    vf safe_det = vf_select(flat, one, det);
    vf beta = vf_select(flat, zero, (sum_w * s.rq - s.q * s.r) / safe_det);
    vf alpha = vf_select(flat, s.r / sum_w, (s.qq * s.r - s.q * s.rq) / safe_det);
    vf error = s.rr - alpha * s.r - beta * s.rq;
    vf step = one / inv;
    if (!free_min) { /* min = -(alpha * step + low) must not be negative: where it is, fit with min 0 */
        vi negative = alpha * step + low > zero;
        vf bound = zero - low * inv;
        vi no_codes = s.qq <= zero;
        vf bound_beta = vf_select(no_codes, zero, (s.rq - bound * s.q) / vf_select(no_codes, one, s.qq));
        vf bound_error = s.rr - vf_set(2.0f) * (bound * s.r + bound_beta * s.rq) + bound * bound * sum_w +
                         vf_set(2.0f) * bound * bound_beta * s.q + bound_beta * bound_beta * s.qq;
        alpha = vf_select(negative, bound, alpha);
        beta = vf_select(negative, bound_beta, beta);
        error = vf_select(negative, bound_error, error);
    }
    affine_fit f;
    f.scale = (one + beta) * step;
    f.min = zero - (alpha * step + low);
    if (!free_min) {
        f.min = vf_max(f.min, zero);
    }
    vf relative = step / unit;
    f.error = vf_max(error, zero) * (relative * relative);
    return f;
}

static inline void keep_better(affine_fit *best, affine_fit f)
{
    vi better = (f.error < best->error) & (f.scale > vf_set(0));
    best->scale = vf_select(better, f.scale, best->scale);
    best->min = vf_select(better, f.min, best->min);
    best->error = vf_select(better, f.error, best->error);
}

static void fit_affine(const float *x, const float *w, size_t len, float q_max, const qn_clip_grid *grid, size_t n_refine, bool free_min,
                       float *scale, float *min)
{
    for (size_t c = 0; c < QN_COLUMNS; c += QN_LANES) {
        vf low = vf_load(x + c);
        vf high = low;
        vf sum_w = vf_set(0);
        for (size_t i = 0; i < len; i++) {
            vf v = vf_load(x + QN_COLUMNS * i + c);
            low = vf_min(v, low);
            high = vf_max(v, high);
            sum_w += vf_load(w + QN_COLUMNS * i + c);
        }
        if (!free_min) {
            low = vf_min(low, vf_set(0));
        }
        vi constant = high <= low;
        vf range = vf_select(constant, vf_set(1.0f), high - low);
        vf step = range / vf_set(q_max);
        affine_fit best = {vf_set(0), vf_set(0) - low, vf_set(3e38f)};
        for (size_t a = 0; a < grid->n; a++) {
            for (size_t b = 0; b < grid->n; b++) {
                vf shifted = low + vf_set(grid->clips[a]) * step;
                vf inv = vf_set(q_max) / (range - vf_set(grid->clips[a] + grid->clips[b]) * step);
                fit_sums s = affine_pass(x + c, w + c, len, inv, shifted, vf_set(q_max));
                keep_better(&best, affine_solve(s, sum_w, inv, shifted, range, free_min));
            }
        }
        for (size_t k = 0; k < n_refine; k++) {
            vi usable = best.scale > vf_set(0);
            vf inv = vf_select(usable, vf_set(1.0f) / vf_select(usable, best.scale, range), vf_set(1.0f) / range);
            vf origin = vf_set(0) - best.min;
            fit_sums s = affine_pass(x + c, w + c, len, inv, origin, vf_set(q_max));
            keep_better(&best, affine_solve(s, sum_w, inv, origin, range, free_min));
        }
        vf_store(scale + c, vf_select(constant, vf_set(0), best.scale));
        vf_store(min + c, vf_select(constant, vf_set(0) - low, best.min));
    }
}

static inline vf signed_inverse(vf scale)
{
    vi zero = scale == vf_set(0);
    return vf_select(zero, vf_set(0), vf_set(1.0f) / vf_select(zero, vf_set(1.0f), scale));
}

static void affine_error(const float *x, const float *w, size_t len, float q_max, const float *scale, const float *min, float *error)
{
    for (size_t c = 0; c < QN_COLUMNS; c += QN_LANES) {
        vf d = vf_load(scale + c);
        vf m = vf_load(min + c);
        vf inv = signed_inverse(d);
        vf sum = vf_set(0);
        for (size_t i = 0; i < len; i++) {
            vf v = vf_load(x + QN_COLUMNS * i + c) + m;
            vf q = vf_round(vf_clamp(v * inv, vf_set(0), vf_set(q_max)));
            vf r = v - d * q;
            sum += vf_load(w + QN_COLUMNS * i + c) * r * r;
        }
        vf_store(error + c, sum);
    }
}

static void affine_codes(const float *x, size_t len, float q_max, const float *scale, const float *min, float *codes)
{
    for (size_t c = 0; c < QN_COLUMNS; c += QN_LANES) {
        vf m = vf_load(min + c);
        vf inv = signed_inverse(vf_load(scale + c));
        for (size_t i = 0; i < len; i++) {
            vf v = (vf_load(x + QN_COLUMNS * i + c) + m) * inv;
            vf_store(codes + QN_COLUMNS * i + c, vf_round(vf_clamp(v, vf_set(0), vf_set(q_max))));
        }
    }
}

/* The level nearest to t. */
static inline vf nearest_iq4(vf t)
{
    vf v = vf_set((float)qn_iq4_levels[0]);
    for (int k = 0; k < 15; k++) {
        vf middle = vf_set(0.5f * (float)(qn_iq4_levels[k] + qn_iq4_levels[k + 1]));
        vf gap = vf_set((float)(qn_iq4_levels[k + 1] - qn_iq4_levels[k]));
        v += vf_select(t > middle, gap, vf_set(0));
    }
    return v;
}

/* Doubled fp4 magnitudes are 0 1 2 3 4 6 8 12. */
static inline vf nearest_fp4(vf t)
{
    vf magnitude = vf_abs(t);
    vf fine = vf_round(vf_min(magnitude, vf_set(4.0f)));
    vf v = vf_select(magnitude > vf_set(5.0f), vf_set(6.0f), fine);
    v = vf_select(magnitude > vf_set(7.0f), vf_set(8.0f), v);
    v = vf_select(magnitude > vf_set(10.0f), vf_set(12.0f), v);
    return vf_select(t < vf_set(0), vf_set(0) - v, v);
}

static inline vf nearest_level(const qn_level_set *set, vf t)
{
    if (set->kind == QN_LEVELS_IQ4) {
        return nearest_iq4(t);
    }
    if (set->kind == QN_LEVELS_FP4) {
        return nearest_fp4(t);
    }
    return vf_round(vf_clamp(t, vf_set(set->low), vf_set(set->high)));
}

static inline __attribute__((always_inline)) void fit_scale_for(const float *x, const float *w, size_t len, const qn_level_set *set,
                                                                const float *targets, size_t n_targets, float *scale)
{
    for (size_t c = 0; c < QN_COLUMNS; c += QN_LANES) {
        vf peak = vf_load(x + c); /* the element of greatest magnitude, with its sign */
        for (size_t i = 1; i < len; i++) {
            vf v = vf_load(x + QN_COLUMNS * i + c);
            peak = vf_select(vf_abs(v) > vf_abs(peak), v, peak);
        }
        vi zero = peak == vf_set(0);
        peak = vf_select(zero, vf_set(1.0f), peak);
        vf best_scale = vf_set(0);
        vf best_error = vf_set(3e38f);
        for (size_t k = 0; k < n_targets; k++) {
            vf inv = vf_set(targets[k]) / peak;
            vf qq = vf_set(0);
            vf rq = vf_set(0);
            vf rr = vf_set(0);
            for (size_t i = 0; i < len; i++) {
                vf weight = vf_load(w + QN_COLUMNS * i + c);
                vf t = vf_load(x + QN_COLUMNS * i + c) * inv;
                vf q = nearest_level(set, t);
                vf r = t - q;
                vf wr = weight * r;
                qq += weight * q * q;
                rq += wr * q;
                rr += wr * r;
            }
            vi empty = qq <= vf_set(0);
            vf beta = vf_select(empty, vf_set(0), rq / vf_select(empty, vf_set(1.0f), qq));
            vf target = vf_set(targets[k]);
            vf error = vf_max(rr - beta * rq, vf_set(0)) / (target * target);
            vi better = error < best_error;
            best_error = vf_select(better, error, best_error);
            best_scale = vf_select(better, (vf_set(1.0f) + beta) / inv, best_scale);
        }
        vf_store(scale + c, vf_select(zero, vf_set(0), best_scale));
    }
}

static void fit_scale(const float *x, const float *w, size_t len, const qn_level_set *set, const float *targets, size_t n_targets,
                      float *scale)
{
    qn_level_set fixed = *set; /* the kind as a constant keeps its branch out of the loops */
    if (set->kind == QN_LEVELS_INTEGER) {
        fixed.kind = QN_LEVELS_INTEGER;
        fit_scale_for(x, w, len, &fixed, targets, n_targets, scale);
    } else if (set->kind == QN_LEVELS_IQ4) {
        fixed.kind = QN_LEVELS_IQ4;
        fit_scale_for(x, w, len, &fixed, targets, n_targets, scale);
    } else {
        fixed.kind = QN_LEVELS_FP4;
        fit_scale_for(x, w, len, &fixed, targets, n_targets, scale);
    }
}

static void scale_error(const float *x, const float *w, size_t len, const qn_level_set *set, const float *scale, float *error)
{
    for (size_t c = 0; c < QN_COLUMNS; c += QN_LANES) {
        vf d = vf_load(scale + c);
        vf inv = signed_inverse(d);
        vf sum = vf_set(0);
        for (size_t i = 0; i < len; i++) {
            vf v = vf_load(x + QN_COLUMNS * i + c);
            vf r = v - d * nearest_level(set, v * inv);
            sum += vf_load(w + QN_COLUMNS * i + c) * r * r;
        }
        vf_store(error + c, sum);
    }
}

static void scale_levels(const float *x, size_t len, const qn_level_set *set, const float *scale, float *levels)
{
    for (size_t c = 0; c < QN_COLUMNS; c += QN_LANES) {
        vf inv = signed_inverse(vf_load(scale + c));
        for (size_t i = 0; i < len; i++) {
            vf_store(levels + QN_COLUMNS * i + c, nearest_level(set, vf_load(x + QN_COLUMNS * i + c) * inv));
        }
    }
}

/* Of up to eight columns at a time, so that their chains of additions overlap. */
static inline __attribute__((always_inline)) void sums_of(const float *factor, size_t stride, size_t n, const float *error, size_t begin,
                                                          size_t end, float *sums)
{
    for (size_t c = 0; c < QN_COLUMNS; c += QN_LANES) {
        vf s[8];
        for (size_t k = 0; k < n; k++) {
            s[k] = vf_load(sums + QN_COLUMNS * k + c);
        }
        for (size_t i = begin; i < end; i++) {
            vf e = vf_load(error + QN_COLUMNS * i + c);
            for (size_t k = 0; k < n; k++) {
                s[k] += vf_set(factor[stride * k + i]) * e;
            }
        }
        for (size_t k = 0; k < n; k++) {
            vf_store(sums + QN_COLUMNS * k + c, s[k]);
        }
    }
}

static void feedback_sums(const float *factor, size_t stride, size_t n, const float *error, size_t begin, size_t end, float *sums)
{
    size_t k = 0;
    for (; k + 8 <= n; k += 8) {
        sums_of(factor + stride * k, stride, 8, error, begin, end, sums + QN_COLUMNS * k);
    }
    for (; k < n; k++) {
        sums_of(factor + stride * k, stride, 1, error, begin, end, sums + QN_COLUMNS * k);
    }
}

static inline __attribute__((always_inline)) void feedback_codes_for(const qn_feedback_columns *f, const qn_level_set *set)
{
    for (size_t c = 0; c < QN_COLUMNS; c += QN_LANES) {
        vf strength = vf_load(f->strength + c), scale = vf_load(f->scale + c);
        vf inverse = vf_load(f->inverse + c), offset = vf_load(f->offset + c);
        vf squared = vf_load(f->squared + c);
        for (size_t k = 0; k < f->n; k++) {
            vf sum = vf_load(f->sums + QN_COLUMNS * k + c);
            vf x = vf_load(f->x + QN_COLUMNS * k + c);
            for (size_t i = 0; i < k && f->factor != NULL; i++) {
                sum += vf_set(f->factor[f->stride * k + i]) * vf_load(f->error + QN_COLUMNS * i + c);
            }
            vf wish = x + strength * sum;
            wish = vf_select(vf_abs(wish) <= vf_set(FLT_MAX), wish, x); /* sums of enormous weights overflow */
            vf level = nearest_level(set, (wish - offset) * inverse);
            vf product = scale * level;
            vf error = x - (product + offset);
            squared += error * error;
            vf_store(f->error + QN_COLUMNS * k + c, error);
            vf_store(f->levels + QN_COLUMNS * k + c, level);
        }
        vf_store(f->squared + c, squared);
    }
}

static void feedback_codes(const qn_feedback_columns *f)
{
    qn_level_set fixed = f->set; /* the kind as a constant keeps its branch out of the loops */
    if (fixed.kind == QN_LEVELS_INTEGER) {
        fixed.kind = QN_LEVELS_INTEGER;
        feedback_codes_for(f, &fixed);
    } else if (fixed.kind == QN_LEVELS_IQ4) {
        fixed.kind = QN_LEVELS_IQ4;
        feedback_codes_for(f, &fixed);
    } else {
        fixed.kind = QN_LEVELS_FP4;
        feedback_codes_for(f, &fixed);
    }
}

#include "quant/llama_search_body.h"

const qn_search QN_SEARCH_TABLE = {fit_affine,   affine_error,  affine_codes,   fit_scale,     scale_error,
                                   scale_levels, feedback_sums, feedback_codes, llama_offsets, llama_scales};
