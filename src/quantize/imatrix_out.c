/* imatrix_out.c - see imatrix_out.h. */
#include "quantize/imatrix_out.h"

#include <string.h>

#include "base/out_file.h"
#include "calibrate/imatrix.h"
#include "quantize/journal.h"

/* Whether a path, which need not exist yet, is the place `folder`, name. */
static bool is_at(const char *path, const char *folder, const char *other)
{
    bool same = qn_path_is_same(path, other);
    char *beside = qn_path_folder(other);
    same = same || (beside != NULL && strcmp(qn_path_base(path), qn_path_base(other)) == 0 && qn_path_is_same(folder, beside));
    qn_free(beside);
    return same;
}

/* An output may get its name, or with keep_failed another one. */
static quern_status check_outputs(const qn_job *job, const char *path, const char *folder, quern_error *err)
{
    static const char *const of_the_folder[] = {"manifest.json", QN_JOURNAL_NAME};
    quern_status status = QUERN_OK;
    char *failed = NULL, *own = NULL;
    bool taken = false;
    for (size_t i = 0; i < sizeof of_the_folder / sizeof of_the_folder[0]; i++) {
        own = qn_path_join(job->output_dir, of_the_folder[i]);
        if (own == NULL) {
            QN_FAIL_MEMORY(err, job->output_dir, strlen(job->output_dir));
        }
        taken = taken || is_at(path, folder, own);
        qn_free(own);
        own = NULL;
    }
    for (size_t o = 0; o < job->n_outputs && !taken; o++) {
        for (size_t k = 0; k < job->outputs[o].n_files && !taken; k++) {
            const char *output = job->outputs[o].files[k].path;
            size_t n = strlen(output);
            failed = qn_malloc(n + sizeof ".failed");
            if (failed == NULL) {
                QN_FAIL_MEMORY(err, output, n);
            }
            memcpy(failed, output, n);
            memcpy(failed + n, ".failed", sizeof ".failed");
            taken = is_at(path, folder, output) || is_at(path, folder, failed);
            qn_free(failed);
            failed = NULL;
        }
    }
    if (taken) {
        QN_FAIL(err, QUERN_ERROR_USAGE,
                "--imatrix-out %s: this run writes another file there; give the importance matrix a name of its own", path);
    }
done:
    qn_free(failed);
    qn_free(own);
    return status;
}

/* What is there is lost when the new file gets its name: only an importance matrix of an earlier run may go, or an empty file. */
static quern_status check_there(const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_imatrix there = {0};
    qn_mapping file = {0};
    quern_error why = {0};
    if (!qn_path_exists(path)) {
        return QUERN_OK;
    }
    if (!qn_path_is_file(path)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "--imatrix-out %s: is %s; expected the name of a new file", path, qn_path_kind(path));
    }
    status = qn_mapping_open(&file, path, &why);
    if (status == QUERN_OK && file.size > 0) {
        status = qn_imatrix_parse(&there, file.data, file.size, path, &why);
    }
    if (status == QUERN_ERROR_MEMORY) {
        QN_FAIL(err, status, "%s", why.message);
    }
    if (status != QUERN_OK) {
        QN_FAIL(err, QUERN_ERROR_USAGE,
                "--imatrix-out %s: is there and no importance matrix, and would be replaced; give another path or remove it first", path);
    }
done:
    qn_imatrix_deinit(&there);
    qn_mapping_close(&file);
    return status;
}

quern_status qn_imatrix_out_check(const qn_job *job, const qn_hash_list *sources, const char *path, bool dry_run, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *folder = qn_path_folder(path);
    if (folder == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path) + 1);
    }
    if (qn_path_base(path)[0] == '\0') {
        QN_FAIL(err, QUERN_ERROR_USAGE, "--imatrix-out '%s': expected the name of a file", path);
    }
    if (!qn_path_is_directory(folder)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "--imatrix-out %s: no such folder as %s; make it first, or give another path", path, folder);
    }
    for (size_t i = 0; i < sources->n_sources; i++) {
        if (is_at(path, folder, sources->files[i].path)) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "--imatrix-out %s: is %s of the source and would be replaced; give another path", path,
                    sources->files[i].relative);
        }
    }
    QN_TRY(check_outputs(job, path, folder, err));
    QN_TRY(check_there(path, err));
    if (!dry_run) {
        QN_TRY(qn_out_file_probe(path, "--imatrix-out", err));
    }
done:
    qn_free(folder);
    return status;
}
