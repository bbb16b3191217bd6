/* scanners.h - the expressions by which published tokenizers cut text, each as a function that reads the text once.
 *
 * A scanner is recognised by the exact text of the expression in tokenizer.json; a list of scanners by GGUF's name for it.
 */
#ifndef QN_TEXT_SCANNERS_H
#define QN_TEXT_SCANNERS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct qn_scanner qn_scanner;

/* The first match at or after `from` (from < n): s[*begin .. *end), never empty. False if there is none. */
bool qn_scanner_find(const qn_scanner *c, const char *s, size_t n, size_t from, size_t *begin, size_t *end);
/* True if a match begins at every place of every text, so that matches alone cover it. */
bool qn_scanner_is_total(const qn_scanner *c);

/* By the expression's text; NULL if it is not one of them. Line ends may stand for themselves or as \r and \n.
 * after_lines: a step before this one has isolated all line ends. */
const qn_scanner *qn_scanner_find_by_pattern(const char *pattern, size_t len, bool after_lines);
/* The expression, such that qn_scanner_find_by_pattern finds the scanner again. */
const char *qn_scanner_pattern(const qn_scanner *c);
/* The scanners of ByteLevel (use_regex) and Digits. */
const qn_scanner *qn_scanner_gpt2(void);
const qn_scanner *qn_scanner_digit(void);
const qn_scanner *qn_scanner_digits(void);
/* True for the scanner that isolates line ends. */
bool qn_scanner_isolates_lines(const qn_scanner *c);

/* What a tokenizer.ggml.pre stands for. */
enum { QN_PRE_SCANNERS_MAX = 6 };
typedef struct qn_pre {
    const char *name;
    const char *family;                              /* the name under which Quern shows it */
    const qn_scanner *scanners[QN_PRE_SCANNERS_MAX]; /* NULL-terminated unless full; all isolate their matches */
    bool nfc, ignore_merges, add_bos;
} qn_pre;

/* NULL if the name is not known. */
const qn_pre *qn_pre_find(const char *name);
/* The first entry that cuts by exactly these scanners and agrees in normalizer and ignore_merges (any_flags: need not agree).
 * NULL if none. */
const qn_pre *qn_pre_find_by_scanners(const qn_scanner *const *scanners, size_t n, bool nfc, bool ignore_merges, bool any_flags);

#endif
