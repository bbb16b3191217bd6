/* kquant_pack.h - the packed scales of Q3_K, Q4_K and Q5_K. (Reading those of Q4_K and Q5_K: qn_k4_scale_min in blocks.h.)
 */
#ifndef QN_QUANT_KQUANT_PACK_H
#define QN_QUANT_KQUANT_PACK_H

#include <stdint.h>

/* Q3_K: 16 scales of 6 bits, stored plus 32. Low four bits of scale j: nibble j/8 of byte j%8; high two bits: bits
 * 2(j/4).. of byte 8 + j%4. */
static inline void qn_q3_k_unpack_scales(const uint8_t packed[12], int8_t scales[16])
{
    for (uint32_t j = 0; j < 16; j++) {
        uint32_t low = (uint32_t)(packed[j % 8] >> (4u * (j / 8))) & 15u;
        uint32_t high = (uint32_t)(packed[8 + j % 4] >> (2u * (j / 4))) & 3u;
        scales[j] = (int8_t)((int)(low | high << 4) - 32);
    }
}

#endif
