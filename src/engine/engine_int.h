/* engine_int.h - what an engine and a sequence are made of; for src/engine and src/measure only. */
#ifndef QN_ENGINE_ENGINE_INT_H
#define QN_ENGINE_ENGINE_INT_H

#include "engine/kv_pool.h"
#include "model/graph.h"
#include "model/model_int.h"
#include "quern/engine.h"

struct quern_engine {
    const quern_model *model;
    qn_arena arena;              /* everything below that is an array */
    qn_backend *backend;
    qn_rope rope;
    qn_graph graph;
    qn_kv_pool pool;
    quern_engine_info info;
    size_t n_sequences;          /* alive; they must be destroyed before the engine */
    /* one step's tables, for n_batch rows */
    int32_t *ids;
    size_t *positions;
    const qn_kv_view ***views;   /* [layer][row] */
    size_t *logit_rows;
    float **logit_pointers;
    float *logits;               /* (n_vocab): for quern_generate */
};

struct quern_sequence {
    quern_engine *engine;
    size_t n_tokens;
    size_t n_pages;
    uint32_t *pages;             /* (pool.n_pages) */
    const void **k_pages;        /* [layer][pool.n_pages] */
    const void **v_pages;
    qn_kv_view *views;           /* [layer] */
    bool in_step;                /* guards against the same sequence twice in a step */
};

/* Pages that appending n tokens needs beyond those the sequence may write. */
size_t qn_sequence_pages_wanted(const quern_sequence *s, size_t n);
/* Makes positions [n_tokens, n_tokens + n) writable; the pool has enough free pages. */
void qn_sequence_extend(quern_sequence *s, size_t n);

#endif
