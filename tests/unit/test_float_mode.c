/* test_float_mode.c - the modes of the caller's arithmetic (rounding, subnormals) do not reach results, and are as before afterwards. */
#include "golden_run.h"

#include <fenv.h>

#include "base/float_mode.h"
#include "base/thread_pool.h"
#include "quern/measure.h"
#include "quern/sampling.h"

enum { N_IDS = 40 };

/* As a host's thread may be: rounds up, and where the processor can, takes subnormals for zeros. */
static void set_other_mode(void)
{
    assert_int_equal(fesetround(FE_UPWARD), 0);
#if defined(__x86_64__)
    enum { FLUSH_TO_ZERO = 1 << 15, SUBNORMALS_ARE_ZERO = 1 << 6 };
    _mm_setcsr(_mm_getcsr() | FLUSH_TO_ZERO | SUBNORMALS_ARE_ZERO);
#endif
}

typedef struct results {
    float *logits; /* (N_IDS, n_vocab) */
    size_t n_vocab;
    int32_t drawn;
    float logprob;
} results;

static results run(size_t n_threads)
{
    results r = {0};
    quern_error err;
    int32_t ids[N_IDS];
    quern_sampler *sampler;
    quern_sampling settings = quern_sampling_default();
    quern_model *model = golden_open(qn_test_golden("gguf/quant/qwen3.Q4_K_M.gguf"));
    const quern_engine_options opt = {.n_threads = n_threads, .n_ctx = 64, .n_batch = 16};
    quern_engine *e = golden_engine(model, &opt);
    for (size_t i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((i * 131 + 7) % 509);
    }
    r.n_vocab = quern_model_get_info(model)->n_vocab;
    r.logits = golden_logits(e, ids, N_IDS, r.n_vocab, 16);
    settings.temperature = 0.8f;
    settings.repeat_penalty = 1.1f;
    settings.penalty_window = -1;
    assert_ok(quern_sampler_create(&sampler, &settings, r.n_vocab, &err));
    assert_ok(quern_sampler_accept_prompt(sampler, ids, N_IDS, &err));
    float *last = qn_malloc_array(r.n_vocab, sizeof *last);
    memcpy(last, r.logits + (N_IDS - 1) * r.n_vocab, r.n_vocab * sizeof *last);
    assert_ok(quern_sampler_sample(sampler, last, &r.drawn, &r.logprob, &err));
    qn_free(last);
    quern_sampler_destroy(sampler);
    quern_engine_destroy(e);
    quern_model_close(model);
    return r;
}

static void results_do_not_depend_on_the_callers_mode(void **state)
{
    (void)state;
    fenv_t usual;
    assert_int_equal(fegetenv(&usual), 0);
    results want = run(1);
    for (size_t threads = 1; threads <= 3; threads++) {
        set_other_mode();
        const qn_float_mode other = qn_float_mode_enter();
        qn_float_mode_leave(other);
        results have = run(threads);
        const qn_float_mode after = qn_float_mode_enter();
        qn_float_mode_leave(after);
        int rounding = fegetround();
        assert_int_equal(fesetenv(&usual), 0);
        assert_int_equal(rounding, FE_UPWARD);
#if defined(__x86_64__)
        assert_int_equal(after & 0xffc0, other & 0xffc0); /* what was raised meanwhile may differ */
#else
        assert_int_equal(after, other);
#endif
        assert_memory_equal(have.logits, want.logits, N_IDS * want.n_vocab * sizeof *want.logits);
        assert_int_equal(have.drawn, want.drawn);
        assert_memory_equal(&have.logprob, &want.logprob, sizeof want.logprob);
        qn_free(have.logits);
    }
    qn_free(want.logits);
}

/* Whoever is asked meanwhile has its own mode. */
static bool note_rounding(void *user, size_t done, size_t total)
{
    (void)done;
    (void)total;
    *(int *)user += fegetround() == FE_UPWARD;
    return true;
}

typedef struct figures {
    quern_perplexity of, of_base;
    quern_divergence divergence;
    int n_upward;
} figures;

static figures measure(void)
{
    enum { N_CTX = 24, N_TEXT = 5 * N_CTX };
    figures f;
    memset(&f, 0, sizeof f);
    quern_error err;
    int32_t ids[N_TEXT];
    const quern_engine_options opt = {.n_threads = 2, .n_ctx = N_CTX, .n_batch = 16};
    quern_model *models[] = {golden_open(qn_test_golden("gguf/quant/qwen3.Q4_K_M.gguf")), golden_open(qn_test_golden("hf/qwen3"))};
    quern_engine *quantized = golden_engine(models[0], &opt), *source = golden_engine(models[1], &opt);
    for (size_t i = 0; i < N_TEXT; i++) {
        ids[i] = (int32_t)((i * i * 31 + i * 7 + 3) % 509);
    }
    const quern_measure_options text = {.ids = ids, .n_ids = N_TEXT, .n_ctx = N_CTX, .on_progress = note_rounding, .user = &f.n_upward};
    assert_ok(quern_measure(quantized, source, &text, &f.of, &f.of_base, &f.divergence, &err));
    quern_engine_destroy(quantized);
    quern_engine_destroy(source);
    quern_model_close(models[0]);
    quern_model_close(models[1]);
    return f;
}

static void measurements_do_not_depend_on_the_callers_mode(void **state)
{
    (void)state;
    fenv_t usual;
    assert_int_equal(fegetenv(&usual), 0);
    const figures want = measure();
    set_other_mode();
    const figures have = measure();
    int rounding = fegetround();
    assert_int_equal(fesetenv(&usual), 0);
    assert_int_equal(rounding, FE_UPWARD);
    assert_int_equal(want.n_upward, 0);
    assert_int_equal(have.n_upward, 5);
    assert_memory_equal(&have.of, &want.of, sizeof want.of);
    assert_memory_equal(&have.of_base, &want.of_base, sizeof want.of_base);
    assert_memory_equal(&have.divergence, &want.divergence, sizeof want.divergence);
}

/* By what it does: fegetround looks at another unit on x86. */
static bool rounds_to_nearest(void)
{
    volatile float one = 1, little = 0x1p-30f;
    return one + little == one && -one - little == -one;
}

static void note_mode(void *arg, qn_member m) { ((bool *)arg)[m.index] = rounds_to_nearest(); }

/* Threads take over the mode of the one that makes them. */
static void every_member_rounds_to_nearest(void **state)
{
    (void)state;
    quern_error err;
    qn_pool *pool;
    bool nearest[3] = {false, false, false};
    assert_int_equal(fesetround(FE_DOWNWARD), 0);
    quern_status status = qn_pool_create(&pool, 3, &err);
    if (status == QUERN_OK) {
        qn_pool_run(pool, note_mode, nearest);
        qn_pool_destroy(pool);
    }
    bool own = rounds_to_nearest();
    assert_int_equal(fesetround(FE_TONEAREST), 0);
    assert_int_equal(status, QUERN_OK);
    assert_false(own);
    for (size_t i = 0; i < 3; i++) {
        assert_true(nearest[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(results_do_not_depend_on_the_callers_mode),
                                       cmocka_unit_test(measurements_do_not_depend_on_the_callers_mode),
                                       cmocka_unit_test(every_member_rounds_to_nearest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
