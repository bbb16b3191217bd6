/* mlx_config.h - config.json of an MLX folder, and what mlx-lm does not compute of it.
 */
#ifndef QN_QUANTIZE_MLX_CONFIG_H
#define QN_QUANTIZE_MLX_CONFIG_H

#include "quantize/job.h"

/* The source's config.json with the quantization, and with every key said outright on which mlx-lm's reading differs from transformers'. */
quern_status qn_mlx_make_config(const qn_job *job, const qn_output *o, qn_buf *out, quern_error *err);
/* Warnings for what Quern reads from the folder, but mlx-lm refuses or computes otherwise. */
quern_status qn_mlx_warn(qn_job *job, qn_output *o, quern_error *err);

#endif
