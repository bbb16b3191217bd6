/* verify_templates.c - see verify_templates.h.
 *
 * transformers (and so mlx-lm) takes every additional_chat_templates/NAME.jinja of a folder, "default" before chat_template.jinja; where there is any
 * such file, tokenizer_config.json is not asked. A program that writes the folder again makes such files of a list in tokenizer_config.json, so that
 * they are compared with what the source has under the name, wherever it has it. Its processors read the key chat_template of chat_template.json.
 */
#include "quantize/verify_templates.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "quantize/json_difference.h"

static const char folder[] = "additional_chat_templates/", suffix[] = ".jinja", legacy[] = "chat_template.json";
enum { TEMPLATE_BYTES_MAX = 4 << 20, CONFIG_BYTES_MAX = 256 << 20, NAME_BYTES_MAX = 512 };

/* The templates' part of the source, read when the first file asks. */
typedef struct comparison {
    const qn_source *source;
    const char *path;
    qn_json *config; /* the source's tokenizer_config.json; NULL = none */
    qn_findings *findings;
    quern_error *err;
} comparison;

static bool is_additional(const char *name)
{
    size_t n = strlen(name), begin = strlen(folder), end = strlen(suffix);
    return n > begin + end && n < NAME_BYTES_MAX && strncmp(name, folder, begin) == 0 && strcmp(name + n - end, suffix) == 0;
}

bool qn_is_template_file(const char *name) { return is_additional(name) || strcmp(name, legacy) == 0; }

/* Jinja drops one newline at the end. */
static bool same_text(const char *a, size_t n, const char *b, size_t m)
{
    n -= n > 0 && a[n - 1] == '\n' ? 1 : 0;
    m -= m > 0 && b[m - 1] == '\n' ? 1 : 0;
    return n == m && memcmp(a, b, n) == 0;
}

/* ---- the source's ---- */

/* Of a text, or of a list of named ones. */
static const qn_json *find_in_config(const qn_json *config, const char *name)
{
    const qn_json *t = qn_json_get(config, "chat_template");
    if (qn_json_get_kind(t) != QN_JSON_ARRAY) {
        return strcmp(name, "default") == 0 ? t : NULL;
    }
    for (size_t i = 0; i < qn_json_length(t); i++) {
        const char *own = qn_json_string(qn_json_get(qn_json_at(t, i), "name"), NULL);
        if (own != NULL && strcmp(own, name) == 0) {
            return qn_json_get(qn_json_at(t, i), "template");
        }
    }
    return NULL;
}

/* A file of the source's folder, if nothing was found before. */
static quern_status read_if_none(const comparison *c, const char *file, char **text, size_t *len)
{
    return *text != NULL ? QUERN_OK : qn_file_read_member(text, len, c->source->path, file, TEMPLATE_BYTES_MAX, c->err);
}

/* *text NULL: the source has none of this name. The caller frees it. */
static quern_status read_from_source(const comparison *c, const char *name, char **text, size_t *len)
{
    quern_status status = QUERN_OK;
    char file[NAME_BYTES_MAX + sizeof folder + sizeof suffix];
    const qn_template_list *made = &c->source->templates;
    bool is_default = strcmp(name, "default") == 0;
    const char *found = NULL;
    size_t n = 0;
    *text = NULL;
    *len = 0;
    if (c->source->gguf != NULL) {
        found = is_default ? made->plain : strcmp(name, "tool_use") == 0 ? made->tool_use : NULL;
        n = is_default ? made->plain_len : made->tool_use_len;
    } else {
        (void)snprintf(file, sizeof file, "%s%s%s", folder, name, suffix);
        QN_TRY(read_if_none(c, file, text, len));
        QN_TRY(is_default ? read_if_none(c, "chat_template.jinja", text, len) : QUERN_OK);
        found = *text == NULL ? qn_json_string(find_in_config(c->config, name), &n) : NULL;
    }
    if (found != NULL) {
        *text = qn_strndup(found, n);
        *len = n;
        if (*text == NULL) {
            QN_FAIL_MEMORY(c->err, "a chat template", n);
        }
    }
done:
    return status;
}

static quern_status read_config(comparison *c)
{
    quern_status status = QUERN_OK;
    static const char name[] = "tokenizer_config.json";
    char *text = NULL;
    size_t len = 0;
    if (c->source->gguf == NULL) {
        QN_TRY(qn_file_read_member(&text, &len, c->source->path, name, CONFIG_BYTES_MAX, c->err));
    }
    if (text != NULL) {
        QN_TRY(qn_json_parse(&c->config, text, len, QN_JSON_ALLOW_NUL | QN_JSON_WIDE_INTEGERS, name, c->err));
    }
done:
    qn_free(text);
    return status;
}

/* ---- the folder's ---- */

static quern_status compare_with_source(const comparison *c, const char *file, const char *name, const char *text, size_t len)
{
    quern_status status = QUERN_OK;
    char *there = NULL;
    size_t n = 0;
    QN_TRY(read_from_source(c, name, &there, &n));
    if (there == NULL) {
        QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "%.200s: a chat template that the source does not have; other readers take it",
                                file));
    } else if (!same_text(text, len, there, n)) {
        QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "%.200s: the chat template is not the source's; other readers take it", file));
    }
