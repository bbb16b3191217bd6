/* engine.c - making an engine by its plan, and running one step of it.
 *
 * Everything is allocated when the engine is created; a step allocates nothing. A step that is refused has changed nothing. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/float_mode.h"
#include "engine/engine_int.h"

enum { BATCH_DEFAULT = 512, BATCH_MAX = 1 << 16, CTX_DEFAULT_MAX = 8192, THREADS_MAX = 1024 /* of a qn_pool */ };

/* Query heads that share one key/value head; attention kernels take that many query rows at once. */
enum { HEAD_GROUP_MAX = 64 };

/* ---- options to numbers ---- */

typedef struct settings {
    qn_isa isa;
    size_t n_threads, n_ctx, n_batch, n_pages;
    qn_kv_format format;
    quern_kv_type kv_type;
    bool f32_activations;
} settings;

quern_status qn_engine_choose_isa(const char *name, qn_isa *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *wanted = name != NULL ? name : getenv("QUERN_ISA");
    *out = qn_isa_best();
    if (wanted != NULL && wanted[0] != '\0') {
        if (!qn_isa_from_name(wanted, out)) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "unknown instruction set '%s'; expected scalar, avx2, avx512, avx512vnni, amx, neon or i8mm",
                    wanted);
        }
        if (!qn_isa_available(*out)) {
            QN_FAIL(err, QUERN_ERROR_UNAVAILABLE, "this machine has no %s; the best it has is %s", wanted, qn_isa_name(qn_isa_best()));
        }
    }
done:
    return status;
}

static quern_status choose_kv(const quern_model *m, const quern_engine_options *opt, qn_kv_format *out, quern_error *err)
{
    switch (opt->kv_type) {
    case QUERN_KV_F16: *out = QN_KV_FORMAT_F16; return QUERN_OK;
    case QUERN_KV_F32: *out = QN_KV_FORMAT_F32; return QUERN_OK;
    case QUERN_KV_Q8_0:
        *out = QN_KV_FORMAT_Q8_0;
        if (m->config.head_dim % QN_KV_BLOCK == 0) {
            return QUERN_OK;
        }
        return qn_error_set(err, QUERN_ERROR_USAGE,
                            "%s: a q8_0 KV cache needs a head size that is a multiple of %d, not %u; use f16 or f32", m->info.path,
                            QN_KV_BLOCK, m->config.head_dim);
    }
    return qn_error_set(err, QUERN_ERROR_USAGE, "unknown type of KV cache: %d", (int)opt->kv_type);
}

static quern_status settle(const quern_model *m, const quern_engine_options *opt, settings *out, quern_error *err)
{
    static const quern_engine_options defaults = {0};
    quern_status status = QUERN_OK;
    const qn_model_config *c = &m->config;
    opt = opt != NULL ? opt : &defaults;
    if (!m->has_weights) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "%s was opened without weights", m->info.path);
    }
    if (c->n_heads / c->n_kv_heads > HEAD_GROUP_MAX) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: %u query heads share one key/value head, at most %d are supported", m->info.path,
                c->n_heads / c->n_kv_heads, HEAD_GROUP_MAX);
    }
    QN_TRY(qn_engine_choose_isa(opt->isa, &out->isa, err));
    QN_TRY(choose_kv(m, opt, &out->format, err));
    out->kv_type = opt->kv_type;
    out->n_threads = opt->n_threads != 0 ? opt->n_threads : qn_cpu_usable_count();
    out->n_ctx = opt->n_ctx;
    if (out->n_ctx == 0) {
        out->n_ctx = c->n_ctx_train > 0 && c->n_ctx_train < CTX_DEFAULT_MAX ? c->n_ctx_train : CTX_DEFAULT_MAX;
    }
    out->n_batch = opt->n_batch != 0 ? opt->n_batch : BATCH_DEFAULT;
    if (out->n_batch > BATCH_MAX) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "batch: %zu rows, at most %d", out->n_batch, BATCH_MAX);
    }
    if (out->n_threads > THREADS_MAX) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "threads: %zu, at most %d", out->n_threads, THREADS_MAX);
    }
    if (out->n_ctx > (size_t)1 << 32) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "context: %zu tokens, at most %" PRIu64, out->n_ctx, (uint64_t)1 << 32);
    }
    out->n_batch = out->n_batch < out->n_ctx ? out->n_batch : out->n_ctx;
    out->n_pages = (out->n_ctx + QN_KV_PAGE - 1) / QN_KV_PAGE;
    out->f32_activations = opt->arithmetic == QUERN_ARITHMETIC_F32_ACTIVATIONS;
