/* matmul_lanes_avx512vnni.c - decode kernels for processors that take a register of 64 bytes in two halves (Zen 4): one to three tokens times eight
 * rows, of which two share each register of 32 bytes, a row a lane.
 *
 * The kernels of few_frame.h read 64 bytes of a row at once, so that what a register's dwords add up to belongs to several scales, and the sums of 16
 * rows go through scratch to be transposed. Here 16 bytes of four rows of each of two streams ("few_frame.h", memory) meet the same 16 activations:
 * scales are spread within a lane, the sums of a block are one row's four dwords, and four registers fold into one that has the eight rows in its
 * lanes, as the float step wants them. Putting two rows together is one instruction, whose operand is the second load; putting four together would
 * take three of twice the width.
 *
 * Eight rows advance together, so that lines are wanted from all of them, and what is asked for ahead must be more than three rows away.
 *
 * Invariants: the order of the float steps of matmul.h; no byte outside the rows' blocks is read.
 */
#include "kernels/cpu/matmul_lanes.h"

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "base/cpu.h"
#include "kernels/cpu/levels.h"
#include "kernels/cpu/variant.h"
#include "kernels/matmul_kernels.h"
#include "quant/blocks.h"

#define LANES_INLINE static inline __attribute__((always_inline))

enum {
    ROWS = 8,         /* of a tile */
    PAIRS = ROWS / 2, /* registers that hold them: row j of the first stream in one lane, of the second in the other */
    TOKENS = 3,
    LINE = 64,
    LEAD = 4096, /* bytes of each stream that are asked for ahead, besides the tile's other rows */
    SUB = 32,    /* columns that share a scale, or a sum of activations */
    N_SUBS = QN_K / SUB,
    STEP_BLOCKS = 4 /* multiplied one after the other without a loop, of types with blocks of SUB columns */
};

/* What a type's blocks look like; all but `bytes` of blocks of SUB columns. */
typedef struct lanes_form {
    size_t bytes;
    size_t codes;         /* where the nibbles or codes begin */
    int offset;           /* what was added to make codes unsigned; 0 for types with a min */
    const int8_t *levels; /* table for nibbles, or NULL */
    bool fifth;           /* 32 bits of fifth bits stand right before the nibbles */
} lanes_form;

LANES_INLINE lanes_form form_of(const qn_dtype type)
{
    switch ((int)type) {
    case QN_DTYPE_Q4_K: return (lanes_form){.bytes = sizeof(qn_block_q4_k)};
    case QN_DTYPE_Q5_K: return (lanes_form){.bytes = sizeof(qn_block_q5_k)};
    case QN_DTYPE_IQ4_XS: return (lanes_form){.bytes = sizeof(qn_block_iq4_xs)};
    case QN_DTYPE_Q4_0: return (lanes_form){sizeof(qn_block_q4_0), 2, 8, NULL, false};
    case QN_DTYPE_Q4_1: return (lanes_form){sizeof(qn_block_q4_1), 4, 0, NULL, false};
    case QN_DTYPE_Q5_0: return (lanes_form){sizeof(qn_block_q5_0), 6, 16, NULL, true};
    case QN_DTYPE_Q5_1: return (lanes_form){sizeof(qn_block_q5_1), 8, 0, NULL, true};
    case QN_DTYPE_IQ4_NL: return (lanes_form){sizeof(qn_block_iq4_nl), 2, 128, iq4_levels_plus_128, false};
    case QN_DTYPE_MXFP4: return (lanes_form){sizeof(qn_block_mxfp4), 1, 12, fp4_doubled_plus_12, false};
    default: /* QN_DTYPE_Q8_0 */ return (lanes_form){sizeof(qn_block_q8_0), 2, 128, NULL, false};
    }
}

/* ---- registers ---- */

/* Bytes from a row to the next one of its stream, and to the same row of the other stream. */
typedef struct lanes_stride {
    size_t row, stream;
} lanes_stride;

