/* test_encode.c - encoders: error at or below the reference encoder's on every row set, equal bytes on every instruction set, and sane
 * results for zeros, denormals, outliers, constants and odd importance. */
#include <math.h>

#include "qn_test.h"
#include "tensor_file.h"

#include "base/buf.h"
#include "base/cpu.h"
#include "base/half.h"
#include "quant/codec.h"
#include "quant/codec_int.h"

enum { N_ROWS = 8, N_COLUMNS = 512 };

/* Rows whose relative error the reference data leaves open: all zeros, and values below what float16 scales resolve. */
enum { ROW_ZEROS = 2, ROW_DENORMALS = 5 };

static const qn_dtype encoded[] = {
    QN_DTYPE_F32,  QN_DTYPE_F16,    QN_DTYPE_BF16,   QN_DTYPE_Q8_0,  QN_DTYPE_Q4_0,  QN_DTYPE_Q4_1,
    QN_DTYPE_Q5_0, QN_DTYPE_Q5_1,   QN_DTYPE_Q2_K,   QN_DTYPE_Q3_K,  QN_DTYPE_Q4_K,  QN_DTYPE_Q5_K,
    QN_DTYPE_Q6_K, QN_DTYPE_IQ4_NL, QN_DTYPE_IQ4_XS, QN_DTYPE_TQ1_0, QN_DTYPE_TQ2_0, QN_DTYPE_MXFP4,
};
enum { N_ENCODED = sizeof encoded / sizeof encoded[0] };

/* sqrt(sum w (x - y)^2 / sum w x^2); 0 for a row of zeros that stayed zero. */
static double relative_error(const float *x, const float *y, const float *w, size_t n)
{
    double error = 0;
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        double weight = w != NULL ? (double)w[i] : 1.0;
        double d = (double)x[i] - (double)y[i];
        error += weight * d * d;
        total += weight * (double)x[i] * (double)x[i];
    }
    return error == 0 ? 0 : sqrt(error / total);
}

static void round_trip(qn_dtype t, const float *x, float *y, size_t n, const float *importance)
{
    uint8_t bytes[4 * 2048];
    size_t n_bytes;
    assert_true(qn_dtype_row_bytes(t, n, &n_bytes));
    assert_true(n_bytes <= sizeof bytes);
    qn_encode_row(t, x, bytes, n, importance);
    qn_decode_row(t, bytes, y, n);
}

/* How the reference encoders weigh where no importance is given: 0 equally, 1 by rms + |x| of 32, 2 by |x|, 3 by x^2. */
static void reference_weights(int rule, const float *x, float *w)
{
    for (size_t i = 0; i < N_COLUMNS; i++) {
        double sum = 0;
        for (size_t j = i / 32 * 32; j < i / 32 * 32 + 32; j++) {
            sum += (double)x[j] * (double)x[j];
        }
        float rms = (float)sqrt(sum / 32.0);
        w[i] = rule == 0 ? 1.0f : rule == 1 ? rms + fabsf(x[i]) : rule == 2 ? fabsf(x[i]) : x[i] * x[i];
    }
}

static const struct {
    qn_dtype t;
    const char *name;
    bool importance;
    int rule;
} cases[] = {
    {QN_DTYPE_F16, "f16", false, 0},
    {QN_DTYPE_BF16, "bf16", false, 0},
    {QN_DTYPE_Q8_0, "q8_0", false, 0},
    {QN_DTYPE_Q4_0, "q4_0", false, 0},
    {QN_DTYPE_Q4_1, "q4_1", false, 0},
    {QN_DTYPE_Q5_0, "q5_0", false, 0},
    {QN_DTYPE_Q5_1, "q5_1", false, 0},
    {QN_DTYPE_Q2_K, "q2_K", false, 2},
    {QN_DTYPE_Q3_K, "q3_K", false, 3},
    {QN_DTYPE_Q4_K, "q4_K", false, 1},
    {QN_DTYPE_Q5_K, "q5_K", false, 1},
    {QN_DTYPE_Q6_K, "q6_K", false, 3},
    {QN_DTYPE_IQ4_NL, "iq4_nl", false, 3},
    {QN_DTYPE_IQ4_XS, "iq4_xs", false, 3},
    {QN_DTYPE_TQ1_0, "tq1_0", false, 0},
    {QN_DTYPE_TQ2_0, "tq2_0", false, 0},
    {QN_DTYPE_MXFP4, "mxfp4", false, 0},
    {QN_DTYPE_Q4_0, "q4_0_imatrix", true, 0},
    {QN_DTYPE_Q2_K, "q2_K_imatrix", true, 0},
    {QN_DTYPE_Q3_K, "q3_K_imatrix", true, 0},
    {QN_DTYPE_Q4_K, "q4_K_imatrix", true, 0},
    {QN_DTYPE_Q5_K, "q5_K_imatrix", true, 0},
    {QN_DTYPE_Q6_K, "q6_K_imatrix", true, 0},
    {QN_DTYPE_IQ4_NL, "iq4_nl_imatrix", true, 0},
    {QN_DTYPE_IQ4_XS, "iq4_xs_imatrix", true, 0},
};

