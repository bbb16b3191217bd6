/* tokenizer_compare.c - see tokenizer_compare.h. Invariant: tokens come first, since all else is told in ids. */
#include "text/tokenizer_compare.h"

#include <stdio.h>
#include <stdlib.h>

#include "text/tokenizer_int.h"

enum { SENTENCE_MAX = 400 };

typedef struct comparison {
    const quern_tokenizer *own, *source;
    qn_tokenizer_difference_fn tell;
    void *user;
    quern_error *err;
} comparison;

static quern_status tell(const comparison *c, bool matters, const char *format, ...) QN_PRINTF(3, 4);
static quern_status tell(const comparison *c, bool matters, const char *format, ...)
{
    char text[SENTENCE_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return c->tell(c->user, matters, text, c->err);
}

/* ---- tokens ---- */

static bool is_present(const quern_tokenizer *t, size_t id)
{
    return id < t->info.n_tokens && (t->tokens[id].flags & QN_TOKEN_PRESENT) != 0;
}

/* Ids that only the output has do no harm as long as no text becomes them. */
static quern_status compare_extra_token(const comparison *c, size_t id)
{
    const qn_token *k = &c->own->tokens[id];
    const char *text = qn_token_text(c->own, (uint32_t)id);
    bool reachable = qn_token_reachable(k) && k->len > 0;
    return tell(c, reachable, "token %zu '%.*s' is not in the source", id, qn_shown(text, k->len), text);
}

/* Never text of the user's: an unknown token that is special is left out and kept back as other special tokens are. */
static bool is_control(const qn_token *k)
{
    return k->kind == QUERN_TOKEN_CONTROL || (k->kind == QUERN_TOKEN_UNKNOWN && (k->flags & QN_TOKEN_SPECIAL) != 0);
}

static quern_status compare_tokens(const comparison *c, bool *same)
{
    quern_status status = QUERN_OK;
    const quern_tokenizer *own = c->own, *source = c->source;
    size_t n = own->info.n_tokens > source->info.n_tokens ? own->info.n_tokens : source->info.n_tokens, n_extra = 0;
    for (size_t i = 0; i < n && *same; i++) {
        if (!is_present(source, i)) { /* a hole in the source's numbers: files fill it as they like */
            bool extra = is_present(own, i) && own->tokens[i].kind != QUERN_TOKEN_UNUSED && (own->tokens[i].flags & QN_TOKEN_ADDED) == 0;
            if (extra && n_extra++ == 0) {
                QN_TRY(compare_extra_token(c, i));
            }
            continue;
        }
        const qn_token *b = &source->tokens[i];
        const char *text = qn_token_text(source, (uint32_t)i);
        const qn_token *a = is_present(own, i) ? &own->tokens[i] : NULL;
        if (a == NULL || a->len != b->len || memcmp(qn_token_text(own, (uint32_t)i), text, a->len) != 0) {
            *same = false;
            QN_TRY(tell(c, true, "token %zu is '%.*s', the source has '%.*s'", i,
                        a != NULL ? qn_shown(qn_token_text(own, (uint32_t)i), a->len) : 0, a != NULL ? qn_token_text(own, (uint32_t)i) : "",
                        qn_shown(text, b->len), text));
        } else if (is_control(a) != is_control(b)) {
            *same = false;
            bool control = is_control(a);
            QN_TRY(tell(c, true, "token %zu '%.*s' %s a control token, in the source it %s", i, qn_shown(text, b->len), text,
                        control ? "is" : "is not", control ? "is not" : "is"));
        } else if (qn_token_reachable(a) != qn_token_reachable(b)) {
            *same = false;
            QN_TRY(tell(c, true, "token %zu '%.*s' is %s, in the source it is %s", i, qn_shown(text, b->len), text,
                        qn_token_reachable(a) ? "made by merging" : "never made by merging", qn_token_reachable(b) ? "made so" : "not"));
        }
    }
done:
    return status;
}

/* ---- merges ---- */

/* The text of a symbol: a token, or a character that is none; buffer holds the latter. */
static const char *symbol_text(const quern_tokenizer *t, uint32_t symbol, char buffer[4], size_t *len)
{
    if (symbol < t->info.n_tokens) {
        *len = t->tokens[symbol].len;
        return qn_token_text(t, symbol);
    }
    *len = qn_utf8_encode(t->extra_chars[symbol - t->info.n_tokens], buffer);
    return buffer;
}

static bool same_symbol(const comparison *c, uint32_t own, uint32_t source)
{
    char x[4], y[4];
    size_t n, m;
    const char *a = symbol_text(c->own, own, x, &n), *b = symbol_text(c->source, source, y, &m);
    return n == m && memcmp(a, b, n) == 0;
}

static void show_merge(const quern_tokenizer *t, const qn_merge *m, char *out, size_t cap)
{
    char x[4], y[4];
    size_t a_len, b_len;
    const char *a = symbol_text(t, (uint32_t)(m->pair >> 32), x, &a_len), *b = symbol_text(t, (uint32_t)m->pair, y, &b_len);
    (void)snprintf(out, cap, "'%.*s' + '%.*s'", qn_shown(a, a_len < 40 ? a_len : 40), a, qn_shown(b, b_len < 40 ? b_len : 40), b);
}

static quern_status compare_merges(const comparison *c)
{
    quern_status status = QUERN_OK;
    qn_merge *a = qn_merge_table_sorted(&c->own->merges), *b = qn_merge_table_sorted(&c->source->merges);
    size_t n = c->own->merges.n, m = c->source->merges.n;
    if (a == NULL || b == NULL) {
        QN_FAIL_MEMORY(c->err, "merges", (n + m) * sizeof *a);
    }
    for (size_t i = 0; i < n && i < m; i++) {
        if (!same_symbol(c, (uint32_t)(a[i].pair >> 32), (uint32_t)(b[i].pair >> 32)) ||
            !same_symbol(c, (uint32_t)a[i].pair, (uint32_t)b[i].pair) || !same_symbol(c, a[i].result, b[i].result)) {
            char x[160], y[160];
            show_merge(c->own, &a[i], x, sizeof x);
            show_merge(c->source, &b[i], y, sizeof y);
            QN_TRY(tell(c, true, "merge %zu is %s, the source has %s", i, x, y));
            goto done;
        }
    }
    if (n != m) {
        QN_TRY(tell(c, true, "%zu merges, the source has %zu", n, m));
    }
done:
    qn_free(a);
    qn_free(b);
    return status;
}

/* ---- added tokens ---- */

typedef struct added {
    const qn_added *token;
    const char *text;
    bool normalized;
} added;

static int compare_added_ids(const void *a, const void *b)
{
    const added *x = a, *y = b;
    return x->token->id < y->token->id ? -1 : x->token->id > y->token->id;
}

/* Both lists of a tokenizer in the order of ids; NULL when out of memory. */
static added *list_added(const quern_tokenizer *t, size_t *n)
{
    const qn_added_matcher *lists[2] = {&t->added_raw, &t->added_normalized};
    *n = 0;
    added *out = qn_malloc_array(t->added_raw.n + t->added_normalized.n + 1, sizeof *out);
    for (size_t k = 0; out != NULL && k < 2; k++) {
        for (size_t i = 0; i < lists[k]->n; i++) {
            const qn_added *a = &lists[k]->items[i];
            out[(*n)++] = (added){.token = a, .text = lists[k]->pool + a->begin, .normalized = k == 1};
        }
    }
    if (*n > 0) {
        qsort(out, *n, sizeof *out, compare_added_ids);
    }
    return out;
}

static quern_status compare_one_added(const comparison *c, const added *a, const added *b, bool *told)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip", "special"};
    const qn_added *x = a->token, *y = b->token;
    bool special[2] = {(c->own->tokens[x->id].flags & QN_TOKEN_SPECIAL) != 0, (c->source->tokens[y->id].flags & QN_TOKEN_SPECIAL) != 0};
    const bool own[] = {x->single_word, x->left_strip, x->right_strip, special[0]};
    const bool source[] = {y->single_word, y->left_strip, y->right_strip, special[1]};
    *told = true;
    if (x->len != y->len || memcmp(a->text, b->text, x->len) != 0) {
        return tell(c, true, "added token %u is looked for as '%.*s', in the source as '%.*s'", x->id, qn_shown(a->text, x->len), a->text,
                    qn_shown(b->text, y->len), b->text);
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (own[i] != source[i]) {
            return tell(c, true, "added token %u '%.*s' has %s %s, in the source %s", x->id, qn_shown(a->text, x->len), a->text, flags[i],
                        own[i] ? "true" : "false", source[i] ? "true" : "false");
        }
    }
    if (a->normalized != b->normalized) {
        return tell(c, c->source->normalizer.n_steps > 0, "added token %u '%.*s' has normalized %s, in the source %s", x->id,
                    qn_shown(a->text, x->len), a->text, a->normalized ? "true" : "false", b->normalized ? "true" : "false");
    }
    *told = false;
    return QUERN_OK;
}

