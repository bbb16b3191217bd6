/* test_pretokenize.c - the parts of the tokenizer against plain ways to do the same: scanners against the expressions they stand for, merging against a search
 * for the best pair, normalization against cutting at every character. */
#include "qn_test_tokenizer.h"

#include "base/utf8.h"
#include "text/normalize.h"
#include "text/pretokenize.h"

static uint32_t random_state = 12345;
static uint32_t next_random(uint32_t below)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % below;
}

/* ---- random text ---- */

static const uint32_t pools[][2] = {{0x20, 0x7e},       {0x00, 0x1f},     {0xa0, 0x24f},    {0x300, 0x344},   {0x391, 0x3a1},
                                    {0x430, 0x44f},     {0x660, 0x669},   {0x905, 0x939},   {0x2000, 0x200f}, {0x2028, 0x202f},
                                    {0x2150, 0x2188},   {0x3041, 0x3096}, {0x4e00, 0x4eff}, {0xac00, 0xacff}, {0xff01, 0xff5e},
                                    {0x1f300, 0x1f3ff}, {'0', '9'},       {'A', 'Z'},       {'a', 'z'}};

static size_t random_text(char *out, size_t cap)
{
    static const char *const words[] = {"'s",  "'LL", "'\xc5\xbf", "'Re",   " ",  "  ", "\n", "\r\n",     "\t",          "\n\n ",
                                        "abc", "Ab",  "ABc",       "12345", "!?", " .", "/",  "\xc2\xa0", "\xe3\x80\x80"};
    size_t n = 0, n_parts = next_random(12);
    for (size_t k = 0; k < n_parts && n + 40 < cap; k++) {
        if (next_random(3) == 0) {
            const char *w = words[next_random(sizeof words / sizeof words[0])];
            memcpy(out + n, w, strlen(w));
            n += strlen(w);
            continue;
        }
        const uint32_t *pool = pools[next_random(sizeof pools / sizeof pools[0])];
        for (size_t i = 1 + next_random(6); i > 0; i--) {
            n += qn_utf8_encode(pool[0] + next_random(pool[1] - pool[0] + 1), out + n);
        }
    }
    return n;
}

/* ---- scanners ---- */

typedef struct pieces {
    size_t ends[2048], n, at;
} pieces;

static quern_status keep_piece(void *user, const char *s, size_t n)
{
    (void)s;
    pieces *p = user;
    p->at += n;
    p->ends[p->n++] = p->at;
    return QUERN_OK;
}

static pieces cut(const qn_step *steps, size_t n_steps, const char *s, size_t n)
{
    quern_error err = {0};
    pieces p = {.n = 0};
    qn_pretokenizer t = {.n_steps = n_steps};
    qn_pretokenize_buffers buffers;
    memcpy(t.steps, steps, n_steps * sizeof *steps);
    qn_pretokenize_buffers_init(&buffers);
    assert_ok(qn_pretokenize(&t, &buffers, s, n, true, keep_piece, &p, &err));
    qn_pretokenize_buffers_deinit(&buffers);
    assert_int_equal(p.at, n); /* nothing lost */
    return p;
}

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WHITE "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define PREFIX "[^\\r\\n\\p{L}\\p{N}]?"

#define DEEPSEEK3 \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+" \
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"

