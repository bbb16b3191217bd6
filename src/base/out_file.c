/* out_file.c - see out_file.h. */
#define _FILE_OFFSET_BITS 64
#include "base/out_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/fs.h"

enum { OUT_BUFFER_BYTES = 1 << 20 };

/* ---- what must go when the program dies ---- */

/* Fixed tables, so that a signal handler can read them: entries set and cleared atomically, paths never freed while listed. */
enum { FILES_MAX = 256, FOLDERS_MAX = 64 };
static _Atomic(const char *) open_files[FILES_MAX];
static _Atomic(const char *) new_folders[FOLDERS_MAX];

/* How many commits are naming files; ABANDONED once a handler has removed everything. */
enum { ABANDONED = -1 };
static atomic_int commits;

/* The slot, or `cap` if the table is full: the entry is then not known to a handler. */
static size_t list_path(_Atomic(const char *) *table, size_t cap, const char *path)
{
    for (size_t i = 0; i < cap; i++) {
        const char *expected = NULL;
        if (atomic_compare_exchange_strong(&table[i], &expected, path)) {
            return i;
        }
    }
    return cap;
}

static bool begin_naming(void)
{
    int n = atomic_load(&commits);
    while (n != ABANDONED && !atomic_compare_exchange_weak(&commits, &n, n + 1)) {
    }
    return n != ABANDONED;
}

static void end_naming(void) { (void)atomic_fetch_sub(&commits, 1); }

bool qn_out_files_abandon_all(void)
{
    int idle = 0;
    if (!atomic_compare_exchange_strong(&commits, &idle, ABANDONED) && idle != ABANDONED) {
        return false;
    }
    for (size_t i = 0; i < FILES_MAX; i++) {
        const char *path = atomic_load(&open_files[i]);
        if (path != NULL) {
            (void)unlink(path);
        }
    }
    for (bool removed = true; removed;) { /* inner ones first: in whatever order they are listed */
        removed = false;
        for (size_t i = 0; i < FOLDERS_MAX; i++) {
            const char *path = atomic_load(&new_folders[i]);
            removed = (path != NULL && rmdir(path) == 0) || removed;
        }
    }
    return true;
}

/* ---- files ---- */

struct qn_out_file {
    int fd;
    char *final_path;
    char *temporary_path;
    char *aside_path; /* where an older file of the final name waits while a group is named */
    uint64_t position;
    size_t slot;
    bool synced, has_aside, named, kept;
    bool failed; /* a write was: bytes are missing, so it is never synced or named */
    uint8_t *buffer;
    size_t buffered;
};

static quern_status write_all(qn_out_file *f, const uint8_t *data, size_t size, quern_error *err)
{
    while (size > 0) {
        ssize_t n = write(f->fd, data, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            f->failed = true;
            return qn_error_set(err, QUERN_ERROR_IO, "%s: cannot write: %s", f->final_path, strerror(errno));
        }
        data += n;
        size -= (size_t)n;
    }
    return QUERN_OK;
}

quern_status qn_out_file_rename(qn_out_file *f, const char *final_path, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *own = qn_strdup(final_path);
    if (own == NULL) {
        QN_FAIL_MEMORY(err, final_path, strlen(final_path) + 1);
    }
    qn_free(f->final_path);
    f->final_path = own;
done:
    return status;
}

quern_status qn_out_file_flush(qn_out_file *f, quern_error *err)
{
    quern_status status = write_all(f, f->buffer, f->buffered, err);
    f->buffered = 0;
    return status;
}

/* What stands under the final name may be replaced: nothing, or a regular file. */
static quern_status check_replaceable(const char *path, quern_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode)) {
        return QUERN_OK;
    }
    return qn_error_set(err, QUERN_ERROR_IO, "%s: is %s; expected the name of a new file or of one to replace", path, qn_path_kind(path));
}

static char *make_name(const char *final_path, const char *ending)
{
    qn_buf name;
    qn_buf_init(&name, 1u << 16);
    (void)qn_buf_printf(&name, "%s.%ld.%s", final_path, (long)getpid(), ending);
    char *made = qn_buf_take(&name, NULL);
    qn_buf_deinit(&name);
    return made;
}

