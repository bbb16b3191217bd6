/* out_file.h - writing files so that a final name never holds half a file, and so that nothing is left when a run ends early.
 *
 * A file is written as "NAME.PID.part" beside its final name and gets that name by rename. While it is written it is locked (flock), so that
 * what a killed run left behind can be told from what another one is writing.
 * Owns the list of open temporary files and new folders for a signal handler. Does not install one.
 */
#ifndef QN_BASE_OUT_FILE_H
#define QN_BASE_OUT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

typedef struct qn_out_file qn_out_file;
/* Removes the temporary files that killed runs left for this name. A final name that exists and is not a regular file (a device, a folder)
 * is QUERN_ERROR_IO: it would be replaced. */
quern_status qn_out_file_create(qn_out_file **out, const char *final_path, quern_error *err);
/* Makes the temporary file and takes it away again: whether the path that `option` names can be written, asked before the work is done. If not,
 * QUERN_ERROR_USAGE (or QUERN_ERROR_MEMORY). */
quern_status qn_out_file_probe(const char *final_path, const char *option, quern_error *err);
/* Goes on with the one temporary file that a run which ended left for this name: it is locked, and belongs to this process from now on.
 * *out is NULL if there is none, more than one, or one that is still being written. */
quern_status qn_out_file_adopt(qn_out_file **out, const char *final_path, quern_error *err);
/* Whether close leaves the temporary file where it is, for a later run to adopt; such a file is not removed by qn_out_files_abandon_all
 * either. */
void qn_out_file_keep(qn_out_file *f, bool keep);
/* Appends from `position` on; the file then has `size` bytes, whatever they are. */
quern_status qn_out_file_rewind(qn_out_file *f, uint64_t position, uint64_t size, quern_error *err);
/* What was written at `offset`, which must be in the file (flush). */
quern_status qn_out_file_read_at(const qn_out_file *f, uint64_t offset, void *data, size_t size, quern_error *err);
/* Gives the file another final name in the same folder; the temporary name stays. */
quern_status qn_out_file_rename(qn_out_file *f, const char *final_path, quern_error *err);
quern_status qn_out_file_write(qn_out_file *f, const void *data, size_t size, quern_error *err);
/* Writes at an absolute offset (for headers that are known last); does not move the append position. */
quern_status qn_out_file_write_at(qn_out_file *f, uint64_t offset, const void *data, size_t size, quern_error *err);
/* Where the next append goes. */
uint64_t qn_out_file_position(const qn_out_file *f);
/* What is appended from here on to the position still waits in memory. */
uint64_t qn_out_file_flushed(const qn_out_file *f);
quern_status qn_out_file_flush(qn_out_file *f, quern_error *err);
/* flush and fsync, still under the temporary name. */
quern_status qn_out_file_sync(qn_out_file *f, quern_error *err);
/* Brings what was flushed to the disk while another thread goes on writing; changes nothing of f. Where it fails, qn_out_file_fail must
 * follow once the two threads have met: the system tells of a loss only once. */
quern_status qn_out_file_sync_beside(const qn_out_file *f, quern_error *err);
/* Bytes may be missing from the file: it is never synced or named from here on. */
void qn_out_file_fail(qn_out_file *f);
const char *qn_out_file_temporary_path(const qn_out_file *f);
/* sync, rename, fsync the folder. */
quern_status qn_out_file_commit(qn_out_file *f, quern_error *err);
/* The same for files that belong together: all get their names in order, or, if one cannot, every name is as it was before. The last one
 * should be the file that describes the others. */
quern_status qn_out_files_commit(qn_out_file *const *files, size_t n, quern_error *err);
/* After commit or instead of it (which removes the temporary file); NULL is fine. */
void qn_out_file_close(qn_out_file *f);

/* Removes temporary files in `dir` that killed runs left; those for `base` only if it is not NULL, else those whose final name `wanted`
 * accepts. Files set aside by a commit that was killed get their name back if `restore`, else they go. */
void qn_out_files_remove_stale(const char *dir, const char *base, bool (*wanted)(const char *name), bool restore);
/* Whether a killed run left a temporary file for dir/base. */
bool qn_out_files_find_stale(const char *dir, const char *base);
/* Bytes on the disk of the temporary files that runs which ended left for a name. */
uint64_t qn_out_files_stale_bytes(const char *final_path);
/* Makes the names of new files in the folder of `path` durable; a file system that cannot is no failure. */
void qn_out_file_sync_folder(const char *path);

/* A folder and its parents, of which it knows those that it made. close removes these again (where they are empty) unless kept. */
typedef struct qn_out_folder qn_out_folder;
quern_status qn_out_folder_create(qn_out_folder **out, const char *path, quern_error *err);
void qn_out_folder_close(qn_out_folder *f, bool keep);
/* Holds the folder for one writer until close; QUERN_ERROR_IO if another one has it. A file system without locks lets all pass. */
quern_status qn_out_folder_lock(qn_out_folder *f, quern_error *err);

/* For a program that must end now; async-signal-safe. Removes all temporary files and new empty folders, after which no file gets its final
 * name any more. Returns false and does nothing while files are being named, which takes milliseconds: the program then goes on. */
bool qn_out_files_abandon_all(void);

#endif
