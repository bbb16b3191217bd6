/* regex_pcre2.c - regular expressions through PCRE2: translation from Oniguruma's dialect, and searching under limits.
 *
 * Limits: PCRE2 counts the backtracking points of a call and stops at a limit. A search starts with a small limit, free of charge, and is
 * repeated with four times as much until it succeeds; each repetition is charged to a budget that is linear in the text. So a text of n
 * bytes costs O(n) steps, or ends in QUERN_ERROR_LIMIT, whatever the expression. Automatic possessification is off, because it would hide
 * backtracking from the count; the just-in-time compiler is not used, because it counts differently.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex_pcre2.h"

#include <pcre2.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/utf8.h"

enum {
    PATTERN_BYTES_MAX = 65536,
    NESTING_MAX = 100,
    FREE_STEPS = 256,      /* of every search */
    HEAP_KIB_MAX = 65536,  /* backtracking memory of one search */
    BUDGET_BASE = 10000000 /* steps beyond the free ones, plus BUDGET_PER_BYTE for each byte */
};
#define BUDGET_PER_BYTE 64u

struct qn_regex {
    pcre2_general_context *memory;
    pcre2_code *code;
    char *pattern; /* as it was given */
    size_t pattern_len;
};

struct qn_regex_search {
    const qn_regex *regex;
    pcre2_match_context *context;
    pcre2_match_data *data;
    const char *text;
    size_t len, run_begin, run_end; /* the run of valid UTF-8 that is searched */
    size_t at;                      /* where the next search begins */
    size_t last_end;                /* end of the last match, SIZE_MAX before the first */
    uint64_t budget;
};

static void *get_memory(size_t bytes, void *user)
{
    (void)user;
    return qn_malloc(bytes);
}

static void give_back(void *p, void *user)
{
    (void)user;
    qn_free(p);
}

/* ---- translation ---- */

/* White_Space, which is what Oniguruma calls \s; PCRE2's has U+180E besides. */
#define SPACES "\\x{09}-\\x{0d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
/* Oniguruma's \w: alphabetic characters (letters, letter numbers, encircled letters), marks, digits (and those of Latin-1 that are raised or
 * fractions), connecting punctuation. */
#define WORDS \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}" \
    "\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

typedef struct translation {
    const char *p;
    size_t n, i;
    qn_buf out;
    quern_error *err;
} translation;

static quern_status refuse(const translation *t, const char *what, size_t at)
{
    return qn_error_set(t->err, QUERN_ERROR_UNSUPPORTED, "regular expression: %s at byte %zu is not supported", what, at);
}

/* \p{..} or \P{..}: general categories and scripts mean the same in both; everything that is neither is for PCRE2 to refuse. */
static quern_status copy_property(translation *t)
{
    const char *close = memchr(t->p + t->i, '}', t->n - t->i);
    if (t->i + 2 >= t->n || t->p[t->i + 2] != '{' || close == NULL || close - (t->p + t->i) > 40) {
        return refuse(t, "\\p without a name in braces", t->i);
    }
    size_t len = (size_t)(close + 1 - (t->p + t->i));
    for (size_t k = 3; k + 1 < len; k++) {
        char c = t->p[t->i + k];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c == '^' && k == 3);
        if (!letter) {
            return refuse(t, "this property", t->i);
        }
    }
    (void)qn_buf_append(&t->out, t->p + t->i, len);
    t->i += len;
    return QUERN_OK;
}

