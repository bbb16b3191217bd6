/* test_allocate.c - the choice of types against every possible one. */
#include "quantize/allocate.h"

#include <math.h>
#include <stdlib.h>

#include "qn_test.h"

enum { ITEMS = 5, KINDS = 4 };

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* The least loss that any choice within the limit has. */
static double best_loss(const qn_candidate *c, uint64_t limit)
{
    double best = INFINITY;
    for (size_t code = 0; code < 1u << (2 * ITEMS); code++) {
        uint64_t bytes = 0;
        double loss = 0;
        for (size_t i = 0; i < ITEMS; i++) {
            const qn_candidate *one = &c[i * KINDS + ((code >> (2 * i)) & 3)];
            bytes += one->bytes;
            loss += one->loss;
        }
        best = bytes <= limit && loss < best ? loss : best;
    }
    return best;
}

static void near_the_best_of_all_choices(void **state)
{
    (void)state;
    uint32_t random = 7;
    double worst = 1, sum = 0;
    for (int round = 0; round < 300; round++) {
        qn_candidate c[ITEMS * KINDS];
        size_t chosen[ITEMS];
        quern_error err;
        uint64_t least = 0, bytes = 0;
        for (size_t i = 0; i < ITEMS; i++) {
            double scale = exp((double)(next_random(&random) % 1000) / 150.0);
            uint64_t size = 100 + next_random(&random) % 400;
            for (size_t k = 0; k < KINDS; k++) { /* as types are: a bit more, about four times less error */
                c[i * KINDS + k] = (qn_candidate){size * (2 + k),
                                                  scale * pow(0.25, (double)k) * (1 + (double)(next_random(&random) % 100) / 200)};
            }
            least += 2 * size;
        }
        uint64_t limit = least + least * (next_random(&random) % 150) / 100;
        assert_int_equal(qn_allocate(c, ITEMS, KINDS, limit, chosen, &err), QUERN_OK);
        double loss = 0;
        for (size_t i = 0; i < ITEMS; i++) {
            bytes += c[i * KINDS + chosen[i]].bytes;
            loss += c[i * KINDS + chosen[i]].loss;
        }
        assert_true(bytes <= limit);
        double ratio = loss / best_loss(c, limit);
        assert_true(ratio > 1 - 1e-9);
        worst = ratio > worst ? ratio : worst;
        sum += ratio;
    }
    assert_true(sum / 300 < 1.2); /* with five items one step is much; with hundreds it is nothing */
    assert_true(worst < 5);
}

static void bad_candidates_are_never_chosen(void **state)
{
    (void)state;
    /* larger and worse; of equal size and worse; above the line between its neighbours */
    const qn_candidate c[] = {{10, 8}, {10, 9}, {20, 8.5}, {30, 1}, {20, 7}, {40, 1}};
    size_t chosen;
    quern_error err;
    for (uint64_t limit = 10; limit < 60; limit++) {
        assert_int_equal(qn_allocate(c, 1, 6, limit, &chosen, &err), QUERN_OK);
        assert_int_equal(chosen, limit < 30 ? 0 : 3);
    }
}

static void what_cannot_fit_says_so(void **state)
{
    (void)state;
    const qn_candidate c[] = {{10, 1}, {20, 0}, {30, 1}, {31, 0}};
    size_t chosen[2];
    quern_error err;
    assert_int_equal(qn_allocate(c, 2, 2, 39, chosen, &err), QUERN_ERROR_LIMIT);
    assert_int_equal(qn_allocate(c, 2, 2, 41, chosen, &err), QUERN_OK);
    assert_int_equal(chosen[0], 0);
    assert_int_equal(chosen[1], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(near_the_best_of_all_choices),
        cmocka_unit_test(bad_candidates_are_never_chosen),
        cmocka_unit_test(what_cannot_fit_says_so),
    };
    return cmocka_run_group_tests_name("allocate", tests, NULL, NULL);
}
