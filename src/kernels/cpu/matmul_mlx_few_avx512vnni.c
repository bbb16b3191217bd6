/* matmul_mlx_few_avx512vnni.c - decode kernels of MLX affine weights with 1 to 8 bits, groups of 32, 64 and 128.
 *
 * Codes are unsigned, so isum is a plain dot product and msum the sum of the group's activations. Four loads of codes are reduced together;
 * what a group is decides how. Invariant: see few_avx512vnni.h; a load that would reach past its bytes is masked, the end of a row is copied.
 */
#include "kernels/cpu/few_avx512vnni.h"

/* What is fixed for a number of bits: columns whose codes one load holds, and the bytes of it. Of 3, 5 and 6 bits a load is 64 columns. */
#define LOAD_COLUMNS(bits) ((bits) == 1 ? 512u : (bits) == 2 ? 256u : (bits) == 4 ? 128u : 64u)
#define LOAD_BYTES(bits) (LOAD_COLUMNS(bits) / 8 * (bits))

/* Activations as the codes of a load come out of it. */
FEW_INLINE void prepare_mlx(const few_chunk *c, const uint32_t bits)
{
    few_sum_blocks(c, 1);
    few_order_by_place(c, 8 % bits == 0 ? 8 / bits : 1, 64);
}

/* Two constants for each of the eight 16-bit words of a lane. */
#define WORDS(f) _mm512_broadcast_i32x4(_mm_set_epi16(f(7), f(6), f(5), f(4), f(3), f(2), f(1), f(0)))

/* 64 codes of 3, 5 or 6 bits in their order, from the first 8 * bits bytes of a register. */
FEW_INLINE __m512i straddling_codes(__m512i stream, const int bits)
{
    __m512i lane_words = _mm512_set_epi16(7, 6, 5, 4, 3, 2, 1, 0, 7, 6, 5, 4, 3, 2, 1, 0, 7, 6, 5, 4, 3, 2, 1, 0, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i lane_first = _mm512_set_epi64(3 * bits * 0x0001000100010001, 3 * bits * 0x0001000100010001, 2 * bits * 0x0001000100010001,
                                          2 * bits * 0x0001000100010001, bits * 0x0001000100010001, bits * 0x0001000100010001, 0, 0);
    __m512i lanes = _mm512_permutexvar_epi16(_mm512_add_epi16(lane_words, lane_first), stream); /* 2 * bits bytes in each lane */
#define BYTES_OF(m) (short)(FEW_WORD_BYTE(bits, m) | (FEW_WORD_BYTE(bits, m) + 1) << 8)
#define RIGHT(m) (short)FEW_WORD_START(bits, m)
#define LEFT(m) (short)(16 - 2 * bits - FEW_WORD_START(bits, m))
    __m512i words = _mm512_shuffle_epi8(lanes, WORDS(BYTES_OF));
    __m512i even = _mm512_srlv_epi16(words, WORDS(RIGHT)), odd = _mm512_sllv_epi16(words, WORDS(LEFT)); /* odd codes end at bit 15 */
#undef BYTES_OF
#undef RIGHT
#undef LEFT
    odd = bits == 3 ? _mm512_srli_epi16(odd, 5) : bits == 5 ? _mm512_srli_epi16(odd, 3) : _mm512_srli_epi16(odd, 2);
    const __m512i mask = _mm512_set1_epi16((short)((1 << bits) - 1)), high_mask = _mm512_set1_epi16((short)(((1 << bits) - 1) << 8));
    return _mm512_ternarylogic_epi32(_mm512_and_si512(even, mask), odd, high_mask, 0xf8); /* even | (odd & mask) */
}

/* The codes of one load, 64 a register. */
FEW_INLINE void load_codes(__m512i stream, const uint32_t bits, __m512i code[8])
{
    const __m512i mask = _mm512_set1_epi8((char)((1u << bits) - 1u));
    if (bits == 8) {
        code[0] = stream;
    } else if (bits == 4) {
        code[0] = _mm512_and_si512(stream, mask);
        code[1] = _mm512_and_si512(_mm512_srli_epi16(stream, 4), mask);
    } else if (bits == 2) {
        few_shift_pairs(stream, code);
        for (int j = 0; j < 4; j++) {
            code[j] = _mm512_and_si512(code[j], mask);
        }
    } else if (bits == 1) {
        few_shift_pairs(stream, code);
        for (int j = 3; j >= 0; j--) {
            code[2 * j + 1] = _mm512_and_si512(_mm512_srli_epi16(code[j], 1), mask);
            code[2 * j] = _mm512_and_si512(code[j], mask);
        }
    } else {
        code[0] = straddling_codes(stream, (int)bits);
    }
}

/* Dwords that add up to the dot product of one load for each token. */
FEW_INLINE void mlx_load(const few_chunk *c, const uint8_t *p, size_t column, size_t token, const size_t n_tokens, const uint32_t bits,
                         __m512i sum[FEW_GROUP])
{
    __m512i code[8];
    load_codes(LOAD_BYTES(bits) == 64 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi64((__mmask8)((1u << bits) - 1u), p), bits, code);
    for (size_t t = 0; t < n_tokens; t++) {
        const int8_t *x = c->in[token + t].q + column;
        sum[t] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), code[0], _mm512_load_si512(x));
        for (size_t j = 1; j < LOAD_COLUMNS(bits) / 64; j++) {
            sum[t] = _mm512_dpbusd_epi32(sum[t], code[j], _mm512_load_si512(x + 64 * j));
        }
    }
}

