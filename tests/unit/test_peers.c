/* test_peers.c - Quern continues fixed prompts as llama.cpp and mlx-lm did on the same files.
 *
 * tests/data/peers/NAME.json (written by `make peers`) holds the peers' greedy tokens for every format of one checkpoint. Here the
 * checkpoint is quantized again and Quern must choose the same tokens up to the first position where its own two best logits are
 * closer than 0.05 standard deviations: beyond that the engines' different rounding of activations decides. */
#include "qn_test.h"

#include <ftw.h>
#include <math.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "quern/quern.h"

static const double small_gap = 0.05;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static qn_json *read_json(const char *path)
{
    quern_error err;
    char *text;
    size_t n;
    qn_json *v;
    assert_ok(qn_file_read(&text, &n, path, 64u << 20, &err));
    assert_ok(qn_json_parse(&v, text, n, 0, path, &err));
    qn_free(text);
    return v;
}

static int32_t *ids_of(const qn_json *list, size_t *n)
{
    *n = qn_json_length(list);
    int32_t *ids = qn_malloc_array(*n, sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *n; i++) {
        int64_t id;
        assert_true(qn_json_int(qn_json_at(list, i), &id));
        ids[i] = (int32_t)id;
    }
    return ids;
}

/* The best id (lowest on ties); *decided is false where the runner-up is nearer than small_gap standard deviations. */
static int32_t best_token(const float *logits, size_t n, bool *decided)
{
    size_t best = 0;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += logits[i];
        squares += (double)logits[i] * logits[i];
        best = logits[i] > logits[best] ? i : best;
    }
    double second = -INFINITY, mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) {
        second = i != best && logits[i] > second ? logits[i] : second;
    }
    *decided = logits[best] - second >= small_gap * sqrt(squares / (double)n - mean * mean);
    return (int32_t)best;
}

/* Returns how many tokens were compared. */
static size_t compare_one(quern_engine *engine, size_t n_vocab, const qn_json *prompt, const qn_json *greedy, const char *what)
{
    quern_error err;
    size_t n_prompt, n_greedy, n_compared = 0;
    int32_t *ids = ids_of(prompt, &n_prompt), *expected = ids_of(greedy, &n_greedy);
    float *logits = qn_malloc_array(n_vocab, sizeof *logits);
    assert_non_null(logits);
    quern_sequence *sequence;
    assert_ok(quern_sequence_create(&sequence, engine, &err));
    for (size_t i = 0; i < n_greedy; i++) {
        quern_step_item item = {
            .sequence = sequence, .ids = i == 0 ? ids : &expected[i - 1], .n_ids = i == 0 ? n_prompt : 1, .n_logits = 1, .logits = logits};
        assert_ok(quern_engine_step(engine, &item, 1, &err));
        bool decided;
        int32_t id = best_token(logits, n_vocab, &decided);
        if (!decided) {
            break;
        }
        if (id != expected[i]) {
            print_error("%s: token %zu is %d, the peer chose %d\n", what, i, id, expected[i]);
        }
        assert_int_equal(id, expected[i]);
        n_compared++;
    }
    quern_sequence_destroy(sequence);
    qn_free(logits);
    qn_free(ids);
    qn_free(expected);
    return n_compared;
}

static size_t compare_file(const char *path, const qn_json *prompts, const qn_json *row, quern_arithmetic arithmetic)
{
    quern_error err;
    quern_model *model;
    quern_engine *engine;
    quern_model_options model_options = {.without_tokenizer = true};
    quern_engine_options engine_options = {.n_ctx = 512, .kv_type = QUERN_KV_F32, .arithmetic = arithmetic};
    assert_ok(quern_model_open(&model, path, &model_options, &err));
    assert_ok(quern_engine_create(&engine, model, &engine_options, &err));
    const qn_json *greedy = qn_json_get(row, "greedy");
    const char *format = qn_json_string(qn_json_get(row, "format"), NULL);
    assert_int_equal(qn_json_length(greedy), qn_json_length(prompts));
    size_t n_compared = 0;
    for (size_t i = 0; i < qn_json_length(prompts); i++) {
        char what[256];
        (void)snprintf(what, sizeof what, "%s, prompt %zu", format, i);
        n_compared += compare_one(engine, quern_model_get_info(model)->n_vocab, qn_json_at(prompts, i), qn_json_at(greedy, i), what);
    }
    quern_engine_destroy(engine);
    quern_model_close(model);
    print_message("%-12s %zu tokens as the peer's\n", format, n_compared);
    return n_compared;
}

