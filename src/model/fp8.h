/* fp8.h - the scales of Hugging Face's FP8 checkpoints: which tensor scales which weights, and its values as a grid.
 *
 * NAME.weight (F8_E4M3) has NAME.weight_scale_inv, one factor a block of weight_block_size, or NAME.weight_scale (or _inv), one for all.
 * The name notwithstanding, a factor multiplies. NAME.input_scale concerns activations, which Quern does not round.
 */
#ifndef QN_MODEL_FP8_H
#define QN_MODEL_FP8_H

#include "base/alloc.h"
#include "formats/tensor.h"
#include "model/config.h"

/* The grid for `weight` (a matrix) out of `scale`, NULL if its file has none. The values, finite and float32, come from arena. */
quern_status qn_fp8_read_grid(qn_scale_grid *out, qn_arena *arena, const qn_model_config *config, const qn_tensor *weight,
                              const qn_tensor *scale, const char *path, quern_error *err);
/* True for the names of scales, of weights and of activations. */
bool qn_fp8_is_scale_name(const char *name);
/* True for the name of an activation's scale, which carries nothing here. */
bool qn_fp8_is_input_scale_name(const char *name);

#endif
