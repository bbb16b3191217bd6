/* gguf_to_hf.c - see gguf_to_hf.h.
 *
 * Numbers that GGUF stores as float32 are written as the shortest decimals that mean them. llama3's scaling of rope, in GGUF a tensor of
 * divisors, is found among the parameters that are in use: if none gives exactly these divisors, nothing is made.
 */
#include "quantize/gguf_to_hf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "quantize/hf_to_gguf.h"
#include "text/vocab_json.h"

enum { TEXT_BYTES_MAX = 1 << 30 };

typedef struct builder {
    qn_json *root;
    bool ok;
} builder;

static void set(builder *b, const char *key, qn_json *value) { b->ok = qn_json_set(b->root, key, value) && b->ok; }
static void set_count(builder *b, const char *key, uint32_t n) { set(b, key, qn_json_new_int(n)); }

/* The decimal with the fewest digits that is this float32. */
static double shortest(double v)
{
    char text[40];
    double best = v;
    for (int digits = 1; digits <= 9; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, v);
        best = strtod(text, NULL);
        if ((float)best == (float)v) {
            return best;
        }
    }
    return v;
}

static void set_real(builder *b, const char *key, double v) { set(b, key, qn_json_new_real(shortest(v))); }

/* ---- rope ---- */

static quern_status find_llama3(qn_source *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_rope_config *r = &s->config.rope;
    size_t n = r->n_rot / 2;
    float *divisors = NULL;
    if (s->rope_divisors == NULL || r->scaling == QN_ROPE_LLAMA3) {
        return QUERN_OK;
    }
    divisors = qn_malloc_array(n, sizeof *divisors);
    if (divisors == NULL) {
        QN_FAIL_MEMORY(err, "rope_freqs.weight", n * sizeof *divisors);
    }
    float greatest = 0;
    for (size_t i = 0; i < n; i++) {
        greatest = fmaxf(greatest, s->rope_divisors[i]);
    }
    bool found = false;
    for (uint32_t original = 64; original <= 1u << 20 && !found && r->scaling == QN_ROPE_NONE; original *= 2) {
        qn_rope_config guess = *r;
        guess.scaling = QN_ROPE_LLAMA3;
        guess.factor = (double)greatest;
        guess.low_freq_factor = 1;
        guess.high_freq_factor = 4;
        guess.original_ctx = original;
        qn_rope_fill_divisors(&guess, divisors);
        found = true;
        for (size_t i = 0; i < n && found; i++) { /* converters compute them in float32: a few units of the last place */
            found = fabsf(divisors[i] - s->rope_divisors[i]) <= 1e-6f * s->rope_divisors[i];
        }
        if (found) {
            *r = guess;
        }
    }
    if (!found) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: rope_freqs.weight is none of llama3's scalings that config.json can say", s->path);
    }
done:
    qn_free(divisors);
    return status;
}

/* ---- config.json ---- */

static qn_json *ids_value(const int32_t *ids, size_t n)
{
    if (n == 1) {
        return qn_json_new_int(ids[0]);
    }
    qn_json *list = qn_json_new_array();
    for (size_t i = 0; i < n; i++) {
        if (!qn_json_append(list, qn_json_new_int(ids[i]))) {
            qn_json_free(list);
            return NULL;
        }
    }
    return list;
}

static const char *dtype_name(qn_dtype t) { return t == QN_DTYPE_F32 ? "float32" : t == QN_DTYPE_F16 ? "float16" : "bfloat16"; }

static void set_experts(builder *b, const qn_model_config *c)
{
    if (c->family == QN_FAMILY_QWEN3_MOE) {
        set_count(b, "num_experts", c->n_experts);
        set_count(b, "moe_intermediate_size", c->expert_ffn_size);
        set_count(b, "decoder_sparse_step", 1);
        set(b, "mlp_only_layers", qn_json_new_array());
        set(b, "norm_topk_prob", qn_json_new_bool(c->norm_topk_prob));
    } else {
        set_count(b, "num_local_experts", c->n_experts);
    }
    set_count(b, "num_experts_per_tok", c->n_experts_used);
}

static void set_family(builder *b, const qn_model_config *c)
{
    qn_json *classes = qn_json_new_array();
    b->ok = qn_json_append(classes, qn_json_new_string(qn_family_class_name(c->family))) && b->ok;
    set(b, "architectures", classes);
    set(b, "model_type", qn_json_new_string(qn_family_model_type(c->family)));
    set(b, "sliding_window", qn_json_new_null()); /* GGUF has none for these architectures */
    if (c->n_experts > 0) {
        set_experts(b, c);
    }
    if (c->family == QN_FAMILY_SMOLLM3) {
        qn_json *list = qn_json_new_array();
        for (uint32_t i = 0; i < c->n_layers; i++) {
            b->ok = qn_json_append(list, qn_json_new_int(c->layers[i].rope ? 1 : 0)) && b->ok;
        }
        set(b, "no_rope_layers", list);
        set_count(b, "no_rope_layer_interval", 4);
    }
    if (c->family != QN_FAMILY_QWEN2) {
        set(b, "attention_bias", qn_json_new_bool(c->qkv_bias));
    }
    if (c->family == QN_FAMILY_LLAMA || c->family == QN_FAMILY_SMOLLM3) {
        set(b, "mlp_bias", qn_json_new_bool(c->mlp_bias));
    }
}

