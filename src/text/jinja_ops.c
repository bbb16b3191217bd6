/* jinja_ops.c - operators: arithmetic as Python's (floor division, remainder of the divisor's sign, true division),
 * joining and repeating of strings and lists, slices.
 *
 * Integers have 64 bits; a result that needs more is an error, never wrapped.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "text/jinja_run.h"

static const char *symbol(qn_jop op)
{
    static const char *const SYMBOLS[] = {"+", "-", "*", "/", "//", "%", "** or pow()", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
    return SYMBOLS[op];
}

static bool unsupported(qn_jrun *run, qn_jop op, qn_jval a, qn_jval b)
{
    return qn_jfail(run, "unsupported operand type(s) for %s: '%s' and '%s'", symbol(op), qn_jtype_name(a), qn_jtype_name(b));
}

static bool too_big(qn_jrun *run) { return qn_jfail_status(run, QUERN_ERROR_UNSUPPORTED, "an integer does not fit in 64 bits"); }

/* ---- numbers ---- */

static bool int_power(qn_jrun *run, int64_t base, int64_t exponent, qn_jval *out)
{
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) {
            return too_big(run);
        }
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
            return too_big(run);
        }
    }
    *out = qn_jint(result);
    return true;
}

static bool float_power(qn_jrun *run, double a, double b, qn_jval *out)
{
    if (a == 0.0 && b < 0.0) {
        return qn_jfail(run, "0.0 cannot be raised to a negative power");
    }
    double r = pow(a, b);
    if (isnan(r) && !isnan(a) && !isnan(b)) {
        return qn_jfail(run, "complex numbers are not supported");
    }
    if (isinf(r) && !isinf(a) && !isinf(b)) {
        return qn_jfail(run, "(34, 'Numerical result out of range')");
    }
    *out = qn_jfloat(r);
    return true;
}

static bool int_binary(qn_jrun *run, qn_jop op, int64_t a, int64_t b, qn_jval *out)
{
    int64_t r = 0;
    bool overflow = false;
    switch (op) {
    case QN_OP_ADD: overflow = __builtin_add_overflow(a, b, &r); break;
    case QN_OP_SUB: overflow = __builtin_sub_overflow(a, b, &r); break;
    case QN_OP_MUL: overflow = __builtin_mul_overflow(a, b, &r); break;
    case QN_OP_POW:
        if (b < 0) {
            return float_power(run, (double)a, (double)b, out);
        }
        return int_power(run, a, b, out);
    case QN_OP_DIV:
        if (b == 0) {
            return qn_jfail(run, "division by zero");
        }
        *out = qn_jfloat((double)a / (double)b);
        return true;
    case QN_OP_FLOORDIV:
    case QN_OP_MOD:
        if (b == 0) {
            return qn_jfail(run, "integer division or modulo by zero");
        }
        if (b == -1) { /* INT64_MIN / -1 does not fit, and its remainder would trap */
            overflow = op == QN_OP_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &r);
            break;
        }
        r = op == QN_OP_MOD ? a % b : a / b;
        if (a % b != 0 && ((a % b < 0) != (b < 0))) {
            r = op == QN_OP_MOD ? r + b : r - 1;
        }
        break;
    default: break;
    }
    *out = qn_jint(r);
    return overflow ? too_big(run) : true;
}

static bool float_binary(qn_jrun *run, qn_jop op, double a, double b, qn_jval *out)
{
    if (b == 0.0 && (op == QN_OP_DIV || op == QN_OP_FLOORDIV || op == QN_OP_MOD)) {
        return qn_jfail(run, op == QN_OP_MOD ? "float modulo" : "float division by zero");
    }
    double r = 0.0;
    switch (op) {
    case QN_OP_ADD: r = a + b; break;
    case QN_OP_SUB: r = a - b; break;
    case QN_OP_MUL: r = a * b; break;
    case QN_OP_DIV: r = a / b; break;
    case QN_OP_POW: return float_power(run, a, b, out);
    case QN_OP_FLOORDIV:
    case QN_OP_MOD: {
        double remainder = fmod(a, b), quotient = (a - remainder) / b;
        if (remainder == 0.0) {
            remainder = copysign(0.0, b);
        } else if ((b < 0.0) != (remainder < 0.0)) {
            remainder += b;
            quotient -= 1.0;
        }
        double whole = floor(quotient);
        whole = quotient - whole > 0.5 ? whole + 1.0 : whole;
        r = op == QN_OP_MOD ? remainder : quotient != 0.0 ? whole : copysign(0.0, a / b);
        break;
    }
    default: break;
    }
    *out = qn_jfloat(r);
    return true;
}

bool qn_jnegate(qn_jrun *run, qn_jval v, bool negative, qn_jval *out)
{
    if (v.kind == QN_JV_UNDEFINED) {
        return qn_jundefined_fail(run, v);
    }
    if (!qn_jis_number(v)) {
        return qn_jfail(run, "bad operand type for unary %s: '%s'", negative ? "-" : "+", qn_jtype_name(v));
    }
    if (v.kind == QN_JV_FLOAT) {
        *out = qn_jmarked(qn_jfloat(negative ? -v.u.d : v.u.d), v.content);
        return true;
    }
    int64_t i = qn_jas_int(v);
    if (negative && __builtin_sub_overflow((int64_t)0, i, &i)) {
        return too_big(run);
    }
    *out = qn_jmarked(qn_jint(i), v.content);
    return true;
}

