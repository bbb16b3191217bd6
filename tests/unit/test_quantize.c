/* test_quantize.c - checkpoints to GGUF and MLX: the same tensors, bytes and keys as the reference converters give, and errors as the
 * manifest states them. What happens when a run fails is in test_quantize_failures.c. */
#include "quantize_run.h"

#include "quantize/slices.h"

static const char all_gguf[] =
    "gguf:F32,gguf:F16,gguf:BF16,gguf:Q8_0,gguf:Q6_K,gguf:Q5_K_M,gguf:Q5_K_S,gguf:Q5_1,gguf:Q5_0,gguf:Q4_K_M,gguf:Q4_K_S,"
    "gguf:Q4_1,gguf:Q4_0,gguf:Q3_K_L,gguf:Q3_K_M,gguf:Q3_K_S,gguf:Q2_K,gguf:IQ4_NL,gguf:IQ4_XS,gguf:TQ1_0,gguf:TQ2_0,"
    "gguf:MXFP4_MOE";
static const char all_mlx[] =
    "mlx:2bit-g32,mlx:3bit-g32,mlx:4bit-g32,mlx:5bit-g32,mlx:6bit-g32,mlx:8bit-g32,mlx:4bit,mlx:mixed_4_6,mlx:mixed_3_6,mlx:mxfp4,"
    "mlx:bf16";

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
        compare_key(g, file, qn_json_iter_key(it, NULL), qn_json_iter_value(it));
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
    static const char *const models[] = {"qwen3",   "qwen2_tied", "llama3_rope",    "qwen3_yarn",
                                         "mixtral", "qwen3_moe",  "qwen3_moe_k256", "smollm3"};
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
        fail_msg("%s %s: relative error %.9g, greatest %.9g; the manifest says %.9g, %.9g", qn_dtype_get(t->dtype)->name, t->name, relative,
                 greatest, stated, stated_greatest);
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
    static const struct {
        const char *gguf, *hf;
    } pairs[] = {{"blk.1.attn_q.weight", "model.layers.1.self_attn.q_proj.weight"},
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
    static const struct {
        const char *reference, *model, *format, *type;
    } cases[] = {
        {"qwen3.q4_g64", "qwen3", "mlx:4bit", "4bit-g64"},
        {"qwen3.q4_g32", "qwen3", "mlx:4bit-g32", "4bit-g32"},
        {"qwen3.q3_g64", "qwen3", "mlx:3bit", "3bit-g64"},
        {"qwen3.q6_g64", "qwen3", "mlx:6bit", "6bit-g64"},
        {"qwen3.q8_g64", "qwen3", "mlx:8bit", "8bit-g64"},
        {"qwen3.mixed_4_6", "qwen3", "mlx:mixed_4_6", "mixed_4_6-g64"},
        {"llama3_rope.q4_g32", "llama3_rope", "mlx:4bit-g32", "4bit-g32"},
        {"qwen3_moe.q4_g64", "qwen3_moe", "mlx:4bit", "4bit-g64"},
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

static double number_at(const qn_json *object, const char *key)
{
    double v = NAN;
    assert_true(qn_json_number(qn_json_get(object, key), &v));
    return v;
}

static qn_json *read_config(const char *dir)
{
    quern_error err = {0};
    char *text;
    size_t len;
    qn_json *root;
    assert_ok(qn_file_read(&text, &len, scratch_path(dir, "config.json"), (size_t)1 << 20, &err));
    assert_ok(qn_json_parse(&root, text, len, QN_JSON_REJECT_DUPLICATES, "config.json", &err));
    qn_free(text);
    return root;
}

/* transformers 5 writes rope_parameters alone; mlx-lm looks for rope_theta and rope_scaling, and at "type" before "rope_type". */
static void mlx_configurations_say_what_mlx_lm_reads(void **state)
{
    (void)state;
    char *source = new_dir();
    char *dir = new_dir();
    copy_model("qwen3_yarn", source);
    replace_in_file(scratch_path(source, "config.json"), "\"rope_scaling\": {",
                    "\"rope_parameters\": { \"attention_factor\": 1.5, \"rope_theta\": 50000,");
    replace_in_file(scratch_path(source, "config.json"), "\"rope_theta\": 1000000,", "");
    replace_in_file(scratch_path(source, "config.json"), "\"tie_word_embeddings\": true,",
                    "\"tie_word_embeddings\": true, \"original_max_position_embeddings\": 512,");
    run r = quantize(source, dir, "mlx:8bit");
    qn_json *config = read_config(scratch_path(dir, "mlx/8bit-g64"));
    const qn_json *scaling = qn_json_get(config, "rope_scaling");
    assert_true(number_at(config, "rope_theta") == 50000);
    assert_string_equal(qn_json_string(qn_json_get(scaling, "type"), NULL), "yarn");
    assert_string_equal(qn_json_string(qn_json_get(scaling, "rope_type"), NULL), "yarn");
    assert_true(number_at(scaling, "factor") == 4 && number_at(scaling, "original_max_position_embeddings") == 512);
    assert_true(number_at(scaling, "attention_factor") == 1.5);
    assert_true(fabs(0.1 * number_at(scaling, "mscale") * log(4.0) + 1 - 1.5) < 1e-12); /* mlx-lm's formula */
    assert_true(number_at(qn_json_get(config, "rope_parameters"), "rope_theta") == 50000);
    assert_true(qn_json_bool(qn_json_get(config, "tie_word_embeddings"), false));
    folder f; /* and to us it says what the source did */
    open_folder(&f, scratch_path(dir, "mlx/8bit-g64"));
    const qn_rope_config *rope = &f.config.rope;
    assert_true(rope->scaling == QN_ROPE_YARN && rope->theta == 50000 && rope->factor == 4 && rope->original_ctx == 512);
    assert_true(rope->attention_factor == 1.5 && rope->beta_fast == 32 && rope->beta_slow == 1 && rope->truncate);
    close_folder(&f);
    qn_json_free(config);
    qn_json_free(r.manifest);
    /* no scaling: said as null, so that nothing else in the file counts */
    copy_model("codellama_mha", source);
    r = quantize(source, dir, "mlx:bf16");
    config = read_config(scratch_path(dir, "mlx/bf16"));
    assert_non_null(qn_json_get(config, "rope_scaling"));
    assert_int_equal(qn_json_get_kind(qn_json_get(config, "rope_scaling")), QN_JSON_NULL);
    assert_int_equal(qn_json_get_kind(qn_json_get(config, "tie_word_embeddings")),
                     QN_JSON_BOOL); /* absent means true to mlx-lm, false here */
    assert_false(qn_json_bool(qn_json_get(config, "tie_word_embeddings"), true));
    assert_true(number_at(config, "rope_theta") == 1e6);
    qn_json_free(config);
    qn_json_free(r.manifest);
    drop_dir(source);
    drop_dir(dir);
}

static void write_text(const char *path, const char *text) { write_file(path, text, strlen(text)); }

static void check_templates(const char *path, const char *plain, const char *tool_use)
{
    quern_error err;
    quern_model *m;
    assert_ok(quern_model_open(&m, path, &(quern_model_options){.vocabulary_only = true}, &err));
    assert_string_equal(quern_model_get_template_source(m), plain);
    assert_string_equal(quern_model_get_tool_template_source(m), tool_use);
    assert_ptr_not_equal(quern_model_get_template(m), quern_model_get_tool_template(m));
    quern_model_close(m);
}

/* A second template for requests with tools, from files and from tokenizer_config.json, reaches every output. */
static void both_chat_templates_are_kept(void **state)
{
    (void)state;
    char *source = new_dir(), *dir = new_dir();
    copy_model("qwen3", source);
    for (int form = 0; form < 2; form++) {
        if (form == 0) {
            assert_int_equal(mkdir(scratch_path(source, "additional_chat_templates"), 0777), 0);
            write_text(scratch_path(source, "additional_chat_templates/tool_use.jinja"), "with {{ tools }}");
            write_text(scratch_path(source, "chat_template.jinja"), "plain");
        } else {
            assert_int_equal(unlink(scratch_path(source, "chat_template.jinja")), 0);
            write_text(scratch_path(source, "tokenizer_config.json"), "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"with {{ "
                                                                      "tools }}\"},{\"name\":\"default\",\"template\":\"plain\"}]}");
        }
        check_templates(source, "plain", "with {{ tools }}");
        run r = quantize(source, dir, "gguf:F16,mlx:8bit");
        const char *file = qn_json_string(qn_json_get(find_output(r.manifest, "F16"), "path"), NULL);
        assert_non_null(file);
        check_templates(scratch_path(dir, file), "plain", "with {{ tools }}");
        check_templates(scratch_path(dir, "mlx/8bit-g64"), "plain", "with {{ tools }}");
        qn_json_free(r.manifest);
        remove_tree(scratch_path(dir, "mlx"));
    }
    drop_dir(source);
    drop_dir(dir);
}

/* A tokenizer_config.json of another shape is an error, not a model without template. */
static void odd_tokenizer_configs_are_refused(void **state)
{
    (void)state;
    static const char *const odd[] = {"[]", "{\"chat_template\":5}", "{\"chat_template\":{\"default\":\"x\"}}"};
    quern_error err;
    char *source = new_dir();
    copy_model("qwen3", source);
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        quern_model *m = NULL;
        write_text(scratch_path(source, "tokenizer_config.json"), odd[i]);
        assert_int_equal(quern_model_open(&m, source, NULL, &err), QUERN_ERROR_INVALID);
        assert_non_null(strstr(err.message, "tokenizer_config.json"));
    }
    drop_dir(source);
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
    qn_json_free(b.manifest);
    run_quantize(&b, 0); /* again, in one file: the shards of the run before must not stay beside it */
    assert_int_equal(b.status, QUERN_OK);
    assert_int_equal(count_files(cut), count_files(whole));
    qn_json_free(a.manifest);
    qn_json_free(b.manifest);
    drop_dir(whole);
    drop_dir(cut);
}

/* ---- the run itself ---- */

/* Bytes and figures are the same for any number of threads and any memory bound. */
static void results_do_not_depend_on_threads_or_memory(void **state)
{
    (void)state;
    if (!have_model("llama3_rope")) {
        skip();
    }
    char *dir = new_dir();
    run r = quantize(model_dir("llama3_rope"), dir, "gguf:Q4_K_M,gguf:F16,mlx:4bit-g32,mlx:mxfp4");
    static const struct {
        size_t threads;
        uint64_t memory;
    } settings[] = {{1, 0}, {5, 0}, {3, (uint64_t)110 << 20}};
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
    run plan = {.opt = {.source = model_dir("qwen3"),
                        .output_dir = scratch_path(dir, "not/yet"),
                        .formats = "gguf:Q4_K_M,mlx:4bit",
                        .name = "tiny",
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
    run r = {.opt = {.source = model_dir("qwen3"),
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q4_K_S",
                     .tensor_types = overrides,
                     .n_tensor_types = 3}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    qn_gguf *g = open_gguf(dir, "Q4_K_S");
    static const struct {
        const char *name;
        qn_dtype type;
    } expected[] = {
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

/* Figures are sums over slices: q and k of families that GGUF reorders are cut at heads even if no output does. */
static void slices_do_not_depend_on_other_formats(void **state)
{
    (void)state;
    qn_piece piece = {.what = {.part = QN_PART_ATTN_Q, .n_dims = 2, .n_cols = 1000}, .n_parts = 1, .n_rows = 960, .n_cols = 1000};
    qn_sink sink = {.permute_dim = 96};
    qn_output output = {.sinks = &sink};
    qn_job job = {.source = {.pieces = &piece, .n_pieces = 1}, .outputs = &output, .n_outputs = 1};
    job.source.config.family = QN_FAMILY_LLAMA;
    job.source.config.head_dim = 96;
    qn_slicing with = qn_slicing_of(&job, 0);
    job.n_outputs = 0;
    qn_slicing without = qn_slicing_of(&job, 0);
    assert_int_equal(with.rows_a_slice, without.rows_a_slice);
    assert_int_equal(with.rows_a_slice % 96, 0);
    piece.what.part = QN_PART_ATTN_V;
    assert_int_not_equal(qn_slicing_of(&job, 0).rows_a_slice % 96, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_equals_reference_converter),   cmocka_unit_test(every_gguf_type_decodes_to_what_the_manifest_says),
        cmocka_unit_test(rope_order_of_llama_files),         cmocka_unit_test(mlx_is_at_least_as_good_as_mlx_lm),
        cmocka_unit_test(mlx_folders_of_every_kind),         cmocka_unit_test(mlx_configurations_say_what_mlx_lm_reads),
        cmocka_unit_test(mlx_weights_are_cut_into_shards),   cmocka_unit_test(both_chat_templates_are_kept),
        cmocka_unit_test(odd_tokenizer_configs_are_refused), cmocka_unit_test(results_do_not_depend_on_threads_or_memory),
        cmocka_unit_test(manifest_says_what_is_there),       cmocka_unit_test(dry_run_writes_nothing_and_foretells_sizes),
        cmocka_unit_test(tensor_types_can_be_chosen),        cmocka_unit_test(slices_do_not_depend_on_other_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
