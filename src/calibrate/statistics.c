/* statistics.c - runs a text through a model whose backend is observed. See statistics.h. */
#include "calibrate/statistics.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/human_number.h"
#include "calibrate/observer.h"
#include "engine/engine_int.h"

enum { CHUNK_TOKENS = 512 };

/* Most bytes of logits; they are never written (the head's product is left out), but the rows have their place. */
enum { LOGITS_BYTES_MAX = 64 << 20 };

typedef struct collection {
    const quern_model *model;
    const qn_statistics_options *opt;
    qn_statistics *stats;
    quern_engine *engine;
    quern_sequence *sequence;
    qn_observer observer;
    quern_ids ids;
    int32_t *chunk; /* one chunk, its first token BOS where the model wants that */
    float *logits;
    size_t logit_rows, widest;
} collection;

const qn_site_stats *qn_statistics_get(const qn_statistics *s, uint32_t layer, qn_site site)
{
    return &s->sites[site == QN_SITE_HEAD ? (size_t)s->n_layers * QN_SITE_COUNT : (size_t)layer * QN_SITE_COUNT + (size_t)site];
}

void qn_statistics_deinit(qn_statistics *s)
{
    for (size_t i = 0; s->sites != NULL && i <= (size_t)s->n_layers * QN_SITE_COUNT; i++) {
        qn_free_aligned(s->sites[i].moments);
    }
    qn_arena_deinit(&s->arena);
    memset(s, 0, sizeof *s);
}

/* ---- the sites ---- */

static void set_shape(qn_statistics *s, uint32_t layer, qn_site site, size_t n_cols, size_t n_parts)
{
    qn_site_stats *stats = &s->sites[(size_t)layer * QN_SITE_COUNT + (size_t)site];
    stats->n_cols = n_cols;
    stats->n_parts = n_parts;
}

static quern_status make_sites(qn_statistics *s, const qn_model_config *c, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_sites = (size_t)c->n_layers * QN_SITE_COUNT + 1;
    s->n_layers = c->n_layers;
    s->sites = qn_arena_alloc_array(&s->arena, n_sites, sizeof *s->sites);
    if (s->sites == NULL) {
        QN_FAIL_MEMORY(err, "statistics", n_sites * sizeof *s->sites);
    }
    for (uint32_t i = 0; i < c->n_layers; i++) {
        set_shape(s, i, QN_SITE_ATTN_IN, c->hidden_size, 1);
        set_shape(s, i, QN_SITE_ATTN_OUT, (size_t)c->n_heads * c->head_dim, 1);
        set_shape(s, i, QN_SITE_FFN_IN, c->hidden_size, 1);
        if (c->layers[i].experts) {
            set_shape(s, i, QN_SITE_EXPERT_IN, c->hidden_size, c->n_experts);
            set_shape(s, i, QN_SITE_EXPERT_MID, c->expert_ffn_size, c->n_experts);
        } else {
            set_shape(s, i, QN_SITE_FFN_OUT, c->ffn_size, 1);
        }
    }
    s->sites[n_sites - 1] = (qn_site_stats){.n_cols = c->hidden_size, .n_parts = 1};
    for (size_t i = 0; i < n_sites; i++) {
        qn_site_stats *site = &s->sites[i];
        size_t n;
        if (!qn_size_mul(site->n_cols, site->n_parts, &n)) {
            QN_FAIL_MEMORY(err, "statistics", SIZE_MAX);
        }
        site->square_sums = qn_arena_alloc_array(&s->arena, n, sizeof *site->square_sums);
        site->n_rows = qn_arena_alloc_array(&s->arena, site->n_parts, sizeof *site->n_rows);
        if (site->square_sums == NULL || site->n_rows == NULL) {
            QN_FAIL_MEMORY(err, "statistics", n * sizeof *site->square_sums);
        }
    }
done:
    return status;
}

