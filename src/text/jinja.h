/* jinja.h - the template engine as chat.c uses it: parse once, render with JSON variables.
 *
 * Knows nothing of models, roles or tokens. What it supports and where it differs from Jinja2 is in docs/templates.md.
 */
#ifndef QN_TEXT_JINJA_H
#define QN_TEXT_JINJA_H

#include "base/json.h"
#include "quern/chat.h"

typedef struct qn_jinja qn_jinja; /* a parsed template; immutable */

quern_status qn_jinja_create(qn_jinja **out, const char *source, size_t len, const char *name, quern_error *err);
void qn_jinja_destroy(qn_jinja *t);
const char *qn_jinja_name(const qn_jinja *t);

/* One variable of the context. Strings in `value` are content unless `trusted`. */
typedef struct qn_jinja_variable {
    const char *name;
    size_t name_len;
    const qn_json *value; /* NULL: none */
    const char *text;     /* instead of value, if not NULL: a string ... */
    size_t text_len;      /* ... of this length */
    bool trusted;
    /* Marks more of the value as trusted: called with the key of each member of an object that is an element of the
     * value's top-level array, and its value; NULL = none. */
    bool (*trust_member)(const char *key, size_t key_len, const qn_json *member);
} qn_jinja_variable;

typedef struct qn_jinja_stats {
    uint64_t steps;
    size_t peak_bytes;
    size_t n_cyclic; /* objects that only the final sweep freed */
} qn_jinja_stats;

/* stats may be NULL. */
quern_status qn_jinja_render(const qn_jinja *t, const qn_jinja_variable *variables, size_t n_variables, int64_t now,
                             const quern_template_limits *limits, quern_prompt *out, qn_jinja_stats *stats, quern_error *err);

#endif
