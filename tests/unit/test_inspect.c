/* test_inspect.c - inspection documents of every kind of file, the whole corpus of corrupt files from outside, and manifests. */
#include "test_files.h"

#include <dirent.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/sha256.h"
#include "quern/inspect.h"
#include "quern/tokenizer.h"

static const quern_inspect_options everything = {.tensors = true, .metadata = true, .check_values = true};

/* The document of a path that must be fine. */
static qn_json *inspect(const char *path)
{
    quern_error err;
    char *text;
    size_t len;
    qn_json *doc;
    assert_ok(quern_inspect(path, &everything, &text, &len, &err));
    assert_int_equal(strlen(text), len);
    assert_ok(qn_json_parse(&doc, text, len, QN_JSON_REJECT_DUPLICATES, "document", &err));
    assert_string_equal(qn_json_string(qn_json_get(doc, "schema"), NULL), "quern.inspect/1");
    assert_string_equal(qn_json_string(qn_json_get(doc, "path"), NULL), path);
    quern_free(text);
    return doc;
}

static int64_t integer(const qn_json *object, const char *key)
{
    int64_t v = -1;
    if (!qn_json_int(qn_json_get(object, key), &v)) {
        print_error("no integer '%s'\n", key);
        fail();
    }
    return v;
}
static const char *text(const qn_json *object, const char *key) { return qn_json_string(qn_json_get(object, key), NULL); }

/* What holds for every document with tensors. */
static void check_sums(const qn_json *doc)
{
    int64_t n = 0;
    int64_t bytes = 0;
    int64_t listed_bytes = 0;
    int64_t file_bytes = 0;
    const qn_json *types = qn_json_get(doc, "types");
    for (qn_json_iterator *it = qn_json_iter(types); it != NULL; it = qn_json_next(types, it)) {
        n += integer(qn_json_iter_value(it), "n");
        bytes += integer(qn_json_iter_value(it), "bytes");
    }
    const qn_json *tensors = qn_json_get(doc, "tensors");
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        listed_bytes += integer(qn_json_at(tensors, i), "bytes");
    }
    const qn_json *files = qn_json_get(doc, "files");
    for (size_t i = 0; i < qn_json_length(files); i++) {
        file_bytes += integer(qn_json_at(files, i), "bytes");
    }
    assert_int_equal(n, qn_json_length(tensors));
    assert_int_equal(bytes, listed_bytes);
    assert_int_equal(bytes, integer(doc, "weight_bytes"));
    assert_int_equal(file_bytes, integer(doc, "bytes"));
    assert_true(qn_json_bool(qn_json_get(qn_json_get(doc, "check"), "ok"), false));
}

static void gguf_is_described(void **state)
{
    (void)state;
    qn_json *doc = inspect(qn_test_golden("gguf/quant/qwen3.Q4_K_M.gguf"));
    check_sums(doc);
    assert_string_equal(text(doc, "kind"), "gguf");
    assert_string_equal(text(doc, "format"), "gguf");
    assert_string_equal(text(doc, "architecture"), "qwen3");
    assert_true(qn_json_bool(qn_json_get(doc, "runnable"), false));
    assert_null(qn_json_get(doc, "unsupported"));
    const qn_json *config = qn_json_get(doc, "config");
    assert_int_equal(integer(config, "layers"), 2);
    assert_int_equal(integer(config, "head_dim"), 128);
    assert_int_equal(integer(config, "vocab"), 512);
    assert_int_equal(integer(config, "context"), 40960);
    assert_int_equal(integer(qn_json_get(config, "sampling"), "top_k"), 20);
    const qn_json *tokenizer = qn_json_get(doc, "tokenizer");
    assert_int_equal(integer(tokenizer, "tokens"), 512);
    assert_int_equal(integer(tokenizer, "merges"), 253);
    assert_int_equal(integer(tokenizer, "eos_id"), 511);
    assert_non_null(strstr(text(doc, "template"), "<|im_start|>"));
    const qn_json *types = qn_json_get(doc, "types");
    assert_true(integer(qn_json_get(types, "Q4_K"), "n") > 0 && integer(qn_json_get(types, "Q6_K"), "n") > 0);
    const qn_json *metadata = qn_json_get(doc, "metadata");
    assert_int_equal(integer(metadata, "qwen3.block_count"), 2);
    const qn_json *tokens = qn_json_get(metadata, "tokenizer.ggml.tokens");
    assert_int_equal(integer(tokens, "n"), 512);
    assert_int_equal(qn_json_length(qn_json_get(tokens, "first")), 8);
    double bpw;
    assert_true(qn_json_number(qn_json_get(doc, "bits_per_weight"), &bpw) && bpw > 4 && bpw < 8);
    qn_json_free(doc);
}

