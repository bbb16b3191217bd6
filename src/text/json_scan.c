/* json_scan.c - a JSON reader without a tree. */
#include "text/json_scan.h"

#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

void qn_json_scan_init(qn_json_scan *s, const char *data, size_t size, const char *what, quern_error *err)
{
    *s = (qn_json_scan){.data = data, .size = size, .what = what, .err = err};
    qn_buf_init(&s->unescaped, size); /* escapes are never shorter than what they stand for */
}

void qn_json_scan_deinit(qn_json_scan *s) { qn_buf_deinit(&s->unescaped); }

quern_status qn_json_scan_fail(qn_json_scan *s, const char *expected)
{
    size_t line = 1, line_begin = 0;
    for (size_t i = 0; i < s->at && i < s->size; i++) {
        if (s->data[i] == '\n') {
            line++;
            line_begin = i + 1;
        }
    }
    return qn_error_set(s->err, QUERN_ERROR_INVALID, "%s: invalid at line %zu, column %zu: expected %s", s->what, line, s->at - line_begin + 1,
                        expected);
}

char qn_json_scan_peek(qn_json_scan *s)
{
    while (s->at < s->size) {
        char c = s->data[s->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            return c;
        }
        s->at++;
    }
    return '\0';
}

quern_status qn_json_scan_expect(qn_json_scan *s, char c)
{
    if (qn_json_scan_peek(s) != c || s->at == s->size) {
        char expected[] = {'\'', c, '\'', '\0'};
        return qn_json_scan_fail(s, expected);
    }
    s->at++;
    return QUERN_OK;
}

quern_status qn_json_scan_more(qn_json_scan *s, char close, bool first, bool *more)
{
    char c = qn_json_scan_peek(s);
    *more = false;
    if (s->at < s->size && c == close) {
        s->at++;
        return QUERN_OK;
    }
    *more = true;
    if (first) {
        return QUERN_OK;
    }
    if (s->at == s->size || c != ',') {
        char expected[] = "',' or '?'";
        expected[8] = close;
        return qn_json_scan_fail(s, expected);
    }
    s->at++;
    return QUERN_OK;
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9' ? c - '0' : (c >= 'a' && c <= 'f' ? c - 'a' + 10 : (c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1));
        if (d < 0) {
            return -1;
        }
        v = v * 16 + d;
    }
    return v;
}

/* The escape at s->at (behind the backslash), appended to `unescaped`. */
static quern_status unescape(qn_json_scan *s)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = s->at < s->size ? s->data[s->at] : '\0';
    const char *hit = c != '\0' ? strchr(from, c) : NULL;
    if (hit != NULL) {
        s->at++;
        (void)qn_buf_append_char(&s->unescaped, to[hit - from]);
        return QUERN_OK;
    }
    int high = c == 'u' && s->size - s->at >= 5 ? hex4(s->data + s->at + 1) : -1;
    if (high < 0) {
        return qn_json_scan_fail(s, "an escape sequence");
    }
    s->at += 5;
    uint32_t cp = (uint32_t)high;
    if (high >= 0xd800 && high <= 0xdfff) {
        bool pair = high < 0xdc00 && s->size - s->at >= 6 && s->data[s->at] == '\\' && s->data[s->at + 1] == 'u';
        int low = pair ? hex4(s->data + s->at + 2) : -1;
        if (low < 0xdc00 || low > 0xdfff) {
            return qn_json_scan_fail(s, "a surrogate pair");
        }
        s->at += 6;
        cp = 0x10000u + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
    }
    char bytes[4];
    (void)qn_buf_append(&s->unescaped, bytes, qn_utf8_encode(cp, bytes));
    return QUERN_OK;
}

