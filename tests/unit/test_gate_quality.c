/* test_gate_quality.c - what cannot be proved does not pass: sources whose logits are not finite, values that a type cannot hold, weights that are
 * broken; and what is said of an output is held against its files. */
#include "quantize_run.h"

#include "quern/inspect.h"
#include "quern/verify.h"

enum { COLUMNS = 256 };

static void poke_weight(const char *dir, const char *tensor, size_t row, size_t column, uint16_t bf16)
{
    quern_error err = {0};
    qn_safetensors *s;
    assert_ok(qn_safetensors_open_dir(&s, dir, false, &err));
    const qn_tensor *t = qn_safetensors_find(s, tensor);
    assert_non_null(t);
    assert_int_equal(t->dtype, QN_DTYPE_BF16);
    uint64_t at = t->file_offset + 2 * (row * COLUMNS + column);
    qn_safetensors_close(s);
    FILE *f = fopen(scratch_path(dir, "model.safetensors"), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(&bf16, 1, sizeof bf16, f), sizeof bf16);
    (void)fclose(f);
}

enum { BF16_LARGE = 0x7f00, BF16_NAN = 0x7fc0 }; /* 1.7e38 */

/* A checkpoint with finite weights of which a product overflows: gate * up of one column. */
static char *make_overflowing(void)
{
    char *dir = new_dir();
    copy_model("qwen3", dir);
    for (size_t column = 0; column < 8; column++) {
        poke_weight(dir, "model.layers.0.mlp.gate_proj.weight", 3, column, BF16_LARGE);
        poke_weight(dir, "model.layers.0.mlp.up_proj.weight", 3, column, BF16_LARGE);
    }
    return dir;
}

static const char *text_at(const qn_json *list, size_t i)
{
    const char *text = qn_json_string(qn_json_at(list, i), NULL);
    return text != NULL ? text : "";
}

static const char *verdict_of(const qn_json *output) { return qn_json_string(qn_json_get(qn_json_get(output, "gate"), "verdict"), NULL); }

static void assert_unmeasured(const qn_json *output)
{
    const char *reason = text_at(qn_json_get(qn_json_get(output, "gate"), "reasons"), 0);
    assert_string_equal(verdict_of(output), "skipped");
    assert_int_equal(qn_json_get_kind(qn_json_get(output, "quality")), QN_JSON_NULL);
    assert_non_null(strstr(reason, "quality was not measured"));
    assert_non_null(strstr(reason, "logits that are not finite"));
    assert_non_null(strstr(reason, "all weights of the source are finite"));
}

static void assert_carries(const char *dir, const char *type, const char *verdict)
{
    quern_error err = {0};
    qn_gguf *g = open_gguf(dir, type);
    qn_span said;
    bool found = false;
    assert_ok(qn_gguf_get_string(g, "quern.quality.verdict", &said, &found, &err));
    assert_true(found && said.len == strlen(verdict) && memcmp(said.data, verdict, said.len) == 0);
    assert_ok(qn_gguf_get_string(g, "quern.type", &said, &found, &err));
    assert_true(found && said.len == strlen(type) && memcmp(said.data, type, said.len) == 0);
    qn_gguf_close(g);
}

static void verify_measures_no_more(const char *file, const char *source)
{
    quern_error err = {0};
    const char *files[] = {file};
    const quern_verify_options opt = {
        .files = files, .n_files = 1, .source = source, .policy = QUERN_GATE_STRICT, .calibrate = QUERN_CALIBRATE_NONE, .n_threads = 2};
    quern_verify_result r;
    qn_json *doc;
    assert_ok(quern_verify(&opt, &r, &err));
    assert_int_equal(r.n_unmeasured, 1);
    assert_int_equal(r.n_failed + r.n_lossy + r.n_unreadable, 0);
    assert_ok(qn_json_parse(&doc, r.json, r.len, QN_JSON_REJECT_DUPLICATES, "report", &err));
    assert_unmeasured(qn_json_at(qn_json_get(doc, "outputs"), 0));
    qn_json_free(doc);
    quern_free(r.json);
}

