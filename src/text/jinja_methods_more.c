/* jinja_methods_more.c - the rarer methods of str, and the methods of dict, list, tuple, range, numbers, loops and cyclers.
 *
 * Rows without a function are methods that change their object: they exist so that the sandbox can refuse them.
 */
#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_run.h"
#include "text/unicode_props.h"

/* ---- str: what its characters are ---- */

/* True if there are characters and all of them have one of the properties. */
static bool all_are(qn_jrun *run, const qn_jstr *s, uint32_t props, bool *result)
{
    *result = s->len > 0;
    for (size_t at = 0; *result && at < s->len;) {
        uint32_t cp;
        at += qn_jstr_char(s, at, &cp);
        *result = (qn_unicode_props(cp) & props) != 0;
    }
    return qn_jcharge(run, s->len / 8);
}

static bool is_props(qn_jrun *run, const qn_jval *a, uint32_t props, qn_jval *out)
{
    bool result;
    bool ok = all_are(run, a[0].u.str, props, &result);
    *out = qn_jbool(result);
    return ok;
}

static bool m_isalnum(qn_jrun *run, const qn_jval *a, qn_jval *out) { return is_props(run, a, QN_UNICODE_ALNUM, out); }
static bool m_isalpha(qn_jrun *run, const qn_jval *a, qn_jval *out) { return is_props(run, a, QN_UNICODE_ALPHA, out); }
static bool m_isdecimal(qn_jrun *run, const qn_jval *a, qn_jval *out) { return is_props(run, a, QN_UNICODE_DECIMAL, out); }
static bool m_isdigit(qn_jrun *run, const qn_jval *a, qn_jval *out) { return is_props(run, a, QN_UNICODE_DIGIT, out); }
static bool m_isnumeric(qn_jrun *run, const qn_jval *a, qn_jval *out) { return is_props(run, a, QN_UNICODE_NUMERIC, out); }

static bool m_isprintable(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    bool ok = is_props(run, a, QN_UNICODE_PRINTABLE, out);
    out->u.b = out->u.b || a[0].u.str->len == 0;
    return ok;
}

static bool m_isascii(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    *out = qn_jbool(qn_jstr_is_ascii(a[0].u.str));
    return qn_jcharge(run, 1);
}

static bool m_isspace(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    const qn_jstr *s = a[0].u.str;
    bool result = s->len > 0;
    for (size_t at = 0; result && at < s->len;) {
        uint32_t cp;
        at += qn_jstr_char(s, at, &cp);
        result = qn_unicode_is_space(cp);
    }
    *out = qn_jbool(result);
    return qn_jcharge(run, s->len / 8);
}

static bool m_isidentifier(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    const qn_jstr *s = a[0].u.str;
    bool result = s->len > 0;
    for (size_t at = 0; result && at < s->len;) {
        uint32_t cp, wanted = at == 0 ? QN_UNICODE_ID_START : QN_UNICODE_ID_CONTINUE;
        at += qn_jstr_char(s, at, &cp);
        result = (qn_unicode_props(cp) & wanted) != 0;
    }
    *out = qn_jbool(result);
    return qn_jcharge(run, s->len / 8);
}

/* islower and isupper: something has case, and all that has case has this one. */
static bool one_case(qn_jrun *run, const qn_jstr *s, uint32_t wanted, qn_jval *out)
{
    bool cased = false, result = true;
    for (size_t at = 0; result && at < s->len;) {
        uint32_t cp;
        at += qn_jstr_char(s, at, &cp);
        uint32_t props = qn_unicode_props(cp);
        cased = cased || (props & wanted) != 0;
        result = (props & QN_UNICODE_CASED & ~wanted) == 0 || (props & wanted) != 0;
    }
    *out = qn_jbool(cased && result);
    return qn_jcharge(run, s->len / 8);
}

