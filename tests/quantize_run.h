/* quantize_run.h - running the quantizer over golden checkpoints into scratch folders, and reading the results; for the tests of src/quantize. */
#ifndef QN_TEST_QUANTIZE_RUN_H
#define QN_TEST_QUANTIZE_RUN_H

#include <math.h>
#include <sys/stat.h>

#include "qn_test.h"
#include "test_files.h"

#include "base/alloc.h"
#include "base/sha256.h"
#include "formats/gguf_read.h"
#include "formats/safetensors_read.h"
#include "formats/safetensors_write.h"
#include "model/config.h"
#include "quant/codec.h"
#include "quantize/job.h"
#include "quern/quern.h"

static inline bool have_model(const char *model)
{
    char name[128];
    (void)snprintf(name, sizeof name, "hf/%s/config.json", model);
    if (qn_test_golden(name) == NULL) {
        print_message("SKIP: %s: reference file is absent\n", name);
        return false;
    }
    return true;
}

/* The folder of the built-in model. */
static inline const char *demo_dir(void)
{
    static char path[1024];
    const char *config = qn_test_shared("models/quern-coder-8m/config.json");
    assert_non_null(config);
    (void)snprintf(path, sizeof path, "%.*s", (int)(strlen(config) - strlen("/config.json")), config);
    return path;
}

/* The folder of a reference checkpoint. */
static inline const char *model_dir(const char *model)
{
    static char paths[4][1024];
    static unsigned next;
    char *path = paths[next++ % 4];
    char name[128];
    (void)snprintf(name, sizeof name, "hf/%s/config.json", model);
    const char *file = qn_test_golden(name);
    assert_non_null(file);
    (void)snprintf(path, sizeof paths[0], "%.*s", (int)(strlen(file) - strlen("/config.json")), file);
    return path;
}

/* The model that whole runs are made with: the built-in one, and with the sanitizers, which take ten times as long, a tenth of it. */
static inline const char *whole_model_dir(void) { return QN_TEST_SANITIZED ? model_dir("qwen3") : demo_dir(); }

typedef struct run {
    quern_quantize_options opt;
    quern_status status;
    quern_error err;
    qn_json *manifest;
    bool note_always; /* the journal is written after every step, as in a run that takes long */
} run;

static inline void run_quantize(run *r, uint64_t shard_bytes)
{
    char *text = NULL;
    size_t len = 0;
    quern_error err = {0};
    r->err = (quern_error){0};
    r->manifest = NULL;
    const qn_quantize_limits noted = {.shard_bytes = 5000000000u};
    r->status = r->note_always     ? qn_quantize_run_with(&r->opt, &noted, &text, &len, &r->err)
                : shard_bytes == 0 ? quern_quantize(&r->opt, &text, &len, &r->err)
                                   : qn_quantize_run(&r->opt, shard_bytes, &text, &len, &r->err);
    if (r->status == QUERN_OK) {
        assert_int_equal(strlen(text), len);
        assert_ok(qn_json_parse(&r->manifest, text, len, QN_JSON_REJECT_DUPLICATES, "manifest", &err));
    } else {
        assert_null(text);
        assert_true(strlen(r->err.message) > 0);
        assert_int_equal(r->err.status, r->status);
    }
    quern_free(text);
}

static inline run quantize(const char *source, const char *dir, const char *formats)
{
    run r = {.opt = {.source = source, .output_dir = dir, .name = "tiny", .formats = formats, .n_threads = 2}};
    run_quantize(&r, 0);
    if (r.status != QUERN_OK) {
        print_error("%s\n", r.err.message);
    }
    assert_int_equal(r.status, QUERN_OK);
    return r;
}

/* Removes output trees, which are two folders deep. */
static inline void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    if (d != NULL) {
        for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
                char *child = qn_path_join(path, e->d_name);
                remove_tree(child);
                qn_free(child);
            }
        }
        (void)closedir(d);
        (void)rmdir(path);
    } else {
        (void)unlink(path);
    }
}

