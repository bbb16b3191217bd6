/* error.h - how code inside the library fails.
 *
 * QN_FAIL writes a message and jumps to the function's single `done:` label with
 * `status` set; QN_TRY passes a callee's failure on the same way. A function that
 * uses them declares `quern_status status = QUERN_OK;` and ends in
 *     done:
 *         release(what is still mine);
 *         return status;
 */
#ifndef QN_BASE_ERROR_H
#define QN_BASE_ERROR_H

#include "quern/status.h"

#if defined(__GNUC__)
#define QN_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))
#else
#define QN_PRINTF(fmt_index, first_arg)
#endif

/* Stores status and formatted message in *err (which may be NULL); returns `status`. */
quern_status qn_error_set(quern_error *err, quern_status status, const char *format, ...) QN_PRINTF(3, 4);

/* Puts "PREFIX: " (formatted) before the message that *err already holds; err may be NULL. */
void qn_error_prefix(quern_error *err, const char *format, ...) QN_PRINTF(2, 3);

#define QN_FAIL(err, code, ...) \
    do { \
        status = qn_error_set((err), (code), __VA_ARGS__); \
        goto done; \
    } while (0)

#define QN_TRY(call) \
    do { \
        status = (call); \
        if (status != QUERN_OK) { \
            goto done; \
        } \
    } while (0)

/* For the commonest failure: an allocation of `bytes` bytes for `what` was refused. */
#define QN_FAIL_MEMORY(err, what, bytes) QN_FAIL((err), QUERN_ERROR_MEMORY, "out of memory: %s needs %zu bytes", (what), (size_t)(bytes))

#endif
