/* test_feedback.c - codes with the error fed back: the factor, the bound, and what it is worth. */
#include "qn_test.h"

#include <math.h>

#include "base/alloc.h"
#include "base/cpu.h"
#include "quant/codec.h"
#include "quant/feedback.h"
#include "quant/search.h"

enum { COLS = 256, ROWS = 21, SAMPLES = 400 };

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

/* What a column's error costs once those behind it took up what they can. */
static void weights_of_factor(const float *factor, float *weights)
{
    for (size_t c = 0; c < COLS; c++) {
        weights[c] = factor[c * COLS + c] * factor[c * COLS + c];
    }
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
        weights_of_factor(h, importance);
        with_feedback(a, h, NULL, w, ROWS, &fed);
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
        assert_memory_equal(one.scales, all.scales + r * COLS / 64, COLS / 32);
        assert_memory_equal(one.biases, all.biases + r * COLS / 64, COLS / 32);
    }
}

/* ---- blocks of GGUF ---- */

static const qn_dtype types[] = {QN_DTYPE_Q8_0,   QN_DTYPE_Q4_0,   QN_DTYPE_Q4_1, QN_DTYPE_Q5_0, QN_DTYPE_Q5_1,
                                 QN_DTYPE_Q2_K,   QN_DTYPE_Q3_K,   QN_DTYPE_Q4_K, QN_DTYPE_Q5_K, QN_DTYPE_Q6_K,
                                 QN_DTYPE_IQ4_NL, QN_DTYPE_IQ4_XS, QN_DTYPE_MXFP4};
enum { N_TYPES = sizeof types / sizeof types[0], ROW_BYTES_MAX = COLS * 34 / 32 };

typedef struct rows_of {
    uint8_t bytes[ROWS * ROW_BYTES_MAX];
    float y[ROWS * COLS];
} rows_of;

static size_t row_bytes(qn_dtype t) { return COLS / qn_dtype_get(t)->block_size * qn_dtype_get(t)->block_bytes; }

static void blocks_with_feedback(qn_dtype t, const float *factor, const float *importance, const float *w, size_t n_rows, rows_of *out)
{
    float *scratch = qn_malloc_aligned(qn_feedback_scratch(COLS) * sizeof *scratch);
    assert_non_null(scratch);
    memset(out, 0, sizeof *out);
    qn_encode_blocks_feedback(t, factor, importance, w, n_rows, COLS, out->bytes, scratch);
    qn_decode_row(t, out->bytes, out->y, n_rows * COLS);
    qn_free_aligned(scratch);
}

/* Codes nearest to the weights; importance: of a column, or NULL. */
static void blocks_nearest(qn_dtype t, const float *importance, const float *w, rows_of *out)
{
    memset(out, 0, sizeof *out);
    for (size_t r = 0; r < ROWS; r++) {
        float weights[COLS], per_magnitude = qn_importance_per_magnitude(t, w + r * COLS, COLS);
        for (size_t c = 0; c < COLS && importance != NULL; c++) {
            weights[c] = qn_importance_weight(t, importance[c], w[r * COLS + c], per_magnitude);
        }
        qn_encode_row(t, w + r * COLS, out->bytes + r * row_bytes(t), COLS, importance != NULL ? weights : NULL);
    }
    qn_decode_row(t, out->bytes, out->y, (size_t)ROWS * COLS);
}

static double squared_error(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
    }
    return sum;
}

static void assert_bounded(qn_dtype t, const float *w, const rows_of *fed)
{
    static rows_of plain;
    size_t block = qn_dtype_get(t)->block_size;
    blocks_nearest(t, NULL, w, &plain);
    for (size_t b = 0; b < (size_t)ROWS * COLS; b += block) {
        double theirs = squared_error(plain.y + b, w + b, block);
        assert_true(squared_error(fed->y + b, w + b, block) <= (double)QN_FEEDBACK_BOUND * theirs * (1 + 1e-4) + 1e-9);
    }
}

/* Equal blocks, but for those that would break the bound: some, not many. */
static void assert_encoders(qn_dtype t, const float *w, const rows_of *fed, const rows_of *nearest)
{
    static rows_of plain;
    size_t block = qn_dtype_get(t)->block_size, bytes = qn_dtype_get(t)->block_bytes, n = (size_t)ROWS * COLS / block, n_equal = 0;
    blocks_nearest(t, NULL, w, &plain);
    for (size_t b = 0; b < n; b++) {
        const float *x = w + b * block;
        if (squared_error(nearest->y + b * block, x, block) < 1.1999 * squared_error(plain.y + b * block, x, block)) {
            assert_memory_equal(fed->bytes + b * bytes, nearest->bytes + b * bytes, bytes);
            n_equal++;
        }
    }
    assert_true(n_equal * 10 > n * 9);
}

