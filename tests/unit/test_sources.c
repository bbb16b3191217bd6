/* test_sources.c - sources other than a float checkpoint from the hub: FP8 folders, GGUF files, MLX folders, architectures by another name.
 * Each is held against the same weights in a plain checkpoint: equal bytes, not a tolerance. */
#include "golden_run.h"
#include "quantize_run.h"
#include "random_weights.h"

#include "base/half.h"
#include "model/model_int.h"
#include "model/shard.h"

/* ---- synthetic FP8 checkpoints ---- */

typedef struct fp8_form {
    uint32_t rows, cols; /* of a block; 0 = one scale a tensor */
    qn_dtype scale;
    const char *scale_name;
} fp8_form;

/* Nearest of the 254 finite codes. */
static uint8_t e4m3_nearest(double x)
{
    uint8_t best = 0;
    double least = INFINITY;
    for (uint32_t c = 0; c < 256; c++) {
        double d = fabs((double)qn_f32_from_e4m3((uint8_t)c) - x);
        if ((c & 127u) != 127u && d < least) {
            least = d;
            best = (uint8_t)c;
        }
    }
    return best;
}

static bool is_projection(const qn_tensor *t) { return t->n_dims == 2 && strstr(t->name, "_proj.weight") != NULL; }

static uint64_t blocks_of(uint64_t n, uint32_t block) { return block == 0 ? 1 : (n + block - 1) / block; }

static float scale_value(const qn_tensor *t, const fp8_form *f, uint64_t br, uint64_t bc)
{
    float greatest = 0;
    uint64_t rows = f->rows == 0 ? t->shape[0] : f->rows, cols = f->cols == 0 ? t->shape[1] : f->cols;
    for (uint64_t r = br * rows; r < t->shape[0] && r < (br + 1) * rows; r++) {
        for (uint64_t c = bc * cols; c < t->shape[1] && c < (bc + 1) * cols; c++) {
            float v;
            qn_decode_row(t->dtype, t->data + 2 * (r * t->shape[1] + c), &v, 1);
            greatest = fmaxf(greatest, fabsf(v));
        }
    }
    float scale = greatest / 448.0f + 1e-9f;
    return f->scale == QN_DTYPE_BF16 ? qn_f32_from_bf16(qn_bf16_from_f32(scale)) : scale;
}

/* Two folders: the model with its projections in FP8, and one in F32 with the weights that those stand for, computed in double. */
static void write_fp8_pair(const char *model, const fp8_form *f, const char *fp8_dir, const char *plain_dir)
{
    quern_error err = {0};
    qn_safetensors *s;
    qn_safetensors_writer *w, *plain;
    char config[256];
    copy_model(model, fp8_dir);
    copy_model(model, plain_dir);
    (void)unlink(scratch_path(fp8_dir, "model.safetensors"));
    (void)unlink(scratch_path(plain_dir, "model.safetensors"));
    if (f->rows == 0) {
        (void)snprintf(config, sizeof config, "{\"quantization_config\": {\"quant_method\": \"fp8\", \"activation_scheme\": \"static\"},");
    } else {
        (void)snprintf(config, sizeof config, "{\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [%u, %u]},",
                       f->rows, f->cols);
    }
    replace_in_file(scratch_path(fp8_dir, "config.json"), "{", config);
    assert_ok(qn_safetensors_open_dir(&s, model_dir(model), false, &err));
    assert_ok(qn_safetensors_writer_create(&w, scratch_path(fp8_dir, "model.safetensors"), &err));
    assert_ok(qn_safetensors_writer_create(&plain, scratch_path(plain_dir, "model.safetensors"), &err));
    size_t n = qn_safetensors_n_tensors(s);
    for (int pass = 0; pass < 2; pass++) {
        size_t at = 0;
        for (size_t i = 0; i < n; i++) {
            const qn_tensor *t = qn_safetensors_tensor_at(s, i);
            bool fp8 = is_projection(t);
            assert_true(t->dtype == QN_DTYPE_BF16);
            if (pass == 0) {
                assert_ok(qn_safetensors_declare(plain, t->name, fp8 ? QN_DTYPE_F32 : t->dtype, t->shape, t->n_dims, &err));
                assert_ok(qn_safetensors_declare(w, t->name, fp8 ? QN_DTYPE_F8_E4M3 : t->dtype, t->shape, t->n_dims, &err));
                if (fp8) {
                    char name[160];
                    const uint64_t shape[2] = {blocks_of(t->shape[0], f->rows), blocks_of(t->shape[1], f->cols)};
                    (void)snprintf(name, sizeof name, "%.*s%s", (int)(strlen(t->name) - strlen("weight")), t->name, f->scale_name);
                    assert_ok(qn_safetensors_declare(w, name, f->scale, shape, f->rows == 0 ? 0 : 2, &err));
                }
                continue;
            }
            if (!fp8) {
                assert_ok(qn_safetensors_write_data(plain, i, 0, t->data, t->n_bytes, &err));
                assert_ok(qn_safetensors_write_data(w, at++, 0, t->data, t->n_bytes, &err));
                continue;
            }
            uint64_t down = blocks_of(t->shape[0], f->rows), across = blocks_of(t->shape[1], f->cols);
            float *scales = malloc(down * across * sizeof *scales), *values = malloc(t->n_elements * sizeof *values);
            uint16_t *halves = malloc(down * across * sizeof *halves);
            uint8_t *codes = malloc(t->n_elements);
            assert_true(scales != NULL && values != NULL && codes != NULL && halves != NULL);
            for (uint64_t b = 0; b < down * across; b++) {
                scales[b] = scale_value(t, f, b / across, b % across);
                halves[b] = qn_bf16_from_f32(scales[b]);
            }
            for (uint64_t k = 0; k < t->n_elements; k++) {
                float v;
                uint64_t r = k / t->shape[1], c = k % t->shape[1];
                float scale = scales[(f->rows == 0 ? 0 : r / f->rows) * across + (f->cols == 0 ? 0 : c / f->cols)];
                qn_decode_row(t->dtype, t->data + 2 * k, &v, 1);
                codes[k] = e4m3_nearest((double)v / (double)scale);
                values[k] = (float)((double)qn_f32_from_e4m3(codes[k]) * (double)scale);
            }
            assert_ok(qn_safetensors_write_data(plain, i, 0, values, t->n_elements * sizeof *values, &err));
            assert_ok(qn_safetensors_write_data(w, at++, 0, codes, t->n_elements, &err));
            const void *stored = f->scale == QN_DTYPE_BF16 ? (const void *)halves : scales;
            assert_ok(qn_safetensors_write_data(w, at++, 0, stored, down * across * (f->scale == QN_DTYPE_BF16 ? 2u : 4u), &err));
            free(scales);
            free(values);
            free(halves);
            free(codes);
        }
        if (pass == 0) {
            assert_ok(qn_safetensors_writer_begin_data(w, &err));
            assert_ok(qn_safetensors_writer_begin_data(plain, &err));
        }
    }
    assert_ok(qn_safetensors_writer_commit(w, &err));
    assert_ok(qn_safetensors_writer_commit(plain, &err));
    qn_safetensors_writer_destroy(w);
    qn_safetensors_writer_destroy(plain);
    qn_safetensors_close(s);
}

