/* test_gate_texts.c - what the texts around the weights may say and may not: GGUF metadata, and the JSON files and templates of an MLX folder. Each fault
 * is one change to an output that passed; what only spells the same otherwise still passes.
 */
#include "quantize_run.h"

#include "quantize/verify_templates.h"
#include "quern/verify.h"

/* The outputs that cases change, made once. */
typedef struct outputs {
    char *dir, *scratch;
    char gguf[1024], mlx[1024], from_gguf[1024]; /* of hf/qwen3, and an MLX folder of gguf/base/qwen3.bf16.gguf */
    char source[1024], gguf_source[1024];
} outputs;

static const char *output_path(const run *r, const char *dir, size_t i)
{
    return scratch_path(dir, qn_json_string(qn_json_get(qn_json_at(qn_json_get(r->manifest, "outputs"), i), "path"), NULL));
}

static int make_outputs(void **state)
{
    static outputs o;
    const char *gguf = qn_test_golden("gguf/base/qwen3.bf16.gguf");
    assert_non_null(gguf);
    o.dir = new_dir();
    o.scratch = new_dir();
    (void)snprintf(o.source, sizeof o.source, "%s", model_dir("qwen3"));
    (void)snprintf(o.gguf_source, sizeof o.gguf_source, "%s", gguf);
    run r = quantize(o.source, o.dir, "gguf:Q8_0,mlx:8bit");
    (void)snprintf(o.gguf, sizeof o.gguf, "%s", output_path(&r, o.dir, 0));
    (void)snprintf(o.mlx, sizeof o.mlx, "%s", output_path(&r, o.dir, 1));
    qn_json_free(r.manifest);
    r = quantize(o.gguf_source, o.scratch, "mlx:8bit");
    (void)snprintf(o.from_gguf, sizeof o.from_gguf, "%s", output_path(&r, o.scratch, 0));
    qn_json_free(r.manifest);
    *state = &o;
    return 0;
}

static int drop_outputs(void **state)
{
    outputs *o = *state;
    drop_dir(o->dir);
    drop_dir(o->scratch);
    return 0;
}

/* ---- judging ---- */

typedef struct judged {
    bool failed;
    char reasons[4096], notes[4096];
} judged;

static void join(const qn_json *list, char *out, size_t cap)
{
    out[0] = '\0';
    for (size_t i = 0; i < qn_json_length(list); i++) {
        size_t len = strlen(out);
        (void)snprintf(out + len, cap - len, "%s%s", i > 0 ? " / " : "", qn_json_string(qn_json_at(list, i), NULL));
    }
}

static judged judge(const char *path, const char *source)
{
    quern_error err = {0};
    quern_verify_result r;
    judged j = {0};
    qn_json *doc;
    const char *files[] = {path};
    const quern_verify_options opt = {
        .files = files, .n_files = 1, .source = source, .policy = QUERN_GATE_OFF, .calibrate = QUERN_CALIBRATE_NONE, .n_threads = 2};
    assert_ok(quern_verify(&opt, &r, &err));
    assert_ok(qn_json_parse(&doc, r.json, r.len, QN_JSON_REJECT_DUPLICATES, "report", &err));
    const qn_json *gate = qn_json_get(qn_json_at(qn_json_get(doc, "outputs"), 0), "gate");
    j.failed = r.n_failed + r.n_unreadable > 0;
    join(qn_json_get(gate, "reasons"), j.reasons, sizeof j.reasons);
    join(qn_json_get(gate, "notes"), j.notes, sizeof j.notes);
    qn_json_free(doc);
    quern_free(r.json);
    return j;
}

/* reason NULL: it passes, and one of the notes has `note` (NULL: none is asked for). */
static void expect(const char *what, const char *path, const char *source, const char *reason, const char *note)
{
    judged j = judge(path, source);
    bool as_said = reason != NULL ? j.failed && strstr(j.reasons, reason) != NULL : !j.failed;
    if (!as_said || (note != NULL && strstr(j.notes, note) == NULL)) {
        fail_msg("%s: %s, reasons: %s; notes: %s", what, j.failed ? "fail" : "no fail", j.reasons, j.notes);
    }
}

/* ---- GGUF ---- */

typedef enum gguf_change { ADD, SET, DROP } gguf_change;

/* Bytes of a file, with room for a key more. */
typedef struct gguf_bytes {
    uint8_t *data;
    size_t size;
} gguf_bytes;

static void put(uint8_t **at, const void *data, size_t n)
{
    memcpy(*at, data, n);
    *at += n;
}

