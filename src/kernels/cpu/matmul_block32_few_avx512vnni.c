/* matmul_block32_few_avx512vnni.c - decode kernels of the types with a float scale per 32 columns: Q8_0, and all that store nibbles (Q4_0 Q4_1
 * Q5_0 Q5_1 IQ4_NL MXFP4); and of IQ4_XS, whose nibbles lie the same way.
 *
 * Sixteen blocks of a row are taken together and end as one register of sums. Codes are made unsigned by an offset; offset times the sum of
 * the activations is taken away again from the exact sums. Rows go to matmul_lanes.h first, where that is faster. Invariant: see few_avx512vnni.h.
 */
#include "kernels/cpu/few_avx512vnni.h"
#include "kernels/cpu/matmul_lanes.h"
#include "kernels/cpu/levels.h"
#include "quant/blocks.h"

enum { GROUP = 16 }; /* blocks */

/* Of every 128 activations (four times 32) first the low 16 of each 32, then the high ones: what low and high nibbles meet. */
FEW_INLINE void prepare_nibble_order(const few_chunk *c, size_t n_columns)
{
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int8_t *q = c->a->q + (c->t0 + t) * c->a->q_stride + (c->block0 * c->a->block);
        for (size_t i = 0; i < n_columns; i += 32) {
            int8_t *out = &c->in[t].q[i / 128 * 128 + i % 128 / 2];
            memcpy(out, q + i, 16);
            memcpy(out + 64, q + i + 16, 16);
        }
    }
}

/* ---- Q8_0 ---- */

static void prepare_q8_0(const few_chunk *c) { few_sum_blocks(c, 128); }

/* Up to 16 blocks of one row. */
FEW_INLINE void q8_0_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens)
{
    few_scratch *s = c->s;
    const int8_t *q = c->a->q + (c->t0 + token) * c->a->q_stride + (c->block0 + block) * 32;
    __m512i lanes[FEW_GROUP][2];
    for (size_t b = 0; b < n; b++) {
        uint16_t d;
        memcpy(&d, p + b * sizeof(qn_block_q8_0), sizeof d);
        s->raw[r][block + b] = d;
    }
    for (size_t half = 0; half < 2; half++) {
        __m512i sum[FEW_GROUP][4];
        for (size_t i = 0; i < 4; i++) { /* two blocks a register */
            size_t b = 8 * half + 2 * i;
            const uint8_t *at = p + b * sizeof(qn_block_q8_0) + 2;
            __m256i first = b < n ? _mm256_loadu_si256((const __m256i *)(const void *)at) : _mm256_setzero_si256();
            __m256i second = b + 1 < n ? _mm256_loadu_si256((const __m256i *)(const void *)(at + sizeof(qn_block_q8_0)))
                                       : _mm256_setzero_si256();
            __m512i code = _mm512_xor_si512(_mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1), _mm512_set1_epi8(-128));
            for (size_t t = 0; t < n_tokens; t++) {
                __m512i x = b < n ? _mm512_loadu_si512(q + t * c->a->q_stride + 32 * b) : _mm512_setzero_si512();
                sum[t][i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), code, x);
            }
        }
        for (size_t t = 0; t < n_tokens; t++) {
            lanes[t][half] = few_sum_lanes(sum[t]);
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        __m512i isum = _mm512_sub_epi32(few_sum_halves(lanes[t][0], lanes[t][1]), _mm512_loadu_si512(&c->in[token + t].block_sum[block]));
        _mm512_storeu_si512(&s->isum[token + t][r][block], isum);
    }
}

QN_VARIANT void q8_0_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens)
{
#define GROUP_OF(row, r, block, n) q8_0_group(c, (row) + (block) * sizeof(qn_block_q8_0), r, block, n, token, n_tokens)
    FEW_FOR_GROUPS(c, rows, GROUP, GROUP, GROUP_OF);
#undef GROUP_OF
}

FEW_ROWS_FUNCTION(q8_0_rows, q8_0_tokens)

/* ---- nibbles ---- */

/* What distinguishes the types. */
typedef struct nibble_type {
    size_t bytes, header; /* of a block; of what stands before the nibbles */
    size_t scale_bytes;   /* 1 (e8m0), 2 (d) or 4 (d and m), at the block's start */
    bool fifth;           /* 32 bits of fifth bits end the header */
    const int8_t *levels; /* table for nibbles, or NULL */
    int offset;           /* what the unsigned codes have too much */
    bool d_with_sum;      /* FEW_D_WITH_SUM */
} nibble_type;

