/* folder_files.c - see folder_files.h. */
#include "model/folder_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"

enum { NAME_MAX_BYTES = 512 };

typedef struct listing {
    const char *dir;
    qn_arena *arena;
    const char **names;
    size_t n;
    quern_error *err;
} listing;

static quern_status add(listing *l, const char *relative)
{
    quern_status status = QUERN_OK;
    char *path = qn_path_join(l->dir, relative);
    if (path == NULL) {
        QN_FAIL_MEMORY(l->err, relative, strlen(relative));
    }
    if (!qn_path_is_file(path)) {
        goto done;
    }
    if (l->n == QN_FOLDER_FILES_MAX) {
        QN_FAIL(l->err, QUERN_ERROR_LIMIT, "%s: more than %d files in one folder", l->dir, QN_FOLDER_FILES_MAX);
    }
    l->names[l->n] = qn_arena_strndup(l->arena, relative, strlen(relative));
    if (l->names[l->n++] == NULL) {
        QN_FAIL_MEMORY(l->err, relative, strlen(relative) + 1);
    }
done:
    qn_free(path);
    return status;
}

static quern_status add_folder(listing *l, const char *below)
{
    quern_status status = QUERN_OK;
    const char **names = NULL;
    size_t n = 0;
    char *path = qn_path_join(l->dir, below);
    if (path == NULL) {
        QN_FAIL_MEMORY(l->err, l->dir, strlen(l->dir));
    }
    QN_TRY(qn_dir_list(path, QN_FOLDER_FILES_MAX, l->arena, &names, &n, l->err));
    for (size_t i = 0; i < n; i++) {
        char relative[NAME_MAX_BYTES];
        int len = snprintf(relative, sizeof relative, "%s%s%s", below, below[0] != '\0' ? "/" : "", names[i]);
        QN_TRY(len > 0 && (size_t)len < sizeof relative ? add(l, relative) : QUERN_OK);
    }
done:
    qn_free(path);
    return status;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

quern_status qn_folder_list_files(const char *dir, qn_arena *arena, const char ***names, size_t *n, quern_error *err)
{
    quern_status status = QUERN_OK;
    listing l = {.dir = dir, .arena = arena, .err = err, .names = qn_arena_alloc_array(arena, QN_FOLDER_FILES_MAX, sizeof *l.names)};
    if (l.names == NULL) {
        QN_FAIL_MEMORY(err, dir, QN_FOLDER_FILES_MAX * sizeof *l.names);
    }
    QN_TRY(add_folder(&l, ""));
    QN_TRY(add_folder(&l, "additional_chat_templates"));
    qsort(l.names, l.n, sizeof *l.names, compare_names);
    *names = l.names;
    *n = l.n;
done:
    return status;
}
