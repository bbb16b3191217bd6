/* sequence.c - one timeline: which pages hold its positions. Shares pages on fork, copies on write. */
#include <string.h>

#include "engine/engine_int.h"

static size_t pages_for(size_t n_tokens) { return (n_tokens + QN_KV_PAGE - 1) / QN_KV_PAGE; }

/* Points the tables of every layer at page number i of the sequence. */
static void set_page(quern_sequence *s, size_t i, uint32_t page)
{
    const qn_kv_pool *p = &s->engine->pool;
    s->pages[i] = page;
    for (size_t layer = 0; layer < p->n_layers; layer++) {
        const uint8_t *k = qn_kv_pool_part(p, page, layer);
        s->k_pages[layer * p->n_pages + i] = k;
        s->v_pages[layer * p->n_pages + i] = k + p->part_bytes;
    }
}

/* True if the next token goes into a page that another sequence reads too. */
static bool last_page_is_shared(const quern_sequence *s)
{
    return s->n_tokens % QN_KV_PAGE != 0 && s->engine->pool.counts[s->pages[s->n_pages - 1]] > 1;
}

size_t qn_sequence_plan_begin(quern_sequence *s, size_t n)
{
    size_t wanted = pages_for(s->n_tokens + n) - s->n_pages;
    if (last_page_is_shared(s)) {
        s->engine->pool.counts[s->pages[s->n_pages - 1]]--;
        s->copies_page = true;
        wanted++;
    }
    return wanted;
}

void qn_sequence_plan_end(quern_sequence *s)
{
    if (s->copies_page) {
        s->engine->pool.counts[s->pages[s->n_pages - 1]]++;
        s->copies_page = false;
    }
}

void qn_sequence_extend(quern_sequence *s, size_t n)
{
    qn_kv_pool *p = &s->engine->pool;
    if (n > 0 && last_page_is_shared(s)) {
        uint32_t old = s->pages[s->n_pages - 1], own = qn_kv_pool_take(p);
        qn_kv_pool_copy(p, own, old);
        qn_kv_pool_release(p, old);
        set_page(s, s->n_pages - 1, own);
    }
    while (s->n_pages < pages_for(s->n_tokens + n)) {
        set_page(s, s->n_pages, qn_kv_pool_take(p));
        s->n_pages++;
    }
}

/* Here, not in engine.c: engines know sequences, sequences only the engine's data. */
void qn_engine_free_if_unused(quern_engine *e)
{
    if (!e->is_destroyed || e->n_sequences > 0) {
        return;
    }
    qn_numa_forget(e->numa, e->pool.memory, e->pool.n_pages * e->pool.page_bytes);
    qn_kv_pool_deinit(&e->pool);
    qn_numa_destroy(e->numa);
    qn_arena_deinit(&e->arena);
    qn_free(e);
}

quern_status quern_sequence_create(quern_sequence **out, quern_engine *e, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &e->config;
    size_t n = e->pool.n_pages, layers = c->n_layers;
    quern_sequence *s = qn_calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL) {
        QN_FAIL_MEMORY(err, "a sequence", sizeof *s);
    }
    s->engine = e;
    e->n_sequences++;
    s->ids = qn_malloc_array(e->info.n_ctx, sizeof *s->ids);
    s->pages = qn_malloc_array(n, sizeof *s->pages);
    s->k_pages = qn_malloc_array(n * layers, sizeof *s->k_pages);
    s->v_pages = qn_malloc_array(n * layers, sizeof *s->v_pages);
    s->views = qn_calloc(layers, sizeof *s->views);
    if (s->ids == NULL || s->pages == NULL || s->k_pages == NULL || s->v_pages == NULL || s->views == NULL) {
        QN_FAIL_MEMORY(err, "a sequence", n * layers * 2 * sizeof *s->k_pages);
    }
    for (size_t layer = 0; layer < layers; layer++) {
        s->views[layer] = (qn_kv_view){.format = e->pool.format,
                                       .k_pages = s->k_pages + layer * n,
                                       .v_pages = s->v_pages + layer * n,
                                       .n_kv_heads = c->n_kv_heads,
                                       .head_dim = c->head_dim};
    }
    *out = s;
    s = NULL;
done:
    quern_sequence_destroy(s);
    return status;
}

quern_status quern_sequence_fork(quern_sequence **out, const quern_sequence *from, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_sequence *s;
    *out = NULL;
    QN_TRY(quern_sequence_create(&s, from->engine, err));
    s->n_tokens = from->n_tokens;
    memcpy(s->ids, from->ids, from->n_tokens * sizeof *s->ids);
    s->n_pages = from->n_pages;
    for (size_t i = 0; i < from->n_pages; i++) {
        qn_kv_pool_share(&s->engine->pool, from->pages[i]);
        set_page(s, i, from->pages[i]);
    }
    *out = s;
done:
    return status;
}

void quern_sequence_destroy(quern_sequence *s)
{
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->n_pages; i++) {
        qn_kv_pool_release(&s->engine->pool, s->pages[i]);
    }
    quern_engine *e = s->engine;
    qn_free(s->ids);
    qn_free(s->pages);
    qn_free(s->k_pages);
    qn_free(s->v_pages);
    qn_free(s->views);
    qn_free(s);
    e->n_sequences--;
    qn_engine_free_if_unused(e);
}

size_t quern_sequence_n_tokens(const quern_sequence *s) { return s->n_tokens; }

quern_status quern_sequence_truncate(quern_sequence *s, size_t n, quern_error *err)
{
    if (n > s->n_tokens) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "cannot truncate a sequence of %zu tokens to %zu", s->n_tokens, n);
    }
    while (s->n_pages > pages_for(n)) {
        qn_kv_pool_release(&s->engine->pool, s->pages[--s->n_pages]);
    }
    s->n_tokens = n;
    return QUERN_OK;
}
