/* test_config.c - configurations from Hugging Face and MLX: goldens, corrupt files, one changed key at a time. */
#include "config_load.h"

#include <dirent.h>
#include <math.h>

/* ---- goldens ---- */

typedef struct expected_config {
    const char *dir;
    qn_family family;
    uint32_t n_layers, hidden, heads, kv_heads, head_dim, ffn, vocab, ctx;
    double eps, theta;
    qn_rope_scaling scaling;
    bool qkv_bias, qk_norm, tied;
    size_t n_stop_ids;
    uint32_t windowed_layers, rope_layers, expert_layers;
} expected_config;

static const expected_config expected[] = {
    {"hf/qwen2_tied", QN_FAMILY_QWEN2, 2, 128, 4, 2, 32, 256, 512, 32768, 1e-6, 1e6, QN_ROPE_NONE, true, false, true, 2, 0, 2, 0},
    {"hf/qwen2_untied_sharded",
     QN_FAMILY_QWEN2,
     3,
     128,
     4,
     1,
     32,
     256,
     512,
     32768,
     1e-6,
     1e6,
     QN_ROPE_NONE,
     true,
     false,
     false,
     2,
     0,
     3,
     0},
    {"hf/qwen3", QN_FAMILY_QWEN3, 2, 256, 2, 1, 128, 256, 512, 40960, 1e-6, 1e6, QN_ROPE_NONE, false, true, true, 2, 0, 2, 0},
    {"hf/qwen3_yarn", QN_FAMILY_QWEN3, 2, 128, 4, 2, 64, 256, 512, 4096, 1e-6, 1e6, QN_ROPE_YARN, false, true, true, 2, 0, 2, 0},
    {"hf/llama3_rope", QN_FAMILY_LLAMA, 2, 128, 4, 2, 32, 256, 512, 131072, 1e-5, 5e5, QN_ROPE_LLAMA3, false, false, false, 2, 0, 2, 0},
    {"hf/codellama_mha", QN_FAMILY_LLAMA, 2, 64, 4, 4, 16, 256, 512, 16384, 1e-5, 1e6, QN_ROPE_NONE, false, false, false, 1, 0, 2, 0},
    {"hf/mistral_headdim", QN_FAMILY_MISTRAL, 2, 64, 4, 2, 64, 256, 512, 131072, 1e-5, 1e6, QN_ROPE_NONE, false, false, false, 1, 0, 2, 0},
    {"hf/mixtral", QN_FAMILY_MIXTRAL, 2, 64, 4, 2, 16, 64, 512, 32768, 1e-5, 1e6, QN_ROPE_NONE, false, false, false, 1, 0, 2, 2},
    {"hf/mixtral_swa", QN_FAMILY_MIXTRAL, 2, 64, 4, 2, 16, 64, 512, 32768, 1e-5, 1e6, QN_ROPE_NONE, false, false, false, 1, 2, 2, 2},
    {"hf/smollm3", QN_FAMILY_SMOLLM3, 4, 64, 4, 2, 16, 256, 512, 65536, 1e-6, 5e6, QN_ROPE_NONE, false, false, true, 1, 0, 3, 0},
    {"hf/qwen3_moe", QN_FAMILY_QWEN3_MOE, 2, 64, 4, 2, 32, 256, 512, 262144, 1e-6, 1e7, QN_ROPE_NONE, false, true, false, 2, 0, 2, 2},
    {"hf/qwen3_moe_nonorm_sparse",
     QN_FAMILY_QWEN3_MOE,
     4,
     64,
     4,
     1,
     32,
     256,
     512,
     262144,
     1e-6,
     1e7,
     QN_ROPE_NONE,
     false,
     true,
     false,
     2,
     0,
     4,
     1},
    {"hf/gpt_oss", QN_FAMILY_GPT_OSS, 2, 192, 8, 2, 32, 96, 512, 131072, 1e-5, 150000, QN_ROPE_YARN, true, false, false, 2, 1, 2, 2},
    {"hf/qwen3_fp8", QN_FAMILY_QWEN3, 2, 256, 2, 1, 128, 256, 512, 40960, 1e-6, 1e6, QN_ROPE_NONE, false, true, true, 2, 0, 2, 0},
    {"hf/smollm3_bitnet", QN_FAMILY_SMOLLM3, 4, 256, 4, 2, 64, 256, 512, 65536, 1e-6, 5e6, QN_ROPE_NONE, false, false, true, 1, 0, 3, 0},
    {"mlx/qwen3.q4_g64", QN_FAMILY_QWEN3, 2, 256, 2, 1, 128, 256, 512, 40960, 1e-6, 1e6, QN_ROPE_NONE, false, true, true, 2, 0, 2, 0},
    {"mlx/llama3_rope.mixed_3_4",
     QN_FAMILY_LLAMA,
     2,
     128,
     4,
     2,
     32,
     256,
     512,
     131072,
     1e-5,
     5e5,
     QN_ROPE_LLAMA3,
     false,
     false,
     false,
     1,
     0,
     2,
     0},
    {"models/quern-coder-8m", QN_FAMILY_QWEN3, 6, 256, 8, 2, 64, 768, 8192, 2048, 1e-6, 1e6, QN_ROPE_NONE, false, true, true, 2, 0, 6, 0},
    {"models/tinystories-260k/hf", QN_FAMILY_LLAMA, 5, 64, 8, 4, 8, 172, 512, 512, 1e-5, 1e4, QN_ROPE_NONE, false, false, true, 1, 0, 5, 0},
    {"data/model_configs/qwen2.5-7b-instruct",
     QN_FAMILY_QWEN2,
     28,
     3584,
     28,
     4,
     128,
     18944,
     152064,
     32768,
     1e-6,
     1e6,
     QN_ROPE_NONE,
     true,
     false,
     false,
     2,
     0,
     28,
     0},
    {"data/model_configs/qwen3-4b",
     QN_FAMILY_QWEN3,
     36,
     2560,
     32,
     8,
     128,
     9728,
     151936,
     40960,
     1e-6,
     1e6,
     QN_ROPE_NONE,
     false,
     true,
     true,
     2,
     0,
     36,
     0},
    {"data/model_configs/qwen3-coder-30b-a3b-instruct",
     QN_FAMILY_QWEN3_MOE,
     48,
     2048,
     32,
     4,
     128,
     5472,
     151936,
     262144,
     1e-6,
     1e7,
     QN_ROPE_NONE,
     false,
     true,
     false,
     2,
     0,
     48,
     48},
};

