/* graph.h - the forward pass of a decoder, dense or with experts: which entry follows which. No arithmetic, no memory of its own. */
#ifndef QN_MODEL_GRAPH_H
#define QN_MODEL_GRAPH_H

#include "backend/backend.h"
#include "backend/comm.h"
#include "model/config.h"
#include "model/rope.h"
#include "model/weights.h"

/* The buffers a step works in, for cap_rows rows; see qn_graph_bytes. */
typedef struct qn_graph_buffers {
    float *x;          /* (rows, hidden): the residual stream */
    float *q;          /* (rows, n_heads * head_dim) */
    float *k, *v;      /* (rows, n_kv_heads * head_dim) */
    float *gate, *up;  /* (rows, ffn) */
    float *cos_sin;    /* (rows, n_rot) */
    qn_input attn_in;  /* normed x, what q k v read */
    qn_input attn_out; /* attention's output, what o reads */
    qn_input ffn_in, ffn_out;
    qn_expert_buffers experts; /* for rows * n_experts_used slots; only in models with experts */
    qn_input head_in;          /* (logit rows): what the output matrix reads */
    size_t *kept_position;     /* (rows): of the rows that the last layer keeps */
    const qn_kv_view **kept_view;
} qn_graph_buffers;

/* What stays the same from step to step. */
typedef struct qn_graph {
    qn_backend *backend;
    const qn_comm *comm;
    const qn_model_config *config;
    const qn_weights *weights;
    const qn_rope *rope;
    qn_graph_buffers buffers;
    bool all_rows; /* go through all of the last layer, wanted or not: for who reads x after a step, or what meets that layer's matrices */
} qn_graph;

/* One step: n_rows rows, and for logit_rows[i] (ascending) the logits go to logits[i] (n_vocab floats). Rows whose logits are adjacent in
 * memory are computed together. In the last layer other rows get keys and values only. */
typedef struct qn_graph_step {
    size_t n_rows;
    const int32_t *ids;                   /* (n_rows) */
    const size_t *position;               /* (n_rows) */
    const qn_kv_view *const *const *view; /* [layer][row]; see qn_step_rows */
    size_t n_logit_rows;
    const size_t *logit_rows; /* (n_logit_rows) */
    float *const *logits;     /* (n_logit_rows) pointers to (n_vocab) */
} qn_graph_step;

/* Bytes for cap_rows rows with logits for cap_logit_rows of them at a time; and laying them out in 64-byte aligned memory. */
size_t qn_graph_bytes(const qn_model_config *c, const qn_weights *w, bool f32_activations, size_t cap_rows, size_t cap_logit_rows);
void qn_graph_bind(qn_graph_buffers *b, const qn_model_config *c, const qn_weights *w, bool f32_activations, size_t cap_rows,
                   size_t cap_logit_rows, void *memory);

/* Run by every member. n_logit_rows at most what was bound. */
void qn_graph_run(const qn_graph *g, const qn_graph_step *s, qn_member m);

#endif
