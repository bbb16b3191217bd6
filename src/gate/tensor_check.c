/* tensor_check.c - see tensor_check.h.
 *
 * The tests of a block, all against the source's values x with decoded values y:
 *   finite       every y.
 *   plain types  y is x rounded to the type, bit for bit; an x that rounds to infinity has no such y, and is not sound as the greatest one.
 *   error        sum w (x - y)^2 at most 1.25 times that of the plain encoder, plus a floor for the rounding of stored scales, in one of the
 *                measures that encoders without an importance matrix have: w = 1, w = 1 + |x| / 2 rms, w = x^2.
 *   nearest      under the stored scale and offset no other code would be nearer to x. Sound encoders that round after the scales are stored
 *                leave nothing; those that use the scale before it was rounded leave at most what the rounding moves (limit below).
 *   encoder      where a known encoder gives nearly all blocks of a sample, all must be what it gives.
 */
#include "gate/tensor_check.h"

#include <math.h>
#include <stdalign.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "gate/known_encoders.h"
#include "gate/llama_encoder.h"
#include "gate/plain_encoder.h"
#include "gate/sums.h"
#include "quant/codec.h"

enum { SLICE_ELEMENTS = 1 << 16, SAMPLE_ROWS = 12 };

typedef struct slice {
    uint64_t first_row, n_rows; /* over all parts; a slice never spans two */
} slice;

typedef struct check {
    const qn_checked_tensor *t;
    size_t block; /* elements */
    uint64_t rows_a_slice, slices_a_part, n_slices;
    double error_limit;
    qn_encoder encoder;
    bool with_rules;            /* second round: what known encoders make of the source is summed up too */
    qn_tensor_figures *results; /* one a slice */
    float **buffers;            /* one a thread */
    size_t elements;            /* of a buffer's part */
    atomic_size_t next;
    atomic_bool out_of_memory;
} check;

static uint64_t rows_together(const qn_checked_tensor *t) { return t->rows_together > 0 ? t->rows_together : 1; }

static bool is_plain(const qn_checked_tensor *t) { return t->storage == QN_STORED_BLOCKS && qn_dtype_get(t->dtype)->block_size == 1; }

/* ---- counting ---- */

static void count_fault(qn_tensor_figures *f, qn_fault_kind kind, uint64_t row, size_t block, size_t sub, double figure, bool new_block)
{
    qn_fault_count *c = &f->faults[kind];
    qn_fault_place p = {.row = row, .block = block, .sub = sub, .figure = figure};
    c->n_subs++;
    if (!new_block) {
        c->worst = figure > c->worst.figure ? p : c->worst;
        return;
    }
    if (c->n_blocks == 0) {
        c->first = c->worst = p;
        c->n_rows = 1;
    } else if (row != c->last_row) {
        c->n_rows++;
        c->second = c->n_rows == 2 ? p : c->second;
    }
    c->last_row = row;
    c->worst = figure > c->worst.figure || !isfinite(figure) ? p : c->worst;
    c->n_blocks++;
}

/* b comes after a. */
static void add_faults(qn_fault_count *a, const qn_fault_count *b)
{
    if (b->n_blocks == 0) {
        return;
    }
    if (a->n_blocks == 0) {
        *a = *b;
        return;
    }
    if (a->n_rows == 1) {
        a->second = b->first;
    }
    a->worst = b->worst.figure > a->worst.figure ? b->worst : a->worst;
    a->n_blocks += b->n_blocks;
    a->n_subs += b->n_subs;
    a->n_rows += b->n_rows;
}

static void begin_figures(qn_tensor_figures *f)
{
    *f = (qn_tensor_figures){.low = INFINITY, .high = -INFINITY, .plain_low = INFINITY, .plain_high = -INFINITY};
}

static void widen(float *low, float *high, const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        *low = v[i] < *low ? v[i] : *low;
        *high = v[i] > *high ? v[i] : *high;
    }
}