/* The tensors of two GGUF files, byte for byte. */
static void same_gguf_data(const char *a, const char *b)
{
    quern_error err = {0};
    qn_gguf *x, *y;
    assert_ok(qn_gguf_open(&x, a, false, &err));
    assert_ok(qn_gguf_open(&y, b, false, &err));
    assert_int_equal(qn_gguf_n_tensors(x), qn_gguf_n_tensors(y));
    for (size_t i = 0; i < qn_gguf_n_tensors(x); i++) {
        const qn_tensor *t = qn_gguf_tensor_at(x, i), *u = qn_gguf_tensor_at(y, i);
        assert_string_equal(t->name, u->name);
        assert_int_equal(t->dtype, u->dtype);
        assert_int_equal(t->n_bytes, u->n_bytes);
        if (memcmp(t->data, u->data, t->n_bytes) != 0) {
            fail_msg("%s differs", t->name);
        }
    }
    qn_gguf_close(x);
    qn_gguf_close(y);
}

static const char *gguf_in(const char *dir, const char *type)
{
    char name[128];
    (void)snprintf(name, sizeof name, "gguf/tiny-%s.gguf", type);
    return scratch_path(dir, name);
}

static float *run_logits(const char *path, quern_arithmetic arithmetic, size_t *n)
{
    static const int32_t ids[] = {5, 300, 17, 41, 500, 2, 2, 90};
    enum { N_IDS = sizeof ids / sizeof ids[0] };
    const quern_engine_options opt = {.n_threads = 2, .n_ctx = 64, .kv_type = QUERN_KV_F32, .arithmetic = arithmetic};
    quern_model *m = golden_open(path);
    quern_engine *e = golden_engine(m, &opt);
    size_t n_vocab = quern_model_get_info(m)->n_vocab;
    float *logits = golden_logits(e, ids, N_IDS, n_vocab, 3);
    *n = N_IDS * n_vocab;
    quern_engine_destroy(e);
    quern_model_close(m);
    return logits;
}

static void same_logits(const char *a, const char *b, quern_arithmetic arithmetic)
{
    size_t n, m;
    float *x = run_logits(a, arithmetic, &n), *y = run_logits(b, arithmetic, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n * sizeof *x);
    qn_free(x);
    qn_free(y);
}

/* Runs as, and converts to, what the weights are that codes times scales give; blocks cut by the edges too. */
static void fp8_is_codes_times_scales(void **state)
{
    (void)state;
    static const fp8_form forms[] = {{128, 128, QN_DTYPE_BF16, "weight_scale_inv"},
                                     {128, 128, QN_DTYPE_F32, "weight_scale_inv"},
                                     {96, 80, QN_DTYPE_F32, "weight_scale_inv"},
                                     {0, 0, QN_DTYPE_F32, "weight_scale"},
                                     {0, 0, QN_DTYPE_BF16, "weight_scale_inv"},
                                     {96, 40, QN_DTYPE_F32, "weight_scale_inv"}};    /* the last without kernels: qn_matrix_is_decoded */
    static const char *const models[] = {"qwen3", "llama3_rope", "mistral_headdim"}; /* 256, 192 and 64 columns */
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const char *model = models[i % 3];
        if (!have_model(model)) {
            continue;
        }
        char *fp8 = new_dir(), *plain = new_dir(), *a = new_dir(), *b = new_dir();
        write_fp8_pair(model, &forms[i], fp8, plain);
        same_logits(fp8, plain, QUERN_ARITHMETIC_AS_RUN);
        same_logits(fp8, plain, QUERN_ARITHMETIC_F32_ACTIVATIONS);
        run x = quantize(fp8, a, "gguf:Q4_K_M,gguf:F32,mlx:4bit-g32"), y = quantize(plain, b, "gguf:Q4_K_M,gguf:F32");
        assert_string_equal(qn_json_string(qn_json_get(qn_json_get(x.manifest, "source"), "format"), NULL), "safetensors");
        char first[1024];
        (void)snprintf(first, sizeof first, "%s", gguf_in(a, "Q4_K_M"));
        same_gguf_data(first, gguf_in(b, "Q4_K_M"));
        (void)snprintf(first, sizeof first, "%s", gguf_in(a, "F32"));
        same_gguf_data(first, gguf_in(b, "F32"));
        quern_model_close(golden_open(scratch_path(a, "mlx/4bit-g32")));
        qn_json_free(x.manifest);
        qn_json_free(y.manifest);
        drop_dir(fp8);
        drop_dir(plain);
        drop_dir(a);
        drop_dir(b);
    }
}

