/* source_pieces.c - sorting the tensors of a source into pieces. See source.h.
 *
 * A place is looked for under its Hugging Face name, its experts also stacked as MLX has them, or under its GGUF name. Shapes and types are
 * checked here, and that nothing is left over.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "model/fp8.h"
#include "model/weights.h"
#include "quantize/source.h"

typedef struct sorter {
    qn_source *source;
    size_t cap_pieces;
    const qn_tensor **used; /* those that belong to a piece */
    size_t n_used, cap_used;
    quern_error *err;
} sorter;

/* A place in the architecture, with the shape that the configuration demands of each part. */
typedef struct place {
    qn_part part;
    uint32_t layer;
    bool bias, vector;
    uint64_t rows, cols;
} place;

static const qn_tensor *find(const qn_source *s, const char *name)
{
    return s->gguf != NULL ? qn_gguf_find_tensor(s->gguf, name) : qn_safetensors_find(s->weights, name);
}

static size_t n_tensors(const qn_source *s) { return s->gguf != NULL ? qn_gguf_n_tensors(s->gguf) : qn_safetensors_n_tensors(s->weights); }

static const qn_tensor *tensor_at(const qn_source *s, size_t i)
{
    return s->gguf != NULL ? qn_gguf_tensor_at(s->gguf, i) : qn_safetensors_tensor_at(s->weights, i);
}

static const char *path_of(const sorter *o, const qn_tensor *t) { return qn_source_file_path(o->source, t->file_index); }

static const char *shape_giver(const sorter *o) { return o->source->gguf != NULL ? "the metadata" : "config.json"; }

static void name_of(const qn_source *s, const place *p, uint32_t expert, char *out, size_t cap)
{
    if (s->gguf != NULL) {
        qn_part_gguf_name(p->part, p->layer, p->bias, out, cap);
    } else {
        qn_part_hf_name(s->config.family, p->part, p->layer, expert, p->bias, out, cap);
    }
}

/* "NAME.weight" with another ending. */
static const qn_tensor *find_beside(const qn_source *s, const qn_tensor *t, const char *ending)
{
    char name[192];
    size_t module = strlen(t->name) - strlen("weight");
    (void)snprintf(name, sizeof name, "%.*s%s", (int)module, t->name, ending);
    return find(s, name);
}

/* ---- checks ---- */

/* stack 0: a matrix, or a vector of cols; else (stack, rows, cols). */
static quern_status check_shape(const sorter *o, const qn_tensor *t, bool vector, uint64_t stack, uint64_t rows, uint64_t cols)
{
    uint32_t n_dims = vector ? 1 : stack > 0 ? 3 : 2;
    const uint64_t expected[3] = {stack, rows, cols};
    bool fits = t->n_dims == n_dims;
    for (uint32_t i = 0; fits && i < n_dims; i++) {
        fits = t->shape[i] == expected[3 - n_dims + i];
    }
    if (fits) {
        return QUERN_OK;
    }
    if (vector) {
        return qn_error_set(o->err, QUERN_ERROR_INVALID,
                            "%s: tensor %s has %" PRIu32 " dimensions and %" PRIu64 " elements, expected the shape (%" PRIu64 ") from %s",
                            path_of(o, t), t->name, t->n_dims, t->n_elements, cols, shape_giver(o));
    }
    if (stack > 0) {
        return qn_error_set(o->err, QUERN_ERROR_INVALID,
                            "%s: tensor %s has %" PRIu32 " dimensions and %" PRIu64 " elements, expected (%" PRIu64 ", %" PRIu64
                            ", %" PRIu64 ") from %s",
                            path_of(o, t), t->name, t->n_dims, t->n_elements, stack, rows, cols, shape_giver(o));
    }
    return qn_error_set(
        o->err, QUERN_ERROR_INVALID,
        "%s: tensor %s has %" PRIu32 " dimensions and shape (%" PRIu64 ", %" PRIu64 "), expected (%" PRIu64 ", %" PRIu64 ") from %s",
        path_of(o, t), t->name, t->n_dims, t->n_dims > 0 ? t->shape[0] : 0, t->n_dims > 1 ? t->shape[1] : 0, rows, cols, shape_giver(o));
}

