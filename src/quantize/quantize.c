/* quantize.c - quern_quantize: opens the source, plans every output, checks memory and disk, runs the pass, names the files, writes the
 * manifest.
 *
 * Invariant: until every byte of every output has been written and synced, nothing stands under a final name; if naming fails half way, what
 * was named in this run is removed again.
 */
#include "quern/quantize.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "quantize/hf_to_gguf.h"
#include "quantize/manifest.h"
#include "quantize/mlx_write.h"
#include "quantize/pipeline.h"

static const uint64_t default_memory_bytes = (uint64_t)2 << 30;
static const uint64_t default_shard_bytes = 5000000000u;
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

static quern_status plan_output(qn_job *job, qn_output *o, const qn_target *target, const qn_type_overrides *overrides, quern_error *err)
{
    quern_status status = QUERN_OK;
    char type[48];
    qn_target_name(target, type, sizeof type);
    *o = (qn_output){.target = *target, .type = qn_arena_strndup(&job->arena, type, strlen(type))};
    o->sinks = qn_arena_alloc_array(&job->arena, job->source.n_pieces, sizeof *o->sinks);
    if (o->type == NULL || o->sinks == NULL) {
        QN_FAIL_MEMORY(err, "the plan of an output", job->source.n_pieces * sizeof *o->sinks);
    }
    if (target->gguf != NULL) {
        QN_TRY(qn_gguf_plan(job, o, overrides, err));
    } else {
        QN_TRY(qn_mlx_plan(job, o, err));
    }
done:
    if (status != QUERN_OK && status != QUERN_ERROR_MEMORY) {
        qn_error_prefix(err, "%s %s", target->gguf != NULL ? "gguf" : "mlx", type);
    }
    return status;
}

static quern_status make_job(qn_job *job, const quern_quantize_options *opt, uint64_t shard_bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_target targets[QN_TARGETS_MAX];
    qn_type_overrides *overrides = NULL;
    memset(job, 0, sizeof *job);
    qn_arena_init(&job->arena, 0);
    if (opt->source == NULL || opt->output_dir == NULL) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "a source and an output folder are needed");
    }
    if (opt->n_threads > THREADS_MAX) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "%zu threads, expected at most %d", opt->n_threads, THREADS_MAX);
    }
    if (opt->name != NULL && !qn_path_is_plain_name(opt->name, strlen(opt->name))) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "the name '%s' cannot be part of a file name", opt->name);
    }
    QN_TRY(qn_targets_parse(opt->formats, targets, &job->n_outputs, err));
    if (opt->n_tensor_types > 0) {
        QN_TRY(qn_type_overrides_create(&overrides, opt->tensor_types, opt->n_tensor_types, err));
    }
    job->n_threads = opt->n_threads != 0 ? opt->n_threads : qn_cpu_usable_count();
    job->memory_bytes = opt->memory_bytes != 0 ? opt->memory_bytes : default_memory_bytes;
    job->shard_bytes = shard_bytes;
    job->output_dir = opt->output_dir;
    QN_TRY(qn_source_open(&job->source, opt->source, err));
    job->name = opt->name != NULL ? opt->name : job->source.name;
    job->outputs = qn_arena_alloc_array(&job->arena, job->n_outputs, sizeof *job->outputs);
    if (job->outputs == NULL) {
        QN_FAIL_MEMORY(err, "outputs", job->n_outputs * sizeof *job->outputs);
    }
    for (size_t i = 0; i < job->n_outputs; i++) {
        QN_TRY(plan_output(job, &job->outputs[i], &targets[i], overrides, err));
    }
done:
    qn_type_overrides_destroy(overrides);
    return status;
}

