/* json.h - JSON in and out; json.c is the only file that knows the library behind it (Jansson).
 *
 * Parsing takes (data, size), limits depth (JSON nested deeper than 512 is refused), refuses duplicate
 * keys when asked, invalid UTF-8, trailing matter and numbers that do not fit.
 * Objects keep their order. A `const qn_json *` from get/at/iteration is borrowed: valid until the root is freed.
 */
#ifndef QN_BASE_JSON_H
#define QN_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/error.h"

typedef struct qn_json qn_json; /* one JSON value */

typedef enum qn_json_kind {
    QN_JSON_NULL,
    QN_JSON_BOOL,
    QN_JSON_INT,
    QN_JSON_REAL,
    QN_JSON_STRING,
    QN_JSON_ARRAY,
    QN_JSON_OBJECT
} qn_json_kind;

/* WIDE_INTEGERS: an integer that does not fit 64 bits becomes a real (tokenizer_config.json has such numbers for "no limit"). */
enum { QN_JSON_REJECT_DUPLICATES = 1, QN_JSON_ALLOW_NUL = 2, QN_JSON_WIDE_INTEGERS = 4 };
#define QN_JSON_DEPTH_MAX 512

/* Parses exactly one value. `what` names the source in messages ("config.json"). Free the root with qn_json_free. */
quern_status qn_json_parse(qn_json **out, const char *data, size_t size, int flags, const char *what, quern_error *err);
void qn_json_free(qn_json *root);

qn_json_kind qn_json_get_kind(const qn_json *v);                    /* NULL pointer counts as QN_JSON_NULL */
size_t qn_json_length(const qn_json *v);                            /* elements of an array or object, bytes of a string, else 0 */
const qn_json *qn_json_get(const qn_json *object, const char *key); /* NULL if absent or not an object */
const qn_json *qn_json_at(const qn_json *array, size_t index);      /* NULL if out of range or not an array */
const char *qn_json_string(const qn_json *v, size_t *len);          /* NULL if not a string; NUL-terminated; len may be NULL */
bool qn_json_bool(const qn_json *v, bool fallback);
bool qn_json_int(const qn_json *v, int64_t *out);   /* only an integer literal */
bool qn_json_number(const qn_json *v, double *out); /* integer or real */

/* Iterates an object in order: for (it = qn_json_iter(o); it; it = qn_json_next(o, it)). */
typedef struct qn_json_iter_opaque qn_json_iterator;
qn_json_iterator *qn_json_iter(const qn_json *object);
qn_json_iterator *qn_json_next(const qn_json *object, qn_json_iterator *it);
const char *qn_json_iter_key(qn_json_iterator *it, size_t *len);
const qn_json *qn_json_iter_value(qn_json_iterator *it);

/* Building. All return NULL when out of memory; set/append take ownership of `value` (also on failure, also NULL
 * -> false), so that only the root is ever freed. Strings that are not UTF-8 get U+FFFD for each bad byte;
 * reals that are not finite become null. */
qn_json *qn_json_new_object(void);
qn_json *qn_json_new_array(void);
qn_json *qn_json_new_null(void);
qn_json *qn_json_new_bool(bool v);
qn_json *qn_json_new_int(int64_t v);
qn_json *qn_json_new_real(double v);     /* null if not finite, as the next two */
qn_json *qn_json_new_measured(double v); /* 6 significant digits: more would be noise */
qn_json *qn_json_new_float(float v);     /* the shortest decimal that rounds to v */
qn_json *qn_json_new_string(const char *s);
qn_json *qn_json_new_string_n(const char *s, size_t n);
qn_json *qn_json_clone(const qn_json *v);
bool qn_json_set(qn_json *object, const char *key, qn_json *value);
/* Takes a member away; nothing happens where there is none. */
void qn_json_remove(qn_json *object, const char *key);
bool qn_json_append(qn_json *array, qn_json *value);
/* Writes v as text; indent 0 = one line, else spaces per level. Reals with as many digits as give every one back exactly. */
bool qn_json_write(const qn_json *v, int indent, qn_buf *out);

#endif
