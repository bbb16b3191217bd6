/* test_speculate.c - guesses change the number of steps and nothing else; the index finds what a plain search finds; the decision follows what was
 * measured. */
#include "golden_run.h"

#include "engine/engine_int.h"

/* ---- the index ---- */

/* The longest match of the last tokens, the most recent of equals, by looking everywhere. */
static void find_plainly(const int32_t *t, size_t n, size_t n_max, qn_draft *out)
{
    size_t best = 0, from = 0;
    *out = (qn_draft){0};
    for (size_t at = 0; at + 1 < n; at++) {
        size_t k = 0;
        while (k < 32 && k <= at && t[at - k] == t[n - 1 - k]) {
            k++;
        }
        if (k >= QN_MATCH_MIN && k >= best) {
            best = k;
            from = at + 1;
        }
    }
    for (size_t i = 0; best > 0 && i < n_max; i++) {
        out->ids[out->n++] = from + i < n ? t[from + i] : out->ids[from + i - n];
    }
}

static void the_index_finds_the_longest_match(void **state)
{
    (void)state;
    enum { N = 400 };
    quern_error err;
    static int32_t tokens[N];
    qn_speculation_record record = {0};
    qn_speculation s;
    uint32_t seed = 5;
    size_t n_found = 0;
    assert_ok(qn_speculation_init(&s, &record, N, &err));
    for (size_t i = 0; i < N; i++) {
        qn_draft got, expected;
        seed = seed * 1664525u + 1013904223u;
        /* stretches of three symbols, and copies of what was said 37 tokens ago */
        tokens[i] = i % 90 > 45 ? tokens[i - 37] : (int32_t)(seed >> 30);
        qn_speculation_push(&s, &tokens[i], 1);
        qn_speculation_find(&s, i % 16, &got);
        find_plainly(tokens, i + 1, i % 16 < QN_DRAFT_MAX ? i % 16 : QN_DRAFT_MAX, &expected);
        /* only the 16 most recent places are looked at: with so few symbols another may be longer */
        if (i % 90 > 60) {
            assert_int_equal(got.n, expected.n);
            assert_memory_equal(got.ids, expected.ids, got.n * sizeof *got.ids);
            n_found += got.n > 0;
        }
    }
    assert_true(n_found > 80);
    const int32_t more[3] = {1, 2, 3};
    qn_speculation_push(&s, more, 3); /* beyond its room: left out */
    assert_int_equal(s.n_tokens, N);
    qn_speculation_deinit(&s);
}

static void short_texts_have_no_match(void **state)
{
    (void)state;
    quern_error err;
    qn_speculation_record record = {0};
    qn_speculation s;
    qn_draft d;
    static const int32_t ids[] = {7, 7, 7, 7, 8};
    assert_ok(qn_speculation_init(&s, &record, 2, &err));
    qn_speculation_push(&s, ids, 5);
    qn_speculation_find(&s, 5, &d);
    assert_int_equal(d.n, 0);
    qn_speculation_deinit(&s);
    assert_ok(qn_speculation_init(&s, &record, 64, &err));
    for (size_t i = 0; i < 5; i++) {
        qn_speculation_find(&s, 15, &d);
        assert_int_equal(d.n, i == 4 ? 15 : 0);
        qn_speculation_push(&s, ids + i, 1);
    }
    qn_speculation_find(&s, 15, &d);
    assert_int_equal(d.n, 0); /* 7 7 8 was never there */
    qn_speculation_deinit(&s);
}

/* ---- the decision ---- */

