/* gate_run.c - see gate_run.h.
 *
 * A GGUF file is opened where it lies; of an MLX folder the weight files by their temporary paths and the texts from theirs. Invariant: whatever
 * an output holds, the run goes on; only memory, input/output and interruption end it.
 */
#include "quantize/gate_run.h"

#include <stdio.h>
#include <string.h>

#include "base/sha256.h"
#include "model/model_int.h"
#include "quantize/certificate.h"
#include "quantize/manifest.h"
#include "quantize/mlx_write.h"
#include "quantize/quality_run.h"
#include "quantize/verify_folder.h"
#include "quantize/verify_metadata.h"
#include "quantize/verify_output.h"
#include "quantize/verify_report.h"

/* Outputs that run beside one run of the source: more would gain little. */
enum { GROUP_MAX = 8 };
enum { CONFIG_BYTES_MAX = 64 << 20, STEPS = 1000 };

/* The files of one output, opened. */
typedef struct opened {
    qn_gguf *gguf;
    qn_safetensors *safetensors;
    qn_folder_texts texts;
} opened;

/* One output on its way through the gate. */
typedef struct examined {
    qn_output *output;
    opened files;
    qn_verified v;
    qn_quality figures;
} examined;

typedef struct gate {
    qn_job *job;
    const quern_quantize_options *opt;
    qn_pool *pool;
    qn_report *report;
    quern_error *err;
    qn_quality_run quality;
    examined *all; /* one an output */
    /* for the progress: outputs [at, at + n_at) are looked at; the second half of the steps is measuring */
    size_t at, n_at;
    bool measuring;
    char label[64];
} gate;

/* ---- progress ---- */

static bool tell(gate *g, const char *what, uint64_t done, uint64_t total)
{
    uint64_t n = g->job->n_outputs, within = total > 0 ? done * (STEPS / 2) * g->n_at / total : 0;
    quern_quantize_progress p = {.stage = QUERN_QUANTIZE_GATE,
                                 .tensor = what,
                                 .bytes_done = (g->measuring ? n * (STEPS / 2) : 0) + (uint64_t)g->at * (STEPS / 2) + within,
                                 .bytes_total = n * STEPS};
    return qn_report_progress(g->report, &p, false, NULL) == QUERN_OK;
}

static bool on_tensor(void *user, const char *what, uint64_t done, uint64_t total) { return tell(user, what, done, total); }

static bool on_chunk(void *user, size_t done, size_t total)
{
    gate *g = user;
    return tell(g, g->label, done, total);
}

/* ---- opening ---- */

/* A folder's file by its path in it. */
static const qn_output_file *find_file(const qn_output *o, const char *name)
{
    for (size_t i = 0; i < o->n_files; i++) {
        if (strcmp(o->files[i].relative + strlen(o->relative) + 1, name) == 0) {
            return &o->files[i];
        }
    }
    return NULL;
}

static const char *temporary_path(const qn_output_file *f) { return qn_out_file_temporary_path(qn_output_file_get(f)); }

static quern_status read_texts(const qn_output *o, qn_folder_texts *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < QN_FOLDER_N_TEXTS; i++) {
        const qn_output_file *f = find_file(o, qn_folder_text_name((qn_folder_text)i));
        if (f != NULL) {
            QN_TRY(qn_file_read(&out->text[i], &out->len[i], temporary_path(f), qn_folder_text_bytes_max((qn_folder_text)i), err));
        }
    }
done:
    return status;
}

static quern_status open_output(const qn_output *o, opened *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char **paths = NULL;
    *out = (opened){0};
    if (o->target.gguf != NULL) {
        return qn_gguf_open(&out->gguf, temporary_path(&o->files[0]), false, err);
    }
    paths = qn_malloc_array(o->n_weight_files, sizeof *paths);
    if (paths == NULL) {
        QN_FAIL_MEMORY(err, "the list of files", o->n_weight_files * sizeof *paths);
    }
    for (size_t i = 0; i < o->n_weight_files; i++) {
        paths[i] = temporary_path(&o->files[i]);
    }
    QN_TRY(qn_safetensors_open_files(&out->safetensors, o->relative, paths, o->n_weight_files, err));
    QN_TRY(read_texts(o, &out->texts, err));
done:
    qn_free(paths);
    return status;
}