static void put_text(uint8_t **at, const char *text)
{
    uint64_t n = strlen(text);
    put(at, &n, sizeof n);
    put(at, text, (size_t)n);
}

/* A key in front of the others; a second one fills up to 32 bytes, so that the tensors keep their alignment. */
static void add_key(gguf_bytes *b, const char *key, uint32_t type, const void *value, size_t n)
{
    uint8_t added[1024] = {0}, *at = added;
    uint64_t n_keys, length;
    const uint32_t text = QN_GGUF_STRING;
    put_text(&at, key);
    put(&at, &type, sizeof type);
    put(&at, value, n);
    put_text(&at, "quern.test.filler");
    put(&at, &text, sizeof text);
    length = (32 - ((size_t)(at - added) + sizeof length) % 32) % 32;
    put(&at, &length, sizeof length);
    at += length;
    size_t more = (size_t)(at - added);
    b->data = realloc(b->data, b->size + more);
    assert_non_null(b->data);
    memmove(b->data + 24 + more, b->data + 24, b->size - 24);
    memcpy(b->data + 24, added, more);
    b->size += more;
    memcpy(&n_keys, b->data + 16, sizeof n_keys);
    n_keys += 2;
    memcpy(b->data + 16, &n_keys, sizeof n_keys);
}

/* A key that is there: its value in place, or another name for it that says nothing. */
static void change_key(gguf_bytes *b, gguf_change change, const char *key, const void *value, size_t n)
{
    quern_error err = {0};
    qn_gguf *g;
    assert_ok(qn_gguf_parse(&g, b->data, b->size, "output", &err));
    const qn_gguf_value *v = qn_gguf_find(g, key);
    assert_non_null(v);
    uint8_t *at = b->data + (change == SET ? v->data - b->data : (const uint8_t *)v->key.data - b->data);
    size_t length_bytes = change == SET && v->type == QN_GGUF_STRING ? sizeof(uint64_t) : 0;
    if (change == DROP) {
        memcpy(at + strlen("general."), "z", 1);
    } else {
        assert_int_equal(v->n_bytes, length_bytes + n);
        memcpy(at + length_bytes, value, n);
    }
    qn_gguf_close(g);
}

