/* verify_texts.c - see verify_texts.h. */
#include "quantize/verify_texts.h"

#include <inttypes.h>
#include <string.h>

#include "model/model_int.h"
#include "text/tokenizer_compare.h"

typedef struct comparison {
    const qn_model_texts *own, *source;
    const qn_texts_options *opt;
    qn_findings *findings;
    quern_error *err;
} comparison;

/* ---- tokenizers ---- */

static quern_status tell_difference(void *user, bool matters, const char *sentence, quern_error *err)
{
    qn_findings *f = user;
    return matters ? qn_findings_fail(f, NULL, err, "tokenizer: %s", sentence) : qn_findings_note(f, err, "tokenizer: %s", sentence);
}

static quern_status compare_ids(const comparison *c)
{
    quern_status status = QUERN_OK;
    quern_ids a = {0}, b = {0};
    const qn_texts_options *o = c->opt;
    QN_TRY(quern_tokenizer_encode(c->own->tokenizer, o->text, o->len, QUERN_ENCODE_PARSE_SPECIAL, &a, c->err));
    QN_TRY(quern_tokenizer_encode(c->source->tokenizer, o->text, o->len, QUERN_ENCODE_PARSE_SPECIAL, &b, c->err));
    for (size_t i = 0; i < a.len || i < b.len; i++) {
        int32_t x = i < a.len ? a.data[i] : -1, y = i < b.len ? b.data[i] : -1;
        if (x != y) {
            QN_TRY(qn_findings_fail(
                c->findings, NULL, c->err,
                "tokenizer: the gate text becomes other ids: number %zu is %" PRId32 ", with the source's tokenizer %" PRId32, i, x, y));
            break;
        }
    }
done:
    quern_ids_deinit(&a);
    quern_ids_deinit(&b);
    return status;
}

/* A tokenizer that cannot be used (an expression that needs more than it may) is a finding, not an error. */
static quern_status tell_unusable(const comparison *c, quern_status status, const quern_error *why)
{
    if (status == QUERN_OK) {
        return QUERN_OK;
    }
    if (status == QUERN_ERROR_MEMORY || status == QUERN_ERROR_IO || status == QUERN_ERROR_CANCELLED) {
        return qn_error_set(c->err, status, "%s", why->message);
    }
    return qn_findings_fail(c->findings, NULL, c->err, "tokenizer: it cannot be compared: %s", why->message);
}

static quern_status compare_tokenizers(const comparison *c)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    comparison inner = *c;
    inner.err = &why;
    QN_TRY(tell_unusable(c, qn_tokenizer_compare(c->own->tokenizer, c->source->tokenizer, tell_difference, c->findings, &why), &why));
    QN_TRY(c->opt->text != NULL ? tell_unusable(c, compare_ids(&inner), &why) : QUERN_OK);
done:
    return status;
}

/* ---- special tokens ---- */

static bool contains(qn_span s, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; s.data != NULL && i + n <= s.len; i++) {
        if (memcmp(s.data + i, word, n) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether a prompt may spell it: the templates' variables have these names. */
static bool is_in_templates(const comparison *c, const char *variable)
{
    return contains(c->source->template, variable) || contains(c->source->tool_template, variable);
}

static quern_status compare_flag(const comparison *c, const char *what, bool own, bool source)
{
    return own == source ? QUERN_OK
                         : qn_findings_fail(c->findings, NULL, c->err, "tokenizer: %s: %s, in the source %s", what, own ? "true" : "false",
                                            source ? "true" : "false");
}

/* The tokens with a role. Which of them end an answer is compared by itself. */
static quern_status compare_roles(const comparison *c)
{
    quern_status status = QUERN_OK;
    const quern_tokenizer_info *a = quern_tokenizer_get_info(c->own->tokenizer), *b = quern_tokenizer_get_info(c->source->tokenizer);
    const struct {
        const char *name;
        int32_t own, source;
        bool used;
    } roles[] = {{"bos_token", a->bos_id, b->bos_id, a->add_bos || b->add_bos || (a->bos_id >= 0 && b->bos_id >= 0)},
                 {"eos_token", a->eos_id, b->eos_id, a->add_eos || b->add_eos},
                 {"unk_token", a->unk_id, b->unk_id, false},
                 {"pad_token", a->pad_id, b->pad_id, false}};
    QN_TRY(compare_flag(c, "a token of its own begins each text", a->add_bos, b->add_bos));
    QN_TRY(compare_flag(c, "a token of its own ends each text", a->add_eos, b->add_eos));
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (roles[i].own == roles[i].source) {
            continue;
        }
        static const char form[] = "tokenizer: %s is token %" PRId32 ", in the source %" PRId32 " (-1 = none)";
        if (roles[i].used || is_in_templates(c, roles[i].name)) {
            QN_TRY(qn_findings_fail(c->findings, NULL, c->err, form, roles[i].name, roles[i].own, roles[i].source));
        } else {
            QN_TRY(qn_findings_note(c->findings, c->err, form, roles[i].name, roles[i].own, roles[i].source));
        }
    }
done:
    return status;
}

/* ---- end tokens ---- */

typedef struct id_list {
    int32_t *ids;
    size_t n;
} id_list;

static bool has_id(const int32_t *ids, size_t n, int64_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* Said outright, by the configuration or as the tokenizer's eos_token. */
static bool is_named(const qn_model_texts *t, int32_t id)
{
    return has_id(t->config->stop_ids, t->config->n_stop_ids, id) || t->config->eos_id == id ||
           quern_tokenizer_get_info(t->tokenizer)->eos_id == id;
}

static quern_status list_stop_ids(const qn_model_texts *t, id_list *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t cap = t->config->n_stop_ids + QN_STOP_IDS_BESIDES;
    out->ids = qn_malloc_array(cap, sizeof *out->ids);
    if (out->ids == NULL) {
        QN_FAIL_MEMORY(err, "stop ids", cap * sizeof *out->ids);
    }
    out->n = qn_model_list_stop_ids(t->config, t->tokenizer, out->ids);
done:
    return status;
}

/* A token of a text for a message. */
static const char *shown_token(const quern_tokenizer *t, int32_t id, int *len)
{
    size_t n = 0;
    const char *text = quern_tokenizer_get_text(t, id, &n);
    *len = text != NULL ? qn_name_shown(text, n) : 0;
    return text != NULL ? text : "";
}

static quern_status compare_stop_ids(const comparison *c)
{
    quern_status status = QUERN_OK;
    id_list a = {0}, b = {0};
    int len;
    QN_TRY(list_stop_ids(c->own, &a, c->err));
    QN_TRY(list_stop_ids(c->source, &b, c->err));
    for (size_t i = 0; i < b.n; i++) {
        const char *text = shown_token(c->source->tokenizer, b.ids[i], &len);
        bool ends = has_id(a.ids, a.n, b.ids[i]), forgotten = is_named(c->source, b.ids[i]) && !is_named(c->own, b.ids[i]);
        if (!ends || (forgotten && has_id(c->opt->needed, c->opt->n_needed, b.ids[i]))) {
            QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "end tokens: %" PRId32 " '%.*s' ends an answer in the source%s", b.ids[i],
                                    len, text, ends ? " and is not named here" : ", but not here"));
        } else if (forgotten) {
            QN_TRY(qn_findings_note(c->findings, c->err,
                                    "end tokens: %" PRId32 " '%.*s' is named in the source and not here; readers know it by its text",
                                    b.ids[i], len, text));
        }
    }
    for (size_t i = 0; i < a.n; i++) {
        if (!has_id(b.ids, b.n, a.ids[i])) {
            const char *text = shown_token(c->own->tokenizer, a.ids[i], &len);
            QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "end tokens: %" PRId32 " '%.*s' ends an answer here and not in the source",
                                    a.ids[i], len, text));
        }
    }
