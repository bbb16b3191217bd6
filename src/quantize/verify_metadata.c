/* verify_metadata.c - see verify_metadata.h. */
#include "quantize/verify_metadata.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quantize/hf_to_gguf.h"
#include "base/fs.h"
#include "model/gguf_tokenizer.h"
#include "model/rope.h"
#include "quantize/json_difference.h"
#include "quantize/verify_texts.h"

/* ---- configurations ---- */

typedef struct comparison {
    qn_findings *findings;
    quern_error *err;
    const char *where; /* "metadata" or "config.json" */
    const qn_source *source;
} comparison;

/* A number by how it comes about: counts are exact, reals the same once stored as float32, and factors that writers compute may differ in their last
 * bits. */
typedef enum number_kind { COUNT, REAL, COMPUTED } number_kind;

static bool same_stored(double a, double b) { return (float)a == (float)b; }
static bool nearly(double a, double b) { return a == b || fabs(a - b) <= 1e-6 * (fabs(a) > fabs(b) ? fabs(a) : fabs(b)); }

static quern_status compare_numbers(const comparison *c, const char *what, number_kind kind, double own, double source)
{
    bool same = kind == COUNT ? own == source : kind == REAL ? same_stored(own, source) : nearly(own, source);
    return same ? QUERN_OK
                : qn_findings_fail(c->findings, NULL, c->err, "%s: %s is %.9g, the source has %.9g", c->where, what, own, source);
}

static quern_status compare_rope(const comparison *c, const qn_rope_config *own, const qn_rope_config *source)
{
    quern_status status = QUERN_OK;
    QN_TRY(compare_numbers(c, "rope's base", REAL, own->theta, source->theta));
    QN_TRY(compare_numbers(c, "the number of rotated dimensions", COUNT, own->n_rot, source->n_rot));
    if (own->scaling != source->scaling) {
        static const char *const names[] = {"none", "linear", "llama3", "yarn"};
        QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "%s: rope's scaling is %s, the source has %s", c->where, names[own->scaling],
                                names[source->scaling]));
    } else if (own->scaling != QN_ROPE_NONE) { /* llama3's factor may come of GGUF's divisors */
        QN_TRY(compare_numbers(c, "rope's scaling factor", own->scaling == QN_ROPE_LLAMA3 ? COMPUTED : REAL, own->factor, source->factor));
        QN_TRY(compare_numbers(c, "rope's original context", COUNT, own->original_ctx, source->original_ctx));
    }
    if (own->scaling == QN_ROPE_LLAMA3 && source->scaling == QN_ROPE_LLAMA3) {
        QN_TRY(compare_numbers(c, "rope's low_freq_factor", REAL, own->low_freq_factor, source->low_freq_factor));
        QN_TRY(compare_numbers(c, "rope's high_freq_factor", REAL, own->high_freq_factor, source->high_freq_factor));
    }
    if (own->scaling == QN_ROPE_YARN && source->scaling == QN_ROPE_YARN) {
        QN_TRY(compare_numbers(c, "YaRN's beta_fast", REAL, own->beta_fast, source->beta_fast));
        QN_TRY(compare_numbers(c, "YaRN's beta_slow", REAL, own->beta_slow, source->beta_slow));
        double a = own->attention_factor > 0 ? own->attention_factor : 0, b = source->attention_factor > 0 ? source->attention_factor : 0;
        QN_TRY(compare_numbers(c, "YaRN's attention factor", COMPUTED, a, b));
        bool same_range = own->truncate == source->truncate || qn_rope_same_yarn_range(own, source);
        QN_TRY(same_range ? QUERN_OK : compare_numbers(c, "YaRN's truncate", COUNT, own->truncate, source->truncate));
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
        QN_TRY(compare_numbers(c, numbers[i].what, COUNT, numbers[i].own, numbers[i].source));
    }
    QN_TRY(compare_numbers(c, "the epsilon of the norms", REAL, own->rms_eps, source->rms_eps));
    if (own->n_vocab != 0 && source->n_vocab != 0) {
        QN_TRY(compare_numbers(c, "the number of tokens", COUNT, own->n_vocab, source->n_vocab));
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

static bool is_sampling(qn_span key) { return starts_with(key, "general.sampling."); }

/* Keys that only describe the file. */
static bool only_describes(qn_span key)
{
    return starts_with(key, "general.") && !starts_with(key, "general.architecture") && !starts_with(key, "general.alignment") &&
           !is_sampling(key);
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

/* Whether readers who know the key do with this value what they do without it. */
static bool changes_nothing(const qn_gguf_value *v, double nothing)
{
    int64_t whole;
    double real = NAN;
    if (v->n != 1 || is_text(v)) {
        return false;
    }
    if (qn_gguf_element_i64(v, 0, &whole)) {
        real = (double)whole;
    } else {
        (void)qn_gguf_element_f64(v, 0, &real);
    }
    return real == nothing;
}

static bool is_temperature_of_1(const qn_gguf_value *v)
{
    static const char key[] = "general.sampling.temp";
    return v->key.len == strlen(key) && starts_with(v->key, key) && changes_nothing(v, 1);
}

/* Older converters write none of general.sampling. One of them alone that is not there is taken by readers as something else than its absence in the
 * source's generation_config.json; but not all converters know the penalty. */
static bool is_left_out_alone(const qn_gguf *own, const qn_gguf_value *expected)
{
    qn_span key = expected->key;
    bool any = false;
    if (is_temperature_of_1(expected)) { /* what generation_config.json leaves unsaid, converters leave out */
        return false;
    }
    for (size_t i = 0; i < qn_gguf_n_keys(own); i++) {
        any = any || is_sampling(qn_gguf_key_at(own, i)->key);
    }
    return any && is_sampling(key) && !starts_with(key, "general.sampling.penalty_");
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
        } else if (is_left_out_alone(own, expected)) {
            QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "metadata: key %s is not there, beside others of general.sampling", key));
        } else {
            QN_TRY(qn_findings_note(c->findings, c->err, "metadata: key %s is not there; readers use their default", key));
        }
    }
