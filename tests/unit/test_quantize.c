/* test_quantize.c - checkpoints to GGUF and MLX: the same tensors, bytes and keys as the reference converters give, errors as the manifest
 * states them, and nothing left behind when a run fails. */
#include <math.h>
#include <sys/stat.h>

#include "qn_test.h"
#include "test_files.h"

#include "base/alloc.h"
#include "base/sha256.h"
#include "formats/gguf_read.h"
#include "formats/safetensors_read.h"
#include "model/config.h"
#include "quant/codec.h"
#include "quantize/job.h"
#include "quern/quern.h"

static const char all_gguf[] = "gguf:F32,gguf:F16,gguf:BF16,gguf:Q8_0,gguf:Q6_K,gguf:Q5_K_M,gguf:Q5_K_S,gguf:Q5_1,gguf:Q5_0,gguf:Q4_K_M,gguf:Q4_K_S,"
                               "gguf:Q4_1,gguf:Q4_0,gguf:Q3_K_L,gguf:Q3_K_M,gguf:Q3_K_S,gguf:Q2_K,gguf:IQ4_NL,gguf:IQ4_XS,gguf:TQ1_0,gguf:TQ2_0,"
                               "gguf:MXFP4_MOE";
static const char all_mlx[] = "mlx:2bit-g32,mlx:3bit-g32,mlx:4bit-g32,mlx:5bit-g32,mlx:6bit-g32,mlx:8bit-g32,mlx:4bit,mlx:mixed_4_6,mlx:mixed_3_6,mlx:mxfp4,"
                              "mlx:bf16";

static bool have_model(const char *model)
{
    char name[128];
    (void)snprintf(name, sizeof name, "hf/%s/config.json", model);
    if (qn_test_golden(name) == NULL) {
        print_message("SKIP: %s: reference file is absent\n", name);
        return false;
    }
    return true;
}

/* The folder of a reference checkpoint. */
static const char *model_dir(const char *model)
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

typedef struct run {
    quern_quantize_options opt;
    quern_status status;
    quern_error err;
    qn_json *manifest;
} run;

static void run_quantize(run *r, uint64_t shard_bytes)
{
    char *text = NULL;
    size_t len = 0;
    quern_error err = {0};
    r->err = (quern_error){0};
    r->manifest = NULL;
    r->status = shard_bytes == 0 ? quern_quantize(&r->opt, &text, &len, &r->err) : qn_quantize_run(&r->opt, shard_bytes, &text, &len, &r->err);
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

static run quantize(const char *source, const char *dir, const char *formats)
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
static void remove_tree(const char *path)
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

static char *new_dir(void) { return scratch_create(); }

static void drop_dir(char *dir)
{
    remove_tree(dir);
    free(dir);
}

/* Files anywhere below a folder. */
static size_t count_files(const char *path)
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

static qn_gguf *open_gguf(const char *dir, const char *type)
{
    quern_error err = {0};
    qn_gguf *g;
    char name[128];
    (void)snprintf(name, sizeof name, "gguf/tiny-%s.gguf", type);
    assert_ok(qn_gguf_open(&g, scratch_path(dir, name), false, &err));
    return g;
}

static float *decode(const qn_tensor *t)
{
    float *v = malloc((size_t)t->n_elements * sizeof *v);
    assert_non_null(v);
    assert_true(qn_decode_supported(t->dtype));
    qn_decode_row(t->dtype, t->data, v, (size_t)t->n_elements);
    return v;
}

/* ---- GGUF against the reference converter ---- */

/* A key of the index against ours: numbers as float32, arrays by length ("[512 x str]"), long texts by their beginning ("..."). */
static void compare_key(const qn_gguf *g, const char *file, const char *key, const qn_json *want)
{
    quern_error err = {0};
    bool found;
    if (qn_gguf_find(g, key) == NULL) {
        fail_msg("%s: key %s is missing", file, key);
    }
    size_t len;
    const char *text = qn_json_string(want, &len);
    double number;
    if (text != NULL && text[0] == '[') {
        assert_int_equal(qn_gguf_find(g, key)->n, strtoull(text + 1, NULL, 10));
    } else if (text != NULL) {
        qn_span s;
        assert_ok(qn_gguf_get_string(g, key, &s, &found, &err));
        size_t n = len > 3 && strcmp(text + len - 3, "...") == 0 ? len - 3 : len;
        assert_true(n == len ? s.len == len : s.len > n);
        assert_memory_equal(s.data, text, n);
    } else if (qn_json_get_kind(want) == QN_JSON_BOOL) {
        bool v;
        assert_ok(qn_gguf_get_bool(g, key, &v, &found, &err));
        assert_int_equal(v, qn_json_bool(want, false));
    } else {
        double v;
        assert_true(qn_json_number(want, &number));
        int64_t integer;
        if (qn_gguf_element_i64(qn_gguf_find(g, key), 0, &integer)) {
            v = (double)integer;
        } else {
            assert_true(qn_gguf_element_f64(qn_gguf_find(g, key), 0, &v));
        }
        if ((float)v != (float)number) {
            fail_msg("%s: key %s is %.9g, expected %.9g", file, key, v, number);
        }
    }
}

static void compare_with_index(const qn_gguf *g, const char *file, const qn_json *entry)
{
    const qn_json *tensors = qn_json_get(entry, "tensors");
    assert_int_equal(qn_gguf_n_tensors(g), qn_json_length(tensors));
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        const qn_json *want = qn_json_at(tensors, i);
        const qn_json *shape = qn_json_at(want, 1);
        const qn_tensor *t = qn_gguf_find_tensor(g, qn_json_string(qn_json_at(want, 0), NULL));
        assert_non_null(t);
        assert_string_equal(qn_dtype_get(t->dtype)->name, qn_json_string(qn_json_at(want, 2), NULL));
        assert_int_equal(t->n_dims, qn_json_length(shape));
        for (uint32_t k = 0; k < t->n_dims; k++) {
            int64_t extent;
            assert_true(qn_json_int(qn_json_at(shape, t->n_dims - 1 - k), &extent)); /* the index has GGUF's order */
            assert_int_equal(t->shape[k], extent);
        }
    }
    const qn_json *kv = qn_json_get(entry, "kv");
    for (qn_json_iterator *it = qn_json_iter(kv); it != NULL; it = qn_json_next(kv, it)) {
        const char *key = qn_json_iter_key(it, NULL);
        if (strcmp(key, "general.size_label") != 0) { /* a label for people; ours has none for experts */
            compare_key(g, file, key, qn_json_iter_value(it));
        }
    }
}

