/* strip_avx512vnni.c - matrix kernels for a few tokens, up to eight or twelve (from how many on: matmul.inc): 16 rows at a time (a strip), their
 * codes taken apart in registers and multiplied at once with all tokens. (Fewer: *_few_*; more: tile_*, where unpacking once to memory serves them
 * all.)
 *
 * With eight tokens the tile kernels spend two fifths of their time on unpacking. Here the bytes of the next unit (32 or 64 columns) are loaded and
 * transposed between the products of this one, by parts of the processor that VPDPBUSD leaves idle (fetch_part); written one after the other, the
 * products fill the scheduler and the loads wait. Order: strips, then all columns; super types' chains wait in scratch between
 * panels. A strip has four rows of each of four parts of a call's rows: read
 * side by side from far apart where memory binds and the processor reads best from four places, else following each other.
 *
 * Invariants: the order of the float steps of matmul.h; no byte outside the strip's rows is read. Rows that do not fill a strip, and widths that do
 * not fill a unit, go to the tile kernel.
 */
#include "kernels/cpu/levels.h"
#include "kernels/cpu/rows_avx512.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/variant.h"
#include "quant/blocks.h"

#include "kernels/cpu/tile_scales.inc"

enum {
    STRIP_ROWS = TILE_ROWS,
    STRIP_TOKENS = 12,
    STREAMS = 4,                        /* parts of a strip; far from each other they are streams: few_frame.h, "memory" */
    STREAM_ROWS = STRIP_ROWS / STREAMS, /* of each in a strip */
    MAX_PIECES = 4,
    PARTS = 5,       /* of a piece */
    PARTS_A_STEP = 2 /* at most */
};

/* What a type's strip looks like. A unit is `pieces` times 16 bytes of each row; its codes are `runs` times 4 * `codes` columns of one scale. */
typedef struct strip_form {
    bool super, has_min;
    unsigned unit, runs, codes, pieces; /* unit: columns */
    unsigned sub;                       /* super: columns of an integer scale */
    unsigned bytes;                     /* of a block; MLX: of 8 columns */
    int offset;                         /* flat offset types: what is added to codes */
    bool halves;                        /* super: integer scales are multiplied as floats ("sums"), a panel's halves apart */
} strip_form;

ROWS_INLINE strip_form form_of(const qn_tile_type type)
{
    switch ((int)type) {
    case QN_TILE_Q4_K: return (strip_form){true, true, 64, 2, 8, 2, 32, sizeof(qn_block_q4_k), 0, true};
    case QN_TILE_Q5_K: return (strip_form){true, true, 64, 2, 8, 4, 32, sizeof(qn_block_q5_k), 0, false};
    case QN_TILE_Q6_K: return (strip_form){true, false, 64, 4, 4, 3, 16, sizeof(qn_block_q6_k), 0, false};
    case QN_TILE_IQ4_XS: return (strip_form){true, false, 32, 1, 8, 1, 32, sizeof(qn_block_iq4_xs), 0, false};
    case QN_TILE_Q4_0: return (strip_form){false, false, 32, 1, 8, 1, 0, sizeof(qn_block_q4_0), 8, false};
    case QN_TILE_Q4_1: return (strip_form){false, true, 32, 1, 8, 1, 0, sizeof(qn_block_q4_1), 0, false};
    case QN_TILE_Q5_0: return (strip_form){false, false, 32, 1, 8, 2, 0, sizeof(qn_block_q5_0), 16, false};
    case QN_TILE_Q5_1: return (strip_form){false, true, 32, 1, 8, 2, 0, sizeof(qn_block_q5_1), 0, false};
    case QN_TILE_IQ4_NL: return (strip_form){false, false, 32, 1, 8, 1, 0, sizeof(qn_block_iq4_nl), 128, false};
    case QN_TILE_MXFP4: return (strip_form){false, false, 32, 1, 8, 1, 0, sizeof(qn_block_mxfp4), 12, false};
    case QN_TILE_Q8_0: return (strip_form){false, false, 32, 1, 8, 2, 0, sizeof(qn_block_q8_0), 128, false};
    case QN_TILE_MLX4: return (strip_form){false, true, 64, 2, 8, 2, 0, 4, 0, false};
    default: /* QN_TILE_MLX8 */ return (strip_form){false, true, 32, 1, 8, 2, 0, 8, 0, false};
    }
}

