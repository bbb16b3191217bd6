/* cmd_quantize.c - quern quantize: the command around quern_quantize, with a bar and a table. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "model_ref.h"
#include "output_error.h"
#include "progress.h"
#include "prompt_input.h"
#include "quern/quantize.h"
#include "settings.h"
#include "signals.h"
#include "table.h"

#define FORMATS_DEFAULT "gguf:Q4_K_M,mlx:4bit"

/* A bar for each stage. */
typedef struct stage_bar {
    qn_cli *cli;
    quern_quantize_stage stage;
    qn_progress bar;
} stage_bar;

static void begin_stage(stage_bar *b, quern_quantize_stage stage)
{
    static const char *const labels[] = {
        [QUERN_QUANTIZE_CONVERT] = "quantize", [QUERN_QUANTIZE_HASH] = "hash",           [QUERN_QUANTIZE_SYNC] = "sync",
        [QUERN_QUANTIZE_PROBE] = "probe",      [QUERN_QUANTIZE_CALIBRATE] = "calibrate", [QUERN_QUANTIZE_GATE] = "gate"};
    qn_progress_unit unit = stage == QUERN_QUANTIZE_PROBE || stage == QUERN_QUANTIZE_GATE ? QN_UNIT_STEPS
                            : stage == QUERN_QUANTIZE_CALIBRATE                           ? QN_UNIT_TOKENS
                                                                                          : QN_UNIT_BYTES;
    b->stage = stage;
    qn_progress_begin(&b->bar, &b->cli->err, !b->cli->quiet, labels[stage], unit);
}

static bool on_progress(void *user, const quern_quantize_progress *p)
{
    stage_bar *b = user;
    if (p->stage != b->stage) {
        qn_progress_end(&b->bar);
        begin_stage(b, p->stage);
    }
    if (p->note != NULL) {
        qn_progress_end(&b->bar);
        qn_cli_note(b->cli, "%s", p->note);
        begin_stage(b, p->stage);
    }
    if (p->stage == QUERN_QUANTIZE_CONVERT) { /* the one that is under way */
        qn_progress_set_item(&b->bar, "tensor", p->tensors_done < p->tensors_total ? p->tensors_done + 1 : p->tensors_total,
                             p->tensors_total);
    }
    if (p->stage == QUERN_QUANTIZE_PROBE) {
        qn_progress_update(&b->bar, p->tensors_done, p->tensors_total);
    } else if (p->stage == QUERN_QUANTIZE_CALIBRATE) {
        qn_progress_update(&b->bar, p->tokens_done, p->tokens_total);
    } else {
        qn_progress_update(&b->bar, p->bytes_done, p->bytes_total);
    }
    return !qn_signals_stopped();
}

static quern_status check_options(qn_cli *cli, quern_error *err)
{
    const qn_opts *o = &cli->opts;
    if (o->n_positional == 0) {
        qn_cli_hint(cli, "such as: %s", qn_command_get(o->command)->example);
        return qn_error_set(err, QUERN_ERROR_USAGE, "SRC is missing: a Hugging Face or MLX folder, or a GGUF file");
    }
    if (o->n_positional > 1) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "one source at a time: '%s'", o->positional[1]);
    }
    if (!qn_opts_given(o, QN_OPT_OUTPUT) && !qn_opts_flag(o, QN_OPT_DRY_RUN)) {
        qn_cli_hint(cli, "such as: %s", qn_command_get(o->command)->example);
        return qn_error_set(err, QUERN_ERROR_USAGE, "-o DIR is missing");
    }
    if (qn_opts_given(o, QN_OPT_TARGET_BPW) && qn_opts_real(o, QN_OPT_TARGET_BPW, 0) == 0) { /* to the library 0 is "not given" */
        return qn_error_set(err, QUERN_ERROR_USAGE, "--target-bpw 0: expected 1 to 16 bits per weight");
    }
    if (strcmp(qn_opts_text(o, QN_OPT_OUTPUT, ""), "-") == 0) {
        return qn_error_set(err, QUERN_ERROR_USAGE,
                            "-o -: the outputs are files in a folder, not standard output (./- is a folder of that name)");
    }
    return QUERN_OK;
}

