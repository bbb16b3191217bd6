/* bind.c - tensors to their places. Knows the names of both worlds (Hugging Face and MLX share theirs; GGUF has its own).
 *
 * Owns no memory: matrices are views, vectors go to the model's arena. A tensor that is missing, has another shape, or holds a value that
 * is not finite where it is copied, is an error that names it; so is, in the end, a tensor that found no place. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "model/fp8.h"
#include "model/model_int.h"
#include "quant/codec.h"

/* A place in the architecture: its name in GGUF and in Hugging Face, without ".weight". */
typedef struct place {
    char gguf[64];
    char hf[96];
} place;

static place layer_place(uint32_t layer, const char *gguf, const char *hf)
{
    place p;
    (void)snprintf(p.gguf, sizeof p.gguf, "blk.%" PRIu32 ".%s", layer, gguf);
    (void)snprintf(p.hf, sizeof p.hf, "model.layers.%" PRIu32 ".%s", layer, hf);
    return p;
}

static place top_place(const char *gguf, const char *hf)
{
    place p;
    (void)snprintf(p.gguf, sizeof p.gguf, "%s", gguf);
    (void)snprintf(p.hf, sizeof p.hf, "%s", hf);
    return p;
}

static const char *shown_name(const quern_model *m, const place *p) { return m->gguf != NULL ? p->gguf : p->hf; }
static const char *source_path(const quern_model *m)
{
    return m->gguf != NULL ? qn_gguf_path(m->gguf) : qn_safetensors_path(m->safetensors);
}

const qn_tensor *qn_model_find_tensor(const quern_model *m, const char *gguf_name, const char *hf_name)
{
    return m->gguf != NULL ? qn_gguf_find_tensor(m->gguf, gguf_name) : qn_safetensors_find(m->safetensors, hf_name);
}

static const qn_tensor *find_part(const quern_model *m, const place *p, const char *suffix)
{
    char gguf[96], hf[128];
    (void)snprintf(gguf, sizeof gguf, "%s.%s", p->gguf, suffix);
    (void)snprintf(hf, sizeof hf, "%s.%s", p->hf, suffix);
    return qn_model_find_tensor(m, gguf, hf);
}

static quern_status fail_missing(const quern_model *m, const place *p, const char *suffix, quern_error *err)
{
    return qn_error_set(err, QUERN_ERROR_INVALID, "%s: tensor %s.%s is missing", source_path(m), shown_name(m, p), suffix);
}

size_t qn_model_n_tensors(const quern_model *m)
{
    return m->gguf != NULL ? qn_gguf_n_tensors(m->gguf) : qn_safetensors_n_tensors(m->safetensors);
}

const qn_tensor *qn_model_tensor_at(const quern_model *m, size_t i)
{
    return m->gguf != NULL ? qn_gguf_tensor_at(m->gguf, i) : qn_safetensors_tensor_at(m->safetensors, i);
}

static void note_place(const quern_model *m, const qn_tensor *t) { m->placed[t - qn_model_tensor_at(m, 0)] = true; }

/* Notes that a tensor has its place, and checks that it has the shape for it.
 * stack 0: a matrix (rows, cols), or with rows 0 a vector (cols); else (stack, rows, cols). */
static quern_status claim_tensor(const quern_model *m, const qn_tensor *t, uint64_t stack, uint64_t rows, uint64_t cols, quern_error *err)
{
    bool vector = rows == 0;
    uint32_t n_dims = vector ? 1 : stack > 0 ? 3 : 2;
    bool fits = t->n_dims == n_dims && t->shape[n_dims - 1] == cols && (vector || t->shape[n_dims - 2] == rows) &&
                (n_dims < 3 || t->shape[0] == stack);
    note_place(m, t);
    if (fits) {
        return QUERN_OK;
    }
    char want[64], have[96];
    if (vector) {
        (void)snprintf(want, sizeof want, "(%" PRIu64 ")", cols);
    } else if (stack > 0) {
        (void)snprintf(want, sizeof want, "(%" PRIu64 ", %" PRIu64 ", %" PRIu64 ")", stack, rows, cols);
    } else {
        (void)snprintf(want, sizeof want, "(%" PRIu64 ", %" PRIu64 ")", rows, cols);
    }
    size_t n = (size_t)snprintf(have, sizeof have, "(");
    for (uint32_t i = 0; i < t->n_dims && n < sizeof have; i++) {
        n += (size_t)snprintf(have + n, sizeof have - n, "%s%" PRIu64, i > 0 ? ", " : "", t->shape[i]);
    }
    return qn_error_set(err, QUERN_ERROR_INVALID, "%s: tensor %s has shape %s), expected %s from the configuration", source_path(m),
                        t->name, have, want);
}

