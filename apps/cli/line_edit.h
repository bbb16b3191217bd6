/* line_edit.h - one line of input from a person (with editing and history, where libedit is in the build) or from a pipe.
 *
 * Invariant: between two reads the terminal is in its normal mode.
 */
#ifndef QN_CLI_LINE_EDIT_H
#define QN_CLI_LINE_EDIT_H

#include <stdbool.h>
#include <stddef.h>

#include "term.h"

typedef struct qn_line_edit qn_line_edit;

typedef enum qn_line_result { QN_LINE_READ, QN_LINE_END, QN_LINE_INTERRUPTED } qn_line_result;

/* Reads stdin; prompts and echo go to `screen`. history_path (NULL = none kept) is read now and written after each remembered
 * line, readable by its owner only. NULL when out of memory. */
qn_line_edit *qn_line_edit_create(const qn_term *screen, const char *history_path);
void qn_line_edit_destroy(qn_line_edit *e); /* NULL is fine */
/* True if lines come from a person at a terminal. */
bool qn_line_edit_is_interactive(const qn_line_edit *e);
/* *line is the text without its newline, valid until the next call. The prompt (not empty) is shown to a person only. Ctrl-C at the prompt
 * gives QN_LINE_INTERRUPTED, the end of input (Ctrl-D) QN_LINE_END. */
qn_line_result qn_line_edit_read(qn_line_edit *e, const char *prompt, const char **line, size_t *len);
void qn_line_edit_remember(qn_line_edit *e, const char *line);
/* "libedit" or "none". */
const char *qn_line_edit_library(void);

#endif
