/* cpu_int.h - the CPU backend's own state; for src/backend/cpu*.c only. */
#ifndef QN_BACKEND_CPU_INT_H
#define QN_BACKEND_CPU_INT_H

#include <stdatomic.h>
#include "backend/backend.h"
#include "base/alloc.h"

/* Claim counters are used round robin; a counter is zeroed half a round before its next use, when nobody can still be in its last one. */
enum { QN_CPU_PHASES = 8 };

/* Query rows (token x head of one kv group) handed to one attention call. */
enum { QN_CPU_QUERY_BLOCK = 64 };

/* Steps of at most this many rows may split a sequence's attention over chunks (long context, few users). */
enum { QN_CPU_SPLIT_ROWS = 8 };

/* A member's private state, a cache line of its own. */
typedef struct qn_lane {
    _Alignas(64) size_t phase;
    void *scratch;
    float *decoded;
} qn_lane;

typedef struct qn_claim {
    _Alignas(64) _Atomic(size_t) next;
} qn_claim;

typedef struct qn_cpu {
    qn_backend backend; /* first, so that a qn_backend * is a qn_cpu * */
    qn_claim *claims;   /* (QN_CPU_PHASES, n_nodes) */
    const qn_numa *numa;
    size_t n_nodes;
    qn_arena arena;
    qn_pool *pool;
    size_t n_threads;
    qn_isa isa;
    const qn_ops *ops;
    bool f32_activations;
    qn_lane *lanes;     /* (n_threads) */
    float *sums;        /* (max_rows, hidden_size): products before they are added to the residual */
    float *parts;       /* partial attention: (row, head, part, head_dim + 2) */
    size_t split_parts; /* parts a row may have */
} qn_cpu;

void qn_cpu_begin_phase(qn_cpu *c, qn_member m);
size_t qn_cpu_claim(qn_cpu *c, qn_member m); /* 0, 1, 2, ... each number given to one member */
/* The same of a memory node's own numbers. Members take their node's first, and then what is left of the others' (qn_cpu_node_in_turn). */
size_t qn_cpu_claim_of(qn_cpu *c, qn_member m, size_t node);
static inline size_t qn_cpu_node_in_turn(const qn_cpu *c, qn_member m, size_t turn) { return (m.node + turn) % c->n_nodes; }
void qn_cpu_end_phase(qn_cpu *c, qn_member m);

/* Chunks of QN_ATTN_CHUNK positions in a context. */
static inline size_t qn_cpu_split_parts(size_t n_ctx) { return (n_ctx + QN_ATTN_CHUNK - 1) / QN_ATTN_CHUNK; }

/* out (n_rows, n_heads * head_dim); complete for everyone on return. */
void qn_cpu_attention(qn_cpu *c, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, float *out);
/* The rows [row0, row1) of input->f into the quantized forms of its mask. */
void qn_cpu_quantize_rows(qn_cpu *c, qn_input *input, size_t row0, size_t row1);
/* y = W x for rows [r0, r1) of W and rows [t0, t1) of a, by the engine's arithmetic. */
void qn_cpu_multiply_rows(qn_cpu *c, qn_lane *lane, const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1,
                          float *y, size_t y_stride);
/* The entry mix_experts. */
void qn_cpu_mix_experts(qn_backend *b, qn_member m, const qn_experts *e, const qn_input *input, size_t n_rows, qn_expert_buffers *buffers,
                        float *x, bool keep);
/* One row of any matrix as float32. */
void qn_cpu_decode_row(const qn_matrix *w, size_t row, float *out);

#endif
