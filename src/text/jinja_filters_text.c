/* jinja_filters_text.c - filters that make text of text. args[0] is the filtered value. */
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "text/jinja_run.h"
#include "text/unicode_props.h"

/* Runs `apply` on the value as a string (markup kept), as filters do that begin with soft_str. */
static bool on_text(qn_jrun *run, qn_jval v, bool (*apply)(qn_jrun *, qn_jstr *, const qn_jval *, qn_jval *), const qn_jval *a,
                    qn_jval *out)
{
    qn_jval text;
    if (!qn_jto_string(run, v, &text)) {
        return false;
    }
    bool ok = apply(run, text.u.str, a, out);
    qn_jrelease(run, text);
    return ok;
}

/* ---- case, strip, center ---- */

static bool to_upper(qn_jrun *run, qn_jstr *s, const qn_jval *a, qn_jval *out)
{
    (void)a;
    return qn_jstr_change_case(run, s, QN_TO_UPPER, out);
}
static bool to_lower(qn_jrun *run, qn_jstr *s, const qn_jval *a, qn_jval *out)
{
    (void)a;
    return qn_jstr_change_case(run, s, QN_TO_LOWER, out);
}
static bool to_capital(qn_jrun *run, qn_jstr *s, const qn_jval *a, qn_jval *out)
{
    (void)a;
    return qn_jstr_change_case(run, s, QN_TO_CAPITALIZED, out);
}
static bool to_trimmed(qn_jrun *run, qn_jstr *s, const qn_jval *a, qn_jval *out)
{
    return qn_jstr_strip(run, s, a[1], QN_STRIP_LEFT | QN_STRIP_RIGHT, out);
}
static bool to_centered(qn_jrun *run, qn_jstr *s, const qn_jval *a, qn_jval *out)
{
    int64_t width;
    return qn_jarg_int(run, a[1], 80, &width) && qn_jstr_center(run, s, width, qn_jmissing(), out);
}

static bool f_upper(qn_jrun *run, const qn_jval *a, qn_jval *out) { return on_text(run, a[0], to_upper, a, out); }
static bool f_lower(qn_jrun *run, const qn_jval *a, qn_jval *out) { return on_text(run, a[0], to_lower, a, out); }
static bool f_capitalize(qn_jrun *run, const qn_jval *a, qn_jval *out) { return on_text(run, a[0], to_capital, a, out); }
static bool f_trim(qn_jrun *run, const qn_jval *a, qn_jval *out) { return on_text(run, a[0], to_trimmed, a, out); }
static bool f_center(qn_jrun *run, const qn_jval *a, qn_jval *out) { return on_text(run, a[0], to_centered, a, out); }

