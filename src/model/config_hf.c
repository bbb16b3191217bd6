/* config_hf.c - config.json and generation_config.json as transformers writes them (and mlx-lm, whose quantization object config_mlx.c reads).
 *
 * Sizes that make a model (hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, vocab_size, numbers of experts) must be
 * given; for other absent keys the defaults are those of the family's configuration class in transformers 5. Every key that this class reads
 * and that matters for inference is honoured or refused; keys by which other architectures change the computation are refused where their
 * value would change it (config_foreign.c). What is left is not looked at (auto_map above all: nothing is ever run). Rope is read in
 * config_rope.c. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "model/config_int.h"

enum { STOP_IDS_MAX = 64 };

typedef struct family_row {
    const char *model_type;
    const char *class_name;
    qn_family family;
    double theta;      /* where rope_theta is absent */
    double eps;        /* where rms_norm_eps is absent */
    uint32_t ctx;      /* where max_position_embeddings is absent */
    uint32_t kv_heads; /* where num_key_value_heads is absent; 0, and null in the file: as many as heads */
    bool tied;         /* where tie_word_embeddings is absent */
    uint32_t window;   /* where sliding_window is absent; 0 = none */
    uint32_t head_dim; /* where head_dim is absent; 0 = hidden / heads */
} family_row;

static const family_row families[] = {
    {"qwen2", "Qwen2ForCausalLM", QN_FAMILY_QWEN2, 1e4, 1e-6, 32768, 32, false, 4096, 0},
    {"qwen3", "Qwen3ForCausalLM", QN_FAMILY_QWEN3, 1e4, 1e-6, 32768, 32, false, 4096, 128},
    {"llama", "LlamaForCausalLM", QN_FAMILY_LLAMA, 1e4, 1e-6, 2048, 0, false, 0, 0},
    {"mistral", "MistralForCausalLM", QN_FAMILY_MISTRAL, 1e4, 1e-6, 131072, 8, false, 4096, 0},
    {"qwen3_moe", "Qwen3MoeForCausalLM", QN_FAMILY_QWEN3_MOE, 1e4, 1e-6, 32768, 4, false, 4096, 0},
    {"mixtral", "MixtralForCausalLM", QN_FAMILY_MIXTRAL, 1e6, 1e-5, 131072, 8, false, 0, 0},
    {"smollm3", "SmolLM3ForCausalLM", QN_FAMILY_SMOLLM3, 2e6, 1e-6, 32768, 4, true, 0, 0},
    {"gpt_oss", "GptOssForCausalLM", QN_FAMILY_GPT_OSS, 150000, 1e-5, 131072, 8, false, 128, 64},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

static const family_row *find_family(const char *model_type, const char *class_name)
{
    for (size_t i = 0; i < N_FAMILIES; i++) {
        const char *want = model_type != NULL ? families[i].model_type : families[i].class_name;
        if (strcmp(want, model_type != NULL ? model_type : class_name) == 0) {
            return &families[i];
        }
    }
    return NULL;
}

static const family_row *row_of(qn_family family)
{
    size_t i = 0;
    while (families[i].family != family) { /* every family has a row */
        i++;
    }
    return &families[i];
}

const char *qn_family_model_type(qn_family family) { return row_of(family)->model_type; }
const char *qn_family_class_name(qn_family family) { return row_of(family)->class_name; }

/* By the name that GGUF has for it, too. */
static quern_status choose_family(const char *as, const family_row **out, quern_error *err)
{
    *out = find_family(as, NULL);
    for (size_t i = 0; *out == NULL && i < N_FAMILIES; i++) {
        *out = strcmp(as, qn_family_name(families[i].family)) == 0 ? &families[i] : NULL;
    }
    return *out != NULL
               ? QUERN_OK
               : qn_error_set(err, QUERN_ERROR_USAGE,
                              "'%.80s' is no architecture that this version knows; expected qwen2, qwen3, qwen3_moe, llama, mistral, "
                              "mixtral or smollm3",
                              as);
}

static quern_status read_family(const qn_config_json *r, const char *as, const family_row **out)
{
    quern_status status = QUERN_OK;
    if (as != NULL) {
        return choose_family(as, out, r->err);
    }
    const char *model_type = NULL;
    const qn_json *classes = qn_config_find(r, "architectures");
    const char *class_name = qn_json_string(qn_json_at(classes, 0), NULL);
    QN_TRY(qn_config_get_string(r, "model_type", &model_type));
    if (classes != NULL && class_name == NULL) {
        QN_TRY(qn_config_fail_value(r, "architectures", "an array of class names"));
    }
    if (model_type == NULL && class_name == NULL) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: keys 'model_type' and 'architectures' are missing, expected at least one of them",
                r->what);
    }
    *out = find_family(model_type, class_name);
    if (*out == NULL) {
        QN_FAIL(r->err, QUERN_ERROR_UNSUPPORTED,
                "%s: key '%s' names architecture '%.80s', expected qwen2, qwen3, qwen3_moe, llama, mistral, mixtral, smollm3"
                " or gpt_oss (quantize --as ARCH treats it as one of these if every tensor fits)",
                r->what, model_type != NULL ? "model_type" : "architectures", model_type != NULL ? model_type : class_name);
    }
    if (class_name != NULL && strcmp(class_name, (*out)->class_name) != 0) {
        QN_FAIL(r->err, QUERN_ERROR_UNSUPPORTED, "%s: key 'architectures' names '%.80s', expected %s for model_type %s", r->what,
                class_name, (*out)->class_name, (*out)->model_type);
    }