static void add_sums(qn_tensor_sums *a, const qn_tensor_sums *b)
{
    a->source_by_level += b->source_by_level;
    a->level_by_level += b->level_by_level;
    a->source_by_value += b->source_by_value;
    a->squared_value += b->squared_value;
    a->squared_error += b->squared_error;
    a->squared_source += b->squared_source;
    a->error_steps += b->error_steps;
    a->n_steps += b->n_steps;
}

static void add_figures(qn_tensor_figures *a, const qn_tensor_figures *b)
{
    a->n_blocks += b->n_blocks;
    a->n_subs += b->n_subs;
    a->n_relaxed += b->n_relaxed;
    a->squared_error += b->squared_error;
    a->squared_source += b->squared_source;
    a->tested_error += b->tested_error;
    a->tested_plain += b->tested_plain;
    a->n_tested += b->n_tested;
    a->n_telling += b->n_telling;
    a->n_joined += b->n_joined;
    a->max_abs_error = b->max_abs_error > a->max_abs_error ? b->max_abs_error : a->max_abs_error;
    for (size_t k = 0; k < QN_FAULT_KINDS; k++) {
        add_faults(&a->faults[k], &b->faults[k]);
    }
    add_sums(&a->sums, &b->sums);
    for (size_t k = 0; k < QN_SCALE_RULES; k++) {
        add_sums(&a->rules[k], &b->rules[k]);
    }
    a->low = b->low < a->low ? b->low : a->low;
    a->high = b->high > a->high ? b->high : a->high;
    a->plain_low = b->plain_low < a->plain_low ? b->plain_low : a->plain_low;
    a->plain_high = b->plain_high > a->plain_high ? b->plain_high : a->plain_high;
}

/* ---- the tests of a block ---- */

typedef struct block_place {
    uint64_t row;
    size_t block;
} block_place;

enum { N_MEASURES = 3 };

/* Squared errors of a block: plain, weighted by 1 + |x| / (2 rms), and by x^2 / rms^2. */
static void errors_of(const float *x, const float *y, size_t n, double rms, double out[N_MEASURES])
{
    double plain = 0, mixed = 0, square = 0, inverse = rms > 0 ? 1 / rms : 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i], relative = fabs((double)x[i]) * inverse;
        plain += d * d;
        mixed += d * d * (1 + 0.5 * relative);
        square += d * d * relative * relative;
    }
    out[0] = plain;
    out[1] = mixed;
    out[2] = square;
}

/* The greater of two errors, measure by measure. */
static void take_greater(double a[N_MEASURES], const double b[N_MEASURES])
{
    for (size_t k = 0; k < N_MEASURES; k++) {
        a[k] = b[k] > a[k] ? b[k] : a[k];
    }
}

/* Encoders of these types weigh values by their size, importance matrix or not. */
static bool is_weighted(const qn_checked_tensor *t)
{
    return t->storage == QN_STORED_BLOCKS && (qn_dtype_get(t->dtype)->block_size == 256 || t->dtype == QN_DTYPE_IQ4_NL) &&
           t->dtype != QN_DTYPE_TQ1_0 && t->dtype != QN_DTYPE_TQ2_0;
}

/* Weights that follow x say nothing of values that are zero in the source, and little of small ones: where they are what counts, the unweighted error may
 * still be this much greater at most. (Most seen in sound blocks: 1.74 in IQ4_NL.) */
static const double unweighted_limit = 4;

/* The least over the measures that count; no error at all is none too large, where nothing can be held either. */
static double least_ratio(const check *c, const double own[N_MEASURES], const double reference[N_MEASURES], double floor)
{
    double unweighted = own[0] == 0 ? 0 : own[0] / (reference[0] + floor), least = unweighted;
    bool weighs = is_weighted(c->t) || c->error_limit > QN_ERROR_LIMIT;
    for (size_t k = 1; k < N_MEASURES && weighs && unweighted <= unweighted_limit * c->error_limit / QN_ERROR_LIMIT; k++) {
        double ratio = own[k] == 0 ? 0 : own[k] / (reference[k] + floor);
        least = ratio < least ? ratio : least;
    }
    return least;
}

