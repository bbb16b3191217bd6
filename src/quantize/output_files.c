/* output_files.c - see output_files.h. */
#include "quantize/output_files.h"

#include <dirent.h>
#include <string.h>

#include "quantize/hf_to_gguf.h"
#include "quantize/mlx_write.h"

qn_out_file *qn_output_file_get(const qn_output_file *f)
{
    if (f->gguf != NULL) {
        return qn_gguf_writer_file(f->gguf);
    }
    return f->safetensors != NULL ? qn_safetensors_writer_file(f->safetensors) : f->text;
}

/* ---- what killed runs left ---- */

static bool has_ending(const char *name, const char *const endings[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(name), end = strlen(endings[i]);
        if (len > end && strcmp(name + len - end, endings[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_gguf_name(const char *name)
{
    static const char *const endings[] = {".gguf"};
    return has_ending(name, endings, 1);
}

static bool is_mlx_name(const char *name)
{
    static const char *const endings[] = {".safetensors", ".json", ".jinja", ".txt", ".model"};
    return has_ending(name, endings, sizeof endings / sizeof endings[0]);
}

static bool is_manifest_name(const char *name) { return strcmp(name, "manifest.json") == 0; }

/* A run that was killed while it named its files had not named its manifest: what it set aside is still described and comes back. */
static quern_status clear_stale(const qn_job *job, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool restore = qn_out_files_find_stale(job->output_dir, "manifest.json");
    char *gguf = qn_path_join(job->output_dir, "gguf");
    char *mlx = qn_path_join(job->output_dir, "mlx");
    DIR *d = mlx != NULL ? opendir(mlx) : NULL;
    if (gguf == NULL || mlx == NULL) {
        QN_FAIL_MEMORY(err, job->output_dir, strlen(job->output_dir));
    }
    qn_out_files_remove_stale(gguf, NULL, is_gguf_name, restore);
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        char *folder = e->d_name[0] != '.' ? qn_path_join(mlx, e->d_name) : NULL;
        if (folder != NULL) {
            qn_out_files_remove_stale(folder, NULL, is_mlx_name, restore);
        }
        qn_free(folder);
    }
    qn_out_files_remove_stale(job->output_dir, NULL, is_manifest_name, false); /* last: it tells that the others come back */
done:
    if (d != NULL) {
        (void)closedir(d);
    }
    qn_free(gguf);
    qn_free(mlx);
    return status;
}

/* ---- begin ---- */

/* The folder of an output's files; the deepest one, as a folder is made with its parents. */
static char *folder_of(const qn_job *job, const qn_output *o)
{
    const char *deepest = o->target.gguf != NULL ? "gguf" : o->relative;
    size_t len = strlen(deepest);
    for (size_t i = 0; o->target.gguf == NULL && i < o->n_files; i++) {
        const char *relative = o->files[i].relative;
        size_t n = (size_t)(qn_path_base(relative) - relative) - 1;
        if (n > len) {
            deepest = relative;
            len = n;
        }
    }
    char *path = qn_path_join(job->output_dir, deepest);
    if (path != NULL) {
        path[strlen(path) - strlen(deepest) + len] = '\0';
    }
    return path;
}

static quern_status create_folders(qn_output_files *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_job *job = f->job;
    for (size_t i = 0; i < job->n_outputs; i++) {
        const qn_output *o = &job->outputs[i];
        char *dir = folder_of(job, o);
        if (dir == NULL) {
            QN_FAIL_MEMORY(err, job->output_dir, strlen(job->output_dir));
        }
        status = qn_out_folder_create(&f->folders[f->n_folders], dir, err);
        qn_free(dir);
        QN_TRY(status);
        f->n_folders++;
    }
done:
    return status;
}

quern_status qn_output_files_begin(qn_output_files *f, qn_job *job, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *path = qn_path_join(job->output_dir, "manifest.json");
    *f = (qn_output_files){.job = job};
    f->folders = qn_calloc(job->n_outputs + 1, sizeof *f->folders);
    if (path == NULL || f->folders == NULL) {
        QN_FAIL_MEMORY(err, job->output_dir, (job->n_outputs + 1) * sizeof *f->folders);
    }
    QN_TRY(qn_out_folder_create(&f->folders[0], job->output_dir, err));
    f->n_folders = 1;
    QN_TRY(qn_out_folder_lock(f->folders[0], err));
    QN_TRY(clear_stale(job, err));
    QN_TRY(create_folders(f, err));
    QN_TRY(qn_out_file_create(&f->manifest, path, err));
    for (size_t i = 0; i < job->n_outputs; i++) {
        qn_output *o = &job->outputs[i];
        QN_TRY(o->target.gguf != NULL ? qn_gguf_begin(job, o, err) : qn_mlx_begin(job, o, err));
    }
done:
    qn_free(path);
    return status;
}

void qn_output_files_end(qn_output_files *f, bool keep)
{
    qn_out_file_close(f->manifest);
    for (size_t i = 0; i < f->job->n_outputs; i++) {
        for (size_t k = 0; k < f->job->outputs[i].n_files; k++) {
            qn_output_file *file = &f->job->outputs[i].files[k];
            qn_gguf_writer_destroy(file->gguf);
            qn_safetensors_writer_destroy(file->safetensors);
            qn_out_file_close(file->text);
            file->gguf = NULL;
            file->safetensors = NULL;
            file->text = NULL;
        }
    }
    while (f->n_folders > 0) { /* the outer one last */
        qn_out_folder_close(f->folders[--f->n_folders], keep);
    }
    qn_free(f->folders);
    *f = (qn_output_files){.job = f->job};
}

/* ---- hashing ---- */

quern_status qn_output_files_list(const qn_output_files *f, qn_hash_list *hashes, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < f->job->n_outputs; i++) {
        for (size_t k = 0; k < f->job->outputs[i].n_files; k++) {
            const qn_output_file *file = &f->job->outputs[i].files[k];
            QN_TRY(qn_hash_list_add_growing(hashes, qn_out_file_temporary_path(qn_output_file_get(file)), file->relative, err));
        }
    }
done:
    return status;
}

static quern_status finish_file(qn_output_file *file, qn_hashed_file *hashed, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (file->gguf != NULL) {
        QN_TRY(qn_gguf_writer_finish(file->gguf, err));
    } else if (file->safetensors != NULL) {
        QN_TRY(qn_safetensors_writer_finish(file->safetensors, err));
    }
    hashed->available = file->bytes;
    hashed->complete = true;
done:
    return status;
}

static quern_status report_hashing(const qn_hash_list *hashes, qn_report *report, quern_error *err)
{
    quern_quantize_progress p = {.stage = QUERN_QUANTIZE_HASH, .tensor = ""};
    for (size_t i = 0; i < hashes->n; i++) {
        const qn_hashed_file *h = &hashes->files[i];
        p.bytes_done += h->position;
        p.bytes_total += h->available;
        if (!qn_hashed_file_finished(h)) {
            p.tensor = h->relative;
        }
    }
    return qn_report_progress(report, &p, true, err);
}

quern_status qn_output_files_hash(qn_output_files *f, qn_hash_list *hashes, qn_pool *pool, qn_report *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t number = hashes->n_sources;
    for (size_t i = 0; i < f->job->n_outputs; i++) {
        for (size_t k = 0; k < f->job->outputs[i].n_files; k++) {
            QN_TRY(finish_file(&f->job->outputs[i].files[k], &hashes->files[number++], err));
        }
    }
    for (bool done = false; !done;) {
        QN_TRY(report_hashing(hashes, report, err));
        QN_TRY(qn_hash_list_advance(hashes, pool, &done, err));
    }
    number = hashes->n_sources;
    for (size_t i = 0; i < f->job->n_outputs; i++) {
        for (size_t k = 0; k < f->job->outputs[i].n_files; k++, number++) {
            memcpy(f->job->outputs[i].files[k].sha256, hashes->files[number].hex, sizeof hashes->files[number].hex);
        }
    }
done:
    return status;
}

/* ---- commit ---- */

/* Weights before the texts that describe them, the manifest last. */
static quern_status list_files(const qn_output_files *f, qn_out_file ***files, size_t *n, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t cap = 1;
    for (size_t i = 0; i < f->job->n_outputs; i++) {
        cap += f->job->outputs[i].n_files;
    }
    *n = 0;
    *files = qn_malloc_array(cap, sizeof **files);
    if (*files == NULL) {
        QN_FAIL_MEMORY(err, "the list of files", cap * sizeof **files);
    }
    for (size_t i = 0; i < f->job->n_outputs; i++) {
        for (size_t k = 0; k < f->job->outputs[i].n_files; k++) {
            (*files)[(*n)++] = qn_output_file_get(&f->job->outputs[i].files[k]);
        }
    }
    (*files)[(*n)++] = f->manifest;
done:
    return status;
}

static quern_status sync_files(const qn_output_files *f, qn_report *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_quantize_progress p = {.stage = QUERN_QUANTIZE_SYNC};
    for (size_t i = 0; i < f->job->n_outputs; i++) {
        for (size_t k = 0; k < f->job->outputs[i].n_files; k++) {
            p.bytes_total += f->job->outputs[i].files[k].bytes;
        }
    }
    for (size_t i = 0; i < f->job->n_outputs; i++) {
        for (size_t k = 0; k < f->job->outputs[i].n_files; k++) {
            const qn_output_file *file = &f->job->outputs[i].files[k];
            p.tensor = file->relative;
            QN_TRY(qn_report_progress(report, &p, true, err));
            QN_TRY(qn_out_file_sync(qn_output_file_get(file), err));
            p.bytes_done += file->bytes;
        }
    }
    p.tensor = "manifest.json";
    QN_TRY(qn_report_progress(report, &p, true, err));
done:
    return status;
}

quern_status qn_output_files_commit(qn_output_files *f, const char *manifest, size_t len, qn_report *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_out_file **files = NULL;
    size_t n = 0;
    QN_TRY(list_files(f, &files, &n, err));
    QN_TRY(qn_out_file_write(f->manifest, manifest, len, err));
    QN_TRY(qn_out_file_sync(f->manifest, err));
    QN_TRY(sync_files(f, report, err));
    QN_TRY(qn_out_files_commit(files, n, err));
    for (size_t i = 0; i < f->job->n_outputs; i++) {
        if (f->job->outputs[i].target.mlx != NULL) {
            qn_mlx_remove_stale(f->job, &f->job->outputs[i]);
        }
    }
done:
    qn_free(files);
    return status;
}
