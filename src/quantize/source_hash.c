/* source_hash.c - hashing files beside other work. See source_hash.h. */
#include "quantize/source_hash.h"

#include <string.h>

#include "base/alloc.h"

void qn_source_hash_init(qn_source_hash *h) { *h = (qn_source_hash){0}; }

static void stop(qn_hashed_file *f)
{
    qn_sha256_abandon(f->state);
    f->state = NULL;
    qn_mapping_close(&f->mapping);
}

void qn_source_hash_deinit(qn_source_hash *h)
{
    for (size_t i = 0; i < h->n; i++) {
        stop(&h->files[i]);
        qn_free(h->files[i].path);
        qn_free(h->files[i].relative);
    }
    qn_free(h->files);
    *h = (qn_source_hash){0};
}

quern_status qn_source_hash_add(qn_source_hash *h, const char *path, const char *relative, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (h->n == h->cap) {
        size_t cap = h->cap != 0 ? 2 * h->cap : 16;
        qn_hashed_file *files = qn_realloc_array(h->files, cap, sizeof *files);
        if (files == NULL) {
            QN_FAIL_MEMORY(err, "the list of files", cap * sizeof *files);
        }
        h->files = files;
        h->cap = cap;
    }
    qn_hashed_file *f = &h->files[h->n];
    memset(f, 0, sizeof *f);
    h->n++;
    f->path = qn_strdup(path);
    f->relative = qn_strdup(relative);
    if (f->path == NULL || f->relative == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path) + strlen(relative));
    }
done:
    return status;
}

bool qn_hashed_file_finished(const qn_hashed_file *f) { return f->hex[0] != '\0' || f->status != QUERN_OK; }

void qn_hashed_file_advance(qn_hashed_file *f, size_t max_bytes)
{
    if (qn_hashed_file_finished(f)) {
        return;
    }
    if (f->state == NULL) {
        f->status = qn_mapping_open(&f->mapping, f->path, &f->err);
        if (f->status == QUERN_OK) {
            f->bytes = f->mapping.size;
            f->status = qn_sha256_create(&f->state, &f->err);
        }
        if (f->status != QUERN_OK) {
            stop(f);
            return;
        }
    }
    size_t left = f->mapping.size - f->position;
    size_t here = left < max_bytes ? left : max_bytes;
    if (here > 0) {
        qn_sha256_update(f->state, f->mapping.data + f->position, here);
        qn_mapped_span_release(f->mapping.data + f->position, here);
        f->position += here;
    }
    if (f->position == f->mapping.size) {
        qn_sha256_finish(f->state, f->hex);
        f->state = NULL;
        qn_mapping_close(&f->mapping);
    }
}

typedef struct finish_run {
    qn_source_hash *hash;
    atomic_size_t next;
} finish_run;

static void finish_files(void *arg, qn_member member)
{
    enum { STEP = 64 << 20 };
    finish_run *run = arg;
    (void)member;
    for (size_t i = atomic_fetch_add(&run->next, 1); i < run->hash->n; i = atomic_fetch_add(&run->next, 1)) {
        while (!qn_hashed_file_finished(&run->hash->files[i])) {
            qn_hashed_file_advance(&run->hash->files[i], STEP);
        }
    }
}

quern_status qn_source_hash_finish(qn_source_hash *h, qn_pool *pool, quern_error *err)
{
    finish_run run = {.hash = h};
    atomic_init(&run.next, 0);
    qn_pool_run(pool, finish_files, &run);
    for (size_t i = 0; i < h->n; i++) {
        if (h->files[i].status != QUERN_OK) {
            return qn_error_set(err, h->files[i].status, "%s", h->files[i].err.message);
        }
    }
    return QUERN_OK;
}