static bool has_half_scales(const qn_checked_tensor *t)
{
    return t->storage == QN_STORED_AFFINE ? t->dtype == QN_DTYPE_F16
                                          : t->storage == QN_STORED_BLOCKS && !qn_checked_tensor_has_powers_of_two(t);
}

/* Half the smallest scale that the type can store. */
static double half_smallest_scale(const qn_checked_tensor *t)
{
    return has_half_scales(t) ? 0x1p-25 : t->storage == QN_STORED_AFFINE && t->dtype == QN_DTYPE_BF16 ? 0x1p-134 : 0;
}

/* The greatest level in units of the stored float16. */
static double levels_a_unit(const qn_checked_tensor *t)
{
    if (t->storage == QN_STORED_AFFINE) {
        return (1 << t->affine.bits) - 1;
    }
    switch (t->dtype) {
    case QN_DTYPE_Q4_0: return 8;
    case QN_DTYPE_Q5_0: return 16;
    case QN_DTYPE_Q4_1: return 15;
    case QN_DTYPE_Q5_1: return 31;
    case QN_DTYPE_Q8_0:
    case QN_DTYPE_IQ4_NL: return 127;
    case QN_DTYPE_IQ4_XS: return 32 * 127;
    case QN_DTYPE_Q2_K: return 15 * 3;
    case QN_DTYPE_Q3_K: return 32 * 4;
    case QN_DTYPE_Q4_K: return 63 * 15;
    case QN_DTYPE_Q5_K: return 63 * 31;
    case QN_DTYPE_Q6_K: return 128 * 32;
    default: return 1;
    }
}

/* The searches of Quern and llama.cpp without importance are plain encoders too, and among weights of which few are large now the one and now the
 * other is several times better; llama.cpp's, also by how its compiler rounds. */
static void take_others(const check *c, const float *x, float *z, double rms, double reference[N_MEASURES])
{
    double other[N_MEASURES];
    if (qn_known_may_be(c->t, QN_ENCODER_QUERN)) {
        alignas(16) uint8_t bytes[4 * 256 + 64];
        qn_known_encode(c->t, QN_ENCODER_QUERN, x, c->block, bytes, z);
        errors_of(x, z, c->block, rms, other);
        take_greater(reference, other);
    }
    for (int fused = 0; fused < 2 && qn_known_is_searched(c->t); fused++) {
        qn_llama_blocks(c->t->dtype, fused == 1, x, z, c->block);
        errors_of(x, z, c->block, rms, other);
        take_greater(reference, other);
    }
}

static void test_error(const check *c, block_place at, const float *x, const float *y, float *z, qn_tensor_figures *f)
{
    const qn_checked_tensor *t = c->t;
    double sum = 0, greatest = 0, own[N_MEASURES], reference[N_MEASURES], other[N_MEASURES];
    for (size_t i = 0; i < c->block; i++) {
        sum += (double)x[i] * (double)x[i];
        greatest = fabs((double)x[i]) > greatest ? fabs((double)x[i]) : greatest;
    }
    double rms = sqrt(sum / (double)c->block);
    errors_of(x, y, c->block, rms, own);
    qn_known_plain(t, x, z, c->block);
    double smallest = 4 * half_smallest_scale(t); /* twice the smallest step */
    if (!has_half_scales(t) || greatest > 4 * levels_a_unit(t) * 0x1p-24) {
        widen(&f->plain_low, &f->plain_high, z, c->block);
    }
    errors_of(x, z, c->block, rms, reference);
    if (t->storage == QN_STORED_MXFP4) { /* mlx has two rules: the worse one */
        qn_plain_mlx_mxfp4(x, z, c->block, true);
        errors_of(x, z, c->block, rms, other);
        take_greater(reference, other);
    }
    double rounding = 2 * greatest * qn_known_scale_rounding(t);
    double floor = (double)c->block * (rounding * rounding + smallest * smallest);
    double least = least_ratio(c, own, reference, floor);
    if (!(least <= QN_ERROR_LIMIT)) {
        take_others(c, x, z, rms, reference);
        least = least_ratio(c, own, reference, floor);
    }
    f->tested_error += own[0];
    f->tested_plain += reference[0] + floor;
    f->n_tested++;
    if (!(least <= c->error_limit)) {
        count_fault(f, QN_FAULT_ERROR, at.row, at.block, 0, least, true);
    } else if (!(least <= QN_ERROR_LIMIT)) {
        f->n_relaxed++;
    }
}

