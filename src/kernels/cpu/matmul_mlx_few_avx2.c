/* matmul_mlx_few_avx2.c - decode kernels for AVX2 of MLX affine weights with 1 to 8 bits, groups of 32, 64 and 128.
 *
 * Codes are unsigned, so isum is a plain dot product and msum the sum of the group's activations. Products are added in pairs to 16 bits
 * (VPMADDUBSW). A register of sums takes one load of codes, or as many as make a whole group; four registers are reduced together.
 *
 * No 16-bit sum saturates. The greatest is (pairs added before they are widened) * 2 * (largest code) * 127: of 1, 2, 3, 4, 5 and 6 bits 8, 4, 4,
 * 4, 4 and 2 pairs, so 2032, 3048, 7112, 15240, 31496 and 32004. Codes of 8 bits as they are would not do (2 * 255 * 127), so 128 is taken from
 * them; see add_products. Invariant: see few_avx2.h; loads end with the codes they are for, the end of a row is copied.
 */
#include "kernels/cpu/few_avx2.h"

/* What is fixed for a number of bits: columns whose codes one load holds, and the bytes of it. */
#define LOAD_COLUMNS(bits) ((bits) == 1 ? 256u : (bits) == 2 ? 128u : (bits) == 4 ? 64u : 32u)
#define LOAD_BYTES(bits) (LOAD_COLUMNS(bits) / 8 * (bits))
/* Loads whose products may be added in 16 bits; groups have four at most. */
#define LOADS_TOGETHER(bits) ((bits) == 8 ? 1u : (bits) == 6 ? 2u : 4u)

FEW_INLINE void prepare_mlx(const few_chunk *c, const uint32_t bits)
{
    few_sum_blocks(c, 1);
    few_order_by_place(c, 8 % bits == 0 ? 8 / bits : 1, 32);
}

/* 8 bits: of every 32 activations the magnitudes, then what turns a code into the signed operand (add_products). */
static void prepare_mlx8(const few_chunk *c)
{
    size_t group = c->a->block;
    few_sum_blocks(c, 1);
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int8_t *q = c->a->q + (c->t0 + t) * c->a->q_stride + c->block0 * group;
        for (size_t b = 0; b < c->n_blocks; b++) {
            __m256i positive = _mm256_setzero_si256(), negative = _mm256_setzero_si256();
            for (size_t i = b * group; i < (b + 1) * group; i += 32) {
                __m256i x = few_load_ints(q + i), is_negative = _mm256_cmpgt_epi8(_mm256_setzero_si256(), x), size = _mm256_abs_epi8(x);
                _mm256_storeu_si256((__m256i *)(void *)&c->in[t].q[2 * i], size);
                _mm256_storeu_si256((__m256i *)(void *)&c->in[t].q[2 * i + 32], _mm256_xor_si256(is_negative, _mm256_set1_epi8(-128)));
                positive = _mm256_add_epi64(positive, _mm256_sad_epu8(_mm256_andnot_si256(is_negative, size), _mm256_setzero_si256()));
                negative = _mm256_add_epi64(negative, _mm256_sad_epu8(_mm256_and_si256(is_negative, size), _mm256_setzero_si256()));
            }
            int64_t p[4], n[4];
            _mm256_storeu_si256((__m256i *)(void *)p, positive);
            _mm256_storeu_si256((__m256i *)(void *)n, negative);
            c->in[t].block_start[b] = (int32_t)(128 * (p[0] + p[1] + p[2] + p[3]) - 127 * (n[0] + n[1] + n[2] + n[3]));
        }
    }
}

/* 32 codes of 3, 5 or 6 bits in their order, from 4 * bits bytes: each lane is loaded with 8 (3 bits) or 16 bytes, the first lane's begin and the
 * second's end with them. */