/* 16 bytes of the two rows of pair j; p is at the tile's first row. */
LANES_INLINE __m256i load_pair(const uint8_t *p, lanes_stride stride, size_t j)
{
    p += j * stride.row;
    const __m256i first = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_inserti128_si256(first, _mm_loadu_si128((const __m128i *)(const void *)(p + stride.stream)), 1);
}

/* 16 bytes in both lanes. */
LANES_INLINE __m256i load_both(const void *p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128(p)); }

/* Four dwords in both lanes. */
LANES_INLINE __m256i lane_of(uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    return _mm256_setr_epi32((int)a, (int)b, (int)c, (int)d, (int)a, (int)b, (int)c, (int)d);
}

/* The sums of the four dwords of every lane: rows 0 to 7. */
LANES_INLINE __m256i sum_lanes(const __m256i p[PAIRS])
{
    const __m256i a = _mm256_add_epi32(_mm256_unpacklo_epi32(p[0], p[1]), _mm256_unpackhi_epi32(p[0], p[1]));
    const __m256i b = _mm256_add_epi32(_mm256_unpacklo_epi32(p[2], p[3]), _mm256_unpackhi_epi32(p[2], p[3]));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

/* The first dword of every lane: rows 0 to 7. */
LANES_INLINE __m256i first_dwords(const __m256i p[PAIRS])
{
    return _mm256_unpacklo_epi64(_mm256_unpacklo_epi32(p[0], p[1]), _mm256_unpacklo_epi32(p[2], p[3]));
}

LANES_INLINE __m256 low_half_to_float(__m256i dwords) { return _mm256_cvtph_ps(_mm256_cvtepi32_epi16(dwords)); }
LANES_INLINE __m256 high_half_to_float(__m256i dwords) { return low_half_to_float(_mm256_srli_epi32(dwords, 16)); }

/* acc + (scale * activation_scale) * sum */
LANES_INLINE __m256 step(__m256 acc, __m256 scale, float activation_scale, __m256i sum)
{
    return _mm256_fmadd_ps(_mm256_mul_ps(scale, _mm256_set1_ps(activation_scale)), _mm256_cvtepi32_ps(sum), acc);
}

/* What is known of the tokens' activations from a block's first column on. */
typedef struct lanes_act {
    const int8_t *q;
    const float *d;
    const int16_t *sums;                    /* of SUB activations each; IQ4_XS: negated */
    size_t q_stride, d_stride, sums_stride; /* to the next token's, in elements */
} lanes_act;

LANES_INLINE __m256i nibbles_low(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
LANES_INLINE __m256i nibbles_high(__m256i v) { return nibbles_low(_mm256_srli_epi16(v, 4)); }

/* Products of the first 16 and of the last 16 codes of 32 with 32 activations, four to a dword. */
LANES_INLINE __m256i multiply(__m256i first, __m256i last, const int8_t *q)
{
    return _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(_mm256_setzero_si256(), first, load_both(q)), last, load_both(q + SUB / 2));
}

/* ---- memory ---- */

/* What is asked for while a step is multiplied: the lines from `at` on, of both streams, in parts between the blocks or within one: after many at once
 * the loads that come next wait. An address past the end is only a hint and harmless. */
typedef struct lanes_ahead {
    uintptr_t at;
    size_t stream; /* bytes from there to the second stream's */
    bool any;
} lanes_ahead;

/* Part `part` of n_parts of `bytes` bytes, rounded up to lines. */
LANES_INLINE void ask(lanes_ahead ahead, const size_t bytes, const size_t part, const size_t n_parts)
{
    const size_t n_lines = (bytes + LINE - 1) / LINE;
    if (!ahead.any) {
        return;
    }
    QN_UNROLL
    for (size_t i = n_lines * part / n_parts; i < n_lines * (part + 1) / n_parts; i++) {
        _mm_prefetch((const char *)(ahead.at + LINE * i), _MM_HINT_T1);
        _mm_prefetch((const char *)(ahead.at + LINE * i + ahead.stream), _MM_HINT_T1);
    }
}

/* ---- types of 256 columns ---- */

/* Bytes 0..7: scales, 8..15: mins, in each lane, from the 16-byte header d dmin packed[12] (qn_k4_scale_min for all j). */
LANES_INLINE __m256i k4_scales_mins(__m256i header)
{
    const __m256i low = _mm256_srlv_epi32(_mm256_shuffle_epi32(header, 1 | 3 << 2 | 2 << 4 | 3 << 6), lane_of(0, 0, 0, 4));
    const __m256i high = _mm256_srli_epi32(_mm256_shuffle_epi32(header, 1 | 1 << 2 | 2 << 4 | 2 << 6), 2);
    const __m256i four = _mm256_and_si256(low, lane_of(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f));
    return _mm256_ternarylogic_epi32(four, high, lane_of(0, 0x30303030, 0, 0x30303030), 0xf8); /* four | (high & mask) */
}

/* Byte indices that spread scales 2u and 2u + 1 of a lane over four words each. */
LANES_INLINE __m256i k4_spread(unsigned u)
{
    const uint32_t first = 0x80008000u + 0x00010001u * (2 * u), second = first + 0x00010001u;
    return lane_of(first, first, second, second);
}

/* `code` with 16 added where bit `bit` of `bits` is set. */
LANES_INLINE __m256i add_fifth_by_bit(__m256i code, __m256i bits, const unsigned bit)
{
    const __m256i moved = bit <= 4 ? _mm256_slli_epi16(bits, (int)(4 - bit)) : _mm256_srli_epi16(bits, (int)(bit - 4));
    return _mm256_ternarylogic_epi32(code, moved, _mm256_set1_epi8(16), 0xf8); /* code | (moved & 16) */
}

/* A block of Q4_K or Q5_K times one token. Sums of eight products are below 2^15: they are packed to 16 bits before scales multiply them. */
LANES_INLINE __m256 k4_block(const uint8_t *p, lanes_stride stride, const lanes_act *a, lanes_ahead ahead, __m256 acc, const bool five)
{
    const size_t bytes = five ? sizeof(qn_block_q5_k) : sizeof(qn_block_q4_k);
    __m256i header[PAIRS], scales[PAIRS], total[PAIRS], fifth[PAIRS][2];
    QN_UNROLL
    for (size_t j = 0; j < PAIRS; j++) {
        header[j] = load_pair(p, stride, j);
        scales[j] = k4_scales_mins(header[j]);
        total[j] = _mm256_madd_epi16(_mm256_unpackhi_epi8(scales[j], _mm256_setzero_si256()), load_both(a->sums));
        fifth[j][0] = five ? load_pair(p + 16, stride, j) : _mm256_setzero_si256();
        fifth[j][1] = five ? load_pair(p + 32, stride, j) : _mm256_setzero_si256();
    }
    const __m256i msum = sum_lanes(total), d = first_dwords(header);
    QN_UNROLL
    for (size_t j = 0; j < PAIRS; j++) {
        total[j] = _mm256_setzero_si256();
    }
    QN_UNROLL
    for (unsigned u = 0; u < N_SUBS / 2; u++) {
        const uint8_t *codes = p + (five ? 48 : 16) + 32 * u;
        const int8_t *q = a->q + 2 * SUB * u;
        ask(ahead, PAIRS * bytes, u, N_SUBS / 2);
        QN_UNROLL
        for (size_t j = 0; j < PAIRS; j++) {
            __m256i low[2], high[2]; /* Q4_K: upper nibbles stay where they are, 16 times the sum */
            QN_UNROLL
            for (size_t i = 0; i < 2; i++) {
                const __m256i raw = load_pair(codes + 16 * i, stride, j);
                low[i] = nibbles_low(raw);
                high[i] = five ? nibbles_high(raw) : _mm256_and_si256(raw, _mm256_set1_epi8((char)0xf0));
                if (five) {
                    low[i] = add_fifth_by_bit(low[i], fifth[j][i], 2 * u);
                    high[i] = add_fifth_by_bit(high[i], fifth[j][i], 2 * u + 1);
                }
            }
            const __m256i sum = multiply(low[0], low[1], q), sum_high = multiply(high[0], high[1], q + SUB);
            total[j] = _mm256_dpwssd_epi32(total[j], _mm256_packs_epi32(sum, five ? sum_high : _mm256_srai_epi32(sum_high, 4)),
                                           _mm256_shuffle_epi8(scales[j], k4_spread(u)));
        }
    }
    acc = step(acc, low_half_to_float(d), a->d[0], sum_lanes(total));
    return step(acc, high_half_to_float(d), -a->d[0], msum);
}

/* The eight scales of a block of IQ4_XS as words, from the header d, scales_h, scales_l[4]. */
LANES_INLINE __m256i iq4_xs_scales(__m256i header)
{
    const __m256i low_at = lane_of(0x80048004, 0x80058005, 0x80068006, 0x80078007), high_at = _mm256_set1_epi16(0x0302);
    const __m256i by_4 = lane_of(4 << 16, 4 << 16, 4 << 16, 4 << 16);
    const __m256i low = _mm256_and_si256(_mm256_srlv_epi16(_mm256_shuffle_epi8(header, low_at), by_4), _mm256_set1_epi16(15));
    __m256i high = _mm256_sllv_epi16(_mm256_shuffle_epi8(header, high_at), lane_of(4 | 2 << 16, 0, 0, 0));
    high = _mm256_srlv_epi16(high, lane_of(0, 2 << 16, 4 | 6 << 16, 8 | 10 << 16));
    const __m256i six = _mm256_ternarylogic_epi32(low, high, _mm256_set1_epi16(0x30), 0xf8); /* low | (high & 0x30) */
    return _mm256_sub_epi16(six, _mm256_set1_epi16(32));
}

LANES_INLINE __m256i lookup(const int8_t *levels, __m256i codes)
{
    return levels == NULL ? codes : _mm256_shuffle_epi8(load_both(levels), codes);
}

/* A block times one token. */
LANES_INLINE __m256 iq4_xs_block(const uint8_t *p, lanes_stride stride, const lanes_act *a, lanes_ahead ahead, __m256 acc)
{
    __m256i header[PAIRS], scales[PAIRS][2], total[PAIRS];
    QN_UNROLL
    for (size_t j = 0; j < PAIRS; j++) {
        header[j] = load_pair(p, stride, j);
        const __m256i words = iq4_xs_scales(header[j]), signs = _mm256_srai_epi16(words, 15);
        scales[j][0] = _mm256_unpacklo_epi16(words, signs);
        scales[j][1] = _mm256_unpackhi_epi16(words, signs);
        total[j] = _mm256_slli_epi32(_mm256_madd_epi16(words, load_both(a->sums)), 7); /* minus the codes' offset of 128 */
    }
    QN_UNROLL
    for (size_t s = 0; s < N_SUBS; s++) {
        ask(ahead, PAIRS * sizeof(qn_block_iq4_xs), s, N_SUBS);
        QN_UNROLL
        for (size_t j = 0; j < PAIRS; j++) {
            const __m256i raw = load_pair(p + 8 + 16 * s, stride, j);
            const __m256i sum = multiply(lookup(iq4_levels_plus_128, nibbles_low(raw)), lookup(iq4_levels_plus_128, nibbles_high(raw)),
                                         a->q + SUB * s);
            const __m256i four = scales[j][s / 4];
            const __m256i scale = s % 4 == 0   ? _mm256_shuffle_epi32(four, 0x00)
                                  : s % 4 == 1 ? _mm256_shuffle_epi32(four, 0x55)
                                  : s % 4 == 2 ? _mm256_shuffle_epi32(four, 0xaa)
                                               : _mm256_shuffle_epi32(four, 0xff);
            total[j] = _mm256_add_epi32(total[j], _mm256_mullo_epi32(sum, scale));
        }
        for (size_t j = 0; j < PAIRS; j++) {
            __asm__("" : "+v"(total[j])); /* one sub-block after the other: GCC multiplies several ahead otherwise, and spills them */
        }
    }
    return step(acc, low_half_to_float(first_dwords(header)), a->d[0], sum_lanes(total));
}

/* ---- types of 32 columns ---- */

/* The first 16 bits, or 32, of each row. */
LANES_INLINE __m128i load_words(const uint8_t *p, lanes_stride stride)
{
    uint16_t v[ROWS];
    QN_UNROLL
    for (size_t r = 0; r < ROWS; r++) {
        memcpy(&v[r], p + r % PAIRS * stride.row + r / PAIRS * stride.stream, sizeof v[r]);
    }
    return _mm_setr_epi16((short)v[0], (short)v[1], (short)v[2], (short)v[3], (short)v[4], (short)v[5], (short)v[6], (short)v[7]);
}

LANES_INLINE __m256i load_dwords(const uint8_t *p, lanes_stride stride)
{
    int v[ROWS];
    QN_UNROLL
    for (size_t r = 0; r < ROWS; r++) {
        memcpy(&v[r], p + r % PAIRS * stride.row + r / PAIRS * stride.stream, sizeof v[r]);
    }
    return _mm256_setr_epi32(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]);
}

