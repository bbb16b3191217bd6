/* test_cli_bench.c - what `quern bench` says a measurement could not have been faster than, and what memory it counts. */
#include "golden_run.h"

#include <sys/mman.h>

#include "bench_limits.h"
#include "engine/engine_int.h"

static quern_model *model; /* qwen3 golden: 2 layers, Q4_K and others */
static quern_engine *engine;

static int set_up(void **state)
{
    (void)state;
    model = golden_open(qn_test_golden("gguf/quant/qwen3.Q4_K_M.gguf"));
    engine = golden_engine(model, &(quern_engine_options){.n_threads = 1, .n_ctx = 256, .isa = "scalar"});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    quern_engine_destroy(engine);
    quern_model_close(model);
    return 0;
}

/* ---- work ---- */

static void add_products(quern_work *w, const qn_matrix *x, double n)
{
    const bool is_float = x->dtype == QN_DTYPE_F32 || x->dtype == QN_DTYPE_F16 || x->dtype == QN_DTYPE_BF16;
    *(is_float ? &w->float_macs : &w->integer_macs) += n * (double)(x->n_rows * x->n_cols);
}

static void add_bytes(quern_work *w, const qn_matrix *x, size_t times)
{
    const size_t scales = x->scales != NULL ? x->n_rows * (x->n_cols / x->affine.group) * 2 * 2 : 0; /* MLX: two of 2 bytes a group */
    w->weight_bytes += (double)(times * (x->n_rows * x->row_bytes + scales));
}

/* Row by row and position by position. */
static quern_work count_slowly(const quern_model *m, size_t kv_bytes_of_a_position, uint64_t depth, uint64_t n_rows, uint64_t n_logits)
{
    const qn_model_config *c = &m->config;
    quern_work w = {0};
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        const qn_layer_weights *l = &m->weights.layers[layer];
        const qn_matrix *const dense[] = {&l->q.w, &l->o.w, &l->gate.w, &l->up.w, &l->down.w, &l->router.w};
        const qn_matrix *const experts[] = {l->expert_gate, l->expert_up, l->expert_down};
        const uint64_t window = c->layers[layer].window;
        uint64_t first_looked_on = UINT64_MAX;
        add_bytes(&w, &l->k.w, 1);
        add_bytes(&w, &l->v.w, 1);
        add_products(&w, &l->k.w, (double)n_rows);
        add_products(&w, &l->v.w, (double)n_rows);
        for (uint64_t row = layer + 1 < c->n_layers ? 0 : n_rows - n_logits; row < n_rows; row++) {
            const uint64_t position = depth + row, from = window != 0 && position + 1 > window ? position + 1 - window : 0;
            const bool first = first_looked_on == UINT64_MAX;
            for (size_t i = 0; i < 6; i++) {
                if (dense[i]->data != NULL) {
                    add_products(&w, dense[i], 1);
                    add_bytes(&w, dense[i], first ? 1 : 0);
                }
            }
            for (size_t i = 0; i < 3 && l->expert_gate != NULL; i++) {
                add_products(&w, experts[i], c->n_experts_used);
                add_bytes(&w, experts[i], first ? c->n_experts_used : 0);
            }
            first_looked_on = from < first_looked_on ? from : first_looked_on;
            w.attention_macs += 2.0 * (double)(c->n_heads * c->head_dim) * (double)(position + 1 - from);
        }
        if (first_looked_on != UINT64_MAX) {
            w.kv_bytes += (double)((depth + n_rows - first_looked_on) * kv_bytes_of_a_position);
        }
    }
    if (n_logits > 0) {
        add_bytes(&w, &m->weights.output.w, 1);
        add_products(&w, &m->weights.output.w, (double)n_logits);
    }
    return w;
}

static void assert_same_work(quern_work got, quern_work want)
{
    assert_true(got.weight_bytes == want.weight_bytes && got.kv_bytes == want.kv_bytes);
    assert_true(got.integer_macs == want.integer_macs && got.float_macs == want.float_macs && got.attention_macs == want.attention_macs);
}