static void unmeasured_quality_does_not_pass(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *source = make_overflowing(), *dir = new_dir(), *json;
    quern_error err = {0};
    run r = {.opt = {.source = source,
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:F32,gguf:BF16,gguf:F16,mlx:bf16",
                     .n_threads = 2,
                     .gate = QUERN_GATE_STRICT}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    assert_unmeasured(find_output(r.manifest, "F32"));
    assert_unmeasured(find_output(r.manifest, "BF16"));
    assert_unmeasured(find_output(r.manifest, "bf16"));
    assert_carries(dir, "BF16", "skipped");
    /* 65504 in the place of 1.7e38 is no rounding */
    const qn_json *gate = qn_json_get(find_output(r.manifest, "F16"), "gate"), *reasons = qn_json_get(gate, "reasons");
    assert_string_equal(qn_json_string(qn_json_get(gate, "verdict"), NULL), "fail");
    assert_non_null(
        strstr(text_at(reasons, 0), "blk.0.ffn_gate.weight: row 3, value 0: the source has 1.7e+38, more than the type can hold"));
    assert_string_equal(text_at(qn_json_get(gate, "suspect_tensors"), 1), "blk.0.ffn_up.weight");
    assert_false(qn_path_exists(scratch_path(dir, "gguf/tiny-F16.gguf")));

    verify_measures_no_more(scratch_path(dir, "gguf/tiny-BF16.gguf"), source);
    assert_ok(quern_inspect(scratch_path(dir, "manifest.json"), NULL, &json, NULL, &err));
    assert_non_null(strstr(json, "\"skipped\""));
    assert_null(strstr(json, "\"pass\""));
    quern_free(json);
    qn_json_free(r.manifest);
    drop_dir(source);
    drop_dir(dir);
}

/* Squares of values beyond 1e19 are no float32. */
static void large_values_have_errors(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *source = new_dir(), *dir = new_dir();
    copy_model("qwen3", source);
    poke_weight(source, "model.layers.1.mlp.down_proj.weight", 5, 9, BF16_LARGE);
    run r = quantize(source, dir, "gguf:F16,gguf:Q8_0,gguf:BF16");
    static const struct {
        const char *type;
        double low, high;
    } expected[] = {{"F16", 0.999, 1.001}, {"Q8_0", 0.999, 1.001}, {"BF16", 0, 0}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        const qn_json *output = find_output(r.manifest, expected[i].type), *tensors = qn_json_get(output, "tensors");
        bool found = false;
        for (size_t k = 0; k < qn_json_length(tensors); k++) {
            const qn_json *t = qn_json_at(tensors, k);
            double error = NAN;
            if (strcmp(qn_json_string(qn_json_get(t, "name"), NULL), "blk.1.ffn_down.weight") == 0) {
                found = true;
                assert_true(qn_json_number(qn_json_get(t, "rel_rmse"), &error));
                assert_true(error >= expected[i].low && error <= expected[i].high);
            }
        }
        assert_true(found);
        assert_int_equal(warns(output, "blk.1.ffn_down.weight holds magnitudes up to 1.7"), expected[i].low > 0);
    }
    qn_json_free(r.manifest);
    drop_dir(source);
    drop_dir(dir);
}

static void expect_refusal(run *r, const char *fragment)
{
    run_quantize(r, 0);
    if (r->status != QUERN_ERROR_INVALID || strstr(r->err.message, fragment) == NULL) {
        print_error("%s: %s\n", quern_status_name(r->status), r->err.message);
    }
    assert_int_equal(r->status, QUERN_ERROR_INVALID);
    assert_non_null(strstr(r->err.message, fragment));
    assert_int_equal(count_files(r->opt.output_dir), 0);
}

static bool see_calibration(void *user, const quern_quantize_progress *p)
{
    uint64_t *tokens = user;
    *tokens = p->stage == QUERN_QUANTIZE_CALIBRATE && p->tokens_done > *tokens ? p->tokens_done : *tokens;
    return true;
}

/* Whatever meets it first, a weight that is not finite is named; and if all are finite, that is said. */
static void broken_weights_are_named(void **state)
{
    static const char named[] = "tensor model.layers.0.mlp.down_proj.weight holds a value that is not finite at row 3, column 9";
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *broken = new_dir(), *overflowing = make_overflowing(), *dir = new_dir();
    copy_model("qwen3", broken);
    poke_weight(broken, "model.layers.0.mlp.down_proj.weight", 3, 9, BF16_NAN);
    uint64_t calibrated = 0;
    run r = {.opt = {.source = broken,
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q4_K_M",
                     .n_threads = 2,
                     .on_progress = see_calibration,
                     .user = &calibrated}};
    expect_refusal(&r, named);
    r.opt.calibrate = QUERN_CALIBRATE_BUILTIN;
    expect_refusal(&r, named);
    if (!QN_TEST_SANITIZED) { /* two minutes of running models there */
        r.opt.calibrate = QUERN_CALIBRATE_AUTO;
        expect_refusal(&r, named);
        r.opt.calibrate = QUERN_CALIBRATE_NONE;
        r.opt.target_bpw = 5;
        expect_refusal(&r, named);
        r.opt.source = overflowing;
        expect_refusal(&r, "logits that are not finite in chunk 0; all weights of the source are finite");
        r.opt.target_bpw = 0;
    }
    r.opt.source = overflowing;
    r.opt.calibrate = QUERN_CALIBRATE_BUILTIN;
    expect_refusal(&r, "activations overflow in layer 0; all weights of the source are finite");
    assert_int_equal(calibrated, 0); /* refused by the first chunk, not after the whole text */
    drop_dir(overflowing);
    drop_dir(broken);
    drop_dir(dir);
}

/* A file is not blamed for a source that is broken. */
static void broken_sources_are_named_by_verify(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *broken = new_dir(), *dir = new_dir();
    quern_error err = {0};
    quern_verify_result result;
    copy_model("qwen3", broken);
    run r = quantize(broken, dir, "gguf:Q8_0");
    poke_weight(broken, "model.layers.0.mlp.down_proj.weight", 3, 9, BF16_NAN);
    char file[2048];
    (void)snprintf(file, sizeof file, "%s", scratch_path(dir, "gguf/tiny-Q8_0.gguf"));
    const char *files[] = {file};
    const quern_verify_options opt = {
        .files = files, .n_files = 1, .source = broken, .policy = QUERN_GATE_DEFAULT, .calibrate = QUERN_CALIBRATE_NONE, .n_threads = 2};
    assert_ok(quern_verify(&opt, &result, &err));
    assert_int_equal(result.n_unreadable, 1);
    assert_int_equal(result.n_failed, 0);
    assert_non_null(
        strstr(result.unreadable.message, "model.layers.0.mlp.down_proj.weight holds a value that is not finite at row 3, column 9"));
    quern_free(result.json);
    qn_json_free(r.manifest);
    drop_dir(broken);
    drop_dir(dir);
}

/* ---- what was asked for ---- */

static void types_without_effect_are_told(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    static const char *const lists[][2] = {
        {"nomatch=Q4_0", NULL}, {"ffn_up=Q4_0", "ffn_pu=Q8_0"}, {"norm=Q4_0", "attn_v=Q8_0"}, {"blk=Q4_0", "attn_v=Q8_0"}};
    static const char *const warned[] = {NULL, NULL, "'norm=Q4_0' changes nothing: it matches no matrix",
                                         "'attn_v=Q8_0' changes nothing: another one before it"};
    char *dir = new_dir();
    run r = {.opt = {.source = model_dir("qwen3"), .output_dir = dir, .name = "tiny", .n_threads = 2}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        r.opt.formats = "gguf:Q4_K_M,gguf:Q6_K,mlx:4bit";
        r.opt.tensor_types = lists[i];
        r.opt.n_tensor_types = lists[i][1] != NULL ? 2 : 1;
        run_quantize(&r, 0);
        assert_int_equal(r.status, warned[i] != NULL ? QUERN_OK : QUERN_ERROR_USAGE);
        if (warned[i] == NULL) {
            assert_non_null(strstr(r.err.message, i == 0 ? "'nomatch=Q4_0': it matches no tensor" : "'ffn_pu=Q8_0': it matches no tensor"));
            assert_int_equal(count_files(dir), 0);
            continue;
        }
        assert_true(warns(find_output(r.manifest, "Q4_K_M"), warned[i]));
        assert_true(warns(find_output(r.manifest, "Q6_K"), warned[i]));
        assert_int_equal(qn_json_length(qn_json_get(find_output(r.manifest, "Q6_K"), "warnings")), 1);
        assert_false(warns(find_output(r.manifest, "4bit-g64"), "changes nothing"));
        qn_json_free(r.manifest);
    }
    r.opt.formats = "mlx:4bit";
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_USAGE);
    drop_dir(dir);
}

