/* matmul_mlx_few_avx512vnni.c - decode kernels of MLX affine weights with 4 and 8 bits, groups of 32, 64 and 128.
 *
 * Codes are unsigned, so isum is a plain dot product and msum the sum of the group's activations. Four registers of codes are reduced together
 * to lane sums; what a group is decides how these meet. Invariant: see few_avx512vnni.h; partial registers are read with a mask.
 */
#include "kernels/cpu/few_avx512vnni.h"

/* Elements of one register of codes and of the four that are reduced together. */
#define REGISTER_COLUMNS(bits) (512u / (bits))
#define STEP_COLUMNS(bits) (4u * REGISTER_COLUMNS(bits))

FEW_INLINE void prepare_mlx(const few_chunk *c, const uint32_t bits)
{
    size_t group = c->a->block;
    for (size_t t = 0; t < c->n_tokens; t++) {
        const int16_t *sum16 = c->a->sum16 + (c->t0 + t) * c->a->s_stride + c->block0 * group / 16;
        for (size_t b = 0; b < c->n_blocks; b++) {
            int32_t sum = 0;
            for (size_t i = 0; i < group / 16; i++) {
                sum += sum16[b * group / 16 + i];
            }
            c->s->block_sum[t][b] = sum;
        }
        const int8_t *q = c->a->q + (c->t0 + t) * c->a->q_stride + c->block0 * group;
        size_t n_columns = c->n_blocks * group;
        if (bits == 8) {
            memcpy(c->s->q[t], q, n_columns);
            continue;
        }
        for (size_t i = 0; i < n_columns;
             i += 128) { /* even columns meet low nibbles, odd ones high nibbles; the last 128 may be partly past the end */
            size_t n = n_columns - i < 128 ? n_columns - i : 128;
            for (size_t k = 0; k < n / 2; k++) {
                c->s->q[t][i + k] = q[i + 2 * k];
                c->s->q[t][i + 64 + k] = q[i + 2 * k + 1];
            }
        }
    }
}

static void prepare_mlx4(const few_chunk *c) { prepare_mlx(c, 4); }
static void prepare_mlx8(const few_chunk *c) { prepare_mlx(c, 8); }

/* Lane sums of four registers of codes for each token; n_bytes of them exist. */
FEW_INLINE void mlx_step(const few_chunk *c, const uint8_t *p, size_t n_bytes, size_t column, size_t token, const size_t n_tokens,
                         const uint32_t bits, __m512i lanes[FEW_GROUP])
{
    const __m512i mask = _mm512_set1_epi8(15);
    few_prefetch(p, n_bytes);
    __m512i sum[FEW_GROUP][4];
    for (size_t i = 0; i < 4; i++) {
        size_t left = n_bytes > 64 * i ? n_bytes - 64 * i : 0;
        __m512i both = left >= 64 ? _mm512_loadu_si512(p + 64 * i) : _mm512_maskz_loadu_epi8(((__mmask64)1 << left) - 1, p + 64 * i);
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *x = c->s->q[token + t] + column + i * REGISTER_COLUMNS(bits);
            if (bits == 8) {
                sum[t][i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), both, _mm512_load_si512(x));
            } else {
                sum[t][i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(both, mask), _mm512_load_si512(x));
                __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
                sum[t][i] = _mm512_dpbusd_epi32(sum[t][i], high, _mm512_load_si512(x + 64));
            }
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        lanes[t] = few_sum_lanes(sum[t]);
    }
}

/* The sums of 16 groups from the lane sums of their registers, which are `per_register` groups each: 4, 2, 1, or 0 for half a group. */
FEW_INLINE __m512i mlx_groups(const __m512i *lanes, size_t stride, const int per_register)
{
    if (per_register == 4) {
        return few_sum_quarters(lanes[0]);
    }
    if (per_register == 2) {
        return few_sum_halves(lanes[0], lanes[stride]);
    }
    __m512i a = lanes[0], b = lanes[stride], c = lanes[2 * stride], d = lanes[3 * stride];
    a = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
    c = _mm512_add_epi32(_mm512_shuffle_i32x4(c, d, 0x88), _mm512_shuffle_i32x4(c, d, 0xdd));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(a, c, 0x88), _mm512_shuffle_i32x4(a, c, 0xdd));
}

/* One row; `per_register` groups a register of codes. */
QN_VARIANT void mlx_row_tokens(const few_chunk *c, const uint8_t *row, size_t r, size_t token, const size_t n_tokens, const uint32_t bits,
                               const int per_register)
{
    const size_t step_bytes = 256;
    const size_t n_steps = per_register == 4 ? 1 : per_register == 2 ? 2 : per_register == 1 ? 4 : 8; /* for 16 groups */
    const uint8_t *p = row + c->block0 * (c->a->block / 8 * bits);
    size_t n_bytes = c->n_blocks * (c->a->block / 8 * bits);
    for (size_t block = 0; block < c->n_blocks; block += 16) {
        __m512i lanes[8][FEW_GROUP];
        for (size_t i = 0; i < n_steps; i++) {
            size_t at = (block / 16 * n_steps + i) * step_bytes;
            size_t left = at < n_bytes ? n_bytes - at : 0;
            if (left == 0) {
                for (size_t t = 0; t < n_tokens; t++) {
                    lanes[i][t] = _mm512_setzero_si512();
                }
                continue;
            }
            mlx_step(c, p + at, left < step_bytes ? left : step_bytes, at * 8 / bits, token, n_tokens, bits, lanes[i]);
        }
        for (size_t t = 0; t < n_tokens; t++) {
            if (per_register == 0) { /* a group is two registers: dwords 2j and 2j + 1 of a lane meet */
                for (size_t i = 0; i < 8; i++) {
                    lanes[i][t] = _mm512_add_epi32(lanes[i][t], _mm512_srli_epi64(lanes[i][t], 32));
                }
                for (size_t i = 0; i < 4; i++) { /* keep dwords 0 and 2 of both */
                    lanes[i][t] = _mm512_castps_si512(
                        _mm512_shuffle_ps(_mm512_castsi512_ps(lanes[2 * i][t]), _mm512_castsi512_ps(lanes[2 * i + 1][t]), 0x88));
                }
            }
            _mm512_storeu_si512(&c->s->isum[token + t][r][block], mlx_groups(&lanes[0][t], FEW_GROUP, per_register));
        }
    }
}

