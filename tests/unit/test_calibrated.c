/* test_calibrated.c - whole runs with calibration: the same bytes for any number of threads and, where nothing is fed back, by way of an imatrix
 * file; what the manifest says, what stands in the way. */
#include "quantize_run.h"

#include <unistd.h>

#include "base/builtin_text.h"
#include "calibrate/imatrix.h"

/* The sanitizers make the built-in text a matter of minutes: with them its beginning has to do. */
enum { WHOLE_TEXT = !QN_TEST_SANITIZED };

static void calibrate_builtin(quern_quantize_options *opt)
{
    enum { BEGINNING = 5 << 10 };
    if (!WHOLE_TEXT) {
        opt->calibrate = QUERN_CALIBRATE_TEXT;
        opt->calibration_text = qn_builtin_text_calibration(&opt->calibration_len);
        opt->calibration_len = opt->calibration_len < BEGINNING ? opt->calibration_len : BEGINNING;
    }
}

static const char formats[] = "gguf:Q4_0,gguf:Q8_0,mlx:4bit,mlx:3bit-g32,gguf:Q4_K_M,mlx:mxfp4";

static run calibrated(const char *source, const char *dir, const char *what, quern_calibrate how, size_t n_threads)
{
    run r = {.opt = {.source = source, .output_dir = dir, .name = "tiny", .formats = what, .n_threads = n_threads, .calibrate = how}};
    if (how != QUERN_CALIBRATE_NONE) {
        calibrate_builtin(&r.opt);
    }
    run_quantize(&r, 0);
    return r;
}

static const char *hash_of(const run *r, size_t output)
{
    const qn_json *files = qn_json_get(qn_json_at(qn_json_get(r->manifest, "outputs"), output), "files");
    for (size_t i = 0; i < qn_json_length(files); i++) {
        const char *path = qn_json_string(qn_json_get(qn_json_at(files, i), "path"), NULL);
        if (strstr(path, ".gguf") != NULL || strstr(path, ".safetensors") != NULL) {
            return qn_json_string(qn_json_get(qn_json_at(files, i), "sha256"), NULL);
        }
    }
    fail_msg("output %zu has no weight file", output);
    return NULL;
}

static void threads_give_the_same_bytes(void **state)
{
    (void)state;
    char *dirs[3] = {new_dir(), new_dir(), new_dir()};
    const char *source = model_dir("qwen3");
    run one = calibrated(source, dirs[0], formats, QUERN_CALIBRATE_BUILTIN, 1);
    run three = calibrated(source, dirs[1], formats, QUERN_CALIBRATE_AUTO, 3),
        none = calibrated(source, dirs[2], formats, QUERN_CALIBRATE_NONE, 2);
    assert_int_equal(one.status, QUERN_OK);
    assert_int_equal(three.status, QUERN_OK);
    assert_int_equal(none.status, QUERN_OK);
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(hash_of(&one, i), hash_of(&three, i));
        assert_string_not_equal(hash_of(&one, i), hash_of(&none, i));
    }
    const qn_json *c = qn_json_get(one.manifest, "calibration");
    double tokens;
    if (WHOLE_TEXT) {
        assert_string_equal(qn_json_string(qn_json_get(c, "text_sha256"), NULL),
                            "a1f2221548dec0f9060eb937b1e727deb30f991c82511c313b6e4f6ed35a6f88");
    }
    assert_true(qn_json_number(qn_json_get(c, "tokens"), &tokens) && (WHOLE_TEXT ? tokens == 64 * 512 : tokens > 0));
    assert_int_equal(qn_json_length(qn_json_get(c, "experts_without_data")), 0);
    assert_int_equal(qn_json_get_kind(qn_json_get(none.manifest, "calibration")), QN_JSON_NULL);
    qn_json_free(one.manifest);
    qn_json_free(three.manifest);
    qn_json_free(none.manifest);
    for (size_t i = 0; i < 3; i++) {
        drop_dir(dirs[i]);
    }
}

