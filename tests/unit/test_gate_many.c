/* test_gate_many.c - faults in many places of one tensor: what would pass for another version of an encoder if the other tensors did not tell who
 * wrote the file. */
#include "faults.h"

#include "base/half.h"
#include "quern/quern.h"
#include "quern/verify.h"

/* Where a type's blocks have codes and outer scales, in bytes. */
typedef struct layout {
    qn_dtype dtype;
    size_t codes, n_codes;
    size_t scales[2];
    size_t n_scales;
} layout;

static const layout layouts[] = {
    {QN_DTYPE_Q4_0, 2, 16, {0}, 1},      {QN_DTYPE_Q4_1, 4, 16, {0, 2}, 2},    {QN_DTYPE_Q8_0, 2, 32, {0}, 1},
    {QN_DTYPE_IQ4_NL, 2, 16, {0}, 1},    {QN_DTYPE_Q2_K, 16, 64, {80, 82}, 2}, {QN_DTYPE_Q4_K, 16, 128, {0, 2}, 2},
    {QN_DTYPE_Q5_K, 48, 128, {0, 2}, 2}, {QN_DTYPE_Q6_K, 0, 128, {208}, 1},    {QN_DTYPE_IQ4_XS, 8, 128, {0}, 1}};

typedef enum change { CODES, ULPS, FACTOR, N_CHANGES } change;

typedef struct plan {
    change change;
    double share;  /* of the blocks */
    double factor; /* FACTOR: of the outer scales */
    const char *story;
} plan;

static const plan plans[] = {{CODES, 0.01, 0, "a code's lowest bit in 1 % of the blocks"},
                             {CODES, 0.15, 0, "a code's lowest bit in 15 %"},
                             {CODES, 0.5, 0, "a code's lowest bit in half of the blocks"},
                             {ULPS, 0.01, 0, "a scale's last bit in 1 %"},
                             {ULPS, 0.1, 0, "a scale's last bit in 10 %"},
                             {ULPS, 1, 0, "a scale's last bit everywhere"},
                             {FACTOR, 0.3, 1.02, "scales times 1.02 in 30 %"},
                             {FACTOR, 1, 1.01, "scales times 1.01 everywhere"},
                             {FACTOR, 1, 1.05, "scales times 1.05 everywhere"}};
enum { N_PLANS = sizeof plans / sizeof plans[0] };

static void multiply_half(uint8_t *p, double factor)
{
    uint16_t bits;
    memcpy(&bits, p, sizeof bits);
    bits = qn_f16_from_f32((float)(factor * (double)qn_f32_from_f16(bits)));
    memcpy(p, &bits, sizeof bits);
}

static void damage_block(fault_rng *r, const layout *l, const plan *p, uint8_t *block)
{
    switch (p->change) {
    case CODES: block[l->codes + fault_below(r, l->n_codes)] ^= (uint8_t)(fault_below(r, 2) != 0 ? 0x01 : 0x10); break;
    case ULPS: block[l->scales[0]] ^= 1; break;
    default:
        for (size_t i = 0; i < l->n_scales; i++) {
            multiply_half(block + l->scales[i], p->factor);
        }
    }
}

/* A copy of the file with one tensor damaged; false if the tensor's type has no layout here. */
static bool damage(const char *from, const char *to, const char *tensor, const plan *p, fault_rng *r)
{
    quern_error err = {0};
    qn_gguf *g;
    size_t size;
    const layout *l = NULL;
    uint8_t *original = read_file(from, &size), *bytes = read_file(from, &size);
    assert_ok(qn_gguf_parse(&g, original, size, from, &err));
    const qn_tensor *t = qn_gguf_find_tensor(g, tensor);
    assert_non_null(t);
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        l = layouts[i].dtype == t->dtype ? &layouts[i] : l;
    }
    if (l != NULL) {
        size_t block = qn_dtype_get(t->dtype)->block_bytes, n = t->n_bytes / block, wanted = (size_t)((double)n * p->share);
        for (size_t b = 0, left = wanted; b < n && left > 0; b++) { /* a draw without repetition */
            if (fault_below(r, n - b) < left) {
                damage_block(r, l, p, bytes + t->file_offset + b * block);
                left--;
            }
        }
        write_file(to, bytes, size);
    }
    qn_gguf_close(g);
    free(bytes);
    free(original);
    return l != NULL;
}