/* Biases that only some of the projections have are known to GGUF alone. */
static quern_status check_biases(const qn_source *s, quern_error *err)
{
    const qn_model_config *c = &s->config;
    bool sayable = c->family == QN_FAMILY_QWEN2 ? c->qkv_bias && !c->o_bias && !c->mlp_bias
                   : c->family == QN_FAMILY_LLAMA || c->family == QN_FAMILY_SMOLLM3
                       ? c->qkv_bias == c->o_bias
                       : c->qkv_bias == c->o_bias && !c->mlp_bias && (!c->qkv_bias || c->family != QN_FAMILY_MIXTRAL);
    if (!sayable || c->rope.n_rot != c->head_dim) {
        return qn_error_set(err, QUERN_ERROR_UNSUPPORTED, "%s: config.json cannot say %s of architecture %s", s->path,
                            sayable ? "heads that rotate in part" : "the biases that this file has", c->architecture);
    }
    return QUERN_OK;
}

static quern_status take_text(builder *b, char **out, size_t *len, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf text;
    qn_buf_init(&text, TEXT_BYTES_MAX);
    if (!b->ok || !qn_json_write(b->root, 2, &text) || !qn_buf_append_char(&text, '\n') || (*out = qn_buf_take(&text, len)) == NULL) {
        QN_FAIL_MEMORY(err, "config.json", text.len);
    }
done:
    qn_buf_deinit(&text);
    qn_json_free(b->root);
    b->root = NULL;
    return status;
}

static quern_status make_config(qn_source *s, quern_error *err)
{
    const qn_model_config *c = &s->config;
    builder b = {.root = qn_json_new_object(), .ok = true};
    set_family(&b, c);
    set_count(&b, "hidden_size", c->hidden_size);
    set_count(&b, "intermediate_size", c->ffn_size > 0 ? c->ffn_size : c->expert_ffn_size);
    set_count(&b, "num_hidden_layers", c->n_layers);
    set_count(&b, "num_attention_heads", c->n_heads);
    set_count(&b, "num_key_value_heads", c->n_kv_heads);
    set_count(&b, "head_dim", c->head_dim);
    set_count(&b, "vocab_size", c->n_vocab);
    set_count(&b, "max_position_embeddings", c->n_ctx_train);
    set_real(&b, "rms_norm_eps", c->rms_eps);
    set_real(&b, "rope_theta", c->rope.theta); /* its scaling is put in with the rest that mlx-lm wants said */
    set(&b, "tie_word_embeddings", qn_json_new_bool(c->tied_embeddings));
    set(&b, "hidden_act", qn_json_new_string("silu"));
    set(&b, "torch_dtype", qn_json_new_string(dtype_name(s->pieces[0].plain)));
    if (c->bos_id >= 0) {
        set(&b, "bos_token_id", qn_json_new_int(c->bos_id));
    }
    if (c->n_stop_ids > 0) {
        set(&b, "eos_token_id", ids_value(c->stop_ids, c->n_stop_ids));
    }
    return take_text(&b, &s->config_json, &s->config_len, err);
}

static quern_status make_generation(qn_source *s, quern_error *err)
{
    const qn_model_config *c = &s->config;
    builder b = {.root = qn_json_new_object(), .ok = true};
    if (c->n_stop_ids > 0) {
        set(&b, "eos_token_id", ids_value(c->stop_ids, c->n_stop_ids));
    }
    if (c->has_sampling && c->sampling.temperature > 0) {
        set(&b, "do_sample", qn_json_new_bool(true));
        set_real(&b, "temperature", (double)c->sampling.temperature);
        set_real(&b, "top_p", (double)c->sampling.top_p);
        if (c->sampling.min_p > 0) {
            set_real(&b, "min_p", (double)c->sampling.min_p);
        }
        set(&b, "top_k", qn_json_new_int(c->sampling.top_k));
    }
    if (c->has_sampling && c->sampling.repeat_penalty != 1.0f) {
        set_real(&b, "repetition_penalty", (double)c->sampling.repeat_penalty);
    }
    quern_status status = take_text(&b, &s->generation_json, &s->generation_len, err);
    return status == QUERN_OK ? qn_source_parse_generation(s, err) : status;
}

/* ---- all of them ---- */

static quern_status add_text(qn_source *s, const char *name, const char *text, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *copy = qn_arena_strndup(&s->arena, text, len);
    if (copy == NULL) {
        QN_FAIL_MEMORY(err, name, len);
    }
    s->texts[s->n_texts++] = (qn_source_text){.name = name, .data = copy, .len = len};
done:
    return status;
}

quern_status qn_source_make_texts(qn_source *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf tokenizer, config;
    qn_buf_init(&tokenizer, TEXT_BYTES_MAX);
    qn_buf_init(&config, TEXT_BYTES_MAX);
    if (s->n_texts > 0) {
        goto done;
    }
    QN_TRY(check_biases(s, err));
    QN_TRY(find_llama3(s, err));
    QN_TRY(make_config(s, err));
    QN_TRY(make_generation(s, err));
    status = qn_tokenizer_write_json(s->tokenizer, s->config.n_vocab, &tokenizer, &config, err);
    if (status != QUERN_OK) {
        qn_error_prefix(err, "%s", s->path);
        goto done;
    }
    QN_TRY(add_text(s, "tokenizer.json", qn_buf_text(&tokenizer), tokenizer.len, err));
    QN_TRY(add_text(s, "tokenizer_config.json", qn_buf_text(&config), config.len, err));
    QN_TRY(add_text(s, "generation_config.json", s->generation_json, s->generation_len, err));
    if (s->templates.plain != NULL) {
        QN_TRY(add_text(s, "chat_template.jinja", s->templates.plain, s->templates.plain_len, err));
    }
    if (s->templates.tool_use != NULL) {
        QN_TRY(add_text(s, "additional_chat_templates/tool_use.jinja", s->templates.tool_use, s->templates.tool_use_len, err));
    }
done:
    qn_buf_deinit(&tokenizer);
    qn_buf_deinit(&config);
    return status;
}
