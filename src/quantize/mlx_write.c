/* mlx_write.c - planning and beginning an MLX folder. See mlx_write.h.
 *
 * A quantized module has "weight" (uint32 words), "scales" and, for affine, "biases"; everything else keeps the source's type. config.json is
 * made in mlx_config.c.
 */
#include "quantize/mlx_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "quantize/gguf_to_hf.h"
#include "quantize/mlx_config.h"

enum { COPIED_BYTES_MAX = 256 << 20, TEXT_BYTES_MAX = 1 << 30 };

/* Files of the source that belong to tokenizer and generation; those that exist are copied. */
static const char *const copied_files[] = {"tokenizer.json",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "vocab.json",
                                           "merges.txt",
                                           "tokenizer.model",
                                           "chat_template.jinja",
                                           "chat_template.json",
                                           "generation_config.json",
                                           "additional_chat_templates/tool_use.jinja"};
enum { N_COPIED = sizeof copied_files / sizeof copied_files[0] };

const char *qn_mlx_copied_file(size_t i) { return i < N_COPIED ? copied_files[i] : NULL; }

static qn_affine affine_of(const qn_job *job, const qn_output *o, size_t index)
{
    const qn_piece *p = &job->source.pieces[index];
    if (o->mix != NULL && o->mix[index].is_chosen) {
        return o->mix[index].affine;
    }
    qn_recipe_model m = qn_recipe_model_of(&job->source.config);
    return qn_recipe_mlx(o->target.mlx, o->target.group, &m, &p->what);
}

/* The mode's own width and group; other modules of an mxfp4 folder (routers) are affine. */
static bool is_mxfp4(const qn_output *o, qn_affine a) { return o->target.mlx->mode == QN_MLX_MXFP4 && a.bits == 4 && a.group == 32; }

static quern_status plan_sink(qn_job *job, qn_output *o, size_t index, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_piece *p = &job->source.pieces[index];
    qn_sink *sink = &o->sinks[index];
    char module[128];
    char name[144];
    qn_part_mlx_module(job->source.config.family, p->what.part, p->what.layer, module, sizeof module);
    (void)snprintf(name, sizeof name, "%s.%s", module, p->what.bias ? "bias" : "weight");
    *sink = (qn_sink){.name = qn_arena_strndup(&job->arena, name, strlen(name)), .affine = affine_of(job, o, index)};
    if (sink->name == NULL) {
        QN_FAIL_MEMORY(err, name, strlen(name) + 1);
    }
    size_t n_cols = (size_t)p->n_cols;
    if (sink->affine.bits == 0) {
        sink->coding = QN_CODING_BLOCKS;
        sink->dtype = o->target.mlx->mode == QN_MLX_PLAIN ? QN_DTYPE_BF16 : p->plain;
        sink->n_streams = 1;
        sink->row_bytes[0] = n_cols * qn_dtype_get(sink->dtype)->block_bytes;
    } else if (is_mxfp4(o, sink->affine)) {
        sink->coding = QN_CODING_MXFP4;
        sink->dtype = QN_DTYPE_U8;
        sink->n_streams = 2;
        sink->row_bytes[0] = n_cols / 2;
        sink->row_bytes[1] = n_cols / 32;
    } else {
        sink->coding = QN_CODING_AFFINE;
        sink->dtype = p->plain;
        sink->n_streams = 3;
        sink->row_bytes[0] = n_cols / 8 * sink->affine.bits;
        sink->row_bytes[1] = sink->row_bytes[2] = n_cols / sink->affine.group * qn_dtype_get(p->plain)->block_bytes;
    }
    for (size_t k = 0; k < sink->n_streams; k++) {
        size_t bytes;
        if (!qn_size_mul(sink->row_bytes[k], (size_t)(p->n_rows * p->n_parts), &bytes)) {
            QN_FAIL(err, QUERN_ERROR_LIMIT, "tensor %s is too large", name);
        }
        o->tensor_bytes += bytes;
    }
done:
    return status;
}

static uint64_t sink_bytes(const qn_piece *p, const qn_sink *sink)
{
    uint64_t bytes = 0;
    for (size_t k = 0; k < sink->n_streams; k++) {
        bytes += (uint64_t)sink->row_bytes[k] * p->n_rows * p->n_parts;
    }
    return bytes;
}