static void same_span(const qn_matrix *part, const qn_matrix *whole, size_t first_row, size_t first_col)
{
    float a[1024], b[1024];
    assert_true(part->dtype == QN_DTYPE_F8_E4M3 && whole->n_cols <= 1024);
    for (size_t r = 0; r < part->n_rows; r++) {
        qn_decode_fp8_row(part->data + r * part->row_bytes, &part->grid, part->grid_row + r, a, part->n_cols);
        qn_decode_fp8_row(whole->data + (first_row + r) * whole->row_bytes, &whole->grid, first_row + r, b, whole->n_cols);
        assert_memory_equal(a, b + first_col, part->n_cols * sizeof *a);
    }
}

/* A rank's rows and columns keep their factors, also where a cut goes through a block's rows. */
static void fp8_is_cut_with_its_scales(void **state)
{
    (void)state;
    static const fp8_form forms[] = {{24, 16, QN_DTYPE_F32, "weight_scale_inv"}, {0, 0, QN_DTYPE_F32, "weight_scale"}};
    if (!have_model("codellama_mha")) {
        skip();
    }
    for (size_t i = 0; i < 2; i++) {
        char *fp8 = new_dir(), *plain = new_dir();
        quern_error err = {0};
        qn_arena arena;
        qn_model_config config;
        qn_weights part;
        write_fp8_pair("codellama_mha", &forms[i], fp8, plain);
        quern_model *m = golden_open(fp8);
        qn_arena_init(&arena, 0);
        assert_ok(qn_shard_model((qn_shard){.world = 2, .rank = 1}, &m->config, &m->weights, &arena, &config, &part, &err));
        const qn_layer_weights *a = &part.layers[0], *b = &m->weights.layers[0];
        same_span(&a->q.w, &b->q.w, b->q.w.n_rows / 2, 0);
        same_span(&a->up.w, &b->up.w, b->up.w.n_rows / 2, 0);
        same_span(&a->o.w, &b->o.w, 0, b->o.w.n_cols / 2);
        same_span(&a->down.w, &b->down.w, 0, b->down.w.n_cols / 2);
        qn_arena_deinit(&arena);
        quern_model_close(m);
        drop_dir(fp8);
        drop_dir(plain);
    }
}

static void expect_failure(const char *source, const char *as, const char *formats, quern_status status, const char *word)
{
    char *dir = new_dir();
    run r = {.opt = {.source = source, .architecture = as, .output_dir = dir, .formats = formats, .n_threads = 2}};
    run_quantize(&r, 0);
    if (r.status != status || strstr(r.err.message, word) == NULL) {
        fail_msg("%s: status %s, message '%s'; expected %s with '%s'", source, quern_status_name(r.status), r.err.message,
                 quern_status_name(status), word);
    }
    assert_int_equal(count_files(dir), 0);
    drop_dir(dir);
}

static void poke_file(const char *path, uint64_t at, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    (void)fclose(f);
}

static uint64_t offset_of(const char *dir, const char *name)
{
    quern_error err = {0};
    qn_safetensors *s;
    assert_ok(qn_safetensors_open_dir(&s, dir, false, &err));
    const qn_tensor *t = qn_safetensors_find(s, name);
    assert_non_null(t);
    uint64_t at = t->file_offset;
    qn_safetensors_close(s);
    return at;
}