/* Copies a vector of n float32 values; a missing one gives NULL if optional. */
static quern_status bind_vector(quern_model *m, const place *p, const char *suffix, uint64_t n, bool optional, const float **out,
                                quern_error *err)
{
    quern_status status = QUERN_OK;
    *out = NULL;
    const qn_tensor *t = find_part(m, p, suffix);
    if (t == NULL) {
        return optional ? QUERN_OK : fail_missing(m, p, suffix, err);
    }
    QN_TRY(claim_tensor(m, t, 0, 0, n, err));
    if (t->dtype != QN_DTYPE_F32 && t->dtype != QN_DTYPE_F16 && t->dtype != QN_DTYPE_BF16) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s has type %s, expected F32, F16 or BF16", source_path(m), t->name,
                qn_dtype_get(t->dtype)->name);
    }
    float *v = qn_arena_alloc_aligned(&m->arena, (size_t)n * sizeof *v);
    if (v == NULL) {
        QN_FAIL_MEMORY(err, t->name, n * sizeof *v);
    }
    qn_decode_row(t->dtype, t->data, v, (size_t)n);
    size_t bad = qn_find_non_finite(v, (size_t)n);
    if (bad < n) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s holds a value that is not finite at index %zu", source_path(m), t->name, bad);
    }
    *out = v;
done:
    return status;
}

/* MLX's mode mxfp4: codes and scales apart. They are copied into GGUF's blocks, for which there are kernels; what was mapped is let go. */
static quern_status bind_mxfp4(quern_model *m, const place *p, const qn_tensor *t, uint64_t stack, uint64_t rows, uint64_t cols,
                               qn_matrix *out, quern_error *err)
{
    enum { SCALE_FINITE = 252 }; /* 6 * 2^(252 - 127) is finite; beyond it depends on the codes, and 255 is no number */
    quern_status status = QUERN_OK;
    size_t row_bytes, bytes, n_rows = (size_t)(stack > 0 ? stack * rows : rows);
    if (cols % 32 != 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s: %" PRIu64 " columns are no multiple of the group size 32", source_path(m),
                t->name, cols);
    }
    QN_TRY(claim_tensor(m, t, stack, rows, cols / 8, err));
    const qn_tensor *scales = find_part(m, p, "scales");
    if (scales == NULL) {
        QN_TRY(fail_missing(m, p, "scales", err));
    }
    QN_TRY(claim_tensor(m, scales, stack, rows, cols / 32, err));
    if (scales->dtype != QN_DTYPE_U8) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s has type %s, expected U8", source_path(m), scales->name,
                qn_dtype_get(scales->dtype)->name);
    }
    if (!qn_dtype_row_bytes(QN_DTYPE_MXFP4, cols, &row_bytes) || !qn_size_mul(row_bytes, n_rows, &bytes)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s is too large", source_path(m), t->name);
    }
    QN_TRY(qn_model_read_tensor(m, t, err));
    QN_TRY(qn_model_read_tensor(m, scales, err));
    uint8_t *blocks = qn_arena_alloc_aligned(&m->arena, bytes);
    if (blocks == NULL) {
        QN_FAIL_MEMORY(err, t->name, bytes);
    }
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row_scales = scales->data + r * (size_t)(cols / 32);
        uint8_t *row = blocks + r * row_bytes;
        qn_mxfp4_row_to_blocks(t->data + r * (size_t)(cols / 2), row_scales, row, (size_t)cols);
        for (size_t k = 0; k < cols / 32; k++) {
            float values[32];
            if (row_scales[k] > SCALE_FINITE) {
                qn_decode_row(QN_DTYPE_MXFP4, row + k * (row_bytes / (size_t)(cols / 32)), values, 32);
            }
            if (row_scales[k] == 255 || (row_scales[k] > SCALE_FINITE && qn_find_non_finite(values, 32) < 32)) {
                QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s holds a value that is not finite at row %zu, column %zu", source_path(m),
                        t->name, r, 32 * k);
            }
        }
    }
    if (!m->is_copied) {
        qn_mapped_span_release(t->data, t->n_bytes);
        qn_mapped_span_release(scales->data, scales->n_bytes);
    }
    *out = (qn_matrix){.dtype = QN_DTYPE_MXFP4, .data = blocks, .row_bytes = row_bytes, .n_rows = (size_t)rows, .n_cols = (size_t)cols};