/* Where piece i of unit u lies, in bytes from the first block of the panel. */
ROWS_INLINE size_t piece_at(const qn_tile_type type, size_t u, size_t i)
{
    switch ((int)type) {
    case QN_TILE_Q4_K: return 16 + 32 * u + 16 * i;
    case QN_TILE_Q5_K: /* fifth bits first */ return i < 2 ? 16 + 16 * i : 48 + 32 * u + 16 * (i - 2);
    case QN_TILE_Q6_K: /* low four bits of columns 32.., then of 0.. , upper bits */
        return i < 2 ? 64 * (u / 2) + 16 * (u % 2) + 32 * i : 128 + 32 * (u / 2) + 16 * (u % 2);
    case QN_TILE_IQ4_XS: return 8 + 16 * u;
    case QN_TILE_Q4_0:
    case QN_TILE_IQ4_NL: return sizeof(qn_block_q4_0) * u + 2;
    case QN_TILE_Q4_1: return sizeof(qn_block_q4_1) * u + 4;
    case QN_TILE_MXFP4: return sizeof(qn_block_mxfp4) * u + 1;
    case QN_TILE_Q5_0: /* nibbles; fifth bits, and 12 bytes that are not used */ return sizeof(qn_block_q5_0) * u + (i == 0 ? 6 : 2);
    case QN_TILE_Q5_1: return sizeof(qn_block_q5_1) * u + (i == 0 ? 8 : 4);
    case QN_TILE_Q8_0: return sizeof(qn_block_q8_0) * u + 2 + 16 * i;
    default: /* MLX */ return 32 * u + 16 * i;
    }
}

/* First column of run r, from the panel's first. */
ROWS_INLINE size_t run_at(const qn_tile_type type, size_t u, size_t r)
{
    return type == QN_TILE_Q6_K ? 128 * (u / 2) + 16 * (u % 2) + 32 * r : form_of(type).unit * u + 32 * r;
}

/* Nibbles of four columns' bits: low ones for an even run. */
ROWS_INLINE rows nibbles(rows v, unsigned r) { return r % 2 == 0 ? low_nibbles(v) : high_nibbles(v); }

/* code with 16 added to column 4k + i where bit 4k + i of `fifth` is set. */
ROWS_INLINE rows add_fifth(rows code, rows fifth, unsigned k)
{
    const __m128i byte = _mm_add_epi8(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12), _mm_set1_epi8((char)(k / 2)));
    const rows bits = _mm512_shuffle_epi8(fifth, _mm512_broadcast_i32x4(byte));
    return _mm512_mask_add_epi8(code, _mm512_test_epi8_mask(bits, rows_set(k % 2 == 0 ? 0x08040201 : 0x80402010u)), code,
                                _mm512_set1_epi8(16));
}

/* Codes of columns 4k .. 4k + 3 of run r, of Q4_K's odd runs 16 times them. raw[4i + j] is dword j of piece i. */
ROWS_INLINE rows code_of(const qn_tile_type type, const rows *raw, size_t u, unsigned r, unsigned k)
{
    switch ((int)type) {
    case QN_TILE_Q4_K: return rows_and(raw[k], rows_set(r == 0 ? 0x0f0f0f0f : 0xf0f0f0f0u));
    case QN_TILE_Q5_K: {
        rows fifth = rows_and(rows_srl(raw[k], 2 * (unsigned)u + r), rows_set(0x01010101));
        return rows_or(nibbles(raw[8 + k], r), rows_sll(fifth, 4));
    }
    case QN_TILE_Q6_K: {
        rows high = r == 0 ? rows_sll(raw[8 + k], 4) : r == 1 ? rows_sll(raw[8 + k], 2) : r == 2 ? raw[8 + k] : rows_srl(raw[8 + k], 2);
        return rows_or(nibbles(raw[4 * (r % 2) + k], r / 2), rows_and(high, rows_set(0x30303030)));
    }
    case QN_TILE_IQ4_XS:
    case QN_TILE_IQ4_NL: return rows_lookup(iq4_levels_plus_128, nibbles(raw[k % 4], k / 4));
    case QN_TILE_MXFP4: return rows_lookup(fp4_doubled_plus_12, nibbles(raw[k % 4], k / 4));
    case QN_TILE_Q4_0:
    case QN_TILE_Q4_1: return nibbles(raw[k % 4], k / 4);
    case QN_TILE_Q5_0:
    case QN_TILE_Q5_1: return add_fifth(nibbles(raw[k % 4], k / 4), raw[4], k);
    case QN_TILE_Q8_0: return rows_xor(raw[k], rows_set(0x80808080u));
    case QN_TILE_MLX4: { /* halves apart, then nibbles apart */
        rows half = k % 2 == 0 ? rows_and(raw[4 * r + k / 2], rows_set(0xffff)) : rows_srl(raw[4 * r + k / 2], 16);
        half = rows_and(rows_or(half, rows_sll(half, 8)), rows_set(0x00ff00ff));
        return rows_and(rows_or(half, rows_sll(half, 4)), rows_set(0x0f0f0f0f));
    }
    default: /* QN_TILE_MLX8 */ return raw[k];
    }
}

/* acc + (scale * activation_scale) * sum */
ROWS_INLINE __m512 step(__m512 acc, const float *scale, float activation_scale, __m512 sum)
{
    return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_load_ps(scale), _mm512_set1_ps(activation_scale)), sum, acc);
}

