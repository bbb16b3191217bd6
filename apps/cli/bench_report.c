/* bench_report.c - see bench_report.h.
 *
 * Every measurement becomes one row with the same columns, whatever it measured; CSV and Markdown show these rows, the picture draws them. */
#include "bench_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/out_file.h"
#include "bench_limits.h"
#include "plot.h"
#include "quern/quern.h"
#include "report_text.h"

enum { PAGE_BYTES_MAX = 16 << 20 };

/* Kinds before REPLAY have a panel in the picture. */
typedef enum kind { PREFILL, DECODE, TOGETHER, REPLAY, N_KINDS } kind;
static const char *const kind_names[N_KINDS] = {"prefill", "decode", "together", "replay"};

/* One measurement; NAN where there is no figure. */
typedef struct row {
    kind kind;
    const char *name; /* of a known answer; else "" */
    double tokens, depth, sequences;
    double tokens_per_s, spread; /* (largest - smallest) / 2 / median of the samples */
    double share;                /* of the limit */
    char limit[32];
    const char *refused;   /* why there is no share or gain, "" if there is one */
    bool doubted;          /* one sample only */
    double p50_ms, p99_ms; /* of a step */
    bool is_largest;       /* p99_ms: there are too few steps for a percentile */
    double cost;           /* of a million tokens, if there is a price */
    const qn_json *samples;
} row;

typedef struct report {
    const qn_json *document;
    row *rows;
    size_t n_rows;
} report;

static double spread_of(const qn_json *samples, double median)
{
    double low = INFINITY, high = 0;
    for (size_t i = 0; i < qn_json_length(samples); i++) {
        double v;
        if (qn_json_number(qn_json_at(samples, i), &v)) {
            low = fmin(low, v);
            high = fmax(high, v);
        }
    }
    return qn_json_length(samples) > 1 ? (high - low) / 2 / median : (double)NAN;
}

static row read_row(const qn_json *o, kind k)
{
    row r = {.kind = k,
             .name = qn_text_of(o, "name", ""),
             .tokens = qn_number_of(o, "n"),
             .depth = k == DECODE ? qn_number_of(o, "depth") : (double)NAN,
             .sequences = k == TOGETHER ? qn_number_of(o, "parallel") : 1,
             .tokens_per_s = qn_number_of(o, "tokens_per_s"),
             .share = qn_number_of(o, "fraction_of_limit"),
             .refused = qn_text_of(o, "ratio_refused", ""),
             .doubted = qn_text_of(o, "ratio_doubt", "")[0] != '\0',
             .p50_ms = qn_number_of(o, "latency_ms_p50"),
             .p99_ms = qn_number_of(o, "latency_ms_p99"),
             .is_largest = qn_number_of(o, "latency_samples") < QN_BENCH_P99_SAMPLES,
             .cost = qn_number_of(o, "cost_per_million_tokens"),
             .samples = qn_json_get(o, "samples")};
    r.spread = spread_of(r.samples, r.tokens_per_s);
    const char *bound = qn_text_of(o, "bound", "");
    const double rate = fmax(qn_number_of(o, "limit_before"), qn_number_of(o, "limit_after"));
    if (k == REPLAY && isfinite(qn_number_of(o, "gain"))) {
        (void)snprintf(r.limit, sizeof r.limit, "%.2f x without guesses", qn_number_of(o, "gain"));
    } else if (isfinite(r.share) && strcmp(bound, "read_bandwidth") == 0) {
        (void)snprintf(r.limit, sizeof r.limit, "%.1f GB/s read", rate / 1e9);
    } else if (isfinite(r.share) && strcmp(bound, "cached_bandwidth") == 0) {
        (void)snprintf(r.limit, sizeof r.limit, "%.1f GB/s from caches", rate / 1e9);
    } else if (isfinite(r.share)) {
        (void)snprintf(r.limit, sizeof r.limit, "%s%s", bound, qn_text_of(o, "bound_besides", "")[0] != '\0' ? " + fma_f32" : "");
    }
    return r;
}

