/* test_cli_opts.c - the command line's parser: forms of options, kinds of values, precedence, suggestions. */
#include "qn_test.h"

#include "config_file.h"
#include "opts.h"

typedef struct fixture {
    qn_opts o;
    quern_error err;
} fixture;

static void begin(fixture *f, qn_command_id command)
{
    memset(f, 0, sizeof *f);
    qn_opts_init(&f->o, command);
}

#define PARSE(f, ...) parse_words(f, (char *const[]){__VA_ARGS__}, sizeof((char *const[]){__VA_ARGS__}) / sizeof(char *))

static quern_status parse_words(fixture *f, char *const *words, size_t n) { return qn_opts_parse(&f->o, (int)n, words, &f->err); }

static void test_counts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"0", 0},
                {"512", 512},
                {"32k", 32768},
                {"32K", 32768},
                {"8GiB", 8589934592u},
                {"8g", 8589934592u},
                {"8GB", 8000000000u},
                {"1.5k", 1536},
                {"2MiB", 2097152},
                {"2Mi", 2097152},
                {"2MB", 2000000},
                {"1t", 1099511627776u},
                {"100B", 100},
                {"0.5GiB", 536870912u},
                {"9223372036854775807", INT64_MAX}};
    static const char *const bad[] = {
        "",    "-1",         "k",        "1.3", "12x", "1kk", "1 k", " 1", "0x10", "1e3", "9223372036854775808", "99999999999999999999",
        "9t9", "1.0000001k", "20000000t"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        uint64_t v = 0;
        assert_true(qn_opts_parse_count(good[i].text, &v));
        assert_true(v == good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint64_t v = 0;
        if (qn_opts_parse_count(bad[i], &v)) {
            print_error("accepted: '%s'\n", bad[i]);
        }
        assert_false(qn_opts_parse_count(bad[i], &v));
    }
}

static void test_forms(void **state)
{
    (void)state;
    fixture f;
    begin(&f, QN_COMMAND_RUN);
    assert_int_equal(PARSE(&f, "-n5", "-t", "4", "--ctx=32k", "--temperature", "0.5", "-qv", "model", "--stop", "a", "--stop=b", "-ngl",
                           "0", "--", "--raw"),
                     QUERN_OK);
    assert_int_equal(qn_opts_count(&f.o, QN_OPT_MAX_TOKENS, 0), 5);
    assert_int_equal(qn_opts_count(&f.o, QN_OPT_THREADS, 0), 4);
    assert_int_equal(qn_opts_count(&f.o, QN_OPT_CTX, 0), 32768);
    assert_true(qn_opts_real(&f.o, QN_OPT_TEMP, 9) == 0.5);
    assert_true(qn_opts_flag(&f.o, QN_OPT_QUIET) && qn_opts_flag(&f.o, QN_OPT_VERBOSE));
    assert_false(qn_opts_flag(&f.o, QN_OPT_RAW));
    assert_int_equal(f.o.values[QN_OPT_STOP].n_list, 2);
    assert_string_equal(f.o.values[QN_OPT_STOP].list[1], "b");
    assert_true(qn_opts_given(&f.o, QN_OPT_GPU_LAYERS));
    assert_int_equal(f.o.n_positional, 2);
    assert_string_equal(f.o.positional[1], "--raw");
    qn_opts_deinit(&f.o);

    begin(&f, QN_COMMAND_RUN); /* -hf is a word, not -h -f; a single dash is a positional */
    assert_int_equal(PARSE(&f, "-hf", "a/b:Q4", "-", "--quiet=0"), QUERN_OK);
    assert_string_equal(qn_opts_text(&f.o, QN_OPT_HF, ""), "a/b:Q4");
    assert_false(qn_opts_flag(&f.o, QN_OPT_HELP));
    assert_false(qn_opts_flag(&f.o, QN_OPT_QUIET));
    assert_string_equal(f.o.positional[0], "-");
    qn_opts_deinit(&f.o);

    begin(&f, QN_COMMAND_BENCH); /* the same letter means another thing to another command */
    assert_int_equal(PARSE(&f, "-p", "512,2k", "-n", "16", "-d", "0,4k"), QUERN_OK);
    assert_int_equal(f.o.values[QN_OPT_BENCH_PROMPT].n_counts, 2);
    assert_int_equal(f.o.values[QN_OPT_BENCH_PROMPT].counts[1], 2048);
    assert_int_equal(f.o.values[QN_OPT_BENCH_DEPTH].counts[1], 4096);
    assert_false(qn_opts_given(&f.o, QN_OPT_MAX_TOKENS));
    qn_opts_deinit(&f.o);
}