FEW_INLINE __m512i nibble_codes(__m512i nibbles, const int8_t *levels)
{
    if (levels == NULL) {
        return nibbles;
    }
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)levels)), nibbles);
}

/* Four blocks, a lane each: their first and last 16 codes. n of them exist. */
FEW_INLINE void load_nibbles(const uint8_t *p, size_t n, const nibble_type *type, __m512i *low, __m512i *high)
{
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i both = few_load_lanes(p + type->header, type->bytes, n);
    *low = nibble_codes(_mm512_and_si512(both, mask), type->levels);
    *high = nibble_codes(_mm512_and_si512(_mm512_srli_epi16(both, 4), mask), type->levels);
    if (type->fifth) {
        uint64_t low_bits = 0, high_bits = 0;
        for (size_t b = 0; b < n; b++) {
            uint32_t bits;
            memcpy(&bits, p + b * type->bytes + type->header - 4, sizeof bits);
            low_bits |= (uint64_t)(bits & 0xffffu) << (16 * b);
            high_bits |= (uint64_t)(bits >> 16) << (16 * b);
        }
        const __m512i sixteen = _mm512_set1_epi8(16);
        *low = _mm512_or_si512(*low, _mm512_maskz_mov_epi8(low_bits, sixteen));
        *high = _mm512_or_si512(*high, _mm512_maskz_mov_epi8(high_bits, sixteen));
    }
}

/* d of up to 16 blocks of Q4_0 in the lower halves of dwords: of eight blocks all lie in 128 bytes. */
FEW_INLINE __m512i q4_0_d(const uint8_t *p, size_t n)
{
    if (n < GROUP) {
        uint32_t d[GROUP] = {0};
        for (size_t b = 0; b < n; b++) {
            memcpy(&d[b], p + b * sizeof(qn_block_q4_0), sizeof(uint16_t));
        }
        return _mm512_loadu_si512(d);
    }
    const __m512i word = _mm512_set_epi32(63, 54, 45, 36, 27, 18, 9, 0, 63, 54, 45, 36, 27, 18, 9, 0);
    const uint8_t *second = p + 8 * sizeof(qn_block_q4_0);
    return _mm512_or_si512(_mm512_maskz_permutex2var_epi16(0x00005555, _mm512_loadu_si512(p), word, _mm512_loadu_si512(p + 64)),
                           _mm512_maskz_permutex2var_epi16(0x55550000, _mm512_loadu_si512(second), word, _mm512_loadu_si512(second + 64)));
}

/* Up to 16 blocks of one row. */
FEW_INLINE void nibble_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens,
                             const nibble_type *type)
{
    few_scratch *s = c->s;
    for (size_t b = 0; b < n && !type->d_with_sum; b++) {
        uint32_t raw = 0;
        memcpy(&raw, p + b * type->bytes, type->scale_bytes);
        s->raw[r][block + b] = raw;
    }
    __m512i sum[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++) {
        for (size_t t = 0; t < n_tokens; t++) {
            sum[t][i] = _mm512_setzero_si512();
        }
        if (4 * i >= n) {
            continue;
        }
        __m512i low, high;
        load_nibbles(p + 4 * i * type->bytes, n - 4 * i < 4 ? n - 4 * i : 4, type, &low, &high);
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *x = c->in[token + t].q + (block + 4 * i) * 32;
            sum[t][i] = _mm512_dpbusd_epi32(sum[t][i], low, _mm512_load_si512(x));
            sum[t][i] = _mm512_dpbusd_epi32(sum[t][i], high, _mm512_load_si512(x + 64));
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        __m512i isum = few_sum_quarters(few_sum_lanes(sum[t]));
        if (type->offset != 0) {
            isum = _mm512_sub_epi32(isum, _mm512_loadu_si512(&c->in[token + t].block_sum[block]));
        }
        if (type->d_with_sum) {
            isum = _mm512_or_si512(_mm512_slli_epi32(isum, 16), q4_0_d(p, n));
        }
        _mm512_storeu_si512(&s->isum[token + t][r][block], isum);
    }
}

