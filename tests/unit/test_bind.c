/* test_bind.c - tensors that a file holds beyond the architecture: refused with their name, not left out; and the head that is stored beside
 * an embedding it is said to be tied to. Files are made from reference checkpoints. */
#include "golden_run.h"
#include "quantize_run.h"

#include "formats/gguf_write.h"

/* dir/x.gguf: a reference file and one F32 tensor more. */
static const char *write_gguf(const char *dir, const char *golden, const extra *x)
{
    quern_error err;
    qn_gguf *g;
    qn_gguf_writer *w;
    const char *path = scratch_path(dir, "x.gguf");
    assert_ok(qn_gguf_open(&g, golden, false, &err));
    assert_ok(qn_gguf_writer_create(&w, path, &err));
    for (size_t i = 0; i < qn_gguf_n_keys(g); i++) {
        assert_ok(qn_gguf_put_value(w, qn_gguf_key_at(g, i), &err));
    }
    size_t n = qn_gguf_n_tensors(g);
    for (size_t i = 0; i < n; i++) {
        const qn_tensor *t = qn_gguf_tensor_at(g, i);
        assert_ok(qn_gguf_declare(w, t->name, t->dtype, t->shape, t->n_dims, &err));
    }
    if (x != NULL) {
        assert_ok(qn_gguf_declare(w, x->name, QN_DTYPE_F32, x->shape, x->n_dims, &err));
    }
    assert_ok(qn_gguf_writer_begin_data(w, &err));
    for (size_t i = 0; i < n; i++) {
        const qn_tensor *t = qn_gguf_tensor_at(g, i);
        assert_ok(qn_gguf_write_data(w, i, 0, t->data, t->n_bytes, &err));
    }
    if (x != NULL) {
        assert_ok(qn_gguf_write_data(w, n, 0, x->data, (size_t)n_elements(x) * sizeof(float), &err));
    }
    assert_ok(qn_gguf_writer_commit(w, &err));
    qn_gguf_writer_destroy(w);
    qn_gguf_close(g);
    return path;
}

static void expect_refusal(const char *path, const char *tensor)
{
    quern_error err = {0};
    quern_model *m;
    quern_status status = quern_model_open(&m, path, NULL, &err);
    if (status != QUERN_ERROR_UNSUPPORTED || strstr(err.message, tensor) == NULL || strstr(err.message, "has no place") == NULL) {
        fail_msg("%s: status %s, message '%s'", tensor, quern_status_name(status), err.message);
    }
    assert_null(m);
}

static void gguf_tensors_without_a_place(void **state)
{
    (void)state;
    static const float ones[512] = {1};
    static const extra extras[] = {
        {"blk.0.attn_q_norm.weight", 1, {32}, ones, 0},
        {"blk.0.attn_post_norm.weight", 1, {128}, ones, 0},
        {"blk.2.attn_norm.weight", 1, {128}, ones, 0},
        {"blk.0.attn_q.scale", 1, {1}, ones, 0},
        {"x", 1, {1}, ones, 0},
    };
    const char *golden = qn_test_golden("gguf/base/llama3_rope.f16.gguf");
    if (golden == NULL) {
        print_message("SKIP: gguf/base/llama3_rope.f16.gguf: reference file is absent\n");
        skip();
    }
    char *dir = new_dir();
    quern_model_close(golden_open(write_gguf(dir, golden, NULL))); /* rope_freqs.weight has its place */
    for (size_t i = 0; i < sizeof extras / sizeof extras[0]; i++) {
        expect_refusal(write_gguf(dir, golden, &extras[i]), extras[i].name);
    }
    drop_dir(dir);
}

static void checkpoint_tensors_without_a_place(void **state)
{
    (void)state;
    static const extra norm = {"model.layers.0.self_attn.post_norm.weight", 1, {256}, NULL, 0};
    static const extra frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq", 1, {64}, NULL, 0};
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    write_checkpoint(dir, "qwen3", &norm, 1);
    expect_refusal(dir, norm.name);
    write_checkpoint(dir, "qwen3", &frequencies, 1);
    quern_model_close(golden_open(dir));
    replace_in_file(scratch_path(dir, "config.json"), "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    expect_refusal(dir, "model.layers.1.");
    drop_dir(dir);
}

static float *logits_of(const char *path, bool *tied, size_t *n)
{
    static const int32_t ids[] = {5, 300, 17, 41, 511};
    static const quern_engine_options opt = {
        .n_threads = 1, .n_ctx = 64, .kv_type = QUERN_KV_F32, .arithmetic = QUERN_ARITHMETIC_F32_ACTIVATIONS};
    enum { N_IDS = sizeof ids / sizeof ids[0] };
    quern_model *m = golden_open(path);
    quern_engine *e = golden_engine(m, &opt);
    *tied = quern_model_get_info(m)->tied_embeddings;
    *n = N_IDS * quern_model_get_info(m)->n_vocab;
    float *logits = golden_logits(e, ids, N_IDS, quern_model_get_info(m)->n_vocab, 64);
    quern_engine_destroy(e);
    quern_model_close(m);
    return logits;
}

/* transformers ties only what is equal: config.json's tie_word_embeddings true does not silence a head of its own. */
static void a_stored_head_counts(void **state)
{
    (void)state;
    enum { VOCAB = 512, HIDDEN = 256 };
    static const extra copy = {"lm_head.weight", 2, {VOCAB, HIDDEN}, NULL, 0};
    static const extra other = {"lm_head.weight", 2, {VOCAB, HIDDEN}, NULL, 8 * HIDDEN}; /* tokens 0 to 7 */
    if (!have_model("qwen3")) {
        skip();
    }
    bool tied;
    size_t n;
    char *dir = new_dir();
    float *plain = logits_of(model_dir("qwen3"), &tied, &n);
    assert_true(tied);
    write_checkpoint(dir, "qwen3", &copy, 1);
    float *copied = logits_of(dir, &tied, &n);
    assert_true(tied);
    assert_memory_equal(copied, plain, n * sizeof *plain);
    write_checkpoint(dir, "qwen3", &other, 1);
    float *own = logits_of(dir, &tied, &n);
    assert_false(tied);
    for (size_t i = 0; i < n; i++) {
        assert_true(own[i] == (i % VOCAB < 8 ? -plain[i] : plain[i]));
    }
    /* and in what is exported */
    char *out = new_dir();
    run r = quantize(dir, out, "gguf:F32,mlx:bf16");
    static const char *const outputs[] = {"gguf/tiny-F32.gguf", "mlx/bf16"};
    for (size_t k = 0; k < sizeof outputs / sizeof outputs[0]; k++) {
        float *exported = logits_of(scratch_path(out, outputs[k]), &tied, &n);
        assert_false(tied);
        assert_true(golden_compare(exported, own, n).max <= 1e-5);
        qn_free(exported);
    }
    qn_json *config = golden_json(scratch_path(out, "mlx/bf16/config.json"));
    assert_int_equal(qn_json_get_kind(qn_json_get(config, "tie_word_embeddings")), QN_JSON_BOOL);
    assert_false(qn_json_bool(qn_json_get(config, "tie_word_embeddings"), true));
    qn_json_free(config);
    qn_json_free(r.manifest);
    qn_free(plain);
    qn_free(copied);
    qn_free(own);
    drop_dir(out);
    drop_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_tensors_without_a_place),
        cmocka_unit_test(checkpoint_tensors_without_a_place),
        cmocka_unit_test(a_stored_head_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