static bool is_plain(qn_dtype t) { return t == QN_DTYPE_F32 || t == QN_DTYPE_F16 || t == QN_DTYPE_BF16; }

static const char warning_of_q8_0[] =
    "the source is quantized already (Q8_0): outputs carry its rounding too, and their errors are measured against it; convert from the float "
    "checkpoint where you can";
static const char warning_of_mlx[] =
    "the source is quantized already (MLX 8 bit): outputs carry its rounding too, and their errors are measured against it; convert from the "
    "float checkpoint where you can";

/* MLX's packed words: of 8 bits only. */
static quern_status set_packed(const sorter *o, const place *p, const qn_tensor *t, qn_piece *piece)
{
    quern_status status = QUERN_OK;
    char module[192];
    (void)snprintf(module, sizeof module, "%.*s", (int)(strlen(t->name) - strlen(".weight")), t->name);
    const qn_model_config *c = &o->source->config;
    qn_affine a = qn_config_affine_for(c, module);
    if (a.bits != 8 || qn_config_is_mxfp4(c, module)) {
        QN_FAIL(o->err, QUERN_ERROR_UNSUPPORTED,
                "%s: tensor %s is quantized already, to %" PRIu32 " bits; expected float weights or 8 bits", path_of(o, t), t->name,
                a.bits);
    }
    if (p->cols % a.group != 0) {
        QN_FAIL(o->err, QUERN_ERROR_INVALID, "%s: tensor %s: %" PRIu64 " columns are no multiple of the group size %" PRIu32, path_of(o, t),
                t->name, p->cols, a.group);
    }
    const qn_tensor *scales = find_beside(o->source, t, "scales");
    if (scales == NULL || !is_plain(scales->dtype)) {
        QN_FAIL(o->err, QUERN_ERROR_INVALID, "%s: tensor %s: its scales are missing or not F32, F16 or BF16", path_of(o, t), t->name);
    }
    piece->dtype = QN_DTYPE_MLX_AFFINE;
    piece->affine = a;
    piece->affine_dtype = piece->plain = scales->dtype;
    piece->row_bytes = (size_t)p->cols;
done:
    return status;
}

/* What the piece is stored as, from its first tensor. */
static quern_status set_type(const sorter *o, const place *p, const qn_tensor *t, qn_piece *piece)
{
    quern_status status = QUERN_OK;
    const qn_source *s = o->source;
    bool fp8 = t->dtype == QN_DTYPE_F8_E4M3 && s->config.quant_method != NULL && !p->vector;
    bool q8 = t->dtype == QN_DTYPE_Q8_0 && s->gguf != NULL && !p->vector;
    if (s->config.mlx && t->dtype == QN_DTYPE_U32 && !p->vector) {
        return set_packed(o, p, t, piece);
    }
    if (!is_plain(t->dtype) && !fp8 && !q8) {
        QN_FAIL(o->err, QUERN_ERROR_UNSUPPORTED, "%s: tensor %s has type %s, expected F32, F16 or BF16%s", path_of(o, t), t->name,
                qn_dtype_get(t->dtype)->name,
                p->vector         ? ""
                : s->gguf != NULL ? " (or Q8_0): what is quantized already is no source"
                                  : "");
    }
    piece->dtype = t->dtype;
    piece->plain = is_plain(t->dtype) ? t->dtype : QN_DTYPE_BF16;
    if (!qn_dtype_row_bytes(t->dtype, p->cols, &piece->row_bytes)) {
        QN_FAIL(o->err, QUERN_ERROR_INVALID, "%s: tensor %s: %" PRIu64 " columns are no whole number of blocks of %s", path_of(o, t),
                t->name, p->cols, qn_dtype_get(t->dtype)->name);
    }
done:
    return status;
}

static quern_status use(sorter *o, const qn_tensor *t)
{
    if (o->n_used == o->cap_used) {
        return qn_error_set(o->err, QUERN_ERROR_INTERNAL, "tensor %s has two places", t->name);
    }
    o->used[o->n_used++] = t;
    return QUERN_OK;
}

/* ---- parts ---- */