static void compare_config(const expected_config *e, const qn_model_config *c)
{
    uint32_t windowed = 0;
    uint32_t rope = 0;
    uint32_t experts = 0;
    assert_int_equal(c->family, e->family);
    assert_int_equal(c->n_layers, e->n_layers);
    assert_int_equal(c->hidden_size, e->hidden);
    assert_int_equal(c->n_heads, e->heads);
    assert_int_equal(c->n_kv_heads, e->kv_heads);
    assert_int_equal(c->head_dim, e->head_dim);
    assert_int_equal(c->ffn_size, e->ffn);
    assert_int_equal(c->n_vocab, e->vocab);
    assert_int_equal(c->n_ctx_train, e->ctx);
    assert_true(c->rms_eps == e->eps && c->rope.theta == e->theta);
    assert_int_equal(c->rope.scaling, e->scaling);
    assert_int_equal(c->rope.n_rot, e->head_dim);
    assert_false(c->rope.interleaved);
    assert_int_equal(c->qkv_bias, e->qkv_bias);
    assert_int_equal(c->qk_norm, e->qk_norm);
    assert_int_equal(c->tied_embeddings, e->tied);
    assert_int_equal(c->n_stop_ids, e->n_stop_ids);
    assert_int_equal(c->eos_id, c->stop_ids[0]);
    for (uint32_t i = 0; i < c->n_layers; i++) {
        windowed += c->layers[i].window != 0;
        rope += c->layers[i].rope;
        experts += c->layers[i].experts;
    }
    assert_int_equal(windowed, e->windowed_layers);
    assert_int_equal(rope, e->rope_layers);
    assert_int_equal(experts, e->expert_layers);
}

static void hugging_face_configs_are_understood(void **state)
{
    (void)state;
    size_t n = 0;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        loaded l;
        if (!load_dir(&l, expected[i].dir)) {
            continue;
        }
        if (l.status != QUERN_OK) {
            print_error("%s\n", l.err.message);
        }
        assert_int_equal(l.status, QUERN_OK);
        compare_config(&expected[i], &l.c);
        unload(&l);
        n++;
    }
    assert_true(n >= 7);
}

static void details_of_families(void **state)
{
    (void)state;
    loaded l;
    if (load_dir(&l, "hf/gpt_oss")) {
        assert_int_equal(l.c.layers[0].window, 24);
        assert_int_equal(l.c.layers[1].window, 0);
        assert_int_equal(l.c.n_experts, 8);
        assert_int_equal(l.c.n_experts_used, 4);
        assert_int_equal(l.c.expert_ffn_size, 96);
        assert_false(l.c.rope.truncate);
        assert_true(l.c.rope.factor == 32 && l.c.rope.original_ctx == 4096);
        assert_true(l.c.o_bias && l.c.mlp_bias && l.c.norm_topk_prob);
        assert_string_equal(l.c.quant_method, "mxfp4");
        unload(&l);
    }
    if (load_dir(&l, "hf/qwen3_moe_nonorm_sparse")) {
        assert_true(!l.c.layers[0].experts && l.c.layers[1].experts && !l.c.layers[2].experts && !l.c.layers[3].experts);
        assert_false(l.c.norm_topk_prob);
        assert_int_equal(l.c.expert_ffn_size, 32);
        unload(&l);
    }
    if (load_dir(&l, "hf/smollm3")) {
        assert_true(l.c.layers[2].rope && !l.c.layers[3].rope);
        unload(&l);
    }
    if (load_dir(&l, "hf/llama3_rope")) {
        assert_true(l.c.rope.factor == 8 && l.c.rope.low_freq_factor == 1 && l.c.rope.high_freq_factor == 4 &&
                    l.c.rope.original_ctx == 256);
        assert_int_equal(l.c.stop_ids[0], 511);
        assert_int_equal(l.c.stop_ids[1], 509);
        unload(&l);
    }
    if (load_dir(&l, "hf/qwen3_yarn")) {
        assert_true(l.c.rope.factor == 4 && l.c.rope.original_ctx == 1024 && l.c.rope.truncate && l.c.rope.attention_factor == 0);
        assert_true(l.c.rope.beta_fast == 32 && l.c.rope.beta_slow == 1);
        unload(&l);
    }
    if (load_dir(&l, "hf/qwen3")) {
        assert_true(l.c.has_sampling && l.c.sampling.top_k == 20 && l.c.sampling.temperature == 0.7f && l.c.sampling.top_p == 0.8f);
        assert_true(l.c.sampling.repeat_penalty == 1.05f && !l.c.mlx && l.c.quant_method == NULL);
        unload(&l);
    }
    if (load_dir(&l, "hf/smollm3_bitnet_bitlinear")) {
        assert_string_equal(l.c.quant_method, "bitnet");
        unload(&l);
    }
}

