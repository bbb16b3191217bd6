/* cmd_chat.c - quern chat: a conversation, at a terminal or over a pipe.
 *
 * The sequence keeps its keys and values between turns: only what the new prompt does not share with the last one is computed. */
#include <string.h>
#include <unistd.h>

#include "answer.h"
#include "base/clock.h"
#include "base/fs.h"
#include "config_file.h"
#include "conversation.h"
#include "line_edit.h"
#include "model_ref.h"
#include "prompt_input.h"
#include "settings.h"
#include "signals.h"

typedef struct chat {
    qn_cli *cli;
    quern_model *model;
    quern_engine *engine;
    quern_sequence *sequence;
    qn_sampling_settings sampling;
    qn_conversation conversation;
    qn_line_edit *editor;
    const qn_term *screen; /* where prompts and notes go */
    quern_ids cached;      /* the tokens whose keys and values the sequence holds */
    double load_s;
    qn_memory_marks memory;
    qn_json *turns;        /* with --json */
    quern_generation last; /* numbers of the last answer, for /stats */
    size_t last_reused;
    bool leave;
} chat;

/* ---- one answer ---- */

static size_t common_prefix(const quern_ids *a, const quern_ids *b)
{
    size_t n = 0;
    while (n < a->len && n < b->len && a->data[n] == b->data[n]) {
        n++;
    }
    return n;
}

/* What the sequence holds now: the prompt and the part of the answer that was fed back. */
static quern_status remember_cached(chat *c, const quern_ids *prompt, const quern_ids *answer, quern_error *err)
{
    size_t n = quern_sequence_n_tokens(c->sequence);
    if (n > c->cached.cap) {
        int32_t *grown = qn_realloc_array(c->cached.data, n, sizeof *grown);
        if (grown == NULL) {
            c->cached.len = 0;
            return qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: %zu token ids", n);
        }
        c->cached.data = grown;
        c->cached.cap = n;
    }
    for (size_t i = 0; i < n; i++) {
        c->cached.data[i] = i < prompt->len ? prompt->data[i] : answer->data[i - prompt->len];
    }
    c->cached.len = n;
    return QUERN_OK;
}

static quern_status add_turn_json(chat *c, const quern_generation *g, size_t n_prompt, size_t n_reused, quern_error *err)
{
    bool ok = true;
    qn_json *t = qn_json_new_object(), *ids = qn_json_new_array();
    for (size_t i = 0; i < g->ids.len; i++) {
        qn_push(ids, qn_json_new_int(g->ids.data[i]), &ok);
    }
    qn_put_count(t, "prompt_tokens", n_prompt, &ok);
    qn_put_count(t, "reused_tokens", n_reused, &ok);
    qn_put_count(t, "completion_tokens", g->ids.len, &ok);
    qn_put(t, "text", qn_json_new_string_n(g->text != NULL ? g->text : "", g->len), &ok);
    qn_put(t, "token_ids", ids, &ok);
    qn_put_text(t, "finish_reason", quern_finish_name(g->finish), &ok);
    qn_put_count(t, "seed", c->sampling.sampling.seed, &ok);
    qn_put(t, "timings", qn_answer_timings(g, -1, &ok), &ok);
    qn_push(c->turns, t, &ok);
    return ok ? QUERN_OK : qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: a turn");
}

/* Shortens the sequence to what it shares with the new prompt; at least one token is left to run. */
static quern_status reuse_prefix(chat *c, const quern_ids *ids, size_t *n_reused, quern_error *err)
{
    size_t n = common_prefix(&c->cached, ids);
    n = n == ids->len && n > 0 ? n - 1 : n;
    if (c->sampling.sampling.repeat_penalty < 1 || c->sampling.sampling.repeat_penalty > 1) {
        n = 0; /* this penalty looks at the prompt it is given: it must be the whole one */
    }
    quern_status status = quern_sequence_truncate(c->sequence, n, err);
    c->cached.len = status == QUERN_OK ? n : 0;
    *n_reused = n;
    return status;
}

