/* block_form.c - one reader a type, from the file's bytes to integers; layouts in quant/blocks.h.
 *
 * Invariant: blocks are copied out before their fields are read, so any address will do.
 */
#include <string.h>

#include "base/half.h"
#include "kernels/scalar/block_form.h"
#include "quant/blocks.h"
#include "quant/kquant_pack.h"

/* 32 codes from 16 bytes: low nibbles first. */
static void read_nibbles(const uint8_t *qs, int16_t *code)
{
    for (size_t i = 0; i < 16; i++) {
        code[i] = (int16_t)(qs[i] & 15);
        code[16 + i] = (int16_t)(qs[i] >> 4);
    }
}

static void read_levels(const uint8_t *qs, const int8_t *levels, int16_t *code)
{
    for (size_t i = 0; i < 16; i++) {
        code[i] = levels[qs[i] & 15];
        code[16 + i] = levels[qs[i] >> 4];
    }
}

/* Puts the fifth bits over 32 codes, and takes the type's offset away. */
static void add_high_bits(const uint8_t *qh, int16_t *code, int offset)
{
    for (size_t i = 0; i < 32; i++) {
        int high = (qh[i / 8] >> (i % 8)) & 1;
        code[i] = (int16_t)((code[i] | high << 4) - offset);
    }
}

static void read_q4_0(const uint8_t *p, qn_block_form *f)
{
    qn_block_q4_0 b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->scale[0] = 1;
    read_nibbles(b.qs, f->code);
    for (size_t i = 0; i < 32; i++) {
        f->code[i] = (int16_t)(f->code[i] - 8);
    }
}

static void read_q4_1(const uint8_t *p, qn_block_form *f)
{
    qn_block_q4_1 b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->m = qn_f32_from_f16(b.m);
    f->scale[0] = f->min[0] = 1;
    read_nibbles(b.qs, f->code);
}

static void read_q5_0(const uint8_t *p, qn_block_form *f)
{
    qn_block_q5_0 b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->scale[0] = 1;
    read_nibbles(b.qs, f->code);
    add_high_bits(b.qh, f->code, 16);
}

static void read_q5_1(const uint8_t *p, qn_block_form *f)
{
    qn_block_q5_1 b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->m = qn_f32_from_f16(b.m);
    f->scale[0] = f->min[0] = 1;
    read_nibbles(b.qs, f->code);
    add_high_bits(b.qh, f->code, 0);
}

static void read_q8_0(const uint8_t *p, qn_block_form *f)
{
    qn_block_q8_0 b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->scale[0] = 1;
    for (size_t i = 0; i < 32; i++) {
        f->code[i] = b.qs[i];
    }
}

static void read_iq4_nl(const uint8_t *p, qn_block_form *f)
{
    qn_block_iq4_nl b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->scale[0] = 1;
    read_levels(b.qs, qn_iq4_levels, f->code);
}

static void read_mxfp4(const uint8_t *p, qn_block_form *f)
{
    qn_block_mxfp4 b;
    memcpy(&b, p, sizeof b);
    f->d = qn_e8m0_half(b.e);
    f->scale[0] = 1;
    read_levels(b.qs, qn_fp4_doubled, f->code);
}

/* Two-bit codes of a super-block: element 128h + 32j + l is bits 2j of byte 32h + l. */
static void read_pairs(const uint8_t *qs, int16_t *code, int offset)
{
    for (size_t e = 0; e < QN_K; e++) {
        int bits = (qs[32 * (e / 128) + e % 32] >> (2 * ((e / 32) % 4))) & 3;
        code[e] = (int16_t)(bits - offset);
    }
}

static void read_q2_k(const uint8_t *p, qn_block_form *f)
{
    qn_block_q2_k b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->m = -qn_f32_from_f16(b.dmin);
    for (size_t s = 0; s < 16; s++) {
        f->scale[s] = (int16_t)(b.scales[s] & 15);
        f->min[s] = (int16_t)(b.scales[s] >> 4);
    }
    read_pairs(b.qs, f->code, 0);
}

