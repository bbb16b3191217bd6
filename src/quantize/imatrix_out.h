/* imatrix_out.h - where a run may write the importance matrix that it was asked for. */
#ifndef QN_QUANTIZE_IMATRIX_OUT_H
#define QN_QUANTIZE_IMATRIX_OUT_H

#include "quantize/hash_list.h"
#include "quantize/job.h"

/* Before anything is calibrated: QUERN_ERROR_USAGE where the path is a file of the source or an output's, where it would replace anything but an
 * importance matrix, and where no file can be made (which a dry run does not try). */
quern_status qn_imatrix_out_check(const qn_job *job, const qn_hash_list *sources, const char *path, bool dry_run, quern_error *err);

#endif