done:
    qn_free(a.ids);
    qn_free(b.ids);
    return status;
}

/* ---- templates ---- */

/* Jinja drops one newline at the end. */
static qn_span trimmed(qn_span s)
{
    s.len -= s.len > 0 && s.data[s.len - 1] == '\n' ? 1 : 0;
    return s;
}

static bool same_text(qn_span a, qn_span b) { return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0); }

static quern_status compare_template(const comparison *c, const char *what, qn_span own, qn_span source)
{
    size_t a = own.data != NULL ? own.len : 0, b = source.data != NULL ? source.len : 0;
    if (a == 0 && b > 0 && c->opt->is_part) {
        return qn_findings_note(c->findings, c->err, "there is no %s, the source has one of %zu bytes: the folder was copied in part", what,
                                b);
    }
    if (a == 0 && b > 0) {
        return qn_findings_fail(c->findings, NULL, c->err, "there is no %s, the source has one of %zu bytes", what, b);
    }
    if (a > 0 && b == 0) {
        return qn_findings_fail(c->findings, NULL, c->err, "there is a %s of %zu bytes, the source has none", what, a);
    }
    if (a == 0 || same_text(own, source)) {
        return QUERN_OK;
    }
    if (same_text(trimmed(own), trimmed(source))) {
        return qn_findings_note(c->findings, c->err, "the %s is the source's but for a line end behind it", what);
    }
    size_t at = 0, line = 1;
    for (; at < a && at < b && own.data[at] == source.data[at]; at++) {
        line += own.data[at] == '\n';
    }
    return qn_findings_fail(c->findings, NULL, c->err, "the %s (%zu bytes) is not the source's (%zu bytes): they part in line %zu", what, a,
                            b, line);
}

quern_status qn_model_texts_read_templates(qn_model_texts *t, const qn_gguf *g, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool found;
    QN_TRY(qn_gguf_get_string(g, "tokenizer.chat_template", &t->template, &found, err));
    t->template = found ? t->template : (qn_span){0};
    QN_TRY(qn_gguf_get_string(g, "tokenizer.chat_template.tool_use", &t->tool_template, &found, err));
    t->tool_template = found ? t->tool_template : (qn_span){0};
done:
    return status;
}

quern_status qn_verify_texts(const qn_model_texts *own, const qn_model_texts *source, const qn_texts_options *opt, qn_findings *f,
                             quern_error *err)
{
    quern_status status = QUERN_OK;
    const comparison c = {.own = own, .source = source, .opt = opt, .findings = f, .err = err};
    QN_TRY(compare_tokenizers(&c));
    QN_TRY(compare_roles(&c));
    QN_TRY(compare_stop_ids(&c));
    QN_TRY(compare_template(&c, "chat template", own->template, source->template));
    QN_TRY(compare_template(&c, "chat template for tools", own->tool_template, source->tool_template));
done:
    return status;
}