/* The comma list of all formats of the record. */
static void join_formats(const qn_json *files, char *out, size_t cap)
{
    size_t used = 0;
    for (size_t i = 0; i < qn_json_length(files); i++) {
        const char *format = qn_json_string(qn_json_get(qn_json_at(files, i), "format"), NULL);
        assert_non_null(format);
        int n = snprintf(out + used, cap - used, "%s%s", i == 0 ? "" : ",", format);
        assert_true(n > 0 && (size_t)n < cap - used);
        used += (size_t)n;
    }
}

static void same_tokens_as_the_peers(void **state)
{
    quern_error err;
    char name[256], formats[1024], folder[] = "/tmp/quern-peers-XXXXXX", source[1024];
    (void)snprintf(name, sizeof name, "peers/%s.json", (const char *)*state);
    qn_json *record = read_json(qn_test_data(name));
    const qn_json *files = qn_json_get(record, "files"), *prompts = qn_json_get(record, "prompts");
    assert_true(qn_json_length(files) >= 9);
    join_formats(files, formats, sizeof formats);
    (void)snprintf(source, sizeof source, "%s/%s", QUERN_SOURCE_DIR, qn_json_string(qn_json_get(record, "source"), NULL));
    assert_non_null(mkdtemp(folder));

    quern_quantize_options options = {.source = source, .output_dir = folder, .formats = formats};
    char *manifest_text;
    size_t len;
    assert_ok(quern_quantize(&options, &manifest_text, &len, &err));
    qn_json *manifest;
    assert_ok(qn_json_parse(&manifest, manifest_text, len, 0, "manifest", &err));
    quern_free(manifest_text);
    const qn_json *outputs = qn_json_get(manifest, "outputs");
    assert_int_equal(qn_json_length(outputs), qn_json_length(files));
    size_t n_compared = 0;
    for (size_t i = 0; i < qn_json_length(files); i++) {
        char *path = qn_path_join(folder, qn_json_string(qn_json_get(qn_json_at(outputs, i), "path"), NULL));
        assert_non_null(path);
        const qn_json *row = qn_json_at(files, i);
        n_compared += compare_file(path, prompts, row, QUERN_ARITHMETIC_AS_RUN);
        if (strcmp(qn_json_string(qn_json_get(row, "peer"), NULL), "mlx-lm") == 0) {
            n_compared += compare_file(path, prompts, row, QUERN_ARITHMETIC_F32_ACTIVATIONS);
        }
        qn_free(path);
    }
    /* The records would prove nothing if every comparison ended at once. */
    assert_true(n_compared >= 2 * qn_json_length(files) * qn_json_length(prompts));
    qn_json_free(manifest);
    qn_json_free(record);
    assert_int_equal(nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

#define CHECKPOINT(name) \
    { \
        name, same_tokens_as_the_peers, NULL, NULL, (void *)(uintptr_t)name \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECKPOINT("quern-coder-8m"),  CHECKPOINT("quern-coder-8m-more"), CHECKPOINT("qwen2_tied"),  CHECKPOINT("qwen2_untied_sharded"),
        CHECKPOINT("qwen3"),           CHECKPOINT("qwen3_yarn"),          CHECKPOINT("llama3_rope"), CHECKPOINT("codellama_mha"),
        CHECKPOINT("mistral_headdim"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
