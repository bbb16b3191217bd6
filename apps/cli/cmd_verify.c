/* cmd_verify.c - quern verify: the gate on files that exist, as a table with its reasons. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "model_ref.h"
#include "output_error.h"
#include "progress.h"
#include "prompt_input.h"
#include "quern/verify.h"
#include "settings.h"
#include "signals.h"
#include "table.h"

static bool on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    qn_progress_update(user, done, total);
    return !qn_signals_stopped();
}

static quern_status check_options(qn_cli *cli, quern_error *err)
{
    const qn_opts *o = &cli->opts;
    if (o->n_positional == 0) {
        qn_cli_hint(cli, "such as: %s", qn_command_get(o->command)->example);
        return qn_error_set(err, QUERN_ERROR_USAGE, "FILE is missing: GGUF files or MLX folders");
    }
    if (!qn_opts_given(o, QN_OPT_AGAINST)) {
        qn_cli_hint(cli, "such as: %s", qn_command_get(o->command)->example);
        return qn_error_set(err, QUERN_ERROR_USAGE, "--against SRC is missing: the checkpoint that the files were made from");
    }
    return QUERN_OK;
}

/* ---- the table ---- */

static qn_style verdict_style(const char *verdict)
{
    return strcmp(verdict, "pass") == 0 ? QN_STYLE_GOOD : strcmp(verdict, "fail") == 0 ? QN_STYLE_BAD : QN_STYLE_BOLD;
}

/* What became of the certificates: a column where there is any, so that a pass is not read as more than it says. */
static bool has_certificates(const qn_json *outputs)
{
    bool found = false;
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        found = found || qn_json_get(qn_json_get(qn_json_at(outputs, i), "gate"), "certificate") != NULL;
    }
    return found;
}

static qn_style certificate_style(const char *state)
{
    return strcmp(state, "agrees") == 0 ? QN_STYLE_GOOD : strcmp(state, "differs") == 0 ? QN_STYLE_BAD : QN_STYLE_BOLD;
}

static void print_table(qn_cli *cli, const qn_json *outputs)
{
    static const qn_table_column columns[] = {
        {"file", false, 48, QN_STYLE_NONE},  {"type", false, 0, QN_STYLE_BOLD},    {"bits/weight", true, 0, QN_STYLE_NONE},
        {"tensors", true, 0, QN_STYLE_NONE}, {"error", true, 0, QN_STYLE_NONE},    {"ppl ratio", true, 0, QN_STYLE_NONE},
        {"KLD", true, 0, QN_STYLE_NONE},     {"verdict", false, 0, QN_STYLE_BOLD}, {"certificate", false, 0, QN_STYLE_NONE}};
    bool certificates = has_certificates(outputs);
    qn_table *t = qn_table_create(columns, certificates ? 9 : 8);
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        const qn_json *o = qn_json_at(outputs, i), *tensors = qn_json_get(o, "tensors"), *quality = qn_json_get(o, "quality");
        const char *verdict = qn_text_of(qn_json_get(o, "gate"), "verdict", "-");
        double ratio = qn_number_of(quality, "ppl_ratio"), kld = qn_number_of(quality, "kld_mean");
        qn_table_cell(t, "%s", qn_path_base(qn_text_of(o, "path", "-")));
        qn_table_cell(t, "%s", qn_text_of(o, "type", "-"));
        double bits = qn_number_of(o, "bits_per_weight"), error = 100 * qn_output_error(tensors);
        qn_table_cell(t, isnan(bits) ? "-" : "%.2f", bits);
        qn_table_cell(t, "%zu", qn_json_length(tensors));
        qn_table_cell(t, isnan(error) ? "-" : "%.2f %%", error);
        qn_table_cell(t, isnan(ratio) ? "-" : "%.4f", ratio);
        qn_table_cell(t, isnan(kld) ? "-" : "%.5f", kld);
        qn_table_cell(t, "%s", verdict);
        qn_table_mark(t, verdict_style(verdict));
        if (certificates) {
            const char *state = qn_text_of(qn_json_get(o, "gate"), "certificate", "none");
            qn_table_cell(t, "%s", state);
            qn_table_mark(t, certificate_style(state));
        }
    }
    qn_table_print(t, &cli->out, 0);
    qn_table_destroy(t);
}

static void print_list(const char *title, const qn_json *list)
{
    for (size_t i = 0; i < qn_json_length(list); i++) {
        const char *text = qn_json_string(qn_json_at(list, i), NULL);
        qn_buf visible;
        qn_buf_init(&visible, 1u << 16);
        qn_text_append_visible(&visible, text != NULL ? text : "", text != NULL ? strlen(text) : 0);
        (void)printf("  %s%s\n", title, qn_buf_text(&visible));
        qn_buf_deinit(&visible);
    }
}

/* What could not be checked, and a calibration that made none of a file's tensors: which one to name. */
static void print_warnings(qn_cli *cli, const qn_json *outputs)
{
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        const qn_json *o = qn_json_at(outputs, i), *warnings = qn_json_get(qn_json_get(o, "gate"), "warnings");
        const char *note = qn_json_string(qn_json_get(o, "calibration_note"), NULL);
        for (size_t k = 0; k < qn_json_length(warnings); k++) {
            const char *text = qn_json_string(qn_json_at(warnings, k), NULL);
            qn_cli_warn(cli, "%s: %s", qn_text_of(o, "path", "-"), text != NULL ? text : "");
        }
        if (note != NULL) {
            qn_cli_warn(cli, "%s: %s", qn_text_of(o, "path", "-"), note);
        }
    }
}

