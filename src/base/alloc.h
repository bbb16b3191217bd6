/* alloc.h - the only place of the project that calls malloc; plus checked sizes and the arena.
 *
 * Every size that comes from a product or sum of untrusted numbers goes through
 * qn_size_mul / qn_size_add. Tests make the n-th allocation fail with
 * qn_alloc_fail_at; in normal use that costs one relaxed atomic load per call.
 */
#ifndef QN_BASE_ALLOC_H
#define QN_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = a * b (or a + b); false on overflow, *out then undefined. */
static inline bool qn_size_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool qn_size_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* Rounds n up to a multiple of the power of two `align`; n must be at most SIZE_MAX - align. */
static inline size_t qn_align_up(size_t n, size_t align) { return (n + align - 1) & ~(align - 1); }

/* As malloc, calloc and realloc (zero bytes give a unique pointer, never NULL for lack of size).
 * NULL means out of memory. Free with qn_free. */
void *qn_malloc(size_t bytes);
void *qn_calloc(size_t count, size_t bytes);
void *qn_realloc(void *p, size_t bytes);
/* count * bytes with overflow check. */
void *qn_malloc_array(size_t count, size_t bytes);
void *qn_realloc_array(void *p, size_t count, size_t bytes);
/* 64-byte aligned (a cache line and a vector register); free with qn_free_aligned. Not zeroed. */
void *qn_malloc_aligned(size_t bytes);
/* The same at the beginning of a page (4096), in huge pages where the system has them to give: for what is read through again and again and larger
 * than the processor's page tables reach. */
void *qn_malloc_pages(size_t bytes);
void qn_free(void *p);
void qn_free_aligned(void *p);
char *qn_strdup(const char *s);
char *qn_strndup(const char *s, size_t n);

/* Tests only: lets the n-th allocation from now (1 = next one) and every later one fail; 0 switches off. */
void qn_alloc_fail_at(uint64_t nth);
/* Tests only: allocations made since the last qn_alloc_fail_at call (process-wide). */
uint64_t qn_alloc_count(void);

/* A bump allocator for things of one lifetime (model, engine, request, step).
 *
 *   chunk: | header | used ........ | free ........ |   -> next chunk (older)
 *
 * Pointers stay valid until qn_arena_deinit. Not thread safe. */
typedef struct qn_arena {
    struct qn_arena_chunk *newest;
    size_t used_bytes; /* over all chunks, what callers asked for, rounded to alignment */
    size_t cap_bytes;  /* refuse to grow beyond this; 0 = no ceiling */
} qn_arena;

void qn_arena_init(qn_arena *arena, size_t cap_bytes);
void qn_arena_deinit(qn_arena *arena);
/* Zeroed memory aligned to 16 (qn_arena_alloc) or 64 bytes; NULL when out of memory or at the ceiling. */
void *qn_arena_alloc(qn_arena *arena, size_t bytes);
void *qn_arena_alloc_array(qn_arena *arena, size_t count, size_t bytes);
void *qn_arena_alloc_aligned(qn_arena *arena, size_t bytes);
char *qn_arena_strndup(qn_arena *arena, const char *s, size_t n);

#endif
