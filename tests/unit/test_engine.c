/* test_engine.c - the engine's promises: the same bits for any instruction set, thread count, batch, chunk and company;
 * pages shared and copied; refusals that change nothing; generation's stops. */
#include "golden_run.h"

#include "engine/engine_int.h"
#include "kernels/matmul.h"
#include "kernels/ops.h"

enum { N_IDS = 300 };

static quern_model *model; /* qwen3 golden, 512 tokens, 2 layers */
static size_t n_vocab;
static int32_t ids[N_IDS];

static int set_up(void **state)
{
    (void)state;
    model = golden_open(qn_test_golden("gguf/quant/qwen3.Q4_K_M.gguf"));
    n_vocab = quern_model_get_info(model)->n_vocab;
    for (size_t i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((i * 131 + 7) % 509);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    quern_model_close(model);
    return 0;
}

static quern_engine *engine_of(const quern_model *m, size_t threads, const char *isa, size_t batch, quern_kv_type kv)
{
    const quern_engine_options opt = {.n_threads = threads, .isa = isa, .n_ctx = 1024, .n_batch = batch, .kv_type = kv};
    return golden_engine(m, &opt);
}

/* Calls served at this level. Float products and attention have no VNNI or I8MM form of their own: those levels run
 * AVX-512's and NEON's. */
static uint64_t calls_of_isa(qn_isa isa)
{
    uint64_t n = qn_ops_calls(isa);
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        n += qn_matmul_kernel_at(i)->isa == isa ? qn_matmul_kernel_calls(i) : 0;
    }
    return isa == QN_ISA_AVX512VNNI || isa == QN_ISA_AMX || isa == QN_ISA_I8MM ? n + calls_of_isa((qn_isa)(isa - 1)) : n;
}

/* Every model file here, every ISA, several thread counts and chunk sizes, all types of caches: equal to scalar, one thread, all rows at once. */
static void bits_do_not_depend_on_how_it_is_run(void **state)
{
    (void)state;
    static const char *const files[] = {"gguf/quant/qwen3.Q4_K_M.gguf",
                                        "gguf/quant/qwen3.Q4_0.gguf",
                                        "gguf/quant/qwen3.IQ4_XS.gguf",
                                        "hf/qwen3",
                                        "gguf/quant/llama3_rope.Q4_K_M.gguf",
                                        "mlx/qwen3.q4_g64",
                                        "hf/qwen2_tied",
                                        "gguf/base/llama3_rope.f16.gguf",
                                        "gguf/quant/qwen3_moe.Q4_0.gguf"};
    static const struct {
        size_t threads, chunk;
    } ways[] = {{2, 300}, {1, 1}, {1, 7}, {3, 64}, {2, 1}};
    const size_t n_ways = QN_TEST_SANITIZED ? 3 : sizeof ways / sizeof ways[0], n_scalar = QN_TEST_SANITIZED ? 1 : 2;
    const size_t every = QN_TEST_SANITIZED ? 6 : 3;
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        quern_model *m = golden_open(qn_test_golden(files[f]));
        size_t v = quern_model_get_info(m)->n_vocab;
        for (int kv = QUERN_KV_F16; kv <= QUERN_KV_Q8_0; kv++) {
            if (kv != QUERN_KV_F16 && f % every != 0) {
                continue; /* the other types of caches meet every third file: Q4_K, BF16 with q/k norms, tied with biases */
            }
            quern_engine *reference = engine_of(m, 1, "scalar", 512, (quern_kv_type)kv);
            float *want = golden_logits(reference, ids, N_IDS, v, N_IDS);
            quern_engine_destroy(reference);
            for (int isa = QN_ISA_SCALAR; isa < QN_ISA_COUNT; isa++) {
                if (!qn_isa_available((qn_isa)isa)) {
                    continue;
                }
                for (size_t w = 0; w < (isa != QN_ISA_SCALAR ? n_ways : f % every == 0 ? n_scalar : 0); w++) {
                    uint64_t before = calls_of_isa((qn_isa)isa);
                    quern_engine *e = engine_of(m, ways[w].threads, qn_isa_name((qn_isa)isa), 512, (quern_kv_type)kv);
                    float *have = golden_logits(e, ids, N_IDS, v, ways[w].chunk);
                    if (memcmp(want, have, N_IDS * v * sizeof *want) != 0) {
                        size_t at = 0;
                        while (memcmp(want + at, have + at, sizeof *want) == 0) {
                            at++;
                        }
                        fail_msg("%s kv %d: %s, %zu threads, chunk %zu differs from scalar at position %zu, token %zu: %a, want %a",
                                 files[f], kv, qn_isa_name((qn_isa)isa), ways[w].threads, ways[w].chunk, at / v, at % v, (double)have[at],
                                 (double)want[at]);
                    }
                    assert_true(calls_of_isa((qn_isa)isa) > before);
                    qn_free(have);
                    quern_engine_destroy(e);
                }
            }
            qn_free(want);
        }
        quern_model_close(m);
    }
}

/* ---- long contexts: attention is split over chunks of positions ---- */

