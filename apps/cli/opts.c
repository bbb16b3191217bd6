/* opts.c - parsing by table. */
#include "opts.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* Sets of commands, for the rows of options.inc. */
#define CMD_QUANTIZE (1u << QN_COMMAND_QUANTIZE)
#define CMD_VERIFY (1u << QN_COMMAND_VERIFY)
#define CMD_RUN (1u << QN_COMMAND_RUN)
#define CMD_BENCH (1u << QN_COMMAND_BENCH)
#define CMD_EVAL (1u << QN_COMMAND_EVAL)
#define CMD_INSPECT (1u << QN_COMMAND_INSPECT)
#define CMD_TOKENIZE (1u << QN_COMMAND_TOKENIZE)
#define CMD_TEMPLATE (1u << QN_COMMAND_TEMPLATE)
#define CMD_LOGITS (1u << QN_COMMAND_LOGITS)
#define CMD_DOCTOR (1u << QN_COMMAND_DOCTOR)
#define CMD_ALL 0xffffffffu
#define GENERATES (CMD_RUN | 1u << QN_COMMAND_CHAT)
#define READS_MODEL (CMD_INSPECT | CMD_TOKENIZE | CMD_TEMPLATE | CMD_LOGITS)
#define ENGINES (GENERATES | CMD_BENCH | CMD_EVAL | CMD_LOGITS)

static const qn_opt_row rows[QN_OPT_COUNT] = {
#define QN_OPTION(id, shrt, lng, alias, kind, value, group, commands, help) \
    {QN_OPT_##id, shrt, lng, alias, QN_KIND_##kind, value, QN_GROUP_##group, commands, help},
#include "options.inc"
#undef QN_OPTION
};

_Static_assert(QN_COMMAND_COUNT <= 32, "qn_opt_row.commands has a bit for each command");

const qn_opt_row *qn_opts_get_row(qn_opt_id id) { return &rows[id]; }

bool qn_opts_takes(qn_command_id command, qn_opt_id id) { return (rows[id].commands >> command & 1u) != 0; }

void qn_opts_init(qn_opts *o, qn_command_id command)
{
    memset(o, 0, sizeof *o);
    o->command = command;
    qn_arena_init(&o->arena, (size_t)1 << 20);
}

void qn_opts_deinit(qn_opts *o)
{
    for (size_t i = 0; i < QN_OPT_COUNT; i++) {
        qn_free(o->values[i].list);
    }
    qn_arena_deinit(&o->arena);
    memset(o, 0, sizeof *o);
}

/* ---- values ---- */

/* Multiplier of a size suffix, 0 if there is no such suffix. */
static uint64_t suffix_factor(const char *s)
{
    static const char letters[] = "kmgt";
    if (*s == '\0' || strcmp(s, "B") == 0) {
        return 1;
    }
    const char *letter = strchr(letters, tolower((unsigned char)*s));
    if (letter == NULL || *letter == '\0') {
        return 0;
    }
    uint64_t base = 1024;
    if (strcmp(s + 1, "B") == 0) {
        base = 1000;
    } else if (s[1] != '\0' && strcmp(s + 1, "i") != 0 && strcmp(s + 1, "iB") != 0) {
        return 0;
    }
    uint64_t factor = 1;
    for (const char *p = letters; p <= letter; p++) {
        factor *= base;
    }
    return factor;
}

bool qn_opts_parse_count(const char *text, uint64_t *out)
{
    uint64_t whole = 0, fraction = 0, scale = 1;
    const char *p = text;
    if (!isdigit((unsigned char)*p)) {
        return false;
    }
    for (; isdigit((unsigned char)*p); p++) {
        if (__builtin_mul_overflow(whole, 10u, &whole) || __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole)) {
            return false;
        }
    }
    if (*p == '.') {
        for (p++; isdigit((unsigned char)*p); p++) {
            if (scale >= 1000000) {
                return false;
            }
            fraction = fraction * 10 + (uint64_t)(*p - '0');
            scale *= 10;
        }
    }
    uint64_t factor = suffix_factor(p);
    uint64_t value;
    if (factor == 0 || __builtin_mul_overflow(whole, factor, &value)) {
        return false;
    }
    uint64_t part;
    if (__builtin_mul_overflow(fraction, factor, &part) || part % scale != 0 || __builtin_add_overflow(value, part / scale, &value)) {
        return false;
    }
    *out = value;
    return value <= INT64_MAX;
}