static void scanners_are_their_expressions(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" WHITE,
        CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" WHITE,
        CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" WHITE,
        CONTRACTIONS "|" PREFIX "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" WHITE,
        CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" WHITE,
        PREFIX "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" WHITE,
        PREFIX UPPER "*" LOWER "+" CONTRACTIONS "?|" PREFIX UPPER "+" LOWER "*" CONTRACTIONS
                     "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" WHITE,
        PREFIX UPPER "*" LOWER "+|" PREFIX UPPER "+" LOWER "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" WHITE,
        DEEPSEEK3,
        "\\p{N}",
        "\\p{N}+",
        "\\p{N}{1,3}",
        "[0-9][0-9][0-9]",
        "[\r\n]",
        "\\s?\\p{L}+",
        "\\s?\\p{P}+",
        "[\xe4\xb8\x80-\xe9\xbe\xa5\xe0\xa0\x80-\xe4\xb8\x80\xea\xb0\x80-\xed\x9f\xbf]+",
        "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+",
        "\\s?[!-/:-~\xef\xbc\x81-\xef\xbc\x8f\xef\xbc\x9a-\xef\xbd\x9e\xe2\x80\x98-\xe2\x80\x9f\xe3\x80\x80-\xe3\x80\x82]+",
        "[\\p{P}\\$\\+<=>\\^~\\|]+",
        "[\\p{P}\\$\\+<=>\\^~\\|`]+",
    };
    for (size_t k = 0; k < sizeof patterns / sizeof patterns[0]; k++) {
        quern_error err = {0};
        const qn_scanner *scanner = qn_scanner_find_by_pattern(patterns[k], strlen(patterns[k]), false);
        if (scanner == NULL) {
            print_error("not recognised: %s\n", patterns[k]);
        }
        assert_non_null(scanner);
        qn_step hand = {.kind = QN_STEP_SCANNER, .scanner = scanner, .behavior = QN_SPLIT_ISOLATED};
        qn_step regex = {.kind = QN_STEP_REGEX, .behavior = QN_SPLIT_ISOLATED};
        assert_ok(qn_regex_create(&regex.regex, patterns[k], strlen(patterns[k]), &err));
        for (int round = 0; round < 1500; round++) {
            char text[1024];
            size_t n = random_text(text, sizeof text);
            pieces a = cut(&hand, 1, text, n), b = cut(&regex, 1, text, n);
            if (a.n != b.n || memcmp(a.ends, b.ends, a.n * sizeof a.ends[0]) != 0) {
                print_error("%s\ntext \"%.*s\"\n", patterns[k], (int)n, text);
                fail();
            }
        }
        qn_regex_destroy(regex.regex);
    }
}

/* Trailing white space is only recognised behind a step that isolated line ends, where the expression means that. */
static void white_space_at_the_end(void **state)
{
    (void)state;
    assert_null(qn_scanner_find_by_pattern("\\s+$", 4, false));
    const qn_scanner *scanner = qn_scanner_find_by_pattern("\\s+$", 4, true);
    assert_non_null(scanner);
    size_t begin, end;
    assert_true(qn_scanner_find(scanner, "a  b \t ", 7, 0, &begin, &end));
    assert_int_equal(begin, 4);
    assert_int_equal(end, 7);
    assert_false(qn_scanner_find(scanner, "a  b", 4, 0, &begin, &end));
}

/* Any bytes are covered by every list of scanners, without a gap. */
static void any_bytes_are_covered(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt-2",       "qwen2",     "llama-bpe", "gpt-4o",     "tekken",   "deepseek-llm", "deepseek-coder",
                                        "deepseek-v3", "starcoder", "qwen35",    "seed-coder", "minicpm5", "falcon",       "default"};
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        const qn_pre *pre = qn_pre_find(names[k]);
        assert_non_null(pre);
        qn_step steps[QN_PRE_SCANNERS_MAX];
        size_t n_steps = 0;
        while (n_steps < QN_PRE_SCANNERS_MAX && pre->scanners[n_steps] != NULL) {
            steps[n_steps] = (qn_step){.kind = QN_STEP_SCANNER, .scanner = pre->scanners[n_steps], .behavior = QN_SPLIT_ISOLATED};
            n_steps++;
        }
        for (int round = 0; round < 300; round++) {
            char text[200];
            size_t n = next_random(sizeof text);
            for (size_t i = 0; i < n; i++) {
                text[i] = (char)(next_random(3) == 0 ? next_random(256) : 0xe0 + next_random(16));
            }
            (void)cut(steps, n_steps, text, n);
        }
    }
    assert_null(qn_pre_find("brand-new"));
    assert_null(qn_pre_find(""));
}

