/* jinja_braces.c - str.format: replacement fields, and Python's format specification for strings and numbers. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_run.h"

enum { PRECISION_MAX = 1000, SPEC_MAX = 200 };

/* ---- format(value, spec) ---- */

typedef struct spec {
    char fill[5];
    char align; /* '<' '>' '=' '^', 0 = the type's own */
    char sign;  /* '+' '-' ' ' */
    bool alternate, zero;
    int64_t width, precision; /* -1 = not given */
    char grouping;            /* ',' '_' or 0 */
    char type;                /* 0 = none */
} spec;

static bool is_align(char c) { return c == '<' || c == '>' || c == '=' || c == '^'; }

static bool read_number(qn_jrun *run, const char *s, size_t len, size_t *at, int64_t *out)
{
    if (*at >= len || s[*at] < '0' || s[*at] > '9') {
        return true;
    }
    int64_t n = 0;
    for (; *at < len && s[*at] >= '0' && s[*at] <= '9'; (*at)++) {
        n = n * 10 + (s[*at] - '0');
        if (n > INT32_MAX) {
            return qn_jfail(run, "Too many decimal digits in format string");
        }
    }
    *out = n;
    return true;
}

static bool parse_spec(qn_jrun *run, const char *s, size_t len, spec *out)
{
    *out = (spec){.fill = " ", .sign = '-', .width = -1, .precision = -1};
    uint32_t cp;
    size_t at = 0, first = qn_utf8_decode(s, len, &cp);
    if (first > 0 && first < len && is_align(s[first])) {
        memcpy(out->fill, s, first);
        out->fill[first] = '\0';
        out->align = s[first];
        at = first + 1;
    } else if (len > 0 && is_align(s[0])) {
        out->align = s[0];
        at = 1;
    }
    if (at < len && (s[at] == '+' || s[at] == '-' || s[at] == ' ')) {
        out->sign = s[at++];
    }
    if (at < len && s[at] == '#') {
        out->alternate = true;
        at++;
    }
    if (at < len && s[at] == '0') {
        out->zero = true;
        at++;
    }
    if (!read_number(run, s, len, &at, &out->width)) {
        return false;
    }
    if (at < len && (s[at] == ',' || s[at] == '_')) {
        out->grouping = s[at++];
    }
    if (at < len && s[at] == '.') {
        at++;
        if (!read_number(run, s, len, &at, &out->precision)) {
            return false;
        }
        if (out->precision < 0) {
            return qn_jfail(run, "Format specifier missing precision");
        }
    }
    if (at < len) {
        out->type = s[at++];
    }
    return at == len || qn_jfail(run, "Invalid format specifier");
}

/* `body` of n_chars characters, filled up to the width. */
static bool put_aligned(qn_jbuf *b, const spec *s, char align, const qn_jstr *body, size_t end, size_t n_chars)
{
    size_t fill = s->width > 0 && (uint64_t)s->width > n_chars ? (size_t)s->width - n_chars : 0;
    size_t before = align == '<' ? 0 : align == '^' ? fill / 2 : fill;
    qn_jval filler;
    if (!qn_jstr_new(b->run, s->fill, strlen(s->fill), false, &filler)) {
        return false;
    }
    bool ok = qn_jbuf_append_repeated(b, filler.u.str, before) && qn_jbuf_append_slice(b, body, 0, end) &&
              qn_jbuf_append_repeated(b, filler.u.str, fill - before);
    qn_jrelease(b->run, filler);
    return ok;
}

static bool format_string(qn_jbuf *b, const spec *s, const qn_jstr *text)
{
    if (s->type != 0 && s->type != 's') {
        return qn_jfail(b->run, "Unknown format code '%c' for object of type 'str'", s->type);
    }
    if (s->sign != '-' || s->alternate || s->grouping != 0 || s->align == '=') {
        return qn_jfail(b->run, "this format specification is not allowed for strings");
    }
    size_t end = text->len, n_chars = text->n_chars;
    if (s->precision >= 0 && (uint64_t)s->precision < n_chars) {
        n_chars = (size_t)s->precision;
        end = qn_jstr_offset(text, n_chars);
    }
    spec filled = *s;
    if (s->zero && s->align == 0) {
        memcpy(filled.fill, "0", 2);
    }
    return put_aligned(b, &filled, s->align != 0 ? s->align : '<', text, end, n_chars);
}

