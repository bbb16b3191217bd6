/* matmul_few_avx2.c - decode kernels of Q4_K, Q5_K, Q6_K and Q8_0 for AVX2.
 *
 * Products of codes and activations are added in pairs to 16 bits (VPMADDUBSW) and multiplied with the integer scale while they are widened
 * (VPMADDWD). Invariant: see few_avx2.h; no 16-bit sum saturates (2 * 63 * 127 and 2 * 128 * 127 fit).
 */
#include "kernels/cpu/few_avx2.h"
#include "quant/blocks.h"

/* ---- Q4_K and Q5_K ---- */

/* Sums of sub-blocks of 32 for the mins, in the order 0 2 1 3 4 6 5 7 of min_pairs. */
static void prepare_k4(const few_chunk *c)
{
    static const uint8_t order[8] = {0, 2, 1, 3, 4, 6, 5, 7};
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int16_t *sum16 = c->a->sum16 + (c->t0 + t) * c->a->s_stride + c->block0 * (QN_K / 16);
        for (size_t b = 0; b < c->n_blocks; b++) {
            for (size_t j = 0; j < 8; j++) {
                const int16_t *pair = sum16 + b * 16 + 2 * order[j];
                c->in[t].sums[b * 8 + j] = (int16_t)(pair[0] + pair[1]);
            }
        }
    }
}

/* Bytes 0..7: scales, 8..15: mins, from the 16-byte header d dmin packed[12] (qn_k4_scale_min for all j). */
FEW_INLINE __m128i k4_scales_mins(__m128i header)
{
    __m128i low = _mm_shuffle_epi32(header, 1 | 3 << 2 | 2 << 4 | 3 << 6);
    low = _mm_and_si128(_mm_srlv_epi32(low, _mm_set_epi32(4, 0, 0, 0)), _mm_set_epi32(0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f));
    __m128i high = _mm_srli_epi32(_mm_shuffle_epi32(header, 1 | 1 << 2 | 2 << 4 | 2 << 6), 2);
    return _mm_or_si128(low, _mm_and_si128(high, _mm_set_epi32(0x30303030, 0, 0x30303030, 0)));
}

/* One block for n_tokens tokens: partial[t] = 8 dwords that add up to isum. */
FEW_INLINE void k4_block(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t token, const size_t n_tokens, const bool five,
                         __m256i partial[FEW_GROUP])
{
    const __m256i mask = _mm256_set1_epi8(15);
    const int8_t *q = c->a->q + (c->t0 + token) * c->a->q_stride + (c->block0 + block) * QN_K;
    __m128i header = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i scales_mins = k4_scales_mins(header);
    _mm_storeu_si128((__m128i *)(void *)&c->s->raw[r][4 * block],
                     _mm_blend_epi32(scales_mins, header, 1)); /* d dmin, -, mins 0..3, mins 4..7 */
    __m256i scales = _mm256_broadcastsi128_si256(_mm_cvtepu8_epi16(scales_mins));
    __m256i qh = five ? few_load_ints(p + 16) : _mm256_setzero_si256();
    for (size_t t = 0; t < n_tokens; t++) {
        partial[t] = _mm256_setzero_si256();
    }
    for (int j = 0; j < 4; j++) { /* 32 bytes: sub-blocks 2j (low nibbles) and 2j + 1 */
        __m256i both = few_load_ints(p + (five ? 48 : 16) + 32 * j);
        __m256i low = _mm256_and_si256(both, mask), high = _mm256_and_si256(_mm256_srli_epi16(both, 4), mask);
        if (five) { /* bits 2j and 2j + 1 of qh are the fifth ones */
            const __m256i bit = _mm256_set1_epi8(1);
            __m256i pair = _mm256_srli_epi16(qh, 2 * j);
            low = _mm256_or_si256(low, _mm256_slli_epi16(_mm256_and_si256(pair, bit), 4));
            high = _mm256_or_si256(high, _mm256_slli_epi16(_mm256_and_si256(_mm256_srli_epi16(pair, 1), bit), 4));
        }
        __m256i scale_low = _mm256_shuffle_epi8(scales, _mm256_set1_epi16((short)(0x0100 + 0x0404 * j)));
        __m256i scale_high = _mm256_shuffle_epi8(scales, _mm256_set1_epi16((short)(0x0302 + 0x0404 * j)));
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *x = q + t * c->a->q_stride + 64 * j;
            partial[t] = _mm256_add_epi32(partial[t], _mm256_madd_epi16(_mm256_maddubs_epi16(low, few_load_ints(x)), scale_low));
            partial[t] = _mm256_add_epi32(partial[t], _mm256_madd_epi16(_mm256_maddubs_epi16(high, few_load_ints(x + 32)), scale_high));
        }
    }
}