/* The tensors outside of feed-forward blocks, and in each layer a router and stacks of FP8 experts with one scale each. */
static void write_stacked_fp8(const char *dir)
{
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    static const uint8_t zeros[2 * 256 * 256];
    static const float one = 1.0f;
    static const uint64_t router[2] = {2, 256}, stack[3] = {2, 256, 256}, scale[1] = {1};
    quern_error err = {0};
    qn_safetensors *s;
    qn_safetensors_writer *w;
    copy_model("qwen3", dir);
    replace_in_file(scratch_path(dir, "config.json"), "Qwen3ForCausalLM", "Qwen3MoeForCausalLM");
    replace_in_file(scratch_path(dir, "config.json"), "\"model_type\": \"qwen3\",",
                    "\"model_type\": \"qwen3_moe\", \"num_experts\": 2, \"num_experts_per_tok\": 1, \"moe_intermediate_size\": 256, "
                    "\"norm_topk_prob\": true, \"decoder_sparse_step\": 1, \"mlp_only_layers\": [], "
                    "\"quantization_config\": {\"quant_method\": \"fp8\", \"activation_scheme\": \"static\"},");
    (void)unlink(scratch_path(dir, "model.safetensors"));
    assert_ok(qn_safetensors_open_dir(&s, model_dir("qwen3"), false, &err));
    assert_ok(qn_safetensors_writer_create(&w, scratch_path(dir, "model.safetensors"), &err));
    for (int pass = 0; pass < 2; pass++) {
        size_t at = 0;
        for (size_t i = 0; i < qn_safetensors_n_tensors(s); i++) {
            const qn_tensor *t = qn_safetensors_tensor_at(s, i);
            if (strstr(t->name, ".mlp.") == NULL) {
                assert_ok(pass == 0 ? qn_safetensors_declare(w, t->name, t->dtype, t->shape, t->n_dims, &err)
                                    : qn_safetensors_write_data(w, at++, 0, t->data, t->n_bytes, &err));
            }
        }
        for (size_t k = 0; k < 2 * 3; k++) {
            char name[128];
            if (k % 3 == 0) {
                (void)snprintf(name, sizeof name, "model.layers.%zu.mlp.gate.weight", k / 3);
                assert_ok(pass == 0 ? qn_safetensors_declare(w, name, QN_DTYPE_BF16, router, 2, &err)
                                    : qn_safetensors_write_data(w, at++, 0, zeros, 2 * 2 * 256, &err));
            }
            (void)snprintf(name, sizeof name, "model.layers.%zu.mlp.switch_mlp.%s.weight", k / 3, names[k % 3]);
            assert_ok(pass == 0 ? qn_safetensors_declare(w, name, QN_DTYPE_F8_E4M3, stack, 3, &err)
                                : qn_safetensors_write_data(w, at++, 0, zeros, sizeof zeros, &err));
            (void)snprintf(name, sizeof name, "model.layers.%zu.mlp.switch_mlp.%s.weight_scale", k / 3, names[k % 3]);
            assert_ok(pass == 0 ? qn_safetensors_declare(w, name, QN_DTYPE_F32, scale, 1, &err)
                                : qn_safetensors_write_data(w, at++, 0, &one, sizeof one, &err));
        }
        assert_ok(pass == 0 ? qn_safetensors_writer_begin_data(w, &err) : qn_safetensors_writer_commit(w, &err));
    }
    qn_safetensors_writer_destroy(w);
    qn_safetensors_close(s);
}

/* One scale beside all experts is no grid of any of them. */
static void stacked_fp8_is_refused(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    write_stacked_fp8(dir);
    expect_failure(dir, NULL, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "expected one tensor an expert");
    drop_dir(dir);
}

static void bad_fp8_is_named(void **state)
{
    (void)state;
    static const fp8_form form = {128, 128, QN_DTYPE_F32, "weight_scale_inv"};
    static const uint8_t nan_code = 0x7f;
    static const float infinity = INFINITY, beyond = -0x1p101f;
    if (!have_model("qwen3")) {
        skip();
    }
    char *fp8 = new_dir(), *plain = new_dir();
    const char *weights, *config;
    write_fp8_pair("qwen3", &form, fp8, plain);
    weights = scratch_path(fp8, "model.safetensors");
    poke_file(weights, offset_of(fp8, "model.layers.1.mlp.up_proj.weight") + 256 * 3 + 7, &nan_code, 1);
    expect_failure(fp8, NULL, "gguf:Q8_0", QUERN_ERROR_INVALID, "up_proj.weight holds a value that is not finite at row 3, column 7");
    write_fp8_pair("qwen3", &form, fp8, plain);
    weights = scratch_path(fp8, "model.safetensors");
    poke_file(weights, offset_of(fp8, "model.layers.1.mlp.up_proj.weight_scale_inv") + 4, &infinity, 4);
    expect_failure(fp8, NULL, "gguf:Q8_0", QUERN_ERROR_INVALID, "up_proj.weight_scale_inv");
    poke_file(weights, offset_of(fp8, "model.layers.1.mlp.up_proj.weight_scale_inv") + 4, &beyond, 4);
    expect_failure(fp8, NULL, "gguf:Q8_0", QUERN_ERROR_INVALID, "expected at most 1.26765e+30");
    write_fp8_pair("qwen3", &form, fp8, plain);
    weights = scratch_path(fp8, "model.safetensors");
    replace_in_file(weights, "layers.0.mlp.up_proj.weight_scale_inv", "layers.0.mlp.up_proj.weight_scale_xxx");
    expect_failure(fp8, NULL, "gguf:Q8_0", QUERN_ERROR_INVALID, "layers.0.mlp.up_proj.weight_scale_inv is missing");
    quern_error err = {0};
    quern_model *m;
    assert_int_equal(quern_model_open(&m, fp8, NULL, &err), QUERN_ERROR_INVALID);
    assert_non_null(strstr(err.message, "up_proj.weight_scale_inv is missing"));
    write_fp8_pair("qwen3", &form, fp8, plain);
    config = scratch_path(fp8, "config.json");
    replace_in_file(config, "[128, 128]", "[64, 128]");
    expect_failure(fp8, NULL, "gguf:Q8_0", QUERN_ERROR_INVALID, "one scale a block of 64 x 128");
    replace_in_file(scratch_path(fp8, "config.json"), "\"fp8\"", "\"gptq\"");
    expect_failure(fp8, NULL, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "gptq");
    drop_dir(fp8);
    drop_dir(plain);
}

/* ---- GGUF and MLX ---- */

