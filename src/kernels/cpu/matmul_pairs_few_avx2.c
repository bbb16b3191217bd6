/* matmul_pairs_few_avx2.c - decode kernels for AVX2 of the super-blocks that hold two bits of each code in 64 bytes, Q2_K, Q3_K and TQ2_0; and of
 * TQ1_0, whose five codes a byte are taken apart into the same ternary codes.
 *
 * The half h of 32 bytes, shifted by 2j, holds the elements 128h + 32j.. (j = 0..3). Products of codes and activations are added in pairs to
 * 16 bits (VPMADDUBSW). Invariant: see few_avx2.h; no 16-bit sum saturates (two of 2 * 45 * 127, eight of 2 * 3 * 127 and ten of 2 * 2 * 127 fit).
 */
#include "kernels/cpu/few_avx2.h"
#include "quant/blocks.h"

/* out[j]: bits 2j and 2j + 1 of every byte. */
FEW_INLINE void split_pairs(__m256i x, __m256i out[4])
{
    const __m256i mask = _mm256_set1_epi8(3);
    out[0] = _mm256_and_si256(x, mask);
    out[1] = _mm256_and_si256(_mm256_srli_epi16(x, 2), mask);
    out[2] = _mm256_and_si256(_mm256_srli_epi16(x, 4), mask);
    out[3] = _mm256_and_si256(_mm256_srli_epi16(x, 6), mask);
}

/* Makes 8 dwords that add up to the isum of one block for each token, and writes the block's part of raw. */
typedef void block_sums(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                        __m256i sum[FEW_GROUP]);

/* n of four blocks. Results are written for all four. */
FEW_INLINE void group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens,
                      const size_t bytes, block_sums *sums)
{
    __m256i partial[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++) {
        __m256i sum[FEW_GROUP];
        if (i < n) {
            sums(c, p + (block + i) * bytes, r, block + i, token, n_tokens, sum);
        }
        for (size_t t = 0; t < n_tokens; t++) {
            partial[t][i] = i < n ? sum[t] : _mm256_setzero_si256();
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        _mm_storeu_si128((__m128i *)(void *)&c->s->isum[token + t][r][block], few_sum_4(partial[t]));
    }
}

FEW_INLINE void tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens, const size_t bytes, block_sums *sums)
{
#define GROUP_OF(row, r, block, n) group(c, row, r, block, n, token, n_tokens, bytes, sums)
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
    FEW_KERNEL(qn_matmul_##name##_few_avx2, {QN_K, sizeof(qn_block_##name), 4, min, prepare, name##_rows, scales})

static void d_scales(const few_chunk *c) { few_unpack_scales(c, false); }

/* ---- Q2_K ---- */

/* Sums of sub-blocks of 16 in the order in which q2_k_scales takes the mins apart. */
static void prepare_q2_k(const few_chunk *c)
{
    static const uint8_t order[16] = {0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15};
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int16_t *sum16 = c->a->sum16 + (c->t0 + t) * c->a->s_stride + c->block0 * (QN_K / 16);
        for (size_t i = 0; i < c->n_blocks * 16; i += 16) {
            for (size_t j = 0; j < 16; j++) {
                c->in[t].sums[i + j] = sum16[i + order[j]];
            }
        }
    }
}

/* A code times its scale is at most 45: each lane has a table of the four multiples of the four scales that its codes meet, and the two bits,
 * with the number of the shift over them, are the index. */
FEW_INLINE void q2_k_sums(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                          __m256i sum[FEW_GROUP])
{
    const int one = 0x01010101; /* sub-block of lane L and shift j, in the half h: 8 h + 2 j + L */
    const __m256i spread = _mm256_set_epi32(7 * one, 5 * one, 3 * one, 1 * one, 6 * one, 4 * one, 2 * one, 0);
    const int8_t *q = c->a->q + (c->t0 + token) * c->a->q_stride + (c->block0 + block) * QN_K;
    uint64_t low, high;
    memcpy(&low, b, sizeof low);
    memcpy(&high, b + 8, sizeof high);
    uint64_t mins = (low >> 4 & 0x0f0f0f0f0f0f0f0fu) | (high & 0xf0f0f0f0f0f0f0f0u);
    uint32_t *raw = &c->s->raw[r][4 * block]; /* d dmin, -, mins 0..3 and 8..11, mins 4..7 and 12..15 */
    memcpy(raw, b + 80, 4);
    memcpy(raw + 2, &mins, sizeof mins);
    for (size_t t = 0; t < n_tokens; t++) {
        sum[t] = _mm256_setzero_si256();
    }
    for (size_t h = 0; h < 2; h++) {
        __m256i scale = _mm256_shuffle_epi8(few_load_16_twice(b), _mm256_add_epi8(spread, _mm256_set1_epi8((char)(8 * h))));
        __m256i multiples = _mm256_add_epi8(_mm256_and_si256(scale, _mm256_set1_epi32(0x0f000f00)),
                                            _mm256_and_si256(_mm256_add_epi8(scale, scale), _mm256_set1_epi32(0x1e1e0000)));
        __m256i code[4];
        split_pairs(few_load_ints(b + 16 + 32 * h), code);
        for (int j = 0; j < 4; j++) {
            code[j] = _mm256_shuffle_epi8(multiples, _mm256_or_si256(code[j], _mm256_set1_epi8((char)(4 * j))));
        }
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *x = q + t * c->a->q_stride + 128 * h;
            for (int j = 0; j < 4; j += 2) {
                __m256i products = _mm256_add_epi16(_mm256_maddubs_epi16(code[j], few_load_ints(x + 32 * j)),
                                                    _mm256_maddubs_epi16(code[j + 1], few_load_ints(x + 32 * j + 32)));
                sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
            }
        }
    }
}