/* Drops what is open: temporary files disappear. */
static void close_job(qn_job *job)
{
    for (size_t i = 0; job->outputs != NULL && i < job->n_outputs; i++) {
        for (size_t k = 0; k < job->outputs[i].n_files; k++) {
            qn_output_file *f = &job->outputs[i].files[k];
            qn_gguf_writer_destroy(f->gguf);
            qn_safetensors_writer_destroy(f->safetensors);
            qn_out_file_close(f->text);
        }
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

static uint64_t planned_bytes(const qn_job *job)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < job->n_outputs; i++) {
        for (size_t k = 0; k < job->outputs[i].n_files; k++) {
            bytes += job->outputs[i].files[k].bytes;
        }
    }
    return bytes;
}

/* ---- files ---- */

static quern_status create_folders(const qn_job *job, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < job->n_outputs; i++) {
        const qn_output *o = &job->outputs[i];
        char *dir = qn_path_join(job->output_dir, o->target.gguf != NULL ? "gguf" : o->relative);
        if (dir == NULL) {
            QN_FAIL_MEMORY(err, job->output_dir, strlen(job->output_dir));
        }
        status = qn_dir_create(dir, err);
        qn_free(dir);
        QN_TRY(status);
    }
done:
    return status;
}

static quern_status begin_outputs(qn_job *job, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < job->n_outputs; i++) {
        qn_output *o = &job->outputs[i];
        QN_TRY(o->target.gguf != NULL ? qn_gguf_begin(job, o, err) : qn_mlx_begin(job, o, err));
    }
done:
    return status;
}

static quern_status commit_file(qn_output_file *f, quern_error *err)
{
    if (f->gguf != NULL) {
        return qn_gguf_writer_commit(f->gguf, err);
    }
    return f->safetensors != NULL ? qn_safetensors_writer_commit(f->safetensors, err) : qn_out_file_commit(f->text, err);
}

/* Weights before the texts that describe them; after a failure nothing of this run keeps a final name. */
static quern_status commit_outputs(qn_job *job, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < job->n_outputs; i++) {
        for (size_t k = 0; k < job->outputs[i].n_files; k++) {
            QN_TRY(commit_file(&job->outputs[i].files[k], err));
            job->outputs[i].files[k].committed = true;
        }
    }
done:
    for (size_t i = 0; status != QUERN_OK && i < job->n_outputs; i++) {
        for (size_t k = 0; k < job->outputs[i].n_files; k++) {
            if (job->outputs[i].files[k].committed) {
                (void)unlink(job->outputs[i].files[k].path);
            }
        }
    }
    return status;
}

/* Every file that the conversion depends on. */
static quern_status list_source_files(const qn_job *job, qn_source_hash *h, quern_error *err)
{
    static const char *const others[] = {"config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json",
                                         "tokenizer_config.json", "chat_template.jinja"};
    quern_status status = QUERN_OK;
    char *path = NULL;
    for (size_t i = 0; i < qn_safetensors_n_files(job->source.weights); i++) {
        const char *file = qn_safetensors_file_path(job->source.weights, i);
        QN_TRY(qn_source_hash_add(h, file, qn_path_base(file), err));
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        path = qn_path_join(job->source.dir, others[i]);
        if (path == NULL) {
            QN_FAIL_MEMORY(err, others[i], strlen(job->source.dir));
        }
        if (qn_path_is_file(path)) {
            QN_TRY(qn_source_hash_add(h, path, others[i], err));
        }
        qn_free(path);
        path = NULL;
    }
done:
    qn_free(path);
    return status;
}

/* Reads the named files again: the hashes are those of what lies on disk. */
static quern_status hash_outputs(qn_job *job, qn_pool *pool, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_source_hash h;
    qn_source_hash_init(&h);
    for (size_t i = 0; i < job->n_outputs; i++) {
        for (size_t k = 0; k < job->outputs[i].n_files; k++) {
            QN_TRY(qn_source_hash_add(&h, job->outputs[i].files[k].path, job->outputs[i].files[k].relative, err));
        }
    }
    QN_TRY(qn_source_hash_finish(&h, pool, err));
    for (size_t i = 0, n = 0; i < job->n_outputs; i++) {
        for (size_t k = 0; k < job->outputs[i].n_files; k++, n++) {
            job->outputs[i].files[k].bytes = h.files[n].bytes;
            memcpy(job->outputs[i].files[k].sha256, h.files[n].hex, sizeof h.files[n].hex);
        }
    }
done:
    qn_source_hash_deinit(&h);
    return status;
}

