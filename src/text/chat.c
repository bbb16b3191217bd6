/* chat.c - templates as the public API has them, and chat requests: messages, tools and special tokens to a marked prompt.
 *
 * The context is what transformers' apply_chat_template gives a template. All of it is content, except the special
 * tokens of the tokenizer and the role of a message where it is one of the fixed roles.
 */
#include "quern/chat.h"

#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "text/jinja.h"

struct quern_template {
    qn_jinja *jinja;
};

quern_status quern_template_create(quern_template **out, const char *source, size_t len, const char *name, quern_error *err)
{
    quern_status status = QUERN_OK;
    *out = NULL;
    quern_template *t = qn_calloc(1, sizeof *t);
    if (t == NULL) {
        QN_FAIL_MEMORY(err, "a template", sizeof *t);
    }
    QN_TRY(qn_jinja_create(&t->jinja, source, len, name, err));
    *out = t;
    t = NULL;
done:
    qn_free(t);
    return status;
}

void quern_template_destroy(quern_template *t)
{
    if (t != NULL) {
        qn_jinja_destroy(t->jinja);
        qn_free(t);
    }
}

void quern_prompt_deinit(quern_prompt *p)
{
    qn_free(p->text);
    qn_free(p->segments);
    *p = (quern_prompt){0};
}

static int64_t time_or_now(int64_t given) { return given != 0 ? given : (int64_t)time(NULL); }

/* ---- any context ---- */

static bool is_listed(const char *const *names, const char *name, size_t len)
{
    for (; names != NULL && *names != NULL; names++) {
        if (strlen(*names) == len && memcmp(*names, name, len) == 0) {
            return true;
        }
    }
    return false;
}

quern_status quern_template_render(const quern_template *t, const char *context_json, size_t context_len, const char *const *trusted,
                                   int64_t now, const quern_template_limits *limits, quern_prompt *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *context = NULL;
    qn_jinja_variable *variables = NULL;
    *out = (quern_prompt){0};
    QN_TRY(qn_json_parse(&context, context_json, context_len, QN_JSON_ALLOW_NUL, "the template's context", err));
    if (qn_json_get_kind(context) != QN_JSON_OBJECT) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "the template's context must be a JSON object");
    }
    size_t n = qn_json_length(context), i = 0;
    variables = qn_calloc(n, sizeof *variables);
    if (variables == NULL) {
        QN_FAIL_MEMORY(err, "the template's context", n * sizeof *variables);
    }
    for (qn_json_iterator *it = qn_json_iter(context); it != NULL && i < n; it = qn_json_next(context, it), i++) {
        variables[i].name = qn_json_iter_key(it, &variables[i].name_len);
        variables[i].value = qn_json_iter_value(it);
        variables[i].trusted = is_listed(trusted, variables[i].name, variables[i].name_len);
    }
    QN_TRY(qn_jinja_render(t->jinja, variables, i, time_or_now(now), limits, out, NULL, err));
done:
    qn_free(variables);
    qn_json_free(context);
    return status;
}

/* ---- chat requests ---- */

/* A role of the chat protocol is not a user's text: templates build control tokens from it ("<|" + role + "|>"). */
static bool is_fixed_role(const char *key, size_t key_len, const qn_json *member)
{
    static const char *const ROLES[] = {"system", "user", "assistant", "tool", "developer", "function", NULL};
    size_t len;
    const char *role = qn_json_string(member, &len);
    return key_len == 4 && memcmp(key, "role", 4) == 0 && role != NULL && is_listed(ROLES, role, len);
}

static quern_status check_messages(const qn_json *messages, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (qn_json_get_kind(messages) != QN_JSON_ARRAY) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "messages must be a JSON array");
    }
    for (size_t i = 0; i < qn_json_length(messages); i++) {
        const qn_json *message = qn_json_at(messages, i);
        if (qn_json_get_kind(message) != QN_JSON_OBJECT) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "messages[%zu] must be an object", i);
        }
        if (qn_json_get_kind(qn_json_get(message, "role")) != QN_JSON_STRING) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "messages[%zu] must have a role, a string", i);
        }
    }
done:
    return status;
}

/* Every tool and every document must be an object, as transformers wants it. */
static quern_status check_objects(const qn_json *list, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (list == NULL || qn_json_get_kind(list) == QN_JSON_NULL) {
        goto done;
    }
    if (qn_json_get_kind(list) != QN_JSON_ARRAY) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s must be a JSON array", what);
    }
    for (size_t i = 0; i < qn_json_length(list); i++) {
        if (qn_json_get_kind(qn_json_at(list, i)) != QN_JSON_OBJECT) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s[%zu] must be an object", what, i);
        }
    }
done:
    return status;
}

enum { OWN_VARIABLES = 8 };