/* MXFP4's exponent bytes, the first of each row, as floats (qn_e8m0_half). */
LANES_INLINE __m256 load_exponents(const uint8_t *p, lanes_stride stride)
{
    const __m256i e = _mm256_and_si256(_mm256_cvtepu16_epi32(load_words(p, stride)), _mm256_set1_epi32(255));
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    return _mm256_castsi256_ps(_mm256_mask_mov_epi32(normal, _mm256_cmplt_epu32_mask(e, _mm256_set1_epi32(2)), tiny));
}

/* Nibbles with their fifth bits, which stand in the 32 bits at `bits` of both rows of pair j; `high`: of columns 16 to 31. */
LANES_INLINE __m256i add_fifth_from(__m256i code, const uint8_t *bits, lanes_stride stride, size_t j, const bool high)
{
    uint16_t first, second;
    memcpy(&first, bits + j * stride.row + (high ? 2 : 0), sizeof first);
    memcpy(&second, bits + j * stride.row + stride.stream + (high ? 2 : 0), sizeof second);
    return _mm256_mask_add_epi8(code, (__mmask32)first | (__mmask32)second << 16, code, _mm256_set1_epi8(16));
}

/* A block times n_tokens tokens. */
LANES_INLINE void flat_block(const qn_dtype type, const uint8_t *p, lanes_stride stride, const lanes_act *a, const size_t n_tokens,
                             __m256 *acc)
{
    const lanes_form form = form_of(type);
    __m256i sum[TOKENS][PAIRS];
    QN_UNROLL
    for (size_t j = 0; j < PAIRS; j++) {
        const __m256i raw = load_pair(p + form.codes, stride, j);
        __m256i first, last;
        if (type == QN_DTYPE_Q8_0) {
            const __m256i top = _mm256_set1_epi8(-128);
            first = _mm256_xor_si256(raw, top);
            last = _mm256_xor_si256(load_pair(p + form.codes + SUB / 2, stride, j), top);
        } else {
            first = lookup(form.levels, nibbles_low(raw));
            last = lookup(form.levels, nibbles_high(raw));
            if (form.fifth) {
                first = add_fifth_from(first, p + form.codes - 4, stride, j, false);
                last = add_fifth_from(last, p + form.codes - 4, stride, j, true);
            }
        }
        QN_UNROLL
        for (size_t t = 0; t < n_tokens; t++) {
            sum[t][j] = multiply(first, last, a->q + t * a->q_stride);
        }
    }
    const bool has_min = form.offset == 0;
    const __m256i both = has_min ? load_dwords(p, stride) : _mm256_setzero_si256();
    const __m256 d = has_min                  ? low_half_to_float(both)
                     : type == QN_DTYPE_MXFP4 ? load_exponents(p, stride)
                                              : _mm256_cvtph_ps(load_words(p, stride));
    QN_UNROLL
    for (size_t t = 0; t < n_tokens; t++) {
        const float scale = a->d[t * a->d_stride];
        const int32_t sum_of_q = a->sums[t * a->sums_stride];
        const __m256i isum = sum_lanes(sum[t]);
        if (has_min) {
            acc[t] = step(acc[t], d, scale, isum);
            acc[t] = step(acc[t], high_half_to_float(both), scale, _mm256_set1_epi32(sum_of_q));
        } else {
            acc[t] = step(acc[t], d, scale, _mm256_sub_epi32(isum, _mm256_set1_epi32(form.offset * sum_of_q)));
        }
    }
}

