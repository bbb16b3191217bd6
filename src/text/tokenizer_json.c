/* tokenizer_json.c - a tokenizer from tokenizer.json and tokenizer_config.json.
 *
 * The vocabulary and the merges are read token by token: as a tree of values, 150,000 entries cost half a second and 60 MB. Everything else
 * goes through base/json.h. tokenizer_config.json names the
 * beginning and end tokens and may describe further added tokens; where both describe a token, tokenizer.json counts.
 */
#include <string.h>

#include "base/json.h"
#include "base/json_tokens.h"
#include "text/tokenizer_pipeline.h"
#include "text/vocab_build.h"

static const char WHAT[] = "tokenizer.json", WHAT_CONFIG[] = "tokenizer_config.json";

typedef struct span {
    size_t begin, end; /* in the file; equal = absent */
} span;

/* The small parts of the file, parsed, and where the large ones are. */
typedef enum part { ADDED_TOKENS, NORMALIZER, PRE_TOKENIZER, POST_PROCESSOR, DECODER, N_PARTS } part;
static const char *const part_names[N_PARTS] = {"added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"};
typedef enum field { TYPE, DROPOUT, UNK_TOKEN, SUBWORD_PREFIX, WORD_SUFFIX, FUSE_UNK, BYTE_FALLBACK, IGNORE_MERGES, N_FIELDS } field;
static const char *const field_names[N_FIELDS] = {
    "type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges"};
typedef enum large { VOCAB, MERGES, N_LARGE } large;
static const char *const large_names[N_LARGE] = {"vocab", "merges"};

typedef struct reading {
    qn_vocab_builder b;
    quern_error *err;
    const char *json;
    size_t json_len;
    bool has_model;
    span large[N_LARGE];
    qn_json *parts[N_PARTS], *fields[N_FIELDS], *config;
    qn_buf strings[2]; /* decoded strings: of the left and the right part of a merge, or of anything else */
} reading;

static bool same(const char *text, size_t len, const char *name) { return strlen(name) == len && memcmp(text, name, len) == 0; }

static quern_status fail_at(const reading *r, const qn_json_tokens *s, const char *expected)
{
    size_t line = 1, line_begin = 0;
    for (size_t i = 0; i < s->begin && i < s->size; i++) {
        if (s->data[i] == '\n') {
            line++;
            line_begin = i + 1;
        }
    }
    return qn_error_set(r->err, QUERN_ERROR_INVALID, "%s: line %zu, column %zu: expected %s", WHAT, line, s->begin - line_begin + 1,
                        expected);
}

static quern_status expect(const reading *r, qn_json_tokens *s, qn_json_token token)
{
    return qn_json_tokens_next(s) == token ? QUERN_OK : fail_at(r, s, qn_json_token_text(token));
}

/* The string that is the last token, decoded; valid until the same buffer is used again. */
static quern_status get_string(reading *r, const qn_json_tokens *s, int buffer, const char **text, size_t *len)
{
    quern_status status = QUERN_OK;
    qn_buf *b = &r->strings[buffer];
    *text = s->data + s->begin;
    *len = s->end - s->begin;
    if (memchr(*text, '\\', *len) != NULL) {
        qn_buf_reset(b);
        if (!qn_buf_reserve(b, *len)) {
            QN_FAIL_MEMORY(r->err, "a string", *len);
        }
        *len = qn_json_tokens_string(s, b->data);
        *text = b->data;
    }
done:
    return status;
}

/* Goes to the next element of an object or array; *more false at its end. */
static quern_status next_element(const reading *r, qn_json_tokens *s, qn_json_token close, bool first, bool *more)
{
    qn_json_token token = qn_json_tokens_next(s);
    *more = token != close;
    if (*more && !first) {
        if (token != QN_JSON_TOKEN_COMMA) {
            return fail_at(r, s, "',' or the closing bracket");
        }
        (void)qn_json_tokens_next(s);
    }
    return QUERN_OK;
}

/* What a member of the file or of its model is: one of those parsed, one of those only located, the model, or nothing of interest. */
typedef struct member_names {
    const char *const *parsed;
    size_t n_parsed;
    qn_json **values;
    const char *const *large; /* N_LARGE, or NULL */
    const char *model;        /* name of the member that is the model, or NULL */
} member_names;

