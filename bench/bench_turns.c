/* bench_turns.c - Quern's side of tools/peers/bench_peers.py where a context is deep: it answers a line of JSON a line on stdin, in turns with a peer, and
 * keeps the context, which takes minutes to fill, from one turn to the next.
 *
 * usage: bench_turns MODEL.gguf THREADS CONTEXT
 *
 * In:  {"decode": N, "depth": D}: N tokens one by one behind D others. The end of the input ends it.
 * Out: {"tokens_per_s", "bytes_per_token" (weights, keys and values), "read_bandwidth_before", "read_bandwidth_after" (bytes/s, all threads, measured
 * right before and after the N)}. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "quern/machine.h"
#include "quern/quern.h"

typedef struct turns {
    quern_model *model;
    quern_engine *engine;
    quern_sequence *sequence;
    uint64_t depth; /* tokens that the sequence keeps */
    uint64_t random;
    int32_t *ids;  /* (n_batch) */
    float *logits; /* (n_vocab) */
} turns;

static quern_status feed(turns *t, uint64_t n, float *logits, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_batch = quern_engine_get_info(t->engine)->n_batch, n_vocab = quern_model_get_info(t->model)->n_vocab;
    for (uint64_t done = 0; done < n;) {
        size_t rows = n - done < n_batch ? (size_t)(n - done) : n_batch;
        for (size_t i = 0; i < rows; i++) {
            t->random = t->random * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
            t->ids[i] = (int32_t)((t->random >> 33) % n_vocab);
        }
        const quern_step_item item = {.sequence = t->sequence, .ids = t->ids, .n_ids = rows, .n_logits = logits != NULL ? 1 : 0, .logits = logits};
        QN_TRY(quern_engine_step(t->engine, &item, 1, err));
        done += rows;
    }
done:
    return status;
}

static quern_status go_to(turns *t, uint64_t depth, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (depth < t->depth) {
        QN_TRY(quern_sequence_truncate(t->sequence, (size_t)depth, err));
    } else {
        QN_TRY(feed(t, depth - t->depth, NULL, err));
    }
    t->depth = depth;
done:
    return status;
}

static quern_status decode(turns *t, uint64_t n, double *tokens_per_s, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t begin = qn_clock_ns();
    for (uint64_t i = 0; i < n; i++) {
        QN_TRY(feed(t, 1, t->logits, err));
    }
    *tokens_per_s = (double)n / qn_clock_seconds(begin, qn_clock_ns());
    QN_TRY(quern_sequence_truncate(t->sequence, (size_t)t->depth, err));
done:
    return status;
}

static quern_status answer(turns *t, const char *line, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_json *question = NULL;
    int64_t n, depth;
    double tokens_per_s;
    quern_machine_rates before = {0}, after = {0};
    const quern_engine_info *e = quern_engine_get_info(t->engine);
    const quern_machine_options limits = {.isa = e->isa, .n_threads = e->n_threads, .quick = true};
    QN_TRY(qn_json_parse(&question, line, strlen(line), QN_JSON_REJECT_DUPLICATES, "question", err));
    if (!qn_json_int(qn_json_get(question, "decode"), &n) || !qn_json_int(qn_json_get(question, "depth"), &depth) || n < 1 || depth < 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "expected {\"decode\": N, \"depth\": D}, got: %s", line);
    }
    QN_TRY(go_to(t, (uint64_t)depth, err));
    QN_TRY(quern_machine_measure(&before, &limits, err));
    QN_TRY(decode(t, (uint64_t)n, &tokens_per_s, err));
    QN_TRY(quern_machine_measure(&after, &limits, err));
    const quern_work work = quern_engine_get_decode_work(t->engine, (uint64_t)depth, (uint64_t)n);
    const double bytes = work.weight_bytes + work.kv_bytes;
    (void)printf("{\"tokens_per_s\": %.9g, \"bytes_per_token\": %.0f, \"read_bandwidth_before\": %.9g, \"read_bandwidth_after\": %.9g}\n",
                 tokens_per_s, bytes, before.read_bandwidth_all, after.read_bandwidth_all);
    (void)fflush(stdout);
done:
    qn_json_free(question);
    return status;
}

static quern_status run(turns *t, const char *path, size_t n_threads, size_t n_ctx, quern_error *err)
{
    quern_status status = QUERN_OK;
    char line[256];
    const quern_engine_options options = {.n_threads = n_threads, .n_ctx = n_ctx};
    QN_TRY(quern_model_open(&t->model, path, NULL, err));
    QN_TRY(quern_engine_create(&t->engine, t->model, &options, err));
    QN_TRY(quern_sequence_create(&t->sequence, t->engine, err));
    t->ids = qn_malloc_array(quern_engine_get_info(t->engine)->n_batch, sizeof *t->ids);
    t->logits = qn_malloc_array(quern_model_get_info(t->model)->n_vocab, sizeof *t->logits);
    if (t->ids == NULL || t->logits == NULL) {
        QN_FAIL_MEMORY(err, "logits", quern_model_get_info(t->model)->n_vocab * sizeof *t->logits);
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        QN_TRY(answer(t, line, err));
    }
done:
    return status;
}

int main(int argc, char **argv)
{
    quern_error err = {0};
    turns t = {0};
    if (argc != 4) {
        (void)fprintf(stderr, "usage: bench_turns MODEL.gguf THREADS CONTEXT\n");
        return 2;
    }
    quern_status status = run(&t, argv[1], strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10), &err);
    if (status != QUERN_OK) {
        (void)fprintf(stderr, "bench_turns: %s\n", err.message);
    }
    quern_sequence_destroy(t.sequence);
    quern_engine_destroy(t.engine);
    quern_model_close(t.model);
    qn_free(t.ids);
    qn_free(t.logits);
    return status == QUERN_OK ? 0 : 1;
}
