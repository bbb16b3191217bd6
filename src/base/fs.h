/* fs.h - files: mapping, reading whole small ones, and writing so that a final name never holds half a file. */
#ifndef QN_BASE_FS_H
#define QN_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"

/* A file's bytes: mapped read-only (private), or read into memory. data is NULL for an empty file. */
typedef struct qn_mapping {
    const uint8_t *data;
    size_t size;
    bool in_memory; /* read, not mapped */
} qn_mapping;

quern_status qn_mapping_open(qn_mapping *out, const char *path, quern_error *err);
/* The same into memory aligned to 64 bytes. Such a copy does not change when the file does. */
quern_status qn_mapping_read(qn_mapping *out, const char *path, quern_error *err);
void qn_mapping_close(qn_mapping *m);
/* For a span inside a file that qn_mapping_open mapped and that is done with: its pages leave this process's memory. They come back from
 * the file when they are read again. */
void qn_mapped_span_release(const void *data, size_t size);

/* Reads a whole file of at most max_bytes; NUL-terminated, free with qn_free. */
quern_status qn_file_read(char **out, size_t *size, const char *path, size_t max_bytes, quern_error *err);
bool qn_path_exists(const char *path);
bool qn_path_is_directory(const char *path);
bool qn_path_is_file(const char *path);
/* "dir/name" in new memory, or NULL. */
char *qn_path_join(const char *dir, const char *name);
/* The part after the last '/', borrowed from path. */
const char *qn_path_base(const char *path);
/* True if `name` is one plain component: not empty, no '/', no NUL, not "." or "..", at most 255 bytes. */
bool qn_path_is_plain_name(const char *name, size_t len);
/* "dir/relative" in new memory (free with qn_free) for a path that an untrusted file names: only plain components, and what it
 * leads to, links followed, must exist and lie inside dir. */
quern_status qn_path_join_inside(char **out, const char *dir, const char *relative, quern_error *err);
/* Creates the folder and its parents. */
quern_status qn_dir_create(const char *path, quern_error *err);
/* Bytes free for this user on the file system that holds `path`. */
quern_status qn_disk_free(const char *path, uint64_t *bytes, quern_error *err);

/* An output file under a temporary name beside its final one.
 * commit: flush, fsync, rename, fsync the folder. close without commit removes the temporary file. */
typedef struct qn_out_file qn_out_file;
quern_status qn_out_file_create(qn_out_file **out, const char *final_path, quern_error *err);
quern_status qn_out_file_write(qn_out_file *f, const void *data, size_t size, quern_error *err);
/* Writes at an absolute offset (for headers that are known last); does not move the append position. */
quern_status qn_out_file_write_at(qn_out_file *f, uint64_t offset, const void *data, size_t size, quern_error *err);
uint64_t qn_out_file_position(const qn_out_file *f);
quern_status qn_out_file_commit(qn_out_file *f, quern_error *err);
void qn_out_file_close(qn_out_file *f); /* after commit or instead of it; NULL is fine */
/* Removes the temporary names of all open output files; async-signal-safe, for a program that must die now. */
void qn_out_file_remove_all_temporary(void);

#endif
