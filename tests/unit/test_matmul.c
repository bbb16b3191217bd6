/* test_matmul.c - every row of matmul.inc against the scalar kernel, bit for bit, at awkward sizes and addresses; the scalar kernels against
 * decoded weights in double precision; the activation quantizers against the scalar one.
 *
 * Weights, activations and scratch end or, in turns, begin at a page that may not be touched, so a kernel that reads or writes past them dies here. */
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cpu.h"
#include "base/half.h"
#include "kernels/cpu/matmul_lanes.h"
#include "kernels/matmul.h"
#include "qn_test.h"
#include "quant/codec.h"
#include "random_weights.h"

/* ---- guarded memory ---- */

/* Memory whose last byte is followed by a page that may not be touched or, every other time, whose first byte follows one. */
typedef struct guarded {
    uint8_t *map;
    size_t map_bytes;
    uint8_t *data;
} guarded;

static guarded guarded_create(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t body = qn_align_up(bytes == 0 ? 1 : bytes, page);
    static size_t n_created;
    guarded g = {.map_bytes = body + 2 * page};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map, page, PROT_NONE), 0);
    assert_int_equal(mprotect(g.map + page + body, page, PROT_NONE), 0);
    g.data = g.map + page + (n_created++ % 2 == 0 ? body - bytes : 0);
    return g;
}

static void guarded_destroy(guarded *g) { assert_int_equal(munmap(g->map, g->map_bytes), 0); }

/* ---- weights ---- */

typedef struct test_weights {
    qn_matrix m;
    guarded data, scales, biases;
} test_weights;

/* Rows in turn, but for the first: the largest codes, the smallest, both in turn. With activations of one sign no sum can be greater. */
static void extreme_codes(uint8_t *data, size_t n_rows, size_t row_bytes)
{
    for (size_t r = 1; r < n_rows; r++) {
        for (size_t i = 0; i < row_bytes; i++) {
            data[r * row_bytes + i] = r % 3 == 0 || (r % 3 == 1 && i % 2 == 0) ? 0xff : 0;
        }
    }
}

/* Likewise types of blocks whose first `head` bytes, float scales, stay. Q4_0: sums of a block of up to 32 * 8 * 127, which must fit 16 bits; Q5_K: of
 * eight products of up to 31 * 127, likewise; Q4_K, integer scales and mins with the codes: of half a block of up to 128 * 15 * 127 * 63, which must
 * fit a float. Some codes are one less: odd sums are the first that would not fit. */
static void extreme_blocks(uint8_t *data, size_t n_rows, size_t row_bytes, size_t block_bytes, size_t head)
{
    for (size_t r = 1; r < n_rows; r++) {
        for (size_t i = 0; i < row_bytes; i++) {
            if (r % 3 > 0 && i % block_bytes >= head) {
                data[r * row_bytes + i] = r % 3 == 1 ? 0 : random_u32() % 8 == 0 ? 0xfe : 0xff;
            }
        }
    }
}

static test_weights weights_create(qn_dtype t, qn_affine affine, qn_dtype affine_dtype, size_t n_rows, size_t n_cols, scale_mode mode)
{
    static const float one = 1.0f; /* one block; other grids are test_matmul_float.c's */
    const qn_scale_grid grid = {.values = &one, .rows = UINT32_MAX, .cols = UINT32_MAX, .n_across = 1};
    test_weights w = {.m = {.dtype = t, .n_rows = n_rows, .n_cols = n_cols, .grid = grid}};
    if (t == QN_DTYPE_MLX_AFFINE) {
        w.m.affine = affine;
        w.m.affine_dtype = affine_dtype;
        w.m.row_bytes = n_cols / 8 * affine.bits;
        size_t n_groups = n_rows * (n_cols / affine.group);
        size_t item = affine_dtype == QN_DTYPE_F32 ? 4 : 2;
        w.scales = guarded_create(n_groups * item);
        w.biases = guarded_create(n_groups * item);
        random_floats(w.scales.data, affine_dtype, n_groups, &mode);
        random_floats(w.biases.data, affine_dtype, n_groups, &mode);
        w.m.scales = w.scales.data;
        w.m.biases = w.biases.data;
    } else {
        assert_true(qn_dtype_row_bytes(t, n_cols, &w.m.row_bytes));
    }
    size_t bytes = n_rows * w.m.row_bytes;
    w.data = guarded_create(bytes);
    w.m.data = w.data.data;
    if (t == QN_DTYPE_MLX_AFFINE) {
        random_bytes(w.data.data, bytes);
        if (mode == SCALES_EXTREME) {
            extreme_codes(w.data.data, n_rows, w.m.row_bytes);
        }
    } else {
        random_blocks(w.data.data, t, bytes, mode);
        if ((t == QN_DTYPE_Q4_0 || t == QN_DTYPE_Q4_K || t == QN_DTYPE_Q5_K || t == QN_DTYPE_IQ4_XS) && mode == SCALES_EXTREME) {
            extreme_blocks(w.data.data, n_rows, w.m.row_bytes, qn_dtype_get(t)->block_bytes,
                           t == QN_DTYPE_Q4_K || t == QN_DTYPE_Q5_K ? 4 : 2);
        }
    }
    return w;
}

