/* output_files.h - the files of a run from the locked folder to their final names.
 *
 * Invariant: until every file is written, hashed and synced, the manifest among them, no name in the folder changes; then all change
 * together, and if one cannot, none does.
 */
#ifndef QN_QUANTIZE_OUTPUT_FILES_H
#define QN_QUANTIZE_OUTPUT_FILES_H

#include "base/out_file.h"
#include "quantize/hash_list.h"
#include "quantize/job.h"
#include "quantize/journal.h"
#include "quantize/report.h"

typedef struct qn_output_files {
    qn_job *job;
    qn_out_folder **folders; /* the folder itself, then one an output */
    size_t n_folders;
    bool locked; /* the outer folder, with the journal in it, is this run's */
    qn_out_file *manifest;
    qn_journal journal;
} qn_output_files;

/* Refuses outputs that would replace a file of the source, or be written into its folder. */
quern_status qn_output_files_check(const qn_job *job, quern_error *err);
/* Makes the folders, locks the outer one, and begins all files: with what an unfinished run of the same job left, if its journal and the
 * bytes agree (job->n_continued says how far), else empty, after clearing what killed runs left. The report tells which. f->journal is
 * ready. */
quern_status qn_output_files_begin(qn_output_files *f, qn_job *job, bool resume, qn_report *report, quern_error *err);
/* Bytes on the disk that runs which ended left for the job's names: they are used again or cleared before anything is written. */
uint64_t qn_output_files_left_bytes(const qn_job *job);
/* Adds every output to the hashes, in the order of the job. */
quern_status qn_output_files_list(const qn_output_files *f, qn_hash_list *hashes, quern_error *err);
/* After the pass: pads, then hashes what is not hashed yet, and takes over sizes and hashes. */
quern_status qn_output_files_hash(qn_output_files *f, qn_hash_list *hashes, qn_pool *pool, qn_report *report, quern_error *err);
/* Writes the manifest, brings everything to the disk, and gives all files their names. */
quern_status qn_output_files_commit(qn_output_files *f, const char *manifest, size_t len, qn_report *report, quern_error *err);
/* Lets the folder go. Unless everything has its name, the temporary files go, and the folders that this run made; but where the journal notes
 * something and `resumable`, they stay. True if they do. */
bool qn_output_files_end(qn_output_files *f, bool named, bool resumable);

#endif
