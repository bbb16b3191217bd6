/* load.c - opening a model: finds out what the path is, reads configuration, tokenizer and template, binds the weights.
 *
 * Owns the life of a quern_model. Knows no format's bytes (src/formats) and no tensor's name (bind.c). */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/float_mode.h"
#include "base/fs.h"
#include "model/fp8.h"
#include "model/model_int.h"

/* Largest config.json or generation_config.json that is read. Published ones are a few KiB; MLX overrides of a large MoE reach 1 MiB. */
enum { CONFIG_BYTES_MAX = 16 << 20 };

static quern_status create_model(quern_model **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_model *m = qn_calloc(1, sizeof *m);
    if (m == NULL) {
        QN_FAIL_MEMORY(err, "a model", sizeof *m);
    }
    qn_arena_init(&m->arena, 0);
done:
    *out = m;
    return status;
}

void quern_model_close(quern_model *m)
{
    if (m == NULL) {
        return;
    }
    quern_template_destroy(m->plain_template.parsed);
    quern_template_destroy(m->tool_template.parsed);
    quern_tokenizer_destroy(m->tokenizer);
    qn_gguf_close(m->gguf);
    qn_safetensors_close(m->safetensors);
    qn_arena_deinit(&m->arena);
    qn_free(m);
}

/* ---- what the model says of itself ---- */

static const qn_tensor *tensor_at(const quern_model *m, size_t i)
{
    return m->gguf != NULL ? qn_gguf_tensor_at(m->gguf, i) : qn_safetensors_tensor_at(m->safetensors, i);
}

static size_t n_tensors(const quern_model *m)
{
    if (m->gguf != NULL) {
        return qn_gguf_n_tensors(m->gguf);
    }
    return m->safetensors != NULL ? qn_safetensors_n_tensors(m->safetensors) : 0;
}

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

/* Elements that a tensor stands for: MLX's packed words count as the weights in them, its scales and biases as none. */
static uint64_t parameters_of(const quern_model *m, const qn_tensor *t)
{
    if (m->config.mlx && (has_suffix(t->name, ".scales") || has_suffix(t->name, ".biases"))) {
        return 0;
    }
    if (m->config.mlx && t->dtype == QN_DTYPE_U32 && has_suffix(t->name, ".weight")) {
        char module[256];
        (void)snprintf(module, sizeof module, "%.*s", (int)(strlen(t->name) - strlen(".weight")), t->name);
        qn_affine a = qn_config_affine_for(&m->config, module);
        return a.bits != 0 ? t->n_elements * 32 / a.bits : t->n_elements;
    }
    bool scale = m->config.quant_method != NULL && qn_fp8_is_scale_name(t->name);
    return scale || strcmp(t->name, "rope_freqs.weight") == 0 ? 0 : t->n_elements;
}

static const char *describe_weights(quern_model *m, const uint64_t *bytes_by_type)
{
    int most = 0;
    for (int i = 0; i < QN_DTYPE_COUNT; i++) {
        most = bytes_by_type[i] > bytes_by_type[most] ? i : most;
    }
    if (m->config.mlx && most == QN_DTYPE_U32) {
        char text[64];
        int n = m->config.mxfp4 ? snprintf(text, sizeof text, "MLX mxfp4 g%u", m->config.affine.group)
                                : snprintf(text, sizeof text, "MLX %u-bit g%u", m->config.affine.bits, m->config.affine.group);
        const char *copy = n > 0 ? qn_arena_strndup(&m->arena, text, (size_t)n) : NULL;
        return copy != NULL ? copy : "MLX";
    }
    return qn_dtype_get((qn_dtype)most)->name;
}

static void fill_sizes(quern_model *m)
{
    uint64_t bytes_by_type[QN_DTYPE_COUNT] = {0};
    quern_model_info *info = &m->info;
    for (size_t i = 0; i < n_tensors(m); i++) {
        const qn_tensor *t = tensor_at(m, i);
        info->n_parameters += parameters_of(m, t);
        info->weight_bytes += t->n_bytes;
        bytes_by_type[t->dtype] += t->n_bytes;
    }
    info->weights = describe_weights(m, bytes_by_type);
}

/* Control tokens that end a turn in the published chat formats: a base model's file often names only its end of text. */
static const char *const turn_ends[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>",
                                        "<|end|>",    "<|return|>", "<|call|>",   "<end_of_turn>",   "<|EOT|>"};
enum { N_TURN_ENDS = sizeof turn_ends / sizeof turn_ends[0] };
static_assert(N_TURN_ENDS + 2 <= QN_STOP_IDS_BESIDES, "room for every end token");

static size_t add_id(int32_t *ids, size_t n, int64_t id)
{
    bool known = id < 0;
    for (size_t k = 0; k < n && !known; k++) {
        known = ids[k] == id;
    }
    if (!known) {
        ids[n++] = (int32_t)id;
    }
    return n;
}

