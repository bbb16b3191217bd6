/* test_ops.c - the scalar ops against plain formulas in double, and every instruction set this machine has against scalar for equal
 * bits. */
#include "qn_test.h"

#include <math.h>

#include "base/alloc.h"
#include "base/half.h"
#include "kernels/ops.h"

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

/* ---- a cache filled with random keys and values ---- */

enum { N_FORMATS = QN_KV_FORMAT_Q8_0 + 1, DIM_MAX = 512 };

/* Bytes of one key or value. */
static size_t row_bytes(qn_kv_format format, size_t dim)
{
    return format == QN_KV_FORMAT_F32 ? 4 * dim : format == QN_KV_FORMAT_F16 ? 2 * dim : dim + dim / 32 * 2;
}

static bool can_hold(qn_kv_format format, size_t dim) { return format != QN_KV_FORMAT_Q8_0 || dim % 32 == 0; }

typedef struct cache {
    qn_kv_view view;
    void **k, **v; /* (n_pages): exactly, so that a look past them is found */
    size_t n_positions, n_pages;
    float *keys, *values; /* (position, kv head, dim): what was stored, before rounding */
} cache;

static void cache_init(cache *c, const qn_ops *ops, qn_kv_format format, size_t n_kv_heads, size_t dim, size_t n_positions)
{
    c->n_positions = n_positions;
    c->n_pages = (n_positions + QN_KV_PAGE - 1) / QN_KV_PAGE;
    c->k = qn_malloc_array(c->n_pages, sizeof *c->k);
    c->v = qn_malloc_array(c->n_pages, sizeof *c->v);
    size_t page_bytes = n_kv_heads * QN_KV_PAGE * row_bytes(format, dim);
    assert_int_equal(row_bytes(format, dim), qn_kv_row_bytes(format, dim));
    c->keys = qn_malloc_array(n_positions * n_kv_heads * dim, sizeof(float));
    c->values = qn_malloc_array(n_positions * n_kv_heads * dim, sizeof(float));
    for (size_t i = 0; i < c->n_pages; i++) {
        c->k[i] = qn_malloc_aligned(page_bytes);
        c->v[i] = qn_malloc_aligned(page_bytes);
        memset(c->k[i], 0xff, page_bytes); /* NaN in all formats: what is not visible must not be used */
        memset(c->v[i], 0xff, page_bytes);
    }
    for (size_t i = 0; i < n_positions * n_kv_heads * dim; i++) {
        c->keys[i] = random_float() * 2.0f;
        c->values[i] = random_float();
    }
    for (size_t j = 0; j < n_positions; j++) {
        for (size_t h = 0; h < n_kv_heads; h++) {
            size_t at = (j * n_kv_heads + h) * dim;
            ops->kv_store(format, c->k[j / QN_KV_PAGE], c->v[j / QN_KV_PAGE], h, dim, j % QN_KV_PAGE, c->keys + at, c->values + at);
        }
    }
    c->view = (qn_kv_view){format, (const void *const *)c->k, (const void *const *)c->v, n_kv_heads, dim};
}

static void cache_deinit(cache *c)
{
    for (size_t i = 0; i < c->n_pages; i++) {
        qn_free_aligned(c->k[i]);
        qn_free_aligned(c->v[i]);
    }
    qn_free(c->k);
    qn_free(c->v);
    qn_free(c->keys);
    qn_free(c->values);
}

/* A key or value as a cache gives it back. */
static void stored(qn_kv_format format, const float *x, size_t dim, float *out)
{
    for (size_t d = 0; d < dim; d++) {
        out[d] = format == QN_KV_FORMAT_F32 ? x[d] : qn_f32_from_f16(qn_f16_from_f32(x[d]));
    }
    for (size_t b = 0; format == QN_KV_FORMAT_Q8_0 && b < dim; b += 32) {
        float most = 0.0f;
        for (size_t d = b; d < b + 32; d++) {
            most = fabsf(x[d]) > most ? fabsf(x[d]) : most;
        }
        float step = most / 127.0f, scale = qn_f32_from_f16(qn_f16_from_f32(step)), inverse = scale > 0.0f ? 1.0f / step : 0.0f;
        for (size_t d = b; d < b + 32; d++) {
            out[d] = scale * rintf(x[d] * inverse);
        }
    }
}

