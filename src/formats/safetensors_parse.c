/* safetensors_parse.c - a header's JSON, token by token: no tree, so memory grows with the tensors that are there. */
#include "formats/safetensors_int.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/json_tokens.h"

typedef struct reader {
    const char *path;
    qn_json_tokens scan;
    size_t json_begin; /* place of the JSON in its file, for messages */
    qn_arena *arena;
    quern_error *err;
} reader;

static quern_status fail_token(const reader *r, const char *where, const char *expected)
{
    return qn_error_set(r->err, QUERN_ERROR_INVALID, "%s: JSON at byte %zu, %s: found %s, expected %s", r->path,
                        r->json_begin + r->scan.begin, where, qn_json_token_text(r->scan.token), expected);
}

static quern_status expect(reader *r, qn_json_token token, const char *where)
{
    return qn_json_tokens_next(&r->scan) == token ? QUERN_OK : fail_token(r, where, qn_json_token_text(token));
}

/* The string token as NUL-terminated text from the arena; strings with a NUL inside are refused. */
static quern_status take_string(const reader *r, const char **out, const char *where)
{
    quern_status status = QUERN_OK;
    size_t room = r->scan.end - r->scan.begin;
    char *text = qn_arena_alloc(r->arena, room + 1);
    if (text == NULL) {
        QN_FAIL_MEMORY(r->err, "the names of a safetensors file", room + 1);
    }
    size_t len = qn_json_tokens_string(&r->scan, text);
    if (memchr(text, '\0', len) != NULL) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: JSON at byte %zu, %s: a string with a NUL in it (expected plain text)", r->path,
                r->json_begin + r->scan.begin, where);
    }
    text[len] = '\0';
    *out = text;
done:
    return status;
}

/* True if the string token spells `text` (which needs no escapes). */
static bool token_is(const reader *r, const char *text)
{
    size_t len = r->scan.end - r->scan.begin;
    return r->scan.token == QN_JSON_TOKEN_STRING && len == strlen(text) && memcmp(r->scan.data + r->scan.begin, text, len) == 0;
}

static bool grow(void **items, size_t *cap, size_t n, size_t item_bytes)
{
    if (n < *cap) {
        return true;
    }
    size_t more = *cap < 64 ? 64 : *cap * 2;
    void *p = qn_realloc_array(*items, more, item_bytes);
    if (p != NULL) {
        *items = p;
        *cap = more;
    }
    return p != NULL;
}

/* Steps to the next item of an array or object that ends with `closer`; at its end *more is false. `first` begins as true. */
static quern_status next_item(reader *r, qn_json_token closer, bool *first, bool *more, const char *where)
{
    (void)qn_json_tokens_next(&r->scan);
    *more = r->scan.token != closer;
    if (*more && !*first) {
        if (r->scan.token != QN_JSON_TOKEN_COMMA) {
            return fail_token(r, where, closer == QN_JSON_TOKEN_OBJECT_END ? "',' or '}'" : "',' or ']'");
        }
        (void)qn_json_tokens_next(&r->scan);
    }
    *first = false;
    if (*more && closer == QN_JSON_TOKEN_OBJECT_END && r->scan.token != QN_JSON_TOKEN_STRING) {
        return fail_token(r, where, "a key");
    }
    return QUERN_OK;
}

/* An object of strings, from its '{' on. */
static quern_status read_string_pairs(reader *r, qn_st_pairs *pairs, const char *where)
{
    quern_status status = QUERN_OK;
    bool first = true;
    bool more;
    QN_TRY(expect(r, QN_JSON_TOKEN_OBJECT, where));
    for (;;) {
        qn_st_pair pair = {0};
        QN_TRY(next_item(r, QN_JSON_TOKEN_OBJECT_END, &first, &more, where));
        if (!more) {
            break;
        }
        QN_TRY(take_string(r, &pair.name, where));
        QN_TRY(expect(r, QN_JSON_TOKEN_COLON, where));
        QN_TRY(expect(r, QN_JSON_TOKEN_STRING, where));
        QN_TRY(take_string(r, &pair.value, where));
        void *items = pairs->items;
        if (!grow(&items, &pairs->cap, pairs->n, sizeof *pairs->items)) {
            QN_FAIL_MEMORY(r->err, where, pairs->cap * sizeof *pairs->items);
        }
        pairs->items = items;
        pairs->items[pairs->n++] = pair;
    }
done:
    return status;
}

/* ---- a tensor's entry ---- */

