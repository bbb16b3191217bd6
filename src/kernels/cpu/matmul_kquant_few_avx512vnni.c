/* matmul_kquant_few_avx512vnni.c - decode kernels of Q4_K, Q5_K and Q6_K.
 *
 * Four super-blocks of a row are taken together, so that their headers and their reductions share registers. Sums of four products stay below
 * 2^15 and are packed to 16 bits before the integer sub-block scales multiply them. Rows of Q4_K and Q5_K go to
 * matmul_lanes.h first, where that is faster. Invariant: see few_avx512vnni.h.
 */
#include "kernels/cpu/few_avx512vnni.h"
#include "kernels/cpu/matmul_lanes.h"
#include "quant/blocks.h"

FEW_INLINE __m512i load_twice(const uint8_t *p) { return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)p)); }

/* Two constants, one for each half of a register. */
FEW_INLINE __m512i halves(long long low, long long high) { return _mm512_set_epi64(high, high, high, high, low, low, low, low); }

/* Bytes 0..7: scales, 8..15: mins, in each lane, from the 16-byte header d dmin packed[12] of Q4_K and Q5_K (qn_k4_scale_min for all j). */
FEW_INLINE __m512i k4_scales_mins(__m512i header)
{
    __m512i low = _mm512_shuffle_epi32(header, (_MM_PERM_ENUM)(1 | 3 << 2 | 2 << 4 | 3 << 6));
    low = _mm512_srlv_epi32(low, _mm512_set4_epi32(4, 0, 0, 0));
    low = _mm512_and_si512(low, _mm512_set4_epi32(0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f));
    __m512i high = _mm512_srli_epi32(_mm512_shuffle_epi32(header, (_MM_PERM_ENUM)(1 | 1 << 2 | 2 << 4 | 2 << 6)), 2);
    const __m512i high_mask = _mm512_set4_epi32(0x30303030, 0, 0x30303030, 0);
    return _mm512_ternarylogic_epi32(low, high, high_mask, 0xf8); /* low | (high & mask) */
}

/* ---- Q4_K and Q5_K ---- */

/* Activations in the order in which splitting nibbles gives the codes: of every 128 elements sub-blocks 0 2 1 3. Sums of sub-blocks of 32 for the
 * mins, in the order 0 2 1 3 4 6 5 7 of min_pairs. */
static void prepare_k4(const few_chunk *c)
{
    static const uint8_t order[8] = {0, 2, 1, 3, 4, 6, 5, 7};
    size_t n_columns = c->n_blocks * QN_K;
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int8_t *q = c->a->q + (c->t0 + t) * c->a->q_stride + c->block0 * QN_K;
        for (size_t i = 0; i < n_columns; i += 128) {
            for (size_t j = 0; j < 4; j++) {
                memcpy(&c->in[t].q[i + 32 * j], q + i + 32 * order[j], 32);
            }
        }
        const int16_t *sum16 = c->a->sum16 + (c->t0 + t) * c->a->s_stride + c->block0 * (QN_K / 16);
        int16_t *sums = c->in[t].sums;
        for (size_t b = 0; b < c->n_blocks; b++) {
            for (size_t j = 0; j < 8; j++) {
                const int16_t *pair = sum16 + b * 16 + 2 * order[j];
                sums[b * 8 + j] = (int16_t)(pair[0] + pair[1]);
            }
        }
    }
}