done:
    return status;
}

/* Where the class has a default for absence but no meaning for null. */
static quern_status refuse_null(const qn_config_json *r, const char *key, const char *expected)
{
    const qn_json *v = qn_json_get(r->object, key);
    return v == NULL || qn_json_get_kind(v) != QN_JSON_NULL ? QUERN_OK : qn_config_fail_value(r, key, expected);
}

static quern_status read_sizes(const qn_config_json *r, const family_row *family, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    const char *activation = "silu";
    double partial = 1;
    QN_TRY(qn_config_need_uint(r, "hidden_size", 1, QN_CONFIG_HIDDEN_MAX, &c->hidden_size));
    QN_TRY(qn_config_need_uint(r, "num_hidden_layers", 1, QN_CONFIG_LAYERS_MAX, &c->n_layers));
    QN_TRY(qn_config_need_uint(r, "num_attention_heads", 1, QN_CONFIG_HEADS_MAX, &c->n_heads));
    QN_TRY(qn_config_need_uint(r, "intermediate_size", 1, QN_CONFIG_FFN_MAX, &c->ffn_size));
    QN_TRY(qn_config_need_uint(r, "vocab_size", 1, QN_CONFIG_VOCAB_MAX, &c->n_vocab));
    QN_TRY(refuse_null(r, "max_position_embeddings", "an integer above 0"));
    c->n_ctx_train = family->ctx;
    QN_TRY(qn_config_get_uint(r, "max_position_embeddings", 1, INT32_MAX, &c->n_ctx_train));
    bool kv_heads_absent = qn_json_get(r->object, "num_key_value_heads") == NULL;
    c->n_kv_heads = kv_heads_absent && family->kv_heads != 0 ? family->kv_heads : c->n_heads;
    QN_TRY(qn_config_get_uint(r, "num_key_value_heads", 1, QN_CONFIG_HEADS_MAX, &c->n_kv_heads));
    c->head_dim = family->head_dim;
    QN_TRY(qn_config_get_uint(r, "head_dim", 2, QN_CONFIG_HEAD_DIM_MAX, &c->head_dim));
    QN_TRY(refuse_null(r, "rms_norm_eps", "a number above 0"));
    c->rms_eps = family->eps;
    QN_TRY(qn_config_get_real(r, "rms_norm_eps", 0, true, 1, &c->rms_eps));
    QN_TRY(qn_config_get_string(r, "hidden_act", &activation));
    if (strcmp(activation, "silu") != 0 && strcmp(activation, "swish") != 0) {
        QN_TRY(qn_config_fail_value(r, "hidden_act", "\"silu\""));
    }
    QN_TRY(qn_config_get_real(r, "partial_rotary_factor", 0, true, 1, &partial));
    if (partial != 1.0) {
        QN_TRY(qn_config_fail_value(r, "partial_rotary_factor", "1: this architecture rotates whole heads"));
    }
    c->tied_embeddings = family->tied;
    QN_TRY(qn_config_get_bool(r, "tie_word_embeddings", &c->tied_embeddings));
done:
    return status;
}