/* An array of at most `max` integers, from its '[' on. */
static quern_status read_numbers(reader *r, uint64_t *out, uint32_t max, uint32_t *n, const char *where)
{
    quern_status status = QUERN_OK;
    bool first = true;
    bool more;
    *n = 0;
    QN_TRY(expect(r, QN_JSON_TOKEN_ARRAY, where));
    for (;;) {
        QN_TRY(next_item(r, QN_JSON_TOKEN_ARRAY_END, &first, &more, where));
        if (!more) {
            break;
        }
        if (*n == max) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: JSON at byte %zu, %s: more than %" PRIu32 " numbers", r->path,
                    r->json_begin + r->scan.begin, where, max);
        }
        if (!qn_json_tokens_u64(&r->scan, &out[*n])) {
            return fail_token(r, where, "an integer from 0 to 2^64 - 1");
        }
        (*n)++;
    }
done:
    return status;
}

static quern_status read_dtype(reader *r, qn_tensor *t)
{
    quern_status status = QUERN_OK;
    char name[16] = "";
    QN_TRY(expect(r, QN_JSON_TOKEN_STRING, "the dtype of a tensor"));
    size_t len = r->scan.end - r->scan.begin;
    if (len < sizeof name) {
        name[qn_json_tokens_string(&r->scan, name)] = '\0';
    }
    if (!qn_dtype_from_safetensors(name, &t->dtype)) {
        QN_FAIL(r->err, QUERN_ERROR_UNSUPPORTED,
                "%s: JSON at byte %zu: tensor '%.*s' has dtype '%.*s', which is not read (expected F64 F32 F16 BF16"
                " F8_E4M3 F8_E5M2, I8 to I64, U8 to U64 or BOOL)",
                r->path, r->json_begin + r->scan.begin, qn_name_shown(t->name, strlen(t->name)), t->name,
                qn_name_shown(r->scan.data + r->scan.begin, len), r->scan.data + r->scan.begin);
    }
done:
    return status;
}

/* The value of one tensor, from its '{' on. `span` receives data_offsets. */
static quern_status read_entry(reader *r, qn_tensor *t, uint64_t span[2])
{
    enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4, ALL = 7 };
    quern_status status = QUERN_OK;
    unsigned seen = 0;
    uint32_t n_offsets = 0;
    bool first = true;
    bool more;
    QN_TRY(expect(r, QN_JSON_TOKEN_OBJECT, "the entry of a tensor"));
    for (;;) {
        QN_TRY(next_item(r, QN_JSON_TOKEN_OBJECT_END, &first, &more, "the entry of a tensor"));
        if (!more) {
            break;
        }
        unsigned field = token_is(r, "dtype") ? DTYPE : token_is(r, "shape") ? SHAPE : token_is(r, "data_offsets") ? OFFSETS : 0u;
        if (field == 0 || (seen & field) != 0) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID,
                    "%s: JSON at byte %zu: tensor '%.*s' has %s (expected dtype, shape and data_offsets, once each)", r->path,
                    r->json_begin + r->scan.begin, qn_name_shown(t->name, strlen(t->name)), t->name,
                    field == 0 ? "an unknown field" : "a field twice");
        }
        seen |= field;
        QN_TRY(expect(r, QN_JSON_TOKEN_COLON, "the entry of a tensor"));
        if (field == DTYPE) {
            QN_TRY(read_dtype(r, t));
        } else if (field == SHAPE) {
            QN_TRY(read_numbers(r, t->shape, QN_TENSOR_DIMS_MAX, &t->n_dims, "the shape of a tensor"));
        } else {
            QN_TRY(read_numbers(r, span, 2, &n_offsets, "the data_offsets of a tensor"));
        }
    }
    if (seen != ALL || n_offsets != 2) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID,
                "%s: JSON at byte %zu: the entry of tensor '%.*s' is not complete (expected dtype, shape and two data_offsets)", r->path,
                r->json_begin + r->scan.begin, qn_name_shown(t->name, strlen(t->name)), t->name);
    }
done:
    return status;
}