static void errors_at_or_below_reference(void **state)
{
    (void)state;
    tensor_file f = {0};
    if (!tensor_file_open(&f, "rows/rows.safetensors")) {
        skip();
    }
    const float *x = tensor_file_find(&f, "input", NULL);
    const float *importance = tensor_file_find(&f, "imatrix", NULL);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        char key[64];
        (void)snprintf(key, sizeof key, "%s.dequant", cases[k].name);
        const float *reference = tensor_file_find(&f, key, NULL);
        assert_non_null(reference);
        for (size_t r = 0; r < N_ROWS; r++) {
            const float *row = x + r * N_COLUMNS;
            const float *w = cases[k].importance ? importance : NULL;
            float y[N_COLUMNS];
            round_trip(cases[k].t, row, y, N_COLUMNS, w);
            double ours = relative_error(row, y, w, N_COLUMNS);
            double theirs = relative_error(row, reference + r * N_COLUMNS, w, N_COLUMNS);
            double slack = r == ROW_ZEROS || r == ROW_DENORMALS ? 1.02 : 1.002;
            if (!(ours <= theirs * slack)) {
                fail_msg("%s row %zu: relative error %.9g, reference %.9g", cases[k].name, r, ours, theirs);
            }
        }
        /* On weights as models have them (near normal) also in the measure that the reference encoder minimises. */
        if (!cases[k].importance && cases[k].rule != 0) {
            float y[N_COLUMNS];
            float weights[N_COLUMNS];
            reference_weights(cases[k].rule, x, weights);
            round_trip(cases[k].t, x, y, N_COLUMNS, NULL);
            assert_true(relative_error(x, y, weights, N_COLUMNS) <= relative_error(x, reference, weights, N_COLUMNS));
        }
    }
    tensor_file_close(&f);
}

/* A few rows of every unpleasant kind, from a fixed generator. */
static void fill_row(size_t kind, float *x, size_t n)
{
    uint32_t seed = 12345u + (uint32_t)kind;
    for (size_t i = 0; i < n; i++) {
        float v = 0;
        for (int k = 0; k < 4; k++) { /* a sum of uniform numbers: near normal */
            seed = seed * 1664525u + 1013904223u;
            v += (float)(seed >> 8) / 16777216.0f - 0.5f;
        }
        switch (kind) {
        case 0: x[i] = v; break;
        case 1: x[i] = 0; break;
        case 2: x[i] = -0.0f; break;
        case 3: x[i] = 0.37f; break;
        case 4: x[i] = -1e-3f; break;
        case 5: x[i] = v * 1e-42f; break;
        case 6: x[i] = v * 1e-30f; break;
        case 7: x[i] = i % 67 == 5 ? 1e30f : v; break;
        case 8: x[i] = v * 1.6e38f; break;
        case 9: x[i] = i == n / 2 ? -5e4f : v * 1e-4f; break;
        case 10: x[i] = fabsf(v) + 1.0f; break;
        case 11: x[i] = -fabsf(v) - 1.0f; break;
        case 12: x[i] = i % 2 == 0 ? 1.0f : -1.0f; break;
        case 13: x[i] = i / 16 % 2 == 0 ? 0 : v; break;
        case 14: x[i] = i / 256 % 2 == 0 ? v * 1e-3f : v * 1e3f; break;
        case 15: x[i] = i % 256 == 3 ? 1.0f : 0; break;
        case 16: x[i] = v * v * v * (i % 5 == 0 ? 20.0f : 1.0f); break;
        default: x[i] = i % 2 == 0 ? 3.4028235e38f : -3.4028235e38f; break;
        }
    }
}
enum { N_KINDS = 18 };