enum { DEEP = 1100, DEEP_FROM = 620 };

/* A model whose layer `windowed` looks back over 300 positions. */
static quern_model *open_with_window(const char *path, size_t windowed)
{
    quern_model *m = golden_open(path);
    m->config.layers[windowed].window = 300;
    return m;
}

static void deep_item(quern_step_item *item, quern_sequence *s, const int32_t *all, size_t n, size_t v, float **logits)
{
    size_t left = DEEP - quern_sequence_n_tokens(s);
    n = n < left ? n : left;
    *item = (quern_step_item){.sequence = s, .ids = all + quern_sequence_n_tokens(s), .n_ids = n, .n_logits = n, .logits = *logits};
    *logits += n * v;
}

/* From DEEP_FROM to DEEP in steps of 1, 2, 3, 8, 9 and 20 rows, a fork that is farther back and a short sequence in some of them. */
static void deep_steps(const quern_model *m, quern_kv_type kv, size_t threads, const int32_t *all, const float *want)
{
    static const size_t sizes[] = {8, 1, 20, 3, 9, 2};
    enum { N_SIZES = sizeof sizes / sizeof sizes[0] };
    quern_error err;
    const quern_engine_options opt = {.n_threads = threads, .n_ctx = DEEP * 2, .n_batch = 64, .kv_type = kv};
    size_t v = quern_model_get_info(m)->n_vocab;
    quern_engine *e = golden_engine(m, &opt);
    quern_sequence *s[3]; /* the long one, its fork, the short one */
    float *have = qn_malloc_array(64 * v, sizeof *have);
    assert_non_null(have);
    assert_ok(quern_sequence_create(&s[0], e, &err));
    assert_ok(quern_sequence_create(&s[2], e, &err));
    for (size_t done = 0, n; done < DEEP_FROM; done += n) {
        n = DEEP_FROM - done < 64 ? DEEP_FROM - done : 64;
        const quern_step_item item = {.sequence = s[0], .ids = all + done, .n_ids = n};
        assert_ok(quern_engine_step(e, &item, 1, &err));
    }
    assert_ok(quern_sequence_fork(&s[1], s[0], &err));
    assert_ok(quern_sequence_truncate(s[1], DEEP_FROM - 100, &err));
    for (size_t step = threads; quern_sequence_n_tokens(s[0]) < DEEP; step++) {
        quern_step_item items[3];
        float *next = have;
        size_t n_items = 0, company = step / N_SIZES % 3;
        if (company == 2) {
            deep_item(&items[n_items++], s[2], all, 1, v, &next);
        }
        if (company >= 1) {
            deep_item(&items[n_items++], s[1], all, sizes[(step + 2) % N_SIZES], v, &next);
        }
        deep_item(&items[n_items++], s[0], all, sizes[step % N_SIZES], v, &next);
        assert_ok(quern_engine_step(e, items, n_items, &err));
        for (size_t i = 0; i < n_items; i++) {
            size_t end = quern_sequence_n_tokens(items[i].sequence), at = end - items[i].n_ids;
            if (memcmp(items[i].logits, want + at * v, items[i].n_ids * v * sizeof *want) != 0) {
                fail_msg("kv %d, %zu threads: %zu rows from position %zu differ, item %zu of %zu", (int)kv, threads, items[i].n_ids, at, i,
                         n_items);
            }
        }
    }
    assert_true(quern_sequence_n_tokens(s[1]) > 800 && quern_sequence_n_tokens(s[2]) > 5);
    for (size_t i = 0; i < 3; i++) {
        quern_sequence_destroy(s[i]);
    }
    qn_free(have);
    quern_engine_destroy(e);
}

/* Equal to one row a step on one thread: an ordinary model and one with experts, a full and a windowed layer each, all types of caches. */
static void long_contexts_give_the_same_bits(void **state)
{
    (void)state;
    static const char *const files[] = {"gguf/quant/qwen3.Q4_K_M.gguf", "gguf/quant/qwen3_moe.Q4_0.gguf"};
    static const size_t threads[] = {1, 2, 3, 5};
    static int32_t all[DEEP];
    for (size_t i = 0; i < DEEP; i++) {
        all[i] = (int32_t)((i * i * 31 + i * 7 + i / 100) % 509);
    }
    for (size_t f = 0; f < 2; f++) {
        if (qn_test_golden(files[f]) == NULL) {
            print_message("SKIP: %s: reference file is absent\n", files[f]);
            continue;
        }
        quern_model *m = open_with_window(qn_test_golden(files[f]), 1 - f);
        for (int kv = QUERN_KV_F16; kv <= QUERN_KV_Q8_0; kv++) {
            if (QN_TEST_SANITIZED && kv != (f == 0 ? QUERN_KV_F16 : QUERN_KV_Q8_0)) {
                continue; /* for time: memory is reached alike */
            }
            const quern_engine_options opt = {.n_threads = 1, .n_ctx = DEEP, .n_batch = 1, .kv_type = (quern_kv_type)kv};
            quern_engine *reference = golden_engine(m, &opt);
            float *want = golden_logits(reference, all, DEEP, quern_model_get_info(m)->n_vocab, 1);
            quern_engine_destroy(reference);
            for (size_t t = QN_TEST_SANITIZED ? 2 : 0; t < (QN_TEST_SANITIZED ? 3 : sizeof threads / sizeof threads[0]); t++) {
                deep_steps(m, (quern_kv_type)kv, threads[t], all, want);
            }
            qn_free(want);
        }
        quern_model_close(m);
    }
}