static void read_q3_k(const uint8_t *p, qn_block_form *f)
{
    qn_block_q3_k b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    int8_t scales[16];
    qn_q3_k_unpack_scales(b.scales, scales);
    for (size_t s = 0; s < 16; s++) {
        f->scale[s] = scales[s];
    }
    read_pairs(b.qs, f->code, 4);
    for (size_t e = 0; e < QN_K; e++) {
        int high = (b.hmask[e % 32] >> (e / 32)) & 1;
        f->code[e] = (int16_t)(f->code[e] + 4 * high);
    }
}

/* Sub-block scales and mins, and the nibbles of Q4_K and Q5_K. */
static void read_k4(const uint8_t *packed, const uint8_t *qs, qn_block_form *f)
{
    for (int s = 0; s < 8; s++) {
        uint8_t scale;
        uint8_t min;
        qn_k4_scale_min(packed, s, &scale, &min);
        f->scale[s] = scale;
        f->min[s] = min;
    }
    for (size_t e = 0; e < QN_K; e++) {
        f->code[e] = (int16_t)((qs[32 * (e / 64) + e % 32] >> (4 * ((e / 32) % 2))) & 15);
    }
}

static void read_q4_k(const uint8_t *p, qn_block_form *f)
{
    qn_block_q4_k b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->m = -qn_f32_from_f16(b.dmin);
    read_k4(b.scales, b.qs, f);
}

static void read_q5_k(const uint8_t *p, qn_block_form *f)
{
    qn_block_q5_k b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->m = -qn_f32_from_f16(b.dmin);
    read_k4(b.scales, b.qs, f);
    for (size_t e = 0; e < QN_K; e++) {
        int high = (b.qh[e % 32] >> (e / 32)) & 1;
        f->code[e] = (int16_t)(f->code[e] | high << 4);
    }
}

static void read_q6_k(const uint8_t *p, qn_block_form *f)
{
    qn_block_q6_k b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    for (size_t s = 0; s < 16; s++) {
        f->scale[s] = b.scales[s];
    }
    for (size_t e = 0; e < QN_K; e++) {
        size_t half = e / 128;
        size_t within = e % 128;
        int low = (b.ql[64 * half + within % 64] >> (4 * (within / 64))) & 15;
        int high = (b.qh[32 * half + within % 32] >> (2 * (within / 32))) & 3;
        f->code[e] = (int16_t)((low | high << 4) - 32);
    }
}

static void read_iq4_xs(const uint8_t *p, qn_block_form *f)
{
    qn_block_iq4_xs b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    for (size_t s = 0; s < 8; s++) {
        int low = (b.scales_l[s / 2] >> (4 * (s % 2))) & 15;
        int high = (b.scales_h >> (2 * s)) & 3;
        f->scale[s] = (int16_t)((low | high << 4) - 32);
        read_levels(b.qs + 16 * s, qn_iq4_levels, f->code + 32 * s);
    }
}

/* `n_trits` trits of each of `n_bytes` bytes; how a byte holds them: quant/ternary.c. */
static void read_trits(const uint8_t *bytes, size_t n_bytes, size_t n_trits, int16_t *code)
{
    uint8_t power = 1;
    for (size_t k = 0; k < n_trits; k++) {
        for (size_t i = 0; i < n_bytes; i++) {
            uint8_t shifted = (uint8_t)(bytes[i] * power);
            code[k * n_bytes + i] = (int16_t)(((shifted * 3) >> 8) - 1);
        }
        power = (uint8_t)(power * 3);
    }
}

static void read_tq1_0(const uint8_t *p, qn_block_form *f)
{
    qn_block_tq1_0 b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->scale[0] = 1;
    read_trits(b.qs, 32, 5, f->code);
    read_trits(b.qs + 32, 16, 5, f->code + 160);
    read_trits(b.qh, 4, 4, f->code + 240);
}