/* In memory a file is what it is on disk, but for its name. */
static void memory_is_described(void **state)
{
    (void)state;
    char *data, *json;
    size_t size, len;
    quern_error err;
    qn_json *doc, *file = inspect(qn_test_golden("gguf/quant/qwen3.Q4_K_M.gguf"));
    assert_ok(qn_file_read(&data, &size, qn_test_golden("gguf/quant/qwen3.Q4_K_M.gguf"), SIZE_MAX, &err));
    assert_ok(
        quern_inspect_memory(data, size, "built in", &(quern_inspect_options){.tensors = true, .check_values = true}, &json, &len, &err));
    assert_ok(qn_json_parse(&doc, json, len, 0, "document", &err));
    check_sums(doc);
    assert_string_equal(text(doc, "path"), "built in");
    assert_int_equal(integer(doc, "weight_bytes"), integer(file, "weight_bytes"));
    quern_free(json);
    assert_int_equal(quern_inspect_memory(data, size - 1, "cut", NULL, &json, NULL, &err), QUERN_ERROR_INVALID);
    assert_non_null(strstr(err.message, "cut"));
    qn_json_free(doc);
    qn_json_free(file);
    qn_free(data);
}

static void folders_are_described(void **state)
{
    (void)state;
    char dir[1024];
    (void)snprintf(dir, sizeof dir, "%s", qn_test_golden("hf/qwen2_untied_sharded/config.json"));
    *strrchr(dir, '/') = '\0';
    qn_json *doc = inspect(dir);
    check_sums(doc);
    assert_string_equal(text(doc, "kind"), "folder");
    assert_string_equal(text(doc, "format"), "safetensors");
    assert_int_equal(qn_json_length(qn_json_get(doc, "files")), 3);
    assert_int_equal(integer(qn_json_get(doc, "tokenizer"), "merges"), 253);
    assert_int_equal(integer(qn_json_get(qn_json_get(doc, "metadata"), "config.json"), "hidden_size"), 128);
    assert_string_equal(text(qn_json_get(qn_json_get(doc, "metadata"), "safetensors"), "format"), "pt");
    qn_json_free(doc);
    if (qn_test_golden("mlx/qwen3.q4_g64/config.json") != NULL) {
        (void)snprintf(dir, sizeof dir, "%s", qn_test_golden("mlx/qwen3.q4_g64/config.json"));
        *strrchr(dir, '/') = '\0';
        doc = inspect(dir);
        check_sums(doc);
        assert_string_equal(text(doc, "format"), "mlx");
        double bpw;
        assert_true(qn_json_number(qn_json_get(doc, "bits_per_weight"), &bpw) && bpw > 4.4 && bpw < 4.7);
        assert_int_equal(integer(qn_json_get(qn_json_get(doc, "config"), "quantization"), "bits"), 4);
        qn_json_free(doc);
    }
}

/* Families and types that are read but not run: described, and the document says why. */
static void what_cannot_run_is_described(void **state)
{
    (void)state;
    static const char *const names[] = {"gguf/base/mixtral.bf16.gguf", "gguf/base/gpt_oss.bf16.gguf", "hf/qwen3_moe/config.json",
                                        "hf/qwen3_fp8/config.json"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[1024];
        const char *found = qn_test_golden(names[i]);
        if (found == NULL) {
            print_message("SKIP: %s: not in the repository, and no ../shared\n", names[i]);
            continue;
        }
        (void)snprintf(path, sizeof path, "%s", found);
        if (strstr(path, "/config.json") != NULL) {
            *strrchr(path, '/') = '\0';
        }
        qn_json *doc = inspect(path);
        check_sums(doc);
        if (!qn_json_bool(qn_json_get(doc, "runnable"), true)) {
            assert_non_null(text(doc, "unsupported"));
        }
        assert_int_equal(integer(qn_json_get(doc, "tokenizer"), "tokens"), 512);
        qn_json_free(doc);
    }
    const char *imatrix = qn_test_golden("gguf/quant/qwen3.imatrix.gguf");
    if (imatrix != NULL) {
        qn_json *doc = inspect(imatrix);
        check_sums(doc);
        assert_false(qn_json_bool(qn_json_get(doc, "runnable"), true));
        assert_non_null(text(doc, "unsupported"));
        assert_string_equal(qn_json_string(qn_json_at(qn_json_get(qn_json_get(doc, "metadata"), "imatrix.datasets"), 0), NULL), "golden");
        qn_json_free(doc);
    }
    const char *vocabulary = qn_test_shared("data/tokenizers/ggml-vocab-gpt-2.gguf");
    if (vocabulary != NULL) {
        qn_json *doc = inspect(vocabulary);
        assert_int_equal(integer(qn_json_get(doc, "tokenizer"), "tokens"), 50257);
        qn_json_free(doc);
    }
}

