/* manifest_report.c - a manifest's outputs as Markdown, HTML or a picture. See manifest_report.h.
 *
 * The manifest is untrusted: every text is escaped for where it goes, every member may be missing. */
#include "manifest_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "output_error.h"
#include "plot.h"
#include "report_text.h"

enum { MANIFEST_BYTES_MAX = 1 << 30, PAGE_BYTES_MAX = 64 << 20, CELL_BYTES = 96, N_COLUMNS = 11 };

/* One output; NAN where the manifest has no figure. */
typedef struct row {
    const char *format, *type, *verdict;
    double bytes, bits_per_weight, error;
    double ppl_ratio, ppl_ratio_error, kld_mean, kld_p99, top1;
    double syntax, syntax_source;
} row;

typedef struct report {
    qn_json *manifest;
    row *rows;
    size_t n_rows;
} report;

static quern_status read_rows(report *r, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_json *outputs = qn_json_get(r->manifest, "outputs");
    size_t n = qn_json_length(outputs);
    if (strcmp(qn_text_of(r->manifest, "schema", ""), "quern.manifest/1") != 0 || n == 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: expected a manifest (schema quern.manifest/1) with outputs", path);
    }
    r->rows = qn_calloc(n, sizeof *r->rows);
    if (r->rows == NULL) {
        QN_FAIL_MEMORY(err, "the report's rows", n * sizeof *r->rows);
    }
    for (size_t i = 0; i < n; i++) {
        const qn_json *o = qn_json_at(outputs, i), *q = qn_json_get(o, "quality");
        r->rows[r->n_rows++] = (row){.format = qn_text_of(o, "format", ""),
                                     .type = qn_text_of(o, "type", ""),
                                     .verdict = qn_text_of(qn_json_get(o, "gate"), "verdict", ""),
                                     .bytes = qn_number_of(o, "bytes"),
                                     .bits_per_weight = qn_number_of(o, "bits_per_weight"),
                                     .error = qn_output_error(qn_json_get(o, "tensors")),
                                     .ppl_ratio = qn_number_of(q, "ppl_ratio"),
                                     .ppl_ratio_error = qn_number_of(q, "ppl_ratio_error"),
                                     .kld_mean = qn_number_of(q, "kld_mean"),
                                     .kld_p99 = qn_number_of(q, "kld_p99"),
                                     .top1 = qn_number_of(q, "top1_agreement"),
                                     .syntax = qn_number_of(q, "syntax_valid"),
                                     .syntax_source = qn_number_of(q, "syntax_valid_source")};
    }
done:
    return status;
}

/* ---- the picture ---- */

/* Whether a picture can hold the point: a manifest may say anything. */
static bool is_drawable(double bits_per_weight, double y) { return bits_per_weight >= 0 && bits_per_weight <= 64 && y > 1e-12 && y < 1e6; }

/* Appends nothing if there is no point to draw. */
static quern_status draw(const report *r, qn_buf *svg, quern_error *err)
{
    static const char *const formats[] = {"gguf", "mlx"}, *const names[] = {"GGUF", "MLX"};
    quern_status status = QUERN_OK;
    qn_plot_point *points = qn_malloc_array(4 * r->n_rows, sizeof *points);
    qn_plot_series series[2][2];
    qn_plot_panel panels[2];
    size_t n_panels = 0, at = 0;
    if (points == NULL) {
        QN_FAIL_MEMORY(err, "the picture's points", 4 * r->n_rows * sizeof *points);
    }
    for (int kld = 1; kld >= 0; kld--) {
        size_t first = at;
        for (int f = 0; f < 2; f++) {
            qn_plot_series *s = &series[kld][f];
            *s = (qn_plot_series){.name = names[f], .points = points + at};
            for (size_t i = 0; i < r->n_rows; i++) {
                double y = kld ? r->rows[i].kld_mean : r->rows[i].error;
                if (strcmp(r->rows[i].format, formats[f]) == 0 && is_drawable(r->rows[i].bits_per_weight, y)) {
                    points[at++] = (qn_plot_point){r->rows[i].bits_per_weight, y, r->rows[i].type};
                    s->n++;
                }
            }
        }
        if (at > first) {
            panels[n_panels++] =
                kld ? (qn_plot_panel){"Divergence from the source", "bits per weight", "KLD, mean, nats", true, false, series[1], 2}
                    : (qn_plot_panel){"Error of the weights", "bits per weight", "relative RMS error", true, false, series[0], 2};
        }
    }
    if (n_panels > 0) {
        QN_TRY(qn_plot_svg(panels, n_panels, svg, err));
    }
done:
    qn_free(points);
    return status;
}

