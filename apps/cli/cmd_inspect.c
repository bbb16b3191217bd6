/* cmd_inspect.c - quern inspect: the library's JSON document as tables.
 *
 * Knows the document's form only (members, sections, lists of objects), so that what the library learns to say is shown at once. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "demo_model.h"
#include "model_ref.h"
#include "quern/inspect.h"
#include "manifest_report.h"
#include "table.h"

enum { COLUMNS_MAX = 12, TEXT_COLUMNS_MAX = 100, LIST_SHOWN = 8 };

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

static bool is_number(const qn_json *v)
{
    qn_json_kind k = qn_json_get_kind(v);
    return k == QN_JSON_INT || k == QN_JSON_REAL;
}

/* One line of a text that may have many: its first line, and how long it is. */
static void append_text(qn_buf *out, const char *s, size_t len)
{
    size_t line = 0;
    while (line < len && s[line] != '\n') {
        line++;
    }
    size_t shown = qn_text_fit(s, line, TEXT_COLUMNS_MAX);
    (void)qn_buf_append(out, s, shown);
    if (shown < len) {
        (void)qn_buf_printf(out, " ... (%zu bytes)", len);
    }
}

static void append_number(qn_buf *out, const char *key, const qn_json *v, bool in_table)
{
    int64_t n;
    double x = 0;
    qn_number a, b;
    if (qn_json_int(v, &n) && n >= 0 && ends_with(key, "bytes")) {
        (void)qn_buf_append_str(out, qn_format_bytes(a, (uint64_t)n));
        if (!in_table && n >= 1024) {
            (void)qn_buf_printf(out, " (%s bytes)", qn_format_grouped(b, (uint64_t)n));
        }
    } else if (qn_json_int(v, &n)) {
        bool is_id = ends_with(key, "_id") || ends_with(key, "version") || strcmp(key, "id") == 0 ||
                     n < 10000; /* ids are names, not amounts */
        if (is_id) {
            (void)qn_buf_printf(out, "%" PRId64, n);
        } else {
            (void)qn_buf_append_str(out, qn_format_grouped(a, (uint64_t)n));
        }
    } else {
        (void)qn_json_number(v, &x);
        bool is_whole = x >= 1e4 && x < 1e15 && x == floor(x);
        (void)qn_buf_printf(out, is_whole ? "%.0f" : "%.6g", x);
    }
}

static void append_value(qn_buf *out, const char *key, const qn_json *v, bool in_table);

static void append_list(qn_buf *out, const char *key, const qn_json *v)
{
    size_t n = qn_json_length(v);
    bool is_shape = strcmp(key, "shape") == 0;
    for (size_t i = 0; i < n && i < LIST_SHOWN; i++) {
        qn_buf item;
        qn_buf_init(&item, 1u << 16);
        append_value(&item, is_shape ? "id" : key, qn_json_at(v, i), true);
        (void)qn_buf_printf(out, "%s%s", i == 0 ? "" : is_shape ? " x " : ", ", qn_buf_text(&item));
        qn_buf_deinit(&item);
    }
    if (n > LIST_SHOWN) {
        (void)qn_buf_printf(out, ", ... (%zu in all)", n);
    } else if (n == 0) {
        (void)qn_buf_append_str(out, is_shape ? "scalar" : "none");
    }
}

static void append_value(qn_buf *out, const char *key, const qn_json *v, bool in_table)
{
    size_t len = 0;
    const char *s;
    switch (qn_json_get_kind(v)) {
    case QN_JSON_NULL: (void)qn_buf_append_char(out, '-'); break;
    case QN_JSON_BOOL: (void)qn_buf_append_str(out, qn_json_bool(v, false) ? "yes" : "no"); break;
    case QN_JSON_INT:
    case QN_JSON_REAL: append_number(out, key, v, in_table); break;
    case QN_JSON_STRING:
        s = qn_json_string(v, &len);
        append_text(out, s, len);
        break;
    case QN_JSON_ARRAY: append_list(out, key, v); break;
    case QN_JSON_OBJECT: (void)qn_json_write(v, 0, out); break;
    }
}

/* ---- the document's members: scalars are rows, objects are sections, lists of objects are tables ---- */

static bool is_list_of_objects(const qn_json *v)
{
    return qn_json_get_kind(v) == QN_JSON_ARRAY && qn_json_length(v) > 0 && qn_json_get_kind(qn_json_at(v, 0)) == QN_JSON_OBJECT;
}

