/* test_goldens.c - every family against the logits of the reference implementations: Hugging Face folders, GGUF files of every type,
 * MLX folders; and GGUF against safetensors of the same checkpoint. */
#include "golden_run.h"

/* Families whose q and k rows GGUF stores in another order give the same logits only up to rounding. */
typedef struct family {
    const char *name;
    const char *gguf; /* converter's file of the same checkpoint, NULL where none is kept */
    bool permuted;
} family;

static const family families[] = {
    {"qwen2_tied", "gguf/base/qwen2_tied.f32.gguf", false},
    {"qwen2_untied_sharded", NULL, false},
    {"qwen3", "gguf/base/qwen3.bf16.gguf", false},
    {"qwen3_yarn", "gguf/base/qwen3_yarn.f16.gguf", false},
    {"llama3_rope", "gguf/base/llama3_rope.f16.gguf", true},
    {"codellama_mha", NULL, true},
    {"mistral_headdim", NULL, true},
    {"smollm3", "gguf/base/smollm3.bf16.gguf", true},
    {"qwen3_moe", "gguf/base/qwen3_moe.bf16.gguf", false},
    {"qwen3_moe_k256", NULL, false},
    {"qwen3_moe_nonorm_sparse", NULL, false},
    {"mixtral", "gguf/base/mixtral.bf16.gguf", true},
    {"mixtral_swa", NULL, true},
    {"qwen3_fp8", NULL, false},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

static const quern_engine_options f32_kv = {.n_threads = 2, .n_ctx = 256, .kv_type = QUERN_KV_F32};

static void check_greedy(quern_engine *e, size_t n_vocab, const qn_json *sequence)
{
    size_t n, n_greedy;
    quern_error err;
    quern_sequence *s;
    int32_t *ids = golden_ids(qn_json_get(sequence, "ids"), &n);
    const qn_json *greedy = qn_json_get(sequence, "greedy");
    int32_t *want = golden_ids(qn_json_get(greedy, "ids"), &n_greedy);
    float *logits = qn_malloc_array(n_vocab, sizeof *logits);
    assert_ok(quern_sequence_create(&s, e, &err));
    quern_step_item item = {.sequence = s, .ids = ids, .n_ids = n, .n_logits = 1, .logits = logits};
    for (size_t i = 0; i < n_greedy; i++) {
        assert_ok(quern_engine_step(e, &item, 1, &err));
        double gap = 0;
        (void)qn_json_number(qn_json_at(qn_json_get(greedy, "top2_gap"), i), &gap);
        if (gap > 1e-2) {
            assert_int_equal(golden_argmax(logits, n_vocab), want[i]);
        }
        item.ids = want + i;
        item.n_ids = 1;
    }
    quern_sequence_destroy(s);
    qn_free(logits);
    qn_free(ids);
    qn_free(want);
}

static void check_hf(const char *name)
{
    char path[256];
    quern_error err;
    qn_safetensors *reference;
    (void)snprintf(path, sizeof path, "hf/%s", name);
    const char *probe = qn_test_golden(path);
    if (probe == NULL) {
        print_message("SKIP: hf/%s: kept beside the repository only, and not here\n", name);
        return;
    }
    quern_model *m = golden_open(probe);
    quern_engine *e = golden_engine(m, &f32_kv);
    size_t n_vocab = quern_model_get_info(m)->n_vocab;
    (void)snprintf(path, sizeof path, "hf/%s/golden.safetensors", name);
    assert_ok(qn_safetensors_open(&reference, qn_test_golden(path), false, &err));
    (void)snprintf(path, sizeof path, "hf/%s/golden.json", name);
    qn_json *json = golden_json(qn_test_golden(path));
    const qn_json *sequences = qn_json_get(json, "sequences");
    assert_true(qn_json_length(sequences) >= 3);
    for (size_t i = 0; i < qn_json_length(sequences); i++) {
        size_t n, rows;
        int32_t *ids = golden_ids(qn_json_get(qn_json_at(sequences, i), "ids"), &n);
        float *ours = golden_logits(e, ids, n, n_vocab, 512);
        const float *theirs = golden_tensor(reference, "logits.", i, &rows);
        assert_int_equal(rows, n);
        golden_difference d = golden_compare(ours, theirs, n * n_vocab);
        print_message("%s sequence %zu: max %.2e, %.2e of std\n", name, i, d.max, d.max / d.std);
        assert_true(d.max <= 1e-3 * d.std);
        qn_free(ours);
        qn_free(ids);
        check_greedy(e, n_vocab, qn_json_at(sequences, i));
    }
    qn_json_free(json);
    qn_safetensors_close(reference);
    quern_engine_destroy(e);
    quern_model_close(m);
}

static void hugging_face_folders(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        check_hf(families[i].name);
    }
}

