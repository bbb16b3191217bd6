/* verify_folder.c - see verify_folder.h.
 *
 * Programs that write such folders read the tokenizer's files and write them again: in another order, with defaults spelled out, without keys that
 * only the other file needs. So what counts is what the files mean once read; as JSON only what other readers than Quern take from them is
 * compared, and the rest is told in one note a file.
 */
#include "quantize/verify_folder.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/json_tokens.h"
#include "model/folder_files.h"
#include "quantize/verify_folder_keys.h"
#include "quantize/verify_metadata.h"
#include "quantize/verify_templates.h"
#include "text/template_list.h"

enum { TOKENIZER_BYTES_MAX = 256 << 20, CONFIG_BYTES_MAX = 16 << 20, TEMPLATE_BYTES_MAX = 4 << 20 };

static const struct {
    const char *name;
    size_t bytes_max;
} text_files[QN_FOLDER_N_TEXTS] = {[QN_FOLDER_TOKENIZER] = {"tokenizer.json", TOKENIZER_BYTES_MAX},
                                   [QN_FOLDER_TOKENIZER_CONFIG] = {"tokenizer_config.json", TOKENIZER_BYTES_MAX},
                                   [QN_FOLDER_SPECIAL_TOKENS] = {"special_tokens_map.json", CONFIG_BYTES_MAX},
                                   [QN_FOLDER_GENERATION] = {"generation_config.json", CONFIG_BYTES_MAX},
                                   [QN_FOLDER_CONFIG] = {"config.json", CONFIG_BYTES_MAX},
                                   [QN_FOLDER_TEMPLATE] = {"chat_template.jinja", TEMPLATE_BYTES_MAX},
                                   [QN_FOLDER_TOOL_TEMPLATE] = {"additional_chat_templates/tool_use.jinja", TEMPLATE_BYTES_MAX}};

const char *qn_folder_text_name(qn_folder_text t) { return text_files[t].name; }
size_t qn_folder_text_bytes_max(qn_folder_text t) { return text_files[t].bytes_max; }

quern_status qn_folder_texts_read(qn_folder_texts *out, const char *dir, quern_error *err)
{
    quern_status status = QUERN_OK;
    *out = (qn_folder_texts){0};
    for (size_t i = 0; i < QN_FOLDER_N_TEXTS; i++) {
        QN_TRY(qn_file_read_member(&out->text[i], &out->len[i], dir, text_files[i].name, text_files[i].bytes_max, err));
    }
done:
    if (status != QUERN_OK) {
        qn_folder_texts_free(out);
    }
    return status;
}

void qn_folder_texts_free(qn_folder_texts *t)
{
    for (size_t i = 0; i < QN_FOLDER_N_TEXTS; i++) {
        qn_free(t->text[i]);
    }
    *t = (qn_folder_texts){0};
}

/* One side: its files, and what they hold. */
typedef struct side {
    const qn_folder_texts *texts;
    qn_json *json[QN_FOLDER_N_JSON]; /* of tokenizer.json without vocabulary and merges */
} side;

static void free_side(side *s)
{
    for (size_t i = 0; i < QN_FOLDER_N_JSON; i++) {
        qn_json_free(s->json[i]);
    }
}

/* ---- tokenizer.json without its two large parts ---- */

typedef struct copying {
    qn_json_tokens tokens;
    qn_buf *out;
    bool ok;
} copying;

static bool is_word(const qn_json_tokens *s, const char *word)
{
    return s->token == QN_JSON_TOKEN_STRING && s->end - s->begin == strlen(word) && memcmp(s->data + s->begin, word, strlen(word)) == 0;
}