/* {"Q4_K":{"n":1,...},"F32":{"n":2,...}}: as good as a list. */
static bool is_object_of_objects(const qn_json *v)
{
    if (qn_json_get_kind(v) != QN_JSON_OBJECT || qn_json_length(v) == 0) {
        return false;
    }
    const qn_json *first = NULL;
    for (qn_json_iterator *it = qn_json_iter(v); it != NULL; it = qn_json_next(v, it)) {
        const qn_json *row = qn_json_iter_value(it);
        first = first == NULL ? row : first;
        if (qn_json_get_kind(row) != QN_JSON_OBJECT || qn_json_length(row) != qn_json_length(first) || qn_json_length(row) == 0) {
            return false;
        }
        for (qn_json_iterator *k = qn_json_iter(first); k != NULL; k = qn_json_next(first, k)) {
            const qn_json *cell = qn_json_get(row, qn_json_iter_key(k, NULL));
            if (cell == NULL || qn_json_get_kind(cell) == QN_JSON_OBJECT) {
                return false;
            }
        }
    }
    return true;
}

/* A long array of metadata, {"type","n","first"}: one row says it. */
static bool append_shortened_array(qn_buf *out, const qn_json *v)
{
    const char *type = qn_json_string(qn_json_get(v, "type"), NULL);
    int64_t n;
    const qn_json *first = qn_json_get(v, "first");
    if (qn_json_length(v) != 3 || type == NULL || !qn_json_int(qn_json_get(v, "n"), &n) || qn_json_get_kind(first) != QN_JSON_ARRAY) {
        return false;
    }
    qn_number count;
    (void)qn_buf_printf(out, "%s %s: ", qn_format_grouped(count, n < 0 ? 0 : (uint64_t)n), type);
    append_list(out, "", first);
    (void)qn_buf_append_str(out, ", ...");
    return true;
}

/* A member's name as words; a model's own metadata keys stay as they are. */
static void append_label(qn_buf *out, const char *key, bool is_metadata)
{
    for (; *key != 0; key++) {
        (void)qn_buf_append_char(out, *key == '_' && !is_metadata ? ' ' : *key);
    }
}

typedef enum section_kind { DOCUMENT, SECTION, METADATA } section_kind;

/* Rows of name and value; objects inside a section give dotted names. Tables are left to print_section. */
static void add_members(qn_table *t, const char *prefix, const qn_json *object, section_kind kind)
{
    for (qn_json_iterator *it = qn_json_iter(object); it != NULL; it = qn_json_next(object, it)) {
        const char *key = qn_json_iter_key(it, NULL);
        const qn_json *v = qn_json_iter_value(it);
        bool is_object = qn_json_get_kind(v) == QN_JSON_OBJECT;
        if (strcmp(key, "schema") == 0 || is_list_of_objects(v) || (is_object && kind == DOCUMENT)) {
            continue;
        }
        qn_buf label, value;
        qn_buf_init(&label, 1u << 16);
        qn_buf_init(&value, 1u << 24);
        (void)qn_buf_append_str(&label, prefix);
        append_label(&label, key, kind == METADATA);
        if (is_object && !append_shortened_array(&value, v)) {
            (void)qn_buf_append_char(&label, '.');
            add_members(t, qn_buf_text(&label), v, kind);
        } else {
            if (!is_object) {
                append_value(&value, key, v, false);
            }
            qn_table_cell_text(t, qn_buf_text(&label), label.len);
            qn_table_cell_text(t, qn_buf_text(&value), value.len);
        }
        qn_buf_deinit(&label);
        qn_buf_deinit(&value);
    }
}

static void print_members(qn_cli *cli, const qn_json *object, section_kind kind)
{
    static const qn_table_column columns[] = {{NULL, false, 48, QN_STYLE_DIM}, {NULL, false, TEXT_COLUMNS_MAX, QN_STYLE_NONE}};
    qn_table *t = qn_table_create(columns, 2);
    add_members(t, "", object, kind);
    qn_table_print(t, &cli->out, 2);
    qn_table_destroy(t);
}

static void add_cell(qn_table *t, const char *key, const qn_json *v)
{
    qn_buf value;
    qn_buf_init(&value, 1u << 20);
    append_value(&value, key, v, true);
    qn_table_cell_text(t, qn_buf_text(&value), value.len);
    qn_buf_deinit(&value);
}

/* The columns that the members of a row make, from column `n` on; returns their number in all. */
static size_t add_columns(const qn_json *row, qn_table_column *columns, size_t n)
{
    for (qn_json_iterator *it = qn_json_iter(row); it != NULL && n < COLUMNS_MAX; it = qn_json_next(row, it)) {
        columns[n++] = (qn_table_column){qn_json_iter_key(it, NULL), is_number(qn_json_iter_value(it)), 64, QN_STYLE_NONE};
    }
    return n;
}

