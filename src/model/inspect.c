/* inspect.c - finds out what a path is and puts the document together. The parts are made in inspect_*.c; what a document holds stands in
 * quern/inspect.h. */
#include "quern/inspect.h"

#include <string.h>

#include "base/fs.h"
#include "base/json_tokens.h"
#include "model/inspect_int.h"
#include "model/model_int.h"

/* The largest tokenizer.json, config.json or manifest.json that is read; published tokenizers are below 40 MB. */
#define JSON_BYTES_MAX ((size_t)256 << 20)

typedef enum path_kind { KIND_GGUF, KIND_FOLDER, KIND_SAFETENSORS, KIND_CONFIG, KIND_TOKENIZER, KIND_MANIFEST } path_kind;

static const char *const kind_names[] = {[KIND_GGUF] = "gguf",     [KIND_FOLDER] = "folder",       [KIND_SAFETENSORS] = "safetensors",
                                         [KIND_CONFIG] = "config", [KIND_TOKENIZER] = "tokenizer", [KIND_MANIFEST] = "manifest"};

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s);
    size_t k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

/* ---- models ---- */

typedef struct model_view {
    quern_model *model;
    qn_safetensors *safetensors;               /* where the model could not be opened with its weights */
    char unsupported[QUERN_ERROR_MESSAGE_CAP]; /* why it cannot run; "" if it can */
} model_view;

/* Where a model is: a path, or bytes in memory (a GGUF) under a name. */
typedef struct place {
    const char *path;
    const void *data; /* NULL: the path is a file or folder */
    size_t size;
} place;

static quern_status open_place(model_view *v, const place *at, const quern_model_options *opt, quern_error *err)
{
    return at->data != NULL ? quern_model_open_memory(&v->model, at->data, at->size, at->path, opt, err)
                            : quern_model_open(&v->model, at->path, opt, err);
}

/* Opens as for running. Weights that this version cannot run (a family, a type) are left out then, and the rest is described; a
 * configuration or tokenizer that it does not know is an error. */
static quern_status open_model(model_view *v, const place *at, bool has_tokenizer, quern_error *err)
{
    quern_model_options opt = {.without_tokenizer = !has_tokenizer};
    quern_status status = open_place(v, at, &opt, err);
    if (status == QUERN_ERROR_UNSUPPORTED) {
        memcpy(v->unsupported, err->message, sizeof err->message);
        opt.without_weights = true;
        status = open_place(v, at, &opt, err);
    }
    return status;
}

static void close_view(model_view *v)
{
    quern_model_close(v->model);
    qn_safetensors_close(v->safetensors);
}

static void put_sizes(qn_doc *d, const qn_tensor_source *source, const quern_model_info *info)
{
    uint64_t n_parameters;
    uint64_t n_bytes;
    qn_inspect_sums(source, &n_parameters, &n_bytes);
    if (info != NULL && info->n_parameters > 0) {
        n_parameters = info->n_parameters;
    }
    qn_doc_put(d, d->root, "parameters", qn_doc_u64(n_parameters));
    qn_doc_put(d, d->root, "bytes", qn_doc_u64(qn_inspect_file_bytes(source)));
    qn_doc_put(d, d->root, "weight_bytes", qn_doc_u64(n_bytes));
    qn_doc_put(d, d->root, "bits_per_weight",
               n_parameters > 0 ? qn_json_new_measured(8.0 * (double)n_bytes / (double)n_parameters) : qn_json_new_null());
}

/* n_merges: see qn_inspect_tokenizer. */
static quern_status put_model(qn_doc *d, const model_view *v, const qn_tensor_source *source, int64_t n_merges,
                              const quern_inspect_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_model_info *info = quern_model_get_info(v->model);
    const char *template_source = quern_model_get_template_source(v->model);
    qn_doc_put(d, d->root, "format", qn_json_new_string(info->format));
    qn_doc_put(d, d->root, "architecture", qn_json_new_string(info->architecture));
    qn_doc_put(d, d->root, "name", qn_json_new_string(info->name));
    qn_doc_put(d, d->root, "runnable", qn_json_new_bool(v->unsupported[0] == '\0'));
    if (v->unsupported[0] != '\0') {
        qn_doc_put(d, d->root, "unsupported", qn_json_new_string(v->unsupported));
    }
    put_sizes(d, source, info);
    qn_inspect_config(d, &v->model->config);
    qn_inspect_tokenizer(d, quern_model_get_tokenizer(v->model), n_merges);
    qn_doc_put(d, d->root, "template", qn_doc_text_or_null(template_source));
    if (quern_model_get_tool_template_source(v->model) != template_source) {
        qn_doc_put(d, d->root, "tool_template", qn_doc_text_or_null(quern_model_get_tool_template_source(v->model)));
    }
    QN_TRY(qn_inspect_tensors(d, source, opt, err));
done:
    return status;
}

