/* cmd_tokenize.c - quern tokenize: text to ids. Ids are written as they are made: a book's worth needs no tree of JSON. */
#include <string.h>

#include "base/fs.h"
#include "model_ref.h"
#include "prompt_input.h"
#include "quern/tokenizer.h"

enum { TOKENIZER_BYTES_MAX = 256 << 20 };

/* The tokenizer of a model, or of a tokenizer.json alone. */
typedef struct source {
    quern_model *model;
    quern_tokenizer *owned;
    const quern_tokenizer *tokenizer;
} source;

static void deinit_source(source *s)
{
    quern_model_close(s->model);
    quern_tokenizer_destroy(s->owned);
}

/* tokenizer.json and, if it is beside it, tokenizer_config.json. */
static quern_status open_json(source *s, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *json = NULL, *config = NULL, *dir = NULL, *config_path = NULL;
    size_t json_len = 0, config_len = 0;
    QN_TRY(qn_file_read(&json, &json_len, path, TOKENIZER_BYTES_MAX, err));
    dir = qn_path_base(path) == path ? qn_strdup(".") : qn_strndup(path, (size_t)(qn_path_base(path) - path));
    config_path = dir != NULL ? qn_path_join(dir, "tokenizer_config.json") : NULL;
    if (config_path == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path));
    }
    if (qn_path_is_file(config_path)) {
        QN_TRY(qn_file_read(&config, &config_len, config_path, TOKENIZER_BYTES_MAX, err));
    }
    status = quern_tokenizer_create_from_json(&s->owned, json, json_len, config, config_len, err);
    if (status != QUERN_OK) {
        qn_error_prefix(err, "%s", path);
    }
    s->tokenizer = s->owned;
done:
    qn_free(json);
    qn_free(config);
    qn_free(dir);
    qn_free(config_path);
    return status;
}

static quern_status open_source(qn_cli *cli, source *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *path = NULL;
    QN_TRY(qn_model_ref_take(cli, NULL, &path, err));
    size_t n = strlen(path);
    if (n > 5 && strcmp(path + n - 5, ".json") == 0 && qn_path_is_file(path)) {
        QN_TRY(open_json(s, path, err));
    } else {
        QN_TRY(qn_model_ref_open(cli, path, QN_OPEN_VOCABULARY_ONLY, &s->model, err));
        s->tokenizer = quern_model_get_tokenizer(s->model);
    }
    if (s->tokenizer == NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: the model has no tokenizer", path);
    }
done:
    qn_free(path);
    return status;
}

static void write_ids(const quern_ids *ids)
{
    (void)fputc('[', stdout);
    for (size_t i = 0; i < ids->len; i++) {
        char digits[12];
        size_t at = sizeof digits;
        uint32_t v = ids->data[i] < 0 ? 0 : (uint32_t)ids->data[i];
        do {
            digits[--at] = (char)('0' + v % 10);
            v /= 10;
        } while (v > 0);
        if (i > 0) {
            digits[--at] = ',';
        }
        (void)fwrite(digits + at, 1, sizeof digits - at, stdout);
    }
    (void)fputc(']', stdout);
}

/* ---- --jsonl ---- */

/* Reads one line of any length, without its newline; false at the end. */
static bool read_line(FILE *in, qn_buf *line)
{
    char chunk[1 << 14];
    qn_buf_reset(line);
    bool any = false;
    while (fgets(chunk, sizeof chunk, in) != NULL) {
        size_t n = strlen(chunk);
        any = true;
        bool complete = n > 0 && chunk[n - 1] == '\n';
        (void)qn_buf_append(line, chunk, complete ? n - 1 : n);
        if (complete || line->failed) {
            break;
        }
    }
    return any;
}

static quern_status tokenize_row(const quern_tokenizer *t, int flags, const qn_buf *line, const char *place, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_ids ids = {0}, plain = {0};
    qn_json *row = NULL;
    QN_TRY(qn_json_parse(&row, line->data, line->len, QN_JSON_ALLOW_NUL, place, err));
    size_t len = 0;
    const char *text = qn_json_string(qn_json_get(row, "text"), &len);
    if (text == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: expected an object with \"text\"", place);
    }
    QN_TRY(quern_tokenizer_encode(t, text, len, flags, &ids, err));
    QN_TRY(quern_tokenizer_encode(t, text, len, flags & ~QUERN_ENCODE_PARSE_SPECIAL, &plain, err));
    (void)fputs("{\"ids\":", stdout);
    write_ids(&ids);
    (void)fputs(",\"ids_no_special\":", stdout);
    write_ids(&plain);
    (void)fputs("}\n", stdout);
done:
    quern_ids_deinit(&ids);
    quern_ids_deinit(&plain);
    qn_json_free(row);
    return status;
}