done:
    return status;
}

/* FP8: codes where the file has them, and their scales as float32. */
static quern_status bind_fp8(quern_model *m, const place *p, const qn_tensor *t, uint64_t rows, uint64_t cols, qn_matrix *out,
                             quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_tensor *inverse = find_part(m, p, "weight_scale_inv"), *scale = inverse != NULL ? inverse : find_part(m, p, "weight_scale");
    *out = (qn_matrix){.dtype = t->dtype, .data = t->data, .row_bytes = (size_t)cols, .n_rows = (size_t)rows, .n_cols = (size_t)cols};
    QN_TRY(qn_fp8_read_grid(&out->grid, &m->arena, &m->config, t, scale, source_path(m), err));
    note_place(m, scale);
done:
    return status;
}

/* MLX: packed words with scales and biases beside them. */
static quern_status bind_affine(quern_model *m, const place *p, const qn_tensor *t, uint64_t stack, uint64_t rows, uint64_t cols,
                                qn_matrix *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_affine a = qn_config_affine_for(&m->config, p->hf);
    if (a.bits == 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s is packed (U32), but config.json says %s is not quantized", source_path(m),
                t->name, p->hf);
    }
    if (cols % a.group != 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s: %" PRIu64 " columns are no multiple of the group size %u", source_path(m),
                t->name, cols, a.group);
    }
    QN_TRY(claim_tensor(m, t, stack, rows, cols * a.bits / 32, err));
    const qn_tensor *scales = find_part(m, p, "scales"), *biases = find_part(m, p, "biases");
    if (scales == NULL || biases == NULL) {
        QN_TRY(fail_missing(m, p, scales == NULL ? "scales" : "biases", err));
    }
    QN_TRY(claim_tensor(m, scales, stack, rows, cols / a.group, err));
    QN_TRY(claim_tensor(m, biases, stack, rows, cols / a.group, err));
    bool plain = scales->dtype == QN_DTYPE_F32 || scales->dtype == QN_DTYPE_F16 || scales->dtype == QN_DTYPE_BF16;
    if (!plain || biases->dtype != scales->dtype) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s has type %s, expected F32, F16 or BF16, and biases of the same type",
                source_path(m), scales->name, qn_dtype_get(scales->dtype)->name);
    }
    *out = (qn_matrix){.dtype = QN_DTYPE_MLX_AFFINE,
                       .affine = a,
                       .affine_dtype = scales->dtype,
                       .data = t->data,
                       .scales = scales->data,
                       .biases = biases->data,
                       .row_bytes = (size_t)(cols * a.bits / 8),
                       .n_rows = (size_t)rows,
                       .n_cols = (size_t)cols};
done:
    return status;
}

