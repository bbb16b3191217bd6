/* test_sampling.c - the sampler against a slow reference that follows the definitions step by step, draw by draw; statistics, recorded
 * sequences, errors. */
#include "qn_test.h"

#include <math.h>

#include "base/alloc.h"
#include "quern/sampling.h"

static uint64_t scramble(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t random_state = 1;
static uint64_t random_bits(void) { return scramble(random_state += 0x9e3779b97f4a7c15u); }
static double uniform(double a, double b) { return a + (b - a) * ((double)(random_bits() >> 11) * 0x1p-53); }

/* ---- the reference ---- */

enum { VOCAB_MAX = 3000, HISTORY_MAX = 4000 };

typedef struct token {
    int32_t id;
    double logit, p;
} token;

typedef struct reference {
    quern_sampling s;
    size_t n_vocab;
    uint64_t random;
    int32_t history[HISTORY_MAX]; /* prompt, then answer */
    size_t n_prompt, n_history;
    token left[VOCAB_MAX]; /* what the last call could have drawn */
    size_t n_left;
} reference;

static int by_logit(const void *a, const void *b)
{
    const token *x = a, *y = b;
    return x->logit > y->logit ? -1 : x->logit < y->logit ? 1 : x->id < y->id ? -1 : 1;
}

static double distance_center; /* for by_typicality */
static int by_typicality(const void *a, const void *b)
{
    const token *x = a, *y = b;
    double dx = fabs(-log(x->p) - distance_center), dy = fabs(-log(y->p) - distance_center);
    return dx < dy ? -1 : dx > dy ? 1 : by_logit(a, b);
}

static void normalize(token *t, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += t[i].p;
    }
    for (size_t i = 0; i < n; i++) {
        t[i].p /= sum;
    }
}

/* The shortest beginning of t whose probabilities reach `share`, at least one token. */
static size_t shortest(token *t, size_t n, double share)
{
    double sum = 0.0;
    size_t kept = 0;
    while (kept < n && (kept == 0 || sum < share)) {
        sum += t[kept++].p;
    }
    return kept;
}

static void reference_penalties(const reference *r, float *logits)
{
    const quern_sampling *s = &r->s;
    size_t window = s->penalty_window < 0 || (size_t)s->penalty_window > r->n_history ? r->n_history : (size_t)s->penalty_window;
    for (size_t id = 0; id < r->n_vocab; id++) {
        bool in_window = false;
        unsigned count = 0;
        for (size_t i = 0; i < r->n_history; i++) {
            if ((size_t)r->history[i] == id) {
                in_window = in_window || i >= r->n_history - window;
                count += i >= r->n_prompt;
            }
        }
        if (in_window && s->repeat_penalty != 1.0f) {
            logits[id] = logits[id] > 0.0f ? logits[id] / s->repeat_penalty : logits[id] * s->repeat_penalty;
        }
        if (count > 0) {
            logits[id] = logits[id] - s->frequency_penalty * (float)count - s->presence_penalty;
        }
    }
    for (size_t i = 0; i < s->n_logit_bias; i++) {
        logits[s->logit_bias[i].id] += s->logit_bias[i].bias;
    }
}