/* Values beyond what the greatest float16 scale reaches: whatever holds them holds something else. */
static bool is_beyond_range(const qn_checked_tensor *t, const float *x, size_t n, double *greatest)
{
    *greatest = 0;
    for (size_t i = 0; i < n; i++) {
        *greatest = fabs((double)x[i]) > *greatest ? fabs((double)x[i]) : *greatest;
    }
    return *greatest > 65504 && has_half_scales(t) && *greatest > 65504 * (levels_a_unit(t) + 1);
}

/* Between neighbouring levels, in units of the scale. */
static double mean_gap(const qn_levels_of *levels)
{
    return levels->table == NULL ? 1 : (double)(levels->high - levels->low) / (double)(levels->n_table - 1);
}

/* Whether a sub-block says whether scales are right: not where it has so few values that all its errors are the same few, nor where the stored scale
 * has so few bits that its rounding is all there is to see. Both would add up over a tensor where all blocks are of the kind. */
static bool has_say(const float *x, size_t n, double rounding)
{
    enum { VALUES_MIN = 4 };
    float seen[VALUES_MIN];
    size_t n_seen = 0;
    for (size_t i = 0; i < n && n_seen < VALUES_MIN; i++) {
        size_t k = 0;
        while (k < n_seen && seen[k] != x[i]) {
            k++;
        }
        if (k == n_seen) {
            seen[n_seen++] = x[i];
        }
    }
    return n_seen == VALUES_MIN && rounding < 0x1p-7;
}

static void add_value(qn_tensor_sums *s, double x, double y)
{
    s->source_by_value += x * y;
    s->squared_value += y * y;
    s->squared_error += (x - y) * (x - y);
    s->squared_source += x * x;
}

/* What known encoders make of a block, in the sub-blocks that speak, in steps of what is stored. */
static void sum_rules(const check *c, const qn_sub_blocks *s, const bool *speaks, const float *x, qn_tensor_figures *f)
{
    const qn_checked_tensor *t = c->t;
    alignas(16) uint8_t bytes[4 * 256 + 64];
    float z[256];
    for (size_t rule = 0; rule < QN_SCALE_RULES; rule++) {
        bool searched = qn_known_is_searched(t);
        if (rule >= 2 && !searched && !qn_checked_tensor_has_powers_of_two(t)) {
            break;
        }
        switch (rule) {
        case 0: qn_known_plain(t, x, z, c->block); break;
        case 1: qn_known_encode(t, QN_ENCODER_QUERN, x, c->block, bytes, z); break;
        default:
            if (searched) {
                qn_llama_blocks(t->dtype, rule == 3, x, z, c->block);
            } else if (rule == 2) {
                qn_plain_mlx_mxfp4(x, z, c->block, true);
            } else {
                qn_plain_blocks(QN_DTYPE_MXFP4, x, z, c->block);
            }
        }
        for (size_t i = 0; i < c->block; i++) {
            size_t k = i / s->len;
            if (speaks[k]) {
                add_value(&f->rules[rule], (double)x[i], (double)z[i]);
                f->rules[rule].error_steps += ((double)x[i] - (double)z[i]) / ((double)s->scale[k] * mean_gap(&s->levels));
                f->rules[rule].n_steps++;
            }
        }
    }
}