static void compare_bytes(const qn_gguf *ours, const char *file, bool interleaved)
{
    quern_error err = {0};
    char name[128];
    qn_gguf *theirs;
    (void)interleaved;
    (void)snprintf(name, sizeof name, "gguf/base/%s", file);
    const char *path = qn_test_golden(name);
    if (path == NULL) {
        print_message("SKIP: %s: reference file is absent\n", name);
        return;
    }
    assert_ok(qn_gguf_open(&theirs, path, false, &err));
    for (size_t i = 0; i < qn_gguf_n_tensors(theirs); i++) {
        const qn_tensor *want = qn_gguf_tensor_at(theirs, i);
        const qn_tensor *got = qn_gguf_find_tensor(ours, want->name);
        assert_int_equal(got->n_bytes, want->n_bytes);
        if (strcmp(want->name, "rope_freqs.weight") == 0) { /* computed, not copied: to float32's rounding */
            float *a = decode(got);
            float *b = decode(want);
            for (size_t k = 0; k < want->n_elements; k++) {
                assert_true(fabsf(a[k] - b[k]) <= 1e-6f * fabsf(b[k]));
            }
            free(a);
            free(b);
        } else if (memcmp(got->data, want->data, want->n_bytes) != 0) {
            fail_msg("%s: tensor %s has other bytes than the reference", file, want->name);
        }
    }
    qn_gguf_close(theirs);
}

/* Names of the index are MODEL.TYPE.gguf; ours of base files are tiny-TYPE.gguf with the type in capitals. */
static void gguf_equals_reference_converter(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3", "qwen2_tied", "llama3_rope", "qwen3_yarn", "mixtral", "qwen3_moe", "qwen3_moe_k256", "smollm3"};
    quern_error err = {0};
    char *text;
    size_t len;
    qn_json *index;
    const char *path = qn_test_golden("gguf/index.json");
    if (path == NULL) {
        print_message("SKIP: gguf/index.json: reference file is absent\n");
        skip();
    }
    assert_ok(qn_file_read(&text, &len, path, (size_t)16 << 20, &err));
    assert_ok(qn_json_parse(&index, text, len, 0, "index.json", &err));
    qn_free(text);
    size_t n_compared = 0;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        if (!have_model(models[m])) {
            continue;
        }
        char *dir = new_dir();
        run r = quantize(model_dir(models[m]), dir, all_gguf);
        for (qn_json_iterator *it = qn_json_iter(index); it != NULL; it = qn_json_next(index, it)) {
            const char *file = qn_json_iter_key(it, NULL);
            size_t dot = strcspn(file, ".");
            char type[32] = {0};
            if (dot != strlen(models[m]) || strncmp(file, models[m], dot) != 0) {
                continue;
            }
            bool base = file[dot + 1] == 'b' || file[dot + 1] == 'f';
            size_t n = strcspn(file + dot + 1, ".");
            (void)snprintf(type, sizeof type, "%s%.*s", "", (int)n, file + dot + 1);
            for (size_t k = 0; base && k < n; k++) {
                type[k] = type[k] >= 'a' ? (char)(type[k] - 32) : type[k];
            }
            if (strstr(all_gguf, type) == NULL || strstr(file, "imatrix") != NULL) {
                continue; /* MXFP4_dense, imatrix */
            }
            qn_gguf *g = open_gguf(dir, type);
            compare_with_index(g, file, qn_json_iter_value(it));
            if (base) {
                compare_bytes(g, file, strcmp(models[m], "qwen3") != 0);
            }
            qn_gguf_close(g);
            n_compared++;
        }
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
    qn_json_free(index);
    assert_true(n_compared >= 20);
}

/* ---- every type of every architecture ---- */

static const qn_json *find_output(const qn_json *manifest, const char *type)
{
    const qn_json *outputs = qn_json_get(manifest, "outputs");
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        if (strcmp(qn_json_string(qn_json_get(qn_json_at(outputs, i), "type"), NULL), type) == 0) {
            return qn_json_at(outputs, i);
        }
    }
    return NULL;
}

static const qn_json *find_entry(const qn_json *output, const char *tensor)
{
    const qn_json *tensors = qn_json_get(output, "tensors");
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        if (strcmp(qn_json_string(qn_json_get(qn_json_at(tensors, i), "name"), NULL), tensor) == 0) {
            return qn_json_at(tensors, i);
        }
    }
    return NULL;
}

