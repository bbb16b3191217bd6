/* jinja_number.c - Python's int(), float() and round(): what text is a number, and how halves are rounded. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja_run.h"
#include "text/unicode_props.h"

/* The part of s without white space at its ends. */
static void trim(const qn_jstr *s, size_t *from, size_t *to)
{
    uint32_t cp;
    *from = 0;
    *to = s->len;
    while (*from < *to) {
        size_t n = qn_utf8_decode(s->data + *from, *to - *from, &cp);
        if (!qn_unicode_is_space(cp)) {
            break;
        }
        *from += n;
    }
    while (*to > *from) {
        size_t at = *to - 1;
        while (at > *from && ((uint8_t)s->data[at] & 0xc0u) == 0x80u) {
            at--;
        }
        (void)qn_utf8_decode(s->data + at, *to - at, &cp);
        if (!qn_unicode_is_space(cp)) {
            break;
        }
        *to = at;
    }
}

static int digit_value(uint32_t cp)
{
    int value = qn_unicode_decimal_value(cp);
    if (value >= 0) {
        return value;
    }
    return cp >= 'a' && cp <= 'z' ? (int)(cp - 'a') + 10 : cp >= 'A' && cp <= 'Z' ? (int)(cp - 'A') + 10 : 99;
}

/* Skips "0x" and the like where the base allows it and says which base the digits have. */
static int64_t skip_prefix(const char *text, size_t *at, size_t to, int64_t base)
{
    if (to - *at < 2 || text[*at] != '0') {
        return base == 0 ? 10 : base;
    }
    char mark = (char)(text[*at + 1] | 0x20);
    int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked != 0 && (base == 0 || base == marked)) {
        *at += 2;
        if (*at < to && text[*at] == '_') {
            (*at)++;
        }
        return marked;
    }
    return base == 0 ? 10 : base;
}

static bool parse_int(qn_jrun *run, const qn_jstr *s, int64_t base, bool *ok, int64_t *out)
{
    size_t at, to;
    bool negative = false, after_digit = false, overflow = false;
    int64_t value = 0;
    *ok = false;
    trim(s, &at, &to);
    if (at < to && (s->data[at] == '-' || s->data[at] == '+')) {
        negative = s->data[at] == '-';
        at++;
    }
    bool any_base = base == 0;
    base = skip_prefix(s->data, &at, to, base);
    bool leading_zero = any_base && base == 10 && at < to && s->data[at] == '0';
    while (at < to) {
        uint32_t cp;
        size_t n = qn_utf8_decode(s->data + at, to - at, &cp);
        if (cp == '_' && after_digit && at + 1 < to) {
            after_digit = false;
            at++;
            continue;
        }
        int digit = digit_value(cp);
        if (digit >= base) {
            return true;
        }
        overflow = overflow || __builtin_mul_overflow(value, base, &value) ||
                   __builtin_add_overflow(value, (int64_t)(negative ? -digit : digit), &value);
        after_digit = true;
        at += n;
    }
    if (!after_digit || (leading_zero && value != 0)) {
        return true;
    }
    *ok = true;
    *out = value;
    return !overflow || qn_jfail_status(run, QUERN_ERROR_UNSUPPORTED, "an integer does not fit in 64 bits");
}

bool qn_jfloat_to_int(qn_jrun *run, double d, int64_t *out)
{
    if (isinf(d)) {
        return qn_jfail(run, "cannot convert float infinity to integer");
    }
    double whole = trunc(d);
    if (!(whole >= -9223372036854775808.0 && whole < 9223372036854775808.0)) {
        return isnan(d) ? qn_jfail(run, "cannot convert float NaN to integer")
                        : qn_jfail_status(run, QUERN_ERROR_UNSUPPORTED, "an integer does not fit in 64 bits");
    }
    *out = (int64_t)whole;
    return true;
}

bool qn_jto_int(qn_jrun *run, qn_jval v, int64_t base, bool *ok, int64_t *out)
{
    *ok = false;
    if (v.kind == QN_JV_UNDEFINED) {
        return qn_jundefined_fail(run, v);
    }
    if (v.kind == QN_JV_STRING) {
        bool base_ok = base == 0 || (base >= 2 && base <= 36);
        return qn_jcharge_bytes(run, v.u.str->len) && (!base_ok || parse_int(run, v.u.str, base, ok, out));
    }
    if (v.kind == QN_JV_FLOAT) {
        *ok = !isnan(v.u.d);
        return !*ok || qn_jfloat_to_int(run, v.u.d, out);
    }
    *ok = qn_jis_int(v);
    *out = *ok ? qn_jas_int(v) : 0;
    return true;
}

/* Copies digits with single underscores between them, without the underscores; false if an underscore stands wrong. */
static bool copy_digits(const char *text, size_t *at, size_t to, char *out, size_t *len, bool *any)
{
    bool after_digit = false;
    *any = false;
    while (*at < to) {
        char c = text[*at];
        if (c >= '0' && c <= '9') {
            out[(*len)++] = c;
            *any = after_digit = true;
        } else if (c == '_' && after_digit && *at + 1 < to && text[*at + 1] >= '0' && text[*at + 1] <= '9') {
            after_digit = false;
        } else {
            return c != '_';
        }
        (*at)++;
    }
    return true;
}