/* The last token is the tensor's name. */
static quern_status read_tensor(reader *r, qn_tensor *t, uint64_t data_bytes)
{
    quern_status status = QUERN_OK;
    uint64_t span[2] = {0, 0};
    size_t at = r->json_begin + r->scan.begin;
    const char *why = "";
    *t = (qn_tensor){0};
    QN_TRY(take_string(r, &t->name, "the name of a tensor"));
    size_t len = strlen(t->name);
    if (!qn_tensor_name_valid(t->name, len)) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: JSON at byte %zu: a tensor's name has %zu bytes (expected 1 to %u)", r->path, at, len,
                QN_TENSOR_NAME_MAX);
    }
    int shown = qn_name_shown(t->name, len);
    QN_TRY(expect(r, QN_JSON_TOKEN_COLON, "the list of tensors"));
    QN_TRY(read_entry(r, t, span));
    if (!qn_tensor_measure(t, &why)) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: tensor '%.*s' (JSON at byte %zu): %s", r->path, shown, t->name, at, why);
    }
    if (span[0] > span[1] || span[1] > data_bytes) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID,
                "%s: tensor '%.*s' (JSON at byte %zu): data_offsets %" PRIu64 " to %" PRIu64 " do not lie in the %" PRIu64
                " bytes of data; the file is cut off or its header is wrong",
                r->path, shown, t->name, at, span[0], span[1], data_bytes);
    }
    if (span[1] - span[0] != t->n_bytes) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID,
                "%s: tensor '%.*s' (JSON at byte %zu): data_offsets span %" PRIu64 " bytes, but its shape as %s needs %zu", r->path, shown,
                t->name, at, span[1] - span[0], qn_dtype_get(t->dtype)->name, t->n_bytes);
    }
    t->file_offset = span[0];
done:
    return status;
}

/* ---- a file ---- */

/* In the order of the data; an empty tensor before the one that begins at the same place. */
static int compare_places(const void *x, const void *y)
{
    const qn_tensor *a = x;
    const qn_tensor *b = y;
    if (a->file_offset != b->file_offset) {
        return a->file_offset < b->file_offset ? -1 : 1;
    }
    return a->n_bytes != b->n_bytes ? (a->n_bytes < b->n_bytes ? -1 : 1) : strcmp(a->name, b->name);
}

/* Sorts the tensors, checks that they cover the data exactly, and turns offsets into places of the file. */
static quern_status place_tensors(const reader *r, qn_tensor *tensors, size_t n, const uint8_t *data, uint64_t data_bytes,
                                  uint32_t file_index)
{
    quern_status status = QUERN_OK;
    uint64_t at = 0;
    uint64_t data_begin = r->json_begin + r->scan.size;
    if (n > 0) {
        qsort(tensors, n, sizeof *tensors, compare_places);
    }
    for (size_t i = 0; i < n; i++) {
        qn_tensor *t = &tensors[i];
        if (t->file_offset != at) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID,
                    "%s: tensor '%.*s' begins at offset %" PRIu64 " of the data, but the tensors before it end at %" PRIu64 ": %s", r->path,
                    qn_name_shown(t->name, strlen(t->name)), t->name, t->file_offset, at,
                    t->file_offset < at ? "tensors must not overlap" : "the format allows no unused bytes");
        }
        at += t->n_bytes;
        t->file_offset += data_begin;
        t->file_index = file_index;
        t->data = data + t->file_offset;
    }
    if (at != data_bytes) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID,
                "%s: %" PRIu64 " bytes follow the last tensor, which ends at byte %" PRIu64 " (expected the end of the file)", r->path,
                data_bytes - at, data_begin + at);
    }
done:
    return status;
}

static quern_status read_start(const uint8_t *data, size_t size, const char *path, size_t *json_bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (size < 8) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: %zu bytes are no safetensors file (expected 8 bytes of header length first)", path, size);
    }
    uint64_t n = qn_load_u64(data);
    if (n > size - 8) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: the header (length at byte 0) has %" PRIu64 " bytes, more than the file has left (%zu); the file is cut off"
                " or no safetensors file",
                path, n, size - 8);
    }
    if (n < 2 || n > QN_SAFETENSORS_HEADER_MAX) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: the header (length at byte 0) has %" PRIu64 " bytes (expected 2 to %u)", path, n,
                QN_SAFETENSORS_HEADER_MAX);
    }
    *json_bytes = (size_t)n;
done:
    return status;
}

