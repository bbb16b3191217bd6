/* test_tokenizer_limits.c - what a tokenizer refuses, and that it says what and why; limits; every allocation failing once. */
#include "qn_test_tokenizer.h"

/* ---- the hostile files ---- */

static void corrupt_goldens(void **state)
{
    (void)state;
    const char *manifest = qn_test_golden("corrupt/manifest.jsonl");
    assert_non_null(manifest);
    size_t len, n = 0;
    char *lines = qn_test_read(manifest, &len);
    for (char *line = lines; line < lines + len;) {
        quern_error err = {0};
        char *line_end = memchr(line, '\n', (size_t)(lines + len - line));
        line_end = line_end != NULL ? line_end : lines + len;
        qn_json *row;
        assert_ok(qn_json_parse(&row, line, (size_t)(line_end - line), 0, "manifest", &err));
        const char *file = qn_json_string(qn_json_get(row, "file"), NULL), *expect = qn_json_string(qn_json_get(row, "expect"), NULL);
        if (strcmp(qn_json_string(qn_json_get(row, "kind"), NULL), "tokenizer") == 0) {
            char path[256];
            (void)snprintf(path, sizeof path, "corrupt/%s", file);
            size_t json_len;
            char *json = qn_test_read(qn_test_golden(path), &json_len);
            quern_tokenizer *t = NULL;
            quern_status status = quern_tokenizer_create_from_json(&t, json, json_len, NULL, 0, &err);
            if (strcmp(expect, "error") == 0 && status == QUERN_OK) {
                print_error("%s: accepted\n", file);
            }
            assert_true(status == QUERN_OK ? strcmp(expect, "error") != 0 : quern_status_exit_code(status) == 3);
            assert_true(status == QUERN_OK || (t == NULL && strstr(err.message, "tokenizer.json") != NULL) ||
                        strstr(err.message, "regular") != NULL);
            quern_tokenizer_destroy(t);
            qn_free(json);
            n++;
        }
        qn_json_free(row);
        line = line_end + 1;
    }
    assert_true(n >= 15);
    qn_free(lines);
}

/* ---- refused, with the name of what is refused ---- */

typedef struct refusal {
    const char *member, *value;
    quern_status status;
    const char *names; /* appears in the message */
} refusal;

#define SPLIT(regex) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\",\"invert\":false}"
#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}"
#define STEPS(step) "{\"type\":\"Sequence\",\"pretokenizers\":[" step "," BYTES "]}"