/* ---- a strip's rows: STREAM_ROWS of each stream, one stream after the other in the lanes ---- */

/* Bytes from a row to the next one of its stream, and to the same row of the next stream. */
typedef struct strip_stride {
    size_t row, stream;
} strip_stride;

ROWS_INLINE size_t row_at(strip_stride stride, size_t r) { return r % STREAM_ROWS * stride.row + r / STREAM_ROWS * stride.stream; }

/* Four dwords of a row of each stream as lanes; p is at the first stream's. */
ROWS_INLINE rows load_lanes(const uint8_t *p, size_t stride)
{
    __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(const void *)p));
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(const void *)(p + stride)), 1);
    x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(const void *)(p + 2 * stride)), 2);
    return _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(const void *)(p + 3 * stride)), 3);
}

/* rows_load4 of the strip's rows. */
ROWS_INLINE void strided_load4(const uint8_t *p, strip_stride stride, rows out[4])
{
    for (size_t i = 0; i < STREAM_ROWS; i++) {
        out[i] = load_lanes(p + i * stride.row, stride.stream);
    }
    rows_transpose4(out);
}

/* The first `bytes` bytes, 1 to 4, of each row as a number. */
ROWS_INLINE rows strided_load(const uint8_t *p, strip_stride stride, const size_t bytes)
{
    _Alignas(64) uint32_t v[STRIP_ROWS] = {0};
    for (size_t r = 0; r < STRIP_ROWS; r++) {
        memcpy(&v[r], p + row_at(stride, r), bytes);
    }
    return rows_load(v);
}

/* ---- bytes of the next unit, between products ---- */

typedef struct strip_fetch {
    const uint8_t *from; /* first row, at the panel's first block */
    strip_stride stride;
    size_t u;
} strip_fetch;

/* One of PARTS parts of each piece: four times four rows' dwords into lanes, then their transposition. */
ROWS_INLINE void fetch_part(const qn_tile_type type, const strip_fetch *f, unsigned part, rows *raw)
{
    const unsigned piece = part / PARTS, lane = part % PARTS;
    if (lane < 4) {
        raw[4 * piece + lane] = load_lanes(f->from + piece_at(type, f->u, piece) + lane * f->stride.row, f->stride.stream);
    } else {
        rows_transpose4(raw + 4 * piece);
    }
}

/* ---- what is prepared of the activations, once a call ---- */

/* Planes in scratch with all tokens' values side by side, so that products read along a line: a token's own rows would need an address each.
 * Lanes past the last token repeat an earlier one's: functions for more tokens than there are compute with them, and what comes of it is dropped. */
typedef struct strip_act {
    const int32_t *q;    /* [column / 4][lane]: four activations */
    const float *d;      /* [block][lane] */
    const int32_t *pair; /* super types, [column / sub / 2][lane]: two sums of `sub` activations, 16 bits each */
    const int32_t *sum;  /* flat types, [block][lane]: times minus the offset, if there is one */
} strip_act;

/* Lanes of a plane for so many tokens. */
ROWS_INLINE size_t lanes_of(const size_t n_tokens) { return n_tokens <= 8 ? 8 : STRIP_TOKENS; }

enum { LINE = 16 /* dwords laid out at a time; rows and planes are padded to whole lines */ };

static size_t padded(size_t n_dwords) { return (n_dwords + LINE - 1) / LINE * LINE; }

/* plane[i][t] = dword i of token t's row, for i below n_dwords and the rest of its line; rows `stride` bytes apart. */
static void lay_out(int32_t *plane, size_t n_dwords, const void *first, size_t stride, size_t n_tokens)
{
    const size_t n_lanes = lanes_of(n_tokens);
    const char *row[STRIP_TOKENS];
    for (size_t t = 0; t < n_lanes; t++) {
        row[t] = (const char *)first + (t < n_tokens ? t : 0) * stride;
    }
    for (size_t i = 0; i < n_dwords; i += LINE) {
        for (size_t t = 0; t < n_lanes; t += 4) {
            rows v[4];
            for (size_t k = 0; k < 4; k++) {
                v[k] = rows_load(row[t + k] + 4 * i);
            }
            rows_transpose4(v); /* v[k], lane L: dword 4L + k of four tokens */
            for (size_t k = 0; k < 4; k++) {
                int32_t *out = plane + (i + k) * n_lanes + t;
                _mm_storeu_si128((void *)out, _mm512_castsi512_si128(v[k]));
                _mm_storeu_si128((void *)(out + 4 * n_lanes), _mm512_extracti32x4_epi32(v[k], 1));
                _mm_storeu_si128((void *)(out + 8 * n_lanes), _mm512_extracti32x4_epi32(v[k], 2));
                _mm_storeu_si128((void *)(out + 12 * n_lanes), _mm512_extracti32x4_epi32(v[k], 3));
            }
        }
    }
}

