/* qn_test_tokenizer.h - tokenizers for tests: from a folder, from text, from a GGUF vocabulary; and comparing ids. */
#ifndef QN_TEST_TOKENIZER_H
#define QN_TEST_TOKENIZER_H

#include "qn_test.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "formats/gguf_read.h"
#include "quern/tokenizer.h"
#include "text/vocab.h"

static inline char *qn_test_read(const char *path, size_t *len)
{
    quern_error err = {0};
    char *text = NULL;
    assert_ok(qn_file_read(&text, len, path, (size_t)1 << 30, &err));
    return text;
}

/* From files; config may be NULL. */
static inline quern_tokenizer *qn_test_tokenizer_from_json(const char *path, const char *config_path)
{
    quern_error err = {0};
    quern_tokenizer *t = NULL;
    size_t len, config_len = 0;
    char *json = qn_test_read(path, &len), *config = config_path != NULL ? qn_test_read(config_path, &config_len) : NULL;
    assert_ok(quern_tokenizer_create_from_json(&t, json, len, config, config_len, &err));
    qn_free(json);
    qn_free(config);
    return t;
}

/* The golden checkpoints' tokenizer.json with up to two members replaced ("model.ignore_merges" reaches into the model); text
 * owned by *out. */
static inline void qn_test_golden_json(qn_buf *out, const char *name_1, const char *value_1, const char *name_2, const char *value_2)
{
    quern_error err = {0};
    size_t len;
    char *text = qn_test_read(qn_test_golden("tokenizer/tokenizer.json"), &len);
    qn_json *root;
    const char *names[] = {name_1, name_2}, *values[] = {value_1, value_2};
    assert_ok(qn_json_parse(&root, text, len, QN_JSON_ALLOW_NUL, "golden", &err));
    for (size_t i = 0; i < 2; i++) {
        qn_json *value;
        if (names[i] == NULL) {
            continue;
        }
        assert_ok(qn_json_parse(&value, values[i], strlen(values[i]), QN_JSON_ALLOW_NUL, names[i], &err));
        if (strncmp(names[i], "model.", 6) == 0) {
            qn_json *model = qn_json_clone(qn_json_get(root, "model"));
            assert_true(qn_json_set(model, names[i] + 6, value));
            assert_true(qn_json_set(root, "model", model));
        } else {
            assert_true(qn_json_set(root, names[i], value));
        }
    }
    qn_buf_init(out, (size_t)1 << 24);
    assert_true(qn_json_write(root, 0, out));
    qn_json_free(root);
    qn_free(text);
}

/* A tokenizer made of that, or NULL and the error. */
static inline quern_tokenizer *qn_test_golden_variant(const char *name_1, const char *value_1, const char *name_2, const char *value_2,
                                                      quern_error *err)
{
    qn_buf text;
    quern_tokenizer *t = NULL;
    qn_test_golden_json(&text, name_1, value_1, name_2, value_2);
    quern_status status = quern_tokenizer_create_from_json(&t, text.data, text.len, NULL, 0, err);
    assert_true((status == QUERN_OK) == (t != NULL));
    qn_buf_deinit(&text);
    return t;
}

/* The arrays of a GGUF vocabulary. The spec borrows from the file and from the arrays here. */
typedef struct qn_test_vocab {
    qn_gguf *gguf;
    qn_vocab_spec spec;
    qn_text_span *tokens, *merges;
    float *scores;
    int32_t *types;
    char model[64], pre[64];
} qn_test_vocab;

static inline qn_text_span *qn_test_spans(const qn_gguf *g, const char *key, size_t *n)
{
    const qn_gguf_value *v = qn_gguf_find(g, key);
    *n = 0;
    if (v == NULL) {
        return NULL;
    }
    assert_int_equal(v->element, QN_GGUF_STRING);
    qn_text_span *spans = qn_malloc_array((size_t)v->n, sizeof *spans);
    assert_non_null(spans);
    const uint8_t *cursor = v->data;
    for (uint64_t i = 0; i < v->n; i++) {
        qn_span s = qn_gguf_next_string(&cursor);
        spans[i] = (qn_text_span){.data = s.data, .len = s.len};
    }
    *n = (size_t)v->n;
    return spans;
}

static inline int64_t qn_test_gguf_id(const qn_gguf *g, const char *key)
{
    quern_error err = {0};
    uint64_t id = 0;
    bool found;
    assert_ok(qn_gguf_get_u64(g, key, &id, &found, &err));
    return found ? (int64_t)id : -1;
}

static inline int qn_test_gguf_flag(const qn_gguf *g, const char *key)
{
    quern_error err = {0};
    bool value = false, found;
    assert_ok(qn_gguf_get_bool(g, key, &value, &found, &err));
    return found ? (int)value : -1;
}

static inline void qn_test_gguf_text(const qn_gguf *g, const char *key, char out[64], const char **text)
{
    quern_error err = {0};
    qn_span s;
    bool found;
    assert_ok(qn_gguf_get_string(g, key, &s, &found, &err));
    *text = NULL;
    if (found) {
        (void)snprintf(out, 64, "%.*s", (int)s.len, s.data);
        *text = out;
    }
}

