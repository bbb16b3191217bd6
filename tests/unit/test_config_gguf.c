/* test_config_gguf.c - configurations from GGUF metadata: the same as the folder's, and one changed key at a time. */
#include "config_load.h"

#include <math.h>

#include "formats/gguf_write.h"

/* ---- GGUF ---- */

static void gguf_says_the_same(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"gguf/base/llama3_rope.f16.gguf", "hf/llama3_rope"}, {"gguf/base/qwen3.bf16.gguf", "hf/qwen3"},
        {"gguf/base/qwen3_yarn.f16.gguf", "hf/qwen3_yarn"},   {"gguf/base/qwen2_tied.f32.gguf", "hf/qwen2_tied"},
        {"gguf/base/smollm3.bf16.gguf", "hf/smollm3"},        {"gguf/base/mixtral.bf16.gguf", "hf/mixtral"},
        {"gguf/base/qwen3_moe.bf16.gguf", "hf/qwen3_moe"},    {"gguf/base/gpt_oss.bf16.gguf", "hf/gpt_oss"}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        loaded l;
        quern_error err;
        qn_gguf *g;
        qn_model_config c;
        const char *path = qn_test_golden(pairs[i][0]);
        if (path == NULL || !load_dir(&l, pairs[i][1])) {
            print_message("SKIP: %s: not in the repository, and no ../shared\n", pairs[i][0]);
            continue;
        }
        assert_ok(qn_gguf_open(&g, path, false, &err));
        assert_ok(qn_config_read_gguf(&c, &l.arena, g, &err));
        assert_int_equal(c.family, l.c.family);
        assert_int_equal(c.n_layers, l.c.n_layers);
        assert_int_equal(c.hidden_size, l.c.hidden_size);
        assert_int_equal(c.n_heads, l.c.n_heads);
        assert_int_equal(c.n_kv_heads, l.c.n_kv_heads);
        assert_int_equal(c.head_dim, l.c.head_dim);
        assert_int_equal(c.ffn_size, l.c.ffn_size);
        assert_int_equal(c.n_ctx_train, l.c.n_ctx_train);
        assert_int_equal(c.rope.n_rot, l.c.rope.n_rot);
        assert_true(c.rope.theta == l.c.rope.theta && (float)c.rms_eps == (float)l.c.rms_eps);
        assert_int_equal(c.qk_norm, l.c.qk_norm);
        assert_int_equal(c.n_experts, l.c.n_experts);
        assert_int_equal(c.n_experts_used, l.c.n_experts_used);
        assert_int_equal(c.expert_ffn_size, l.c.expert_ffn_size);
        assert_int_equal(c.norm_topk_prob, l.c.norm_topk_prob);
        assert_int_equal(c.eos_id, l.c.eos_id);
        assert_int_equal(c.rope.scaling, l.c.rope.scaling == QN_ROPE_LLAMA3 ? QN_ROPE_NONE : l.c.rope.scaling); /* a tensor says it */
        if (c.rope.scaling == QN_ROPE_YARN) {
            assert_true(c.rope.factor == l.c.rope.factor && c.rope.original_ctx == l.c.rope.original_ctx);
        }
        bool permuted = c.family == QN_FAMILY_LLAMA || c.family == QN_FAMILY_MIXTRAL || c.family == QN_FAMILY_SMOLLM3;
        assert_int_equal(c.rope.interleaved, permuted);
        for (uint32_t k = 0; k < c.n_layers; k++) {
            assert_memory_equal(&c.layers[k], &l.c.layers[k], sizeof c.layers[k]);
        }
        if (c.family == QN_FAMILY_GPT_OSS) { /* do_sample without settings: GGUF has no key for it */
            l.c.has_sampling = false;
            l.c.sampling.temperature = 0;
        }
        assert_int_equal(c.has_sampling, l.c.has_sampling);
        assert_true(c.sampling.temperature == l.c.sampling.temperature && c.sampling.top_k == l.c.sampling.top_k);
        assert_string_equal(c.architecture, qn_family_name(c.family));
        qn_gguf_close(g);
        unload(&l);
        n++;
    }
    assert_true(n >= 2);
}

/* Files that open but whose metadata makes no model. */
static const char *const bad_metadata[][2] = {
    {"no_architecture", "'general.architecture' is missing"},
    {"architecture_is_u32", "'general.architecture' has type u32, expected string"},
    {"architecture_unknown", "'general.architecture' is '"},
    {"block_count_string", "'llama.block_count' has type string, expected an integer"},
    {"block_count_1e9", "'llama.block_count' is 1000000000, expected an integer from 1 to 1024"},
    {"block_count_0", "'llama.block_count' is 0"},
    {"head_count_0", "'llama.attention.head_count' is 0"},
    {"head_count_kv_0", "'llama.attention.head_count_kv' is 0"},
    {"head_count_kv_64", "'attention.head_count_kv' is 64, expected a divisor"},
    {"embedding_length_0", "'llama.embedding_length' is 0"},
    {"embedding_length_2p31", "'llama.embedding_length' is 2147483648"},
    {"eps_nan", "'llama.attention.layer_norm_rms_epsilon' is nan"},
    {"freq_base_0", "'llama.rope.freq_base' is 0"},
    {"rope_dim_odd", "'rope.dimension_count' is 15"},
    {"rope_dim_too_large", "'rope.dimension_count' is"},
    {"eos_out_of_range", "'tokenizer.ggml.eos_token_id' is 4000000000"},
};

