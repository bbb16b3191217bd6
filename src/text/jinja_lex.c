/* jinja_lex.c - template source to tokens, one at a time, with Jinja2's white-space control
 * (trim_blocks and lstrip_blocks on, as chat templates are rendered).
 *
 * Invariant: lexer->at only grows, and every token's text lies inside the normalised source.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "text/jinja_ast.h"
#include "text/unicode_props.h"

quern_status qn_jinja_syntax_error(const qn_jinja *t, uint32_t pos, quern_error *err, const char *format, ...)
{
    char text[QUERN_ERROR_MESSAGE_CAP];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    qn_jplace place = qn_jinja_locate(t, pos);
    return qn_error_set(err, QUERN_ERROR_INVALID, "%s: line %u, column %u: %s", t->name, place.line, place.column, text);
}

const char *qn_jtoken_describe(qn_jtoken_kind kind)
{
    static const char *const NAMES[] = {
        [QN_TOK_EOF] = "end of template",
        [QN_TOK_DATA] = "template data / text",
        [QN_TOK_VARIABLE_BEGIN] = "begin of print statement",
        [QN_TOK_VARIABLE_END] = "end of print statement",
        [QN_TOK_BLOCK_BEGIN] = "begin of statement block",
        [QN_TOK_BLOCK_END] = "end of statement block",
        [QN_TOK_NAME] = "name",
        [QN_TOK_STRING] = "string",
        [QN_TOK_INTEGER] = "integer",
        [QN_TOK_FLOAT] = "float",
        [QN_TOK_ADD] = "+",
        [QN_TOK_SUB] = "-",
        [QN_TOK_MUL] = "*",
        [QN_TOK_DIV] = "/",
        [QN_TOK_FLOORDIV] = "//",
        [QN_TOK_MOD] = "%",
        [QN_TOK_POW] = "**",
        [QN_TOK_TILDE] = "~",
        [QN_TOK_EQ] = "==",
        [QN_TOK_NE] = "!=",
        [QN_TOK_LT] = "<",
        [QN_TOK_LTEQ] = "<=",
        [QN_TOK_GT] = ">",
        [QN_TOK_GTEQ] = ">=",
        [QN_TOK_LPAREN] = "(",
        [QN_TOK_RPAREN] = ")",
        [QN_TOK_LBRACKET] = "[",
        [QN_TOK_RBRACKET] = "]",
        [QN_TOK_LBRACE] = "{",
        [QN_TOK_RBRACE] = "}",
        [QN_TOK_ASSIGN] = "=",
        [QN_TOK_DOT] = ".",
        [QN_TOK_COLON] = ":",
        [QN_TOK_PIPE] = "|",
        [QN_TOK_COMMA] = ",",
        [QN_TOK_SEMICOLON] = ";",
    };
    return NAMES[kind];
}

void qn_jlexer_init(qn_jlexer *lexer, const qn_jinja *template_, quern_error *err)
{
    memset(lexer, 0, sizeof *lexer);
    lexer->template_ = template_;
    lexer->err = err;
    lexer->line_starting = true;
}

/* ---- looking around in the source ---- */

static bool at_text(const qn_jlexer *x, size_t at, const char *text)
{
    size_t n = strlen(text);
    return x->template_->len - at >= n && memcmp(x->template_->source + at, text, n) == 0;
}

static size_t skip_space(const qn_jlexer *x, size_t at)
{
    uint32_t cp;
    size_t n;
    while ((n = qn_utf8_decode(x->template_->source + at, x->template_->len - at, &cp)) > 0 && qn_unicode_is_space(cp)) {
        at += n;
    }
    return at;
}

/* Begin of the white space that ends at `end`, not before `from`. */
static size_t strip_space_back(const qn_jlexer *x, size_t from, size_t end)
{
    const char *s = x->template_->source;
    while (end > from) {
        size_t at = end - 1;
        while (at > from && ((uint8_t)s[at] & 0xc0u) == 0x80u) {
            at--;
        }
        uint32_t cp;
        (void)qn_utf8_decode(s + at, end - at, &cp);
        if (!qn_unicode_is_space(cp)) {
            break;
        }
        end = at;
    }
    return end;
}

