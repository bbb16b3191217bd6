/* test_jinja_limits.c - hostile and huge templates: every limit is a clear error, quickly; every allocation may fail. */
#include "jinja_test.h"

#include <time.h>

#include "base/clock.h"

static const char CONTEXT[] =
    "{\"xs\":[1,2,3],\"s\":\"text\",\"d\":{\"a\":{\"b\":\"c\"}},\"tree\":[{\"v\":1,\"kids\":[{\"v\":2,\"kids\":[]}]}]}";

/* The longest any of these may take; a sanitizer makes it several times as long as it is. */
static const double SECONDS_MAX = 20.0;

static void expect(const char *source, const quern_template_limits *limits, quern_status expected, const char *part)
{
    quern_error err = {0};
    quern_prompt prompt;
    const clock_t begin = clock(); /* processor time: other work on the machine does not count */
    quern_status status = jinja_test_render_text(source, CONTEXT, limits, &prompt, &err);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    quern_prompt_deinit(&prompt);
    if (status != expected || (part != NULL && strstr(err.message, part) == NULL)) {
        fail_msg("%.200s: expected %s with '%s', got %s with '%s'", source, quern_status_name(expected), part != NULL ? part : "",
                 quern_status_name(status), err.message);
    }
    if (seconds > SECONDS_MAX) {
        fail_msg("%.200s took %.1f s", source, seconds);
    }
}