QN_VARIANT void nibble_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens, const nibble_type *type)
{
#define GROUP_OF(row, r, block, n) nibble_group(c, (row) + (block)*type->bytes, r, block, n, token, n_tokens, type)
    FEW_FOR_GROUPS(c, rows, GROUP, GROUP, GROUP_OF);
#undef GROUP_OF
}

/* d = 2^(e - 128) for the e8m0 byte e: a float32 subnormal for 0 and 1, else exponent e - 1. */
static void e8m0_scales(const few_chunk *c)
{
    for (size_t b = 0; b < c->n_blocks; b += 16) {
        __m512i x[16];
        few_load_columns(c, c->s->raw, b, x);
        for (size_t j = 0; j < 16; j++) {
            __mmask16 subnormal = _mm512_cmplt_epi32_mask(x[j], _mm512_set1_epi32(2));
            __m512i bits = _mm512_slli_epi32(_mm512_sub_epi32(x[j], _mm512_set1_epi32(1)), 23);
            bits = _mm512_mask_sllv_epi32(bits, subnormal, _mm512_set1_epi32(0x00200000), x[j]);
            _mm512_store_ps(c->s->d[b + j], _mm512_castsi512_ps(bits));
        }
    }
}

static void d_scales(const few_chunk *c) { few_unpack_scales(c, false); }

static void d_m_scales(const few_chunk *c) { few_unpack_scales(c, true); }

/* The functions of one nibble type: preparation, rows, kernel. `factor` is what block_sum is multiplied with: the offset, or 1 for types with m. */
#define NIBBLE_KERNEL(name, layout, min, factor, scales, ...) \
    static const nibble_type name##_type = __VA_ARGS__; \
    static void prepare_##name(const few_chunk *c) \
    { \
        few_sum_blocks(c, factor); \
        prepare_nibble_order(c, c->n_blocks * 32); \
    } \
    FEW_INLINE void name##_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens) \
    { \
        nibble_tokens(c, rows, token, n_tokens, &name##_type); \
    } \
    FEW_ROWS_FUNCTION(name##_rows, name##_tokens) \
    void qn_matmul_##name##_few_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, \
                                           size_t y_stride, void *scratch) \
    { \
        static const few_type type = {32, sizeof(layout), GROUP, min, prepare_##name, name##_rows, scales}; \
        r0 = qn_matmul_lanes_avx512vnni(w, r0, r1, a, t0, t1, y, y_stride, scratch); \
        few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch); \
    }

NIBBLE_KERNEL(q4_0, qn_block_q4_0, FEW_D_WITH_SUM, 8, NULL, {18, 2, 2, false, NULL, 8, true}) /* |isum| <= 32 * 8 * 127 */
NIBBLE_KERNEL(q4_1, qn_block_q4_1, FEW_MIN_OF_BLOCK, 1, d_m_scales, {20, 4, 4, false, NULL, 0, false})
NIBBLE_KERNEL(q5_0, qn_block_q5_0, FEW_MIN_NONE, 16, d_scales, {22, 6, 2, true, NULL, 16, false})
NIBBLE_KERNEL(q5_1, qn_block_q5_1, FEW_MIN_OF_BLOCK, 1, d_m_scales, {24, 8, 4, true, NULL, 0, false})
NIBBLE_KERNEL(iq4_nl, qn_block_iq4_nl, FEW_MIN_NONE, 128, d_scales, {18, 2, 2, false, iq4_levels_plus_128, 128, false})
NIBBLE_KERNEL(mxfp4, qn_block_mxfp4, FEW_MIN_NONE, 12, e8m0_scales, {17, 1, 1, false, fp4_doubled_plus_12, 12, false})

/* ---- IQ4_XS: a super-block of 256 with signed 6-bit scales ---- */

/* Sums of sub-blocks of 32, negated: isum = sum scale * (code * q) + sum (128 * scale) * -sum(q). */
static void prepare_iq4_xs(const few_chunk *c)
{
    prepare_nibble_order(c, c->n_blocks * QN_K);
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int16_t *sum16 = c->a->sum16 + (c->t0 + t) * c->a->s_stride + c->block0 * (QN_K / 16);
        for (size_t i = 0; i < c->n_blocks * (QN_K / 32); i++) {
            c->in[t].sums[i] = (int16_t) - (sum16[2 * i] + sum16[2 * i + 1]);
        }
    }
}