/* What of the data [from, to) remains before a tag with this sign. */
static size_t strip_data(const qn_jlexer *x, size_t from, size_t to, char sign, bool is_variable)
{
    if (sign == '-') {
        return strip_space_back(x, from, to);
    }
    if (sign == '+' || is_variable) {
        return to;
    }
    size_t line = to; /* lstrip_blocks: white space between the line's begin and the tag goes */
    while (line > from && x->template_->source[line - 1] != '\n') {
        line--;
    }
    bool begins_line = line > from || x->line_starting;
    return begins_line && strip_space_back(x, line, to) == line ? line : to;
}

/* Consumes the end of a tag at `at`: its sign, the two characters, and the white space that goes with it.
 * Returns the place behind it or 0 if there is none. plus: `+` is a sign here; trim: a newline behind is dropped. */
static size_t match_end(const qn_jlexer *x, size_t at, const char *close, bool plus, bool trim)
{
    if (at_text(x, at, close)) {
        at += 2;
        return trim && at_text(x, at, "\n") ? at + 1 : at;
    }
    if (at < x->template_->len && x->template_->source[at] == '-' && at_text(x, at + 1, close)) {
        return skip_space(x, at + 3);
    }
    if (plus && at < x->template_->len && x->template_->source[at] == '+' && at_text(x, at + 1, close)) {
        return at + 3;
    }
    return 0;
}

static void note_line_start(qn_jlexer *x) { x->line_starting = x->at > 0 && x->template_->source[x->at - 1] == '\n'; }

/* ---- outside of tags ---- */

/* `{% raw %}` at the tag `at` whose sign is already behind `after`: the place behind it, or 0. */
static size_t match_raw(const qn_jlexer *x, size_t after)
{
    size_t at = skip_space(x, after);
    return at_text(x, at, "raw") ? match_end(x, skip_space(x, at + 3), "%}", false, false) : 0;
}

static char read_sign(const qn_jlexer *x, size_t *at)
{
    char c = *at < x->template_->len ? x->template_->source[*at] : '\0';
    if (c != '-' && c != '+') {
        return '\0';
    }
    (*at)++;
    return c;
}

static quern_status lex_raw(qn_jlexer *x, uint32_t pos, qn_jtoken *token)
{
    const char *s = x->template_->source;
    if (x->at == x->template_->len) { /* Jinja2 misses the end of raw text only if there is text */
        *token = (qn_jtoken){.kind = QN_TOK_EOF, .pos = pos};
        return QUERN_OK;
    }
    for (size_t at = x->at; at + 1 < x->template_->len; at++) {
        if (s[at] != '{' || s[at + 1] != '%') {
            continue;
        }
        size_t after = at + 2;
        char sign = read_sign(x, &after);
        size_t word = skip_space(x, after);
        size_t end = at_text(x, word, "endraw") ? match_end(x, skip_space(x, word + 6), "%}", true, true) : 0;
        if (end != 0) {
            size_t stop = strip_data(x, x->at, at, sign, false);
            *token = (qn_jtoken){.kind = QN_TOK_DATA, .pos = (uint32_t)x->at, .text = s + x->at, .len = stop - x->at};
            x->at = end;
            note_line_start(x);
            return QUERN_OK;
        }
    }
    return qn_jinja_syntax_error(x->template_, pos, x->err, "Missing end of raw directive");
}

static quern_status skip_comment(qn_jlexer *x, uint32_t pos)
{
    const char *s = x->template_->source;
    if (x->at == x->template_->len) {
        return QUERN_OK;
    }
    for (size_t at = x->at; at + 1 < x->template_->len; at++) {
        if (s[at] == '#' && s[at + 1] == '}') {
            bool is_signed = at > x->at && (s[at - 1] == '-' || s[at - 1] == '+');
            x->at = match_end(x, is_signed ? at - 1 : at, "#}", true, true);
            note_line_start(x);
            return QUERN_OK;
        }
    }
    return qn_jinja_syntax_error(x->template_, pos, x->err, "Missing end of comment tag");
}

