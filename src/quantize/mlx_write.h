/* mlx_write.h - a Hugging Face checkpoint as an MLX folder: packed weights, config.json with the quantization, tokenizer files.
 */
#ifndef QN_QUANTIZE_MLX_WRITE_H
#define QN_QUANTIZE_MLX_WRITE_H

#include "quantize/job.h"

/* Fills the sinks and files of an MLX output; weights are cut into shards above job->shard_bytes. */
quern_status qn_mlx_plan(qn_job *job, qn_output *o, quern_error *err);
/* Creates the weight files, and writes config.json, the index and the tokenizer files (under temporary names). */
quern_status qn_mlx_begin(qn_job *job, qn_output *o, quern_error *err);
/* Begins a text file under its temporary name and writes it. */
quern_status qn_mlx_write_text(qn_output_file *file, const void *data, size_t size, quern_error *err);
/* Files of a checkpoint that are copied to an MLX folder where they exist, by number; NULL behind the last. */
const char *qn_mlx_copied_file(size_t i);
/* After commit: removes weight files of an earlier run from the folder, which readers would load beside the new ones. */
void qn_mlx_remove_stale(const qn_job *job, const qn_output *o);

#endif