static void gguf_metadata_is_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_metadata / sizeof bad_metadata[0]; i++) {
        char name[128];
        quern_error err;
        qn_gguf *g;
        qn_model_config c;
        qn_arena arena;
        qn_arena_init(&arena, 0);
        (void)snprintf(name, sizeof name, "corrupt/gguf/%s.gguf", bad_metadata[i][0]);
        const char *path = qn_test_golden(name);
        assert_non_null(path);
        assert_ok(qn_gguf_open(&g, path, false, &err));
        quern_status status = qn_config_read_gguf(&c, &arena, g, &err);
        if (status == QUERN_OK) {
            print_error("%s accepted\n", name);
        }
        assert_int_equal(quern_status_exit_code(status), 3);
        assert_message(&err, path, bad_metadata[i][1]);
        qn_gguf_close(g);
        qn_arena_deinit(&arena);
    }
    quern_error err;
    qn_gguf *g;
    qn_model_config c;
    qn_arena arena;
    qn_arena_init(&arena, 0);
    assert_ok(qn_gguf_open(&g, qn_test_golden("corrupt/gguf/ok_base.gguf"), false, &err));
    assert_ok(qn_config_read_gguf(&c, &arena, g, &err));
    qn_gguf_close(g);
    qn_arena_deinit(&arena);
}

/* A file of a llama with one key more; what it makes of it. */
static quern_status read_gguf_with(const char *path, qn_gguf_type type, const char *key, double value, quern_error *why)
{
    quern_error err;
    qn_gguf_writer *w;
    qn_gguf *g;
    qn_model_config c;
    qn_arena arena;
    static const float one = 1;
    static const struct {
        const char *key;
        uint32_t value;
    } sizes[] = {{"llama.block_count", 1},
                 {"llama.context_length", 64},
                 {"llama.embedding_length", 32},
                 {"llama.feed_forward_length", 32},
                 {"llama.attention.head_count", 2}};
    qn_arena_init(&arena, 0);
    assert_ok(qn_gguf_writer_create(&w, path, &err));
    assert_ok(qn_gguf_put_string(w, "general.architecture", "llama", 5, &err));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_ok(qn_gguf_put_u32(w, sizes[i].key, sizes[i].value, &err));
    }
    assert_ok(qn_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, &err));
    if (type == QN_GGUF_BOOL) {
        assert_ok(qn_gguf_put_bool(w, key, value != 0, &err));
    } else if (type == QN_GGUF_STRING) {
        assert_ok(qn_gguf_put_string(w, key, value != 0 ? "silu" : "gelu", 4, &err));
    } else if (type == QN_GGUF_ARRAY) {
        const int32_t values[] = {0, (int32_t)value};
        assert_ok(qn_gguf_put_array(w, key, QN_GGUF_I32, values, 2, &err));
    } else {
        assert_ok(qn_gguf_put_f32(w, key, (float)value, &err));
    }
    const uint64_t length = 1;
    assert_ok(qn_gguf_declare(w, "x", QN_DTYPE_F32, &length, 1, &err));
    assert_ok(qn_gguf_writer_begin_data(w, &err));
    assert_ok(qn_gguf_write_data(w, 0, 0, &one, sizeof one, &err));
    assert_ok(qn_gguf_writer_commit(w, &err));
    qn_gguf_writer_destroy(w);
    assert_ok(qn_gguf_open(&g, path, false, &err));
    quern_status status = qn_config_read_gguf(&c, &arena, g, why);
    qn_gguf_close(g);
    qn_arena_deinit(&arena);
    return status;
}

static void gguf_keys_of_other_architectures_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        qn_gguf_type type;
        double value;
        const char *fragment; /* NULL: fine */
    } cases[] = {
        {"llama.attention.causal", QN_GGUF_BOOL, 0, "'llama.attention.causal' is 0, expected 1 or true"},
        {"llama.attention.causal", QN_GGUF_BOOL, 1, NULL},
        {"llama.logit_scale", QN_GGUF_F32, 0.1, "'llama.logit_scale' is 0.1"},
        {"llama.attention.scale", QN_GGUF_F32, 3, "'llama.attention.scale' is 3, expected 0.25"},
        {"llama.attention.scale", QN_GGUF_F32, 0.25, NULL},
        {"llama.embedding_scale", QN_GGUF_F32, 5, "'llama.embedding_scale' is 5"},
        {"llama.residual_scale", QN_GGUF_F32, 1, NULL},
        {"llama.attention.sliding_window", QN_GGUF_F32, 4, "'llama.attention.sliding_window' is 4"},
        {"llama.hidden_activation", QN_GGUF_STRING, 0, "'llama.hidden_activation' is \"gelu\", expected silu"},
        {"llama.hidden_activation", QN_GGUF_STRING, 1, NULL},
        {"llama.rope.dimension_sections", QN_GGUF_ARRAY, 8, "'llama.rope.dimension_sections' is 8"},
        {"llama.rope.dimension_sections", QN_GGUF_ARRAY, 0, NULL},
        {"llama.rope.scaling.attn_factor", QN_GGUF_F32, 1.5, "'llama.rope.scaling.attn_factor' is 1.5, expected 1"},
        {"qwen2.logit_scale", QN_GGUF_F32, 0.1, NULL}, /* not this file's architecture */
    };
    char *dir = scratch_create();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        quern_error err = {0};
        const char *path = scratch_path(dir, "x.gguf");
        quern_status status = read_gguf_with(path, cases[i].type, cases[i].key, cases[i].value, &err);
        assert_int_equal(status, cases[i].fragment == NULL ? QUERN_OK : QUERN_ERROR_UNSUPPORTED);
        if (cases[i].fragment != NULL) {
            assert_message(&err, path, cases[i].fragment);
        }
        assert_int_equal(unlink(path), 0);
    }
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_says_the_same),
        cmocka_unit_test(gguf_metadata_is_checked),
        cmocka_unit_test(gguf_keys_of_other_architectures_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