quern_status qn_json_scan_string(qn_json_scan *s, const char **text, size_t *len)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_json_scan_expect(s, '"'));
    size_t begin = s->at;
    bool escapes = false, ascii = true;
    for (;;) {
        if (s->at == s->size) {
            QN_TRY(qn_json_scan_fail(s, "'\"'"));
        }
        unsigned char c = (unsigned char)s->data[s->at];
        if (c == '"') {
            break;
        }
        if (c < 0x20) {
            QN_TRY(qn_json_scan_fail(s, "an escape in place of a control character"));
        }
        if (c == '\\') {
            if (!escapes) {
                qn_buf_reset(&s->unescaped);
                (void)qn_buf_append(&s->unescaped, s->data + begin, s->at - begin);
                escapes = true;
            }
            s->at++;
            QN_TRY(unescape(s));
            continue;
        }
        ascii = ascii && c < 0x80;
        if (escapes) {
            (void)qn_buf_append_char(&s->unescaped, (char)c);
        }
        s->at++;
    }
    if (escapes && s->unescaped.failed) {
        QN_FAIL_MEMORY(s->err, "a string", s->at - begin);
    }
    if (!ascii && !qn_utf8_valid(s->data + begin, s->at - begin)) {
        s->at = begin;
        QN_TRY(qn_json_scan_fail(s, "a string of UTF-8"));
    }
    *text = escapes ? qn_buf_text(&s->unescaped) : s->data + begin;
    *len = escapes ? s->unescaped.len : s->at - begin;
    s->at++;
done:
    return status;
}

quern_status qn_json_scan_key(qn_json_scan *s, const char **text, size_t *len)
{
    quern_status status = qn_json_scan_string(s, text, len);
    return status == QUERN_OK ? qn_json_scan_expect(s, ':') : status;
}

quern_status qn_json_scan_int(qn_json_scan *s, int64_t *out)
{
    (void)qn_json_scan_peek(s);
    size_t i = s->at;
    bool negative = i < s->size && s->data[i] == '-';
    i += negative ? 1 : 0;
    int64_t v = 0;
    size_t first = i;
    for (; i < s->size && s->data[i] >= '0' && s->data[i] <= '9' && i - first < 18; i++) {
        v = v * 10 + (s->data[i] - '0');
    }
    bool leading_zero = i - first > 1 && s->data[first] == '0';
    bool goes_on = i < s->size && memchr("0123456789.eE+-", s->data[i], 15) != NULL;
    if (i == first || leading_zero || goes_on) {
        return qn_json_scan_fail(s, "an integer of at most 18 digits");
    }
    s->at = i;
    *out = negative ? -v : v;
    return QUERN_OK;
}

quern_status qn_json_scan_skip(qn_json_scan *s, const char **value, size_t *len)
{
    quern_status status = QUERN_OK;
    char open[QN_JSON_DEPTH_MAX]; /* the closing bracket each level waits for */
    size_t depth = 0;
    (void)qn_json_scan_peek(s);
    size_t begin = s->at;
    do {
        char c = qn_json_scan_peek(s);
        if (s->at == s->size) {
            QN_TRY(qn_json_scan_fail(s, "a value"));
        }
        if (c == '"') {
            const char *text;
            size_t text_len;
            QN_TRY(qn_json_scan_string(s, &text, &text_len));
        } else if (c == '{' || c == '[') {
            if (depth == QN_JSON_DEPTH_MAX) {
                QN_TRY(qn_json_scan_fail(s, "less deep nesting"));
            }
            open[depth++] = c == '{' ? '}' : ']';
            s->at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0 || open[--depth] != c) {
                QN_TRY(qn_json_scan_fail(s, "the bracket that was opened"));
            }
            s->at++;
        } else if (depth > 0 && (c == ',' || c == ':')) {
            s->at++;
        } else { /* a number or a word */
            size_t from = s->at;
            while (s->at < s->size && ((unsigned char)s->data[s->at] | 0x20u) >= 'a' && ((unsigned char)s->data[s->at] | 0x20u) <= 'z') {
                s->at++;
            }
            while (s->at < s->size && s->data[s->at] != '\0' && strchr("0123456789.eE+-", s->data[s->at]) != NULL) {
                s->at++;
            }
            if (s->at == from) {
                QN_TRY(qn_json_scan_fail(s, "a value"));
            }
        }
    } while (depth > 0);
    *value = s->data + begin;
    *len = s->at - begin;
done:
    return status;
}

quern_status qn_json_scan_end(qn_json_scan *s)
{
    (void)qn_json_scan_peek(s);
    return s->at == s->size ? QUERN_OK : qn_json_scan_fail(s, "the end of the text");
}