/* Through GGUF in F32 or BF16, or MLX in BF16, nothing is lost: what is made of them is what is made of the checkpoint. */
static void detours_lose_nothing(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3", "llama3_rope", "qwen2_tied", "codellama_mha", "qwen3_moe", "mixtral", "smollm3"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        if (!have_model(models[i])) {
            continue;
        }
        char *dir = new_dir(), *from_f32 = new_dir(), *from_bf16 = new_dir(), *from_mlx = new_dir();
        run r = quantize(model_dir(models[i]), dir, "gguf:F32,gguf:BF16,gguf:Q4_K_M,mlx:bf16,mlx:4bit-g32");
        run f = quantize(gguf_in(dir, "F32"), from_f32, "gguf:Q4_K_M,gguf:BF16");
        run b = quantize(gguf_in(dir, "BF16"), from_bf16, "gguf:Q4_K_M,gguf:F32");
        run m = quantize(scratch_path(dir, "mlx/bf16"), from_mlx, "gguf:Q4_K_M,mlx:4bit-g32,mlx:bf16");
        assert_string_equal(qn_json_string(qn_json_get(qn_json_get(f.manifest, "source"), "format"), NULL), "gguf");
        assert_string_equal(qn_json_string(qn_json_get(qn_json_get(m.manifest, "source"), "format"), NULL), "mlx");
        char want[1024];
        (void)snprintf(want, sizeof want, "%s", gguf_in(dir, "Q4_K_M"));
        same_gguf_data(want, gguf_in(from_f32, "Q4_K_M"));
        same_gguf_data(want, gguf_in(from_bf16, "Q4_K_M"));
        same_gguf_data(want, gguf_in(from_mlx, "Q4_K_M"));
        (void)snprintf(want, sizeof want, "%s", gguf_in(dir, "BF16"));
        same_gguf_data(want, gguf_in(from_f32, "BF16"));
        same_logits(want, gguf_in(from_f32, "BF16"), QUERN_ARITHMETIC_AS_RUN);
        static const char *const folders[] = {"mlx/4bit-g32/model.safetensors", "mlx/bf16/model.safetensors", "mlx/4bit-g32/config.json"};
        for (size_t k = 0; k < 3; k++) {
            char x[65], y[65];
            quern_error err = {0};
            assert_ok(qn_sha256_file(scratch_path(dir, folders[k]), x, &err));
            assert_ok(qn_sha256_file(scratch_path(from_mlx, folders[k]), y, &err));
            assert_string_equal(x, y);
        }
        qn_json_free(r.manifest);
        qn_json_free(f.manifest);
        qn_json_free(b.manifest);
        qn_json_free(m.manifest);
        drop_dir(dir);
        drop_dir(from_f32);
        drop_dir(from_bf16);
        drop_dir(from_mlx);
    }
}

static void same_value(const qn_gguf_value *a, const qn_gguf_value *b)
{
    assert_true(a != NULL && b != NULL);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->n_bytes, b->n_bytes);
    assert_memory_equal(a->data, b->data, a->n_bytes);
}

/* A foreign file's keys are carried over; its own file type is not. */
static void metadata_are_carried_over(void **state)
{
    (void)state;
    const char *golden = qn_test_golden("gguf/base/llama3_rope.f16.gguf");
    if (golden == NULL) {
        print_message("SKIP: gguf/base/llama3_rope.f16.gguf: reference file is absent\n");
        skip();
    }
    quern_error err = {0};
    char *dir = new_dir();
    qn_gguf *a;
    run r = quantize(golden, dir, "gguf:F16,gguf:Q4_K_M");
    assert_ok(qn_gguf_open(&a, golden, false, &err));
    qn_gguf *b = open_gguf(dir, "F16"), *c = open_gguf(dir, "Q4_K_M");
    assert_int_equal(qn_gguf_n_keys(a) + 1, qn_gguf_n_keys(b)); /* quern.type */
    for (size_t i = 0; i < qn_gguf_n_keys(a); i++) {
        char key[128];
        const qn_gguf_value *v = qn_gguf_key_at(a, i);
        (void)snprintf(key, sizeof key, "%.*s", (int)v->key.len, v->key.data);
        same_value(v, qn_gguf_find(b, key));
        if (strcmp(key, "general.file_type") != 0) {
            same_value(v, qn_gguf_find(c, key));
        }
    }
    assert_int_equal(qn_gguf_n_tensors(a), qn_gguf_n_tensors(b));
    for (size_t i = 0; i < qn_gguf_n_tensors(a); i++) { /* rope_freqs.weight among them */
        const qn_tensor *t = qn_gguf_tensor_at(a, i), *u = qn_gguf_find_tensor(b, t->name);
        assert_true(u != NULL && u->dtype == t->dtype && u->n_bytes == t->n_bytes && memcmp(t->data, u->data, t->n_bytes) == 0);
    }
    qn_gguf_close(a);
    qn_gguf_close(b);
    qn_gguf_close(c);
    qn_json_free(r.manifest);
    drop_dir(dir);
}

