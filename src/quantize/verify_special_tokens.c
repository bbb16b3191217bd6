/* verify_special_tokens.c - which texts tokenizer_config.json and special_tokens_map.json make special tokens, against the source.
 *
 * transformers splits every text at each token that one of these files names: by a key that ends in "_token", or in a list. Versions spell that in
 * different ways (additional_special_tokens became extra_special_tokens), so that what counts is the set of texts, and their flags where they are
 * given. A text that the source's tokenizer.json has as a special token becomes the same id in any case.
 */
#include <string.h>

#include "quantize/verify_folder_keys.h"

static const qn_folder_text files[] = {QN_FOLDER_TOKENIZER_CONFIG, QN_FOLDER_SPECIAL_TOKENS};
static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens"};
enum { N_FILES = sizeof files / sizeof files[0], N_LISTS = sizeof lists / sizeof lists[0] };

/* Sets of texts: objects with what stands there as values. */
typedef struct comparison {
    const qn_folder_keys *keys;
    qn_json *own, *source; /* what the lists name */
    qn_json *named;        /* what keys of the output name: transformers makes such keys of a list with names */
    qn_json *special;      /* the source's added tokens that are special */
    const char *class_name;
} comparison;

/* A token's text, whether it stands there by itself or as an object; NULL for anything else, and for texts that hold a NUL. */
static const char *text_of(const qn_json *v)
{
    size_t len = 0;
    const char *text = qn_json_string(v, &len);
    if (text == NULL) {
        text = qn_json_string(qn_json_get(v, "content"), &len);
    }
    return text != NULL && strlen(text) == len ? text : NULL;
}

static bool add(qn_json *set, const qn_json *v)
{
    const char *text = text_of(v);
    return text == NULL || qn_json_set(set, text, qn_json_clone(v));
}

/* What the lists of one file name: arrays of tokens, or objects with names of their own for them. */
static bool add_lists(qn_json *set, const qn_json *config)
{
    bool fits = true;
    for (size_t i = 0; i < N_LISTS; i++) {
        const qn_json *list = qn_json_get(config, lists[i]);
        for (size_t k = 0; k < (qn_json_get_kind(list) == QN_JSON_ARRAY ? qn_json_length(list) : 0); k++) {
            fits = add(set, qn_json_at(list, k)) && fits;
        }
        for (qn_json_iterator *it = qn_json_iter(list); it != NULL; it = qn_json_next(list, it)) {
            fits = add(set, qn_json_iter_value(it)) && fits;
        }
    }
    return fits;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* A key by which a model of its own kind names a token; the roles that every tokenizer has are none. */
static bool is_named_by_model(const char *key)
{
    static const char *const usual[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
    bool found = ends_with(key, "_token");
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) {
        found = found && strcmp(usual[i], key) != 0;
    }
    return found;
}

static bool add_named(qn_json *set, const qn_json *config)
{
    bool fits = true;
    for (qn_json_iterator *it = qn_json_iter(config); it != NULL; it = qn_json_next(config, it)) {
        fits = (!is_named_by_model(qn_json_iter_key(it, NULL)) || add(set, qn_json_iter_value(it))) && fits;
    }
    return fits;
}

static bool add_special(qn_json *set, const qn_json *added)
{
    bool fits = true;
    for (size_t i = 0; i < qn_json_length(added); i++) {
        const qn_json *v = qn_json_at(added, i);
        fits = (!qn_json_bool(qn_json_get(v, "special"), false) || add(set, v)) && fits;
    }
    return fits;
}

/* Tokens that transformers' class of this name has where the files name none, and then writes. */
static bool is_of_class(const comparison *c, const char *text)
{
    static const struct {
        const char *begin, *text;
    } made[] = {{"Qwen2Tokenizer", "<|endoftext|>"},         {"CodeLlamaTokenizer", "\xe2\x96\x81<PRE>"},
                {"CodeLlamaTokenizer", "\xe2\x96\x81<MID>"}, {"CodeLlamaTokenizer", "\xe2\x96\x81<SUF>"},
                {"CodeLlamaTokenizer", "\xe2\x96\x81<EOT>"}, {"CodeLlamaTokenizer", "<FILL_ME>"}};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        if (strncmp(c->class_name, made[i].begin, strlen(made[i].begin)) == 0 && strcmp(made[i].text, text) == 0) {
            return true;
        }
    }
    return false;
}

/* A token that stands here is special whatever it says: the other flags, those that are given. */
static bool agrees(const qn_json *v, const qn_json *known)
{
    for (size_t i = 1; i < QN_ADDED_FLAGS; i++) {
        const qn_json *flag = qn_json_get(v, qn_added_flag_names[i]);
        if (flag != NULL && qn_json_bool(flag, false) != qn_added_token_read(known).flags[i]) {
            return false;
        }
    }
    return true;
}

/* Whether flags that are spelled out are those of the source's token: as it stands in these files, or in tokenizer.json. */
static bool has_same_flags(const comparison *c, const qn_json *v, const qn_json *there, const char *text)
{
    const qn_json *added = qn_json_get(c->special, text);
    bool spelled = qn_json_get_kind(there) == QN_JSON_OBJECT;
    bool unknown = !spelled && added == NULL;
    return qn_json_get_kind(v) != QN_JSON_OBJECT || unknown || (spelled && agrees(v, there)) || (added != NULL && agrees(v, added));
}

