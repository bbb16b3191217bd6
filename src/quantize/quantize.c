/* quantize.c - quern_quantize: opens the source, plans every output, checks memory and disk, runs the pass, has the files hashed and named.
 *
 * Invariant: the order in convert(). Whatever fails there, output_files.h leaves the folder as it was.
 */
#include "quern/quantize.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/human_number.h"
#include "base/utf8.h"
#include "quantize/calibrate_source.h"
#include "gate/quality.h"
#include "quantize/fallback_check.h"
#include "quantize/gate_run.h"
#include "quantize/hf_to_gguf.h"
#include "quantize/imatrix_out.h"
#include "quantize/manifest.h"
#include "quantize/mix.h"
#include "quantize/mlx_write.h"
#include "quantize/override_check.h"
#include "quantize/output_files.h"
#include "quantize/pipeline.h"

static const uint64_t default_memory_bytes = (uint64_t)2 << 30;
static const uint64_t default_shard_bytes = 5000000000u;
static const uint64_t default_checkpoint_ns =
    10000000000u; /* 10 s: what a killed run loses at most; syncing more often would slow the pass */
enum { MANIFEST_BYTES_MAX = 1 << 30, THREADS_MAX = 1024 };

quern_status qn_job_add_file(qn_job *job, qn_output *o, const char *relative, uint64_t bytes, qn_output_file **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *path = NULL;
    if (o->n_files == o->cap_files) {
        size_t cap = o->cap_files != 0 ? 2 * o->cap_files : 16;
        qn_output_file *files = qn_arena_alloc_array(&job->arena, cap, sizeof *files);
        if (files == NULL) {
            QN_FAIL_MEMORY(err, "the list of files", cap * sizeof *files);
        }
        if (o->n_files > 0) {
            memcpy(files, o->files, o->n_files * sizeof *files);
        }
        o->files = files;
        o->cap_files = cap;
    }
    path = qn_path_join(job->output_dir, relative);
    qn_output_file *f = &o->files[o->n_files];
    *f = (qn_output_file){.bytes = bytes, .relative = qn_arena_strndup(&job->arena, relative, strlen(relative))};
    f->path = path != NULL ? qn_arena_strndup(&job->arena, path, strlen(path)) : NULL;
    if (f->path == NULL || f->relative == NULL) {
        QN_FAIL_MEMORY(err, relative, strlen(relative) + 1);
    }
    o->n_files++;
    *out = f;
done:
    qn_free(path);
    return status;
}

quern_status qn_job_warn(qn_job *job, qn_output *o, quern_error *err, const char *format, ...)
{
    quern_status status = QUERN_OK;
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (o->n_warnings == o->cap_warnings) {
        size_t cap = o->cap_warnings != 0 ? 2 * o->cap_warnings : 8;
        const char **warnings = qn_arena_alloc_array(&job->arena, cap, sizeof *warnings);
        if (warnings == NULL) {
            QN_FAIL_MEMORY(err, "warnings", cap * sizeof *warnings);
        }
        if (o->n_warnings > 0) {
            memcpy(warnings, o->warnings, o->n_warnings * sizeof *warnings);
        }
        o->warnings = warnings;
        o->cap_warnings = cap;
    }
    o->warnings[o->n_warnings] = qn_arena_strndup(&job->arena, text, strlen(text));
    if (o->warnings[o->n_warnings] == NULL) {
        QN_FAIL_MEMORY(err, "warnings", strlen(text) + 1);
    }
    o->n_warnings++;
done:
    return status;
}

/* ---- planning ---- */