/* ---- the table ---- */

static const char *const titles[N_COLUMNS] = {"format",   "type",    "size",     "bits/weight", "error",  "perplexity ratio",
                                              "KLD mean", "KLD p99", "same top", "syntax",      "verdict"};

static void print_cell(char out[CELL_BYTES], const char *format, double v, double scale)
{
    (void)(isfinite(v) ? snprintf(out, CELL_BYTES, format, v * scale) : snprintf(out, CELL_BYTES, "-"));
}

static void make_cells(const row *r, char cells[N_COLUMNS][CELL_BYTES])
{
    qn_number size;
    (void)snprintf(cells[0], CELL_BYTES, "%s", r->format);
    (void)snprintf(cells[1], CELL_BYTES, "%s", r->type);
    (void)snprintf(cells[2], CELL_BYTES, "%s", r->bytes >= 0 && r->bytes < 1e18 ? qn_format_bytes(size, (uint64_t)r->bytes) : "-");
    print_cell(cells[3], "%.2f", r->bits_per_weight, 1);
    print_cell(cells[4], "%.2f %%", r->error, 100);
    print_cell(cells[5], "%.4f", r->ppl_ratio, 1);
    if (isfinite(r->ppl_ratio) && isfinite(r->ppl_ratio_error)) {
        (void)snprintf(cells[5], CELL_BYTES, "%.4f ± %.4f", r->ppl_ratio, r->ppl_ratio_error);
    }
    print_cell(cells[6], "%.6f", r->kld_mean, 1);
    print_cell(cells[7], "%.5f", r->kld_p99, 1);
    print_cell(cells[8], "%.2f %%", r->top1, 100);
    print_cell(cells[9], "%.0f %%", r->syntax, 100);
    if (isfinite(r->syntax) && isfinite(r->syntax_source)) {
        (void)snprintf(cells[9], CELL_BYTES, "%.0f %% of %.0f %%", 100 * r->syntax, 100 * r->syntax_source);
    }
    (void)snprintf(cells[10], CELL_BYTES, "%s", r->verdict[0] != 0 ? r->verdict : "-");
}

static void append_heading(qn_buf *out, const report *r, bool html)
{
    const qn_json *source = qn_json_get(r->manifest, "source");
    qn_number n;
    double parameters = qn_number_of(source, "parameters");
    (void)qn_buf_append_str(out, html ? "<h1>" : "# ");
    qn_report_append_escaped(out, qn_text_of(source, "name", ""), html);
    (void)qn_buf_append_str(out, html ? "</h1>\n<p>" : "\n\n");
    qn_report_append_escaped(out, qn_text_of(source, "architecture", ""), html);
    if (parameters >= 0 && parameters < 1e18) {
        (void)qn_buf_printf(out, ", %s parameters", qn_format_grouped(n, (uint64_t)parameters));
    }
    (void)qn_buf_append_str(out, "; made ");
    qn_report_append_escaped(out, qn_text_of(r->manifest, "created", ""), html);
    (void)qn_buf_append_str(out, " by quern ");
    qn_report_append_escaped(out, qn_text_of(r->manifest, "quern_version", ""), html);
    (void)qn_buf_append_str(out, html ? "</p>\n" : "\n\n");
}

