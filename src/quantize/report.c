/* report.c - see report.h. */
#include "quantize/report.h"

#include "base/clock.h"

quern_status qn_report_progress(qn_report *r, quern_quantize_progress *p, bool due, quern_error *err)
{
    const uint64_t interval_ns = 100000000u;
    uint64_t now = qn_clock_ns();
    if (r->opt->on_progress == NULL || (!due && now - r->reported_ns < interval_ns)) {
        return QUERN_OK;
    }
    r->reported_ns = now;
    p->seconds = qn_clock_seconds(r->begin_ns, now);
    return r->opt->on_progress(r->opt->user, p) ? QUERN_OK : qn_error_set(err, QUERN_ERROR_CANCELLED, "interrupted");
}