static void mlx_quantization_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *dir;
        uint32_t bits, group;
    } plain[] = {{"mlx/qwen3.q3_g64", 3, 64}, {"mlx/qwen3.q4_g32", 4, 32}, {"mlx/qwen3.q6_g64", 6, 64}, {"mlx/qwen3.q8_g64", 8, 64}};
    loaded l;
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (load_dir(&l, plain[i].dir)) {
            assert_int_equal(l.status, QUERN_OK);
            assert_true(l.c.mlx && l.c.affine.bits == plain[i].bits && l.c.affine.group == plain[i].group && l.c.quant_method == NULL);
            qn_affine a = qn_config_affine_for(&l.c, "model.layers.0.mlp.up_proj");
            assert_true(a.bits == plain[i].bits && a.group == plain[i].group);
            unload(&l);
        }
    }
    if (load_dir(&l, "mlx/llama3_rope.mixed_3_4")) {
        assert_int_equal(l.c.n_overrides, 16);
        qn_affine a = qn_config_affine_for(&l.c, "model.layers.1.mlp.down_proj");
        assert_true(a.bits == 4 && a.group == 64);
        a = qn_config_affine_for(&l.c, "model.layers.0.mlp.down_proj");
        assert_true(a.bits == 3 && a.group == 64);
        unload(&l);
    }
    if (load_dir(&l, "mlx/qwen3_moe.q4_g64")) {
        assert_int_equal(qn_config_affine_for(&l.c, "model.layers.1.mlp.gate").bits, 8);
        assert_int_equal(qn_config_affine_for(&l.c, "model.layers.1.mlp.gates").bits, 4);
        unload(&l);
    }
    if (load_dir(&l, "mlx/qwen3.mxfp4")) {
        assert_int_equal(l.status, QUERN_OK);
        assert_true(l.c.mlx && l.c.mxfp4 && l.c.affine.bits == 4 && l.c.affine.group == 32);
        assert_true(qn_config_is_mxfp4(&l.c, "model.layers.0.mlp.up_proj"));
        unload(&l);
    }
}

/* One edit of a good config.json's quantization: what is read, or the key that the message names. */
static void modes_of_mlx_and_fp8(void **state)
{
    (void)state;
    static const char head[] = "{\"model_type\": \"qwen3\", \"hidden_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
                               "\"num_key_value_heads\": 1, \"intermediate_size\": 64, \"vocab_size\": 100, ";
    static const struct {
        const char *text, *wrong; /* NULL = good */
    } cases[] = {
        {"\"quantization\": {\"bits\": 4, \"mode\": \"mxfp4\", \"m\": {\"bits\": 8, \"group_size\": 64}, \"n\": true, \"o\": false}}",
         NULL},
        {"\"quantization\": {\"bits\": 4, \"mode\": \"mxfp4\", \"group_size\": 64}}", "group_size"},
        {"\"quantization\": {\"bits\": 8, \"mode\": \"mxfp4\"}}", "bits"},
        {"\"quantization\": {\"bits\": 4, \"mode\": \"nvfp4\"}}", "nvfp4"},
        {"\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128, 64], \"modules_to_not_convert\": [\"x\"]}}",
         NULL},
        {"\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128]}}", "weight_block_size"},
        {"\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [0, 128]}}", "weight_block_size"},
        {"\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": \"x\"}}", "weight_block_size"},
        {"\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e5m2\"}}", "fmt"},
        {"\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}}", "gptq"},
        {"\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4}}", "awq"},
        {"\"quantization_config\": {\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true}}", "bitsandbytes"},
        {"\"quantization_config\": {\"quant_method\": \"compressed-tensors\"}}", "compressed-tensors"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024];
        qn_arena arena;
        qn_model_config c;
        quern_error err = {0};
        qn_arena_init(&arena, 0);
        int n = snprintf(text, sizeof text, "%s%s", head, cases[i].text);
        quern_status status = qn_config_read_hf(&c, &arena, text, (size_t)n, "config.json", NULL, 0, &err);
        if (cases[i].wrong != NULL) {
            assert_true(status == QUERN_ERROR_UNSUPPORTED || status == QUERN_ERROR_INVALID);
            assert_non_null(strstr(err.message, cases[i].wrong));
        } else {
            assert_int_equal(status, QUERN_OK);
        }
        if (i == 0) {
            assert_true(c.mlx && c.mxfp4 && c.affine.group == 32 && qn_config_is_mxfp4(&c, "other") && qn_config_is_mxfp4(&c, "n"));
            assert_true(!qn_config_is_mxfp4(&c, "m") && qn_config_affine_for(&c, "m").bits == 8);
            assert_true(!qn_config_is_mxfp4(&c, "o") && qn_config_affine_for(&c, "o").bits == 0);
        }
        if (i == 4) {
            assert_string_equal(c.quant_method, "fp8");
            assert_true(c.fp8_block_rows == 128 && c.fp8_block_cols == 64);
        }
        qn_arena_deinit(&arena);
    }
}

