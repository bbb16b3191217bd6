/* manifest.h - manifest.json (schema quern.manifest/1) and the plan that a dry run prints.
 */
#ifndef QN_QUANTIZE_MANIFEST_H
#define QN_QUANTIZE_MANIFEST_H

#include "base/buf.h"
#include "quantize/earlier_outputs.h"
#include "quantize/hash_list.h"
#include "quantize/job.h"
#include "quantize/pipeline.h"

/* Everything is measured and hashed. */
quern_status qn_manifest_write(const qn_job *job, const qn_hash_list *hashes, const qn_earlier_outputs *earlier, qn_buf *out,
                               quern_error *err);
/* Schema quern.quantize_plan/1: sizes, bits per weight, memory, disk. needed_bytes counts what is written beside the outputs, too. */
quern_status qn_plan_write(const qn_job *job, const qn_memory_plan *memory, uint64_t needed_bytes, uint64_t disk_free_bytes, qn_buf *out,
                           quern_error *err);
/* Bits a weight of an output's tensors. */
double qn_output_bits_per_weight(const qn_job *job, const qn_output *o);

#endif
