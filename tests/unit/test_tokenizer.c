/* test_tokenizer.c - the tokenizer's interface: encoding and its edges, trust, decoding whole and as a stream. */
#include <pthread.h>

#include "qn_test_tokenizer.h"

static quern_tokenizer *golden(void)
{
    return qn_test_tokenizer_from_json(qn_test_golden("tokenizer/tokenizer.json"), qn_test_golden("tokenizer/tokenizer_config.json"));
}

static bool missing(const char *name)
{
    if (qn_test_shared(name) == NULL) {
        print_message("SKIP: %s: not in this checkout\n", name);
        return true;
    }
    return false;
}

/* ---- what a tokenizer says of itself ---- */

static void info(void **state)
{
    (void)state;
    quern_tokenizer *t = golden();
    const quern_tokenizer_info *i = quern_tokenizer_get_info(t);
    assert_string_equal(i->model, "bpe");
    assert_string_equal(i->pre_tokenizer, "qwen2");
    assert_int_equal(i->n_tokens, 512);
    assert_int_equal(i->n_added, 3);
    assert_int_equal(i->bos_id, -1);
    assert_int_equal(i->eos_id, 511);
    assert_int_equal(i->pad_id, 509);
    assert_int_equal(i->unk_id, -1);
    assert_false(i->add_bos || i->add_eos);
    size_t len = 99;
    assert_memory_equal(quern_tokenizer_get_text(t, 220, &len), " ", 1); /* stored as the printable U+0120 */
    assert_int_equal(len, 1);
    assert_memory_equal(quern_tokenizer_get_text(t, 511, &len), "<|im_end|>", 10);
    assert_int_equal(len, 10);
    assert_null(quern_tokenizer_get_text(t, 512, &len));
    assert_null(quern_tokenizer_get_text(t, -1, NULL));
    assert_int_equal(quern_tokenizer_get_kind(t, 511), QUERN_TOKEN_CONTROL);
    assert_int_equal(quern_tokenizer_get_kind(t, 0), QUERN_TOKEN_NORMAL);
    assert_int_equal(quern_tokenizer_get_kind(t, 100000), QUERN_TOKEN_UNUSED);
    assert_int_equal(quern_tokenizer_find(t, " ", 1), 220);
    assert_int_equal(quern_tokenizer_find(t, "<|im_end|>", 10), 511);
    assert_int_equal(quern_tokenizer_find(t, "<|im_end|", 9), -1);
    quern_tokenizer_destroy(t);
    quern_tokenizer_destroy(NULL);
}

/* ---- encoding ---- */

static void encoding_appends(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = golden();
    quern_ids ids = {0};
    assert_ok(quern_tokenizer_encode(t, "", 0, 0, &ids, &err));
    assert_int_equal(ids.len, 0);
    assert_ok(quern_tokenizer_encode(t, NULL, 0, QUERN_ENCODE_ADD_BOS, &ids, &err)); /* no BOS in this vocabulary */
    assert_int_equal(ids.len, 0);
    assert_ok(quern_tokenizer_encode(t, "a", 1, 0, &ids, &err));
    assert_ok(quern_tokenizer_encode(t, "b", 1, 0, &ids, &err));
    assert_int_equal(ids.len, 2);
    assert_int_equal(ids.data[0], 64);
    assert_int_equal(ids.data[1], 65);
    assert_ok(quern_tokenizer_encode_segments(t, NULL, 0, 0, &ids, &err));
    assert_int_equal(ids.len, 2);
    quern_ids_deinit(&ids);
    assert_null(ids.data);
    quern_tokenizer_destroy(t);
}

/* Any bytes go in, and come back: NUL, invalid UTF-8, cut characters. */
static void any_bytes_round_trip(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = qn_test_golden_variant("normalizer", "null", NULL, NULL, &err);
    assert_non_null(t);
    char text[300];
    uint32_t random = 1;
    for (int round = 0; round < 500; round++) {
        size_t n = 0;
        for (size_t len = (size_t)round % sizeof text; n < len; n++) {
            random = random * 1664525u + 1013904223u;
            uint32_t kind = random >> 28;
            text[n] = (char)(kind < 6 ? (random >> 8) & 0xff : (kind < 12 ? ' ' + ((random >> 8) & 63) : 0xc3));
        }
        quern_ids ids = {0};
        assert_ok(quern_tokenizer_encode(t, text, n, 0, &ids, &err));
        qn_test_expect_text(t, ids.data, ids.len, true, text, n);
        quern_ids_deinit(&ids);
    }
    static const int32_t zero_bytes[] = {188, 188};
    qn_test_expect_ids(t, "\0\0", 2, 0, zero_bytes, 2);
    quern_tokenizer_destroy(t);
}