static quern_status read_biases(const qn_config_json *r, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    bool attention = c->family == QN_FAMILY_GPT_OSS;
    bool mlp = false;
    switch (c->family) {
    case QN_FAMILY_QWEN2: c->qkv_bias = true; break;
    case QN_FAMILY_MISTRAL:
    case QN_FAMILY_MIXTRAL: break;
    case QN_FAMILY_LLAMA:
    case QN_FAMILY_SMOLLM3:
        QN_TRY(qn_config_get_bool(r, "mlp_bias", &mlp));
        c->mlp_bias = mlp;
        QN_TRY(qn_config_get_bool(r, "attention_bias", &attention));
        c->qkv_bias = c->o_bias = attention;
        break;
    case QN_FAMILY_QWEN3:
    case QN_FAMILY_QWEN3_MOE:
    case QN_FAMILY_GPT_OSS:
        QN_TRY(qn_config_get_bool(r, "attention_bias", &attention));
        c->qkv_bias = c->o_bias = attention;
        c->mlp_bias = c->family == QN_FAMILY_GPT_OSS;
        break;
    }
    c->qk_norm = c->family == QN_FAMILY_QWEN3 || c->family == QN_FAMILY_QWEN3_MOE;
done:
    return status;
}

/* ---- experts ---- */

/* transformers knows both names as one attribute and has written one or the other. */
static quern_status read_expert_count(const qn_config_json *r, uint32_t min, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    bool local = qn_config_find(r, "num_local_experts") != NULL;
    QN_TRY(qn_config_need_uint(r, local ? "num_local_experts" : "num_experts", min, QN_CONFIG_EXPERTS_MAX, &c->n_experts));
    uint32_t other = c->n_experts;
    QN_TRY(qn_config_get_uint(r, "num_experts", min, QN_CONFIG_EXPERTS_MAX, &other));
    if (other != c->n_experts) {
        QN_TRY(qn_config_fail_value(r, "num_experts", "the same number as num_local_experts"));
    }
done:
    return status;
}

static quern_status read_experts(const qn_config_json *r, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    bool qwen = c->family == QN_FAMILY_QWEN3_MOE;
    if (!qwen && c->family != QN_FAMILY_MIXTRAL && c->family != QN_FAMILY_GPT_OSS) {
        return QUERN_OK;
    }
    QN_TRY(read_expert_count(r, qwen ? 0 : 1, c));
    if (c->n_experts == 0) {
        return QUERN_OK;
    }
    bool old_key = qn_config_find(r, "num_experts_per_tok") == NULL && qn_config_find(r, "experts_per_token") != NULL;
    QN_TRY(qn_config_need_uint(r, old_key ? "experts_per_token" : "num_experts_per_tok", 1, QN_CONFIG_EXPERTS_MAX, &c->n_experts_used));
    c->expert_ffn_size = c->ffn_size;
    c->norm_topk_prob = !qwen;
    if (qwen) {
        QN_TRY(qn_config_need_uint(r, "moe_intermediate_size", 1, QN_CONFIG_FFN_MAX, &c->expert_ffn_size));
        QN_TRY(qn_config_get_bool(r, "norm_topk_prob", &c->norm_topk_prob));
    }
done:
    return status;
}

