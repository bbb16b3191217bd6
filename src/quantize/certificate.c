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

enum { N_FIGURES = QN_CLAIM_FIGURES };

/* In the order of qn_claim_figure_names. */
static void list_figures(const qn_quality *q, double out[N_FIGURES])
{
    const double figures[N_FIGURES] = {q->ppl_source, q->ppl,     q->ppl_ratio, q->ppl_ratio_error,
                                       q->kld_mean,   q->kld_p99, q->kld_max,   q->top1_agreement};
    for (size_t i = 0; i < N_FIGURES; i++) {
        out[i] = q->measured ? figures[i] : NAN;
    }
}

static void name_key(const char *name, char *out, size_t cap) { (void)snprintf(out, cap, "quern.quality.%s", name); }

quern_status qn_certificate_reserve(qn_gguf_writer *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    double figures[N_FIGURES];
    char key[64];
    list_figures(&(const qn_quality){0}, figures);
    QN_TRY(qn_gguf_put_string(w, "quern.quality.quern_version", quern_version(), strlen(quern_version()), err));
    QN_TRY(qn_gguf_put_string(w, "quern.quality.arithmetic", arithmetic, sizeof arithmetic - 1, err));
    QN_TRY(qn_gguf_put_string(w, "quern.quality.text_sha256", zeros, HEX, err));
    QN_TRY(qn_gguf_put_string(w, "quern.quality.data_sha256", zeros, HEX, err));
    QN_TRY(qn_gguf_put_u64(w, "quern.quality.tokens", 0, err));
    QN_TRY(qn_gguf_put_u64(w, "quern.quality.n_ctx", 0, err));
    for (size_t i = 0; i < N_FIGURES; i++) {
        name_key(qn_claim_figure_names[i], key, sizeof key);
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
    double figures[N_FIGURES];
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
        memcpy(&bits, &figures[i], sizeof bits);
        name_key(qn_claim_figure_names[i], key, sizeof key);
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
    double figures[N_FIGURES];
    qn_json *root = NULL, *v = qn_json_new_object();
    list_figures(c->quality, figures);
    bool fits = qn_json_set(v, "quern_version", qn_json_new_string(quern_version())) &&
                qn_json_set(v, "arithmetic", qn_json_new_string(arithmetic)) &&
                qn_json_set(v, "text_sha256", c->quality->measured ? qn_json_new_string(c->text_sha256) : qn_json_new_null()) &&
                qn_json_set(v, "data_sha256", qn_json_new_string(c->data_sha256)) &&
                qn_json_set(v, "tokens", qn_json_new_int((int64_t)c->quality->n_tokens)) &&
                qn_json_set(v, "n_ctx", qn_json_new_int((int64_t)c->quality->n_ctx));
    for (size_t i = 0; i < N_FIGURES && fits; i++) {
        fits = qn_json_set(v, qn_claim_figure_names[i], qn_json_new_real(figures[i]));
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

static bool is_text(qn_span s, const char *text) { return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0; }

/* The same build gives the same figures on every machine but for the last bits. Other kernels round otherwise, which moves means little (kld_mean
 * of the demo model's outputs by less than a hundredth) and the greatest of all positions more. */
static double tolerance(const char *key, double measured, double ppl_ratio_error, bool same_version)
{
    if (same_version) {
        return 1e-9 + 1e-6 * fabs(measured);
    }
    bool tail = strcmp(key, "kld_max") == 0 || strcmp(key, "kld_p99") == 0;
    bool share = strcmp(key, "top1_agreement") == 0;
    double relative = (tail ? 0.5 : 0.1) * fabs(measured);
    return share ? 0.02 : relative + (strcmp(key, "ppl_ratio") == 0 ? ppl_ratio_error : 0.001);
}

/* Whether the figures, with some room for other kernels, break a limit of the default policy: a claim to pass under the strict one keeps those too.
 * Python tasks are left out: they depend on the interpreter. */
static quern_status is_lossy(const qn_quality *q, double bits, bool same_version, bool *lossy, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_findings limits;
    qn_quality figures = *q;
    figures.syntax_valid = figures.syntax_valid_source = NAN;
    figures.n_degenerate = figures.n_degenerate_source = 0;
    figures.ran = true;
    if (!same_version) {
        figures.kld_mean /= 1.1;
        figures.ppl_ratio_error += 0.001;
        figures.top1_agreement += 0.02;
    }
    qn_findings_init(&limits);
    QN_TRY(qn_quality_judge(&figures, QUERN_GATE_DEFAULT, bits, &limits, err));
    *lossy = limits.lossy;
done:
    qn_findings_deinit(&limits);
    return status;
}

/* A claim to pass that the measurement does not bear out. With figures of another text, or after layers were sampled (no text at all), it may have been
 * earned all the same. */
static quern_status check_verdict(const qn_claim *claim, const qn_quality *q, bool same_text, bool claims, double bits, bool same_version,
                                  qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool lossy = false, sampled = !claims && claim->text_sha256.data == NULL && !(claim->tokens > 0);
    QN_TRY(is_lossy(q, bits, same_version, &lossy, err));
    if (!lossy || !is_text(claim->verdict, "pass")) {
        goto done;
    }
    if (same_text || (!claims && !sampled)) {
        QN_TRY(qn_findings_fail(f, NULL, err, "the certificate claims the verdict pass, measured%s it is lossy",
                                same_text ? " on the same text" : ""));
    } else {
        QN_TRY(qn_findings_warn(f, err, "the certificate claims the verdict pass, %s; measured here it is lossy",
                                claims ? "on another text" : "without figures"));
    }
done:
    return status;
}

static quern_status check_figures(const qn_claim *claim, const qn_quality *q, bool same_version, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    double figures[N_FIGURES];
    list_figures(q, figures);
    for (size_t i = 0; i < N_FIGURES; i++) {
        const char *name = qn_claim_figure_names[i];
        double claimed = claim->figures[i], measured = figures[i];
        bool alike = fabs(claimed - measured) <= tolerance(name, measured, q->ppl_ratio_error, same_version);
        if (!alike && !(isnan(claimed) && isnan(measured))) {
            QN_TRY(qn_findings_fail(f, NULL, err, "the certificate claims %s %.9g, measured on the same text it is %.9g", name, claimed,
                                    measured));
        }
    }
done:
    return status;
}

/* What no version of Quern writes. claims: it has figures. */
static quern_status check_form(const qn_claim *claim, bool claims, qn_findings *f, quern_error *err)
{
    static const char *const verdicts[] = {"", "pass", "lossy", "fail", "skipped"};
    quern_status status = QUERN_OK;
    bool known = claim->verdict.data == NULL;
    for (size_t i = 0; i < sizeof verdicts / sizeof verdicts[0] && !known; i++) {
        known = is_text(claim->verdict, verdicts[i]);
    }
    if (!known) {
        QN_TRY(qn_findings_fail(f, NULL, err, "the certificate's verdict is '%.*s', expected pass, lossy, fail or skipped",
                                qn_name_shown(claim->verdict.data, claim->verdict.len), claim->verdict.data));
    }
    if (claim->arithmetic.data != NULL && !is_text(claim->arithmetic, arithmetic)) {
        QN_TRY(qn_findings_fail(f, NULL, err, "the certificate's arithmetic is '%.*s', expected %s",
                                qn_name_shown(claim->arithmetic.data, claim->arithmetic.len), claim->arithmetic.data, arithmetic));
    }
    if (claims && claim->text_sha256.data == NULL) {
        QN_TRY(qn_findings_fail(f, NULL, err, "the certificate has figures without the hash of the text that they were measured on"));
    }
done:
    return status;
}

static quern_status check_measured(const qn_claim *claim, const qn_quality *q, const char *text_sha256, bool claims, bool same_version,
                                   double bits, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool same_text = is_text(claim->text_sha256, text_sha256);
    bool same_chunks = claim->tokens == (double)q->n_tokens && claim->n_ctx == (double)q->n_ctx;
    if (!same_version) {
        QN_TRY(qn_findings_warn(f, err, "the certificate is of Quern %.*s, this is %s: its figures are compared roughly",
                                qn_name_shown(claim->version.data, claim->version.len),
                                claim->version.data != NULL ? claim->version.data : "", quern_version()));
    }
    if (same_text && same_version && !same_chunks) {
        QN_TRY(qn_findings_fail(f, NULL, err, "the certificate claims %.0f tokens in chunks of %.0f; its text gives %zu in chunks of %zu",
                                claim->tokens, claim->n_ctx, q->n_tokens, q->n_ctx));
    } else if (same_text && same_chunks) {
        f->certificate = same_version ? QN_CERTIFICATE_AGREES : QN_CERTIFICATE_ROUGH;
        QN_TRY(check_figures(claim, q, same_version, f, err));
    } else if (claims) {
        QN_TRY(qn_findings_warn(f, err, "the certificate's figures could not be checked: they are of %s",
                                same_text ? "the same text, cut otherwise" : "another text than the one measured here"));
    }
    QN_TRY(check_verdict(claim, q, same_text, claims, bits, same_version, f, err));
done:
    return status;
}

quern_status qn_claim_check(const qn_claim *claim, const qn_quality *q, const char *text_sha256, double bits, qn_findings *f,
                            quern_error *err)
{
    quern_status status = QUERN_OK;
    bool claims = false, same_version = is_text(claim->version, quern_version());
    size_t n_before = f->reasons.n + f->reasons.n_left_out;
    for (size_t i = 0; i < N_FIGURES; i++) {
        claims = claims || !isnan(claim->figures[i]);
    }
    if (!claim->found) {
        goto done;
    }
    f->certificate = f->certificate == QN_CERTIFICATE_NONE ? QN_CERTIFICATE_UNCHECKED : f->certificate;
    QN_TRY(check_form(claim, claims, f, err));
    if (is_text(claim->verdict, "fail")) {
        QN_TRY(qn_findings_warn(f, err, "the certificate itself says fail"));
    }
    if (q->measured) {
        QN_TRY(check_measured(claim, q, text_sha256, claims, same_version, bits, f, err));
    } else if (claims) {
        QN_TRY(qn_findings_warn(f, err, "the certificate's figures could not be checked: quality was not measured"));
    }
    if (f->reasons.n + f->reasons.n_left_out > n_before) {
        f->certificate = QN_CERTIFICATE_DIFFERS;
    }
done:
    return status;
}