static size_t find_name(const char *key, size_t len, const char *const *names, size_t n)
{
    size_t i = 0;
    while (i < n && !same(key, len, names[i])) {
        i++;
    }
    return i;
}

static quern_status read_members(reading *r, qn_json_tokens *s, const member_names *names);

/* Reads the value of a member, the last token being its name. */
static quern_status read_member(reading *r, qn_json_tokens *s, const member_names *names)
{
    quern_status status = QUERN_OK;
    const char *key;
    size_t len;
    QN_TRY(get_string(r, s, 0, &key, &len));
    size_t k = find_name(key, len, names->parsed, names->n_parsed),
           m = names->large != NULL ? find_name(key, len, names->large, N_LARGE) : N_LARGE;
    bool model = names->model != NULL && same(key, len, names->model);
    if ((k < names->n_parsed && names->values[k] != NULL) || (m < N_LARGE && r->large[m].end > 0) || (model && r->has_model)) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: \"%.*s\" is there twice", WHAT, qn_shown(key, len), key);
    }
    QN_TRY(expect(r, s, QN_JSON_TOKEN_COLON));
    (void)qn_json_tokens_next(s);
    if (model) {
        const member_names inner = {.parsed = field_names, .n_parsed = N_FIELDS, .values = r->fields, .large = large_names};
        r->has_model = true;
        QN_TRY(read_members(r, s, &inner));
        return QUERN_OK;
    }
    size_t begin = s->token == QN_JSON_TOKEN_STRING ? s->begin - 1 : s->begin;
    if (!qn_json_tokens_skip(s)) {
        QN_TRY(fail_at(r, s, "a JSON value"));
    }
    if (m < N_LARGE) {
        r->large[m] = (span){.begin = begin, .end = s->next};
    } else if (k < names->n_parsed) {
        QN_TRY(qn_json_parse(&names->values[k], s->data + begin, s->next - begin, QN_JSON_ALLOW_NUL, WHAT, r->err));
    }
done:
    return status;
}

/* Reads the members of an object, the last token being its bracket. */
static quern_status read_members(reading *r, qn_json_tokens *s, const member_names *names)
{
    quern_status status = QUERN_OK;
    bool more = false;
    if (s->token != QN_JSON_TOKEN_OBJECT) {
        QN_TRY(fail_at(r, s, "an object"));
    }
    for (bool first = true;; first = false) {
        QN_TRY(next_element(r, s, QN_JSON_TOKEN_OBJECT_END, first, &more));
        if (!more) {
            break;
        }
        if (s->token != QN_JSON_TOKEN_STRING) {
            QN_TRY(fail_at(r, s, "a name"));
        }
        QN_TRY(read_member(r, s, names));
    }
done:
    return status;
}

/* Begins reading at a large part. */
static qn_json_tokens tokens_of(const reading *r, large part_index)
{
    qn_json_tokens s;
    qn_json_tokens_init(&s, r->json, r->large[part_index].end);
    s.next = r->large[part_index].begin;
    return s;
}

static quern_status read_top(reading *r)
{
    quern_status status = QUERN_OK;
    qn_json_tokens s;
    member_names names = {.parsed = part_names, .n_parsed = N_PARTS, .values = r->parts, .model = "model"};
    qn_json_tokens_init(&s, r->json, r->json_len);
    (void)qn_json_tokens_next(&s);
    QN_TRY(read_members(r, &s, &names));
    QN_TRY(expect(r, &s, QN_JSON_TOKEN_END));
    if (!r->has_model) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: there is no \"model\"", WHAT);
    }
done:
    return status;
}

static quern_status check_empty(reading *r, field f)
{
    quern_status status = QUERN_OK;
    const qn_json *v = r->fields[f];
    if (qn_json_get_kind(v) != QN_JSON_NULL && (qn_json_get_kind(v) != QN_JSON_STRING || qn_json_length(v) > 0)) {
        QN_FAIL(r->err, QUERN_ERROR_UNSUPPORTED, "%s: model with %s is not supported", WHAT, field_names[f]);
    }
done:
    return status;
}

