/* config.c - what is common to all sources of a configuration: fitting numbers, and careful reading of JSON. */
#include "model/config.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/config_int.h"

const char *qn_family_name(qn_family family)
{
    switch (family) {
    case QN_FAMILY_QWEN2: return "qwen2";
    case QN_FAMILY_QWEN3: return "qwen3";
    case QN_FAMILY_QWEN3_MOE: return "qwen3moe";
    case QN_FAMILY_SMOLLM3: return "smollm3";
    case QN_FAMILY_GPT_OSS: return "gpt-oss";
    case QN_FAMILY_LLAMA:
    case QN_FAMILY_MISTRAL:
    case QN_FAMILY_MIXTRAL: break;
    }
    return "llama"; /* GGUF knows Mistral and Mixtral by this name too */
}

static int compare_overrides(const void *key, const void *item)
{
    const char *module = key;
    const qn_affine_override *o = item;
    return strcmp(module, o->module);
}

static const qn_affine_override *find_override(const qn_model_config *config, const char *module)
{
    return config->n_overrides == 0 ? NULL
                                    : bsearch(module, config->overrides, config->n_overrides, sizeof *config->overrides, compare_overrides);
}

qn_affine qn_config_affine_for(const qn_model_config *config, const char *module)
{
    const qn_affine_override *found = find_override(config, module);
    return found != NULL ? found->affine : config->affine;
}

bool qn_config_is_mxfp4(const qn_model_config *config, const char *module)
{
    const qn_affine_override *found = find_override(config, module);
    return found != NULL ? found->mxfp4 : config->mxfp4;
}

/* ---- numbers that must fit together ---- */

quern_status qn_config_check_heads(qn_model_config *c, const qn_config_names *names, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (c->n_kv_heads > c->n_heads || c->n_heads % c->n_kv_heads != 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key '%s' is %" PRIu32 ", expected a divisor of '%s', which is %" PRIu32, what,
                names->kv_heads, c->n_kv_heads, names->heads, c->n_heads);
    }
    if (c->head_dim == 0) {
        if (c->hidden_size % c->n_heads != 0) {
            QN_FAIL(err, QUERN_ERROR_INVALID,
                    "%s: key '%s' is %" PRIu32 ", expected a divisor of '%s', which is %" PRIu32 " (no '%s' is given)", what, names->heads,
                    c->n_heads, names->hidden, c->hidden_size, names->head_dim);
        }
        c->head_dim = c->hidden_size / c->n_heads;
    }
    if (c->head_dim < 2 || c->head_dim > QN_CONFIG_HEAD_DIM_MAX || c->head_dim % 2 != 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: a head has %" PRIu32 " dimensions ('%s', or '%s' / '%s'), expected an even number from 2 to %u", what, c->head_dim,
                names->head_dim, names->hidden, names->heads, QN_CONFIG_HEAD_DIM_MAX);
    }
    if (c->rope.n_rot == 0) {
        c->rope.n_rot = c->head_dim;
    }
    if (c->rope.n_rot > c->head_dim || c->rope.n_rot % 2 != 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key '%s' is %" PRIu32 ", expected an even number of at most %" PRIu32 ", the size of a head",
                what, names->n_rot, c->rope.n_rot, c->head_dim);
    }
    if (c->n_experts > 0 && (c->n_experts_used == 0 || c->n_experts_used > c->n_experts)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key '%s' is %" PRIu32 ", expected 1 to %" PRIu32 ", which '%s' is", what,
                names->experts_used, c->n_experts_used, c->n_experts, names->experts);
    }
done:
    return status;
}

quern_status qn_config_init_layers(qn_model_config *c, qn_arena *arena, quern_error *err)
{
    quern_status status = QUERN_OK;
    c->layers = qn_arena_alloc_array(arena, c->n_layers, sizeof *c->layers);
    if (c->layers == NULL) {
        QN_FAIL_MEMORY(err, "the configuration's layers", c->n_layers * sizeof *c->layers);
    }
    for (uint32_t i = 0; i < c->n_layers; i++) {
        c->layers[i] = (qn_layer_config){.rope = true, .experts = c->n_experts > 0};
    }
done:
    return status;
}

quern_sampling qn_config_sampling_off(void)
{
    return (quern_sampling){.top_p = 1.0f, .typical_p = 1.0f, .repeat_penalty = 1.0f, .penalty_window = -1};
}