done:
    return status;
}

static size_t largest(size_t a, size_t b) { return a > b ? a : b; }

/* Some matrix is one that no kernel takes: only FP8 checkpoints have such, all in their layers. */
static bool decodes_weights(const quern_model *m)
{
    bool any = false;
    for (uint32_t i = 0; i < m->config.n_layers; i++) {
        const qn_layer_weights *l = &m->weights.layers[i];
        const qn_matrix *const all[] = {
            &l->q.w, &l->k.w, &l->v.w, &l->o.w, &l->gate.w, &l->up.w, &l->down.w, &l->router.w, &m->weights.output.w};
        const qn_matrix *const experts[] = {l->expert_gate, l->expert_up, l->expert_down};
        for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
            any = any || qn_matrix_is_decoded(all[k]);
        }
        for (size_t k = 0; l->expert_gate != NULL && k < sizeof experts / sizeof experts[0] * m->config.n_experts; k++) {
            any = any || qn_matrix_is_decoded(&experts[k % 3][k / 3]);
        }
    }
    return any;
}

static qn_cpu_options cpu_options(const quern_model *m, const settings *s, const qn_numa *numa)
{
    const qn_model_config *c = &m->config;
    size_t cols = largest(largest(c->hidden_size, largest(c->ffn_size, c->expert_ffn_size)), (size_t)c->n_heads * c->head_dim);
    return (qn_cpu_options){.n_threads = s->n_threads,
                            .isa = s->isa,
                            .f32_activations = s->f32_activations,
                            .decodes_weights = decodes_weights(m),
                            .max_cols = cols,
                            .hidden_size = c->hidden_size,
                            .max_rows = s->n_batch,
                            .n_heads = c->n_heads,
                            .head_dim = c->head_dim,
                            .n_ctx = s->n_ctx,
                            .numa = numa};
}

static void make_plan(const quern_model *m, const settings *s, const qn_numa *numa, quern_engine_plan *out)
{
    qn_cpu_options cpu = cpu_options(m, s, numa);
    size_t page = qn_kv_page_bytes(&m->config, s->format);
    *out = (quern_engine_plan){
        .weights_mapped = m->info.weight_bytes, .kv = (uint64_t)s->n_pages * page, .kv_per_token = page / QN_KV_PAGE};
    out->activations = qn_graph_bytes(&m->config, &m->weights, s->f32_activations, s->n_batch, s->n_batch) + qn_cpu_bytes(&cpu);
    out->total = out->weights_mapped + out->kv + out->activations;
}

quern_status quern_engine_make_plan(const quern_model *m, const quern_engine_options *opt, quern_engine_plan *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    settings s;
    qn_numa *numa = NULL;
    QN_TRY(settle(m, opt, &s, err));
    QN_TRY(qn_numa_detect(&numa, QN_NUMA_NODES, err));
    make_plan(m, &s, numa, out);
done:
    qn_numa_destroy(numa);
    return status;
}

/* ---- making ---- */