static bool parse_real(const char *text, double *out)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(v)) {
        return false;
    }
    *out = v;
    return true;
}

static bool parse_switch(const char *text, bool *out)
{
    static const char *const on[] = {"1", "true", "yes", "on"}, *const off[] = {"0", "false", "no", "off", ""};
    for (size_t i = 0; i < sizeof on / sizeof on[0]; i++) {
        if (strcmp(text, on[i]) == 0) {
            return *out = true, true;
        }
    }
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++) {
        if (strcmp(text, off[i]) == 0) {
            return *out = false, true;
        }
    }
    return false;
}

/* True if text is one of the words of "a|b|c". */
static bool is_choice(const char *words, const char *text)
{
    size_t len = strlen(text);
    while (len > 0 && *words != '\0') {
        size_t n = strcspn(words, "|");
        if (n == len && memcmp(words, text, n) == 0) {
            return true;
        }
        words += n + (words[n] == '|');
    }
    return false;
}

static bool parse_counts(qn_opt_value *v, const char *text)
{
    char item[64];
    v->n_counts = 0;
    do {
        size_t n = strcspn(text, ",");
        if (n == 0 || n >= sizeof item || v->n_counts == QN_COUNTS_MAX) {
            return false;
        }
        memcpy(item, text, n);
        item[n] = '\0';
        if (!qn_opts_parse_count(item, &v->counts[v->n_counts++])) {
            return false;
        }
        text += n;
    } while (*text++ == ',');
    return true;
}

static bool append_text(qn_opt_value *v, const char *text)
{
    const char **grown = qn_realloc_array(v->list, v->n_list + 1, sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    v->list = grown;
    v->list[v->n_list++] = text;
    return true;
}

/* What the value of a kind looks like, for messages. */
static const char *expectation(const qn_opt_row *row)
{
    switch (row->kind) {
    case QN_KIND_FLAG: return "1 or 0";
    case QN_KIND_CHOICE: return row->value;
    case QN_KIND_COUNT: return "a whole number such as 512, 32k or 8GiB";
    case QN_KIND_COUNTS: return "whole numbers separated by commas, such as 128,512,2k";
    case QN_KIND_REAL: return "a number such as 0.7";
    case QN_KIND_SEED: return "a whole number, or -1 for a random one";
    case QN_KIND_TEXT:
    case QN_KIND_LIST: break;
    }
    return "a text";
}

/* Stores a value that came from `source`; `shown` is how the message names the option ("--temp", "FILE:3: temp"). */
static quern_status store(qn_opts *o, const qn_opt_row *row, const char *text, qn_opt_source source, const char *shown, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_opt_value *v = &o->values[row->id];
    bool ok = true;
    if (v->source > source) {
        goto done; /* something with precedence has already spoken */
    }
    if (v->source < source) {
        v->n_list = 0; /* a nearer place replaces a list, it does not extend it */
    }
    switch (row->kind) {
    case QN_KIND_FLAG: ok = parse_switch(text, &v->on); break;
    case QN_KIND_TEXT: break;
    case QN_KIND_LIST:
        if (!append_text(v, text)) {
            QN_FAIL_MEMORY(err, shown, (v->n_list + 1) * sizeof *v->list);
        }
        break;
    case QN_KIND_CHOICE: ok = is_choice(row->value, text); break;
    case QN_KIND_COUNT: ok = qn_opts_parse_count(text, &v->count); break;
    case QN_KIND_COUNTS: ok = parse_counts(v, text); break;
    case QN_KIND_REAL: ok = parse_real(text, &v->real); break;
    case QN_KIND_SEED:
        if (strcmp(text, "-1") == 0) {
            v->source = QN_SOURCE_NONE; /* random, as if nothing had been given */
            goto done;
        }
        ok = qn_opts_parse_count(text, &v->count);
        break;
    }
    if (!ok) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "%s: '%s' is not %s%s", shown, text, row->kind == QN_KIND_CHOICE ? "one of " : "",
                expectation(row));
    }
    v->source = source;
    v->text = text;
