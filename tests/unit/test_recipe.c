/* test_recipe.c - mixtures against the tensor types of files that llama-quantize and mlx-lm wrote, and the parsing of `--formats`. */
#include "qn_test.h"
#include "tensor_file.h"

#include "quantize/recipe.h"

enum { TEXT_BYTES_MAX = 16 << 20 };

static char *read_golden(const char *name, size_t *len)
{
    quern_error err = {0};
    char *text;
    const char *path = qn_test_golden(name);
    if (path == NULL) {
        return NULL;
    }
    assert_ok(qn_file_read(&text, len, path, TEXT_BYTES_MAX, &err));
    return text;
}

static bool read_config(const char *model, qn_model_config *config, qn_arena *arena)
{
    quern_error err = {0};
    char name[128];
    size_t len;
    (void)snprintf(name, sizeof name, "hf/%s/config.json", model);
    char *text = read_golden(name, &len);
    if (text == NULL) {
        return false;
    }
    assert_ok(qn_config_read_hf(config, arena, text, len, name, NULL, 0, &err));
    qn_free(text);
    return true;
}

/* Finds a tensor of the index by name: [name, [columns, rows, ...], type, offset]. */
static const qn_json *find_tensor(const qn_json *tensors, const char *name)
{
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        const qn_json *t = qn_json_at(tensors, i);
        if (strcmp(qn_json_string(qn_json_at(t, 0), NULL), name) == 0) {
            return t;
        }
    }
    return NULL;
}

/* Compares all tensors of one file; returns how many were found. */
static size_t compare_file(const char *file, const qn_json *tensors, const qn_gguf_recipe *recipe, const qn_model_config *config)
{
    qn_recipe_model m = qn_recipe_model_of(config);
    size_t n_found = 0;
    for (int part = 0; part < QN_PART_COUNT; part++) {
        for (uint32_t layer = 0; layer < config->n_layers; layer++) {
            for (int bias = 0; bias < 2; bias++) {
                char name[96];
                qn_part_gguf_name((qn_part)part, layer, bias != 0, name, sizeof name);
                const qn_json *t = find_tensor(tensors, name);
                if (t == NULL || (layer > 0 && strncmp(name, "blk.", 4) != 0)) {
                    continue;
                }
                int64_t n_cols;
                const qn_json *shape = qn_json_at(t, 1);
                assert_true(qn_json_int(qn_json_at(shape, 0), &n_cols));
                qn_recipe_tensor what = {.part = (qn_part)part,
                                         .layer = layer,
                                         .bias = bias != 0,
                                         .n_dims = (uint32_t)qn_json_length(shape),
                                         .n_cols = (uint64_t)n_cols};
                const char *type = qn_dtype_get(qn_recipe_gguf(recipe, &m, &what))->name;
                if (strcmp(type, qn_json_string(qn_json_at(t, 2), NULL)) != 0) {
                    fail_msg("%s: %s is %s, the recipe says %s", file, name, qn_json_string(qn_json_at(t, 2), NULL), type);
                }
                n_found++;
            }
        }
    }
    return n_found;
}