static void metadata_is_compared(void **state)
{
    const outputs *o = *state;
    const float five = 5, penalty = 1.05f;
    const uint32_t three = 3, zero = 0, hundred = 100, all = 512, hidden = 256;
    const int32_t forty = 40;
    static const uint8_t no_reals[12] = {QN_GGUF_F32};
    const struct {
        const char *what;
        gguf_change change;
        const char *key;
        uint32_t type;
        const void *value;
        size_t n;
        const char *reason, *note;
    } cases[] = {
        {"nothing", DROP, NULL, 0, NULL, 0, NULL, NULL},
        {"another temperature", SET, "general.sampling.temp", QN_GGUF_F32, &five, 4, "general.sampling.temp is 5, the source gives 0.69",
         NULL},
        {"another top_k", SET, "general.sampling.top_k", QN_GGUF_I32, &forty, 4, "general.sampling.top_k is 40, the source gives 20", NULL},
        {"another penalty", SET, "general.sampling.penalty_repeat", QN_GGUF_F32, &five, 4, "penalty_repeat is 5", NULL},
        {"the penalty again", SET, "general.sampling.penalty_repeat", QN_GGUF_F32, &penalty, 4, NULL, NULL},
        {"sampling that the source has not", ADD, "general.sampling.min_p", QN_GGUF_F32, &five, 4,
         "general.sampling.min_p is 5, the source gives none", NULL},
        {"sampling as a list", ADD, "general.sampling.min_p", QN_GGUF_ARRAY, no_reals, sizeof no_reals, "general.sampling.min_p is a list",
         NULL},
        {"sampling that Quern does not know", ADD, "general.sampling.mirostat", QN_GGUF_I32, &three, 4, "general.sampling.mirostat is 3",
         NULL},
        {"no temperature beside the rest", DROP, "general.sampling.temp", 0, NULL, 0, "general.sampling.temp is not there", NULL},
        {"no penalty beside the rest", DROP, "general.sampling.penalty_repeat", 0, NULL, 0, NULL, "penalty_repeat is not there"},
        {"an adapter", SET, "general.type", QN_GGUF_STRING, "lora!", 5, "general.type is 'lora!', expected 'model'", NULL},
        {"pooling", ADD, "qwen3.pooling_type", QN_GGUF_U32, &three, 4, "qwen3.pooling_type is in the file and not in the source", NULL},
        {"no pooling, said", ADD, "qwen3.pooling_type", QN_GGUF_U32, &zero, 4, NULL, "qwen3.pooling_type"},
        {"another width of what comes out", ADD, "qwen3.embedding_length_out", QN_GGUF_U32, &hundred, 4, "embedding_length_out", NULL},
        {"the width of what comes out", ADD, "qwen3.embedding_length_out", QN_GGUF_U32, &hidden, 4, NULL, "embedding_length_out"},
        {"other tokens", ADD, "qwen3.vocab_size", QN_GGUF_U32, &hundred, 4, "the number of tokens is 100, the source has 512", NULL},
        {"as many tokens", ADD, "qwen3.vocab_size", QN_GGUF_U32, &all, 4, NULL, NULL},
        {"a key that nobody knows", ADD, "qwen3.favourite", QN_GGUF_U32, &three, 4, NULL,
         "1 key that the source does not give: qwen3.favourite"},
        {"a key of nobody", ADD, "favourite.colour", QN_GGUF_U32, &three, 4, NULL, "favourite.colour"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gguf_bytes b;
        b.data = read_file(o->gguf, &b.size);
        if (cases[i].change == ADD) {
            add_key(&b, cases[i].key, cases[i].type, cases[i].value, cases[i].n);
        } else if (cases[i].key != NULL) {
            change_key(&b, cases[i].change, cases[i].key, cases[i].value, cases[i].n);
        }
        char path[1024];
        (void)snprintf(path, sizeof path, "%s", scratch_path(o->scratch, "case.gguf"));
        write_file(path, b.data, b.size);
        free(b.data);
        expect(cases[i].what, path, o->source, cases[i].reason, cases[i].note);
    }
}

/* Older converters write no sampling defaults at all. */
static void sampling_may_be_absent_altogether(void **state)
{
    static const char *const keys[] = {"temp", "top_k", "top_p", "penalty_repeat"};
    const outputs *o = *state;
    gguf_bytes b;
    b.data = read_file(o->gguf, &b.size);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char key[64];
        (void)snprintf(key, sizeof key, "general.sampling.%s", keys[i]);
        change_key(&b, DROP, key, NULL, 0);
    }
    char path[1024];
    (void)snprintf(path, sizeof path, "%s", scratch_path(o->scratch, "case.gguf"));
    write_file(path, b.data, b.size);
    free(b.data);
    expect("no sampling", path, o->source, NULL, "general.sampling.temp is not there");
}

/* ---- MLX folders ---- */

static void copy_folder(const char *from, const char *to)
{
    DIR *d = opendir(from);
    assert_non_null(d);
    assert_int_equal(mkdir(to, 0700), 0);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        size_t size;
        if (e->d_name[0] != '.') {
            uint8_t *data = read_file(scratch_path(from, e->d_name), &size);
            write_file(scratch_path(to, e->d_name), data, size);
            free(data);
        }
    }
    (void)closedir(d);
}

/* One change to a folder: of a JSON file the key (value NULL: removed), of another file the whole text. */
typedef struct folder_change {
    const char *file, *key, *value;
} folder_change;

static void apply(const char *folder, const folder_change *c)
{
    quern_error err = {0};
    char path[1200];
    (void)snprintf(path, sizeof path, "%s", scratch_path(folder, c->file));
    if (c->key == NULL) {
        char below[1200];
        (void)snprintf(below, sizeof below, "%.*s", (int)(strrchr(path, '/') - path), path);
        (void)mkdir(below, 0700);
        write_file(path, (const uint8_t *)c->value, strlen(c->value));
        return;
    }
    size_t size = 0;
    char *text = qn_path_exists(path) ? (char *)read_file(path, &size) : NULL;
    qn_json *root = NULL, *value = NULL;
    qn_buf out;
    assert_ok(qn_json_parse(&root, text != NULL ? text : "{}", text != NULL ? size : 2, 0, c->file, &err));
    if (c->value != NULL) {
        assert_ok(qn_json_parse(&value, c->value, strlen(c->value), 0, c->key, &err));
        assert_true(qn_json_set(root, c->key, value));
    } else {
        qn_json_remove(root, c->key);
    }
    qn_buf_init(&out, (size_t)1 << 24);
    assert_true(qn_json_write(root, 1, &out));
    write_file(path, (const uint8_t *)qn_buf_text(&out), out.len);
    qn_buf_deinit(&out);
    qn_json_free(root);
    free(text);
}

