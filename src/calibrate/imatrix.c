/* imatrix.c - see imatrix.h. */
#include "calibrate/imatrix.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/out_file.h"
#include "formats/gguf_read.h"
#include "formats/gguf_write.h"

static const char sums_suffix[] = ".in_sum2", counts_suffix[] = ".counts", dat_suffix[] = ".dat";

static bool ends_in(const char *text, const char *suffix)
{
    size_t n = strlen(text), k = strlen(suffix);
    return n > k && strcmp(text + n - k, suffix) == 0;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const qn_imatrix_entry *)a)->name, ((const qn_imatrix_entry *)b)->name);
}

const qn_imatrix_entry *qn_imatrix_find(const qn_imatrix *m, const char *name)
{
    const qn_imatrix_entry wanted = {.name = name};
    return m->n_entries > 0 ? bsearch(&wanted, m->entries, m->n_entries, sizeof wanted, compare_entries) : NULL;
}

void qn_imatrix_deinit(qn_imatrix *m)
{
    qn_arena_deinit(&m->arena);
    memset(m, 0, sizeof *m);
}

/* Copies n floats out of a file and refuses what no sum of squares can be. */
static quern_status copy_floats(qn_imatrix *m, const uint8_t *data, size_t n, const char *what, const char *name, const float **out,
                                quern_error *err)
{
    quern_status status = QUERN_OK;
    float *copy = qn_arena_alloc_array(&m->arena, n, sizeof *copy);
    if (copy == NULL) {
        QN_FAIL_MEMORY(err, what, n * sizeof *copy);
    }
    memcpy(copy, data, n * sizeof *copy);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(copy[i]) || copy[i] < 0) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: entry %s holds %g at %zu; expected finite numbers that are not negative", what, name,
                    (double)copy[i], i);
        }
    }
    *out = copy;
done:
    return status;
}

/* ---- GGUF form ---- */

static quern_status read_gguf_entry(qn_imatrix *m, const qn_gguf *g, const qn_tensor *sums, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    char name[QN_TENSOR_NAME_MAX + sizeof counts_suffix];
    size_t len = strlen(sums->name) - strlen(sums_suffix);
    qn_imatrix_entry *e = &m->entries[m->n_entries];
    (void)snprintf(name, sizeof name, "%.*s%s", (int)len, sums->name, counts_suffix);
    const qn_tensor *counts = qn_gguf_find_tensor(g, name);
    if (counts == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s is there, but not %s", what, sums->name, name);
    }
    if (sums->dtype != QN_DTYPE_F32 || counts->dtype != QN_DTYPE_F32) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s has type %s, expected F32", what,
                (sums->dtype != QN_DTYPE_F32 ? sums : counts)->name,
                qn_dtype_get((sums->dtype != QN_DTYPE_F32 ? sums : counts)->dtype)->name);
    }
    if (sums->n_dims == 0 || sums->n_elements == 0 || counts->n_elements == 0 ||
        sums->n_elements / sums->shape[sums->n_dims - 1] != counts->n_elements) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: tensor %s has %" PRIu64 " elements in rows of %" PRIu64 ", and %s has %" PRIu64 "; expected a count a row", what,
                sums->name, sums->n_elements, sums->n_dims > 0 ? sums->shape[sums->n_dims - 1] : 0, name, counts->n_elements);
    }
    e->n_values = (size_t)sums->n_elements;
    e->n_counts = (size_t)counts->n_elements;
    e->name = qn_arena_strndup(&m->arena, sums->name, len);
    if (e->name == NULL) {
        QN_FAIL_MEMORY(err, what, len + 1);
    }
    QN_TRY(copy_floats(m, sums->data, e->n_values, what, sums->name, &e->sums, err));
    QN_TRY(copy_floats(m, counts->data, e->n_counts, what, name, &e->counts, err));
    m->n_entries++;
done:
    return status;
}

static quern_status parse_gguf(qn_imatrix *m, const uint8_t *data, size_t size, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_gguf *g = NULL;
    qn_span type = {0};
    uint64_t n_chunks = 0, chunk_tokens = 0;
    bool found;
    QN_TRY(qn_gguf_parse(&g, data, size, what, err));
    QN_TRY(qn_gguf_get_string(g, "general.type", &type, &found, err));
    if (!found || type.len != strlen("imatrix") || memcmp(type.data, "imatrix", type.len) != 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: a GGUF file, but no importance matrix: general.type is not \"imatrix\"", what);
    }
    QN_TRY(qn_gguf_get_u64(g, "imatrix.chunk_count", &n_chunks, &found, err));
    QN_TRY(qn_gguf_get_u64(g, "imatrix.chunk_size", &chunk_tokens, &found, err));
    m->n_chunks = n_chunks <= UINT32_MAX ? (uint32_t)n_chunks : 0;
    m->chunk_tokens = chunk_tokens <= UINT32_MAX ? (uint32_t)chunk_tokens : 0;
    m->entries = qn_arena_alloc_array(&m->arena, qn_gguf_n_tensors(g) + 1, sizeof *m->entries);
    if (m->entries == NULL) {
        QN_FAIL_MEMORY(err, what, qn_gguf_n_tensors(g) * sizeof *m->entries);
    }
    for (size_t i = 0; i < qn_gguf_n_tensors(g); i++) {
        const qn_tensor *t = qn_gguf_tensor_at(g, i);
        if (ends_in(t->name, sums_suffix)) {
            QN_TRY(read_gguf_entry(m, g, t, what, err));
        }
    }