/* NFC is applied to what is UTF-8; other bytes stay. */
static void nfc_keeps_other_bytes(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = golden();
    quern_ids ids = {0};
    static const char text[] = "\xff"
                               "e\xcc\x81\xcc\x61";
    assert_ok(quern_tokenizer_encode(t, text, sizeof text - 1, 0, &ids, &err));
    qn_test_expect_text(t, ids.data, ids.len, true, "\xff\xc3\xa9\xcc\x61", 5);
    quern_ids_deinit(&ids);
    quern_tokenizer_destroy(t);
}

/* One piece of a megabyte, and a normalization of a megabyte of marks out of order: the time limit of the test is the assertion. */
static void long_pieces(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = golden();
    size_t n = 1u << 20;
    char *text = qn_malloc(n);
    assert_non_null(text);
    static const char *const units[] = {"a", " ", "\n", ".", "ab", "he", "\xcc\x81\xcc\xa7", "\xcc"};
    for (size_t k = 0; k < sizeof units / sizeof units[0]; k++) {
        size_t unit = strlen(units[k]);
        for (size_t i = 0; i < n; i++) {
            text[i] = units[k][i % unit];
        }
        quern_ids ids = {0};
        char *back = NULL;
        size_t back_len;
        assert_ok(quern_tokenizer_encode(t, text, n, QUERN_ENCODE_PARSE_SPECIAL, &ids, &err));
        assert_ok(quern_tokenizer_decode(t, ids.data, ids.len, true, &back, &back_len, &err));
        assert_int_equal(back_len, n);
        if (unit != 4) { /* marks are put in order */
            assert_memory_equal(back, text, n);
        }
        quern_free(back);
        quern_ids_deinit(&ids);
    }
    qn_free(text);
    quern_tokenizer_destroy(t);
}

/* ---- trust ---- */

static quern_ids encode_marked(const quern_tokenizer *t, const quern_segment *segments, size_t n)
{
    quern_error err = {0};
    quern_ids ids = {0};
    assert_ok(quern_tokenizer_encode_segments(t, segments, n, 0, &ids, &err));
    return ids;
}

#define TRUSTED(s) \
    { \
        (s), sizeof(s) - 1, true \
    }
#define USER(s) \
    { \
        (s), sizeof(s) - 1, false \
    }

static void expect_same(const quern_tokenizer *t, quern_ids *got, const quern_segment *segments, size_t n)
{
    quern_ids want = encode_marked(t, segments, n);
    assert_int_equal(got->len, want.len);
    assert_memory_equal(got->data, want.data, want.len * sizeof *want.data);
    quern_ids_deinit(&want);
    quern_ids_deinit(got);
}

static void trust_borders(void **state)
{
    (void)state;
    quern_tokenizer *t = golden();
    /* a special token may span trusted segments, but not touch an untrusted character */
    const quern_segment whole[] = {TRUSTED("<|im_start|>user\nhi<|im_end|>")};
    const quern_segment cut[] = {TRUSTED("<|im"), TRUSTED("_start|"), TRUSTED(">us"), TRUSTED("er\nhi<|im_end"),
                                 TRUSTED(""),     USER(""),           TRUSTED("|>")};
    quern_ids ids = encode_marked(t, cut, 7);
    assert_int_equal(ids.data[0], 510);
    assert_int_equal(ids.data[ids.len - 1], 511);
    expect_same(t, &ids, whole, 1);
    const quern_segment touched[] = {TRUSTED("<|im_en"), USER("d"), TRUSTED("|>")};
    const quern_segment plain[] = {USER("<|im_end|>")};
    ids = encode_marked(t, touched, 3);
    for (size_t i = 0; i < ids.len; i++) {
        assert_true(ids.data[i] < 509);
    }
    expect_same(t, &ids, plain, 1);
    /* what lies between two special tokens is one text, whatever its trust */
    const quern_segment mixed[] = {TRUSTED("<|im_start|>def retu"), USER("rn the"), TRUSTED("m<|im_end|>")};
    const quern_segment joined[] = {TRUSTED("<|im_start|>"), USER("def return them"), TRUSTED("<|im_end|>")};
    ids = encode_marked(t, mixed, 3);
    expect_same(t, &ids, joined, 3);
    quern_tokenizer_destroy(t);
}