/* How much farther from x the decoded value is than the nearest level's, in steps. */
static void test_nearest(const check *c, block_place at, const qn_sub_blocks *s, const float *x, const float *y, qn_tensor_figures *f)
{
    bool powers = qn_checked_tensor_has_powers_of_two(c->t), speaks[QN_SUB_BLOCKS_MAX] = {0};
    double smallest = half_smallest_scale(c->t), relative = qn_known_scale_rounding(c->t); /* subnormal scales are rounded more coarsely */
    double rounding = smallest > relative * fabs((double)s->stored) ? smallest / fabs((double)s->stored) : relative;
    bool counted[2] = {false, false};
    for (size_t k = 0; k < s->n; k++) {
        double scale = (double)s->scale[k], offset = (double)s->offset[k], step = fabs(scale), worst = 0, worst_rounded = 0;
        double gap = mean_gap(&s->levels);
        if (!(step > 0)) {
            continue;
        }
        double offset_moved = fmax(fabs(offset) * relative, offset != 0 ? smallest : 0) / step;
        speaks[k] = has_say(x + k * s->len, s->len, powers ? 0 : rounding);
        for (size_t i = k * s->len; i < (k + 1) * s->len; i++) {
            double p = ((double)x[i] - offset) / scale, stored = ((double)y[i] - offset) / scale, slack;
            double v = qn_known_excess(s, k, x[i], y[i], &slack);
            double moved = slack + 2 * (fabs(p) * rounding + offset_moved);
            worst = v > worst ? v : worst;
            worst_rounded = v > moved && v > worst_rounded ? v : worst_rounded;
            if (speaks[k]) {
                add_value(&f->sums, (double)x[i], (double)y[i]);
                f->sums.source_by_level += p * stored * scale * scale;
                f->sums.level_by_level += stored * stored * scale * scale;
                f->sums.error_steps += (p - stored) / gap;
                f->sums.n_steps++;
            }
        }
        if (worst > 0) {
            count_fault(f, QN_FAULT_NOT_NEAREST, at.row, at.block, k, worst, !counted[0]);
            counted[0] = true;
        }
        if (worst_rounded > 0) {
            count_fault(f, QN_FAULT_NOT_ROUNDED, at.row, at.block, k, worst_rounded, !counted[1]);
            counted[1] = true;
        }
    }
    if (c->with_rules) {
        sum_rules(c, s, speaks, x, f);
    }
}

static bool values_finite(const qn_sub_blocks *s, const float *y, size_t n)
{
    bool finite = qn_find_non_finite(y, n) == n;
    for (size_t k = 0; k < s->n; k++) {
        finite = finite && isfinite(s->scale[k]) && isfinite(s->offset[k]);
    }
    return finite;
}

/* ---- slices ---- */

static void read_source(const qn_checked_tensor *t, slice s, float *x)
{
    size_t part = (size_t)(s.first_row / t->n_rows);
    t->read(t->user, part, s.first_row % t->n_rows, s.n_rows, x);
    qn_known_narrow(t, x, (size_t)(s.n_rows * t->n_cols));
}

/* The least magnitude that rounds to infinity: half a unit in the last place above the greatest value. */
static float range_of(qn_dtype t) { return t == QN_DTYPE_F16 ? 65520.0f : t == QN_DTYPE_BF16 ? 0x1.ffp127f : INFINITY; }

/* z: scratch for a row. */
static void check_plain_row(const qn_checked_tensor *t, uint64_t row, const float *x, const float *y, float *z, qn_tensor_figures *f)
{
    size_t n = (size_t)t->n_cols;
    float range = range_of(t->dtype);
    bool counted = false, counted_range = false;
    qn_checked_tensor_plain(t, x, z, n);
    widen(&f->plain_low, &f->plain_high, z, n);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(y[i])) {
            count_fault(f, QN_FAULT_NOT_FINITE, row, i, 0, (double)y[i], true);
        } else if (y[i] != z[i]) {
            count_fault(f, QN_FAULT_NOT_EQUAL, row, i, 0, fabs((double)y[i] - (double)z[i]), !counted);
            counted = true;
        } else if (fabsf(x[i]) >= range) {
            count_fault(f, QN_FAULT_RANGE, row, i, 0, fabs((double)x[i]), !counted_range);
            counted_range = true;
        }
    }
}

static void sum_errors(const float *x, const float *y, size_t n, qn_tensor_figures *f)
{
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i];
        f->squared_error += d * d;
        f->squared_source += (double)x[i] * (double)x[i];
        f->max_abs_error = fabs(d) > f->max_abs_error ? fabs(d) : f->max_abs_error;
    }
    widen(&f->low, &f->high, y, n);
}