static void weights_destroy(test_weights *w)
{
    guarded_destroy(&w->data);
    if (w->m.dtype == QN_DTYPE_MLX_AFFINE) {
        guarded_destroy(&w->scales);
        guarded_destroy(&w->biases);
    }
}

/* ---- activations ---- */

typedef struct test_acts {
    qn_act a;
    guarded memory;
    float *x;
} test_acts;

/* Rows in turn: normal numbers; +-1 (codes +-127); codes of 127 or -127 only; zeros and single values; subnormals and huge values. */
static void fill_x(float *x, size_t n, size_t row)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t r = random_u32();
        switch (row % 5) {
        case 1: x[i] = r % 2 == 0 ? 1.0f : -1.0f; break;
        case 2: x[i] = row % 2 == 0 ? 1.0f : -1.0f; break;
        case 3: x[i] = r % 37 == 0 ? 3.0f * random_unit() : 0.0f; break;
        case 4: x[i] = i / 256 % 2 == 0 ? 1e-41f * random_unit() : 1e18f * random_unit(); break;
        default: x[i] = 2.0f * random_unit(); break;
        }
    }
}

static test_acts acts_create(qn_dtype t, qn_affine affine, size_t n_rows, size_t n_cols)
{
    test_acts s;
    uint32_t block;
    qn_act_kind kind = qn_act_kind_for(t, affine, &block);
    size_t bytes = qn_act_bytes(kind, block, n_rows, n_cols);
    s.memory = guarded_create(qn_align_up(bytes, 64));
    s.x = qn_malloc_array(n_rows * n_cols, sizeof(float));
    assert_non_null(s.x);
    memset(s.memory.data, 0xa5, bytes);
    qn_act_bind(&s.a, kind, block, n_rows, n_cols, s.memory.data);
    for (size_t r = 0; r < n_rows; r++) {
        fill_x(s.x + r * n_cols, n_cols, r);
        if (kind == QN_ACT_F32) {
            memcpy(s.a.f + r * s.a.f_stride, s.x + r * n_cols, n_cols * sizeof(float));
        }
    }
    if (kind == QN_ACT_I8) {
        qn_act_quantize(QN_ISA_SCALAR, &s.a, s.x, n_cols, 0, n_rows);
    }
    return s;
}

static void acts_destroy(test_acts *s)
{
    guarded_destroy(&s->memory);
    qn_free(s->x);
}

/* ---- comparison ---- */

#define SENTINEL 0x7fa5a5a5u /* a NaN that no kernel makes */

/* Equal bits; every NaN counts as the same value, since which operand's payload survives is not the contract's business. */
static bool same_value(float a, float b) { return qn_f32_to_bits(a) == qn_f32_to_bits(b) || (isnan(a) && isnan(b)); }

static const qn_matmul_kernel *scalar_kernel_for(qn_dtype t, uint32_t bits)
{
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        const qn_matmul_kernel *k = qn_matmul_kernel_at(i);
        if (k->isa == QN_ISA_SCALAR && k->dtype == t && (t != QN_DTYPE_MLX_AFFINE || k->mlx_bits == bits)) {
            return k;
        }
    }
    return NULL;
}

typedef struct product {
    const test_weights *w;
    const test_acts *s;
    const float *expected; /* (tokens, n_rows) from the scalar kernel */
    float *y;
    size_t y_stride;
    void *scratch;
} product;

/* Runs one kernel (through the selection when `select` is set) on a part of the product and compares everything in y. */
static void check_part(const product *p, const qn_matmul_kernel *k, bool select, size_t r0, size_t r1, size_t t0, size_t t1)
{
    const qn_matrix *m = &p->w->m;
    size_t n_tokens = p->s->a.n_rows;
    for (size_t i = 0; i < n_tokens * p->y_stride; i++) {
        p->y[i] = qn_f32_from_bits(SENTINEL);
    }
    if (select) {
        qn_matmul(k->isa, m, r0, r1, &p->s->a, t0, t1, p->y, p->y_stride, p->scratch);
    } else {
        k->fn(m, r0, r1, &p->s->a, t0, t1, p->y, p->y_stride, p->scratch);
    }
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t r = 0; r < p->y_stride; r++) {
            float got = p->y[t * p->y_stride + r];
            bool inside = t >= t0 && t < t1 && r >= r0 && r < r1;
            bool good = inside ? same_value(got, p->expected[t * m->n_rows + r]) : qn_f32_to_bits(got) == SENTINEL;
            if (!good) {
                print_error("%s %s bits %u group %u: %zu columns, rows %zu..%zu, tokens %zu..%zu: y[%zu][%zu] = %a (%08x), expected %a\n",
                            k->name, qn_dtype_get(m->dtype)->name, m->affine.bits, m->affine.group, m->n_cols, r0, r1, t0, t1, t, r,
                            (double)got, qn_f32_to_bits(got), inside ? (double)p->expected[t * m->n_rows + r] : 0.0);
            }
            assert_true(good);
        }
    }
}

