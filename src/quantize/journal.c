/* journal.c - see journal.h. */
#define _FILE_OFFSET_BITS 64
#include "quantize/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "quern/quern.h"

enum { JOURNAL_BYTES_MAX = 1 << 30, IDENTITY_BYTES_MAX = 1 << 30, HEAD_BYTES = 64 << 10 };

/* ---- identity ---- */

/* A file's size and time, and its beginning: a header with names, types and offsets. */
static quern_status put_file(qn_buf *out, const qn_hashed_file *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    struct stat st;
    int fd = -1;
    uint64_t size;
    char hex[65];
    char *head = qn_malloc(HEAD_BYTES);
    if (head == NULL) {
        QN_FAIL_MEMORY(err, f->path, HEAD_BYTES);
    }
    QN_TRY(qn_file_open(&fd, &size, f->path, err));
    if (fstat(fd, &st) != 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: %s", f->path, strerror(errno));
    }
    size_t n = size < HEAD_BYTES ? (size_t)size : HEAD_BYTES;
    QN_TRY(qn_file_read_at(fd, f->path, 0, head, n, err));
    QN_TRY(qn_sha256_bytes(head, n, hex, err));
    (void)qn_buf_printf(out, "file %s %s %" PRIu64 " %lld.%09ld %s\n", f->path, f->relative, size, (long long)st.st_mtim.tv_sec,
                        st.st_mtim.tv_nsec, hex);
done:
    if (fd >= 0) {
        close(fd);
    }
    qn_free(head);
    return status;
}

static void put_output(qn_buf *out, const qn_job *job, const qn_output *o)
{
    (void)qn_buf_printf(out, "output %s %s\n", o->relative, o->type);
    for (size_t i = 0; i < o->n_files; i++) {
        (void)qn_buf_printf(out, "%s %" PRIu64 "\n", o->files[i].relative, i < o->n_weight_files ? o->files[i].bytes : 0);
    }
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        const qn_sink *s = &o->sinks[i];
        (void)qn_buf_printf(out, "%s %d %d %" PRIu32 " %" PRIu32 " %" PRIu32 " %zu %zu\n", s->name, (int)s->coding, (int)s->dtype,
                            s->affine.bits, s->affine.group, s->permute_dim, s->file, s->row_bytes[0]);
    }
}

/* With the source's files and the version, this decides importance and factors to the bit. */
static void put_calibration(qn_buf *out, const qn_job *job)
{
    const qn_calibration *c = &job->calibration;
    if (c->pieces == NULL) {
        (void)qn_buf_append_str(out, "not calibrated\n");
        return;
    }
    (void)qn_buf_printf(out, "calibrated %s %s %" PRIu64 " ", c->origin, c->text_sha256, c->tokens);
    for (size_t i = 0; i < job->source.n_pieces; i++) { /* what has second moments depends on the memory bound */
        (void)qn_buf_append_char(out, (char)('0' + (c->pieces[i].importance != NULL) + (c->pieces[i].factor != NULL)));
    }
    (void)qn_buf_append_char(out, '\n');
}

static quern_status identify(const qn_job *job, const quern_quantize_options *opt, const qn_hash_list *sources, char identity[65],
                             quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf text;
    qn_buf_init(&text, IDENTITY_BYTES_MAX);
    (void)qn_buf_printf(&text, "quern %s\nname %s\nas %s\nformats %s\nshards %" PRIu64 "\ncertificates %d\n", quern_version(), job->name,
                        opt->architecture != NULL ? opt->architecture : "", opt->formats, job->shard_bytes, job->gate != QUERN_GATE_OFF);
    for (size_t i = 0; i < opt->n_tensor_types; i++) {
        (void)qn_buf_printf(&text, "type %s\n", opt->tensor_types[i]);
    }
    for (size_t i = 0; i < sources->n_sources; i++) {
        QN_TRY(put_file(&text, &sources->files[i], err));
    }
    for (size_t i = 0; i < job->n_outputs; i++) {
        put_output(&text, job, &job->outputs[i]);
    }
    put_calibration(&text, job);
    if (text.failed) {
        QN_FAIL_MEMORY(err, "the journal's identity", text.len);
    }
    QN_TRY(qn_sha256_bytes(qn_buf_text(&text), text.len, identity, err));
done:
    qn_buf_deinit(&text);
    return status;
}