/* Copies the object whose bracket is the last token; of the member "model" what is neither "vocab" nor "merges". */
static void copy_object(copying *c, bool within_model)
{
    qn_json_tokens *s = &c->tokens;
    bool first = true;
    c->ok = c->ok && s->token == QN_JSON_TOKEN_OBJECT && qn_buf_append_char(c->out, '{');
    while (c->ok && qn_json_tokens_next(s) != QN_JSON_TOKEN_OBJECT_END) {
        if (s->token == QN_JSON_TOKEN_COMMA) {
            continue;
        }
        size_t key = s->begin - 1, key_end = s->end + 1;
        bool model = !within_model && is_word(s, "model"), large = within_model && (is_word(s, "vocab") || is_word(s, "merges"));
        c->ok = s->token == QN_JSON_TOKEN_STRING && qn_json_tokens_next(s) == QN_JSON_TOKEN_COLON;
        (void)qn_json_tokens_next(s);
        if (c->ok && !large) {
            c->ok = (first || qn_buf_append_char(c->out, ',')) && qn_buf_append(c->out, s->data + key, key_end - key) &&
                    qn_buf_append_char(c->out, ':');
            first = false;
        }
        if (c->ok && model) {
            copy_object(c, true);
        } else if (c->ok) {
            size_t begin = s->token == QN_JSON_TOKEN_STRING ? s->begin - 1 : s->begin;
            c->ok = qn_json_tokens_skip(s) && (large || qn_buf_append(c->out, s->data + begin, s->next - begin));
        }
    }
    c->ok = c->ok && qn_buf_append_char(c->out, '}');
}

static quern_status parse_rest(qn_json **out, const char *tokenizer, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf text;
    qn_buf_init(&text, TOKENIZER_BYTES_MAX);
    copying c = {.out = &text, .ok = true};
    qn_json_tokens_init(&c.tokens, tokenizer, len);
    (void)qn_json_tokens_next(&c.tokens);
    copy_object(&c, false);
    if (!c.ok) { /* it was read before: what is left is memory */
        QN_FAIL_MEMORY(err, text_files[QN_FOLDER_TOKENIZER].name, text.len);
    }
    QN_TRY(qn_json_parse(out, qn_buf_text(&text), text.len, QN_JSON_ALLOW_NUL | QN_JSON_WIDE_INTEGERS, text_files[QN_FOLDER_TOKENIZER].name,
                         err));
done:
    qn_buf_deinit(&text);
    return status;
}

/* Readers that take special_tokens_map.json at all refuse one that is no JSON, so that it says nothing. */
static quern_status parse_special_tokens(qn_json **out, const char *text, size_t len, quern_error *err)
{
    quern_error why = {0};
    quern_status status = qn_json_parse(out, text, len, QN_JSON_ALLOW_NUL | QN_JSON_WIDE_INTEGERS,
                                        text_files[QN_FOLDER_SPECIAL_TOKENS].name, &why);
    return status != QUERN_ERROR_MEMORY ? QUERN_OK : qn_error_set(err, status, "%s", why.message);
}

static quern_status parse_side(side *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < QN_FOLDER_N_JSON; i++) {
        const char *text = s->texts->text[i];
        size_t len = s->texts->len[i];
        if (text == NULL) {
            continue;
        }
        if (i == QN_FOLDER_TOKENIZER) {
            QN_TRY(parse_rest(&s->json[i], text, len, err));
        } else if (i == QN_FOLDER_SPECIAL_TOKENS) {
            QN_TRY(parse_special_tokens(&s->json[i], text, len, err));
        } else {
            QN_TRY(qn_json_parse(&s->json[i], text, len, QN_JSON_ALLOW_NUL | QN_JSON_WIDE_INTEGERS, text_files[i].name, err));
        }
    }
done:
    return status;
}

/* ---- key by key ---- */

static quern_status compare_keys(const qn_job *job, const side *own, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_folder_texts texts = {0};
    side source = {.texts = &texts};
    const qn_folder_keys keys = {
        .own = own->json, .source = source.json, .source_is_folder = job->source.gguf == NULL, .findings = f, .err = err};
    if (keys.source_is_folder) {
        QN_TRY(qn_folder_texts_read(&texts, job->source.path, err));
        QN_TRY(parse_side(&source, err));
    } else if (job->source.generation != NULL) { /* what quantize makes of its metadata */
        source.json[QN_FOLDER_GENERATION] = qn_json_clone(job->source.generation);
        if (source.json[QN_FOLDER_GENERATION] == NULL) {
            QN_FAIL_MEMORY(err, text_files[QN_FOLDER_GENERATION].name, job->source.generation_len);
        }
    }
    QN_TRY(qn_verify_folder_keys(&keys));
done:
    free_side(&source);
    qn_folder_texts_free(&texts);
    return status;
}

