/* gguf_metadata.c - the keys of a converted GGUF file: architecture, rope, experts, sampling defaults, tokenizer, chat template.
 *
 * Same keys and meaning as llama.cpp's converter writes for these architectures.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "kernels/vmath.h"
#include "quantize/certificate.h"
#include "quantize/hf_to_gguf.h"

typedef struct keys {
    qn_gguf_writer *w;
    const char *arch;
    char key[128];
    quern_error *err;
} keys;

static const char *arch_key(keys *k, const char *name)
{
    (void)snprintf(k->key, sizeof k->key, "%s.%s", k->arch, name);
    return k->key;
}

static quern_status put_u32(keys *k, const char *name, uint32_t v) { return qn_gguf_put_u32(k->w, arch_key(k, name), v, k->err); }
static quern_status put_f32(keys *k, const char *name, double v) { return qn_gguf_put_f32(k->w, arch_key(k, name), (float)v, k->err); }
static quern_status put_text(keys *k, const char *key, const char *text)
{
    return qn_gguf_put_string(k->w, key, text, strlen(text), k->err);
}

static quern_status put_rope(keys *k, const qn_model_config *c)
{
    quern_status status = QUERN_OK;
    const qn_rope_config *r = &c->rope;
    QN_TRY(put_f32(k, "rope.freq_base", r->theta));
    if (strcmp(k->arch, "llama") == 0 || c->family == QN_FAMILY_SMOLLM3) {
        QN_TRY(put_u32(k, "rope.dimension_count", r->n_rot));
    }
    if (r->scaling == QN_ROPE_LINEAR || r->scaling == QN_ROPE_YARN) {
        QN_TRY(qn_gguf_put_string(k->w, arch_key(k, "rope.scaling.type"), r->scaling == QN_ROPE_YARN ? "yarn" : "linear",
                                  r->scaling == QN_ROPE_YARN ? 4 : 6, k->err));
        QN_TRY(put_f32(k, "rope.scaling.factor", r->factor));
    }
    if (r->scaling == QN_ROPE_YARN) {
        QN_TRY(put_u32(k, "rope.scaling.original_context_length", r->original_ctx));
        if (r->beta_fast != 32.0 || r->beta_slow != 1.0) {
            QN_TRY(put_f32(k, "rope.scaling.yarn_beta_fast", r->beta_fast));
            QN_TRY(put_f32(k, "rope.scaling.yarn_beta_slow", r->beta_slow));
        }
        if (r->attention_factor > 0) { /* readers multiply it with their own 0.1 ln(factor) + 1 */
            QN_TRY(put_f32(k, "rope.scaling.attn_factor", r->attention_factor / (r->factor > 1 ? 0.1 * qn_log(r->factor) + 1 : 1)));
        }
    }
done:
    return status;
}

static quern_status put_architecture(keys *k, const qn_model_config *c)
{
    quern_status status = QUERN_OK;
    QN_TRY(put_u32(k, "block_count", c->n_layers));
    QN_TRY(put_u32(k, "context_length", c->n_ctx_train));
    QN_TRY(put_u32(k, "embedding_length", c->hidden_size));
    QN_TRY(put_u32(k, "feed_forward_length", c->ffn_size));
    QN_TRY(put_u32(k, "attention.head_count", c->n_heads));
    QN_TRY(put_u32(k, "attention.head_count_kv", c->n_kv_heads));
    QN_TRY(put_f32(k, "attention.layer_norm_rms_epsilon", c->rms_eps));
    QN_TRY(put_u32(k, "attention.key_length", c->head_dim));
    QN_TRY(put_u32(k, "attention.value_length", c->head_dim));
    if (strcmp(k->arch, "llama") == 0 || c->family == QN_FAMILY_SMOLLM3) {
        QN_TRY(put_u32(k, "vocab_size", c->n_vocab));
    }
    QN_TRY(put_rope(k, c));
    if (c->n_experts > 0) {
        QN_TRY(put_u32(k, "expert_count", c->n_experts));
        QN_TRY(put_u32(k, "expert_used_count", c->n_experts_used));
    }
    if (c->n_experts > 0 && c->family == QN_FAMILY_QWEN3_MOE) {
        QN_TRY(put_u32(k, "expert_feed_forward_length", c->expert_ffn_size));
        QN_TRY(put_u32(k, "expert_shared_feed_forward_length", 0));
    }
done:
    return status;
}

/* generation_config.json's sampling defaults, those that it names: Hugging Face's, and those that llama.cpp's converter takes from there by its own
 * names. */
