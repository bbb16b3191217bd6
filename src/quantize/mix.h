/* mix.h - --target-bpw: a type for each tensor, so that the file has the size asked for and predictions move least.
 */
#ifndef QN_QUANTIZE_MIX_H
#define QN_QUANTIZE_MIX_H

#include "quantize/job.h"
#include "quantize/overrides.h"
#include "quantize/report.h"

/* Fills o->mix for o->target.bits_per_weight. What each tensor costs is measured (sensitivity.h): each matrix alone up to half a billion
 * parameters, else a place in a third of the layers at a time; how the cost of other types compares is taken from their squared errors.
 * Tensors that `overrides` names keep their type and count. QUERN_ERROR_LIMIT if even the smallest types are larger. */
quern_status qn_mix_choose(qn_job *job, qn_output *o, const qn_type_overrides *overrides, qn_report *report, quern_error *err);

#endif