typedef struct part {
    size_t r0, r1, t0, t1;
} part;

static void check_few(const product *p, const qn_matmul_kernel *k, const part *parts, size_t n_parts)
{
    for (size_t j = 0; j < n_parts; j++) {
        if (parts[j].t1 - parts[j].t0 >= k->min_tokens && parts[j].t1 - parts[j].t0 <= 9) {
            check_part(p, k, false, parts[j].r0, parts[j].r1, parts[j].t0, parts[j].t1);
        }
    }
}

/* The parts again for every kind of processor that kernels of few tokens ask about: for every number of places that weights are read from, which
 * float weights' kernels ask for and, on x86, all; and with registers taken in halves. */
static void check_processors(const product *p, const qn_matmul_kernel *k, const part *parts, size_t n_parts)
{
    const size_t found = qn_cpu_read_streams();
    const bool halves = qn_cpu_has_half_registers();
    qn_cpu_set_half_registers(QN_NO);
    for (size_t n = 1; n <= QN_CPU_STREAMS_MAX; n *= 2) {
        qn_cpu_set_read_streams(n);
        assert_int_equal(qn_cpu_read_streams(), n);
        check_few(p, k, parts, n_parts);
    }
    qn_cpu_set_read_streams(0);
    assert_int_equal(qn_cpu_read_streams(), found);
    qn_cpu_set_half_registers(QN_YES);
    assert_true(qn_cpu_has_half_registers());
    check_few(p, k, parts, n_parts);
    qn_cpu_set_half_registers(QN_AS_FOUND);
    assert_int_equal(qn_cpu_has_half_registers(), halves);
}

/* All kernels of one type on one matrix. */
static void check_matrix(const test_weights *w, const test_acts *s, const part *parts, size_t n_parts)
{
    size_t n_tokens = s->a.n_rows;
    size_t y_stride = w->m.n_rows + 3;
    const qn_matmul_kernel *scalar = scalar_kernel_for(w->m.dtype, w->m.affine.bits);
    assert_non_null(scalar);
    float *expected = qn_malloc_array(n_tokens * w->m.n_rows, sizeof(float));
    float *y = qn_malloc_array(n_tokens * y_stride, sizeof(float));
    assert_non_null(expected);
    assert_non_null(y);
    guarded scratch = guarded_create(QN_MATMUL_SCRATCH_BYTES);
    memset(scratch.data, 0xff, QN_MATMUL_SCRATCH_BYTES);
    scalar->fn(&w->m, 0, w->m.n_rows, &s->a, 0, n_tokens, expected, w->m.n_rows, scratch.data);
    product p = {w, s, expected, y, y_stride, scratch.data};
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        const qn_matmul_kernel *k = qn_matmul_kernel_at(i);
        if (k->dtype != w->m.dtype || (k->dtype == QN_DTYPE_MLX_AFFINE && k->mlx_bits != w->m.affine.bits) || !qn_isa_available(k->isa)) {
            continue;
        }
        for (size_t j = 0; j < n_parts; j++) { /* tile kernels also finish what other kernels leave, however few tokens: not AMX's */
            if (parts[j].t1 - parts[j].t0 >= k->min_tokens || (strstr(k->name, "_tile_") != NULL && k->isa != QN_ISA_AMX)) {
                check_part(&p, k, false, parts[j].r0, parts[j].r1, parts[j].t0, parts[j].t1);
            }
        }
        if (k->min_tokens <= 4 && (is_plain_float(k->dtype) || k->isa == QN_ISA_AVX2 || k->isa == QN_ISA_AVX512VNNI)) {
            check_processors(&p, k, parts, n_parts);
        }
        if (n_tokens >= k->min_tokens) {
            uint64_t before = qn_matmul_kernel_calls(i);
            check_part(&p, k, true, 0, w->m.n_rows, n_tokens - k->min_tokens, n_tokens);
            if (qn_matmul_kernel_calls(i) != before + 1) {
                print_error("%s was not chosen for %s, %u tokens\n", k->name, qn_dtype_get(k->dtype)->name, k->min_tokens);
            }
            assert_int_equal(qn_matmul_kernel_calls(i), before + 1);
        }
    }
    guarded_destroy(&scratch);
    qn_free(expected);
    qn_free(y);
}