/* Some changes to one folder, and what comes of them. */
enum { CHANGES_MAX = 5 };
typedef struct folder_case {
    const char *what;
    folder_change changes[CHANGES_MAX];
    const char *reason, *note;
} folder_case;

static void judge_cases(const outputs *o, const char *folder, const char *source, const folder_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char copy[1024];
        (void)snprintf(copy, sizeof copy, "%s", scratch_path(o->scratch, "case"));
        copy_folder(folder, copy);
        for (size_t k = 0; k < CHANGES_MAX && cases[i].changes[k].file != NULL; k++) {
            apply(copy, &cases[i].changes[k]);
        }
        expect(cases[i].what, copy, source, cases[i].reason, cases[i].note);
        remove_tree(copy);
    }
}

#define CONFIG "config.json"
#define GENERATION "generation_config.json"
#define TOKENS "tokenizer_config.json"
#define SPECIAL "special_tokens_map.json"
#define TEMPLATE \
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}" \
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
#define TEMPLATE_JSON \
    "\"{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\\\n' + m.content + '<|im_end|>\\\\n' }}{%- endfor %}" \
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\\\n' }}{%- endif %}\""

#define TOKENIZER "tokenizer.json"
#define NFC "{\"type\": \"NFC\"}"
#define BYTES "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": false}"
#define QWEN \
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| " \
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", \"invert\": false}"
#define SEQUENCE(list, items) "{\"type\": \"Sequence\", \"" list "\": [" items "]}"
#define REPLACE(from, to) "{\"type\": \"Replace\", \"pattern\": {\"String\": \"" from "\"}, \"content\": \"" to "\"}"
#define SPLIT(literal) "{\"type\": \"Split\", \"pattern\": {\"String\": \"" literal "\"}, \"behavior\": \"Isolated\", \"invert\": false}"

/* A step that waits for a text that nobody tries is a fault; one that does nothing is none. */
static void pipelines_are_compared(void **state)
{
    static const folder_case cases[] = {
        {"a word becomes another",
         {{TOKENIZER, "normalizer", SEQUENCE("normalizers", NFC ", " REPLACE("zqxj", "rm"))}},
         "step 2 of the normalizer (2 steps, the source has 1) is another",
         NULL},
        {"the same in front",
         {{TOKENIZER, "normalizer", SEQUENCE("normalizers", REPLACE("zqxj", "") ", " NFC)}},
         "step 1 of the normalizer",
         NULL},
        {"no normalizer", {{TOKENIZER, "normalizer", "null"}}, "step 1 of the normalizer (0 steps, the source has 1)", NULL},
        {"in a list", {{TOKENIZER, "normalizer", SEQUENCE("normalizers", NFC)}}, NULL, NULL},
        {"twice", {{TOKENIZER, "normalizer", SEQUENCE("normalizers", NFC ", " NFC)}}, NULL, "is put together otherwise"},
        {"steps that do nothing",
         {{TOKENIZER, "normalizer",
           SEQUENCE("normalizers", REPLACE("zqxj", "zqxj") ", " NFC ", {\"type\": \"Prepend\", \"prepend\": \"\"}")}},
         NULL,
         "is put together otherwise"},
        {"the same cuts", {{TOKENIZER, "pre_tokenizer", SEQUENCE("pretokenizers", QWEN ", " BYTES)}}, NULL, NULL},
        {"a cut more",
         {{TOKENIZER, "pre_tokenizer", SEQUENCE("pretokenizers", QWEN ", " SPLIT("zqxj") ", " BYTES)}},
         "step 2 of the pre_tokenizer (2 steps, the source has 1) is another",
         NULL},
        {"the same class", {{TOKENS, "tokenizer_class", "\"Qwen2TokenizerFast\""}}, NULL, NULL},
        {"a class that reads tokenizer.json as it is", {{TOKENS, "tokenizer_class", "\"TokenizersBackend\""}}, NULL, "tokenizer_class"},
        {"a class with rules of its own",
         {{TOKENS, "tokenizer_class", "\"NewlineTokenizer\""}},
         "tokenizer_class is 'NewlineTokenizer', the source",
         NULL},
        {"another model's class", {{TOKENS, "tokenizer_class", "\"LlamaTokenizerFast\""}}, "tokenizer_class is 'LlamaTokenizerFast'", NULL},
        {"no class", {{TOKENS, "tokenizer_class", NULL}}, "tokenizer_class is not there, the source has 'Qwen2Tokenizer'", NULL},
        {"the class in config.json",
         {{TOKENS, "tokenizer_class", NULL}, {CONFIG, "tokenizer_class", "\"Qwen2Tokenizer\""}},
         NULL,
         "tokenizer_class"},
        {"no text", {{TOKENS, "tokenizer_class", "7"}}, "tokenizer_class is no text", NULL},
        {"activations in few bits",
         {{CONFIG, "quantize_activations", "true"}},
         "config.json: quantize_activations is not the source's",
         NULL},
        {"activations as they are", {{CONFIG, "quantize_activations", "false"}}, NULL, NULL},
    };
    const outputs *o = *state;
    judge_cases(o, o->mlx, o->source, cases, sizeof cases / sizeof cases[0]);
}