static quern_status read_rows(report *r, quern_error *err)
{
    static const char *const lists[N_KINDS] = {"prefill", "decode", "batch", "replay"};
    size_t most = 1;
    for (int k = 0; k < N_KINDS; k++) {
        most += qn_json_length(qn_json_get(r->document, lists[k]));
    }
    r->rows = qn_calloc(most, sizeof *r->rows);
    if (r->rows == NULL) {
        return qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: the report's rows");
    }
    for (int k = 0; k < N_KINDS; k++) {
        const qn_json *list = qn_json_get(r->document, lists[k]);
        for (size_t i = 0; i < qn_json_length(list); i++) {
            r->rows[r->n_rows++] = read_row(qn_json_at(list, i), (kind)k);
        }
    }
    return QUERN_OK;
}

/* ---- CSV ---- */

static void append_number(qn_buf *out, double v)
{
    if (isfinite(v)) {
        (void)qn_buf_printf(out, "%.6g", v);
    }
    (void)qn_buf_append_char(out, ',');
}

/* A field in quotes, for spreadsheets: what would begin a formula is kept from doing so. */
static void append_field(qn_buf *out, const char *s)
{
    (void)qn_buf_append_char(out, '"');
    (void)qn_buf_append_str(out, s[0] != '\0' && strchr("=+-@", s[0]) != NULL ? "'" : "");
    for (; *s != '\0'; s++) {
        (void)qn_buf_append_str(out, *s == '"' ? "\"" : "");
        (void)qn_buf_append_char(out, (unsigned char)*s < ' ' ? ' ' : *s);
    }
    (void)qn_buf_append_char(out, '"');
}

static void append_csv(qn_buf *out, const report *r)
{
    const qn_json *d = r->document;
    (void)qn_buf_append_str(out,
                            "model,weights,cpu,isa,threads,kv_type,measurement,tokens,depth,sequences,tokens_per_s,spread,share_of_limit,"
                            "latency_ms_p50,latency_ms_p99,limit,samples,name,cost_per_million_tokens,ratio_refused,ratio_doubt\n");
    for (size_t i = 0; i < r->n_rows; i++) {
        const row *w = &r->rows[i];
        const char *const texts[] = {qn_text_of(d, "model", ""), qn_text_of(d, "weights", ""),
                                     qn_text_of(qn_json_get(d, "machine"), "cpu", ""), qn_text_of(d, "isa", "")};
        for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
            append_field(out, texts[k]);
            (void)qn_buf_append_char(out, ',');
        }
        append_number(out, qn_number_of(d, "threads"));
        append_field(out, qn_text_of(d, "kv_type", ""));
        (void)qn_buf_printf(out, ",%s,", kind_names[w->kind]);
        const double numbers[] = {w->tokens, w->depth, w->sequences, w->tokens_per_s, w->spread, w->share, w->p50_ms, w->p99_ms};
        for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) {
            append_number(out, numbers[k]);
        }
        append_field(out, w->limit);
        (void)qn_buf_append_str(out, ",\"");
        for (size_t k = 0; k < qn_json_length(w->samples); k++) {
            double v;
            if (qn_json_number(qn_json_at(w->samples, k), &v)) {
                (void)qn_buf_printf(out, "%s%.6g", k > 0 ? " " : "", v);
            }
        }
        (void)qn_buf_append_str(out, "\",");
        append_field(out, w->name);
        (void)qn_buf_append_char(out, ',');
        if (isfinite(w->cost)) {
            (void)qn_buf_printf(out, "%.6g", w->cost);
        }
        (void)qn_buf_printf(out, ",%s,%s\n", w->refused, w->doubted ? "one_sample" : "");
    }
}

/* ---- Markdown ---- */

static void append_cell(qn_buf *out, const char *format, double v, double scale)
{
    (void)qn_buf_append_char(out, ' ');
    (void)(isfinite(v) ? qn_buf_printf(out, format, v * scale) : qn_buf_append_char(out, '-'));
    (void)qn_buf_append_str(out, " |");
}