static void print_list(qn_cli *cli, const qn_json *list)
{
    qn_table_column columns[COLUMNS_MAX];
    size_t n = add_columns(qn_json_at(list, 0), columns, 0);
    qn_table *t = qn_table_create(columns, n);
    for (size_t i = 0; i < qn_json_length(list); i++) {
        for (size_t k = 0; k < n; k++) {
            add_cell(t, columns[k].title, qn_json_get(qn_json_at(list, i), columns[k].title));
        }
    }
    qn_table_print(t, &cli->out, 2);
    qn_table_destroy(t);
}

static void print_rows(qn_cli *cli, const qn_json *rows)
{
    qn_table_column columns[COLUMNS_MAX] = {{"", false, 0, QN_STYLE_NONE}};
    size_t n = add_columns(qn_json_iter_value(qn_json_iter(rows)), columns, 1);
    qn_table *t = qn_table_create(columns, n);
    for (qn_json_iterator *it = qn_json_iter(rows); it != NULL; it = qn_json_next(rows, it)) {
        qn_table_cell(t, "%s", qn_json_iter_key(it, NULL));
        for (size_t k = 1; k < n; k++) {
            add_cell(t, columns[k].title, qn_json_get(qn_json_iter_value(it), columns[k].title));
        }
    }
    qn_table_print(t, &cli->out, 2);
    qn_table_destroy(t);
}

static void print_section(qn_cli *cli, const char *title, const qn_json *v)
{
    const char *bold = qn_term_style(&cli->out, QN_STYLE_BOLD), *end = qn_term_style(&cli->out, QN_STYLE_NONE);
    if (is_list_of_objects(v)) {
        (void)printf("\n%s%s%s  %zu\n", bold, title, end, qn_json_length(v));
        print_list(cli, v);
        return;
    }
    if (qn_json_get_kind(v) != QN_JSON_OBJECT || qn_json_length(v) == 0) {
        return;
    }
    (void)printf("\n%s%s%s\n", bold, title, end);
    if (is_object_of_objects(v)) {
        print_rows(cli, v);
        return;
    }
    print_members(cli, v, strcmp(title, "metadata") == 0 ? METADATA : SECTION);
    for (qn_json_iterator *it = qn_json_iter(v); it != NULL; it = qn_json_next(v, it)) {
        if (is_list_of_objects(qn_json_iter_value(it))) {
            print_section(cli, qn_json_iter_key(it, NULL), qn_json_iter_value(it));
        }
    }
}

static void print_document(qn_cli *cli, const qn_json *doc)
{
    print_members(cli, doc, DOCUMENT);
    for (qn_json_iterator *it = qn_json_iter(doc); it != NULL; it = qn_json_next(doc, it)) {
        print_section(cli, qn_json_iter_key(it, NULL), qn_json_iter_value(it));
    }
    const qn_json *check = qn_json_get(doc, "check");
    if (check != NULL && !qn_json_bool(qn_json_get(check, "ok"), true)) {
        qn_cli_warn(cli, "there are weights that are no numbers (NaN or infinite): the model cannot work");
    }
}

quern_status qn_cmd_inspect(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    char *path = NULL, *text = NULL;
    const char *report = qn_opts_text(o, QN_OPT_OUTPUT, NULL);
    size_t len = 0;
    qn_json *doc = NULL;
    quern_inspect_options options = {.tensors = qn_opts_flag(o, QN_OPT_TENSORS),
                                     .metadata = qn_opts_flag(o, QN_OPT_METADATA),
                                     .check_values = qn_opts_flag(o, QN_OPT_CHECK)};
    QN_TRY(qn_model_ref_take(cli, NULL, &path, err));
    if (o->n_positional > 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "one file at a time: '%s'", o->positional[0]);
    }
    if (strcmp(path, QN_DEMO_NAME) == 0) {
        size_t n_bytes;
        const void *demo = qn_demo_model_find(&n_bytes);
        if (demo == NULL) {
            QN_FAIL(err, QUERN_ERROR_UNAVAILABLE, "demo: this program was built without the built-in model (./demo is a path)");
        }
        QN_TRY(quern_inspect_memory(demo, n_bytes, path, &options, &text, &len, err));
    } else {
        QN_TRY(quern_inspect(path, &options, &text, &len, err));
    }
    QN_TRY(qn_json_parse(&doc, text, len, 0, path, err));
    if (report != NULL) {
        const char *kind = qn_json_string(qn_json_get(doc, "kind"), NULL);
        if (kind == NULL || strcmp(kind, "manifest") != 0) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "-o: a report is made of a manifest.json; %s is none", path);
        }
        QN_TRY(qn_report_write(cli, path, report, err));
    }
    if (cli->json) {
        QN_TRY(qn_cli_write_json_text(cli, text, len, err));
    } else {
        print_document(cli, doc);
    }
done:
    qn_json_free(doc);
    quern_free(text);
    qn_free(path);
    return status;
}
