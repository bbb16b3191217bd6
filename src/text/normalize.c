/* normalize.c - normalization forms, from utf8proc's tables.
 *
 * Text that already has the form is only read. A stretch that may change begins at the last character before it that can neither be
 * changed nor combine with what stands before it, and ends where the next such character begins.
 * utf8proc orders combining marks by exchanging neighbours, which is quadratic for hostile text; so characters are decomposed here one by
 * one, ordered by counting, and only composed by utf8proc.
 * Characters newer than the normalizer's Unicode version (QN_CLASS_NEW) never reach utf8proc, so that its version does not matter.
 */
#include "text/normalize.h"

#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/utf8.h"

/* ---- normalization forms ---- */

/* One stretch: its characters, decomposed, and the normalized text. */
typedef struct stretch {
    utf8proc_int32_t *cps, *sorted;
    size_t n, cap;
    qn_buf text;
} stretch;

static bool stretch_reserve(stretch *z, size_t extra)
{
    if (z->cap - z->n >= extra) {
        return true;
    }
    size_t cap = (z->n + extra) * 2;
    utf8proc_int32_t *cps = qn_realloc_array(z->cps, cap, sizeof *cps);
    if (cps == NULL) {
        return false;
    }
    z->cps = cps;
    utf8proc_int32_t *sorted = qn_realloc_array(z->sorted, cap, sizeof *sorted);
    if (sorted == NULL) {
        return false;
    }
    z->sorted = sorted;
    z->cap = cap;
    return true;
}

static unsigned combining_class(utf8proc_int32_t cp) { return (unsigned)utf8proc_get_property(cp)->combining_class & 255u; }

/* Orders a run of combining marks by class, equal classes as they stand (Canonical Ordering Algorithm, D109). */
static void order_marks(utf8proc_int32_t *marks, utf8proc_int32_t *work, size_t n)
{
    size_t begin[257] = {0};
    for (size_t i = 0; i < n; i++) {
        begin[combining_class(marks[i]) + 1]++;
    }
    for (size_t c = 1; c < 257; c++) {
        begin[c] += begin[c - 1];
    }
    for (size_t i = 0; i < n; i++) {
        work[begin[combining_class(marks[i])]++] = marks[i];
    }
    memcpy(marks, work, n * sizeof *marks);
}