/* llama3_rope has rows of 128: no whole block of the k-quants. */
static void types_that_do_not_fit_are_told(void **state)
{
    (void)state;
    if (!have_model("llama3_rope")) {
        skip();
    }
    static const char *const wanted[] = {"attn_k|ffn_down=Q4_K"};
    char *dir = new_dir();
    run r = {.opt = {.source = model_dir("llama3_rope"),
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q8_0",
                     .n_threads = 2,
                     .tensor_types = wanted,
                     .n_tensor_types = 1}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    assert_true(warns(find_output(r.manifest, "Q8_0"), "2 of its 4 tensors have rows that are no whole number of its blocks"));
    qn_json_free(r.manifest);
    drop_dir(dir);
}

/* The same for a whole output, where it is more than a tenth of the weights. */
static void much_in_other_types_is_told(void **state)
{
    (void)state;
    if (!have_model("llama3_rope") || !have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    run r = quantize(model_dir("llama3_rope"), dir, "gguf:Q4_K_M,gguf:Q8_0,mlx:4bit");
    static const char *const said[] = {"% of the weights are not of the type asked for",
                                       "rows are no whole number of its blocks: 14 of 16 matrices", "Q5_0 instead of Q4_K in ",
                                       "Q8_0 instead of Q6_K in "};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        assert_true(warns(find_output(r.manifest, "Q4_K_M"), said[i]));
        assert_false(warns(find_output(r.manifest, "Q8_0"), said[i]));
        assert_false(warns(find_output(r.manifest, "4bit-g64"), said[i]));
    }
    qn_json_free(r.manifest);
    r = quantize(model_dir("qwen3"), dir, "gguf:Q4_K_M,mlx:4bit");
    assert_false(warns(find_output(r.manifest, "Q4_K_M"), said[0]));
    assert_false(warns(find_output(r.manifest, "4bit-g64"), said[0]));
    qn_json_free(r.manifest);
    r = quantize(model_dir("llama3_rope"), dir, "mlx:4bit-g128"); /* rows of 128 and 256 */
    assert_false(warns(find_output(r.manifest, "4bit-g128"), said[0]));
    qn_json_free(r.manifest);
    if (have_model("mistral_headdim")) { /* rows of 64 and 256 */
        r = quantize(model_dir("mistral_headdim"), dir, "mlx:4bit-g128");
        assert_true(warns(find_output(r.manifest, "4bit-g128"), said[0]));
        assert_true(warns(find_output(r.manifest, "4bit-g128"), "BF16 in "));
        qn_json_free(r.manifest);
    }
    drop_dir(dir);
}

static void names_are_names(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    static const char *const bad[] = {"a\nb", "a/b", "a\x1b[31mb", "\xff", "\xc2\x9b", "a\x7f", "", ".."};
    char *dir = new_dir();
    run r = {.opt = {.source = model_dir("qwen3"), .output_dir = dir, .formats = "gguf:Q8_0", .n_threads = 2}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        r.opt.name = bad[i];
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_ERROR_USAGE);
        assert_int_equal(count_files(dir), 0);
    }
    r.opt.name = "M\xc3\xbchle 8 B";
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    assert_true(qn_path_is_file(scratch_path(dir, "gguf/M\xc3\xbchle 8 B-Q8_0.gguf")));
    qn_json_free(r.manifest);
    drop_dir(dir);
}

