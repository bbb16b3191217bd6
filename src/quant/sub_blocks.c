/* sub_blocks.c - see sub_blocks.h. The layouts are those of quant/blocks.h. */
#include "quant/sub_blocks.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "quant/blocks.h"
#include "quant/kquant_pack.h"

static const int8_t fp4_ascending[15] = {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12};

qn_levels_of qn_fp4_levels(void) { return (qn_levels_of){.low = -12, .high = 12, .table = fp4_ascending, .n_table = sizeof fp4_ascending}; }

static qn_levels_of whole(int low, int high) { return (qn_levels_of){.low = low, .high = high}; }
static qn_levels_of iq4(void) { return (qn_levels_of){.low = -127, .high = 113, .table = qn_iq4_levels, .n_table = 16}; }

float qn_nearest_level(const qn_levels_of *l, float p)
{
    if (l->table == NULL) {
        float q = rintf(p);
        return q < (float)l->low ? (float)l->low : q > (float)l->high ? (float)l->high : q;
    }
    float best = (float)l->table[0];
    for (size_t i = 1; i < l->n_table && fabsf((float)l->table[i] - p) <= fabsf(best - p); i++) {
        best = (float)l->table[i];
    }
    return best;
}

/* A type with one scale, or one scale and one min, a block. */
static void read_flat(qn_sub_blocks *s, size_t len, qn_levels_of levels, uint16_t d, float offset)
{
    s->n = 1;
    s->len = len;
    s->levels = levels;
    s->scale[0] = s->stored = qn_f32_from_f16(d);
    s->offset[0] = offset;
}

static void read_q2_k(qn_sub_blocks *s, const uint8_t *block)
{
    qn_block_q2_k b;
    memcpy(&b, block, sizeof b);
    float d = qn_f32_from_f16(b.d), dmin = qn_f32_from_f16(b.dmin);
    *s = (qn_sub_blocks){.n = 16, .len = 16, .stored = d, .levels = whole(0, 3)};
    for (size_t i = 0; i < 16; i++) {
        s->scale[i] = d * (float)(b.scales[i] & 15);
        s->offset[i] = -(dmin * (float)(b.scales[i] >> 4));
    }
}

static void read_q3_k(qn_sub_blocks *s, const uint8_t *block)
{
    qn_block_q3_k b;
    int8_t scales[16];
    memcpy(&b, block, sizeof b);
    float d = qn_f32_from_f16(b.d);
    qn_q3_k_unpack_scales(b.scales, scales);
    *s = (qn_sub_blocks){.n = 16, .len = 16, .stored = d, .levels = whole(-4, 3)};
    for (size_t i = 0; i < 16; i++) {
        s->scale[i] = d * (float)scales[i];
    }
}

/* Q4_K and Q5_K. */
static void read_k4(qn_sub_blocks *s, uint16_t d_bits, uint16_t dmin_bits, const uint8_t scales[12], int high)
{
    float d = qn_f32_from_f16(d_bits), dmin = qn_f32_from_f16(dmin_bits);
    *s = (qn_sub_blocks){.n = 8, .len = 32, .stored = d, .levels = whole(0, high)};
    for (int i = 0; i < 8; i++) {
        uint8_t scale, min;
        qn_k4_scale_min(scales, i, &scale, &min);
        s->scale[i] = d * (float)scale;
        s->offset[i] = -(dmin * (float)min);
    }
}

static void read_q6_k(qn_sub_blocks *s, const uint8_t *block)
{
    qn_block_q6_k b;
    memcpy(&b, block, sizeof b);
    float d = qn_f32_from_f16(b.d);
    *s = (qn_sub_blocks){.n = 16, .len = 16, .stored = d, .levels = whole(-32, 31)};
    for (size_t i = 0; i < 16; i++) {
        s->scale[i] = d * (float)b.scales[i];
    }
}

static void read_iq4_xs(qn_sub_blocks *s, const uint8_t *block)
{
    qn_block_iq4_xs b;
    memcpy(&b, block, sizeof b);
    float d = qn_f32_from_f16(b.d);
    *s = (qn_sub_blocks){.n = 8, .len = 32, .stored = d, .levels = iq4()};
    for (size_t i = 0; i < 8; i++) {
        int low = (b.scales_l[i / 2] >> (4 * (i % 2))) & 15;
        int high = (b.scales_h >> (2 * i)) & 3;
        s->scale[i] = d * (float)((low | high << 4) - 32);
    }
}

/* Bits 0..1 of a block as float16. */
static uint16_t first_half(const uint8_t *block)
{
    uint16_t h;
    memcpy(&h, block, sizeof h);
    return h;
}

bool qn_sub_blocks_read(qn_dtype t, const uint8_t *block, qn_sub_blocks *out)
{
    qn_block_q4_k k4;
    qn_block_q5_k k5;
    switch (t) {
    case QN_DTYPE_Q8_0: read_flat(out, 32, whole(-127, 127), first_half(block), 0); return true;
    case QN_DTYPE_Q4_0: read_flat(out, 32, whole(-8, 7), first_half(block), 0); return true;
    case QN_DTYPE_Q5_0: read_flat(out, 32, whole(-16, 15), first_half(block), 0); return true;
    case QN_DTYPE_Q4_1: read_flat(out, 32, whole(0, 15), first_half(block), qn_f32_from_f16(first_half(block + 2))); return true;
    case QN_DTYPE_Q5_1: read_flat(out, 32, whole(0, 31), first_half(block), qn_f32_from_f16(first_half(block + 2))); return true;
    case QN_DTYPE_IQ4_NL: read_flat(out, 32, iq4(), first_half(block), 0); return true;
    case QN_DTYPE_TQ1_0: read_flat(out, QN_K, whole(-1, 1), first_half(block + offsetof(qn_block_tq1_0, d)), 0); return true;
    case QN_DTYPE_TQ2_0: read_flat(out, QN_K, whole(-1, 1), first_half(block + offsetof(qn_block_tq2_0, d)), 0); return true;
    case QN_DTYPE_MXFP4:
        read_flat(out, 32, qn_fp4_levels(), 0, 0);
        out->scale[0] = out->stored = qn_e8m0_half(block[0]);
        return true;
    case QN_DTYPE_Q2_K: read_q2_k(out, block); return true;
    case QN_DTYPE_Q3_K: read_q3_k(out, block); return true;
    case QN_DTYPE_Q4_K:
        memcpy(&k4, block, sizeof k4);
        read_k4(out, k4.d, k4.dmin, k4.scales, 15);
        return true;
    case QN_DTYPE_Q5_K:
        memcpy(&k5, block, sizeof k5);
        read_k4(out, k5.d, k5.dmin, k5.scales, 31);
        return true;
    case QN_DTYPE_Q6_K: read_q6_k(out, block); return true;
    case QN_DTYPE_IQ4_XS: read_iq4_xs(out, block); return true;
    default: return false;
    }
}
