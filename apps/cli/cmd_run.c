/* cmd_run.c - quern run: one answer on stdout. */
#include <string.h>

#include "answer.h"
#include "base/clock.h"
#include "model_ref.h"
#include "prompt_input.h"
#include "settings.h"

typedef struct run_job {
    char *model_path;
    const char *prompt; /* PROMPT or -p, borrowed; NULL if there is none */
    char *file_text;    /* -f */
    char *stdin_text;
    size_t file_len, stdin_len;
    qn_json *messages, *tools;
    quern_model *model;
    quern_engine *engine;
    quern_sequence *sequence;
    quern_ids ids;
    qn_sampling_settings sampling;
    quern_generation answer;
    double load_s;
    quern_read_in read_in;
    qn_memory_marks memory;
} run_job;

static void deinit_job(run_job *j)
{
    quern_generation_deinit(&j->answer);
    quern_sequence_destroy(j->sequence);
    quern_engine_destroy(j->engine);
    quern_model_close(j->model);
    quern_ids_deinit(&j->ids);
    qn_settings_sampling_deinit(&j->sampling);
    qn_json_free(j->messages);
    qn_json_free(j->tools);
    qn_free(j->file_text);
    qn_free(j->stdin_text);
    qn_free(j->model_path);
}

/* Which arguments are MODEL and PROMPT: the rule of the command line's contract. */
static quern_status take_arguments(qn_cli *cli, run_job *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_opts *o = &cli->opts;
    bool model_given = qn_model_ref_given(cli), prompt_given = qn_opts_given(o, QN_OPT_PROMPT);
    size_t most = 2 - (model_given ? 1u : 0u) - (prompt_given ? 1u : 0u);
    if (o->n_positional > most) {
        qn_cli_hint(cli, "put the prompt in quotes: quern run %s\"...\"", model_given ? "" : "MODEL ");
        QN_FAIL(err, QUERN_ERROR_USAGE, "too many arguments: '%s'", o->positional[most]);
    }
    if (prompt_given) {
        j->prompt = qn_opts_text(o, QN_OPT_PROMPT, NULL);
    } else if (o->n_positional > 0 && (o->n_positional == 2 || model_given || !qn_model_ref_is_model(o->positional[0]))) {
        j->prompt = o->positional[--o->n_positional];
    }
    QN_TRY(qn_model_ref_take(cli, QN_DEMO_NAME, &j->model_path, err));
done:
    return status;
}

static bool is_dash(const qn_opts *o, qn_opt_id id) { return strcmp(qn_opts_text(o, id, ""), "-") == 0; }

/* Reads what -f, --messages, --tools and stdin hold. */
static quern_status read_inputs(qn_cli *cli, run_job *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    const char *file = qn_opts_text(o, QN_OPT_PROMPT_FILE, NULL), *messages = qn_opts_text(o, QN_OPT_MESSAGES, NULL);
    const char *tools = qn_opts_text(o, QN_OPT_TOOLS, NULL);
    if (is_dash(o, QN_OPT_PROMPT_FILE) + is_dash(o, QN_OPT_MESSAGES) + is_dash(o, QN_OPT_TOOLS) > 1) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "only one of -f, --messages and --tools can be stdin");
    }
    if (tools != NULL) {
        QN_TRY(qn_input_read_json(tools, QN_JSON_ARRAY, "an array of tools", &j->tools, err));
    }
    if (messages != NULL) {
        QN_TRY(qn_messages_read(messages, &j->messages, &j->tools, err));
    }
    if (file != NULL) {
        QN_TRY(qn_input_read(file, &j->file_text, &j->file_len, err));
    }
    if (file != NULL || messages != NULL || is_dash(o, QN_OPT_TOOLS)) {
        goto done; /* the prompt is complete: a script's stdin is not ours */
    }
    if (qn_input_stdin_is_piped()) {
        QN_TRY(qn_input_read("-", &j->stdin_text, &j->stdin_len, err));
    } else if (j->prompt == NULL) {
        qn_cli_note(cli, "type the prompt, end it with Ctrl-D (quern chat is for a conversation)");
        QN_TRY(qn_input_read("-", &j->stdin_text, &j->stdin_len, err));
    }
done:
    return status;
}

/* PROMPT, file and stdin as one text. Without --raw they are lines of a message, and newlines at the end of files say nothing;
 * with it every byte counts. */
static quern_status join_prompt(const run_job *j, bool raw, qn_buf *out, quern_error *err)
{
    const char *parts[] = {j->prompt, j->file_text, j->stdin_text};
    size_t lengths[] = {j->prompt != NULL ? strlen(j->prompt) : 0, j->file_len, j->stdin_len};
    for (size_t i = 0; i < 3; i++) {
        size_t len = lengths[i];
        while (!raw && i > 0 && len > 0 && (parts[i][len - 1] == '\n' || parts[i][len - 1] == '\r')) {
            len--;
        }
        if (!raw && out->len > 0 && len > 0 && strchr(" \t\n", out->data[out->len - 1]) == NULL) {
            (void)qn_buf_append_char(out, '\n');
        }
        (void)qn_buf_append(out, parts[i] != NULL ? parts[i] : "", len);
    }
    return out->failed ? qn_error_set(err, QUERN_ERROR_LIMIT, "the prompt is too long for memory") : QUERN_OK;
}

