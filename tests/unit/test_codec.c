/* test_codec.c - decoders against reference values, bit for bit. */
#include <math.h>

#include "qn_test.h"
#include "tensor_file.h"

#include "base/half.h"
#include "quant/codec.h"

enum { N_ROWS = 8, N_COLUMNS = 512 };

static const struct {
    qn_dtype t;
    const char *name;
} row_types[] = {
    {QN_DTYPE_F16, "f16"},
    {QN_DTYPE_BF16, "bf16"},
    {QN_DTYPE_Q8_0, "q8_0"},
    {QN_DTYPE_Q4_0, "q4_0"},
    {QN_DTYPE_Q4_1, "q4_1"},
    {QN_DTYPE_Q5_0, "q5_0"},
    {QN_DTYPE_Q5_1, "q5_1"},
    {QN_DTYPE_Q2_K, "q2_K"},
    {QN_DTYPE_Q3_K, "q3_K"},
    {QN_DTYPE_Q4_K, "q4_K"},
    {QN_DTYPE_Q5_K, "q5_K"},
    {QN_DTYPE_Q6_K, "q6_K"},
    {QN_DTYPE_IQ4_NL, "iq4_nl"},
    {QN_DTYPE_IQ4_XS, "iq4_xs"},
    {QN_DTYPE_TQ1_0, "tq1_0"},
    {QN_DTYPE_TQ2_0, "tq2_0"},
    {QN_DTYPE_MXFP4, "mxfp4"},
    {QN_DTYPE_Q4_0, "q4_0_imatrix"},
    {QN_DTYPE_Q2_K, "q2_K_imatrix"},
    {QN_DTYPE_Q3_K, "q3_K_imatrix"},
    {QN_DTYPE_Q4_K, "q4_K_imatrix"},
    {QN_DTYPE_Q5_K, "q5_K_imatrix"},
    {QN_DTYPE_Q6_K, "q6_K_imatrix"},
    {QN_DTYPE_IQ4_NL, "iq4_nl_imatrix"},
    {QN_DTYPE_IQ4_XS, "iq4_xs_imatrix"},
};

static void decoders_equal_reference_rows(void **state)
{
    (void)state;
    tensor_file f = {0};
    if (!tensor_file_open(&f, "rows/rows.safetensors")) {
        skip();
    }
    static float out[N_ROWS * N_COLUMNS];
    for (size_t k = 0; k < sizeof row_types / sizeof row_types[0]; k++) {
        char key[64];
        size_t n_bytes;
        size_t row_bytes;
        (void)snprintf(key, sizeof key, "%s.bytes", row_types[k].name);
        const uint8_t *bytes = tensor_file_find(&f, key, &n_bytes);
        (void)snprintf(key, sizeof key, "%s.dequant", row_types[k].name);
        const uint8_t *expected = tensor_file_find(&f, key, NULL);
        assert_non_null(bytes);
        assert_non_null(expected);
        assert_true(qn_decode_supported(row_types[k].t));
        assert_true(qn_dtype_row_bytes(row_types[k].t, N_COLUMNS, &row_bytes));
        assert_int_equal(row_bytes * N_ROWS, n_bytes);
        for (size_t r = 0; r < N_ROWS; r++) {
            qn_decode_row(row_types[k].t, bytes + r * row_bytes, out + r * N_COLUMNS, N_COLUMNS);
        }
        for (size_t i = 0; i < N_ROWS * N_COLUMNS; i++) {
            uint32_t want;
            memcpy(&want, expected + 4 * i, sizeof want);
            if (qn_f32_to_bits(out[i]) != want) {
                fail_msg("%s element %zu: %a, expected %a", row_types[k].name, i, (double)out[i], (double)qn_f32_from_bits(want));
            }
        }
    }
    tensor_file_close(&f);
}

/* With bf16 scales mlx rounds the product and the sum to bf16. From the same code, scale and bias: checks that our float32 value is the
 * unrounded one and returns mlx's. */
static float affine_in_bf16(qn_affine a, const uint32_t *packed, const uint8_t *scales, const uint8_t *biases, size_t i, float ours)
{
    uint16_t s;
    uint16_t b;
    uint8_t code;
    memcpy(&s, scales + 2 * (i / a.group), sizeof s);
    memcpy(&b, biases + 2 * (i / a.group), sizeof b);
    qn_unpack_affine(a.bits, packed, i, 1, &code);
    float product = qn_f32_from_bf16(s) * (float)code;
    assert_true(ours == product + qn_f32_from_bf16(b));
    return qn_f32_from_bf16(qn_bf16_from_f32(qn_f32_from_bf16(qn_bf16_from_f32(product)) + qn_f32_from_bf16(b)));
}