static int32_t reference_sample(reference *r, const float *unmodified, double *logprob)
{
    const quern_sampling *s = &r->s;
    size_t n = r->n_vocab;
    token *t = r->left;
    float logits[VOCAB_MAX];
    memcpy(logits, unmodified, n * sizeof *logits);
    reference_penalties(r, logits);
    for (size_t i = 0; i < n; i++) {
        t[i] = (token){(int32_t)i, (double)logits[i], 0.0};
    }
    qsort(t, n, sizeof *t, by_logit);
    int32_t id = t[0].id;
    if (s->temperature > 0.0f) {
        double top = t[0].logit;
        for (size_t i = 0; i < n; i++) {
            t[i].p = exp((t[i].logit - top) / (double)s->temperature);
        }
        n = s->top_k > 0 && (size_t)s->top_k < n ? (size_t)s->top_k : n;
        while (t[n - 1].p == 0.0) {
            n--;
        }
        normalize(t, n);
        if (s->typical_p < 1.0f) {
            distance_center = 0.0;
            for (size_t i = 0; i < n; i++) {
                distance_center -= t[i].p * log(t[i].p);
            }
            qsort(t, n, sizeof *t, by_typicality);
            n = shortest(t, n, (double)s->typical_p);
            qsort(t, n, sizeof *t, by_logit);
            normalize(t, n);
        }
        if (s->top_p < 1.0f) {
            n = shortest(t, n, (double)s->top_p);
            normalize(t, n);
        }
        double largest = t[0].p;
        while (t[n - 1].p < (double)s->min_p * largest) {
            n--;
        }
        normalize(t, n);
        bool ordered = (s->top_k > 0 && (size_t)s->top_k < r->n_vocab) || s->typical_p < 1.0f || s->top_p < 1.0f;
        r->random += 0x9e3779b97f4a7c15u;
        double u = (double)(scramble(r->random) >> 11) * 0x1p-53, sum = 0.0;
        if (ordered) {
            size_t i = 0;
            while (i + 1 < n && (sum += t[i].p) <= u) {
                i++;
            }
            id = t[i].id;
        } else {
            double by_id[VOCAB_MAX] = {0};
            for (size_t i = 0; i < n; i++) {
                by_id[t[i].id] = t[i].p;
            }
            for (size_t i = 0; i < r->n_vocab; i++) {
                id = by_id[i] > 0.0 ? (int32_t)i : id;
                if ((sum += by_id[i]) > u) {
                    break;
                }
            }
        }
    }
    r->n_left = s->temperature > 0.0f ? n : 1;
    double sum = 0.0;
    for (size_t i = 0; i < r->n_vocab; i++) {
        sum += exp((double)unmodified[i] - (double)unmodified[id]);
    }
    *logprob = -log(sum);
    r->history[r->n_history++] = id;
    return id;
}

/* ---- comparison ---- */

/* Random settings; each stage is off as often as on. */
static quern_sampling random_settings(size_t n_vocab, quern_logit_bias *bias)
{
    quern_sampling s = quern_sampling_default();
    uint64_t on = random_bits();
    s.temperature = on & 1 ? (float)uniform(0.05, 3.0) : on & 2 ? 1.0f : 0.0f;
    s.top_k = on & 4 ? (int32_t)(random_bits() % (n_vocab + 2)) : on & 8 ? (int32_t)(random_bits() % 40) : 0;
    s.top_p = on & 16 ? (float)uniform(0.0, 1.0) : 1.0f;
    s.min_p = on & 32 ? (float)(on & 64 ? uniform(0.0, 1.0) : uniform(0.0, 0.1)) : 0.0f;
    s.typical_p = on & 128 ? (float)uniform(0.0, 1.0) : 1.0f;
    s.repeat_penalty = on & 256 ? (float)uniform(0.5, 2.0) : 1.0f;
    s.presence_penalty = on & 512 ? (float)uniform(-2.0, 2.0) : 0.0f;
    s.frequency_penalty = on & 1024 ? (float)uniform(-2.0, 2.0) : 0.0f;
    s.penalty_window = on & 2048 ? -1 : (int32_t)(random_bits() % 20);
    s.seed = random_bits();
    s.logit_bias = bias;
    s.n_logit_bias = on & 4096 ? 5 : 0;
    for (size_t i = 0; i < 5; i++) {
        bias[i] = (quern_logit_bias){(int32_t)(random_bits() % n_vocab), i == 0 && n_vocab > 1 ? -INFINITY : (float)uniform(-5.0, 5.0)};
    }
    return s;
}

/* Logits as models give them, or with many ties, or with forbidden tokens. */
static void random_logits(float *logits, size_t n)
{
    uint64_t kind = random_bits() % 4;
    for (size_t i = 0; i < n; i++) {
        double x = uniform(-8.0, 8.0) + uniform(-8.0, 8.0);
        logits[i] = kind == 0 ? (float)(int)(x / 4.0) : kind == 1 && random_bits() % 2 ? -INFINITY : (float)x;
    }
    logits[random_bits() % n] = 9.0f;
}