/* Gives every sink its shard: pieces in order, a new file where the next would exceed the limit. Returns the number of files. */
static size_t assign_shards(qn_job *job, qn_output *o, uint64_t bytes[], size_t cap)
{
    size_t file = 0;
    uint64_t here = 0;
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        uint64_t size = sink_bytes(&job->source.pieces[i], &o->sinks[i]);
        if (here > 0 && here + size > job->shard_bytes && file + 1 < cap) {
            file++;
            here = 0;
        }
        o->sinks[i].file = file;
        here += size;
        bytes[file] = here;
    }
    return file + 1;
}

static quern_status plan_weights(qn_job *job, qn_output *o, quern_error *err)
{
    enum { SHARDS_MAX = 1000 };
    quern_status status = QUERN_OK;
    uint64_t bytes[SHARDS_MAX] = {0};
    qn_output_file *file;
    size_t n = assign_shards(job, o, bytes, SHARDS_MAX);
    for (size_t i = 0; i < n; i++) {
        char relative[160];
        if (n == 1) {
            (void)snprintf(relative, sizeof relative, "%s/model.safetensors", o->relative);
        } else {
            (void)snprintf(relative, sizeof relative, "%s/model-%05zu-of-%05zu.safetensors", o->relative, i + 1, n);
        }
        QN_TRY(qn_job_add_file(job, o, relative, bytes[i], &file, err));
    }
    o->n_weight_files = n;
    if (n > 1) {
        char relative[160];
        (void)snprintf(relative, sizeof relative, "%s/model.safetensors.index.json", o->relative);
        QN_TRY(qn_job_add_file(job, o, relative, 0, &file, err));
    }
done:
    return status;
}

/* ---- model.safetensors.index.json ---- */

static const char *const stream_suffixes[QN_STREAMS_MAX] = {"weight", "scales", "biases"};

/* The name of a stream: the tensor's for the first, the module's with .scales and .biases for the others. */
static void stream_name(const qn_sink *sink, size_t stream, char *out, size_t cap)
{
    if (stream == 0) {
        (void)snprintf(out, cap, "%s", sink->name);
    } else {
        size_t module = strlen(sink->name) - strlen(".weight");
        (void)snprintf(out, cap, "%.*s.%s", (int)module, sink->name, stream_suffixes[stream]);
    }
}

static quern_status make_index(const qn_job *job, const qn_output *o, qn_buf *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *root = qn_json_new_object();
    qn_json *metadata = qn_json_new_object();
    qn_json *map = qn_json_new_object();
    bool fits = qn_json_set(metadata, "total_size", qn_json_new_int((int64_t)o->tensor_bytes)) &&
                qn_json_set(metadata, "total_parameters", qn_json_new_int((int64_t)job->source.n_parameters));
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        const qn_sink *sink = &o->sinks[i];
        for (size_t k = 0; k < sink->n_streams; k++) {
            char name[160];
            stream_name(sink, k, name, sizeof name);
            fits = qn_json_set(map, name, qn_json_new_string(qn_path_base(o->files[sink->file].relative))) && fits;
        }
    }
    fits = qn_json_set(root, "metadata", metadata) && fits;
    fits = qn_json_set(root, "weight_map", map) && fits;
    if (!fits || !qn_json_write(root, 4, out) || !qn_buf_append_char(out, '\n')) {
        QN_FAIL_MEMORY(err, "model.safetensors.index.json", job->source.n_pieces * 100);
    }
done:
    qn_json_free(root);
    return status;
}

/* ---- files ---- */

quern_status qn_mlx_write_text(qn_output_file *file, const void *data, size_t size, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_out_file_create(&file->text, file->path, err));
    QN_TRY(qn_out_file_write(file->text, data, size, err));
    QN_TRY(qn_out_file_flush(file->text, err)); /* it is hashed from the file */
    file->bytes = size;
done:
    return status;
}

