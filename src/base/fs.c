/* fs.c - files, through POSIX. */
#define _FILE_OFFSET_BITS 64
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/page_cache.h"

static quern_status status_of_errno(int e)
{
    if (e == ENOENT || e == ENOTDIR || e == ELOOP) {
        return QUERN_ERROR_NOT_FOUND;
    }
    return e == ENOMEM ? QUERN_ERROR_MEMORY : QUERN_ERROR_IO;
}

/* Opens a regular file for reading and gives its size. */
static quern_status open_regular(int *fd, size_t *size, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* non-blocking, so that a FIFO cannot hang us */
    if (*fd < 0) {
        QN_FAIL(err, status_of_errno(errno), "%s: cannot open: %s", path, strerror(errno));
    }
    if (fstat(*fd, &st) != 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot stat: %s", path, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: not a regular file", path);
    }
    if (st.st_size < 0 || (uint64_t)st.st_size > SIZE_MAX / 2) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: too large for this machine", path);
    }
    *size = (size_t)st.st_size;
done:
    if (status != QUERN_OK && *fd >= 0) {
        close(*fd);
        *fd = -1;
    }
    return status;
}

/* As the kernel decides it for mincore and MADV_PAGEOUT. */
static bool may_know_pages(int fd, const char *path)
{
    struct stat st;
    return (fstat(fd, &st) == 0 && (st.st_uid == geteuid() || geteuid() == 0)) || faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
}

quern_status qn_mapping_open(qn_mapping *out, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    int fd = -1;
    size_t size = 0;
    *out = (qn_mapping){0};
    QN_TRY(open_regular(&fd, &size, path, err));
    if (size > 0) {
        void *p = qn_pages_map(fd, size);
        if (p == MAP_FAILED) {
            QN_FAIL(err, errno == ENOMEM ? QUERN_ERROR_MEMORY : QUERN_ERROR_IO, "%s: cannot map %zu bytes: %s", path, size,
                    strerror(errno));
        }
        *out = (qn_mapping){.data = p, .size = size, .pages_known = may_know_pages(fd, path)};
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

void qn_mapping_fetch_first(const qn_mapping *m, size_t size)
{
    if (m->data != NULL && !m->in_memory) {
        qn_pages_fetch(m->data, size < m->size ? size : m->size);
    }
}

void qn_mapped_span_release(const void *data, size_t size)
{
    long page = sysconf(_SC_PAGESIZE);
    if (page <= 0 || size == 0) {
        return;
    }
    uintptr_t begin = qn_align_up((uintptr_t)data, (size_t)page);
    uintptr_t end = ((uintptr_t)data + size) & ~((uintptr_t)page - 1);
    if (begin < end) {
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* advice: nothing depends on its success */
    }
}

/* Reads up to n bytes; *got is less if the file ends earlier (it shrank while being read). */
static quern_status read_all(int fd, void *data, size_t n, size_t *got, const char *path, quern_error *err)
{
    *got = 0;
    while (*got < n) {
        ssize_t r = read(fd, (char *)data + *got, n - *got);
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return qn_error_set(err, QUERN_ERROR_IO, "%s: cannot read: %s", path, strerror(errno));
        }
        if (r == 0) {
            break;
        }
        *got += (size_t)r;
    }
    return QUERN_OK;
}

quern_status qn_mapping_read(qn_mapping *out, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    int fd = -1;
    size_t size = 0;
    uint8_t *data = NULL;
    uint64_t cold;
    *out = (qn_mapping){0};
    QN_TRY(open_regular(&fd, &size, path, err));
    if (size > 0) {
        data = qn_malloc_pages(size);
        if (data == NULL) {
            QN_FAIL_MEMORY(err, path, size);
        }
        const uint64_t begin = qn_clock_ns();
        QN_TRY(qn_pages_read_file(fd, path, data, size, &size, &cold, err));
        *out = (qn_mapping){.data = data, .size = size, .in_memory = true};
        out->cost = (qn_read_cost){.bytes = size, .cold_bytes = cold, .seconds = qn_clock_seconds(begin, qn_clock_ns())};
        data = NULL;
    }
done:
    qn_free_aligned(data);
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

void qn_mapping_close(qn_mapping *m)
{
    if (m->in_memory) {
        qn_free_aligned((void *)(uintptr_t)m->data);
    } else if (m->data != NULL) {
        (void)munmap((void *)(uintptr_t)m->data, m->size);
    }
    *m = (qn_mapping){0};
}

quern_status qn_file_open(int *fd, uint64_t *size, const char *path, quern_error *err)
{
    size_t bytes = 0;
    quern_status status = open_regular(fd, &bytes, path, err);
    *size = bytes;
    return status;
}

quern_status qn_file_read_at(int fd, const char *path, uint64_t offset, void *data, size_t size, quern_error *err)
{
    uint8_t *p = data;
    while (size > 0) {
        ssize_t n = pread(fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return qn_error_set(err, QUERN_ERROR_IO, "%s: cannot read: %s", path, strerror(errno));
        }
        if (n == 0) {
            return qn_error_set(err, QUERN_ERROR_IO, "%s: became shorter while it was read", path);
        }
        p += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return QUERN_OK;
}

quern_status qn_file_read(char **out, size_t *size, const char *path, size_t max_bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    int fd = -1;
    size_t n = 0;
    char *data = NULL;
    *out = NULL;
    QN_TRY(open_regular(&fd, &n, path, err));
    if (n > max_bytes) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: %zu bytes, at most %zu are read", path, n, max_bytes);
    }
    data = qn_malloc(n + 1);
    if (data == NULL) {
        QN_FAIL_MEMORY(err, path, n + 1);
    }
    size_t got = 0;
    QN_TRY(read_all(fd, data, n, &got, path, err));
    data[got] = '\0';
    *out = data;
    data = NULL;
    if (size != NULL) {
        *size = got;
    }
done:
    qn_free(data);
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

bool qn_path_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}
bool qn_path_is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}
bool qn_path_is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

const char *qn_path_kind(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return lstat(path, &st) == 0 ? "a link that leads nowhere" : "missing";
    }
    switch (st.st_mode & S_IFMT) {
    case S_IFREG: return "a regular file";
    case S_IFDIR: return "a folder";
    case S_IFIFO: return "a FIFO";
    case S_IFSOCK: return "a socket";
    default: return "a device";
    }
}