static bool m_islower(qn_jrun *run, const qn_jval *a, qn_jval *out) { return one_case(run, a[0].u.str, QN_UNICODE_LOWER, out); }
static bool m_isupper(qn_jrun *run, const qn_jval *a, qn_jval *out) { return one_case(run, a[0].u.str, QN_UNICODE_UPPER, out); }

static bool m_istitle(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    const qn_jstr *s = a[0].u.str;
    bool after_cased = false, any = false, result = true;
    for (size_t at = 0; result && at < s->len;) {
        uint32_t cp;
        at += qn_jstr_char(s, at, &cp);
        uint32_t props = qn_unicode_props(cp);
        bool lower = (props & QN_UNICODE_LOWER) != 0, upper = (props & (QN_UNICODE_UPPER | QN_UNICODE_TITLE)) != 0;
        result = upper ? !after_cased : lower ? after_cased : true;
        any = any || lower || upper;
        after_cased = lower || upper;
    }
    *out = qn_jbool(any && result);
    return qn_jcharge(run, s->len / 8);
}

/* ---- str: padding and translation ---- */

static bool fill_argument(qn_jrun *run, qn_jval v, qn_jval *fill)
{
    *fill = v;
    if (v.kind == QN_JV_MISSING) {
        return true;
    }
    return v.kind == QN_JV_STRING && v.u.str->n_chars == 1 ? true : qn_jfail(run, "The fill character must be exactly one character long");
}

/* sides: where the filling goes. */
static bool justify(qn_jrun *run, const qn_jval *a, bool left, qn_jval *out)
{
    qn_jstr *s = a[0].u.str;
    qn_jval fill;
    int64_t width;
    if (!qn_jarg_int(run, a[1], 0, &width) || !fill_argument(run, a[2], &fill)) {
        return false;
    }
    size_t n = width > 0 && (uint64_t)width > s->n_chars ? (size_t)width - s->n_chars : 0;
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool filled = fill.kind == QN_JV_STRING;
    bool ok = (left || (filled ? qn_jbuf_append_repeated(&b, fill.u.str, n) : qn_jbuf_append_spaces(&b, n))) && qn_jbuf_append_str(&b, s) &&
              (!left || (filled ? qn_jbuf_append_repeated(&b, fill.u.str, n) : qn_jbuf_append_spaces(&b, n))) && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = s->markup;
    }
    qn_jbuf_deinit(&b);
    return ok;
}

static bool m_ljust(qn_jrun *run, const qn_jval *a, qn_jval *out) { return justify(run, a, true, out); }
static bool m_rjust(qn_jrun *run, const qn_jval *a, qn_jval *out) { return justify(run, a, false, out); }

static bool m_center(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval fill;
    int64_t width;
    return qn_jarg_int(run, a[1], 0, &width) && fill_argument(run, a[2], &fill) && qn_jstr_center(run, a[0].u.str, width, fill, out);
}