static quern_status compare_added(const comparison *c)
{
    quern_status status = QUERN_OK;
    size_t n, m, i = 0, k = 0;
    bool told = false;
    added *a = list_added(c->own, &n), *b = list_added(c->source, &m);
    if (a == NULL || b == NULL) {
        QN_FAIL_MEMORY(c->err, "added tokens", (n + m) * sizeof *a);
    }
    while (!told && (i < n || k < m)) {
        bool own_only = k == m || (i < n && a[i].token->id < b[k].token->id);
        bool source_only = !own_only && (i == n || b[k].token->id < a[i].token->id);
        if (own_only || source_only) {
            const added *one = own_only ? &a[i] : &b[k];
            QN_TRY(tell(c, true, "added token %u '%.*s' %s", one->token->id, qn_shown(one->text, one->token->len), one->text,
                        own_only ? "is none in the source" : "is no added token"));
            goto done;
        }
        QN_TRY(compare_one_added(c, &a[i++], &b[k++], &told));
    }
done:
    qn_free(a);
    qn_free(b);
    return status;
}

/* ---- how text is normalized and cut ---- */

static bool same_normal_step(const qn_normal_step *a, const qn_normal_step *b)
{
    return a->op == b->op && a->from_len == b->from_len && a->to_len == b->to_len && memcmp(a->from, b->from, a->from_len) == 0 &&
           memcmp(a->to, b->to, a->to_len) == 0;
}

