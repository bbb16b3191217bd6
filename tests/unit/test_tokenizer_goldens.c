/* test_tokenizer_goldens.c - the tokenizers of published models: expected ids from llama.cpp's vocabulary tests, from an independent Python
 * implementation, and from Hugging Face's library (recorded by tools/record_tokenizer_goldens.py). */
#include "base/clock.h"
#include "qn_test_tokenizer.h"
#include "quern/model.h"

static const char SEPARATOR[] = "\n__ggml_vocab_test__\n";

/* ---- llama.cpp's .inp and .out ---- */

static size_t read_ids(const char *line, int32_t *ids, size_t cap)
{
    size_t n = 0;
    char *end;
    for (const char *p = line;; p = end) {
        while (*p == ' ') {
            p++;
        }
        long v = strtol(p, &end, 10);
        if (end == p || *p == '\n' || *p == '\0') {
            return n;
        }
        assert_true(n < cap);
        ids[n++] = (int32_t)v;
    }
}

/* Checks every string; returns how many there are. */
static size_t check_vocab_cases(const quern_tokenizer *t, const char *name, bool decode)
{
    char path[256];
    size_t in_len, out_len, n = 0;
    (void)snprintf(path, sizeof path, "data/tokenizers/ggml-vocab-%s.gguf.inp", name);
    char *in = qn_test_read(qn_test_shared(path), &in_len);
    (void)snprintf(path, sizeof path, "data/tokenizers/ggml-vocab-%s.gguf.out", name);
    char *out = qn_test_read(qn_test_shared(path), &out_len);
    const char *line = out;
    for (char *text = in; text < in + in_len; n++) {
        char *end = strstr(text, SEPARATOR);
        size_t len = end != NULL ? (size_t)(end - text) : strlen(text);
        int32_t ids[512];
        size_t n_ids = read_ids(line, ids, 512);
        qn_test_expect_ids(t, text, len, QUERN_ENCODE_PARSE_SPECIAL, ids, n_ids);
        if (decode) {
            qn_test_expect_text(t, ids, n_ids, true, text, len);
        }
        line = strchr(line, '\n') + 1;
        text = end != NULL ? end + strlen(SEPARATOR) : in + in_len;
    }
    qn_free(in);
    qn_free(out);
    return n;
}

static bool missing(const char *name)
{
    if (qn_test_shared(name) == NULL) {
        print_message("SKIP: %s: not in this checkout\n", name);
        return true;
    }
    return false;
}

static void check_gguf(const char *name, const char *pre, bool decode)
{
    char path[256];
    (void)snprintf(path, sizeof path, "data/tokenizers/ggml-vocab-%s.gguf", name);
    if (missing(path)) {
        skip();
    }
    quern_tokenizer *t = qn_test_tokenizer_from_gguf(qn_test_shared(path));
    assert_string_equal(quern_tokenizer_get_info(t)->pre_tokenizer, pre);
    assert_int_equal(check_vocab_cases(t, name, decode), 46);
    quern_tokenizer_destroy(t);
}

static void gguf_llama_spm(void **state)
{
    (void)state;
    check_gguf("llama-spm", "none", true);
}
static void gguf_qwen2(void **state)
{
    (void)state;
    check_gguf("qwen2", "qwen2", true);
}
static void gguf_gpt2(void **state)
{
    (void)state;
    check_gguf("gpt-2", "gpt2", true);
}
static void gguf_starcoder(void **state)
{
    (void)state;
    check_gguf("starcoder", "starcoder", true);
}
static void gguf_deepseek_coder(void **state)
{
    (void)state;
    check_gguf("deepseek-coder", "deepseek-coder", true);
}