static void nothing_becomes_nan_or_infinite(void **state)
{
    (void)state;
    enum { N = 1024 };
    float x[N];
    float y[N];
    float importance[N];
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        fill_row(kind, x, N);
        for (int weights = 0; weights < 4; weights++) {
            for (size_t i = 0; i < N; i++) {
                importance[i] = weights == 1 ? 0.0f : weights == 2 ? (i % 7 == 0 ? 3e38f : 1e-30f) : (float)(i % 32) * 1e-6f;
            }
            for (size_t k = 0; k < N_ENCODED; k++) {
                round_trip(encoded[k], x, y, N, weights == 0 ? NULL : importance);
                size_t bad = qn_find_non_finite(y, N);
                if (bad != N) {
                    fail_msg("%s, row kind %zu, weights %d: element %zu decodes to %g from %g", qn_dtype_get(encoded[k])->name, kind,
                             weights, bad, (double)y[bad], (double)x[bad]);
                }
                if (kind == 1 || kind == 2) {
                    for (size_t i = 0; i < N; i++) {
                        assert_true(y[i] == 0);
                    }
                }
            }
        }
    }
}

/* What each type must reach on near-normal values, and that no row is worse than replacing it by zeros. */
static void errors_stay_within_the_width_of_the_type(void **state)
{
    (void)state;
    static const double bound[QN_DTYPE_COUNT] = {
        [QN_DTYPE_F32] = 0,      [QN_DTYPE_F16] = 3e-4,  [QN_DTYPE_BF16] = 2.5e-3, [QN_DTYPE_Q8_0] = 0.006,   [QN_DTYPE_Q4_0] = 0.1,
        [QN_DTYPE_Q4_1] = 0.085, [QN_DTYPE_Q5_0] = 0.05, [QN_DTYPE_Q5_1] = 0.042,  [QN_DTYPE_Q2_K] = 0.3,     [QN_DTYPE_Q3_K] = 0.17,
        [QN_DTYPE_Q4_K] = 0.08,  [QN_DTYPE_Q5_K] = 0.04, [QN_DTYPE_Q6_K] = 0.02,   [QN_DTYPE_IQ4_NL] = 0.085, [QN_DTYPE_IQ4_XS] = 0.085,
        [QN_DTYPE_TQ1_0] = 0.5,  [QN_DTYPE_TQ2_0] = 0.5, [QN_DTYPE_MXFP4] = 0.13,
    };
    enum { N = 1024 };
    float x[N];
    float y[N];
    for (size_t k = 0; k < N_ENCODED; k++) {
        for (size_t kind = 0; kind < N_KINDS; kind++) {
            if (kind == 7 || kind == 8 || kind == 17) { /* beyond what float16 scales reach */
                continue;
            }
            fill_row(kind, x, N);
            round_trip(encoded[k], x, y, N, NULL);
            double error = relative_error(x, y, NULL, N);
            double limit = kind == 0 ? bound[encoded[k]] : 1.0;
            if (!(error <= limit)) {
                fail_msg("%s, row kind %zu: relative error %g, limit %g", qn_dtype_get(encoded[k])->name, kind, error, limit);
            }
        }
    }
}