static void check_shape(qn_dtype t, qn_affine affine, qn_dtype affine_dtype, size_t n_rows, size_t n_cols, size_t n_tokens, scale_mode mode,
                        const part *parts, size_t n_parts)
{
    test_weights w = weights_create(t, affine, affine_dtype, n_rows, n_cols, mode);
    test_acts s = acts_create(t, affine, n_tokens, n_cols);
    check_matrix(&w, &s, parts, n_parts);
    acts_destroy(&s);
    weights_destroy(&w);
}

#define N_OF(array) (sizeof(array) / sizeof(array)[0])

/* All sizes for one type; `unit` is what n_cols is a multiple of. */
static void check_type(qn_dtype t, qn_affine affine, qn_dtype affine_dtype, size_t unit)
{
    static const part parts[] = {
        {0, 1, 0, 1},
        {0, 15, 0, 2},
        {0, 16, 0, 3},
        {0, 17, 0, 4},
        {0, 48, 0, 5},
        {5, 53, 1, 7},
        {37, 53, 0, 7},
        {0, 53, 0, 8},
        {16, 53, 0, 9},
        {0, 48, 3, 26},
        {0, 53, 0, 64},
        {3, 4, 0, 64},
        {0, 33, 1, 64},
        {0, 16, 0, 16},
        {31, 32, 9, 9 + 12},
        {0, 53, 0, 6},
        {0, 49, 0, 31},
        {20, 52, 2, 19},
        {0, 53, 63, 64},
        {0, 48, 2, 12},
        {5, 37, 0, 11},
        {16, 53, 1, 13},
        {0, 48, 0, 14},
        {5, 53, 2, 20},
        {0, 33, 1, 23},
        /* whole tiles of eight up to the last row; one to three tokens, of which 2 and 7 have activations of one sign only */
        {5, 53, 2, 3},
        {5, 53, 7, 8},
        {5, 53, 4, 5},
        {5, 53, 6, 8},
        {37, 53, 1, 4},
    };
    static const part few[] = {{0, 17, 0, 1}, {1, 17, 0, 9}, {0, 16, 2, 7}};
    static const part wide[] = {{0, 53, 0, 1}, {5, 53, 0, 3}, {0, 53, 1, 9}, {0, 40, 0, 8}};
    static const part twelve[] = {{0, 16, 0, 12}, {1, 16, 2, 12}};
    static const part many[] = {{0, 48, 0, 512}, {1, 33, 3, 300}};
    static const part tall[] = {{0, 145, 0, 40}, {3, 132, 9, 40}}, parted[] = {{0, 33, 0, 515}};
    static const size_t multiples[] = {1, 2, 3, 5, 17};
    for (size_t i = 0; i < N_OF(multiples); i++) {
        check_shape(t, affine, affine_dtype, 53, unit * multiples[i], 64, (scale_mode)(i % 3), parts, N_OF(parts));
    }
    if (is_plain_float(t)) {
        check_shape(t, affine, affine_dtype, 53, 77, 64, SCALES_USUAL, parts, N_OF(parts));
    }
    check_shape(t, affine, affine_dtype, 53, 1280, 64, SCALES_EXTREME, parts, N_OF(parts));
    check_shape(t, affine, affine_dtype, 17, 65536 + 256, 9, SCALES_USUAL, few, N_OF(few));
    /* several tiles of several chunks; of the few tokens' kernels also several spans, and rows that are left of the tiles */
    check_shape(t, affine, affine_dtype, 53, 16640, 9, SCALES_USUAL, wide, N_OF(wide));
    /* strips of twelve tokens: the scratch is too small for some types, then for all, while it would hold eight */
    check_shape(t, affine, affine_dtype, 16, 37632, 12, SCALES_USUAL, twelve, N_OF(twelve));
    check_shape(t, affine, affine_dtype, 16, 53248, 12, SCALES_USUAL, twelve, N_OF(twelve));
    check_shape(t, affine, affine_dtype, 48, 512, 512, SCALES_USUAL, many, N_OF(many));
    /* all passes of a round of the tiles and a second round, over panels; more tokens than scratch has chains for */
    check_shape(t, affine, affine_dtype, 145, 512, 40, SCALES_USUAL, tall, N_OF(tall));
    check_shape(t, affine, affine_dtype, 33, 256, 515, SCALES_USUAL, parted, N_OF(parted));
}

