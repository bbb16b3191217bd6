/* name_index.c - the sorted list behind name_index.h. */
#include "base/name_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t common = a_len < b_len ? a_len : b_len;
    int order = common > 0 ? memcmp(a, b, common) : 0;
    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_names(const void *x, const void *y)
{
    const qn_name *a = x;
    const qn_name *b = y;
    int order = compare_bytes(a->data, a->len, b->data, b->len);
    return order != 0 ? order : (a->number > b->number) - (a->number < b->number);
}

bool qn_name_index_init(qn_name_index *index, size_t n)
{
    *index = (qn_name_index){.names = qn_malloc_array(n, sizeof(qn_name))};
    index->n = index->names != NULL ? n : 0;
    return index->names != NULL;
}

void qn_name_index_deinit(qn_name_index *index)
{
    qn_free(index->names);
    *index = (qn_name_index){0};
}

bool qn_name_index_sort(qn_name_index *index, size_t *first, size_t *second)
{
    const qn_name *names = index->names;
    qsort(index->names, index->n, sizeof *index->names, compare_names);
    for (size_t i = 1; i < index->n; i++) {
        if (compare_bytes(names[i - 1].data, names[i - 1].len, names[i].data, names[i].len) == 0) {
            *first = names[i - 1].number;
            *second = names[i].number;
            return false;
        }
    }
    return true;
}

bool qn_name_index_find(const qn_name_index *index, const char *data, size_t len, size_t *number)
{
    size_t low = 0;
    size_t high = index->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const qn_name *name = &index->names[middle];
        int order = compare_bytes(data, len, name->data, name->len);
        if (order == 0) {
            *number = name->number;
            return true;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return false;
}
