/* inspect_listing.c - whether an output holds what a manifest lists, and nothing else: its files, and its tensors with types and shapes.
 *
 * The manifest is untrusted: what it lists is looked for in the file, never the other way round, and counted by sorted lists. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/name_index.h"
#include "model/folder_files.h"
#include "model/inspect_int.h"
#include "quant/dtype.h"

enum { LISTED_MAX = 1 << 20, NAME_BYTES = 192 };

static quern_status fail(const qn_listing *l, const char *name, const char *what)
{
    return qn_error_set(l->err, QUERN_ERROR_INVALID, "%s: tensor %.*s %s %s says", l->path, qn_name_shown(name, strlen(name)), name, what,
                        l->manifest);
}

static const qn_tensor *find(const qn_listing *l, const char *name)
{
    return l->gguf != NULL ? qn_gguf_find_tensor(l->gguf, name) : qn_safetensors_find(l->safetensors, name);
}

static const qn_tensor *find_beside(const qn_listing *l, const char *weight, const char *suffix)
{
    char name[NAME_BYTES];
    size_t len = strlen(weight), end = strlen(".weight");
    if (len <= end || strcmp(weight + len - end, ".weight") != 0) {
        return NULL;
    }
    int written = snprintf(name, sizeof name, "%.*s%s", (int)(len - end), weight, suffix);
    return written > 0 && (size_t)written < sizeof name ? find(l, name) : NULL;
}

/* Whether the shape is that of t with `last` elements in the innermost dimension. */
static bool has_shape(const qn_json *shape, const qn_tensor *t, uint64_t last)
{
    bool same = qn_json_get_kind(shape) == QN_JSON_ARRAY && qn_json_length(shape) == t->n_dims;
    for (uint32_t i = 0; i < t->n_dims && same; i++) {
        int64_t n = -1;
        same = qn_json_int(qn_json_at(shape, i), &n) && n >= 0 && (uint64_t)n == (i + 1 < t->n_dims ? t->shape[i] : last);
    }
    return same;
}

static bool same_rows(const qn_tensor *a, const qn_tensor *b)
{
    return a->n_dims == b->n_dims && a->n_dims > 0 && memcmp(a->shape, b->shape, (a->n_dims - 1) * sizeof *a->shape) == 0;
}

/* Packed words of MLX: `type` is "4bit-g64" or "mxfp4-g32", whose bits and groups words and scales must have. *n: the tensors that it takes. */
static quern_status check_module(const qn_listing *l, const qn_tensor *t, const char *type, const qn_json *shape, size_t *n)
{
    char expected[64];
    const qn_tensor *scales = find_beside(l, t->name, ".scales"), *biases = find_beside(l, t->name, ".biases");
    int64_t cols = 0;
    uint64_t words = t->n_dims > 0 ? t->shape[t->n_dims - 1] : 0;
    uint64_t groups = scales != NULL && same_rows(scales, t) ? scales->shape[scales->n_dims - 1] : 0;
    if (!qn_json_int(qn_json_at(shape, t->n_dims - 1u), &cols) || cols <= 0 || !has_shape(shape, t, (uint64_t)cols)) {
        return fail(l, t->name, "has another shape than");
    }
    if (groups == 0 || words > UINT64_MAX / 32 || words * 32 % (uint64_t)cols != 0 || (uint64_t)cols % groups != 0 ||
        (biases != NULL && !(same_rows(biases, scales) && biases->shape[biases->n_dims - 1] == groups))) {
        return fail(l, t->name, "has words and scales of other shapes than");
    }
    uint64_t bits = words * 32 / (uint64_t)cols, group = (uint64_t)cols / groups;
    bool mxfp4 = biases == NULL && bits == 4 && scales->dtype == QN_DTYPE_U8;
    if (mxfp4) {
        (void)snprintf(expected, sizeof expected, "mxfp4-g%" PRIu64, group);
    } else {
        (void)snprintf(expected, sizeof expected, "%" PRIu64 "bit-g%" PRIu64, bits, group);
    }
    *n = biases != NULL ? 3 : 2;
    return strcmp(type, expected) == 0 && (mxfp4 || biases != NULL) ? QUERN_OK : fail(l, t->name, "has another type than");
}

/* One {"name","type","shape"}. */
static quern_status check_entry(const qn_listing *l, const qn_json *entry, size_t number, size_t *n)
{
    const char *name = qn_json_string(qn_json_get(entry, "name"), NULL), *type = qn_json_string(qn_json_get(entry, "type"), NULL);
    const qn_json *shape = qn_json_get(entry, "shape");
    if (name == NULL || type == NULL) {
        return qn_error_set(l->err, QUERN_ERROR_INVALID, "%s: tensor number %zu: expected a name, a type and a shape", l->manifest, number);
    }
    const qn_tensor *t = find(l, name);
    if (t == NULL) {
        return fail(l, name, "is not in the file, as");
    }
    if (l->gguf == NULL && t->dtype == QN_DTYPE_U32) {
        return check_module(l, t, type, shape, n);
    }
    *n = 1;
    if (strcmp(qn_dtype_get(t->dtype)->name, type) != 0) {
        return fail(l, name, "has another type than");
    }
    return has_shape(shape, t, t->n_dims > 0 ? t->shape[t->n_dims - 1] : 0) ? QUERN_OK : fail(l, name, "has another shape than");
}