/* stack 0: one matrix; else `stack` of them in one tensor, bound as if rows were those of one. */
static quern_status bind_matrix_of(quern_model *m, const place *p, uint64_t stack, uint64_t rows, uint64_t cols, qn_matrix *out,
                                   quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_tensor *t = find_part(m, p, "weight");
    if (t == NULL) {
        return fail_missing(m, p, "weight", err);
    }
    if (m->config.mlx && t->dtype == QN_DTYPE_U32) {
        return qn_config_is_mxfp4(&m->config, p->hf) ? bind_mxfp4(m, p, t, stack, rows, cols, out, err)
                                                     : bind_affine(m, p, t, stack, rows, cols, out, err);
    }
    QN_TRY(claim_tensor(m, t, stack, rows, cols, err));
    const bool is_fp8 = t->dtype == QN_DTYPE_F8_E4M3;
    if (is_fp8 && stack == 0) {
        return bind_fp8(m, p, t, rows, cols, out, err);
    }
    size_t row_bytes;
    if (is_fp8 || !qn_matmul_supported(t->dtype, (qn_affine){0}) || !qn_dtype_row_bytes(t->dtype, cols, &row_bytes)) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: tensor %s has type %s, which this version cannot multiply with", source_path(m), t->name,
                qn_dtype_get(t->dtype)->name);
    }
    *out = (qn_matrix){.dtype = t->dtype, .data = t->data, .row_bytes = row_bytes, .n_rows = (size_t)rows, .n_cols = (size_t)cols};
done:
    return status;
}

/* bias: -1 = as the file has it (GGUF), 0 = none expected, 1 = required */
static quern_status bind_linear(quern_model *m, place p, uint64_t rows, uint64_t cols, int bias, qn_linear *out, quern_error *err)
{
    quern_status status = bind_matrix_of(m, &p, 0, rows, cols, &out->w, err);
    if (status == QUERN_OK && bias != 0) {
        status = bind_vector(m, &p, "bias", rows, bias < 0, &out->bias, err);
    } else if (status == QUERN_OK && find_part(m, &p, "bias") != NULL) {
        status = qn_error_set(err, QUERN_ERROR_INVALID,
                              "%s: tensor %s.bias is there, but the configuration says this architecture has none", source_path(m),
                              shown_name(m, &p));
    }
    return status;
}

/* Views of n_experts matrices in one stacked tensor (GGUF, MLX), (n_experts, rows, cols). */
static quern_status bind_stacked(quern_model *m, const place *p, uint64_t rows, uint64_t cols, qn_matrix *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &m->config;
    qn_matrix whole;
    uint64_t all;
    if (__builtin_mul_overflow((uint64_t)c->n_experts, rows, &all)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: %" PRIu32 " experts of %" PRIu64 " rows overflow", source_path(m), c->n_experts, rows);
    }
    QN_TRY(bind_matrix_of(m, p, c->n_experts, rows, cols, &whole, err));
    for (uint32_t i = 0; i < c->n_experts; i++) {
        out[i] = whole;
        out[i].n_rows = (size_t)rows;
        out[i].data = whole.data + (size_t)(i * rows) * whole.row_bytes;
        if (whole.scales != NULL) {
            size_t scale_bytes = (size_t)(i * rows) * (whole.n_cols / whole.affine.group) * qn_dtype_get(whole.affine_dtype)->block_bytes;
            out[i].scales = whole.scales + scale_bytes;
            out[i].biases = whole.biases + scale_bytes;
        }
    }
done:
    return status;
}

/* One matrix of all experts: stacked, or (Hugging Face) one tensor an expert. hf_stacked and hf_single hold the names inside a layer, the latter
 * with %u for the expert. */
static quern_status bind_experts(quern_model *m, uint32_t layer, const char *gguf, const char *hf_stacked, const char *hf_block,
                                 const char *hf_leaf, uint64_t rows, uint64_t cols, const qn_matrix **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint32_t n = m->config.n_experts;
    qn_matrix *all = qn_arena_alloc_array(&m->arena, n, sizeof *all);
    place p = layer_place(layer, gguf, hf_stacked);
    if (all == NULL) {
        QN_FAIL_MEMORY(err, "expert tables", n * sizeof *all);
    }
    if (m->gguf != NULL || find_part(m, &p, "weight") != NULL) {
        QN_TRY(bind_stacked(m, &p, rows, cols, all, err));
    } else {
        for (uint32_t i = 0; i < n; i++) {
            char name[64];
            (void)snprintf(name, sizeof name, "%s.experts.%" PRIu32 ".%s", hf_block, i, hf_leaf);
            p = layer_place(layer, gguf, name);
            QN_TRY(bind_matrix_of(m, &p, 0, rows, cols, &all[i], err));
        }
    }
    *out = all;
done:
    return status;
}