/* ---- reading JSON ---- */

const qn_json *qn_config_find(const qn_config_json *r, const char *key)
{
    const qn_json *v = qn_json_get(r->object, key);
    return qn_json_get_kind(v) != QN_JSON_NULL ? v : NULL;
}

/* A value as a message shows it. */
static void describe(const qn_json *v, char *out, size_t cap)
{
    int64_t integer = 0;
    double real = 0;
    size_t len = 0;
    const char *text = qn_json_string(v, &len);
    switch (qn_json_get_kind(v)) {
    case QN_JSON_NULL: (void)snprintf(out, cap, "missing"); break;
    case QN_JSON_BOOL: (void)snprintf(out, cap, "%s", qn_json_bool(v, false) ? "true" : "false"); break;
    case QN_JSON_INT:
        (void)qn_json_int(v, &integer);
        (void)snprintf(out, cap, "%" PRId64, integer);
        break;
    case QN_JSON_REAL:
        (void)qn_json_number(v, &real);
        (void)snprintf(out, cap, "%.9g", real);
        break;
    case QN_JSON_STRING:
        (void)snprintf(out, cap, "the string \"%.*s\"", (int)qn_utf8_complete_prefix(text, len < 60 ? len : 60), text);
        break;
    case QN_JSON_ARRAY: (void)snprintf(out, cap, "an array of %zu", qn_json_length(v)); break;
    case QN_JSON_OBJECT: (void)snprintf(out, cap, "an object"); break;
    }
}

quern_status qn_config_fail_value(const qn_config_json *r, const char *key, const char *expected)
{
    char value[96];
    describe(qn_json_get(r->object, key), value, sizeof value);
    return qn_error_set(r->err, QUERN_ERROR_INVALID, "%s: key '%s%s' is %s, expected %s", r->what, r->prefix, key, value, expected);
}

quern_status qn_config_get_uint(const qn_config_json *r, const char *key, uint32_t min, uint32_t max, uint32_t *out)
{
    const qn_json *v = qn_config_find(r, key);
    int64_t x = 0;
    if (v == NULL) {
        return QUERN_OK;
    }
    if (!qn_json_int(v, &x) || x < (int64_t)min || x > (int64_t)max) {
        char expected[80];
        (void)snprintf(expected, sizeof expected, "an integer from %" PRIu32 " to %" PRIu32, min, max);
        return qn_config_fail_value(r, key, expected);
    }
    *out = (uint32_t)x;
    return QUERN_OK;
}

quern_status qn_config_need_uint(const qn_config_json *r, const char *key, uint32_t min, uint32_t max, uint32_t *out)
{
    if (qn_config_find(r, key) == NULL) {
        return qn_error_set(r->err, QUERN_ERROR_INVALID, "%s: key '%s%s' is missing, expected an integer from %" PRIu32 " to %" PRIu32,
                            r->what, r->prefix, key, min, max);
    }
    return qn_config_get_uint(r, key, min, max, out);
}

quern_status qn_config_get_real(const qn_config_json *r, const char *key, double min, bool above, double max, double *out)
{
    const qn_json *v = qn_config_find(r, key);
    double x = 0;
    if (v == NULL) {
        return QUERN_OK;
    }
    if (!qn_json_number(v, &x) || !isfinite(x) || x < min || (above && x <= min) || x > max) {
        char expected[80];
        (void)snprintf(expected, sizeof expected, "a number %s %g and at most %g", above ? "above" : "from", min, max);
        return qn_config_fail_value(r, key, expected);
    }
    *out = x;
    return QUERN_OK;
}

quern_status qn_config_get_bool(const qn_config_json *r, const char *key, bool *out)
{
    const qn_json *v = qn_config_find(r, key);
    if (v != NULL && qn_json_get_kind(v) != QN_JSON_BOOL) {
        return qn_config_fail_value(r, key, "true or false");
    }
    *out = qn_json_bool(v, *out);
    return QUERN_OK;
}

quern_status qn_config_get_string(const qn_config_json *r, const char *key, const char **out)
{
    const qn_json *v = qn_config_find(r, key);
    if (v != NULL && qn_json_get_kind(v) != QN_JSON_STRING) {
        return qn_config_fail_value(r, key, "a string");
    }
    *out = v != NULL ? qn_json_string(v, NULL) : *out;
    return QUERN_OK;
}
