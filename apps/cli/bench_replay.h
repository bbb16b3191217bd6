/* bench_replay.h - what guessing from the text so far gains, on answers that are known beforehand.
 *
 * What a model says depends on its weights; what a step of so many rows costs does not. A known answer is said again in place of the model's own, so the
 * time is that of a model which gives this answer, even where the weights at hand are random. */
#ifndef QN_CLI_BENCH_REPLAY_H
#define QN_CLI_BENCH_REPLAY_H

#include "bench_run.h"

typedef struct qn_replay_text {
    char *name;
    quern_ids prompt, answer;
    qn_bench_result guessing, plain;    /* decoding the answer with and without guesses */
    size_t n_steps, n_guessed, n_right; /* of the last answer with guesses */
} qn_replay_text;

typedef struct qn_replay {
    qn_replay_text *texts;
    size_t n_texts, n_measured; /* texts before n_measured have results */
} qn_replay;

/* Reads {"texts": [{"name", "prompt", "answer"}]}. QUERN_ERROR_INVALID names what is missing. Free with qn_replay_deinit, also after an error. */
quern_status qn_replay_read(qn_replay *r, const char *path, const quern_tokenizer *tokenizer, quern_error *err);
void qn_replay_deinit(qn_replay *r);
/* Tokens of context that the longest text needs. */
size_t qn_replay_context(const qn_replay *r);
/* Tokens of all measurements. */
uint64_t qn_replay_tokens(const qn_replay *r, size_t repeat);
/* Each answer with guesses and without, in turns. */
quern_status qn_replay_measure(qn_bench *b, qn_replay *r, quern_error *err);

#endif
