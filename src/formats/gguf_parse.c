/* gguf_parse.c - one GGUF file's bytes to keys and tensors; every length is checked against what is left of the file.
 *
 * Memory grows with what has been read, never with what a header claims. */
#include "formats/gguf_int.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/utf8.h"

typedef struct type_row {
    const char *name;
    uint8_t bytes;
} type_row;

static const type_row type_rows[] = {
    [QN_GGUF_U8] = {"u8", 1},         [QN_GGUF_I8] = {"i8", 1},       [QN_GGUF_U16] = {"u16", 2}, [QN_GGUF_I16] = {"i16", 2},
    [QN_GGUF_U32] = {"u32", 4},       [QN_GGUF_I32] = {"i32", 4},     [QN_GGUF_F32] = {"f32", 4}, [QN_GGUF_BOOL] = {"bool", 1},
    [QN_GGUF_STRING] = {"string", 0}, [QN_GGUF_ARRAY] = {"array", 0}, [QN_GGUF_U64] = {"u64", 8}, [QN_GGUF_I64] = {"i64", 8},
    [QN_GGUF_F64] = {"f64", 8},
};
enum { N_TYPES = sizeof type_rows / sizeof type_rows[0] };

size_t qn_gguf_type_bytes(uint32_t type) { return type < N_TYPES ? type_rows[type].bytes : 0; }
const char *qn_gguf_type_name(uint32_t type) { return type < N_TYPES ? type_rows[type].name : "unknown"; }

/* Smallest possible entries, for believing a count: an empty string value, a one-letter tensor name with one dimension. */
enum { KEY_MIN_BYTES = 8 + 1 + 4 + 1, TENSOR_MIN_BYTES = 8 + 1 + 4 + 8 + 4 + 8 };

typedef struct reader {
    const char *path;
    const uint8_t *data;
    size_t size;
    size_t at;
    quern_error *err;
} reader;

static quern_status need(const reader *r, uint64_t bytes, const char *what)
{
    if (bytes <= r->size - r->at) {
        return QUERN_OK;
    }
    return qn_error_set(r->err, QUERN_ERROR_INVALID, "%s: truncated at byte %zu: %s needs %" PRIu64 " bytes, %zu are left", r->path, r->at,
                        what, bytes, r->size - r->at);
}

static quern_status read_u32(reader *r, uint32_t *out, const char *what)
{
    quern_status status = need(r, 4, what);
    if (status == QUERN_OK) {
        *out = qn_load_u32(r->data + r->at);
        r->at += 4;
    }
    return status;
}

static quern_status read_u64(reader *r, uint64_t *out, const char *what)
{
    quern_status status = need(r, 8, what);
    if (status == QUERN_OK) {
        *out = qn_load_u64(r->data + r->at);
        r->at += 8;
    }
    return status;
}

static quern_status read_string(reader *r, qn_span *out, const char *what)
{
    quern_status status = QUERN_OK;
    uint64_t len;
    QN_TRY(read_u64(r, &len, what));
    QN_TRY(need(r, len, what));
    *out = (qn_span){.data = (const char *)r->data + r->at, .len = (size_t)len};
    r->at += (size_t)len;
done:
    return status;
}

/* The elements of an array, or the one value of a scalar (n = 1), of type `element`. */
static quern_status read_elements(reader *r, qn_gguf_value *v, uint32_t element)
{
    quern_status status = QUERN_OK;
    size_t begin = r->at;
    size_t bytes = qn_gguf_type_bytes(element);
    int shown = qn_name_shown(v->key.data, v->key.len);
    v->data = r->data + begin;
    if (element == QN_GGUF_STRING) {
        if (v->n > (r->size - r->at) / 8) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: key '%.*s' at byte %zu: %" PRIu64 " strings do not fit the %zu bytes that are left",
                    r->path, shown, v->key.data, begin, v->n, r->size - r->at);
        }
        for (uint64_t i = 0; i < v->n; i++) {
            uint64_t left = r->size - r->at;
            uint64_t len = left >= 8 ? qn_load_u64(r->data + r->at) : 0;
            if (left < 8 || len > left - 8) {
                QN_FAIL(r->err, QUERN_ERROR_INVALID,
                        "%s: key '%.*s': string %" PRIu64 " at byte %zu: a length of %" PRIu64
                        " bytes goes past the end of the file (%zu bytes)",
                        r->path, shown, v->key.data, i, r->at, len, r->size);
            }
            r->at += 8 + (size_t)len;
        }
    } else {
        if (bytes == 0) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: key '%.*s' at byte %zu: %s (expected type 0 to 12, no array inside an array)",
                    r->path, shown, v->key.data, begin, element == QN_GGUF_ARRAY ? "an array of arrays" : "unknown value type");
        }
        if (v->n > (r->size - r->at) / bytes) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID,
                    "%s: key '%.*s' at byte %zu: %" PRIu64 " values of %zu bytes do not fit the %zu bytes that are left", r->path, shown,
                    v->key.data, begin, v->n, bytes, r->size - r->at);
        }
        r->at += (size_t)v->n * bytes;
    }
    v->n_bytes = r->at - begin;
    for (size_t i = 0; element == QN_GGUF_BOOL && i < v->n_bytes; i++) {
        if (v->data[i] > 1) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: key '%.*s' at byte %zu: a bool is %d (expected 0 or 1)", r->path, shown, v->key.data,
                    begin + i, v->data[i]);
        }
    }
