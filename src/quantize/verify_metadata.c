/* verify_metadata.c - see verify_metadata.h. */
#include "quantize/verify_metadata.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quantize/hf_to_gguf.h"
#include "model/gguf_tokenizer.h"
#include "quantize/json_difference.h"
#include "quantize/verify_texts.h"

/* ---- configurations ---- */

typedef struct comparison {
    qn_findings *findings;
    quern_error *err;
    const char *where; /* "metadata" or "config.json" */
} comparison;

/* The same once stored as float32; but a factor that writers compute may differ in its last bits. */
static bool same_stored(double a, double b) { return (float)a == (float)b; }
static bool nearly(double a, double b) { return a == b || fabs(a - b) <= 1e-6 * (fabs(a) > fabs(b) ? fabs(a) : fabs(b)); }

static quern_status compare_numbers(const comparison *c, const char *what, double own, double source)
{
    return nearly(own, source)
               ? QUERN_OK
               : qn_findings_fail(c->findings, NULL, c->err, "%s: %s is %.9g, the source has %.9g", c->where, what, own, source);
}

static quern_status compare_rope(const comparison *c, const qn_rope_config *own, const qn_rope_config *source)
{
    quern_status status = QUERN_OK;
    QN_TRY(compare_numbers(c, "rope's base", own->theta, source->theta));
    QN_TRY(compare_numbers(c, "the number of rotated dimensions", own->n_rot, source->n_rot));
    if (own->scaling != source->scaling) {
        static const char *const names[] = {"none", "linear", "llama3", "yarn"};
        QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "%s: rope's scaling is %s, the source has %s", c->where, names[own->scaling],
                                names[source->scaling]));
    } else if (own->scaling != QN_ROPE_NONE) {
        QN_TRY(compare_numbers(c, "rope's scaling factor", own->factor, source->factor));
        QN_TRY(compare_numbers(c, "rope's original context", own->original_ctx, source->original_ctx));
    }
    if (own->scaling == QN_ROPE_LLAMA3 && source->scaling == QN_ROPE_LLAMA3) {
        QN_TRY(compare_numbers(c, "rope's low_freq_factor", own->low_freq_factor, source->low_freq_factor));
        QN_TRY(compare_numbers(c, "rope's high_freq_factor", own->high_freq_factor, source->high_freq_factor));
    }
    if (own->scaling == QN_ROPE_YARN && source->scaling == QN_ROPE_YARN) {
        QN_TRY(compare_numbers(c, "YaRN's beta_fast", own->beta_fast, source->beta_fast));
        QN_TRY(compare_numbers(c, "YaRN's beta_slow", own->beta_slow, source->beta_slow));
        double a = own->attention_factor > 0 ? own->attention_factor : 0, b = source->attention_factor > 0 ? source->attention_factor : 0;
        QN_TRY(nearly(a, b) ? QUERN_OK : compare_numbers(c, "YaRN's attention factor", a, b));
    }
done:
    return status;
}

static quern_status compare_layers(const comparison *c, const qn_model_config *own, const qn_model_config *source)
{
    for (uint32_t i = 0; i < own->n_layers && i < source->n_layers; i++) {
        const qn_layer_config *a = &own->layers[i], *b = &source->layers[i];
        if (a->window != b->window || a->rope != b->rope || a->experts != b->experts) {
            return qn_findings_fail(c->findings, NULL, c->err,
                                    "%s: layer %" PRIu32 " has window %" PRIu32 ", rope %d, experts %d; the source has %" PRIu32 ", %d, %d",
                                    c->where, i, a->window, a->rope, a->experts, b->window, b->rope, b->experts);
        }
    }
    return QUERN_OK;
}

static quern_status compare_configs(const comparison *c, const qn_model_config *own, const qn_model_config *source)
{
    quern_status status = QUERN_OK;
    const struct {
        const char *what;
        double own, source;
    } numbers[] = {
        {"the number of layers", own->n_layers, source->n_layers},
        {"the hidden size", own->hidden_size, source->hidden_size},
        {"the number of heads", own->n_heads, source->n_heads},
        {"the number of key/value heads", own->n_kv_heads, source->n_kv_heads},
        {"the head size", own->head_dim, source->head_dim},
        {"the feed-forward size", own->ffn_size, source->ffn_size},
        {"the context length", own->n_ctx_train, source->n_ctx_train},
        {"the epsilon of the norms", own->rms_eps, source->rms_eps},
        {"the number of experts", own->n_experts, source->n_experts},
        {"the number of experts used", own->n_experts_used, source->n_experts_used},
        {"the size of an expert", own->expert_ffn_size, source->expert_ffn_size},
        {"the normalization of expert weights", own->norm_topk_prob, source->norm_topk_prob},
    };
    if (own->family != source->family) {
        QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "%s: the architecture is %s, the source has %s", c->where, own->architecture,
                                source->architecture));
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        QN_TRY(compare_numbers(c, numbers[i].what, numbers[i].own, numbers[i].source));
    }
    if (own->n_vocab != 0 && source->n_vocab != 0) {
        QN_TRY(compare_numbers(c, "the number of tokens", own->n_vocab, source->n_vocab));
    }
    QN_TRY(compare_rope(c, &own->rope, &source->rope));
    QN_TRY(compare_layers(c, own, source));