static void sampler_follows_the_definitions(void **state)
{
    (void)state;
    static reference r;
    static const size_t sizes[] = {1, 2, 3, 10, 100, 1000, VOCAB_MAX};
    static float logits[VOCAB_MAX], given[VOCAB_MAX];
    quern_error err;
    for (int round = 0; round < 700; round++) {
        quern_logit_bias bias[5];
        int32_t prompt[30];
        size_t n = sizes[(size_t)round % 7], n_prompt = random_bits() % 30;
        r = (reference){.s = random_settings(n, bias), .n_vocab = n, .n_prompt = n_prompt, .n_history = n_prompt};
        r.random = scramble(r.s.seed + 0x9e3779b97f4a7c15u);
        for (size_t i = 0; i < n_prompt; i++) {
            r.history[i] = prompt[i] = (int32_t)(random_bits() % n);
        }
        quern_sampler *s;
        assert_ok(quern_sampler_create(&s, &r.s, n, &err));
        assert_ok(quern_sampler_accept_prompt(s, prompt, n_prompt, &err));
        for (int i = 0; i < 25; i++) {
            int32_t id;
            float logprob;
            double want_logprob;
            random_logits(logits, n);
            if (n == 1 || (r.s.n_logit_bias > 0 && n < 4)) { /* something must stay possible */
                for (size_t k = 0; k < n; k++) {
                    logits[k] = isinf(logits[k]) ? 0.0f : logits[k];
                }
            }
            memcpy(given, logits, sizeof given);
            int32_t want = reference_sample(&r, given, &want_logprob);
            assert_ok(quern_sampler_sample(s, logits, &id, i % 2 ? &logprob : NULL, &err));
            if (id != want) {
                fail_msg("round %d, draw %d: token %d, reference %d of %zu left; n %zu, temperature %g, top_k %d, top_p %g, min_p %g, "
                         "typical_p %g, repeat %g",
                         round, i, id, want, r.n_left, n, (double)r.s.temperature, r.s.top_k, (double)r.s.top_p, (double)r.s.min_p,
                         (double)r.s.typical_p, (double)r.s.repeat_penalty);
            }
            if (i % 2) {
                assert_true(fabs((double)logprob - want_logprob) < 1e-5 * (1.0 + fabs(want_logprob)));
            }
        }
        quern_sampler_destroy(s);
    }
}

/* The reference would be slow here; what top-k keeps of a large vocabulary is counted instead. */
static void top_k_of_a_large_vocabulary(void **state)
{
    (void)state;
    enum { N = 152000 };
    static float logits[N], copy[N];
    static const int32_t ks[] = {1, 20, 1023, 1024, 1025, 5000, 151999};
    quern_error err;
    for (size_t k = 0; k < sizeof ks / sizeof ks[0]; k++) {
        quern_sampling settings = quern_sampling_default();
        settings.temperature = 1e6f; /* all that are kept are equally likely */
        settings.top_k = ks[k];
        settings.seed = k;
        quern_sampler *s;
        assert_ok(quern_sampler_create(&s, &settings, N, &err));
        for (size_t i = 0; i < N; i++) {
            logits[i] = (float)(random_bits() % 40000); /* with ties */
        }
        for (int round = 0; round < 20; round++) {
            int32_t id;
            memcpy(copy, logits, sizeof copy);
            assert_ok(quern_sampler_sample(s, copy, &id, NULL, &err));
            size_t before = 0;
            for (size_t i = 0; i < N; i++) {
                before += logits[i] > logits[id] || (logits[i] == logits[id] && i < (size_t)id);
            }
            assert_true(before < (size_t)ks[k]);
            assert_true(ks[k] < 100 || round != 0 || before > 0);
        }
        quern_sampler_destroy(s);
    }
}

/* Chi-square of 40000 draws: with 11 degrees of freedom a value above 40 has probability 4e-5 (and the seed is fixed). */
static void draws_have_the_probabilities(void **state)
{
    (void)state;
    enum { N = 12, DRAWS = 40000 };
    static const float logits[N] = {0.0f, 1.0f, -1.0f, 2.0f, 0.5f, 0.5f, -0.3f, 1.7f, -2.0f, 0.9f, 0.1f, 1.2f};
    for (int ordered = 0; ordered < 2; ordered++) {
        quern_sampling settings = quern_sampling_default();
        settings.temperature = 0.8f;
        settings.top_p = ordered ? 0.9999999f : 1.0f;
        settings.seed = 7;
        quern_sampler *s;
        quern_error err;
        assert_ok(quern_sampler_create(&s, &settings, N, &err));
        double count[N] = {0}, p[N], sum = 0.0, chi = 0.0;
        for (size_t i = 0; i < N; i++) {
            sum += p[i] = exp((double)logits[i] / 0.8);
        }
        for (int i = 0; i < DRAWS; i++) {
            float copy[N];
            int32_t id;
            memcpy(copy, logits, sizeof copy);
            assert_ok(quern_sampler_sample(s, copy, &id, NULL, &err));
            count[id] += 1.0;
        }
        for (size_t i = 0; i < N; i++) {
            double expected = DRAWS * p[i] / sum;
            chi += (count[i] - expected) * (count[i] - expected) / expected;
        }
        print_message("chi-square %.1f\n", chi);
        assert_true(chi < 40.0);
        quern_sampler_destroy(s);
    }
}

