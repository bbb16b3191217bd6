/* prompt_input.h - texts and messages that come from arguments, files and stdin, and the ids made of them.
 *
 * Invariant: on the way through a chat template, what a user wrote stays content: it never becomes a control token.
 */
#ifndef QN_CLI_PROMPT_INPUT_H
#define QN_CLI_PROMPT_INPUT_H

#include "cli.h"
#include "quern/model.h"

/* The whole of a file, a pipe, or stdin ("-"), NUL-terminated in new memory. At most 1 GiB. */
quern_status qn_input_read(const char *path, char **text, size_t *len, quern_error *err);
/* True if stdin is something to read from: not a terminal, and open. */
bool qn_input_stdin_is_piped(void);

/* A conversation: an array of {"role","content",...} objects. */
/* From a file: an array, or an object with "messages" (and maybe "tools", given back if wanted and not NULL). */
quern_status qn_messages_read(const char *path, qn_json **messages, qn_json **tools, quern_error *err);
quern_status qn_messages_add(qn_json *messages, const char *role, const char *content, size_t len, quern_error *err);
/* Any JSON file; `what` says what it should hold. */
quern_status qn_input_read_json(const char *path, qn_json_kind kind, const char *what, qn_json **out, quern_error *err);

typedef struct qn_chat_input {
    const qn_json *messages;
    const qn_json *tools;   /* or NULL */
    const char *extra_json; /* --chat-template-kwargs, or NULL */
    bool generation_prompt;
    const quern_template *chat_template; /* NULL = the model's own */
} qn_chat_input;

/* Renders; QUERN_ERROR_UNSUPPORTED where the model has no template. ids may be NULL. */
quern_status qn_chat_encode(const quern_model *model, const qn_chat_input *input, quern_prompt *prompt, quern_ids *ids, quern_error *err);
/* --raw: the text as it is, BOS where the model's configuration wants it. A text that brings its own gets a second one and a warning. */
quern_status qn_raw_encode(qn_cli *cli, const quern_model *model, const char *text, size_t len, bool parse_special, quern_ids *ids,
                           quern_error *err);

#endif
