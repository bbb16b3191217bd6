/* quality_run.h - the second half of an examination, the same for quantize and verify: what an output loses against the source, which is opened once.
 *
 * Owns the open source. Invariant: what is wrong with the output is a finding of it; a source or a machine that cannot measure is a note; only
 * memory, input/output and interruption are errors.
 */
#ifndef QN_QUANTIZE_QUALITY_RUN_H
#define QN_QUANTIZE_QUALITY_RUN_H

#include "quantize/verify_output.h"

typedef struct qn_quality_run {
    const char *source;
    const char *text; /* to predict; NULL = the built-in one */
    size_t text_len;
    quern_gate_policy policy;
    size_t sample_layers, n_threads;
    qn_quality_base base;
    bool opened;
    char why_not[QUERN_ERROR_MESSAGE_CAP + 32]; /* "" while the source runs */
} qn_quality_run;

/* Whether an error is of what was read, and not of the machine or the user: memory, input/output, interruption and errors of ours go up. */
bool qn_status_is_of_content(quern_status status);
/* Fills in the built-in text. */
void qn_quality_run_init(qn_quality_run *r);
void qn_quality_run_deinit(qn_quality_run *r);
/* Opens the source with the first output. ready false: it does not run, and v has a note. */
quern_status qn_quality_run_begin(qn_quality_run *r, qn_verified *v, bool *ready, quern_error *err);
/* Measures and judges one output. opened: how opening `own` (an engine's view of the output, NULL then) ended, `why` its error. */
quern_status qn_quality_run_measure(qn_quality_run *r, qn_verified *v, const quern_model *own, quern_status opened, quern_error *why,
                                    quern_progress_callback on_progress, void *user, qn_quality *q, quern_error *err);

#endif
