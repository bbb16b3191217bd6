/* gguf_write.c - keys and tensor infos as bytes, in front of what data_writer.h does. The layout is drawn in gguf_int.h. */
#include "formats/gguf_write.h"

#include <string.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "formats/data_writer.h"
#include "formats/gguf_int.h"

struct qn_gguf_writer {
    qn_data_writer data;
    qn_buf keys;    /* as they will stand in the file */
    size_t *key_at; /* where each key begins in it */
    size_t n_keys, cap_keys;
    uint32_t alignment;
};

quern_status qn_gguf_writer_create(qn_gguf_writer **out, const char *final_path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_gguf_writer *w = qn_calloc(1, sizeof *w);
    *out = NULL;
    if (w == NULL) {
        QN_FAIL_MEMORY(err, "a gguf writer", sizeof *w);
    }
    qn_buf_init(&w->keys, SIZE_MAX / 2);
    w->alignment = QN_GGUF_ALIGNMENT_DEFAULT;
    QN_TRY(qn_data_writer_init(&w->data, final_path, err));
    *out = w;
    w = NULL;
done:
    qn_gguf_writer_destroy(w);
    return status;
}

void qn_gguf_writer_destroy(qn_gguf_writer *w)
{
    if (w == NULL) {
        return;
    }
    qn_data_writer_deinit(&w->data);
    qn_buf_deinit(&w->keys);
    qn_free(w->key_at);
    qn_free(w);
}

static void append_u32(qn_buf *b, uint32_t v)
{
    uint8_t bytes[4];
    qn_store_u32(bytes, v);
    (void)qn_buf_append(b, bytes, sizeof bytes);
}

static void append_u64(qn_buf *b, uint64_t v)
{
    uint8_t bytes[8];
    qn_store_u64(bytes, v);
    (void)qn_buf_append(b, bytes, sizeof bytes);
}

static void append_string(qn_buf *b, const char *s, size_t len)
{
    append_u64(b, len);
    (void)qn_buf_append(b, s, len);
}

/* Name and type of a key; the value's bytes follow. */
static quern_status begin_key(qn_gguf_writer *w, const char *key, size_t key_len, qn_gguf_type type, quern_error *err)
{
    quern_status status = QUERN_OK;
    int shown = qn_name_shown(key, key_len);
    if (w->data.began || key_len == 0 || key_len > QN_GGUF_KEY_MAX) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: key '%.*s' comes after the data began, or its name is not 1 to %u bytes", w->data.path,
                shown, key, QN_GGUF_KEY_MAX);
    }
    if (w->n_keys == w->cap_keys) {
        size_t cap = w->cap_keys != 0 ? 2 * w->cap_keys : 64;
        void *key_at = qn_realloc_array(w->key_at, cap, sizeof *w->key_at);
        if (key_at == NULL) {
            QN_FAIL_MEMORY(err, "the list of keys", cap * sizeof *w->key_at);
        }
        w->key_at = key_at;
        w->cap_keys = cap;
    }
    w->key_at[w->n_keys++] = w->keys.len;
    append_string(&w->keys, key, key_len);
    append_u32(&w->keys, (uint32_t)type);
done:
    return status;
}

static quern_status end_key(const qn_gguf_writer *w, quern_error *err)
{
    return w->keys.failed ? qn_error_set(err, QUERN_ERROR_MEMORY, "%s: out of memory for keys beyond %zu bytes", w->data.path, w->keys.len)
                          : QUERN_OK;
}

static quern_status put_scalar(qn_gguf_writer *w, const char *key, qn_gguf_type type, uint64_t bits, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint8_t bytes[8];
    qn_store_u64(bytes, bits);
    if (strcmp(key, "general.alignment") == 0) {
        if (type != QN_GGUF_U32 || bits < QN_GGUF_ALIGNMENT_MIN || bits > QN_GGUF_ALIGNMENT_MAX || (bits & (bits - 1)) != 0) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: general.alignment must be a u32 and a power of two from %u to %u", w->data.path,
                    QN_GGUF_ALIGNMENT_MIN, QN_GGUF_ALIGNMENT_MAX);
        }
        w->alignment = (uint32_t)bits;
    }
    QN_TRY(begin_key(w, key, strlen(key), type, err));
    (void)qn_buf_append(&w->keys, bytes, qn_gguf_type_bytes(type)); /* little-endian: the low bytes */
    QN_TRY(end_key(w, err));
done:
    return status;
}

quern_status qn_gguf_put_u32(qn_gguf_writer *w, const char *key, uint32_t v, quern_error *err)
{
    return put_scalar(w, key, QN_GGUF_U32, v, err);
}
quern_status qn_gguf_put_u64(qn_gguf_writer *w, const char *key, uint64_t v, quern_error *err)
{
    return put_scalar(w, key, QN_GGUF_U64, v, err);
}
quern_status qn_gguf_put_i32(qn_gguf_writer *w, const char *key, int32_t v, quern_error *err)
{
    return put_scalar(w, key, QN_GGUF_I32, (uint32_t)v, err);
}

