/* claim.c - see claim.h. */
#include "model/claim.h"

#include <math.h>
#include <stdio.h>

const char *const qn_claim_figure_names[QN_CLAIM_FIGURES] = {"ppl_source", "ppl",     "ppl_ratio", "ppl_ratio_error",
                                                             "kld_mean",   "kld_p99", "kld_max",   "top1_agreement"};

static double number_of(const qn_gguf *g, const char *name)
{
    char key[64];
    int64_t whole;
    double real;
    (void)snprintf(key, sizeof key, "quern.quality.%s", name);
    const qn_gguf_value *v = qn_gguf_find(g, key);
    if (v == NULL || v->type == QN_GGUF_ARRAY) {
        return NAN;
    }
    return qn_gguf_element_i64(v, 0, &whole) ? (double)whole : qn_gguf_element_f64(v, 0, &real) ? real : NAN;
}

static qn_span string_of(const qn_gguf *g, const char *name)
{
    char key[64];
    qn_span s = {0};
    bool there = false;
    (void)snprintf(key, sizeof key, "quern.quality.%s", name);
    return qn_gguf_get_string(g, key, &s, &there, NULL) == QUERN_OK && there ? s : (qn_span){0};
}

qn_claim qn_claim_of_gguf(const qn_gguf *g)
{
    qn_claim c = {.data_sha256 = string_of(g, "data_sha256"),
                  .text_sha256 = string_of(g, "text_sha256"),
                  .verdict = string_of(g, "verdict"),
                  .version = string_of(g, "quern_version"),
                  .arithmetic = string_of(g, "arithmetic"),
                  .tokens = number_of(g, "tokens"),
                  .n_ctx = number_of(g, "n_ctx")};
    c.found = c.data_sha256.data != NULL || c.text_sha256.data != NULL || c.verdict.data != NULL || c.version.data != NULL;
    for (size_t i = 0; i < QN_CLAIM_FIGURES; i++) {
        c.figures[i] = number_of(g, qn_claim_figure_names[i]);
        c.found = c.found || !isnan(c.figures[i]);
    }
    return c;
}

static double member_of(const qn_json *o, const char *key)
{
    double v;
    return qn_json_number(qn_json_get(o, key), &v) ? v : NAN;
}

static qn_span text_of(const qn_json *o, const char *key)
{
    qn_span s = {0};
    s.data = qn_json_string(qn_json_get(o, key), &s.len);
    return s.data != NULL ? s : (qn_span){0};
}

qn_claim qn_claim_of_config(const qn_json *config)
{
    const qn_json *o = qn_json_get(config, "quern_quality");
    qn_claim c = {.data_sha256 = text_of(o, "data_sha256"),
                  .text_sha256 = text_of(o, "text_sha256"),
                  .verdict = text_of(o, "verdict"),
                  .version = text_of(o, "quern_version"),
                  .arithmetic = text_of(o, "arithmetic"),
                  .tokens = member_of(o, "tokens"),
                  .n_ctx = member_of(o, "n_ctx")};
    c.found = c.data_sha256.data != NULL || c.text_sha256.data != NULL || c.verdict.data != NULL || c.version.data != NULL;
    for (size_t i = 0; i < QN_CLAIM_FIGURES; i++) {
        c.figures[i] = member_of(o, qn_claim_figure_names[i]);
        c.found = c.found || !isnan(c.figures[i]);
    }
    return c;
}