/* n of four blocks. */
FEW_INLINE void k4_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens,
                         const bool five)
{
    const size_t bytes = five ? sizeof(qn_block_q5_k) : sizeof(qn_block_q4_k);
    __m256i partial[4][FEW_GROUP];
    for (size_t i = 0; i < 4; i++) {
        partial[i][0] = partial[i][1] = _mm256_setzero_si256();
        if (i < n) {
            k4_block(c, p + (block + i) * bytes, r, block + i, token, n_tokens, five, partial[i]);
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        const __m256i sums[4] = {partial[0][t], partial[1][t], partial[2][t], partial[3][t]};
        _mm_storeu_si128((__m128i *)(void *)&c->s->isum[token + t][r][block], few_sum_4(sums));
    }
}

FEW_INLINE void k4_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens, const bool five)
{
#define GROUP_OF(row, r, block, n) k4_group(c, row, r, block, n, token, n_tokens, five)
    FEW_FOR_GROUPS(c, rows, 4, 4, GROUP_OF);
#undef GROUP_OF
}

#define Q4_K_TOKENS(c, rows, token, n) k4_tokens(c, rows, token, n, false)
#define Q5_K_TOKENS(c, rows, token, n) k4_tokens(c, rows, token, n, true)
FEW_ROWS_FUNCTION(q4_k_rows, Q4_K_TOKENS)
FEW_ROWS_FUNCTION(q5_k_rows, Q5_K_TOKENS)

static void k4_scales(const few_chunk *c)
{
    few_scratch *s = c->s;
    const __m256i even = _mm256_set1_epi32(0x00ff00ff);
    for (size_t b = 0; b < c->n_blocks; b += 2) {
        __m256i x[8];
        few_load_columns(c, s->raw, 4 * b, x);
        for (size_t j = 0; j < 2; j++) {
            __m256 d = few_half_to_float(x[4 * j]), dmin = few_half_to_float(_mm256_srli_epi32(x[4 * j], 16));
            _mm256_store_ps(s->d[b + j], d);
            _mm256_store_ps(s->m[b + j], few_negate(dmin));
            for (size_t i = 0; i < 2; i++) {
                __m256i *pairs = (__m256i *)(void *)s->min_pairs[b + j][2 * i];
                _mm256_store_si256(pairs, _mm256_and_si256(x[4 * j + 2 + i], even));
                _mm256_store_si256(pairs + 1, _mm256_and_si256(_mm256_srli_epi32(x[4 * j + 2 + i], 8), even));
            }
        }
    }
}

/* ---- Q6_K ---- */

/* isum = sum scale * (code * q) - 32 * sum scale * sum(q): the second part starts the accumulator, from negated sums. */
static void prepare_q6_k(const few_chunk *c)
{
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int16_t *sum16 = c->a->sum16 + (c->t0 + t) * c->a->s_stride + c->block0 * (QN_K / 16);
        for (size_t i = 0; i < c->n_blocks * (QN_K / 16); i++) {
            c->in[t].sums[i] = (int16_t)-sum16[i];
        }
    }
}

FEW_INLINE void q6_k_block(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t token, const size_t n_tokens,
                           __m256i partial[FEW_GROUP])
{
    const __m256i mask = _mm256_set1_epi8(15), two = _mm256_set1_epi8(0x30);
    /* lane 0 of a register of 32 codes is sub-block 2v, lane 1 is 2v + 1 */
    const __m256i spread = _mm256_set_epi64x(0x0302030203020302, 0x0302030203020302, 0x0100010001000100, 0x0100010001000100);
    const int8_t *q = c->a->q + (c->t0 + token) * c->a->q_stride + (c->block0 + block) * QN_K;
    __m256i scales = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(p + 192)));
    uint16_t d;
    memcpy(&d, p + 208, sizeof d);
    c->s->raw[r][block] = d;
    for (size_t t = 0; t < n_tokens; t++) {
        partial[t] = _mm256_madd_epi16(_mm256_slli_epi16(scales, 5), few_load_ints(&c->in[token + t].sums[block * 16]));
    }
    for (int h = 0; h < 2; h++) {
        __m256i first = few_load_ints(p + 64 * h), second = few_load_ints(p + 64 * h + 32), qh = few_load_ints(p + 128 + 32 * h);
        /* scales 8h .. 8h + 7 in both lanes */
        __m256i eight = h == 0 ? _mm256_permute4x64_epi64(scales, 0x44) : _mm256_permute4x64_epi64(scales, 0xee);
        __m256i code[4] = {
            _mm256_or_si256(_mm256_and_si256(first, mask), _mm256_and_si256(_mm256_slli_epi16(qh, 4), two)),
            _mm256_or_si256(_mm256_and_si256(second, mask), _mm256_and_si256(_mm256_slli_epi16(qh, 2), two)),
            _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(first, 4), mask), _mm256_and_si256(qh, two)),
            _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(second, 4), mask), _mm256_and_si256(_mm256_srli_epi16(qh, 2), two)),
        };
        for (int v = 0; v < 4; v++) {
            __m256i scale = _mm256_shuffle_epi8(eight, _mm256_add_epi8(spread, _mm256_set1_epi8((char)(4 * v))));
            for (size_t t = 0; t < n_tokens; t++) {
                __m256i x = few_load_ints(q + t * c->a->q_stride + 128 * h + 32 * v);
                partial[t] = _mm256_add_epi32(partial[t], _mm256_madd_epi16(_mm256_maddubs_epi16(code[v], x), scale));
            }
        }
    }
}