/* x source, y decoded, z scratch, e what the known encoder gives (if one is known), joined what it gives with joined multiply-adds (or NULL). */
static void check_row(const check *c, uint64_t row, const float *x, const float *y, float *z, const float *e, const float *joined,
                      qn_tensor_figures *f)
{
    const qn_checked_tensor *t = c->t;
    sum_errors(x, y, (size_t)t->n_cols, f);
    if (is_plain(t)) {
        f->n_blocks += t->n_cols;
        check_plain_row(t, row, x, y, z, f);
        return;
    }
    for (size_t b = 0; b < t->n_cols / c->block; b++) {
        qn_sub_blocks s;
        block_place at = {.row = row, .block = b};
        const float *bx = x + b * c->block, *by = y + b * c->block;
        qn_known_scales(t, row, b, &s);
        f->n_blocks++;
        f->n_subs += s.n;
        if (!values_finite(&s, by, c->block)) {
            count_fault(f, QN_FAULT_NOT_FINITE, row, b, 0, NAN, true);
            continue;
        }
        const float *be = e + b * c->block, *bj = joined != NULL ? joined + b * c->block : be;
        double greatest;
        if (is_beyond_range(t, bx, c->block, &greatest)) {
            count_fault(f, QN_FAULT_RANGE, row, b, 0, greatest, true);
            continue;
        }
        if (c->encoder != QN_ENCODER_UNKNOWN && qn_known_same(by, be, c->block)) {
            widen(&f->plain_low, &f->plain_high, by, c->block);
            f->n_telling += !qn_known_same(bj, be, c->block);
            continue; /* sound: a known encoder's work */
        }
        f->n_joined += joined != NULL && qn_known_same(by, bj, c->block);
        test_nearest(c, at, &s, bx, by, f);
        if (c->encoder != QN_ENCODER_UNKNOWN && !qn_known_explains(t, &s, bx, by, be)) {
            double own[N_MEASURES], known[N_MEASURES];
            errors_of(bx, by, c->block, 0, own);
            errors_of(bx, be, c->block, 0, known);
            count_fault(f, QN_FAULT_NOT_ENCODER, row, b, 0, known[0] > 0 ? own[0] / known[0] : own[0], true);
        }
        test_error(c, at, bx, by, z, f);
    }
}

static slice slice_at(const check *c, uint64_t index)
{
    uint64_t part = index / c->slices_a_part, first = index % c->slices_a_part * c->rows_a_slice, left = c->t->n_rows - first;
    return (slice){.first_row = part * c->t->n_rows + first, .n_rows = left < c->rows_a_slice ? left : c->rows_a_slice};
}

/* Decoded values e of what an encoder makes of the slice, whose source is x. */
static void encode_slice(check *c, qn_encoder encoder, slice s, const float *x, uint8_t *bytes, float *e)
{
    const qn_checked_tensor *t = c->t;
    if (encoder != QN_ENCODER_RECODE) {
        qn_known_encode(t, encoder, x, (size_t)(s.n_rows * t->n_cols), bytes, e);
    } else if (!t->recode(t->recode_user, (size_t)(s.first_row / t->n_rows), s.first_row % t->n_rows, s.n_rows, e)) {
        atomic_store(&c->out_of_memory, true);
    }
}

static void check_slice(check *c, uint64_t index, float *buffer)
{
    const qn_checked_tensor *t = c->t;
    slice s = slice_at(c, index);
    size_t n_cols = (size_t)t->n_cols;
    float *x = buffer, *y = x + c->elements, *e = y + c->elements, *z = e + c->elements;
    uint8_t *bytes = (uint8_t *)(z + c->elements);
    qn_tensor_figures *f = &c->results[index];
    begin_figures(f);
    read_source(t, s, x);
    qn_checked_tensor_decode(t, s.first_row, s.n_rows, y);
    if (c->encoder != QN_ENCODER_UNKNOWN) {
        encode_slice(c, c->encoder, s, x, bytes, e);
    }
    float *joined = NULL;
    if (c->encoder == QN_ENCODER_PLAIN && qn_known_is_searched(t)) {
        joined = (float *)(void *)bytes; /* which this encoder has no use for; 4 an element */
        qn_llama_blocks(t->dtype, true, x, joined, (size_t)s.n_rows * n_cols);
    }
    for (uint64_t r = 0; r < s.n_rows; r++) {
        check_row(c, s.first_row + r, x + r * n_cols, y + r * n_cols, z, e + r * n_cols, joined != NULL ? joined + r * n_cols : NULL, f);
    }
}