static quern_status plan_output(qn_job *job, qn_output *o, const qn_target *target, const qn_type_overrides *overrides, qn_report *report,
                                quern_error *err)
{
    quern_status status = QUERN_OK;
    char type[48];
    qn_target_name(target, type, sizeof type);
    *o = (qn_output){.target = *target, .type = qn_arena_strndup(&job->arena, type, strlen(type))};
    o->sinks = qn_arena_alloc_array(&job->arena, job->source.n_pieces, sizeof *o->sinks);
    if (o->type == NULL || o->sinks == NULL) {
        QN_FAIL_MEMORY(err, "the plan of an output", job->source.n_pieces * sizeof *o->sinks);
    }
    if (job->source.warning != NULL) {
        QN_TRY(qn_job_warn(job, o, err, "%s", job->source.warning));
    }
    const qn_template_list *templates = &job->source.templates;
    if (templates->others[0] != '\0' && (target->gguf != NULL || templates->others_are_files)) {
        QN_TRY(qn_job_warn(job, o, err, "chat templates besides the plain one and tool_use are not carried over: %s", templates->others));
    }
    if (target->bits_per_weight > 0) {
        QN_TRY(qn_mix_choose(job, o, overrides, report, err));
    }
    if (target->gguf != NULL) {
        QN_TRY(qn_gguf_plan(job, o, overrides, err));
        QN_TRY(qn_type_overrides_warn(job, o, overrides, err));
    } else {
        QN_TRY(qn_mlx_plan(job, o, err));
    }
    QN_TRY(qn_fallbacks_warn(job, o, err));
done:
    if (status != QUERN_OK && status != QUERN_ERROR_MEMORY) {
        qn_error_prefix(err, "%s %s", target->gguf != NULL ? "gguf" : "mlx", type);
    }
    return status;
}

/* Every target that can be mixed is; two that would become the same are one too many. */
static quern_status mix_targets(double bits_per_weight, qn_target *targets, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    char name[48], other[48];
    if (bits_per_weight == 0) {
        goto done;
    }
    if (!(bits_per_weight >= 1 && bits_per_weight <= 16)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "--target-bpw %g: expected 1 to 16 bits per weight", bits_per_weight);
    }
    for (size_t i = 0; i < n; i++) {
        if (!qn_target_can_mix(&targets[i])) {
            continue;
        }
        qn_target_name(&targets[i], other, sizeof other);
        targets[i].bits_per_weight = bits_per_weight;
        qn_target_name(&targets[i], name, sizeof name);
        for (size_t k = 0; k < i; k++) {
            bool same = targets[k].bits_per_weight > 0 && (targets[k].gguf != NULL) == (targets[i].gguf != NULL) &&
                        targets[k].group == targets[i].group;
            if (same) {
                QN_FAIL(err, QUERN_ERROR_USAGE, "--target-bpw: '%s' would be a second %s; one format of a kind is enough", other, name);
            }
        }
    }
done:
    return status;
}

/* What a name may hold: it becomes part of paths, of the manifest and of what is printed. */
static bool is_fit_for_files(const char *name)
{
    size_t n = strlen(name), step;
    if (!qn_path_is_plain_name(name, n) || !qn_utf8_valid(name, n)) {
        return false;
    }
    for (size_t i = 0; i < n; i += step) {
        uint32_t c;
        step = qn_utf8_decode(name + i, n - i, &c);
        if (c < 0x20 || (c >= 0x7f && c < 0xa0)) {
            return false;
        }
    }
    return true;
}