static void unknown_architectures_are_refused(void **state)
{
    (void)state;
    static const char *const dirs[] = {"hf/glm4_moe", "hf/qwen3_next"};
    for (size_t i = 0; i < 2; i++) {
        loaded l;
        if (load_dir(&l, dirs[i])) {
            assert_int_equal(l.status, QUERN_ERROR_UNSUPPORTED);
            assert_message(&l.err, "config.json", "model_type");
            unload(&l);
        }
    }
}

/* ---- corrupt files ---- */

static const char *const places[][2] = {
    {"config/hidden_0.json", "'hidden_size' is 0, expected an integer from 1"},
    {"config/hidden_string.json", "'hidden_size' is the string"},
    {"config/hidden_float.json", "'hidden_size' is 32.5"},
    {"config/heads_0.json", "'num_attention_heads' is 0"},
    {"config/heads_3.json", "'num_attention_heads' is 3"},
    {"config/kv_heads_0.json", "'num_key_value_heads' is 0"},
    {"config/layers_1e9.json", "'num_hidden_layers' is 1000000000"},
    {"config/arch_missing.json", "'model_type' and 'architectures' are missing"},
    {"config/eps_0_string.json", "'rms_norm_eps'"},
    {"config/theta_negative.json", "'rope_theta' is -1"},
    {"config/act_unknown.json", "'hidden_act'"},
    {"config/rope_scaling_unknown.json", "'rope_scaling."},
    {"config/rope_scaling_factor_0.json", "'rope_scaling.factor' is 0"},
    {"config/quant_unknown.json", "'quantization_config.quant_method'"},
    {"config/array.json", "no object"},
};

static void check_corrupt(const char *file, const char *path, const char *expect, void *user)
{
    size_t *n_refused = user;
    size_t size;
    char *json = (char *)read_file(path, &size);
    loaded l = {0};
    qn_arena_init(&l.arena, 0);
    l.status = qn_config_read_hf(&l.c, &l.arena, json, size, path, NULL, 0, &l.err);
    bool here = strcmp(file, "config/vocab_larger.json") != 0; /* needs the tensors */
    if ((l.status != QUERN_OK) != (here && strcmp(expect, "error") == 0)) {
        print_error("%s: %s\n", file, quern_status_name(l.status));
        fail();
    }
    if (l.status != QUERN_OK) {
        assert_int_equal(quern_status_exit_code(l.status), 3);
        assert_message(&l.err, path, NULL);
        for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
            if (strcmp(places[i][0], file) == 0) {
                assert_message(&l.err, path, places[i][1]);
            }
        }
        ++*n_refused;
    }
    free(json);
    unload(&l);
}

static void corrupt_configs_are_refused(void **state)
{
    (void)state;
    size_t n_refused = 0;
    size_t n = for_each_corrupt("config", check_corrupt, &n_refused);
    print_message("%zu files, %zu refusals\n", n, n_refused);
    assert_true(n == 24 && n_refused == 23);
}

/* ---- one key at a time ---- */

static const char base[] =
    "{\"model_type\":\"qwen3\",\"hidden_size\":64,\"num_hidden_layers\":4,\"num_attention_heads\":4,\"num_key_value_heads\":2,"
    "\"head_dim\":16,\"intermediate_size\":128,\"vocab_size\":100,\"max_position_embeddings\":1000,\"rms_norm_eps\":1e-6,"
    "\"rope_theta\":10000.0,\"eos_token_id\":5}";

/* `base` with members put over it. */
static char *with(const char *members)
{
    quern_error err;
    qn_json *root;
    qn_json *changes;
    qn_buf text;
    assert_ok(qn_json_parse(&root, base, sizeof base - 1, 0, "base", &err));
    assert_ok(qn_json_parse(&changes, members, strlen(members), 0, members, &err));
    for (qn_json_iterator *it = qn_json_iter(changes); it != NULL; it = qn_json_next(changes, it)) {
        assert_true(qn_json_set(root, qn_json_iter_key(it, NULL), qn_json_clone(qn_json_iter_value(it))));
    }
    qn_buf_init(&text, 1 << 20);
    assert_true(qn_json_write(root, 0, &text));
    qn_json_free(root);
    qn_json_free(changes);
    char *out = strdup(qn_buf_text(&text));
    qn_buf_deinit(&text);
    return out;
}

