/* test_shard.c - a model cut over two ranks, each an engine of its own in a thread of its own, computes what the whole model does. */
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "golden_run.h"

#include "engine/engine_int.h"

enum { WORLD = 2, N_IDS = 40, ROW_MAX = 1 << 20 };

/* A sum over ranks that are threads of this process. */
typedef struct group {
    pthread_barrier_t barrier;
    float *data[WORLD];
    float *sum; /* (ROW_MAX) */
    size_t n_calls;
} group;

typedef struct member_comm {
    qn_comm comm;
    group *group;
} member_comm;

static void all_reduce_threads(const qn_comm *comm, qn_member member, float *data, size_t n)
{
    group *g = ((const member_comm *)(const void *)comm)->group;
    assert_int_equal(member.n_threads, 1);
    assert_true(n <= ROW_MAX);
    g->data[comm->rank] = data;
    pthread_barrier_wait(&g->barrier);
    if (comm->rank == 0) {
        for (size_t i = 0; i < n; i++) {
            g->sum[i] = g->data[0][i] + g->data[1][i];
        }
        g->n_calls++;
    }
    pthread_barrier_wait(&g->barrier);
    memcpy(data, g->sum, n * sizeof *data);
    pthread_barrier_wait(&g->barrier);
}

typedef struct rank {
    member_comm comm;
    quern_engine *engine;
    const int32_t *ids;
    float *logits;
} rank;

static void *run_rank(void *arg)
{
    rank *r = arg;
    size_t n_vocab = quern_model_get_info(r->engine->model)->n_vocab;
    r->logits = golden_logits(r->engine, r->ids, N_IDS, n_vocab, 16);
    return NULL;
}

static void check_model(const char *name)
{
    int32_t ids[N_IDS];
    quern_error err;
    group g = {.sum = qn_malloc_array(ROW_MAX, sizeof(float))};
    quern_model *m = golden_open(qn_test_golden(name));
    const quern_engine_options opt = {.n_threads = 1, .n_ctx = 64, .n_batch = 16, .kv_type = QUERN_KV_F32};
    size_t n_vocab = quern_model_get_info(m)->n_vocab;
    for (size_t i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((i * 37 + 5) % n_vocab);
    }
    assert_int_equal(pthread_barrier_init(&g.barrier, NULL, WORLD), 0);
    rank ranks[WORLD];
    pthread_t threads[WORLD];
    for (uint32_t i = 0; i < WORLD; i++) {
        ranks[i] = (rank){.comm = {.comm = {.rank = i, .world = WORLD, .all_reduce_sum = all_reduce_threads}, .group = &g}, .ids = ids};
        assert_ok(qn_engine_create_rank(&ranks[i].engine, m, &opt, (qn_shard){.rank = i, .world = WORLD}, &ranks[i].comm.comm, &err));
        assert_int_equal(ranks[i].engine->config.n_kv_heads * WORLD, m->config.n_kv_heads);
    }
    for (size_t i = 0; i < WORLD; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_rank, &ranks[i]), 0);
    }
    for (size_t i = 0; i < WORLD; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    quern_engine *whole = golden_engine(m, &opt);
    float *want = golden_logits(whole, ids, N_IDS, n_vocab, 16);
    golden_difference d = golden_compare(ranks[0].logits, want, N_IDS * n_vocab);
    print_message("%s: two ranks differ from one by %.2e of std at most\n", name, d.max / d.std);
    assert_true(d.max <= 1e-4 * d.std);
    assert_memory_equal(ranks[0].logits, ranks[1].logits, N_IDS * n_vocab * sizeof *want);
    assert_int_equal(g.n_calls, 2 * (size_t)m->config.n_layers * ((N_IDS + 15) / 16));
    for (size_t i = 0; i < WORLD; i++) {
        qn_free(ranks[i].logits);
        quern_engine_destroy(ranks[i].engine);
    }
    quern_engine_destroy(whole);
    pthread_barrier_destroy(&g.barrier);
    quern_model_close(m);
    qn_free(want);
    qn_free(g.sum);
}

static void two_ranks_equal_one(void **state)
{
    (void)state;
    check_model("hf/qwen2_tied"); /* biases */
    check_model("hf/qwen3_yarn"); /* q and k norms */
    check_model("hf/codellama_mha");
    check_model("gguf/base/llama3_rope.f16.gguf");
}

static void experts_are_cut_too(void **state)
{
    (void)state;
    const char *probe = qn_test_golden("hf/qwen3_moe/config.json");
    if (probe == NULL) {
        print_message("SKIP: hf/qwen3_moe: kept beside the repository only, and not here\n");
        skip();
    }
    check_model("hf/qwen3_moe");
    check_model("gguf/base/qwen3_moe.bf16.gguf");
}

static void impossible_cuts_are_refused(void **state)
{
    (void)state;
    quern_error err;
    quern_engine *e;
    const quern_engine_options opt = {.n_threads = 1, .n_ctx = 64};
    quern_model *m = golden_open(qn_test_golden("hf/qwen3"));
    assert_int_equal(qn_engine_create_rank(&e, m, &opt, (qn_shard){.rank = 0, .world = 5}, qn_comm_local(), &err), QUERN_ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "cannot be cut into 5 equal parts"));
    assert_null(e);
    assert_int_equal(qn_engine_create_rank(&e, m, &opt, (qn_shard){.rank = 2, .world = 2}, qn_comm_local(), &err), QUERN_ERROR_UNSUPPORTED);
    quern_model_close(m);
    m = golden_open(qn_test_golden("mlx/llama3_rope.q4_g32"));
    assert_int_equal(qn_engine_create_rank(&e, m, &opt, (qn_shard){.rank = 0, .world = 2}, qn_comm_local(), &err), QUERN_ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "MLX groups"));
    quern_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_ranks_equal_one),
        cmocka_unit_test(experts_are_cut_too),
        cmocka_unit_test(impossible_cuts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