/* The published vocabulary is the Qwen2 one under another pre-tokenizer name. */
static void gguf_deepseek_r1_qwen(void **state)
{
    (void)state;
    static const char path[] = "data/tokenizers/ggml-vocab-qwen2.gguf";
    if (missing(path)) {
        skip();
    }
    quern_error err = {0};
    quern_tokenizer *t;
    qn_test_vocab v;
    qn_test_vocab_open(&v, qn_test_shared(path));
    v.spec.pre = "deepseek-r1-qwen";
    assert_ok(qn_tokenizer_create_from_spec(&t, &v.spec, &err));
    assert_int_equal(check_vocab_cases(t, "deepseek-r1-qwen", true), 46);
    quern_tokenizer_destroy(t);
    qn_test_vocab_close(&v);
}

static void json_llama3(void **state)
{
    (void)state;
    if (missing("data/tokenizers/llama3/tokenizer.json")) {
        skip();
    }
    quern_tokenizer *t = qn_test_tokenizer_from_json(qn_test_shared("data/tokenizers/llama3/tokenizer.json"), NULL);
    assert_string_equal(quern_tokenizer_get_info(t)->pre_tokenizer, "llama3");
    assert_int_equal(check_vocab_cases(t, "llama-bpe", true), 46);
    quern_tokenizer_destroy(t);
}

/* ---- Qwen3, with and without NFC, with and without added tokens ---- */

static void check_row(const quern_tokenizer *t, const quern_tokenizer *without_nfc, const char *line, size_t len)
{
    quern_error err = {0};
    qn_json *row;
    assert_ok(qn_json_parse(&row, line, len, QN_JSON_ALLOW_NUL, "row", &err));
    size_t text_len, n;
    const char *text = qn_json_string(qn_json_get(row, "text"), &text_len);
    const qn_json *no_special = qn_json_get(row, "ids_no_special"), *no_nfc = qn_json_get(row, "ids_no_nfc");
    int32_t *ids = qn_test_json_ids(qn_json_get(row, "ids"), &n);
    qn_test_expect_ids(t, text, text_len, QUERN_ENCODE_PARSE_SPECIAL, ids, n);
    if (no_nfc == NULL) { /* else decoding gives the normalized text */
        qn_test_expect_text(t, ids, n, true, text, text_len);
    }
    qn_free(ids);
    ids = qn_test_json_ids(no_special != NULL ? no_special : qn_json_get(row, "ids"), &n);
    qn_test_expect_ids(t, text, text_len, 0, ids, n);
    qn_free(ids);
    ids = qn_test_json_ids(no_nfc != NULL ? no_nfc : qn_json_get(row, "ids"), &n);
    qn_test_expect_ids(without_nfc, text, text_len, QUERN_ENCODE_PARSE_SPECIAL, ids, n);
    qn_free(ids);
    qn_json_free(row);
}

static void json_qwen3(void **state)
{
    (void)state;
    static const char path[] = "data/tokenizers/qwen3/tokenizer.json";
    if (missing(path)) {
        skip();
    }
    quern_error err = {0};
    size_t len, json_len, n_rows = 0;
    quern_tokenizer *t = qn_test_tokenizer_from_json(qn_test_shared(path), qn_test_shared("data/tokenizers/qwen3/tokenizer_config.json")),
                    *plain;
    const quern_tokenizer_info *info = quern_tokenizer_get_info(t);
    assert_string_equal(info->model, "bpe");
    assert_int_equal(info->n_tokens, 151669);
    assert_int_equal(info->n_added, 26);
    assert_int_equal(info->eos_id, 151645);
    assert_int_equal(info->pad_id, 151643);
    assert_int_equal(info->bos_id, -1);
    assert_false(info->add_bos);
    assert_int_equal(quern_tokenizer_get_kind(t, 151645), QUERN_TOKEN_CONTROL);
    assert_int_equal(quern_tokenizer_get_kind(t, 151657), QUERN_TOKEN_USER_DEFINED);
    assert_int_equal(quern_tokenizer_find(t, "<tool_call>", 11), 151657);

    char *json = qn_test_read(qn_test_shared(path), &json_len);
    size_t begin = 0;
    while (begin < json_len && strncmp(json + begin, "\"NFC\"", 5) != 0) {
        begin++;
    }
    assert_true(begin < json_len);
    size_t end = begin;
    while (json[begin] != '{') {
        begin--;
    }
    while (json[end] != '}') {
        end++;
    }
    memset(json + begin, ' ', end + 1 - begin);
    memcpy(json + begin, "null", 4);
    assert_ok(quern_tokenizer_create_from_json(&plain, json, json_len, NULL, 0, &err));

    char *rows = qn_test_read(qn_test_shared("data/tokenizers/qwen3/encode_goldens.jsonl"), &len);
    for (char *line = rows; line < rows + len; n_rows++) {
        char *line_end = memchr(line, '\n', (size_t)(rows + len - line));
        line_end = line_end != NULL ? line_end : rows + len;
        check_row(t, plain, line, (size_t)(line_end - line));
        line = line_end + 1;
    }
    assert_int_equal(n_rows, 195);
    qn_free(rows);
    qn_free(json);
    quern_tokenizer_destroy(t);
    quern_tokenizer_destroy(plain);
}

