/* diagnose.c - where the values of a faulty tensor come from: zeros, other rows, other experts, other tensors, shifted blocks.
 *
 * Looks for what correlates with the output's row. Bounded: two rows of the output against the rows of the tensor, one row against those of
 * other tensors of the same shape.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gate/verdict.h"

typedef struct search {
    const qn_checked_tensor *t;
    double same, different; /* correlations of what is and is not the same row */
    float *y, *x;           /* a row of the output; rows of the source */
    size_t cap_rows;
} search;

static double correlation(const float *a, const float *b, size_t n)
{
    double sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0, count = (double)n;
    for (size_t i = 0; i < n; i++) {
        sa += (double)a[i];
        sb += (double)b[i];
        saa += (double)a[i] * (double)a[i];
        sbb += (double)b[i] * (double)b[i];
        sab += (double)a[i] * (double)b[i];
    }
    double va = saa - sa * sa / count, vb = sbb - sb * sb / count;
    return va > 0 && vb > 0 ? (sab - sa * sb / count) / sqrt(va * vb) : 0;
}

/* Correlation of the output's row in s->y with source row `row` of a part of a tensor of the same shape. */
static double with_source_row(search *s, const qn_checked_tensor *of, size_t part, uint64_t row)
{
    of->read(of->user, part, row, 1, s->x);
    return correlation(s->y, s->x, (size_t)of->n_cols);
}

/* The row of the source in the same part that the output's row holds; false if none. */
static bool find_row(search *s, uint64_t row, uint64_t *found)
{
    const qn_checked_tensor *t = s->t;
    size_t part = (size_t)(row / t->n_rows);
    double best = s->same;
    bool any = false;
    qn_checked_tensor_decode(t, row, 1, s->y);
    for (uint64_t first = 0; first < t->n_rows; first += s->cap_rows) {
        uint64_t n = t->n_rows - first < s->cap_rows ? t->n_rows - first : s->cap_rows;
        t->read(t->user, part, first, n, s->x);
        for (uint64_t r = 0; r < n; r++) {
            double c = correlation(s->y, s->x + r * t->n_cols, (size_t)t->n_cols);
            if (c > best) {
                best = c;
                *found = part * t->n_rows + first + r;
                any = true;
            }
        }
    }
    return any;
}

static bool tell_zeros(search *s, uint64_t row, char *out, size_t cap)
{
    bool zero = true;
    qn_checked_tensor_decode(s->t, row, 1, s->y);
    for (size_t i = 0; i < s->t->n_cols; i++) {
        zero = zero && s->y[i] == 0;
    }
    if (zero) {
        (void)snprintf(out, cap, "row %" PRIu64 " is all zero", row % s->t->n_rows);
    }
    return zero;
}

static bool tell_rows(search *s, uint64_t a, uint64_t b, char *out, size_t cap)
{
    uint64_t from_a, from_b, n = s->t->n_rows;
    if (!find_row(s, a, &from_a) || from_a == a) {
        return false;
    }
    if (b != a && from_a == b && find_row(s, b, &from_b) && from_b == a) {
        (void)snprintf(out, cap, "rows %" PRIu64 " and %" PRIu64 " are swapped", a % n, b % n);
    } else {
        (void)snprintf(out, cap, "row %" PRIu64 " holds the source's row %" PRIu64, a % n, from_a % n);
    }
    return true;
}

static bool tell_experts(search *s, uint64_t row, char *out, size_t cap)
{
    const qn_checked_tensor *t = s->t;
    size_t part = (size_t)(row / t->n_rows);
    qn_checked_tensor_decode(t, row, 1, s->y);
    for (size_t e = 0; e < t->n_parts && t->n_parts > 1; e++) {
        if (e != part && with_source_row(s, t, e, row % t->n_rows) > s->same) {
            (void)snprintf(out, cap, "expert %zu holds the source's expert %zu", part, e);
            return true;
        }
    }
    return false;
}

