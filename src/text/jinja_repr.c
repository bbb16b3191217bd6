/* jinja_repr.c - values as text: str(), repr(), JSON, HTML escapes.
 *
 * What stands for a character of a string keeps that character's mark; brackets, quotes and commas are template text.
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_run.h"
#include "text/unicode_props.h"

/* ---- numbers ---- */

/* Lays out the digits of a shortest representation as repr() does: exponents from -4 to 15 in plain notation. */
static size_t layout_float(bool negative, const char *digits, int n_digits, int exponent, char out[40])
{
    char *p = out;
    if (negative) {
        *p++ = '-';
    }
    if (exponent < -4 || exponent >= 16) {
        *p++ = digits[0];
        if (n_digits > 1) {
            *p++ = '.';
            memcpy(p, digits + 1, (size_t)n_digits - 1);
            p += n_digits - 1;
        }
        p += snprintf(p, 8, "e%c%02d", exponent < 0 ? '-' : '+', exponent < 0 ? -exponent : exponent);
    } else if (exponent < 0) {
        *p++ = '0';
        *p++ = '.';
        for (int i = -1; i > exponent; i--) {
            *p++ = '0';
        }
        memcpy(p, digits, (size_t)n_digits);
        p += n_digits;
    } else {
        for (int i = 0; i <= exponent || i < n_digits; i++) {
            if (i == exponent + 1) {
                *p++ = '.';
            }
            *p++ = i < n_digits ? digits[i] : '0';
        }
        if (n_digits <= exponent + 1) {
            *p++ = '.';
            *p++ = '0';
        }
    }
    *p = '\0';
    return (size_t)(p - out);
}

size_t qn_jfloat_repr(double d, char out[40])
{
    if (isnan(d) || isinf(d)) {
        (void)snprintf(out, 40, "%s", isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
        return strlen(out);
    }
    char text[40] = "", digits[20];
    for (int precision = 0; precision < 17; precision++) { /* the fewest digits that give the number back */
        (void)snprintf(text, sizeof text, "%.*e", precision, d);
        if (strtod(text, NULL) == d) {
            break;
        }
    }
    int n = 0;
    const char *p = text;
    for (; *p != '\0' && *p != 'e'; p++) {
        if (*p >= '0' && *p <= '9' && n < 19) {
            digits[n++] = *p;
        }
    }
    int exponent = *p == 'e' ? (int)strtol(p + 1, NULL, 10) : 0;
    return layout_float(signbit(d) != 0, digits, n, exponent, out);
}

static bool append_float(qn_jbuf *b, qn_jval v)
{
    char text[40];
    size_t n = qn_jfloat_repr(v.u.d, text);
    return qn_jcharge(b->run, 50) && qn_jbuf_append(b, text, n, v.content);
}

static bool append_int(qn_jbuf *b, qn_jval v)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRId64, v.u.i);
    return qn_jbuf_append(b, text, (size_t)n, v.content);
}

/* ---- repr ---- */

static bool append_format(qn_jbuf *b, bool content, const char *format, uint32_t value)
{
    char text[16];
    int n = snprintf(text, sizeof text, format, value);
    return qn_jbuf_append(b, text, (size_t)n, content);
}

/* Appends Python's escape of a character in a string literal, or nothing where it stands for itself (*plain). */
static bool repr_char(qn_jbuf *b, uint32_t cp, char quote, bool content, bool *plain)
{
    *plain = false;
    if (cp == '\\' || cp == (uint32_t)(uint8_t)quote) {
        const char text[2] = {'\\', (char)cp};
        return qn_jbuf_append(b, text, 2, content);
    }
    if (cp == '\n' || cp == '\r' || cp == '\t') {
        const char text[2] = {'\\', cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't'};
        return qn_jbuf_append(b, text, 2, content);
    }
    if (cp < 0x20u || cp == 0x7fu) {
        return append_format(b, content, "\\x%02x", cp);
    }
    if (cp >= 0x80u && (qn_unicode_props(cp) & QN_UNICODE_PRINTABLE) == 0) {
        return append_format(b, content, cp < 0x100u ? "\\x%02x" : cp < 0x10000u ? "\\u%04x" : "\\U%08x", cp);
    }
    *plain = true;
    return true;
}

