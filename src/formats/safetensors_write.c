/* safetensors_write.c - the JSON header, in front of what data_writer.h does. The layout is drawn in safetensors_int.h. */
#include "formats/safetensors_write.h"

#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/json.h"
#include "formats/data_writer.h"

/* The data begins at a multiple of this, so that readers may map it straight into vectors. */
#define DATA_ALIGNMENT 64u

struct qn_safetensors_writer {
    qn_data_writer data;
    qn_json *header; /* entries get their offsets at begin */
};

quern_status qn_safetensors_writer_create(qn_safetensors_writer **out, const char *final_path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_safetensors_writer *w = qn_calloc(1, sizeof *w);
    *out = NULL;
    if (w == NULL) {
        QN_FAIL_MEMORY(err, "a safetensors writer", sizeof *w);
    }
    w->header = qn_json_new_object();
    if (w->header == NULL) {
        QN_FAIL_MEMORY(err, "a safetensors header", 64);
    }
    QN_TRY(qn_data_writer_init(&w->data, final_path, err));
    *out = w;
    w = NULL;
done:
    qn_safetensors_writer_destroy(w);
    return status;
}

void qn_safetensors_writer_destroy(qn_safetensors_writer *w)
{
    if (w == NULL) {
        return;
    }
    qn_data_writer_deinit(&w->data);
    qn_json_free(w->header);
    qn_free(w);
}

quern_status qn_safetensors_put_metadata(qn_safetensors_writer *w, const char *key, const char *value, quern_error *err)
{
    quern_status status = QUERN_OK;
    static const char name[] = "__metadata__";
    if (w->data.began) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: metadata '%s' comes after the data began", w->data.path, key);
    }
    if (qn_json_get(w->header, name) == NULL && !qn_json_set(w->header, name, qn_json_new_object())) {
        QN_FAIL_MEMORY(err, "a safetensors header", 64);
    }
    qn_json *metadata = (qn_json *)(uintptr_t)qn_json_get(w->header, name); /* ours, through its root */
    if (qn_json_get(metadata, key) != NULL) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: metadata '%s' is put twice", w->data.path, key);
    }
    if (!qn_json_set(metadata, key, qn_json_new_string(value))) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: metadata '%s' cannot be stored (expected UTF-8)", w->data.path, key);
    }
done:
    return status;
}

quern_status qn_safetensors_declare(qn_safetensors_writer *w, const char *name, qn_dtype t, const uint64_t *shape, uint32_t n_dims,
                                    quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *dtype = qn_dtype_get(t)->safetensors;
    qn_json *entry = NULL;
    qn_json *dims = NULL;
    if (dtype == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor '%s' of type %s has no form in safetensors", w->data.path, name,
                qn_dtype_get(t)->name);
    }
    if (qn_json_get(w->header, name) != NULL || strcmp(name, "__metadata__") == 0) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: tensor '%s' is declared twice", w->data.path, name);
    }
    QN_TRY(qn_data_writer_declare(&w->data, name, t, shape, n_dims, err));
    entry = qn_json_new_object();
    dims = qn_json_new_array();
    bool stored = entry != NULL && dims != NULL && qn_json_set(entry, "dtype", qn_json_new_string(dtype));
    for (uint32_t i = 0; stored && i < n_dims; i++) {
        stored = qn_json_append(dims, qn_json_new_int((int64_t)shape[i])); /* below 2^63: measured */
    }
    if (stored) {
        stored = qn_json_set(entry, "shape", dims); /* takes dims, whatever comes of it */
        dims = NULL;
    }
    if (stored) {
        stored = qn_json_set(w->header, name, entry);
        entry = NULL;
    }
    if (!stored) {
        QN_FAIL_MEMORY(err, "a safetensors header", strlen(name));
    }
done:
    qn_json_free(dims);
    qn_json_free(entry);
    return status;
}

/* Puts data_offsets into every entry: tensors stand without holes in the order of their declaration. */
static bool set_offsets(qn_safetensors_writer *w)
{
    uint64_t at = 0;
    for (size_t i = 0; i < w->data.n_slots; i++) {
        const qn_tensor *t = &w->data.slots[i].tensor;
        qn_json *entry = (qn_json *)(uintptr_t)qn_json_get(w->header, t->name); /* ours, through its root */
        qn_json *offsets = qn_json_new_array();
        bool stored = offsets != NULL && qn_json_append(offsets, qn_json_new_int((int64_t)at)) && t->n_bytes <= INT64_MAX - at &&
                      qn_json_append(offsets, qn_json_new_int((int64_t)(at + t->n_bytes)));
        if (!stored) {
            qn_json_free(offsets);
            return false;
        }
        if (!qn_json_set(entry, "data_offsets", offsets)) {
            return false;
        }
        at += t->n_bytes;
    }
    return true;
}

quern_status qn_safetensors_writer_begin_data(qn_safetensors_writer *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf header;
    uint8_t length[8] = {0};
    qn_buf_init(&header, SIZE_MAX / 2);
    (void)qn_buf_append(&header, length, sizeof length);
    if (!set_offsets(w) || !qn_json_write(w->header, 0, &header)) {
        QN_FAIL_MEMORY(err, "a safetensors header", header.len);
    }
    while (header.len % DATA_ALIGNMENT != 0 && qn_buf_append_char(&header, ' ')) {
    }
    if (header.failed) {
        QN_FAIL_MEMORY(err, "a safetensors header", header.len);
    }
    qn_store_u64((uint8_t *)header.data, header.len - sizeof length);
    QN_TRY(qn_data_writer_place(&w->data, header.len, 1, err));
    QN_TRY(qn_data_writer_begin(&w->data, header.data, header.len, err));
done:
    qn_buf_deinit(&header);
    return status;
}

quern_status qn_safetensors_write_data(qn_safetensors_writer *w, size_t index, uint64_t offset, const void *data, size_t size,
                                       quern_error *err)
{
    return qn_data_writer_write(&w->data, index, offset, data, size, err);
}

quern_status qn_safetensors_writer_attach(qn_safetensors_writer *w, const char *final_path, qn_out_file *file, quern_error *err)
{
    return qn_data_writer_attach(&w->data, final_path, file, err);
}

quern_status qn_safetensors_writer_keep(qn_safetensors_writer *w, size_t n_tensors, quern_error *err)
{
    return qn_data_writer_keep(&w->data, n_tensors, err);
}

quern_status qn_safetensors_writer_check(const qn_safetensors_writer *w, size_t index, uint64_t offset, uint64_t size, qn_checksum *sum,
                                         quern_error *err)
{
    return qn_data_writer_check(&w->data, index, offset, size, sum, err);
}

quern_status qn_safetensors_writer_finish(qn_safetensors_writer *w, quern_error *err) { return qn_data_writer_finish(&w->data, err); }
qn_out_file *qn_safetensors_writer_file(const qn_safetensors_writer *w) { return w->data.file; }
uint64_t qn_safetensors_writer_prefix(qn_safetensors_writer *w) { return qn_data_writer_prefix(&w->data); }
quern_status qn_safetensors_writer_commit(qn_safetensors_writer *w, quern_error *err) { return qn_data_writer_commit(&w->data, err); }
uint64_t qn_safetensors_writer_bytes(const qn_safetensors_writer *w) { return w->data.total_bytes; }
