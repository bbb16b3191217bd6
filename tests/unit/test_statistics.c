/* test_statistics.c - what flows into matrices: against sums in double, against the model's own logits, and the same for any number of threads. */
#include "golden_run.h"

#include <math.h>

#include "base/builtin_text.h"
#include "calibrate/statistics.h"
#include "model/model_int.h"
#include "quant/codec.h"

enum { CHUNKS = 3 };

static qn_statistics collect(const quern_model *m, size_t n_threads, uint64_t moments_bytes)
{
    quern_error err;
    qn_statistics s;
    size_t len;
    const char *text = qn_builtin_text_calibration(&len);
    const qn_statistics_options opt = {
        .n_threads = n_threads, .max_chunks = CHUNKS, .moments_bytes = moments_bytes, .memory_bytes = (uint64_t)1 << 32};
    assert_ok(qn_statistics_collect(&s, m, text, len < 60000 ? len : 60000, &opt, &err));
    return s;
}

static void text_ids(const quern_model *m, quern_ids *ids)
{
    quern_error err;
    size_t len;
    const char *text = qn_builtin_text_calibration(&len);
    assert_ok(quern_tokenizer_encode(quern_model_get_tokenizer(m), text, 60000, QUERN_ENCODE_PARSE_SPECIAL, ids, &err));
}

/* The ids of chunk k of CHUNKS that are spread over the text. */
static const int32_t *chunk_of(const qn_statistics *s, const quern_ids *ids, size_t k)
{
    return ids->data + k * (ids->len / s->chunk_tokens) / CHUNKS * s->chunk_tokens;
}

static double relative(double a, double b) { return fabs(a - b) / (fabs(b) > 1e-30 ? fabs(b) : 1e-30); }

/* What q, k and v of the first layer read: the embedding's rows, normed. */
static void first_site_equals_a_plain_computation(void **state)
{
    (void)state;
    quern_model *m = golden_open(qn_test_golden("hf/qwen3"));
    qn_statistics s = collect(m, 2, (uint64_t)1 << 30);
    const qn_site_stats *site = qn_statistics_get(&s, 0, QN_SITE_ATTN_IN);
    size_t n = site->n_cols;
    quern_ids ids = {0};
    double *squares = calloc(n, sizeof *squares), *products = calloc(n * n, sizeof *products), *y = calloc(n, sizeof *y);
    float *x = calloc(n, sizeof *x);
    text_ids(m, &ids);
    for (size_t k = 0; k < CHUNKS; k++) {
        for (size_t t = 0; t < s.chunk_tokens; t++) {
            size_t row = (size_t)chunk_of(&s, &ids, k)[t];
            double mean = 0;
            qn_decode_row(m->weights.embedding.dtype, m->weights.embedding.data + row * m->weights.embedding.row_bytes, x, n);
            for (size_t i = 0; i < n; i++) {
                mean += (double)x[i] * (double)x[i] / (double)n;
            }
            for (size_t i = 0; i < n; i++) {
                y[i] = (double)x[i] / sqrt(mean + m->config.rms_eps) * (double)m->weights.layers[0].attn_norm[i];
                squares[i] += y[i] * y[i];
                for (size_t j = 0; j <= i; j++) {
                    products[i * n + j] += y[i] * y[j];
                }
            }
        }
    }
    assert_int_equal(site->n_rows[0], CHUNKS * s.chunk_tokens);
    for (size_t i = 0; i < n; i++) {
        assert_true(relative(site->square_sums[i], squares[i]) < 1e-5);
        for (size_t j = 0; j <= i; j++) {
            double scale = sqrt(products[i * n + i] * products[j * n + j]);
            assert_true(fabs((double)site->moments[i * n + j] - products[i * n + j]) < 1e-5 * scale);
        }
    }
    free(squares);
    free(products);
    free(x);
    free(y);
    quern_ids_deinit(&ids);
    qn_statistics_deinit(&s);
    quern_model_close(m);
}

