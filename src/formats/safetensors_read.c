/* safetensors_read.c - opening one file or the shards of a folder, and looking up tensors. */
#include "formats/safetensors_read.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/name_index.h"
#include "formats/safetensors_int.h"

/* The largest published index is below 10 MB. */
#define INDEX_BYTES_MAX (64u << 20)

typedef struct st_file {
    qn_mapping bytes; /* empty for memory that the caller owns */
    size_t size;
    char *path;
} st_file;

struct qn_safetensors {
    char *path; /* as given: file or folder */
    st_file *files;
    size_t n_files;
    qn_st_tensors tensors;
    qn_name_index index;
    qn_st_pairs metadata; /* of the first file */
    qn_arena arena;       /* names and metadata */
};

static quern_status create(qn_safetensors **out, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_safetensors *s = qn_calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL) {
        QN_FAIL_MEMORY(err, path, sizeof *s);
    }
    qn_arena_init(&s->arena, 0);
    s->path = qn_strdup(path);
    if (s->path == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path) + 1);
    }
    *out = s;
    s = NULL;
done:
    qn_safetensors_close(s);
    return status;
}

void qn_safetensors_close(qn_safetensors *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->n_files; i++) {
        qn_mapping_close(&s->files[i].bytes);
        qn_free(s->files[i].path);
    }
    qn_free(s->files);
    qn_free(s->tensors.items);
    qn_free(s->metadata.items);
    qn_name_index_deinit(&s->index);
    qn_arena_deinit(&s->arena);
    qn_free(s->path);
    qn_free(s);
}

/* Its length comes first; whether it can be true is for the parser to say. */
static void fetch_header(const qn_mapping *m)
{
    enum { LENGTH_BYTES = 8, FETCHED_BYTES_MAX = 8 << 20 };
    qn_mapping_fetch_first(m, LENGTH_BYTES);
    if (m->size >= LENGTH_BYTES) {
        const uint64_t n = qn_load_u64(m->data);
        qn_mapping_fetch_first(m, n < FETCHED_BYTES_MAX ? (size_t)n + LENGTH_BYTES : FETCHED_BYTES_MAX);
    }
}

/* Adds a file under a path that becomes its own (also on failure). With data NULL the file is opened. */
static quern_status add_file(qn_safetensors *s, char *path, const uint8_t *data, size_t size, bool copy, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_st_pairs forgotten = {0};
    st_file f = {.path = path, .size = size};
    if (path == NULL) {
        QN_FAIL_MEMORY(err, s->path, strlen(s->path) + 1);
    }
    void *files = qn_realloc_array(s->files, s->n_files + 1, sizeof *s->files);
    if (files == NULL) {
        qn_free(path);
        QN_FAIL_MEMORY(err, "the list of shards", (s->n_files + 1) * sizeof *s->files);
    }
    s->files = files;
    s->files[s->n_files++] = f;
    st_file *slot = &s->files[s->n_files - 1];
    if (data == NULL) {
        QN_TRY(copy ? qn_mapping_read(&slot->bytes, path, err) : qn_mapping_open(&slot->bytes, path, err));
        data = slot->bytes.data;
        slot->size = slot->bytes.size;
    }
    fetch_header(&slot->bytes);
    QN_TRY(qn_safetensors_parse_file(data, slot->size, path, (uint32_t)(s->n_files - 1), &s->tensors,
                                     s->n_files == 1 ? &s->metadata : &forgotten, &s->arena, err));
done:
    qn_free(forgotten.items);
    return status;
}