static void expect_usage(qn_command_id command, char *const *words, size_t n, const char *part)
{
    fixture f;
    begin(&f, command);
    assert_int_equal(parse_words(&f, words, n), QUERN_ERROR_USAGE);
    if (strstr(f.err.message, part) == NULL) {
        print_error("'%s' does not say '%s'\n", f.err.message, part);
    }
    assert_non_null(strstr(f.err.message, part));
    qn_opts_deinit(&f.o);
}
#define EXPECT_USAGE(command, part, ...) \
    expect_usage(command, (char *const[]){__VA_ARGS__}, sizeof((char *const[]){__VA_ARGS__}) / sizeof(char *), part)

static void test_wrong_usage(void **state)
{
    (void)state;
    EXPECT_USAGE(QN_COMMAND_RUN, "did you mean --temp?", "--tmep", "1");
    EXPECT_USAGE(QN_COMMAND_RUN, "did you mean --max-tokens?", "--max-token=3");
    EXPECT_USAGE(QN_COMMAND_RUN, "did you mean --presence-penalty?", "--presence");
    EXPECT_USAGE(QN_COMMAND_RUN, "unknown option --zzzzzzzz", "--zzzzzzzz");
    EXPECT_USAGE(QN_COMMAND_RUN, "unknown option -Z", "-Z");
    EXPECT_USAGE(QN_COMMAND_TOKENIZE, "--temp is no option of quern tokenize", "--temp", "1");
    EXPECT_USAGE(QN_COMMAND_RUN, "--temp needs a value", "--temp");
    EXPECT_USAGE(QN_COMMAND_RUN, "-n needs a value", "-qn");
    EXPECT_USAGE(QN_COMMAND_RUN, "--temp: 'warm' is not a number", "--temp", "warm");
    EXPECT_USAGE(QN_COMMAND_RUN, "--temp: 'nan'", "--temp", "nan");
    EXPECT_USAGE(QN_COMMAND_RUN, "-n: '-3' is not a whole number", "-n", "-3");
    EXPECT_USAGE(QN_COMMAND_RUN, "--kv-type: 'f8' is not one of f32|f16|q8_0", "--kv-type", "f8");
    EXPECT_USAGE(QN_COMMAND_RUN, "--kv-type: 'f' is not one of", "--kv-type", "f");
    EXPECT_USAGE(QN_COMMAND_RUN, "--raw: 'maybe' is not 1 or 0", "--raw=maybe");
    EXPECT_USAGE(QN_COMMAND_BENCH, "-p: '1,,2' is not whole numbers", "-p", "1,,2");
    EXPECT_USAGE(QN_COMMAND_BENCH, "-p: '1,' is not whole numbers", "-p", "1,");
}

static void test_seed(void **state)
{
    (void)state;
    fixture f;
    begin(&f, QN_COMMAND_RUN);
    assert_int_equal(PARSE(&f, "--seed", "42"), QUERN_OK);
    assert_int_equal(qn_opts_count(&f.o, QN_OPT_SEED, 0), 42);
    qn_opts_deinit(&f.o);
    begin(&f, QN_COMMAND_RUN); /* -1 asks for a random one, as if nothing had been given */
    assert_int_equal(PARSE(&f, "--seed", "-1"), QUERN_OK);
    assert_false(qn_opts_given(&f.o, QN_OPT_SEED));
    qn_opts_deinit(&f.o);
}

static quern_status config(fixture *f, const char *text) { return qn_config_file_parse(&f->o, text, strlen(text), "config", &f->err); }

