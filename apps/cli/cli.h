/* cli.h - what every command gets and gives: the context of one call, and the table of commands.
 *
 * A command returns a status and an error; main prints the error, chooses the exit code and writes the JSON error document.
 * Invariant: with --json, stdout gets exactly one document, whatever happens.
 */
#ifndef QN_CLI_CLI_H
#define QN_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "base/human_number.h"
#include "base/json.h"
#include "opts.h"
#include "term.h"

typedef struct qn_cli {
    qn_opts opts;
    bool json, quiet, verbose;
    bool json_written; /* the one document is out */
    qn_term out, err;  /* stdout and stderr */
    char hint[256];    /* what to try next, shown below an error */
} qn_cli;

typedef quern_status (*qn_command_fn)(qn_cli *cli, quern_error *err);

typedef struct qn_command {
    const char *name;
    qn_command_fn run; /* NULL: not in this version */
    const char *synopsis;
    const char *summary;
    const char *example;
} qn_command;

const qn_command *qn_command_get(qn_command_id id);
/* False if there is no such command. */
bool qn_command_find(const char *name, qn_command_id *id);
/* The command whose name is nearest to a mistyped one, or NULL. */
const char *qn_command_nearest(const char *name);

/* The commands; one file each. */
quern_status qn_cmd_quantize(qn_cli *cli, quern_error *err);
quern_status qn_cmd_verify(qn_cli *cli, quern_error *err);
quern_status qn_cmd_run(qn_cli *cli, quern_error *err);
quern_status qn_cmd_chat(qn_cli *cli, quern_error *err);
quern_status qn_cmd_bench(qn_cli *cli, quern_error *err);
quern_status qn_cmd_eval(qn_cli *cli, quern_error *err);
quern_status qn_cmd_inspect(qn_cli *cli, quern_error *err);
quern_status qn_cmd_tokenize(qn_cli *cli, quern_error *err);
quern_status qn_cmd_template(qn_cli *cli, quern_error *err);
quern_status qn_cmd_logits(qn_cli *cli, quern_error *err);
quern_status qn_cmd_doctor(qn_cli *cli, quern_error *err);
quern_status qn_cmd_help(qn_cli *cli, quern_error *err);

/* help.c's texts, for main: the short one of plain `quern`, and everything about one command. */
void qn_help_print_short(qn_cli *cli);
void qn_help_print_command(qn_cli *cli, qn_command_id id);

/* ---- output (output.c) ---- */

/* What to try next; shown below the error of this call. */
void qn_cli_hint(qn_cli *cli, const char *format, ...) QN_PRINTF(2, 3);
/* A note on stderr, unless --quiet. */
void qn_cli_note(qn_cli *cli, const char *format, ...) QN_PRINTF(2, 3);
/* What makes a result other than it may seem although it is no error: shown even with --quiet. */
void qn_cli_warn(qn_cli *cli, const char *format, ...) QN_PRINTF(2, 3);
/* Writes the document on stdout and frees it; NULL or !ok means that building it ran out of memory. */
quern_status qn_cli_write_json(qn_cli *cli, qn_json *doc, bool ok, quern_error *err);
/* A document that is already text. */
quern_status qn_cli_write_json_text(qn_cli *cli, const char *text, size_t len, quern_error *err);
/* Flushes stdout; a full disk or a closed pipe is an error here. */
quern_status qn_cli_flush(quern_error *err);

/* Readers: a member that is a number, else NAN; one that is a text, else `otherwise`. object may be NULL. */
double qn_number_of(const qn_json *object, const char *key);
const char *qn_text_of(const qn_json *object, const char *key, const char *otherwise);

/* Builders: set a member, and *ok becomes false for good when memory runs out. */
void qn_put(qn_json *object, const char *key, qn_json *value, bool *ok);
void qn_put_text(qn_json *object, const char *key, const char *text, bool *ok); /* NULL gives null */
void qn_put_count(qn_json *object, const char *key, uint64_t n, bool *ok);
void qn_put_measured(qn_json *object, const char *key, double v, bool *ok); /* not finite gives null */
void qn_push(qn_json *array, qn_json *value, bool *ok);

#endif
