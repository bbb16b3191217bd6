/* config_foreign.c - keys by which architectures other than those of this program change the computation: a file that carries one of them with
 * a value that would matter is of such an architecture, whatever its name says, and is refused.
 *
 * Owns two lists, of config.json's and of GGUF's names. Invariant: a listed key passes only with a value that changes nothing. Keys that are
 * not listed are not looked at here. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config_int.h"

/* Which value of a key changes nothing; false and true count as 0 and 1. */
typedef enum neutral {
    IS_0,
    IS_1,
    IS_0_OR_1, /* 0 stands for "not set" */
    IS_HEAD_DIM,
    IS_HEAD_SCALE, /* 1 / sqrt(head_dim), what attention is scaled by anyway */
    IS_SILU,       /* a string, as the next */
    IS_ROTARY,
} neutral;

typedef struct rule {
    const char *key;
    neutral neutral;
} rule;

static const rule hf_rules[] = {
    /* multipliers: Granite, Cohere, MiniCPM, Gemma */
    {"logit_scale", IS_1},
    {"logits_scaling", IS_1},
    {"attention_multiplier", IS_HEAD_SCALE},
    {"residual_multiplier", IS_1},
    {"embedding_multiplier", IS_1},
    {"scale_emb", IS_1},
    {"scale_depth", IS_0},
    {"dim_model_base", IS_0},
    {"query_pre_attn_scalar", IS_HEAD_DIM},
    {"lm_head_multiplier", IS_1},
    {"attention_in_multiplier", IS_1},
    {"attention_out_multiplier", IS_1},
    {"key_multiplier", IS_1},
    /* caps: Gemma, DBRX, OLMo */
    {"final_logit_softcapping", IS_0},
    {"attn_logit_softcapping", IS_0},
    {"clip_qkv", IS_0},
    /* other attention, other order of blocks */
    {"is_causal", IS_1},
    {"use_bidirectional_attention", IS_0},
    {"parallel_attn", IS_0},
    {"use_parallel_residual", IS_0},
    {"parallel_residual", IS_0},
    {"alibi", IS_0},
    {"use_logn_attn", IS_0},
    {"attn_temperature_tuning", IS_0},
    {"zero_centered_gamma", IS_0},
    {"position_embedding_type", IS_ROTARY},
    /* other rope */
    {"rope_traditional", IS_0},
    {"rope_interleave", IS_0},
    {"rope_interleaved", IS_0},
    {"rope_is_neox_style", IS_1},
    {"rotary_pct", IS_1},
    {"rope_pct", IS_1},
    {"rope_percent", IS_1},
    {"rotary_dim", IS_HEAD_DIM},
    {"rope_ratio", IS_1},
    {"rope_local_base_freq", IS_0},
    /* other mixtures of experts: Qwen2-MoE, DeepSeek */
    {"n_shared_experts", IS_0},
    {"num_shared_experts", IS_0},
    {"shared_expert_intermediate_size", IS_0},
    {"routed_scaling_factor", IS_1},
    {"first_k_dense_replace", IS_0},
    {"kv_lora_rank", IS_0},
    {"q_lora_rank", IS_0},
    {"num_kv_shared_layers", IS_0},
};

/* llama.cpp's names, after "ARCHITECTURE."; the window of gpt-oss is read, not checked. */
static const rule gguf_rules[] = {
    {"attention.causal", IS_1},
    {"attention.scale", IS_HEAD_SCALE},
    {"attention.output_scale", IS_0_OR_1},
    {"attention.value_scale", IS_0_OR_1},
    {"attention.clamp_kqv", IS_0},
    {"attention.max_alibi_bias", IS_0},
    {"attention.sliding_window", IS_0},
    {"attention.temperature_scale", IS_0},
    {"attention.q_lora_rank", IS_0},
    {"attention.kv_lora_rank", IS_0},
    {"attention.shared_kv_layers", IS_0},
    {"attn_logit_softcapping", IS_0},
    {"final_logit_softcapping", IS_0},
    {"router_logit_softcapping", IS_0},
    {"logit_scale", IS_0_OR_1},
    {"residual_scale", IS_0_OR_1},
    {"embedding_scale", IS_0_OR_1},
    {"use_parallel_residual", IS_0},
    {"hidden_activation", IS_SILU},
    {"num_loops", IS_0_OR_1},
    {"expert_gating_func", IS_0_OR_1},
    {"expert_weights_norm", IS_1},
    {"expert_weights_scale", IS_0_OR_1},
    {"expert_group_count", IS_0_OR_1},
    {"expert_group_used_count", IS_0_OR_1},
    {"expert_shared_count", IS_0},
    {"expert_shared_feed_forward_length", IS_0},
    {"leading_dense_block_count", IS_0},
    {"interleave_moe_layer_step", IS_0_OR_1},
    {"nextn_predict_layers", IS_0},
    {"rope.dimension_sections", IS_0},
    {"rope.scaling.alpha", IS_0_OR_1},
    {"rope.scaling.yarn_ext_factor", IS_1},
    {"rope.scaling.yarn_attn_factor", IS_1},
    {"rope.scaling.yarn_log_multiplier", IS_0},
    {"swiglu_clamp_exp", IS_0},
    {"swiglu_clamp_shexp", IS_0},
};

