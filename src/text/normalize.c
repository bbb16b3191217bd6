/* normalize.c - Unicode classes and normalization forms, from utf8proc's tables.
 *
 * utf8proc orders combining marks by exchanging neighbours, which is quadratic for hostile text; so characters are decomposed here one by
 * one, ordered by counting, and only composed by utf8proc. Text is normalized between characters that can neither be changed nor combine
 * with what stands before them; long stretches of ordinary text are copied.
 */
#include "text/normalize.h"

#include <string.h>
#include <utf8proc.h>

#include "base/alloc.h"
#include "base/utf8.h"

/* ---- classes ---- */

#define OTHER_SYMBOL (QN_CLASS_S | QN_CLASS_OTHER)
#define OTHER_PUNCT (QN_CLASS_P | QN_CLASS_OTHER)
#define UPPER_LETTER (QN_CLASS_L | QN_CLASS_UPPER | QN_CLASS_WORD)
#define LOWER_LETTER (QN_CLASS_L | QN_CLASS_LOWER | QN_CLASS_WORD)
#define BOTH_LETTER (UPPER_LETTER | LOWER_LETTER)
#define MARK (QN_CLASS_M | QN_CLASS_UPPER | QN_CLASS_LOWER | QN_CLASS_WORD | QN_CLASS_OTHER)
#define NUMBER (QN_CLASS_N | QN_CLASS_WORD)
#define LINE (QN_CLASS_SPACE | QN_CLASS_NEWLINE)

/* clang-format off */
#define X4(v) v, v, v, v
#define X26(v) X4(v), X4(v), X4(v), X4(v), X4(v), X4(v), v, v
const uint16_t qn_ascii_class[128] = {
    X4(QN_CLASS_OTHER), X4(QN_CLASS_OTHER), QN_CLASS_OTHER, QN_CLASS_SPACE, LINE, QN_CLASS_SPACE, /* up to VT */
    QN_CLASS_SPACE, LINE, QN_CLASS_OTHER, QN_CLASS_OTHER, X4(QN_CLASS_OTHER), X4(QN_CLASS_OTHER), X4(QN_CLASS_OTHER), X4(QN_CLASS_OTHER),
    QN_CLASS_SPACE, OTHER_PUNCT, OTHER_PUNCT, OTHER_PUNCT, OTHER_SYMBOL, OTHER_PUNCT, OTHER_PUNCT, OTHER_PUNCT,  /* ' ' ! " # $ % & ' */
    OTHER_PUNCT, OTHER_PUNCT, OTHER_PUNCT, OTHER_SYMBOL, X4(OTHER_PUNCT),                                        /* ( ) * + , - . / */
    X4(NUMBER), X4(NUMBER), NUMBER, NUMBER,
    OTHER_PUNCT, OTHER_PUNCT, OTHER_SYMBOL, OTHER_SYMBOL, OTHER_SYMBOL, OTHER_PUNCT, OTHER_PUNCT,                /* : ; < = > ? @ */
    X26(UPPER_LETTER),
    OTHER_PUNCT, OTHER_PUNCT, OTHER_PUNCT, OTHER_SYMBOL, OTHER_PUNCT | QN_CLASS_WORD, OTHER_SYMBOL,              /* [ \ ] ^ _ ` */
    X26(LOWER_LETTER),
    OTHER_PUNCT, OTHER_SYMBOL, OTHER_PUNCT, OTHER_SYMBOL, QN_CLASS_OTHER                                         /* { | } ~ DEL */
};
/* clang-format on */

