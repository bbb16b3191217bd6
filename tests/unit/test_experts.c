/* test_experts.c - a mixture of experts loads weights of the experts that its router chose and of no others: every expert lies on pages of its own that
 * cannot be read until someone tries. (Prefetches do not show: they are never a fault.) */
#include "golden_run.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine_int.h"

enum { EXPERTS_MAX = 64, LAYERS_MAX = 8, KINDS = 3, N_IDS = 24 };

/* Experts behind locked pages; one model at a time, for the signal handler to find. */
static struct {
    uint8_t *memory;
    size_t bytes, stride; /* of all; of one expert's matrix, whole pages */
    size_t n_layers, n_experts;
    volatile sig_atomic_t opened[LAYERS_MAX][KINDS][EXPERTS_MAX];
} vault;

static uint8_t *place_of(size_t layer, size_t kind, size_t expert)
{
    return vault.memory + ((layer * KINDS + kind) * vault.n_experts + expert) * vault.stride;
}

/* A read of a locked expert: it is noted, and let through. Any other fault is the program's end. */
static void open_expert(int number, siginfo_t *info, void *context)
{
    const uintptr_t at = (uintptr_t)info->si_addr, begin = (uintptr_t)vault.memory;
    (void)context;
    if (at < begin || at >= begin + vault.bytes) {
        (void)signal(number, SIG_DFL);
        return;
    }
    const size_t index = (at - begin) / vault.stride, expert = index % vault.n_experts, kind = index / vault.n_experts % KINDS;
    vault.opened[index / vault.n_experts / KINDS][kind][expert] = 1;
    (void)mprotect(vault.memory + index * vault.stride, vault.stride, PROT_READ);
}

static void lock_all(void)
{
    memset((void *)(uintptr_t)vault.opened, 0, sizeof vault.opened);
    assert_int_equal(mprotect(vault.memory, vault.bytes, PROT_NONE), 0);
}

static const qn_matrix *experts_of(const quern_model *m, size_t layer, size_t kind)
{
    const qn_layer_weights *l = &m->weights.layers[layer];
    return kind == 0 ? l->expert_gate : kind == 1 ? l->expert_up : l->expert_down;
}

/* Moves the experts out of the file, each to pages of its own. */
static void move_experts(quern_model *m)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t most = 0;
    vault.n_layers = m->config.n_layers;
    vault.n_experts = m->config.n_experts;
    assert_true(vault.n_layers <= LAYERS_MAX && vault.n_experts <= EXPERTS_MAX && vault.n_experts > m->config.n_experts_used);
    for (size_t kind = 0; kind < KINDS; kind++) {
        const qn_matrix *w = experts_of(m, 0, kind);
        most = w->n_rows * w->row_bytes > most ? w->n_rows * w->row_bytes : most;
    }
    vault.stride = (most + page - 1) / page * page;
    vault.bytes = vault.n_layers * KINDS * vault.n_experts * vault.stride;
    vault.memory = mmap(NULL, vault.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(vault.memory != MAP_FAILED);
    for (size_t layer = 0; layer < vault.n_layers; layer++) {
        for (size_t kind = 0; kind < KINDS; kind++) {
            for (size_t i = 0; i < vault.n_experts; i++) {
                qn_matrix *w = (qn_matrix *)(uintptr_t)&experts_of(m, layer, kind)[i]; /* the model is this test's own */
                assert_true(w->n_rows * w->row_bytes <= vault.stride);
                memcpy(place_of(layer, kind, i), w->data, w->n_rows * w->row_bytes);
                w->data = place_of(layer, kind, i);
            }
        }
    }
}

/* Experts of a layer that were read; all three matrices of an expert, or none. */
static size_t count_opened(size_t layer)
{
    size_t n = 0;
    for (size_t i = 0; i < vault.n_experts; i++) {
        assert_int_equal(vault.opened[layer][0][i], vault.opened[layer][1][i]);
        assert_int_equal(vault.opened[layer][0][i], vault.opened[layer][2][i]);
        n += (size_t)vault.opened[layer][0][i];
    }
    return n;
}

static void check_model(const char *path, size_t n_threads, const char *isa)
{
    quern_error err;
    quern_model *m = golden_open(path);
    const size_t n_used = m->config.n_experts_used, n_vocab = quern_model_get_info(m)->n_vocab;
    const quern_engine_options opt = {.n_threads = n_threads, .isa = isa, .n_ctx = 64};
    int32_t ids[N_IDS];
    for (size_t i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((i * 131 + 7) % 509);
    }
    quern_engine *plain = golden_engine(m, &opt);
    float *want = golden_logits(plain, ids, N_IDS, n_vocab, N_IDS);
    quern_engine_destroy(plain);
    move_experts(m);
    quern_engine *e = golden_engine(m, &opt);
    quern_sequence *s;
    float *logits = qn_malloc_array(n_vocab, sizeof *logits);
    bool seen[LAYERS_MAX][EXPERTS_MAX] = {{false}};
    assert_ok(quern_sequence_create(&s, e, &err));
    for (size_t i = 0; i < N_IDS; i++) { /* token by token: the chosen ones, exactly */
        const quern_step_item item = {.sequence = s, .ids = &ids[i], .n_ids = 1, .n_logits = 1, .logits = logits};
        lock_all();
        assert_ok(quern_engine_step(e, &item, 1, &err));
        assert_memory_equal(logits, want + i * n_vocab, n_vocab * sizeof *logits);
        for (size_t layer = 0; layer < vault.n_layers; layer++) {
            assert_int_equal(count_opened(layer), n_used);
            for (size_t k = 0; k < vault.n_experts; k++) {
                seen[layer][k] = seen[layer][k] || vault.opened[layer][0][k];
            }
        }
    }
    assert_ok(quern_sequence_truncate(s, 0, &err));
    const quern_step_item all = {.sequence = s, .ids = ids, .n_ids = N_IDS, .n_logits = N_IDS, .logits = want};
    lock_all();
    assert_ok(quern_engine_step(e, &all, 1, &err)); /* all at once: those that some token chose */
    for (size_t layer = 0; layer < vault.n_layers; layer++) {
        for (size_t k = 0; k < vault.n_experts; k++) {
            assert_int_equal(vault.opened[layer][0][k], seen[layer][k]);
        }
    }
    quern_sequence_destroy(s);
    quern_engine_destroy(e);
    quern_model_close(m);
    qn_free(logits);
    qn_free(want);
    (void)munmap(vault.memory, vault.bytes);
}

static void only_chosen_experts_are_read(void **state)
{
    (void)state;
    static const char *const files[] = {"gguf/quant/qwen3_moe.Q4_0.gguf", "gguf/quant/qwen3_moe_k256.Q4_K_M.gguf",
                                        "gguf/quant/mixtral.Q5_0.gguf"};
    size_t n_checked = 0;
    struct sigaction action = {.sa_sigaction = open_expert, .sa_flags = SA_SIGINFO}, before_segv, before_bus;
    assert_int_equal(sigaction(SIGSEGV, &action, &before_segv), 0);
    assert_int_equal(sigaction(SIGBUS, &action, &before_bus), 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = qn_test_golden(files[i]);
        if (path == NULL) {
            print_message("SKIP: %s: reference file is absent\n", files[i]);
            continue;
        }
        n_checked++;
        check_model(path, 2, NULL);
        check_model(path, 1, "scalar");
    }
    assert_int_equal(sigaction(SIGSEGV, &before_segv, NULL), 0);
    assert_int_equal(sigaction(SIGBUS, &before_bus, NULL), 0);
    assert_true(n_checked > 0); /* the first is in the repository */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_chosen_experts_are_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