static void close_output(opened *o)
{
    qn_gguf_close(o->gguf);
    qn_safetensors_close(o->safetensors);
    qn_folder_texts_free(&o->texts);
    *o = (opened){0};
}

/* As an engine sees it. The folder's weights are opened a second time: a model owns its own. */
static quern_status open_model(const qn_output *o, const opened *files, quern_model **out, quern_error *err)
{
    opened again;
    quern_status status;
    if (o->target.gguf != NULL) {
        return quern_model_open(out, temporary_path(&o->files[0]), NULL, err);
    }
    status = open_output(o, &again, err);
    if (status == QUERN_OK) {
        const qn_model_parts parts = {.path = o->relative,
                                      .config = files->texts.text[QN_FOLDER_CONFIG],
                                      .config_len = files->texts.len[QN_FOLDER_CONFIG],
                                      .tokenizer = files->texts.text[QN_FOLDER_TOKENIZER],
                                      .tokenizer_len = files->texts.len[QN_FOLDER_TOKENIZER],
                                      .tokenizer_config = files->texts.text[QN_FOLDER_TOKENIZER_CONFIG],
                                      .tokenizer_config_len = files->texts.len[QN_FOLDER_TOKENIZER_CONFIG],
                                      .weights = again.safetensors};
        again.safetensors = NULL;
        status = qn_model_open_parts(out, &parts, err);
    }
    close_output(&again);
    return status;
}

/* ---- examining ---- */

static quern_status check_integrity(gate *g, const qn_output *o, const opened *files, qn_verified *v, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_model_config config;
    const qn_verify_run run = {.pool = g->pool, .on_progress = on_tensor, .user = g};
    v->gguf = files->gguf;
    v->safetensors = files->safetensors;
    const char *text = g->quality.text;
    size_t len = g->quality.text_len;
    if (files->gguf != NULL) {
        QN_TRY(qn_verify_gguf_keys(g->job, o, files->gguf, text, len, &v->findings, err));
        QN_TRY(qn_verified_bind(v, NULL, err));
    } else {
        QN_TRY(qn_verify_folder(g->job, o->relative, &files->texts, files->safetensors, text, len, &config, &v->findings, err));
        QN_TRY(qn_verified_bind(v, &config, err));
    }
    QN_TRY(qn_verified_check(v, &run, err));
done:
    return status;
}

/* Opens the models of outputs `first` and those after it that run together with it; *end: behind the last of them. Outputs that need no
 * measuring are passed over. */
static quern_status open_group(gate *g, size_t first, qn_quality_item *items, examined **of, size_t *n, size_t *end)
{
    quern_status status = QUERN_OK;
    *n = 0;
    for (*end = first; *end < g->job->n_outputs && *n < GROUP_MAX; ++*end) {
        examined *e = &g->all[*end];
        bool ready = false, fits = true;
        if (e->v.findings.failed) {
            QN_TRY(qn_findings_note(&e->v.findings, g->err, "quality was not measured: the output is broken"));
            continue;
        }
        QN_TRY(qn_quality_run_begin(&g->quality, &e->v, &ready, g->err));
        if (!ready) {
            continue;
        }
        qn_quality_item *item = &items[*n];
        *item = (qn_quality_item){.v = &e->v};
        item->opened = open_model(e->output, &e->files, &item->own, &item->why);
        if (*n > 0) {
            QN_TRY(qn_quality_run_fits(&g->quality, items, *n + 1, &fits, g->err));
        }
        if (!fits) {
            quern_model_close(item->own);
            item->own = NULL;
            break;
        }
        of[(*n)++] = e;
    }
done:
    return status;
}

static void name_group(gate *g, const char *first, size_t n_more)
{
    int len = snprintf(g->label, sizeof g->label, "%s", first);
    if (n_more > 0 && len > 0 && (size_t)len < sizeof g->label) {
        (void)snprintf(g->label + len, sizeof g->label - (size_t)len, " and %zu more", n_more);
    }
}

