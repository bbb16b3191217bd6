/* template_list.c - which of a checkpoint's files and entries hold its chat templates. */
#include "text/template_list.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"

enum { TEMPLATE_BYTES_MAX = 4 << 20, FILES_MAX = 4096 };

void qn_template_list_deinit(qn_template_list *l)
{
    qn_free(l->plain);
    qn_free(l->tool_use);
    *l = (qn_template_list){0};
}

/* Keeps a copy of a JSON string; anything else is no template. */
static quern_status keep(const qn_json *text, char **out, size_t *len, quern_error *err)
{
    const char *source = qn_json_string(text, len);
    if (source == NULL || *out != NULL) {
        return QUERN_OK;
    }
    *out = qn_strndup(source, *len);
    return *out != NULL ? QUERN_OK : qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: a chat template of %zu bytes", *len);
}

static void note_other(qn_template_list *l, const char *name, size_t len)
{
    size_t at = strlen(l->others), room = sizeof l->others - at;
    if (len + 3 < room) {
        (void)snprintf(l->others + at, room, "%s%.*s", at > 0 ? ", " : "", (int)len, name);
    }
}

/* Names of the files beside tool_use.jinja. */
static quern_status note_files(qn_template_list *l, const char *dir, quern_error *err)
{
    static const char ending[] = ".jinja";
    quern_status status = QUERN_OK;
    const char **names = NULL;
    size_t n = 0;
    qn_arena arena;
    qn_arena_init(&arena, 0);
    char *path = qn_path_join(dir, "additional_chat_templates");
    if (path == NULL) {
        QN_FAIL_MEMORY(err, dir, strlen(dir));
    }
    QN_TRY(qn_dir_list(path, FILES_MAX, &arena, &names, &n, err));
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(names[i]), end = strlen(ending);
        if (len > end && strcmp(names[i] + len - end, ending) == 0 && strcmp(names[i], "tool_use.jinja") != 0) {
            note_other(l, names[i], len - end);
            l->others_are_files = true;
        }
    }
done:
    qn_free(path);
    qn_arena_deinit(&arena);
    return status;
}

static quern_status read_named(qn_template_list *l, const qn_json *list, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < qn_json_length(list); i++) {
        const qn_json *entry = qn_json_at(list, i), *text = qn_json_get(entry, "template");
        const char *name = qn_json_string(qn_json_get(entry, "name"), NULL);
        if (name != NULL && strcmp(name, "default") == 0) {
            QN_TRY(keep(text, &l->plain, &l->plain_len, err));
        } else if (name != NULL && strcmp(name, "tool_use") == 0) {
            QN_TRY(keep(text, &l->tool_use, &l->tool_use_len, err));
        } else if (name != NULL && qn_json_string(text, NULL) != NULL) {
            note_other(l, name, strlen(name));
        }
    }
    if (l->plain == NULL) { /* no default: the first serves */
        QN_TRY(keep(qn_json_get(qn_json_at(list, 0), "template"), &l->plain, &l->plain_len, err));
    }
done:
    return status;
}

static quern_status read_config(qn_template_list *l, const char *config, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *root = NULL;
    QN_TRY(qn_json_parse(&root, config, len, QN_JSON_WIDE_INTEGERS, "tokenizer_config.json", err));
    if (qn_json_get_kind(root) != QN_JSON_OBJECT) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "tokenizer_config.json: expected an object");
    }
    const qn_json *t = qn_json_get(root, "chat_template");
    qn_json_kind kind = qn_json_get_kind(t);
    if (kind == QN_JSON_ARRAY) {
        QN_TRY(read_named(l, t, err));
    } else if (t != NULL && kind != QN_JSON_STRING && kind != QN_JSON_NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "tokenizer_config.json: chat_template: expected a text or a list of named texts");
    } else {
        QN_TRY(keep(t, &l->plain, &l->plain_len, err));
    }
done:
    qn_json_free(root);
    return status;
}

static quern_status copy(const char *text, size_t len, char **out, size_t *out_len, quern_error *err)
{
    *out = text != NULL ? qn_strndup(text, len) : NULL;
    *out_len = text != NULL ? len : 0;
    return text == NULL || *out != NULL ? QUERN_OK
                                        : qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: a chat template of %zu bytes", len);
}

quern_status qn_template_list_parse(qn_template_list *out, const qn_template_texts *texts, quern_error *err)
{
    quern_status status = QUERN_OK;
    *out = (qn_template_list){0};
    if (texts->plain != NULL) {
        QN_TRY(copy(texts->plain, texts->plain_len, &out->plain, &out->plain_len, err));
        QN_TRY(copy(texts->tool_use, texts->tool_use_len, &out->tool_use, &out->tool_use_len, err));
    } else if (texts->tokenizer_config != NULL) {
        QN_TRY(read_config(out, texts->tokenizer_config, texts->tokenizer_config_len, err));
    }
done:
    if (status != QUERN_OK) {
        qn_template_list_deinit(out);
    }
    return status;
}

quern_status qn_template_list_read(qn_template_list *out, const char *dir, const char *tokenizer_config, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *plain = NULL, *tool_use = NULL;
    qn_template_texts texts = {.tokenizer_config = tokenizer_config, .tokenizer_config_len = len};
    *out = (qn_template_list){0};
    QN_TRY(qn_file_read_member(&plain, &texts.plain_len, dir, "chat_template.jinja", TEMPLATE_BYTES_MAX, err));
    if (plain != NULL) {
        QN_TRY(
            qn_file_read_member(&tool_use, &texts.tool_use_len, dir, "additional_chat_templates/tool_use.jinja", TEMPLATE_BYTES_MAX, err));
    }
    texts.plain = plain;
    texts.tool_use = tool_use;
    QN_TRY(qn_template_list_parse(out, &texts, err));
    if (plain != NULL) {
        QN_TRY(note_files(out, dir, err));
    }
done:
    qn_free(plain);
    qn_free(tool_use);
    return status;
}