static quern_status copy_file(const qn_job *job, const qn_output *o, qn_output_file *file, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *data = NULL;
    size_t size;
    char *path = NULL;
    for (size_t i = 0; i < job->source.n_texts; i++) {
        const qn_source_text *t = &job->source.texts[i];
        if (strcmp(t->name, file->relative + strlen(o->relative) + 1) == 0) {
            return qn_mlx_write_text(file, t->data, t->len, err);
        }
    }
    path = qn_path_join(job->source.path, file->relative + strlen(o->relative) + 1);
    if (path == NULL) {
        QN_FAIL_MEMORY(err, file->relative, strlen(job->source.path));
    }
    QN_TRY(qn_file_read(&data, &size, path, COPIED_BYTES_MAX, err));
    QN_TRY(qn_mlx_write_text(file, data, size, err));
done:
    qn_free(path);
    qn_free(data);
    return status;
}

static quern_status declare(const qn_job *job, qn_output *o, size_t index, size_t next[], quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_piece *p = &job->source.pieces[index];
    qn_sink *sink = &o->sinks[index];
    for (size_t k = 0; k < sink->n_streams; k++) {
        qn_dtype type = sink->coding == QN_CODING_BLOCKS || k > 0 ? sink->dtype : QN_DTYPE_U32;
        uint64_t shape[3] = {p->n_parts, p->n_rows, sink->row_bytes[k] / qn_dtype_get(type)->block_bytes};
        char name[160];
        stream_name(sink, k, name, sizeof name);
        QN_TRY(qn_safetensors_declare(o->files[sink->file].safetensors, name, type, shape + (3 - p->what.n_dims), p->what.n_dims, err));
        sink->stream_tensor[k] = next[sink->file]++;
    }
done:
    return status;
}

/* `plan`: nothing is written. */
static quern_status begin_weights(qn_job *job, qn_output *o, bool plan, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t *next = qn_calloc(o->n_weight_files, sizeof *next);
    if (next == NULL) {
        QN_FAIL_MEMORY(err, "weight files", o->n_weight_files * sizeof *next);
    }
    for (size_t i = 0; i < o->n_weight_files; i++) {
        qn_out_file *left = plan ? NULL : o->files[i].left;
        QN_TRY(qn_safetensors_writer_create(&o->files[i].safetensors, plan || left != NULL ? NULL : o->files[i].path, err));
        if (left != NULL) {
            o->files[i].left = NULL;
            QN_TRY(qn_safetensors_writer_attach(o->files[i].safetensors, o->files[i].path, left, err));
        }
        QN_TRY(qn_safetensors_put_metadata(o->files[i].safetensors, "format", "mlx", err));
    }
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        QN_TRY(declare(job, o, i, next, err));
    }
    for (size_t i = 0; i < o->n_weight_files; i++) {
        QN_TRY(qn_safetensors_writer_begin_data(o->files[i].safetensors, err));
        o->files[i].bytes = qn_safetensors_writer_bytes(o->files[i].safetensors);
    }
done:
    qn_free(next);
    return status;
}

/* The files that are made of the source's texts: config.json and the index. False for those that are copied. */
static bool is_made(const qn_output_file *file)
{
    const char *name = qn_path_base(file->relative);
    return strcmp(name, "config.json") == 0 || strcmp(name, "model.safetensors.index.json") == 0;
}

static quern_status make_text(const qn_job *job, const qn_output *o, const qn_output_file *file, qn_buf *out, quern_error *err)
{
    qn_buf_reset(out);
    return strcmp(qn_path_base(file->relative), "config.json") == 0 ? qn_mlx_make_config(job, o, out, err) : make_index(job, o, out, err);
}

/* The exact sizes of all files, by going through what is written without writing it. */
static quern_status measure(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf text;
    qn_buf_init(&text, TEXT_BYTES_MAX);
    QN_TRY(begin_weights(job, o, true, err));
    for (size_t i = o->n_weight_files; i < o->n_files; i++) {
        if (is_made(&o->files[i])) {
            QN_TRY(make_text(job, o, &o->files[i], &text, err));
            o->files[i].bytes = text.len;
        }
    }
done:
    for (size_t i = 0; i < o->n_weight_files; i++) {
        qn_safetensors_writer_destroy(o->files[i].safetensors);
        o->files[i].safetensors = NULL;
    }
    qn_buf_deinit(&text);
    return status;
}