/* Answers the conversation, whose last message is the user's, and adds the answer to it. */
static quern_status answer(chat *c, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_generation g = {0};
    quern_prompt rendered = {0};
    quern_ids ids = {0};
    qn_json *messages = NULL;
    size_t n_reused = 0;
    QN_TRY(qn_conversation_to_json(&c->conversation, &messages, err));
    qn_chat_input input = {
        .messages = messages, .generation_prompt = true, .extra_json = qn_opts_text(&c->cli->opts, QN_OPT_TEMPLATE_KWARGS, NULL)};
    QN_TRY(qn_chat_encode(c->model, &input, &rendered, &ids, err));
    QN_TRY(reuse_prefix(c, &ids, &n_reused, err));
    qn_answer_request request = {.engine = c->engine,
                                 .sequence = c->sequence,
                                 .ids = ids.data + n_reused,
                                 .n_ids = ids.len - n_reused,
                                 .sampling = &c->sampling.sampling,
                                 .stream = !c->cli->json};
    status = qn_answer(c->cli, &request, &g, err);
    if (status == QUERN_ERROR_CONTEXT_FULL) {
        (void)qn_error_set(err, status, "the context is full: the conversation has %zu tokens, %zu fit. /reset begins anew, -c makes room",
                           ids.len, quern_engine_get_info(c->engine)->n_ctx);
    }
    QN_TRY(status);
    QN_TRY(remember_cached(c, &ids, &g.ids, err));
    QN_TRY(qn_conversation_add(&c->conversation, "assistant", g.text != NULL ? g.text : "", g.len, err));
    if (c->cli->json) {
        QN_TRY(add_turn_json(c, &g, ids.len, n_reused, err));
    }
    quern_generation_deinit(&c->last);
    c->last = g;
    c->last_reused = n_reused;
    g = (quern_generation){0};
done:
    quern_generation_deinit(&g);
    quern_prompt_deinit(&rendered);
    quern_ids_deinit(&ids);
    qn_json_free(messages);
    return status;
}

/* An answer and what stands below it. A failure that the next line can mend is told and forgotten. */
static quern_status answer_and_show(chat *c, quern_error *err)
{
    quern_status status = answer(c, err);
    const quern_generation *g = &c->last;
    bool interactive = qn_line_edit_is_interactive(c->editor);
    if (status == QUERN_ERROR_CONTEXT_FULL || status == QUERN_ERROR_INVALID || status == QUERN_ERROR_UNSUPPORTED) {
        qn_conversation_pop(&c->conversation); /* the message that could not be answered */
        if (!interactive) {
            return status;
        }
        qn_cli_warn(c->cli, "%s", err->message);
        return QUERN_OK;
    }
    if (status != QUERN_OK) {
        return status;
    }
    if (!c->cli->json) {
        (void)fputs(g->len > 0 && g->text[g->len - 1] == '\n' ? "" : "\n", c->cli->out.file);
        status = qn_cli_flush(err);
    }
    if (g->finish == QUERN_FINISH_CANCELLED) {
        qn_cli_note(c->cli, interactive ? "(stopped; Ctrl-C again leaves)" : "(stopped)");
    } else if (g->finish == QUERN_FINISH_LENGTH && !qn_opts_given(&c->cli->opts, QN_OPT_MAX_TOKENS)) {
        qn_cli_warn(c->cli, "the context of %zu tokens is full: /reset begins anew, -c makes room",
                    quern_engine_get_info(c->engine)->n_ctx);
    }
    if (c->cli->verbose) {
        qn_buf b;
        qn_buf_init(&b, 1024);
        qn_answer_describe(g, &b);
        qn_cli_note(c->cli, "%s (%zu tokens reused)", qn_buf_text(&b), c->last_reused);
        qn_buf_deinit(&b);
    }
    if (interactive && !c->cli->json) {
        (void)fputc('\n', c->screen->file);
    }
    return status;
}

/* ---- commands ---- */

typedef struct slash_command {
    const char *name, *argument, *help;
    quern_status (*run)(chat *c, const char *argument, quern_error *err);
} slash_command;

static quern_status slash_help(chat *c, const char *argument, quern_error *err);