typedef struct request_context {
    qn_json *messages, *tools, *extra, *add_generation_prompt;
    qn_jinja_variable *variables;
    size_t n;
} request_context;

static qn_jinja_variable *add_variable(request_context *c, const char *name, size_t len)
{
    c->variables[c->n] = (qn_jinja_variable){.name = name, .name_len = len};
    return &c->variables[c->n++];
}

/* bos_token and so on, where the tokenizer has them and the request does not set them itself. */
static void add_special_tokens(request_context *c, const quern_tokenizer *tokenizer)
{
    const quern_tokenizer_info *info = quern_tokenizer_get_info(tokenizer);
    const struct {
        const char *name;
        int32_t id;
    } TOKENS[] = {
        {"bos_token", info->bos_id},
        {"eos_token", info->eos_id},
        {"unk_token", info->unk_id},
        {"pad_token", info->pad_id},
    };
    for (size_t i = 0; i < sizeof TOKENS / sizeof TOKENS[0]; i++) {
        size_t len;
        const char *text = TOKENS[i].id >= 0 ? quern_tokenizer_get_text(tokenizer, TOKENS[i].id, &len) : NULL;
        if (text != NULL && qn_json_get(c->extra, TOKENS[i].name) == NULL) {
            qn_jinja_variable *v = add_variable(c, TOKENS[i].name, strlen(TOKENS[i].name));
            v->text = text;
            v->text_len = len;
            v->trusted = true;
        }
    }
}

static quern_status add_extra(request_context *c, quern_error *err)
{
    static const char *const RESERVED[] = {"messages", "tools", "add_generation_prompt", NULL};
    quern_status status = QUERN_OK;
    for (qn_json_iterator *it = qn_json_iter(c->extra); it != NULL; it = qn_json_next(c->extra, it)) {
        size_t len;
        const char *name = qn_json_iter_key(it, &len);
        if (is_listed(RESERVED, name, len)) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "the extra variables of a chat request must not set '%s'", name);
        }
        add_variable(c, name, len)->value = qn_json_iter_value(it);
    }
    QN_TRY(check_objects(qn_json_get(c->extra, "documents"), "documents", err));
done:
    return status;
}

static quern_status read_request(request_context *c, const quern_chat_request *request, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (request->messages_json == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "a chat request needs messages");
    }
    QN_TRY(qn_json_parse(&c->messages, request->messages_json, strlen(request->messages_json), QN_JSON_ALLOW_NUL, "messages", err));
    QN_TRY(check_messages(c->messages, err));
    if (request->tools_json != NULL) {
        QN_TRY(qn_json_parse(&c->tools, request->tools_json, strlen(request->tools_json), QN_JSON_ALLOW_NUL, "tools", err));
        QN_TRY(check_objects(c->tools, "tools", err));
    }
    if (request->extra_json != NULL) {
        QN_TRY(qn_json_parse(&c->extra, request->extra_json, strlen(request->extra_json), QN_JSON_ALLOW_NUL, "extra variables", err));
        if (qn_json_get_kind(c->extra) != QN_JSON_OBJECT) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "the extra variables of a chat request must be a JSON object");
        }
    }
    c->add_generation_prompt = qn_json_new_bool(request->add_generation_prompt);
    c->variables = qn_calloc(OWN_VARIABLES + qn_json_length(c->extra), sizeof *c->variables);
    if (c->variables == NULL || c->add_generation_prompt == NULL) {
        QN_FAIL_MEMORY(err, "a chat request", (OWN_VARIABLES + qn_json_length(c->extra)) * sizeof *c->variables);
    }
done:
    return status;
}

quern_status quern_chat_render(const quern_template *t, const quern_tokenizer *tokenizer, const quern_chat_request *request,
                               quern_prompt *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    request_context c = {0};
    *out = (quern_prompt){0};
    QN_TRY(read_request(&c, request, err));
    qn_jinja_variable *messages = add_variable(&c, "messages", 8);
    messages->value = c.messages;
    messages->trust_member = is_fixed_role;
    add_variable(&c, "tools", 5)->value = c.tools;
    if (qn_json_get(c.extra, "documents") == NULL) {
        (void)add_variable(&c, "documents", 9); /* none */
    }
    add_variable(&c, "add_generation_prompt", 21)->value = c.add_generation_prompt;
    add_special_tokens(&c, tokenizer);
    QN_TRY(add_extra(&c, err));
    QN_TRY(qn_jinja_render(t->jinja, c.variables, c.n, time_or_now(request->now), NULL, out, NULL, err));
done:
    qn_free(c.variables);
    qn_json_free(c.messages);
    qn_json_free(c.tools);
    qn_json_free(c.extra);
    qn_json_free(c.add_generation_prompt);
    return status;
}