static void sampling_is_compared(void **state)
{
    static const folder_case cases[] = {
        {"nothing", {{0}}, NULL, NULL},
        {"another temperature", {{GENERATION, "temperature", "0.9"}}, "temperature is 0.9, the source has 0.7", NULL},
        {"the temperature, spelled otherwise", {{GENERATION, "temperature", "7e-1"}}, NULL, NULL},
        {"no temperature", {{GENERATION, "temperature", NULL}}, "temperature is nothing, the source has 0.7", NULL},
        {"greedy", {{GENERATION, "do_sample", "false"}}, "do_sample is false, the source has true", NULL},
        {"top_k", {{GENERATION, "top_k", "1"}}, "top_k is 1, the source has 20", NULL},
        {"a penalty", {{GENERATION, "repetition_penalty", "1.5"}}, "repetition_penalty is 1.5", NULL},
        {"min_p more", {{GENERATION, "min_p", "0.5"}}, "min_p is 0.5, the source has nothing", NULL},
        {"min_p that does nothing", {{GENERATION, "min_p", "0.0"}}, NULL, NULL},
        {"words that never come", {{GENERATION, "bad_words_ids", "[[5]]"}}, "bad_words_ids", NULL},
        {"beams", {{GENERATION, "num_beams", "4"}}, "num_beams is 4", NULL},
        {"how long", {{GENERATION, "max_new_tokens", "7"}}, NULL, "max_new_tokens"},
        {"one unit of rope's base", {{CONFIG, "rope_theta", "1000001"}}, "rope's base is 1000001, the source has 1000000", NULL},
        {"one token of the context", {{CONFIG, "max_position_embeddings", "40961"}}, "the context length is 40961", NULL},
        {"biases that are not there",
         {{CONFIG, "attention_bias", "true"}},
         "attention_bias, as to q, k and v, is 1, the source has 0",
         NULL},
        {"rope as transformers 5 has it",
         {{CONFIG, "rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 1000000.0}"}},
         NULL,
         "rope_parameters"},
        {"rope in two places",
         {{CONFIG, "rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 1000000.0}"}, {CONFIG, "rope_theta", "10000"}},
         "rope_theta is 10000, the source has 1000000: other readers take it",
         NULL},
        {"another scaling where Quern does not look",
         {{CONFIG, "rope_scaling", "{\"rope_type\": \"default\"}"},
          {CONFIG, "rope_parameters", "{\"rope_type\": \"linear\", \"factor\": 2.0, \"rope_theta\": 1000000.0}"}},
         "rope_parameters: rope's scaling is linear, the source has none",
         NULL},
        {"two words for the scaling",
         {{CONFIG, "rope_scaling", "{\"rope_type\": \"default\", \"type\": \"linear\", \"factor\": 2.0}"}},
         "type of rope_scaling is 'linear'",
         NULL},
    };
    const outputs *o = *state;
    judge_cases(o, o->mlx, o->source, cases, sizeof cases / sizeof cases[0]);
}

static void yarn_is_compared(void **state)
{
    static const folder_case cases[] = {
        {"nothing", {{0}}, NULL, NULL},
        {"a range that is not rounded",
         {{CONFIG, "rope_scaling",
           "{\"rope_type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 1024, \"truncate\": false}"}},
         "YaRN's truncate is 0, the source has 1",
         NULL},
        {"another factor",
         {{CONFIG, "rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 4.00001, \"original_max_position_embeddings\": 1024}"}},
         "rope's scaling factor is 4.00001, the source has 4",
         NULL},
    };
    const outputs *o = *state;
    char path[1024], source[1024];
    (void)snprintf(source, sizeof source, "%s", model_dir("qwen3_yarn"));
    char *dir = new_dir();
    run r = quantize(source, dir, "mlx:8bit");
    (void)snprintf(path, sizeof path, "%s", output_path(&r, dir, 0));
    qn_json_free(r.manifest);
    judge_cases(o, path, source, cases, sizeof cases / sizeof cases[0]);
    drop_dir(dir);
}

