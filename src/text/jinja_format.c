/* jinja_format.c - `format % values`: Python's printf-style formatting of strings. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_run.h"
#include "text/unicode_props.h"

enum { PRECISION_MAX = 1000 }; /* digits behind a point; nothing sensible asks for more */

typedef struct percent {
    qn_jrun *run;
    qn_jbuf out;
    const qn_jstr *format;
    size_t at;
    qn_jval values;
    const qn_jval *items; /* of a tuple, or the one value */
    size_t n_items, used;
    bool markup;
} percent;

typedef struct spec {
    bool left, plus, blank, alternate, zero;
    int64_t width, precision; /* precision: -1 = not given */
    char type;
} spec;

static bool next_value(percent *p, qn_jval *out)
{
    if (p->used >= p->n_items) {
        return qn_jfail(p->run, "not enough arguments for format string");
    }
    *out = p->items[p->used++];
    return true;
}

static char peek(const percent *p) { return p->at < p->format->len ? p->format->data[p->at] : '\0'; }

/* A decimal number or `*`. */
static bool read_count(percent *p, int64_t *out)
{
    if (peek(p) == '*') {
        qn_jval v;
        p->at++;
        if (!next_value(p, &v)) {
            return false;
        }
        if (!qn_jis_int(v)) {
            return qn_jfail(p->run, "* wants int");
        }
        *out = qn_jas_int(v);
        return true;
    }
    int64_t n = 0;
    while (peek(p) >= '0' && peek(p) <= '9') {
        n = n * 10 + (peek(p) - '0');
        if (n > INT32_MAX) {
            return qn_jfail(p->run, "a width or precision is too big");
        }
        p->at++;
    }
    *out = n;
    return true;
}

/* `(key)` behind the percent sign: looks the value up. */
static bool read_key(percent *p, qn_jval *value, bool *keyed)
{
    *keyed = peek(p) == '(';
    if (!*keyed) {
        return true;
    }
    size_t begin = ++p->at, open = 1;
    for (; p->at < p->format->len; p->at++) {
        open += peek(p) == '(';
        open -= peek(p) == ')';
        if (open == 0) {
            break;
        }
    }
    if (open != 0) {
        return qn_jfail(p->run, "incomplete format key");
    }
    if (p->values.kind != QN_JV_DICT) {
        return qn_jfail(p->run, "format requires a mapping");
    }
    const qn_jval *found = qn_jdict_find_text(p->run, p->values.u.dict, p->format->data + begin, p->at - begin);
    if (found == NULL) {
        return qn_jfail(p->run, "no key '%.*s' for the format", (int)(p->at - begin < 100 ? p->at - begin : 100), p->format->data + begin);
    }
    p->at++;
    *value = *found;
    return true;
}

static bool read_spec(percent *p, spec *s)
{
    *s = (spec){.precision = -1};
    for (;; p->at++) {
        char c = peek(p);
        s->left = s->left || c == '-';
        s->plus = s->plus || c == '+';
        s->blank = s->blank || c == ' ';
        s->alternate = s->alternate || c == '#';
        s->zero = s->zero || c == '0';
        if (c == '\0' || strchr("-+ #0", c) == NULL) {
            break;
        }
    }
    if (!read_count(p, &s->width)) {
        return false;
    }
    if (s->width < 0) {
        s->left = true;
        s->width = s->width == INT64_MIN ? INT64_MAX : -s->width;
    }
    if (peek(p) == '.') {
        p->at++;
        if (!read_count(p, &s->precision)) {
            return false;
        }
        s->precision = s->precision < 0 ? 0 : s->precision;
    }
    if (peek(p) == 'h' || peek(p) == 'l' || peek(p) == 'L') {
        p->at++;
    }
    s->type = peek(p);
    if (s->type == '\0') {
        return qn_jfail(p->run, "incomplete format");
    }
    p->at++;
    return true;
}

static bool pad(percent *p, int64_t width, size_t n_chars)
{
    return (uint64_t)width <= n_chars || qn_jbuf_append_spaces(&p->out, (size_t)width - n_chars);
}

/* %s, %r, %a and %c: text of an own, cut to the precision. */
static bool put_text(percent *p, const spec *s, const qn_jstr *text)
{
    size_t end = text->len, n_chars = text->n_chars;
    if (s->precision >= 0 && (uint64_t)s->precision < n_chars) {
        n_chars = (size_t)s->precision;
        end = qn_jstr_offset(text, n_chars);
    }
    return (s->left || pad(p, s->width, n_chars)) && qn_jbuf_append_slice(&p->out, text, 0, end) && (!s->left || pad(p, s->width, n_chars));
}

