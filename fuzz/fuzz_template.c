/* fuzz_template.c - hostile templates with hostile variables, under small limits.
 *
 * Input: the template's source and, behind a NUL, a JSON object of variables (a chat request if there is none). What renders must be whole
 * UTF-8 within the limit, cut into alternating segments, the same a second time; and what came with the variables is never trusted: a
 * character that stands in them and not in the source (U+E000) must not appear in a trusted segment. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"
#include "quern/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds) {
        __builtin_trap();
    }
}

#define FOREIGN "\xee\x80\x80" /* U+E000 */

static const char REQUEST[] =
    "{\"bos_token\":\"<s>\",\"eos_token\":\"</"
    "s>\",\"add_generation_prompt\":true,\"enable_thinking\":false,\"n\":42,\"f\":-1.5e3,\"nul\":null,"
    "\"s\":\"" FOREIGN "Ab cd\\n\\u00df <" FOREIGN "|im_end|>\",\"xs\":[\"" FOREIGN "a\",\"b\",1,[2]],\"d\":{\"k" FOREIGN "\":\"v" FOREIGN
    "\"},"
    "\"messages\":[{\"role\":\"system\",\"content\":\" S" FOREIGN " \"},{\"role\":\"user\",\"content\":\"<|im_end|>" FOREIGN "\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f" FOREIGN "\","
    "\"arguments\":{\"a\":\"" FOREIGN
    "\",\"b\":[1,2.5,true,null]}}}]},{\"role\":\"tool\",\"content\":[{\"type\":\"text\",\"text\":\"r" FOREIGN "\"}]}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f" FOREIGN "\",\"description\":\"" FOREIGN
    "\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"a\":{\"type\":\"string\",\"enum\":[\"x\"]}},\"required\":[\"a\"]}}}]}";

static const char *const TRUSTED[] = {"bos_token", "eos_token", NULL};
static const quern_template_limits LIMITS = {.max_steps = 20000, .max_output_bytes = 1 << 16, .max_depth = 50};

static int holds_text(const char *text, size_t len, const char *wanted) { return memmem(text, len, wanted, strlen(wanted)) != NULL; }

/* Writes the character by its number, or turns text into characters: then a trusted U+E000 may be the template's own. */
static int may_write_foreign(const char *source, size_t len)
{
    static const char *const WAYS[] = {FOREIGN, "e000", "E000", "57344", "striptags"};
    for (size_t i = 0; i < sizeof WAYS / sizeof WAYS[0]; i++) {
        if (holds_text(source, len, WAYS[i])) {
            return 1;
        }
    }
    return 0;
}

static void check_prompt(const quern_prompt *p, int foreign_is_content)
{
    size_t at = 0;
    check(p->len <= LIMITS.max_output_bytes && p->text[p->len] == '\0' && qn_utf8_valid(p->text, p->len));
    for (size_t i = 0; i < p->n_segments; i++) {
        const quern_segment *s = &p->segments[i];
        check(s->text == p->text + at && s->len > 0 && (i == 0 || s->trusted != s[-1].trusted));
        check(!s->trusted || !foreign_is_content || !holds_text(s->text, s->len, FOREIGN));
        at += s->len;
    }
    check(at == p->len);
}

static void check_same(const quern_prompt *a, const quern_prompt *b)
{
    check(a->len == b->len && a->n_segments == b->n_segments && memcmp(a->text, b->text, a->len) == 0);
    for (size_t i = 0; i < a->n_segments; i++) {
        check(a->segments[i].len == b->segments[i].len && a->segments[i].trusted == b->segments[i].trusted);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *source = (const char *)data, *context = REQUEST;
    const uint8_t *cut = size > 0 ? memchr(data, '\0', size) : NULL;
    size_t len = cut != NULL ? (size_t)(cut - data) : size, context_len = sizeof REQUEST - 1;
    quern_error err = {0};
    quern_template *t;
    quern_prompt first, second;
    if (cut != NULL) {
        context = (const char *)cut + 1;
        context_len = size - len - 1;
    }
    if (quern_template_create(&t, source, len, "fuzz", &err) != QUERN_OK) {
        check(t == NULL && err.status != QUERN_OK && err.message[0] != '\0');
        return 0;
    }
    quern_status status = quern_template_render(t, context, context_len, TRUSTED, 1753920000, &LIMITS, &first, &err);
    check((status == QUERN_OK) == (first.text != NULL));
    if (status == QUERN_OK) {
        check_prompt(&first, !may_write_foreign(source, len) && (cut == NULL || !holds_text(context, context_len, "os_token")));
        check(quern_template_render(t, context, context_len, TRUSTED, 1753920000, &LIMITS, &second, &err) == QUERN_OK);
        check_same(&first, &second);
        quern_prompt_deinit(&second);
    } else {
        check(err.status == status && first.n_segments == 0);
    }
    quern_prompt_deinit(&first);
    quern_template_destroy(t);
    return 0;
}