/* ---- merging ---- */

enum { PIECES_MAX = 120, TEXT_MAX = 150 };

typedef struct toy {
    char texts[PIECES_MAX][16];
    qn_text_span tokens[PIECES_MAX], merges[PIECES_MAX * 2];
    char merge_texts[PIECES_MAX * 2][40];
    size_t left[PIECES_MAX * 2], right[PIECES_MAX * 2];
    float scores[PIECES_MAX];
    size_t n, n_merges;
} toy;

static size_t find_text(const toy *v, const char *s)
{
    size_t i = 0;
    while (i < v->n && strcmp(v->texts[i], s) != 0) {
        i++;
    }
    return i;
}

static void add_merge(toy *v, size_t left, size_t right)
{
    size_t m = v->n_merges++;
    v->left[m] = left;
    v->right[m] = right;
    size_t left_len = strlen(v->texts[left]), right_len = strlen(v->texts[right]);
    memcpy(v->merge_texts[m], v->texts[left], left_len);
    v->merge_texts[m][left_len] = ' ';
    memcpy(v->merge_texts[m] + left_len + 1, v->texts[right], right_len);
    v->merges[m] = (qn_text_span){.data = v->merge_texts[m], .len = left_len + 1 + right_len};
}

/* Three letters, and merges of what there is. */
static void make_toy(toy *v)
{
    memset(v, 0, sizeof *v);
    for (size_t i = 0; i < 3; i++) {
        v->texts[v->n++][0] = (char)('a' + i);
    }
    for (int tries = 0; tries < 400 && v->n < PIECES_MAX && v->n_merges < PIECES_MAX; tries++) {
        size_t l = next_random((uint32_t)v->n), r = next_random((uint32_t)v->n);
        char joined[40];
        (void)snprintf(joined, sizeof joined, "%s%s", v->texts[l], v->texts[r]);
        if (strlen(joined) > 9) {
            continue;
        }
        bool known_pair = false;
        for (size_t m = 0; m < v->n_merges; m++) {
            known_pair = known_pair || (v->left[m] == l && v->right[m] == r);
        }
        if (known_pair) {
            continue;
        }
        if (find_text(v, joined) == v->n) {
            memcpy(v->texts[v->n++], joined, strlen(joined) + 1);
        }
        add_merge(v, l, r);
    }
    for (size_t i = 0; i < v->n; i++) {
        v->tokens[i] = (qn_text_span){.data = v->texts[i], .len = strlen(v->texts[i])};
        v->scores[i] = -(float)next_random(30); /* equal ones too */
    }
}

/* The best pair of neighbours again and again; by_score: what makes a token of the highest score, else the first rule of the list. */
static size_t merge_plainly(const toy *v, const char *text, int32_t *ids, bool by_score)
{
    size_t n = 0;
    for (; text[n] != '\0'; n++) {
        ids[n] = text[n] - 'a';
    }
    for (;;) {
        size_t best_at = n, best_rule = SIZE_MAX, best_result = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            char joined[40];
            (void)snprintf(joined, sizeof joined, "%s%s", v->texts[ids[i]], v->texts[ids[i + 1]]);
            size_t result = find_text(v, joined), rule = SIZE_MAX;
            for (size_t m = 0; m < v->n_merges && rule == SIZE_MAX; m++) {
                rule = (int32_t)v->left[m] == ids[i] && (int32_t)v->right[m] == ids[i + 1] ? m : rule;
            }
            if (by_score ? result < v->n && (best_at == n || v->scores[result] > v->scores[best_result]) : rule < best_rule) {
                best_at = i;
                best_rule = rule;
                best_result = result;
            }
        }
        if (best_at == n) {
            return n;
        }
        ids[best_at] = (int32_t)best_result;
        memmove(ids + best_at + 1, ids + best_at + 2, (n - best_at - 2) * sizeof *ids);
        n--;
    }
}