/* ---- the tests ---- */

static void test_every_block_kernel_equals_scalar(void **state)
{
    (void)state;
    for (int t = 0; t < QN_DTYPE_COUNT; t++) {
        if (t != QN_DTYPE_MLX_AFFINE && scalar_kernel_for((qn_dtype)t, 0) != NULL) {
            uint32_t block = qn_dtype_get((qn_dtype)t)->block_size;
            check_type((qn_dtype)t, (qn_affine){0}, QN_DTYPE_F32, block == 1 ? 16 : block);
        }
    }
}

static void test_every_affine_kernel_equals_scalar(void **state)
{
    (void)state;
    static const uint32_t bits[] = {1, 2, 3, 4, 5, 6, 8};
    static const uint32_t groups[] = {32, 64, 128};
    static const qn_dtype types[] = {QN_DTYPE_BF16, QN_DTYPE_F16, QN_DTYPE_F32};
    for (size_t b = 0; b < N_OF(bits); b++) {
        for (size_t g = 0; g < N_OF(groups); g++) {
            check_type(QN_DTYPE_MLX_AFFINE, (qn_affine){bits[b], groups[g]}, types[(b + g) % 3], groups[g]);
        }
    }
}

#if defined(__x86_64__)
/* Tokens up to which few tokens of a type do not go to strips or tiles. */
static size_t few_tokens_of(qn_dtype t)
{
    size_t most = SIZE_MAX;
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        const qn_matmul_kernel *k = qn_matmul_kernel_at(i);
        if (k->isa == QN_ISA_AVX512VNNI && k->dtype == t && k->min_tokens > 1 && k->min_tokens - 1 < most) {
            most = k->min_tokens - 1;
        }
    }
    return most;
}

/* What a call leaves of scratch that was all 0xff: bytes up to the last one that is something else. */
static size_t scratch_used(const uint8_t *scratch)
{
    size_t used = QN_MATMUL_SCRATCH_BYTES;
    while (used > 0 && scratch[used - 1] == 0xff) {
        used--;
    }
    return used;
}

/* One type's lanes times n tokens of a matrix: they take whole tiles of eight and have the scalar kernel's bits, or take none. */
static void check_lanes(const test_weights *w, const test_acts *s, size_t n, bool wanted, void *scratch, const float *expected, float *y)
{
    const size_t n_rows = w->m.n_rows, n_tokens = s->a.n_rows, from = 5;
    for (size_t r1 = from; r1 <= n_rows; r1++) {
        const size_t end = wanted ? from + (r1 - from) / 8 * 8 : from;
        for (size_t i = 0; i < n_tokens * n_rows; i++) {
            y[i] = qn_f32_from_bits(SENTINEL);
        }
        qn_cpu_set_half_registers(QN_YES);
        assert_int_equal(qn_matmul_lanes_avx512vnni(&w->m, from, r1, &s->a, 1, 1 + n, y, n_rows, scratch), end);
        for (size_t i = 0; i < n_tokens * n_rows; i++) {
            const size_t t = i / n_rows, r = i % n_rows;
            const bool done = t >= 1 && t < 1 + n && r >= from && r < end;
            assert_true(done ? same_value(y[i], expected[i]) : qn_f32_to_bits(y[i]) == SENTINEL);
        }
        qn_cpu_set_half_registers(QN_NO);
        assert_int_equal(qn_matmul_lanes_avx512vnni(&w->m, from, r1, &s->a, 1, 1 + n, y, n_rows, scratch), from);
        qn_cpu_set_half_registers(QN_AS_FOUND);
    }
}

/* Kernels that hand rows on to the lanes have the same bits without them. What shows it is the scratch: lanes keep sums of 32 activations there and
 * nothing else. */
static void check_handed_on(const test_weights *w, const test_acts *s, size_t n, bool wanted, uint8_t *scratch, float *y)
{
    const size_t sums = n * (w->m.n_cols / 32) * sizeof(int16_t);
    for (size_t yes = 0; yes < 2; yes++) {
        memset(scratch, 0xff, QN_MATMUL_SCRATCH_BYTES);
        qn_cpu_set_half_registers(yes != 0 ? QN_YES : QN_NO);
        qn_matmul(QN_ISA_AVX512VNNI, &w->m, 0, w->m.n_rows / 8 * 8, &s->a, 0, n, y, w->m.n_rows, scratch);
        qn_cpu_set_half_registers(QN_AS_FOUND);
        assert_int_equal(scratch_used(scratch) <= sums, yes != 0 && wanted);
    }
}