FEW_INLINE void q6_k_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens)
{
    __m256i partial[4][FEW_GROUP];
    for (size_t i = 0; i < 4; i++) {
        partial[i][0] = partial[i][1] = _mm256_setzero_si256();
        if (i < n) {
            q6_k_block(c, p + (block + i) * sizeof(qn_block_q6_k), r, block + i, token, n_tokens, partial[i]);
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        const __m256i sums[4] = {partial[0][t], partial[1][t], partial[2][t], partial[3][t]};
        _mm_storeu_si128((__m128i *)(void *)&c->s->isum[token + t][r][block], few_sum_4(sums));
    }
}

QN_VARIANT void q6_k_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens)
{
#define GROUP_OF(row, r, block, n) q6_k_group(c, row, r, block, n, token, n_tokens)
    FEW_FOR_GROUPS(c, rows, 4, 4, GROUP_OF);
#undef GROUP_OF
}

FEW_ROWS_FUNCTION(q6_k_rows, q6_k_tokens)

static void d_scales(const few_chunk *c) { few_unpack_scales(c, false); }

/* ---- Q8_0: four blocks at a time ---- */

/* Codes are signed: nothing to take away afterwards. */
FEW_INLINE void q8_0_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens)
{
    const int8_t *q = c->a->q + (c->t0 + token) * c->a->q_stride + (c->block0 + block) * 32;
    const uint8_t *b = p + block * sizeof(qn_block_q8_0);
    __m256i sum[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++, b += sizeof(qn_block_q8_0)) {
        sum[0][i] = sum[1][i] = _mm256_setzero_si256();
        if (i >= n) {
            continue;
        }
        uint16_t d;
        memcpy(&d, b, sizeof d);
        c->s->raw[r][block + i] = d;
        __m256i code = few_load_ints(b + 2), size = _mm256_abs_epi8(code);
        for (size_t t = 0; t < n_tokens; t++) {
            __m256i x = few_load_ints(q + t * c->a->q_stride + 32 * i);
            sum[t][i] = _mm256_madd_epi16(_mm256_maddubs_epi16(size, _mm256_sign_epi8(x, code)), _mm256_set1_epi16(1));
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        _mm_storeu_si128((__m128i *)(void *)&c->s->isum[token + t][r][block], few_sum_4(sum[t]));
    }
}

QN_VARIANT void q8_0_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens)
{
#define GROUP_OF(row, r, block, n) q8_0_group(c, row, r, block, n, token, n_tokens)
    FEW_FOR_GROUPS(c, rows, 16, 4, GROUP_OF);
#undef GROUP_OF
}

FEW_ROWS_FUNCTION(q8_0_rows, q8_0_tokens)

/* ---- the kernels ---- */

FEW_KERNEL(qn_matmul_q4_k_few_avx2, {QN_K, sizeof(qn_block_q4_k), 4, FEW_MIN_OF_8_SUBS, prepare_k4, q4_k_rows, k4_scales})
FEW_KERNEL(qn_matmul_q5_k_few_avx2, {QN_K, sizeof(qn_block_q5_k), 4, FEW_MIN_OF_8_SUBS, prepare_k4, q5_k_rows, k4_scales})
FEW_KERNEL(qn_matmul_q6_k_few_avx2, {QN_K, sizeof(qn_block_q6_k), 4, FEW_MIN_NONE, prepare_q6_k, q6_k_rows, d_scales})
FEW_KERNEL(qn_matmul_q8_0_few_avx2, {32, sizeof(qn_block_q8_0), 16, FEW_MIN_NONE, NULL, q8_0_rows, d_scales})
