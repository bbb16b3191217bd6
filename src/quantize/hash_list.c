/* hash_list.c - hashing files beside other work. See hash_list.h. */
#include "quantize/hash_list.h"

#include <string.h>
#include <unistd.h>

#include "base/alloc.h"

enum { BUFFER_BYTES = 256 << 10 };

void qn_hash_list_init(qn_hash_list *h) { *h = (qn_hash_list){0}; }

static void stop(qn_hashed_file *f)
{
    qn_sha256_abandon(f->state);
    f->state = NULL;
    qn_free(f->buffer);
    f->buffer = NULL;
    if (f->fd >= 0) {
        close(f->fd);
        f->fd = -1;
    }
}

void qn_hash_list_deinit(qn_hash_list *h)
{
    for (size_t i = 0; i < h->n; i++) {
        stop(&h->files[i]);
        qn_free(h->files[i].path);
        qn_free(h->files[i].relative);
    }
    qn_free(h->files);
    *h = (qn_hash_list){0};
}

quern_status qn_hash_list_add_growing(qn_hash_list *h, const char *path, const char *relative, quern_error *err)
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
    f->fd = -1;
    h->n++;
    f->path = qn_strdup(path);
    f->relative = qn_strdup(relative);
    if (f->path == NULL || f->relative == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path) + strlen(relative));
    }
done:
    return status;
}

quern_status qn_hash_list_add(qn_hash_list *h, const char *path, const char *relative, quern_error *err)
{
    quern_status status = QUERN_OK;
    int fd = -1;
    uint64_t bytes;
    QN_TRY(qn_file_open(&fd, &bytes, path, err));
    QN_TRY(qn_hash_list_add_growing(h, path, relative, err));
    qn_hashed_file *f = &h->files[h->n - 1];
    f->bytes = f->available = bytes;
    f->complete = true;
    h->n_sources = h->n;
done:
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

bool qn_hashed_file_finished(const qn_hashed_file *f) { return f->hex[0] != '\0' || f->status != QUERN_OK; }

uint64_t qn_hashed_file_pending(const qn_hashed_file *f)
{
    return qn_hashed_file_finished(f) || f->position > f->available ? 0 : f->available - f->position;
}

static quern_status begin(qn_hashed_file *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t size;
    QN_TRY(qn_file_open(&f->fd, &size, f->path, err));
    f->buffer = qn_malloc(BUFFER_BYTES);
    if (f->buffer == NULL) {
        QN_FAIL_MEMORY(err, f->path, BUFFER_BYTES);
    }
    QN_TRY(qn_sha256_create(&f->state, err));
done:
    return status;
}

void qn_hashed_file_advance(qn_hashed_file *f, uint64_t max_bytes)
{
    if (qn_hashed_file_finished(f)) {
        return;
    }
    if (f->state == NULL) {
        f->status = begin(f, &f->err);
    }
    uint64_t left = qn_hashed_file_pending(f);
    left = left < max_bytes ? left : max_bytes;
    while (f->status == QUERN_OK && left > 0) {
        size_t n = left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES;
        f->status = qn_file_read_at(f->fd, f->path, f->position, f->buffer, n, &f->err);
        if (f->status == QUERN_OK) {
            qn_sha256_update(f->state, f->buffer, n);
            f->position += n;
            left -= n;
        }
    }
    if (f->status == QUERN_OK && f->complete && f->position == f->available) {
        f->bytes = f->available;
        qn_sha256_finish(f->state, f->hex);
        f->state = NULL;
    }
    if (qn_hashed_file_finished(f)) {
        stop(f);
    }
}

typedef struct advance_run {
    qn_hash_list *hash;
    atomic_size_t next;
} advance_run;

static void advance_files(void *arg, qn_member member)
{
    enum { STEP = 32 << 20 };
    advance_run *run = arg;
    (void)member;
    for (size_t i = atomic_fetch_add(&run->next, 1); i < run->hash->n; i = atomic_fetch_add(&run->next, 1)) {
        qn_hashed_file_advance(&run->hash->files[i], STEP);
    }
}

quern_status qn_hash_list_advance(qn_hash_list *h, qn_pool *pool, bool *done, quern_error *err)
{
    advance_run run = {.hash = h};
    atomic_init(&run.next, 0);
    qn_pool_run(pool, advance_files, &run);
    *done = true;
    for (size_t i = 0; i < h->n; i++) {
        if (h->files[i].status != QUERN_OK) {
            return qn_error_set(err, h->files[i].status, "%s", h->files[i].err.message);
        }
        *done = *done && qn_hashed_file_finished(&h->files[i]);
    }
    return QUERN_OK;
}