static quern_status measure_group(gate *g, size_t first, size_t *end)
{
    quern_status status = QUERN_OK;
    qn_quality_item items[GROUP_MAX] = {0};
    examined *of[GROUP_MAX];
    size_t n = 0;
    QN_TRY(open_group(g, first, items, of, &n, end));
    g->at = first;
    g->n_at = *end - first;
    if (n > 0) {
        name_group(g, of[0]->output->type, n - 1);
        QN_TRY(qn_quality_run_measure(&g->quality, items, n, on_chunk, g, g->err));
    }
    for (size_t i = 0; i < n; i++) {
        of[i]->figures = items[i].figures;
    }
done:
    for (size_t i = 0; i < GROUP_MAX; i++) {
        quern_model_close(items[i].own);
    }
    return status;
}

/* ---- afterwards ---- */

static quern_status write_certificate(gate *g, qn_output *o, const opened *files, const qn_verified *v, const qn_quality *q,
                                      quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_certificate c = {.quality = q,
                              .text_sha256 = g->quality.base.text_sha256,
                              .data_sha256 = v->data_sha256,
                              .verdict = qn_verdict_name(&v->findings, g->opt->gate)};
    qn_buf text;
    qn_buf_init(&text, CONFIG_BYTES_MAX);
    qn_output_file *file = &o->files[0];
    if (files->gguf != NULL) {
        QN_TRY(qn_certificate_fill_gguf(&c, files->gguf, qn_output_file_get(file), err));
    } else {
        file = (qn_output_file *)(uintptr_t)find_file(o, "config.json");
        QN_TRY(qn_certificate_fill_config(&c, files->texts.text[QN_FOLDER_CONFIG], files->texts.len[QN_FOLDER_CONFIG], &text, err));
        qn_out_file_close(file->text);
        file->text = NULL;
        QN_TRY(qn_mlx_write_text(file, qn_buf_text(&text), text.len, err));
    }
    QN_TRY(qn_sha256_file(temporary_path(file), file->sha256, err));
done:
    qn_buf_deinit(&text);
    return status;
}

/* The journal may have said that they stay: no more. */
static void drop_files(qn_output *o)
{
    for (size_t i = 0; i < o->n_files; i++) {
        qn_output_file *f = &o->files[i];
        if (qn_output_file_get(f) != NULL) {
            qn_out_file_keep(qn_output_file_get(f), false);
        }
        qn_gguf_writer_destroy(f->gguf);
        qn_safetensors_writer_destroy(f->safetensors);
        qn_out_file_close(f->text);
        f->gguf = NULL;
        f->safetensors = NULL;
        f->text = NULL;
    }
    o->n_files = o->n_weight_files = 0;
}

static quern_status name_failed(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    char path[4096];
    for (size_t i = 0; i < o->n_files; i++) {
        qn_output_file *f = &o->files[i];
        const char *old_relative = f->relative;
        (void)snprintf(path, sizeof path, "%s.failed", f->path);
        f->path = qn_arena_strndup(&job->arena, path, strlen(path));
        (void)snprintf(path, sizeof path, "%s.failed", old_relative);
        f->relative = qn_arena_strndup(&job->arena, path, strlen(path));
        if (f->path == NULL || f->relative == NULL) {
            QN_FAIL_MEMORY(err, path, 2 * strlen(path));
        }
        QN_TRY(qn_out_file_rename(qn_output_file_get(f), f->path, err));
        o->relative = o->relative == old_relative ? f->relative : o->relative;
    }
done:
    return status;
}

static quern_status take_findings(gate *g, qn_output *o, const qn_verified *v, const qn_quality *q)
{
    quern_status status = QUERN_OK;
    o->quality = qn_quality_to_json(q, &g->quality.base);
    o->gate = qn_gate_to_json(g->opt->gate, g->opt->sample_layers, &v->findings);
    if (o->quality == NULL || o->gate == NULL) {
        QN_FAIL_MEMORY(g->err, "the findings", 1024);
    }
    o->refused = v->findings.failed;
done:
    return status;
}

