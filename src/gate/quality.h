/* quality.h - what an output lost: source and output side by side on a text, and on some Python tasks.
 *
 * Owns the source's engine for the time of a run, the figures and the limits of the policies; the definitions of perplexity and divergence are
 * quern/measure.h's. Figures are of the weights: float32 activations, float32 keys and values.
 */
#ifndef QN_GATE_QUALITY_H
#define QN_GATE_QUALITY_H

#include "base/json.h"
#include "gate/findings.h"
#include "gate/tasks.h"
#include "quern/measure.h"
#include "quern/verify.h"

typedef struct qn_quality {
    bool measured;
    size_t n_ctx, n_chunks, n_tokens; /* tokens scored */
    double ppl_source, ppl, ppl_ratio, ppl_ratio_error;
    double kld_mean, kld_p99, kld_max, top1_agreement;
    size_t n_tasks;
    double syntax_valid_source, syntax_valid; /* shares; NAN without python3 */
    size_t n_crashed_source, n_crashed;       /* of those that do not parse: python3 itself crashed on them */
    size_t n_degenerate_source, n_degenerate;
    bool ran; /* as_run was measured */
    struct {
        double ppl, ppl_ratio, kld_mean, kld_p99, kld_max, top1_agreement;
    } as_run; /* by Quern's own arithmetic: int8 activations, float16 keys and values; the source as above */
    bool has_plain;
    struct {
        double ppl_ratio, kld_mean, top1_agreement;
    } plain; /* the source, plainly encoded in the output's types; only for what is lossy */
} qn_quality;

/* An output on its way through a measurement. */
typedef struct qn_quality_subject {
    const quern_model *own;
    quern_status status; /* of this output alone: what keeps it from running; `why` has the words */
    quern_error why;
    qn_quality figures;
} qn_quality_subject;

/* The source, ready to be compared with. */
typedef struct qn_quality_base {
    quern_model *model;
    quern_engine *engine;
    const char *text;
    size_t text_len;
    char text_sha256[65];
    size_t n_threads, n_ctx, max_chunks;
    uint64_t memory_bytes; /* bound of what is not mapped weights; 0 = none. Set after opening. */
    bool answered;
    qn_task_result answers;
    bool broken; /* the source itself does not run: what a measurement says is no fault of the output */
} qn_quality_base;

/* How much memory source and outputs take together when they run, and what the machine has free for them; `working` is the part of it that is
 * not mapped weights. */
typedef struct qn_quality_memory {
    uint64_t needs, has, working;
} qn_quality_memory;

/* Whether a text has the two chunks that a measurement needs: QUERN_ERROR_USAGE if not. */
quern_status qn_quality_check_text(const quern_tokenizer *t, size_t n_ctx_train, const char *text, size_t len, quern_error *err);
/* Opens the source, as the architecture `as` (NULL = as it says). Text: UTF-8, borrowed, and checked as above. */
quern_status qn_quality_base_open(qn_quality_base *b, const char *source, const char *as, const char *text, size_t len, size_t n_threads,
                                  quern_error *err);
void qn_quality_base_close(qn_quality_base *b);
/* How figures of the weights are measured, in a context of n_ctx tokens. */
quern_engine_options qn_quality_engine_options(const qn_quality_base *b, size_t n_ctx);
/* Memory for measuring n outputs at once beside the source; weights count as bytes of memory, mapped or not. */
quern_status qn_quality_memory_of(const qn_quality_base *b, const qn_quality_subject *subjects, size_t n, qn_quality_memory *memory,
                                  quern_error *err);
/* Runs the source once and n outputs beside it. on_progress: chunks and tasks done and total. Fails as a whole only for the source (b->broken is
 * set then), the machine or the user. */
quern_status qn_quality_measure(qn_quality_base *b, qn_quality_subject *subjects, size_t n, quern_progress_callback on_progress, void *user,
                                quern_error *err);
/* For a lossy output: measures its plain encoding. No figures where there is no memory for it, or where it does not run. */
quern_status qn_quality_measure_plain(qn_quality_base *b, const quern_model *own, quern_progress_callback on_progress, void *user,
                                      qn_quality *q, quern_error *err);
/* Says lossy where a limit of the policy is broken, at `bits` a weight. */
quern_status qn_quality_judge(const qn_quality *q, quern_gate_policy policy, double bits, qn_findings *f, quern_error *err);
/* Says whether a loss is the types' own, by the plain encoding's figures, where they were measured: a note, or one more reason. */
quern_status qn_quality_judge_plain(const qn_quality *q, qn_findings *f, quern_error *err);
/* The greatest error of what one layer adds to the hidden states (sample.h) that the policy takes at `bits` a weight. */
double qn_quality_block_limit(quern_gate_policy policy, double bits);
/* The manifest's object, or null if nothing was measured; NULL when out of memory. */
qn_json *qn_quality_to_json(const qn_quality *q, const qn_quality_base *b);

#endif