/* Digits of the integer part with separators, filled with zeros to at least `width` characters. */
static bool put_grouped(qn_jbuf *b, const char *digits, size_t n, size_t group, char separator, size_t width, bool content)
{
    size_t total = n;
    while (separator != 0 ? total + (total - 1) / group < width : total < width) {
        total++;
    }
    bool ok = qn_jcharge(b->run, total / 4);
    for (size_t i = 0; ok && i < total; i++) {
        size_t left = total - i;
        if (i > 0 && separator != 0 && left % group == 0) {
            ok = qn_jbuf_append_char(b, separator, false);
        }
        bool zero = i < total - n;
        ok = ok && qn_jbuf_append_char(b, zero ? '0' : digits[i - (total - n)], !zero && content);
    }
    return ok;
}

/* A number whose text is sign, prefix, integer digits and a rest (fraction, exponent, percent sign). */
static bool put_number(qn_jbuf *b, const spec *s, bool negative, const char *prefix, const char *digits, size_t n_digits, const char *rest,
                       size_t group, bool content)
{
    const char *sign = negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
    bool zero_fill = (s->zero && s->align == 0) || (s->align == '=' && strcmp(s->fill, "0") == 0);
    size_t around = strlen(sign) + strlen(prefix) + strlen(rest);
    size_t inner = zero_fill && s->width > 0 && (uint64_t)s->width > around ? (size_t)s->width - around : 0;
    if (inner > QN_JSTR_MAX / 2) {
        return qn_jfail_status(b->run, QUERN_ERROR_LIMIT, "a formatted number is too wide");
    }
    qn_jbuf head, body;
    qn_jval head_text = qn_jmissing(), body_text = qn_jmissing();
    qn_jbuf_init(&head, b->run);
    qn_jbuf_init(&body, b->run);
    bool ok = qn_jbuf_append_text(&head, sign, content) && qn_jbuf_append_text(&head, prefix, false) && qn_jbuf_finish(&head, &head_text) &&
              qn_jbuf_append_str(&body, head_text.u.str);
    bool split = s->align == '=' && !zero_fill;
    if (ok && split) { /* the filling goes between the sign and the digits */
        ok = qn_jbuf_append_str(b, head_text.u.str);
        qn_jbuf_deinit(&body);
    }
    ok = ok && put_grouped(&body, digits, n_digits, group, s->grouping, inner, content) && qn_jbuf_append_text(&body, rest, content) &&
         qn_jbuf_finish(&body, &body_text);
    if (ok) {
        spec aligned = *s;
        if (split) {
            aligned.width = s->width > (int64_t)head_text.u.str->n_chars ? s->width - (int64_t)head_text.u.str->n_chars : -1;
        }
        ok = put_aligned(b, &aligned, s->align == 0 || s->align == '=' ? '>' : s->align, body_text.u.str, body_text.u.str->len,
                         body_text.u.str->n_chars);
    }
    qn_jbuf_deinit(&head);
    qn_jbuf_deinit(&body);
    qn_jrelease(b->run, head_text);
    qn_jrelease(b->run, body_text);
    return ok;
}

static bool format_int(qn_jbuf *b, const spec *s, int64_t i, bool content)
{
    char digits[72];
    const char *prefix = "";
    size_t n = 0;
    uint64_t magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    unsigned base = s->type == 'b' ? 2 : s->type == 'o' ? 8 : s->type == 'x' || s->type == 'X' ? 16 : 10;
    if (s->precision >= 0) {
        return qn_jfail(b->run, "Precision not allowed in integer format specifier");
    }
    if (s->grouping == ',' && base != 10) {
        return qn_jfail(b->run, "Cannot specify ',' with '%c'.", s->type);
    }
    do {
        unsigned digit = (unsigned)(magnitude % base);
        digits[n++] = (char)(digit < 10 ? '0' + digit : (s->type == 'X' ? 'A' : 'a') + digit - 10);
        magnitude /= base;
    } while (magnitude > 0);
    for (size_t k = 0; k < n / 2; k++) {
        char swap = digits[k];
        digits[k] = digits[n - 1 - k];
        digits[n - 1 - k] = swap;
    }
    if (s->alternate && base != 10) {
        prefix = base == 2 ? "0b" : base == 8 ? "0o" : s->type == 'X' ? "0X" : "0x";
    }
    return put_number(b, s, i < 0, prefix, digits, n, "", base == 10 ? 3 : 4, content);
}