static void single_files_are_described(void **state)
{
    (void)state;
    qn_json *doc = inspect(qn_test_golden("corrupt/safetensors/ok_scalar_and_empty.safetensors"));
    check_sums(doc);
    assert_string_equal(text(doc, "kind"), "safetensors");
    qn_json_free(doc);
    doc = inspect(qn_test_golden("hf/llama3_rope/config.json"));
    assert_string_equal(text(doc, "kind"), "config");
    assert_string_equal(text(qn_json_get(qn_json_get(doc, "config"), "rope"), "scaling"), "llama3");
    qn_json_free(doc);
    doc = inspect(qn_test_golden("tokenizer/tokenizer.json"));
    assert_string_equal(text(doc, "kind"), "tokenizer");
    assert_int_equal(integer(qn_json_get(doc, "tokenizer"), "tokens"), 512);
    assert_int_equal(integer(qn_json_get(doc, "tokenizer"), "merges"), 253);
    assert_int_equal(integer(qn_json_get(doc, "tokenizer"), "added"), 3);
    qn_json_free(doc);
}

static void other_files_are_refused(void **state)
{
    (void)state;
    quern_error err;
    char *out;
    char *dir = scratch_create();
    assert_int_equal(quern_inspect(scratch_path(dir, "none.gguf"), NULL, &out, NULL, &err), QUERN_ERROR_NOT_FOUND);
    assert_null(out);
    static const struct {
        const char *name, *content;
        quern_status status;
    } files[] = {{"a.json", "{\"x\":1}", QUERN_ERROR_INVALID},      {"b.json", "[", QUERN_ERROR_INVALID},
                 {"config.json", "{\"x\":1}", QUERN_ERROR_INVALID}, {"model.bin", "x", QUERN_ERROR_UNSUPPORTED},
                 {"noise", "noise", QUERN_ERROR_INVALID},           {"tokenizer.json", "{}", QUERN_ERROR_INVALID},
                 {"manifest.json", "{}", QUERN_ERROR_UNSUPPORTED}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = scratch_path(dir, files[i].name);
        write_file(path, files[i].content, strlen(files[i].content));
        assert_int_equal(quern_inspect(path, NULL, &out, NULL, &err), files[i].status);
        assert_message(&err, path, NULL);
    }
    assert_int_equal(quern_inspect(dir, NULL, &out, NULL, NULL), QUERN_ERROR_INVALID); /* its config.json; no place for a message */
    scratch_remove(dir);
}

/* ---- the corpus of corrupt files ---- */

typedef struct tally {
    size_t n_refused, n_fine, n_reported;
    const char *scratch; /* folder for model folders, or NULL */
    const char *ok_base;
} tally;

static void check_outcome(const char *file, const char *path, const char *expect, tally *t)
{
    quern_error err;
    char *out = NULL;
    size_t len = 0;
    quern_status status = quern_inspect(path, NULL, &out, &len, &err); /* small files are checked without being asked */
    bool reported = false;
    if (status == QUERN_OK) {
        qn_json *doc;
        assert_ok(qn_json_parse(&doc, out, len, 0, "document", &err));
        const qn_json *check = qn_json_get(doc, "check");
        reported = check != NULL && !qn_json_bool(qn_json_get(check, "ok"), true);
        assert_int_equal(reported, qn_json_length(qn_json_get(check, "nonfinite")) > 0);
        qn_json_free(doc);
        t->n_fine++;
        t->n_reported += reported;
    } else {
        assert_null(out);
        assert_int_equal(quern_status_exit_code(status), 3);
        assert_true(strlen(err.message) > 20);
        t->n_refused++;
    }
    bool good = strcmp(expect, "ok") == 0 ? status == QUERN_OK && !reported : strcmp(expect, "error") == 0 ? status != QUERN_OK : true;
    good = good && (strcmp(expect, "error_or_nonfinite_reported") != 0 || status != QUERN_OK || reported);
    if (!good) {
        print_error("%s: %s, expected %s: %s\n", file, quern_status_name(status), expect, status != QUERN_OK ? err.message : "a document");
        fail();
    }
    quern_free(out);
}