static bool put_string(percent *p, const spec *s, qn_jval v)
{
    qn_jval text;
    qn_jbuf b;
    qn_jbuf_init(&b, p->run);
    bool ok = (s->type == 's' ? qn_jbuf_append_value(&b, v) : qn_jbuf_append_repr(&b, v)) && qn_jbuf_finish(&b, &text);
    qn_jbuf_deinit(&b);
    if (!ok) {
        return false;
    }
    if (s->type == 'a') {
        qn_jval ascii;
        ok = qn_jascii(p->run, text.u.str, &ascii);
        qn_jassign(p->run, &text, ok ? ascii : qn_jmissing());
    }
    if (ok && p->markup && !(s->type == 's' && v.kind == QN_JV_STRING && v.u.str->markup)) {
        qn_jval escaped;
        ok = qn_jescape(p->run, text, &escaped);
        qn_jassign(p->run, &text, ok ? escaped : qn_jmissing());
    }
    ok = ok && put_text(p, s, text.u.str);
    qn_jrelease(p->run, text);
    return ok;
}

static bool put_char(percent *p, const spec *s, qn_jval v)
{
    spec plain = *s;
    plain.precision = -1;
    if (v.kind == QN_JV_STRING) {
        return v.u.str->n_chars == 1 ? put_text(p, &plain, v.u.str) : qn_jfail(p->run, "%%c requires int or char");
    }
    if (!qn_jis_int(v)) {
        return qn_jfail(p->run, "%%c requires int or char");
    }
    int64_t cp = qn_jas_int(v);
    if (cp < 0 || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) {
        return qn_jfail(p->run, "%%c arg not in range(0x110000)");
    }
    char bytes[4];
    qn_jval text;
    /* a character made from a number was not written by the template as text: content */
    bool ok = qn_jstr_new(p->run, bytes, qn_utf8_encode((uint32_t)cp, bytes), true, &text) && put_text(p, &plain, text.u.str);
    if (ok) {
        qn_jrelease(p->run, text);
    }
    return ok;
}

/* sign, prefix ("0x") and digits with the padding of numbers. */
static bool put_number(percent *p, const spec *s, const char *sign, const char *prefix, const char *digits, size_t zeros, bool content)
{
    size_t len = strlen(sign) + strlen(prefix) + zeros + strlen(digits);
    size_t fill = s->width > 0 && (uint64_t)s->width > len ? (size_t)s->width - len : 0;
    qn_jval zero = qn_jmissing();
    bool ok = (s->left || s->zero || qn_jbuf_append_spaces(&p->out, fill)) && qn_jbuf_append_text(&p->out, sign, content) &&
              qn_jbuf_append_text(&p->out, prefix, false) && qn_jstr_new(p->run, "0", 1, false, &zero) &&
              (s->left || !s->zero || qn_jbuf_append_repeated(&p->out, zero.u.str, fill)) &&
              qn_jbuf_append_repeated(&p->out, zero.u.str, zeros) && qn_jbuf_append_text(&p->out, digits, content) &&
              (!s->left || qn_jbuf_append_spaces(&p->out, fill));
    qn_jrelease(p->run, zero);
    return ok;
}

static const char *sign_of(const spec *s, bool negative) { return negative ? "-" : s->plus ? "+" : s->blank ? " " : ""; }

static bool put_int(percent *p, const spec *s, qn_jval v)
{
    int64_t i;
    char digits[32];
    bool decimal = s->type == 'd' || s->type == 'i' || s->type == 'u';
    if (v.kind == QN_JV_FLOAT && decimal) {
        if (!qn_jfloat_to_int(p->run, v.u.d, &i)) {
            return false;
        }
    } else if (qn_jis_int(v)) {
        i = qn_jas_int(v);
    } else {
        return qn_jfail(p->run, "%%%c format: %s is required, not %s", s->type, decimal ? "a real number" : "an integer", qn_jtype_name(v));
    }
    uint64_t magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    const char *prefix = "";
    if (decimal) {
        (void)snprintf(digits, sizeof digits, "%" PRIu64, magnitude);
    } else if (s->type == 'o') {
        (void)snprintf(digits, sizeof digits, "%" PRIo64, magnitude);
        prefix = s->alternate ? "0o" : "";
    } else {
        (void)snprintf(digits, sizeof digits, s->type == 'x' ? "%" PRIx64 : "%" PRIX64, magnitude);
        prefix = !s->alternate ? "" : s->type == 'x' ? "0x" : "0X";
    }
    size_t len = strlen(digits);
    size_t zeros = s->precision > 0 && (uint64_t)s->precision > len ? (size_t)s->precision - len : 0;
    return put_number(p, s, sign_of(s, i < 0), prefix, digits, zeros, v.content);
}