static void read_tq2_0(const uint8_t *p, qn_block_form *f)
{
    qn_block_tq2_0 b;
    memcpy(&b, p, sizeof b);
    f->d = qn_f32_from_f16(b.d);
    f->scale[0] = 1;
    read_pairs(b.qs, f->code, 1);
}

static float read_affine_float(const uint8_t *values, qn_dtype t, size_t i)
{
    if (t == QN_DTYPE_F32) {
        float v;
        memcpy(&v, values + 4 * i, sizeof v);
        return v;
    }
    uint16_t h;
    memcpy(&h, values + 2 * i, sizeof h);
    return t == QN_DTYPE_F16 ? qn_f32_from_f16(h) : qn_f32_from_bf16(h);
}

static void read_affine(const qn_matrix *w, size_t row, size_t group, qn_block_form *f)
{
    size_t index = row * (w->n_cols / w->affine.group) + group;
    f->d = read_affine_float(w->scales, w->affine_dtype, index);
    f->m = read_affine_float(w->biases, w->affine_dtype, index);
    f->scale[0] = f->min[0] = 1;
    uint32_t bits = w->affine.bits;
    uint32_t mask = (1u << bits) - 1u;
    const uint8_t *p = w->data + row * w->row_bytes + group * (w->affine.group / 8) * bits; /* a group is whole bytes */
    for (size_t i = 0; i < w->affine.group; i++) {
        size_t bit = i * bits;
        uint32_t window = p[bit / 8];
        if (bit % 8 + bits > 8) { /* the next byte is read only where the code reaches into it */
            window |= (uint32_t)p[bit / 8 + 1] << 8;
        }
        f->code[i] = (int16_t)((window >> (bit % 8)) & mask);
    }
}

typedef struct reader {
    void (*read)(const uint8_t *block, qn_block_form *f);
    qn_block_shape shape;
} reader;

static const reader readers[QN_DTYPE_COUNT] = {
    [QN_DTYPE_Q4_0] = {read_q4_0, {32, 32, false}},       [QN_DTYPE_Q4_1] = {read_q4_1, {32, 32, true}},
    [QN_DTYPE_Q5_0] = {read_q5_0, {32, 32, false}},       [QN_DTYPE_Q5_1] = {read_q5_1, {32, 32, true}},
    [QN_DTYPE_Q8_0] = {read_q8_0, {32, 32, false}},       [QN_DTYPE_IQ4_NL] = {read_iq4_nl, {32, 32, false}},
    [QN_DTYPE_MXFP4] = {read_mxfp4, {32, 32, false}},     [QN_DTYPE_Q2_K] = {read_q2_k, {QN_K, 16, true}},
    [QN_DTYPE_Q3_K] = {read_q3_k, {QN_K, 16, false}},     [QN_DTYPE_Q4_K] = {read_q4_k, {QN_K, 32, true}},
    [QN_DTYPE_Q5_K] = {read_q5_k, {QN_K, 32, true}},      [QN_DTYPE_Q6_K] = {read_q6_k, {QN_K, 16, false}},
    [QN_DTYPE_IQ4_XS] = {read_iq4_xs, {QN_K, 32, false}}, [QN_DTYPE_TQ1_0] = {read_tq1_0, {QN_K, QN_K, false}},
    [QN_DTYPE_TQ2_0] = {read_tq2_0, {QN_K, QN_K, false}},
};

qn_block_shape qn_block_shape_of(qn_dtype t, qn_affine affine)
{
    if (t == QN_DTYPE_MLX_AFFINE) {
        return (qn_block_shape){affine.group, affine.group, true};
    }
    return readers[t].shape;
}

void qn_block_form_read(const qn_matrix *w, size_t row, size_t block, qn_block_form *out)
{
    if (w->dtype == QN_DTYPE_MLX_AFFINE) {
        read_affine(w, row, block, out);
        return;
    }
    readers[w->dtype].read(w->data + row * w->row_bytes + block * qn_dtype_get(w->dtype)->block_bytes, out);
}
