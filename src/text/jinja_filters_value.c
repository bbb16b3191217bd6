/* jinja_filters_value.c - filters on single values: numbers, defaults, attributes, JSON; and all tests (`is ...`). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_run.h"
#include "text/unicode_props.h"

/* ---- filters ---- */

static bool f_abs(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    if (a[0].kind == QN_JV_FLOAT) {
        *out = qn_jmarked(qn_jfloat(fabs(a[0].u.d)), a[0].content);
        return qn_jcharge(run, 1);
    }
    if (!qn_jis_int(a[0])) {
        return qn_jfail(run, "bad operand type for abs(): '%s'", qn_jtype_name(a[0]));
    }
    return qn_jnegate(run, a[0], qn_jas_int(a[0]) < 0, out);
}

static bool f_attr(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jstr *name;
    return qn_jarg_str(run, a[1], "attribute name", &name) && qn_jgetattr_only(run, a[0], name, out);
}

static bool f_default(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    bool replaced = a[0].kind == QN_JV_UNDEFINED || (qn_jtruth(a[2]) && !qn_jtruth(a[0]));
    if (replaced && a[1].kind == QN_JV_MISSING) {
        return qn_jstr_new(run, "", 0, false, out);
    }
    *out = qn_jretain(a[replaced ? 1 : 0]);
    return true;
}

static bool f_int(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    int64_t base = 10, i;
    bool ok = a[0].kind != QN_JV_STRING || a[2].kind == QN_JV_MISSING || qn_jis_int(a[2]); /* a base of another type: the default */
    if (ok && a[0].kind == QN_JV_STRING && !qn_jarg_int(run, a[2], 10, &base)) {
        return false;
    }
    if (ok && !qn_jto_int(run, a[0], base, &ok, &i)) {
        return false;
    }
    if (!ok) { /* "42.23" is 42, and what is no number gives the default */
        double d;
        if (!qn_jto_float(run, a[0], &ok, &d)) {
            return false;
        }
        ok = ok && isfinite(d);
        if (ok && !qn_jfloat_to_int(run, d, &i)) {
            return false;
        }
    }
    *out = ok                           ? qn_jmarked(qn_jint(i), a[0].kind == QN_JV_STRING || a[0].content)
           : a[1].kind == QN_JV_MISSING ? qn_jint(0)
                                        : qn_jretain(a[1]);
    return true;
}

static bool f_float(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    bool ok;
    double d;
    if (!qn_jto_float(run, a[0], &ok, &d)) {
        return false;
    }
    *out = ok                           ? qn_jmarked(qn_jfloat(d), a[0].kind == QN_JV_STRING || a[0].content)
           : a[1].kind == QN_JV_MISSING ? qn_jfloat(0.0)
                                        : qn_jretain(a[1]);
    return true;
}

