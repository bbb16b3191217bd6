/* test_suspects.c - outputs whose loss comes from known tensors: those and no others are named. */
#include "quantize_run.h"

#include "base/builtin_text.h"
#include "gate/suspects.h"

/* Multiplies a BF16 tensor of a scratch checkpoint by 2^n: heads that attend sharply feel what q and k lose. */
static void scale(const char *dir, const char *tensor, unsigned n)
{
    quern_error err = {0};
    qn_safetensors *s;
    uint64_t at, bytes = 2;
    assert_ok(qn_safetensors_open_dir(&s, dir, false, &err));
    const qn_tensor *t = qn_safetensors_find(s, tensor);
    assert_non_null(t);
    assert_int_equal(t->dtype, QN_DTYPE_BF16);
    at = t->file_offset;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        bytes *= t->shape[i];
    }
    uint16_t *values = malloc(bytes);
    assert_non_null(values);
    memcpy(values, t->data, bytes);
    qn_safetensors_close(s);
    for (size_t i = 0; i < bytes / 2; i++) {
        values[i] = (values[i] & 0x7f80) != 0 ? (uint16_t)(values[i] + (n << 7)) : values[i];
    }
    FILE *f = fopen(scratch_path(dir, "model.safetensors"), "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(values, 1, bytes, f), bytes);
    (void)fclose(f);
    free(values);
}

static run quantize_some(const char *source, const char *dir, const char *override)
{
    const char *const overrides[] = {override};
    run r = {.opt = {.source = source,
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q8_0",
                     .n_threads = 2,
                     .tensor_types = overrides,
                     .n_tensor_types = 1}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    return r;
}

/* What the search finds in a Q8_0 file with some tensors in MXFP4, with so much memory (0 = no bound). */
static qn_suspects find(const char *source, const char *override, uint64_t memory_bytes)
{
    enum { CONTEXT = 64, TEXT_BYTES = 3000 };
    quern_error err = {0};
    qn_quality_base base;
    quern_model *own;
    qn_suspects s;
    size_t len;
    char *dir = new_dir();
    const char *text = qn_builtin_text_calibration(&len);
    run r = quantize_some(source, dir, override);
    assert_ok(qn_quality_base_open(&base, source, NULL, text, TEXT_BYTES, 2, &err));
    base.n_ctx = CONTEXT;
    const quern_engine_options options = qn_quality_engine_options(&base, base.n_ctx);
    assert_ok(quern_engine_create(&base.engine, base.model, &options, &err));
    assert_ok(quern_model_open(&own, scratch_path(dir, "gguf/tiny-Q8_0.gguf"), NULL, &err));
    base.memory_bytes = memory_bytes;
    assert_ok(qn_suspects_find(&base, own, &s, &err));
    quern_model_close(own);
    qn_quality_base_close(&base);
    qn_json_free(r.manifest);
    drop_dir(dir);
    return s;
}

/* Places in so many layers, those and no others; the embedding and the head have layer 0. */
static void expect(const qn_suspects *s, qn_place place, uint32_t first_layer, uint32_t n_layers)
{
    for (size_t i = 0; i < s->n; i++) {
        const qn_suspect *found = &s->items[i];
        if (found->place != place || found->layer < first_layer || found->layer >= first_layer + n_layers) {
            fail_msg("place %d of layer %u takes %.3f of the divergence", (int)found->place, (unsigned)found->layer, found->share);
        }
        assert_true(i == 0 || found->share <= found[-1].share);
    }
    assert_int_equal(s->n, n_layers);
}

static void the_head_is_no_embedding(void **state)
{
    (void)state;
    if (!have_model("codellama_mha")) {
        skip();
    }
    qn_suspects s = find(model_dir("codellama_mha"), "^output\\.weight=MXFP4", 0);
    expect(&s, QN_PLACE_HEAD, 0, 1);
    s = find(model_dir("codellama_mha"), "token_embd=MXFP4", 0);
    expect(&s, QN_PLACE_EMBEDDING, 0, 1);
}

/* GGUF has the rows of q and k of such models in another order: a copy in that order obeys the bound of memory. */
static void rows_in_another_order(void **state)
{
    (void)state;
    enum { Q_AND_K = 2 * 64 * 64 * sizeof(float) };
    if (!have_model("codellama_mha")) {
        skip();
    }
    char *source = new_dir();
    copy_model("codellama_mha", source);
    scale(source, "model.layers.1.self_attn.q_proj.weight", 5);
    qn_suspects s = find(source, "blk\\.1\\.attn_q=MXFP4", Q_AND_K);
    expect(&s, QN_PLACE_Q, 1, 1);
    assert_int_equal(s.n_matrices_unfit, 0);
    s = find(source, "blk\\.1\\.attn_q=MXFP4", Q_AND_K - 1);
    assert_int_equal(s.n_matrices_unfit, 4); /* q and k of two layers */
    for (size_t i = 0; i < s.n; i++) {
        assert_true(s.items[i].place != QN_PLACE_Q && s.items[i].place != QN_PLACE_K);
    }
    drop_dir(source);
}

static void layers_that_are_hurt_at_once(void **state)
{
    (void)state;
    if (!have_model("codellama_mha")) {
        skip();
    }
    qn_suspects s = find(model_dir("codellama_mha"), "ffn_down=MXFP4", 0);
    expect(&s, QN_PLACE_DOWN, 0, 2);
    assert_true(s.n_layers == 2 && s.n_layers_looked == 2 && s.n_matrices_left == 0);
}

static void parts_of_experts(void **state)
{
    (void)state;
    if (!have_model("qwen3_moe")) {
        skip();
    }
    qn_suspects s = find(model_dir("qwen3_moe"), "ffn_gate_exps=MXFP4", 0);
    expect(&s, QN_PLACE_EXPERT_GATE, 0, 2);
}

/* The names in the verdict. */
static void suspects_are_named(void **state)
{
    (void)state;
    static const char *const overrides[] = {"^output\\.weight=MXFP4"};
    size_t len;
    if (!have_model("codellama_mha")) {
        skip();
    }
    char *source = new_dir(), *dir = new_dir();
    copy_model("codellama_mha", source);
    replace_in_file(scratch_path(source, "config.json"), "\"max_position_embeddings\": 16384", "\"max_position_embeddings\": 64");
    run r = {.opt = {.source = source,
                     .output_dir = dir,
                     .name = "tiny",
                     .formats = "gguf:Q8_0",
                     .n_threads = 2,
                     .gate = QUERN_GATE_STRICT,
                     .gate_text = qn_builtin_text_calibration(&len),
                     .gate_text_len = 600,
                     .tensor_types = overrides,
                     .n_tensor_types = 1}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    const qn_json *suspects = qn_json_get(qn_json_get(find_output(r.manifest, "Q8_0"), "gate"), "suspect_tensors");
    assert_int_equal(qn_json_length(suspects), 1);
    assert_string_equal(qn_json_string(qn_json_at(suspects, 0), NULL), "output.weight");
    qn_json_free(r.manifest);
    drop_dir(dir);
    drop_dir(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_head_is_no_embedding), cmocka_unit_test(rows_in_another_order), cmocka_unit_test(layers_that_are_hurt_at_once),
        cmocka_unit_test(parts_of_experts),         cmocka_unit_test(suspects_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
