/* cmocka.h - the few pieces of cmocka that the kernel tests use, for cross builds: a target's cmocka is seldom installed beside its
 * compiler. A failed assertion ends the program with exit 1; skip() is counted as in cmocka. Used by tools/check-aarch64.sh only. */
#ifndef QN_TESTS_CROSS_CMOCKA_H
#define QN_TESTS_CROSS_CMOCKA_H

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
};
#define cmocka_unit_test(f) \
    { \
#f, f \
    }

static jmp_buf cross_skip;

#define print_message(...) ((void)printf(__VA_ARGS__))
#define print_error(...) ((void)fprintf(stderr, __VA_ARGS__))
#define fail_msg(...) \
    do { \
        print_error("%s:%d: ", __FILE__, __LINE__); \
        print_error(__VA_ARGS__); \
        print_error("\n"); \
        exit(1); \
    } while (0)
#define cross_assert(condition, text) \
    do { \
        if (!(condition)) { \
            fail_msg("%s", text); \
        } \
    } while (0)
#define assert_true(c) cross_assert(c, #c)
#define assert_false(c) cross_assert(!(c), "not " #c)
#define assert_null(p) cross_assert((p) == NULL, #p " is NULL")
#define assert_non_null(p) cross_assert((p) != NULL, #p " is not NULL")
#define assert_int_equal(a, b) cross_assert((uint64_t)(a) == (uint64_t)(b), #a " == " #b)
#define assert_int_not_equal(a, b) cross_assert((uint64_t)(a) != (uint64_t)(b), #a " != " #b)
#define assert_string_equal(a, b) cross_assert(strcmp(a, b) == 0, #a " == " #b)
#define assert_memory_equal(a, b, n) cross_assert(memcmp(a, b, n) == 0, #a " == " #b " in memory")
#define skip() longjmp(cross_skip, 1)

static inline int cross_run(const struct CMUnitTest *tests, size_t n)
{
    volatile size_t n_skipped = 0;
    for (volatile size_t i = 0; i < n; i++) {
        void *state = NULL;
        if (setjmp(cross_skip) == 0) {
            tests[i].test(&state);
            printf("ok      %s\n", tests[i].name);
        } else {
            n_skipped++;
            printf("skipped %s\n", tests[i].name);
        }
        (void)fflush(stdout);
    }
    printf("%zu tests, %zu skipped\n", n, (size_t)n_skipped);
    return 0;
}
#define cmocka_run_group_tests(tests, setup, teardown) cross_run(tests, sizeof(tests) / sizeof(tests)[0])

#endif