done:
    return status;
}

/* ---- keys of GGUF ---- */

static bool starts_with(qn_span s, const char *prefix) { return s.len >= strlen(prefix) && memcmp(s.data, prefix, strlen(prefix)) == 0; }

static bool ends_with(qn_span s, const char *end)
{
    return s.len >= strlen(end) && memcmp(s.data + s.len - strlen(end), end, strlen(end)) == 0;
}

/* "12", "'text'": for a message. */
static void show_element(const qn_gguf_value *v, uint64_t i, qn_span text, char *out, size_t cap)
{
    int64_t whole;
    double real;
    if (v->type == QN_GGUF_STRING || (v->type == QN_GGUF_ARRAY && v->element == QN_GGUF_STRING)) {
        int shown = qn_name_shown(text.data, text.len);
        (void)snprintf(out, cap, "'%.*s'%s", shown > 60 ? 60 : shown, text.data, text.len > 60 ? "..." : "");
    } else if (v->type == QN_GGUF_BOOL || (v->type == QN_GGUF_ARRAY && v->element == QN_GGUF_BOOL)) {
        (void)snprintf(out, cap, "%s", v->data[i] != 0 ? "true" : "false");
    } else if (qn_gguf_element_i64(v, i, &whole)) {
        (void)snprintf(out, cap, "%" PRId64, whole);
    } else if (qn_gguf_element_f64(v, i, &real)) {
        (void)snprintf(out, cap, "%.9g", real);
    } else {
        (void)snprintf(out, cap, "a value of type %s", qn_gguf_type_name((uint32_t)v->type));
    }
}

static bool is_text(const qn_gguf_value *v)
{
    return v->type == QN_GGUF_STRING || (v->type == QN_GGUF_ARRAY && v->element == QN_GGUF_STRING);
}

static bool same_number(const qn_gguf_value *a, const qn_gguf_value *b, uint64_t i)
{
    int64_t wa, wb;
    double ra, rb;
    if (qn_gguf_element_i64(a, i, &wa) && qn_gguf_element_i64(b, i, &wb)) {
        return wa == wb;
    }
    if (qn_gguf_element_f64(a, i, &ra) && qn_gguf_element_f64(b, i, &rb)) {
        return ends_with(b->key, "attn_factor") ? nearly(ra, rb) : same_stored(ra, rb);
    }
    return a->n_bytes == b->n_bytes && memcmp(a->data, b->data, a->n_bytes) == 0; /* booleans */
}

/* What decides over ids and prompts is compared by what it does (verify_texts.h): of those keys a difference by itself is a note. */
static quern_status tell_key(const comparison *c, qn_span key, const char *format, ...) QN_PRINTF(3, 4);
static quern_status tell_key(const comparison *c, qn_span key, const char *format, ...)
{
    char text[480];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    int len = qn_name_shown(key.data, key.len);
    return starts_with(key, "tokenizer.") ? qn_findings_note(c->findings, c->err, "metadata: key %.*s%s", len, key.data, text)
                                          : qn_findings_fail(c->findings, NULL, c->err, "metadata: key %.*s%s", len, key.data, text);
}

static quern_status compare_key(const comparison *c, const qn_gguf_value *own, const qn_gguf_value *source)
{
    const uint8_t *own_at = own->data, *source_at = source->data;
    bool array = source->type == QN_GGUF_ARRAY;
    if ((own->type == QN_GGUF_ARRAY) != array || is_text(own) != is_text(source)) {
        return tell_key(c, own->key, " is of type %s, the source gives %s", qn_gguf_type_name((uint32_t)own->type),
                        qn_gguf_type_name((uint32_t)source->type));
    }
    if (own->n != source->n) {
        return tell_key(c, own->key, " has %" PRIu64 " elements, the source gives %" PRIu64, own->n, source->n);
    }
    for (uint64_t i = 0; i < source->n; i++) {
        qn_span a = {0}, b = {0};
        bool same;
        if (is_text(source)) {
            a = qn_gguf_next_string(&own_at);
            b = qn_gguf_next_string(&source_at);
            same = a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
        } else {
            same = same_number(own, source, i);
        }
        if (!same) {
            char x[160], y[160], place[32] = "";
            show_element(own, i, a, x, sizeof x);
            show_element(source, i, b, y, sizeof y);
            if (array) {
                (void)snprintf(place, sizeof place, "[%" PRIu64 "]", i);
            }
            return tell_key(c, own->key, "%s is %s, the source gives %s", place, x, y);
        }
    }
    return QUERN_OK;
}