/* ---- the tiny tokenizer of the golden checkpoints ---- */

static void golden_encode_cases(void **state)
{
    (void)state;
    quern_error err = {0};
    const char *cases_path = qn_test_golden("tokenizer/encode_cases.json");
    assert_non_null(cases_path);
    quern_tokenizer *t = qn_test_tokenizer_from_json(qn_test_golden("tokenizer/tokenizer.json"),
                                                     qn_test_golden("tokenizer/tokenizer_config.json"));
    size_t len;
    char *text = qn_test_read(cases_path, &len);
    qn_json *cases;
    assert_ok(qn_json_parse(&cases, text, len, QN_JSON_ALLOW_NUL, "encode_cases.json", &err));
    assert_true(qn_json_length(cases) >= 9);
    for (size_t i = 0; i < qn_json_length(cases); i++) {
        const qn_json *c = qn_json_at(cases, i);
        size_t text_len, decoded_len, n;
        const char *s = qn_json_string(qn_json_get(c, "text"), &text_len),
                   *decoded = qn_json_string(qn_json_get(c, "decoded"), &decoded_len);
        int32_t *ids = qn_test_json_ids(qn_json_get(c, "ids"), &n);
        qn_test_expect_ids(t, s, text_len, QUERN_ENCODE_PARSE_SPECIAL, ids, n);
        qn_test_expect_text(t, ids, n, true, decoded, decoded_len);
        qn_free(ids);
    }
    qn_json_free(cases);
    qn_free(text);
    quern_tokenizer_destroy(t);
}

/* ---- WikiText-2 ---- */

static void expect_count(const quern_tokenizer *t, const char *text, size_t len, int flags, size_t n)
{
    quern_error err = {0};
    quern_ids ids = {0};
    assert_ok(quern_tokenizer_encode(t, text, len, flags, &ids, &err));
    assert_int_equal(ids.len, n);
    quern_ids_deinit(&ids);
}

static void wikitext_counts(void **state)
{
    (void)state;
    if (missing("data/wikitext2/wiki.test.raw") || missing("data/tokenizers/qwen3/tokenizer.json")) {
        skip();
    }
    size_t len;
    char *text = qn_test_read(qn_test_shared("data/wikitext2/wiki.test.raw"), &len);
    quern_tokenizer *t = qn_test_tokenizer_from_json(qn_test_shared("data/tokenizers/qwen3/tokenizer.json"), NULL);
    expect_count(t, text, len, QUERN_ENCODE_PARSE_SPECIAL, 299078);
    quern_tokenizer_destroy(t);
    t = qn_test_tokenizer_from_json(qn_test_shared("data/tokenizers/llama3/tokenizer.json"), NULL);
    expect_count(t, text, len, QUERN_ENCODE_PARSE_SPECIAL, 289076);
    quern_tokenizer_destroy(t);
    t = qn_test_tokenizer_from_gguf(qn_test_shared("data/tokenizers/ggml-vocab-llama-spm.gguf"));
    expect_count(t, text, len, QUERN_ENCODE_PARSE_SPECIAL, 335687);
    expect_count(t, text, len, QUERN_ENCODE_PARSE_SPECIAL | QUERN_ENCODE_ADD_BOS, 335688);
    quern_tokenizer_destroy(t);
    qn_free(text);
}