static void merging_is_the_plain_search(void **state)
{
    (void)state;
    static toy v;
    for (int round = 0; round < 12; round++) {
        quern_error err = {0};
        quern_tokenizer *bytes, *scored;
        make_toy(&v);
        qn_vocab_spec spec = {.what = "toy",
                              .model = "gpt2",
                              .pre = "gpt-2",
                              .tokens = v.tokens,
                              .n_tokens = v.n,
                              .merges = v.merges,
                              .n_merges = v.n_merges,
                              .bos_id = -1,
                              .eos_id = -1,
                              .unk_id = -1,
                              .pad_id = -1,
                              .add_bos = -1,
                              .add_eos = -1,
                              .add_space_prefix = 0};
        assert_ok(qn_tokenizer_create_from_spec(&bytes, &spec, &err));
        spec.model = "llama";
        spec.scores = v.scores;
        assert_ok(qn_tokenizer_create_from_spec(&scored, &spec, &err));
        for (size_t len = 1; len < TEXT_MAX; len += len < 40 ? 1 : 7) {
            char text[TEXT_MAX + 1] = "";
            int32_t ids[TEXT_MAX];
            uint32_t letters = 1 + next_random(3);
            for (size_t i = 0; i < len; i++) {
                text[i] = (char)('a' + next_random(letters));
            }
            size_t n = merge_plainly(&v, text, ids, false);
            qn_test_expect_ids(bytes, text, len, 0, ids, n);
            n = merge_plainly(&v, text, ids, true);
            qn_test_expect_ids(scored, text, len, 0, ids, n);
        }
        quern_tokenizer_destroy(bytes);
        quern_tokenizer_destroy(scored);
    }
}

/* Two merges of one pair: GGUF readers keep the first, Hugging Face's library the last. */
static void doubled_merges(void **state)
{
    (void)state;
    quern_error err = {0};
    quern_tokenizer *t = qn_test_golden_variant("model.merges", "[\"h e\",\"e t\",\"h e\"]", NULL, NULL, &err);
    assert_non_null(t);
    int32_t h = quern_tokenizer_find(t, "h", 1), et = quern_tokenizer_find(t, "et", 2);
    const int32_t last_counts[] = {h, et};
    qn_test_expect_ids(t, "het", 3, 0, last_counts, 2);
    quern_tokenizer_destroy(t);
    static const qn_text_span tokens[] = {{"h", 1}, {"e", 1}, {"t", 1}, {"he", 2}, {"et", 2}},
                              merges[] = {{"h e", 3}, {"e t", 3}, {"h e", 3}};
    const qn_vocab_spec spec = {.what = "test",
                                .model = "gpt2",
                                .pre = "gpt-2",
                                .tokens = tokens,
                                .n_tokens = 5,
                                .merges = merges,
                                .n_merges = 3,
                                .bos_id = -1,
                                .eos_id = -1,
                                .unk_id = -1,
                                .pad_id = -1,
                                .add_bos = -1,
                                .add_eos = -1,
                                .add_space_prefix = -1};
    assert_ok(qn_tokenizer_create_from_spec(&t, &spec, &err));
    static const int32_t first_counts[] = {3, 2};
    qn_test_expect_ids(t, "het", 3, 0, first_counts, 2);
    quern_tokenizer_destroy(t);
}

/* ---- normalization ---- */

static void expect_normal(const qn_normalizer *z, const char *in, const char *trust_in, const char *out, const char *trust_out)
{
    quern_error err = {0};
    qn_marked_text work[2];
    char marks[256], want[256];
    const char *s, *trust;
    size_t n = strlen(in), len;
    for (size_t i = 0; i < 2; i++) {
        qn_buf_init(&work[i].text, 0);
        qn_buf_init(&work[i].trust, 0);
    }
    for (size_t i = 0; i < n; i++) {
        marks[i] = trust_in[i] == '+' ? 1 : 0;
    }
    assert_ok(qn_normalize(z, in, n, marks, work, &s, &len, &trust, &err));
    assert_int_equal(len, strlen(out));
    assert_memory_equal(s, out, len);
    for (size_t i = 0; i < len; i++) {
        want[i] = trust_out[i] == '+' ? 1 : 0;
    }
    assert_memory_equal(trust, want, len);
    for (size_t i = 0; i < 2; i++) {
        qn_buf_deinit(&work[i].text);
        qn_buf_deinit(&work[i].trust);
    }
}