enum { VERY_DEEP = 33000, MORE = 9 };

/* The logits of MORE tokens behind VERY_DEEP positions of made-up keys and values, `chunk` a step. Filling them by computing would take minutes. */
static float *logits_far_out(quern_kv_type kv, size_t threads, const char *isa, size_t chunk)
{
    quern_error err;
    const quern_engine_options opt = {.n_threads = threads, .isa = isa, .n_ctx = VERY_DEEP + 64, .kv_type = kv};
    quern_engine *e = golden_engine(model, &opt);
    quern_sequence *s;
    float *logits = qn_malloc_array(MORE * n_vocab, sizeof *logits);
    assert_non_null(logits);
    assert_ok(quern_sequence_create(&s, e, &err));
    qn_sequence_extend(s, VERY_DEEP);
    s->n_tokens = VERY_DEEP;
    uint64_t state = 1;
    for (size_t i = 0; i < s->n_pages * e->pool.page_bytes / 4; i++) { /* float16 pairs, float32, or codes and scales: all finite */
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint32_t pattern = (uint32_t)(state >> 32) & 0xb3ffb3ffu;
        memcpy(e->pool.memory + 4 * i, &pattern, 4);
    }
    for (size_t at = 0; at < MORE; at += chunk) {
        const size_t n = MORE - at < chunk ? MORE - at : chunk;
        const quern_step_item item = {.sequence = s, .ids = ids + at, .n_ids = n, .n_logits = n, .logits = logits + at * n_vocab};
        assert_ok(quern_engine_step(e, &item, 1, &err));
    }
    quern_sequence_destroy(s);
    quern_engine_destroy(e);
    return logits;
}

/* Beyond 32,768 positions, where the parts of attention are many and the context is longer than most are made for. */
static void far_out_the_bits_are_the_same(void **state)
{
    (void)state;
    static const struct {
        size_t threads, chunk;
    } ways[] = {{2, 1}, {3, 4}, {1, MORE}};
    for (int kv = QUERN_KV_F16; kv <= QUERN_KV_Q8_0; kv++) {
        float *want = logits_far_out((quern_kv_type)kv, 1, "scalar", 1);
        for (size_t i = 0; i < MORE * n_vocab; i++) {
            assert_true(isfinite(want[i]));
        }
        for (int isa = QN_ISA_SCALAR + 1; isa < QN_ISA_COUNT; isa++) {
            if (!qn_isa_available((qn_isa)isa)) {
                continue;
            }
            for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
                float *got = logits_far_out((quern_kv_type)kv, ways[w].threads, qn_isa_name((qn_isa)isa), ways[w].chunk);
                assert_memory_equal(got, want, MORE * n_vocab * sizeof *want);
                qn_free(got);
            }
        }
        qn_free(want);
    }
}

/* Kernel calls of one step of n rows of one sequence at a depth, logits wanted of all (or the last layer finishes none). */
static uint64_t calls_of_step(size_t threads, size_t depth, size_t n)
{
    quern_error err;
    const quern_engine_options opt = {.n_threads = threads, .n_ctx = DEEP, .n_batch = 64};
    quern_engine *e = golden_engine(model, &opt);
    quern_sequence *s;
    assert_ok(quern_sequence_create(&s, e, &err));
    for (size_t done = 0, rows; done < depth; done += rows) {
        rows = depth - done < 64 ? depth - done : 64;
        const quern_step_item item = {.sequence = s, .ids = ids, .n_ids = rows};
        assert_ok(quern_engine_step(e, &item, 1, &err));
    }
    uint64_t before = qn_ops_calls(qn_ops_get(qn_isa_best())->isa);
    float *logits = qn_malloc_array(n * n_vocab, sizeof *logits);
    assert_non_null(logits);
    const quern_step_item item = {.sequence = s, .ids = ids, .n_ids = n, .n_logits = n, .logits = logits};
    assert_ok(quern_engine_step(e, &item, 1, &err));
    uint64_t calls = qn_ops_calls(qn_ops_get(qn_isa_best())->isa) - before;
    qn_free(logits);
    quern_sequence_destroy(s);
    quern_engine_destroy(e);
    return calls;
}

/* Rows of one sequence meet a chunk of positions in one call, and so read its keys and values once; more rows than the memory of partial
 * results holds take two passes. Four chunks, two layers, one key/value head; in a short context there is one call a layer. */