static void blocks_lower_the_error_of_the_output_within_their_bound(void **state)
{
    (void)state;
    static float h[COLS * COLS], w[ROWS * COLS], importance[COLS];
    static double full[COLS * COLS];
    static rows_of fed, nearest;
    for (size_t k = 0; k < N_TYPES; k++) {
        seed = 70 + (uint32_t)k;
        make_moments(h, full);
        make_weights(w, ROWS * COLS);
        for (size_t c = 0; c < COLS; c++) {
            importance[c] = h[c * COLS + c];
        }
        assert_true(qn_feedback_factor(h, COLS, 0.01f));
        assert_true(qn_feedback_supports(types[k]));
        blocks_with_feedback(types[k], h, importance, w, ROWS, &fed);
        blocks_with_feedback(types[k], NULL, importance, w, ROWS, &nearest); /* under the same bound */
        double error = 0, error_nearest = 0;
        for (size_t r = 0; r < ROWS; r++) {
            error += weighted_error(w + r * COLS, fed.y + r * COLS, full);
            error_nearest += weighted_error(w + r * COLS, nearest.y + r * COLS, full);
        }
        assert_true(error < error_nearest);
        assert_bounded(types[k], w, &fed);
    }
}

static void bound_of_blocks_holds_for_anything(void **state)
{
    (void)state;
    static float h[COLS * COLS], w[ROWS * COLS], importance[COLS];
    static rows_of fed;
    for (size_t k = 0; k < N_TYPES; k++) {
        seed = 199 + (uint32_t)k;
        make_weights(w, ROWS * COLS);
        for (size_t c = 0; c < COLS; c++) {
            importance[c] = c % 16 == 0 ? 1e6f : 0;
            w[5 * COLS + c] = 0;     /* zeros */
            w[6 * COLS + c] = 0.25f; /* constant */
            w[7 * COLS + c] *= c == 40 ? 1e4f : 1.0f;
            w[8 * COLS + c] *= 1e-30f;
            for (size_t i = 0; i <= c; i++) {
                h[c * COLS + i] = i == c ? 1.0f : 0.999f;
            }
        }
        assert_true(qn_feedback_factor(h, COLS, 1e-4f));
        blocks_with_feedback(types[k], h, importance, w, ROWS, &fed);
        assert_bounded(types[k], w, &fed);
        blocks_with_feedback(types[k], h, NULL, w, ROWS, &fed);
        assert_bounded(types[k], w, &fed);
    }
}

/* Sums of such weights overflow; what is written does not. */
static void enormous_weights_stay_finite(void **state)
{
    (void)state;
    static float h[COLS * COLS], w[ROWS * COLS];
    static double full[COLS * COLS];
    static rows_of fed;
    static encoded groups;
    seed = 12;
    make_moments(h, full);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        w[i] = (i / COLS % 3 == 0 ? 1e38f : i / COLS % 3 == 1 ? 1e30f : 1e6f) * (draw() < 0 ? -3.0f : 2.0f);
    }
    assert_true(qn_feedback_factor(h, COLS, 0.01f));
    for (size_t k = 0; k < N_TYPES; k++) {
        blocks_with_feedback(types[k], h, NULL, w, ROWS, &fed);
        assert_int_equal(qn_find_non_finite(fed.y, ROWS * COLS), ROWS * COLS);
    }
    for (size_t i = 0; i < ROWS * COLS; i++) {
        w[i] *= 0.1f; /* a group's range is a float32, too */
    }
    with_feedback((qn_affine){4, 64}, h, NULL, w, ROWS, &groups);
    decode((qn_affine){4, 64}, &groups);
    assert_int_equal(qn_find_non_finite(groups.y, ROWS * COLS), ROWS * COLS);
}

/* Columns that do not go together leave nothing to feed back, nor does no factor: the encoder's own bytes where they keep the bound. */
static void without_feedback_blocks_are_the_encoders(void **state)
{
    (void)state;
    static float h[COLS * COLS], w[ROWS * COLS], importance[COLS];
    static rows_of fed, nearest;
    for (size_t k = 0; k < N_TYPES; k++) {
        seed = 30 + (uint32_t)k;
        make_weights(w, ROWS * COLS);
        memset(h, 0, sizeof h);
        for (size_t c = 0; c < COLS; c++) {
            importance[c] = 1.0f + 0.2f * fabsf(draw());
            h[c * COLS + c] = importance[c];
        }
        assert_true(qn_feedback_factor(h, COLS, 0.01f));
        weights_of_factor(h, importance);
        blocks_nearest(types[k], importance, w, &nearest);
        blocks_with_feedback(types[k], h, NULL, w, ROWS, &fed);
        assert_encoders(types[k], w, &fed, &nearest);
        blocks_with_feedback(types[k], NULL, importance, w, ROWS, &fed);
        assert_encoders(types[k], w, &fed, &nearest);
    }
}