static quern_status check_messages(const qn_cli *cli, const run_job *j, quern_error *err)
{
    const char *role = qn_json_string(qn_json_get(qn_json_at(j->messages, 0), "role"), NULL);
    if (qn_opts_given(&cli->opts, QN_OPT_SYSTEM) && role != NULL && strcmp(role, "system") == 0) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "--system, but the messages already begin with a system message");
    }
    return QUERN_OK;
}

/* system message, messages of the file, prompt. */
static quern_status build_messages(const qn_cli *cli, run_job *j, const qn_buf *prompt, qn_json **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *system = qn_opts_text(&cli->opts, QN_OPT_SYSTEM, NULL);
    *out = qn_json_new_array();
    QN_TRY(check_messages(cli, j, err));
    if (system != NULL) {
        QN_TRY(qn_messages_add(*out, "system", system, strlen(system), err));
    }
    bool ok = true;
    for (size_t i = 0; i < qn_json_length(j->messages); i++) {
        qn_push(*out, qn_json_clone(qn_json_at(j->messages, i)), &ok);
    }
    if (prompt->len > 0) {
        QN_TRY(qn_messages_add(*out, "user", prompt->data, prompt->len, err));
    }
    if (!ok || *out == NULL) {
        QN_FAIL(err, QUERN_ERROR_MEMORY, "out of memory: the messages");
    }
done:
    return status;
}

static quern_status encode_prompt(qn_cli *cli, run_job *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    bool raw = qn_opts_flag(o, QN_OPT_RAW);
    bool chat = j->messages != NULL || j->tools != NULL || qn_opts_given(o, QN_OPT_SYSTEM);
    qn_json *messages = NULL;
    quern_prompt rendered = {0};
    qn_buf text;
    qn_buf_init(&text, (size_t)1 << 31);
    if (raw && chat) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "--raw uses no template: --system, --messages and --tools have no place in it");
    }
    if (!raw && !chat && quern_model_get_template_source(j->model) == NULL) {
        qn_cli_warn(cli, "%s has no chat template: the prompt is used as it is (--raw says so without this warning)",
                    quern_model_get_info(j->model)->name);
        raw = true;
    }
    QN_TRY(join_prompt(j, raw, &text, err));
    if (text.len == 0 && j->messages == NULL) {
        qn_cli_hint(cli, "quern run \"Write a Python function that ...\"");
        QN_FAIL(err, QUERN_ERROR_USAGE, "the prompt is empty");
    }
    if (raw) {
        QN_TRY(qn_raw_encode(cli, j->model, text.data, text.len, !qn_opts_flag(o, QN_OPT_NO_SPECIAL), &j->ids, err));
    } else {
        QN_TRY(build_messages(cli, j, &text, &messages, err));
        qn_chat_input input = {.messages = messages,
                               .tools = j->tools,
                               .generation_prompt = true,
                               .extra_json = qn_opts_text(o, QN_OPT_TEMPLATE_KWARGS, NULL)};
        QN_TRY(qn_chat_encode(j->model, &input, &rendered, &j->ids, err));
    }
done:
    quern_prompt_deinit(&rendered);
    qn_json_free(messages);
    qn_buf_deinit(&text);
    return status;
}

static quern_status load(qn_cli *cli, run_job *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_engine_options options;
    uint64_t begin = qn_clock_ns();
    QN_TRY(qn_settings_engine(cli, &options, err));
    j->memory.before_model = qn_private_memory_bytes();
    QN_TRY(qn_model_ref_open(cli, j->model_path, 0, &j->model, err));
    j->memory.after_model = qn_model_ref_copies(cli) ? 0 : qn_private_memory_bytes(); /* copied weights would count as tokenizer */
    uint64_t opened = qn_clock_ns();
    QN_TRY(qn_settings_sampling(cli, j->model, &j->sampling, err));
    QN_TRY(encode_prompt(cli, j, err)); /* before the engine: a wrong prompt costs no memory */
    uint64_t encoded = qn_clock_ns();
    qn_settings_warn_length(cli, j->model, options.n_ctx);
    QN_TRY(qn_settings_create_engine(cli, j->model, &options, &j->engine, &j->read_in, err));
    QN_TRY(quern_sequence_create(&j->sequence, j->engine, err));
    j->load_s = qn_clock_seconds(begin, opened) + qn_clock_seconds(encoded, qn_clock_ns());
done:
    return status;
}