static void order_all_marks(stretch *z)
{
    for (size_t i = 0; i < z->n;) {
        unsigned class = combining_class(z->cps[i]);
        if (class == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        bool ordered = true;
        for (unsigned c; end < z->n && (c = combining_class(z->cps[end])) != 0; end++) {
            ordered = ordered && c >= class;
            class = c;
        }
        if (!ordered) {
            order_marks(z->cps + i, z->sorted, end - i);
        }
        i = end;
    }
}

/* Normalizes valid UTF-8 s[0..n) into z->text. */
static bool normalize_stretch(stretch *z, qn_normal_op op, const char *s, size_t n)
{
    bool compatible = op == QN_NORMAL_NFKC || op == QN_NORMAL_NFKD, compose = op == QN_NORMAL_NFC || op == QN_NORMAL_NFKC;
    unsigned options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0u);
    z->n = 0;
    qn_buf_reset(&z->text);
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        i += qn_utf8_decode(s + i, n - i, &cp);
        int boundary = UTF8PROC_BOUNDCLASS_START;
        utf8proc_ssize_t got = 0, room;
        do { /* the longest decomposition has 18 characters */
            if (!stretch_reserve(z, got > 0 ? (size_t)got : 18)) {
                return false;
            }
            room = (utf8proc_ssize_t)(z->cap - z->n);
            got = utf8proc_decompose_char((utf8proc_int32_t)cp, z->cps + z->n, room, (utf8proc_option_t)options, &boundary);
        } while (got > room);
        z->n += got > 0 ? (size_t)got : 0;
    }
    order_all_marks(z);
    if (compose) {
        utf8proc_ssize_t left = utf8proc_normalize_utf32(z->cps, (utf8proc_ssize_t)z->n,
                                                         (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
        z->n = left > 0 ? (size_t)left : 0;
    }
    for (size_t i = 0; i < z->n; i++) {
        char bytes[4];
        size_t len = qn_utf8_encode((uint32_t)z->cps[i], bytes);
        if (!qn_buf_append(&z->text, bytes, len)) {
            return false;
        }
    }
    return true;
}

/* What a character is to one form. */
typedef enum role {
    ROLE_PLAIN,   /* stays as it is, and never combines with what stands before it */
    ROLE_MARK,    /* the same of a combining mark that stands in order */
    ROLE_BARRIER, /* stands alone: no UTF-8, or newer than the normalizer */
    ROLE_OTHER
} role;

static role role_of(qn_normal_op op, uint32_t cp)
{
    uint32_t class = qn_unicode_class(cp);
    if (cp == QN_UTF8_INVALID || (class & QN_CLASS_NEW) != 0) {
        return ROLE_BARRIER;
    }
    if (op != QN_NORMAL_NFC) {
        return cp < 128 ? ROLE_PLAIN : ROLE_OTHER;
    }
    return (class & QN_CLASS_NFC_YES) != 0 ? ROLE_PLAIN : (class & QN_CLASS_NFC_MARK) != 0 ? ROLE_MARK : ROLE_OTHER;
}

/* End of the ASCII at s[i], eight bytes at a time. */
static size_t skip_ascii(const char *s, size_t n, size_t i)
{
    uint64_t eight;
    for (; n - i >= sizeof eight; i += sizeof eight) {
        memcpy(&eight, s + i, sizeof eight);
        if ((eight & UINT64_C(0x8080808080808080)) != 0) {
            break;
        }
    }
    while (i < n && (unsigned char)s[i] < 128) {
        i++;
    }
    return i;
}

/* The next stretch that may change, [*begin, *end); `from` is the beginning of the text or the end of the stretch before. False if none. */
static bool find_stretch(qn_normal_op op, const char *s, size_t n, size_t from, size_t *begin, size_t *end)
{
    size_t i = from, start = from, len = 0; /* start: the last plain character, or the place behind the last barrier */
    unsigned class_before = 0;
    uint32_t cp;
    for (; i < n; i += len) {
        if ((unsigned char)s[i] < 128) {
            i = skip_ascii(s, n, i);
            start = i - 1;
            class_before = 0;
            if (i == n) {
                return false;
            }
        }
        len = qn_utf8_decode(s + i, n - i, &cp);
        role r = role_of(op, cp);
        if (r == ROLE_OTHER) {
            break;
        }
        if (r == ROLE_MARK) {
            unsigned class = combining_class((utf8proc_int32_t)cp);
            if (class < class_before) {
                break;
            }
            class_before = class;
            continue;
        }
        start = r == ROLE_PLAIN ? i : i + len;
        class_before = 0;
    }
    if (i >= n) {
        return false;
    }
    *begin = start;
    while (i < n) {
        len = qn_utf8_decode(s + i, n - i, &cp);
        role r = role_of(op, cp);
        if (r == ROLE_PLAIN || r == ROLE_BARRIER) {
            break;
        }
        i += len;
    }
    *end = i;
    return true;
}

/* Output of a step: text and, if kept, trust. */
static bool put(qn_marked_text *out, const char *s, size_t n)
{
    out->too_long = out->too_long || n > out->text.max_len - out->text.len;
    return qn_buf_append(&out->text, s, n);
}

static bool put_trust(qn_marked_text *out, const char *trust, size_t n) { return !out->has_trust || qn_buf_append(&out->trust, trust, n); }

static bool all_trusted(const char *trust, size_t n) { return memchr(trust, 0, n) == NULL; }

/* Marks what was appended since `before` with one value. */
static bool put_trust_value(qn_marked_text *out, size_t before, bool trusted)
{
    for (size_t i = before; out->has_trust && i < out->text.len; i++) {
        if (!qn_buf_append_char(&out->trust, trusted ? 1 : 0)) {
            return false;
        }
    }
    return true;
}

/* All steps have this form: *changed false means the text stays as it is and out is not to be used. */
static bool run_form(qn_normal_op op, const char *s, size_t n, const char *trust, qn_marked_text *out, bool *changed)
{
    stretch z = {0};
    size_t copied = 0, begin, end;
    bool ok = true;
    qn_buf_init(&z.text, SIZE_MAX / 2);
    *changed = false;
    for (size_t at = 0; ok && find_stretch(op, s, n, at, &begin, &end); at = end) {
        ok = normalize_stretch(&z, op, s + begin, end - begin);
        if (!ok || (z.text.len == end - begin && memcmp(qn_buf_text(&z.text), s + begin, end - begin) == 0)) {
            continue; /* what has not changed is copied with what follows, if at all */
        }
        ok = put(out, s + copied, begin - copied) && put_trust(out, trust != NULL ? trust + copied : NULL, begin - copied);
        size_t before = out->text.len;
        ok = ok && put(out, qn_buf_text(&z.text), z.text.len) &&
             put_trust_value(out, before, trust == NULL || all_trusted(trust + begin, end - begin));
        *changed = true;
        copied = end;
    }
    if (ok && *changed) {
        ok = put(out, s + copied, n - copied) && put_trust(out, trust != NULL ? trust + copied : NULL, n - copied);
    }
    qn_free(z.cps);
    qn_free(z.sorted);
    qn_buf_deinit(&z.text);
    return ok;
}

static bool run_replace(const qn_normal_step *step, const char *s, size_t n, const char *trust, qn_marked_text *out, bool *changed)
{
    size_t from_len = step->from_len, copied = 0;
    *changed = false;
    for (size_t i = 0; i + from_len <= n;) {
        const char *hit = memchr(s + i, step->from[0], n - from_len + 1 - i);
        if (hit == NULL) {
            break;
        }
        i = (size_t)(hit - s);
        if (memcmp(hit, step->from, from_len) != 0) {
            i++;
            continue;
        }
        if (!put(out, s + copied, i - copied) || !put_trust(out, trust != NULL ? trust + copied : NULL, i - copied)) {
            return false;
        }
        size_t before = out->text.len;
        if (!put(out, step->to, step->to_len) || !put_trust_value(out, before, trust == NULL || all_trusted(trust + i, from_len))) {
            return false;
        }
        i += from_len;
        copied = i;
        *changed = true;
    }
    return !*changed || (put(out, s + copied, n - copied) && put_trust(out, trust != NULL ? trust + copied : NULL, n - copied));
}

static bool run_prepend(const qn_normal_step *step, const char *s, size_t n, const char *trust, qn_marked_text *out, bool *changed)
{
    *changed = n > 0 && step->to_len > 0;
    return !*changed ||
           (put(out, step->to, step->to_len) && put_trust_value(out, out->text.len - step->to_len, trust == NULL || trust[0] != 0) &&
            put(out, s, n) && put_trust(out, trust, n));
}

size_t qn_normal_len_max(size_t n)
{
    size_t max;
    return qn_size_mul(n, 32, &max) && qn_size_add(max, 65536, &max) ? max : SIZE_MAX / 2;
}

static bool run_step(const qn_normal_step *step, const char *s, size_t n, const char *trust, qn_marked_text *out, bool *changed)
{
    switch (step->op) {
    case QN_NORMAL_PREPEND: return run_prepend(step, s, n, trust, out, changed);
    case QN_NORMAL_REPLACE: return run_replace(step, s, n, trust, out, changed);
    case QN_NORMAL_NFC:
    case QN_NORMAL_NFD:
    case QN_NORMAL_NFKC:
    case QN_NORMAL_NFKD: break;
    }
    return run_form(step->op, s, n, trust, out, changed);
}

quern_status qn_normalize(const qn_normalizer *z, const char *s, size_t n, const char *trust, qn_marked_text work[2], const char **out,
                          size_t *out_len, const char **out_trust, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t max_len = qn_normal_len_max(n), next_work = 0;
    for (size_t i = 0; i < z->n_steps; i++) {
        qn_marked_text *to = &work[next_work];
        bool changed;
        qn_buf_reset(&to->text);
        qn_buf_reset(&to->trust);
        to->text.max_len = to->trust.max_len = max_len;
        to->has_trust = trust != NULL;
        to->too_long = false;
        if (!run_step(&z->steps[i], s, n, trust, to, &changed)) {
            if (to->too_long) {
                QN_FAIL(err, QUERN_ERROR_LIMIT, "normalizing makes a text of %zu bytes longer than %zu", n, max_len);
            }
            QN_FAIL_MEMORY(err, "normalizing a text", to->text.len + n);
        }
        if (changed) {
            s = qn_buf_text(&to->text);
            n = to->text.len;
            trust = trust != NULL ? qn_buf_text(&to->trust) : NULL;
            next_work = 1 - next_work;
        }
    }
    *out = s;
    *out_len = n;
    *out_trust = trust;
done:
    return status;
}
