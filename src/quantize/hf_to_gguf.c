/* hf_to_gguf.c - planning and beginning a GGUF file. See hf_to_gguf.h. The keys are in gguf_metadata.c.
 *
 * Row order: architectures that GGUF runs with interleaved rope (llama, mistral, mixtral, smollm3) have the rows of q and k reordered within
 * each head, from halves (i, i + d/2) to neighbours (2i, 2i + 1).
 */
#include "quantize/hf_to_gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/vmath.h"
#include "model/rope.h"

bool qn_gguf_reorders(const qn_model_config *c, qn_part part)
{
    bool rotates_neighbours = c->family == QN_FAMILY_LLAMA || c->family == QN_FAMILY_MISTRAL || c->family == QN_FAMILY_MIXTRAL ||
                              c->family == QN_FAMILY_SMOLLM3;
    return rotates_neighbours && (part == QN_PART_ATTN_Q || part == QN_PART_ATTN_K);
}

/* ---- what GGUF cannot say ---- */

static quern_status check_experts(const qn_model_config *c, quern_error *err)
{
    if (c->family == QN_FAMILY_QWEN3_MOE && c->n_experts > 0 && !c->norm_topk_prob) {
        return qn_error_set(
            err, QUERN_ERROR_UNSUPPORTED,
            "config.json says norm_topk_prob false: GGUF has no key for it and its readers always normalize; GGUF cannot hold this model");
    }
    for (uint32_t i = 0; i < c->n_layers; i++) {
        if (c->layers[i].experts != c->layers[0].experts) {
            return qn_error_set(err, QUERN_ERROR_UNSUPPORTED,
                                "layer %" PRIu32
                                " %s experts and layer 0 %s: GGUF's readers expect all layers of this architecture alike; GGUF cannot hold "
                                "this model",
                                i, c->layers[i].experts ? "has" : "has no", c->layers[0].experts ? "has" : "has none");
        }
    }
    return QUERN_OK;
}

/* Readers of smollm3 files rotate every layer but each fourth. */
static quern_status check_rope_layers(const qn_model_config *c, quern_error *err)
{
    for (uint32_t i = 0; c->family == QN_FAMILY_SMOLLM3 && i < c->n_layers; i++) {
        bool expected = (i + 1) % 4 != 0;
        if (c->layers[i].rope != expected) {
            return qn_error_set(err, QUERN_ERROR_UNSUPPORTED,
                                "config.json says layer %" PRIu32
                                " %s rope: GGUF has no key for it and its readers leave out every fourth layer; GGUF cannot "
                                "hold this model",
                                i, c->layers[i].rope ? "uses" : "does not use");
        }
    }
    return QUERN_OK;
}

/* The tokenizer in GGUF's words, once a job. */
static quern_status plan_vocab(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (!job->has_vocab) {
        QN_TRY(qn_tokenizer_export(job->source.tokenizer, job->source.config.n_vocab, &job->vocab, err));
        job->has_vocab = true;
    }
    for (size_t i = 0; i < job->vocab.n_notes; i++) {
        QN_TRY(qn_job_warn(job, o, err, "%s", job->vocab.notes[i]));
    }
done:
    return status;
}

/* Every reader rounds YaRN's correction range outwards to whole dimensions. */
static quern_status check_yarn(const qn_model_config *c, quern_error *err)
{
    qn_rope_config rounded = c->rope;
    rounded.truncate = true;
    if (c->rope.scaling == QN_ROPE_YARN && !qn_rope_same_yarn_range(&c->rope, &rounded)) {
        return qn_error_set(
            err, QUERN_ERROR_UNSUPPORTED,
            "config.json says truncate false for YaRN: GGUF has no key for it and its readers round the correction range, which gives this "
            "model other positions; GGUF cannot hold this model");
    }
    return QUERN_OK;
}

/* What GGUF can say and Quern reads, but llama.cpp (as of its build 0.3.36 for Python) refuses or does not read for this architecture. */
static quern_status warn_of_llama_cpp(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &job->source.config;
    const char *arch = qn_family_name(c->family);
    bool llama = strcmp(arch, "llama") == 0;
    if (!llama && (c->o_bias || c->mlp_bias)) {
        QN_TRY(qn_job_warn(job, o, err,
                           "config.json says %s true: Quern reads the biases, but llama.cpp refuses files of architecture %s with them",
                           c->o_bias ? "attention_bias" : "mlp_bias", arch));
    }
    if (!llama && c->rope.scaling == QN_ROPE_LLAMA3) {
        QN_TRY(qn_job_warn(
            job, o, err,
            "rope is scaled by llama3 (tensor rope_freqs.weight): Quern reads it, but llama.cpp refuses files of architecture %s "
            "with it",
            arch));
    }
    qn_rope_config usual = c->rope;
    usual.beta_fast = 32;
    usual.beta_slow = 1;
    if (c->rope.scaling == QN_ROPE_YARN && !qn_rope_same_yarn_range(&c->rope, &usual)) {
        QN_TRY(qn_job_warn(
            job, o, err,
            "YaRN's beta_fast %g and beta_slow %g are stored and Quern reads them, but llama.cpp computes with 32 and 1 for this "
            "architecture: give it --yarn-beta-fast %g --yarn-beta-slow %g, or its results are wrong",
            c->rope.beta_fast, c->rope.beta_slow, c->rope.beta_fast, c->rope.beta_slow));
    }
done:
    return status;
}