size_t qn_model_list_stop_ids(const qn_model_config *c, const quern_tokenizer *t, int32_t *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_stop_ids; i++) {
        ids[n++] = c->stop_ids[i];
    }
    n = add_id(ids, n, c->eos_id);
    if (t != NULL) {
        n = add_id(ids, n, quern_tokenizer_get_info(t)->eos_id);
        for (size_t i = 0; i < N_TURN_ENDS; i++) {
            int32_t id = quern_tokenizer_find(t, turn_ends[i], strlen(turn_ends[i]));
            n = add_id(ids, n, id >= 0 && quern_tokenizer_get_kind(t, id) == QUERN_TOKEN_CONTROL ? id : -1);
        }
    }
    return n;
}

static quern_status fill_stop_ids(quern_model *m, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t cap = m->config.n_stop_ids + QN_STOP_IDS_BESIDES;
    int32_t *ids = qn_arena_alloc_array(&m->arena, cap, sizeof *ids);
    if (ids == NULL) {
        QN_FAIL_MEMORY(err, "stop ids", cap * sizeof *ids);
    }
    m->info.stop_ids = ids;
    m->info.n_stop_ids = qn_model_list_stop_ids(&m->config, m->tokenizer, ids);
done:
    return status;
}

static quern_status check_vocabulary(const quern_model *m, const char *path, quern_error *err)
{
    if (m->tokenizer == NULL || !m->has_weights) {
        return QUERN_OK;
    }
    size_t n = quern_tokenizer_get_info(m->tokenizer)->n_tokens;
    if (n > m->config.n_vocab || (m->gguf != NULL && n != m->config.n_vocab)) {
        return qn_error_set(err, QUERN_ERROR_INVALID, "%s: the tokenizer has %zu tokens, but the embedding has %u rows", path, n,
                            m->config.n_vocab);
    }
    return QUERN_OK;
}

/* What a vocabulary needs of a configuration: nothing. */
static qn_model_config no_config(void) { return (qn_model_config){.architecture = "", .bos_id = -1, .eos_id = -1, .pad_id = -1}; }

static quern_status fill_info(quern_model *m, const char *path, const char *format, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &m->config;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    char *own = qn_arena_strndup(&m->arena, path, n);
    if (own == NULL) {
        QN_FAIL_MEMORY(err, "the model's path", n + 1);
    }
    m->info = (quern_model_info){.name = c->name != NULL ? c->name : qn_path_base(own),
                                 .path = own,
                                 .format = format,
                                 .architecture = c->architecture,
                                 .n_layers = c->n_layers,
                                 .n_heads = c->n_heads,
                                 .n_kv_heads = c->n_kv_heads,
                                 .head_dim = c->head_dim,
                                 .hidden_size = c->hidden_size,
                                 .ffn_size = c->ffn_size,
                                 .n_vocab = c->n_vocab,
                                 .n_experts = c->n_experts,
                                 .n_experts_used = c->n_experts_used,
                                 .n_ctx_train = c->n_ctx_train,
                                 .tied_embeddings = c->tied_embeddings};
    fill_sizes(m);
    QN_TRY(fill_stop_ids(m, err));
    QN_TRY(check_vocabulary(m, own, err));
done:
    return status;
}

/* ---- GGUF ---- */

static quern_status finish_gguf(quern_model *m, const char *path, const quern_model_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (opt->vocabulary_only) {
        m->config = no_config();
    } else {
        QN_TRY(qn_config_read_gguf_as(&m->config, &m->arena, m->gguf, opt->architecture, err));
    }
    if (!opt->without_tokenizer) {
        QN_TRY(qn_model_read_gguf_tokenizer(m, err));
    }
    if (!opt->without_weights && !opt->vocabulary_only) {
        QN_TRY(qn_model_bind_weights(m, err));
    }
    QN_TRY(fill_info(m, path, "gguf", err));
done:
    return status;
}

static quern_status open_gguf(quern_model *m, const char *path, const quern_model_options *opt, quern_error *err)
{
    quern_status status = qn_gguf_open(&m->gguf, path, opt->copy_weights, err);
    m->is_copied = opt->copy_weights;
    return status == QUERN_OK ? finish_gguf(m, path, opt, err) : status;
}

/* ---- folders ---- */

static quern_status read_dir_config(quern_model *m, const char *dir, const char *as, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *config = NULL, *generation = NULL;
    size_t config_len = 0, generation_len = 0;
    bool there;
    char *config_path = qn_path_join(dir, "config.json"), *generation_path = qn_path_join(dir, "generation_config.json");
    if (config_path == NULL || generation_path == NULL) {
        QN_FAIL_MEMORY(err, dir, strlen(dir) + 32);
    }
    QN_TRY(qn_file_find(config_path, &there, err));
    if (!there) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no config.json in this folder; expected a Hugging Face or MLX model folder", dir);
    }
    QN_TRY(qn_file_read(&config, &config_len, config_path, CONFIG_BYTES_MAX, err));
    QN_TRY(qn_file_find(generation_path, &there, err));
    if (there) {
        QN_TRY(qn_file_read(&generation, &generation_len, generation_path, CONFIG_BYTES_MAX, err));
    }
    QN_TRY(qn_config_read_hf_as(&m->config, &m->arena, config, config_len, config_path, generation, generation_len, as, err));
