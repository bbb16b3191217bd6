/* config_gguf.c - the configuration in GGUF metadata: keys "ARCHITECTURE.name", and what llama.cpp fixes without a key.
 *
 * Not in metadata: llama3 rope scaling (a tensor, rope_freqs.weight), tied embeddings and biases (presence of tensors), the window of
 * Mistral and Mixtral (architecture llama has none). SmolLM3 and gpt-oss have fixed layer patterns. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/vmath.h"
#include "model/config_int.h"

enum { ARCHITECTURE_MAX = 64 }; /* bytes of a name that keys begin with */

typedef struct source {
    const qn_gguf *gguf;
    const char *arch;
    char key[128]; /* the last one asked for */
    quern_error *err;
} source;

static const struct {
    const char *name;
    qn_family family;
} families[] = {{"qwen2", QN_FAMILY_QWEN2},        {"qwen3", QN_FAMILY_QWEN3},     {"llama", QN_FAMILY_LLAMA},
                {"qwen3moe", QN_FAMILY_QWEN3_MOE}, {"smollm3", QN_FAMILY_SMOLLM3}, {"gpt-oss", QN_FAMILY_GPT_OSS}};

static const char *set_key(source *s, const char *name)
{
    (void)snprintf(s->key, sizeof s->key, "%s.%s", s->arch, name);
    return s->key;
}

static quern_status fail_range(const source *s, uint64_t value, uint32_t min, uint32_t max)
{
    return qn_error_set(s->err, QUERN_ERROR_INVALID, "%s: key '%s' is %" PRIu64 ", expected an integer from %" PRIu32 " to %" PRIu32,
                        qn_gguf_path(s->gguf), s->key, value, min, max);
}

/* Leaves *out as it is where the key is absent. */
static quern_status get_uint(source *s, const char *name, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t v = 0;
    bool found;
    quern_status status = qn_gguf_get_u64(s->gguf, set_key(s, name), &v, &found, s->err);
    if (status == QUERN_OK && found && (v < min || v > max)) {
        return fail_range(s, v, min, max);
    }
    if (status == QUERN_OK && found) {
        *out = (uint32_t)v;
    }
    return status;
}

static quern_status fail_missing(const source *s, const char *expected)
{
    return qn_error_set(s->err, QUERN_ERROR_INVALID, "%s: key '%s' is missing, expected %s", qn_gguf_path(s->gguf), s->key, expected);
}

static quern_status need_uint(source *s, const char *name, uint32_t min, uint32_t max, uint32_t *out)
{
    if (qn_gguf_find(s->gguf, set_key(s, name)) == NULL) {
        return fail_missing(s, "an integer");
    }
    return get_uint(s, name, min, max, out);
}

/* A finite number in [min, max], or above min if `above`. `key` is whole. */
static quern_status get_real_key(const source *s, const char *key, double min, bool above, double max, double *out, bool *found)
{
    double v = 0;
    quern_status status = qn_gguf_get_f64(s->gguf, key, &v, found, s->err);
    if (status != QUERN_OK || !*found) {
        return status;
    }
    if (!isfinite(v) || v < min || (above && v <= min) || v > max) {
        return qn_error_set(s->err, QUERN_ERROR_INVALID, "%s: key '%s' is %g, expected a number %s %g and at most %g",
                            qn_gguf_path(s->gguf), key, v, above ? "above" : "from", min, max);
    }
    *out = v;
    return QUERN_OK;
}

static quern_status get_real(source *s, const char *name, double *out)
{
    bool found;
    return get_real_key(s, set_key(s, name), 0, true, 1e300, out, &found);
}

/* The rows of `as`; Hugging Face's names serve too where GGUF has no other meaning for them. */
static quern_status choose_family(const char *as, qn_model_config *c, quern_error *err)
{
    static const struct {
        const char *hf, *gguf;
    } others[] = {{"qwen3_moe", "qwen3moe"}, {"mistral", "llama"}, {"mixtral", "llama"}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        as = strcmp(as, others[i].hf) == 0 ? others[i].gguf : as;
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strcmp(as, families[i].name) == 0) {
            c->architecture = families[i].name;
            c->family = families[i].family;
            return QUERN_OK;
        }
    }
    return qn_error_set(err, QUERN_ERROR_USAGE,
                        "'%.80s' is no architecture that this version knows; expected qwen2, qwen3, qwen3moe, llama or smollm3", as);
}

