/* vocab_json.c - see vocab_json.h.
 *
 * Every token stands in the model's vocabulary under its own id, added ones too, so that readers which number added tokens themselves find
 * them there. Unused ids that only fill up the embedding are left out.
 */
#include "text/vocab_json.h"

#include <string.h>

#include "base/json.h"
#include "text/tokenizer_int.h"
#include "text/vocab.h"

enum { GGUF_UNKNOWN = 2, GGUF_CONTROL = 3, GGUF_USER_DEFINED = 4, GGUF_UNUSED = 5 };

/* Building is checked once at the end. */
typedef struct builder {
    bool ok;
} builder;

static void set(builder *b, qn_json *object, const char *key, qn_json *value) { b->ok = qn_json_set(object, key, value) && b->ok; }
static void append(builder *b, qn_json *array, qn_json *value) { b->ok = qn_json_append(array, value) && b->ok; }
static void set_text(builder *b, qn_json *object, const char *key, const char *text) { set(b, object, key, qn_json_new_string(text)); }
static void set_bool(builder *b, qn_json *object, const char *key, bool v) { set(b, object, key, qn_json_new_bool(v)); }

/* A token's text with a NUL behind it; valid until the next call. */
static const char *text_at(qn_buf *scratch, const qn_vocab_spec *s, size_t id)
{
    qn_buf_reset(scratch);
    (void)qn_buf_append(scratch, s->tokens[id].data, s->tokens[id].len);
    return qn_buf_text(scratch);
}

static bool is_added(int32_t type) { return type == GGUF_UNKNOWN || type == GGUF_CONTROL || type == GGUF_USER_DEFINED; }

/* ---- the parts ---- */

static qn_json *added_tokens(builder *b, const qn_vocab_spec *s, qn_buf *scratch)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "normalized"};
    qn_json *list = qn_json_new_array();
    for (size_t i = 0; i < s->n_tokens; i++) {
        if (is_added(s->types[i])) {
            qn_json *v = qn_json_new_object();
            set(b, v, "id", qn_json_new_int((int64_t)i));
            set_text(b, v, "content", text_at(scratch, s, i));
            for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++) {
                set_bool(b, v, flags[k], false);
            }
            set_bool(b, v, "special", s->types[i] != GGUF_USER_DEFINED);
            append(b, list, v);
        }
    }
    return list;
}

static qn_json *byte_level(builder *b)
{
    qn_json *v = qn_json_new_object();
    set_text(b, v, "type", "ByteLevel");
    set_bool(b, v, "add_prefix_space", false);
    set_bool(b, v, "trim_offsets", false);
    set_bool(b, v, "use_regex", false);
    return v;
}

static qn_json *pre_tokenizer(builder *b, const qn_pretokenizer *p)
{
    qn_json *v = qn_json_new_object(), *list = qn_json_new_array();
    set_text(b, v, "type", "Sequence");
    for (size_t i = 0; i < p->n_steps; i++) { /* a tokenizer from GGUF has scanners only */
        qn_json *step = qn_json_new_object(), *pattern = qn_json_new_object();
        set_text(b, step, "type", "Split");
        set_text(b, pattern, "Regex", qn_scanner_pattern(p->steps[i].scanner));
        set(b, step, "pattern", pattern);
        set_text(b, step, "behavior", "Isolated");
        set_bool(b, step, "invert", false);
        append(b, list, step);
    }
    append(b, list, byte_level(b));
    set(b, v, "pretokenizers", list);
    return v;
}

/* {"SpecialToken": {"id": "<s>", "type_id": 0}} or {"Sequence": {"id": "A", "type_id": 0}} */
static qn_json *template_item(builder *b, const char *kind, const char *id, int64_t type)
{
    qn_json *v = qn_json_new_object(), *inner = qn_json_new_object();
    set_text(b, inner, "id", id);
    set(b, inner, "type_id", qn_json_new_int(type));
    set(b, v, kind, inner);
    return v;
}

