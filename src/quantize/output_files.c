/* output_files.c - see output_files.h. */
#include "quantize/output_files.h"

#include <stdio.h>
#include <string.h>

#include "base/human_number.h"
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
    const char **names = NULL;
    size_t n = 0;
    qn_arena arena;
    qn_arena_init(&arena, 0);
    if (gguf == NULL || mlx == NULL) {
        QN_FAIL_MEMORY(err, job->output_dir, strlen(job->output_dir));
    }
    qn_out_files_remove_stale(gguf, NULL, is_gguf_name, restore);
    QN_TRY(qn_dir_list(mlx, SIZE_MAX, &arena, &names, &n, err));
    for (size_t i = 0; i < n; i++) {
        char *folder = qn_path_join(mlx, names[i]);
        if (folder != NULL) {
            qn_out_files_remove_stale(folder, NULL, is_mlx_name, restore);
        }
        qn_free(folder);
    }
    qn_out_files_remove_stale(job->output_dir, NULL, is_manifest_name, false); /* last: it tells that the others come back */
done:
    qn_arena_deinit(&arena);
    qn_free(gguf);
    qn_free(mlx);
    return status;
}

/* ---- folders and files ---- */

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

static void destroy_files(const qn_job *job)
{
    for (size_t i = 0; i < job->n_outputs; i++) {
        for (size_t k = 0; k < job->outputs[i].n_files; k++) {
            qn_output_file *file = &job->outputs[i].files[k];
            qn_gguf_writer_destroy(file->gguf);
            qn_safetensors_writer_destroy(file->safetensors);
            qn_out_file_close(file->text);
            qn_out_file_close(file->left);
            file->gguf = NULL;
            file->safetensors = NULL;
            file->text = NULL;
            file->left = NULL;
        }
    }
}

static void keep_weights(const qn_job *job, bool keep)
{
    for (size_t i = 0; i < job->n_outputs; i++) {
        for (size_t k = 0; k < job->outputs[i].n_weight_files; k++) {
            qn_output_file *file = &job->outputs[i].files[k];
            qn_out_file *f = file->left != NULL ? file->left : qn_output_file_get(file);
            if (f != NULL) {
                qn_out_file_keep(f, keep);
            }
        }
    }
}

/* ---- continuing ---- */

/* All weight files that were left, or none. */
static quern_status adopt(const qn_job *job, bool *all, quern_error *err)
{
    quern_status status = QUERN_OK;
    *all = true;
    for (size_t i = 0; i < job->n_outputs; i++) {
        for (size_t k = 0; k < job->outputs[i].n_weight_files && *all; k++) {
            qn_output_file *file = &job->outputs[i].files[k];
            QN_TRY(qn_out_file_adopt(&file->left, file->path, err));
            *all = file->left != NULL;
        }
    }
done:
    if (!*all) {
        destroy_files(job);
    }
    return status;
}

/* Whether what the files hold of a piece is what the journal notes. */
static quern_status check_piece(const qn_job *job, size_t piece, bool *intact, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_piece *p = &job->source.pieces[piece];
    for (size_t o = 0; o < job->n_outputs; o++) {
        const qn_sink *sink = &job->outputs[o].sinks[piece];
        const qn_output_file *file = &job->outputs[o].files[sink->file];
        for (size_t k = 0; k < sink->n_streams; k++) {
            qn_checksum sum;
            uint64_t size = (uint64_t)sink->row_bytes[k] * p->n_rows * p->n_parts;
            qn_checksum_init(&sum);
            QN_TRY(file->gguf != NULL ? qn_gguf_writer_check(file->gguf, sink->stream_tensor[k], 0, size, &sum, err)
                                      : qn_safetensors_writer_check(file->safetensors, sink->stream_tensor[k], 0, size, &sum, err));
            *intact = *intact && qn_checksum_value(&sum) == sink->sums[k];
        }
    }
done:
    return status;
}

