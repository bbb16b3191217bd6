/* json.c - the one file that knows Jansson. A qn_json is a json_t; a qn_json_iterator is Jansson's iterator. */
#include "base/json.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

static json_t *raw(const qn_json *v) { return (json_t *)(uintptr_t)v; }
static qn_json *wrap(json_t *v) { return (qn_json *)v; }

/* Jansson recurses while parsing (at most 2048 deep); this cheaper scan refuses deep nesting before it starts. */
static bool nesting_within(const char *s, size_t n, size_t limit)
{
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > limit) {
                return false;
            }
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

/* True for the digits of an integer above 2^63 - 1. */
static bool is_too_big(const char *digits, size_t n)
{
    static const char most[] = "9223372036854775807";
    return n > sizeof most - 1 || (n == sizeof most - 1 && memcmp(digits, most, n) > 0);
}

/* A copy of JSON text in which integers that do not fit 64 bits are written as reals: published files have
 * 1000000000000000019884624838656 where they mean infinity, and Jansson refuses it. False when out of memory. */
static bool widen_integers(const char *s, size_t n, qn_buf *out)
{
    bool in_string = false;
    for (size_t i = 0; i < n;) {
        size_t end = i + 1, digits = 0;
        if (in_string && s[i] == '\\') {
            end = i + 2 <= n ? i + 2 : n;
        } else if (s[i] == '"') {
            in_string = !in_string;
        } else if (!in_string && s[i] >= '0' && s[i] <= '9') {
            while (end < n && s[end] >= '0' && s[end] <= '9') {
                end++;
            }
            digits = end - i;
            while (end < n && s[end] != '\0' && strchr("0123456789.eE+-", s[end]) != NULL) {
                end++;
            }
        }
        (void)qn_buf_append(out, s + i, end - i);
        if (digits == end - i && is_too_big(s + i, digits)) {
            (void)qn_buf_append_str(out, ".0");
        }
        i = end;
    }
    return !out->failed;
}

quern_status qn_json_parse(qn_json **out, const char *data, size_t size, int flags, const char *what, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf wide;
    *out = NULL;
    qn_buf_init(&wide, SIZE_MAX / 2);
    if (!nesting_within(data, size, QN_JSON_DEPTH_MAX)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: JSON is nested deeper than %d", what, QN_JSON_DEPTH_MAX);
    }
    if (size > 0 && memchr(data, '\0', size) != NULL) { /* never valid, but Jansson loses one that follows a number */
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: invalid JSON: a NUL byte at byte %zu", what,
                (size_t)((const char *)memchr(data, '\0', size) - data));
    }
    size_t options = JSON_DECODE_ANY;
    options |= (flags & QN_JSON_REJECT_DUPLICATES) != 0 ? JSON_REJECT_DUPLICATES : 0u;
    options |= (flags & QN_JSON_ALLOW_NUL) != 0 ? JSON_ALLOW_NUL : 0u;
    json_error_t e = {0};
    json_t *v = json_loadb(data != NULL ? data : "", size, options, &e);
    if (v == NULL && (flags & QN_JSON_WIDE_INTEGERS) != 0 && json_error_code(&e) == json_error_numeric_overflow &&
        widen_integers(data, size, &wide)) {
        v = json_loadb(wide.data, wide.len, options, &e);
    }
    if (v == NULL) {
        /* Jansson has words for everything but most failures of malloc. */
        if (json_error_code(&e) == json_error_out_of_memory || e.text[0] == '\0') {
            QN_FAIL(err, QUERN_ERROR_MEMORY, "%s: out of memory while reading JSON of %zu bytes", what, size);
        }
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: invalid JSON at line %d, column %d: %s", what, e.line, e.column, e.text);
    }
    *out = wrap(v);
done:
    qn_buf_deinit(&wide);
    return status;
}

void qn_json_free(qn_json *root) { json_decref(raw(root)); }

qn_json_kind qn_json_get_kind(const qn_json *v)
{
    if (v == NULL) {
        return QN_JSON_NULL;
    }
    switch (json_typeof(raw(v))) {
    case JSON_OBJECT: return QN_JSON_OBJECT;
    case JSON_ARRAY: return QN_JSON_ARRAY;
    case JSON_STRING: return QN_JSON_STRING;
    case JSON_INTEGER: return QN_JSON_INT;
    case JSON_REAL: return QN_JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return QN_JSON_BOOL;
    case JSON_NULL: break;
    }
    return QN_JSON_NULL;
}

size_t qn_json_length(const qn_json *v)
{
    switch (qn_json_get_kind(v)) {
    case QN_JSON_ARRAY: return json_array_size(raw(v));
    case QN_JSON_OBJECT: return json_object_size(raw(v));
    case QN_JSON_STRING: return json_string_length(raw(v));
    case QN_JSON_NULL:
    case QN_JSON_BOOL:
    case QN_JSON_INT:
    case QN_JSON_REAL: break;
    }
    return 0;
}

const qn_json *qn_json_get(const qn_json *object, const char *key)
{
    return object != NULL ? wrap(json_object_get(raw(object), key)) : NULL;
}

const qn_json *qn_json_at(const qn_json *array, size_t index) { return array != NULL ? wrap(json_array_get(raw(array), index)) : NULL; }