static void check_stated_error(const qn_json *output, const qn_tensor *t, const float *got, const float *want)
{
    double error = 0;
    double total = 0;
    double greatest = 0;
    double stated;
    double stated_greatest;
    const qn_json *entry = find_entry(output, t->name);
    assert_non_null(entry);
    assert_string_equal(qn_json_string(qn_json_get(entry, "type"), NULL), qn_dtype_get(t->dtype)->name);
    for (size_t i = 0; i < t->n_elements; i++) {
        double d = (double)got[i] - (double)want[i];
        error += d * d;
        total += (double)want[i] * (double)want[i];
        greatest = fabs(d) > greatest ? fabs(d) : greatest;
    }
    double relative = error == 0 ? 0 : sqrt(error / total);
    assert_true(qn_json_number(qn_json_get(entry, "rel_rmse"), &stated));
    assert_true(qn_json_number(qn_json_get(entry, "max_abs_error"), &stated_greatest));
    if (fabs(stated - relative) > 1e-6 * relative || stated_greatest != greatest) {
        fail_msg("%s %s: relative error %.9g, greatest %.9g; the manifest says %.9g, %.9g", qn_dtype_get(t->dtype)->name, t->name, relative, greatest,
                 stated, stated_greatest);
    }
    assert_true(relative < 0.7);
}

static void every_gguf_type_decodes_to_what_the_manifest_says(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3", "qwen2_untied_sharded", "codellama_mha", "mistral_headdim"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        if (!have_model(models[m])) {
            continue;
        }
        char *dir = new_dir();
        run r = quantize(model_dir(models[m]), dir, all_gguf);
        qn_gguf *reference = open_gguf(dir, "F32");
        const qn_json *outputs = qn_json_get(r.manifest, "outputs");
        assert_int_equal(qn_json_length(outputs), 22);
        for (size_t i = 0; i < qn_json_length(outputs); i++) {
            const qn_json *output = qn_json_at(outputs, i);
            qn_gguf *g = open_gguf(dir, qn_json_string(qn_json_get(output, "type"), NULL));
            assert_int_equal(qn_gguf_n_tensors(g), qn_gguf_n_tensors(reference));
            assert_int_equal(qn_json_length(qn_json_get(output, "tensors")), qn_gguf_n_tensors(g));
            for (size_t k = 0; k < qn_gguf_n_tensors(g); k++) {
                const qn_tensor *t = qn_gguf_tensor_at(g, k);
                float *got = decode(t);
                float *want = decode(qn_gguf_find_tensor(reference, t->name));
                check_stated_error(output, t, got, want);
                free(got);
                free(want);
            }
            qn_gguf_close(g);
        }
        qn_gguf_close(reference);
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
}

/* Rows of q and k go back to Hugging Face's order: element for element the source's. */
static void rope_order_of_llama_files(void **state)
{
    (void)state;
    quern_error err = {0};
    if (!have_model("mistral_headdim")) {
        skip();
    }
    const char *source_dir = model_dir("mistral_headdim");
    char *dir = new_dir();
    qn_safetensors *source;
    run r = quantize(source_dir, dir, "gguf:F32");
    qn_gguf *g = open_gguf(dir, "F32");
    assert_ok(qn_safetensors_open_dir(&source, source_dir, false, &err));
    enum { HEAD = 64, HIDDEN = 64 };
    static const struct { const char *gguf, *hf; } pairs[] = {{"blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight"},
                                                              {"blk.1.attn_k.weight", "model.layers.1.self_attn.k_proj.weight"}};
    for (size_t p = 0; p < 2; p++) {
        const qn_tensor *t = qn_gguf_find_tensor(g, pairs[p].gguf);
        float *ours = decode(t);
        float *theirs = decode(qn_safetensors_find(source, pairs[p].hf));
        for (size_t row = 0; row < t->shape[0]; row++) {
            size_t head = row / HEAD;
            size_t i = row % HEAD;
            size_t from = head * HEAD + (i % 2) * (HEAD / 2) + i / 2;
            assert_memory_equal(ours + row * HIDDEN, theirs + from * HIDDEN, HIDDEN * sizeof(float));
        }
        free(ours);
        free(theirs);
    }
    qn_safetensors_close(source);
    qn_gguf_close(g);
    qn_json_free(r.manifest);
    drop_dir(dir);
}

/* ---- MLX ---- */

typedef struct folder {
    qn_safetensors *weights;
    qn_model_config config;
    qn_arena arena;
} folder;

static void open_folder(folder *f, const char *dir)
{
    quern_error err = {0};
    char *text;
    size_t len;
    qn_arena_init(&f->arena, 0);
    assert_ok(qn_file_read(&text, &len, scratch_path(dir, "config.json"), (size_t)1 << 20, &err));
    assert_ok(qn_config_read_hf(&f->config, &f->arena, text, len, "config.json", NULL, 0, &err));
    assert_ok(qn_safetensors_open_dir(&f->weights, dir, false, &err));
    qn_free(text);
}

static void close_folder(folder *f)
{
    qn_safetensors_close(f->weights);
    qn_arena_deinit(&f->arena);
}