/* 16 scales or biases of a row from group `first` on, n of which exist, as float bits; of float16 the bits themselves. */
FEW_INLINE __m512i load_affine_floats(const uint8_t *row, qn_dtype type, size_t first, size_t n)
{
    __mmask16 mask = (__mmask16)(n < 16 ? (1u << n) - 1u : 0xffffu);
    if (type == QN_DTYPE_F32) {
        return _mm512_maskz_loadu_epi32(mask, row + 4 * first);
    }
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row + 2 * first));
    return type == QN_DTYPE_BF16 ? _mm512_slli_epi32(bits, 16) : bits;
}

/* d and m of the tile, transposed; rows past the end repeat the last. Masked loads leave zeros for groups that do not exist. */
static void mlx_scales(const few_chunk *c, size_t row0, size_t n_rows)
{
    const qn_matrix *w = c->w;
    size_t row_bytes = w->n_cols / c->a->block * (w->affine_dtype == QN_DTYPE_F32 ? 4 : 2);
    for (size_t b = 0; b < c->n_blocks; b += 16) {
        __m512i d[16], m[16];
        for (size_t r = 0; r < 16; r++) {
            size_t row = row0 + (r < n_rows ? r : n_rows - 1);
            size_t ahead = (row + 16) * row_bytes + (c->block0 + b) * row_bytes / (w->n_cols / c->a->block);
            _mm_prefetch((const char *)((uintptr_t)w->scales + ahead), _MM_HINT_T1); /* the next tile's */
            _mm_prefetch((const char *)((uintptr_t)w->biases + ahead), _MM_HINT_T1);
            d[r] = load_affine_floats(w->scales + row * row_bytes, w->affine_dtype, c->block0 + b, c->n_blocks - b);
            m[r] = load_affine_floats(w->biases + row * row_bytes, w->affine_dtype, c->block0 + b, c->n_blocks - b);
        }
        few_transpose(d);
        few_transpose(m);
        for (size_t j = 0; j < 16; j++) {
            bool half = w->affine_dtype == QN_DTYPE_F16;
            _mm512_store_ps(c->s->d[b + j], half ? few_half_to_float(d[j]) : _mm512_castsi512_ps(d[j]));
            _mm512_store_ps(c->s->m[b + j], half ? few_half_to_float(m[j]) : _mm512_castsi512_ps(m[j]));
        }
    }
}

/* One function for each (bits, group), so that reductions are fixed. */
#define ROW_FUNCTION(name, bits, per_register) \
    static void name(const few_chunk *c, const uint8_t *row, size_t r, size_t token, size_t n_tokens) \
    { \
        switch (n_tokens) { \
        case 1: mlx_row_tokens(c, row, r, token, 1, bits, per_register); break; \
        case 2: mlx_row_tokens(c, row, r, token, 2, bits, per_register); break; \
        default: mlx_row_tokens(c, row, r, token, 3, bits, per_register); break; \
        } \
    }
ROW_FUNCTION(mlx4_group32_row, 4, 4)
ROW_FUNCTION(mlx4_group64_row, 4, 2)
ROW_FUNCTION(mlx4_group128_row, 4, 1)
ROW_FUNCTION(mlx8_group32_row, 8, 2)
ROW_FUNCTION(mlx8_group64_row, 8, 1)
ROW_FUNCTION(mlx8_group128_row, 8, 0)

static void mlx4_row(const few_chunk *c, const uint8_t *row, size_t r, size_t token, size_t n_tokens)
{
    switch (c->a->block) {
    case 32: mlx4_group32_row(c, row, r, token, n_tokens); break;
    case 64: mlx4_group64_row(c, row, r, token, n_tokens); break;
    default: mlx4_group128_row(c, row, r, token, n_tokens); break;
    }
}

static void mlx8_row(const few_chunk *c, const uint8_t *row, size_t r, size_t token, size_t n_tokens)
{
    switch (c->a->block) {
    case 32: mlx8_group32_row(c, row, r, token, n_tokens); break;
    case 64: mlx8_group64_row(c, row, r, token, n_tokens); break;
    default: mlx8_group128_row(c, row, r, token, n_tokens); break;
    }
}

void qn_matmul_mlx4_few_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                   size_t y_stride, void *scratch)
{
    const few_type type = {w->affine.group, 0, FEW_MIN_OF_BLOCK, prepare_mlx4, mlx4_row, mlx_scales};
    few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}

void qn_matmul_mlx8_few_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                   size_t y_stride, void *scratch)
{
    const few_type type = {w->affine.group, 0, FEW_MIN_OF_BLOCK, prepare_mlx8, mlx8_row, mlx_scales};
    few_matmul(&type, w, r0, r1, a, t0, t1, y, y_stride, scratch);
}