static quern_status check_model(reading *r)
{
    quern_status status = QUERN_OK;
    const char *type = qn_json_string(r->fields[TYPE], NULL);
    double dropout = 0;
    if (r->fields[TYPE] != NULL && type == NULL) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: the model's type is no string", WHAT);
    }
    if (type != NULL && strcmp(type, "BPE") != 0) {
        QN_FAIL(r->err, QUERN_ERROR_UNSUPPORTED, "%s: model of type %s is not supported (BPE is)", WHAT, type);
    }
    if (r->large[VOCAB].end == 0 || r->large[MERGES].end == 0) { /* old files have no type; a BPE model has both */
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: the model has no %s", WHAT, r->large[VOCAB].end == 0 ? "vocab" : "merges");
    }
    if (qn_json_get_kind(r->fields[DROPOUT]) != QN_JSON_NULL &&
        (!qn_json_number(r->fields[DROPOUT], &dropout) || dropout > 0 || dropout < 0)) {
        QN_FAIL(r->err, QUERN_ERROR_UNSUPPORTED, "%s: model with dropout is not supported", WHAT);
    }
    QN_TRY(check_empty(r, SUBWORD_PREFIX));
    QN_TRY(check_empty(r, WORD_SUFFIX));
    r->b.t->fuse_unknown = qn_json_bool(r->fields[FUSE_UNK], false);
    r->b.t->ignore_merges = qn_json_bool(r->fields[IGNORE_MERGES], false);
done:
    return status;
}

/* ---- vocabulary ---- */

static quern_status read_vocab(reading *r)
{
    quern_status status = QUERN_OK;
    qn_json_tokens s = tokens_of(r, VOCAB);
    bool more = false;
    QN_TRY(expect(r, &s, QN_JSON_TOKEN_OBJECT));
    for (bool first = true;; first = false) {
        QN_TRY(next_element(r, &s, QN_JSON_TOKEN_OBJECT_END, first, &more));
        if (!more) {
            break;
        }
        const char *text;
        size_t len;
        uint64_t id;
        QN_TRY(get_string(r, &s, 0, &text, &len));
        QN_TRY(expect(r, &s, QN_JSON_TOKEN_COLON));
        if (qn_json_tokens_next(&s) != QN_JSON_TOKEN_INT || !qn_json_tokens_u64(&s, &id) || id > INT64_MAX) {
            QN_TRY(fail_at(r, &s, "a token id"));
        }
        QN_TRY(qn_builder_add(&r->b, (int64_t)id, text, len, QUERN_TOKEN_NORMAL, 0));
    }
done:
    return status;
}

static quern_status read_added(reading *r, const qn_json *item, int64_t id, const char *what)
{
    quern_status status = QUERN_OK;
    size_t len;
    const char *text = qn_json_string(qn_json_get(item, "content"), &len);
    if (text == NULL) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: added token %lld has no content", what, (long long)id);
    }
    bool special = qn_json_bool(qn_json_get(item, "special"), false);
    qn_added_entry like = {.single_word = qn_json_bool(qn_json_get(item, "single_word"), false),
                           .left_strip = qn_json_bool(qn_json_get(item, "lstrip"), false),
                           .right_strip = qn_json_bool(qn_json_get(item, "rstrip"), false),
                           .normalized = qn_json_bool(qn_json_get(item, "normalized"), !special),
                           .special = special};
    QN_TRY(qn_builder_add_added(&r->b, id, text, len, like));
done:
    return status;
}

static quern_status read_added_tokens(reading *r)
{
    quern_status status = QUERN_OK;
    const qn_json *list = r->parts[ADDED_TOKENS];
    for (size_t i = 0; i < qn_json_length(list); i++) {
        const qn_json *item = qn_json_at(list, i);
        int64_t id;
        if (!qn_json_int(qn_json_get(item, "id"), &id)) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: added token %zu has no id", WHAT, i);
        }
        QN_TRY(read_added(r, item, id, WHAT));
    }
    const qn_json *more = qn_json_get(r->config, "added_tokens_decoder");
    for (qn_json_iterator *it = qn_json_iter(more); it != NULL; it = qn_json_next(more, it)) {
        size_t len;
        const char *key = qn_json_iter_key(it, &len);
        int64_t id = 0;
        for (size_t i = 0; i < len; i++) {
            if (key[i] < '0' || key[i] > '9' || len > 9) {
                QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: added_tokens_decoder: \"%s\" is no token id", WHAT_CONFIG, key);
            }
            id = id * 10 + (key[i] - '0');
        }
        QN_TRY(read_added(r, qn_json_iter_value(it), id, WHAT_CONFIG));
    }
