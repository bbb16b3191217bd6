/* config.h - what a model is, told by config.json or by GGUF metadata: sizes, attention, rope, experts, end tokens, defaults.
 *
 * Owns nothing of the weights and does not look at tensors. Invariant: after a successful read every number is in range and the
 * numbers fit together (heads divide, products fit 32 bits), so that the code above may multiply without checks.
 */
#ifndef QN_MODEL_CONFIG_H
#define QN_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include "base/alloc.h"
#include "base/error.h"
#include "formats/gguf_read.h"
#include "quern/sampling.h"

/* Ceilings that no published model comes near; they keep hostile sizes out of products. */
#define QN_CONFIG_LAYERS_MAX 1024u
#define QN_CONFIG_HIDDEN_MAX (1u << 20)
#define QN_CONFIG_HEADS_MAX 4096u
#define QN_CONFIG_HEAD_DIM_MAX 512u
#define QN_CONFIG_FFN_MAX (1u << 22)
#define QN_CONFIG_VOCAB_MAX (1u << 22)
#define QN_CONFIG_EXPERTS_MAX 4096u

typedef enum qn_family {
    QN_FAMILY_QWEN2,
    QN_FAMILY_QWEN3,
    QN_FAMILY_LLAMA,
    QN_FAMILY_MISTRAL,
    QN_FAMILY_QWEN3_MOE,
    QN_FAMILY_MIXTRAL,
    QN_FAMILY_SMOLLM3,
    QN_FAMILY_GPT_OSS
} qn_family;

typedef enum qn_rope_scaling { QN_ROPE_NONE, QN_ROPE_LINEAR, QN_ROPE_LLAMA3, QN_ROPE_YARN } qn_rope_scaling;

typedef struct qn_rope_config {
    double theta;     /* base frequency, > 0 */
    uint32_t n_rot;   /* rotated dimensions of a head, even, <= head_dim */
    bool interleaved; /* pairs (2i, 2i+1), as GGUF files of llama-like families store q and k; else (i, i + n_rot/2) */
    qn_rope_scaling scaling;
    double factor;                            /* > 0; 1 for NONE */
    uint32_t original_ctx;                    /* LLAMA3, YARN: context before scaling */
    double low_freq_factor, high_freq_factor; /* LLAMA3 */
    double beta_fast, beta_slow;              /* YARN, defaults 32 and 1 */
    double attention_factor;                  /* YARN: multiplies cos and sin; <= 0 = 0.1 ln(factor) + 1 */
    bool truncate;                            /* YARN: correction range rounded outwards, default true */
} qn_rope_config;

/* What may differ from layer to layer. */
typedef struct qn_layer_config {
    uint32_t window; /* sliding window in tokens, the query's own included; 0 = full attention */
    bool rope;       /* false: this layer does not rotate */
    bool experts;    /* mixture of experts instead of one feed-forward block */
} qn_layer_config;

/* MLX: quantization of one module; bits 0 = not quantized. */
typedef struct qn_affine_override {
    const char *module; /* "model.layers.0.mlp.down_proj" */
    qn_affine affine;
    bool mxfp4; /* mode mxfp4 instead of affine: 4 bits, groups of 32, scales that are powers of two */
} qn_affine_override;

typedef struct qn_model_config {
    qn_family family;
    const char *architecture; /* as the source names it: GGUF's general.architecture or config.json's model_type */
    const char *name;         /* general.name or NULL */
    uint32_t n_layers, hidden_size, n_heads, n_kv_heads, head_dim, ffn_size;
    uint32_t n_vocab; /* rows of the embedding; 0 = not said (GGUF: taken from the tensor) */
    uint32_t n_ctx_train;
    double rms_eps;
    qn_rope_config rope;
    qn_layer_config *layers;         /* n_layers */
    bool qkv_bias, o_bias, mlp_bias; /* biases that config.json asks for (Qwen2: qkv); GGUF: presence of the tensors decides */
    bool qk_norm;                    /* RMS norm per head on q and k before rope */
    bool tied_embeddings;            /* no output matrix of its own; GGUF: presence of output.weight decides */
    /* experts */
    uint32_t n_experts, n_experts_used, expert_ffn_size;
    bool norm_topk_prob;
    /* tokens: -1 = not said */
    int64_t bos_id, eos_id, pad_id;
    int32_t *stop_ids; /* every id that config and generation_config name as end of sequence */
    size_t n_stop_ids;
    /* sampling defaults; has_sampling false = source says nothing */
    bool has_sampling;
    quern_sampling sampling;
    /* MLX */
    bool mlx;         /* the folder has MLX's quantization object */
    qn_affine affine; /* default; bits 0 = not quantized */
    bool mxfp4;       /* the default is mode mxfp4 */
    qn_affine_override *overrides;
    size_t n_overrides;
    /* Hugging Face: FP8 with block scales and the like; NULL = plain weights. Only known methods pass. */
    const char *quant_method;
    uint32_t fp8_block_rows, fp8_block_cols; /* fp8: weight_block_size; 0 = one scale a tensor */
} qn_model_config;

/* All strings and arrays come from `arena`. `what` names the file in messages; generation (generation_config.json) may be NULL. */
quern_status qn_config_read_hf(qn_model_config *out, qn_arena *arena, const char *json, size_t len, const char *what,
                               const char *generation, size_t generation_len, quern_error *err);
quern_status qn_config_read_gguf(qn_model_config *out, qn_arena *arena, const qn_gguf *gguf, quern_error *err);
/* The same for a file whose architecture is not one of ours, read as if it were `as` (NULL = as it says): a model_type, or a name that GGUF
 * uses. QUERN_ERROR_USAGE if `as` is none. Whether the tensors fit is for the caller to check. */
quern_status qn_config_read_hf_as(qn_model_config *out, qn_arena *arena, const char *json, size_t len, const char *what,
                                  const char *generation, size_t generation_len, const char *as, quern_error *err);
quern_status qn_config_read_gguf_as(qn_model_config *out, qn_arena *arena, const qn_gguf *gguf, const char *as, quern_error *err);

/* Quantization of a module ("model.layers.0.mlp.down_proj"): override, else the default; bits 0 = not quantized. */
qn_affine qn_config_affine_for(const qn_model_config *config, const char *module);
/* Whether that is mode mxfp4. */
bool qn_config_is_mxfp4(const qn_model_config *config, const char *module);

/* "qwen3" and the like, as GGUF's general.architecture names the family. */
const char *qn_family_name(qn_family family);
/* "qwen3" and "Qwen3ForCausalLM", as config.json names it. */
const char *qn_family_model_type(qn_family family);
const char *qn_family_class_name(qn_family family);

#endif
