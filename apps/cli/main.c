/* main.c - the program: finds the command, reads the settings, runs it, and turns its end into an exit code. */
#include <string.h>

#include "cli.h"
#include "config_file.h"
#include "quern/quern.h"
#include "signals.h"

/* The error document of --json, on stdout; the message itself has gone to stderr. */
static void write_error_json(qn_cli *cli, const quern_error *e)
{
    bool ok = true;
    quern_error ignored;
    qn_json *doc = qn_json_new_object(), *error = qn_json_new_object();
    qn_put_text(error, "status", quern_status_name(e->status), &ok);
    qn_put_text(error, "message", e->message, &ok);
    qn_put_count(error, "exit_code", (uint64_t)quern_status_exit_code(e->status), &ok);
    if (cli->hint[0] != '\0') {
        qn_put_text(error, "hint", cli->hint, &ok);
    }
    qn_put_text(doc, "schema", "quern.error/1", &ok);
    qn_put(doc, "error", error, &ok);
    (void)qn_cli_write_json(cli, doc, ok, &ignored);
}

/* Reports a failure and gives the exit code. */
static int report(qn_cli *cli, const char *name, const quern_error *e)
{
    (void)fflush(stdout);
    const char *bad = qn_term_style(&cli->err, QN_STYLE_BAD), *dim = qn_term_style(&cli->err, QN_STYLE_DIM);
    const char *end = qn_term_style(&cli->err, QN_STYLE_NONE);
    const char *message = e->message[0] != '\0' ? e->message : quern_status_text(e->status);
    (void)fprintf(stderr, "%squern%s%s:%s %s\n", bad, name[0] != '\0' ? " " : "", name, end, message);
    if (cli->hint[0] != '\0') {
        (void)fprintf(stderr, "%s  %s%s\n", dim, cli->hint, end);
    }
    if (cli->json && !cli->json_written) {
        write_error_json(cli, e);
    }
    return quern_status_exit_code(e->status);
}

/* --json must work even where the options cannot be parsed. */
static bool wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--json", 6) == 0 && (argv[i][6] == '\0' || argv[i][6] == '=')) {
            return true;
        }
    }
    return false;
}

static quern_status print_version(qn_cli *cli, quern_error *err)
{
    if (cli->json) {
        bool ok = true;
        qn_json *doc = qn_json_new_object();
        qn_put_text(doc, "schema", "quern.version/1", &ok);
        qn_put_text(doc, "version", quern_version(), &ok);
        return qn_cli_write_json(cli, doc, ok, err);
    }
    (void)printf("quern %s\n", quern_version());
    return qn_cli_flush(err);
}

/* quern, quern --json, quern --help, quern --version; and words that are no command. *at is the place of a real command, else 0. */
static quern_status run_without_command(qn_cli *cli, int argc, char **argv, int *at, quern_error *err)
{
    int i = 1;
    while (i < argc && strcmp(argv[i], "--json") == 0) {
        i++;
    }
    *at = 0;
    const char *word = i < argc ? argv[i] : "--help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        return print_version(cli, err);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        if (cli->json) {
            return qn_cmd_help(cli, err);
        }
        qn_help_print_short(cli);
        return qn_cli_flush(err);
    }
    qn_command_id id;
    if (qn_command_find(word, &id)) {
        *at = i;
        return QUERN_OK;
    }
    if (word[0] == '-') {
        qn_cli_hint(cli, "options come after the command: quern COMMAND [OPTIONS]; quern help lists the commands");
        return qn_error_set(err, QUERN_ERROR_USAGE, "no command before %s", word);
    }
    const char *nearest = qn_command_nearest(word);
    if (nearest != NULL) {
        qn_cli_hint(cli, "did you mean: quern %s", nearest);
    } else if (strchr(word, '/') != NULL || strchr(word, '.') != NULL) {
        qn_cli_hint(cli, "to ask a model: quern run %s \"...\"", word);
    } else {
        qn_cli_hint(cli, "quern help lists the commands");
    }
    return qn_error_set(err, QUERN_ERROR_USAGE, "no such command: %s", word);
}

/* What `quern help COMMAND` says. */
static quern_status print_help(qn_cli *cli, qn_command_id id, quern_error *err)
{
    if (!cli->json) {
        qn_help_print_command(cli, id);
        return QUERN_OK;
    }
    cli->opts.n_positional = 1;
    cli->opts.positional[0] = qn_command_get(id)->name;
    return qn_cmd_help(cli, err);
}

static quern_status run_command(qn_cli *cli, qn_command_id id, int argc, char **argv, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_command *command = qn_command_get(id);
    if (command->run == NULL) {
        for (int i = 0; i < argc; i++) {
            if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
                QN_TRY(print_help(cli, id, err));
                goto done;
            }
        }
        qn_cli_hint(cli, "quern help lists what is");
        QN_FAIL(err, QUERN_ERROR_UNAVAILABLE, "not available in this version yet");
    }
    QN_TRY(qn_opts_parse(&cli->opts, argc, argv, err));
    cli->json = cli->json || qn_opts_flag(&cli->opts, QN_OPT_JSON);
    if (qn_opts_flag(&cli->opts, QN_OPT_HELP)) {
        QN_TRY(print_help(cli, id, err));
        goto done;
    }
    if (id != QN_COMMAND_HELP) { /* help must work whatever the configuration says */
        QN_TRY(qn_opts_read_environment(&cli->opts, err));
        QN_TRY(qn_config_file_read(&cli->opts, err));
    }
    cli->quiet = qn_opts_flag(&cli->opts, QN_OPT_QUIET);
    cli->verbose = qn_opts_flag(&cli->opts, QN_OPT_VERBOSE);
    QN_TRY(command->run(cli, err));
    status = qn_cli_flush(err);
done:
    return status;
}

int main(int argc, char **argv)
{
    qn_cli *cli = qn_calloc(1, sizeof *cli); /* the whole context is too large for comfort on the stack */
    if (cli == NULL) {
        (void)fprintf(stderr, "quern: out of memory\n");
        return quern_status_exit_code(QUERN_ERROR_MEMORY);
    }
    qn_term_init(&cli->out, stdout);
    qn_term_init(&cli->err, stderr);
    qn_signals_install();
    cli->json = wants_json(argc, argv);

    quern_error err = {0};
    int at = 0;
    const char *name = "";
    quern_status status = run_without_command(cli, argc, argv, &at, &err);
    if (status == QUERN_OK && at > 0) {
        qn_command_id id;
        (void)qn_command_find(argv[at], &id);
        name = argv[at];
        qn_opts_init(&cli->opts, id);
        status = run_command(cli, id, argc - at - 1, argv + at + 1, &err);
        if (status == QUERN_ERROR_USAGE && cli->hint[0] == '\0') {
            qn_cli_hint(cli, "quern help %s says what it takes", name);
        }
    }
    err.status = status;
    int code = status == QUERN_OK ? 0 : report(cli, name, &err);
    qn_opts_deinit(&cli->opts);
    qn_free(cli);
    return code;
}
