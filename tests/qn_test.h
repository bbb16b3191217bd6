/* qn_test.h - what every unit test includes: cmocka and the paths of test data.
 *
 * Data that `make test` needs is in tests/data (path helper below); larger reference data may be beside the checkout in
 * ../shared: a test that wants it calls qn_test_shared and skips visibly when it is absent. */
#ifndef QN_TEST_H
#define QN_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quern/status.h"

/* Whether gcc's address or thread sanitizer is in this program: it makes everything two to twenty times as dear, so the longest tests
 * do less of the same with it. (clang's go by another name: its runs are the long ones and do all.) */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { QN_TEST_SANITIZED = 1 };
#else
enum { QN_TEST_SANITIZED = 0 };
#endif

/* "tests/data/NAME" as an absolute path, in a rotating static buffer. */
static inline const char *qn_test_data(const char *name)
{
    static char buffers[8][1024];
    static unsigned next;
    char *b = buffers[next++ % 8];
    (void)snprintf(b, 1024, "%s/tests/data/%s", QUERN_SOURCE_DIR, name);
    return b;
}

/* "../shared/NAME", or NULL where that folder does not exist (then print "SKIP: NAME: ..." and skip()).
 * What the repository keeps of it is found first: data/... in tests/data, models/... in models. */
static inline const char *qn_test_shared(const char *name)
{
    static char buffers[8][1024];
    static unsigned next;
    static const char *const places[][2] = {{"data/", "tests/"}, {"models/", ""}, {"", "../shared/"}};
    char *b = buffers[next++ % 8];
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (strncmp(name, places[i][0], strlen(places[i][0])) != 0) {
            continue;
        }
        (void)snprintf(b, 1024, "%s/%s%s", QUERN_SOURCE_DIR, places[i][1], name);
        FILE *f = fopen(b, "r");
        if (f != NULL) {
            (void)fclose(f);
            return b;
        }
    }
    return NULL;
}

/* A reference file: tests/data/goldens/NAME if it is kept in the repository, else ../shared/goldens/NAME, else NULL. */
static inline const char *qn_test_golden(const char *name)
{
    char relative[512];
    (void)snprintf(relative, sizeof relative, "goldens/%s", name);
    const char *path = qn_test_data(relative);
    FILE *f = fopen(path, "r");
    if (f != NULL) {
        (void)fclose(f);
        return path;
    }
    return qn_test_shared(relative);
}

/* Asserts that a call succeeded and shows its message if not. */
#define assert_ok(call) \
    do { \
        quern_status qn_test_status = (call); \
        if (qn_test_status != QUERN_OK) { \
            print_error("%s: %s: %s\n", #call, quern_status_name(qn_test_status), err.message); \
        } \
        assert_int_equal(qn_test_status, QUERN_OK); \
    } while (0)

#endif