done:
    return status;
}

/* ---- the command line ---- */

static const qn_opt_row *find_long(const qn_opts *o, const char *name, size_t len)
{
    for (size_t i = 0; i < QN_OPT_COUNT; i++) {
        const qn_opt_row *row = &rows[i];
        bool is_name = strlen(row->name) == len && memcmp(row->name, name, len) == 0;
        bool is_alias = len > 0 && strlen(row->alias) == len && memcmp(row->alias, name, len) == 0;
        if ((is_name || is_alias) && qn_opts_takes(o->command, row->id)) {
            return row;
        }
    }
    return NULL;
}

static const qn_opt_row *find_short(const qn_opts *o, const char *name, size_t len)
{
    for (size_t i = 0; i < QN_OPT_COUNT; i++) {
        const qn_opt_row *row = &rows[i];
        if (strlen(row->short_name) == len && memcmp(row->short_name, name, len) == 0 && qn_opts_takes(o->command, row->id)) {
            return row;
        }
    }
    return NULL;
}

static quern_status fail_unknown(const qn_opts *o, const char *arg, quern_error *err)
{
    const char *candidates[2 * QN_OPT_COUNT];
    size_t n = 0;
    for (size_t i = 0; i < QN_OPT_COUNT; i++) {
        if (qn_opts_takes(o->command, rows[i].id)) {
            candidates[n++] = rows[i].name;
            if (rows[i].alias[0] != '\0') {
                candidates[n++] = rows[i].alias;
            }
        }
    }
    char word[64];
    size_t len = strcspn(arg, "=");
    (void)snprintf(word, sizeof word, "%.*s", (int)(len < sizeof word ? len : sizeof word - 1), arg);
    const char *nearest = qn_opts_nearest(word + strspn(word, "-"), candidates, n);
    const char *command = qn_command_get(o->command)->name;
    if (nearest != NULL) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "unknown option %s: did you mean --%s?", word, nearest);
    }
    for (size_t i = 0; i < QN_OPT_COUNT; i++) {
        if (arg[1] == '-' && strlen(rows[i].name) + 2 == len && memcmp(rows[i].name, arg + 2, len - 2) == 0) {
            return qn_error_set(err, QUERN_ERROR_USAGE, "%s is no option of quern %s", word, command);
        }
    }
    return qn_error_set(err, QUERN_ERROR_USAGE, "unknown option %s", word);
}

typedef struct arguments {
    int argc;
    char *const *argv;
    int next;
} arguments;

/* The value of an option: what is attached to it, or the next argument. */
static quern_status take_value(qn_opts *o, const qn_opt_row *row, const char *shown, const char *attached, arguments *a, quern_error *err)
{
    if (row->kind == QN_KIND_FLAG) {
        return store(o, row, attached != NULL ? attached : "1", QN_SOURCE_COMMAND_LINE, shown, err);
    }
    if (attached == NULL) {
        if (a->next >= a->argc) {
            return qn_error_set(err, QUERN_ERROR_USAGE, "%s needs a value: %s", shown, expectation(row));
        }
        attached = a->argv[a->next++];
    }
    return store(o, row, attached, QN_SOURCE_COMMAND_LINE, shown, err);
}

static quern_status parse_long(qn_opts *o, const char *arg, arguments *a, quern_error *err)
{
    const char *name = arg + 2;
    size_t len = strcspn(name, "=");
    const qn_opt_row *row = find_long(o, name, len);
    if (row == NULL) {
        return fail_unknown(o, arg, err);
    }
    char shown[64];
    (void)snprintf(shown, sizeof shown, "--%s", row->name);
    return take_value(o, row, shown, name[len] == '=' ? name + len + 1 : NULL, a, err);
}

