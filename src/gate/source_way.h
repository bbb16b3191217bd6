/* source_way.h - which 16-bit float the weights went through before they were quantized.
 *
 * Converters write F16 or BF16 first and quantize that, so an output of float32 weights may be exact work on other numbers than the source's. One answer
 * holds for the whole output, from a sample over its tensors: a fault in one of them cannot choose what it is compared with.
 */
#ifndef QN_GATE_SOURCE_WAY_H
#define QN_GATE_SOURCE_WAY_H

#include "base/error.h"
#include "base/thread_pool.h"
#include "gate/tensor_check.h"

/* *way: F16 or BF16 if the weights rounded to that explain the output, and as they are they do not; else F32. Looks at up to 48 tensors, and of each at
 * eight places of about 4,096 values. */
quern_status qn_source_way_find(const qn_checked_tensor *all, size_t n_all, qn_pool *pool, qn_dtype *way, quern_error *err);

#endif
