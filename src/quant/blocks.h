/* blocks.h - the byte layouts of GGUF's block types, each pinned by a static_assert.
 *
 * All fields are little-endian; `d` and friends are float16 bit patterns. Layout facts: the GGUF specification and
 * docs/formats.md. Reading a block never needs alignment beyond 2 bytes.
 */
#ifndef QN_QUANT_BLOCKS_H
#define QN_QUANT_BLOCKS_H

#include <assert.h>
#include <stdint.h>

#define QN_K 256 /* elements of a k-quant super-block */

typedef struct {
    uint16_t d;
    uint8_t qs[16];
} qn_block_q4_0; /* low nibbles: 0..15, high: 16..31; w = d*(q-8) */
typedef struct {
    uint16_t d, m;
    uint8_t qs[16];
} qn_block_q4_1; /* w = d*q + m */
typedef struct {
    uint16_t d;
    uint8_t qh[4];
    uint8_t qs[16];
} qn_block_q5_0; /* bit i of qh = bit 4 of element i; w = d*(q-16) */
typedef struct {
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
} qn_block_q5_1;
typedef struct {
    uint16_t d;
    int8_t qs[32];
} qn_block_q8_0; /* w = d*q */
typedef struct {
    uint16_t d;
    uint8_t qs[16];
} qn_block_iq4_nl; /* w = d*table[q] */

/* 16 sub-blocks of 16; scales: low nibble scale, high nibble min; w = d*sc*q - dmin*m; 2 bits a weight:
 * element 128h + 32j + l (l < 32) is bits 2j..2j+1 of qs[32h + l] */
typedef struct {
    uint8_t scales[16];
    uint8_t qs[64];
    uint16_t d, dmin;
} qn_block_q2_k;
/* 16 sub-blocks of 16 with 6-bit scales (minus 32) packed in 12 bytes; third bit (0 = subtract 4) in hmask */
typedef struct {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint16_t d;
} qn_block_q3_k;
/* 8 sub-blocks of 32; 6-bit scales and mins packed in 12 bytes; element 64j + l low nibble of qs[32j + l], 64j + 32 + l high */
typedef struct {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qs[128];
} qn_block_q4_k;
/* as q4_k; fifth bit of sub-block s, element l is bit s of qh[l] */
typedef struct {
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
} qn_block_q5_k;
/* 16 sub-blocks of 16 with int8 scales; w = d*sc*(q-32); half h (128): ql[64h + l] low nibble = element l, ql[64h+32+l] low = 32+l,
 * high nibbles 64+l and 96+l; qh[32h + l] bits 0-1, 2-3, 4-5, 6-7 for elements l, 32+l, 64+l, 96+l */
typedef struct {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint16_t d;
} qn_block_q6_k;
/* 8 sub-blocks of 32 with 6-bit scales minus 32 (low 4 bits in scales_l, high 2 in scales_h); w = d*(ls-32)*table[q] */
typedef struct {
    uint16_t d;
    uint16_t scales_h;
    uint8_t scales_l[4];
    uint8_t qs[128];
} qn_block_iq4_xs;
/* ternary: 5 trits a byte (base 3) in qs, 4 a byte in qh; w = d*(t-1) */
typedef struct {
    uint8_t qs[48];
    uint8_t qh[4];
    uint16_t d;
} qn_block_tq1_0;
typedef struct {
    uint8_t qs[64];
    uint16_t d;
} qn_block_tq2_0; /* 2 bits a weight; w = d*(q-1) */
typedef struct {
    uint8_t e;
    uint8_t qs[16];
} qn_block_mxfp4; /* e8m0 scale; fp4 e2m1 values */

#define QN_BLOCK_SIZE_CHECK(type, bytes) static_assert(sizeof(type) == (bytes), #type " must have its file size")
QN_BLOCK_SIZE_CHECK(qn_block_q4_0, 18);
QN_BLOCK_SIZE_CHECK(qn_block_q4_1, 20);
QN_BLOCK_SIZE_CHECK(qn_block_q5_0, 22);
QN_BLOCK_SIZE_CHECK(qn_block_q5_1, 24);
QN_BLOCK_SIZE_CHECK(qn_block_q8_0, 34);
QN_BLOCK_SIZE_CHECK(qn_block_iq4_nl, 18);
QN_BLOCK_SIZE_CHECK(qn_block_q2_k, 84);
QN_BLOCK_SIZE_CHECK(qn_block_q3_k, 110);
QN_BLOCK_SIZE_CHECK(qn_block_q4_k, 144);
QN_BLOCK_SIZE_CHECK(qn_block_q5_k, 176);
QN_BLOCK_SIZE_CHECK(qn_block_q6_k, 210);
QN_BLOCK_SIZE_CHECK(qn_block_iq4_xs, 136);
QN_BLOCK_SIZE_CHECK(qn_block_tq1_0, 54);
QN_BLOCK_SIZE_CHECK(qn_block_tq2_0, 66);
QN_BLOCK_SIZE_CHECK(qn_block_mxfp4, 17);

/* The 16 levels of IQ4_NL and IQ4_XS. */
extern const int8_t qn_iq4_levels[16];

/* The 16 values of fp4 e2m1 times two, and 2^(e - 128): an MXFP4 weight is their product. */
extern const int8_t qn_fp4_doubled[16];
float qn_e8m0_half(uint8_t e);

/* Scale and min (0..63) of sub-block j (0..7) out of the 12 packed bytes of Q4_K and Q5_K. The one copy of this. */
static inline void qn_k4_scale_min(const uint8_t *packed, int j, uint8_t *scale, uint8_t *min)
{
    if (j < 4) {
        *scale = packed[j] & 63u;
        *min = packed[j + 4] & 63u;
    } else {
        *scale = (uint8_t)((packed[j + 4] & 15u) | ((uint32_t)(packed[j - 4] >> 6) << 4));
        *min = (uint8_t)((uint32_t)(packed[j + 4] >> 4) | ((uint32_t)(packed[j] >> 6) << 4));
    }
}

#endif
