/* model_int.h - what a quern_model is made of; for src/model and src/engine only. */
#ifndef QN_MODEL_MODEL_INT_H
#define QN_MODEL_MODEL_INT_H

#include "base/alloc.h"
#include "formats/gguf_read.h"
#include "formats/safetensors_read.h"
#include "model/config.h"
#include "model/weights.h"
#include "quern/model.h"

/* A chat template; parsed stays NULL if its text is no template, which only matters to those who want to render it. */
typedef struct qn_model_template {
    quern_template *parsed;
    char *source; /* in the arena; NULL = none */
} qn_model_template;

struct quern_model {
    qn_arena arena; /* configuration, converted vectors, strings */
    qn_gguf *gguf;  /* one of these two is the source */
    qn_safetensors *safetensors;
    qn_model_config config;
    qn_weights weights;
    bool *placed; /* while weights are bound: which tensors of the file have found their place; else NULL */
    bool has_weights;
    bool is_copied; /* weights were read into memory and not mapped */
    /* Mapped weights that were read as wholes while they were bound, since they were copied or compared; bytes: of those that steps do not read. */
    qn_read_cost read;
    bool has_read; /* any; until binding is over, read.cold_bytes is what was cold before the first */
    quern_tokenizer *tokenizer;
    qn_model_template plain_template, tool_template;
    quern_model_info info;
};

/* Binds every tensor of the architecture, checking shapes and that vectors are finite. Sets config.n_vocab from the embedding if it was 0. */
quern_status qn_model_bind_weights(quern_model *m, quern_error *err);
/* Tensors of the file or files, whichever they are. */
size_t qn_model_n_tensors(const quern_model *m);
const qn_tensor *qn_model_tensor_at(const quern_model *m, size_t i);
bool qn_model_is_fp8(const quern_model *m);

/* What binding looks at in mapped files lies scattered over them. Before: the vectors are asked for, alone and all at once. After: the files are as if
 * nobody had looked, so that they are read in and mapped in huge pages. */
void qn_model_fetch_vectors(const quern_model *m);
void qn_model_settle(quern_model *m);
/* Reads in a mapped tensor that binding is about to read as a whole, and counts what that takes, but for `bytes`. */
quern_status qn_model_read_tensor(quern_model *m, const qn_tensor *t, quern_error *err);

/* The tokenizer out of GGUF metadata. */
quern_status qn_model_read_gguf_tokenizer(quern_model *m, quern_error *err);
/* The tokenizer and the chat template of a folder. */
quern_status qn_model_read_dir_text(quern_model *m, const char *dir, bool want_tokenizer, quern_error *err);

/* A folder in parts: config.json's text, the weights (the model's from here on, also on failure) and the tokenizer's files, whose texts may be
 * NULL. `path` is what messages call it. */
typedef struct qn_model_parts {
    const char *path, *config, *tokenizer, *tokenizer_config;
    size_t config_len, tokenizer_len, tokenizer_config_len;
    qn_safetensors *weights;
} qn_model_parts;
quern_status qn_model_open_parts(quern_model **out, const qn_model_parts *parts, quern_error *err);

/* Ends of an answer: what the configuration names, the tokenizer's own (it may be NULL), and control tokens that end a turn in the published chat
 * formats. ids: room for c->n_stop_ids + QN_STOP_IDS_BESIDES; returns how many. */
enum { QN_STOP_IDS_BESIDES = 16 };
size_t qn_model_list_stop_ids(const qn_model_config *c, const quern_tokenizer *t, int32_t *ids);

/* Reads one tensor by GGUF's and Hugging Face's name for it, whichever the model has. */
const qn_tensor *qn_model_find_tensor(const quern_model *m, const char *gguf_name, const char *hf_name);

#endif
