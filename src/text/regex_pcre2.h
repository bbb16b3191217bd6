/* regex_pcre2.h - regular expressions of unknown origin, as tokenizer.json has them; regex_pcre2.c is the only file that knows PCRE2.
 *
 * The expressions are written for Oniguruma; what PCRE2 would read differently is translated or refused, never guessed.
 * Work is limited: a search may take so many steps as are linear in the text, with limits on depth and memory. An expression that needs
 * more ends in QUERN_ERROR_LIMIT.
 */
#ifndef QN_TEXT_REGEX_PCRE2_H
#define QN_TEXT_REGEX_PCRE2_H

#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

typedef struct qn_regex qn_regex;

/* QUERN_ERROR_INVALID for an expression that is none, QUERN_ERROR_UNSUPPORTED for one that cannot be translated. */
quern_status qn_regex_create(qn_regex **out, const char *pattern, size_t len, quern_error *err);
void qn_regex_destroy(qn_regex *r); /* NULL is fine */
/* As it was given. */
const char *qn_regex_pattern(const qn_regex *r, size_t *len);

/* A search through one text. Bytes that are no UTF-8 match nothing and end the text on either side of them. */
typedef struct qn_regex_search qn_regex_search;
quern_status qn_regex_search_create(qn_regex_search **out, const qn_regex *r, const char *s, size_t n, quern_error *err);
void qn_regex_search_destroy(qn_regex_search *f);
/* The next match, maybe empty (never right behind the last match); *found false at the end. */
quern_status qn_regex_search_next(qn_regex_search *f, bool *found, size_t *begin, size_t *end, quern_error *err);

#endif