/* ---- single keys ---- */

/* The source's token with this role; *same: it has this text in one of the files. */
static const qn_json *find_role(const comparison *c, const char *key, const char *text, bool *same)
{
    const qn_json *found = NULL;
    *same = false;
    for (size_t i = 0; i < N_FILES && !*same; i++) {
        const qn_json *v = qn_json_get(c->keys->source[files[i]], key);
        const char *there = text_of(v);
        found = there != NULL ? v : found;
        *same = there != NULL && strcmp(there, text) == 0;
    }
    return found;
}

static quern_status compare_role(const comparison *c, const char *file, const char *key, const qn_json *v)
{
    const qn_folder_keys *k = c->keys;
    const char *text = text_of(v);
    bool same, known;
    if (text == NULL) {
        return QUERN_OK;
    }
    const qn_json *there = find_role(c, key, text, &same);
    known = same || is_of_class(c, text) || qn_json_get(c->special, text) != NULL || qn_json_get(c->source, text) != NULL;
    if (same && !has_same_flags(c, v, there, text)) {
        return qn_findings_fail(k->findings, NULL, k->err, "%s: %.60s: the flags of '%.60s' are not the source's", file, key, text);
    }
    if (strcmp(key, "pad_token") == 0 && !same && (there != NULL || !is_of_class(c, text))) {
        const char *other = text_of(there);
        return qn_findings_fail(k->findings, NULL, k->err, "%s: pad_token is '%.60s', the source has %s%.60s%s: readers pad by it", file,
                                text, other != NULL ? "'" : "", other != NULL ? other : "none", other != NULL ? "'" : "");
    }
    return known ? QUERN_OK
                 : qn_findings_fail(k->findings, NULL, k->err,
                                    "%s: %.60s is '%.60s', no special token in the source: readers would make it one", file, key, text);
}

static quern_status compare_roles(const comparison *c)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < N_FILES; i++) {
        const qn_json *own = c->keys->own[files[i]];
        for (qn_json_iterator *it = qn_json_iter(own); it != NULL; it = qn_json_next(own, it)) {
            const char *key = qn_json_iter_key(it, NULL);
            QN_TRY(ends_with(key, "_token") ? compare_role(c, qn_folder_text_name(files[i]), key, qn_json_iter_value(it)) : QUERN_OK);
        }
    }
done:
    return status;
}

/* ---- lists ---- */

static quern_status compare_lists(const comparison *c)
{
    static const char form[] = "tokenizer_config.json: special tokens: '%.60s' %s";
    const qn_folder_keys *k = c->keys;
    for (qn_json_iterator *it = qn_json_iter(c->own); it != NULL; it = qn_json_next(c->own, it)) {
        const char *text = qn_json_iter_key(it, NULL);
        const qn_json *there = qn_json_get(c->source, text);
        if (there == NULL && !is_of_class(c, text)) {
            return qn_findings_fail(k->findings, NULL, k->err, form, text,
                                    "is listed here and not in the source: readers would make it one");
        }
        if (!has_same_flags(c, qn_json_iter_value(it), there, text)) {
            return qn_findings_fail(k->findings, NULL, k->err, form, text, "has other flags than in the source");
        }
    }
    for (qn_json_iterator *it = qn_json_iter(c->source); it != NULL; it = qn_json_next(c->source, it)) {
        const char *text = qn_json_iter_key(it, NULL);
        bool dropped = qn_json_length(c->own) == 0 && qn_json_get(c->special, text) != NULL; /* as a whole: tokenizer.json has them */
        if (qn_json_get(c->own, text) == NULL && qn_json_get(c->named, text) == NULL && !dropped) {
            return qn_findings_fail(k->findings, NULL, k->err, form, text, "is listed in the source and not here");
        }
    }
    return QUERN_OK;
}

quern_status qn_verify_special_tokens(const qn_folder_keys *keys)
{
    quern_status status = QUERN_OK;
    comparison c = {.keys = keys,
                    .own = qn_json_new_object(),
                    .source = qn_json_new_object(),
                    .named = qn_json_new_object(),
                    .special = qn_json_new_object()};
    bool fits = c.own != NULL && c.source != NULL && c.named != NULL && c.special != NULL;
    const char *name = qn_json_string(qn_json_get(keys->source[QN_FOLDER_TOKENIZER_CONFIG], "tokenizer_class"), NULL);
    c.class_name = name != NULL ? name : "";
    for (size_t i = 0; i < N_FILES && fits; i++) {
        fits = add_lists(c.own, keys->own[files[i]]) && add_lists(c.source, keys->source[files[i]]) &&
               add_named(c.named, keys->own[files[i]]);
    }
    if (!fits || !add_special(c.special, qn_json_get(keys->source[QN_FOLDER_TOKENIZER], "added_tokens"))) {
        QN_FAIL_MEMORY(keys->err, "special tokens", 64);
    }
    QN_TRY(compare_roles(&c));
    QN_TRY(compare_lists(&c));
done:
    qn_json_free(c.own);
    qn_json_free(c.source);
    qn_json_free(c.named);
    qn_json_free(c.special);
    return status;
}
