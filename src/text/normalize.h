/* normalize.h - Unicode character classes and the normalizers of tokenizers. normalize.c is the only file that knows utf8proc.
 *
 * Classes are those of Unicode 16 and normalizing is that of Unicode 9, whatever this machine's libraries know: the tables are ours
 * (unicode_class.c), as Hugging Face's tokenizers 0.23 has them.
 *
 * Every function takes arbitrary bytes: what is no UTF-8 is kept as it is and belongs to no class but QN_CLASS_OTHER.
 */
#ifndef QN_TEXT_NORMALIZE_H
#define QN_TEXT_NORMALIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

/* Classes of a character, as bits. The letters are those of \p{..} in regular expressions. */
enum {
    QN_CLASS_L = 1,         /* \p{L} */
    QN_CLASS_N = 2,         /* \p{N} */
    QN_CLASS_SPACE = 4,     /* \s: the property White_Space */
    QN_CLASS_M = 8,         /* \p{M} */
    QN_CLASS_P = 16,        /* \p{P} */
    QN_CLASS_S = 32,        /* \p{S} */
    QN_CLASS_UPPER = 64,    /* Lu Lt Lm Lo M */
    QN_CLASS_LOWER = 128,   /* Ll Lm Lo M */
    QN_CLASS_WORD = 256,    /* \w: Alphabetic, M, Nd, Pc, Join_Control */
    QN_CLASS_NEWLINE = 512, /* CR and LF */
    QN_CLASS_OTHER = 1024,  /* none of L N SPACE */
    /* What normalizing may do to a character; none of the three: look closer. */
    QN_CLASS_NFC_YES = 2048,  /* NFC neither changes it nor combines it with what stands before it */
    QN_CLASS_NFC_MARK = 4096, /* the same of a combining mark: NFC only orders it among marks */
    QN_CLASS_NEW = 8192       /* unknown to the normalizer: stands alone and stays as it is */
};

/* Classes of a code point (QN_UTF8_INVALID allowed). */
uint32_t qn_unicode_class(uint32_t cp);
/* The same for ASCII, as a table. */
extern const uint16_t qn_ascii_class[128];
/* Classes of the character at s[i], i < n; *next is where the following one begins. */
uint32_t qn_class_at(const char *s, size_t n, size_t i, size_t *next);

typedef enum qn_normal_op {
    QN_NORMAL_NFC,
    QN_NORMAL_NFD,
    QN_NORMAL_NFKC,
    QN_NORMAL_NFKD,
    QN_NORMAL_PREPEND,
    QN_NORMAL_REPLACE
} qn_normal_op;

enum { QN_NORMAL_STEPS_MAX = 16, QN_NORMAL_TEXT_MAX = 64 };

typedef struct qn_normal_step {
    qn_normal_op op;
    uint8_t from_len, to_len;
    char from[QN_NORMAL_TEXT_MAX]; /* REPLACE: what is looked for */
    char to[QN_NORMAL_TEXT_MAX];   /* REPLACE, PREPEND */
} qn_normal_step;

typedef struct qn_normalizer {
    size_t n_steps;
    qn_normal_step steps[QN_NORMAL_STEPS_MAX];
} qn_normalizer;

/* A text, and for each of its bytes whether it is trusted (has_trust false: all are). */
typedef struct qn_marked_text {
    qn_buf text, trust;
    bool has_trust;
    bool too_long; /* an append failed at the longest accepted length, not for want of memory */
} qn_marked_text;

/* The longest normalized text that is accepted for n bytes of input. */
size_t qn_normal_len_max(size_t n);
/* Applies all steps to s[0..n) (trust: NULL or one byte a byte). On success *out and *out_trust are either the input itself, if no step
 * changed it, or point into one of the two work texts. A normalized character is trusted if all it was made of is. */
quern_status qn_normalize(const qn_normalizer *z, const char *s, size_t n, const char *trust, qn_marked_text work[2], const char **out,
                          size_t *out_len, const char **out_trust, quern_error *err);

#endif
