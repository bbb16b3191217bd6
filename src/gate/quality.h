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
    size_t n_degenerate_source, n_degenerate;
} qn_quality;

/* The source, ready to be compared with. */
typedef struct qn_quality_base {
    quern_model *model;
    quern_engine *engine;
    const char *text;
    size_t text_len;
    char text_sha256[65];
    size_t n_threads, n_ctx, max_chunks;
    bool answered;
    qn_task_result answers;
    bool broken; /* the source itself does not run: what a measurement says is no fault of the output */
} qn_quality_base;

/* How much memory source and output take together when they run; `has` is what the machine has free for them. */
typedef struct qn_quality_memory {
    uint64_t needs, has;
} qn_quality_memory;

/* Whether a text has the two chunks that a measurement needs: QUERN_ERROR_USAGE if not. */
quern_status qn_quality_check_text(const quern_tokenizer *t, size_t n_ctx_train, const char *text, size_t len, quern_error *err);
/* Opens the source. Text: UTF-8, borrowed, and checked as above. */
quern_status qn_quality_base_open(qn_quality_base *b, const char *source, const char *text, size_t len, size_t n_threads, quern_error *err);
void qn_quality_base_close(qn_quality_base *b);
/* Whether both can run here; weights count as bytes of memory, mapped or not. */
quern_status qn_quality_fits(const qn_quality_base *b, const quern_model *own, qn_quality_memory *memory, bool *fits, quern_error *err);
/* Runs both. on_progress: chunks and tasks done and total. Fails with b->broken set where the source is what does not run. */
quern_status qn_quality_measure(qn_quality_base *b, const quern_model *own, quern_progress_callback on_progress, void *user,
                                qn_quality *out, quern_error *err);
/* Says lossy where a limit of the policy is broken, at `bits` a weight. */
quern_status qn_quality_judge(const qn_quality *q, quern_gate_policy policy, double bits, qn_findings *f, quern_error *err);
/* The greatest mean divergence that the policy takes at `bits` a weight. */
double qn_quality_kld_limit(quern_gate_policy policy, double bits);
/* The manifest's object, or null if nothing was measured; NULL when out of memory. */
qn_json *qn_quality_to_json(const qn_quality *q, const qn_quality_base *b);

#endif
