/* matmul_pairs_few_avx512vnni.c - decode kernels of the super-blocks with few bits a code: Q2_K, Q3_K, TQ2_0, TQ1_0.
 *
 * All but TQ1_0 hold two bits of each code in 64 bytes. These are one register; shifted by 2j its lower half holds the elements 32j.. and
 * its upper half 128 + 32j.. (j = 0..3), and the activations are laid out in that order. Four super-blocks of a row are taken together, so
 * that their reductions share registers. Invariant: see few_avx512vnni.h.
 */
#include "kernels/cpu/few_avx512vnni.h"
#include "quant/blocks.h"

/* Activations in the order in which shifting gives the codes: of every 256 elements the parts of 32 numbered 0 4 1 5 2 6 3 7. */
FEW_INLINE void prepare_order(const few_chunk *c)
{
    static const uint8_t order[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int8_t *q = c->a->q + (c->t0 + t) * c->a->q_stride + c->block0 * QN_K;
        for (size_t i = 0; i < c->n_blocks * QN_K; i += QN_K) {
            for (size_t j = 0; j < 8; j++) {
                memcpy(&c->in[t].q[i + 32 * j], q + i + 32 * order[j], 32);
            }
        }
    }
}

/* Makes 16 dwords that add up to the isum of one block for each token, and writes the block's part of raw. */
typedef void block_sums(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                        __m512i sum[FEW_GROUP]);

/* n of four blocks of one row. Results are written for all four. */
FEW_INLINE void group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens,
                      const size_t bytes, block_sums *sums)
{
    __m512i partial[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++) {
        __m512i sum[FEW_GROUP];
        if (i < n) {
            sums(c, p + i * bytes, r, block + i, token, n_tokens, sum);
        }
        for (size_t t = 0; t < n_tokens; t++) {
            partial[t][i] = i < n ? sum[t] : _mm512_setzero_si512();
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        _mm_storeu_si128((__m128i *)(void *)&c->s->isum[token + t][r][block], few_sum_registers(partial[t]));
    }
}

FEW_INLINE void tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens, const size_t bytes, block_sums *sums)
{
#define GROUP_OF(row, r, block, n) group(c, (row) + (block)*bytes, r, block, n, token, n_tokens, bytes, sums)
    FEW_FOR_GROUPS(c, rows, 4, 4, GROUP_OF);
#undef GROUP_OF
}