done:
    return status;
}

/* ---- merges ---- */

/* "left right" or ["left", "right"], the last token being its first; old files begin with a line "#version". */
static quern_status read_merge(reading *r, qn_json_tokens *s, size_t *rank)
{
    quern_status status = QUERN_OK;
    const char *text, *right;
    size_t len, right_len;
    if (s->token == QN_JSON_TOKEN_ARRAY) {
        QN_TRY(expect(r, s, QN_JSON_TOKEN_STRING));
        QN_TRY(get_string(r, s, 0, &text, &len));
        QN_TRY(expect(r, s, QN_JSON_TOKEN_COMMA));
        QN_TRY(expect(r, s, QN_JSON_TOKEN_STRING));
        QN_TRY(get_string(r, s, 1, &right, &right_len));
        QN_TRY(expect(r, s, QN_JSON_TOKEN_ARRAY_END));
        QN_TRY(qn_builder_merge(&r->b, (*rank)++, text, len, right, right_len, true));
        return QUERN_OK;
    }
    if (s->token != QN_JSON_TOKEN_STRING) {
        QN_TRY(fail_at(r, s, "a merge: \"left right\" or [\"left\", \"right\"]"));
    }
    QN_TRY(get_string(r, s, 0, &text, &len));
    if (len >= 8 && memcmp(text, "#version", 8) == 0) {
        return QUERN_OK;
    }
    const char *space = memchr(text, ' ', len);
    if (space == NULL || memchr(space + 1, ' ', len - (size_t)(space + 1 - text)) != NULL) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: merge %zu \"%.*s\": expected two tokens and one blank between them", WHAT, *rank,
                qn_shown(text, len), text);
    }
    size_t left_len = (size_t)(space - text);
    QN_TRY(qn_builder_merge(&r->b, (*rank)++, text, left_len, space + 1, len - left_len - 1, true));
done:
    return status;
}

static quern_status read_merges(reading *r)
{
    quern_status status = QUERN_OK;
    qn_json_tokens s = tokens_of(r, MERGES);
    bool more = false;
    size_t rank = 0;
    QN_TRY(qn_builder_merges_begin(&r->b));
    QN_TRY(expect(r, &s, QN_JSON_TOKEN_ARRAY));
    for (bool first = true;; first = false) {
        QN_TRY(next_element(r, &s, QN_JSON_TOKEN_ARRAY_END, first, &more));
        if (!more) {
            break;
        }
        QN_TRY(read_merge(r, &s, &rank));
    }
done:
    return status;
}

/* ---- the tokens with a role ---- */

/* tokenizer_config.json's "bos_token" and the like: a string or {"content": string}; -1 where absent or not in the vocabulary. */
static int32_t named_token(const reading *r, const char *name)
{
    const qn_json *v = qn_json_get(r->config, name);
    size_t len;
    const char *text = qn_json_string(qn_json_get_kind(v) == QN_JSON_OBJECT ? qn_json_get(v, "content") : v, &len);
    uint32_t id = text != NULL ? qn_vocab_find_any(r->b.t, text, len) : QN_NO_TOKEN;
    return id == QN_NO_TOKEN ? -1 : (int32_t)id;
}

/* Whether a token is put before or behind each text, and which: tokenizer_config.json's flag, else the post-processor. */
static quern_status read_addition(reading *r, const char *flag, const char *text, size_t len, bool *add, int32_t *id)
{
    quern_status status = QUERN_OK;
    const qn_json *v = qn_json_get(r->config, flag);
    *add = qn_json_bool(v, text != NULL);
    if (qn_json_get_kind(v) != QN_JSON_BOOL && text != NULL) {
        uint32_t found = qn_vocab_find_any(r->b.t, text, len);
        *id = found == QN_NO_TOKEN ? -1 : (int32_t)found;
    }
    if (*add && *id < 0) {
        QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: %s asks for a token that the vocabulary does not have", v != NULL ? WHAT_CONFIG : WHAT,
                v != NULL ? flag : "the post_processor");
    }
