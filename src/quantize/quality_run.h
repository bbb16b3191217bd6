/* quality_run.h - the second half of an examination, the same for quantize and verify: what an output loses against the source, which is opened once.
 *
 * Owns the open source. Invariant: what is wrong with the output is a finding of it; a source or a machine that cannot measure is a reason
 * not to let it pass; only memory, input/output, interruption and a source with weights that are not finite are errors.
 */
#ifndef QN_QUANTIZE_QUALITY_RUN_H
#define QN_QUANTIZE_QUALITY_RUN_H

#include "quantize/verify_output.h"

typedef struct qn_quality_run {
    const char *source;
    const char *architecture; /* to read the source as, or NULL */
    const char *text;         /* to predict; NULL = the built-in one */
    size_t text_len;
    quern_gate_policy policy;
    size_t sample_layers, n_threads;
    uint64_t memory_bytes; /* bound of what is not mapped weights; 0 = none */
    qn_quality_base base;
    bool opened;
    char why_not[QUERN_ERROR_MESSAGE_CAP + 32]; /* "" while the source runs */
} qn_quality_run;

/* Whether an error is of what was read, and not of the machine or the user: memory, input/output, interruption and errors of ours go up. */
bool qn_status_is_of_content(quern_status status);
/* Fills in the built-in text. */
void qn_quality_run_init(qn_quality_run *r);
void qn_quality_run_deinit(qn_quality_run *r);
/* Opens the source with the first output. ready false: it does not run, and v has the reason. */
quern_status qn_quality_run_begin(qn_quality_run *r, qn_verified *v, bool *ready, quern_error *err);

/* One output to be measured. */
typedef struct qn_quality_item {
    qn_verified *v;
    quern_model *own;    /* an engine's view of the output; NULL if opening it failed */
    quern_status opened; /* how opening it ended, and why */
    quern_error why;
    qn_quality figures; /* out */
} qn_quality_item;

/* Whether these run beside the source in the memory that there is. Items that could not be opened do not count. */
quern_status qn_quality_run_fits(const qn_quality_run *r, const qn_quality_item *items, size_t n, bool *fits, quern_error *err);
/* Measures and judges outputs beside one run of the source: one, or several that fit together. */
quern_status qn_quality_run_measure(qn_quality_run *r, qn_quality_item *items, size_t n, quern_progress_callback on_progress, void *user,
                                    quern_error *err);

#endif