static bool is_white_space(uint32_t cp)
{
    return cp == 0x20 || (cp >= 9 && cp <= 13) || cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

uint32_t qn_unicode_class(uint32_t cp)
{
    static const uint16_t of_category[32] = {[UTF8PROC_CATEGORY_LU] = UPPER_LETTER,   [UTF8PROC_CATEGORY_LT] = UPPER_LETTER,
                                             [UTF8PROC_CATEGORY_LL] = LOWER_LETTER,   [UTF8PROC_CATEGORY_LM] = BOTH_LETTER,
                                             [UTF8PROC_CATEGORY_LO] = BOTH_LETTER,    [UTF8PROC_CATEGORY_MN] = MARK,
                                             [UTF8PROC_CATEGORY_MC] = MARK,           [UTF8PROC_CATEGORY_ME] = MARK,
                                             [UTF8PROC_CATEGORY_ND] = NUMBER,         [UTF8PROC_CATEGORY_NL] = NUMBER,
                                             [UTF8PROC_CATEGORY_NO] = QN_CLASS_N,     [UTF8PROC_CATEGORY_PC] = OTHER_PUNCT | QN_CLASS_WORD,
                                             [UTF8PROC_CATEGORY_PD] = OTHER_PUNCT,    [UTF8PROC_CATEGORY_PS] = OTHER_PUNCT,
                                             [UTF8PROC_CATEGORY_PE] = OTHER_PUNCT,    [UTF8PROC_CATEGORY_PI] = OTHER_PUNCT,
                                             [UTF8PROC_CATEGORY_PF] = OTHER_PUNCT,    [UTF8PROC_CATEGORY_PO] = OTHER_PUNCT,
                                             [UTF8PROC_CATEGORY_SM] = OTHER_SYMBOL,   [UTF8PROC_CATEGORY_SC] = OTHER_SYMBOL,
                                             [UTF8PROC_CATEGORY_SK] = OTHER_SYMBOL,   [UTF8PROC_CATEGORY_SO] = OTHER_SYMBOL,
                                             [UTF8PROC_CATEGORY_CN] = QN_CLASS_OTHER, [UTF8PROC_CATEGORY_CC] = QN_CLASS_OTHER,
                                             [UTF8PROC_CATEGORY_CF] = QN_CLASS_OTHER, [UTF8PROC_CATEGORY_CS] = QN_CLASS_OTHER,
                                             [UTF8PROC_CATEGORY_CO] = QN_CLASS_OTHER, [UTF8PROC_CATEGORY_ZS] = QN_CLASS_OTHER,
                                             [UTF8PROC_CATEGORY_ZL] = QN_CLASS_OTHER, [UTF8PROC_CATEGORY_ZP] = QN_CLASS_OTHER};
    if (cp < 128) {
        return qn_ascii_class[cp];
    }
    if (cp > 0x10ffff) {
        return QN_CLASS_OTHER;
    }
    return is_white_space(cp) ? QN_CLASS_SPACE : of_category[(unsigned)utf8proc_category((utf8proc_int32_t)cp) & 31u];
}

uint32_t qn_class_at(const char *s, size_t n, size_t i, size_t *next)
{
    unsigned char c = (unsigned char)s[i];
    if (c < 128) {
        *next = i + 1;
        return qn_ascii_class[c];
    }
    uint32_t cp;
    *next = i + qn_utf8_decode(s + i, n - i, &cp);
    return qn_unicode_class(cp);
}

/* ---- normalization forms ---- */

/* True for characters that NFC leaves alone and that never combine with the one before: combining class 0 and NFC_Quick_Check=Yes in all
 * of these ranges. A character outside merely takes the slower way. */
static bool is_plain_nfc(uint32_t cp)
{
    static const struct {
        uint32_t first, last;
    } plain[] = {
        {0, 0x2ff},       {0x3a3, 0x482},     {0x48a, 0x52f},     {0x1e00, 0x1eff},   {0x2010, 0x2027}, {0x2030, 0x205e},
        {0x2070, 0x2071}, {0x2074, 0x208e},   {0x20a0, 0x20c0},   {0x2190, 0x2328},   {0x232b, 0x23ff}, {0x2500, 0x2adb},
        {0x3001, 0x3029}, {0x3041, 0x3096},   {0x309b, 0x30ff},   {0x3400, 0x4dbf},   {0x4e00, 0x9fff}, {0xac00, 0xd7a3},
        {0xff01, 0xff9d}, {0x1f300, 0x1f64f}, {0x1f680, 0x1f6d7}, {0x1f900, 0x1f9ff},
    };
    size_t low = 0, high = sizeof plain / sizeof plain[0];
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (cp > plain[mid].last) {
            low = mid + 1;
        } else if (cp < plain[mid].first) {
            high = mid;
        } else {
            return true;
        }
    }
    return false;
}