quern_status qn_journal_init(qn_journal *j, qn_job *job, const quern_quantize_options *opt, const qn_hash_list *sources,
                             uint64_t interval_ns, quern_error *err)
{
    quern_status status = QUERN_OK;
    *j = (qn_journal){.job = job, .fd = -1, .interval_ns = interval_ns, .noted_ns = qn_clock_ns()};
    j->path = qn_path_join(job->output_dir, QN_JOURNAL_NAME);
    if (j->path == NULL) {
        QN_FAIL_MEMORY(err, QN_JOURNAL_NAME, strlen(job->output_dir));
    }
    QN_TRY(identify(job, opt, sources, j->identity, err));
done:
    return status;
}

typedef quern_status (*file_fn)(qn_out_file *f, quern_error *err);

static quern_status each_weight_file(const qn_job *job, file_fn fn, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t o = 0; o < job->n_outputs; o++) {
        for (size_t i = 0; i < job->outputs[o].n_weight_files; i++) {
            QN_TRY(fn(qn_output_file_get(&job->outputs[o].files[i]), err));
        }
    }
done:
    return status;
}

static quern_status fail_file(qn_out_file *f, quern_error *err)
{
    (void)err;
    qn_out_file_fail(f);
    return QUERN_OK;
}

void qn_journal_wait(qn_journal *j)
{
    if (j->syncing == NULL) {
        return;
    }
    qn_background_join(j->syncing);
    j->syncing = NULL;
    if (j->sync_status != QUERN_OK) { /* a further sync would succeed, with the bytes still missing */
        j->broken = true;
        (void)each_weight_file(j->job, fail_file, NULL);
    }
}

void qn_journal_deinit(qn_journal *j)
{
    qn_journal_wait(j);
    if (j->job != NULL && j->fd >= 0) {
        close(j->fd);
    }
    qn_free(j->path);
    *j = (qn_journal){.fd = -1};
}

void qn_journal_discard(qn_journal *j)
{
    qn_journal_wait(j);
    if (j->path != NULL) {
        (void)unlink(j->path);
    }
    if (j->fd >= 0) {
        close(j->fd);
        j->fd = -1;
    }
    j->n_pieces = 0;
    j->valid_bytes = 0;
    if (j->job != NULL) {
        j->job->n_continued = 0;
        for (size_t o = 0; o < j->job->n_outputs; o++) {
            for (size_t i = 0; i < j->job->source.n_pieces; i++) {
                j->job->outputs[o].sinks[i].error = (qn_tensor_error){0};
            }
        }
    }
}

/* ---- lines ---- */

static uint64_t sum_of(const char *line, size_t n)
{
    qn_checksum c;
    qn_checksum_init(&c);
    qn_checksum_update(&c, line, n);
    return qn_checksum_value(&c);
}

/* Ends the line that begins at `begin`. */
static void end_line(qn_buf *out, size_t begin)
{
    (void)qn_buf_printf(out, " %016" PRIx64 "\n", sum_of(qn_buf_text(out) + begin, out->len - begin));
}

static void put_double(qn_buf *out, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    (void)qn_buf_printf(out, " %016" PRIx64, bits);
}

static void put_piece(qn_buf *out, const qn_job *job, size_t piece)
{
    size_t begin = out->len;
    (void)qn_buf_printf(out, "piece %zu", piece);
    put_double(out, (double)job->greatest[piece]);
    for (size_t o = 0; o < job->n_outputs; o++) {
        const qn_sink *s = &job->outputs[o].sinks[piece];
        put_double(out, s->error.squared_error);
        put_double(out, s->error.squared_source);
        put_double(out, s->error.max_abs_error);
        for (size_t k = 0; k < s->n_streams; k++) {
            (void)qn_buf_printf(out, " %016" PRIx64, qn_checksum_value(&s->written[k]));
        }
    }
    end_line(out, begin);
}

