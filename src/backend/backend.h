/* backend.h - where a model's layers are computed: the layer-level entries, and the memory they work on.
 *
 * The graph (src/model) is a function that every member of a thread team runs (SPMD); each entry is called by all members with the
 * same arguments, shares the work among them and returns when the result is complete for everyone. A device without threads has one
 * member. Entries cannot fail: shapes were checked when the model was bound, memory was taken when the engine was made.
 */
#ifndef QN_BACKEND_BACKEND_H
#define QN_BACKEND_BACKEND_H

#include <stdbool.h>
#include "base/error.h"
#include "base/thread_pool.h"
#include "kernels/matmul.h"
#include "kernels/ops.h"

typedef struct qn_backend qn_backend;

/* The forms in which matrices read their input; a set of them is a mask of 1 << form. */
typedef enum qn_form { QN_FORM_F32, QN_FORM_I8_32, QN_FORM_I8_64, QN_FORM_I8_128, QN_FORM_I8_256, QN_FORM_COUNT } qn_form;

/* Input rows of matrices: float32 values and the quantized forms of them that some matrix needs. */
typedef struct qn_input {
    size_t n_cols, cap_rows;
    float *f;                    /* (cap_rows, n_cols) */
    uint32_t mask;               /* forms that are filled */
    qn_act forms[QN_FORM_COUNT]; /* forms[QN_FORM_F32].f is f */
} qn_input;

/* One matrix product of a step: y = W x + bias, or with `add`: y += W x + bias. */
typedef struct qn_product {
    const qn_matrix *w;
    const float *bias;
    float *y; /* (n_rows, y_stride) */
    size_t y_stride;
    bool add;
} qn_product;

/* Rows of a step: row r has position position[r] of sequence view[r]. Rows of one sequence are adjacent and in order. */
typedef struct qn_step_rows {
    size_t n_rows;
    const size_t *position;        /* (n_rows) */
    const qn_kv_view *const *view; /* (n_rows): keys and values of the row's sequence in the layer at hand */
    const float *cos_sin;          /* (n_rows, n_rot): n_rot/2 cosines, then n_rot/2 sines */
} qn_step_rows;

typedef struct qn_heads {
    size_t n_heads, n_kv_heads, head_dim, n_rot;
    bool interleaved;             /* rope pairs, see qn_rope_config */
    const float *q_norm, *k_norm; /* (head_dim) or NULL */
    float eps;
    size_t window; /* 0 = full */
    float scale;   /* 1 / sqrt(head_dim) */
} qn_heads;

/* A mixture-of-experts block of a step. Slot = one (row, rank) pair; slots are sorted by expert so that an expert's rows lie together. */
typedef struct qn_experts {
    size_t n_experts, n_used;   /* n_used <= n_experts */
    bool normalize;             /* weights of the chosen experts are divided by their sum */
    const qn_matrix *gate, *up; /* (n_experts) matrices (ffn, hidden) */
    const qn_matrix *down;      /* (n_experts) matrices (hidden, ffn) */
} qn_experts;

typedef struct qn_expert_buffers {
    float *router;    /* (rows, n_experts): logits */
    int32_t *chosen;  /* (rows, n_used): experts in rank order, best first */
    float *weight;    /* (rows, n_used) */
    uint32_t *slot;   /* (rows, n_used): where the pair's rows are */
    uint32_t *first;  /* (n_experts + 1): slots of expert e are first[e] .. first[e + 1] - 1 */
    qn_input in;      /* (rows * n_used, hidden), quantized forms and floats, sorted */
    qn_input mid;     /* (rows * n_used, ffn) */
    float *gate, *up; /* (rows * n_used, ffn) */
    float *out;       /* (rows * n_used, hidden) */
} qn_expert_buffers;

struct qn_backend {
    const char *name; /* "cpu" */
    /* Runs fn on all members, returns when all are done. */
    void (*run)(qn_backend *b, qn_pool_fn fn, void *arg);
    /* out (n_rows, n_cols) = rows ids[i] of the embedding. */
    void (*embed)(qn_backend *b, qn_member m, const qn_matrix *embedding, const int32_t *ids, size_t n_rows, float *out);
    /* input = rms_norm(x) * weight, in every form of input->mask. */
    void (*norm_input)(qn_backend *b, qn_member m, const float *x, size_t x_stride, const float *weight, float eps, size_t n_rows,
                       qn_input *input);
    /* Products that read the same input, together. */
    void (*multiply)(qn_backend *b, qn_member m, const qn_input *input, size_t n_rows, const qn_product *products, size_t n_products);
    /* Norm (if any), rope and scale-free q in place; k and v into the cache. use_rope false: layers without rope. Without n_heads only keys
     * and values, without n_kv_heads only queries. */
    void (*rope_store)(qn_backend *b, qn_member m, const qn_heads *h, const qn_step_rows *rows, bool use_rope, float *q, float *k,
                       const float *v);
    /* input = attention(q) in every form of input->mask; q and input rows are (n_heads * head_dim). */
    void (*attend)(qn_backend *b, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, qn_input *input);
    /* input = silu(gate) * up in every form of input->mask. */
    void (*gate_input)(qn_backend *b, qn_member m, const float *gate, const float *up, size_t n_rows, qn_input *input);
    /* x += sum over ranks of weight * expert(input), ranks in order; buffers->router holds the router's logits. `keep` false: x = the sum
     * (ranks of a group other than the first). */
    void (*mix_experts)(qn_backend *b, qn_member m, const qn_experts *e, const qn_input *input, size_t n_rows, qn_expert_buffers *buffers,
                        float *x, bool keep);
    void (*destroy)(qn_backend *b);
};

typedef struct qn_cpu_options {
    size_t n_threads;
    qn_isa isa;
    bool f32_activations;     /* quantized weights are decoded and multiplied with float32 inputs */
    bool decodes_weights;     /* some matrix is one of qn_matrix_is_decoded */
    size_t max_cols;          /* longest matrix row, for scratch */
    size_t hidden_size;       /* width of the residual stream */
    size_t max_rows;          /* most rows in a step */
    size_t n_heads, head_dim; /* for attention scratch */
    size_t n_ctx;
    const qn_numa *numa; /* must outlive the backend; NULL: one memory for all */
} qn_cpu_options;

/* Bytes qn_cpu_create will allocate. */
size_t qn_cpu_bytes(const qn_cpu_options *opt);
quern_status qn_cpu_create(qn_backend **out, const qn_cpu_options *opt, quern_error *err);

/* The form a matrix reads. */
qn_form qn_form_for(const qn_matrix *w, bool f32_activations);
/* Bytes that qn_input_bind needs; lays an input out for cap_rows rows in the forms of mask. Memory is 64-byte aligned. */
size_t qn_input_bytes(uint32_t mask, size_t cap_rows, size_t n_cols);
void qn_input_bind(qn_input *input, uint32_t mask, size_t cap_rows, size_t n_cols, void *memory);

#endif