static quern_status index_tensors(qn_safetensors *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t first;
    size_t second;
    if (!qn_name_index_init(&s->index, s->tensors.n)) {
        QN_FAIL_MEMORY(err, "the index of tensors", s->tensors.n * sizeof(qn_name));
    }
    for (size_t i = 0; i < s->tensors.n; i++) {
        const char *name = s->tensors.items[i].name;
        s->index.names[i] = (qn_name){.data = name, .len = strlen(name), .number = i};
    }
    if (!qn_name_index_sort(&s->index, &first, &second)) {
        const qn_tensor *a = &s->tensors.items[first];
        const qn_tensor *b = &s->tensors.items[second];
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor '%.*s' is there twice, in %s and in %s; a tensor may be there once", s->path,
                qn_name_shown(a->name, strlen(a->name)), a->name, qn_path_base(s->files[a->file_index].path),
                qn_path_base(s->files[b->file_index].path));
    }
done:
    return status;
}

static quern_status open_one(qn_safetensors **out, const char *path, const uint8_t *data, size_t size, bool copy, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_safetensors *s = NULL;
    *out = NULL;
    QN_TRY(create(&s, path, err));
    QN_TRY(add_file(s, qn_strdup(path), data, size, copy, err));
    QN_TRY(index_tensors(s, err));
    *out = s;
    s = NULL;
done:
    qn_safetensors_close(s);
    return status;
}

quern_status qn_safetensors_open(qn_safetensors **out, const char *path, bool copy, quern_error *err)
{
    return open_one(out, path, NULL, 0, copy, err);
}

quern_status qn_safetensors_parse(qn_safetensors **out, const uint8_t *data, size_t size, const char *what, quern_error *err)
{
    static const uint8_t nothing[1];
    return open_one(out, what, data != NULL ? data : nothing, data != NULL ? size : 0, false, err);
}

/* ---- folders ---- */

static int compare_shards(const void *x, const void *y)
{
    const char *const *a = x;
    const char *const *b = y;
    return strcmp(*a, *b);
}

/* Opens every file that the map names, once each, in the order of their names. */
static quern_status open_shards(qn_safetensors *s, const qn_st_pairs *map, bool copy, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char **shards = qn_malloc_array(map->n, sizeof *shards);
    if (shards == NULL) {
        QN_FAIL_MEMORY(err, "the list of shards", map->n * sizeof *shards);
    }
    for (size_t i = 0; i < map->n; i++) {
        shards[i] = map->items[i].value;
    }
    qsort(shards, map->n, sizeof *shards, compare_shards);
    for (size_t i = 0; i < map->n; i++) {
        if (i > 0 && strcmp(shards[i], shards[i - 1]) == 0) {
            continue;
        }
        QN_TRY(add_file(s, qn_path_join(s->path, shards[i]), NULL, 0, copy, err));
    }
done:
    qn_free(shards);
    return status;
}

/* Every tensor of the map must stand in the shard it is mapped to. */
static quern_status check_map(const qn_safetensors *s, const qn_st_pairs *map, const char *index_path, quern_error *err)
{
    for (size_t i = 0; i < map->n; i++) {
        const qn_st_pair *pair = &map->items[i];
        const qn_tensor *t = qn_safetensors_find(s, pair->name);
        int shown = qn_name_shown(pair->name, strlen(pair->name));
        if (t == NULL) {
            return qn_error_set(err, QUERN_ERROR_INVALID, "%s: weight_map puts tensor '%.*s' into %s, but no shard has it", index_path,
                                shown, pair->name, pair->value);
        }
        const char *shard = qn_path_base(s->files[t->file_index].path);
        if (strcmp(shard, pair->value) != 0) {
            return qn_error_set(err, QUERN_ERROR_INVALID, "%s: weight_map puts tensor '%.*s' into %s, but it stands in %s", index_path,
                                shown, pair->name, pair->value, shard);
        }
    }
    return QUERN_OK;
}

static quern_status open_indexed(qn_safetensors *s, const char *index_path, bool copy, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *json = NULL;
    size_t size = 0;
    qn_st_pairs map = {0};
    QN_TRY(qn_file_read(&json, &size, index_path, INDEX_BYTES_MAX, err));
    QN_TRY(qn_safetensors_parse_index(json, size, index_path, &map, &s->arena, err));
    QN_TRY(open_shards(s, &map, copy, err));
    QN_TRY(index_tensors(s, err));
    QN_TRY(check_map(s, &map, index_path, err));
done:
    qn_free(map.items);
    qn_free(json);
    return status;
}

