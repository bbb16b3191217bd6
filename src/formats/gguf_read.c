/* gguf_read.c - opening a GGUF, its further shards, and looking up keys and tensors. */
#include "formats/gguf_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/fs.h"
#include "base/half.h"
#include "formats/gguf_int.h"

typedef struct gguf_file {
    qn_mapping bytes; /* empty for memory that the caller owns */
    size_t size;
    char *path;
} gguf_file;

struct qn_gguf {
    uint32_t version;
    gguf_file *files;
    size_t n_files;
    qn_gguf_keys keys; /* of the first file */
    qn_tensor_list tensors;
    qn_name_index tensor_index;
    qn_arena arena; /* tensor names */
};

/* ---- split files ---- */

typedef struct split_info {
    uint64_t number, count, n_tensors;
    bool is_split;
} split_info;

static quern_status read_split(const qn_gguf_keys *keys, const char *path, split_info *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool has_number;
    bool has_count;
    bool has_total;
    *out = (split_info){.count = 1};
    QN_TRY(qn_gguf_keys_get_u64(keys, path, "split.no", &out->number, &has_number, err));
    QN_TRY(qn_gguf_keys_get_u64(keys, path, "split.count", &out->count, &has_count, err));
    QN_TRY(qn_gguf_keys_get_u64(keys, path, "split.tensors.count", &out->n_tensors, &has_total, err));
    out->is_split = has_count && out->count != 1;
    if (out->is_split && (!has_number || !has_total)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: has split.count %" PRIu64 " but not %s: a shard must have both", path, out->count,
                has_number ? "split.tensors.count" : "split.no");
    }
    if (out->is_split && (out->count == 0 || out->count > 99999 || out->number >= out->count)) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: split.no %" PRIu64 " of split.count %" PRIu64 " (expected a count up to 99999 and numbers below it)", path,
                out->number, out->count);
    }
done:
    return status;
}

/* "PREFIX-00002-of-00005.gguf" from the path of the first shard, in new memory. */
static quern_status shard_path(char **out, const char *first, uint64_t index, uint64_t count, quern_error *err)
{
    quern_status status = QUERN_OK;
    char tail[32];
    qn_buf b;
    qn_buf_init(&b, 1u << 20);
    *out = NULL;
    size_t tail_len = (size_t)snprintf(tail, sizeof tail, "-%05u-of-%05u.gguf", 1u, (unsigned)count);
    size_t len = strlen(first);
    if (len < tail_len || strcmp(first + len - tail_len, tail) != 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: is the first of %" PRIu64 " shards, so its name must end in %s (the other names follow from it)", first, count, tail);
    }
    (void)qn_buf_append(&b, first, len - tail_len);
    (void)qn_buf_printf(&b, "-%05u-of-%05u.gguf", (unsigned)index + 1u, (unsigned)count);
    *out = qn_buf_take(&b, NULL);
    if (*out == NULL) {
        QN_FAIL_MEMORY(err, "the name of a shard", len + 1);
    }
done:
    qn_buf_deinit(&b);
    return status;
}

static quern_status open_bytes(gguf_file *f, bool copy, quern_error *err)
{
    quern_status status = copy ? qn_mapping_read(&f->bytes, f->path, err) : qn_mapping_open(&f->bytes, f->path, err);
    f->size = f->bytes.size;
    return status;
}

/* The header of file `index`. */
static quern_status parse_header(qn_gguf *g, size_t index, uint32_t *version, qn_gguf_keys *keys, quern_error *err)
{
    enum { FIRST_BYTES_MAX = 8 << 20, FIRST_SHARE = 64, FURTHER_BYTES_MAX = 256 << 10 };
    const gguf_file *f = &g->files[index];
    /* No header tells its length. One with a vocabulary of 150,000 has 6 MiB, in files of some hundred; that of a further shard has names only. */
    const size_t most = index == 0 ? FIRST_BYTES_MAX : FURTHER_BYTES_MAX, share = f->size / FIRST_SHARE;
    qn_mapping_fetch_first(&f->bytes, share < most ? share : most);
    return qn_gguf_parse_file(f->bytes.data, f->size, f->path, (uint32_t)index, version, keys, &g->tensors, &g->arena, err);
}