static quern_status read_architecture(source *s, qn_arena *arena, const char *as, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    qn_span name;
    bool found;
    const char *path = qn_gguf_path(s->gguf);
    QN_TRY(qn_gguf_get_string(s->gguf, "general.architecture", &name, &found, s->err));
    if (!found) {
        QN_FAIL(s->err, QUERN_ERROR_INVALID, "%s: key 'general.architecture' is missing, expected the name of a model's architecture",
                path);
    }
    char *own = qn_arena_strndup(arena, name.data, name.len < ARCHITECTURE_MAX ? name.len : ARCHITECTURE_MAX);
    if (own == NULL) {
        QN_FAIL_MEMORY(s->err, "the architecture's name", name.len + 1);
    }
    if (as != NULL) {
        QN_TRY(choose_family(as, c, s->err));
    }
    for (size_t i = 0; i < sizeof families / sizeof families[0] && c->architecture == NULL; i++) {
        if (name.len == strlen(families[i].name) && memcmp(name.data, families[i].name, name.len) == 0) {
            c->architecture = families[i].name;
            c->family = families[i].family;
        }
    }
    if (c->architecture == NULL) {
        QN_FAIL(s->err, QUERN_ERROR_UNSUPPORTED,
                "%s: key 'general.architecture' is '%.*s', expected qwen2, qwen3, qwen3moe, llama, smollm3 or gpt-oss (quantize --as ARCH "
                "treats it as one of these if every tensor fits)",
                path, qn_name_shown(name.data, name.len), name.data);
    }
    s->arch = own; /* keys begin with the file's own word */
    QN_TRY(qn_gguf_get_string(s->gguf, "general.name", &name, &found, s->err));
    if (found && name.len > 0) {
        c->name = qn_arena_strndup(arena, name.data, name.len);
        if (c->name == NULL) {
            QN_FAIL_MEMORY(s->err, "the model's name", name.len + 1);
        }
    }
done:
    return status;
}

static quern_status read_sizes(source *s, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    uint32_t value_dim = 0;
    QN_TRY(need_uint(s, "block_count", 1, QN_CONFIG_LAYERS_MAX, &c->n_layers));
    QN_TRY(need_uint(s, "embedding_length", 1, QN_CONFIG_HIDDEN_MAX, &c->hidden_size));
    QN_TRY(need_uint(s, "context_length", 1, INT32_MAX, &c->n_ctx_train));
    QN_TRY(need_uint(s, "attention.head_count", 1, QN_CONFIG_HEADS_MAX, &c->n_heads));
    c->n_kv_heads = c->n_heads;
    QN_TRY(get_uint(s, "attention.head_count_kv", 1, QN_CONFIG_HEADS_MAX, &c->n_kv_heads));
    QN_TRY(get_uint(s, "attention.key_length", 2, QN_CONFIG_HEAD_DIM_MAX, &c->head_dim));
    value_dim = c->head_dim;
    QN_TRY(get_uint(s, "attention.value_length", 2, QN_CONFIG_HEAD_DIM_MAX, &value_dim));
    if (value_dim != c->head_dim) {
        QN_FAIL(s->err, QUERN_ERROR_UNSUPPORTED,
                "%s: key '%s' is %" PRIu32 ", expected the same as attention.key_length, which is %" PRIu32, qn_gguf_path(s->gguf), s->key,
                value_dim, c->head_dim);
    }
    QN_TRY(get_uint(s, "rope.dimension_count", 2, QN_CONFIG_HEAD_DIM_MAX, &c->rope.n_rot));
    QN_TRY(get_uint(s, "vocab_size", 1, QN_CONFIG_VOCAB_MAX, &c->n_vocab));
    if (qn_gguf_find(s->gguf, set_key(s, "attention.layer_norm_rms_epsilon")) == NULL) {
        QN_TRY(fail_missing(s, "a number above 0"));
    }
    QN_TRY(get_real(s, "attention.layer_norm_rms_epsilon", &c->rms_eps));
    if (c->rms_eps > 1) {
        QN_FAIL(s->err, QUERN_ERROR_INVALID, "%s: key '%s' is %g, expected a number above 0 and at most 1", qn_gguf_path(s->gguf), s->key,
                c->rms_eps);
    }
done:
    return status;
}