static void work_is_that_of_every_row_and_position(void **state)
{
    (void)state;
    static const uint64_t depths[] = {0, 1, 22, 23, 24, 25, 100}, rows[] = {1, 2, 23, 24, 25, 64}, windows[] = {0, 1, 24};
    qn_layer_config *layers = model->config.layers;
    const size_t kv_bytes = 2 * 2 * model->config.n_kv_heads * model->config.head_dim; /* of a layer, float16 */
    for (size_t w = 0; w < 3; w++) {
        layers[0].window = (uint32_t)windows[w];
        layers[1].window = (uint32_t)windows[2 - w];
        for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++) {
            for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
                for (uint64_t n_logits = 0; n_logits <= rows[r]; n_logits += rows[r] > 3 && n_logits == 1 ? rows[r] - 1 : 1) {
                    assert_same_work(quern_engine_get_work(engine, depths[d], rows[r], n_logits),
                                     count_slowly(model, kv_bytes, depths[d], rows[r], n_logits));
                }
            }
        }
    }
    layers[0].window = layers[1].window = 0;
}

/* A mixture of experts, MLX's scales, float weights, and all types of caches. */
static void work_of_other_models(void **state)
{
    (void)state;
    static const char *const files[] = {"gguf/quant/qwen3_moe.Q4_0.gguf", "mlx/qwen3.q4_g64", "hf/qwen3"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        quern_model *m = golden_open(qn_test_golden(files[i]));
        const size_t width = 2 * m->config.n_kv_heads * m->config.head_dim, sizes[] = {width * 2, width * 4, width / 32 * 34};
        for (int kv = QUERN_KV_F16; kv <= QUERN_KV_Q8_0; kv++) {
            quern_engine *e = golden_engine(m, &(quern_engine_options){.n_threads = 1, .n_ctx = 64, .kv_type = (quern_kv_type)kv});
            assert_same_work(quern_engine_get_work(e, 7, 3, 2), count_slowly(m, sizes[kv], 7, 3, 2));
            assert_same_work(quern_engine_get_work(e, 7, 3, 9), count_slowly(m, sizes[kv], 7, 3, 3)); /* no more logits than rows */
            assert_same_work(quern_engine_get_work(e, 7, 0, 9), (quern_work){0});
            quern_engine_destroy(e);
        }
        quern_model_close(m);
    }
}

/* The average of tokens one by one is that of each, also where a window fills meanwhile; of very many it is that of some. */
static void work_of_decoding_is_the_average(void **state)
{
    (void)state;
    model->config.layers[1].window = 24;
    quern_work want = quern_engine_get_work(engine, 0, 1, 1);
    want.kv_bytes = want.attention_macs = 0;
    for (uint64_t i = 0; i < 50; i++) {
        const quern_work w = quern_engine_get_work(engine, 3 + i, 1, 1);
        want.kv_bytes += w.kv_bytes / 50;
        want.attention_macs += w.attention_macs / 50;
    }
    const quern_work got = quern_engine_get_decode_work(engine, 3, 50), one = quern_engine_get_decode_work(engine, 3, 1);
    assert_true(fabs(got.kv_bytes / want.kv_bytes - 1) < 1e-12 && fabs(got.attention_macs / want.attention_macs - 1) < 1e-12);
    assert_true(got.weight_bytes == want.weight_bytes && got.integer_macs == want.integer_macs);
    assert_same_work(one, quern_engine_get_work(engine, 3, 1, 1));
    model->config.layers[1].window = 0;
    const quern_work many = quern_engine_get_decode_work(engine, 0, 1 << 20);
    const double exact = (double)engine->info.plan.kv_per_token * ((1 << 20) + 1) / 2;
    assert_true(fabs(many.kv_bytes - exact) <= (double)engine->info.plan.kv_per_token / 2);
}

/* A prompt of 2^24 tokens is counted without overflow. */
static void work_of_the_longest_prompt(void **state)
{
    (void)state;
    const double n = 1 << 24, width = (double)(model->config.n_heads * model->config.head_dim);
    const quern_work w = quern_engine_get_work(engine, 0, 1 << 24, 1);
    assert_true(fabs(w.attention_macs / (2 * width * (n * (n + 1) / 2 + n)) - 1) < 1e-12); /* one layer of all rows, one of the last */
    assert_true(w.kv_bytes == n * (double)engine->info.plan.kv_per_token);
}

/* ---- limits ---- */

static quern_machine_rates rates(double memory, double cached, double integers, double fma)
{
    return (quern_machine_rates){
        .read_bandwidth_all = memory, .read_bandwidth_cached = cached, .peak_avx2_int8 = integers, .peak_fma_f32 = fma};
}