/* ---- the whole ---- */

/* The end tokens that mlx-lm takes from the source: generation_config.json's, else config.json's. Returns how many; ids has room for `cap`. */
static size_t list_needed(const qn_source *s, int32_t *ids, size_t cap)
{
    size_t n = 0;
    const qn_json *eos = qn_json_get(s->generation, "eos_token_id");
    bool list = qn_json_get_kind(eos) == QN_JSON_ARRAY;
    for (size_t i = 0; i < (list ? qn_json_length(eos) : 1) && n < cap; i++) {
        int64_t id;
        if (qn_json_int(list ? qn_json_at(eos, i) : eos, &id) && id >= 0 && id <= INT32_MAX) {
            ids[n++] = (int32_t)id;
        }
    }
    for (size_t i = 0; eos == NULL && i < s->config.n_stop_ids && n < cap; i++) {
        ids[n++] = s->config.stop_ids[i];
    }
    return n;
}

/* mlx-lm writes generation_config.json and the template as files of their own: where both are missing, they were left behind. */
static bool is_copied_in_part(const qn_source *s, const qn_folder_texts *own, const qn_model_texts *texts)
{
    return own->text[QN_FOLDER_GENERATION] == NULL && s->generation_json != NULL && texts->template.data == NULL;
}

static quern_status compare_read(const qn_job *job, const qn_folder_texts *files, const qn_model_texts *own, const char *text, size_t len,
                                 qn_findings *f, quern_error *err)
{
    enum { NEEDED_MAX = 64 };
    const qn_source *s = &job->source;
    int32_t needed[NEEDED_MAX];
    const qn_model_texts source = {.tokenizer = s->tokenizer,
                                   .config = &s->config,
                                   .template = {s->templates.plain, s->templates.plain_len},
                                   .tool_template = {s->templates.tool_use, s->templates.tool_use_len}};
    const qn_texts_options options = {.needed = needed,
                                      .n_needed = list_needed(s, needed, NEEDED_MAX),
                                      .is_part = is_copied_in_part(s, files, own),
                                      .text = text,
                                      .len = len};
    return qn_verify_texts(own, &source, &options, f, err);
}

static quern_status verify_texts(const qn_job *job, const qn_folder_texts *own, const qn_model_config *config, const char *text, size_t len,
                                 qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    side parsed = {.texts = own};
    quern_tokenizer *tokenizer = NULL;
    qn_template_list templates = {0};
    const qn_template_texts named = {.plain = own->text[QN_FOLDER_TEMPLATE],
                                     .plain_len = own->len[QN_FOLDER_TEMPLATE],
                                     .tool_use = own->text[QN_FOLDER_TOOL_TEMPLATE],
                                     .tool_use_len = own->len[QN_FOLDER_TOOL_TEMPLATE],
                                     .tokenizer_config = own->text[QN_FOLDER_TOKENIZER_CONFIG],
                                     .tokenizer_config_len = own->len[QN_FOLDER_TOKENIZER_CONFIG]};
    if (own->text[QN_FOLDER_TOKENIZER] == NULL) {
        QN_TRY(qn_findings_fail(f, NULL, err, "tokenizer: there is no tokenizer.json"));
        goto done;
    }
    status = quern_tokenizer_create_from_json(&tokenizer, own->text[QN_FOLDER_TOKENIZER], own->len[QN_FOLDER_TOKENIZER],
                                              named.tokenizer_config, named.tokenizer_config_len, &why);
    if (status == QUERN_OK) {
        status = qn_template_list_parse(&templates, &named, &why);
    }
    if (status == QUERN_OK) {
        status = parse_side(&parsed, &why);
    }
    if (status == QUERN_ERROR_MEMORY) {
        QN_FAIL(err, status, "%s", why.message);
    }
    if (status != QUERN_OK) {
        status = qn_findings_fail(f, NULL, err, "tokenizer: %s", why.message);
        goto done;
    }
    const qn_model_texts texts = {.tokenizer = tokenizer,
                                  .config = config,
                                  .template = {templates.plain, templates.plain_len},
                                  .tool_template = {templates.tool_use, templates.tool_use_len}};
    QN_TRY(compare_read(job, own, &texts, text, len, f, err));
    QN_TRY(compare_keys(job, &parsed, f, err));
done:
    qn_template_list_deinit(&templates);
    quern_tokenizer_destroy(tokenizer);
    free_side(&parsed);
    return status;
}