static void rows_of_a_sequence_share_a_split(void **state)
{
    (void)state;
    for (size_t threads = 1; threads <= 3; threads++) {
        uint64_t one = calls_of_step(threads, 100, 1), eight = calls_of_step(threads, 100, 8), twenty = calls_of_step(threads, 100, 20);
        bool split = threads > 1;
        assert_int_equal(calls_of_step(threads, 1000, 1) - one, split ? 2 * (4 - 1) : 0);
        assert_int_equal(calls_of_step(threads, 1000, 8) - eight, split ? 2 * (4 - 1) : 0);
        assert_int_equal(calls_of_step(threads, 1000, 20) - twenty, split ? 2 * (2 * 4 - 1) : 0);
    }
}

static void sequences_in_one_step(quern_kv_type kv)
{
    quern_error err;
    quern_engine *e = engine_of(model, 2, NULL, 64, kv);
    float *want = golden_logits(e, ids, 40, n_vocab, 40);
    quern_sequence *s[5];
    float *have = qn_malloc_array(5 * n_vocab, sizeof *have);
    for (size_t i = 0; i < 5; i++) {
        assert_ok(quern_sequence_create(&s[i], e, &err));
    }
    /* Sequence i runs i + 1 tokens ahead of nothing: different lengths, then all together one token a step. */
    for (size_t i = 0; i < 5; i++) {
        const quern_step_item item = {.sequence = s[i], .ids = ids, .n_ids = 3 * i + 1};
        assert_ok(quern_engine_step(e, &item, 1, &err));
    }
    for (size_t step = 0; step < 20; step++) {
        quern_step_item items[5];
        for (size_t i = 0; i < 5; i++) {
            items[i] = (quern_step_item){
                .sequence = s[i], .ids = ids + quern_sequence_n_tokens(s[i]), .n_ids = 1, .n_logits = 1, .logits = have + i * n_vocab};
        }
        assert_ok(quern_engine_step(e, items, 5, &err));
        for (size_t i = 0; i < 5; i++) {
            assert_memory_equal(have + i * n_vocab, want + (quern_sequence_n_tokens(s[i]) - 1) * n_vocab, n_vocab * sizeof *have);
        }
    }
    for (size_t i = 0; i < 5; i++) {
        quern_sequence_destroy(s[i]);
    }
    qn_free(have);
    qn_free(want);
    quern_engine_destroy(e);
}

static void sequences_in_one_step_do_not_touch_each_other(void **state)
{
    (void)state;
    sequences_in_one_step(QUERN_KV_F16);
    sequences_in_one_step(QUERN_KV_Q8_0);
}

/* ---- rows without logits ---- */

static void (*inner_attend)(qn_backend *b, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, qn_input *input);
static size_t n_attended; /* rows, of all layers */

static void counted_attend(qn_backend *b, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, qn_input *input)
{
    if (m.index == 0) {
        n_attended += rows->n_rows;
    }
    inner_attend(b, m, h, rows, q, input);
}

/* Three sequences in one step, of which the last row, the last three and none get logits, then a row of each: the bits of all rows with logits, and
 * in the last layer no more rows than asked for. */
static void only_rows_with_logits_are_finished(const char *file, bool all_rows)
{
    enum { LONG = 40, SHORT = 9 };
    static const size_t n_ids_of[3] = {LONG, LONG - 7, SHORT}, n_logits_of[3] = {1, 3, 0};
    quern_error err;
    quern_model *m = golden_open(qn_test_golden(file));
    const size_t v = quern_model_get_info(m)->n_vocab, n_layers = m->config.n_layers;
    quern_engine *e = engine_of(m, 2, NULL, 128, QUERN_KV_F16);
    float *want = golden_logits(e, ids, LONG + 1, v, LONG + 1), *have = qn_malloc_array(3 * v, sizeof *have);
    quern_sequence *s[3];
    quern_step_item first[3], next[3];
    e->graph.all_rows = all_rows;
    inner_attend = e->graph.backend->attend;
    e->graph.backend->attend = counted_attend;
    n_attended = 0;
    for (size_t i = 0; i < 3; i++) {
        assert_ok(quern_sequence_create(&s[i], e, &err));
        first[i] = (quern_step_item){.sequence = s[i], .ids = ids, .n_ids = n_ids_of[i], .n_logits = n_logits_of[i], .logits = have};
        next[i] = (quern_step_item){.sequence = s[i], .ids = ids + n_ids_of[i], .n_ids = 1, .n_logits = 1, .logits = have + i * v};
    }
    float *last = qn_malloc_array(v, sizeof *last);
    first[0].logits = last;
    assert_ok(quern_engine_step(e, first, 3, &err));
    const size_t n_rows = LONG + LONG - 7 + SHORT;
    assert_int_equal(n_attended, (n_layers - 1) * n_rows + (all_rows ? n_rows : 4));
    assert_memory_equal(last, want + (LONG - 1) * v, v * sizeof *last);
    assert_memory_equal(have, want + (LONG - 10) * v, 3 * v * sizeof *have);
    assert_ok(quern_engine_step(e, next, 3, &err));
    assert_int_equal(n_attended, (n_layers - 1) * n_rows + (all_rows ? n_rows : 4) + 3 * n_layers);
    for (size_t i = 0; i < 3; i++) {
        assert_memory_equal(have + i * v, want + n_ids_of[i] * v, v * sizeof *have);
        quern_sequence_destroy(s[i]);
    }
    qn_free(last);
    qn_free(have);
    qn_free(want);
    quern_engine_destroy(e);
    quern_model_close(m);
}

