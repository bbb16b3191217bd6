/* output.c - what goes to stdout and stderr: the JSON document, notes, warnings, and numbers for people. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "cli.h"

#define JSON_BYTES_MAX ((size_t)1 << 32)

void qn_cli_hint(qn_cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(cli->hint, sizeof cli->hint, format, args);
    va_end(args);
}

static void print_line(qn_cli *cli, qn_style style, const char *prefix, const char *format, va_list args)
{
    qn_buf b, visible;
    qn_buf_init(&b, 1u << 20);
    qn_buf_init(&visible, 1u << 22);
    (void)qn_buf_vprintf(&b, format, args);
    qn_text_append_visible(&visible, qn_buf_text(&b), b.len);
    (void)fflush(cli->out.file); /* keep the order on a terminal that shows both streams */
    (void)fprintf(cli->err.file, "%s%s%s%s\n", qn_term_style(&cli->err, style), prefix, qn_buf_text(&visible),
                  qn_term_style(&cli->err, QN_STYLE_NONE));
    qn_buf_deinit(&visible);
    qn_buf_deinit(&b);
}

void qn_cli_note(qn_cli *cli, const char *format, ...)
{
    if (cli->quiet) {
        return;
    }
    va_list args;
    va_start(args, format);
    print_line(cli, QN_STYLE_DIM, "", format, args);
    va_end(args);
}

void qn_cli_warn(qn_cli *cli, const char *format, ...)
{
    if (cli->quiet) {
        return;
    }
    va_list args;
    va_start(args, format);
    print_line(cli, QN_STYLE_WARN, "warning: ", format, args);
    va_end(args);
}

quern_status qn_cli_flush(quern_error *err)
{
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        return qn_error_set(err, QUERN_ERROR_IO, "standard output: cannot write%s%s", errno != 0 ? ": " : "",
                            errno != 0 ? strerror(errno) : "");
    }
    return QUERN_OK;
}

quern_status qn_cli_write_json_text(qn_cli *cli, const char *text, size_t len, quern_error *err)
{
    cli->json_written = true;
    (void)fwrite(text, 1, len, stdout);
    if (len == 0 || text[len - 1] != '\n') {
        (void)fputc('\n', stdout);
    }
    return qn_cli_flush(err);
}

quern_status qn_cli_write_json(qn_cli *cli, qn_json *doc, bool ok, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf b;
    qn_buf_init(&b, JSON_BYTES_MAX);
    if (doc == NULL || !ok || !qn_json_write(doc, cli->out.is_terminal ? 2 : 0, &b)) {
        QN_FAIL(err, QUERN_ERROR_MEMORY, "out of memory: the JSON document");
    }
    status = qn_cli_write_json_text(cli, qn_buf_text(&b), b.len, err);
done:
    qn_buf_deinit(&b);
    qn_json_free(doc);
    return status;
}

void qn_put(qn_json *object, const char *key, qn_json *value, bool *ok) { *ok = qn_json_set(object, key, value) && *ok; }

void qn_put_text(qn_json *object, const char *key, const char *text, bool *ok)
{
    qn_put(object, key, text != NULL ? qn_json_new_string(text) : qn_json_new_null(), ok);
}

void qn_put_count(qn_json *object, const char *key, uint64_t n, bool *ok)
{
    qn_put(object, key, qn_json_new_int(n > INT64_MAX ? INT64_MAX : (int64_t)n), ok);
}

void qn_put_measured(qn_json *object, const char *key, double v, bool *ok) { qn_put(object, key, qn_json_new_measured(v), ok); }

void qn_push(qn_json *array, qn_json *value, bool *ok) { *ok = qn_json_append(array, value) && *ok; }

/* ---- numbers for people ---- */

/* Three significant digits where they say something: 9.12, 41.3, 512. */
static void format_three(char *buf, size_t cap, double v, const char *unit)
{
    int decimals = v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
    (void)snprintf(buf, cap, "%.*f%s", decimals, v, unit);
}

const char *qn_format_bytes(qn_number buf, uint64_t bytes)
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB"};
    double v = (double)bytes;
    size_t i = 0;
    for (; v >= 1023.5 && i < 4; i++) {
        v /= 1024;
    }
    if (i == 0) {
        (void)snprintf(buf, sizeof(qn_number), "%" PRIu64 " B", bytes);
    } else {
        format_three(buf, sizeof(qn_number), v, units[i]);
    }
    return buf;
}

const char *qn_format_count(qn_number buf, uint64_t n)
{
    static const char *const units[] = {"", " k", " M", " B", " T"};
    double v = (double)n;
    size_t i = 0;
    for (; v >= 999.5 && i < 4; i++) {
        v /= 1000;
    }
    if (i == 0) {
        (void)snprintf(buf, sizeof(qn_number), "%" PRIu64, n);
    } else {
        format_three(buf, sizeof(qn_number), v, units[i]);
    }
    return buf;
}

const char *qn_format_grouped(qn_number buf, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n);
    size_t at = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            buf[at++] = ',';
        }
        buf[at++] = digits[i];
    }
    buf[at] = '\0';
    return buf;
}

const char *qn_format_seconds(qn_number buf, double seconds)
{
    if (seconds < 0.9995e-3) {
        format_three(buf, sizeof(qn_number), seconds * 1e6, " us");
    } else if (seconds < 0.9995) {
        format_three(buf, sizeof(qn_number), seconds * 1e3, " ms");
    } else if (seconds < 99.95) {
        format_three(buf, sizeof(qn_number), seconds, " s");
    } else {
        uint64_t s = (uint64_t)(seconds + 0.5);
        (void)snprintf(buf, sizeof(qn_number), "%" PRIu64 ":%02u min", s / 60, (unsigned)(s % 60));
    }
    return buf;
}

const char *qn_format_rate(qn_number buf, double per_second)
{
    if (per_second >= 999.5) {
        return qn_format_grouped(buf, (uint64_t)(per_second + 0.5));
    }
    format_three(buf, sizeof(qn_number), per_second, "");
    return buf;
}