static void each_key_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *members;
        const char *fragment; /* NULL: fine */
    } cases[] = {
        {"{}", NULL},
        {"{\"head_dim\":null,\"rope_scaling\":null,\"bos_token_id\":null,\"pad_token_id\":-1,\"sliding_window\":null}", NULL},
        {"{\"head_dim\":15}", "even number"},
        {"{\"head_dim\":514}", "'head_dim' is 514"},
        {"{\"num_key_value_heads\":3}", "'num_key_value_heads' is 3, expected a divisor"},
        {"{\"num_key_value_heads\":8}", "'num_key_value_heads' is 8, expected a divisor"},
        {"{\"num_key_value_heads\":null}", NULL},
        {"{\"intermediate_size\":null}", "'intermediate_size' is missing"},
        {"{\"vocab_size\":5000000}", "'vocab_size' is 5000000"},
        {"{\"max_position_embeddings\":-1}", "'max_position_embeddings' is -1"},
        {"{\"rms_norm_eps\":0}", "'rms_norm_eps' is 0"},
        {"{\"rms_norm_eps\":null}", "'rms_norm_eps' is missing"},
        {"{\"rms_norm_eps\":2}", "'rms_norm_eps' is 2"},
        {"{\"rope_theta\":0}", "'rope_theta' is 0"},
        {"{\"rope_theta\":\"1e4\"}", "'rope_theta' is the string"},
        {"{\"rope_theta\":10000}", NULL},
        {"{\"tie_word_embeddings\":1}", "'tie_word_embeddings' is 1, expected true or false"},
        {"{\"attention_bias\":\"no\"}", "'attention_bias'"},
        {"{\"hidden_act\":\"swish\"}", NULL},
        {"{\"hidden_act\":\"gelu\"}", "'hidden_act'"},
        {"{\"partial_rotary_factor\":0.5}", "'partial_rotary_factor'"},
        {"{\"architectures\":[\"Qwen3ForCausalLM\"]}", NULL},
        {"{\"architectures\":[\"LlamaForCausalLM\"]}", "'LlamaForCausalLM', expected Qwen3ForCausalLM"},
        {"{\"architectures\":\"Qwen3ForCausalLM\"}", "'architectures' is the string"},
        {"{\"architectures\":[1]}", "'architectures' is an array"},
        {"{\"model_type\":null,\"architectures\":[\"Qwen3ForCausalLM\"]}", NULL},
        {"{\"model_type\":null,\"architectures\":[\"Qwen3ForSequenceClassification\"]}", "'Qwen3ForSequenceClassification'"},
        {"{\"model_type\":3}", "'model_type' is 3"},
        {"{\"eos_token_id\":100}", "'eos_token_id' is 100, expected token ids from 0 to 99"},
        {"{\"eos_token_id\":[1,-2]}", "'eos_token_id'"},
        {"{\"eos_token_id\":\"5\"}", "'eos_token_id'"},
        {"{\"eos_token_id\":[1,2,1]}", NULL},
        {"{\"bos_token_id\":1.5}", "'bos_token_id' is 1.5"},
        {"{\"use_sliding_window\":true,\"sliding_window\":8,\"max_window_layers\":2}", NULL},
        {"{\"use_sliding_window\":true,\"sliding_window\":0}", "'sliding_window' is 0"},
        {"{\"use_sliding_window\":\"x\"}", "'use_sliding_window'"},
        {"{\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\"]}", NULL},
        {"{\"layer_types\":[\"full_attention\"]}", "'layer_types' is an array of 1, expected an array of 4"},
        {"{\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\",\"linear_attention\"]}", "'layer_types'"},
        {"{\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\",\"sliding_attention\"]}", "'layer_types'"},
        {"{\"rope_scaling\":{}}", NULL},
        {"{\"rope_scaling\":{\"factor\":2}}", "'rope_scaling.rope_type' is missing"},
        {"{\"rope_scaling\":[]}", "'rope_scaling' is an array"},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}", NULL},
        {"{\"rope_scaling\":{\"type\":\"linear\"}}", "'rope_scaling.factor' is missing"},
        {"{\"rope_scaling\":{\"type\":\"linear\",\"factor\":-2}}", "'rope_scaling.factor' is -2"},
        {"{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}", "this version knows linear"},
        {"{\"rope_scaling\":{\"rope_type\":\"default\"}}", NULL},
        {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4,"
         "\"original_max_position_embeddings\":256}}",
         NULL},
        {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,\"high_freq_factor\":4,"
         "\"original_max_position_embeddings\":256}}",
         "low_freq_factor < high_freq_factor"},
        {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4}}", NULL},
        {"{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"high_freq_factor\":4}}", "'rope_scaling.low_freq_factor' is missing"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"beta_fast\":0}}", "'rope_scaling.beta_fast' is 0"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4},\"rope_theta\":1}", "above 1 where rope is scaled by yarn"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"truncate\":0}}", "'rope_scaling.truncate' is 0"},
        {"{\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":5e5},\"rope_theta\":null}", NULL},
        {"{\"rope_parameters\":{\"rope_theta\":5e5}}", NULL},
        {"{\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}}", "'rope_parameters.rope_type' is missing"},
        {"{\"rope_parameters\":{\"rope_theta\":5e5,\"full_attention\":{\"rope_type\":\"yarn\"}}}",
         "'rope_parameters.full_attention' is an object"},
        {"{\"rope_scaling\":{\"type\":\"default\",\"mrope_section\":[2,3,3]}}", "'rope_scaling.mrope_section' is an array"},
        {"{\"rope_parameters\":[]}", "'rope_parameters' is an array"},
        {"{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"mscale\":-9,\"mscale_all_dim\":1}}", "'rope_scaling.mscale' is -9"},
        {"{\"original_max_position_embeddings\":0,\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}}",
         "'original_max_position_embeddings' is 0"},
        {"{\"rope_parameters\":{\"rope_theta\":5e5,\"partial_rotary_factor\":0.25}}", "'rope_parameters.partial_rotary_factor'"},
        {"{\"quantization\":{\"bits\":4,\"group_size\":64}}", NULL},
        {"{\"quantization\":{\"bits\":7,\"group_size\":64}}", "'quantization.bits' is 7"},
        {"{\"quantization\":{\"bits\":0}}", "'quantization.bits' is 0"},
        {"{\"quantization\":{\"group_size\":64}}", "'quantization.bits' is missing"},
        {"{\"quantization\":{\"bits\":4,\"group_size\":48}}", "'quantization.group_size' is 48, expected 32, 64 or 128"},
        {"{\"quantization\":{\"bits\":4,\"mode\":\"nvfp4\"}}", "'quantization.mode' is \"nvfp4\""},
        {"{\"quantization\":{\"bits\":4,\"a.b\":{\"bits\":9}}}", "'quantization.a.b.bits' is 9"},
        {"{\"quantization\":4}", "'quantization' is 4"},
        {"{\"quantization_config\":{\"bits\":8,\"group_size\":null}}", NULL},
        {"{\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}", "quant_method' is \"gptq\""},
        {"{\"quantization_config\":{\"quant_method\":\"fp8\"}}", NULL},
        {"{\"quantization_config\":[]}", "'quantization_config' is an array"},
        {"{\"model_type\":\"qwen3_moe\",\"num_experts\":4}", "'num_experts_per_tok' is missing"},
        {"{\"model_type\":\"qwen3_moe\",\"num_experts\":4,\"num_experts_per_tok\":5,\"moe_intermediate_size\":8}",
         "'num_experts_per_tok' is 5"},
        {"{\"model_type\":\"qwen3_moe\",\"num_experts\":4,\"num_experts_per_tok\":2,\"moe_intermediate_size\":8,\"decoder_sparse_step\":0}",
         "'decoder_sparse_step' is 0"},
        {"{\"model_type\":\"qwen3_moe\",\"num_experts\":4,\"num_experts_per_tok\":2,\"moe_intermediate_size\":8,\"mlp_only_layers\":[4]}",
         "'mlp_only_layers'"},
        {"{\"model_type\":\"smollm3\",\"no_rope_layers\":[1,1,1,2]}", "'no_rope_layers'"},
        {"{\"model_type\":\"smollm3\",\"no_rope_layers\":[1,1,1]}", "'no_rope_layers' is an array of 3"},
        {"{\"model_type\":\"smollm3\"}", NULL},
        {"{\"model_type\":\"qwen3_moe\",\"num_experts\":4,\"num_local_experts\":5,\"num_experts_per_tok\":2,\"moe_intermediate_size\":8}",
         "'num_experts' is 4, expected the same number as num_local_experts"},
        {"{\"model_type\":\"llama\",\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\",\"full_attention\"]}", NULL},
        {"{\"model_type\":\"llama\",\"sliding_window\":8,\"layer_types\":[\"full_attention\",\"full_attention\",\"full_attention\","
         "\"sliding_attention\"]}",
         "'layer_types'"},
        {"{\"model_type\":\"mixtral\",\"num_local_experts\":2,\"num_experts_per_tok\":1,\"sliding_window\":8,"
         "\"layer_types\":[\"full_attention\",\"sliding_attention\",\"sliding_attention\",\"sliding_attention\"]}",
         "'layer_types'"},
        {"{\"max_position_embeddings\":null}", "'max_position_embeddings' is missing"},
        /* keys of other architectures: refused where their value matters */
        {"{\"logit_scale\":0.5}", "'logit_scale' is 0.5, expected 1 or true, or no such key: architecture qwen3"},
        {"{\"logit_scale\":1.0,\"residual_multiplier\":1,\"is_causal\":true,\"alibi\":false,\"clip_qkv\":null}", NULL},
        {"{\"attention_multiplier\":0.25,\"query_pre_attn_scalar\":16,\"position_embedding_type\":\"rope\"}", NULL},
        {"{\"attention_multiplier\":0.5}", "'attention_multiplier' is 0.5, expected 0.25"},
        {"{\"query_pre_attn_scalar\":256}", "'query_pre_attn_scalar' is 256, expected 16"},
        {"{\"final_logit_softcapping\":30.0}", "'final_logit_softcapping' is 30"},
        {"{\"is_causal\":false}", "'is_causal' is false"},
        {"{\"position_embedding_type\":\"alibi\"}", "'position_embedding_type' is the string"},
        {"{\"clip_qkv\":[8]}", "'clip_qkv' is an array"},
        {"{\"rope_traditional\":true}", "'rope_traditional' is true"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        loaded l;
        char *json = with(cases[i].members);
        load_text(&l, json, NULL);
        const char *fragment = cases[i].fragment;
        if ((l.status == QUERN_OK) != (fragment == NULL)) {
            print_error("%s: %s\n", cases[i].members, l.status == QUERN_OK ? "accepted" : l.err.message);
            fail();
        }
        if (l.status != QUERN_OK) {
            assert_int_equal(quern_status_exit_code(l.status), 3);
            assert_message(&l.err, "d/config.json", fragment);
        }
        unload(&l);
        free(json);
    }
}