/* The scales beside a tensor, for its part number `first` and, if it is a stack, those behind it. */
static quern_status add_scales(sorter *o, const place *p, const qn_tensor *t, qn_piece *piece, qn_piece_scales *out, size_t n_stacked)
{
    quern_status status = QUERN_OK;
    qn_source *s = o->source;
    if (piece->dtype == QN_DTYPE_F8_E4M3) {
        const qn_tensor *inverse = find_beside(s, t, "weight_scale_inv");
        const qn_tensor *scale = inverse != NULL ? inverse : find_beside(s, t, "weight_scale");
        QN_TRY(qn_fp8_read_grid(&out->grid, &s->arena, &s->config, t, scale, path_of(o, t), o->err));
        QN_TRY(use(o, scale));
        goto done;
    }
    static const char *const endings[] = {"scales", "biases"};
    uint64_t groups = p->cols / piece->affine.group;
    for (size_t i = 0; i < 2; i++) {
        const qn_tensor *v = find_beside(s, t, endings[i]);
        if (v == NULL || v->dtype != piece->affine_dtype) {
            QN_FAIL(o->err, QUERN_ERROR_INVALID, "%s: tensor %s: its %s are missing or of another type", path_of(o, t), t->name,
                    endings[i]);
        }
        QN_TRY(check_shape(o, v, false, n_stacked, p->rows, groups));
        QN_TRY(use(o, v));
        size_t a_part = (size_t)(p->rows * groups) * qn_dtype_get(v->dtype)->block_bytes;
        for (size_t e = 0; e < (n_stacked > 0 ? n_stacked : 1); e++) {
            *(i == 0 ? &out[e].scales : &out[e].biases) = v->data + e * a_part;
        }
    }
done:
    return status;
}

/* All experts in one tensor: a view for each. */
static quern_status add_stacked(sorter *o, const place *p, const qn_tensor *t, qn_piece *piece, qn_piece_scales *scales)
{
    quern_status status = QUERN_OK;
    uint64_t stored_cols = piece->dtype == QN_DTYPE_MLX_AFFINE ? p->cols / 4 : p->cols;
    QN_TRY(check_shape(o, t, false, piece->n_parts, p->rows, stored_cols));
    qn_tensor *views = qn_arena_alloc_array(&o->source->arena, piece->n_parts, sizeof *views);
    if (views == NULL) {
        QN_FAIL_MEMORY(o->err, "the list of tensors", piece->n_parts * sizeof *views);
    }
    for (size_t e = 0; e < piece->n_parts; e++) {
        views[e] = *t;
        views[e].n_dims = 2;
        views[e].shape[0] = p->rows;
        views[e].shape[1] = stored_cols;
        views[e].n_elements = t->n_elements / piece->n_parts;
        views[e].n_bytes = t->n_bytes / piece->n_parts;
        views[e].data = t->data + e * views[e].n_bytes;
        views[e].file_offset = t->file_offset + e * views[e].n_bytes;
        piece->parts[e] = &views[e];
    }
    QN_TRY(use(o, t));
    if (scales != NULL) {
        QN_TRY(add_scales(o, p, t, piece, scales, piece->n_parts));
    }
done:
    return status;
}

/* One tensor a part. */
static quern_status add_single(sorter *o, const place *p, qn_piece *piece, qn_piece_scales *scales)
{
    quern_status status = QUERN_OK;
    qn_source *s = o->source;
    uint64_t stored_cols = piece->dtype == QN_DTYPE_MLX_AFFINE ? p->cols / 4 : p->cols;
    for (size_t e = 0; e < piece->n_parts; e++) {
        char name[160];
        name_of(s, p, (uint32_t)e, name, sizeof name);
        const qn_tensor *t = find(s, name);
        if (t == NULL) {
            QN_FAIL(o->err, QUERN_ERROR_INVALID, "%s: tensor %s is missing", s->path, name);
        }
        QN_TRY(check_shape(o, t, p->vector, 0, p->rows, stored_cols));
        if (t->dtype != (e == 0 ? t : piece->parts[0])->dtype) {
            QN_FAIL(o->err, QUERN_ERROR_UNSUPPORTED, "%s: tensor %s has type %s, the experts before it %s; expected one type", s->path,
                    name, qn_dtype_get(t->dtype)->name, qn_dtype_get(piece->parts[0]->dtype)->name);
        }
        piece->parts[e] = t;
        QN_TRY(use(o, t));
        if (scales != NULL) {
            QN_TRY(add_scales(o, p, t, piece, &scales[e], 0));
        }
    }
done:
    return status;
}