/* ---- what is said of the files ---- */

static void retell(const char *dir, const char *from, const char *to)
{
    size_t size;
    uint8_t *text = read_file(scratch_path(dir, "manifest.json"), &size);
    char *copy = calloc(1, size + 64);
    assert_non_null(copy);
    memcpy(copy, text, size);
    char *at = strstr(copy, from);
    assert_non_null(at);
    memmove(at + strlen(to), at + strlen(from), strlen(at + strlen(from)) + 1);
    memcpy(at, to, strlen(to));
    write_file(scratch_path(dir, "told.json"), copy, strlen(copy));
    free(copy);
    free(text);
}

static void manifests_say_what_the_files_are(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir(), *json;
    quern_error err = {0};
    run r = quantize(model_dir("qwen3"), dir, "gguf:Q4_K_M,mlx:mixed_3_6");
    qn_json_free(r.manifest);
    assert_ok(quern_inspect(scratch_path(dir, "manifest.json"), NULL, &json, NULL, &err));
    quern_free(json);
    static const struct {
        const char *from, *to, *said;
    } cases[] = {{"\"type\": \"Q4_K_M\"", "\"type\": \"Q8_0\"", "the file is of type 'Q4_K_M', but"},
                 {"\"type\": \"mixed_3_6-g64\"", "\"type\": \"8bit-g64\"", "the file is of type 'mixed_3_6-g64', but"},
                 {"\"parameters\": ", "\"parameters\": 1", "the number of parameters is"},
                 {"\"bits_per_weight\": ", "\"bits_per_weight\": 1", "bits_per_weight is"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        retell(dir, cases[i].from, cases[i].to);
        quern_status status = quern_inspect(scratch_path(dir, "told.json"), NULL, &json, NULL, &err);
        assert_int_equal(status, QUERN_ERROR_INVALID);
        assert_non_null(strstr(err.message, cases[i].said));
    }
    drop_dir(dir);
}

static void reported_types_are_those_of_the_recipe(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    quern_error err = {0};
    static const char *const outputs[][2] = {{"gguf/tiny-Q3_K_L.gguf", "Q3_K_L"}, {"gguf/tiny-MXFP4_MOE.gguf", "MXFP4_MOE"},
                                             {"gguf/tiny-Q4_K_M.gguf", "Q4_K_M"}, {"mlx/mixed_3_6-g64", "mixed_3_6-g64"},
                                             {"mlx/mxfp4-g32", "mxfp4-g32"},      {"mlx/bf16", "bf16"}};
    run r = quantize(model_dir("qwen3"), dir, "gguf:Q3_K_L,gguf:MXFP4_MOE,gguf:Q4_K_M,mlx:mixed_3_6,mlx:mxfp4,mlx:bf16");
    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++) {
        const char *files[] = {scratch_path(dir, outputs[i][0])};
        const quern_verify_options opt = {.files = files,
                                          .n_files = 1,
                                          .source = model_dir("qwen3"),
                                          .policy = QUERN_GATE_OFF,
                                          .calibrate = QUERN_CALIBRATE_NONE,
                                          .n_threads = 2};
        quern_verify_result result;
        qn_json *doc;
        assert_ok(quern_verify(&opt, &result, &err));
        assert_ok(qn_json_parse(&doc, result.json, result.len, QN_JSON_REJECT_DUPLICATES, "report", &err));
        const qn_json *o = qn_json_at(qn_json_get(doc, "outputs"), 0);
        assert_string_equal(qn_json_string(qn_json_get(o, "type"), NULL), outputs[i][1]);
        assert_string_equal(verdict_of(o), "skipped");
        assert_int_equal(qn_json_length(qn_json_get(qn_json_get(o, "gate"), "notes")), 0);
        qn_json_free(doc);
        quern_free(result.json);
    }
    qn_json_free(r.manifest);
    drop_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unmeasured_quality_does_not_pass), cmocka_unit_test(large_values_have_errors),
        cmocka_unit_test(broken_weights_are_named),         cmocka_unit_test(broken_sources_are_named_by_verify),
        cmocka_unit_test(types_without_effect_are_told),    cmocka_unit_test(types_that_do_not_fit_are_told),
        cmocka_unit_test(much_in_other_types_is_told),      cmocka_unit_test(names_are_names),
        cmocka_unit_test(manifests_say_what_the_files_are), cmocka_unit_test(reported_types_are_those_of_the_recipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