static void add_special(builder *b, qn_json *specials, const char *text, int64_t id)
{
    qn_json *v = qn_json_new_object(), *ids = qn_json_new_array(), *tokens = qn_json_new_array();
    append(b, ids, qn_json_new_int(id));
    append(b, tokens, qn_json_new_string(text));
    set_text(b, v, "id", text);
    set(b, v, "ids", ids);
    set(b, v, "tokens", tokens);
    set(b, specials, text, v);
}

static qn_json *post_processor(builder *b, const qn_vocab_spec *s, qn_buf *scratch)
{
    if (s->add_bos != 1 && s->add_eos != 1) {
        return byte_level(b);
    }
    qn_json *v = qn_json_new_object(), *specials = qn_json_new_object(), *lists[2];
    for (int64_t i = 0; i < 2; i++) { /* one text; two */
        lists[i] = qn_json_new_array();
        for (int64_t k = 0; k <= i; k++) {
            if (s->add_bos == 1) {
                append(b, lists[i], template_item(b, "SpecialToken", text_at(scratch, s, (size_t)s->bos_id), k));
            }
            append(b, lists[i], template_item(b, "Sequence", k == 0 ? "A" : "B", k));
            if (s->add_eos == 1) {
                append(b, lists[i], template_item(b, "SpecialToken", text_at(scratch, s, (size_t)s->eos_id), k));
            }
        }
    }
    if (s->add_bos == 1) {
        add_special(b, specials, text_at(scratch, s, (size_t)s->bos_id), s->bos_id);
    }
    if (s->add_eos == 1) {
        add_special(b, specials, text_at(scratch, s, (size_t)s->eos_id), s->eos_id);
    }
    set_text(b, v, "type", "TemplateProcessing");
    set(b, v, "single", lists[0]);
    set(b, v, "pair", lists[1]);
    set(b, v, "special_tokens", specials);
    return v;
}

static qn_json *model(builder *b, const quern_tokenizer *t, const qn_vocab_spec *s, qn_buf *scratch)
{
    qn_json *v = qn_json_new_object(), *vocab = qn_json_new_object(), *merges = qn_json_new_array();
    for (size_t i = 0; i < s->n_tokens; i++) {
        if (s->types[i] != GGUF_UNUSED) {
            set(b, vocab, text_at(scratch, s, i), qn_json_new_int((int64_t)i));
        }
    }
    for (size_t i = 0; i < s->n_merges; i++) {
        qn_buf_reset(scratch);
        (void)qn_buf_append(scratch, s->merges[i].data, s->merges[i].len);
        append(b, merges, qn_json_new_string(qn_buf_text(scratch)));
    }
    set_text(b, v, "type", "BPE");
    set(b, v, "dropout", qn_json_new_null());
    set(b, v, "unk_token", qn_json_new_null());
    set_text(b, v, "continuing_subword_prefix", "");
    set_text(b, v, "end_of_word_suffix", "");
    set_bool(b, v, "fuse_unk", false);
    set_bool(b, v, "byte_fallback", false);
    set_bool(b, v, "ignore_merges", t->ignore_merges);
    set(b, v, "vocab", vocab);
    set(b, v, "merges", merges);
    return v;
}

static qn_json *normalizer(builder *b, const qn_normalizer *z)
{
    if (z->n_steps == 0) {
        return qn_json_new_null();
    }
    qn_json *v = qn_json_new_object(); /* GGUF's byte-level names know no other */
    set_text(b, v, "type", "NFC");
    return v;
}