FEW_INLINE __m256i straddling_codes(const uint8_t *p, const int bits)
{
    const int lane_bytes = bits == 3 ? 8 : 16;
    const uint8_t *second = p + 4 * bits - lane_bytes;
    __m256i stream = bits == 3 ? _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(const void *)p)),
                                                         _mm_loadl_epi64((const __m128i *)(const void *)second), 1)
                               : _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p)),
                                                         _mm_loadu_si128((const __m128i *)(const void *)second), 1);
#define BYTES_OF(m, first) (short)((FEW_WORD_BYTE(bits, m) + (first)) | (FEW_WORD_BYTE(bits, m) + (first) + 1) << 8)
#define LANE(first) \
    BYTES_OF(7, first), BYTES_OF(6, first), BYTES_OF(5, first), BYTES_OF(4, first), BYTES_OF(3, first), BYTES_OF(2, first), \
        BYTES_OF(1, first), BYTES_OF(0, first)
#define LEFT(m) (short)(1 << (16 - 2 * bits - FEW_WORD_START(bits, m)))
    __m256i words = _mm256_shuffle_epi8(stream, _mm256_set_epi16(LANE(lane_bytes - 2 * bits), LANE(0)));
    __m256i left = _mm256_broadcastsi128_si256(_mm_set_epi16(LEFT(7), LEFT(6), LEFT(5), LEFT(4), LEFT(3), LEFT(2), LEFT(1), LEFT(0)));
#undef BYTES_OF
#undef LANE
#undef LEFT
    words = _mm256_mullo_epi16(words, left); /* shifted so that the odd code ends at bit 15, and the even one below it */
    const int mask = (1 << bits) - 1;
    __m256i even = _mm256_and_si256(_mm256_srli_epi16(words, 16 - 2 * bits), _mm256_set1_epi16((short)mask));
    __m256i odd = _mm256_and_si256(_mm256_srli_epi16(words, 8 - bits), _mm256_set1_epi16((short)(mask << 8)));
    return _mm256_or_si256(even, odd);
}

/* The codes of one load, 32 a register. */
FEW_INLINE void load_codes(const uint8_t *p, const uint32_t bits, __m256i code[8])
{
    if (bits == 8) {
        code[0] = few_load_ints(p);
    } else if (8 % bits == 0) {
        const __m256i mask = _mm256_set1_epi8((char)((1u << bits) - 1u));
        __m256i stream = few_load_ints(p);
        for (uint32_t j = 0; j < 8 / bits; j++) {
            code[j] = _mm256_and_si256(_mm256_srli_epi16(stream, (int)(bits * j)), mask);
        }
    } else {
        code[0] = straddling_codes(p, (int)bits);
    }
}

/* Adds the products of 32 codes and activations to 16-bit sums.
 * 8 bits: |x| is the unsigned operand and the code with 128 taken from it, its bits turned round where x is negative, the signed one: c - 128 or
 * 255 - c - 128. Both are -128..127, so that the sum of two products is at most 2 * 127 * 128 = 32512; the sum of |x| * these is that of c * x,
 * less 128 times the positive x and plus 127 times the magnitudes of the negative ones: block_start. */
FEW_INLINE __m256i add_products(__m256i sum, __m256i code, const int8_t *x, const uint32_t bits)
{
    if (bits == 8) {
        return _mm256_add_epi16(sum, _mm256_maddubs_epi16(few_load_ints(x), _mm256_xor_si256(code, few_load_ints(x + 32))));
    }
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(code, few_load_ints(x)));
}