static void the_decision_follows_the_measurements(void **state)
{
    (void)state;
    qn_speculation_record r = {0};
    qn_draft d = {.n = QN_DRAFT_MAX, .match_class = 1};
    for (size_t rows = 1; rows <= QN_DRAFT_MAX + 1; rows++) { /* rows cost nothing: all of them */
        qn_speculation_note_cost(&r, rows, 1.0);
    }
    assert_int_equal(qn_speculation_choose(&r, &d), QN_DRAFT_MAX);
    d.n = 4;
    assert_int_equal(qn_speculation_choose(&r, &d), 4);
    d.n = 0;
    assert_int_equal(qn_speculation_choose(&r, &d), 0);
    d.n = QN_DRAFT_MAX;
    for (int i = 0; i < 40; i++) { /* a row costs as much as a step: none */
        for (size_t rows = 1; rows <= QN_DRAFT_MAX + 1; rows++) {
            qn_speculation_note_cost(&r, rows, (double)rows);
        }
    }
    assert_int_equal(qn_speculation_choose(&r, &d), 0);
    for (int i = 0; i < 40; i++) { /* a row costs a tenth: some, fewer the less often guesses are right, none if they never are */
        for (size_t rows = 1; rows <= QN_DRAFT_MAX + 1; rows++) {
            qn_speculation_note_cost(&r, rows, 1 + 0.1 * (double)(rows - 1));
        }
    }
    size_t fresh = qn_speculation_choose(&r, &d);
    assert_true(fresh > 0 && fresh < QN_DRAFT_MAX);
    for (int i = 0; i < 20; i++) {
        qn_speculation_note_result(&r, &d, 8, 8);
    }
    assert_true(qn_speculation_choose(&r, &d) > fresh);
    for (int i = 0; i < 2000; i++) {
        qn_speculation_note_result(&r, &d, 8, 0);
    }
    assert_int_equal(qn_speculation_choose(&r, &d), 0);
    d.match_class = 2; /* another class has learnt nothing of it */
    assert_true(qn_speculation_choose(&r, &d) > 0);
    d.match_class = 1;
    for (int i = 0; i < 800; i++) { /* and it is forgotten */
        qn_speculation_note_cost(&r, 1, 1.0);
    }
    assert_true(qn_speculation_choose(&r, &d) > 0);
}

/* ---- answers ---- */

typedef struct heard {
    size_t n_tokens, n_bytes, cancel_after;
} heard;

static bool hear(void *user, int32_t id, const char *text, size_t len)
{
    heard *h = user;
    (void)text;
    h->n_tokens += id >= 0;
    h->n_bytes += len;
    return h->cancel_after == 0 || h->n_tokens < h->cancel_after;
}

typedef struct answer {
    quern_generation g;
    heard heard;
    size_t n_tokens; /* of the sequence afterwards */
    float *after;    /* logits behind one more token */
} answer;

static answer answer_of(quern_engine *e, const int32_t *prompt, size_t n_prompt, quern_generate_options opt, size_t cancel_after)
{
    quern_error err;
    quern_sequence *s;
    answer a = {.heard = {.cancel_after = cancel_after}};
    const int32_t one = 5;
    opt.on_token = hear;
    opt.user = &a.heard;
    assert_ok(quern_sequence_create(&s, e, &err));
    assert_ok(quern_generate(e, s, prompt, n_prompt, &opt, &a.g, &err));
    a.n_tokens = quern_sequence_n_tokens(s);
    assert_memory_equal(s->ids, prompt, n_prompt * sizeof *prompt);
    assert_memory_equal(s->ids + n_prompt, a.g.ids.data, (a.n_tokens - n_prompt) * sizeof *prompt);
    if (a.n_tokens < e->info.n_ctx) {
        a.after = qn_malloc_array(e->info.n_ctx + (size_t)e->model->config.n_vocab, sizeof *a.after);
        assert_non_null(a.after);
        const quern_step_item item = {.sequence = s, .ids = &one, .n_ids = 1, .n_logits = 1, .logits = a.after};
        if (quern_engine_step(e, &item, 1, &err) == QUERN_ERROR_CONTEXT_FULL) { /* others hold the pages */
            qn_free(a.after);
            a.after = NULL;
        }
    }
    quern_sequence_destroy(s);
    return a;
}

static void free_answer(answer *a)
{
    quern_generation_deinit(&a->g);
    qn_free(a->after);
}

