/* tokenizer_pipeline.c - reading the parts of tokenizer.json that are not vocabulary. */
#include "text/tokenizer_pipeline.h"

#include <string.h>

static const char *type_of(const qn_json *j)
{
    const char *type = qn_json_string(qn_json_get(j, "type"), NULL);
    return type != NULL ? type : "(none)";
}

static bool is_null(const qn_json *j) { return qn_json_get_kind(j) == QN_JSON_NULL; }

/* A string member that must be there. */
static quern_status get_text(const qn_json *j, const char *of, const char *key, const char **text, size_t *len, quern_error *err)
{
    quern_status status = QUERN_OK;
    *text = qn_json_string(qn_json_get(j, key), len);
    if (*text == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "tokenizer.json: %s of type %s: \"%s\" is no string", of, type_of(j), key);
    }
done:
    return status;
}

/* ---- normalizer ---- */

static quern_status read_replace(qn_normal_step *step, const qn_json *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t from_len, to_len;
    const char *from = qn_json_string(qn_json_get(qn_json_get(j, "pattern"), "String"), &from_len), *to;
    if (from == NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED,
                "tokenizer.json: normalizer Replace with something else than a String pattern is not supported");
    }
    QN_TRY(get_text(j, "normalizer", "content", &to, &to_len, err));
    if (from_len == 0 || from_len > QN_NORMAL_TEXT_MAX || to_len > QN_NORMAL_TEXT_MAX) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "tokenizer.json: normalizer Replace of %zu by %zu bytes: expected 1 to %d by at most %d",
                from_len, to_len, QN_NORMAL_TEXT_MAX, QN_NORMAL_TEXT_MAX);
    }
    memcpy(step->from, from, from_len);
    memcpy(step->to, to, to_len);
    step->from_len = (uint8_t)from_len;
    step->to_len = (uint8_t)to_len;
done:
    return status;
}

static quern_status read_prepend(qn_normal_step *step, const qn_json *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *to;
    size_t len;
    QN_TRY(get_text(j, "normalizer", "prepend", &to, &len, err));
    if (len > QN_NORMAL_TEXT_MAX) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "tokenizer.json: normalizer Prepend of %zu bytes, at most %d", len, QN_NORMAL_TEXT_MAX);
    }
    memcpy(step->to, to, len);
    step->to_len = (uint8_t)len;
done:
    return status;
}

quern_status qn_pipeline_read_normalizer(qn_normalizer *out, const qn_json *j, quern_error *err)
{
    static const struct {
        const char *type;
        qn_normal_op op;
    } ops[] = {{"NFC", QN_NORMAL_NFC},   {"NFD", QN_NORMAL_NFD},         {"NFKC", QN_NORMAL_NFKC},
               {"NFKD", QN_NORMAL_NFKD}, {"Prepend", QN_NORMAL_PREPEND}, {"Replace", QN_NORMAL_REPLACE}};
    quern_status status = QUERN_OK;
    const char *type = type_of(j);
    if (is_null(j)) {
        return QUERN_OK;
    }
    if (strcmp(type, "Sequence") == 0) { /* sequences in sequences nest no deeper than JSON may */
        const qn_json *list = qn_json_get(j, "normalizers");
        for (size_t i = 0; i < qn_json_length(list); i++) {
            QN_TRY(qn_pipeline_read_normalizer(out, qn_json_at(list, i), err));
        }
        return QUERN_OK;
    }
    size_t k = 0;
    while (k < sizeof ops / sizeof ops[0] && strcmp(type, ops[k].type) != 0) {
        k++;
    }
    if (k == sizeof ops / sizeof ops[0]) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "tokenizer.json: normalizer of type %s is not supported", type);
    }
    if (out->n_steps == QN_NORMAL_STEPS_MAX) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "tokenizer.json: more than %d normalizers", QN_NORMAL_STEPS_MAX);
    }
    qn_normal_step *step = &out->steps[out->n_steps++];
    *step = (qn_normal_step){.op = ops[k].op};
    if (step->op == QN_NORMAL_REPLACE) {
        QN_TRY(read_replace(step, j, err));
    } else if (step->op == QN_NORMAL_PREPEND) {
        QN_TRY(read_prepend(step, j, err));
    }
