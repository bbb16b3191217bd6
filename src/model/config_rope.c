/* config_rope.c - rope in config.json: rope_theta and rope_scaling (before transformers 5), or rope_parameters.
 *
 * Which of several places counts is as transformers 5 decides it: an object rope_scaling with members before rope_parameters; in the chosen
 * object rope_type before type; its rope_theta before the one beside it; but original_max_position_embeddings beside it before the object's. */
#include <stdio.h>
#include <string.h>

#include "kernels/vmath.h"
#include "model/config_int.h"

/* YaRN's factor on cos and sin as DeepSeek and Mistral write it: m(mscale) / m(mscale_all_dim), m(x) = 0.1 x ln(factor) + 1. */
static quern_status read_yarn_magnitude(const qn_config_json *r, qn_rope_config *rope)
{
    quern_status status = QUERN_OK;
    double mscale = 0;
    double mscale_all_dim = 0;
    QN_TRY(qn_config_get_real(r, "attention_factor", 0, true, 1e6, &rope->attention_factor));
    QN_TRY(qn_config_get_real(r, "mscale", -1e6, false, 1e6, &mscale));
    QN_TRY(qn_config_get_real(r, "mscale_all_dim", -1e6, false, 1e6, &mscale_all_dim));
    if (rope->attention_factor <= 0 && mscale != 0 && mscale_all_dim != 0) {
        double growth = rope->factor > 1 ? 0.1 * qn_log(rope->factor) : 0;
        double above = mscale * growth + 1;
        double below = mscale_all_dim * growth + 1;
        if (above <= 0 || below <= 0) {
            QN_TRY(qn_config_fail_value(r, above <= 0 ? "mscale" : "mscale_all_dim", "a number that gives a factor above 0"));
        }
        rope->attention_factor = above / below;
    }
done:
    return status;
}

static quern_status need_factor(const qn_config_json *r, double *out)
{
    return qn_config_find(r, "factor") != NULL ? qn_config_get_real(r, "factor", 0, true, 1e6, out)
                                               : qn_config_fail_value(r, "factor", "a number above 0");
}

/* The context before scaling: beside the object, in it, or that of the model. */
static quern_status read_original_ctx(const qn_config_json *root, const qn_config_json *r, qn_model_config *c)
{
    static const char key[] = "original_max_position_embeddings";
    quern_status status = QUERN_OK;
    c->rope.original_ctx = c->n_ctx_train;
    QN_TRY(qn_config_get_uint(r, key, 1, INT32_MAX, &c->rope.original_ctx));
    QN_TRY(qn_config_get_uint(root, key, 1, INT32_MAX, &c->rope.original_ctx));
done:
    return status;
}

static quern_status read_yarn(const qn_config_json *r, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    qn_rope_config *rope = &c->rope;
    QN_TRY(need_factor(r, &rope->factor));
    QN_TRY(qn_config_get_real(r, "beta_fast", 0, true, 1e6, &rope->beta_fast));
    QN_TRY(qn_config_get_real(r, "beta_slow", 0, true, 1e6, &rope->beta_slow));
    QN_TRY(qn_config_get_bool(r, "truncate", &rope->truncate));
    QN_TRY(read_yarn_magnitude(r, rope));
    if (rope->theta <= 1) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: key 'rope_theta' is %g, expected a number above 1 where rope is scaled by yarn", r->what,
                rope->theta);
    }
done:
    return status;
}

static quern_status read_llama3(const qn_config_json *r, qn_rope_config *rope)
{
    quern_status status = QUERN_OK;
    QN_TRY(need_factor(r, &rope->factor));
    QN_TRY(qn_config_get_real(r, "low_freq_factor", 0, true, 1e6, &rope->low_freq_factor));
    QN_TRY(qn_config_get_real(r, "high_freq_factor", 0, true, 1e6, &rope->high_freq_factor));
    if (rope->low_freq_factor <= 0 || rope->high_freq_factor <= rope->low_freq_factor) {
        QN_TRY(qn_config_fail_value(r, rope->low_freq_factor <= 0 ? "low_freq_factor" : "high_freq_factor",
                                    "0 < low_freq_factor < high_freq_factor, both given"));
    }
done:
    return status;
}

