/* test_cli_model_ref.c - from what a user types as MODEL to a path: stored names, the hub cache, the rule for one argument. */
#include "qn_test.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "model_ref.h"

static char root[256];

static const char *at(const char *relative)
{
    static char buffers[8][512];
    static unsigned next;
    char *b = buffers[next++ % 8];
    (void)snprintf(b, 512, "%s/%s", root, relative);
    return b;
}

/* An empty file; its folders are made. */
static void put(const char *relative)
{
    char folder[512];
    (void)snprintf(folder, sizeof folder, "%s", at(relative));
    *strrchr(folder, '/') = '\0';
    assert_int_equal(qn_dir_create(folder, NULL), QUERN_OK);
    FILE *f = fopen(at(relative), "w");
    assert_non_null(f);
    (void)fclose(f);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void)st;
    (void)type;
    (void)where;
    return remove(path);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/quern-test-XXXXXX");
    assert_non_null(mkdtemp(root));
    setenv("QUERN_HOME", at("home"), 1);
    setenv("HF_HUB_CACHE", at("hub"), 1);
    put("home/models/tiny.gguf");
    put("home/models/tiny.Q8_0");
    put("home/models/checkpoint/config.json");
    put("home/models/checkpoint/model.safetensors");
    put("home/models/Own/quants/quants-Q4_K_M.gguf");
    put("home/models/Own/quants/quants-Q8_0.gguf");
    put("hub/models--Org--Repo-GGUF/snapshots/abc123/repo-q4_k_m-00001-of-00002.gguf");
    put("hub/models--Org--Repo-GGUF/snapshots/abc123/repo-q4_k_m-00002-of-00002.gguf");
    put("hub/models--Org--Repo-GGUF/snapshots/abc123/Q6_K/repo-q6_k.gguf");
    put("hub/models--Org--Repo-GGUF/snapshots/abc123/repo-q4_k_s.gguf");
    put("hub/models--Org--Gone/refs/main");
    put("plain/only.gguf");
    put("hub/models--Org--Repo-GGUF/refs/main");
    FILE *f = fopen(at("hub/models--Org--Repo-GGUF/refs/main"), "w");
    (void)fputs("abc123\n", f);
    (void)fclose(f);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unsetenv("QUERN_HOME");
    unsetenv("HF_HUB_CACHE");
    return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void expect_path(const char *text, bool is_repository, const char *expected)
{
    qn_cli cli = {0};
    quern_error err = {0};
    char *path = NULL;
    quern_status status = qn_model_ref_resolve(&cli, text, is_repository, &path, &err);
    if (status != QUERN_OK) {
        print_error("%s: %s\n", text, err.message);
    }
    assert_int_equal(status, QUERN_OK);
    assert_string_equal(path, expected);
    qn_free(path);
}

static void expect_failure(const char *text, bool is_repository, quern_status expected, const char *part)
{
    qn_cli cli = {0};
    quern_error err = {0};
    char *path = NULL;
    assert_int_equal(qn_model_ref_resolve(&cli, text, is_repository, &path, &err), expected);
    assert_null(path);
    if (strstr(err.message, part) == NULL) {
        print_error("'%s' does not say '%s'\n", err.message, part);
    }
    assert_non_null(strstr(err.message, part));
}

static void test_stored(void **state)
{
    (void)state;
    expect_path("demo", false, "demo");
    expect_path("tiny", false, at("home/models/tiny.gguf"));
    expect_path("tiny.gguf", false, at("home/models/tiny.gguf"));
    expect_path("checkpoint", false, at("home/models/checkpoint"));
    expect_path("Own/quants:Q8_0", false, at("home/models/Own/quants/quants-Q8_0.gguf"));
    expect_path("Own/quants:q8_0", false, at("home/models/Own/quants/quants-Q8_0.gguf"));
    expect_path("Own/quants", false, at("home/models/Own/quants/quants-Q4_K_M.gguf")); /* the usual choice among several */
    expect_path(at("plain"), false, at("plain/only.gguf"));
    expect_path(at("plain/only.gguf"), false, at("plain/only.gguf"));
    expect_failure("Own/quants:Q5_K_M", false, QUERN_ERROR_NOT_FOUND, "there is: quants-Q4_K_M.gguf, quants-Q8_0.gguf");
    expect_failure("Own/quants:Q4_K", false, QUERN_ERROR_NOT_FOUND, "no GGUF named 'Q4_K'"); /* Q4_K_M is another type */
    expect_failure("nothing", false, QUERN_ERROR_NOT_FOUND, "nothing: no such model");
    expect_failure("../../etc/passwd.gguf", false, QUERN_ERROR_NOT_FOUND, "no such model");
    expect_failure("..", true, QUERN_ERROR_USAGE, "OWNER/NAME");
    expect_failure("https://host/v1", false, QUERN_ERROR_UNAVAILABLE, "URL");
}

