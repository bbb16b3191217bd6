/* scanners.c - the scanners themselves. Each says above it which expression it is; alternatives are tried in the order written there, and
 * where an expression would backtrack the comment says what that comes to.
 */
#include "text/scanners.h"

#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "text/normalize.h"

enum { L = QN_CLASS_L, N = QN_CLASS_N, M = QN_CLASS_M, P = QN_CLASS_P, S = QN_CLASS_S, SPACE = QN_CLASS_SPACE, NEWLINE = QN_CLASS_NEWLINE };

typedef struct range {
    uint32_t first, last;
} range;

struct qn_scanner {
    bool (*find)(const qn_scanner *c, const char *s, size_t n, size_t from, size_t *begin, size_t *end);
    const char *pattern, *pattern_2; /* the expression, line ends written \r \n; a second spelling or NULL */
    bool total;
    bool needs_no_lines; /* the pattern means this only in text without line ends */
    /* words (below) */
    uint32_t letters;    /* classes of \p{L}+ or [\p{L}\p{M}]+ */
    unsigned max_digits; /* of \p{N}{1,max}; 0 = any number */
    bool contractions;   /* begins with (?i:'s|'t|...) */
    const char *tail;    /* characters that may follow punctuation: "\r\n" or "\r\n/" or "" */
    bool lines_apart;    /* punctuation does not contain line ends by its own class */
    /* runs (below) */
    uint32_t classes;
    const range *ranges;
    size_t n_ranges;
    unsigned min_len, max_len; /* characters; max 0 = any number */
    bool space_before, to_end;
};

/* ---- parts ---- */

static inline uint32_t class_at(const char *s, size_t n, size_t i, size_t *next)
{
    unsigned char c = (unsigned char)s[i];
    if (c < 128) {
        *next = i + 1;
        return qn_ascii_class[c];
    }
    return qn_class_at(s, n, i, next);
}

/* End of the run of characters that have one of the classes. */
static inline size_t run_of(const char *s, size_t n, size_t i, uint32_t classes)
{
    size_t next;
    while (i < n && (class_at(s, n, i, &next) & classes) != 0) {
        i = next;
    }
    return i;
}

/* End of the run of characters that have none of them. */
static inline size_t run_without(const char *s, size_t n, size_t i, uint32_t classes)
{
    size_t next;
    while (i < n && (class_at(s, n, i, &next) & classes) == 0) {
        i = next;
    }
    return i;
}

static size_t run_of_digits(const char *s, size_t n, size_t i, unsigned max)
{
    size_t next;
    for (unsigned k = 0; i < n && (max == 0 || k < max) && (class_at(s, n, i, &next) & N) != 0; k++) {
        i = next;
    }
    return i;
}

/* Length of (?i:'s|'t|'re|'ve|'m|'ll|'d) at i, or 0. U+017F, the long s, is an s without regard to case. */
static size_t contraction(const char *s, size_t n, size_t i, bool ignore_case)
{
    if (s[i] != '\'' || i + 1 >= n) {
        return 0;
    }
    char fold = ignore_case ? 0x20 : 0;
    char a = (char)(s[i + 1] | fold), b = i + 2 < n ? (char)(s[i + 2] | fold) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') {
        return 2;
    }
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) {
        return 3;
    }
    return ignore_case && i + 2 < n && memcmp(s + i + 1, "\xc5\xbf", 2) == 0 ? 3 : 0;
}

/* White space at i: \s*[\r\n]+ (if lines), \s+(?!\S), \s+ in this order.
 * The first ends behind the last line end of the run. The second leaves the run's last character to what follows, if anything follows. */
static size_t white_space(const char *s, size_t n, size_t i, bool lines)
{
    size_t last = i, line_end = i, end = i, next;
    while (end < n) {
        uint32_t class = class_at(s, n, end, &next);
        if ((class & SPACE) == 0) {
            break;
        }
        last = end;
        end = next;
        line_end = (class & NEWLINE) != 0 ? end : line_end;
    }
    if (lines && line_end > i) {
        return line_end;
    }
    return end == n || last == i ? end : last;
}

/* ---- gpt2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ ---- */

