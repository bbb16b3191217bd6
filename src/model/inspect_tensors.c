/* inspect_tensors.c - the tensors of a file or folder: summary by type, list, and the search for values that are not finite. */
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "model/inspect_int.h"
#include "quant/codec.h"

enum { NONFINITE_LISTED_MAX = 100, CHUNK_ELEMENTS = 1 << 16 }; /* a whole number of blocks of every type */
/* Weights that are checked without being asked for: reading so few takes less time than loading a tokenizer. */
#define ALWAYS_CHECKED_BYTES ((uint64_t)64 << 20)

static size_t n_tensors(const qn_tensor_source *s)
{
    return s->gguf != NULL ? qn_gguf_n_tensors(s->gguf) : s->safetensors != NULL ? qn_safetensors_n_tensors(s->safetensors) : 0;
}
static const qn_tensor *tensor_at(const qn_tensor_source *s, size_t i)
{
    return s->gguf != NULL ? qn_gguf_tensor_at(s->gguf, i) : qn_safetensors_tensor_at(s->safetensors, i);
}
static size_t n_files(const qn_tensor_source *s)
{
    return s->gguf != NULL ? qn_gguf_n_files(s->gguf) : s->safetensors != NULL ? qn_safetensors_n_files(s->safetensors) : 0;
}
static const char *file_path(const qn_tensor_source *s, size_t i)
{
    return s->gguf != NULL ? qn_gguf_file_path(s->gguf, i) : qn_safetensors_file_path(s->safetensors, i);
}
static uint64_t file_bytes(const qn_tensor_source *s, size_t i)
{
    return s->gguf != NULL ? qn_gguf_file_bytes(s->gguf, i) : qn_safetensors_file_bytes(s->safetensors, i);
}

uint64_t qn_inspect_file_bytes(const qn_tensor_source *source)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n_files(source); i++) {
        sum += file_bytes(source, i);
    }
    return sum;
}

void qn_inspect_sums(const qn_tensor_source *source, uint64_t *n_elements, uint64_t *n_bytes)
{
    *n_elements = *n_bytes = 0;
    for (size_t i = 0; i < n_tensors(source); i++) {
        *n_elements += tensor_at(source, i)->n_elements;
        *n_bytes += tensor_at(source, i)->n_bytes;
    }
}

static void put_types(qn_doc *d, const qn_tensor_source *s)
{
    uint64_t n[QN_DTYPE_COUNT] = {0};
    uint64_t bytes[QN_DTYPE_COUNT] = {0};
    qn_json *types = qn_doc_put_object(d, d->root, "types");
    for (size_t i = 0; i < n_tensors(s); i++) {
        const qn_tensor *t = tensor_at(s, i);
        n[t->dtype]++;
        bytes[t->dtype] += t->n_bytes;
    }
    for (int i = 0; i < QN_DTYPE_COUNT; i++) {
        if (n[i] > 0) {
            qn_json *row = qn_doc_put_object(d, types, qn_dtype_get((qn_dtype)i)->name);
            qn_doc_put(d, row, "n", qn_doc_u64(n[i]));
            qn_doc_put(d, row, "bytes", qn_doc_u64(bytes[i]));
        }
    }
}

static void put_list(qn_doc *d, const qn_tensor_source *s)
{
    qn_json *list = qn_doc_put_array(d, d->root, "tensors");
    for (size_t i = 0; i < n_tensors(s) && !d->failed; i++) {
        const qn_tensor *t = tensor_at(s, i);
        qn_json *row = qn_json_new_object();
        qn_doc_put(d, row, "name", qn_json_new_string(t->name));
        qn_doc_put(d, row, "type", qn_json_new_string(qn_dtype_get(t->dtype)->name));
        qn_json *shape = qn_doc_put_array(d, row, "shape");
        for (uint32_t k = 0; k < t->n_dims; k++) {
            qn_doc_append(d, shape, qn_doc_u64(t->shape[k]));
        }
        qn_doc_put(d, row, "bytes", qn_doc_u64(t->n_bytes));
        qn_doc_put(d, row, "file", qn_json_new_string(qn_path_base(file_path(s, t->file_index))));
        qn_doc_put(d, row, "offset", qn_doc_u64(t->file_offset));
        qn_doc_append(d, list, row);
    }
}

