/* kv_pool.c - pages with counts and a free list. */
#include "engine/kv_pool.h"

#include <string.h>

static size_t part_bytes(const qn_model_config *c, qn_kv_format format)
{
    return qn_align_up((size_t)c->n_kv_heads * QN_KV_PAGE * qn_kv_row_bytes(format, c->head_dim), 64);
}

size_t qn_kv_page_bytes(const qn_model_config *c, qn_kv_format format) { return part_bytes(c, format) * 2 * c->n_layers; }

quern_status qn_kv_pool_init(qn_kv_pool *p, const qn_model_config *c, qn_kv_format format, size_t n_pages, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t total;
    *p = (qn_kv_pool){.format = format,
                      .n_pages = n_pages,
                      .n_free = n_pages,
                      .part_bytes = part_bytes(c, format),
                      .page_bytes = qn_kv_page_bytes(c, format),
                      .n_layers = c->n_layers};
    if (n_pages == 0 || n_pages > UINT32_MAX || !qn_size_mul(n_pages, p->page_bytes, &total)) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "a KV cache of %zu pages of %zu bytes does not fit this machine's address space", n_pages,
                p->page_bytes);
    }
    p->memory = qn_malloc_pages(total);
    p->counts = qn_calloc(n_pages, sizeof *p->counts);
    p->free_list = qn_malloc_array(n_pages, sizeof *p->free_list);
    if (p->memory == NULL || p->counts == NULL || p->free_list == NULL) {
        QN_FAIL_MEMORY(err, "the KV cache", total);
    }
    for (size_t i = 0; i < n_pages; i++) {
        p->free_list[i] = (uint32_t)(n_pages - 1 - i); /* page 0 is taken first */
    }
done:
    if (status != QUERN_OK) {
        qn_kv_pool_deinit(p);
    }
    return status;
}

void qn_kv_pool_deinit(qn_kv_pool *p)
{
    qn_free_aligned(p->memory);
    qn_free(p->counts);
    qn_free(p->free_list);
    *p = (qn_kv_pool){0};
}

uint32_t qn_kv_pool_take(qn_kv_pool *p)
{
    uint32_t page = p->free_list[--p->n_free];
    p->counts[page] = 1;
    return page;
}

void qn_kv_pool_share(qn_kv_pool *p, uint32_t page) { p->counts[page]++; }

void qn_kv_pool_release(qn_kv_pool *p, uint32_t page)
{
    if (--p->counts[page] == 0) {
        p->free_list[p->n_free++] = page;
    }
}

void qn_kv_pool_copy(qn_kv_pool *p, uint32_t to, uint32_t from)
{
    memcpy(p->memory + (size_t)to * p->page_bytes, p->memory + (size_t)from * p->page_bytes, p->page_bytes);
}

uint8_t *qn_kv_pool_part(const qn_kv_pool *p, uint32_t page, size_t layer)
{
    return p->memory + (size_t)page * p->page_bytes + layer * 2 * p->part_bytes;
}