/* The same checkpoint as GGUF: the same bits, or 1e-5 x std where rows are permuted. F16 files round the weights, so those go against
 * the reference logits of the file itself (below) and are only required to be close here. */
static void gguf_equals_safetensors(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        char path[256];
        const char *gguf_path = families[i].gguf != NULL ? qn_test_golden(families[i].gguf) : NULL;
        (void)snprintf(path, sizeof path, "hf/%s", families[i].name);
        if (gguf_path == NULL || qn_test_golden(path) == NULL || strstr(gguf_path, ".f16.") != NULL) {
            continue;
        }
        quern_model *a = golden_open(qn_test_golden(path)), *b = golden_open(gguf_path);
        quern_engine *ea = golden_engine(a, &f32_kv), *eb = golden_engine(b, &f32_kv);
        size_t n_vocab = quern_model_get_info(a)->n_vocab, n = 70;
        assert_int_equal(n_vocab, quern_model_get_info(b)->n_vocab);
        int32_t ids[70];
        for (size_t k = 0; k < n; k++) {
            ids[k] = (int32_t)((k * 97 + 13) % n_vocab);
        }
        float *la = golden_logits(ea, ids, n, n_vocab, 512), *lb = golden_logits(eb, ids, n, n_vocab, 512);
        if (families[i].permuted) {
            golden_difference d = golden_compare(lb, la, n * n_vocab);
            assert_true(d.max <= 1e-5 * d.std);
        } else {
            assert_memory_equal(la, lb, n * n_vocab * sizeof *la);
        }
        qn_free(la);
        qn_free(lb);
        quern_engine_destroy(ea);
        quern_engine_destroy(eb);
        quern_model_close(a);
        quern_model_close(b);
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One GGUF file: exact weights with float activations within 1e-3; as run, no noisier than 1.5 x llama.cpp's own activation noise.
 * With experts, activation noise can flip a route, which changes a position wholly, in either engine at different places: there
 * the typical (median) position is held against the bound. */
static size_t check_gguf(const char *name, const char *folder)
{
    char path[256];
    quern_error err;
    qn_safetensors *reference;
    (void)snprintf(path, sizeof path, "gguf/golden/%s.json", name);
    const char *json_path = qn_test_golden(path);
    (void)snprintf(path, sizeof path, "gguf/%s/%s.gguf", folder, name);
    const char *model_path = qn_test_golden(path);
    if (json_path == NULL || model_path == NULL) {
        return 0;
    }
    quern_model *m = golden_open(model_path);
    quern_engine_options exact = f32_kv;
    exact.arithmetic = QUERN_ARITHMETIC_F32_ACTIVATIONS;
    quern_engine *e = golden_engine(m, &exact), *as_run = golden_engine(m, &f32_kv);
    size_t n_vocab = quern_model_get_info(m)->n_vocab;
    qn_json *json = golden_json(json_path);
    (void)snprintf(path, sizeof path, "gguf/golden/%s.safetensors", name);
    assert_ok(qn_safetensors_open(&reference, qn_test_golden(path), false, &err));
    const qn_json *sequences = qn_json_get(json, "sequences");
    double worst = 0, noise = 0, noise_theirs = 0, by_position[128];
    size_t n_positions = 0;
    bool experts = strstr(name, "moe") != NULL || strstr(name, "mixtral") != NULL;
    for (size_t i = 0; i < qn_json_length(sequences); i++) {
        const qn_json *sequence = qn_json_at(sequences, i);
        size_t n, n_kept, rows;
        int32_t *ids = golden_ids(qn_json_get(sequence, "ids"), &n), *kept = golden_ids(qn_json_get(sequence, "positions"), &n_kept);
        const float *theirs = golden_tensor(reference, "logits_f32w.", i, &rows);
        assert_int_equal(rows, n_kept);
        float *ours = golden_logits(e, ids, n, n_vocab, 512), *run = golden_logits(as_run, ids, n, n_vocab, 512);
        double square = 0, theirs_rms = 0;
        for (size_t k = 0; k < n_kept; k++) {
            golden_difference d = golden_compare(ours + (size_t)kept[k] * n_vocab, theirs + k * n_vocab, n_vocab);
            golden_difference r = golden_compare(run + (size_t)kept[k] * n_vocab, theirs + k * n_vocab, n_vocab);
            worst = d.max > worst || !(d.max == d.max) ? d.max : worst;
            square += r.rms * r.rms;
            assert_true(n_positions < sizeof by_position / sizeof by_position[0]);
            by_position[n_positions++] = r.rms;
        }
        assert_true(qn_json_number(qn_json_get(sequence, "rms_llamacpp_vs_f32w"), &theirs_rms));
        noise += square / (double)n_kept;
        noise_theirs += theirs_rms * theirs_rms;
        qn_free(ours);
        qn_free(run);
        qn_free(ids);
        qn_free(kept);
    }
    qsort(by_position, n_positions, sizeof by_position[0], compare_doubles);
    double typical = by_position[n_positions / 2];
    print_message("%s: max %.2e; as run rms %.4f (median position %.4f), llama.cpp's %.4f\n", name, worst, sqrt(noise), typical,
                  sqrt(noise_theirs));
    assert_true(worst <= 1e-3);
    assert_true((experts ? typical : sqrt(noise)) <= 1.5 * sqrt(noise_theirs) + 1e-3);
    qn_json_free(json);
    qn_safetensors_close(reference);
    quern_engine_destroy(e);
    quern_engine_destroy(as_run);
    quern_model_close(m);
    return 1;
}

static void gguf_files(void **state)
{
    (void)state;
    static const char *const types[] = {"Q8_0",   "Q4_0",           "Q4_1",   "Q5_0",   "Q5_1",       "Q2_K", "Q3_K_S",
                                        "Q3_K_M", "Q4_K_S",         "Q4_K_M", "Q5_K_S", "Q5_K_M",     "Q6_K", "IQ4_NL",
                                        "IQ4_XS", "Q4_K_M.imatrix", "TQ1_0",  "TQ2_0",  "MXFP4_dense"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "qwen3.%s", types[i]);
        n += check_gguf(name, "quant");
    }
    n += check_gguf("llama3_rope.Q4_K_M", "quant");
    n += check_gguf("qwen3_moe.Q4_K_M", "quant");
    n += check_gguf("qwen3_moe.Q4_0", "quant");
    n += check_gguf("qwen3_moe_k256.Q4_K_M", "quant");
    n += check_gguf("qwen3_moe_k256.Q2_K", "quant");
    n += check_gguf("qwen3_moe_k256.IQ4_XS", "quant");
    n += check_gguf("qwen3_moe_k256.MXFP4_MOE", "quant");
    n += check_gguf("mixtral.Q5_0", "quant");
    n += check_gguf("smollm3.Q4_0", "quant");
    n += check_gguf("smollm3.bf16", "base");
    n += check_gguf("qwen3_moe.bf16", "base");
    n += check_gguf("mixtral.bf16", "base");
    n += check_gguf("qwen2_tied.f32", "base");
    n += check_gguf("qwen3.bf16", "base");
    n += check_gguf("qwen3_yarn.f16", "base");
    n += check_gguf("llama3_rope.f16", "base");
    assert_true(n >= (qn_test_shared("goldens") != NULL ? 30u : 8u)); /* the repository has a part of them */
}