static void types_equal_llama_quantize(void **state)
{
    (void)state;
    quern_error err = {0};
    size_t len;
    size_t n_files = 0;
    qn_json *index;
    char *text = read_golden("gguf/index.json", &len);
    if (text == NULL) {
        print_message("SKIP: gguf/index.json: reference file is absent\n");
        skip();
    }
    assert_ok(qn_json_parse(&index, text, len, 0, "index.json", &err));
    qn_free(text);
    for (qn_json_iterator *it = qn_json_iter(index); it != NULL; it = qn_json_next(index, it)) {
        const char *file = qn_json_iter_key(it, NULL);
        const qn_json *tensors = qn_json_get(qn_json_iter_value(it), "tensors");
        char model[64];
        char formats[80];
        qn_target targets[QN_TARGETS_MAX];
        size_t n;
        size_t dot = strcspn(file, ".");
        size_t type_len = strcspn(file + dot + 1, ".");
        (void)snprintf(model, sizeof model, "%.*s", (int)dot, file);
        (void)snprintf(formats, sizeof formats, "gguf:%.*s", (int)type_len, file + dot + 1);
        if (strcmp(model, "gpt_oss") == 0 || qn_targets_parse(formats, targets, &n, NULL) != QUERN_OK) {
            continue; /* gpt_oss comes from packed experts; MXFP4_dense and imatrix files are no recipe */
        }
        qn_arena arena;
        qn_model_config config;
        qn_arena_init(&arena, 0);
        if (!read_config(model, &config, &arena)) {
            assert_null(qn_test_shared("goldens")); /* the repository has a part of the checkpoints, the larger set all */
            qn_arena_deinit(&arena);
            continue;
        }
        size_t expected = 0;
        for (size_t i = 0; i < qn_json_length(tensors); i++) {
            expected += strcmp(qn_json_string(qn_json_at(qn_json_at(tensors, i), 0), NULL), "rope_freqs.weight") != 0;
        }
        assert_int_equal(compare_file(file, tensors, targets[0].gguf, &config), expected);
        int64_t file_type;
        if (qn_json_int(qn_json_get(qn_json_get(qn_json_iter_value(it), "kv"), "general.file_type"), &file_type)) {
            assert_int_equal(targets[0].gguf->file_type, file_type);
        }
        n_files++;
        qn_arena_deinit(&arena);
    }
    qn_json_free(index);
    assert_true(n_files >= (qn_test_shared("goldens") != NULL ? 30u : 20u));
}

/* Rules that no reference file is large enough to show. */
static void types_of_large_models(void **state)
{
    (void)state;
    qn_target t[QN_TARGETS_MAX];
    size_t n;
    assert_int_equal(qn_targets_parse("gguf:Q4_K_M,gguf:Q2_K,gguf:IQ4_XS,gguf:Q3_K_M,gguf:Q4_K_S,gguf:Q3_K_L,gguf:TQ2_0", t, &n, NULL),
                     QUERN_OK);
    assert_int_equal(n, 7);
    qn_recipe_model qwen8b = {.family = QN_FAMILY_QWEN3, .n_layers = 36, .n_heads = 32, .n_kv_heads = 8};
    qn_recipe_model llama70b = {.family = QN_FAMILY_LLAMA, .n_layers = 80, .n_heads = 64, .n_kv_heads = 8};
    qn_recipe_model mixtral = {.family = QN_FAMILY_MIXTRAL, .n_layers = 32, .n_heads = 32, .n_kv_heads = 8, .n_experts = 8};
    qn_recipe_tensor v = {.part = QN_PART_ATTN_V, .n_dims = 2, .n_cols = 4096};
    qn_recipe_tensor down = {.part = QN_PART_FFN_DOWN, .n_dims = 2, .n_cols = 12288};
    size_t n_high = 0;
    for (uint32_t layer = 0; layer < 36; layer++) { /* 36 layers: 0..3, 31..35, and every third from 6 on */
        down.layer = v.layer = layer;
        bool high = layer < 4 || layer >= 31 || (layer - 4) % 3 == 2;
        assert_int_equal(qn_recipe_gguf(t[0].gguf, &qwen8b, &v), high ? QN_DTYPE_Q6_K : QN_DTYPE_Q4_K);
        assert_int_equal(qn_recipe_gguf(t[0].gguf, &qwen8b, &down), high ? QN_DTYPE_Q6_K : QN_DTYPE_Q4_K);
        assert_int_equal(qn_recipe_gguf(t[3].gguf, &qwen8b, &down), layer < 2 ? QN_DTYPE_Q5_K : QN_DTYPE_Q4_K);
        assert_int_equal(qn_recipe_gguf(t[4].gguf, &qwen8b, &down), layer < 4 ? QN_DTYPE_Q5_K : QN_DTYPE_Q4_K);
        n_high += high;
    }
    assert_int_equal(n_high, 18);
    v.layer = 10;
    assert_int_equal(qn_recipe_gguf(t[1].gguf, &qwen8b, &v), QN_DTYPE_Q4_K); /* four query heads share a value head */
    assert_int_equal(qn_recipe_gguf(t[2].gguf, &qwen8b, &v), QN_DTYPE_Q5_K);
    v.layer = 11;
    assert_int_equal(qn_recipe_gguf(t[0].gguf, &llama70b, &v), QN_DTYPE_Q5_K); /* 80 layers, grouped: one up */
    assert_int_equal(qn_recipe_gguf(t[5].gguf, &llama70b, &v), QN_DTYPE_Q5_K);
    assert_int_equal(qn_recipe_gguf(t[0].gguf, &mixtral, &v), QN_DTYPE_Q8_0); /* eight experts */
    qn_recipe_tensor k = {.part = QN_PART_ATTN_K, .n_dims = 2, .n_cols = 4096};
    qn_recipe_tensor o = {.part = QN_PART_ATTN_OUTPUT, .n_dims = 2, .n_cols = 4096};
    assert_int_equal(qn_recipe_gguf(t[0].gguf, &mixtral, &k), QN_DTYPE_Q8_0);
    assert_int_equal(qn_recipe_gguf(t[0].gguf, &mixtral, &o), QN_DTYPE_Q5_K);
    assert_int_equal(qn_recipe_gguf(t[5].gguf, &mixtral, &o), QN_DTYPE_Q3_K);
    qn_recipe_tensor embedding = {.part = QN_PART_TOKEN_EMBD, .n_dims = 2, .n_cols = 4096};
    assert_int_equal(qn_recipe_gguf(t[6].gguf, &qwen8b, &embedding), QN_DTYPE_Q4_K);
    qwen8b.tied = true;
    assert_int_equal(qn_recipe_gguf(t[6].gguf, &qwen8b, &embedding), QN_DTYPE_Q6_K);
    embedding.n_cols = 100; /* neither 256 nor 32 divide it */
    qwen8b.tied = false;
    assert_int_equal(qn_recipe_gguf(t[0].gguf, &qwen8b, &embedding), QN_DTYPE_F16);
}

