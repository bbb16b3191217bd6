/* test_llama_encoder.c - what llama.cpp makes of a block, to the bit: against its own output, and the same on every instruction set. */
#include <math.h>

#include "qn_test.h"
#include "tensor_file.h"

#include "base/alloc.h"
#include "base/cpu.h"
#include "gate/llama_encoder.h"
#include "quant/codec.h"
#include "quant/search.h"

enum { N_ROWS = 8, N_COLUMNS = 512 };

static const struct {
    qn_dtype t;
    const char *name;
} cases[] = {{QN_DTYPE_Q2_K, "q2_K"}, {QN_DTYPE_Q3_K, "q3_K"},     {QN_DTYPE_Q4_K, "q4_K"},    {QN_DTYPE_Q5_K, "q5_K"},
             {QN_DTYPE_Q6_K, "q6_K"}, {QN_DTYPE_IQ4_NL, "iq4_nl"}, {QN_DTYPE_IQ4_XS, "iq4_xs"}};
enum { N_CASES = sizeof cases / sizeof cases[0] };

/* Rows of every unpleasant kind, as llama-quantize built for plain x86-64 stores them. */
static void as_llama_cpp_to_the_bit(void **state)
{
    tensor_file f = {0};
    (void)state;
    if (!tensor_file_open(&f, "rows/rows.safetensors")) {
        skip();
    }
    const float *x = tensor_file_find(&f, "input", NULL);
    assert_non_null(x);
    for (size_t k = 0; k < N_CASES; k++) {
        char key[64];
        (void)snprintf(key, sizeof key, "%s.dequant", cases[k].name);
        const float *reference = tensor_file_find(&f, key, NULL);
        assert_non_null(reference);
        assert_true(qn_llama_searches(cases[k].t));
        for (size_t r = 0; r < N_ROWS; r++) {
            float y[N_COLUMNS];
            qn_llama_blocks(cases[k].t, false, x + r * N_COLUMNS, y, N_COLUMNS);
            for (size_t i = 0; i < N_COLUMNS; i++) {
                if (y[i] != reference[r * N_COLUMNS + i]) {
                    fail_msg("%s row %zu: value %zu is %.9g, llama.cpp's is %.9g", cases[k].name, r, i, (double)y[i],
                             (double)reference[r * N_COLUMNS + i]);
                }
            }
        }
    }
    tensor_file_close(&f);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Of any number of blocks, whatever stands beside them. */
static void blocks_do_not_mix(void **state)
{
    enum { N = 37 * 256 };
    static float x[N], all[N], one[N];
    uint32_t r = 5;
    (void)state;
    for (size_t i = 0; i < N; i++) {
        float u = (float)next_random(&r) / 8388608.0f - 1.0f; /* -1 to 1 */
        x[i] = i / 256 % 5 == 1 ? 0 : i / 256 % 5 == 2 ? 0.02f : u * u * u * (i / 256 % 5 == 3 ? 1e-4f : 0.1f);
    }
    for (size_t k = 0; k < N_CASES; k++) {
        for (int fused = 0; fused < 2; fused++) {
            qn_llama_blocks(cases[k].t, fused == 1, x, all, N);
            for (size_t i = 0; i < N; i += 256) {
                qn_llama_blocks(cases[k].t, fused == 1, x + i, one + i, 256);
            }
            assert_memory_equal(all, one, sizeof all);
            assert_int_equal(qn_find_non_finite(all, N), N);
        }
    }
}

/* Both arithmetics, whether or not the machine has multiply-adds. */
static void the_same_on_every_instruction_set(void **state)
{
    enum { LEN = 32 };
    static const qn_isa sets[] = {QN_ISA_AVX2, QN_ISA_AVX512};
    static const qn_llama_offsets offsets[] = {{.top = 3, .first = -0.5f, .step = 0.1f, .n_steps = 15, .absolute = true},
                                               {.top = 15, .first = -1, .step = 0.1f, .n_steps = 20}};
    static const qn_llama_scales scales[] = {{.low = -32, .high = 31, .step = 0.1f, .n_trials = 9},
                                             {.iq4 = true, .low = -127, .n_trials = 7}};
    const qn_search *portable = qn_search_get(QN_ISA_SCALAR);
    float *x = qn_malloc_aligned(LEN * QN_COLUMNS * sizeof *x), *found = qn_malloc_aligned(4 * QN_COLUMNS * sizeof *found);
    uint32_t r = 9;
    (void)state;
    assert_true(x != NULL && found != NULL);
    for (int run = 0; run < 100; run++) {
        for (size_t i = 0; i < LEN * QN_COLUMNS; i++) {
            float u = (float)next_random(&r) / 8388608.0f - 1.0f;
            x[i] = i % QN_COLUMNS == 3 ? 0 : i % QN_COLUMNS == 4 ? 0.5f : u * u * u;
        }
        for (size_t s = 0; s < sizeof sets / sizeof sets[0]; s++) {
            const qn_search *other = qn_search_get(sets[s]);
            for (int how = 0; how < 4; how++) {
                float *own = found, *theirs = found + 2 * QN_COLUMNS;
                portable->llama_offsets(x, LEN, &offsets[how / 2], how % 2 == 1, own, own + QN_COLUMNS);
                other->llama_offsets(x, LEN, &offsets[how / 2], how % 2 == 1, theirs, theirs + QN_COLUMNS);
                assert_memory_equal(own, theirs, 2 * QN_COLUMNS * sizeof *own);
                portable->llama_scales(x, LEN, &scales[how / 2], how % 2 == 1, own);
                other->llama_scales(x, LEN, &scales[how / 2], how % 2 == 1, theirs);
                assert_memory_equal(own, theirs, QN_COLUMNS * sizeof *own);
            }
        }
    }
    qn_free_aligned(found);
    qn_free_aligned(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(as_llama_cpp_to_the_bit), cmocka_unit_test(blocks_do_not_mix),
                                       cmocka_unit_test(the_same_on_every_instruction_set)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
