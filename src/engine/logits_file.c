/* logits_file.c - from ids to a safetensors file of logits, a few rows at a time.
 *
 * Owns the reading of the ids document and the order of the work; the rows come from quern_engine_step, and how many of them are
 * in a step changes no bit of them. */
#include "quern/logits.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "formats/safetensors_write.h"

/* Rows are computed in groups whose logits take at most this: a vocabulary of 150,000 gives 111 rows. */
#define GROUP_BYTES_MAX ((size_t)64 << 20)

typedef struct id_list {
    int32_t *data;
    size_t len;
} id_list;

typedef struct job {
    const quern_model *model;
    const quern_logits_options *opt;
    const char *what;
    id_list *sequences;
    size_t n_sequences, n_positions, longest;
    size_t n_vocab;
    quern_engine *engine;
    qn_safetensors_writer *writer;
    float *logits; /* (group_rows, n_vocab) */
    size_t group_rows;
    size_t done;
} job;

static quern_status read_sequence(job *j, size_t index, const qn_json *list, int32_t bos, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t extra = bos >= 0 ? 1 : 0, n = qn_json_length(list);
    id_list *out = &j->sequences[index];
    if (qn_json_get_kind(list) != QN_JSON_ARRAY || n + extra == 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: sequence %zu: expected a list of at least one token id", j->what, index);
    }
    out->data = qn_malloc_array(n + extra, sizeof *out->data);
    if (out->data == NULL) {
        QN_FAIL_MEMORY(err, "token ids", (n + extra) * sizeof *out->data);
    }
    if (extra == 1) {
        out->data[out->len++] = bos;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        if (!qn_json_int(qn_json_at(list, i), &id) || id < 0 || (uint64_t)id >= j->n_vocab) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: sequence %zu, position %zu: expected a token id from 0 to %zu", j->what, index, i,
                    j->n_vocab - 1);
        }
        out->data[out->len++] = (int32_t)id;
    }
    j->n_positions += out->len;
    j->longest = out->len > j->longest ? out->len : j->longest;
done:
    return status;
}

static quern_status find_bos(const job *j, int32_t *bos, quern_error *err)
{
    quern_status status = QUERN_OK;
    *bos = -1;
    if (j->opt->add_bos) {
        const quern_tokenizer *t = quern_model_get_tokenizer(j->model);
        *bos = t != NULL ? quern_tokenizer_get_info(t)->bos_id : -1;
        if (*bos < 0) {
            QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: the vocabulary has no BOS token to add", quern_model_get_info(j->model)->name);
        }
    }
done:
    return status;
}

static quern_status read_sequences(job *j, const char *json, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *root = NULL;
    int32_t bos;
    QN_TRY(find_bos(j, &bos, err));
    QN_TRY(qn_json_parse(&root, json, len, 0, j->what, err));
    const qn_json *list = qn_json_get(root, "sequences");
    size_t n = qn_json_length(list);
    if (qn_json_get_kind(list) != QN_JSON_ARRAY || n == 0) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: expected {\"sequences\":[[id,...],...]} with at least one sequence", j->what);
    }
    j->sequences = qn_calloc(n, sizeof *j->sequences);
    if (j->sequences == NULL) {
        QN_FAIL_MEMORY(err, "sequences", n * sizeof *j->sequences);
    }
    j->n_sequences = n;
    for (size_t i = 0; i < n; i++) {
        QN_TRY(read_sequence(j, i, qn_json_at(list, i), bos, err));
    }
done:
    qn_json_free(root);
    return status;
}

static const char *kv_name(quern_kv_type t) { return t == QUERN_KV_F32 ? "f32" : t == QUERN_KV_F16 ? "f16" : "q8_0"; }

static quern_status declare(job *j, const char *out_path, quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_engine_info *info = quern_engine_get_info(j->engine);
    bool f32 = j->opt->engine.arithmetic == QUERN_ARITHMETIC_F32_ACTIVATIONS;
    char name[40];
    QN_TRY(qn_safetensors_writer_create(&j->writer, out_path, err));
    QN_TRY(qn_safetensors_put_metadata(j->writer, "schema", "quern.logits/1", err));
    QN_TRY(qn_safetensors_put_metadata(j->writer, "model", quern_model_get_info(j->model)->name, err));
    QN_TRY(qn_safetensors_put_metadata(j->writer, "isa", info->isa, err));
    QN_TRY(qn_safetensors_put_metadata(j->writer, "kv_type", kv_name(info->kv_type), err));
    QN_TRY(qn_safetensors_put_metadata(j->writer, "arithmetic", f32 ? "f32_activations" : "as_run", err));
    for (size_t i = 0; i < j->n_sequences; i++) {
        const uint64_t shape[2] = {j->sequences[i].len, j->n_vocab};
        (void)snprintf(name, sizeof name, "logits.%zu", i);
        QN_TRY(qn_safetensors_declare(j->writer, name, QN_DTYPE_F32, shape, 2, err));
    }
    QN_TRY(qn_safetensors_writer_begin_data(j->writer, err));
done:
    return status;
}