static bool f_filesizeformat(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    static const char *const UNITS[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    bool ok, binary = qn_jtruth(a[1]);
    double bytes;
    char text[400];
    if (!qn_jto_float(run, a[0], &ok, &bytes)) {
        return false;
    }
    if (!ok) {
        return qn_jfail(run, "could not convert to float: '%s'", qn_jtype_name(a[0]));
    }
    double base = binary ? 1024.0 : 1000.0, unit = base;
    if (bytes == 1.0) {
        (void)snprintf(text, sizeof text, "1 Byte");
    } else if (bytes < base) {
        (void)snprintf(text, sizeof text, "%.0f Bytes", trunc(bytes) + 0.0); /* never -0 */
    } else {
        size_t i = 0;
        for (; i < 8; i++) {
            unit *= base;
            if (bytes < unit) {
                break;
            }
        }
        i = i < 8 ? i : 7;
        (void)snprintf(text, sizeof text, "%.1f %c%s%s", base * bytes / unit, binary ? (char)(UNITS[i][0] & ~0x20) : UNITS[i][0],
                       binary ? "i" : "", UNITS[i] + 1);
    }
    return qn_jstr_new(run, text, strlen(text), a[0].content || a[0].kind == QN_JV_STRING, out);
}

static bool f_pprint(qn_jrun *run, const qn_jval *a, qn_jval *out) { return qn_jpretty(run, a[0], out); }

static bool f_round(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    int64_t digits;
    if (!qn_jarg_int(run, a[1], 0, &digits)) {
        return false;
    }
    bool common = a[2].kind == QN_JV_MISSING || (a[2].kind == QN_JV_STRING && qn_jstr_equals(a[2].u.str, "common"));
    bool up = a[2].kind == QN_JV_STRING && qn_jstr_equals(a[2].u.str, "ceil");
    if (!common && !up && !(a[2].kind == QN_JV_STRING && qn_jstr_equals(a[2].u.str, "floor"))) {
        return qn_jfail(run, "method must be common, ceil or floor");
    }
    if (common) {
        return a[0].kind == QN_JV_UNDEFINED ? qn_jundefined_fail(run, a[0]) : qn_jround(run, a[0], digits, out);
    }
    if (!qn_jis_number(a[0])) {
        return a[0].kind == QN_JV_UNDEFINED ? qn_jundefined_fail(run, a[0])
                                            : qn_jfail(run, "must be real number, not %s", qn_jtype_name(a[0]));
    }
    double power = pow(10.0, (double)digits), scaled = qn_jas_double(a[0]) * power;
    if (!isfinite(scaled)) {
        return qn_jfail(run, "cannot convert float infinity to integer");
    }
    *out = qn_jmarked(qn_jfloat((up ? ceil(scaled) : floor(scaled)) / power), a[0].content);
    return true;
}

/* The indent of json.dumps: a string, or a number of blanks. */
static bool json_indent(qn_jrun *run, qn_jval v, qn_jjson_options *o)
{
    int64_t width;
    o->pretty = qn_jarg_given(v);
    if (!o->pretty) {
        return true;
    }
    if (v.kind == QN_JV_STRING) {
        o->indent = qn_jretain(v);
        return true;
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jarg_int(run, v, 0, &width) && qn_jbuf_append_spaces(&b, width > 0 ? (size_t)width : 0) && qn_jbuf_finish(&b, &o->indent);
    qn_jbuf_deinit(&b);
    return ok;
}

static bool f_tojson(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    qn_jjson_options o = {.ensure_ascii = qn_jtruth(a[1]), .sort_keys = qn_jtruth(a[4])};
    if (qn_jarg_given(a[3])) {
        qn_jval pair = a[3];
        bool valid = (pair.kind == QN_JV_LIST || pair.kind == QN_JV_TUPLE) && pair.u.list->n == 2 &&
                     pair.u.list->items[0].kind == QN_JV_STRING && pair.u.list->items[1].kind == QN_JV_STRING;
        if (!valid) {
            return qn_jfail(run, "separators must be a pair of strings");
        }
        o.item_separator = pair.u.list->items[0];
        o.key_separator = pair.u.list->items[1];
    }
    if (!json_indent(run, a[2], &o)) {
        return false;
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jbuf_append_json(&b, a[0], &o) && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    qn_jrelease(run, o.indent);
    return ok;
}

static const qn_jbuiltin FILTER_ROWS[] = {
    {"abs", "x", 0, true, f_abs, NULL},
    {"attr", "obj,name", 1, false, f_attr, NULL},
    {"d", "value,default_value,boolean", 0, false, f_default, NULL},
    {"default", "value,default_value,boolean", 0, false, f_default, NULL},
    {"filesizeformat", "value,binary", 0, false, f_filesizeformat, NULL},
    {"float", "value,default", 0, false, f_float, NULL},
    {"int", "value,default,base", 0, false, f_int, NULL},
    {"pprint", "value", 0, false, f_pprint, NULL},
    {"round", "value,precision,method", 0, false, f_round, NULL},
    {"tojson", "x,ensure_ascii,indent,separators,sort_keys", 0, false, f_tojson, NULL},
};
const qn_jtable qn_jfilters_value = {FILTER_ROWS, sizeof FILTER_ROWS / sizeof FILTER_ROWS[0]};

const qn_jbuiltin *qn_jfilter_find(const char *name, size_t len)
{
    const qn_jbuiltin *f = qn_jtable_find(qn_jfilters_text, name, len);
    f = f != NULL ? f : qn_jtable_find(qn_jfilters_list, name, len);
    f = f != NULL ? f : qn_jtable_find(qn_jfilters_lazy, name, len);
    return f != NULL ? f : qn_jtable_find(qn_jfilters_value, name, len);
}

/* ---- tests ---- */

/* value % number == wanted */
static bool remainder_is(qn_jrun *run, qn_jval v, qn_jval number, int64_t wanted, qn_jval *out)
{
    qn_jval rest;
    bool equal;
    if (!qn_jbinary(run, QN_OP_MOD, v, number, &rest)) {
        return false;
    }
    bool ok = qn_jequal(run, rest, qn_jint(wanted), &equal);
    qn_jrelease(run, rest);
    *out = qn_jbool(equal);
    return ok;
}

static bool t_odd(qn_jrun *run, const qn_jval *a, qn_jval *out) { return remainder_is(run, a[0], qn_jint(2), 1, out); }
static bool t_even(qn_jrun *run, const qn_jval *a, qn_jval *out) { return remainder_is(run, a[0], qn_jint(2), 0, out); }
static bool t_divisibleby(qn_jrun *run, const qn_jval *a, qn_jval *out) { return remainder_is(run, a[0], a[1], 0, out); }

static bool answer(qn_jval *out, bool result)
{
    *out = qn_jbool(result);
    return true;
}

static bool t_defined(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind != QN_JV_UNDEFINED);
}
static bool t_undefined(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_UNDEFINED);
}
static bool t_none(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_NONE);
}
static bool t_boolean(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_BOOL);
}
static bool t_true(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_BOOL && a[0].u.b);
}
static bool t_false(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_BOOL && !a[0].u.b);
}
static bool t_integer(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_INT);
}
static bool t_float(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_FLOAT);
}
static bool t_number(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, qn_jis_number(a[0]));
}
static bool t_string(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_STRING);
}
static bool t_mapping(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_DICT);
}
static bool t_iterable(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, qn_jis_iterable(a[0]));
}