/* As it would be on a machine with these rates before and after; three samples of `rate` tokens a second. */
static qn_bench_limit limit_at(qn_bench_kind kind, uint64_t n, double rate, quern_machine_rates before, quern_machine_rates after)
{
    const char *const isa = engine->info.isa;
    engine->info.isa = "avx2"; /* whose unit is known; the engine is not run */
    const qn_bench_result r = {.n = n, .samples = {rate, rate, rate}, .n_samples = 3, .before = before, .after = after};
    const qn_bench_limit l = qn_bench_limit_of(engine, kind, &r);
    engine->info.isa = isa;
    return l;
}

static bool near(double a, double b) { return fabs(a - b) < 1e-9; }

static void the_slower_of_reading_and_computing_binds(void **state)
{
    (void)state;
    const quern_work token = quern_engine_get_work(engine, 0, 1, 1);
    const double bytes = token.weight_bytes + token.kv_bytes, integers = 2 * token.integer_macs;
    assert_true(token.float_macs == 0);
    /* a token takes 2 s to read, its products 1 s and its attention next to nothing: a token in 4 s has half of the limit */
    const quern_machine_rates reads = rates(bytes / 2, 0, integers, 1e30);
    qn_bench_limit l = limit_at(QN_BENCH_DECODE, 1, 0.25, reads, reads);
    assert_string_equal(l.bound, "read_bandwidth");
    assert_string_equal(l.unit, "avx2_int8");
    assert_null(l.refused);
    assert_true(near(l.of_limit, 0.5) && near(l.of_bandwidth, 0.5) && near(l.of_peak, 0.25) && l.besides == NULL);
    /* caches that give four times as much: the products bind, and of memory's bandwidth it is what it was */
    const quern_machine_rates cached = rates(bytes / 2, bytes * 2, integers, 1e30);
    l = limit_at(QN_BENCH_DECODE, 1, 0.25, cached, cached);
    assert_string_equal(l.bound, "avx2_int8");
    assert_true(near(l.of_limit, 0.25) && near(l.of_bandwidth, 0.5) && l.before == integers);
    /* and where the products are faster too, the caches */
    const quern_machine_rates faster = rates(bytes / 2, bytes * 2, integers * 100, 1e30);
    l = limit_at(QN_BENCH_DECODE, 1, 0.25, faster, faster);
    assert_string_equal(l.bound, "cached_bandwidth");
    assert_true(near(l.of_limit, 0.125) && l.before == bytes * 2);
    /* a working set of which caches keep nothing is memory's, whichever of two measurements came out higher */
    const quern_machine_rates alike = rates(bytes / 2, bytes / 2 * 1.08, integers, 1e30);
    l = limit_at(QN_BENCH_DECODE, 1, 0.25, alike, alike);
    assert_string_equal(l.bound, "read_bandwidth");
    assert_true(near(l.of_limit, 0.5));
    /* attention's time is added; it names the bound where it is the larger part */
    const quern_machine_rates attends = rates(1e30, 0, integers, 2 * token.attention_macs / 3);
    l = limit_at(QN_BENCH_DECODE, 1, 0.125, attends, attends);
    assert_string_equal(l.bound, "fma_f32");
    assert_true(near(l.of_limit, 0.5) && near(l.of_peak, 0.125) && l.besides == NULL);
    const quern_machine_rates attends_too = rates(1e30, 0, integers, 20 * token.attention_macs);
    l = limit_at(QN_BENCH_DECODE, 1, 0.25, attends_too, attends_too);
    assert_string_equal(l.bound, "avx2_int8");
    assert_string_equal(l.besides, "fma_f32"); /* a tenth of a second beside one */
    assert_true(near(l.of_limit, 0.25 * 1.1));
}

/* The unit is that of the products, whatever type most of a file's bytes have. */
static void float_weights_are_bound_by_float_products(void **state)
{
    (void)state;
    quern_model *m = golden_open(qn_test_golden("hf/qwen3"));
    quern_engine *e = golden_engine(m, &(quern_engine_options){.n_threads = 1, .n_ctx = 64, .isa = "scalar"});
    const quern_work w = quern_engine_get_work(e, 0, 8, 1);
    assert_true(w.integer_macs == 0 && w.float_macs > 0);
    const quern_machine_rates r = rates(1e30, 0, 0, 2 * (w.float_macs + w.attention_macs));
    const qn_bench_result result = {.n = 8, .samples = {4}, .n_samples = 1, .before = r, .after = r};
    const qn_bench_limit l = qn_bench_limit_of(e, QN_BENCH_PREFILL, &result);
    assert_string_equal(l.unit, "fma_f32");
    assert_string_equal(l.bound, "fma_f32");
    assert_true(near(l.of_limit, 0.5) && l.of_peak < l.of_limit);
    quern_engine_destroy(e);
    quern_model_close(m);
}