static void rows_of_blocks_depend_on_themselves_alone(void **state)
{
    (void)state;
    static float h[COLS * COLS], w[ROWS * COLS], importance[COLS];
    static double full[COLS * COLS];
    static rows_of all, some;
    for (size_t k = 0; k < N_TYPES; k++) {
        seed = 110 + (uint32_t)k;
        make_moments(h, full);
        make_weights(w, ROWS * COLS);
        for (size_t c = 0; c < COLS; c++) {
            importance[c] = h[c * COLS + c];
        }
        assert_true(qn_feedback_factor(h, COLS, 0.01f));
        blocks_with_feedback(types[k], h, importance, w, ROWS, &all);
        for (size_t r = 0; r < ROWS; r += 3) {
            blocks_with_feedback(types[k], h, importance, w + r * COLS, 3, &some);
            assert_memory_equal(some.bytes, all.bytes + r * row_bytes(types[k]), 3 * row_bytes(types[k]));
        }
    }
}

/* Sums and codes are the same bits on every instruction set. */
static void instruction_sets_agree(void **state)
{
    (void)state;
    enum { N = 21 };
    static const qn_level_set sets[] = {{QN_LEVELS_INTEGER, -8, 7}, {QN_LEVELS_IQ4, -127, 113}, {QN_LEVELS_FP4, -12, 12}};
    static float h[N * N], x[16 * N], lanes[4][16], sums[2][16 * N], error[2][16 * N], levels[2][16 * N], squared[2][16];
    seed = 5;
    for (size_t i = 0; i < 16 * N; i++) {
        x[i] = draw();
    }
    for (size_t i = 0; i < N * N; i++) {
        h[i] = 0.3f * draw();
    }
    for (size_t r = 0; r < 16; r++) {
        lanes[0][r] = 0.25f * (float)(r % 5);
        lanes[1][r] = r == 3 ? 0 : 0.1f + 0.01f * draw();
        lanes[2][r] = r == 3 ? 0 : 1 / lanes[1][r];
        lanes[3][r] = 0.1f * draw();
    }
    for (size_t k = 0; k < sizeof sets / sizeof sets[0]; k++) {
        for (qn_isa isa = QN_ISA_SCALAR; isa <= QN_ISA_AVX512; isa++) {
            size_t to = isa != QN_ISA_SCALAR;
            const qn_search *s = qn_search_get(isa);
            memcpy(sums[to], x, sizeof x);
            memset(squared[to], 0, sizeof squared[to]);
            s->feedback_sums(h, N, N, x, 2, N, sums[to]);
            const qn_feedback_columns c = {.x = x,
                                           .factor = h,
                                           .stride = N,
                                           .n = N,
                                           .sums = sums[to],
                                           .strength = lanes[0],
                                           .scale = lanes[1],
                                           .inverse = lanes[2],
                                           .offset = lanes[3],
                                           .set = sets[k],
                                           .error = error[to],
                                           .levels = levels[to],
                                           .squared = squared[to]};
            s->feedback_codes(&c);
            if (to == 1) {
                assert_memory_equal(sums[0], sums[1], sizeof sums[0]);
                assert_memory_equal(error[0], error[1], sizeof error[0]);
                assert_memory_equal(levels[0], levels[1], sizeof levels[0]);
                assert_memory_equal(squared[0], squared[1], sizeof squared[0]);
            }
        }
    }
}

static void mxfp4_blocks_and_rows_hold_the_same(void **state)
{
    (void)state;
    static float w[COLS], y[2][COLS];
    uint8_t packed[COLS / 2], scales[COLS / 32], blocks[COLS / 32 * 17], again[COLS / 2], scales_again[COLS / 32];
    seed = 4;
    make_weights(w, COLS);
    qn_encode_mxfp4_row(w, packed, scales, COLS, NULL);
    qn_mxfp4_row_to_blocks(packed, scales, blocks, COLS);
    qn_mxfp4_blocks_to_row(blocks, again, scales_again, COLS);
    assert_memory_equal(again, packed, sizeof packed);
    assert_memory_equal(scales_again, scales, sizeof scales);
    qn_decode_row(QN_DTYPE_MXFP4, blocks, y[0], COLS);
    qn_decode_mxfp4_row(again, scales_again, y[1], COLS);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
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
        cmocka_unit_test(blocks_lower_the_error_of_the_output_within_their_bound),
        cmocka_unit_test(bound_of_blocks_holds_for_anything),
        cmocka_unit_test(enormous_weights_stay_finite),
        cmocka_unit_test(without_feedback_blocks_are_the_encoders),
        cmocka_unit_test(rows_of_blocks_depend_on_themselves_alone),
        cmocka_unit_test(instruction_sets_agree),
        cmocka_unit_test(mxfp4_blocks_and_rows_hold_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