static void every_instruction_set_gives_equal_bytes(void **state)
{
    (void)state;
    enum { N = 256 * 9 }; /* an odd number of super-blocks: the last group of columns is half empty */
    static const qn_isa levels[] = {QN_ISA_SCALAR, QN_ISA_AVX2, QN_ISA_AVX512};
    float x[N];
    float importance[N];
    static uint8_t bytes[3][4 * N];
    for (size_t i = 0; i < N; i++) {
        importance[i] = (float)((i * 7919) % 101) * 0.01f;
    }
    for (size_t k = 0; k < N_ENCODED; k++) {
        size_t n_bytes;
        assert_true(qn_dtype_row_bytes(encoded[k], N, &n_bytes));
        for (size_t kind = 0; kind < N_KINDS; kind++) {
            fill_row(kind, x, N);
            for (int weighted = 0; weighted < 2; weighted++) {
                for (size_t v = 0; v < 3; v++) {
                    memset(bytes[v], 0xa5, sizeof bytes[v]);
                    if (qn_isa_available(levels[v])) {
                        qn_encode_row_with(qn_search_get(levels[v]), encoded[k], x, bytes[v], N, weighted != 0 ? importance : NULL);
                        assert_memory_equal(bytes[v], bytes[0], n_bytes);
                        assert_int_equal(bytes[v][n_bytes % sizeof bytes[v]], n_bytes == sizeof bytes[v] ? bytes[v][0] : 0xa5);
                    }
                }
            }
        }
    }
    print_message("forms compared: portable%s%s\n", qn_isa_available(QN_ISA_AVX2) ? " avx2" : "",
                  qn_isa_available(QN_ISA_AVX512) ? " avx512" : "");
}

/* A block's bytes do not depend on where it stands: encoding one row or several at once is the same. */
static void blocks_do_not_influence_each_other(void **state)
{
    (void)state;
    enum { ROW = 512, N = 4 * ROW };
    float x[N];
    uint8_t together[4 * N];
    uint8_t alone[4 * N];
    for (size_t i = 0; i < 4; i++) {
        fill_row(i == 0 ? 9 : i == 1 ? 0 : i == 2 ? 16 : 14, x + i * ROW, ROW);
    }
    for (size_t k = 0; k < N_ENCODED; k++) {
        size_t block = qn_dtype_get(encoded[k])->block_size;
        size_t block_bytes = qn_dtype_get(encoded[k])->block_bytes;
        qn_encode_row(encoded[k], x, together, N, NULL);
        for (size_t b = 0; b < N / block; b++) {
            qn_encode_row(encoded[k], x + b * block, alone + b * block_bytes, block, NULL);
        }
        assert_memory_equal(together, alone, N / block * block_bytes);
    }
}

/* More weight on some columns lowers the error there. */
static void importance_moves_the_error(void **state)
{
    (void)state;
    enum { N = 2048 };
    float x[N];
    float importance[N];
    float plain[N];
    float weighted[N];
    fill_row(0, x, N);
    for (size_t i = 0; i < N; i++) {
        importance[i] = i % 4 == 0 ? 30.0f : 1.0f;
    }
    for (size_t k = 3; k < N_ENCODED; k++) { /* from Q8_0 on: types with a choice */
        round_trip(encoded[k], x, plain, N, NULL);
        round_trip(encoded[k], x, weighted, N, importance);
        double before = relative_error(x, plain, importance, N);
        double after = relative_error(x, weighted, importance, N);
        if (!(after < before)) {
            fail_msg("%s: weighted error %g with importance, %g without", qn_dtype_get(encoded[k])->name, after, before);
        }
    }
}

/* A ternary model's weights come back exactly. */
static void ternary_weights_are_exact(void **state)
{
    (void)state;
    enum { N = 512 };
    float x[N];
    float y[N];
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)((int)((i * 2654435761u) >> 7 & 0xffffu) % 3 - 1) * 0.15625f;
    }
    round_trip(QN_DTYPE_TQ1_0, x, y, N, NULL);
    assert_memory_equal(x, y, sizeof x);
    round_trip(QN_DTYPE_TQ2_0, x, y, N, NULL);
    assert_memory_equal(x, y, sizeof x);
}

typedef struct affine_row {
    uint32_t packed[N_COLUMNS];
    uint32_t scales[N_COLUMNS / 32];
    uint32_t biases[N_COLUMNS / 32];
} affine_row;