static void append_heading(qn_buf *out, const qn_json *d)
{
    const qn_json *machine = qn_json_get(d, "machine");
    qn_number a, b;
    (void)qn_buf_append_str(out, "# Speed of ");
    qn_report_append_escaped(out, qn_text_of(d, "model", ""), false);
    (void)qn_buf_append_str(out, "\n\n");
    qn_report_append_escaped(out, qn_text_of(d, "architecture", ""), false);
    (void)qn_buf_printf(out, ", %s parameters, ", qn_format_count(a, (uint64_t)fmax(0, qn_number_of(d, "params"))));
    qn_report_append_escaped(out, qn_text_of(d, "weights", ""), false);
    (void)qn_buf_printf(out, ", %s; ", qn_format_bytes(b, (uint64_t)fmax(0, qn_number_of(d, "bytes"))));
    qn_report_append_escaped(out, qn_text_of(machine, "cpu", ""), false);
    (void)qn_buf_printf(out, ", %.0f threads, %s, KV cache %s; quern %s.\n\n", qn_number_of(d, "threads"), qn_text_of(d, "isa", ""),
                        qn_text_of(d, "kv_type", ""), quern_version());
}

/* The parts that were planned. */
static void append_memory(qn_buf *out, const qn_json *memory)
{
    static const struct {
        const char *key, *name;
    } parts[] = {{"weights_mapped", "weights"},
                 {"kv", "KV cache"},
                 {"activations", "buffers"},
                 {"tokenizer", "the model's tables"},
                 {"other", "the program"}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const double bytes = qn_number_of(memory, parts[i].key);
        qn_number text;
        if (isfinite(bytes) && bytes > 0) {
            (void)qn_buf_printf(out, "%s%s %s", n++ == 0 ? "\nMemory: " : "; ", parts[i].name, qn_format_bytes(text, (uint64_t)bytes));
        }
    }
    (void)qn_buf_append_str(out, n > 0 ? ".\n" : "");
}

static void append_markdown_row(qn_buf *out, const row *w, bool with_cost)
{
    (void)qn_buf_printf(out, "| %s%s", kind_names[w->kind], w->name[0] != '\0' ? ": " : "");
    qn_report_append_escaped(out, w->name, false);
    (void)qn_buf_append_str(out, " |");
    append_cell(out, "%.0f", w->tokens, 1);
    append_cell(out, "%.0f", w->depth, 1);
    append_cell(out, "%.0f", w->sequences, 1);
    append_cell(out, w->tokens_per_s < 100 ? "%.2f" : "%.0f", w->tokens_per_s, 1);
    append_cell(out, "%.1f %%", w->spread, 100);
    append_cell(out, "%.0f %%", w->share, 100);
    (void)qn_buf_printf(out, " %s |", w->limit[0] != '\0' ? w->limit : qn_bench_refusal_text(w->refused));
    append_cell(out, "%.2f", w->p50_ms, 1);
    append_cell(out, w->is_largest ? "%.2f (largest)" : "%.2f", w->p99_ms, 1);
    if (with_cost) {
        append_cell(out, w->spread > QN_BENCH_SPREAD_MAX ? "%.4g (samples differ too much)" : "%.4g", w->cost, 1);
    }
    (void)qn_buf_append_char(out, '\n');
}

/* What +- means for shares and gains. */
static void append_trust(qn_buf *out, const report *r)
{
    bool one_sample = false;
    for (size_t i = 0; i < r->n_rows; i++) {
        one_sample = one_sample || r->rows[i].doubted;
    }
    (void)qn_buf_printf(
        out,
        " Shares and gains are given where it is at most %.0f %%, and shares where the limit before and after differs by at most %.0f %%.%s\n",
        QN_BENCH_SPREAD_MAX * 100, QN_BENCH_DRIFT_MAX * 100,
        one_sample ? " One sample (-r 1) tells nothing of it: shares and gains may be noise." : "");
}

