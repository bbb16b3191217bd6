/* fuzz_tokenizer.c - a hostile tokenizer.json, then hostile text through the tokenizer it makes.
 *
 * Input: tokenizer.json, a zero byte, tokenizer_config.json (maybe empty), a zero byte, text. Without zero bytes the file
 * itself is the text. */
#include <stddef.h>
#include <stdint.h>
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

/* Ids are those of the vocabulary; text nobody trusts gives no token that can only be an added one (a user-defined token of one character
 * is how that character is spelled). */
static void check_ids(const quern_tokenizer *t, const quern_ids *ids, int trusted)
{
    for (size_t i = 0; i < ids->len; i++) {
        check(ids->data[i] >= 0 && (size_t)ids->data[i] < quern_tokenizer_get_info(t)->n_tokens);
        quern_token_kind kind = quern_tokenizer_get_kind(t, ids->data[i]);
        int unknown = ids->data[i] == quern_tokenizer_get_info(t)->unk_id;
        size_t len;
        const char *text = quern_tokenizer_get_text(t, ids->data[i], &len);
        int letter = kind == QUERN_TOKEN_USER_DEFINED && len > 0 && qn_utf8_complete_prefix(text, len - 1) == 0;
        check(trusted || unknown || letter ||
              (kind != QUERN_TOKEN_CONTROL && kind != QUERN_TOKEN_USER_DEFINED && kind != QUERN_TOKEN_UNUSED));
    }
}

/* What is exported can be read again and encodes the same. */
static void check_export(const quern_tokenizer *t, const char *text, size_t len, const quern_ids *ids)
{
    quern_error err;
    qn_vocab_export e;
    quern_tokenizer *again;
    quern_ids got = {0};
    if (qn_tokenizer_export(t, quern_tokenizer_get_info(t)->n_tokens, &e, &err) != QUERN_OK) {
        return;
    }
    quern_status status = qn_tokenizer_create_from_spec(&again, &e.spec, &err);
    if (status == QUERN_OK && strcmp(e.spec.model, "gpt2") == 0 && quern_tokenizer_get_info(t)->unk_id < 0) {
        check(quern_tokenizer_encode(again, text, len, 0, &got, &err) == QUERN_OK);
        check(got.len == ids->len && (got.len == 0 || memcmp(got.data, ids->data, got.len * sizeof *got.data) == 0));
    }
    quern_ids_deinit(&got);
    quern_tokenizer_destroy(again);
    qn_vocab_export_deinit(&e);
}

static void use(const quern_tokenizer *t, const char *text, size_t len)
{
    quern_error err;
    quern_ids ids = {0};
    char *back = NULL;
    size_t back_len;
    if (quern_tokenizer_encode(t, text, len, QUERN_ENCODE_PARSE_SPECIAL | QUERN_ENCODE_ADD_BOS, &ids, &err) == QUERN_OK) {
        check_ids(t, &ids, 1);
        check(quern_tokenizer_decode(t, ids.data, ids.len, true, &back, &back_len, &err) == QUERN_OK);
        quern_free(back);
    }
    ids.len = 0;
    const quern_segment segments[] = {
        {text, len / 3, true}, {text + len / 3, len / 3, false}, {text + len / 3 * 2, len - len / 3 * 2, true}};
    if (quern_tokenizer_encode_segments(t, segments, 3, 0, &ids, &err) == QUERN_OK) {
        check_ids(t, &ids, 1);
    }
    ids.len = 0;
    if (quern_tokenizer_encode(t, text, len, 0, &ids, &err) == QUERN_OK) {
        check_ids(t, &ids, 0);
        check_export(t, text, len, &ids);
    }
    quern_ids_deinit(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    quern_error err;
    const char *json = (const char *)data, *config = NULL, *text = json;
    const char *zero = memchr(data, 0, size);
    size_t json_len = zero != NULL ? (size_t)(zero - json) : size, config_len = 0, text_len = size;
    if (zero != NULL) {
        config = zero + 1;
        const char *second = memchr(config, 0, size - json_len - 1);
        config_len = second != NULL ? (size_t)(second - config) : size - json_len - 1;
        text = second != NULL ? second + 1 : config;
        text_len = size - (size_t)(text - json);
    }
    quern_tokenizer *t;
    quern_status status = quern_tokenizer_create_from_json(&t, json, json_len, config_len > 0 ? config : NULL, config_len, &err);
    check((status == QUERN_OK) == (t != NULL));
    if (t != NULL) {
        use(t, text, text_len);
        quern_tokenizer_destroy(t);
    }
    return 0;
}
