/* cmd_eval.c - quern eval: what a model scores. This version has the suites that need no generated code: ppl and kld. */
#include <math.h>
#include <string.h>

#include "base/builtin_text.h"
#include "base/fs.h"
#include "base/sha256.h"
#include "model_ref.h"
#include "progress.h"
#include "prompt_input.h"
#include "quern/measure.h"
#include "settings.h"
#include "signals.h"
#include "table.h"

enum { TEXT_SHOWN_MAX = 48 };

/* A model, ready to be measured. */
typedef struct subject {
    quern_model *model;
    quern_engine *engine;
} subject;

typedef struct job {
    qn_cli *cli;
    bool ppl, kld; /* the suites that were asked for */
    subject model, base;
    const char *text_name; /* the file, or what stands for it */
    char text_sha256[65];
    quern_measure_options options;
    quern_perplexity own, of_base;
    quern_divergence divergence;
} job;

static bool on_progress(void *user, size_t done, size_t total)
{
    qn_progress_update(user, done, total);
    return !qn_signals_stopped();
}

/* ---- what was asked for ---- */

static quern_status read_suites(job *j, quern_error *err)
{
    static const char *const later[] = {"humaneval", "mbpp", "bleu", "mmlu", "coding", "codegen", "fim"};
    quern_status status = QUERN_OK;
    const char *list = qn_opts_text(&j->cli->opts, QN_OPT_SUITE, NULL);
    if (list == NULL) {
        qn_cli_hint(j->cli, "such as: quern eval model.gguf --suite ppl --text FILE");
        QN_FAIL(err, QUERN_ERROR_USAGE, "--suite is missing; expected ppl, kld or both");
    }
    for (const char *at = list;;) {
        size_t n = strcspn(at, ",");
        bool known = false;
        if (n == 3 && strncmp(at, "ppl", n) == 0) {
            j->ppl = known = true;
        } else if (n == 3 && strncmp(at, "kld", n) == 0) {
            j->kld = known = true;
        }
        for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
            if (n == strlen(later[i]) && strncmp(at, later[i], n) == 0) {
                QN_FAIL(err, QUERN_ERROR_UNAVAILABLE, "--suite %s: not in this version, which has ppl and kld", later[i]);
            }
        }
        if (!known) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "--suite '%.*s': no such suite; this version has ppl and kld", (int)n, at);
        }
        if (at[n] == 0) {
            break;
        }
        at += n + 1;
    }
    const char *base = qn_opts_text(&j->cli->opts, QN_OPT_BASE, NULL);
    if (j->kld && base == NULL) {
        qn_cli_hint(j->cli, "such as: quern eval q4.gguf --suite kld --base ./Qwen3-8B --text FILE");
        QN_FAIL(err, QUERN_ERROR_USAGE, "--base MODEL is missing: kld is the divergence from a model");
    }
    if (!j->kld && base != NULL) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "--base goes with --suite kld");
    }
done:
    return status;
}

static quern_status start_subject(job *j, const quern_engine_options *options, subject *s, quern_error *err)
{
    quern_engine_options own = *options;
    qn_settings_float_kv(j->cli, s->model, &own);
    if (own.arithmetic == QUERN_ARITHMETIC_F32_ACTIVATIONS && !qn_opts_given(&j->cli->opts, QN_OPT_KV_TYPE)) {
        own.kv_type = QUERN_KV_F32; /* the weights alone, as the gate measures them */
    }
    qn_settings_warn_length(j->cli, s->model, own.n_ctx);
    return qn_settings_create_engine(j->cli, s->model, &own, &s->engine, NULL, err);
}

static void close_subject(subject *s)
{
    quern_engine_destroy(s->engine);
    quern_model_close(s->model);
}

static quern_status open_subjects(job *j, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *base = NULL;
    quern_engine_options options;
    QN_TRY(qn_settings_engine(j->cli, &options, err));
    QN_TRY(qn_model_ref_open(j->cli, path, 0, &j->model.model, err));
    if (j->kld) {
        QN_TRY(qn_model_ref_resolve(j->cli, qn_opts_text(&j->cli->opts, QN_OPT_BASE, NULL), false, &base, err));
        QN_TRY(qn_model_ref_open(j->cli, base, 0, &j->base.model, err));
    }
    j->options.n_ctx = (size_t)qn_opts_count(&j->cli->opts, QN_OPT_CTX, 0);
    if (j->options.n_ctx == 0) { /* as the gate cuts its text, by the measure's context */
        j->options.n_ctx = quern_measure_chunk_tokens(quern_model_get_info(j->kld ? j->base.model : j->model.model)->n_ctx_train);
    }
    options.n_ctx = j->options.n_ctx;
    QN_TRY(start_subject(j, &options, &j->model, err));
    if (j->kld) {
        if (options.kv_type == QUERN_KV_Q8_0) {
            options.kv_type = QUERN_KV_F32; /* the base is the measure: what a lossy cache costs is in the divergence too */
        }
        QN_TRY(start_subject(j, &options, &j->base, err));
    }
done:
    qn_free(base);
    return status;
}

