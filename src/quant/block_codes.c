/* block_codes.c - see block_codes.h. The layouts are those of blocks.h; a block may lie at any address. */
#include "quant/block_codes.h"

#include <stddef.h>
#include <string.h>

#include "quant/blocks.h"
#include "quant/iq4.h"

enum { FLAT = 32, HALF = 16 };

/* Byte j holds element j in its low nibble, element 16 + j in its high one. */
static void write_nibbles(const int *codes, uint8_t *qs)
{
    for (size_t j = 0; j < HALF; j++) {
        qs[j] = (uint8_t)((codes[j] & 15) | (codes[j + HALF] & 15) << 4);
    }
}

/* Bit j is bit 4 of element j. */
static void write_fifth_bits(const int *codes, uint8_t *qh)
{
    memset(qh, 0, FLAT / 8);
    for (size_t j = 0; j < FLAT; j++) {
        qh[j / 8] |= (uint8_t)(((codes[j] >> 4) & 1) << (j % 8));
    }
}

static void add_to_all(const int *levels, int offset, size_t n, int *codes)
{
    for (size_t j = 0; j < n; j++) {
        codes[j] = levels[j] + offset;
    }
}

void qn_codes_q8_0(const int *levels, uint8_t *block)
{
    for (size_t j = 0; j < FLAT; j++) {
        block[offsetof(qn_block_q8_0, qs) + j] = (uint8_t)(int8_t)levels[j];
    }
}

void qn_codes_q4_0(const int *levels, uint8_t *block)
{
    int codes[FLAT];
    add_to_all(levels, 8, FLAT, codes);
    write_nibbles(codes, block + offsetof(qn_block_q4_0, qs));
}

void qn_codes_q4_1(const int *levels, uint8_t *block) { write_nibbles(levels, block + offsetof(qn_block_q4_1, qs)); }

void qn_codes_q5_0(const int *levels, uint8_t *block)
{
    int codes[FLAT];
    add_to_all(levels, 16, FLAT, codes);
    write_nibbles(codes, block + offsetof(qn_block_q5_0, qs));
    write_fifth_bits(codes, block + offsetof(qn_block_q5_0, qh));
}

void qn_codes_q5_1(const int *levels, uint8_t *block)
{
    write_nibbles(levels, block + offsetof(qn_block_q5_1, qs));
    write_fifth_bits(levels, block + offsetof(qn_block_q5_1, qh));
}

