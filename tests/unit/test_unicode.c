/* test_unicode.c - classes of characters and normalization forms against what Hugging Face's tokenizers library does with every character
 * (tests/data/tokenizer/classes.json), and the time and memory that normalizing takes. */
#include "qn_test_tokenizer.h"

#include <time.h>

#include "base/sha256.h"
#include "base/utf8.h"
#include "text/normalize.h"

static qn_json *recorded(void)
{
    quern_error err = {0};
    qn_json *root = NULL;
    size_t len;
    char *text = qn_test_read(qn_test_data("tokenizer/classes.json"), &len);
    assert_ok(qn_json_parse(&root, text, len, 0, "classes.json", &err));
    qn_free(text);
    return root;
}

/* ---- classes ---- */

static void check_class(const qn_json *root, const char *name, uint32_t class)
{
    enum { N_CODE_POINTS = 0x110000 };
    const qn_json *want = qn_json_get(qn_json_get(root, "classes"), name);
    quern_error err = {0};
    int64_t n_want = 0, n_members = 0;
    char hex[65], *members = qn_calloc(N_CODE_POINTS, 1);
    assert_non_null(members);
    for (uint32_t cp = 0; cp < N_CODE_POINTS; cp++) {
        members[cp] = (qn_unicode_class(cp) & class) != 0 ? 1 : 0;
        n_members += members[cp];
    }
    assert_ok(qn_sha256_bytes(members, N_CODE_POINTS, hex, &err));
    assert_true(qn_json_int(qn_json_at(want, 0), &n_want) && n_want > 0);
    print_message("%s: %lld characters, the library has %lld\n", name, (long long)n_members, (long long)n_want);
    assert_int_equal(n_members, n_want);
    assert_string_equal(hex, qn_json_string(qn_json_at(want, 1), NULL));
    qn_free(members);
}

static void classes_are_the_library_s(void **state)
{
    (void)state;
    qn_json *root = recorded();
    check_class(root, "L", QN_CLASS_L);
    check_class(root, "N", QN_CLASS_N);
    check_class(root, "M", QN_CLASS_M);
    check_class(root, "P", QN_CLASS_P);
    check_class(root, "S", QN_CLASS_S);
    check_class(root, "space", QN_CLASS_SPACE);
    check_class(root, "upper", QN_CLASS_UPPER);
    check_class(root, "lower", QN_CLASS_LOWER);
    check_class(root, "word", QN_CLASS_WORD);
    qn_json_free(root);
}

/* The table for ASCII says what the generated ones say, and the classes are consistent with each other. */
static void classes_are_consistent(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        uint32_t c = qn_unicode_class(cp);
        char bytes[4];
        assert_int_equal((c & QN_CLASS_OTHER) == 0, (c & (QN_CLASS_L | QN_CLASS_N | QN_CLASS_SPACE)) != 0);
        assert_int_equal((c & QN_CLASS_NEWLINE) != 0, cp == '\r' || cp == '\n');
        if (cp < 128) {
            assert_int_equal(c, qn_ascii_class[cp]);
            assert_true((c & QN_CLASS_NFC_YES) != 0);
        }
        if (cp < 0xd800 || cp > 0xdfff) {
            size_t next, len = qn_utf8_encode(cp, bytes);
            assert_int_equal(qn_class_at(bytes, len, 0, &next), c);
            assert_int_equal(next, len);
        }
    }
    assert_int_equal(qn_unicode_class(0x110000), QN_CLASS_OTHER);
    assert_int_equal(qn_unicode_class(QN_UTF8_INVALID), QN_CLASS_OTHER);
}

