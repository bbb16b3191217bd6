/* vocab.h - a vocabulary as arrays: how the layers above hand a tokenizer in (from GGUF metadata, say) and out (into GGUF metadata).
 *
 * Token texts are as GGUF stores them: byte-level BPE in the printable alphabet of GPT-2 ("Ġdef"), SentencePiece with U+2581 for
 * the blank and "<0x0A>" for bytes.
 */
#ifndef QN_TEXT_VOCAB_H
#define QN_TEXT_VOCAB_H

#include "quern/tokenizer.h"

typedef struct qn_text_span {
    const char *data; /* not NUL-terminated */
    size_t len;
} qn_text_span;

/* Everything is borrowed for the duration of the call. */
typedef struct qn_vocab_spec {
    const char *what;  /* names the source in messages */
    const char *model; /* "gpt2" (byte-level BPE) or "llama" (SentencePiece BPE), as tokenizer.ggml.model */
    const char *pre;   /* tokenizer.ggml.pre; NULL where absent (byte-level BPE then fails: never a guess; SPM ignores it) */
    const qn_text_span *tokens;
    size_t n_tokens;
    const float *scores;        /* SPM; NULL otherwise */
    const int32_t *types;       /* GGUF token types 1..6, NULL = all normal */
    const qn_text_span *merges; /* "left right" */
    size_t n_merges;
    int64_t bos_id, eos_id, unk_id, pad_id; /* -1 = none */
    int add_bos, add_eos, add_space_prefix; /* -1 = not said */
} qn_vocab_spec;

quern_status qn_tokenizer_create_from_spec(quern_tokenizer **out, const qn_vocab_spec *spec, quern_error *err);

/* The inverse, for writing GGUF: what tokenizer.ggml.* keys should say so that the same ids come out. Memory belongs to the
 * export and is freed by qn_vocab_export_deinit. `pre` is GGUF's name of the scanner. Ids between n_tokens and `n_vocab` are filled with
 * "[PADn]" of type unused. QUERN_ERROR_UNSUPPORTED where GGUF has no words for the tokenizer. */
typedef struct qn_vocab_export {
    qn_vocab_spec spec;
    const char *notes[3]; /* sentences for the user on what GGUF cannot say; static */
    size_t n_notes;
    void *owned;
} qn_vocab_export;
quern_status qn_tokenizer_export(const quern_tokenizer *t, size_t n_vocab, qn_vocab_export *out, quern_error *err);
void qn_vocab_export_deinit(qn_vocab_export *e);

#endif