static void rows_without_logits_end_at_the_last_layers_keys(void **state)
{
    (void)state;
    static const char *const files[] = {"hf/qwen3", "gguf/quant/llama3_rope.Q4_K_M.gguf", "hf/qwen2_tied", "hf/mistral_headdim",
                                        "hf/qwen3_moe"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (qn_test_golden(files[i]) == NULL) {
            print_message("SKIP: %s: reference folder is absent\n", files[i]);
            continue;
        }
        only_rows_with_logits_are_finished(files[i], false);
        only_rows_with_logits_are_finished(files[i], true);
    }
}

static void defaults_and_bad_options(void **state)
{
    (void)state;
    quern_error err;
    quern_engine *e;
    quern_engine_plan plan;
    assert_ok(quern_engine_make_plan(model, NULL, &plan, &err));
    assert_ok(quern_engine_create(&e, model, NULL, &err));
    const quern_engine_info *info = quern_engine_get_info(e);
    assert_int_equal(info->kv_type, QUERN_KV_F16);
    assert_int_equal(info->n_ctx, 8192);
    assert_int_equal(info->plan.total, plan.total);
    quern_engine_destroy(e);
    const quern_engine_options odd = {.kv_type = (quern_kv_type)77};
    assert_int_equal(quern_engine_create(&e, model, &odd, &err), QUERN_ERROR_USAGE);
    assert_null(e);
}

/* Two forks that write at once need one copy of the page they share, not two; and an engine may go before its sequences. */
static void forks_in_one_step_copy_once(void **state)
{
    (void)state;
    quern_error err;
    const quern_engine_options opt = {.n_threads = 1, .n_ctx = 128, .n_batch = 32};
    quern_engine *e = golden_engine(model, &opt);
    quern_sequence *a, *b;
    assert_ok(quern_sequence_create(&a, e, &err));
    const quern_step_item first = {.sequence = a, .ids = ids, .n_ids = 10};
    assert_ok(quern_engine_step(e, &first, 1, &err));
    assert_ok(quern_sequence_fork(&b, a, &err));
    const quern_step_item both[2] = {{.sequence = a, .ids = ids, .n_ids = 1}, {.sequence = b, .ids = ids + 1, .n_ids = 1}};
    assert_ok(quern_engine_step(e, both, 2, &err));
    const quern_step_item too_many[2] = {{.sequence = a, .ids = ids, .n_ids = 1}, {.sequence = b, .ids = ids, .n_ids = 31}};
    assert_ok(quern_engine_step(e, too_many, 2, &err));
    const quern_step_item full[2] = {{.sequence = a, .ids = ids, .n_ids = 1}, {.sequence = b, .ids = ids, .n_ids = 30}};
    assert_int_equal(quern_engine_step(e, full, 2, &err), QUERN_ERROR_CONTEXT_FULL);
    assert_int_equal(quern_sequence_n_tokens(a), 12);
    quern_engine_destroy(e);
    quern_sequence_destroy(b);
    quern_sequence_destroy(a);
}

static void share_and_copy(quern_kv_type kv)
{
    quern_error err;
    quern_engine *e = engine_of(model, 1, NULL, 512, kv);
    float *want = golden_logits(e, ids, 200, n_vocab, 200);
    float *have = qn_malloc_array(n_vocab, sizeof *have);
    quern_sequence *a, *b, *c;
    assert_ok(quern_sequence_create(&a, e, &err));
    quern_step_item item = {.sequence = a, .ids = ids, .n_ids = 100};
    assert_ok(quern_engine_step(e, &item, 1, &err));
    assert_ok(quern_sequence_fork(&b, a, &err));
    assert_ok(quern_sequence_fork(&c, a, &err));
    /* b goes its own way; a and c must not notice */
    int32_t other[60];
    for (size_t i = 0; i < 60; i++) {
        other[i] = (int32_t)(500 - i);
    }
    item = (quern_step_item){.sequence = b, .ids = other, .n_ids = 60};
    assert_ok(quern_engine_step(e, &item, 1, &err));
    assert_ok(quern_sequence_truncate(c, 90, &err));
    item = (quern_step_item){.sequence = c, .ids = other, .n_ids = 20};
    assert_ok(quern_engine_step(e, &item, 1, &err));
    item = (quern_step_item){.sequence = a, .ids = ids + 100, .n_ids = 100, .n_logits = 1, .logits = have};
    assert_ok(quern_engine_step(e, &item, 1, &err));
    assert_memory_equal(have, want + 199 * n_vocab, n_vocab * sizeof *have);
    /* back to a border inside a page, and on again */
    assert_ok(quern_sequence_truncate(a, 70, &err));
    item = (quern_step_item){.sequence = a, .ids = ids + 70, .n_ids = 130, .n_logits = 1, .logits = have};
    assert_ok(quern_engine_step(e, &item, 1, &err));
    assert_memory_equal(have, want + 199 * n_vocab, n_vocab * sizeof *have);
    assert_int_equal(quern_sequence_truncate(a, 201, &err), QUERN_ERROR_USAGE);
    quern_sequence_destroy(a);
    quern_sequence_destroy(b);
    quern_sequence_destroy(c);
    qn_free(have);
    qn_free(want);
    quern_engine_destroy(e);
}