quern_status qn_job_open(qn_job *job, const quern_quantize_options *opt, uint64_t shard_bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_target targets[QN_TARGETS_MAX];
    qn_type_overrides *overrides = NULL;
    uint64_t now_ns = qn_clock_ns();
    qn_report report = {.opt = opt, .begin_ns = now_ns, .reported_ns = now_ns};
    memset(job, 0, sizeof *job);
    qn_arena_init(&job->arena, 0);
    if (opt->source == NULL || opt->output_dir == NULL) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "a source and an output folder are needed");
    }
    if (opt->n_threads > THREADS_MAX) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "%zu threads, expected at most %d", opt->n_threads, THREADS_MAX);
    }
    if (opt->name != NULL && !is_fit_for_files(opt->name)) {
        QN_FAIL(err, QUERN_ERROR_USAGE,
                "the name cannot be part of a file name: expected UTF-8 text without slashes and control characters");
    }
    QN_TRY(qn_targets_parse(opt->formats, targets, &job->n_outputs, err));
    QN_TRY(mix_targets(opt->target_bpw, targets, job->n_outputs, err));
    if (opt->n_tensor_types > 0) {
        QN_TRY(qn_type_overrides_create(&overrides, opt->tensor_types, opt->n_tensor_types, err));
    }
    job->n_threads = opt->n_threads != 0 ? opt->n_threads : qn_cpu_usable_count();
    job->memory_bytes = opt->memory_bytes != 0 ? opt->memory_bytes : default_memory_bytes;
    job->shard_bytes = shard_bytes;
    job->output_dir = opt->output_dir;
    job->gate = opt->gate;
    QN_TRY(qn_source_open(&job->source, opt->source, opt->architecture, err));
    QN_TRY(qn_type_overrides_check(overrides, &job->source, targets, job->n_outputs, err));
    job->name = opt->name != NULL ? opt->name : job->source.name;
    job->outputs = qn_arena_alloc_array(&job->arena, job->n_outputs, sizeof *job->outputs);
    job->greatest = qn_arena_alloc_array(&job->arena, job->source.n_pieces, sizeof *job->greatest);
    if (job->outputs == NULL || job->greatest == NULL) {
        QN_FAIL_MEMORY(err, "outputs", job->n_outputs * sizeof *job->outputs);
    }
    for (size_t i = 0; i < job->n_outputs; i++) {
        QN_TRY(plan_output(job, &job->outputs[i], &targets[i], overrides, &report, err));
    }
done:
    qn_type_overrides_destroy(overrides);
    return status;
}

void qn_job_close(qn_job *job)
{
    qn_calibration_deinit(&job->calibration);
    for (size_t i = 0; job->outputs != NULL && i < job->n_outputs; i++) {
        qn_json_free(job->outputs[i].quality);
        qn_json_free(job->outputs[i].gate);
    }
    if (job->has_vocab) {
        qn_vocab_export_deinit(&job->vocab);
    }
    qn_source_close(&job->source);
    qn_arena_deinit(&job->arena);
}

/* ---- disk ---- */

/* Free bytes where output_dir is or will be. */
static quern_status find_disk_free(const char *output_dir, uint64_t *bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *path = qn_strdup(output_dir);
    if (path == NULL) {
        QN_FAIL_MEMORY(err, output_dir, strlen(output_dir) + 1);
    }
    for (size_t n = strlen(path); n > 0 && !qn_path_exists(path);) {
        while (n > 0 && path[n - 1] != '/') {
            n--;
        }
        while (n > 1 && path[n - 1] == '/') {
            n--;
        }
        path[n] = '\0';
    }
    QN_TRY(qn_disk_free(path[0] != '\0' ? path : ".", bytes, err));
done:
    qn_free(path);
    return status;
}

/* Every file of the source that a conversion reads or copies, whatever the formats: weights, then the texts that exist. */
static quern_status list_source_files(const qn_job *job, qn_hash_list *h, quern_error *err)
{
    static const char *const read_only[] = {"config.json", "model.safetensors.index.json"};
    enum { N_READ_ONLY = sizeof read_only / sizeof read_only[0] };
    quern_status status = QUERN_OK;
    char *path = NULL;
    for (size_t i = 0; i < qn_source_n_files(&job->source); i++) {
        const char *file = qn_source_file_path(&job->source, i);
        QN_TRY(qn_hash_list_add(h, file, qn_path_base(file), err));
    }
    for (size_t i = 0; job->source.gguf == NULL && (i < N_READ_ONLY || qn_mlx_copied_file(i - N_READ_ONLY) != NULL); i++) {
        const char *name = i < N_READ_ONLY ? read_only[i] : qn_mlx_copied_file(i - N_READ_ONLY);
        path = qn_path_join(job->source.path, name);
        if (path == NULL) {
            QN_FAIL_MEMORY(err, name, strlen(job->source.path));
        }
        if (qn_path_is_file(path)) {
            QN_TRY(qn_hash_list_add(h, path, name, err));
        }
        qn_free(path);
        path = NULL;
    }
done:
    qn_free(path);
    return status;
}

