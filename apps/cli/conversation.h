/* conversation.h - the messages of a chat, and how they are kept in a file.
 *
 * Invariant: each message is a JSON object with a role, in OpenAI form, whether typed or loaded.
 */
#ifndef QN_CLI_CONVERSATION_H
#define QN_CLI_CONVERSATION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

typedef struct qn_conversation {
    char *system;       /* or NULL */
    qn_json **messages; /* without the system message */
    size_t n_messages, cap_messages;
} qn_conversation;

void qn_conversation_deinit(qn_conversation *c);
quern_status qn_conversation_set_system(qn_conversation *c, const char *text, quern_error *err);
quern_status qn_conversation_add(qn_conversation *c, const char *role, const char *text, size_t len, quern_error *err);
/* Forgets the last message. */
void qn_conversation_pop(qn_conversation *c);
/* Forgets all messages; the system message stays. */
void qn_conversation_clear(qn_conversation *c);
/* The role of the last message, "" if there is none. */
const char *qn_conversation_last_role(const qn_conversation *c);
/* All messages as a new array, the system message first. */
quern_status qn_conversation_to_json(const qn_conversation *c, qn_json **out, quern_error *err);
/* {"schema":"quern.conversation/1","messages":[...]}; an existing file is replaced only if told so. */
quern_status qn_conversation_save(const qn_conversation *c, const char *path, bool replace, quern_error *err);
/* Replaces the conversation; on failure nothing has changed. */
quern_status qn_conversation_load(qn_conversation *c, const char *path, quern_error *err);

#endif