/* First index and number of values that are not finite; `values` has room for CHUNK_ELEMENTS. */
static uint64_t count_nonfinite(const qn_tensor *t, float *values, uint64_t *first)
{
    uint64_t n_bad = 0;
    const uint8_t *at = t->data;
    for (uint64_t done = 0; done < t->n_elements;) {
        size_t n = t->n_elements - done < CHUNK_ELEMENTS ? (size_t)(t->n_elements - done) : CHUNK_ELEMENTS;
        size_t bytes = 0;
        (void)qn_dtype_row_bytes(t->dtype, n, &bytes); /* whole blocks: the tensor is, and so is a chunk */
        qn_decode_row(t->dtype, at, values, n);
        for (size_t i = qn_find_non_finite(values, n); i < n; i += 1 + qn_find_non_finite(values + i + 1, n - i - 1)) {
            *first = n_bad == 0 ? done + i : *first;
            n_bad++;
        }
        at += bytes;
        done += n;
    }
    return n_bad;
}

static quern_status put_check(qn_doc *d, const qn_tensor_source *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t n_checked = 0;
    uint64_t n_elements = 0;
    size_t n_bad_tensors = 0;
    qn_json *check = qn_doc_put_object(d, d->root, "check");
    qn_json *list = qn_doc_put_array(d, check, "nonfinite");
    float *values = qn_malloc_aligned(CHUNK_ELEMENTS * sizeof *values);
    if (values == NULL) {
        QN_FAIL_MEMORY(err, "checking values", CHUNK_ELEMENTS * sizeof *values);
    }
    for (size_t i = 0; i < n_tensors(s); i++) {
        const qn_tensor *t = tensor_at(s, i);
        uint64_t first = 0;
        if (!qn_decode_supported(t->dtype)) {
            continue; /* integers */
        }
        uint64_t n_bad = count_nonfinite(t, values, &first);
        n_checked++;
        n_elements += t->n_elements;
        if (n_bad > 0 && n_bad_tensors++ < NONFINITE_LISTED_MAX) {
            qn_json *row = qn_json_new_object();
            qn_doc_put(d, row, "tensor", qn_json_new_string(t->name));
            qn_doc_put(d, row, "index", qn_doc_u64(first));
            qn_doc_put(d, row, "n", qn_doc_u64(n_bad));
            qn_doc_append(d, list, row);
        }
    }
    qn_doc_put(d, check, "ok", qn_json_new_bool(n_bad_tensors == 0));
    qn_doc_put(d, check, "tensors", qn_doc_u64(n_checked));
    qn_doc_put(d, check, "elements", qn_doc_u64(n_elements));
done:
    qn_free_aligned(values);
    return status;
}

quern_status qn_inspect_tensors(qn_doc *d, const qn_tensor_source *source, const quern_inspect_options *opt, quern_error *err)
{
    qn_json *files = qn_doc_put_array(d, d->root, "files");
    for (size_t i = 0; i < n_files(source); i++) {
        qn_json *row = qn_json_new_object();
        qn_doc_put(d, row, "path", qn_json_new_string(qn_path_base(file_path(source, i))));
        qn_doc_put(d, row, "bytes", qn_doc_u64(file_bytes(source, i)));
        qn_doc_append(d, files, row);
    }
    put_types(d, source);
    if (opt->tensors) {
        put_list(d, source);
    }
    uint64_t n_elements;
    uint64_t n_bytes;
    qn_inspect_sums(source, &n_elements, &n_bytes);
    return opt->check_values || n_bytes <= ALWAYS_CHECKED_BYTES ? put_check(d, source, err) : QUERN_OK;
}