/* The file in three parts, as llama.cpp splits: keys in the first. Returns the first. */
static const char *write_split(const char *dir, const char *whole)
{
    static char first[1024];
    quern_error err = {0};
    qn_gguf *g;
    assert_ok(qn_gguf_open(&g, whole, false, &err));
    size_t n = qn_gguf_n_tensors(g);
    for (uint32_t part = 0; part < 3; part++) {
        char name[64];
        qn_gguf_writer *w;
        size_t begin = n * part / 3, end = n * (part + 1) / 3;
        (void)snprintf(name, sizeof name, "tiny-BF16-%05u-of-00003.gguf", part + 1);
        const char *path = scratch_path(dir, name);
        assert_ok(qn_gguf_writer_create(&w, path, &err));
        for (size_t i = 0; part == 0 && i < qn_gguf_n_keys(g); i++) {
            assert_ok(qn_gguf_put_value(w, qn_gguf_key_at(g, i), &err));
        }
        assert_ok(qn_gguf_put_u32(w, "split.no", part, &err));
        assert_ok(qn_gguf_put_u32(w, "split.count", 3, &err));
        assert_ok(qn_gguf_put_u32(w, "split.tensors.count", (uint32_t)n, &err));
        for (size_t i = begin; i < end; i++) {
            const qn_tensor *t = qn_gguf_tensor_at(g, i);
            assert_ok(qn_gguf_declare(w, t->name, t->dtype, t->shape, t->n_dims, &err));
        }
        assert_ok(qn_gguf_writer_begin_data(w, &err));
        for (size_t i = begin; i < end; i++) {
            const qn_tensor *t = qn_gguf_tensor_at(g, i);
            assert_ok(qn_gguf_write_data(w, i - begin, 0, t->data, t->n_bytes, &err));
        }
        assert_ok(qn_gguf_writer_commit(w, &err));
        qn_gguf_writer_destroy(w);
        if (part == 0) {
            (void)snprintf(first, sizeof first, "%s", path);
        }
    }
    qn_gguf_close(g);
    return first;
}

static void split_gguf_is_one_source(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir(), *parts = new_dir(), *out = new_dir();
    run r = quantize(model_dir("qwen3"), dir, "gguf:BF16,gguf:Q4_K_M");
    run s = {.opt = {.source = write_split(parts, gguf_in(dir, "BF16")), .output_dir = out, .formats = "gguf:Q4_K_M", .n_threads = 2}};
    run_quantize(&s, 0);
    assert_int_equal(s.status, QUERN_OK);
    assert_int_equal(qn_json_length(qn_json_get(qn_json_get(s.manifest, "source"), "files")), 3);
    char want[1024];
    (void)snprintf(want, sizeof want, "%s", gguf_in(dir, "Q4_K_M"));
    same_gguf_data(want, gguf_in(out, "Q4_K_M")); /* its name is the source's without type and part */
    qn_gguf *g = open_gguf(out, "Q4_K_M");
    assert_null(qn_gguf_find(g, "split.count"));
    qn_gguf_close(g);
    qn_json_free(r.manifest);
    qn_json_free(s.manifest);
    drop_dir(dir);
    drop_dir(parts);
    drop_dir(out);
}

static void a_source_is_never_replaced(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    run r = quantize(model_dir("qwen3"), dir, "gguf:BF16,mlx:bf16");
    size_t n = count_files(dir);
    char source[1024];
    (void)snprintf(source, sizeof source, "%s", gguf_in(dir, "BF16"));
    run a = {.opt = {.source = source, .output_dir = dir, .formats = "gguf:Q8_0,gguf:BF16"}};
    run_quantize(&a, 0);
    assert_int_equal(a.status, QUERN_ERROR_USAGE);
    assert_non_null(strstr(a.err.message, "would replace the source"));
    (void)snprintf(source, sizeof source, "%s", scratch_path(dir, "mlx/bf16"));
    run b = {.opt = {.source = source, .output_dir = dir, .formats = "mlx:bf16"}};
    run_quantize(&b, 0);
    assert_int_equal(b.status, QUERN_ERROR_USAGE);
    assert_int_equal(count_files(dir), n);
    qn_json_free(r.manifest);
    drop_dir(dir);
}

static void quantized_sources(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir(), *out = new_dir();
    run r = quantize(model_dir("qwen3"), dir, "gguf:Q8_0,gguf:Q6_K,gguf:Q4_0,mlx:8bit,mlx:6bit,mlx:mxfp4");
    char q8[1024];
    (void)snprintf(q8, sizeof q8, "%s", gguf_in(dir, "Q8_0"));
    run a = quantize(q8, out, "gguf:Q8_0,gguf:F32");
    assert_true(warns(find_output(a.manifest, "Q8_0"), "quantized already (Q8_0)"));
    qn_gguf *x = open_gguf(dir, "Q8_0"), *y = open_gguf(out, "F32");
    for (size_t i = 0; i < qn_gguf_n_tensors(x); i++) { /* read as what its decoder gives */
        const qn_tensor *t = qn_gguf_tensor_at(x, i);
        float *want = decode(t);
        assert_memory_equal(want, qn_gguf_find_tensor(y, t->name)->data, t->n_elements * sizeof *want);
        free(want);
    }
    qn_gguf_close(x);
    qn_gguf_close(y);
    run b = quantize(scratch_path(dir, "mlx/8bit-g64"), out, "gguf:F32,mlx:4bit");
    assert_true(warns(find_output(b.manifest, "F32"), "quantized already (MLX 8 bit)"));
    char eight[1024];
    (void)snprintf(eight, sizeof eight, "%s", scratch_path(dir, "mlx/8bit-g64"));
    same_logits(eight, gguf_in(out, "F32"), QUERN_ARITHMETIC_F32_ACTIVATIONS);
    expect_failure(gguf_in(dir, "Q6_K"), NULL, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "has type Q6_K");
    expect_failure(gguf_in(dir, "Q4_0"), NULL, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "has type Q");
    expect_failure(scratch_path(dir, "mlx/6bit-g64"), NULL, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "already quantized by MLX, to 6 bits");
    expect_failure(scratch_path(dir, "mlx/mxfp4-g32"), NULL, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "mxfp4");
    qn_json_free(r.manifest);
    qn_json_free(a.manifest);
    qn_json_free(b.manifest);
    drop_dir(dir);
    drop_dir(out);
}