static void test_precedence(void **state)
{
    (void)state;
    fixture f;
    setenv("QUERN_THREADS", "3", 1);
    setenv("QUERN_KV_TYPE", "f32", 1);
    setenv("QUERN_STOP", "env", 1);
    setenv("QUERN_PROMPT_FILE", "never-read", 1);
    begin(&f, QN_COMMAND_RUN);
    assert_int_equal(PARSE(&f, "-t", "5", "--stop", "line"), QUERN_OK);
    assert_int_equal(qn_opts_read_environment(&f.o, &f.err), QUERN_OK);
    assert_int_equal(config(&f, "# settings\n\nthreads = 7\nkv-type=f16\r\n temp =\t0.25 \nctx = 4k\nsystem = \" two words \"\n"),
                     QUERN_OK);
    assert_int_equal(qn_opts_count(&f.o, QN_OPT_THREADS, 0), 5);        /* command line */
    assert_string_equal(qn_opts_text(&f.o, QN_OPT_KV_TYPE, ""), "f32"); /* environment */
    assert_true(qn_opts_real(&f.o, QN_OPT_TEMP, 0) == 0.25);            /* configuration */
    assert_int_equal(qn_opts_count(&f.o, QN_OPT_CTX, 0), 4096);
    assert_string_equal(qn_opts_text(&f.o, QN_OPT_SYSTEM, ""), " two words ");
    assert_int_equal(qn_opts_count(&f.o, QN_OPT_BATCH, 99), 99); /* built in */
    assert_int_equal(f.o.values[QN_OPT_STOP].n_list, 1);         /* a list is replaced, not extended */
    assert_string_equal(f.o.values[QN_OPT_STOP].list[0], "line");
    assert_false(qn_opts_given(&f.o, QN_OPT_PROMPT_FILE)); /* an input belongs to one call */
    qn_opts_deinit(&f.o);

    setenv("QUERN_THREADS", "many", 1);
    begin(&f, QN_COMMAND_RUN);
    assert_int_equal(qn_opts_read_environment(&f.o, &f.err), QUERN_ERROR_USAGE);
    assert_non_null(strstr(f.err.message, "QUERN_THREADS"));
    qn_opts_deinit(&f.o);
    unsetenv("QUERN_THREADS");
    unsetenv("QUERN_KV_TYPE");
    unsetenv("QUERN_STOP");
    unsetenv("QUERN_PROMPT_FILE");
}

static void test_config(void **state)
{
    (void)state;
    fixture f;
    begin(&f, QN_COMMAND_RUN);
    assert_int_equal(config(&f, "chat.temp = 0.9\nrun.temp = 0.1\ngate = off\n"), QUERN_OK);
    assert_true(qn_opts_real(&f.o, QN_OPT_TEMP, 0) == 0.1);
    assert_false(qn_opts_given(&f.o, QN_OPT_GATE)); /* another command's */
    assert_int_equal(config(&f, "threads = 1\ntreads = 2\n"), QUERN_ERROR_USAGE);
    assert_string_equal(f.err.message, "config:2: treads: no such setting: did you mean threads?");
    assert_int_equal(config(&f, "threads\n"), QUERN_ERROR_USAGE);
    assert_non_null(strstr(f.err.message, "config:1: expected 'name = value'"));
    assert_int_equal(config(&f, "temp = hot\n"), QUERN_ERROR_USAGE);
    assert_non_null(strstr(f.err.message, "config:1: temp: 'hot'"));
    assert_int_equal(config(&f, "prompt = no\n"), QUERN_ERROR_USAGE); /* inputs are no settings */
    qn_opts_deinit(&f.o);
}

static void test_nearest(void **state)
{
    (void)state;
    static const char *const names[] = {"quantize", "run", "chat", "bench", "inspect"};
    assert_string_equal(qn_opts_nearest("rnu", names, 5), "run");
    assert_string_equal(qn_opts_nearest("quantise", names, 5), "quantize");
    assert_string_equal(qn_opts_nearest("insp", names, 5), "inspect");
    assert_null(qn_opts_nearest("xyz", names, 5));
    assert_null(qn_opts_nearest("", names, 5));
    assert_null(qn_opts_nearest("a-word-that-is-much-longer-than-any-name-of-a-command-can-be", names, 5));
}

/* Rows of one command must not share a name: the second could never be reached. */
static void test_table_is_consistent(void **state)
{
    (void)state;
    for (int c = 0; c < QN_COMMAND_COUNT; c++) {
        for (int i = 0; i < QN_OPT_COUNT; i++) {
            const qn_opt_row *a = qn_opts_get_row((qn_opt_id)i);
            assert_true(a->id == (qn_opt_id)i);
            assert_true((a->kind == QN_KIND_FLAG) == (a->value[0] == '\0'));
            for (int k = i + 1; k < QN_OPT_COUNT; k++) {
                const qn_opt_row *b = qn_opts_get_row((qn_opt_id)k);
                if (qn_opts_takes((qn_command_id)c, a->id) && qn_opts_takes((qn_command_id)c, b->id)) {
                    assert_string_not_equal(a->name, b->name);
                    assert_true(a->short_name[0] == '\0' || strcmp(a->short_name, b->short_name) != 0);
                }
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),      cmocka_unit_test(test_forms),
        cmocka_unit_test(test_wrong_usage), cmocka_unit_test(test_seed),
        cmocka_unit_test(test_precedence),  cmocka_unit_test(test_config),
        cmocka_unit_test(test_nearest),     cmocka_unit_test(test_table_is_consistent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