/* The head's second moments must explain the logits: sum over rows of logit_v^2 = w_v H w_v. */
static void head_moments_explain_the_logits(void **state)
{
    (void)state;
    quern_error err;
    quern_model *m = golden_open(qn_test_golden("hf/qwen3"));
    qn_statistics s = collect(m, 2, (uint64_t)1 << 30);
    const quern_engine_options opt = {.n_threads = 2, .n_ctx = s.chunk_tokens, .n_batch = s.chunk_tokens, .kv_type = QUERN_KV_F32};
    quern_engine *e = golden_engine(m, &opt);
    quern_sequence *sequence;
    quern_ids ids = {0};
    size_t n_vocab = m->config.n_vocab, n = m->config.hidden_size;
    float *logits = calloc(s.chunk_tokens * n_vocab, sizeof *logits), *w = calloc(n, sizeof *w);
    double *energy = calloc(n_vocab, sizeof *energy);
    const float *h = qn_statistics_get(&s, 0, QN_SITE_HEAD)->moments;
    text_ids(m, &ids);
    assert_ok(quern_sequence_create(&sequence, e, &err));
    for (size_t k = 0; k < CHUNKS; k++) {
        const quern_step_item item = {
            .sequence = sequence, .ids = chunk_of(&s, &ids, k), .n_ids = s.chunk_tokens, .n_logits = s.chunk_tokens, .logits = logits};
        assert_ok(quern_sequence_truncate(sequence, 0, &err));
        assert_ok(quern_engine_step(e, &item, 1, &err));
        for (size_t t = 0; t < s.chunk_tokens * n_vocab; t++) {
            energy[t % n_vocab] += (double)logits[t] * (double)logits[t];
        }
    }
    for (size_t v = 0; v < n_vocab; v++) {
        double sum = 0;
        qn_decode_row(m->weights.output.w.dtype, m->weights.output.w.data + v * m->weights.output.w.row_bytes, w, n);
        for (size_t i = 0; i < n; i++) {
            for (size_t j = 0; j <= i; j++) {
                sum += (i == j ? 1 : 2) * (double)w[i] * (double)h[i * n + j] * (double)w[j];
            }
        }
        assert_true(relative(sum, energy[v]) < 1e-4);
    }
    quern_sequence_destroy(sequence);
    quern_engine_destroy(e);
    quern_ids_deinit(&ids);
    free(logits);
    free(w);
    free(energy);
    qn_statistics_deinit(&s);
    quern_model_close(m);
}

static void assert_equal_statistics(const qn_statistics *a, const qn_statistics *b)
{
    for (size_t i = 0; i <= (size_t)a->n_layers * QN_SITE_COUNT; i++) {
        const qn_site_stats *x = &a->sites[i], *y = &b->sites[i];
        assert_int_equal(x->n_cols, y->n_cols);
        assert_memory_equal(x->square_sums, y->square_sums, x->n_cols * x->n_parts * sizeof *x->square_sums);
        assert_memory_equal(x->n_rows, y->n_rows, x->n_parts * sizeof *x->n_rows);
        assert_int_equal(x->moments != NULL, y->moments != NULL);
        if (x->moments != NULL) {
            assert_memory_equal(x->moments, y->moments, x->n_cols * x->n_cols * sizeof *x->moments);
        }
    }
}

static void threads_do_not_show(void **state)
{
    (void)state;
    static const char *const models[] = {"hf/llama3_rope", "hf/qwen3_moe", "hf/qwen2_tied"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        if (qn_test_golden(models[i]) == NULL) {
            print_message("SKIP: %s: reference folder is absent\n", models[i]);
            continue;
        }
        quern_model *m = golden_open(qn_test_golden(models[i]));
        qn_statistics one = collect(m, 1, (uint64_t)1 << 30), three = collect(m, 3, (uint64_t)1 << 30);
        assert_equal_statistics(&one, &three);
        for (uint32_t layer = 0; layer < one.n_layers; layer++) {
            for (int site = 0; site < QN_SITE_COUNT; site++) {
                const qn_site_stats *x = qn_statistics_get(&one, layer, (qn_site)site);
                uint64_t rows = 0;
                for (size_t k = 0; k < x->n_parts; k++) {
                    rows += x->n_rows[k];
                }
                uint64_t expected = CHUNKS * one.chunk_tokens * (site >= QN_SITE_EXPERT_IN ? m->config.n_experts_used : 1);
                assert_int_equal(rows, x->n_cols > 0 ? expected : 0);
                for (size_t c = 0; c < x->n_cols && x->moments != NULL; c++) {
                    assert_true(relative((double)x->moments[c * x->n_cols + c], x->square_sums[c]) < 1e-4);
                }
            }
        }
        qn_statistics_deinit(&one);
        qn_statistics_deinit(&three);
        quern_model_close(m);
    }
}