/* All but the file itself. */
static quern_status make_out_file(qn_out_file **out, const char *final_path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_out_file *f = qn_calloc(1, sizeof *f);
    *out = f;
    if (f == NULL) {
        QN_FAIL_MEMORY(err, final_path, sizeof *f);
    }
    f->fd = -1;
    f->slot = FILES_MAX;
    QN_TRY(check_replaceable(final_path, err));
    f->final_path = qn_strdup(final_path);
    f->temporary_path = make_name(final_path, "part");
    f->aside_path = make_name(final_path, "old");
    f->buffer = qn_malloc(OUT_BUFFER_BYTES);
    if (f->final_path == NULL || f->temporary_path == NULL || f->aside_path == NULL || f->buffer == NULL) {
        QN_FAIL_MEMORY(err, final_path, OUT_BUFFER_BYTES);
    }
done:
    return status;
}

quern_status qn_out_file_create(qn_out_file **out, const char *final_path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_out_file *f = NULL;
    char *dir = qn_path_folder(final_path);
    *out = NULL;
    if (dir == NULL) {
        QN_FAIL_MEMORY(err, final_path, strlen(final_path) + 1);
    }
    QN_TRY(make_out_file(&f, final_path, err));
    qn_out_files_remove_stale(dir, qn_path_base(final_path), NULL, false);
    f->fd = open(f->temporary_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f->fd < 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot create: %s", final_path, strerror(errno));
    }
    (void)flock(f->fd, LOCK_EX | LOCK_NB); /* where there are no locks, nothing is ever taken for stale */
    f->slot = list_path(open_files, FILES_MAX, f->temporary_path);
    *out = f;
    f = NULL;
done:
    qn_free(dir);
    qn_out_file_close(f);
    return status;
}

quern_status qn_out_file_write(qn_out_file *f, const void *data, size_t size, quern_error *err)
{
    quern_status status = QUERN_OK;
    f->position += size;
    f->synced = false;
    if (size > OUT_BUFFER_BYTES - f->buffered) {
        QN_TRY(qn_out_file_flush(f, err));
        if (size >= OUT_BUFFER_BYTES) {
            return write_all(f, data, size, err);
        }
    }
    if (size > 0) {
        memcpy(f->buffer + f->buffered, data, size);
        f->buffered += size;
    }
done:
    return status;
}

quern_status qn_out_file_write_at(qn_out_file *f, uint64_t offset, const void *data, size_t size, quern_error *err)
{
    quern_status status = QUERN_OK;
    const uint8_t *p = data;
    f->synced = false;
    QN_TRY(qn_out_file_flush(f, err));
    while (size > 0) {
        ssize_t n = pwrite(f->fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            f->failed = true;
            QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot write: %s", f->final_path, strerror(errno));
        }
        p += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
done:
    return status;
}

uint64_t qn_out_file_position(const qn_out_file *f) { return f->position; }
uint64_t qn_out_file_flushed(const qn_out_file *f) { return f->position - f->buffered; }
quern_status qn_out_file_rewind(qn_out_file *f, uint64_t position, uint64_t size, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_out_file_flush(f, err));
    if (ftruncate(f->fd, (off_t)size) != 0 || lseek(f->fd, (off_t)position, SEEK_SET) < 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot write from byte %llu on: %s", f->temporary_path, (unsigned long long)position,
                strerror(errno));
    }
    f->position = position;
    f->synced = false;
done:
    return status;
}

quern_status qn_out_file_read_at(const qn_out_file *f, uint64_t offset, void *data, size_t size, quern_error *err)
{
    return qn_file_read_at(f->fd, f->temporary_path, offset, data, size, err);
}

const char *qn_out_file_temporary_path(const qn_out_file *f) { return f->temporary_path; }

quern_status qn_out_file_sync(qn_out_file *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (f->synced) {
        return QUERN_OK;
    }
    QN_TRY(qn_out_file_flush(f, err));
    if (f->failed) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: an earlier write failed", f->final_path);
    }
    if (fsync(f->fd) != 0) {
        f->failed = true; /* what the system could not bring to the disk it may have forgotten */
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot sync: %s", f->final_path, strerror(errno));
    }
    f->synced = true;
done:
    return status;
}