static inline void qn_test_vocab_open(qn_test_vocab *v, const char *path)
{
    quern_error err = {0};
    memset(v, 0, sizeof *v);
    assert_ok(qn_gguf_open(&v->gguf, path, false, &err));
    qn_vocab_spec *s = &v->spec;
    s->what = path;
    qn_test_gguf_text(v->gguf, "tokenizer.ggml.model", v->model, &s->model);
    qn_test_gguf_text(v->gguf, "tokenizer.ggml.pre", v->pre, &s->pre);
    v->tokens = qn_test_spans(v->gguf, "tokenizer.ggml.tokens", &s->n_tokens);
    v->merges = qn_test_spans(v->gguf, "tokenizer.ggml.merges", &s->n_merges);
    const qn_gguf_value *scores = qn_gguf_find(v->gguf, "tokenizer.ggml.scores"),
                        *types = qn_gguf_find(v->gguf, "tokenizer.ggml.token_type");
    v->scores = scores != NULL ? qn_malloc_array(s->n_tokens, sizeof *v->scores) : NULL;
    v->types = types != NULL ? qn_malloc_array(s->n_tokens, sizeof *v->types) : NULL;
    for (size_t i = 0; i < s->n_tokens; i++) {
        double score;
        int64_t type;
        if (scores != NULL) {
            assert_true(qn_gguf_element_f64(scores, i, &score));
            v->scores[i] = (float)score;
        }
        if (types != NULL) {
            assert_true(qn_gguf_element_i64(types, i, &type));
            v->types[i] = (int32_t)type;
        }
    }
    s->tokens = v->tokens;
    s->merges = v->merges;
    s->scores = v->scores;
    s->types = v->types;
    s->bos_id = qn_test_gguf_id(v->gguf, "tokenizer.ggml.bos_token_id");
    s->eos_id = qn_test_gguf_id(v->gguf, "tokenizer.ggml.eos_token_id");
    s->unk_id = qn_test_gguf_id(v->gguf, "tokenizer.ggml.unknown_token_id");
    s->pad_id = qn_test_gguf_id(v->gguf, "tokenizer.ggml.padding_token_id");
    s->add_bos = qn_test_gguf_flag(v->gguf, "tokenizer.ggml.add_bos_token");
    s->add_eos = qn_test_gguf_flag(v->gguf, "tokenizer.ggml.add_eos_token");
    s->add_space_prefix = qn_test_gguf_flag(v->gguf, "tokenizer.ggml.add_space_prefix");
}

static inline void qn_test_vocab_close(qn_test_vocab *v)
{
    qn_free(v->tokens);
    qn_free(v->merges);
    qn_free(v->scores);
    qn_free(v->types);
    qn_gguf_close(v->gguf);
}

static inline quern_tokenizer *qn_test_tokenizer_from_gguf(const char *path)
{
    quern_error err = {0};
    quern_tokenizer *t = NULL;
    qn_test_vocab v;
    qn_test_vocab_open(&v, path);
    assert_ok(qn_tokenizer_create_from_spec(&t, &v.spec, &err));
    qn_test_vocab_close(&v);
    return t;
}

/* Encodes and compares with n ids; shows both if they differ. */
static inline void qn_test_expect_ids(const quern_tokenizer *t, const char *text, size_t len, int flags, const int32_t *ids, size_t n)
{
    quern_error err = {0};
    quern_ids got = {0};
    assert_ok(quern_tokenizer_encode(t, text, len, flags, &got, &err));
    bool same = got.len == n && (n == 0 || memcmp(got.data, ids, n * sizeof *ids) == 0);
    if (!same) {
        print_error("text \"%.*s\"\n", (int)(len < 300 ? len : 300), text);
        for (size_t i = 0; i < n || i < got.len; i++) {
            print_error("  %zu: expected %d, got %d\n", i, i < n ? ids[i] : -1, i < got.len ? got.data[i] : -1);
        }
    }
    quern_ids_deinit(&got);
    assert_true(same);
}

/* Decodes and compares bytes. */
static inline void qn_test_expect_text(const quern_tokenizer *t, const int32_t *ids, size_t n, bool with_special, const char *text,
                                       size_t len)
{
    quern_error err = {0};
    char *got = NULL;
    size_t got_len = 0;
    assert_ok(quern_tokenizer_decode(t, ids, n, with_special, &got, &got_len, &err));
    bool same = got_len == len && memcmp(got, text, len) == 0;
    if (!same) {
        print_error("expected \"%.*s\", got \"%s\"\n", (int)len, text, got);
    }
    quern_free(got);
    assert_true(same);
}

/* The numbers of a JSON array; free with qn_free. */
static inline int32_t *qn_test_json_ids(const qn_json *list, size_t *n)
{
    *n = qn_json_length(list);
    int32_t *ids = qn_malloc_array(*n, sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *n; i++) {
        int64_t v;
        assert_true(qn_json_int(qn_json_at(list, i), &v));
        ids[i] = (int32_t)v;
    }
    return ids;
}

#endif
