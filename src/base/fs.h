/* fs.h - files: mapping, reading, and what a path leads to. Writing is in out_file.h. */
#ifndef QN_BASE_FS_H
#define QN_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/alloc.h"
#include "base/error.h"

/* What it took to bring bytes of files into memory. */
typedef struct qn_read_cost {
    uint64_t bytes, cold_bytes; /* cold: of them, not in the page cache before; an estimate from samples */
    double seconds;
} qn_read_cost;

/* A file's bytes: mapped read-only (private), or read into memory. data is NULL for an empty file. */
typedef struct qn_mapping {
    const uint8_t *data;
    size_t size;
    bool in_memory;   /* read, not mapped */
    bool pages_known; /* mapped, and the system tells this user which of its pages are in the page cache: its owner, and who may write it */
    qn_read_cost cost; /* of what was read */
} qn_mapping;

quern_status qn_mapping_open(qn_mapping *out, const char *path, quern_error *err);
/* The same into memory aligned to a page (qn_malloc_pages), read by several threads. Such a copy does not change when the file does. */
quern_status qn_mapping_read(qn_mapping *out, const char *path, quern_error *err);
void qn_mapping_close(qn_mapping *m);
/* Asks for the pages of the first `size` bytes of a mapped file (as many as there are) and no others, since a header is about to be looked at:
 * qn_pages_fetch. */
void qn_mapping_fetch_first(const qn_mapping *m, size_t size);
/* For a span inside a file that qn_mapping_open mapped and that is done with: its pages leave this process's memory. They come back from
 * the file when they are read again. */
void qn_mapped_span_release(const void *data, size_t size);

/* A regular file for reading in pieces; anything else is QUERN_ERROR_INVALID and never waited for. Close with close(). */
quern_status qn_file_open(int *fd, uint64_t *size, const char *path, quern_error *err);
/* Exactly `size` bytes at `offset`; QUERN_ERROR_IO if the file ends before. */
quern_status qn_file_read_at(int fd, const char *path, uint64_t offset, void *data, size_t size, quern_error *err);
/* Reads a whole file of at most max_bytes; NUL-terminated, free with qn_free. */
quern_status qn_file_read(char **out, size_t *size, const char *path, size_t max_bytes, quern_error *err);
/* dir/name if there is such a file, else *out = NULL and *size = 0; a thing of that name that is no file is QUERN_ERROR_INVALID. */
quern_status qn_file_read_member(char **out, size_t *size, const char *dir, const char *name, size_t max_bytes, quern_error *err);
bool qn_path_exists(const char *path);
bool qn_path_is_directory(const char *path);
bool qn_path_is_file(const char *path);
/* What the path leads to, for a message: "a regular file", "a folder", "a FIFO", "a device", "a socket", "a link that leads nowhere",
 * "missing". */
const char *qn_path_kind(const char *path);
/* Whether there is a regular file; anything else of that name (a folder, a FIFO, a link that leads nowhere) is QUERN_ERROR_INVALID. */
quern_status qn_file_find(const char *path, bool *there, quern_error *err);
/* "dir/name" in new memory, or NULL. */
char *qn_path_join(const char *dir, const char *name);
/* The part after the last '/', borrowed from path. */
const char *qn_path_base(const char *path);
/* Where the path's last part stands, in new memory ("." where the path does not say), or NULL. */
char *qn_path_folder(const char *path);
/* Whether both lead to one file or folder, links followed and whatever the names. */
bool qn_path_is_same(const char *a, const char *b);
/* True if `name` is one plain component: not empty, no '/', no NUL, not "." or "..", at most 255 bytes. */
bool qn_path_is_plain_name(const char *name, size_t len);
/* "dir/relative" in new memory (free with qn_free) for a path that an untrusted file names: only plain components, and what it
 * leads to, links followed, must exist and lie inside dir. */
quern_status qn_path_join_inside(char **out, const char *dir, const char *relative, quern_error *err);
/* Names of what is in a folder, hidden entries left out, in the order of their bytes: *names and the texts live in the arena. None where there is no
 * such folder; QUERN_ERROR_IO where there is one that cannot be listed, QUERN_ERROR_LIMIT where there are more than `max`. */
quern_status qn_dir_list(const char *dir, size_t max, qn_arena *arena, const char ***names, size_t *n, quern_error *err);
/* Creates the folder and its parents. */
quern_status qn_dir_create(const char *path, quern_error *err);
/* Bytes free for this user on the file system that holds `path`. */
quern_status qn_disk_free(const char *path, uint64_t *bytes, quern_error *err);

#endif