/* Settings that count in transformers with do_sample only: readers of GGUF, which has no key for that, would draw answers by them. */
static bool counts(const qn_json *generation, const char *name)
{
    static const char *const drawn[] = {"temperature", "top_k", "top_p", "min_p"};
    for (size_t i = 0; i < sizeof drawn / sizeof drawn[0]; i++) {
        if (strcmp(drawn[i], name) == 0) {
            return qn_json_bool(qn_json_get(generation, "do_sample"), false);
        }
    }
    return true;
}

static quern_status put_sampling(keys *k, const qn_source *s)
{
    struct row {
        const char *json, *gguf;
    };
    static const struct row integers[] = {{"top_k", "general.sampling.top_k"},
                                          {"penalty_last_n", "general.sampling.penalty_last_n"},
                                          {"mirostat", "general.sampling.mirostat"}};
    static const struct row reals[] = {{"top_p", "general.sampling.top_p"},
                                       {"min_p", "general.sampling.min_p"},
                                       {"xtc_probability", "general.sampling.xtc_probability"},
                                       {"xtc_threshold", "general.sampling.xtc_threshold"},
                                       {"temperature", "general.sampling.temp"},
                                       {"repetition_penalty", "general.sampling.penalty_repeat"},
                                       {"penalty_repeat", "general.sampling.penalty_repeat"},
                                       {"mirostat_tau", "general.sampling.mirostat_tau"},
                                       {"mirostat_eta", "general.sampling.mirostat_eta"}};
    quern_status status = QUERN_OK;
    const qn_json *root = s->generation;
    if (root == NULL) {
        return QUERN_OK;
    }
    const char *sequence = qn_json_string(qn_json_get(root, "sequence"), NULL);
    QN_TRY(sequence != NULL ? put_text(k, "general.sampling.sequence", sequence) : QUERN_OK);
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        int64_t v;
        int64_t least = i == 0 ? 0 : -1; /* penalty_last_n -1: all tokens */
        if (counts(root, integers[i].json) && qn_json_int(qn_json_get(root, integers[i].json), &v) && v >= least && v <= INT32_MAX) {
            QN_TRY(qn_gguf_put_i32(k->w, integers[i].gguf, (int32_t)v, k->err));
        }
    }
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        double v;
        bool again = strcmp(reals[i].json, "penalty_repeat") == 0 && qn_json_number(qn_json_get(root, "repetition_penalty"), &v);
        if (!again && counts(root, reals[i].json) && qn_json_number(qn_json_get(root, reals[i].json), &v)) {
            QN_TRY(qn_gguf_put_f32(k->w, reals[i].gguf, (float)v, k->err));
        }
    }
    double temperature;
    if (counts(root, "temperature") && !qn_json_number(qn_json_get(root, "temperature"), &temperature)) {
        QN_TRY(qn_gguf_put_f32(k->w, "general.sampling.temp", 1.0f, k->err)); /* what transformers takes */
    }
done:
    return status;
}

/* "919K", "8.2B", "5.2K": two digits at least, as model cards write it. */
static void format_parameters(uint64_t n, char *out, size_t cap)
{
    static const struct {
        double unit;
        const char *suffix;
    } units[] = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "K"}};
    size_t i = 0;
    while (i < 3 && (double)n <= units[i].unit) {
        i++;
    }
    double v = (double)n / units[i].unit;
    (void)snprintf(out, cap, "%.*f%s", v < 0.5 ? 2 : v < 9.5 ? 1 : 0, v, units[i].suffix);
}

/* "8.2B"; with experts "16x142K": their number, and the parameters of one expert a layer with all that is not of an expert. */
static void format_size_label(const qn_source *s, char *out, size_t cap)
{
    char parameters[32];
    uint64_t all_experts = 0;
    uint64_t one_expert = 0;
    for (size_t i = 0; i < s->n_pieces; i++) {
        const qn_piece *p = &s->pieces[i];
        if (qn_part_is_expert(p->what.part)) {
            one_expert += p->n_rows * p->n_cols;
            all_experts += p->n_rows * p->n_cols * p->n_parts;
        }
    }
    format_parameters(s->n_parameters - all_experts + one_expert, parameters, sizeof parameters);
    if (all_experts > 0) {
        (void)snprintf(out, cap, "%" PRIu32 "x%s", s->config.n_experts, parameters);
    } else {
        (void)snprintf(out, cap, "%s", parameters);
    }
}