static void same_file(const char *a, const char *b)
{
    char x[65], y[65];
    quern_error err = {0};
    assert_ok(qn_sha256_file(a, x, &err));
    assert_ok(qn_sha256_file(b, y, &err));
    assert_string_equal(x, y);
}

/* The ids of a text in both folders. */
static void same_ids(const char *a, const char *b)
{
    static const char text[] = "def f(x):\n    return x ** 2  # caf\xc3\xa9 12345\n<|im_start|>user\nHi.<|im_end|>\r\n\t e\xcc\x81";
    const quern_model_options only = {.vocabulary_only = true};
    quern_error err = {0};
    quern_ids ids[2] = {{0}, {0}};
    const char *paths[2] = {a, b};
    for (size_t i = 0; i < 2; i++) {
        quern_model *m;
        assert_ok(quern_model_open(&m, paths[i], &only, &err));
        assert_ok(quern_tokenizer_encode(quern_model_get_tokenizer(m), text, sizeof text - 1, QUERN_ENCODE_PARSE_SPECIAL, &ids[i], &err));
        quern_model_close(m);
    }
    assert_true(ids[0].len > 10);
    assert_int_equal(ids[0].len, ids[1].len);
    assert_memory_equal(ids[0].data, ids[1].data, ids[0].len * sizeof *ids[0].data);
    quern_ids_deinit(&ids[0]);
    quern_ids_deinit(&ids[1]);
}

/* A folder from GGUF: the weights of the folder from the checkpoint, and texts that mean the same. */
static void mlx_from_gguf(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3",     "llama3_rope", "qwen2_tied", "codellama_mha",
                                         "qwen3_moe", "mixtral",     "smollm3",    "qwen3_yarn"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        if (!have_model(models[i])) {
            continue;
        }
        char *dir = new_dir(), *out = new_dir();
        run r = quantize(model_dir(models[i]), dir, "gguf:BF16,mlx:bf16,mlx:4bit-g32");
        run m = quantize(gguf_in(dir, "BF16"), out, "mlx:bf16,mlx:4bit-g32");
        static const char *const folders[] = {"mlx/bf16", "mlx/4bit-g32"};
        for (size_t k = 0; k < 2; k++) {
            char want[1024], weights[64];
            (void)snprintf(weights, sizeof weights, "%s/model.safetensors", folders[k]);
            (void)snprintf(want, sizeof want, "%s", scratch_path(dir, weights));
            same_file(want, scratch_path(out, weights));
            (void)snprintf(want, sizeof want, "%s", scratch_path(dir, folders[k]));
            same_logits(want, scratch_path(out, folders[k]), QUERN_ARITHMETIC_F32_ACTIVATIONS);
            same_ids(want, scratch_path(out, folders[k]));
            quern_model *a = golden_open(want), *b = golden_open(scratch_path(out, folders[k]));
            const char *template_a = quern_model_get_template_source(a), *template_b = quern_model_get_template_source(b);
            assert_true((template_a == NULL) == (template_b == NULL) && (template_a == NULL || strcmp(template_a, template_b) == 0));
            quern_sampling x = quern_model_get_sampling(a), y = quern_model_get_sampling(b);
            assert_true(x.temperature == y.temperature && x.top_k == y.top_k && x.top_p == y.top_p && x.repeat_penalty == y.repeat_penalty);
            quern_model_close(a);
            quern_model_close(b);
        }
        qn_json_free(r.manifest);
        qn_json_free(m.manifest);
        drop_dir(dir);
        drop_dir(out);
    }
    const char *spm = qn_test_shared("models/tinystories-260k/tinystories-260k-f32.gguf");
    if (spm != NULL) {
        expect_failure(spm, NULL, "mlx:8bit", QUERN_ERROR_UNSUPPORTED, "SentencePiece");
    } else {
        print_message("SKIP: models/tinystories-260k: not here\n");
    }
}

/* ---- architectures by another name ---- */