/* A cursor over one line. */
typedef struct reader {
    const char *at, *end;
    bool ok;
} reader;

static uint64_t read_bits(reader *r)
{
    uint64_t v = 0;
    r->ok = r->ok && r->end - r->at >= 17 && r->at[0] == ' ';
    for (int i = 1; r->ok && i <= 16; i++) {
        char c = r->at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        r->ok = digit >= 0;
        v = v << 4 | (uint64_t)(digit & 15);
    }
    r->at += r->ok ? 17 : 0;
    return v;
}

static double read_double(reader *r)
{
    uint64_t bits = read_bits(r);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* The line without its checksum; false if that is wrong. */
static bool check_line(const char *line, size_t n, reader *out)
{
    if (n < 17) {
        return false;
    }
    *out = (reader){.at = line + n - 17, .end = line + n, .ok = true};
    uint64_t sum = read_bits(out);
    bool right = out->ok && sum == sum_of(line, n - 17);
    *out = (reader){.at = line, .end = line + n - 17, .ok = right};
    return right;
}

static bool read_piece(reader *r, qn_job *job, size_t piece)
{
    char begin[32];
    int n = snprintf(begin, sizeof begin, "piece %zu", piece);
    if (r->end - r->at < n || memcmp(r->at, begin, (size_t)n) != 0) {
        return false;
    }
    r->at += n;
    job->greatest[piece] = (float)read_double(r);
    for (size_t o = 0; o < job->n_outputs; o++) {
        qn_sink *s = &job->outputs[o].sinks[piece];
        s->error.squared_error = read_double(r);
        s->error.squared_source = read_double(r);
        s->error.max_abs_error = read_double(r);
        for (size_t k = 0; k < s->n_streams; k++) {
            s->sums[k] = read_bits(r);
        }
    }
    if (!r->ok || r->at != r->end) {
        for (size_t o = 0; o < job->n_outputs; o++) {
            job->outputs[o].sinks[piece].error = (qn_tensor_error){0};
        }
        return false;
    }
    return true;
}

static bool read_head(const reader *r, char identity[65])
{
    static const char begin[] = "quern-journal 1 ";
    size_t n = sizeof begin - 1;
    if ((size_t)(r->end - r->at) != n + 64 || memcmp(r->at, begin, n) != 0) {
        return false;
    }
    memcpy(identity, r->at + n, 64);
    identity[64] = '\0';
    return true;
}

qn_journal_found qn_journal_parse(qn_journal *j, const char *text, size_t len)
{
    qn_job *job = j->job;
    size_t at = 0, line = 0;
    while (at < len && line <= job->source.n_pieces) {
        const char *newline = memchr(text + at, '\n', len - at);
        reader r;
        char identity[65];
        if (newline == NULL || !check_line(text + at, (size_t)(newline - text) - at, &r)) {
            break;
        }
        if (line == 0 && (!read_head(&r, identity) || strcmp(identity, j->identity) != 0)) {
            return QN_JOURNAL_OTHER;
        }
        if (line > 0 && !read_piece(&r, job, line - 1)) {
            break;
        }
        line++;
        at = (size_t)(newline - text) + 1;
    }
    job->n_continued = j->n_pieces = line > 0 ? line - 1 : 0;
    j->valid_bytes = at;
    return job->n_continued > 0 ? QN_JOURNAL_USABLE : QN_JOURNAL_DAMAGED;
}

quern_status qn_journal_read(qn_journal *j, qn_journal_found *found, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    char *text = NULL;
    size_t len = 0;
    *found = QN_JOURNAL_NONE;
    if (!qn_path_exists(j->path)) {
        return QUERN_OK;
    }
    status = qn_file_read(&text, &len, j->path, JOURNAL_BYTES_MAX, &why);
    if (status == QUERN_ERROR_MEMORY) {
        QN_FAIL(err, status, "%s", why.message);
    }
    *found = status == QUERN_OK ? qn_journal_parse(j, text, len) : QN_JOURNAL_DAMAGED;
    status = QUERN_OK;
done:
    qn_free(text);
    return status;
}

/* ---- noting ---- */

static quern_status sync_beside(qn_out_file *f, quern_error *err) { return qn_out_file_sync_beside(f, err); }

static quern_status keep_file(qn_out_file *f, quern_error *err)
{
    (void)err;
    qn_out_file_keep(f, true);
    return QUERN_OK;
}

/* The file, with what was read of it or with its first line. */
static quern_status open_file(qn_journal *j, qn_buf *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (j->fd < 0 || ftruncate(j->fd, (off_t)j->valid_bytes) != 0 || lseek(j->fd, (off_t)j->valid_bytes, SEEK_SET) < 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot write: %s", j->path, strerror(errno));
    }
    if (j->valid_bytes == 0) {
        (void)qn_buf_printf(out, "quern-journal 1 %s", j->identity);
        end_line(out, 0);
    }
done:
    return status;
}

/* The files hold the first n pieces, and the disk has them. */
static quern_status write_lines(qn_journal *j, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf text;
    qn_buf_init(&text, JOURNAL_BYTES_MAX);
    bool first = j->fd < 0;
    if (first) {
        for (size_t o = 0; o < j->job->n_outputs; o++) {
            qn_out_file_sync_folder(j->job->outputs[o].files[0].path); /* the weight files of an output are in one folder */
        }
        QN_TRY(open_file(j, &text, err));
    }
    for (size_t i = j->n_pieces; i < n; i++) {
        put_piece(&text, j->job, i);
    }
    if (text.failed) {
        QN_FAIL_MEMORY(err, j->path, text.len);
    }
    for (size_t at = 0; at < text.len;) {
        ssize_t wrote = write(j->fd, qn_buf_text(&text) + at, text.len - at);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot write: %s", j->path, strerror(errno));
        }
        at += (size_t)wrote;
    }
    if (fsync(j->fd) != 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot sync: %s", j->path, strerror(errno));
    }
    if (first) {
        qn_out_file_sync_folder(j->path);
    }
    j->n_pieces = n;
    QN_TRY(each_weight_file(j->job, keep_file, err));
done:
    j->noted_ns = qn_clock_ns();
    qn_buf_deinit(&text);
    return status;
}

