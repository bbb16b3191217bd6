/* targets.c - parsing `--formats`. See targets.h. */
#include "quantize/targets.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* Numbers are GGUF's general.file_type as llama.cpp assigns them. */
static const qn_gguf_recipe gguf_recipes[] = {
    {"F32", 0, QN_DTYPE_F32},      {"F16", 1, QN_DTYPE_F16},          {"BF16", 32, QN_DTYPE_BF16},     {"Q8_0", 7, QN_DTYPE_Q8_0},
    {"Q6_K", 18, QN_DTYPE_Q6_K},   {"Q5_K_M", 17, QN_DTYPE_Q5_K},     {"Q5_K_S", 16, QN_DTYPE_Q5_K},   {"Q5_1", 9, QN_DTYPE_Q5_1},
    {"Q5_0", 8, QN_DTYPE_Q5_0},    {"Q4_K_M", 15, QN_DTYPE_Q4_K},     {"Q4_K_S", 14, QN_DTYPE_Q4_K},   {"Q4_1", 3, QN_DTYPE_Q4_1},
    {"Q4_0", 2, QN_DTYPE_Q4_0},    {"Q3_K_L", 13, QN_DTYPE_Q3_K},     {"Q3_K_M", 12, QN_DTYPE_Q3_K},   {"Q3_K_S", 11, QN_DTYPE_Q3_K},
    {"Q2_K", 10, QN_DTYPE_Q2_K},   {"IQ4_NL", 25, QN_DTYPE_IQ4_NL},   {"IQ4_XS", 30, QN_DTYPE_IQ4_XS}, {"TQ1_0", 36, QN_DTYPE_TQ1_0},
    {"TQ2_0", 37, QN_DTYPE_TQ2_0}, {"MXFP4_MOE", 38, QN_DTYPE_MXFP4},
};