quern_status qn_out_file_sync_beside(const qn_out_file *f, quern_error *err)
{
    return fsync(f->fd) == 0 ? QUERN_OK : qn_error_set(err, QUERN_ERROR_IO, "%s: cannot sync: %s", f->final_path, strerror(errno));
}

void qn_out_file_fail(qn_out_file *f)
{
    f->failed = true;
    f->synced = false;
}

/* Makes a rename durable; a file system that cannot sync folders is no reason to fail. */
static void sync_parent(const char *path)
{
    char *dir = qn_path_folder(path);
    if (dir != NULL) {
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            (void)fsync(fd);
            close(fd);
        }
        qn_free(dir);
    }
}

/* ---- naming ---- */

/* A second name for the older file, so that the first never lacks a file; where there are no links it is moved. */
static bool set_aside(qn_out_file *f)
{
    struct stat st;
    if (lstat(f->final_path, &st) != 0) {
        return true;
    }
    (void)unlink(f->aside_path);
    f->has_aside = link(f->final_path, f->aside_path) == 0 || rename(f->final_path, f->aside_path) == 0;
    return f->has_aside;
}

static quern_status name_file(qn_out_file *f, bool in_group, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(check_replaceable(f->final_path, err));
    if (in_group && !set_aside(f)) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot set the older file aside: %s", f->final_path, strerror(errno));
    }
    if (rename(f->temporary_path, f->final_path) != 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot rename into place: %s", f->final_path, strerror(errno));
    }
    f->named = true;
done:
    return status;
}

/* As it was before name_file. */
static void restore_name(qn_out_file *f)
{
    if (f->has_aside) {
        (void)rename(f->aside_path, f->final_path);
        (void)unlink(f->aside_path); /* rename does nothing if both are names of one file */
    } else if (f->named) {
        (void)unlink(f->final_path);
    }
    f->has_aside = false;
}

static void forget_temporary(qn_out_file *f)
{
    if (f->slot < FILES_MAX) {
        atomic_store(&open_files[f->slot], NULL);
        f->slot = FILES_MAX;
    }
}

static quern_status name_all(qn_out_file *const *files, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i + 1 < n; i++) {
        QN_TRY(name_file(files[i], true, err));
    }
    for (size_t i = 0; i + 1 < n; i++) {
        sync_parent(files[i]->final_path);
    }
    QN_TRY(name_file(files[n - 1], false, err)); /* from here on the others are described as they are */
    sync_parent(files[n - 1]->final_path);
done:
    for (size_t i = 0; i < n; i++) {
        if (status != QUERN_OK) {
            restore_name(files[i]);
        } else if (files[i]->has_aside) {
            (void)unlink(files[i]->aside_path);
            files[i]->has_aside = false;
        }
    }
    return status;
}

quern_status qn_out_files_commit(qn_out_file *const *files, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < n; i++) {
        if (files[i]->named) {
            QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: committed twice", files[i]->final_path);
        }
        QN_TRY(qn_out_file_sync(files[i], err));
    }
    if (n == 0) {
        goto done;
    }
    if (!begin_naming()) {
        QN_FAIL(err, QUERN_ERROR_CANCELLED, "%s: the program is ending", files[n - 1]->final_path);
    }
    status = name_all(files, n, err);
    for (size_t i = 0; status == QUERN_OK && i < n; i++) {
        forget_temporary(files[i]);
    }
    end_naming();
done:
    return status;
}

quern_status qn_out_file_commit(qn_out_file *f, quern_error *err) { return qn_out_files_commit(&f, 1, err); }

void qn_out_file_keep(qn_out_file *f, bool keep)
{
    f->kept = keep;
    if (keep) {
        forget_temporary(f);
    }
}

void qn_out_file_close(qn_out_file *f)
{
    if (f == NULL) {
        return;
    }
    if (f->fd >= 0) {
        if (!f->named && !f->kept) {
            (void)unlink(f->temporary_path);
        }
        close(f->fd);
    }
    forget_temporary(f);
    qn_free(f->buffer);
    qn_free(f->final_path);
    qn_free(f->temporary_path);
    qn_free(f->aside_path);
    qn_free(f);
}

/* ---- what killed runs left ---- */