done:
    return status;
}

static quern_status read_key(reader *r, qn_gguf_value *v)
{
    quern_status status = QUERN_OK;
    size_t begin = r->at;
    uint32_t type;
    *v = (qn_gguf_value){.n = 1};
    QN_TRY(read_string(r, &v->key, "a key's name"));
    if (v->key.len == 0 || v->key.len > QN_GGUF_KEY_MAX || memchr(v->key.data, '\0', v->key.len) != NULL ||
        !qn_utf8_valid(v->key.data, v->key.len)) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID,
                "%s: the key at byte %zu has a name of %zu bytes that is no text (expected 1 to %u bytes of UTF-8)", r->path, begin,
                v->key.len, QN_GGUF_KEY_MAX);
    }
    QN_TRY(read_u32(r, &type, "a key's type"));
    if (type >= N_TYPES) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: key '%.*s' at byte %zu: unknown value type %" PRIu32 " (expected 0 to %d)", r->path,
                qn_name_shown(v->key.data, v->key.len), v->key.data, begin, type, N_TYPES - 1);
    }
    v->type = (qn_gguf_type)type;
    v->element = v->type;
    if (v->type == QN_GGUF_ARRAY) {
        QN_TRY(read_u32(r, &type, "an array's element type"));
        QN_TRY(read_u64(r, &v->n, "an array's length"));
        v->element = type < N_TYPES ? (qn_gguf_type)type : QN_GGUF_ARRAY;
    }
    QN_TRY(read_elements(r, v, type));
done:
    return status;
}

/* Makes room for one more item of an array that doubles, up to what the file can hold. */
static bool grow(void **items, size_t *cap, size_t n, size_t item_bytes, uint64_t n_expected)
{
    if (n < *cap) {
        return true;
    }
    size_t more = *cap < 64 ? 64 : *cap * 2;
    if (n_expected > n && n_expected < more) {
        more = (size_t)n_expected;
    }
    void *p = qn_realloc_array(*items, more, item_bytes);
    if (p != NULL) {
        *items = p;
        *cap = more;
    }
    return p != NULL;
}

static quern_status read_keys(reader *r, uint64_t n_keys, qn_gguf_keys *keys)
{
    quern_status status = QUERN_OK;
    for (uint64_t i = 0; i < n_keys; i++) {
        void *items = keys->items;
        if (!grow(&items, &keys->cap, keys->n, sizeof *keys->items, n_keys)) {
            QN_FAIL_MEMORY(r->err, "the index of keys", (keys->cap + 64) * sizeof *keys->items);
        }
        keys->items = items;
        QN_TRY(read_key(r, &keys->items[keys->n]));
        keys->n++;
    }
    if (!qn_name_index_init(&keys->index, keys->n)) {
        QN_FAIL_MEMORY(r->err, "the index of keys", keys->n * sizeof(qn_name));
    }
    for (size_t i = 0; i < keys->n; i++) {
        keys->index.names[i] = (qn_name){.data = keys->items[i].key.data, .len = keys->items[i].key.len, .number = i};
    }
    size_t first;
    size_t second;
    if (!qn_name_index_sort(&keys->index, &first, &second)) {
        qn_span key = keys->items[second].key;
        QN_FAIL(r->err, QUERN_ERROR_INVALID,
                "%s: key '%.*s' is there twice, as number %zu and number %zu (at byte %zu); a key may be there once", r->path,
                qn_name_shown(key.data, key.len), key.data, first, second, (size_t)((const uint8_t *)key.data - r->data) - 8);
    }
done:
    return status;
}

void qn_gguf_keys_deinit(qn_gguf_keys *keys)
{
    qn_free(keys->items);
    qn_name_index_deinit(&keys->index);
    *keys = (qn_gguf_keys){0};
}

const qn_gguf_value *qn_gguf_keys_find(const qn_gguf_keys *keys, const char *key)
{
    size_t i;
    return qn_name_index_find(&keys->index, key, strlen(key), &i) ? &keys->items[i] : NULL;
}

