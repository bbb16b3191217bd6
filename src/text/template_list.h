/* template_list.h - the chat templates that a model names: the plain one, and one of its own for requests with tools ("tool_use").
 *
 * transformers keeps them as chat_template.jinja (it stands before everything else) with additional_chat_templates/NAME.jinja, or in
 * tokenizer_config.json: one text, or a list of {"name","template"}. GGUF: tokenizer.chat_template and tokenizer.chat_template.NAME. */
#ifndef QN_TEXT_TEMPLATE_LIST_H
#define QN_TEXT_TEMPLATE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

typedef struct qn_template_list {
    char *plain; /* NULL = none */
    size_t plain_len;
    char *tool_use; /* NULL = the plain one serves */
    size_t tool_use_len;
    char others[256]; /* names of further templates, which nothing here renders, with ", " between them; cut where there are too many */
    bool others_are_files; /* in additional_chat_templates, not in tokenizer_config.json */
} qn_template_list;

/* Texts of the files that may hold them; NULL = there is no such file. */
typedef struct qn_template_texts {
    const char *plain, *tool_use; /* chat_template.jinja, additional_chat_templates/tool_use.jinja */
    size_t plain_len, tool_use_len;
    const char *tokenizer_config;
    size_t tokenizer_config_len;
} qn_template_texts;

quern_status qn_template_list_parse(qn_template_list *out, const qn_template_texts *texts, quern_error *err);
/* From a checkpoint's folder. tokenizer_config, the text of that file, may be NULL. */
quern_status qn_template_list_read(qn_template_list *out, const char *dir, const char *tokenizer_config, size_t len, quern_error *err);
void qn_template_list_deinit(qn_template_list *l);

#endif