done:
    return status;
}

/* ---- pre-tokenizer ---- */

static quern_status add_step(qn_pretokenizer *p, qn_step step, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (p->n_steps == QN_STEPS_MAX) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "tokenizer.json: more than %d pre-tokenizer steps", QN_STEPS_MAX);
    }
    p->steps[p->n_steps++] = step;
done:
    return status;
}

static quern_status read_behavior(qn_step *step, const qn_json *j, quern_error *err)
{
    static const char *const names[] = {[QN_SPLIT_REMOVED] = "Removed",
                                        [QN_SPLIT_ISOLATED] = "Isolated",
                                        [QN_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                        [QN_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
                                        [QN_SPLIT_CONTIGUOUS] = "Contiguous"};
    quern_status status = QUERN_OK;
    const char *name;
    size_t len, k = 0;
    QN_TRY(get_text(j, "pre_tokenizer", "behavior", &name, &len, err));
    while (k < sizeof names / sizeof names[0] && strcmp(names[k], name) != 0) {
        k++;
    }
    if (k == sizeof names / sizeof names[0]) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "tokenizer.json: pre_tokenizer Split with behavior \"%s\" is not supported", name);
    }
    step->behavior = (qn_split_behavior)k;
    step->invert = qn_json_bool(qn_json_get(j, "invert"), false);
done:
    return status;
}

static bool lines_are_isolated(const qn_pretokenizer *p)
{
    for (size_t i = 0; i < p->n_steps; i++) {
        if (p->steps[i].kind == QN_STEP_SCANNER && qn_scanner_isolates_lines(p->steps[i].scanner) &&
            p->steps[i].behavior == QN_SPLIT_ISOLATED) {
            return true;
        }
    }
    return false;
}

static quern_status read_split(qn_pretokenizer *out, const qn_json *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_step step = {0};
    const qn_json *pattern = qn_json_get(j, "pattern");
    size_t literal_len, regex_len;
    const char *literal = qn_json_string(qn_json_get(pattern, "String"), &literal_len);
    const char *regex = qn_json_string(qn_json_get(pattern, "Regex"), &regex_len);
    QN_TRY(read_behavior(&step, j, err));
    if (regex != NULL) {
        step.scanner = qn_scanner_find_by_pattern(regex, regex_len, lines_are_isolated(out));
        step.kind = QN_STEP_SCANNER;
        if (step.scanner == NULL) {
            step.kind = QN_STEP_REGEX;
            QN_TRY(qn_regex_create(&step.regex, regex, regex_len, err));
        } else if (qn_scanner_is_total(step.scanner) && step.invert && step.behavior == QN_SPLIT_REMOVED) {
            step.invert = false; /* removing what lies between the matches, where nothing does */
            step.behavior = QN_SPLIT_ISOLATED;
        }
    } else if (literal != NULL && literal_len > 0) {
        step.kind = QN_STEP_LITERAL;
        step.literal_len = literal_len;
        step.literal = qn_strndup(literal, literal_len);
        if (step.literal == NULL) {
            QN_FAIL_MEMORY(err, "a pre-tokenizer", literal_len);
        }
    } else {
        QN_FAIL(err, QUERN_ERROR_INVALID, "tokenizer.json: pre_tokenizer Split has neither a Regex nor a String to split by");
    }
    QN_TRY(add_step(out, step, err));
    step = (qn_step){0};
done:
    qn_free(step.literal);
    qn_regex_destroy(step.regex);
    return status;
}