/* ---- a call ---- */

/* Past a block. */
LANES_INLINE void advance(lanes_act *a, const size_t columns)
{
    a->q += columns;
    a->d++;
    a->sums += columns / SUB;
}

/* PAIRS rows of each stream times n_tokens tokens: out[token][row]. `ahead`: what of the first stream is asked for first; steps whose lines would begin
 * at `end` or later ask for none. */
QN_VARIANT void multiply_tile(const qn_dtype type, const uint8_t *p, lanes_stride stride, size_t n_cols, lanes_act a, const size_t n_tokens,
                              uintptr_t ahead, uintptr_t end, float (*out)[ROWS])
{
    const bool super = type == QN_DTYPE_Q4_K || type == QN_DTYPE_Q5_K || type == QN_DTYPE_IQ4_XS;
    const size_t block_bytes = form_of(type).bytes;
    const size_t bytes = PAIRS * block_bytes * (super ? 1 : STEP_BLOCKS);
    __m256 acc[TOKENS] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t n_steps = n_cols / (super ? QN_K : STEP_BLOCKS * SUB);
    for (; n_steps > 0; n_steps--, ahead += bytes) {
        const lanes_ahead next = {ahead, stride.stream, ahead < end};
        switch ((int)type) {
        case QN_DTYPE_Q4_K: acc[0] = k4_block(p, stride, &a, next, acc[0], false); break;
        case QN_DTYPE_Q5_K: acc[0] = k4_block(p, stride, &a, next, acc[0], true); break;
        case QN_DTYPE_IQ4_XS: acc[0] = iq4_xs_block(p, stride, &a, next, acc[0]); break;
        default:
            QN_UNROLL
            for (size_t i = 0; i < STEP_BLOCKS; i++) {
                ask(next, bytes, i, STEP_BLOCKS);
                flat_block(type, p, stride, &a, n_tokens, acc);
                p += block_bytes;
                advance(&a, SUB);
            }
            continue;
        }
        p += block_bytes;
        advance(&a, QN_K);
    }
    for (size_t left = super ? 0 : n_cols / SUB % STEP_BLOCKS; left > 0; left--, ahead += PAIRS * block_bytes) {
        ask((lanes_ahead){ahead, stride.stream, ahead < end}, PAIRS * block_bytes, 0, 1);
        flat_block(type, p, stride, &a, n_tokens, acc);
        p += block_bytes;
        advance(&a, SUB);
    }
    for (size_t t = 0; t < n_tokens; t++) {
        _mm256_storeu_ps(out[t], acc[t]);
    }
}