static quern_status slash_system(chat *c, const char *argument, quern_error *err)
{
    if (argument[0] == '\0') {
        qn_cli_note(c->cli, "%s", c->conversation.system != NULL ? c->conversation.system : "(no system message)");
        return QUERN_OK;
    }
    quern_status status = qn_conversation_set_system(&c->conversation, strcmp(argument, "-") == 0 ? "" : argument, err);
    if (status == QUERN_OK) {
        qn_cli_note(c->cli, "%s", c->conversation.system != NULL ? "system message set" : "system message removed");
    }
    return status;
}

static quern_status save(chat *c, const char *path, bool replace, quern_error *err)
{
    if (path[0] == '\0') {
        qn_cli_warn(c->cli, "/save needs a file name");
        return QUERN_OK;
    }
    quern_status status = qn_conversation_save(&c->conversation, path, replace, err);
    if (status == QUERN_OK) {
        qn_cli_note(c->cli, "%zu messages saved in %s", c->conversation.n_messages, path);
    } else {
        qn_cli_warn(c->cli, "%s%s", err->message, !replace && qn_path_exists(path) ? "; /save! replaces it" : "");
    }
    return QUERN_OK;
}

static quern_status slash_save(chat *c, const char *argument, quern_error *err) { return save(c, argument, false, err); }
static quern_status slash_replace(chat *c, const char *argument, quern_error *err) { return save(c, argument, true, err); }

static quern_status slash_load(chat *c, const char *argument, quern_error *err)
{
    if (argument[0] == '\0') {
        qn_cli_warn(c->cli, "/load needs a file name");
    } else if (qn_conversation_load(&c->conversation, argument, err) != QUERN_OK) {
        qn_cli_warn(c->cli, "%s", err->message);
    } else {
        qn_cli_note(c->cli, "%zu messages from %s", c->conversation.n_messages, argument);
    }
    return QUERN_OK;
}

static quern_status slash_retry(chat *c, const char *argument, quern_error *err)
{
    (void)argument;
    if (strcmp(qn_conversation_last_role(&c->conversation), "assistant") == 0) {
        qn_conversation_pop(&c->conversation);
    }
    if (c->conversation.n_messages == 0) {
        qn_cli_warn(c->cli, "there is nothing to answer yet");
        return QUERN_OK;
    }
    if (c->sampling.sampling.temperature <= 0) {
        qn_cli_note(c->cli, "(temperature 0 gives the same answer again; begin with --temp 0.7 for others)");
    }
    qn_settings_next_seed(&c->sampling);
    return answer_and_show(c, err);
}

static quern_status slash_reset(chat *c, const char *argument, quern_error *err)
{
    (void)argument;
    (void)err;
    qn_conversation_clear(&c->conversation);
    qn_cli_note(c->cli, "forgotten%s", c->conversation.system != NULL ? "; the system message stays" : "");
    return QUERN_OK;
}

static quern_status slash_stats(chat *c, const char *argument, quern_error *err)
{
    (void)argument;
    (void)err;
    const quern_engine_info *e = quern_engine_get_info(c->engine);
    qn_number kv, rss;
    qn_buf b;
    qn_buf_init(&b, 4096);
    if (c->last.ids.len > 0) {
        qn_answer_describe(&c->last, &b);
        qn_cli_note(c->cli, "last answer: %s (%zu tokens reused)", qn_buf_text(&b), c->last_reused);
    }
    qn_buf_reset(&b);
    qn_settings_describe(&c->sampling.sampling, &b);
    qn_cli_note(c->cli, "context: %zu of %zu tokens, KV %s (%s)", quern_sequence_n_tokens(c->sequence), e->n_ctx,
                qn_format_bytes(kv, e->plan.kv), qn_settings_kv_name(e->kv_type));
    qn_cli_note(c->cli, "sampling: %s", qn_buf_text(&b));
    qn_cli_note(c->cli, "memory: %s at most so far", qn_format_bytes(rss, qn_peak_rss_bytes()));
    qn_buf_deinit(&b);
    return QUERN_OK;
}

static quern_status slash_exit(chat *c, const char *argument, quern_error *err)
{
    (void)argument;
    (void)err;
    c->leave = true;
    return QUERN_OK;
}