static quern_status check_left(const qn_job *job, qn_report *report, bool *intact, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_quantize_progress p = {
        .stage = QUERN_QUANTIZE_CONVERT, .tensors_total = job->source.n_pieces, .bytes_total = job->source.weight_bytes};
    *intact = true;
    for (size_t i = 0; i < job->n_continued && *intact; i++) {
        p.tensor = job->outputs[0].sinks[i].name;
        QN_TRY(check_piece(job, i, intact, err));
        p.tensors_done = i + 1;
        p.bytes_done += qn_piece_bytes(&job->source.pieces[i]);
        QN_TRY(qn_report_progress(report, &p, false, err));
    }
done:
    if (status != QUERN_OK && status != QUERN_ERROR_CANCELLED && status != QUERN_ERROR_MEMORY) { /* too short, or not readable */
        *intact = false;
        status = QUERN_OK;
    }
    return status;
}

/* The pieces that stand in the files need not be written. */
static quern_status keep_pieces(const qn_job *job, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t o = 0; o < job->n_outputs; o++) {
        const qn_output *output = &job->outputs[o];
        for (size_t k = 0; k < output->n_weight_files; k++) {
            const qn_output_file *file = &output->files[k];
            size_t n = 0;
            for (size_t i = 0; i < job->n_continued; i++) {
                n += output->sinks[i].file == k ? output->sinks[i].n_streams : 0;
            }
            QN_TRY(file->gguf != NULL ? qn_gguf_writer_keep(file->gguf, n, err) : qn_safetensors_writer_keep(file->safetensors, n, err));
        }
    }
done:
    return status;
}

static quern_status tell(const qn_job *job, qn_report *report, qn_journal_found found, bool continued, quern_error *err)
{
    char text[200];
    qn_number done, total;
    quern_quantize_progress p = {.stage = QUERN_QUANTIZE_CONVERT,
                                 .tensor = job->outputs[0].sinks[0].name,
                                 .tensors_done = job->n_continued,
                                 .tensors_total = job->source.n_pieces,
                                 .bytes_total = job->source.weight_bytes,
                                 .note = text};
    for (size_t i = 0; i < job->n_continued; i++) {
        p.bytes_done += qn_piece_bytes(&job->source.pieces[i]);
    }
    if (found == QN_JOURNAL_NONE) {
        return QUERN_OK;
    }
    if (continued && job->n_continued == job->source.n_pieces) {
        (void)snprintf(text, sizeof text, "continues behind the last of %zu tensors", job->source.n_pieces);
    } else if (continued) {
        (void)snprintf(text, sizeof text, "continues at tensor %zu of %zu (%s of %s)", job->n_continued + 1, job->source.n_pieces,
                       qn_format_bytes(done, p.bytes_done), qn_format_bytes(total, p.bytes_total));
    } else {
        (void)snprintf(text, sizeof text, "starts over: the unfinished run in this folder %s",
                       found == QN_JOURNAL_OTHER ? "had another source or other options" : "left damaged or incomplete files");
    }
    return qn_report_progress(report, &p, true, err);
}

/* ---- begin ---- */

quern_status qn_output_files_check(const qn_job *job, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *folder = NULL;
    for (size_t o = 0; o < job->n_outputs; o++) {
        const qn_output_file *first = &job->outputs[o].files[0];
        folder = qn_path_folder(first->path);
        if (folder == NULL) {
            QN_FAIL_MEMORY(err, first->path, strlen(first->path));
        }
        bool taken = job->source.gguf == NULL && qn_path_is_same(folder, job->source.path);
        for (size_t i = 0; i < qn_source_n_files(&job->source); i++) {
            taken = taken || qn_path_is_same(first->path, qn_source_file_path(&job->source, i));
        }
        if (taken) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "%s: the output would replace the source; give another -o or --name", first->path);
        }
        qn_free(folder);
        folder = NULL;
    }
done:
    qn_free(folder);
    return status;
}

static quern_status begin_files(qn_output_files *f, const char *manifest_path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_job *job = f->job;
    QN_TRY(clear_stale(job, err));
    QN_TRY(create_folders(f, err));
    QN_TRY(qn_out_file_create(&f->manifest, manifest_path, err));
    for (size_t i = 0; i < job->n_outputs; i++) {
        qn_output *o = &job->outputs[i];
        QN_TRY(o->target.gguf != NULL ? qn_gguf_begin(job, o, err) : qn_mlx_begin(job, o, err));
    }
done:
    return status;
}

