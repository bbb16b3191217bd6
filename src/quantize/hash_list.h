/* hash_list.h - SHA-256 of files, a piece at a time, so that it can go on beside other work: of sources while they are converted, and of
 * outputs while they are written.
 *
 * Files are read, not mapped: one that becomes shorter meanwhile is an error.
 */
#ifndef QN_QUANTIZE_HASH_LIST_H
#define QN_QUANTIZE_HASH_LIST_H

#include "base/fs.h"
#include "base/sha256.h"
#include "base/thread_pool.h"

typedef struct qn_hashed_file {
    char *path;         /* where it is read; a file that is being written has its temporary name */
    char *relative;     /* as the manifest names it */
    uint64_t bytes;     /* of a source when it is opened; of an output once it is complete */
    uint64_t available; /* may be hashed: everything of a source; what has been written of an output */
    bool complete;      /* available is all of it */
    char hex[65];       /* "" until finished */
    /* while it is hashed */
    int fd;
    uint8_t *buffer;
    qn_sha256 *state;
    uint64_t position;
    quern_status status; /* of what failed, with its message */
    quern_error err;
} qn_hashed_file;

typedef struct qn_hash_list {
    qn_hashed_file *files; /* sources first */
    size_t n, n_sources, cap;
} qn_hash_list;

void qn_hash_list_init(qn_hash_list *h);
void qn_hash_list_deinit(qn_hash_list *h);
/* A source: a file that is there. All of them come before the first output. */
quern_status qn_hash_list_add(qn_hash_list *h, const char *path, const char *relative, quern_error *err);
/* An output that is being written: nothing is available yet. */
quern_status qn_hash_list_add_growing(qn_hash_list *h, const char *path, const char *relative, quern_error *err);

bool qn_hashed_file_finished(const qn_hashed_file *f); /* done or failed */
/* Bytes that could be hashed now. */
uint64_t qn_hashed_file_pending(const qn_hashed_file *f);
/* Hashes up to max_bytes more of what is available. Different files may advance on different threads; errors stay in the file. */
void qn_hashed_file_advance(qn_hashed_file *f, uint64_t max_bytes);
/* Hashes some more of every file on all threads of the pool; *done once all are finished. The first failure is returned. */
quern_status qn_hash_list_advance(qn_hash_list *h, qn_pool *pool, bool *done, quern_error *err);

#endif