/* Settings of generation_config.json for which GGUF has no key. */
static quern_status warn_of_sampling(qn_job *job, qn_output *o, quern_error *err)
{
    static const struct {
        const char *name;
        double nothing;
    } unsaid[] = {{"typical_p", 1},
                  {"presence_penalty", 0},
                  {"frequency_penalty", 0},
                  {"no_repeat_ngram_size", 0},
                  {"encoder_repetition_penalty", 1},
                  {"epsilon_cutoff", 0},
                  {"eta_cutoff", 0}};
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < sizeof unsaid / sizeof unsaid[0]; i++) {
        double v;
        if (qn_json_number(qn_json_get(job->source.generation, unsaid[i].name), &v) && v != unsaid[i].nothing) {
            QN_TRY(qn_job_warn(job, o, err, "generation_config.json has %s %g, for which GGUF has no key", unsaid[i].name, v));
        }
    }
done:
    return status;
}

/* End tokens are those of the configuration and the tokenizer's own. */
static quern_status warn_of_end_tokens(qn_job *job, qn_output *o, quern_error *err)
{
    const qn_model_config *c = &job->source.config;
    int64_t own = job->has_vocab ? job->vocab.spec.eos_id : -1;
    bool named = own < 0;
    for (size_t i = 0; i < c->n_stop_ids; i++) {
        named = named || c->stop_ids[i] == own;
    }
    size_t n = c->n_stop_ids + !named;
    return n > 3 ? qn_job_warn(job, o, err, "the source names %zu end tokens; GGUF has keys for three, the others are not stored", n)
                 : QUERN_OK;
}

static quern_status check_expressible(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &job->source.config;
    QN_TRY(check_experts(c, err));
    QN_TRY(check_rope_layers(c, err));
    QN_TRY(check_yarn(c, err));
    for (uint32_t i = 0; i < c->n_layers; i++) {
        if (c->layers[i].window != 0 && c->layers[i].window < c->n_ctx_train) {
            QN_TRY(qn_job_warn(job, o, err,
                               "the sliding window of %" PRIu32
                               " tokens cannot be said in GGUF for this architecture: readers attend to all tokens, so results "
                               "differ from the source beyond %" PRIu32 " tokens",
                               c->layers[i].window, c->layers[i].window));
            break;
        }
    }
    if (job->source.gguf == NULL) {
        QN_TRY(warn_of_end_tokens(job, o, err));
        QN_TRY(warn_of_sampling(job, o, err));
    }
    o->n_unsaid = o->n_warnings - o->first_unsaid;
    QN_TRY(warn_of_llama_cpp(job, o, err));
done:
    return status;
}

/* ---- tensors ---- */

/* Divisors of the rope frequencies: 1 for short waves, `factor` for long ones, between them a blend. Same meaning as in config.json's
 * rope_scaling of type llama3: wavelength w = 2 pi / frequency against original / high and original / low. */
void qn_rope_fill_divisors(const qn_rope_config *rope, float *out)
{
    const double two_pi = 6.283185307179586;
    double original = (double)rope->original_ctx;
    for (uint32_t i = 0; i < rope->n_rot / 2; i++) {
        double wavelength = two_pi * qn_pow(rope->theta, 2.0 * (double)i / (double)rope->n_rot);
        if (wavelength < original / rope->high_freq_factor) {
            out[i] = 1.0f;
        } else if (wavelength > original / rope->low_freq_factor) {
            out[i] = (float)rope->factor;
        } else {
            double smooth = (original / wavelength - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor);
            out[i] = (float)(1.0 / ((1.0 - smooth) / rope->factor + smooth));
        }
    }
}