static bool same_step(const qn_step *a, const qn_step *b)
{
    size_t n = 0, m = 0;
    if (a->kind != b->kind || a->prepend != b->prepend) {
        return false;
    }
    const char *s = a->kind == QN_STEP_REGEX ? qn_regex_pattern(a->regex, &n) : "";
    const char *t = b->kind == QN_STEP_REGEX ? qn_regex_pattern(b->regex, &m) : "";
    bool cuts = a->kind == QN_STEP_SCANNER || a->kind == QN_STEP_LITERAL || a->kind == QN_STEP_REGEX;
    return a->scanner == b->scanner && n == m && memcmp(s, t, n) == 0 && a->literal_len == b->literal_len &&
           (a->literal_len == 0 || memcmp(a->literal, b->literal, a->literal_len) == 0) &&
           (!cuts || (a->behavior == b->behavior && a->invert == b->invert));
}

/* What differs, "" if nothing. */
static void find_pipeline_difference(const comparison *c, char *out, size_t cap)
{
    const qn_normalizer *x = &c->own->normalizer, *y = &c->source->normalizer;
    const qn_pretokenizer *p = &c->own->pretokenizer, *q = &c->source->pretokenizer;
    out[0] = '\0';
    for (size_t i = 0; i < x->n_steps || i < y->n_steps; i++) {
        if (i >= x->n_steps || i >= y->n_steps || !same_normal_step(&x->steps[i], &y->steps[i])) {
            (void)snprintf(out, cap, "step %zu of the normalizer (%zu steps, the source has %zu)", i + 1, x->n_steps, y->n_steps);
            return;
        }
    }
    for (size_t i = 0; i < p->n_steps || i < q->n_steps; i++) {
        if (i >= p->n_steps || i >= q->n_steps || !same_step(&p->steps[i], &q->steps[i])) {
            (void)snprintf(out, cap, "step %zu of the pre_tokenizer (%zu steps, the source has %zu)", i + 1, p->n_steps, q->n_steps);
            return;
        }
    }
}

/* Some texts prove nothing of the others: a step that only one side has may wait for a text that is not among them. What makes blanks visible and puts one
 * in front stands in the normalizer or in the pre-tokenizer, as the writer likes, and is tried on texts; every other step must be there on both sides,
 * unless it does nothing. */
static bool is_blank(const char *s, size_t n) { return (n == 1 && s[0] == ' ') || (n == QN_BLANK_LEN && memcmp(s, QN_BLANK, n) == 0); }

