/* test_tokenizer_compare.c - which differences between two tokenizers change what a reader gets, and which only spell the same otherwise. */
#include "qn_test.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "text/tokenizer_compare.h"

/* A SentencePiece vocabulary of some letters; `bytes` of the 256 byte tokens. */
static quern_tokenizer *make(const char *normalizer, const char *pre_tokenizer, const char *model, size_t n_bytes)
{
    quern_tokenizer *t = NULL;
    quern_error err = {0};
    qn_buf b;
    qn_buf_init(&b, 1u << 20);
    assert_true(qn_buf_printf(
        &b,
        "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}], \"normalizer\": %s, "
        "\"pre_tokenizer\": %s, \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": "
        "{\"String\": \"\xe2\x96\x81\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}]}, "
        "\"model\": {\"type\": \"BPE\", %s\"byte_fallback\": true, \"fuse_unk\": true, \"vocab\": {\"<unk>\": 0, \"\xe2\x96\x81\": 1, "
        "\"a\": 2, \"b\": 3, \"\xe2\x96\x81"
        "a\": 4",
        normalizer, pre_tokenizer, model));
    for (size_t i = 0; i < n_bytes; i++) {
        assert_true(qn_buf_printf(&b, ", \"<0x%02zX>\": %zu", i, 5 + i));
    }
    assert_true(qn_buf_printf(&b, "}, \"merges\": [\"\xe2\x96\x81 a\"]}}"));
    quern_status status = quern_tokenizer_create_from_json(&t, qn_buf_text(&b), b.len, NULL, 0, &err);
    if (status != QUERN_OK) {
        fail_msg("%s", err.message);
    }
    qn_buf_deinit(&b);
    return t;
}

typedef struct told {
    size_t n, n_matter;
    char text[1024];
} told;

static quern_status tell(void *user, bool matters, const char *sentence, quern_error *err)
{
    told *t = user;
    size_t len = strlen(t->text);
    (void)err;
    t->n++;
    t->n_matter += matters;
    (void)snprintf(t->text + len, sizeof t->text - len, "%s; ", sentence);
    return QUERN_OK;
}

#define REPLACE(from, to) "{\"type\": \"Replace\", \"pattern\": {\"String\": \"" from "\"}, \"content\": \"" to "\"}"
#define SEQUENCE(items) "{\"type\": \"Sequence\", \"normalizers\": [" items "]}"
#define PREPEND "{\"type\": \"Prepend\", \"prepend\": \"\xe2\x96\x81\"}"
#define BLANKS PREPEND ", " REPLACE(" ", "\xe2\x96\x81")
#define VISIBLE SEQUENCE(REPLACE(" ", "\xe2\x96\x81"))
#define SPLIT(text) "{\"type\": \"Split\", \"pattern\": {\"String\": \"" text "\"}, \"behavior\": \"Isolated\", \"invert\": false}"
#define METASPACE(scheme) \
    "{\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"" scheme "\", \"split\": false}"
#define UNKNOWN "\"unk_token\": \"<unk>\", "

static void differences_are_judged(void **state)
{
    (void)state;
    static const struct {
        const char *what, *source, *normalizer, *pre_tokenizer, *model;
        char expected; /* 'f'ault, 'n'ote, '-': nothing */
    } cases[] = {
        {"the same", SEQUENCE(BLANKS), SEQUENCE(BLANKS), "null", UNKNOWN, '-'},
        {"blanks in the pre-tokenizer", VISIBLE, "null", METASPACE("never"), UNKNOWN, 'n'},
        {"a blank in front more", VISIBLE, "null", METASPACE("first"), UNKNOWN, 'f'},
        {"a blank in front of a blank less", SEQUENCE(BLANKS), "null", METASPACE("first"), UNKNOWN, 'f'},
        {"no unknown token where every byte has one", SEQUENCE(BLANKS), SEQUENCE(BLANKS), "null", "", 'n'},
        {"a letter becomes another", SEQUENCE(BLANKS), SEQUENCE(BLANKS ", " REPLACE("zq", "b")), "null", UNKNOWN, 'f'},
        {"only in the source", SEQUENCE(BLANKS ", " REPLACE("zq", "b")), SEQUENCE(BLANKS), "null", UNKNOWN, 'f'},
        {"in front of the pre-tokenizer's blanks", VISIBLE, REPLACE("zq", "b"), METASPACE("never"), UNKNOWN, 'f'},
        {"a form of Unicode", SEQUENCE(BLANKS), SEQUENCE("{\"type\": \"NFKC\"}, " BLANKS), "null", UNKNOWN, 'f'},
        {"a step that does nothing", SEQUENCE(BLANKS), SEQUENCE(REPLACE("zq", "zq") ", " BLANKS), "null", UNKNOWN, 'n'},
        {"a cut by a literal", SEQUENCE(BLANKS), SEQUENCE(BLANKS), SPLIT("zq"), UNKNOWN, 'f'},
    };
    quern_error err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        told t = {0};
        quern_tokenizer *source = make(cases[i].source, "null", UNKNOWN, 256);
        quern_tokenizer *own = make(cases[i].normalizer, cases[i].pre_tokenizer, cases[i].model, 256);
        assert_int_equal(qn_tokenizer_compare(own, source, tell, &t, &err), QUERN_OK);
        char judged = t.n_matter > 0 ? 'f' : t.n > 0 ? 'n' : '-';
        if (judged != cases[i].expected) {
            fail_msg("%s: %c, expected %c: %s", cases[i].what, judged, cases[i].expected, t.text);
        }
        quern_tokenizer_destroy(own);
        quern_tokenizer_destroy(source);
    }
}

/* Where a byte has no token, text becomes the unknown one: another of those is a fault. */
static void an_unknown_token_that_is_needed_matters(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *source = make(SEQUENCE(BLANKS), "null", UNKNOWN, 0), *own = make(SEQUENCE(BLANKS), "null", "", 0);
    told t = {0};
    assert_int_equal(qn_tokenizer_compare(own, source, tell, &t, &err), QUERN_OK);
    assert_int_equal(t.n_matter, 1);
    assert_non_null(strstr(t.text, "what has no token becomes token -1, in the source 0"));
    quern_tokenizer_destroy(own);
    quern_tokenizer_destroy(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences_are_judged),
        cmocka_unit_test(an_unknown_token_that_is_needed_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
