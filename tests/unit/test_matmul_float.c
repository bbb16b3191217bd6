/* test_matmul_float.c - products with F32, F16, BF16 and F8_E4M3 weights: scalar against sums in double, every other kernel against scalar for
 * equal bits, at odd sizes, unaligned, with special values, and with weights that end at an unreadable page. */
#include "qn_test.h"

#include <math.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/half.h"
#include "kernels/matmul.h"
#include "quant/codec.h"

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

static const qn_dtype types[] = {QN_DTYPE_F32, QN_DTYPE_F16, QN_DTYPE_BF16, QN_DTYPE_F8_E4M3};
enum { N_TYPES = sizeof types / sizeof types[0] };

static size_t element_bytes(qn_dtype t) { return t == QN_DTYPE_F32 ? 4 : t == QN_DTYPE_F8_E4M3 ? 1 : 2; }

/* The code nearest to x from below in magnitude; NaN's for NaN, the largest finite one for what is beyond. */
static uint8_t e4m3_from_f32(float x)
{
    uint8_t low = 0, high = 0x7e;
    while (low < high) { /* magnitudes rise with their codes */
        const uint8_t middle = (uint8_t)((low + high + 1) / 2);
        if (qn_f32_from_e4m3(middle) <= fabsf(x)) {
            low = middle;
        } else {
            high = (uint8_t)(middle - 1);
        }
    }
    return (uint8_t)((isnan(x) ? 0x7f : low) | (signbit(x) ? 0x80 : 0));
}

static bool
    odd_factors; /* whether tiny ones are among the factors, and single blocks may have huge ones, beside which others would be rounded away */

/* Factors for a matrix that begins somewhere in its grid; blocks of all columns, or of a multiple of 16. Valid until the next call. */
static void set_grid(qn_matrix *w)
{
    static const float odd[] = {1e-40f, -0x1p-140f, 0.0f, 0x1p-120f, QN_SCALE_GRID_MAX, -QN_SCALE_GRID_MAX};
    enum { N_TINY = 4, N_ODD = sizeof odd / sizeof odd[0] };
    static const uint32_t rows[] = {1, 3, 128, UINT32_MAX}, cols[] = {16, 48, 128, UINT32_MAX};
    static float values[1 << 17];
    if (w->dtype == QN_DTYPE_F8_E4M3) {
        const uint64_t r = random_bits();
        w->grid_row = r % 40;
        w->grid = (qn_scale_grid){.values = values, .rows = rows[r / 64 % 4], .cols = cols[r / 256 % 4]};
        w->grid.n_across = (w->n_cols + w->grid.cols - 1) / w->grid.cols;
        const size_t n = ((w->grid_row + w->n_rows - 1) / w->grid.rows + 1) * w->grid.n_across;
        assert_true(n <= sizeof values / sizeof values[0] && !qn_matrix_is_decoded(w));
        for (size_t i = 0; i < n; i++) {
            const uint64_t choice = random_bits();
            values[i] = odd_factors && choice % 8 == 0 ? odd[choice / 8 % (w->grid.n_across == 1 ? N_ODD : N_TINY)]
                                                       : 1.0f + random_float() / 2;
        }
    }
}

static float factor_at(const qn_matrix *w, size_t r, size_t k)
{
    return w->dtype == QN_DTYPE_F8_E4M3 ? w->grid.values[(w->grid_row + r) / w->grid.rows * w->grid.n_across + k / w->grid.cols] : 1.0f;
}