/* The text of --text, or the built-in one; *own is what the caller frees. */
static quern_status read_text(job *j, char **own, quern_error *err)
{
    quern_status status = QUERN_OK;
    j->text_name = qn_opts_text(&j->cli->opts, QN_OPT_TEXT, NULL);
    if (j->text_name != NULL) {
        QN_TRY(qn_input_read(j->text_name, own, &j->options.len, err));
        j->options.text = *own;
    } else {
        j->text_name = "builtin gate";
        j->options.text = qn_builtin_text_gate(&j->options.len);
        qn_cli_note(j->cli, "no --text: measuring on the built-in gate text (source code, %zu bytes)", j->options.len);
    }
    QN_TRY(qn_sha256_bytes(j->options.text, j->options.len, j->text_sha256, err));
done:
    return status;
}

/* ---- the results ---- */

static void put_real(qn_json *o, const char *key, double v, bool *ok) { qn_put(o, key, qn_json_new_real(v), ok); }

static void put_perplexity(qn_json *o, const quern_perplexity *p, bool *ok)
{
    qn_put_count(o, "n_ctx", p->n_ctx, ok);
    qn_put_count(o, "chunks", p->n_chunks, ok);
    qn_put_count(o, "tokens", p->n_tokens, ok);
    put_real(o, "ppl", p->ppl, ok);
    put_real(o, "ppl_error", p->ppl_error, ok);
    put_real(o, "nll", p->nll, ok);
    put_real(o, "bits_per_byte", p->bits_per_byte, ok);
}

/* How the figures were made: they are only comparable with figures made so. */
static void put_conditions(qn_json *o, const char *prefix, const subject *s, bool *ok)
{
    const quern_engine_info *info = quern_engine_get_info(s->engine);
    char key[32];
    (void)snprintf(key, sizeof key, "%sweights", prefix);
    qn_put_text(o, key, quern_model_get_info(s->model)->weights, ok);
    (void)snprintf(key, sizeof key, "%skv_type", prefix);
    qn_put_text(o, key, qn_settings_kv_name(info->kv_type), ok);
}

static void put_divergence(qn_json *o, const job *j, bool *ok)
{
    const quern_divergence *d = &j->divergence;
    put_real(o, "kld_mean", d->kld_mean, ok);
    put_real(o, "kld_error", d->kld_error, ok);
    put_real(o, "kld_median", d->kld_median, ok);
    put_real(o, "kld_p90", d->kld_p90, ok);
    put_real(o, "kld_p99", d->kld_p99, ok);
    put_real(o, "kld_p999", d->kld_p999, ok);
    put_real(o, "kld_max", d->kld_max, ok);
    put_real(o, "top1_agreement", d->top1_agreement, ok);
    put_real(o, "delta_p_mean", d->delta_p_mean, ok);
    put_real(o, "delta_p_rms", d->delta_p_rms, ok);
    put_real(o, "ppl_base", j->of_base.ppl, ok);
    put_real(o, "ppl_ratio", d->ppl_ratio, ok);
    put_real(o, "ppl_ratio_error", d->ppl_ratio_error, ok);
}

static quern_status write_json(const job *j, quern_error *err)
{
    bool ok = true;
    const char *arithmetic = qn_opts_text(&j->cli->opts, QN_OPT_ARITHMETIC, "as_run");
    qn_json *doc = qn_json_new_object(), *suites = qn_json_new_array();
    qn_put_text(doc, "schema", "quern.eval/1", &ok);
    qn_put_text(doc, "model", quern_model_get_info(j->model.model)->name, &ok);
    for (int k = 0; k < 2; k++) {
        if (!(k == 0 ? j->ppl : j->kld)) {
            continue;
        }
        qn_json *o = qn_json_new_object();
        qn_put_text(o, "suite", k == 0 ? "ppl" : "kld", &ok);
        put_perplexity(o, &j->own, &ok);
        if (k == 1) {
            qn_put_text(o, "base", quern_model_get_info(j->base.model)->name, &ok);
            put_divergence(o, j, &ok);
        }
        qn_put_text(o, "text", j->text_name, &ok);
        qn_put_text(o, "text_sha256", j->text_sha256, &ok);
        qn_put_text(o, "arithmetic", arithmetic, &ok);
        put_conditions(o, "", &j->model, &ok);
        if (k == 1) {
            put_conditions(o, "base_", &j->base, &ok);
        }
        qn_push(suites, o, &ok);
    }
    qn_put(doc, "suites", suites, &ok);
    return qn_cli_write_json(j->cli, doc, ok, err);
}