static bool find_gpt2(const qn_scanner *c, const char *s, size_t n, size_t from, size_t *begin, size_t *end)
{
    (void)c;
    *begin = from;
    size_t len = contraction(s, n, from, false);
    if (len > 0) {
        *end = from + len;
        return true;
    }
    size_t i = s[from] == ' ' && from + 1 < n ? from + 1 : from, next;
    uint32_t class = class_at(s, n, i, &next);
    if ((class & L) != 0) {
        *end = run_of(s, n, next, L);
    } else if ((class & N) != 0) {
        *end = run_of(s, n, next, N);
    } else if ((class & SPACE) == 0) {
        *end = run_without(s, n, next, SPACE | L | N);
    } else {
        *end = white_space(s, n, from, false);
    }
    return true;
}

/* ---- words: (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ ----
 * and its relatives, which differ in what the scanner's fields say. */

static bool find_words(const qn_scanner *c, const char *s, size_t n, size_t from, size_t *begin, size_t *end)
{
    *begin = from;
    size_t len = c->contractions ? contraction(s, n, from, true) : 0;
    if (len > 0) {
        *end = from + len;
        return true;
    }
    size_t next, after;
    uint32_t class = class_at(s, n, from, &next);
    if ((class & c->letters) != 0) {
        *end = run_of(s, n, next, c->letters);
        return true;
    }
    if ((class & N) != 0) {
        *end = run_of_digits(s, n, from, c->max_digits);
        return true;
    }
    uint32_t class_2 = next < n ? class_at(s, n, next, &after) : SPACE;
    if ((class & NEWLINE) == 0 && (class_2 & c->letters) != 0) {
        *end = run_of(s, n, after, c->letters);
        return true;
    }
    uint32_t not_other = SPACE | c->letters | N;
    if ((class & SPACE) == 0 || (s[from] == ' ' && (class_2 & not_other) == 0)) {
        size_t i = run_without(s, n, next, not_other);
        while (i < n && c->tail[0] != '\0' && s[i] != '\0' && strchr(c->tail, s[i]) != NULL) {
            i++;
        }
        *end = i;
        return true;
    }
    *end = white_space(s, n, from, true);
    return true;
}

/* ---- case: A|B|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ with, for U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] and
 * W = [\p{Ll}\p{Lm}\p{Lo}\p{M}], A = [^\r\n\p{L}\p{N}]?U*W+ and B = [^\r\n\p{L}\p{N}]?U+W*, each with a contraction behind it if the
 * scanner has contractions. ---- */

/* U*W+ at i, or 0. U* takes all it can and gives back as far as the last character that is also in W, where W+ then has one. */
static size_t upper_then_lower(const char *s, size_t n, size_t i)
{
    size_t next, back = 0;
    while (i < n) {
        uint32_t class = class_at(s, n, i, &next);
        if ((class & QN_CLASS_UPPER) == 0) {
            break;
        }
        back = (class & QN_CLASS_LOWER) != 0 ? next : back;
        i = next;
    }
    size_t end = run_of(s, n, i, QN_CLASS_LOWER);
    return end > i ? end : back;
}

/* U+W* at i, or 0. */
static size_t upper_and_lower(const char *s, size_t n, size_t i)
{
    size_t upper = run_of(s, n, i, QN_CLASS_UPPER);
    return upper > i ? run_of(s, n, upper, QN_CLASS_LOWER) : 0;
}

static size_t case_word(const char *s, size_t n, size_t from)
{
    size_t next, end = 0;
    uint32_t class = class_at(s, n, from, &next);
    bool prefix = (class & (NEWLINE | L | N)) == 0 && next < n;
    bool word = (class & (QN_CLASS_UPPER | QN_CLASS_LOWER)) != 0;
    if (!word && !prefix) {
        return 0;
    }
    if (prefix) {
        end = upper_then_lower(s, n, next);
    }
    if (end == 0 && word) {
        end = upper_then_lower(s, n, from);
    }
    if (end == 0 && prefix) {
        end = upper_and_lower(s, n, next);
    }
    return end != 0 || !word ? end : upper_and_lower(s, n, from);
}

static bool find_case(const qn_scanner *c, const char *s, size_t n, size_t from, size_t *begin, size_t *end)
{
    *begin = from;
    size_t i = case_word(s, n, from), next;
    if (i != 0) {
        *end = i + (c->contractions && i < n ? contraction(s, n, i, true) : 0);
        return true;
    }
    uint32_t class = class_at(s, n, from, &next);
    if ((class & N) != 0) {
        *end = run_of_digits(s, n, from, c->max_digits);
        return true;
    }
    size_t after;
    uint32_t class_2 = next < n ? class_at(s, n, next, &after) : SPACE;
    if ((class & SPACE) == 0 || (s[from] == ' ' && (class_2 & (SPACE | L | N)) == 0)) {
        i = run_without(s, n, next, SPACE | L | N);
        while (i < n && (s[i] == '\r' || s[i] == '\n' || s[i] == '/')) {
            i++;
        }
        *end = i;
        return true;
    }
    *end = white_space(s, n, from, true);
    return true;
}