static void affine_decoder_equals_mlx(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        qn_affine a;
        qn_dtype sb;
    } cases[] = {
        {"affine_b2_g64", {2, 64}, QN_DTYPE_F32},       {"affine_b3_g64", {3, 64}, QN_DTYPE_F32},
        {"affine_b4_g64", {4, 64}, QN_DTYPE_F32},       {"affine_b4_g32", {4, 32}, QN_DTYPE_F32},
        {"affine_b4_g128", {4, 128}, QN_DTYPE_F32},     {"affine_b5_g64", {5, 64}, QN_DTYPE_F32},
        {"affine_b6_g64", {6, 64}, QN_DTYPE_F32},       {"affine_b8_g64", {8, 64}, QN_DTYPE_F32},
        {"affine_b4_g64_bf16", {4, 64}, QN_DTYPE_BF16},
    };
    tensor_file f = {0};
    if (!tensor_file_open(&f, "mlx/rows/rows.safetensors")) {
        skip();
    }
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        char key[64];
        (void)snprintf(key, sizeof key, "%s.packed", cases[k].key);
        const uint8_t *packed = tensor_file_find(&f, key, NULL);
        (void)snprintf(key, sizeof key, "%s.scales", cases[k].key);
        const uint8_t *scales = tensor_file_find(&f, key, NULL);
        (void)snprintf(key, sizeof key, "%s.biases", cases[k].key);
        const uint8_t *biases = tensor_file_find(&f, key, NULL);
        (void)snprintf(key, sizeof key, "%s.dequant", cases[k].key);
        const uint8_t *expected = tensor_file_find(&f, key, NULL);
        assert_non_null(packed);
        assert_non_null(scales);
        assert_non_null(biases);
        assert_non_null(expected);
        size_t words = (size_t)N_COLUMNS * cases[k].a.bits / 32;
        size_t row_groups_bytes = N_COLUMNS / cases[k].a.group * (cases[k].sb == QN_DTYPE_F32 ? 4u : 2u);
        for (size_t r = 0; r < N_ROWS; r++) {
            float out[N_COLUMNS];
            uint32_t aligned[N_COLUMNS];
            memcpy(aligned, packed + 4 * r * words, 4 * words);
            qn_decode_affine_row(cases[k].a, aligned, scales + r * row_groups_bytes, biases + r * row_groups_bytes, cases[k].sb, out,
                                 N_COLUMNS);
            for (size_t i = 0; i < N_COLUMNS; i++) {
                float want;
                memcpy(&want, expected + 4 * (r * N_COLUMNS + i), sizeof want);
                float got = out[i];
                if (cases[k].sb == QN_DTYPE_BF16) {
                    got = affine_in_bf16(cases[k].a, aligned, scales + r * row_groups_bytes, biases + r * row_groups_bytes, i, got);
                }
                if (qn_f32_to_bits(got) != qn_f32_to_bits(want)) {
                    fail_msg("%s row %zu element %zu: %a, expected %a", cases[k].key, r, i, (double)got, (double)want);
                }
            }
        }
    }
    tensor_file_close(&f);
}

static void unpacking_any_span_gives_the_same_codes(void **state)
{
    (void)state;
    uint32_t packed[32];
    for (size_t i = 0; i < 32; i++) {
        packed[i] = (uint32_t)(i * 2654435761u + 12345u);
    }
    static const uint32_t widths[] = {1, 2, 3, 4, 5, 6, 8};
    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
        uint8_t all[128];
        size_t n = 128;
        qn_unpack_affine(widths[w], packed, 0, n, all);
        for (size_t i = 0; i < n; i++) { /* bit by bit, independently */
            uint32_t code = 0;
            for (uint32_t b = 0; b < widths[w]; b++) {
                size_t bit = i * widths[w] + b;
                code |= ((packed[bit / 32] >> (bit % 32)) & 1u) << b;
            }
            assert_int_equal(all[i], code);
            uint8_t one;
            qn_unpack_affine(widths[w], packed, i, 1, &one);
            assert_int_equal(one, code);
        }
    }
}

static void eight_bit_floats(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 256; c++) {
        uint32_t e4 = (c >> 3) & 15u;
        double want4 = e4 == 0 ? ldexp((double)(c & 7u), -9) : ldexp(8.0 + (double)(c & 7u), (int)e4 - 10);
        uint32_t e5 = (c >> 2) & 31u;
        double want5 = e5 == 0 ? ldexp((double)(c & 3u), -16) : ldexp(4.0 + (double)(c & 3u), (int)e5 - 17);
        double sign = (c & 128u) != 0 ? -1.0 : 1.0;
        float got4 = qn_f32_from_e4m3((uint8_t)c);
        float got5 = qn_f32_from_e5m2((uint8_t)c);
        if ((c & 127u) == 127u) {
            assert_true(isnan(got4));
        } else {
            assert_true((double)got4 == sign * want4 && (signbit(got4) != 0) == (sign < 0));
        }
        if (e5 == 31) {
            assert_true((c & 3u) == 0 ? isinf(got5) : isnan(got5));
        } else {
            assert_true((double)got5 == sign * want5 && (signbit(got5) != 0) == (sign < 0));
        }
    }
    assert_true(qn_f32_from_e4m3(0x7e) == 448.0f);
}

