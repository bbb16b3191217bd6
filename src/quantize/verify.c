/* verify.c - quern_verify: opens every file beside the source and has it examined.
 *
 * Invariant: what is wrong with a file's content is a finding of that file; only what keeps it from being read is an error.
 */
#include "quern/verify.h"

#include <stdio.h>
#include <string.h>

#include "base/builtin_text.h"
#include "base/fs.h"
#include "quantize/verify_metadata.h"
#include "quantize/verify_output.h"
#include "quantize/verify_report.h"
#include "quern/model.h"

enum { REPORT_BYTES_MAX = 1 << 30, CONFIG_BYTES_MAX = 16 << 20, THREADS_MAX = 1024 };


/* The source beside a plan of the outputs' family; opened when the first file of the family comes. */
typedef struct families {
    const quern_verify_options *opt;
    const char *text; /* the gate text */
    size_t text_len;
    qn_job gguf, mlx;
    bool has_gguf, has_mlx;
} families;

static quern_status get_job(families *f, bool gguf, qn_job **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_job *job = gguf ? &f->gguf : &f->mlx;
    bool *has = gguf ? &f->has_gguf : &f->has_mlx;
    const quern_quantize_options opt = {.source = f->opt->source, .output_dir = ".", .formats = gguf ? "gguf:F16" : "mlx:bf16"};
    if (!*has) {
        *has = true;
        QN_TRY(qn_job_open(job, &opt, UINT64_MAX, err));
    }
    *out = job;
done:
    return status;
}

static quern_status compare_templates(qn_verified *v, const quern_model *own, quern_error *err)
{
    const char *a = quern_model_get_template_source(own), *b = v->job->source.templates.plain;
    size_t a_len = a != NULL ? strlen(a) : 0, b_len = b != NULL ? v->job->source.templates.plain_len : 0;
    if (a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0)) {
        return QUERN_OK;
    }
    if (a_len == 0 && v->safetensors != NULL) {
        return qn_findings_note(&v->findings, err, "the folder has no chat template, the source has one of %zu bytes", b_len);
    }
    return qn_findings_fail(&v->findings, NULL, err, "the chat template (%zu bytes) is not the source's (%zu bytes)", a_len, b_len);
}

/* Tokenizer and template as a reader of the file gets them. */
static quern_status check_texts(qn_verified *v, const families *all, quern_error *err)
{
    quern_status status = QUERN_OK;
    static const quern_model_options texts_only = {.vocabulary_only = true};
    quern_error why = {0};
    quern_model *own = NULL;
    status = quern_model_open(&own, v->path, &texts_only, &why);
    if (status == QUERN_ERROR_MEMORY) {
        QN_FAIL(err, status, "%s", why.message);
    }
    if (status != QUERN_OK || quern_model_get_tokenizer(own) == NULL) {
        status = qn_findings_fail(&v->findings, NULL, err, "tokenizer: %s", status != QUERN_OK ? why.message : "there is none");
        goto done;
    }
    QN_TRY(qn_verify_tokenizer(v->job->source.tokenizer, quern_model_get_tokenizer(own), all->text, all->text_len, &v->findings, err));
    QN_TRY(compare_templates(v, own, err));
done:
    quern_model_close(own);
    return status;
}

static quern_status check_gguf(qn_verified *v, const qn_verify_run *run, quern_error *err)
{
    static const char key[] = "quern.quality.data_sha256";
    quern_status status = QUERN_OK;
    qn_span claim;
    bool found;
    qn_verify_run own = *run;
    own.importance = qn_gguf_find(v->gguf, "quantize.imatrix.entries_count") != NULL ||
                     qn_gguf_find(v->gguf, "quantize.imatrix.file") != NULL;
    QN_TRY(qn_verify_gguf_keys(v->job, v->gguf, &v->findings, err));
    QN_TRY(qn_verified_bind(v, NULL, err));
    QN_TRY(qn_verified_check(v, &own, err));
    QN_TRY(qn_gguf_get_string(v->gguf, key, &claim, &found, err));
    if (found) {
        QN_TRY(qn_verified_check_claim(v, claim.data, claim.len, err));
    }
done:
    return status;
}

