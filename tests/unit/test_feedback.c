/* test_feedback.c - codes with the error fed back: the factor, the bound, and what it is worth. */
#include "qn_test.h"

#include <math.h>

#include "base/alloc.h"
#include "quant/codec.h"
#include "quant/feedback.h"

enum { COLS = 128, ROWS = 21, SAMPLES = 400 };

static uint32_t seed;

/* About normal: the sum of four uniform numbers. */
static float draw(void)
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        seed = seed * 1664525u + 1013904223u;
        sum += (float)(seed >> 8) * 0x1p-24f - 0.5f;
    }
    return sum * 1.7f;
}

/* Second moments of inputs whose columns go together and differ in size; lower triangle. */
static void make_moments(float *h, double *full)
{
    float x[COLS];
    for (size_t i = 0; i < COLS * COLS; i++) {
        h[i] = 0;
    }
    for (size_t s = 0; s < SAMPLES; s++) {
        float common = draw(), drift = 0;
        for (size_t c = 0; c < COLS; c++) {
            drift = 0.8f * drift + draw();
            x[c] = (drift + 2 * common) * (c % 7 == 0 ? 4.0f : 1.0f);
        }
        for (size_t j = 0; j < COLS; j++) {
            for (size_t i = 0; i <= j; i++) {
                h[j * COLS + i] += x[i] * x[j];
            }
        }
    }
    for (size_t j = 0; j < COLS; j++) {
        for (size_t i = 0; i <= j; i++) {
            full[j * COLS + i] = full[i * COLS + j] = (double)h[j * COLS + i];
        }
    }
}

static double weighted_error(const float *w, const float *y, const double *h)
{
    double sum = 0;
    for (size_t j = 0; j < COLS; j++) {
        for (size_t i = 0; i < COLS; i++) {
            sum += (double)(w[i] - y[i]) * h[j * COLS + i] * (double)(w[j] - y[j]);
        }
    }
    return sum;
}

static void factor_gives_the_moments_back(void **state)
{
    (void)state;
    static float h[COLS * COLS];
    static double full[COLS * COLS];
    seed = 1;
    make_moments(h, full);
    double trace = 0;
    for (size_t j = 0; j < COLS; j++) {
        trace += full[j * COLS + j];
    }
    assert_true(qn_feedback_factor(h, COLS, 0.05f));
    for (size_t a = 0; a < COLS; a++) { /* element (a, b) of R R^T; R's column k is row k of h, its diagonal times what is stored */
        for (size_t b = a; b < COLS; b++) {
            double sum = 0;
            for (size_t k = b; k < COLS; k++) {
                double diagonal = (double)h[k * COLS + k], ra = a == k ? 1 : (double)h[k * COLS + a],
                       rb = b == k ? 1 : (double)h[k * COLS + b];
                sum += diagonal * diagonal * ra * rb;
            }
            double expected = full[a * COLS + b] * COLS / trace + (a == b ? 0.05 : 0);
            assert_true(fabs(sum - expected) < 2e-4);
        }
    }
}

static void factor_refuses(void **state)
{
    (void)state;
    float zero[4] = {0}, infinite[4] = {1, 0, 1, INFINITY}, indefinite[4] = {1, 0, 5, 1};
    assert_false(qn_feedback_factor(zero, 2, 0.1f));
    assert_false(qn_feedback_factor(infinite, 2, 0.1f));
    assert_false(qn_feedback_factor(indefinite, 2, 0.1f));
}

typedef struct encoded {
    uint32_t words[ROWS * COLS / 4];
    uint16_t scales[ROWS * COLS / 32], biases[ROWS * COLS / 32];
    float y[ROWS * COLS];
} encoded;

static void decode(qn_affine a, encoded *e)
{
    size_t n = (size_t)ROWS * COLS;
    qn_decode_affine_row(a, e->words, e->scales, e->biases, QN_DTYPE_BF16, e->y, n);
}