/* What a file was calibrated on; NULL data: nothing. */
typedef struct text {
    char *data;
    size_t len;
} text;

static quern_verify_options verify_options(const char **files, size_t n, const char *source, const text *t)
{
    return (quern_verify_options){.files = files,
                                  .n_files = n,
                                  .source = source,
                                  .policy = QUERN_GATE_OFF,
                                  .calibrate = t->data != NULL ? QUERN_CALIBRATE_TEXT : QUERN_CALIBRATE_NONE,
                                  .calibration_text = t->data,
                                  .calibration_len = t->len,
                                  .n_threads = 2};
}

/* The first n_plans on one file; the verdict of integrity alone. */
static void judge_plans(const char *path, const char *source, const text *calibration, const char *tensor, size_t n_plans, size_t *n_made,
                        size_t *n_found)
{
    static char paths[N_PLANS][1100];
    const char *files[N_PLANS], *stories[N_PLANS];
    quern_error err = {0};
    fault_rng r = {17};
    size_t n = 0;
    char *dir = new_dir(), name[32];
    for (size_t i = 0; i < n_plans; i += QN_TEST_SANITIZED ? 4 : 1) {
        (void)snprintf(name, sizeof name, "%zu.gguf", n);
        (void)snprintf(paths[n], sizeof paths[0], "%s", scratch_path(dir, name));
        if (damage(path, paths[n], tensor, &plans[i], &r)) {
            stories[n] = plans[i].story;
            files[n] = paths[n];
            n++;
        }
    }
    quern_verify_options opt = verify_options(files, n, source, calibration);
    quern_verify_result v;
    qn_json *doc;
    assert_true(n > 0);
    assert_ok(quern_verify(&opt, &v, &err));
    assert_ok(qn_json_parse(&doc, v.json, v.len, QN_JSON_REJECT_DUPLICATES, "report", &err));
    for (size_t i = 0; i < n; i++) {
        const qn_json *gate = qn_json_get(qn_json_at(qn_json_get(doc, "outputs"), i), "gate");
        bool found = strcmp(qn_json_string(qn_json_get(gate, "verdict"), NULL), "fail") == 0;
        const char *reason = qn_json_string(qn_json_at(qn_json_get(gate, "reasons"), 0), NULL);
        *n_found += found;
        if (!found || strstr(reason, tensor) == NULL) {
            print_message("%s: %s of %s: %s\n", found ? "found elsewhere" : "NOT FOUND", stories[i], qn_path_base(path),
                          found ? reason : "");
        }
    }
    *n_made += n;
    qn_json_free(doc);
    quern_free(v.json);
    drop_dir(dir);
}

static void assert_sound(const char *path, const char *source, const text *calibration)
{
    const char *files[] = {path};
    quern_error err = {0};
    quern_verify_options opt = verify_options(files, 1, source, calibration);
    quern_verify_result v;
    assert_ok(quern_verify(&opt, &v, &err));
    if (v.n_failed + v.n_unreadable > 0) {
        fail_msg("%s is called unsound: %.600s", path, v.json);
    }
    quern_free(v.json);
}

static void many_places_are_found(void **state)
{
    static const char *const types[] = {"Q4_K_M", "Q2_K", "Q4_0", "IQ4_NL", "Q4_1", "Q8_0", "IQ4_XS", "Q6_K"};
    enum { N_TYPES = QN_TEST_SANITIZED ? 1 : sizeof types / sizeof types[0] };
    char *dir = new_dir(), formats[256] = "";
    size_t n_made = 0, n_found = 0;
    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        size_t len = strlen(formats);
        (void)snprintf(formats + len, sizeof formats - len, "%sgguf:%s", i > 0 ? "," : "", types[i]);
    }
    run r = quantize(whole_model_dir(), dir, formats);
    for (size_t i = 0; i < N_TYPES; i++) {
        const char *path = qn_json_string(qn_json_get(qn_json_at(qn_json_get(r.manifest, "outputs"), i), "path"), NULL);
        char own[1100];
        (void)snprintf(own, sizeof own, "%s", scratch_path(dir, path));
        judge_plans(own, whole_model_dir(), &(text){0}, "blk.1.ffn_up.weight", N_PLANS, &n_made, &n_found);
    }
    print_message("%zu of %zu found\n", n_found, n_made);
    assert_int_equal(n_found, n_made);
    qn_json_free(r.manifest);
    drop_dir(dir);
}