/* Softmax attention as the textbook has it. */
static void attend_in_double(const cache *c, size_t kv_head, const float *q, size_t first, size_t position, double scale, double *out)
{
    size_t dim = c->view.head_dim;
    double *s = qn_malloc_array(position + 1, sizeof *s), top = -1e300, sum = 0.0;
    float row[DIM_MAX];
    for (size_t j = first; j <= position; j++) {
        s[j] = 0.0;
        stored(c->view.format, c->keys + (j * c->view.n_kv_heads + kv_head) * dim, dim, row);
        for (size_t d = 0; d < dim; d++) {
            s[j] += (double)q[d] * (double)row[d];
        }
        s[j] *= scale;
        top = s[j] > top ? s[j] : top;
    }
    for (size_t d = 0; d < dim; d++) {
        out[d] = 0.0;
    }
    for (size_t j = first; j <= position; j++) {
        double p = exp(s[j] - top);
        sum += p;
        stored(c->view.format, c->values + (j * c->view.n_kv_heads + kv_head) * dim, dim, row);
        for (size_t d = 0; d < dim; d++) {
            out[d] += p * (double)row[d];
        }
    }
    for (size_t d = 0; d < dim; d++) {
        out[d] /= sum;
    }
    qn_free(s);
}

static void scalar_attention_is_softmax_attention(void **state)
{
    (void)state;
    static const size_t positions[] = {0, 1, 63, 64, 255, 256, 257, 1000};
    const qn_ops *ops = qn_ops_get(QN_ISA_SCALAR);
    for (int format = 0; format < N_FORMATS; format++) {
        for (size_t dim = 32; dim <= 96; dim += 32) {
            cache c;
            cache_init(&c, ops, (qn_kv_format)format, 3, dim, 1001);
            for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
                float q[96], out[96], *o = out;
                double want[96];
                for (size_t d = 0; d < dim; d++) {
                    q[d] = random_float();
                }
                const float *qp = q;
                size_t first = i % 2 == 0 ? 0 : positions[i] - positions[i] / 3, kv_head = i % 3;
                qn_attn_args args = {&c.view, kv_head, 1, &qp, &o, &positions[i], &first, 0.3f, NULL};
                args.scratch = qn_malloc_aligned(QN_ATTN_SCRATCH_BYTES(1, dim));
                ops->attention(&args);
                attend_in_double(&c, kv_head, q, first, positions[i], (double)0.3f, want);
                for (size_t d = 0; d < dim; d++) {
                    assert_true(fabs((double)out[d] - want[d]) < 1e-5);
                }
                qn_free_aligned(args.scratch);
            }
            cache_deinit(&c);
        }
    }
}

/* ---- every instruction set against scalar ---- */

/* Same bits; any NaN equals any NaN (which operand's payload survives is the processor's affair). */
static void assert_same(const float *got, const float *want, size_t n, const char *what, qn_isa isa)
{
    for (size_t i = 0; i < n; i++) {
        if (qn_f32_to_bits(got[i]) != qn_f32_to_bits(want[i]) && !(isnan(got[i]) && isnan(want[i]))) {
            fail_msg("%s, %s: element %zu of %zu is %a, scalar has %a", what, qn_isa_name(isa), i, n, (double)got[i], (double)want[i]);
        }
    }
}

/* Runs `test` with the table of each level that has one of its own here. */
static void for_each_level(void (*test)(const qn_ops *ops, const qn_ops *scalar))
{
    const qn_ops *scalar = qn_ops_get(QN_ISA_SCALAR), *last = scalar;
    for (int isa = 0; isa < QN_ISA_COUNT; isa++) {
        const qn_ops *ops = qn_ops_get((qn_isa)isa);
        assert_non_null(ops);
        if (qn_isa_available((qn_isa)isa) && ops != last && ops != scalar) {
            assert_int_equal(ops->isa, isa);
            test(ops, scalar);
            last = ops;
        }
    }
}

/* A random value, now and then a special one. */
static float any_float(void)
{
    static const float special[] = {0.0f, -0.0f, 1e-40f, -1e-42f, 3e38f, -3e38f, 1e-30f, 90.0f, -110.0f};
    uint64_t r = random_bits();
    return r % 64 == 0 ? special[r / 64 % (sizeof special / sizeof special[0])] : random_float() * 8.0f;
}

enum { N_MAX = 1040, GUARD = 32 };

