/* load_text.c - the words of a model: its tokenizer and chat template, from GGUF metadata or from a folder's files.
 *
 * A template that does not parse is no reason to refuse the weights: its source stays available, and parsing it again gives the error. */
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "model/gguf_tokenizer.h"
#include "model/model_int.h"
#include "text/template_list.h"

enum { TOKENIZER_BYTES_MAX = 256 << 20 };

static quern_status keep_template(quern_model *m, qn_model_template *out, const char *source, size_t len, const char *what,
                                  quern_error *err)
{
    quern_status status = QUERN_OK;
    out->source = qn_arena_strndup(&m->arena, source, len);
    if (out->source == NULL) {
        QN_FAIL_MEMORY(err, what, len + 1);
    }
    if (quern_template_create(&out->parsed, source, len, what, NULL) == QUERN_ERROR_MEMORY) {
        QN_FAIL_MEMORY(err, what, len);
    }
done:
    return status;
}

/* ---- GGUF ---- */

quern_status qn_model_read_gguf_tokenizer(quern_model *m, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_span source;
    bool found;
    QN_TRY(qn_gguf_read_tokenizer(&m->tokenizer, m->gguf, err));
    QN_TRY(qn_gguf_get_string(m->gguf, "tokenizer.chat_template", &source, &found, err));
    if (found) {
        QN_TRY(keep_template(m, &m->plain_template, source.data, source.len, "tokenizer.chat_template", err));
    }
    QN_TRY(qn_gguf_get_string(m->gguf, "tokenizer.chat_template.tool_use", &source, &found, err));
    if (found) {
        QN_TRY(keep_template(m, &m->tool_template, source.data, source.len, "tokenizer.chat_template.tool_use", err));
    }
done:
    return status;
}

/* ---- folders ---- */

quern_status qn_model_read_dir_text(quern_model *m, const char *dir, bool want_tokenizer, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *tokenizer = NULL, *config = NULL;
    size_t tokenizer_len, config_len;
    qn_template_list templates = {0};
    QN_TRY(qn_file_read_member(&config, &config_len, dir, "tokenizer_config.json", TOKENIZER_BYTES_MAX, err));
    if (want_tokenizer) {
        QN_TRY(qn_file_read_member(&tokenizer, &tokenizer_len, dir, "tokenizer.json", TOKENIZER_BYTES_MAX, err));
        if (tokenizer == NULL) {
            QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no tokenizer.json in this folder", dir);
        }
        status = quern_tokenizer_create_from_json(&m->tokenizer, tokenizer, tokenizer_len, config, config_len, err);
        if (status != QUERN_OK) {
            qn_error_prefix(err, "%s", dir);
            goto done;
        }
    }
    QN_TRY(qn_template_list_read(&templates, dir, config, config_len, err));
    if (templates.plain != NULL) {
        QN_TRY(keep_template(m, &m->plain_template, templates.plain, templates.plain_len, "the chat template", err));
    }
    if (templates.tool_use != NULL) {
        QN_TRY(keep_template(m, &m->tool_template, templates.tool_use, templates.tool_use_len, "the chat template for tools", err));
    }
done:
    qn_free(tokenizer);
    qn_free(config);
    qn_template_list_deinit(&templates);
    return status;
}
