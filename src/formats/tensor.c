/* tensor.c - what all formats check of a tensor. */
#include "formats/tensor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

bool qn_tensor_measure(qn_tensor *t, const char **why)
{
    uint64_t n = 1;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (t->shape[i] > INT64_MAX || __builtin_mul_overflow(n, t->shape[i], &n) || n > INT64_MAX) {
            *why = "the number of elements does not fit 63 bits";
            return false;
        }
    }
    const qn_dtype_traits *x = qn_dtype_get(t->dtype);
    uint64_t row = t->n_dims > 0 ? t->shape[t->n_dims - 1] : 1;
    if (x->block_size == 0 || row % x->block_size != 0) {
        *why = "a row is no whole number of the type's blocks";
        return false;
    }
    if (!qn_dtype_row_bytes(t->dtype, n, &t->n_bytes) || t->n_bytes > INT64_MAX) {
        *why = "the number of bytes does not fit 63 bits";
        return false;
    }
    t->n_elements = n;
    return true;
}

typedef struct data_span {
    uint64_t begin, end;
    size_t tensor;
} data_span;

static int compare_spans(const void *x, const void *y)
{
    const data_span *a = x;
    const data_span *b = y;
    int order = (a->begin > b->begin) - (a->begin < b->begin);
    return order != 0 ? order : (a->tensor > b->tensor) - (a->tensor < b->tensor);
}

quern_status qn_tensor_check_overlap(const qn_tensor *tensors, size_t n, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    data_span *spans = qn_malloc_array(n, sizeof *spans);
    size_t n_spans = 0;
    if (spans == NULL) {
        QN_FAIL_MEMORY(err, path, n * sizeof *spans);
    }
    for (size_t i = 0; i < n; i++) {
        if (tensors[i].n_bytes > 0) {
            uint64_t begin = tensors[i].file_offset;
            spans[n_spans++] = (data_span){.begin = begin, .end = begin + tensors[i].n_bytes, .tensor = i};
        }
    }
    qsort(spans, n_spans, sizeof *spans, compare_spans);
    for (size_t i = 1; i < n_spans; i++) {
        if (spans[i].begin < spans[i - 1].end) {
            const char *low = tensors[spans[i - 1].tensor].name;
            const char *high = tensors[spans[i].tensor].name;
            QN_FAIL(err, QUERN_ERROR_INVALID,
                    "%s: tensor '%.*s' (bytes %" PRIu64 " to %" PRIu64 ") overlaps tensor '%.*s', which begins at byte %" PRIu64
                    ": tensors must not share bytes",
                    path, qn_name_shown(low, strlen(low)), low, spans[i - 1].begin, spans[i - 1].end, qn_name_shown(high, strlen(high)),
                    high, spans[i].begin);
        }
    }
done:
    qn_free(spans);
    return status;
}

bool qn_tensor_name_valid(const char *name, size_t len)
{
    return len > 0 && len <= QN_TENSOR_NAME_MAX && memchr(name, '\0', len) == NULL && qn_utf8_valid(name, len);
}

int qn_name_shown(const char *name, size_t len) { return (int)qn_utf8_complete_prefix(name, len < 160 ? len : 160); }