static void rows_of_one_level(const qn_ops *ops, const qn_ops *scalar)
{
    float x[N_MAX], w[N_MAX], got[N_MAX + GUARD], want[N_MAX + GUARD];
    for (size_t n = 1; n <= 1000; n += n < 70 ? 1 : 93) {
        for (size_t i = 0; i < N_MAX; i++) {
            x[i] = any_float();
            w[i] = any_float();
        }
        for (int in_place = 0; in_place < 2; in_place++) {
            for (int weighted = 0; weighted < 2; weighted++) {
                memcpy(got, x, sizeof x);
                memcpy(want, x, sizeof x);
                ops->rms_norm(got, in_place ? got : x, weighted ? w : NULL, n, 1e-6f);
                scalar->rms_norm(want, in_place ? want : x, weighted ? w : NULL, n, 1e-6f);
                assert_same(got, want, N_MAX, "rms_norm", ops->isa);
            }
        }
        memcpy(got, w, sizeof w);
        memcpy(want, w, sizeof w);
        ops->add(got, x, n);
        scalar->add(want, x, n);
        assert_same(got, want, N_MAX, "add", ops->isa);
        ops->silu_mul(got, x, w, n);
        scalar->silu_mul(want, x, w, n);
        assert_same(got, want, N_MAX, "silu_mul", ops->isa);
        ops->silu_mul(x, x, w, n); /* in place */
        assert_same(x, want, n, "silu_mul in place", ops->isa);
    }
}

static void rope_of_one_level(const qn_ops *ops, const qn_ops *scalar)
{
    float got[512 + GUARD], want[512 + GUARD], cos_sin[512];
    for (size_t n = 2; n <= 512; n += n < 140 ? 2 : 46) {
        for (size_t i = 0; i < 512 + GUARD; i++) {
            got[i] = want[i] = any_float();
        }
        for (size_t i = 0; i < 512; i++) {
            cos_sin[i] = random_float();
        }
        ops->rope_half(got, cos_sin, n);
        scalar->rope_half(want, cos_sin, n);
        assert_same(got, want, 512 + GUARD, "rope_half", ops->isa);
        ops->rope_interleaved(got, cos_sin, n);
        scalar->rope_interleaved(want, cos_sin, n);
        assert_same(got, want, 512 + GUARD, "rope_interleaved", ops->isa);
    }
}

static void silu_over_all_floats(const qn_ops *ops, const qn_ops *scalar)
{
    enum { N = 4096 };
    static float gate[N], one[N], got[N], want[N];
    for (size_t i = 0; i < N; i++) {
        one[i] = 1.0f;
    }
    uint32_t u = 0;
    for (int round = 0; round < 2700; round++) { /* 2^32 / (2700 * 4096): a step that visits every exponent and both signs */
        for (size_t i = 0; i < N; i++) {
            gate[i] = qn_f32_from_bits(u);
            u += 389;
        }
        ops->silu_mul(got, gate, one, N);
        scalar->silu_mul(want, gate, one, N);
        assert_same(got, want, N, "silu_mul over all floats", ops->isa);
    }
}

/* With these arguments the merged o is exp(x). */
static void merge_of_one_level(const qn_ops *ops, const qn_ops *scalar)
{
    for (uint32_t u = 0; u <= 0x7f800000u; u += 1021) {
        float x = -qn_f32_from_bits(u), part[2] = {x, 1.0f}, got_ml[2] = {0.0f, 1.0f}, want_ml[2] = {0.0f, 1.0f}, got = 0.0f, want = 0.0f,
              one = 1.0f;
        ops->attention_merge(got_ml, &got, part, &one, 1);
        scalar->attention_merge(want_ml, &want, part, &one, 1);
        assert_same(got_ml, want_ml, 2, "attention_merge m and l", ops->isa);
        assert_same(&got, &want, 1, "attention_merge o", ops->isa);
    }
    for (size_t dim = 2; dim <= 130; dim += 2) {
        float o[130], part[130], got[130], want[130];
        for (size_t d = 0; d < 130; d++) {
            o[d] = any_float();
            part[d] = any_float();
        }
        for (int side = 0; side < 4; side++) { /* neither, one or the other side empty, both */
            float a[2] = {side & 1 ? -INFINITY : random_float(), side & 1 ? 0.0f : 2.0f}, b[2] = {a[0], a[1]};
            float p[2] = {side & 2 ? -INFINITY : random_float(), side & 2 ? 0.0f : 3.0f};
            memcpy(got, o, sizeof o);
            memcpy(want, o, sizeof o);
            ops->attention_merge(a, got, p, part, dim);
            scalar->attention_merge(b, want, p, part, dim);
            assert_same(a, b, 2, "attention_merge m and l", ops->isa);
            assert_same(got, want, 130, "attention_merge o", ops->isa);
        }
    }
}

