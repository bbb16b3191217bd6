/* kv_pool.h - the pages that hold keys and values of all sequences of an engine.
 *
 * A page holds 64 positions of every layer:
 *
 *   | layer 0: K | layer 0: V | layer 1: K | layer 1: V | ...      K and V parts as kernels/ops.h draws them
 *
 * Pages are counted: a fork shares them, a writer that shares copies first. One thread at a time. */
#ifndef QN_ENGINE_KV_POOL_H
#define QN_ENGINE_KV_POOL_H

#include "base/error.h"
#include "kernels/ops.h"
#include "model/config.h"

typedef struct qn_kv_pool {
    qn_kv_format format;
    size_t n_pages, n_free;
    size_t part_bytes; /* K (or V) of one layer in one page */
    size_t page_bytes;
    size_t n_layers;
    uint8_t *memory;     /* (n_pages, page_bytes) */
    uint32_t *counts;    /* (n_pages): sequences that hold the page */
    uint32_t *free_list; /* (n_free) */
} qn_kv_pool;

size_t qn_kv_page_bytes(const qn_model_config *c, qn_kv_format format);
quern_status qn_kv_pool_init(qn_kv_pool *p, const qn_model_config *c, qn_kv_format format, size_t n_pages, quern_error *err);
void qn_kv_pool_deinit(qn_kv_pool *p);

/* Takes a free page with count 1; the caller has checked n_free. */
uint32_t qn_kv_pool_take(qn_kv_pool *p);
void qn_kv_pool_share(qn_kv_pool *p, uint32_t page);
void qn_kv_pool_release(qn_kv_pool *p, uint32_t page);
void qn_kv_pool_copy(qn_kv_pool *p, uint32_t to, uint32_t from);
/* The K part of a layer in a page; V follows at part_bytes. */
uint8_t *qn_kv_pool_part(const qn_kv_pool *p, uint32_t page, size_t layer);

#endif