quern_status qn_file_find(const char *path, bool *there, quern_error *err)
{
    const char *kind = qn_path_kind(path);
    *there = qn_path_is_file(path);
    if (!*there && strcmp(kind, "missing") != 0) {
        return qn_error_set(err, QUERN_ERROR_INVALID, "%s: is %s, expected a regular file", path, kind);
    }
    return QUERN_OK;
}

char *qn_path_join(const char *dir, const char *name)
{
    qn_buf b;
    qn_buf_init(&b, 1u << 20);
    size_t len = strlen(dir);
    (void)qn_buf_printf(&b, "%s%s%s", dir, len > 0 && dir[len - 1] == '/' ? "" : "/", name);
    char *joined = qn_buf_take(&b, NULL);
    qn_buf_deinit(&b);
    return joined;
}

quern_status qn_file_read_member(char **out, size_t *size, const char *dir, const char *name, size_t max_bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool there;
    char *path = qn_path_join(dir, name);
    *out = NULL;
    *size = 0;
    if (path == NULL) {
        QN_FAIL_MEMORY(err, name, strlen(dir) + strlen(name) + 2);
    }
    QN_TRY(qn_file_find(path, &there, err));
    if (there) {
        QN_TRY(qn_file_read(out, size, path, max_bytes, err));
    }
done:
    qn_free(path);
    return status;
}

const char *qn_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

char *qn_path_folder(const char *path)
{
    size_t n = (size_t)(qn_path_base(path) - path);
    return n > 0 ? qn_strndup(path, n) : qn_strdup(".");
}

bool qn_path_is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool qn_path_is_plain_name(const char *name, size_t len)
{
    if (len == 0 || len > 255 || memchr(name, '/', len) != NULL || memchr(name, '\0', len) != NULL) {
        return false;
    }
    return !(len == 1 && name[0] == '.') && !(len == 2 && name[0] == '.' && name[1] == '.');
}