/* Every added token, spelled by a user alone and inside text, with and without trusted text around, gives none of the special kinds. */
static void expect_no_injection(const quern_tokenizer *t)
{
    static const char *const attacks[] = {"<|im_end|>",    "<|im_start|>",      "[INST]",       "[/INST]",     "<s>",
                                          "</s>",          "<|eot_id|>",        "<0x0A>",       "<0x00>",      "<unk>",
                                          "<|endoftext|>", "<|begin_of_text|>", "<fim_prefix>", "<tool_call>", "<|start_header_id|>"};
    size_t n_tokens = quern_tokenizer_get_info(t)->n_tokens, n_attacks = sizeof attacks / sizeof attacks[0];
    for (size_t k = 0; k < n_tokens + n_attacks; k++) {
        size_t len;
        const char *text;
        if (k < n_tokens) {
            quern_token_kind kind = quern_tokenizer_get_kind(t, (int32_t)k);
            text = quern_tokenizer_get_text(t, (int32_t)k, &len);
            if (kind == QUERN_TOKEN_NORMAL || kind == QUERN_TOKEN_UNUSED) {
                continue;
            }
        } else {
            text = attacks[k - n_tokens];
            len = strlen(text);
        }
        const quern_segment segments[] = {TRUSTED("x "),      {text, len, false}, USER(" "),
                                          {text, len, false}, {text, len, false}, TRUSTED("y")};
        quern_ids ids = encode_marked(t, segments, 6);
        quern_ids plain = {0};
        quern_error err = {0};
        assert_ok(quern_tokenizer_encode(t, text, len, 0, &plain, &err));
        assert_true(plain.len > 0);
        for (size_t i = 0; i < ids.len + plain.len; i++) {
            int32_t id = i < ids.len ? ids.data[i] : plain.data[i - ids.len];
            quern_token_kind kind = quern_tokenizer_get_kind(t, id);
            if (kind != QUERN_TOKEN_NORMAL) {
                print_error("text \"%.*s\" gave token %d of kind %d\n", (int)len, text, id, (int)kind);
            }
            assert_int_equal(kind, QUERN_TOKEN_NORMAL);
        }
        quern_ids_deinit(&ids);
        quern_ids_deinit(&plain);
    }
}

/* Kind BYTE appears for characters without a token, so SentencePiece vocabularies are asked with ASCII texts only, which have tokens. */
static void no_injection(void **state)
{
    (void)state;
    static const char *const jsons[] = {"data/tokenizers/qwen3/tokenizer.json", "data/tokenizers/llama3/tokenizer.json",
                                        "data/tokenizers/mistral-7b/tokenizer.json"};
    static const char *const ggufs[] = {"llama-spm", "qwen2", "gpt-2", "starcoder", "deepseek-coder"};
    quern_tokenizer *t = golden();
    expect_no_injection(t);
    quern_tokenizer_destroy(t);
    for (size_t i = 0; i < sizeof jsons / sizeof jsons[0]; i++) {
        if (!missing(jsons[i])) {
            t = qn_test_tokenizer_from_json(qn_test_shared(jsons[i]), NULL);
            expect_no_injection(t);
            quern_tokenizer_destroy(t);
        }
    }
    for (size_t i = 0; i < sizeof ggufs / sizeof ggufs[0]; i++) {
        char path[256];
        (void)snprintf(path, sizeof path, "data/tokenizers/ggml-vocab-%s.gguf", ggufs[i]);
        if (!missing(path)) {
            t = qn_test_tokenizer_from_gguf(qn_test_shared(path));
            expect_no_injection(t);
            quern_tokenizer_destroy(t);
        }
    }
}