/* Opens shard `index` (> 0), whose slot in g->files is still empty. */
static quern_status open_shard(qn_gguf *g, uint64_t index, const split_info *split, bool copy, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_gguf_keys keys = {0};
    gguf_file *f = &g->files[index];
    split_info own;
    uint32_t version;
    QN_TRY(shard_path(&f->path, g->files[0].path, index, split->count, err));
    g->n_files++;
    status = open_bytes(f, copy, err);
    if (status != QUERN_OK) {
        qn_error_prefix(err, "shard %" PRIu64 " of %" PRIu64, index + 1, split->count);
        goto done;
    }
    QN_TRY(parse_header(g, (size_t)index, &version, &keys, err));
    QN_TRY(read_split(&keys, f->path, &own, err));
    if (!own.is_split || own.number != index || own.count != split->count || own.n_tensors != split->n_tensors) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: says it is shard %" PRIu64 " of %" PRIu64 " with %" PRIu64 " tensors in all, but %s expects shard %" PRIu64
                " of %" PRIu64 " with %" PRIu64,
                f->path, own.number, own.count, own.n_tensors, g->files[0].path, index, split->count, split->n_tensors);
    }
done:
    qn_gguf_keys_deinit(&keys);
    return status;
}

static quern_status open_further_shards(qn_gguf *g, const split_info *split, bool copy, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (uint64_t i = 1; i < split->count; i++) {
        void *files = qn_realloc_array(g->files, (size_t)i + 1, sizeof *g->files);
        if (files == NULL) {
            QN_FAIL_MEMORY(err, "the list of shards", ((size_t)i + 1) * sizeof *g->files);
        }
        g->files = files;
        g->files[i] = (gguf_file){0};
        QN_TRY(open_shard(g, i, split, copy, err));
    }
    if (g->tensors.n != split->n_tensors) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: split.tensors.count is %" PRIu64 ", but the %" PRIu64 " shards hold %zu tensors",
                g->files[0].path, split->n_tensors, split->count, g->tensors.n);
    }
done:
    return status;
}

/* ---- opening ---- */

static quern_status index_tensors(qn_gguf *g, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t first;
    size_t second;
    if (!qn_name_index_init(&g->tensor_index, g->tensors.n)) {
        QN_FAIL_MEMORY(err, "the index of tensors", g->tensors.n * sizeof(qn_name));
    }
    for (size_t i = 0; i < g->tensors.n; i++) {
        const char *name = g->tensors.items[i].name;
        g->tensor_index.names[i] = (qn_name){.data = name, .len = strlen(name), .number = i};
    }
    if (!qn_name_index_sort(&g->tensor_index, &first, &second)) {
        const qn_tensor *t = &g->tensors.items[second];
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor '%.*s' is there twice, as number %zu and number %zu; a tensor may be there once",
                g->files[t->file_index].path, qn_name_shown(t->name, strlen(t->name)), t->name, first, second);
    }
done:
    return status;
}

static quern_status create(qn_gguf **out, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_gguf *g = qn_calloc(1, sizeof *g);
    *out = NULL;
    if (g == NULL) {
        QN_FAIL_MEMORY(err, path, sizeof *g);
    }
    qn_arena_init(&g->arena, 0);
    g->files = qn_calloc(1, sizeof *g->files);
    if (g->files == NULL) {
        QN_FAIL_MEMORY(err, path, sizeof *g->files);
    }
    g->n_files = 1;
    g->files[0].path = qn_strdup(path);
    if (g->files[0].path == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path) + 1);
    }
    *out = g;
    g = NULL;
done:
    qn_gguf_close(g);
    return status;
}

quern_status qn_gguf_open(qn_gguf **out, const char *path, bool copy, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_gguf *g = NULL;
    split_info split;
    *out = NULL;
    QN_TRY(create(&g, path, err));
    QN_TRY(open_bytes(&g->files[0], copy, err));
    QN_TRY(parse_header(g, 0, &g->version, &g->keys, err));
    QN_TRY(read_split(&g->keys, path, &split, err));
    if (split.is_split) {
        if (split.number != 0) {
            QN_FAIL(err, QUERN_ERROR_INVALID,
                    "%s: is shard %" PRIu64 " of %" PRIu64 "; open the first one (its name ends in -00001-of-%05" PRIu64 ".gguf)", path,
                    split.number + 1, split.count, split.count);
        }
        QN_TRY(open_further_shards(g, &split, copy, err));
    }
    QN_TRY(index_tensors(g, err));
    *out = g;
    g = NULL;
done:
    qn_gguf_close(g);
    return status;
}

