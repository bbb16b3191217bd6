/* quern/chat.h - chat templates: messages to the text a model was trained on, with every character marked as
 * template or content, so that a user's text can never become a control token.
 *
 * The engine behind it renders any Jinja template that Hugging Face models ship (the subset transformers uses, with
 * its settings), with limits on steps, output and nesting.
 */
#ifndef QUERN_CHAT_H
#define QUERN_CHAT_H

#include "quern/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_template quern_template; /* a parsed template; immutable, shareable between threads */

/* Parses; `name` is used in messages. Fails with line and column on a syntax error. */
QUERN_API quern_status quern_template_create(quern_template **out, const char *source, size_t len, const char *name, quern_error *err);
QUERN_API void quern_template_destroy(quern_template *t);

typedef struct quern_template_limits {
    uint64_t max_steps;        /* evaluated nodes; 0 = 50 million */
    size_t max_output_bytes;   /* 0 = 64 MiB */
    uint32_t max_depth;        /* nested calls; 0 = 200, at most 500. Nested evaluations and values: 8 times as many */
} quern_template_limits;

/* A rendered prompt: the text and its segments in order (they point into text). Free with quern_prompt_deinit. */
typedef struct quern_prompt {
    char *text;
    size_t len;
    quern_segment *segments;
    size_t n_segments;
} quern_prompt;
/* Frees text and segments and zeroes the struct. */
QUERN_API void quern_prompt_deinit(quern_prompt *p);

/* Renders with the variables of the JSON object `context_json`. Strings that come from the context are content,
 * except the values of top-level names listed in `trusted` (such as bos_token), NULL-terminated list, may be NULL.
 * Where the template calls raise_exception the status is QUERN_ERROR_INVALID with its message.
 * `now` is what strftime_now sees, in seconds since the epoch (UTC), 0 for the current time; limits may be NULL. */
QUERN_API quern_status quern_template_render(const quern_template *t, const char *context_json, size_t context_len,
                                             const char *const *trusted, int64_t now, const quern_template_limits *limits,
                                             quern_prompt *out, quern_error *err);

/* One chat request. messages_json is an array in OpenAI form; tools_json (array), documents and extra variables may be NULL. */
typedef struct quern_chat_request {
    const char *messages_json;
    const char *tools_json;
    const char *extra_json;         /* object of further variables, such as {"enable_thinking":false} */
    bool add_generation_prompt;
    int64_t now;                    /* 0 = the current time */
} quern_chat_request;

/* Renders as transformers' apply_chat_template does: bos_token, eos_token and the other special tokens come from the tokenizer
 * unless extra_json sets them. All text of the request is content; only a message's role is trusted where it is one of system,
 * user, assistant, tool, developer and function, as templates build control tokens from it. extra_json must not set messages,
 * tools and add_generation_prompt. */
QUERN_API quern_status quern_chat_render(const quern_template *t, const quern_tokenizer *tokenizer, const quern_chat_request *request,
                                         quern_prompt *out, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