/* A vector whose elements are reordered is written as rows of one element. */
static quern_status plan_sink(qn_job *job, qn_output *o, size_t index, const qn_recipe_model *m, const qn_type_overrides *overrides,
                              quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_piece *p = &job->source.pieces[index];
    qn_sink *sink = &o->sinks[index];
    char name[96];
    qn_part_gguf_name(p->what.part, p->what.layer, p->what.bias, name, sizeof name);
    *sink = (qn_sink){.name = qn_arena_strndup(&job->arena, name, strlen(name)), .coding = QN_CODING_BLOCKS, .n_streams = 1};
    if (sink->name == NULL) {
        QN_FAIL_MEMORY(err, name, strlen(name) + 1);
    }
    bool mixed = o->mix != NULL && o->mix[index].is_chosen;
    qn_recipe_tensor any_rows = p->what;
    any_rows.n_cols = 0; /* whole blocks of every type */
    sink->dtype = mixed ? o->mix[index].dtype : qn_recipe_gguf(o->target.gguf, m, &p->what);
    sink->asked = mixed ? sink->dtype : qn_recipe_gguf(o->target.gguf, m, &any_rows);
    if (qn_recipe_applies(&p->what)) {
        bool found;
        qn_dtype chosen;
        QN_TRY(qn_type_overrides_find(overrides, name, &chosen, &found, err));
        if (found) {
            sink->dtype = qn_recipe_fallback(chosen, p->n_cols);
            sink->asked = chosen;
        }
    }
    if (qn_gguf_reorders(&job->source.config, p->what.part)) {
        sink->permute_dim = job->source.config.head_dim;
    }
    size_t part_bytes;
    if (!qn_dtype_row_bytes(sink->dtype, p->n_cols, &sink->row_bytes[0]) ||
        !qn_size_mul(sink->row_bytes[0], (size_t)p->n_rows * p->n_parts, &part_bytes)) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "tensor %s is too large", name);
    }
    o->tensor_bytes += part_bytes;
done:
    return status;
}

/* Keys and tensors, up to where the data begins; for a planned file too. */
static quern_status declare_all(qn_job *job, qn_output *o, qn_gguf_writer *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_gguf_put_metadata(job, o, w, err));
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        const qn_piece *p = &job->source.pieces[i];
        uint64_t shape[3] = {p->n_parts, p->n_rows, p->n_cols};
        uint32_t n_dims = p->what.n_dims;
        QN_TRY(qn_gguf_declare(w, o->sinks[i].name, o->sinks[i].dtype, shape + (3 - n_dims), n_dims, err));
        o->sinks[i].stream_tensor[0] = i;
    }
    if (o->rope_divisors != NULL) {
        uint64_t length = job->source.config.rope.n_rot / 2;
        QN_TRY(qn_gguf_declare(w, "rope_freqs.weight", QN_DTYPE_F32, &length, 1, err));
    }
    QN_TRY(qn_gguf_writer_begin_data(w, err));
    o->files[0].bytes = qn_gguf_writer_bytes(w);
done:
    return status;
}

quern_status qn_gguf_plan(qn_job *job, qn_output *o, const qn_type_overrides *overrides, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_model_config *c = &job->source.config;
    qn_recipe_model m = qn_recipe_model_of(c);
    char relative[400];
    qn_output_file *file;
    qn_gguf_writer *planned = NULL;
    o->first_unsaid = o->n_warnings;
    if (job->source.gguf == NULL) { /* else its metadata are carried over */
        QN_TRY(plan_vocab(job, o, err));
    }
    QN_TRY(check_expressible(job, o, err));
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        QN_TRY(plan_sink(job, o, i, &m, overrides, err));
    }
    if (c->rope.scaling == QN_ROPE_LLAMA3 || job->source.rope_divisors != NULL) {
        o->rope_divisors = qn_arena_alloc_array(&job->arena, c->rope.n_rot / 2, sizeof *o->rope_divisors);
        if (o->rope_divisors == NULL) {
            QN_FAIL_MEMORY(err, "rope_freqs.weight", c->rope.n_rot * sizeof *o->rope_divisors);
        }
        if (job->source.rope_divisors != NULL) {
            memcpy(o->rope_divisors, job->source.rope_divisors, c->rope.n_rot / 2 * sizeof *o->rope_divisors);
        } else {
            qn_rope_fill_divisors(&c->rope, o->rope_divisors);
        }
        o->tensor_bytes += c->rope.n_rot / 2 * sizeof *o->rope_divisors;
    }
    (void)snprintf(relative, sizeof relative, "gguf/%s-%s.gguf", job->name, o->type);
    QN_TRY(qn_job_add_file(job, o, relative, 0, &file, err));
    o->n_weight_files = 1;
    o->relative = file->relative;
    QN_TRY(qn_gguf_writer_create(&planned, NULL, err));
    QN_TRY(declare_all(job, o, planned, err));
done:
    qn_gguf_writer_destroy(planned);
    return status;
}

quern_status qn_gguf_begin(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_output_file *file = &o->files[0];
    QN_TRY(qn_gguf_writer_create(&file->gguf, file->left == NULL ? file->path : NULL, err));
    if (file->left != NULL) {
        qn_out_file *left = file->left;
        file->left = NULL;
        QN_TRY(qn_gguf_writer_attach(file->gguf, file->path, left, err));
    }
    QN_TRY(declare_all(job, o, file->gguf, err));
    if (o->rope_divisors != NULL) {
        size_t bytes = job->source.config.rope.n_rot / 2 * sizeof *o->rope_divisors;
        QN_TRY(qn_gguf_write_data(file->gguf, job->source.n_pieces, 0, o->rope_divisors, bytes, err));
    }
done:
    return status;
}