static const slash_command slash_commands[] = {
    {"/help", "", "this list", slash_help},
    {"/system", "[TEXT]", "show or set the system message (- removes it)", slash_system},
    {"/retry", "", "answer the last message again", slash_retry},
    {"/reset", "", "forget the conversation", slash_reset},
    {"/save", "FILE", "keep the conversation (/save! replaces a file)", slash_save},
    {"/save!", NULL, NULL, slash_replace},
    {"/load", "FILE", "go on with a kept conversation", slash_load},
    {"/stats", "", "speed, context, memory", slash_stats},
    {"/exit", "", "leave (or Ctrl-D)", slash_exit},
    {"/quit", NULL, NULL, slash_exit},
    {"/bye", NULL, NULL, slash_exit},
};
enum { N_SLASH = sizeof slash_commands / sizeof slash_commands[0] };

static quern_status slash_help(chat *c, const char *argument, quern_error *err)
{
    (void)argument;
    (void)err;
    for (size_t i = 0; i < N_SLASH; i++) {
        if (slash_commands[i].help != NULL) {
            qn_cli_note(c->cli, "  %-9s%-8s%s", slash_commands[i].name, slash_commands[i].argument, slash_commands[i].help);
        }
    }
    qn_cli_note(c->cli, "  %-17s%s", "\"\"\"", "begins and ends a message of several lines; \\ at the end of a line goes on, too");
    qn_cli_note(c->cli, "  %-17s%s", "//...", "a message that begins with /");
    qn_cli_note(c->cli, "  %-17s%s", "Ctrl-C", "stops the answer");
    return QUERN_OK;
}

static quern_status run_slash(chat *c, const char *line, quern_error *err)
{
    size_t n = strcspn(line, " \t");
    const char *argument = line + n + strspn(line + n, " \t");
    const char *names[N_SLASH];
    char word[64];
    for (size_t i = 0; i < N_SLASH; i++) {
        names[i] = slash_commands[i].name;
        if (strlen(names[i]) == n && memcmp(names[i], line, n) == 0) {
            return slash_commands[i].run(c, argument, err);
        }
    }
    (void)snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), line);
    const char *nearest = qn_opts_nearest(word, names, N_SLASH);
    qn_cli_warn(c->cli, "no command %s%s%s; /help lists them", word, nearest != NULL ? ", did you mean " : "",
                nearest != NULL ? nearest : "");
    return QUERN_OK;
}

/* ---- input ---- */

/* Reads one line with the first Ctrl-C kept from ending the program. */
static qn_line_result read_line(chat *c, const char *prompt, const char **line, size_t *len)
{
    qn_signals_begin_stoppable();
    qn_line_result result = qn_line_edit_read(c->editor, prompt, line, len);
    bool stopped = qn_signals_stopped();
    qn_signals_end_stoppable();
    return stopped && result != QN_LINE_READ ? QN_LINE_INTERRUPTED : result;
}

static bool ends_with(const qn_buf *b, const char *end)
{
    size_t n = strlen(end);
    return b->len >= n && memcmp(b->data + b->len - n, end, n) == 0;
}

/* One message, of several lines after """ or a backslash at the end. */
static qn_line_result read_message(chat *c, qn_buf *message)
{
    const char *line;
    size_t len;
    qn_buf_reset(message);
    qn_line_result result = read_line(c, "> ", &line, &len);
    if (result != QN_LINE_READ) {
        return result;
    }
    bool quoted = len >= 3 && memcmp(line, "\"\"\"", 3) == 0;
    (void)qn_buf_append(message, quoted ? line + 3 : line, quoted ? len - 3 : len);
    while (quoted ? !ends_with(message, "\"\"\"") : ends_with(message, "\\")) {
        message->len -= quoted ? 0 : 1;
        result = read_line(c, ". ", &line, &len);
        if (result == QN_LINE_INTERRUPTED) {
            return result;
        }
        if (result == QN_LINE_END) {
            return QN_LINE_READ; /* what there is, is the message */
        }
        if (!qn_buf_append_char(message, '\n') || !qn_buf_append(message, line, len)) {
            return QN_LINE_END;
        }
    }
    if (quoted) {
        message->len -= 3;
        message->data[message->len] = '\0';
    }
    return QN_LINE_READ;
}