/* The two packings of MXFP4 hold the same values. */
static void mxfp4_rows_become_blocks(void **state)
{
    (void)state;
    enum { N = 32 * 37 };
    uint8_t packed[N / 2], scales[N / 32], blocks[N / 32 * 17];
    float a[N], b[N];
    uint32_t x = 12345;
    for (size_t i = 0; i < sizeof packed; i++) {
        x = x * 1664525u + 1013904223u;
        packed[i] = (uint8_t)(x >> 24);
    }
    for (size_t i = 0; i < sizeof scales; i++) {
        scales[i] = (uint8_t)(i * 7); /* 0 and 1 among them, which have subnormal values */
    }
    scales[1] = 1;
    qn_mxfp4_row_to_blocks(packed, scales, blocks, N);
    qn_decode_row(QN_DTYPE_MXFP4, blocks, a, N);
    qn_decode_mxfp4_row(packed, scales, b, N);
    assert_memory_equal(a, b, sizeof a);
    for (size_t i = 0; i < N; i++) { /* and these are the format's */
        static const double values[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
        uint32_t code = (uint32_t)packed[i / 2] >> (4 * (i % 2)) & 15u;
        double want = ldexp(values[code & 7u], (int)scales[i / 32] - 127) * (code > 7 ? -1.0 : 1.0);
        assert_true((double)a[i] == want);
    }
}

static void fp8_rows_are_codes_times_factors(void **state)
{
    (void)state;
    enum { ROWS = 5, COLS = 300 }; /* blocks of 2 x 128: the last ones are cut */
    static const float factors[3 * 3] = {0.5f, 1.1f, 3e-5f, -2.0f, 1e30f, 7.0f, 0.0f, 1e-40f, 0x1p-20f};
    const qn_scale_grid grid = {.values = factors, .rows = 2, .cols = 128, .n_across = 3};
    const qn_scale_grid one = {.values = factors + 1, .rows = UINT32_MAX, .cols = UINT32_MAX, .n_across = 1};
    uint8_t codes[COLS];
    float out[COLS];
    for (size_t i = 0; i < COLS; i++) {
        codes[i] = (uint8_t)(i * 11);
    }
    for (size_t r = 0; r < ROWS; r++) {
        qn_decode_fp8_row(codes, &grid, r, out, COLS);
        for (size_t i = 0; i < COLS; i++) {
            float want = (float)((double)qn_f32_from_e4m3(codes[i]) * (double)factors[r / 2 * 3 + i / 128]);
            assert_true(isnan(want) ? isnan(out[i]) : qn_f32_to_bits(want) == qn_f32_to_bits(out[i]));
        }
        qn_decode_fp8_row(codes, &one, r, out, COLS);
        for (size_t i = 0; i < COLS; i++) {
            float want = (float)((double)qn_f32_from_e4m3(codes[i]) * (double)factors[1]);
            assert_true(isnan(want) ? isnan(out[i]) : want == out[i]);
        }
    }
    uint8_t all[256];
    float values[256];
    for (size_t i = 0; i < 256; i++) {
        all[i] = (uint8_t)i;
    }
    qn_decode_row(QN_DTYPE_F8_E4M3, all, values, 256);
    for (size_t i = 0; i < 256; i++) {
        float want = qn_f32_from_e4m3((uint8_t)i);
        assert_true(isnan(want) ? isnan(values[i]) : qn_f32_to_bits(values[i]) == qn_f32_to_bits(want));
    }
}

static void finding_non_finite_values(void **state)
{
    (void)state;
    float v[200];
    for (size_t i = 0; i < 200; i++) {
        v[i] = (float)i - 100.0f;
    }
    v[7] = 3.4028235e38f;
    assert_int_equal(qn_find_non_finite(v, 200), 200);
    assert_int_equal(qn_find_non_finite(v, 0), 0);
    for (size_t i = 0; i < 200; i += 13) {
        float kept = v[i];
        v[i] = i % 2 == 0 ? NAN : -INFINITY;
        assert_int_equal(qn_find_non_finite(v, 200), i);
        v[i] = kept;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoders_equal_reference_rows),
        cmocka_unit_test(affine_decoder_equals_mlx),
        cmocka_unit_test(unpacking_any_span_gives_the_same_codes),
        cmocka_unit_test(eight_bit_floats),
        cmocka_unit_test(mxfp4_rows_become_blocks),
        cmocka_unit_test(fp8_rows_are_codes_times_factors),
        cmocka_unit_test(finding_non_finite_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