static void assert_same(const quern_engine *e, const answer *a, const answer *b)
{
    assert_int_equal(a->g.ids.len, b->g.ids.len);
    assert_memory_equal(a->g.ids.data, b->g.ids.data, a->g.ids.len * sizeof *a->g.ids.data);
    assert_int_equal(a->g.len, b->g.len);
    assert_memory_equal(a->g.text, b->g.text, a->g.len);
    assert_int_equal(a->g.finish, b->g.finish);
    assert_int_equal(a->heard.n_tokens, b->heard.n_tokens);
    assert_int_equal(a->heard.n_bytes, b->heard.n_bytes);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_int_equal(a->after == NULL, b->after == NULL);
    if (a->after != NULL) {
        assert_memory_equal(a->after, b->after, e->model->config.n_vocab * sizeof *a->after);
    }
}

static size_t total_guessed, total_right;

/* The same answer with guesses wherever there is a match as without any, and with those that pay. */
static void compare(quern_engine *e, const int32_t *prompt, size_t n_prompt, quern_generate_options opt, size_t cancel_after)
{
    opt.speculation = QUERN_SPECULATE_OFF;
    answer plain = answer_of(e, prompt, n_prompt, opt, cancel_after);
    assert_int_equal(plain.g.n_guessed, 0);
    for (int k = 0; k < 2; k++) {
        opt.speculation = k == 0 ? QUERN_SPECULATE_ALWAYS : QUERN_SPECULATE_AUTO;
        answer guessed = answer_of(e, prompt, n_prompt, opt, cancel_after);
        assert_same(e, &plain, &guessed);
        assert_true(guessed.g.n_right <= guessed.g.n_guessed);
        assert_true(guessed.g.n_steps + guessed.g.n_right + 1 >= guessed.g.ids.len);
        if (k == 0) {
            total_guessed += guessed.g.n_guessed;
            total_right += guessed.g.n_right;
            assert_true(guessed.g.n_right == 0 || guessed.g.n_steps < plain.g.n_steps);
        }
        free_answer(&guessed);
    }
    free_answer(&plain);
}

static void fill_prompt(int32_t *ids, size_t n, int32_t n_vocab, size_t period)
{
    for (size_t i = 0; i < n; i++) {
        size_t k = i % period;
        ids[i] = (int32_t)((k * k * 31 + k * 7 + 3) % (size_t)n_vocab);
    }
}

/* What is said is what was forced, whatever the model would say; guesses from the text are right where the text repeats itself. */
static void forced_answers_are_said(void **state)
{
    (void)state;
    quern_error err;
    int32_t prompt[40], forced[50];
    quern_model *model = golden_open(qn_test_golden("hf/qwen3"));
    const quern_engine_options opt = {.n_threads = 2, .n_ctx = 128};
    quern_engine *e = golden_engine(model, &opt);
    fill_prompt(prompt, 40, (int32_t)model->config.n_vocab, 40);
    memcpy(forced, prompt, 40 * sizeof *forced); /* the prompt once more */
    fill_prompt(forced + 40, 10, (int32_t)model->config.n_vocab, 3);
    quern_generate_options g = {.max_tokens = 50, .sampling = quern_sampling_default(), .ignore_eos = true, .forced = forced};
    g.speculation = QUERN_SPECULATE_OFF;
    answer plain = answer_of(e, prompt, 40, g, 0);
    g.speculation = QUERN_SPECULATE_ALWAYS;
    answer guessed = answer_of(e, prompt, 40, g, 0);
    assert_int_equal(plain.g.ids.len, 50);
    assert_memory_equal(plain.g.ids.data, forced, sizeof forced);
    assert_same(e, &plain, &guessed);
    assert_int_equal(plain.g.n_steps, 49);
    assert_true(guessed.g.n_right > 30 && guessed.g.n_steps < 20);
    free_answer(&plain);
    free_answer(&guessed);

    quern_sequence *s;
    quern_generation refused;
    assert_ok(quern_sequence_create(&s, e, &err));
    g.max_tokens = 0;
    assert_int_equal(quern_generate(e, s, prompt, 40, &g, &refused, &err), QUERN_ERROR_USAGE);
    g.max_tokens = 50;
    forced[49] = (int32_t)model->config.n_vocab;
    assert_int_equal(quern_generate(e, s, prompt, 40, &g, &refused, &err), QUERN_ERROR_INVALID);
    quern_sequence_destroy(s);
    quern_engine_destroy(e);
    quern_model_close(model);
}

