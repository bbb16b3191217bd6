/* verify_folder_keys.c - see verify_folder_keys.h. Values are compared as JSON: key order, spacing and the spelling of numbers do not count. */
#include "quantize/verify_folder_keys.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quantize/json_difference.h"
#include "text/tokenizer_pipeline.h"

static const qn_json *own_key(const qn_folder_keys *c, qn_folder_text k, const char *key) { return qn_json_get(c->own[k], key); }
static const qn_json *source_key(const qn_folder_keys *c, qn_folder_text k, const char *key) { return qn_json_get(c->source[k], key); }

static bool same_span(const char *a, size_t n, const char *b, size_t m)
{
    return (a != NULL) == (b != NULL) && n == m && (a == NULL || memcmp(a, b, n) == 0);
}

/* Readers that do not know the flags add_bos_token and add_eos_token do what the post_processor says. Where the flags differ too, what they make of
 * it together was compared. */
static quern_status compare_postprocessors(const qn_folder_keys *c)
{
    quern_status status = QUERN_OK;
    qn_surroundings a = {0}, b = {0};
    static const char *const flags[] = {"add_bos_token", "add_eos_token"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (!qn_json_same(own_key(c, QN_FOLDER_TOKENIZER_CONFIG, flags[i]), source_key(c, QN_FOLDER_TOKENIZER_CONFIG, flags[i]))) {
            return QUERN_OK;
        }
    }
    QN_TRY(qn_pipeline_read_postprocessor(&a, own_key(c, QN_FOLDER_TOKENIZER, "post_processor"), c->err));
    QN_TRY(qn_pipeline_read_postprocessor(&b, source_key(c, QN_FOLDER_TOKENIZER, "post_processor"), c->err));
    if (!same_span(a.before, a.before_len, b.before, b.before_len) || !same_span(a.after, a.after_len, b.after, b.after_len)) {
        QN_TRY(qn_findings_fail(
            c->findings, NULL, c->err,
            "tokenizer.json: the post_processor puts '%.*s' before and '%.*s' behind a text, the source's '%.*s' and '%.*s'",
            qn_name_shown(a.before, a.before_len), a.before != NULL ? a.before : "", qn_name_shown(a.after, a.after_len),
            a.after != NULL ? a.after : "", qn_name_shown(b.before, b.before_len), b.before != NULL ? b.before : "",
            qn_name_shown(b.after, b.after_len), b.after != NULL ? b.after : ""));
    }
done:
    return status;
}

const char *const qn_added_flag_names[QN_ADDED_FLAGS] = {"special", "single_word", "lstrip", "rstrip", "normalized"};

qn_added_token qn_added_token_read(const qn_json *v)
{
    qn_added_token a = {.content = qn_json_string(qn_json_get(v, "content"), NULL)};
    a.len = a.content != NULL ? strlen(a.content) : 0;
    for (size_t i = 0; i < QN_ADDED_FLAGS; i++) {
        a.flags[i] = qn_json_bool(qn_json_get(v, qn_added_flag_names[i]), i == 4 && !a.flags[0]);
    }
    return a;
}

/* The source's token of this id: of the same table, else of tokenizer.json. */
static const qn_json *source_added(const qn_folder_keys *c, const char *id)
{
    const qn_json *v = qn_json_get(source_key(c, QN_FOLDER_TOKENIZER_CONFIG, "added_tokens_decoder"), id);
    const qn_json *list = source_key(c, QN_FOLDER_TOKENIZER, "added_tokens");
    for (size_t i = 0; v == NULL && i < qn_json_length(list); i++) {
        int64_t number;
        char text[32];
        (void)snprintf(text, sizeof text, "%lld", qn_json_int(qn_json_get(qn_json_at(list, i), "id"), &number) ? (long long)number : -1LL);
        v = strcmp(text, id) == 0 ? qn_json_at(list, i) : NULL;
    }
    return v;
}