static quern_status put_general(keys *k, const qn_job *job, const qn_output *o)
{
    quern_status status = QUERN_OK;
    char label[48];
    QN_TRY(put_text(k, "general.architecture", k->arch));
    QN_TRY(put_text(k, "general.type", "model"));
    QN_TRY(put_text(k, "general.name", job->name));
    format_size_label(&job->source, label, sizeof label);
    QN_TRY(put_text(k, "general.size_label", label));
    QN_TRY(put_sampling(k, &job->source));
    QN_TRY(qn_gguf_put_u32(k->w, "general.file_type", o->target.gguf->file_type, k->err));
    QN_TRY(qn_gguf_put_u32(k->w, "general.quantization_version", 2, k->err));
done:
    return status;
}

/* ---- tokenizer ---- */

static quern_status put_spans(keys *k, const char *key, const qn_text_span *spans, size_t n)
{
    quern_status status = QUERN_OK;
    qn_span *copy = qn_malloc_array(n, sizeof *copy);
    if (copy == NULL) {
        QN_FAIL_MEMORY(k->err, key, n * sizeof *copy);
    }
    for (size_t i = 0; i < n; i++) {
        copy[i] = (qn_span){.data = spans[i].data, .len = spans[i].len};
    }
    QN_TRY(qn_gguf_put_strings(k->w, key, copy, n, k->err));
done:
    qn_free(copy);
    return status;
}

static quern_status put_id(keys *k, const char *key, int64_t id)
{
    return id >= 0 && id <= INT32_MAX ? qn_gguf_put_u32(k->w, key, (uint32_t)id, k->err) : QUERN_OK;
}

static bool text_contains(const quern_tokenizer *t, int32_t id, const char *word)
{
    size_t len = 0;
    const char *text = quern_tokenizer_get_text(t, id, &len);
    size_t n = strlen(word);
    for (size_t i = 0; text != NULL && i + n <= len; i++) {
        if (memcmp(text + i, word, n) == 0) {
            return true;
        }
    }
    return false;
}

/* End tokens: the first is eos; of two more, the one that ends a message ("eom") has a key of its own. */
static quern_status put_end_tokens(keys *k, const qn_source *s, int64_t eos)
{
    quern_status status = QUERN_OK;
    int64_t others[2] = {-1, -1};
    size_t n = 0;
    if (eos < 0) {
        eos = s->config.eos_id >= 0 ? s->config.eos_id : s->config.n_stop_ids > 0 ? s->config.stop_ids[0] : -1;
    }
    for (size_t i = 0; i < s->config.n_stop_ids && n < 2; i++) {
        if (s->config.stop_ids[i] != eos) {
            others[n++] = s->config.stop_ids[i];
        }
    }
    if (n > 0 && text_contains(s->tokenizer, (int32_t)others[0], "eom")) {
        int64_t first = others[0];
        others[0] = others[1];
        others[1] = first;
    }
    QN_TRY(put_id(k, "tokenizer.ggml.eos_token_id", eos));
    QN_TRY(put_id(k, "tokenizer.ggml.eot_token_id", others[0]));
    QN_TRY(put_id(k, "tokenizer.ggml.eom_token_id", others[1]));
done:
    return status;
}

static quern_status put_flag(keys *k, const char *key, int flag)
{
    return flag >= 0 ? qn_gguf_put_bool(k->w, key, flag != 0, k->err) : QUERN_OK;
}