/* ---- export: what is written for GGUF gives the same ids when read ---- */

static void check_export(const quern_tokenizer *t, size_t n_vocab, const char *pre, const char *text, size_t len)
{
    quern_error err = {0};
    qn_vocab_export e;
    quern_tokenizer *again;
    quern_ids want = {0};
    assert_ok(qn_tokenizer_export(t, n_vocab, &e, &err));
    assert_string_equal(e.spec.pre, pre);
    assert_int_equal(e.spec.n_tokens, n_vocab);
    assert_ok(qn_tokenizer_create_from_spec(&again, &e.spec, &err));
    for (size_t at = 0; at < len; at += 1000) {
        size_t n = len - at < 1500 ? len - at : 1500;
        for (int flags = 0; flags < 4; flags++) {
            want.len = 0;
            assert_ok(quern_tokenizer_encode(t, text + at, n, flags, &want, &err));
            qn_test_expect_ids(again, text + at, n, flags, want.data, want.len);
        }
    }
    const quern_tokenizer_info *a = quern_tokenizer_get_info(t), *b = quern_tokenizer_get_info(again);
    assert_int_equal(a->bos_id, b->bos_id);
    assert_int_equal(a->eos_id, b->eos_id);
    assert_int_equal(a->add_bos, b->add_bos);
    assert_int_equal(a->n_added, b->n_added);
    for (size_t id = 0; id < n_vocab; id++) {
        size_t len_a = 0, len_b = 0;
        const char *text_a = quern_tokenizer_get_text(t, (int32_t)id, &len_a),
                   *text_b = quern_tokenizer_get_text(again, (int32_t)id, &len_b);
        assert_int_equal(quern_tokenizer_get_kind(t, (int32_t)id), quern_tokenizer_get_kind(again, (int32_t)id));
        if (quern_tokenizer_get_kind(t, (int32_t)id) != QUERN_TOKEN_UNUSED) {
            assert_int_equal(len_a, len_b);
            assert_memory_equal(text_a, text_b, len_a);
        }
    }
    quern_ids_deinit(&want);
    quern_tokenizer_destroy(again);
    qn_vocab_export_deinit(&e);
}

static void export_round_trip(void **state)
{
    (void)state;
    static const struct {
        const char *json, *config, *gguf, *pre;
        size_t n_vocab;
    } cases[] = {
        {"data/tokenizers/qwen3/tokenizer.json", "data/tokenizers/qwen3/tokenizer_config.json", NULL, "qwen2", 151936},
        {"data/tokenizers/llama3/tokenizer.json", NULL, NULL, "llama-bpe", 128256},
        {"data/tokenizers/mistral-7b/tokenizer.json", "data/tokenizers/mistral-7b/tokenizer_config.json", NULL, "default", 32000},
        {NULL, NULL, "data/tokenizers/ggml-vocab-llama-spm.gguf", "default", 32003},
        {NULL, NULL, "data/tokenizers/ggml-vocab-deepseek-coder.gguf", "deepseek-coder", 32256},
    };
    size_t len, code_len;
    const char *cases_path = qn_test_shared("data/tokenizers/ggml-vocab-llama-spm.gguf.inp");
    char *text = qn_test_read(cases_path, &len);
    const char *code_path = qn_test_shared("data/code_text/gate.txt");
    char *code = code_path != NULL ? qn_test_read(code_path, &code_len) : NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = qn_test_shared(cases[i].json != NULL ? cases[i].json : cases[i].gguf);
        if (path == NULL) {
            print_message("SKIP: %s: not in this checkout\n", cases[i].json != NULL ? cases[i].json : cases[i].gguf);
            continue;
        }
        quern_tokenizer *t = cases[i].gguf != NULL
                                 ? qn_test_tokenizer_from_gguf(path)
                                 : qn_test_tokenizer_from_json(path, cases[i].config != NULL ? qn_test_shared(cases[i].config) : NULL);
        check_export(t, cases[i].n_vocab, cases[i].pre, text, len);
        if (code != NULL) {
            check_export(t, cases[i].n_vocab, cases[i].pre, code, code_len < 20000 ? code_len : 20000);
        }
        quern_tokenizer_destroy(t);
    }
    qn_free(text);
    qn_free(code);
}