static quern_status bind_expert_layer(quern_model *m, uint32_t i, qn_layer_weights *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &m->config;
    uint64_t hidden = c->hidden_size, ffn = c->expert_ffn_size;
    bool mixtral = c->family == QN_FAMILY_MIXTRAL; /* its published names differ */
    const char *block = mixtral ? "block_sparse_moe" : "mlp";
    QN_TRY(bind_linear(m, layer_place(i, "ffn_gate_inp", mixtral ? "block_sparse_moe.gate" : "mlp.gate"), c->n_experts, hidden, 0,
                       &w->router, err));
    QN_TRY(bind_experts(m, i, "ffn_gate_exps", mixtral ? "block_sparse_moe.switch_mlp.gate_proj" : "mlp.switch_mlp.gate_proj", block,
                        mixtral ? "w1" : "gate_proj", ffn, hidden, &w->expert_gate, err));
    QN_TRY(bind_experts(m, i, "ffn_up_exps", mixtral ? "block_sparse_moe.switch_mlp.up_proj" : "mlp.switch_mlp.up_proj", block,
                        mixtral ? "w3" : "up_proj", ffn, hidden, &w->expert_up, err));
    QN_TRY(bind_experts(m, i, "ffn_down_exps", mixtral ? "block_sparse_moe.switch_mlp.down_proj" : "mlp.switch_mlp.down_proj", block,
                        mixtral ? "w2" : "down_proj", hidden, ffn, &w->expert_down, err));
done:
    return status;
}

static quern_status bind_layer(quern_model *m, uint32_t i, qn_layer_weights *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &m->config;
    uint64_t hidden = c->hidden_size, q_rows = (uint64_t)c->n_heads * c->head_dim, kv_rows = (uint64_t)c->n_kv_heads * c->head_dim;
    bool gguf = m->gguf != NULL;
    int qkv_bias = gguf ? -1 : c->qkv_bias, o_bias = gguf ? -1 : c->o_bias, mlp_bias = gguf ? -1 : c->mlp_bias;
    place p = layer_place(i, "attn_norm", "input_layernorm");
    QN_TRY(bind_vector(m, &p, "weight", hidden, false, &w->attn_norm, err));
    p = layer_place(i, "ffn_norm", "post_attention_layernorm");
    QN_TRY(bind_vector(m, &p, "weight", hidden, false, &w->ffn_norm, err));
    QN_TRY(bind_linear(m, layer_place(i, "attn_q", "self_attn.q_proj"), q_rows, hidden, qkv_bias, &w->q, err));
    QN_TRY(bind_linear(m, layer_place(i, "attn_k", "self_attn.k_proj"), kv_rows, hidden, qkv_bias, &w->k, err));
    QN_TRY(bind_linear(m, layer_place(i, "attn_v", "self_attn.v_proj"), kv_rows, hidden, qkv_bias, &w->v, err));
    QN_TRY(bind_linear(m, layer_place(i, "attn_output", "self_attn.o_proj"), hidden, q_rows, o_bias, &w->o, err));
    if (c->qk_norm) {
        p = layer_place(i, "attn_q_norm", "self_attn.q_norm");
        QN_TRY(bind_vector(m, &p, "weight", c->head_dim, false, &w->q_norm, err));
        p = layer_place(i, "attn_k_norm", "self_attn.k_norm");
        QN_TRY(bind_vector(m, &p, "weight", c->head_dim, false, &w->k_norm, err));
    }
    if (c->layers[i].experts) {
        QN_TRY(bind_expert_layer(m, i, w, err));
        goto done;
    }
    QN_TRY(bind_linear(m, layer_place(i, "ffn_gate", "mlp.gate_proj"), c->ffn_size, hidden, mlp_bias, &w->gate, err));
    QN_TRY(bind_linear(m, layer_place(i, "ffn_up", "mlp.up_proj"), c->ffn_size, hidden, mlp_bias, &w->up, err));
    QN_TRY(bind_linear(m, layer_place(i, "ffn_down", "mlp.down_proj"), hidden, c->ffn_size, mlp_bias, &w->down, err));
done:
    return status;
}

