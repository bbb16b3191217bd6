/* verify.c - quern_verify: opens every file beside the source and has it examined.
 *
 * Invariant: what is wrong with a file's content is a finding of that file; only what keeps it from being read is an error.
 */
#include "quern/verify.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "quantize/certificate.h"
#include "quantize/quality_run.h"
#include "quantize/verify_folder.h"
#include "quantize/verify_metadata.h"
#include "quantize/verify_origin.h"
#include "quantize/verify_output.h"
#include "quantize/verify_report.h"
#include "quern/model.h"
#include "quern/quern.h"

enum { REPORT_BYTES_MAX = 1 << 30, THREADS_MAX = 1024, SAID_TYPE_BYTES_MAX = 32 };

/* The source beside a plan of the outputs' family; opened when the first file of the family comes. */
typedef struct families {
    const quern_verify_options *opt;
    qn_job gguf, mlx;
    bool has_gguf, has_mlx;
    qn_quality_run quality;
    qn_calibrated *calibrated;
} families;

static quern_status get_job(families *f, bool gguf, qn_job **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_job *job = gguf ? &f->gguf : &f->mlx;
    bool *has = gguf ? &f->has_gguf : &f->has_mlx;
    const quern_quantize_options opt = {
        .source = f->opt->source, .architecture = f->opt->architecture, .output_dir = ".", .formats = gguf ? "gguf:F16" : "mlx:bf16"};
    if (!*has) {
        *has = true;
        QN_TRY(qn_job_open(job, &opt, UINT64_MAX, err));
    }
    *out = job;
done:
    return status;
}

/* The type that the file names: Quern's key, else llama.cpp's number. */
static quern_status take_said_type(qn_verified *v, const char *by, const char *said, size_t len, quern_error *err)
{
    if (said == NULL || len == 0 || len > SAID_TYPE_BYTES_MAX || v->said_type != NULL) {
        return QUERN_OK;
    }
    v->said_by = by;
    v->said_type = qn_arena_strndup(&v->findings.arena, said, len);
    return v->said_type != NULL ? QUERN_OK : qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: %s needs %zu bytes", by, len + 1);
}

static quern_status read_said_type(qn_verified *v, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_span key = {0};
    uint64_t number = 0;
    bool has_key = false, has_number = false;
    bool is_text = qn_gguf_get_string(v->gguf, "quern.type", &key, &has_key, NULL) == QUERN_OK && has_key;
    bool is_number = qn_gguf_get_u64(v->gguf, "general.file_type", &number, &has_number, NULL) == QUERN_OK && has_number;
    const char *name = is_number && number <= UINT32_MAX ? qn_gguf_file_type_name((uint32_t)number) : NULL;
    QN_TRY(is_text ? take_said_type(v, "quern.type", key.data, key.len, err) : QUERN_OK);
    if (v->said_type != NULL && name != NULL && strstr(v->said_type, "bpw") == NULL && strcmp(name, v->said_type) != 0) {
        QN_TRY(qn_findings_note(&v->findings, err, "general.file_type says %s, quern.type says %s", name, v->said_type));
    }
    QN_TRY(name != NULL ? take_said_type(v, "general.file_type", name, strlen(name), err) : QUERN_OK);
done:
    return status;
}

static bool is_of_other_version(const qn_claim *c)
{
    const char *own = quern_version();
    return c->found && c->version.data != NULL && (c->version.len != strlen(own) || memcmp(c->version.data, own, c->version.len) != 0);
}