/* Dwords that add up to the dot product of n_loads loads for each token. */
FEW_INLINE void mlx_loads(const few_chunk *c, const uint8_t *p, size_t column, size_t token, const size_t n_tokens, const uint32_t bits,
                          const size_t n_loads, __m256i sum[FEW_GROUP][4], const size_t i)
{
    const size_t together = n_loads < LOADS_TOGETHER(bits) ? n_loads : LOADS_TOGETHER(bits);
    for (size_t k = 0; k < n_loads; k += together) {
        __m256i products[FEW_GROUP];
        for (size_t t = 0; t < n_tokens; t++) {
            products[t] = _mm256_setzero_si256();
        }
        for (size_t l = k; l < k + together; l++) {
            __m256i code[8];
            load_codes(p + l * LOAD_BYTES(bits), bits, code);
            for (size_t t = 0; t < n_tokens; t++) {
                const int8_t *x = &c->in[token + t].q[(column + l * LOAD_COLUMNS(bits)) * (bits == 8 ? 2 : 1)];
                for (size_t j = 0; j < LOAD_COLUMNS(bits) / 32; j++) {
                    products[t] = add_products(products[t], code[j], x + 32 * j, bits);
                }
            }
        }
        for (size_t t = 0; t < n_tokens; t++) {
            __m256i dwords = _mm256_madd_epi16(products[t], _mm256_set1_epi16(1));
            sum[t][i] = k == 0 ? dwords : _mm256_add_epi32(sum[t][i], dwords);
        }
    }
}

/* Writes the sums of the groups of a step from its four registers, in which a group is `group_dwords` dwords. */
FEW_INLINE void store_groups(int32_t *out, const __m256i sum[4], const size_t group_dwords)
{
    if (group_dwords == 1) {
        for (size_t i = 0; i < 4; i++) {
            _mm256_storeu_si256((__m256i *)(void *)(out + 8 * i), sum[i]);
        }
    } else if (group_dwords == 2) {
        for (size_t i = 0; i < 4; i += 2) {
            __m256i pairs = _mm256_hadd_epi32(sum[i], sum[i + 1]); /* lane L: groups 2L and 2L + 1 of the one, then of the other */
            _mm256_storeu_si256((__m256i *)(void *)(out + 4 * i), _mm256_permute4x64_epi64(pairs, 0xd8));
        }
    } else if (group_dwords == 4) {
        _mm256_storeu_si256((__m256i *)(void *)out, few_sum_8(sum));
    } else {
        _mm_storeu_si128((__m128i *)(void *)out, few_sum_4(sum));
    }
}

/* Blocks that a step, four registers of sums, takes. */
FEW_INLINE size_t step_blocks(size_t group, uint32_t bits) { return group < LOAD_COLUMNS(bits) ? 4 * (LOAD_COLUMNS(bits) / group) : 4; }

/* A step of a row. The last may be partly past the end, n blocks instead of all; zeros take the place of what does not exist. */
FEW_INLINE void mlx_step(const few_chunk *c, const uint8_t *row, size_t r, size_t block, size_t n, size_t token, const size_t n_tokens,
                         const uint32_t bits, const size_t group)
{
    const size_t n_loads = group > LOAD_COLUMNS(bits) ? group / LOAD_COLUMNS(bits) : 1; /* of a register */
    const size_t block_bytes = group / 8 * bits, column = block * group;
    const uint8_t *from = row + block * block_bytes;
    uint8_t last[4 * 128];
    if (n < step_blocks(group, bits)) {
        memset(last, 0, sizeof last);
        from = memcpy(last, from, n * block_bytes);
    }
    __m256i sum[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++) {
        mlx_loads(c, from + i * n_loads * LOAD_BYTES(bits), column + i * n_loads * LOAD_COLUMNS(bits), token, n_tokens, bits, n_loads, sum,
                  i);
    }
    for (size_t t = 0; t < n_tokens; t++) {
        int32_t *out = &c->s->isum[token + t][r][block];
        store_groups(out, sum[t], 8 * 4 / step_blocks(group, bits));
        if (bits == 8) {
            __m128i start = _mm_loadu_si128((const __m128i *)(const void *)&c->in[token + t].block_start[block]);
            _mm_storeu_si128((__m128i *)(void *)out, _mm_add_epi32(_mm_loadu_si128((const __m128i *)(const void *)out), start));
        }
    }
}

QN_VARIANT void mlx_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens, const uint32_t bits,
                           const size_t group)
{
#define STEP_OF(row, r, block, n) mlx_step(c, row, r, block, n, token, n_tokens, bits, group)
    FEW_FOR_GROUPS(c, rows, 4 * step_blocks(group, bits), step_blocks(group, bits), STEP_OF);
#undef STEP_OF
}