static bool is_blank(const qn_buf *b) { return strspn(qn_buf_text(b), " \t\n") == b->len; }

static quern_status take_message(chat *c, const qn_buf *message, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *text = qn_buf_text(message);
    if (memchr(text, '\n', message->len) == NULL) {
        qn_line_edit_remember(c->editor, text);
    }
    if (text[0] == '/' && text[1] != '/') {
        return run_slash(c, text, err);
    }
    size_t skip = text[0] == '/' ? 1 : 0;
    QN_TRY(qn_conversation_add(&c->conversation, "user", text + skip, message->len - skip, err));
    qn_settings_next_seed(&c->sampling);
    status = answer_and_show(c, err);
done:
    return status;
}

static quern_status converse(chat *c, quern_error *err)
{
    quern_status status = QUERN_OK;
    int interrupts = 0; /* in a row; one that stopped an answer counts */
    bool interactive = qn_line_edit_is_interactive(c->editor);
    qn_buf message;
    qn_buf_init(&message, (size_t)64 << 20);
    while (!c->leave) {
        qn_line_result result = read_message(c, &message);
        if (result == QN_LINE_INTERRUPTED) {
            if (!interactive || ++interrupts == 2) {
                QN_FAIL(err, QUERN_ERROR_CANCELLED, "interrupted");
            }
            (void)fputc('\n', c->screen->file);
            qn_cli_note(c->cli, "(Ctrl-C again or Ctrl-D leaves)");
            continue;
        }
        interrupts = 0;
        if (result == QN_LINE_END) {
            if (interactive) {
                (void)fputc('\n', c->screen->file);
            }
            break;
        }
        if (!is_blank(&message)) {
            c->last.finish = QUERN_FINISH_STOP;
            QN_TRY(take_message(c, &message, err));
            interrupts = interactive && c->last.finish == QUERN_FINISH_CANCELLED ? 1 : 0;
        }
    }
done:
    qn_buf_deinit(&message);
    return status;
}

/* ---- beginning and end ---- */

static quern_status open_chat(chat *c, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *path = NULL;
    quern_engine_options options;
    uint64_t begin = qn_clock_ns();
    QN_TRY(qn_settings_check_answer(c->cli, err));
    QN_TRY(qn_settings_engine(c->cli, &options, err));
    QN_TRY(qn_model_ref_take(c->cli, QN_DEMO_NAME, &path, err));
    if (c->cli->opts.n_positional > 0) {
        qn_cli_hint(c->cli, "a single question: quern run MODEL \"...\"");
        QN_FAIL(err, QUERN_ERROR_USAGE, "too many arguments: '%s'", c->cli->opts.positional[0]);
    }
    c->memory.before_model = qn_private_memory_bytes();
    QN_TRY(qn_model_ref_open(c->cli, path, 0, &c->model, err));
    c->memory.after_model = qn_model_ref_copies(c->cli) ? 0 : qn_private_memory_bytes(); /* copied weights would count as tokenizer */
    if (quern_model_get_template_source(c->model) == NULL) {
        qn_cli_hint(c->cli, "quern run --raw MODEL \"...\" continues a text");
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: the model has no chat template, so it cannot chat", path);
    }
    QN_TRY(qn_settings_sampling(c->cli, c->model, &c->sampling, err));
    qn_settings_warn_length(c->cli, c->model, options.n_ctx);
    QN_TRY(qn_settings_create_engine(c->cli, c->model, &options, &c->engine, NULL, err));
    QN_TRY(quern_sequence_create(&c->sequence, c->engine, err));
    QN_TRY(qn_conversation_set_system(&c->conversation, qn_opts_text(&c->cli->opts, QN_OPT_SYSTEM, NULL), err));
    c->load_s = qn_clock_seconds(begin, qn_clock_ns());
done:
    qn_free(path);
    return status;
}