/* SRC is a folder or a GGUF file: a path, or OWNER/NAME in the hub cache. */
static quern_status resolve_source(qn_cli *cli, const char *text, char **path, quern_error *err)
{
    static const char what[] =
        "SRC is a Hugging Face or MLX folder with config.json, tokenizer.json and *.safetensors, a GGUF file with float weights, or OWNER/NAME "
        "in the hub cache";
    if (strcmp(text, QN_DEMO_NAME) == 0 && !qn_path_exists(text)) {
        qn_cli_hint(cli, "%s", what);
        return qn_error_set(err, QUERN_ERROR_UNSUPPORTED, "demo: the built-in model is quantized already; quern run demo answers with it");
    }
    if (strcmp(text, QN_DEMO_NAME) == 0) { /* a folder of that name */
        *path = qn_strdup("./" QN_DEMO_NAME);
        return *path != NULL ? QUERN_OK : qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: the path");
    }
    quern_status status = qn_model_ref_resolve(cli, text, false, path, err);
    if (status == QUERN_ERROR_NOT_FOUND) {
        bool link = strcmp(qn_path_kind(text), "missing") != 0;
        qn_cli_hint(cli, "%s", what);
        (void)qn_error_set(err, status, "%s: %s", text,
                           link ? "is a link that leads nowhere" : "no such folder or file, and no model of that name");
    }
    return status;
}

/* The largest relative error of a tensor, weighed by nothing: the one to look at first. */
static double worst_rmse(const qn_json *tensors)
{
    double worst = NAN;
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        double e = qn_number_of(qn_json_at(tensors, i), "rel_rmse");
        worst = isnan(worst) || e > worst ? e : worst;
    }
    return worst;
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

static void figure_cell(qn_table *t, const qn_json *quality, const char *key)
{
    double v = qn_number_of(quality, key);
    if (isnan(v)) {
        qn_table_cell(t, "-");
    } else {
        qn_table_cell(t, "%.5f", v);
    }
}

/* Those that this run wrote stand before those that the manifest keeps from earlier runs. */
static size_t n_new_outputs(const qn_json *manifest)
{
    const qn_json *outputs = qn_json_get(manifest, "outputs");
    size_t n = 0;
    while (n < qn_json_length(outputs) && qn_json_get(qn_json_at(outputs, n), "kept_from") == NULL) {
        n++;
    }
    return n;
}

/* A plan has no errors and no gate: those columns are left out. */
static void print_outputs(qn_cli *cli, const qn_json *manifest, bool dry_run)
{
    static const qn_table_column columns[] = {{"format", false, 0, QN_STYLE_NONE}, {"type", false, 0, QN_STYLE_BOLD},
                                              {"size", true, 0, QN_STYLE_NONE},    {"bits/weight", true, 0, QN_STYLE_NONE},
                                              {"file", false, 0, QN_STYLE_DIM},    {"error", true, 0, QN_STYLE_NONE},
                                              {"worst", true, 0, QN_STYLE_NONE},   {"ppl ratio", true, 0, QN_STYLE_NONE},
                                              {"KLD", true, 0, QN_STYLE_NONE},     {"gate", false, 0, QN_STYLE_DIM}};
    const qn_json *outputs = qn_json_get(manifest, "outputs");
    qn_table *t = qn_table_create(columns, dry_run ? 5 : 10);
    for (size_t i = 0; i < n_new_outputs(manifest); i++) {
        const qn_json *o = qn_json_at(outputs, i), *tensors = qn_json_get(o, "tensors");
        qn_number size;
        double bytes = qn_number_of(o, "bytes"), bits = qn_number_of(o, "bits_per_weight");
        qn_table_cell(t, "%s", qn_text_of(o, "format", "-"));
        qn_table_cell(t, "%s", qn_text_of(o, "type", "-"));
        qn_table_cell(t, "%s", isnan(bytes) ? "-" : qn_format_bytes(size, (uint64_t)bytes));
        qn_table_cell(t, "%.2f", bits);
        qn_table_cell(t, "%s", qn_text_of(o, "path", "-"));
        if (!dry_run) {
            error_cell(t, qn_output_error(tensors));
            error_cell(t, worst_rmse(tensors));
            figure_cell(t, qn_json_get(o, "quality"), "ppl_ratio");
            figure_cell(t, qn_json_get(o, "quality"), "kld_mean");
            qn_table_cell(t, "%s", qn_text_of(qn_json_get(o, "gate"), "verdict", "-"));
        }
    }
    qn_table_print(t, &cli->out, 0);
    qn_table_destroy(t);
}

