/* inspect_manifest.c - a Quern manifest (schema quern.manifest/1): every file of every output is read, its size and SHA-256 compared, and what the
 * manifest says of an output's quality held against the certificate that the output carries; its type, bits per weight, parameters, tensors and
 * the list of its files against the files (inspect_listing.c). Errors of tensors, reasons and what calibration read are restated as they stand there.
 *
 * The source's files are described, not verified: the source is often elsewhere. Paths are untrusted (base/fs.h qn_path_join_inside). */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/sha256.h"
#include "model/inspect_int.h"
#include "quern/model.h"

typedef struct manifest {
    const char *path;
    char *dir;
    double n_parameters; /* of the source, NAN where it does not say */
    quern_error *err;
} manifest;

static quern_status fail_member(const manifest *m, const char *where, size_t number, const char *key, const char *expected)
{
    return qn_error_set(m->err, QUERN_ERROR_INVALID, "%s: key '%s' of %s number %zu: expected %s", m->path, key, where, number, expected);
}

static bool is_sha256(const char *hex, size_t len) { return hex != NULL && len == 64 && strspn(hex, "0123456789abcdef") == 64; }

/* One {"path","bytes","sha256"}. */
static quern_status verify_file(const manifest *m, const qn_json *file, size_t number)
{
    quern_status status = QUERN_OK;
    char *path = NULL;
    char actual[65];
    qn_mapping bytes = {0};
    int64_t expected_bytes = -1;
    size_t hex_len = 0;
    const char *relative = qn_json_string(qn_json_get(file, "path"), NULL);
    const char *hex = qn_json_string(qn_json_get(file, "sha256"), &hex_len);
    if (relative == NULL) {
        QN_TRY(fail_member(m, "file", number, "path", "a string"));
    }
    if (!qn_json_int(qn_json_get(file, "bytes"), &expected_bytes) || expected_bytes < 0) {
        QN_TRY(fail_member(m, "file", number, "bytes", "a size in bytes"));
    }
    if (!is_sha256(hex, hex_len)) {
        QN_TRY(fail_member(m, "file", number, "sha256", "64 lower-case hexadecimal digits"));
    }
    status = qn_path_join_inside(&path, m->dir, relative, m->err);
    if (status != QUERN_OK) {
        qn_error_prefix(m->err, "%s: outputs", m->path);
        goto done;
    }
    QN_TRY(qn_mapping_open(&bytes, path, m->err));
    if (bytes.size != (uint64_t)expected_bytes) {
        QN_FAIL(m->err, QUERN_ERROR_INVALID, "%s: has %zu bytes, but %s says %" PRId64, path, bytes.size, m->path, expected_bytes);
    }
    QN_TRY(qn_sha256_file(path, actual, m->err));
    if (strcmp(actual, hex) != 0) {
        QN_FAIL(m->err, QUERN_ERROR_INVALID, "%s: has SHA-256 %s, but %s says %s: the file is not the one that was written", path, actual,
                m->path, hex);
    }
done:
    qn_mapping_close(&bytes);
    qn_free(path);
    return status;
}

/* An output that the gate refused has no files. */
static bool is_removed(const qn_json *output)
{
    const char *verdict = qn_json_string(qn_json_get(qn_json_get(output, "gate"), "verdict"), NULL);
    return verdict != NULL && strcmp(verdict, "fail") == 0;
}

/* ---- certificates ---- */

enum { CONFIG_BYTES_MAX = 64 << 20 };