static quern_status read_metaspace(qn_pretokenizer *out, const qn_json *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_step step = {.kind = QN_STEP_BLANKS, .prepend = QN_PREPEND_ALWAYS};
    const char *replacement, *scheme = qn_json_string(qn_json_get(j, "prepend_scheme"), NULL);
    size_t len;
    QN_TRY(get_text(j, "pre_tokenizer", "replacement", &replacement, &len, err));
    if (strcmp(replacement, QN_BLANK) != 0) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED,
                "tokenizer.json: pre_tokenizer Metaspace with another replacement than U+2581 is not supported");
    }
    if (scheme != NULL && strcmp(scheme, "first") == 0) {
        step.prepend = QN_PREPEND_FIRST;
    } else if ((scheme != NULL && strcmp(scheme, "never") == 0) || !qn_json_bool(qn_json_get(j, "add_prefix_space"), true)) {
        step.prepend = QN_PREPEND_NEVER;
    } else if (scheme != NULL && strcmp(scheme, "always") != 0) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "tokenizer.json: pre_tokenizer Metaspace with prepend_scheme \"%s\" is not supported",
                scheme);
    }
    QN_TRY(add_step(out, step, err));
    if (qn_json_bool(qn_json_get(j, "split"), true)) {
        char *literal = qn_strdup(QN_BLANK);
        if (literal == NULL) {
            QN_FAIL_MEMORY(err, "a pre-tokenizer", QN_BLANK_LEN);
        }
        status = add_step(
            out, (qn_step){.kind = QN_STEP_LITERAL, .literal = literal, .literal_len = QN_BLANK_LEN, .behavior = QN_SPLIT_MERGED_WITH_NEXT},
            err);
        if (status != QUERN_OK) {
            qn_free(literal);
        }
    }
done:
    return status;
}

static quern_status read_byte_level(qn_pretokenizer *out, const qn_json *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (qn_json_bool(qn_json_get(j, "add_prefix_space"), true)) {
        QN_TRY(add_step(out, (qn_step){.kind = QN_STEP_PREFIX_SPACE}, err));
    }
    if (qn_json_bool(qn_json_get(j, "use_regex"), true)) {
        QN_TRY(add_step(out, (qn_step){.kind = QN_STEP_SCANNER, .scanner = qn_scanner_gpt2(), .behavior = QN_SPLIT_ISOLATED}, err));
    }
done:
    return status;
}

quern_status qn_pipeline_read_pretokenizer(qn_pretokenizer *out, bool *byte_level, const qn_json *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *type = type_of(j);
    if (is_null(j)) {
        return QUERN_OK;
    }
    if (*byte_level) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "tokenizer.json: pre_tokenizer %s behind ByteLevel is not supported", type);
    }
    if (strcmp(type, "Sequence") == 0) {
        const qn_json *list = qn_json_get(j, "pretokenizers");
        for (size_t i = 0; i < qn_json_length(list); i++) {
            QN_TRY(qn_pipeline_read_pretokenizer(out, byte_level, qn_json_at(list, i), err));
        }
    } else if (strcmp(type, "ByteLevel") == 0) {
        *byte_level = true;
        QN_TRY(read_byte_level(out, j, err));
    } else if (strcmp(type, "Split") == 0) {
        QN_TRY(read_split(out, j, err));
    } else if (strcmp(type, "Digits") == 0) {
        bool single = qn_json_bool(qn_json_get(j, "individual_digits"), false);
        const qn_scanner *scanner = single ? qn_scanner_digit() : qn_scanner_digits();
        QN_TRY(add_step(out, (qn_step){.kind = QN_STEP_SCANNER, .scanner = scanner, .behavior = QN_SPLIT_ISOLATED}, err));
    } else if (strcmp(type, "Metaspace") == 0) {
        QN_TRY(read_metaspace(out, j, err));
    } else {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "tokenizer.json: pre_tokenizer of type %s is not supported", type);
    }
done:
    return status;
}

/* ---- decoder ---- */

/* What a list of decoders has shown so far. */
typedef struct decoders {
    bool byte_level, blanks, byte_fallback, fused, metaspace;
    uint32_t strip;
} decoders;

