/* certificate.c - see certificate.h.
 *
 * The verdict is shorter or longer; the key behind it, quern.padding, takes up the difference, so the two have one size together.
 */
#include "quantize/certificate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "quern/quern.h"

enum { VERDICT_ROOM = 8, HEX = 64, CONFIG_BYTES_MAX = 64 << 20 };

static const char arithmetic[] = "f32_activations";
static const char zeros[HEX + 1] = "0000000000000000000000000000000000000000000000000000000000000000";
static const char blanks[VERDICT_ROOM + 1] = "        ";

typedef struct figure {
    const char *key;
    double value;
} figure;

enum { N_FIGURES = 8 };

static void list_figures(const qn_quality *q, figure out[N_FIGURES])
{
    const figure figures[N_FIGURES] = {
        {"ppl_source", q->ppl_source}, {"ppl", q->ppl},         {"ppl_ratio", q->ppl_ratio}, {"ppl_ratio_error", q->ppl_ratio_error},
        {"kld_mean", q->kld_mean},     {"kld_p99", q->kld_p99}, {"kld_max", q->kld_max},     {"top1_agreement", q->top1_agreement}};
    for (size_t i = 0; i < N_FIGURES; i++) {
        out[i] = (figure){figures[i].key, q->measured ? figures[i].value : NAN};
    }
}

static void name_key(const char *name, char *out, size_t cap) { (void)snprintf(out, cap, "quern.quality.%s", name); }

quern_status qn_certificate_reserve(qn_gguf_writer *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_quality none = {0};
    figure figures[N_FIGURES];
    char key[64];
    list_figures(&none, figures);
    QN_TRY(qn_gguf_put_string(w, "quern.quality.quern_version", quern_version(), strlen(quern_version()), err));
    QN_TRY(qn_gguf_put_string(w, "quern.quality.arithmetic", arithmetic, sizeof arithmetic - 1, err));
    QN_TRY(qn_gguf_put_string(w, "quern.quality.text_sha256", zeros, HEX, err));
    QN_TRY(qn_gguf_put_string(w, "quern.quality.data_sha256", zeros, HEX, err));
    QN_TRY(qn_gguf_put_u64(w, "quern.quality.tokens", 0, err));
    QN_TRY(qn_gguf_put_u64(w, "quern.quality.n_ctx", 0, err));
    for (size_t i = 0; i < N_FIGURES; i++) {
        name_key(figures[i].key, key, sizeof key);
        QN_TRY(qn_gguf_put_f64(w, key, NAN, err));
    }
    QN_TRY(qn_gguf_put_string(w, "quern.quality.verdict", "", 0, err));
    QN_TRY(qn_gguf_put_string(w, "quern.padding", blanks, VERDICT_ROOM, err));
done:
    return status;
}

/* ---- filling ---- */

typedef struct patch {
    const qn_gguf *g;
    const uint8_t *begin; /* of the file */
    qn_out_file *file;
    quern_error *err;
} patch;

static quern_status write_value(const patch *p, const char *key, uint64_t skip, const void *data, size_t size)
{
    const qn_gguf_value *v = qn_gguf_find(p->g, key);
    if (v == NULL) {
        return qn_error_set(p->err, QUERN_ERROR_INTERNAL, "key %s was not reserved", key);
    }
    return qn_out_file_write_at(p->file, (uint64_t)(v->data - p->begin) + skip, data, size, p->err);
}

/* A string of the reserved length: behind its length. */
static quern_status write_hex(const patch *p, const char *key, const char *hex) { return write_value(p, key, 8, hex, HEX); }

static quern_status write_u64(const patch *p, const char *key, uint64_t v)
{
    uint8_t bytes[8];
    qn_store_u64(bytes, v);
    return write_value(p, key, 0, bytes, sizeof bytes);
}

static quern_status write_verdict(const patch *p, const char *verdict)
{
    static const char padding[] = "quern.padding";
    uint8_t bytes[8 + VERDICT_ROOM + 8 + sizeof padding - 1 + 4 + 8];
    size_t n = strlen(verdict), at = 0;
    n = n < VERDICT_ROOM ? n : VERDICT_ROOM;
    qn_store_u64(bytes, n);
    memcpy(bytes + 8, verdict, n);
    at = 8 + n;
    qn_store_u64(bytes + at, sizeof padding - 1);
    memcpy(bytes + at + 8, padding, sizeof padding - 1);
    at += 8 + sizeof padding - 1;
    qn_store_u32(bytes + at, QN_GGUF_STRING);
    qn_store_u64(bytes + at + 4, VERDICT_ROOM - n);
    memcpy(bytes + at + 12, blanks, VERDICT_ROOM - n);
    return write_value(p, "quern.quality.verdict", 0, bytes, sizeof bytes);
}

quern_status qn_certificate_fill_gguf(const qn_certificate *c, const qn_gguf *g, qn_out_file *file, quern_error *err)
{
    quern_status status = QUERN_OK;
    figure figures[N_FIGURES];
    const qn_tensor *t = qn_gguf_tensor_at(g, 0);
    const patch p = {.g = g, .begin = t->data - t->file_offset, .file = file, .err = err};
    list_figures(c->quality, figures);
    if (c->quality->measured) {
        QN_TRY(write_hex(&p, "quern.quality.text_sha256", c->text_sha256));
    }
    QN_TRY(write_hex(&p, "quern.quality.data_sha256", c->data_sha256));
    QN_TRY(write_u64(&p, "quern.quality.tokens", c->quality->n_tokens));
    QN_TRY(write_u64(&p, "quern.quality.n_ctx", c->quality->n_ctx));
    for (size_t i = 0; i < N_FIGURES; i++) {
        char key[64];
        uint64_t bits;
        memcpy(&bits, &figures[i].value, sizeof bits);
        name_key(figures[i].key, key, sizeof key);
        QN_TRY(write_u64(&p, key, bits));
    }
    QN_TRY(write_verdict(&p, c->verdict));
    QN_TRY(qn_out_file_flush(file, err));
done:
    return status;
}