static void special_tokens_are_compared(void **state)
{
    static const char object[] = "{\"content\": \"<|endoftext|>\", \"lstrip\": false, \"normalized\": false, \"rstrip\": false, "
                                 "\"single_word\": false, \"special\": true, \"__type\": \"AddedToken\"}";
    static const folder_case cases[] = {
        {"a special token more",
         {{TOKENS, "additional_special_tokens", "[\"<|im_start|>\", \"<|im_end|>\", \"return\"]"}},
         "'return' is listed here",
         NULL},
        {"a special token less",
         {{TOKENS, "additional_special_tokens", "[\"<|im_start|>\"]"}},
         "'<|im_end|>' is listed in the source",
         NULL},
        {"the other order",
         {{TOKENS, "additional_special_tokens", "[\"<|im_end|>\", \"<|im_start|>\"]"}},
         NULL,
         "additional_special_tokens"},
        {"flags of its own",
         {{TOKENS, "additional_special_tokens", "[\"<|im_end|>\", {\"content\": \"<|im_start|>\", \"lstrip\": true}]"}},
         "'<|im_start|>' has other flags",
         NULL},
        {"an extra special token", {{TOKENS, "extra_special_tokens", "[\"def\"]"}}, "'def' is listed here", NULL},
        {"an extra special token with a name", {{TOKENS, "extra_special_tokens", "{\"x_token\": \"def\"}"}}, "'def' is listed here", NULL},
        {"the name that transformers 5 has for the list",
         {{TOKENS, "additional_special_tokens", NULL}, {TOKENS, "extra_special_tokens", "[\"<|im_start|>\", \"<|im_end|>\"]"}},
         NULL,
         "extra_special_tokens"},
        {"what transformers 5 leaves out and writes",
         {{TOKENS, "added_tokens_decoder", NULL},
          {TOKENS, "additional_special_tokens", NULL},
          {TOKENS, "unk_token", "\"<|endoftext|>\""},
          {TOKENS, "tool_parser_type", "\"json_tools\""},
          {TOKENS, "backend", "\"tokenizers\""}},
         NULL,
         "tool_parser_type"},
        {"another padding token",
         {{TOKENS, "pad_token", "\"<|im_end|>\""}},
         "pad_token is '<|im_end|>', the source has '<|endoftext|>'",
         NULL},
        {"a text as padding token", {{TOKENS, "pad_token", "\"def\""}}, "pad_token is 'def'", NULL},
        {"the padding token as an object", {{TOKENS, "pad_token", object}}, NULL, "pad_token"},
        {"no padding token", {{TOKENS, "pad_token", "null"}}, NULL, "pad_token"},
        {"a mask", {{TOKENS, "mask_token", "\"def\""}}, "mask_token is 'def', no special token in the source", NULL},
        {"a role that nobody knows", {{TOKENS, "image_token", "\"def\""}}, "image_token is 'def'", NULL},
        {"a map of special tokens", {{SPECIAL, "pad_token", "\"<|im_end|>\""}}, "special_tokens_map.json: pad_token is '<|im_end|>'", NULL},
        {"a list in the map", {{SPECIAL, "additional_special_tokens", "[\"def\"]"}}, "'def' is listed here", NULL},
        {"a map that says the same", {{SPECIAL, "pad_token", object}}, NULL, NULL},
        {"a template of mlx-lm's own",
         {{TOKENS, "chat_template_type", "\"deepseek_v32\""}},
         "chat_template_type is not the source's",
         NULL},
        {"a program for the tokenizer",
         {{TOKENS, "auto_map", "{\"AutoTokenizer\": [\"evil.T\", null]}"}},
         "tokenizer_config.json: auto_map is not the source's",
         NULL},
        {"another tokenizer.json", {{TOKENS, "fast_tokenizer_files", "[\"tokenizer.5.0.json\"]"}}, "fast_tokenizer_files", NULL},
    };
    const outputs *o = *state;
    judge_cases(o, o->mlx, o->source, cases, sizeof cases / sizeof cases[0]);
}