static bool normal_step_counts(const qn_normalizer *z, size_t i)
{
    const qn_normal_step *s = &z->steps[i];
    switch (s->op) {
    case QN_NORMAL_PREPEND: return s->to_len > 0 && !is_blank(s->to, s->to_len);
    case QN_NORMAL_REPLACE: {
        bool visible = s->from_len == 1 && s->from[0] == ' ' && s->to_len == QN_BLANK_LEN && is_blank(s->to, s->to_len);
        return !visible && !(s->from_len == s->to_len && memcmp(s->from, s->to, s->from_len) == 0);
    }
    default: return i == 0 || z->steps[i - 1].op != s->op; /* a form of Unicode made twice is made */
    }
}

static bool step_counts(const qn_pretokenizer *p, size_t i)
{
    const qn_step *s = &p->steps[i];
    bool blanks = s->kind == QN_STEP_PREFIX_SPACE || s->kind == QN_STEP_BLANKS;
    return !blanks && !(s->kind == QN_STEP_LITERAL && is_blank(s->literal, s->literal_len));
}

/* The number of the first step from i on that counts. */
static size_t next_normal_step(const qn_normalizer *z, size_t i)
{
    while (i < z->n_steps && !normal_step_counts(z, i)) {
        i++;
    }
    return i;
}

static size_t next_step(const qn_pretokenizer *p, size_t i)
{
    while (i < p->n_steps && !step_counts(p, i)) {
        i++;
    }
    return i;
}

static bool have_same_steps(const comparison *c)
{
    const qn_normalizer *x = &c->own->normalizer, *y = &c->source->normalizer;
    const qn_pretokenizer *p = &c->own->pretokenizer, *q = &c->source->pretokenizer;
    size_t i = next_normal_step(x, 0), k = next_normal_step(y, 0);
    while (i < x->n_steps && k < y->n_steps && same_normal_step(&x->steps[i], &y->steps[k])) {
        i = next_normal_step(x, i + 1);
        k = next_normal_step(y, k + 1);
    }
    bool same = i == x->n_steps && k == y->n_steps;
    i = next_step(p, 0);
    k = next_step(q, 0);
    while (i < p->n_steps && k < q->n_steps && same_step(&p->steps[i], &q->steps[k])) {
        i = next_step(p, i + 1);
        k = next_step(q, k + 1);
    }
    return same && i == p->n_steps && k == q->n_steps;
}

/* Texts on which published pipelines differ from one another. */
static const char *const probes[] = {"def f(x):\n    return x + 1\n",
                                     " leading blank",
                                     "two  blanks   three\t\ttabs",
                                     "a\r\nb\n\n\nc \n d",
                                     "I'm don't WE'LL they've she'D",
                                     "1234567 12 3.14 1,000,000",
                                     "x1y22z333",
                                     "caf\xc3\xa9 cafe\xcc\x81 \xef\xac\x81 \xe2\x84\xab",
                                     "\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96\xe7\x95\x8c\xe3\x80\x82 \xe3\x81\xae",
                                     "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82, \xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5!",
                                     "\xf0\x9f\x98\x80\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd",
                                     "foo_bar(baz)[0]->qux::quux += !=\n",
                                     "#include <stdio.h>\n/* ... */ // x\n",
                                     "   \n   \t \n",
                                     "a\xe2\x96\x81"
                                     "b \xe2\x96\x81 c",
                                     "\xc2\xa0no\xc2\xa0"
                                     "break ",
                                     "CamelCaseHTTPServer",
                                     "trailing blanks   "};

static quern_status encode(const quern_tokenizer *t, const char *text, quern_ids *ids, quern_error *err)
{
    ids->len = 0;
    return quern_tokenizer_encode(t, text, strlen(text), QUERN_ENCODE_PARSE_SPECIAL, ids, err);
}

static bool same_ids(const quern_ids *a, const quern_ids *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len * sizeof *a->data) == 0);
}

static quern_status compare_pipelines(const comparison *c)
{
    quern_status status = QUERN_OK;
    char what[160];
    quern_ids a = {0}, b = {0};
    find_pipeline_difference(c, what, sizeof what);
    if (what[0] == '\0') {
        return QUERN_OK;
    }
    for (size_t i = 0; i < sizeof probes / sizeof probes[0]; i++) {
        QN_TRY(encode(c->own, probes[i], &a, c->err));
        QN_TRY(encode(c->source, probes[i], &b, c->err));
        if (!same_ids(&a, &b)) {
            QN_TRY(tell(c, true, "%s is another: '%s' becomes %zu ids, with the source's tokenizer %zu%s", what, probes[i], a.len, b.len,
                        a.len == b.len ? " others" : ""));
            goto done;
        }
    }
    bool same = have_same_steps(c);
    QN_TRY(tell(c, !same,
                same ? "%s is put together otherwise; %zu texts became the same ids"
                     : "%s is another; %zu texts became the same ids all the same",
                what, sizeof probes / sizeof probes[0]));
done:
    quern_ids_deinit(&a);
    quern_ids_deinit(&b);
    return status;
}