static quern_status allocate_tables(quern_engine *e, const settings *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &e->config;
    size_t n_layers = c->n_layers, bytes = qn_graph_bytes(c, &e->weights, s->f32_activations, s->n_batch, s->n_batch);
    void *memory = qn_arena_alloc_aligned(&e->arena, bytes);
    e->ids = qn_arena_alloc_array(&e->arena, s->n_batch, sizeof *e->ids);
    e->positions = qn_arena_alloc_array(&e->arena, s->n_batch, sizeof *e->positions);
    e->logit_rows = qn_arena_alloc_array(&e->arena, s->n_batch, sizeof *e->logit_rows);
    e->logit_pointers = qn_arena_alloc_array(&e->arena, s->n_batch, sizeof *e->logit_pointers);
    e->views = qn_arena_alloc_array(&e->arena, n_layers, sizeof *e->views);
    e->logits = qn_arena_alloc_array(&e->arena, c->n_vocab, sizeof *e->logits);
    const qn_kv_view **all = qn_arena_alloc_array(&e->arena, n_layers * s->n_batch, sizeof *all);
    if (memory == NULL || e->ids == NULL || e->positions == NULL || e->logit_rows == NULL || e->logit_pointers == NULL ||
        e->views == NULL || e->logits == NULL || all == NULL) {
        QN_FAIL_MEMORY(err, "a step's buffers", bytes);
    }
    for (size_t layer = 0; layer < n_layers; layer++) {
        e->views[layer] = all + layer * s->n_batch;
    }
    qn_graph_bind(&e->graph.buffers, c, &e->weights, s->f32_activations, s->n_batch, s->n_batch, memory);
done:
    return status;
}

quern_status qn_engine_create_rank(quern_engine **out, const quern_model *m, const quern_engine_options *opt, qn_shard shard,
                                   const qn_comm *comm, quern_error *err)
{
    quern_status status = QUERN_OK;
    settings s;
    quern_engine *e = NULL;
    const qn_float_mode before = qn_float_mode_enter();
    *out = NULL;
    QN_TRY(settle(m, opt, &s, err));
    e = qn_calloc(1, sizeof *e);
    if (e == NULL) {
        QN_FAIL_MEMORY(err, "an engine", sizeof *e);
    }
    qn_arena_init(&e->arena, 0);
    e->model = m;
    e->info = (quern_engine_info){
        .isa = qn_isa_name(s.isa), .n_threads = s.n_threads, .n_ctx = s.n_ctx, .n_batch = s.n_batch, .kv_type = s.kv_type};
    QN_TRY(qn_numa_detect(&e->numa, QN_NUMA_NODES, err));
    make_plan(m, &s, e->numa, &e->info.plan);
    QN_TRY(qn_shard_model(shard, &m->config, &m->weights, &e->arena, &e->config, &e->weights, err));
    qn_cpu_options cpu = cpu_options(m, &s, e->numa);
    QN_TRY(qn_cpu_create(&e->backend, &cpu, err));
    QN_TRY(qn_rope_init(&e->rope, &e->config.rope, e->weights.rope_divisors, &e->arena, err));
    QN_TRY(qn_kv_pool_init(&e->pool, &e->config, s.format, s.n_pages, err));
    qn_numa_interleave(e->numa, e->pool.memory, e->pool.n_pages * e->pool.page_bytes);
    QN_TRY(allocate_tables(e, &s, err));
    e->graph.backend = e->backend;
    e->graph.comm = comm;
    e->graph.config = &e->config;
    e->graph.weights = &e->weights;
    e->graph.rope = &e->rope;
    *out = e;
    e = NULL;
done:
    qn_float_mode_leave(before);
    quern_engine_destroy(e);
    return status;
}

quern_status quern_engine_create(quern_engine **out, const quern_model *m, const quern_engine_options *opt, quern_error *err)
{
    return qn_engine_create_rank(out, m, opt, qn_shard_whole(), qn_comm_local(), err);
}

void quern_engine_destroy(quern_engine *e)
{
    if (e == NULL) {
        return;
    }
    if (e->backend != NULL) {
        e->backend->destroy(e->backend);
        e->backend = NULL;
    }
    e->is_destroyed = true;
    qn_engine_free_if_unused(e);
}

const quern_engine_info *quern_engine_get_info(const quern_engine *e) { return &e->info; }

/* ---- a step ---- */