static void q2_k_scales(const few_chunk *c)
{
    few_scratch *s = c->s;
    const __m256i nibbles = _mm256_set1_epi32(0x000f000f);
    for (size_t b = 0; b < c->n_blocks; b += 2) {
        __m256i x[8];
        few_load_columns(c, s->raw, 4 * b, x);
        for (size_t j = 0; j < 2; j++) {
            __m256 d = few_half_to_float(x[4 * j]), dmin = few_half_to_float(few_upper_halves(x[4 * j]));
            few_store(s->d[b + j], d);
            few_store(s->m[b + j], few_negate(dmin));
            for (size_t i = 0; i < 2; i++) {
                __m256i mins = x[4 * j + 2 + i];
                __m256i *pairs = (__m256i *)(void *)s->min_pairs[b + j][4 * i];
                _mm256_store_si256(pairs, _mm256_and_si256(mins, nibbles));
                _mm256_store_si256(pairs + 1, _mm256_and_si256(_mm256_srli_epi32(mins, 8), nibbles));
                _mm256_store_si256(pairs + 2, _mm256_and_si256(_mm256_srli_epi32(mins, 4), nibbles));
                _mm256_store_si256(pairs + 3, _mm256_and_si256(_mm256_srli_epi32(mins, 12), nibbles));
            }
        }
    }
}

PAIRS_KERNEL(q2_k, FEW_MIN_OF_16_SUBS, prepare_q2_k, q2_k_scales)

/* ---- Q3_K ---- */

/* isum = sum scale * (code * q) - 4 * sum scale * sum(q) with codes 0..7: the second part starts the sum, from negated sums. */
static void prepare_q3_k(const few_chunk *c)
{
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int16_t *sum16 = c->a->sum16 + (c->t0 + t) * c->a->s_stride + c->block0 * (QN_K / 16);
        for (size_t i = 0; i < c->n_blocks * (QN_K / 16); i++) {
            c->in[t].sums[i] = (int16_t)-sum16[i];
        }
    }
}