/* The eight scales of a block as 16-bit numbers. */
FEW_INLINE __m128i iq4_xs_scales(const uint8_t *block)
{
    uint16_t high;
    uint32_t low;
    memcpy(&high, block + 2, sizeof high);
    memcpy(&low, block + 4, sizeof low);
    uint64_t bytes = _pdep_u64(low, 0x0f0f0f0f0f0f0f0fu) | _pdep_u64(high, 0x3030303030303030u);
    return _mm_sub_epi16(_mm_cvtepu8_epi16(_mm_cvtsi64_si128((long long)bytes)), _mm_set1_epi16(32));
}

FEW_INLINE void iq4_xs_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens)
{
    few_scratch *s = c->s;
    const __m512i mask = _mm512_set1_epi8(15);
    const __m512i spread = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    __m512i partial[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++) {
        for (size_t t = 0; t < n_tokens; t++) {
            partial[t][i] = _mm512_setzero_si512();
        }
        if (i >= n) {
            continue;
        }
        const uint8_t *b = p + i * sizeof(qn_block_iq4_xs);
        uint16_t d;
        memcpy(&d, b, sizeof d);
        s->raw[r][block + i] = d;
        __m128i scales = iq4_xs_scales(b);
        __m128i offsets = _mm_slli_epi16(scales, 7);
        __m512i wide = _mm512_castsi256_si512(_mm256_cvtepi16_epi32(scales));
        for (size_t half = 0; half < 2; half++) { /* four sub-blocks, a lane each */
            __m512i both = _mm512_loadu_si512(b + 8 + 64 * half);
            __m512i low = nibble_codes(_mm512_and_si512(both, mask), iq4_levels_plus_128);
            __m512i high = nibble_codes(_mm512_and_si512(_mm512_srli_epi16(both, 4), mask), iq4_levels_plus_128);
            __m512i scale = _mm512_permutexvar_epi32(_mm512_add_epi32(spread, _mm512_set1_epi32(4 * (int)half)), wide);
            for (size_t t = 0; t < n_tokens; t++) {
                const int8_t *x = c->in[token + t].q + (block + i) * QN_K + 128 * half;
                __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low, _mm512_load_si512(x));
                sum = _mm512_dpbusd_epi32(sum, high, _mm512_load_si512(x + 64));
                partial[t][i] = _mm512_add_epi32(partial[t][i], _mm512_mullo_epi32(sum, scale));
            }
        }
        for (size_t t = 0; t < n_tokens; t++) {
            __m128i negated = _mm_loadu_si128((const __m128i *)(const void *)&c->in[token + t].sums[(block + i) * 8]);
            partial[t][i] = _mm512_add_epi32(partial[t][i], _mm512_zextsi128_si512(_mm_madd_epi16(offsets, negated)));
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        _mm_storeu_si128((__m128i *)(void *)&s->isum[token + t][r][block], few_sum_registers(partial[t]));
    }
}

QN_VARIANT void iq4_xs_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens)
{
#define GROUP_OF(row, r, block, n) iq4_xs_group(c, (row) + (block) * sizeof(qn_block_iq4_xs), r, block, n, token, n_tokens)
    FEW_FOR_GROUPS(c, rows, 4, 4, GROUP_OF);
#undef GROUP_OF
}

FEW_ROWS_FUNCTION(iq4_xs_rows, iq4_xs_tokens)

/* ---- the kernels (those of nibbles stand above) ---- */

void qn_matmul_q8_0_few_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                   size_t y_stride, void *scratch)
{
    static const few_type type = {32, sizeof(qn_block_q8_0), GROUP, FEW_MIN_NONE, prepare_q8_0, q8_0_rows, d_scales};
    r0 = qn_matmul_lanes_avx512vnni(w, r0, r1, a, t0, t1, y, y_stride, scratch);
    few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}

void qn_matmul_iq4_xs_few_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                     size_t y_stride, void *scratch)
{
    static const few_type type = {QN_K, sizeof(qn_block_iq4_xs), 4, FEW_MIN_NONE, prepare_iq4_xs, iq4_xs_rows, d_scales};
    r0 = qn_matmul_lanes_avx512vnni(w, r0, r1, a, t0, t1, y, y_stride, scratch);
    few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}