static void experts_without_data_are_named(void **state)
{
    (void)state;
    quern_error err;
    if (!have_model("qwen3_moe")) {
        skip();
    }
    char *dir = new_dir();
    char *whole = qn_path_join(dir, "whole.dat"), *holed = qn_path_join(dir, "holed.gguf");
    qn_imatrix m;
    run r = {.opt = {.source = model_dir("qwen3_moe"),
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q4_0,mlx:4bit-g32",
                     .n_threads = 2,
                     .calibrate = QUERN_CALIBRATE_BUILTIN,
                     .imatrix_out = holed}};
    calibrate_builtin(&r.opt);
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    qn_json_free(r.manifest);
    assert_ok(qn_imatrix_read(&m, holed, &err));
    for (size_t i = 0; i < m.n_entries; i++) {
        if (strcmp(m.entries[i].name, "blk.0.ffn_down_exps.weight") == 0) {
            float *counts = qn_arena_alloc_array(&m.arena, m.entries[i].n_counts, sizeof *counts);
            memcpy(counts, m.entries[i].counts, m.entries[i].n_counts * sizeof *counts);
            counts[1] = 0;
            m.entries[i].counts = counts;
        }
    }
    assert_ok(qn_imatrix_write(&m, holed, "a text", &err));
    assert_ok(qn_imatrix_write(&m, whole, "a text", &err)); /* the older form: the expert's values are all zero */
    qn_imatrix_deinit(&m);
    const char *const paths[] = {holed, whole};
    for (size_t i = 0; i < 2; i++) {
        run again = {.opt = {.source = model_dir("qwen3_moe"),
                             .output_dir = dir,
                             .name = "tiny",
                             .formats = "gguf:Q4_0,mlx:4bit-g32",
                             .n_threads = 2,
                             .calibrate = QUERN_CALIBRATE_IMATRIX,
                             .imatrix_path = paths[i]}};
        run_quantize(&again, 0);
        assert_int_equal(again.status, QUERN_OK);
        const qn_json *list = qn_json_get(qn_json_get(again.manifest, "calibration"), "experts_without_data");
        assert_int_equal(qn_json_length(list), 1);
        assert_string_equal(qn_json_string(qn_json_at(list, 0), NULL), "model.layers.0.mlp.experts.1.down_proj.weight");
        qn_json_free(again.manifest);
    }
    qn_free(whole);
    qn_free(holed);
    drop_dir(dir);
}

/* An importance matrix of zeros alone says nothing of a dense model, which has no experts. */
static void zeros_are_no_experts(void **state)
{
    (void)state;
    quern_error err;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir(), *path = qn_path_join(dir, "zeros.gguf");
    qn_imatrix m;
    run r = {.opt = {.source = model_dir("qwen3"),
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q4_0",
                     .n_threads = 2,
                     .calibrate = QUERN_CALIBRATE_BUILTIN,
                     .imatrix_out = path}};
    calibrate_builtin(&r.opt);
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    qn_json_free(r.manifest);
    assert_ok(qn_imatrix_read(&m, path, &err));
    for (size_t i = 0; i < m.n_entries; i++) {
        m.entries[i].sums = qn_arena_alloc(&m.arena, m.entries[i].n_values * sizeof *m.entries[i].sums);
    }
    assert_ok(qn_imatrix_write(&m, path, "a text", &err));
    r.opt.calibrate = QUERN_CALIBRATE_IMATRIX;
    r.opt.imatrix_path = path;
    r.opt.imatrix_out = NULL;
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    const qn_json *c = qn_json_get(r.manifest, "calibration");
    assert_int_equal(qn_json_length(qn_json_get(c, "experts_without_data")), 0);
    assert_true(qn_json_length(qn_json_get(c, "matrices_without_data")) >= m.n_entries - 1);
    qn_json_free(r.manifest);
    qn_imatrix_deinit(&m);
    qn_free(path);
    drop_dir(dir);
}

static bool stop_while_calibrating(void *user, const quern_quantize_progress *p)
{
    bool *seen = user;
    *seen = *seen || p->stage == QUERN_QUANTIZE_CALIBRATE;
    return p->stage != QUERN_QUANTIZE_CALIBRATE;
}

