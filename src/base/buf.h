/* buf.h - a growable byte buffer with a ceiling. Text in it is always NUL-terminated past `len`.
 *
 * Errors stick: after a failed append, `failed` is true, further appends do nothing, and one check
 * at the end is enough. `data` may be NULL while len is 0. */
#ifndef QN_BASE_BUF_H
#define QN_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include "base/error.h"

typedef struct qn_buf {
    char *data;
    size_t len;     /* bytes used, without the NUL */
    size_t cap;     /* bytes allocated */
    size_t max_len; /* appends beyond this fail */
    bool failed;
} qn_buf;

void qn_buf_init(qn_buf *b, size_t max_len);
void qn_buf_deinit(qn_buf *b);
void qn_buf_reset(qn_buf *b); /* len = 0, failed = false, memory kept */
bool qn_buf_reserve(qn_buf *b, size_t extra);
bool qn_buf_append(qn_buf *b, const void *data, size_t len);
bool qn_buf_append_str(qn_buf *b, const char *s);
bool qn_buf_append_char(qn_buf *b, char c);
bool qn_buf_append_zeros(qn_buf *b, size_t n);
bool qn_buf_printf(qn_buf *b, const char *format, ...) QN_PRINTF(2, 3);
bool qn_buf_vprintf(qn_buf *b, const char *format, va_list args);
/* The text, never NULL ("" when empty); valid until the next change. */
const char *qn_buf_text(const qn_buf *b);
/* Moves the NUL-terminated memory out (free with qn_free); the buffer is empty afterwards. NULL if it failed. */
char *qn_buf_take(qn_buf *b, size_t *len);

#endif
