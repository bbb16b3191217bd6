/* quern/sampling.h - from logits to a token.
 *
 * Order: penalties, temperature, top-k, typical, top-p, min-p, draw. temperature 0 is argmax (lowest id on ties) with
 * penalties off unless given. The same seed gives the same tokens on every machine.
 */
#ifndef QUERN_SAMPLING_H
#define QUERN_SAMPLING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "quern/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_logit_bias {
    int32_t id;
    float bias; /* added to the logit; -INFINITY forbids the token */
} quern_logit_bias;

typedef struct quern_sampling {
    float temperature;        /* >= 0; 0 = greedy */
    int32_t top_k;            /* 0 = off */
    float top_p;              /* 0..1; 1 = off */
    float min_p;              /* 0..1; 0 = off */
    float typical_p;          /* 0..1; 1 = off */
    float repeat_penalty;     /* > 0; 1 = off; over prompt and answer (the last penalty_window tokens) */
    float presence_penalty;   /* 0 = off; over the answer only, as in the OpenAI API */
    float frequency_penalty;  /* 0 = off; likewise */
    int32_t penalty_window;   /* tokens looked back for repeat_penalty; -1 = all */
    uint64_t seed;
    const quern_logit_bias *logit_bias; /* borrowed while the sampler lives */
    size_t n_logit_bias;
} quern_sampling;

/* Greedy: temperature 0, everything else off. */
QUERN_API quern_sampling quern_sampling_default(void);
/* Checks ranges; names the field that is off. */
QUERN_API quern_status quern_sampling_check(const quern_sampling *s, size_t n_vocab, quern_error *err);

typedef struct quern_sampler quern_sampler;
/* A sampler with the random state of s->seed; fails as quern_sampling_check does. Destroy accepts NULL. */
QUERN_API quern_status quern_sampler_create(quern_sampler **out, const quern_sampling *s, size_t n_vocab, quern_error *err);
QUERN_API void quern_sampler_destroy(quern_sampler *s);
/* Tells the sampler of tokens of the prompt (for repeat_penalty). */
QUERN_API quern_status quern_sampler_accept_prompt(quern_sampler *s, const int32_t *ids, size_t n, quern_error *err);
/* Chooses a token from logits (n_vocab), which it may overwrite, and remembers it. If logprob is given it receives the
 * natural logarithm of the token's probability under the unmodified logits. NaN logits give QUERN_ERROR_INVALID. */
QUERN_API quern_status quern_sampler_sample(quern_sampler *s, float *logits, int32_t *id, float *logprob, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