static void refusals(void **state)
{
    (void)state;
    static const refusal cases[] = {
        {"normalizer", "{\"type\":\"BertNormalizer\"}", QUERN_ERROR_UNSUPPORTED, "BertNormalizer"},
        {"normalizer", "{\"type\":\"Lowercase\"}", QUERN_ERROR_UNSUPPORTED, "Lowercase"},
        {"normalizer", "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"\"}", QUERN_ERROR_UNSUPPORTED, "Replace"},
        {"normalizer", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"x\"}", QUERN_ERROR_INVALID, "Replace"},
        {"normalizer", "{\"type\":\"Prepend\"}", QUERN_ERROR_INVALID, "prepend"},
        {"normalizer", "\"NFC\"", QUERN_ERROR_UNSUPPORTED, "normalizer"},
        {"pre_tokenizer", "{\"type\":\"Whitespace\"}", QUERN_ERROR_UNSUPPORTED, "Whitespace"},
        {"pre_tokenizer", "{\"type\":\"Sequence\",\"pretokenizers\":[" BYTES ",{\"type\":\"Digits\"}]}", QUERN_ERROR_UNSUPPORTED,
         "Digits behind ByteLevel"},
        {"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Scattered\"}", QUERN_ERROR_UNSUPPORTED,
         "Scattered"},
        {"pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\"}", QUERN_ERROR_INVALID, "Split"},
        {"pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\"}", QUERN_ERROR_UNSUPPORTED, "Metaspace"},
        {"pre_tokenizer", "null", QUERN_ERROR_UNSUPPORTED, "decoder"}, /* characters in, bytes out */
        {"decoder", "null", QUERN_ERROR_UNSUPPORTED, "decoder"},
        {"decoder", "{\"type\":\"WordPiece\"}", QUERN_ERROR_UNSUPPORTED, "WordPiece"},
        {"decoder", "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}",
         QUERN_ERROR_UNSUPPORTED, "Strip"},
        {"post_processor", "{\"type\":\"BertProcessing\"}", QUERN_ERROR_UNSUPPORTED, "BertProcessing"},
        {"post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"nobody\"}}]}", QUERN_ERROR_INVALID,
         "post_processor"},
        {"model.type", "\"Unigram\"", QUERN_ERROR_UNSUPPORTED, "Unigram"},
        {"model.type", "7", QUERN_ERROR_INVALID, "type"},
        {"model.dropout", "0.1", QUERN_ERROR_UNSUPPORTED, "dropout"},
        {"model.continuing_subword_prefix", "\"##\"", QUERN_ERROR_UNSUPPORTED, "continuing_subword_prefix"},
        {"model.end_of_word_suffix", "\"</w>\"", QUERN_ERROR_UNSUPPORTED, "end_of_word_suffix"},
        {"model.unk_token", "\"<nobody>\"", QUERN_ERROR_INVALID, "<nobody>"},
        {"model.vocab", "[]", QUERN_ERROR_INVALID, "line"},
        {"model.vocab", "{}", QUERN_ERROR_INVALID, "empty"},
        {"model.vocab", "{\"a\":0,\"b\":4000000}", QUERN_ERROR_INVALID, "4000000"},
        {"model.vocab", "{\"a\":1.5}", QUERN_ERROR_INVALID, "token id"},
        {"model.vocab", "{\"a\":9223372036854775807}", QUERN_ERROR_INVALID, "9223372036854775807"},
        {"model.merges", "[[\"h\",\"e\",\"l\"]]", QUERN_ERROR_INVALID, "line"},
        {"model.merges", "[\"h e l\"]", QUERN_ERROR_INVALID, "h e l"},
        {"model.merges", "{}", QUERN_ERROR_INVALID, "line"},
        {"added_tokens", "[{\"content\":\"x\"}]", QUERN_ERROR_INVALID, "no id"},
        {"added_tokens", "[{\"id\":5}]", QUERN_ERROR_INVALID, "no content"},
        {"added_tokens", "[{\"id\":5,\"content\":\"x\"}]", QUERN_ERROR_INVALID, "id 5"},
        {"added_tokens", "[{\"id\":600,\"content\":\"!\"}]", QUERN_ERROR_INVALID, "token 0"},
        {"added_tokens", "[{\"id\":600,\"content\":\"x1\"},{\"id\":601,\"content\":\"x1\"}]", QUERN_ERROR_INVALID, "x1"},
        {"pre_tokenizer", STEPS(SPLIT("(a")), QUERN_ERROR_INVALID, "regular expression"},
        {"pre_tokenizer", STEPS(SPLIT("[a")), QUERN_ERROR_INVALID, "class"},
        {"pre_tokenizer", STEPS(SPLIT("[a-z&&[^x]]")), QUERN_ERROR_UNSUPPORTED, "intersection"},
        {"pre_tokenizer", STEPS(SPLIT("[a[bc]]")), QUERN_ERROR_UNSUPPORTED, "bracket"},
        {"pre_tokenizer", STEPS(SPLIT("\\\\bx")), QUERN_ERROR_UNSUPPORTED, "\\b"},
        {"pre_tokenizer", STEPS(SPLIT("(a)\\\\1")), QUERN_ERROR_UNSUPPORTED, "\\1"},
        {"pre_tokenizer", STEPS(SPLIT("(?<name>a)")), QUERN_ERROR_UNSUPPORTED, "group"},
        {"pre_tokenizer", STEPS(SPLIT("(*LIMIT_MATCH=1)a")), QUERN_ERROR_UNSUPPORTED, "(*"},
        {"pre_tokenizer", STEPS(SPLIT("a{2}?")), QUERN_ERROR_UNSUPPORTED, "{"},
        {"pre_tokenizer", STEPS(SPLIT("x{,3}")), QUERN_ERROR_UNSUPPORTED, "brace"},
        {"pre_tokenizer", STEPS(SPLIT("\\\\p{Nonsense}")), QUERN_ERROR_INVALID, "regular expression"},
        {"pre_tokenizer", STEPS(SPLIT("[\\\\S]")), QUERN_ERROR_UNSUPPORTED, "\\S"},
        {"pre_tokenizer", STEPS(SPLIT("")), QUERN_ERROR_INVALID, "regular expression"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        quern_error err = {0};
        quern_tokenizer *t = qn_test_golden_variant(cases[i].member, cases[i].value, NULL, NULL, &err);
        if (t != NULL || err.status != cases[i].status || strstr(err.message, cases[i].names) == NULL) {
            print_error("%s = %s: %s: %s\n", cases[i].member, cases[i].value, t != NULL ? "accepted" : quern_status_name(err.status),
                        err.message);
            fail();
        }
    }
}

/* Text that is no tokenizer.json at all, and members that come twice. */
static void broken_files(void **state)
{
    (void)state;
    static const char *const files[] = {"",
                                        "[]",
                                        "null",
                                        "{",
                                        "{}",
                                        "{\"model\":1}",
                                        "{\"model\":{}}",
                                        "{\"model\":{\"vocab\":{\"a\":0}}}",
                                        "{\"model\":{\"merges\":[]}}",
                                        "{\"decoder\":null,\"decoder\":null,\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
                                        "{\"model\":{\"vocab\":{\"a\":0},\"vocab\":{},\"merges\":[]}}",
                                        "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"model\":{}}",
                                        "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}} x",
                                        "{\"model\":{\"vocab\":{\"a\":0,},\"merges\":[]}}",
                                        "{\"model\":{\"vocab\":{\"a\":0 \"b\":1},\"merges\":[]}}",
                                        "{\"model\":{\"vocab\":{\"\\ud800\":0},\"merges\":[]}}",
                                        "{\"model\":{\"vocab\":{\"\xff\":0},\"merges\":[]}}"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        quern_error err = {0};
        quern_tokenizer *t = NULL;
        assert_int_equal(quern_tokenizer_create_from_json(&t, files[i], strlen(files[i]), NULL, 0, &err), QUERN_ERROR_INVALID);
        assert_null(t);
        assert_non_null(strstr(err.message, "tokenizer.json"));
    }
}

/* What stands there and means nothing is accepted. */
static void harmless(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"model.dropout", "0.0"},
                                           {"model.continuing_subword_prefix", "\"\""},
                                           {"model.end_of_word_suffix", "\"\""},
                                           {"model.unheard_of", "[{}]"},
                                           {"unheard_of", "[{}]"},
                                           {"truncation", "{\"max_length\":5}"},
                                           {"normalizer", "{\"type\":\"Sequence\",\"normalizers\":[]}"},
                                           {"post_processor", "null"},
                                           {"added_tokens", "[{\"id\":600,\"content\":\"\"}]"},
                                           {"model.merges", "[\"#version: 0.2\"]"},
                                           {"model.merges", "[]"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        quern_error err = {0};
        quern_tokenizer *t = qn_test_golden_variant(cases[i][0], cases[i][1], NULL, NULL, &err);
        if (t == NULL) {
            print_error("%s = %s: %s\n", cases[i][0], cases[i][1], err.message);
        }
        assert_non_null(t);
        quern_tokenizer_destroy(t);
    }
}