/* Writes the sums of the groups of a step from those of its four loads, which are `group_dwords` dwords each. */
FEW_INLINE void store_groups(int32_t *out, const __m512i sum[4], size_t group_dwords)
{
    if (group_dwords == 1) {
        for (size_t i = 0; i < 4; i++) {
            _mm512_storeu_si512(out + 16 * i, sum[i]);
        }
        return;
    }
    if (group_dwords == 2) {
        for (size_t i = 0; i < 4; i += 2) {
            __m512 a = _mm512_castsi512_ps(sum[i]), b = _mm512_castsi512_ps(sum[i + 1]);
            __m512i even = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0x88)), odd = _mm512_castps_si512(_mm512_shuffle_ps(a, b, 0xdd));
            const __m512i order = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0); /* lane L: groups 2L and 2L + 1 of a, then of b */
            _mm512_storeu_si512(out + 8 * i, _mm512_permutexvar_epi64(order, _mm512_add_epi32(even, odd)));
        }
        return;
    }
    __m512i lanes = few_sum_lanes(sum);
    if (group_dwords == 4) {
        _mm512_storeu_si512(out, few_sum_quarters(lanes));
    } else if (group_dwords == 8) {
        _mm256_storeu_si256((__m256i *)(void *)out, _mm512_castsi512_si256(few_sum_halves(lanes, lanes)));
    } else {
        __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
        __m128i loads = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
        if (group_dwords == 16) {
            _mm_storeu_si128((__m128i *)(void *)out, loads);
        } else { /* two loads a group */
            _mm_storel_epi64((__m128i *)(void *)out, _mm_hadd_epi32(loads, loads));
        }
    }
}

/* Blocks that a step of four loads takes. */
FEW_INLINE size_t step_blocks(size_t block, uint32_t bits) { return 4 * LOAD_COLUMNS(bits) / block; }

/* A step of a row. The last may be partly past the end, n blocks instead of all; zeros take the place of what does not exist. */
FEW_INLINE void mlx_step(const few_chunk *c, const uint8_t *row, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens,
                         const uint32_t bits)
{
    const size_t block_bytes = c->a->block / 8 * bits;
    const uint8_t *at = row + block * block_bytes;
    uint8_t last[256];
    if (n < step_blocks(c->a->block, bits)) {
        memset(last, 0, sizeof last);
        at = memcpy(last, at, n * block_bytes);
    }
    __m512i sum[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++) {
        __m512i one[FEW_GROUP];
        mlx_load(c, at + i * LOAD_BYTES(bits), block * c->a->block + i * LOAD_COLUMNS(bits), token, n_tokens, bits, one);
        for (size_t t = 0; t < n_tokens; t++) {
            sum[t][i] = one[t];
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        store_groups(&c->s->isum[token + t][r][block], sum[t], 16 * c->a->block / LOAD_COLUMNS(bits));
    }
}

QN_VARIANT void mlx_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens, const uint32_t bits)
{
#define STEP_OF(row, r, block, n) mlx_step(c, row, r, block, n, token, n_tokens, bits)
    const size_t step = step_blocks(c->a->block, bits);
    FEW_FOR_GROUPS(c, rows, step, step, STEP_OF);
#undef STEP_OF
}

/* Of a row's scales and biases 16 from group `first` on, n of which exist (zeros for the others), as float bits. */
FEW_INLINE __m512i load_floats(const uint8_t *row, size_t first, size_t n)
{
    return _mm512_maskz_loadu_epi32((__mmask16)(n < 16 ? (1u << n) - 1u : 0xffffu), row + 4 * first);
}

