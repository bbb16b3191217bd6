/* quern/status.h - every way a call can end, and the error that explains it.
 *
 * One list gives the enum, the stable name, the process exit code, the HTTP
 * status and a default sentence, so that the library, the command line and the
 * server can never disagree about what a failure means.
 *
 * Every fallible function returns a quern_status and takes a `quern_error *`
 * last. The error may be NULL when the caller does not want the message.
 * The library never prints, exits, aborts or installs signal handlers.
 */
#ifndef QUERN_STATUS_H
#define QUERN_STATUS_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(QUERN_SHARED) && defined(__GNUC__)
#define QUERN_API __attribute__((visibility("default")))
#else
#define QUERN_API
#endif

/*        enumerator               exit  http  default sentence                                   */
#define QUERN_STATUS_LIST(X)                                                                         \
    X(QUERN_OK,                    0,    200,  "done")                                               \
    X(QUERN_ERROR_VERDICT,         1,    422,  "done, and the verdict is negative")                  \
    X(QUERN_ERROR_USAGE,           2,    400,  "wrong usage")                                        \
    X(QUERN_ERROR_UNAVAILABLE,     2,    501,  "not available here")                                 \
    X(QUERN_ERROR_NOT_FOUND,       3,    404,  "input is missing")                                   \
    X(QUERN_ERROR_INVALID,         3,    400,  "input is invalid")                                   \
    X(QUERN_ERROR_UNSUPPORTED,     3,    400,  "input is valid but not supported")                   \
    X(QUERN_ERROR_LIMIT,           4,    413,  "does not fit a limit")                               \
    X(QUERN_ERROR_CONTEXT_FULL,    4,    413,  "the context is full")                                \
    X(QUERN_ERROR_MEMORY,          4,    503,  "out of memory")                                      \
    X(QUERN_ERROR_IO,              5,    500,  "input/output error")                                 \
    X(QUERN_ERROR_INTERNAL,        5,    500,  "internal error (please report it)")                  \
    X(QUERN_ERROR_CANCELLED,       130,  499,  "interrupted")

typedef enum quern_status {
#define X(name, exit_code, http_code, text) name,
    QUERN_STATUS_LIST(X)
#undef X
} quern_status;

/* Longest message including its terminating NUL, in bytes. Long enough for a path (255),
 * a tensor name and a sentence; longer texts are cut at a UTF-8 border. */
#define QUERN_ERROR_MESSAGE_CAP 1024

/* What went wrong: the status, and one sentence naming file, place and expectation. */
typedef struct quern_error {
    quern_status status;
    char message[QUERN_ERROR_MESSAGE_CAP];
} quern_error;

/* The enumerator's own name, such as "QUERN_ERROR_INVALID". Never NULL. */
QUERN_API const char *quern_status_name(quern_status status);
/* The default sentence of a status. Never NULL. */
QUERN_API const char *quern_status_text(quern_status status);
/* The exit code a program should end with (0..130). */
QUERN_API int quern_status_exit_code(quern_status status);
/* The HTTP status a server should answer with. */
QUERN_API int quern_status_http_code(quern_status status);

/* How far a long piece of work is, in whatever its function counts; false cancels it. */
typedef bool (*quern_progress_callback)(void *user, size_t done, size_t total);

/* Frees memory that a function of this library gave away. NULL is fine. */
QUERN_API void quern_free(void *p);

#ifdef __cplusplus
}
#endif
#endif