static void unknown_architectures_need_a_name(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *source = new_dir(), *a = new_dir(), *b = new_dir(), *c = new_dir();
    copy_model("qwen3", source);
    replace_in_file(scratch_path(source, "config.json"), "Qwen3ForCausalLM", "FancyForCausalLM");
    replace_in_file(scratch_path(source, "config.json"), "\"model_type\": \"qwen3\"", "\"model_type\": \"fancy\"");
    expect_failure(source, NULL, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "'fancy'");
    expect_failure(source, NULL, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "--as ARCH");
    expect_failure(source, "fancy", "gguf:Q8_0", QUERN_ERROR_USAGE, "'fancy'");
    expect_failure(source, "qwen2", "gguf:Q8_0", QUERN_ERROR_INVALID, "self_attn.q_proj.bias is missing");
    expect_failure(source, "llama", "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED,
                   "_norm.weight has no place in the architecture llama that --as names");
    run x = {.opt = {.source = source, .architecture = "qwen3", .output_dir = a, .name = "tiny", .formats = "gguf:Q8_0,gguf:F32,mlx:4bit"}};
    run_quantize(&x, 0);
    assert_int_equal(x.status, QUERN_OK);
    run y = quantize(model_dir("qwen3"), b, "gguf:Q8_0,mlx:4bit");
    char first[1024];
    (void)snprintf(first, sizeof first, "%s", gguf_in(a, "Q8_0"));
    same_gguf_data(first, gguf_in(b, "Q8_0"));
    same_logits(first, gguf_in(b, "Q8_0"), QUERN_ARITHMETIC_AS_RUN);
    (void)snprintf(first, sizeof first, "%s", scratch_path(a, "mlx/4bit-g64")); /* its config.json names qwen3 */
    same_logits(first, scratch_path(b, "mlx/4bit-g64"), QUERN_ARITHMETIC_AS_RUN);
    /* a GGUF file whose keys begin with another word of the same length */
    const char *gguf = gguf_in(a, "F32");
    for (size_t i = 0; i < 32; i++) {
        quern_error err = {0};
        char *data;
        size_t size;
        assert_ok(qn_file_read(&data, &size, gguf, (size_t)64 << 20, &err));
        bool more = memmem(data, 4096, "qwen3", 5) != NULL;
        qn_free(data);
        if (!more) {
            break;
        }
        replace_in_file(gguf, "qwen3", "fancy");
    }
    (void)snprintf(first, sizeof first, "%s", gguf);
    expect_failure(first, NULL, "gguf:Q8_0", QUERN_ERROR_UNSUPPORTED, "'fancy'");
    run z = {.opt = {.source = first, .architecture = "qwen3", .output_dir = c, .name = "tiny", .formats = "gguf:Q8_0"}};
    run_quantize(&z, 0);
    assert_int_equal(z.status, QUERN_OK);
    (void)snprintf(first, sizeof first, "%s", gguf_in(c, "Q8_0"));
    same_gguf_data(first, gguf_in(b, "Q8_0"));
    same_logits(first, gguf_in(b, "Q8_0"), QUERN_ARITHMETIC_AS_RUN);
    qn_json_free(x.manifest);
    qn_json_free(y.manifest);
    qn_json_free(z.manifest);
    drop_dir(source);
    drop_dir(a);
    drop_dir(b);
    drop_dir(c);
}

/* ---- hostile sources ---- */

/* A spoiled file either converts (the change did not matter) or is refused, with nothing left; it never breaks anything. */
static void spoil(const char *path, uint64_t header_bytes, size_t n_draws)
{
    quern_error err = {0};
    char *good;
    size_t size;
    assert_ok(qn_file_read(&good, &size, path, (size_t)64 << 20, &err));
    for (size_t i = 0; i < n_draws; i++) {
        char *bad = malloc(size);
        assert_non_null(bad);
        memcpy(bad, good, size);
        size_t new_size = size;
        if (i % 4 == 0) {
            new_size = (size_t)(random_u64() % size);
        } else {
            for (size_t k = 0; k < 1 + i % 3; k++) {
                bad[random_u64() % header_bytes] = (char)(i % 2 == 0 ? random_u32() : '0' + random_u32() % 10);
            }
        }
        FILE *f = fopen(path, "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(bad, 1, new_size, f), new_size);
        (void)fclose(f);
        free(bad);
        char *dir = new_dir(), *base = strrchr(path, '/');
        char folder[1024];
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(base - path), path);
        bool gguf = strstr(base, ".gguf") != NULL;
        run r = {.opt = {.source = gguf ? path : folder, .output_dir = dir, .name = "tiny", .formats = "gguf:Q8_0", .n_threads = 1}};
        run_quantize(&r, 0);
        if (r.status == QUERN_OK) {
            assert_true(count_files(dir) == 2 && new_size == size);
        } else {
            assert_int_equal(count_files(dir), 0);
        }
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(good, 1, size, f), size);
    (void)fclose(f);
    qn_free(good);
}

static void spoiled_sources_leave_nothing(void **state)
{
    (void)state;
    static const fp8_form form = {128, 128, QN_DTYPE_F32, "weight_scale_inv"};
    if (!have_model("qwen3")) {
        skip();
    }
    char *fp8 = new_dir(), *plain = new_dir(), *dir = new_dir();
    char path[1024];
    write_fp8_pair("qwen3", &form, fp8, plain);
    (void)snprintf(path, sizeof path, "%s", scratch_path(fp8, "model.safetensors"));
    spoil(path, 4000, 60);
    (void)snprintf(path, sizeof path, "%s", scratch_path(fp8, "config.json"));
    spoil(path, 300, 30);
    run r = quantize(model_dir("qwen3"), dir, "gguf:BF16,mlx:8bit");
    (void)snprintf(path, sizeof path, "%s", gguf_in(dir, "BF16"));
    spoil(path, 14000, 60);
    (void)snprintf(path, sizeof path, "%s", scratch_path(dir, "mlx/8bit-g64/model.safetensors"));
    spoil(path, 6000, 40);
    qn_json_free(r.manifest);
    drop_dir(fp8);
    drop_dir(plain);
    drop_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp8_is_codes_times_scales),
        cmocka_unit_test(fp8_is_cut_with_its_scales),
        cmocka_unit_test(bad_fp8_is_named),
        cmocka_unit_test(stacked_fp8_is_refused),
        cmocka_unit_test(detours_lose_nothing),
        cmocka_unit_test(metadata_are_carried_over),
        cmocka_unit_test(split_gguf_is_one_source),
        cmocka_unit_test(a_source_is_never_replaced),
        cmocka_unit_test(quantized_sources),
        cmocka_unit_test(mlx_from_gguf),
        cmocka_unit_test(unknown_architectures_need_a_name),
        cmocka_unit_test(spoiled_sources_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