/* Keys that only describe the file. */
static bool only_describes(qn_span key)
{
    return starts_with(key, "general.") && !starts_with(key, "general.architecture") && !starts_with(key, "general.alignment");
}

/* The key as the file spells it: a file whose architecture has a name of its own has it in front of its keys. renamed: that name, or NULL. */
static void own_key(qn_span key, const char *named, const char *renamed, char *out, size_t cap)
{
    size_t skip = strlen(named) + 1;
    if (renamed != NULL && key.len > skip && starts_with(key, named) && key.data[skip - 1] == '.') {
        (void)snprintf(out, cap, "%s.%.*s", renamed, qn_name_shown(key.data + skip, key.len - skip), key.data + skip);
    } else {
        (void)snprintf(out, cap, "%.*s", qn_name_shown(key.data, key.len), key.data);
    }
}

static quern_status compare_keys(const comparison *c, const qn_gguf *own, const qn_gguf *source, const char *named, const char *renamed)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < qn_gguf_n_keys(source); i++) {
        const qn_gguf_value *expected = qn_gguf_key_at(source, i);
        char key[256];
        if (only_describes(expected->key) || starts_with(expected->key, "quern.") ||
            starts_with(expected->key, "tokenizer.chat_template")) {
            continue;
        }
        if (renamed != NULL && expected->key.len == strlen("general.architecture") && starts_with(expected->key, "general.architecture")) {
            continue;
        }
        own_key(expected->key, named, renamed, key, sizeof key);
        const qn_gguf_value *found = qn_gguf_find(own, key);
        if (found != NULL) {
            QN_TRY(compare_key(c, found, expected));
        } else {
            QN_TRY(qn_findings_note(c->findings, c->err, "metadata: key %s is not there; readers use their default", key));
        }
    }
done:
    return status;
}

/* Keys about texts that the source does not give: other engines may act on them. */
static quern_status note_extra_keys(const comparison *c, const qn_gguf *own, const qn_gguf *source)
{
    char text[320] = "";
    size_t n = 0;
    for (size_t i = 0; i < qn_gguf_n_keys(own); i++) {
        const qn_gguf_value *v = qn_gguf_key_at(own, i);
        char key[256];
        size_t len = strlen(text);
        (void)snprintf(key, sizeof key, "%.*s", qn_name_shown(v->key.data, v->key.len), v->key.data);
        bool compared = strcmp(key, "tokenizer.chat_template") == 0 || strcmp(key, "tokenizer.chat_template.tool_use") == 0;
        if (starts_with(v->key, "tokenizer.") && !compared && qn_gguf_find(source, key) == NULL) {
            n++;
            if (len + strlen(key) + 32 < sizeof text) {
                (void)snprintf(text + len, sizeof text - len, "%s%s", len > 0 ? ", " : "", key);
            }
        }
    }
    return n == 0
               ? QUERN_OK
               : qn_findings_note(c->findings, c->err, "metadata: %zu key%s that the source does not give: %s", n, n == 1 ? "" : "s", text);
}

/* Tokenizer, templates and end tokens as a reader of the file gets them, against those of the keys that quantize would write. */
static quern_status compare_texts(const qn_gguf *file, const qn_model_config *own, const qn_gguf *expected, const qn_model_config *source,
                                  const char *text, size_t len, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    quern_tokenizer *mine = NULL, *theirs = NULL;
    qn_model_texts a = {.config = own}, b = {.config = source};
    const qn_texts_options options = {.text = text, .len = len};
    QN_TRY(qn_gguf_read_tokenizer(&theirs, expected, err));
    QN_TRY(qn_model_texts_read_templates(&b, expected, err));
    status = qn_gguf_read_tokenizer(&mine, file, &why);
    status = status == QUERN_OK ? qn_model_texts_read_templates(&a, file, &why) : status;
    if (status == QUERN_ERROR_MEMORY) {
        QN_FAIL(err, status, "%s", why.message);
    }
    if (status != QUERN_OK) {
        status = qn_findings_fail(f, NULL, err, "tokenizer: %s", why.message);
        goto done;
    }
    a.tokenizer = mine;
    b.tokenizer = theirs;
    QN_TRY(qn_verify_texts(&a, &b, &options, f, err));
done:
    quern_tokenizer_destroy(mine);
    quern_tokenizer_destroy(theirs);
    return status;
}