static const char *warning_at(const qn_json *object, size_t i)
{
    const char *text = qn_json_string(qn_json_at(qn_json_get(object, "warnings"), i), NULL);
    return text != NULL ? text : "";
}

static bool has_warning(const qn_json *output, const char *text)
{
    for (size_t i = 0; i < qn_json_length(qn_json_get(output, "warnings")); i++) {
        if (strcmp(warning_at(output, i), text) == 0) {
            return true;
        }
    }
    return false;
}

/* Says a sentence once, with all the outputs that have it; `first` is the first of them. */
static void print_warning(qn_cli *cli, const qn_json *manifest, size_t first, const char *text)
{
    const qn_json *outputs = qn_json_get(manifest, "outputs");
    qn_buf who;
    qn_buf_init(&who, 1u << 16);
    for (size_t i = first; i < n_new_outputs(manifest); i++) {
        const qn_json *o = qn_json_at(outputs, i);
        if (has_warning(o, text)) {
            (void)qn_buf_printf(&who, "%s%s %s", i > first ? ", " : "", qn_text_of(o, "format", "-"), qn_text_of(o, "type", "-"));
        }
    }
    qn_cli_warn(cli, "%s: %s", qn_buf_text(&who), text);
    qn_buf_deinit(&who);
}

/* What a format cannot say, or says in another way; and earlier outputs that are not described any more. */
static void print_warnings(qn_cli *cli, const qn_json *manifest)
{
    const qn_json *outputs = qn_json_get(manifest, "outputs");
    for (size_t i = 0; i < n_new_outputs(manifest); i++) {
        const qn_json *o = qn_json_at(outputs, i);
        for (size_t k = 0; k < qn_json_length(qn_json_get(o, "warnings")); k++) {
            bool said = false;
            for (size_t before = 0; before < i && !said; before++) {
                said = has_warning(qn_json_at(outputs, before), warning_at(o, k));
            }
            if (!said) {
                print_warning(cli, manifest, i, warning_at(o, k));
            }
        }
    }
    for (size_t k = 0; k < qn_json_length(qn_json_get(manifest, "warnings")); k++) {
        qn_cli_warn(cli, "%s", warning_at(manifest, k));
    }
}

/* Quality was asked for (else a skipped output has no reasons) and could not be measured. */
static bool is_unmeasured(const qn_json *gate)
{
    return strcmp(qn_text_of(gate, "verdict", "-"), "skipped") == 0 && qn_json_length(qn_json_get(gate, "reasons")) > 0;
}

/* The output to try: the smallest that keeps about four bits a weight, or the largest if all are smaller. */
static const qn_json *find_sensible(const qn_json *manifest)
{
    const double bits_kept = 4.2;
    const qn_json *best = NULL;
    for (size_t i = 0; i < n_new_outputs(manifest); i++) {
        const qn_json *o = qn_json_at(qn_json_get(manifest, "outputs"), i);
        const char *verdict = qn_text_of(qn_json_get(o, "gate"), "verdict", "-");
        if (strcmp(verdict, "fail") == 0 || strcmp(verdict, "lossy") == 0 || is_unmeasured(qn_json_get(o, "gate"))) {
            continue;
        }
        double bits = qn_number_of(o, "bits_per_weight"), best_bits = qn_number_of(best, "bits_per_weight");
        bool keeps = bits >= bits_kept, best_keeps = best_bits >= bits_kept;
        if (best == NULL || (keeps != best_keeps ? keeps : keeps ? bits < best_bits : bits > best_bits)) {
            best = o;
        }
    }
    return best;
}

/* DIR/NAME as a shell takes it for one argument that is no option. */
static void append_quoted(qn_buf *out, const char *dir, const char *name)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./+:@,-";
    qn_buf path;
    qn_buf_init(&path, 1u << 20);
    (void)qn_buf_printf(&path, "%s%s%s%s", dir[0] == '-' ? "./" : "", dir, dir[strlen(dir) - 1] == '/' ? "" : "/", name);
    const char *text = qn_buf_text(&path);
    bool is_plain = strspn(text, plain) == path.len;
    (void)qn_buf_append_str(out, is_plain ? "" : "'");
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            (void)qn_buf_append_str(out, "'\\''");
        } else {
            (void)qn_buf_append_char(out, *text);
        }
    }
    (void)qn_buf_append_str(out, is_plain ? "" : "'");
    qn_buf_deinit(&path);
}