static void argmax_of_one_level(const qn_ops *ops, const qn_ops *scalar)
{
    float x[N_MAX];
    for (size_t n = 1; n <= 1000; n += n < 70 ? 1 : 93) {
        for (int variant = 0; variant < 40; variant++) {
            for (size_t i = 0; i < n; i++) {
                x[i] = variant < 10 ? (float)(random_bits() % 4) : variant == 10 ? -INFINITY : variant == 11 ? 0.0f : any_float();
            }
            if (variant >= 30) { /* ties, zeros of both signs, infinities and NaN at random places */
                static const float special[] = {NAN, INFINITY, 1e9f, -0.0f};
                x[random_bits() % n] = special[variant % 4];
                x[random_bits() % n] = special[variant % 4];
            }
            size_t want = 0;
            for (size_t i = 0; i < n && !isnan(x[want]); i++) {
                want = isnan(x[i]) || x[i] > x[want] ? i : want;
            }
            assert_int_equal(scalar->argmax(x, n), want);
            assert_int_equal(ops->argmax(x, n), want);
        }
    }
}

static void exp_sum_of_one_level(const qn_ops *ops, const qn_ops *scalar)
{
    static float x[20000];
    for (size_t n = 1; n <= 20000; n += n < 70 ? 1 : 1993) {
        double want = 0.0, slow = 0.0, factor = n % 3 == 0 ? 1.0 : n % 3 == 1 ? 0.37 : 3.1;
        float max = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            x[i] = i % 50 == 49 ? -INFINITY : i % 50 == 48 ? -3e38f : random_float() * (n % 2 ? 20.0f : 800.0f);
            max = x[i] > max ? x[i] : max;
        }
        for (size_t i = 0; i < n; i++) {
            slow += exp(((double)x[i] - (double)max) * factor);
        }
        static double got_terms[20008], want_terms[20008];
        memset(got_terms, 0x55, sizeof got_terms);
        memset(want_terms, 0x55, sizeof want_terms);
        want = scalar->exp_sum(want_terms, x, n, max, factor);
        double got = ops->exp_sum(got_terms, x, n, max, factor);
        assert_memory_equal(&got, &want, sizeof got);
        assert_memory_equal(got_terms, want_terms, sizeof got_terms);
        got = ops->exp_sum(NULL, x, n, max, factor);
        assert_memory_equal(&got, &want, sizeof got);
        assert_true(n < 50 || got_terms[49] == 0.0);
        assert_true(fabs(got / slow - 1.0) < 1e-13);
    }
}

static void sums_of_two_rows_of_one_level(const qn_ops *ops, const qn_ops *scalar)
{
    static float x[3000], y[3000], z[3000];
    for (size_t n = 1; n <= 3000; n += n < 70 ? 1 : 197) {
        double slow = 0.0, size = 0.0;
        float max = -INFINITY, a = random_float() * 3.0f;
        for (size_t i = 0; i < n; i++) {
            x[i] = random_float() * 30.0f;
            y[i] = x[i] + random_float();
            max = x[i] > max ? x[i] : max;
        }
        for (size_t i = 0; i < n; i++) {
            double term = exp((double)x[i] - (double)max) * ((double)x[i] - (double)y[i]);
            slow += term;
            size += fabs(term);
        }
        double want = scalar->exp_dot(x, y, n, max), got = ops->exp_dot(x, y, n, max);
        assert_memory_equal(&got, &want, sizeof got);
        assert_true(fabs(got - slow) <= 1e-13 * size);
        memcpy(z, y, n * sizeof *y);
        scalar->axpy(y, a, x, n);
        for (size_t i = 0; i < n; i++) {
            assert_true(y[i] == fmaf(a, x[i], z[i]));
        }
        ops->axpy(z, a, x, n);
        assert_memory_equal(y, z, n * sizeof *y);
    }
}