static void forks_share_and_copy_on_write(void **state)
{
    (void)state;
    share_and_copy(QUERN_KV_F16);
    share_and_copy(QUERN_KV_Q8_0);
}

static void refusals_change_nothing(void **state)
{
    (void)state;
    quern_error err;
    const quern_engine_options opt = {.n_threads = 1, .n_ctx = 128, .n_batch = 64, .kv_type = QUERN_KV_F16};
    quern_engine *e = golden_engine(model, &opt);
    quern_sequence *s, *t;
    assert_ok(quern_sequence_create(&s, e, &err));
    assert_ok(quern_sequence_create(&t, e, &err));
    quern_step_item item = {.sequence = s, .ids = ids, .n_ids = 65};
    assert_int_equal(quern_engine_step(e, &item, 1, &err), QUERN_ERROR_LIMIT);
    item.n_ids = 64;
    assert_ok(quern_engine_step(e, &item, 1, &err));
    assert_ok(quern_engine_step(e, &item, 1, &err));
    item.n_ids = 1;
    assert_int_equal(quern_engine_step(e, &item, 1, &err), QUERN_ERROR_CONTEXT_FULL);
    assert_non_null(strstr(err.message, "128"));
    item.sequence = t; /* no page left for another sequence */
    assert_int_equal(quern_engine_step(e, &item, 1, &err), QUERN_ERROR_CONTEXT_FULL);
    assert_int_equal(quern_sequence_n_tokens(s), 128);
    assert_int_equal(quern_sequence_n_tokens(t), 0);
    assert_ok(quern_sequence_truncate(s, 64, &err));
    assert_ok(quern_engine_step(e, &item, 1, &err));
    const quern_step_item twice[2] = {{.sequence = t, .ids = ids, .n_ids = 1}, {.sequence = t, .ids = ids, .n_ids = 1}};
    assert_int_equal(quern_engine_step(e, twice, 2, &err), QUERN_ERROR_USAGE);
    const int32_t bad[] = {-1, 512, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        item = (quern_step_item){.sequence = t, .ids = bad + i, .n_ids = 1};
        assert_int_equal(quern_engine_step(e, &item, 1, &err), QUERN_ERROR_USAGE);
    }
    assert_int_equal(quern_sequence_n_tokens(t), 1);
    assert_ok(quern_engine_step(e, NULL, 0, &err));
    quern_sequence_destroy(s);
    quern_sequence_destroy(t);
    quern_engine_destroy(e);
}

static void options_are_checked(void **state)
{
    (void)state;
    quern_error err;
    quern_engine *e;
    quern_engine_options opt = {.n_threads = 1, .isa = "sse9"};
    assert_int_equal(quern_engine_create(&e, model, &opt, &err), QUERN_ERROR_USAGE);
    opt = (quern_engine_options){.n_threads = 10000};
    assert_int_equal(quern_engine_create(&e, model, &opt, &err), QUERN_ERROR_USAGE);
    opt = (quern_engine_options){.n_threads = 1, .n_ctx = (size_t)1 << 60};
    assert_int_equal(quern_status_exit_code(quern_engine_create(&e, model, &opt, &err)), 4);
    for (int isa = 0; isa < QN_ISA_COUNT; isa++) { /* no machine has all */
        opt = (quern_engine_options){.n_threads = 1, .isa = qn_isa_name((qn_isa)isa)};
        if (!qn_isa_available((qn_isa)isa)) {
            assert_int_equal(quern_engine_create(&e, model, &opt, &err), QUERN_ERROR_UNAVAILABLE);
            assert_non_null(strstr(err.message, opt.isa));
        }
    }
    const quern_model_options empty = {.without_weights = true};
    quern_model *m;
    assert_ok(quern_model_open(&m, qn_test_golden("hf/qwen3"), &empty, &err));
    opt = (quern_engine_options){.n_threads = 1};
    assert_int_equal(quern_engine_create(&e, m, &opt, &err), QUERN_ERROR_USAGE);
    quern_model_close(m);
}