/* ---- recorded from Hugging Face's library ---- */

/* The base tokenizer with some members replaced. */
static quern_tokenizer *make_recorded(const qn_json *tokenizers, const qn_json *c)
{
    quern_error err = {0};
    quern_tokenizer *t;
    qn_buf text;
    qn_json *whole = qn_json_clone(qn_json_get(tokenizers, qn_json_string(qn_json_get(c, "base"), NULL)));
    const qn_json *set = qn_json_get(c, "set");
    for (qn_json_iterator *it = qn_json_iter(set); it != NULL; it = qn_json_next(set, it)) {
        const char *key = qn_json_iter_key(it, NULL);
        qn_json *value = qn_json_clone(qn_json_iter_value(it));
        if (strncmp(key, "model.", 6) == 0) {
            qn_json *model = qn_json_clone(qn_json_get(whole, "model"));
            assert_true(qn_json_set(model, key + 6, value));
            key = "model";
            value = model;
        }
        assert_true(qn_json_set(whole, key, value));
    }
    qn_buf_init(&text, 1u << 24);
    assert_true(qn_json_write(whole, 0, &text));
    quern_status status = quern_tokenizer_create_from_json(&t, text.data, text.len, NULL, 0, &err);
    if (status != QUERN_OK) {
        print_error("%s: %s\n", qn_json_string(qn_json_get(c, "name"), NULL), err.message);
    }
    assert_int_equal(status, QUERN_OK);
    qn_buf_deinit(&text);
    qn_json_free(whole);
    return t;
}

static void recorded(void **state)
{
    (void)state;
    quern_error err = {0};
    size_t len, n_texts = 0;
    char *file = qn_test_read(qn_test_data("tokenizer/recorded.json"), &len);
    qn_json *root;
    assert_ok(qn_json_parse(&root, file, len, QN_JSON_ALLOW_NUL, "recorded.json", &err));
    const qn_json *cases = qn_json_get(root, "cases");
    assert_true(qn_json_length(cases) > 30);
    for (size_t i = 0; i < qn_json_length(cases); i++) {
        const qn_json *c = qn_json_at(cases, i), *texts = qn_json_get(c, "texts");
        quern_tokenizer *t = make_recorded(qn_json_get(root, "tokenizers"), c);
        for (size_t k = 0; k < qn_json_length(texts); k++, n_texts++) {
            const qn_json *x = qn_json_at(texts, k);
            size_t text_len, decoded_len, n;
            const char *text = qn_json_string(qn_json_get(x, "text"), &text_len),
                       *decoded = qn_json_string(qn_json_get(x, "decoded"), &decoded_len);
            int32_t *ids = qn_test_json_ids(qn_json_get(x, "ids"), &n);
            qn_test_expect_ids(t, text, text_len, QUERN_ENCODE_PARSE_SPECIAL, ids, n);
            qn_test_expect_text(t, ids, n, true, decoded, decoded_len);
            qn_free(ids);
            const qn_json *plain = qn_json_get(x, "plain");
            ids = qn_test_json_ids(plain != NULL ? plain : qn_json_get(x, "ids"), &n);
            qn_test_expect_ids(t, text, text_len, 0, ids, n);
            qn_free(ids);
        }
        quern_tokenizer_destroy(t);
    }
    assert_true(n_texts > 600);
    qn_json_free(root);
    qn_free(file);
}