/* Back to the locked folder; what was adopted goes. */
static void abandon_files(qn_output_files *f)
{
    keep_weights(f->job, false);
    destroy_files(f->job);
    qn_out_file_close(f->manifest);
    f->manifest = NULL;
    while (f->n_folders > 1) {
        qn_out_folder_close(f->folders[--f->n_folders], false);
    }
}

quern_status qn_output_files_begin(qn_output_files *f, qn_job *job, bool resume, qn_report *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_journal_found found = QN_JOURNAL_NONE;
    bool continued = false;
    char *path = qn_path_join(job->output_dir, "manifest.json");
    f->folders = qn_calloc(job->n_outputs + 1, sizeof *f->folders);
    if (path == NULL || f->folders == NULL) {
        QN_FAIL_MEMORY(err, job->output_dir, (job->n_outputs + 1) * sizeof *f->folders);
    }
    QN_TRY(qn_out_folder_create(&f->folders[0], job->output_dir, err));
    f->n_folders = 1;
    QN_TRY(qn_out_folder_lock(f->folders[0], err));
    f->locked = true;
    if (resume) {
        QN_TRY(qn_journal_read(&f->journal, &found, err));
    }
    if (found == QN_JOURNAL_USABLE) {
        QN_TRY(adopt(job, &continued, err));
    }
    if (continued) {
        QN_TRY(begin_files(f, path, err));
        QN_TRY(check_left(job, report, &continued, err));
        if (!continued) {
            abandon_files(f);
        }
    }
    if (continued) {
        QN_TRY(keep_pieces(job, err));
    } else {
        qn_journal_discard(&f->journal);
        QN_TRY(begin_files(f, path, err));
    }
    QN_TRY(tell(job, report, found, continued, err));
done:
    qn_free(path);
    return status;
}

uint64_t qn_output_files_left_bytes(const qn_job *job)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < job->n_outputs; i++) {
        for (size_t k = 0; k < job->outputs[i].n_weight_files; k++) {
            bytes += qn_out_files_stale_bytes(job->outputs[i].files[k].path);
        }
    }
    return bytes;
}

/* False once a commit that failed has taken names back, or what the gate refused has been removed. */
static bool weights_are_there(const qn_job *job)
{
    for (size_t i = 0; i < job->n_outputs; i++) {
        if (job->outputs[i].failed) {
            return false;
        }
        for (size_t k = 0; k < job->outputs[i].n_weight_files; k++) {
            const qn_out_file *f = qn_output_file_get(&job->outputs[i].files[k]);
            if (f == NULL || !qn_path_is_file(qn_out_file_temporary_path(f))) {
                return false;
            }
        }
    }
    return true;
}

bool qn_output_files_end(qn_output_files *f, bool named, bool resumable)
{
    bool stays = !named && resumable && f->journal.n_pieces > 0 && weights_are_there(f->job);
    keep_weights(f->job, stays);
    if (!stays && f->locked) {
        qn_journal_discard(&f->journal);
    }
    qn_out_file_close(f->manifest);
    destroy_files(f->job);
    while (f->n_folders > 0) { /* the outer one last */
        bool empty = f->n_folders > 1 && f->job->outputs[f->n_folders - 2].failed && f->job->outputs[f->n_folders - 2].n_files == 0;
        qn_out_folder_close(f->folders[--f->n_folders], (named && !empty) || stays);
    }
    qn_free(f->folders);
    qn_journal_deinit(&f->journal);
    *f = (qn_output_files){.job = f->job, .journal = {.fd = -1}};
    return stays;
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
        if (f->job->outputs[i].target.mlx != NULL && !f->job->outputs[i].failed) {
            qn_mlx_remove_stale(f->job, &f->job->outputs[i]);
        }
    }
done:
    qn_free(files);
    return status;
}