/* tokenizer_config.json: roles, further added tokens, numbers beyond 64 bits. */
static void config(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        quern_status status;
        int32_t bos, eos;
        bool add_bos;
        size_t n_tokens;
    } cases[] = {
        {"{\"bos_token\":\"<|im_start|>\",\"eos_token\":{\"content\":\"<|im_end|>\"},\"add_bos_token\":true}", QUERN_OK, 510, 511, true,
         512},
        {"{\"bos_token\":null,\"eos_token\":\"<nobody>\",\"model_max_length\":1000000000000000019884624838656}", QUERN_OK, -1, -1, false,
         512},
        {"{\"added_tokens_decoder\":{\"600\":{\"content\":\"<new>\",\"special\":true},\"511\":{\"content\":\"<|im_end|>\"}},\"bos_token\":"
         "\"<new>\"}",
         QUERN_OK, 600, -1, false, 601},
        {"{\"add_bos_token\":true}", QUERN_ERROR_INVALID, 0, 0, false, 0},
        {"{\"added_tokens_decoder\":{\"6x\":{\"content\":\"<new>\"}}}", QUERN_ERROR_INVALID, 0, 0, false, 0},
        {"{\"added_tokens_decoder\":{\"99999999999999999999\":{\"content\":\"<new>\"}}}", QUERN_ERROR_INVALID, 0, 0, false, 0},
        {"{\"added_tokens_decoder\":{\"511\":{\"content\":\"other\"}}}", QUERN_ERROR_INVALID, 0, 0, false, 0},
        {"{\"bos_token\":", QUERN_ERROR_INVALID, 0, 0, false, 0},
    };
    size_t len;
    char *json = qn_test_read(qn_test_golden("tokenizer/tokenizer.json"), &len);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        quern_error err = {0};
        quern_tokenizer *t = NULL;
        assert_int_equal(quern_tokenizer_create_from_json(&t, json, len, cases[i].text, strlen(cases[i].text), &err), cases[i].status);
        if (cases[i].status != QUERN_OK) {
            assert_non_null(strstr(err.message, "tokenizer"));
            continue;
        }
        const quern_tokenizer_info *info = quern_tokenizer_get_info(t);
        assert_int_equal(info->bos_id, cases[i].bos);
        assert_int_equal(info->eos_id, cases[i].eos);
        assert_int_equal(info->add_bos, cases[i].add_bos);
        assert_int_equal(info->n_tokens, cases[i].n_tokens);
        static const int32_t bos_then_a[] = {510, 64};
        if (cases[i].add_bos) {
            qn_test_expect_ids(t, "a", 1, QUERN_ENCODE_ADD_BOS, bos_then_a, 2);
        }
        quern_tokenizer_destroy(t);
    }
    qn_free(json);
}