done:
    qn_gguf_close(g);
    return status;
}

/* ---- the older form ---- */

typedef struct reader {
    const uint8_t *at, *end;
} reader;

static bool read_i32(reader *r, int32_t *out)
{
    if (r->end - r->at < 4) {
        return false;
    }
    memcpy(out, r->at, sizeof *out);
    r->at += 4;
    return true;
}

static bool read_bytes(reader *r, size_t n, const uint8_t **out)
{
    if ((size_t)(r->end - r->at) < n) {
        return false;
    }
    *out = r->at;
    r->at += n;
    return true;
}

static quern_status read_old_entry(qn_imatrix *m, reader *r, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_imatrix_entry *e = &m->entries[m->n_entries];
    int32_t len, n_calls, n_values;
    const uint8_t *name, *values;
    if (!read_i32(r, &len) || len <= 0 || !read_bytes(r, (size_t)len, &name) || !qn_tensor_name_valid((const char *)name, (size_t)len)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: entry %zu has no valid name; expected a file of importance as llama-imatrix writes it", what,
                m->n_entries);
    }
    e->name = qn_arena_strndup(&m->arena, (const char *)name, (size_t)len);
    float *count = qn_arena_alloc(&m->arena, sizeof *count);
    if (e->name == NULL || count == NULL) {
        QN_FAIL_MEMORY(err, what, (size_t)len + 1);
    }
    if (!read_i32(r, &n_calls) || !read_i32(r, &n_values) || n_calls < 0 || n_values <= 0 ||
        !read_bytes(r, (size_t)n_values * sizeof(float), &values)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: entry %s is cut off or says that it has a negative number of values", what, e->name);
    }
    *count = (float)n_calls;
    e->counts = count;
    e->n_counts = 1;
    e->n_values = (size_t)n_values;
    QN_TRY(copy_floats(m, values, e->n_values, what, e->name, &e->sums, err));
    m->n_entries++;
done:
    return status;
}

static quern_status parse_old(qn_imatrix *m, const uint8_t *data, size_t size, const char *what, quern_error *err)
{
    enum { ENTRY_BYTES_MIN = 17 }; /* a name of one letter, one value */
    quern_status status = QUERN_OK;
    reader r = {data, data + size};
    int32_t n_entries, n_chunks, len;
    const uint8_t *dataset;
    if (!read_i32(&r, &n_entries) || n_entries <= 0 || (size_t)n_entries > size / ENTRY_BYTES_MIN) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: %zu bytes that are no importance matrix; expected GGUF or the older form of llama-imatrix",
                what, size);
    }
    m->entries = qn_arena_alloc_array(&m->arena, (size_t)n_entries, sizeof *m->entries);
    if (m->entries == NULL) {
        QN_FAIL_MEMORY(err, what, (size_t)n_entries * sizeof *m->entries);
    }
    for (int32_t i = 0; i < n_entries; i++) {
        QN_TRY(read_old_entry(m, &r, what, err));
    }
    if (r.at < r.end) {
        if (!read_i32(&r, &n_chunks) || (r.at < r.end && (!read_i32(&r, &len) || len < 0 || !read_bytes(&r, (size_t)len, &dataset))) ||
            r.at != r.end) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: what follows the last entry is no name of a text", what);
        }
        m->n_chunks = n_chunks > 0 ? (uint32_t)n_chunks : 0;
    }
done:
    return status;
}

quern_status qn_imatrix_parse(qn_imatrix *out, const uint8_t *data, size_t size, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    memset(out, 0, sizeof *out);
    qn_arena_init(&out->arena, 0);
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) {
        QN_TRY(parse_gguf(out, data, size, what, err));
    } else {
        QN_TRY(parse_old(out, data, size, what, err));
    }
    if (out->n_entries == 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: no entries", what);
    }
    qsort(out->entries, out->n_entries, sizeof *out->entries, compare_entries);
    for (size_t i = 1; i < out->n_entries; i++) {
        if (strcmp(out->entries[i - 1].name, out->entries[i].name) == 0) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: entry %s is there twice", what, out->entries[i].name);
        }
    }
