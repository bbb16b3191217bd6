/* mlx_config.c - config.json of an MLX folder. See mlx_config.h.
 *
 * It is the source's with the objects "quantization" and "quantization_config" (the same content twice, as mlx-lm writes it; modules that
 * differ from the default stand in it by name). mlx-lm does not read transformers 5's rope_parameters for most families, and its defaults
 * for absent keys are its own: such keys are written out. Invariant: Quern and transformers read this file as they read the source's.
 */
#include "quantize/mlx_config.h"

#include "base/json.h"
#include "kernels/vmath.h"
#include "model/rope.h"

static qn_json *quantization_entry(qn_affine a, const char *mode)
{
    qn_json *v = qn_json_new_object();
    (void)qn_json_set(v, "group_size", qn_json_new_int(a.group));
    (void)qn_json_set(v, "bits", qn_json_new_int(a.bits));
    (void)qn_json_set(v, "mode", qn_json_new_string(mode));
    return v;
}

/* The default, then the modules that differ. */
static qn_json *quantization_object(const qn_job *job, const qn_output *o)
{
    const qn_mlx_recipe *r = o->target.mlx;
    qn_json *v = quantization_entry((qn_affine){.bits = r->bits, .group = o->target.group}, r->mode == QN_MLX_MXFP4 ? "mxfp4" : "affine");
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        const qn_sink *sink = &o->sinks[i];
        bool usual = sink->affine.bits == r->bits && sink->affine.group == o->target.group;
        if (sink->affine.bits != 0 && !usual) {
            char module[128];
            const qn_recipe_tensor *t = &job->source.pieces[i].what;
            qn_part_mlx_module(job->source.config.family, t->part, t->layer, module, sizeof module);
            (void)qn_json_set(v, module, quantization_entry(sink->affine, "affine"));
        }
    }
    return v;
}

/* generation_config.json may name more end tokens than config.json; mlx-lm reads them from config.json. */
static quern_status merge_end_tokens(const qn_source *s, qn_json *config, quern_error *err)
{
    const qn_json *ids = qn_json_get(s->generation, "eos_token_id");
    bool given = ids != NULL && qn_json_get_kind(ids) != QN_JSON_NULL;
    return !given || qn_json_set(config, "eos_token_id", qn_json_clone(ids))
               ? QUERN_OK
               : qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: config.json needs %zu bytes", s->generation_len);
}

/* ---- what mlx-lm reads elsewhere, or has other defaults for ---- */

typedef struct editor {
    qn_json *root;
    bool fits;
} editor;

static void set(editor *e, const char *key, qn_json *value) { e->fits = qn_json_set(e->root, key, value) && e->fits; }

/* Rope in one object, complete, so that it means the same to every reader: "type" is what mlx-lm looks at first, "rope_type" what
 * transformers does; a factor on cos and sin is attention_factor to transformers and mscale to mlx-lm. */
static qn_json *rope_object(const qn_rope_config *r, bool with_theta)
{
    static const char *const names[] = {
        [QN_ROPE_NONE] = "default", [QN_ROPE_LINEAR] = "linear", [QN_ROPE_LLAMA3] = "llama3", [QN_ROPE_YARN] = "yarn"};
    editor e = {.root = qn_json_new_object(), .fits = true};
    set(&e, "rope_type", qn_json_new_string(names[r->scaling]));
    set(&e, "type", qn_json_new_string(names[r->scaling]));
    if (with_theta) {
        set(&e, "rope_theta", qn_json_new_real(r->theta));
    }
    if (r->scaling != QN_ROPE_NONE) {
        set(&e, "factor", qn_json_new_real(r->factor));
    }
    if (r->scaling == QN_ROPE_LLAMA3) {
        set(&e, "low_freq_factor", qn_json_new_real(r->low_freq_factor));
        set(&e, "high_freq_factor", qn_json_new_real(r->high_freq_factor));
    }
    if (r->scaling == QN_ROPE_YARN) {
        set(&e, "beta_fast", qn_json_new_real(r->beta_fast));
        set(&e, "beta_slow", qn_json_new_real(r->beta_slow));
        set(&e, "truncate", qn_json_new_bool(r->truncate));
    }
    if (r->scaling == QN_ROPE_LLAMA3 || r->scaling == QN_ROPE_YARN) {
        set(&e, "original_max_position_embeddings", qn_json_new_int(r->original_ctx));
    }
    if (r->scaling == QN_ROPE_YARN && r->attention_factor > 0) {
        set(&e, "attention_factor", qn_json_new_real(r->attention_factor));
        if (r->factor > 1) {
            set(&e, "mscale", qn_json_new_real((r->attention_factor - 1) / (0.1 * qn_log(r->factor))));
        }
    }
    if (!e.fits) {
        qn_json_free(e.root);
    }
    return e.fits ? e.root : NULL; /* setting NULL fails in turn */
}