/* Qwen3-MoE: layer i has experts unless mlp_only_layers names it or (i + 1) is no multiple of decoder_sparse_step. */
static quern_status read_sparse_layers(const qn_config_json *r, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    uint32_t step = 1;
    const qn_json *dense = qn_config_find(r, "mlp_only_layers");
    QN_TRY(qn_config_get_uint(r, "decoder_sparse_step", 1, QN_CONFIG_LAYERS_MAX, &step));
    for (uint32_t i = 0; i < c->n_layers; i++) {
        c->layers[i].experts = c->n_experts > 0 && (i + 1) % step == 0;
    }
    if (dense != NULL && (qn_json_get_kind(dense) != QN_JSON_ARRAY || qn_json_length(dense) > QN_CONFIG_LAYERS_MAX)) {
        QN_TRY(qn_config_fail_value(r, "mlp_only_layers", "an array of layer numbers"));
    }
    for (size_t k = 0; k < qn_json_length(dense); k++) {
        int64_t layer;
        if (!qn_json_int(qn_json_at(dense, k), &layer) || layer < 0 || layer >= (int64_t)c->n_layers) {
            QN_TRY(qn_config_fail_value(r, "mlp_only_layers", "numbers of layers that exist"));
        }
        c->layers[layer].experts = false;
    }
done:
    return status;
}

/* ---- what differs from layer to layer ---- */

/* The window that layers may use; 0 = full attention everywhere. */
static quern_status read_window(const qn_config_json *r, const family_row *family, qn_model_config *c, uint32_t *window)
{
    quern_status status = QUERN_OK;
    bool use = true;
    uint32_t w = qn_json_get(r->object, "sliding_window") == NULL ? family->window : 0; /* null says no, absence means the default */
    QN_TRY(qn_config_get_uint(r, "sliding_window", 1, INT32_MAX, &w));
    if (c->family == QN_FAMILY_QWEN2 || c->family == QN_FAMILY_QWEN3 || c->family == QN_FAMILY_QWEN3_MOE ||
        c->family == QN_FAMILY_SMOLLM3) {
        use = false;
        QN_TRY(qn_config_get_bool(r, "use_sliding_window", &use));
    }
    *window = use && c->family != QN_FAMILY_LLAMA ? w : 0;
done:
    return status;
}

/* An array of one entry a layer, or NULL. */
static quern_status get_layer_array(const qn_config_json *r, const char *key, uint32_t n_layers, const qn_json **out)
{
    char expected[64];
    *out = qn_config_find(r, key);
    if (*out != NULL && (qn_json_get_kind(*out) != QN_JSON_ARRAY || qn_json_length(*out) != n_layers)) {
        (void)snprintf(expected, sizeof expected, "an array of %" PRIu32 ", one entry a layer", n_layers);
        return qn_config_fail_value(r, key, expected);
    }
    return QUERN_OK;
}

static quern_status read_rope_layers(const qn_config_json *r, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    uint32_t interval = 4;
    const qn_json *list;
    QN_TRY(get_layer_array(r, "no_rope_layers", c->n_layers, &list));
    QN_TRY(qn_config_get_uint(r, "no_rope_layer_interval", 1, QN_CONFIG_LAYERS_MAX, &interval));
    for (uint32_t i = 0; i < c->n_layers; i++) {
        int64_t rotates = (i + 1) % interval != 0; /* in the list too, 1 means: this layer rotates */
        if (list != NULL && (!qn_json_int(qn_json_at(list, i), &rotates) || (rotates != 0 && rotates != 1))) {
            QN_TRY(qn_config_fail_value(r, "no_rope_layers", "entries 0 and 1"));
        }
        c->layers[i].rope = rotates == 1;
    }
done:
    return status;
}

/* Classes that read layer_types. A Mistral file with them is what transformers loads as Ministral: the same, but a window where they say so. */
static bool has_layer_types(qn_family f)
{
    return f == QN_FAMILY_QWEN2 || f == QN_FAMILY_QWEN3 || f == QN_FAMILY_SMOLLM3 || f == QN_FAMILY_GPT_OSS || f == QN_FAMILY_MISTRAL;
}