quern_status qn_gguf_parse(qn_gguf **out, const uint8_t *data, size_t size, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_gguf *g = NULL;
    split_info split;
    *out = NULL;
    QN_TRY(create(&g, what, err));
    g->files[0].size = size;
    QN_TRY(qn_gguf_parse_file(data, size, what, 0, &g->version, &g->keys, &g->tensors, &g->arena, err));
    QN_TRY(read_split(&g->keys, what, &split, err));
    if (split.is_split) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: is one of %" PRIu64 " shards; a split file must be opened by its path", what,
                split.count);
    }
    QN_TRY(index_tensors(g, err));
    *out = g;
    g = NULL;
done:
    qn_gguf_close(g);
    return status;
}

void qn_gguf_close(qn_gguf *g)
{
    if (g == NULL) {
        return;
    }
    for (size_t i = 0; i < g->n_files; i++) {
        qn_mapping_close(&g->files[i].bytes);
        qn_free(g->files[i].path);
    }
    qn_free(g->files);
    qn_gguf_keys_deinit(&g->keys);
    qn_free(g->tensors.items);
    qn_name_index_deinit(&g->tensor_index);
    qn_arena_deinit(&g->arena);
    qn_free(g);
}

/* ---- looking up ---- */

uint32_t qn_gguf_version(const qn_gguf *g) { return g->version; }
const char *qn_gguf_path(const qn_gguf *g) { return g->files[0].path; }
size_t qn_gguf_n_files(const qn_gguf *g) { return g->n_files; }
const char *qn_gguf_file_path(const qn_gguf *g, size_t i) { return i < g->n_files ? g->files[i].path : NULL; }
uint64_t qn_gguf_file_bytes(const qn_gguf *g, size_t i) { return i < g->n_files ? g->files[i].size : 0; }
const qn_mapping *qn_gguf_file_mapping(const qn_gguf *g, size_t i)
{
    return i < g->n_files && g->files[i].bytes.data != NULL ? &g->files[i].bytes : NULL;
}
size_t qn_gguf_n_tensors(const qn_gguf *g) { return g->tensors.n; }
const qn_tensor *qn_gguf_tensor_at(const qn_gguf *g, size_t i) { return i < g->tensors.n ? &g->tensors.items[i] : NULL; }
size_t qn_gguf_n_keys(const qn_gguf *g) { return g->keys.n; }
const qn_gguf_value *qn_gguf_key_at(const qn_gguf *g, size_t i) { return i < g->keys.n ? &g->keys.items[i] : NULL; }
const qn_gguf_value *qn_gguf_find(const qn_gguf *g, const char *key) { return qn_gguf_keys_find(&g->keys, key); }

const qn_tensor *qn_gguf_find_tensor(const qn_gguf *g, const char *name)
{
    size_t i;
    return qn_name_index_find(&g->tensor_index, name, strlen(name), &i) ? &g->tensors.items[i] : NULL;
}

/* ---- typed reading ---- */

/* Element i as a sign and a magnitude, so that u64 and i64 share one way; false if the type is no integer or i is too high. */
static bool element_integer(const qn_gguf_value *v, uint64_t i, bool *negative, uint64_t *magnitude)
{
    size_t bytes = qn_gguf_type_bytes(v->element);
    if (i >= v->n || bytes == 0) {
        return false;
    }
    const uint8_t *p = v->data + (size_t)i * bytes;
    int64_t s = 0;
    uint64_t u = 0;
    bool is_signed = true;
    switch (v->element) {
    case QN_GGUF_I8: s = (int8_t)p[0]; break;
    case QN_GGUF_I16: s = (int16_t)qn_load_u16(p); break;
    case QN_GGUF_I32: s = (int32_t)qn_load_u32(p); break;
    case QN_GGUF_I64: s = (int64_t)qn_load_u64(p); break;
    case QN_GGUF_U8:
        u = p[0];
        is_signed = false;
        break;
    case QN_GGUF_U16:
        u = qn_load_u16(p);
        is_signed = false;
        break;
    case QN_GGUF_U32:
        u = qn_load_u32(p);
        is_signed = false;
        break;
    case QN_GGUF_U64:
        u = qn_load_u64(p);
        is_signed = false;
        break;
    case QN_GGUF_F32:
    case QN_GGUF_F64:
    case QN_GGUF_BOOL:
    case QN_GGUF_STRING:
    case QN_GGUF_ARRAY: return false;
    }
    *negative = is_signed && s < 0;
    *magnitude = !is_signed ? u : *negative ? 0 - (uint64_t)s : (uint64_t)s;
    return true;
}