static bool format_code_point(qn_jbuf *b, const spec *s, int64_t cp)
{
    char bytes[4];
    qn_jval text;
    if (cp < 0 || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) {
        return qn_jfail(b->run, "%%c arg not in range(0x110000)");
    }
    spec plain = *s;
    plain.type = 's';
    plain.align = s->align != 0 ? s->align : '>';
    bool ok = qn_jstr_new(b->run, bytes, qn_utf8_encode((uint32_t)cp, bytes), true, &text);
    if (ok) {
        ok = format_string(b, &plain, text.u.str);
        qn_jrelease(b->run, text);
    }
    return ok;
}

/* The text of |d| before alignment; without a type like repr(), with at least one digit behind the point. */
static bool float_text(qn_jbuf *b, const spec *s, double d, char text[PRECISION_MAX + 400])
{
    char format[8];
    char type = s->type == 0 || s->type == 'n' ? 'g' : s->type == '%' ? 'f' : s->type;
    if (s->precision > PRECISION_MAX) {
        return qn_jfail_status(b->run, QUERN_ERROR_LIMIT, "a precision of more than %d digits", PRECISION_MAX);
    }
    if (s->type == 0 && s->precision < 0) {
        (void)qn_jfloat_repr(d, text);
        return true;
    }
    (void)snprintf(format, sizeof format, "%%%s.*%c", s->alternate ? "#" : "", type);
    (void)snprintf(text, PRECISION_MAX + 390, format, s->precision < 0 ? 6 : (int)s->precision, s->type == '%' ? d * 100.0 : d);
    if (s->type == 0 && isfinite(d)) {
        /* a precision without type: exponents begin one place earlier than with %g, and ".0" is kept */
        int digits = s->precision == 0 ? 1 : (int)s->precision;
        int exponent = d != 0.0 ? (int)floor(log10(d)) : 0;
        if (strchr(text, 'e') == NULL && exponent + 1 >= digits) {
            (void)snprintf(text, PRECISION_MAX + 390, "%.*e", digits - 1, d);
        } else if (strpbrk(text, ".e") == NULL) {
            memcpy(text + strlen(text), ".0", 3);
        }
    }
    if (s->type == '%') {
        memcpy(text + strlen(text), "%", 2);
    }
    return true;
}

static bool format_float(qn_jbuf *b, const spec *s, double d, bool content)
{
    char text[PRECISION_MAX + 400];
    if (!qn_jcharge(b->run, 30) || !float_text(b, s, fabs(d), text)) {
        return false;
    }
    size_t n = strspn(text, "0123456789");
    bool negative = signbit(d) != 0 && !isnan(d);
    return n > 0 ? put_number(b, s, negative, "", text, n, text + n, 3, content)
                 : put_number(b, s, negative, "", text, strlen(text), "", 99, content);
}

static bool format_number(qn_jbuf *b, const spec *s, qn_jval v)
{
    bool as_float = s->type != 0 && strchr("eEfFgG%", s->type) != NULL;
    if (qn_jis_int(v) && !as_float) {
        if (s->type == 'c') {
            return format_code_point(b, s, qn_jas_int(v));
        }
        if (s->type != 0 && strchr("bdoxXn", s->type) == NULL) {
            return qn_jfail(b->run, "Unknown format code '%c' for object of type 'int'", s->type);
        }
        return format_int(b, s, qn_jas_int(v), v.content);
    }
    if (!as_float && s->type != 0 && s->type != 'n') {
        return qn_jfail(b->run, "Unknown format code '%c' for object of type 'float'", s->type);
    }
    return format_float(b, s, qn_jas_double(v), v.content);
}

bool qn_jformat_spec(qn_jbuf *b, qn_jval v, const char *text, size_t len)
{
    spec s;
    if (len == 0) {
        return qn_jbuf_append_value(b, v);
    }
    if (v.kind != QN_JV_STRING && !qn_jis_number(v)) {
        return qn_jfail(b->run, "unsupported format string passed to %s.__format__", qn_jtype_name(v));
    }
    if (!parse_spec(b->run, text, len, &s)) {
        return false;
    }
    return v.kind == QN_JV_STRING ? format_string(b, &s, v.u.str) : format_number(b, &s, v);
}

/* ---- replacement fields ---- */

