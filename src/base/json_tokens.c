/* json_tokens.c - the tokens of RFC 8259. */
#include "base/json_tokens.h"

#include <string.h>

#include "base/utf8.h"

void qn_json_tokens_init(qn_json_tokens *s, const char *data, size_t size) { *s = (qn_json_tokens){.data = data, .size = size}; }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static int hex_digit(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hex digits at p, of which `left` bytes can be read; -1 if they are not there. */
static int32_t hex_unit(const char *p, size_t left)
{
    int32_t unit = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = i < left ? hex_digit(p[i]) : -1;
        if (digit < 0) {
            return -1;
        }
        unit = unit * 16 + digit;
    }
    return unit;
}

/* The escape after the backslash at p[0]: bytes it takes (with the backslash), 0 if it is none; *cp is what it means. */
static size_t read_escape(const char *p, size_t left, uint32_t *cp)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    if (left < 2) {
        return 0;
    }
    if (p[1] != 'u') {
        const char *found = p[1] != '\0' ? strchr(letters, p[1]) : NULL;
        *cp = found != NULL ? (uint32_t)meanings[found - letters] : 0;
        return found != NULL ? 2 : 0;
    }
    int32_t high = hex_unit(p + 2, left - 2);
    if (high < 0 || (high >= 0xdc00 && high <= 0xdfff)) {
        return 0;
    }
    if (high < 0xd800 || high > 0xdbff) {
        *cp = (uint32_t)high;
        return 6;
    }
    int32_t low = left >= 12 && p[6] == '\\' && p[7] == 'u' ? hex_unit(p + 8, left - 8) : -1;
    if (low < 0xdc00 || low > 0xdfff) {
        return 0;
    }
    *cp = 0x10000u + (((uint32_t)high - 0xd800u) << 10) + ((uint32_t)low - 0xdc00u);
    return 12;
}

/* s->next stands after the opening quote. */
static qn_json_token scan_string(qn_json_tokens *s)
{
    size_t at = s->next;
    s->begin = at;
    while (at < s->size && s->data[at] != '"') {
        uint32_t cp = 0;
        size_t n = 1;
        if ((unsigned char)s->data[at] < 0x20) {
            return QN_JSON_TOKEN_BAD;
        }
        if (s->data[at] == '\\') {
            n = read_escape(s->data + at, s->size - at, &cp);
        }
        if (n == 0) {
            return QN_JSON_TOKEN_BAD;
        }
        at += n;
    }
    if (at >= s->size || !qn_utf8_valid(s->data + s->begin, at - s->begin)) {
        return QN_JSON_TOKEN_BAD;
    }
    s->end = at;
    s->next = at + 1;
    return QN_JSON_TOKEN_STRING;
}

/* Skips digits from *at; false if there is none. */
static bool skip_digits(const qn_json_tokens *s, size_t *at)
{
    size_t from = *at;
    while (*at < s->size && is_digit(s->data[*at])) {
        (*at)++;
    }
    return *at > from;
}

static qn_json_token scan_number(qn_json_tokens *s)
{
    qn_json_token token = QN_JSON_TOKEN_INT;
    size_t at = s->begin + (s->data[s->begin] == '-' ? 1u : 0u);
    size_t first = at;
    if (!skip_digits(s, &at) || (s->data[first] == '0' && at - first > 1)) {
        return QN_JSON_TOKEN_BAD;
    }
    if (at < s->size && s->data[at] == '.') {
        at++;
        token = QN_JSON_TOKEN_REAL;
        if (!skip_digits(s, &at)) {
            return QN_JSON_TOKEN_BAD;
        }
    }
    if (at < s->size && (s->data[at] == 'e' || s->data[at] == 'E')) {
        at++;
        token = QN_JSON_TOKEN_REAL;
        if (at < s->size && (s->data[at] == '+' || s->data[at] == '-')) {
            at++;
        }
        if (!skip_digits(s, &at)) {
            return QN_JSON_TOKEN_BAD;
        }
    }
    s->next = at;
    s->end = at;
    return token;
}

static qn_json_token scan_word(qn_json_tokens *s)
{
    static const struct {
        const char *text;
        size_t len;
        qn_json_token token;
    } words[] = {{"true", 4, QN_JSON_TOKEN_TRUE}, {"false", 5, QN_JSON_TOKEN_FALSE}, {"null", 4, QN_JSON_TOKEN_NULL}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (s->size - s->begin >= words[i].len && memcmp(s->data + s->begin, words[i].text, words[i].len) == 0) {
            s->next = s->begin + words[i].len;
            s->end = s->next;
            return words[i].token;
        }
    }
    return QN_JSON_TOKEN_BAD;
}