quern_status qn_gguf_put_f32(qn_gguf_writer *w, const char *key, float v, quern_error *err)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_scalar(w, key, QN_GGUF_F32, bits, err);
}

quern_status qn_gguf_put_f64(qn_gguf_writer *w, const char *key, double v, quern_error *err)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_scalar(w, key, QN_GGUF_F64, bits, err);
}

quern_status qn_gguf_put_bool(qn_gguf_writer *w, const char *key, bool v, quern_error *err)
{
    return put_scalar(w, key, QN_GGUF_BOOL, v ? 1 : 0, err);
}

quern_status qn_gguf_put_string(qn_gguf_writer *w, const char *key, const char *s, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(begin_key(w, key, strlen(key), QN_GGUF_STRING, err));
    append_string(&w->keys, s, len);
    QN_TRY(end_key(w, err));
done:
    return status;
}

quern_status qn_gguf_put_array(qn_gguf_writer *w, const char *key, qn_gguf_type element, const void *data, uint64_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t bytes = qn_gguf_type_bytes((uint32_t)element);
    size_t total;
    if (bytes == 0 || n > SIZE_MAX || !qn_size_mul((size_t)n, bytes, &total)) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: key '%s': an array of %s is not written by this function, or too long", w->data.path, key,
                qn_gguf_type_name((uint32_t)element));
    }
    QN_TRY(begin_key(w, key, strlen(key), QN_GGUF_ARRAY, err));
    append_u32(&w->keys, (uint32_t)element);
    append_u64(&w->keys, n);
    (void)qn_buf_append(&w->keys, data, total);
    QN_TRY(end_key(w, err));
done:
    return status;
}

quern_status qn_gguf_put_strings(qn_gguf_writer *w, const char *key, const qn_span *strings, uint64_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(begin_key(w, key, strlen(key), QN_GGUF_ARRAY, err));
    append_u32(&w->keys, QN_GGUF_STRING);
    append_u64(&w->keys, n);
    for (uint64_t i = 0; i < n; i++) {
        append_string(&w->keys, strings[i].data, strings[i].len);
    }
    QN_TRY(end_key(w, err));
done:
    return status;
}

quern_status qn_gguf_put_value(qn_gguf_writer *w, const qn_gguf_value *v, quern_error *err)
{
    quern_status status = QUERN_OK;
    static const char alignment_key[] = "general.alignment";
    if (v->key.len == sizeof alignment_key - 1 && memcmp(v->key.data, alignment_key, v->key.len) == 0) {
        int64_t alignment = 0;
        (void)qn_gguf_element_i64(v, 0, &alignment);
        return put_scalar(w, alignment_key, QN_GGUF_U32, (uint64_t)alignment, err);
    }
    QN_TRY(begin_key(w, v->key.data, v->key.len, v->type, err));
    if (v->type == QN_GGUF_ARRAY) {
        append_u32(&w->keys, (uint32_t)v->element);
        append_u64(&w->keys, v->n);
    }
    (void)qn_buf_append(&w->keys, v->data, v->n_bytes);
    QN_TRY(end_key(w, err));
done:
    return status;
}

quern_status qn_gguf_declare(qn_gguf_writer *w, const char *name, qn_dtype t, const uint64_t *shape, uint32_t n_dims, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool empty = false;
    for (uint32_t i = 0; i < n_dims && i < QN_GGUF_DIMS_MAX; i++) {
        empty = empty || shape[i] == 0;
    }
    if (qn_dtype_get(t)->ggml_id < 0 || n_dims < 1 || n_dims > QN_GGUF_DIMS_MAX || empty) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: tensor '%s' of type %s with %u dimensions has no form in GGUF (expected 1 to %u dimensions of at least 1,"
                " and a type that GGUF has)",
                w->data.path, name, qn_dtype_get(t)->name, (unsigned)n_dims, QN_GGUF_DIMS_MAX);
    }
    QN_TRY(qn_data_writer_declare(&w->data, name, t, shape, n_dims, err));
done:
    return status;
}

/* Fails if two of n names are equal; name(w, i) gives them. */
static quern_status check_unique(const qn_gguf_writer *w, size_t n, qn_span (*name)(const qn_gguf_writer *w, size_t i), const char *what,
                                 quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_name_index index;
    size_t first;
    size_t second;
    if (!qn_name_index_init(&index, n)) {
        QN_FAIL_MEMORY(err, "the check for double names", n * sizeof(qn_name));
    }
    for (size_t i = 0; i < n; i++) {
        qn_span s = name(w, i);
        index.names[i] = (qn_name){.data = s.data, .len = s.len, .number = i};
    }
    if (!qn_name_index_sort(&index, &first, &second)) {
        qn_span s = name(w, first);
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: %s '%.*s' is put twice", w->data.path, what, qn_name_shown(s.data, s.len), s.data);
    }
done:
    qn_name_index_deinit(&index);
    return status;
}