static void templates_in_files_are_compared(void **state)
{
    static const folder_case cases[] = {
        {"a default template that comes before the others",
         {{"additional_chat_templates/default.jinja", NULL, "{{ messages }}"}},
         "additional_chat_templates/default.jinja: the chat template is not the source's",
         NULL},
        {"a template by another name",
         {{"additional_chat_templates/rag.jinja", NULL, TEMPLATE}},
         "additional_chat_templates/rag.jinja: a chat template that the source does not have",
         NULL},
        {"tools without the plain template",
         {{"additional_chat_templates/tool_use.jinja", NULL, "{{ tools }}"}},
         "additional_chat_templates/tool_use.jinja",
         NULL},
        {"a template for processors",
         {{"chat_template.json", NULL, "{\"chat_template\": \"{{ messages }}\"}"}},
         "chat_template.json: the chat template is not",
         NULL},
        {"a file that is no JSON", {{"chat_template.json", NULL, "{{ messages }}"}}, "chat_template.json is not the source's", NULL},
        {"the source's template for processors", {{"chat_template.json", "chat_template", TEMPLATE_JSON}}, NULL, NULL},
        {"something else in that folder", {{"additional_chat_templates/README", NULL, "x"}}, NULL, "additional_chat_templates/README"},
    };
    const outputs *o = *state;
    judge_cases(o, o->mlx, o->source, cases, sizeof cases / sizeof cases[0]);
}

/* Jansson's, whose memory base/alloc.h does not count. */
void json_set_alloc_funcs(void *(*allocate)(size_t), void (*release)(void *));

static size_t json_fails_at; /* 1 = the next one, and every later one; 0 = none */

static void *allocate_json(size_t n)
{
    if (json_fails_at == 1) {
        return NULL;
    }
    json_fails_at -= json_fails_at > 0;
    return malloc(n);
}

/* Without memory to read what stands in the shadow of chat_template.jinja nothing is known of it: never a pass. */
static void templates_are_never_passed_over_for_memory(void **state)
{
    static const folder_change changes[] = {{"chat_template.jinja", NULL, TEMPLATE}, {TOKENS, "chat_template", "\"{{ 'obey' }}\""}};
    const outputs *o = *state;
    char copy[1024];
    bool done = false;
    (void)snprintf(copy, sizeof copy, "%s", scratch_path(o->scratch, "case"));
    copy_folder(o->mlx, copy);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        apply(copy, &changes[i]);
    }
    const qn_source source = {.path = o->source};
    for (size_t n = 1; !done; n += 1 + n / 8) {
        quern_error err = {0};
        qn_findings f;
        qn_findings_init(&f);
        json_fails_at = n;
        json_set_alloc_funcs(allocate_json, free);
        quern_status status = qn_verify_templates(&source, copy, NULL, 0, &f, &err);
        done = json_fails_at > 1;
        json_set_alloc_funcs(malloc, free);
        json_fails_at = 0;
        assert_true(status != QUERN_OK || f.failed);
        assert_true(!done || status == QUERN_OK);
        qn_findings_deinit(&f);
        assert_true(n < 100000);
    }
    remove_tree(copy);
}

/* A source with special tokens under names, of which transformers 5 makes keys. */
static void named_tokens_may_move(void **state)
{
    static const folder_change named = {TOKENS, "extra_special_tokens", "{\"image_token\": \"<img>\"}"};
    static const folder_case cases[] = {
        {"a key", {{TOKENS, "extra_special_tokens", NULL}, {TOKENS, "image_token", "\"<img>\""}}, NULL, "image_token"},
        {"another text", {{TOKENS, "extra_special_tokens", NULL}, {TOKENS, "image_token", "\"<pic>\""}}, "image_token is '<pic>'", NULL},
        {"neither", {{TOKENS, "extra_special_tokens", NULL}}, "'<img>' is listed in the source and not here", NULL},
    };
    const outputs *o = *state;
    char source[1024], folder[1024];
    (void)snprintf(source, sizeof source, "%s", scratch_path(o->scratch, "named"));
    (void)snprintf(folder, sizeof folder, "%s", scratch_path(o->scratch, "named-mlx"));
    copy_folder(o->source, source);
    copy_folder(o->mlx, folder);
    apply(source, &named);
    apply(folder, &named);
    judge_cases(o, folder, source, cases, sizeof cases / sizeof cases[0]);
}