static bool put_float(percent *p, const spec *s, qn_jval v)
{
    char format[8], text[PRECISION_MAX + 400];
    bool ok;
    double d = 0.0;
    if (v.kind == QN_JV_STRING) { /* "1.5" is no number here, whatever float() makes of it */
        return qn_jfail(p->run, "must be real number, not str");
    }
    if (!qn_jto_float(p->run, v, &ok, &d)) {
        return false;
    }
    if (!ok) {
        return qn_jfail(p->run, "must be real number, not %s", qn_jtype_name(v));
    }
    if (s->precision > PRECISION_MAX) {
        return qn_jfail_status(p->run, QUERN_ERROR_LIMIT, "a precision of more than %d digits", PRECISION_MAX);
    }
    (void)snprintf(format, sizeof format, "%%%s.*%c", s->alternate ? "#" : "", s->type);
    (void)snprintf(text, sizeof text, format, s->precision < 0 ? 6 : (int)s->precision, fabs(d));
    return qn_jcharge(p->run, 20) && put_number(p, s, sign_of(s, signbit(d) != 0 && !isnan(d)), "", text, 0, v.content);
}

static bool put_value(percent *p, const spec *s, qn_jval v)
{
    switch (s->type) {
    case 's':
    case 'r':
    case 'a': return put_string(p, s, v);
    case 'c': return put_char(p, s, v);
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': return put_int(p, s, v);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': return put_float(p, s, v);
    default: return qn_jfail(p->run, "unsupported format character '%c' (0x%x)", s->type, (unsigned)(uint8_t)s->type);
    }
}

static bool put_conversion(percent *p)
{
    spec s;
    qn_jval v = qn_jmissing();
    bool keyed;
    if (!read_key(p, &v, &keyed) || !read_spec(p, &s)) {
        return false;
    }
    if (s.type == '%') {
        return qn_jbuf_append_slice(&p->out, p->format, p->at - 1, p->at);
    }
    if (!keyed && !next_value(p, &v)) {
        return false;
    }
    return qn_jcharge(p->run, 2) && put_value(p, &s, v);
}

static bool run_percent(percent *p)
{
    const qn_jstr *f = p->format;
    while (p->at < f->len) {
        const char *sign = memchr(f->data + p->at, '%', f->len - p->at);
        size_t end = sign != NULL ? (size_t)(sign - f->data) : f->len;
        if (!qn_jbuf_append_slice(&p->out, f, p->at, end)) {
            return false;
        }
        p->at = end + 1;
        if (sign != NULL && !put_conversion(p)) {
            return false;
        }
    }
    qn_jkind kind = (qn_jkind)p->values.kind;
    bool mapping = kind == QN_JV_DICT || kind == QN_JV_LIST || kind == QN_JV_RANGE || kind == QN_JV_UNDEFINED;
    return mapping || p->used == p->n_items || qn_jfail(p->run, "not all arguments converted during string formatting");
}

bool qn_jformat_percent(qn_jrun *run, qn_jstr *format, qn_jval values, qn_jval *out)
{
    percent p = {.run = run, .format = format, .values = values, .markup = format->markup};
    bool tuple = values.kind == QN_JV_TUPLE;
    p.items = tuple ? values.u.list->items : &p.values;
    p.n_items = tuple ? values.u.list->n : 1;
    qn_jbuf_init(&p.out, run);
    bool ok = run_percent(&p) && qn_jbuf_finish(&p.out, out);
    if (ok) {
        out->u.str->markup = p.markup;
    }
    qn_jbuf_deinit(&p.out);
    return ok;
}

bool qn_jascii(qn_jrun *run, qn_jstr *s, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jcharge(run, s->len / 16);
    for (size_t at = 0; ok && at < s->len;) {
        uint32_t cp;
        char text[16];
        size_t n = qn_utf8_decode(s->data + at, s->len - at, &cp);
        if (cp < 0x80u) {
            ok = qn_jbuf_append_slice(&b, s, at, at + n);
        } else {
            int len = snprintf(text, sizeof text, cp < 0x100u ? "\\x%02x" : cp < 0x10000u ? "\\u%04x" : "\\U%08x", cp);
            ok = qn_jbuf_append(&b, text, (size_t)len, qn_jstr_mark(s, at));
        }
        at += n;
    }
    ok = ok && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}