/* transformers lets this table decide over tokenizer.json. */
static quern_status compare_added_tokens(const qn_folder_keys *c)
{
    const qn_json *table = own_key(c, QN_FOLDER_TOKENIZER_CONFIG, "added_tokens_decoder");
    for (qn_json_iterator *it = qn_json_iter(table); it != NULL; it = qn_json_next(table, it)) {
        const char *id = qn_json_iter_key(it, NULL);
        const qn_json *there = source_added(c, id);
        qn_added_token a = qn_added_token_read(qn_json_iter_value(it)), b = qn_added_token_read(there);
        const char *what = there == NULL || !same_span(a.content, a.len, b.content, b.len) ? "content" : NULL;
        for (size_t i = 0; i < QN_ADDED_FLAGS && what == NULL; i++) {
            what = a.flags[i] != b.flags[i] ? qn_added_flag_names[i] : NULL;
        }
        if (what != NULL) {
            return qn_findings_fail(c->findings, NULL, c->err,
                                    "tokenizer_config.json: added_tokens_decoder: token %.20s: %s is not the source's", id, what);
        }
    }
    return QUERN_OK;
}

static quern_status compare_splitting(const qn_folder_keys *c)
{
    bool own = qn_json_bool(own_key(c, QN_FOLDER_TOKENIZER_CONFIG, "split_special_tokens"), false);
    bool source = qn_json_bool(source_key(c, QN_FOLDER_TOKENIZER_CONFIG, "split_special_tokens"), false);
    return own == source
               ? QUERN_OK
               : qn_findings_fail(c->findings, NULL, c->err, "tokenizer_config.json: split_special_tokens is %s, the source has %s",
                                  own ? "true" : "false", source ? "true" : "false");
}

/* Whether a value says what its absence says. */
static bool is_absent(const qn_json *v) { return qn_json_get_kind(v) == QN_JSON_NULL || !qn_json_bool(v, true); }

/* ---- the program that reads the tokenizer ---- */

/* transformers asks tokenizer_config.json, then config.json. */
static const qn_json *class_of(qn_json *const *side)
{
    const qn_json *v = qn_json_get(side[QN_FOLDER_TOKENIZER_CONFIG], "tokenizer_class");
    return is_absent(v) ? qn_json_get(side[QN_FOLDER_CONFIG], "tokenizer_class") : v;
}

/* Names of one class: versions of transformers write it with "Fast" behind it or without. */
static bool is_class(const char *name, const char *expected)
{
    size_t n = strlen(name), end = strlen("Fast"), m = strlen(expected);
    n -= n > end && strcmp(name + n - end, "Fast") == 0 ? end : 0;
    m -= m > end && strcmp(expected + m - end, "Fast") == 0 ? end : 0;
    return n == m && memcmp(name, expected, n) == 0;
}

static bool is_one_of(const char *name, const char *const *list, size_t n)
{
    bool found = false;
    for (size_t i = 0; i < n; i++) {
        found = found || is_class(name, list[i]);
    }
    return found;
}

/* transformers (and mlx-lm) makes of a text what the class of this name makes of it: by rules of its own ("NewlineTokenizer" writes line ends otherwise,
 * "LlamaTokenizer" makes its own normalizer). The plain classes read tokenizer.json as it is, which is compared. Where the source names none, it is
 * chosen by the model's type, and a program that writes the folder again writes its name: one of those that these families have. */
static quern_status compare_classes(const qn_folder_keys *c)
{
    static const char *const plain[] = {"PreTrainedTokenizer", "TokenizersBackend"};
    static const char *const usual[] = {"Qwen2Tokenizer", "LlamaTokenizer", "CodeLlamaTokenizer", "GPT2Tokenizer"};
    const qn_json *own = class_of(c->own), *source = c->source_is_folder ? class_of(c->source) : NULL;
    const char *name = qn_json_string(own, NULL), *expected = qn_json_string(source, NULL);
    bool fits;
    if (c->own[QN_FOLDER_TOKENIZER_CONFIG] == NULL || (is_absent(own) && is_absent(source)) || qn_json_same(own, source)) {
        return QUERN_OK;
    }
    if (name == NULL) {
        fits = is_absent(own) && !c->source_is_folder;
    } else if (is_one_of(name, plain, sizeof plain / sizeof plain[0])) {
        fits = true;
    } else {
        fits = expected != NULL ? is_class(name, expected) : is_absent(source) && is_one_of(name, usual, sizeof usual / sizeof usual[0]);
    }
    return fits ? QUERN_OK
                : qn_findings_fail(c->findings, NULL, c->err,
                                   "tokenizer_config.json: tokenizer_class is %s%.60s%s, the source has %s%.60s%s: readers cut texts by it",
                                   name != NULL ? "'" : "",
                                   name != NULL     ? name
                                   : is_absent(own) ? "not there"
                                                    : "no text",
                                   name != NULL ? "'" : "", expected != NULL ? "'" : "", expected != NULL ? expected : "none",
                                   expected != NULL ? "'" : "");
}