/* Tokens of two fixed settings, recorded once: the same on every machine and in every version. */
static void recorded_sequence(void **state)
{
    (void)state;
    static const int32_t recorded[2][16] = {
        {307, 437, 77, 216, 316, 84, 148, 113, 218, 289, 21, 426, 2, 280, 343, 152},
        {409, 197, 147, 219, 478, 312, 299, 27, 281, 74, 311, 325, 468, 106, 222, 100},
    };
    for (int which = 0; which < 2; which++) {
        quern_sampling settings = quern_sampling_default();
        settings.temperature = which == 0 ? 1.0f : 0.7f;
        settings.top_k = which == 0 ? 0 : 20;
        settings.top_p = which == 0 ? 1.0f : 0.8f;
        settings.repeat_penalty = which == 0 ? 1.0f : 1.05f;
        settings.seed = 1234;
        quern_error err;
        for (int again = 0; again < 2; again++) {
            quern_sampler *s;
            assert_ok(quern_sampler_create(&s, &settings, 500, &err));
            for (int i = 0; i < 16; i++) {
                float logits[500];
                int32_t id;
                for (size_t k = 0; k < 500; k++) {
                    logits[k] = (float)(scramble(k * 16 + (uint64_t)i) % 1000) / 100.0f;
                }
                assert_ok(quern_sampler_sample(s, logits, &id, NULL, &err));
                if (id != recorded[which][i]) {
                    print_error("sequence %d token %d: %d\n", which, i, id);
                }
                assert_int_equal(id, recorded[which][i]);
            }
            quern_sampler_destroy(s);
        }
    }
}

static void seeds_differ(void **state)
{
    (void)state;
    int32_t first[64];
    for (uint64_t seed = 0; seed < 64; seed++) {
        quern_sampling settings = quern_sampling_default();
        settings.temperature = 1.0f;
        settings.seed = seed;
        quern_sampler *s;
        quern_error err;
        assert_ok(quern_sampler_create(&s, &settings, 3000, &err));
        float logits[3000] = {0};
        assert_ok(quern_sampler_sample(s, logits, &first[seed], NULL, &err));
        quern_sampler_destroy(s);
    }
    size_t n_equal = 0;
    for (size_t i = 1; i < 64; i++) {
        for (size_t k = 0; k < i; k++) {
            n_equal += first[i] == first[k];
        }
    }
    assert_true(n_equal < 5); /* 0.7 expected */
}

static void greedy_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    quern_sampling settings = quern_sampling_default();
    quern_sampler *s;
    quern_error err;
    assert_ok(quern_sampler_create(&s, &settings, 40, &err));
    for (size_t at = 0; at < 39; at++) {
        float logits[40], logprob;
        int32_t id;
        for (size_t i = 0; i < 40; i++) {
            logits[i] = i == at || i == 39 ? 3.0f : i == 20 ? -INFINITY : -0.5f;
        }
        assert_ok(quern_sampler_sample(s, logits, &id, &logprob, &err));
        assert_int_equal(id, at);
        double n_low = at == 20 ? 38.0 : 37.0;
        assert_true(fabs((double)logprob + log(2.0 + n_low * exp(-3.5))) < 1e-6);
    }
    quern_sampler_destroy(s);
}

static void bad_logits_are_errors(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int greedy = 0; greedy < 2; greedy++) {
        quern_logit_bias bias[3] = {{0, -INFINITY}, {1, -INFINITY}, {2, 1.0f}};
        quern_sampling settings = quern_sampling_default();
        settings.temperature = greedy ? 0.0f : 1.0f;
        settings.presence_penalty = 0.5f;
        settings.logit_bias = bias;
        settings.n_logit_bias = 3;
        quern_sampler *s, *twin;
        quern_error err;
        assert_ok(quern_sampler_create(&s, &settings, 5, &err));
        assert_ok(quern_sampler_create(&twin, &settings, 5, &err));
        for (size_t b = 0; b < 3; b++) {
            float logits[5] = {1.0f, 2.0f, bad[b], bad[b], bad[b]};
            int32_t id = -7;
            assert_int_equal(quern_sampler_sample(s, logits, &id, NULL, &err),
                             QUERN_ERROR_INVALID); /* -INFINITY: the bias forbids what is left */
            assert_int_equal(id, -7);
        }
        for (int i = 0; i < 20; i++) { /* the failures left no trace */
            float a[5] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f}, c[5] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f};
            int32_t id, id_twin;
            assert_ok(quern_sampler_sample(s, a, &id, NULL, &err));
            assert_ok(quern_sampler_sample(twin, c, &id_twin, NULL, &err));
            assert_int_equal(id, id_twin);
            assert_true(id > 1);
        }
        quern_sampler_destroy(s);
        quern_sampler_destroy(twin);
    }
}

