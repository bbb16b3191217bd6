/* test_quantize_failures.c - sources that cannot be converted, places that cannot be written, interruption: the reason is named and nothing is
 * left behind. */
#include "quantize_run.h"

#include "base/builtin_text.h"

/* ---- what cannot be done ---- */

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
        fail_msg("%s: status %s, message '%s'; expected %s with '%s'", formats, quern_status_name(r.status), r.err.message,
                 quern_status_name(status), word);
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
    if (have_model("smollm3_bitnet")) {
        expect_failure(model_dir("smollm3_bitnet"), "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "bitnet");
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
        assert_true(warns(find_output(r.manifest, "8bit-g64"), "sliding window of 4096"));
        qn_json_free(r.manifest);
    }
    if (have_model("qwen3_yarn")) {
        copy_model("qwen3_yarn", source);
        run r = quantize(source, dir, "gguf:Q8_0");
        assert_false(warns(find_output(r.manifest, "Q8_0"), "truncate"));
        qn_json_free(r.manifest);
        replace_in_file(scratch_path(source, "config.json"), "\"factor\"", "\"truncate\": false, \"factor\"");
        expect_failure(source, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "truncate false");
        r = quantize(source, dir, "mlx:8bit");
        assert_true(warns(find_output(r.manifest, "8bit-g64"), "truncate false"));
        qn_json_free(r.manifest);
    }
    drop_dir(source);
    drop_dir(dir);
}

static bool notes(const qn_json *output, const char *word)
{
    const qn_json *list = qn_json_get(qn_json_get(output, "gate"), "notes");
    for (size_t i = 0; i < qn_json_length(list); i++) {
        if (strstr(qn_json_string(qn_json_at(list, i), NULL), word) != NULL) {
            return true;
        }
    }
    return false;
}

/* Such a file can pass, since nothing in it is wrong and the gate's text is short: the verdict says beside it what is missing. */
static void the_gate_names_what_gguf_cannot_say(void **state)
{
    (void)state;
    static const struct {
        const char *model, *from, *to;
        bool said;
    } cases[] = {
        {"mistral_headdim", "\"sliding_window\": null", "\"sliding_window\": 4096", true},
        {"qwen2_tied", "\"use_sliding_window\": false", "\"max_window_layers\": 1, \"sliding_window\": 4096, \"use_sliding_window\": true",
         true},
        {"qwen2_tied", NULL, NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!have_model(cases[i].model)) {
            continue;
        }
        char *source = new_dir(), *dir = new_dir(), *file = qn_path_join(dir, "gguf/tiny-BF16.gguf");
        quern_error err = {0};
        quern_verify_result v;
        qn_json *doc;
        size_t len;
        copy_model(cases[i].model, source);
        if (cases[i].from != NULL) {
            if (strcmp(cases[i].model, "qwen2_tied") == 0) {
                replace_in_file(scratch_path(source, "config.json"), "\"sliding_window\"", "\"unknown\"");
                replace_in_file(scratch_path(source, "config.json"), "\"max_window_layers\"", "\"unknown_too\"");
            }
            replace_in_file(scratch_path(source, "config.json"), cases[i].from, cases[i].to);
        }
        run r = {.opt = {.source = source,
                         .output_dir = dir,
                         .name = "tiny",
                         .formats = "gguf:BF16",
                         .n_threads = 2,
                         .gate = QUERN_GATE_DEFAULT,
                         .gate_text = qn_builtin_text_calibration(&len),
                         .gate_text_len = 3000}};
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_OK);
        const qn_json *own = find_output(r.manifest, "BF16");
        assert_string_equal(qn_json_string(qn_json_get(qn_json_get(own, "gate"), "verdict"), NULL), "pass");
        assert_int_equal(notes(own, "not in the file: the sliding window of 4096 tokens"), cases[i].said);
        const char *files[] = {file};
        const quern_verify_options opt = {
            .files = files, .n_files = 1, .source = source, .policy = QUERN_GATE_OFF, .calibrate = QUERN_CALIBRATE_NONE, .n_threads = 2};
        assert_ok(quern_verify(&opt, &v, &err));
        assert_ok(qn_json_parse(&doc, v.json, v.len, QN_JSON_REJECT_DUPLICATES, "report", &err));
        assert_int_equal(notes(qn_json_at(qn_json_get(doc, "outputs"), 0), "not in the file: the sliding window of 4096 tokens"),
                         cases[i].said);
        qn_json_free(doc);
        quern_free(v.json);
        qn_json_free(r.manifest);
        qn_free(file);
        drop_dir(source);
        drop_dir(dir);
    }
}