static void check_file(const char *file, const char *path, const char *expect, void *user) { check_outcome(file, path, expect, user); }

static void copy_file(const char *from, const char *to)
{
    size_t size;
    uint8_t *bytes = read_file(from, &size);
    write_file(to, bytes, size);
    free(bytes);
}

/* The file takes the place of config.json or tokenizer.json in a copy of ok_base. */
static void check_in_folder(const char *file, const char *path, const char *expect, void *user)
{
    static const char *const members[] = {"config.json", "tokenizer.json", "model.safetensors"};
    tally *t = user;
    for (size_t i = 0; i < 3; i++) {
        copy_file(scratch_path(t->ok_base, members[i]), scratch_path(t->scratch, members[i]));
    }
    copy_file(path, scratch_path(t->scratch, strncmp(file, "config/", 7) == 0 ? "config.json" : "tokenizer.json"));
    check_outcome(file, t->scratch, expect, t);
}

static void corrupt_files_are_refused(void **state)
{
    (void)state;
    tally t = {0};
    size_t n = for_each_corrupt("gguf", check_file, &t);
    print_message("gguf: %zu files, %zu refused, %zu fine, %zu reported\n", n, t.n_refused, t.n_fine, t.n_reported);
    assert_true(n == 83 && t.n_refused >= 75);
    t = (tally){0};
    n = for_each_corrupt("safetensors", check_file, &t);
    assert_true(n == 31 && t.n_refused >= 25);
    t = (tally){0};
    n = for_each_corrupt("hf_dir", check_file, &t);
    const char *ok_base = qn_test_golden("corrupt/dirs/ok_base/config.json");
    if (ok_base == NULL) {
        return; /* said by for_each_corrupt */
    }
    assert_true(n == 10 && t.n_refused >= 7);
    char *base = strndup(ok_base, strlen(ok_base) - strlen("/config.json"));
    char *scratch = scratch_create();
    t = (tally){.scratch = scratch, .ok_base = base};
    n = for_each_corrupt("config", check_in_folder, &t);
    assert_true(n == 24 && t.n_refused == 24);
    t.n_refused = 0;
    n = for_each_corrupt("tokenizer", check_in_folder, &t);
    print_message("tokenizer: %zu files, %zu refused\n", n, t.n_refused);
    assert_true(n == 15 && t.n_refused >= 13);
    scratch_remove(scratch);
    free(base);
}

/* ---- manifests ---- */

/* What inspecting a file says of its tensors, as text: more than a manifest needs. */
static char *list_tensors(const char *file)
{
    qn_buf out;
    qn_json *doc = inspect(file);
    qn_buf_init(&out, 1u << 20);
    assert_true(qn_json_write(qn_json_get(doc, "tensors"), 0, &out));
    char *text = strndup(qn_buf_text(&out), out.len);
    qn_buf_deinit(&out);
    qn_json_free(doc);
    return text;
}

static void write_manifest(const char *dir, const char *path, int64_t bytes, const char *hex, const char *tensors)
{
    qn_buf json;
    qn_buf_init(&json, 1u << 20);
    assert_true(qn_buf_printf(
        &json,
        "{\"schema\":\"quern.manifest/1\",\"created\":\"2026-11-21T12:00:00Z\",\"quern_version\":\"0.1.0\","
        "\"source\":{\"name\":\"m\",\"format\":\"safetensors\",\"architecture\":\"qwen3\",\"parameters\":14944,\"files\":[]},\"calibration\":"
        "null,"
        "\"outputs\":[{\"format\":\"gguf\",\"type\":\"Q8_0\",\"path\":\"%s\",\"files\":[{\"path\":\"%s\",\"bytes\":%lld,\"sha256\":\"%"
        "s\"}],"
        "\"bytes\":%lld,\"bits_per_weight\":8.65096,\"tensors\":%s,\"quality\":null,\"gate\":{\"policy\":\"off\",\"verdict\":\"skipped\"}}]}",
        path, path, (long long)bytes, hex, (long long)bytes, tensors));
    write_file(scratch_path(dir, "manifest.json"), (const uint8_t *)qn_buf_text(&json), json.len);
    qn_buf_deinit(&json);
}