/* ---- GGUF ---- */

static int64_t count_gguf_merges(const qn_gguf *g)
{
    const qn_gguf_value *merges = qn_gguf_find(g, "tokenizer.ggml.merges");
    return merges != NULL && merges->type == QN_GGUF_ARRAY ? (int64_t)merges->n : -1;
}

/* A file that is no model by design: an importance matrix, or a vocabulary without tensors. */
static bool is_partial_gguf(const qn_gguf *g)
{
    qn_span type;
    bool found;
    bool imatrix = qn_gguf_get_string(g, "general.type", &type, &found, NULL) == QUERN_OK && found && type.len == 7 &&
                   memcmp(type.data, "imatrix", 7) == 0;
    bool vocabulary = qn_gguf_n_tensors(g) == 0 && qn_gguf_find(g, "tokenizer.ggml.tokens") != NULL;
    return imatrix || vocabulary;
}

/* Takes *g over. */
static quern_status put_partial_gguf(qn_doc *d, qn_gguf **g, const quern_inspect_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_tensor_source source = {.gguf = *g};
    qn_span name = {0};
    bool found;
    quern_model *m = qn_calloc(1, sizeof *m);
    if (m == NULL) {
        QN_FAIL_MEMORY(err, "a vocabulary", sizeof *m);
    }
    qn_arena_init(&m->arena, 0);
    m->gguf = *g;
    *g = NULL;
    QN_TRY(qn_gguf_get_string(m->gguf, "general.architecture", &name, &found, err));
    qn_doc_put(d, d->root, "format", qn_json_new_string("gguf"));
    qn_doc_put(d, d->root, "architecture", found ? qn_json_new_string_n(name.data, name.len) : qn_json_new_null());
    qn_doc_put(d, d->root, "runnable", qn_json_new_bool(false));
    qn_doc_put(d, d->root, "unsupported",
               qn_json_new_string("this file holds an importance matrix or a vocabulary, not the weights of a model"));
    put_sizes(d, &source, NULL);
    if (qn_gguf_find(m->gguf, "tokenizer.ggml.tokens") != NULL) {
        QN_TRY(qn_model_read_gguf_tokenizer(m, err));
        qn_inspect_tokenizer(d, m->tokenizer, count_gguf_merges(m->gguf));
        qn_doc_put(d, d->root, "template", qn_doc_text_or_null(m->plain_template.source));
    }
    QN_TRY(qn_inspect_tensors(d, &source, opt, err));
    if (opt->metadata) {
        qn_inspect_gguf_metadata(d, m->gguf);
    }
done:
    quern_model_close(m);
    return status;
}

static quern_status inspect_gguf(qn_doc *d, const place *at, const quern_inspect_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    model_view v = {0};
    qn_gguf *g = NULL;
    QN_TRY(at->data != NULL ? qn_gguf_parse(&g, at->data, at->size, at->path, err) : qn_gguf_open(&g, at->path, false, err));
    if (is_partial_gguf(g)) {
        QN_TRY(put_partial_gguf(d, &g, opt, err));
        goto done;
    }
    QN_TRY(open_model(&v, at, true, err));
    qn_tensor_source source = {.gguf = v.model->gguf};
    QN_TRY(put_model(d, &v, &source, count_gguf_merges(g), opt, err));
    const qn_claim claim = qn_claim_of_gguf(g);
    qn_inspect_claim(d, &claim);
    if (opt->metadata) {
        qn_inspect_gguf_metadata(d, g);
    }
done:
    qn_gguf_close(g);
    close_view(&v);
    return status;
}

/* ---- folders and single files ---- */

/* What config.json claims, and all of it if it is asked for. */
static quern_status put_folder_config(qn_doc *d, const char *dir, const qn_safetensors *s, bool metadata, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *text = NULL;
    size_t len = 0;
    qn_json *config = NULL;
    QN_TRY(qn_file_read_member(&text, &len, dir, "config.json", JSON_BYTES_MAX, err));
    QN_TRY(qn_json_parse(&config, text, text != NULL ? len : 0, 0, "config.json", err));
    const qn_claim claim = qn_claim_of_config(config);
    qn_inspect_claim(d, &claim);
    if (metadata) {
        qn_json *o = qn_doc_put_object(d, d->root, "metadata");
        qn_doc_put(d, o, "config.json", config);
        config = NULL;
        qn_inspect_safetensors_metadata(d, qn_doc_put_object(d, o, "safetensors"), s);
    }
done:
    qn_json_free(config);
    qn_free(text);
    return status;
}

