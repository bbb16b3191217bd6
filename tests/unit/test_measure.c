/* test_measure.c - perplexity and divergence against a plain computation in long double from the same logits; a model against itself; refusals. */
#include "golden_run.h"

#include "model/model_int.h"
#include "quern/measure.h"

enum { N_CTX = 40, N_CHUNKS = 3, N_IDS = N_CTX * N_CHUNKS + 17 };

static int32_t ids[N_IDS];
static quern_model *source, *quantized;
static quern_engine *source_engine, *engine;

static int set_up(void **state)
{
    (void)state;
    const quern_engine_options opt = {.n_threads = 2, .n_ctx = 64, .n_batch = 16, .kv_type = QUERN_KV_F32};
    source = golden_open(qn_test_golden("hf/qwen3"));
    quantized = golden_open(qn_test_golden("gguf/quant/qwen3.Q4_K_M.gguf"));
    source_engine = golden_engine(source, &opt);
    engine = golden_engine(quantized, &opt);
    for (size_t i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((i * i * 31 + i * 7 + 3) % 509);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    quern_engine_destroy(source_engine);
    quern_engine_destroy(engine);
    quern_model_close(source);
    quern_model_close(quantized);
    return 0;
}

/* log softmax of one row, in long double */
static void log_probs(const float *logits, size_t n, long double *out)
{
    long double max = logits[0], sum = 0;
    for (size_t i = 0; i < n; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    for (size_t i = 0; i < n; i++) {
        sum += expl(logits[i] - max);
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = logits[i] - max - logl(sum);
    }
}

static void figures_equal_a_plain_computation(void **state)
{
    (void)state;
    quern_error err;
    enum { V = 512, FIRST = N_CTX / 2, SCORED = N_CTX - 1 - FIRST };
    static long double p[V], q[V];
    long double nll = 0, base_nll = 0, kld = 0, max = 0, delta = 0, delta_square = 0, difference_square = 0;
    size_t same = 0;
    for (size_t c = 0; c < N_CHUNKS; c++) {
        const int32_t *chunk = ids + c * N_CTX;
        float *a = golden_logits(engine, chunk, N_CTX - 1, V, 16), *b = golden_logits(source_engine, chunk, N_CTX - 1, V, 16);
        for (size_t t = FIRST; t + 1 < N_CTX; t++) {
            log_probs(a + t * V, V, q);
            log_probs(b + t * V, V, p);
            long double one = 0, d = expl(q[chunk[t + 1]]) - expl(p[chunk[t + 1]]), r = p[chunk[t + 1]] - q[chunk[t + 1]];
            for (size_t i = 0; i < V; i++) {
                one += expl(p[i]) * (p[i] - q[i]);
            }
            nll -= q[chunk[t + 1]];
            base_nll -= p[chunk[t + 1]];
            kld += one;
            max = one > max ? one : max;
            delta += d;
            delta_square += d * d;
            difference_square += r * r;
            same += golden_argmax(a + t * V, V) == golden_argmax(b + t * V, V);
        }
        qn_free(a);
        qn_free(b);
    }
    const long double n = N_CHUNKS * SCORED;
    const quern_measure_options opt = {.ids = ids, .n_ids = N_IDS, .n_ctx = N_CTX};
    quern_perplexity out, base;
    quern_divergence d;
    assert_ok(quern_measure(engine, source_engine, &opt, &out, &base, &d, &err));
    assert_int_equal(out.n_chunks, N_CHUNKS);
    assert_int_equal(out.n_tokens, N_CHUNKS * SCORED);
    assert_true(fabsl(out.nll - nll / n) < 1e-10L);
    assert_true(fabsl(out.ppl / expl(nll / n) - 1) < 1e-10L);
    assert_true(fabsl(base.nll - base_nll / n) < 1e-10L);
    assert_true(fabsl(d.kld_mean - kld / n) < 1e-10L);
    assert_true(fabsl(d.kld_max - max) < 1e-10L);
    assert_true(d.kld_mean > 1e-3);
    assert_true(d.kld_median <= d.kld_p90 && d.kld_p90 <= d.kld_p99 && d.kld_p99 <= d.kld_p999 && d.kld_p999 <= d.kld_max);
    assert_true(fabsl(d.top1_agreement - same / n) < 1e-12L);
    assert_true(fabsl(d.delta_p_mean - delta / n) < 1e-10L);
    assert_true(fabsl(d.delta_p_rms - sqrtl(delta_square / n)) < 1e-10L);
    assert_true(fabsl(d.ppl_ratio - expl((nll - base_nll) / n)) < 1e-10L);
    long double mean = (nll - base_nll) / n, error = d.ppl_ratio * sqrtl((difference_square / n - mean * mean) / (n - 1));
    assert_true(fabsl(d.ppl_ratio_error - error) < 1e-9L);
}

static void a_model_does_not_differ_from_itself(void **state)
{
    (void)state;
    quern_error err;
    const quern_engine_options other = {.n_threads = 1, .isa = "scalar", .n_ctx = N_CTX, .n_batch = 7, .kv_type = QUERN_KV_F32};
    quern_engine *again = golden_engine(source, &other);
    const quern_measure_options opt = {.ids = ids, .n_ids = N_IDS, .n_ctx = N_CTX, .max_chunks = 2};
    quern_perplexity a, b;
    quern_divergence d;
    assert_ok(quern_measure(again, source_engine, &opt, &a, &b, &d, &err));
    assert_int_equal(a.n_chunks, 2);
    assert_memory_equal(&a.nll, &b.nll, sizeof a.nll);
    assert_true(d.kld_max == 0.0 && d.top1_agreement == 1.0 && d.ppl_ratio == 1.0 && d.delta_p_rms == 0.0);
    quern_engine_destroy(again);
}

/* Several models beside one base: each has the figures that it has alone, to the last bit, and one that is broken spoils no other. */
static void several_models_share_a_base(void **state)
{
    (void)state;
    quern_error err;
    const quern_engine_options opt = {.n_threads = 2, .n_ctx = 64, .n_batch = 9, .kv_type = QUERN_KV_F32};
    static float norm[4096];
    quern_model broken = *quantized;
    for (size_t i = 0; i < sizeof norm / sizeof norm[0]; i++) {
        norm[i] = i == 5 ? NAN : 1.0f;
    }
    broken.weights.output_norm = norm;
    quern_engine *broken_engine = golden_engine(&broken, &opt), *again = golden_engine(source, &opt);
    const quern_measure_options text = {.ids = ids, .n_ids = N_IDS, .n_ctx = N_CTX};
    quern_perplexity alone, alone_base, base;
    quern_divergence d;
    assert_ok(quern_measure(engine, source_engine, &text, &alone, &alone_base, &d, &err));
    quern_measured models[] = {{.engine = broken_engine}, {.engine = engine}, {.engine = again}};
    assert_ok(quern_measure_beside(models, 3, source_engine, &text, &base, &err));
    assert_int_equal(models[0].status, QUERN_ERROR_INVALID);
    assert_non_null(strstr(models[0].error.message, "not finite in chunk 0"));
    assert_int_equal(models[1].status, QUERN_OK);
    assert_memory_equal(&models[1].perplexity.ppl, &alone.ppl, sizeof alone.ppl);
    assert_memory_equal(&models[1].divergence, &d, sizeof d);
    assert_memory_equal(&base.ppl, &alone_base.ppl, sizeof base.ppl);
    assert_true(models[2].status == QUERN_OK && models[2].divergence.kld_max == 0.0);
    /* a broken base is everybody's error; broken models alone are not */
    assert_int_equal(quern_measure_beside(models + 1, 2, broken_engine, &text, &base, &err), QUERN_ERROR_INVALID);
    assert_ok(quern_measure_beside(models, 1, source_engine, &text, &base, &err));
    assert_int_equal(models[0].status, QUERN_ERROR_INVALID);
    assert_int_equal(quern_measure(broken_engine, NULL, &text, &alone, NULL, NULL, &err), QUERN_ERROR_INVALID);
    assert_int_equal(quern_measure_beside(models, 0, NULL, &text, &base, &err), QUERN_ERROR_USAGE);
    quern_engine_destroy(broken_engine);
    quern_engine_destroy(again);
}

static bool stop_at_once(void *user, size_t done, size_t total)
{
    (void)user;
    (void)total;
    return done < 1;
}

static void refusals(void **state)
{
    (void)state;
    quern_error err;
    quern_perplexity out;
    quern_measure_options opt = {.ids = ids, .n_ids = N_CTX * 2 - 1, .n_ctx = N_CTX};
    assert_int_equal(quern_measure(engine, NULL, &opt, &out, NULL, NULL, &err), QUERN_ERROR_INVALID);
    opt = (quern_measure_options){.ids = ids, .n_ids = N_IDS, .n_ctx = 65};
    assert_int_equal(quern_measure(engine, NULL, &opt, &out, NULL, NULL, &err), QUERN_ERROR_LIMIT);
    opt.n_ctx = 3;
    assert_int_equal(quern_measure(engine, NULL, &opt, &out, NULL, NULL, &err), QUERN_ERROR_LIMIT);
    opt = (quern_measure_options){.ids = ids, .n_ids = N_IDS, .n_ctx = N_CTX, .on_progress = stop_at_once};
    assert_int_equal(quern_measure(engine, NULL, &opt, &out, NULL, NULL, &err), QUERN_ERROR_CANCELLED);
    const int32_t wrong[16] = {[9] = 512};
    opt = (quern_measure_options){.ids = wrong, .n_ids = 16, .n_ctx = 8};
    assert_int_equal(quern_measure(engine, NULL, &opt, &out, NULL, NULL, &err), QUERN_ERROR_USAGE);
    opt = (quern_measure_options){.n_ctx = N_CTX};
    assert_int_equal(quern_measure(engine, NULL, &opt, &out, NULL, NULL, &err), QUERN_ERROR_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_equal_a_plain_computation),
        cmocka_unit_test(a_model_does_not_differ_from_itself),
        cmocka_unit_test(several_models_share_a_base),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