/* Two bits each: element 128h + 32j + l is bits 2j of byte 32h + l. */
static void write_pairs(const int *codes, uint8_t *qs)
{
    for (size_t b = 0; b < QN_K / 4; b++) {
        const int *c = codes + 128 * (b / 32) + b % 32;
        qs[b] = (uint8_t)((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
    }
}

void qn_codes_q2_k(const int *levels, uint8_t *block) { write_pairs(levels, block + offsetof(qn_block_q2_k, qs)); }

/* Bit s of byte l: bit number `bit` of element 32s + l. */
static void write_high_bits(const int *codes, int bit, uint8_t *out)
{
    memset(out, 0, QN_K / 8);
    for (size_t e = 0; e < QN_K; e++) {
        out[e % 32] |= (uint8_t)(((codes[e] >> bit) & 1) << (e / 32));
    }
}

void qn_codes_q3_k(const int *levels, uint8_t *block)
{
    int codes[QN_K];
    add_to_all(levels, 4, QN_K, codes);
    write_pairs(codes, block + offsetof(qn_block_q3_k, qs));
    write_high_bits(codes, 2, block + offsetof(qn_block_q3_k, hmask));
}

/* Element 64j + l is the low nibble of byte 32j + l, 64j + 32 + l the high one. */
static void write_k4_nibbles(const int *codes, uint8_t *qs)
{
    for (size_t b = 0; b < QN_K / 2; b++) {
        const int *c = codes + 64 * (b / 32) + b % 32;
        qs[b] = (uint8_t)((c[0] & 15) | (c[32] & 15) << 4);
    }
}

void qn_codes_q4_k(const int *levels, uint8_t *block) { write_k4_nibbles(levels, block + offsetof(qn_block_q4_k, qs)); }

void qn_codes_q5_k(const int *levels, uint8_t *block)
{
    write_k4_nibbles(levels, block + offsetof(qn_block_q5_k, qs));
    write_high_bits(levels, 4, block + offsetof(qn_block_q5_k, qh));
}

void qn_codes_q6_k(const int *levels, uint8_t *block)
{
    int codes[QN_K];
    uint8_t *ql = block + offsetof(qn_block_q6_k, ql), *qh = block + offsetof(qn_block_q6_k, qh);
    add_to_all(levels, 32, QN_K, codes);
    for (size_t b = 0; b < QN_K / 2; b++) {
        const int *c = codes + 128 * (b / 64) + b % 64;
        ql[b] = (uint8_t)((c[0] & 15) | (c[64] & 15) << 4);
    }
    for (size_t b = 0; b < QN_K / 4; b++) {
        const int *c = codes + 128 * (b / 32) + b % 32;
        qh[b] = (uint8_t)(c[0] >> 4 | (c[32] >> 4) << 2 | (c[64] >> 4) << 4 | (c[96] >> 4) << 6);
    }
}

void qn_codes_iq4_nl(const int *levels, uint8_t *block)
{
    int codes[FLAT];
    for (size_t j = 0; j < FLAT; j++) {
        codes[j] = qn_iq4_index(levels[j]);
    }
    write_nibbles(codes, block + offsetof(qn_block_iq4_nl, qs));
}

void qn_codes_iq4_xs(const int *levels, uint8_t *block)
{
    for (size_t s = 0; s < QN_K / FLAT; s++) {
        int codes[FLAT];
        for (size_t j = 0; j < FLAT; j++) {
            codes[j] = qn_iq4_index(levels[FLAT * s + j]);
        }
        write_nibbles(codes, block + offsetof(qn_block_iq4_xs, qs) + HALF * s);
    }
}

uint8_t qn_fp4_code(int doubled)
{
    int magnitude = doubled < 0 ? -doubled : doubled;
    uint8_t code = 0;
    for (uint8_t k = 1; k < 8; k++) {
        code = magnitude >= qn_fp4_doubled[k] ? k : code;
    }
    return (uint8_t)(doubled < 0 ? code | 8u : code);
}

void qn_codes_mxfp4(const int *levels, uint8_t *block)
{
    int codes[FLAT];
    for (size_t j = 0; j < FLAT; j++) {
        codes[j] = qn_fp4_code(levels[j]);
    }
    write_nibbles(codes, block + offsetof(qn_block_mxfp4, qs));
}

qn_codes_fn qn_codes_get(qn_dtype t)
{
    static const qn_codes_fn writers[QN_DTYPE_COUNT] = {
        [QN_DTYPE_Q8_0] = qn_codes_q8_0,   [QN_DTYPE_Q4_0] = qn_codes_q4_0,     [QN_DTYPE_Q4_1] = qn_codes_q4_1,
        [QN_DTYPE_Q5_0] = qn_codes_q5_0,   [QN_DTYPE_Q5_1] = qn_codes_q5_1,     [QN_DTYPE_Q2_K] = qn_codes_q2_k,
        [QN_DTYPE_Q3_K] = qn_codes_q3_k,   [QN_DTYPE_Q4_K] = qn_codes_q4_k,     [QN_DTYPE_Q5_K] = qn_codes_q5_k,
        [QN_DTYPE_Q6_K] = qn_codes_q6_k,   [QN_DTYPE_IQ4_NL] = qn_codes_iq4_nl, [QN_DTYPE_IQ4_XS] = qn_codes_iq4_xs,
        [QN_DTYPE_MXFP4] = qn_codes_mxfp4,
    };
    return t < QN_DTYPE_COUNT ? writers[t] : NULL;
}