/* A weight of an MLX folder as float32; n receives the number of elements. */
static float *decode_mlx(const folder *f, const char *name, size_t *n)
{
    char module[160];
    char part[176];
    const qn_tensor *t = qn_safetensors_find(f->weights, name);
    assert_non_null(t);
    (void)snprintf(module, sizeof module, "%.*s", (int)(strlen(name) - strlen(".weight")), name);
    if (t->dtype != QN_DTYPE_U32) {
        *n = (size_t)t->n_elements;
        return decode(t);
    }
    qn_affine a = qn_config_affine_for(&f->config, module);
    (void)snprintf(part, sizeof part, "%s.scales", module);
    const qn_tensor *scales = qn_safetensors_find(f->weights, part);
    (void)snprintf(part, sizeof part, "%s.biases", module);
    const qn_tensor *biases = qn_safetensors_find(f->weights, part);
    assert_non_null(scales);
    assert_non_null(biases);
    *n = (size_t)scales->n_elements * a.group;
    float *v = malloc(*n * sizeof *v);
    uint32_t *words = malloc(t->n_bytes);
    assert_non_null(v);
    assert_non_null(words);
    memcpy(words, t->data, t->n_bytes);
    qn_decode_affine_row(a, words, scales->data, biases->data, scales->dtype, v, *n);
    free(words);
    return v;
}

static double distance(const float *x, const float *y, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i];
        sum += d * d;
    }
    return sum;
}