static quern_status put_tokenizer(keys *k, const qn_source *s, const qn_vocab_spec *v)
{
    quern_status status = QUERN_OK;
    QN_TRY(put_text(k, "tokenizer.ggml.model", v->model));
    QN_TRY(v->pre != NULL ? put_text(k, "tokenizer.ggml.pre", v->pre) : QUERN_OK);
    QN_TRY(put_spans(k, "tokenizer.ggml.tokens", v->tokens, v->n_tokens));
    if (v->scores != NULL) {
        QN_TRY(qn_gguf_put_array(k->w, "tokenizer.ggml.scores", QN_GGUF_F32, v->scores, v->n_tokens, k->err));
    }
    if (v->types != NULL) {
        QN_TRY(qn_gguf_put_array(k->w, "tokenizer.ggml.token_type", QN_GGUF_I32, v->types, v->n_tokens, k->err));
    }
    if (v->n_merges > 0) {
        QN_TRY(put_spans(k, "tokenizer.ggml.merges", v->merges, v->n_merges));
    }
    QN_TRY(put_id(k, "tokenizer.ggml.bos_token_id", v->bos_id >= 0 ? v->bos_id : s->config.bos_id));
    QN_TRY(put_end_tokens(k, s, v->eos_id));
    QN_TRY(put_id(k, "tokenizer.ggml.unknown_token_id", v->unk_id));
    QN_TRY(put_id(k, "tokenizer.ggml.padding_token_id", v->pad_id >= 0 ? v->pad_id : s->config.pad_id));
    QN_TRY(put_flag(k, "tokenizer.ggml.add_bos_token", v->add_bos));
    QN_TRY(put_flag(k, "tokenizer.ggml.add_eos_token", v->add_eos));
    bool bytes = strcmp(v->model, "gpt2") == 0; /* byte-level vocabularies have no use for a blank in front */
    QN_TRY(put_flag(k, "tokenizer.ggml.add_space_prefix", v->add_space_prefix < 0 && bytes ? 0 : v->add_space_prefix));
    const qn_template_list *t = &s->templates;
    if (t->plain != NULL) {
        QN_TRY(qn_gguf_put_string(k->w, "tokenizer.chat_template", t->plain, t->plain_len, k->err));
    }
    if (t->tool_use != NULL) {
        static const qn_span names[] = {{"tool_use", 8}};
        QN_TRY(qn_gguf_put_strings(k->w, "tokenizer.chat_templates", names, 1, k->err));
        QN_TRY(qn_gguf_put_string(k->w, "tokenizer.chat_template.tool_use", t->tool_use, t->tool_use_len, k->err));
    }
done:
    return status;
}

/* ---- from GGUF ---- */

static bool begins(qn_span s, const char *text) { return s.len >= strlen(text) && memcmp(s.data, text, strlen(text)) == 0; }

/* What is true of the source's file only. */
static bool is_of_source(qn_span key)
{
    static const char *const own[] = {"general.file_type", "general.quantization_version",
                                      "general.alignment", "split.",
                                      "quantize.imatrix.", "quern.quality.",
                                      "quern.padding",     "quern.type"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (begins(key, own[i])) {
            return true;
        }
    }
    return false;
}

/* The keys of the source's file, carried over; with --as the architecture's name changes, in front of keys too. */
static quern_status carry_over(keys *k, const qn_source *s)
{
    quern_status status = QUERN_OK;
    qn_span named = {0};
    bool found;
    QN_TRY(qn_gguf_get_string(s->gguf, "general.architecture", &named, &found, k->err));
    QN_TRY(put_text(k, "general.architecture", k->arch)); /* first, as the format asks */
    for (size_t i = 0; i < qn_gguf_n_keys(s->gguf); i++) {
        const qn_gguf_value *v = qn_gguf_key_at(s->gguf, i);
        qn_gguf_value renamed = *v;
        char key[256];
        bool of_architecture = v->key.len > named.len && memcmp(v->key.data, named.data, named.len) == 0 && v->key.data[named.len] == '.';
        if (is_of_source(v->key) || (v->key.len == 20 && begins(v->key, "general.architecture"))) {
            continue;
        }
        if (s->as_other && of_architecture) {
            size_t rest = v->key.len - named.len;
            if (strlen(k->arch) + rest > sizeof key - 1) {
                QN_FAIL(k->err, QUERN_ERROR_LIMIT, "%s: key '%.*s' is too long for another architecture's name", s->path,
                        qn_name_shown(v->key.data, v->key.len), v->key.data);
            }
            (void)snprintf(key, sizeof key, "%s%.*s", k->arch, (int)rest, v->key.data + named.len);
            renamed.key = (qn_span){.data = key, .len = strlen(key)};
        }
        QN_TRY(qn_gguf_put_value(k->w, &renamed, k->err));
    }
done:
    return status;
}

quern_status qn_gguf_put_metadata(const qn_job *job, const qn_output *o, qn_gguf_writer *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    keys k = {.w = w, .arch = qn_family_name(job->source.config.family), .err = err};
    if (job->source.gguf != NULL) {
        QN_TRY(carry_over(&k, &job->source));
        QN_TRY(qn_gguf_put_u32(w, "general.file_type", o->target.gguf->file_type, err));
        QN_TRY(qn_gguf_put_u32(w, "general.quantization_version", 2, err));
    } else {
        QN_TRY(put_general(&k, job, o));
        QN_TRY(put_architecture(&k, &job->source.config));
        QN_TRY(put_tokenizer(&k, &job->source, &job->vocab.spec));
    }
    QN_TRY(put_text(&k, "quern.type", o->type));
    QN_TRY(job->gate != QUERN_GATE_OFF ? qn_certificate_reserve(w, err) : QUERN_OK);
done:
    return status;
}