/* A post-processor that puts a token in front is what adds BOS where tokenizer_config.json is silent. */
static void post_processor_adds_bos(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = qn_test_golden_variant(
        "post_processor",
        "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":\"TemplateProcessing\",\"single\":"
        "[{\"SpecialToken\":{\"id\":\"<|im_start|>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
        "{\"SpecialToken\":{\"id\":\"<|im_end|>\",\"type_id\":0}}]}]}",
        NULL, NULL, &err);
    assert_non_null(t);
    const quern_tokenizer_info *info = quern_tokenizer_get_info(t);
    assert_true(info->add_bos && info->add_eos);
    assert_int_equal(info->bos_id, 510);
    assert_int_equal(info->eos_id, 511);
    quern_tokenizer_destroy(t);
}

/* ---- arrays ---- */

#define SPAN(s) \
    { \
        (s), sizeof(s) - 1 \
    }

static void spec_refusals(void **state)
{
    (void)state;
    static const qn_text_span tokens[] = {SPAN("a"), SPAN("b"), SPAN("ab"), SPAN("<x>")},
                              twice[] = {SPAN("a"), SPAN("b"), SPAN("a"), SPAN("<x>")};
    static const qn_text_span broken[] = {SPAN("a"), SPAN("\xff"), SPAN("ab"), SPAN("<x>")};
    static const qn_text_span merges[] = {SPAN("a b")}, absent[] = {SPAN("a c")}, no_result[] = {SPAN("b a")}, no_space[] = {SPAN("ab")},
                              empty[] = {SPAN("")};
    static const int32_t types[] = {1, 1, 1, 3}, bad_types[] = {1, 1, 1, 9};
    static const float scores[] = {-1, -2, -3, 0};
    float not_numbers[] = {-1, -2, -3, 0};
    memset(&not_numbers[1], 0xff, sizeof not_numbers[1]);
    const qn_vocab_spec good = {.what = "test.gguf",
                                .model = "gpt2",
                                .pre = "gpt-2",
                                .tokens = tokens,
                                .n_tokens = 4,
                                .types = types,
                                .merges = merges,
                                .n_merges = 1,
                                .bos_id = -1,
                                .eos_id = -1,
                                .unk_id = -1,
                                .pad_id = -1,
                                .add_bos = -1,
                                .add_eos = -1,
                                .add_space_prefix = -1};
    struct {
        qn_vocab_spec spec;
        quern_status status;
        const char *names;
    } cases[16];
    size_t n = 0;
#define CASE(code, text, ...) \
    do { \
        qn_vocab_spec s = good; \
        __VA_ARGS__; \
        cases[n].spec = s; \
        cases[n].status = (code); \
        cases[n++].names = (text); \
    } while (0)
    CASE(QUERN_OK, "", s.what = "good");
    CASE(QUERN_ERROR_UNSUPPORTED, "brand-new", s.pre = "brand-new");
    CASE(QUERN_ERROR_UNSUPPORTED, "tokenizer.ggml.pre", s.pre = NULL);
    CASE(QUERN_ERROR_UNSUPPORTED, "bert", s.model = "bert");
    CASE(QUERN_ERROR_UNSUPPORTED, "(none)", s.model = NULL);
    CASE(QUERN_ERROR_INVALID, "scores", s.model = "llama");
    CASE(QUERN_ERROR_INVALID, "score of token 1", s.model = "llama"; s.scores = not_numbers);
    CASE(QUERN_OK, "", s.model = "llama"; s.scores = scores; s.pre = NULL);
    CASE(QUERN_ERROR_INVALID, "same text", s.tokens = twice);
    CASE(QUERN_ERROR_INVALID, "token 1 is no UTF-8", s.tokens = broken);
    CASE(QUERN_ERROR_INVALID, "\"c\" is not in the vocabulary", s.merges = absent);
    CASE(QUERN_ERROR_INVALID, "its result \"ba\"", s.merges = no_result);
    CASE(QUERN_ERROR_INVALID, "merge 0 \"ab\"", s.merges = no_space);
    CASE(QUERN_ERROR_INVALID, "merge 0", s.merges = empty);
    CASE(QUERN_ERROR_INVALID, "type 9", s.types = bad_types);
    CASE(QUERN_ERROR_INVALID, "id 4", s.eos_id = 4);
    for (size_t i = 0; i < n; i++) {
        quern_error err = {0};
        quern_tokenizer *t = NULL;
        quern_status status = qn_tokenizer_create_from_spec(&t, &cases[i].spec, &err);
        if (status != cases[i].status || (status != QUERN_OK && strstr(err.message, cases[i].names) == NULL)) {
            print_error("case %zu: %s: %s\n", i, quern_status_name(status), err.message);
            fail();
        }
        quern_tokenizer_destroy(t);
    }
}

