/* jinja_string.h - strings whose every character is marked as template or content, and the buffer that builds them.
 *
 * Text is UTF-8 and always valid. Marks are kept as runs of bytes: a string of one mark has no run table, otherwise
 *     ends[0] < ends[1] < ... < ends[n_runs - 1] == len
 * bound runs that alternate, the first with mark `content`. Runs end at character borders.
 */
#ifndef QN_TEXT_JINJA_STRING_H
#define QN_TEXT_JINJA_STRING_H

#include "text/jinja_value.h"

struct qn_jstr {
    qn_jobj head;
    size_t len; /* bytes, without the NUL that follows */
    size_t n_chars;
    uint32_t *ends;
    uint32_t n_runs; /* 0 = one mark for all */
    bool content;
    bool markup; /* markupsafe.Markup: already escaped */
    char data[];
};

/* Longest string in bytes, so that run ends fit 32 bits. */
#define QN_JSTR_MAX ((size_t)UINT32_MAX - 1)

typedef struct qn_jbuf {
    qn_jrun *run;
    qn_jstr *str; /* being built; NULL while empty */
    size_t len, cap;
    size_t max_len; /* appends beyond fail with a limit error */
    uint32_t *ends; /* ends of finished runs */
    size_t n_ends, ends_cap;
    bool first, last; /* marks of the first and of the open run; valid if len > 0 */
} qn_jbuf;

void qn_jbuf_init(qn_jbuf *b, qn_jrun *run);
void qn_jbuf_deinit(qn_jbuf *b);
bool qn_jbuf_reserve(qn_jbuf *b, size_t extra);
bool qn_jbuf_append(qn_jbuf *b, const char *text, size_t len, bool content);
static inline bool qn_jbuf_append_char(qn_jbuf *b, char c, bool content) { return qn_jbuf_append(b, &c, 1, content); }
bool qn_jbuf_append_text(qn_jbuf *b, const char *text, bool content); /* up to the NUL */
bool qn_jbuf_append_code_point(qn_jbuf *b, uint32_t cp, bool content);
bool qn_jbuf_append_str(qn_jbuf *b, const qn_jstr *s);
bool qn_jbuf_append_slice(qn_jbuf *b, const qn_jstr *s, size_t from, size_t to); /* bytes [from, to) with their marks */
bool qn_jbuf_append_spaces(qn_jbuf *b, size_t n);
bool qn_jbuf_append_repeated(qn_jbuf *b, const qn_jstr *s, size_t n);
/* Makes the string; the buffer is empty afterwards. */
bool qn_jbuf_finish(qn_jbuf *b, qn_jval *out);

bool qn_jstr_new(qn_jrun *run, const char *text, size_t len, bool content, qn_jval *out);
static inline bool qn_jstr_is_ascii(const qn_jstr *s) { return s->len == s->n_chars; }
/* Bytes [from, to) as a string of their own; keeps marks and markup. */
bool qn_jstr_slice(qn_jrun *run, qn_jstr *s, size_t from, size_t to, qn_jval *out);
/* Byte offset of character i (0 <= i <= n_chars). */
size_t qn_jstr_offset(const qn_jstr *s, size_t i);
/* Characters in bytes [from, to). */
size_t qn_jstr_count_chars(const qn_jstr *s, size_t from, size_t to);
/* The mark of the byte at `at`. */
bool qn_jstr_mark(const qn_jstr *s, size_t at);
/* End of the run that holds byte `at`, and its mark: for (at = 0; at < len; at = end). */
size_t qn_jstr_run(const qn_jstr *s, size_t at, bool *content);
bool qn_jstr_equals(const qn_jstr *s, const char *text);
/* The same string with the markup flag set or cleared. */
bool qn_jstr_with_markup(qn_jrun *run, qn_jstr *s, bool markup, qn_jval *out);

/* A prepared search for one needle, linear in the haystack. */
typedef struct qn_jfinder {
    const char *needle;
    size_t len;
    uint32_t *fail; /* Knuth-Morris-Pratt table for long needles */
} qn_jfinder;
bool qn_jfinder_init(qn_jfinder *f, qn_jrun *run, const qn_jstr *needle);
void qn_jfinder_deinit(qn_jfinder *f, qn_jrun *run);
/* First match in text[from, to), or SIZE_MAX. An empty needle matches at `from`. */
size_t qn_jfinder_next(const qn_jfinder *f, const char *text, size_t from, size_t to);
/* Last match in text[from, to), or SIZE_MAX. */
size_t qn_jfinder_last(const qn_jfinder *f, const char *text, size_t from, size_t to);

/* ---- values as text (jinja_repr.c) ---- */

bool qn_jbuf_append_value(qn_jbuf *b, qn_jval v);          /* str(v) */
bool qn_jbuf_append_repr(qn_jbuf *b, qn_jval v);           /* repr(v) */
bool qn_jto_string(qn_jrun *run, qn_jval v, qn_jval *out); /* str(v); a string comes back itself (markup kept) */
/* repr() of a float into out; returns its length. */
size_t qn_jfloat_repr(double d, char out[40]);
/* HTML-escapes unless it is markup already. */
bool qn_jbuf_append_escaped(qn_jbuf *b, const qn_jstr *s);
bool qn_jescape(qn_jrun *run, qn_jval v, qn_jval *out);

typedef struct qn_jjson_options {
    bool ensure_ascii, sort_keys, pretty;
    qn_jval indent;                        /* string, only if pretty */
    qn_jval item_separator, key_separator; /* strings or missing for the defaults */
} qn_jjson_options;
bool qn_jbuf_append_json(qn_jbuf *b, qn_jval v, const qn_jjson_options *options);

#endif
