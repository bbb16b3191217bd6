/* legacy.c - the types of 32 elements with one float16 scale (and min): Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.
 *
 * Invariant: element i < 16 sits in the low nibble of byte i, element 16 + i in the high nibble; bit i of qh is bit 4 of
 * element i.
 */
#include <string.h>

#include "base/half.h"
#include "quant/block_codes.h"
#include "quant/blocks.h"
#include "quant/codec_int.h"
#include "quant/columns.h"

enum { BLOCK = 32, HALF = 16 };

void qn_decode_q8_0(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        qn_block_q8_0 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t j = 0; j < BLOCK; j++) {
            dst[i + j] = (float)b.qs[j] * d;
        }
    }
}

void qn_decode_q4_0(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        qn_block_q4_0 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t j = 0; j < HALF; j++) {
            dst[i + j] = (float)((b.qs[j] & 15) - 8) * d;
            dst[i + HALF + j] = (float)((b.qs[j] >> 4) - 8) * d;
        }
    }
}

void qn_decode_q4_1(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        qn_block_q4_1 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        float m = qn_f32_from_f16(b.m);
        for (size_t j = 0; j < HALF; j++) {
            dst[i + j] = (float)(b.qs[j] & 15) * d + m;
            dst[i + HALF + j] = (float)(b.qs[j] >> 4) * d + m;
        }
    }
}

static uint32_t load_high_bits(const uint8_t qh[4])
{
    return (uint32_t)qh[0] | (uint32_t)qh[1] << 8 | (uint32_t)qh[2] << 16 | (uint32_t)qh[3] << 24;
}

void qn_decode_q5_0(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        qn_block_q5_0 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        uint32_t high = load_high_bits(b.qh);
        for (size_t j = 0; j < HALF; j++) {
            int low_code = (int)((b.qs[j] & 15u) | ((high >> j) & 1u) << 4);
            int high_code = (int)((uint32_t)(b.qs[j] >> 4) | ((high >> (j + HALF)) & 1u) << 4);
            dst[i + j] = (float)(low_code - 16) * d;
            dst[i + HALF + j] = (float)(high_code - 16) * d;
        }
    }
}

void qn_decode_q5_1(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += BLOCK) {
        qn_block_q5_1 b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        float m = qn_f32_from_f16(b.m);
        uint32_t high = load_high_bits(b.qh);
        for (size_t j = 0; j < HALF; j++) {
            uint32_t low_code = (b.qs[j] & 15u) | ((high >> j) & 1u) << 4;
            uint32_t high_code = (uint32_t)(b.qs[j] >> 4) | ((high >> (j + HALF)) & 1u) << 4;
            dst[i + j] = (float)low_code * d + m;
            dst[i + HALF + j] = (float)high_code * d + m;
        }
    }
}

/* Types with a scale only. */
static void encode_scaled(const qn_search *s, const qn_level_set *set, const float *targets, size_t n_targets, const float *src,
                          uint8_t *dst, size_t block_bytes, size_t n, const float *importance, qn_codes_fn write)
{
    qn_columns cols;
    int block[BLOCK];
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float levels[BLOCK * QN_COLUMNS];
    for (size_t i = 0; i < n; i += BLOCK * QN_COLUMNS) {
        size_t n_blocks = (n - i) / BLOCK < QN_COLUMNS ? (n - i) / BLOCK : QN_COLUMNS;
        qn_columns_load(&cols, src + i, importance != NULL ? importance + i : NULL, BLOCK, n_blocks, 1, 0.0f);
        qn_fit_half_scale(s, &cols, set, targets, n_targets, scale);
        s->scale_levels(cols.x, BLOCK, set, scale, levels);
        for (size_t c = 0; c < n_blocks; c++) {
            const uint16_t d = qn_half_bits(scale[c], cols.unit[c]);
            for (size_t j = 0; j < BLOCK; j++) {
                block[j] = (int)levels[QN_COLUMNS * j + c];
            }
            memcpy(dst, &d, sizeof d);
            write(block, dst);
            dst += block_bytes;
        }
    }
}