/* mlx-lm's config.json names every module whose width differs from the default. */
static void mlx_widths_equal_mlx_lm(void **state)
{
    (void)state;
    static const struct {
        const char *folder, *model, *formats;
    } cases[] = {
        {"qwen3.mixed_4_6", "qwen3", "mlx:mixed_4_6"},
        {"qwen3_moe.q4_g64", "qwen3_moe", "mlx:4bit"},
        {"qwen3.q3_g64", "qwen3", "mlx:3bit"},
        {"llama3_rope.q4_g32", "llama3_rope", "mlx:4bit-g32"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        quern_error err = {0};
        char name[128];
        size_t len;
        size_t n;
        qn_target t[QN_TARGETS_MAX];
        qn_arena arena;
        qn_model_config source;
        qn_model_config packed;
        qn_arena_init(&arena, 0);
        assert_ok(qn_targets_parse(cases[c].formats, t, &n, &err));
        (void)snprintf(name, sizeof name, "mlx/%s/config.json", cases[c].folder);
        char *text = read_golden(name, &len);
        if (text == NULL || !read_config(cases[c].model, &source, &arena)) {
            print_message("SKIP: %s: reference file is absent\n", name);
            skip();
        }
        assert_ok(qn_config_read_hf(&packed, &arena, text, len, name, NULL, 0, &err));
        qn_free(text);
        qn_recipe_model m = qn_recipe_model_of(&source);
        static const qn_part parts[] = {QN_PART_TOKEN_EMBD, QN_PART_OUTPUT, QN_PART_ATTN_Q, QN_PART_ATTN_V,
                                        QN_PART_FFN_DOWN,   QN_PART_FFN_UP, QN_PART_ROUTER, QN_PART_DOWN_EXPS};
        for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
            bool experts = parts[p] == QN_PART_ROUTER || parts[p] == QN_PART_DOWN_EXPS;
            bool dense = parts[p] == QN_PART_FFN_DOWN || parts[p] == QN_PART_FFN_UP;
            if ((experts && source.n_experts == 0) || (dense && source.n_experts != 0) ||
                (parts[p] == QN_PART_OUTPUT && source.tied_embeddings)) {
                continue;
            }
            for (uint32_t layer = 0; layer < source.n_layers; layer++) {
                char module[128];
                qn_recipe_tensor what = {.part = parts[p], .layer = layer, .n_dims = parts[p] == QN_PART_DOWN_EXPS ? 3 : 2, .n_cols = 128};
                qn_part_mlx_module(source.family, parts[p], layer, module, sizeof module);
                qn_affine ours = qn_recipe_mlx(t[0].mlx, t[0].group, &m, &what);
                qn_affine theirs = qn_config_affine_for(&packed, module);
                if (ours.bits != theirs.bits || ours.group != theirs.group) {
                    fail_msg("%s: %s: %u bits, group %u; mlx-lm %u, %u", cases[c].folder, module, ours.bits, ours.group, theirs.bits,
                             theirs.group);
                }
            }
        }
        qn_arena_deinit(&arena);
    }
}