static void test_hub(void **state)
{
    (void)state;
    static const char folder[] = "hub/models--Org--Repo-GGUF/snapshots/abc123";
    char expected[512];
    (void)snprintf(expected, sizeof expected, "%s/repo-q4_k_m-00001-of-00002.gguf", at(folder));
    expect_path("Org/Repo-GGUF:Q4_K_M", true, expected);
    expect_path("Org/Repo-GGUF:Q4_K_M", false, expected);
    expect_path("Org/Repo-GGUF", true, expected);
    (void)snprintf(expected, sizeof expected, "%s/Q6_K/repo-q6_k.gguf", at(folder));
    expect_path("Org/Repo-GGUF:Q6_K", true, expected);
    expect_failure("Org/Repo-GGUF:Q2_K", true, QUERN_ERROR_NOT_FOUND, "no GGUF named 'Q2_K'");
    expect_failure("Org/Other", true, QUERN_ERROR_NOT_FOUND, "not in the hub cache");
    expect_failure("Org/Gone", true, QUERN_ERROR_NOT_FOUND, "not in the hub cache");
    expect_failure("Org", true, QUERN_ERROR_USAGE, "OWNER/NAME");
    expect_failure("Org/Repo-GGUF:", true, QUERN_ERROR_USAGE, "OWNER/NAME");
}

static void test_single_argument(void **state)
{
    (void)state;
    static const char *const models[] = {"demo", "tiny", "checkpoint", "a/b", "name:Q4", "missing.gguf", "/", "MISSING.GGUF"};
    static const char *const prompts[] = {"Write code", "hello", "", "two/words with space", "x\n", "why?", "tinyx", "model.gguf please"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        assert_true(qn_model_ref_is_model(models[i]));
    }
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        assert_false(qn_model_ref_is_model(prompts[i]));
    }
}

static void test_take(void **state)
{
    (void)state;
    qn_cli cli = {0};
    quern_error err = {0};
    char *path = NULL;
    qn_opts_init(&cli.opts, QN_COMMAND_TOKENIZE);
    char *const words[] = {"tiny", "some text"};
    assert_int_equal(qn_opts_parse(&cli.opts, 2, words, &err), QUERN_OK);
    assert_int_equal(qn_model_ref_take(&cli, NULL, &path, &err), QUERN_OK);
    assert_string_equal(path, at("home/models/tiny.gguf"));
    assert_int_equal(cli.opts.n_positional, 1);
    assert_string_equal(cli.opts.positional[0], "some text");
    qn_free(path);
    qn_opts_deinit(&cli.opts);

    qn_opts_init(&cli.opts, QN_COMMAND_TOKENIZE); /* -m leaves the arguments alone */
    char *const with_m[] = {"-m", "checkpoint", "tiny"};
    assert_int_equal(qn_opts_parse(&cli.opts, 3, with_m, &err), QUERN_OK);
    assert_int_equal(qn_model_ref_take(&cli, NULL, &path, &err), QUERN_OK);
    assert_string_equal(path, at("home/models/checkpoint"));
    assert_int_equal(cli.opts.n_positional, 1);
    qn_free(path);
    qn_opts_deinit(&cli.opts);

    qn_opts_init(&cli.opts, QN_COMMAND_TOKENIZE);
    assert_int_equal(qn_model_ref_take(&cli, NULL, &path, &err), QUERN_ERROR_USAGE);
    setenv("QUERN_MODEL", "checkpoint", 1); /* a setting stands in for what is not named */
    assert_int_equal(qn_opts_read_environment(&cli.opts, &err), QUERN_OK);
    assert_int_equal(qn_model_ref_take(&cli, "demo", &path, &err), QUERN_OK);
    assert_string_equal(path, at("home/models/checkpoint"));
    qn_free(path);
    qn_opts_deinit(&cli.opts);
    unsetenv("QUERN_MODEL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored),
        cmocka_unit_test(test_hub),
        cmocka_unit_test(test_single_argument),
        cmocka_unit_test(test_take),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
