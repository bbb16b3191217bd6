/* fuzz_tokenizer_text.c - hostile text through small fixed tokenizers, one for each way to cut, and a SentencePiece one.
 *
 * Input: one byte that chooses the tokenizer, one that chooses the trust of parts, text. Decoding must give the text back. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "quern/tokenizer.h"
#include "text/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds) {
        __builtin_trap();
    }
}

static const char *const names[] = {"gpt-2",        "qwen2",          "llama-bpe",   "gpt-4o",    "tekken",
                                    "deepseek-llm", "deepseek-coder", "deepseek-v3", "starcoder", "qwen35",
                                    "seed-coder",   "minicpm5",       "falcon",      "default",   "(spm)"};
enum { N_NAMES = sizeof names / sizeof names[0] };
static const char *const added[] = {"<|im_end|>", "<s>", "</s>", "[INST]"};
static const char *const pairs[][2] = {{"a", "b"}, {"ab", "c"}, {"i", "n"}, {"in", "g"}, {"a", "a"}, {"aa", "aa"}, {"<", "s"}, {"<s", ">"}};
enum { N_ADDED = 4, N_PAIRS = 8, N_TOKENS = 256 + N_ADDED + N_PAIRS + 1 };

/* 256 bytes (in GPT-2's alphabet, or as <0x..>), the added tokens, the results of the pairs, U+2581. */
static quern_tokenizer *make(const char *pre)
{
    static char texts[N_TOKENS][16], merges[N_PAIRS][16];
    qn_text_span tokens[N_TOKENS], merge_spans[N_PAIRS];
    float scores[N_TOKENS];
    int32_t types[N_TOKENS];
    int spm = strcmp(pre, "(spm)") == 0;
    uint32_t next = 0x100;
    for (unsigned b = 0; b < 256; b++) {
        int printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        char bytes[4];
        size_t len = qn_utf8_encode(printable ? b : next++, bytes);
        (void)snprintf(texts[b], sizeof texts[b], spm ? "<0x%02X>" : "%.*s", spm ? (int)b : (int)len, bytes);
        types[b] = spm ? 6 : 1;
    }
    for (size_t i = 0; i < N_ADDED; i++) {
        (void)snprintf(texts[256 + i], 16, "%s", added[i]);
        types[256 + i] = i == 0 ? 4 : 3;
    }
    for (size_t i = 0; i < N_PAIRS; i++) {
        (void)snprintf(texts[256 + N_ADDED + i], 16, "%s%s", pairs[i][0], i == 7 ? "!" : pairs[i][1]);
        (void)snprintf(merges[i], 16, "%s %s", pairs[i][0], i == 7 ? "!" : pairs[i][1]);
        merge_spans[i] = (qn_text_span){merges[i], strlen(merges[i])};
        types[256 + N_ADDED + i] = 1;
    }
    (void)snprintf(texts[N_TOKENS - 1], 16, "\xe2\x96\x81");
    types[N_TOKENS - 1] = 1;
    for (size_t i = 0; i < N_TOKENS; i++) {
        tokens[i] = (qn_text_span){texts[i], strlen(texts[i])};
        scores[i] = -(float)i;
    }
    qn_vocab_spec spec = {.what = "fuzz",
                          .model = spm ? "llama" : "gpt2",
                          .pre = pre,
                          .tokens = tokens,
                          .n_tokens = N_TOKENS,
                          .scores = scores,
                          .types = types,
                          .merges = merge_spans,
                          .n_merges = spm ? 0 : N_PAIRS,
                          .bos_id = 257,
                          .eos_id = 258,
                          .unk_id = -1,
                          .pad_id = -1,
                          .add_bos = 0,
                          .add_eos = 0,
                          .add_space_prefix = 1};
    quern_error err;
    quern_tokenizer *t;
    check(qn_tokenizer_create_from_spec(&t, &spec, &err) == QUERN_OK);
    return t;
}

/* Streaming gives the same as decoding at once, with U+FFFD for what is no UTF-8, and always whole characters. */
static void check_stream(const quern_tokenizer *t, const quern_ids *ids, const char *whole, size_t len)
{
    quern_error err;
    quern_decoder *d;
    size_t at = 0;
    int valid = qn_utf8_valid(whole, len);
    check(quern_decoder_create(&d, t, true, &err) == QUERN_OK);
    for (size_t i = 0; i <= ids->len; i++) {
        const char *part;
        size_t n;
        check((i < ids->len ? quern_decoder_push(d, ids->data[i], &part, &n, &err) : quern_decoder_finish(d, &part, &n, &err)) == QUERN_OK);
        check(qn_utf8_valid(part, n));
        check(!valid || (n <= len - at && (n == 0 || memcmp(whole + at, part, n) == 0)));
        at += n;
    }
    check(!valid || at == len);
    quern_decoder_destroy(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static quern_tokenizer *tokenizers[N_NAMES];
    if (size < 2) {
        return 0;
    }
    size_t which = data[0] % N_NAMES;
    if (tokenizers[which] == NULL) {
        tokenizers[which] = make(names[which]);
    }
    const quern_tokenizer *t = tokenizers[which];
    const char *text = (const char *)data + 2, *blank = "\xe2\x96\x81";
    size_t len = size - 2, part = len / 4;
    quern_error err;
    quern_ids ids = {0};
    char *back;
    size_t back_len;
    quern_segment segments[4];
    for (size_t i = 0; i < 4; i++) {
        segments[i] = (quern_segment){text + i * part, i < 3 ? part : len - 3 * part, (data[1] >> i & 1) != 0};
    }
    check(quern_tokenizer_encode_segments(t, segments, 4, 0, &ids, &err) == QUERN_OK);
    for (size_t i = 0; i < ids.len; i++) {
        int special = ids.data[i] >= 256 && ids.data[i] < 256 + N_ADDED;
        check((data[1] & 15) != 0 || !special);
    }
    check(quern_tokenizer_decode(t, ids.data, ids.len, true, &back, &back_len, &err) == QUERN_OK);
    int changes = names[which][0] == 'q'; /* NFC */
    for (size_t i = 0; names[which][0] == '(' && i + 3 <= len; i++) {
        changes = changes || memcmp(text + i, blank, 3) == 0 ||
                  data[1] != 0; /* becomes a blank; a blank stands behind each special token */
    }
    check(changes || (back_len == len && memcmp(back, text, len) == 0));
    check_stream(t, &ids, back, back_len);
    quern_free(back);
    quern_ids_deinit(&ids);
    return 0;
}