/* Same tensors as mlx-lm's folder, and no larger error against the source. */
static void mlx_is_at_least_as_good_as_mlx_lm(void **state)
{
    (void)state;
    static const struct { const char *reference, *model, *format, *type; } cases[] = {
        {"qwen3.q4_g64", "qwen3", "mlx:4bit", "4bit-g64"},           {"qwen3.q4_g32", "qwen3", "mlx:4bit-g32", "4bit-g32"},
        {"qwen3.q3_g64", "qwen3", "mlx:3bit", "3bit-g64"},           {"qwen3.q6_g64", "qwen3", "mlx:6bit", "6bit-g64"},
        {"qwen3.q8_g64", "qwen3", "mlx:8bit", "8bit-g64"},           {"qwen3.mixed_4_6", "qwen3", "mlx:mixed_4_6", "mixed_4_6-g64"},
        {"llama3_rope.q4_g32", "llama3_rope", "mlx:4bit-g32", "4bit-g32"}, {"qwen3_moe.q4_g64", "qwen3_moe", "mlx:4bit", "4bit-g64"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        char name[128];
        (void)snprintf(name, sizeof name, "mlx/%s/config.json", cases[c].reference);
        const char *path = qn_test_golden(name);
        if (path == NULL || !have_model(cases[c].model)) {
            print_message("SKIP: %s: reference file is absent\n", name);
            continue;
        }
        char reference_dir[1024];
        char relative[64];
        folder ours;
        folder theirs;
        folder plain;
        char *dir = new_dir();
        (void)snprintf(reference_dir, sizeof reference_dir, "%.*s", (int)(strlen(path) - strlen("/config.json")), path);
        char formats[64];
        (void)snprintf(formats, sizeof formats, "%s,mlx:bf16", cases[c].format);
        run r = quantize(model_dir(cases[c].model), dir, formats);
        (void)snprintf(relative, sizeof relative, "mlx/%s", cases[c].type);
        open_folder(&ours, scratch_path(dir, relative));
        open_folder(&plain, scratch_path(dir, "mlx/bf16"));
        open_folder(&theirs, reference_dir);
        assert_int_equal(qn_safetensors_n_tensors(ours.weights), qn_safetensors_n_tensors(theirs.weights));
        double our_error = 0;
        double their_error = 0;
        for (size_t i = 0; i < qn_safetensors_n_tensors(theirs.weights); i++) {
            const qn_tensor *t = qn_safetensors_tensor_at(theirs.weights, i);
            const qn_tensor *o = qn_safetensors_find(ours.weights, t->name);
            assert_non_null(o);
            assert_int_equal(o->dtype, t->dtype);
            assert_int_equal(o->n_dims, t->n_dims);
            assert_memory_equal(o->shape, t->shape, t->n_dims * sizeof t->shape[0]);
            if (t->dtype == QN_DTYPE_U32) {
                size_t n;
                float *a = decode_mlx(&ours, t->name, &n);
                float *b = decode_mlx(&theirs, t->name, &n);
                float *x = decode_mlx(&plain, t->name, &n);
                our_error += distance(a, x, n);
                their_error += distance(b, x, n);
                free(a);
                free(b);
                free(x);
            } else if (strstr(t->name, "norm") != NULL) {
                assert_memory_equal(o->data, t->data, t->n_bytes);
            }
        }
        assert_true(their_error > 0 && our_error < 0.9 * their_error);
        close_folder(&ours);
        close_folder(&theirs);
        close_folder(&plain);
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
}

static void mlx_folders_of_every_kind(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3", "qwen2_untied_sharded", "llama3_rope", "mixtral", "qwen3_moe_nonorm_sparse"};
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        if (!have_model(models[m])) {
            continue;
        }
        char *dir = new_dir();
        run r = quantize(model_dir(models[m]), dir, all_mlx);
        const qn_json *outputs = qn_json_get(r.manifest, "outputs");
        assert_int_equal(qn_json_length(outputs), 11);
        for (size_t i = 0; i < qn_json_length(outputs); i++) {
            const qn_json *output = qn_json_at(outputs, i);
            const char *type = qn_json_string(qn_json_get(output, "type"), NULL);
            folder f;
            folder plain;
            if (strcmp(type, "mxfp4-g32") == 0) {
                continue; /* a mode that the reader of configurations leaves to a later version */
            }
            open_folder(&f, scratch_path(dir, qn_json_string(qn_json_get(output, "path"), NULL)));
            open_folder(&plain, scratch_path(dir, "mlx/bf16"));
            const qn_json *tensors = qn_json_get(output, "tensors");
            for (size_t k = 0; k < qn_json_length(tensors); k++) {
                const char *name = qn_json_string(qn_json_get(qn_json_at(tensors, k), "name"), NULL);
                double stated;
                size_t n;
                size_t n_plain;
                float *a = decode_mlx(&f, name, &n);
                float *x = decode_mlx(&plain, name, &n_plain);
                float *zeros = calloc(n, sizeof *zeros);
                assert_int_equal(n, n_plain);
                assert_true(qn_json_number(qn_json_get(qn_json_at(tensors, k), "rel_rmse"), &stated));
                double relative = sqrt(distance(a, x, n) / distance(x, zeros, n));
                assert_true(fabs(relative - stated) <= 1e-6 * relative);
                free(a);
                free(x);
                free(zeros);
            }
            close_folder(&f);
            close_folder(&plain);
        }
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
}

static void mlx_weights_are_cut_into_shards(void **state)
{
    (void)state;
    if (!have_model("qwen2_untied_sharded")) {
        skip();
    }
    char *whole = new_dir();
    char *cut = new_dir();
    run a = quantize(model_dir("qwen2_untied_sharded"), whole, "mlx:4bit");
    run b = {.opt = a.opt};
    b.opt.output_dir = cut;
    run_quantize(&b, 60000);
    assert_int_equal(b.status, QUERN_OK);
    assert_false(qn_path_exists(scratch_path(whole, "mlx/4bit-g64/model.safetensors.index.json")));
    assert_true(qn_path_is_file(scratch_path(whole, "mlx/4bit-g64/model.safetensors")));
    assert_true(qn_path_is_file(scratch_path(cut, "mlx/4bit-g64/model.safetensors.index.json")));
    folder f;
    folder g;
    open_folder(&f, scratch_path(whole, "mlx/4bit-g64"));
    open_folder(&g, scratch_path(cut, "mlx/4bit-g64"));
    assert_true(qn_safetensors_n_files(g.weights) >= 3);
    assert_int_equal(qn_safetensors_n_tensors(f.weights), qn_safetensors_n_tensors(g.weights));
    for (size_t i = 0; i < qn_safetensors_n_tensors(f.weights); i++) {
        const qn_tensor *t = qn_safetensors_tensor_at(f.weights, i);
        const qn_tensor *u = qn_safetensors_find(g.weights, t->name);
        assert_non_null(u);
        assert_memory_equal(t->data, u->data, t->n_bytes);
    }
    close_folder(&f);
    close_folder(&g);
    qn_json_free(a.manifest);
    qn_json_free(b.manifest);
    drop_dir(whole);
    drop_dir(cut);
}

/* ---- the run itself ---- */

static void compare_hashes(const qn_json *a, const qn_json *b)
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

/* Bytes and figures are the same for any number of threads and any memory bound. */
static void results_do_not_depend_on_threads_or_memory(void **state)
{
    (void)state;
    if (!have_model("llama3_rope")) {
        skip();
    }
    char *dir = new_dir();
    run r = quantize(model_dir("llama3_rope"), dir, "gguf:Q4_K_M,gguf:F16,mlx:4bit-g32,mlx:mxfp4");
    static const struct { size_t threads; uint64_t memory; } settings[] = {{1, 0}, {5, 0}, {3, (uint64_t)110 << 20}};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        char *other = new_dir();
        run s = {.opt = r.opt};
        s.opt.output_dir = other;
        s.opt.n_threads = settings[i].threads;
        s.opt.memory_bytes = settings[i].memory;
        run_quantize(&s, 0);
        assert_int_equal(s.status, QUERN_OK);
        compare_hashes(r.manifest, s.manifest);
        qn_json_free(s.manifest);
        drop_dir(other);
    }
    qn_json_free(r.manifest);
    drop_dir(dir);
}

static void check_file_entries(const qn_json *files, const char *dir)
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

static void manifest_says_what_is_there(void **state)
{
    (void)state;
    quern_error err = {0};
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    run r = quantize(model_dir("qwen3"), dir, "gguf:Q8_0,mlx:8bit");
    char *text;
    size_t len;
    qn_json *on_disk;
    assert_ok(qn_file_read(&text, &len, scratch_path(dir, "manifest.json"), (size_t)1 << 24, &err));
    assert_ok(qn_json_parse(&on_disk, text, len, QN_JSON_REJECT_DUPLICATES, "manifest.json", &err));
    assert_string_equal(qn_json_string(qn_json_get(on_disk, "schema"), NULL), "quern.manifest/1");
    assert_string_equal(qn_json_string(qn_json_get(on_disk, "quern_version"), NULL), quern_version());
    assert_int_equal(strlen(qn_json_string(qn_json_get(on_disk, "created"), NULL)), 20);
    assert_int_equal(qn_json_get_kind(qn_json_get(on_disk, "calibration")), QN_JSON_NULL);
    const qn_json *source = qn_json_get(on_disk, "source");
    int64_t parameters;
    assert_true(qn_json_int(qn_json_get(source, "parameters"), &parameters));
    assert_int_equal(parameters, 919296 + 0);
    assert_string_equal(qn_json_string(qn_json_get(source, "architecture"), NULL), "qwen3");
    check_file_entries(qn_json_get(source, "files"), model_dir("qwen3"));
    const qn_json *outputs = qn_json_get(on_disk, "outputs");
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        const qn_json *o = qn_json_at(outputs, i);
        double bits;
        check_file_entries(qn_json_get(o, "files"), dir);
        assert_true(qn_json_number(qn_json_get(o, "bits_per_weight"), &bits));
        assert_true(bits > 8.4 && bits < 8.7);
        assert_int_equal(qn_json_get_kind(qn_json_get(o, "quality")), QN_JSON_NULL);
        assert_string_equal(qn_json_string(qn_json_get(qn_json_get(o, "gate"), "verdict"), NULL), "skipped");
    }
    assert_non_null(find_output(on_disk, "8bit-g64"));
    qn_json_free(on_disk);
    qn_free(text);
    qn_json_free(r.manifest);
    drop_dir(dir);
}