/* -t 4, -t4, -qv, -hf REF, -ngl 0. Words come first, so that -hf is not -h -f. */
static quern_status parse_short(qn_opts *o, const char *arg, arguments *a, quern_error *err)
{
    quern_status status = QUERN_OK;
    char shown[64];
    size_t len = strcspn(arg + 1, "=");
    const qn_opt_row *row = find_short(o, arg + 1, len);
    if (row != NULL && (len > 1 || arg[1 + len] == '=')) {
        (void)snprintf(shown, sizeof shown, "-%s", row->short_name);
        return take_value(o, row, shown, arg[1 + len] == '=' ? arg + 2 + len : NULL, a, err);
    }
    for (const char *p = arg + 1; *p != '\0'; p++) {
        row = find_short(o, p, 1);
        if (row == NULL) {
            return fail_unknown(o, arg, err);
        }
        (void)snprintf(shown, sizeof shown, "-%s", row->short_name);
        if (row->kind != QN_KIND_FLAG) {
            return take_value(o, row, shown, p[1] != '\0' ? p + 1 : NULL, a, err);
        }
        QN_TRY(store(o, row, "1", QN_SOURCE_COMMAND_LINE, shown, err));
    }
done:
    return status;
}

quern_status qn_opts_parse(qn_opts *o, int argc, char *const *argv, quern_error *err)
{
    quern_status status = QUERN_OK;
    arguments a = {argc, argv, 0};
    bool options_ended = false;
    while (a.next < argc) {
        const char *arg = argv[a.next++];
        if (options_ended || arg[0] != '-' || arg[1] == '\0') {
            if (o->n_positional == QN_POSITIONAL_MAX) {
                QN_FAIL(err, QUERN_ERROR_USAGE, "more than %d arguments", (int)QN_POSITIONAL_MAX);
            }
            o->positional[o->n_positional++] = arg;
        } else if (strcmp(arg, "--") == 0) {
            options_ended = true;
        } else if (arg[1] == '-') {
            QN_TRY(parse_long(o, arg, &a, err));
        } else {
            QN_TRY(parse_short(o, arg, &a, err));
        }
    }
done:
    return status;
}

/* ---- environment and configuration ---- */

/* Options that describe one call (its inputs and its output's form) come from the command line alone. */
static bool is_persistent(const qn_opt_row *row)
{
    return row->group != QN_GROUP_INPUT && row->group != QN_GROUP_ONCE && row->group != QN_GROUP_BENCH;
}

quern_status qn_opts_read_environment(qn_opts *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < QN_OPT_COUNT; i++) {
        const qn_opt_row *row = &rows[i];
        if (!is_persistent(row) || !qn_opts_takes(o->command, row->id)) {
            continue;
        }
        char variable[80] = "QUERN_";
        size_t at = strlen(variable);
        for (const char *p = row->name; *p != '\0' && at + 1 < sizeof variable; p++) {
            variable[at++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        }
        variable[at] = '\0';
        const char *value = getenv(variable);
        if (value == NULL || value[0] == '\0') {
            continue;
        }
        const char *copy = qn_arena_strndup(&o->arena, value, strlen(value));
        if (copy == NULL) {
            QN_FAIL_MEMORY(err, variable, strlen(value) + 1);
        }
        QN_TRY(store(o, row, copy, QN_SOURCE_ENVIRONMENT, variable, err));
    }
done:
    return status;
}

/* Splits "run.temp" into the command it is for (COUNT = any) and the option's name. */
static const char *split_command(const char *name, qn_command_id *command)
{
    *command = QN_COMMAND_COUNT;
    const char *dot = strchr(name, '.');
    if (dot == NULL) {
        return name;
    }
    for (int i = 0; i < QN_COMMAND_COUNT; i++) {
        const char *c = qn_command_get((qn_command_id)i)->name;
        if (strlen(c) == (size_t)(dot - name) && memcmp(c, name, (size_t)(dot - name)) == 0) {
            *command = (qn_command_id)i;
            return dot + 1;
        }
    }
    return name;
}

