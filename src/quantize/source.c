/* source.c - opening and closing a checkpoint, and reading rows of it. See source.h. Pieces are made in source_pieces.c. */
#include "quantize/source.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/json.h"
#include "quant/codec.h"

enum { CONFIG_BYTES_MAX = 16 << 20, TOKENIZER_BYTES_MAX = 256 << 20 };

/* ---- texts ---- */

static quern_status read_texts(qn_source *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *tokenizer = NULL;
    char *config = NULL;
    size_t tokenizer_len;
    size_t config_len;
    QN_TRY(qn_file_read_member(&config, &config_len, s->path, "tokenizer_config.json", TOKENIZER_BYTES_MAX, err));
    QN_TRY(qn_file_read_member(&tokenizer, &tokenizer_len, s->path, "tokenizer.json", TOKENIZER_BYTES_MAX, err));
    if (tokenizer == NULL) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no tokenizer.json in this folder", s->path);
    }
    status = quern_tokenizer_create_from_json(&s->tokenizer, tokenizer, tokenizer_len, config, config_len, err);
    if (status != QUERN_OK) {
        qn_error_prefix(err, "%s", s->path);
        goto done;
    }
    QN_TRY(qn_template_list_read(&s->templates, s->path, config, config_len, err));
done:
    qn_free(tokenizer);
    qn_free(config);
    return status;
}

quern_status qn_source_parse_generation(qn_source *s, quern_error *err)
{
    return s->generation_json == NULL
               ? QUERN_OK
               : qn_json_parse(&s->generation, s->generation_json, s->generation_len, QN_JSON_WIDE_INTEGERS, "generation_config.json", err);
}

static quern_status read_config(qn_source *s, const char *as, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *path = qn_path_join(s->path, "config.json");
    if (path == NULL) {
        QN_FAIL_MEMORY(err, "config.json", strlen(s->path) + 13);
    }
    QN_TRY(qn_file_read_member(&s->config_json, &s->config_len, s->path, "config.json", CONFIG_BYTES_MAX, err));
    if (s->config_json == NULL) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no config.json in this folder", s->path);
    }
    QN_TRY(qn_file_read_member(&s->generation_json, &s->generation_len, s->path, "generation_config.json", CONFIG_BYTES_MAX, err));
    QN_TRY(
        qn_config_read_hf_as(&s->config, &s->arena, s->config_json, s->config_len, path, s->generation_json, s->generation_len, as, err));
    QN_TRY(qn_source_parse_generation(s, err));
    const qn_model_config *c = &s->config;
    if (c->mlx && c->affine.bits != 0 && (c->affine.bits != 8 || c->mxfp4)) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: the weights are already quantized by MLX, to %s%" PRIu32 " bits; expected float weights",
                s->path, c->mxfp4 ? "mxfp4, " : "", c->affine.bits);
    }
    if (c->quant_method != NULL && strcmp(c->quant_method, "fp8") != 0) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED,
                "%s: config.json says quant_method \"%s\"; expected a checkpoint with F32, F16, BF16 or FP8 weights", s->path,
                c->quant_method);
    }
done:
    qn_free(path);
    return status;
}

static quern_status open_folder(qn_source *s, const char *as, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(read_config(s, as, err));
    QN_TRY(qn_safetensors_open_dir(&s->weights, s->path, false, err));
done:
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

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

/* Whether text[0..n) ends in "-00001-of-00003". */
static bool ends_in_shard(const char *text, size_t n)
{
    static const char form[] = "-00000-of-00000";
    size_t k = sizeof form - 1;
    bool same = n > k;
    for (size_t i = 0; same && i < k; i++) {
        char c = text[n - k + i];
        same = form[i] == '0' ? c >= '0' && c <= '9' : c == form[i];
    }
    return same;
}

/* The name without ".gguf", without a shard's number, and without the type that it ends in: outputs have types of their own. */
static const char *file_name(qn_arena *arena, const char *path)
{
    static const char *const types[] = {"F32", "F16", "BF16", "Q8_0"};
    const char *base = qn_path_base(path);
    size_t n = strlen(base);
    n = has_suffix(base, ".gguf") && n > 5 ? n - 5 : n;
    n = ends_in_shard(base, n) ? n - strlen("-00001-of-00001") : n;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        size_t k = strlen(types[i]);
        if (n > k + 1 && strncasecmp(base + n - k, types[i], k) == 0 && (base[n - k - 1] == '-' || base[n - k - 1] == '.')) {
            n -= k + 1;
            break;
        }
    }
    return qn_arena_strndup(arena, base, n);
}

static quern_status check_path(const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (!qn_path_exists(path)) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: no such file or folder", path);
    }
    if (qn_path_is_directory(path)) {
        return QUERN_OK;
    }
    if (has_suffix(path, ".safetensors") || has_suffix(path, ".json")) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: a part of a model; give the folder that holds it", path);
    }
    if (has_suffix(path, ".bin") || has_suffix(path, ".pt") || has_suffix(path, ".pth")) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: pickled weights can run code and are never read; expected safetensors or GGUF", path);
    }