/* error_feedback is what happened: not without room for second moments, which leaves what an imatrix file holds. */
static void feedback_is_claimed_where_it_is(void **state)
{
    (void)state;
    enum { WORDS = QN_TEST_SANITIZED ? 200 : 600 };
    static char text[8 * WORDS + 1];
    static const char *const fed_back[] = {"mlx:mxfp4", "gguf:Q8_0", "gguf:Q4_0,mlx:4bit"};
    char *dir = new_dir(), *other_dir = new_dir(), *imatrix = qn_path_join(dir, "found.gguf");
    for (size_t i = 0; i < WORDS; i++) {
        (void)snprintf(text + 8 * i, 9, "x%05zu, ", i * 7919 % 100000);
    }
    run r = {.opt = {.source = model_dir("qwen3"),
                     .output_dir = dir,
                     .name = "tiny",
                     .n_threads = 1,
                     .calibrate = QUERN_CALIBRATE_TEXT,
                     .calibration_text = text,
                     .calibration_len = 8 * WORDS}};
    for (size_t i = 0; i < sizeof fed_back / sizeof fed_back[0]; i++) {
        r.opt.formats = fed_back[i];
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_OK);
        assert_true(qn_json_bool(qn_json_get(qn_json_get(r.manifest, "calibration"), "error_feedback"), false));
        qn_json_free(r.manifest);
    }
    uint64_t too_little = 1 << 20, enough = 1 << 28; /* the least that is enough has no room for any second moments */
    while (enough - too_little > 1 << 13) {
        r.opt.memory_bytes = (too_little + enough) / 2;
        run_quantize(&r, 0);
        assert_true(r.status == QUERN_OK || r.status == QUERN_ERROR_LIMIT);
        *(r.status == QUERN_OK ? &enough : &too_little) = r.opt.memory_bytes;
        qn_json_free(r.manifest);
    }
    r.opt.memory_bytes = enough;
    r.opt.imatrix_out = imatrix;
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    assert_false(qn_json_bool(qn_json_get(qn_json_get(r.manifest, "calibration"), "error_feedback"), true));
    run by_file = {.opt = {.source = r.opt.source,
                           .output_dir = other_dir,
                           .name = "tiny",
                           .formats = r.opt.formats,
                           .n_threads = 2,
                           .calibrate = QUERN_CALIBRATE_IMATRIX,
                           .imatrix_path = imatrix}};
    run_quantize(&by_file, 0);
    assert_int_equal(by_file.status, QUERN_OK);
    assert_false(qn_json_bool(qn_json_get(qn_json_get(by_file.manifest, "calibration"), "error_feedback"), true));
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(hash_of(&by_file, i), hash_of(&r, i));
    }
    qn_json_free(r.manifest);
    qn_json_free(by_file.manifest);
    qn_free(imatrix);
    drop_dir(dir);
    drop_dir(other_dir);
}

static void what_stands_in_the_way(void **state)
{
    (void)state;
    char *dir = new_dir();
    char *path = qn_path_join(dir, "other.gguf");
    const char *source = model_dir("qwen3");
    bool seen = false;
    run r = {.opt = {.source = source,
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q4_0",
                     .n_threads = 2,
                     .calibrate = QUERN_CALIBRATE_BUILTIN,
                     .memory_bytes = 101 << 20,
                     .on_progress = NULL}};
    quern_error err;
    calibrate_builtin(&r.opt);
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK); /* that much is enough for this model */
    qn_json_free(r.manifest);
    r.opt.calibrate = QUERN_CALIBRATE_TEXT;
    r.opt.calibration_text = "def f():\n";
    r.opt.calibration_len = 9;
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_INVALID);
    assert_non_null(strstr(r.err.message, "512"));
    r.opt.calibrate = QUERN_CALIBRATE_BUILTIN;
    r.opt.on_progress = stop_while_calibrating;
    r.opt.user = &seen;
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
    assert_true(seen);
    r.opt.on_progress = NULL;
    r.opt.formats = "gguf:F16"; /* nothing to weigh */
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    assert_int_equal(qn_json_get_kind(qn_json_get(r.manifest, "calibration")), QN_JSON_NULL);
    qn_json_free(r.manifest);
    static const float sums[3] = {1, 2, 3}, count[1] = {1};
    qn_imatrix_entry entry = {.name = "blk.1.attn_q.weight", .n_values = 3, .n_counts = 1, .sums = sums, .counts = count};
    const qn_imatrix m = {.entries = &entry, .n_entries = 1};
    assert_ok(qn_imatrix_write(&m, path, "a text", &err));
    r.opt = (quern_quantize_options){.source = source,
                                     .output_dir = dir,
                                     .name = "tiny",
                                     .formats = "gguf:Q4_0",
                                     .n_threads = 2,
                                     .calibrate = QUERN_CALIBRATE_IMATRIX,
                                     .imatrix_path = path};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_INVALID);
    assert_non_null(strstr(r.err.message, "blk.1.attn_q.weight has 3 values"));
    entry.name = "blk.9.attn_q.weight";
    assert_ok(qn_imatrix_write(&m, path, "a text", &err));
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_INVALID);
    assert_non_null(strstr(r.err.message, "blk.9.attn_q.weight"));
    static const float large = 3e38f, fraction = 1e-3f; /* a mean beyond float32 */
    float *huge = malloc(256 * sizeof *huge);
    assert_non_null(huge);
    for (size_t i = 0; i < 256; i++) {
        huge[i] = large;
    }
    entry = (qn_imatrix_entry){.name = "blk.1.ffn_up.weight", .n_values = 256, .n_counts = 1, .sums = huge, .counts = &fraction};
    assert_ok(qn_imatrix_write(&m, path, "a text", &err));
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_INVALID);
    assert_non_null(strstr(r.err.message, "more than float32 holds"));
    free(huge);
    r.opt.imatrix_out = path;
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_USAGE);
    qn_free(path);
    drop_dir(dir);
}

