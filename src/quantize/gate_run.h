/* gate_run.h - the gate between hashing and naming: every output of a run is read back from under its temporary name and examined.
 */
#ifndef QN_QUANTIZE_GATE_RUN_H
#define QN_QUANTIZE_GATE_RUN_H

#include "base/thread_pool.h"
#include "quantize/job.h"
#include "quantize/report.h"

/* Examines every output, writes its certificate into it, hashes what that changed, and leaves the objects of the manifest in the output. What
 * failed is marked and loses its files, or gets names ending in ".failed". Does nothing under QUERN_GATE_OFF. */
quern_status qn_gate_run(qn_job *job, const quern_quantize_options *opt, qn_pool *pool, qn_report *report, quern_error *err);

#endif