/* The functions of one type: name_rows and the kernel. */
#define PAIRS_KERNEL(name, min, prepare, scales) \
    FEW_INLINE void name##_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens) \
    { \
        tokens(c, rows, token, n_tokens, sizeof(qn_block_##name), name##_sums); \
    } \
    FEW_ROWS_FUNCTION(name##_rows, name##_tokens) \
    void qn_matmul_##name##_few_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, \
                                           size_t y_stride, void *scratch) \
    { \
        static const few_type type = {QN_K, sizeof(qn_block_##name), 4, min, prepare, name##_rows, scales}; \
        few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch); \
    }

/* ---- Q2_K ---- */

/* Sums of sub-blocks of 16 in the order in which q2_k_scales takes the mins apart. */
static void prepare_q2_k(const few_chunk *c)
{
    static const uint8_t order[16] = {0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};
    prepare_order(c);
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int16_t *sum16 = c->a->sum16 + (c->t0 + t) * c->a->s_stride + c->block0 * (QN_K / 16);
        for (size_t i = 0; i < c->n_blocks * 16; i += 16) {
            for (size_t j = 0; j < 16; j++) {
                c->in[t].sums[i + j] = sum16[i + order[j]];
            }
        }
    }
}

/* A code times its scale is at most 45 and so is the byte that VPDPBUSD takes: each lane has a table of the four multiples of the four scales
 * that its codes meet, and the two bits, with the number of the shift over them, are the index. */
FEW_INLINE void q2_k_sums(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                          __m512i sum[FEW_GROUP])
{
    const int one = 0x01010101; /* sub-block of lane L and shift j: 8 (L / 2) + 2 j + L % 2 */
    const __m512i spread = _mm512_set_epi32(15 * one, 13 * one, 11 * one, 9 * one, 14 * one, 12 * one, 10 * one, 8 * one, 7 * one, 5 * one,
                                            3 * one, 1 * one, 6 * one, 4 * one, 2 * one, 0);
    uint64_t low, high;
    memcpy(&low, b, sizeof low);
    memcpy(&high, b + 8, sizeof high);
    uint64_t mins = (low >> 4 & 0x0f0f0f0f0f0f0f0fu) | (high & 0xf0f0f0f0f0f0f0f0u);
    uint32_t *raw = &c->s->raw[r][4 * block]; /* d dmin, -, mins 0..3 and 8..11, mins 4..7 and 12..15 */
    memcpy(raw, b + 80, 4);
    memcpy(raw + 2, &mins, sizeof mins);
    __m512i scale = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)b)), spread);
    __m512i multiples = _mm512_add_epi8(_mm512_and_si512(scale, _mm512_set1_epi32(0x0f000f00)),
                                        _mm512_and_si512(_mm512_add_epi8(scale, scale), _mm512_set1_epi32(0x1e1e0000)));
    __m512i pair[4];
    few_shift_pairs(_mm512_loadu_si512(b + 16), pair);
    for (size_t t = 0; t < n_tokens; t++) {
        sum[t] = _mm512_setzero_si512();
    }
    for (int j = 0; j < 4; j++) {
        __m512i index = _mm512_ternarylogic_epi32(pair[j], _mm512_set1_epi8(3), _mm512_set1_epi8((char)(4 * j)), 0xea); /* (a & b) | c */
        __m512i product = _mm512_shuffle_epi8(multiples, index);
        for (size_t t = 0; t < n_tokens; t++) {
            sum[t] = _mm512_dpbusd_epi32(sum[t], product, _mm512_load_si512(&c->in[token + t].q[block * QN_K + 64 * (size_t)j]));
        }
    }
}

static void q2_k_scales(const few_chunk *c)
{
    few_scratch *s = c->s;
    const __m512i nibbles = _mm512_set1_epi32(0x000f000f);
    for (size_t b = 0; b < c->n_blocks; b += 4) {
        __m512i x[16];
        few_load_columns(c, s->raw, 4 * b, x);
        for (size_t j = 0; j < 4; j++) {
            __m512 d = few_half_to_float(x[4 * j]), dmin = few_half_to_float(few_upper_halves(x[4 * j]));
            _mm512_store_ps(s->d[b + j], d);
            _mm512_store_ps(s->m[b + j], few_negate(dmin));
            for (size_t i = 0; i < 2; i++) {
                __m512i mins = x[4 * j + 2 + i];
                int32_t(*pairs)[FEW_ROWS] = &s->min_pairs[b + j][4 * i];
                _mm512_store_si512(pairs[0], _mm512_and_si512(mins, nibbles));
                _mm512_store_si512(pairs[1], _mm512_and_si512(_mm512_srli_epi32(mins, 8), nibbles));
                _mm512_store_si512(pairs[2], _mm512_and_si512(_mm512_srli_epi32(mins, 4), nibbles));
                _mm512_store_si512(pairs[3], _mm512_and_si512(_mm512_srli_epi32(mins, 12), nibbles));
            }
        }
    }
}

PAIRS_KERNEL(q2_k, FEW_MIN_OF_16_SUBS, prepare_q2_k, q2_k_scales)

/* ---- Q3_K ---- */

/* isum = sum scale * (code * q) - 4 * sum scale * sum(q) with codes 0..7: the second part starts the sum, from negated sums. */
static void prepare_q3_k(const few_chunk *c)
{
    prepare_order(c);
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int16_t *sum16 = c->a->sum16 + (c->t0 + t) * c->a->s_stride + c->block0 * (QN_K / 16);
        for (size_t i = 0; i < c->n_blocks * (QN_K / 16); i++) {
            c->in[t].sums[i] = (int16_t)-sum16[i];
        }
    }
}

