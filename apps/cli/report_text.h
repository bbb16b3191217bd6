/* report_text.h - what reports share: text for Markdown and HTML, and writing a whole file or nothing. */
#ifndef QN_CLI_REPORT_TEXT_H
#define QN_CLI_REPORT_TEXT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"

/* Appends text that stands for itself in Markdown and in HTML; bytes that are no text become '?'. */
void qn_report_append_escaped(qn_buf *out, const char *s, bool html);
/* Writes the file at once: it is there whole, or as it was before. */
quern_status qn_report_write_file(const char *path, const qn_buf *b, quern_error *err);
bool qn_report_ends_with(const char *path, const char *ending);
/* The picture of a Markdown page: PATH.md's PATH.svg, in `out`. */
quern_status qn_report_picture_path(const char *markdown_path, qn_buf *out, quern_error *err);

#endif