static void values_arrive(void **state)
{
    (void)state;
    loaded l;
    char *json = with("{\"use_sliding_window\":true,\"sliding_window\":8,\"max_window_layers\":3,\"eos_token_id\":[7,8]}");
    load_text(&l, json, "{\"eos_token_id\":[8,9],\"do_sample\":false,\"temperature\":0.5}");
    assert_int_equal(l.status, QUERN_OK);
    assert_true(l.c.layers[2].window == 0 && l.c.layers[3].window == 8);
    assert_true(l.c.n_stop_ids == 3 && l.c.stop_ids[2] == 9 && l.c.eos_id == 7 && l.c.bos_id == -1);
    assert_false(l.c.has_sampling);
    unload(&l);
    load_text(&l, json, "{\"do_sample\":true,\"min_p\":0.1}");
    assert_true(l.c.has_sampling && l.c.sampling.temperature == 1.0f && l.c.sampling.min_p == 0.1f && l.c.sampling.top_k == 0);
    unload(&l);
    static const char *const bad[] = {"{\"do_sample\":1}",
                                      "{\"temperature\":-1}",
                                      "{\"top_p\":1.5}",
                                      "{\"top_k\":-1}",
                                      "{\"repetition_penalty\":0}",
                                      "{\"eos_token_id\":100}",
                                      "[]",
                                      "{",
                                      "{\"top_k\":1,\"top_k\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        load_text(&l, json, bad[i]);
        assert_int_equal(l.status, QUERN_ERROR_INVALID);
        assert_message(&l.err, "d/generation_config.json", NULL);
        unload(&l);
    }
    free(json);
    json = with("{\"model_type\":\"mistral\",\"head_dim\":null}");
    load_text(&l, json, NULL);
    assert_true(l.c.layers[0].window == 4096 && l.c.head_dim == 16); /* MistralConfig's default */
    unload(&l);
    free(json);
    json = with("{\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4,\"mscale\":1,\"mscale_all_dim\":1}}");
    load_text(&l, json, NULL);
    assert_true(fabs(l.c.rope.attention_factor - 1) < 1e-12 && l.c.rope.original_ctx == 1000);
    unload(&l);
    free(json);
    json = with("{\"quantization\":{\"bits\":4,\"group_size\":32,\"b\":false,\"c\":true,\"a\":{\"bits\":8}}}");
    load_text(&l, json, NULL);
    assert_true(qn_config_affine_for(&l.c, "b").bits == 0 && qn_config_affine_for(&l.c, "c").group == 32);
    assert_true(qn_config_affine_for(&l.c, "a").bits == 8 && qn_config_affine_for(&l.c, "a").group == 64);
    unload(&l);
    free(json);
}