static quern_status read_one_decoder(decoders *d, const qn_json *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *type = type_of(j);
    int64_t start = 0, stop = 0;
    if (strcmp(type, "Sequence") == 0) {
        const qn_json *list = qn_json_get(j, "decoders");
        for (size_t i = 0; i < qn_json_length(list); i++) {
            QN_TRY(read_one_decoder(d, qn_json_at(list, i), err));
        }
    } else if (strcmp(type, "ByteLevel") == 0) {
        d->byte_level = true;
    } else if (strcmp(type, "ByteFallback") == 0) {
        d->byte_fallback = true;
    } else if (strcmp(type, "Fuse") == 0) {
        d->fused = true;
    } else if (strcmp(type, "Metaspace") == 0) {
        const char *scheme = qn_json_string(qn_json_get(j, "prepend_scheme"), NULL);
        bool never = scheme != NULL ? strcmp(scheme, "never") == 0 : !qn_json_bool(qn_json_get(j, "add_prefix_space"), true);
        d->blanks = true;
        d->metaspace = !never;
    } else if (strcmp(type, "Replace") == 0) {
        const char *from = qn_json_string(qn_json_get(qn_json_get(j, "pattern"), "String"), NULL);
        const char *to = qn_json_string(qn_json_get(j, "content"), NULL);
        if (from == NULL || to == NULL || strcmp(from, QN_BLANK) != 0 || strcmp(to, " ") != 0 || d->byte_fallback) {
            QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "tokenizer.json: decoder Replace of anything but U+2581 by a blank is not supported");
        }
        d->blanks = true;
    } else if (strcmp(type, "Strip") == 0) {
        const char *content = qn_json_string(qn_json_get(j, "content"), NULL);
        bool numbers = qn_json_int(qn_json_get(j, "start"), &start) && qn_json_int(qn_json_get(j, "stop"), &stop);
        if (!numbers || content == NULL || strcmp(content, " ") != 0 || start < 0 || start > 1000 || stop != 0 || !d->fused) {
            QN_FAIL(err, QUERN_ERROR_UNSUPPORTED,
                    "tokenizer.json: decoder Strip of anything but blanks at the front of the fused text is not supported");
        }
        d->strip = (uint32_t)start;
    } else {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "tokenizer.json: decoder of type %s is not supported", type);
    }
done:
    return status;
}

quern_status qn_pipeline_read_decoder(quern_tokenizer *t, const qn_json *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    decoders d = {0};
    QN_TRY(read_one_decoder(&d, j, err));
    bool has_bytes = false;
    for (size_t i = 0; i < t->info.n_tokens; i++) {
        has_bytes = has_bytes || t->tokens[i].kind == QUERN_TOKEN_BYTE;
    }
    if (t->byte_level != d.byte_level || d.byte_level == d.blanks || (has_bytes && !d.byte_fallback)) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "tokenizer.json: this decoder does not undo what the pre_tokenizer and byte_fallback do");
    }
    t->decode_mode = d.byte_level ? QN_DECODE_BYTES : QN_DECODE_BLANKS;
    t->strip_leading = d.strip;
    t->strip_first_token = d.metaspace;
done:
    return status;
}

/* ---- post-processor ---- */

static quern_status read_template(qn_surroundings *out, const qn_json *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_json *list = qn_json_get(j, "single");
    bool behind = false;
    for (size_t i = 0; i < qn_json_length(list); i++) {
        const qn_json *item = qn_json_at(list, i);
        if (qn_json_get(item, "Sequence") != NULL) {
            behind = true;
            continue;
        }
        size_t len;
        const char *id = qn_json_string(qn_json_get(qn_json_get(item, "SpecialToken"), "id"), &len);
        const char **text = behind ? &out->after : &out->before;
        if (id == NULL) {
            QN_FAIL(err, QUERN_ERROR_INVALID,
                    "tokenizer.json: post_processor TemplateProcessing: piece %zu is neither SpecialToken nor Sequence", i);
        }
        if (*text != NULL) {
            QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "tokenizer.json: post_processor TemplateProcessing puts more than one token %s the text",
                    behind ? "behind" : "before");
        }
        *text = id;
        *(behind ? &out->after_len : &out->before_len) = len;
    }
done:
    return status;
}

quern_status qn_pipeline_read_postprocessor(qn_surroundings *out, const qn_json *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *type = type_of(j);
    if (is_null(j) || strcmp(type, "ByteLevel") == 0) { /* ByteLevel only trims offsets */
        return QUERN_OK;
    }
    if (strcmp(type, "Sequence") == 0) {
        const qn_json *list = qn_json_get(j, "processors");
        for (size_t i = 0; i < qn_json_length(list); i++) {
            QN_TRY(qn_pipeline_read_postprocessor(out, qn_json_at(list, i), err));
        }
        return QUERN_OK;
    }
    if (strcmp(type, "TemplateProcessing") != 0) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "tokenizer.json: post_processor of type %s is not supported", type);
    }
    QN_TRY(read_template(out, j, err));