/* What is not a sound file any more may have no room for its certificate. */
static quern_status certify(gate *g, qn_output *o, const opened *files, qn_verified *v, const qn_quality *q)
{
    bool is_open = files->gguf != NULL || files->texts.text[QN_FOLDER_CONFIG] != NULL;
    if (v->findings.failed && !(g->opt->keep_failed && is_open)) {
        return QUERN_OK; /* its files go, or cannot be read */
    }
    quern_error why = {0};
    quern_status status = write_certificate(g, o, files, v, q, &why);
    if (v->findings.failed && (status == QUERN_ERROR_INTERNAL || status == QUERN_ERROR_INVALID)) {
        return qn_findings_note(&v->findings, g->err, "no certificate was written: %s", why.message);
    }
    return status == QUERN_OK ? QUERN_OK : qn_error_set(g->err, status, "%s", why.message);
}

/* Integrity, of one output. */
static quern_status examine(gate *g, examined *e)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    status = open_output(e->output, &e->files, &why);
    status = status == QUERN_OK ? check_integrity(g, e->output, &e->files, &e->v, &why) : status;
    if (qn_status_is_of_content(status)) {
        status = qn_findings_fail(&e->v.findings, NULL, g->err, "it cannot be read: %s", why.message);
    } else if (status != QUERN_OK) {
        QN_FAIL(g->err, status, "%s", why.message);
    }
done:
    return status;
}

static quern_status conclude(gate *g, examined *e)
{
    quern_status status = QUERN_OK;
    QN_TRY(certify(g, e->output, &e->files, &e->v, &e->figures));
    close_output(&e->files);
    QN_TRY(take_findings(g, e->output, &e->v, &e->figures));
done:
    return status;
}

/* Once all are examined: until then an interrupted run has all its files and can go on. */
static quern_status settle(gate *g, qn_output *o)
{
    quern_status status = QUERN_OK;
    if (o->refused && g->opt->keep_failed) {
        QN_TRY(name_failed(g->job, o, g->err));
    } else if (o->refused) {
        drop_files(o);
    }
    o->failed = o->refused;
done:
    return status;
}

quern_status qn_gate_run(qn_job *job, const quern_quantize_options *opt, qn_pool *pool, qn_report *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    gate g = {.job = job,
              .opt = opt,
              .pool = pool,
              .report = report,
              .err = err,
              .quality = {.source = opt->source,
                          .architecture = opt->architecture,
                          .text = opt->gate_text,
                          .text_len = opt->gate_text_len,
                          .policy = opt->gate,
                          .sample_layers = opt->sample_layers,
                          .n_threads = job->n_threads,
                          .memory_bytes = job->memory_bytes}};
    if (opt->gate == QUERN_GATE_OFF) {
        return QUERN_OK;
    }
    qn_quality_run_init(&g.quality);
    g.all = qn_calloc(job->n_outputs, sizeof *g.all);
    if (g.all == NULL) {
        QN_FAIL_MEMORY(err, "the outputs", job->n_outputs * sizeof *g.all);
    }
    for (size_t i = 0; i < job->n_outputs; i++) {
        g.all[i].output = &job->outputs[i];
        qn_verified_init(&g.all[i].v, job, &job->outputs[i], job->outputs[i].relative);
    }
    g.n_at = 1;
    for (g.at = 0; g.at < job->n_outputs; g.at++) {
        QN_TRY(examine(&g, &g.all[g.at]));
    }
    g.measuring = true;
    for (size_t first = 0, end; first < job->n_outputs; first = end) {
        QN_TRY(measure_group(&g, first, &end));
    }
    for (size_t i = 0; i < job->n_outputs; i++) {
        QN_TRY(conclude(&g, &g.all[i]));
    }
    for (size_t i = 0; i < job->n_outputs; i++) {
        QN_TRY(settle(&g, &job->outputs[i]));
    }
done:
    for (size_t i = 0; g.all != NULL && i < job->n_outputs; i++) {
        close_output(&g.all[i].files);
        qn_verified_deinit(&g.all[i].v);
    }
    qn_free(g.all);
    qn_quality_run_deinit(&g.quality);
    return status;
}