static quern_status inspect_folder(qn_doc *d, const char *dir, const quern_inspect_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    model_view v = {0};
    char *tokenizer = NULL;
    size_t len = 0;
    QN_TRY(qn_file_read_member(&tokenizer, &len, dir, "tokenizer.json", JSON_BYTES_MAX, err));
    QN_TRY(open_model(&v, &(place){.path = dir}, tokenizer != NULL, err));
    if (v.model->safetensors == NULL) {
        QN_TRY(qn_safetensors_open_dir(&v.safetensors, dir, false, err));
    }
    qn_tensor_source source = {.safetensors = v.safetensors != NULL ? v.safetensors : v.model->safetensors};
    QN_TRY(put_model(d, &v, &source, tokenizer != NULL ? qn_inspect_count_merges(tokenizer, len) : -1, opt, err));
    QN_TRY(put_folder_config(d, dir, source.safetensors, opt->metadata, err));
done:
    qn_free(tokenizer);
    close_view(&v);
    return status;
}

static quern_status inspect_safetensors(qn_doc *d, const char *path, const quern_inspect_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_safetensors *s = NULL;
    QN_TRY(qn_safetensors_open(&s, path, false, err));
    qn_tensor_source source = {.safetensors = s};
    qn_doc_put(d, d->root, "format", qn_json_new_string("safetensors"));
    put_sizes(d, &source, NULL);
    if (opt->metadata) {
        qn_inspect_safetensors_metadata(d, qn_doc_put_object(d, d->root, "metadata"), s);
    }
    QN_TRY(qn_inspect_tensors(d, &source, opt, err));
done:
    qn_safetensors_close(s);
    return status;
}

static quern_status inspect_config(qn_doc *d, const char *path, const char *text, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_model_config c;
    qn_arena arena;
    qn_arena_init(&arena, 0);
    QN_TRY(qn_config_read_hf(&c, &arena, text, len, path, NULL, 0, err));
    qn_doc_put(d, d->root, "format", qn_json_new_string("json"));
    qn_doc_put(d, d->root, "architecture", qn_json_new_string(c.architecture));
    qn_inspect_config(d, &c);
done:
    qn_arena_deinit(&arena);
    return status;
}

static quern_status inspect_tokenizer(qn_doc *d, const char *path, const char *text, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_tokenizer *t = NULL;
    status = quern_tokenizer_create_from_json(&t, text, len, NULL, 0, err);
    if (status != QUERN_OK) {
        qn_error_prefix(err, "%s", path);
        goto done;
    }
    qn_doc_put(d, d->root, "format", qn_json_new_string("json"));
    qn_inspect_tokenizer(d, t, qn_inspect_count_merges(text, len));
done:
    quern_tokenizer_destroy(t);
    return status;
}

/* ---- what is it ---- */

/* Which file a JSON text is, by the keys of its top level as far as it is well formed, else by its name; false if neither tells. */
static bool find_json_kind(const char *text, size_t len, const char *path, path_kind *kind)
{
    static const struct {
        const char *key, *file_name;
        path_kind kind;
    } rows[] = {{"outputs", "manifest.json", KIND_MANIFEST},
                {"model_type", "config.json", KIND_CONFIG},
                {"architectures", "config.json", KIND_CONFIG},
                {"model", "tokenizer.json", KIND_TOKENIZER}};
    enum { N_ROWS = sizeof rows / sizeof rows[0] };
    qn_json_tokens s;
    qn_json_tokens_init(&s, text, len);
    bool more = qn_json_tokens_next(&s) == QN_JSON_TOKEN_OBJECT;
    while (more && qn_json_tokens_next(&s) == QN_JSON_TOKEN_STRING) {
        for (size_t i = 0; i < N_ROWS; i++) {
            if (s.end - s.begin == strlen(rows[i].key) && memcmp(text + s.begin, rows[i].key, s.end - s.begin) == 0) {
                *kind = rows[i].kind;
                return true;
            }
        }
        more = qn_json_tokens_next(&s) == QN_JSON_TOKEN_COLON && qn_json_tokens_next(&s) != QN_JSON_TOKEN_END && qn_json_tokens_skip(&s) &&
               qn_json_tokens_next(&s) == QN_JSON_TOKEN_COMMA;
    }
    for (size_t i = 0; i < N_ROWS; i++) {
        if (strcmp(qn_path_base(path), rows[i].file_name) == 0) {
            *kind = rows[i].kind;
            return true;
        }
    }
    return false;
}

