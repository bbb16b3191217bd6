/* config_mlx.c - MLX's quantization object in config.json:
 *
 *   "quantization": {"group_size": 64, "bits": 4, "mode": "affine", "model.layers.0.mlp.down_proj": {"group_size": null, "bits": 6}, ...}
 *
 * mlx-lm writes it twice, the second time as "quantization_config". A module's own object replaces the default; false leaves the module
 * unquantized. group_size null means the mode's default, 64 for affine, 32 for mxfp4; an object without a mode is affine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/config_int.h"

/* MLX's own defaults where an object leaves a member out. */
enum { GROUP_DEFAULT = 64, MXFP4_GROUP = 32, BITS_DEFAULT = 4 };

static quern_status read_affine(const qn_config_json *r, qn_affine *out, bool *mxfp4)
{
    quern_status status = QUERN_OK;
    const char *mode = "affine";
    QN_TRY(qn_config_get_string(r, "mode", &mode));
    *mxfp4 = strcmp(mode, "mxfp4") == 0;
    if (strcmp(mode, "affine") != 0 && !*mxfp4) {
        QN_FAIL(
            r->err, QUERN_ERROR_UNSUPPORTED,
            "%s: key '%smode' is \"%.40s\", a mode of MLX that this version does not support; it reads \"affine\" and \"mxfp4\": take the "
            "checkpoint that this was made from, or convert that one in one of these modes",
            r->what, r->prefix, mode);
    }
    *out = (qn_affine){.bits = BITS_DEFAULT, .group = *mxfp4 ? MXFP4_GROUP : GROUP_DEFAULT};
    QN_TRY(qn_config_get_uint(r, "bits", 1, 8, &out->bits));
    QN_TRY(qn_config_get_uint(r, "group_size", 32, 128, &out->group));
    if (*mxfp4 && out->bits != BITS_DEFAULT) {
        QN_TRY(qn_config_fail_value(r, "bits", "4, which mode mxfp4 has"));
    }
    if (*mxfp4 && out->group != MXFP4_GROUP) {
        QN_TRY(qn_config_fail_value(r, "group_size", "32, which mode mxfp4 has"));
    }
    if (out->bits == 7) {
        QN_TRY(qn_config_fail_value(r, "bits", "1 to 6, or 8"));
    }
    if (out->group != 32 && out->group != 64 && out->group != 128) {
        QN_TRY(qn_config_fail_value(r, "group_size", "32, 64 or 128"));
    }
done:
    return status;
}

static int compare_overrides(const void *a, const void *b)
{
    return strcmp(((const qn_affine_override *)a)->module, ((const qn_affine_override *)b)->module);
}

static quern_status read_override(qn_model_config *c, qn_arena *arena, const qn_config_json *parent, const char *module, size_t len,
                                  const qn_json *v)
{
    quern_status status = QUERN_OK;
    char prefix[256];
    qn_affine affine = {0};
    bool mxfp4 = false;
    if (qn_json_get_kind(v) == QN_JSON_BOOL) {
        affine = qn_json_bool(v, false) ? c->affine : affine;
        mxfp4 = qn_json_bool(v, false) && c->mxfp4;
    } else {
        (void)snprintf(prefix, sizeof prefix, "%s%.180s.", parent->prefix, module);
        qn_config_json r = {.object = v, .what = parent->what, .prefix = prefix, .err = parent->err};
        QN_TRY(read_affine(&r, &affine, &mxfp4));
    }
    char *name = qn_arena_strndup(arena, module, len);
    if (name == NULL) {
        QN_FAIL_MEMORY(parent->err, "MLX's overrides", len + 1);
    }
    c->overrides[c->n_overrides++] = (qn_affine_override){.module = name, .affine = affine, .mxfp4 = mxfp4};
done:
    return status;
}

quern_status qn_config_read_mlx(qn_model_config *c, qn_arena *arena, const qn_config_json *root)
{
    quern_status status = QUERN_OK;
    const char *key = qn_config_find(root, "quantization") != NULL ? "quantization" : "quantization_config";
    const qn_json *object = qn_config_find(root, key);
    char prefix[32];
    if (object == NULL) {
        return QUERN_OK;
    }
    if (qn_json_get_kind(object) != QN_JSON_OBJECT) {
        return qn_config_fail_value(root, key, "an object");
    }
    (void)snprintf(prefix, sizeof prefix, "%s.", key);
    qn_config_json r = {.object = object, .what = root->what, .prefix = prefix, .err = root->err};
    if (qn_config_find(&r, "bits") == NULL) {
        QN_TRY(qn_config_fail_value(&r, "bits", "the bits of a weight: 1 to 6, or 8"));
    }
    QN_TRY(read_affine(&r, &c->affine, &c->mxfp4));
    c->mlx = true;
    c->overrides = qn_arena_alloc_array(arena, qn_json_length(object), sizeof *c->overrides);
    if (c->overrides == NULL) {
        QN_FAIL_MEMORY(root->err, "MLX's overrides", qn_json_length(object) * sizeof *c->overrides);
    }
    for (qn_json_iterator *it = qn_json_iter(object); it != NULL; it = qn_json_next(object, it)) {
        size_t len;
        const char *module = qn_json_iter_key(it, &len);
        const qn_json *v = qn_json_iter_value(it);
        if (qn_json_get_kind(v) == QN_JSON_OBJECT || qn_json_get_kind(v) == QN_JSON_BOOL) {
            QN_TRY(read_override(c, arena, &r, module, len, v));
        }
    }
    qsort(c->overrides, c->n_overrides, sizeof *c->overrides, compare_overrides);
done:
    return status;
}