static void sequences_share_the_weights(void **state)
{
    (void)state;
    const quern_machine_rates any = rates(1e9, 0, 1e9, 1e9);
    const qn_bench_limit one = limit_at(QN_BENCH_BATCH, 1, 1, any, any), nine = limit_at(QN_BENCH_BATCH, 9, 1, any, any);
    const double weights = quern_engine_get_work(engine, 0, 1, 1).weight_bytes;
    assert_true(fabs((nine.bytes - weights) - 9 * (one.bytes - weights)) < 1e-6 && one.bytes > weights);
    assert_true(nine.operations == 9 * one.operations);
}

static void shares_are_refused(void **state)
{
    (void)state;
    const quern_machine_rates slow = rates(1e3, 0, 1e30, 1e30), none = {0};
    quern_machine_rates fast = slow;
    fast.read_bandwidth_all = 1.1e3;
    qn_bench_limit l = limit_at(QN_BENCH_DECODE, 1, 1e-3, slow, fast);
    assert_null(l.refused); /* by an eleventh; the share is of the faster */
    assert_true(fabs(l.of_limit - l.bytes / 1.1e3 * 1e-3) < 1e-12);
    fast.read_bandwidth_all = 1.12e3;
    l = limit_at(QN_BENCH_DECODE, 1, 1e-3, fast, slow);
    assert_string_equal(l.refused, "limits_differ");
    assert_true(isnan(l.of_limit) && isnan(l.of_bandwidth) && fabs(l.drift - 0.12 / 1.12) < 1e-9);
    assert_true(l.of_peak > 0); /* of what did not move */
    fast = slow;
    fast.peak_avx2_int8 = 5e30; /* a limit that does not bind may move: there is no share of it */
    l = limit_at(QN_BENCH_DECODE, 1, 1e-3, slow, fast);
    assert_null(l.refused);
    assert_true(isnan(l.of_peak) && l.of_bandwidth > 0);
    l = limit_at(QN_BENCH_DECODE, 1, 1, slow, none); /* stopped before the second measurement */
    assert_string_equal(l.refused, "no_limit");
    assert_true(isnan(l.before) && isnan(l.of_bandwidth));
    assert_null(limit_at(QN_BENCH_PREFILL, 8, 1, none, none).bound);
    const quern_machine_rates peaks = rates(0, 0, 1e12, 1e12); /* no memory to measure memory with: a share of the peak there is still */
    l = limit_at(QN_BENCH_PREFILL, 8, 1, peaks, peaks);
    assert_string_equal(l.unit, "avx2_int8");
    assert_string_equal(l.refused, "no_limit");
    assert_true(l.of_peak > 0 && isnan(l.of_limit));
    assert_string_equal(limit_at(QN_BENCH_DECODE, 1, 1, peaks, peaks).refused, "no_limit");
    const qn_bench_result differ = {.n = 1, .samples = {1, 2}, .n_samples = 2, .before = slow, .after = slow}, empty = {.n = 1};
    assert_string_equal(qn_bench_limit_of(engine, QN_BENCH_DECODE, &differ).refused, "samples_differ");
    assert_string_equal(qn_bench_limit_of(engine, QN_BENCH_DECODE, &empty).refused, "not_measured");
    /* integers in plain C have no measured peak: of a prompt nothing is said, a decoded token is held against memory */
    const qn_bench_result plain = {.n = 1, .samples = {1}, .n_samples = 1, .before = slow, .after = slow};
    assert_string_equal(qn_bench_limit_of(engine, QN_BENCH_PREFILL, &plain).refused, "no_limit");
    assert_string_equal(qn_bench_limit_of(engine, QN_BENCH_DECODE, &plain).bound, "read_bandwidth");
    assert_string_equal(qn_bench_refusal_text("limits_differ"), "limit changed meanwhile");
    assert_string_equal(qn_bench_refusal_text(NULL), "-");
}

/* ---- runs ---- */

static size_t questions_left;
static bool ask(void *user)
{
    (void)user;
    return questions_left-- > 0;
}

