/* term.c - terminals, through isatty and ioctl. Widths: East Asian wide and combining ranges of Unicode, coarse but safe. */
#include "term.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/utf8.h"

static bool locale_is_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *v = getenv(names[i]);
        if (v != NULL && v[0] != '\0') {
            const char *dot = strchr(v, '.');
            return dot != NULL && (strncasecmp(dot, ".utf-8", 6) == 0 || strncasecmp(dot, ".utf8", 5) == 0);
        }
    }
    return false;
}

void qn_term_init(qn_term *t, FILE *file)
{
    const char *no_color = getenv("NO_COLOR"), *name = getenv("TERM");
    *t = (qn_term){.file = file, .is_terminal = isatty(fileno(file)) == 1, .utf8 = locale_is_utf8()};
    bool refused = no_color != NULL && no_color[0] != '\0';
    t->color = t->is_terminal && !refused && name != NULL && strcmp(name, "dumb") != 0;
}

const char *qn_term_style(const qn_term *t, qn_style style)
{
    if (!t->color) {
        return "";
    }
    switch (style) {
    case QN_STYLE_NONE: return "\033[0m";
    case QN_STYLE_BOLD: return "\033[1m";
    case QN_STYLE_DIM: return "\033[2m";
    case QN_STYLE_ACCENT: return "\033[36m";
    case QN_STYLE_GOOD: return "\033[32m";
    case QN_STYLE_WARN: return "\033[33m";
    case QN_STYLE_BAD: return "\033[31m";
    }
    return "";
}

size_t qn_term_columns(const qn_term *t)
{
    struct winsize w;
    if (t->is_terminal && ioctl(fileno(t->file), TIOCGWINSZ, &w) == 0 && w.ws_col > 0) {
        return w.ws_col;
    }
    return 80;
}

typedef struct range {
    uint32_t first, last;
} range;

static bool in_ranges(const range *r, size_t n, uint32_t cp)
{
    for (size_t i = 0; i < n; i++) {
        if (cp >= r[i].first && cp <= r[i].last) {
            return true;
        }
    }
    return false;
}

static size_t char_width(uint32_t cp)
{
    /* combining marks, zero-width signs, variation selectors */
    static const range zero[] = {{0x0300, 0x036f}, {0x0483, 0x0489}, {0x0591, 0x05bd}, {0x0610, 0x061a}, {0x064b, 0x065f},
                                 {0x0900, 0x0902}, {0x093c, 0x093c}, {0x0941, 0x0948}, {0x0e31, 0x0e31}, {0x0e34, 0x0e3a},
                                 {0x0e47, 0x0e4e}, {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x200b, 0x200f}, {0x202a, 0x202e},
                                 {0x2060, 0x2064}, {0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xfeff, 0xfeff}};
    /* East Asian Width W and F, and the pictographs that terminals draw wide */
    static const range wide[] = {{0x1100, 0x115f},  {0x231a, 0x231b},   {0x23e9, 0x23ec},   {0x25fd, 0x25fe},   {0x2614, 0x2615},
                                 {0x2648, 0x2653},  {0x26a1, 0x26a1},   {0x26bd, 0x26be},   {0x2705, 0x2705},   {0x270a, 0x270b},
                                 {0x2728, 0x2728},  {0x274c, 0x274c},   {0x2753, 0x2755},   {0x2e80, 0x303e},   {0x3041, 0xa4cf},
                                 {0xa960, 0xa97c},  {0xac00, 0xd7a3},   {0xf900, 0xfaff},   {0xfe30, 0xfe6f},   {0xff00, 0xff60},
                                 {0xffe0, 0xffe6},  {0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x1fa70, 0x1faff},
                                 {0x20000, 0x3fffd}};
    if (cp < 0x300) {
        return 1;
    }
    if (in_ranges(zero, sizeof zero / sizeof zero[0], cp)) {
        return 0;
    }
    return in_ranges(wide, sizeof wide / sizeof wide[0], cp) ? 2 : 1;
}

size_t qn_text_width(const char *text, size_t len)
{
    size_t width = 0;
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        i += qn_utf8_decode(text + i, len - i, &cp);
        width += cp == QN_UTF8_INVALID ? 1 : char_width(cp);
    }
    return width;
}

size_t qn_text_fit(const char *text, size_t len, size_t columns)
{
    size_t width = 0, i = 0;
    while (i < len) {
        uint32_t cp;
        size_t n = qn_utf8_decode(text + i, len - i, &cp);
        width += cp == QN_UTF8_INVALID ? 1 : char_width(cp);
        if (width > columns) {
            break;
        }
        i += n;
    }
    return i;
}

/* Characters that would move the cursor, change colours or reorder a line. */
static bool is_control(uint32_t cp)
{
    return cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || (cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
}

void qn_text_append_visible(qn_buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        size_t n = qn_utf8_decode(text + i, len - i, &cp);
        if (cp == QN_UTF8_INVALID) {
            (void)qn_buf_printf(out, "\\x%02x", (unsigned)(unsigned char)text[i]);
        } else if (cp == '\n' || cp == '\t' || cp == '\r') {
            (void)qn_buf_append_str(out, cp == '\n' ? "\\n" : cp == '\t' ? "\\t" : "\\r");
        } else if (is_control(cp)) {
            (void)qn_buf_printf(out, cp < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)cp);
        } else {
            (void)qn_buf_append(out, text + i, n);
        }
        i += n;
    }
}

void qn_term_write(const qn_term *t, const char *text, size_t len)
{
    if (!t->is_terminal) {
        (void)fwrite(text, 1, len, t->file);
        return;
    }
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        size_t n = qn_utf8_decode(text + i, len - i, &cp);
        if (cp != QN_UTF8_INVALID && is_control(cp) && cp != '\n' && cp != '\t') {
            (void)fputs(t->utf8 ? "\xef\xbf\xbd" : "?", t->file); /* U+FFFD */
        } else {
            (void)fwrite(text + i, 1, n, t->file);
        }
        i += n;
    }
}