done:
    return status;
}

static quern_status read_roles(reading *r)
{
    quern_status status = QUERN_OK;
    quern_tokenizer_info *info = &r->b.t->info;
    qn_surroundings around = {0};
    size_t len;
    const char *unknown = qn_json_string(r->fields[UNK_TOKEN], &len);
    info->bos_id = named_token(r, "bos_token");
    info->eos_id = named_token(r, "eos_token");
    info->pad_id = named_token(r, "pad_token");
    info->unk_id = named_token(r, "unk_token");
    if (unknown != NULL) {
        uint32_t id = qn_vocab_find_any(r->b.t, unknown, len);
        if (id == QN_NO_TOKEN) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: unk_token \"%.*s\" is not in the vocabulary", WHAT, qn_shown(unknown, len), unknown);
        }
        qn_builder_mark_unknown(&r->b, id);
        info->unk_id = (int32_t)id;
    }
    QN_TRY(qn_pipeline_read_postprocessor(&around, r->parts[POST_PROCESSOR], r->err));
    QN_TRY(read_addition(r, "add_bos_token", around.before, around.before_len, &info->add_bos, &info->bos_id));
    QN_TRY(read_addition(r, "add_eos_token", around.after, around.after_len, &info->add_eos, &info->eos_id));
done:
    return status;
}

static quern_status read_all(reading *r, const char *config, size_t config_len)
{
    quern_status status = QUERN_OK;
    quern_tokenizer *t = r->b.t;
    QN_TRY(read_top(r));
    if (config != NULL) {
        QN_TRY(qn_json_parse(&r->config, config, config_len, QN_JSON_ALLOW_NUL | QN_JSON_WIDE_INTEGERS, WHAT_CONFIG, r->err));
        if (qn_json_get_kind(r->config) != QN_JSON_OBJECT) {
            QN_FAIL(r->err, QUERN_ERROR_INVALID, "%s: expected an object", WHAT_CONFIG);
        }
    }
    QN_TRY(check_model(r));
    QN_TRY(qn_pipeline_read_normalizer(&t->normalizer, r->parts[NORMALIZER], r->err));
    QN_TRY(qn_pipeline_read_pretokenizer(&t->pretokenizer, &t->byte_level, r->parts[PRE_TOKENIZER], r->err));
    QN_TRY(read_vocab(r));
    QN_TRY(read_added_tokens(r));
    QN_TRY(qn_builder_place(&r->b));
    QN_TRY(read_roles(r));
    if (!t->byte_level && qn_json_bool(r->fields[BYTE_FALLBACK], false)) {
        qn_builder_mark_bytes(&r->b);
    }
    QN_TRY(read_merges(r));
    QN_TRY(qn_pipeline_read_decoder(t, r->parts[DECODER], r->err));
    QN_TRY(qn_builder_finish(&r->b));
    qn_pipeline_name(t);
done:
    return status;
}

quern_status quern_tokenizer_create_from_json(quern_tokenizer **out, const char *json, size_t json_len, const char *config,
                                              size_t config_len, quern_error *err)
{
    quern_status status = QUERN_OK;
    reading r = {.err = err, .json = json_len > 0 ? json : "", .json_len = json_len};
    *out = NULL;
    qn_buf_init(&r.strings[0], json_len);
    qn_buf_init(&r.strings[1], json_len);
    QN_TRY(qn_builder_init(&r.b, WHAT, err));
    QN_TRY(read_all(&r, config, config_len));
    *out = qn_builder_take(&r.b);
done:
    for (size_t i = 0; i < N_PARTS; i++) {
        qn_json_free(r.parts[i]);
    }
    for (size_t i = 0; i < N_FIELDS; i++) {
        qn_json_free(r.fields[i]);
    }
    qn_json_free(r.config);
    qn_buf_deinit(&r.strings[0]);
    qn_buf_deinit(&r.strings[1]);
    qn_builder_deinit(&r.b);
    return status;
}