static quern_status read_experts(source *s, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    QN_TRY(get_uint(s, "expert_count", 0, QN_CONFIG_EXPERTS_MAX, &c->n_experts));
    if (c->n_experts == 0) {
        if (c->family == QN_FAMILY_QWEN3_MOE || c->family == QN_FAMILY_GPT_OSS) {
            QN_TRY(fail_missing(s, "the number of experts"));
        }
        return need_uint(s, "feed_forward_length", 1, QN_CONFIG_FFN_MAX, &c->ffn_size);
    }
    if (c->family != QN_FAMILY_LLAMA && c->family != QN_FAMILY_QWEN3_MOE && c->family != QN_FAMILY_GPT_OSS) {
        QN_FAIL(s->err, QUERN_ERROR_UNSUPPORTED, "%s: key '%s' is %" PRIu32 ", expected none: architecture %s has no experts",
                qn_gguf_path(s->gguf), s->key, c->n_experts, s->arch);
    }
    c->family = c->family == QN_FAMILY_LLAMA ? QN_FAMILY_MIXTRAL : c->family;
    c->norm_topk_prob = true;
    QN_TRY(need_uint(s, "expert_used_count", 1, QN_CONFIG_EXPERTS_MAX, &c->n_experts_used));
    QN_TRY(get_uint(s, "feed_forward_length", 0, QN_CONFIG_FFN_MAX, &c->ffn_size));
    c->expert_ffn_size = c->ffn_size;
    QN_TRY(get_uint(s, "expert_feed_forward_length", 1, QN_CONFIG_FFN_MAX, &c->expert_ffn_size));
    if (c->expert_ffn_size == 0) {
        QN_TRY(fail_missing(s, "the width of an expert"));
    }
done:
    return status;
}

static quern_status read_yarn(source *s, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    qn_rope_config *rope = &c->rope;
    double attn_factor = 0;
    rope->original_ctx = c->n_ctx_train;
    QN_TRY(get_uint(s, "rope.scaling.original_context_length", 1, INT32_MAX, &rope->original_ctx));
    QN_TRY(get_real(s, "rope.scaling.yarn_beta_fast", &rope->beta_fast));
    QN_TRY(get_real(s, "rope.scaling.yarn_beta_slow", &rope->beta_slow));
    QN_TRY(get_real(s, "rope.scaling.attn_factor", &attn_factor));
    if (attn_factor > 0) { /* llama.cpp multiplies its own factor by this one */
        rope->attention_factor = attn_factor * (rope->factor > 1 ? 0.1 * qn_log(rope->factor) + 1 : 1);
    }
    if (rope->theta <= 1) {
        QN_FAIL(s->err, QUERN_ERROR_INVALID, "%s: key '%s.rope.freq_base' is %g, expected a number above 1 where rope is scaled by yarn",
                qn_gguf_path(s->gguf), s->arch, rope->theta);
    }
done:
    return status;
}

static bool span_is(qn_span s, const char *text) { return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0; }

