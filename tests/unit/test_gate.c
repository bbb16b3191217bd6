/* test_gate.c - the gate's integrity tests: files that Quern, llama.cpp and mlx-lm wrote pass; faults drawn by seed are found, down to one stored scale by
 * one step.
 *
 * QUERN_FAULTS=N draws N faults instead of a few, QUERN_FAULT_SEED other ones, and QUERN_FAULT_FILES (paths of GGUF files and MLX folders made
 * from the demo model, with ':' between them) damages those instead of Quern's own. QUERN_FAULT_CALIBRATE (a text file, or none) and
 * QUERN_FAULT_IMATRIX are what those files were made with, as `quern verify` takes it.
 */
#include "faults.h"

#include <math.h>

#include "quantize/certificate.h"
#include "quern/quern.h"

#include "quern/verify.h"

typedef struct sound_file {
    char path[1024];
    char source[1024];
} sound_file;

/* The verdict of one file by integrity alone; `why` gets the first reason, or the error of a file that cannot be read. */
static bool is_sound(const char *path, const char *source, char *why, size_t cap)
{
    quern_error err = {0};
    const char *files[] = {path};
    quern_verify_options opt = {
        .files = files, .n_files = 1, .source = source, .policy = QUERN_GATE_OFF, .calibrate = QUERN_CALIBRATE_AUTO, .n_threads = 2};
    quern_verify_result r;
    why[0] = '\0';
    if (quern_verify(&opt, &r, &err) != QUERN_OK) {
        (void)snprintf(why, cap, "%s", err.message);
        return false;
    }
    qn_json *doc;
    assert_ok(qn_json_parse(&doc, r.json, r.len, QN_JSON_REJECT_DUPLICATES, "report", &err));
    const qn_json *gate = qn_json_get(qn_json_at(qn_json_get(doc, "outputs"), 0), "gate");
    const char *reason = qn_json_string(qn_json_at(qn_json_get(gate, "reasons"), 0), NULL);
    const char *expected = r.n_unreadable > 0 ? "unreadable" : r.n_failed > 0 ? "fail" : "skipped";
    bool sound = r.n_failed + r.n_unreadable == 0;
    assert_string_equal(qn_json_string(qn_json_get(gate, "verdict"), NULL), expected);
    assert_int_equal(!sound, reason != NULL);
    (void)snprintf(why, cap, "%s", reason != NULL ? reason : "");
    qn_json_free(doc);
    quern_free(r.json);
    return sound;
}

static void assert_sound(const char *path, const char *source)
{
    char why[1024];
    if (!is_sound(path, source, why, sizeof why)) {
        fail_msg("%s is called unsound: %s", path, why);
    }
}

/* ---- files that are sound ---- */

static void own_outputs_pass(void **state)
{
    const char *formats = QN_TEST_SANITIZED ? "gguf:Q4_K_M,gguf:IQ4_XS,mlx:4bit"
                                            : "gguf:Q8_0,gguf:Q4_K_M,gguf:Q2_K,gguf:IQ4_XS,gguf:TQ2_0,mlx:4bit,mlx:mxfp4";
    char *dir = new_dir();
    (void)state;
    run r = quantize(whole_model_dir(), dir, formats);
    for (size_t i = 0; i < qn_json_length(qn_json_get(r.manifest, "outputs")); i++) {
        const char *path = qn_json_string(qn_json_get(qn_json_at(qn_json_get(r.manifest, "outputs"), i), "path"), NULL);
        assert_sound(scratch_path(dir, path), whole_model_dir());
    }
    qn_json_free(r.manifest);
    drop_dir(dir);
}

/* What llama.cpp and mlx-lm made of the reference checkpoints. */
static void foreign_files_pass(void **state)
{
    static const char *const files[][2] = {{"gguf/base/qwen3.bf16.gguf", "qwen3"},
                                           {"gguf/base/llama3_rope.f16.gguf", "llama3_rope"},
                                           {"gguf/quant/qwen3.Q4_K_M.gguf", "qwen3"},
                                           {"gguf/quant/qwen3.Q4_K_M.imatrix.gguf", "qwen3"},
                                           {"gguf/quant/qwen3.Q4_0.gguf", "qwen3"},
                                           {"gguf/quant/qwen3.IQ4_XS.gguf", "qwen3"},
                                           {"gguf/quant/qwen3.Q2_K.gguf", "qwen3"},
                                           {"gguf/quant/qwen3.Q3_K_S.gguf", "qwen3"},
                                           {"gguf/quant/qwen3_moe.Q4_K_M.gguf", "qwen3_moe"},
                                           {"mlx/qwen3.q4_g64/config.json", "qwen3"},
                                           {"mlx/llama3_rope.q4_g32/config.json", "llama3_rope"}};
    size_t n_checked = 0;
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = qn_test_golden(files[i][0]);
        char name[128], folder[1024];
        (void)snprintf(name, sizeof name, "hf/%s/config.json", files[i][1]);
        if (path == NULL || qn_test_golden(name) == NULL) {
            print_message("SKIP: %s: reference file is absent\n", files[i][0]);
            continue;
        }
        size_t len = strlen(path), end = strlen("/config.json");
        bool is_folder = len > end && strcmp(path + len - end, "/config.json") == 0;
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(is_folder ? len - end : len), path);
        assert_sound(folder, model_dir(files[i][1]));
        n_checked++;
    }
    if (n_checked == 0) {
        skip();
    }
}

/* ---- the gate of quantize ---- */