static void kv_store_of_one_level(const qn_ops *ops, const qn_ops *scalar)
{
    static const size_t dims[] = {2, 30, 32, 64, 80, 96, 128, 256, 512};
    for (size_t s = 0; s < N_FORMATS * (sizeof dims / sizeof dims[0]); s++) {
        size_t dim = dims[s / N_FORMATS];
        qn_kv_format format = (qn_kv_format)(s % N_FORMATS);
        if (!can_hold(format, dim)) {
            continue;
        }
        size_t bytes = 2 * QN_KV_PAGE * row_bytes(format, dim); /* exactly, so that a byte past the second head is found */
        char *page[4];
        for (size_t i = 0; i < 4; i++) {
            page[i] = qn_calloc(1, bytes);
        }
        for (size_t slot = 0; slot < QN_KV_PAGE; slot++) {
            float k[DIM_MAX], v[DIM_MAX];
            for (size_t d = 0; d < dim; d++) {
                k[d] = any_float() * 1e4f; /* some beyond the float16 range, some below */
                v[d] = any_float() * (slot % 2 ? 1e-6f : 1.0f);
            }
            k[0] = slot == 0   ? INFINITY
                   : slot == 1 ? 65519.996f
                   : slot == 2 ? 65520.0f
                   : slot == 3 ? -0x1.002p0f
                   : slot == 4 ? 0x1.006p0f
                               : NAN;
            ops->kv_store(format, page[0], page[1], slot % 2, dim, slot, k, v);
            scalar->kv_store(format, page[2], page[3], slot % 2, dim, slot, k, v);
        }
        assert_memory_equal(page[0], page[2], bytes);
        assert_memory_equal(page[1], page[3], bytes);
        for (size_t i = 0; i < 4; i++) {
            qn_free(page[i]);
        }
    }
}

/* Sixteen blocks of head size 32, and what q8_0 must make of them: every case in the first or the last place of its block. */
static void fill_blocks(float x[16][32], float want[16][32])
{
    static const float special[] = {NAN, -NAN, INFINITY, -INFINITY, 8.4e6f, -3e38f};
    memset(x, 0, 16 * sizeof x[0]);
    for (size_t i = 0; i < 16; i++) {
        for (size_t d = 0; d < 32; d++) {
            x[i][d] = random_float() * powf(10.0f, 1.6f * (float)i - 18.0f);
        }
        if (i < 6) { /* not finite, or more than a float16 scale can say: the block is NaN */
            x[i][i % 2 * 31] = special[i];
        } else if (i < 8) { /* zeros of both signs, and what is too small for any scale: zeros */
            for (size_t d = 0; d < 32; d++) {
                x[i][d] = d % 2 ? -0.0f : i == 6 ? 0.0f : 3e-6f;
            }
        } else if (i < 10) { /* ties go to even codes; the scale is 1 or 1/64 */
            for (size_t d = 0; d < 32; d++) {
                x[i][d] = ((float)d - 15.5f) * (i == 8 ? 1.0f : 1.0f / 64);
            }
            x[i][7] = i == 8 ? -127.0f : 127.0f / 64;
        }
        if (i < 6) {
            for (size_t d = 0; d < 32; d++) {
                want[i][d] = NAN;
            }
        } else {
            stored(QN_KV_FORMAT_Q8_0, x[i], 32, want[i]);
        }
    }
}

/* Reads q8_0 pages by the layout that ops.h gives, in the test's own words, and holds them against what was to be stored. */
static void q8_0_pages_hold_what_was_stored(void **state)
{
    (void)state;
    enum { DIM = 96, HEADS = 3, BLOCKS = DIM / 32 };
    const qn_ops *ops = qn_ops_get(QN_ISA_SCALAR);
    float x[16][32], want[16][32], k[DIM], v[DIM];
    fill_blocks(x, want);
    assert_true(want[6][0] == 0.0f && want[7][0] == 0.0f && want[8][0] == -16.0f && want[8][1] == -14.0f && want[9][31] == 16.0f / 64);
    size_t bytes = HEADS * QN_KV_PAGE * row_bytes(QN_KV_FORMAT_Q8_0, DIM);
    uint8_t *keys = qn_calloc(1, bytes), *values = qn_calloc(1, bytes);
    double worst = 0.0;
    for (size_t slot = 0; slot < QN_KV_PAGE; slot++) {
        for (size_t h = 0; h < HEADS; h++) {
            for (size_t b = 0; b < BLOCKS; b++) {
                memcpy(k + 32 * b, x[(slot + h + b) % 16], 32 * sizeof *k);
                memcpy(v + 32 * b, x[(3 * slot + 5 * h + b) % 16], 32 * sizeof *v);
            }
            ops->kv_store(QN_KV_FORMAT_Q8_0, keys, values, h, DIM, slot, k, v);
        }
    }
    for (size_t i = 0; i < (size_t)QN_KV_PAGE * HEADS * DIM; i++) {
        size_t slot = i / (HEADS * DIM), h = i / DIM % HEADS, d = i % DIM, b = d / 32;
        const uint8_t *key = keys + ((h * 4 + slot / 16) * BLOCKS + b) * (32 + 32 * 16);
        const uint8_t *value = values + (h * QN_KV_PAGE + slot) * (DIM + BLOCKS * 2);
        uint16_t scale[2];
        memcpy(&scale[0], key + slot % 16 * 2, 2);
        memcpy(&scale[1], value + DIM + b * 2, 2);
        float got[2] = {qn_f32_from_f16(scale[0]) * (float)(int8_t)key[32 + d % 32 * 16 + slot % 16],
                        qn_f32_from_f16(scale[1]) * (float)(int8_t)value[d]};
        size_t of[2] = {(slot + h + b) % 16, (3 * slot + 5 * h + b) % 16};
        for (size_t side = 0; side < 2; side++) {
            float wanted = want[of[side]][d % 32];
            assert_true(got[side] == wanted || (isnan(got[side]) && isnan(wanted)));
            if (of[side] >= 10) { /* half a step, and what float16 takes from the scale */
                double error = fabs((double)got[side] - (double)x[of[side]][d % 32]), step = (double)qn_f32_from_f16(scale[side]);
                worst = error / step > worst ? error / step : worst;
            }
        }
    }
    assert_true(worst > 0.4 && worst <= 0.5 + 127.5 * 0x1p-11);
    qn_free(keys);
    qn_free(values);
}