quern_status qn_safetensors_parse_file(const uint8_t *data, size_t size, const char *path, uint32_t file_index, qn_st_tensors *tensors,
                                       qn_st_pairs *metadata, qn_arena *arena, quern_error *err)
{
    quern_status status = QUERN_OK;
    reader r = {.path = path, .json_begin = 8, .arena = arena, .err = err};
    size_t first_tensor = tensors->n;
    size_t json_bytes = 0;
    bool has_metadata = false;
    bool first = true;
    bool more;
    QN_TRY(read_start(data, size, path, &json_bytes, err));
    uint64_t data_bytes = size - 8 - json_bytes;
    qn_json_tokens_init(&r.scan, (const char *)data + 8, json_bytes);
    QN_TRY(expect(&r, QN_JSON_TOKEN_OBJECT, "the header"));
    for (;;) {
        QN_TRY(next_item(&r, QN_JSON_TOKEN_OBJECT_END, &first, &more, "the list of tensors"));
        if (!more) {
            break;
        }
        if (token_is(&r, "__metadata__")) {
            if (has_metadata) {
                QN_FAIL(err, QUERN_ERROR_INVALID, "%s: JSON at byte %zu: __metadata__ is there twice", path, 8 + r.scan.begin);
            }
            has_metadata = true;
            QN_TRY(expect(&r, QN_JSON_TOKEN_COLON, "the list of tensors"));
            qn_json_tokens ahead = r.scan;
            if (qn_json_tokens_next(&ahead) == QN_JSON_TOKEN_NULL) { /* as MLX writes it where there is none */
                r.scan = ahead;
            } else {
                QN_TRY(read_string_pairs(&r, metadata, "__metadata__"));
            }
            continue;
        }
        void *items = tensors->items;
        if (!grow(&items, &tensors->cap, tensors->n, sizeof *tensors->items)) {
            QN_FAIL_MEMORY(err, "the index of tensors", tensors->cap * sizeof *tensors->items);
        }
        tensors->items = items;
        QN_TRY(read_tensor(&r, &tensors->items[tensors->n], data_bytes));
        tensors->n++;
    }
    QN_TRY(expect(&r, QN_JSON_TOKEN_END, "behind the header"));
    if (tensors->n > first_tensor || data_bytes > 0) {
        qn_tensor *own = tensors->items != NULL ? tensors->items + first_tensor : NULL; /* no tensor at all, but data */
        QN_TRY(place_tensors(&r, own, tensors->n - first_tensor, data, data_bytes, file_index));
    }
done:
    return status;
}

/* ---- the index of shards ---- */

static bool is_shard_name(const char *name)
{
    static const char suffix[] = ".safetensors";
    size_t len = strlen(name);
    return qn_path_is_plain_name(name, len) && len > sizeof suffix - 1 && strcmp(name + len - (sizeof suffix - 1), suffix) == 0;
}

quern_status qn_safetensors_parse_index(const char *json, size_t size, const char *path, qn_st_pairs *map, qn_arena *arena,
                                        quern_error *err)
{
    quern_status status = QUERN_OK;
    reader r = {.path = path, .arena = arena, .err = err};
    bool has_map = false;
    bool first = true;
    bool more;
    qn_json_tokens_init(&r.scan, json, size);
    QN_TRY(expect(&r, QN_JSON_TOKEN_OBJECT, "the index"));
    for (;;) {
        QN_TRY(next_item(&r, QN_JSON_TOKEN_OBJECT_END, &first, &more, "the index"));
        if (!more) {
            break;
        }
        bool is_map = token_is(&r, "weight_map");
        if (is_map && has_map) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: JSON at byte %zu: weight_map is there twice", path, r.scan.begin);
        }
        QN_TRY(expect(&r, QN_JSON_TOKEN_COLON, "the index"));
        if (is_map) {
            has_map = true;
            QN_TRY(read_string_pairs(&r, map, "weight_map"));
        } else {
            (void)qn_json_tokens_next(&r.scan);
            if (!qn_json_tokens_skip(&r.scan)) {
                QN_FAIL(err, QUERN_ERROR_INVALID, "%s: JSON at byte %zu: not well formed, or nested deeper than 512", path, r.scan.begin);
            }
        }
    }
    QN_TRY(expect(&r, QN_JSON_TOKEN_END, "behind the index"));
    if (map->n == 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key 'weight_map' is missing or empty (expected an object of tensor names and files)", path);
    }
    for (size_t i = 0; i < map->n; i++) {
        if (!is_shard_name(map->items[i].value)) {
            const char *value = map->items[i].value;
            QN_FAIL(err, QUERN_ERROR_INVALID,
                    "%s: weight_map puts tensor '%.*s' into '%.*s' (expected the plain name of a .safetensors file in the same"
                    " folder)",
                    path, qn_name_shown(map->items[i].name, strlen(map->items[i].name)), map->items[i].name,
                    qn_name_shown(value, strlen(value)), value);
        }
    }
done:
    return status;
}
