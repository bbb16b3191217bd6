/* report_text.c - see report_text.h. */
#include "report_text.h"

#include <string.h>

#include "base/out_file.h"

/* Whether UTF-8 text goes on with a sign that turns the direction of what follows: U+202A to U+202E, U+2066 to U+2069. */
static bool turns_direction(const char *s)
{
    const unsigned char *u = (const unsigned char *)s;
    return u[0] == 0xe2 && ((u[1] == 0x80 && u[2] >= 0xaa && u[2] <= 0xae) || (u[1] == 0x81 && u[2] >= 0xa6 && u[2] <= 0xa9));
}

void qn_report_append_escaped(qn_buf *out, const char *s, bool html)
{
    for (; *s != 0; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '<' || c == '>' || c == '&' || c == '"') {
            (void)qn_buf_printf(out, "&#%d;", c);
        } else if (c < ' ' || c == 127) {
            (void)qn_buf_append_char(out, '?');
        } else if (turns_direction(s)) {
            (void)qn_buf_append_char(out, '?');
            s += 2;
        } else {
            if (!html && strchr("|`[]*\\!#", c) != NULL) {
                (void)qn_buf_append_char(out, '\\');
            }
            (void)qn_buf_append_char(out, (char)c);
        }
    }
}

quern_status qn_report_write_file(const char *path, const qn_buf *b, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_out_file *f = NULL;
    if (b->failed) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: the report is too large", path);
    }
    QN_TRY(qn_out_file_create(&f, path, err));
    QN_TRY(qn_out_file_write(f, qn_buf_text(b), b->len, err));
    QN_TRY(qn_out_file_commit(f, err));
done:
    qn_out_file_close(f);
    return status;
}

bool qn_report_ends_with(const char *path, const char *ending)
{
    size_t n = strlen(path), k = strlen(ending);
    return n > k && strcmp(path + n - k, ending) == 0;
}

quern_status qn_report_picture_path(const char *markdown_path, qn_buf *out, quern_error *err)
{
    (void)qn_buf_append(out, markdown_path, strlen(markdown_path) - strlen(".md"));
    (void)qn_buf_append_str(out, ".svg");
    return out->failed ? qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: the name of a picture") : QUERN_OK;
}