/* The first tensor of a place, and whether it holds all experts. */
static quern_status find_first(const sorter *o, const place *p, const qn_tensor **out, bool *stacked)
{
    const qn_source *s = o->source;
    char name[160];
    name_of(s, p, 0, name, sizeof name);
    *out = find(s, name);
    *stacked = qn_part_is_expert(p->part) && s->gguf != NULL;
    if (*out == NULL && qn_part_is_expert(p->part) && s->gguf == NULL) {
        char module[160], whole[176];
        qn_part_mlx_module(s->config.family, p->part, p->layer, module, sizeof module);
        (void)snprintf(whole, sizeof whole, "%s.weight", module);
        *out = find(s, whole);
        *stacked = *out != NULL;
    }
    return *out != NULL ? QUERN_OK : qn_error_set(o->err, QUERN_ERROR_INVALID, "%s: tensor %s is missing", s->path, name);
}

/* Adds the piece for a place; all its tensors must be in the files. */
static quern_status add(sorter *o, qn_part part, uint32_t layer, bool bias, uint64_t rows, uint64_t cols)
{
    quern_status status = QUERN_OK;
    qn_source *s = o->source;
    bool vector = bias || qn_part_is_norm(part), stacked;
    const place p = {.part = part, .layer = layer, .bias = bias, .vector = vector, .rows = vector ? 1 : rows, .cols = cols};
    size_t n_parts = qn_part_is_expert(part) ? s->config.n_experts : 1;
    qn_piece_scales *scales = NULL;
    const qn_tensor *first = NULL;
    qn_piece piece = {.n_parts = n_parts, .n_rows = p.rows, .n_cols = cols};
    QN_TRY(find_first(o, &p, &first, &stacked));
    QN_TRY(set_type(o, &p, first, &piece));
    if (stacked && piece.dtype == QN_DTYPE_F8_E4M3) { /* scales are one grid a matrix: nothing says whose those beside a stack would be */
        QN_FAIL(o->err, QUERN_ERROR_UNSUPPORTED, "%s: tensor %s has type F8_E4M3; expected one tensor an expert for that type",
                path_of(o, first), first->name);
    }
    piece.parts = qn_arena_alloc_array(&s->arena, n_parts, sizeof *piece.parts);
    bool has_scales = piece.dtype == QN_DTYPE_F8_E4M3 || piece.dtype == QN_DTYPE_MLX_AFFINE;
    if (has_scales) {
        piece.scales = scales = qn_arena_alloc_array(&s->arena, n_parts, sizeof *scales);
    }
    if (piece.parts == NULL || s->n_pieces == o->cap_pieces || (has_scales && scales == NULL)) {
        QN_FAIL_MEMORY(o->err, "the list of tensors", n_parts * sizeof *piece.parts);
    }
    QN_TRY(stacked ? add_stacked(o, &p, first, &piece, scales) : add_single(o, &p, &piece, scales));
    for (size_t e = 0; e < n_parts; e++) {
        s->n_parameters += p.rows * cols;
        s->weight_bytes += piece.parts[e]->n_bytes;
    }
    piece.what = (qn_recipe_tensor){.part = part,
                                    .layer = layer,
                                    .bias = bias,
                                    .n_dims = vector                    ? 1
                                              : qn_part_is_expert(part) ? 3
                                                                        : 2,
                                    .n_cols = cols};
    bool reordered = part == QN_PART_ATTN_Q || part == QN_PART_ATTN_K;
    piece.interleave_dim = s->config.rope.interleaved && reordered ? s->config.head_dim : 0;
    s->warning = piece.dtype == QN_DTYPE_Q8_0 ? warning_of_q8_0 : piece.dtype == QN_DTYPE_MLX_AFFINE ? warning_of_mlx : s->warning;
    s->pieces[s->n_pieces++] = piece;
done:
    return status;
}
static quern_status add_layer(sorter *o, uint32_t i)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &o->source->config;
    uint64_t hidden = c->hidden_size;
    uint64_t q_rows = (uint64_t)c->n_heads * c->head_dim;
    uint64_t kv_rows = (uint64_t)c->n_kv_heads * c->head_dim;
    const struct {
        qn_part part;
        uint64_t rows, cols;
        bool there, bias;
    } dense[] = {
        {QN_PART_ATTN_NORM, 1, hidden, true, false},
        {QN_PART_ATTN_Q, q_rows, hidden, true, c->qkv_bias},
        {QN_PART_ATTN_K, kv_rows, hidden, true, c->qkv_bias},
        {QN_PART_ATTN_V, kv_rows, hidden, true, c->qkv_bias},
        {QN_PART_ATTN_Q_NORM, 1, c->head_dim, c->qk_norm, false},
        {QN_PART_ATTN_K_NORM, 1, c->head_dim, c->qk_norm, false},
        {QN_PART_ATTN_OUTPUT, hidden, q_rows, true, c->o_bias},
        {QN_PART_FFN_NORM, 1, hidden, true, false},
        {QN_PART_FFN_GATE, c->ffn_size, hidden, !c->layers[i].experts, c->mlp_bias},
        {QN_PART_FFN_UP, c->ffn_size, hidden, !c->layers[i].experts, c->mlp_bias},
        {QN_PART_FFN_DOWN, hidden, c->ffn_size, !c->layers[i].experts, c->mlp_bias},
        {QN_PART_ROUTER, c->n_experts, hidden, c->layers[i].experts, false},
        {QN_PART_GATE_EXPS, c->expert_ffn_size, hidden, c->layers[i].experts, false},
        {QN_PART_UP_EXPS, c->expert_ffn_size, hidden, c->layers[i].experts, false},
        {QN_PART_DOWN_EXPS, hidden, c->expert_ffn_size, c->layers[i].experts, false},
    };
    for (size_t k = 0; k < sizeof dense / sizeof dense[0]; k++) {
        if (dense[k].there) {
            QN_TRY(add(o, dense[k].part, i, false, dense[k].rows, dense[k].cols));
        }
        if (dense[k].there && dense[k].bias) {
            QN_TRY(add(o, dense[k].part, i, true, 1, dense[k].rows));
        }
    }
