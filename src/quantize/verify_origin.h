/* verify_origin.h - how an output was calibrated, as far as its tensors show it and the manifest beside it says it.
 *
 * Owns the sentence that tells the user which calibration to name where the one that was tried made none of the tensors. Nothing is judged by it:
 * the manifest is another's word.
 */
#ifndef QN_QUANTIZE_VERIFY_ORIGIN_H
#define QN_QUANTIZE_VERIFY_ORIGIN_H

#include "quantize/verify_output.h"

/* Fills v->origin, after qn_verified_check. c: what tensors were compared with. */
quern_status qn_verified_find_origin(qn_verified *v, const qn_calibrated *c, quern_error *err);

#endif