/* ---- loading time, with room for a busy machine ---- */

static void loads_quickly(void **state)
{
    (void)state;
    static const char path[] = "data/tokenizers/ggml-vocab-qwen2.gguf";
    if (missing(path)) {
        skip();
    }
    quern_error err = {0};
    qn_test_vocab v;
    quern_tokenizer *t;
    qn_test_vocab_open(&v, qn_test_shared(path));
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        uint64_t begin = qn_clock_ns();
        assert_ok(qn_tokenizer_create_from_spec(&t, &v.spec, &err));
        double seconds = qn_clock_seconds(begin, qn_clock_ns());
        best = seconds < best ? seconds : best;
        quern_tokenizer_destroy(t);
    }
    print_message("a GGUF vocabulary of %zu tokens loads in %.3f s\n", v.spec.n_tokens, best);
    assert_true(best < 3);
    qn_test_vocab_close(&v);
}

/* ---- vocabularies of models that cannot run ---- */

/* A GGUF's tokenizer does not depend on its architecture. */
static void vocabulary_of_any_architecture(void **state)
{
    (void)state;
    static const char key[] = "general.architecture";
    static const char text[] = "def f(x):\n    return x";
    const quern_model_options words = {.vocabulary_only = true}, plain = {.without_weights = true};
    quern_error err = {0};
    size_t size;
    char *data = qn_test_read(qn_test_shared("data/tokenizers/ggml-vocab-llama-spm.gguf"), &size);
    size_t at = 0;
    while (memcmp(data + at, key, sizeof key - 1) != 0) {
        at++;
        assert_true(at + 64 < size);
    }
    char *name = data + at + sizeof key - 1 + 4 + 8; /* behind the value's type and length */
    assert_memory_equal(name, "llama", 5);
    quern_ids want = {0}, ids = {0};
    for (int round = 0; round < 2; round++) {
        quern_model *m = NULL;
        assert_ok(quern_model_open_memory(&m, data, size, "vocabulary", &words, &err));
        const quern_tokenizer *t = quern_model_get_tokenizer(m);
        assert_non_null(t);
        assert_ok(quern_tokenizer_encode(t, text, sizeof text - 1, 0, round == 0 ? &want : &ids, &err));
        assert_string_equal(quern_model_get_info(m)->architecture, "");
        assert_int_equal(quern_model_get_info(m)->n_layers, 0);
        assert_int_equal(quern_model_get_info(m)->n_stop_ids, 1); /* the tokenizer's own */
        quern_model_close(m);
        memcpy(name, "bloom", 5);
        assert_int_equal(quern_model_open_memory(&m, data, size, "vocabulary", &plain, &err), QUERN_ERROR_UNSUPPORTED);
        assert_null(m);
    }
    assert_true(want.len > 5 && ids.len == want.len);
    assert_memory_equal(ids.data, want.data, want.len * sizeof *want.data);
    quern_ids_deinit(&want);
    quern_ids_deinit(&ids);
    qn_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_llama_spm),      cmocka_unit_test(gguf_qwen2),
        cmocka_unit_test(gguf_gpt2),           cmocka_unit_test(gguf_starcoder),
        cmocka_unit_test(gguf_deepseek_coder), cmocka_unit_test(gguf_deepseek_r1_qwen),
        cmocka_unit_test(json_llama3),         cmocka_unit_test(json_qwen3),
        cmocka_unit_test(golden_encode_cases), cmocka_unit_test(wikitext_counts),
        cmocka_unit_test(export_round_trip),   cmocka_unit_test(recorded),
        cmocka_unit_test(loads_quickly),       cmocka_unit_test(vocabulary_of_any_architecture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