static void dry_run_writes_nothing_and_foretells_sizes(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    run plan = {.opt = {.source = model_dir("qwen3"), .output_dir = scratch_path(dir, "not/yet"), .formats = "gguf:Q4_K_M,mlx:4bit", .name = "tiny",
                        .dry_run = true}};
    run_quantize(&plan, 0);
    assert_int_equal(plan.status, QUERN_OK);
    assert_int_equal(scratch_count(dir), 0);
    assert_string_equal(qn_json_string(qn_json_get(plan.manifest, "schema"), NULL), "quern.quantize_plan/1");
    run r = quantize(model_dir("qwen3"), dir, "gguf:Q4_K_M,mlx:4bit");
    for (size_t i = 0; i < 2; i++) {
        int64_t foretold;
        int64_t written;
        assert_true(qn_json_int(qn_json_get(qn_json_at(qn_json_get(plan.manifest, "outputs"), i), "bytes"), &foretold));
        assert_true(qn_json_int(qn_json_get(qn_json_at(qn_json_get(r.manifest, "outputs"), i), "bytes"), &written));
        assert_true(foretold >= written - 4096 && foretold <= written + 32768);
    }
    int64_t memory;
    assert_true(qn_json_int(qn_json_get(plan.manifest, "peak_memory_bytes"), &memory));
    assert_true(memory > 0 && memory <= (int64_t)2 << 30);
    qn_json_free(plan.manifest);
    qn_json_free(r.manifest);
    drop_dir(dir);
}

static void tensor_types_can_be_chosen(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    static const char *const overrides[] = {"blk\\.0\\.ffn_(down|up)=q8_0", "attn_v=F16", "ffn_down=Q2_K"};
    static const char *const bad[] = {"ffn_down", "=Q8_0", "ffn_down=Q9", "(=Q8_0", "x=I32"};
    char *dir = new_dir();
    run r = {.opt = {.source = model_dir("qwen3"), .output_dir = dir, .name = "tiny", .formats = "gguf:Q4_K_S", .tensor_types = overrides,
                     .n_tensor_types = 3}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    qn_gguf *g = open_gguf(dir, "Q4_K_S");
    static const struct { const char *name; qn_dtype type; } expected[] = {
        {"blk.0.ffn_down.weight", QN_DTYPE_Q8_0}, {"blk.0.ffn_up.weight", QN_DTYPE_Q8_0}, {"blk.1.attn_v.weight", QN_DTYPE_F16},
        {"blk.1.ffn_down.weight", QN_DTYPE_Q2_K}, {"blk.1.ffn_up.weight", QN_DTYPE_Q4_K}, {"blk.0.ffn_norm.weight", QN_DTYPE_F32},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_int_equal(qn_gguf_find_tensor(g, expected[i].name)->dtype, expected[i].type);
    }
    qn_gguf_close(g);
    qn_json_free(r.manifest);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        r.opt.tensor_types = &bad[i];
        r.opt.n_tensor_types = 1;
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_ERROR_USAGE);
    }
    drop_dir(dir);
}

static bool warns(const qn_json *output, const char *word)
{
    const qn_json *warnings = qn_json_get(output, "warnings");
    for (size_t i = 0; i < qn_json_length(warnings); i++) {
        if (strstr(qn_json_string(qn_json_at(warnings, i), NULL), word) != NULL) {
            return true;
        }
    }
    return false;
}

/* ---- what cannot be done ---- */

/* A copy of a checkpoint's folder that a test may spoil. */
static void copy_model(const char *model, const char *dir)
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

static void replace_in_file(const char *path, const char *from, const char *to)
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