/* ---- attention ---- */

enum { QUERIES_MAX = 112 };

typedef struct attention_case {
    qn_attn_args args;
    float *memory; /* q, then three outputs */
    const float *q[QUERIES_MAX];
    float *out_got[QUERIES_MAX], *out_want[QUERIES_MAX], *out_scratch[QUERIES_MAX];
    size_t position[QUERIES_MAX], first[QUERIES_MAX];
} attention_case;

static void case_init(attention_case *t, const cache *c, size_t kv_head, size_t n)
{
    size_t dim = c->view.head_dim;
    t->memory = qn_malloc_array(4 * n * (dim + GUARD), sizeof(float));
    for (size_t i = 0; i < n; i++) {
        float *q = t->memory + 4 * i * (dim + GUARD);
        t->q[i] = q;
        t->out_got[i] = q + dim + GUARD;
        t->out_want[i] = q + 2 * (dim + GUARD);
        t->out_scratch[i] = q + 3 * (dim + GUARD);
        for (size_t d = 0; d < 4 * (dim + GUARD); d++) {
            q[d] = d < dim ? random_float() * 3.0f : 7.0f;
        }
    }
    t->args = (qn_attn_args){&c->view, kv_head, n, t->q, t->out_got, t->position, t->first, 1.0f / sqrtf((float)dim), NULL};
    t->args.scratch = qn_malloc_aligned(QN_ATTN_SCRATCH_BYTES(n, dim));
}

static void case_deinit(attention_case *t)
{
    qn_free(t->memory);
    qn_free_aligned(t->args.scratch);
}

/* attention, and attention_partial merged chunk by chunk, of ops against attention of scalar. */
static void case_compare(attention_case *t, const qn_ops *ops, const qn_ops *scalar)
{
    size_t dim = t->args.kv->head_dim, n = t->args.n_queries, n_chunks = 0;
    t->args.out = t->out_want;
    scalar->attention(&t->args);
    t->args.out = t->out_got;
    ops->attention(&t->args);
    for (size_t i = 0; i < n; i++) {
        assert_same(t->out_got[i], t->out_want[i], dim + GUARD, "attention", ops->isa);
        n_chunks = t->position[i] / QN_ATTN_CHUNK + 1 > n_chunks ? t->position[i] / QN_ATTN_CHUNK + 1 : n_chunks;
    }
    float ml[QUERIES_MAX][2], ml_part[2 * QUERIES_MAX], ml_scalar[2 * QUERIES_MAX];
    float *sum = qn_calloc(n * dim, sizeof *sum);
    for (size_t i = 0; i < n; i++) {
        ml[i][0] = -INFINITY;
        ml[i][1] = 0.0f;
    }
    for (size_t c = 0; c < n_chunks; c++) {
        ops->attention_partial(&t->args, c, c + 1, ml_part);
        if (c + 1 == n_chunks) {
            t->args.out = t->out_scratch;
            scalar->attention_partial(&t->args, c, c + 1, ml_scalar);
            t->args.out = t->out_got;
            assert_same(ml_part, ml_scalar, 2 * n, "attention_partial m and l", ops->isa);
        }
        for (size_t i = 0; i < n; i++) {
            if (c * QN_ATTN_CHUNK > t->position[i] || (c + 1) * QN_ATTN_CHUNK <= t->first[i]) {
                assert_true(ml_part[2 * i] == -INFINITY && ml_part[2 * i + 1] == 0.0f && t->out_got[i][0] == 0.0f);
            }
            ops->attention_merge(ml[i], sum + i * dim, ml_part + 2 * i, t->out_got[i], dim);
        }
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t d = 0; d < dim; d++) {
            sum[i * dim + d] /= ml[i][1];
        }
        assert_same(sum + i * dim, t->out_want[i], dim, "merged attention_partial", ops->isa);
    }
    qn_free(sum);
}