static qn_json_token scan_token(qn_json_tokens *s)
{
    while (s->next < s->size &&
           (s->data[s->next] == ' ' || s->data[s->next] == '\n' || s->data[s->next] == '\r' || s->data[s->next] == '\t')) {
        s->next++;
    }
    s->begin = s->next;
    s->end = s->next;
    if (s->next >= s->size) {
        return QN_JSON_TOKEN_END;
    }
    char c = s->data[s->next];
    if (c == '-' || is_digit(c)) {
        return scan_number(s);
    }
    if (c == 't' || c == 'f' || c == 'n') {
        return scan_word(s);
    }
    s->next++;
    s->end = s->next;
    switch (c) {
    case '{': return QN_JSON_TOKEN_OBJECT;
    case '}': return QN_JSON_TOKEN_OBJECT_END;
    case '[': return QN_JSON_TOKEN_ARRAY;
    case ']': return QN_JSON_TOKEN_ARRAY_END;
    case ':': return QN_JSON_TOKEN_COLON;
    case ',': return QN_JSON_TOKEN_COMMA;
    case '"': return scan_string(s);
    default: return QN_JSON_TOKEN_BAD;
    }
}

qn_json_token qn_json_tokens_next(qn_json_tokens *s)
{
    s->token = scan_token(s);
    return s->token;
}

/* A key and its colon, the key being the last token; then the first token of the value. */
static bool skip_key(qn_json_tokens *s)
{
    return s->token == QN_JSON_TOKEN_STRING && qn_json_tokens_next(s) == QN_JSON_TOKEN_COLON && qn_json_tokens_next(s) != QN_JSON_TOKEN_END;
}

static bool skip_value(qn_json_tokens *s)
{
    enum { DEPTH_MAX = 512 };
    qn_json_token closers[DEPTH_MAX]; /* what ends each open value */
    size_t depth = 0;
    for (;;) {
        /* here the last token is the first of a value */
        bool opened = s->token == QN_JSON_TOKEN_OBJECT || s->token == QN_JSON_TOKEN_ARRAY;
        if (opened) {
            if (depth == DEPTH_MAX) {
                return false;
            }
            closers[depth++] = s->token == QN_JSON_TOKEN_OBJECT ? QN_JSON_TOKEN_OBJECT_END : QN_JSON_TOKEN_ARRAY_END;
            (void)qn_json_tokens_next(s);
        } else if (s->token < QN_JSON_TOKEN_STRING) {
            return false;
        }
        bool empty = opened && s->token == closers[depth - 1];
        if (opened && !empty) {
            if (closers[depth - 1] == QN_JSON_TOKEN_OBJECT_END && !skip_key(s)) {
                return false;
            }
            continue;
        }
        depth -= empty ? 1u : 0u;
        /* a value has ended; so may those around it */
        while (depth > 0 && qn_json_tokens_next(s) == closers[depth - 1]) {
            depth--;
        }
        if (depth == 0) {
            return true;
        }
        if (s->token != QN_JSON_TOKEN_COMMA) {
            return false;
        }
        (void)qn_json_tokens_next(s);
        if (closers[depth - 1] == QN_JSON_TOKEN_OBJECT_END && !skip_key(s)) {
            return false;
        }
    }
}

bool qn_json_tokens_skip(qn_json_tokens *s)
{
    bool whole = skip_value(s);
    if (!whole) {
        s->token = QN_JSON_TOKEN_BAD;
    }
    return whole;
}

size_t qn_json_tokens_string(const qn_json_tokens *s, char *out)
{
    size_t n = 0;
    for (size_t at = s->begin; at < s->end;) {
        uint32_t cp = 0;
        if (s->data[at] == '\\') {
            at += read_escape(s->data + at, s->end - at, &cp);
            n += qn_utf8_encode(cp, out + n);
        } else {
            out[n++] = s->data[at++];
        }
    }
    return n;
}

bool qn_json_tokens_u64(const qn_json_tokens *s, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t at = s->begin; at < s->end; at++) {
        char c = s->data[at];
        if (!is_digit(c) || __builtin_mul_overflow(v, (uint64_t)10, &v) || __builtin_add_overflow(v, (uint64_t)(c - '0'), &v)) {
            return false;
        }
    }
    *out = v;
    return s->token == QN_JSON_TOKEN_INT;
}

const char *qn_json_token_text(qn_json_token token)
{
    switch (token) {
    case QN_JSON_TOKEN_END: return "the end";
    case QN_JSON_TOKEN_BAD: return "something that is no JSON";
    case QN_JSON_TOKEN_OBJECT: return "'{'";
    case QN_JSON_TOKEN_OBJECT_END: return "'}'";
    case QN_JSON_TOKEN_ARRAY: return "'['";
    case QN_JSON_TOKEN_ARRAY_END: return "']'";
    case QN_JSON_TOKEN_COLON: return "':'";
    case QN_JSON_TOKEN_COMMA: return "','";
    case QN_JSON_TOKEN_STRING: return "a string";
    case QN_JSON_TOKEN_INT: return "an integer";
    case QN_JSON_TOKEN_REAL: return "a fraction";
    case QN_JSON_TOKEN_TRUE: return "true";
    case QN_JSON_TOKEN_FALSE: return "false";
    case QN_JSON_TOKEN_NULL: break;
    }
    return "null";
}