static void test_lanes_take_whole_tiles(void **state)
{
    (void)state;
    static const qn_dtype types[] = {QN_DTYPE_Q4_0,  QN_DTYPE_Q4_1, QN_DTYPE_Q5_0, QN_DTYPE_Q5_1,   QN_DTYPE_Q8_0, QN_DTYPE_IQ4_NL,
                                     QN_DTYPE_MXFP4, QN_DTYPE_Q4_K, QN_DTYPE_Q5_K, QN_DTYPE_IQ4_XS, QN_DTYPE_Q6_K, QN_DTYPE_Q3_K};
    enum { N_ROWS = 53, N_COLS = 512, N_TOKENS = 6, N_WITH_LANES = 10 };
    if (!qn_isa_available(QN_ISA_AVX512VNNI)) {
        print_message("SKIP: kernels/lanes: this machine has no avx512vnni\n");
        return;
    }
    float *y = qn_malloc_array((size_t)N_TOKENS * N_ROWS, sizeof(float)),
          *expected = qn_malloc_array((size_t)N_TOKENS * N_ROWS, sizeof(float));
    uint8_t *scratch = qn_malloc_aligned(QN_MATMUL_SCRATCH_BYTES);
    assert_non_null(y);
    assert_non_null(expected);
    assert_non_null(scratch);
    for (size_t i = 0; i < 2 * N_OF(types); i++) { /* twice: weights end at a guard once, and begin at one once */
        const qn_dtype type = types[i / 2];
        guarded other_side = guarded_create(1);
        test_weights w = weights_create(type, (qn_affine){0}, QN_DTYPE_F32, N_ROWS, N_COLS, SCALES_USUAL);
        test_acts s = acts_create(type, (qn_affine){0}, N_TOKENS, N_COLS);
        scalar_kernel_for(type, 0)->fn(&w.m, 0, N_ROWS, &s.a, 0, N_TOKENS, expected, N_ROWS, scratch);
        for (size_t n = 1; n <= 4; n++) {
            const bool wanted = i / 2 < N_WITH_LANES && n <= few_tokens_of(type);
            check_lanes(&w, &s, n, wanted, scratch, expected, y);
            check_handed_on(&w, &s, n, wanted, scratch, y);
        }
        qn_matrix wide = w.m;
        wide.n_cols = QN_MATMUL_SCRATCH_BYTES * 32; /* nothing is read */
        qn_cpu_set_half_registers(QN_YES);
        assert_int_equal(qn_matmul_lanes_avx512vnni(&wide, 0, N_ROWS, &s.a, 0, 1, y, N_ROWS, scratch), 0);
        qn_cpu_set_half_registers(QN_AS_FOUND);
        acts_destroy(&s);
        weights_destroy(&w);
        guarded_destroy(&other_side);
    }
    qn_free_aligned(scratch);
    qn_free(expected);
    qn_free(y);
}
#endif

static void test_every_kernel_ran(void **state)
{
    (void)state;
    size_t n_skipped[QN_ISA_COUNT] = {0};
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        const qn_matmul_kernel *k = qn_matmul_kernel_at(i);
        if (qn_isa_available(k->isa)) {
            assert_true(qn_matmul_kernel_calls(i) > 0);
        } else {
            n_skipped[k->isa]++;
        }
    }
    for (int isa = 0; isa < QN_ISA_COUNT; isa++) {
        if (n_skipped[isa] > 0) {
            print_message("SKIP: kernels/%s: %zu matrix kernels: this machine has no %s\n", qn_isa_name((qn_isa)isa), n_skipped[isa],
                          qn_isa_name((qn_isa)isa));
        }
    }
}

/* sum of w * x in double against the scalar kernel, x being the quantized activation. */
static void check_against_decoded(qn_dtype t, qn_affine affine, qn_dtype affine_dtype)
{
    enum { ROWS = 5, COLUMNS = 1280, TOKENS = 5 };
    test_weights w = weights_create(t, affine, affine_dtype, ROWS, COLUMNS, SCALES_USUAL);
    test_acts s = acts_create(t, affine, TOKENS, COLUMNS);
    static float decoded[COLUMNS];
    static float y[TOKENS * ROWS];
    scalar_kernel_for(t, affine.bits)->fn(&w.m, 0, ROWS, &s.a, 0, TOKENS, y, ROWS, NULL);
    for (size_t r = 0; r < ROWS; r++) {
        const uint8_t *row = w.m.data + r * w.m.row_bytes;
        if (t == QN_DTYPE_MLX_AFFINE) {
            static uint32_t packed[COLUMNS / 4];
            memcpy(packed, row, w.m.row_bytes);
            size_t offset = r * (COLUMNS / affine.group) * (affine_dtype == QN_DTYPE_F32 ? 4u : 2u);
            qn_decode_affine_row(affine, packed, w.m.scales + offset, w.m.biases + offset, affine_dtype, decoded, COLUMNS);
        } else {
            qn_decode_row(t, row, decoded, COLUMNS);
        }
        for (size_t tok = 0; tok < TOKENS; tok++) {
            double sum = 0, size = 0;
            for (size_t k = 0; k < COLUMNS; k++) {
                double x = s.a.kind == QN_ACT_F32
                               ? (double)s.a.f[tok * s.a.f_stride + k]
                               : (double)s.a.q[tok * s.a.q_stride + k] * (double)s.a.d[tok * s.a.d_stride + k / s.a.block];
                sum += (double)decoded[k] * x;
                size += fabs((double)decoded[k] * x);
            }
            double error = fabs((double)y[tok * ROWS + r] - sum);
            if (!(error <= 4e-6 * size + 1e-37)) { /* second term: the subnormal rows lose bits in d * a */
                print_error("%s bits %u: row %zu token %zu: %g, decoded weights give %g\n", qn_dtype_get(t)->name, affine.bits, r, tok,
                            (double)y[tok * ROWS + r], sum);
            }
            assert_true(error <= 4e-6 * size + 1e-37);
        }
    }
    acts_destroy(&s);
    weights_destroy(&w);
}