static size_t check_mlx(const char *name)
{
    char path[256];
    quern_error err;
    qn_safetensors *reference;
    (void)snprintf(path, sizeof path, "mlx/%s", name);
    const char *model_path = qn_test_golden(path);
    if (model_path == NULL) {
        return 0;
    }
    quern_model *m = golden_open(model_path);
    quern_engine_options exact = f32_kv;
    exact.arithmetic = QUERN_ARITHMETIC_F32_ACTIVATIONS;
    quern_engine *e = golden_engine(m, &exact);
    size_t n_vocab = quern_model_get_info(m)->n_vocab;
    (void)snprintf(path, sizeof path, "mlx/%s/golden.json", name);
    qn_json *json = golden_json(qn_test_golden(path));
    (void)snprintf(path, sizeof path, "mlx/%s/golden.safetensors", name);
    assert_ok(qn_safetensors_open(&reference, qn_test_golden(path), false, &err));
    double worst = 0;
    for (size_t i = 0; i < qn_json_length(qn_json_get(json, "sequences")); i++) {
        size_t n, rows;
        char key[32];
        int32_t *ids = golden_ids(qn_json_at(qn_json_get(json, "sequences"), i), &n);
        const float *theirs = golden_tensor(reference, "logits.", i, &rows);
        (void)snprintf(key, sizeof key, "positions.%zu", i);
        const qn_tensor *positions = qn_safetensors_find(reference, key);
        assert_non_null(positions);
        assert_int_equal(positions->n_elements, rows);
        float *ours = golden_logits(e, ids, n, n_vocab, 512);
        for (size_t k = 0; k < rows; k++) {
            int32_t at;
            memcpy(&at, positions->data + k * (positions->n_bytes / rows), sizeof at);
            golden_difference d = golden_compare(ours + (size_t)at * n_vocab, theirs + k * n_vocab, n_vocab);
            worst = d.max > worst || !(d.max == d.max) ? d.max : worst;
        }
        qn_free(ours);
        qn_free(ids);
    }
    print_message("mlx %s: max %.2e\n", name, worst);
    assert_true(worst <= 1e-3);
    qn_json_free(json);
    qn_safetensors_close(reference);
    quern_engine_destroy(e);
    quern_model_close(m);
    return 1;
}