/* 64 codes each: registers 2h and 2h + 1 hold sub-blocks (0 2) and (1 3) of the half h. */
FEW_INLINE void k4_codes(const uint8_t *block, __m512i code[4], const bool five)
{
    const __m512i mask = _mm512_set1_epi8(15), high_mask = _mm512_set1_epi8(16);
    const uint8_t *qs = block + (five ? 48 : 16);
    for (int h = 0; h < 2; h++) {
        __m512i both = _mm512_loadu_si512(qs + 64 * h);
        code[2 * h] = _mm512_and_si512(both, mask);
        code[2 * h + 1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
    }
    if (five) { /* bit s of qh is the fifth bit of sub-block s */
        __m512i qh = load_twice(block + 16);
        __m512i high[4] = {_mm512_sllv_epi64(qh, halves(4, 2)), _mm512_sllv_epi64(qh, halves(3, 1)), _mm512_srlv_epi64(qh, halves(0, 2)),
                           _mm512_srlv_epi64(qh, halves(1, 3))};
        for (int v = 0; v < 4; v++) {
            code[v] = _mm512_ternarylogic_epi32(code[v], high[v], high_mask, 0xf8); /* code | (high & mask) */
        }
    }
}

/* Word indices that spread the 8 scales of block i (words 8i..8i + 7) over the words that packs_epi32 of registers 0 and 1 makes: lanes 0 and 1
 * hold sub-blocks 0 1, lanes 2 and 3 sub-blocks 2 3, four words each; `high` for registers 2 and 3. */
FEW_INLINE __m512i k4_spread(int i, bool high)
{
    const long long one = 0x0001000100010001;
    long long base = 8 * i + (high ? 4 : 0);
    return _mm512_set_epi64(one * (base + 3), one * (base + 2), one * (base + 3), one * (base + 2), one * (base + 1), one * base,
                            one * (base + 1), one * base);
}

/* Up to four blocks of one row for n_tokens tokens. Results are written for all four. */
FEW_INLINE void k4_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens,
                         const bool five)
{
    few_scratch *s = c->s;
    const size_t bytes = five ? sizeof(qn_block_q5_k) : sizeof(qn_block_q4_k);
    __m512i header = few_load_lanes(p, bytes, n);
    __m512i scales_mins = k4_scales_mins(header);
    __m512i scales = _mm512_unpacklo_epi8(scales_mins, _mm512_setzero_si512());
    _mm512_storeu_si512(&s->raw[r][4 * block], _mm512_mask_blend_epi32(0x1111, scales_mins, header)); /* d dmin, -, mins 0..3, mins 4..7 */
    __m512i partial[FEW_GROUP][4];
    for (int i = 0; i < 4; i++) {
        for (size_t t = 0; t < n_tokens; t++) {
            partial[t][i] = _mm512_setzero_si512();
        }
        if ((size_t)i >= n) {
            continue;
        }
        __m512i code[4];
        k4_codes(p + (size_t)i * bytes, code, five);
        __m512i scale_low = _mm512_permutexvar_epi16(k4_spread(i, false), scales);
        __m512i scale_high = _mm512_permutexvar_epi16(k4_spread(i, true), scales);
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *x = c->in[token + t].q + (block + (size_t)i) * QN_K;
            __m512i sum[4];
            for (int v = 0; v < 4; v++) {
                sum[v] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), code[v], _mm512_load_si512(x + 64 * v));
            }
            partial[t][i] = _mm512_dpwssd_epi32(partial[t][i], _mm512_packs_epi32(sum[0], sum[1]), scale_low);
            partial[t][i] = _mm512_dpwssd_epi32(partial[t][i], _mm512_packs_epi32(sum[2], sum[3]), scale_high);
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        _mm_storeu_si128((__m128i *)(void *)&s->isum[token + t][r][block], few_sum_registers(partial[t]));
    }
}

