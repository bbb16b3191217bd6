/* verdict.h - from the figures of a tensor to sentences: what is a fault, what the encoder may do, what happened.
 */
#ifndef QN_GATE_VERDICT_H
#define QN_GATE_VERDICT_H

#include "gate/findings.h"
#include "gate/tensor_check.h"

/* Judges tensor number `index` of `all` (n_all; looked at to tell which of them another one's data are). */
quern_status qn_verdict_tensor(const qn_checked_tensor *all, size_t n_all, size_t index, const qn_tensor_figures *f, qn_findings *findings,
                               quern_error *err);
/* diagnose.c: says in words where the values of a faulty tensor come from ("rows 17 and 18 are swapped"); "" if that is not clear. */
quern_status qn_diagnose(const qn_checked_tensor *all, size_t n_all, size_t index, const qn_tensor_figures *f, char *out, size_t cap,
                         quern_error *err);

#endif
