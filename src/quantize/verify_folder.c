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
#include "quantize/folder_files.h"
#include "quantize/json_difference.h"
#include "quantize/verify_metadata.h"
#include "text/template_list.h"
#include "text/tokenizer_pipeline.h"

enum { TOKENIZER_BYTES_MAX = 256 << 20, CONFIG_BYTES_MAX = 16 << 20, TEMPLATE_BYTES_MAX = 4 << 20 };

/* The first ones are JSON. */
enum { N_JSON = QN_FOLDER_TEMPLATE };
static const struct {
    const char *name;
    size_t bytes_max;
} text_files[QN_FOLDER_N_TEXTS] = {[QN_FOLDER_TOKENIZER] = {"tokenizer.json", TOKENIZER_BYTES_MAX},
                                   [QN_FOLDER_TOKENIZER_CONFIG] = {"tokenizer_config.json", TOKENIZER_BYTES_MAX},
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
    qn_json *json[N_JSON]; /* of tokenizer.json without vocabulary and merges */
} side;

static void free_side(side *s)
{
    for (size_t i = 0; i < N_JSON; i++) {
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

static quern_status parse_side(side *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < N_JSON; i++) {
        const char *text = s->texts->text[i];
        size_t len = s->texts->len[i];
        if (text == NULL) {
            continue;
        }
        QN_TRY(i == QN_FOLDER_TOKENIZER
                   ? parse_rest(&s->json[i], text, len, err)
                   : qn_json_parse(&s->json[i], text, len, QN_JSON_ALLOW_NUL | QN_JSON_WIDE_INTEGERS, text_files[i].name, err));
    }
done:
    return status;
}

/* ---- what other readers take from them ---- */

typedef struct comparison {
    const side *own, *source;
    qn_findings *findings;
    quern_error *err;
} comparison;

static const qn_json *own_key(const comparison *c, qn_folder_text k, const char *key) { return qn_json_get(c->own->json[k], key); }
static const qn_json *source_key(const comparison *c, qn_folder_text k, const char *key) { return qn_json_get(c->source->json[k], key); }

static bool same_span(const char *a, size_t n, const char *b, size_t m)
{
    return (a != NULL) == (b != NULL) && n == m && (a == NULL || memcmp(a, b, n) == 0);
}

/* Readers that do not know the flags add_bos_token and add_eos_token do what the post_processor says. Where the flags differ too, what they make of
 * it together was compared. */
static quern_status compare_postprocessors(const comparison *c)
{
    quern_status status = QUERN_OK;
    qn_surroundings a = {0}, b = {0};
    static const char *const flags[] = {"add_bos_token", "add_eos_token"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (!qn_json_same(own_key(c, QN_FOLDER_TOKENIZER_CONFIG, flags[i]), source_key(c, QN_FOLDER_TOKENIZER_CONFIG, flags[i]))) {
            return QUERN_OK;
        }
    }
    QN_TRY(qn_pipeline_read_postprocessor(&a, own_key(c, QN_FOLDER_TOKENIZER, "post_processor"), c->err));
    QN_TRY(qn_pipeline_read_postprocessor(&b, source_key(c, QN_FOLDER_TOKENIZER, "post_processor"), c->err));
    if (!same_span(a.before, a.before_len, b.before, b.before_len) || !same_span(a.after, a.after_len, b.after, b.after_len)) {
        QN_TRY(qn_findings_fail(
            c->findings, NULL, c->err,
            "tokenizer.json: the post_processor puts '%.*s' before and '%.*s' behind a text, the source's '%.*s' and '%.*s'",
            qn_name_shown(a.before, a.before_len), a.before != NULL ? a.before : "", qn_name_shown(a.after, a.after_len),
            a.after != NULL ? a.after : "", qn_name_shown(b.before, b.before_len), b.before != NULL ? b.before : "",
            qn_name_shown(b.after, b.after_len), b.after != NULL ? b.after : ""));
    }
done:
    return status;
}

/* One added token, whichever of the two files describes it; false where it is not of that form. */
typedef struct added {
    const char *content;
    size_t len;
    bool flags[5];
} added;
static const char *const flag_names[5] = {"special", "single_word", "lstrip", "rstrip", "normalized"};

static added read_added(const qn_json *v)
{
    added a = {.content = qn_json_string(qn_json_get(v, "content"), NULL)};
    a.len = a.content != NULL ? strlen(a.content) : 0;
    for (size_t i = 0; i < 5; i++) {
        a.flags[i] = qn_json_bool(qn_json_get(v, flag_names[i]), i == 4 && !a.flags[0]);
    }
    return a;
}

/* The source's token of this id: of the same table, else of tokenizer.json. */
static const qn_json *source_added(const comparison *c, const char *id)
{
    const qn_json *v = qn_json_get(source_key(c, QN_FOLDER_TOKENIZER_CONFIG, "added_tokens_decoder"), id);
    const qn_json *list = source_key(c, QN_FOLDER_TOKENIZER, "added_tokens");
    for (size_t i = 0; v == NULL && i < qn_json_length(list); i++) {
        int64_t number;
        char text[32];
        (void)snprintf(text, sizeof text, "%lld", qn_json_int(qn_json_get(qn_json_at(list, i), "id"), &number) ? (long long)number : -1LL);
        v = strcmp(text, id) == 0 ? qn_json_at(list, i) : NULL;
    }
    return v;
}

/* transformers lets this table decide over tokenizer.json. */
static quern_status compare_added_tokens(const comparison *c)
{
    const qn_json *table = own_key(c, QN_FOLDER_TOKENIZER_CONFIG, "added_tokens_decoder");
    for (qn_json_iterator *it = qn_json_iter(table); it != NULL; it = qn_json_next(table, it)) {
        const char *id = qn_json_iter_key(it, NULL);
        const qn_json *there = source_added(c, id);
        added a = read_added(qn_json_iter_value(it)), b = read_added(there);
        const char *what = there == NULL || !same_span(a.content, a.len, b.content, b.len) ? "content" : NULL;
        for (size_t i = 0; i < 5 && what == NULL; i++) {
            what = a.flags[i] != b.flags[i] ? flag_names[i] : NULL;
        }
        if (what != NULL) {
            return qn_findings_fail(c->findings, NULL, c->err,
                                    "tokenizer_config.json: added_tokens_decoder: token %.20s: %s is not the source's", id, what);
        }
    }
    return QUERN_OK;
}

static quern_status compare_splitting(const comparison *c)
{
    bool own = qn_json_bool(own_key(c, QN_FOLDER_TOKENIZER_CONFIG, "split_special_tokens"), false);
    bool source = qn_json_bool(source_key(c, QN_FOLDER_TOKENIZER_CONFIG, "split_special_tokens"), false);
    return own == source
               ? QUERN_OK
               : qn_findings_fail(c->findings, NULL, c->err, "tokenizer_config.json: split_special_tokens is %s, the source has %s",
                                  own ? "true" : "false", source ? "true" : "false");
}

/* Keys that decide what other readers make of a text, or whether they run code: a difference is a fault. null is the same as absence. */
static quern_status compare_deciding_keys(const comparison *c)
{
    static const struct {
        qn_folder_text kind;
        const char *key, *why;
    } keys[] = {{QN_FOLDER_TOKENIZER, "truncation", "readers cut texts by it"},
                {QN_FOLDER_TOKENIZER, "padding", "readers pad texts by it"},
                {QN_FOLDER_TOKENIZER_CONFIG, "add_prefix_space", "readers put a space in front"},
                {QN_FOLDER_TOKENIZER_CONFIG, "bos_token", "readers put it in front"},
                {QN_FOLDER_CONFIG, "model_file", "mlx-lm runs that program"},
                {QN_FOLDER_CONFIG, "auto_map", "transformers runs those programs"}};
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const qn_json *own = own_key(c, keys[i].kind, keys[i].key), *source = source_key(c, keys[i].kind, keys[i].key);
        bool absent = own == NULL || qn_json_get_kind(own) == QN_JSON_NULL || !qn_json_bool(own, true);
        bool code = keys[i].kind == QN_FOLDER_CONFIG && absent; /* what runs no code is as well */
        bool nothing = absent && (source == NULL || qn_json_get_kind(source) == QN_JSON_NULL || !qn_json_bool(source, true));
        const char *a = qn_json_string(qn_json_get(own, "content"), NULL), *b = qn_json_string(source, NULL); /* a token as an object */
        const char *a_text = a != NULL ? a : qn_json_string(own, NULL),
                   *b_text = b != NULL ? b : qn_json_string(qn_json_get(source, "content"), NULL);
        bool same_token = a_text != NULL && b_text != NULL && strcmp(a_text, b_text) == 0;
        if (!code && !nothing && !same_token && !qn_json_same(own, source)) {
            QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "%s: %s is not the source's: %s", text_files[keys[i].kind].name, keys[i].key,
                                    keys[i].why));
        }
    }