static quern_status write_manifest(const qn_job *job, const qn_source_hash *source_files, qn_buf *text, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_out_file *file = NULL;
    char *path = qn_path_join(job->output_dir, "manifest.json");
    if (path == NULL) {
        QN_FAIL_MEMORY(err, "manifest.json", strlen(job->output_dir));
    }
    QN_TRY(qn_manifest_write(job, source_files, text, err));
    QN_TRY(qn_out_file_create(&file, path, err));
    QN_TRY(qn_out_file_write(file, qn_buf_text(text), text->len, err));
    QN_TRY(qn_out_file_commit(file, err));
done:
    qn_out_file_close(file);
    qn_free(path);
    return status;
}

static quern_status convert(qn_job *job, const quern_quantize_options *opt, const qn_memory_plan *memory, uint64_t begin_ns, qn_buf *text, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_pool *pool = NULL;
    qn_source_hash hash;
    qn_source_hash_init(&hash);
    QN_TRY(list_source_files(job, &hash, err));
    QN_TRY(qn_pool_create(&pool, memory->n_threads, err));
    QN_TRY(create_folders(job, err));
    QN_TRY(begin_outputs(job, err));
    QN_TRY(qn_pipeline_run(job, memory, pool, &hash, opt, begin_ns, err));
    QN_TRY(qn_source_hash_finish(&hash, pool, err));
    QN_TRY(commit_outputs(job, err));
    for (size_t i = 0; i < job->n_outputs; i++) {
        if (job->outputs[i].target.mlx != NULL) {
            qn_mlx_remove_stale(job, &job->outputs[i]);
        }
    }
    QN_TRY(hash_outputs(job, pool, err));
    QN_TRY(write_manifest(job, &hash, text, err));
done:
    qn_pool_destroy(pool);
    qn_source_hash_deinit(&hash);
    return status;
}

quern_status qn_quantize_run(const quern_quantize_options *opt, uint64_t shard_bytes, char **manifest_json, size_t *len, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t begin_ns = qn_clock_ns();
    qn_job job;
    qn_memory_plan memory;
    qn_buf text;
    uint64_t disk_free = 0;
    *manifest_json = NULL;
    *len = 0;
    qn_buf_init(&text, MANIFEST_BYTES_MAX);
    QN_TRY(make_job(&job, opt, shard_bytes, err));
    QN_TRY(qn_memory_plan_make(&job, &memory, err));
    QN_TRY(find_disk_free(job.output_dir, &disk_free, err));
    if (opt->dry_run) {
        QN_TRY(qn_plan_write(&job, &memory, disk_free, &text, err));
    } else {
        uint64_t needed = planned_bytes(&job);
        if (needed > disk_free) {
            QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: the outputs need %" PRIu64 " bytes, the file system has %" PRIu64 " free", job.output_dir, needed, disk_free);
        }
        QN_TRY(convert(&job, opt, &memory, begin_ns, &text, err));
    }
    *manifest_json = qn_buf_take(&text, len);
    if (*manifest_json == NULL) {
        QN_FAIL_MEMORY(err, "the manifest", text.len);
    }
done:
    close_job(&job);
    qn_buf_deinit(&text);
    return status;
}

quern_status quern_quantize(const quern_quantize_options *opt, char **manifest_json, size_t *len, quern_error *err)
{
    size_t unused;
    return qn_quantize_run(opt, default_shard_bytes, manifest_json, len != NULL ? len : &unused, err);
}
