/* read_in.c - mapped weights into memory before the first step. */
#include "base/clock.h"
#include "base/memory_info.h"
#include "base/page_cache.h"
#include "model/model_int.h"

typedef struct watcher {
    quern_progress_callback on_progress;
    void *user;
    uint64_t total;
} watcher;

static bool on_pages(void *user, uint64_t done)
{
    const watcher *w = user;
    return w->on_progress == NULL || w->on_progress(w->user, (size_t)done, (size_t)w->total);
}

/* A growing list; `failed` once memory ran out. */
typedef struct span_list {
    qn_pages *items;
    size_t n, cap;
    bool failed;
} span_list;

static void add_span(span_list *l, const void *data, size_t size)
{
    if (l->n == l->cap) {
        size_t cap = l->cap > 0 ? 2 * l->cap : 256;
        qn_pages *items = qn_realloc_array(l->items, cap, sizeof *items);
        l->failed = l->failed || items == NULL;
        if (l->failed) {
            return;
        }
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = (qn_pages){data, size};
}

static void add_matrix(span_list *l, const qn_matrix *w)
{
    if (w->data == NULL) {
        return;
    }
    add_span(l, w->data, w->n_rows * w->row_bytes);
    if (w->dtype == QN_DTYPE_MLX_AFFINE) {
        size_t bytes = w->n_rows * (w->n_cols / w->affine.group) * (w->affine_dtype == QN_DTYPE_F32 ? 4 : 2);
        add_span(l, w->scales, bytes);
        add_span(l, w->biases, bytes);
    }
}

/* What steps read: matrices, in the order of a step. Vectors were copied when they were bound, and so were types that a kernel does not take as they
 * are: what the file has of those need not come back. */
static void list_weights(const quern_model *m, span_list *l)
{
    const qn_weights *w = &m->weights;
    add_matrix(l, &w->embedding);
    for (uint32_t i = 0; i < m->config.n_layers; i++) {
        const qn_layer_weights *layer = &w->layers[i];
        const qn_linear *const linear[] = {&layer->q,    &layer->k,  &layer->v,    &layer->o,
                                           &layer->gate, &layer->up, &layer->down, &layer->router};
        for (size_t k = 0; k < sizeof linear / sizeof linear[0]; k++) {
            add_matrix(l, &linear[k]->w);
        }
        for (uint32_t e = 0; layer->expert_gate != NULL && e < m->config.n_experts; e++) {
            add_matrix(l, &layer->expert_gate[e]);
            add_matrix(l, &layer->expert_up[e]);
            add_matrix(l, &layer->expert_down[e]);
        }
    }
    if (w->output.w.data != w->embedding.data) {
        add_matrix(l, &w->output.w);
    }
}

quern_status quern_model_read_in(const quern_model *m, size_t n_threads, quern_progress_callback on_progress, void *user,
                                 quern_read_in *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_read_in result = {0};
    span_list list = {0};
    qn_numa *numa = NULL;
    const uint64_t begin = qn_clock_ns();
    if (!m->has_weights) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "%s was opened without weights", m->info.path);
    }
    QN_TRY(qn_numa_detect(&numa, QN_NUMA_NODES, err));
    if (n_threads != 0 && n_threads < qn_numa_n_nodes(numa)) { /* nobody will be bound to a node (qn_pool_create_on) */
        qn_numa_destroy(numa);
        numa = NULL;
    }
    if (!m->is_copied || numa != NULL) { /* what was copied is there, but not by nodes */
        list_weights(m, &list);
    }
    if (list.failed) {
        QN_FAIL_MEMORY(err, "the list of weights", 2 * list.cap * sizeof *list.items);
    }
    for (size_t i = 0; i < list.n; i++) {
        result.bytes += list.items[i].size;
    }
    result.cold_bytes = qn_pages_cold_bytes(list.items, list.n);
    result.skipped = result.cold_bytes > qn_memory_info_get().available_bytes;
    if (!result.skipped && list.n > 0) {
        watcher w = {on_progress, user, result.bytes};
        status = qn_pages_read_in(list.items, list.n, numa, on_pages, &w, &result.moved_bytes, err);
        if (status != QUERN_OK) {
            qn_error_prefix(err, "%s", m->info.path);
        }
    }
    result.seconds = qn_clock_seconds(begin, qn_clock_ns());
done:
    if (out != NULL) {
        *out = result;
    }
    qn_free(list.items);
    qn_numa_destroy(numa);
    return status;
}
