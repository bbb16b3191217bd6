/* quern/measure.h - perplexity of a text, and how far one model's predictions are from another's.
 *
 * Chunking and definitions are llama.cpp's (examples/perplexity): the text is tokenized once and cut into chunks of n_ctx tokens, each run on its
 * own; the first token of a chunk is replaced by BOS where the vocabulary adds one; positions n_ctx/2 .. n_ctx-2 are scored on the token after them.
 * Models run side by side, so no file of logits is needed.
 */
#ifndef QUERN_MEASURE_H
#define QUERN_MEASURE_H

#include "quern/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Tokens of a chunk where none are asked for: 512, or the context that the model was trained with if that is shorter (0: not known), at least 16.
 * The gate (quern/verify.h) cuts its text so by the source's context. */
QUERN_API size_t quern_measure_chunk_tokens(size_t n_ctx_train);

typedef struct quern_measure_options {
    const char *text;          /* UTF-8, or NULL with ids given */
    size_t len;
    const int32_t *ids;        /* already tokenized text, or NULL */
    size_t n_ids;
    bool no_special;           /* text that spells a special token is plain text */
    size_t n_ctx;              /* tokens a chunk, at least 4; 0 = quern_measure_chunk_tokens of the base, without one of the model */
    size_t max_chunks;         /* 0 = all */
    quern_progress_callback on_progress; /* chunks done and total; false cancels (QUERN_ERROR_CANCELLED); may be NULL */
    void *user;
} quern_measure_options;

typedef struct quern_perplexity {
    size_t n_ctx, n_chunks;
    size_t n_tokens;           /* scored tokens */
    double ppl;                /* exp(nll) */
    double ppl_error;          /* one standard error: ppl * sqrt((E[x^2] - E[x]^2) / (n - 1)) */
    double nll;                /* mean negative log-likelihood, nats a token */
    double bits_per_byte;      /* total nll in bits over the bytes of the scored tokens: comparable across tokenizers */
} quern_perplexity;

/* Kullback-Leibler divergence of the model's next-token distribution from the base's, over all scored positions, in nats. */
typedef struct quern_divergence {
    double kld_mean, kld_error, kld_median, kld_p90, kld_p99, kld_p999, kld_max, kld_min;
    double top1_agreement;              /* fraction of positions with the same most likely token */
    double delta_p_mean, delta_p_rms;   /* probability of the right token, model minus base */
    double ppl_ratio, ppl_ratio_error;  /* model over base; the error takes their correlation into account */
} quern_divergence;

/* Measures `engine` on the text; with `base` given also the base and the divergence of engine from it. Vocabularies must have the same size, and
 * both engines need a context of at least n_ctx tokens. base_out and divergence may be NULL without base. */
QUERN_API quern_status quern_measure(quern_engine *engine, quern_engine *base, const quern_measure_options *opt, quern_perplexity *out,
                                     quern_perplexity *base_out, quern_divergence *divergence, quern_error *err);

/* One of several models that are measured beside one base. */
typedef struct quern_measured {
    quern_engine *engine; /* given */
    quern_status status;  /* QUERN_ERROR_INVALID: its logits are not finite, and `error` says where; what the others have stands */
    quern_error error;
    quern_perplexity perplexity;
    quern_divergence divergence;
} quern_measured;

/* quern_measure for n models (at least 1) of which the base, which runs only once, may be NULL. Fails as a whole if the base's logits are not
 * finite. base_out is filled if any model's status is QUERN_OK. Each model's figures are the same as those of quern_measure. */
QUERN_API quern_status quern_measure_beside(quern_measured *models, size_t n, quern_engine *base, const quern_measure_options *opt,
                                            quern_perplexity *base_out, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