/* ---- deepseek-v3: [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|
 *      \s*[\r\n]+|\s+(?!\S)|\s+ ----
 * Digits and control characters match nothing unless a letter follows. */

static inline bool is_ascii_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static size_t deepseek3_at(const char *s, size_t n, size_t from)
{
    size_t next, after, i;
    uint32_t class = class_at(s, n, from, &next);
    bool ascii_mark = (unsigned char)s[from] < 128 && (class & (P | S)) != 0;
    if (ascii_mark && next < n && is_ascii_letter(s[next])) {
        for (i = next; i < n && is_ascii_letter(s[i]);) {
            i++;
        }
        return i;
    }
    uint32_t class_2 = next < n ? class_at(s, n, next, &after) : 0;
    if ((class & (L | M)) != 0) {
        return run_of(s, n, next, L | M);
    }
    if ((class & (NEWLINE | L | P | S)) == 0 && (class_2 & (L | M)) != 0) {
        return run_of(s, n, after, L | M);
    }
    if ((class & (P | S)) != 0 || (s[from] == ' ' && (class_2 & (P | S)) != 0)) {
        for (i = run_of(s, n, next, P | S); i < n && (s[i] == '\r' || s[i] == '\n');) {
            i++;
        }
        return i;
    }
    return (class & SPACE) != 0 ? white_space(s, n, from, true) : 0;
}

static bool find_deepseek3(const qn_scanner *c, const char *s, size_t n, size_t from, size_t *begin, size_t *end)
{
    (void)c;
    for (size_t i = from, next; i < n; i = next) {
        size_t e = deepseek3_at(s, n, i);
        if (e != 0) {
            *begin = i;
            *end = e;
            return true;
        }
        (void)class_at(s, n, i, &next);
    }
    return false;
}

/* ---- runs: [class]+, \s?[class]+, [class]{1,3}, [class], [class]{3}, \s+ at the end of the text ---- */

static bool in_ranges(uint32_t cp, const range *ranges, size_t n)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (cp > ranges[mid].last) {
            low = mid + 1;
        } else if (cp < ranges[mid].first) {
            high = mid;
        } else {
            return true;
        }
    }
    return false;
}

static bool run_has(const qn_scanner *c, const char *s, size_t n, size_t i, size_t *next, uint32_t *class)
{
    *class = class_at(s, n, i, next);
    if ((*class & c->classes) != 0) {
        return true;
    }
    if (c->n_ranges == 0) {
        return false;
    }
    uint32_t cp;
    (void)qn_utf8_decode(s + i, n - i, &cp);
    return in_ranges(cp, c->ranges, c->n_ranges);
}

static bool find_run(const qn_scanner *c, const char *s, size_t n, size_t from, size_t *begin, size_t *end)
{
    bool space = false; /* the character before i is white space that may begin the match */
    size_t space_at = from, next;
    uint32_t class;
    for (size_t i = from; i < n; i = next) {
        if (!run_has(c, s, n, i, &next, &class)) {
            space = c->space_before && (class & SPACE) != 0;
            space_at = i;
            continue;
        }
        size_t e = next, len = 1, after;
        uint32_t ignored;
        while (e < n && (c->max_len == 0 || len < c->max_len) && run_has(c, s, n, e, &after, &ignored)) {
            e = after;
            len++;
        }
        if (len >= c->min_len && (!c->to_end || e == n)) {
            *begin = space ? space_at : i;
            *end = e;
            return true;
        }
        next = c->to_end ? e : next;
        space = false;
    }
    return false;
}

