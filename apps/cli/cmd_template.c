/* cmd_template.c - quern template: the prompt that a chat template makes of messages, or any Jinja template of any variables. */
#include <string.h>

#include "model_ref.h"
#include "prompt_input.h"
#include "quern/chat.h"

/* Names whose text is the template author's, not a user's. */
static const char *const trusted_names[] = {"bos_token", "eos_token", "unk_token",  "pad_token",
                                            "sep_token", "cls_token", "mask_token", NULL};

static quern_status open_template(const char *path, quern_template **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *source = NULL;
    size_t len = 0;
    QN_TRY(qn_input_read(path, &source, &len, err));
    QN_TRY(quern_template_create(out, source, len, path, err));
done:
    qn_free(source);
    return status;
}

/* The prompt alone on stdout; on a terminal the template's own text stands out from the content. */
static void print_prompt(qn_cli *cli, const quern_prompt *p)
{
    const char *accent = qn_term_style(&cli->out, QN_STYLE_ACCENT), *end = qn_term_style(&cli->out, QN_STYLE_NONE);
    for (size_t i = 0; i < p->n_segments; i++) {
        const quern_segment *s = &p->segments[i];
        (void)fputs(s->trusted ? accent : "", stdout);
        qn_term_write(&cli->out, s->text, s->len);
        (void)fputs(s->trusted ? end : "", stdout);
    }
    if (cli->out.is_terminal && p->len > 0 && p->text[p->len - 1] != '\n') {
        (void)fputc('\n', stdout);
    }
}

static quern_status write_result(qn_cli *cli, const quern_prompt *p, const quern_ids *ids, quern_error *err)
{
    if (!cli->json) {
        print_prompt(cli, p);
        if (ids != NULL) {
            qn_cli_note(cli, "%s%zu tokens", cli->out.is_terminal ? "" : "prompt: ", ids->len);
        }
        return QUERN_OK;
    }
    bool ok = true;
    qn_json *doc = qn_json_new_object();
    qn_put_text(doc, "schema", "quern.template/1", &ok);
    qn_put(doc, "prompt", qn_json_new_string_n(p->text, p->len), &ok);
    if (ids != NULL) {
        qn_json *list = qn_json_new_array();
        for (size_t i = 0; i < ids->len; i++) {
            qn_push(list, qn_json_new_int(ids->data[i]), &ok);
        }
        qn_put(doc, "ids", list, &ok);
    }
    return qn_cli_write_json(cli, doc, ok, err);
}

/* Without messages: the template itself. */
static quern_status write_source(qn_cli *cli, const quern_model *model, quern_error *err)
{
    const char *source = quern_model_get_template_source(model);
    if (source == NULL) {
        return qn_error_set(err, QUERN_ERROR_UNSUPPORTED, "%s: the model has no chat template", quern_model_get_info(model)->name);
    }
    if (cli->json) {
        bool ok = true;
        qn_json *doc = qn_json_new_object();
        qn_put_text(doc, "schema", "quern.template/1", &ok);
        qn_put_text(doc, "template", source, &ok);
        return qn_cli_write_json(cli, doc, ok, err);
    }
    qn_term_write(&cli->out, source, strlen(source));
    (void)fputc('\n', stdout);
    qn_cli_note(cli, "this is the template itself; --messages FILE renders it");
    return QUERN_OK;
}

/* --template-file F --context C: no model, no tokenizer. */
static quern_status render_file(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    quern_template *t = NULL;
    quern_prompt prompt = {0};
    char *context = NULL;
    size_t len = 0;
    const char *path = qn_opts_text(o, QN_OPT_CONTEXT, NULL);
    QN_TRY(open_template(qn_opts_text(o, QN_OPT_TEMPLATE_FILE, NULL), &t, err));
    QN_TRY(qn_input_read(path, &context, &len, err));
    status = quern_template_render(t, context, len, trusted_names, 0, NULL, &prompt, err);
    if (status != QUERN_OK) {
        qn_error_prefix(err, "%s", qn_opts_text(o, QN_OPT_TEMPLATE_FILE, ""));
        goto done;
    }
    QN_TRY(write_result(cli, &prompt, NULL, err));
done:
    quern_prompt_deinit(&prompt);
    quern_template_destroy(t);
    qn_free(context);
    return status;
}

static quern_status render_model(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    const char *tools_path = qn_opts_text(o, QN_OPT_TOOLS, NULL), *messages_path = qn_opts_text(o, QN_OPT_MESSAGES, NULL);
    const char *template_path = qn_opts_text(o, QN_OPT_TEMPLATE_FILE, NULL);
    char *path = NULL;
    quern_model *model = NULL;
    quern_template *t = NULL;
    qn_json *messages = NULL, *tools = NULL;
    quern_prompt prompt = {0};
    quern_ids ids = {0};
    QN_TRY(qn_model_ref_take(cli, NULL, &path, err));
    if (o->n_positional > 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "too many arguments: '%s'", o->positional[0]);
    }
    QN_TRY(qn_model_ref_open(cli, path, QN_OPEN_VOCABULARY_ONLY, &model, err));
    if (messages_path == NULL) {
        status = write_source(cli, model, err);
        goto done;
    }
    if (tools_path != NULL) {
        QN_TRY(qn_input_read_json(tools_path, QN_JSON_ARRAY, "an array of tools", &tools, err));
    }
    QN_TRY(qn_messages_read(messages_path, &messages, &tools, err));
    if (template_path != NULL) {
        QN_TRY(open_template(template_path, &t, err));
    }
    qn_chat_input input = {.messages = messages,
                           .tools = tools,
                           .generation_prompt = !qn_opts_flag(o, QN_OPT_NO_GENERATION_PROMPT),
                           .extra_json = qn_opts_text(o, QN_OPT_TEMPLATE_KWARGS, NULL),
                           .chat_template = t};
    QN_TRY(qn_chat_encode(model, &input, &prompt, &ids, err));
    QN_TRY(write_result(cli, &prompt, &ids, err));
done:
    quern_prompt_deinit(&prompt);
    quern_ids_deinit(&ids);
    qn_json_free(messages);
    qn_json_free(tools);
    quern_template_destroy(t);
    quern_model_close(model);
    qn_free(path);
    return status;
}

quern_status qn_cmd_template(qn_cli *cli, quern_error *err)
{
    const qn_opts *o = &cli->opts;
    bool file = qn_opts_given(o, QN_OPT_TEMPLATE_FILE), context = qn_opts_given(o, QN_OPT_CONTEXT);
    if (context && !file) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "--context belongs to --template-file FILE");
    }
    if (context && (o->n_positional > 0 || qn_opts_given(o, QN_OPT_MESSAGES) || qn_opts_given(o, QN_OPT_TOOLS))) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "--context holds all variables: no MODEL, --messages or --tools beside it");
    }
    if (file && !context && o->n_positional == 0 && !qn_model_ref_given(cli)) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "--template-file needs --context FILE, or MODEL and --messages FILE");
    }
    return context ? render_file(cli, err) : render_model(cli, err);
}