static quern_status check_gguf(const families *all, qn_verified *v, const qn_verify_run *run, qn_claim *claim, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_verify_run own = *run;
    own.importance = qn_gguf_find(v->gguf, "quantize.imatrix.entries_count") != NULL ||
                     qn_gguf_find(v->gguf, "quantize.imatrix.file") != NULL;
    QN_TRY(qn_verify_gguf_keys(v->job, v->output, v->gguf, all->quality.text, all->quality.text_len, &v->findings, err));
    QN_TRY(qn_verified_bind(v, NULL, err));
    QN_TRY(read_said_type(v, err));
    *claim = qn_claim_of_gguf(v->gguf);
    own.other_version = is_of_other_version(claim);
    QN_TRY(qn_verified_check(v, &own, err));
    QN_TRY(qn_verified_check_claim(v, claim->found ? claim->data_sha256.data : NULL, claim->data_sha256.len, err));
done:
    return status;
}

/* root: config.json parsed, for the claim's strings to live in; the caller frees it. */
static quern_status check_mlx(const families *all, qn_verified *v, const qn_verify_run *run, qn_json **root, qn_claim *claim,
                              quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_folder_texts texts;
    qn_model_config config;
    qn_verify_run own = *run;
    QN_TRY(qn_folder_texts_read(&texts, v->path, err));
    QN_TRY(qn_verify_folder(v->job, v->path, &texts, v->safetensors, all->quality.text, all->quality.text_len, &config, &v->findings, err));
    QN_TRY(qn_verify_folder_files(v->job, v->path, v->safetensors, &v->findings, err));
    QN_TRY(qn_verified_bind(v, &config, err));
    QN_TRY(qn_json_parse(root, texts.text[QN_FOLDER_CONFIG], texts.len[QN_FOLDER_CONFIG], QN_JSON_WIDE_INTEGERS, "config.json", err));
    size_t said_len = 0;
    const char *said = qn_json_string(qn_json_get(*root, "quern_type"), &said_len);
    QN_TRY(take_said_type(v, "config.json", said, said_len, err));
    *claim = qn_claim_of_config(*root);
    own.other_version = is_of_other_version(claim);
    QN_TRY(qn_verified_check(v, &own, err));
    QN_TRY(qn_verified_check_claim(v, claim->data_sha256.data, claim->data_sha256.len, err));
done:
    qn_folder_texts_free(&texts);
    return status;
}

typedef struct chunk_report {
    const quern_verify_options *opt;
    const char *path;
} chunk_report;

static bool on_chunk(void *user, size_t done, size_t total)
{
    const chunk_report *r = user;
    return r->opt->on_progress == NULL || r->opt->on_progress(r->opt->user, r->path, done, total);
}

/* What the file loses. A file that does not run is broken. */
static quern_status check_quality(families *all, qn_verified *v, const char *path, const qn_claim *claim, qn_quality *q, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_quality_item item = {.v = v};
    chunk_report report = {.opt = all->opt, .path = path};
    bool ready;
    QN_TRY(qn_quality_run_begin(&all->quality, v, &ready, err));
    if (ready) {
        item.opened = quern_model_open(&item.own, path, NULL, &item.why);
        if (item.opened == QUERN_ERROR_UNSUPPORTED && all->opt->architecture != NULL) {
            const quern_model_options as = {.architecture = all->opt->architecture};
            item.opened = quern_model_open(&item.own, path, &as, &item.why);
        }
        QN_TRY(qn_quality_run_measure(&all->quality, &item, 1, on_chunk, &report, err));
        *q = item.figures;
    }
    QN_TRY(qn_claim_check(claim, q, all->quality.base.text_sha256, qn_verified_bits(v), &v->findings, err));
done:
    quern_model_close(item.own);
    return status;
}