/* Vocabularies in which merging, or taking whole pieces, would make a control token out of user text. */
static void merges_make_no_control_token(void **state)
{
    (void)state;
    quern_error err = {0};
#define SPAN(s) \
    { \
        (s), sizeof(s) - 1 \
    }
    static const qn_text_span tokens[] = {SPAN("<unk>"), SPAN("<s>"), SPAN("</s>"), SPAN("<0x0A>"), SPAN("\xe2\x96\x81"), SPAN("<"),
                                          SPAN("s"),     SPAN(">"),   SPAN("/"),    SPAN("<s"),     SPAN("s>"),           SPAN("</"),
                                          SPAN("0"),     SPAN("x"),   SPAN("A"),    SPAN("<0"),     SPAN("x0"),           SPAN("A>"),
                                          SPAN("<0x0"),  SPAN("do"),  SPAN("d"),    SPAN("o"),      SPAN("<0x")};
    static const float scores[] = {0, 0, 0, 0, -1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12, -13, -14, -15, -1, -17, -18, -19};
    static const int32_t types[] = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1, 1, 1};
    qn_vocab_spec spec = {.what = "test",
                          .model = "llama",
                          .tokens = tokens,
                          .n_tokens = sizeof tokens / sizeof tokens[0],
                          .scores = scores,
                          .types = types,
                          .bos_id = 1,
                          .eos_id = 2,
                          .unk_id = 0,
                          .pad_id = -1,
                          .add_bos = -1,
                          .add_eos = -1,
                          .add_space_prefix = 0};
    quern_tokenizer *t;
    assert_ok(qn_tokenizer_create_from_spec(&t, &spec, &err));
    static const int32_t begin[] = {9, 7}, end[] = {11, 10}, byte[] = {18, 17}, word[] = {20, 21}, control[] = {1, 2, 19};
    qn_test_expect_ids(t, "<s>", 3, 0, begin, 2);
    qn_test_expect_ids(t, "</s>", 4, 0, end, 2);
    qn_test_expect_ids(t, "<0x0A>", 6, 0, byte, 2);
    qn_test_expect_ids(t, "do", 2, 0, word, 2); /* user-defined tokens are added tokens too */
    qn_test_expect_ids(t, "<s></s>do", 9, QUERN_ENCODE_PARSE_SPECIAL, control, 3);
    qn_test_expect_ids(t, "<0x0A>", 6, QUERN_ENCODE_PARSE_SPECIAL, byte, 2);
    static const int32_t newline[] = {3};
    qn_test_expect_ids(t, "\n", 1, 0, newline, 1);
    quern_tokenizer_destroy(t);

    static const qn_text_span pieces[] = {SPAN("a"), SPAN("b"), SPAN("c"), SPAN("ab"), SPAN("abc"), SPAN("bc")};
    static const qn_text_span merges[] = {SPAN("a b"), SPAN("ab c"), SPAN("b c")};
    static const int32_t kinds[] = {1, 1, 1, 1, 3, 1};
    spec = (qn_vocab_spec){.what = "test",
                           .model = "gpt2",
                           .pre = "llama-bpe",
                           .tokens = pieces,
                           .n_tokens = 6,
                           .types = kinds,
                           .merges = merges,
                           .n_merges = 3,
                           .bos_id = 4,
                           .eos_id = -1,
                           .unk_id = -1,
                           .pad_id = -1,
                           .add_bos = -1,
                           .add_eos = -1,
                           .add_space_prefix = -1};
    assert_ok(qn_tokenizer_create_from_spec(&t, &spec, &err));
    static const int32_t apart[] = {3, 2}, whole[] = {4};
    assert_true(quern_tokenizer_get_info(t)->add_bos); /* what this pre-tokenizer name implies */
    qn_test_expect_ids(t, "abc", 3, 0, apart, 2);
    qn_test_expect_ids(t, "abc", 3, QUERN_ENCODE_PARSE_SPECIAL, whole, 1);
    quern_tokenizer_destroy(t);
}

/* A user-defined token of one character is how that character is spelled; a control token is not, and its character is lost. */
static void characters_are_not_lost(void **state)
{
    (void)state;
    quern_error err = {0};
    static const qn_text_span tokens[] = {SPAN("a"), SPAN("b"), SPAN("c"), SPAN("ab")}, merges[] = {SPAN("a b")};
    static const int32_t types[] = {4, 1, 3, 1};
    static const float scores[] = {-1, -2, -3, -4};
    qn_vocab_spec spec = {.what = "test",
                          .model = "gpt2",
                          .pre = "gpt-2",
                          .tokens = tokens,
                          .n_tokens = 4,
                          .scores = scores,
                          .types = types,
                          .merges = merges,
                          .n_merges = 1,
                          .bos_id = -1,
                          .eos_id = -1,
                          .unk_id = -1,
                          .pad_id = -1,
                          .add_bos = -1,
                          .add_eos = -1,
                          .add_space_prefix = 0};
    static const int32_t ids[] = {3, 3, 0}, parsed[] = {0, 1, 0, 2, 1, 0};
    for (int k = 0; k < 2; k++) {
        quern_tokenizer *t;
        spec.model = k == 0 ? "gpt2" : "llama";
        assert_ok(qn_tokenizer_create_from_spec(&t, &spec, &err));
        qn_test_expect_ids(t, "abacba", 6, 0, ids, 3);
        qn_test_expect_ids(t, "abacba", 6, QUERN_ENCODE_PARSE_SPECIAL, parsed, 6);
        quern_tokenizer_destroy(t);
    }
}

