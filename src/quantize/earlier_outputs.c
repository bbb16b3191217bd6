/* earlier_outputs.c - see earlier_outputs.h. The earlier manifest is untrusted: whatever it says, only files inside the folder are looked at,
 * and nothing is written or removed because of it. */
#include "quantize/earlier_outputs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EARLIER_BYTES_MAX = 256 << 20 };

quern_status qn_earlier_outputs_init(qn_earlier_outputs *e, quern_error *err)
{
    quern_status status = QUERN_OK;
    *e = (qn_earlier_outputs){.kept = qn_json_new_array(), .warnings = qn_json_new_array()};
    if (e->kept == NULL || e->warnings == NULL) {
        QN_FAIL_MEMORY(err, "manifest.json", 64);
    }
done:
    return status;
}

void qn_earlier_outputs_deinit(qn_earlier_outputs *e)
{
    qn_json_free(e->kept);
    qn_json_free(e->warnings);
    *e = (qn_earlier_outputs){0};
}

static const char *text_of(const qn_json *object, const char *key)
{
    const char *s = qn_json_string(qn_json_get(object, key), NULL);
    return s != NULL ? s : "";
}

static quern_status warn(qn_earlier_outputs *e, const char *path, const char *why, quern_error *err)
{
    quern_status status = QUERN_OK;
    char text[600];
    (void)snprintf(text, sizeof text, "%.300s: %s", path, why);
    if (!qn_json_append(e->warnings, qn_json_new_string(text))) {
        QN_FAIL_MEMORY(err, "manifest.json", sizeof text);
    }
done:
    return status;
}

static bool is_same_source(const qn_json *files, const qn_hash_list *hashes)
{
    size_t n_found = 0;
    if (qn_json_length(files) != hashes->n_sources) {
        return false;
    }
    for (size_t i = 0; i < hashes->n_sources; i++) {
        for (size_t k = 0; k < hashes->n_sources; k++) {
            const qn_json *f = qn_json_at(files, (i + k) % hashes->n_sources); /* usually in the same order */
            if (strcmp(text_of(f, "path"), hashes->files[i].relative) == 0) {
                n_found += strcmp(text_of(f, "sha256"), hashes->files[i].hex) == 0;
                break;
            }
        }
    }
    return n_found == hashes->n_sources;
}

static bool is_written_now(const qn_job *job, const qn_json *files)
{
    for (size_t i = 0; i < qn_json_length(files); i++) {
        for (size_t o = 0; o < job->n_outputs; o++) {
            for (size_t k = 0; k < job->outputs[o].n_files; k++) {
                if (strcmp(job->outputs[o].files[k].relative, text_of(qn_json_at(files, i), "path")) == 0) {
                    return true;
                }
            }
        }
    }
    return false;
}

/* How many of the files are there, and whether all are, with their sizes. */
static size_t count_files(const qn_job *job, const qn_json *files, bool *intact)
{
    size_t n = 0;
    *intact = qn_json_length(files) > 0;
    for (size_t i = 0; i < qn_json_length(files); i++) {
        const qn_json *f = qn_json_at(files, i);
        char *path = NULL;
        int fd = -1;
        uint64_t size = 0;
        int64_t expected = -1;
        bool there = qn_path_join_inside(&path, job->output_dir, text_of(f, "path"), NULL) == QUERN_OK &&
                     qn_file_open(&fd, &size, path, NULL) == QUERN_OK;
        bool same = there && qn_json_int(qn_json_get(f, "bytes"), &expected) && expected >= 0 && (uint64_t)expected == size;
        n += there;
        *intact = *intact && same && strlen(text_of(f, "sha256")) == 64;
        if (fd >= 0) {
            close(fd);
        }
        qn_free(path);
    }
    return n;
}

/* root: the manifest that has it; its calibration was that of its own run. */
static quern_status keep(qn_earlier_outputs *e, const qn_json *output, const qn_json *root, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *copy = qn_json_clone(output);
    bool stored = copy != NULL;
    if (stored && qn_json_get(copy, "kept_from") == NULL) {
        const qn_json *calibration = qn_json_get(root, "calibration");
        stored = qn_json_set(copy, "kept_from", qn_json_new_string(text_of(root, "created")));
        if (calibration != NULL) {
            stored = qn_json_set(copy, "calibration", qn_json_clone(calibration)) && stored;
        }
    }
    if (!stored) {
        qn_json_free(copy);
    }
    if (!stored || !qn_json_append(e->kept, copy)) {
        QN_FAIL_MEMORY(err, "manifest.json", 64);
    }
done:
    return status;
}

static quern_status read_outputs(qn_earlier_outputs *e, const qn_job *job, const qn_json *root, bool same_source, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_json *outputs = qn_json_get(root, "outputs");
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        const qn_json *o = qn_json_at(outputs, i);
        const qn_json *files = qn_json_get(o, "files");
        bool intact;
        if (is_written_now(job, files) || count_files(job, files, &intact) == 0) {
            continue; /* replaced, or gone */
        }
        if (!same_source) {
            QN_TRY(warn(e, text_of(o, "path"),
                        "stays in the folder, but manifest.json does not describe it any more: it was made from other source files", err));
        } else if (!intact) {
            QN_TRY(warn(e, text_of(o, "path"),
                        "stays in the folder, but manifest.json does not describe it any more: its files are not those that were written",
                        err));
        } else {
            QN_TRY(keep(e, o, root, err));
        }
    }
done:
    return status;
}

quern_status qn_earlier_outputs_read(qn_earlier_outputs *e, const qn_job *job, const qn_hash_list *hashes, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    char *text = NULL;
    size_t len = 0;
    qn_json *root = NULL;
    char *path = qn_path_join(job->output_dir, "manifest.json");
    if (path == NULL) {
        QN_FAIL_MEMORY(err, "manifest.json", strlen(job->output_dir));
    }
    if (!qn_path_exists(path)) {
        goto done;
    }
    quern_status read = qn_file_read(&text, &len, path, EARLIER_BYTES_MAX, &why);
    if (read == QUERN_OK) {
        read = qn_json_parse(&root, text, len, QN_JSON_REJECT_DUPLICATES, "manifest.json", &why);
    }
    if (read == QUERN_ERROR_MEMORY) {
        QN_FAIL(err, read, "%s", why.message);
    }
    if (read != QUERN_OK || strcmp(text_of(root, "schema"), "quern.manifest/1") != 0) {
        QN_TRY(warn(e, "manifest.json",
                    "the one that was here could not be read and was replaced; files that it described are not described any more", err));
        goto done;
    }
    QN_TRY(read_outputs(e, job, root, is_same_source(qn_json_get(qn_json_get(root, "source"), "files"), hashes), err));
done:
    qn_json_free(root);
    qn_free(text);
    qn_free(path);
    return status;
}