static void names_of_places(void **state)
{
    (void)state;
    char name[160];
    qn_part_hf_name(QN_FAMILY_MIXTRAL, QN_PART_DOWN_EXPS, 3, 7, false, name, sizeof name);
    assert_string_equal(name, "model.layers.3.block_sparse_moe.experts.7.w2.weight");
    qn_part_hf_name(QN_FAMILY_QWEN3_MOE, QN_PART_UP_EXPS, 12, 127, false, name, sizeof name);
    assert_string_equal(name, "model.layers.12.mlp.experts.127.up_proj.weight");
    qn_part_hf_name(QN_FAMILY_QWEN2, QN_PART_ATTN_K, 0, 0, true, name, sizeof name);
    assert_string_equal(name, "model.layers.0.self_attn.k_proj.bias");
    qn_part_mlx_module(QN_FAMILY_MIXTRAL, QN_PART_GATE_EXPS, 1, name, sizeof name);
    assert_string_equal(name, "model.layers.1.block_sparse_moe.switch_mlp.gate_proj");
    qn_part_mlx_module(QN_FAMILY_QWEN3, QN_PART_OUTPUT, 1, name, sizeof name);
    assert_string_equal(name, "lm_head");
    qn_part_gguf_name(QN_PART_ROUTER, 9, false, name, sizeof name);
    assert_string_equal(name, "blk.9.ffn_gate_inp.weight");
}

static void formats_are_parsed(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "gguf:",
                                      "gguf:Q4",
                                      "mlx:7bit",
                                      "mlx:4bit-g16",
                                      "mlx:mxfp4-g64",
                                      "mlx:bf16-g64",
                                      "Q4_K_M",
                                      "gguf:Q8_0,",
                                      "gguf:Q8_0,gguf:q8_0",
                                      "mlx:4bit,mlx:4bit-g64",
                                      "gguf:Q8_0;mlx:4bit"};
    qn_target t[QN_TARGETS_MAX];
    size_t n;
    char name[48];
    quern_error err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(qn_targets_parse(bad[i], t, &n, &err), QUERN_ERROR_USAGE);
        assert_true(strlen(err.message) > 0);
    }
    assert_int_equal(qn_targets_parse(NULL, t, &n, &err), QUERN_ERROR_USAGE);
    assert_ok(qn_targets_parse("gguf:q4_k_m, mlx:4bit-g32 ,mlx:mxfp4,mlx:bf16,mlx:mixed_3_6,gguf:MXFP4_MOE", t, &n, &err));
    assert_int_equal(n, 6);
    static const char *const expected[] = {"Q4_K_M", "4bit-g32", "mxfp4-g32", "bf16", "mixed_3_6-g64", "MXFP4_MOE"};
    for (size_t i = 0; i < n; i++) {
        qn_target_name(&t[i], name, sizeof name);
        assert_string_equal(name, expected[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_equal_llama_quantize), cmocka_unit_test(types_of_large_models),
        cmocka_unit_test(mlx_widths_equal_mlx_lm),    cmocka_unit_test(names_of_places),
        cmocka_unit_test(formats_are_parsed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
