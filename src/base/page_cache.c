/* page_cache.c - see page_cache.h. The only file that asks the system about its page cache. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "base/page_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/memory_info.h"
#include "base/thread_pool.h"

/* Since Linux 5.14; older headers lack the name, older kernels answer EINVAL. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
/* Since Linux 5.4. */
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

enum {
    SAMPLE_BYTES = 256 << 10,
    PIECE_BYTES = 8 << 20,
    READERS = 4, /* a memory node */
    READERS_MAX = 64,
    DIRECT_ALIGNMENT = 4096,
    DIRECT_BYTES_MIN = 64 << 20,
    HUGE_BYTES = 2 << 20
};

void *qn_pages_map(int fd, size_t size)
{
    if (size < HUGE_BYTES) {
        return mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    /* Room for an aligned beginning; what lies around the file goes back. */
    size_t room = qn_align_up(size, qn_page_bytes()) + HUGE_BYTES;
    uint8_t *space = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED) {
        return MAP_FAILED;
    }
    uint8_t *begin = (uint8_t *)qn_align_up((uintptr_t)space, HUGE_BYTES), *end = begin + qn_align_up(size, qn_page_bytes());
    void *p = mmap(begin, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
    if (p == MAP_FAILED) {
        int why = errno;
        (void)munmap(space, room);
        errno = why;
        return MAP_FAILED;
    }
    if (begin > space) {
        (void)munmap(space, (size_t)(begin - space));
    }
    if (end < space + room) {
        (void)munmap(end, (size_t)(space + room - end));
    }
    (void)madvise(p, size, MADV_HUGEPAGE); /* advice: small pages do the same, slower */
    return p;
}

static bool is_page_cold(const uint8_t *at)
{
    unsigned char in_core = 1;
    return mincore((void *)((uintptr_t)at & ~((uintptr_t)qn_page_bytes() - 1)), 1, &in_core) == 0 && (in_core & 1) == 0;
}

uint64_t qn_pages_cold_bytes(const qn_pages *spans, size_t n)
{
    uint64_t cold = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t at = 0; at < spans[i].size; at += SAMPLE_BYTES) {
            if (is_page_cold(spans[i].data + at)) {
                cold += spans[i].size - at < SAMPLE_BYTES ? spans[i].size - at : SAMPLE_BYTES;
            }
        }
    }
    return cold;
}

void qn_pages_fetch(const void *data, size_t size)
{
    const uintptr_t page = qn_page_bytes(), begin = (uintptr_t)data & ~(page - 1), end = qn_align_up((uintptr_t)data + size, page);
    if (size > 0) {
        (void)madvise((void *)begin, end - begin, MADV_WILLNEED); /* advice: a touch does the same, and more */
    }
}

void qn_pages_settle(const uint8_t *data, size_t size)
{
    if (size < HUGE_BYTES) {
        return; /* no huge pages were asked for */
    }
    for (size_t at = 0; at < size; at += HUGE_BYTES) {
        const size_t n = size - at < HUGE_BYTES ? size - at : HUGE_BYTES;
        if (is_page_cold(data + at + n / 4) &&
            is_page_cold(data + at + n / 4 * 3)) {                          /* two samples: all of this happens in every warm start too */
            (void)madvise((void *)(uintptr_t)(data + at), n, MADV_PAGEOUT); /* advice: without it there are more small pages */
        }
    }
    (void)madvise((void *)(uintptr_t)data, size, MADV_DONTNEED); /* advice, likewise: an empty page table makes room for a huge page */
}

/* ---- mapped spans ---- */

/* Of one node's parts of all spans: the first byte, over all of them, that nobody has taken. */
typedef struct cursor {
    _Alignas(64) _Atomic uint64_t next;
} cursor;

typedef struct reading {
    const qn_pages *spans;
    size_t n;
    const qn_numa *numa;
    cursor *cursors; /* of each node */
    bool is_placing; /* everything has been read in, and is brought to its nodes now */
    size_t granule;  /* of what is placed */
    qn_pages_progress progress;
    void *user;
    _Atomic uint64_t finished, moved; /* bytes */
    atomic_int failed;                /* errno */
    atomic_bool cancelled;
} reading;

/* Kernels that cannot be asked for it: one byte of every page. */
static void touch(const uint8_t *data, size_t size, size_t page)
{
    for (size_t i = 0; i < size; i += page) {
        (void)*(const volatile uint8_t *)(data + i);
    }
}

