/* verify_report.h - an examined output as the manifest's objects.
 */
#ifndef QN_QUANTIZE_VERIFY_REPORT_H
#define QN_QUANTIZE_VERIFY_REPORT_H

#include "base/json.h"
#include "quantize/verify_output.h"

/* {"policy","verdict","reasons","suspect_tensors","notes","warnings"}; policy "sample:LAYERS" where that was asked for; verdict from the findings,
 * "skipped" where quality was not asked for and integrity found nothing. "certificate" for a file that carries one: "agrees", "agrees roughly",
 * "not checked", "differs". NULL when out of memory. */
qn_json *qn_gate_to_json(quern_gate_policy policy, size_t sample_layers, const qn_findings *f);
/* "fail", "lossy", "pass", or "skipped": quality was not asked for, or could not be measured. */
const char *qn_verdict_name(const qn_findings *f, quern_gate_policy policy);
/* One object of outputs[]; `quality` (taken, may be null) is its member. */
quern_status qn_verified_to_json(qn_verified *v, quern_gate_policy policy, size_t sample_layers, qn_json *quality, qn_json **out,
                                 quern_error *err);

#endif