static quern_status check_item(const quern_engine *e, const quern_step_item *item, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (item->sequence == NULL || item->sequence->engine != e) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "a step's sequence must belong to the engine that runs it");
    }
    if (item->n_ids == 0 || item->n_logits > item->n_ids || (item->n_logits > 0 && item->logits == NULL)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "a step's item needs ids, and at most one row of logits an id");
    }
    for (size_t i = 0; i < item->n_ids; i++) {
        if (item->ids[i] < 0 || (uint32_t)item->ids[i] >= e->model->config.n_vocab) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "token id %" PRId32 " is outside the vocabulary of %" PRIu32, item->ids[i],
                    e->model->config.n_vocab);
        }
    }
    if (item->n_ids > e->info.n_ctx - item->sequence->n_tokens) {
        QN_FAIL(err, QUERN_ERROR_CONTEXT_FULL, "the context is full: %zu tokens in it, %zu more wanted, %zu fit", item->sequence->n_tokens,
                item->n_ids, e->info.n_ctx);
    }
done:
    return status;
}

/* Checks everything that can be wrong with a step before anything changes. */
static quern_status check_step(quern_engine *e, const quern_step_item *items, size_t n_items, size_t *n_rows, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t pages = 0, rows = 0, marked = 0; /* items before `marked` are to be unmarked */
    for (size_t i = 0; i < n_items; i++, marked++) {
        QN_TRY(check_item(e, &items[i], err));
        if (items[i].sequence->in_step) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "a sequence may appear only once in a step");
        }
        items[i].sequence->in_step = true;
        pages += qn_sequence_plan_begin(items[i].sequence, items[i].n_ids);
        rows += items[i].n_ids;
        if (rows > e->info.n_batch) {
            marked++;
            QN_FAIL(err, QUERN_ERROR_LIMIT, "a step of more than %zu rows; the batch is %zu", rows, e->info.n_batch);
        }
    }
    if (pages > e->pool.n_free) {
        QN_FAIL(err, QUERN_ERROR_CONTEXT_FULL, "the KV cache is full: the step needs %zu pages of %d tokens, %zu of %zu are free", pages,
                QN_KV_PAGE, e->pool.n_free, e->pool.n_pages);
    }
    *n_rows = rows;
done:
    for (size_t i = 0; i < marked; i++) {
        items[i].sequence->in_step = false;
        qn_sequence_plan_end(items[i].sequence);
    }
    return status;
}

typedef struct step_job {
    const qn_graph *graph;
    const qn_graph_step *step;
} step_job;

static void run_step(void *arg, qn_member m)
{
    const step_job *job = arg;
    qn_graph_run(job->graph, job->step, m);
}

quern_status quern_engine_step(quern_engine *e, const quern_step_item *items, size_t n_items, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_rows = 0, row = 0, n_logits = 0;
    QN_TRY(check_step(e, items, n_items, &n_rows, err));
    if (n_rows == 0) {
        return QUERN_OK;
    }
    for (size_t i = 0; i < n_items; i++) {
        quern_sequence *s = items[i].sequence;
        qn_sequence_extend(s, items[i].n_ids);
        for (size_t k = 0; k < items[i].n_ids; k++, row++) {
            e->ids[row] = items[i].ids[k];
            e->positions[row] = s->n_tokens + k;
            for (size_t layer = 0; layer < e->pool.n_layers; layer++) {
                e->views[layer][row] = &s->views[layer];
            }
        }
        for (size_t k = 0; k < items[i].n_logits; k++, n_logits++) {
            e->logit_rows[n_logits] = row - items[i].n_logits + k;
            e->logit_pointers[n_logits] = items[i].logits + k * e->model->config.n_vocab;
        }
    }
    const qn_graph_step step = {.n_rows = n_rows,
                                .ids = e->ids,
                                .position = e->positions,
                                .view = (const qn_kv_view *const *const *)e->views,
                                .n_logit_rows = n_logits,
                                .logit_rows = e->logit_rows,
                                .logits = e->logit_pointers};
    step_job job = {.graph = &e->graph, .step = &step};
    e->backend->run(e->backend, run_step, &job);
    for (size_t i = 0; i < n_items; i++) {
        quern_sequence *s = items[i].sequence;
        memcpy(s->ids + s->n_tokens, items[i].ids, items[i].n_ids * sizeof *s->ids);
        s->n_tokens += items[i].n_ids;
    }
done:
    return status;
}