static quern_status read_rope(source *s, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    qn_span kind;
    bool found;
    qn_rope_config *rope = &c->rope;
    *rope = (qn_rope_config){.n_rot = rope->n_rot, .theta = 1e4, .factor = 1, .beta_fast = 32, .beta_slow = 1, .truncate = true};
    rope->interleaved = c->family == QN_FAMILY_LLAMA || c->family == QN_FAMILY_MIXTRAL || c->family == QN_FAMILY_SMOLLM3;
    QN_TRY(get_real(s, "rope.freq_base", &rope->theta));
    QN_TRY(get_real(s, "rope.scale_linear", &rope->factor)); /* before there was a type */
    rope->scaling = rope->factor != 1.0 ? QN_ROPE_LINEAR : QN_ROPE_NONE;
    QN_TRY(get_real(s, "rope.scaling.factor", &rope->factor));
    QN_TRY(qn_gguf_get_string(s->gguf, set_key(s, "rope.scaling.type"), &kind, &found, s->err));
    if (!found || span_is(kind, "none")) {
        rope->scaling = found ? QN_ROPE_NONE : rope->factor != 1.0 ? QN_ROPE_LINEAR : QN_ROPE_NONE;
    } else if (span_is(kind, "linear")) {
        rope->scaling = QN_ROPE_LINEAR;
    } else if (span_is(kind, "yarn")) {
        rope->scaling = QN_ROPE_YARN;
        QN_TRY(read_yarn(s, c));
    } else {
        QN_FAIL(s->err, QUERN_ERROR_UNSUPPORTED, "%s: key '%s' is '%.*s', expected none, linear or yarn", qn_gguf_path(s->gguf), s->key,
                qn_name_shown(kind.data, kind.len), kind.data);
    }
    if (rope->scaling == QN_ROPE_NONE) {
        rope->factor = 1;
    }
    double attn_factor = 1;
    QN_TRY(get_real(s, "rope.scaling.attn_factor", &attn_factor));
    if (rope->scaling != QN_ROPE_YARN && attn_factor != 1.0) {
        QN_FAIL(s->err, QUERN_ERROR_UNSUPPORTED, "%s: key '%s' is %g, expected 1 where rope is not scaled by yarn", qn_gguf_path(s->gguf),
                s->key, attn_factor);
    }
done:
    return status;
}

static quern_status read_layers(source *s, qn_model_config *c, qn_arena *arena)
{
    quern_status status = QUERN_OK;
    uint32_t window = 0;
    QN_TRY(qn_config_init_layers(c, arena, s->err));
    if (c->family == QN_FAMILY_GPT_OSS) {
        uint32_t pattern = 2;
        QN_TRY(need_uint(s, "attention.sliding_window", 1, INT32_MAX, &window));
        QN_TRY(get_uint(s, "attention.sliding_window_pattern", 2, 2, &pattern));
    }
    for (uint32_t i = 0; i < c->n_layers; i++) {
        c->layers[i].rope = c->family != QN_FAMILY_SMOLLM3 || (i + 1) % 4 != 0;
        c->layers[i].window = i % 2 == 0 ? window : 0;
    }
done:
    return status;
}

/* A token id; `must`: outside the vocabulary it is an error, otherwise it counts as not said. */
static quern_status read_id(const source *s, const char *key, bool must, int64_t *out)
{
    quern_status status = QUERN_OK;
    uint64_t id = 0;
    bool found;
    const qn_gguf_value *tokens = qn_gguf_find(s->gguf, "tokenizer.ggml.tokens");
    uint64_t n_tokens = tokens != NULL && tokens->n < QN_CONFIG_VOCAB_MAX ? tokens->n : QN_CONFIG_VOCAB_MAX;
    *out = -1;
    QN_TRY(qn_gguf_get_u64(s->gguf, key, &id, &found, s->err));
    if (found && id >= n_tokens && must) {
        QN_FAIL(s->err, QUERN_ERROR_INVALID, "%s: key '%s' is %" PRIu64 ", expected one of the %" PRIu64 " tokens", qn_gguf_path(s->gguf),
                key, id, n_tokens);
    }
    *out = found && id < n_tokens ? (int64_t)id : -1;
done:
    return status;
}

static quern_status read_tokens(const source *s, qn_model_config *c, qn_arena *arena)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    enum { N_ENDS = sizeof ends / sizeof ends[0] };
    quern_status status = QUERN_OK;
    QN_TRY(read_id(s, "tokenizer.ggml.bos_token_id", false, &c->bos_id));
    QN_TRY(read_id(s, "tokenizer.ggml.padding_token_id", false, &c->pad_id));
    c->stop_ids = qn_arena_alloc_array(arena, N_ENDS, sizeof *c->stop_ids);
    if (c->stop_ids == NULL) {
        QN_FAIL_MEMORY(s->err, "stop ids", N_ENDS * sizeof *c->stop_ids);
    }
    for (size_t i = 0; i < N_ENDS; i++) {
        int64_t id;
        QN_TRY(read_id(s, ends[i], true, &id));
        bool known = id < 0;
        for (size_t k = 0; k < c->n_stop_ids; k++) {
            known = known || c->stop_ids[k] == id;
        }
        if (!known) {
            c->stop_ids[c->n_stop_ids++] = (int32_t)id;
        }
        c->eos_id = i == 0 ? id : c->eos_id;
    }