static bool is_windowed(const qn_model_config *c, bool *all)
{
    bool any = false;
    *all = true;
    for (uint32_t i = 0; i < c->n_layers; i++) {
        any = any || c->layers[i].window != 0;
        *all = *all && c->layers[i].window != 0;
    }
    return any;
}

/* mlx-lm's llama model, which runs these two families as well, has windows where layer_types says so, if some layer has none. */
static bool mlx_has_windows(const qn_model_config *c)
{
    bool all;
    return is_windowed(c, &all) && !all && (c->family == QN_FAMILY_MISTRAL || c->family == QN_FAMILY_SMOLLM3);
}

static qn_json *layer_types(const qn_model_config *c)
{
    qn_json *list = qn_json_new_array();
    bool fits = true;
    for (uint32_t i = 0; i < c->n_layers; i++) {
        fits = qn_json_append(list, qn_json_new_string(c->layers[i].window != 0 ? "sliding_attention" : "full_attention")) && fits;
    }
    if (!fits) {
        qn_json_free(list);
    }
    return fits ? list : NULL;
}

static void set_unless_there(editor *e, const char *key, qn_json *value)
{
    const qn_json *there = qn_json_get(e->root, key);
    if (there == NULL || qn_json_get_kind(there) == QN_JSON_NULL) {
        set(e, key, value);
    } else {
        qn_json_free(value);
    }
}

static bool say_outright(qn_json *config, const qn_model_config *c)
{
    editor e = {.root = config, .fits = true};
    set(&e, "rope_theta", qn_json_new_real(c->rope.theta));
    set(&e, "rope_scaling", c->rope.scaling != QN_ROPE_NONE ? rope_object(&c->rope, false) : qn_json_new_null());
    if (qn_json_get(config, "rope_parameters") != NULL) {
        set(&e, "rope_parameters", rope_object(&c->rope, true));
    }
    set(&e, "tie_word_embeddings", qn_json_new_bool(c->tied_embeddings));
    set_unless_there(&e, "num_key_value_heads", qn_json_new_int(c->n_kv_heads));
    set_unless_there(&e, "max_position_embeddings", qn_json_new_int(c->n_ctx_train));
    set_unless_there(&e, "rms_norm_eps", qn_json_new_real(c->rms_eps));
    set_unless_there(&e, "head_dim", qn_json_new_int(c->head_dim));
    if (c->family == QN_FAMILY_QWEN3_MOE) {
        set_unless_there(&e, "num_experts", qn_json_new_int(c->n_experts));
        set_unless_there(&e, "decoder_sparse_step", qn_json_new_int(1));
        set_unless_there(&e, "mlp_only_layers", qn_json_new_array());
        set_unless_there(&e, "norm_topk_prob", qn_json_new_bool(c->norm_topk_prob));
    }
    if (c->family == QN_FAMILY_MIXTRAL) {
        set_unless_there(&e, "num_local_experts", qn_json_new_int(c->n_experts));
    }
    if (c->family == QN_FAMILY_MISTRAL) { /* the class has none, whatever the file says; mlx-lm would look for them */
        set(&e, "attention_bias", qn_json_new_bool(false));
        set(&e, "mlp_bias", qn_json_new_bool(false));
    }
    if (mlx_has_windows(c)) {
        set(&e, "layer_types", layer_types(c));
    }
    return e.fits;
}

/* ---- what it does not compute ---- */