/* Keys that decide what other readers make of a text, or whether they run code: a difference is a fault. null is the same as absence. */
static const struct {
    qn_folder_text kind;
    const char *key, *why;
    bool is_code;          /* absence is as well, whatever the source has */
    bool is_never_in_gguf; /* a source that is a GGUF file has no such thing, so that an output of it has none */
} deciding_keys[] = {{QN_FOLDER_TOKENIZER, "truncation", "readers cut texts by it", false, false},
                     {QN_FOLDER_TOKENIZER, "padding", "readers pad texts by it", false, false},
                     {QN_FOLDER_TOKENIZER_CONFIG, "add_prefix_space", "readers put a space in front", false, false},
                     {QN_FOLDER_TOKENIZER_CONFIG, "bos_token", "readers put it in front", false, false},
                     {QN_FOLDER_TOKENIZER_CONFIG, "chat_template_type", "mlx-lm makes prompts by a template of its own", false, true},
                     {QN_FOLDER_TOKENIZER_CONFIG, "fast_tokenizer_files", "transformers reads another tokenizer.json", false, true},
                     {QN_FOLDER_TOKENIZER_CONFIG, "auto_map", "transformers runs those programs", true, true},
                     {QN_FOLDER_CONFIG, "quantize_activations", "mlx-lm quantizes activations too, or refuses the folder", true, true},
                     {QN_FOLDER_CONFIG, "model_file", "mlx-lm runs that program", true, true},
                     {QN_FOLDER_CONFIG, "auto_map", "transformers runs those programs", true, true}};
enum { N_DECIDING = sizeof deciding_keys / sizeof deciding_keys[0] };

static quern_status compare_deciding_keys(const qn_folder_keys *c)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < N_DECIDING; i++) {
        qn_folder_text kind = deciding_keys[i].kind;
        const qn_json *own = own_key(c, kind, deciding_keys[i].key), *source = source_key(c, kind, deciding_keys[i].key);
        bool passes = is_absent(own) && (deciding_keys[i].is_code || is_absent(source));
        const char *a = qn_json_string(qn_json_get(own, "content"), NULL), *b = qn_json_string(source, NULL); /* a token as an object */
        const char *a_text = a != NULL ? a : qn_json_string(own, NULL),
                   *b_text = b != NULL ? b : qn_json_string(qn_json_get(source, "content"), NULL);
        bool same_token = a_text != NULL && b_text != NULL && strcmp(a_text, b_text) == 0;
        bool applies = c->source_is_folder || deciding_keys[i].is_never_in_gguf;
        if (applies && !passes && !same_token && !qn_json_same(own, source)) {
            QN_TRY(qn_findings_fail(c->findings, NULL, c->err, "%s: %s is not the source's: %s", qn_folder_text_name(kind),
                                    deciding_keys[i].key, deciding_keys[i].why));
        }
    }
done:
    return status;
}

/* ---- how answers are drawn ---- */

/* Keys of generation_config.json that decide which token comes next or where an answer ends, with the number that says what absence says (NAN:
 * none). Quern reads the first seven, transformers all but the last eight, which llama.cpp's converter carries over. How long an answer may become
 * (max_new_tokens, max_length) is the user's choice and not among them. */