static void test_scalar_equals_decoded_weights(void **state)
{
    (void)state;
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        const qn_matmul_kernel *k = qn_matmul_kernel_at(i);
        if (k->isa != QN_ISA_SCALAR) {
            continue;
        }
        if (k->dtype == QN_DTYPE_MLX_AFFINE) {
            check_against_decoded(k->dtype, (qn_affine){k->mlx_bits, 64}, QN_DTYPE_BF16);
            check_against_decoded(k->dtype, (qn_affine){k->mlx_bits, 32}, QN_DTYPE_F32);
            check_against_decoded(k->dtype, (qn_affine){k->mlx_bits, 128}, QN_DTYPE_F16);
        } else {
            check_against_decoded(k->dtype, (qn_affine){0}, QN_DTYPE_F32);
        }
    }
}

/* Values that meet every rule of the quantizer. */
static void fill_quantizer_input(float *x, size_t n, size_t row)
{
    static const uint32_t odd[] = {0x7f800000, 0xff800000, 0x7fc00001, 0x7f7fffff, 0x00000001, 0x80000001, 0x00000000, 0x80000000};
    fill_x(x, n, row);
    if (row % 7 == 5) { /* ties: amax 127 makes the inverse 1 */
        for (size_t i = 0; i < n; i++) {
            x[i] = (float)((int)(random_u32() % 255) - 127) + (random_u32() % 2 == 0 ? 0.5f : 0.0f);
            x[i] = i % 32 == 0 ? 127.0f : fminf(x[i], 126.5f);
        }
    } else if (row % 7 == 6) {
        for (size_t i = 0; i < n; i++) {
            if (random_u32() % 100 == 0) {
                x[i] = qn_f32_from_bits(odd[random_u32() % N_OF(odd)]);
            }
        }
    } else if (row % 7 == 2) { /* around the smallest amax whose inverse is finite */
        for (size_t i = 0; i < n; i++) {
            x[i] *= ldexpf(1.0f, -120 - (int)(i / 64 % 4));
        }
    }
}

static void test_quantizers_equal_scalar(void **state)
{
    (void)state;
    static const struct {
        uint32_t block;
        size_t n_cols;
    } shapes[] = {{32, 32}, {32, 96}, {32, 1056}, {64, 192}, {64, 4096}, {128, 384}, {256, 256}, {256, 2816}};
    enum { ROWS = 21 };
    for (size_t i = 0; i < N_OF(shapes); i++) {
        size_t n_cols = shapes[i].n_cols;
        size_t bytes = qn_act_bytes(QN_ACT_I8, shapes[i].block, ROWS, n_cols);
        guarded x = guarded_create(ROWS * n_cols * sizeof(float));
        for (size_t r = 0; r < ROWS; r++) {
            fill_quantizer_input((float *)(void *)x.data + r * n_cols, n_cols, r);
        }
        guarded expected = guarded_create(bytes), got = guarded_create(bytes);
        memset(expected.data, 0, bytes);
        qn_act a;
        qn_act_bind(&a, QN_ACT_I8, shapes[i].block, ROWS, n_cols, expected.data);
        qn_act_quantize(QN_ISA_SCALAR, &a, (float *)(void *)x.data, n_cols, 0, ROWS);
        for (int isa = 1; isa < QN_ISA_COUNT; isa++) {
            if (!qn_isa_available((qn_isa)isa)) {
                continue;
            }
            memset(got.data, 0, bytes);
            qn_act_bind(&a, QN_ACT_I8, shapes[i].block, ROWS, n_cols, got.data);
            qn_act_quantize((qn_isa)isa, &a, (float *)(void *)x.data, n_cols, 0, 8);
            qn_act_quantize((qn_isa)isa, &a, (float *)(void *)x.data, n_cols, 8, ROWS);
            assert_memory_equal(got.data, expected.data, bytes);
        }
        guarded_destroy(&x);
        guarded_destroy(&expected);
        guarded_destroy(&got);
    }
}