done:
    return status;
}

static int compare_pointers(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (const qn_tensor *const *)a;
    uintptr_t y = (uintptr_t) * (const qn_tensor *const *)b;
    return (x > y) - (x < y);
}

/* Tensors that no piece needs: tables that are computed, activation scales, a head that is the embedding once more (checked). */
static bool carries_nothing(const qn_source *s, const char *name)
{
    if (s->gguf != NULL) {
        return strcmp(name, "rope_freqs.weight") == 0; /* read beside the pieces */
    }
    return qn_tensor_carries_nothing(name) || strcmp(name, "lm_head.weight") == 0 ||
           (s->config.quant_method != NULL && qn_fp8_is_input_scale_name(name));
}

static quern_status check_rest(sorter *o)
{
    quern_status status = QUERN_OK;
    const qn_source *s = o->source;
    qsort(o->used, o->n_used, sizeof *o->used, compare_pointers);
    for (size_t i = 0; i < n_tensors(s); i++) {
        const qn_tensor *t = tensor_at(s, i);
        if (bsearch(&t, o->used, o->n_used, sizeof *o->used, compare_pointers) == NULL && !carries_nothing(s, t->name)) {
            QN_FAIL(o->err, QUERN_ERROR_UNSUPPORTED,
                    "%s: tensor %s has no place in the architecture %s that %s names; nothing was converted", path_of(o, t), t->name,
                    s->config.architecture, s->as_other ? "--as" : shape_giver(o));
        }
    }
done:
    return status;
}

/* A head that is stored and differs from the embedding counts, whatever config.json says; as in transformers. */
static void find_own_head(qn_source *s)
{
    const qn_tensor *head = qn_safetensors_find(s->weights, "lm_head.weight");
    const qn_tensor *embedding = qn_safetensors_find(s->weights, "model.embed_tokens.weight");
    if (s->config.tied_embeddings && head != NULL && embedding != NULL) {
        s->config.tied_embeddings = is_plain(head->dtype) && head->dtype == embedding->dtype && head->n_bytes == embedding->n_bytes &&
                                    memcmp(head->data, embedding->data, head->n_bytes) == 0;
    }
}

