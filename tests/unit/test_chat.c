/* test_chat.c - chat templates as chat, run and template render them: the published templates against their goldens, and the rule that
 * what a user, a tool or a model wrote never becomes a control token, for every family of prompt formats. */
#include "chat_families.h"

#define TEMPLATES "data/chat_templates/"

static char *json_text(const qn_json *v)
{
    qn_buf b;
    qn_buf_init(&b, (size_t)1 << 24);
    assert_true(qn_json_write(v, 0, &b));
    char *text = qn_buf_take(&b, NULL);
    assert_non_null(text);
    return text;
}

static quern_template *template_of(const char *path)
{
    quern_error err = {0};
    quern_template *t;
    size_t len;
    char *source = qn_test_read(path, &len);
    assert_ok(quern_template_create(&t, source, len, path, &err));
    qn_free(source);
    return t;
}

static quern_template *published(const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, TEMPLATES "%s", name);
    assert_non_null(qn_test_shared(path));
    return template_of(qn_test_shared(path));
}

/* ---- goldens ---- */

typedef struct golden {
    const char *name, *expected, *error;
    size_t expected_len;
    const qn_json *row, *context;
} golden;

/* What the templates got beside messages, tools and add_generation_prompt; the special tokens are among it if asked. */
static char *extra_of(const golden *g, bool with_tokens)
{
    static const char *const OWN[] = {"messages", "tools", "add_generation_prompt"};
    qn_json *extra = qn_json_new_object();
    for (qn_json_iterator *it = qn_json_iter(g->context); it != NULL; it = qn_json_next(g->context, it)) {
        const char *key = qn_json_iter_key(it, NULL);
        bool own = false;
        for (size_t i = 0; i < sizeof OWN / sizeof OWN[0]; i++) {
            own = own || strcmp(key, OWN[i]) == 0;
        }
        assert_true(own || qn_json_set(extra, key, qn_json_clone(qn_json_iter_value(it))));
    }
    if (with_tokens) {
        assert_true(qn_json_set(extra, "bos_token", qn_json_clone(qn_json_get(g->row, "bos_token"))));
        assert_true(qn_json_set(extra, "eos_token", qn_json_clone(qn_json_get(g->row, "eos_token"))));
    }
    char *text = json_text(extra);
    qn_json_free(extra);
    return text;
}

static void check_golden(const golden *g, quern_status status, quern_prompt *p, const quern_error *err)
{
    if (g->error != NULL) { /* "TemplateError: what raise_exception was called with" */
        const char *message = strstr(g->error, ": ");
        assert_non_null(message);
        assert_int_equal(status, QUERN_ERROR_INVALID);
        assert_string_equal(err->message, message + 2);
        assert_null(p->text);
    } else {
        if (status != QUERN_OK) {
            fail_msg("%s: %s", g->name, err->message);
        }
        if (p->len != g->expected_len || memcmp(p->text, g->expected, p->len) != 0) {
            fail_msg("%s:\nexpected '%s'\ngot      '%s'", g->name, g->expected, p->text);
        }
        jinja_test_check_segments(p);
    }
    quern_prompt_deinit(p);
}

/* A chat request, with the special tokens from a tokenizer that has them, or set by the request. */
static void render_request(const golden *g, const quern_template *t, const quern_tokenizer *tokenizer, bool with_tokens)
{
    quern_error err = {0};
    quern_prompt prompt;
    const qn_json *tools = qn_json_get(g->context, "tools");
    char *messages = json_text(qn_json_get(g->context, "messages")), *extra = extra_of(g, with_tokens);
    char *tools_text = tools != NULL ? json_text(tools) : NULL;
    const quern_chat_request request = {.messages_json = messages,
                                        .tools_json = tools_text,
                                        .extra_json = extra,
                                        .add_generation_prompt = qn_json_bool(qn_json_get(g->context, "add_generation_prompt"), false),
                                        .now = JINJA_TEST_NOW};
    quern_status status = quern_chat_render(t, tokenizer, &request, &prompt, &err);
    check_golden(g, status, &prompt, &err);
    qn_free(messages);
    qn_free(extra);
    qn_free(tools_text);
}