/* Second moments where they are of use (not for experts, whose rows are few), narrow sites first, as long as they fit. */
static quern_status make_moments(qn_statistics *s, uint64_t budget, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_sites = (size_t)s->n_layers * QN_SITE_COUNT + 1, width = 0;
    for (;;) { /* the widths in rising order; there are a handful */
        size_t next = SIZE_MAX;
        for (size_t i = 0; i < n_sites; i++) {
            size_t n = s->sites[i].n_cols;
            next = s->sites[i].n_parts == 1 && n > width && n < next ? n : next;
        }
        if (next == SIZE_MAX) {
            break;
        }
        width = next;
        for (size_t i = 0; i < n_sites; i++) {
            qn_site_stats *site = &s->sites[i];
            size_t elements, bytes;
            if (site->n_parts != 1 || site->n_cols != width) {
                continue;
            }
            if (!qn_size_mul(width, width, &elements) || !qn_size_mul(elements, sizeof(float), &bytes) || bytes > budget) {
                s->n_without_moments++;
                continue;
            }
            site->moments = qn_malloc_aligned(bytes);
            if (site->moments == NULL) {
                QN_FAIL_MEMORY(err, "second moments", bytes);
            }
            memset(site->moments, 0, bytes);
            budget -= bytes;
        }
    }
done:
    return status;
}

/* ---- the engine ---- */

static quern_status check_memory(collection *c, const quern_engine_options *options, uint64_t own_bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_engine_plan plan;
    QN_TRY(quern_engine_make_plan(c->model, options, &plan, err));
    uint64_t needed = plan.total - plan.weights_mapped + own_bytes;
    if (needed > c->opt->memory_bytes) {
        qn_number a, b;
        QN_FAIL(err, QUERN_ERROR_LIMIT, "calibrating needs %s of memory beside the source's weights, the limit is %s",
                qn_format_bytes(a, needed), qn_format_bytes(b, c->opt->memory_bytes));
    }
done:
    return status;
}

static quern_status open_engine(collection *c, size_t chunk_tokens, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *config = &c->model->config;
    size_t row_bytes = (size_t)config->n_vocab * sizeof(float), moments = 0;
    size_t threads = c->opt->n_threads != 0 ? c->opt->n_threads : qn_cpu_usable_count();
    const quern_engine_options options = {.n_threads = threads,
                                          .n_ctx = chunk_tokens,
                                          .n_batch = chunk_tokens,
                                          .kv_type = QUERN_KV_F32,
                                          .arithmetic = QUERN_ARITHMETIC_F32_ACTIVATIONS};
    const size_t logits_max = c->opt->logits_bytes != 0 ? c->opt->logits_bytes : LOGITS_BYTES_MAX;
    c->logit_rows = row_bytes * chunk_tokens <= logits_max ? chunk_tokens : logits_max / row_bytes;
    c->logit_rows = c->logit_rows > 0 ? c->logit_rows : 1;
    for (size_t i = 0; i <= (size_t)c->stats->n_layers * QN_SITE_COUNT; i++) {
        const qn_site_stats *s = &c->stats->sites[i];
        if (s->moments != NULL) {
            moments += s->n_cols * s->n_cols * sizeof *s->moments;
            c->widest = s->n_cols > c->widest ? s->n_cols : c->widest;
        }
    }
    size_t transposed = qn_observer_transposed_bytes(c->widest, chunk_tokens), scratch = qn_observer_scratch_bytes(c->widest);
    size_t own = transposed + threads * scratch + c->logit_rows * row_bytes;
    QN_TRY(check_memory(c, &options, own + c->stats->arena.used_bytes + moments, err));
    QN_TRY(quern_engine_create(&c->engine, c->model, &options, err));
    qn_arena *arena = &c->engine->arena;
    qn_observer *o = &c->observer;
    o->weights = &c->engine->weights;
    o->stats = c->stats;
    o->products_bytes = qn_align_up(scratch - QN_MATMUL_SCRATCH_BYTES, 64);
    o->transposed = qn_arena_alloc_aligned(arena, transposed);
    o->scratch = qn_arena_alloc_array(arena, threads, sizeof *o->scratch);
    c->logits = qn_arena_alloc_aligned(arena, c->logit_rows * row_bytes);
    c->chunk = qn_arena_alloc_array(arena, chunk_tokens, sizeof *c->chunk);
    bool ok = o->transposed != NULL && o->scratch != NULL && c->logits != NULL && c->chunk != NULL;
    for (size_t i = 0; ok && i < threads; i++) {
        o->scratch[i] = qn_arena_alloc_aligned(arena, scratch);
        ok = o->scratch[i] != NULL;
    }
    if (!ok) {
        QN_FAIL_MEMORY(err, "calibration", own);
    }
    (void)qn_isa_from_name(c->engine->info.isa, &o->isa);
    qn_observer_init(o, c->engine->backend);
    c->engine->backend = &o->backend;
    c->engine->graph.backend = &o->backend;
    c->engine->graph.all_rows = true;
    QN_TRY(quern_sequence_create(&c->sequence, c->engine, err));
done:
    return status;
}