/* One file that could be opened, or of which something keeps it from being judged (an error of content). */
static quern_status examine(families *all, qn_verified *v, const qn_verify_run *run, qn_quality *q, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *config = NULL;
    qn_claim claim = {0};
    bool folder = qn_path_is_directory(v->path);
    if (!qn_path_exists(v->path)) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no such file or folder", v->path);
    }
    QN_TRY(folder ? qn_safetensors_open_dir(&v->safetensors, v->path, false, err) : qn_gguf_open(&v->gguf, v->path, false, err));
    QN_TRY(folder ? check_mlx(all, v, run, &config, &claim, err) : check_gguf(all, v, run, &claim, err));
    QN_TRY(qn_verified_find_origin(v, all->calibrated, err));
    if (claim.found && v->findings.certificate == QN_CERTIFICATE_NONE) {
        v->findings.certificate = QN_CERTIFICATE_UNCHECKED;
    }
    if (claim.found && claim.data_sha256.data == NULL) {
        QN_TRY(qn_findings_fail(&v->findings, NULL, err, "the certificate does not say which data it is about (no data_sha256)"));
    }
    if (all->opt->policy != QUERN_GATE_OFF && !v->findings.failed) {
        QN_TRY(check_quality(all, v, v->path, &claim, q, err));
    }
done:
    qn_json_free(config);
    return status;
}

/* A file that cannot be judged has an entry too: {"path","gate"}, with the reason. */
static quern_status unreadable_entry(const families *all, const qn_verified *v, qn_json **out, quern_error *err)
{
    *out = qn_json_new_object();
    qn_json *gate = qn_gate_to_json(all->opt->policy, all->opt->sample_layers, &v->findings);
    bool fits = qn_json_set(*out, "path", qn_json_new_string(v->path));
    fits = qn_json_set(gate, "verdict", qn_json_new_string("unreadable")) && fits;
    fits = qn_json_set(*out, "gate", gate) && fits;
    return fits ? QUERN_OK : qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory for the report");
}

static quern_status verify_file(families *all, const char *path, const qn_verify_run *run, quern_verify_result *result, qn_json *outputs,
                                quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    qn_verified v = {0};
    qn_job *job = NULL;
    qn_json *entry = NULL;
    qn_quality quality = {0};
    QN_TRY(get_job(all, !qn_path_is_directory(path), &job, err));
    qn_verified_init(&v, job, &job->outputs[0], path);
    status = examine(all, &v, run, &quality, &why);
    if (qn_status_is_of_content(status)) {
        QN_TRY(qn_findings_fail(&v.findings, NULL, err, "%s", why.message));
        QN_TRY(unreadable_entry(all, &v, &entry, err));
        if (result->n_unreadable++ == 0) {
            result->unreadable = why;
        }
    } else if (status != QUERN_OK) {
        QN_FAIL(err, status, "%s", why.message);
    } else {
        QN_TRY(qn_verified_to_json(&v, all->opt->policy, all->opt->sample_layers, qn_quality_to_json(&quality, &all->quality.base), &entry,
                                   err));
        result->n_failed += v.findings.failed;
        const char *verdict = qn_verdict_name(&v.findings, all->opt->policy);
        result->n_lossy += strcmp(verdict, "lossy") == 0;
        result->n_unmeasured += all->opt->policy != QUERN_GATE_OFF && strcmp(verdict, "skipped") == 0;
    }
    bool kept = qn_json_append(outputs, entry);
    entry = NULL;
    if (!kept) {
        QN_FAIL_MEMORY(err, "the report", 64);
    }
done:
    qn_json_free(entry);
    qn_gguf_close(v.gguf);
    qn_safetensors_close(v.safetensors);
    qn_verified_deinit(&v);
    return status;
}

static quern_status write_report(const families *all, qn_json *outputs, quern_verify_result *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_source *s = all->has_gguf ? &all->gguf.source : &all->mlx.source;
    qn_buf text;
    qn_json *root = qn_json_new_object(), *source = qn_json_new_object();
    qn_buf_init(&text, REPORT_BYTES_MAX);
    bool fits = qn_json_set(source, "name", qn_json_new_string(s->name)) &&
                qn_json_set(source, "architecture", qn_json_new_string(s->config.architecture)) &&
                qn_json_set(source, "parameters", qn_json_new_int((int64_t)s->n_parameters));
    fits = qn_json_set(root, "schema", qn_json_new_string("quern.verify/1")) && fits;
    fits = qn_json_set(root, "source", source) && fits;
    fits = qn_json_set(root, "outputs", qn_json_clone(outputs)) && fits;
    if (!fits || !qn_json_write(root, 2, &text) || !qn_buf_append_char(&text, '\n')) {
        QN_FAIL_MEMORY(err, "the report", text.len);
    }
    out->json = qn_buf_take(&text, &out->len);
    if (out->json == NULL) {
        QN_FAIL_MEMORY(err, "the report", text.len);
    }
done:
    qn_json_free(root);
    qn_buf_deinit(&text);
    return status;
}

