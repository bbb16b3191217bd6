/* engine_int.h - what an engine and a sequence are made of; for src/engine and src/measure only. */
#ifndef QN_ENGINE_ENGINE_INT_H
#define QN_ENGINE_ENGINE_INT_H

#include "engine/kv_pool.h"
#include "engine/speculate.h"
#include "model/graph.h"
#include "model/model_int.h"
#include "model/shard.h"
#include "quern/engine.h"

struct quern_engine {
    const quern_model *model;
    qn_arena arena; /* everything below that is an array */
    qn_numa *numa;  /* NULL: one memory */
    qn_backend *backend;
    qn_rope rope;
    qn_model_config config; /* this rank's part of the model (model/shard.h); the only rank holds all of it */
    qn_weights weights;
    qn_graph graph;
    qn_kv_pool pool;
    quern_engine_info info;
    size_t n_sequences; /* alive: the last of them frees a destroyed engine */
    bool is_destroyed;
    /* one step's tables, for n_batch rows */
    int32_t *ids;
    size_t *positions;
    const qn_kv_view ***views; /* [layer][row] */
    size_t *logit_rows;
    float **logit_pointers;
    float *logits; /* (n_vocab): for quern_generate */
    qn_speculation_record speculation;
};

struct quern_sequence {
    quern_engine *engine;
    size_t n_tokens;
    int32_t *ids; /* (n_ctx), n_tokens of them: what stands in it */
    size_t n_pages;
    uint32_t *pages;      /* (pool.n_pages) */
    const void **k_pages; /* [layer][pool.n_pages] */
    const void **v_pages;
    qn_kv_view *views; /* [layer] */
    bool copies_page;  /* between plan_begin and plan_end: the last page would be copied */
    bool in_step;      /* guards against the same sequence twice in a step */
};

/* By name; NULL: what QUERN_ISA says, or the best of this machine. Refuses what is no name, and sets that this machine lacks. */
quern_status qn_engine_choose_isa(const char *name, qn_isa *out, quern_error *err);

/* An engine that holds one rank's part of the model; its group runs the same steps with the same n_logits at the same time. comm must outlive it. */
quern_status qn_engine_create_rank(quern_engine **out, const quern_model *m, const quern_engine_options *opt, qn_shard shard,
                                   const qn_comm *comm, quern_error *err);

/* Frees an engine that was destroyed, once its last sequence is gone. */
void qn_engine_free_if_unused(quern_engine *e);

/* Pages that appending n tokens needs beyond those the sequence may write. Until plan_end a page that the sequence would copy counts as given
 * back, so that of two forks in one step only the first asks for a copy. */
size_t qn_sequence_plan_begin(quern_sequence *s, size_t n);
void qn_sequence_plan_end(quern_sequence *s);
/* Makes positions [n_tokens, n_tokens + n) writable; the pool has enough free pages. */
void qn_sequence_extend(quern_sequence *s, size_t n);

#endif