static void read_in_piece(reading *r, const uint8_t *data, size_t size)
{
    const uintptr_t page = qn_page_bytes(), begin = (uintptr_t)data & ~(page - 1), end = qn_align_up((uintptr_t)data + size, page);
    int result;
    do {
        result = madvise((void *)begin, end - begin, MADV_POPULATE_READ);
    } while (result != 0 && (errno == EINTR || errno == EAGAIN));
    if (result == 0) {
        return;
    }
    if (errno == EINVAL || errno == ENOSYS) {
        (void)madvise((void *)begin, end - begin, MADV_WILLNEED); /* advice: the touches do the work */
        touch((const uint8_t *)begin, end - begin, page);
    } else {
        atomic_store(&r->failed, errno);
    }
}

/* The next piece of a node's parts, which may lie across several spans; its bytes, 0 if there is none left. */
static size_t read_in_next(reading *r, size_t node)
{
    const uint64_t at = atomic_fetch_add(&r->cursors[node].next, PIECE_BYTES);
    uint64_t base = 0;
    size_t here = 0;
    for (size_t i = 0; i < r->n && base < at + PIECE_BYTES; i++) {
        size_t first, last;
        qn_numa_cut(r->numa, node, r->spans[i].size, 1, &first, &last);
        const uint64_t size = last - first, begin = at > base ? at - base : 0;
        uint64_t end = at + PIECE_BYTES > base ? at + PIECE_BYTES - base : 0;
        end = end < size ? end : size;
        if (begin < end) {
            const uint8_t *data = r->spans[i].data + first + begin;
            /* also when placing: pages that the system watches for its own balancing seem absent */
            read_in_piece(r, data, (size_t)(end - begin));
            if (r->is_placing) {
                atomic_fetch_add(&r->moved, qn_numa_bring(r->numa, node, data, (size_t)(end - begin), r->granule));
            }
            here += (size_t)(end - begin);
        }
        base += size;
    }
    return here;
}

