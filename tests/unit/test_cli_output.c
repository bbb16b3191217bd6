/* test_cli_output.c - what people see: widths, tables, the progress bar, numbers. */
#include "qn_test.h"

#include "cli.h"
#include "progress.h"
#include "table.h"

static const qn_term pipe_term = {.file = NULL, .is_terminal = false, .color = false, .utf8 = true};
static const qn_term plain_terminal = {.file = NULL, .is_terminal = true, .color = false, .utf8 = true};
static const qn_term color_terminal = {.file = NULL, .is_terminal = true, .color = true, .utf8 = true};

static size_t width(const char *s) { return qn_text_width(s, strlen(s)); }

static void test_width(void **state)
{
    (void)state;
    assert_int_equal(width("abc"), 3);
    assert_int_equal(width("gr\xc3\xbc\xc3\x9f"), 4);
    assert_int_equal(width("\xe4\xb8\xad\xe6\x96\x87"), 4); /* two wide characters */
    assert_int_equal(width("e\xcc\x81"), 1);                /* e and a combining acute */
    assert_int_equal(width("\xf0\x9f\x99\x82"), 2);         /* a pictograph */
    assert_int_equal(width("\xff\xfe"), 2);                 /* no UTF-8: a column a byte */
    assert_int_equal(qn_text_fit("\xe4\xb8\xad\xe6\x96\x87", 6, 3), 3);
    assert_int_equal(qn_text_fit("abc", 3, 2), 2);
    assert_int_equal(qn_text_fit("abc", 3, 9), 3);
}

static void test_visible(void **state)
{
    (void)state;
    qn_buf b;
    qn_buf_init(&b, 1000);
    qn_text_append_visible(&b, "a\n\x1b[31m\t\xff\x7f\xc2\x85\xe2\x80\xae.", 16);
    assert_string_equal(qn_buf_text(&b), "a\\n\\x1b[31m\\t\\xff\\x7f\\x85\\u202e.");
    qn_buf_deinit(&b);
}

static void expect_table(const qn_table *t, const qn_term *term, const char *expected)
{
    qn_buf b;
    qn_buf_init(&b, 10000);
    qn_table_write(t, term, 1, &b);
    assert_string_equal(qn_buf_text(&b), expected);
    qn_buf_deinit(&b);
}

static void test_table(void **state)
{
    (void)state;
    static const qn_table_column columns[] = {
        {"name", false, 6, QN_STYLE_NONE}, {"size", true, 0, QN_STYLE_NONE}, {"note", false, 0, QN_STYLE_NONE}};
    qn_table *t = qn_table_create(columns, 3);
    qn_table_cell(t, "%s", "a-long-name");
    qn_table_cell(t, "%d", 7);
    qn_table_cell(t, "%s", "");
    qn_table_cell(t, "%s", "\xe4\xb8\xad");
    qn_table_cell(t, "%d", 12345);
    qn_table_cell(t, "%s", "x\ny");
    assert_int_equal(qn_table_n_rows(t), 2);
    expect_table(t, &pipe_term, " name          size  note\n a-long-name      7\n \xe4\xb8\xad           12345  x\\ny\n");
    expect_table(t, &plain_terminal, " name     size  note\n a-lon\xe2\x80\xa6      7\n \xe4\xb8\xad      12345  x\\ny\n");
    qn_table_mark(t, QN_STYLE_GOOD);
    expect_table(t, &color_terminal,
                 " \033[2mname\033[0m     \033[2msize\033[0m  \033[2mnote\033[0m\n a-lon\xe2\x80\xa6      7\n \xe4\xb8\xad      12345  "
                 "\033[32mx\\ny\033[0m\n");
    qn_table_destroy(t);
}

static void test_table_without_head(void **state)
{
    (void)state;
    static const qn_table_column columns[] = {{NULL, false, 0, QN_STYLE_NONE}, {NULL, false, 0, QN_STYLE_NONE}};
    qn_table *t = qn_table_create(columns, 2);
    qn_table_cell(t, "a");
    qn_table_cell(t, "b");
    qn_table_cell(t, "cc"); /* an unfinished row is shown, too */
    expect_table(t, &pipe_term, " a   b\n cc\n");
    qn_table_destroy(t);
}

static void expect_bar(qn_progress_unit unit, const qn_term *term, uint64_t done, uint64_t total, double seconds, size_t columns,
                       const char *expected)
{
    qn_progress p = {.term = term, .label = "work", .unit = unit};
    qn_buf b;
    qn_buf_init(&b, 10000);
    qn_progress_format(&p, done, total, seconds, columns, &b);
    assert_string_equal(qn_buf_text(&b), expected);
    assert_true(qn_text_width(qn_buf_text(&b), b.len) <= columns || term->color);
    qn_buf_deinit(&b);
}

