/* kquant_pack.h - the packed scales of Q3_K, Q4_K and Q5_K. (Reading those of Q4_K and Q5_K: qn_k4_scale_min in blocks.h.)
 */
#ifndef QN_QUANT_KQUANT_PACK_H
#define QN_QUANT_KQUANT_PACK_H

#include <stdint.h>

/* Q3_K: 16 scales of 6 bits, stored plus 32. Low four bits of scale j: nibble j/8 of byte j%8; high two bits: bits
 * 2(j/4).. of byte 8 + j%4. Packing starts from zeros. */
static inline void qn_q3_k_unpack_scales(const uint8_t packed[12], int8_t scales[16])
{
    for (uint32_t j = 0; j < 16; j++) {
        uint32_t low = (uint32_t)(packed[j % 8] >> (4u * (j / 8))) & 15u;
        uint32_t high = (uint32_t)(packed[8 + j % 4] >> (2u * (j / 4))) & 3u;
        scales[j] = (int8_t)((int)(low | high << 4) - 32);
    }
}

static inline void qn_q3_k_pack_scales(const int scales[16], uint8_t packed[12])
{
    for (uint32_t j = 0; j < 16; j++) {
        uint32_t stored = (uint32_t)(scales[j] + 32);
        packed[j % 8] |= (uint8_t)((stored & 15u) << (4u * (j / 8)));
        packed[8 + j % 4] |= (uint8_t)((stored >> 4) << (2u * (j / 4)));
    }
}

/* Q4_K and Q5_K: the inverse of qn_k4_scale_min for all eight; `packed` starts as zeros. */
static inline void qn_k4_pack_scales(const int scales[8], const int mins[8], uint8_t packed[12])
{
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(scales[j] | (scales[j + 4] >> 4) << 6);
        packed[j + 4] = (uint8_t)(mins[j] | (mins[j + 4] >> 4) << 6);
        packed[j + 8] = (uint8_t)((scales[j + 4] & 15) | (mins[j + 4] & 15) << 4);
    }
}

#endif