/* What transformers 5 makes of files that say a thing twice, in an old place, or not at all. */
static void the_same_place_counts_as_in_transformers(void **state)
{
    (void)state;
    loaded l;
    /* rope_scaling before rope_parameters, whose theta then does not count either */
    char *json = with("{\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2,\"rope_theta\":7},\"rope_scaling\":{\"rope_type\":"
                      "\"linear\",\"factor\":4}}");
    load_text(&l, json, NULL);
    assert_true(l.status == QUERN_OK && l.c.rope.scaling == QN_ROPE_LINEAR && l.c.rope.factor == 4 && l.c.rope.theta == 10000);
    unload(&l);
    free(json);
    json = with("{\"rope_parameters\":{\"rope_type\":\"yarn\",\"factor\":2,\"rope_theta\":7},\"rope_scaling\":{}}");
    load_text(&l, json, NULL);
    assert_true(l.status == QUERN_OK && l.c.rope.scaling == QN_ROPE_YARN && l.c.rope.factor == 2 && l.c.rope.theta == 7);
    unload(&l);
    free(json);
    static const char *const originals[] = {"{\"original_max_position_embeddings\":64,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,"
                                            "\"original_max_position_embeddings\":128}}",
                                            "{\"original_max_position_embeddings\":64,\"rope_parameters\":{\"rope_type\":\"llama3\","
                                            "\"factor\":8,\"low_freq_factor\":1,\"high_freq_factor\":4}}",
                                            "{\"max_position_embeddings\":64,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_"
                                            "freq_factor\":1,\"high_freq_factor\":4}}"};
    for (size_t i = 0; i < sizeof originals / sizeof originals[0]; i++) {
        json = with(originals[i]);
        load_text(&l, json, NULL);
        assert_true(l.status == QUERN_OK && l.c.rope.original_ctx == 64);
        unload(&l);
        free(json);
    }
    json = with(
        "{\"model_type\":\"mistral\",\"sliding_window\":8,\"layer_types\":[\"full_attention\",\"sliding_attention\",\"full_attention\","
        "\"sliding_attention\"]}");
    load_text(&l, json, NULL);
    assert_int_equal(l.status, QUERN_OK);
    assert_true(l.c.layers[0].window == 0 && l.c.layers[1].window == 8 && l.c.layers[2].window == 0 && l.c.layers[3].window == 8);
    unload(&l);
    free(json);
    json = with("{\"model_type\":\"qwen3_moe\",\"num_local_experts\":4,\"num_experts_per_tok\":2,\"moe_intermediate_size\":8}");
    load_text(&l, json, NULL);
    assert_true(l.status == QUERN_OK && l.c.n_experts == 4);
    unload(&l);
    free(json);
}