/* A layer count that the file's tensors contradict is found before anything is allocated for it. */
static quern_status check_layer_count(const quern_model *m, quern_error *err)
{
    uint32_t last = m->config.n_layers - 1;
    place p = layer_place(last, "attn_norm", "input_layernorm");
    if (find_part(m, &p, "weight") == NULL) {
        return qn_error_set(err, QUERN_ERROR_INVALID, "%s: the configuration says %" PRIu32 " layers, but tensor %s.weight is missing",
                            source_path(m), m->config.n_layers, shown_name(m, &p));
    }
    return QUERN_OK;
}

static quern_status bind_embedding(quern_model *m, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_model_config *c = &m->config;
    place p = top_place("token_embd", "model.embed_tokens");
    const qn_tensor *t = find_part(m, &p, "weight");
    if (t == NULL) {
        QN_TRY(fail_missing(m, &p, "weight", err));
    }
    if (t->n_dims != 2 || t->shape[0] == 0 || t->shape[0] > QN_CONFIG_VOCAB_MAX) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s is no matrix of 1 to %u rows", source_path(m), t->name, QN_CONFIG_VOCAB_MAX);
    }
    if (c->n_vocab != 0 && c->n_vocab != t->shape[0]) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s has %" PRIu64 " rows, but the vocabulary size is %" PRIu32, source_path(m),
                t->name, t->shape[0], c->n_vocab);
    }
    c->n_vocab = (uint32_t)t->shape[0];
    QN_TRY(bind_matrix_of(m, &p, 0, c->n_vocab, c->hidden_size, &m->weights.embedding, err));
done:
    return status;
}

/* Whether the head that a file stores is its embedding once more, byte for byte. */
static quern_status compare_head(quern_model *m, const place *head, bool *is_embedding, quern_error *err)
{
    enum { FIRST_BYTES = 4096 }; /* two that differ do so there */
    quern_status status = QUERN_OK;
    static const char *const parts[] = {"weight", "scales", "biases", "weight_scale_inv", "weight_scale"}; /* MLX's, then FP8's */
    const place embedding = top_place("token_embd", "model.embed_tokens");
    qn_affine a = qn_config_affine_for(&m->config, head->hf), b = qn_config_affine_for(&m->config, embedding.hf);
    bool same = a.bits == b.bits && a.group == b.group &&
                qn_config_is_mxfp4(&m->config, head->hf) == qn_config_is_mxfp4(&m->config, embedding.hf);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && same; i++) {
        const qn_tensor *t = find_part(m, head, parts[i]), *u = find_part(m, &embedding, parts[i]);
        same = t == u || (t != NULL && u != NULL && t->dtype == u->dtype && t->n_bytes == u->n_bytes &&
                          memcmp(t->data, u->data, t->n_bytes < FIRST_BYTES ? t->n_bytes : FIRST_BYTES) == 0);
        if (same && t != u) {
            QN_TRY(qn_model_read_tensor(m, t, err));
            QN_TRY(qn_model_read_tensor(m, u, err));
            same = memcmp(t->data, u->data, t->n_bytes) == 0;
        }
    }
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && same; i++) {
        const qn_tensor *t = find_part(m, head, parts[i]);
        if (t != NULL) {
            note_place(m, t);
            m->read.bytes += t->n_bytes; /* steps will not read it */
        }
    }
    *is_embedding = same;
done:
    return status;
}