/* A hundred thousand tokens of the same text in a vocabulary that has no use for them: no quadratic search. */
static void many_equal_tokens(void **state)
{
    (void)state;
    enum { N = 200000 };
    quern_error err = {0};
    qn_text_span *tokens = qn_malloc_array(N, sizeof *tokens);
    int32_t *types = qn_malloc_array(N, sizeof *types);
    for (size_t i = 0; i < N; i++) {
        tokens[i] = (qn_text_span)SPAN("<unused>");
        types[i] = 5;
    }
    tokens[0] = (qn_text_span)SPAN("a");
    types[0] = 1;
    qn_vocab_spec spec = {.what = "test",
                          .model = "gpt2",
                          .pre = "gpt-2",
                          .tokens = tokens,
                          .n_tokens = N,
                          .types = types,
                          .bos_id = -1,
                          .eos_id = -1,
                          .unk_id = -1,
                          .pad_id = -1,
                          .add_bos = -1,
                          .add_eos = -1,
                          .add_space_prefix = -1};
    quern_tokenizer *t;
    assert_ok(qn_tokenizer_create_from_spec(&t, &spec, &err));
    static const int32_t ids[] = {0, 0};
    qn_test_expect_ids(t, "a?a", 3, 0, ids, 2); /* a byte without a token is left out */
    qn_vocab_export e;
    assert_int_equal(qn_tokenizer_export(t, N - 1, &e, &err), QUERN_ERROR_INVALID);
    assert_null(e.owned);
    quern_tokenizer_destroy(t);
    qn_free(tokens);
    qn_free(types);
}

/* Characters of a token that are no tokens themselves still merge, as readers of GGUF do it; alone they become bytes or the unknown
 * token. */
static void characters_without_tokens(void **state)
{
    (void)state;
    quern_error err = {0};
    static const qn_text_span tokens[] = {SPAN("<unk>"), SPAN("\xe2\x96\x81"), SPAN("q"), SPAN("zq"), SPAN("\xc3\xa9q"), SPAN("xyz")};
    static const float scores[] = {0, -1, -2, -3, -4, -5};
    static const int32_t types[] = {2, 1, 1, 1, 1, 1};
    qn_vocab_spec spec = {.what = "test",
                          .model = "llama",
                          .tokens = tokens,
                          .n_tokens = 6,
                          .scores = scores,
                          .types = types,
                          .bos_id = -1,
                          .eos_id = -1,
                          .unk_id = 0,
                          .pad_id = -1,
                          .add_bos = -1,
                          .add_eos = -1,
                          .add_space_prefix = 0};
    quern_tokenizer *t;
    assert_ok(qn_tokenizer_create_from_spec(&t, &spec, &err));
    static const int32_t merged[] = {3, 4, 2}, alone[] = {0, 2, 0, 1};
    qn_test_expect_ids(t, "zq\xc3\xa9qq", 6, 0, merged, 3);
    qn_test_expect_ids(t, "zz\xc3\xa9\xff#q\xc3\xa9z ", 11, 0, alone, 4); /* neighbouring unknown characters are one token */
    quern_tokenizer_destroy(t);
}