/* A token's sums of 32 activations, two a dword. */
static void take_pairs(const int16_t *sum16, size_t n_pairs, int16_t *out)
{
    for (size_t i = 0; i < 2 * n_pairs; i++) {
        out[i] = (int16_t)(sum16[2 * i] + sum16[2 * i + 1]); /* at most 32 * 127 */
    }
}

/* A token's sums of a block's activations, times `factor`. */
static void take_sums(const int16_t *sum16, size_t n_blocks, size_t block, int32_t factor, int32_t *out)
{
    for (size_t b = 0; b < n_blocks; b++) {
        int32_t sum = 0;
        for (size_t i = 0; i < block / 16; i++) {
            sum += sum16[b * (block / 16) + i];
        }
        out[b] = factor * sum;
    }
}

/* ---- sums ----
 *
 * VPMULLD is two micro-operations, and a panel has one for every sub-block and token. Q4_K's sums are multiplied as floats instead, and stay exact:
 * a sub-block's is at most 32 * 15 * 127, times a scale of at most 63 and over half a panel (four of them) below 2^24. So every step of such a chain
 * is a whole number that float32 holds. (A whole panel's would not be below, nor half a panel's of Q5_K.) Odd sub-blocks come in as 16 times their
 * sum, their scales as sixteenths.
 *
 * A token's running total stays in registers as far as there are enough, not in scratch: Zen 4 takes two cycles to write 64 bytes, and products whose
 * activations are memory operands wait for it. Of super types it is the panel's integer sum (halves: half a panel's, as floats), of others the chain
 * itself. */

ROWS_INLINE __m512 as_floats(rows v) { return _mm512_castsi512_ps(v); }
ROWS_INLINE rows of_floats(__m512 v) { return _mm512_castps_si512(v); }

/* What is known of one panel while it is multiplied; activations from its first column on. */
typedef struct strip_panel {
    strip_act a;
    size_t block;
    const qn_tile *tile;         /* scales and mins; `scale` of halves holds floats */
    int32_t (*half)[STRIP_ROWS]; /* [token][row]: sums of the panel's first half, if halves are apart */
    float (*acc)[STRIP_ROWS];    /* super types: the chains, [token][row] */
} strip_panel;

ROWS_INLINE void run_begin(const strip_form form, const strip_panel *p, size_t column, const size_t n_tokens, rows *sum)
{
    if (form.super || column % p->block == 0) {
        for (size_t t = 0; t < n_tokens; t++) {
            sum[t] = form.super || form.has_min ? _mm512_setzero_si512()
                                                : _mm512_set1_epi32(p->a.sum[column / p->block * lanes_of(n_tokens) + t]);
        }
    }
}

ROWS_INLINE void run_end(const strip_form form, const strip_panel *p, size_t column, const size_t n_tokens, const rows *sum, rows *total)
{
    if (form.halves) {
        const __m512 scale = _mm512_load_ps(p->tile->scale[column / form.sub]);
        for (size_t t = 0; t < n_tokens; t++) {
            total[t] = of_floats(_mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[t]), scale, as_floats(total[t])));
        }
    } else if (form.super) {
        const rows scale = rows_load(p->tile->scale[column / form.sub]);
        for (size_t t = 0; t < n_tokens; t++) {
            total[t] = _mm512_add_epi32(total[t], rows_mul32(sum[t], scale));
        }
    } else if ((column + 4 * form.codes) % p->block == 0) {
        const size_t b = column / p->block;
        const float *d = p->a.d + b * lanes_of(n_tokens);
        for (size_t t = 0; t < n_tokens; t++) {
            __m512 acc = step(as_floats(total[t]), p->tile->d[b], d[t], _mm512_cvtepi32_ps(sum[t]));
            if (form.has_min) {
                const int32_t sum_of_q = p->a.sum[b * lanes_of(n_tokens) + t];
                acc = step(acc, p->tile->m[b], d[t], _mm512_cvtepi32_ps(_mm512_set1_epi32(sum_of_q)));
            }
            total[t] = of_floats(acc);
        }
    }
}