static bool m_zfill(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *s = a[0].u.str;
    int64_t width;
    if (!qn_jarg_int(run, a[1], 0, &width)) {
        return false;
    }
    size_t n = width > 0 && (uint64_t)width > s->n_chars ? (size_t)width - s->n_chars : 0;
    size_t sign = s->len > 0 && (s->data[0] == '+' || s->data[0] == '-');
    qn_jval zero;
    if (!qn_jstr_new(run, "0", 1, false, &zero)) {
        return false;
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jbuf_append_slice(&b, s, 0, sign) && qn_jbuf_append_repeated(&b, zero.u.str, n) &&
              qn_jbuf_append_slice(&b, s, sign, s->len) && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    qn_jrelease(run, zero);
    return ok;
}

static bool m_expandtabs(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    const qn_jstr *s = a[0].u.str;
    int64_t tab;
    if (!qn_jarg_int(run, a[1], 8, &tab)) {
        return false;
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jcharge(run, s->len / 4);
    uint64_t column = 0;
    for (size_t at = 0; ok && at < s->len;) {
        uint32_t cp;
        size_t n = qn_jstr_char(s, at, &cp);
        if (cp == '\t') {
            uint64_t blanks = tab > 0 ? (uint64_t)tab - column % (uint64_t)tab : 0;
            ok = qn_jbuf_append_spaces(&b, blanks);
            column += blanks;
        } else {
            ok = qn_jbuf_append_slice(&b, s, at, at + n);
            column = cp == '\n' || cp == '\r' ? 0 : column + 1;
        }
        at += n;
    }
    ok = ok && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

/* translate: a dict from code points to strings, code points or none. */
static bool m_translate(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    const qn_jstr *s = a[0].u.str;
    if (a[1].kind != QN_JV_DICT) {
        return qn_jfail(run, "translate() needs a dict, not %s", qn_jtype_name(a[1]));
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = true;
    for (size_t at = 0; ok && at < s->len;) {
        uint32_t cp;
        qn_jval *to;
        size_t n = qn_jstr_char(s, at, &cp);
        ok = qn_jcharge(run, 2) && qn_jdict_find(run, a[1].u.dict, qn_jint((int64_t)cp), &to);
        if (ok && to == NULL) {
            ok = qn_jbuf_append_slice(&b, s, at, at + n);
        } else if (ok && to->kind == QN_JV_STRING) {
            ok = qn_jbuf_append_str(&b, to->u.str);
        } else if (ok && qn_jis_int(*to)) {
            int64_t target = qn_jas_int(*to);
            bool valid = target >= 0 && target <= 0x10ffff && !(target >= 0xd800 && target < 0xe000);
            ok = valid ? qn_jbuf_append_code_point(&b, (uint32_t)target, true)
                       : qn_jfail(run, "character mapping must be in range(0x110000)");
        } else if (ok && to->kind != QN_JV_NONE) {
            ok = qn_jfail(run, "character mapping must return integer, None or str");
        }
        at += n;
    }
    ok = ok && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}

/* One row of a translation: a character (as number or string) and what it becomes. */
static bool add_translation(qn_jrun *run, qn_jdict *d, uint32_t from, qn_jval to)
{
    return qn_jdict_set(run, d, qn_jint((int64_t)from), qn_jretain(to));
}

static bool maketrans_from_dict(qn_jrun *run, const qn_jdict *from, qn_jdict *into)
{
    for (size_t i = 0; i < from->n; i++) {
        qn_jval key = from->entries[i].key;
        uint32_t cp = 0;
        if (key.kind == QN_JV_STRING && key.u.str->n_chars == 1) {
            (void)qn_jstr_char(key.u.str, 0, &cp);
        } else if (qn_jis_int(key)) {
            cp = (uint32_t)qn_jas_int(key);
        } else {
            return qn_jfail(run, "keys in translate table must be strings of length 1 or integers");
        }
        if (!qn_jcharge(run, 1) || !add_translation(run, into, cp, from->entries[i].value)) {
            return false;
        }
    }
    return true;
}

static bool maketrans_from_texts(qn_jrun *run, const qn_jstr *from, const qn_jstr *to, qn_jdict *into)
{
    size_t at = 0, target_at = 0;
    while (at < from->len) {
        uint32_t cp, target = 0;
        at += qn_jstr_char(from, at, &cp);
        if (to != NULL) {
            target_at += qn_jstr_char(to, target_at, &target);
        }
        if (!qn_jcharge(run, 1) || !add_translation(run, into, cp, to != NULL ? qn_jint((int64_t)target) : qn_jnone())) {
            return false;
        }
    }
    return true;
}

static bool m_maketrans(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *from, *to, *removed = NULL;
    if (!qn_jdict_new(run, out)) {
        return false;
    }
    bool ok;
    if (a[2].kind == QN_JV_MISSING) {
        ok = a[1].kind == QN_JV_DICT ? maketrans_from_dict(run, a[1].u.dict, out->u.dict)
                                     : qn_jfail(run, "if you give only one argument to maketrans it must be a dict");
    } else {
        ok = qn_jarg_str(run, a[1], "maketrans() argument", &from) && qn_jarg_str(run, a[2], "maketrans() argument", &to) &&
             (a[3].kind == QN_JV_MISSING || qn_jarg_str(run, a[3], "maketrans() argument", &removed));
        if (ok && from->n_chars != to->n_chars) {
            ok = qn_jfail(run, "the first two maketrans arguments must have equal length");
        }
        ok = ok && maketrans_from_texts(run, from, to, out->u.dict) &&
             (removed == NULL || maketrans_from_texts(run, removed, NULL, out->u.dict));
    }
    if (!ok) {
        qn_jrelease(run, *out);
    }
    return ok;
}

static const qn_jbuiltin STR_ROWS[] = {
    {"center", "self,width,fillchar", 1, true, m_center, NULL},
    {"expandtabs", "self,tabsize", 0, false, m_expandtabs, NULL},
    {"isalnum", "self", 0, true, m_isalnum, NULL},
    {"isalpha", "self", 0, true, m_isalpha, NULL},
    {"isascii", "self", 0, true, m_isascii, NULL},
    {"isdecimal", "self", 0, true, m_isdecimal, NULL},
    {"isdigit", "self", 0, true, m_isdigit, NULL},
    {"isidentifier", "self", 0, true, m_isidentifier, NULL},
    {"islower", "self", 0, true, m_islower, NULL},
    {"isnumeric", "self", 0, true, m_isnumeric, NULL},
    {"isprintable", "self", 0, true, m_isprintable, NULL},
    {"isspace", "self", 0, true, m_isspace, NULL},
    {"istitle", "self", 0, true, m_istitle, NULL},
    {"isupper", "self", 0, true, m_isupper, NULL},
    {"ljust", "self,width,fillchar", 1, true, m_ljust, NULL},
    {"maketrans", "self,x,y,z", 1, true, m_maketrans, NULL},
    {"rjust", "self,width,fillchar", 1, true, m_rjust, NULL},
    {"translate", "self,table", 1, true, m_translate, NULL},
    {"zfill", "self,width", 1, true, m_zfill, NULL},
};
const qn_jtable qn_jmethods_str_more = {STR_ROWS, sizeof STR_ROWS / sizeof STR_ROWS[0]};

/* ---- dict ---- */

static bool d_copy(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    if (!qn_jdict_new(run, out)) {
        return false;
    }
    if (!qn_jdict_copy(run, a[0].u.dict, out->u.dict)) {
        qn_jrelease(run, *out);
        return false;
    }
    return true;
}

static bool d_get(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jval *found;
    if (!qn_jdict_find(run, a[0].u.dict, a[1], &found)) {
        return false;
    }
    *out = found != NULL ? qn_jretain(*found) : a[2].kind != QN_JV_MISSING ? qn_jretain(a[2]) : qn_jnone();
    return true;
}

static bool d_items(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jview_new(run, a[0].u.dict, QN_VIEW_ITEMS, out); }
static bool d_keys(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jview_new(run, a[0].u.dict, QN_VIEW_KEYS, out); }
static bool d_values(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jview_new(run, a[0].u.dict, QN_VIEW_VALUES, out); }

/* dict.fromkeys through an instance: the same function as dict.fromkeys. */
static bool d_fromkeys(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    (void)self;
    return qn_jbuiltin_call(run, qn_jglobal_find("dict.fromkeys", 13), qn_jmissing(), args, out);
}

static const qn_jbuiltin DICT_ROWS[] = {
    {"clear", "self", 0, true, NULL, NULL},        {"copy", "self", 0, true, d_copy, NULL},
    {"fromkeys", NULL, 0, true, NULL, d_fromkeys}, {"get", "self,key,default", 1, true, d_get, NULL},
    {"items", "self", 0, true, d_items, NULL},     {"keys", "self", 0, true, d_keys, NULL},
    {"pop", "self", 0, true, NULL, NULL},          {"popitem", "self", 0, true, NULL, NULL},
    {"setdefault", "self", 0, true, NULL, NULL},   {"update", "self", 0, true, NULL, NULL},
    {"values", "self", 0, true, d_values, NULL},
};
const qn_jtable qn_jmethods_dict = {DICT_ROWS, sizeof DICT_ROWS / sizeof DICT_ROWS[0]};

/* ---- list, tuple, range ---- */

static bool l_count(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    int64_t n = 0;
    for (size_t i = 0; i < a[0].u.list->n; i++) {
        bool equal;
        if (!qn_jequal(run, a[0].u.list->items[i], a[1], &equal)) {
            return false;
        }
        n += equal;
    }
    *out = qn_jint(n);
    return true;
}

static bool l_index(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    const qn_jlist *list = a[0].u.list;
    int64_t n = (int64_t)list->n, from, to;
    if (!qn_jarg_int(run, a[2], 0, &from) || !qn_jarg_int(run, a[3], n, &to)) {
        return false;
    }
    from = from < 0 ? from + n : from;
    to = to < 0 ? to + n : to;
    for (int64_t i = from < 0 ? 0 : from; i < to && i < n; i++) {
        bool equal;
        if (!qn_jequal(run, list->items[i], a[1], &equal)) {
            return false;
        }
        if (equal) {
            *out = qn_jint(i);
            return true;
        }
    }
    return qn_jfail(run, "the value is not in the %s", qn_jtype_name(a[0]));
}

static bool l_copy(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    return qn_jcharge(run, a[0].u.list->n / 4) && qn_jcollect(run, a[0], QN_JV_LIST, out);
}

static const qn_jbuiltin LIST_ROWS[] = {
    {"append", "self", 0, true, NULL, NULL}, {"clear", "self", 0, true, NULL, NULL},
    {"copy", "self", 0, true, l_copy, NULL}, {"count", "self,value", 1, true, l_count, NULL},
    {"extend", "self", 0, true, NULL, NULL}, {"index", "self,value,start,stop", 1, true, l_index, NULL},
    {"insert", "self", 0, true, NULL, NULL}, {"pop", "self", 0, true, NULL, NULL},
    {"remove", "self", 0, true, NULL, NULL}, {"reverse", "self", 0, true, NULL, NULL},
    {"sort", "self", 0, true, NULL, NULL},
};
const qn_jtable qn_jmethods_list = {LIST_ROWS, sizeof LIST_ROWS / sizeof LIST_ROWS[0]};

static const qn_jbuiltin TUPLE_ROWS[] = {
    {"count", "self,value", 1, true, l_count, NULL},
    {"index", "self,value,start,stop", 1, true, l_index, NULL},
};
const qn_jtable qn_jmethods_tuple = {TUPLE_ROWS, sizeof TUPLE_ROWS / sizeof TUPLE_ROWS[0]};

static bool r_count(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    bool found;
    bool ok = qn_jcontains(run, a[0], a[1], &found);
    *out = qn_jint(found);
    return ok;
}

static bool r_index(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    const qn_jrange *r = (const qn_jrange *)a[0].u.obj;
    bool found;
    if (!qn_jcontains(run, a[0], a[1], &found)) {
        return false;
    }
    if (!found || !qn_jis_number(a[1])) {
        return qn_jfail(run, "the value is not in the range");
    }
    int64_t i = a[1].kind == QN_JV_FLOAT ? (int64_t)a[1].u.d : qn_jas_int(a[1]);
    uint64_t away = r->step > 0 ? (uint64_t)i - (uint64_t)r->start : (uint64_t)r->start - (uint64_t)i;
    *out = qn_jint((int64_t)(away / (r->step > 0 ? (uint64_t)r->step : 0 - (uint64_t)r->step)));
    return true;
}

static const qn_jbuiltin RANGE_ROWS[] = {
    {"count", "self,value", 1, true, r_count, NULL},
    {"index", "self,value", 1, true, r_index, NULL},
};
const qn_jtable qn_jmethods_range = {RANGE_ROWS, sizeof RANGE_ROWS / sizeof RANGE_ROWS[0]};

/* ---- numbers ---- */

static bool i_bit_count(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    int64_t i = qn_jas_int(a[0]);
    *out = qn_jint(__builtin_popcountll(i < 0 ? 0 - (uint64_t)i : (uint64_t)i));
    return qn_jcharge(run, 1);
}

static bool i_bit_length(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    int64_t i = qn_jas_int(a[0]), n = 0;
    for (uint64_t magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i; magnitude > 0; magnitude >>= 1) {
        n++;
    }
    *out = qn_jint(n);
    return qn_jcharge(run, 1);
}

static bool i_conjugate(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    *out = a[0].kind == QN_JV_BOOL ? qn_jmarked(qn_jint(qn_jas_int(a[0])), a[0].content) : a[0];
    return qn_jcharge(run, 1);
}

static bool f_is_integer(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    *out = qn_jbool(isfinite(a[0].u.d) && a[0].u.d == floor(a[0].u.d));
    return qn_jcharge(run, 1);
}

static const qn_jbuiltin INT_ROWS[] = {
    {"bit_count", "self", 0, true, i_bit_count, NULL},
    {"bit_length", "self", 0, true, i_bit_length, NULL},
    {"conjugate", "self", 0, true, i_conjugate, NULL},
};
const qn_jtable qn_jmethods_int = {INT_ROWS, sizeof INT_ROWS / sizeof INT_ROWS[0]};

static const qn_jbuiltin FLOAT_ROWS[] = {
    {"conjugate", "self", 0, true, i_conjugate, NULL},
    {"is_integer", "self", 0, true, f_is_integer, NULL},
};
const qn_jtable qn_jmethods_float = {FLOAT_ROWS, sizeof FLOAT_ROWS / sizeof FLOAT_ROWS[0]};

/* ---- loops and cyclers ---- */

static bool loop_changed(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    qn_jloop *loop = (qn_jloop *)self.u.obj;
    qn_jval now;
    bool equal = false;
    if (!qn_jlist_new(run, QN_JV_TUPLE, args->n, &now)) {
        return false;
    }
    for (size_t i = 0; i < args->n; i++) {
        now.u.list->items[now.u.list->n++] = qn_jretain(args->positional[i]);
    }
    if (loop->changed.kind != QN_JV_MISSING && !qn_jequal(run, loop->changed, now, &equal)) {
        return false;
    }
    qn_jassign(run, &loop->changed, now);
    *out = qn_jbool(!equal);
    return true;
}

static bool loop_cycle(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out)
{
    if (args->n == 0) {
        return qn_jfail(run, "no items for cycling given");
    }
    *out = qn_jretain(args->positional[(size_t)((const qn_jloop *)self.u.obj)->index0 % args->n]);
    return true;
}

static const qn_jbuiltin LOOP_ROWS[] = {
    {"changed", NULL, 0, true, NULL, loop_changed},
    {"cycle", NULL, 0, true, NULL, loop_cycle},
};
const qn_jtable qn_jmethods_loop = {LOOP_ROWS, sizeof LOOP_ROWS / sizeof LOOP_ROWS[0]};

static bool c_next(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jcycler *c = (qn_jcycler *)a[0].u.obj;
    *out = qn_jretain(c->items->items[c->position]);
    c->position = (c->position + 1) % c->items->n;
    return qn_jcharge(run, 1);
}

static bool c_reset(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    ((qn_jcycler *)a[0].u.obj)->position = 0;
    *out = qn_jnone();
    return qn_jcharge(run, 1);
}

static const qn_jbuiltin CYCLER_ROWS[] = {
    {"next", "self", 0, true, c_next, NULL},
    {"reset", "self", 0, true, c_reset, NULL},
};
const qn_jtable qn_jmethods_cycler = {CYCLER_ROWS, sizeof CYCLER_ROWS / sizeof CYCLER_ROWS[0]};
