/* ops.h - the contract of everything that is no matrix product: norms, rope, attention, activation functions, copies.
 *
 * All of these give the same bits on every instruction set. Sums over a row use the 16-lane order and tree of matmul.h. Elementary
 * functions are the project's own (vmath.h): the same float operations in scalar and vector form.
 */
#ifndef QN_KERNELS_OPS_H
#define QN_KERNELS_OPS_H

#include <stddef.h>
#include <stdint.h>
#include "base/cpu.h"
#include "kernels/matmul.h"

/* KV cache pages: 64 positions. Per layer and page, for n_kv_heads heads of head_dim (multiple of 2, at most 512):
 *   K: [kv_head][group of 16 positions (4)][dim][16]   - 16 keys in lanes, dimension-major
 *   V: [kv_head][position (64)][dim]
 * Elements float32 or float16, or with QN_KV_FORMAT_Q8_0 (head_dim a multiple of 32) int8 codes with one float16 scale for every 32
 * dimensions of a key or value:
 *   K: [kv_head][group][dim / 32] { scale [16], code [32][16] }
 *   V: [kv_head][position] { code [dim], scale [dim / 32] }
 * A q8_0 block is stored so: amax = the largest |x| of the 32, d = amax / 127, scale = float16(d), code = x * (1 / d) to the nearest integer,
 * ties to even. A scale of 0 has codes of 0; where amax or the scale is not finite the scale is NaN, so that the block reads as NaN.
 * The value that is read is the float32 product scale * code, which is exact (11 by 8 bits); what is done with it is the same for all
 * formats. A page may therefore be read as it is or widened to float32 first. */
#define QN_KV_PAGE 64
#define QN_KV_GROUP 16
#define QN_KV_BLOCK 32
/* Softmax chunk: positions [256c, 256c + 256), counted from position 0 of the sequence. */
#define QN_ATTN_CHUNK 256

typedef enum qn_kv_format { QN_KV_FORMAT_F32, QN_KV_FORMAT_F16, QN_KV_FORMAT_Q8_0 } qn_kv_format;

/* Bytes of the keys (or the values) of one position and one kv head; a page has QN_KV_PAGE times as many of each kv head. */
static inline size_t qn_kv_row_bytes(qn_kv_format format, size_t head_dim)
{
    switch (format) {
    case QN_KV_FORMAT_F32: return head_dim * sizeof(float);
    case QN_KV_FORMAT_F16: return head_dim * sizeof(uint16_t);
    case QN_KV_FORMAT_Q8_0: break;
    }
    return head_dim + head_dim / QN_KV_BLOCK * sizeof(uint16_t);
}

/* The keys and values one layer of one sequence sees. Page i holds positions [64i, 64i + 64). */
typedef struct qn_kv_view {
    qn_kv_format format;
    const void *const *k_pages; /* each points at the layer's K part of a page */
    const void *const *v_pages;
    size_t n_kv_heads, head_dim;
} qn_kv_view;

/* Partial attention over some chunks: for one query head, m = running max, l = running sum of exp, o (head_dim) unnormalised. */
typedef struct qn_attn_args {
    const qn_kv_view *kv;
    size_t kv_head;
    size_t n_queries;       /* query rows handled together: any mix of (token, head of this kv group) */
    const float *const *q;  /* n_queries pointers to (head_dim), already roped, NOT scaled */
    float *const *out;      /* n_queries pointers to (head_dim) */
    const size_t *position; /* position of each query; it sees keys j with first[i] <= j <= position[i] */
    const size_t *first;    /* 0, or position - window + 1 for a sliding window (never negative) */
    float scale;            /* multiplies each score after its chain */
    void *scratch;          /* QN_ATTN_SCRATCH_BYTES(n_queries, head_dim), 64-byte aligned, private to the thread */
} qn_attn_args;
/* Scores, partial output and state of each query, and one page as float32. */
#define QN_ATTN_SCRATCH_BYTES(n_queries, head_dim) \
    (((n_queries) * ((QN_ATTN_CHUNK) + (head_dim) + 64u) + (QN_KV_PAGE) * (head_dim)) * sizeof(float) + 4096u)

