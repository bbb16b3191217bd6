/* recipe.c - the mixtures, place by place. See recipe.h.
 *
 * The rules are llama.cpp's defaults without importance matrix (its table of file types and mixtures) and mlx-lm's mixed recipes; the test
 * compares with files that those programs wrote.
 */
#include "quantize/recipe.h"

#include <string.h>

qn_recipe_model qn_recipe_model_of(const qn_model_config *config)
{
    return (qn_recipe_model){.family = config->family,
                             .n_layers = config->n_layers,
                             .n_heads = config->n_heads,
                             .n_kv_heads = config->n_kv_heads,
                             .n_experts = config->n_experts,
                             .tied = config->tied_embeddings};
}

bool qn_recipe_applies(const qn_recipe_tensor *t)
{
    return t->n_dims >= 2 && !t->bias && !qn_part_is_norm(t->part) && t->part != QN_PART_ROUTER;
}

/* The first and last eighth of the layers and every third between them. */
static bool is_sensitive_layer(uint32_t layer, uint32_t n_layers)
{
    uint32_t eighth = n_layers / 8;
    return layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2;
}

static bool is(const qn_gguf_recipe *r, const char *name) { return strcmp(r->name, name) == 0; }

/* Llama 65B-class models with grouped queries (80 layers), and Qwen2 of that depth. */
static bool has_few_values(const qn_recipe_model *m)
{
    if (m->n_layers != 80) {
        return false;
    }
    bool llama = m->family == QN_FAMILY_LLAMA || m->family == QN_FAMILY_MISTRAL || m->family == QN_FAMILY_MIXTRAL;
    return (llama && m->n_experts != 8 && m->n_heads != m->n_kv_heads) || m->family == QN_FAMILY_QWEN2;
}

static qn_dtype value_type(const qn_gguf_recipe *r, const qn_recipe_model *m, uint32_t layer)
{
    qn_dtype type = r->base;
    bool grouped = m->n_heads / m->n_kv_heads >= 4;
    if (is(r, "Q2_K")) {
        type = grouped ? QN_DTYPE_Q4_K : QN_DTYPE_Q3_K;
    } else if (is(r, "Q3_K_M")) {
        type = layer < 2 ? QN_DTYPE_Q5_K : QN_DTYPE_Q4_K;
    } else if (is(r, "Q3_K_L")) {
        type = QN_DTYPE_Q5_K;
    } else if ((is(r, "IQ4_NL") || is(r, "IQ4_XS")) && grouped) {
        type = QN_DTYPE_Q5_K;
    } else if ((is(r, "Q4_K_M") || is(r, "Q5_K_M")) && is_sensitive_layer(layer, m->n_layers)) {
        type = QN_DTYPE_Q6_K;
    } else if (is(r, "Q4_K_S") && layer < 4) {
        type = QN_DTYPE_Q5_K;
    }
    if (has_few_values(m) && (type == QN_DTYPE_Q3_K || type == QN_DTYPE_Q4_K)) {
        type = QN_DTYPE_Q5_K;
    }
    return m->n_experts == 8 ? QN_DTYPE_Q8_0 : type;
}

static qn_dtype down_type(const qn_gguf_recipe *r, const qn_recipe_model *m, uint32_t layer)
{
    if (is(r, "Q2_K")) {
        return QN_DTYPE_Q3_K;
    }
    if (is(r, "Q3_K_M")) {
        return layer < m->n_layers / 16 ? QN_DTYPE_Q5_K : QN_DTYPE_Q4_K;
    }
    if (is(r, "Q3_K_L")) {
        return QN_DTYPE_Q5_K;
    }
    if ((is(r, "Q4_K_M") || is(r, "Q5_K_M")) && is_sensitive_layer(layer, m->n_layers)) {
        return QN_DTYPE_Q6_K;
    }
    if ((is(r, "IQ4_NL") || is(r, "IQ4_XS") || is(r, "Q4_K_S")) && layer < m->n_layers / 8) {
        return QN_DTYPE_Q5_K;
    }
    return r->base;
}

static qn_dtype attention_output_type(const qn_gguf_recipe *r, const qn_recipe_model *m)
{
    if (m->n_experts == 8) {
        bool raised = is(r, "Q2_K") || is(r, "Q3_K_S") || is(r, "Q3_K_M") || is(r, "IQ4_NL") || is(r, "Q4_K_S") || is(r, "Q4_K_M") ||
                      is(r, "IQ4_XS");
        return raised ? QN_DTYPE_Q5_K : r->base;
    }
    return is(r, "Q2_K") ? QN_DTYPE_Q3_K : is(r, "Q3_K_M") ? QN_DTYPE_Q4_K : is(r, "Q3_K_L") ? QN_DTYPE_Q5_K : r->base;
}

