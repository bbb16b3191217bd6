/* test_jinja.c - the template engine against what Jinja2 made of the same templates (tests/jinja, recorded by
 * tools/record_jinja.py), and what Python prints differently or Jinja2 cannot say. */
#include "jinja_test.h"

#include "base/fs.h"
#include "base/sha256.h"
#include "text/jinja_run.h"

typedef struct recorded {
    const char *name, *source, *expected, *error_class, *error_text;
    size_t source_len, expected_len;
    const qn_json *context;
} recorded;

typedef void (*check_fn)(const recorded *r);

static char *read_source(const char *relative, size_t *len)
{
    char path[1024];
    quern_error err = {0};
    char *text;
    (void)snprintf(path, sizeof path, "%s/%s", QUERN_SOURCE_DIR, relative);
    assert_ok(qn_file_read(&text, len, path, (size_t)1 << 24, &err));
    return text;
}

/* True if the message of the engine says what Jinja2's exception says (a full stop at the end aside). */
static bool says(const char *message, const char *wanted)
{
    size_t len = strlen(wanted);
    while (len > 0 && wanted[len - 1] == '.') {
        len--;
    }
    char *part = qn_strndup(wanted, len);
    assert_non_null(part);
    bool found = strstr(message, part) != NULL;
    qn_free(part);
    return found;
}

/* Errors whose text is part of the contract: undefined names, refusals of the sandbox, what templates raise. */
static bool text_matters(const recorded *r)
{
    static const char *const CLASSES[] = {"UndefinedError", "SecurityError", "TemplateError", "TemplateRuntimeError"};
    for (size_t i = 0; i < sizeof CLASSES / sizeof CLASSES[0]; i++) {
        if (strcmp(r->error_class, CLASSES[i]) == 0) {
            return strstr(r->error_text, "inline if-expression") == NULL && strstr(r->error_text, "no parent block") == NULL;
        }
    }
    return false;
}

static void check_error(const recorded *r, quern_status status, const quern_error *err)
{
    if (status == QUERN_OK) {
        fail_msg("%s: Jinja2 raises %s: %s", r->name, r->error_class, r->error_text);
    }
    assert_int_equal(err->status, status);
    if (text_matters(r) && !says(err->message, r->error_text)) {
        fail_msg("%s: expected the message '%s', got '%s'", r->name, r->error_text, err->message);
    }
    bool placed = strstr(err->message, "line ") != NULL && strstr(err->message, "column ") != NULL;
    if (strcmp(r->error_class, "TemplateError") != 0 && !placed) {
        fail_msg("%s: no place in '%s'", r->name, err->message);
    }
}

static bool is_cyclic(const char *name) { return strcmp(name, "namespace holds itself") == 0; }

static void check_text(const recorded *r, bool hashed)
{
    quern_error err = {0};
    quern_prompt prompt;
    qn_jinja_stats stats = {0};
    quern_status status = jinja_test_render(r->source, r->source_len, r->context, NULL, NULL, &prompt, &stats, &err);
    if (r->error_class != NULL) {
        check_error(r, status, &err);
    } else {
        if (status != QUERN_OK) {
            fail_msg("%s: %s", r->name, err.message);
        }
        char hex[65];
        assert_ok(qn_sha256_bytes(prompt.text, prompt.len, hex, &err));
        bool same = hashed ? strcmp(hex, r->expected) == 0
                           : prompt.len == r->expected_len && memcmp(prompt.text, r->expected, prompt.len) == 0;
        if (!same) {
            fail_msg("%s:\nexpected '%s'\ngot      '%s'", r->name, hashed ? "(tools/record_jinja.py --show NAME)" : r->expected,
                     prompt.text);
        }
        jinja_test_check_segments(&prompt);
        if (stats.n_cyclic != 0 && !is_cyclic(r->name)) {
            fail_msg("%s: %zu objects were left", r->name, stats.n_cyclic);
        }
        assert_true(stats.steps > 0);
    }
    quern_prompt_deinit(&prompt);
}

static void check_plain(const recorded *r) { check_text(r, false); }

static void check_chat(const recorded *r)
{
    char path[256];
    recorded with_source = *r;
    (void)snprintf(path, sizeof path, "tools/jinja_cases/templates/%s", r->source);
    char *source = read_source(path, &with_source.source_len);
    with_source.source = source;
    check_text(&with_source, true);
    qn_free(source);
}