/* Stores x as element i of `data`, unaligned; returns what is then there. */
static float put_weight(qn_dtype t, uint8_t *data, size_t i, float x)
{
    if (t == QN_DTYPE_F8_E4M3) {
        data[i] = e4m3_from_f32(x);
        return qn_f32_from_e4m3(data[i]);
    }
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
    odd_factors = false;
    enum { ROWS = 5, TOKENS = 3 };
    for (size_t i = 0; i < N_TYPES; i++) {
        for (size_t n_cols = 1; n_cols <= 300; n_cols += 13) {
            uint8_t *data = qn_malloc_array(ROWS * n_cols, 4);
            double *weights = qn_malloc_array(ROWS * n_cols, sizeof *weights);
            for (size_t k = 0; k < ROWS * n_cols; k++) {
                weights[k] = (double)put_weight(types[i], data, k, random_float());
            }
            qn_matrix w = {
                .dtype = types[i], .data = data, .row_bytes = n_cols * element_bytes(types[i]), .n_rows = ROWS, .n_cols = n_cols};
            set_grid(&w);
            qn_act a;
            void *memory;
            act_fill(&a, &memory, TOKENS, n_cols, random_float);
            float y[TOKENS * ROWS];
            qn_matmul(QN_ISA_SCALAR, &w, 0, ROWS, &a, 0, TOKENS, y, ROWS, NULL);
            for (size_t t = 0; t < TOKENS; t++) {
                for (size_t r = 0; r < ROWS; r++) {
                    double sum = 0.0;
                    for (size_t k = 0; k < n_cols; k++) {
                        sum += weights[r * n_cols + k] * (double)factor_at(&w, r, k) * (double)a.f[t * a.f_stride + k];
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

/* Numbers with, now and then, zeros of both signs, subnormals, and large ones whose products overflow. */
static float uneven_float(void)
{
    static const float special[] = {0.0f, -0.0f, 1e-40f, -1e-42f, 6e-8f, 65504.0f, -3e38f, 1e-30f};
    uint64_t r = random_bits();
    return r % 128 == 0 ? special[r / 128 % (sizeof special / sizeof special[0])] : random_float();
}

static float any_float(void)
{
    uint64_t r = random_bits();
    return r % 700 == 0 ? NAN : r % 700 == 1 ? INFINITY : r % 700 == 2 ? -INFINITY : uneven_float();
}

/* Memory that faults one byte past its end and one page before its begin. */
typedef struct guarded {
    uint8_t *pages;
    size_t page_bytes, n_bytes;
} guarded;

static void guarded_init(guarded *g, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    g->n_bytes = (bytes + page - 1) / page * page;
    g->page_bytes = page;
    g->pages = mmap(NULL, g->n_bytes + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g->pages != MAP_FAILED);
    assert_int_equal(mprotect(g->pages, page, PROT_NONE), 0);
    assert_int_equal(mprotect(g->pages + page + g->n_bytes, page, PROT_NONE), 0);
}

static uint8_t *guarded_end(const guarded *g) { return g->pages + g->page_bytes + g->n_bytes; }
static uint8_t *guarded_begin(const guarded *g) { return g->pages + g->page_bytes; }
static void guarded_deinit(guarded *g) { (void)munmap(g->pages, g->n_bytes + 2 * g->page_bytes); }

enum { ROWS_MAX = 37, TOKENS_MAX = 200, MARGIN = 5 };

/* Same bits; any NaN equals any NaN (which operand's payload survives is the processor's affair). */
static void assert_same(const float *got, const float *want, size_t n, const char *kernel, size_t n_rows, size_t n_cols, size_t n_tokens)
{
    for (size_t i = 0; i < n; i++) {
        if (qn_f32_to_bits(got[i]) != qn_f32_to_bits(want[i]) && !(isnan(got[i]) && isnan(want[i]))) {
            fail_msg("%s, %zu rows of %zu, %zu tokens: element %zu is %a, scalar has %a", kernel, n_rows, n_cols, n_tokens, i,
                     (double)got[i], (double)want[i]);
        }
    }
}

/* Multiplies rows [r0, n_rows) by tokens [t0, n_tokens) with scalar and with each vector kernel of the type, and compares all of y,
 * which also shows writes outside. */
static void compare_kernels(const qn_matrix *w, size_t r0, const qn_act *a, size_t t0, size_t n_tokens)
{
    static float got[TOKENS_MAX * (ROWS_MAX + MARGIN)], want[TOKENS_MAX * (ROWS_MAX + MARGIN)];
    size_t stride = w->n_rows + MARGIN, n = n_tokens * stride;
    void *scratch = qn_malloc_aligned(QN_MATMUL_SCRATCH_BYTES);
    memset(want, 0x55, n * sizeof *want);
    qn_matmul(QN_ISA_SCALAR, w, r0, w->n_rows, a, t0, n_tokens, want, stride, scratch);
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        const qn_matmul_kernel *k = qn_matmul_kernel_at(i);
        if (k->dtype == w->dtype && k->isa != QN_ISA_SCALAR && qn_isa_available(k->isa)) {
            memset(got, 0x55, n * sizeof *got);
            memset(scratch, 0xff, QN_MATMUL_SCRATCH_BYTES);
            k->fn(w, r0, w->n_rows, a, t0, n_tokens, got, stride, scratch);
            assert_same(got, want, n, k->name, w->n_rows - r0, w->n_cols, n_tokens - t0);
        }
    }
    qn_free_aligned(scratch);
}

/* Weights lie against the unreadable page (every other time 2 bytes before it, so that F32 is unaligned too), or at the begin of the
 * memory. */
static void compare_shape(qn_dtype type, size_t n_rows, size_t n_cols, size_t n_tokens, float (*value)(void))
{
    size_t row_bytes = n_cols * element_bytes(type), bytes = n_rows * row_bytes;
    guarded g;
    guarded_init(&g, bytes + 2);
    qn_act a;
    void *memory;
    act_fill(&a, &memory, n_tokens, n_cols, value);
    for (size_t place = 0; place < 3; place++) {
        uint8_t *data = place < 2 ? guarded_end(&g) - bytes - 2 * place : guarded_begin(&g);
        for (size_t k = 0; k < n_rows * n_cols; k++) {
            (void)put_weight(type, data, k, value());
        }
        qn_matrix w = {.dtype = type, .data = data, .row_bytes = row_bytes, .n_rows = n_rows, .n_cols = n_cols};
        set_grid(&w);
        compare_kernels(&w, 0, &a, 0, n_tokens);
        if (place == 0 && n_rows > 1 && n_tokens > 1) {
            compare_kernels(&w, n_rows / 2, &a, n_tokens / 2, n_tokens);
        }
    }
    qn_free_aligned(memory);
    guarded_deinit(&g);
}

static void kernels_are_equal(void **state)
{
    (void)state;
    odd_factors = true;
    static const size_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 23, 64};
    for (size_t i = 0; i < N_TYPES; i++) {
        for (size_t n_cols = 1; n_cols <= 40; n_cols++) {
            for (size_t t = n_cols % 2; t < sizeof tokens / sizeof tokens[0]; t += 2) {
                compare_shape(types[i], 1 + random_bits() % ROWS_MAX, n_cols, tokens[t], uneven_float);
            }
        }
        static const size_t columns[] = {100, 128, 1000};
        for (size_t c = 0; c < 3; c++) {
            for (size_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++) {
                compare_shape(types[i], 1 + random_bits() % (columns[c] < 1000 ? ROWS_MAX : 17), columns[c], tokens[t], uneven_float);
            }
        }
    }
}

/* Long rows make blocks of 12 (AVX2, NEON) or 24 tokens; tiles hold 3 or 6 tokens, panels 2, 4 or 8 rows. */
static void kernels_are_equal_around_blocks(void **state)
{
    (void)state;
    odd_factors = false;
    for (size_t i = 0; i < N_TYPES; i++) {
        static const size_t tokens[] = {11, 12, 13, 24, 25, 49};
        for (size_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++) {
            compare_shape(types[i], 3 + t, 23000 + t, tokens[t], uneven_float);
        }
        compare_shape(types[i], 37, 20, 95, uneven_float);
        compare_shape(types[i], 8, 33, 96, uneven_float);
        compare_shape(types[i], 9, 15, 97, uneven_float);
        compare_shape(types[i], 7, 1040, 200, uneven_float);
    }
}

static float tiny_float(void) { return 1e-40f; }

/* Every product is rounded to -0, so the sum is -0: a short tail must not turn untouched lanes into +0. */
static void negative_zero_survives_a_tail(void **state)
{
    (void)state;
    enum { ROWS = 9, TOKENS = 7 };
    for (size_t i = 0; i < N_TYPES; i++) {
        for (size_t n_cols = 16; n_cols <= 40; n_cols++) {
            uint8_t data[ROWS * 40 * 4];
            for (size_t k = 0; k < ROWS * n_cols; k++) {
                (void)put_weight(types[i], data, k, types[i] == QN_DTYPE_F8_E4M3 ? -1.0f : -6e-8f);
            }
            qn_matrix w = {
                .dtype = types[i], .data = data, .row_bytes = n_cols * element_bytes(types[i]), .n_rows = ROWS, .n_cols = n_cols};
            static const float small = 6e-8f; /* what F8 cannot say itself */
            w.grid = (qn_scale_grid){.values = &small, .rows = UINT32_MAX, .cols = UINT32_MAX, .n_across = 1};
            qn_act a;
            void *memory;
            act_fill(&a, &memory, TOKENS, n_cols, tiny_float);
            float y;
            qn_matmul(QN_ISA_SCALAR, &w, 0, 1, &a, 0, 1, &y, 1, NULL);
            assert_int_equal(qn_f32_to_bits(y), 0x80000000u);
            compare_kernels(&w, 0, &a, 0, TOKENS);
            compare_kernels(&w, 0, &a, 0, 1);
            qn_free_aligned(memory);
        }
    }
}

/* Every code: vector loads have a way of their own to each value. */
static void every_code_of_f8(void **state)
{
    (void)state;
    static const float one = 1.0f;
    enum { TOKENS = 20 }; /* beyond few tokens: decoded into scratch */
    uint8_t codes[256];
    for (size_t i = 0; i < sizeof codes; i++) {
        codes[i] = (uint8_t)i;
    }
    qn_act a;
    void *memory;
    act_fill(&a, &memory, TOKENS, 16, random_float);
    memset(a.f, 0, TOKENS * a.f_stride * sizeof *a.f);
    for (size_t lane = 0; lane < 16; lane++) {
        for (size_t t = 0; t < TOKENS; t++) {
            a.f[t * a.f_stride + (lane + 15) % 16] = 0.0f;
            a.f[t * a.f_stride + lane] = 1.0f;
        }
        for (size_t n_cols = 1; n_cols <= 16; n_cols += 15) {
            const qn_matrix w = {.dtype = QN_DTYPE_F8_E4M3,
                                 .data = codes,
                                 .row_bytes = n_cols,
                                 .n_rows = 16,
                                 .n_cols = n_cols,
                                 .grid = {.values = &one, .rows = UINT32_MAX, .cols = UINT32_MAX, .n_across = 1}};
            compare_kernels(&w, 0, &a, 0, 1);
            compare_kernels(&w, 0, &a, 0, TOKENS);
        }
    }
    for (size_t i = 0; i < sizeof codes; i++) { /* alone: where a NaN beside them does not hide them */
        const qn_matrix w = {.dtype = QN_DTYPE_F8_E4M3,
                             .data = codes + i,
                             .row_bytes = 1,
                             .n_rows = 1,
                             .n_cols = 1,
                             .grid = {.values = &one, .rows = UINT32_MAX, .cols = UINT32_MAX, .n_across = 1}};
        a.f[0] = 1.0f;
        float y;
        qn_matmul(QN_ISA_SCALAR, &w, 0, 1, &a, 0, 1, &y, 1, NULL);
        assert_true((isnan(y) && isnan(qn_f32_from_e4m3(codes[i]))) || y == qn_f32_from_e4m3(codes[i]));
        compare_kernels(&w, 0, &a, 0, 1);
    }
    qn_free_aligned(memory);
}

static void specials_are_equal(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_TYPES; i++) {
        for (size_t n_cols = 1; n_cols <= 300; n_cols += 23) {
            compare_shape(types[i], 19, n_cols, 1, any_float);
            compare_shape(types[i], 11, n_cols, 7, any_float);
        }
    }
}

/* Every float kernel that this machine can run is what qn_matmul chooses for some number of tokens, and is counted. */
static void forced_kernels_ran(void **state)
{
    (void)state;
    static uint8_t weights[16 * 32 * 4];
    static float y[64 * 16];
    void *memory, *scratch = qn_malloc_aligned(QN_MATMUL_SCRATCH_BYTES);
    qn_act a;
    act_fill(&a, &memory, 64, 32, random_float);
    uint32_t block;
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        const qn_matmul_kernel *k = qn_matmul_kernel_at(i);
        if (qn_isa_available(k->isa) && qn_act_kind_for(k->dtype, (qn_affine){0}, &block) == QN_ACT_F32) {
            qn_matrix w = {.dtype = k->dtype, .data = weights, .row_bytes = 32 * element_bytes(k->dtype), .n_rows = 16, .n_cols = 32};
            set_grid(&w);
            uint64_t before = qn_matmul_kernel_calls(i);
            qn_matmul(k->isa, &w, 0, 16, &a, 0, k->min_tokens, y, 16, scratch);
            assert_int_equal(qn_matmul_kernel_calls(i), before + 1);
        }
    }
    qn_free_aligned(memory);
    qn_free_aligned(scratch);
}

#if defined(__SANITIZE_ADDRESS__)

/* Whether AddressSanitizer stops a product of two rows and five tokens whose weights, activations or results (0, 1, 2) are a byte short; 3: none is. */
static bool is_stopped(qn_isa isa, size_t what)
{
    enum { COLUMNS = 37, TOKENS = 5 };
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)freopen("/dev/null", "w", stderr);
        const size_t weight_bytes = 2 * COLUMNS * sizeof(float) - (what == 0), x_bytes = TOKENS * COLUMNS * sizeof(float) - (what == 1);
        float *x = calloc(1, x_bytes), *y = malloc(TOKENS * 2 * sizeof(float) - (what == 2));
        const qn_matrix w = {
            .dtype = QN_DTYPE_F32, .data = calloc(1, weight_bytes), .row_bytes = COLUMNS * sizeof(float), .n_rows = 2, .n_cols = COLUMNS};
        const qn_act a = {.n_cols = COLUMNS, .f = x, .f_stride = COLUMNS};
        qn_matmul(isa, &w, 0, 2, &a, 0, TOKENS, y, 2, NULL);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status != 0;
}

/* Their inner loops are not watched access by access in sanitized builds (variant.h), but what they read and write is. */
static void sanitizers_see_a_missing_byte(void **state)
{
    (void)state;
    for (int isa = QN_ISA_SCALAR; isa < QN_ISA_COUNT; isa++) {
        for (size_t what = 0; what < 4 && qn_isa_available((qn_isa)isa); what++) {
            assert_int_equal(is_stopped((qn_isa)isa, what), what < 3);
        }
    }
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_is_the_product),
        cmocka_unit_test(kernels_are_equal),
        cmocka_unit_test(kernels_are_equal_around_blocks),
        cmocka_unit_test(negative_zero_survives_a_tail),
        cmocka_unit_test(every_code_of_f8),
        cmocka_unit_test(specials_are_equal),
        cmocka_unit_test(forced_kernels_ran),
#if defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(sanitizers_see_a_missing_byte),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
