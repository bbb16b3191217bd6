/* test_mix.c - --target-bpw: the size asked for, the same choice for any number of threads, and what is refused. */
#include "quantize_run.h"

static run mix(const char *source, const char *dir, const char *formats, double bpw, size_t n_threads)
{
    run r = {.opt = {.source = source, .output_dir = dir, .name = "tiny", .formats = formats, .n_threads = n_threads, .target_bpw = bpw}};
    run_quantize(&r, 0);
    return r;
}

static double bits_of(const qn_json *output)
{
    double v = 0;
    assert_true(qn_json_number(qn_json_get(output, "bits_per_weight"), &v));
    return v;
}

/* The number of different types among the matrices. */
static size_t count_types(const qn_json *output)
{
    const char *seen[16];
    size_t n = 0;
    const qn_json *tensors = qn_json_get(output, "tensors");
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        const qn_json *t = qn_json_at(tensors, i);
        const char *type = qn_json_string(qn_json_get(t, "type"), NULL);
        bool known = qn_json_length(qn_json_get(t, "shape")) < 2;
        for (size_t k = 0; k < n && !known; k++) {
            known = strcmp(seen[k], type) == 0;
        }
        if (!known) {
            assert_true(n < 16);
            seen[n++] = type;
        }
    }
    return n;
}

static void the_size_is_met(void **state)
{
    (void)state;
    if (!have_model("qwen2_tied")) {
        skip();
    }
    char *dir = new_dir();
    double before = 0;
    for (double bpw = QN_TEST_SANITIZED ? 6.5 : 5; bpw < 7; bpw += 1.5) {
        char gguf[32], mlx[32];
        (void)snprintf(gguf, sizeof gguf, "%.2fbpw", bpw);
        (void)snprintf(mlx, sizeof mlx, "%.2fbpw-g32", bpw);
        run r = mix(model_dir("qwen2_tied"), dir, "gguf:Q4_K_M,mlx:4bit-g32", bpw, 2);
        assert_int_equal(r.status, QUERN_OK);
        const qn_json *a = find_output(r.manifest, gguf), *b = find_output(r.manifest, mlx);
        assert_true(bits_of(a) <= bpw && bits_of(a) > bpw - 0.4);
        assert_true(bits_of(b) <= bpw && bits_of(b) > bpw - 0.4);
        assert_true(bits_of(a) > before);
        assert_true(count_types(a) > 1 && count_types(b) > 1);
        before = bits_of(a);
        qn_json_free(r.manifest);
    }
    /* what was written is a model */
    quern_model *m;
    quern_error err;
    assert_ok(quern_model_open(&m, scratch_path(dir, "mlx/6.50bpw-g32"), NULL, &err));
    quern_model_close(m);
    assert_ok(quern_model_open(&m, scratch_path(dir, "gguf/tiny-6.50bpw.gguf"), NULL, &err));
    quern_model_close(m);
    drop_dir(dir);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    if (!have_model("llama3_rope")) {
        skip();
    }
    char hash[2][65];
    quern_error err;
    for (size_t i = 0; i < 2; i++) {
        char *dir = new_dir();
        run r = mix(model_dir("llama3_rope"), dir, "gguf:Q4_0", 5.5, 1 + 2 * i);
        assert_int_equal(r.status, QUERN_OK);
        assert_ok(qn_sha256_file(scratch_path(dir, "gguf/tiny-5.50bpw.gguf"), hash[i], &err));
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
    assert_string_equal(hash[0], hash[1]);
}

static void a_named_type_stays(void **state)
{
    (void)state;
    static const char *const wanted[] = {"attn_v=Q8_0"};
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    run r = {.opt = {.source = model_dir("qwen3"),
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q4_0,gguf:F16",
                     .n_threads = 2,
                     .tensor_types = wanted,
                     .n_tensor_types = 1,
                     .target_bpw = 6}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    assert_true(bits_of(find_output(r.manifest, "F16")) > 15); /* float types are not mixed */
    const qn_json *tensors = qn_json_get(find_output(r.manifest, "6.00bpw"), "tensors");
    size_t n = 0;
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        const qn_json *t = qn_json_at(tensors, i);
        if (strstr(qn_json_string(qn_json_get(t, "name"), NULL), "attn_v.weight") != NULL) {
            assert_string_equal(qn_json_string(qn_json_get(t, "type"), NULL), "Q8_0");
            n++;
        }
    }
    assert_true(n > 0);
    qn_json_free(r.manifest);
    drop_dir(dir);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    const struct {
        const char *formats;
        double bpw;
        quern_status status;
    } cases[] = {{"gguf:Q4_0", 1.2, QUERN_ERROR_LIMIT},
                 {"gguf:Q4_0", 0.5, QUERN_ERROR_USAGE},
                 {"gguf:Q4_0", 17, QUERN_ERROR_USAGE},
                 {"gguf:Q4_0", (double)NAN, QUERN_ERROR_USAGE},
                 {"gguf:Q4_0,gguf:Q6_K", 5, QUERN_ERROR_USAGE}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run r = mix(model_dir("qwen3"), dir, cases[i].formats, cases[i].bpw, 2);
        assert_int_equal(r.status, cases[i].status);
    }
    run r = {.opt = {.source = model_dir("qwen3"),
                     .output_dir = dir,
                     .formats = "gguf:Q4_0",
                     .n_threads = 2,
                     .target_bpw = 5,
                     .memory_bytes = 1 << 20}}; /* a group of tensors fits, but not the engines that run them */
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_LIMIT);
    assert_non_null(strstr(r.err.message, "measuring which tensors matter needs"));
    drop_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_size_is_met),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(a_named_type_stays),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests_name("mix", tests, NULL, NULL);
}