/* One unit, while the next one is fetched into `next`. */
ROWS_INLINE void multiply_unit(const qn_tile_type type, const strip_panel *p, size_t u, const size_t n_tokens, const rows *raw, rows *sum,
                               rows *total, const strip_fetch *fetch, rows *next)
{
    const strip_form form = form_of(type);
    const unsigned n_steps = form.runs * form.codes, n_parts = form.pieces * PARTS;
    QN_UNROLL
    for (unsigned i = 0; i < form.runs; i++) {
        const unsigned r = form.runs == 4 ? i % 2 * 2 + i / 2 : i; /* Q6_K: both runs of a piece in turn */
        const size_t column = run_at(type, u, r);
        const int32_t *q = p->a.q + column / 4 * lanes_of(n_tokens);
        __asm__("" : "+r"(q)); /* one register and offsets from it: GCC keeps an address for every line otherwise, and spills them */
        run_begin(form, p, column, n_tokens, sum);
        QN_UNROLL
        for (unsigned k = 0; k < form.codes; k++) {
            const rows code = code_of(type, raw, u, r, k);
            QN_UNROLL
            for (size_t t = 0; t < n_tokens; t++) {
                sum[t] = _mm512_dpbusd_epi32(sum[t], code, _mm512_set1_epi32(q[k * lanes_of(n_tokens) + t]));
            }
            const unsigned at = i * form.codes + k;
            const unsigned first = n_parts * at / n_steps, end = n_parts * (at + 1) / n_steps;
            QN_UNROLL
            for (unsigned j = 0; j < PARTS_A_STEP; j++) {
                if (first + j < end) {
                    fetch_part(type, fetch, first + j, next);
                }
            }
        }
        run_end(form, p, column, n_tokens, sum, total);
    }
}

/* ---- panels ---- */

ROWS_INLINE rows pair_sum(const strip_form form, const strip_panel *p, size_t token, const size_t n_tokens)
{
    rows sum = _mm512_setzero_si512();
    for (size_t i = 0; i < TILE_COLUMNS / form.sub / 2; i++) {
        sum = _mm512_dpwssd_epi32(sum, rows_load(p->tile->pair[i]), _mm512_set1_epi32(p->a.pair[i * lanes_of(n_tokens) + token]));
    }
    return sum;
}

/* Starts the totals of a panel of a super type. */
ROWS_INLINE void begin_super(const strip_form form, const strip_panel *p, const size_t n_tokens, rows *total)
{
    for (size_t t = 0; t < n_tokens; t++) {
        total[t] = form.has_min ? _mm512_setzero_si512() : pair_sum(form, p, t, n_tokens);
    }
}

/* The first half's sums go to scratch as integers; the second half's begin. */
ROWS_INLINE void end_half(const strip_panel *p, const size_t n_tokens, rows *total)
{
    for (size_t t = 0; t < n_tokens; t++) {
        rows_store(p->half[t], _mm512_cvtps_epi32(as_floats(total[t])));
        total[t] = _mm512_setzero_si512();
    }
}

/* The float step of a panel. */
ROWS_INLINE void end_super(const strip_form form, const strip_panel *p, const size_t n_tokens, const rows *total)
{
    for (size_t t = 0; t < n_tokens; t++) {
        const rows isum = form.halves ? _mm512_add_epi32(rows_load(p->half[t]), _mm512_cvtps_epi32(as_floats(total[t]))) : total[t];
        __m512 acc = step(_mm512_load_ps(p->acc[t]), p->tile->d[0], p->a.d[t], _mm512_cvtepi32_ps(isum));
        if (form.has_min) {
            acc = step(acc, p->tile->m[0], p->a.d[t], _mm512_cvtepi32_ps(pair_sum(form, p, t, n_tokens)));
        }
        _mm512_store_ps(p->acc[t], acc);
    }
}

typedef struct strip_job {
    const qn_matrix *w;
    strip_act a;
    size_t row, distance; /* the strip's first row; rows from there to the next stream's */
    size_t next;          /* rows to the next strip; 0 from the last: it asks for its own lines once more */
    size_t block;
    qn_tile *tile;               /* but for the codes */
    int32_t (*half)[STRIP_ROWS]; /* strip_panel's */
    float (*acc)[STRIP_ROWS];    /* [token][row]: where the chains end, and super types' wait */
} strip_job;

ROWS_INLINE strip_stride stride_of(const strip_job *j) { return (strip_stride){j->w->row_bytes, j->distance * j->w->row_bytes}; }

/* Scales and biases of the panel's groups. */
static void take_affine_scales(const strip_job *j, size_t column, size_t n_groups)
{
    const qn_matrix *w = j->w;
    const uint8_t *scale[STRIP_ROWS], *bias[STRIP_ROWS];
    for (size_t i = 0; i < STRIP_ROWS; i++) {
        size_t at = ((j->row + row_at((strip_stride){1, j->distance}, i)) * (w->n_cols / w->affine.group) + column / w->affine.group) *
                    (w->affine_dtype == QN_DTYPE_F32 ? 4 : 2);
        scale[i] = w->scales + at;
        bias[i] = w->biases + at;
    }
    load_affine_floats(scale, w->affine_dtype, n_groups, j->tile->d);
    load_affine_floats(bias, w->affine_dtype, n_groups, j->tile->m);
}

