/* test_cli_chat_prompt.c - the way that run, chat and template take from messages to ids: what users, tools and models wrote never
 * becomes a control token, for every family of prompt formats and several vocabularies. */
#include <sys/stat.h>
#include <unistd.h>

#include "chat_families.h"
#include "prompt_input.h"

static const char TOKENS[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"unk_token\":\"<unk>\",\"add_bos_token\":false}";
static const char *const PARTS[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};

/* Added tokens the vocabulary must have for the test to mean something; how many cases would deceive an encoder without marks. */
typedef struct vocabulary {
    const char *name;
    const char *token;
    size_t max_own, min_deceiving;
} vocabulary;

static quern_status encode(void *surface, const quern_template *t, const char *messages, const char *tools, const char *extra,
                           chat_encoded *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *message_list = NULL, *tool_list = NULL;
    QN_TRY(qn_json_parse(&message_list, messages, strlen(messages), QN_JSON_ALLOW_NUL, "messages", err));
    if (tools != NULL) {
        QN_TRY(qn_json_parse(&tool_list, tools, strlen(tools), QN_JSON_ALLOW_NUL, "tools", err));
    }
    const qn_chat_input input = {
        .messages = message_list, .tools = tool_list, .extra_json = extra, .generation_prompt = true, .chat_template = t};
    QN_TRY(qn_chat_encode(surface, &input, &out->prompt, &out->ids, err));
done:
    qn_json_free(message_list);
    qn_json_free(tool_list);
    return status;
}

static void check_model(const char *dir, const vocabulary *v)
{
    quern_error err = {0};
    quern_model *model;
    const quern_model_options opt = {.without_weights = true};
    assert_ok(quern_model_open(&model, dir, &opt, &err));
    const quern_tokenizer *tokenizer = quern_model_get_tokenizer(model);
    int32_t id = quern_tokenizer_find(tokenizer, v->token, strlen(v->token));
    assert_true(id >= 0 && chat_is_control(tokenizer, id));
    size_t n = chat_check_families(encode, model, tokenizer, v->max_own, true);
    print_message("%s: %zu cases would deceive an encoder without marks\n", v->name, n);
    assert_true(n >= v->min_deceiving);
    quern_model_close(model);
}

static void write_part(const char *dir, const char *name, const char *text, size_t len)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

/* A model folder without weights around the text of a tokenizer.json. */
static void check_tokenizer(const char *json, size_t len, const char *config, const vocabulary *v)
{
    char dir[] = "/tmp/quern-chat-test-XXXXXX", path[512];
    size_t config_len;
    assert_non_null(mkdtemp(dir));
    char *model_config = qn_test_read(qn_test_golden("hf/qwen3/config.json"), &config_len);
    write_part(dir, PARTS[0], model_config, config_len);
    write_part(dir, PARTS[1], json, len);
    write_part(dir, PARTS[2], config, strlen(config));
    qn_free(model_config);
    check_model(dir, v);
    for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, PARTS[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
}

static void check_shared(const char *name, const char *config, const vocabulary *v)
{
    char path[256];
    size_t len;
    (void)snprintf(path, sizeof path, "data/tokenizers/%s/tokenizer.json", name);
    if (qn_test_shared(path) == NULL) {
        print_message("SKIP: %s: not in this checkout\n", path);
        skip();
    }
    char *json = qn_test_read(qn_test_shared(path), &len);
    check_tokenizer(json, len, config, v);
    qn_free(json);
}

static void all_families_in_one_vocabulary(void **state)
{
    (void)state;
    qn_buf json;
    char *added = chat_added_tokens(509);
    qn_test_golden_json(&json, "added_tokens", added, NULL, NULL);
    check_tokenizer(json.data, json.len, TOKENS, &(vocabulary){"all families", "[INST]", SIZE_MAX, 400});
    qn_buf_deinit(&json);
    qn_free(added);
}

static void demo_model(void **state)
{
    (void)state;
    assert_non_null(qn_test_shared("models/quern-coder-8m/config.json"));
    char dir[1024];
    (void)snprintf(dir, sizeof dir, "%s", qn_test_shared("models/quern-coder-8m/config.json"));
    *strrchr(dir, '/') = '\0';
    check_model(dir, &(vocabulary){"demo model", "<|im_end|>", SIZE_MAX, 100});
}

static void qwen3(void **state)
{
    (void)state;
    check_shared("qwen3", "{\"eos_token\":\"<|im_end|>\"}", &(vocabulary){"Qwen 3", "<|im_end|>", SIZE_MAX, 100});
}

static void llama3(void **state)
{
    (void)state;
    check_shared("llama3", "{\"bos_token\":\"<|begin_of_text|>\",\"eos_token\":\"<|eot_id|>\"}",
                 &(vocabulary){"Llama 3", "<|eot_id|>", 16, 100});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_families_in_one_vocabulary),
        cmocka_unit_test(demo_model),
        cmocka_unit_test(qwen3),
        cmocka_unit_test(llama3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
