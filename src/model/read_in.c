/* read_in.c - what is read of weights: the little that binding needs, then all of them before the first step; and what that took. */
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

/* ---- while weights are bound ---- */

static size_t n_files(const quern_model *m)
{
    return m->gguf != NULL ? qn_gguf_n_files(m->gguf) : m->safetensors != NULL ? qn_safetensors_n_files(m->safetensors) : 0;
}

static const qn_mapping *mapping_at(const quern_model *m, size_t i)
{
    return m->gguf != NULL ? qn_gguf_file_mapping(m->gguf, i) : qn_safetensors_file_mapping(m->safetensors, i);
}

/* Where the pages of a file are not told and not let go, small ones that came alone would stay in the way of huge ones: there a vector may bring in
 * what lies around it. */
static bool has_known_pages(const quern_model *m, size_t file)
{
    const qn_mapping *bytes = mapping_at(m, file);
    return bytes != NULL && bytes->pages_known;
}

void qn_model_fetch_vectors(const quern_model *m)
{
    enum { VECTOR_BYTES_MAX = 1 << 20, GRID_BYTES_MAX = 64 << 10 }; /* what is larger may as well be read as it is touched */
    for (size_t i = 0; i < qn_model_n_tensors(m); i++) {
        const qn_tensor *t = qn_model_tensor_at(m, i);
        const size_t most = t->n_dims <= 1 ? VECTOR_BYTES_MAX : qn_model_is_fp8(m) ? GRID_BYTES_MAX : 0;
        if (t->n_bytes <= most && has_known_pages(m, t->file_index)) {
            qn_pages_fetch(t->data, t->n_bytes);
        }
    }
}

/* Of all mapped files. */
static uint64_t cold_bytes(const quern_model *m)
{
    uint64_t cold = 0;
    for (size_t i = 0; i < n_files(m); i++) {
        const qn_mapping *bytes = mapping_at(m, i);
        cold += bytes != NULL && !bytes->in_memory ? qn_pages_cold_bytes(&(qn_pages){bytes->data, bytes->size}, 1) : 0;
    }
    return cold;
}

void qn_model_settle(quern_model *m)
{
    if (m->has_read) { /* tensors share huge pages: what came with each cannot be told apart */
        const uint64_t left = cold_bytes(m);
        m->read.cold_bytes = m->read.cold_bytes > left ? m->read.cold_bytes - left : 0;
    }
    for (size_t i = 0; i < n_files(m); i++) {
        if (has_known_pages(m, i)) {
            qn_pages_settle(mapping_at(m, i)->data, mapping_at(m, i)->size);
        }
    }
}

quern_status qn_model_read_tensor(quern_model *m, const qn_tensor *t, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_mapping *bytes = mapping_at(m, t->file_index);
    const qn_pages span = {t->data, t->n_bytes};
    if (bytes != NULL && !bytes->in_memory && qn_pages_cold_bytes(&span, 1) > 0) {
        if (!m->has_read) {
            m->has_read = true;
            m->read.cold_bytes = cold_bytes(m);
        }
        const uint64_t begin = qn_clock_ns();
        QN_TRY(qn_pages_read_in(&span, 1, NULL, NULL, NULL, NULL, err));
        m->read.seconds += qn_clock_seconds(begin, qn_clock_ns());
    }
done:
    if (status != QUERN_OK) {
        qn_error_prefix(err, "%s: tensor %s", m->gguf != NULL ? qn_gguf_path(m->gguf) : qn_safetensors_path(m->safetensors), t->name);
    }
    return status;
}

/* ---- before the first step ---- */

static void add_cost(quern_read_in *to, const qn_read_cost *cost)
{
    to->bytes += cost->bytes;
    to->cold_bytes += cost->cold_bytes;
    to->seconds += cost->seconds;
}

/* What was read when the model was opened. */
static void add_opening(quern_read_in *to, const quern_model *m)
{
    if (!m->is_copied) {
        add_cost(to, &m->read);
    }
    for (size_t i = 0; i < n_files(m); i++) {
        if (mapping_at(m, i) != NULL) {
            add_cost(to, &mapping_at(m, i)->cost);
        }
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
    uint64_t total = 0;
    for (size_t i = 0; i < list.n; i++) {
        total += list.items[i].size;
    }
    result.cold_bytes = qn_pages_cold_bytes(list.items, list.n);
    result.skipped = result.cold_bytes > qn_memory_info_get().available_bytes;
    if (!result.skipped && list.n > 0) {
        watcher w = {on_progress, user, total};
        status = qn_pages_read_in(list.items, list.n, numa, on_pages, &w, &result.moved_bytes, err);
        if (status != QUERN_OK) {
            qn_error_prefix(err, "%s", m->info.path);
        }
    }
    result.bytes = m->is_copied ? 0 : total; /* copies are counted as they were read */
    result.seconds = qn_clock_seconds(begin, qn_clock_ns());
    add_opening(&result, m);
done:
    if (out != NULL) {
        *out = result;
    }
    qn_free(list.items);
    qn_numa_destroy(numa);
    return status;
}
