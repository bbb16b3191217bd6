/* prompt_input.c - reading and encoding prompts. */
#include "prompt_input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_BYTES_MAX ((size_t)1 << 30)

bool qn_input_stdin_is_piped(void)
{
    struct stat st;
    return isatty(STDIN_FILENO) == 0 && fstat(STDIN_FILENO, &st) == 0;
}

static quern_status read_all(int fd, const char *name, qn_buf *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *chunk = qn_malloc(1u << 16);
    if (chunk == NULL) {
        QN_FAIL_MEMORY(err, name, 1u << 16);
    }
    for (;;) {
        ssize_t n = read(fd, chunk, 1u << 16);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            QN_FAIL(err, errno == EISDIR ? QUERN_ERROR_INVALID : QUERN_ERROR_IO, "%s: cannot read: %s", name, strerror(errno));
        }
        if (n == 0) {
            break;
        }
        if (!qn_buf_append(out, chunk, (size_t)n)) {
            QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: more than %zu bytes, or out of memory", name, out->max_len);
        }
    }
done:
    qn_free(chunk);
    return status;
}

quern_status qn_input_read(const char *path, char **text, size_t *len, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool is_stdin = strcmp(path, "-") == 0;
    const char *name = is_stdin ? "standard input" : path;
    qn_buf b;
    qn_buf_init(&b, INPUT_BYTES_MAX);
    *text = NULL;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        QN_FAIL(err, errno == ENOENT || errno == ENOTDIR ? QUERN_ERROR_NOT_FOUND : QUERN_ERROR_IO, "%s: cannot open: %s", path,
                strerror(errno));
    }
    QN_TRY(read_all(fd, name, &b, err));
    if (!qn_buf_append(&b, "", 0)) { /* so that there is memory even for an empty text */
        QN_FAIL_MEMORY(err, name, 1);
    }
    *text = qn_buf_take(&b, len);
    if (*text == NULL) {
        QN_FAIL_MEMORY(err, name, 1);
    }
done:
    if (fd >= 0 && !is_stdin) {
        (void)close(fd);
    }
    qn_buf_deinit(&b);
    return status;
}

quern_status qn_input_read_json(const char *path, qn_json_kind kind, const char *what, qn_json **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *text = NULL;
    size_t len = 0;
    const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
    *out = NULL;
    QN_TRY(qn_input_read(path, &text, &len, err));
    QN_TRY(qn_json_parse(out, text, len, QN_JSON_ALLOW_NUL, name, err));
    if (kind != QN_JSON_NULL && qn_json_get_kind(*out) != kind) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: expected %s", name, what);
    }
done:
    qn_free(text);
    if (status != QUERN_OK) {
        qn_json_free(*out);
        *out = NULL;
    }
    return status;
}

quern_status qn_messages_read(const char *path, qn_json **messages, qn_json **tools, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *root = NULL;
    const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
    *messages = NULL;
    QN_TRY(qn_input_read_json(path, QN_JSON_NULL, NULL, &root, err));
    const qn_json *list = qn_json_get_kind(root) == QN_JSON_OBJECT ? qn_json_get(root, "messages") : root;
    if (qn_json_get_kind(list) != QN_JSON_ARRAY) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: expected an array of messages, or an object with \"messages\"", name);
    }
    for (size_t i = 0; i < qn_json_length(list); i++) {
        if (qn_json_string(qn_json_get(qn_json_at(list, i), "role"), NULL) == NULL) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: message %zu: expected an object with a \"role\"", name, i);
        }
    }
    const qn_json *offered = qn_json_get(root, "tools");
    *messages = qn_json_clone(list);
    if (*messages == NULL) {
        QN_FAIL(err, QUERN_ERROR_MEMORY, "out of memory: %s", name);
    }
    if (tools != NULL && *tools == NULL && qn_json_get_kind(offered) == QN_JSON_ARRAY) {
        *tools = qn_json_clone(offered);
    }