/* Added tokens that are looked for in normalized text: what was made of an untrusted character is not trusted. */
static void trust_survives_normalizing(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = qn_test_golden_variant("added_tokens",
                                                "[{\"id\":511,\"content\":\"<|\xc3\xa9|>\",\"normalized\":true,\"special\":true}]",
                                                "model.unk_token", "null", &err);
    assert_non_null(t);
    const quern_segment trusted[] = {TRUSTED("<|e\xcc\x81|>")};
    const quern_segment untrusted[] = {TRUSTED("e\xcc\x81<|e"), USER("\xcc\x81"), TRUSTED("|>e\xcc\x81")};
    const quern_segment late[] = {USER("<|e\xcc\x81|>"), TRUSTED("e\xcc\x81 <|e\xcc\x81|>")};
    quern_ids ids = encode_marked(t, trusted, 1);
    assert_int_equal(ids.len, 1);
    assert_int_equal(ids.data[0], 511);
    quern_ids_deinit(&ids);
    ids = encode_marked(t, untrusted, 3);
    for (size_t i = 0; i < ids.len; i++) {
        assert_int_not_equal(ids.data[i], 511);
    }
    quern_ids_deinit(&ids);
    ids = encode_marked(t, late, 2);
    assert_int_equal(ids.data[ids.len - 1], 511);
    for (size_t i = 0; i + 1 < ids.len; i++) {
        assert_int_not_equal(ids.data[i], 511);
    }
    quern_ids_deinit(&ids);
    quern_tokenizer_destroy(t);
}

/* ---- decoding ---- */

static void decode_special_tokens(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = golden();
    static const int32_t ids[] = {510, 64, 511, 65, 509, 700, 511};
    qn_test_expect_text(t, ids, 7, true, "<|im_start|>a<|im_end|>b<|endoftext|><|im_end|>", 47);
    qn_test_expect_text(t, ids, 7, false, "ab", 2);
    static const int32_t negative[] = {64, -1};
    char *text = NULL;
    size_t len;
    assert_int_equal(quern_tokenizer_decode(t, negative, 2, true, &text, &len, &err), QUERN_ERROR_INVALID);
    assert_null(text);
    qn_test_expect_text(t, NULL, 0, true, "", 0);
    quern_tokenizer_destroy(t);
}

/* Pushes ids one by one; checks that each part is whole UTF-8; returns all of it. */
static void stream(quern_decoder *d, const int32_t *ids, size_t n, qn_buf *out)
{
    quern_error err = {0};
    const char *text;
    size_t len;
    qn_buf_reset(out);
    for (size_t i = 0; i <= n; i++) {
        if (i < n) {
            assert_ok(quern_decoder_push(d, ids[i], &text, &len, &err));
        } else {
            assert_ok(quern_decoder_finish(d, &text, &len, &err));
        }
        for (size_t k = 0; k < len; k++) { /* no part begins or ends inside a character */
            assert_true(k > 0 || ((unsigned char)text[0] & 0xc0) != 0x80);
        }
        assert_true(len == 0 || qn_buf_append(out, text, len));
    }
}

static void streaming(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = golden();
    quern_decoder *d;
    qn_buf out;
    quern_ids ids = {0};
    qn_buf_init(&out, 1u << 20);
    assert_ok(quern_decoder_create(&d, t, true, &err));
    static const char text[] = "a\xf0\x9f\x99\x82 \xe6\x97\xa5\xe6\x9c\xac<|im_end|>\xc3\xa9\n";
    assert_ok(quern_tokenizer_encode(t, text, sizeof text - 1, QUERN_ENCODE_PARSE_SPECIAL, &ids, &err));
    assert_true(ids.len > 10);
    stream(d, ids.data, ids.len, &out);
    assert_string_equal(qn_buf_text(&out), text);
    /* the first three bytes of a character give nothing, the fourth all of it */
    quern_decoder_reset(d);
    const char *part;
    size_t len;
    for (size_t i = 1; i < 5; i++) {
        assert_ok(quern_decoder_push(d, ids.data[i], &part, &len, &err));
        assert_int_equal(len, i < 4 ? 0 : 4);
    }
    assert_memory_equal(part, "\xf0\x9f\x99\x82", 4);
    quern_decoder_destroy(d);
    quern_decoder_destroy(NULL);
    quern_ids_deinit(&ids);
    qn_buf_deinit(&out);
    quern_tokenizer_destroy(t);
}

