/* findings.h - what the gate has to say of one output: reasons to fail it, to call it lossy or to say nothing of its quality, notes, and the
 * tensors under suspicion.
 *
 * Invariant: every sentence names the place and the figure that decided.
 */
#ifndef QN_GATE_FINDINGS_H
#define QN_GATE_FINDINGS_H

#include "base/alloc.h"
#include "base/error.h"
#include "base/json.h"

typedef struct qn_text_list {
    const char **items;
    size_t n, cap;
    size_t n_left_out; /* beyond QN_FINDINGS_MAX: counted, not kept */
} qn_text_list;

enum { QN_FINDINGS_MAX = 64 };

/* What became of the certificate that a file carries. */
typedef enum qn_certificate_state {
    QN_CERTIFICATE_NONE,      /* it carries none */
    QN_CERTIFICATE_UNCHECKED, /* its figures could not be compared: of another text, or nothing was measured */
    QN_CERTIFICATE_ROUGH,     /* another version's: compared with room for other kernels */
    QN_CERTIFICATE_AGREES,
    QN_CERTIFICATE_DIFFERS
} qn_certificate_state;

typedef struct qn_findings {
    qn_arena arena;
    qn_text_list reasons, notes, suspects;
    qn_text_list warnings; /* those of the notes that nobody should have to ask for */
    qn_certificate_state certificate;
    bool failed, lossy;
    bool unmeasured;        /* quality was asked for and could not be measured */
    qn_json *sampled;       /* layers one by one, where the whole was not run; owned */
    size_t n_joint_tensors; /* whose codes were chosen together, so that the test for single codes does not apply */
} qn_findings;

void qn_findings_init(qn_findings *f);
void qn_findings_deinit(qn_findings *f);
/* A reason to fail; tensor (may be NULL) becomes a suspect. */
quern_status qn_findings_fail(qn_findings *f, const char *tensor, quern_error *err, const char *format, ...) QN_PRINTF(4, 5);
/* A reason to call the output lossy. */
quern_status qn_findings_lossy(qn_findings *f, quern_error *err, const char *format, ...) QN_PRINTF(3, 4);
/* A reason why quality, which was asked for, could not be measured: what is sound by then is skipped, and does not pass. */
quern_status qn_findings_unmeasured(qn_findings *f, quern_error *err, const char *format, ...) QN_PRINTF(3, 4);
/* Something that decides nothing. */
quern_status qn_findings_note(qn_findings *f, quern_error *err, const char *format, ...) QN_PRINTF(3, 4);
/* A note that decides nothing either, but that a user is told unasked. */
quern_status qn_findings_warn(qn_findings *f, quern_error *err, const char *format, ...) QN_PRINTF(3, 4);
/* Adds a tensor to the suspects, once. */
quern_status qn_findings_suspect(qn_findings *f, const char *tensor, quern_error *err);
/* An array of a list's sentences, with "and N more" at its end; NULL when out of memory. */
qn_json *qn_text_list_to_json(const qn_text_list *list);

#endif
