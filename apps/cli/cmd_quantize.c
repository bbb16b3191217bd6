/* cmd_quantize.c - quern quantize: the command around quern_quantize, with a bar and a table. */
#include <math.h>
#include <string.h>

#include "base/fs.h"
#include "model_ref.h"
#include "progress.h"
#include "quern/quantize.h"
#include "signals.h"
#include "table.h"

#define FORMATS_DEFAULT "gguf:Q4_K_M,mlx:4bit"

static bool on_progress(void *user, const quern_quantize_progress *p)
{
    qn_progress_update(user, p->bytes_done, p->bytes_total);
    return !qn_signals_stopped();
}

static quern_status check_options(qn_cli *cli, quern_error *err)
{
    const qn_opts *o = &cli->opts;
    static const qn_opt_id later[] = {QN_OPT_GATE_TEXT, QN_OPT_CALIBRATE, QN_OPT_IMATRIX, QN_OPT_TARGET_BPW};
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        if (qn_opts_given(o, later[i])) {
            return qn_error_set(err, QUERN_ERROR_UNAVAILABLE, "--%s: not available in this version yet", qn_opts_get_row(later[i])->name);
        }
    }
    if (strcmp(qn_opts_text(o, QN_OPT_GATE, "default"), "strict") == 0) {
        qn_cli_hint(cli, "--gate off (or no --gate) writes the files with the gate marked 'skipped'");
        return qn_error_set(err, QUERN_ERROR_UNAVAILABLE, "--gate strict: this version measures no quality yet");
    }
    if (o->n_positional == 0) {
        qn_cli_hint(cli, "such as: %s", qn_command_get(o->command)->example);
        return qn_error_set(err, QUERN_ERROR_USAGE, "SRC is missing: a Hugging Face folder");
    }
    if (o->n_positional > 1) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "one source at a time: '%s'", o->positional[1]);
    }
    if (!qn_opts_given(o, QN_OPT_OUTPUT) && !qn_opts_flag(o, QN_OPT_DRY_RUN)) {
        qn_cli_hint(cli, "such as: %s", qn_command_get(o->command)->example);
        return qn_error_set(err, QUERN_ERROR_USAGE, "-o DIR is missing");
    }
    return QUERN_OK;
}

static double number(const qn_json *object, const char *key)
{
    double v;
    return qn_json_number(qn_json_get(object, key), &v) ? v : NAN;
}

static const char *text_of(const qn_json *object, const char *key)
{
    const char *s = qn_json_string(qn_json_get(object, key), NULL);
    return s != NULL ? s : "-";
}

/* The largest relative error of a tensor, weighed by nothing: the one to look at first. */
static double worst_rmse(const qn_json *tensors)
{
    double worst = NAN;
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        double e = number(qn_json_at(tensors, i), "rel_rmse");
        worst = isnan(worst) || e > worst ? e : worst;
    }
    return worst;
}

static double mean_rmse(const qn_json *tensors)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        double e = number(qn_json_at(tensors, i), "rel_rmse");
        if (e > 0) { /* what is stored exactly (norms) would only flatter the mean */
            sum += e;
            n++;
        }
    }
    return n > 0 ? sum / (double)n : isnan(worst_rmse(tensors)) ? NAN : 0;
}

static void error_cell(qn_table *t, double v)
{
    if (isnan(v)) {
        qn_table_cell(t, "-");
    } else if (v > 0) {
        qn_table_cell(t, "%.2f %%", v * 100);
    } else {
        qn_table_cell(t, "exact");
    }
}

/* A plan has no errors and no gate: those columns are left out. */
static void print_outputs(qn_cli *cli, const qn_json *manifest, bool dry_run)
{
    static const qn_table_column columns[] = {{"format", false, 0, QN_STYLE_NONE}, {"type", false, 0, QN_STYLE_BOLD},
                                              {"size", true, 0, QN_STYLE_NONE},    {"bits/weight", true, 0, QN_STYLE_NONE},
                                              {"file", false, 0, QN_STYLE_DIM},    {"error", true, 0, QN_STYLE_NONE},
                                              {"worst", true, 0, QN_STYLE_NONE},   {"gate", false, 0, QN_STYLE_DIM}};
    const qn_json *outputs = qn_json_get(manifest, "outputs");
    qn_table *t = qn_table_create(columns, dry_run ? 5 : 8);
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        const qn_json *o = qn_json_at(outputs, i), *tensors = qn_json_get(o, "tensors");
        qn_number size;
        double bytes = number(o, "bytes"), bits = number(o, "bits_per_weight");
        qn_table_cell(t, "%s", text_of(o, "format"));
        qn_table_cell(t, "%s", text_of(o, "type"));
        qn_table_cell(t, "%s", isnan(bytes) ? "-" : qn_format_bytes(size, (uint64_t)bytes));
        qn_table_cell(t, "%.2f", bits);
        qn_table_cell(t, "%s", text_of(o, "path"));
        if (!dry_run) {
            error_cell(t, mean_rmse(tensors));
            error_cell(t, worst_rmse(tensors));
            qn_table_cell(t, "%s", text_of(qn_json_get(o, "gate"), "verdict"));
        }
    }
    qn_table_print(t, &cli->out, 0);
    qn_table_destroy(t);
}