static size_t find_tag(const qn_jlexer *x)
{
    const char *s = x->template_->source;
    for (size_t at = x->at; at + 1 < x->template_->len; at++) {
        const char *p = memchr(s + at, '{', x->template_->len - at - 1);
        if (p == NULL) {
            break;
        }
        at = (size_t)(p - s);
        if (p[1] == '%' || p[1] == '{' || p[1] == '#') {
            return at;
        }
    }
    return x->template_->len;
}

static quern_status lex_root(qn_jlexer *x, qn_jtoken *token)
{
    const char *s = x->template_->source;
    while (x->at < x->template_->len) {
        size_t from = x->at, tag = find_tag(x);
        if (tag == x->template_->len) {
            *token = (qn_jtoken){.kind = QN_TOK_DATA, .pos = (uint32_t)from, .text = s + from, .len = tag - from};
            x->at = tag;
            return QUERN_OK;
        }
        size_t after = tag + 2;
        char opening = s[tag + 1], sign = read_sign(x, &after);
        size_t stop = strip_data(x, from, tag, sign, opening == '{');
        if (stop > from) { /* the tag itself comes with the next call, when no data stands before it */
            *token = (qn_jtoken){.kind = QN_TOK_DATA, .pos = (uint32_t)from, .text = s + from, .len = stop - from};
            x->at = tag;
            return QUERN_OK;
        }
        x->at = after;
        size_t raw = opening == '%' ? match_raw(x, after) : 0;
        if (raw != 0) {
            x->at = raw;
            note_line_start(x);
            return lex_raw(x, (uint32_t)tag, token);
        }
        if (opening == '#') {
            quern_status status = skip_comment(x, (uint32_t)tag);
            if (status != QUERN_OK) {
                return status;
            }
            continue;
        }
        x->state = opening == '%' ? QN_LEX_BLOCK : QN_LEX_VARIABLE;
        *token = (qn_jtoken){.kind = opening == '%' ? QN_TOK_BLOCK_BEGIN : QN_TOK_VARIABLE_BEGIN, .pos = (uint32_t)tag};
        return QUERN_OK;
    }
    *token = (qn_jtoken){.kind = QN_TOK_EOF, .pos = (uint32_t)x->template_->len};
    return QUERN_OK;
}

/* ---- inside of tags ---- */

static bool is_digit(char c, int base)
{
    int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
    return value < base;
}

/* Digits with single underscores between them; returns the place behind. */
static size_t skip_digits(const qn_jlexer *x, size_t at, int base)
{
    const char *s = x->template_->source;
    while (at < x->template_->len) {
        if (is_digit(s[at], base)) {
            at++;
        } else if (s[at] == '_' && at + 1 < x->template_->len && is_digit(s[at + 1], base)) {
            at += 2;
        } else {
            break;
        }
    }
    return at;
}

static char source_char(const qn_jlexer *x, size_t at) { return at < x->template_->len ? x->template_->source[at] : '\0'; }

static size_t match_float(const qn_jlexer *x)
{
    if (x->at > 0 && x->template_->source[x->at - 1] == '.') {
        return 0;
    }
    size_t at = skip_digits(x, x->at, 10);
    bool is_float = false;
    if (source_char(x, at) == '.' && is_digit(source_char(x, at + 1), 10)) {
        at = skip_digits(x, at + 1, 10);
        is_float = true;
    }
    char c = source_char(x, at);
    if (c == 'e' || c == 'E') {
        size_t exponent = at + 1;
        c = source_char(x, exponent);
        exponent += c == '+' || c == '-';
        if (is_digit(source_char(x, exponent), 10)) {
            at = skip_digits(x, exponent, 10);
            is_float = true;
        }
    }
    return is_float ? at : 0;
}