done:
    qn_json_free(root);
    return status;
}

quern_status qn_messages_add(qn_json *messages, const char *role, const char *content, size_t len, quern_error *err)
{
    bool ok = true;
    qn_json *m = qn_json_new_object();
    qn_put_text(m, "role", role, &ok);
    qn_put(m, "content", qn_json_new_string_n(content, len), &ok);
    qn_push(messages, m, &ok);
    return ok ? QUERN_OK : qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: a message");
}

static quern_status json_text(const qn_json *v, qn_buf *out, quern_error *err)
{
    return v == NULL || qn_json_write(v, 0, out) ? QUERN_OK : qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: messages");
}

quern_status qn_chat_encode(const quern_model *model, const qn_chat_input *input, quern_prompt *prompt, quern_ids *ids, quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_template *t = input->chat_template;
    const char *source = input->tools != NULL ? quern_model_get_tool_template_source(model) : quern_model_get_template_source(model);
    quern_template *unused = NULL;
    if (t == NULL) {
        t = input->tools != NULL ? quern_model_get_tool_template(model) : quern_model_get_template(model);
    }
    const quern_tokenizer *tokenizer = quern_model_get_tokenizer(model);
    qn_buf messages, tools;
    qn_buf_init(&messages, 2 * INPUT_BYTES_MAX);
    qn_buf_init(&tools, 2 * INPUT_BYTES_MAX);
    *prompt = (quern_prompt){0};
    if (t == NULL && source != NULL) { /* there is one that does not parse: parsing it again says why */
        char what[512];
        (void)snprintf(what, sizeof what, "%s: chat template", quern_model_get_info(model)->path);
        QN_TRY(quern_template_create(&unused, source, strlen(source), what, err));
    }
    if (t == NULL || tokenizer == NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: the model has no chat template", quern_model_get_info(model)->name);
    }
    QN_TRY(json_text(input->messages, &messages, err));
    QN_TRY(json_text(input->tools, &tools, err));
    quern_chat_request request = {
        .messages_json = qn_buf_text(&messages),
        .tools_json = input->tools != NULL ? qn_buf_text(&tools) : NULL,
        .extra_json = input->extra_json,
        .add_generation_prompt = input->generation_prompt,
    };
    QN_TRY(quern_chat_render(t, tokenizer, &request, prompt, err));
    if (ids != NULL) { /* special tokens count in the template's own text only */
        QN_TRY(quern_tokenizer_encode_segments(tokenizer, prompt->segments, prompt->n_segments, QUERN_ENCODE_PARSE_SPECIAL, ids, err));
    }
done:
    quern_template_destroy(unused);
    qn_buf_deinit(&messages);
    qn_buf_deinit(&tools);
    if (status != QUERN_OK) {
        quern_prompt_deinit(prompt);
    }
    return status;
}

quern_status qn_raw_encode(qn_cli *cli, const quern_model *model, const char *text, size_t len, bool parse_special, quern_ids *ids,
                           quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_tokenizer *t = quern_model_get_tokenizer(model);
    if (t == NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: the model has no tokenizer", quern_model_get_info(model)->name);
    }
    const quern_tokenizer_info *info = quern_tokenizer_get_info(t);
    int flags = (parse_special ? QUERN_ENCODE_PARSE_SPECIAL : 0) | (info->add_bos ? QUERN_ENCODE_ADD_BOS : 0);
    QN_TRY(quern_tokenizer_encode(t, text, len, flags, ids, err));
    if (info->add_bos && info->bos_id >= 0 && ids->len > 1 && ids->data[0] == info->bos_id && ids->data[1] == info->bos_id) {
        size_t n = 0;
        const char *bos = quern_tokenizer_get_text(t, info->bos_id, &n);
        qn_cli_warn(cli, "the prompt begins with %.*s, and this model's configuration puts another before it", (int)n,
                    bos != NULL ? bos : "");
    }
done:
    return status;
}