static void affine_encoder_reproduces_mlx(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        qn_affine a;
        bool bf16;
    } combos[] = {
        {"affine_b2_g64", {2, 64}, false}, {"affine_b3_g64", {3, 64}, false},   {"affine_b4_g64", {4, 64}, false},
        {"affine_b4_g32", {4, 32}, false}, {"affine_b4_g128", {4, 128}, false}, {"affine_b5_g64", {5, 64}, false},
        {"affine_b6_g64", {6, 64}, false}, {"affine_b8_g64", {8, 64}, false},   {"affine_b4_g64_bf16", {4, 64}, true},
    };
    tensor_file inputs = {0};
    tensor_file f = {0};
    if (!tensor_file_open(&inputs, "rows/rows.safetensors")) {
        skip();
    }
    if (!tensor_file_open(&f, "mlx/rows/rows.safetensors")) {
        tensor_file_close(&inputs);
        skip();
    }
    const float *x = tensor_file_find(&inputs, "input", NULL);
    for (size_t k = 0; k < sizeof combos / sizeof combos[0]; k++) {
        char key[64];
        const uint8_t *expected[3];
        static const char *const parts[] = {"packed", "scales", "biases"};
        for (size_t p = 0; p < 3; p++) {
            (void)snprintf(key, sizeof key, "%s.%s", combos[k].key, parts[p]);
            expected[p] = tensor_file_find(&f, key, NULL);
            assert_non_null(expected[p]);
        }
        size_t packed_bytes = (size_t)N_COLUMNS * combos[k].a.bits / 8;
        size_t scale_bytes = N_COLUMNS / combos[k].a.group * (combos[k].bf16 ? 2u : 4u);
        for (size_t r = 0; r < N_ROWS; r++) {
            affine_row row;
            float source[N_COLUMNS];
            for (size_t i = 0; i < N_COLUMNS; i++) {
                float v = x[r * N_COLUMNS + i];
                source[i] = combos[k].bf16 ? qn_f32_from_bf16(qn_bf16_from_f32(v)) : v;
            }
            qn_encode_affine_row(combos[k].a, source, row.packed, row.scales, row.biases, combos[k].bf16 ? QN_DTYPE_BF16 : QN_DTYPE_F32,
                                 N_COLUMNS);
            assert_memory_equal(row.packed, expected[0] + r * packed_bytes, packed_bytes);
            assert_memory_equal(row.scales, expected[1] + r * scale_bytes, scale_bytes);
            assert_memory_equal(row.biases, expected[2] + r * scale_bytes, scale_bytes);
        }
    }
    tensor_file_close(&f);
    tensor_file_close(&inputs);
}

/* ---- the table in docs/formats.md ---- */

static const char *const row_titles[N_ROWS] = {"normal",          "heavy tails", NULL,          "one huge value",
                                               "constant blocks", NULL,          "alternating", "positive"};

static void append_errors(qn_buf *table, const char *title, const float *x, const float *reference, qn_dtype t, const float *importance)
{
    assert_true(qn_buf_printf(table, "| %s |", title));
    for (size_t r = 0; r < N_ROWS; r++) {
        if (row_titles[r] != NULL) {
            float y[N_COLUMNS];
            const float *row = x + r * N_COLUMNS;
            round_trip(t, row, y, N_COLUMNS, importance);
            assert_true(qn_buf_printf(table, " %.3g (%.3g) |", relative_error(row, y, importance, N_COLUMNS),
                                      relative_error(row, reference + r * N_COLUMNS, importance, N_COLUMNS)));
        }
    }
    assert_true(qn_buf_append_str(table, "\n"));
}

static void append_table(qn_buf *table, const tensor_file *f, bool importance)
{
    const float *x = tensor_file_find(f, "input", NULL);
    assert_true(
        qn_buf_append_str(table, importance ? "\nWith an importance per column, errors weighted by it:\n\n| type |" : "\n| type |"));
    for (size_t r = 0; r < N_ROWS; r++) {
        assert_true(row_titles[r] == NULL || qn_buf_printf(table, " %s |", row_titles[r]));
    }
    assert_true(qn_buf_append_str(table, "\n|---|---|---|---|---|---|---|\n"));
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        if (cases[k].importance == importance) {
            char key[64];
            (void)snprintf(key, sizeof key, "%s.dequant", cases[k].name);
            append_errors(table, qn_dtype_get(cases[k].t)->name, x, tensor_file_find(f, key, NULL), cases[k].t,
                          importance ? tensor_file_find(f, "imatrix", NULL) : NULL);
        }
    }
}

