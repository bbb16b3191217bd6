/* utf8.c - strict UTF-8. The accepted byte ranges are Table 3-7 of the Unicode Standard. */
#include "base/utf8.h"

/* Expected length from a lead byte and the allowed range of the second byte; 0 = no lead byte. */
static size_t lead_info(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (c < 0x80) {
        return 1;
    }
    if (c >= 0xc2 && c <= 0xdf) {
        return 2;
    }
    if (c >= 0xe0 && c <= 0xef) {
        *low = c == 0xe0 ? 0xa0 : 0x80;
        *high = c == 0xed ? 0x9f : 0xbf;
        return 3;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        *low = c == 0xf0 ? 0x90 : 0x80;
        *high = c == 0xf4 ? 0x8f : 0xbf;
        return 4;
    }
    return 0;
}

/* How many bytes at s form a valid beginning of one character; *want is the full length (0 for an invalid lead). */
static size_t match_prefix(const char *s, size_t n, size_t *want)
{
    unsigned char low, high;
    *want = lead_info((unsigned char)s[0], &low, &high);
    if (*want == 0) {
        return 0;
    }
    size_t i = 1;
    for (; i < *want && i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < low || c > high) {
            break;
        }
        low = 0x80;
        high = 0xbf;
    }
    return i;
}

size_t qn_utf8_decode(const char *s, size_t n, uint32_t *cp)
{
    if (n == 0) {
        return 0;
    }
    size_t want;
    size_t have = match_prefix(s, n, &want);
    if (want == 0 || have < want) {
        *cp = QN_UTF8_INVALID;
        return 1;
    }
    static const unsigned char lead_mask[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t v = (unsigned char)s[0] & lead_mask[want];
    for (size_t i = 1; i < want; i++) {
        v = (v << 6) | ((unsigned char)s[i] & 0x3fu);
    }
    *cp = v;
    return want;
}

size_t qn_utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xc0 | (cp >> 6));
        out[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xe0 | (cp >> 12));
        out[1] = (char)(0x80 | ((cp >> 6) & 0x3f));
        out[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | (cp >> 18));
    out[1] = (char)(0x80 | ((cp >> 12) & 0x3f));
    out[2] = (char)(0x80 | ((cp >> 6) & 0x3f));
    out[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

bool qn_utf8_valid(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        if ((unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        uint32_t cp;
        i += qn_utf8_decode(s + i, n - i, &cp);
        if (cp == QN_UTF8_INVALID) {
            return false;
        }
    }
    return true;
}

size_t qn_utf8_complete_prefix(const char *s, size_t n)
{
    /* Only the last three bytes can begin a character that is still open. */
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        size_t want;
        size_t have = match_prefix(s + n - back, back, &want);
        if (want > back && have == back) {
            return n - back;
        }
    }
    return n;
}