static bool t_sequence(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    qn_jkind k = (qn_jkind)a[0].kind;
    return answer(out,
                  k == QN_JV_STRING || k == QN_JV_LIST || k == QN_JV_TUPLE || k == QN_JV_DICT || k == QN_JV_RANGE || k == QN_JV_UNDEFINED);
}

static bool t_callable(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    qn_jkind k = (qn_jkind)a[0].kind;
    return answer(out, k == QN_JV_MACRO || k == QN_JV_BUILTIN || k == QN_JV_METHOD || k == QN_JV_JOINER || k == QN_JV_LOOP ||
                           k == QN_JV_UNDEFINED || (k == QN_JV_BLOCK && ((const qn_jblock *)a[0].u.obj)->node != NULL));
}

static bool t_escaped(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_STRING && a[0].u.str->markup);
}

/* The same object. CPython shares small integers and one-character strings, so equal ones of those are the same. */
static bool t_sameas(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    if (a[0].kind != a[1].kind) {
        return answer(out, false);
    }
    if (a[0].kind == QN_JV_STRING && a[0].u.str->n_chars <= 1) {
        bool equal;
        return qn_jequal(run, a[0], a[1], &equal) && answer(out, equal);
    }
    if (!qn_jis_object(a[0]) && a[0].kind != QN_JV_BUILTIN) {
        bool equal;
        return qn_jequal(run, a[0], a[1], &equal) && answer(out, equal);
    }
    return answer(out, a[0].u.obj == a[1].u.obj);
}

/* str(value).islower() and isupper() */
static bool text_case(qn_jrun *run, qn_jval v, const char *method, qn_jval *out)
{
    qn_jval text;
    const qn_jargs none = {0};
    if (!qn_jto_string(run, v, &text)) {
        return false;
    }
    bool ok = qn_jbuiltin_call(run, qn_jtable_find(qn_jmethods_str_more, method, strlen(method)), text, &none, out);
    qn_jrelease(run, text);
    return ok;
}

static bool t_lower(qn_jrun *run, const qn_jval *a, qn_jval *out) { return text_case(run, a[0], "islower", out); }
static bool t_upper(qn_jrun *run, const qn_jval *a, qn_jval *out) { return text_case(run, a[0], "isupper", out); }