static quern_status run_plan(qn_bench *b, const qn_bench_plan *plan, qn_progress *bar, quern_error *err)
{
    static const qn_term term;
    *b = (qn_bench){.plan = plan, .engine = engine, .n_vocab = quern_model_get_info(model)->n_vocab, .rng = 1, .progress = bar};
    b->with_limits = true;
    b->limit_options = (quern_machine_options){.n_threads = 1, .quick = true, .go_on = ask, .isa = "scalar"};
    b->ids = qn_malloc_array(engine->info.n_batch, sizeof *b->ids);
    b->logits = qn_malloc_array(2 * b->n_vocab, sizeof *b->logits);
    assert_true(b->ids != NULL && b->logits != NULL);
    qn_progress_begin(bar, &term, false, "bench", QN_UNIT_STEPS);
    qn_bench_begin(b, 0);
    const quern_status status = qn_bench_run(b, err);
    qn_bench_end(b);
    qn_progress_end(bar);
    qn_free(b->ids);
    qn_free(b->logits);
    return status;
}

/* Who stops a run while limits are measured keeps the figures that are there, and no share of half a measurement. */
static void stopping_amid_limits_keeps_figures(void **state)
{
    (void)state;
    static const uint64_t prompts[] = {8, 16}, depths[] = {0}, decodes[] = {2}, parallel[] = {2};
    const qn_bench_plan plan = {prompts, decodes, depths, parallel, 2, 1, 1, 1, 2};
    qn_bench *b = qn_calloc(1, sizeof *b);
    qn_progress bar;
    quern_error err = {0};
    assert_non_null(b);
    questions_left = SIZE_MAX;
    assert_ok(run_plan(b, &plan, &bar, &err));
    assert_true(b->n_prefill == 2 && b->n_decode == 1 && b->n_batch == 1 && b->batch[0].n_samples == 2);
    assert_true(b->batch[0].after.read_bandwidth_all > 0 && b->best_limits.peak_fma_f32 >= b->prefill[0].before.peak_fma_f32);
    assert_true(b->work_done == b->work_total && b->seconds > 0 && b->peak.bytes > 0);
    const size_t asked = SIZE_MAX - questions_left; /* of eight measurements: so small a model has a working set for every figure */
    questions_left = asked * 7 / 16;                /* half of the fourth, after the second prompt */
    assert_int_equal(run_plan(b, &plan, &bar, &err), QUERN_ERROR_CANCELLED);
    assert_true(b->n_prefill == 2 && b->prefill[1].n_samples == 2 && b->n_decode == 0 && b->n_batch == 0);
    assert_true(b->prefill[0].after.read_bandwidth_all > 0 && b->prefill[1].before.read_bandwidth_all > 0);
    assert_true(b->prefill[1].after.peak_fma_f32 == 0 && b->prefill[1].after.read_bandwidth_all == 0);
    assert_string_equal(qn_bench_limit_of(engine, QN_BENCH_PREFILL, &b->prefill[1]).refused, "no_limit");
    assert_true(b->limits_error.message[0] == '\0');
    qn_free(b);
}

/* ---- memory ---- */

static void pauses_do_not_count(void **state)
{
    (void)state;
    enum { BYTES = 96 << 20 };
    qn_memory_peak peak = {0};
    qn_memory_peak_pause(&peak);
    const uint64_t before = peak.bytes;
    assert_true(before > 0);
    uint8_t *pages = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    memset(pages, 1, BYTES);
    assert_int_equal(munmap(pages, BYTES), 0);
    qn_memory_peak_go_on(&peak);
    qn_memory_peak_pause(&peak);
    assert_true(peak.bytes < before + BYTES / 2);
    qn_memory_peak_go_on(&peak);
    pages = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED);
    memset(pages, 1, BYTES);
    const uint64_t now = qn_private_memory_bytes() + qn_mapped_memory_bytes();
    if (!peak.cannot_forget) { /* else only what is there at a stretch's end is seen */
        assert_int_equal(munmap(pages, BYTES), 0);
    }
    qn_memory_peak_pause(&peak);
    assert_true(now >= BYTES && peak.bytes >= now - BYTES / 8);
    if (peak.cannot_forget) {
        assert_int_equal(munmap(pages, BYTES), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_is_that_of_every_row_and_position),
        cmocka_unit_test(work_of_other_models),
        cmocka_unit_test(work_of_decoding_is_the_average),
        cmocka_unit_test(work_of_the_longest_prompt),
        cmocka_unit_test(the_slower_of_reading_and_computing_binds),
        cmocka_unit_test(float_weights_are_bound_by_float_products),
        cmocka_unit_test(sequences_share_the_weights),
        cmocka_unit_test(shares_are_refused),
        cmocka_unit_test(stopping_amid_limits_keeps_figures),
        cmocka_unit_test(pauses_do_not_count),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