typedef struct braces {
    qn_jrun *run;
    const qn_jargs *args;
    qn_jval mapping;   /* of format_map, or missing */
    int64_t automatic; /* next automatic number; -1 = fields are numbered by hand */
} braces;

/* First of the two characters in s[from, to), or `to`. */
static size_t find_either(const char *s, size_t from, size_t to, char a, char b)
{
    while (from < to && s[from] != a && s[from] != b) {
        from++;
    }
    return from;
}

static bool find_argument(braces *f, const char *name, size_t len, qn_jval *out)
{
    bool digits = len > 0 && strspn(name, "0123456789") >= len;
    if (len == 0 || digits) {
        int64_t index = 0;
        if (len == 0 ? f->automatic < 0 : f->automatic > 0) {
            return qn_jfail(f->run, "cannot switch between manual and automatic field numbering");
        }
        if (len == 0) {
            index = f->automatic++;
        } else {
            f->automatic = -1;
            if (!read_number(f->run, name, len, &(size_t){0}, &index)) {
                return false;
            }
        }
        if (f->args == NULL || (uint64_t)index >= f->args->n) {
            return qn_jfail(f->run, "Replacement index %" PRId64 " out of range for positional args tuple", index);
        }
        *out = qn_jretain(f->args->positional[index]);
        return true;
    }
    for (size_t i = 0; f->args != NULL && i < f->args->n_keywords; i++) {
        const qn_jkeyword *k = &f->args->keywords[i];
        if (k->name->len == len && memcmp(k->name->data, name, len) == 0) {
            *out = qn_jretain(k->value);
            return true;
        }
    }
    if (f->mapping.kind == QN_JV_DICT) {
        const qn_jval *found = qn_jdict_find_text(f->run, f->mapping.u.dict, name, len);
        if (found != NULL) {
            *out = qn_jretain(*found);
            return true;
        }
    }
    return qn_jfail(f->run, "no argument '%.*s' for the format", (int)(len < 100 ? len : 100), name);
}

/* Follows `.attribute` and `[index]` behind the name of a field. */
static bool follow(braces *f, const char *s, size_t len, qn_jval *v)
{
    for (size_t at = 0; at < len;) {
        bool attribute = s[at] == '.';
        size_t begin = ++at, end;
        if (attribute) {
            while (at < len && s[at] != '.' && s[at] != '[') {
                at++;
            }
            end = at;
        } else {
            const char *close = memchr(s + at, ']', len - at);
            if (close == NULL) {
                return qn_jfail(f->run, "Missing ']' in format string");
            }
            end = (size_t)(close - s);
            at = end + 1;
        }
        if (end == begin || (at < len && s[at] != '.' && s[at] != '[')) {
            return qn_jfail(f->run, "Empty attribute in format string");
        }
        qn_jval key, next;
        int64_t index = 0;
        bool number = !attribute && strspn(s + begin, "0123456789") >= end - begin;
        if (number) {
            if (!read_number(f->run, s + begin, end - begin, &(size_t){0}, &index)) {
                return false;
            }
            key = qn_jint(index);
        } else if (!qn_jstr_new(f->run, s + begin, end - begin, false, &key)) {
            return false;
        }
        bool ok = attribute ? qn_jgetattr(f->run, *v, key.u.str, &next, NULL) : qn_jgetitem(f->run, *v, key, &next);
        qn_jrelease(f->run, key);
        if (!ok) {
            return false;
        }
        qn_jassign(f->run, v, next);
    }
    return true;
}

static bool convert(braces *f, char conversion, qn_jval *v)
{
    qn_jval text;
    qn_jbuf b;
    if (conversion != 's' && conversion != 'r' && conversion != 'a') {
        return qn_jfail(f->run, "Unknown conversion specifier '%c'", conversion);
    }
    qn_jbuf_init(&b, f->run);
    bool ok = (conversion == 's' ? qn_jbuf_append_value(&b, *v) : qn_jbuf_append_repr(&b, *v)) && qn_jbuf_finish(&b, &text);
    qn_jbuf_deinit(&b);
    if (!ok) {
        return false;
    }
    qn_jassign(f->run, v, text);
    if (conversion == 'a') {
        ok = qn_jascii(f->run, v->u.str, &text);
        if (ok) {
            qn_jassign(f->run, v, text);
        }
    }
    return ok;
}

static bool expand(braces *f, const qn_jstr *s, size_t from, size_t to, int level, bool markup, qn_jbuf *out);

