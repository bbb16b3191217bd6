/* cmd_logits.c - quern logits: raw logits of given ids, in a safetensors file. */
#include <string.h>

#include "model_ref.h"
#include "progress.h"
#include "prompt_input.h"
#include "quern/logits.h"
#include "settings.h"
#include "signals.h"

static bool on_progress(void *user, size_t done, size_t total)
{
    qn_progress_update(user, done, total);
    return !qn_signals_stopped();
}

static quern_status write_result(qn_cli *cli, const quern_model *model, const quern_logits_summary *s, quern_error *err)
{
    const quern_model_info *info = quern_model_get_info(model);
    const char *path = qn_opts_text(&cli->opts, QN_OPT_OUTPUT, NULL), *arithmetic = qn_opts_text(&cli->opts, QN_OPT_ARITHMETIC, "as_run");
    if (!cli->json) {
        qn_number a, b;
        (void)printf("%s  %s sequence%s, %s positions x %zu logits, %s\n", path, qn_format_grouped(a, s->n_sequences),
                     s->n_sequences == 1 ? "" : "s", qn_format_grouped(b, s->n_positions), s->n_vocab,
                     qn_format_bytes((qn_number){0}, s->bytes));
        qn_cli_note(cli, "weights %s, KV %s, arithmetic %s, %s, %zu thread%s", info->weights, qn_settings_kv_name(s->kv_type), arithmetic,
                    s->isa, s->n_threads, s->n_threads == 1 ? "" : "s");
        return QUERN_OK;
    }
    bool ok = true;
    qn_json *doc = qn_json_new_object();
    qn_put_text(doc, "schema", "quern.logits/1", &ok);
    qn_put_text(doc, "model", info->name, &ok);
    qn_put_text(doc, "output", path, &ok);
    qn_put_count(doc, "bytes", s->bytes, &ok);
    qn_put_count(doc, "n_sequences", s->n_sequences, &ok);
    qn_put_count(doc, "n_positions", s->n_positions, &ok);
    qn_put_count(doc, "n_vocab", s->n_vocab, &ok);
    qn_put_text(doc, "weights", info->weights, &ok);
    qn_put_text(doc, "kv_type", qn_settings_kv_name(s->kv_type), &ok);
    qn_put_text(doc, "arithmetic", arithmetic, &ok);
    qn_put_text(doc, "isa", s->isa, &ok);
    qn_put_count(doc, "threads", s->n_threads, &ok);
    return qn_cli_write_json(cli, doc, ok, err);
}

quern_status qn_cmd_logits(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    const char *ids_path = qn_opts_text(o, QN_OPT_IDS, NULL), *out_path = qn_opts_text(o, QN_OPT_OUTPUT, NULL);
    char *path = NULL, *ids = NULL;
    size_t len = 0;
    quern_model *model = NULL;
    qn_progress bar;
    quern_logits_options options = {.add_bos = qn_opts_flag(o, QN_OPT_ADD_BOS), .on_progress = on_progress, .user = &bar};
    quern_logits_summary summary;
    QN_TRY(qn_settings_engine(cli, &options.engine, err));
    QN_TRY(qn_model_ref_take(cli, NULL, &path, err));
    if (ids_path == NULL || out_path == NULL || o->n_positional > 0) {
        qn_cli_hint(cli, "such as: %s", qn_command_get(o->command)->example);
        QN_FAIL(err, QUERN_ERROR_USAGE, "%s",
                o->n_positional > 0 ? "too many arguments"
                : ids_path == NULL  ? "--ids FILE is missing"
                                    : "-o FILE is missing");
    }
    if (strcmp(out_path, "-") == 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "-o -: logits are written to a file, not to standard output (./- is a file of that name)");
    }
    QN_TRY(qn_input_read(ids_path, &ids, &len, err));
    QN_TRY(qn_model_ref_open(cli, path, options.add_bos ? 0 : QN_OPEN_WITHOUT_TOKENIZER, &model, err));
    qn_settings_float_kv(cli, model, &options.engine);
    qn_progress_begin(&bar, &cli->err, !cli->quiet, "logits", QN_UNIT_TOKENS);
    qn_signals_begin_stoppable();
    status = quern_logits_write(model, &options, ids, len, strcmp(ids_path, "-") == 0 ? "standard input" : ids_path, out_path, &summary,
                                err);
    qn_signals_end_stoppable();
    qn_progress_end(&bar);
    QN_TRY(status);
    QN_TRY(write_result(cli, model, &summary, err));
done:
    quern_model_close(model);
    qn_free(ids);
    qn_free(path);
    return status;
}