static void loops_and_calls(void **state)
{
    static const char *const CASES[][2] = {
        {"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "steps"},
        {"{% for i in range(100000) %}{% for j in range(1000) %}{{ i * j }}{% endfor %}{% endfor %}", NULL},
        {"{{ range(100001) }}", "Range too big"},
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested deeper"},
        {"{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}", "nested deeper"},
        {"{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{{ caller() }}{% endmacro %}{% call m() %}x{% endcall %}",
         "nested deeper"},
        {"{% for t in tree recursive %}{{ loop(tree) }}{% endfor %}", "nested deeper"},
        {"{% block b %}{{ self.b() }}{% endblock %}", "nested deeper"},
        {"{% set ns = namespace() %}{% set ns.f = dict %}{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}", "nested deeper"},
        {"{% set ns = namespace(x=[]) %}{% for i in range(50000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}", "nested deeper"},
        {"{% set ns = namespace(x=[]) %}{% for i in range(50000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x == [ns.x] }}",
         "nested deeper"},
        {"{% set ns = namespace(x=[]) %}{% for i in range(50000) %}{% set ns.x = (ns.x,) %}{% endfor %}{{ {ns.x: 1} }}", "nested deeper"},
        {"{% set ns = namespace(x={}) %}{% for i in range(50000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}{{ ns.x|tojson }}",
         "nested deeper"},
        {"{% set ns = namespace(x=xs) %}{% for i in range(5000) %}{% set ns.x = ns.x|map('string') %}{% endfor %}{{ ns.x|list }}",
         "nested deeper"},
        {"{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", "nested deeper"},
        {"{% for i in range(10000) %}{% for c in 'x' * 10000 %}{% endfor %}{% endfor %}", "steps"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        expect(CASES[i][0], &(quern_template_limits){.max_steps = 3000000}, QUERN_ERROR_LIMIT, CASES[i][1]);
    }
    /* deep values that nobody looks into are freed without recursion */
    expect("{% set ns = namespace(x=[]) %}{% for i in range(50000) %}{% set ns.x = [ns.x] %}{% endfor %}ok", NULL, QUERN_OK, NULL);
    expect("{% set ns = namespace(x=xs) %}{% for i in range(50000) %}{% set ns.x = ns.x|select %}{% endfor %}ok", NULL, QUERN_OK, NULL);
}

static void texts_and_lists(void **state)
{
    static const char *const CASES[] = {
        "{{ 'a' * 1000000000 }}",
        "{{ 'a' * 100000000000 }}",
        "{{ ('a' * 1000000) * 1000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ [[1] * 1000000] * 1000000000000 }}",
        "{{ (1,) * 9223372036854775807 }}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set ns = namespace(s=xs) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
        "{{ ('a' * 100000)|join('b' * 100000) }}",
        "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
        "{{ 'a'|center(100000000000) }}",
        "{{ 'a'.ljust(100000000000, 'x') }}",
        "{{ 'a'.rjust(9223372036854775807) }}",
        "{{ '1'.zfill(100000000000) }}",
        "{{ ('\t' * 100000).expandtabs(1000000000) }}",
        "{{ '%1000000000d' % 5 }}",
        "{{ '%-1000000000s' % 'a' }}",
        "{{ '%*d' % (1000000000000, 5) }}",
        "{{ '%.1000000f' % 1.5 }}",
        "{{ '%.1000000000d' % 5 }}",
        "{{ '{:1000000000}'.format(5) }}",
        "{{ '{:.100000f}'.format(5.0) }}",
        "{{ '{:01000000000}'.format(5) }}",
        "{{ 'a'|indent(100000000000, true) }}",
        "{{ ('a\n' * 100000)|indent(100000) }}",
        "{{ xs|tojson(indent=100000000000) }}",
        "{{ [[[[1]]]]|tojson(indent='x' * 100000000) }}",
        "{{ xs|batch(10000000000, 'x')|list }}",
        "{{ xs|slice(1000000000)|list }}",
        "{{ ('a b ' * 100000)|wordwrap(1, wrapstring='x' * 100000) }}",
        "{{ 'aaaaaaaaaa'|list|map('center', 100000000)|join }}",
        "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{% set ns = namespace(s='aa') %}{% for i in range(60) %}{% set ns.s = m(ns.s) %}{% endfor %}",
        "{% set x %}{% for i in range(9) %}{{ 'a' * 60000000 }}{% endfor %}{% endset %}",
        "{{ 'a' * 60000000 }}{{ 'a' * 60000000 }}",
        "{{ ('a' * 1000000)|list|tojson|list|tojson|list|tojson }}",
        "{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}",
        "{{ 'x'.translate({120: 'a' * 400000000}) }}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        expect(CASES[i], &(quern_template_limits){.max_output_bytes = 1000000, .max_steps = 20000000}, QUERN_ERROR_LIMIT, "");
    }
}

/* Work that is quadratic if one is not careful. */
static void slow_work(void **state)
{
    static const char *const FINE[] = {
        "{{ ('a' * 500000 ~ 'b') in 'a' * 1000000 }}",
        "{{ ('a' * 1000000).find('a' * 1000 ~ 'b') }}",
        "{{ ('a' * 1000000).rfind('b' ~ 'a' * 1000) }}",
        "{{ ('ab' * 500000).count('aba') }}",
        "{{ ('a' * 1000000).replace('aa', 'b')|length }}",
        "{{ (' ' * 1000000)|trim|length }}",
        "{{ ('a ' * 300000).split()|length }}",
        "{{ ('<' * 1000000)|striptags|length }}",
        "{{ ('<!--' * 200000)|striptags|length }}",
        "{{ ('<!-- -->' * 100000)|striptags|length }}",
        "{{ ('Σ' * 200000).lower()|length }}",
        "{{ (('a' ~ '\u0301' * 100) * 5000 ~ 'Σ').lower()|length }}",
        "{{ ('-' * 500000)|wordwrap(79)|length }}",
        "{{ ('a-' * 100000)|wordwrap(10)|length }}",
        "{{ ('{}' * 20000).format(*('a' * 20000)|list)|length }}",
        "{{ ('x' * 500000)|urlencode|length }}",
        "{{ ('é' * 300000)[::2]|length }}",
        "{{ ('é' * 300000)|reverse|length }}",
        "{{ range(50000)|map('string')|sort|length }}",
        "{{ range(50000)|map('string')|unique|list|length }}",
        "{{ ('\n' * 300000)|indent|length }}",
        "{{ ('a\n' * 300000).splitlines()|length }}",
        "{{ ('a' * 100000).rsplit('a' * 20)|length }}",
        "{{ ('%s' * 20000 % (1,) * 20000)|length if false else 1 }}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof FINE / sizeof FINE[0]; i++) {
        expect(FINE[i], NULL, QUERN_OK, NULL);
    }
    const quern_template_limits few = {.max_steps = 5000000};
    expect("{{ ('a' * 200000).strip('b' * 200000 ~ 'a')|length }}", &few, QUERN_ERROR_LIMIT, "steps");
    expect("{% for i in range(2000) %}{{ ('é' * 100000)[50000] }}{% endfor %}", &few, QUERN_ERROR_LIMIT, "steps");
}

/* `count` times `part` between `before` and `after`. */
static char *repeated(const char *before, const char *part, size_t count, const char *middle, const char *close, const char *after)
{
    qn_buf b;
    qn_buf_init(&b, (size_t)1 << 26);
    (void)qn_buf_append_str(&b, before);
    for (size_t i = 0; i < count; i++) {
        (void)qn_buf_append_str(&b, part);
    }
    (void)qn_buf_append_str(&b, middle);
    for (size_t i = 0; i < count && *close != '\0'; i++) {
        (void)qn_buf_append_str(&b, close);
    }
    (void)qn_buf_append_str(&b, after);
    char *text = qn_buf_take(&b, NULL);
    assert_non_null(text);
    return text;
}

static void deep_syntax(void **state)
{
    static const char *const PARTS[][5] = {
        {"{{ ", "(", "1", ")", " }}"},
        {"{{ ", "[", "1", "]", " }}"},
        {"{{ ", "{'a':", "1", "}", " }}"},
        {"{{ ", "not ", "1", "", " }}"},
        {"{{ ", "-", "1", "", " }}"},
        {"{{ x", "[0", "", "]", " }}"},
        {"{{ x", ".a", "", "", " }}"},
        {"{{ x", "|string", "", "", " }}"},
        {"{{ x", "()", "", "", " }}"},
        {"{{ ", "1 if 1 else ", "1", "", " }}"},
        {"{{ 1", " if 1", "", "", " }}"},
        {"{{ ", "f(", "1", ")", " }}"},
        {"{{ x", "[1:", "1", "]", " }}"},
        {"{{ ", "x is in (", "1", ")", " }}"},
        {"{{ ", "1 ~ (", "1", ")", " }}"},
        {"{{ ", "1 + [", "1", "]", " }}"},
        {"", "{% if 1 %}", "x", "{% endif %}", ""},
        {"", "{% for i in [1] %}", "x", "{% endfor %}", ""},
        {"", "{% set x %}", "x", "{% endset %}", ""},
        {"", "{% macro m() %}", "x", "{% endmacro %}", ""},
        {"", "{% with %}", "x", "{% endwith %}", ""},
        {"", "{% filter upper %}", "x", "{% endfilter %}", ""},
        {"", "{% call m() %}", "x", "{% endcall %}", ""},
        {"", "{% generation %}", "x", "{% endgeneration %}", ""},
        {"{{ ", "x is not ", "a", "", " }}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++) {
        char *source = repeated(PARTS[i][0], PARTS[i][1], 20000, PARTS[i][2], PARTS[i][3], PARTS[i][4]);
        expect(source, NULL, QUERN_ERROR_INVALID, "");
        qn_free(source);
        source = repeated(PARTS[i][0], PARTS[i][1], 40000, "", "", "");
        expect(source, NULL, QUERN_ERROR_INVALID, "");
        qn_free(source);
    }
    char *fits = repeated("{{ ", "(", 150, "1", ")", " }}");
    expect(fits, NULL, QUERN_OK, NULL);
    qn_free(fits);
}

static void long_but_flat(void **state)
{
    static const char *const PARTS[][5] = {
        {"{{ 1", " + 1", "", "", " }}"},
        {"{{ 'a'", " + 'b'", "", "", " }}"},
        {"{{ 1", " ~ 1", "", "", " }}"},
        {"{{ 1", " and 1", "", "", " }}"},
        {"{{ 1", " or 1", "", "", " }}"},
        {"{{ 1", " <= 1", "", "", " }}"},
        {"{{ [1", ", 1", "", "", "] }}"},
        {"{{ 1", ".0 * 1", "", "", " }}"},
        {"{% if 0 %}", "{% elif 0 %}", "", "", "{% endif %}"},
        {"", "{{ s }}", "", "", ""},
        {"", "{% set x = 1 %}", "", "", ""},
        {"{{ 'a'", " 'b'", "", "", " }}"},
        {"", "{# c #}", "", "", ""},
        {"", "{% if 1 %}{% set a = 1 %}{% endif %}", "", "", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++) {
        char *source = repeated(PARTS[i][0], PARTS[i][1], 20000, PARTS[i][2], PARTS[i][3], PARTS[i][4]);
        expect(source, NULL, QUERN_OK, NULL);
        qn_free(source);
    }
    char *source = repeated("", "0123456789abcdef", 66000, "", "", "");
    expect(source, NULL, QUERN_ERROR_LIMIT, "at most");
    qn_free(source);
    source = repeated("{% macro m(", "a,", 5000, "b", "", ") %}{% endmacro %}");
    expect(source, NULL, QUERN_ERROR_INVALID, "");
    qn_free(source);
}

static void own_limits(void **state)
{
    (void)state;
    expect("{% for i in range(1000) %}x{% endfor %}", &(quern_template_limits){.max_steps = 500}, QUERN_ERROR_LIMIT, "500 steps");
    expect("{% for i in range(1000) %}x{% endfor %}", &(quern_template_limits){.max_output_bytes = 999}, QUERN_ERROR_LIMIT, "999 bytes");
    expect("{% for i in range(1000) %}x{% endfor %}", &(quern_template_limits){.max_output_bytes = 1000}, QUERN_OK, NULL);
    expect("{% macro m(n) %}{{ m(n - 1) if n }}{% endmacro %}{{ m(9) }}", &(quern_template_limits){.max_depth = 9}, QUERN_ERROR_LIMIT,
           "9 levels");
    expect("{% macro m(n) %}{{ m(n - 1) if n }}{% endmacro %}{{ m(8) }}", &(quern_template_limits){.max_depth = 9}, QUERN_OK, NULL);
    expect("{% macro m(n) %}{{ m(n - 1) if n }}{% endmacro %}{{ m(490) }}", &(quern_template_limits){.max_depth = 4000000000u}, QUERN_OK,
           NULL);
    expect("{% macro m(n) %}{{ m(n - 1) if n }}{% endmacro %}{{ m(600) }}", &(quern_template_limits){.max_depth = 4000000000u},
           QUERN_ERROR_LIMIT, "500 levels");
    expect("{% macro m(n) %}{% if n %}{% for i in [1] %}{{ '<' ~ m(n - 1) ~ '>' }}{% endfor %}{% endif %}{% endmacro %}{{ m(100) }}", NULL,
           QUERN_OK, NULL);
}

/* A conversation of about n bytes through a template that handles every text several times. */
static double render_conversation(size_t n_messages, size_t *len)
{
    quern_error err = {0};
    quern_prompt prompt;
    qn_buf json;
    static const char SOURCE[] =
        "{% set ns = namespace(last=-1) %}{% for m in messages[::-1] %}{% if m.role == 'user' and not m.content.startswith('<tool>') and "
        "ns.last < 0 %}"
        "{% set ns.last = messages|length - 1 - loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}{% set c = m.content %}"
        "{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\\n' + c|trim|replace('\\r', '') + '<|im_end|>' + '\\n' }}{{ m|tojson }}{% endfor %}";
    qn_buf_init(&json, (size_t)1 << 28);
    (void)qn_buf_append_str(&json, "{\"messages\":[");
    for (size_t i = 0; i < n_messages; i++) {
        (void)qn_buf_printf(&json, "%s{\"role\":\"%s\",\"content\":\"", i > 0 ? "," : "", i % 2 == 0 ? "user" : "assistant");
        for (size_t k = 0; k < 20; k++) {
            (void)qn_buf_append_str(&json, "Fifty characters of text with ü and \\\"quotes\\\" in it.");
        }
        (void)qn_buf_append_str(&json, "\"}");
    }
    (void)qn_buf_append_str(&json, "]}");
    assert_false(json.failed);
    qn_json *context;
    assert_ok(qn_json_parse(&context, json.data, json.len, 0, "context", &err));
    uint64_t begin = qn_clock_ns();
    assert_ok(jinja_test_render(SOURCE, sizeof SOURCE - 1, context, NULL, NULL, &prompt, NULL, &err));
    double seconds = qn_clock_seconds(begin, qn_clock_ns());
    *len = prompt.len;
    quern_prompt_deinit(&prompt);
    qn_json_free(context);
    qn_buf_deinit(&json);
    return seconds;
}

static void a_megabyte_of_messages(void **state)
{
    (void)state;
    size_t small_len, large_len;
    double small = render_conversation(250, &small_len), large = render_conversation(4000, &large_len);
    print_message("%zu bytes in %.1f ms, %zu bytes in %.1f ms\n", small_len, small * 1e3, large_len, large * 1e3);
    assert_true(large_len > 8000000);
    assert_true(large < 5.0);
    assert_true(large < small * 16.0 * 8.0 + 0.05); /* linear, with room for a noisy machine */
}

/* Nearly every kind of statement, value and filter. */
static const char EVERYTHING[] =
    "{% set ns = namespace(n=0, s='', l=[]) %}{% macro m(a, b='x') %}[{{ a }}{{ b }}{{ varargs }}{{ kwargs }}]{% endmacro %}"
    "{% macro box(t) %}<{{ t }}>{{ caller(t) }}</{{ t }}>{% endmacro %}{% call(t) box('b') %}{{ t ~ s }}{% endcall %}"
    "{% for x in xs if x > 1 %}{{ loop.index }}{{ loop.length }}{{ loop.last }}{% set ns.s = ns.s ~ x %}{% else %}none{% endfor %}"
    "{% for t in tree recursive %}{{ t.v }}{{ loop(t.kids) }}{% endfor %}{{ m(1, 2, 3, k='v') }}{{ ns.s }}"
    "{% set v | upper %}block {{ s }}{% endset %}{{ v }}{% filter replace('t', 'T')|indent(2) %}{{ s }}\nb{% endfilter %}"
    "{% with a=1, b=[1, {'k': (2, 3)}] %}{{ b }}{{ {a: b, 'z': d}|tojson(indent=1, sort_keys=false) }}{% endwith %}"
    "{{ d|dictsort }}{{ xs|map('string')|join('-') }}{{ xs|select('odd')|list }}{{ xs|sort(reverse=true) }}{{ xs|batch(2, 0)|list }}"
    "{{ [{'a': 2}, {'a': 1}]|groupby('a')|length }}{{ xs|unique|list }}{{ xs|slice(2)|list }}{{ 'a,b'.split(',')|last }}{{ '%s-%05.1f' % "
    "(s, 2.5) }}"
    "{{ '{:>8}|{x[a]}'.format(s, x=d) }}{{ s|title|center(12) }}{{ 'a b c'|wordwrap(3) }}{{ s|e ~ '<'|safe }}{{ ('<a>'|safe) + '<b>' }}"
    "{{ s.partition('x') }}{{ s.rsplit('x', 1) }}{{ s.translate({120: 'y'}) }}{{ '<b>x</b> &amp;'|striptags }}{{ d|pprint }}{{ d|urlencode "
    "}}"
    "{% block b scoped %}{{ s }}{% endblock %}{{ self.b() }}{% generation %}{{ s }}{% endgeneration %}{{ range(5)[1:4]|list }}"
    "{% for k, w in d.items() %}{{ k }}{{ w }}{% endfor %}{{ dict(xs=xs, **d)|length }}{{ cycler(1, 2).next() }}{{ joiner('|')() }}"
    "{{ 'aaaaaaaaaaaaaaaaaaaaaaaab' in s * 50 }}{{ strftime_now('%c') }}{{ nope|default('d') }}{{ s[::-1] }}{{ (1, 2) + (3,) }}{{ xs * 2 }}"
    "{{ {'q': 1, 'w': 2, 'e': 3, 'r': 4, 't': 5, 'z': 6, 'u': 7, 'i': 8, 'o': 9, 'p': 10}|length }}{{ s.format_map({}) }}{{ "
    "xs|tojson|length }}";

static void every_allocation_may_fail(void **state)
{
    (void)state;
    quern_error err = {0};
    qn_json *context;
    quern_prompt prompt;
    assert_ok(qn_json_parse(&context, CONTEXT, sizeof CONTEXT - 1, 0, "context", &err));
    quern_status status = QUERN_ERROR_MEMORY;
    uint64_t n = 0;
    while (status != QUERN_OK) {
        n++;
        qn_alloc_fail_at(n);
        status = jinja_test_render(EVERYTHING, sizeof EVERYTHING - 1, context, NULL, NULL, &prompt, NULL, &err);
        qn_alloc_fail_at(0);
        if (status != QUERN_OK) {
            if (status != QUERN_ERROR_MEMORY) {
                fail_msg("allocation %llu fails: %s: %s", (unsigned long long)n, quern_status_name(status), err.message);
            }
            assert_null(prompt.text);
        }
    }
    print_message("%llu allocations\n", (unsigned long long)n);
    assert_true(n > 300);
    quern_prompt_deinit(&prompt);
    qn_json_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops_and_calls),
        cmocka_unit_test(texts_and_lists),
        cmocka_unit_test(slow_work),
        cmocka_unit_test(deep_syntax),
        cmocka_unit_test(long_but_flat),
        cmocka_unit_test(own_limits),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_megabyte_of_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