/* Splits "NAME.PID.ENDING": the length of NAME and the process, or 0. */
static size_t split_name(const char *entry, const char *ending, long *pid)
{
    size_t n = strlen(entry), end = strlen(ending);
    if (n <= end + 1 || strcmp(entry + n - end, ending) != 0 || entry[n - end - 1] != '.') {
        return 0;
    }
    size_t digits_end = n - end - 1, begin = digits_end;
    while (begin > 0 && entry[begin - 1] >= '0' && entry[begin - 1] <= '9') {
        begin--;
    }
    if (begin < 2 || begin == digits_end || digits_end - begin > 10 || entry[begin - 1] != '.') {
        return 0;
    }
    *pid = strtol(entry + begin, NULL, 10);
    return begin - 1;
}

/* Nobody writes it. A temporary file is locked while it is written, but for the moment after it was made; what was set aside never is. */
static bool is_stale(const char *path, long pid, bool aside)
{
    enum { SECONDS_OLD = 60 };
    struct stat st;
    int fd = -1;
    bool stale = false;
    if (pid <= 0 || lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    bool gone = pid == (long)getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH);
    if (aside) {
        return gone;
    }
    fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd >= 0) {
        stale = flock(fd, LOCK_EX | LOCK_NB) == 0 && (gone || time(NULL) - st.st_mtime > SECONDS_OLD);
        close(fd);
    }
    return stale;
}

static bool is_of(const char *entry, size_t len, const char *base, bool (*wanted)(const char *name))
{
    char name[256];
    if (len >= sizeof name) {
        return false;
    }
    memcpy(name, entry, len);
    name[len] = '\0';
    return base != NULL ? strcmp(name, base) == 0 : wanted(name);
}

static void clear_entry(const char *dir, const char *entry, size_t len, long pid, bool aside, bool restore)
{
    char *path = qn_path_join(dir, entry);
    char *final_path = path != NULL ? qn_strndup(path, strlen(path) - strlen(entry) + len) : NULL;
    if (final_path != NULL && is_stale(path, pid, aside)) {
        if (!(aside && restore && rename(path, final_path) == 0)) {
            (void)unlink(path);
        }
    }
    qn_free(final_path);
    qn_free(path);
}

void qn_out_files_remove_stale(const char *dir, const char *base, bool (*wanted)(const char *name), bool restore)
{
    DIR *d = opendir(dir);
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        long pid = 0;
        bool aside = false;
        size_t len = split_name(e->d_name, "part", &pid);
        if (len == 0 && base == NULL) { /* only who knows the whole group can tell what to do with what was set aside */
            len = split_name(e->d_name, "old", &pid);
            aside = true;
        }
        if (len > 0 && is_of(e->d_name, len, base, wanted)) {
            clear_entry(dir, e->d_name, len, pid, aside, restore);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
}

bool qn_out_files_find_stale(const char *dir, const char *base)
{
    bool found = false;
    DIR *d = opendir(dir);
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL && !found; e = readdir(d)) {
        long pid = 0;
        size_t len = split_name(e->d_name, "part", &pid);
        char *path = len > 0 && is_of(e->d_name, len, base, NULL) ? qn_path_join(dir, e->d_name) : NULL;
        found = path != NULL && is_stale(path, pid, false);
        qn_free(path);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return found;
}

void qn_out_file_sync_folder(const char *path) { sync_parent(path); }

/* The temporary files that were left for a name: how many nobody writes, the last of them, and their bytes on the disk. */
static size_t find_left(const char *final_path, char **last, uint64_t *bytes)
{
    size_t n = 0;
    char *dir = qn_path_folder(final_path);
    DIR *d = dir != NULL ? opendir(dir) : NULL;
    *bytes = 0;
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        long pid = 0;
        struct stat st;
        size_t len = split_name(e->d_name, "part", &pid);
        char *path = len > 0 && is_of(e->d_name, len, qn_path_base(final_path), NULL) ? qn_path_join(dir, e->d_name) : NULL;
        if (path != NULL && lstat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            n++;
            *bytes += (uint64_t)st.st_blocks * 512;
            if (last != NULL) {
                qn_free(*last);
                *last = path;
                path = NULL;
            }
        }
        qn_free(path);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    qn_free(dir);
    return n;
}

uint64_t qn_out_files_stale_bytes(const char *final_path)
{
    uint64_t bytes;
    (void)find_left(final_path, NULL, &bytes);
    return bytes;
}

quern_status qn_out_file_probe(const char *final_path, const char *option, quern_error *err)
{
    qn_out_file *probe = NULL;
    quern_error why = {0};
    const quern_status status = qn_out_file_create(&probe, final_path, &why);
    qn_out_file_close(probe);
    if (status == QUERN_ERROR_MEMORY) {
        return qn_error_set(err, status, "%s", why.message);
    }
    if (status != QUERN_OK) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "%s: %s; give a path that can be written", option, why.message);
    }
    return QUERN_OK;
}