done:
    return status;
}

/* ---- names ---- */

static bool is_prepend_blank(const qn_normal_step *s)
{
    return s->op == QN_NORMAL_PREPEND && s->to_len == QN_BLANK_LEN && memcmp(s->to, QN_BLANK, QN_BLANK_LEN) == 0;
}

static bool is_show_blanks(const qn_normal_step *s)
{
    return s->op == QN_NORMAL_REPLACE && s->from_len == 1 && s->from[0] == ' ' && s->to_len == QN_BLANK_LEN &&
           memcmp(s->to, QN_BLANK, QN_BLANK_LEN) == 0;
}

/* The second step cuts before each U+2581, where merging stops anyway. */
static bool cuts_words(const quern_tokenizer *t)
{
    const qn_step *s = &t->pretokenizer.steps[1];
    return t->cut_at_blanks && s->kind == QN_STEP_LITERAL && s->behavior == QN_SPLIT_MERGED_WITH_NEXT && !s->invert &&
           strcmp(s->literal, QN_BLANK) == 0;
}

static void name_chars(quern_tokenizer *t)
{
    const qn_normalizer *z = &t->normalizer;
    const qn_pretokenizer *p = &t->pretokenizer;
    t->info.pre_tokenizer = p->n_steps == 0 ? "none" : (p->steps[0].kind == QN_STEP_BLANKS ? "metaspace" : "sequence");
    if (p->n_steps == 0 && z->n_steps == 2 && is_prepend_blank(&z->steps[0]) && is_show_blanks(&z->steps[1])) {
        t->add_space_prefix = 1;
    } else if (p->n_steps == 0 && z->n_steps == 1 && is_show_blanks(&z->steps[0])) {
        t->add_space_prefix = 0;
    } else if (z->n_steps == 0 && p->n_steps > 0 && p->steps[0].kind == QN_STEP_BLANKS &&
               (p->n_steps == 1 || (p->n_steps == 2 && cuts_words(t)))) {
        t->add_space_prefix = p->steps[0].prepend != QN_PREPEND_NEVER ? 1 : 0;
        t->prefix_differs = t->add_space_prefix == 1;
    }
}

static void name_bytes(quern_tokenizer *t)
{
    const qn_scanner *scanners[QN_STEPS_MAX];
    const qn_normalizer *z = &t->normalizer;
    const qn_pretokenizer *p = &t->pretokenizer;
    bool nfc = z->n_steps == 1 && z->steps[0].op == QN_NORMAL_NFC, plain = nfc || z->n_steps == 0;
    t->info.pre_tokenizer = p->n_steps == 0 ? "none" : "sequence";
    for (size_t i = 0; i < p->n_steps; i++) {
        const qn_step *s = &p->steps[i];
        if (s->kind == QN_STEP_REGEX) {
            t->info.pre_tokenizer = "regex";
        }
        plain = plain && s->kind == QN_STEP_SCANNER && s->behavior == QN_SPLIT_ISOLATED && !s->invert;
        scanners[i] = s->scanner;
    }
    const qn_pre *family = plain && p->n_steps > 0 ? qn_pre_find_by_scanners(scanners, p->n_steps, nfc, t->ignore_merges, true) : NULL;
    if (family != NULL) {
        const qn_pre *exact = qn_pre_find_by_scanners(scanners, p->n_steps, nfc, t->ignore_merges, false);
        t->info.pre_tokenizer = family->family;
        const qn_pre *merging = qn_pre_find_by_scanners(scanners, p->n_steps, nfc, false, false);
        t->pre_name = exact != NULL ? exact->name : NULL;
        t->pre_name_merging = t->ignore_merges && merging != NULL ? merging->name : NULL;
    }
}

void qn_pipeline_name(quern_tokenizer *t)
{
    if (t->byte_level) {
        name_bytes(t);
    } else {
        name_chars(t);
    }
}
