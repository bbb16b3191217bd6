/* test_files.h - what tests of file readers share: a scratch folder, whole files, and the corpus of corrupt files. */
#ifndef QN_TEST_FILES_H
#define QN_TEST_FILES_H

#include "qn_test.h"

#include <dirent.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json.h"

/* A new empty folder; free its path with scratch_remove. */
static inline char *scratch_create(void)
{
    const char *base = getenv("TMPDIR");
    char path[512];
    (void)snprintf(path, sizeof path, "%s/quern-test-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(path));
    return strdup(path);
}

/* Number of entries of a folder. */
static inline size_t scratch_count(const char *dir)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    (void)closedir(d);
    return n;
}

/* "DIR/NAME" in a rotating static buffer. */
static inline const char *scratch_path(const char *dir, const char *name)
{
    static char buffers[16][2048];
    static unsigned next;
    char *b = buffers[next++ % 16];
    (void)snprintf(b, sizeof buffers[0], "%s/%s", dir, name);
    return b;
}

/* Removes the folder and what is in it (one level of folders below at most), and frees its path. */
static inline void scratch_remove(char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            const char *path = scratch_path(dir, e->d_name);
            if (unlink(path) != 0) {
                scratch_remove(strdup(path));
            }
        }
    }
    (void)closedir(d);
    (void)rmdir(dir);
    free(dir);
}

static inline void write_file(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

/* Writes DIR/NAME and makes its folders; its path as scratch_path gives it. */
static inline const char *put_file(const char *dir, const char *name, const char *text)
{
    quern_error err;
    const char *path = scratch_path(dir, name);
    char *folder = strdup(path);
    *strrchr(folder, '/') = '\0';
    assert_ok(qn_dir_create(folder, &err));
    free(folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return path;
}

/* A whole file in a block of exactly its size (so that ASan sees a read past the end); free() it. */
static inline uint8_t *read_file(const char *path, size_t *size)
{
    quern_error err;
    char *text;
    assert_ok(qn_file_read(&text, size, path, (size_t)1 << 30, &err));
    uint8_t *exact = malloc(*size != 0 ? *size : 1);
    assert_non_null(exact);
    memcpy(exact, text, *size);
    quern_free(text);
    return exact;
}

static inline qn_json *read_json(const char *path)
{
    size_t size;
    quern_error err;
    qn_json *v;
    uint8_t *text = read_file(path, &size);
    assert_ok(qn_json_parse(&v, (const char *)text, size, 0, path, &err));
    free(text);
    return v;
}

typedef void (*corrupt_check)(const char *file, const char *path, const char *expect, void *user);

/* Calls check for every line of the corpus' manifest whose kind is `kind`; returns their number. */
static inline size_t for_each_corrupt(const char *kind, corrupt_check check, void *user)
{
    size_t n = 0;
    size_t size;
    const char *manifest = qn_test_golden("corrupt/manifest.jsonl");
    assert_non_null(manifest);
    char *text = (char *)read_file(manifest, &size);
    for (size_t at = 0; at < size;) {
        const char *newline = memchr(text + at, '\n', size - at);
        size_t len = newline != NULL ? (size_t)(newline - (text + at)) : size - at;
        quern_error err;
        qn_json *line;
        assert_ok(qn_json_parse(&line, text + at, len, 0, "manifest.jsonl", &err));
        if (strcmp(qn_json_string(qn_json_get(line, "kind"), NULL), kind) == 0) {
            const char *file = qn_json_string(qn_json_get(line, "file"), NULL);
            char name[256];
            (void)snprintf(name, sizeof name, "corrupt/%s", file);
            const char *path = qn_test_golden(name);
            if (path != NULL) {
                check(file, path, qn_json_string(qn_json_get(line, "expect"), NULL), user);
                n++;
            } else {
                print_message("SKIP: %s: not in the repository, and no ../shared\n", file);
            }
        }
        qn_json_free(line);
        at += len + 1;
    }
    free(text);
    return n;
}

/* A message must name the file and say more than that. */
static inline void assert_message(const quern_error *err, const char *path, const char *fragment)
{
    if (strstr(err->message, path) == NULL || (fragment != NULL && strstr(err->message, fragment) == NULL) ||
        strlen(err->message) < strlen(path) + 20) {
        print_error("message '%s' should name '%s' and say '%s'\n", err->message, path, fragment != NULL ? fragment : "what is wrong");
        fail();
    }
}

#endif