static void append_markdown(qn_buf *out, const report *r, const char *picture)
{
    const qn_json *d = r->document;
    const double price = qn_number_of(qn_json_get(d, "cost"), "price_per_hour"), first_token = qn_number_of(d, "ttft_ms");
    append_heading(out, d);
    (void)qn_buf_printf(
        out,
        "| measurement | tokens | depth | sequences | tokens/s | +- | share of limit | limit | step p50, ms | step p99, ms |%s\n"
        "|---|---:|---:|---:|---:|---:|---:|---|---:|---:|%s\n",
        isfinite(price) ? " cost of 10^6 tokens |" : "", isfinite(price) ? "---:|" : "");
    for (size_t i = 0; i < r->n_rows; i++) {
        append_markdown_row(out, &r->rows[i], isfinite(price));
    }
    qn_number load, rss, first;
    (void)qn_buf_printf(out, "\nReady in %s, ", qn_format_seconds(load, qn_number_of(d, "load_s")));
    if (isfinite(first_token)) {
        (void)qn_buf_printf(out, "first token of a prompt of %.0f after %s more, ",
                            qn_number_of(qn_json_at(qn_json_get(d, "prefill"), 0), "n"), qn_format_seconds(first, first_token / 1e3));
    }
    (void)qn_buf_printf(out, "%s of memory at most, processors %.0f %% busy",
                        qn_format_bytes(rss, (uint64_t)fmax(0, qn_number_of(d, "peak_rss_bytes"))),
                        qn_number_of(d, "cpu_utilization") * 100);
    if (isfinite(qn_number_of(d, "energy_j"))) {
        (void)qn_buf_printf(out, ", %.0f J", qn_number_of(d, "energy_j"));
    }
    (void)qn_buf_append_str(out,
                            ". Medians; +- is half the distance between the largest and the smallest sample, as a part of the median.");
    append_trust(out, r);
    append_memory(out, qn_json_get(d, "memory"));
    if (isfinite(price)) {
        (void)qn_buf_printf(out, "\nCosts are those of a machine at %.6g an hour.\n", price);
    }
    if (picture != NULL) {
        (void)qn_buf_append_str(out, "\n![Speed against prompt length, depth and sequences](");
        qn_report_append_escaped(out, picture, true);
        (void)qn_buf_append_str(out, ")\n");
    }
}

/* ---- the picture ---- */

static double x_of(const row *r) { return r->kind == PREFILL ? r->tokens : r->kind == DECODE ? r->depth : r->sequences; }

/* A panel for each kind of measurement that has figures; nothing without any. */
static quern_status draw(const report *r, qn_buf *svg, quern_error *err)
{
    static const char *const panel_titles[REPLAY] = {"Reading a prompt", "Writing, one sequence", "Writing, several sequences together"};
    static const char *const x_labels[REPLAY] = {"tokens of the prompt", "tokens in the context", "sequences"};
    quern_status status = QUERN_OK;
    qn_plot_point *points = qn_calloc(r->n_rows + 1, sizeof *points);
    qn_number *labels = qn_calloc(r->n_rows + 1, sizeof *labels);
    qn_plot_series series[REPLAY];
    qn_plot_panel panels[REPLAY];
    size_t at = 0, n_panels = 0;
    if (points == NULL || labels == NULL) {
        QN_FAIL_MEMORY(err, "the picture's points", (r->n_rows + 1) * sizeof *points);
    }
    for (int k = 0; k < REPLAY; k++) {
        qn_plot_series *s = &series[k];
        *s = (qn_plot_series){.name = "median", .points = points + at};
        for (size_t i = 0; i < r->n_rows; i++) {
            const row *w = &r->rows[i];
            if (w->kind == (kind)k && isfinite(x_of(w)) && isfinite(w->tokens_per_s) && w->tokens_per_s > 0) {
                points[at] = (qn_plot_point){x_of(w), w->tokens_per_s, qn_format_rate(labels[at], w->tokens_per_s)};
                at++;
                s->n++;
            }
        }
        if (s->n > 0) {
            panels[n_panels++] = (qn_plot_panel){panel_titles[k], x_labels[k], "tokens per second", false, true, s, 1};
        }
    }
    if (n_panels > 0) {
        QN_TRY(qn_plot_svg(panels, n_panels, svg, err));
    }
done:
    qn_free(points);
    qn_free(labels);
    return status;
}

/* ---- files ---- */

