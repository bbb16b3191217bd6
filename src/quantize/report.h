/* report.h - telling the caller of quern_quantize how far it is, and hearing whether it shall stop.
 */
#ifndef QN_QUANTIZE_REPORT_H
#define QN_QUANTIZE_REPORT_H

#include "base/error.h"
#include "quern/quantize.h"

typedef struct qn_report {
    const quern_quantize_options *opt;
    uint64_t begin_ns, reported_ns;
} qn_report;

/* Calls the callback: always if `due`, else at most ten times a second. p->seconds is filled in. QUERN_ERROR_CANCELLED if it says so. */
quern_status qn_report_progress(qn_report *r, quern_quantize_progress *p, bool due, quern_error *err);

#endif