/* general.architecture of a file that names one which is not known. */
static quern_status find_other_name(const qn_gguf *file, qn_arena *arena, const char **name, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_span s;
    bool found;
    QN_TRY(qn_gguf_get_string(file, "general.architecture", &s, &found, err));
    *name = found ? qn_arena_strndup(arena, s.data, s.len < 64 ? s.len : 64) : NULL;
    if (found && *name == NULL) {
        QN_FAIL_MEMORY(err, "the architecture's name", s.len + 1);
    }
done:
    return status;
}

quern_status qn_verify_gguf_keys(const qn_job *job, const qn_output *o, const qn_gguf *file, const char *gate_text, size_t len,
                                 qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_gguf_writer *w = NULL;
    qn_gguf *expected = NULL;
    qn_buf text;
    qn_model_config own, source;
    quern_error why = {0};
    comparison c = {.findings = f, .err = err, .where = "metadata"};
    const char *renamed = NULL;
    qn_buf_init(&text, SIZE_MAX / 2);
    QN_TRY(qn_gguf_writer_create(&w, NULL, err));
    QN_TRY(qn_gguf_put_metadata(job, o, w, err));
    QN_TRY(qn_gguf_writer_keys(w, &text, err));
    QN_TRY(qn_gguf_parse(&expected, (const uint8_t *)qn_buf_text(&text), text.len, "the keys of the source", err));
    QN_TRY(qn_config_read_gguf(&source, &f->arena, expected, err));
    quern_status reading = qn_config_read_gguf(&own, &f->arena, file, &why);
    if (reading == QUERN_ERROR_UNSUPPORTED && job->source.as != NULL) {
        QN_TRY(find_other_name(file, &f->arena, &renamed, err));
        reading = renamed != NULL ? qn_config_read_gguf_as(&own, &f->arena, file, job->source.as, &why) : reading;
    }
    QN_TRY(compare_keys(&c, file, expected, qn_family_name(source.family), renamed));
    QN_TRY(note_extra_keys(&c, file, expected));
    if (reading == QUERN_ERROR_MEMORY) {
        QN_FAIL(err, reading, "%s", why.message);
    } else if (reading != QUERN_OK) {
        QN_TRY(qn_findings_fail(f, NULL, err, "metadata: %s", why.message));
    } else {
        QN_TRY(compare_configs(&c, &own, &source));
        QN_TRY(compare_texts(file, &own, expected, &source, gate_text, len, f, err));
    }
done:
    qn_gguf_close(expected);
    qn_gguf_writer_destroy(w);
    qn_buf_deinit(&text);
    return status;
}

/* ---- MLX ---- */

/* mlx-lm looks at "quantization", transformers at "quantization_config": writers put the same into both. */
static quern_status compare_quantizations(const comparison *c, const char *config, size_t len)
{
    quern_status status = QUERN_OK;
    qn_json *root = NULL;
    QN_TRY(qn_json_parse(&root, config, len, QN_JSON_WIDE_INTEGERS, "config.json", c->err));
    const qn_json *a = qn_json_get(root, "quantization"), *b = qn_json_get(root, "quantization_config");
    if (a != NULL && b != NULL && !qn_json_same(a, b)) {
        QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "config.json: quantization_config says other than quantization"));
    }
done:
    qn_json_free(root);
    return status;
}

quern_status qn_read_own_config(const qn_job *job, const char *path, const char *config, size_t config_len, const char *generation,
                                size_t generation_len, qn_arena *arena, qn_model_config *out, quern_error *err)
{
    quern_error why = {0};
    quern_status status = qn_config_read_hf(out, arena, config, config_len, path, generation, generation_len, &why);
    if (status == QUERN_ERROR_UNSUPPORTED && job->source.as != NULL) {
        return qn_config_read_hf_as(out, arena, config, config_len, path, generation, generation_len, job->source.as, err);
    }
    return status == QUERN_OK ? QUERN_OK : qn_error_set(err, status, "%s", why.message);
}

quern_status qn_verify_mlx_config(const qn_job *job, const char *path, const char *config, size_t config_len, const char *generation,
                                  size_t generation_len, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    qn_model_config own;
    comparison c = {.findings = f, .err = err, .where = "config.json"};
    status = qn_read_own_config(job, path, config, config_len, generation, generation_len, &f->arena, &own, &why);
    if (status == QUERN_ERROR_MEMORY) {
        QN_FAIL(err, status, "%s", why.message);
    }
    if (status != QUERN_OK) {
        status = qn_findings_fail(f, NULL, err, "config.json: %s", why.message);
        goto done;
    }
    QN_TRY(compare_configs(&c, &own, &job->source.config));
    QN_TRY(compare_quantizations(&c, config, config_len));
    if (own.tied_embeddings && !job->source.config.tied_embeddings) { /* the other way round, the head is a copy of the embedding */
        QN_TRY(qn_findings_fail(
            f, NULL, err, "config.json: tie_word_embeddings is true, the source has a head of its own, which readers would leave out"));
    }
done:
    return status;
}