static quern_status lex_float(qn_jlexer *x, size_t end, qn_jtoken *token)
{
    qn_buf digits;
    qn_buf_init(&digits, QN_JINJA_SOURCE_MAX);
    for (size_t i = x->at; i < end; i++) {
        if (x->template_->source[i] != '_') {
            (void)qn_buf_append_char(&digits, x->template_->source[i]);
        }
    }
    quern_status status = QUERN_OK;
    if (digits.failed) {
        status = qn_error_set(x->err, QUERN_ERROR_MEMORY, "%s: out of memory", x->template_->name);
    }
    *token = (qn_jtoken){.kind = QN_TOK_FLOAT, .pos = (uint32_t)x->at, .real = strtod(qn_buf_text(&digits), NULL)};
    qn_buf_deinit(&digits);
    x->at = end;
    return status;
}

static quern_status lex_integer(qn_jlexer *x, qn_jtoken *token)
{
    size_t begin = x->at, end;
    int base = 10;
    char mark = (char)(source_char(x, begin + 1) | 0x20);
    if (x->template_->source[begin] == '0' && (mark == 'b' || mark == 'o' || mark == 'x')) {
        int wanted = mark == 'b' ? 2 : mark == 'o' ? 8 : 16;
        size_t first = begin + 2 + (source_char(x, begin + 2) == '_');
        base = is_digit(source_char(x, first), wanted) ? wanted : 10;
        begin = base == 10 ? begin : first;
    }
    /* a decimal number that begins with 0 is nothing but zeros */
    bool zeros = base == 10 && x->template_->source[begin] == '0';
    end = skip_digits(x, begin, zeros ? 1 : base);
    int64_t value = 0;
    for (size_t i = begin; i < end; i++) {
        char c = x->template_->source[i];
        if (c == '_') {
            continue;
        }
        int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
        if (__builtin_mul_overflow(value, (int64_t)base, &value) || __builtin_add_overflow(value, (int64_t)digit, &value)) {
            return qn_jinja_syntax_error(x->template_, (uint32_t)x->at, x->err, "an integer does not fit in 64 bits");
        }
    }
    *token = (qn_jtoken){.kind = QN_TOK_INTEGER, .pos = (uint32_t)x->at, .integer = value};
    x->at = end;
    return QUERN_OK;
}

static quern_status unexpected_char(const qn_jlexer *x)
{
    char shown[5] = {0};
    uint32_t cp;
    size_t n = qn_utf8_decode(x->template_->source + x->at, x->template_->len - x->at, &cp);
    memcpy(shown, x->template_->source + x->at, n);
    return qn_jinja_syntax_error(x->template_, (uint32_t)x->at, x->err, "unexpected char '%s'", shown);
}

static quern_status lex_name(qn_jlexer *x, qn_jtoken *token)
{
    size_t at = x->at;
    bool valid = true;
    while (at < x->template_->len) {
        uint32_t cp;
        size_t n = qn_utf8_decode(x->template_->source + at, x->template_->len - at, &cp);
        uint32_t props = qn_unicode_props(cp);
        if (cp != '_' && (props & (QN_UNICODE_ALNUM | QN_UNICODE_ID_CONTINUE)) == 0) {
            break;
        }
        valid = valid && (props & (uint32_t)(at == x->at ? QN_UNICODE_ID_START : QN_UNICODE_ID_CONTINUE)) != 0;
        at += n;
    }
    if (at == x->at) {
        return unexpected_char(x);
    }
    if (!valid) {
        return qn_jinja_syntax_error(x->template_, (uint32_t)x->at, x->err, "Invalid character in identifier");
    }
    *token = (qn_jtoken){.kind = QN_TOK_NAME, .pos = (uint32_t)x->at, .text = x->template_->source + x->at, .len = at - x->at};
    x->at = at;
    return QUERN_OK;
}

static quern_status lex_string(qn_jlexer *x, qn_jtoken *token)
{
    const char *s = x->template_->source;
    size_t at = x->at + 1;
    while (at < x->template_->len && s[at] != s[x->at]) {
        at += s[at] == '\\' ? 2 : 1;
    }
    if (at >= x->template_->len) {
        return unexpected_char(x);
    }
    *token = (qn_jtoken){.kind = QN_TOK_STRING, .pos = (uint32_t)x->at, .text = s + x->at, .len = at + 1 - x->at};
    x->at = at + 1;
    return QUERN_OK;
}