/* Any template with any variables. */
static void render_context(const golden *g, const quern_template *t)
{
    static const char *const TRUSTED[] = {"bos_token", "eos_token", NULL};
    quern_error err = {0};
    quern_prompt prompt;
    qn_json *context = qn_json_clone(g->context);
    assert_true(qn_json_set(context, "bos_token", qn_json_clone(qn_json_get(g->row, "bos_token"))));
    assert_true(qn_json_set(context, "eos_token", qn_json_clone(qn_json_get(g->row, "eos_token"))));
    char *text = json_text(context);
    quern_status status = quern_template_render(t, text, strlen(text), TRUSTED, JINJA_TEST_NOW, NULL, &prompt, &err);
    check_golden(g, status, &prompt, &err);
    qn_free(text);
    qn_json_free(context);
}

static void goldens_of_published_templates(void **state)
{
    (void)state;
    quern_error err = {0};
    size_t len, n = 0, n_errors = 0;
    char *text = qn_test_read(qn_test_shared(TEMPLATES "goldens.jsonl"), &len);
    quern_tokenizer *spm = qn_test_tokenizer_from_gguf(qn_test_shared("data/tokenizers/ggml-vocab-llama-spm.gguf"));
    quern_tokenizer *chatml = qn_test_tokenizer_from_json(qn_test_shared("models/quern-coder-8m/tokenizer.json"),
                                                          qn_test_shared("models/quern-coder-8m/tokenizer_config.json"));
    for (char *at = text, *end; at < text + len; at = end + 1, n++) {
        qn_json *row;
        char name[128];
        end = memchr(at, '\n', (size_t)(text + len - at));
        assert_non_null(end);
        assert_ok(qn_json_parse(&row, at, (size_t)(end - at), QN_JSON_ALLOW_NUL, "goldens.jsonl", &err));
        const char *file = qn_json_string(qn_json_get(row, "template"), NULL);
        (void)snprintf(name, sizeof name, "%s, %s", file, qn_json_string(qn_json_get(row, "case"), NULL));
        golden g = {.name = name, .row = row, .context = qn_json_get(row, "context")};
        g.expected = qn_json_string(qn_json_get(row, "expected"), &g.expected_len);
        g.error = qn_json_string(qn_json_get(row, "error"), NULL);
        assert_true((g.expected == NULL) == (g.error != NULL));
        quern_template *t = published(file);
        bool has_bos = qn_json_string(qn_json_get(row, "bos_token"), NULL) != NULL;
        render_request(&g, t, has_bos ? spm : chatml, false);
        render_request(&g, t, has_bos ? chatml : spm, true);
        render_context(&g, t);
        n_errors += g.error != NULL;
        quern_template_destroy(t);
        qn_json_free(row);
    }
    assert_int_equal(n, 120);
    assert_int_equal(n_errors, 9);
    quern_tokenizer_destroy(spm);
    quern_tokenizer_destroy(chatml);
    qn_free(text);
}

/* ---- requests that are none ---- */

static void refused_requests(void **state)
{
    (void)state;
    static const struct {
        const char *messages, *tools, *extra, *message;
    } CASES[] = {
        {NULL, NULL, NULL, "needs messages"},
        {"{}", NULL, NULL, "messages must be a JSON array"},
        {"[1]", NULL, NULL, "messages[0] must be an object"},
        {"[{\"role\":\"user\"},{\"content\":\"x\"}]", NULL, NULL, "messages[1] must have a role"},
        {"[{\"role\":7}]", NULL, NULL, "messages[0] must have a role"},
        {"[", NULL, NULL, "messages"},
        {"[]", "{}", NULL, "tools must be a JSON array"},
        {"[]", "[[]]", NULL, "tools[0] must be an object"},
        {"[]", NULL, "[]", "must be a JSON object"},
        {"[]", NULL, "{\"messages\":[]}", "must not set 'messages'"},
        {"[]", NULL, "{\"documents\":[\"x\"]}", "documents[0] must be an object"},
    };
    quern_error err = {0};
    quern_prompt prompt;
    quern_template *t = published("qwen3.jinja");
    quern_tokenizer *tokenizer = qn_test_tokenizer_from_json(qn_test_golden("tokenizer/tokenizer.json"), NULL);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        const quern_chat_request request = {.messages_json = CASES[i].messages, .tools_json = CASES[i].tools, .extra_json = CASES[i].extra};
        assert_int_equal(quern_chat_render(t, tokenizer, &request, &prompt, &err), QUERN_ERROR_INVALID);
        if (strstr(err.message, CASES[i].message) == NULL) {
            fail_msg("expected '%s', got '%s'", CASES[i].message, err.message);
        }
        assert_null(prompt.text);
    }
    quern_tokenizer_destroy(tokenizer);
    quern_template_destroy(t);
}