/* An added token of whole words is not seen beside a character of a word: joiners and connecting punctuation are such. */
static void single_words(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = qn_test_golden_variant("added_tokens", "[{\"id\":600,\"content\":\"qqq\",\"single_word\":true}]", NULL, NULL,
                                                &err);
    assert_non_null(t);
    static const struct {
        const char *neighbour;
        bool word;
    } cases[] = {{"\xe2\x80\x8d", true},  {"\xe2\x80\x8c", true},  {"_", true},  {"\xe2\x80\xbf", true}, {"\xe2\x92\xb6", true},
                 {"\xcc\x81", true},      {"\xe2\x80\x8b", false}, {" ", false}, {".", false},           {"\xc2\xb2", false},
                 {"\xe2\x91\xa0", false}, {"\xff", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int behind = 0; behind < 2; behind++) {
            char text[16];
            quern_ids ids = {0};
            (void)snprintf(text, sizeof text, "%s%s%s", behind ? "" : cases[i].neighbour, "qqq", behind ? cases[i].neighbour : "");
            assert_ok(quern_tokenizer_encode(t, text, strlen(text), QUERN_ENCODE_PARSE_SPECIAL, &ids, &err));
            bool seen = false;
            for (size_t k = 0; k < ids.len; k++) {
                seen = seen || ids.data[k] == 600;
            }
            assert_int_equal(seen, !cases[i].word);
            quern_ids_deinit(&ids);
        }
    }
    quern_tokenizer_destroy(t);
}

/* ---- forms ---- */

typedef struct normalizing {
    qn_normalizer z;
    qn_marked_text work[2];
} normalizing;

static void normalizing_init(normalizing *f, qn_normal_op op)
{
    f->z = (qn_normalizer){.n_steps = 1, .steps = {{.op = op}}};
    for (size_t i = 0; i < 2; i++) {
        qn_buf_init(&f->work[i].text, 0);
        qn_buf_init(&f->work[i].trust, 0);
    }
}

static void normalizing_deinit(normalizing *f)
{
    for (size_t i = 0; i < 2; i++) {
        qn_buf_deinit(&f->work[i].text);
        qn_buf_deinit(&f->work[i].trust);
    }
}

static const char *normalize(normalizing *f, const char *s, size_t n, size_t *len)
{
    quern_error err = {0};
    const char *out, *trust;
    assert_ok(qn_normalize(&f->z, s, n, NULL, f->work, &out, len, &trust, &err));
    return out;
}

/* The same as POOLS and random_texts of tools/record_unicode_classes.py. */
static const uint32_t pools[][2] = {
    {0x20, 0x7e},     {0xc0, 0x17f},    {0x300, 0x34e},     {0x300, 0x308},     {0x5d0, 0x5ea},     {0x591, 0x5c7},   {0x622, 0x658},
    {0x904, 0x95f},   {0x9be, 0x9e3},   {0xb3e, 0xb5d},     {0xdca, 0xddf},     {0xe01, 0xe4e},     {0xf40, 0xf84},   {0x1025, 0x103a},
    {0x1100, 0x11ff}, {0x1ea0, 0x1ef9}, {0x1f00, 0x1fff},   {0x2126, 0x212b},   {0x3041, 0x30fe},   {0x3099, 0x309a}, {0xac00, 0xac70},
    {0xf900, 0xfa10}, {0xfb1d, 0xfb4e}, {0x1d15e, 0x1d1c0}, {0x11935, 0x11943}, {0x105c0, 0x105e5}, {0x898, 0x89f}};

static uint32_t next_random(uint32_t *random_state, uint32_t below)
{
    *random_state = *random_state * 1664525u + 1013904223u;
    return (*random_state >> 8) % below;
}

static size_t random_text(uint32_t *random_state, char *out)
{
    size_t n = 0;
    for (uint32_t parts = 1 + next_random(random_state, 8); parts > 0; parts--) {
        const uint32_t *pool = pools[next_random(random_state, sizeof pools / sizeof pools[0])];
        for (uint32_t i = 1 + next_random(random_state, 5); i > 0; i--) {
            n += qn_utf8_encode(pool[0] + next_random(random_state, pool[1] - pool[0] + 1), out + n);
        }
    }
    return n;
}