static inline char *new_dir(void) { return scratch_create(); }

static inline void drop_dir(char *dir)
{
    remove_tree(dir);
    free(dir);
}

/* Files anywhere below a folder. */
static inline size_t count_files(const char *path)
{
    size_t n = 0;
    DIR *d = opendir(path);
    if (d == NULL) {
        return 0;
    }
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            char *child = qn_path_join(path, e->d_name);
            n += qn_path_is_directory(child) ? count_files(child) : 1;
            qn_free(child);
        }
    }
    (void)closedir(d);
    return n;
}

/* Of those, the ones that have their final name: not what an unfinished run leaves to be continued. */
static inline size_t count_named(const char *path)
{
    size_t n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        if (e->d_name[0] != '.' && (strlen(e->d_name) < 5 || strcmp(e->d_name + strlen(e->d_name) - 5, ".part") != 0)) {
            char *child = qn_path_join(path, e->d_name);
            n += qn_path_is_directory(child) ? count_named(child) : 1;
            qn_free(child);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return n;
}

static inline qn_gguf *open_gguf(const char *dir, const char *type)
{
    quern_error err = {0};
    qn_gguf *g;
    char name[128];
    (void)snprintf(name, sizeof name, "gguf/tiny-%s.gguf", type);
    assert_ok(qn_gguf_open(&g, scratch_path(dir, name), false, &err));
    return g;
}

static inline float *decode(const qn_tensor *t)
{
    float *v = malloc((size_t)t->n_elements * sizeof *v);
    assert_non_null(v);
    assert_true(qn_decode_supported(t->dtype));
    qn_decode_row(t->dtype, t->data, v, (size_t)t->n_elements);
    return v;
}

static inline const qn_json *find_output(const qn_json *manifest, const char *type)
{
    const qn_json *outputs = qn_json_get(manifest, "outputs");
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        if (strcmp(qn_json_string(qn_json_get(qn_json_at(outputs, i), "type"), NULL), type) == 0) {
            return qn_json_at(outputs, i);
        }
    }
    return NULL;
}

static inline void compare_hashes(const qn_json *a, const qn_json *b)
{
    const qn_json *x = qn_json_get(a, "outputs");
    const qn_json *y = qn_json_get(b, "outputs");
    assert_int_equal(qn_json_length(x), qn_json_length(y));
    for (size_t i = 0; i < qn_json_length(x); i++) {
        qn_buf s;
        qn_buf t;
        qn_buf_init(&s, (size_t)1 << 24);
        qn_buf_init(&t, (size_t)1 << 24);
        assert_true(qn_json_write(qn_json_at(x, i), 1, &s) && qn_json_write(qn_json_at(y, i), 1, &t));
        assert_string_equal(qn_buf_text(&s), qn_buf_text(&t));
        qn_buf_deinit(&s);
        qn_buf_deinit(&t);
    }
}

static inline void check_file_entries(const qn_json *files, const char *dir)
{
    assert_true(qn_json_length(files) > 0);
    for (size_t i = 0; i < qn_json_length(files); i++) {
        quern_error err = {0};
        const qn_json *f = qn_json_at(files, i);
        char hex[65];
        int64_t bytes;
        struct stat st;
        const char *path = scratch_path(dir, qn_json_string(qn_json_get(f, "path"), NULL));
        assert_ok(qn_sha256_file(path, hex, &err));
        assert_string_equal(hex, qn_json_string(qn_json_get(f, "sha256"), NULL));
        assert_true(qn_json_int(qn_json_get(f, "bytes"), &bytes));
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, bytes);
    }
}

static inline bool warns(const qn_json *output, const char *word)
{
    const qn_json *warnings = qn_json_get(output, "warnings");
    for (size_t i = 0; i < qn_json_length(warnings); i++) {
        if (strstr(qn_json_string(qn_json_at(warnings, i), NULL), word) != NULL) {
            return true;
        }
    }
    return false;
}