static void print_result(qn_cli *cli, const qn_json *doc)
{
    const qn_json *outputs = qn_json_get(doc, "outputs");
    size_t n_notes = 0; /* not shown otherwise */
    print_table(cli, outputs);
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        const qn_json *o = qn_json_at(outputs, i), *gate = qn_json_get(o, "gate");
        const qn_json *reasons = qn_json_get(gate, "reasons"), *notes = qn_json_get(gate, "notes");
        n_notes += qn_json_length(notes) - qn_json_length(qn_json_get(gate, "warnings"));
        if (qn_json_length(reasons) == 0 && (!cli->verbose || qn_json_length(notes) == 0)) {
            continue;
        }
        (void)printf("\n%s: %s\n", qn_text_of(o, "path", "-"), qn_text_of(gate, "verdict", "-"));
        print_list("", reasons);
        if (cli->verbose) {
            print_list("note: ", notes);
        }
    }
    print_warnings(cli, outputs);
    if (n_notes > 0 && !cli->verbose) {
        qn_cli_note(cli, "%zu note%s on what was found or not compared: -v", n_notes, n_notes == 1 ? "" : "s");
    }
}

static quern_status judge(const qn_cli *cli, const quern_verify_result *r, quern_gate_policy policy, quern_error *err)
{
    size_t n = cli->opts.n_positional;
    if (r->n_unreadable > 0) {
        return qn_error_set(err, r->unreadable.status, "%s", r->unreadable.message);
    }
    if (r->n_failed > 0) {
        return qn_error_set(err, QUERN_ERROR_VERDICT, "%zu of %zu failed the gate", r->n_failed, n);
    }
    if (policy == QUERN_GATE_STRICT && r->n_lossy > 0) {
        return qn_error_set(err, QUERN_ERROR_VERDICT, "%zu of %zu lossy, and --gate strict refuses that", r->n_lossy, n);
    }
    if (policy == QUERN_GATE_STRICT && r->n_unmeasured > 0) {
        return qn_error_set(err, QUERN_ERROR_VERDICT, "the quality of %zu of %zu could not be measured, and --gate strict refuses that",
                            r->n_unmeasured, n);
    }
    return QUERN_OK;
}

quern_status qn_cmd_verify(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    char *source = NULL, *text = NULL;
    size_t text_len = 0;
    qn_calibration_settings calibration = {0};
    qn_json *doc = NULL;
    quern_verify_result result = {0};
    qn_progress bar;
    QN_TRY(check_options(cli, err));
    QN_TRY(qn_model_ref_resolve(cli, qn_opts_text(o, QN_OPT_AGAINST, NULL), false, &source, err));
    if (qn_opts_given(o, QN_OPT_GATE_TEXT)) {
        QN_TRY(qn_input_read(qn_opts_text(o, QN_OPT_GATE_TEXT, NULL), &text, &text_len, err));
    }
    quern_gate_policy policy = QUERN_GATE_DEFAULT;
    size_t sample_layers = 0;
    QN_TRY(qn_settings_gate(o, &policy, &sample_layers, err));
    QN_TRY(qn_settings_calibration(o, &calibration, err));
    quern_verify_options options = {
        .files = (const char *const *)o->positional,
        .n_files = o->n_positional,
        .source = source,
        .architecture = qn_opts_text(o, QN_OPT_AS, NULL),
        .policy = policy,
        .sample_layers = sample_layers,
        .text = text,
        .text_len = text_len,
        .calibrate = calibration.calibrate,
        .calibration_text = calibration.text,
        .calibration_len = calibration.len,
        .calibration_name = calibration.text_name,
        .imatrix_path = calibration.imatrix_path,
        .memory_bytes = qn_opts_count(o, QN_OPT_MEMORY, 0),
        .n_threads = (size_t)qn_opts_count(o, QN_OPT_THREADS, 0),
        .on_progress = on_progress,
        .user = &bar,
    };
    qn_progress_begin(&bar, &cli->err, !cli->quiet, "verify", QN_UNIT_STEPS);
    qn_signals_begin_stoppable();
    status = quern_verify(&options, &result, err);
    qn_signals_end_stoppable();
    qn_progress_end(&bar);
    QN_TRY(status);
    if (cli->json) {
        QN_TRY(qn_cli_write_json_text(cli, result.json, result.len, err));
    } else {
        QN_TRY(qn_json_parse(&doc, result.json, result.len, 0, "the report", err));
        if (result.n_unreadable < o->n_positional) { /* else the error says it all */
            print_result(cli, doc);
        }
        QN_TRY(qn_cli_flush(err));
    }
    QN_TRY(judge(cli, &result, options.policy, err));
done:
    qn_json_free(doc);
    quern_free(result.json);
    qn_free(source);
    qn_free(text);
    qn_free(calibration.text);
    return status;
}
