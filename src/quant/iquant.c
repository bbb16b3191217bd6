/* iquant.c - the four-bit types with uneven levels: IQ4_NL (one scale per 32) and IQ4_XS (6-bit scales under one float16).
 *
 * Invariant: codes index qn_iq4_levels, nibbles lie as in Q4_0 within each 32 elements.
 */
#include <string.h>

#include "base/half.h"
#include "quant/block_codes.h"
#include "quant/blocks.h"
#include "quant/codec_int.h"
#include "quant/columns.h"
#include "quant/iq4.h"

const int8_t qn_iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

const float qn_iq4_targets[QN_N_IQ4_TARGETS] = {-127.0f, -135.0f, -131.0f, -123.0f, -119.0f, -114.0f, -108.0f,
                                                119.0f,  115.0f,  113.0f,  109.0f,  105.0f,  101.0f,  96.0f};

uint8_t qn_iq4_index(int level)
{
    uint8_t index = 0;
    for (uint8_t k = 1; k < 16; k++) {
        index = level >= qn_iq4_levels[k] ? k : index;
    }
    return index;
}

void qn_decode_iq4_nl(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 32) {
        qn_block_iq4_nl b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t j = 0; j < 16; j++) {
            dst[i + j] = d * (float)qn_iq4_levels[b.qs[j] & 15];
            dst[i + 16 + j] = d * (float)qn_iq4_levels[b.qs[j] >> 4];
        }
    }
}

void qn_decode_iq4_xs(const uint8_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += QN_K) {
        qn_block_iq4_xs b;
        memcpy(&b, src, sizeof b);
        src += sizeof b;
        float d = qn_f32_from_f16(b.d);
        for (size_t s = 0; s < 8; s++) {
            int low = (b.scales_l[s / 2] >> (4 * (s % 2))) & 15;
            int high = (b.scales_h >> (2 * s)) & 3;
            float scale = d * (float)((low | high << 4) - 32);
            const uint8_t *q = b.qs + 16 * s;
            for (size_t j = 0; j < 16; j++) {
                dst[i + 32 * s + j] = scale * (float)qn_iq4_levels[q[j] & 15];
                dst[i + 32 * s + 16 + j] = scale * (float)qn_iq4_levels[q[j] >> 4];
            }
        }
    }
}

void qn_encode_iq4_nl(const qn_search *s, const float *src, uint8_t *dst, size_t n, const float *importance)
{
    static const qn_level_set set = {QN_LEVELS_IQ4, -127.0f, 113.0f};
    qn_columns cols;
    alignas(64) float scale[QN_COLUMNS];
    alignas(64) float levels[32 * QN_COLUMNS];
    for (size_t i = 0; i < n; i += (size_t)32 * QN_COLUMNS) {
        size_t n_blocks = (n - i) / 32 < QN_COLUMNS ? (n - i) / 32 : QN_COLUMNS;
        qn_columns_load(&cols, src + i, importance != NULL ? importance + i : NULL, 32, n_blocks, 1, 0.5f);
        qn_fit_half_scale(s, &cols, &set, qn_iq4_targets, QN_N_IQ4_TARGETS, scale);
        s->scale_levels(cols.x, 32, &set, scale, levels);
        for (size_t c = 0; c < n_blocks; c++) {
            const uint16_t d = qn_half_bits(scale[c], cols.unit[c]);
            int block[32];
            for (size_t j = 0; j < 32; j++) {
                block[j] = (int)levels[QN_COLUMNS * j + c];
            }
            memcpy(dst, &d, sizeof d);
            qn_codes_iq4_nl(block, dst);
            dst += sizeof(qn_block_iq4_nl);
        }
    }
}
