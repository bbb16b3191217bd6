/* ops_scalar.c - qn_ops in plain C: the form that says what the bits are. Written to be read, not to be fast.
 *
 * Invariant: every operation stands in the order that ops.h states; the vector files are tested against this one for equal bits. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/kv_q8_0.h"
#include "kernels/ops_int.h"
#include "kernels/vmath.h"
#include "kernels/vmath_exp64.h"

/* The tree of matmul.h over 16 lanes. */
static float sum_lanes(const float lane[16])
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

static void rms_norm(float *y, const float *x, const float *w, size_t n, float eps)
{
    qn_ops_count_call(QN_ISA_SCALAR);
    float lane[16] = {0};
    for (size_t i = 0; i < n; i++) {
        lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    }
    float r = 1.0f / sqrtf(sum_lanes(lane) / (float)n + eps);
    for (size_t i = 0; i < n; i++) {
        float scaled = x[i] * r;
        y[i] = w != NULL ? scaled * w[i] : scaled;
    }
}

static void axpy(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = fmaf(a, x[i], y[i]);
    }
}

static void add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] += x[i];
    }
}

static void silu_mul(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = gate[i] / (1.0f + qn_expf(-gate[i])) * up[i];
    }
}

static void rotate(float *a, float *b, float cosine, float sine)
{
    float x = *a, y = *b;
    *a = fmaf(x, cosine, -(y * sine));
    *b = fmaf(x, sine, y * cosine);
}

static void rope_half(float *head, const float *cos_sin, size_t n_rot)
{
    size_t half = n_rot / 2;
    for (size_t i = 0; i < half; i++) {
        rotate(&head[i], &head[i + half], cos_sin[i], cos_sin[half + i]);
    }
}

static void rope_interleaved(float *head, const float *cos_sin, size_t n_rot)
{
    size_t half = n_rot / 2;
    for (size_t i = 0; i < half; i++) {
        rotate(&head[2 * i], &head[2 * i + 1], cos_sin[i], cos_sin[half + i]);
    }
}

static void kv_store(qn_kv_format format, void *k_page, void *v_page, size_t kv_head, size_t head_dim, size_t slot, const float *k,
                     const float *v)
{
    if (format == QN_KV_FORMAT_Q8_0) {
        qn_kv_q8_0_store(k_page, v_page, kv_head, head_dim, slot, k, v);
        return;
    }
    size_t k_at = (kv_head * QN_KV_PAGE + slot / QN_KV_GROUP * QN_KV_GROUP) * head_dim + slot % QN_KV_GROUP; /* of dimension 0 */
    size_t v_at = (kv_head * QN_KV_PAGE + slot) * head_dim;
    if (format == QN_KV_FORMAT_F32) {
        float *keys = (float *)k_page + k_at;
        for (size_t d = 0; d < head_dim; d++) {
            keys[d * QN_KV_GROUP] = k[d];
        }
        memcpy((float *)v_page + v_at, v, head_dim * sizeof *v);
        return;
    }
    uint16_t *keys = (uint16_t *)k_page + k_at, *values = (uint16_t *)v_page + v_at;
    for (size_t d = 0; d < head_dim; d++) {
        keys[d * QN_KV_GROUP] = qn_f16_from_f32(k[d]);
        values[d] = qn_f16_from_f32(v[d]);
    }
}

/* Element i of a head's part of a page whose elements are floats. */
static float load_float(qn_kv_format format, const uint8_t *part, size_t i)
{
    return format == QN_KV_FORMAT_F32 ? ((const float *)(const void *)part)[i] : qn_f32_from_f16(((const uint16_t *)(const void *)part)[i]);
}

static float load_coded(const uint8_t *scale, const uint8_t *code)
{
    uint16_t bits;
    memcpy(&bits, scale, sizeof bits);
    return qn_f32_from_f16(bits) * (float)(int8_t)*code;
}

/* Dimension d of the key in a slot; part: the head's part of the page. */
static float load_key(const qn_kv_view *kv, const uint8_t *part, size_t slot, size_t d)
{
    size_t group = slot / QN_KV_GROUP * QN_KV_GROUP, lane = slot % QN_KV_GROUP;
    if (kv->format == QN_KV_FORMAT_Q8_0) {
        const uint8_t *block = part + group * qn_kv_row_bytes(kv->format, kv->head_dim) + d / QN_KV_BLOCK * QN_KV_Q8_0_KEY_BLOCK;
        return load_coded(block + 2 * lane, block + QN_KV_Q8_0_KEY_SCALES + d % QN_KV_BLOCK * QN_KV_GROUP + lane);
    }
    return load_float(kv->format, part, group * kv->head_dim + d * QN_KV_GROUP + lane);
}

static float load_value(const qn_kv_view *kv, const uint8_t *part, size_t slot, size_t d)
{
    if (kv->format == QN_KV_FORMAT_Q8_0) {
        const uint8_t *row = part + slot * qn_kv_row_bytes(kv->format, kv->head_dim);
        return load_coded(row + kv->head_dim + 2 * (d / QN_KV_BLOCK), row + d);
    }
    return load_float(kv->format, part, slot * kv->head_dim + d);
}