/* ---- all scanners ---- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WHITE "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define PREFIX "[^\\r\\n\\p{L}\\p{N}]?"
#define PUNCTUATION "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define PUNCTUATION_SLASH "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define GPT2_HEAD "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"

/* clang-format off */
#define WORDS .find = find_words, .total = true
static const qn_scanner gpt2 = {.find = find_gpt2, .total = true, .pattern = GPT2_HEAD "|\\s+",
    .pattern_2 = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"};
static const qn_scanner qwen2 = {WORDS, .letters = L, .max_digits = 1, .contractions = true, .tail = "\r\n",
    .pattern = CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}" PUNCTUATION WHITE};
static const qn_scanner llama3 = {WORDS, .letters = L, .max_digits = 3, .contractions = true, .tail = "\r\n",
    .pattern = CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}{1,3}" PUNCTUATION WHITE};
static const qn_scanner any_digits = {WORDS, .letters = L, .max_digits = 0, .contractions = true, .tail = "\r\n",
    .pattern = CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}+" PUNCTUATION WHITE};
static const qn_scanner qwen35 = {WORDS, .letters = L | M, .max_digits = 1, .contractions = true, .tail = "\r\n",
    .pattern = CONTRACTIONS "|" PREFIX "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" WHITE};
static const qn_scanner seed_coder = {WORDS, .letters = L, .max_digits = 1, .contractions = true, .tail = "",
    .pattern = CONTRACTIONS "|" PREFIX "\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" WHITE};
static const qn_scanner no_contractions = {WORDS, .letters = L, .max_digits = 1, .tail = "\r\n",
    .pattern = PREFIX "\\p{L}+|\\p{N}" PUNCTUATION WHITE};
static const qn_scanner gpt4o = {.find = find_case, .total = true, .max_digits = 3, .contractions = true,
    .pattern = PREFIX UPPER "*" LOWER "+" CONTRACTIONS "?|" PREFIX UPPER "+" LOWER "*" CONTRACTIONS "?|\\p{N}{1,3}"
               PUNCTUATION_SLASH WHITE};
static const qn_scanner tekken = {.find = find_case, .total = true, .max_digits = 1,
    .pattern = PREFIX UPPER "*" LOWER "+|" PREFIX UPPER "+" LOWER "*|\\p{N}" PUNCTUATION_SLASH WHITE};
static const qn_scanner deepseek3 = {.find = find_deepseek3,
    .pattern = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
               "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" WHITE};

static const range cjk_kana[] = {{0x3040, 0x30ff}, {0x4e00, 0x9fa5}};
static const range cjk_hangul[] = {{0x800, 0x9fa5}, {0xac00, 0xd7ff}};
static const range ascii_digits[] = {{'0', '9'}};
/* \$\+<=>\^~\| and `, in order of code points */
static const range default_marks[] = {{'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'}, {'|', '|'}, {'~', '~'}};
static const range falcon_marks[] = {{'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'}, {'`', '`'}, {'|', '|'}, {'~', '~'}};
#include "text/deepseek_letters.inc"
static const range wide_marks[] = {{'!', '/'}, {':', '~'}, {0x2018, 0x201f}, {0x3000, 0x3002}, {0xff01, 0xff0f}, {0xff1a, 0xff5e}};

#define RUN .find = find_run, .min_len = 1
#define RANGES(r) .ranges = (r), .n_ranges = sizeof(r) / sizeof((r)[0])
static const qn_scanner digit = {RUN, .classes = N, .max_len = 1, .pattern = "\\p{N}"};
static const qn_scanner digits = {RUN, .classes = N, .pattern = "\\p{N}+"};
static const qn_scanner three_digits = {RUN, .classes = N, .max_len = 3, .pattern = "\\p{N}{1,3}"};
static const qn_scanner exactly_three = {.find = find_run, .min_len = 3, .max_len = 3, RANGES(ascii_digits), .pattern = "[0-9][0-9][0-9]"};
static const qn_scanner lines = {RUN, .classes = NEWLINE, .max_len = 1, .pattern = "[\\r\\n]"};
static const qn_scanner space_letters = {RUN, .classes = L, .space_before = true, .pattern = "\\s?\\p{L}+"};
static const qn_scanner space_marks = {RUN, .classes = P, .space_before = true, .pattern = "\\s?\\p{P}+"};
static const qn_scanner hangul = {RUN, RANGES(cjk_hangul),
    .pattern = "[\xe4\xb8\x80-\xe9\xbe\xa5\xe0\xa0\x80-\xe4\xb8\x80\xea\xb0\x80-\xed\x9f\xbf]+"};
static const qn_scanner kana = {RUN, RANGES(cjk_kana),
    .pattern = "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+"};
static const qn_scanner deepseek_words = {RUN, RANGES(deepseek_letters), .space_before = true, .pattern = DEEPSEEK_LETTERS_PATTERN};
static const qn_scanner deepseek_marks = {RUN, RANGES(wide_marks), .space_before = true,
    .pattern = "\\s?[!-/:-~\xef\xbc\x81-\xef\xbc\x8f\xef\xbc\x9a-\xef\xbd\x9e\xe2\x80\x98-\xe2\x80\x9f\xe3\x80\x80-\xe3\x80\x82]+"};
static const qn_scanner space_at_end = {RUN, .classes = SPACE, .to_end = true, .needs_no_lines = true, .pattern = "\\s+$"};
static const qn_scanner default_punctuation = {RUN, .classes = P, RANGES(default_marks), .pattern = "[\\p{P}\\$\\+<=>\\^~\\|]+"};
static const qn_scanner falcon_punctuation = {RUN, .classes = P, RANGES(falcon_marks), .pattern = "[\\p{P}\\$\\+<=>\\^~\\|`]+"};

/* clang-format on */

static const qn_scanner *const all[] = {&gpt2,
                                        &qwen2,
                                        &llama3,
                                        &any_digits,
                                        &qwen35,
                                        &seed_coder,
                                        &no_contractions,
                                        &gpt4o,
                                        &tekken,
                                        &deepseek3,
                                        &digit,
                                        &digits,
                                        &three_digits,
                                        &exactly_three,
                                        &lines,
                                        &space_letters,
                                        &space_marks,
                                        &hangul,
                                        &kana,
                                        &deepseek_words,
                                        &deepseek_marks,
                                        &space_at_end,
                                        &default_punctuation,
                                        &falcon_punctuation};

bool qn_scanner_find(const qn_scanner *c, const char *s, size_t n, size_t from, size_t *begin, size_t *end)
{
    return c->find(c, s, n, from, begin, end);
}

bool qn_scanner_is_total(const qn_scanner *c) { return c->total; }
const char *qn_scanner_pattern(const qn_scanner *c) { return c->pattern; }
bool qn_scanner_isolates_lines(const qn_scanner *c) { return c == &lines; }
const qn_scanner *qn_scanner_gpt2(void) { return &gpt2; }
const qn_scanner *qn_scanner_digit(void) { return &digit; }
const qn_scanner *qn_scanner_digits(void) { return &digits; }

/* Compares, taking CR and LF in a for \r and \n. */
static bool same_pattern(const char *a, size_t n, const char *b)
{
    if (b == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (a[i] == '\r' || a[i] == '\n') {
            if (*b++ != '\\' || *b++ != (a[i] == '\r' ? 'r' : 'n')) {
                return false;
            }
        } else if (a[i] == '\0' || *b++ != a[i]) {
            return false;
        }
    }
    return *b == '\0';
}

const qn_scanner *qn_scanner_find_by_pattern(const char *pattern, size_t len, bool after_lines)
{
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if ((same_pattern(pattern, len, all[i]->pattern) || same_pattern(pattern, len, all[i]->pattern_2)) &&
            (after_lines || !all[i]->needs_no_lines)) {
            return all[i];
        }
    }
    return NULL;
}

