/* quern/logits.h - raw logits of given token sequences, in a file other programs read: for comparing engines.
 */
#ifndef QUERN_LOGITS_H
#define QUERN_LOGITS_H

#include "quern/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_logits_options {
    quern_engine_options engine;         /* n_ctx 0 = as long as the longest sequence */
    bool add_bos;                        /* begin each sequence with the BOS token (the model then needs its tokenizer) */
    quern_progress_callback on_progress; /* positions done and in all; false interrupts, nothing is then written. May be NULL */
    void *user;
} quern_logits_options;

/* What was written, and with what arithmetic. */
typedef struct quern_logits_summary {
    size_t n_sequences, n_positions, n_vocab;
    uint64_t bytes;  /* of the file */
    const char *isa; /* static */
    size_t n_threads;
    quern_kv_type kv_type;
} quern_logits_summary;

/* ids_json is {"sequences":[[id,...],...]}; `what` names it in messages. Writes the safetensors file out_path with float32 tensors
 * logits.0, logits.1, ... of shape (n_positions, n_vocab): row t holds the logits after position t, so it predicts token t + 1.
 * The file appears under its name only when complete. Errors: QUERN_ERROR_INVALID for ids outside the vocabulary or a broken
 * document, QUERN_ERROR_CONTEXT_FULL for a sequence longer than engine.n_ctx, QUERN_ERROR_IO. */
QUERN_API quern_status quern_logits_write(const quern_model *m, const quern_logits_options *opt, const char *ids_json, size_t len,
                                          const char *what, const char *out_path, quern_logits_summary *out, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