/* ---- strings and lists ---- */

static bool concat_strings(qn_jrun *run, qn_jstr *a, qn_jstr *b, qn_jval *out)
{
    bool markup = a->markup || b->markup;
    qn_jbuf buf;
    qn_jbuf_init(&buf, run);
    bool ok = markup ? qn_jbuf_append_escaped(&buf, a) && qn_jbuf_append_escaped(&buf, b)
                     : qn_jbuf_reserve(&buf, a->len + b->len) && qn_jbuf_append_str(&buf, a) && qn_jbuf_append_str(&buf, b);
    ok = ok && qn_jbuf_finish(&buf, out);
    if (ok) {
        out->u.str->markup = markup;
    }
    qn_jbuf_deinit(&buf);
    return ok;
}

static bool concat_lists(qn_jrun *run, const qn_jlist *a, const qn_jlist *b, qn_jval *out)
{
    const qn_jlist *parts[2] = {a, b};
    if (!qn_jcharge(run, (a->n + b->n) / 4) || !qn_jlist_new(run, (qn_jkind)a->head.kind, a->n + b->n, out)) {
        return false;
    }
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < parts[k]->n; i++) {
            out->u.list->items[out->u.list->n++] = qn_jretain(parts[k]->items[i]);
        }
    }
    return true;
}

static bool repeat(qn_jrun *run, qn_jval v, int64_t count, qn_jval *out)
{
    size_t n = count > 0 ? (size_t)count : 0, total;
    if (v.kind == QN_JV_STRING) {
        qn_jbuf buf;
        qn_jbuf_init(&buf, run);
        bool ok = qn_jbuf_append_repeated(&buf, v.u.str, n) && qn_jbuf_finish(&buf, out);
        if (ok) {
            out->u.str->markup = v.u.str->markup;
        }
        qn_jbuf_deinit(&buf);
        return ok;
    }
    const qn_jlist *list = v.u.list;
    if (!qn_size_mul(list->n, n, &total) || !qn_jcharge(run, total / 4)) {
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "a list would have too many elements");
    }
    if (!qn_jlist_new(run, (qn_jkind)v.kind, total, out)) {
        return false;
    }
    for (size_t i = 0; i < total; i++) {
        out->u.list->items[out->u.list->n++] = qn_jretain(list->items[i % list->n]);
    }
    return true;
}

static bool is_sequence(qn_jval v) { return v.kind == QN_JV_STRING || v.kind == QN_JV_LIST || v.kind == QN_JV_TUPLE; }

bool qn_jbinary(qn_jrun *run, qn_jop op, qn_jval a, qn_jval b, qn_jval *out)
{
    if (qn_jis_number(a) && qn_jis_number(b)) {
        bool ok = qn_jis_int(a) && qn_jis_int(b) ? int_binary(run, op, qn_jas_int(a), qn_jas_int(b), out)
                                                 : float_binary(run, op, qn_jas_double(a), qn_jas_double(b), out);
        out->content = a.content || b.content;
        return ok;
    }
    if (op == QN_OP_MOD && a.kind == QN_JV_STRING) {
        return qn_jformat_percent(run, a.u.str, b, out);
    }
    if (a.kind == QN_JV_UNDEFINED || b.kind == QN_JV_UNDEFINED) {
        return qn_jundefined_fail(run, a.kind == QN_JV_UNDEFINED ? a : b);
    }
    if (op == QN_OP_ADD && is_sequence(a)) {
        if (a.kind != b.kind) {
            const char *name = qn_jtype_name(a);
            return qn_jfail(run, "can only concatenate %s (not \"%s\") to %s", name, qn_jtype_name(b), name);
        }
        return a.kind == QN_JV_STRING ? concat_strings(run, a.u.str, b.u.str, out) : concat_lists(run, a.u.list, b.u.list, out);
    }
    if (op == QN_OP_MUL && (is_sequence(a) || is_sequence(b))) {
        qn_jval sequence = is_sequence(a) ? a : b, count = is_sequence(a) ? b : a;
        if (!qn_jis_int(count)) {
            return qn_jfail(run, "can't multiply sequence by non-int of type '%s'", qn_jtype_name(count));
        }
        return repeat(run, sequence, qn_jas_int(count), out);
    }
    return unsupported(run, op, a, b);
}

/* ---- slices ---- */

static bool slice_index(qn_jrun *run, qn_jval v, int64_t fallback, int64_t *out)
{
    if (v.kind == QN_JV_UNDEFINED) {
        return qn_jfail(run, "slice indices must be integers or None or have an __index__ method");
    }
    *out = fallback;
    if (!qn_jarg_given(v)) {
        return true;
    }
    if (!qn_jis_int(v)) {
        return qn_jfail(run, "slice indices must be integers or None or have an __index__ method");
    }
    *out = qn_jas_int(v);
    return true;
}