static quern_status read_windows(const qn_config_json *r, const family_row *family, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    uint32_t window;
    uint32_t first = 28; /* of Qwen's windowed layers */
    const qn_json *types = NULL;
    QN_TRY(read_window(r, family, c, &window));
    QN_TRY(get_layer_array(r, "layer_types", c->n_layers, &types));
    if (c->family == QN_FAMILY_QWEN2 || c->family == QN_FAMILY_QWEN3) {
        QN_TRY(qn_config_get_uint(r, "max_window_layers", 0, INT32_MAX, &first));
    }
    for (uint32_t i = 0; i < c->n_layers; i++) {
        bool sliding = true;
        if (types != NULL) {
            const char *type = qn_json_string(qn_json_at(types, i), NULL);
            sliding = type != NULL && strcmp(type, "sliding_attention") == 0;
            if (type == NULL || (!sliding && strcmp(type, "full_attention") != 0) || (sliding && window == 0)) {
                QN_TRY(qn_config_fail_value(r, "layer_types",
                                            "\"full_attention\", or \"sliding_attention\" where a sliding_window is in use"));
            }
            if (!sliding && window != 0 && !has_layer_types(c->family)) {
                QN_TRY(qn_config_fail_value(r, "layer_types",
                                            "\"sliding_attention\" for all: this architecture has its sliding_window in every layer"));
            }
        } else if (c->family == QN_FAMILY_QWEN2 || c->family == QN_FAMILY_QWEN3) {
            sliding = i >= first;
        } else if (c->family == QN_FAMILY_SMOLLM3) {
            sliding = !c->layers[i].rope;
        } else if (c->family == QN_FAMILY_GPT_OSS) {
            sliding = i % 2 == 0;
        }
        c->layers[i].window = sliding ? window : 0;
    }
done:
    return status;
}

static quern_status read_layers(const qn_config_json *r, const family_row *family, qn_model_config *c, qn_arena *arena)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_config_init_layers(c, arena, r->err));
    if (c->family == QN_FAMILY_SMOLLM3) {
        QN_TRY(read_rope_layers(r, c));
    }
    if (c->family == QN_FAMILY_QWEN3_MOE) {
        QN_TRY(read_sparse_layers(r, c));
    }
    QN_TRY(read_windows(r, family, c));
done:
    return status;
}

/* ---- tokens and sampling ---- */

/* An id that only helps; outside the vocabulary (published files write -1) it counts as not said. */
static quern_status read_id(const qn_config_json *r, const char *key, uint32_t n_vocab, int64_t *out)
{
    const qn_json *v = qn_config_find(r, key);
    int64_t id = -1;
    if (v != NULL && !qn_json_int(v, &id)) {
        return qn_config_fail_value(r, key, "a token id");
    }
    *out = id >= 0 && id < (int64_t)n_vocab ? id : *out;
    return QUERN_OK;
}

static quern_status add_stop_id(const qn_config_json *r, const qn_json *v, qn_model_config *c)
{
    int64_t id;
    if (!qn_json_int(v, &id) || id < 0 || id >= (int64_t)c->n_vocab || c->n_stop_ids == STOP_IDS_MAX) {
        char expected[80];
        (void)snprintf(expected, sizeof expected, "token ids from 0 to %" PRIu32 ", at most %d", c->n_vocab - 1, STOP_IDS_MAX);
        return qn_config_fail_value(r, "eos_token_id", expected);
    }
    for (size_t i = 0; i < c->n_stop_ids; i++) {
        if (c->stop_ids[i] == id) {
            return QUERN_OK;
        }
    }
    c->stop_ids[c->n_stop_ids++] = (int32_t)id;
    return QUERN_OK;
}

/* eos_token_id: an id, a list of them, or null. */
static quern_status read_stop_ids(const qn_config_json *r, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    const qn_json *v = qn_config_find(r, "eos_token_id");
    bool list = qn_json_get_kind(v) == QN_JSON_ARRAY;
    for (size_t i = 0; i < (list ? qn_json_length(v) : v != NULL ? 1u : 0u); i++) {
        QN_TRY(add_stop_id(r, list ? qn_json_at(v, i) : v, c));
    }
done:
    return status;
}

