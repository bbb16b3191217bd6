/* page_cache.h - which bytes of a mapped file are in memory already, and reading in the rest at the disk's speed.
 *
 * A page fault reads what lies around it and waits: computing over a mapping that is not cached runs at a fraction of what the disk gives. Several
 * threads that have large pieces read in keep its queue full.
 */
#ifndef QN_BASE_PAGE_CACHE_H
#define QN_BASE_PAGE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/error.h"
#include "base/numa.h"

typedef struct qn_pages {
    const uint8_t *data;
    size_t size;
} qn_pages;

/* A whole file mapped read-only (private), or MAP_FAILED with errno. Large files begin at an address where huge pages can, and are read in huge pages
 * where the file system knows them: a processor reads through those at memory speed, and through small ones at seven to nine tenths of it. End with
 * munmap. */
void *qn_pages_map(int fd, size_t size);

/* How many bytes of mapped spans the system would have to read, from one page in every 256 KiB: an estimate. 0 where the system does not tell. */
uint64_t qn_pages_cold_bytes(const qn_pages *spans, size_t n);

/* Asks for just the pages of a small span of a mapped file, and does not wait for them. A touch of one that is missing would read in what lies around
 * it too: megabytes where huge pages were asked for, or where the disk is read ahead far. */
void qn_pages_fetch(const void *data, size_t size);

/* For a whole file that qn_pages_map mapped, once single pages of it have been looked at and before all of it is read: a huge page is read and mapped
 * as one only where nothing of it is there. Pages that this process has looked at leave the page cache where most of what lies around them is not in
 * it, and its page tables in any case. */
void qn_pages_settle(const uint8_t *data, size_t size);

/* Bytes handled so far; false stops. Called from the calling thread only. */
typedef bool (*qn_pages_progress)(void *user, uint64_t done);

/* Reads in whatever is missing of mapped spans and enters their pages in this process's tables. Cheap where all of it is there (5 GB: some
 * hundredths of a second). With `numa` (may be NULL) each node's threads read in their node's part of every span (qn_numa_cut), so that its pages
 * come from the node's own memory, and what other nodes have of its part is moved: *moved bytes (may be NULL); `progress` then hears the last number
 * again and again. Where memory consists of huge pages, those are placed as wholes. Stopped by `progress` (may be NULL): QUERN_ERROR_CANCELLED. A file
 * that has become shorter, or cannot be read: QUERN_ERROR_IO. */
quern_status qn_pages_read_in(const qn_pages *spans, size_t n, const qn_numa *numa, qn_pages_progress progress, void *user, uint64_t *moved,
                              quern_error *err);

/* Exactly `size` bytes from the beginning of a file, by several threads; past the page cache where less than half of the file is in it (data
 * must then be aligned to 4096 and have room for `size` rounded up to that). *got < size if the file ends earlier; *cold of its bytes were not in the
 * page cache, as qn_pages_cold_bytes counts. */
quern_status qn_pages_read_file(int fd, const char *path, uint8_t *data, size_t size, size_t *got, uint64_t *cold, quern_error *err);

#endif