static void table_in_the_docs_is_current(void **state)
{
    (void)state;
    static const char begin[] = "<!-- errors begin -->\n";
    static const char end[] = "<!-- errors end -->";
    quern_error err = {0};
    tensor_file f = {0};
    char *page;
    size_t len;
    qn_buf table;
    if (!tensor_file_open(&f, "rows/rows.safetensors")) {
        skip();
    }
    qn_buf_init(&table, (size_t)1 << 20);
    append_table(&table, &f, false);
    append_table(&table, &f, true);
    assert_true(qn_buf_append_str(&table, "\n"));
    const char *path = QUERN_SOURCE_DIR "/docs/formats.md";
    assert_ok(qn_file_read(&page, &len, path, (size_t)1 << 20, &err));
    char *from = strstr(page, begin);
    char *to = strstr(page, end);
    assert_true(from != NULL && to != NULL && from < to);
    from += strlen(begin);
    if (getenv("QUERN_UPDATE_DOCS") != NULL) {
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        (void)fprintf(out, "%.*s%s%s", (int)(from - page), page, qn_buf_text(&table), to);
        assert_int_equal(fclose(out), 0);
    } else if ((size_t)(to - from) != table.len || memcmp(from, qn_buf_text(&table), table.len) != 0) {
        fail_msg("docs/formats.md is out of date: run QUERN_UPDATE_DOCS=1 build/test_encode. Now:\n%s", qn_buf_text(&table));
    }
    qn_free(page);
    qn_buf_deinit(&table);
    tensor_file_close(&f);
}

static double affine_error(qn_affine a, qn_dtype sb, bool fitted, const float *x, const float *importance)
{
    affine_row row;
    float y[N_COLUMNS];
    if (fitted) {
        qn_encode_affine_row_fitted(a, x, row.packed, row.scales, row.biases, sb, N_COLUMNS, importance);
    } else {
        qn_encode_affine_row(a, x, row.packed, row.scales, row.biases, sb, N_COLUMNS);
    }
    qn_decode_affine_row(a, row.packed, row.scales, row.biases, sb, y, N_COLUMNS);
    assert_int_equal(qn_find_non_finite(y, N_COLUMNS), N_COLUMNS);
    return relative_error(x, y, importance, N_COLUMNS);
}

static void fitted_affine_is_never_worse_than_mlx(void **state)
{
    (void)state;
    static const uint32_t widths[] = {1, 2, 3, 4, 5, 6, 8};
    static const qn_dtype types[] = {QN_DTYPE_F32, QN_DTYPE_F16, QN_DTYPE_BF16};
    float x[N_COLUMNS];
    float importance[N_COLUMNS];
    for (size_t i = 0; i < N_COLUMNS; i++) {
        importance[i] = (float)(1 + i % 13);
    }
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        for (uint32_t group = 32; group <= 128; group *= 2) {
            for (size_t t = 0; t < 3; t++) {
                for (size_t kind = 0; kind < N_KINDS; kind++) {
                    qn_affine a = {widths[w], group};
                    if (kind == 8 || kind == 17) { /* the range of a group overflows float32, as in mlx */
                        continue;
                    }
                    fill_row(kind, x, N_COLUMNS);
                    double theirs = affine_error(a, types[t], false, x, importance);
                    double ours = affine_error(a, types[t], true, x, importance);
                    if (!(ours <= theirs * 1.0001) || (kind == 0 && !(ours < 0.99 * theirs))) {
                        fail_msg("%u bits, group %u, %s, row kind %zu: relative error %g, mlx's %g", a.bits, a.group,
                                 qn_dtype_get(types[t])->name, kind, ours, theirs);
                    }
                }
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_at_or_below_reference),
        cmocka_unit_test(table_in_the_docs_is_current),
        cmocka_unit_test(nothing_becomes_nan_or_infinite),
        cmocka_unit_test(errors_stay_within_the_width_of_the_type),
        cmocka_unit_test(every_instruction_set_gives_equal_bytes),
        cmocka_unit_test(blocks_do_not_influence_each_other),
        cmocka_unit_test(importance_moves_the_error),
        cmocka_unit_test(ternary_weights_are_exact),
        cmocka_unit_test(affine_encoder_reproduces_mlx),
        cmocka_unit_test(fitted_affine_is_never_worse_than_mlx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