/* Scales and mins of the panel whose first block of the first row is at p, into the normal form. */
ROWS_INLINE void take_scales(const qn_tile_type type, const strip_job *j, const uint8_t *p, size_t column, size_t n_blocks)
{
    const strip_stride stride = stride_of(j);
    const size_t bytes = form_of(type).bytes;
    qn_tile *t = j->tile;
    rows v[4];
    switch ((int)type) {
    case QN_TILE_Q4_K:
    case QN_TILE_Q5_K:
        strided_load4(p, stride, v);
        scales_k4(v, t);
        if (form_of(type).halves) {
            for (size_t s = 0; s < TILE_COLUMNS / 32; s++) {
                const __m512 scale = _mm512_cvtepi32_ps(rows_load(t->scale[s]));
                _mm512_store_ps(t->scale[s], s % 2 == 0 ? scale : _mm512_mul_ps(scale, _mm512_set1_ps(0x1p-4f)));
            }
        }
        break;
    case QN_TILE_Q6_K:
        strided_load4(p + 192, stride, v);
        store_signed_scales(t, v, 32);
        rows_store_halves(t->d[0], strided_load(p + 208, stride, 2));
        break;
    case QN_TILE_IQ4_XS: scales_iq4_xs(strided_load(p, stride, 4), strided_load(p + 4, stride, 4), t); break;
    case QN_TILE_MLX4:
    case QN_TILE_MLX8: take_affine_scales(j, column, n_blocks); break;
    default:
        for (size_t b = 0; b < n_blocks; b++) {
            if (type == QN_TILE_MXFP4) {
                uint8_t e[STRIP_ROWS];
                for (size_t r = 0; r < STRIP_ROWS; r++) {
                    e[r] = p[b * bytes + row_at(stride, r)];
                }
                rows_store(t->d[b], exponents(e));
                continue;
            }
            const bool has_min = form_of(type).has_min;
            v[0] = strided_load(p + b * bytes, stride, has_min ? 4 : 2);
            rows_store_halves(t->d[b], v[0]);
            if (has_min) {
                rows_store_halves(t->m[b], rows_srl(v[0], 16));
            }
        }
    }
}

/* Asks for n lines of each stream. */
ROWS_INLINE void prefetch_lines(uintptr_t at, const size_t n, size_t stride)
{
    QN_UNROLL
    for (size_t i = 0; i < n; i++) {
        QN_UNROLL
        for (size_t k = 0; k < STREAMS; k++) {
            _mm_prefetch((const char *)(at + 64 * i + k * stride), _MM_HINT_T1);
        }
    }
}

/* 16 rows times n_tokens tokens, into acc. */
QN_VARIANT void multiply_strip(const qn_tile_type type, const strip_job *j, const size_t n_tokens)
{
    const strip_form form = form_of(type);
    const size_t n_cols = j->w->n_cols, block = form.super ? TILE_COLUMNS : type >= QN_TILE_MLX1 ? j->block : 32;
    const size_t panel_bytes = form.super ? form.bytes : TILE_COLUMNS / (type >= QN_TILE_MLX1 ? 8u : 32u) * form.bytes;
    /* Of the next strip's bytes, in memory order of each stream, a panel asks for as many as it has of this one: for some whole lines at each unit,
     * always as many, since a count that varied would be mispredicted, and for the rest when it begins. Past the last strip there may be the next
     * stream's rows, which have been read: that strip asks for its own once more. */
    const size_t units = TILE_COLUMNS / form.unit, unit_lines = STREAM_ROWS * panel_bytes / units / 64;
    const size_t other_lines = (STREAM_ROWS * panel_bytes + 63) / 64 - units * unit_lines;
    uintptr_t ahead = (uintptr_t)j->w->data + (j->row + j->next) * j->w->row_bytes;
    rows raw[4 * MAX_PIECES], next[4 * MAX_PIECES], sum[STRIP_TOKENS], total[STRIP_TOKENS];
    const strip_stride stride = stride_of(j);
    strip_fetch fetch = {j->w->data + j->row * j->w->row_bytes, stride, 0};
    QN_UNROLL
    for (unsigned part = 0; part < form.pieces * PARTS; part++) {
        fetch_part(type, &fetch, part, raw);
    }
    memcpy(next, raw, sizeof next); /* every unit writes it, which compilers do not see */
    for (size_t t = 0; t < n_tokens; t++) {
        _mm512_store_ps(j->acc[t], _mm512_setzero_ps());
        sum[t] = total[t] = _mm512_setzero_si512();
    }
    strip_panel p = {j->a, block, j->tile, j->half, j->acc};
    for (size_t column = 0; column < n_cols; column += TILE_COLUMNS) {
        const size_t n_columns = n_cols - column < TILE_COLUMNS ? n_cols - column : TILE_COLUMNS, n_units = n_columns / form.unit;
        prefetch_lines(ahead + 64 * n_units * unit_lines, other_lines, stride.stream);
        take_scales(type, j, fetch.from, column, n_columns / block);
        if (form.super) {
            begin_super(form, &p, n_tokens, total);
        }
        for (size_t u = 0; u < n_units; u++) {
            prefetch_lines(ahead + 64 * u * unit_lines, unit_lines, stride.stream);
            if (form.halves && u == units / 2) {
                end_half(&p, n_tokens, total);
            }
            fetch.u = u + 1;
            if (u + 1 == n_units) { /* the next panel, or once more this one */
                fetch.u = 0;
                fetch.from += column + TILE_COLUMNS < n_cols ? panel_bytes : 0;
            }
            multiply_unit(type, &p, u, n_tokens, raw, sum, total, &fetch, next);
            for (unsigned i = 0; i < 4 * form.pieces; i++) {
                raw[i] = next[i];
            }
        }
        if (form.super) {
            end_super(form, &p, n_tokens, total);
            p.a.pair += TILE_COLUMNS / form.sub / 2 * lanes_of(n_tokens);
        } else {
            p.a.sum += TILE_COLUMNS / block * lanes_of(n_tokens);
        }
        ahead += STREAM_ROWS * panel_bytes;
        p.a.q += TILE_COLUMNS / 4 * lanes_of(n_tokens);
        p.a.d += TILE_COLUMNS / block * lanes_of(n_tokens);
    }
    if (!form.super) {
        for (size_t t = 0; t < n_tokens; t++) {
            rows_store(j->acc[t], total[t]);
        }
    }
}