/* The 16 scales of a block, 0..63: what qn_q3_k_unpack_scales gives, plus 32. */
FEW_INLINE __m128i q3_k_scales_plus_32(const uint8_t *b)
{
    __m128i packed = _mm_loadu_si128((const __m128i *)(const void *)(b + 94)); /* ends with the block: two bytes before the 12 of scales */
    packed = _mm_bsrli_si128(packed, 2);
    __m128i low = _mm_srlv_epi32(_mm_shuffle_epi32(packed, 0x44), _mm_set_epi32(4, 4, 0, 0));
    __m128i high = _mm_rolv_epi32(_mm_shuffle_epi32(packed, 0xaa), _mm_set_epi32(30, 0, 2, 4)); /* bits 2j.. of each byte to bits 4 and 5 */
    return _mm_ternarylogic_epi32(_mm_and_si128(low, _mm_set1_epi8(15)), high, _mm_set1_epi8(0x30), 0xf8); /* low | (high & mask) */
}

/* The codes 0..7, in the order of the activations. */
FEW_INLINE void q3_k_codes(const uint8_t *b, __m512i code[4])
{
    /* bit s of hmask is the third bit of the part s of 32: register j meets bits j (lower half) and 4 + j (upper half) */
    __m512i high = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)b));
    high = _mm512_srlv_epi64(high, _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0));
    const __m512i shifted[4] = {_mm512_slli_epi16(high, 2), _mm512_slli_epi16(high, 1), high, _mm512_srli_epi16(high, 1)};
    few_shift_pairs(_mm512_loadu_si512(b + 32), code);
    for (int j = 0; j < 4; j++) {
        code[j] = _mm512_and_si512(code[j], _mm512_set1_epi8(3));
        code[j] = _mm512_ternarylogic_epi32(code[j], shifted[j], _mm512_set1_epi8(4), 0xf8); /* code | (high & mask) */
    }
}

/* Sums of four products stay below 2^15 and are packed to 16 bits before the scales multiply them. */
FEW_INLINE void q3_k_sums(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                          __m512i sum[FEW_GROUP])
{
    /* lane L of packs_epi32(0, 1) holds sub-blocks s and s + 2, four words each, with s = 8 (L / 2) + L % 2 */
    const __m512i spread = _mm512_set_epi64(0x000b000b000b000b, 0x0009000900090009, 0x000a000a000a000a, 0x0008000800080008,
                                            0x0003000300030003, 0x0001000100010001, 0x0002000200020002, 0x0000000000000000);
    const __m512i spread_high = _mm512_add_epi16(spread, _mm512_set1_epi16(4));
    __m256i scales = _mm256_sub_epi16(_mm256_cvtepu8_epi16(q3_k_scales_plus_32(b)), _mm256_set1_epi16(32));
    __m256i offsets = _mm256_slli_epi16(scales, 2);
    __m512i scale_low = _mm512_permutexvar_epi16(spread, _mm512_castsi256_si512(scales));
    __m512i scale_high = _mm512_permutexvar_epi16(spread_high, _mm512_castsi256_si512(scales));
    __m512i code[4];
    q3_k_codes(b, code);
    uint16_t d;
    memcpy(&d, b + 108, sizeof d);
    c->s->raw[r][block] = d;
    for (size_t t = 0; t < n_tokens; t++) {
        const int8_t *x = &c->in[token + t].q[block * QN_K];
        __m512i part[4];
        for (int j = 0; j < 4; j++) {
            part[j] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), code[j], _mm512_load_si512(x + 64 * j));
        }
        __m256i negated = _mm256_loadu_si256((const __m256i *)(const void *)&c->in[token + t].sums[block * 16]);
        sum[t] = _mm512_zextsi256_si512(_mm256_madd_epi16(offsets, negated));
        sum[t] = _mm512_dpwssd_epi32(sum[t], _mm512_packs_epi32(part[0], part[1]), scale_low);
        sum[t] = _mm512_dpwssd_epi32(sum[t], _mm512_packs_epi32(part[2], part[3]), scale_high);
    }
}

