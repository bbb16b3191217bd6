/* output.c - what goes to stdout and stderr: the JSON document, notes, warnings, and numbers for people. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
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

double qn_number_of(const qn_json *object, const char *key)
{
    double v;
    return qn_json_number(qn_json_get(object, key), &v) ? v : NAN;
}

const char *qn_text_of(const qn_json *object, const char *key, const char *otherwise)
{
    const char *s = qn_json_string(qn_json_get(object, key), NULL);
    return s != NULL ? s : otherwise;
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
