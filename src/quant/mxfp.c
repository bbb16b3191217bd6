/* mxfp.c - MXFP4: 32 values of e2m1 under a scale that is a power of two (e8m0). OCP Microscaling Formats 1.0.
 *
 * Invariant: value = fp4 * 2^(e - 127). The table holds doubled values, so the scale used is 2^(e - 128), which needs float32
 * subnormals for e = 0 and 1. Element i < 16 sits in the low nibble of byte i, element 16 + i in the high one (GGUF's order).
 */
#include <string.h>

#include "base/half.h"
#include "quant/block_codes.h"
#include "quant/blocks.h"
#include "quant/codec.h"
#include "quant/codec_int.h"
#include "quant/columns.h"

const int8_t qn_fp4_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

float qn_e8m0_half(uint8_t e) { return qn_f32_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23); }

/* The e8m0 code of the power of two `scale` * unit; below 0 where there is none. */
static int exponent_code(float scale, float unit) { return (int)(qn_f32_to_bits(scale) >> 23) + (int)(qn_f32_to_bits(unit) >> 23) - 127; }

void qn_decode_mxfp4(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 32) {
        qn_block_mxfp4 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_e8m0_half(b.e);
        for (size_t j = 0; j < 16; j++) {
            dst[i + j] = (float)qn_fp4_doubled[b.qs[j] & 15] * d;
            dst[i + 16 + j] = (float)qn_fp4_doubled[b.qs[j] >> 4] * d;
        }
    }
}

/* One e8m0 exponent per 32 elements, one fp4 code (0..15) an element: what both packings share. */
static void encode_codes(const qn_search *s, const float *src, size_t n, const float *importance, uint8_t *exponents, uint8_t *codes)
{
    enum { E_MAX = 252 }; /* 6 * 2^(252 - 127) is finite, 4 * 2^(253 - 127) is not */
    static const qn_level_set set = {QN_LEVELS_FP4, -12.0f, 12.0f};
    qn_columns cols;
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float best[QN_COLUMNS];
    alignas(64) float error[QN_COLUMNS];
    alignas(64) float levels[32 * QN_COLUMNS];
    float least[QN_COLUMNS] = {0};
    for (size_t i = 0; i < n; i += (size_t)32 * QN_COLUMNS) {
        size_t n_blocks = (n - i) / 32 < QN_COLUMNS ? (n - i) / 32 : QN_COLUMNS;
        qn_columns_load(&cols, src + i, importance != NULL ? importance + i : NULL, 32, n_blocks, 1, 0.0f);
        /* The greatest magnitude lies in [1, 2) units. Its doubled level is then in [8, 16) for a scale of 1/8 unit, where 12 is the
         * greatest there is; in [4, 8) and [16, 32) for the scales on either side. */
        for (int k = 0; k < 3; k++) {
            for (size_t c = 0; c < QN_COLUMNS; c++) {
                scale[c] = k == 0 ? 0.125f : k == 1 ? 0.25f : 0.0625f;
                int e = exponent_code(scale[c] * 2.0f, cols.unit[c]);
                if (e < 0 || e > E_MAX) {
                    scale[c] = 0.125f;
                }
            }
            s->scale_error(cols.x, cols.w, 32, &set, scale, error);
            for (size_t c = 0; c < QN_COLUMNS; c++) {
                if (k == 0 || error[c] < least[c]) {
                    least[c] = error[c];
                    best[c] = scale[c];
                }
            }
        }
        s->scale_levels(cols.x, 32, &set, best, levels);
        for (size_t c = 0; c < n_blocks; c++) {
            int e = exponent_code(best[c] * 2.0f, cols.unit[c]);
            exponents[i / 32 + c] = (uint8_t)(e < 0 ? 0 : e);
            for (size_t j = 0; j < 32; j++) {
                codes[i + 32 * c + j] = qn_fp4_code((int)levels[QN_COLUMNS * j + c]);
            }
        }
    }
}

void qn_encode_mxfp4(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    uint8_t codes[32 * QN_COLUMNS];
    uint8_t exponents[QN_COLUMNS];
    for (size_t i = 0; i < n; i += sizeof codes) {
        size_t here = n - i < sizeof codes ? n - i : sizeof codes;
        encode_codes(s, src + i, here, importance != NULL ? importance + i : NULL, exponents, codes);
        for (size_t c = 0; c < here / 32; c++) {
            qn_block_mxfp4 b = {.e = exponents[c]};
            for (size_t j = 0; j < 16; j++) {
                b.qs[j] = (uint8_t)(codes[32 * c + j] | codes[32 * c + 16 + j] << 4);
            }
            memcpy(dst, &b, sizeof b);
            dst += sizeof b;
        }
    }
}

void qn_encode_mxfp4_row(const float *src, uint8_t *packed, uint8_t *scales, size_t n, const float *importance)
{
    const qn_search *s = qn_search_get(qn_isa_best());
    uint8_t codes[32 * QN_COLUMNS];
    for (size_t i = 0; i < n; i += sizeof codes) {
        size_t here = n - i < sizeof codes ? n - i : sizeof codes;
        encode_codes(s, src + i, here, importance != NULL ? importance + i : NULL, scales + i / 32, codes);
        for (size_t j = 0; j < here; j += 2) {
            packed[(i + j) / 2] = (uint8_t)(codes[j] | codes[j + 1] << 4);
        }
    }
}

void qn_mxfp4_row_to_blocks(const uint8_t *packed, const uint8_t *scales, void *dst, size_t n)
{
    uint8_t *out = dst;
    for (size_t i = 0; i < n; i += 32) {
        const uint8_t *codes = packed + i / 2; /* byte j: elements 2j and 2j + 1 */
        qn_block_mxfp4 b = {.e = scales[i / 32]};
        for (size_t j = 0; j < 16; j += 2) {
            uint8_t low = codes[j / 2], high = codes[8 + j / 2];
            b.qs[j] = (uint8_t)((low & 15) | (high & 15) << 4);
            b.qs[j + 1] = (uint8_t)(low >> 4 | (high & 0xf0));
        }
        memcpy(out, &b, sizeof b);
        out += sizeof b;
    }
}

void qn_mxfp4_blocks_to_row(const void *src, uint8_t *packed, uint8_t *scales, size_t n)
{
    const uint8_t *in = src;
    for (size_t i = 0; i < n; i += 32) {
        qn_block_mxfp4 b;
        memcpy(&b, in, sizeof b);
        in += sizeof b;
        scales[i / 32] = b.e;
        for (size_t j = 0; j < 16; j += 2) {
            packed[(i + j) / 2] = (uint8_t)((b.qs[j] & 15) | (b.qs[j + 1] & 15) << 4);
            packed[(i + 16 + j) / 2] = (uint8_t)(b.qs[j] >> 4 | (b.qs[j + 1] & 0xf0));
        }
    }
}

void qn_decode_mxfp4_row(const uint8_t *packed, const uint8_t *scales, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 2) {
        float d = qn_e8m0_half(scales[i / 32]);
        dst[i] = (float)qn_fp4_doubled[packed[i / 2] & 15] * d;
        dst[i + 1] = (float)qn_fp4_doubled[packed[i / 2] >> 4] * d;
    }
}
