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
#include "gate/plain_encoder.h"
#include "quant/codec.h"
#include "quant/sub_blocks.h"

enum { SLICE_ELEMENTS = 1 << 16, SAMPLE_ROWS = 12 };

/* Rounding in the encoder's own float32 arithmetic, in steps. */
static const double exact_slack = 1e-3;

typedef struct slice {
    uint64_t first_row, n_rows; /* over all parts; a slice never spans two */
} slice;

typedef struct check {
    const qn_checked_tensor *t;
    size_t block; /* elements */
    uint64_t rows_a_slice, slices_a_part, n_slices;
    double error_limit;
    qn_encoder encoder;
    qn_tensor_figures *results; /* one a slice */
    float **buffers;            /* one a thread */
    size_t elements;            /* of a buffer's part */
    atomic_size_t next;
    atomic_bool out_of_memory;
} check;

size_t qn_checked_tensor_block(const qn_checked_tensor *t)
{
    return t->storage == QN_STORED_AFFINE ? t->affine.group : t->storage == QN_STORED_MXFP4 ? 32 : qn_dtype_get(t->dtype)->block_size;
}

static uint64_t rows_together(const qn_checked_tensor *t) { return t->rows_together > 0 ? t->rows_together : 1; }

static bool is_plain(const qn_checked_tensor *t) { return t->storage == QN_STORED_BLOCKS && qn_dtype_get(t->dtype)->block_size == 1; }

void qn_checked_tensor_decode(const qn_checked_tensor *t, uint64_t first, uint64_t n, float *y)
{
    const uint8_t *at[3] = {0};
    size_t n_cols = (size_t)t->n_cols;
    for (size_t k = 0; k < 3 && t->streams[k] != NULL; k++) {
        at[k] = t->streams[k] + (size_t)first * t->row_bytes[k];
    }
    for (size_t r = 0; r < n; r++) {
        float *out = y + r * n_cols;
        switch (t->storage) {
        case QN_STORED_BLOCKS: qn_decode_row(t->dtype, at[0], out, n_cols); break;
        case QN_STORED_AFFINE:
            qn_decode_affine_row(t->affine, (const uint32_t *)(const void *)at[0], at[1], at[2], t->dtype, out, n_cols);
            break;
        case QN_STORED_MXFP4: qn_decode_mxfp4_row(at[0], at[1], out, n_cols); break;
        }
        for (size_t k = 0; k < 3 && at[k] != NULL; k++) {
            at[k] += t->row_bytes[k];
        }
    }
}

/* ---- scales of a block ---- */

static float load_scale(const uint8_t *p, qn_dtype t, size_t i)
{
    float v;
    qn_decode_row(t, p + i * qn_dtype_get(t)->block_bytes, &v, 1);
    return v;
}

/* Block number b of row `row`. */
static void read_scales(const qn_checked_tensor *t, uint64_t row, size_t b, qn_sub_blocks *s)
{
    if (t->storage == QN_STORED_BLOCKS) {
        (void)qn_sub_blocks_read(t->dtype, t->streams[0] + (size_t)row * t->row_bytes[0] + b * qn_dtype_get(t->dtype)->block_bytes, s);
        return;
    }
    *s = (qn_sub_blocks){.n = 1, .len = qn_checked_tensor_block(t)};
    if (t->storage == QN_STORED_MXFP4) {
        uint8_t e = t->streams[1][(size_t)row * t->row_bytes[1] + b];
        s->scale[0] = s->stored = qn_f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); /* 2^(e - 128): levels are halves */
        s->levels = qn_fp4_levels();
        return;
    }
    s->scale[0] = s->stored = load_scale(t->streams[1] + (size_t)row * t->row_bytes[1], t->dtype, b);
    s->offset[0] = load_scale(t->streams[2] + (size_t)row * t->row_bytes[2], t->dtype, b);
    s->levels = (qn_levels_of){.low = 0, .high = (1 << t->affine.bits) - 1};
}