/* Clips a bound into [low, high] after counting negative ones from the end. */
static int64_t clip(int64_t i, int64_t n, int64_t low, int64_t high)
{
    if (i < 0) {
        i += n;
    }
    return i < low ? low : i > high ? high : i;
}

typedef struct selection {
    int64_t start, step;
    size_t n; /* elements selected */
} selection;

static bool select_range(qn_jrun *run, int64_t n, qn_jval start, qn_jval stop, qn_jval step, selection *s)
{
    int64_t from = 0, to = 0;
    if (!slice_index(run, step, 1, &s->step)) {
        return false;
    }
    if (s->step == 0) {
        return qn_jfail(run, "slice step cannot be zero");
    }
    bool forward = s->step > 0;
    int64_t low = forward ? 0 : -1, high = forward ? n : n - 1;
    if (!slice_index(run, start, forward ? 0 : INT64_MAX, &from) || !slice_index(run, stop, INT64_MAX, &to)) {
        return false;
    }
    from = clip(from, n, low, high);
    to = qn_jarg_given(stop) ? clip(to, n, low, high) : forward ? n : -1;
    s->start = from;
    uint64_t distance = forward ? (to > from ? (uint64_t)(to - from) : 0) : (from > to ? (uint64_t)(from - to) : 0);
    uint64_t stride = forward ? (uint64_t)s->step : 0 - (uint64_t)s->step;
    s->n = distance == 0 ? 0 : (size_t)((distance - 1) / stride + 1);
    return true;
}

/* Moves a byte offset by one character. */
static size_t move(const qn_jstr *s, size_t at, bool forward)
{
    do {
        at = forward ? at + 1 : at - 1;
    } while (at > 0 && at < s->len && ((uint8_t)s->data[at] & 0xc0u) == 0x80u);
    return at;
}

static bool slice_text(qn_jrun *run, qn_jstr *s, const selection *sel, qn_jval *out)
{
    if (sel->step == 1) {
        size_t from = qn_jstr_offset(s, (size_t)sel->start);
        return qn_jcharge_bytes(run, s->len) && qn_jstr_slice(run, s, from, qn_jstr_offset(s, (size_t)sel->start + sel->n), out);
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jcharge(run, s->n_chars / 4), forward = sel->step > 0;
    size_t at = sel->n > 0 ? qn_jstr_offset(s, (size_t)sel->start) : 0;
    for (size_t i = 0; ok && i < sel->n; i++) {
        ok = qn_jbuf_append_slice(&b, s, at, move(s, at, true));
        uint64_t steps = i + 1 < sel->n ? (forward ? (uint64_t)sel->step : 0 - (uint64_t)sel->step) : 0;
        for (; steps > 0; steps--) {
            at = move(s, at, forward);
        }
    }
    ok = ok && qn_jbuf_finish(&b, out);
    if (ok) {
        out->u.str->markup = s->markup;
    }
    qn_jbuf_deinit(&b);
    return ok;
}

bool qn_jslice(qn_jrun *run, qn_jval obj, qn_jval start, qn_jval stop, qn_jval step, qn_jval *out)
{
    size_t n = 0;
    selection sel = {0};
    if (obj.kind == QN_JV_UNDEFINED) {
        return qn_jundefined_fail(run, obj);
    }
    if (!is_sequence(obj) && obj.kind != QN_JV_RANGE) {
        return obj.kind == QN_JV_DICT ? qn_jfail(run, "unhashable type: 'slice'")
                                      : qn_jfail(run, "'%s' object is not subscriptable", qn_jtype_name(obj));
    }
    (void)qn_jlength(run, obj, &n);
    if (!select_range(run, (int64_t)n, start, stop, step, &sel)) {
        return false;
    }
    if (obj.kind == QN_JV_STRING) {
        return slice_text(run, obj.u.str, &sel, out);
    }
    if (obj.kind == QN_JV_RANGE) {
        const qn_jrange *r = (const qn_jrange *)obj.u.obj;
        int64_t first = (int64_t)((uint64_t)r->start + (uint64_t)sel.start * (uint64_t)r->step), stride, length, end;
        if (sel.n == 0) {
            return qn_jrange_new(run, 0, 0, 1, out);
        }
        if (__builtin_mul_overflow(r->step, sel.step, &stride) || __builtin_mul_overflow((int64_t)sel.n, stride, &length) ||
            __builtin_add_overflow(first, length, &end)) {
            return too_big(run);
        }
        return qn_jrange_new(run, first, end, stride, out);
    }
    if (!qn_jcharge(run, sel.n / 4) || !qn_jlist_new(run, (qn_jkind)obj.kind, sel.n, out)) {
        return false;
    }
    int64_t at = sel.start;
    for (size_t i = 0; i < sel.n; i++) {
        out->u.list->items[out->u.list->n++] = qn_jretain(obj.u.list->items[at]);
        at += i + 1 < sel.n ? sel.step : 0;
    }
    return true;
}