/* Words begin after blanks, hyphens and opening brackets. */
static bool begins_word(uint32_t cp) { return cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' || qn_unicode_is_space(cp); }

static bool append_cased(qn_jrun *run, qn_jbuf *b, qn_jstr *s, size_t from, size_t to, qn_jcase_change change)
{
    qn_jval part, changed;
    if (!qn_jstr_slice(run, s, from, to, &part)) {
        return false;
    }
    bool ok = qn_jstr_change_case(run, part.u.str, change, &changed);
    qn_jrelease(run, part);
    if (ok) {
        ok = qn_jbuf_append_str(b, changed.u.str);
        qn_jrelease(run, changed);
    }
    return ok;
}

static bool to_title(qn_jrun *run, qn_jstr *s, const qn_jval *a, qn_jval *out)
{
    (void)a;
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = true;
    for (size_t at = 0; ok && at < s->len;) {
        uint32_t cp;
        size_t n = qn_jstr_char(s, at, &cp), end = at + n;
        if (begins_word(cp)) {
            ok = qn_jbuf_append_slice(&b, s, at, end);
        } else {
            while (end < s->len && (n = qn_jstr_char(s, end, &cp), !begins_word(cp))) {
                end += n;
            }
            n = qn_jstr_char(s, at, &cp);
            ok = qn_jcharge(run, 2) && append_cased(run, &b, s, at, at + n, QN_TO_UPPER) &&
                 append_cased(run, &b, s, at + n, end, QN_TO_LOWER);
        }
        at = end;
    }
    ok = ok && qn_jcharge(run, s->len / 8) && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

static bool f_title(qn_jrun *run, const qn_jval *a, qn_jval *out) { return on_text(run, a[0], to_title, a, out); }

/* ---- HTML ---- */

static bool f_escape(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jescape(run, a[0], out); }

static bool f_forceescape(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval text, plain;
    if (!qn_jto_string(run, a[0], &text)) {
        return false;
    }
    bool ok = qn_jstr_with_markup(run, text.u.str, false, &plain);
    qn_jrelease(run, text);
    if (ok) {
        ok = qn_jescape(run, plain, out);
        qn_jrelease(run, plain);
    }
    return ok;
}

static bool f_safe(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval text;
    if (!qn_jto_string(run, a[0], &text)) {
        return false;
    }
    bool ok = qn_jstr_with_markup(run, text.u.str, true, out);
    qn_jrelease(run, text);
    return ok;
}

static bool f_string(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jto_string(run, a[0], out); }

/* Removes comments: the text before the leftmost begin is final, and a removal may join a new begin with what follows. */
static bool strip_comments(qn_jrun *run, const qn_jstr *s, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jcharge(run, s->len / 4);
    size_t at = 0, n = 0;
    size_t *kept = qn_jalloc(run, (s->len + 1) * sizeof *kept); /* which bytes of s make up the result */
    if (kept == NULL) {
        return false;
    }
    while (at < s->len) {
        kept[n++] = at++;
        bool begin = n >= 4;
        for (size_t i = 0; begin && i < 4; i++) {
            begin = s->data[kept[n - 4 + i]] == "<!--"[i];
        }
        if (!begin) {
            continue;
        }
        /* "-->" may begin with the hyphens of "<!--" itself */
        size_t close = at < s->len && s->data[at] == '>' ? at + 1 : at + 1 < s->len && memcmp(s->data + at, "->", 2) == 0 ? at + 2 : 0;
        for (size_t i = at; close == 0 && i + 2 < s->len; i++) {
            close = memcmp(s->data + i, "-->", 3) == 0 ? i + 3 : 0;
        }
        if (close == 0) {
            break;
        }
        n -= 4;
        at = close;
    }
    while (at < s->len) {
        kept[n++] = at++;
    }
    for (size_t i = 0; ok && i < n;) {
        size_t k = i + 1;
        while (k < n && kept[k] == kept[k - 1] + 1) {
            k++;
        }
        ok = qn_jbuf_append_slice(&b, s, kept[i], kept[k - 1] + 1);
        i = k;
    }
    qn_jfree(run, kept, (s->len + 1) * sizeof *kept);
    ok = ok && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

static bool strip_tags(qn_jrun *run, const qn_jstr *s, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = true;
    size_t at = 0;
    while (ok) {
        const char *open = memchr(s->data + at, '<', s->len - at);
        const char *close = open != NULL ? memchr(open, '>', s->len - (size_t)(open - s->data)) : NULL;
        if (close == NULL) {
            break;
        }
        ok = qn_jcharge(run, 1) && qn_jbuf_append_slice(&b, s, at, (size_t)(open - s->data));
        at = (size_t)(close - s->data) + 1;
    }
    ok = ok && qn_jbuf_append_slice(&b, s, at, s->len) && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

/* The character an entity stands for; 0 if it is none of those we know. s[at] is '&'. */
static uint32_t entity(const qn_jstr *s, size_t at, size_t *end)
{
    static const struct {
        const char *name;
        uint32_t cp;
    } NAMED[] = {
        {"amp;", '&'},  {"lt;", '<'},        {"gt;", '>'},       {"quot;", '"'},     {"apos;", '\''},  {"nbsp;", 0xa0},  {"copy;", 0xa9},
        {"reg;", 0xae}, {"hellip;", 0x2026}, {"ndash;", 0x2013}, {"mdash;", 0x2014}, {"laquo;", 0xab}, {"raquo;", 0xbb}, {"euro;", 0x20ac},
    };
    size_t i = at + 1;
    for (size_t k = 0; k < sizeof NAMED / sizeof NAMED[0]; k++) {
        size_t n = strlen(NAMED[k].name);
        if (s->len - i >= n && memcmp(s->data + i, NAMED[k].name, n) == 0) {
            *end = i + n;
            return NAMED[k].cp;
        }
    }
    if (i >= s->len || s->data[i] != '#') {
        return 0;
    }
    i++;
    bool hex = i < s->len && (s->data[i] | 0x20) == 'x';
    i += hex;
    uint32_t cp = 0;
    size_t digits = 0;
    for (; i < s->len && cp < 0x110000u; i++, digits++) {
        char c = s->data[i];
        int value = c >= '0' && c <= '9' ? c - '0' : hex && (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
        if (value < 0) {
            break;
        }
        cp = cp * (hex ? 16u : 10u) + (uint32_t)value;
    }
    *end = i + (i < s->len && s->data[i] == ';');
    return digits > 0 && cp != 0 && cp < 0x110000u && !(cp >= 0xd800u && cp < 0xe000u) ? cp : 0;
}

static bool unescape(qn_jrun *run, const qn_jstr *s, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = true;
    size_t at = 0;
    while (ok && at < s->len) {
        const char *mark = memchr(s->data + at, '&', s->len - at);
        size_t found = mark != NULL ? (size_t)(mark - s->data) : s->len, end = found + 1;
        ok = qn_jcharge(run, 2) && qn_jbuf_append_slice(&b, s, at, found);
        at = found;
        if (ok && mark != NULL) {
            uint32_t cp = entity(s, found, &end);
            end = cp != 0 ? end : found + 1;
            ok = cp != 0 ? qn_jbuf_append_code_point(&b, cp, qn_jstr_mark(s, found)) : qn_jbuf_append_slice(&b, s, found, end);
            at = end;
        }
    }
    ok = ok && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

/* White space between words becomes one blank with the mark of what it replaces. */
static bool collapse_space(qn_jrun *run, const qn_jstr *s, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jcharge(run, s->len / 4), pending = false, mark = false;
    for (size_t at = 0; ok && at < s->len;) {
        uint32_t cp;
        size_t n = qn_jstr_char(s, at, &cp);
        if (qn_unicode_is_space(cp)) {
            mark = pending ? mark : qn_jstr_mark(s, at);
            pending = b.len > 0;
        } else {
            ok = (!pending || qn_jbuf_append_char(&b, ' ', mark)) && qn_jbuf_append_slice(&b, s, at, at + n);
            pending = false;
        }
        at += n;
    }
    ok = ok && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

static bool to_stripped(qn_jrun *run, qn_jstr *s, const qn_jval *a, qn_jval *out)
{
    static bool (*const STEPS[])(qn_jrun *, const qn_jstr *, qn_jval *) = {strip_comments, strip_tags, collapse_space, unescape};
    (void)a;
    qn_jval text = qn_jretain(qn_jobject(s));
    for (size_t i = 0; i < sizeof STEPS / sizeof STEPS[0]; i++) {
        qn_jval next;
        bool ok = STEPS[i](run, text.u.str, &next);
        qn_jrelease(run, text);
        if (!ok) {
            return false;
        }
        text = next;
    }
    *out = text;
    return true;
}

static bool f_striptags(qn_jrun *run, const qn_jval *a, qn_jval *out) { return on_text(run, a[0], to_stripped, a, out); }

static bool f_xmlattr(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    if (a[0].kind != QN_JV_DICT) {
        return a[0].kind == QN_JV_UNDEFINED ? qn_jundefined_fail(run, a[0])
                                            : qn_jfail(run, "xmlattr needs a dict, not %s", qn_jtype_name(a[0]));
    }
    const qn_jdict *d = a[0].u.dict;
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = true, autospace = a[1].kind == QN_JV_MISSING || qn_jtruth(a[1]);
    for (size_t i = 0; ok && i < d->n; i++) {
        qn_jval key = d->entries[i].key, value = d->entries[i].value, escaped;
        if (value.kind == QN_JV_NONE || value.kind == QN_JV_UNDEFINED) {
            continue;
        }
        if (key.kind != QN_JV_STRING || strcspn(key.u.str->data, " \t\n\r\f\v/>=") < key.u.str->len) {
            ok = qn_jfail(run, "Invalid character in attribute name");
            break;
        }
        ok = qn_jcharge(run, 2) && (b.len == 0 ? !autospace || qn_jbuf_append_char(&b, ' ', false) : qn_jbuf_append_char(&b, ' ', false)) &&
             qn_jbuf_append_escaped(&b, key.u.str) && qn_jbuf_append_text(&b, "=\"", false) && qn_jescape(run, value, &escaped);
        if (ok) {
            ok = qn_jbuf_append_str(&b, escaped.u.str) && qn_jbuf_append_char(&b, '"', false);
            qn_jrelease(run, escaped);
        }
    }
    ok = ok && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = run->autoescape;
    }
    qn_jbuf_deinit(&b);
    return ok;
}

/* ---- URLs ---- */

static bool append_quoted(qn_jbuf *b, const qn_jstr *s, bool query)
{
    static const char HEX[] = "0123456789ABCDEF";
    bool ok = qn_jcharge(b->run, s->len / 4);
    for (size_t at = 0; ok && at < s->len; at++) {
        uint8_t c = (uint8_t)s->data[at];
        bool content = qn_jstr_mark(s, at);
        bool safe = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    (c < 0x80u && strchr("_.-~", c) != NULL && c != 0);
        if (safe || (c == '/' && !query)) {
            ok = qn_jbuf_append_char(b, (char)c, content);
        } else if (c == ' ' && query) {
            ok = qn_jbuf_append_char(b, '+', content);
        } else {
            const char text[3] = {'%', HEX[c >> 4], HEX[c & 15u]};
            ok = qn_jbuf_append(b, text, 3, content);
        }
    }
    return ok;
}

static bool append_quoted_value(qn_jbuf *b, qn_jval v, bool query)
{
    qn_jval text;
    if (!qn_jto_string(b->run, v, &text)) {
        return false;
    }
    bool ok = append_quoted(b, text.u.str, query);
    qn_jrelease(b->run, text);
    return ok;
}

static bool append_pair(qn_jbuf *b, qn_jval pair)
{
    qn_jval items;
    if (!qn_jcollect(b->run, pair, QN_JV_TUPLE, &items)) {
        return false;
    }
    bool ok = items.u.list->n == 2 || qn_jfail(b->run, "urlencode needs pairs");
    ok = ok && (b->len == 0 || qn_jbuf_append_char(b, '&', false)) && append_quoted_value(b, items.u.list->items[0], true) &&
         qn_jbuf_append_char(b, '=', false) && append_quoted_value(b, items.u.list->items[1], true);
    qn_jrelease(b->run, items);
    return ok;
}

static bool f_urlencode(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = true;
    if (a[0].kind == QN_JV_STRING || !qn_jis_iterable(a[0])) {
        ok = append_quoted_value(&b, a[0], false);
    } else {
        qn_jval pairs, iterator, pair;
        int more = 0;
        ok = a[0].kind == QN_JV_DICT ? qn_jview_new(run, a[0].u.dict, QN_VIEW_ITEMS, &pairs) : (pairs = qn_jretain(a[0]), true);
        ok = ok && qn_jiter_new(run, pairs, &iterator);
        while (ok && (more = qn_jiter_next(run, iterator.u.iter, &pair)) == 1) {
            ok = append_pair(&b, pair);
            qn_jrelease(run, pair);
        }
        if (ok) {
            qn_jrelease(run, iterator);
            qn_jrelease(run, pairs);
        }
        ok = ok && more == 0;
    }
    ok = ok && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

/* ---- layout ---- */

static bool f_format(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    qn_jval text, values;
    if (args->n > 0 && args->n_keywords > 0) {
        return qn_jfail(run, "can't handle positional and keyword arguments at the same time");
    }
    bool ok;
    if (args->n_keywords > 0) {
        ok = qn_jdict_new(run, &values) && qn_jdict_fill(run, args, values.u.dict);
    } else {
        ok = qn_jlist_new(run, QN_JV_TUPLE, args->n, &values);
        for (size_t i = 0; ok && i < args->n; i++) {
            values.u.list->items[values.u.list->n++] = qn_jretain(args->positional[i]);
        }
    }
    ok = ok && qn_jto_string(run, self, &text);
    if (ok) {
        ok = qn_jformat_percent(run, text.u.str, values, out);
        qn_jrelease(run, text);
        qn_jrelease(run, values);
    }
    return ok;
}

static bool f_indent(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *s;
    qn_jval indent;
    int64_t width;
    if (!qn_jarg_str(run, a[0], "the value of indent", &s)) {
        return false;
    }
    if (a[1].kind == QN_JV_STRING) {
        indent = qn_jretain(a[1]);
    } else {
        qn_jbuf blanks;
        qn_jbuf_init(&blanks, run);
        bool made = qn_jarg_int(run, a[1], 4, &width) && qn_jbuf_append_spaces(&blanks, width > 0 ? (size_t)width : 0) &&
                    qn_jbuf_finish(&blanks, &indent);
        qn_jbuf_deinit(&blanks);
        if (!made) {
            return false;
        }
    }
    bool first = qn_jtruth(a[2]), blank = qn_jtruth(a[3]), more = true;
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jcharge(run, s->len / 4);
    for (size_t from = 0, end, next; ok && more; from = next) { /* one line more than there are line ends */
        qn_jstr_line(s, from, &end, &next);
        bool indented = from == 0 ? first : end > from || blank;
        ok = (!indented || qn_jbuf_append_str(&b, indent.u.str)) && qn_jbuf_append_slice(&b, s, from, end);
        more = next > end && !(next == s->len && s->data[next - 1] == '\r');
        ok = ok && (!more || qn_jbuf_append_char(&b, '\n', qn_jstr_mark(s, end)));
    }
    ok = ok && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = s->markup;
    }
    qn_jbuf_deinit(&b);
    qn_jrelease(run, indent);
    return ok;
}

static bool f_replace(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval text = qn_jmissing(), from = qn_jmissing(), to = qn_jmissing(), plain;
    int64_t count;
    bool ok = qn_jarg_int(run, a[3].kind == QN_JV_NONE ? qn_jmissing() : a[3], -1, &count) && qn_jto_string(run, a[0], &text) &&
              qn_jto_string(run, a[1], &from) && qn_jto_string(run, a[2], &to) &&
              qn_jstr_replace(run, text.u.str, from.u.str, to.u.str, count, &plain);
    if (ok) { /* without autoescape the filter works on str(value): markup ends here */
        ok = qn_jstr_with_markup(run, plain.u.str, false, out);
        qn_jrelease(run, plain);
    }
    qn_jrelease(run, text);
    qn_jrelease(run, from);
    qn_jrelease(run, to);
    return ok;
}

static bool append_cut(qn_jrun *run, qn_jstr *s, size_t end, qn_jstr *ellipsis, qn_jval *out)
{
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jbuf_append_slice(&b, s, 0, end) && qn_jbuf_append_str(&b, ellipsis) && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

/* What is short enough stays as it is, whatever it is; only a string can be cut. */
static bool truncate_to(qn_jrun *run, const qn_jval *a, int64_t length, int64_t leeway, qn_jstr *ellipsis, qn_jval *out)
{
    size_t n = 0;
    if (a[0].kind != QN_JV_UNDEFINED && !qn_jlength(run, a[0], &n)) {
        return qn_jfail(run, "object of type '%s' has no len()", qn_jtype_name(a[0]));
    }
    if (n <= (uint64_t)length + (uint64_t)leeway) {
        *out = qn_jretain(a[0]);
        return true;
    }
    qn_jstr *s;
    if (!qn_jarg_str(run, a[0], "the value of truncate", &s)) {
        return false;
    }
    size_t end = qn_jstr_offset(s, (size_t)length - ellipsis->n_chars), space = end;
    while (!qn_jtruth(a[2]) && space > 0 && s->data[space - 1] != ' ') {
        space--;
    }
    end = !qn_jtruth(a[2]) && space > 0 ? space - 1 : end;
    return qn_jcharge_bytes(run, s->len) && append_cut(run, s, end, ellipsis, out);
}

static bool f_truncate(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *ellipsis;
    qn_jval dots = qn_jmissing();
    int64_t length, leeway;
    if (!qn_jarg_int(run, a[1], 255, &length) || !qn_jarg_int(run, a[4].kind == QN_JV_NONE ? qn_jmissing() : a[4], 5, &leeway) ||
        !(a[3].kind == QN_JV_MISSING ? qn_jstr_new(run, "...", 3, false, &dots) : (dots = qn_jretain(a[3]), true)) ||
        !qn_jarg_str(run, dots, "the end of truncate", &ellipsis)) {
        return false;
    }
    int64_t end_chars = (int64_t)ellipsis->n_chars;
    bool ok = length < end_chars ? qn_jfail(run, "expected length >= %lld, got %lld", (long long)end_chars, (long long)length)
              : leeway < 0       ? qn_jfail(run, "expected leeway >= 0, got %lld", (long long)leeway)
                                 : truncate_to(run, a, length, leeway, ellipsis, out);
    qn_jrelease(run, dots);
    return ok;
}

static bool count_words(qn_jrun *run, qn_jstr *s, const qn_jval *a, qn_jval *out)
{
    int64_t n = 0;
    bool inside = false;
    (void)a;
    for (size_t at = 0; at < s->len;) {
        uint32_t cp;
        at += qn_jstr_char(s, at, &cp);
        bool word = cp == '_' || (qn_unicode_props(cp) & QN_UNICODE_ALNUM) != 0;
        n += word && !inside;
        inside = word;
    }
    *out = qn_jint(n);
    return qn_jcharge(run, s->len / 4);
}

static bool f_wordcount(qn_jrun *run, const qn_jval *a, qn_jval *out) { return on_text(run, a[0], count_words, a, out); }

static bool f_wordwrap(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *s, *separator;
    qn_jval newline;
    int64_t width;
    if (!qn_jarg_str(run, a[0], "the value of wordwrap", &s) || !qn_jarg_int(run, a[1], 79, &width) ||
        !(qn_jarg_given(a[3]) ? (newline = qn_jretain(a[3]), true) : qn_jstr_new(run, "\n", 1, false, &newline)) ||
        !qn_jarg_str(run, newline, "the wrapstring of wordwrap", &separator)) {
        return false;
    }
    bool break_words = a[2].kind == QN_JV_MISSING || qn_jtruth(a[2]), hyphens = a[4].kind == QN_JV_MISSING || qn_jtruth(a[4]);
    bool ok = qn_jstr_wrap(run, s, width, break_words, separator, hyphens, out);
    qn_jrelease(run, newline);
    return ok;
}

static const qn_jbuiltin ROWS[] = {
    {"capitalize", "s", 0, false, f_capitalize, NULL},
    {"center", "value,width", 0, false, f_center, NULL},
    {"e", "s", 0, true, f_escape, NULL},
    {"escape", "s", 0, true, f_escape, NULL},
    {"forceescape", "value", 0, false, f_forceescape, NULL},
    {"format", NULL, 0, false, NULL, f_format},
    {"indent", "s,width,first,blank", 0, false, f_indent, NULL},
    {"lower", "s", 0, false, f_lower, NULL},
    {"replace", "s,old,new,count", 2, false, f_replace, NULL},
    {"safe", "value", 0, false, f_safe, NULL},
    {"string", "s", 0, true, f_string, NULL},
    {"striptags", "value", 0, false, f_striptags, NULL},
    {"title", "s", 0, false, f_title, NULL},
    {"trim", "value,chars", 0, false, f_trim, NULL},
    {"truncate", "s,length,killwords,end,leeway", 0, false, f_truncate, NULL},
    {"upper", "s", 0, false, f_upper, NULL},
    {"urlencode", "value", 0, false, f_urlencode, NULL},
    {"wordcount", "s", 0, false, f_wordcount, NULL},
    {"wordwrap", "s,width,break_long_words,wrapstring,break_on_hyphens", 0, false, f_wordwrap, NULL},
    {"xmlattr", "d,autospace", 0, false, f_xmlattr, NULL},
};
const qn_jtable qn_jfilters_text = {ROWS, sizeof ROWS / sizeof ROWS[0]};