quern_status qn_certificate_fill_config(const qn_certificate *c, const char *config, size_t len, qn_buf *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    figure figures[N_FIGURES];
    qn_json *root = NULL, *v = qn_json_new_object();
    list_figures(c->quality, figures);
    bool fits = qn_json_set(v, "quern_version", qn_json_new_string(quern_version())) &&
                qn_json_set(v, "arithmetic", qn_json_new_string(arithmetic)) &&
                qn_json_set(v, "text_sha256", c->quality->measured ? qn_json_new_string(c->text_sha256) : qn_json_new_null()) &&
                qn_json_set(v, "data_sha256", qn_json_new_string(c->data_sha256)) &&
                qn_json_set(v, "tokens", qn_json_new_int((int64_t)c->quality->n_tokens)) &&
                qn_json_set(v, "n_ctx", qn_json_new_int((int64_t)c->quality->n_ctx));
    for (size_t i = 0; i < N_FIGURES && fits; i++) {
        fits = qn_json_set(v, figures[i].key, qn_json_new_real(figures[i].value));
    }
    fits = fits && qn_json_set(v, "verdict", qn_json_new_string(c->verdict));
    status = qn_json_parse(&root, config, len, QN_JSON_WIDE_INTEGERS, "config.json", err);
    if (status != QUERN_OK) {
        goto done;
    }
    fits = qn_json_set(root, "quern_quality", v) && fits;
    v = NULL;
    if (!fits || !qn_json_write(root, 4, out) || !qn_buf_append_char(out, '\n')) {
        QN_FAIL_MEMORY(err, "config.json", len);
    }
done:
    qn_json_free(v);
    qn_json_free(root);
    return status;
}

/* ---- claims ---- */

static double number_of(const qn_gguf *g, const char *name)
{
    char key[64];
    int64_t whole;
    double real;
    name_key(name, key, sizeof key);
    const qn_gguf_value *v = qn_gguf_find(g, key);
    if (v == NULL || v->type == QN_GGUF_ARRAY) {
        return NAN;
    }
    return qn_gguf_element_i64(v, 0, &whole) ? (double)whole : qn_gguf_element_f64(v, 0, &real) ? real : NAN;
}

qn_claim qn_claim_of_gguf(const qn_gguf *g)
{
    qn_claim c = {0};
    bool there;
    if (qn_gguf_get_string(g, "quern.quality.data_sha256", &c.data_sha256, &c.found, NULL) != QUERN_OK || !c.found) {
        return (qn_claim){.found = false};
    }
    if (qn_gguf_get_string(g, "quern.quality.text_sha256", &c.text_sha256, &there, NULL) != QUERN_OK || !there) {
        c.text_sha256 = (qn_span){0};
    }
    c.tokens = number_of(g, "tokens");
    c.n_ctx = number_of(g, "n_ctx");
    c.ppl_ratio = number_of(g, "ppl_ratio");
    c.kld_mean = number_of(g, "kld_mean");
    c.top1_agreement = number_of(g, "top1_agreement");
    return c;
}

static double member_of(const qn_json *o, const char *key)
{
    double v;
    return qn_json_number(qn_json_get(o, key), &v) ? v : NAN;
}

qn_claim qn_claim_of_config(const qn_json *config)
{
    const qn_json *o = qn_json_get(config, "quern_quality");
    qn_claim c = {.tokens = member_of(o, "tokens"),
                  .n_ctx = member_of(o, "n_ctx"),
                  .ppl_ratio = member_of(o, "ppl_ratio"),
                  .kld_mean = member_of(o, "kld_mean"),
                  .top1_agreement = member_of(o, "top1_agreement")};
    c.data_sha256.data = qn_json_string(qn_json_get(o, "data_sha256"), &c.data_sha256.len);
    c.text_sha256.data = qn_json_string(qn_json_get(o, "text_sha256"), &c.text_sha256.len);
    c.found = c.data_sha256.data != NULL;
    return c;
}

quern_status qn_claim_check(const qn_claim *claim, const qn_quality *q, const char *text_sha256, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    const struct {
        const char *what;
        double claimed, measured;
    } figures[] = {{"ppl_ratio", claim->ppl_ratio, q->ppl_ratio},
                   {"kld_mean", claim->kld_mean, q->kld_mean},
                   {"top1_agreement", claim->top1_agreement, q->top1_agreement}};
    bool same_text = claim->text_sha256.len == HEX && memcmp(claim->text_sha256.data, text_sha256, HEX) == 0;
    if (!claim->found || !q->measured || !same_text || claim->tokens != (double)q->n_tokens || claim->n_ctx != (double)q->n_ctx) {
        return QUERN_OK;
    }
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        if (!(fabs(figures[i].claimed - figures[i].measured) <= 1e-9 + 1e-6 * fabs(figures[i].measured))) {
            QN_TRY(qn_findings_fail(f, NULL, err, "the certificate claims %s %.9g, measured on the same text it is %.9g", figures[i].what,
                                    figures[i].claimed, figures[i].measured));
        }
    }
done:
    return status;
}
