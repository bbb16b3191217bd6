/* opts.h - the command line: commands and options come from two tables (commands.inc, options.inc), and so does the help.
 *
 * Owns parsing and precedence: built-in < configuration file < QUERN_* environment < command line. Knows no command's meaning.
 * Invariant: a value that reaches a command has passed its kind's check, whatever place it came from.
 */
#ifndef QN_CLI_OPTS_H
#define QN_CLI_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/error.h"

typedef enum qn_command_id {
#define QN_COMMAND(id, name, fn, synopsis, summary, example) QN_COMMAND_##id,
#include "commands.inc"
#undef QN_COMMAND
    QN_COMMAND_COUNT
} qn_command_id;

typedef enum qn_opt_id {
#define QN_OPTION(id, shrt, lng, alias, kind, value, group, commands, help) QN_OPT_##id,
#include "options.inc"
#undef QN_OPTION
    QN_OPT_COUNT
} qn_opt_id;

typedef enum qn_opt_kind {
    QN_KIND_FLAG,
    QN_KIND_TEXT,
    QN_KIND_LIST,
    QN_KIND_CHOICE,
    QN_KIND_COUNT,
    QN_KIND_COUNTS,
    QN_KIND_REAL,
    QN_KIND_SEED
} qn_opt_kind;

/* Headings of help, in its order. */
typedef enum qn_opt_group {
    QN_GROUP_INPUT,
    QN_GROUP_PROMPT,
    QN_GROUP_QUANTIZE,
    QN_GROUP_BENCH,
    QN_GROUP_ANSWER,
    QN_GROUP_SAMPLING,
    QN_GROUP_MODEL,
    QN_GROUP_ENGINE,
    QN_GROUP_OUTPUT,
    QN_GROUP_ONCE,
    QN_GROUP_COUNT
} qn_opt_group;

typedef struct qn_opt_row {
    qn_opt_id id;
    const char *short_name;
    const char *name;
    const char *alias;
    qn_opt_kind kind;
    const char *value;
    qn_opt_group group;
    uint32_t commands; /* bit i: the command with qn_command_id i takes it */
    const char *help;
} qn_opt_row;

/* Row i of the table, i < QN_OPT_COUNT. */
const qn_opt_row *qn_opts_get_row(qn_opt_id id);
bool qn_opts_takes(qn_command_id command, qn_opt_id id);

typedef enum qn_opt_source { QN_SOURCE_NONE, QN_SOURCE_CONFIG, QN_SOURCE_ENVIRONMENT, QN_SOURCE_COMMAND_LINE } qn_opt_source;

enum { QN_COUNTS_MAX = 32, QN_POSITIONAL_MAX = 64 };

typedef struct qn_opt_value {
    qn_opt_source source;
    const char *text;  /* as given; for LIST the last one */
    const char **list; /* LIST: every one */
    size_t n_list;
    uint64_t count;                 /* COUNT, SEED */
    double real;                    /* REAL */
    uint64_t counts[QN_COUNTS_MAX]; /* COUNTS */
    size_t n_counts;
    bool on; /* FLAG */
} qn_opt_value;

typedef struct qn_opts {
    qn_command_id command;
    qn_opt_value values[QN_OPT_COUNT];
    const char *positional[QN_POSITIONAL_MAX];
    size_t n_positional;
    qn_arena arena; /* copies of what came from the configuration file and the environment */
} qn_opts;

void qn_opts_init(qn_opts *o, qn_command_id command);
void qn_opts_deinit(qn_opts *o);

/* Parses argv[0..argc) (what follows the command's name). Strings are borrowed. "--" ends the options. */
quern_status qn_opts_parse(qn_opts *o, int argc, char *const *argv, quern_error *err);
/* Takes QUERN_<LONG_NAME> of every option of this command from the environment, where the command line says nothing. */
quern_status qn_opts_read_environment(qn_opts *o, quern_error *err);
/* One `name = value` of the configuration file; `place` is "FILE:LINE". The name may begin with "COMMAND.".
 * A name that no command has is an error; one of another command is ignored. */
quern_status qn_opts_set_config(qn_opts *o, const char *name, const char *value, const char *place, quern_error *err);

/* Accessors; the fallback is used where nothing was given. */
bool qn_opts_given(const qn_opts *o, qn_opt_id id);
bool qn_opts_flag(const qn_opts *o, qn_opt_id id);
const char *qn_opts_text(const qn_opts *o, qn_opt_id id, const char *fallback);
uint64_t qn_opts_count(const qn_opts *o, qn_opt_id id, uint64_t fallback);
double qn_opts_real(const qn_opts *o, qn_opt_id id, double fallback);

/* A number with an optional suffix: k m g t and KiB MiB GiB TiB are powers of 1024, kB MB GB TB powers of 1000; a fraction is
 * fine where the result is whole (1.5k). False for anything else, or beyond 2^63 - 1. */
bool qn_opts_parse_count(const char *text, uint64_t *out);

/* The candidate nearest to `word` if it is near enough to be a slip of the fingers, else NULL. */
const char *qn_opts_nearest(const char *word, const char *const *candidates, size_t n);

#endif
