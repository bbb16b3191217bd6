/* test_ops.c - the scalar ops against plain formulas in double, and every instruction set this machine has against scalar for equal bits. */
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

enum { PAGES_MAX = 20 };

typedef struct cache {
    qn_kv_view view;
    void *k[PAGES_MAX], *v[PAGES_MAX];
    size_t n_positions, n_pages;
    float *keys, *values; /* (position, kv head, dim): what was stored, before rounding */
} cache;

static void cache_init(cache *c, const qn_ops *ops, qn_kv_format format, size_t n_kv_heads, size_t dim, size_t n_positions)
{
    c->n_positions = n_positions;
    c->n_pages = (n_positions + QN_KV_PAGE - 1) / QN_KV_PAGE;
    assert_true(c->n_pages <= PAGES_MAX);
    size_t page_bytes = n_kv_heads * dim * QN_KV_PAGE * (format == QN_KV_FORMAT_F16 ? 2 : 4);
    c->keys = qn_malloc_array(n_positions * n_kv_heads * dim, sizeof(float));
    c->values = qn_malloc_array(n_positions * n_kv_heads * dim, sizeof(float));
    for (size_t i = 0; i < c->n_pages; i++) {
        c->k[i] = qn_malloc_aligned(page_bytes);
        c->v[i] = qn_malloc_aligned(page_bytes);
        memset(c->k[i], 0xff, page_bytes); /* NaN in both formats: what is not visible must not be used */
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
    qn_free(c->keys);
    qn_free(c->values);
}

static float stored(qn_kv_format format, float x) { return format == QN_KV_FORMAT_F32 ? x : qn_f32_from_f16(qn_f16_from_f32(x)); }

/* Softmax attention as the textbook has it. */
static void attend_in_double(const cache *c, size_t kv_head, const float *q, size_t first, size_t position, double scale, double *out)
{
    size_t dim = c->view.head_dim;
    double *s = qn_malloc_array(position + 1, sizeof *s), top = -1e300, sum = 0.0;
    for (size_t j = first; j <= position; j++) {
        s[j] = 0.0;
        for (size_t d = 0; d < dim; d++) {
            s[j] += (double)q[d] * (double)stored(c->view.format, c->keys[(j * c->view.n_kv_heads + kv_head) * dim + d]);
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
        for (size_t d = 0; d < dim; d++) {
            out[d] += p * (double)stored(c->view.format, c->values[(j * c->view.n_kv_heads + kv_head) * dim + d]);
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
    for (int format = 0; format < 2; format++) {
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_attention_is_softmax_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