static const struct {
    const char *key;
    double neutral;
    bool is_in_gguf; /* of a source that is a GGUF file only these are known, the penalty where it says one */
} sampling_keys[] = {{"do_sample", 0, true},
                     {"temperature", 1, true},
                     {"top_k", NAN, true},
                     {"top_p", 1, true},
                     {"min_p", 0, true},
                     {"typical_p", 1, false},
                     {"repetition_penalty", 1, true},
                     {"top_h", NAN, false},
                     {"epsilon_cutoff", 0, false},
                     {"eta_cutoff", 0, false},
                     {"encoder_repetition_penalty", 1, false},
                     {"no_repeat_ngram_size", 0, false},
                     {"encoder_no_repeat_ngram_size", 0, false},
                     {"num_beams", 1, false},
                     {"num_beam_groups", 1, false},
                     {"diversity_penalty", 0, false},
                     {"length_penalty", 1, false},
                     {"penalty_alpha", 0, false},
                     {"guidance_scale", 1, false},
                     {"min_length", 0, false},
                     {"min_new_tokens", 0, false},
                     {"stop_strings", NAN, false},
                     {"bad_words_ids", NAN, false},
                     {"force_words_ids", NAN, false},
                     {"suppress_tokens", NAN, false},
                     {"begin_suppress_tokens", NAN, false},
                     {"forced_bos_token_id", NAN, false},
                     {"forced_eos_token_id", NAN, false},
                     {"sequence_bias", NAN, false},
                     {"exponential_decay_length_penalty", NAN, false},
                     {"watermarking_config", NAN, false},
                     {"renormalize_logits", 0, false},
                     {"token_healing", 0, false},
                     {"sequence", NAN, false},
                     {"xtc_probability", 0, false},
                     {"xtc_threshold", NAN, false},
                     {"penalty_last_n", NAN, false},
                     {"penalty_repeat", 1, false},
                     {"mirostat", 0, false},
                     {"mirostat_tau", NAN, false},
                     {"mirostat_eta", NAN, false}};
enum { N_SAMPLING = sizeof sampling_keys / sizeof sampling_keys[0] };

/* For a message. */
static void show_value(const qn_json *v, char *out, size_t cap)
{
    double number;
    const char *text = qn_json_string(v, NULL);
    if (qn_json_number(v, &number)) {
        (void)snprintf(out, cap, "%.9g", number);
    } else if (qn_json_get_kind(v) == QN_JSON_BOOL) {
        (void)snprintf(out, cap, "%s", qn_json_bool(v, false) ? "true" : "false");
    } else if (text != NULL) {
        (void)snprintf(out, cap, "'%.60s'", text);
    } else {
        (void)snprintf(out, cap, "%s", qn_json_get_kind(v) == QN_JSON_NULL ? "nothing" : "something else");
    }
}

/* A folder without the file has lost it as a whole, which is a note. */
static quern_status compare_sampling(const qn_folder_keys *c)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < N_SAMPLING && c->own[QN_FOLDER_GENERATION] != NULL; i++) {
        const qn_json *values[2] = {own_key(c, QN_FOLDER_GENERATION, sampling_keys[i].key),
                                    source_key(c, QN_FOLDER_GENERATION, sampling_keys[i].key)};
        char shown[2][80];
        bool is_penalty = strcmp(sampling_keys[i].key, "repetition_penalty") == 0, is_top_k = strcmp(sampling_keys[i].key, "top_k") == 0;
        if (!c->source_is_folder && (!sampling_keys[i].is_in_gguf || (is_penalty && values[1] == NULL))) {
            continue;
        }
        for (size_t k = 0; k < 2; k++) {
            double number;
            show_value(values[k], shown[k], sizeof shown[k]);
            double nothing = is_top_k && !c->source_is_folder ? 0 : sampling_keys[i].neutral; /* what is made of GGUF spells it out */
            bool neutral = qn_json_number(values[k], &number) && number == nothing;
            values[k] = neutral || is_absent(values[k]) ? NULL : values[k];
        }
        if (!qn_json_same(values[0], values[1])) {
            QN_TRY(qn_findings_fail(c->findings, NULL, c->err,
                                    "generation_config.json: %s is %s, the source has %s: answers are drawn otherwise",
                                    sampling_keys[i].key, shown[0], shown[1]));
        }
    }
done:
    return status;
}

/* mlx-lm takes the end tokens of generation_config.json in the place of config.json's, so that one left out there ends nothing. */
static quern_status compare_end_tokens(const qn_folder_keys *c)
{
    quern_status status = QUERN_OK;
    const qn_json *own = own_key(c, QN_FOLDER_GENERATION, "eos_token_id"), *source = source_key(c, QN_FOLDER_GENERATION, "eos_token_id");
    bool is_list = qn_json_get_kind(source) == QN_JSON_ARRAY, own_is_list = qn_json_get_kind(own) == QN_JSON_ARRAY;
    for (size_t i = 0; !is_absent(own) && !is_absent(source) && i < (is_list ? qn_json_length(source) : 1); i++) {
        const qn_json *id = is_list ? qn_json_at(source, i) : source;
        bool found = false;
        for (size_t k = 0; k < (own_is_list ? qn_json_length(own) : 1); k++) {
            found = found || qn_json_same(own_is_list ? qn_json_at(own, k) : own, id);
        }
        int64_t number = -1;
        if (!found && qn_json_int(id, &number)) {
            QN_TRY(qn_findings_fail(
                c->findings, NULL, c->err,
                "generation_config.json: eos_token_id leaves out %lld, which the source has: readers that ask only this file "
                "do not end there",
                (long long)number));
        }
    }
done:
    return status;
}