/* An escape at t->i; in_class: between brackets. */
static quern_status copy_escape(translation *t, bool in_class)
{
    if (t->i + 1 >= t->n) {
        return refuse(t, "a backslash at the end", t->i);
    }
    char c = t->p[t->i + 1];
    const char *text = NULL;
    switch (c) {
    case 'p':
    case 'P': return copy_property(t);
    case 's': text = in_class ? SPACES : "[" SPACES "]"; break;
    case 'w': text = in_class ? WORDS : "[" WORDS "]"; break;
    case 'd': text = "\\p{Nd}"; break;
    case 'D': text = "\\P{Nd}"; break;
    case 'S': text = in_class ? NULL : "[^" SPACES "]"; break;
    case 'W': text = in_class ? NULL : "[^" WORDS "]"; break;
    case 'r': text = "\\r"; break;
    case 'n': text = "\\n"; break;
    case 't': text = "\\t"; break;
    case 'f': text = "\\f"; break;
    case 'A':
    case 'z':
        if (!in_class) {
            text = c == 'A' ? "\\A" : "\\z";
        }
        break;
    default: break;
    }
    bool punctuation = c > ' ' && c < 0x7f && !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'));
    if (text == NULL && !punctuation && c != ' ') {
        char what[] = {'\\', (unsigned char)c < 0x80 && c >= ' ' ? c : '?', '\0'};
        return refuse(t, what, t->i);
    }
    if (text != NULL) {
        (void)qn_buf_append_str(&t->out, text);
    } else {
        (void)qn_buf_append_char(&t->out, '\\');
        (void)qn_buf_append_char(&t->out, c);
    }
    t->i += 2;
    return QUERN_OK;
}

/* A bracketed class at t->i. Classes within classes and intersections exist in Oniguruma only. */
static quern_status copy_class(translation *t)
{
    size_t begin = t->i;
    (void)qn_buf_append_char(&t->out, '[');
    t->i++;
    if (t->i < t->n && t->p[t->i] == '^') {
        (void)qn_buf_append_char(&t->out, '^');
        t->i++;
    }
    for (bool first = true; t->i < t->n; first = false) {
        char c = t->p[t->i];
        if (c == ']' && !first) {
            (void)qn_buf_append_char(&t->out, ']');
            t->i++;
            return QUERN_OK;
        }
        if (c == '[' || c == ']') {
            return refuse(t, "a bracket within brackets", t->i);
        }
        if (c == '&' && t->i + 1 < t->n && t->p[t->i + 1] == '&') {
            return refuse(t, "an intersection of classes", t->i);
        }
        if (c == '\\') {
            quern_status status = copy_escape(t, true);
            if (status != QUERN_OK) {
                return status;
            }
            continue;
        }
        (void)qn_buf_append_char(&t->out, c);
        t->i++;
    }
    return qn_error_set(t->err, QUERN_ERROR_INVALID, "regular expression: the class that begins at byte %zu does not end", begin);
}

/* What may follow "(?": look-around, groups, atomic groups, and (?i: or (?i) */
static quern_status copy_group(translation *t)
{
    static const char *const allowed[] = {
        "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?i)"}; /* the last one at the very beginning */
    if (t->i + 1 >= t->n || t->p[t->i + 1] != '?') {
        if (t->i + 1 < t->n && t->p[t->i + 1] == '*') {
            return refuse(t, "(*", t->i);
        }
        (void)qn_buf_append_char(&t->out, '(');
        t->i++;
        return QUERN_OK;
    }
    for (size_t k = 0; k < sizeof allowed / sizeof allowed[0]; k++) {
        size_t len = strlen(allowed[k]);
        if (t->n - t->i >= len && memcmp(t->p + t->i, allowed[k], len) == 0 && (allowed[k][3] != ')' || t->i == 0)) {
            (void)qn_buf_append(&t->out, allowed[k], len);
            t->i += len;
            return QUERN_OK;
        }
    }
    return refuse(t, "this kind of group", t->i);
}

/* Braces are a quantifier {n}, {n,}, {n,m} in both; {,n} and literal braces differ. */
static quern_status check_braces(translation *t)
{
    size_t k = t->i + 1;
    bool digits = false;
    while (k < t->n && ((t->p[k] >= '0' && t->p[k] <= '9') || (digits && t->p[k] == ','))) {
        digits = true;
        k++;
    }
    if (!digits || k >= t->n || t->p[k] != '}') {
        return refuse(t, "a brace that is no quantifier", t->i);
    }
    if (k + 1 < t->n && (t->p[k + 1] == '+' || t->p[k + 1] == '?')) {
        return refuse(t, "{..}+ or {..}?", t->i); /* possessive and lazy in PCRE2; in Oniguruma quantifiers of a quantifier */
    }
    (void)qn_buf_append(&t->out, t->p + t->i, k + 1 - t->i);
    t->i = k + 1;
    return QUERN_OK;
}