static void with_feedback(qn_affine a, const float *factor, const float *importance, const float *w, size_t n_rows, encoded *e)
{
    float *scratch = qn_malloc_aligned(qn_feedback_scratch(COLS) * sizeof *scratch);
    assert_non_null(scratch);
    memset(e, 0, sizeof *e);
    qn_encode_affine_feedback(a, factor, importance, w, n_rows, COLS, e->words, e->scales, e->biases, QN_DTYPE_BF16, scratch);
    qn_free_aligned(scratch);
}

static const qn_affine kinds[] = {{2, 64}, {3, 64}, {4, 32}, {4, 64}, {4, 128}, {5, 64}, {6, 32}, {6, 64}, {8, 64}};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static void make_weights(float *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        w[i] = draw() * (i % 97 == 0 ? 0.2f : 0.03f);
    }
}

static void lowers_the_error_of_the_output_within_its_bound(void **state)
{
    (void)state;
    static float h[COLS * COLS], w[ROWS * COLS], importance[COLS];
    static double full[COLS * COLS];
    static encoded fed, nearest, plain;
    for (size_t k = 0; k < N_KINDS; k++) {
        qn_affine a = kinds[k];
        seed = 7 + (uint32_t)k;
        make_moments(h, full);
        make_weights(w, ROWS * COLS);
        for (size_t c = 0; c < COLS; c++) {
            importance[c] = h[c * COLS + c];
        }
        assert_true(qn_feedback_factor(h, COLS, 0.01f));
        with_feedback(a, h, importance, w, ROWS, &fed);
        decode(a, &fed);
        size_t words = COLS * a.bits / 32, groups = COLS / a.group;
        for (size_t r = 0; r < ROWS; r++) {
            qn_encode_affine_row_fitted(a, w + r * COLS, nearest.words + r * words, nearest.scales + r * groups,
                                        nearest.biases + r * groups, QN_DTYPE_BF16, COLS, importance);
            qn_encode_affine_row(a, w + r * COLS, plain.words + r * words, plain.scales + r * groups, plain.biases + r * groups,
                                 QN_DTYPE_BF16, COLS);
        }
        decode(a, &nearest);
        decode(a, &plain);
        double error = 0, error_nearest = 0;
        for (size_t r = 0; r < ROWS; r++) {
            error += weighted_error(w + r * COLS, fed.y + r * COLS, full);
            error_nearest += weighted_error(w + r * COLS, nearest.y + r * COLS, full);
        }
        assert_true(error < 0.8 * error_nearest);
        for (size_t g = 0; g < (size_t)ROWS * COLS; g += a.group) {
            double mine = 0, theirs = 0;
            for (size_t i = g; i < g + a.group; i++) {
                mine += (double)(fed.y[i] - w[i]) * (double)(fed.y[i] - w[i]);
                theirs += (double)(plain.y[i] - w[i]) * (double)(plain.y[i] - w[i]);
            }
            assert_true(mine <= (double)QN_FEEDBACK_BOUND * theirs * (1 + 1e-4) + 1e-12);
        }
    }
}