static quern_status tokenize_rows(const quern_tokenizer *t, int flags, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *in = is_stdin ? stdin : fopen(path, "rbe");
    char place[QUERN_ERROR_MESSAGE_CAP / 2];
    qn_buf line;
    qn_buf_init(&line, (size_t)1 << 30);
    if (in == NULL) {
        QN_FAIL(err, QUERN_ERROR_NOT_FOUND, "%s: cannot open", path);
    }
    for (size_t number = 1; read_line(in, &line); number++) {
        (void)snprintf(place, sizeof place, "%s:%zu", is_stdin ? "standard input" : path, number);
        if (line.failed) {
            QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: a line of more than %zu bytes, or out of memory", place, line.max_len);
        }
        if (line.len > 0) {
            QN_TRY(tokenize_row(t, flags, &line, place, err));
        }
    }
    if (ferror(in)) {
        QN_FAIL(err, QUERN_ERROR_IO, "%s: cannot read", path);
    }
done:
    qn_buf_deinit(&line);
    if (in != NULL && !is_stdin) {
        (void)fclose(in);
    }
    return status;
}

/* ---- one text ---- */

static const char *kind_name(quern_token_kind k)
{
    switch (k) {
    case QUERN_TOKEN_NORMAL: return "";
    case QUERN_TOKEN_UNKNOWN: return "unknown";
    case QUERN_TOKEN_CONTROL: return "control";
    case QUERN_TOKEN_USER_DEFINED: return "added";
    case QUERN_TOKEN_UNUSED: return "unused";
    case QUERN_TOKEN_BYTE: return "byte";
    }
    return "";
}

static void print_table(qn_cli *cli, const quern_tokenizer *t, const quern_ids *ids)
{
    /* One line a token, written directly: a table as wide as its longest token would have to hold the whole text first. */
    const char *dim = qn_term_style(&cli->out, QN_STYLE_DIM), *accent = qn_term_style(&cli->out, QN_STYLE_ACCENT);
    const char *end = qn_term_style(&cli->out, QN_STYLE_NONE);
    qn_buf piece;
    qn_buf_init(&piece, 1u << 20);
    for (size_t i = 0; i < ids->len; i++) {
        size_t len = 0;
        const char *text = quern_tokenizer_get_text(t, ids->data[i], &len);
        quern_token_kind kind = quern_tokenizer_get_kind(t, ids->data[i]);
        qn_buf_reset(&piece);
        qn_text_append_visible(&piece, text != NULL ? text : "", len);
        const char *style = kind == QUERN_TOKEN_NORMAL ? "" : accent;
        (void)printf("%7d  %s\"%s\"%s%s%s%s%s\n", (int)ids->data[i], style, qn_buf_text(&piece), style[0] != '\0' ? end : "",
                     kind_name(kind)[0] != '\0' ? "  " : "", dim, kind_name(kind), end);
    }
    qn_buf_deinit(&piece);
}

static quern_status read_text(qn_cli *cli, char **owned, const char **text, size_t *len, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    const char *file = qn_opts_text(o, QN_OPT_PROMPT_FILE, NULL);
    if (o->n_positional > 1 || (o->n_positional == 1 && file != NULL)) {
        qn_cli_hint(cli, "put the text in quotes, or in a file for -f");
        QN_FAIL(err, QUERN_ERROR_USAGE, "too many arguments: '%s'", o->positional[o->n_positional - 1]);
    }
    if (o->n_positional == 1) {
        *text = o->positional[0];
        *len = strlen(*text);
        goto done;
    }
    if (file == NULL && !qn_input_stdin_is_piped()) {
        qn_cli_note(cli, "type the text, end it with Ctrl-D");
    }
    QN_TRY(qn_input_read(file != NULL ? file : "-", owned, len, err));
    *text = *owned;
done:
    return status;
}

static quern_status tokenize_text(qn_cli *cli, const quern_tokenizer *t, int flags, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *owned = NULL;
    const char *text = NULL;
    size_t len = 0;
    quern_ids ids = {0};
    QN_TRY(read_text(cli, &owned, &text, &len, err));
    QN_TRY(quern_tokenizer_encode(t, text, len, flags, &ids, err));
    if (cli->json) {
        cli->json_written = true;
        (void)fputs("{\"schema\":\"quern.tokenize/1\",\"ids\":", stdout);
        write_ids(&ids);
        (void)printf(",\"n_tokens\":%zu,\"n_bytes\":%zu}\n", ids.len, len);
    } else {
        print_table(cli, t, &ids);
        qn_cli_note(cli, "%zu token%s, %zu bytes", ids.len, ids.len == 1 ? "" : "s", len);
    }
done:
    quern_ids_deinit(&ids);
    qn_free(owned);
    return status;
}

quern_status qn_cmd_tokenize(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    source s = {0};
    const qn_opts *o = &cli->opts;
    const char *rows = qn_opts_text(o, QN_OPT_JSONL, NULL);
    int flags = (qn_opts_flag(o, QN_OPT_NO_SPECIAL) ? 0 : QUERN_ENCODE_PARSE_SPECIAL) |
                (qn_opts_flag(o, QN_OPT_ADD_BOS) ? QUERN_ENCODE_ADD_BOS : 0);
    if (rows != NULL && cli->json) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "--jsonl already writes JSON, one object a line: leave out --json");
    }
    QN_TRY(open_source(cli, &s, err));
    if (rows != NULL && (o->n_positional > 0 || qn_opts_given(o, QN_OPT_PROMPT_FILE))) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "--jsonl FILE holds the texts: no other text beside it");
    }
    status = rows != NULL ? tokenize_rows(s.tokenizer, flags, rows, err) : tokenize_text(cli, s.tokenizer, flags, err);
done:
    deinit_source(&s);
    return status;
}