/* The two are written from one measurement; only the writing of decimals may differ. */
static quern_status compare_claim(const manifest *m, const char *path, const qn_json *output, const qn_claim *claim)
{
    quern_status status = QUERN_OK;
    const qn_json *quality = qn_json_get(output, "quality");
    size_t len = 0;
    const char *verdict = qn_json_string(qn_json_get(qn_json_get(output, "gate"), "verdict"), &len);
    for (size_t i = 0; i < QN_CLAIM_FIGURES; i++) {
        double said = NAN, claimed = claim->figures[i];
        (void)qn_json_number(qn_json_get(quality, qn_claim_figure_names[i]), &said);
        bool alike = fabs(said - claimed) <= 1e-12 * fabs(claimed) || (isnan(said) && isnan(claimed));
        if (!alike) {
            QN_FAIL(m->err, QUERN_ERROR_INVALID, "%s: %s is %.9g in the file's certificate, but %s says %.9g", path,
                    qn_claim_figure_names[i], claimed, m->path, said);
        }
    }
    const struct {
        const char *key;
        double claimed;
    } counts[] = {{"tokens", claim->tokens}, {"n_ctx", claim->n_ctx}};
    for (size_t i = 0; i < 2 && qn_json_get_kind(quality) == QN_JSON_OBJECT; i++) {
        double said = NAN;
        (void)qn_json_number(qn_json_get(quality, counts[i].key), &said);
        if (!(said == counts[i].claimed)) {
            QN_FAIL(m->err, QUERN_ERROR_INVALID, "%s: %s is %.0f in the file's certificate, but %s says %.0f", path, counts[i].key,
                    counts[i].claimed, m->path, said);
        }
    }
    size_t text_len = 0;
    const char *text = qn_json_string(qn_json_get(quality, "text_sha256"), &text_len);
    if (text != NULL && (claim->text_sha256.len != text_len || memcmp(claim->text_sha256.data, text, text_len) != 0)) {
        QN_FAIL(m->err, QUERN_ERROR_INVALID, "%s: the file's certificate is of another text than %s says", path, m->path);
    }
    if (verdict == NULL || claim->verdict.len != len || memcmp(claim->verdict.data, verdict, len) != 0) {
        QN_FAIL(m->err, QUERN_ERROR_INVALID, "%s: the file's certificate says '%.*s', but %s says '%s'", path,
                qn_name_shown(claim->verdict.data, claim->verdict.len), claim->verdict.data != NULL ? claim->verdict.data : "", m->path,
                verdict != NULL ? verdict : "nothing");
    }
done:
    return status;
}

/* ---- what follows from the files ---- */

static quern_status fail_said(const manifest *m, const char *path, const char *key, double own, double said)
{
    return qn_error_set(m->err, QUERN_ERROR_INVALID, "%s: %s is %.9g by the file's tensors, but %s says %.9g", path, key, own, m->path,
                        said);
}

/* The type is the one that the file carries (manifests describe Quern's files only: others carry none); bits and parameters are counted. A model
 * that this version cannot run is not counted. */
static quern_status check_said(const manifest *m, const char *path, const qn_json *output, qn_span type)
{
    quern_status status = QUERN_OK;
    quern_model *model = NULL;
    const quern_model_options options = {.without_tokenizer = true};
    size_t len = 0;
    const char *said = qn_json_string(qn_json_get(output, "type"), &len);
    if (type.data != NULL && (said == NULL || type.len != len || memcmp(type.data, said, len) != 0)) {
        QN_FAIL(m->err, QUERN_ERROR_INVALID, "%s: the file is of type '%.*s', but %s says '%.*s'", path, qn_name_shown(type.data, type.len),
                type.data, m->path, qn_name_shown(said, len), said != NULL ? said : "");
    }
    status = quern_model_open(&model, path, &options, m->err);
    if (status == QUERN_ERROR_UNSUPPORTED) {
        status = QUERN_OK;
        goto done;
    }
    QN_TRY(status);
    const quern_model_info *info = quern_model_get_info(model);
    double bits_said = NAN, bits = 8.0 * (double)info->weight_bytes / (double)info->n_parameters;
    (void)qn_json_number(qn_json_get(output, "bits_per_weight"), &bits_said);
    if (m->n_parameters != (double)info->n_parameters) {
        QN_TRY(fail_said(m, path, "the number of parameters", (double)info->n_parameters, m->n_parameters));
    }
    if (!(fabs(bits_said - bits) <= 1e-5 * bits)) { /* it is written with six digits */
        QN_TRY(fail_said(m, path, "bits_per_weight", bits, bits_said));
    }
done:
    quern_model_close(model);
    return status;
}