static void settings_are_checked(void **state)
{
    (void)state;
    quern_error err;
    quern_sampling good = quern_sampling_default(), s;
    assert_ok(quern_sampling_check(&good, 10, &err));
#define REFUSED(field, value) \
    s = good; \
    s.field = (value); \
    assert_int_equal(quern_sampling_check(&s, 10, &err), QUERN_ERROR_USAGE); \
    assert_non_null(strstr(err.message, #field));
    REFUSED(temperature, -1.0f)
    REFUSED(temperature, NAN)
    REFUSED(temperature, INFINITY)
    REFUSED(temperature, 1e-9f)
    REFUSED(top_k, -1)
    REFUSED(top_p, 1.1f)
    REFUSED(top_p, -0.1f)
    REFUSED(top_p, NAN)
    REFUSED(min_p, 2.0f)
    REFUSED(min_p, NAN)
    REFUSED(typical_p, -1.0f)
    REFUSED(typical_p, NAN)
    REFUSED(repeat_penalty, 0.0f)
    REFUSED(repeat_penalty, -1.0f)
    REFUSED(repeat_penalty, NAN)
    REFUSED(presence_penalty, INFINITY)
    REFUSED(presence_penalty, NAN)
    REFUSED(frequency_penalty, NAN)
    REFUSED(penalty_window, -2)
    REFUSED(penalty_window, INT32_MAX)
    static const quern_logit_bias bias[] = {{-1, 0.0f}, {10, 0.0f}, {INT32_MAX, 0.0f}, {0, NAN}, {0, INFINITY}};
    for (size_t i = 0; i < sizeof bias / sizeof bias[0]; i++) {
        s = good;
        s.logit_bias = &bias[i];
        s.n_logit_bias = 1;
        assert_int_equal(quern_sampling_check(&s, 10, &err), QUERN_ERROR_USAGE);
        assert_non_null(strstr(err.message, "logit_bias"));
    }
    quern_sampler *sampler;
    assert_int_equal(quern_sampler_create(&sampler, &good, 0, &err), QUERN_ERROR_USAGE);
    assert_null(sampler);
    assert_ok(quern_sampler_create(&sampler, &good, 10, &err));
    static const int32_t outside[] = {3, 10}, negative[] = {-1};
    assert_int_equal(quern_sampler_accept_prompt(sampler, outside, 2, &err), QUERN_ERROR_INVALID);
    assert_int_equal(quern_sampler_accept_prompt(sampler, negative, 1, NULL), QUERN_ERROR_INVALID);
    quern_sampler_destroy(sampler);
    quern_sampler_destroy(NULL);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    quern_logit_bias bias = {1, 1.0f};
    quern_sampling settings = {.temperature = 1.0f,
                               .top_p = 0.5f,
                               .typical_p = 0.5f,
                               .repeat_penalty = 1.1f,
                               .presence_penalty = 0.1f,
                               .penalty_window = 16,
                               .logit_bias = &bias,
                               .n_logit_bias = 1};
    quern_error err;
    quern_sampler *s;
    qn_alloc_fail_at(0);
    assert_ok(quern_sampler_create(&s, &settings, 100, &err));
    uint64_t n = qn_alloc_count();
    quern_sampler_destroy(s);
    assert_true(n >= 10);
    for (uint64_t i = 1; i <= n; i++) {
        qn_alloc_fail_at(i);
        assert_int_equal(quern_sampler_create(&s, &settings, 100, &err), QUERN_ERROR_MEMORY);
        assert_null(s);
    }
    qn_alloc_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampler_follows_the_definitions),
        cmocka_unit_test(top_k_of_a_large_vocabulary),
        cmocka_unit_test(draws_have_the_probabilities),
        cmocka_unit_test(recorded_sequence),
        cmocka_unit_test(seeds_differ),
        cmocka_unit_test(greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(bad_logits_are_errors),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