done:
    return status;
}

/* general.sampling.*, which converters take from generation_config.json. */
static quern_status read_sampling(const source *s, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    double temperature = 0;
    double top_p = 1;
    double min_p = 0;
    double penalty = 1;
    bool has_temperature;
    bool has_top_p;
    bool has_min_p;
    bool has_penalty;
    bool has_top_k;
    uint64_t top_k = 0;
    QN_TRY(get_real_key(s, "general.sampling.temp", 0, false, 1e6, &temperature, &has_temperature));
    QN_TRY(get_real_key(s, "general.sampling.top_p", 0, false, 1, &top_p, &has_top_p));
    QN_TRY(get_real_key(s, "general.sampling.min_p", 0, false, 1, &min_p, &has_min_p));
    QN_TRY(get_real_key(s, "general.sampling.penalty_repeat", 0, true, 1e6, &penalty, &has_penalty));
    QN_TRY(qn_gguf_get_u64(s->gguf, "general.sampling.top_k", &top_k, &has_top_k, s->err));
    if (top_k > INT32_MAX) {
        QN_FAIL(s->err, QUERN_ERROR_INVALID, "%s: key 'general.sampling.top_k' is %" PRIu64 ", expected at most %d", qn_gguf_path(s->gguf),
                top_k, INT32_MAX);
    }
    c->has_sampling = has_temperature || has_top_p || has_min_p || has_penalty || has_top_k;
    bool samples = has_temperature || has_top_p || has_min_p || has_top_k;
    c->sampling.temperature = has_temperature ? (float)temperature : samples ? 1.0f : 0.0f;
    c->sampling.top_p = (float)top_p;
    c->sampling.min_p = (float)min_p;
    c->sampling.repeat_penalty = (float)penalty;
    c->sampling.top_k = (int32_t)top_k;
done:
    return status;
}

quern_status qn_config_read_gguf(qn_model_config *out, qn_arena *arena, const qn_gguf *gguf, quern_error *err)
{
    return qn_config_read_gguf_as(out, arena, gguf, NULL, err);
}

quern_status qn_config_read_gguf_as(qn_model_config *out, qn_arena *arena, const qn_gguf *gguf, const char *as, quern_error *err)
{
    quern_status status = QUERN_OK;
    source s = {.gguf = gguf, .err = err};
    qn_model_config c = {.sampling = qn_config_sampling_off(), .eos_id = -1};
    *out = (qn_model_config){0};
    QN_TRY(read_architecture(&s, arena, as, &c));
    static const qn_config_names names = {.hidden = "embedding_length",
                                          .heads = "attention.head_count",
                                          .kv_heads = "attention.head_count_kv",
                                          .head_dim = "attention.key_length",
                                          .n_rot = "rope.dimension_count",
                                          .experts = "expert_count",
                                          .experts_used = "expert_used_count"};
    QN_TRY(read_sizes(&s, &c));
    QN_TRY(read_experts(&s, &c));
    QN_TRY(qn_config_check_heads(&c, &names, qn_gguf_path(gguf), err));
    QN_TRY(read_rope(&s, &c));
    QN_TRY(qn_config_check_foreign_gguf(gguf, s.arch, &c, err));
    QN_TRY(read_layers(&s, &c, arena));
    QN_TRY(read_tokens(&s, &c, arena));
    QN_TRY(read_sampling(&s, &c));
    c.qkv_bias = c.family == QN_FAMILY_QWEN2 || c.family == QN_FAMILY_GPT_OSS;
    c.o_bias = c.mlp_bias = c.family == QN_FAMILY_GPT_OSS;
    c.qk_norm = c.family == QN_FAMILY_QWEN3 || c.family == QN_FAMILY_QWEN3_MOE;
    *out = c;
done:
    return status;
}