/* Whether the file or folder that an output names is among its files, which were read. */
static bool is_covered(const qn_json *files, const char *path, bool folder)
{
    size_t n = strlen(path);
    for (size_t i = 0; i < qn_json_length(files); i++) {
        const char *file = qn_json_string(qn_json_get(qn_json_at(files, i), "path"), NULL);
        bool inside = file != NULL && strncmp(file, path, n) == 0;
        if (inside && (folder ? strcmp(file + n, "/config.json") == 0 : file[n] == '\0')) {
            return true;
        }
    }
    return false;
}

/* Sizes are compared file by file; this is their sum. */
static quern_status check_bytes(const manifest *m, const qn_json *output, const char *path)
{
    const qn_json *files = qn_json_get(output, "files");
    int64_t said = -1, n;
    uint64_t sum = 0;
    for (size_t i = 0; i < qn_json_length(files); i++) {
        sum += qn_json_int(qn_json_get(qn_json_at(files, i), "bytes"), &n) && n > 0 ? (uint64_t)n : 0;
    }
    return qn_json_int(qn_json_get(output, "bytes"), &said) && said >= 0 && (uint64_t)said == sum
               ? QUERN_OK
               : qn_error_set(m->err, QUERN_ERROR_INVALID, "%s: its files have %" PRIu64 " bytes together, but %s says %" PRId64, path, sum,
                              m->path, said);
}

/* *agrees: the output carries a certificate, and it says what the manifest says. What else follows from the files is compared, too. */
static quern_status check_certificate(const manifest *m, const qn_json *output, size_t number, bool *agrees)
{
    quern_status status = QUERN_OK;
    const char *relative = qn_json_string(qn_json_get(output, "path"), NULL), *format = qn_json_string(qn_json_get(output, "format"), NULL);
    char *path = NULL, *config = NULL;
    size_t len = 0;
    qn_gguf *g = NULL;
    qn_safetensors *weights = NULL;
    qn_json *root = NULL;
    qn_claim claim = {0};
    qn_span type = {0};
    bool typed;
    *agrees = false;
    bool gguf = format != NULL && strcmp(format, "gguf") == 0, mlx = format != NULL && strcmp(format, "mlx") == 0;
    const qn_json *files = qn_json_get(output, "files");
    if (qn_json_length(files) == 0) { /* the gate refused it */
        goto done;
    }
    if (!gguf && !mlx) {
        QN_TRY(fail_member(m, "output", number, "format", "gguf or mlx"));
    }
    if (relative == NULL || (!is_removed(output) && !is_covered(files, relative, mlx))) {
        QN_TRY(fail_member(m, "output", number, "path", "one of its files, or the folder of its config.json"));
    }
    QN_TRY(qn_path_join_inside(&path, m->dir, relative, m->err));
    if (gguf) {
        QN_TRY(qn_gguf_open(&g, path, false, m->err));
        claim = qn_claim_of_gguf(g);
        QN_TRY(qn_gguf_get_string(g, "quern.type", &type, &typed, m->err));
    } else {
        QN_TRY(qn_file_read_member(&config, &len, path, "config.json", CONFIG_BYTES_MAX, m->err));
        if (config != NULL) {
            QN_TRY(qn_json_parse(&root, config, len, QN_JSON_WIDE_INTEGERS, path, m->err));
        }
        claim = qn_claim_of_config(root);
        type.data = qn_json_string(qn_json_get(root, "quern_type"), &type.len);
    }
    if (claim.found) {
        QN_TRY(compare_claim(m, path, output, &claim));
    }
    *agrees = claim.found;
    if (!is_removed(output)) { /* what failed may be anything */
        if (!gguf) {
            QN_TRY(qn_safetensors_open_dir(&weights, path, false, m->err));
        }
        const qn_listing listing = {.manifest = m->path, .path = path, .gguf = g, .safetensors = weights, .err = m->err};
        QN_TRY(check_bytes(m, output, path));
        QN_TRY(mlx ? qn_listing_check_folder(&listing, relative, files) : QUERN_OK);
        QN_TRY(qn_listing_check_tensors(&listing, qn_json_get(output, "tensors")));
        QN_TRY(check_said(m, path, output, type));
    }
done:
    qn_json_free(root);
    qn_safetensors_close(weights);
    qn_gguf_close(g);
    qn_free(config);
    qn_free(path);
    return status;
}

/* ---- outputs ---- */

