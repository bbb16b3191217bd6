/* shard.c - cutting heads and inner rows evenly over ranks. */
#include "model/shard.h"

#include <string.h>

static quern_status cut(qn_shard shard, uint32_t n, const char *what, uint32_t *part, quern_error *err)
{
    if (shard.world == 0 || shard.rank >= shard.world || n % shard.world != 0) {
        return qn_error_set(err, QUERN_ERROR_UNSUPPORTED, "%u %s cannot be cut into %u equal parts (rank %u)", n, what, shard.world,
                            shard.rank);
    }
    *part = n / shard.world;
    return QUERN_OK;
}

/* Whole rows: the rank's share is one span of the matrix. */
static qn_matrix rows_of(qn_shard shard, const qn_matrix *w)
{
    qn_matrix part = *w;
    size_t first = w->n_rows / shard.world * shard.rank;
    if (w->data != NULL) {
        part.data += first * w->row_bytes;
    }
    if (w->scales != NULL) {
        size_t row = w->n_cols / w->affine.group * qn_dtype_get(w->affine_dtype)->block_bytes;
        part.scales += first * row;
        part.biases += first * row;
    }
    part.grid_row += first;
    part.n_rows = w->n_rows / shard.world;
    return part;
}

/* The same columns of every row: rows keep their distance, row_bytes, and get shorter. */
static quern_status columns_of(qn_shard shard, const qn_matrix *w, const char *what, qn_matrix *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t bytes;
    *out = *w;
    if (shard.world == 1 || w->data == NULL) {
        return QUERN_OK;
    }
    out->n_cols = w->n_cols / shard.world;
    if (w->scales != NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: MLX groups cannot be cut into columns", what);
    }
    if (w->n_cols % shard.world != 0 || !qn_dtype_row_bytes(w->dtype, out->n_cols, &bytes)) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: %zu columns of %s cannot be cut into %u parts of whole blocks", what, w->n_cols,
                qn_dtype_get(w->dtype)->name, shard.world);
    }
    if (w->grid.n_across > 1 && out->n_cols % w->grid.cols != 0) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: %zu columns under scales for %u cannot be cut into %u parts of whole blocks", what,
                w->n_cols, w->grid.cols, shard.world);
    }
    out->data += bytes * shard.rank;
    if (w->grid.n_across > 1) {
        out->grid.values += out->n_cols / w->grid.cols * shard.rank;
    }
done:
    return status;
}

static void cut_rows(qn_shard shard, qn_linear *l)
{
    size_t n = l->w.n_rows / shard.world;
    l->w = rows_of(shard, &l->w);
    l->bias = l->bias != NULL ? l->bias + n * shard.rank : NULL;
}

/* One rank adds the bias. */
static quern_status cut_columns(qn_shard shard, qn_linear *l, const char *what, quern_error *err)
{
    const qn_matrix whole = l->w;
    l->bias = shard.rank == 0 ? l->bias : NULL;
    return columns_of(shard, &whole, what, &l->w, err);
}

static quern_status cut_experts(qn_shard shard, uint32_t n, qn_layer_weights *l, qn_arena *arena, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_matrix *parts = qn_arena_alloc_array(arena, (size_t)n * 3, sizeof *parts);
    if (parts == NULL) {
        QN_FAIL_MEMORY(err, "a rank's experts", (size_t)n * 3 * sizeof *parts);
    }
    for (uint32_t i = 0; i < n; i++) {
        parts[i] = rows_of(shard, &l->expert_gate[i]);
        parts[n + i] = rows_of(shard, &l->expert_up[i]);
        QN_TRY(columns_of(shard, &l->expert_down[i], "an expert's down projection", &parts[2 * (size_t)n + i], err));
    }
    l->expert_gate = parts;
    l->expert_up = parts + n;
    l->expert_down = parts + 2 * (size_t)n;
done:
    return status;
}

quern_status qn_shard_model(qn_shard shard, const qn_model_config *config, const qn_weights *weights, qn_arena *arena,
                            qn_model_config *part_config, qn_weights *part, quern_error *err)
{
    quern_status status = QUERN_OK;
    *part_config = *config;
    *part = *weights;
    QN_TRY(cut(shard, config->n_heads, "heads", &part_config->n_heads, err));
    QN_TRY(cut(shard, config->n_kv_heads, "key/value heads", &part_config->n_kv_heads, err));
    QN_TRY(cut(shard, config->ffn_size, "feed-forward rows", &part_config->ffn_size, err));
    QN_TRY(cut(shard, config->expert_ffn_size, "rows of an expert", &part_config->expert_ffn_size, err));
    part->layers = qn_arena_alloc_array(arena, config->n_layers, sizeof *part->layers);
    if (part->layers == NULL) {
        QN_FAIL_MEMORY(err, "a rank's layers", config->n_layers * sizeof *part->layers);
    }
    memcpy(part->layers, weights->layers, config->n_layers * sizeof *part->layers);
    for (uint32_t i = 0; i < config->n_layers; i++) {
        qn_layer_weights *l = &part->layers[i];
        cut_rows(shard, &l->q);
        cut_rows(shard, &l->k);
        cut_rows(shard, &l->v);
        cut_rows(shard, &l->gate);
        cut_rows(shard, &l->up);
        QN_TRY(cut_columns(shard, &l->o, "the attention output", err));
        QN_TRY(cut_columns(shard, &l->down, "the down projection", err));
        if (l->expert_gate != NULL && shard.world > 1) {
            QN_TRY(cut_experts(shard, config->n_experts, l, arena, err));
        }
    }
done:
    return status;
}
