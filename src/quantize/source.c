/* source.c - opening a checkpoint and sorting its tensors into pieces. See source.h. */
#include "quantize/source.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/json.h"
#include "model/weights.h"

enum { CONFIG_BYTES_MAX = 16 << 20, TOKENIZER_BYTES_MAX = 256 << 20 };

/* ---- texts ---- */

static quern_status read_texts(qn_source *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *tokenizer = NULL;
    char *config = NULL;
    size_t tokenizer_len;
    size_t config_len;
    QN_TRY(qn_file_read_member(&config, &config_len, s->dir, "tokenizer_config.json", TOKENIZER_BYTES_MAX, err));
    QN_TRY(qn_file_read_member(&tokenizer, &tokenizer_len, s->dir, "tokenizer.json", TOKENIZER_BYTES_MAX, err));
    if (tokenizer == NULL) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no tokenizer.json in this folder", s->dir);
    }
    status = quern_tokenizer_create_from_json(&s->tokenizer, tokenizer, tokenizer_len, config, config_len, err);
    if (status != QUERN_OK) {
        qn_error_prefix(err, "%s", s->dir);
        goto done;
    }
    QN_TRY(qn_template_list_read(&s->templates, s->dir, config, config_len, err));
done:
    qn_free(tokenizer);
    qn_free(config);
    return status;
}

static quern_status read_config(qn_source *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *path = qn_path_join(s->dir, "config.json");
    if (path == NULL) {
        QN_FAIL_MEMORY(err, "config.json", strlen(s->dir) + 13);
    }
    QN_TRY(qn_file_read_member(&s->config_json, &s->config_len, s->dir, "config.json", CONFIG_BYTES_MAX, err));
    if (s->config_json == NULL) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no config.json in this folder", s->dir);
    }
    QN_TRY(qn_file_read_member(&s->generation_json, &s->generation_len, s->dir, "generation_config.json", CONFIG_BYTES_MAX, err));
    QN_TRY(qn_config_read_hf(&s->config, &s->arena, s->config_json, s->config_len, path, s->generation_json, s->generation_len, err));
    if (s->config.mlx && s->config.affine.bits != 0) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: the weights are already quantized by MLX; expected a checkpoint with float weights",
                s->dir);
    }
    if (s->config.quant_method != NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED,
                "%s: config.json says quant_method \"%s\"; expected a checkpoint with F32, F16 or BF16 weights", s->dir,
                s->config.quant_method);
    }
    if (s->config.family == QN_FAMILY_GPT_OSS) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: converting the architecture gpt_oss is not supported by this version", s->dir);
    }
done:
    qn_free(path);
    return status;
}

/* ---- pieces ---- */

typedef struct sorter {
    qn_source *source;
    size_t cap_pieces;
    const qn_tensor **used; /* those that belong to a piece */
    size_t n_used, cap_used;
    quern_error *err;
} sorter;

static quern_status check_part(const sorter *o, const qn_tensor *t, bool vector, uint64_t rows, uint64_t cols)
{
    bool fits = vector ? t->n_dims == 1 && t->shape[0] == cols : t->n_dims == 2 && t->shape[0] == rows && t->shape[1] == cols;
    const char *path = qn_safetensors_file_path(o->source->weights, t->file_index);
    if (!fits && vector) {
        return qn_error_set(o->err, QUERN_ERROR_INVALID,
                            "%s: tensor %s has %" PRIu32 " dimensions and %" PRIu64 " elements, expected the shape (%" PRIu64
                            ") from config.json",
                            path, t->name, t->n_dims, t->n_elements, cols);
    }
    if (!fits) {
        return qn_error_set(o->err, QUERN_ERROR_INVALID,
                            "%s: tensor %s has %" PRIu32 " dimensions and shape (%" PRIu64 ", %" PRIu64 "), expected (%" PRIu64 ", %" PRIu64
                            ") from config.json",
                            path, t->name, t->n_dims, t->n_dims > 0 ? t->shape[0] : 0, t->n_dims > 1 ? t->shape[1] : 0, rows, cols);
    }
    if (t->dtype != QN_DTYPE_F32 && t->dtype != QN_DTYPE_F16 && t->dtype != QN_DTYPE_BF16) {
        return qn_error_set(o->err, QUERN_ERROR_UNSUPPORTED, "%s: tensor %s has type %s, expected F32, F16 or BF16", path, t->name,
                            qn_dtype_get(t->dtype)->name);
    }
    return QUERN_OK;
}