static void mlx_folders(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen3.q4_g64",          "qwen3.q4_g32",     "qwen3.q3_g64",       "qwen3.q6_g64",
                                        "qwen3.q8_g64",          "qwen3.mixed_4_6",  "llama3_rope.q4_g32", "llama3_rope.q4_g64",
                                        "llama3_rope.mixed_3_4", "qwen3_moe.q4_g64", "qwen3.mxfp4"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        n += check_mlx(names[i]);
    }
    assert_true(n >= 3);
}

/* What 8-bit keys and values change in the logits, against float32 ones, with float32 activations: heads of 32, 64 and 128, dense and with
 * experts. Figures of these little models with random weights; docs/formats.md has a trained one. */
static void q8_0_caches_are_close_to_float32(void **state)
{
    (void)state;
    static const char *const names[] = {"hf/qwen2_tied", "hf/qwen3", "hf/mistral_headdim", "hf/qwen3_moe",
                                        "gguf/base/llama3_rope.f16.gguf"};
    size_t n_done = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *path = qn_test_golden(names[i]);
        if (path == NULL) {
            print_message("SKIP: %s: kept beside the repository only, and not here\n", names[i]);
            continue;
        }
        quern_model *m = golden_open(path);
        quern_engine_options coded = f32_kv;
        coded.kv_type = QUERN_KV_Q8_0;
        quern_engine *a = golden_engine(m, &f32_kv), *b = golden_engine(m, &coded);
        size_t n_vocab = quern_model_get_info(m)->n_vocab, n = 200;
        int32_t ids[200];
        for (size_t k = 0; k < n; k++) {
            ids[k] = (int32_t)((k * 97 + 13) % n_vocab);
        }
        float *want = golden_logits(a, ids, n, n_vocab, 512), *have = golden_logits(b, ids, n, n_vocab, 512);
        golden_difference d = golden_compare(have, want, n * n_vocab);
        double by_position[200];
        for (size_t k = 0; k < n; k++) {
            by_position[k] = golden_compare(have + k * n_vocab, want + k * n_vocab, n_vocab).rms;
        }
        qsort(by_position, n, sizeof by_position[0], compare_doubles);
        print_message("%s: rms %.2e of std (median position %.2e), max %.2e\n", names[i], d.rms / d.std, by_position[n / 2] / d.std,
                      d.max / d.std);
        assert_true(by_position[n / 2] > 0.0 && by_position[n / 2] <= 2e-2 * d.std);
        assert_true(strstr(names[i], "moe") != NULL || (d.rms <= 3e-2 * d.std && d.max <= 3e-1 * d.std)); /* experts: a route may flip */
        qn_free(want);
        qn_free(have);
        quern_engine_destroy(a);
        quern_engine_destroy(b);
        quern_model_close(m);
        n_done++;
    }
    assert_true(n_done >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hugging_face_folders), cmocka_unit_test(gguf_equals_safetensors),          cmocka_unit_test(gguf_files),
        cmocka_unit_test(mlx_folders),          cmocka_unit_test(q8_0_caches_are_close_to_float32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
