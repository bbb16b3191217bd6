/* fallback_check.h - tells where much of a model has another type than was asked for, because its rows are no whole blocks. */
#ifndef QN_QUANTIZE_FALLBACK_CHECK_H
#define QN_QUANTIZE_FALLBACK_CHECK_H

#include "quantize/job.h"

/* A warning of a planned output, where that is more than a tenth of the weights. */
quern_status qn_fallbacks_warn(qn_job *job, qn_output *o, quern_error *err);

#endif