quern_status qn_mlx_plan(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    char relative[160];
    qn_output_file *file;
    if (job->source.gguf != NULL) {
        QN_TRY(qn_source_make_texts(&job->source, err));
    }
    (void)snprintf(relative, sizeof relative, "mlx/%s", o->type);
    o->relative = qn_arena_strndup(&job->arena, relative, strlen(relative));
    if (o->relative == NULL) {
        QN_FAIL_MEMORY(err, relative, strlen(relative) + 1);
    }
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        QN_TRY(plan_sink(job, o, i, err));
    }
    QN_TRY(qn_mlx_warn(job, o, err));
    QN_TRY(plan_weights(job, o, err));
    for (size_t i = 0; i < job->source.n_texts; i++) {
        (void)snprintf(relative, sizeof relative, "%s/%s", o->relative, job->source.texts[i].name);
        QN_TRY(qn_job_add_file(job, o, relative, job->source.texts[i].len, &file, err));
    }
    for (size_t i = 0; i < N_COPIED && job->source.gguf == NULL; i++) {
        qn_mapping m = {0};
        char *path = qn_path_join(job->source.path, copied_files[i]);
        if (path == NULL) {
            QN_FAIL_MEMORY(err, copied_files[i], strlen(job->source.path));
        }
        bool there = false;
        status = qn_file_find(path, &there, err);
        if (status == QUERN_OK && there) {
            status = qn_mapping_open(&m, path, err);
        }
        qn_free(path);
        if (status == QUERN_OK && there) {
            (void)snprintf(relative, sizeof relative, "%s/%s", o->relative, copied_files[i]);
            status = qn_job_add_file(job, o, relative, m.size, &file, err);
        }
        qn_mapping_close(&m);
        QN_TRY(status);
    }
    (void)snprintf(relative, sizeof relative, "%s/config.json", o->relative);
    QN_TRY(qn_job_add_file(job, o, relative, 0, &file, err));
    QN_TRY(measure(job, o, err));
done:
    return status;
}

quern_status qn_mlx_begin(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf text;
    qn_buf_init(&text, TEXT_BYTES_MAX);
    QN_TRY(begin_weights(job, o, false, err));
    for (size_t i = o->n_weight_files; i < o->n_files; i++) {
        if (is_made(&o->files[i])) {
            QN_TRY(make_text(job, o, &o->files[i], &text, err));
            QN_TRY(qn_mlx_write_text(&o->files[i], qn_buf_text(&text), text.len, err));
        } else {
            QN_TRY(copy_file(job, o, &o->files[i], err));
        }
    }
done:
    qn_buf_deinit(&text);
    return status;
}

static bool is_weight_file(const char *name)
{
    static const char begin[] = "model";
    static const char end[] = ".safetensors";
    size_t n = strlen(name);
    bool weights = n > sizeof end - 1 && strncmp(name, begin, sizeof begin - 1) == 0 && strcmp(name + n - (sizeof end - 1), end) == 0;
    return weights || strcmp(name, "model.safetensors.index.json") == 0;
}

static bool is_ours(const qn_output *o, const char *name)
{
    for (size_t i = 0; i < o->n_files; i++) {
        if (strcmp(qn_path_base(o->files[i].path), name) == 0) {
            return true;
        }
    }
    return false;
}

void qn_mlx_remove_stale(const qn_job *job, const qn_output *o)
{
    char *folder = qn_path_join(job->output_dir, o->relative);
    const char **names = NULL;
    size_t n = 0;
    qn_arena arena;
    qn_arena_init(&arena, 0);
    if (folder == NULL || qn_dir_list(folder, SIZE_MAX, &arena, &names, &n, NULL) != QUERN_OK) {
        n = 0;
    }
    for (size_t i = 0; i < n; i++) {
        char *path = is_weight_file(names[i]) && !is_ours(o, names[i]) ? qn_path_join(folder, names[i]) : NULL;
        if (path != NULL) {
            (void)unlink(path);
        }
        qn_free(path);
    }
    qn_arena_deinit(&arena);
    qn_free(folder);
}