/* Length of the operator at c and its kind, or 0. */
static size_t match_operator(const char *c, size_t n, qn_jtoken_kind *kind)
{
    static const struct {
        char text[3];
        qn_jtoken_kind kind;
    } OPERATORS[] = {
        {"//", QN_TOK_FLOORDIV}, {"**", QN_TOK_POW},   {"==", QN_TOK_EQ},      {"!=", QN_TOK_NE},      {">=", QN_TOK_GTEQ},
        {"<=", QN_TOK_LTEQ},     {"+", QN_TOK_ADD},    {"-", QN_TOK_SUB},      {"/", QN_TOK_DIV},      {"*", QN_TOK_MUL},
        {"%", QN_TOK_MOD},       {"~", QN_TOK_TILDE},  {"[", QN_TOK_LBRACKET}, {"]", QN_TOK_RBRACKET}, {"(", QN_TOK_LPAREN},
        {")", QN_TOK_RPAREN},    {"{", QN_TOK_LBRACE}, {"}", QN_TOK_RBRACE},   {">", QN_TOK_GT},       {"<", QN_TOK_LT},
        {"=", QN_TOK_ASSIGN},    {".", QN_TOK_DOT},    {":", QN_TOK_COLON},    {"|", QN_TOK_PIPE},     {",", QN_TOK_COMMA},
        {";", QN_TOK_SEMICOLON},
    };
    for (size_t i = 0; i < sizeof OPERATORS / sizeof OPERATORS[0]; i++) {
        size_t len = strlen(OPERATORS[i].text);
        if (n >= len && memcmp(c, OPERATORS[i].text, len) == 0) {
            *kind = OPERATORS[i].kind;
            return len;
        }
    }
    return 0;
}

