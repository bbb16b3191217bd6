/* weights.h - the tensors of a model where the files have them, bound to their places, shapes checked.
 *
 * Matrices point into the mapping. Vectors (norms, biases) are small and copied to float32. Everything lives as long as the model.
 * Invariant: once bound, every matrix has the rows and columns its place demands, so kernels need no checks. */
#ifndef QN_MODEL_WEIGHTS_H
#define QN_MODEL_WEIGHTS_H

#include "kernels/matmul.h"

/* y = W x + bias */
typedef struct qn_linear {
    qn_matrix w;       /* (n_out, n_in) */
    const float *bias; /* (n_out) or NULL */
} qn_linear;

typedef struct qn_layer_weights {
    const float *attn_norm;       /* (hidden) */
    const float *ffn_norm;        /* (hidden) */
    const float *q_norm, *k_norm; /* (head_dim) or NULL */
    qn_linear q;                  /* (n_heads * head_dim, hidden) */
    qn_linear k, v;               /* (n_kv_heads * head_dim, hidden) */
    qn_linear o;                  /* (hidden, n_heads * head_dim) */
    qn_linear gate, up;           /* (ffn, hidden) */
    qn_linear down;               /* (hidden, ffn) */
    /* instead of gate, up and down in a layer with experts: */
    qn_linear router;                         /* (n_experts, hidden) */
    const qn_matrix *expert_gate, *expert_up; /* (n_experts) matrices (expert_ffn, hidden); NULL in a dense layer */
    const qn_matrix *expert_down;             /* (n_experts) matrices (hidden, expert_ffn) */
} qn_layer_weights;

typedef struct qn_weights {
    qn_matrix embedding;        /* (n_vocab, hidden) */
    const float *output_norm;   /* (hidden) */
    qn_linear output;           /* (n_vocab, hidden); the embedding itself when tied */
    qn_layer_weights *layers;   /* n_layers */
    const float *rope_divisors; /* (n_rot / 2) or NULL: GGUF's rope_freqs.weight */
} qn_weights;

/* Tensors of checkpoints that carry nothing: rope's frequencies and tables, which old versions of transformers stored. */
bool qn_tensor_carries_nothing(const char *hf_name);

#endif