static quern_status read_kind(const qn_config_json *root, const qn_config_json *r, const char *kind, const char *kind_key,
                              qn_model_config *c)
{
    static const char *const others[] = {"dynamic", "longrope", "su", "mrope", "proportional"};
    if (strcmp(kind, "default") == 0) {
        return QUERN_OK;
    }
    if (strcmp(kind, "linear") == 0) {
        c->rope.scaling = QN_ROPE_LINEAR;
        return need_factor(r, &c->rope.factor);
    }
    if (strcmp(kind, "llama3") == 0) {
        c->rope.scaling = QN_ROPE_LLAMA3;
        quern_status status = read_original_ctx(root, r, c);
        return status == QUERN_OK ? read_llama3(r, &c->rope) : status;
    }
    if (strcmp(kind, "yarn") == 0) {
        c->rope.scaling = QN_ROPE_YARN;
        quern_status status = read_original_ctx(root, r, c);
        return status == QUERN_OK ? read_yarn(r, c) : status;
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strcmp(kind, others[i]) == 0) {
            return qn_error_set(r->err, QUERN_ERROR_UNSUPPORTED, "%s: key '%s%s' is \"%s\"; this version knows linear, llama3 and yarn",
                                r->what, r->prefix, kind_key, kind);
        }
    }
    return qn_config_fail_value(r, kind_key, "\"default\", \"linear\", \"llama3\" or \"yarn\"");
}

/* The object that counts; NULL if neither has members. */
static quern_status choose_object(const qn_config_json *root, const char **key, const qn_json **object)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    *object = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const qn_json *v = qn_config_find(root, keys[i]);
        if (v != NULL && qn_json_get_kind(v) != QN_JSON_OBJECT) {
            return qn_config_fail_value(root, keys[i], "an object");
        }
        if (*object == NULL && qn_json_length(v) > 0) {
            *object = v;
            *key = keys[i];
        }
    }
    return QUERN_OK;
}

/* Members that would give layers or dimensions rope of their own. */
static quern_status check_members(const qn_config_json *r)
{
    for (qn_json_iterator *it = qn_json_iter(r->object); it != NULL; it = qn_json_next(r->object, it)) {
        qn_json_kind kind = qn_json_get_kind(qn_json_iter_value(it));
        if (kind == QN_JSON_OBJECT || kind == QN_JSON_ARRAY) {
            return qn_config_fail_value(r, qn_json_iter_key(it, NULL),
                                        "no such member: this version knows one rope for all layers and dimensions");
        }
    }
    return QUERN_OK;
}

quern_status qn_config_read_rope(const qn_config_json *root, double theta, qn_model_config *c)
{
    quern_status status = QUERN_OK;
    const qn_json *object;
    const char *key = NULL;
    const char *kind = NULL;
    const char *kind_key = "rope_type";
    char prefix[32];
    double partial = 1;
    c->rope = (qn_rope_config){.theta = theta, .factor = 1, .beta_fast = 32, .beta_slow = 1, .truncate = true};
    QN_TRY(qn_config_get_real(root, "rope_theta", 0, true, 1e300, &c->rope.theta));
    QN_TRY(choose_object(root, &key, &object));
    if (object == NULL) {
        return QUERN_OK;
    }
    (void)snprintf(prefix, sizeof prefix, "%s.", key);
    qn_config_json r = {.object = object, .what = root->what, .prefix = prefix, .err = root->err};
    QN_TRY(qn_config_get_real(&r, "rope_theta", 0, true, 1e300, &c->rope.theta));
    QN_TRY(qn_config_get_real(&r, "partial_rotary_factor", 0, true, 1, &partial));
    if (partial != 1.0) {
        QN_TRY(qn_config_fail_value(&r, "partial_rotary_factor", "1: this architecture rotates whole heads"));
    }
    if (qn_config_find(&r, "rope_type") == NULL && qn_config_find(&r, "type") != NULL) {
        kind_key = "type";
    }
    QN_TRY(qn_config_get_string(&r, kind_key, &kind));
    if (kind == NULL && qn_config_find(&r, "rope_theta") == NULL) {
        QN_TRY(qn_config_fail_value(&r, kind_key, "\"default\", \"linear\", \"llama3\" or \"yarn\""));
    }
    QN_TRY(read_kind(root, &r, kind != NULL ? kind : "default", kind_key, c));
    QN_TRY(check_members(&r));
done:
    return status;
}