static quern_status write(const quern_tokenizer *t, const qn_vocab_spec *s, qn_buf *tokenizer, qn_buf *config, quern_error *err)
{
    quern_status status = QUERN_OK;
    builder b = {.ok = true};
    qn_buf scratch;
    qn_json *root = qn_json_new_object(), *about = qn_json_new_object();
    const struct {
        const char *key;
        int64_t id;
    } named[] = {{"bos_token", s->bos_id}, {"eos_token", s->eos_id}, {"unk_token", s->unk_id}, {"pad_token", s->pad_id}};
    qn_buf_init(&scratch, SIZE_MAX / 2);
    set_text(&b, root, "version", "1.0");
    set(&b, root, "truncation", qn_json_new_null());
    set(&b, root, "padding", qn_json_new_null());
    set(&b, root, "added_tokens", added_tokens(&b, s, &scratch));
    set(&b, root, "normalizer", normalizer(&b, &t->normalizer));
    set(&b, root, "pre_tokenizer", pre_tokenizer(&b, &t->pretokenizer));
    set(&b, root, "post_processor", post_processor(&b, s, &scratch));
    set(&b, root, "decoder", byte_level(&b));
    set(&b, root, "model", model(&b, t, s, &scratch));
    set_text(&b, about, "tokenizer_class", "PreTrainedTokenizerFast");
    set_bool(&b, about, "clean_up_tokenization_spaces", false);
    set_bool(&b, about, "add_bos_token", s->add_bos == 1);
    set_bool(&b, about, "add_eos_token", s->add_eos == 1);
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        if (named[i].id >= 0) {
            set_text(&b, about, named[i].key, text_at(&scratch, s, (size_t)named[i].id));
        }
    }
    if (!b.ok || scratch.failed || !qn_json_write(root, 2, tokenizer) || !qn_json_write(about, 2, config)) {
        QN_FAIL_MEMORY(err, "tokenizer.json", tokenizer->len);
    }
done:
    qn_json_free(root);
    qn_json_free(about);
    qn_buf_deinit(&scratch);
    return status;
}

/* ---- reading back ---- */

static bool same_spans(const qn_text_span *a, const qn_text_span *b, size_t n, size_t *at)
{
    for (size_t i = 0; i < n; i++) {
        if (a[i].len != b[i].len || (a[i].len > 0 && memcmp(a[i].data, b[i].data, a[i].len) != 0)) {
            *at = i;
            return false;
        }
    }
    return true;
}

static const char *find_difference(const qn_vocab_spec *a, const qn_vocab_spec *b, size_t *at)
{
    const qn_pre *p = qn_pre_find(a->pre), *q = qn_pre_find(b->pre);
    *at = 0;
    if (!same_spans(a->tokens, b->tokens, a->n_tokens, at)) {
        return "the text of token";
    }
    for (size_t i = 0; i < a->n_tokens; i++) {
        if (a->types[i] != b->types[i]) {
            *at = i;
            return "the kind of token";
        }
    }
    if (a->n_merges != b->n_merges || !same_spans(a->merges, b->merges, a->n_merges, at)) {
        return "merge";
    }
    if (p == NULL || q == NULL || memcmp(p->scanners, q->scanners, sizeof p->scanners) != 0 || p->nfc != q->nfc ||
        p->ignore_merges != q->ignore_merges) {
        return "the way text is cut, step";
    }
    if (a->bos_id != b->bos_id || a->eos_id != b->eos_id || a->unk_id != b->unk_id || a->pad_id != b->pad_id || a->add_bos != b->add_bos ||
        a->add_eos != b->add_eos) {
        return "a special token, number";
    }
    return NULL;
}

quern_status qn_tokenizer_write_json(const quern_tokenizer *t, size_t n_vocab, qn_buf *tokenizer, qn_buf *config, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_vocab_export ours = {0}, back = {0};
    quern_tokenizer *again = NULL;
    size_t at;
    if (!t->byte_level) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "this version does not write a SentencePiece vocabulary as tokenizer.json");
    }
    QN_TRY(qn_tokenizer_export(t, n_vocab, &ours, err));
    QN_TRY(write(t, &ours.spec, tokenizer, config, err));
    QN_TRY(quern_tokenizer_create_from_json(&again, qn_buf_text(tokenizer), tokenizer->len, qn_buf_text(config), config->len, err));
    QN_TRY(qn_tokenizer_export(again, n_vocab, &back, err));
    const char *difference = find_difference(&ours.spec, &back.spec, &at);
    if (difference != NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "this tokenizer cannot be said in tokenizer.json: %s %zu would be another", difference, at);
    }
done:
    qn_vocab_export_deinit(&ours);
    qn_vocab_export_deinit(&back);
    quern_tokenizer_destroy(again);
    return status;
}