static bool append_string_repr(qn_jbuf *b, const qn_jstr *s)
{
    bool single = memchr(s->data, '\'', s->len) != NULL, both = single && memchr(s->data, '"', s->len) != NULL;
    char quote = single && !both ? '"' : '\'';
    bool ok = qn_jcharge(b->run, s->len / 16) && (!s->markup || qn_jbuf_append_text(b, "Markup(", false)) &&
              qn_jbuf_append_char(b, quote, false);
    for (size_t from = 0, end; ok && from < s->len; from = end) {
        bool content;
        end = qn_jstr_run(s, from, &content);
        size_t begin = from;
        for (size_t at = from; ok && at < end;) {
            uint32_t cp;
            size_t n = qn_utf8_decode(s->data + at, end - at, &cp);
            bool plain;
            if (cp >= 0x20u && cp < 0x7fu && cp != '\\' && cp != (uint32_t)(uint8_t)quote) {
                at += n;
                continue;
            }
            ok = qn_jbuf_append(b, s->data + begin, at - begin, content) && repr_char(b, cp, quote, content, &plain);
            begin = ok && plain ? at : at + n;
            at += n;
        }
        ok = ok && qn_jbuf_append(b, s->data + begin, end - begin, content);
    }
    return ok && qn_jbuf_append_char(b, quote, false) && (!s->markup || qn_jbuf_append_char(b, ')', false));
}

static bool append_items(qn_jbuf *b, const qn_jval *items, size_t n, const char *open, const char *close)
{
    bool ok = qn_jbuf_append_text(b, open, false);
    for (size_t i = 0; ok && i < n; i++) {
        ok = qn_jcharge(b->run, 1) && (i == 0 || qn_jbuf_append(b, ", ", 2, false)) && qn_jbuf_append_repr(b, items[i]);
    }
    return ok && qn_jbuf_append_text(b, close, false);
}

static bool append_dict(qn_jbuf *b, const qn_jdict *d)
{
    bool ok = qn_jbuf_append_char(b, '{', false);
    for (size_t i = 0; ok && i < d->n; i++) {
        ok = qn_jcharge(b->run, 1) && (i == 0 || qn_jbuf_append(b, ", ", 2, false)) && qn_jbuf_append_repr(b, d->entries[i].key) &&
             qn_jbuf_append(b, ": ", 2, false) && qn_jbuf_append_repr(b, d->entries[i].value);
    }
    return ok && qn_jbuf_append_char(b, '}', false);
}

static bool append_view(qn_jbuf *b, const qn_jview *view)
{
    static const char *const OPEN[] = {"dict_keys([", "dict_values([", "dict_items(["};
    const qn_jdict *d = view->dict;
    bool ok = qn_jbuf_append_text(b, OPEN[view->what], false);
    for (size_t i = 0; ok && i < d->n; i++) {
        const qn_jval pair[2] = {d->entries[i].key, d->entries[i].value};
        ok = qn_jcharge(b->run, 1) && (i == 0 || qn_jbuf_append(b, ", ", 2, false));
        if (ok && view->what == QN_VIEW_ITEMS) {
            ok = append_items(b, pair, 2, "(", ")");
        } else if (ok) {
            ok = qn_jbuf_append_repr(b, pair[view->what == QN_VIEW_KEYS ? 0 : 1]);
        }
    }
    return ok && qn_jbuf_append(b, "])", 2, false);
}