/* Blocks of 32 divide the head: 48 and 16 are refused before anything is made, and the message says what it is about. */
static void q8_0_caches_need_heads_of_whole_blocks(void **state)
{
    (void)state;
    quern_error err;
    quern_engine *e;
    quern_engine_plan plan;
    const quern_engine_options opt = {.n_threads = 1, .n_ctx = 64, .kv_type = QUERN_KV_Q8_0}, wide = {.n_threads = 1, .n_ctx = 64};
    quern_model odd = *model; /* borrows everything */
    static const uint32_t refused[] = {48, 16, 80, 2};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char size[16];
        (void)snprintf(size, sizeof size, "not %u", refused[i]);
        odd.config.head_dim = refused[i];
        assert_int_equal(quern_engine_create(&e, &odd, &opt, &err), QUERN_ERROR_USAGE);
        assert_null(e);
        assert_int_equal(quern_engine_make_plan(&odd, &opt, &plan, &err), QUERN_ERROR_USAGE);
        assert_int_equal(quern_status_exit_code(QUERN_ERROR_USAGE), 2);
        assert_non_null(strstr(err.message, "q8_0"));
        assert_non_null(strstr(err.message, "multiple of 32"));
        assert_non_null(strstr(err.message, size));
        assert_ok(quern_engine_make_plan(&odd, &wide, &plan, &err));
    }
    odd.config.head_dim = 96;
    assert_ok(quern_engine_make_plan(&odd, &opt, &plan, &err));
    assert_int_equal(plan.kv_per_token, 2u * 2 * 1 * (96 + 3 * 2));
}

static void plan_is_what_is_allocated(void **state)
{
    (void)state;
    quern_error err;
    quern_engine_plan plan;
    static const size_t head_bytes[] = {[QUERN_KV_F32] = 128 * 4, [QUERN_KV_F16] = 128 * 2, [QUERN_KV_Q8_0] = 128 + 4 * 2};
    for (int kv = QUERN_KV_F16; kv <= QUERN_KV_Q8_0; kv++) {
        const quern_engine_options opt = {.n_threads = 2, .n_ctx = 1000, .n_batch = 128, .kv_type = (quern_kv_type)kv};
        assert_ok(quern_engine_make_plan(model, &opt, &plan, &err));
        quern_engine *e = golden_engine(model, &opt);
        assert_memory_equal(&plan, &quern_engine_get_info(e)->plan, sizeof plan);
        assert_int_equal(plan.kv_per_token, 2u * 2 * 1 * head_bytes[kv]); /* layers x (K, V) x kv heads x bytes of a head */
        assert_int_equal(plan.kv, 16u * 64 * plan.kv_per_token);
        assert_int_equal(plan.kv, e->pool.n_pages * e->pool.page_bytes);
        quern_engine_destroy(e);
    }
}

/* Steady decode allocates nothing. */
static void decode_allocates_nothing(void **state)
{
    (void)state;
    quern_error err;
    quern_engine *e = engine_of(model, 2, NULL, 64, QUERN_KV_F16);
    quern_sequence *s;
    float *logits = qn_malloc_array(n_vocab, sizeof *logits);
    assert_ok(quern_sequence_create(&s, e, &err));
    qn_alloc_fail_at(0);
    for (size_t i = 0; i < 200; i++) {
        const quern_step_item item = {.sequence = s, .ids = ids + i, .n_ids = 1, .n_logits = 1, .logits = logits};
        assert_ok(quern_engine_step(e, &item, 1, &err));
    }
    assert_int_equal(qn_alloc_count(), 0);
    quern_sequence_destroy(s);
    qn_free(logits);
    quern_engine_destroy(e);
}

static void a_failing_allocation_is_an_error_at_every_n(void **state)
{
    (void)state;
    quern_error err;
    const quern_engine_options opt = {.n_threads = 1, .n_ctx = 64, .n_batch = 16};
    for (uint64_t n = 1;; n++) {
        quern_engine *e = NULL;
        quern_sequence *s = NULL, *fork = NULL;
        const quern_step_item *none = NULL;
        qn_alloc_fail_at(n);
        quern_status status = quern_engine_create(&e, model, &opt, &err);
        status = status == QUERN_OK ? quern_sequence_create(&s, e, &err) : status;
        status = status == QUERN_OK ? quern_sequence_fork(&fork, s, &err) : status;
        status = status == QUERN_OK ? quern_engine_step(e, none, 0, &err) : status;
        qn_alloc_fail_at(0);
        quern_sequence_destroy(fork);
        quern_sequence_destroy(s);
        quern_engine_destroy(e);
        if (status == QUERN_OK) {
            assert_true(n > 10);
            break;
        }
        assert_int_equal(status, QUERN_ERROR_MEMORY);
    }
}

/* ---- generation ---- */

typedef struct heard {
    char text[4096];
    size_t len, n_tokens;
    size_t cancel_after; /* 0 = never */
} heard;

static bool hear(void *user, int32_t id, const char *text, size_t len)
{
    heard *h = user;
    memcpy(h->text + h->len, text, len);
    h->len += len;
    h->n_tokens += id >= 0;
    return h->cancel_after == 0 || h->n_tokens < h->cancel_after;
}