static quern_status translate(translation *t)
{
    quern_status status = QUERN_OK;
    while (status == QUERN_OK && t->i < t->n) {
        switch (t->p[t->i]) {
        case '\\': status = copy_escape(t, false); break;
        case '[': status = copy_class(t); break;
        case '(': status = copy_group(t); break;
        case '{': status = check_braces(t); break;
        default: (void)qn_buf_append_char(&t->out, t->p[t->i++]); break;
        }
    }
    if (status == QUERN_OK && t->out.failed) {
        status = qn_error_set(t->err, QUERN_ERROR_MEMORY, "out of memory: translating a regular expression of %zu bytes", t->n);
    }
    return status;
}

/* ---- compiling ---- */

static quern_status compile(qn_regex *r, const char *pattern, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    pcre2_compile_context *context = pcre2_compile_context_create(r->memory);
    if (context == NULL) {
        QN_FAIL_MEMORY(err, "a regular expression", len);
    }
    (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    (void)pcre2_set_parens_nest_limit(context, NESTING_MAX);
    int code;
    PCRE2_SIZE offset;
    /* MULTILINE: ^ and $ are always those of lines in Oniguruma. */
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_POSSESS | PCRE2_NEVER_BACKSLASH_C;
    r->code = pcre2_compile((PCRE2_SPTR)pattern, len, options, &code, &offset, context);
    if (r->code == NULL) {
        PCRE2_UCHAR text[200] = "";
        (void)pcre2_get_error_message(code, text, sizeof text);
        if (code == PCRE2_ERROR_HEAP_FAILED) {
            QN_FAIL_MEMORY(err, "a regular expression", len);
        }
        QN_FAIL(err, QUERN_ERROR_INVALID, "regular expression: %s", (const char *)text);
    }
done:
    pcre2_compile_context_free(context);
    return status;
}

quern_status qn_regex_create(qn_regex **out, const char *pattern, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    translation t = {.p = pattern, .n = len, .err = err};
    qn_regex *r = NULL;
    *out = NULL;
    qn_buf_init(&t.out, (size_t)PATTERN_BYTES_MAX * 128);
    if (len == 0 || len > PATTERN_BYTES_MAX || !qn_utf8_valid(pattern, len)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "regular expression of %zu bytes: expected 1 to %d bytes of UTF-8", len, PATTERN_BYTES_MAX);
    }
    QN_TRY(translate(&t));
    r = qn_calloc(1, sizeof *r);
    if (r == NULL) {
        QN_FAIL_MEMORY(err, "a regular expression", sizeof *r);
    }
    r->memory = pcre2_general_context_create(get_memory, give_back, NULL);
    if (r->memory == NULL) {
        QN_FAIL_MEMORY(err, "a regular expression", len);
    }
    r->pattern = qn_strndup(pattern, len);
    r->pattern_len = len;
    if (r->pattern == NULL) {
        QN_FAIL_MEMORY(err, "a regular expression", len + 1);
    }
    QN_TRY(compile(r, qn_buf_text(&t.out), t.out.len, err));
    *out = r;
    r = NULL;
done:
    qn_regex_destroy(r);
    qn_buf_deinit(&t.out);
    return status;
}

void qn_regex_destroy(qn_regex *r)
{
    if (r != NULL) {
        pcre2_code_free(r->code);
        pcre2_general_context_free(r->memory);
        qn_free(r->pattern);
        qn_free(r);
    }
}

const char *qn_regex_pattern(const qn_regex *r, size_t *len)
{
    *len = r->pattern_len;
    return r->pattern;
}

/* ---- searching ---- */

