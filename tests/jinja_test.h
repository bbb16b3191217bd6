/* jinja_test.h - rendering templates in tests: from JSON text, with statistics, with marks made visible. */
#ifndef JINJA_TEST_H
#define JINJA_TEST_H

#include "qn_test.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"
#include "quern/chat.h"
#include "text/jinja.h"

enum { JINJA_TEST_NOW = 1753920000 }; /* 2025-07-31 00:00:00 UTC, as tools/record_jinja.py has it */

/* Parses and renders; `trusted` is the name of one trusted variable or NULL. stats may be NULL. */
static inline quern_status jinja_test_render(const char *source, size_t len, const qn_json *context, const char *trusted,
                                             const quern_template_limits *limits, quern_prompt *out, qn_jinja_stats *stats,
                                             quern_error *err)
{
    qn_jinja *t;
    *out = (quern_prompt){0};
    quern_status status = qn_jinja_create(&t, source, len, "test", err);
    if (status != QUERN_OK) {
        return status;
    }
    size_t n = qn_json_length(context), i = 0;
    qn_jinja_variable *variables = calloc(n + 1, sizeof *variables);
    assert_non_null(variables);
    for (qn_json_iterator *it = qn_json_iter(context); it != NULL; it = qn_json_next(context, it), i++) {
        variables[i].name = qn_json_iter_key(it, &variables[i].name_len);
        variables[i].value = qn_json_iter_value(it);
        variables[i].trusted = trusted != NULL && strcmp(variables[i].name, trusted) == 0;
    }
    status = qn_jinja_render(t, variables, n, JINJA_TEST_NOW, limits, out, stats, err);
    free(variables);
    qn_jinja_destroy(t);
    return status;
}

/* The same from JSON text. */
static inline quern_status jinja_test_render_text(const char *source, const char *context_json, const quern_template_limits *limits,
                                                  quern_prompt *out, quern_error *err)
{
    qn_json *context = NULL;
    *out = (quern_prompt){0};
    quern_status status = qn_json_parse(&context, context_json, strlen(context_json), QN_JSON_ALLOW_NUL, "context", err);
    if (status == QUERN_OK) {
        status = jinja_test_render(source, strlen(source), context, "bos_token", limits, out, NULL, err);
    }
    qn_json_free(context);
    return status;
}

/* The prompt with every content segment inside of « and »; free with qn_free. */
static inline char *jinja_test_show(const quern_prompt *p)
{
    qn_buf b;
    qn_buf_init(&b, SIZE_MAX / 2);
    for (size_t i = 0; i < p->n_segments; i++) {
        assert_true(qn_buf_append_str(&b, p->segments[i].trusted ? "" : "«"));
        assert_true(qn_buf_append(&b, p->segments[i].text, p->segments[i].len));
        assert_true(qn_buf_append_str(&b, p->segments[i].trusted ? "" : "»"));
    }
    char *text = qn_buf_take(&b, NULL);
    assert_non_null(text);
    return text;
}

/* The trusted (or the content) characters of a prompt, one after the other; free with qn_free. */
static inline char *jinja_test_part(const quern_prompt *p, bool trusted)
{
    qn_buf b;
    qn_buf_init(&b, SIZE_MAX / 2);
    for (size_t i = 0; i < p->n_segments; i++) {
        if (p->segments[i].trusted == trusted) {
            assert_true(qn_buf_append(&b, p->segments[i].text, p->segments[i].len));
        }
    }
    char *text = qn_buf_take(&b, NULL);
    assert_non_null(text);
    return text;
}

/* Segments lie one behind the other, alternate, are not empty, and cover the text. */
static inline void jinja_test_check_segments(const quern_prompt *p)
{
    size_t at = 0;
    for (size_t i = 0; i < p->n_segments; i++) {
        assert_ptr_equal(p->segments[i].text, p->text + at);
        assert_true(p->segments[i].len > 0);
        assert_true(i == 0 || p->segments[i].trusted != p->segments[i - 1].trusted);
        at += p->segments[i].len;
    }
    assert_int_equal(at, p->len);
    assert_int_equal(p->text[p->len], '\0');
}

#endif
