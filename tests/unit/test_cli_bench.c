/* test_cli_bench.c - what `quern bench` says a measurement could not have been faster than, and what memory it counts. */
#include "golden_run.h"

#include <sys/mman.h>

#include "bench_limits.h"
#include "engine/engine_int.h"

static quern_model *model; /* qwen3 golden: 2 layers */
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

/* Row by row and position by position. */
static quern_work count_slowly(uint64_t depth, uint64_t n_rows, uint64_t n_logits)
{
    const qn_model_config *c = &model->config;
    quern_work w = {0};
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        const qn_layer_weights *l = &model->weights.layers[layer];
        const qn_matrix *const rest[] = {&l->q.w, &l->o.w, &l->gate.w, &l->up.w, &l->down.w};
        const uint64_t window = c->layers[layer].window;
        uint64_t first_looked_on = UINT64_MAX;
        w.weight_bytes += l->k.w.n_rows * l->k.w.row_bytes + l->v.w.n_rows * l->v.w.row_bytes;
        w.matrix_macs += (double)(n_rows * (l->k.w.n_rows * l->k.w.n_cols + l->v.w.n_rows * l->v.w.n_cols));
        for (uint64_t row = layer + 1 < c->n_layers ? 0 : n_rows - n_logits; row < n_rows; row++) {
            const uint64_t position = depth + row, from = window != 0 && position + 1 > window ? position + 1 - window : 0;
            for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
                w.weight_bytes += first_looked_on == UINT64_MAX ? rest[i]->n_rows * rest[i]->row_bytes : 0;
                w.matrix_macs += (double)(rest[i]->n_rows * rest[i]->n_cols);
            }
            first_looked_on = from < first_looked_on ? from : first_looked_on;
            w.attention_macs += 2.0 * (double)(c->n_heads * c->head_dim) * (double)(position + 1 - from);
        }
        if (first_looked_on != UINT64_MAX) { /* float16 keys and values */
            w.kv_bytes += (depth + n_rows - first_looked_on) * 2 * 2 * c->n_kv_heads * c->head_dim;
        }
    }
    const qn_matrix *head = &model->weights.output.w;
    w.weight_bytes += n_logits > 0 ? head->n_rows * head->row_bytes : 0;
    w.matrix_macs += (double)(n_logits * head->n_rows * head->n_cols);
    return w;
}

static void work_is_that_of_every_row_and_position(void **state)
{
    (void)state;
    static const uint64_t depths[] = {0, 1, 22, 23, 24, 25, 100}, rows[] = {1, 2, 23, 24, 25, 64}, windows[] = {0, 1, 24};
    qn_layer_config *layers = model->config.layers;
    for (size_t w = 0; w < 3; w++) {
        layers[0].window = (uint32_t)windows[w];
        layers[1].window = (uint32_t)windows[2 - w];
        for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++) {
            for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
                for (uint64_t n_logits = 0; n_logits <= rows[r]; n_logits += rows[r] > 3 && n_logits == 1 ? rows[r] - 1 : 1) {
                    const quern_work want = count_slowly(depths[d], rows[r], n_logits),
                                     got = quern_engine_get_work(engine, depths[d], rows[r], n_logits);
                    assert_int_equal(got.weight_bytes, want.weight_bytes);
                    assert_int_equal(got.kv_bytes, want.kv_bytes);
                    assert_true(got.matrix_macs == want.matrix_macs && got.attention_macs == want.attention_macs);
                }
            }
        }
    }
    layers[0].window = layers[1].window = 0;
}

/* A prompt of 2^24 tokens is counted without overflow. */
static void work_of_the_longest_prompt(void **state)
{
    (void)state;
    const double n = 1 << 24, width = (double)(model->config.n_heads * model->config.head_dim);
    const quern_work w = quern_engine_get_work(engine, 0, 1 << 24, 1);
    assert_true(fabs(w.attention_macs / (2 * width * (n * (n + 1) / 2 + n)) - 1) < 1e-12); /* one layer of all rows, one of the last */
    assert_true(w.kv_bytes == (uint64_t)n * engine->info.plan.kv_per_token);
}

/* ---- limits ---- */

static quern_machine_rates rates(double memory, double cached, double vnni, double fma)
{
    return (quern_machine_rates){
        .read_bandwidth_all = memory, .read_bandwidth_cached = cached, .peak_vnni_int8 = vnni, .peak_fma_f32 = fma, .peak_avx2_int8 = vnni};
}

/* As it would be on a machine with these rates before and after; n samples of `rate` tokens a second. */
static qn_bench_limit limit_at(qn_bench_kind kind, uint64_t n, double rate, quern_machine_rates before, quern_machine_rates after)
{
    const char *const isa = engine->info.isa;
    engine->info.isa = "avx2"; /* whose unit is known; the engine is not run */
    const qn_bench_result r = {.n = n, .samples = {rate, rate, rate}, .n_samples = 3, .before = before, .after = after};
    const qn_bench_limit l = qn_bench_limit_of(engine, "Q4_K", kind, &r);
    engine->info.isa = isa;
    return l;
}

