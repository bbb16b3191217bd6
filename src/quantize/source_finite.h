/* source_finite.h - the search for weights of the source that are not finite: when running it gives nothing finite, this says why.
 *
 * Reads every weight, in bounded memory, on the calling thread. Invariant: what is named is the first in the order of the pieces.
 */
#ifndef QN_QUANTIZE_SOURCE_FINITE_H
#define QN_QUANTIZE_SOURCE_FINITE_H

#include "quantize/source.h"

/* Says that row `row` of a part, column `column`, holds a value that is not finite: QUERN_ERROR_INVALID. */
quern_status qn_source_fail_not_finite(const qn_source *s, const qn_piece *p, size_t part, uint64_t row, uint64_t column, quern_error *err);
/* QUERN_ERROR_INVALID names tensor, row and column of the piece's first value that is not finite. */
quern_status qn_source_check_piece(const qn_source *s, const qn_piece *p, quern_error *err);
/* For *why that says that activations or logits of the source are not finite: adds that all weights are, QUERN_OK; or replaces it by the first
 * weight that is not, QUERN_ERROR_INVALID. */
quern_status qn_source_explain_overflow(const qn_source *s, quern_error *why);

#endif
