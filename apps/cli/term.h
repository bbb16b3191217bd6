/* term.h - one output stream: is it a terminal, may it have colours, how wide is it; and text made safe for it.
 *
 * Invariant: no colour and no control byte of a file's content reaches a terminal unasked; a pipe gets bytes as they are.
 */
#ifndef QN_CLI_TERM_H
#define QN_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/buf.h"

typedef struct qn_term {
    FILE *file;
    bool is_terminal;
    bool color; /* a terminal, NO_COLOR unset or empty, TERM not "dumb" */
    bool utf8;  /* the locale's character set, from LC_ALL, LC_CTYPE, LANG */
} qn_term;

typedef enum qn_style { QN_STYLE_NONE, QN_STYLE_BOLD, QN_STYLE_DIM, QN_STYLE_ACCENT, QN_STYLE_GOOD, QN_STYLE_WARN, QN_STYLE_BAD } qn_style;

void qn_term_init(qn_term *t, FILE *file);
/* The escape sequence that begins a style (NONE ends it), "" without colours. */
const char *qn_term_style(const qn_term *t, qn_style style);
/* Columns of the window now; 80 when unknown. */
size_t qn_term_columns(const qn_term *t);

/* Columns that text takes: 0 for combining marks, 2 for wide characters, 1 for an invalid byte. */
size_t qn_text_width(const char *text, size_t len);
/* Bytes of the longest prefix at most `columns` wide. */
size_t qn_text_fit(const char *text, size_t len, size_t columns);
/* Appends text with control characters made visible (\n, \t, \x1b, ...), for one line of a table. */
void qn_text_append_visible(qn_buf *out, const char *text, size_t len);
/* Writes text of a model: as it is into a pipe; on a terminal control bytes other than \n and \t become a visible sign. */
void qn_term_write(const qn_term *t, const char *text, size_t len);

#endif