bool qn_gguf_element_i64(const qn_gguf_value *v, uint64_t i, int64_t *out)
{
    bool negative;
    uint64_t magnitude;
    if (!element_integer(v, i, &negative, &magnitude) || (!negative && magnitude > INT64_MAX)) {
        return false;
    }
    *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

bool qn_gguf_element_f64(const qn_gguf_value *v, uint64_t i, double *out)
{
    if (i < v->n && v->element == QN_GGUF_F32) {
        *out = (double)qn_f32_from_bits(qn_load_u32(v->data + 4 * (size_t)i));
        return true;
    }
    if (i < v->n && v->element == QN_GGUF_F64) {
        uint64_t bits = qn_load_u64(v->data + 8 * (size_t)i);
        memcpy(out, &bits, sizeof bits);
        return true;
    }
    return false;
}

qn_span qn_gguf_next_string(const uint8_t **cursor)
{
    qn_span s = {.data = (const char *)*cursor + 8, .len = (size_t)qn_load_u64(*cursor)};
    *cursor += 8 + s.len;
    return s;
}

static quern_status wrong_type(const char *path, const char *key, const qn_gguf_value *v, const char *expected, quern_error *err)
{
    bool array = v->type == QN_GGUF_ARRAY;
    return qn_error_set(err, QUERN_ERROR_INVALID, "%s: key '%s' has type %s%s, expected %s", path, key, array ? "array of " : "",
                        qn_gguf_type_name(v->element), expected);
}

quern_status qn_gguf_keys_get_u64(const qn_gguf_keys *keys, const char *path, const char *key, uint64_t *out, bool *found, quern_error *err)
{
    const qn_gguf_value *v = qn_gguf_keys_find(keys, key);
    bool negative;
    uint64_t magnitude;
    *found = v != NULL;
    if (v == NULL) {
        return QUERN_OK;
    }
    if (v->type == QN_GGUF_ARRAY || !element_integer(v, 0, &negative, &magnitude)) {
        return wrong_type(path, key, v, "an integer", err);
    }
    if (negative) {
        return qn_error_set(err, QUERN_ERROR_INVALID, "%s: key '%s' is -%" PRIu64 ", expected no negative number", path, key, magnitude);
    }
    *out = magnitude;
    return QUERN_OK;
}

quern_status qn_gguf_get_u64(const qn_gguf *g, const char *key, uint64_t *out, bool *found, quern_error *err)
{
    return qn_gguf_keys_get_u64(&g->keys, qn_gguf_path(g), key, out, found, err);
}

quern_status qn_gguf_get_f64(const qn_gguf *g, const char *key, double *out, bool *found, quern_error *err)
{
    const qn_gguf_value *v = qn_gguf_find(g, key);
    *found = v != NULL;
    if (v != NULL && (v->type == QN_GGUF_ARRAY || !qn_gguf_element_f64(v, 0, out))) {
        return wrong_type(qn_gguf_path(g), key, v, "f32 or f64", err);
    }
    return QUERN_OK;
}

quern_status qn_gguf_get_bool(const qn_gguf *g, const char *key, bool *out, bool *found, quern_error *err)
{
    const qn_gguf_value *v = qn_gguf_find(g, key);
    *found = v != NULL;
    if (v != NULL && v->type != QN_GGUF_BOOL) {
        return wrong_type(qn_gguf_path(g), key, v, "bool", err);
    }
    if (v != NULL) {
        *out = v->data[0] != 0;
    }
    return QUERN_OK;
}

quern_status qn_gguf_get_string(const qn_gguf *g, const char *key, qn_span *out, bool *found, quern_error *err)
{
    const qn_gguf_value *v = qn_gguf_find(g, key);
    *found = v != NULL;
    if (v != NULL && v->type != QN_GGUF_STRING) {
        return wrong_type(qn_gguf_path(g), key, v, "string", err);
    }
    if (v != NULL) {
        const uint8_t *cursor = v->data;
        *out = qn_gguf_next_string(&cursor);
    }
    return QUERN_OK;
}
