/* pipeline.h - the one pass: every tensor is read once, converted for all outputs by all threads, and written while the next rows are
 * converted.
 */
#ifndef QN_QUANTIZE_PIPELINE_H
#define QN_QUANTIZE_PIPELINE_H

#include "base/thread_pool.h"
#include "quantize/job.h"
#include "quantize/hash_list.h"
#include "quantize/journal.h"
#include "quantize/report.h"

/* How the memory bound is spent. */
typedef struct qn_memory_plan {
    size_t n_threads;      /* at most the job's */
    size_t slice_elements; /* of the largest slice */
    size_t thread_bytes;   /* buffers of one thread */
    size_t chunk_bytes;    /* each of two: encoded rows of one step */
    uint64_t least_bytes;  /* with one thread and the smallest chunks */
    uint64_t peak_bytes;   /* all of it, with an allowance for texts and tables */
} qn_memory_plan;

/* QUERN_ERROR_LIMIT names both numbers if not even one thread fits. */
quern_status qn_memory_plan_make(const qn_job *job, qn_memory_plan *out, quern_error *err);

/* Converts the pieces from job->n_continued on and notes in the journal what is complete; files must be open. Beside it hashes advance: of the
 * sources, then, as far as they are written, of the outputs, which stand in the list in the order of the job. Sets the sinks' errors and may
 * add warnings. */
quern_status qn_pipeline_run(qn_job *job, const qn_memory_plan *plan, qn_pool *pool, qn_hash_list *hashes, qn_journal *journal,
                             qn_report *report, quern_error *err);

#endif