/* One line of a recording; see the head of tools/record_jinja.py. */
static void run_line(const qn_json *contexts, const qn_json *line, check_fn check)
{
    recorded r = {0};
    char expression[2048];
    r.name = qn_json_string(qn_json_at(line, 0), NULL);
    r.source = qn_json_string(qn_json_at(line, 1), &r.source_len);
    r.context = qn_json_get(contexts, qn_json_string(qn_json_at(line, 2), NULL));
    r.expected = qn_json_string(qn_json_at(line, 3), &r.expected_len);
    r.error_class = qn_json_string(qn_json_at(qn_json_at(line, 4), 0), NULL);
    r.error_text = qn_json_string(qn_json_at(qn_json_at(line, 4), 1), NULL);
    assert_non_null(r.context);
    assert_true((r.expected == NULL) == (r.error_class != NULL));
    if (r.source == NULL) {
        r.source_len = (size_t)snprintf(expression, sizeof expression, "{{ %s }}", r.name);
        assert_true(r.source_len < sizeof expression);
        r.source = expression;
    }
    check(&r);
}

static size_t run_file(const char *name, check_fn check)
{
    quern_error err = {0};
    char path[64];
    size_t len, n = 0;
    (void)snprintf(path, sizeof path, "tests/jinja/%s", name);
    char *text = read_source(path, &len);
    qn_json *contexts = NULL;
    for (char *at = text, *end; at < text + len; at = end + 1) {
        qn_json *line;
        end = memchr(at, '\n', (size_t)(text + len - at));
        assert_non_null(end);
        assert_ok(qn_json_parse(&line, at, (size_t)(end - at), QN_JSON_ALLOW_NUL, name, &err));
        if (contexts == NULL) {
            contexts = line;
            continue;
        }
        run_line(contexts, line, check);
        qn_json_free(line);
        n++;
    }
    qn_json_free(contexts);
    qn_free(text);
    return n;
}

static void recorded_expressions(void **state)
{
    (void)state;
    assert_true(run_file("expressions.jsonl", check_plain) > 1000);
}

static void recorded_statements(void **state)
{
    (void)state;
    assert_true(run_file("statements.jsonl", check_plain) > 250);
}

static void recorded_chats(void **state)
{
    (void)state;
    assert_true(run_file("chat.jsonl", check_chat) > 200);
}

/* ---- what Python does otherwise, on purpose ---- */

static void expect_text(const char *source, const char *expected)
{
    quern_error err = {0};
    quern_prompt prompt;
    assert_ok(jinja_test_render_text(source, "{\"d\":{\"a\":1},\"xs\":[1,2]}", NULL, &prompt, &err));
    assert_string_equal(prompt.text, expected);
    quern_prompt_deinit(&prompt);
}

static void expect_error(const char *source, quern_status expected, const char *part)
{
    quern_error err = {0};
    quern_prompt prompt;
    quern_status status = jinja_test_render_text(source, "{\"d\":{\"a\":1},\"xs\":[1,2]}", NULL, &prompt, &err);
    quern_prompt_deinit(&prompt);
    if (status != expected || strstr(err.message, part) == NULL) {
        fail_msg("%s: expected %s with '%s', got %s with '%s'", source, quern_status_name(expected), part, quern_status_name(status),
                 err.message);
    }
}

static void integers_have_64_bits(void **state)
{
    (void)state;
    expect_error("{{ 9223372036854775807 + 1 }}", QUERN_ERROR_UNSUPPORTED, "64 bits");
    expect_error("{{ 10 ** 19 }}", QUERN_ERROR_UNSUPPORTED, "64 bits");
    expect_error("{{ 9223372036854775808 }}", QUERN_ERROR_INVALID, "64 bits");
    expect_error("{{ (-9223372036854775807 - 1) // -1 }}", QUERN_ERROR_UNSUPPORTED, "64 bits");
    expect_error("{{ -(-9223372036854775807 - 1) }}", QUERN_ERROR_UNSUPPORTED, "64 bits");
    expect_error("{{ '99999999999999999999'|int }}", QUERN_ERROR_UNSUPPORTED, "64 bits");
    expect_error("{{ 1e30|int }}", QUERN_ERROR_UNSUPPORTED, "64 bits");
    expect_error("{{ (-8) ** 0.5 }}", QUERN_ERROR_INVALID, "complex");
    expect_text("{{ (-9223372036854775807 - 1) % -1 }}{{ -9223372036854775807 - 1 }}", "0-9223372036854775808");
}

static void objects_print_without_addresses(void **state)
{
    (void)state;
    expect_text("{{ xs|map('string') }}{{ xs|reverse }}{{ d.keys }}{{ joiner() }}{{ cycler(1) }}{{ range }}",
                "<generator object><list_reverseiterator object><built-in method keys of dict object><Joiner object><Cycler object>"
                "<function range>");
}

static void refused_names(void **state)
{
    (void)state;
    expect_error("{{ xs|random }}", QUERN_ERROR_UNSUPPORTED, "refused");
    expect_error("{{ lipsum() }}", QUERN_ERROR_UNSUPPORTED, "refused");
    expect_error("{{ 'a'.encode() }}", QUERN_ERROR_UNSUPPORTED, "bytes");
    expect_error("{{ 'http://x.y'|urlize }}", QUERN_ERROR_INVALID, "No filter named 'urlize'");
    expect_error("{{ '\\N{DIGIT ONE}' }}", QUERN_ERROR_INVALID, "character names");
}