quern_status qn_out_file_adopt(qn_out_file **out, const char *final_path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_out_file *f = NULL;
    char *left = NULL;
    uint64_t bytes;
    *out = NULL;
    if (find_left(final_path, &left, &bytes) != 1) {
        goto done;
    }
    QN_TRY(make_out_file(&f, final_path, err));
    f->kept = true; /* what cannot be taken over stays, for who clears what was left */
    f->fd = open(left, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (f->fd < 0 || flock(f->fd, LOCK_EX | LOCK_NB) != 0 || rename(left, f->temporary_path) != 0) {
        goto done;
    }
    *out = f;
    f = NULL;
done:
    qn_free(left);
    qn_out_file_close(f);
    return status;
}

/* ---- folders ---- */

enum { MADE_MAX = 16 };

struct qn_out_folder {
    int lock_fd;
    char *path;
    char *made[MADE_MAX]; /* outermost first */
    size_t slots[MADE_MAX];
    size_t n_made;
};

/* Makes one folder if it is not there. Those beyond MADE_MAX are made and stay. */
static quern_status make_one(qn_out_folder *f, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *copy = f->n_made < MADE_MAX ? qn_strdup(path) : NULL;
    if (copy == NULL && f->n_made < MADE_MAX) {
        QN_FAIL_MEMORY(err, path, strlen(path) + 1);
    }
    if (mkdir(path, 0777) == 0) {
        if (copy != NULL) {
            f->slots[f->n_made] = list_path(new_folders, FOLDERS_MAX, copy);
            f->made[f->n_made++] = copy;
            copy = NULL;
        }
    } else if (errno != EEXIST) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot create folder: %s", path, strerror(errno));
    }
done:
    qn_free(copy);
    return status;
}

quern_status qn_out_folder_create(qn_out_folder **out, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_out_folder *f = qn_calloc(1, sizeof *f);
    char *part = qn_strdup(path);
    *out = NULL;
    if (f != NULL) {
        f->lock_fd = -1;
    }
    if (f == NULL || part == NULL) {
        QN_FAIL_MEMORY(err, path, sizeof *f);
    }
    f->path = qn_strdup(path);
    if (f->path == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path) + 1);
    }
    for (char *p = part; *p != '\0'; p++) {
        if (*p == '/' && p != part && p[-1] != '/') {
            *p = '\0';
            QN_TRY(make_one(f, part, err));
            *p = '/';
        }
    }
    if (part[0] != '\0' && part[strlen(part) - 1] != '/') {
        QN_TRY(make_one(f, part, err));
    }
    if (!qn_path_is_directory(path)) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: exists and is not a folder", path);
    }
    *out = f;
    f = NULL;
done:
    qn_free(part);
    qn_out_folder_close(f, false);
    return status;
}

void qn_out_folder_close(qn_out_folder *f, bool keep)
{
    if (f == NULL) {
        return;
    }
    for (size_t i = f->n_made; i-- > 0;) {
        if (!keep) {
            (void)rmdir(f->made[i]);
        }
        if (f->slots[i] < FOLDERS_MAX) {
            atomic_store(&new_folders[f->slots[i]], NULL);
        }
        qn_free(f->made[i]);
    }
    if (f->lock_fd >= 0) {
        close(f->lock_fd);
    }
    qn_free(f->path);
    qn_free(f);
}

quern_status qn_out_folder_lock(qn_out_folder *f, quern_error *err)
{
    f->lock_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->lock_fd >= 0 && flock(f->lock_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        return qn_error_set(err, QUERN_ERROR_IO, "%s: another run is writing into this folder", f->path);
    }
    return QUERN_OK;
}