static quern_generation generate(quern_engine *e, heard *h, size_t max_tokens, const char *const *stop, size_t n_stop)
{
    quern_error err;
    quern_sequence *s;
    quern_generation out;
    const quern_generate_options opt = {.max_tokens = max_tokens,
                                        .sampling = quern_sampling_default(),
                                        .stop = stop,
                                        .n_stop = n_stop,
                                        .ignore_eos = true,
                                        .on_token = hear,
                                        .user = h};
    assert_ok(quern_sequence_create(&s, e, &err));
    assert_ok(quern_generate(e, s, ids, 20, &opt, &out, &err));
    quern_sequence_destroy(s);
    return out;
}

static void generation_stops_where_it_should(void **state)
{
    (void)state;
    quern_engine *e = engine_of(model, 1, NULL, 8, QUERN_KV_F16);
    heard all = {0};
    quern_generation whole = generate(e, &all, 30, NULL, 0);
    assert_int_equal(whole.finish, QUERN_FINISH_LENGTH);
    assert_int_equal(whole.ids.len, 30);
    assert_int_equal(whole.n_prompt_tokens, 20);
    assert_int_equal(all.len, whole.len);
    assert_memory_equal(all.text, whole.text, whole.len);
    assert_true(whole.len > 8);

    /* Stop at some piece from the middle of the answer: the text ends before its first occurrence, and no byte of it was given out. */
    char piece[4] = {0};
    memcpy(piece, whole.text + whole.len / 2, 3);
    size_t expected = (size_t)(strstr(whole.text, piece) - whole.text);
    const char *const stops[] = {"never in there at all", piece};
    heard some = {0};
    quern_generation cut = generate(e, &some, 30, stops, 2);
    assert_int_equal(cut.finish, QUERN_FINISH_STOP);
    assert_int_equal(cut.len, expected);
    assert_memory_equal(cut.text, whole.text, cut.len);
    assert_int_equal(some.len, cut.len);
    assert_memory_equal(some.text, cut.text, cut.len);
    quern_generation_deinit(&cut);

    heard few = {.cancel_after = 5};
    quern_generation cancelled = generate(e, &few, 30, NULL, 0);
    assert_int_equal(cancelled.finish, QUERN_FINISH_CANCELLED);
    assert_int_equal(cancelled.ids.len, 5);
    assert_memory_equal(cancelled.text, whole.text, cancelled.len);
    quern_generation_deinit(&cancelled);
    quern_generation_deinit(&whole);
    quern_engine_destroy(e);
}

static void generation_never_truncates(void **state)
{
    (void)state;
    quern_error err;
    const quern_engine_options eopt = {.n_threads = 1, .n_ctx = 64, .n_batch = 16};
    quern_engine *e = golden_engine(model, &eopt);
    quern_sequence *s;
    quern_generation out;
    quern_generate_options opt = {.max_tokens = 1, .sampling = quern_sampling_default(), .ignore_eos = true};
    assert_ok(quern_sequence_create(&s, e, &err));
    assert_int_equal(quern_generate(e, s, ids, 65, &opt, &out, &err), QUERN_ERROR_CONTEXT_FULL);
    assert_non_null(strstr(err.message, "65"));
    assert_non_null(strstr(err.message, "64"));
    opt.max_tokens = 46;
    assert_int_equal(quern_generate(e, s, ids, 20, &opt, &out, &err), QUERN_ERROR_CONTEXT_FULL);
    assert_int_equal(quern_sequence_n_tokens(s), 0);
    assert_int_equal(quern_generate(e, s, ids, 0, &opt, &out, &err), QUERN_ERROR_USAGE);
    opt.max_tokens = 45;
    assert_ok(quern_generate(e, s, ids, 20, &opt, &out, &err));
    assert_int_equal(out.ids.len, 45);
    quern_generation_deinit(&out);
    assert_ok(quern_sequence_truncate(s, 0, &err));
    opt.max_tokens = 0; /* until the context is full */
    assert_ok(quern_generate(e, s, ids, 20, &opt, &out, &err));
    assert_int_equal(out.finish, QUERN_FINISH_LENGTH);
    assert_int_equal(out.ids.len, 45);
    quern_generation_deinit(&out);
    quern_sequence_destroy(s);
    quern_engine_destroy(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_do_not_depend_on_how_it_is_run),
        cmocka_unit_test(long_contexts_give_the_same_bits),
        cmocka_unit_test(far_out_the_bits_are_the_same),
        cmocka_unit_test(rows_of_a_sequence_share_a_split),
        cmocka_unit_test(sequences_in_one_step_do_not_touch_each_other),
        cmocka_unit_test(rows_without_logits_end_at_the_last_layers_keys),
        cmocka_unit_test(defaults_and_bad_options),
        cmocka_unit_test(forks_in_one_step_copy_once),
        cmocka_unit_test(forks_share_and_copy_on_write),
        cmocka_unit_test(refusals_change_nothing),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(q8_0_caches_need_heads_of_whole_blocks),
        cmocka_unit_test(plan_is_what_is_allocated),
        cmocka_unit_test(decode_allocates_nothing),
        cmocka_unit_test(a_failing_allocation_is_an_error_at_every_n),
        cmocka_unit_test(generation_stops_where_it_should),
        cmocka_unit_test(generation_never_truncates),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