static const qn_mlx_recipe mlx_recipes[] = {
    {"2bit", QN_MLX_AFFINE, 2, 0}, {"3bit", QN_MLX_AFFINE, 3, 0}, {"4bit", QN_MLX_AFFINE, 4, 0},      {"5bit", QN_MLX_AFFINE, 5, 0},
    {"6bit", QN_MLX_AFFINE, 6, 0}, {"8bit", QN_MLX_AFFINE, 8, 0}, {"mixed_4_6", QN_MLX_AFFINE, 4, 6}, {"mixed_3_6", QN_MLX_AFFINE, 3, 6},
    {"mxfp4", QN_MLX_MXFP4, 4, 0}, {"bf16", QN_MLX_PLAIN, 0, 0},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool equals(const char *text, size_t len, const char *name) { return strlen(name) == len && strncasecmp(text, name, len) == 0; }

static bool parse_gguf(const char *text, size_t len, qn_target *out)
{
    for (size_t i = 0; i < COUNT(gguf_recipes); i++) {
        if (equals(text, len, gguf_recipes[i].name)) {
            *out = (qn_target){.gguf = &gguf_recipes[i]};
            return true;
        }
    }
    return false;
}

/* KIND or KIND-gGROUP. */
static bool parse_mlx(const char *text, size_t len, qn_target *out)
{
    static const struct {
        const char *text;
        uint32_t group;
    } groups[] = {{"-g32", 32}, {"-g64", 64}, {"-g128", 128}};
    uint32_t group = 0;
    for (size_t i = 0; i < COUNT(groups); i++) {
        size_t n = strlen(groups[i].text);
        if (len > n && strncasecmp(text + len - n, groups[i].text, n) == 0) {
            group = groups[i].group;
            len -= n;
            break;
        }
    }
    for (size_t i = 0; i < COUNT(mlx_recipes); i++) {
        const qn_mlx_recipe *r = &mlx_recipes[i];
        if (equals(text, len, r->name)) {
            uint32_t usual = r->mode == QN_MLX_AFFINE ? 64 : r->mode == QN_MLX_MXFP4 ? 32 : 0;
            if (group != 0 && group != usual && r->mode != QN_MLX_AFFINE) {
                return false;
            }
            *out = (qn_target){.mlx = r, .group = group != 0 ? group : usual};
            return true;
        }
    }
    return false;
}

static quern_status parse_entry(const char *text, size_t len, qn_target *out, quern_error *err)
{
    if (len > 5 && strncasecmp(text, "gguf:", 5) == 0 && parse_gguf(text + 5, len - 5, out)) {
        return QUERN_OK;
    }
    if (len > 4 && strncasecmp(text, "mlx:", 4) == 0 && parse_mlx(text + 4, len - 4, out)) {
        return QUERN_OK;
    }
    return qn_error_set(
        err, QUERN_ERROR_USAGE,
        "format '%.*s' is not known; expected gguf:TYPE (F32 F16 BF16 Q8_0 Q6_K Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_M Q4_K_S Q4_1 Q4_0 "
        "Q3_K_L Q3_K_M Q3_K_S Q2_K IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4_MOE) or mlx:KIND (2bit 3bit 4bit 5bit 6bit 8bit mixed_4_6 "
        "mixed_3_6, each with -g32, -g64 or -g128; mxfp4; bf16)",
        len > 60 ? 60 : (int)len, text);
}

quern_status qn_targets_parse(const char *formats, qn_target out[QN_TARGETS_MAX], size_t *n, quern_error *err)
{
    quern_status status = QUERN_OK;
    *n = 0;
    if (formats == NULL || formats[0] == '\0') {
        QN_FAIL(err, QUERN_ERROR_USAGE, "no formats given; expected a list such as gguf:Q4_K_M,mlx:4bit");
    }
    for (const char *p = formats;;) {
        size_t len = strcspn(p, ",");
        const char *text = p;
        size_t text_len = len;
        while (text_len > 0 && *text == ' ') {
            text++;
            text_len--;
        }
        while (text_len > 0 && text[text_len - 1] == ' ') {
            text_len--;
        }
        if (*n == QN_TARGETS_MAX) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "more than %d formats in one run", QN_TARGETS_MAX);
        }
        QN_TRY(parse_entry(text, text_len, &out[*n], err));
        for (size_t i = 0; i < *n; i++) {
            if (out[i].gguf == out[*n].gguf && out[i].mlx == out[*n].mlx && out[i].group == out[*n].group) {
                QN_FAIL(err, QUERN_ERROR_USAGE, "format '%.*s' is given twice", (int)text_len, text);
            }
        }
        *n += 1;
        if (p[len] == '\0') {
            break;
        }
        p += len + 1;
    }
done:
    return status;
}

bool qn_target_can_mix(const qn_target *t)
{
    if (t->gguf != NULL) {
        return t->gguf->base != QN_DTYPE_F32 && t->gguf->base != QN_DTYPE_F16 && t->gguf->base != QN_DTYPE_BF16 &&
               t->gguf->base != QN_DTYPE_MXFP4;
    }
    return t->mlx->mode == QN_MLX_AFFINE;
}

void qn_target_name(const qn_target *t, char *out, size_t cap)
{
    if (t->bits_per_weight > 0 && t->gguf != NULL) {
        (void)snprintf(out, cap, "%.2fbpw", t->bits_per_weight);
    } else if (t->bits_per_weight > 0) {
        (void)snprintf(out, cap, "%.2fbpw-g%" PRIu32, t->bits_per_weight, t->group);
    } else if (t->gguf != NULL) {
        (void)snprintf(out, cap, "%s", t->gguf->name);
    } else if (t->mlx->mode == QN_MLX_PLAIN) {
        (void)snprintf(out, cap, "%s", t->mlx->name);
    } else {
        (void)snprintf(out, cap, "%s-g%" PRIu32, t->mlx->name, t->group);
    }
}

const char *qn_gguf_file_type_name(uint32_t file_type)
{
    for (size_t i = 0; i < COUNT(gguf_recipes); i++) {
        if (gguf_recipes[i].file_type == file_type) {
            return gguf_recipes[i].name;
        }
    }
    return NULL;
}