quern_status qn_opts_set_config(qn_opts *o, const char *name, const char *value, const char *place, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_command_id only;
    const char *key = split_command(name, &only);
    const char *candidates[QN_OPT_COUNT];
    size_t n = 0;
    bool known = false;
    char shown[QUERN_ERROR_MESSAGE_CAP / 2];
    (void)snprintf(shown, sizeof shown, "%s: %s", place, name);
    for (size_t i = 0; i < QN_OPT_COUNT; i++) {
        const qn_opt_row *row = &rows[i];
        if (!is_persistent(row)) {
            continue;
        }
        candidates[n++] = row->name;
        if (strcmp(row->name, key) != 0 && (row->alias[0] == '\0' || strcmp(row->alias, key) != 0)) {
            continue;
        }
        known = true;
        if (!qn_opts_takes(o->command, row->id) || (only != QN_COMMAND_COUNT && only != o->command)) {
            continue;
        }
        const char *copy = qn_arena_strndup(&o->arena, value, strlen(value));
        if (copy == NULL) {
            QN_FAIL_MEMORY(err, shown, strlen(value) + 1);
        }
        QN_TRY(store(o, row, copy, QN_SOURCE_CONFIG, shown, err));
    }
    if (!known) {
        const char *nearest = qn_opts_nearest(key, candidates, n);
        QN_FAIL(err, QUERN_ERROR_USAGE, "%s: no such setting%s%s%s", shown, nearest != NULL ? ": did you mean " : "",
                nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
    }
done:
    return status;
}

/* ---- access ---- */

bool qn_opts_given(const qn_opts *o, qn_opt_id id) { return o->values[id].source != QN_SOURCE_NONE; }
bool qn_opts_flag(const qn_opts *o, qn_opt_id id) { return o->values[id].on; }
const char *qn_opts_text(const qn_opts *o, qn_opt_id id, const char *fallback)
{
    return qn_opts_given(o, id) ? o->values[id].text : fallback;
}
uint64_t qn_opts_count(const qn_opts *o, qn_opt_id id, uint64_t fallback) { return qn_opts_given(o, id) ? o->values[id].count : fallback; }
double qn_opts_real(const qn_opts *o, qn_opt_id id, double fallback) { return qn_opts_given(o, id) ? o->values[id].real : fallback; }

/* ---- suggestions ---- */

enum { WORD_MAX = 48 };

/* Edits (insert, delete, replace, swap of neighbours) between two words of at most WORD_MAX letters. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n > WORD_MAX || m > WORD_MAX) {
        return SIZE_MAX;
    }
    size_t d[3][WORD_MAX + 1];
    for (size_t j = 0; j <= m; j++) {
        d[0][j] = j;
    }
    for (size_t i = 1; i <= n; i++) {
        size_t *row = d[i % 3];
        const size_t *above = d[(i + 2) % 3], *above2 = d[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && above2[j - 2] + 1 < best) {
                best = above2[j - 2] + 1;
            }
            row[j] = best;
        }
    }
    return d[n % 3][m];
}

const char *qn_opts_nearest(const char *word, const char *const *candidates, size_t n)
{
    size_t len = strlen(word);
    const char *best = NULL;
    size_t best_distance = len < 4 ? 2 : 1 + len / 3; /* one slip in a short word, about a third of a long one */
    for (size_t i = 0; i < n && len >= 2; i++) {
        size_t distance = edit_distance(word, candidates[i]);
        bool begins = len >= 3 && strncmp(candidates[i], word, len) == 0; /* an abbreviation is near, too */
        if (begins && distance > 1) {
            distance = 1;
        }
        if (distance < best_distance) {
            best_distance = distance;
            best = candidates[i];
        }
    }
    return best;
}