static quern_status balance(qn_jlexer *x, char c)
{
    if (c == '(' || c == '[' || c == '{') {
        if (x->n_brackets == sizeof x->brackets) {
            return qn_jinja_syntax_error(x->template_, (uint32_t)x->at, x->err, "brackets are nested deeper than %d levels",
                                         QN_JINJA_SYNTAX_DEPTH);
        }
        x->brackets[x->n_brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (x->n_brackets == 0) {
            return qn_jinja_syntax_error(x->template_, (uint32_t)x->at, x->err, "unexpected '%c'", c);
        }
        char expected = x->brackets[--x->n_brackets];
        if (expected != c) {
            return qn_jinja_syntax_error(x->template_, (uint32_t)x->at, x->err, "unexpected '%c', expected '%c'", c, expected);
        }
    }
    return QUERN_OK;
}

static quern_status lex_code(qn_jlexer *x, qn_jtoken *token)
{
    bool block = x->state == QN_LEX_BLOCK;
    for (;;) {
        size_t end = x->n_brackets == 0 ? match_end(x, x->at, block ? "%}" : "}}", block, block) : 0;
        if (end != 0) {
            *token = (qn_jtoken){.kind = block ? QN_TOK_BLOCK_END : QN_TOK_VARIABLE_END, .pos = (uint32_t)x->at};
            x->at = end;
            x->state = QN_LEX_ROOT;
            note_line_start(x);
            return QUERN_OK;
        }
        size_t after = skip_space(x, x->at);
        if (after == x->at) {
            break;
        }
        x->at = after;
    }
    if (x->at >= x->template_->len) {
        *token = (qn_jtoken){.kind = QN_TOK_EOF, .pos = (uint32_t)x->template_->len};
        return QUERN_OK;
    }
    char c = x->template_->source[x->at];
    if (is_digit(c, 10)) {
        size_t end = match_float(x);
        return end != 0 ? lex_float(x, end, token) : lex_integer(x, token);
    }
    if (c == '"' || c == '\'') {
        return lex_string(x, token);
    }
    qn_jtoken_kind kind;
    size_t n = match_operator(x->template_->source + x->at, x->template_->len - x->at, &kind);
    if (n == 0) {
        return lex_name(x, token);
    }
    quern_status status = balance(x, c);
    *token = (qn_jtoken){.kind = kind, .pos = (uint32_t)x->at, .text = x->template_->source + x->at, .len = n};
    x->at += n;
    return status;
}

quern_status qn_jlexer_next(qn_jlexer *x, qn_jtoken *token) { return x->state == QN_LEX_ROOT ? lex_root(x, token) : lex_code(x, token); }

/* ---- escapes in strings ---- */

/* Up to max_digits digits of the base from s[*at..end); returns how many there were. */
static size_t read_number(const char *s, size_t *at, size_t end, int base, size_t max_digits, uint32_t *value)
{
    size_t n = 0;
    *value = 0;
    while (n < max_digits && *at < end && is_digit(s[*at], base)) {
        char c = s[*at];
        *value = *value * (uint32_t)base + (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
        (*at)++;
        n++;
    }
    return n;
}

static void append_code_point(qn_buf *out, uint32_t cp)
{
    char bytes[4];
    (void)qn_buf_append(out, bytes, qn_utf8_encode(cp, bytes));
}

/* The escape whose letter is s[*at]; moves *at behind it. */
static quern_status unescape_one(const qn_jlexer *x, const qn_jtoken *token, const char *s, size_t *at, size_t end, qn_buf *out)
{
    static const char LETTERS[] = "abfnrtv\\'\"", VALUES[] = "\a\b\f\n\r\t\v\\'\"";
    char c = s[*at];
    const char *found = c != '\0' ? strchr(LETTERS, c) : NULL;
    uint32_t cp;
    if (found != NULL) {
        (void)qn_buf_append_char(out, VALUES[found - LETTERS]);
        (*at)++;
        return QUERN_OK;
    }
    if (c == '\n') { /* a line continued */
        (*at)++;
        return QUERN_OK;
    }
    if (is_digit(c, 8)) {
        (void)read_number(s, at, end, 8, 3, &cp);
        append_code_point(out, cp);
        return QUERN_OK;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        size_t want = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        const char *digits = c == 'x' ? "xXX" : c == 'u' ? "uXXXX" : "UXXXXXXXX";
        (*at)++;
        if (read_number(s, at, end, 16, want, &cp) != want) {
            return qn_jinja_syntax_error(x->template_, token->pos, x->err, "truncated \\%s escape in a string", digits);
        }
        if (cp > 0x10ffffu || (cp >= 0xd800u && cp < 0xe000u)) {
            return qn_jinja_syntax_error(x->template_, token->pos, x->err, "illegal Unicode character in a string");
        }
        append_code_point(out, cp);
        return QUERN_OK;
    }
    if (c == 'N') {
        return qn_jinja_syntax_error(x->template_, token->pos, x->err, "character names (\\N) are not supported in strings");
    }
    (void)qn_buf_append_char(out, '\\'); /* unknown escapes stay as they are ... */
    size_t n = qn_utf8_decode(s + *at, end - *at, &cp);
    if (cp < 0x80u) {
        (void)qn_buf_append(out, s + *at, n);
    } else { /* ... but Python spells a character outside of ASCII here as an escape that is then not decoded again */
        (void)qn_buf_printf(out, cp < 0x100u ? "x%02x" : cp < 0x10000u ? "u%04x" : "U%08x", cp);
    }
    *at += n;
    return QUERN_OK;
}

quern_status qn_jlexer_unescape(const qn_jlexer *x, const qn_jtoken *token, qn_buf *out)
{
    const char *s = token->text;
    size_t end = token->len - 1;
    for (size_t at = 1; at < end;) {
        if (s[at] == '\\') {
            at++;
            quern_status status = unescape_one(x, token, s, &at, end, out);
            if (status != QUERN_OK) {
                return status;
            }
            continue;
        }
        size_t begin = at;
        while (at < end && s[at] != '\\') {
            at++;
        }
        (void)qn_buf_append(out, s + begin, at - begin);
    }
    return out->failed ? qn_error_set(x->err, QUERN_ERROR_MEMORY, "%s: out of memory", x->template_->name) : QUERN_OK;
}