done:
    return status;
}

quern_status qn_source_open(qn_source *out, const char *path, const char *as, quern_error *err)
{
    quern_status status = QUERN_OK;
    memset(out, 0, sizeof *out);
    qn_arena_init(&out->arena, 0);
    bool folder = qn_path_is_directory(path);
    out->as_other = as != NULL;
    out->as = as != NULL ? qn_arena_strndup(&out->arena, as, strlen(as)) : NULL;
    out->path = qn_arena_strndup(&out->arena, path, strlen(path));
    out->name = folder ? folder_name(&out->arena, path) : file_name(&out->arena, path);
    if (out->path == NULL || out->name == NULL || (as != NULL && out->as == NULL)) {
        QN_FAIL_MEMORY(err, path, strlen(path) + 1);
    }
    QN_TRY(check_path(path, err));
    QN_TRY(folder ? open_folder(out, as, err) : qn_source_open_gguf(out, as, err));
    if (out->config.family == QN_FAMILY_GPT_OSS) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: converting the architecture %s is not supported by this version", path,
                out->config.architecture);
    }
    QN_TRY(qn_source_sort_tensors(out, err));
    if (folder) {
        QN_TRY(read_texts(out, err));
    }
done:
    if (status != QUERN_OK) {
        qn_source_close(out);
    }
    return status;
}

void qn_source_close(qn_source *s)
{
    qn_safetensors_close(s->weights);
    qn_gguf_close(s->gguf);
    quern_tokenizer_destroy(s->tokenizer);
    qn_free(s->config_json);
    qn_json_free(s->generation);
    qn_free(s->generation_json);
    qn_template_list_deinit(&s->templates);
    qn_arena_deinit(&s->arena);
    memset(s, 0, sizeof *s);
}

/* ---- what it says of itself ---- */

const char *qn_source_format(const qn_source *s)
{
    if (s->gguf != NULL) {
        return "gguf";
    }
    const char *format = qn_safetensors_metadata(s->weights, "format");
    return s->config.mlx || (format != NULL && strcmp(format, "mlx") == 0) ? "mlx" : "safetensors";
}

size_t qn_source_n_files(const qn_source *s) { return s->gguf != NULL ? qn_gguf_n_files(s->gguf) : qn_safetensors_n_files(s->weights); }

const char *qn_source_file_path(const qn_source *s, size_t i)
{
    return s->gguf != NULL ? qn_gguf_file_path(s->gguf, i) : qn_safetensors_file_path(s->weights, i);
}

/* ---- rows ---- */

static void decode_row(const qn_piece *p, size_t part, size_t row, float *out)
{
    const uint8_t *data = p->parts[part]->data + row * p->row_bytes;
    size_t n = (size_t)p->n_cols;
    if (p->dtype == QN_DTYPE_F8_E4M3) {
        qn_decode_fp8_row(data, &p->scales[part].grid, row, out, n);
    } else if (p->dtype == QN_DTYPE_MLX_AFFINE) {
        size_t row_scales = n / p->affine.group * qn_dtype_get(p->affine_dtype)->block_bytes;
        qn_decode_affine_row(p->affine, (const uint32_t *)(const void *)data, p->scales[part].scales + row * row_scales,
                             p->scales[part].biases + row * row_scales, p->affine_dtype, out, n);
    } else {
        qn_decode_row(p->dtype, data, out, n);
    }
}

uint64_t qn_piece_bytes(const qn_piece *p) { return (uint64_t)p->row_bytes * p->n_rows * p->n_parts; }

/* Where GGUF keeps row r of a head of `dim` rows: (i, i + dim/2) have become neighbours. */
static uint64_t interleaved_row(uint64_t r, uint64_t dim)
{
    uint64_t within = r % dim;
    return r - within + within % (dim / 2) * 2 + within / (dim / 2);
}

void qn_piece_decode(const qn_piece *p, size_t part, uint64_t first_row, uint64_t n_rows, float *x)
{
    size_t n_cols = (size_t)p->n_cols;
    if (p->interleave_dim == 0 && p->scales == NULL) {
        qn_decode_row(p->dtype, p->parts[part]->data + (size_t)first_row * p->row_bytes, x, (size_t)n_rows * n_cols);
        return;
    }
    if (p->interleave_dim != 0 && p->what.n_dims == 1) { /* a bias: its elements are what a matrix's rows are */
        size_t element = p->row_bytes / n_cols;
        for (size_t i = 0; i < n_cols; i++) {
            qn_decode_row(p->dtype, p->parts[part]->data + interleaved_row(i, p->interleave_dim) * element, x + i, 1);
        }
        return;
    }
    for (uint64_t r = 0; r < n_rows; r++) {
        uint64_t row = p->interleave_dim != 0 ? interleaved_row(first_row + r, p->interleave_dim) : first_row + r;
        decode_row(p, part, (size_t)row, x + (size_t)r * n_cols);
    }
}
