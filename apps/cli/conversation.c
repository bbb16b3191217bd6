/* conversation.c - messages in memory and in a file. */
#include "conversation.h"

#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/out_file.h"
#include "prompt_input.h"

void qn_conversation_clear(qn_conversation *c)
{
    while (c->n_messages > 0) {
        qn_conversation_pop(c);
    }
}

void qn_conversation_deinit(qn_conversation *c)
{
    qn_conversation_clear(c);
    qn_free(c->messages);
    qn_free(c->system);
    *c = (qn_conversation){0};
}

quern_status qn_conversation_set_system(qn_conversation *c, const char *text, quern_error *err)
{
    char *copy = text != NULL && text[0] != '\0' ? qn_strdup(text) : NULL;
    if (copy == NULL && text != NULL && text[0] != '\0') {
        return qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: the system message");
    }
    qn_free(c->system);
    c->system = copy;
    return QUERN_OK;
}

/* Takes ownership of message. */
static quern_status push(qn_conversation *c, qn_json *message, quern_error *err)
{
    if (message != NULL && c->n_messages == c->cap_messages) {
        size_t cap = c->cap_messages == 0 ? 16 : c->cap_messages * 2;
        qn_json **grown = qn_realloc_array(c->messages, cap, sizeof *grown);
        if (grown == NULL) {
            qn_json_free(message);
            message = NULL;
        } else {
            c->messages = grown;
            c->cap_messages = cap;
        }
    }
    if (message == NULL) {
        return qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: a message");
    }
    c->messages[c->n_messages++] = message;
    return QUERN_OK;
}

quern_status qn_conversation_add(qn_conversation *c, const char *role, const char *text, size_t len, quern_error *err)
{
    bool ok = true;
    qn_json *m = qn_json_new_object();
    qn_put_text(m, "role", role, &ok);
    qn_put(m, "content", qn_json_new_string_n(text, len), &ok);
    if (!ok) {
        qn_json_free(m);
        m = NULL;
    }
    return push(c, m, err);
}

void qn_conversation_pop(qn_conversation *c)
{
    if (c->n_messages > 0) {
        qn_json_free(c->messages[--c->n_messages]);
    }
}

const char *qn_conversation_last_role(const qn_conversation *c)
{
    const char *role = c->n_messages > 0 ? qn_json_string(qn_json_get(c->messages[c->n_messages - 1], "role"), NULL) : NULL;
    return role != NULL ? role : "";
}

quern_status qn_conversation_to_json(const qn_conversation *c, qn_json **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool ok = true;
    qn_json *list = qn_json_new_array();
    if (c->system != NULL) {
        QN_TRY(qn_messages_add(list, "system", c->system, strlen(c->system), err));
    }
    for (size_t i = 0; i < c->n_messages; i++) {
        qn_push(list, qn_json_clone(c->messages[i]), &ok);
    }
    if (!ok || list == NULL) {
        QN_FAIL(err, QUERN_ERROR_MEMORY, "out of memory: the conversation");
    }
    *out = list;
    list = NULL;
done:
    qn_json_free(list);
    return status;
}

quern_status qn_conversation_save(const qn_conversation *c, const char *path, bool replace, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_out_file *file = NULL;
    qn_json *messages = NULL, *doc = NULL;
    bool ok = true;
    qn_buf text;
    qn_buf_init(&text, (size_t)1 << 31);
    if (qn_path_exists(path) && !replace) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: exists already", path);
    }
    QN_TRY(qn_conversation_to_json(c, &messages, err));
    doc = qn_json_new_object();
    qn_put_text(doc, "schema", "quern.conversation/1", &ok);
    qn_put(doc, "messages", messages, &ok);
    messages = NULL;
    if (!ok || !qn_json_write(doc, 2, &text) || !qn_buf_append_char(&text, '\n')) {
        QN_FAIL(err, QUERN_ERROR_MEMORY, "out of memory: the conversation");
    }
    QN_TRY(qn_out_file_create(&file, path, err));
    QN_TRY(qn_out_file_write(file, text.data, text.len, err));
    QN_TRY(qn_out_file_commit(file, err));
done:
    qn_out_file_close(file);
    qn_json_free(messages);
    qn_json_free(doc);
    qn_buf_deinit(&text);
    return status;
}

quern_status qn_conversation_load(qn_conversation *c, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *messages = NULL;
    qn_conversation loaded = {0};
    QN_TRY(qn_messages_read(path, &messages, NULL, err));
    for (size_t i = 0; i < qn_json_length(messages); i++) {
        const qn_json *m = qn_json_at(messages, i);
        static const char *const roles[] = {"system", "user", "assistant", "tool"};
        bool known = false;
        const char *role = qn_json_string(qn_json_get(m, "role"), NULL), *content = qn_json_string(qn_json_get(m, "content"), NULL);
        for (size_t k = 0; role != NULL && k < sizeof roles / sizeof roles[0]; k++) {
            known = known || strcmp(role, roles[k]) == 0;
        }
        if (!known) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: message %zu has the role '%s'; expected system, user, assistant or tool", path, i,
                    role != NULL ? role : "");
        }
        if (i == 0 && content != NULL && strcmp(role, "system") == 0) {
            QN_TRY(qn_conversation_set_system(&loaded, content, err));
        } else {
            QN_TRY(push(&loaded, qn_json_clone(m), err));
        }
    }
    qn_conversation_deinit(c);
    *c = loaded;
    loaded = (qn_conversation){0};
done:
    qn_conversation_deinit(&loaded);
    qn_json_free(messages);
    return status;
}