static void print_next(qn_cli *cli, const qn_json *manifest, const char *dir)
{
    const qn_json *sensible = find_sensible(manifest);
    size_t n_kept = qn_json_length(qn_json_get(manifest, "outputs")) - n_new_outputs(manifest);
    qn_buf line;
    if (n_kept > 0) {
        qn_cli_note(cli, "%zu earlier output%s of the same source stay%s in manifest.json", n_kept, n_kept == 1 ? "" : "s",
                    n_kept == 1 ? "s" : "");
    }
    if (sensible == NULL || dir == NULL || dir[0] == '\0') {
        return;
    }
    qn_buf_init(&line, 1u << 22);
    (void)qn_buf_append_str(&line, "next: quern run ");
    append_quoted(&line, dir, qn_text_of(sensible, "path", "-"));
    (void)qn_buf_append_str(&line, " \"...\"   quern inspect ");
    append_quoted(&line, dir, "manifest.json");
    qn_cli_note(cli, "%s", qn_buf_text(&line));
    qn_buf_deinit(&line);
}

/* The greatest error of a sampled layer, and how many there were. */
static double worst_layer(const qn_json *gate, size_t *n)
{
    const qn_json *layers = qn_json_get(qn_json_get(gate, "sample"), "layers");
    double worst = 0;
    *n = qn_json_length(layers);
    for (size_t i = 0; i < *n; i++) {
        double e = qn_number_of(qn_json_at(layers, i), "block_error");
        worst = e > worst ? e : worst;
    }
    return worst;
}

/* What was not measured whole is not to be taken for more. */
static void warn_of_unmeasured(qn_cli *cli, const qn_json *manifest)
{
    for (size_t i = 0; i < n_new_outputs(manifest); i++) {
        const qn_json *o = qn_json_at(qn_json_get(manifest, "outputs"), i), *gate = qn_json_get(o, "gate");
        const char *verdict = qn_text_of(gate, "verdict", "-"), *path = qn_text_of(o, "path", "-");
        bool judged = strcmp(verdict, "pass") == 0 || strcmp(verdict, "lossy") == 0;
        size_t n_layers;
        double worst = worst_layer(gate, &n_layers);
        if (judged && n_layers > 0) {
            qn_cli_note(cli, "%s: %zu layers run beside the source's, one by one: errors up to %.1f %% of what a layer adds", path,
                        n_layers, 100 * worst);
        } else if (is_unmeasured(gate)) {
            qn_cli_warn(cli, "%s: compared with its source, but not run beside it: nothing is known of its quality", path);
        }
    }
}

/* What the encoders knew. */
static void print_calibration(qn_cli *cli, const qn_json *manifest)
{
    const qn_json *c = qn_json_get(manifest, "calibration");
    const char *note = qn_json_string(qn_json_get(manifest, "calibration_note"), NULL);
    size_t n_without = qn_json_length(qn_json_get(c, "experts_without_data"));
    size_t n_unweighted = qn_json_length(qn_json_get(c, "matrices_without_data"));
    double tokens = qn_number_of(c, "tokens");
    qn_number n;
    if (tokens > 0) {
        const char *from = qn_text_of(c, "from", "-");
        qn_cli_note(cli, "calibrated on %s tokens of %s", qn_format_grouped(n, (uint64_t)tokens),
                    strcmp(from, "builtin") == 0 ? "the built-in text"
                    : strcmp(from, "text") == 0  ? "the text given"
                                                 : "the imatrix's text");
    }
    if (n_without > 0) {
        qn_cli_warn(cli, "%zu expert matri%s met no token of the text; they have the mean of the others", n_without,
                    n_without == 1 ? "x" : "ces");
    }
    if (n_unweighted > 0) {
        qn_cli_warn(cli, "the importance matrix has nothing but zeros for %zu matri%s, encoded as without one", n_unweighted,
                    n_unweighted == 1 ? "x" : "ces");
    }
    if (note != NULL) {
        qn_cli_note(cli, "%s", note);
    }
}