/* One chunk for one query: positions [begin, end) of one chunk, all visible. Gives m and l; o[0..head_dim) is overwritten. */
static void attend_chunk(const qn_kv_view *kv, size_t kv_head, const float *q, size_t begin, size_t end, float scale, float *m, float *l,
                         float *o)
{
    float p[QN_ATTN_CHUNK];
    size_t dim = kv->head_dim, head = kv_head * QN_KV_PAGE * qn_kv_row_bytes(kv->format, dim);
    float top = -INFINITY;
    for (size_t j = begin; j < end; j++) {
        const uint8_t *part = (const uint8_t *)kv->k_pages[j / QN_KV_PAGE] + head;
        float s = 0.0f;
        for (size_t d = 0; d < dim; d++) {
            s = fmaf(q[d], load_key(kv, part, j % QN_KV_PAGE, d), s);
        }
        s *= scale;
        p[j - begin] = s;
        top = s > top ? s : top;
    }
    top += 0.0f; /* a maximum of -0 becomes +0, whichever zero came first */
    float lane[16] = {0};
    for (size_t j = begin; j < end; j++) {
        p[j - begin] = qn_expf(p[j - begin] - top);
        lane[j % 16] += p[j - begin];
    }
    *m = top;
    *l = sum_lanes(lane);
    memset(o, 0, dim * sizeof *o);
    for (size_t j = begin; j < end; j++) {
        const uint8_t *part = (const uint8_t *)kv->v_pages[j / QN_KV_PAGE] + head;
        for (size_t d = 0; d < dim; d++) {
            o[d] = fmaf(p[j - begin], load_value(kv, part, j % QN_KV_PAGE, d), o[d]);
        }
    }
}

static void attention_merge(float ml[2], float *o, const float ml_part[2], const float *o_part, size_t head_dim)
{
    if (ml_part[1] == 0.0f) {
        return;
    }
    if (ml[1] == 0.0f) {
        memcpy(ml, ml_part, 2 * sizeof *ml);
        memcpy(o, o_part, head_dim * sizeof *o);
        return;
    }
    float m = ml_part[0] > ml[0] ? ml_part[0] : ml[0];
    float f = qn_expf(ml[0] - m), g = qn_expf(ml_part[0] - m);
    ml[0] = m;
    ml[1] = fmaf(ml[1], f, ml_part[1] * g);
    for (size_t d = 0; d < head_dim; d++) {
        o[d] = fmaf(o[d], f, o_part[d] * g);
    }
}

/* Chunks [c0, c1) of query i; out receives the unnormalised o. */
static void attend_chunks(const qn_attn_args *args, size_t i, size_t c0, size_t c1, float ml[2])
{
    size_t first = args->first[i], end = args->position[i] + 1, dim = args->kv->head_dim;
    float *o = args->out[i], *o_part = args->scratch, ml_part[2];
    ml[0] = -INFINITY;
    ml[1] = 0.0f;
    memset(o, 0, dim * sizeof *o);
    for (size_t c = c0; c < c1 && c * QN_ATTN_CHUNK < end; c++) {
        size_t from = c * QN_ATTN_CHUNK > first ? c * QN_ATTN_CHUNK : first;
        size_t to = (c + 1) * QN_ATTN_CHUNK < end ? (c + 1) * QN_ATTN_CHUNK : end;
        if (from < to) {
            attend_chunk(args->kv, args->kv_head, args->q[i], from, to, args->scale, &ml_part[0], &ml_part[1], o_part);
            attention_merge(ml, o, ml_part, o_part, dim);
        }
    }
}

static void attention(const qn_attn_args *args)
{
    qn_ops_count_call(QN_ISA_SCALAR);
    for (size_t i = 0; i < args->n_queries; i++) {
        float ml[2];
        attend_chunks(args, i, 0, args->position[i] / QN_ATTN_CHUNK + 1, ml);
        for (size_t d = 0; d < args->kv->head_dim; d++) {
            args->out[i][d] /= ml[1];
        }
    }
}

static void attention_partial(const qn_attn_args *args, size_t c0, size_t c1, float *ml)
{
    qn_ops_count_call(QN_ISA_SCALAR);
    for (size_t i = 0; i < args->n_queries; i++) {
        attend_chunks(args, i, c0, c1, ml + 2 * i);
    }
}

static double exp_sum(double *terms, const float *x, size_t n, float max, double factor)
{
    double lane[8] = {0};
    for (size_t i = 0; i < n; i++) {
        double term = qn_exp_term(((double)x[i] - (double)max) * factor);
        lane[i % 8] += term;
        if (terms != NULL) {
            terms[i] = term;
        }
    }
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static double exp_dot(const float *x, const float *y, size_t n, float max)
{
    double lane[8] = {0};
    for (size_t i = 0; i < n; i++) {
        lane[i % 8] += qn_exp_term((double)x[i] - (double)max) * ((double)x[i] - (double)y[i]);
    }
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static size_t argmax(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            return i;
        }
        best = x[i] > x[best] ? i : best;
    }
    return best;
}

const qn_ops qn_ops_scalar = {
    .isa = QN_ISA_SCALAR,
    .rms_norm = rms_norm,
    .add = add,
    .axpy = axpy,
    .silu_mul = silu_mul,
    .rope_half = rope_half,
    .rope_interleaved = rope_interleaved,
    .kv_store = kv_store,
    .attention = attention,
    .attention_partial = attention_partial,
    .attention_merge = attention_merge,
    .exp_sum = exp_sum,
    .exp_dot = exp_dot,
    .argmax = argmax,
};