/* The 16 scales of a block as words (qn_q3_k_unpack_scales). */
FEW_INLINE __m256i q3_k_scales(const uint8_t *b)
{
    __m128i packed = _mm_loadu_si128((const __m128i *)(const void *)(b + 94)); /* ends with the block: two bytes before the 12 of scales */
    packed = _mm_bsrli_si128(packed, 2);
    __m128i low = _mm_srlv_epi32(_mm_shuffle_epi32(packed, 0x44), _mm_set_epi32(4, 4, 0, 0));
    __m128i top = _mm_shuffle_epi32(packed, 0xaa); /* bits 2j.. of each byte become bits 4 and 5 of the dword j */
    top = _mm_srlv_epi32(_mm_sllv_epi32(top, _mm_set_epi32(0, 0, 2, 4)), _mm_set_epi32(2, 0, 0, 0));
    __m128i scales = _mm_or_si128(_mm_and_si128(low, _mm_set1_epi8(15)), _mm_and_si128(top, _mm_set1_epi8(0x30)));
    return _mm256_sub_epi16(_mm256_cvtepu8_epi16(scales), _mm256_set1_epi16(32));
}

FEW_INLINE void q3_k_sums(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                          __m256i sum[FEW_GROUP])
{
    const __m256i four = _mm256_set1_epi8(4);
    /* lane L of the codes 128h + 32j.. is sub-block 8h + 2j + L */
    const __m256i spread = _mm256_set_epi64x(0x0302030203020302, 0x0302030203020302, 0x0100010001000100, 0x0100010001000100);
    const int8_t *q = c->a->q + (c->t0 + token) * c->a->q_stride + (c->block0 + block) * QN_K;
    __m256i scales = q3_k_scales(b), hmask = few_load_ints(b); /* bit 4h + j of hmask is the third bit of the codes 128h + 32j.. */
    uint16_t d;
    memcpy(&d, b + 108, sizeof d);
    c->s->raw[r][block] = d;
    for (size_t t = 0; t < n_tokens; t++) {
        sum[t] = _mm256_madd_epi16(_mm256_slli_epi16(scales, 2), few_load_ints(&c->in[token + t].sums[block * 16]));
    }
    for (size_t h = 0; h < 2; h++) {
        __m256i eight = h == 0 ? _mm256_permute4x64_epi64(scales, 0x44) : _mm256_permute4x64_epi64(scales, 0xee);
        __m256i high = h == 0 ? hmask : _mm256_srli_epi16(hmask, 4);
        const __m256i third[4] = {_mm256_slli_epi16(high, 2), _mm256_slli_epi16(high, 1), high, _mm256_srli_epi16(high, 1)};
        __m256i code[4];
        split_pairs(few_load_ints(b + 32 + 32 * h), code);
        for (int j = 0; j < 4; j++) {
            code[j] = _mm256_or_si256(code[j], _mm256_and_si256(third[j], four));
            __m256i scale = _mm256_shuffle_epi8(eight, _mm256_add_epi8(spread, _mm256_set1_epi8((char)(4 * j))));
            for (size_t t = 0; t < n_tokens; t++) {
                __m256i x = few_load_ints(q + t * c->a->q_stride + 128 * h + 32 * (size_t)j);
                sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(_mm256_maddubs_epi16(code[j], x), scale));
            }
        }
    }
}

PAIRS_KERNEL(q3_k, FEW_MIN_NONE, prepare_q3_k, d_scales)

/* ---- TQ2_0 and TQ1_0 ---- */

/* isum = sum (code + 1) * q - sum q: the second part starts the sum. */
static void prepare_tq2_0(const few_chunk *c) { few_sum_blocks(c, -1); }