done:
    qn_free(config);
    qn_free(generation);
    qn_free(config_path);
    qn_free(generation_path);
    return status;
}

static quern_status open_dir(quern_model *m, const char *dir, const quern_model_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (opt->vocabulary_only) {
        m->config = no_config();
    } else {
        QN_TRY(read_dir_config(m, dir, opt->architecture, err));
    }
    QN_TRY(qn_model_read_dir_text(m, dir, !opt->without_tokenizer, err));
    if (!opt->without_weights && !opt->vocabulary_only) {
        m->is_copied = opt->copy_weights;
        QN_TRY(qn_safetensors_open_dir(&m->safetensors, dir, opt->copy_weights, err));
        QN_TRY(qn_model_bind_weights(m, err));
    }
    QN_TRY(fill_info(m, dir, m->config.mlx ? "mlx" : "safetensors", err));
done:
    return status;
}

/* ---- public ---- */

static quern_status open_path(quern_model *m, const char *path, const quern_model_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (!qn_path_exists(path)) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no such file or folder", path);
    }
    if (qn_path_is_directory(path)) {
        return open_dir(m, path, opt, err);
    }
    if (has_suffix(path, ".safetensors") || has_suffix(path, ".json")) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: a part of a model; give the folder that holds it", path);
    }
    if (has_suffix(path, ".bin") || has_suffix(path, ".pt") || has_suffix(path, ".pth")) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: pickled weights can run code and are never read; expected GGUF or safetensors", path);
    }
    QN_TRY(open_gguf(m, path, opt, err));
done:
    return status;
}

quern_status quern_model_open(quern_model **out, const char *path, const quern_model_options *opt, quern_error *err)
{
    static const quern_model_options defaults = {0};
    quern_status status = QUERN_OK;
    quern_model *m = NULL;
    const qn_float_mode before = qn_float_mode_enter(); /* texts become numbers */
    *out = NULL;
    if (path == NULL) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "no path of a model was given");
    }
    QN_TRY(create_model(&m, err));
    QN_TRY(open_path(m, path, opt != NULL ? opt : &defaults, err));
    *out = m;
    m = NULL;
done:
    qn_float_mode_leave(before);
    quern_model_close(m);
    return status;
}

quern_status qn_model_open_parts(quern_model **out, const qn_model_parts *parts, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_model *m = NULL;
    const qn_float_mode before = qn_float_mode_enter();
    *out = NULL;
    status = create_model(&m, err);
    if (status != QUERN_OK) {
        qn_safetensors_close(parts->weights);
        goto done;
    }
    m->safetensors = parts->weights;
    QN_TRY(qn_config_read_hf(&m->config, &m->arena, parts->config, parts->config_len, parts->path, NULL, 0, err));
    if (parts->tokenizer != NULL) {
        QN_TRY(quern_tokenizer_create_from_json(&m->tokenizer, parts->tokenizer, parts->tokenizer_len, parts->tokenizer_config,
                                                parts->tokenizer_config_len, err));
    }
    QN_TRY(qn_model_bind_weights(m, err));
    QN_TRY(fill_info(m, parts->path, "mlx", err));
    *out = m;
    m = NULL;
done:
    qn_float_mode_leave(before);
    quern_model_close(m);
    return status;
}

quern_status quern_model_open_memory(quern_model **out, const void *data, size_t size, const char *name, const quern_model_options *opt,
                                     quern_error *err)
{
    static const quern_model_options defaults = {0};
    quern_status status = QUERN_OK;
    quern_model *m = NULL;
    const qn_float_mode before = qn_float_mode_enter();
    *out = NULL;
    QN_TRY(create_model(&m, err));
    QN_TRY(qn_gguf_parse(&m->gguf, data, size, name, err));
    QN_TRY(finish_gguf(m, name, opt != NULL ? opt : &defaults, err));
    *out = m;
    m = NULL;
done:
    qn_float_mode_leave(before);
    quern_model_close(m);
    return status;
}

const quern_model_info *quern_model_get_info(const quern_model *m) { return &m->info; }
const quern_tokenizer *quern_model_get_tokenizer(const quern_model *m) { return m->tokenizer; }
const quern_template *quern_model_get_template(const quern_model *m) { return m->plain_template.parsed; }
const char *quern_model_get_template_source(const quern_model *m) { return m->plain_template.source; }
const quern_template *quern_model_get_tool_template(const quern_model *m)
{
    return m->tool_template.source != NULL ? m->tool_template.parsed : m->plain_template.parsed;
}
const char *quern_model_get_tool_template_source(const quern_model *m)
{
    return m->tool_template.source != NULL ? m->tool_template.source : m->plain_template.source;
}

quern_sampling quern_model_get_sampling(const quern_model *m)
{
    return m->config.has_sampling ? m->config.sampling : quern_sampling_default();
}
