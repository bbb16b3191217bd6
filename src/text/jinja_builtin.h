/* jinja_builtin.h - what templates can call that is not written in a template: filters, tests, methods, global functions.
 *
 * Every one is a row of a static table. Its arguments are bound to its parameters as Python does, then its function
 * gets them in order; an argument that was not given is QN_JV_MISSING.
 */
#ifndef QN_TEXT_JINJA_BUILTIN_H
#define QN_TEXT_JINJA_BUILTIN_H

#include "text/jinja_value.h"

typedef struct qn_jkeyword {
    qn_jstr *name;
    qn_jval value;
} qn_jkeyword;

typedef struct qn_jargs {
    const qn_jval *positional;
    size_t n;
    const qn_jkeyword *keywords;
    size_t n_keywords;
} qn_jargs;

enum { QN_JPARAMS_MAX = 8 };

struct qn_jbuiltin {
    const char *name;
    const char *params; /* "s,width,first": the value of a filter or test, the object of a method come first; NULL: raw */
    uint8_t required;   /* of them, without the first value */
    bool positional_only;
    bool (*bound)(qn_jrun *run, const qn_jval *args, qn_jval *out);
    bool (*raw)(qn_jrun *run, qn_jval self, const qn_jargs *args, qn_jval *out);
};

/* Calls b; self is the filtered value, the tested value or the method's object, and missing for a global function. */
bool qn_jbuiltin_call(qn_jrun *run, const qn_jbuiltin *b, qn_jval self, const qn_jargs *args, qn_jval *out);

typedef struct qn_jtable {
    const qn_jbuiltin *rows; /* sorted by name */
    size_t n;
} qn_jtable;
const qn_jbuiltin *qn_jtable_find(qn_jtable table, const char *name, size_t len);

const qn_jbuiltin *qn_jfilter_find(const char *name, size_t len);
const qn_jbuiltin *qn_jtest_find(const char *name, size_t len);
const qn_jbuiltin *qn_jglobal_find(const char *name, size_t len);

extern const qn_jtable qn_jfilters_text, qn_jfilters_list, qn_jfilters_lazy, qn_jfilters_value;
extern const qn_jtable qn_jmethods_str, qn_jmethods_str_more, qn_jmethods_dict, qn_jmethods_list, qn_jmethods_tuple, qn_jmethods_int,
    qn_jmethods_float, qn_jmethods_loop, qn_jmethods_cycler, qn_jmethods_range;

/* ---- reading arguments; `what` names the callable in messages ---- */

/* An int argument (bools count); `fallback` if missing. Floats and others fail. */
bool qn_jarg_int(qn_jrun *run, qn_jval v, int64_t fallback, int64_t *out);
/* A string argument; anything else fails. */
bool qn_jarg_str(qn_jrun *run, qn_jval v, const char *what, qn_jstr **out);
static inline bool qn_jarg_given(qn_jval v) { return v.kind != QN_JV_MISSING && v.kind != QN_JV_NONE; }

/* ---- shared by several tables ---- */

/* How filters find `attribute` in an item: parts of a dotted path. */
bool qn_jattribute_parts(qn_jrun *run, qn_jval attribute, qn_jval *parts);
bool qn_jattribute_get(qn_jrun *run, qn_jval item, const qn_jlist *parts, qn_jval fallback, qn_jval *out);
/* Stable order of keys by `<` (`>` if reverse): order[i] is the number of the key that comes i-th. */
bool qn_jsort(qn_jrun *run, const qn_jval *keys, size_t n, bool reverse, uint32_t *order);
/* Adds the arguments of dict() and namespace(): a mapping or pairs, then keywords. */
bool qn_jdict_fill(qn_jrun *run, const qn_jargs *args, qn_jdict *into);
/* A string in lower case, anything else itself: keys of case-insensitive filters. */
bool qn_jignore_case(qn_jrun *run, qn_jval v, qn_jval *out);

/* str methods that filters use too */
typedef enum qn_jcase_change { QN_TO_UPPER, QN_TO_LOWER, QN_TO_FOLDED, QN_TO_TITLE, QN_TO_CAPITALIZED, QN_TO_SWAPPED } qn_jcase_change;
bool qn_jstr_change_case(qn_jrun *run, qn_jstr *s, qn_jcase_change change, qn_jval *out);
enum { QN_STRIP_LEFT = 1, QN_STRIP_RIGHT = 2 };
bool qn_jstr_strip(qn_jrun *run, qn_jstr *s, qn_jval chars, int sides, qn_jval *out);
bool qn_jstr_replace(qn_jrun *run, qn_jstr *s, qn_jstr *from, qn_jstr *to, int64_t count, qn_jval *out);
bool qn_jstr_split_lines(qn_jrun *run, qn_jstr *s, bool keep_ends, qn_jval *out);
/* The line that begins at `from`: it ends at *end, the next one begins at *next. */
void qn_jstr_line(const qn_jstr *s, size_t from, size_t *end, size_t *next);
bool qn_jstr_wrap(qn_jrun *run, qn_jstr *s, int64_t width, bool break_words, qn_jstr *separator, bool break_hyphens, qn_jval *out);
bool qn_jpretty(qn_jrun *run, qn_jval v, qn_jval *out); /* pprint.pformat */
bool qn_jstr_center(qn_jrun *run, qn_jstr *s, int64_t width, qn_jval fill, qn_jval *out);
bool qn_jstr_split_space(qn_jrun *run, qn_jstr *s, int64_t max_splits, qn_jval *out);
/* Puts `separator` between the items of an iterable. to_text: items are converted, else they must be strings. */
bool qn_jstr_join(qn_jrun *run, qn_jstr *separator, qn_jval iterable, bool to_text, qn_jval *out);
/* One character of s at byte `at` decoded; returns its bytes. */
size_t qn_jstr_char(const qn_jstr *s, size_t at, uint32_t *cp);

/* jinja_format.c */
bool qn_jformat_percent(qn_jrun *run, qn_jstr *format, qn_jval values, qn_jval *out);
/* Everything outside of ASCII in s as escapes, for ascii(). */
bool qn_jascii(qn_jrun *run, qn_jstr *s, qn_jval *out);
bool qn_jformat_braces(qn_jrun *run, qn_jstr *format, const qn_jargs *args, qn_jval mapping, qn_jval *out);
/* format(value, spec) of Python's mini-language, appended to b. */
struct qn_jbuf;
bool qn_jformat_spec(struct qn_jbuf *b, qn_jval value, const char *spec, size_t len);
/* The time `now` as strftime would write it in UTC. */
bool qn_jformat_time(qn_jrun *run, int64_t now, const qn_jstr *format, qn_jval *out);

/* jinja_number.c: Python's int() and float() of a value. *ok is false where Python raises TypeError or ValueError. */
bool qn_jto_int(qn_jrun *run, qn_jval v, int64_t base, bool *ok, int64_t *out);
bool qn_jto_float(qn_jrun *run, qn_jval v, bool *ok, double *out);
bool qn_jfloat_to_int(qn_jrun *run, double d, int64_t *out);
bool qn_jround(qn_jrun *run, qn_jval v, int64_t digits, qn_jval *out);

#endif