/* A text of the user's that is too short is wrong usage, said before anything is read. */
static quern_status check_text(families *all, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_job *job;
    if (all->opt->text != NULL && all->opt->policy != QUERN_GATE_OFF) {
        QN_TRY(get_job(all, !qn_path_is_directory(all->opt->files[0]), &job, err));
        const qn_source *s = &job->source;
        QN_TRY(s->tokenizer == NULL ? QUERN_OK
                                    : qn_quality_check_text(s->tokenizer, s->config.n_ctx_train, all->opt->text, all->opt->text_len, err));
    }
done:
    return status;
}

quern_status quern_verify(const quern_verify_options *opt, quern_verify_result *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_calibrated calibrated = {.source = opt->source,
                                .architecture = opt->architecture,
                                .how = opt->calibrate,
                                .text = opt->calibration_text,
                                .text_len = opt->calibration_len,
                                .text_name = opt->calibration_name,
                                .imatrix_path = opt->imatrix_path,
                                .memory_bytes = opt->memory_bytes,
                                .n_threads = opt->n_threads,
                                .on_progress = opt->on_progress,
                                .user = opt->user};
    families all = {.opt = opt,
                    .calibrated = &calibrated,
                    .quality = {.source = opt->source,
                                .architecture = opt->architecture,
                                .text = opt->text,
                                .text_len = opt->text_len,
                                .policy = opt->policy,
                                .sample_layers = opt->sample_layers,
                                .memory_bytes = opt->memory_bytes,
                                .n_threads = opt->n_threads}};
    qn_verify_run run = {.try_encoders = true,
                         .calibrated = opt->calibrate != QUERN_CALIBRATE_NONE ? &calibrated : NULL,
                         .on_progress = opt->on_progress,
                         .user = opt->user};
    bool usable;
    qn_json *outputs = qn_json_new_array();
    *out = (quern_verify_result){0};
    qn_quality_run_init(&all.quality);
    if (opt->source == NULL || opt->n_files == 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "files to verify and their source are needed");
    }
    if (opt->n_threads > THREADS_MAX) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "%zu threads, expected at most %d", opt->n_threads, THREADS_MAX);
    }
    if (outputs == NULL) {
        QN_FAIL_MEMORY(err, "the report", 64);
    }
    QN_TRY(check_text(&all, err));
    if (qn_calibrated_is_given(&calibrated)) { /* what stands in its way is no fault of a file */
        QN_TRY(qn_calibrated_open(&calibrated, !qn_path_is_directory(opt->files[0]), &usable, err));
    }
    QN_TRY(qn_pool_create(&run.pool, opt->n_threads != 0 ? opt->n_threads : qn_cpu_usable_count(), err));
    for (size_t i = 0; i < opt->n_files; i++) {
        QN_TRY(verify_file(&all, opt->files[i], &run, out, outputs, err));
    }
    QN_TRY(write_report(&all, outputs, out, err));
done:
    qn_json_free(outputs);
    qn_pool_destroy(run.pool);
    qn_quality_run_deinit(&all.quality);
    qn_calibrated_close(&calibrated);
    if (all.has_gguf) {
        qn_job_close(&all.gguf);
    }
    if (all.has_mlx) {
        qn_job_close(&all.mlx);
    }
    if (status != QUERN_OK) {
        *out = (quern_verify_result){0};
    }
    return status;
}