/* Broken sequences come out as U+FFFD, one for each that Unicode's recommended practice counts (3.9, table 3-8). */
static void streaming_broken_text(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = qn_test_golden_variant("normalizer", "null", NULL, NULL, &err);
    quern_decoder *d;
    qn_buf out;
#define R "\xef\xbf\xbd"
    static const struct {
        const char *in, *out;
    } cases[] = {{"\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", "a" R R R "b" R "c" R R "d"},
                 {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", R R R R R R R R "A"},
                 {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", R R R R R R R R "A"},
                 {"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", R R R R R "A" R R "B"},
                 {"ok\xe6\x97", "ok" R},
                 {"\xf0\x9f\x99", R}};
    qn_buf_init(&out, 1u << 20);
    assert_ok(quern_decoder_create(&d, t, false, &err));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        quern_ids ids = {0};
        assert_ok(quern_tokenizer_encode(t, cases[i].in, strlen(cases[i].in), 0, &ids, &err));
        quern_decoder_reset(d);
        stream(d, ids.data, ids.len, &out);
        assert_string_equal(qn_buf_text(&out), cases[i].out);
        quern_ids_deinit(&ids);
    }
    const char *text;
    size_t len;
    assert_int_equal(quern_decoder_push(d, -5, &text, &len, &err), QUERN_ERROR_INVALID);
    assert_int_equal(len, 0);
    quern_decoder_destroy(d);
    qn_buf_deinit(&out);
    quern_tokenizer_destroy(t);
}

/* ---- one tokenizer, several threads ---- */

typedef struct worker {
    const quern_tokenizer *t;
    const char *text;
    size_t len;
    quern_ids ids;
    quern_status status;
} worker;

static void *run_worker(void *user)
{
    worker *w = user;
    for (int i = 0; i < 5 && w->status == QUERN_OK; i++) {
        w->ids.len = 0;
        w->status = quern_tokenizer_encode(w->t, w->text, w->len, QUERN_ENCODE_PARSE_SPECIAL, &w->ids, NULL);
    }
    return NULL;
}

static void threads(void **state)
{
    (void)state;
    quern_error err = {0};
    size_t len;
    char *text = qn_test_read(qn_test_data("README.md"), &len);
    quern_tokenizer *tokenizers[] = {
        golden(),
        qn_test_golden_variant("pre_tokenizer",
                               "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\w+|\\\\s\"},"
                               "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}",
                               NULL, NULL, &err)};
    for (size_t k = 0; k < 2; k++) {
        pthread_t ids[4];
        worker workers[4];
        for (size_t i = 0; i < 4; i++) {
            workers[i] = (worker){.t = tokenizers[k], .text = text, .len = len};
            assert_int_equal(pthread_create(&ids[i], NULL, run_worker, &workers[i]), 0);
        }
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(ids[i], NULL), 0);
            assert_int_equal(workers[i].status, QUERN_OK);
            assert_int_equal(workers[i].ids.len, workers[0].ids.len);
            assert_memory_equal(workers[i].ids.data, workers[0].ids.data, workers[0].ids.len * sizeof(int32_t));
        }
        for (size_t i = 0; i < 4; i++) {
            quern_ids_deinit(&workers[i].ids);
        }
        quern_tokenizer_destroy(tokenizers[k]);
    }
    qn_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info),
        cmocka_unit_test(encoding_appends),
        cmocka_unit_test(any_bytes_round_trip),
        cmocka_unit_test(nfc_keeps_other_bytes),
        cmocka_unit_test(long_pieces),
        cmocka_unit_test(trust_borders),
        cmocka_unit_test(no_injection),
        cmocka_unit_test(merges_make_no_control_token),
        cmocka_unit_test(characters_are_not_lost),
        cmocka_unit_test(trust_survives_normalizing),
        cmocka_unit_test(decode_special_tokens),
        cmocka_unit_test(streaming),
        cmocka_unit_test(streaming_broken_text),
        cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