/* The strings under `key` of a list's objects, which must not repeat; `what` for the message. */
static quern_status check_unique(const qn_json *list, const char *key, const char *manifest, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_name_index index = {0};
    size_t n = qn_json_length(list), first, second;
    if (n == 0) {
        return QUERN_OK;
    }
    if (!qn_name_index_init(&index, n)) {
        QN_FAIL_MEMORY(err, manifest, n * sizeof *index.names);
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = qn_json_string(qn_json_get(qn_json_at(list, i), key), &index.names[i].len);
        index.names[i].data = name != NULL ? name : "";
        index.names[i].len = name != NULL ? index.names[i].len : 0;
        index.names[i].number = i;
    }
    if (!qn_name_index_sort(&index, &first, &second)) {
        const char *name = qn_json_string(qn_json_get(qn_json_at(list, second), key), NULL);
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: %s %.200s is listed twice", manifest, what, name != NULL ? name : "without a name");
    }
done:
    qn_name_index_deinit(&index);
    return status;
}

quern_status qn_listing_check_tensors(const qn_listing *l, const qn_json *tensors)
{
    quern_status status = QUERN_OK;
    size_t n_stored = l->gguf != NULL ? qn_gguf_n_tensors(l->gguf) : qn_safetensors_n_tensors(l->safetensors), n_covered = 0, n = 0;
    if (qn_json_get_kind(tensors) != QN_JSON_ARRAY) {
        QN_FAIL(l->err, QUERN_ERROR_INVALID, "%s: the tensors of %s are missing, expected an array", l->manifest, l->path);
    }
    if (qn_json_length(tensors) > n_stored) {
        QN_FAIL(l->err, QUERN_ERROR_INVALID, "%s: has %zu tensors, but %s lists %zu", l->path, n_stored, l->manifest,
                qn_json_length(tensors));
    }
    QN_TRY(check_unique(tensors, "name", l->manifest, "tensor", l->err));
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        QN_TRY(check_entry(l, qn_json_at(tensors, i), i, &n));
        n_covered += n;
    }
    if (n_covered != n_stored) { /* scales and biases count with their words */
        QN_FAIL(l->err, QUERN_ERROR_INVALID, "%s: has %zu tensors, of which %s lists %zu", l->path, n_stored, l->manifest, n_covered);
    }
done:
    return status;
}

/* ---- files ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcasecmp(s + n - k, end) == 0; /* some file systems make no difference either */
}

/* What readers of a folder may take: weights, configurations, tokenizers, templates, programs. */
static bool may_be_read(const char *name)
{
    static const char *const endings[] = {".safetensors", ".json", ".jinja", ".txt",  ".model", ".py",      ".tiktoken", ".bin", ".npz",
                                          ".gguf",        ".pt",   ".pth",   ".ckpt", ".h5",    ".msgpack", ".onnx",     ".pkl", ".pickle"};
    bool found = false;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        found = found || ends_with(name, endings[i]);
    }
    return found;
}

quern_status qn_listing_check_folder(const qn_listing *l, const char *relative, const qn_json *files)
{
    quern_status status = QUERN_OK;
    const char **names = NULL;
    size_t n = 0, number, first, second, len = strlen(relative);
    qn_name_index index = {0};
    qn_arena arena;
    qn_arena_init(&arena, 0);
    QN_TRY(qn_folder_list_files(l->path, &arena, &names, &n, l->err));
    if (!qn_name_index_init(&index, qn_json_length(files) + 1)) {
        QN_FAIL_MEMORY(l->err, l->manifest, qn_json_length(files) * sizeof *index.names);
    }
    index.n = qn_json_length(files);
    for (size_t i = 0; i < index.n; i++) {
        const char *file = qn_json_string(qn_json_get(qn_json_at(files, i), "path"), NULL);
        if (file == NULL || strncmp(file, relative, len) != 0 || file[len] != '/') {
            QN_FAIL(l->err, QUERN_ERROR_INVALID, "%s: file %.200s is not in the folder of its output, %s", l->manifest,
                    file != NULL ? file : "", relative);
        }
        index.names[i] = (qn_name){.data = file + len + 1, .len = strlen(file + len + 1), .number = i};
    }
    (void)qn_name_index_sort(&index, &first, &second); /* twice the same was refused before */
    for (size_t i = 0; i < n; i++) {
        if (may_be_read(names[i]) && !qn_name_index_find(&index, names[i], strlen(names[i]), &number)) {
            QN_FAIL(l->err, QUERN_ERROR_INVALID, "%s/%s: is in the folder, but %s does not list it", l->path, names[i], l->manifest);
        }
    }
done:
    qn_name_index_deinit(&index);
    qn_arena_deinit(&arena);
    return status;
}

quern_status qn_listing_check_paths(const qn_json *outputs, const char *manifest, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n = 0;
    qn_json *all = qn_json_new_array();
    bool fits = all != NULL;
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        const qn_json *files = qn_json_get(qn_json_at(outputs, i), "files");
        for (size_t k = 0; k < (qn_json_get_kind(files) == QN_JSON_ARRAY ? qn_json_length(files) : 0) && fits; k++) {
            if (++n > LISTED_MAX) {
                QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: lists more than %d files", manifest, LISTED_MAX);
            }
            fits = qn_json_append(all, qn_json_clone(qn_json_at(files, k)));
        }
    }
    if (!fits) {
        QN_FAIL_MEMORY(err, manifest, n);
    }
    QN_TRY(check_unique(all, "path", manifest, "file", err));
done:
    qn_json_free(all);
    return status;
}
