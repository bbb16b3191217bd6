/* table.c - two spaces between columns, a dim head, nothing else. */
#include "table.h"

#include <stdarg.h>
#include <string.h>

#include "base/alloc.h"

enum { COLUMNS_MAX = 16 };
#define TABLE_BYTES_MAX ((size_t)1 << 30)

typedef struct cell {
    size_t offset, len; /* in the table's text */
    qn_style style;
    bool marked;
} cell;

struct qn_table {
    const qn_table_column *columns;
    size_t n_columns;
    qn_buf text;
    cell *cells;
    size_t n_cells, cap_cells;
    bool failed;
};

qn_table *qn_table_create(const qn_table_column *columns, size_t n_columns)
{
    qn_table *t = qn_calloc(1, sizeof *t);
    if (t != NULL) {
        t->columns = columns;
        t->n_columns = n_columns < COLUMNS_MAX ? n_columns : COLUMNS_MAX;
        qn_buf_init(&t->text, TABLE_BYTES_MAX);
    }
    return t;
}

void qn_table_destroy(qn_table *t)
{
    if (t != NULL) {
        qn_buf_deinit(&t->text);
        qn_free(t->cells);
        qn_free(t);
    }
}

void qn_table_cell_text(qn_table *t, const char *text, size_t len)
{
    if (t == NULL || t->failed) {
        return;
    }
    if (t->n_cells == t->cap_cells) {
        size_t cap = t->cap_cells == 0 ? 64 : t->cap_cells * 2;
        cell *grown = qn_realloc_array(t->cells, cap, sizeof *grown);
        if (grown == NULL) {
            t->failed = true;
            return;
        }
        t->cells = grown;
        t->cap_cells = cap;
    }
    size_t offset = t->text.len;
    qn_text_append_visible(&t->text, text, len);
    t->failed = t->text.failed;
    t->cells[t->n_cells++] = (cell){.offset = offset, .len = t->text.len - offset};
}

void qn_table_cell(qn_table *t, const char *format, ...)
{
    qn_buf b;
    qn_buf_init(&b, 1u << 20);
    va_list args;
    va_start(args, format);
    (void)qn_buf_vprintf(&b, format, args);
    va_end(args);
    qn_table_cell_text(t, qn_buf_text(&b), b.len);
    qn_buf_deinit(&b);
}

void qn_table_mark(qn_table *t, qn_style style)
{
    if (t != NULL && t->n_cells > 0) {
        t->cells[t->n_cells - 1].style = style;
        t->cells[t->n_cells - 1].marked = true;
    }
}

size_t qn_table_n_rows(const qn_table *t) { return t == NULL ? 0 : t->n_cells / t->n_columns; }

static const char *cell_text(const qn_table *t, const cell *c) { return qn_buf_text(&t->text) + c->offset; }

/* Bytes of the cell that are shown, and whether an ellipsis follows. */
static size_t shown_bytes(const qn_table *t, const qn_term *term, size_t column, const cell *c, bool *cut)
{
    size_t limit = t->columns[column].max_width;
    *cut = term->is_terminal && limit > 1 && qn_text_width(cell_text(t, c), c->len) > limit;
    return *cut ? qn_text_fit(cell_text(t, c), c->len, limit - 1) : c->len;
}

static void write_spaces(qn_buf *out, size_t n)
{
    while (n-- > 0) {
        (void)qn_buf_append_char(out, ' ');
    }
}

/* One cell with its padding; the last column of a row is not padded on the right. */
static void write_cell(qn_buf *out, const qn_term *term, const char *text, size_t len, bool cut, size_t width, bool right, bool last,
                       qn_style style)
{
    size_t used = qn_text_width(text, len) + (cut ? 1 : 0);
    size_t pad = used < width ? width - used : 0;
    if (right) {
        write_spaces(out, pad);
    }
    bool styled = style != QN_STYLE_NONE && len > 0;
    (void)qn_buf_append_str(out, styled ? qn_term_style(term, style) : "");
    (void)qn_buf_append(out, text, len);
    (void)qn_buf_append_str(out, cut ? (term->utf8 ? "\xe2\x80\xa6" : "~") : "");
    (void)qn_buf_append_str(out, styled ? qn_term_style(term, QN_STYLE_NONE) : "");
    if (!right && !last) {
        write_spaces(out, pad);
    }
}

/* Ends a line without the padding of an empty last cell. */
static void end_line(qn_buf *out)
{
    while (out->len > 0 && out->data[out->len - 1] == ' ') {
        out->len--;
    }
    (void)qn_buf_append_char(out, '\n');
}

void qn_table_write(const qn_table *t, const qn_term *term, size_t indent, qn_buf *out)
{
    if (t == NULL) {
        return;
    }
    size_t widths[COLUMNS_MAX] = {0};
    bool cut, has_head = false;
    for (size_t j = 0; j < t->n_columns; j++) {
        const char *title = t->columns[j].title;
        has_head = has_head || title != NULL;
        widths[j] = title != NULL ? qn_text_width(title, strlen(title)) : 0;
    }
    for (size_t i = 0; i < t->n_cells; i++) {
        const cell *c = &t->cells[i];
        size_t n = shown_bytes(t, term, i % t->n_columns, c, &cut);
        size_t width = qn_text_width(cell_text(t, c), n) + (cut ? 1 : 0);
        widths[i % t->n_columns] = width > widths[i % t->n_columns] ? width : widths[i % t->n_columns];
    }
    for (size_t j = 0; has_head && j < t->n_columns; j++) {
        const char *title = t->columns[j].title != NULL ? t->columns[j].title : "";
        bool last = j + 1 == t->n_columns;
        write_spaces(out, j == 0 ? indent : 2);
        write_cell(out, term, title, strlen(title), false, widths[j], t->columns[j].right, last, QN_STYLE_DIM);
        if (last) {
            end_line(out);
        }
    }
    for (size_t i = 0; i < t->n_cells; i++) {
        const cell *c = &t->cells[i];
        size_t j = i % t->n_columns;
        bool last = j + 1 == t->n_columns || i + 1 == t->n_cells;
        size_t n = shown_bytes(t, term, j, c, &cut);
        write_spaces(out, j == 0 ? indent : 2);
        write_cell(out, term, cell_text(t, c), n, cut, widths[j], t->columns[j].right, last, c->marked ? c->style : t->columns[j].style);
        if (last) {
            end_line(out);
        }
    }
}

void qn_table_print(const qn_table *t, const qn_term *term, size_t indent)
{
    qn_buf b;
    qn_buf_init(&b, TABLE_BYTES_MAX);
    qn_table_write(t, term, indent, &b);
    (void)fwrite(qn_buf_text(&b), 1, b.len, term->file);
    qn_buf_deinit(&b);
}