quern_status qn_verify_folder(const qn_job *job, const char *path, const qn_folder_texts *own, const qn_safetensors *weights,
                              const char *text, size_t len, qn_model_config *config, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *json = own->text[QN_FOLDER_CONFIG], *generation = own->text[QN_FOLDER_GENERATION];
    size_t json_len = own->len[QN_FOLDER_CONFIG], generation_len = own->len[QN_FOLDER_GENERATION];
    if (json == NULL) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no config.json in this folder", path);
    }
    QN_TRY(qn_read_own_config(job, path, json, json_len, generation, generation_len, &f->arena, config, err));
    QN_TRY(qn_verify_mlx_config(job, path, json, json_len, generation, generation_len, f, err));
    QN_TRY(verify_texts(job, own, config, text, len, f, err));
    if (!config->tied_embeddings && qn_safetensors_find(weights, "lm_head.weight") == NULL) {
        QN_TRY(qn_findings_fail(f, NULL, err, "config.json: tie_word_embeddings is false, but there is no lm_head.weight"));
    }
done:
    return status;
}

/* ---- files ---- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

static bool is_opened(const qn_safetensors *weights, const char *name)
{
    for (size_t i = 0; i < qn_safetensors_n_files(weights); i++) {
        if (strcmp(qn_path_base(qn_safetensors_file_path(weights, i)), name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_examined(const char *name)
{
    static const char *const others[] = {"model.safetensors.index.json", "README.md"};
    for (size_t i = 0; i < QN_FOLDER_N_TEXTS; i++) {
        if (strcmp(text_files[i].name, name) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strcmp(others[i], name) == 0) {
            return true;
        }
    }
    return qn_is_template_file(name);
}

quern_status qn_verify_folder_files(const qn_job *job, const char *path, const qn_safetensors *weights, qn_findings *f, quern_error *err)
{
    enum { SHOWN_BYTES_MAX = 200 };
    quern_status status = QUERN_OK;
    const char **files = NULL;
    size_t n = 0, n_others = 0;
    qn_buf others;
    qn_buf_init(&others, 1u << 20);
    QN_TRY(qn_folder_list_files(path, &f->arena, &files, &n, err));
    QN_TRY(qn_verify_templates(&job->source, path, files, n, f, err));
    for (size_t i = 0; i < n; i++) {
        if (is_opened(weights, files[i]) || is_examined(files[i])) {
            continue;
        }
        if (strncmp(files[i], "model", 5) == 0 && ends_with(files[i], ".safetensors")) {
            QN_TRY(qn_findings_fail(f, NULL, err,
                                    "%.100s: weights that are not part of this model; mlx-lm loads every model*.safetensors of a folder",
                                    files[i]));
            continue;
        }
        if (others.len + strlen(files[i]) < SHOWN_BYTES_MAX) {
            (void)qn_buf_printf(&others, "%s%s", n_others > 0 ? ", " : "", files[i]);
        }
        n_others++;
    }
    if (n_others > 0) {
        QN_TRY(qn_findings_note(f, err, "%zu more file%s in the folder %s not looked at: %s", n_others, n_others == 1 ? "" : "s",
                                n_others == 1 ? "was" : "were", qn_buf_text(&others)));
    }
done:
    qn_buf_deinit(&others);
    return status;
}