static bool is_plain(qn_normal_op op, uint32_t cp) { return op == QN_NORMAL_NFC ? is_plain_nfc(cp) : cp < 128; }

/* Decomposed characters of one stretch. */
typedef struct stretch {
    utf8proc_int32_t *cps, *sorted;
    size_t n, cap;
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

/* Normalizes valid UTF-8 s[0..n) and appends it to out. */
static bool normalize_stretch(stretch *z, qn_normal_op op, const char *s, size_t n, qn_buf *out)
{
    bool compatible = op == QN_NORMAL_NFKC || op == QN_NORMAL_NFKD, compose = op == QN_NORMAL_NFC || op == QN_NORMAL_NFKC;
    unsigned options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0u);
    z->n = 0;
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
        if (!qn_buf_append(out, bytes, len)) {
            return false;
        }
    }
    return true;
}

/* Ends of the next part to treat: a stretch [*begin, *end) to normalize; what lies before *begin is copied. False if all is plain. */
static bool find_stretch(qn_normal_op op, const char *s, size_t n, size_t from, size_t *begin, size_t *end)
{
    size_t plain_at = from; /* the last plain character: it may combine with what follows */
    bool have_plain = false;
    size_t i = from;
    while (i < n) {
        if ((unsigned char)s[i] < 128) {
            plain_at = i++;
            have_plain = true;
            continue;
        }
        uint32_t cp;
        size_t len = qn_utf8_decode(s + i, n - i, &cp);
        if (cp == QN_UTF8_INVALID) {
            have_plain = false;
        } else if (is_plain(op, cp)) {
            plain_at = i;
            have_plain = true;
        } else {
            break;
        }
        i += len;
    }
    if (i == n) {
        return false;
    }
    *begin = have_plain ? plain_at : i;
    while (i < n) {
        uint32_t cp;
        size_t len = qn_utf8_decode(s + i, n - i, &cp);
        if (cp == QN_UTF8_INVALID || is_plain(op, cp)) {
            break;
        }
        i += len;
    }
    *end = i;
    return true;
}

/* Output of a step: text and, if kept, trust. */
static bool put(qn_marked_text *out, const char *s, size_t n) { return qn_buf_append(&out->text, s, n); }
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
    *changed = false;
    for (size_t at = 0; ok && find_stretch(op, s, n, at, &begin, &end); at = end) {
        size_t before_copy = out->text.len;
        ok = put(out, s + copied, begin - copied) && put_trust(out, trust != NULL ? trust + copied : NULL, begin - copied);
        size_t before = out->text.len;
        ok = ok && normalize_stretch(&z, op, s + begin, end - begin, &out->text);
        if (!ok) {
            break;
        }
        bool same = out->text.len - before == end - begin && memcmp(out->text.data + before, s + begin, end - begin) == 0;
        if (same && !*changed) { /* nothing has changed so far: forget the copy */
            out->text.len = before_copy;
            if (out->has_trust) {
                out->trust.len = before_copy;
            }
            continue;
        }
        *changed = true;
        ok = same ? put_trust(out, trust != NULL ? trust + begin : NULL, end - begin)
                  : put_trust_value(out, before, trust == NULL || all_trusted(trust + begin, end - begin));
        copied = end;
    }
    if (ok && *changed) {
        ok = put(out, s + copied, n - copied) && put_trust(out, trust != NULL ? trust + copied : NULL, n - copied);
    }
    qn_free(z.cps);
    qn_free(z.sorted);
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
        if (!run_step(&z->steps[i], s, n, trust, to, &changed)) {
            if (max_len - to->text.len < n + QN_NORMAL_TEXT_MAX) { /* the append that failed was at most this long */
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