static void the_slower_of_reading_and_computing_binds(void **state)
{
    (void)state;
    const quern_work token = quern_engine_get_work(engine, 0, 1, 1);
    const double bytes = (double)(token.weight_bytes + token.kv_bytes), operations = 2 * token.matrix_macs;
    /* a token takes 2 s to read, its products 1 s and its attention next to nothing: a token in 4 s has half of the limit */
    const quern_machine_rates reads = rates(bytes / 2, 0, operations, 1e30);
    qn_bench_limit l = limit_at(QN_BENCH_DECODE, 1, 0.25, reads, reads);
    assert_string_equal(l.bound, "read_bandwidth");
    assert_null(l.refused);
    assert_true(fabs(l.of_limit - 0.5) < 1e-9 && fabs(l.of_bandwidth - 0.5) < 1e-9 && fabs(l.of_peak - 0.25) < 1e-9);
    /* caches that give four times as much: the products bind */
    const quern_machine_rates cached = rates(bytes / 2, bytes * 2, operations, 1e30);
    l = limit_at(QN_BENCH_DECODE, 1, 0.25, cached, cached);
    assert_string_equal(l.bound, "avx2_int8");
    assert_true(fabs(l.of_limit - 0.25) < 1e-9 && fabs(l.of_bandwidth - 0.125) < 1e-9 && l.before == operations);
    /* and where the products are faster too, the caches */
    const quern_machine_rates faster = rates(bytes / 2, bytes * 2, operations * 100, 1e30);
    l = limit_at(QN_BENCH_DECODE, 1, 0.25, faster, faster);
    assert_string_equal(l.bound, "cached_bandwidth");
    assert_true(fabs(l.of_limit - 0.125) < 1e-9);
    /* attention's time is added; it names the bound where it is the larger part */
    const quern_machine_rates attends = rates(1e30, 0, operations, 2 * token.attention_macs / 3);
    l = limit_at(QN_BENCH_DECODE, 1, 0.125, attends, attends);
    assert_string_equal(l.bound, "fma_f32");
    assert_true(fabs(l.of_limit - 0.5) < 1e-9 && fabs(l.of_peak - 0.125) < 1e-9);
}

static void sequences_share_the_weights(void **state)
{
    (void)state;
    const quern_machine_rates any = rates(1e9, 0, 1e9, 1e9);
    const qn_bench_limit one = limit_at(QN_BENCH_BATCH, 1, 1, any, any), nine = limit_at(QN_BENCH_BATCH, 9, 1, any, any);
    const double weights = (double)quern_engine_get_work(engine, 0, 1, 1).weight_bytes;
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
    assert_true(isnan(l.of_limit) && isnan(l.of_bandwidth) && isnan(l.of_peak) && fabs(qn_bench_drift(&l) - 0.12 / 1.12) < 1e-9);
    fast = slow;
    fast.peak_avx2_int8 = 5e30; /* a limit that does not bind may move */
    assert_null(limit_at(QN_BENCH_DECODE, 1, 1e-3, slow, fast).refused);
    assert_string_equal(limit_at(QN_BENCH_DECODE, 1, 1, slow, none).refused, "no_limit"); /* stopped before the second measurement */
    assert_string_equal(limit_at(QN_BENCH_DECODE, 1, 1, none, none).refused, "no_limit");
    assert_null(limit_at(QN_BENCH_PREFILL, 8, 1, none, none).bound);
    const qn_bench_result differ = {.n = 1, .samples = {1, 2}, .n_samples = 2, .before = slow, .after = slow}, empty = {.n = 1};
    assert_string_equal(qn_bench_limit_of(engine, "Q4_K", QN_BENCH_DECODE, &differ).refused, "samples_differ");
    assert_string_equal(qn_bench_limit_of(engine, "Q4_K", QN_BENCH_DECODE, &empty).refused, "not_measured");
    /* integers in plain C have no measured peak: of a prompt nothing is said, a decoded token is held against memory */
    const qn_bench_result plain = {.n = 1, .samples = {1}, .n_samples = 1, .before = slow, .after = slow};
    assert_string_equal(qn_bench_limit_of(engine, "Q4_K", QN_BENCH_PREFILL, &plain).refused, "no_limit");
    assert_string_equal(qn_bench_limit_of(engine, "Q4_K", QN_BENCH_DECODE, &plain).bound, "read_bandwidth");
    assert_string_equal(qn_bench_limit_of(engine, "BF16", QN_BENCH_PREFILL, &plain).bound, "read_bandwidth"); /* of float32 there is */
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
    if (!peak.cannot_forget) { /* else only what is there at a stretch's end is seen */
        assert_int_equal(munmap(pages, BYTES), 0);
    }
    qn_memory_peak_pause(&peak);
    assert_true(peak.bytes >= BYTES);
    if (peak.cannot_forget) {
        assert_int_equal(munmap(pages, BYTES), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(work_is_that_of_every_row_and_position),
        cmocka_unit_test(work_of_the_longest_prompt),
        cmocka_unit_test(the_slower_of_reading_and_computing_binds),
        cmocka_unit_test(sequences_share_the_weights),
        cmocka_unit_test(shares_are_refused),
        cmocka_unit_test(pauses_do_not_count),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