/* Likewise of 16-bit floats: the scale in the lower half, the bias in the upper. */
FEW_INLINE __m512i load_half_pairs(const uint8_t *scales, const uint8_t *biases, size_t first, size_t n)
{
    __mmask16 mask = (__mmask16)(n < 16 ? (1u << n) - 1u : 0xffffu);
    __m512i scale = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, scales + 2 * first));
    __m512i bias = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, biases + 2 * first));
    return _mm512_or_si512(scale, _mm512_slli_epi32(bias, 16));
}

/* d and m of the tile's blocks from b on, transposed. */
FEW_INLINE void unpack_floats(const few_chunk *c, size_t b, __m512i d[16], __m512i m[16])
{
    few_transpose(d);
    few_transpose(m);
    for (size_t j = 0; j < 16; j++) {
        _mm512_store_ps(c->s->d[b + j], _mm512_castsi512_ps(d[j]));
        _mm512_store_ps(c->s->m[b + j], _mm512_castsi512_ps(m[j]));
    }
}

FEW_INLINE void unpack_half_pairs(const few_chunk *c, size_t b, __m512i pair[16], bool bf16)
{
    few_transpose(pair);
    for (size_t j = 0; j < 16; j++) {
        __m512 d = bf16 ? _mm512_castsi512_ps(_mm512_slli_epi32(pair[j], 16)) : few_half_to_float(pair[j]);
        __m512 m = bf16 ? _mm512_castsi512_ps(_mm512_and_si512(pair[j], _mm512_set1_epi32((int)0xffff0000u)))
                        : few_half_to_float(few_upper_halves(pair[j]));
        _mm512_store_ps(c->s->d[b + j], d);
        _mm512_store_ps(c->s->m[b + j], m);
    }
}

/* d and m of the tile; rows past the end repeat the last. */
static void mlx_scales(const few_chunk *c)
{
    const qn_matrix *w = c->w;
    const size_t n_rows = few_n_rows(c);
    const bool wide = w->affine_dtype == QN_DTYPE_F32;
    const size_t item = wide ? 4 : 2, row_bytes = w->n_cols / c->a->block * item;
    for (size_t b = 0; b < c->n_blocks; b += 16) {
        __m512i d[16], m[16];
        few_prefetch(c, 2);
        for (size_t r = 0; r < 16; r++) {
            const size_t at = few_row_of(c, r < n_rows ? r : n_rows - 1) * row_bytes, first = c->block0 + b, n = c->n_blocks - b;
            const uintptr_t ahead = at + c->span->band.stream_rows * row_bytes + first * item; /* the next tile's */
            _mm_prefetch((const char *)((uintptr_t)w->scales + ahead), _MM_HINT_T1);
            _mm_prefetch((const char *)((uintptr_t)w->biases + ahead), _MM_HINT_T1);
            if (wide) {
                d[r] = load_floats(w->scales + at, first, n);
                m[r] = load_floats(w->biases + at, first, n);
            } else {
                d[r] = load_half_pairs(w->scales + at, w->biases + at, first, n);
            }
        }
        if (wide) {
            unpack_floats(c, b, d, m);
        } else {
            unpack_half_pairs(c, b, d, w->affine_dtype == QN_DTYPE_BF16);
        }
    }
}

/* The functions of one number of bits. */
#define MLX_KERNEL(bits) \
    static void prepare_mlx##bits(const few_chunk *c) { prepare_mlx(c, bits); } \
    FEW_INLINE void mlx##bits##_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens) \
    { \
        mlx_tokens(c, rows, token, n_tokens, bits); \
    } \
    FEW_ROWS_FUNCTION(mlx##bits##_rows, mlx##bits##_tokens) \
    void qn_matmul_mlx##bits##_few_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, \
                                              size_t y_stride, void *scratch) \
    { \
        const size_t block = w->affine.group; \
        const few_type type = { \
            block, block / 8 * bits, step_blocks(block, bits), FEW_MIN_OF_BLOCK, prepare_mlx##bits, mlx##bits##_rows, mlx_scales}; \
        few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch); \
    }
MLX_KERNEL(1)
MLX_KERNEL(2)
MLX_KERNEL(3)
MLX_KERNEL(4)
MLX_KERNEL(5)
MLX_KERNEL(6)
MLX_KERNEL(8)