static quern_status read_tokens(const qn_config_json *r, qn_model_config *c, qn_arena *arena)
{
    quern_status status = QUERN_OK;
    c->bos_id = c->eos_id = c->pad_id = -1;
    c->stop_ids = qn_arena_alloc_array(arena, STOP_IDS_MAX, sizeof *c->stop_ids);
    if (c->stop_ids == NULL) {
        QN_FAIL_MEMORY(r->err, "stop ids", STOP_IDS_MAX * sizeof *c->stop_ids);
    }
    QN_TRY(read_id(r, "bos_token_id", c->n_vocab, &c->bos_id));
    QN_TRY(read_id(r, "pad_token_id", c->n_vocab, &c->pad_id));
    QN_TRY(read_stop_ids(r, c));
done:
    return status;
}

/* Sampling settings count as the model's own only with do_sample; a repetition penalty counts always, as in transformers. */
static quern_status read_generation(const qn_config_json *r, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    bool do_sample = false;
    double temperature = 1;
    double top_p = 1;
    double min_p = 0;
    double typical_p = 1;
    double penalty = 1;
    uint32_t top_k = 0;
    QN_TRY(read_stop_ids(r, c));
    QN_TRY(qn_config_get_bool(r, "do_sample", &do_sample));
    QN_TRY(qn_config_get_real(r, "temperature", 0, false, 1e6, &temperature));
    QN_TRY(qn_config_get_real(r, "top_p", 0, false, 1, &top_p));
    QN_TRY(qn_config_get_real(r, "min_p", 0, false, 1, &min_p));
    QN_TRY(qn_config_get_real(r, "typical_p", 0, false, 1, &typical_p));
    QN_TRY(qn_config_get_real(r, "repetition_penalty", 0, true, 1e6, &penalty));
    QN_TRY(qn_config_get_uint(r, "top_k", 0, INT32_MAX, &top_k));
    c->has_sampling = do_sample || penalty != 1.0;
    c->sampling.repeat_penalty = (float)penalty;
    if (do_sample) {
        c->sampling.temperature = (float)temperature;
        c->sampling.top_k = (int32_t)top_k;
        c->sampling.top_p = (float)top_p;
        c->sampling.min_p = (float)min_p;
        c->sampling.typical_p = (float)typical_p;
    }
done:
    return status;
}

/* "DIR/generation_config.json" for a `what` of "DIR/config.json". */
static quern_status parse_generation(const char *json, size_t len, const char *what, qn_model_config *c, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *root = NULL;
    qn_buf name;
    qn_buf_init(&name, 1u << 16);
    (void)qn_buf_printf(&name, "%.*sgeneration_config.json", (int)(qn_path_base(what) - what), what);
    QN_TRY(qn_json_parse(&root, json, len, QN_JSON_REJECT_DUPLICATES, qn_buf_text(&name), err));
    qn_config_json r = {.object = root, .what = qn_buf_text(&name), .prefix = "", .err = err};
    if (qn_json_get_kind(root) != QN_JSON_OBJECT) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: the top level is no object", r.what);
    }
    QN_TRY(read_generation(&r, c));
done:
    qn_json_free(root);
    qn_buf_deinit(&name);
    return status;
}

/* ---- quantization ---- */

/* weight_block_size [rows, columns]; absent or null: one scale a tensor. Activation schemes concern activations only, which stay as they
 * are here. */
static quern_status read_fp8(const qn_config_json *r, qn_model_config *c)
{
    enum { BLOCK_MAX = 1 << 20 };
    quern_status status = QUERN_OK;
    const qn_json *block = qn_config_find(r, "weight_block_size");
    const char *format = "e4m3";
    int64_t rows = 0, cols = 0;
    QN_TRY(qn_config_get_string(r, "fmt", &format));
    if (strcmp(format, "e4m3") != 0 && strcmp(format, "float8_e4m3fn") != 0) {
        QN_TRY(qn_config_fail_value(r, "fmt", "\"e4m3\""));
    }
    if (block != NULL) {
        if (qn_json_get_kind(block) != QN_JSON_ARRAY || qn_json_length(block) != 2 || !qn_json_int(qn_json_at(block, 0), &rows) ||
            !qn_json_int(qn_json_at(block, 1), &cols) || rows < 1 || cols < 1 || rows > BLOCK_MAX || cols > BLOCK_MAX) {
            QN_TRY(qn_config_fail_value(r, "weight_block_size", "two sizes such as [128, 128]"));
        }
        c->fp8_block_rows = (uint32_t)rows;
        c->fp8_block_cols = (uint32_t)cols;
    }
done:
    return status;
}

