/* matmul_block32_few_avx2.c - decode kernels for AVX2 of the types that store the nibbles of 32 codes in 16 bytes: Q4_0 Q4_1 Q5_0 Q5_1
 * IQ4_NL MXFP4 with a float scale a block, IQ4_XS with eight integer scales a super-block.
 *
 * Products of codes and activations are added in pairs to 16 bits (VPMADDUBSW). Invariant: see few_avx2.h; no 16-bit sum saturates
 * (2 * 31 * 127, 2 * 127 * 127 and, of the pairs, 4 * 15 * 127 fit).
 */
#include "kernels/cpu/few_avx2.h"
#include "quant/blocks.h"

/* What distinguishes the types. */
typedef struct nibble_type {
    size_t bytes, header; /* of a block; of what stands before the nibbles */
    size_t scale_bytes;   /* 1 (e8m0), 2 (d) or 4 (d and m), at the block's start */
    bool fifth;           /* 32 bits of fifth bits end the header */
    const int8_t *levels; /* signed values of the nibbles, or NULL: unsigned codes */
    int offset;           /* what unsigned codes have too much */
} nibble_type;

/* The 32 nibbles of 16 bytes in their order: first the low ones. */
FEW_INLINE __m256i load_nibbles(const uint8_t *p)
{
    __m128i both = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_and_si256(_mm256_inserti128_si256(_mm256_castsi128_si256(both), _mm_srli_epi16(both, 4), 1), _mm256_set1_epi8(15));
}

/* 16 in each byte whose bit of 32 is set. */
FEW_INLINE __m256i fifth_bits(const uint8_t *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    const __m256i spread = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201ull);
    __m256i own = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(own, bit), _mm256_set1_epi8(16));
}

/* Sixteen words, each the sum of two products of signed codes of at most 127. */
FEW_INLINE __m256i signed_products(__m256i code, __m256i x)
{
    return _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(x, code));
}

/* n of four blocks. */
FEW_INLINE void nibble_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens,
                             const nibble_type *type)
{
    const int8_t *q = c->a->q + (c->t0 + token) * c->a->q_stride + (c->block0 + block) * 32;
    const uint8_t *b = p + block * type->bytes;
    __m256i sum[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++, b += type->bytes) {
        sum[0][i] = sum[1][i] = _mm256_setzero_si256();
        if (i >= n) {
            continue;
        }
        uint32_t raw = 0;
        memcpy(&raw, b, type->scale_bytes);
        c->s->raw[r][block + i] = raw;
        __m256i code = load_nibbles(b + type->header);
        if (type->levels != NULL) {
            code = _mm256_shuffle_epi8(few_load_16_twice(type->levels), code);
        }
        if (type->fifth) {
            code = _mm256_or_si256(code, fifth_bits(b + type->header - 4));
        }
        for (size_t t = 0; t < n_tokens; t++) {
            __m256i x = few_load_ints(q + t * c->a->q_stride + 32 * i);
            __m256i products = type->levels != NULL ? signed_products(code, x) : _mm256_maddubs_epi16(code, x);
            sum[t][i] = _mm256_madd_epi16(products, _mm256_set1_epi16(1));
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        __m128i isum = few_sum_4(sum[t]);
        if (type->offset != 0) {
            isum = _mm_sub_epi32(isum, _mm_loadu_si128((const __m128i *)(const void *)&c->in[token + t].block_sum[block]));
        }
        _mm_storeu_si128((__m128i *)(void *)&c->s->isum[token + t][r][block], isum);
    }
}

QN_VARIANT void nibble_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens, const nibble_type *type)
{
#define GROUP_OF(row, r, block, n) nibble_group(c, row, r, block, n, token, n_tokens, type)
    FEW_FOR_GROUPS(c, rows, 16, 4, GROUP_OF);
#undef GROUP_OF
}

static void d_scales(const few_chunk *c) { few_unpack_scales(c, false); }

static void d_m_scales(const few_chunk *c) { few_unpack_scales(c, true); }

/* d = 2^(e - 128) for the e8m0 byte e: a float32 subnormal for 0 and 1, else exponent e - 1. */
static void e8m0_scales(const few_chunk *c)
{
    for (size_t b = 0; b < c->n_blocks; b += FEW_ROWS) {
        __m256i x[FEW_ROWS];
        few_load_columns(c, c->s->raw, b, x);
        for (size_t j = 0; j < FEW_ROWS; j++) {
            __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(x[j], _mm256_set1_epi32(1)), 23);
            __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), x[j]);
            __m256i bits = _mm256_blendv_epi8(normal, subnormal, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), x[j]));
            few_store(c->s->d[b + j], _mm256_castsi256_ps(bits));
        }
    }
}