static void sync_files(void *arg)
{
    qn_journal *j = arg;
    j->sync_status = each_weight_file(j->job, sync_beside, &j->sync_err);
}

/* Waits for the thread, then writes what it made true. */
static quern_status end_syncing(qn_journal *j, quern_error *err)
{
    qn_journal_wait(j);
    if (j->broken) {
        return qn_error_set(err, j->sync_status, "%s", j->sync_err.message);
    }
    return write_lines(j, j->n_syncing, err);
}

quern_status qn_journal_note(qn_journal *j, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (j->syncing != NULL) {
        QN_TRY(end_syncing(j, err));
    }
    if (j->broken) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: an earlier sync failed", j->path);
    }
    if (n > j->n_pieces) {
        QN_TRY(each_weight_file(j->job, qn_out_file_sync, err));
        QN_TRY(write_lines(j, n, err));
    }
done:
    return status;
}

quern_status qn_journal_note_if_due(qn_journal *j, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (j->syncing != NULL) {
        return qn_background_finished(j->syncing) ? end_syncing(j, err) : QUERN_OK;
    }
    if (n <= j->n_pieces || qn_clock_ns() - j->noted_ns < j->interval_ns) {
        return QUERN_OK;
    }
    QN_TRY(each_weight_file(j->job, qn_out_file_flush, err));
    j->n_syncing = n;
    if (qn_background_start(&j->syncing, sync_files, j, NULL) != QUERN_OK) {
        QN_TRY(qn_journal_note(j, n, err));
    }
done:
    return status;
}