static void manifests_are_verified(void **state)
{
    (void)state;
    quern_error err;
    char *out;
    char hex[65];
    char manifest[1024];
    char *data, *dir = scratch_create();
    size_t n;
    assert_ok(qn_file_read(&data, &n, qn_test_golden("corrupt/gguf/ok_base.gguf"), 1 << 20, &err));
    int64_t size = (int64_t)n;
    assert_ok(qn_dir_create(scratch_path(dir, "gguf"), &err));
    const char *file = scratch_path(dir, "gguf/a.gguf");
    write_file(file, data, n);
    assert_ok(qn_sha256_bytes(data, n, hex, &err));
    (void)snprintf(manifest, sizeof manifest, "%s/manifest.json", dir);
    char *tensors = list_tensors(file);
    write_manifest(dir, "gguf/a.gguf", size, hex, tensors);
    qn_json *doc = inspect(manifest);
    assert_string_equal(text(doc, "kind"), "manifest");
    assert_int_equal(integer(doc, "files_verified"), 1);
    const qn_json *row = qn_json_at(qn_json_get(doc, "outputs"), 0);
    assert_string_equal(text(row, "type"), "Q8_0");
    assert_string_equal(text(row, "gate"), "skipped");
    assert_int_equal(qn_json_get_kind(qn_json_get(row, "ppl_ratio")), QN_JSON_NULL);
    assert_string_equal(text(row, "certificate"), "none");
    qn_json_free(doc);

    data[n - 1] ^= 1;
    write_file(file, data, n);
    assert_int_equal(quern_inspect(manifest, NULL, &out, NULL, &err), QUERN_ERROR_INVALID);
    assert_message(&err, "gguf/a.gguf", hex);
    data[n - 1] ^= 1;
    write_file(file, data, 4);
    assert_int_equal(quern_inspect(manifest, NULL, &out, NULL, &err), QUERN_ERROR_INVALID);
    assert_message(&err, "gguf/a.gguf", "has 4 bytes");
    write_file(file, data, n);

    const struct {
        const char *path;
        int64_t bytes;
        const char *hex; /* NULL: the right one */
        quern_status status;
    } cases[] = {{"gguf/none.gguf", size, NULL, QUERN_ERROR_NOT_FOUND},
                 {"../a.gguf", size, NULL, QUERN_ERROR_INVALID},
                 {"/etc/passwd", size, NULL, QUERN_ERROR_INVALID},
                 {"gguf/../gguf/a.gguf", size, NULL, QUERN_ERROR_INVALID},
                 {"gguf//a.gguf", size, NULL, QUERN_ERROR_INVALID},
                 {"", size, NULL, QUERN_ERROR_INVALID},
                 {"gguf/a.gguf", -1, NULL, QUERN_ERROR_INVALID},
                 {"gguf/a.gguf", size, "zz", QUERN_ERROR_INVALID},
                 {"gguf", size, NULL, QUERN_ERROR_INVALID},
                 {"link", size, NULL, QUERN_ERROR_INVALID},
                 {"inner", size, NULL, QUERN_OK}};
    assert_int_equal(symlink("/etc/hostname", scratch_path(dir, "link")), 0);
    assert_int_equal(symlink("gguf/a.gguf", scratch_path(dir, "inner")), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_manifest(dir, cases[i].path, cases[i].bytes, cases[i].hex != NULL ? cases[i].hex : hex, tensors);
        quern_status status = quern_inspect(manifest, NULL, &out, NULL, &err);
        if (status != cases[i].status) {
            print_error("'%s': %s\n", cases[i].path, quern_status_name(status));
        }
        assert_int_equal(status, cases[i].status);
        quern_free(out);
    }
    write_manifest(dir, "gguf/a.gguf", size, hex, "[]"); /* which it has */
    assert_int_equal(quern_inspect(manifest, NULL, &out, NULL, &err), QUERN_ERROR_INVALID);
    assert_message(&err, "gguf/a.gguf", "lists 0");
    free(tensors);
    qn_free(data);
    scratch_remove(dir);
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    const char *path = qn_test_golden("corrupt/gguf/ok_base.gguf");
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        quern_error err;
        char *out;
        qn_alloc_fail_at(n);
        quern_status status = quern_inspect(path, &everything, &out, NULL, &err);
        qn_alloc_fail_at(0);
        done = status == QUERN_OK;
        if (!done && status != QUERN_ERROR_MEMORY) {
            print_error("allocation %llu: %s\n", (unsigned long long)n, err.message);
        }
        assert_true(done || status == QUERN_ERROR_MEMORY);
        quern_free(out);
        assert_true(n < 100000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_is_described),
        cmocka_unit_test(memory_is_described),
        cmocka_unit_test(folders_are_described),
        cmocka_unit_test(what_cannot_run_is_described),
        cmocka_unit_test(single_files_are_described),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(corrupt_files_are_refused),
        cmocka_unit_test(manifests_are_verified),
        cmocka_unit_test(every_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
