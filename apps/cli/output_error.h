/* output_error.h - the one figure for what quantizing cost the weights of an output.
 */
#ifndef QN_CLI_OUTPUT_ERROR_H
#define QN_CLI_OUTPUT_ERROR_H

#include "base/json.h"

/* Of an output's "tensors" in a manifest: the root mean square, over the elements of all matrices, of their relative RMS errors. 0 if every
 * tensor is exact, NAN without figures. */
double qn_output_error(const qn_json *tensors);

#endif