/* Attention, exactly: s_j = scale * (chain over dims in order: s = fmaf(q[d], k[j][d], s), from 0).
 * Per chunk c that has visible keys: m_c = max s_j (then + 0.0f, so that it is never -0); p_j = exp(s_j - m_c);
 * l_c = 16-lane sum of p_j by (j mod 16), tree as in matmul.h;
 * o_c[d] = chain over visible j in order: fmaf(p_j, v[j][d], o), from 0. Invisible keys take no part.
 * Chunks in order: first one gives (m, l, o); then M = max(m, m_c), f = exp(m - M), g = exp(m_c - M),
 * l = fmaf(l, f, l_c * g), o[d] = fmaf(o[d], f, o_c[d] * g), m = M. At the end out[d] = o[d] / l. */
typedef struct qn_ops {
    qn_isa isa;
    /* y[i] = x[i] * r * w[i] with r = 1 / sqrtf(sum(x^2)/n + eps): two products in this order, sum in 16 lanes by fmaf. w may be NULL
     * (all ones). In place allowed. */
    void (*rms_norm)(float *y, const float *x, const float *w, size_t n, float eps);
    /* y[i] += x[i] */
    void (*add)(float *y, const float *x, size_t n);
    /* y[i] = fmaf(a, x[i], y[i]) */
    void (*axpy)(float *y, float a, const float *x, size_t n);
    /* y[i] = silu(gate[i]) * up[i], silu(v) = v / (1 + exp(-v)) with the project's exp */
    void (*silu_mul)(float *y, const float *gate, const float *up, size_t n);
    /* Rotates pairs in place: half-split form pairs (i, i + n_rot/2), interleaved form (2i, 2i+1), i < n_rot/2.
     * a' = a*cos - b*sin as fmaf(a, cos, -(b*sin)); b' = fmaf(a, sin, b*cos). cos_sin: n_rot/2 cosines then n_rot/2 sines. */
    void (*rope_half)(float *head, const float *cos_sin, size_t n_rot);
    void (*rope_interleaved)(float *head, const float *cos_sin, size_t n_rot);
    /* Stores one position's K and V of one kv head into the layer's page parts (k_page/v_page as in qn_kv_view), slot 0..63. Writes no byte
     * of another position or head. */
    void (*kv_store)(qn_kv_format format, void *k_page, void *v_page, size_t kv_head, size_t head_dim, size_t slot, const float *k,
                     const float *v);
    void (*attention)(const qn_attn_args *args);
    /* Partial form for splitting over chunks: computes chunks [c0, c1) only; ml (n_queries, 2) receives m and l, out the unnormalised o.
     * A query without visible keys in the range gets m = -INFINITY, l = 0, o = 0. */
    void (*attention_partial)(const qn_attn_args *args, size_t c0, size_t c1, float *ml);
    /* Appends one chunk's partial result (ml_part, o_part) to what stands before it (ml, o) by the rule above; a side with l = 0 (no
     * visible keys) takes no part. attention_partial for single chunks, merged in order, then o[d] / l: the bits of attention. */
    void (*attention_merge)(float ml[2], float *o, const float ml_part[2], const float *o_part, size_t head_dim);
    /* terms[i] = exp((x[i] - max) * factor) in double, 0 where the exponent is below -700, and their sum: 8 lanes, lane l takes elements
     * i mod 8 in order, then the tree s4[l] = lane[l] + lane[l+4], s2[l] = s4[l] + s4[l+2], s2[0] + s2[1]. max is the largest element,
     * factor > 0; terms may be NULL. */
    double (*exp_sum)(double *terms, const float *x, size_t n, float max, double factor);
    /* Sum of exp(x[i] - max) * (x[i] - y[i]) in double, lanes, tree and cut-off as in exp_sum; x and y finite: with both normalisers it
     * gives a Kullback-Leibler divergence in one pass. */
    double (*exp_dot)(const float *x, const float *y, size_t n, float max);
    /* The largest element's lowest index; NaN counts as larger than everything and is returned. */
    size_t (*argmax)(const float *x, size_t n);
} qn_ops;

/* The table of one level (levels share functions where nothing is faster). Never NULL. */
const qn_ops *qn_ops_get(qn_isa isa);
/* Calls served by the attention and norm of a level since start (tests). */
uint64_t qn_ops_calls(qn_isa isa);

#endif