static void absent_keys_have_the_defaults_of_their_class(void **state)
{
    (void)state;
    static const struct {
        const char *model_type;
        uint32_t ctx, kv_heads;
        double eps;
    } defaults[] = {{"qwen2", 32768, 32, 1e-6},   {"qwen3", 32768, 32, 1e-6},    {"llama", 2048, 64, 1e-6},  {"mistral", 131072, 8, 1e-6},
                    {"mixtral", 131072, 8, 1e-5}, {"qwen3_moe", 32768, 4, 1e-6}, {"smollm3", 32768, 4, 1e-6}};
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        loaded l;
        char json[512];
        (void)snprintf(
            json, sizeof json,
            "{\"model_type\":\"%s\",\"hidden_size\":1024,\"num_hidden_layers\":1,\"num_attention_heads\":64,"
            "\"intermediate_size\":128,\"vocab_size\":100,\"num_experts\":4,\"num_experts_per_tok\":2,\"moe_intermediate_size\":8}",
            defaults[i].model_type);
        load_text(&l, json, NULL);
        assert_int_equal(l.status, QUERN_OK);
        assert_int_equal(l.c.n_ctx_train, defaults[i].ctx);
        assert_int_equal(l.c.n_kv_heads, defaults[i].kv_heads);
        assert_true(l.c.rms_eps == defaults[i].eps);
        unload(&l);
    }
}

/* ---- cut texts, failing memory ---- */

static void every_cut_is_refused(void **state)
{
    (void)state;
    loaded l;
    size_t len = sizeof base - 1;
    for (size_t n = 0; n < len; n++) {
        char *cut = malloc(n != 0 ? n : 1);
        assert_non_null(cut);
        memcpy(cut, base, n);
        l = (loaded){0};
        qn_arena_init(&l.arena, 0);
        assert_int_equal(qn_config_read_hf(&l.c, &l.arena, cut, n, "d/config.json", NULL, 0, &l.err), QUERN_ERROR_INVALID);
        assert_message(&l.err, "d/config.json", NULL);
        unload(&l);
        free(cut);
    }
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    char *json = with("{\"quantization\":{\"bits\":4,\"a\":{\"bits\":8},\"b\":false}}");
    bool read = false;
    for (uint64_t n = 1; !read; n++) {
        loaded l = {0};
        qn_arena_init(&l.arena, 0);
        qn_alloc_fail_at(n);
        l.status = qn_config_read_hf(&l.c, &l.arena, json, strlen(json), "d/config.json", "{\"top_k\":4}", 11, &l.err);
        qn_alloc_fail_at(0);
        read = l.status == QUERN_OK;
        assert_true(read || l.status == QUERN_ERROR_MEMORY);
        unload(&l);
        assert_true(n < 100);
    }
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hugging_face_configs_are_understood),
        cmocka_unit_test(details_of_families),
        cmocka_unit_test(mlx_quantization_is_read),
        cmocka_unit_test(modes_of_mlx_and_fp8),
        cmocka_unit_test(unknown_architectures_are_refused),
        cmocka_unit_test(corrupt_configs_are_refused),
        cmocka_unit_test(each_key_is_checked),
        cmocka_unit_test(values_arrive),
        cmocka_unit_test(the_same_place_counts_as_in_transformers),
        cmocka_unit_test(absent_keys_have_the_defaults_of_their_class),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(every_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