static const size_t border_positions[] = {0, 1, 15, 16, 17, 62, 63, 64, 65, 127, 254, 255, 256, 257, 300, 511, 512, 767, 999, 1000};
enum { N_BORDERS = sizeof border_positions / sizeof border_positions[0] };

static void attention_of_one_level(const qn_ops *ops, const qn_ops *scalar)
{
    static const size_t dims[] = {32, 64, 80, 96, 128, 256, 30, 72};
    uint64_t calls = qn_ops_calls(ops->isa);
    for (size_t s = 0; s < N_FORMATS * (sizeof dims / sizeof dims[0]); s++) {
        size_t dim = dims[s / N_FORMATS];
        qn_kv_format format = (qn_kv_format)(s % N_FORMATS);
        if (!can_hold(format, dim)) {
            continue;
        }
        cache c;
        cache_init(&c, scalar, format, 2, dim, 1001);
        attention_case t;
        for (size_t n = 1; n <= 9; n++) { /* decode: heads of one token at each border, window or not */
            case_init(&t, &c, n % 2, n);
            for (size_t b = n % 2; b<N_BORDERS; b += n> 2 ? 2 : 1) {
                size_t position = border_positions[b], window = random_bits() % 2 ? position + 1 : random_bits() % (position + 1) + 1;
                for (size_t i = 0; i < n; i++) {
                    t.position[i] = position;
                    t.first[i] = position + 1 - window;
                }
                case_compare(&t, ops, scalar);
            }
            case_deinit(&t);
        }
        static const size_t n_mixed[] = {2, 7, 12, 13, 23, 64, 65, 112};
        for (size_t m = 0; m < sizeof n_mixed / sizeof n_mixed[0];
             m++) { /* prefill: three heads of consecutive tokens; then any positions at all */
            case_init(&t, &c, m % 2, n_mixed[m]);
            for (int mixed = 0; mixed < 3; mixed++) {
                size_t start = border_positions[random_bits() % 15], window = mixed == 1 ? 100 : 2000;
                for (size_t i = 0; i < n_mixed[m]; i++) {
                    size_t position = mixed == 2 ? random_bits() % 1001 : start + i / 3;
                    t.position[i] = position;
                    t.first[i] = position + 1 > window ? position + 1 - window : 0;
                    t.first[i] = mixed == 2 && i % 2 ? random_bits() % (position + 1) : t.first[i];
                }
                case_compare(&t, ops, scalar);
            }
            case_deinit(&t);
        }
        cache_deinit(&c);
    }
    assert_true(qn_ops_calls(ops->isa) > calls + 1000);
}

/* NaN and infinity among keys, values and queries reach the output as in scalar, and no query that does not see them. */
static void attention_with_specials(const qn_ops *ops, const qn_ops *scalar)
{
    for (int format = 0; format < N_FORMATS; format++) {
        cache c;
        cache_init(&c, scalar, (qn_kv_format)format, 1, 64, 600);
        float k[64], v[64];
        for (size_t d = 0; d < 64; d++) {
            k[d] = random_float();
            v[d] = random_float();
        }
        k[3] = NAN;
        scalar->kv_store((qn_kv_format)format, c.k[2], c.v[2], 0, 64, 10, k, v); /* position 138 */
        k[3] = INFINITY;
        scalar->kv_store((qn_kv_format)format, c.k[4], c.v[4], 0, 64, 20, k, v); /* 276 */
        k[3] = 0.0f;
        v[5] = -INFINITY;
        scalar->kv_store((qn_kv_format)format, c.k[6], c.v[6], 0, 64, 30, k, v); /* 414 */
        attention_case t;
        case_init(&t, &c, 0, 64);
        for (size_t i = 0; i < 64; i++) {
            t.position[i] = random_bits() % 600;
            t.first[i] = random_bits() % (t.position[i] + 1);
        }
        case_compare(&t, ops, scalar);
        for (size_t i = 0; i < 64; i++) {
            if (t.first[i] > 414 || t.position[i] < 138) {
                assert_true(!isnan(t.out_want[i][5]));
            }
        }
        case_deinit(&t);
        cache_deinit(&c);
    }
}