/* Logits are of few rows where a vocabulary is large; what the last layer's matrices see is of all all the same. */
static void few_logits_are_enough_for_the_last_layer(void **state)
{
    (void)state;
    quern_error err;
    size_t len;
    quern_model *m = golden_open(qn_test_golden("hf/llama3_rope"));
    const char *text = qn_builtin_text_calibration(&len);
    qn_statistics all = collect(m, 2, 0), few;
    const qn_statistics_options opt = {
        .n_threads = 2, .max_chunks = CHUNKS, .memory_bytes = (uint64_t)1 << 32, .logits_bytes = 5 * m->config.n_vocab * sizeof(float)};
    assert_ok(qn_statistics_collect(&few, m, text, len < 60000 ? len : 60000, &opt, &err));
    for (uint32_t layer = 0; layer < all.n_layers; layer++) {
        for (int site = 0; site < QN_SITE_COUNT; site++) {
            const qn_site_stats *a = qn_statistics_get(&all, layer, (qn_site)site), *b = qn_statistics_get(&few, layer, (qn_site)site);
            assert_true(a->n_cols == 0 || a->n_rows[0] == b->n_rows[0]);
            assert_memory_equal(a->square_sums, b->square_sums, a->n_cols * sizeof *a->square_sums);
        }
    }
    assert_int_equal(qn_statistics_get(&few, 0, QN_SITE_HEAD)->n_rows[0], 5 * CHUNKS);
    qn_statistics_deinit(&all);
    qn_statistics_deinit(&few);
    quern_model_close(m);
}

static bool stop_after_one(void *user, size_t done, size_t total)
{
    (void)total;
    return done < *(const size_t *)user;
}

static void limits_and_refusals(void **state)
{
    (void)state;
    quern_error err;
    qn_statistics s;
    quern_model *m = golden_open(qn_test_golden("hf/llama3_rope"));
    size_t len, one = 512;
    const char *text = qn_builtin_text_calibration(&len);
    qn_statistics_options opt = {.n_threads = 1, .max_chunks = 2, .memory_bytes = (uint64_t)1 << 32};
    opt.memory_bytes = 1000;
    assert_int_equal(qn_statistics_collect(&s, m, text, len, &opt, &err), QUERN_ERROR_LIMIT);
    assert_non_null(strstr(err.message, "1000"));
    opt.memory_bytes = (uint64_t)1 << 32;
    assert_int_equal(qn_statistics_collect(&s, m, text, 40, &opt, &err), QUERN_ERROR_INVALID);
    assert_non_null(strstr(err.message, "512"));
    opt.on_progress = stop_after_one;
    opt.user = &one;
    assert_int_equal(qn_statistics_collect(&s, m, text, len, &opt, &err), QUERN_ERROR_CANCELLED);
    quern_model_close(m);
    m = golden_open(qn_test_golden("hf/llama3_rope"));
    s = collect(m, 1, 0);
    assert_null(qn_statistics_get(&s, 0, QN_SITE_HEAD)->moments);
    assert_int_equal(s.n_without_moments, s.n_layers * 4 + 1);
    qn_statistics_deinit(&s);
    s = collect(m, 1, (uint64_t)m->config.hidden_size * m->config.hidden_size * 4);
    assert_int_equal(s.n_without_moments, s.n_layers * 4); /* the narrowest first, and only one fits */
    qn_statistics_deinit(&s);
    quern_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_site_equals_a_plain_computation),
        cmocka_unit_test(head_moments_explain_the_logits),
        cmocka_unit_test(threads_do_not_show),
        cmocka_unit_test(few_logits_are_enough_for_the_last_layer),
        cmocka_unit_test(limits_and_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