/* ---- limits ---- */

static void limits(void **state)
{
    (void)state;
    quern_error err = {0};
    char added[4000];
    char name[2000];
    memset(name, 'x', sizeof name);
    name[1100] = '\0';
    (void)snprintf(added, sizeof added, "[{\"id\":600,\"content\":\"%s\"}]", name);
    assert_null(qn_test_golden_variant("added_tokens", added, NULL, NULL, &err));
    assert_int_equal(err.status, QUERN_ERROR_LIMIT);
    /* a normalizer that blows text up */
    memset(name, 'y', sizeof name);
    name[64] = '\0';
    (void)snprintf(added, sizeof added, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}", name);
    quern_tokenizer *t = qn_test_golden_variant("normalizer", added, NULL, NULL, &err);
    assert_non_null(t);
    enum { N = 100000 };
    char *text = qn_malloc(N);
    memset(text, 'a', N);
    quern_ids ids = {0};
    assert_int_equal(quern_tokenizer_encode(t, text, N, 0, &ids, &err), QUERN_ERROR_LIMIT);
    assert_int_equal(ids.len, 0);
    quern_tokenizer_destroy(t);
    /* expressions that backtrack without end, in one search or over many */
    static const char *const evil[] = {STEPS(SPLIT("(a+)+$|x")), STEPS(SPLIT("(?:a|aa)+[bc]")), STEPS(SPLIT("a*[bc]|a")),
                                       STEPS(SPLIT("(?:a?){50}a{50}[bc]"))};
    for (size_t i = 0; i < sizeof evil / sizeof evil[0]; i++) {
        t = qn_test_golden_variant("pre_tokenizer", evil[i], NULL, NULL, &err);
        assert_non_null(t);
        text[N - 1] = i == 0 ? '!' : 'a';
        quern_status status = quern_tokenizer_encode(t, text, N, 0, &ids, &err);
        if (status != QUERN_ERROR_LIMIT) {
            print_error("expression %zu: %s\n", i, quern_status_name(status));
        }
        assert_int_equal(status, QUERN_ERROR_LIMIT);
        assert_int_equal(ids.len, 0);
        quern_tokenizer_destroy(t);
    }
    quern_ids_deinit(&ids);
    qn_free(text);
}

/* ---- every allocation fails once ---- */

typedef struct attempt {
    const char *json, *config;
    size_t json_len, config_len;
    const qn_vocab_spec *spec;
} attempt;

