/* quern/engine.h - running a model: an engine owns threads and the KV cache, a sequence is one timeline in it.
 *
 * One call, quern_engine_step, runs rows of any number of sequences at once; quern_generate is the loop around it that
 * most callers want. The bits of an output do not depend on batch, chunk size, thread count or instruction set.
 * An engine is used from one thread at a time; several engines may share a model.
 */
#ifndef QUERN_ENGINE_H
#define QUERN_ENGINE_H

#include "quern/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_engine quern_engine;
typedef struct quern_sequence quern_sequence;

/* Type of cached keys and values. Q8_0: 8-bit codes with a float16 scale for every 32 dimensions of a head, 8.5 bits an element; the head
 * size must be a multiple of 32. */
typedef enum quern_kv_type { QUERN_KV_F16, QUERN_KV_F32, QUERN_KV_Q8_0 } quern_kv_type;
typedef enum quern_arithmetic {
    QUERN_ARITHMETIC_AS_RUN,         /* int8 activations for quantized weights: how the model is served */
    QUERN_ARITHMETIC_F32_ACTIVATIONS /* weights decoded to float32, activations float32: measures the weights alone */
} quern_arithmetic;

typedef struct quern_engine_options {
    size_t n_threads;         /* 0 = all this process may use */
    const char *isa;          /* NULL = QUERN_ISA from the environment, else the best; an ISA the machine lacks fails */
    size_t n_ctx;             /* tokens of KV cache for all sequences together; 0 = the model's own, at most 8192 */
    size_t n_batch;           /* most rows in one step; longer prompts are cut into chunks; 0 = 512 */
    quern_kv_type kv_type;
    quern_arithmetic arithmetic;
} quern_engine_options;

/* Memory an engine needs, in bytes, before anything is allocated. */
typedef struct quern_engine_plan {
    uint64_t weights_mapped;
    uint64_t kv;
    uint64_t kv_per_token;
    uint64_t activations;
    uint64_t total;
} quern_engine_plan;

/* Adds up what every module of an engine with these options would allocate. Fails as quern_engine_create would for bad options. */
QUERN_API quern_status quern_engine_make_plan(const quern_model *m, const quern_engine_options *opt, quern_engine_plan *out, quern_error *err);
/* opt may be NULL (defaults). The model must outlive the engine; quern_engine_destroy accepts NULL. Sequences that are still
 * alive then can only be destroyed. */
QUERN_API quern_status quern_engine_create(quern_engine **out, const quern_model *m, const quern_engine_options *opt, quern_error *err);
QUERN_API void quern_engine_destroy(quern_engine *e);

typedef struct quern_engine_info {
    const char *isa;      /* the chosen instruction set */
    size_t n_threads, n_ctx, n_batch;
    quern_kv_type kv_type;
    quern_engine_plan plan;
} quern_engine_info;
/* Valid until the engine is destroyed. */
QUERN_API const quern_engine_info *quern_engine_get_info(const quern_engine *e);

/* What rows of a sequence cannot be computed without, however it is done: with a machine's rates it gives a limit of their time (roofline: Williams,
 * Waterman, Patterson 2009). */
typedef struct quern_work {
    double weight_bytes;   /* of matrices, each read once; of experts those that one row needs */
    double kv_bytes;       /* keys and values of the positions that any of the rows looks on, each read once */
    double integer_macs;   /* multiply-adds with quantized weights, in integers */
    double float_macs;     /* with float weights, in float32 */
    double attention_macs; /* of queries with keys, and of attention weights with values, in float32 */
} quern_work;
/* Of n_rows tokens behind `depth` others, with logits of the last n_logits of them: other rows end with the last layer's keys and values. Nothing of no
 * rows; n_logits beyond n_rows counts as n_rows. */
QUERN_API quern_work quern_engine_get_work(const quern_engine *e, uint64_t depth, uint64_t n_rows, uint64_t n_logits);
/* Of one token with logits: the average of n_tokens >= 1 that come one by one behind `depth` others (of 256 of them, if they are more). */
QUERN_API quern_work quern_engine_get_decode_work(const quern_engine *e, uint64_t depth, uint64_t n_tokens);