/* What the reading programs of others cannot do with an output stands in its warnings. */
static void what_other_readers_cannot_do_is_said(void **state)
{
    (void)state;
    static const extra biases[] = {
        {"model.layers.0.self_attn.q_proj.bias", 1, {256}, NULL, 0}, {"model.layers.0.self_attn.k_proj.bias", 1, {128}, NULL, 0},
        {"model.layers.0.self_attn.v_proj.bias", 1, {128}, NULL, 0}, {"model.layers.0.self_attn.o_proj.bias", 1, {256}, NULL, 0},
        {"model.layers.1.self_attn.q_proj.bias", 1, {256}, NULL, 0}, {"model.layers.1.self_attn.k_proj.bias", 1, {128}, NULL, 0},
        {"model.layers.1.self_attn.v_proj.bias", 1, {128}, NULL, 0}, {"model.layers.1.self_attn.o_proj.bias", 1, {256}, NULL, 0},
    };
    static const struct {
        const char *model, *from, *to, *gguf, *mlx;
    } cases[] = {
        {"qwen3_yarn", "\"factor\"", "\"beta_fast\": 32, \"factor\"", NULL, NULL},
        {"qwen3_yarn", "\"factor\"", "\"beta_fast\": 8, \"factor\"", "--yarn-beta-fast 8 --yarn-beta-slow 1", NULL},
        {"qwen3_yarn", "\"rope_type\": \"yarn\"", "\"rope_type\": \"llama3\", \"low_freq_factor\": 1, \"high_freq_factor\": 4",
         "rope_freqs.weight", NULL},
        {"qwen3_yarn", "\"factor\": 4.0", "\"factor\": 1.0, \"attention_factor\": 2.0", NULL, "attention_factor 2"},
        {"llama3_rope", "\"factor\": 8.0", "\"factor\": 4.0", NULL, NULL},
        {"mistral_headdim", "\"sliding_window\": null",
         "\"sliding_window\": 16, \"layer_types\": [\"full_attention\", \"sliding_attention\"]", "window of 16", NULL},
        {"qwen3_moe", "\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 2}", NULL, "leaves it out"},
    };
    char *source = new_dir();
    char *dir = new_dir();
    if (have_model("qwen3")) {
        write_checkpoint(source, "qwen3", biases, sizeof biases / sizeof biases[0]);
        replace_in_file(scratch_path(source, "config.json"), "\"attention_bias\": false", "\"attention_bias\": true");
        run r = quantize(source, dir, "gguf:Q8_0,mlx:8bit");
        assert_true(warns(find_output(r.manifest, "Q8_0"), "llama.cpp refuses files of architecture qwen3"));
        assert_true(warns(find_output(r.manifest, "8bit-g64"), "mlx-lm refuses models of type qwen3"));
        qn_json_free(r.manifest);
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!have_model(cases[i].model)) {
            continue;
        }
        copy_model(cases[i].model, source);
        replace_in_file(scratch_path(source, "config.json"), cases[i].from, cases[i].to);
        run r = quantize(source, dir, "gguf:Q8_0,mlx:8bit");
        const qn_json *gguf = find_output(r.manifest, "Q8_0"), *mlx = find_output(r.manifest, "8bit-g64");
        bool gguf_right = cases[i].gguf != NULL ? warns(gguf, cases[i].gguf) : qn_json_length(qn_json_get(gguf, "warnings")) == 0;
        bool mlx_right = cases[i].mlx != NULL ? warns(mlx, cases[i].mlx) : qn_json_length(qn_json_get(mlx, "warnings")) == 0;
        if (!gguf_right || !mlx_right) {
            fail_msg("%s, %s: %s", cases[i].model, cases[i].to, gguf_right ? "mlx" : "gguf");
        }
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

static void interruption_names_nothing(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    static const size_t stops[] = {1, 7, 24};
    for (size_t i = 0; i < 3; i++) {
        size_t left = stops[i];
        char *dir = new_dir();
        run r = {.opt = {.source = model_dir("qwen3"),
                         .output_dir = dir,
                         .formats = "gguf:Q4_K_M,mlx:4bit",
                         .n_threads = 2,
                         .on_progress = stop_after,
                         .user = &left}};
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
        assert_int_equal(left, 0);
        assert_int_equal(count_named(dir), 0);
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
    assert_int_equal(count_named(dir), n_files);
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

/* ---- a failure at the very end, and what stands in the folder then ---- */

/* Stops, or spoils a name, when a stage reports a file whose name ends so; "" is any. */
typedef struct late {
    quern_quantize_stage stage;
    const char *file;
    const char *in_the_way; /* this name becomes a folder; NULL = stop */
    size_t n_calls;
} late;

static bool fail_late(void *user, const quern_quantize_progress *p)
{
    late *l = user;
    size_t n = strlen(p->tensor), end = strlen(l->file);
    if (p->stage != l->stage || n < end || strcmp(p->tensor + n - end, l->file) != 0) {
        return true;
    }
    l->n_calls++;
    if (l->in_the_way == NULL) {
        return false;
    }
    (void)unlink(l->in_the_way);
    assert_int_equal(mkdir(l->in_the_way, 0777), 0);
    return true;
}

static const char *const both_formats = "gguf:Q8_0,mlx:4bit";

static void late_failures_name_nothing(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    const late cases[] = {
        {QUERN_QUANTIZE_HASH, "", NULL, 0}, {QUERN_QUANTIZE_SYNC, ".gguf", NULL, 0}, {QUERN_QUANTIZE_SYNC, "manifest.json", NULL, 0}};
    for (size_t i = 0; i < 3; i++) {
        char *dir = new_dir();
        late l = cases[i];
        run r = {.opt = {.source = model_dir("qwen3"),
                         .output_dir = scratch_path(dir, "a/b"),
                         .formats = both_formats,
                         .on_progress = fail_late,
                         .user = &l}};
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
        assert_int_equal(l.n_calls, 1);
        assert_int_equal(count_named(dir), 0);
        r.opt.output_dir = dir;
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
        assert_int_equal(count_named(dir), 0);
        drop_dir(dir);
    }
    char *dir = new_dir();
    late l = {QUERN_QUANTIZE_SYNC, "manifest.json", scratch_path(dir, "manifest.json"), 0}; /* the last name of all */
    run r = {.opt = {.source = model_dir("qwen3"), .output_dir = dir, .formats = both_formats, .on_progress = fail_late, .user = &l}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_IO);
    assert_non_null(strstr(r.err.message, "manifest.json: is a folder"));
    assert_int_equal(count_named(dir), 0);
    l = (late){QUERN_QUANTIZE_CONVERT, "", NULL, 0};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_ERROR_IO);
    assert_int_equal(l.n_calls, 0); /* known before the work */
    drop_dir(dir);
}

static void earlier_outputs_survive_a_late_failure(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    char *source = new_dir();
    const uint16_t one = 0x3f80;
    copy_model("qwen3", source);
    poke_tensor(source, "model.layers.0.mlp.gate_proj.weight", 40, &one, 2);
    run r = quantize(model_dir("qwen3"), dir, both_formats);
    size_t n_files = count_files(dir);
    const char *blocked = scratch_path(dir, "mlx/4bit-g64/config.json"); /* named after the weights */
    late l = {QUERN_QUANTIZE_SYNC, "manifest.json", blocked, 0};
    run again = {
        .opt = {.source = source, .output_dir = dir, .name = "tiny", .formats = both_formats, .on_progress = fail_late, .user = &l}};
    run_quantize(&again, 0);
    assert_int_equal(again.status, QUERN_ERROR_IO);
    assert_int_equal(l.n_calls, 1);
    assert_int_equal(count_files(dir), n_files - 1);
    check_file_entries(qn_json_get(find_output(r.manifest, "Q8_0"), "files"), dir);
    assert_int_equal(rmdir(blocked), 0);
    again = quantize(source, dir, both_formats);
    assert_int_equal(count_files(dir), n_files);
    check_file_entries(qn_json_get(find_output(again.manifest, "Q8_0"), "files"), dir);
    check_file_entries(qn_json_get(find_output(again.manifest, "4bit-g64"), "files"), dir);
    qn_json_free(r.manifest);
    qn_json_free(again.manifest);
    drop_dir(source);
    drop_dir(dir);
}

/* ---- what killed runs left, and runs at the same time ---- */

enum { NO_SUCH_PROCESS = 999999999 };

static char *leave(const char *dir, const char *name, const char *ending, const char *text)
{
    char path[2048];
    (void)snprintf(path, sizeof path, "%s/%s.%d.%s", dir, name, NO_SUCH_PROCESS, ending);
    write_file(path, text, strlen(text));
    return strdup(path);
}

static void what_killed_runs_left_is_cleared(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    run r = quantize(model_dir("qwen3"), dir, both_formats);
    size_t n_files = count_files(dir);
    qn_json_free(r.manifest);
    char *left[] = {leave(dir, "gguf/tiny-Q8_0.gguf", "part", "x"), leave(dir, "gguf/other-F32.gguf", "part", "x"),
                    leave(dir, "mlx/4bit-g64/model.safetensors", "part", "x"), leave(dir, "gguf/tiny-Q8_0.gguf", "old", "done with")};
    char *foreign = leave(dir, "gguf/film", "part", "x");
    r = quantize(model_dir("qwen3"), dir, "mlx:4bit");
    for (size_t i = 0; i < 4; i++) {
        assert_false(qn_path_exists(left[i]));
        free(left[i]);
    }
    assert_true(qn_path_exists(foreign));
    assert_int_equal(unlink(foreign), 0);
    free(foreign);
    assert_int_equal(count_files(dir), n_files);
    check_file_entries(qn_json_get(find_output(r.manifest, "Q8_0"), "files"), dir); /* the file is not what was set aside */
    qn_json_free(r.manifest);
    free(leave(dir, "gguf/tiny-Q8_0.gguf", "old", "set aside")); /* killed while naming: the manifest had no name yet */
    free(leave(dir, "manifest.json", "part", "{}"));
    r = quantize(model_dir("qwen3"), dir, "mlx:4bit");
    assert_int_equal(count_files(dir), n_files);
    size_t size;
    uint8_t *text = read_file(scratch_path(dir, "gguf/tiny-Q8_0.gguf"), &size);
    assert_int_equal(size, 9);
    assert_memory_equal(text, "set aside", 9);
    free(text);
    qn_json_free(r.manifest);
    drop_dir(dir);
}

static bool run_another(void *user, const quern_quantize_progress *p)
{
    run *other = user;
    if (p->tensors_done == 3 && p->stage == QUERN_QUANTIZE_CONVERT) {
        run_quantize(other, 0);
    }
    return true;
}

static void one_run_at_a_time(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    run other = {.opt = {.source = model_dir("qwen3"), .output_dir = dir, .name = "tiny", .formats = "gguf:F16", .n_threads = 1}};
    run r = {.opt = {.source = model_dir("qwen3"),
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q8_0",
                     .n_threads = 1,
                     .on_progress = run_another,
                     .user = &other}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    assert_int_equal(other.status, QUERN_ERROR_IO);
    assert_non_null(strstr(other.err.message, "another run"));
    assert_int_equal(count_files(dir), 2);
    qn_json_free(r.manifest);
    run_quantize(&other, 0);
    assert_int_equal(other.status, QUERN_OK);
    qn_json_free(other.manifest);
    drop_dir(dir);
}

static void earlier_outputs_stay_described(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    char *source = new_dir();
    copy_model("qwen3", source);
    run first = quantize(source, dir, both_formats);
    run second = quantize(source, dir, "gguf:Q4_0");
    const qn_json *kept = find_output(second.manifest, "4bit-g64");
    assert_int_equal(qn_json_length(qn_json_get(second.manifest, "outputs")), 3);
    assert_non_null(qn_json_get(kept, "kept_from"));
    assert_null(qn_json_get(find_output(second.manifest, "Q4_0"), "kept_from"));
    assert_int_equal(qn_json_length(qn_json_get(second.manifest, "warnings")), 0);
    for (size_t i = 0; i < 3; i++) {
        check_file_entries(qn_json_get(qn_json_at(qn_json_get(second.manifest, "outputs"), i), "files"), dir);
    }
    qn_json_free(second.manifest);
    assert_int_equal(unlink(scratch_path(dir, "gguf/tiny-Q4_0.gguf")), 0); /* gone: nothing to say */
    assert_int_equal(truncate(scratch_path(dir, "mlx/4bit-g64/config.json"), 5), 0);
    second = quantize(source, dir, "gguf:F16");
    assert_null(find_output(second.manifest, "Q4_0"));
    assert_null(find_output(second.manifest, "4bit-g64"));
    assert_non_null(find_output(second.manifest, "Q8_0"));
    assert_true(warns(second.manifest, "mlx/4bit-g64"));
    assert_int_equal(qn_json_length(qn_json_get(second.manifest, "warnings")), 1);
    qn_json_free(second.manifest);
    replace_in_file(scratch_path(source, "tokenizer_config.json"), "{", "{ ");
    second = quantize(source, dir, "gguf:F16");
    assert_int_equal(qn_json_length(qn_json_get(second.manifest, "outputs")), 1);
    assert_true(warns(second.manifest, "gguf/tiny-Q8_0.gguf"));
    qn_json_free(second.manifest);
    write_file(scratch_path(dir, "manifest.json"), "[", 1);
    second = quantize(source, dir, "gguf:F16");
    assert_true(warns(second.manifest, "manifest.json"));
    qn_json_free(first.manifest);
    qn_json_free(second.manifest);
    drop_dir(source);
    drop_dir(dir);
}

static void plan_knows_the_sizes_and_sources_are_listed(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3", "llama3_rope", "mistral_headdim"};
    const char *formats = "gguf:Q4_K_M,gguf:F32,mlx:4bit,mlx:mixed_3_6,mlx:bf16";
    for (size_t m = 0; m < 3; m++) {
        if (!have_model(models[m])) {
            continue;
        }
        char *dir = new_dir();
        char *source = new_dir();
        copy_model(models[m], source);
        write_file(scratch_path(source, "special_tokens_map.json"), "{}", 2);
        for (uint64_t shard = 0; shard <= 300000; shard += 300000) {
            run r = {.opt = {.source = source, .output_dir = dir, .name = "tiny", .formats = formats, .dry_run = true}};
            run_quantize(&r, shard);
            assert_int_equal(r.status, QUERN_OK);
            run done = {.opt = r.opt};
            done.opt.dry_run = false;
            run_quantize(&done, shard);
            for (size_t i = 0; i < 5; i++) {
                int64_t planned = -1, written = -2;
                assert_true(qn_json_int(qn_json_get(qn_json_at(qn_json_get(r.manifest, "outputs"), i), "bytes"), &planned));
                assert_true(qn_json_int(qn_json_get(qn_json_at(qn_json_get(done.manifest, "outputs"), i), "bytes"), &written));
                assert_int_equal(planned, written);
            }
            bool listed = false;
            const qn_json *files = qn_json_get(qn_json_get(done.manifest, "source"), "files");
            for (size_t i = 0; i < qn_json_length(files); i++) {
                listed = listed || strcmp(qn_json_string(qn_json_get(qn_json_at(files, i), "path"), NULL), "special_tokens_map.json") == 0;
            }
            assert_true(listed);
            qn_json_free(r.manifest);
            qn_json_free(done.manifest);
        }
        drop_dir(source);
        drop_dir(dir);
    }
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
    run r = {
        .opt = {
            .source = model_dir("llama3_rope"), .output_dir = dir, .formats = "gguf:Q4_K_M,mlx:4bit-g32", .name = "tiny", .n_threads = 2}};
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
        assert_int_equal(scratch_count(dir), 0);
    }
    drop_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_weights_are_named_and_leave_nothing),
        cmocka_unit_test(what_gguf_cannot_say_is_refused_or_said),
        cmocka_unit_test(the_gate_names_what_gguf_cannot_say),
        cmocka_unit_test(what_other_readers_cannot_do_is_said),
        cmocka_unit_test(values_beyond_float16_are_clipped_and_said),
        cmocka_unit_test(interruption_names_nothing),
        cmocka_unit_test(existing_outputs_survive_failure_and_are_replaced_by_success),
        cmocka_unit_test(late_failures_name_nothing),
        cmocka_unit_test(earlier_outputs_survive_a_late_failure),
        cmocka_unit_test(what_killed_runs_left_is_cleared),
        cmocka_unit_test(one_run_at_a_time),
        cmocka_unit_test(earlier_outputs_stay_described),
        cmocka_unit_test(plan_knows_the_sizes_and_sources_are_listed),
        cmocka_unit_test(places_that_cannot_be_written),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