done:
    if (status != QUERN_OK) {
        qn_imatrix_deinit(out);
    }
    return status;
}

quern_status qn_imatrix_read(qn_imatrix *out, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_mapping file = {0};
    memset(out, 0, sizeof *out);
    QN_TRY(qn_mapping_open(&file, path, err));
    QN_TRY(qn_imatrix_parse(out, file.data, file.size, path, err));
done:
    qn_mapping_close(&file);
    return status;
}

/* ---- writing ---- */

static quern_status write_gguf(const qn_imatrix *m, const char *path, const char *dataset, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_gguf_writer *w = NULL;
    const qn_span name = {dataset, strlen(dataset)};
    char tensor[QN_TENSOR_NAME_MAX + sizeof sums_suffix];
    QN_TRY(qn_gguf_writer_create(&w, path, err));
    QN_TRY(qn_gguf_put_string(w, "general.type", "imatrix", strlen("imatrix"), err));
    QN_TRY(qn_gguf_put_strings(w, "imatrix.datasets", &name, 1, err));
    QN_TRY(qn_gguf_put_u32(w, "imatrix.chunk_count", m->n_chunks, err));
    QN_TRY(qn_gguf_put_u32(w, "imatrix.chunk_size", m->chunk_tokens, err));
    for (size_t i = 0; i < m->n_entries; i++) {
        const qn_imatrix_entry *e = &m->entries[i];
        const uint64_t sums[2] = {e->n_counts, e->n_values / e->n_counts}, counts[2] = {e->n_counts, 1};
        (void)snprintf(tensor, sizeof tensor, "%s%s", e->name, sums_suffix);
        QN_TRY(qn_gguf_declare(w, tensor, QN_DTYPE_F32, sums, 2, err));
        (void)snprintf(tensor, sizeof tensor, "%s%s", e->name, counts_suffix);
        QN_TRY(qn_gguf_declare(w, tensor, QN_DTYPE_F32, counts, 2, err));
    }
    QN_TRY(qn_gguf_writer_begin_data(w, err));
    for (size_t i = 0; i < m->n_entries; i++) {
        const qn_imatrix_entry *e = &m->entries[i];
        QN_TRY(qn_gguf_write_data(w, 2 * i, 0, e->sums, e->n_values * sizeof *e->sums, err));
        QN_TRY(qn_gguf_write_data(w, 2 * i + 1, 0, e->counts, e->n_counts * sizeof *e->counts, err));
    }
    QN_TRY(qn_gguf_writer_commit(w, err));
done:
    qn_gguf_writer_destroy(w);
    return status;
}

static bool append_i32(qn_buf *out, int32_t v) { return qn_buf_append(out, &v, sizeof v); }

static quern_status write_old(const qn_imatrix *m, const char *path, const char *dataset, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_out_file *f = NULL;
    qn_buf out;
    int32_t n_calls = m->n_chunks > 0 && m->n_chunks < INT32_MAX ? (int32_t)m->n_chunks : 1;
    qn_buf_init(&out, (size_t)1 << 40);
    if (m->n_entries > INT32_MAX) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: %zu entries are too many for the older form", path, m->n_entries);
    }
    (void)append_i32(&out, (int32_t)m->n_entries);
    for (size_t i = 0; i < m->n_entries; i++) {
        const qn_imatrix_entry *e = &m->entries[i];
        size_t n_cols = e->n_values / e->n_counts;
        if (e->n_values > INT32_MAX) {
            QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: entry %s has %zu values, too many for the older form", path, e->name, e->n_values);
        }
        (void)append_i32(&out, (int32_t)strlen(e->name));
        (void)qn_buf_append_str(&out, e->name);
        (void)append_i32(&out, n_calls);
        (void)append_i32(&out, (int32_t)e->n_values);
        for (size_t k = 0; k < e->n_values; k++) {
            float count = e->counts[k / n_cols];
            float v = count > 0 ? e->sums[k] / count * (float)n_calls : 0.0f;
            (void)qn_buf_append(&out, &v, sizeof v);
        }
    }
    (void)append_i32(&out, n_calls);
    (void)append_i32(&out, (int32_t)strlen(dataset));
    if (!qn_buf_append_str(&out, dataset)) {
        QN_FAIL_MEMORY(err, path, out.len);
    }
    QN_TRY(qn_out_file_create(&f, path, err));
    QN_TRY(qn_out_file_write(f, out.data, out.len, err));
    QN_TRY(qn_out_file_commit(f, err));
done:
    qn_out_file_close(f);
    qn_buf_deinit(&out);
    return status;
}

quern_status qn_imatrix_write(const qn_imatrix *m, const char *path, const char *dataset, quern_error *err)
{
    return ends_in(path, dat_suffix) ? write_old(m, path, dataset, err) : write_gguf(m, path, dataset, err);
}