/* All outputs, and a manifest as large as it can become: hashes, figures with all their digits, some warnings. */
static quern_status plan_needed_bytes(const qn_job *job, uint64_t *bytes, quern_error *err)
{
    enum { HASH_BYTES = 64, FIGURES_BYTES = 2 * 24, SLACK_BYTES = 64 << 10, GATE_BYTES = 32 << 10 };
    quern_status status = QUERN_OK;
    qn_hash_list hashes;
    qn_earlier_outputs none = {0};
    qn_buf text;
    qn_buf_init(&text, MANIFEST_BYTES_MAX);
    qn_hash_list_init(&hashes);
    QN_TRY(qn_earlier_outputs_init(&none, err));
    QN_TRY(list_source_files(job, &hashes, err));
    QN_TRY(qn_manifest_write(job, &hashes, &none, &text, err));
    *bytes = text.len + hashes.n * HASH_BYTES + SLACK_BYTES;
    for (size_t i = 0; i < job->n_outputs; i++) {
        *bytes += GATE_BYTES + job->outputs[i].n_files * HASH_BYTES + job->source.n_pieces * FIGURES_BYTES;
        for (size_t k = 0; k < job->outputs[i].n_files; k++) {
            *bytes += job->outputs[i].files[k].bytes;
        }
    }
done:
    qn_earlier_outputs_deinit(&none);
    qn_hash_list_deinit(&hashes);
    qn_buf_deinit(&text);
    return status;
}

/* ---- what a run may replace ---- */

static quern_status check_imatrix_out(const qn_job *job, const quern_quantize_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_hash_list sources;
    qn_hash_list_init(&sources);
    if (opt->imatrix_out != NULL) {
        QN_TRY(list_source_files(job, &sources, err));
        QN_TRY(qn_imatrix_out_check(job, &sources, opt->imatrix_out, opt->dry_run, err));
    }
done:
    qn_hash_list_deinit(&sources);
    return status;
}

/* ---- the run ---- */

/* Once the files have their names nothing can fail any more. */
static quern_status convert(qn_job *job, const quern_quantize_options *opt, uint64_t checkpoint_ns, uint64_t begin_ns, char **manifest,
                            size_t *len, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool converted = false;
    qn_pool *pool = NULL;
    qn_memory_plan memory;
    qn_hash_list hashes;
    qn_earlier_outputs earlier = {0};
    qn_output_files files = {.job = job, .journal = {.fd = -1}};
    qn_report report = {.opt = opt, .begin_ns = begin_ns, .reported_ns = begin_ns};
    qn_buf text;
    qn_buf_init(&text, MANIFEST_BYTES_MAX);
    qn_hash_list_init(&hashes);
    QN_TRY(list_source_files(job, &hashes, err));
    QN_TRY(qn_earlier_outputs_init(&earlier, err));
    QN_TRY(qn_calibrate_source(job, opt, &report, err));
    QN_TRY(qn_memory_plan_make(job, &memory, err)); /* with what calibration left */
    QN_TRY(qn_pool_create(&pool, memory.n_threads, err));
    QN_TRY(qn_journal_init(&files.journal, job, opt, &hashes, checkpoint_ns, err));
    QN_TRY(qn_output_files_begin(&files, job, !opt->no_resume, &report, err));
    QN_TRY(qn_output_files_list(&files, &hashes, err));
    QN_TRY(qn_pipeline_run(job, &memory, pool, &hashes, &files.journal, &report, err));
    converted = true;
    QN_TRY(qn_output_files_hash(&files, &hashes, pool, &report, err));
    QN_TRY(qn_gate_run(job, opt, pool, &report, err));
    QN_TRY(qn_earlier_outputs_read(&earlier, job, &hashes, err));
    QN_TRY(qn_manifest_write(job, &hashes, &earlier, &text, err));
    *manifest = qn_buf_take(&text, len);
    if (*manifest == NULL) {
        QN_FAIL_MEMORY(err, "the manifest", text.len);
    }
    QN_TRY(qn_output_files_commit(&files, *manifest, *len, &report, err));
done:
    if (status != QUERN_OK) {
        qn_free(*manifest);
        *manifest = NULL;
        *len = 0;
    }
    qn_buf_deinit(&text);
    bool resumable = converted || status == QUERN_ERROR_CANCELLED || status == QUERN_ERROR_IO;
    if (resumable && converted) {
        (void)qn_journal_note(&files.journal, job->source.n_pieces, NULL);
    }
    bool stays = qn_output_files_end(&files, status == QUERN_OK, resumable);
    if (status == QUERN_ERROR_CANCELLED) {
        (void)qn_error_set(err, status, "interrupted; %s", stays ? "the same command continues where it stopped" : "no output was kept");
    }
    qn_pool_destroy(pool);
    qn_earlier_outputs_deinit(&earlier);
    qn_hash_list_deinit(&hashes);
    return status;
}

