/* test_python_check.c - whether texts are Python, by CPython: what it answers, and what becomes of the others where it crashes on one. */
#include "qn_test.h"
#include "test_files.h"

#include <math.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "gate/quality.h"
#include "gate/tasks.h"

static bool have_python(void)
{
    return qn_path_exists("/usr/bin/python3") || qn_path_exists("/usr/local/bin/python3") || qn_path_exists("/bin/python3");
}

/* python3 with a parser that dies of a text with CRASH in it. */
static const char *make_fragile(const char *dir)
{
    const char *path = scratch_path(dir, "python3");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs("#!/bin/sh\n"
                "exec env python3 -I -S -B -c '\n"
                "import ast, os, sys\n"
                "parse = ast.parse\n"
                "def fragile(text):\n"
                "    if \"CRASH\" in text:\n"
                "        os.kill(os.getpid(), 11)\n"
                "    return parse(text)\n"
                "ast.parse = fragile\n"
                "exec(sys.argv[1])\n"
                "' \"$5\"\n",
                f);
    (void)fclose(f);
    assert_int_equal(chmod(path, 0700), 0);
    return path;
}

static void texts_are_told_apart(void **state)
{
    (void)state;
    static const char *const texts[] = {"def f(x):\n    return \"a\\n\\t\xc3\xbc\"\n", "def f(x:\n", "", "\x01", "x = 1\n"};
    static const bool expected[] = {true, false, true, false, true};
    enum { N = sizeof texts / sizeof texts[0] };
    quern_error err = {0};
    bool valid[N], available;
    size_t n_crashed;
    if (!have_python()) {
        print_message("SKIP: python3: there is none\n");
        skip();
    }
    assert_ok(qn_python_check(NULL, texts, N, valid, &n_crashed, &available, &err));
    assert_true(available);
    assert_int_equal(n_crashed, 0);
    assert_memory_equal(valid, expected, sizeof expected);
    assert_ok(qn_python_check("/nonexistent/python3", texts, N, valid, &n_crashed, &available, &err));
    assert_false(available);
    assert_int_equal(n_crashed, 0);
    assert_ok(qn_python_check("/bin/true", texts, N, valid, &n_crashed, &available, &err));
    assert_false(available);
    assert_int_equal(n_crashed, 0);
}

static void a_crash_costs_its_own_text(void **state)
{
    (void)state;
    static const char *const texts[] = {"CRASH", "x = 1\n", "y = CRASH\n", "z = (\n", "CRASH", "CRASH", "w = 2\n", "CRASH"};
    static const bool expected[] = {false, true, false, false, false, false, true, false};
    enum { N = sizeof texts / sizeof texts[0], MANY = 20 };
    quern_error err = {0};
    bool valid[MANY], available;
    size_t n_crashed;
    const char *many[MANY];
    if (!have_python()) {
        print_message("SKIP: python3: there is none\n");
        skip();
    }
    char *dir = scratch_create();
    const char *python = make_fragile(dir);
    assert_ok(qn_python_check(python, texts, N, valid, &n_crashed, &available, &err));
    assert_true(available);
    assert_int_equal(n_crashed, 5);
    assert_memory_equal(valid, expected, sizeof expected);
    for (size_t i = 0; i < MANY; i++) { /* that is no single text's fault, and ends */
        many[i] = i % 2 == 0 ? "CRASH" : "x = 1\n";
    }
    assert_ok(qn_python_check(python, many, MANY, valid, &n_crashed, &available, &err));
    assert_false(available);
    assert_int_equal(n_crashed, 9);
    for (size_t i = 0; i < MANY; i++) {
        assert_false(valid[i]);
    }
    scratch_remove(dir);
}

/* The verdict says what the share does not. */
static void crashes_are_noted(void **state)
{
    (void)state;
    quern_error err = {0};
    const struct {
        double source, own;
        size_t n_source, n_own;
        const char *note;
    } cases[] = {{0.9, 0.85, 0, 0, NULL},
                 {0.9, 0.85, 0, 1, "python3 crashed on 1 of 20 Python answers, and on 0 of the source's; they count as not valid"},
                 {0.9, NAN, 0, 9, "syntax_valid is not known of both: python3 crashed on 9 of the answers"},
                 {NAN, NAN, 0, 0, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_findings f;
        qn_quality q = {.measured = true,
                        .ran = true,
                        .n_tasks = 20,
                        .ppl_ratio = 1,
                        .top1_agreement = 1,
                        .syntax_valid_source = cases[i].source,
                        .syntax_valid = cases[i].own,
                        .n_crashed_source = cases[i].n_source,
                        .n_crashed = cases[i].n_own};
        qn_findings_init(&f);
        assert_ok(qn_quality_judge(&q, QUERN_GATE_DEFAULT, 8, &f, &err));
        assert_int_equal(f.notes.n, cases[i].note != NULL);
        assert_true(cases[i].note == NULL || strstr(f.notes.items[0], cases[i].note) != NULL);
        assert_false(f.lossy);
        qn_findings_deinit(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_told_apart),
        cmocka_unit_test(a_crash_costs_its_own_text),
        cmocka_unit_test(crashes_are_noted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