/* Calibrated files, also those whose errors were fed back only where memory sufficed. */
static void calibrated_files_too(void **state)
{
    enum { LEN = 6000 };
    char *dir = new_dir(), path[1100], tight_path[1100];
    size_t n_made = 0, n_found = 0;
    text t;
    (void)state;
    t.data = (char *)read_file(qn_test_shared("models/texts/gate.txt"), &t.len);
    assert_true(t.len > LEN);
    t.len = LEN;
    assert_non_null(qn_test_golden("hf/qwen3/config.json"));
    run r = {.opt = {.source = model_dir("qwen3"),
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q4_0,gguf:IQ4_NL",
                     .n_threads = 2,
                     .calibrate = QUERN_CALIBRATE_TEXT,
                     .calibration_text = t.data,
                     .calibration_len = t.len}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    for (size_t i = 0; i < (QN_TEST_SANITIZED ? 1 : 2); i++) {
        (void)snprintf(path, sizeof path, "%s", scratch_path(dir, i == 0 ? "gguf/tiny-Q4_0.gguf" : "gguf/tiny-IQ4_NL.gguf"));
        assert_sound(path, model_dir("qwen3"), &t);
        judge_plans(path, model_dir("qwen3"), &t, "blk.0.ffn_up.weight", N_PLANS, &n_made, &n_found);
    }
    assert_int_equal(n_found, n_made);
    qn_json_free(r.manifest);
    char *tight = new_dir();
    uint64_t too_little = 64 << 20, enough = 256 << 20;
    r.opt.output_dir = tight;
    r.opt.formats = "gguf:Q4_0";
    while (enough - too_little >
           (QN_TEST_SANITIZED ? 16 << 20 : 4096)) { /* the smallest bound that will do, and a little more: none or few second moments fit */
        r.opt.memory_bytes = (enough + too_little) / 2;
        run_quantize(&r, 0);
        *(r.status == QUERN_OK ? &enough : &too_little) = r.opt.memory_bytes;
        qn_json_free(r.manifest);
    }
    for (uint64_t more = 0; more <= 1 << 20; more += 1 << 19) {
        r.opt.memory_bytes = enough + more;
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_OK);
        print_message("%llu bytes more: %s\n", (unsigned long long)more,
                      qn_json_bool(qn_json_get(qn_json_get(r.manifest, "calibration"), "error_feedback"), false) ? "fed back"
                                                                                                                 : "not fed back");
        (void)snprintf(tight_path, sizeof tight_path, "%s", scratch_path(tight, "gguf/tiny-Q4_0.gguf"));
        assert_sound(tight_path, model_dir("qwen3"), &t);
        qn_json_free(r.manifest);
    }
    drop_dir(tight);
    drop_dir(dir);
    free(t.data);
}

/* llama.cpp's search is known to the bit, and these files show that it was done in the arithmetic known here. */
static void foreign_files_too(void **state)
{
    static const char *const files[] = {"gguf/quant/qwen3.Q4_K_M.gguf", "gguf/quant/qwen3.Q2_K.gguf"};
    size_t n_made = 0, n_found = 0;
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = qn_test_golden(files[i]);
        assert_non_null(path);
        judge_plans(path, model_dir("qwen3"), &(text){0}, "blk.1.ffn_up.weight", N_PLANS, &n_made, &n_found);
    }
    print_message("%zu of %zu found\n", n_found, n_made);
    assert_int_equal(n_found, n_made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(many_places_are_found), cmocka_unit_test(calibrated_files_too),
                                       cmocka_unit_test(foreign_files_too)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