/* The functions of one nibble type. `factor` is what block_sum is multiplied with: the offset, or 1 for types with m. */
#define NIBBLE_KERNEL(name, layout, min, factor, scales, ...) \
    static const nibble_type name##_type = __VA_ARGS__; \
    static void prepare_##name(const few_chunk *c) { few_sum_blocks(c, factor); } \
    FEW_INLINE void name##_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens) \
    { \
        nibble_tokens(c, rows, token, n_tokens, &name##_type); \
    } \
    FEW_ROWS_FUNCTION(name##_rows, name##_tokens) \
    FEW_KERNEL(qn_matmul_##name##_few_avx2, {32, sizeof(layout), 16, min, prepare_##name, name##_rows, scales})

NIBBLE_KERNEL(q5_0, qn_block_q5_0, FEW_MIN_NONE, 16, d_scales, {22, 6, 2, true, NULL, 16})
NIBBLE_KERNEL(q5_1, qn_block_q5_1, FEW_MIN_OF_BLOCK, 1, d_m_scales, {24, 8, 4, true, NULL, 0})
NIBBLE_KERNEL(iq4_nl, qn_block_iq4_nl, FEW_MIN_NONE, 0, d_scales, {18, 2, 2, false, qn_iq4_levels, 0})
NIBBLE_KERNEL(mxfp4, qn_block_mxfp4, FEW_MIN_NONE, 0, e8m0_scales, {17, 1, 1, false, qn_fp4_doubled, 0})

/* ---- Q4_0 and Q4_1: two blocks a register, eight at a time ---- */

/* Of every two blocks first what their low nibbles meet, then what their high ones do. */
FEW_INLINE void prepare_pairs(const few_chunk *c)
{
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int8_t *q = c->a->q + (c->t0 + t) * c->a->q_stride + c->block0 * 32;
        for (size_t b = 0; b < c->n_blocks; b++) {
            int8_t *low = &c->in[t].q[b / 2 * 64 + b % 2 * 16];
            memcpy(low, q + 32 * b, 16);
            memcpy(low + 32, q + 32 * b + 16, 16);
        }
    }
}

static void prepare_q4_0(const few_chunk *c)
{
    few_sum_blocks(c, 8);
    prepare_pairs(c);
}

static void prepare_q4_1(const few_chunk *c)
{
    few_sum_blocks(c, 1);
    prepare_pairs(c);
}

/* The sums of eight blocks, n of which exist, with codes 0..15. Codes of blocks that do not exist are zeros. */
FEW_INLINE void pair_sums(const few_chunk *c, const uint8_t *b, const size_t bytes, const size_t header, size_t block, size_t n,
                          size_t token, const size_t n_tokens, __m256i isum[FEW_GROUP])
{
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i sum[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++, b += 2 * bytes) {
        __m128i first = 2 * i < n ? _mm_loadu_si128((const __m128i *)(const void *)(b + header)) : _mm_setzero_si128();
        __m128i second = 2 * i + 1 < n ? _mm_loadu_si128((const __m128i *)(const void *)(b + bytes + header)) : _mm_setzero_si128();
        __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
        __m256i low = _mm256_and_si256(both, mask), high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *x = &c->in[token + t].q[(block + 2 * i) * 32];
            __m256i products = _mm256_add_epi16(_mm256_maddubs_epi16(low, few_load_ints(x)),
                                                _mm256_maddubs_epi16(high, few_load_ints(x + 32)));
            sum[t][i] = _mm256_madd_epi16(products, _mm256_set1_epi16(1));
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        isum[t] = few_sum_8(sum[t]);
    }
}

/* d goes into the lower half of isum (FEW_D_WITH_SUM): |isum| <= 32 * 8 * 127. */
FEW_INLINE void q4_0_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens)
{
    const uint8_t *b = p + block * sizeof(qn_block_q4_0);
    __m256i isum[FEW_GROUP];
    pair_sums(c, b, sizeof(qn_block_q4_0), 2, block, n, token, n_tokens, isum);
    for (size_t t = 0; t < n_tokens; t++) {
        int32_t *out = &c->s->isum[token + t][r][block];
        isum[t] = _mm256_sub_epi32(isum[t], few_load_ints(&c->in[token + t].block_sum[block]));
        _mm256_storeu_si256((__m256i *)(void *)out, _mm256_slli_epi32(isum[t], 16));
        for (size_t i = 0; i < n; i++) {
            memcpy(out + i, b + i * sizeof(qn_block_q4_0), sizeof(uint16_t));
        }
    }
}

FEW_INLINE void q4_1_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens)
{
    const uint8_t *b = p + block * sizeof(qn_block_q4_1);
    __m256i isum[FEW_GROUP];
    for (size_t i = 0; i < n; i++) {
        memcpy(&c->s->raw[r][block + i], b + i * sizeof(qn_block_q4_1), 4);
    }
    pair_sums(c, b, sizeof(qn_block_q4_1), 4, block, n, token, n_tokens, isum);
    for (size_t t = 0; t < n_tokens; t++) {
        _mm256_storeu_si256((__m256i *)(void *)&c->s->isum[token + t][r][block], isum[t]);
    }
}