static qn_span key_name(const qn_gguf_writer *w, size_t i)
{
    const uint8_t *cursor = (const uint8_t *)w->keys.data + w->key_at[i];
    return qn_gguf_next_string(&cursor);
}

static qn_span tensor_name(const qn_gguf_writer *w, size_t i)
{
    return (qn_span){.data = w->data.slots[i].name, .len = strlen(w->data.slots[i].name)};
}

static void append_info(qn_buf *b, const qn_tensor *t, uint64_t data_begin)
{
    append_string(b, t->name, strlen(t->name));
    append_u32(b, t->n_dims);
    for (uint32_t i = 0; i < t->n_dims; i++) {
        append_u64(b, t->shape[t->n_dims - 1 - i]);
    }
    append_u32(b, (uint32_t)qn_dtype_get(t->dtype)->ggml_id);
    append_u64(b, t->file_offset - data_begin);
}

quern_status qn_gguf_writer_begin_data(qn_gguf_writer *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf header;
    qn_buf_init(&header, SIZE_MAX / 2);
    QN_TRY(end_key(w, err)); /* an earlier failure that the caller let pass */
    QN_TRY(check_unique(w, w->n_keys, key_name, "key", err));
    QN_TRY(check_unique(w, w->data.n_slots, tensor_name, "tensor", err));
    uint64_t header_bytes = 24 + w->keys.len;
    for (size_t i = 0; i < w->data.n_slots; i++) {
        header_bytes += 8 + strlen(w->data.slots[i].name) + 4 + 8 * (uint64_t)w->data.slots[i].tensor.n_dims + 4 + 8;
    }
    QN_TRY(qn_data_writer_place(&w->data, header_bytes, w->alignment, err));
    uint64_t data_begin = w->data.n_slots > 0 ? w->data.slots[0].tensor.file_offset : 0;
    (void)qn_buf_append(&header, "GGUF", 4);
    append_u32(&header, 3);
    append_u64(&header, w->data.n_slots);
    append_u64(&header, w->n_keys);
    (void)qn_buf_append(&header, w->keys.data, w->keys.len);
    for (size_t i = 0; i < w->data.n_slots; i++) {
        append_info(&header, &w->data.slots[i].tensor, data_begin);
    }
    if (header.failed || header.len != header_bytes) {
        QN_FAIL(err, QUERN_ERROR_MEMORY, "%s: out of memory for a header of %zu bytes", w->data.path, (size_t)header_bytes);
    }
    QN_TRY(qn_data_writer_begin(&w->data, header.data, header.len, err));
done:
    qn_buf_deinit(&header);
    return status;
}

quern_status qn_gguf_writer_keys(const qn_gguf_writer *w, qn_buf *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(end_key(w, err));
    (void)qn_buf_append(out, "GGUF", 4);
    append_u32(out, 3);
    append_u64(out, 0);
    append_u64(out, w->n_keys);
    (void)qn_buf_append(out, w->keys.data, w->keys.len);
    (void)qn_buf_append_zeros(out, w->alignment);
    if (out->failed) {
        QN_FAIL_MEMORY(err, "the keys of a gguf file", w->keys.len);
    }
done:
    return status;
}

quern_status qn_gguf_write_data(qn_gguf_writer *w, size_t index, uint64_t offset, const void *data, size_t size, quern_error *err)
{
    return qn_data_writer_write(&w->data, index, offset, data, size, err);
}

quern_status qn_gguf_writer_attach(qn_gguf_writer *w, const char *final_path, qn_out_file *file, quern_error *err)
{
    return qn_data_writer_attach(&w->data, final_path, file, err);
}

quern_status qn_gguf_writer_keep(qn_gguf_writer *w, size_t n_tensors, quern_error *err)
{
    return qn_data_writer_keep(&w->data, n_tensors, err);
}

quern_status qn_gguf_writer_check(const qn_gguf_writer *w, size_t index, uint64_t offset, uint64_t size, qn_checksum *sum, quern_error *err)
{
    return qn_data_writer_check(&w->data, index, offset, size, sum, err);
}

quern_status qn_gguf_writer_finish(qn_gguf_writer *w, quern_error *err) { return qn_data_writer_finish(&w->data, err); }
qn_out_file *qn_gguf_writer_file(const qn_gguf_writer *w) { return w->data.file; }
uint64_t qn_gguf_writer_prefix(qn_gguf_writer *w) { return qn_data_writer_prefix(&w->data); }
quern_status qn_gguf_writer_commit(qn_gguf_writer *w, quern_error *err) { return qn_data_writer_commit(&w->data, err); }
uint64_t qn_gguf_writer_bytes(const qn_gguf_writer *w) { return w->data.total_bytes; }