done:
    return status;
}

/* ---- what is only written otherwise ---- */

/* Compared by what they mean. */
static bool is_compared(const char *key)
{
    static const char *const keys[] = {"added_tokens",  "chat_template", "added_tokens_decoder", "eos_token_id",
                                       "truncation",    "padding",       "add_prefix_space",     "bos_token",
                                       "model_file",    "auto_map",      "quantization",         "quantization_config",
                                       "quern_quality", "quern_type",    "tie_word_embeddings"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(keys[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static void collect(const qn_json *of, const qn_json *other, bool only_new, qn_json_places *places)
{
    for (qn_json_iterator *it = qn_json_iter(of); it != NULL; it = qn_json_next(of, it)) {
        const char *key = qn_json_iter_key(it, NULL);
        const qn_json *there = qn_json_get(other, key);
        if (!is_compared(key) && (!only_new || there == NULL)) {
            qn_json_find_places(qn_json_iter_value(it), there, key, places);
        }
    }
}

static quern_status note_places(const comparison *c, qn_folder_text k)
{
    qn_json_places places = {0};
    if (c->source->json[k] == NULL || c->own->json[k] == NULL) {
        bool differ = (c->source->json[k] == NULL) != (c->own->json[k] == NULL);
        return differ ? qn_findings_note(c->findings, c->err, "%s is %s", text_files[k].name,
                                         c->own->json[k] == NULL ? "not there, the source has one" : "there, the source has none")
                      : QUERN_OK;
    }
    collect(c->own->json[k], c->source->json[k], false, &places);
    collect(c->source->json[k], c->own->json[k], true, &places);
    if (places.n == 0) {
        return QUERN_OK;
    }
    qn_json_end_places(&places);
    return qn_findings_note(c->findings, c->err,
                            "%s differs from the source's in %s; Quern reads the same from both, other readers may not", text_files[k].name,
                            places.text);
}

static quern_status compare_files(const qn_job *job, const side *own, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_folder_texts texts = {0};
    side source = {.texts = &texts};
    const comparison c = {.own = own, .source = &source, .findings = f, .err = err};
    if (job->source.gguf != NULL) { /* nothing of the kind to compare with */
        return QUERN_OK;
    }
    QN_TRY(qn_folder_texts_read(&texts, job->source.path, err));
    QN_TRY(parse_side(&source, err));
    QN_TRY(compare_postprocessors(&c));
    QN_TRY(compare_added_tokens(&c));
    QN_TRY(compare_splitting(&c));
    QN_TRY(compare_deciding_keys(&c));
    for (size_t k = 0; k < N_JSON; k++) {
        QN_TRY(note_places(&c, (qn_folder_text)k));
    }
done:
    free_side(&source);
    qn_folder_texts_free(&texts);
    return status;
}

/* ---- the whole ---- */

/* The end tokens that mlx-lm takes from the source: generation_config.json's, else config.json's. Returns how many; ids has room for `cap`. */
static size_t list_needed(const qn_source *s, int32_t *ids, size_t cap)
{
    quern_error unused = {0};
    qn_json *root = NULL;
    size_t n = 0;
    if (s->generation_json != NULL && qn_json_parse(&root, s->generation_json, s->generation_len, QN_JSON_WIDE_INTEGERS,
                                                    text_files[QN_FOLDER_GENERATION].name, &unused) != QUERN_OK) {
        root = NULL; /* it was read before: memory, and then the configuration serves */
    }
    const qn_json *eos = qn_json_get(root, "eos_token_id");
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
    qn_json_free(root);
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
    QN_TRY(compare_files(job, &parsed, f, err));
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
    static const char *const others[] = {"model.safetensors.index.json", "chat_template.json", "README.md"};
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
    return false;
}

quern_status qn_verify_folder_files(const char *path, const qn_safetensors *weights, qn_findings *f, quern_error *err)
{
    enum { SHOWN_BYTES_MAX = 200 };
    quern_status status = QUERN_OK;
    const char **files = NULL;
    size_t n = 0, n_others = 0;
    qn_buf others;
    qn_buf_init(&others, 1u << 20);
    QN_TRY(qn_folder_list_files(path, &f->arena, &files, &n, err));
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