/* ---- functions of every type ---- */

typedef void (*strip_fn)(const strip_job *j);

/* Nine and eleven tokens run as ten and twelve: half the code to compile for a tenth of their time. Types whose decode kernels win at two or three
 * tokens have no functions for those, types whose tile kernels do not lose at nine none beyond eight. */
/* The formatter has no form for functions and data made by macros. */
/* clang-format off */
#define ONE(type, tokens) \
    static void strip_##type##_##tokens(const strip_job *j) { multiply_strip(QN_TILE_##type, j, tokens); }
#define FROM_2(type) ONE(type, 2) ONE(type, 3)
#define FROM_4(type) ONE(type, 4) ONE(type, 5) ONE(type, 6) ONE(type, 7) ONE(type, 8)
#define TO_12(type) ONE(type, 10) ONE(type, 12)
#define LIST_8(type, two, three) strip_##type##_##two, strip_##type##_##two, strip_##type##_##three, strip_##type##_4, \
                                 strip_##type##_5, strip_##type##_6, strip_##type##_7, strip_##type##_8
#define UP_TO_8(type, two, three) [QN_TILE_##type] = {LIST_8(type, two, three)}
#define UP_TO_12(type, two, three) [QN_TILE_##type] = {LIST_8(type, two, three), strip_##type##_10, strip_##type##_10, \
                                                       strip_##type##_12, strip_##type##_12}
FROM_2(Q4_1) FROM_2(Q4_K) FROM_2(Q5_K) FROM_2(IQ4_XS)
FROM_4(Q4_0) FROM_4(Q4_1) FROM_4(Q5_0) FROM_4(Q5_1) FROM_4(Q8_0) FROM_4(IQ4_NL) FROM_4(MXFP4) FROM_4(Q4_K) FROM_4(Q5_K) FROM_4(Q6_K)
FROM_4(IQ4_XS) FROM_4(MLX4) FROM_4(MLX8)
TO_12(Q4_1) TO_12(Q5_0) TO_12(Q5_1) TO_12(Q8_0) TO_12(MXFP4) TO_12(Q4_K) TO_12(Q5_K) TO_12(IQ4_XS) TO_12(MLX4) TO_12(MLX8)
static const strip_fn functions[QN_TILE_TYPE_COUNT][STRIP_TOKENS] = {
    UP_TO_8(Q4_0, 4, 4), UP_TO_12(Q4_1, 2, 3), UP_TO_12(Q5_0, 4, 4), UP_TO_12(Q5_1, 4, 4), UP_TO_12(Q8_0, 4, 4), UP_TO_8(IQ4_NL, 4, 4),
    UP_TO_12(MXFP4, 4, 4), UP_TO_12(Q4_K, 2, 3), UP_TO_12(Q5_K, 2, 3), UP_TO_8(Q6_K, 4, 4), UP_TO_12(IQ4_XS, 2, 3), UP_TO_12(MLX4, 4, 4),
    UP_TO_12(MLX8, 4, 4),
};
/* clang-format on */