/* An empty sequence: position 0, no pages. The engine must outlive it. */
QUERN_API quern_status quern_sequence_create(quern_sequence **out, quern_engine *e, quern_error *err);
/* A copy that shares all pages until one of the two writes (copy-on-write). */
QUERN_API quern_status quern_sequence_fork(quern_sequence **out, const quern_sequence *s, quern_error *err);
/* Gives the pages back that no other sequence shares. NULL is fine. */
QUERN_API void quern_sequence_destroy(quern_sequence *s);
QUERN_API size_t quern_sequence_n_tokens(const quern_sequence *s);
/* Forgets everything from position n on. */
QUERN_API quern_status quern_sequence_truncate(quern_sequence *s, size_t n, quern_error *err);

/* Rows of one sequence in a step. */
typedef struct quern_step_item {
    quern_sequence *sequence;
    const int32_t *ids;
    size_t n_ids;
    size_t n_logits;  /* for how many of the last rows logits are wanted: 0, 1 .. n_ids */
    float *logits;    /* (n_logits, n_vocab), caller's memory; items whose memory is adjacent in item order are computed together */
} quern_step_item;

/* Appends ids to their sequences and computes the wanted logits. The total number of rows is at most n_batch.
 * A sequence may appear once. On QUERN_ERROR_CONTEXT_FULL nothing has changed; both numbers are in the message. */
QUERN_API quern_status quern_engine_step(quern_engine *e, const quern_step_item *items, size_t n_items, quern_error *err);

typedef enum quern_finish { QUERN_FINISH_STOP, QUERN_FINISH_LENGTH, QUERN_FINISH_TOOL_CALLS, QUERN_FINISH_CANCELLED } quern_finish;
/* "stop", "length", "tool_calls", "cancelled" */
QUERN_API const char *quern_finish_name(quern_finish f);

/* Called with each newly chosen token; text holds bytes that became complete and are certainly not part of a stop
 * string (may be empty). Return false to cancel. Called with id -1 once at the end for text still held back, after a
 * cancel too; what it returns then changes nothing. */
typedef bool (*quern_token_callback)(void *user, int32_t id, const char *text, size_t len);
/* Guessing from the text so far what comes next, so that several tokens come out of one step (n-gram lookup). The answer is the same to the bit;
 * only the time differs. AUTO guesses where the steps measured so far say that it pays. */
typedef enum quern_speculation { QUERN_SPECULATE_AUTO, QUERN_SPECULATE_OFF, QUERN_SPECULATE_ALWAYS } quern_speculation;

typedef struct quern_generate_options {
    size_t max_tokens;               /* 0 = until the context is full */
    quern_sampling sampling;
    const char *const *stop;         /* stop strings */
    size_t n_stop;
    bool ignore_eos;
    quern_speculation speculation;
    const int32_t *forced;           /* max_tokens ids that are said whatever the model says; for measuring. NULL: what it says */
    quern_token_callback on_token;   /* may be NULL */
    quern_progress_callback on_progress; /* after each prefill chunk: tokens done and total; may be NULL */
    void *user;
} quern_generate_options;

typedef struct quern_generation {
    char *text;          /* the answer without the stop string, NUL-terminated */
    size_t len;
    quern_ids ids;       /* every generated token, the one that stopped included */
    quern_finish finish;
    size_t n_prompt_tokens;
    double prefill_seconds, decode_seconds, ttft_seconds;
    size_t n_steps;             /* of decoding */
    size_t n_guessed, n_right;  /* tokens run as guesses, and those of them that were right */
} quern_generation;
/* Frees text and ids and zeroes the struct. */
QUERN_API void quern_generation_deinit(quern_generation *g);

/* Appends the prompt to the sequence and generates. The last chosen token is not yet in the sequence when it returns.
 * A prompt that does not fit is QUERN_ERROR_CONTEXT_FULL before any work; nothing is ever truncated. A context that fills while generating
 * ends with QUERN_FINISH_LENGTH if max_tokens was 0, else QUERN_ERROR_CONTEXT_FULL is returned beforehand (prompt + max_tokens must fit). */
QUERN_API quern_status quern_generate(quern_engine *e, quern_sequence *s, const int32_t *prompt, size_t n_prompt,
                                      const quern_generate_options *opt, quern_generation *out, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
