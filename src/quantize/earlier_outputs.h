/* earlier_outputs.h - what the manifest of an earlier run in the same folder says about outputs that this run does not write.
 *
 * Its entries are kept if they were made from the same source (the same files with the same hashes) and their files are there with the sizes
 * that it gives; of others whose files are there a warning says that they are not described any more.
 */
#ifndef QN_QUANTIZE_EARLIER_OUTPUTS_H
#define QN_QUANTIZE_EARLIER_OUTPUTS_H

#include "base/json.h"
#include "quantize/hash_list.h"
#include "quantize/job.h"

typedef struct qn_earlier_outputs {
    qn_json *kept;     /* array of entries, each with "kept_from": when it was made */
    qn_json *warnings; /* array of sentences */
} qn_earlier_outputs;

quern_status qn_earlier_outputs_init(qn_earlier_outputs *e, quern_error *err);
void qn_earlier_outputs_deinit(qn_earlier_outputs *e);
/* Once the sources are hashed. An earlier manifest that cannot be read is a warning. */
quern_status qn_earlier_outputs_read(qn_earlier_outputs *e, const qn_job *job, const qn_hash_list *hashes, quern_error *err);

#endif