typedef void (*lanes_fn)(const uint8_t *p, lanes_stride stride, size_t n_cols, lanes_act a, uintptr_t ahead, uintptr_t end,
                         float (*out)[ROWS]);

/* The formatter has no form for functions and data made by macros. */
/* clang-format off */
#define LANES_FUNCTION(type, tokens) \
    static void lanes_##type##_##tokens(const uint8_t *p, lanes_stride stride, size_t n_cols, lanes_act a, uintptr_t ahead, uintptr_t end, \
                                        float (*out)[ROWS]) \
    { \
        multiply_tile(QN_DTYPE_##type, p, stride, n_cols, a, tokens, ahead, end, out); \
    }
#define UP_TO_2(type) LANES_FUNCTION(type, 1) LANES_FUNCTION(type, 2)
#define UP_TO_3(type) UP_TO_2(type) LANES_FUNCTION(type, 3)
#define LIST_1(type) [QN_DTYPE_##type] = {lanes_##type##_1}
#define LIST_2(type) [QN_DTYPE_##type] = {lanes_##type##_1, lanes_##type##_2}
#define LIST_3(type) [QN_DTYPE_##type] = {lanes_##type##_1, lanes_##type##_2, lanes_##type##_3}
LANES_FUNCTION(Q4_K, 1) LANES_FUNCTION(Q5_K, 1) LANES_FUNCTION(IQ4_XS, 1) UP_TO_2(Q4_1)
UP_TO_3(Q4_0) UP_TO_3(Q5_0) UP_TO_3(Q5_1) UP_TO_3(Q8_0) UP_TO_3(IQ4_NL) UP_TO_3(MXFP4)
/* For as many tokens as do not go to the strip kernels (matmul.inc). */
static const lanes_fn functions[QN_DTYPE_COUNT][TOKENS] = {
    LIST_3(Q4_0), LIST_2(Q4_1), LIST_3(Q5_0), LIST_3(Q5_1), LIST_3(Q8_0), LIST_3(IQ4_NL), LIST_3(MXFP4), LIST_1(Q4_K), LIST_1(Q5_K), LIST_1(IQ4_XS),
};
/* clang-format on */

size_t qn_matmul_lanes_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y,
                                  size_t y_stride, void *scratch)
{
    const size_t n_tokens = t1 - t0, n_tiles = (r1 - r0) / ROWS, n_sums = w->n_cols / SUB;
    const lanes_fn function = n_tokens >= 1 && n_tokens <= TOKENS ? functions[w->dtype][n_tokens - 1] : NULL;
    if (!qn_cpu_has_half_registers() || function == NULL || n_tiles == 0 || n_tokens * n_sums * sizeof(int16_t) > QN_MATMUL_SCRATCH_BYTES) {
        return r0;
    }
    int16_t *sums = scratch; /* (n_tokens, n_sums) */
    const int16_t sign = w->dtype == QN_DTYPE_IQ4_XS ? -1 : 1;
    for (size_t t = 0; t < n_tokens; t++) {
        const int16_t *sum16 = a->sum16 + (t0 + t) * a->s_stride;
        for (size_t i = 0; i < n_sums; i++) {
            sums[t * n_sums + i] = (int16_t)(sign * (sum16[2 * i] + sum16[2 * i + 1])); /* at most 32 * 127 */
        }
    }
    const lanes_act act = {a->q + t0 * a->q_stride, a->d + t0 * a->d_stride, sums, a->q_stride, a->d_stride, n_sums};
    const lanes_stride stride = {w->row_bytes, n_tiles * PAIRS * w->row_bytes};
    const uint8_t *const first = w->data + r0 * w->row_bytes;
    const uintptr_t begin = (uintptr_t)first, end = begin + stride.stream;
    const size_t ahead = (PAIRS - 1) * w->row_bytes + LEAD;
    for (uintptr_t at = begin; at < begin + ahead && at < end; at += LINE) {
        ask((lanes_ahead){at, stride.stream, true}, LINE, 0, 1);
    }
    for (size_t tile = 0; tile < n_tiles; tile++) {
        const uint8_t *p = first + tile * PAIRS * w->row_bytes;
        float rows[TOKENS][ROWS];
        function(p, stride, w->n_cols, act, (uintptr_t)p + ahead, end, rows);
        for (size_t t = 0; t < n_tokens; t++) {
            float *out = y + (t0 + t) * y_stride + r0 + tile * PAIRS;
            memcpy(out, rows[t], PAIRS * sizeof(float));
            memcpy(out + n_tiles * PAIRS, rows[t] + PAIRS, PAIRS * sizeof(float));
        }
    }
    return r0 + n_tiles * ROWS;
}