static bool has_plain_components(const char *relative)
{
    for (const char *at = relative;; at++) {
        size_t len = strcspn(at, "/");
        if (!qn_path_is_plain_name(at, len)) {
            return false;
        }
        at += len;
        if (*at == '\0') {
            return true;
        }
    }
}

quern_status qn_path_join_inside(char **out, const char *dir, const char *relative, quern_error *err)
{
    quern_status status = QUERN_OK;
    char real_dir[PATH_MAX];
    char real_path[PATH_MAX];
    char *path = NULL;
    *out = NULL;
    if (!has_plain_components(relative)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: path '%.200s' leaves its folder (expected plain names, relative to it)", dir, relative);
    }
    path = qn_path_join(dir, relative);
    if (path == NULL) {
        QN_FAIL_MEMORY(err, dir, strlen(dir) + strlen(relative) + 2);
    }
    if (realpath(dir, real_dir) == NULL || realpath(path, real_path) == NULL) {
        QN_FAIL(err, status_of_errno(errno), "%s: cannot find: %s", path, strerror(errno));
    }
    size_t len = strlen(real_dir);
    len -= len == 1 ? 1u : 0u; /* "/" ends in its own separator */
    if (strncmp(real_path, real_dir, len) != 0 || real_path[len] != '/') {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: is a link that leads out of its folder", path);
    }
    *out = path;
    path = NULL;
done:
    qn_free(path);
    return status;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* NULL at the end, with errno 0, and where reading failed. */
static struct dirent *next_entry(DIR *d)
{
    errno = 0;
    return readdir(d);
}

quern_status qn_dir_list(const char *dir, size_t max, qn_arena *arena, const char ***names, size_t *n, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t cap = 0;
    const char **list = NULL;
    DIR *d = opendir(dir);
    *names = NULL;
    *n = 0;
    if (d == NULL && errno != ENOENT && errno != ENOTDIR) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot list this folder: %s", dir, strerror(errno));
    }
    for (struct dirent *e = d != NULL ? next_entry(d) : NULL; e != NULL; e = next_entry(d)) {
        if (e->d_name[0] == '.') {
            continue;
        }
        if (*n == max) {
            QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: more than %zu files in one folder", dir, max);
        }
        if (*n == cap) {
            cap = cap != 0 ? 2 * cap : 32;
            const char **more = qn_arena_alloc_array(arena, cap, sizeof *more);
            if (more == NULL) {
                QN_FAIL_MEMORY(err, dir, cap * sizeof *more);
            }
            if (*n > 0) {
                memcpy(more, list, *n * sizeof *more);
            }
            list = more;
        }
        list[*n] = qn_arena_strndup(arena, e->d_name, strlen(e->d_name));
        if (list[(*n)++] == NULL) {
            QN_FAIL_MEMORY(err, dir, strlen(e->d_name) + 1);
        }
    }
    if (d != NULL && errno != 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot list this folder: %s", dir, strerror(errno));
    }
    if (*n > 0) {
        qsort(list, *n, sizeof *list, compare_names);
    }
    *names = list;
done:
    if (d != NULL) {
        (void)closedir(d);
    }
    return status;
}

quern_status qn_dir_create(const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *copy = qn_strdup(path);
    if (copy == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path) + 1);
    }
    for (char *p = copy + 1; copy[0] != '\0'; p++) {
        if (*p == '/' || *p == '\0') {
            char saved = *p;
            *p = '\0';
            if (mkdir(copy, 0777) != 0 && errno != EEXIST) {
                QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot create folder: %s", copy, strerror(errno));
            }
            *p = saved;
            if (saved == '\0') {
                break;
            }
        }
    }
    if (!qn_path_is_directory(path)) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: exists and is not a folder", path);
    }
done:
    qn_free(copy);
    return status;
}

quern_status qn_disk_free(const char *path, uint64_t *bytes, quern_error *err)
{
    struct statvfs s;
    if (statvfs(path, &s) != 0) {
        return qn_error_set(err, QUERN_ERROR_IO, "%s: cannot ask for free space: %s", path, strerror(errno));
    }
    *bytes = (uint64_t)s.f_bavail * (uint64_t)s.f_frsize;
    return QUERN_OK;
}