/* Types that exist or existed but that this program has no decoder for. */
static const char *unreadable_type(uint32_t id, bool *removed)
{
    static const struct {
        uint32_t id;
        const char *name; /* NULL: taken out of the format */
    } rows[] = {{4, NULL},     {5, NULL},     {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
                {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"}, {29, "IQ1_M"}, {31, NULL},      {32, NULL},     {33, NULL},
                {36, NULL},    {37, NULL},    {38, NULL},    {40, "NVFP4"}, {41, "Q1_0"},    {42, "Q2_0"}};
    *removed = false;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].id == id) {
            *removed = rows[i].name == NULL;
            return rows[i].name;
        }
    }
    return NULL;
}

static quern_status check_type(const reader *r, uint32_t id, qn_tensor *t, qn_span name, size_t begin)
{
    bool removed;
    if (qn_dtype_from_ggml_id(id, &t->dtype)) {
        return QUERN_OK;
    }
    int shown = qn_name_shown(name.data, name.len);
    const char *known = unreadable_type(id, &removed);
    if (known != NULL) {
        return qn_error_set(r->err, QUERN_ERROR_UNSUPPORTED,
                            "%s: tensor '%.*s' (entry at byte %zu) has type %s, which this version cannot read", r->path, shown, name.data,
                            begin, known);
    }
    return qn_error_set(r->err, QUERN_ERROR_INVALID,
                        "%s: tensor '%.*s' (entry at byte %zu) has %s type number %" PRIu32
                        " (expected one of the types that GGUF defines)",
                        r->path, shown, name.data, begin, removed ? "the removed" : "the unknown", id);
}

/* One entry; `file_offset` of the result still counts from the data. */
static quern_status read_tensor(reader *r, qn_tensor *t, qn_arena *arena)
{
    quern_status status = QUERN_OK;
    size_t begin = r->at;
    qn_span name;
    uint32_t type;
    const char *why;
    *t = (qn_tensor){0};
    QN_TRY(read_string(r, &name, "a tensor's name"));
    if (!qn_tensor_name_valid(name.data, name.len)) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID,
                "%s: the tensor entry at byte %zu has a name of %zu bytes that is no text (expected 1 to %u bytes of UTF-8)", r->path,
                begin, name.len, QN_TENSOR_NAME_MAX);
    }
    int shown = qn_name_shown(name.data, name.len);
    QN_TRY(read_u32(r, &t->n_dims, "a tensor's number of dimensions"));
    if (t->n_dims < 1 || t->n_dims > QN_GGUF_DIMS_MAX) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: tensor '%.*s' (entry at byte %zu) has %" PRIu32 " dimensions (expected 1 to %u)", r->path,
                shown, name.data, begin, t->n_dims, QN_GGUF_DIMS_MAX);
    }
    for (uint32_t i = 0; i < t->n_dims; i++) {
        uint64_t *dim = &t->shape[t->n_dims - 1 - i];
        QN_TRY(read_u64(r, dim, "a tensor's dimensions"));
        if (*dim == 0) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: tensor '%.*s' (entry at byte %zu): dimension %" PRIu32 " is 0 (expected at least 1)",
                    r->path, shown, name.data, begin, i);
        }
    }
    QN_TRY(read_u32(r, &type, "a tensor's type"));
    QN_TRY(read_u64(r, &t->file_offset, "a tensor's offset"));
    QN_TRY(check_type(r, type, t, name, begin));
    if (!qn_tensor_measure(t, &why)) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID,
                "%s: tensor '%.*s' (entry at byte %zu), type %s with rows of %" PRIu64 " elements in blocks of %" PRIu32 ": %s", r->path,
                shown, name.data, begin, qn_dtype_get(t->dtype)->name, t->shape[t->n_dims - 1], qn_dtype_get(t->dtype)->block_size, why);
    }
    t->name = qn_arena_strndup(arena, name.data, name.len);
    if (t->name == NULL) {
        QN_FAIL_MEMORY(r->err, "the index of tensors", name.len + 1);
    }
done:
    return status;
}

static quern_status read_alignment(const reader *r, const qn_gguf_keys *keys, uint32_t *alignment)
{
    quern_status status = QUERN_OK;
    uint64_t v = QN_GGUF_ALIGNMENT_DEFAULT;
    bool found;
    QN_TRY(qn_gguf_keys_get_u64(keys, r->path, "general.alignment", &v, &found, r->err));
    if (v < QN_GGUF_ALIGNMENT_MIN || v > QN_GGUF_ALIGNMENT_MAX || (v & (v - 1)) != 0) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: key 'general.alignment' is %" PRIu64 " (expected a power of two from %u to %u)", r->path,
                v, QN_GGUF_ALIGNMENT_MIN, QN_GGUF_ALIGNMENT_MAX);
    }
    *alignment = (uint32_t)v;