static void run_slices(void *arg, qn_member m)
{
    check *c = arg;
    for (size_t i = atomic_fetch_add(&c->next, 1); i < c->n_slices; i = atomic_fetch_add(&c->next, 1)) {
        check_slice(c, i, c->buffers[m.index]);
    }
}

/* ---- which encoder ---- */

static bool is_one_value(const float *x, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        if (x[i] != x[0]) {
            return false;
        }
    }
    return true;
}

enum { BLOCK_MAX = 256 };

typedef struct sample_counts {
    size_t n, n_same;         /* blocks that say something: of more than one value */
    size_t n_own, n_own_same; /* of these, blocks that plain encoding makes otherwise */
} sample_counts;

static double share_of(size_t n_same, size_t n) { return n > 0 ? (double)n_same / (double)n : 0; }

/* How many blocks of some rows the encoder gives exactly. */
static sample_counts count_sample(check *c, qn_encoder encoder, float *buffer)
{
    const qn_checked_tensor *t = c->t;
    sample_counts counts = {0};
    size_t n_cols = (size_t)t->n_cols;
    float *x = buffer, *y = x + c->elements, *e = y + c->elements, plain[BLOCK_MAX];
    uint8_t *bytes = (uint8_t *)(e + 2 * c->elements);
    uint64_t n_slices = c->n_slices < SAMPLE_ROWS ? c->n_slices : SAMPLE_ROWS;
    for (uint64_t i = 0; i < n_slices; i++) {
        slice s = slice_at(c, i * c->n_slices / n_slices);
        uint64_t unit = encoder == QN_ENCODER_RECODE ? rows_together(t) : 1, rows = (SAMPLE_ROWS / n_slices + unit - 1) / unit * unit;
        s.n_rows = rows < s.n_rows && rows > 0 ? rows : s.n_rows;
        size_t n = (size_t)s.n_rows * n_cols;
        read_source(t, s, x);
        qn_checked_tensor_decode(t, s.first_row, s.n_rows, y);
        encode_slice(c, encoder, s, x, bytes, e);
        for (size_t b = 0; b < n; b += c->block) {
            if (is_one_value(x + b, c->block)) {
                continue;
            }
            bool same = qn_known_same(y + b, e + b, c->block);
            counts.n++;
            counts.n_same += same;
            qn_known_plain(t, x + b, plain, c->block);
            if (!qn_known_same(plain, e + b, c->block)) {
                counts.n_own++;
                counts.n_own_same += same;
            }
        }
    }
    return counts;
}

/* Where none is known, *share and *of: see the figures. */
static qn_encoder find_encoder(check *c, float *buffer, double *share, qn_encoder *of)
{
    static const qn_encoder known[] = {QN_ENCODER_PLAIN, QN_ENCODER_QUERN, QN_ENCODER_RECODE};
    for (size_t i = 0; i < sizeof known / sizeof known[0] && !is_plain(c->t); i++) {
        sample_counts counts = {0};
        if (qn_known_may_be(c->t, known[i])) {
            counts = count_sample(c, known[i], buffer);
        }
        if (share_of(counts.n_same, counts.n) >= 0.9) {
            return known[i];
        }
        double own = share_of(counts.n_own_same, counts.n_own);
        if (known[i] != QN_ENCODER_PLAIN && own > *share) {
            *share = own;
            *of = known[i];
        }
    }
    return QN_ENCODER_UNKNOWN;
}

/* ---- the whole ---- */