/* ---- what is only written otherwise ---- */

/* Compared by what it means, in this file. */
static bool is_compared(qn_folder_text k, const char *key)
{
    static const struct {
        qn_folder_text kind;
        const char *key;
    } others[] = {{QN_FOLDER_TOKENIZER, "added_tokens"},
                  {QN_FOLDER_TOKENIZER_CONFIG, "added_tokens_decoder"},
                  {QN_FOLDER_TOKENIZER_CONFIG, "chat_template"},
                  {QN_FOLDER_GENERATION, "eos_token_id"},
                  {QN_FOLDER_CONFIG, "eos_token_id"},
                  {QN_FOLDER_CONFIG, "quantization"},
                  {QN_FOLDER_CONFIG, "quantization_config"},
                  {QN_FOLDER_CONFIG, "quern_quality"},
                  {QN_FOLDER_CONFIG, "quern_type"},
                  {QN_FOLDER_CONFIG, "tie_word_embeddings"}};
    bool found = false;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        found = found || (others[i].kind == k && strcmp(others[i].key, key) == 0);
    }
    for (size_t i = 0; i < N_DECIDING; i++) {
        found = found || (deciding_keys[i].kind == k && strcmp(deciding_keys[i].key, key) == 0);
    }
    for (size_t i = 0; i < N_SAMPLING && k == QN_FOLDER_GENERATION; i++) {
        found = found || strcmp(sampling_keys[i].key, key) == 0;
    }
    return found;
}

static void collect(qn_folder_text k, const qn_json *of, const qn_json *other, bool only_new, qn_json_places *places)
{
    for (qn_json_iterator *it = qn_json_iter(of); it != NULL; it = qn_json_next(of, it)) {
        const char *key = qn_json_iter_key(it, NULL);
        const qn_json *there = qn_json_get(other, key);
        if (!is_compared(k, key) && (!only_new || there == NULL)) {
            qn_json_find_places(qn_json_iter_value(it), there, key, places);
        }
    }
}

static quern_status note_places(const qn_folder_keys *c, qn_folder_text k)
{
    qn_json_places places = {0};
    if (c->source[k] == NULL || c->own[k] == NULL) {
        bool differ = (c->source[k] == NULL) != (c->own[k] == NULL);
        return differ ? qn_findings_note(c->findings, c->err, "%s is %s", qn_folder_text_name(k),
                                         c->own[k] == NULL ? "not there, the source has one" : "there, the source has none")
                      : QUERN_OK;
    }
    collect(k, c->own[k], c->source[k], false, &places);
    collect(k, c->source[k], c->own[k], true, &places);
    if (places.n == 0) {
        return QUERN_OK;
    }
    qn_json_end_places(&places);
    return qn_findings_note(c->findings, c->err,
                            "%s differs from the source's in %s; Quern reads the same from both, other readers may not",
                            qn_folder_text_name(k), places.text);
}

quern_status qn_verify_folder_keys(const qn_folder_keys *c)
{
    quern_status status = QUERN_OK;
    QN_TRY(compare_classes(c));
    QN_TRY(compare_deciding_keys(c));
    QN_TRY(compare_sampling(c));
    QN_TRY(compare_end_tokens(c));
    if (!c->source_is_folder) { /* nothing of the kind to compare with */
        goto done;
    }
    QN_TRY(compare_postprocessors(c));
    QN_TRY(compare_added_tokens(c));
    QN_TRY(compare_splitting(c));
    QN_TRY(qn_verify_special_tokens(c));
    for (size_t k = 0; k < QN_FOLDER_N_JSON; k++) {
        QN_TRY(k != QN_FOLDER_SPECIAL_TOKENS ? note_places(c, (qn_folder_text)k) : QUERN_OK);
    }
done:
    return status;
}