/* Hostile importance and weights: the bound holds nevertheless. */
static void bound_holds_for_anything(void **state)
{
    (void)state;
    static float h[COLS * COLS], w[ROWS * COLS], importance[COLS];
    static encoded fed, plain;
    for (size_t k = 0; k < N_KINDS; k++) {
        qn_affine a = kinds[k];
        size_t words = COLS * a.bits / 32, groups = COLS / a.group;
        seed = 99 + (uint32_t)k;
        make_weights(w, ROWS * COLS);
        for (size_t c = 0; c < COLS; c++) {
            importance[c] = c % 16 == 0 ? 1e6f : 0;
            w[5 * COLS + c] = 0;     /* zeros */
            w[6 * COLS + c] = 0.25f; /* constant */
            w[7 * COLS + c] *= c == 40 ? 1e4f : 1.0f;
            for (size_t i = 0; i <= c; i++) {
                h[c * COLS + i] = i == c ? 1.0f : 0.999f;
            }
        }
        assert_true(qn_feedback_factor(h, COLS, 1e-4f));
        with_feedback(a, h, importance, w, ROWS, &fed);
        decode(a, &fed);
        for (size_t r = 0; r < ROWS; r++) {
            qn_encode_affine_row(a, w + r * COLS, plain.words + r * words, plain.scales + r * groups, plain.biases + r * groups,
                                 QN_DTYPE_BF16, COLS);
        }
        decode(a, &plain);
        for (size_t g = 0; g < (size_t)ROWS * COLS; g += a.group) {
            double mine = 0, theirs = 0;
            for (size_t i = g; i < g + a.group; i++) {
                mine += (double)(fed.y[i] - w[i]) * (double)(fed.y[i] - w[i]);
                theirs += (double)(plain.y[i] - w[i]) * (double)(plain.y[i] - w[i]);
            }
            assert_true(mine <= (double)QN_FEEDBACK_BOUND * theirs * (1 + 1e-4) + 1e-9);
        }
    }
}

/* Columns that do not go together leave nothing to feed back: the nearest codes, byte for byte. */
static void diagonal_moments_give_the_nearest_codes(void **state)
{
    (void)state;
    static float h[COLS * COLS], w[ROWS * COLS], importance[COLS];
    static encoded fed, nearest;
    for (size_t k = 0; k < N_KINDS; k++) {
        qn_affine a = kinds[k];
        size_t words = COLS * a.bits / 32, groups = COLS / a.group;
        seed = 3 + (uint32_t)k;
        make_weights(w, ROWS * COLS);
        memset(h, 0, sizeof h);
        for (size_t c = 0; c < COLS; c++) {
            importance[c] = 1.0f + 0.5f * fabsf(draw());
            h[c * COLS + c] = importance[c];
        }
        assert_true(qn_feedback_factor(h, COLS, 0.01f));
        with_feedback(a, h, importance, w, ROWS, &fed);
        memset(&nearest, 0, sizeof nearest);
        for (size_t r = 0; r < ROWS; r++) {
            qn_encode_affine_row_fitted(a, w + r * COLS, nearest.words + r * words, nearest.scales + r * groups,
                                        nearest.biases + r * groups, QN_DTYPE_BF16, COLS, importance);
        }
        assert_memory_equal(fed.words, nearest.words, ROWS * words * sizeof(uint32_t));
        assert_memory_equal(fed.scales, nearest.scales, ROWS * groups * sizeof(uint16_t));
        assert_memory_equal(fed.biases, nearest.biases, ROWS * groups * sizeof(uint16_t));
    }
}

/* However rows are cut into calls, their bytes are the same. */
static void a_row_depends_on_itself_alone(void **state)
{
    (void)state;
    static float h[COLS * COLS], w[ROWS * COLS], importance[COLS];
    static double full[COLS * COLS];
    static encoded all, one;
    const qn_affine a = {4, 64};
    seed = 11;
    make_moments(h, full);
    make_weights(w, ROWS * COLS);
    for (size_t c = 0; c < COLS; c++) {
        importance[c] = h[c * COLS + c];
    }
    assert_true(qn_feedback_factor(h, COLS, 0.01f));
    with_feedback(a, h, importance, w, ROWS, &all);
    for (size_t r = 0; r < ROWS; r++) {
        with_feedback(a, h, importance, w + r * COLS, 1, &one);
        assert_memory_equal(one.words, all.words + r * COLS / 8, COLS / 2);
        assert_memory_equal(one.scales, all.scales + r * 2, 4);
        assert_memory_equal(one.biases, all.biases + r * 2, 4);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factor_gives_the_moments_back),
        cmocka_unit_test(factor_refuses),
        cmocka_unit_test(lowers_the_error_of_the_output_within_its_bound),
        cmocka_unit_test(bound_holds_for_anything),
        cmocka_unit_test(diagonal_moments_give_the_nearest_codes),
        cmocka_unit_test(a_row_depends_on_itself_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