/* GGUF says by its tensors what config.json says by keys. */
static quern_status find_gguf_features(qn_source *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_model_config *c = &s->config;
    const qn_tensor *embedding = find(s, "token_embd.weight");
    if (embedding == NULL || embedding->n_dims != 2 || embedding->shape[0] == 0 || embedding->shape[0] > QN_CONFIG_VOCAB_MAX) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor token_embd.weight is missing or no matrix of 1 to %u rows", s->path,
                QN_CONFIG_VOCAB_MAX);
    }
    c->n_vocab = c->n_vocab == 0 ? (uint32_t)embedding->shape[0] : c->n_vocab;
    c->tied_embeddings = find(s, "output.weight") == NULL;
    c->qkv_bias = find(s, "blk.0.attn_q.bias") != NULL;
    c->o_bias = find(s, "blk.0.attn_output.bias") != NULL;
    c->mlp_bias = find(s, "blk.0.ffn_up.bias") != NULL;
done:
    return status;
}

static bool fits_exactly(qn_dtype t, const float *v, size_t n)
{
    bool exact = true;
    for (size_t i = 0; i < n && exact; i++) {
        uint32_t back = qn_f32_to_bits(t == QN_DTYPE_BF16 ? qn_f32_from_bf16(qn_bf16_from_f32(v[i]))
                                                          : qn_f32_from_f16(qn_f16_from_f32(v[i])));
        exact = back == qn_f32_to_bits(v[i]);
    }
    return exact;
}

/* GGUF stores norms, biases and routers in F32 whatever the model's type is. Where that type holds them as well, it is what they were. */
static quern_status restore_types(qn_source *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_dtype model = s->pieces[0].plain; /* the embedding's */
    float *row = NULL;
    for (size_t i = 0; i < s->n_pieces && model != QN_DTYPE_F32; i++) {
        qn_piece *p = &s->pieces[i];
        if (p->dtype != QN_DTYPE_F32 || (p->what.n_dims > 1 && p->what.part != QN_PART_ROUTER)) {
            continue;
        }
        float *more = qn_realloc_array(row, (size_t)p->n_cols, sizeof *row);
        if (more == NULL) {
            QN_FAIL_MEMORY(err, p->parts[0]->name, p->n_cols * sizeof *row);
        }
        row = more;
        bool exact = true;
        for (uint64_t r = 0; r < p->n_rows && exact; r++) {
            qn_piece_decode(p, 0, r, 1, row);
            exact = fits_exactly(model, row, (size_t)p->n_cols);
        }
        p->plain = exact ? model : p->plain;
    }
done:
    qn_free(row);
    return status;
}

quern_status qn_source_sort_tensors(qn_source *s, quern_error *err)
{
    enum { PIECES_A_LAYER = 24, PIECES_BESIDE_LAYERS = 3 };
    quern_status status = QUERN_OK;
    const qn_model_config *c = &s->config;
    sorter o = {.source = s, .err = err, .cap_used = n_tensors(s)};
    o.cap_pieces = (size_t)c->n_layers * PIECES_A_LAYER + PIECES_BESIDE_LAYERS;
    s->pieces = qn_arena_alloc_array(&s->arena, o.cap_pieces, sizeof *s->pieces);
    o.used = qn_malloc_array(o.cap_used, sizeof *o.used);
    if (s->pieces == NULL || o.used == NULL) {
        QN_FAIL_MEMORY(err, "the list of tensors", o.cap_pieces * sizeof *s->pieces);
    }
    if (s->gguf != NULL) {
        QN_TRY(find_gguf_features(s, err));
    } else {
        find_own_head(s);
    }
    QN_TRY(add(&o, QN_PART_TOKEN_EMBD, 0, false, c->n_vocab, c->hidden_size));
    for (uint32_t i = 0; i < c->n_layers; i++) {
        QN_TRY(add_layer(&o, i));
    }
    QN_TRY(add(&o, QN_PART_OUTPUT_NORM, 0, false, 1, c->hidden_size));
    if (!c->tied_embeddings) {
        QN_TRY(add(&o, QN_PART_OUTPUT, 0, false, c->n_vocab, c->hidden_size));
    }
    QN_TRY(check_rest(&o));
    if (s->gguf != NULL) {
        QN_TRY(restore_types(s, err));
    }
done:
    qn_free(o.used);
    return status;
}
