/* vocab_spec.c - a tokenizer from the arrays of GGUF metadata, and back. */
#include <string.h>

#include "base/utf8.h"
#include "text/vocab.h"
#include "text/vocab_build.h"

/* GGUF's token types. */
enum { GGUF_UNDEFINED, GGUF_NORMAL, GGUF_UNKNOWN, GGUF_CONTROL, GGUF_USER_DEFINED, GGUF_UNUSED, GGUF_BYTE };

/* ---- in ---- */

static quern_status check_spec(const qn_vocab_spec *s, bool spm, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (!spm && (s->model == NULL || strcmp(s->model, "gpt2") != 0)) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: tokenizer model \"%s\" is not supported (gpt2 and llama are)", s->what,
                s->model != NULL ? s->model : "(none)");
    }
    if (s->n_tokens > QN_TOKENS_MAX) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: %zu tokens, at most %d", s->what, s->n_tokens, QN_TOKENS_MAX);
    }
    if (spm && s->scores == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: a SentencePiece vocabulary without scores", s->what);
    }
    if (!spm && s->pre == NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: no tokenizer.ggml.pre: how text is to be cut is not known", s->what);
    }
    if (!spm && qn_pre_find(s->pre) == NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: pre-tokenizer \"%s\" is not known", s->what, s->pre);
    }
    int64_t ids[] = {s->bos_id, s->eos_id, s->unk_id, s->pad_id};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        if (ids[i] < -1 || ids[i] >= (int64_t)s->n_tokens) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: special token id %lld in a vocabulary of %zu", s->what, (long long)ids[i], s->n_tokens);
        }
    }
done:
    return status;
}

/* The type of token i; without types, what the special ids say. */
static int32_t type_of(const qn_vocab_spec *s, size_t i)
{
    if (s->types != NULL) {
        return s->types[i] == GGUF_UNDEFINED ? GGUF_NORMAL : s->types[i];
    }
    int64_t id = (int64_t)i;
    if (id == s->unk_id) {
        return GGUF_UNKNOWN;
    }
    return id == s->bos_id || id == s->eos_id || id == s->pad_id ? GGUF_CONTROL : GGUF_NORMAL;
}

static quern_status add_tokens(qn_vocab_builder *b, const qn_vocab_spec *s)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < s->n_tokens; i++) {
        const qn_text_span *text = &s->tokens[i];
        int32_t type = type_of(s, i);
        if (!qn_utf8_valid(text->data, text->len)) {
            QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: the text of token %zu is no UTF-8", s->what, i);
        }
        switch (type) {
        case GGUF_UNKNOWN:
        case GGUF_CONTROL:
        case GGUF_USER_DEFINED:
            QN_TRY(qn_builder_add_added(b, (int64_t)i, text->data, text->len,
                                        (qn_added_entry){.special = type != GGUF_USER_DEFINED, .in_model = true}));
            break;
        case GGUF_NORMAL: QN_TRY(qn_builder_add(b, (int64_t)i, text->data, text->len, QUERN_TOKEN_NORMAL, 0)); break;
        case GGUF_UNUSED: QN_TRY(qn_builder_add(b, (int64_t)i, text->data, text->len, QUERN_TOKEN_UNUSED, 0)); break;
        case GGUF_BYTE: QN_TRY(qn_builder_add(b, (int64_t)i, text->data, text->len, QUERN_TOKEN_BYTE, 0)); break;
        default: QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: token %zu has type %d, expected 1 to 6", s->what, i, type);
        }
    }
done:
    return status;
}

static quern_status add_merges(qn_vocab_builder *b, const qn_vocab_spec *s)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_builder_merges_begin(b));
    for (size_t i = 0; i < s->n_merges; i++) {
        const qn_text_span *m = &s->merges[i];
        const char *space = m->len > 1 ? memchr(m->data + 1, ' ', m->len - 1)
                                       : NULL; /* the alphabet has no blank, a left part is never empty */
        if (space == NULL) {
            QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: merge %zu \"%.*s\": expected two tokens and a blank between them", s->what, i,
                    qn_shown(m->data, m->len), m->data);
        }
        size_t left = (size_t)(space - m->data);
        QN_TRY(qn_builder_merge(b, i, m->data, left, space + 1, m->len - left - 1, false));
    }
done:
    return status;
}

static void set_normal_step(quern_tokenizer *t, qn_normal_op op, const char *from, const char *to)
{
    qn_normal_step *step = &t->normalizer.steps[t->normalizer.n_steps++];
    *step = (qn_normal_step){.op = op, .from_len = (uint8_t)strlen(from), .to_len = (uint8_t)strlen(to)};
    memcpy(step->from, from, step->from_len);
    memcpy(step->to, to, step->to_len);
}