static void places_of_errors(void **state)
{
    (void)state;
    expect_error("a\nbé {{ x.y }}", QUERN_ERROR_INVALID, "test: line 2, column 8: 'x' is undefined");
    expect_error("\n\n  {% for i in xs %}\n{{ i|nosuch }}{% endfor %}", QUERN_ERROR_INVALID, "line 4, column 6: No filter named 'nosuch'");
    expect_error("{% if true %}\r\n{{ 1 + }}{% endif %}", QUERN_ERROR_INVALID, "line 2, column 8: unexpected");
    expect_error("{{ xs|map('nosuch')|list }}", QUERN_ERROR_INVALID, "line 1, column 7: No filter named 'nosuch'");
    expect_error("\xff", QUERN_ERROR_INVALID, "not UTF-8");
    quern_error err = {0};
    quern_prompt prompt;
    assert_int_equal(jinja_test_render_text("{{ raise_exception('just this') }}", "{}", NULL, &prompt, &err), QUERN_ERROR_INVALID);
    assert_string_equal(err.message, "just this");
}

static void public_api(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_template *t;
    quern_prompt prompt;
    const char *const trusted[] = {"bos", NULL};
    const char context[] = "{\"bos\":\"<s>\",\"x\":\"<s>\"}";
    assert_ok(quern_template_create(&t, "{{ bos }}{{ x }}{{ strftime_now('%Y') }}", 40, NULL, &err));
    assert_ok(quern_template_render(t, context, sizeof context - 1, trusted, JINJA_TEST_NOW, NULL, &prompt, &err));
    assert_string_equal(prompt.text, "<s><s>2025");
    assert_int_equal(prompt.n_segments, 3);
    assert_true(prompt.segments[0].trusted && !prompt.segments[1].trusted && prompt.segments[2].trusted);
    quern_prompt_deinit(&prompt);
    assert_ok(quern_template_render(t, "{}", 2, NULL, 0, NULL, &prompt, &err));
    assert_true(strcmp(prompt.text, "2025") > 0); /* 0 is now, not 1970 */
    quern_prompt_deinit(&prompt);
    assert_int_equal(quern_template_render(t, "[]", 2, NULL, 0, NULL, &prompt, &err), QUERN_ERROR_INVALID);
    assert_int_equal(quern_template_render(t, "{", 1, NULL, 0, NULL, &prompt, &err), QUERN_ERROR_INVALID);
    assert_null(prompt.text);
    quern_template_destroy(t);
    quern_template_destroy(NULL);
    assert_int_equal(quern_template_create(&t, "{{", 2, "n", &err), QUERN_ERROR_INVALID);
    assert_null(t);
    assert_ok(quern_template_create(&t, "", 0, "n", &err));
    assert_ok(quern_template_render(t, "{}", 2, NULL, 0, NULL, &prompt, &err));
    assert_int_equal(prompt.n_segments, 0);
    assert_string_equal(prompt.text, "");
    quern_prompt_deinit(&prompt);
    quern_template_destroy(t);
}

/* Binary search needs sorted tables; every row must be found under its own name. */
static void tables_are_sorted(void **state)
{
    (void)state;
    const qn_jtable tables[] = {qn_jfilters_text,     qn_jfilters_list, qn_jfilters_lazy,   qn_jfilters_value, qn_jmethods_str,
                                qn_jmethods_str_more, qn_jmethods_dict, qn_jmethods_list,   qn_jmethods_tuple, qn_jmethods_int,
                                qn_jmethods_float,    qn_jmethods_loop, qn_jmethods_cycler, qn_jmethods_range};
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        for (size_t k = 0; k < tables[i].n; k++) {
            const char *name = tables[i].rows[k].name;
            assert_ptr_equal(qn_jtable_find(tables[i], name, strlen(name)), &tables[i].rows[k]);
        }
    }
    static const char *const TESTS[] = {"!=", "<", "<=", "==", ">", ">=", "boolean", "in", "upper", "sameas"};
    for (size_t i = 0; i < sizeof TESTS / sizeof TESTS[0]; i++) {
        assert_non_null(qn_jtest_find(TESTS[i], strlen(TESTS[i])));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_expressions),
        cmocka_unit_test(recorded_statements),
        cmocka_unit_test(recorded_chats),
        cmocka_unit_test(integers_have_64_bits),
        cmocka_unit_test(objects_print_without_addresses),
        cmocka_unit_test(refused_names),
        cmocka_unit_test(places_of_errors),
        cmocka_unit_test(public_api),
        cmocka_unit_test(tables_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
