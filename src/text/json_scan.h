/* json_scan.h - reading the large parts of a tokenizer.json in place.
 *
 * A vocabulary of 150,000 tokens as a tree of JSON values costs half a second and 60 MB; this reads names and numbers one after another
 * instead. Small parts are located here and parsed by base/json.h. Strict: what is no JSON is refused, nesting is limited.
 */
#ifndef QN_TEXT_JSON_SCAN_H
#define QN_TEXT_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

typedef struct qn_json_scan {
    const char *data;
    size_t size, at;
    const char *what;  /* names the source in messages */
    quern_error *err;
    qn_buf unescaped;  /* the last string that had escapes */
} qn_json_scan;

void qn_json_scan_init(qn_json_scan *s, const char *data, size_t size, const char *what, quern_error *err);
void qn_json_scan_deinit(qn_json_scan *s);

/* A failure that names the place. */
quern_status qn_json_scan_fail(qn_json_scan *s, const char *expected);
/* Skips white space; the next character, or '\0' at the end. */
char qn_json_scan_peek(qn_json_scan *s);
/* Takes `c` after white space, or fails. */
quern_status qn_json_scan_expect(qn_json_scan *s, char c);
/* Inside an object or array: *more tells whether another element follows (the comma is taken); else the closing bracket is taken.
 * first: no element has been read. */
quern_status qn_json_scan_more(qn_json_scan *s, char close, bool first, bool *more);
/* A string; *text is valid until the next string is read. */
quern_status qn_json_scan_string(qn_json_scan *s, const char **text, size_t *len);
/* A string and the colon behind it. */
quern_status qn_json_scan_key(qn_json_scan *s, const char **text, size_t *len);
quern_status qn_json_scan_int(qn_json_scan *s, int64_t *out);
/* Any value, skipped: where it stands. Brackets and strings are checked, the rest is not. */
quern_status qn_json_scan_skip(qn_json_scan *s, const char **value, size_t *len);
/* Nothing but white space follows. */
quern_status qn_json_scan_end(qn_json_scan *s);

#endif