static void set_bytes_pipeline(quern_tokenizer *t, const qn_pre *pre)
{
    t->ignore_merges = pre->ignore_merges;
    t->decode_mode = QN_DECODE_BYTES;
    t->pre_name = pre->name;
    t->info.pre_tokenizer = pre->family;
    if (pre->nfc) {
        set_normal_step(t, QN_NORMAL_NFC, "", "");
    }
    for (size_t i = 0; i < QN_PRE_SCANNERS_MAX && pre->scanners[i] != NULL; i++) {
        t->pretokenizer.steps[t->pretokenizer.n_steps++] = (qn_step){
            .kind = QN_STEP_SCANNER, .scanner = pre->scanners[i], .behavior = QN_SPLIT_ISOLATED};
    }
}

static void set_chars_pipeline(quern_tokenizer *t, const qn_vocab_spec *s)
{
    t->add_space_prefix = s->add_space_prefix != 0 ? 1 : 0;
    if (t->add_space_prefix == 1) {
        set_normal_step(t, QN_NORMAL_PREPEND, "", QN_BLANK);
    }
    set_normal_step(t, QN_NORMAL_REPLACE, " ", QN_BLANK);
    t->fuse_unknown = true;
    t->decode_mode = QN_DECODE_BLANKS;
    t->strip_leading = (uint32_t)t->add_space_prefix;
    t->info.pre_tokenizer = "none";
}

/* The unknown token: by its id, else the one of that type. */
static void find_unknown(qn_vocab_builder *b, const qn_vocab_spec *s)
{
    quern_tokenizer *t = b->t;
    for (size_t i = 0; i < s->n_tokens; i++) {
        if (type_of(s, i) == GGUF_UNKNOWN) {
            t->tokens[i].kind = QUERN_TOKEN_UNKNOWN;
            t->info.unk_id = t->info.unk_id < 0 ? (int32_t)i : t->info.unk_id;
        }
    }
    if (s->unk_id >= 0) {
        t->info.unk_id = (int32_t)s->unk_id;
    }
    if (t->info.unk_id >= 0 && !t->byte_level) {
        qn_builder_mark_unknown(b, (uint32_t)t->info.unk_id);
    }
}

static quern_status build(qn_vocab_builder *b, const qn_vocab_spec *s, bool spm)
{
    quern_status status = QUERN_OK;
    quern_tokenizer *t = b->t;
    t->byte_level = !spm;
    QN_TRY(add_tokens(b, s));
    QN_TRY(qn_builder_place(b));
    t->info.bos_id = (int32_t)s->bos_id;
    t->info.eos_id = (int32_t)s->eos_id;
    t->info.pad_id = (int32_t)s->pad_id;
    const qn_pre *pre = spm ? NULL : qn_pre_find(s->pre);
    if (pre != NULL) {
        set_bytes_pipeline(t, pre);
    } else {
        set_chars_pipeline(t, s);
    }
    find_unknown(b, s);
    bool add_bos = pre != NULL ? pre->add_bos : true; /* what readers of GGUF assume where the file is silent */
    t->info.add_bos = s->add_bos >= 0 ? s->add_bos != 0 : add_bos && t->info.bos_id >= 0;
    t->info.add_eos = s->add_eos > 0;
    if ((t->info.add_bos && t->info.bos_id < 0) || (t->info.add_eos && t->info.eos_id < 0)) {
        QN_FAIL(b->err, QUERN_ERROR_INVALID, "%s: a token is to be added to each text, but none is named", s->what);
    }
    if (spm) {
        if (s->types == NULL) {
            qn_builder_mark_bytes(b);
        }
        QN_TRY(qn_builder_merges_from_scores(b, s->scores));
        t->scores = qn_malloc_array(s->n_tokens, sizeof *t->scores);
        if (t->scores == NULL) {
            QN_FAIL_MEMORY(b->err, "scores", s->n_tokens * sizeof *t->scores);
        }
        memcpy(t->scores, s->scores, s->n_tokens * sizeof *t->scores);
    } else {
        QN_TRY(add_merges(b, s));
    }
    QN_TRY(qn_builder_finish(b));
done:
    return status;
}

quern_status qn_tokenizer_create_from_spec(quern_tokenizer **out, const qn_vocab_spec *spec, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_vocab_builder b = {0};
    bool spm = spec->model != NULL && strcmp(spec->model, "llama") == 0;
    *out = NULL;
    QN_TRY(check_spec(spec, spm, err));
    QN_TRY(qn_builder_init(&b, spec->what, err));
    QN_TRY(build(&b, spec, spm));
    *out = qn_builder_take(&b);
done:
    qn_builder_deinit(&b);
    return status;
}
