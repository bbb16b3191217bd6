/* cmd_help.c - `quern help`, made of the two tables; also the table of commands itself. */
#include <string.h>

#include "cli.h"
#include "quern/quern.h"

static const qn_command commands[QN_COMMAND_COUNT] = {
#define QN_COMMAND(id, name, fn, synopsis, summary, example) {name, fn, synopsis, summary, example},
#include "commands.inc"
#undef QN_COMMAND
};

const qn_command *qn_command_get(qn_command_id id) { return &commands[id]; }

bool qn_command_find(const char *name, qn_command_id *id)
{
    for (int i = 0; i < QN_COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            *id = (qn_command_id)i;
            return true;
        }
    }
    return false;
}

const char *qn_command_nearest(const char *name)
{
    const char *names[QN_COMMAND_COUNT];
    for (int i = 0; i < QN_COMMAND_COUNT; i++) {
        names[i] = commands[i].name;
    }
    return qn_opts_nearest(name, names, QN_COMMAND_COUNT);
}

static const char *const group_titles[QN_GROUP_COUNT] = {"Input and output", "Prompt", "Quantization", "Measurement", "Answer",
                                                         "Sampling",         "Model",  "Engine",       "General",     NULL};

/* What no option row can say, per command. */
static const char *notes_of(qn_command_id id)
{
    switch (id) {
    case QN_COMMAND_RUN:
        return "With one argument, it is MODEL if it has no white space and exists, is a stored name or demo, contains / or :,\n"
               "or ends in .gguf; the prompt then comes from stdin. Otherwise it is the PROMPT for demo.\n"
               "stdin that is no terminal is appended to PROMPT.\n"
               "Ctrl-C stops the answer and keeps what there is (exit 130); twice leaves at once.";
    case QN_COMMAND_CHAT:
        return "Lines that begin with / are commands, /help lists them. \"\"\" begins and ends a message of several lines.\n"
               "Ctrl-C stops the answer, Ctrl-D leaves. The line history is kept in QUERN_HOME/chat_history.";
    case QN_COMMAND_TOKENIZE:
        return "The text is TEXT, the file of -f, or stdin. Text that spells a special token becomes that token, unless\n"
               "--no-special.";
    case QN_COMMAND_QUANTIZE:
        return "Writes DIR/gguf/NAME-TYPE.gguf, DIR/mlx/KIND-gGROUP/ and DIR/manifest.json. Nothing stands under its final name\n"
               "before it is complete; an interrupted run leaves no output.";
    case QN_COMMAND_BENCH:
        return "Figures are medians of -r samples; +- is half the distance between the largest and the smallest, as a part of the\n"
               "median. A share of a limit, or a gain, is given where that is at most 10 %; one sample (-r 1) cannot tell, and its\n"
               "share may be noise. The limit is the time that reading the bytes or computing the products takes at least,\n"
               "whichever is longer, at the machine's speed right before and right after; where these are more than 10 % apart\n"
               "there is no share.";
    case QN_COMMAND_INSPECT:
        return "FILE: a GGUF, a model folder, a single safetensors file, config.json, tokenizer.json or a manifest.json.";
    default: return NULL;
    }
}