/* ---- the run ---- */

/* A sum that is not finite stays so. Asked after every chunk: a broken model costs one chunk and not the whole text. */
static quern_status check_finite(const collection *c, bool *overflowed, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_statistics *s = c->stats;
    for (size_t i = 0; i <= (size_t)s->n_layers * QN_SITE_COUNT; i++) {
        const qn_site_stats *site = &s->sites[i];
        for (size_t k = 0; k < site->n_cols * site->n_parts; k++) {
            *overflowed = !isfinite((float)site->square_sums[k]);
            if (*overflowed && i == (size_t)s->n_layers * QN_SITE_COUNT) {
                QN_FAIL(err, QUERN_ERROR_INVALID, "%s: activations overflow before the head", c->model->info.path);
            }
            if (*overflowed) {
                QN_FAIL(err, QUERN_ERROR_INVALID, "%s: activations overflow in layer %zu", c->model->info.path, i / QN_SITE_COUNT);
            }
        }
    }
done:
    return status;
}

static quern_status run_chunks(collection *c, bool *overflowed, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_statistics *s = c->stats;
    const quern_tokenizer_info *info = quern_tokenizer_get_info(c->model->tokenizer);
    size_t there = c->ids.len / s->chunk_tokens, total = s->n_chunks * s->chunk_tokens;
    for (size_t k = 0; k < s->n_chunks; k++) {
        memcpy(c->chunk, c->ids.data + k * there / s->n_chunks * s->chunk_tokens, s->chunk_tokens * sizeof *c->chunk);
        if (info->add_bos && info->bos_id >= 0) {
            c->chunk[0] = info->bos_id;
        }
        const quern_step_item item = {
            .sequence = c->sequence, .ids = c->chunk, .n_ids = s->chunk_tokens, .n_logits = c->logit_rows, .logits = c->logits};
        QN_TRY(quern_sequence_truncate(c->sequence, 0, err));
        QN_TRY(quern_engine_step(c->engine, &item, 1, err));
        QN_TRY(check_finite(c, overflowed, err));
        s->n_tokens += s->chunk_tokens;
        if (c->opt->on_progress != NULL && !c->opt->on_progress(c->opt->user, s->n_tokens, total)) {
            QN_FAIL(err, QUERN_ERROR_CANCELLED, "interrupted while calibrating");
        }
    }
done:
    return status;
}

quern_status qn_statistics_collect(qn_statistics *out, const quern_model *m, const char *text, size_t len, const qn_statistics_options *opt,
                                   quern_error *err)
{
    quern_status status = QUERN_OK;
    collection c = {.model = m, .opt = opt, .stats = out};
    bool overflowed = false;
    memset(out, 0, sizeof *out);
    qn_arena_init(&out->arena, 0);
    if (m->tokenizer == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: calibrating on a text needs a tokenizer", m->info.path);
    }
    QN_TRY(quern_tokenizer_encode(m->tokenizer, text, len, QUERN_ENCODE_PARSE_SPECIAL, &c.ids, err));
    out->chunk_tokens = m->config.n_ctx_train > 0 && m->config.n_ctx_train < CHUNK_TOKENS ? m->config.n_ctx_train : CHUNK_TOKENS;
    out->n_chunks = c.ids.len / out->chunk_tokens;
    if (out->n_chunks == 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s%sthe calibration text has %zu tokens; at least %zu are needed",
                opt->text_name != NULL ? opt->text_name : "", opt->text_name != NULL ? ": " : "", c.ids.len, out->chunk_tokens);
    }
    out->n_chunks = opt->max_chunks != 0 && opt->max_chunks < out->n_chunks ? opt->max_chunks : out->n_chunks;
    QN_TRY(make_sites(out, &m->config, err));
    QN_TRY(make_moments(out, opt->moments_bytes, err));
    QN_TRY(open_engine(&c, out->chunk_tokens, err));
    QN_TRY(run_chunks(&c, &overflowed, err));
done:
    quern_sequence_destroy(c.sequence);
    quern_engine_destroy(c.engine);
    quern_ids_deinit(&c.ids);
    if (status != QUERN_OK) {
        qn_statistics_deinit(out);
        out->overflowed = overflowed;
    }
    return status;
}
