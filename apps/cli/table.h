/* table.h - aligned columns for people. Widths are counted in terminal columns, so UTF-8 names line up.
 *
 * Cells are copied, control characters made visible. Errors stick; printing a failed table prints what there is.
 */
#ifndef QN_CLI_TABLE_H
#define QN_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "term.h"

typedef struct qn_table_column {
    const char *title; /* NULL in every column: a table without a head */
    bool right;        /* numbers */
    size_t max_width;  /* longer cells end in an ellipsis on a terminal; 0 = no limit */
    qn_style style;    /* of the cells */
} qn_table_column;

typedef struct qn_table qn_table;

/* n_columns 1..16; columns are borrowed until the table is gone. NULL when out of memory. */
qn_table *qn_table_create(const qn_table_column *columns, size_t n_columns);
void qn_table_destroy(qn_table *t); /* NULL is fine */
/* Appends the next cell, row by row from left to right. */
void qn_table_cell(qn_table *t, const char *format, ...) QN_PRINTF(2, 3);
void qn_table_cell_text(qn_table *t, const char *text, size_t len);
/* Gives the last cell its own style. */
void qn_table_mark(qn_table *t, qn_style style);
size_t qn_table_n_rows(const qn_table *t);
/* Lines with `indent` spaces before them; no line ends in spaces. */
void qn_table_write(const qn_table *t, const qn_term *term, size_t indent, qn_buf *out);
void qn_table_print(const qn_table *t, const qn_term *term, size_t indent);

#endif
