/* test_cli_doctor.c - what doctor says of its readings, and when it says that they tell nothing. */
#include "qn_test.h"

#include <math.h>

#include "doctor_note.h"

#define TURNS(...) \
    { \
        __VA_ARGS__ \
    }

static qn_layout judge(const double *mapped, const double *plain, size_t n)
{
    quern_mapping_turns turns = {.n = n};
    for (size_t i = 0; i < n; i++) {
        turns.mapped[i] = mapped[i] * 1e9;
        turns.plain[i] = plain[i] * 1e9;
    }
    return qn_layout_judge(&turns);
}

static void expect_note(const qn_layout *l, const char *expected)
{
    char note[160];
    qn_layout_note(l, note, sizeof note);
    assert_string_equal(note, expected);
}

static void test_layout(void **state)
{
    (void)state;
    const double plain[] = TURNS(10, 10.2, 9.9), slow[] = TURNS(8, 8.1, 7.9), same[] = TURNS(9.8, 10, 9.7),
                 faster[] = TURNS(10.5, 10.4, 10.6);
    qn_layout l = judge(slow, plain, 3);
    assert_int_equal(l.kind, QN_LAYOUT_COSTS);
    assert_float_equal(l.cost, 0.2, 1e-9);
    expect_note(&l, "mapped: its page layout costs 20 % (plain memory: 10.0 GB/s); --load copy avoids that");
    l = judge(same, plain, 3);
    assert_int_equal(l.kind, QN_LAYOUT_FREE);
    expect_note(&l, "mapped; plain memory: 10.0 GB/s");
    l = judge(faster, plain, 3);
    assert_int_equal(l.kind, QN_LAYOUT_FREE);
    assert_float_equal(l.cost, 0, 0);
    l = judge(plain, plain, 0);
    assert_int_equal(l.kind, QN_LAYOUT_UNKNOWN);
    expect_note(&l, "mapped");
    assert_null(qn_layout_name(l.kind));
}

/* One moment's load makes no advice: of four readings the best of one and the best of the other differed by 28 %. */
static void test_noise(void **state)
{
    (void)state;
    const double restless[] = TURNS(7, 12, 9), plain[] = TURNS(11, 13, 12), steady[] = TURNS(12, 12, 12);
    qn_layout l = judge(restless, plain, 3); /* a gap of 25 %, and readings that differ by 28 % */
    assert_int_equal(l.kind, QN_LAYOUT_NOISE);
    assert_true(isnan(l.cost));
    expect_note(&l, "mapped; plain memory: 12.0 GB/s; readings differ by +- 28 %, too much to compare the two");
    assert_string_equal(qn_layout_name(l.kind), "noise");
    const double middle[] = TURNS(8, 12, 13);
    l = judge(middle, steady, 3); /* no gap, but one of 5 % could not be seen */
    assert_int_equal(l.kind, QN_LAYOUT_NOISE);
    const double far[] = TURNS(5, 6, 7);
    l = judge(far, steady, 3); /* half the speed, +- 17 % */
    assert_int_equal(l.kind, QN_LAYOUT_COSTS);
}

static void test_one_thread(void **state)
{
    (void)state;
    char note[128];
    qn_one_thread_note(11e9, 14e9, 2, note, sizeof note);
    assert_string_equal(note, "11.0 GB/s with one thread");
    qn_one_thread_note(14.5e9, 11.8e9, 2, note, sizeof note);
    assert_string_equal(note, "14.5 GB/s with one thread, more than with all: noise; measure again when the machine is quiet");
    qn_one_thread_note(14.5e9, 11.8e9, 1, note, sizeof note);
    assert_string_equal(note, "14.5 GB/s with one thread");
    assert_false(qn_one_above_all(10.4e9, 10e9, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_one_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
