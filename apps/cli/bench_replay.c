/* bench_replay.c - see bench_replay.h. */
#include "bench_replay.h"

#include <math.h>
#include <string.h>

#include "answer.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"

enum { FILE_BYTES_MAX = 16 << 20, TEXTS_MAX = 64 };

static quern_status take_ids(const qn_json *text, const char *key, size_t index, const quern_tokenizer *tokenizer, quern_ids *ids,
                             quern_error *err)
{
    size_t len;
    const char *s = qn_json_string(qn_json_get(text, key), &len);
    if (s == NULL || len == 0) {
        return qn_error_set(err, QUERN_ERROR_INVALID, "text %zu has no \"%s\"", index + 1, key);
    }
    return quern_tokenizer_encode(tokenizer, s, len, 0, ids, err);
}

quern_status qn_replay_read(qn_replay *r, const char *path, const quern_tokenizer *tokenizer, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *data = NULL;
    qn_json *root = NULL;
    size_t size;
    QN_TRY(qn_file_read(&data, &size, path, FILE_BYTES_MAX, err));
    QN_TRY(qn_json_parse(&root, data, size, QN_JSON_REJECT_DUPLICATES, path, err));
    const qn_json *texts = qn_json_get(root, "texts");
    size_t n = qn_json_length(texts);
    if (qn_json_get_kind(texts) != QN_JSON_ARRAY || n == 0 || n > TEXTS_MAX) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: expected \"texts\", a list of 1 to %d", path, (int)TEXTS_MAX);
    }
    r->texts = qn_calloc(n, sizeof *r->texts);
    if (r->texts == NULL) {
        QN_FAIL_MEMORY(err, path, n * sizeof *r->texts);
    }
    for (size_t i = 0; i < n; i++) {
        const qn_json *text = qn_json_at(texts, i);
        qn_replay_text *t = &r->texts[r->n_texts++];
        t->name = qn_strdup(qn_text_of(text, "name", "answer"));
        if (t->name == NULL) {
            QN_FAIL_MEMORY(err, path, size);
        }
        QN_TRY(take_ids(text, "prompt", i, tokenizer, &t->prompt, err));
        QN_TRY(take_ids(text, "answer", i, tokenizer, &t->answer, err));
        t->guessing.n = t->plain.n = t->answer.len;
    }
done:
    qn_json_free(root);
    qn_free(data);
    return status;
}

void qn_replay_deinit(qn_replay *r)
{
    for (size_t i = 0; i < r->n_texts; i++) {
        qn_free(r->texts[i].name);
        quern_ids_deinit(&r->texts[i].prompt);
        quern_ids_deinit(&r->texts[i].answer);
    }
    qn_free(r->texts);
    *r = (qn_replay){0};
}

size_t qn_replay_context(const qn_replay *r)
{
    size_t most = 0;
    for (size_t i = 0; i < r->n_texts; i++) {
        size_t n = r->texts[i].prompt.len + r->texts[i].answer.len;
        most = n > most ? n : most;
    }
    return most;
}

uint64_t qn_replay_tokens(const qn_replay *r, size_t repeat)
{
    uint64_t n = 0;
    for (size_t i = 0; i < r->n_texts; i++) {
        n += r->texts[i].prompt.len + 2 * (uint64_t)repeat * r->texts[i].answer.len;
    }
    return n;
}

/* All of the prompt but its last token, from which answers begin. */
static quern_status read_prompt(qn_bench *b, quern_sequence *s, const quern_ids *prompt, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_batch = quern_engine_get_info(b->engine)->n_batch;
    for (size_t done = 0; done + 1 < prompt->len;) {
        size_t left = prompt->len - 1 - done, rows = left < n_batch ? left : n_batch;
        const quern_step_item item = {.sequence = s, .ids = prompt->data + done, .n_ids = rows};
        QN_TRY(quern_engine_step(b->engine, &item, 1, err));
        QN_TRY(qn_bench_count(b, rows, err));
        done += rows;
    }
done:
    return status;
}

static bool count_token(void *user, int32_t id, const char *text, size_t len)
{
    (void)text;
    (void)len;
    return qn_bench_count(user, id >= 0 ? 1 : 0, NULL) == QUERN_OK;
}

static quern_status say(qn_bench *b, quern_sequence *s, const qn_replay_text *t, quern_speculation speculation, quern_generation *g,
                        quern_error *err)
{
    quern_status status = QUERN_OK;
    const size_t before = t->prompt.len - 1;
    quern_sampling greedy = quern_sampling_default();
    greedy.temperature = 0;
    const quern_generate_options options = {.max_tokens = t->answer.len,
                                            .sampling = greedy,
                                            .ignore_eos = true,
                                            .speculation = speculation,
                                            .forced = t->answer.data,
                                            .on_token = count_token,
                                            .user = b};
    QN_TRY(quern_generate(b->engine, s, t->prompt.data + before, 1, &options, g, err));
    if (g->finish == QUERN_FINISH_CANCELLED) {
        QN_TRY(qn_bench_count(b, 0, err));
    }
    QN_TRY(quern_sequence_truncate(s, before, err));
done:
    return status;
}

/* None of an answer of one token: nothing of it was decoded. */
static void add_sample(qn_bench_result *r, const quern_generation *g)
{
    const double rate = qn_answer_decode_rate(g);
    if (!isnan(rate)) {
        r->samples[r->n_samples++] = rate;
    }
}

static quern_status measure_text(qn_bench *b, qn_replay_text *t, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_sequence *s = NULL;
    quern_generation g = {0};
    QN_TRY(quern_sequence_create(&s, b->engine, err));
    QN_TRY(read_prompt(b, s, &t->prompt, err));
    for (size_t i = 0; i < b->plan->repeat; i++) {
        QN_TRY(say(b, s, t, QUERN_SPECULATE_OFF, &g, err));
        add_sample(&t->plain, &g);
        quern_generation_deinit(&g);
        QN_TRY(say(b, s, t, QUERN_SPECULATE_AUTO, &g, err));
        add_sample(&t->guessing, &g);
        t->n_steps = g.n_steps;
        t->n_guessed = g.n_guessed;
        t->n_right = g.n_right;
        quern_generation_deinit(&g);
    }
done:
    quern_generation_deinit(&g);
    quern_sequence_destroy(s);
    return status;
}

quern_status qn_replay_measure(qn_bench *b, qn_replay *r, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < r->n_texts; i++) {
        QN_TRY(measure_text(b, &r->texts[i], err));
        r->n_measured++;
    }
done:
    return status;
}
