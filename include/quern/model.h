/* quern/model.h - a model on disk or in memory: configuration, tokenizer, template, weights.
 *
 * A MODEL is a GGUF file (or the first shard of a split one), a Hugging Face folder, or an MLX folder. Weights are mapped, not copied.
 * A model is immutable after opening and may be shared by several engines and threads.
 */
#ifndef QUERN_MODEL_H
#define QUERN_MODEL_H

#include "quern/chat.h"
#include "quern/sampling.h"
#include "quern/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_model quern_model;

typedef struct quern_model_options {
    bool copy_weights;      /* read the file into memory instead of mapping it (--load copy) */
    bool without_weights;   /* configuration and tokenizer only; such a model cannot make an engine */
    bool vocabulary_only;   /* tokenizer and chat template only, whatever the architecture; no weights, and no shape in the info */
    bool without_tokenizer; /* skip the tokenizer (a folder without tokenizer files opens then) */
    const char *architecture; /* NULL, or the architecture to read the model as, whatever it names ("qwen3"); every tensor must fit */
} quern_model_options;

typedef struct quern_model_info {
    const char *name;          /* general.name, or the folder's or file's name */
    const char *path;
    const char *format;        /* "gguf", "safetensors" or "mlx" */
    const char *architecture;  /* "qwen2", "qwen3", "llama", "mistral", ...; "" with vocabulary_only */
    const char *weights;       /* what most matrix bytes are: "Q4_K", "BF16", "MLX 4-bit g64" */
    uint64_t n_parameters;     /* elements of all weight tensors, a tied head counted once */
    uint64_t weight_bytes;     /* bytes of all tensors as stored */
    uint32_t n_layers, n_heads, n_kv_heads, head_dim, hidden_size, ffn_size, n_vocab;
    uint32_t n_experts, n_experts_used; /* of a layer, and for one token; 0 where there are none */
    uint32_t n_ctx_train;      /* longest context the model was made for, in tokens */
    bool tied_embeddings;
    const int32_t *stop_ids;   /* ids that end an answer */
    size_t n_stop_ids;
} quern_model_info;

/* opt may be NULL. `path` NULL or "demo" is not resolved here: see quern_model_open_memory. */
QUERN_API quern_status quern_model_open(quern_model **out, const char *path, const quern_model_options *opt, quern_error *err);
/* A GGUF file in memory; data must outlive the model. name is used in messages and as the model's path. */
QUERN_API quern_status quern_model_open_memory(quern_model **out, const void *data, size_t size, const char *name,
                                               const quern_model_options *opt, quern_error *err);
QUERN_API void quern_model_close(quern_model *m); /* NULL is fine */

/* Reading in: how a model's weights came into memory. */
typedef struct quern_read_in {
    uint64_t bytes;      /* of weights; of whole files with copy_weights */
    uint64_t cold_bytes; /* that came from the disk: an estimate from samples; 0 = all was there, or the system does not tell (Linux tells a
                            file's owner and who may write it) */
    uint64_t moved_bytes; /* from one memory node to another, so that those who read them have them near */
    double seconds;      /* that this took; of the copy, with copy_weights */
    bool skipped;        /* the missing part is larger than the memory that is free: steps will read what they touch */
} quern_read_in;

/* Brings mapped weights into memory at the disk's speed, before the first step has to wait for them page by page; cheap if they are there, nothing
 * to do for copied weights. What was read when the model was opened - a copy, and mapped weights that are kept in another form - is counted too, in
 * every call. On a machine whose processors have memory of their own (several NUMA nodes), weights are brought to the node whose
 * threads will read them, copied ones too, unless QUERN_NUMA is "off" or n_threads, of the engine that is to run the model (0 = all), are fewer than
 * nodes. on_progress (may be NULL) gets bytes done and total; false ends it with QUERN_ERROR_CANCELLED. `out` may be NULL. */
QUERN_API quern_status quern_model_read_in(const quern_model *m, size_t n_threads, quern_progress_callback on_progress, void *user,
                                           quern_read_in *out, quern_error *err);

/* Valid until the model is closed. */
QUERN_API const quern_model_info *quern_model_get_info(const quern_model *m);
/* NULL if the model was opened without one or has none. */
QUERN_API const quern_tokenizer *quern_model_get_tokenizer(const quern_model *m);
QUERN_API const quern_template *quern_model_get_template(const quern_model *m);
/* The template's source text, NULL if none. */
QUERN_API const char *quern_model_get_template_source(const quern_model *m);
/* The same for requests that offer tools: some models bring a second template ("tool_use") for them, for others it is the same. */
QUERN_API const quern_template *quern_model_get_tool_template(const quern_model *m);
QUERN_API const char *quern_model_get_tool_template_source(const quern_model *m);
/* The model's own sampling defaults (generation_config.json or general.sampling.*), greedy where it says nothing. */
QUERN_API quern_sampling quern_model_get_sampling(const quern_model *m);

#ifdef __cplusplus
}
#endif
#endif