/* Half a unit in the last place of what stores scales, relative; 0 where scales are exact once stored (sub-block integers). */
static double scale_rounding(const qn_checked_tensor *t)
{
    if (t->storage == QN_STORED_AFFINE) {
        return t->dtype == QN_DTYPE_BF16 ? 0x1p-8 : t->dtype == QN_DTYPE_F16 ? 0x1p-11 : 0x1p-24;
    }
    return 0x1p-11;
}

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

static void add_figures(qn_tensor_figures *a, const qn_tensor_figures *b)
{
    a->n_blocks += b->n_blocks;
    a->n_subs += b->n_subs;
    a->n_relaxed += b->n_relaxed;
    a->squared_error += b->squared_error;
    a->squared_source += b->squared_source;
    a->max_abs_error = b->max_abs_error > a->max_abs_error ? b->max_abs_error : a->max_abs_error;
    for (size_t k = 0; k < QN_FAULT_KINDS; k++) {
        add_faults(&a->faults[k], &b->faults[k]);
    }
    a->source_by_level += b->source_by_level;
    a->level_by_level += b->level_by_level;
    a->source_by_value += b->source_by_value;
    a->squared_value += b->squared_value;
    a->error_steps += b->error_steps;
    a->n_steps += b->n_steps;
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

static void plain_values(const qn_checked_tensor *t, const float *x, float *z, size_t n)
{
    if (t->storage == QN_STORED_AFFINE) {
        qn_plain_affine(t->affine, t->dtype, x, z, n);
    } else if (t->storage == QN_STORED_MXFP4) {
        qn_plain_mlx_mxfp4(x, z, n, false);
    } else {
        qn_plain_blocks(t->dtype, x, z, n);
    }
}

void qn_checked_tensor_plain(const qn_checked_tensor *t, const float *x, float *z, size_t n)
{
    enum { BATCH = 64 };
    if (!is_plain(t)) {
        plain_values(t, x, z, n);
        return;
    }
    for (size_t i = 0; i < n; i += BATCH) {
        uint8_t bytes[4 * BATCH];
        size_t k = n - i < BATCH ? n - i : BATCH;
        qn_encode_row(t->dtype, x + i, bytes, k, NULL);
        qn_decode_row(t->dtype, bytes, z + i, k);
    }
}

static bool may_be(const qn_checked_tensor *t, qn_encoder encoder)
{
    if (encoder == QN_ENCODER_RECODE) {
        return t->recode != NULL;
    }
    if (encoder == QN_ENCODER_PLAIN) {
        return t->storage != QN_STORED_BLOCKS || qn_plain_is_llama(t->dtype);
    }
    return t->storage != QN_STORED_BLOCKS || qn_encode_supported(t->dtype);
}

static void encode_as(const qn_checked_tensor *t, qn_encoder encoder, const float *x, size_t n, uint8_t *bytes, float *z);

/* The greater of two errors, measure by measure. */
static void take_greater(double a[N_MEASURES], const double b[N_MEASURES])
{
    for (size_t k = 0; k < N_MEASURES; k++) {
        a[k] = b[k] > a[k] ? b[k] : a[k];
    }
}

static double least_ratio(const double own[N_MEASURES], const double reference[N_MEASURES], double floor)
{
    double least = INFINITY;
    for (size_t k = 0; k < N_MEASURES; k++) {
        double ratio = own[k] / (reference[k] + floor);
        least = ratio < least ? ratio : least;
    }
    return least;
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
    plain_values(t, x, z, c->block);
    widen(&f->plain_low, &f->plain_high, z, c->block);
    errors_of(x, z, c->block, rms, reference);
    if (t->storage == QN_STORED_MXFP4) { /* mlx has two rules: the worse one */
        qn_plain_mlx_mxfp4(x, z, c->block, true);
        errors_of(x, z, c->block, rms, other);
        take_greater(reference, other);
    }
    double rounding = 2 * greatest * scale_rounding(t);
    double floor = (double)c->block * (rounding * rounding + 0x1p-46); /* 2^-24 is float16's smallest step */
    double least = least_ratio(own, reference, floor);
    if (!(least <= QN_ERROR_LIMIT) && may_be(t, QN_ENCODER_QUERN)) { /* Quern's search without importance is a plain encoder too */
        alignas(16) uint8_t bytes[4 * 256 + 64];
        encode_as(t, QN_ENCODER_QUERN, x, c->block, bytes, z);
        errors_of(x, z, c->block, rms, other);
        take_greater(reference, other);
        least = least_ratio(own, reference, floor);
    }
    if (!(least <= c->error_limit)) {
        count_fault(f, QN_FAULT_ERROR, at.row, at.block, 0, least, true);
    } else if (!(least <= QN_ERROR_LIMIT)) {
        f->n_relaxed++;
    }
}

/* Between neighbouring levels, in units of the scale. */
static double mean_gap(const qn_levels_of *levels)
{
    return levels->table == NULL ? 1 : (double)(levels->high - levels->low) / (double)(levels->n_table - 1);
}

/* How much farther from x the decoded value is than the nearest level's, in steps. */
static void test_nearest(const check *c, block_place at, const qn_sub_blocks *s, const float *x, const float *y, qn_tensor_figures *f)
{
    bool half = scale_rounding(c->t) == 0x1p-11; /* subnormal float16 scales are rounded more coarsely */
    double smallest = half ? 0x1p-25 : 0, relative = scale_rounding(c->t);
    double rounding = smallest > relative * fabs((double)s->stored) ? smallest / fabs((double)s->stored) : relative;
    bool counted[2] = {false, false};
    for (size_t k = 0; k < s->n; k++) {
        double scale = (double)s->scale[k], offset = (double)s->offset[k], step = fabs(scale), worst = 0, worst_rounded = 0;
        double by_level = 0, level_square = 0, error = 0, gap = mean_gap(&s->levels);
        if (!(step > 0)) {
            continue;
        }
        double offset_steps = fabs(offset) / step, offset_moved = fmax(fabs(offset) * relative, offset != 0 ? smallest : 0) / step;
        for (size_t i = k * s->len; i < (k + 1) * s->len; i++) {
            double p = ((double)x[i] - offset) / scale;
            double nearest = (double)qn_nearest_level(&s->levels, (float)p);
            double stored = ((double)y[i] - offset) / scale;
            double v = fabs(p - stored) - fabs(p - nearest);
            double slack = exact_slack * (s->levels.table != NULL ? 10 : 1) + (fabs(p) + offset_steps) * 0x1p-20;
            double moved = slack + 2 * (fabs(p) * rounding + offset_moved);
            worst = v > slack && v > worst ? v : worst;
            worst_rounded = v > moved && v > worst_rounded ? v : worst_rounded;
            by_level += p * stored;
            level_square += stored * stored;
            error += p - stored;
        }
        f->source_by_level += by_level * scale * scale;
        f->level_by_level += level_square * scale * scale;
        f->error_steps += error / gap;
        f->n_steps += s->len;
        if (worst > 0) {
            count_fault(f, QN_FAULT_NOT_NEAREST, at.row, at.block, k, worst, !counted[0]);
            counted[0] = true;
        }
        if (worst_rounded > 0) {
            count_fault(f, QN_FAULT_NOT_ROUNDED, at.row, at.block, k, worst_rounded, !counted[1]);
            counted[1] = true;
        }
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

/* ---- what known encoders make of rows ---- */

/* Decoded values z of what the encoder writes for rows x. `bytes` holds the encoded rows: 4 bytes an element are enough for every type. */
static void encode_as(const qn_checked_tensor *t, qn_encoder encoder, const float *x, size_t n, uint8_t *bytes, float *z)
{
    if (encoder == QN_ENCODER_PLAIN) {
        plain_values(t, x, z, n);
    } else if (t->storage == QN_STORED_AFFINE) {
        size_t packed = n / 8 * t->affine.bits, scales = n / t->affine.group * qn_dtype_get(t->dtype)->block_bytes;
        uint8_t *scale_bytes = bytes + qn_align_up(packed, 16), *bias_bytes = scale_bytes + qn_align_up(scales, 16);
        uint32_t *words = (uint32_t *)(void *)bytes;
        qn_encode_affine_row_fitted(t->affine, x, words, scale_bytes, bias_bytes, t->dtype, n, NULL);
        qn_decode_affine_row(t->affine, words, scale_bytes, bias_bytes, t->dtype, z, n);
    } else if (t->storage == QN_STORED_MXFP4) {
        qn_encode_mxfp4_row(x, bytes, bytes + n / 2, n, NULL);
        qn_decode_mxfp4_row(bytes, bytes + n / 2, z, n);
    } else {
        qn_encode_row(t->dtype, x, bytes, n, NULL);
        qn_decode_row(t->dtype, bytes, z, n);
    }
}

static bool same_values(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (a[i] != b[i]) {
            return false;
        }
    }
    return true;
}

/* A block that another compiler's arithmetic explains: values of the same scale, apart only where the source lies between two codes. */
static bool is_near_tie(const qn_sub_blocks *s, const float *x, const float *y, const float *z)
{
    for (size_t k = 0; k < s->n; k++) {
        double step = fabs((double)s->scale[k]);
        for (size_t i = k * s->len; i < (k + 1) * s->len; i++) {
            double apart = fabs((double)y[i] - (double)z[i]);
            double uneven = fabs(fabs((double)x[i] - (double)y[i]) - fabs((double)x[i] - (double)z[i]));
            if (apart > 0 && !(apart > 0.5 * step && apart < 1.5 * step && uneven < 0.02 * step)) {
                return false;
            }
        }
    }
    return true;
}

/* A group of MLX whose scale and bias are a rounding of mlx's own within its float32 arithmetic (a GPU divides otherwise in the last bit). */
static bool is_rounding_of_plain(const qn_checked_tensor *t, const qn_sub_blocks *s, const float *x, const float *y)
{
    uint32_t packed[32];
    float scale, bias;
    uint8_t codes[128];
    if (t->storage != QN_STORED_AFFINE) {
        return false;
    }
    qn_encode_affine_row(t->affine, x, packed, &scale, &bias, QN_DTYPE_F32, t->affine.group);
    qn_unpack_affine(t->affine.bits, packed, 0, t->affine.group, codes);
    double half_step = t->dtype == QN_DTYPE_F32 ? 0x1p-24 : 0.5;
    const float wish[2] = {scale, bias}, stored[2] = {s->scale[0], s->offset[0]};
    for (size_t k = 0; k < 2; k++) {
        int exponent = 0;
        (void)frexpf(wish[k], &exponent);
        double unit = ldexp(1.0, exponent - (t->dtype == QN_DTYPE_BF16 ? 8 : t->dtype == QN_DTYPE_F16 ? 11 : 24));
        if (fabs((double)stored[k] - (double)wish[k]) > unit * half_step * (1 + 0x1p-10) + (t->dtype == QN_DTYPE_F32 ? unit : 0)) {
            return false;
        }
    }
    for (size_t i = 0; i < t->affine.group; i++) {
        double p = ((double)x[i] - (double)bias) / (double)scale, q = ((double)y[i] - (double)stored[1]) / (double)stored[0];
        if (fabs(q - (double)codes[i]) > 0.01 && !(fabs(p - q) < 0.501)) {
            return false;
        }
    }
    return true;
}

/* ---- slices ---- */

/* What the output was made from: a folder of MLX is made from weights of its scales' type. */
static void narrow_source(const qn_checked_tensor *t, float *x, size_t n)
{
    bool narrower = t->storage == QN_STORED_AFFINE && t->source_dtype != t->dtype &&
                    (t->dtype == QN_DTYPE_BF16 || t->dtype == QN_DTYPE_F16);
    for (size_t i = 0; narrower && i < n; i++) {
        uint8_t bytes[2];
        qn_encode_row(t->dtype, x + i, bytes, 1, NULL);
        qn_decode_row(t->dtype, bytes, x + i, 1);
    }
}

static void read_source(const qn_checked_tensor *t, slice s, float *x)
{
    size_t part = (size_t)(s.first_row / t->n_rows);
    t->read(t->user, part, s.first_row % t->n_rows, s.n_rows, x);
    narrow_source(t, x, (size_t)(s.n_rows * t->n_cols));
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
        f->source_by_value += (double)x[i] * (double)y[i];
        f->squared_value += (double)y[i] * (double)y[i];
        f->max_abs_error = fabs(d) > f->max_abs_error ? fabs(d) : f->max_abs_error;
    }
    widen(&f->low, &f->high, y, n);
}

/* x source, y decoded, z scratch, e what the known encoder gives (if one is known). */
static void check_row(const check *c, uint64_t row, const float *x, const float *y, float *z, const float *e, qn_tensor_figures *f)
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
        read_scales(t, row, b, &s);
        f->n_blocks++;
        f->n_subs += s.n;
        if (!values_finite(&s, by, c->block)) {
            count_fault(f, QN_FAULT_NOT_FINITE, row, b, 0, NAN, true);
            continue;
        }
        const float *be = e + b * c->block;
        if (c->encoder != QN_ENCODER_UNKNOWN && same_values(by, be, c->block)) {
            widen(&f->plain_low, &f->plain_high, by, c->block);
            continue; /* sound: a known encoder's work */
        }
        test_nearest(c, at, &s, bx, by, f);
        if (c->encoder != QN_ENCODER_UNKNOWN && !is_near_tie(&s, bx, by, be) && !is_rounding_of_plain(t, &s, bx, by)) {
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
        encode_as(t, encoder, x, (size_t)(s.n_rows * t->n_cols), bytes, e);
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
    for (uint64_t r = 0; r < s.n_rows; r++) {
        check_row(c, s.first_row + r, x + r * n_cols, y + r * n_cols, z, e + r * n_cols, f);
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

/* The share of blocks of some rows that the encoder gives exactly. */
static double sample_share(check *c, qn_encoder encoder, float *buffer)
{
    const qn_checked_tensor *t = c->t;
    size_t n_cols = (size_t)t->n_cols, n_same = 0, n_all = 0;
    float *x = buffer, *y = x + c->elements, *e = y + c->elements;
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
            n_same += same_values(y + b, e + b, c->block);
            n_all++;
        }
    }
    return n_all > 0 ? (double)n_same / (double)n_all : 0;
}

static qn_encoder find_encoder(check *c, float *buffer)
{
    static const qn_encoder known[] = {QN_ENCODER_PLAIN, QN_ENCODER_QUERN, QN_ENCODER_RECODE};
    for (size_t i = 0; i < sizeof known / sizeof known[0] && !is_plain(c->t); i++) {
        if (may_be(c->t, known[i]) && sample_share(c, known[i], buffer) >= 0.9) {
            return known[i];
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
    c.encoder = opt->encoder;
    if (c.encoder == QN_ENCODER_UNKNOWN && opt->try_encoders) {
        c.encoder = find_encoder(&c, c.buffers[0]);
    }
    qn_pool_run(pool, run_slices, &c);
    if (atomic_load(&c.out_of_memory)) {
        QN_FAIL_MEMORY(err, "the check of a tensor", qn_tensor_check_bytes(t, n_threads));
    }
    begin_figures(out);
    out->encoder = c.encoder;
    for (uint64_t i = 0; i < c.n_slices; i++) {
        add_figures(out, &c.results[i]);
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