static char *read_whole(const char *path, size_t *size)
{
    quern_error err;
    char *text = NULL;
    assert_ok(qn_file_read(&text, size, path, (size_t)1 << 30, &err));
    return text;
}

static void write_whole(const char *path, const char *text, size_t size)
{
    quern_error err;
    qn_out_file *f = NULL;
    assert_ok(qn_out_file_create(&f, path, &err));
    assert_ok(qn_out_file_write(f, text, size, &err));
    assert_ok(qn_out_file_commit(f, &err));
    qn_out_file_close(f);
}

/* A path for the importance matrix that would cost another file is refused before anything is calibrated, and costs nothing. */
static void an_imatrix_replaces_no_other_file(void **state)
{
    (void)state;
    static const char *const copied[] = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"};
    enum { N_COPIED = sizeof copied / sizeof copied[0] };
    char *source = new_dir(), *dir = new_dir(), *link = qn_path_join(dir, "link.gguf"), *text = qn_path_join(dir, "text.txt"),
         *weights = qn_path_join(source, copied[N_COPIED - 1]), *gone = qn_path_join(dir, "no/such/m.gguf"), *none = qn_path_join(dir, ""),
         *good = qn_path_join(dir, "good.gguf"), *manifest = qn_path_join(dir, "manifest.json"), *gguf = qn_path_join(dir, "gguf"),
         *output = qn_path_join(dir, "gguf/../gguf/tiny-Q4_0.gguf"), *failed = qn_path_join(dir, "gguf/tiny-Q4_0.gguf.failed");
    quern_error err;
    bool calibrated = false;
    size_t size, after;
    for (size_t i = 0; i < N_COPIED; i++) {
        char *from = qn_path_join(model_dir("qwen3"), copied[i]), *to = qn_path_join(source, copied[i]), *data = read_whole(from, &size);
        write_whole(to, data, size);
        qn_free(data);
        qn_free(from);
        qn_free(to);
    }
    assert_int_equal(symlink(weights, link), 0);
    write_whole(text, "import os\n", 10);
    assert_ok(qn_dir_create(gguf, &err));
    char *before = read_whole(weights, &size);
    const struct {
        const char *path, *message;
    } refused[] = {{weights, "is model.safetensors of the source"},
                   {link, "is model.safetensors of the source"},
                   {text, "is there and no importance matrix"},
                   {gone, "no such folder"},
                   {dir, "is a folder"},
                   {none, "expected the name of a file"},
                   {output, "writes another file there"},
                   {failed, "writes another file there"},
                   {manifest, "writes another file there"}};
    run r = {.opt = {.source = source,
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q4_0",
                     .n_threads = 2,
                     .calibrate = QUERN_CALIBRATE_BUILTIN,
                     .on_progress = stop_while_calibrating,
                     .user = &calibrated}};
    for (size_t i = 0; i < 2 * sizeof refused / sizeof refused[0]; i++) {
        r.opt.imatrix_out = refused[i / 2].path;
        r.opt.dry_run = i % 2 == 1;
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_ERROR_USAGE);
        if (strstr(r.err.message, refused[i / 2].message) == NULL) {
            fail_msg("%s: %s", refused[i / 2].path, r.err.message);
        }
    }
    assert_false(calibrated);
    char *left = read_whole(weights, &after);
    assert_true(after == size && memcmp(before, left, size) == 0);
    assert_int_equal(count_files(dir), 2);
    /* a new file is written, and replaced by the next run */
    r.opt.dry_run = false;
    r.opt.imatrix_out = good;
    r.opt.on_progress = NULL;
    calibrate_builtin(&r.opt);
    for (size_t i = 0; i < 2; i++) {
        qn_imatrix m;
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_OK);
        qn_json_free(r.manifest);
        assert_ok(qn_imatrix_read(&m, good, &err));
        qn_imatrix_deinit(&m);
    }
    r.opt.imatrix_out = output; /* now it is there */
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_USAGE);
    char *const texts[] = {link, text, weights, gone, none, good, manifest, gguf, output, failed, before, left};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        qn_free(texts[i]);
    }
    drop_dir(dir);
    drop_dir(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_give_the_same_bytes), cmocka_unit_test(experts_without_data_are_named),
        cmocka_unit_test(zeros_are_no_experts),        cmocka_unit_test(feedback_is_claimed_where_it_is),
        cmocka_unit_test(what_stands_in_the_way),      cmocka_unit_test(an_imatrix_replaces_no_other_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