/* One field: s[from, to) is what stands between its braces. */
static bool expand_field(braces *f, const qn_jstr *s, size_t from, size_t to, int level, bool markup, qn_jbuf *out)
{
    const char *t = s->data;
    size_t name_end = from, in_brackets = 0;
    while (name_end < to && (in_brackets || (t[name_end] != '!' && t[name_end] != ':'))) {
        in_brackets = t[name_end] == '[' ? 1 : t[name_end] == ']' ? 0 : in_brackets;
        name_end++;
    }
    size_t first_end = find_either(t, from, name_end, '.', '[');
    qn_jval v, spec_text;
    if (!find_argument(f, t + from, first_end - from, &v)) {
        return false;
    }
    bool ok = follow(f, t + first_end, name_end - first_end, &v);
    size_t at = name_end;
    if (ok && at < to && t[at] == '!') {
        ok = at + 1 < to && (at + 2 == to || t[at + 2] == ':');
        ok = ok ? convert(f, t[at + 1], &v) : qn_jfail(f->run, "expected ':' after conversion specifier");
        at += 2;
    }
    qn_jbuf spec_buf;
    qn_jbuf_init(&spec_buf, f->run);
    ok = ok && (at >= to || expand(f, s, at + 1, to, level + 1, false, &spec_buf)) && qn_jbuf_finish(&spec_buf, &spec_text);
    qn_jbuf_deinit(&spec_buf);
    if (ok) {
        if (spec_text.u.str->len > SPEC_MAX) {
            ok = qn_jfail(f->run, "Invalid format specifier");
        } else if (markup) {
            qn_jbuf plain;
            qn_jval text = qn_jmissing(), escaped;
            qn_jbuf_init(&plain, f->run);
            ok = qn_jformat_spec(&plain, v, spec_text.u.str->data, spec_text.u.str->len) && qn_jbuf_finish(&plain, &text);
            qn_jbuf_deinit(&plain);
            if (ok) {
                text.u.str->markup = v.kind == QN_JV_STRING && v.u.str->markup;
                ok = qn_jescape(f->run, text, &escaped);
                qn_jrelease(f->run, text);
            }
            if (ok) {
                ok = qn_jbuf_append_str(out, escaped.u.str);
                qn_jrelease(f->run, escaped);
            }
        } else {
            ok = qn_jformat_spec(out, v, spec_text.u.str->data, spec_text.u.str->len);
        }
        qn_jrelease(f->run, spec_text);
    }
    qn_jrelease(f->run, v);
    return ok;
}

/* s[from, to) with its fields replaced. level: 0 outside, 1 inside of a specification. */
static bool expand(braces *f, const qn_jstr *s, size_t from, size_t to, int level, bool markup, qn_jbuf *out)
{
    if (level > 1) {
        return qn_jfail(f->run, "Max string recursion exceeded");
    }
    while (from < to) {
        size_t at = find_either(s->data, from, to, '{', '}');
        if (!qn_jcharge(f->run, 1) || !qn_jbuf_append_slice(out, s, from, at)) {
            return false;
        }
        if (at == to) {
            break;
        }
        if (at + 1 < to && s->data[at + 1] == s->data[at] && level == 0) { /* a doubled brace is a brace */
            if (!qn_jbuf_append_slice(out, s, at, at + 1)) {
                return false;
            }
            from = at + 2;
            continue;
        }
        if (s->data[at] == '}') {
            return qn_jfail(f->run, "Single '}' encountered in format string");
        }
        size_t open = 1, end = at + 1;
        while (end < to && open > 0) {
            open += s->data[end] == '{';
            open -= s->data[end] == '}';
            end++;
        }
        if (open > 0) {
            return qn_jfail(f->run, at + 1 == to ? "Single '{' encountered in format string" : "expected '}' before end of string");
        }
        if (!expand_field(f, s, at + 1, end - 1, level, markup, out)) {
            return false;
        }
        from = end;
    }
    return true;
}

bool qn_jformat_braces(qn_jrun *run, qn_jstr *format, const qn_jargs *args, qn_jval mapping, qn_jval *out)
{
    braces f = {.run = run, .args = args, .mapping = mapping};
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = expand(&f, format, 0, format->len, 0, format->markup, &b) && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = format->markup;
    }
    qn_jbuf_deinit(&b);
    return ok;
}