static bool changes_nothing(neutral n, double v, const qn_model_config *c)
{
    double scale = 1.0 / sqrt((double)c->head_dim);
    switch (n) {
    case IS_0: return v == 0;
    case IS_1: return v == 1;
    case IS_0_OR_1: return v == 0 || v == 1;
    case IS_HEAD_DIM: return v == (double)c->head_dim;
    case IS_HEAD_SCALE: return v == 0 || fabs(v - scale) <= 1e-6 * scale; /* 0: not set */
    case IS_SILU:
    case IS_ROTARY: break;
    }
    return false;
}

static bool text_changes_nothing(neutral n, const char *text, size_t len)
{
    static const struct {
        neutral neutral;
        const char *text;
    } accepted[] = {{IS_SILU, "silu"}, {IS_SILU, "swish"}, {IS_ROTARY, "rope"}, {IS_ROTARY, "rotary"}};
    for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++) {
        if (accepted[i].neutral == n && strlen(accepted[i].text) == len && memcmp(accepted[i].text, text, len) == 0) {
            return true;
        }
    }
    return false;
}

static void say_expected(neutral n, const qn_model_config *c, char *out, size_t cap)
{
    const char *value = n == IS_0 ? "0 or false" : n == IS_1 ? "1 or true" : n == IS_SILU ? "silu" : n == IS_ROTARY ? "rope" : "0 or 1";
    char number[48];
    if (n == IS_HEAD_DIM || n == IS_HEAD_SCALE) {
        (void)snprintf(number, sizeof number, "%.7g", n == IS_HEAD_DIM ? (double)c->head_dim : 1.0 / sqrt((double)c->head_dim));
        value = number;
    }
    (void)snprintf(out, cap, "%s, or no such key: architecture %s does not compute with it", value, c->architecture);
}

quern_status qn_config_check_foreign_hf(const qn_config_json *root, const qn_model_config *c)
{
    for (size_t i = 0; i < sizeof hf_rules / sizeof hf_rules[0]; i++) {
        const qn_json *v = qn_config_find(root, hf_rules[i].key);
        double number = 0;
        size_t len = 0;
        const char *text = qn_json_string(v, &len);
        bool is_bool = qn_json_get_kind(v) == QN_JSON_BOOL;
        bool is_number = is_bool || qn_json_number(v, &number);
        number = is_bool ? (double)qn_json_bool(v, false) : number;
        bool passes = text != NULL ? text_changes_nothing(hf_rules[i].neutral, text, len)
                                   : is_number && changes_nothing(hf_rules[i].neutral, number, c);
        if (v != NULL && !passes) {
            char expected[160];
            say_expected(hf_rules[i].neutral, c, expected, sizeof expected);
            return qn_config_fail_value(root, hf_rules[i].key, expected);
        }
    }
    return QUERN_OK;
}

/* Describes the first element that matters in `value`; false if there is none. */
static bool find_gguf_change(const qn_gguf_value *v, neutral n, const qn_model_config *c, char *value, size_t cap)
{
    const uint8_t *cursor = v->data;
    for (uint64_t i = 0; i < v->n; i++) {
        int64_t integer;
        double real = NAN;
        if (v->element == QN_GGUF_STRING) {
            qn_span s = qn_gguf_next_string(&cursor);
            if (!text_changes_nothing(n, s.data, s.len)) {
                (void)snprintf(value, cap, "\"%.*s\"", (int)qn_name_shown(s.data, s.len), s.data);
                return true;
            }
            continue;
        }
        if (v->element == QN_GGUF_BOOL) {
            real = v->data[i] != 0;
        } else if (qn_gguf_element_i64(v, i, &integer)) {
            real = (double)integer;
        } else {
            (void)qn_gguf_element_f64(v, i, &real);
        }
        if (!changes_nothing(n, real, c)) {
            (void)snprintf(value, cap, "%.9g", real);
            return true;
        }
    }
    return false;
}

quern_status qn_config_check_foreign_gguf(const qn_gguf *gguf, const char *arch, const qn_model_config *c, quern_error *err)
{
    for (size_t i = 0; i < sizeof gguf_rules / sizeof gguf_rules[0]; i++) {
        char key[128];
        char value[96];
        char expected[160];
        bool read = c->family == QN_FAMILY_GPT_OSS && strcmp(gguf_rules[i].key, "attention.sliding_window") == 0;
        (void)snprintf(key, sizeof key, "%s.%s", arch, gguf_rules[i].key);
        const qn_gguf_value *v = qn_gguf_find(gguf, key);
        if (v != NULL && !read && find_gguf_change(v, gguf_rules[i].neutral, c, value, sizeof value)) {
            say_expected(gguf_rules[i].neutral, c, expected, sizeof expected);
            return qn_error_set(err, QUERN_ERROR_UNSUPPORTED, "%s: key '%s' is %s, expected %s", qn_gguf_path(gguf), key, value, expected);
        }
    }
    return QUERN_OK;
}