/* Overwrites bytes of a tensor in a model.safetensors. */
static void poke_tensor(const char *dir, const char *name, size_t offset, const void *bytes, size_t n)
{
    quern_error err = {0};
    qn_safetensors *s;
    assert_ok(qn_safetensors_open_dir(&s, dir, false, &err));
    const qn_tensor *t = qn_safetensors_find(s, name);
    assert_non_null(t);
    long at = (long)(t->file_offset + offset);
    qn_safetensors_close(s);
    FILE *f = fopen(scratch_path(dir, "model.safetensors"), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    (void)fclose(f);
}

/* Runs into a new folder and asserts the status, a word of the message, and that no file is left. */
static void expect_failure(const char *source, const char *formats, quern_status status, const char *word)
{
    char *dir = new_dir();
    run r = {.opt = {.source = source, .output_dir = dir, .formats = formats, .n_threads = 2}};
    run_quantize(&r, 0);
    if (r.status != status || strstr(r.err.message, word) == NULL) {
        fail_msg("%s: status %s, message '%s'; expected %s with '%s'", formats, quern_status_name(r.status), r.err.message, quern_status_name(status), word);
    }
    assert_int_equal(count_files(dir), 0);
    drop_dir(dir);
}

static void bad_weights_are_named_and_leave_nothing(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    const char *formats = "gguf:Q4_K_M,mlx:4bit,gguf:F32";
    char *source = new_dir();
    const uint16_t nan = 0x7fc0;
    const uint16_t infinity = 0xff80;
    copy_model("qwen3", source);
    poke_tensor(source, "model.layers.1.mlp.down_proj.weight", 2 * (5 * 256 + 17), &nan, 2);
    expect_failure(source, formats, QUERN_ERROR_INVALID, "model.layers.1.mlp.down_proj.weight");
    expect_failure(source, formats, QUERN_ERROR_INVALID, "row 5, column 17");
    copy_model("qwen3", source);
    poke_tensor(source, "model.norm.weight", 2 * 255, &infinity, 2);
    expect_failure(source, formats, QUERN_ERROR_INVALID, "model.norm.weight");
    assert_int_equal(truncate(scratch_path(source, "model.safetensors"), 300000), 0);
    expect_failure(source, formats, QUERN_ERROR_INVALID, "model.safetensors");
    copy_model("qwen3", source);
    replace_in_file(scratch_path(source, "model.safetensors"), "model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.xx_proj.weight");
    expect_failure(source, formats, QUERN_ERROR_INVALID, "model.layers.1.mlp.up_proj.weight");
    copy_model("qwen3", source);
    replace_in_file(scratch_path(source, "config.json"), "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    expect_failure(source, formats, QUERN_ERROR_UNSUPPORTED, "model.layers.1."); /* a layer that would be dropped */
    copy_model("qwen3", source);
    replace_in_file(scratch_path(source, "config.json"), "\"intermediate_size\": 256", "\"intermediate_size\": 512");
    expect_failure(source, formats, QUERN_ERROR_INVALID, "expected (512, 256)");
    copy_model("qwen3", source);
    (void)unlink(scratch_path(source, "tokenizer.json"));
    expect_failure(source, formats, QUERN_ERROR_NOT_FOUND, "tokenizer.json");
    drop_dir(source);
    expect_failure("/nonexistent/checkpoint", formats, QUERN_ERROR_NOT_FOUND, "/nonexistent/checkpoint");
}

static void what_gguf_cannot_say_is_refused_or_said(void **state)
{
    (void)state;
    if (have_model("qwen3_moe_nonorm_sparse")) {
        expect_failure(model_dir("qwen3_moe_nonorm_sparse"), "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "norm_topk_prob");
    }
    if (have_model("gpt_oss")) {
        expect_failure(model_dir("gpt_oss"), "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "gpt_oss");
    }
    if (have_model("qwen3_fp8")) {
        expect_failure(model_dir("qwen3_fp8"), "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "fp8");
    }
    char *source = new_dir();
    char *dir = new_dir();
    if (have_model("smollm3")) {
        copy_model("smollm3", source);
        replace_in_file(scratch_path(source, "config.json"), "\"no_rope_layer_interval\": 4", "\"no_rope_layer_interval\": 2");
        replace_in_file(scratch_path(source, "config.json"), "\"no_rope_layers\"", "\"unknown\"");
        expect_failure(source, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "rope");
    }
    if (have_model("mistral_headdim")) {
        copy_model("mistral_headdim", source);
        replace_in_file(scratch_path(source, "config.json"), "\"sliding_window\": null", "\"sliding_window\": 4096");
        run r = quantize(source, dir, "gguf:Q8_0,mlx:8bit");
        assert_true(warns(find_output(r.manifest, "Q8_0"), "sliding window of 4096"));
        assert_false(warns(find_output(r.manifest, "8bit-g64"), "sliding window"));
        qn_json_free(r.manifest);
    }
    if (have_model("qwen3_yarn")) {
        copy_model("qwen3_yarn", source);
        run r = quantize(source, dir, "gguf:Q8_0");
        assert_false(warns(find_output(r.manifest, "Q8_0"), "truncate"));
        qn_json_free(r.manifest);
        replace_in_file(scratch_path(source, "config.json"), "\"factor\"", "\"truncate\": false, \"factor\"");
        r = quantize(source, dir, "gguf:Q8_0");
        assert_true(warns(find_output(r.manifest, "Q8_0"), "truncate"));
        qn_json_free(r.manifest);
    }
    drop_dir(source);
    drop_dir(dir);
}

static void values_beyond_float16_are_clipped_and_said(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *source = new_dir();
    char *dir = new_dir();
    const uint16_t large = 0x4800; /* 131072 */
    copy_model("qwen3", source);
    poke_tensor(source, "model.layers.0.mlp.gate_proj.weight", 40, &large, 2);
    run r = quantize(source, dir, "gguf:F16,gguf:BF16");
    assert_true(warns(find_output(r.manifest, "F16"), "blk.0.ffn_gate.weight"));
    assert_false(warns(find_output(r.manifest, "BF16"), "blk.0.ffn_gate.weight"));
    qn_gguf *g = open_gguf(dir, "F16");
    float *v = decode(qn_gguf_find_tensor(g, "blk.0.ffn_gate.weight"));
    assert_true(v[20] == 65504.0f);
    free(v);
    qn_gguf_close(g);
    qn_json_free(r.manifest);
    drop_dir(source);
    drop_dir(dir);
}

/* ---- interruption, full and forbidden places ---- */

static bool stop_after(void *user, const quern_quantize_progress *p)
{
    size_t *left = user;
    assert_true(p->tensors_done <= p->tensors_total && p->bytes_done <= p->bytes_total && p->tensor != NULL);
    return (*left)-- > 1;
}

static void interruption_leaves_nothing(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    static const size_t stops[] = {1, 7, 24};
    for (size_t i = 0; i < 3; i++) {
        size_t left = stops[i];
        char *dir = new_dir();
        run r = {.opt = {.source = model_dir("qwen3"), .output_dir = dir, .formats = "gguf:Q4_K_M,mlx:4bit", .n_threads = 2, .on_progress = stop_after,
                         .user = &left}};
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
        assert_int_equal(left, 0);
        assert_int_equal(count_files(dir), 0);
        drop_dir(dir);
    }
}

static void existing_outputs_survive_failure_and_are_replaced_by_success(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    run r = quantize(model_dir("qwen3"), dir, "gguf:Q8_0,mlx:4bit");
    size_t n_files = count_files(dir);
    size_t left = 5;
    run stopped = {.opt = r.opt};
    stopped.opt.on_progress = stop_after;
    stopped.opt.user = &left;
    run_quantize(&stopped, 0);
    assert_int_equal(stopped.status, QUERN_ERROR_CANCELLED);
    assert_int_equal(count_files(dir), n_files);
    for (size_t i = 0; i < 2; i++) {
        check_file_entries(qn_json_get(qn_json_at(qn_json_get(r.manifest, "outputs"), i), "files"), dir);
    }
    run again = quantize(model_dir("qwen3"), dir, "gguf:Q8_0,mlx:4bit");
    assert_int_equal(count_files(dir), n_files);
    compare_hashes(r.manifest, again.manifest);
    qn_json_free(r.manifest);
    qn_json_free(again.manifest);
    drop_dir(dir);
}

static void places_that_cannot_be_written(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    FILE *f = fopen(scratch_path(dir, "file"), "w");
    assert_non_null(f);
    (void)fclose(f);
    run r = {.opt = {.source = model_dir("qwen3"), .output_dir = scratch_path(dir, "file/below"), .formats = "gguf:Q8_0"}};
    run_quantize(&r, 0);
    assert_true(r.status == QUERN_ERROR_IO || r.status == QUERN_ERROR_NOT_FOUND);
    assert_int_equal(scratch_count(dir), 1);
    if (geteuid() == 0) {
        print_message("SKIP: read_only_folder: root may write everywhere\n");
    } else {
        char *locked = strdup(scratch_path(dir, "locked"));
        assert_int_equal(mkdir(locked, 0555), 0);
        r.opt.output_dir = locked;
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_ERROR_IO);
        free(locked);
    }
    r.opt.output_dir = dir;
    r.opt.memory_bytes = 1000000;
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_LIMIT);
    assert_non_null(strstr(r.err.message, "MiB"));
    r.opt.memory_bytes = 0;
    r.opt.name = "a/b";
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_USAGE);
    drop_dir(dir);
}

/* Every allocation that can fail does so once (the first ones all, later ones in growing steps): a clear error, nothing left behind. */
static void failing_allocations(void **state)
{
    (void)state;
    if (!have_model("llama3_rope")) {
        skip();
    }
    char *dir = new_dir();
    run r = {.opt = {.source = model_dir("llama3_rope"), .output_dir = dir, .formats = "gguf:Q4_K_M,mlx:4bit-g32", .name = "tiny", .n_threads = 2}};
    qn_alloc_fail_at(0);
    run_quantize(&r, 0);
    uint64_t total = qn_alloc_count();
    assert_int_equal(r.status, QUERN_OK);
    qn_json_free(r.manifest);
    remove_tree(dir);
    assert_int_equal(mkdir(dir, 0777), 0);
    assert_true(total > 100);
    for (uint64_t n = 1; n < total; n += 1 + n / 40) {
        char *text = NULL;
        size_t len;
        quern_error err = {0};
        qn_alloc_fail_at(n);
        quern_status status = quern_quantize(&r.opt, &text, &len, &err);
        qn_alloc_fail_at(0);
        if (status == QUERN_OK) { /* an allocation that is not needed, such as JSON's cache */
            quern_free(text);
            remove_tree(dir);
            assert_int_equal(mkdir(dir, 0777), 0);
            continue;
        }
        if (status != QUERN_ERROR_MEMORY) {
            fail_msg("allocation %llu: %s: %s", (unsigned long long)n, quern_status_name(status), err.message);
        }
        assert_null(text);
    }
    drop_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_equals_reference_converter),
        cmocka_unit_test(every_gguf_type_decodes_to_what_the_manifest_says),
        cmocka_unit_test(rope_order_of_llama_files),
        cmocka_unit_test(mlx_is_at_least_as_good_as_mlx_lm),
        cmocka_unit_test(mlx_folders_of_every_kind),
        cmocka_unit_test(mlx_weights_are_cut_into_shards),
        cmocka_unit_test(results_do_not_depend_on_threads_or_memory),
        cmocka_unit_test(manifest_says_what_is_there),
        cmocka_unit_test(dry_run_writes_nothing_and_foretells_sizes),
        cmocka_unit_test(tensor_types_can_be_chosen),
        cmocka_unit_test(bad_weights_are_named_and_leave_nothing),
        cmocka_unit_test(what_gguf_cannot_say_is_refused_or_said),
        cmocka_unit_test(values_beyond_float16_are_clipped_and_said),
        cmocka_unit_test(interruption_leaves_nothing),
        cmocka_unit_test(existing_outputs_survive_failure_and_are_replaced_by_success),
        cmocka_unit_test(places_that_cannot_be_written),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