static quern_status check_mlx(qn_verified *v, const qn_verify_run *run, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *config = NULL, *generation = NULL;
    size_t config_len = 0, generation_len = 0, claim_len = 0;
    qn_json *root = NULL;
    qn_model_config parsed;
    QN_TRY(qn_file_read_member(&config, &config_len, v->path, "config.json", CONFIG_BYTES_MAX, err));
    QN_TRY(qn_file_read_member(&generation, &generation_len, v->path, "generation_config.json", CONFIG_BYTES_MAX, err));
    if (config == NULL) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no config.json in this folder", v->path);
    }
    QN_TRY(qn_config_read_hf(&parsed, &v->findings.arena, config, config_len, v->path, generation, generation_len, err));
    QN_TRY(qn_verify_mlx_config(v->job, v->path, config, config_len, generation, generation_len, &v->findings, err));
    QN_TRY(qn_verified_bind(v, &parsed, err));
    QN_TRY(qn_verified_check(v, run, err));
    QN_TRY(qn_json_parse(&root, config, config_len, QN_JSON_WIDE_INTEGERS, "config.json", err));
    const char *claim = qn_json_string(qn_json_get(qn_json_get(root, "quern_quality"), "data_sha256"), &claim_len);
    QN_TRY(qn_verified_check_claim(v, claim, claim_len, err));
done:
    qn_json_free(root);
    qn_free(config);
    qn_free(generation);
    return status;
}

static quern_status verify_file(families *all, const char *path, const qn_verify_run *run, quern_verify_result *result, qn_json *outputs,
                                quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_verified v = {0};
    qn_job *job = NULL;
    qn_json *entry = NULL;
    qn_gguf *gguf = NULL;
    qn_safetensors *safetensors = NULL;
    bool folder = qn_path_is_directory(path);
    if (!qn_path_exists(path)) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no such file or folder", path);
    }
    QN_TRY(folder ? qn_safetensors_open_dir(&safetensors, path, false, err) : qn_gguf_open(&gguf, path, false, err));
    QN_TRY(get_job(all, !folder, &job, err));
    qn_verified_init(&v, job, path);
    v.gguf = gguf;
    v.safetensors = safetensors;
    QN_TRY(folder ? check_mlx(&v, run, err) : check_gguf(&v, run, err));
    QN_TRY(check_texts(&v, all, err));
    QN_TRY(qn_verified_to_json(&v, all->opt->policy, qn_json_new_null(), &entry, err));
    if (!qn_json_append(outputs, entry)) {
        QN_FAIL_MEMORY(err, "the report", 64);
    }
    result->n_failed += v.findings.failed;
    result->n_lossy += !v.findings.failed && v.findings.lossy;
done:
    qn_verified_deinit(&v);
    qn_gguf_close(gguf);
    qn_safetensors_close(safetensors);
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

quern_status quern_verify(const quern_verify_options *opt, quern_verify_result *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    families all = {.opt = opt, .text = opt->text, .text_len = opt->text_len};
    qn_verify_run run = {.try_encoders = true, .on_progress = opt->on_progress, .user = opt->user};
    qn_json *outputs = qn_json_new_array();
    *out = (quern_verify_result){0};
    if (all.text == NULL) {
        all.text = qn_builtin_text_gate(&all.text_len);
    }
    if (opt->source == NULL || opt->n_files == 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "files to verify and their source are needed");
    }
    if (opt->n_threads > THREADS_MAX) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "%zu threads, expected at most %d", opt->n_threads, THREADS_MAX);
    }
    if (outputs == NULL) {
        QN_FAIL_MEMORY(err, "the report", 64);
    }
    QN_TRY(qn_pool_create(&run.pool, opt->n_threads != 0 ? opt->n_threads : qn_cpu_usable_count(), err));
    for (size_t i = 0; i < opt->n_files; i++) {
        QN_TRY(verify_file(&all, opt->files[i], &run, out, outputs, err));
    }
    QN_TRY(write_report(&all, outputs, out, err));
done:
    qn_json_free(outputs);
    qn_pool_destroy(run.pool);
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