static void d_scales(const few_chunk *c) { few_unpack_scales(c, false); }

PAIRS_KERNEL(q3_k, FEW_MIN_NONE, prepare_q3_k, d_scales)

/* ---- TQ2_0 and TQ1_0 ---- */

/* isum = sum (code + 1) * q - sum q: the second part starts the sum. */
FEW_INLINE void prepare_ternary_sums(const few_chunk *c) { few_sum_blocks(c, -1); }

/* The sums of a block whose codes are code[0..n), each register of them with its activations. */
FEW_INLINE void ternary_sums(const few_chunk *c, const __m512i *code, size_t n, size_t block, size_t token, const size_t n_tokens,
                             __m512i sum[FEW_GROUP])
{
    for (size_t t = 0; t < n_tokens; t++) {
        sum[t] = _mm512_zextsi128_si512(_mm_cvtsi32_si128(c->in[token + t].block_sum[block]));
        for (size_t j = 0; j < n; j++) {
            sum[t] = _mm512_dpbusd_epi32(sum[t], code[j], _mm512_load_si512(&c->in[token + t].q[(block * n + j) * 64]));
        }
    }
}

static void prepare_tq2_0(const few_chunk *c)
{
    prepare_ternary_sums(c);
    prepare_order(c);
}

FEW_INLINE void tq2_0_sums(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                           __m512i sum[FEW_GROUP])
{
    uint16_t d;
    memcpy(&d, b + 64, sizeof d);
    c->s->raw[r][block] = d;
    __m512i code[4];
    few_shift_pairs(_mm512_loadu_si512(b), code);
    for (int j = 0; j < 4; j++) {
        code[j] = _mm512_and_si512(code[j], _mm512_set1_epi8(3));
    }
    ternary_sums(c, code, 4, block, token, n_tokens, sum);
}

PAIRS_KERNEL(tq2_0, FEW_MIN_NONE, prepare_tq2_0, d_scales)

static void prepare_tq1_0(const few_chunk *c)
{
    prepare_ternary_sums(c);
    few_order_by_trit(c);
}

/* A byte x is a fraction of 256, its trits the digits after the point in base 3 (quant/ternary.c): with x in the upper half of a word, the upper
 * half of the product with 9 is the next two digits, 0..8, and the lower half the fraction that is left. Tables take the two apart. */
FEW_INLINE void tq1_0_sums(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                           __m512i sum[FEW_GROUP])
{
    const __m512i first = _mm512_set4_epi32(0, 2, 0x02020101, 0x01000000), second = _mm512_set4_epi32(0, 2, 0x01000201, 0x00020100);
    const __m512i nine = _mm512_set1_epi16(9), three = _mm512_set1_epi16(3);
    uint16_t d;
    memcpy(&d, b + 52, sizeof d);
    c->s->raw[r][block] = d;
    __m512i bytes = _mm512_maskz_loadu_epi32(0x1fff, b);
    __m512i even = _mm512_slli_epi16(bytes, 8), odd = _mm512_andnot_si512(_mm512_set1_epi16(0xff), bytes);
    __m512i code[5];
    for (int k = 0; k < 4; k += 2) {
        __m512i digits = _mm512_packus_epi16(_mm512_mulhi_epu16(even, nine), _mm512_mulhi_epu16(odd, nine));
        code[k] = _mm512_shuffle_epi8(first, digits);
        code[k + 1] = _mm512_shuffle_epi8(second, digits);
        even = _mm512_mullo_epi16(even, nine);
        odd = _mm512_mullo_epi16(odd, nine);
    }
    code[4] = _mm512_packus_epi16(_mm512_mulhi_epu16(even, three), _mm512_mulhi_epu16(odd, three));
    ternary_sums(c, code, 5, block, token, n_tokens, sum);
}

PAIRS_KERNEL(tq1_0, FEW_MIN_NONE, prepare_tq1_0, d_scales)