/* HUGE_BYTES if any memory of the spans is in huge pages, as large files of some file systems and copies are; else that of a page. */
static size_t granule_of(const qn_pages *spans, size_t n)
{
    char line[512];
    bool is_huge = false, is_ours = false;
    FILE *f = fopen("/proc/self/smaps", "re");
    while (f != NULL && !is_huge && fgets(line, sizeof line, f) != NULL) {
        char *end;
        const unsigned long long begin = strtoull(line, &end, 16), until = *end == '-' ? strtoull(end + 1, &end, 16) : 0;
        if (until > begin) { /* "7f00-7f10 r--p ...": a mapping; else something about it, "AnonHugePages:  2048 kB" */
            is_ours = false;
            for (size_t i = 0; i < n && !is_ours; i++) {
                is_ours = (uintptr_t)spans[i].data < until && (uintptr_t)spans[i].data + spans[i].size > begin;
            }
        } else if (is_ours && (strncmp(line, "AnonHugePages:", 14) == 0 || strncmp(line, "ShmemPmdMapped:", 15) == 0 ||
                               strncmp(line, "FilePmdMapped:", 14) == 0)) {
            is_huge = strtoull(strchr(line, ':') + 1, NULL, 10) > 0;
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return is_huge ? HUGE_BYTES : qn_page_bytes();
}

/* Its own node's parts, then what others have left. */
static void read_in_part(void *arg, qn_member m)
{
    reading *r = arg;
    const size_t n_nodes = qn_numa_n_nodes(r->numa);
    for (size_t k = 0; k < n_nodes; k++) {
        size_t here;
        while (atomic_load(&r->failed) == 0 && !atomic_load(&r->cancelled) && (here = read_in_next(r, (m.node + k) % n_nodes)) > 0) {
            uint64_t finished = r->is_placing ? atomic_load(&r->finished) : atomic_fetch_add(&r->finished, here) + here;
            if (m.index == 0 && r->progress != NULL && !r->progress(r->user, finished)) {
                atomic_store(&r->cancelled, true);
            }
        }
    }
}

/* Threads that read in: several a node, so that a disk has a queue. */
static size_t readers_of(const qn_numa *numa)
{
    const size_t n = READERS * qn_numa_n_nodes(numa);
    return n < READERS_MAX ? n : READERS_MAX;
}

quern_status qn_pages_read_in(const qn_pages *spans, size_t n, const qn_numa *numa, qn_pages_progress progress, void *user, uint64_t *moved,
                              quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_pool *pool = NULL;
    const size_t n_nodes = qn_numa_n_nodes(numa);
    reading r = {.spans = spans, .n = n, .numa = numa, .progress = progress, .user = user};
    r.cursors = qn_malloc_aligned(n_nodes * sizeof *r.cursors);
    if (r.cursors == NULL) {
        QN_FAIL_MEMORY(err, "reading mapped files", n_nodes * sizeof *r.cursors);
    }
    uint64_t all = 0;
    for (size_t i = 0; i < n; i++) {
        all += spans[i].size;
    }
    QN_TRY(qn_pool_create_on(&pool, numa == NULL && all <= PIECE_BYTES ? 1 : readers_of(numa), numa, err));
    for (int pass = 0; pass < (numa != NULL && numa->places ? 2 : 1); pass++) {
        r.is_placing = pass > 0;
        r.granule = r.is_placing ? granule_of(spans, n) : 0;
        memset(r.cursors, 0, n_nodes * sizeof *r.cursors);
        qn_pool_run(pool, read_in_part, &r);
    }
    if (atomic_load(&r.cancelled)) {
        QN_FAIL(err, QUERN_ERROR_CANCELLED, "interrupted");
    }
    if (atomic_load(&r.failed) != 0) {
        int why = atomic_load(&r.failed);
        QN_FAIL(err, QUERN_ERROR_IO, "cannot read the mapped file: %s",
                why == EFAULT ? "it has become shorter, or the disk cannot read it" : strerror(why));
    }
    if (moved != NULL) {
        *moved = atomic_load(&r.moved);
    }
done:
    qn_pool_destroy(pool);
    qn_free_aligned(r.cursors);
    return status;
}

/* ---- files into memory ---- */

typedef struct copying {
    int fd;
    uint8_t *data;
    size_t size;
    _Atomic uint64_t next, end; /* end: where the file was found to end */
    atomic_int failed;
} copying;

/* Direct reads want whole blocks; the last one ends with the file. A file system that has no direct reads gets ordinary ones. */
static void copy_piece(copying *c, uint64_t at)
{
    const uint64_t end = at + PIECE_BYTES < c->size ? at + PIECE_BYTES : c->size;
    while (at < end) {
        ssize_t got = pread(c->fd, c->data + at, qn_align_up((size_t)(end - at), DIRECT_ALIGNMENT), (off_t)at);
        if (got < 0 && errno == EINVAL) {
            int flags = fcntl(c->fd, F_GETFL);
            if (flags >= 0 && (flags & O_DIRECT) != 0 && fcntl(c->fd, F_SETFL, flags & ~O_DIRECT) == 0) {
                continue;
            }
            errno = EINVAL;
        }
        if (got < 0 && errno != EINTR) {
            atomic_store(&c->failed, errno);
            return;
        }
        if (got == 0) {
            uint64_t known = atomic_load(&c->end);
            while (at < known && !atomic_compare_exchange_weak(&c->end, &known, at)) {
            }
            return;
        }
        at += got > 0 ? (uint64_t)got : 0;
    }
}

static void copy_part(void *arg, qn_member m)
{
    copying *c = arg;
    (void)m;
    for (uint64_t at; atomic_load(&c->failed) == 0 && (at = atomic_fetch_add(&c->next, PIECE_BYTES)) < c->size;) {
        copy_piece(c, at);
    }
}

/* Bytes of a file that would come from the disk. */
static uint64_t cold_bytes_of(int fd, size_t size)
{
    void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        return 0;
    }
    uint64_t cold = qn_pages_cold_bytes(&(qn_pages){p, size}, 1);
    (void)munmap(p, size);
    return cold;
}

quern_status qn_pages_read_file(int fd, const char *path, uint8_t *data, size_t size, size_t *got, uint64_t *cold, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_pool *pool = NULL;
    copying c = {.fd = fd, .data = data, .size = size, .end = size};
    *got = 0;
    *cold = cold_bytes_of(fd, size);
    if (size >= DIRECT_BYTES_MIN && *cold > size / 2) { /* the page cache need not hold a second copy */
        int flags = fcntl(fd, F_GETFL);
        (void)(flags >= 0 && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0); /* where that is refused, ordinary reads do */
    }
    QN_TRY(qn_pool_create(&pool, size > PIECE_BYTES ? READERS : 1, err));
    qn_pool_run(pool, copy_part, &c);
    if (atomic_load(&c.failed) != 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot read: %s", path, strerror(atomic_load(&c.failed)));
    }
    *got = (size_t)atomic_load(&c.end);
    *cold = *cold < *got ? *cold : *got;
done:
    qn_pool_destroy(pool);
    return status;
}