/* Says what the equality tests below compare; the tables that a level gets are never above it. */
static void levels_have_tables(void **state)
{
    (void)state;
    for (int isa = 0; isa < QN_ISA_COUNT; isa++) {
        qn_isa served = qn_ops_get((qn_isa)isa)->isa;
        assert_true((int)served <= isa && qn_isa_available(served));
        if (qn_isa_available((qn_isa)isa)) {
            print_message("%s is served by %s\n", qn_isa_name((qn_isa)isa), qn_isa_name(served));
            assert_true(isa == QN_ISA_SCALAR || served != QN_ISA_SCALAR);
        }
    }
}

/* Products so small that scores are zeros of either sign: the largest is +0 in every form. */
static void attention_of_tiny_scores(const qn_ops *ops, const qn_ops *scalar)
{
    for (int format = 0; format < N_FORMATS; format++) {
        cache c;
        cache_init(&c, scalar, (qn_kv_format)format, 1, 32, 300);
        attention_case t;
        case_init(&t, &c, 0, 20);
        for (size_t i = 0; i < 20; i++) {
            t.position[i] = random_bits() % 300;
            t.first[i] = t.position[i] - random_bits() % (t.position[i] + 1) % 4; /* one to four keys */
            for (size_t d = 0; d < 32; d++) {
                t.memory[4 * i * (32 + GUARD) + d] = d == 31 ? 0x1p-149f
                                                             : 0.0f; /* a quarter of it is rounded to zero, with the key's sign */
            }
        }
        for (size_t j = 0; j < 300; j++) {
            float k[32] = {0}, v[32] = {random_float()};
            k[31] = random_bits() % 2 ? 0.25f : -0.25f;
            scalar->kv_store(c.view.format, c.k[j / QN_KV_PAGE], c.v[j / QN_KV_PAGE], 0, 32, j % QN_KV_PAGE, k, v);
        }
        case_compare(&t, ops, scalar);
        case_deinit(&t);
        cache_deinit(&c);
    }
}

static void rows_are_equal(void **state) { (void)state, for_each_level(rows_of_one_level); }
static void rope_is_equal(void **state) { (void)state, for_each_level(rope_of_one_level); }
static void silu_is_equal_over_all_floats(void **state) { (void)state, for_each_level(silu_over_all_floats); }
static void merge_is_equal(void **state) { (void)state, for_each_level(merge_of_one_level); }
static void argmax_is_equal(void **state) { (void)state, for_each_level(argmax_of_one_level); }
static void exp_sum_is_equal(void **state) { (void)state, for_each_level(exp_sum_of_one_level); }
static void sums_of_two_rows_are_equal(void **state) { (void)state, for_each_level(sums_of_two_rows_of_one_level); }
static void kv_store_is_equal(void **state) { (void)state, for_each_level(kv_store_of_one_level); }
static void attention_is_equal(void **state) { (void)state, for_each_level(attention_of_one_level); }
static void attention_is_equal_for_tiny_scores(void **state) { (void)state, for_each_level(attention_of_tiny_scores); }
static void attention_is_equal_with_specials(void **state) { (void)state, for_each_level(attention_with_specials); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_attention_is_softmax_attention),
        cmocka_unit_test(levels_have_tables),
        cmocka_unit_test(rows_are_equal),
        cmocka_unit_test(rope_is_equal),
        cmocka_unit_test(silu_is_equal_over_all_floats),
        cmocka_unit_test(merge_is_equal),
        cmocka_unit_test(argmax_is_equal),
        cmocka_unit_test(exp_sum_is_equal),
        cmocka_unit_test(sums_of_two_rows_are_equal),
        cmocka_unit_test(kv_store_is_equal),
        cmocka_unit_test(q8_0_pages_hold_what_was_stored),
        cmocka_unit_test(attention_is_equal),
        cmocka_unit_test(attention_is_equal_for_tiny_scores),
        cmocka_unit_test(attention_is_equal_with_specials),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