static bool word_is(const char *text, size_t len, const char *word)
{
    if (len != strlen(word)) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if ((text[i] | 0x20) != word[i]) {
            return false;
        }
    }
    return true;
}

/* Rewrites [at, to) as a number that strtod reads, or gives false. `out` has room for all of it. */
static bool clean_float(const char *text, size_t at, size_t to, char *out)
{
    size_t len = 0;
    bool whole, fraction = false, exponent;
    if (at < to && (text[at] == '-' || text[at] == '+')) {
        out[len++] = text[at++];
    }
    if (word_is(text + at, to - at, "inf") || word_is(text + at, to - at, "infinity") || word_is(text + at, to - at, "nan")) {
        memcpy(out + len, text + at, to - at);
        out[len + to - at] = '\0';
        return true;
    }
    if (!copy_digits(text, &at, to, out, &len, &whole)) {
        return false;
    }
    if (at < to && text[at] == '.') {
        out[len++] = text[at++];
        if (!copy_digits(text, &at, to, out, &len, &fraction)) {
            return false;
        }
    }
    if (!whole && !fraction) {
        return false;
    }
    if (at < to && (text[at] == 'e' || text[at] == 'E')) {
        out[len++] = text[at++];
        if (at < to && (text[at] == '-' || text[at] == '+')) {
            out[len++] = text[at++];
        }
        if (!copy_digits(text, &at, to, out, &len, &exponent) || !exponent) {
            return false;
        }
    }
    out[len] = '\0';
    return at == to;
}

bool qn_jto_float(qn_jrun *run, qn_jval v, bool *ok, double *out)
{
    *ok = qn_jis_number(v);
    if (*ok) {
        *out = qn_jas_double(v);
        return true;
    }
    if (v.kind == QN_JV_UNDEFINED) {
        return qn_jundefined_fail(run, v);
    }
    if (v.kind != QN_JV_STRING) {
        return true;
    }
    size_t from, to;
    trim(v.u.str, &from, &to);
    size_t bytes = to - from + 1;
    char *text = qn_jalloc(run, bytes);
    if (text == NULL || !qn_jcharge(run, bytes / 4)) {
        return false;
    }
    *ok = clean_float(v.u.str->data, from, to, text);
    if (*ok) {
        *out = strtod(text, NULL);
    }
    qn_jfree(run, text, bytes);
    return true;
}

/* ---- round ---- */

/* To a multiple of 10^places, halves to the even multiple. */
static bool round_int(qn_jrun *run, int64_t i, int64_t places, int64_t *out)
{
    uint64_t power = 1, magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    for (int64_t k = 0; k < places; k++) {
        if (power > UINT64_MAX / 10) {
            *out = 0;
            return true;
        }
        power *= 10;
    }
    uint64_t rest = magnitude % power, quotient = magnitude / power, half = power / 2;
    bool up = rest > half || (rest == half && power > 1 && (quotient & 1u) != 0);
    uint64_t rounded = (quotient + up) * power;
    if (rounded > (uint64_t)INT64_MAX) {
        return qn_jfail_status(run, QUERN_ERROR_UNSUPPORTED, "an integer does not fit in 64 bits");
    }
    *out = i < 0 ? -(int64_t)rounded : (int64_t)rounded;
    return true;
}

/* Through the exact decimal expansion, as CPython does, so that 2.675 rounds to 2.67. */
static double round_float(double d, int64_t digits)
{
    char text[800];
    if (!isfinite(d) || digits > 323) {
        return d;
    }
    if (digits >= 0) {
        (void)snprintf(text, sizeof text, "%.*f", (int)digits, d);
        return strtod(text, NULL);
    }
    int exponent = d != 0.0 ? (int)floor(log10(fabs(d))) : 0;
    int significant = digits < -400 ? -1 : exponent + 1 + (int)digits;
    if (significant > 0) {
        (void)snprintf(text, sizeof text, "%.*e", significant - 1, d);
        return strtod(text, NULL);
    }
    double unit = significant < 0 ? 0.0 : pow(10.0, (double)-digits);
    return copysign(significant == 0 && fabs(d) > unit / 2 ? unit : 0.0, d);
}

bool qn_jround(qn_jrun *run, qn_jval v, int64_t digits, qn_jval *out)
{
    if (v.kind == QN_JV_FLOAT) {
        *out = qn_jmarked(qn_jfloat(round_float(v.u.d, digits)), v.content);
        return qn_jcharge(run, 20);
    }
    if (!qn_jis_int(v)) {
        return qn_jfail(run, "type %s doesn't define __round__ method", qn_jtype_name(v));
    }
    int64_t i = qn_jas_int(v);
    if (digits < 0 && !round_int(run, i, digits < -30 ? 30 : -digits, &i)) {
        return false;
    }
    *out = qn_jmarked(qn_jint(i), v.content);
    return true;
}