static void answers_stay_the_same(void **state)
{
    (void)state;
    static const char *const models[] = {"hf/qwen3", "gguf/quant/qwen3.Q4_K_M.gguf"};
    static const size_t batches[] = {1, 2, 7, 64};
    int32_t prompt[40];
    total_guessed = total_right = 0;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        quern_model *model = golden_open(qn_test_golden(models[m]));
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            const quern_engine_options opt = {.n_threads = 2, .n_ctx = 128, .n_batch = batches[b], .kv_type = (quern_kv_type)(b % 3)};
            quern_engine *e = golden_engine(model, &opt);
            for (size_t period = 5; period <= 40; period += QN_TEST_SANITIZED ? 18 : 7) {
                fill_prompt(prompt, 40, (int32_t)model->config.n_vocab, period);
                quern_generate_options g = {.max_tokens = 60, .sampling = quern_sampling_default(), .ignore_eos = true};
                g.sampling.temperature = 0;
                compare(e, prompt, 40, g, 0);
                compare(e, prompt, 40, g, 11);
                g.sampling.temperature = 0.7f;
                g.sampling.seed = period;
                g.sampling.repeat_penalty = period > 20 ? 1.1f : 1.0f;
                g.max_tokens = 0; /* until the context is full */
                compare(e, prompt, 40, g, 0);
            }
            quern_engine_destroy(e);
        }
        quern_model_close(model);
    }
    assert_true(total_guessed > (QN_TEST_SANITIZED ? 300 : 1000) && total_right > (QN_TEST_SANITIZED ? 60 : 200));
}

static void answers_end_where_they_should(void **state)
{
    (void)state;
    quern_error err;
    int32_t prompt[40];
    quern_model *model = golden_open(qn_test_golden("hf/qwen3"));
    const quern_engine_options opt = {.n_threads = 1, .n_ctx = 192, .n_batch = 32};
    quern_engine *e = golden_engine(model, &opt);
    fill_prompt(prompt, 40, (int32_t)model->config.n_vocab, 9);
    quern_generate_options g = {.max_tokens = 100, .sampling = quern_sampling_default(), .ignore_eos = true};
    g.sampling.temperature = 0;
    answer all = answer_of(e, prompt, 40, g, 0);
    for (size_t n = 1; n <= 100; n += 9) { /* every length */
        g.max_tokens = n;
        compare(e, prompt, 40, g, 0);
    }
    g.max_tokens = 100;
    for (size_t at = 4; at + 3 < all.g.len; at += all.g.len / 7 + 1) { /* stop strings */
        char stop[4] = {all.g.text[at], all.g.text[at + 1], all.g.text[at + 2], 0};
        const char *stops[] = {stop};
        g.stop = stops;
        g.n_stop = stop[0] != 0 && stop[1] != 0 && stop[2] != 0;
        compare(e, prompt, 40, g, 0);
    }
    g.stop = NULL;
    g.n_stop = 0;
    free_answer(&all);
    /* another sequence holds all pages but one: guesses that need more are left out */
    quern_sequence *other;
    static int32_t many[64];
    assert_ok(quern_sequence_create(&other, e, &err));
    const quern_step_item item = {.sequence = other, .ids = many, .n_ids = 32};
    assert_ok(quern_engine_step(e, &item, 1, &err));
    assert_ok(quern_engine_step(e, &item, 1, &err));
    g.max_tokens = 0;
    compare(e, prompt, 40, g, 0);
    quern_sequence_destroy(other);
    quern_engine_destroy(e);
    quern_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_index_finds_the_longest_match),
        cmocka_unit_test(short_texts_have_no_match),
        cmocka_unit_test(the_decision_follows_the_measurements),
        cmocka_unit_test(forced_answers_are_said),
        cmocka_unit_test(answers_stay_the_same),
        cmocka_unit_test(answers_end_where_they_should),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