quern_status qn_quantize_run_with(const quern_quantize_options *opt, const qn_quantize_limits *limits, char **manifest_json, size_t *len,
                                  quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t begin_ns = qn_clock_ns();
    qn_job job;
    qn_memory_plan memory;
    qn_buf text;
    uint64_t disk_free = 0;
    uint64_t needed = 0;
    *manifest_json = NULL;
    *len = 0;
    qn_buf_init(&text, MANIFEST_BYTES_MAX);
    QN_TRY(qn_job_open(&job, opt, limits->shard_bytes, err));
    QN_TRY(qn_output_files_check(&job, err));
    QN_TRY(check_imatrix_out(&job, opt, err));
    QN_TRY(qn_memory_plan_make(&job, &memory, err));
    QN_TRY(find_disk_free(job.output_dir, &disk_free, err));
    QN_TRY(plan_needed_bytes(&job, &needed, err));
    if (opt->gate != QUERN_GATE_OFF && opt->gate_text != NULL && job.source.tokenizer != NULL) {
        QN_TRY(qn_quality_check_text(job.source.tokenizer, job.source.config.n_ctx_train, opt->gate_text, opt->gate_text_len, err));
    }
    if (opt->dry_run) {
        QN_TRY(qn_plan_write(&job, &memory, needed, disk_free, &text, err));
        *manifest_json = qn_buf_take(&text, len);
        if (*manifest_json == NULL) {
            QN_FAIL_MEMORY(err, "the plan", text.len);
        }
    } else {
        disk_free += qn_output_files_left_bytes(&job);
        if (needed > disk_free) {
            qn_number a, b;
            QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: the outputs need %s, the file system has %s free", job.output_dir,
                    qn_format_bytes(a, needed), qn_format_bytes(b, disk_free));
        }
        QN_TRY(convert(&job, opt, limits->checkpoint_ns, begin_ns, manifest_json, len, err));
    }
done:
    qn_job_close(&job);
    qn_buf_deinit(&text);
    return status;
}

quern_status qn_quantize_run(const quern_quantize_options *opt, uint64_t shard_bytes, char **manifest_json, size_t *len, quern_error *err)
{
    const qn_quantize_limits limits = {.shard_bytes = shard_bytes, .checkpoint_ns = default_checkpoint_ns};
    return qn_quantize_run_with(opt, &limits, manifest_json, len, err);
}

quern_status quern_quantize(const quern_quantize_options *opt, char **manifest_json, size_t *len, quern_error *err)
{
    size_t unused;
    return qn_quantize_run(opt, default_shard_bytes, manifest_json, len != NULL ? len : &unused, err);
}