FEW_INLINE void k4_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens, const bool five)
{
    const size_t bytes = five ? sizeof(qn_block_q5_k) : sizeof(qn_block_q4_k);
#define GROUP_OF(row, r, block, n) k4_group(c, (row) + (block)*bytes, r, block, n, token, n_tokens, five)
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
    const __m512i even = _mm512_set1_epi32(0x00ff00ff);
    for (size_t b = 0; b < c->n_blocks; b += 4) {
        __m512i x[16];
        few_load_columns(c, s->raw, 4 * b, x);
        for (size_t j = 0; j < 4; j++) {
            __m512 d = few_half_to_float(x[4 * j]), dmin = few_half_to_float(_mm512_srli_epi32(x[4 * j], 16));
            _mm512_store_ps(s->d[b + j], d);
            _mm512_store_ps(s->m[b + j], few_negate(dmin));
            for (size_t i = 0; i < 2; i++) {
                _mm512_store_si512(s->min_pairs[b + j][2 * i], _mm512_and_si512(x[4 * j + 2 + i], even));
                _mm512_store_si512(s->min_pairs[b + j][2 * i + 1], _mm512_and_si512(_mm512_srli_epi32(x[4 * j + 2 + i], 8), even));
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

/* 64 codes each, 0..63: registers 2h and 2h + 1 hold the half h of 128 elements. */
FEW_INLINE void q6_k_codes(const uint8_t *block, __m512i code[4])
{
    const __m512i mask = _mm512_set1_epi8(15), high_mask = _mm512_set1_epi8(0x30);
    for (int h = 0; h < 2; h++) {
        __m512i ql = _mm512_loadu_si512(block + 64 * h);
        __m512i qh = load_twice(block + 128 + 32 * h);
        code[2 * h] = _mm512_ternarylogic_epi32(_mm512_and_si512(ql, mask), _mm512_sllv_epi64(qh, halves(4, 2)), high_mask, 0xf8);
        code[2 * h + 1] = _mm512_ternarylogic_epi32(_mm512_and_si512(_mm512_srli_epi64(ql, 4), mask), _mm512_srlv_epi64(qh, halves(0, 2)),
                                                    high_mask, 0xf8);
    }
}

FEW_INLINE void q6_k_group(const few_chunk *c, const uint8_t *p, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens)
{
    few_scratch *s = c->s;
    const int8_t *q = c->a->q + (c->t0 + token) * c->a->q_stride + (c->block0 + block) * QN_K;
    /* lane L of packs_epi32(0, 1) holds sub-blocks L and 4 + L, four words each */
    const __m512i spread = _mm512_set_epi64(0x0007000700070007, 0x0003000300030003, 0x0006000600060006, 0x0002000200020002,
                                            0x0005000500050005, 0x0001000100010001, 0x0004000400040004, 0x0000000000000000);
    const __m512i spread_high = _mm512_add_epi16(spread, _mm512_set1_epi16(8));
    __m512i partial[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++) {
        for (size_t t = 0; t < n_tokens; t++) {
            partial[t][i] = _mm512_setzero_si512();
        }
        if (i >= n) {
            continue;
        }
        const uint8_t *b = p + i * sizeof(qn_block_q6_k);
        __m512i code[4];
        q6_k_codes(b, code);
        __m256i scales = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(b + 192)));
        __m256i offsets = _mm256_slli_epi16(scales, 5);
        __m512i scale_low = _mm512_permutexvar_epi16(spread, _mm512_castsi256_si512(scales));
        __m512i scale_high = _mm512_permutexvar_epi16(spread_high, _mm512_castsi256_si512(scales));
        uint16_t d;
        memcpy(&d, b + 208, sizeof d);
        s->raw[r][block + i] = d;
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *x = q + t * c->a->q_stride + i * QN_K;
            __m512i sum[4];
            for (int v = 0; v < 4; v++) {
                sum[v] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), code[v], _mm512_loadu_si512(x + 64 * v));
            }
            __m256i negated = _mm256_loadu_si256((const __m256i *)(const void *)&c->in[token + t].sums[(block + i) * 16]);
            __m512i acc = _mm512_zextsi256_si512(_mm256_madd_epi16(offsets, negated));
            acc = _mm512_dpwssd_epi32(acc, _mm512_packs_epi32(sum[0], sum[1]), scale_low);
            partial[t][i] = _mm512_dpwssd_epi32(acc, _mm512_packs_epi32(sum[2], sum[3]), scale_high);
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        _mm_storeu_si128((__m128i *)(void *)&s->isum[token + t][r][block], few_sum_registers(partial[t]));
    }
}

QN_VARIANT void q6_k_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens)
{
#define GROUP_OF(row, r, block, n) q6_k_group(c, (row) + (block) * sizeof(qn_block_q6_k), r, block, n, token, n_tokens)
    FEW_FOR_GROUPS(c, rows, 4, 4, GROUP_OF);
#undef GROUP_OF
}

FEW_ROWS_FUNCTION(q6_k_rows, q6_k_tokens)

static void q6_k_scales(const few_chunk *c) { few_unpack_scales(c, false); }

/* ---- the kernels ---- */

void qn_matmul_q4_k_few_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                   size_t y_stride, void *scratch)
{
    static const few_type type = {QN_K, sizeof(qn_block_q4_k), 4, FEW_MIN_OF_8_SUBS, prepare_k4, q4_k_rows, k4_scales};
    r0 = qn_matmul_lanes_avx512vnni(w, r0, r1, a, t0, t1, y, y_stride, scratch);
    few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}

void qn_matmul_q5_k_few_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                   size_t y_stride, void *scratch)
{
    static const few_type type = {QN_K, sizeof(qn_block_q5_k), 4, FEW_MIN_OF_8_SUBS, prepare_k4, q5_k_rows, k4_scales};
    r0 = qn_matmul_lanes_avx512vnni(w, r0, r1, a, t0, t1, y, y_stride, scratch);
    few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}

void qn_matmul_q6_k_few_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                   size_t y_stride, void *scratch)
{
    static const few_type type = {QN_K, sizeof(qn_block_q6_k), 4, FEW_MIN_NONE, prepare_q6_k, q6_k_rows, q6_k_scales};
    few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}
