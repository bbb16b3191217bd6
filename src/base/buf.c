/* buf.c - growable bytes. */
#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

void qn_buf_init(qn_buf *b, size_t max_len) { *b = (qn_buf){.max_len = max_len}; }

void qn_buf_deinit(qn_buf *b)
{
    qn_free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

void qn_buf_reset(qn_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data != NULL) {
        b->data[0] = '\0';
    }
}

bool qn_buf_reserve(qn_buf *b, size_t extra)
{
    if (b->failed) {
        return false;
    }
    size_t need;
    if (!qn_size_add(b->len, extra, &need) || need > b->max_len || need == SIZE_MAX) {
        b->failed = true;
        return false;
    }
    if (need + 1 > b->cap) {
        size_t cap = b->cap < 64 ? 64 : b->cap;
        while (cap < need + 1) {
            cap = cap > SIZE_MAX / 2 ? need + 1 : cap * 2;
        }
        char *data = qn_realloc(b->data, cap);
        if (data == NULL) {
            b->failed = true;
            return false;
        }
        b->data = data;
        b->cap = cap;
    }
    return true;
}

bool qn_buf_append(qn_buf *b, const void *data, size_t len)
{
    if (!qn_buf_reserve(b, len)) {
        return false;
    }
    if (len != 0) {
        memcpy(b->data + b->len, data, len);
    }
    b->len += len;
    b->data[b->len] = '\0';
    return true;
}

bool qn_buf_append_str(qn_buf *b, const char *s) { return qn_buf_append(b, s, strlen(s)); }
bool qn_buf_append_char(qn_buf *b, char c) { return qn_buf_append(b, &c, 1); }

bool qn_buf_append_zeros(qn_buf *b, size_t n)
{
    if (!qn_buf_reserve(b, n)) {
        return false;
    }
    memset(b->data + b->len, 0, n);
    b->len += n;
    b->data[b->len] = '\0';
    return true;
}

bool qn_buf_vprintf(qn_buf *b, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    bool ok = n >= 0 && qn_buf_reserve(b, (size_t)n);
    if (ok) {
        (void)vsnprintf(b->data + b->len, (size_t)n + 1, format, again);
        b->len += (size_t)n;
    } else {
        b->failed = true;
    }
    va_end(again);
    return ok;
}

bool qn_buf_printf(qn_buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool ok = qn_buf_vprintf(b, format, args);
    va_end(args);
    return ok;
}

const char *qn_buf_text(const qn_buf *b) { return b->data != NULL ? b->data : ""; }

char *qn_buf_take(qn_buf *b, size_t *len)
{
    if (b->failed || !qn_buf_reserve(b, 0)) {
        return NULL;
    }
    b->data[b->len] = '\0';
    char *data = b->data;
    if (len != NULL) {
        *len = b->len;
    }
    size_t max_len = b->max_len;
    qn_buf_init(b, max_len);
    return data;
}
