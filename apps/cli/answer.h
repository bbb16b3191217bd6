/* answer.h - one answer of a model: streamed, stoppable by Ctrl-C, with its numbers; shared by run and chat.
 *
 * Invariant: what is on stdout when an answer was stopped is a prefix of what it would have been.
 */
#ifndef QN_CLI_ANSWER_H
#define QN_CLI_ANSWER_H

#include "cli.h"
#include "memory_use.h"
#include "quern/engine.h"

typedef struct qn_answer_request {
    quern_engine *engine;
    quern_sequence *sequence;
    const int32_t *ids; /* what is appended to the sequence first */
    size_t n_ids;
    const quern_sampling *sampling;
    bool stream; /* write the text on stdout as it comes */
} qn_answer_request;

/* Generates with -n, --stop, --ignore-eos. Ctrl-C gives QUERN_OK with QUERN_FINISH_CANCELLED and what there was.
 * Free `out` with quern_generation_deinit. */
quern_status qn_answer(qn_cli *cli, const qn_answer_request *request, quern_generation *out, quern_error *err);

/* Tokens per second, NaN where nothing was measured. */
double qn_answer_prefill_rate(const quern_generation *g);
double qn_answer_decode_rate(const quern_generation *g);
/* "128 tokens, 512 tok/s (prompt 20 tokens, 2,100 tok/s, first token after 12 ms)" */
void qn_answer_describe(const quern_generation *g, qn_buf *out);
/* The member "timings" of the JSON documents. load_s < 0: left out. */
qn_json *qn_answer_timings(const quern_generation *g, double load_s, bool *ok);
/* The member "memory": the engine's plan, and what was measured around opening the model: "tokenizer" is what that took beside the
 * weights (vocabulary, merges, settings, norms), "other" is the program itself before. */
qn_json *qn_answer_memory(const quern_engine *engine, const qn_memory_marks *marks, bool *ok);

#endif