/* Dwords that add up to isum, from 16-bit sums of products. */
FEW_INLINE __m256i ternary_sum(const few_chunk *c, size_t block, size_t token, __m256i products)
{
    __m256i start = _mm256_zextsi128_si256(_mm_cvtsi32_si128(c->in[token].block_sum[block]));
    return _mm256_add_epi32(start, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
}

FEW_INLINE void tq2_0_sums(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                           __m256i sum[FEW_GROUP])
{
    const int8_t *q = c->a->q + (c->t0 + token) * c->a->q_stride + (c->block0 + block) * QN_K;
    uint16_t d;
    memcpy(&d, b + 64, sizeof d);
    c->s->raw[r][block] = d;
    __m256i products[FEW_GROUP];
    for (size_t t = 0; t < n_tokens; t++) {
        products[t] = _mm256_setzero_si256();
    }
    for (size_t h = 0; h < 2; h++) {
        __m256i code[4];
        split_pairs(few_load_ints(b + 32 * h), code);
        for (size_t j = 0; j < 4; j++) {
            for (size_t t = 0; t < n_tokens; t++) {
                __m256i x = few_load_ints(q + t * c->a->q_stride + 128 * h + 32 * j);
                products[t] = _mm256_add_epi16(products[t], _mm256_maddubs_epi16(code[j], x));
            }
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        sum[t] = ternary_sum(c, block, token + t, products[t]);
    }
}

PAIRS_KERNEL(tq2_0, FEW_MIN_NONE, prepare_tq2_0, d_scales)

static void prepare_tq1_0(const few_chunk *c)
{
    few_sum_blocks(c, -1);
    few_order_by_trit(c);
}

/* A byte x is a fraction of 256, its trits the digits after the point in base 3 (quant/ternary.c): with x in the upper half of a word, the upper
 * half of the product with 9 is the next two digits, 0..8, and the lower half the fraction that is left. Tables take the two apart. Of the 52
 * bytes of trits the last 4 stand in the upper lane of the second register, with zeros behind them that meet activations of zero. */
FEW_INLINE void tq1_0_sums(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                           __m256i sum[FEW_GROUP])
{
    const __m256i first = _mm256_broadcastsi128_si256(_mm_set_epi32(0, 2, 0x02020101, 0x01000000));
    const __m256i second = _mm256_broadcastsi128_si256(_mm_set_epi32(0, 2, 0x01000201, 0x00020100));
    const __m256i nine = _mm256_set1_epi16(9), three = _mm256_set1_epi16(3);
    uint16_t d;
    int32_t last;
    memcpy(&last, b + 48, sizeof last);
    memcpy(&d, b + 52, sizeof d);
    c->s->raw[r][block] = d;
    __m128i tail = _mm_loadu_si128((const __m128i *)(const void *)(b + 32));
    const __m256i bytes[2] = {few_load_ints(b), _mm256_inserti128_si256(_mm256_castsi128_si256(tail), _mm_cvtsi32_si128(last), 1)};
    __m256i products[FEW_GROUP];
    for (size_t t = 0; t < n_tokens; t++) {
        products[t] = _mm256_setzero_si256();
    }
    for (size_t h = 0; h < 2; h++) {
        __m256i even = _mm256_slli_epi16(bytes[h], 8), odd = _mm256_andnot_si256(_mm256_set1_epi16(0xff), bytes[h]);
        __m256i code[5];
        for (size_t k = 0; k < 4; k += 2) {
            __m256i digits = _mm256_packus_epi16(_mm256_mulhi_epu16(even, nine), _mm256_mulhi_epu16(odd, nine));
            code[k] = _mm256_shuffle_epi8(first, digits);
            code[k + 1] = _mm256_shuffle_epi8(second, digits);
            even = _mm256_mullo_epi16(even, nine);
            odd = _mm256_mullo_epi16(odd, nine);
        }
        code[4] = _mm256_packus_epi16(_mm256_mulhi_epu16(even, three), _mm256_mulhi_epu16(odd, three));
        for (size_t k = 0; k < 5; k++) {
            for (size_t t = 0; t < n_tokens; t++) {
                __m256i x = few_load_ints(&c->in[token + t].q[block * 320 + 64 * k + 32 * h]);
                products[t] = _mm256_add_epi16(products[t], _mm256_maddubs_epi16(code[k], x));
            }
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        sum[t] = ternary_sum(c, block, token + t, products[t]);
    }
}

PAIRS_KERNEL(tq1_0, FEW_MIN_NONE, prepare_tq1_0, d_scales)
