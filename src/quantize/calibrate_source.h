/* calibrate_source.h - makes a run's calibration as its options ask for: from a text read by the source, from an imatrix file, or none. */
#ifndef QN_QUANTIZE_CALIBRATE_SOURCE_H
#define QN_QUANTIZE_CALIBRATE_SOURCE_H

#include "quantize/job.h"
#include "quantize/report.h"

/* Fills job->calibration. With QUERN_CALIBRATE_AUTO whatever stands in the way is a note, not a failure (except QUERN_ERROR_CANCELLED and
 * QUERN_ERROR_MEMORY). */
quern_status qn_calibrate_source(qn_job *job, const quern_quantize_options *opt, qn_report *report, quern_error *err);

#endif