static quern_status inspect_json(qn_doc *d, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *text = NULL;
    size_t len = 0;
    path_kind kind = KIND_CONFIG;
    QN_TRY(qn_file_read(&text, &len, path, JSON_BYTES_MAX, err));
    if (!find_json_kind(text, len, path, &kind)) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: is no config.json, tokenizer.json or manifest.json of Quern: none of the keys model_type, architectures,"
                " model and outputs stands at its top level",
                path);
    }
    qn_doc_put(d, d->root, "kind", qn_json_new_string(kind_names[kind]));
    if (kind == KIND_MANIFEST) {
        QN_TRY(qn_inspect_manifest(d, path, text, len, err));
    } else if (kind == KIND_CONFIG) {
        QN_TRY(inspect_config(d, path, text, len, err));
    } else {
        QN_TRY(inspect_tokenizer(d, path, text, len, err));
    }
done:
    qn_free(text);
    return status;
}

static quern_status inspect_path(qn_doc *d, const char *path, const quern_inspect_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    path_kind kind = KIND_GGUF;
    if (path == NULL) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "no path was given");
    }
    if (!qn_path_exists(path)) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no such file or folder", path);
    }
    if (has_suffix(path, ".bin") || has_suffix(path, ".pt") || has_suffix(path, ".pth") || has_suffix(path, ".pkl")) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: pickled weights can run code and are never read; expected GGUF or safetensors", path);
    }
    if (qn_path_is_directory(path)) {
        kind = KIND_FOLDER;
    } else if (has_suffix(path, ".json")) {
        return inspect_json(d, path, err);
    } else if (has_suffix(path, ".safetensors")) {
        kind = KIND_SAFETENSORS;
    }
    qn_doc_put(d, d->root, "kind", qn_json_new_string(kind_names[kind]));
    if (kind == KIND_FOLDER) {
        QN_TRY(inspect_folder(d, path, opt, err));
    } else if (kind == KIND_SAFETENSORS) {
        QN_TRY(inspect_safetensors(d, path, opt, err));
    } else {
        QN_TRY(inspect_gguf(d, &(place){.path = path}, opt, err));
    }
done:
    return status;
}

static quern_status inspect_place(const place *at, const quern_inspect_options *opt, char **json, size_t *len, quern_error *err)
{
    static const quern_inspect_options defaults = {0};
    quern_status status = QUERN_OK;
    quern_error own = {0};
    quern_error *e = err != NULL ? err : &own; /* a message may become part of the document */
    size_t n_bytes = 0;
    qn_buf text;
    qn_doc d = {.root = qn_json_new_object()};
    qn_buf_init(&text, SIZE_MAX / 2);
    *json = NULL;
    qn_doc_put(&d, d.root, "schema", qn_json_new_string("quern.inspect/1"));
    qn_doc_put(&d, d.root, "path", qn_json_new_string(at->path));
    opt = opt != NULL ? opt : &defaults;
    if (at->data != NULL) {
        qn_doc_put(&d, d.root, "kind", qn_json_new_string(kind_names[KIND_GGUF]));
        QN_TRY(inspect_gguf(&d, at, opt, e));
    } else {
        QN_TRY(inspect_path(&d, at->path, opt, e));
    }
    if (d.failed || !qn_json_write(d.root, 0, &text) || (*json = qn_buf_take(&text, &n_bytes)) == NULL) {
        QN_FAIL(e, QUERN_ERROR_MEMORY, "%s: out of memory for its description", at->path);
    }
done:
    if (len != NULL) {
        *len = n_bytes;
    }
    qn_json_free(d.root);
    qn_buf_deinit(&text);
    return status;
}

quern_status quern_inspect(const char *path, const quern_inspect_options *opt, char **json, size_t *len, quern_error *err)
{
    return inspect_place(&(place){.path = path}, opt, json, len, err);
}

quern_status quern_inspect_memory(const void *data, size_t size, const char *name, const quern_inspect_options *opt, char **json,
                                  size_t *len, quern_error *err)
{
    return inspect_place(&(place){.path = name, .data = data, .size = size}, opt, json, len, err);
}