static quern_status bind_output(quern_model *m, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_model_config *c = &m->config;
    place norm = top_place("output_norm", "model.norm"), head = top_place("output", "lm_head");
    QN_TRY(bind_vector(m, &norm, "weight", c->hidden_size, false, &m->weights.output_norm, err));
    bool has_head = find_part(m, &head, "weight") != NULL;
    if (m->gguf != NULL) {
        c->tied_embeddings = !has_head;
    } else if (c->tied_embeddings && has_head) { /* as in transformers: a stored head of its own counts, whatever config.json says */
        QN_TRY(compare_head(m, &head, &c->tied_embeddings, err));
    }
    if (c->tied_embeddings) {
        m->weights.output.w = m->weights.embedding;
    } else {
        QN_TRY(bind_linear(m, head, c->n_vocab, c->hidden_size, 0, &m->weights.output, err));
    }
    if (m->gguf != NULL && qn_gguf_find_tensor(m->gguf, "rope_freqs.weight") != NULL) {
        place freqs = top_place("rope_freqs", "");
        QN_TRY(bind_vector(m, &freqs, "weight", c->rope.n_rot / 2, false, &m->weights.rope_divisors, err));
        for (uint32_t i = 0; i < c->rope.n_rot / 2; i++) {
            if (m->weights.rope_divisors[i] <= 0) {
                QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor rope_freqs.weight: divisor %u is %g, expected a positive number",
                        source_path(m), i, (double)m->weights.rope_divisors[i]);
            }
        }
    }
done:
    return status;
}

bool qn_tensor_carries_nothing(const char *hf_name)
{
    static const char *const suffixes[] = {"rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached"};
    size_t n = strlen(hf_name);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        size_t k = strlen(suffixes[i]);
        if (n >= k && strcmp(hf_name + n - k, suffixes[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool qn_model_is_fp8(const quern_model *m) { return m->config.quant_method != NULL && strcmp(m->config.quant_method, "fp8") == 0; }

/* What the graph would leave out: more layers, norms, biases, scales than the architecture has. llama.cpp refuses such files too. */
static quern_status check_rest(const quern_model *m, quern_error *err)
{
    for (size_t i = 0; i < qn_model_n_tensors(m); i++) {
        const char *name = qn_model_tensor_at(m, i)->name;
        bool nothing = m->gguf == NULL && (qn_tensor_carries_nothing(name) || (qn_model_is_fp8(m) && qn_fp8_is_input_scale_name(name)));
        if (!m->placed[i] && !nothing) {
            return qn_error_set(err, QUERN_ERROR_UNSUPPORTED,
                                "%s: tensor %s has no place in architecture %s with %" PRIu32
                                " layers; expected only tensors that are computed with",
                                source_path(m), name, m->config.architecture, m->config.n_layers);
        }
    }
    return QUERN_OK;
}

static quern_status check_supported(const quern_model *m, quern_error *err)
{
    const qn_model_config *c = &m->config;
    if (c->family == QN_FAMILY_GPT_OSS) {
        return qn_error_set(err, QUERN_ERROR_UNSUPPORTED, "%s: architecture %s is not supported by this version", source_path(m),
                            c->architecture);
    }
    if (c->quant_method != NULL && !qn_model_is_fp8(m)) {
        return qn_error_set(err, QUERN_ERROR_UNSUPPORTED, "%s: weights quantized by '%s' are not supported by this version", source_path(m),
                            c->quant_method);
    }
    return QUERN_OK;
}

quern_status qn_model_bind_weights(quern_model *m, quern_error *err)
{
    quern_status status = QUERN_OK;
    m->placed = qn_calloc(qn_model_n_tensors(m) + 1, sizeof *m->placed);
    if (m->placed == NULL) {
        QN_FAIL_MEMORY(err, "tensor tables", qn_model_n_tensors(m));
    }
    QN_TRY(check_supported(m, err));
    QN_TRY(check_layer_count(m, err));
    qn_model_fetch_vectors(m);
    QN_TRY(bind_embedding(m, err));
    QN_TRY(bind_output(m, err));
    m->weights.layers = qn_arena_alloc_array(&m->arena, m->config.n_layers, sizeof *m->weights.layers);
    if (m->weights.layers == NULL) {
        QN_FAIL_MEMORY(err, "layer tables", m->config.n_layers * sizeof *m->weights.layers);
    }
    for (uint32_t i = 0; i < m->config.n_layers; i++) {
        QN_TRY(bind_layer(m, i, &m->weights.layers[i], err));
    }
    QN_TRY(check_rest(m, err));
    qn_model_settle(m);
    m->has_weights = true;
done:
    qn_free(m->placed);
    m->placed = NULL;
    return status;
}