static void plan(check *c, const qn_checked_tensor *t)
{
    uint64_t unit = rows_together(t), rows = SLICE_ELEMENTS / t->n_cols / unit * unit;
    rows = rows < unit ? unit : rows;
    c->t = t;
    c->block = qn_checked_tensor_block(t);
    c->rows_a_slice = rows < t->n_rows ? rows : t->n_rows;
    c->slices_a_part = (t->n_rows + c->rows_a_slice - 1) / c->rows_a_slice;
    c->n_slices = c->slices_a_part * t->n_parts;
    c->elements = qn_align_up((size_t)(c->rows_a_slice * t->n_cols), 64);
}

static size_t buffer_bytes(const check *c) { return 5 * c->elements * sizeof(float) + 256; }

size_t qn_tensor_check_bytes(const qn_checked_tensor *t, size_t n_threads)
{
    check c = {0};
    plan(&c, t);
    return n_threads * buffer_bytes(&c) + (size_t)c.n_slices * sizeof *c.results;
}

static void count_zero_parts(const check *c, qn_tensor_figures *out)
{
    for (size_t part = 0; part < c->t->n_parts; part++) {
        qn_tensor_figures sum;
        begin_figures(&sum);
        for (uint64_t i = part * c->slices_a_part; i < (part + 1) * c->slices_a_part; i++) {
            add_figures(&sum, &c->results[i]);
        }
        bool zero = sum.low == 0 && sum.high == 0, plain_is_zero = sum.plain_low >= 0 && sum.plain_high <= 0;
        if (zero && !plain_is_zero) {
            out->zero_part = out->n_zero_parts == 0 ? part : out->zero_part;
            out->n_zero_parts++;
        }
    }
}

quern_status qn_tensor_check(const qn_checked_tensor *t, const qn_check_options *opt, qn_pool *pool, qn_tensor_figures *out,
                             quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_threads = qn_pool_n_threads(pool);
    check c = {0};
    plan(&c, t);
    atomic_init(&c.next, 0);
    atomic_init(&c.out_of_memory, false);
    memset(out, 0, sizeof *out);
    c.results = qn_calloc((size_t)c.n_slices, sizeof *c.results);
    c.buffers = qn_calloc(n_threads, sizeof *c.buffers);
    if (c.results == NULL || c.buffers == NULL) {
        QN_FAIL_MEMORY(err, "the check of a tensor", qn_tensor_check_bytes(t, n_threads));
    }
    for (size_t i = 0; i < n_threads; i++) {
        c.buffers[i] = qn_malloc_aligned(buffer_bytes(&c));
        if (c.buffers[i] == NULL) {
            QN_FAIL_MEMORY(err, "the check of a tensor", qn_tensor_check_bytes(t, n_threads));
        }
    }
    c.error_limit = opt->error_limit;
    double share = 0;
    qn_encoder of = QN_ENCODER_UNKNOWN;
    c.encoder = opt->encoder;
    if (c.encoder == QN_ENCODER_UNKNOWN && opt->try_encoders) {
        c.encoder = find_encoder(&c, c.buffers[0], &share, &of);
    }
    for (int round = 0; round < 2; round++) {
        atomic_store(&c.next, 0);
        qn_pool_run(pool, run_slices, &c);
        if (atomic_load(&c.out_of_memory)) {
            QN_FAIL_MEMORY(err, "the check of a tensor", qn_tensor_check_bytes(t, n_threads));
        }
        begin_figures(out);
        out->error_limit = c.error_limit;
        out->encoder = c.encoder;
        out->share = share;
        out->of = of;
        for (uint64_t i = 0; i < c.n_slices; i++) {
            add_figures(out, &c.results[i]);
        }
        c.with_rules = qn_sums_judge(out, true).fault != QN_SUMS_SOUND;
        if (!c.with_rules) {
            break;
        }
    }
    count_zero_parts(&c, out);
done:
    for (size_t i = 0; c.buffers != NULL && i < n_threads; i++) {
        qn_free_aligned(c.buffers[i]);
    }
    qn_free(c.buffers);
    qn_free(c.results);
    return status;
}