static void add_row(qn_table *t, const subject *s, const quern_perplexity *p)
{
    qn_table_cell(t, "%s", qn_path_base(quern_model_get_info(s->model)->path));
    qn_table_cell(t, "%.4f", p->ppl);
    qn_table_cell(t, "± %.4f", p->ppl_error);
    qn_table_cell(t, "%.4f", p->nll);
    qn_table_cell(t, isfinite(p->bits_per_byte) ? "%.4f" : "-", p->bits_per_byte);
}

static void print_result(const job *j)
{
    static const qn_table_column columns[] = {{"model", false, TEXT_SHOWN_MAX, QN_STYLE_NONE},
                                              {"perplexity", true, 0, QN_STYLE_BOLD},
                                              {"error", true, 0, QN_STYLE_DIM},
                                              {"nats/token", true, 0, QN_STYLE_NONE},
                                              {"bits/byte", true, 0, QN_STYLE_NONE}};
    qn_number tokens;
    qn_table *t = qn_table_create(columns, 5);
    add_row(t, &j->model, &j->own);
    if (j->kld) {
        add_row(t, &j->base, &j->of_base);
    }
    qn_table_print(t, &j->cli->out, 0);
    qn_table_destroy(t);
    if (j->kld) {
        static const qn_table_column two[] = {{NULL, false, 0, QN_STYLE_DIM}, {NULL, false, 0, QN_STYLE_NONE}};
        const quern_divergence *d = &j->divergence;
        (void)printf("\ndivergence of the first from the second\n");
        t = qn_table_create(two, 2);
        qn_table_cell(t, "KLD mean");
        qn_table_cell(t, "%.6f ± %.6f nats", d->kld_mean, d->kld_error);
        qn_table_cell(t, "median, 90 %%, 99 %%, 99.9 %%, max");
        qn_table_cell(t, "%.6f  %.6f  %.6f  %.6f  %.6f", d->kld_median, d->kld_p90, d->kld_p99, d->kld_p999, d->kld_max);
        qn_table_cell(t, "same most likely token");
        qn_table_cell(t, "%.2f %%", 100 * d->top1_agreement);
        qn_table_cell(t, "probability of the right token");
        qn_table_cell(t, "%+.3f %% on average, %.3f %% RMS", 100 * d->delta_p_mean, 100 * d->delta_p_rms);
        qn_table_cell(t, "perplexity ratio");
        qn_table_cell(t, "%.5f ± %.5f", d->ppl_ratio, d->ppl_ratio_error);
        qn_table_print(t, &j->cli->out, 2);
        qn_table_destroy(t);
    }
    const quern_engine_info *info = quern_engine_get_info(j->model.engine);
    qn_cli_note(j->cli, "%zu chunks of %zu tokens, %s scored; KV %s, arithmetic %s, %s", j->own.n_chunks, j->own.n_ctx,
                qn_format_grouped(tokens, j->own.n_tokens), qn_settings_kv_name(info->kv_type),
                qn_opts_text(&j->cli->opts, QN_OPT_ARITHMETIC, "as_run"), info->isa);
}

quern_status qn_cmd_eval(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    char *path = NULL, *text = NULL;
    qn_progress bar;
    job j = {.cli = cli};
    QN_TRY(read_suites(&j, err));
    QN_TRY(qn_model_ref_take(cli, NULL, &path, err));
    if (o->n_positional > 0) {
        qn_cli_hint(cli, "such as: quern eval model.gguf --suite ppl --text FILE");
        QN_FAIL(err, QUERN_ERROR_USAGE, "too many arguments");
    }
    QN_TRY(read_text(&j, &text, err));
    QN_TRY(open_subjects(&j, path, err));
    j.options.no_special = qn_opts_flag(o, QN_OPT_NO_SPECIAL);
    j.options.max_chunks = (size_t)qn_opts_count(o, QN_OPT_LIMIT, 0);
    j.options.on_progress = on_progress;
    j.options.user = &bar;
    qn_progress_begin(&bar, &cli->err, !cli->quiet, j.kld ? "kld" : "ppl", QN_UNIT_STEPS);
    qn_signals_begin_stoppable();
    status = quern_measure(j.model.engine, j.base.engine, &j.options, &j.own, &j.of_base, &j.divergence, err);
    qn_signals_end_stoppable();
    qn_progress_end(&bar);
    QN_TRY(status);
    if (cli->json) {
        QN_TRY(write_json(&j, err));
    } else {
        print_result(&j);
    }
done:
    close_subject(&j.model);
    close_subject(&j.base);
    qn_free(path);
    qn_free(text);
    return status;
}