static void print_header(qn_cli *cli, const qn_json *source, const char *name)
{
    qn_number n;
    qn_buf visible;
    double parameters = qn_number_of(source, "parameters");
    qn_buf_init(&visible, 1u << 16);
    qn_text_append_visible(&visible, name, strlen(name));
    (void)printf("%s%s%s  %s", qn_term_style(&cli->out, QN_STYLE_BOLD), qn_buf_text(&visible), qn_term_style(&cli->out, QN_STYLE_NONE),
                 qn_text_of(source, "architecture", "-"));
    if (!isnan(parameters)) {
        (void)printf(", %s parameters", qn_format_count(n, (uint64_t)parameters));
    }
    (void)printf("\n\n");
    qn_buf_deinit(&visible);
}

/* Why outputs failed or are lossy, below the table. */
static void print_reasons(const qn_json *manifest)
{
    for (size_t i = 0; i < n_new_outputs(manifest); i++) {
        const qn_json *o = qn_json_at(qn_json_get(manifest, "outputs"), i), *gate = qn_json_get(o, "gate"),
                      *reasons = qn_json_get(gate, "reasons");
        if (qn_json_length(reasons) > 0) {
            (void)printf("\n%s %s: %s%s\n", qn_text_of(o, "format", "-"), qn_text_of(o, "type", "-"), qn_text_of(gate, "verdict", "-"),
                         qn_json_length(qn_json_get(o, "files")) == 0 ? ", removed" : "");
        }
        for (size_t k = 0; k < qn_json_length(reasons); k++) {
            const char *text = qn_json_string(qn_json_at(reasons, k), NULL);
            (void)printf("  %s\n", text != NULL ? text : "");
        }
    }
}

static void print_result(qn_cli *cli, const qn_json *manifest, bool dry_run)
{
    const qn_json *source = dry_run ? manifest : qn_json_get(manifest, "source"); /* a plan has no list of hashed source files */
    double peak = qn_number_of(manifest, "peak_memory_bytes"), total = qn_number_of(manifest, "total_bytes");
    print_header(cli, source, qn_text_of(source, dry_run ? "source" : "name", "-"));
    print_outputs(cli, manifest, dry_run);
    print_reasons(manifest);
    print_warnings(cli, manifest);
    if (dry_run && !isnan(peak) && !isnan(total)) {
        qn_number sum, room, n;
        double disk = qn_number_of(manifest, "disk_free_bytes");
        (void)printf("\n%s in all, %s free here%s; about %s of memory\n", qn_format_bytes(sum, (uint64_t)total),
                     isnan(disk) ? "?" : qn_format_bytes(room, (uint64_t)disk),
                     qn_json_bool(qn_json_get(manifest, "fits"), true) ? "" : " (not enough)", qn_format_bytes(n, (uint64_t)peak));
    }
    if (!dry_run) {
        (void)fputs(cli->err.is_terminal && !cli->quiet ? "\n" : "", cli->err.file);
        print_calibration(cli, manifest);
        warn_of_unmeasured(cli, manifest);
        print_next(cli, manifest, qn_opts_text(&cli->opts, QN_OPT_OUTPUT, NULL));
    }
}

static quern_status check_imatrix_out(const qn_opts *o, quern_calibrate calibrate, quern_error *err)
{
    if (qn_opts_given(o, QN_OPT_IMATRIX_OUT) && (calibrate == QUERN_CALIBRATE_NONE || calibrate == QUERN_CALIBRATE_IMATRIX)) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "--imatrix-out needs a text to calibrate on: leave out --imatrix and --calibrate none");
    }
    if (strcmp(qn_opts_text(o, QN_OPT_IMATRIX_OUT, ""), "-") == 0) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "--imatrix-out -: expected the name of a file, not standard output");
    }
    return QUERN_OK;
}

/* ---- the gate ---- */