/* What a format cannot say, or says in another way. */
static void print_warnings(qn_cli *cli, const qn_json *manifest)
{
    const qn_json *outputs = qn_json_get(manifest, "outputs");
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        const qn_json *o = qn_json_at(outputs, i), *warnings = qn_json_get(o, "warnings");
        for (size_t k = 0; k < qn_json_length(warnings); k++) {
            const char *text = qn_json_string(qn_json_at(warnings, k), NULL);
            qn_cli_warn(cli, "%s %s: %s", text_of(o, "format"), text_of(o, "type"), text != NULL ? text : "");
        }
    }
}

static void print_result(qn_cli *cli, const qn_json *manifest, bool dry_run)
{
    const qn_json *source = dry_run ? manifest : qn_json_get(manifest, "source"); /* a plan has no list of hashed source files */
    const qn_json *first = qn_json_at(qn_json_get(manifest, "outputs"), 0);
    const char *dir = qn_opts_text(&cli->opts, QN_OPT_OUTPUT, NULL);
    qn_number n;
    double parameters = number(source, "parameters"), peak = number(manifest, "peak_memory_bytes"), total = number(manifest, "total_bytes");
    (void)printf("%s%s%s  %s", qn_term_style(&cli->out, QN_STYLE_BOLD), text_of(source, dry_run ? "source" : "name"),
                 qn_term_style(&cli->out, QN_STYLE_NONE), text_of(source, "architecture"));
    if (!isnan(parameters)) {
        (void)printf(", %s parameters", qn_format_count(n, (uint64_t)parameters));
    }
    (void)printf("\n\n");
    print_outputs(cli, manifest, dry_run);
    print_warnings(cli, manifest);
    if (dry_run && !isnan(peak) && !isnan(total)) {
        qn_number sum, room;
        double disk = number(manifest, "disk_free_bytes");
        (void)printf("\n%s in all, %s free here%s; about %s of memory\n", qn_format_bytes(sum, (uint64_t)total),
                     isnan(disk) ? "?" : qn_format_bytes(room, (uint64_t)disk),
                     qn_json_bool(qn_json_get(manifest, "fits"), true) ? "" : " (not enough)", qn_format_bytes(n, (uint64_t)peak));
    }
    if (!dry_run && dir != NULL && strcmp(text_of(first, "path"), "-") != 0) {
        (void)fputs(cli->err.is_terminal && !cli->quiet ? "\n" : "", cli->err.file);
        qn_cli_note(cli, "next: quern run %s/%s \"...\"   quern inspect %s/manifest.json", dir, text_of(first, "path"), dir);
    }
}

quern_status qn_cmd_quantize(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    char *text = NULL, *source = NULL;
    size_t len = 0;
    qn_json *manifest = NULL;
    qn_progress bar;
    bool dry_run = qn_opts_flag(o, QN_OPT_DRY_RUN);
    QN_TRY(check_options(cli, err));
    QN_TRY(qn_model_ref_resolve(cli, o->positional[0], false, &source, err));
    quern_quantize_options options = {
        .source = source,
        .output_dir = qn_opts_text(o, QN_OPT_OUTPUT, "."),
        .name = qn_opts_text(o, QN_OPT_NAME, NULL),
        .formats = qn_opts_text(o, QN_OPT_FORMATS, FORMATS_DEFAULT),
        .tensor_types = o->values[QN_OPT_TENSOR_TYPE].list,
        .n_tensor_types = o->values[QN_OPT_TENSOR_TYPE].n_list,
        .n_threads = (size_t)qn_opts_count(o, QN_OPT_THREADS, 0),
        .memory_bytes = qn_opts_count(o, QN_OPT_MEMORY, 0),
        .dry_run = dry_run,
        .on_progress = on_progress,
        .user = &bar,
    };
    qn_progress_begin(&bar, &cli->err, !cli->quiet, "quantize", QN_UNIT_BYTES);
    qn_signals_begin_stoppable();
    status = quern_quantize(&options, &text, &len, err);
    qn_signals_end_stoppable();
    qn_progress_end(&bar);
    QN_TRY(status);
    if (cli->json) {
        QN_TRY(qn_cli_write_json_text(cli, text, len, err));
    } else {
        QN_TRY(qn_json_parse(&manifest, text, len, 0, "manifest", err));
        print_result(cli, manifest, dry_run);
    }
done:
    qn_json_free(manifest);
    quern_free(text);
    qn_free(source);
    return status;
}