static bool t_filter(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_STRING && qn_jfilter_find(a[0].u.str->data, a[0].u.str->len) != NULL);
}

static bool t_test(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    (void)run;
    return answer(out, a[0].kind == QN_JV_STRING && qn_jtest_find(a[0].u.str->data, a[0].u.str->len) != NULL);
}

static bool t_in(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    bool found;
    return qn_jcontains(run, a[1], a[0], &found) && answer(out, found);
}

static bool t_eq(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    bool equal;
    return qn_jequal(run, a[0], a[1], &equal) && answer(out, equal);
}

static bool t_ne(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    bool equal;
    return qn_jequal(run, a[0], a[1], &equal) && answer(out, !equal);
}

static bool t_ge(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    int order;
    return qn_jcompare(run, a[0], a[1], ">=", &order) && answer(out, order == 0 || order == 1);
}

static bool t_gt(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    int order;
    return qn_jcompare(run, a[0], a[1], ">", &order) && answer(out, order == 1);
}

static bool t_le(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    int order;
    return qn_jcompare(run, a[0], a[1], "<=", &order) && answer(out, order == 0 || order == -1);
}

static bool t_lt(qn_jrun *run, const qn_jval *a, qn_jval *out)
{
    int order;
    return qn_jcompare(run, a[0], a[1], "<", &order) && answer(out, order == -1);
}

static const qn_jbuiltin TEST_ROWS[] = {
    {"!=", "a,b", 1, true, t_ne, NULL},
    {"<", "a,b", 1, true, t_lt, NULL},
    {"<=", "a,b", 1, true, t_le, NULL},
    {"==", "a,b", 1, true, t_eq, NULL},
    {">", "a,b", 1, true, t_gt, NULL},
    {">=", "a,b", 1, true, t_ge, NULL},
    {"boolean", "value", 0, false, t_boolean, NULL},
    {"callable", "obj", 0, true, t_callable, NULL},
    {"defined", "value", 0, false, t_defined, NULL},
    {"divisibleby", "value,num", 1, false, t_divisibleby, NULL},
    {"eq", "a,b", 1, true, t_eq, NULL},
    {"equalto", "a,b", 1, true, t_eq, NULL},
    {"escaped", "value", 0, false, t_escaped, NULL},
    {"even", "value", 0, false, t_even, NULL},
    {"false", "value", 0, false, t_false, NULL},
    {"filter", "value", 0, false, t_filter, NULL},
    {"float", "value", 0, false, t_float, NULL},
    {"ge", "a,b", 1, true, t_ge, NULL},
    {"greaterthan", "a,b", 1, true, t_gt, NULL},
    {"gt", "a,b", 1, true, t_gt, NULL},
    {"in", "value,seq", 1, false, t_in, NULL},
    {"integer", "value", 0, false, t_integer, NULL},
    {"iterable", "value", 0, false, t_iterable, NULL},
    {"le", "a,b", 1, true, t_le, NULL},
    {"lessthan", "a,b", 1, true, t_lt, NULL},
    {"lower", "value", 0, false, t_lower, NULL},
    {"lt", "a,b", 1, true, t_lt, NULL},
    {"mapping", "value", 0, false, t_mapping, NULL},
    {"ne", "a,b", 1, true, t_ne, NULL},
    {"none", "value", 0, false, t_none, NULL},
    {"number", "value", 0, false, t_number, NULL},
    {"odd", "value", 0, false, t_odd, NULL},
    {"sameas", "value,other", 1, false, t_sameas, NULL},
    {"sequence", "value", 0, false, t_sequence, NULL},
    {"string", "value", 0, false, t_string, NULL},
    {"test", "value", 0, false, t_test, NULL},
    {"true", "value", 0, false, t_true, NULL},
    {"undefined", "value", 0, false, t_undefined, NULL},
    {"upper", "value", 0, false, t_upper, NULL},
};

const qn_jbuiltin *qn_jtest_find(const char *name, size_t len)
{
    return qn_jtable_find((qn_jtable){TEST_ROWS, sizeof TEST_ROWS / sizeof TEST_ROWS[0]}, name, len);
}