/* The matrix that makes logits: output.weight, or the embedding where there is none. */
static qn_dtype output_type(const qn_gguf_recipe *r, uint64_t n_cols)
{
    if (r->base == QN_DTYPE_MXFP4 || n_cols % qn_dtype_get(r->base)->block_size != 0) {
        return QN_DTYPE_Q8_0;
    }
    return r->base == QN_DTYPE_Q8_0 ? QN_DTYPE_Q8_0 : QN_DTYPE_Q6_K;
}

static qn_dtype mixture(const qn_gguf_recipe *r, const qn_recipe_model *m, const qn_recipe_tensor *t)
{
    if (t->part == QN_PART_OUTPUT || (m->tied && t->part == QN_PART_TOKEN_EMBD)) {
        return output_type(r, t->n_cols);
    }
    if (r->base == QN_DTYPE_MXFP4) {
        return t->n_dims == 3 ? QN_DTYPE_MXFP4 : QN_DTYPE_Q8_0;
    }
    switch (t->part) {
    case QN_PART_TOKEN_EMBD: return r->base == QN_DTYPE_TQ1_0 || r->base == QN_DTYPE_TQ2_0 ? QN_DTYPE_Q4_K : r->base;
    case QN_PART_ATTN_V: return value_type(r, m, t->layer);
    case QN_PART_ATTN_K: return m->n_experts == 8 ? QN_DTYPE_Q8_0 : r->base;
    case QN_PART_FFN_DOWN:
    case QN_PART_DOWN_EXPS: return down_type(r, m, t->layer);
    case QN_PART_ATTN_OUTPUT: return attention_output_type(r, m);
    default: return r->base;
    }
}

qn_dtype qn_recipe_fallback(qn_dtype t, uint64_t n_cols)
{
    qn_dtype other = t;
    if (n_cols % qn_dtype_get(t)->block_size == 0) {
        return t;
    }
    switch (t) {
    case QN_DTYPE_IQ4_XS: other = QN_DTYPE_IQ4_NL; break;
    case QN_DTYPE_Q2_K:
    case QN_DTYPE_Q3_K:
    case QN_DTYPE_TQ1_0:
    case QN_DTYPE_TQ2_0: other = QN_DTYPE_Q4_0; break;
    case QN_DTYPE_Q4_K: other = QN_DTYPE_Q5_0; break;
    case QN_DTYPE_Q5_K: other = QN_DTYPE_Q5_1; break;
    case QN_DTYPE_Q6_K: other = QN_DTYPE_Q8_0; break;
    default: break;
    }
    return n_cols % qn_dtype_get(other)->block_size == 0 ? other : QN_DTYPE_F16;
}

qn_dtype qn_recipe_gguf(const qn_gguf_recipe *recipe, const qn_recipe_model *m, const qn_recipe_tensor *t)
{
    if (!qn_recipe_applies(t)) {
        return QN_DTYPE_F32;
    }
    bool plain = recipe->base == QN_DTYPE_F32 || recipe->base == QN_DTYPE_F16 || recipe->base == QN_DTYPE_BF16;
    return plain ? recipe->base : qn_recipe_fallback(mixture(recipe, m, t), t->n_cols);
}

qn_affine qn_recipe_mlx(const qn_mlx_recipe *recipe, uint32_t group, const qn_recipe_model *m, const qn_recipe_tensor *t)
{
    qn_affine a = {.bits = recipe->bits, .group = group};
    if (recipe->mode == QN_MLX_PLAIN || t->n_dims < 2 || t->bias || t->n_cols % group != 0) {
        return (qn_affine){0};
    }
    if (recipe->high_bits != 0) {
        bool sensitive = t->part == QN_PART_ATTN_V || t->part == QN_PART_FFN_DOWN || t->part == QN_PART_DOWN_EXPS;
        if (t->part == QN_PART_OUTPUT || (sensitive && is_sensitive_layer(t->layer, m->n_layers))) {
            a.bits = recipe->high_bits;
        }
    } else if (t->part == QN_PART_ROUTER && m->family == QN_FAMILY_QWEN3_MOE) {
        a = (qn_affine){.bits = 8, .group = 64};
        if (t->n_cols % a.group != 0) {
            return (qn_affine){0};
        }
    }
    return a;
}