/* The run of valid UTF-8 that begins at the first valid character at or after `from`. */
static void find_run(qn_regex_search *f, size_t from)
{
    uint32_t cp = QN_UTF8_INVALID;
    size_t i = from;
    while (i < f->len) {
        size_t len = qn_utf8_decode(f->text + i, f->len - i, &cp);
        if (cp != QN_UTF8_INVALID) {
            break;
        }
        i += len;
    }
    f->run_begin = f->at = i;
    while (i < f->len) {
        size_t len = qn_utf8_decode(f->text + i, f->len - i, &cp);
        if (cp == QN_UTF8_INVALID) {
            break;
        }
        i += len;
    }
    f->run_end = i;
}

quern_status qn_regex_search_create(qn_regex_search **out, const qn_regex *r, const char *s, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_regex_search *f = qn_calloc(1, sizeof *f);
    *out = NULL;
    if (f == NULL) {
        QN_FAIL_MEMORY(err, "a search", sizeof *f);
    }
    f->regex = r;
    f->text = s;
    f->len = n;
    f->last_end = SIZE_MAX;
    f->budget = BUDGET_BASE + (uint64_t)n * BUDGET_PER_BYTE;
    f->context = pcre2_match_context_create(r->memory);
    f->data = pcre2_match_data_create(1, r->memory); /* only the whole match is wanted */
    if (f->context == NULL || f->data == NULL) {
        QN_FAIL_MEMORY(err, "a search", n);
    }
    (void)pcre2_set_heap_limit(f->context, HEAP_KIB_MAX);
    find_run(f, 0);
    *out = f;
    f = NULL;
done:
    qn_regex_search_destroy(f);
    return status;
}

void qn_regex_search_destroy(qn_regex_search *f)
{
    if (f != NULL) {
        pcre2_match_data_free(f->data);
        pcre2_match_context_free(f->context);
        qn_free(f);
    }
}

/* One search in the current run; PCRE2's result, with the limit on steps raised as far as the budget allows. */
static int search_run(qn_regex_search *f)
{
    uint32_t limit = FREE_STEPS;
    for (;;) {
        (void)pcre2_set_match_limit(f->context, limit);
        (void)pcre2_set_depth_limit(f->context, limit);
        int rc = pcre2_match(f->regex->code, (PCRE2_SPTR)(f->text + f->run_begin), f->run_end - f->run_begin, f->at - f->run_begin,
                             PCRE2_NO_UTF_CHECK, f->data, f->context);
        if ((rc != PCRE2_ERROR_MATCHLIMIT && rc != PCRE2_ERROR_DEPTHLIMIT) || limit > UINT32_MAX / 4 || f->budget < 4u * (uint64_t)limit) {
            return rc;
        }
        limit *= 4;
        f->budget -= limit;
    }
}

quern_status qn_regex_search_next(qn_regex_search *f, bool *found, size_t *begin, size_t *end, quern_error *err)
{
    quern_status status = QUERN_OK;
    *found = false;
    while (f->run_begin < f->len) {
        if (f->at > f->run_end) {
            find_run(f, f->run_end);
            continue;
        }
        int rc = search_run(f);
        if (rc == PCRE2_ERROR_NOMATCH) {
            find_run(f, f->run_end);
            continue;
        }
        if (rc == PCRE2_ERROR_NOMEMORY) {
            QN_FAIL_MEMORY(err, "a regular expression's search", f->len);
        }
        if (rc < 0) {
            QN_FAIL(err, QUERN_ERROR_LIMIT, "the regular expression needs more steps or memory than %zu bytes of text allow", f->len);
        }
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(f->data);
        size_t b = f->run_begin + span[0], e = f->run_begin + span[1];
        f->at = e;
        if (b == e) { /* go on behind the character that follows */
            uint32_t cp;
            f->at = e < f->run_end ? e + qn_utf8_decode(f->text + e, f->run_end - e, &cp) : e + 1;
            if (b == f->last_end) {
                continue;
            }
        }
        f->last_end = e;
        *found = true;
        *begin = b;
        *end = e;
        return QUERN_OK;
    }
done:
    return status;
}
