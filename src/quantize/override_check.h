/* override_check.h - whether "--tensor-type" does what it asks for: an expression without effect is a mistake, and is not passed over in silence.
 */
#ifndef QN_QUANTIZE_OVERRIDE_CHECK_H
#define QN_QUANTIZE_OVERRIDE_CHECK_H

#include "quantize/job.h"
#include "quantize/overrides.h"

/* Before anything is planned: QUERN_ERROR_USAGE for an expression that matches no tensor of the source, and where no target is a GGUF file. */
quern_status qn_type_overrides_check(const qn_type_overrides *o, const qn_source *s, const qn_target *targets, size_t n_targets,
                                     quern_error *err);
/* Of a planned output: warns of expressions that decide nothing, or that tensors cannot follow. */
quern_status qn_type_overrides_warn(qn_job *job, qn_output *output, const qn_type_overrides *o, quern_error *err);

#endif