done:
    qn_free(there);
    return status;
}

static quern_status compare_additional(const comparison *c, const char *file)
{
    quern_status status = QUERN_OK;
    char *text = NULL, name[NAME_BYTES_MAX];
    size_t len = 0, begin = strlen(folder);
    (void)snprintf(name, sizeof name, "%.*s", (int)(strlen(file) - begin - strlen(suffix)), file + begin);
    QN_TRY(qn_file_read_member(&text, &len, c->path, file, TEMPLATE_BYTES_MAX, c->err));
    QN_TRY(text != NULL ? compare_with_source(c, file, name, text, len) : QUERN_OK);
done:
    qn_free(text);
    return status;
}

/* The template in chat_template.json; the source's is that of its own file, else its default one. */
static quern_status compare_legacy(const comparison *c)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    char *text = NULL, *source = NULL;
    size_t len = 0, source_len = 0, own_len = 0;
    qn_json *root = NULL, *there = NULL;
    QN_TRY(qn_file_read_member(&text, &len, c->path, legacy, TEMPLATE_BYTES_MAX, c->err));
    if (c->source->gguf == NULL) {
        QN_TRY(qn_file_read_member(&source, &source_len, c->source->path, legacy, TEMPLATE_BYTES_MAX, c->err));
    }
    if (text == NULL || (source != NULL && source_len == len && memcmp(source, text, len) == 0)) {
        goto done;
    }
    status = qn_json_parse(&root, text, len, QN_JSON_ALLOW_NUL, legacy, &why);
    if (status == QUERN_OK && source != NULL) {
        status = qn_json_parse(&there, source, source_len, QN_JSON_ALLOW_NUL, legacy, &why);
    }
    if (status == QUERN_ERROR_MEMORY) {
        QN_FAIL(c->err, status, "%s", why.message);
    }
    if (status != QUERN_OK) {
        status = qn_findings_fail(c->findings, NULL, c->err, "%s is not the source's: %s", legacy, why.message);
        goto done;
    }
    const char *own = qn_json_string(qn_json_get(root, "chat_template"), &own_len);
    const char *expected = qn_json_string(qn_json_get(there, "chat_template"), &source_len);
    if (own != NULL && expected != NULL && same_text(own, own_len, expected, source_len)) {
        goto done;
    }
    QN_TRY(own != NULL && expected == NULL
               ? compare_with_source(c, legacy, "default", own, own_len)
               : qn_findings_fail(c->findings, NULL, c->err, "%s: the chat template is not the source's; other readers take it", legacy));
done:
    qn_json_free(root);
    qn_json_free(there);
    qn_free(text);
    qn_free(source);
    return status;
}

/* tokenizer_config.json beside chat_template.jinja: converters to GGUF ask it first. Its own text may be the source's there, or the one that the
 * source has under the name. */
static quern_status compare_shadowed(const comparison *c)
{
    static const char *const names[] = {"default", "tool_use"};
    quern_status status = QUERN_OK;
    quern_error why = {0};
    char *plain = NULL, *text = NULL;
    size_t len = 0;
    qn_json *own = NULL;
    QN_TRY(qn_file_read_member(&plain, &len, c->path, "chat_template.jinja", TEMPLATE_BYTES_MAX, c->err));
    if (plain == NULL) {
        goto done;
    }
    QN_TRY(qn_file_read_member(&text, &len, c->path, "tokenizer_config.json", CONFIG_BYTES_MAX, c->err));
    if (text == NULL) {
        goto done;
    }
    status = qn_json_parse(&own, text, len, QN_JSON_ALLOW_NUL | QN_JSON_WIDE_INTEGERS, "tokenizer_config.json", &why);
    if (status == QUERN_ERROR_MEMORY) {
        QN_FAIL(c->err, status, "%s", why.message);
    }
    if (status != QUERN_OK) { /* Jansson calls some failures of malloc invalid JSON: nothing is passed over */
        status = qn_findings_fail(c->findings, NULL, c->err, "%s", why.message);
        goto done;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const qn_json *there = find_in_config(own, names[i]), *source = find_in_config(c->config, names[i]);
        const char *template = qn_json_string(there, &len);
        if (template != NULL && !qn_json_same(there, source)) {
            QN_TRY(compare_with_source(c, "tokenizer_config.json", names[i], template, len));
        }
    }
done:
    qn_json_free(own);
    qn_free(text);
    qn_free(plain);
    return status;
}

quern_status qn_verify_templates(const qn_source *source, const char *path, const char *const *files, size_t n, qn_findings *f,
                                 quern_error *err)
{
    quern_status status = QUERN_OK;
    comparison c = {.source = source, .path = path, .findings = f, .err = err};
    QN_TRY(read_config(&c));
    for (size_t i = 0; i < n; i++) {
        if (is_additional(files[i])) {
            QN_TRY(compare_additional(&c, files[i]));
        } else if (strcmp(files[i], legacy) == 0) {
            QN_TRY(compare_legacy(&c));
        }
    }
    QN_TRY(compare_shadowed(&c));
done:
    qn_json_free(c.config);
    return status;
}
