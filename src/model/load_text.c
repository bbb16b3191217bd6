/* load_text.c - the words of a model: its tokenizer and chat template, from GGUF metadata or from a folder's files.
 *
 * A template that does not parse is no reason to refuse the weights: its source stays available, and parsing it again gives the error. */
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "model/model_int.h"
#include "text/template_list.h"
#include "text/vocab.h"

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

static quern_status read_spans(quern_model *m, const char *key, qn_text_span **out, size_t *n, bool required, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_gguf_value *v = qn_gguf_find(m->gguf, key);
    *out = NULL;
    *n = 0;
    if (v == NULL && !required) {
        return QUERN_OK;
    }
    if (v == NULL || v->type != QN_GGUF_ARRAY || v->element != QN_GGUF_STRING) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key %s is %s, expected an array of strings", qn_gguf_path(m->gguf), key,
                v == NULL ? "missing" : "of another type");
    }
    qn_text_span *spans = qn_malloc_array((size_t)v->n, sizeof *spans);
    if (spans == NULL) {
        QN_FAIL_MEMORY(err, key, v->n * sizeof *spans);
    }
    const uint8_t *cursor = v->data;
    for (uint64_t i = 0; i < v->n; i++) {
        qn_span s = qn_gguf_next_string(&cursor);
        spans[i] = (qn_text_span){.data = s.data, .len = s.len};
    }
    *out = spans;
    *n = (size_t)v->n;
done:
    return status;
}

/* An array of numbers, one a token. */
static quern_status find_numbers(const quern_model *m, const char *key, size_t n_tokens, const qn_gguf_value **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_gguf_value *v = qn_gguf_find(m->gguf, key);
    *out = v;
    if (v != NULL && (v->type != QN_GGUF_ARRAY || v->n != n_tokens)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key %s has %llu elements, expected an array of %zu, one a token", qn_gguf_path(m->gguf), key,
                (unsigned long long)v->n, n_tokens);
    }
done:
    return status;
}

static quern_status read_scores(const quern_model *m, size_t n, float **out, quern_error *err)
{
    static const char key[] = "tokenizer.ggml.scores";
    quern_status status = QUERN_OK;
    const qn_gguf_value *v;
    *out = NULL;
    QN_TRY(find_numbers(m, key, n, &v, err));
    if (v != NULL) {
        *out = qn_malloc_array(n, sizeof **out);
        if (*out == NULL) {
            QN_FAIL_MEMORY(err, key, n * sizeof **out);
        }
        for (size_t i = 0; i < n; i++) {
            double x;
            if (!qn_gguf_element_f64(v, i, &x)) {
                QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key %s does not hold numbers", qn_gguf_path(m->gguf), key);
            }
            (*out)[i] = (float)x;
        }
    }
done:
    return status;
}

static quern_status read_types(const quern_model *m, size_t n, int32_t **out, quern_error *err)
{
    static const char key[] = "tokenizer.ggml.token_type";
    quern_status status = QUERN_OK;
    const qn_gguf_value *v;
    *out = NULL;
    QN_TRY(find_numbers(m, key, n, &v, err));
    if (v != NULL) {
        *out = qn_malloc_array(n, sizeof **out);
        if (*out == NULL) {
            QN_FAIL_MEMORY(err, key, n * sizeof **out);
        }
        for (size_t i = 0; i < n; i++) {
            int64_t x;
            if (!qn_gguf_element_i64(v, i, &x) || x < 0 || x > 6) {
                QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key %s: element %zu is no token type (0 to 6)", qn_gguf_path(m->gguf), key, i);
            }
            (*out)[i] = (int32_t)x;
        }
    }
done:
    return status;
}

/* A token id, -1 where the key is absent or points outside the vocabulary (published files do that for padding). */
static quern_status read_id(const quern_model *m, const char *key, size_t n_tokens, int64_t *out, quern_error *err)
{
    uint64_t id = 0;
    bool found;
    quern_status status = qn_gguf_get_u64(m->gguf, key, &id, &found, err);
    *out = status == QUERN_OK && found && id < n_tokens ? (int64_t)id : -1;
    return status;
}

static quern_status read_flag(const quern_model *m, const char *key, int *out, quern_error *err)
{
    bool value = false, found;
    quern_status status = qn_gguf_get_bool(m->gguf, key, &value, &found, err);
    *out = status == QUERN_OK && found ? (int)value : -1;
    return status;
}

static quern_status copy_string(quern_model *m, const char *key, const char **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_span s;
    bool found;
    *out = NULL;
    QN_TRY(qn_gguf_get_string(m->gguf, key, &s, &found, err));
    if (found) {
        *out = qn_arena_strndup(&m->arena, s.data, s.len);
        if (*out == NULL) {
            QN_FAIL_MEMORY(err, key, s.len + 1);
        }
    }
done:
    return status;
}

quern_status qn_model_read_gguf_tokenizer(quern_model *m, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_text_span *tokens = NULL, *merges = NULL;
    float *scores = NULL;
    int32_t *types = NULL;
    qn_span source;
    bool found;
    qn_vocab_spec spec = {.what = qn_gguf_path(m->gguf)};
    QN_TRY(copy_string(m, "tokenizer.ggml.model", &spec.model, err));
    if (spec.model == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key tokenizer.ggml.model is missing: the file has no tokenizer", qn_gguf_path(m->gguf));
    }
    QN_TRY(copy_string(m, "tokenizer.ggml.pre", &spec.pre, err));
    QN_TRY(read_spans(m, "tokenizer.ggml.tokens", &tokens, &spec.n_tokens, true, err));
    QN_TRY(read_spans(m, "tokenizer.ggml.merges", &merges, &spec.n_merges, false, err));
    QN_TRY(read_scores(m, spec.n_tokens, &scores, err));
    QN_TRY(read_types(m, spec.n_tokens, &types, err));
    QN_TRY(read_id(m, "tokenizer.ggml.bos_token_id", spec.n_tokens, &spec.bos_id, err));
    QN_TRY(read_id(m, "tokenizer.ggml.eos_token_id", spec.n_tokens, &spec.eos_id, err));
    QN_TRY(read_id(m, "tokenizer.ggml.unknown_token_id", spec.n_tokens, &spec.unk_id, err));
    QN_TRY(read_id(m, "tokenizer.ggml.padding_token_id", spec.n_tokens, &spec.pad_id, err));
    QN_TRY(read_flag(m, "tokenizer.ggml.add_bos_token", &spec.add_bos, err));
    QN_TRY(read_flag(m, "tokenizer.ggml.add_eos_token", &spec.add_eos, err));
    QN_TRY(read_flag(m, "tokenizer.ggml.add_space_prefix", &spec.add_space_prefix, err));
    spec.tokens = tokens;
    spec.merges = merges;
    spec.scores = scores;
    spec.types = types;
    QN_TRY(qn_tokenizer_create_from_spec(&m->tokenizer, &spec, err));
    QN_TRY(qn_gguf_get_string(m->gguf, "tokenizer.chat_template", &source, &found, err));
    if (found) {
        QN_TRY(keep_template(m, &m->plain_template, source.data, source.len, "tokenizer.chat_template", err));
    }
    QN_TRY(qn_gguf_get_string(m->gguf, "tokenizer.chat_template.tool_use", &source, &found, err));
    if (found) {
        QN_TRY(keep_template(m, &m->tool_template, source.data, source.len, "tokenizer.chat_template.tool_use", err));
    }
done:
    qn_free(tokens);
    qn_free(merges);
    qn_free(scores);
    qn_free(types);
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