static bool append_formatted(qn_jbuf *b, const char *format, ...)
{
    char text[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return qn_jbuf_append_text(b, text, false);
}

static bool append_loop(qn_jbuf *b, qn_jval v)
{
    int64_t length;
    return qn_jloop_length(b->run, v, &length) &&
           append_formatted(b, "<LoopContext %" PRId64 "/%" PRId64 ">", ((const qn_jloop *)v.u.obj)->index0 + 1, length);
}

static bool append_macro(qn_jbuf *b, const qn_jnode *node)
{
    if (node->kind != QN_N_MACRO) {
        return qn_jbuf_append_text(b, "<Macro anonymous>", false);
    }
    return qn_jbuf_append_text(b, "<Macro ", false) && append_string_repr(b, node->u.macro.name->str) && qn_jbuf_append_char(b, '>', false);
}

static bool append_object_repr(qn_jbuf *b, qn_jval v)
{
    switch ((qn_jkind)v.kind) {
    case QN_JV_LIST: return append_items(b, v.u.list->items, v.u.list->n, "[", "]");
    case QN_JV_TUPLE: return append_items(b, v.u.list->items, v.u.list->n, "(", v.u.list->n == 1 ? ",)" : ")");
    case QN_JV_DICT: return append_dict(b, v.u.dict);
    case QN_JV_VIEW: return append_view(b, (const qn_jview *)v.u.obj);
    case QN_JV_RANGE: {
        const qn_jrange *r = (const qn_jrange *)v.u.obj;
        return r->step == 1 ? append_formatted(b, "range(%" PRId64 ", %" PRId64 ")", r->start, r->stop)
                            : append_formatted(b, "range(%" PRId64 ", %" PRId64 ", %" PRId64 ")", r->start, r->stop, r->step);
    }
    case QN_JV_NAMESPACE:
        return qn_jbuf_append_text(b, "<Namespace ", false) && append_dict(b, ((const qn_jnamespace *)v.u.obj)->attributes) &&
               qn_jbuf_append_char(b, '>', false);
    case QN_JV_LOOP: return append_loop(b, v);
    case QN_JV_MACRO: return append_macro(b, ((const qn_jmacro *)v.u.obj)->node);
    case QN_JV_BUILTIN: return append_formatted(b, "<function %s>", v.u.builtin->name);
    case QN_JV_METHOD: {
        const qn_jmethod *m = (const qn_jmethod *)v.u.obj;
        return append_formatted(b, "<built-in method %s of %s object>", m->definition->name, qn_jtype_name(m->self));
    }
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT:
    case QN_JV_UNDEFINED:
    case QN_JV_STRING:
    case QN_JV_ITER:
    case QN_JV_CYCLER:
    case QN_JV_JOINER:
    case QN_JV_BLOCK:
    case QN_JV_ENV: break;
    }
    return append_formatted(b, "<%s object>", qn_jtype_name(v));
}

bool qn_jbuf_append_repr(qn_jbuf *b, qn_jval v)
{
    switch ((qn_jkind)v.kind) {
    case QN_JV_MISSING:
    case QN_JV_NONE: return qn_jbuf_append(b, "None", 4, v.content);
    case QN_JV_BOOL: return qn_jbuf_append_text(b, v.u.b ? "True" : "False", v.content);
    case QN_JV_INT: return append_int(b, v);
    case QN_JV_FLOAT: return append_float(b, v);
    case QN_JV_UNDEFINED: return qn_jbuf_append_text(b, "Undefined", false);
    case QN_JV_STRING: return append_string_repr(b, v.u.str);
    default: break;
    }
    if (!qn_jenter(b->run)) {
        return false;
    }
    bool ok = append_object_repr(b, v);
    qn_jleave(b->run);
    return ok;
}

bool qn_jbuf_append_value(qn_jbuf *b, qn_jval v)
{
    return v.kind == QN_JV_STRING ? qn_jbuf_append_str(b, v.u.str) : v.kind == QN_JV_UNDEFINED ? true : qn_jbuf_append_repr(b, v);
}

bool qn_jto_string(qn_jrun *run, qn_jval v, qn_jval *out)
{
    if (v.kind == QN_JV_STRING) {
        *out = qn_jretain(v);
        return true;
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jbuf_append_value(&b, v) && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

/* ---- HTML ---- */

bool qn_jbuf_append_escaped(qn_jbuf *b, const qn_jstr *s)
{
    if (s->markup) {
        return qn_jbuf_append_str(b, s);
    }
    bool ok = qn_jcharge(b->run, s->len / 16);
    for (size_t from = 0, end; ok && from < s->len; from = end) {
        bool content;
        end = qn_jstr_run(s, from, &content);
        size_t begin = from;
        for (size_t at = from; ok && at < end; at++) {
            char c = s->data[at];
            const char *entity = c == '&'    ? "&amp;"
                                 : c == '<'  ? "&lt;"
                                 : c == '>'  ? "&gt;"
                                 : c == '\'' ? "&#39;"
                                 : c == '"'  ? "&#34;"
                                             : NULL;
            if (entity != NULL) {
                ok = qn_jbuf_append(b, s->data + begin, at - begin, content) && qn_jbuf_append_text(b, entity, content);
                begin = at + 1;
            }
        }
        ok = ok && qn_jbuf_append(b, s->data + begin, end - begin, content);
    }
    return ok;
}

bool qn_jescape(qn_jrun *run, qn_jval v, qn_jval *out)
{
    qn_jval text;
    qn_jbuf b;
    if (!qn_jto_string(run, v, &text)) {
        return false;
    }
    qn_jbuf_init(&b, run);
    bool ok = qn_jbuf_append_escaped(&b, text.u.str) && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = true;
    }
    qn_jbuf_deinit(&b);
    qn_jrelease(run, text);
    return ok;
}

/* ---- JSON ---- */

static bool json_char(qn_jbuf *b, uint32_t cp, bool content)
{
    static const char LETTERS[] = "\"\\\b\f\n\r\t", ESCAPES[] = "\"\\bfnrt";
    const char *found = cp != 0 && cp < 0x80u ? strchr(LETTERS, (int)cp) : NULL;
    if (found != NULL) {
        const char text[2] = {'\\', ESCAPES[found - LETTERS]};
        return qn_jbuf_append(b, text, 2, content);
    }
    if (cp >= 0x10000u) {
        cp -= 0x10000u;
        return append_format(b, content, "\\u%04x", 0xd800u + (cp >> 10)) && append_format(b, content, "\\u%04x", 0xdc00u + (cp & 0x3ffu));
    }
    return append_format(b, content, "\\u%04x", cp);
}

static bool json_string(qn_jbuf *b, const qn_jstr *s, bool ascii)
{
    bool ok = qn_jcharge(b->run, s->len / 16) && qn_jbuf_append_char(b, '"', false);
    for (size_t from = 0, end; ok && from < s->len; from = end) {
        bool content;
        end = qn_jstr_run(s, from, &content);
        size_t begin = from;
        for (size_t at = from; ok && at < end;) {
            uint8_t c = (uint8_t)s->data[at];
            if (c >= 0x20u && c != '"' && c != '\\' && (c < 0x7fu || !ascii)) {
                at++;
                continue;
            }
            uint32_t cp;
            size_t n = qn_utf8_decode(s->data + at, end - at, &cp);
            ok = qn_jbuf_append(b, s->data + begin, at - begin, content) && json_char(b, cp, content);
            at += n;
            begin = at;
        }
        ok = ok && qn_jbuf_append(b, s->data + begin, end - begin, content);
    }
    return ok && qn_jbuf_append_char(b, '"', false);
}

static bool json_newline(qn_jbuf *b, const qn_jjson_options *o, uint32_t level)
{
    return !o->pretty || (qn_jbuf_append_char(b, '\n', false) && qn_jbuf_append_repeated(b, o->indent.u.str, level));
}

static bool json_separator(qn_jbuf *b, qn_jval given, const char *fallback)
{
    return given.kind == QN_JV_STRING ? qn_jbuf_append_str(b, given.u.str) : qn_jbuf_append_text(b, fallback, false);
}

static bool json_value(qn_jbuf *b, qn_jval v, const qn_jjson_options *o, uint32_t level);

static bool json_list(qn_jbuf *b, const qn_jlist *list, const qn_jjson_options *o, uint32_t level)
{
    bool ok = qn_jbuf_append_char(b, '[', false);
    for (size_t i = 0; ok && i < list->n; i++) {
        ok = qn_jcharge(b->run, 1) && (i == 0 || json_separator(b, o->item_separator, o->pretty ? "," : ", ")) &&
             json_newline(b, o, level + 1) && json_value(b, list->items[i], o, level + 1);
    }
    return ok && (list->n == 0 || json_newline(b, o, level)) && qn_jbuf_append_char(b, ']', false);
}

static bool json_key(qn_jbuf *b, qn_jval key, const qn_jjson_options *o)
{
    if (key.kind == QN_JV_STRING) {
        return json_string(b, key.u.str, o->ensure_ascii);
    }
    if (!qn_jis_number(key) && key.kind != QN_JV_NONE) {
        return qn_jfail(b->run, "keys must be str, int, float, bool or None, not %s", qn_jtype_name(key));
    }
    return qn_jbuf_append_char(b, '"', false) && json_value(b, key, o, 0) && qn_jbuf_append_char(b, '"', false);
}

/* Entries of a dict in the order of their keys. */
static bool sort_entries(qn_jrun *run, const qn_jdict *d, const qn_jentry ***out)
{
    const qn_jentry **order = qn_jalloc(run, (d->n + 1) * 2 * sizeof *order);
    if (order == NULL) {
        return false;
    }
    const qn_jentry **from = order, **to = order + d->n;
    for (size_t i = 0; i < d->n; i++) {
        from[i] = &d->entries[i];
    }
    for (size_t width = 1; width < d->n; width *= 2) { /* merge sort, bottom up */
        for (size_t low = 0; low < d->n; low += 2 * width) {
            size_t middle = low + width < d->n ? low + width : d->n, high = middle + width < d->n ? middle + width : d->n;
            size_t i = low, j = middle;
            for (size_t k = low; k < high; k++) {
                int c = -1;
                if (i < middle && j < high && !qn_jcompare(run, from[j]->key, from[i]->key, "<", &c)) {
                    qn_jfree(run, order, (d->n + 1) * 2 * sizeof *order);
                    return false;
                }
                bool take_right = i >= middle || (j < high && c < 0);
                to[k] = take_right ? from[j++] : from[i++];
            }
        }
        const qn_jentry **swap = from;
        from = to;
        to = swap;
    }
    if (from != order) {
        memcpy(order, from, d->n * sizeof *order);
    }
    *out = order;
    return true;
}

static bool json_dict(qn_jbuf *b, const qn_jdict *d, const qn_jjson_options *o, uint32_t level)
{
    const qn_jentry **order = NULL;
    if (o->sort_keys && !sort_entries(b->run, d, &order)) {
        return false;
    }
    bool ok = qn_jbuf_append_char(b, '{', false);
    for (size_t i = 0; ok && i < d->n; i++) {
        const qn_jentry *e = order != NULL ? order[i] : &d->entries[i];
        ok = qn_jcharge(b->run, 1) && (i == 0 || json_separator(b, o->item_separator, o->pretty ? "," : ", ")) &&
             json_newline(b, o, level + 1) && json_key(b, e->key, o) && json_separator(b, o->key_separator, ": ") &&
             json_value(b, e->value, o, level + 1);
    }
    ok = ok && (d->n == 0 || json_newline(b, o, level)) && qn_jbuf_append_char(b, '}', false);
    qn_jfree(b->run, order, (d->n + 1) * 2 * sizeof *order);
    return ok;
}

static bool json_float(qn_jbuf *b, qn_jval v)
{
    if (isnan(v.u.d) || isinf(v.u.d)) {
        return qn_jbuf_append_text(b, isnan(v.u.d) ? "NaN" : v.u.d < 0 ? "-Infinity" : "Infinity", v.content);
    }
    return append_float(b, v);
}

static bool json_value(qn_jbuf *b, qn_jval v, const qn_jjson_options *o, uint32_t level)
{
    switch ((qn_jkind)v.kind) {
    case QN_JV_NONE: return qn_jbuf_append(b, "null", 4, v.content);
    case QN_JV_BOOL: return qn_jbuf_append_text(b, v.u.b ? "true" : "false", v.content);
    case QN_JV_INT: return append_int(b, v);
    case QN_JV_FLOAT: return json_float(b, v);
    case QN_JV_STRING: return json_string(b, v.u.str, o->ensure_ascii);
    case QN_JV_LIST:
    case QN_JV_TUPLE:
    case QN_JV_DICT: {
        if (!qn_jenter(b->run)) {
            return false;
        }
        bool ok = v.kind == QN_JV_DICT ? json_dict(b, v.u.dict, o, level) : json_list(b, v.u.list, o, level);
        qn_jleave(b->run);
        return ok;
    }
    default: break;
    }
    return qn_jfail(b->run, "Object of type %s is not JSON serializable", qn_jtype_name(v));
}

bool qn_jbuf_append_json(qn_jbuf *b, qn_jval v, const qn_jjson_options *options) { return json_value(b, v, options, 0); }
