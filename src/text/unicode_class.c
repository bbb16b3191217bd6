/* unicode_class.c - classes of characters from the generated tables of unicode_class.inc; no state, no allocation. */
#include "base/utf8.h"
#include "text/normalize.h"

#include "text/unicode_class.inc"

enum { BLOCK_BITS = 8 };

#define OTHER_SYMBOL (QN_CLASS_S | QN_CLASS_OTHER | QN_CLASS_NFC_YES)
#define OTHER_PUNCT (QN_CLASS_P | QN_CLASS_OTHER | QN_CLASS_NFC_YES)
#define CONTROL (QN_CLASS_OTHER | QN_CLASS_NFC_YES)
#define UPPER_LETTER (QN_CLASS_L | QN_CLASS_UPPER | QN_CLASS_WORD | QN_CLASS_NFC_YES)
#define LOWER_LETTER (QN_CLASS_L | QN_CLASS_LOWER | QN_CLASS_WORD | QN_CLASS_NFC_YES)
#define NUMBER (QN_CLASS_N | QN_CLASS_WORD | QN_CLASS_NFC_YES)
#define SPACE (QN_CLASS_SPACE | QN_CLASS_NFC_YES)
#define LINE (SPACE | QN_CLASS_NEWLINE)

/* clang-format off */
#define X4(v) v, v, v, v
#define X26(v) X4(v), X4(v), X4(v), X4(v), X4(v), X4(v), v, v
const uint16_t qn_ascii_class[128] = {
    X4(CONTROL), X4(CONTROL), CONTROL, SPACE, LINE, SPACE,                                                       /* up to VT */
    SPACE, LINE, CONTROL, CONTROL, X4(CONTROL), X4(CONTROL), X4(CONTROL), X4(CONTROL),
    SPACE, OTHER_PUNCT, OTHER_PUNCT, OTHER_PUNCT, OTHER_SYMBOL, OTHER_PUNCT, OTHER_PUNCT, OTHER_PUNCT,           /* ' ' ! " # $ % & ' */
    OTHER_PUNCT, OTHER_PUNCT, OTHER_PUNCT, OTHER_SYMBOL, X4(OTHER_PUNCT),                                        /* ( ) * + , - . / */
    X4(NUMBER), X4(NUMBER), NUMBER, NUMBER,
    OTHER_PUNCT, OTHER_PUNCT, OTHER_SYMBOL, OTHER_SYMBOL, OTHER_SYMBOL, OTHER_PUNCT, OTHER_PUNCT,                /* : ; < = > ? @ */
    X26(UPPER_LETTER),
    OTHER_PUNCT, OTHER_PUNCT, OTHER_PUNCT, OTHER_SYMBOL, OTHER_PUNCT | QN_CLASS_WORD, OTHER_SYMBOL,              /* [ \ ] ^ _ ` */
    X26(LOWER_LETTER),
    OTHER_PUNCT, OTHER_SYMBOL, OTHER_PUNCT, OTHER_SYMBOL, CONTROL                                                /* { | } ~ DEL */
};
/* clang-format on */

uint32_t qn_unicode_class(uint32_t cp)
{
    if (cp > 0x10ffff) {
        return QN_CLASS_OTHER;
    }
    size_t block = BLOCK_OF[cp >> BLOCK_BITS];
    return KINDS[KIND_OF[(block << BLOCK_BITS) | (cp & ((1u << BLOCK_BITS) - 1))]];
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