/* ---- GGUF's names ---- */

/* The first name of each list of scanners is the one written on export. deepseek-llm stands twice: GGUF readers take runs of digits where
 * the published tokenizer.json takes single ones; its vocabulary has no token of two digits, so the ids are the same. */
/* clang-format off */
static const qn_pre pres[] = {
    {"gpt-2", "gpt2", {&gpt2}, false, false, false},
    {"qwen2", "qwen2", {&qwen2}, true, false, false},
    {"deepseek-r1-qwen", "qwen2", {&qwen2}, true, false, false},
    {"megrez", "qwen2", {&qwen2}, true, false, false},
    {"stablelm2", "qwen2", {&qwen2}, false, false, false},
    {"hunyuan", "qwen2", {&qwen2}, false, false, false},
    {"solar-open", "qwen2", {&qwen2}, false, false, false},
    {"grok-2", "qwen2", {&qwen2}, false, false, false},
    {"qwen35", "qwen35", {&qwen35}, true, false, false},
    {"llama-bpe", "llama3", {&llama3}, false, true, true},
    {"llama3", "llama3", {&llama3}, false, true, true},
    {"llama-v3", "llama3", {&llama3}, false, true, true},
    {"falcon3", "llama3", {&llama3}, false, true, true},
    {"falcon-h1", "llama3", {&llama3}, false, true, true},
    {"pixtral", "llama3", {&llama3}, false, true, true},
    {"lfm2", "llama3", {&llama3}, false, true, true},
    {"dbrx", "llama3", {&llama3}, false, false, false},
    {"smaug-bpe", "llama3", {&llama3}, false, false, false},
    {"glm4", "llama3", {&llama3}, false, false, false},
    {"chatglm-bpe", "llama3", {&llama3}, false, false, false},
    {"gpt-4o", "gpt-4o", {&gpt4o}, false, false, false},
    {"llama4", "gpt-4o", {&gpt4o}, false, false, false},
    {"minimax-m2", "gpt-4o", {&gpt4o}, false, false, false},
    {"tekken", "tekken", {&tekken}, false, true, true},
    {"deepseek-llm", "deepseek-llm", {&lines, &deepseek_words, &deepseek_marks, &space_at_end, &hangul, &digits}, false, false, false},
    {"deepseek-llm", "deepseek-llm", {&lines, &deepseek_words, &deepseek_marks, &space_at_end, &hangul, &digit}, false, false, false},
    {"deepseek-coder", "deepseek-coder", {&lines, &space_letters, &space_marks, &hangul, &digit}, false, false, false},
    {"deepseek-v3", "deepseek-v3", {&three_digits, &kana, &deepseek3}, false, false, false},
    {"hunyuan-dense", "deepseek-v3", {&three_digits, &kana, &deepseek3}, false, false, false},
    {"starcoder", "starcoder", {&digit, &gpt2}, false, false, false},
    {"refact", "starcoder", {&digit, &gpt2}, false, false, false},
    {"command-r", "starcoder", {&digit, &gpt2}, false, false, false},
    {"smollm", "starcoder", {&digit, &gpt2}, false, false, false},
    {"codeshell", "starcoder", {&digit, &gpt2}, false, false, false},
    {"exaone", "starcoder", {&digit, &gpt2}, false, false, false},
    {"minerva-7b", "starcoder", {&digit, &gpt2}, false, false, false},
    {"mellum2", "starcoder", {&digit, &gpt2}, false, false, false},
    {"mpt", "gpt2", {&gpt2}, false, false, false},
    {"olmo", "gpt2", {&gpt2}, false, false, false},
    {"jais", "gpt2", {&gpt2}, false, false, false},
    {"phi-2", "gpt2", {&gpt2}, false, false, false},
    {"gigachat", "gpt2", {&gpt2}, false, false, false},
    {"a.x-4.0", "gpt2", {&gpt2}, false, false, false},
    {"mellum", "gpt2", {&gpt2}, false, false, false},
    {"exaone4", "gpt2", {&gpt2}, false, false, false},
    {"trillion", "gpt2", {&gpt2}, false, false, false},
    {"granite-docling", "gpt2", {&gpt2}, false, false, false},
    {"seed-coder", "seed-coder", {&seed_coder}, false, false, false},
    {"ufakzeka", "words", {&no_contractions}, false, false, false},
    {"minicpm5", "minicpm5", {&three_digits, &any_digits}, false, true, false},
    {"falcon", "falcon", {&falcon_punctuation, &gpt2, &exactly_three}, false, false, false},
    {"default", "default", {&default_punctuation, &gpt2, &digits, &exactly_three}, false, false, false},
};
/* clang-format on */

static size_t n_scanners(const qn_pre *p)
{
    size_t n = 0;
    while (n < QN_PRE_SCANNERS_MAX && p->scanners[n] != NULL) {
        n++;
    }
    return n;
}

const qn_pre *qn_pre_find(const char *name)
{
    for (size_t i = 0; i < sizeof pres / sizeof pres[0]; i++) {
        if (strcmp(pres[i].name, name) == 0) {
            return &pres[i];
        }
    }
    return NULL;
}

const qn_pre *qn_pre_find_by_scanners(const qn_scanner *const *scanners, size_t n, bool nfc, bool ignore_merges, bool any_flags)
{
    for (size_t i = 0; i < sizeof pres / sizeof pres[0]; i++) {
        const qn_pre *p = &pres[i];
        if (n_scanners(p) == n && memcmp(p->scanners, scanners, n * sizeof *scanners) == 0 &&
            (any_flags || (p->nfc == nfc && p->ignore_merges == ignore_merges))) {
            return p;
        }
    }
    return NULL;
}