/* Eight scales or biases of a row, n of which exist (zeros for the others), as float bits; of float16 the bits themselves. */
FEW_INLINE __m256i load_affine_floats(const uint8_t *values, qn_dtype type, size_t n)
{
    const size_t item = type == QN_DTYPE_F32 ? 4 : 2;
    uint8_t last[32] = {0};
    if (n < 8) {
        values = memcpy(last, values, n * item);
    }
    if (type == QN_DTYPE_F32) {
        return few_load_ints(values);
    }
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)values));
    return type == QN_DTYPE_BF16 ? _mm256_slli_epi32(bits, 16) : bits;
}

/* d and m of the tile, transposed; rows past the end repeat the last. */
static void mlx_scales(const few_chunk *c)
{
    const qn_matrix *w = c->w;
    const size_t n_rows = few_n_rows(c);
    const qn_dtype type = w->affine_dtype;
    const size_t item = type == QN_DTYPE_F32 ? 4 : 2, row_bytes = w->n_cols / c->a->block * item;
    for (size_t b = 0; b < c->n_blocks; b += 8) {
        __m256i d[8], m[8];
        for (size_t r = 0; r < 8; r++) {
            size_t at = few_row_of(c, r < n_rows ? r : n_rows - 1) * row_bytes + (c->block0 + b) * item;
            const uintptr_t ahead = at + c->span->band.stream_rows * row_bytes; /* the next tile's */
            _mm_prefetch((const char *)((uintptr_t)w->scales + ahead), _MM_HINT_T1);
            _mm_prefetch((const char *)((uintptr_t)w->biases + ahead), _MM_HINT_T1);
            d[r] = load_affine_floats(w->scales + at, type, c->n_blocks - b);
            m[r] = load_affine_floats(w->biases + at, type, c->n_blocks - b);
        }
        few_prefetch(c, 2);
        few_transpose(d);
        few_transpose(m);
        for (size_t j = 0; j < 8; j++) {
            bool half = type == QN_DTYPE_F16;
            _mm256_store_ps(c->s->d[b + j], half ? few_half_to_float(d[j]) : _mm256_castsi256_ps(d[j]));
            _mm256_store_ps(c->s->m[b + j], half ? few_half_to_float(m[j]) : _mm256_castsi256_ps(m[j]));
        }
    }
}

/* The functions of one number of bits. */
#define MLX_KERNEL(bits, prepare) \
    FEW_INLINE void mlx##bits##_tokens(const few_chunk *c, const few_rows *rows, size_t token, const size_t n_tokens) \
    { \
        switch (c->a->block) { \
        case 32: mlx_tokens(c, rows, token, n_tokens, bits, 32); break; \
        case 64: mlx_tokens(c, rows, token, n_tokens, bits, 64); break; \
        default: mlx_tokens(c, rows, token, n_tokens, bits, 128); break; \
        } \
    } \
    FEW_ROWS_FUNCTION(mlx##bits##_rows, mlx##bits##_tokens) \
    FEW_KERNEL(qn_matmul_mlx##bits##_few_avx2, {w->affine.group, w->affine.group / 8 * bits, 4 * step_blocks(w->affine.group, bits), \
                                                FEW_MIN_OF_BLOCK, prepare, mlx##bits##_rows, mlx_scales})
#define MLX_KERNEL_AS_PACKED(bits) \
    static void prepare_mlx##bits(const few_chunk *c) { prepare_mlx(c, bits); } \
    MLX_KERNEL(bits, prepare_mlx##bits)

MLX_KERNEL_AS_PACKED(1)
MLX_KERNEL_AS_PACKED(2)
MLX_KERNEL_AS_PACKED(3)
MLX_KERNEL_AS_PACKED(4)
MLX_KERNEL_AS_PACKED(5)
MLX_KERNEL_AS_PACKED(6)
MLX_KERNEL(8, prepare_mlx8)
