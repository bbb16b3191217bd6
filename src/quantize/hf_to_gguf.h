/* hf_to_gguf.h - a Hugging Face checkpoint as a GGUF file: names, types, row order, metadata, and what GGUF cannot say.
 */
#ifndef QN_QUANTIZE_HF_TO_GGUF_H
#define QN_QUANTIZE_HF_TO_GGUF_H

#include "quantize/job.h"
#include "quantize/overrides.h"

/* Fills the sinks, the file and the warnings of a GGUF output; refuses models that GGUF cannot express (QUERN_ERROR_UNSUPPORTED). */
quern_status qn_gguf_plan(qn_job *job, qn_output *o, const qn_type_overrides *overrides, quern_error *err);
/* Creates the file with its metadata, declares the tensors and writes those that are computed and not converted. */
quern_status qn_gguf_begin(qn_job *job, qn_output *o, quern_error *err);

/* Whether GGUF has the rows of a part interleaved within heads: q and k of families that it rotates by neighbours. */
bool qn_gguf_reorders(const qn_model_config *c, qn_part part);

/* rope_freqs.weight for llama3's scaling: n_rot / 2 divisors. */
void qn_rope_fill_divisors(const qn_rope_config *rope, float *out);

/* The keys (gguf_metadata.c). */
quern_status qn_gguf_put_metadata(const qn_job *job, const qn_output *o, qn_gguf_writer *w, quern_error *err);

#endif