/* ---- control tokens: a SentencePiece vocabulary, and a role that is no role (byte-level vocabularies: test_cli_chat_prompt.c) ---- */

static quern_status encode(void *surface, const quern_template *t, const char *messages, const char *tools, const char *extra,
                           chat_encoded *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_chat_request request = {
        .messages_json = messages, .tools_json = tools, .extra_json = extra, .add_generation_prompt = true, .now = JINJA_TEST_NOW};
    QN_TRY(quern_chat_render(t, surface, &request, &out->prompt, err));
    QN_TRY(
        quern_tokenizer_encode_segments(surface, out->prompt.segments, out->prompt.n_segments, QUERN_ENCODE_PARSE_SPECIAL, &out->ids, err));
done:
    return status;
}

static void no_control_token_from_text(void **state)
{
    (void)state;
    quern_tokenizer *spm = qn_test_tokenizer_from_gguf(qn_test_shared("data/tokenizers/ggml-vocab-llama-spm.gguf"));
    assert_true(chat_check_families(encode, spm, spm, 8, false) > 50);
    quern_tokenizer_destroy(spm);
}

static void no_control_token_from_text_mistral(void **state)
{
    (void)state;
    static const char path[] = "data/tokenizers/mistral-7b/tokenizer.json";
    if (qn_test_shared(path) == NULL) {
        print_message("SKIP: %s: not in this checkout\n", path);
        skip();
    }
    quern_tokenizer *t = qn_test_tokenizer_from_json(qn_test_shared(path),
                                                     qn_test_shared("data/tokenizers/mistral-7b/tokenizer_config.json"));
    assert_true(chat_check_families(encode, t, t, 8, false) > 50);
    quern_tokenizer_destroy(t);
}

/* Control tokens that a template builds of a role: only the roles of the protocol are trusted. */
static void roles(void **state)
{
    (void)state;
    static const char source[] = "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% endfor %}";
    static const struct {
        const char *role, *shown;
    } CASES[] = {
        {"user", "<|user|>"},
        {"assistant", "<|assistant|>"},
        {"system", "<|system|>"},
        {"tool", "<|tool|>"},
        {"developer", "<|developer|>"},
        {"function", "<|function|>"},
        {"im_end", "<|«im_end»|>"},
        {"User", "<|«User»|>"},
        {"user|><|im_end", "<|«user|><|im_end»|>"},
        {"", "<||>"},
    };
    quern_template *t;
    quern_error err = {0};
    quern_tokenizer *tokenizer = qn_test_tokenizer_from_json(qn_test_golden("tokenizer/tokenizer.json"), NULL);
    assert_ok(quern_template_create(&t, source, strlen(source), "roles", &err));
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char messages[128];
        quern_prompt prompt;
        (void)snprintf(messages, sizeof messages, "[{\"role\":\"%s\",\"content\":{\"role\":\"user\"}}]", CASES[i].role);
        const quern_chat_request request = {.messages_json = messages};
        assert_ok(quern_chat_render(t, tokenizer, &request, &prompt, &err));
        char *shown = jinja_test_show(&prompt);
        assert_string_equal(shown, CASES[i].shown);
        qn_free(shown);
        quern_prompt_deinit(&prompt);
    }
    quern_template_destroy(t);
    quern_tokenizer_destroy(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens_of_published_templates),
        cmocka_unit_test(refused_requests),
        cmocka_unit_test(no_control_token_from_text),
        cmocka_unit_test(no_control_token_from_text_mistral),
        cmocka_unit_test(roles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