/* Zeros 4 KB in the middle of the GGUF file that is being written, once everything is in it. */
typedef struct saboteur {
    const char *dir;
    long at;      /* in the file */
    bool cancels; /* while the second output is examined */
    bool done;
} saboteur;

static bool damage_unfinished(void *user, const quern_quantize_progress *p)
{
    saboteur *s = user;
    char folder[1024];
    (void)snprintf(folder, sizeof folder, "%s/gguf", s->dir);
    DIR *d = p->stage == QUERN_QUANTIZE_HASH && !s->done ? opendir(folder) : NULL;
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        if (strstr(e->d_name, "Q4_0") != NULL) {
            static const uint8_t zeros[4096];
            FILE *f = fopen(scratch_path(folder, e->d_name), "r+b");
            assert_non_null(f);
            assert_int_equal(fseek(f, s->at, SEEK_SET), 0);
            assert_int_equal(fwrite(zeros, 1, sizeof zeros, f), sizeof zeros);
            assert_int_equal(fclose(f), 0);
            s->done = true;
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return !(s->cancels && p->stage == QUERN_QUANTIZE_GATE && p->bytes_done > p->bytes_total / 2);
}

static const char *verdict_of(const qn_json *output) { return qn_json_string(qn_json_get(qn_json_get(output, "gate"), "verdict"), NULL); }

enum { SHORT_TEXT = QN_TEST_SANITIZED ? 2500 : 6000 }; /* bytes of the gate's text */

/* What fails gets no name, or one that says so; the others do. */
static void damaged_outputs_get_no_name(void **state)
{
    size_t len;
    const char *gate_text = qn_test_shared("models/texts/gate.txt");
    (void)state;
    assert_non_null(gate_text);
    char *text = (char *)read_file(gate_text, &len);
    for (int keep = QN_TEST_SANITIZED; keep < 2; keep++) { /* both ways in the plain half */
        char *dir = new_dir();
        saboteur s = {.dir = dir, .at = QN_TEST_SANITIZED ? 300000 : 3000000};
        run r = {.opt = {.source = whole_model_dir(),
                         .output_dir = dir,
                         .name = "tiny",
                         .formats = "gguf:Q4_0,gguf:Q8_0",
                         .n_threads = 2,
                         .gate = QUERN_GATE_DEFAULT,
                         .gate_text = text,
                         .gate_text_len = SHORT_TEXT,
                         .keep_failed = keep == 1,
                         .on_progress = damage_unfinished,
                         .user = &s},
                 .note_always = true};
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_OK);
        assert_true(s.done);
        const qn_json *outputs = qn_json_get(r.manifest, "outputs"), *bad = qn_json_at(outputs, 0), *good = qn_json_at(outputs, 1);
        assert_string_equal(verdict_of(bad), "fail");
        assert_true(qn_json_length(qn_json_get(qn_json_get(bad, "gate"), "reasons")) > 0);
        assert_true(qn_json_length(qn_json_get(qn_json_get(bad, "gate"), "suspect_tensors")) > 0);
        assert_string_equal(verdict_of(good), "pass");
        assert_true(qn_json_length(qn_json_get(good, "quality")) > 10);
        assert_false(qn_path_exists(scratch_path(dir, "gguf/tiny-Q4_0.gguf")));
        assert_true(qn_path_exists(scratch_path(dir, "gguf/tiny-Q8_0.gguf")));
        assert_int_equal(qn_path_exists(scratch_path(dir, "gguf/tiny-Q4_0.gguf.failed")), keep);
        assert_int_equal(qn_json_length(qn_json_get(bad, "files")), keep);
        assert_int_equal(count_files(dir), 2 + (size_t)keep);
        assert_sound(scratch_path(dir, "gguf/tiny-Q8_0.gguf"), whole_model_dir());
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
    free(text);
}

/* What failed keeps its files until every output is examined, so that a run interrupted before can go on. */
static void interrupted_gates_lose_nothing(void **state)
{
    size_t len;
    char *dir = new_dir(), *text = (char *)read_file(qn_test_shared("models/texts/gate.txt"), &len);
    saboteur s = {.dir = dir, .at = 300000, .cancels = true};
    (void)state;
    assert_non_null(qn_test_golden("hf/qwen3/config.json"));
    run r = {.opt = {.source = model_dir("qwen3"),
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q4_0,gguf:Q8_0",
                     .n_threads = 2,
                     .gate = QUERN_GATE_DEFAULT,
                     .gate_text = text,
                     .gate_text_len = SHORT_TEXT,
                     .on_progress = damage_unfinished,
                     .user = &s}};
    run_quantize(&r, 0);
    assert_true(s.done);
    assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
    assert_non_null(strstr(r.err.message, "continues"));
    assert_true(count_files(dir) >= 2);
    s = (saboteur){.dir = dir, .done = true};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    assert_int_equal(count_files(dir), 3);
    qn_json_free(r.manifest);
    drop_dir(dir);
    free(text);
}

/* Overwrites a few bytes of a text of the MLX folder that is being written, once everything is in it. */
typedef struct text_saboteur {
    const char *dir, *file, *from, *to; /* of one length */
    bool done;
} text_saboteur;

static bool damage_unfinished_text(void *user, const quern_quantize_progress *p)
{
    text_saboteur *s = user;
    char folder[1024], path[1400];
    (void)snprintf(folder, sizeof folder, "%s/mlx/8bit-g64", s->dir);
    DIR *d = p->stage == QUERN_QUANTIZE_HASH && !s->done ? opendir(folder) : NULL;
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        if (strstr(e->d_name, s->file) != NULL) {
            size_t size, n = strlen(s->from);
            (void)snprintf(path, sizeof path, "%s", scratch_path(folder, e->d_name));
            uint8_t *text = read_file(path, &size);
            for (size_t i = 0; i + n <= size && !s->done; i++) {
                s->done = memcmp(text + i, s->from, n) == 0;
                if (s->done) {
                    memcpy(text + i, s->to, n);
                }
            }
            write_file(path, text, size);
            free(text);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return true;
}

/* What verify finds in a folder's tokenizer, templates and end tokens, the gate of quantize finds too. */
static void damaged_texts_fail_the_gate(void **state)
{
    static const struct {
        const char *file, *from, *to, *word;
    } cases[] = {{"tokenizer.json", "\"lstrip\":false", "\"lstrip\":true ", "tokenizer"},
                 {"generation_config.json", "511", "510", "end token"},
                 {"tokenizer_config.json", "assistant", "assistent", "template"},
                 {"", "", "", NULL}}; /* nothing: it passes, and no text is told to differ */
    size_t len;
    char *text = (char *)read_file(qn_test_shared("models/texts/gate.txt"), &len);
    (void)state;
    assert_non_null(qn_test_golden("hf/qwen3/config.json"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *dir = new_dir();
        text_saboteur s = {.dir = dir, .file = cases[i].file, .from = cases[i].from, .to = cases[i].to, .done = cases[i].word == NULL};
        run r = {.opt = {.source = model_dir("qwen3"),
                         .output_dir = dir,
                         .name = "tiny",
                         .formats = "mlx:8bit",
                         .n_threads = 2,
                         .gate = QUERN_GATE_DEFAULT,
                         .gate_text = text,
                         .gate_text_len = SHORT_TEXT,
                         .on_progress = damage_unfinished_text,
                         .user = &s}};
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_OK);
        assert_true(s.done);
        const qn_json *o = qn_json_at(qn_json_get(r.manifest, "outputs"), 0), *gate = qn_json_get(o, "gate");
        const char *reason = qn_json_string(qn_json_at(qn_json_get(gate, "reasons"), 0), NULL);
        assert_int_equal(strcmp(verdict_of(o), "fail") == 0, cases[i].word != NULL);
        assert_int_equal(qn_path_exists(scratch_path(dir, "mlx/8bit-g64/tokenizer.json")), cases[i].word == NULL);
        if (cases[i].word != NULL && strstr(reason, cases[i].word) == NULL) {
            fail_msg("%s: %s", cases[i].file, reason);
        }
        for (size_t k = 0; cases[i].word == NULL && k < qn_json_length(qn_json_get(gate, "notes")); k++) {
            assert_null(strstr(qn_json_string(qn_json_at(qn_json_get(gate, "notes"), k), NULL), ".json"));
        }
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
    free(text);
}

/* ---- certificates ---- */

/* What a claim of such figures gives, measured as q says on a text with this hash: 'f'ail, 'n'ote or nothing ('-'). */
static char judge_claim(const qn_claim *claim, const qn_quality *q, const char *text_sha256)
{
    quern_error err = {0};
    qn_findings f;
    qn_findings_init(&f);
    assert_ok(qn_claim_check(claim, q, text_sha256, 4.5, &f, &err));
    char result = f.failed ? 'f' : f.notes.n > 0 ? 'n' : '-';
    assert_false(f.lossy);
    qn_findings_deinit(&f);
    return result;
}

static void claims_are_compared(void **state)
{
    static const char text[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const qn_quality q = {.measured = true,
                          .n_ctx = 512,
                          .n_tokens = 1020,
                          .ppl_source = 10,
                          .ppl = 10.1,
                          .ppl_ratio = 1.01,
                          .ppl_ratio_error = 0.002,
                          .kld_mean = 0.01,
                          .kld_p99 = 0.1,
                          .kld_max = 1,
                          .top1_agreement = 0.95};
    const qn_claim honest = {.found = true,
                             .data_sha256 = {text, 64},
                             .text_sha256 = {text, 64},
                             .verdict = {"pass", 4},
                             .version = {quern_version(), strlen(quern_version())},
                             .tokens = 1020,
                             .n_ctx = 512,
                             .figures = {10, 10.1, 1.01, 0.002, 0.01, 0.1, 1, 0.95}};
    (void)state;
    assert_int_equal(judge_claim(&honest, &q, text), '-');
    qn_claim other = honest;
    other.tokens = 7; /* the text gives what it gives; another version may have cut it otherwise */
    assert_int_equal(judge_claim(&other, &q, text), 'f');
    other.version = (qn_span){"0.0.1", 5};
    assert_int_equal(judge_claim(&other, &q, text), 'n');
    assert_int_equal(judge_claim(&honest, &q, "another text's hash"), 'n');
    assert_int_equal(judge_claim(&honest, &(qn_quality){0}, text), 'n');
    for (size_t i = 0; i < QN_CLAIM_FIGURES; i++) { /* every figure counts; another version's by gross differences */
        qn_claim lie = honest, older = honest;
        lie.figures[i] *= 1.001;
        older.figures[i] *= 1.001;
        older.version = (qn_span){"0.0.1", 5};
        assert_int_equal(judge_claim(&lie, &q, text), 'f');
        assert_int_equal(judge_claim(&older, &q, text), 'n');
        older.figures[i] *= 3;
        assert_int_equal(judge_claim(&older, &q, text), 'f');
    }
    qn_claim silent = honest;
    silent.figures[4] = NAN;
    assert_int_equal(judge_claim(&silent, &q, text), 'f');
    qn_quality lossy = q;
    lossy.kld_mean = 0.3;
    qn_claim praised = honest;
    praised.figures[4] = 0.3;
    assert_int_equal(judge_claim(&praised, &lossy, text), 'f');
    praised.version = (qn_span){"0.0.1", 5};
    assert_int_equal(judge_claim(&praised, &lossy, text), 'f');
    praised.version = honest.version;
    assert_int_equal(judge_claim(&praised, &lossy, "another text's hash"), 'n');
    qn_claim mute = praised; /* no figures: only who sampled layers has none, and no text either */
    for (size_t i = 0; i < QN_CLAIM_FIGURES; i++) {
        mute.figures[i] = NAN;
    }
    assert_int_equal(judge_claim(&mute, &lossy, text), 'f');
    assert_int_equal(judge_claim(&mute, &lossy, "another text's hash"), 'f');
    mute.text_sha256 = (qn_span){0};
    mute.tokens = 0;
    assert_int_equal(judge_claim(&mute, &lossy, text), 'n');
    assert_int_equal(judge_claim(&mute, &q, text), '-');
    praised.verdict = (qn_span){"lossy", 5};
    assert_int_equal(judge_claim(&praised, &lossy, text), '-');
    /* what no version writes */
    qn_claim odd = honest;
    odd.verdict = (qn_span){"PASS", 4};
    assert_int_equal(judge_claim(&odd, &q, text), 'f');
    assert_int_equal(judge_claim(&odd, &(qn_quality){0}, text), 'f');
    odd = honest;
    odd.arithmetic = (qn_span){"int8", 4};
    assert_int_equal(judge_claim(&odd, &q, text), 'f');
    odd.arithmetic = (qn_span){"f32_activations", 15};
    assert_int_equal(judge_claim(&odd, &q, text), '-');
    odd.text_sha256 = (qn_span){0};
    assert_int_equal(judge_claim(&odd, &q, text), 'f');
}

/* ---- calibrations that the user names ---- */

typedef struct named {
    bool sound;
    char note[1024];  /* calibration_note, or "" */
    bool blames_up;   /* the first reason to fail names blk.1.ffn_up.weight */
    double n_tensors; /* that the named calibration made */
} named;

static named judge_named(const char *path, quern_calibrate how, const char *text, size_t len, const char *imatrix)
{
    quern_error err = {0};
    quern_verify_result r;
    qn_json *doc;
    named result = {0};
    const char *files[] = {path};
    quern_verify_options opt = {.files = files,
                                .n_files = 1,
                                .source = model_dir("qwen3"),
                                .policy = QUERN_GATE_OFF,
                                .calibrate = how,
                                .calibration_text = text,
                                .calibration_len = len,
                                .imatrix_path = imatrix,
                                .n_threads = 2};
    assert_ok(quern_verify(&opt, &r, &err));
    assert_int_equal(r.n_unreadable, 0);
    assert_ok(qn_json_parse(&doc, r.json, r.len, QN_JSON_REJECT_DUPLICATES, "report", &err));
    const qn_json *o = qn_json_at(qn_json_get(doc, "outputs"), 0);
    const char *note = qn_json_string(qn_json_get(o, "calibration_note"), NULL);
    result.sound = r.n_failed == 0;
    (void)snprintf(result.note, sizeof result.note, "%s", note != NULL ? note : "");
    (void)qn_json_number(qn_json_get(qn_json_get(o, "calibration"), "tensors"), &result.n_tensors);
    const char *reason = qn_json_string(qn_json_at(qn_json_get(qn_json_get(o, "gate"), "reasons"), 0), NULL);
    result.blames_up = reason != NULL && strstr(reason, "blk.1.ffn_up.weight: ") == reason;
    qn_json_free(doc);
    quern_free(r.json);
    return result;
}

/* One unit in the last place of one float16 scale, of a block that is not its tensor's first. */
static void nudge_scale(const char *path)
{
    quern_error err = {0};
    qn_gguf *g;
    size_t size;
    uint8_t *bytes = read_file(path, &size);
    assert_ok(qn_gguf_open(&g, path, false, &err));
    const qn_tensor *t = qn_gguf_find_tensor(g, "blk.1.ffn_up.weight");
    assert_non_null(t);
    assert_int_equal(t->dtype, QN_DTYPE_Q4_0);
    bytes[t->file_offset + 100 * qn_dtype_get(t->dtype)->block_bytes] ^= 1;
    qn_gguf_close(g);
    write_file(path, bytes, size);
    free(bytes);
}

/* Puts a tensor of one file in the place of the same in another of the same layout. */
static void transplant(const char *from, const char *to)
{
    quern_error err = {0};
    qn_gguf *g;
    size_t size, other_size;
    uint8_t *bytes = read_file(to, &size), *other = read_file(from, &other_size);
    assert_int_equal(size, other_size);
    assert_ok(qn_gguf_open(&g, to, false, &err));
    const qn_tensor *t = qn_gguf_find_tensor(g, "blk.1.ffn_up.weight");
    assert_non_null(t);
    memcpy(bytes + t->file_offset, other + t->file_offset, t->n_bytes);
    qn_gguf_close(g);
    write_file(to, bytes, size);
    free(bytes);
    free(other);
}

static const char *manifest_hash(const run *r, const char *key)
{
    const char *hash = qn_json_string(qn_json_get(qn_json_get(r->manifest, "calibration"), key), NULL);
    assert_non_null(hash);
    return hash;
}

/* A file that was calibrated on a text is encoded again with it, and its smallest fault is found; with another text the report says which. */
static void named_texts_find_the_smallest_fault(void **state)
{
    enum { LEN = QN_TEST_SANITIZED ? 3000 : 20000 };
    size_t len;
    char *dir = new_dir(), *text = (char *)read_file(qn_test_shared("models/texts/gate.txt"), &len), path[1100], folder[1100];
    (void)state;
    assert_true(len > 2 * LEN);
    assert_non_null(qn_test_golden("hf/qwen3/config.json"));
    run r = {.opt = {.source = model_dir("qwen3"),
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q4_0,mlx:4bit",
                     .n_threads = 2,
                     .calibrate = QUERN_CALIBRATE_TEXT,
                     .calibration_text = text,
                     .calibration_len = LEN}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    (void)snprintf(path, sizeof path, "%s", scratch_path(dir, "gguf/tiny-Q4_0.gguf"));
    (void)snprintf(folder, sizeof folder, "%s/", scratch_path(dir, "mlx/4bit-g64"));
    const char *hash = manifest_hash(&r, "text_sha256");
    for (int damaged = 0; damaged < 2; damaged++) {
        named by_text = judge_named(path, QUERN_CALIBRATE_TEXT, text, LEN, NULL);
        assert_int_equal(by_text.sound, !damaged);
        assert_true(by_text.n_tensors > 10);
        assert_string_equal(by_text.note, "");
        named blind = judge_named(path, QUERN_CALIBRATE_NONE, NULL, 0, NULL);
        assert_true(blind.sound); /* no test of a block can tell it from error feedback */
        assert_non_null(strstr(blind.note, hash));
        assert_non_null(strstr(blind.note, "--calibrate FILE"));
        if (!damaged) {
            nudge_scale(path);
        }
    }
    named other = judge_named(path, QUERN_CALIBRATE_TEXT, text + LEN, LEN, NULL);
    assert_true(other.sound && other.n_tensors == 0);
    assert_non_null(strstr(other.note, hash));
    named mlx = judge_named(folder, QUERN_CALIBRATE_TEXT, text, LEN, NULL);
    assert_true(mlx.sound && mlx.n_tensors > 10);
    mlx = judge_named(folder, QUERN_CALIBRATE_NONE, NULL, 0, NULL);
    assert_true(mlx.sound && strstr(mlx.note, hash) != NULL);
    assert_int_equal(remove(scratch_path(dir, "manifest.json")), 0);
    other = judge_named(path, QUERN_CALIBRATE_TEXT, text + LEN, LEN, NULL);
    assert_non_null(strstr(other.note, "another text"));
    assert_string_equal(judge_named(path, QUERN_CALIBRATE_NONE, NULL, 0, NULL).note, "");
    qn_json_free(r.manifest);
    char *other_dir = new_dir();
    r.opt.output_dir = other_dir;
    r.opt.formats = "gguf:Q4_0";
    r.opt.calibration_text = text + LEN;
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    qn_json_free(r.manifest);
    transplant(scratch_path(other_dir, "gguf/tiny-Q4_0.gguf"), path); /* the broken scale goes with it: what is left is another's tensor */
    named mixed = judge_named(path, QUERN_CALIBRATE_TEXT, text, LEN, NULL);
    assert_true(!mixed.sound && mixed.blames_up && mixed.n_tensors > 10);
    drop_dir(other_dir);
    drop_dir(dir);
    free(text);
}

/* The same with an importance matrix; what an earlier run's outputs were calibrated on stays known when a later one writes the manifest. */
static void named_matrices_find_the_smallest_fault(void **state)
{
    enum { LEN = QN_TEST_SANITIZED ? 3000 : 20000 };
    size_t len;
    quern_error err = {0};
    char *dir = new_dir(), *text = (char *)read_file(qn_test_shared("models/texts/gate.txt"), &len), path[1100];
    char *matrix = qn_path_join(dir, "m.gguf"), hash[65];
    (void)state;
    assert_true(len > LEN && matrix != NULL);
    assert_non_null(qn_test_golden("hf/qwen3/config.json"));
    run r = {.opt = {.source = model_dir("qwen3"),
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q8_0",
                     .n_threads = 2,
                     .calibrate = QUERN_CALIBRATE_TEXT,
                     .calibration_text = text,
                     .calibration_len = LEN,
                     .imatrix_out = matrix}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    qn_json_free(r.manifest);
    r.opt.formats = "gguf:Q4_0";
    r.opt.calibrate = QUERN_CALIBRATE_IMATRIX;
    r.opt.imatrix_path = matrix;
    r.opt.imatrix_out = NULL;
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    (void)snprintf(hash, sizeof hash, "%s", manifest_hash(&r, "imatrix_sha256"));
    qn_json_free(r.manifest);
    (void)snprintf(path, sizeof path, "%s", scratch_path(dir, "gguf/tiny-Q4_0.gguf"));
    for (int damaged = 0; damaged < 2; damaged++) {
        named by_file = judge_named(path, QUERN_CALIBRATE_IMATRIX, NULL, 0, matrix);
        assert_int_equal(by_file.sound, !damaged);
        assert_true(by_file.n_tensors > 10);
        if (!damaged) {
            nudge_scale(path);
        }
    }
    r.opt.formats = "gguf:Q5_0";
    r.opt.calibrate = QUERN_CALIBRATE_NONE;
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    qn_json_free(r.manifest);
    named other = judge_named(path, QUERN_CALIBRATE_TEXT, text, LEN, NULL);
    assert_int_equal((int)other.n_tensors, 0);
    assert_non_null(strstr(other.note, hash));
    assert_non_null(strstr(other.note, "--imatrix FILE"));
    const char *files[] = {path};
    quern_verify_options broken = {.files = files,
                                   .n_files = 1,
                                   .source = model_dir("qwen3"),
                                   .policy = QUERN_GATE_OFF,
                                   .calibrate = QUERN_CALIBRATE_IMATRIX,
                                   .imatrix_path = path};
    quern_verify_result result; /* what is no importance matrix is the user's error, not the file's */
    assert_int_equal(quern_verify(&broken, &result, &err), QUERN_ERROR_INVALID);
    qn_free(matrix);
    drop_dir(dir);
    free(text);
}

/* ---- faults ---- */

typedef struct damaged {
    char *dir;     /* scratch */
    size_t number; /* names the copy */
    char path[1024];
    char weights[1100]; /* the file that is written */
    uint8_t *bytes;
    size_t size;
    char story[256];
} damaged;

static void save(damaged *d) { write_file(d->weights, d->bytes, d->size); }

static bool is_quantized_matrix(const qn_tensor *t) { return t->n_dims >= 2 && qn_dtype_get(t->dtype)->block_size > 1; }

/* A key with a number that matters, one bit of it turned; tokens: the first bytes of two tokens of one length swapped. */
static bool damage_keys(fault_rng *r, fault_kind kind, const qn_gguf *g, damaged *d, const uint8_t *base)
{
    static const char *const keys[] = {"attention.head_count", "attention.layer_norm_rms_epsilon",
                                       "rope.freq_base",       "block_count",
                                       "context_length",       "feed_forward_length"};
    char key[128];
    if (kind == FAULT_TOKENS) {
        const qn_gguf_value *v = qn_gguf_find(g, "tokenizer.ggml.tokens");
        const uint8_t *cursor = v->data;
        qn_span found = {0};
        size_t skip_n = 300 + fault_below(r, 500);
        for (uint64_t i = 0; i < v->n; i++) {
            qn_span s = qn_gguf_next_string(&cursor);
            if (i < skip_n || s.len != 5) {
                continue;
            }
            if (found.data != NULL) {
                fault_swap(d->bytes + ((const uint8_t *)found.data - base), d->bytes + ((const uint8_t *)s.data - base), 5);
                return true;
            }
            found = s;
        }
        return false;
    }
    bool there;
    qn_span arch;
    assert_int_equal(qn_gguf_get_string(g, "general.architecture", &arch, &there, NULL), QUERN_OK);
    (void)snprintf(key, sizeof key, "%.*s.%s", (int)arch.len, arch.data, keys[fault_below(r, sizeof keys / sizeof keys[0])]);
    const qn_gguf_value *v = qn_gguf_find(g, key);
    if (v == NULL) {
        return false;
    }
    d->bytes[v->data - base] ^= 4;
    (void)snprintf(d->story, sizeof d->story, "%s", key);
    return true;
}

static bool damage_gguf(fault_rng *r, fault_kind kind, const char *path, damaged *d)
{
    quern_error err = {0};
    qn_gguf *g;
    bool done = false;
    free(d->bytes);
    d->bytes = read_file(path, &d->size);
    uint8_t *original = malloc(d->size);
    assert_non_null(original);
    memcpy(original, d->bytes, d->size);
    assert_ok(qn_gguf_parse(&g, original, d->size, path, &err));
    const qn_tensor *t = qn_gguf_tensor_at(g, fault_below(r, qn_gguf_n_tensors(g)));
    fault_tensor f = fault_tensor_of(t, d->bytes);
    (void)snprintf(d->story, sizeof d->story, "%s %s", t->name, qn_dtype_get(t->dtype)->name);
    if (kind == FAULT_METADATA || kind == FAULT_TOKENS) {
        done = damage_keys(r, kind, g, d, original);
    } else if (kind == FAULT_PLAIN_VALUE) {
        done = t->dtype == QN_DTYPE_F32;
        d->bytes[t->file_offset + 4 * fault_below(r, f.n_bytes / 4)] ^= 1;
    } else if (is_quantized_matrix(t) && kind == FAULT_SHIFT_BLOCKS) {
        done = fault_shift(r, &f);
    } else if (is_quantized_matrix(t) && kind == FAULT_SWAP_TENSORS) {
        const qn_tensor *o = qn_gguf_tensor_at(g, fault_below(r, qn_gguf_n_tensors(g)));
        done = o != t && o->dtype == t->dtype && o->n_bytes == t->n_bytes && memcmp(o->shape, t->shape, sizeof t->shape) == 0;
        if (done) {
            fault_swap(f.data, d->bytes + o->file_offset, f.n_bytes);
        }
    } else if (is_quantized_matrix(t) && (kind == FAULT_ZERO_TENSOR || kind == FAULT_SWAP_ROWS || kind == FAULT_SWAP_EXPERTS)) {
        done = fault_in_rows(r, kind, &f, 1);
    } else if (is_quantized_matrix(t)) {
        size_t block = qn_dtype_get(t->dtype)->block_bytes, b = fault_below(r, f.n_bytes / block), n = qn_dtype_get(t->dtype)->block_size;
        float before[256], after[256];
        qn_decode_row(t->dtype, f.data + b * block, before, n);
        done = fault_in_block(r, kind, t->dtype, f.data + b * block);
        qn_decode_row(t->dtype, f.data + b * block, after, n);
        done = done && memcmp(before, after, n * sizeof *before) != 0; /* a field that decides no value is no fault */
        size_t len = strlen(d->story);
        (void)snprintf(d->story + len, sizeof d->story - len, " block %zu", b);
    }
    qn_gguf_close(g);
    free(original);
    char name[32];
    (void)snprintf(name, sizeof name, "%zu.gguf", d->number);
    (void)snprintf(d->path, sizeof d->path, "%s", scratch_path(d->dir, name));
    (void)snprintf(d->weights, sizeof d->weights, "%s", d->path);
    return done;
}

static void copy_texts(const char *folder, const char *to)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        size_t len = strlen(e->d_name);
        if (e->d_name[0] != '.' && (len < 12 || strcmp(e->d_name + len - 12, ".safetensors") != 0)) {
            size_t size;
            uint8_t *text = read_file(scratch_path(folder, e->d_name), &size);
            write_file(scratch_path(to, e->d_name), text, size);
            free(text);
        }
    }
    (void)closedir(dir);
}

static bool damage_mlx(fault_rng *r, fault_kind kind, const char *folder, damaged *d)
{
    quern_error err = {0};
    qn_safetensors *s;
    bool done = false;
    char path[1100];
    (void)snprintf(path, sizeof path, "%s/model.safetensors", folder);
    free(d->bytes);
    d->bytes = read_file(path, &d->size);
    assert_ok(qn_safetensors_open(&s, path, false, &err));
    const qn_tensor *t = qn_safetensors_tensor_at(s, fault_below(r, qn_safetensors_n_tensors(s)));
    if (t->dtype == QN_DTYPE_U32) {
        char name[160];
        fault_tensor module[3] = {fault_tensor_of(t, d->bytes)};
        static const char *const parts[] = {"", "scales", "biases"};
        for (size_t k = 1; k < 3; k++) {
            (void)snprintf(name, sizeof name, "%.*s%s", (int)(strlen(t->name) - strlen("weight")), t->name, parts[k]);
            const qn_tensor *p = qn_safetensors_find(s, name);
            if (p != NULL) {
                module[k] = fault_tensor_of(p, d->bytes);
            }
        }
        bool rows = kind == FAULT_ZERO_TENSOR || kind == FAULT_SWAP_ROWS || kind == FAULT_SWAP_EXPERTS;
        done = rows ? fault_in_rows(r, kind, module, 3) : fault_in_group(r, kind, module);
    } else if (kind == FAULT_PLAIN_VALUE && t->n_dims == 1) {
        d->bytes[t->file_offset + 2 * fault_below(r, t->n_bytes / 2)] ^= 1;
        done = true;
    }
    (void)snprintf(d->story, sizeof d->story, "%s", t->name);
    qn_safetensors_close(s);
    char copy[32];
    (void)snprintf(copy, sizeof copy, "%zu", d->number);
    (void)snprintf(d->path, sizeof d->path, "%s", scratch_path(d->dir, copy));
    (void)snprintf(d->weights, sizeof d->weights, "%s/model.safetensors", d->path);
    if (done) {
        (void)mkdir(d->path, 0700);
        copy_texts(folder, d->path);
    }
    return done;
}

static size_t from_environment(const char *name, size_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? (size_t)strtoul(text, NULL, 10) : otherwise;
}

/* Faulty files are judged together: what they are compared with is made once. */
enum { BATCH = 20 };

typedef struct batch {
    size_t n;
    char paths[BATCH][1024], stories[BATCH][512];
} batch;

/* The calibration that files are judged with: the environment's, else what verify does by itself. The text is freed by the caller. */
static char *set_calibration(quern_verify_options *opt)
{
    const char *text = getenv("QUERN_FAULT_CALIBRATE");
    opt->imatrix_path = getenv("QUERN_FAULT_IMATRIX");
    opt->calibrate = opt->imatrix_path != NULL ? QUERN_CALIBRATE_IMATRIX : QUERN_CALIBRATE_AUTO;
    if (text == NULL) {
        return NULL;
    }
    opt->calibrate = strcmp(text, "none") == 0 ? QUERN_CALIBRATE_NONE : QUERN_CALIBRATE_TEXT;
    char *own = opt->calibrate == QUERN_CALIBRATE_TEXT ? (char *)read_file(text, &opt->calibration_len) : NULL;
    opt->calibration_text = own;
    return own;
}

/* How many of them are found; says which are not. */
static size_t judge_batch(const batch *b, const char *source)
{
    quern_error err = {0};
    const char *files[BATCH];
    size_t n_found = 0;
    bool says = getenv("QUERN_FAULTS") != NULL;
    quern_verify_result r;
    qn_json *doc;
    for (size_t i = 0; i < b->n; i++) {
        files[i] = b->paths[i];
    }
    quern_verify_options opt = {.files = files, .n_files = b->n, .source = source, .policy = QUERN_GATE_OFF, .n_threads = 2};
    char *text = set_calibration(&opt);
    assert_ok(quern_verify(&opt, &r, &err));
    free(text);
    assert_ok(qn_json_parse(&doc, r.json, r.len, QN_JSON_REJECT_DUPLICATES, "report", &err));
    for (size_t i = 0; i < b->n; i++) {
        const qn_json *gate = qn_json_get(qn_json_at(qn_json_get(doc, "outputs"), i), "gate");
        const char *reason = qn_json_string(qn_json_at(qn_json_get(gate, "reasons"), 0), NULL);
        bool sound = strcmp(qn_json_string(qn_json_get(gate, "verdict"), NULL), "skipped") == 0;
        n_found += !sound;
        if (sound || says) {
            print_message("%s: %s%s%s\n", sound ? "NOT FOUND" : "found", b->stories[i], reason != NULL ? ": " : "",
                          reason != NULL ? reason : "");
        }
    }
    qn_json_free(doc);
    quern_free(r.json);
    return n_found;
}

/* Draws faults until n could be made, and says which were not found. Kinds take turns. */
static size_t draw_faults(const sound_file *files, size_t n_files, size_t n, uint64_t seed)
{
    fault_rng r = {seed};
    damaged d = {.dir = new_dir()};
    static batch b;
    size_t n_found = 0, kind = 0, made = 0;
    b.n = 0;
    for (size_t tries = 0; made < n && tries < 1000 * n; tries++) {
        const sound_file *f = &files[fault_below(&r, n_files)];
        fault_kind k = (fault_kind)(kind % FAULT_KINDS);
        bool folder = qn_path_is_directory(f->path);
        d.number = b.n;
        if (!(folder ? damage_mlx(&r, k, f->path, &d) : damage_gguf(&r, k, f->path, &d))) {
            kind += tries % 50 == 49; /* no file has such a place */
            continue;
        }
        kind++;
        made++;
        save(&d);
        (void)snprintf(b.paths[b.n], sizeof b.paths[0], "%s", d.path);
        (void)snprintf(b.stories[b.n++], sizeof b.stories[0], "%s in %s (%s)", fault_names[k], qn_path_base(f->path), d.story);
        if (b.n == BATCH || made == n) {
            n_found += judge_batch(&b, f->source);
            b.n = 0;
            remove_tree(d.dir);
            assert_int_equal(mkdir(d.dir, 0700), 0);
        }
    }
    free(d.bytes);
    drop_dir(d.dir);
    return n_found;
}

enum { FAULTS_USUALLY = QN_TEST_SANITIZED ? 6 : 30 };

static void faults_are_found(void **state)
{
    static const char *const formats[] = {"gguf:Q8_0",   "gguf:Q4_0",   "gguf:Q4_1",   "gguf:Q5_0", "gguf:Q5_1",   "gguf:Q2_K",
                                          "gguf:Q3_K_M", "gguf:Q4_K_M", "gguf:Q5_K_M", "gguf:Q6_K", "gguf:IQ4_NL", "gguf:IQ4_XS",
                                          "gguf:TQ1_0",  "gguf:TQ2_0",  "mlx:2bit",    "mlx:4bit",  "mlx:8bit",    "mlx:mxfp4"};
    enum { N_FORMATS = sizeof formats / sizeof formats[0], STEP = QN_TEST_SANITIZED ? 3 : 1, FILES_MAX = 128 };
    static sound_file files[FILES_MAX];
    size_t n_files = 0, n = from_environment("QUERN_FAULTS", FAULTS_USUALLY);
    char *dir = new_dir(), *given = getenv("QUERN_FAULT_FILES") != NULL ? strdup(getenv("QUERN_FAULT_FILES")) : NULL;
    (void)state;
    for (char *p = given != NULL ? strtok_r(given, ":", &given) : NULL; p != NULL && n_files < FILES_MAX; p = strtok_r(NULL, ":", &given)) {
        (void)snprintf(files[n_files].path, sizeof files[0].path, "%s", p);
        (void)snprintf(files[n_files++].source, sizeof files[0].source, "%s", demo_dir());
    }
    if (n_files == 0) {
        char list[1024] = "";
        for (size_t i = 0; i < N_FORMATS; i += STEP) {
            size_t len = strlen(list);
            (void)snprintf(list + len, sizeof list - len, "%s%s", i > 0 ? "," : "", formats[i]);
        }
        run r = quantize(whole_model_dir(), dir, list);
        for (; n_files < N_FORMATS / STEP; n_files++) {
            const qn_json *o = qn_json_at(qn_json_get(r.manifest, "outputs"), n_files);
            (void)snprintf(files[n_files].path, sizeof files[0].path, "%s",
                           scratch_path(dir, qn_json_string(qn_json_get(o, "path"), NULL)));
            (void)snprintf(files[n_files].source, sizeof files[0].source, "%s", whole_model_dir());
        }
        qn_json_free(r.manifest);
    }
    size_t n_found = draw_faults(files, n_files, n, from_environment("QUERN_FAULT_SEED", 1));
    print_message("%zu of %zu faults found\n", n_found, n);
    assert_int_equal(n_found, n);
    drop_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_outputs_pass),
        cmocka_unit_test(foreign_files_pass),
        cmocka_unit_test(damaged_outputs_get_no_name),
        cmocka_unit_test(interrupted_gates_lose_nothing),
        cmocka_unit_test(damaged_texts_fail_the_gate),
        cmocka_unit_test(claims_are_compared),
        cmocka_unit_test(named_texts_find_the_smallest_fault),
        cmocka_unit_test(named_matrices_find_the_smallest_fault),
        cmocka_unit_test(faults_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