static void test_progress(void **state)
{
    (void)state;
    qn_term ascii = plain_terminal;
    ascii.utf8 = false;
    expect_bar(QN_UNIT_BYTES, &ascii, 512, 1024, 0.1, 80, "work  ===============                  50 %  512 B / 1.00 KiB");
    expect_bar(QN_UNIT_BYTES, &ascii, 1024, 1024, 2, 80, "work  ==============================  100 %  1.00 KiB / 1.00 KiB  512 B/s");
    expect_bar(QN_UNIT_BYTES, &ascii, 512, 1024, 2, 60, "work  ====       50 %  512 B / 1.00 KiB  256 B/s  0:02 left");
}

static void test_progress_narrow(void **state)
{
    (void)state;
    qn_term ascii = plain_terminal;
    ascii.utf8 = false;
    /* no room for a bar: numbers alone, cut to the window */
    expect_bar(QN_UNIT_BYTES, &ascii, 512, 1024, 0.1, 20, "work   50 %  512 B ");
    /* an unknown end: no bar, no estimate */
    expect_bar(QN_UNIT_TOKENS, &ascii, 4096, 0, 2, 80, "work  4,096  2,048 tok/s");
    /* more than announced is all of it */
    expect_bar(QN_UNIT_STEPS, &ascii, 12, 10, 0.1, 30, "work  100 %  10 / 10");
}

static void test_progress_items(void **state)
{
    (void)state;
    static const struct {
        size_t columns;
        const char *expected;
    } cases[] = {{80, "work  ======          50 %  tensor 37/310  512 B / 1.00 KiB  256 B/s  0:02 left"},
                 {66, "work  ====       50 %  tensor 37/310  512 B / 1.00 KiB  0:02 left"},
                 {58, "work   50 %  tensor 37/310  512 B / 1.00 KiB  0:02 left"},
                 {50, "work   50 %  512 B / 1.00 KiB  256 B/s  0:02 left"}};
    qn_term ascii = plain_terminal;
    ascii.utf8 = false;
    qn_progress p = {.term = &ascii, .label = "work", .unit = QN_UNIT_BYTES};
    qn_progress_set_item(&p, "tensor", 37, 310);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_buf b;
        qn_buf_init(&b, 10000);
        qn_progress_format(&p, 512, 1024, 2, cases[i].columns, &b);
        assert_string_equal(qn_buf_text(&b), cases[i].expected);
        qn_buf_deinit(&b);
    }
}

static void test_numbers(void **state)
{
    (void)state;
    qn_number n;
    assert_string_equal(qn_format_bytes(n, 0), "0 B");
    assert_string_equal(qn_format_bytes(n, 1023), "1023 B");
    assert_string_equal(qn_format_bytes(n, 1024), "1.00 KiB");
    assert_string_equal(qn_format_bytes(n, 15212544), "14.5 MiB");
    assert_string_equal(qn_format_bytes(n, 1048570), "1.00 MiB");
    assert_string_equal(qn_format_bytes(n, UINT64_MAX), "16777216 TiB");
    assert_string_equal(qn_format_count(n, 7606272), "7.61 M");
    assert_string_equal(qn_format_count(n, 999), "999");
    assert_string_equal(qn_format_count(n, 999999), "1.00 M");
    assert_string_equal(qn_format_grouped(n, 0), "0");
    assert_string_equal(qn_format_grouped(n, 7606272), "7,606,272");
    assert_string_equal(qn_format_grouped(n, 123), "123");
    assert_string_equal(qn_format_seconds(n, 0.0000123), "12.3 us");
    assert_string_equal(qn_format_seconds(n, 0.0123), "12.3 ms");
    assert_string_equal(qn_format_seconds(n, 0.9999), "1.00 s");
    assert_string_equal(qn_format_seconds(n, 185), "3:05 min");
    assert_string_equal(qn_format_rate(n, 41.26), "41.3");
    assert_string_equal(qn_format_rate(n, 3472.4), "3,472");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_width),          cmocka_unit_test(test_visible),
        cmocka_unit_test(test_table),          cmocka_unit_test(test_table_without_head),
        cmocka_unit_test(test_progress),       cmocka_unit_test(test_progress_narrow),
        cmocka_unit_test(test_progress_items), cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