static qn_tile_type type_of(const qn_matrix *w)
{
    switch ((int)w->dtype) {
    case QN_DTYPE_Q4_0: return QN_TILE_Q4_0;
    case QN_DTYPE_Q4_1: return QN_TILE_Q4_1;
    case QN_DTYPE_Q5_0: return QN_TILE_Q5_0;
    case QN_DTYPE_Q5_1: return QN_TILE_Q5_1;
    case QN_DTYPE_Q8_0: return QN_TILE_Q8_0;
    case QN_DTYPE_IQ4_NL: return QN_TILE_IQ4_NL;
    case QN_DTYPE_MXFP4: return QN_TILE_MXFP4;
    case QN_DTYPE_Q4_K: return QN_TILE_Q4_K;
    case QN_DTYPE_Q5_K: return QN_TILE_Q5_K;
    case QN_DTYPE_Q6_K: return QN_TILE_Q6_K;
    case QN_DTYPE_IQ4_XS: return QN_TILE_IQ4_XS;
    default: return w->affine.bits == 4 ? QN_TILE_MLX4 : QN_TILE_MLX8;
    }
}

/* Lays out scratch and prepares the planes for n tokens from `token` on; false if they do not fit. */
static bool prepare(const strip_form form, const qn_act *a, size_t token, size_t n, char *scratch, strip_job *j)
{
    const size_t n_lanes = lanes_of(n), n_q = padded(a->n_cols / 4), n_d = padded(a->n_cols / a->block),
                 n_sums = padded(form.super ? a->n_cols / form.sub / 2 : a->n_cols / a->block);
    const size_t fixed = sizeof(qn_tile) + STRIP_TOKENS * STRIP_ROWS * (sizeof(int32_t) + sizeof(float));
    if (fixed + (n_q + n_d + 2 * n_sums) * n_lanes * sizeof(int32_t) > QN_MATMUL_SCRATCH_BYTES) {
        return false;
    }
    j->tile = (void *)scratch;
    j->half = (void *)(scratch + sizeof(qn_tile));
    j->acc = (void *)(j->half + STRIP_TOKENS);
    int32_t *q = (void *)(j->acc + STRIP_TOKENS), *d = q + n_q * n_lanes, *sums = d + n_d * n_lanes;
    int32_t *taken = sums + n_sums * n_lanes; /* (n, n_sums) */
    const int16_t *sum16 = a->sum16 + token * a->s_stride;
    lay_out(q, a->n_cols / 4, a->q + token * a->q_stride, a->q_stride, n);
    lay_out(d, a->n_cols / a->block, a->d + token * a->d_stride, a->d_stride * sizeof *a->d, n);
    if (form.super && form.sub == 16) {
        lay_out(sums, n_sums, sum16, a->s_stride * sizeof *sum16, n); /* pairs as they are */
    } else {
        for (size_t t = 0; t < n; t++) {
            if (form.super) {
                take_pairs(sum16 + t * a->s_stride, a->n_cols / form.sub / 2, (int16_t *)(taken + t * n_sums));
            } else {
                take_sums(sum16 + t * a->s_stride, a->n_cols / a->block, a->block, form.has_min ? 1 : -form.offset, taken + t * n_sums);
            }
        }
        lay_out(sums, n_sums, taken, n_sums * sizeof *taken, n);
    }
    j->a = (strip_act){q, (const float *)d, sums, sums};
    return true;
}

void qn_matmul_strip_avx512vnni(const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
                                void *scratch)
{
    const qn_tile_type type = type_of(w);
    const strip_form form = form_of(type);
    strip_job j = {.w = w, .block = a->block};
    size_t end = w->n_cols % form.unit == 0 ? r0 + (r1 - r0) / STRIP_ROWS * STRIP_ROWS : r0;
    const size_t most = functions[type][STRIP_TOKENS - 1] != NULL ? STRIP_TOKENS : 8;
    for (size_t t = t0; t < t1 && end > r0; t += most) {
        const size_t n = t1 - t < most ? t1 - t : most;
        if (!prepare(form, a, t, n, scratch, &j)) {
            end = r0;
        }
        /* Where memory binds, with an eighth of a byte a product, streams are far apart, if the processor wants four of them; else they follow each
         * other. */
        const size_t n_strips = (end - r0) / STRIP_ROWS;
        const bool apart = qn_cpu_read_streams() == STREAMS && 8 * w->row_bytes >= n * w->n_cols;
        j.distance = apart ? n_strips * STREAM_ROWS : STREAM_ROWS;
        j.row = r0;
        for (size_t strips = n_strips; strips > 0; strips--, j.row += j.next) {
            j.next = strips == 1 ? 0 : apart ? STREAM_ROWS : STRIP_ROWS;
            functions[type][n - 1](&j);
            for (size_t i = 0; i < n * STREAMS; i++) {
                memcpy(y + (t + i / STREAMS) * y_stride + j.row + i % STREAMS * j.distance, j.acc[i / STREAMS] + i % STREAMS * STREAM_ROWS,
                       STREAM_ROWS * sizeof(float));
            }
        }
    }
    if (end < r1) {
        qn_matmul_tile_avx512vnni(w, end, r1, a, t0, t1, y, y_stride, scratch);
    }
}
