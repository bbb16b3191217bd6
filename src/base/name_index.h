/* name_index.h - finds names among many: a sorted list and binary search.
 *
 * Sorted and not hashed, so that no choice of names can make building it slower than n log n comparisons.
 * Owns its list only; the names' bytes stay where they are and must outlive it. */
#ifndef QN_BASE_NAME_INDEX_H
#define QN_BASE_NAME_INDEX_H

#include <stdbool.h>
#include <stddef.h>

typedef struct qn_name {
    const char *data; /* not NUL-terminated */
    size_t len;
    size_t number; /* what the caller knows it by */
} qn_name;

typedef struct qn_name_index {
    qn_name *names;
    size_t n;
} qn_name_index;

/* Room for n names, which the caller then fills in any order; false when out of memory. */
bool qn_name_index_init(qn_name_index *index, size_t n);
void qn_name_index_deinit(qn_name_index *index);
/* Makes it ready for find. If two names are equal: false, and their numbers, the lower one first. */
bool qn_name_index_sort(qn_name_index *index, size_t *first, size_t *second);
bool qn_name_index_find(const qn_name_index *index, const char *data, size_t len, size_t *number);

#endif