done:
    return status;
}

/* Gives every tensor its bytes, now that the begin of the data is known. */
static quern_status place_tensors(const reader *r, qn_tensor *tensors, size_t n, uint32_t file_index, uint32_t alignment)
{
    quern_status status = QUERN_OK;
    size_t data_begin = qn_align_up(r->at, alignment);
    for (size_t i = 0; i < n; i++) {
        qn_tensor *t = &tensors[i];
        int shown = qn_name_shown(t->name, strlen(t->name));
        if (t->file_offset % alignment != 0) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: tensor '%.*s': offset %" PRIu64 " is no multiple of the alignment %" PRIu32, r->path,
                    shown, t->name, t->file_offset, alignment);
        }
        uint64_t have = data_begin < r->size ? r->size - data_begin : 0;
        if (t->file_offset > have || t->n_bytes > have - t->file_offset) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID,
                    "%s: tensor '%.*s': %zu bytes at offset %" PRIu64 " of the data (which begins at byte %zu) go past the"
                    " end of the file (%zu bytes); the file is cut off or its header is wrong",
                    r->path, shown, t->name, t->n_bytes, t->file_offset, data_begin, r->size);
        }
        t->file_offset += data_begin;
        t->file_index = file_index;
        t->data = r->data + t->file_offset;
    }
    QN_TRY(qn_tensor_check_overlap(tensors, n, r->path, r->err));
done:
    return status;
}

static quern_status read_start(reader *r, uint32_t *version, uint64_t *n_tensors, uint64_t *n_keys)
{
    quern_status status = QUERN_OK;
    QN_TRY(need(r, 4, "the magic number"));
    if (memcmp(r->data, "GGUF", 4) != 0) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: not a GGUF file: begins with bytes %02x %02x %02x %02x (expected \"GGUF\")", r->path,
                r->data[0], r->data[1], r->data[2], r->data[3]);
    }
    r->at = 4;
    QN_TRY(read_u32(r, version, "the version"));
    if (*version != 0 && (*version & 0xffffu) == 0) {
        QN_FAIL(r->err, QUERN_ERROR_UNSUPPORTED, "%s: the version at byte 4 is in big-endian order; only little-endian GGUF is read",
                r->path);
    }
    if (*version != 2 && *version != 3) {
        QN_FAIL(r->err, QUERN_ERROR_UNSUPPORTED, "%s: GGUF version %" PRIu32 " (at byte 4) is not read, expected 2 or 3", r->path,
                *version);
    }
    QN_TRY(read_u64(r, n_tensors, "the number of tensors"));
    QN_TRY(read_u64(r, n_keys, "the number of keys"));
    uint64_t left = r->size - r->at;
    if (*n_keys > left / KEY_MIN_BYTES) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: the header (byte 16) says %" PRIu64 " keys, more than the %zu bytes of the file can hold",
                r->path, *n_keys, r->size);
    }
    if (*n_tensors > left / TENSOR_MIN_BYTES) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID,
                "%s: the header (byte 8) says %" PRIu64 " tensors, more than the %zu bytes of the file can hold", r->path, *n_tensors,
                r->size);
    }
done:
    return status;
}

quern_status qn_gguf_parse_file(const uint8_t *data, size_t size, const char *path, uint32_t file_index, uint32_t *version,
                                qn_gguf_keys *keys, qn_tensor_list *tensors, qn_arena *arena, quern_error *err)
{
    quern_status status = QUERN_OK;
    reader r = {.path = path, .data = data, .size = size, .err = err};
    uint64_t n_tensors;
    uint64_t n_keys;
    uint32_t alignment = QN_GGUF_ALIGNMENT_DEFAULT;
    size_t first = tensors->n;
    QN_TRY(read_start(&r, version, &n_tensors, &n_keys));
    QN_TRY(read_keys(&r, n_keys, keys));
    QN_TRY(read_alignment(&r, keys, &alignment));
    for (uint64_t i = 0; i < n_tensors; i++) {
        void *items = tensors->items;
        if (!grow(&items, &tensors->cap, tensors->n, sizeof *tensors->items, first + n_tensors)) {
            QN_FAIL_MEMORY(err, "the index of tensors", (tensors->cap + 64) * sizeof *tensors->items);
        }
        tensors->items = items;
        QN_TRY(read_tensor(&r, &tensors->items[tensors->n], arena));
        tensors->n++;
    }
    if (tensors->n > first) {
        QN_TRY(place_tensors(&r, tensors->items + first, tensors->n - first, file_index, alignment));
    }
done:
    return status;
}