/* Settings that would otherwise be a secret: all with -v, a random seed always. */
static void print_settings(qn_cli *cli, const run_job *j)
{
    qn_buf b;
    qn_buf_init(&b, 4096);
    qn_settings_describe(&j->sampling.sampling, &b);
    if (cli->verbose) {
        const quern_model_info *m = quern_model_get_info(j->model);
        const quern_engine_info *e = quern_engine_get_info(j->engine);
        qn_number params, bytes, kv, load;
        qn_cli_note(cli, "%s: %s, %s parameters, %s, %s; loaded in %s", m->name, m->architecture, qn_format_count(params, m->n_parameters),
                    m->weights, qn_format_bytes(bytes, m->weight_bytes), qn_format_seconds(load, j->load_s));
        qn_cli_note(cli, "%s, %zu thread%s, context %zu, batch %zu, KV %s (%s)", e->isa, e->n_threads, e->n_threads == 1 ? "" : "s",
                    e->n_ctx, e->n_batch, qn_settings_kv_name(e->kv_type), qn_format_bytes(kv, e->plan.kv));
    }
    if (cli->verbose || (j->sampling.random_seed && !cli->json)) {
        qn_cli_note(cli, "%s", qn_buf_text(&b));
    }
    qn_buf_deinit(&b);
}

static quern_status write_json(qn_cli *cli, const run_job *j, quern_error *err)
{
    bool ok = true;
    const quern_generation *g = &j->answer;
    qn_json *doc = qn_json_new_object(), *ids = qn_json_new_array(), *guesses = qn_json_new_object();
    for (size_t i = 0; i < g->ids.len; i++) {
        qn_push(ids, qn_json_new_int(g->ids.data[i]), &ok);
    }
    qn_put_text(doc, "schema", "quern.run/1", &ok);
    qn_put_text(doc, "model", quern_model_get_info(j->model)->name, &ok);
    qn_put_count(doc, "prompt_tokens", g->n_prompt_tokens, &ok);
    qn_put_count(doc, "completion_tokens", g->ids.len, &ok);
    qn_put(doc, "text", qn_json_new_string_n(g->text != NULL ? g->text : "", g->len), &ok);
    qn_put(doc, "token_ids", ids, &ok);
    qn_put_text(doc, "finish_reason", quern_finish_name(g->finish), &ok);
    qn_put_count(doc, "seed", j->sampling.sampling.seed, &ok);
    qn_put(doc, "timings", qn_answer_timings(g, j->load_s, &ok), &ok);
    qn_put_count(guesses, "steps", g->n_steps, &ok);
    qn_put_count(guesses, "guessed", g->n_guessed, &ok);
    qn_put_count(guesses, "right", g->n_right, &ok);
    qn_put(doc, "speculation", guesses, &ok);
    qn_put(doc, "memory", qn_answer_memory(j->engine, &j->memory, &ok), &ok);
    qn_put(doc, "read_in", qn_settings_read_in_json(&j->read_in, &ok), &ok);
    qn_put_count(doc, "peak_rss_bytes", qn_peak_rss_bytes(), &ok);
    return qn_cli_write_json(cli, doc, ok, err);
}

static void finish_text(qn_cli *cli, const run_job *j)
{
    const quern_generation *g = &j->answer;
    if (g->len > 0 && g->text[g->len - 1] != '\n') {
        (void)fputc('\n', cli->out.file);
    }
    (void)fflush(cli->out.file);
    bool watched = cli->out.is_terminal && cli->err.is_terminal;
    if (cli->verbose || watched) {
        qn_buf b;
        qn_buf_init(&b, 1024);
        qn_answer_describe(g, &b);
        (void)fputs(watched && !cli->quiet ? "\n" : "", cli->err.file);
        qn_cli_note(cli, "%s", qn_buf_text(&b));
        qn_buf_deinit(&b);
    }
    if (g->finish == QUERN_FINISH_LENGTH && qn_opts_count(&cli->opts, QN_OPT_MAX_TOKENS, 0) == 0) {
        qn_cli_warn(cli, "the answer was cut: the context of %zu tokens is full (-c makes it larger)",
                    quern_engine_get_info(j->engine)->n_ctx);
    }
}

quern_status qn_cmd_run(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    run_job j = {0};
    QN_TRY(qn_settings_check_answer(cli, err));
    QN_TRY(take_arguments(cli, &j, err));
    QN_TRY(read_inputs(cli, &j, err));
    QN_TRY(load(cli, &j, err));
    print_settings(cli, &j);
    qn_answer_request request = {.engine = j.engine,
                                 .sequence = j.sequence,
                                 .ids = j.ids.data,
                                 .n_ids = j.ids.len,
                                 .sampling = &j.sampling.sampling,
                                 .stream = !cli->json};
    status = qn_answer(cli, &request, &j.answer, err);
    if (status == QUERN_ERROR_CONTEXT_FULL) {
        qn_cli_hint(cli, "-c makes the context larger, -n limits the answer");
    }
    if (status == QUERN_ERROR_INVALID) { /* such as logits that are no numbers */
        qn_error_prefix(err, "%s", j.model_path);
        qn_cli_hint(cli, "quern inspect --check %s looks at every weight", j.model_path);
    }
    QN_TRY(status);
    if (cli->json) {
        QN_TRY(write_json(cli, &j, err));
    } else {
        finish_text(cli, &j);
    }
    if (j.answer.finish == QUERN_FINISH_CANCELLED) {
        QN_FAIL(err, QUERN_ERROR_CANCELLED, "interrupted");
    }
done:
    deinit_job(&j);
    return status;
}