/* Whether a report can be written there. */
static quern_status check_place(const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *folder = qn_path_folder(path);
    if (folder == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path) + 1);
    }
    if (!qn_path_is_directory(folder)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "-o %s: no such folder as %s; make it first, or give another path", path, folder);
    }
    QN_TRY(qn_out_file_probe(path, "-o", err));
done:
    qn_free(folder);
    return status;
}

/* Draws a point, so that minutes of measuring do not end in "gnuplot is not installed". */
static quern_status check_drawing(quern_error *err)
{
    static const qn_plot_point point = {1, 1, ""};
    static const qn_plot_series series = {"", &point, 1};
    static const qn_plot_panel panel = {.title = "", .x_label = "", .y_label = "", .series = &series, .n_series = 1};
    qn_buf drawn;
    qn_buf_init(&drawn, PAGE_BYTES_MAX);
    quern_status status = qn_plot_svg(&panel, 1, &drawn, err);
    qn_buf_deinit(&drawn);
    return status;
}

quern_status qn_bench_report_check(qn_cli *cli, const char *path, quern_error *err)
{
    static const char *const endings[] = {".csv", ".json", ".md", ".svg"};
    quern_status status = QUERN_OK;
    bool known = false;
    qn_buf picture;
    qn_buf_init(&picture, strlen(path) + 2);
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        known = known || qn_report_ends_with(path, endings[i]);
    }
    if (!known) {
        qn_cli_hint(cli, "such as: quern bench model.gguf -o speed.md");
        QN_FAIL(err, QUERN_ERROR_USAGE, "-o %s: a report's name ends in .csv, .json, .md or .svg", path);
    }
    QN_TRY(check_place(path, err));
    if (qn_report_ends_with(path, ".svg")) {
        QN_TRY(check_drawing(err));
    }
    if (qn_report_ends_with(path, ".md")) { /* its picture is beside it */
        QN_TRY(qn_report_picture_path(path, &picture, err));
        QN_TRY(check_place(qn_buf_text(&picture), err));
    }
done:
    qn_buf_deinit(&picture);
    return status;
}

static quern_status write_page(qn_cli *cli, const report *r, const char *path, qn_buf *page, qn_buf *svg, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf svg_path;
    qn_buf_init(&svg_path, strlen(path) + 2);
    if (draw(r, svg, err) != QUERN_OK) {
        qn_cli_warn(cli, "no picture: %s", err->message);
        qn_buf_reset(svg);
    }
    if (svg->len > 0) {
        QN_TRY(qn_report_picture_path(path, &svg_path, err));
        QN_TRY(qn_report_write_file(qn_buf_text(&svg_path), svg, err));
    }
    append_markdown(page, r, svg->len > 0 ? qn_path_base(qn_buf_text(&svg_path)) : NULL);
    QN_TRY(qn_report_write_file(path, page, err));
done:
    qn_buf_deinit(&svg_path);
    return status;
}

quern_status qn_bench_report_write(qn_cli *cli, const qn_json *document, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    report r = {.document = document};
    qn_buf page, svg;
    qn_buf_init(&page, PAGE_BYTES_MAX);
    qn_buf_init(&svg, PAGE_BYTES_MAX);
    QN_TRY(read_rows(&r, err));
    if (qn_report_ends_with(path, ".json")) {
        if (!qn_json_write(document, 2, &page) || !qn_buf_append_char(&page, '\n')) {
            QN_FAIL(err, QUERN_ERROR_MEMORY, "out of memory: the report");
        }
        QN_TRY(qn_report_write_file(path, &page, err));
    } else if (qn_report_ends_with(path, ".csv")) {
        append_csv(&page, &r);
        QN_TRY(qn_report_write_file(path, &page, err));
    } else if (qn_report_ends_with(path, ".md")) {
        QN_TRY(write_page(cli, &r, path, &page, &svg, err));
    } else {
        QN_TRY(draw(&r, &svg, err));
        if (svg.len == 0) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "-o %s: nothing was measured that could be drawn", path);
        }
        QN_TRY(qn_report_write_file(path, &svg, err));
    }
done:
    qn_free(r.rows);
    qn_buf_deinit(&page);
    qn_buf_deinit(&svg);
    return status;
}