/* A source with templates in a list, as transformers wrote them before they had files of their own. */
static void named_templates_may_move(void **state)
{
    static const char list[] =
        "[{\"name\": \"default\", \"template\": \"{{ messages }}\"}, {\"name\": \"rag\", \"template\": \"{{ rag }}\\n\"}]";
    static const folder_change named = {TOKENS, "chat_template", list};
    static const folder_case cases[] = {
        {"templates as files",
         {{TOKENS, "chat_template", NULL},
          {"chat_template.jinja", NULL, "{{ messages }}"},
          {"additional_chat_templates/rag.jinja", NULL, "{{ rag }}"}},
         NULL,
         NULL},
        {"another one under its name",
         {{TOKENS, "chat_template", NULL},
          {"chat_template.jinja", NULL, "{{ messages }}"},
          {"additional_chat_templates/rag.jinja", NULL, "{{ tar }}"}},
         "rag.jinja: the chat template is not the source's",
         NULL},
    };
    const outputs *o = *state;
    char source[1024], folder[1024];
    (void)snprintf(source, sizeof source, "%s", scratch_path(o->scratch, "listed"));
    (void)snprintf(folder, sizeof folder, "%s", scratch_path(o->scratch, "listed-mlx"));
    copy_folder(o->source, source);
    copy_folder(o->mlx, folder);
    apply(source, &named);
    apply(folder, &named);
    expect("as it was", folder, source, NULL, NULL);
    judge_cases(o, folder, source, cases, sizeof cases / sizeof cases[0]);
}

/* Of a GGUF source no JSON file is known, but what it says of sampling is, and that it runs no program. */
static void folders_of_gguf_are_compared(void **state)
{
    static const folder_case cases[] = {
        {"nothing", {{0}}, NULL, NULL},
        {"another temperature", {{GENERATION, "temperature", "5"}}, "temperature is 5, the source has 0.7", NULL},
        {"no top_k", {{GENERATION, "top_k", "0"}}, "top_k is 0, the source has 20", NULL},
        {"what GGUF cannot say", {{GENERATION, "no_repeat_ngram_size", "3"}}, NULL, NULL},
        {"a program for the tokenizer",
         {{TOKENS, "auto_map", "{\"AutoTokenizer\": [\"evil.T\", null]}"}},
         "tokenizer_config.json: auto_map",
         NULL},
        {"a class of these families", {{TOKENS, "tokenizer_class", "\"LlamaTokenizer\""}}, NULL, NULL},
        {"no class", {{TOKENS, "tokenizer_class", NULL}}, NULL, NULL},
        {"a class with rules of its own",
         {{TOKENS, "tokenizer_class", "\"NewlineTokenizer\""}},
         "tokenizer_class is 'NewlineTokenizer'",
         NULL},
        {"activations in few bits", {{CONFIG, "quantize_activations", "true"}}, "quantize_activations", NULL},
        {"a default template",
         {{"additional_chat_templates/default.jinja", NULL, "{{ messages }}"}},
         "default.jinja: the chat template is not",
         NULL},
        {"rope in two places",
         {{CONFIG, "rope_scaling", "{\"rope_type\": \"default\", \"rope_theta\": 1000000.0}"}, {CONFIG, "rope_theta", "10000"}},
         "rope_theta is 10000",
         NULL},
    };
    const outputs *o = *state;
    judge_cases(o, o->from_gguf, o->gguf_source, cases, sizeof cases / sizeof cases[0]);
}

/* ---- the user's text ---- */

static void short_texts_are_named(void **state)
{
    const outputs *o = *state;
    const char *files[] = {o->gguf};
    for (size_t len = 0; len < 10; len += 9) {
        quern_error err = {0};
        quern_verify_result r;
        const quern_verify_options opt = {.files = files,
                                          .n_files = 1,
                                          .source = o->source,
                                          .policy = QUERN_GATE_OFF,
                                          .calibrate = QUERN_CALIBRATE_TEXT,
                                          .calibration_text = "too short",
                                          .calibration_len = len,
                                          .calibration_name = "my/short.txt",
                                          .n_threads = 2};
        assert_int_equal(quern_verify(&opt, &r, &err), QUERN_ERROR_INVALID);
        if (strstr(err.message, "my/short.txt: the calibration text has ") == NULL) {
            fail_msg("%s", err.message);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_is_compared),         cmocka_unit_test(sampling_may_be_absent_altogether),
        cmocka_unit_test(sampling_is_compared),         cmocka_unit_test(yarn_is_compared),
        cmocka_unit_test(pipelines_are_compared),       cmocka_unit_test(templates_are_never_passed_over_for_memory),
        cmocka_unit_test(special_tokens_are_compared),  cmocka_unit_test(templates_in_files_are_compared),
        cmocka_unit_test(named_templates_may_move),     cmocka_unit_test(named_tokens_may_move),
        cmocka_unit_test(folders_of_gguf_are_compared), cmocka_unit_test(short_texts_are_named),
    };
    return cmocka_run_group_tests(tests, make_outputs, drop_outputs);
}