/* Adds the piece for a place; all its tensors must be in the files. */
static quern_status add(sorter *o, qn_part part, uint32_t layer, bool bias, uint64_t rows, uint64_t cols)
{
    quern_status status = QUERN_OK;
    qn_source *s = o->source;
    bool vector = bias || qn_part_is_norm(part);
    size_t n_parts = qn_part_is_expert(part) ? s->config.n_experts : 1;
    const qn_tensor **parts = qn_arena_alloc_array(&s->arena, n_parts, sizeof *parts);
    if (parts == NULL || s->n_pieces == o->cap_pieces || n_parts > o->cap_used - o->n_used) {
        QN_FAIL_MEMORY(o->err, "the list of tensors", n_parts * sizeof *parts);
    }
    for (size_t e = 0; e < n_parts; e++) {
        char name[160];
        qn_part_hf_name(s->config.family, part, layer, (uint32_t)e, bias, name, sizeof name);
        const qn_tensor *t = qn_safetensors_find(s->weights, name);
        if (t == NULL) {
            QN_FAIL(o->err, QUERN_ERROR_INVALID, "%s: tensor %s is missing", s->dir, name);
        }
        QN_TRY(check_part(o, t, vector, rows, cols));
        if (t->dtype != (e == 0 ? t : parts[0])->dtype) {
            QN_FAIL(o->err, QUERN_ERROR_UNSUPPORTED, "%s: tensor %s has type %s, the experts before it %s; expected one type", s->dir, name,
                    qn_dtype_get(t->dtype)->name, qn_dtype_get(parts[0]->dtype)->name);
        }
        parts[e] = t;
        o->used[o->n_used++] = t;
        s->n_parameters += t->n_elements;
        s->weight_bytes += t->n_bytes;
    }
    s->pieces[s->n_pieces++] = (qn_piece){
        .what = {.part = part,
                 .layer = layer,
                 .bias = bias,
                 .n_dims = vector                                   ? 1
                           : n_parts > 1 || qn_part_is_expert(part) ? 3
                                                                    : 2,
                 .n_cols = cols},
        .parts = parts,
        .n_parts = n_parts,
        .n_rows = vector ? 1 : rows,
        .n_cols = cols,
        .dtype = parts[0]->dtype,
    };
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

static quern_status check_rest(sorter *o)
{
    quern_status status = QUERN_OK;
    const qn_source *s = o->source;
    qsort(o->used, o->n_used, sizeof *o->used, compare_pointers);
    for (size_t i = 0; i < qn_safetensors_n_tensors(s->weights); i++) {
        const qn_tensor *t = qn_safetensors_tensor_at(s->weights, i);
        if (bsearch(&t, o->used, o->n_used, sizeof *o->used, compare_pointers) == NULL && !qn_tensor_carries_nothing(t->name) &&
            strcmp(t->name, "lm_head.weight") != 0) { /* not used: checked to be the embedding */
            QN_FAIL(o->err, QUERN_ERROR_UNSUPPORTED,
                    "%s: tensor %s has no place in the architecture %s that config.json names; nothing was converted",
                    qn_safetensors_file_path(s->weights, t->file_index), t->name, s->config.architecture);
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
        s->config.tied_embeddings = head->dtype == embedding->dtype && head->n_bytes == embedding->n_bytes &&
                                    memcmp(head->data, embedding->data, head->n_bytes) == 0;
    }
}

static quern_status sort_tensors(qn_source *s, quern_error *err)
{
    enum { PIECES_A_LAYER = 24, PIECES_BESIDE_LAYERS = 3 };
    quern_status status = QUERN_OK;
    const qn_model_config *c = &s->config;
    sorter o = {.source = s, .err = err, .cap_used = qn_safetensors_n_tensors(s->weights)};
    o.cap_pieces = (size_t)c->n_layers * PIECES_A_LAYER + PIECES_BESIDE_LAYERS;
    s->pieces = qn_arena_alloc_array(&s->arena, o.cap_pieces, sizeof *s->pieces);
    o.used = qn_malloc_array(o.cap_used, sizeof *o.used);
    if (s->pieces == NULL || o.used == NULL) {
        QN_FAIL_MEMORY(err, "the list of tensors", o.cap_pieces * sizeof *s->pieces);
    }
    find_own_head(s);
    QN_TRY(add(&o, QN_PART_TOKEN_EMBD, 0, false, c->n_vocab, c->hidden_size));
    for (uint32_t i = 0; i < c->n_layers; i++) {
        QN_TRY(add_layer(&o, i));
    }
    QN_TRY(add(&o, QN_PART_OUTPUT_NORM, 0, false, 1, c->hidden_size));
    if (!c->tied_embeddings) {
        QN_TRY(add(&o, QN_PART_OUTPUT, 0, false, c->n_vocab, c->hidden_size));
    }
    QN_TRY(check_rest(&o));
done:
    qn_free(o.used);
    return status;
}

/* The folder's own name, also where the path ends in "/", "." or ".."; "model" if there is none. */
static const char *folder_name(qn_arena *arena, const char *dir)
{
    char real[PATH_MAX];
    const char *text = dir;
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') {
        n--;
    }
    size_t begin = n;
    while (begin > 0 && dir[begin - 1] != '/') {
        begin--;
    }
    if (!qn_path_is_plain_name(dir + begin, n - begin) && realpath(dir, real) != NULL) { /* only then: a link keeps the name it has here */
        text = real;
        n = strlen(real);
        begin = (size_t)(qn_path_base(real) - real);
    }
    bool plain = qn_path_is_plain_name(text + begin, n - begin);
    return plain ? qn_arena_strndup(arena, text + begin, n - begin) : "model";
}

quern_status qn_source_open(qn_source *out, const char *dir, quern_error *err)
{
    quern_status status = QUERN_OK;
    memset(out, 0, sizeof *out);
    qn_arena_init(&out->arena, 0);
    out->dir = qn_arena_strndup(&out->arena, dir, strlen(dir));
    out->name = folder_name(&out->arena, dir);
    if (out->dir == NULL || out->name == NULL) {
        QN_FAIL_MEMORY(err, dir, strlen(dir) + 1);
    }
    if (!qn_path_exists(dir)) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no such folder", dir);
    }
    if (!qn_path_is_directory(dir)) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED,
                "%s: not a folder; expected a Hugging Face checkpoint (config.json, tokenizer.json, *.safetensors)", dir);
    }
    QN_TRY(read_config(out, err));
    QN_TRY(qn_safetensors_open_dir(&out->weights, dir, false, err));
    QN_TRY(sort_tensors(out, err));
    QN_TRY(read_texts(out, err));
done:
    if (status != QUERN_OK) {
        qn_source_close(out);
    }
    return status;
}

void qn_source_close(qn_source *s)
{
    qn_safetensors_close(s->weights);
    quern_tokenizer_destroy(s->tokenizer);
    qn_free(s->config_json);
    qn_free(s->generation_json);
    qn_template_list_deinit(&s->templates);
    qn_arena_deinit(&s->arena);
    memset(s, 0, sizeof *s);
}