static void forms_are_the_library_s(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        qn_normal_op op;
    } forms[] = {{"NFC", QN_NORMAL_NFC}, {"NFD", QN_NORMAL_NFD}, {"NFKC", QN_NORMAL_NFKC}, {"NFKD", QN_NORMAL_NFKD}};
    quern_error err = {0};
    qn_json *root = recorded();
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const qn_json *want = qn_json_get(qn_json_get(root, "forms"), forms[i].name);
        normalizing f;
        qn_sha256 *h;
        char hex[65], text[256];
        size_t n, len;
        const char *out;
        normalizing_init(&f, forms[i].op);
        assert_ok(qn_sha256_create(&h, &err));
        for (uint32_t cp = 0; cp < 0x110000; cp++) {
            if (cp < 0xd800 || cp > 0xdfff) {
                text[0] = 'a';
                n = 1 + qn_utf8_encode(cp, text + 1);
                n += qn_utf8_encode(0x334, text + n);
                out = normalize(&f, text, n, &len);
                qn_sha256_update(h, out, len);
            }
        }
        qn_sha256_finish(h, hex);
        assert_string_equal(hex, qn_json_string(qn_json_at(want, 0), NULL));
        assert_ok(qn_sha256_create(&h, &err));
        uint32_t random_state = 12345;
        for (int k = 0; k < 20000; k++) {
            n = random_text(&random_state, text);
            out = normalize(&f, text, n, &len);
            qn_sha256_update(h, out, len);
            qn_sha256_update(h, "\n", 1);
        }
        qn_sha256_finish(h, hex);
        assert_string_equal(hex, qn_json_string(qn_json_at(want, 1), NULL));
        normalizing_deinit(&f);
    }
    qn_json_free(root);
}

/* ---- cost ---- */

/* Units of text in many scripts; changes: NFC is another text. */
static const struct {
    const char *name, *unit;
    bool changes;
} scripts[] = {
    {"Arabic", "\xd8\xa7\xd9\x84\xd9\x84\xd9\x8f\xd8\xba\xd9\x8e\xd8\xa9 ", false},
    {"Hindi", "\xe0\xa4\x95\xe0\xa5\x8d\xe0\xa4\xb7\xe0\xa4\xbf ", false},
    {"Thai", "\xe0\xb9\x84\xe0\xb8\x97\xe0\xb8\xa2\xe0\xb8\x99\xe0\xb9\x89\xe0\xb8\xb3", false},
    {"Chinese", "\xe6\xbc\xa2\xe5\xad\x97", false},
    {"emoji", "\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7", false},
    {"marks that stay", "x\xcc\x82y ", false},
    {"a letter and a mark", "e\xcc\x81", true},
    {"marks out of order", "a\xcc\x81\xcc\xa7", true},
    {"Hangul jamo", "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", true},
    {"vowels without a consonant", "\xe1\x85\xa1", false},
    {"no UTF-8", "\xe1\x85", false},
};

static double seconds_to_normalize(const char *text, size_t n, bool changes)
{
    double best = 1e9;
    for (int round = 0; round < 3; round++) {
        normalizing f;
        size_t len;
        normalizing_init(&f, QN_NORMAL_NFC);
        clock_t begin = clock();
        const char *out = normalize(&f, text, n, &len);
        double s = (double)(clock() - begin) / CLOCKS_PER_SEC;
        best = s < best ? s : best;
        assert_int_equal(out != text, changes);
        assert_int_equal(f.work[0].text.cap != 0, changes); /* text that stays is not copied, not even to be thrown away */
        normalizing_deinit(&f);
    }
    return best;
}

/* Four times as much text takes about four times as long. What is quadratic takes sixteen times. */
static void normalizing_is_linear(void **state)
{
    (void)state;
    size_t n = 1u << 20;
    char *text = qn_malloc(n);
    assert_non_null(text);
    for (size_t k = 0; k < sizeof scripts / sizeof scripts[0]; k++) {
        size_t unit = strlen(scripts[k].unit), whole = n / 4 / unit * unit;
        for (size_t i = 0; i < n; i++) {
            text[i] = scripts[k].unit[i % unit];
        }
        double one = seconds_to_normalize(text, whole, scripts[k].changes),
               four = seconds_to_normalize(text, 4 * whole, scripts[k].changes);
        print_message("%s: %.0f MB/s\n", scripts[k].name, (double)(4 * whole) / 1e6 / (four > 0 ? four : 1e-6));
        assert_true(four < 10 * one + 0.02);
    }
    qn_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_the_library_s), cmocka_unit_test(classes_are_consistent), cmocka_unit_test(single_words),
        cmocka_unit_test(forms_are_the_library_s),   cmocka_unit_test(normalizing_is_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