const char *qn_json_string(const qn_json *v, size_t *len)
{
    if (qn_json_get_kind(v) != QN_JSON_STRING) {
        return NULL;
    }
    if (len != NULL) {
        *len = json_string_length(raw(v));
    }
    return json_string_value(raw(v));
}

bool qn_json_bool(const qn_json *v, bool fallback) { return qn_json_get_kind(v) == QN_JSON_BOOL ? json_is_true(raw(v)) : fallback; }

bool qn_json_int(const qn_json *v, int64_t *out)
{
    if (qn_json_get_kind(v) != QN_JSON_INT) {
        return false;
    }
    *out = (int64_t)json_integer_value(raw(v));
    return true;
}

bool qn_json_number(const qn_json *v, double *out)
{
    qn_json_kind kind = qn_json_get_kind(v);
    if (kind != QN_JSON_INT && kind != QN_JSON_REAL) {
        return false;
    }
    *out = json_number_value(raw(v));
    return true;
}

qn_json_iterator *qn_json_iter(const qn_json *object) { return object != NULL ? (qn_json_iterator *)json_object_iter(raw(object)) : NULL; }
qn_json_iterator *qn_json_next(const qn_json *object, qn_json_iterator *it)
{
    return (qn_json_iterator *)json_object_iter_next(raw(object), it);
}
const char *qn_json_iter_key(qn_json_iterator *it, size_t *len)
{
    const char *key = json_object_iter_key(it);
    if (len != NULL) {
        *len = json_object_iter_key_len(it);
    }
    return key;
}
const qn_json *qn_json_iter_value(qn_json_iterator *it) { return wrap(json_object_iter_value(it)); }

qn_json *qn_json_new_object(void) { return wrap(json_object()); }
qn_json *qn_json_new_array(void) { return wrap(json_array()); }
qn_json *qn_json_new_null(void) { return wrap(json_null()); }
qn_json *qn_json_new_bool(bool v) { return wrap(json_boolean(v)); }
qn_json *qn_json_new_int(int64_t v) { return wrap(json_integer(v)); }
qn_json *qn_json_new_real(double v) { return isfinite(v) ? wrap(json_real(v)) : qn_json_new_null(); }

static double rounded(double v, int digits)
{
    char text[40];
    (void)snprintf(text, sizeof text, "%.*g", digits, v);
    return strtod(text, NULL);
}

qn_json *qn_json_new_measured(double v) { return qn_json_new_real(isfinite(v) ? rounded(v, 6) : v); }

qn_json *qn_json_new_float(float v)
{
    int digits = 6;
    while (digits < 9 && isfinite(v) && (float)rounded((double)v, digits) != v) {
        digits++;
    }
    return qn_json_new_real(isfinite(v) ? rounded((double)v, digits) : (double)v);
}

qn_json *qn_json_new_string(const char *s) { return qn_json_new_string_n(s, strlen(s)); }

qn_json *qn_json_new_string_n(const char *s, size_t n)
{
    if (qn_utf8_valid(s, n)) {
        return wrap(json_stringn_nocheck(s, n));
    }
    qn_buf b;
    qn_buf_init(&b, SIZE_MAX / 2);
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t len = qn_utf8_decode(s + i, n - i, &cp);
        if (cp == QN_UTF8_INVALID) {
            (void)qn_buf_append(&b, "\xef\xbf\xbd", 3);
        } else {
            (void)qn_buf_append(&b, s + i, len);
        }
        i += len;
    }
    json_t *v = b.failed ? NULL : json_stringn_nocheck(qn_buf_text(&b), b.len);
    qn_buf_deinit(&b);
    return wrap(v);
}

qn_json *qn_json_clone(const qn_json *v) { return wrap(json_deep_copy(raw(v))); }
bool qn_json_set(qn_json *object, const char *key, qn_json *value) { return json_object_set_new(raw(object), key, raw(value)) == 0; }
void qn_json_remove(qn_json *object, const char *key) { (void)json_object_del(raw(object), key); }
bool qn_json_append(qn_json *array, qn_json *value) { return json_array_append_new(raw(array), raw(value)) == 0; }

static int append_chunk(const char *data, size_t size, void *user) { return qn_buf_append(user, data, size) ? 0 : -1; }

/* Digits, at least `digits`, that give every real of v back exactly. The depth is the parser's or our own documents'. */
static int real_digits(const json_t *v, int digits)
{
    const char *key;
    json_t *child;
    size_t i;
    switch (json_typeof(v)) {
    case JSON_REAL:
        for (; digits < 17 && rounded(json_real_value(v), digits) != json_real_value(v); digits++) {
        }
        break;
    case JSON_ARRAY:
        json_array_foreach(v, i, child) { digits = real_digits(child, digits); }
        break;
    case JSON_OBJECT:
        json_object_foreach((json_t *)(uintptr_t)v, key, child) { digits = real_digits(child, digits); }
        break;
    default: break;
    }
    return digits;
}

bool qn_json_write(const qn_json *v, int indent, qn_buf *out)
{
    size_t digits = (size_t)real_digits(raw(v), 1);
    size_t flags = JSON_ENCODE_ANY | (indent > 0 ? JSON_INDENT((size_t)indent) : JSON_COMPACT) | JSON_REAL_PRECISION(digits);
    return json_dump_callback(raw(v), append_chunk, out, flags) == 0 && !out->failed;
}
