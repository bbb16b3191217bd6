/* error.c - statuses and messages. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

typedef struct status_row {
    const char *name;
    int exit_code;
    int http_code;
    const char *text;
} status_row;

static const status_row status_rows[] = {
#define X(name, exit_code, http_code, text) {#name, exit_code, http_code, text},
    QUERN_STATUS_LIST(X)
#undef X
};

static const status_row *find_row(quern_status status)
{
    size_t i = (size_t)status;
    return i < sizeof status_rows / sizeof status_rows[0] ? &status_rows[i] : &status_rows[QUERN_ERROR_INTERNAL];
}

const char *quern_status_name(quern_status status) { return find_row(status)->name; }
const char *quern_status_text(quern_status status) { return find_row(status)->text; }
int quern_status_exit_code(quern_status status) { return find_row(status)->exit_code; }
int quern_status_http_code(quern_status status) { return find_row(status)->http_code; }

/* Copies text into the message; a cut text ends at a character border, and control bytes (a hostile file name or key) become '?'
 * so that a message can be printed as it is. */
static void store_message(quern_error *err, const char *text)
{
    size_t len = strlen(text);
    if (len >= sizeof err->message) {
        len = qn_utf8_complete_prefix(text, sizeof err->message - 1);
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        err->message[i] = (c < 0x20 && c != '\n') || c == 0x7f ? '?' : text[i];
    }
    err->message[len] = '\0';
}

quern_status qn_error_set(quern_error *err, quern_status status, const char *format, ...)
{
    if (err != NULL) {
        char text[QUERN_ERROR_MESSAGE_CAP * 2];
        va_list args;
        va_start(args, format);
        int n = vsnprintf(text, sizeof text, format, args);
        va_end(args);
        err->status = status;
        store_message(err, n < 0 ? quern_status_text(status) : text);
    }
    return status;
}

void qn_error_prefix(quern_error *err, const char *format, ...)
{
    if (err == NULL) {
        return;
    }
    char text[QUERN_ERROR_MESSAGE_CAP * 3];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, QUERN_ERROR_MESSAGE_CAP, format, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    size_t used = strlen(text);
    (void)snprintf(text + used, sizeof text - used, ": %s", err->message);
    store_message(err, text);
}