static quern_status warn_of_attention(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &job->source.config;
    bool qwen3 = c->family == QN_FAMILY_QWEN3 || c->family == QN_FAMILY_QWEN3_MOE;
    bool whole_hidden = c->family == QN_FAMILY_QWEN2 || c->family == QN_FAMILY_MIXTRAL;
    if (qwen3 && c->qkv_bias) {
        QN_TRY(qn_job_warn(job, o, err,
                           "config.json says attention_bias true: Quern reads the biases, but mlx-lm refuses models of type %s with them",
                           c->architecture));
    }
    if (whole_hidden && (uint64_t)c->head_dim * c->n_heads != c->hidden_size) {
        QN_TRY(qn_job_warn(job, o, err,
                           "config.json says head_dim %u: Quern reads it, but mlx-lm refuses models of type %s with heads other than "
                           "hidden_size / num_attention_heads",
                           (unsigned)c->head_dim, c->architecture));
    }
    uint32_t window = 0;
    for (uint32_t i = 0; i < c->n_layers && window == 0; i++) {
        window = c->layers[i].window < c->n_ctx_train ? c->layers[i].window : 0;
    }
    if (window != 0 && !mlx_has_windows(c)) {
        QN_TRY(qn_job_warn(
            job, o, err,
            "the sliding window of %u tokens is stored and Quern computes with it, but mlx-lm attends to all tokens in models of "
            "type %s: its results are wrong beyond %u tokens",
            (unsigned)window, c->architecture, (unsigned)window));
    }
done:
    return status;
}

quern_status qn_mlx_warn(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &job->source.config;
    qn_rope_config rounded = c->rope;
    rounded.truncate = true;
    QN_TRY(warn_of_attention(job, o, err));
    if (c->rope.scaling != QN_ROPE_NONE && (c->family == QN_FAMILY_MIXTRAL || c->family == QN_FAMILY_QWEN3_MOE)) {
        QN_TRY(qn_job_warn(
            job, o, err,
            "rope's scaling is stored and Quern computes with it, but mlx-lm leaves it out in models of type %s: its results are "
            "wrong",
            c->architecture));
    } else if (c->rope.scaling == QN_ROPE_YARN && !qn_rope_same_yarn_range(&c->rope, &rounded)) {
        QN_TRY(qn_job_warn(
            job, o, err,
            "truncate false for YaRN is stored and Quern computes with it, but mlx-lm rounds the correction range: its results are "
            "wrong"));
    } else if (c->rope.scaling == QN_ROPE_YARN && c->rope.factor <= 1 && c->rope.attention_factor > 0 && c->rope.attention_factor != 1.0) {
        QN_TRY(qn_job_warn(
            job, o, err,
            "YaRN's attention_factor %g is stored and Quern computes with it, but mlx-lm has none where factor is at most 1: its "
            "results are wrong",
            c->rope.attention_factor));
    }
done:
    return status;
}

/* ---- all together ---- */

/* A source that was read as an architecture which it does not name: its output names it. */
static bool say_architecture(qn_json *config, qn_family family)
{
    qn_json *classes = qn_json_new_array();
    bool fits = qn_json_append(classes, qn_json_new_string(qn_family_class_name(family)));
    if (!fits) {
        qn_json_free(classes);
    }
    return fits && qn_json_set(config, "architectures", classes) &&
           qn_json_set(config, "model_type", qn_json_new_string(qn_family_model_type(family)));
}

quern_status qn_mlx_make_config(const qn_job *job, const qn_output *o, qn_buf *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *config = NULL;
    const qn_source *s = &job->source;
    QN_TRY(qn_json_parse(&config, s->config_json, s->config_len, 0, "config.json", err));
    QN_TRY(merge_end_tokens(s, config, err));
    bool fits = say_outright(config, &s->config);
    fits = (!s->as_other || say_architecture(config, s->config.family)) && fits;
    qn_json_remove(config, "quantization_config"); /* FP8's, or of an MLX folder: it is about the source's weights */
    qn_json_remove(config, "quantization");
    qn_json_remove(config, "quern_quality");
    fits = qn_json_set(config, "quern_type", qn_json_new_string(o->type)) && fits;
    if (o->target.mlx->mode == QN_MLX_PLAIN) {
        const char *key = qn_json_get(config, "dtype") != NULL ? "dtype" : "torch_dtype";
        fits = qn_json_set(config, key, qn_json_new_string("bfloat16")) && fits;
    } else {
        fits = qn_json_set(config, "quantization", quantization_object(job, o)) &&
               qn_json_set(config, "quantization_config", quantization_object(job, o)) && fits;
    }
    if (!fits || !qn_json_write(config, 4, out) || !qn_buf_append_char(out, '\n')) {
        QN_FAIL_MEMORY(err, "config.json", s->config_len);
    }
done:
    qn_json_free(config);
    return status;
}