static void test_quantizer_rules(void **state)
{
    (void)state;
    enum { N = 32 };
    float x[N] = {0};
    _Alignas(64) uint8_t memory[512];
    assert_true(qn_act_bytes(QN_ACT_I8, N, 1, N) <= sizeof memory);
    qn_act a;
    qn_act_bind(&a, QN_ACT_I8, N, 1, N, memory);
    qn_act_quantize(QN_ISA_SCALAR, &a, x, N, 0, 1);
    assert_true(a.d[0] == 0.0f && a.q[0] == 0 && a.sum16[0] == 0);
    x[3] = -254.0f; /* inverse 0.5 */
    x[4] = 1.0f;    /* 0.5 to 0 */
    x[5] = 3.0f;    /* 1.5 to 2 */
    x[6] = -5.0f;   /* -2.5 to -2 */
    qn_act_quantize(QN_ISA_SCALAR, &a, x, N, 0, 1);
    assert_true(a.d[0] == 2.0f);
    assert_int_equal(a.q[3], -127);
    assert_int_equal(a.q[4], 0);
    assert_int_equal(a.q[5], 2);
    assert_int_equal(a.q[6], -2);
    assert_int_equal(a.sum16[0], -127);
    assert_int_equal(a.sum16[1], 0);
    x[9] = NAN;
    qn_act_quantize(QN_ISA_SCALAR, &a, x, N, 0, 1);
    assert_true(isnan(a.d[0]) && a.q[3] == 0 && a.sum16[0] == 0);
    x[9] = INFINITY;
    qn_act_quantize(QN_ISA_SCALAR, &a, x, N, 0, 1);
    assert_true(isnan(a.d[0]));
}

static void test_act_sizes(void **state)
{
    (void)state;
    assert_int_equal(qn_act_bytes(QN_ACT_I8, 256, SIZE_MAX / 2, 4096), SIZE_MAX);
    assert_int_equal(qn_act_bytes(QN_ACT_I8, 32, 2, SIZE_MAX - 5), SIZE_MAX);
    /* rows of an odd number of lines, so that they do not share a few sets of the caches */
    assert_int_equal(qn_act_bytes(QN_ACT_F32, 0, 3, 20), 3 * 48 * sizeof(float));
    assert_int_equal(qn_act_bytes(QN_ACT_I8, 32, 1, 96), 192 + 64 + 64);
    assert_int_equal(qn_act_bytes(QN_ACT_I8, 256, 1, 4096), 4096 + 64 + 64 + 512 + 64);
    uint32_t block = 7;
    assert_int_equal(qn_act_kind_for(QN_DTYPE_Q4_K, (qn_affine){0}, &block), QN_ACT_I8);
    assert_int_equal(block, 256);
    assert_int_equal(qn_act_kind_for(QN_DTYPE_MLX_AFFINE, (qn_affine){4, 64}, &block), QN_ACT_I8);
    assert_int_equal(block, 64);
    assert_int_equal(qn_act_kind_for(QN_DTYPE_BF16, (qn_affine){0}, &block), QN_ACT_F32);
}

static void test_supported(void **state)
{
    (void)state;
    assert_true(qn_matmul_supported(QN_DTYPE_Q4_K, (qn_affine){0}));
    assert_true(qn_matmul_supported(QN_DTYPE_MLX_AFFINE, (qn_affine){4, 64}));
    assert_false(qn_matmul_supported(QN_DTYPE_MLX_AFFINE, (qn_affine){7, 64}));
    assert_false(qn_matmul_supported(QN_DTYPE_MLX_AFFINE, (qn_affine){4, 16}));
    assert_false(qn_matmul_supported(QN_DTYPE_I64, (qn_affine){0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_act_sizes),
        cmocka_unit_test(test_supported),
        cmocka_unit_test(test_quantizer_rules),
        cmocka_unit_test(test_quantizers_equal_scalar),
        cmocka_unit_test(test_scalar_equals_decoded_weights),
        cmocka_unit_test(test_every_block_kernel_equals_scalar),
        cmocka_unit_test(test_every_affine_kernel_equals_scalar),
#if defined(__x86_64__)
        cmocka_unit_test(test_lanes_take_whole_tiles),
#endif
        cmocka_unit_test(test_every_kernel_ran),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