static quern_status read_quantization(const qn_config_json *root, qn_model_config *c, qn_arena *arena)
{
    static const char *const known[] = {"fp8", "bitnet", "mxfp4"};
    quern_status status = QUERN_OK;
    const qn_json *object = qn_config_find(root, "quantization_config");
    qn_config_json r = {.object = object, .what = root->what, .prefix = "quantization_config.", .err = root->err};
    const char *method = NULL;
    if (object != NULL && qn_json_get_kind(object) != QN_JSON_OBJECT) {
        return qn_config_fail_value(root, "quantization_config", "an object");
    }
    if (object != NULL) {
        QN_TRY(qn_config_get_string(&r, "quant_method", &method));
    }
    if (method == NULL || qn_config_find(root, "quantization") != NULL) {
        return qn_config_read_mlx(c, arena, root);
    }
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(method, known[i]) == 0) {
            c->quant_method = known[i];
            return i == 0 ? read_fp8(&r, c) : QUERN_OK;
        }
    }
    QN_FAIL(root->err, QUERN_ERROR_UNSUPPORTED, "%s: key 'quantization_config.quant_method' is \"%.60s\", expected fp8, bitnet or mxfp4",
            root->what, method);
done:
    return status;
}

quern_status qn_config_read_hf(qn_model_config *out, qn_arena *arena, const char *json, size_t len, const char *what,
                               const char *generation, size_t generation_len, quern_error *err)
{
    return qn_config_read_hf_as(out, arena, json, len, what, generation, generation_len, NULL, err);
}

quern_status qn_config_read_hf_as(qn_model_config *out, qn_arena *arena, const char *json, size_t len, const char *what,
                                  const char *generation, size_t generation_len, const char *as, quern_error *err)
{
    static const qn_config_names names = {.hidden = "hidden_size",
                                          .heads = "num_attention_heads",
                                          .kv_heads = "num_key_value_heads",
                                          .head_dim = "head_dim",
                                          .n_rot = "head_dim",
                                          .experts = "number of experts",
                                          .experts_used = "num_experts_per_tok"};
    quern_status status = QUERN_OK;
    qn_json *root = NULL;
    const family_row *family = NULL;
    qn_model_config c = {.sampling = qn_config_sampling_off()};
    *out = (qn_model_config){0};
    QN_TRY(qn_json_parse(&root, json, len, QN_JSON_REJECT_DUPLICATES, what, err));
    qn_config_json r = {.object = root, .what = what, .prefix = "", .err = err};
    if (qn_json_get_kind(root) != QN_JSON_OBJECT) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: the top level is no object, expected the keys of a model configuration", what);
    }
    QN_TRY(read_family(&r, as, &family));
    c.family = family->family;
    c.architecture = family->model_type;
    QN_TRY(read_sizes(&r, family, &c));
    QN_TRY(read_biases(&r, &c));
    QN_TRY(qn_config_read_rope(&r, family->theta, &c));
    QN_TRY(read_experts(&r, &c));
    QN_TRY(qn_config_check_heads(&c, &names, what, err));
    QN_TRY(qn_config_check_foreign_hf(&r, &c));
    QN_TRY(read_layers(&r, family, &c, arena));
    QN_TRY(read_tokens(&r, &c, arena));
    QN_TRY(read_quantization(&r, &c, arena));
    if (generation != NULL) {
        QN_TRY(parse_generation(generation, generation_len, what, &c, err));
    }
    c.eos_id = c.n_stop_ids > 0 ? c.stop_ids[0] : -1;
    *out = c;
done:
    qn_json_free(root);
    return status;
}