/* scale and min in units, rounded to float16: the best of the nearest pair and its float16 neighbours. */
static void fit_half_pair(const qn_search *s, const qn_columns *cols, float q_max, const qn_clip_grid *grid, float scale[QN_COLUMNS],
                          float min[QN_COLUMNS])
{
    alignas(64) float fitted[2][QN_COLUMNS];
    alignas(64) float tried[2][QN_COLUMNS];
    alignas(64) float error[QN_COLUMNS];
    float least[QN_COLUMNS] = {0};
    s->fit_affine(cols->x, cols->w, BLOCK, q_max, grid, 1, true, fitted[0], fitted[1]);
    for (int k = 0; k < 9; k++) {
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            for (int part = 0; part < 2; part++) {
                int step = part == 0 ? k % 3 : k / 3;
                float rounded = qn_round_to_half(fitted[part][j], cols->unit[j]);
                tried[part][j] = step == 0 ? rounded : qn_half_neighbour(rounded, cols->unit[j], 2 * step - 3);
            }
        }
        s->affine_error(cols->x, cols->w, BLOCK, q_max, tried[0], tried[1], error);
        for (size_t j = 0; j < QN_COLUMNS; j++) {
            if (k == 0 || error[j] < least[j]) {
                least[j] = error[j];
                scale[j] = tried[0][j];
                min[j] = tried[1][j];
            }
        }
    }
}

/* Types with scale and offset; the file holds m = -min. */
static void encode_offset(const qn_search *s, float q_max, const qn_clip_grid *grid, const float *src, uint8_t *dst, size_t block_bytes,
                          size_t n, const float *importance, qn_codes_fn write)
{
    qn_columns cols;
    int block[BLOCK];
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float min[QN_COLUMNS];
    alignas(64) float codes[BLOCK * QN_COLUMNS];
    for (size_t i = 0; i < n; i += BLOCK * QN_COLUMNS) {
        size_t n_blocks = (n - i) / BLOCK < QN_COLUMNS ? (n - i) / BLOCK : QN_COLUMNS;
        qn_columns_load(&cols, src + i, importance != NULL ? importance + i : NULL, BLOCK, n_blocks, 1, 0.0f);
        fit_half_pair(s, &cols, q_max, grid, scale, min);
        s->affine_codes(cols.x, BLOCK, q_max, scale, min, codes);
        for (size_t c = 0; c < n_blocks; c++) {
            const uint16_t stored[2] = {qn_half_bits(scale[c], cols.unit[c]), qn_half_bits(-min[c], cols.unit[c])};
            for (size_t j = 0; j < BLOCK; j++) {
                block[j] = (int)codes[QN_COLUMNS * j + c];
            }
            memcpy(dst, stored, sizeof stored);
            write(block, dst);
            dst += block_bytes;
        }
    }
}

static const float clips[] = {-0.3f, 0.0f, 0.3f, 0.6f};
static const qn_clip_grid grid = {clips, sizeof clips / sizeof clips[0]};

void qn_encode_q8_0(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    static const qn_level_set set = {QN_LEVELS_INTEGER, -127.0f, 127.0f};
    static const float targets[] = {127.0f, 127.4f, 126.6f, 126.2f, 125.7f, 125.2f, 124.6f, 124.0f,
                                    123.3f, 122.6f, 121.8f, 121.0f, 120.1f, 119.2f, 118.2f, 117.2f};
    encode_scaled(s, &set, targets, sizeof targets / sizeof targets[0], src, dst, sizeof(qn_block_q8_0), n, importance, qn_codes_q8_0);
}

void qn_encode_q4_0(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    static const qn_level_set set = {QN_LEVELS_INTEGER, -8.0f, 7.0f};
    static const float targets[] = {-8.0f, -9.0f, -8.7f, -8.4f, -8.2f, -7.8f, -7.6f, -7.3f, -7.0f,
                                    -6.7f, 6.2f,  6.5f,  6.7f,  6.9f,  7.1f,  7.3f,  7.6f};
    encode_scaled(s, &set, targets, sizeof targets / sizeof targets[0], src, dst, sizeof(qn_block_q4_0), n, importance, qn_codes_q4_0);
}

void qn_encode_q5_0(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    static const qn_level_set set = {QN_LEVELS_INTEGER, -16.0f, 15.0f};
    static const float targets[] = {-16.0f, -17.0f, -16.7f, -16.4f, -16.2f, -15.8f, -15.6f, -15.4f, -15.1f,
                                    -14.8f, -14.4f, 14.0f,  14.4f,  14.7f,  15.0f,  15.3f,  15.7f};
    encode_scaled(s, &set, targets, sizeof targets / sizeof targets[0], src, dst, sizeof(qn_block_q5_0), n, importance, qn_codes_q5_0);
}

void qn_encode_q4_1(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    encode_offset(s, 15.0f, &grid, src, dst, sizeof(qn_block_q4_1), n, importance, qn_codes_q4_1);
}

void qn_encode_q5_1(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    encode_offset(s, 31.0f, &grid, src, dst, sizeof(qn_block_q5_1), n, importance, qn_codes_q5_1);
}