/* Makes a tokenizer, encodes, decodes, exports; the first failure ends it. */
static quern_status try_all(const attempt *a, quern_error *err)
{
    static const quern_segment segments[] = {
        {"<|im_start|>def ", 16, true},
        {"f(x):\n    return e\xcc\x81 <|im_end|> 12345 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 90, false},
        {"<|im_end|>", 10, true}};
    quern_tokenizer *t = NULL;
    quern_decoder *d = NULL;
    quern_ids ids = {0};
    char *text = NULL;
    const char *part;
    size_t len;
    qn_vocab_export e = {0};
    quern_status status = a->spec != NULL ? qn_tokenizer_create_from_spec(&t, a->spec, err)
                                          : quern_tokenizer_create_from_json(&t, a->json, a->json_len, a->config, a->config_len, err);
    if (status == QUERN_OK) {
        status = quern_tokenizer_encode_segments(t, segments, 3, QUERN_ENCODE_ADD_BOS, &ids, err);
        assert_true(status == QUERN_OK || ids.len == 0);
    }
    if (status == QUERN_OK) {
        status = quern_tokenizer_decode(t, ids.data, ids.len, true, &text, &len, err);
    }
    if (status == QUERN_OK) {
        status = quern_decoder_create(&d, t, true, err);
    }
    for (size_t i = 0; status == QUERN_OK && i < ids.len; i++) {
        status = quern_decoder_push(d, ids.data[i], &part, &len, err);
    }
    if (status == QUERN_OK) {
        status = qn_tokenizer_export(t, 700, &e, err);
        status = status == QUERN_ERROR_UNSUPPORTED ? QUERN_OK : status; /* not every one here can be said in GGUF */
    }
    qn_vocab_export_deinit(&e);
    quern_free(text);
    quern_decoder_destroy(d);
    quern_ids_deinit(&ids);
    quern_tokenizer_destroy(t);
    return status;
}

static void fail_every_allocation(const attempt *a)
{
    quern_error err = {0};
    qn_alloc_fail_at(0);
    assert_ok(try_all(a, &err));
    uint64_t n = qn_alloc_count();
    assert_true(n > 20 && n < 20000);
    for (uint64_t k = 1; k <= n; k++) {
        qn_alloc_fail_at(k);
        quern_status status = try_all(a, &err);
        qn_alloc_fail_at(0);
        assert_true(status == QUERN_ERROR_MEMORY || status == QUERN_OK); /* OK: the word cache is not needed */
    }
}

static void failing_allocations(void **state)
{
    (void)state;
    size_t len, config_len;
    char *config_text = qn_test_read(qn_test_golden("tokenizer/tokenizer_config.json"), &config_len);
    static const char *const variants[][4] = {
        {NULL, NULL, NULL, NULL},
        {"pre_tokenizer",
         "{\"type\":\"Sequence\",\"pretokenizers\":[" SPLIT(
             "\\\\w+|\\\\s") ",{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},\"behavior\":\"Isolated\"},"
                             "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":true}]}",
         "normalizer",
         "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\"e\"},\"content\":"
         "\"ee\"}]}"},
        {"added_tokens",
         "[{\"id\":510,\"content\":\"<|im_start|>\",\"normalized\":true},{\"id\":511,\"content\":\"<|im_end|>\"},{\"id\":600,\"content\":"
         "\"<\xc3\xa9>\"}]",
         NULL, NULL},
    };
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        qn_buf json;
        qn_test_golden_json(&json, variants[i][0], variants[i][1], variants[i][2], variants[i][3]);
        attempt a = {.json = json.data, .json_len = json.len, .config = config_text, .config_len = config_len};
        fail_every_allocation(&a);
        qn_buf_deinit(&json);
    }
    qn_free(config_text);

    /* a SentencePiece vocabulary, from arrays and from the recorded tokenizer.json */
    static const qn_text_span tokens[] = {SPAN("<unk>"),
                                          SPAN("<s>"),
                                          SPAN("\xe2\x96\x81"),
                                          SPAN("d"),
                                          SPAN("e"),
                                          SPAN("de"),
                                          SPAN("\xe2\x96\x81"
                                               "de"),
                                          SPAN("zf")};
    static const float scores[] = {0, 0, -1, -2, -3, -4, -5, -6};
    static const int32_t types[] = {2, 3, 1, 1, 1, 1, 1, 1};
    const qn_vocab_spec spec = {.what = "test",
                                .model = "llama",
                                .tokens = tokens,
                                .n_tokens = 8,
                                .scores = scores,
                                .types = types,
                                .bos_id = 1,
                                .eos_id = -1,
                                .unk_id = 0,
                                .pad_id = -1,
                                .add_bos = 1,
                                .add_eos = 0,
                                .add_space_prefix = 1};
    attempt from_spec = {.spec = &spec};
    fail_every_allocation(&from_spec);
    quern_error err = {0};
    char *file = qn_test_read(qn_test_data("tokenizer/recorded.json"), &len);
    qn_json *root;
    qn_buf json;
    assert_ok(qn_json_parse(&root, file, len, QN_JSON_ALLOW_NUL, "recorded.json", &err));
    qn_buf_init(&json, 1u << 24);
    assert_true(qn_json_write(qn_json_get(qn_json_get(root, "tokenizers"), "chars"), 0, &json));
    attempt chars = {.json = json.data, .json_len = json.len};
    fail_every_allocation(&chars);
    qn_buf_deinit(&json);
    qn_json_free(root);
    qn_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_files),
        cmocka_unit_test(corrupt_goldens),
        cmocka_unit_test(refusals),
        cmocka_unit_test(harmless),
        cmocka_unit_test(config),
        cmocka_unit_test(post_processor_adds_bos),
        cmocka_unit_test(spec_refusals),
        cmocka_unit_test(many_equal_tokens),
        cmocka_unit_test(characters_without_tokens),
        cmocka_unit_test(limits),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