quern_status qn_safetensors_open_dir(qn_safetensors **out, const char *dir, bool copy, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_safetensors *s = NULL;
    char *single = qn_path_join(dir, "model.safetensors");
    char *index_path = qn_path_join(dir, "model.safetensors.index.json");
    bool is_single;
    bool is_indexed = false;
    *out = NULL;
    if (single == NULL || index_path == NULL) {
        QN_FAIL_MEMORY(err, dir, 2 * strlen(dir));
    }
    QN_TRY(create(&s, dir, err));
    QN_TRY(qn_file_find(single, &is_single, err));
    QN_TRY(is_single ? QUERN_OK : qn_file_find(index_path, &is_indexed, err));
    if (is_single) { /* first, as transformers has it: an index beside it may be left over from an older version */
        QN_TRY(add_file(s, qn_strdup(single), NULL, 0, copy, err));
        QN_TRY(index_tensors(s, err));
    } else if (is_indexed) {
        QN_TRY(open_indexed(s, index_path, copy, err));
    } else {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND,
                "%s: has neither model.safetensors nor model.safetensors.index.json (weights in pickle files, .bin or .pt, are"
                " not read)",
                dir);
    }
    *out = s;
    s = NULL;
done:
    qn_safetensors_close(s);
    qn_free(single);
    qn_free(index_path);
    return status;
}

quern_status qn_safetensors_open_files(qn_safetensors **out, const char *what, const char *const *paths, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_safetensors *s = NULL;
    *out = NULL;
    QN_TRY(create(&s, what, err));
    for (size_t i = 0; i < n; i++) {
        QN_TRY(add_file(s, qn_strdup(paths[i]), NULL, 0, false, err));
    }
    QN_TRY(index_tensors(s, err));
    *out = s;
    s = NULL;
done:
    qn_safetensors_close(s);
    return status;
}

/* ---- looking up ---- */

const char *qn_safetensors_path(const qn_safetensors *s) { return s->path; }
size_t qn_safetensors_n_files(const qn_safetensors *s) { return s->n_files; }
const char *qn_safetensors_file_path(const qn_safetensors *s, size_t i) { return i < s->n_files ? s->files[i].path : NULL; }
uint64_t qn_safetensors_file_bytes(const qn_safetensors *s, size_t i) { return i < s->n_files ? s->files[i].size : 0; }
const qn_mapping *qn_safetensors_file_mapping(const qn_safetensors *s, size_t i)
{
    return i < s->n_files && s->files[i].bytes.data != NULL ? &s->files[i].bytes : NULL;
}
size_t qn_safetensors_n_tensors(const qn_safetensors *s) { return s->tensors.n; }
const qn_tensor *qn_safetensors_tensor_at(const qn_safetensors *s, size_t i) { return i < s->tensors.n ? &s->tensors.items[i] : NULL; }

const qn_tensor *qn_safetensors_find(const qn_safetensors *s, const char *name)
{
    size_t i;
    return qn_name_index_find(&s->index, name, strlen(name), &i) ? &s->tensors.items[i] : NULL;
}

const char *qn_safetensors_metadata(const qn_safetensors *s, const char *key)
{
    for (size_t i = 0; i < s->metadata.n; i++) {
        if (strcmp(s->metadata.items[i].name, key) == 0) {
            return s->metadata.items[i].value;
        }
    }
    return NULL;
}

size_t qn_safetensors_n_metadata(const qn_safetensors *s) { return s->metadata.n; }

const char *qn_safetensors_metadata_at(const qn_safetensors *s, size_t i, const char **value)
{
    *value = i < s->metadata.n ? s->metadata.items[i].value : NULL;
    return i < s->metadata.n ? s->metadata.items[i].name : NULL;
}
