/* parts.c - the table of names. See parts.h. */
#include "quantize/parts.h"

#include <inttypes.h>
#include <stdio.h>

/* Expert parts hold "%u" where the expert's number goes in Hugging Face's name. Mixtral has its own words for experts. */
static const struct {
    bool in_layer;
    const char *gguf, *hf, *mixtral, *mlx, *mlx_mixtral;
} names[QN_PART_COUNT] = {
    [QN_PART_TOKEN_EMBD] = {false, "token_embd", "model.embed_tokens", NULL, NULL, NULL},
    [QN_PART_OUTPUT_NORM] = {false, "output_norm", "model.norm", NULL, NULL, NULL},
    [QN_PART_OUTPUT] = {false, "output", "lm_head", NULL, NULL, NULL},
    [QN_PART_ATTN_NORM] = {true, "attn_norm", "input_layernorm", NULL, NULL, NULL},
    [QN_PART_ATTN_Q] = {true, "attn_q", "self_attn.q_proj", NULL, NULL, NULL},
    [QN_PART_ATTN_K] = {true, "attn_k", "self_attn.k_proj", NULL, NULL, NULL},
    [QN_PART_ATTN_V] = {true, "attn_v", "self_attn.v_proj", NULL, NULL, NULL},
    [QN_PART_ATTN_OUTPUT] = {true, "attn_output", "self_attn.o_proj", NULL, NULL, NULL},
    [QN_PART_ATTN_Q_NORM] = {true, "attn_q_norm", "self_attn.q_norm", NULL, NULL, NULL},
    [QN_PART_ATTN_K_NORM] = {true, "attn_k_norm", "self_attn.k_norm", NULL, NULL, NULL},
    [QN_PART_FFN_NORM] = {true, "ffn_norm", "post_attention_layernorm", NULL, NULL, NULL},
    [QN_PART_FFN_GATE] = {true, "ffn_gate", "mlp.gate_proj", NULL, NULL, NULL},
    [QN_PART_FFN_UP] = {true, "ffn_up", "mlp.up_proj", NULL, NULL, NULL},
    [QN_PART_FFN_DOWN] = {true, "ffn_down", "mlp.down_proj", NULL, NULL, NULL},
    [QN_PART_ROUTER] = {true, "ffn_gate_inp", "mlp.gate", "block_sparse_moe.gate", NULL, NULL},
    [QN_PART_GATE_EXPS] = {true, "ffn_gate_exps", "mlp.experts.%u.gate_proj", "block_sparse_moe.experts.%u.w1", "mlp.switch_mlp.gate_proj",
                           "block_sparse_moe.switch_mlp.gate_proj"},
    [QN_PART_UP_EXPS] = {true, "ffn_up_exps", "mlp.experts.%u.up_proj", "block_sparse_moe.experts.%u.w3", "mlp.switch_mlp.up_proj",
                         "block_sparse_moe.switch_mlp.up_proj"},
    [QN_PART_DOWN_EXPS] = {true, "ffn_down_exps", "mlp.experts.%u.down_proj", "block_sparse_moe.experts.%u.w2", "mlp.switch_mlp.down_proj",
                           "block_sparse_moe.switch_mlp.down_proj"},
};

bool qn_part_is_norm(qn_part part)
{
    return part == QN_PART_OUTPUT_NORM || part == QN_PART_ATTN_NORM || part == QN_PART_FFN_NORM || part == QN_PART_ATTN_Q_NORM ||
           part == QN_PART_ATTN_K_NORM;
}

bool qn_part_is_expert(qn_part part) { return part == QN_PART_GATE_EXPS || part == QN_PART_UP_EXPS || part == QN_PART_DOWN_EXPS; }

void qn_part_gguf_name(qn_part part, uint32_t layer, bool bias, char *out, size_t cap)
{
    const char *suffix = bias ? "bias" : "weight";
    if (names[part].in_layer) {
        (void)snprintf(out, cap, "blk.%" PRIu32 ".%s.%s", layer, names[part].gguf, suffix);
    } else {
        (void)snprintf(out, cap, "%s.%s", names[part].gguf, suffix);
    }
}

/* "PREFIX<expert>SUFFIX" where the name holds "%u", else the name. */
static void with_expert(const char *name, uint32_t expert, char *out, size_t cap)
{
    size_t n = 0;
    while (name[n] != '\0' && name[n] != '%') {
        n++;
    }
    if (name[n] == '\0') {
        (void)snprintf(out, cap, "%s", name);
    } else {
        (void)snprintf(out, cap, "%.*s%" PRIu32 "%s", (int)n, name, expert, name + n + 2);
    }
}

void qn_part_hf_name(qn_family family, qn_part part, uint32_t layer, uint32_t expert, bool bias, char *out, size_t cap)
{
    char place[96];
    const char *name = family == QN_FAMILY_MIXTRAL && names[part].mixtral != NULL ? names[part].mixtral : names[part].hf;
    with_expert(name, expert, place, sizeof place);
    const char *suffix = bias ? "bias" : "weight";
    if (names[part].in_layer) {
        (void)snprintf(out, cap, "model.layers.%" PRIu32 ".%s.%s", layer, place, suffix);
    } else {
        (void)snprintf(out, cap, "%s.%s", place, suffix);
    }
}

void qn_part_mlx_module(qn_family family, qn_part part, uint32_t layer, char *out, size_t cap)
{
    bool mixtral = family == QN_FAMILY_MIXTRAL;
    const char *name = mixtral && names[part].mixtral != NULL ? names[part].mixtral : names[part].hf;
    if (names[part].mlx != NULL) {
        name = mixtral ? names[part].mlx_mixtral : names[part].mlx;
    }
    if (names[part].in_layer) {
        (void)snprintf(out, cap, "model.layers.%" PRIu32 ".%s", layer, name);
    } else {
        (void)snprintf(out, cap, "%s", name);
    }
}