#define PAIR_TOKENS(name) \
    QN_VARIANT void name##_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens) \
    { \
        FEW_FOR_GROUPS(c, rows, 16, 8, name##_GROUP_OF); \
    } \
    FEW_ROWS_FUNCTION(name##_rows, name##_tokens)
#define q4_0_GROUP_OF(row, r, block, n) q4_0_group(c, row, r, block, n, token, n_tokens)
#define q4_1_GROUP_OF(row, r, block, n) q4_1_group(c, row, r, block, n, token, n_tokens)
PAIR_TOKENS(q4_0)
PAIR_TOKENS(q4_1)

FEW_KERNEL(qn_matmul_q4_0_few_avx2, {32, sizeof(qn_block_q4_0), 16, FEW_D_WITH_SUM, prepare_q4_0, q4_0_rows, NULL})
FEW_KERNEL(qn_matmul_q4_1_few_avx2, {32, sizeof(qn_block_q4_1), 16, FEW_MIN_OF_BLOCK, prepare_q4_1, q4_1_rows, d_m_scales})

/* ---- IQ4_XS ---- */

/* The eight scales of a block, each twice as the words of a dword. */
FEW_INLINE __m256i iq4_xs_scales(const uint8_t *b)
{
    uint16_t high;
    int32_t low;
    memcpy(&high, b + 2, sizeof high);
    memcpy(&low, b + 4, sizeof low);
    __m256i scale = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(low), _mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0)),
                                     _mm256_set1_epi32(15));
    __m256i top = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(high), _mm256_set_epi32(14, 12, 10, 8, 6, 4, 2, 0)),
                                   _mm256_set1_epi32(3));
    scale = _mm256_or_si256(scale, _mm256_slli_epi32(top, 4));
    scale = _mm256_or_si256(scale, _mm256_slli_epi32(scale, 16));
    return _mm256_sub_epi16(scale, _mm256_set1_epi16(32));
}

/* One block for n_tokens tokens: partial[t] = 8 dwords that add up to isum. */
FEW_INLINE void iq4_xs_block(const few_chunk *c, const uint8_t *b, size_t r, size_t block, size_t token, const size_t n_tokens,
                             __m256i partial[FEW_GROUP])
{
    const int8_t *q = c->a->q + (c->t0 + token) * c->a->q_stride + (c->block0 + block) * QN_K;
    const __m256i levels = few_load_16_twice(qn_iq4_levels);
    __m256i scales = iq4_xs_scales(b);
    uint16_t d;
    memcpy(&d, b, sizeof d);
    c->s->raw[r][block] = d;
    for (size_t t = 0; t < n_tokens; t++) {
        partial[t] = _mm256_setzero_si256();
    }
    for (int j = 0; j < 8; j++) {
        __m256i code = _mm256_shuffle_epi8(levels, load_nibbles(b + 8 + 16 * j));
        __m256i scale = _mm256_permutevar8x32_epi32(scales, _mm256_set1_epi32(j));
        for (size_t t = 0; t < n_tokens; t++) {
            __m256i products = signed_products(code, few_load_ints(q + t * c->a->q_stride + 32 * j));
            partial[t] = _mm256_add_epi32(partial[t], _mm256_madd_epi16(products, scale));
        }
    }
}

FEW_INLINE void iq4_xs_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens)
{
    __m256i partial[4][FEW_GROUP];
    for (size_t i = 0; i < 4; i++) {
        partial[i][0] = partial[i][1] = _mm256_setzero_si256();
        if (i < n) {
            iq4_xs_block(c, p + (block + i) * sizeof(qn_block_iq4_xs), r, block + i, token, n_tokens, partial[i]);
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        const __m256i sums[4] = {partial[0][t], partial[1][t], partial[2][t], partial[3][t]};
        _mm_storeu_si128((__m128i *)(void *)&c->s->isum[token + t][r][block], few_sum_4(sums));
    }
}

QN_VARIANT void iq4_xs_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens)
{
#define GROUP_OF(row, r, block, n) iq4_xs_group(c, row, r, block, n, token, n_tokens)
    FEW_FOR_GROUPS(c, rows, 4, 4, GROUP_OF);
#undef GROUP_OF
}

FEW_ROWS_FUNCTION(iq4_xs_rows, iq4_xs_tokens)

FEW_KERNEL(qn_matmul_iq4_xs_few_avx2, {QN_K, sizeof(qn_block_iq4_xs), 4, FEW_MIN_NONE, NULL, iq4_xs_rows, d_scales})
