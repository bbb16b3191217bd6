/* test_isa.c - that what is chosen for each instruction set of this machine runs here: the strongest kernels for one token and for a few, and the
 * loops that measure its units. Short, so that it can be run on many emulated processors (tools/check-aarch64.sh). */
#include "base/alloc.h"
#include "base/cpu.h"
#include "kernels/matmul.h"
#include "kernels/peak.h"
#include "qn_test.h"
#include "random_weights.h"

enum { ROWS = 19, COLUMNS = 512, TOKENS = 13 };

static void what_is_here(void **state)
{
    (void)state;
    char names[128] = "";
    for (int i = 0; i < QN_ISA_COUNT; i++) {
        if (qn_isa_available((qn_isa)i)) {
            (void)snprintf(names + strlen(names), sizeof names - strlen(names), " %s", qn_isa_name((qn_isa)i));
        }
    }
    print_message("instruction sets:%s\n", names);
    assert_true(qn_isa_available(QN_ISA_SCALAR));
    assert_true(qn_isa_available(qn_isa_best()));
    assert_true(qn_isa_available(QN_ISA_NEON) || !qn_isa_available(QN_ISA_I8MM));
    assert_true(qn_isa_available(QN_ISA_AVX2) || !qn_isa_available(QN_ISA_AVX512));
}

typedef struct product {
    qn_matrix w;
    qn_act a;
    void *memory;
} product;

static product product_create(qn_dtype t)
{
    product p = {.w = {.dtype = t, .n_rows = ROWS, .n_cols = COLUMNS}};
    assert_true(qn_dtype_row_bytes(t, COLUMNS, &p.w.row_bytes));
    uint8_t *data = qn_malloc(ROWS * p.w.row_bytes);
    assert_non_null(data);
    random_blocks(data, t, ROWS * p.w.row_bytes, SCALES_USUAL);
    p.w.data = data;
    uint32_t block;
    qn_act_kind kind = qn_act_kind_for(t, p.w.affine, &block);
    p.memory = qn_malloc_aligned(qn_act_bytes(kind, block, TOKENS, COLUMNS));
    assert_non_null(p.memory);
    qn_act_bind(&p.a, kind, block, TOKENS, COLUMNS, p.memory);
    static float x[TOKENS * COLUMNS];
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) {
        x[i] = random_unit();
    }
    qn_act_quantize(qn_isa_best(), &p.a, x, COLUMNS, 0, TOKENS);
    return p;
}

static void product_destroy(product *p)
{
    qn_free((void *)(uintptr_t)p->w.data);
    qn_free_aligned(p->memory);
}

/* The strongest instruction set that calls went to since `before`. */
static qn_isa served_by(const uint64_t *before)
{
    qn_isa isa = QN_ISA_SCALAR;
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        const qn_matmul_kernel *k = qn_matmul_kernel_at(i);
        isa = qn_matmul_kernel_calls(i) > before[i] && k->isa > isa ? k->isa : isa;
    }
    return isa;
}

static void chosen_kernels_give_the_scalar_bits(void **state)
{
    (void)state;
    static const qn_dtype types[] = {QN_DTYPE_Q4_K, QN_DTYPE_Q6_K, QN_DTYPE_Q8_0, QN_DTYPE_Q4_1};
    static float want[TOKENS * ROWS], got[TOKENS * ROWS];
    uint64_t *before = qn_malloc_array(qn_matmul_kernel_count(), sizeof *before);
    void *scratch = qn_malloc_aligned(QN_MATMUL_SCRATCH_BYTES);
    assert_non_null(before);
    assert_non_null(scratch);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        product p = product_create(types[i]);
        qn_matmul(QN_ISA_SCALAR, &p.w, 0, ROWS, &p.a, 0, TOKENS, want, ROWS, scratch);
        for (int isa = 0; isa < QN_ISA_COUNT; isa++) {
            for (size_t n = 1; n <= TOKENS && qn_isa_available((qn_isa)isa); n++) {
                for (size_t k = 0; k < qn_matmul_kernel_count(); k++) {
                    before[k] = qn_matmul_kernel_calls(k);
                }
                qn_matmul((qn_isa)isa, &p.w, 0, ROWS, &p.a, 0, n, got, ROWS, scratch);
                assert_memory_equal(got, want, n * ROWS * sizeof(float));
                assert_true((int)served_by(before) <= isa);
                /* one token has no use for pairs of tokens */
                assert_true(isa != QN_ISA_I8MM || served_by(before) == (n == 1 ? QN_ISA_NEON : QN_ISA_I8MM));
                assert_true(isa != QN_ISA_NEON || served_by(before) == QN_ISA_NEON);
            }
        }
        product_destroy(&p);
    }
    qn_free_aligned(scratch);
    qn_free(before);
}

static void peak_loops_run(void **state)
{
    (void)state;
    enum { BYTES = 4096 };
    uint8_t *data = qn_malloc_aligned(BYTES);
    assert_non_null(data);
    random_bytes(data, BYTES);
    for (int i = 0; i < QN_ISA_COUNT; i++) {
        const qn_isa isa = (qn_isa)i;
        const bool vnni = isa == QN_ISA_AVX512VNNI || isa == QN_ISA_AMX, dot = isa == QN_ISA_NEON || isa == QN_ISA_I8MM;
        if (!qn_isa_available(isa)) {
            continue;
        }
        const uint64_t read = qn_peak_read(isa, data, BYTES, 1); /* says nothing: it keeps the loads alive, each form in its own way */
        assert_true(read == qn_peak_read(isa, data, BYTES, 1));
        assert_true(read == qn_peak_read(isa, data, BYTES, QN_PEAK_STREAMS)); /* the same bytes, once each, in another order */
        /* also those that are left of four equal streams */
        assert_true(qn_peak_read(isa, data, BYTES - 256, QN_PEAK_STREAMS) == qn_peak_read(isa, data, BYTES - 256, 1));
        assert_true(qn_peak_fma_f32(isa, 1) > 0);
        assert_int_equal(qn_peak_fma_f32(isa, 1000), 1000 * qn_peak_fma_f32(isa, 1));
        assert_true((qn_peak_int8(isa, 1) > 0) == (vnni || dot || isa == QN_ISA_AVX2 || isa == QN_ISA_AVX512));
        assert_int_equal(qn_peak_int8(isa, 1000), 1000 * qn_peak_int8(isa, 1));
        assert_true((qn_peak_int8_tiles(isa, 1) > 0) == (isa == QN_ISA_AMX || isa == QN_ISA_I8MM));
        assert_int_equal(qn_peak_int8_tiles(isa, 1000), 1000 * qn_peak_int8_tiles(isa, 1));
        assert_true((qn_peak_bf16_tiles(isa, 1) > 0) == (isa == QN_ISA_AMX && qn_cpu_has_amx_bf16()));
        assert_int_equal(qn_peak_bf16_tiles(isa, 1000), 1000 * qn_peak_bf16_tiles(isa, 1));
        print_message("%s: %llu float, %llu and %llu integer operations a round\n", qn_isa_name(isa),
                      (unsigned long long)qn_peak_fma_f32(isa, 1), (unsigned long long)qn_peak_int8(isa, 1),
                      (unsigned long long)qn_peak_int8_tiles(isa, 1));
    }
    qn_free_aligned(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_here),
        cmocka_unit_test(chosen_kernels_give_the_scalar_bits),
        cmocka_unit_test(peak_loops_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
