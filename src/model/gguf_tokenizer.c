/* gguf_tokenizer.c - see gguf_tokenizer.h. */
#include "model/gguf_tokenizer.h"

#include "base/alloc.h"
#include "text/vocab.h"

static quern_status read_spans(const qn_gguf *gguf, const char *key, qn_text_span **out, size_t *n, bool required, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_gguf_value *v = qn_gguf_find(gguf, key);
    *out = NULL;
    *n = 0;
    if (v == NULL && !required) {
        return QUERN_OK;
    }
    if (v == NULL || v->type != QN_GGUF_ARRAY || v->element != QN_GGUF_STRING) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key %s is %s, expected an array of strings", qn_gguf_path(gguf), key,
                v == NULL ? "missing" : "of another type");
    }
    qn_text_span *spans = qn_malloc_array((size_t)v->n, sizeof *spans);
    if (spans == NULL) {
        QN_FAIL_MEMORY(err, key, v->n * sizeof *spans);
    }
    const uint8_t *cursor = v->data;
    for (uint64_t i = 0; i < v->n; i++) {
        qn_span s = qn_gguf_next_string(&cursor);
        spans[i] = (qn_text_span){.data = s.data, .len = s.len};
    }
    *out = spans;
    *n = (size_t)v->n;
done:
    return status;
}

/* An array of numbers, one a token. */
static quern_status find_numbers(const qn_gguf *gguf, const char *key, size_t n_tokens, const qn_gguf_value **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_gguf_value *v = qn_gguf_find(gguf, key);
    *out = v;
    if (v != NULL && (v->type != QN_GGUF_ARRAY || v->n != n_tokens)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key %s has %llu elements, expected an array of %zu, one a token", qn_gguf_path(gguf), key,
                (unsigned long long)v->n, n_tokens);
    }
done:
    return status;
}

static quern_status read_scores(const qn_gguf *gguf, size_t n, float **out, quern_error *err)
{
    static const char key[] = "tokenizer.ggml.scores";
    quern_status status = QUERN_OK;
    const qn_gguf_value *v;
    *out = NULL;
    QN_TRY(find_numbers(gguf, key, n, &v, err));
    if (v != NULL) {
        *out = qn_malloc_array(n, sizeof **out);
        if (*out == NULL) {
            QN_FAIL_MEMORY(err, key, n * sizeof **out);
        }
        for (size_t i = 0; i < n; i++) {
            double x;
            if (!qn_gguf_element_f64(v, i, &x)) {
                QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key %s does not hold numbers", qn_gguf_path(gguf), key);
            }
            (*out)[i] = (float)x;
        }
    }
done:
    return status;
}

static quern_status read_types(const qn_gguf *gguf, size_t n, int32_t **out, quern_error *err)
{
    static const char key[] = "tokenizer.ggml.token_type";
    quern_status status = QUERN_OK;
    const qn_gguf_value *v;
    *out = NULL;
    QN_TRY(find_numbers(gguf, key, n, &v, err));
    if (v != NULL) {
        *out = qn_malloc_array(n, sizeof **out);
        if (*out == NULL) {
            QN_FAIL_MEMORY(err, key, n * sizeof **out);
        }
        for (size_t i = 0; i < n; i++) {
            int64_t x;
            if (!qn_gguf_element_i64(v, i, &x) || x < 0 || x > 6) {
                QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key %s: element %zu is no token type (0 to 6)", qn_gguf_path(gguf), key, i);
            }
            (*out)[i] = (int32_t)x;
        }
    }
done:
    return status;
}

/* A token id, -1 where the key is absent or points outside the vocabulary (published files do that for padding). */
static quern_status read_id(const qn_gguf *gguf, const char *key, size_t n_tokens, int64_t *out, quern_error *err)
{
    uint64_t id = 0;
    bool found;
    quern_status status = qn_gguf_get_u64(gguf, key, &id, &found, err);
    *out = status == QUERN_OK && found && id < n_tokens ? (int64_t)id : -1;
    return status;
}

static quern_status read_flag(const qn_gguf *gguf, const char *key, int *out, quern_error *err)
{
    bool value = false, found;
    quern_status status = qn_gguf_get_bool(gguf, key, &value, &found, err);
    *out = status == QUERN_OK && found ? (int)value : -1;
    return status;
}

static quern_status copy_string(const qn_gguf *gguf, qn_arena *arena, const char *key, const char **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_span s;
    bool found;
    *out = NULL;
    QN_TRY(qn_gguf_get_string(gguf, key, &s, &found, err));
    if (found) {
        *out = qn_arena_strndup(arena, s.data, s.len);
        if (*out == NULL) {
            QN_FAIL_MEMORY(err, key, s.len + 1);
        }
    }
done:
    return status;
}

quern_status qn_gguf_read_tokenizer(quern_tokenizer **out, const qn_gguf *gguf, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_text_span *tokens = NULL, *merges = NULL;
    float *scores = NULL;
    int32_t *types = NULL;
    qn_arena arena;
    qn_vocab_spec spec = {.what = qn_gguf_path(gguf)};
    qn_arena_init(&arena, 0);
    *out = NULL;
    QN_TRY(copy_string(gguf, &arena, "tokenizer.ggml.model", &spec.model, err));
    if (spec.model == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: key tokenizer.ggml.model is missing: the file has no tokenizer", qn_gguf_path(gguf));
    }
    QN_TRY(copy_string(gguf, &arena, "tokenizer.ggml.pre", &spec.pre, err));
    QN_TRY(read_spans(gguf, "tokenizer.ggml.tokens", &tokens, &spec.n_tokens, true, err));
    QN_TRY(read_spans(gguf, "tokenizer.ggml.merges", &merges, &spec.n_merges, false, err));
    QN_TRY(read_scores(gguf, spec.n_tokens, &scores, err));
    QN_TRY(read_types(gguf, spec.n_tokens, &types, err));
    QN_TRY(read_id(gguf, "tokenizer.ggml.bos_token_id", spec.n_tokens, &spec.bos_id, err));
    QN_TRY(read_id(gguf, "tokenizer.ggml.eos_token_id", spec.n_tokens, &spec.eos_id, err));
    QN_TRY(read_id(gguf, "tokenizer.ggml.unknown_token_id", spec.n_tokens, &spec.unk_id, err));
    QN_TRY(read_id(gguf, "tokenizer.ggml.padding_token_id", spec.n_tokens, &spec.pad_id, err));
    QN_TRY(read_flag(gguf, "tokenizer.ggml.add_bos_token", &spec.add_bos, err));
    QN_TRY(read_flag(gguf, "tokenizer.ggml.add_eos_token", &spec.add_eos, err));
    QN_TRY(read_flag(gguf, "tokenizer.ggml.add_space_prefix", &spec.add_space_prefix, err));
    spec.tokens = tokens;
    spec.merges = merges;
    spec.scores = scores;
    spec.types = types;
    QN_TRY(qn_tokenizer_create_from_spec(out, &spec, err));
done:
    qn_arena_deinit(&arena);
    qn_free(tokens);
    qn_free(merges);
    qn_free(scores);
    qn_free(types);
    return status;
}