done:
    return status;
}

/* ---- keys that the source does not give ---- */

/* Keys behind the architecture's name that llama.cpp reads for every architecture, and Quern for none: a value that changes something contradicts the
 * source. Those that Quern reads or refuses are judged as read (compare_configs). */
static quern_status judge_foreign_key(const comparison *c, const qn_gguf_value *v, const char *key, const char *name,
                                      const qn_model_config *source)
{
    const struct {
        const char *name;
        double nothing;
    } known[] = {{"pooling_type", 0}, {"embedding_length_out", source->hidden_size}, {"classifier.output_labels", NAN}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].name, name) == 0 && !changes_nothing(v, known[i].nothing)) {
            return qn_findings_fail(c->findings, NULL, c->err, "metadata: key %s is in the file and not in the source: llama.cpp reads it",
                                    key);
        }
    }
    return QUERN_OK;
}

/* Read into the configuration, and compared there. */
static bool is_read(const char *name)
{
    static const char *const names[] = {"vocab_size",
                                        "attention.head_count_kv",
                                        "attention.key_length",
                                        "attention.value_length",
                                        "rope.dimension_count",
                                        "rope.freq_base",
                                        "rope.scale_linear",
                                        "rope.scaling.type",
                                        "rope.scaling.factor",
                                        "rope.scaling.original_context_length",
                                        "rope.scaling.attn_factor",
                                        "rope.scaling.yarn_beta_fast",
                                        "rope.scaling.yarn_beta_slow",
                                        "expert_count",
                                        "expert_used_count",
                                        "expert_feed_forward_length"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* What follows "ARCHITECTURE." in a key, or NULL. */
static const char *behind(const char *key, const char *architecture)
{
    size_t n = strlen(architecture);
    return n > 0 && strncmp(key, architecture, n) == 0 && key[n] == '.' ? key + n + 1 : NULL;
}

/* Not those that only describe the file, nor those compared elsewhere. */
static bool is_to_be_told(qn_span key, const char *text)
{
    bool compared = strcmp(text, "tokenizer.chat_template") == 0 || strcmp(text, "tokenizer.chat_template.tool_use") == 0;
    return !compared && !starts_with(key, "general.") && !starts_with(key, "quern.") && !starts_with(key, "split.") &&
           !starts_with(key, "quantize.");
}

/* A whole value for a message. */
static void show_value(const qn_gguf_value *v, char *out, size_t cap)
{
    const uint8_t *at = v->data;
    if (v->type == QN_GGUF_ARRAY) {
        (void)snprintf(out, cap, "a list");
    } else {
        show_element(v, 0, v->type == QN_GGUF_STRING ? qn_gguf_next_string(&at) : (qn_span){.data = "", .len = 0}, out, cap);
    }
}

/* Whether generation_config.json has this setting, without the do_sample that would make it count: some converters copy it all the same. */
static bool is_copied_setting(const comparison *c, const qn_gguf_value *v)
{
    static const struct {
        const char *gguf, *json;
    } settings[] = {{"general.sampling.temp", "temperature"},
                    {"general.sampling.top_k", "top_k"},
                    {"general.sampling.top_p", "top_p"},
                    {"general.sampling.min_p", "min_p"}};
    bool found = false;
    for (size_t i = 0; i < sizeof settings / sizeof settings[0] && !found; i++) {
        double value;
        found = v->key.len == strlen(settings[i].gguf) && starts_with(v->key, settings[i].gguf) &&
                qn_json_number(qn_json_get(c->source->generation, settings[i].json), &value) && changes_nothing(v, (double)(float)value);
    }
    return found;
}

/* The file's keys that the source does not give. named: the source's architecture; own_name: the file's. */
static quern_status judge_extra_keys(const comparison *c, const qn_gguf *own, const qn_gguf *source, const qn_model_config *config,
                                     const char *named, const char *own_name)
{
    quern_status status = QUERN_OK;
    char text[320] = "";
    size_t n = 0;
    for (size_t i = 0; i < qn_gguf_n_keys(own); i++) {
        const qn_gguf_value *v = qn_gguf_key_at(own, i);
        char key[256], expected[320];
        size_t len = strlen(text);
        (void)snprintf(key, sizeof key, "%.*s", qn_name_shown(v->key.data, v->key.len), v->key.data);
        const char *name = behind(key, own_name);
        (void)snprintf(expected, sizeof expected, "%s%s%s", name != NULL ? named : "", name != NULL ? "." : "", name != NULL ? name : key);
        if (qn_gguf_find(source, expected) != NULL) {
            continue;
        }
        if (is_sampling(v->key)) {
            char shown[160];
            show_value(v, shown, sizeof shown);
            QN_TRY(is_copied_setting(c, v)
                       ? qn_findings_note(
                             c->findings, c->err,
                             "metadata: key %s is %s; in the source it does not count, for it has no do_sample: readers of this file "
                             "draw answers by it",
                             key, shown)
                       : qn_findings_fail(c->findings, NULL, c->err, "metadata: key %s is %s, the source gives none", key, shown));
        }
        QN_TRY(name != NULL ? judge_foreign_key(c, v, key, name, config) : QUERN_OK);
        if (is_to_be_told(v->key, key) && (name == NULL || !is_read(name))) {
            n++;
            if (len + strlen(key) + 32 < sizeof text) {
                (void)snprintf(text + len, sizeof text - len, "%s%s", len > 0 ? ", " : "", key);
            }
        }
    }
    QN_TRY(n == 0 ? QUERN_OK
                  : qn_findings_note(c->findings, c->err, "metadata: %zu key%s that the source does not give: %s", n, n == 1 ? "" : "s",
                                     text));
done:
    return status;
}

/* Loaders take adapters, vocabularies and projectors for something else than a model. */
static quern_status check_type(const comparison *c, const qn_gguf *own)
{
    const qn_gguf_value *v = qn_gguf_find(own, "general.type");
    const uint8_t *at = v != NULL ? v->data : NULL;
    qn_span s = v != NULL && v->type == QN_GGUF_STRING ? qn_gguf_next_string(&at) : (qn_span){0};
    bool is_model = v == NULL || (s.len == strlen("model") && starts_with(s, "model"));
    char shown[160] = "";
    if (!is_model) {
        show_value(v, shown, sizeof shown);
    }
    return is_model ? QUERN_OK : qn_findings_fail(c->findings, NULL, c->err, "metadata: key general.type is %s, expected 'model'", shown);
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

/* general.architecture of the file; "" where it has none. */
static quern_status find_own_name(const qn_gguf *file, qn_arena *arena, const char **name, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_gguf_value *v = qn_gguf_find(file, "general.architecture");
    const uint8_t *at = v != NULL ? v->data : NULL;
    qn_span s = v != NULL && v->type == QN_GGUF_STRING ? qn_gguf_next_string(&at) : (qn_span){.data = "", .len = 0};
    *name = qn_arena_strndup(arena, s.data, s.len < 64 ? s.len : 64);
    if (*name == NULL) {
        QN_FAIL_MEMORY(err, "the architecture's name", s.len + 1);
    }
done:
    return status;
}

/* A file that says all that GGUF can say passes; what is missing from it all the same belongs beside the verdict. */
static quern_status note_unsaid(const qn_output *o, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < o->n_unsaid; i++) {
        QN_TRY(qn_findings_note(f, err, "not in the file: %s", o->warnings[o->first_unsaid + i]));
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
    comparison c = {.findings = f, .err = err, .where = "metadata", .source = &job->source};
    const char *own_name, *renamed = NULL;
    qn_buf_init(&text, SIZE_MAX / 2);
    QN_TRY(qn_gguf_writer_create(&w, NULL, err));
    QN_TRY(qn_gguf_put_metadata(job, o, w, err));
    QN_TRY(qn_gguf_writer_keys(w, &text, err));
    QN_TRY(qn_gguf_parse(&expected, (const uint8_t *)qn_buf_text(&text), text.len, "the keys of the source", err));
    QN_TRY(qn_config_read_gguf(&source, &f->arena, expected, err));
    source.n_vocab = source.n_vocab != 0 ? source.n_vocab : job->source.config.n_vocab;
    QN_TRY(find_own_name(file, &f->arena, &own_name, err));
    quern_status reading = qn_config_read_gguf(&own, &f->arena, file, &why);
    if (reading == QUERN_ERROR_UNSUPPORTED && job->source.as != NULL) {
        renamed = own_name[0] != '\0' ? own_name : NULL;
        reading = renamed != NULL ? qn_config_read_gguf_as(&own, &f->arena, file, job->source.as, &why) : reading;
    }
    QN_TRY(note_unsaid(o, f, err));
    QN_TRY(check_type(&c, file));
    QN_TRY(compare_keys(&c, file, expected, qn_family_name(source.family), renamed));
    QN_TRY(judge_extra_keys(&c, file, expected, &source, qn_family_name(source.family), own_name));
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

/* Of GGUF, tensors say it. */
static quern_status compare_biases(const comparison *c, const qn_model_config *own, const qn_model_config *source)
{
    quern_status status = QUERN_OK;
    QN_TRY(compare_numbers(c, "attention_bias, as to q, k and v,", COUNT, own->qkv_bias, source->qkv_bias));
    QN_TRY(compare_numbers(c, "attention_bias, as to the output,", COUNT, own->o_bias, source->o_bias));
    QN_TRY(compare_numbers(c, "mlp_bias", COUNT, own->mlp_bias, source->mlp_bias));
done:
    return status;
}

/* mlx-lm looks at "quantization", transformers at "quantization_config": writers put the same into both. */
static quern_status compare_quantizations(const comparison *c, const qn_json *root)
{
    const qn_json *a = qn_json_get(root, "quantization"), *b = qn_json_get(root, "quantization_config");
    int64_t bits;
    if (a == NULL && qn_json_get(b, "quant_method") == NULL && qn_json_int(qn_json_get(b, "bits"), &bits)) {
        return qn_findings_fail(c->findings, NULL, c->err,
                                "config.json: there is quantization_config, but no quantization: mlx-lm does not load it");
    }
    return a == NULL || b == NULL || qn_json_same(a, b)
               ? QUERN_OK
               : qn_findings_fail(c->findings, NULL, c->err, "config.json: quantization_config says other than quantization");
}

static quern_status compare_rope_place(const comparison *c, const char *place, const qn_json *own, const qn_json *there,
                                       const qn_rope_config *source)
{
    quern_status status = QUERN_OK;
    double theta;
    const char *type = qn_json_string(qn_json_get(own, "type"), NULL), *rope_type = qn_json_string(qn_json_get(own, "rope_type"), NULL);
    const qn_json *base = qn_json_get(own, "rope_theta");
    if (qn_json_number(base, &theta) && !same_stored(theta, source->theta) && !qn_json_same(base, qn_json_get(there, "rope_theta"))) {
        QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "config.json: rope_theta%s is %.9g, the source has %.9g: other readers take it",
                                place, theta, source->theta));
    }
    if (place[0] != '\0' && type != NULL && rope_type != NULL && strcmp(type, rope_type) != 0 &&
        !qn_json_same(qn_json_get(own, "type"), qn_json_get(there, "type"))) {
        QN_TRY(qn_findings_fail(c->findings, NULL, c->err,
                                "config.json: type%s is '%.40s', but rope_type is '%.40s': mlx-lm takes the first", place, type,
                                rope_type));
    }
done:
    return status;
}

/* rope_parameters beside a rope_scaling that Quern and transformers take before it: older readers know one of the two. Read by itself, it must be
 * the source's rope; but what the source's file says literally is as good. */
static quern_status compare_unread_rope(const qn_job *job, const comparison *c, const char *path, const qn_json *root, const qn_json *there)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    qn_model_config config;
    qn_json *copy = NULL;
    qn_buf text;
    const qn_json *unread = qn_json_get(root, "rope_parameters");
    comparison inner = *c;
    inner.where = "config.json: rope_parameters";
    qn_buf_init(&text, SIZE_MAX / 2);
    if (qn_json_length(qn_json_get(root, "rope_scaling")) == 0 || qn_json_length(unread) == 0 ||
        qn_json_same(unread, qn_json_get(there, "rope_parameters"))) {
        return QUERN_OK;
    }
    copy = qn_json_clone(root);
    if (copy == NULL) {
        QN_FAIL_MEMORY(c->err, "config.json", 64);
    }
    qn_json_remove(copy, "rope_scaling");
    if (!qn_json_write(copy, 0, &text)) {
        QN_FAIL_MEMORY(c->err, "config.json", text.len);
    }
    status = qn_read_own_config(job, path, qn_buf_text(&text), text.len, NULL, 0, &c->findings->arena, &config, &why);
    if (status == QUERN_ERROR_MEMORY) {
        QN_FAIL(c->err, status, "%s", why.message);
    }
    QN_TRY(status == QUERN_OK ? compare_rope(&inner, &config.rope, &job->source.config.rope)
                              : qn_findings_fail(c->findings, NULL, c->err, "config.json: rope_parameters: %s", why.message));
done:
    qn_json_free(copy);
    qn_buf_deinit(&text);
    return status;
}

/* Where Quern reads rope's base from one place, other readers take it from another: mlx-lm beside the objects, transformers in them. */
static quern_status compare_rope_places(const qn_job *job, const comparison *c, const char *path, const qn_json *root,
                                        const qn_model_config *own)
{
    static const char *const places[][2] = {{NULL, ""}, {"rope_scaling", " of rope_scaling"}, {"rope_parameters", " of rope_parameters"}};
    quern_status status = QUERN_OK;
    const qn_source *s = &job->source;
    qn_json *there = NULL;
    if (!same_stored(own->rope.theta, s->config.rope.theta)) { /* that is said */
        return QUERN_OK;
    }
    if (s->config_json != NULL) {
        QN_TRY(qn_json_parse(&there, s->config_json, s->config_len, QN_JSON_WIDE_INTEGERS, "config.json", c->err));
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *key = places[i][0];
        QN_TRY(compare_rope_place(c, places[i][1], key != NULL ? qn_json_get(root, key) : root,
                                  key != NULL ? qn_json_get(there, key) : there, &s->config.rope));
    }
    QN_TRY(compare_unread_rope(job, c, path, root, there));
done:
    qn_json_free(there);
    return status;
}

quern_status qn_read_own_config(const qn_job *job, const char *path, const char *config, size_t config_len, const char *generation,
                                size_t generation_len, qn_arena *arena, qn_model_config *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    char *file = qn_path_join(path, "config.json");
    if (file == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path));
    }
    status = qn_config_read_hf(out, arena, config, config_len, file, generation, generation_len, &why);
    if (status == QUERN_ERROR_UNSUPPORTED && job->source.as != NULL) {
        status = qn_config_read_hf_as(out, arena, config, config_len, file, generation, generation_len, job->source.as, err);
    } else if (status != QUERN_OK) {
        (void)qn_error_set(err, status, "%s", why.message);
    }