void qn_help_print_short(qn_cli *cli)
{
    const char *bold = qn_term_style(&cli->out, QN_STYLE_BOLD), *dim = qn_term_style(&cli->out, QN_STYLE_DIM);
    const char *end = qn_term_style(&cli->out, QN_STYLE_NONE);
    (void)printf("%squern %s%s  quantize, run and measure code models\n\n", bold, quern_version(), end);
    static const char *const lines[][2] = {
        {"quern run \"Write a Python function that ...\"", "ask the built-in demo model"},
        {"quern run model.gguf \"...\"", "ask a model of yours"},
        {"quern chat model.gguf", "talk with it"},
        {"quern quantize ./Qwen3-8B -o out", "make a checkpoint small"},
        {"quern bench model.gguf", "how fast is it here?"},
        {"quern doctor", "what can this machine do?"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        (void)printf("  %-48s%s%s%s\n", lines[i][0], dim, lines[i][1], end);
    }
    (void)printf("\nquern help lists all commands, quern help COMMAND says everything about one.\n");
}

static void print_all(qn_cli *cli)
{
    const char *bold = qn_term_style(&cli->out, QN_STYLE_BOLD), *dim = qn_term_style(&cli->out, QN_STYLE_DIM);
    const char *end = qn_term_style(&cli->out, QN_STYLE_NONE);
    (void)printf("%squern COMMAND [OPTIONS]%s\n\n", bold, end);
    for (int i = 0; i < QN_COMMAND_COUNT; i++) {
        const qn_command *c = &commands[i];
        bool here = c->run != NULL;
        (void)printf("  %s%-12s%s%s%s\n", here ? "" : dim, c->name, c->summary, here ? "" : "  (not in this version)", here ? "" : end);
    }
    (void)printf("\n"
                 "MODEL is a .gguf file (the first shard of a split one), a Hugging Face or MLX folder, a stored name, or demo\n"
                 "(built in). Numbers take suffixes: 32k, 8GiB (k, m, g and KiB ... are powers of 1024; kB, MB, GB of 1000).\n"
                 "Settings: command line, then QUERN_* (QUERN_THREADS=4), then $XDG_CONFIG_HOME/quern/config (threads = 4).\n"
                 "Exit codes: 0 done, 1 negative verdict, 2 usage or not available, 3 bad input, 4 does not fit,\n"
                 "5 input/output, 130 interrupted.\n");
}

/* "  -n, --max-tokens N" */
static void format_option(const qn_opt_row *row, qn_buf *out)
{
    (void)qn_buf_append_str(out, "  ");
    if (row->short_name[0] != '\0') {
        (void)qn_buf_printf(out, "-%s, ", row->short_name);
    } else {
        (void)qn_buf_append_str(out, "    ");
    }
    (void)qn_buf_printf(out, "--%s%s%s", row->name, row->value[0] != '\0' ? " " : "", row->value);
}

enum { HELP_COLUMN = 34 };

/* Words of text from column HELP_COLUMN on, the cursor being at `at`. */
static void print_wrapped(const char *text, size_t at, size_t columns)
{
    size_t column = at;
    if (at + 2 > HELP_COLUMN) {
        (void)putchar('\n');
        column = 0;
    }
    (void)printf("%*s", (int)(HELP_COLUMN - column), "");
    column = HELP_COLUMN;
    while (*text != '\0') {
        size_t n = strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + n > columns) {
            (void)printf("\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        column += (size_t)printf("%s%.*s", column > HELP_COLUMN ? " " : "", (int)n, text);
        text += n + strspn(text + n, " ");
    }
    (void)putchar('\n');
}

void qn_help_print_command(qn_cli *cli, qn_command_id id)
{
    const qn_command *c = &commands[id];
    const char *bold = qn_term_style(&cli->out, QN_STYLE_BOLD), *dim = qn_term_style(&cli->out, QN_STYLE_DIM);
    const char *end = qn_term_style(&cli->out, QN_STYLE_NONE);
    size_t columns = qn_term_columns(&cli->out);
    columns = !cli->out.is_terminal ? 110 : columns > 120 ? 120 : columns < 60 ? 60 : columns;
    (void)printf("%squern %s %s%s[OPTIONS]%s\n", bold, c->name, c->synopsis, c->synopsis[0] != '\0' ? " " : "", end);
    (void)printf("%s%s\n\n  %s\n", c->summary, c->run == NULL ? " (not in this version)" : "", c->example);
    const char *notes = notes_of(id);
    if (notes != NULL) {
        (void)printf("\n%s\n", notes);
    }
    for (int g = 0; g < QN_GROUP_COUNT && c->run != NULL; g++) {
        bool titled = g == QN_GROUP_ONCE; /* the last group goes on under the heading before it */
        for (int i = 0; i < QN_OPT_COUNT; i++) {
            const qn_opt_row *row = qn_opts_get_row((qn_opt_id)i);
            if (row->group != (qn_opt_group)g || !qn_opts_takes(id, row->id)) {
                continue;
            }
            if (!titled) {
                (void)printf("\n%s%s%s\n", dim, group_titles[g], end);
                titled = true;
            }
            qn_buf left;
            qn_buf_init(&left, 1024);
            format_option(row, &left);
            (void)printf("%s", qn_buf_text(&left));
            print_wrapped(row->help, left.len, columns);
            qn_buf_deinit(&left);
        }
    }
}

static qn_json *option_json(const qn_opt_row *row, bool *ok)
{
    qn_json *o = qn_json_new_object();
    qn_put_text(o, "name", row->name, ok);
    qn_put_text(o, "short", row->short_name[0] != '\0' ? row->short_name : NULL, ok);
    qn_put_text(o, "alias", row->alias[0] != '\0' ? row->alias : NULL, ok);
    qn_put_text(o, "value", row->value[0] != '\0' ? row->value : NULL, ok);
    qn_put(o, "repeatable", qn_json_new_bool(row->kind == QN_KIND_LIST), ok);
    qn_put_text(o, "help", row->help, ok);
    return o;
}

static qn_json *command_json(qn_command_id id, bool *ok)
{
    const qn_command *c = &commands[id];
    qn_json *o = qn_json_new_object(), *options = qn_json_new_array();
    qn_put_text(o, "name", c->name, ok);
    qn_put_text(o, "synopsis", c->synopsis, ok);
    qn_put_text(o, "summary", c->summary, ok);
    qn_put_text(o, "example", c->example, ok);
    qn_put(o, "available", qn_json_new_bool(c->run != NULL), ok);
    for (int i = 0; i < QN_OPT_COUNT && c->run != NULL; i++) {
        const qn_opt_row *row = qn_opts_get_row((qn_opt_id)i);
        if (qn_opts_takes(id, row->id)) {
            qn_push(options, option_json(row, ok), ok);
        }
    }
    qn_put(o, "options", options, ok);
    return o;
}

quern_status qn_cmd_help(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_command_id id = QN_COMMAND_COUNT;
    if (cli->opts.n_positional > 1) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "one command at a time");
    }
    if (cli->opts.n_positional == 1 && !qn_command_find(cli->opts.positional[0], &id)) {
        const char *nearest = qn_command_nearest(cli->opts.positional[0]);
        qn_cli_hint(cli, "%s%s", nearest != NULL ? "did you mean: quern help " : "quern help lists the commands",
                    nearest != NULL ? nearest : "");
        QN_FAIL(err, QUERN_ERROR_USAGE, "no such command: %s", cli->opts.positional[0]);
    }
    if (cli->json) {
        bool ok = true;
        qn_json *doc = qn_json_new_object(), *list = qn_json_new_array();
        for (int i = 0; i < QN_COMMAND_COUNT; i++) {
            if (id == QN_COMMAND_COUNT || id == (qn_command_id)i) {
                qn_push(list, command_json((qn_command_id)i, &ok), &ok);
            }
        }
        qn_put_text(doc, "schema", "quern.help/1", &ok);
        qn_put_text(doc, "version", quern_version(), &ok);
        qn_put(doc, "commands", list, &ok);
        QN_TRY(qn_cli_write_json(cli, doc, ok, err));
    } else if (id == QN_COMMAND_COUNT) {
        print_all(cli);
    } else {
        qn_help_print_command(cli, id);
    }
done:
    return status;
}