static quern_status write_sequence(job *j, size_t index, quern_error *err)
{
    quern_status status = QUERN_OK;
    const id_list *ids = &j->sequences[index];
    quern_sequence *s = NULL;
    QN_TRY(quern_sequence_create(&s, j->engine, err));
    for (size_t at = 0; at < ids->len;) {
        size_t rows = ids->len - at < j->group_rows ? ids->len - at : j->group_rows;
        const quern_step_item item = {.sequence = s, .ids = ids->data + at, .n_ids = rows, .n_logits = rows, .logits = j->logits};
        QN_TRY(quern_engine_step(j->engine, &item, 1, err));
        size_t row_bytes = j->n_vocab * sizeof *j->logits;
        QN_TRY(qn_safetensors_write_data(j->writer, index, (uint64_t)at * row_bytes, j->logits, rows * row_bytes, err));
        at += rows;
        j->done += rows;
        if (j->opt->on_progress != NULL && !j->opt->on_progress(j->opt->user, j->done, j->n_positions)) {
            QN_FAIL(err, QUERN_ERROR_CANCELLED, "interrupted after %zu of %zu positions; nothing was written", j->done, j->n_positions);
        }
    }
done:
    quern_sequence_destroy(s);
    return status;
}

static quern_status create_engine(job *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_engine_options options = j->opt->engine;
    if (options.n_ctx == 0) {
        options.n_ctx = j->longest;
    } else if (options.n_ctx < j->longest) {
        QN_FAIL(err, QUERN_ERROR_CONTEXT_FULL, "%s: a sequence of %zu tokens, %zu fit the context", j->what, j->longest, options.n_ctx);
    }
    QN_TRY(quern_engine_create(&j->engine, j->model, &options, err));
    size_t n_batch = quern_engine_get_info(j->engine)->n_batch, most = GROUP_BYTES_MAX / (j->n_vocab * sizeof *j->logits);
    j->group_rows = n_batch < most ? n_batch : most > 0 ? most : 1;
    j->logits = qn_malloc_array(j->group_rows * j->n_vocab, sizeof *j->logits);
    if (j->logits == NULL) {
        QN_FAIL_MEMORY(err, "logits", j->group_rows * j->n_vocab * sizeof *j->logits);
    }
done:
    return status;
}

static void deinit_job(job *j)
{
    for (size_t i = 0; j->sequences != NULL && i < j->n_sequences; i++) {
        qn_free(j->sequences[i].data);
    }
    qn_free(j->sequences);
    qn_free(j->logits);
    quern_engine_destroy(j->engine);
    qn_safetensors_writer_destroy(j->writer);
}

quern_status quern_logits_write(const quern_model *m, const quern_logits_options *opt, const char *ids_json, size_t len, const char *what,
                                const char *out_path, quern_logits_summary *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    job j = {.model = m, .opt = opt, .what = what, .n_vocab = quern_model_get_info(m)->n_vocab};
    QN_TRY(read_sequences(&j, ids_json, len, err));
    QN_TRY(create_engine(&j, err));
    QN_TRY(declare(&j, out_path, err));
    for (size_t i = 0; i < j.n_sequences; i++) {
        QN_TRY(write_sequence(&j, i, err));
    }
    uint64_t bytes = qn_safetensors_writer_bytes(j.writer);
    QN_TRY(qn_safetensors_writer_commit(j.writer, err));
    const quern_engine_info *info = quern_engine_get_info(j.engine);
    *out = (quern_logits_summary){.n_sequences = j.n_sequences,
                                  .n_positions = j.n_positions,
                                  .n_vocab = j.n_vocab,
                                  .bytes = bytes,
                                  .isa = info->isa,
                                  .n_threads = info->n_threads,
                                  .kv_type = info->kv_type};
done:
    deinit_job(&j);
    return status;
}