static bool tell_tensors(search *s, const qn_checked_tensor *all, size_t n_all, uint64_t row, char *out, size_t cap)
{
    const qn_checked_tensor *t = s->t;
    qn_checked_tensor_decode(t, row, 1, s->y);
    for (size_t i = 0; i < n_all; i++) {
        const qn_checked_tensor *o = &all[i];
        bool shaped = o != t && o->n_rows == t->n_rows && o->n_cols == t->n_cols && o->n_parts == t->n_parts;
        if (shaped && with_source_row(s, o, (size_t)(row / t->n_rows), row % t->n_rows) > s->same) {
            (void)snprintf(out, cap, "holds the values of %s", o->name);
            return true;
        }
    }
    return false;
}

/* Blocks moved along the row, up to eight places. */
static bool tell_shift(search *s, uint64_t row, char *out, size_t cap)
{
    const qn_checked_tensor *t = s->t;
    size_t block = qn_checked_tensor_block(t), n = (size_t)t->n_cols;
    const float *x = s->x;
    qn_checked_tensor_decode(t, row, 1, s->y);
    t->read(t->user, (size_t)(row / t->n_rows), row % t->n_rows, 1, s->x);
    for (size_t k = 1; k <= 8 && block > 1 && k * block + block <= n; k++) {
        size_t moved = k * block;
        double later = correlation(s->y + moved, x, n - moved), earlier = correlation(s->y, x + moved, n - moved);
        if (later > s->same || earlier > s->same) {
            (void)snprintf(out, cap, "row %" PRIu64 " is shifted by %zu block%s %s", row % t->n_rows, k, k == 1 ? "" : "s",
                           later > s->same ? "towards its end" : "towards its beginning");
            return true;
        }
    }
    return false;
}

/* What a type leaves of a row decides how like its source the right row is: 0.99 at four bits, 0.6 to 0.9 for ternary codes. False: the row is
 * too little like itself to be told from others. */
static bool set_limits(search *s, uint64_t row)
{
    const qn_checked_tensor *t = s->t;
    size_t n = (size_t)t->n_cols;
    t->read(t->user, (size_t)(row / t->n_rows), row % t->n_rows, 1, s->x);
    qn_checked_tensor_plain(t, s->x, s->y, n);
    double usual = correlation(s->x, s->y, n);
    s->same = usual > 0.95 ? 0.9 : 0.8 * usual;
    s->different = 0.5 * usual;
    return usual > 0.3;
}

/* Where the fault begins: what tells most of it. */
static const qn_fault_count *find_count(const qn_tensor_figures *f)
{
    static const qn_fault_kind kinds[] = {QN_FAULT_NOT_EQUAL, QN_FAULT_ERROR, QN_FAULT_NOT_ENCODER};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (f->faults[kinds[i]].n_blocks > 0) {
            return &f->faults[kinds[i]];
        }
    }
    return NULL;
}

quern_status qn_diagnose(const qn_checked_tensor *all, size_t n_all, size_t index, const qn_tensor_figures *f, char *out, size_t cap,
                         quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_checked_tensor *t = &all[index];
    const qn_fault_count *c = find_count(f);
    search s = {.t = t, .cap_rows = 256};
    s.cap_rows = s.cap_rows < t->n_rows ? s.cap_rows : (size_t)t->n_rows;
    out[0] = '\0';
    if (c == NULL) {
        return QUERN_OK;
    }
    size_t n_cols = (size_t)t->n_cols;
    s.y = qn_malloc_array(n_cols, sizeof *s.y);
    s.x = qn_malloc_array(s.cap_rows * n_cols, sizeof *s.x);
    if (s.y == NULL || s.x == NULL) {
        QN_FAIL_MEMORY(err, "the diagnosis of a tensor", s.cap_rows * n_cols * sizeof *s.x);
    }
    uint64_t a = c->first.row, b = c->n_rows > 1 ? c->second.row : a;
    if (tell_zeros(&s, a, out, cap) || !set_limits(&s, a)) {
        goto done;
    }
    qn_checked_tensor_decode(t, a, 1, s.y);
    if (with_source_row(&s, t, (size_t)(a / t->n_rows), a % t->n_rows) > s.different) {
        goto done; /* the right row, damaged */
    }
    if (!tell_experts(&s, a, out, cap) && !tell_tensors(&s, all, n_all, a, out, cap) && !tell_rows(&s, a, b, out, cap)) {
        (void)tell_shift(&s, a, out, cap);
    }
done:
    qn_free(s.y);
    qn_free(s.x);
    return status;
}