static quern_status open_editor(chat *c, quern_error *err)
{
    char *home = isatty(STDIN_FILENO) == 1 ? qn_data_folder() : NULL; /* what is piped in is nobody's typing */
    char *history = home != NULL && qn_dir_create(home, NULL) == QUERN_OK ? qn_path_join(home, "chat_history") : NULL;
    c->screen = c->cli->json || !c->cli->out.is_terminal ? &c->cli->err : &c->cli->out;
    c->editor = qn_line_edit_create(c->screen, history);
    qn_free(history);
    qn_free(home);
    return c->editor != NULL ? QUERN_OK : qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: the line editor");
}

static void greet(chat *c)
{
    const quern_model_info *m = quern_model_get_info(c->model);
    const quern_engine_info *e = quern_engine_get_info(c->engine);
    qn_number params, load;
    qn_buf b;
    qn_buf_init(&b, 4096);
    qn_settings_describe(&c->sampling.sampling, &b);
    if (qn_line_edit_is_interactive(c->editor) && !c->cli->quiet) {
        (void)fprintf(c->screen->file, "%s%s%s\n", qn_term_style(c->screen, QN_STYLE_BOLD), m->name,
                      qn_term_style(c->screen, QN_STYLE_NONE));
        (void)fflush(c->screen->file);
    }
    if (qn_line_edit_is_interactive(c->editor) || c->cli->verbose) {
        qn_cli_note(c->cli, "%s, %s parameters, %s, context %zu, loaded in %s", m->architecture, qn_format_count(params, m->n_parameters),
                    m->weights, e->n_ctx, qn_format_seconds(load, c->load_s));
        qn_cli_note(c->cli, "%s", qn_buf_text(&b));
    }
    if (qn_line_edit_is_interactive(c->editor) && !c->cli->quiet) {
        qn_cli_note(c->cli, "/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves");
        (void)fputc('\n', c->screen->file);
    }
    qn_buf_deinit(&b);
}

/* failure: what ended the conversation early, or NULL. */
static quern_status write_json(chat *c, const quern_error *failure, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool ok = true;
    qn_json *messages = NULL, *doc = NULL;
    QN_TRY(qn_conversation_to_json(&c->conversation, &messages, err));
    doc = qn_json_new_object();
    qn_put_text(doc, "schema", "quern.chat/1", &ok);
    qn_put_text(doc, "model", quern_model_get_info(c->model)->name, &ok);
    qn_put(doc, "messages", messages, &ok);
    qn_put(doc, "turns", c->turns, &ok);
    c->turns = NULL;
    if (failure != NULL) {
        qn_json *e = qn_json_new_object();
        qn_put_text(e, "status", quern_status_name(failure->status), &ok);
        qn_put_text(e, "message", failure->message, &ok);
        qn_put_count(e, "exit_code", (uint64_t)quern_status_exit_code(failure->status), &ok);
        qn_put(doc, "error", e, &ok);
    }
    qn_put_measured(doc, "load_s", c->load_s, &ok);
    qn_put(doc, "memory", qn_answer_memory(c->engine, &c->memory, &ok), &ok);
    qn_put_count(doc, "peak_rss_bytes", qn_peak_rss_bytes(), &ok);
    status = qn_cli_write_json(c->cli, doc, ok, err);
done:
    return status;
}

quern_status qn_cmd_chat(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    chat c = {.cli = cli};
    QN_TRY(open_chat(&c, err));
    QN_TRY(open_editor(&c, err));
    if (cli->json) {
        c.turns = qn_json_new_array();
    }
    greet(&c);
    status = converse(&c, err);
    bool ended = status == QUERN_OK || status == QUERN_ERROR_CANCELLED;
    if (cli->json && (ended || qn_json_length(c.turns) > 0)) { /* the turns that went well are not lost to one that did not */
        quern_error why = {0};
        quern_status written = write_json(&c, ended ? NULL : err, &why);
        if (written != QUERN_OK) {
            *err = why;
            status = written;
        }
    }
done:
    qn_line_edit_destroy(c.editor);
    qn_conversation_deinit(&c.conversation);
    qn_json_free(c.turns);
    quern_generation_deinit(&c.last);
    quern_ids_deinit(&c.cached);
    quern_sequence_destroy(c.sequence);
    quern_engine_destroy(c.engine);
    quern_model_close(c.model);
    qn_settings_sampling_deinit(&c.sampling);
    return status;
}
