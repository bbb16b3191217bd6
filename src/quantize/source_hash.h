/* source_hash.h - SHA-256 of files, a piece at a time, so that it can go on beside other work.
 */
#ifndef QN_QUANTIZE_SOURCE_HASH_H
#define QN_QUANTIZE_SOURCE_HASH_H

#include "base/error.h"
#include "base/fs.h"
#include "base/sha256.h"
#include "base/thread_pool.h"

typedef struct qn_hashed_file {
    char *path;
    char *relative;      /* as the manifest names it */
    uint64_t bytes;
    char hex[65];        /* "" until finished */
    /* while it is hashed */
    qn_mapping mapping;
    qn_sha256 *state;
    size_t position;
    quern_status status; /* of what failed, with its message */
    quern_error err;
} qn_hashed_file;

typedef struct qn_source_hash {
    qn_hashed_file *files;
    size_t n, cap;
} qn_source_hash;

void qn_source_hash_init(qn_source_hash *h);
void qn_source_hash_deinit(qn_source_hash *h);
quern_status qn_source_hash_add(qn_source_hash *h, const char *path, const char *relative, quern_error *err);

bool qn_hashed_file_finished(const qn_hashed_file *f); /* done or failed */
/* Hashes up to max_bytes more. Different files may advance on different threads; errors stay in the file. */
void qn_hashed_file_advance(qn_hashed_file *f, size_t max_bytes);
/* Finishes all files on all threads of the pool; the first failure is returned. */
quern_status qn_source_hash_finish(qn_source_hash *h, qn_pool *pool, quern_error *err);

#endif