static quern_status judge(const qn_json *manifest, quern_gate_policy policy, quern_error *err)
{
    size_t n_failed = 0, n_lossy = 0, n_unmeasured = 0;
    for (size_t i = 0; i < n_new_outputs(manifest); i++) {
        const qn_json *gate = qn_json_get(qn_json_at(qn_json_get(manifest, "outputs"), i), "gate");
        const char *verdict = qn_text_of(gate, "verdict", "-");
        n_unmeasured += is_unmeasured(gate);
        n_failed += strcmp(verdict, "fail") == 0;
        n_lossy += strcmp(verdict, "lossy") == 0;
    }
    if (n_failed > 0) {
        return qn_error_set(err, QUERN_ERROR_VERDICT, "%zu of %zu outputs failed the gate", n_failed, n_new_outputs(manifest));
    }
    if (policy == QUERN_GATE_STRICT && n_lossy > 0) {
        return qn_error_set(err, QUERN_ERROR_VERDICT, "%zu of %zu outputs are lossy, and --gate strict refuses that", n_lossy,
                            n_new_outputs(manifest));
    }
    if (policy == QUERN_GATE_STRICT && n_unmeasured > 0) {
        return qn_error_set(err, QUERN_ERROR_VERDICT,
                            "the quality of %zu of %zu outputs could not be measured, and --gate strict refuses that", n_unmeasured,
                            n_new_outputs(manifest));
    }
    return QUERN_OK;
}

quern_status qn_cmd_quantize(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    char *text = NULL, *source = NULL, *gate_text = NULL;
    qn_calibration_settings calibration = {0};
    size_t len = 0, gate_text_len = 0;
    qn_json *manifest = NULL;
    stage_bar bar = {.cli = cli};
    bool dry_run = qn_opts_flag(o, QN_OPT_DRY_RUN);
    QN_TRY(check_options(cli, err));
    QN_TRY(resolve_source(cli, o->positional[0], &source, err));
    quern_gate_policy policy = QUERN_GATE_DEFAULT;
    size_t sample_layers = 0;
    QN_TRY(qn_settings_gate(o, &policy, &sample_layers, err));
    if (qn_opts_given(o, QN_OPT_GATE_TEXT)) {
        QN_TRY(qn_input_read(qn_opts_text(o, QN_OPT_GATE_TEXT, NULL), &gate_text, &gate_text_len, err));
    }
    QN_TRY(qn_settings_calibration(o, &calibration, err));
    QN_TRY(check_imatrix_out(o, calibration.calibrate, err));
    quern_quantize_options options = {
        .source = source,
        .architecture = qn_opts_text(o, QN_OPT_AS, NULL),
        .output_dir = qn_opts_text(o, QN_OPT_OUTPUT, "."),
        .name = qn_opts_text(o, QN_OPT_NAME, NULL),
        .formats = qn_opts_text(o, QN_OPT_FORMATS, FORMATS_DEFAULT),
        .tensor_types = o->values[QN_OPT_TENSOR_TYPE].list,
        .n_tensor_types = o->values[QN_OPT_TENSOR_TYPE].n_list,
        .n_threads = (size_t)qn_opts_count(o, QN_OPT_THREADS, 0),
        .target_bpw = qn_opts_real(o, QN_OPT_TARGET_BPW, 0),
        .memory_bytes = qn_opts_count(o, QN_OPT_MEMORY, 0),
        .calibrate = calibration.calibrate,
        .calibration_text = calibration.text,
        .calibration_len = calibration.len,
        .calibration_name = calibration.text_name,
        .imatrix_path = calibration.imatrix_path,
        .imatrix_out = qn_opts_text(o, QN_OPT_IMATRIX_OUT, NULL),
        .gate = policy,
        .sample_layers = sample_layers,
        .gate_text = gate_text,
        .gate_text_len = gate_text_len,
        .keep_failed = qn_opts_flag(o, QN_OPT_KEEP_FAILED),
        .dry_run = dry_run,
        .no_resume = qn_opts_flag(o, QN_OPT_NO_RESUME),
        .on_progress = on_progress,
        .user = &bar,
    };
    begin_stage(&bar, QUERN_QUANTIZE_CONVERT);
    qn_signals_begin_stoppable();
    status = quern_quantize(&options, &text, &len, err);
    qn_signals_end_stoppable();
    qn_progress_end(&bar.bar);
    QN_TRY(status);
    QN_TRY(qn_json_parse(&manifest, text, len, 0, "manifest", err));
    if (cli->json) {
        QN_TRY(qn_cli_write_json_text(cli, text, len, err));
    } else {
        print_result(cli, manifest, dry_run);
        QN_TRY(qn_cli_flush(err));
    }
    QN_TRY(dry_run ? QUERN_OK : judge(manifest, options.gate, err));
done:
    qn_json_free(manifest);
    quern_free(text);
    qn_free(source);
    qn_free(calibration.text);
    qn_free(gate_text);
    return status;
}