done:
    qn_free(file);
    return status;
}

quern_status qn_verify_mlx_config(const qn_job *job, const char *path, const char *config, size_t config_len, const char *generation,
                                  size_t generation_len, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    qn_model_config own;
    qn_json *root = NULL;
    comparison c = {.findings = f, .err = err, .where = "config.json", .source = &job->source};
    status = qn_read_own_config(job, path, config, config_len, generation, generation_len, &f->arena, &own, &why);
    if (status == QUERN_ERROR_MEMORY) {
        QN_FAIL(err, status, "%s", why.message);
    }
    if (status != QUERN_OK) {
        status = qn_findings_fail(f, NULL, err, "%s", why.message);
        goto done;
    }
    QN_TRY(compare_configs(&c, &own, &job->source.config));
    QN_TRY(compare_biases(&c, &own, &job->source.config));
    QN_TRY(qn_json_parse(&root, config, config_len, QN_JSON_WIDE_INTEGERS, "config.json", err));
    QN_TRY(compare_quantizations(&c, root));
    QN_TRY(compare_rope_places(job, &c, path, root, &own));
    if (own.tied_embeddings && !job->source.config.tied_embeddings) { /* the other way round, the head is a copy of the embedding */
        QN_TRY(qn_findings_fail(
            f, NULL, err, "config.json: tie_word_embeddings is true, the source has a head of its own, which readers would leave out"));
    }
done:
    qn_json_free(root);
    return status;
}