static void normalizing_keeps_trust(void **state)
{
    (void)state;
    qn_normalizer nfc = {.n_steps = 1, .steps = {{.op = QN_NORMAL_NFC}}};
    expect_normal(&nfc, "abc", "+-+", "abc", "+-+");
    expect_normal(&nfc, "ae\xcc\x81z", "++++-", "a\xc3\xa9z", "+++-");
    expect_normal(&nfc, "ae\xcc\x81z", "++--+", "a\xc3\xa9z", "+--+");
    expect_normal(&nfc,
                  "\xc3\xa9\xcc\xa7"
                  "e\xcc\x81",
                  "++++++-", "\xc8\xa9\xcc\x81\xc3\xa9", "++++--");
    expect_normal(&nfc,
                  "\xff\xcc\x81"
                  "e\xcc\x81",
                  "-+++++", "\xff\xcc\x81\xc3\xa9", "-++++");
    expect_normal(&nfc, "\xe2\x84\xab \xe2\x84\xab", "---++++", "\xc3\x85 \xc3\x85", "--+++");
    qn_normalizer steps = {.n_steps = 3,
                           .steps = {{.op = QN_NORMAL_PREPEND, .to_len = 1, .to = ">"},
                                     {.op = QN_NORMAL_REPLACE, .from_len = 2, .from = "ab", .to_len = 3, .to = "xyz"},
                                     {.op = QN_NORMAL_NFC}}};
    expect_normal(&steps, "cabab", "-+++-", ">cxyzxyz", "--+++---");
    expect_normal(&steps, "", "", "", "");
    expect_normal(&steps, "a", "+", ">a", "++");
}

/* Composing stretch by stretch is the same as composing the whole: NFC of NFD of any text is its NFC. */
static void nfc_of_nfd(void **state)
{
    (void)state;
    quern_error err = {0};
    qn_normalizer forms[3] = {{.n_steps = 1, .steps = {{.op = QN_NORMAL_NFC}}},
                              {.n_steps = 2, .steps = {{.op = QN_NORMAL_NFD}, {.op = QN_NORMAL_NFC}}},
                              {.n_steps = 2, .steps = {{.op = QN_NORMAL_NFC}, {.op = QN_NORMAL_NFC}}}};
    qn_marked_text work[3][2];
    for (size_t i = 0; i < 6; i++) {
        qn_buf_init(&work[i / 2][i % 2].text, 0);
        qn_buf_init(&work[i / 2][i % 2].trust, 0);
    }
    for (int round = 0; round < 3000; round++) {
        char text[1024];
        size_t n = random_text(text, sizeof text), len[3];
        const char *s[3], *trust;
        for (size_t i = 0; i < 3; i++) {
            assert_ok(qn_normalize(&forms[i], text, n, NULL, work[i], &s[i], &len[i], &trust, &err));
        }
        assert_int_equal(len[0], len[1]);
        assert_memory_equal(s[0], s[1], len[0]);
        assert_int_equal(len[0], len[2]);
        assert_memory_equal(s[0], s[2], len[0]);
    }
    for (size_t i = 0; i < 6; i++) {
        qn_buf_deinit(&work[i / 2][i % 2].text);
        qn_buf_deinit(&work[i / 2][i % 2].trust);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scanners_are_their_expressions),
        cmocka_unit_test(white_space_at_the_end),
        cmocka_unit_test(any_bytes_are_covered),
        cmocka_unit_test(merging_is_the_plain_search),
        cmocka_unit_test(doubled_merges),
        cmocka_unit_test(normalizing_keeps_trust),
        cmocka_unit_test(nfc_of_nfd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
