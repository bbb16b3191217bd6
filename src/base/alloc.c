/* alloc.c - allocation, with a switch that lets tests make the n-th one fail. */
#include "base/alloc.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "quern/status.h"

static atomic_uint_fast64_t fail_from; /* 0 = never */
static atomic_uint_fast64_t made;

void qn_alloc_fail_at(uint64_t nth)
{
    atomic_store(&made, 0);
    atomic_store(&fail_from, nth);
}

uint64_t qn_alloc_count(void) { return atomic_load(&made); }

static bool refused(void)
{
    uint64_t from = atomic_load_explicit(&fail_from, memory_order_relaxed);
    uint64_t n = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
    return from != 0 && n >= from;
}

void *qn_malloc(size_t bytes) { return refused() ? NULL : malloc(bytes != 0 ? bytes : 1); }
void *qn_calloc(size_t count, size_t bytes)
{
    bool empty = count == 0 || bytes == 0;
    return refused() ? NULL : calloc(empty ? 1 : count, empty ? 1 : bytes);
}
void *qn_realloc(void *p, size_t bytes) { return refused() ? NULL : realloc(p, bytes != 0 ? bytes : 1); }

void *qn_malloc_array(size_t count, size_t bytes)
{
    size_t total;
    return qn_size_mul(count, bytes, &total) ? qn_malloc(total) : NULL;
}

void *qn_realloc_array(void *p, size_t count, size_t bytes)
{
    size_t total;
    return qn_size_mul(count, bytes, &total) ? qn_realloc(p, total) : NULL;
}

void *qn_malloc_aligned(size_t bytes)
{
    if (bytes > SIZE_MAX - 128 || refused()) {
        return NULL;
    }
    return aligned_alloc(64, qn_align_up(bytes != 0 ? bytes : 64, 64));
}

void *qn_malloc_pages(size_t bytes)
{
    const size_t huge = 2 << 20, page = 4096;
    if (bytes > SIZE_MAX - 2 * huge || refused()) {
        return NULL;
    }
    size_t align = bytes >= huge ? huge : page, rounded = qn_align_up(bytes != 0 ? bytes : 1, align);
    void *p = aligned_alloc(align, rounded);
#if defined(MADV_HUGEPAGE)
    if (p != NULL && bytes >= huge) {
        (void)madvise(p, rounded, MADV_HUGEPAGE); /* advice: nothing depends on its success */
    }
#endif
    return p;
}

void qn_free(void *p) { free(p); }
void qn_free_aligned(void *p) { free(p); }
void quern_free(void *p) { free(p); }

char *qn_strndup(const char *s, size_t n)
{
    char *copy = n == SIZE_MAX ? NULL : qn_malloc(n + 1);
    if (copy != NULL) {
        memcpy(copy, s, n);
        copy[n] = '\0';
    }
    return copy;
}

char *qn_strdup(const char *s) { return qn_strndup(s, strlen(s)); }

struct qn_arena_chunk {
    struct qn_arena_chunk *older;
    size_t cap, used; /* bytes after the header */
};

/* The header is one cache line, so that the bytes after it are 64-byte aligned as the chunk is. */
enum { CHUNK_HEADER_BYTES = 64, CHUNK_MIN_BYTES = 64 * 1024, CHUNK_LARGE_BYTES = 8 * 1024 * 1024 };

void qn_arena_init(qn_arena *arena, size_t cap_bytes) { *arena = (qn_arena){.cap_bytes = cap_bytes}; }

void qn_arena_deinit(qn_arena *arena)
{
    struct qn_arena_chunk *chunk = arena->newest;
    while (chunk != NULL) {
        struct qn_arena_chunk *older = chunk->older;
        qn_free_aligned(chunk);
        chunk = older;
    }
    arena->newest = NULL;
    arena->used_bytes = 0;
}

static void *arena_take(qn_arena *arena, size_t bytes, size_t align)
{
    if (bytes > SIZE_MAX / 4) {
        return NULL;
    }
    size_t need = qn_align_up(bytes != 0 ? bytes : 1, align);
    if (arena->cap_bytes != 0 && need > arena->cap_bytes - (arena->used_bytes < arena->cap_bytes ? arena->used_bytes : arena->cap_bytes)) {
        return NULL;
    }
    struct qn_arena_chunk *chunk = arena->newest;
    size_t start = chunk != NULL ? qn_align_up(chunk->used, align) : 0;
    if (chunk == NULL || start > chunk->cap || need > chunk->cap - start) {
        size_t cap = need > CHUNK_MIN_BYTES ? need : CHUNK_MIN_BYTES;
        /* large ones are walked over in long strides by kernels: huge pages, where the system gives them */
        chunk = cap >= CHUNK_LARGE_BYTES ? qn_malloc_pages(CHUNK_HEADER_BYTES + cap) : qn_malloc_aligned(CHUNK_HEADER_BYTES + cap);
        if (chunk == NULL) {
            return NULL;
        }
        *chunk = (struct qn_arena_chunk){.older = arena->newest, .cap = cap};
        arena->newest = chunk;
        start = 0;
    }
    chunk->used = start + need;
    arena->used_bytes += need;
    void *p = (char *)chunk + CHUNK_HEADER_BYTES + start;
    memset(p, 0, need);
    return p;
}

void *qn_arena_alloc(qn_arena *arena, size_t bytes) { return arena_take(arena, bytes, 16); }
void *qn_arena_alloc_aligned(qn_arena *arena, size_t bytes) { return arena_take(arena, bytes, 64); }

void *qn_arena_alloc_array(qn_arena *arena, size_t count, size_t bytes)
{
    size_t total;
    return qn_size_mul(count, bytes, &total) ? qn_arena_alloc(arena, total) : NULL;
}

char *qn_arena_strndup(qn_arena *arena, const char *s, size_t n)
{
    char *copy = n < SIZE_MAX ? qn_arena_alloc(arena, n + 1) : NULL;
    if (copy != NULL) {
        memcpy(copy, s, n);
    }
    return copy;
}