static void append_table(qn_buf *out, const report *r, bool html)
{
    char cells[N_COLUMNS][CELL_BYTES];
    (void)qn_buf_append_str(out, html ? "<table>\n<tr>" : "|");
    for (size_t k = 0; k < N_COLUMNS; k++) {
        (void)qn_buf_printf(out, html ? "<th>%s</th>" : " %s |", titles[k]);
    }
    (void)qn_buf_append_str(out, html ? "</tr>\n" : "\n|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n");
    for (size_t i = 0; i < r->n_rows; i++) {
        make_cells(&r->rows[i], cells);
        (void)qn_buf_append_str(out, html ? "<tr>" : "|");
        for (size_t k = 0; k < N_COLUMNS; k++) {
            (void)qn_buf_append_str(out, html ? "<td>" : " ");
            qn_report_append_escaped(out, cells[k], html);
            (void)qn_buf_append_str(out, html ? "</td>" : " |");
        }
        (void)qn_buf_append_str(out, html ? "</tr>\n" : "\n");
    }
    (void)qn_buf_append_str(out, html ? "</table>\n" : "\n");
}

static void append_page(qn_buf *out, const report *r, const qn_buf *svg, const char *svg_name, bool html)
{
    static const char style[] =
        "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1a1a1a}"
        "table{border-collapse:collapse}th,td{padding:.3rem .7rem;border-bottom:1px solid #ddd;text-align:right}"
        "th:nth-child(-n+2),td:nth-child(-n+2),th:last-child,td:last-child{text-align:left}svg{max-width:100%;height:auto}";
    if (html) {
        (void)qn_buf_printf(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Quern: quantization report</title><style>%s"
            "</style></head><body>\n",
            style);
    }
    append_heading(out, r, html);
    append_table(out, r, html);
    static const char note[] =
        "Figures compare dequantized weights with float32 activations to the source, on the same text, side by side; error is "
        "the root mean square of the matrices' relative errors.";
    (void)qn_buf_printf(out, html ? "<p>%s</p>\n" : "%s\n", note);
    if (svg->len > 0 && html) {
        const char *picture = strstr(qn_buf_text(svg), "<svg"); /* without the XML declaration, which HTML does not have */
        (void)qn_buf_append_str(out, picture != NULL ? picture : "");
    } else if (svg->len > 0) {
        (void)qn_buf_append_str(out, "\n![KLD and error against bits per weight](");
        qn_report_append_escaped(out, svg_name, true);
        (void)qn_buf_append_str(out, ")\n");
    }
    (void)qn_buf_append_str(out, html ? "</body></html>\n" : "");
}

/* ---- files ---- */

quern_status qn_report_write(qn_cli *cli, const char *manifest, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool html = qn_report_ends_with(path, ".html"), markdown = qn_report_ends_with(path, ".md"),
         picture = qn_report_ends_with(path, ".svg");
    report r = {0};
    char *json = NULL;
    size_t len = 0;
    qn_buf svg, page, svg_path;
    qn_buf_init(&svg, PAGE_BYTES_MAX);
    qn_buf_init(&page, 2 * (size_t)PAGE_BYTES_MAX);
    qn_buf_init(&svg_path, strlen(path) + 2);
    if (!html && !markdown && !picture) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "-o %s: a report's name ends in .md, .html or .svg", path);
    }
    QN_TRY(qn_file_read(&json, &len, manifest, MANIFEST_BYTES_MAX, err));
    QN_TRY(qn_json_parse(&r.manifest, json, len, QN_JSON_REJECT_DUPLICATES, manifest, err));
    QN_TRY(read_rows(&r, manifest, err));
    status = draw(&r, &svg, err);
    if (status != QUERN_OK && status != QUERN_ERROR_MEMORY && !picture) {
        qn_cli_warn(cli, "no picture: %s", err->message);
        qn_buf_reset(&svg);
        status = QUERN_OK;
    }
    QN_TRY(status);
    if (picture && svg.len == 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: no output has figures to draw", manifest);
    }
    if (picture) {
        QN_TRY(qn_report_write_file(path, &svg, err));
        goto done;
    }
    if (markdown && svg.len > 0) {
        QN_TRY(qn_report_picture_path(path, &svg_path, err));
        QN_TRY(qn_report_write_file(qn_buf_text(&svg_path), &svg, err));
    }
    append_page(&page, &r, &svg, qn_path_base(qn_buf_text(&svg_path)), html);
    QN_TRY(qn_report_write_file(path, &page, err));
done:
    qn_json_free(r.manifest);
    qn_free(r.rows);
    qn_free(json);
    qn_buf_deinit(&svg);
    qn_buf_deinit(&page);
    qn_buf_deinit(&svg_path);
    return status;
}
