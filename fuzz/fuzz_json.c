/* fuzz_json.c - any bytes as JSON: the tree and the token reader must agree on what is well formed, and what is written from
 * a tree must read back as the same text. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/json.h"
#include "base/json_tokens.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds) {
        __builtin_trap();
    }
}

static qn_json *parse(const char *text, size_t size)
{
    quern_error err;
    qn_json *v;
    quern_status status = qn_json_parse(&v, text, size, QN_JSON_ALLOW_NUL, "input", &err);
    check((status == QUERN_OK) == (v != NULL));
    return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    qn_json_tokens scan;
    qn_json_tokens_init(&scan, text, size);
    (void)qn_json_tokens_next(&scan);
    int well_formed = qn_json_tokens_skip(&scan) && qn_json_tokens_next(&scan) == QN_JSON_TOKEN_END;
    qn_json *v = parse(text, size);
    if (v == NULL) {
        return 0; /* the tree refuses more: numbers that do not fit */
    }
    check(well_formed);
    qn_buf first;
    qn_buf second;
    qn_buf_init(&first, SIZE_MAX / 2);
    qn_buf_init(&second, SIZE_MAX / 2);
    check(qn_json_write(v, 0, &first));
    qn_json *again = parse(qn_buf_text(&first), first.len);
    check(again != NULL && qn_json_write(again, 0, &second));
    check(first.len == second.len && memcmp(qn_buf_text(&first), qn_buf_text(&second), first.len) == 0);
    qn_json_free(v);
    qn_json_free(again);
    qn_buf_deinit(&first);
    qn_buf_deinit(&second);
    return 0;
}