/* Whether every text has tokens, so that nothing becomes the unknown one. */
static bool has_all_bytes(const quern_tokenizer *t)
{
    bool all = true;
    for (size_t i = 0; i < 256; i++) {
        all = all && t->byte_symbol[i] != QN_NO_TOKEN;
    }
    return all;
}

static quern_status compare_symbols(const comparison *c)
{
    quern_status status = QUERN_OK;
    const quern_tokenizer *a = c->own, *b = c->source;
    const struct {
        const char *what;
        bool own, source;
    } flags[] = {{"bytes as symbols", a->byte_level, b->byte_level},
                 {"ignore_merges", a->ignore_merges, b->ignore_merges},
                 {"fuse_unk", a->fuse_unknown, b->fuse_unknown},
                 {"merges that end at blanks", a->cut_at_blanks, b->cut_at_blanks}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (flags[i].own != flags[i].source) {
            QN_TRY(tell(c, true, "%s: %s, in the source %s", flags[i].what, flags[i].own ? "true" : "false",
                        flags[i].source ? "true" : "false"));
        }
    }
    if (a->unknown != b->unknown) {
        bool matters = !has_all_bytes(a) || !has_all_bytes(b);
        QN_TRY(tell(c, matters, "what has no token becomes token %lld, in the source %lld (-1 = nothing)",
                    a->unknown == QN_NO_TOKEN ? -1LL : (long long)a->unknown, b->unknown == QN_NO_TOKEN ? -1LL : (long long)b->unknown));
    }
    for (size_t i = 0; i < 256; i++) {
        if (a->byte_symbol[i] != b->byte_symbol[i]) {
            QN_TRY(tell(c, true, "byte %zu has another token than in the source (byte_fallback)", i));
            break;
        }
    }
done:
    return status;
}

/* ---- how ids become text ---- */

static quern_status compare_decoders(const comparison *c)
{
    quern_status status = QUERN_OK;
    const quern_tokenizer *a = c->own, *b = c->source;
    quern_ids ids = {0};
    char *own = NULL, *source = NULL;
    if (a->decode_mode == b->decode_mode && a->strip_leading == b->strip_leading && a->strip_first_token == b->strip_first_token) {
        return QUERN_OK;
    }
    for (size_t i = 0; i < sizeof probes / sizeof probes[0]; i++) {
        size_t n, m;
        qn_free(own);
        qn_free(source);
        own = source = NULL;
        QN_TRY(encode(b, probes[i], &ids, c->err));
        QN_TRY(quern_tokenizer_decode(a, ids.data, ids.len, true, &own, &n, c->err));
        QN_TRY(quern_tokenizer_decode(b, ids.data, ids.len, true, &source, &m, c->err));
        if (n != m || memcmp(own, source, n) != 0) {
            QN_TRY(tell(c, true, "the decoder is another: the ids of '%s' become '%.*s', with the source's '%.*s'", probes[i],
                        qn_shown(own, n), own, qn_shown(source, m), source));
            goto done;
        }
    }
    QN_TRY(tell(c, false, "the decoder is put together otherwise; the same ids became the same texts"));
done:
    qn_free(own);
    qn_free(source);
    quern_ids_deinit(&ids);
    return status;
}

quern_status qn_tokenizer_compare(const quern_tokenizer *own, const quern_tokenizer *source, qn_tokenizer_difference_fn tell_fn, void *user,
                                  quern_error *err)
{
    quern_status status = QUERN_OK;
    const comparison c = {.own = own, .source = source, .tell = tell_fn, .user = user, .err = err};
    bool same = true;
    QN_TRY(compare_tokens(&c, &same));
    if (same) { /* else the rest would only say it again */
        QN_TRY(compare_symbols(&c));
        QN_TRY(compare_merges(&c));
        QN_TRY(compare_added(&c));
        QN_TRY(compare_pipelines(&c));
        QN_TRY(compare_decoders(&c));
    }
done:
    return status;
}