/* A copy of a checkpoint's folder that a test may spoil. */
static inline void copy_model(const char *model, const char *dir)
{
    const char *source = model_dir(model);
    DIR *d = opendir(source);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (e->d_name[0] != '.' && strncmp(e->d_name, "golden", 6) != 0) {
            quern_error err = {0};
            char *data;
            size_t size;
            assert_ok(qn_file_read(&data, &size, scratch_path(source, e->d_name), (size_t)64 << 20, &err));
            FILE *f = fopen(scratch_path(dir, e->d_name), "wb");
            assert_non_null(f);
            assert_int_equal(fwrite(data, 1, size, f), size);
            (void)fclose(f);
            qn_free(data);
        }
    }
    (void)closedir(d);
}

static inline void replace_in_file(const char *path, const char *from, const char *to)
{
    quern_error err = {0};
    char *data;
    size_t size;
    assert_ok(qn_file_read(&data, &size, path, (size_t)64 << 20, &err));
    char *at = memmem(data, size, from, strlen(from));
    assert_non_null(at);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    (void)fwrite(data, 1, (size_t)(at - data), f);
    (void)fwrite(to, 1, strlen(to), f);
    size_t rest = (size_t)(at - data) + strlen(from);
    (void)fwrite(data + rest, 1, size - rest, f);
    (void)fclose(f);
    qn_free(data);
}

/* A tensor that a reference checkpoint does not have. data NULL: the bytes of the embedding, of which the first `n_changed` are negated as BF16. */
typedef struct extra {
    const char *name;
    uint32_t n_dims;
    uint64_t shape[2];
    const void *data;
    size_t n_changed;
} extra;

static inline uint64_t n_elements(const extra *x) { return x->n_dims == 2 ? x->shape[0] * x->shape[1] : x->shape[0]; }

/* dir: a BF16 reference checkpoint and n_extras tensors more. */
static inline void write_checkpoint(const char *dir, const char *model, const extra *x, size_t n_extras)
{
    quern_error err;
    qn_safetensors *s;
    qn_safetensors_writer *w;
    copy_model(model, dir);
    (void)unlink(scratch_path(dir, "model.safetensors"));
    assert_ok(qn_safetensors_open_dir(&s, model_dir(model), false, &err));
    assert_ok(qn_safetensors_writer_create(&w, scratch_path(dir, "model.safetensors"), &err));
    size_t n = qn_safetensors_n_tensors(s);
    for (size_t i = 0; i < n; i++) {
        const qn_tensor *t = qn_safetensors_tensor_at(s, i);
        assert_ok(qn_safetensors_declare(w, t->name, t->dtype, t->shape, t->n_dims, &err));
    }
    const qn_tensor *embedding = qn_safetensors_find(s, "model.embed_tokens.weight");
    assert_int_equal(embedding->dtype, QN_DTYPE_BF16);
    for (size_t i = 0; i < n_extras; i++) {
        assert_ok(qn_safetensors_declare(w, x[i].name, QN_DTYPE_BF16, x[i].shape, x[i].n_dims, &err));
    }
    assert_ok(qn_safetensors_writer_begin_data(w, &err));
    for (size_t i = 0; i < n; i++) {
        const qn_tensor *t = qn_safetensors_tensor_at(s, i);
        assert_ok(qn_safetensors_write_data(w, i, 0, t->data, t->n_bytes, &err));
    }
    for (size_t k = 0; k < n_extras; k++) {
        size_t size = (size_t)n_elements(&x[k]) * 2;
        uint8_t *bytes = malloc(size);
        assert_non_null(bytes);
        assert_true(size <= embedding->n_bytes);
        memcpy(bytes, embedding->data, size);
        for (size_t i = 0; i < x[k].n_changed; i++) {
            bytes[2 * i + 1] ^= 0x80;
        }
        assert_ok(qn_safetensors_write_data(w, n + k, 0, bytes, size, &err));
        free(bytes);
    }
    assert_ok(qn_safetensors_writer_commit(w, &err));
    qn_safetensors_writer_destroy(w);
    qn_safetensors_close(s);
}

#endif