/* Copies a member as it is, null where it is absent. */
static void copy_member(qn_doc *d, qn_json *to, const char *name, const qn_json *from, const char *key)
{
    const qn_json *v = qn_json_get(from, key);
    qn_doc_put(d, to, name, v != NULL ? qn_json_clone(v) : qn_json_new_null());
}

static quern_status read_output(qn_doc *d, const manifest *m, qn_json *outputs, const qn_json *output, size_t number, uint64_t *n_verified)
{
    quern_status status = QUERN_OK;
    bool certified;
    const qn_json *files = qn_json_get(output, "files");
    if (qn_json_get_kind(output) != QN_JSON_OBJECT || qn_json_get_kind(files) != QN_JSON_ARRAY ||
        (qn_json_length(files) == 0 && !is_removed(output))) {
        QN_TRY(fail_member(m, "output", number, "files", "an array of at least one file"));
    }
    for (size_t i = 0; i < qn_json_length(files); i++) {
        QN_TRY(verify_file(m, qn_json_at(files, i), i));
        ++*n_verified;
    }
    QN_TRY(check_certificate(m, output, number, &certified));
    qn_json *row = qn_json_new_object();
    copy_member(d, row, "format", output, "format");
    copy_member(d, row, "type", output, "type");
    copy_member(d, row, "path", output, "path");
    copy_member(d, row, "bytes", output, "bytes");
    copy_member(d, row, "bits_per_weight", output, "bits_per_weight");
    copy_member(d, row, "gate", qn_json_get(output, "gate"), "verdict");
    copy_member(d, row, "ppl_ratio", qn_json_get(output, "quality"), "ppl_ratio");
    copy_member(d, row, "kld_mean", qn_json_get(output, "quality"), "kld_mean");
    copy_member(d, row, "top1_agreement", qn_json_get(output, "quality"), "top1_agreement");
    qn_doc_put(d, row, "certificate", qn_json_new_string(certified ? "agrees" : "none"));
    qn_doc_append(d, outputs, row);
done:
    return status;
}

quern_status qn_inspect_manifest(qn_doc *d, const char *path, const char *text, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    manifest m = {.path = path, .n_parameters = NAN, .err = err};
    qn_json *root = NULL;
    const char *base = qn_path_base(path);
    uint64_t n_verified = 0;
    m.dir = base == path ? qn_strdup(".") : qn_strndup(path, (size_t)(base - path));
    if (m.dir == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path) + 1);
    }
    QN_TRY(qn_json_parse(&root, text, len, QN_JSON_REJECT_DUPLICATES, path, err));
    const char *schema = qn_json_string(qn_json_get(root, "schema"), NULL);
    if (schema == NULL || strcmp(schema, "quern.manifest/1") != 0) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: key 'schema' is '%.60s', expected quern.manifest/1", path,
                schema != NULL ? schema : "missing");
    }
    const qn_json *list = qn_json_get(root, "outputs");
    if (qn_json_get_kind(list) != QN_JSON_ARRAY) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key 'outputs' is missing, expected an array", path);
    }
    qn_doc_put(d, d->root, "format", qn_json_new_string("json"));
    copy_member(d, d->root, "created", root, "created");
    copy_member(d, d->root, "quern_version", root, "quern_version");
    const qn_json *source = qn_json_get(root, "source");
    (void)qn_json_number(qn_json_get(source, "parameters"), &m.n_parameters);
    qn_json *source_out = qn_doc_put_object(d, d->root, "source");
    copy_member(d, source_out, "name", source, "name");
    copy_member(d, source_out, "format", source, "format");
    copy_member(d, source_out, "architecture", source, "architecture");
    copy_member(d, source_out, "parameters", source, "parameters");
    qn_json *outputs = qn_doc_put_array(d, d->root, "outputs");
    QN_TRY(qn_listing_check_paths(list, path, err));
    for (size_t i = 0; i < qn_json_length(list); i++) {
        QN_TRY(read_output(d, &m, outputs, qn_json_at(list, i), i, &n_verified));
    }
    qn_doc_put(d, d->root, "files_verified", qn_doc_u64(n_verified));
done:
    qn_json_free(root);
    qn_free(m.dir);
    return status;
}
