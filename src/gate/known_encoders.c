/* known_encoders.c - see known_encoders.h. */
#include "gate/known_encoders.h"

#include <math.h>

#include "base/alloc.h"
#include "base/half.h"
#include "gate/llama_encoder.h"
#include "gate/plain_encoder.h"
#include "quant/codec.h"

/* Rounding in the encoder's own float32 arithmetic, in steps. */
static const double exact_slack = 1e-3;

static bool is_plain(const qn_checked_tensor *t) { return t->storage == QN_STORED_BLOCKS && qn_dtype_get(t->dtype)->block_size == 1; }

bool qn_checked_tensor_has_powers_of_two(const qn_checked_tensor *t) { return t->storage == QN_STORED_MXFP4 || t->dtype == QN_DTYPE_MXFP4; }

size_t qn_checked_tensor_block(const qn_checked_tensor *t)
{
    return t->storage == QN_STORED_AFFINE ? t->affine.group : t->storage == QN_STORED_MXFP4 ? 32 : qn_dtype_get(t->dtype)->block_size;
}

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

void qn_known_scales(const qn_checked_tensor *t, uint64_t row, size_t b, qn_sub_blocks *s)
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

double qn_known_scale_rounding(const qn_checked_tensor *t)
{
    if (t->storage == QN_STORED_AFFINE) {
        return t->dtype == QN_DTYPE_BF16 ? 0x1p-8 : t->dtype == QN_DTYPE_F16 ? 0x1p-11 : 0x1p-24;
    }
    return 0x1p-11;
}

void qn_known_plain(const qn_checked_tensor *t, const float *x, float *z, size_t n)
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
        qn_known_plain(t, x, z, n);
        return;
    }
    for (size_t i = 0; i < n; i += BATCH) {
        uint8_t bytes[4 * BATCH];
        size_t k = n - i < BATCH ? n - i : BATCH;
        qn_encode_row(t->dtype, x + i, bytes, k, NULL);
        qn_decode_row(t->dtype, bytes, z + i, k);
    }
}

bool qn_known_is_searched(const qn_checked_tensor *t) { return t->storage == QN_STORED_BLOCKS && qn_llama_searches(t->dtype); }

bool qn_known_may_be(const qn_checked_tensor *t, qn_encoder encoder)
{
    if (encoder == QN_ENCODER_RECODE) {
        return t->recode != NULL;
    }
    if (encoder == QN_ENCODER_PLAIN) {
        return true;
    }
    return t->storage != QN_STORED_BLOCKS || qn_encode_supported(t->dtype);
}

/* ---- what known encoders make of rows ---- */

void qn_known_encode(const qn_checked_tensor *t, qn_encoder encoder, const float *x, size_t n, uint8_t *bytes, float *z)
{
    if (encoder == QN_ENCODER_PLAIN && qn_known_is_searched(t)) {
        qn_llama_blocks(t->dtype, false, x, z, n);
    } else if (encoder == QN_ENCODER_PLAIN) {
        qn_known_plain(t, x, z, n);
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

bool qn_known_same(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (a[i] != b[i]) {
            return false;
        }
    }
    return true;
}

/* The distance of two values if they are neighbouring levels of the sub-block, in steps; 0 if they are not. */
static double neighbours_gap(const qn_levels_of *levels, double a, double b)
{
    double low = a < b ? a : b, apart = fabs(a - b);
    if (levels->table == NULL) {
        return apart > 0.5 && apart < 1.5 ? 1 : 0;
    }
    for (size_t i = 0; i + 1 < levels->n_table; i++) {
        double gap = levels->table[i + 1] - levels->table[i];
        if (gap > 0 && fabs(low - levels->table[i]) < 0.25) {
            return fabs(apart - gap) < 0.25 ? gap : 0;
        }
    }
    return 0;
}

/* A block that another compiler's arithmetic explains: values of the same scale, apart only where the source lies between two codes. */
static bool is_near_tie(const qn_sub_blocks *s, const float *x, const float *y, const float *z)
{
    for (size_t k = 0; k < s->n; k++) {
        double scale = (double)s->scale[k], offset = (double)s->offset[k];
        for (size_t i = k * s->len; i < (k + 1) * s->len; i++) {
            double uneven = fabs(fabs((double)x[i] - (double)y[i]) - fabs((double)x[i] - (double)z[i]));
            if (y[i] == z[i]) {
                continue;
            }
            double gap = scale != 0 ? neighbours_gap(&s->levels, ((double)y[i] - offset) / scale, ((double)z[i] - offset) / scale) : 0;
            if (!(gap > 0 && uneven < 0.02 * fabs(scale))) {
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

bool qn_known_explains(const qn_checked_tensor *t, const qn_sub_blocks *s, const float *x, const float *y, const float *z)
{
    return is_near_tie(s, x, y, z) || is_rounding_of_plain(t, s, x, y);
}

double qn_known_excess(const qn_sub_blocks *s, size_t k, float x, float y, double *slack)
{
    double scale = (double)s->scale[k], offset = (double)s->offset[k], p = ((double)x - offset) / scale;
    double nearest = (double)qn_nearest_level(&s->levels, (float)p), stored = ((double)y - offset) / scale;
    double excess = fabs(p - stored) - fabs(p - nearest);
    *slack = exact_slack * (s->levels.table != NULL ? 10 : 1) + (fabs(p) + fabs(offset / scale)) * 0x1p-20;
    return excess > *slack ? excess : 0;
}

/* ---- what the output was made from ---- */

/* What rounds to infinity stays: no sound output was made of that. */
static void round_to(qn_dtype type, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t bytes[2];
        float rounded;
        qn_encode_row(type, x + i, bytes, 1, NULL);
        qn_decode_row(type, bytes, &rounded, 1);
        x[i] = isfinite(rounded) ? rounded : x[i];
    }
}

static bool is_half(qn_dtype t) { return t == QN_DTYPE_F16 || t == QN_DTYPE_BF16; }

void qn_known_narrow(const qn_checked_tensor *t, float *x, size_t n)
{
    if (is_half(t->by_way)) {
        round_to(t->by_way, x, n);
    }
    if (t->storage == QN_STORED_AFFINE && t->source_dtype != t->dtype && is_half(t->dtype)) {
        round_to(t->dtype, x, n);
    }
}
