/* cmd_bench.c - quern bench: how fast a model runs here, and how near that is to what the machine can do. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "answer.h"
#include "bench_limits.h"
#include "bench_replay.h"
#include "bench_report.h"
#include "bench_run.h"
#include "model_ref.h"
#include "settings.h"
#include "signals.h"
#include "table.h"

typedef struct bench_job {
    qn_cli *cli;
    quern_model *model;
    quern_machine machine;
    double mapped_bandwidth; /* 0 = not measured */
    qn_memory_marks memory;
    uint64_t private_bytes, mapped_bytes;
    double load_s;
    quern_read_in read_in;
    uint64_t default_prompt, default_decode, default_depth, default_parallel[2];
    qn_bench_plan plan;
    qn_bench bench;
    qn_replay replay;
} bench_job;

static void take_list(const qn_opts *o, qn_opt_id id, const uint64_t *fallback, size_t n_fallback, const uint64_t **values, size_t *n)
{
    bool given = qn_opts_given(o, id);
    *values = given ? o->values[id].counts : fallback;
    *n = given ? o->values[id].n_counts : n_fallback;
}

/* Values below one make no measurement: a list of just 0 leaves that part out. */
static quern_status check_list(const char *flag, const uint64_t *values, size_t *n, uint64_t most, quern_error *err)
{
    if (*n == 1 && values[0] == 0) {
        *n = 0;
    }
    for (size_t i = 0; i < *n; i++) {
        if (values[i] == 0 || values[i] > most) {
            return qn_error_set(err, QUERN_ERROR_USAGE, "%s: expected numbers from 1 to %llu (or just 0 to leave this part out)", flag,
                                (unsigned long long)most);
        }
    }
    return QUERN_OK;
}

static quern_status make_plan(bench_job *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &j->cli->opts;
    qn_bench_plan *p = &j->plan;
    enum { TOKENS_MAX = 1 << 24, SEQUENCES_MAX = 1024, PRICE_MAX = 1000000000 /* so that a cost is a number */ };
    j->default_prompt = 512;
    j->default_decode = 128;
    j->default_parallel[0] = 1;
    j->default_parallel[1] = 4;
    take_list(o, QN_OPT_BENCH_PROMPT, &j->default_prompt, 1, &p->prompt, &p->n_prompt);
    take_list(o, QN_OPT_BENCH_N, &j->default_decode, 1, &p->decode, &p->n_decode);
    take_list(o, QN_OPT_BENCH_DEPTH, &j->default_depth, 1, &p->depth, &p->n_depth);
    take_list(o, QN_OPT_BENCH_PARALLEL, j->default_parallel, 2, &p->parallel, &p->n_parallel);
    QN_TRY(check_list("-p", p->prompt, &p->n_prompt, TOKENS_MAX, err));
    QN_TRY(check_list("-n", p->decode, &p->n_decode, TOKENS_MAX, err));
    QN_TRY(check_list("--parallel", p->parallel, &p->n_parallel, SEQUENCES_MAX, err));
    if (p->n_prompt + p->n_decode + p->n_parallel == 0 && !qn_opts_given(o, QN_OPT_BENCH_REPLAY)) {
        qn_cli_hint(j->cli, "such as: quern bench model.gguf -p 512 -n 128 --parallel 1,4");
        QN_FAIL(err, QUERN_ERROR_USAGE, "-p, -n and --parallel leave nothing to measure: ask for one of them, or for --replay FILE");
    }
    for (size_t i = 0; i < p->n_depth; i++) {
        if (p->depth[i] > TOKENS_MAX) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "-d: at most %d", (int)TOKENS_MAX);
        }
    }
    p->repeat = (size_t)qn_opts_count(o, QN_OPT_BENCH_REPEAT, 3);
    if (p->repeat == 0 || p->repeat > QN_SAMPLES_MAX) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "-r: expected 1 to %d", (int)QN_SAMPLES_MAX);
    }
    if (!(qn_opts_real(o, QN_OPT_BENCH_PRICE, 0) >= 0 && qn_opts_real(o, QN_OPT_BENCH_PRICE, 0) <= PRICE_MAX)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "--price-per-hour %s: expected a price from 0 to %d", qn_opts_text(o, QN_OPT_BENCH_PRICE, ""),
                (int)PRICE_MAX);
    }
done:
    return status;
}

static size_t most_sequences(const qn_bench_plan *p)
{
    size_t most = 1;
    for (size_t i = 0; i < p->n_parallel; i++) {
        most = p->parallel[i] > most ? (size_t)p->parallel[i] : most;
    }
    return most;
}

/* Reads the answers that are known beforehand, if there are any. */
static quern_status read_replay(bench_job *j, const char *replay, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (replay != NULL) {
        const quern_tokenizer *tokenizer = quern_model_get_tokenizer(j->model);
        if (tokenizer == NULL) {
            QN_FAIL(err, QUERN_ERROR_UNAVAILABLE, "--replay: this model has no tokenizer");
        }
        QN_TRY(qn_replay_read(&j->replay, replay, tokenizer, err));
    }
done:
    return status;
}

static quern_status open_engine(bench_job *j, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_engine_options options;
    const char *replay = qn_opts_text(&j->cli->opts, QN_OPT_BENCH_REPLAY, NULL);
    uint64_t begin = qn_clock_ns();
    size_t n_sequences = most_sequences(&j->plan), bytes;
    QN_TRY(qn_settings_engine(j->cli, &options, err));
    j->memory.before_model = qn_private_memory_bytes();
    QN_TRY(qn_model_ref_open(j->cli, path, replay != NULL ? 0 : QN_OPEN_WITHOUT_TOKENIZER, &j->model, err));
    j->memory.after_model = qn_model_ref_copies(j->cli) ? 0 : qn_private_memory_bytes(); /* copied weights would count as tokenizer */
    QN_TRY(read_replay(j, replay, err));
    size_t wanted = qn_bench_context(&j->plan), longest = qn_bench_longest(&j->plan), replayed = qn_replay_context(&j->replay);
    wanted = replayed > wanted ? replayed : wanted;
    qn_settings_warn_length(j->cli, j->model, replayed > longest ? replayed : longest);
    if (options.n_ctx == 0) {
        options.n_ctx = wanted;
    } else if (options.n_ctx < wanted) {
        QN_FAIL(err, QUERN_ERROR_CONTEXT_FULL, "-c %zu: these measurements need a context of %zu tokens", options.n_ctx, wanted);
    }
    if (options.n_batch != 0 && options.n_batch < n_sequences) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "-b %zu: --parallel %zu needs as many rows in a step", options.n_batch, n_sequences);
    }
    options.n_batch = options.n_batch == 0 && n_sequences > 512 ? n_sequences : options.n_batch;
    QN_TRY(qn_settings_create_engine(j->cli, j->model, &options, &j->bench.engine, &j->read_in, err));
    j->load_s = qn_clock_seconds(begin, qn_clock_ns());
    qn_bench *b = &j->bench;
    b->n_vocab = quern_model_get_info(j->model)->n_vocab;
    if (!qn_size_mul(n_sequences, b->n_vocab, &bytes)) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "--parallel %zu: too many logits", n_sequences);
    }
    b->ids = qn_malloc_array(quern_engine_get_info(b->engine)->n_batch, sizeof *b->ids);
    b->logits = qn_malloc_array(bytes, sizeof *b->logits);
    if (b->ids == NULL || b->logits == NULL) {
        QN_FAIL_MEMORY(err, "logits", bytes * sizeof *b->logits);
    }
done:
    return status;
}

static bool not_stopped(void *user)
{
    (void)user;
    return !qn_signals_stopped();
}

static void want_limits(bench_job *j)
{
    const quern_engine_info *e = quern_engine_get_info(j->bench.engine);
    const quern_model_info *m = quern_model_get_info(j->model);
    const double of_a_token = quern_engine_get_work(j->bench.engine, 0, 1, 1).weight_bytes;
    j->bench.with_limits = !qn_opts_flag(&j->cli->opts, QN_OPT_BENCH_NO_MACHINE);
    j->bench.limit_options = (quern_machine_options){.isa = e->isa, .n_threads = e->n_threads, .quick = true, .go_on = not_stopped};
    j->bench.idle_weight_bytes = m->n_experts > 0 ? (uint64_t)fmax(0, (double)m->weight_bytes - of_a_token) : 0;
}

/* What the model did is known by now and is not lost where this fails or is stopped: only the file's own speed is missing then. */
static quern_status measure_mapping(bench_job *j, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (j->bench.with_limits) {
        if (j->cli->err.is_terminal) {
            qn_cli_note(j->cli, "measuring how fast the file's own pages are read ...");
        }
        QN_TRY(quern_machine_measure_mapping(j->model, &j->bench.limit_options, &j->mapped_bandwidth, NULL, err));
    }
done:
    if (status == QUERN_ERROR_CANCELLED) {
        (void)qn_error_set(err, status, "interrupted while the file's own speed was measured; the figures so far are kept");
    } else if (status != QUERN_OK) {
        qn_cli_warn(j->cli, "how fast the file's own pages are read is missing: %s", err->message);
        status = QUERN_OK;
    }
    return status;
}

/* ---- figures ---- */

static qn_bench_limit limit_of(const bench_job *j, qn_bench_kind kind, const qn_bench_result *r)
{
    return qn_bench_limit_of(j->bench.engine, kind, r);
}

static double first_token_seconds(const bench_job *j)
{
    const qn_bench *b = &j->bench;
    return b->n_prefill > 0 ? (double)b->prefill[0].n / qn_bench_median(&b->prefill[0]) : (double)NAN;
}

/* ---- JSON ---- */

static qn_json *samples_json(const qn_bench_result *r, bool *ok)
{
    qn_json *list = qn_json_new_array();
    for (size_t i = 0; i < r->n_samples; i++) {
        qn_push(list, qn_json_new_measured(r->samples[i]), ok);
    }
    return list;
}

/* What a million tokens cost: the price of the machine's hours over its tokens per hour; NaN without a price. */
static double cost_per_million(const bench_job *j, const qn_bench_result *r)
{
    const qn_opts *o = &j->cli->opts;
    return qn_opts_given(o, QN_OPT_BENCH_PRICE) ? qn_opts_real(o, QN_OPT_BENCH_PRICE, 0) / 3600 / qn_bench_median(r) * 1e6 : (double)NAN;
}

/* How much the samples differ, and what that means for the ratio beside it. */
static void put_trust(qn_json *o, const qn_bench_result *r, const char *refused, bool *ok)
{
    qn_put_measured(o, "spread", r->n_samples > 1 ? qn_bench_spread(r) : (double)NAN, ok);
    qn_put_text(o, "ratio_refused", refused, ok);
    qn_put_text(o, "ratio_doubt", r->n_samples == 1 ? "one_sample" : NULL, ok);
}

/* The limit that binds, and what it was measured to be. */
static void put_limit(qn_json *o, const qn_bench_limit *l, const qn_bench_result *r, bool *ok)
{
    qn_put_text(o, "bound", l->bound, ok);
    qn_put_text(o, "bound_besides", l->besides, ok);
    qn_put_measured(o, "limit_before", l->before, ok);
    qn_put_measured(o, "limit_after", l->after, ok);
    qn_put_measured(o, "limit_drift", l->bound != NULL ? l->drift : (double)NAN, ok);
    qn_put_measured(o, "fraction_of_limit", l->of_limit, ok);
    put_trust(o, r, l->refused, ok);
}

static void put_cost(qn_json *o, const bench_job *j, const qn_bench_result *r, bool *ok)
{
    qn_put_measured(o, "cost_per_million_tokens", cost_per_million(j, r), ok);
}

static qn_json *prefill_json(const bench_job *j, bool *ok)
{
    qn_json *list = qn_json_new_array();
    for (size_t i = 0; i < j->bench.n_prefill; i++) {
        const qn_bench_result *r = &j->bench.prefill[i];
        const qn_bench_limit limit = limit_of(j, QN_BENCH_PREFILL, r);
        qn_json *o = qn_json_new_object();
        qn_put_count(o, "n", r->n, ok);
        qn_put_measured(o, "tokens_per_s", qn_bench_median(r), ok);
        qn_put(o, "samples", samples_json(r, ok), ok);
        qn_put_measured(o, "operations", limit.operations, ok);
        qn_put_measured(o, "attention_operations", limit.attention_operations, ok);
        qn_put_text(o, "unit", limit.unit, ok);
        qn_put_measured(o, "fraction_of_peak", limit.of_peak, ok);
        put_limit(o, &limit, r, ok);
        put_cost(o, j, r, ok);
        qn_push(list, o, ok);
    }
    return list;
}

static qn_json *decode_json(const bench_job *j, bool *ok)
{
    qn_json *list = qn_json_new_array();
    for (size_t i = 0; i < j->bench.n_decode; i++) {
        const qn_bench_result *r = &j->bench.decode[i];
        const qn_bench_limit limit = limit_of(j, QN_BENCH_DECODE, r);
        qn_json *o = qn_json_new_object();
        qn_put_count(o, "depth", r->depth, ok);
        qn_put_count(o, "n", r->n, ok);
        qn_put_measured(o, "tokens_per_s", qn_bench_median(r), ok);
        qn_put(o, "samples", samples_json(r, ok), ok);
        qn_put_count(o, "bytes_per_token", (uint64_t)limit.bytes, ok);
        qn_put_measured(o, "fraction_of_bandwidth", limit.of_bandwidth, ok);
        put_limit(o, &limit, r, ok);
        put_cost(o, j, r, ok);
        qn_push(list, o, ok);
    }
    return list;
}

static qn_json *batch_json(const bench_job *j, bool *ok)
{
    qn_json *list = qn_json_new_array();
    for (size_t i = 0; i < j->bench.n_batch; i++) {
        const qn_bench_result *r = &j->bench.batch[i];
        const qn_bench_limit limit = limit_of(j, QN_BENCH_BATCH, r);
        qn_json *o = qn_json_new_object();
        qn_put_count(o, "parallel", r->n, ok);
        qn_put_measured(o, "tokens_per_s", qn_bench_median(r), ok);
        qn_put(o, "samples", samples_json(r, ok), ok);
        qn_put_measured(o, "latency_ms_p50", r->n_samples > 0 ? r->latency_p50_s * 1e3 : (double)NAN, ok);
        qn_put_measured(o, "latency_ms_p99", r->n_samples > 0 ? r->latency_p99_s * 1e3 : (double)NAN, ok);
        qn_put_count(o, "latency_samples", r->n_latencies, ok);
        qn_put_count(o, "bytes_per_step", (uint64_t)limit.bytes, ok);
        qn_put_count(o, "operations_per_step", (uint64_t)limit.operations, ok);
        qn_put_text(o, "unit", limit.unit, ok);
        qn_put_measured(o, "fraction_of_bandwidth", limit.is_memory ? limit.of_bandwidth : (double)NAN, ok);
        qn_put_measured(o, "fraction_of_peak", limit.is_memory ? (double)NAN : limit.of_peak, ok);
        put_limit(o, &limit, r, ok);
        put_cost(o, j, r, ok);
        qn_push(list, o, ok);
    }
    return list;
}

static double gain_of(const qn_replay_text *t)
{
    bool steady = qn_bench_is_steady(&t->guessing) && qn_bench_is_steady(&t->plain);
    return steady ? qn_bench_median(&t->guessing) / qn_bench_median(&t->plain) : (double)NAN;
}

/* The ratio here is the gain, of two measurements. */
static void put_gain_trust(qn_json *o, const qn_replay_text *t, bool *ok)
{
    const size_t least = t->guessing.n_samples < t->plain.n_samples ? t->guessing.n_samples : t->plain.n_samples;
    const bool steady = qn_bench_is_steady(&t->guessing) && qn_bench_is_steady(&t->plain);
    qn_put_measured(o, "spread", t->guessing.n_samples > 1 ? qn_bench_spread(&t->guessing) : (double)NAN, ok);
    qn_put_measured(o, "spread_plain", t->plain.n_samples > 1 ? qn_bench_spread(&t->plain) : (double)NAN, ok);
    qn_put_text(o, "ratio_refused", least == 0 ? "not_measured" : !steady ? "samples_differ" : NULL, ok);
    qn_put_text(o, "ratio_doubt", least == 1 ? "one_sample" : NULL, ok);
}

static qn_json *replay_json(const bench_job *j, bool *ok)
{
    qn_json *list = qn_json_new_array();
    for (size_t i = 0; i < j->replay.n_measured; i++) {
        const qn_replay_text *t = &j->replay.texts[i];
        qn_json *o = qn_json_new_object();
        qn_put_text(o, "name", t->name, ok);
        qn_put_count(o, "prompt_tokens", t->prompt.len, ok);
        qn_put_count(o, "n", t->answer.len, ok);
        qn_put_measured(o, "tokens_per_s", qn_bench_median(&t->guessing), ok);
        qn_put(o, "samples", t->guessing.n_samples > 0 ? samples_json(&t->guessing, ok) : qn_json_new_null(), ok);
        qn_put_measured(o, "tokens_per_s_plain", qn_bench_median(&t->plain), ok);
        qn_put(o, "samples_plain", t->plain.n_samples > 0 ? samples_json(&t->plain, ok) : qn_json_new_null(), ok);
        qn_put_measured(o, "gain", gain_of(t), ok);
        put_gain_trust(o, t, ok);
        qn_put_count(o, "steps", t->n_steps, ok);
        qn_put_count(o, "guessed", t->n_guessed, ok);
        qn_put_count(o, "right", t->n_right, ok);
        put_cost(o, j, &t->guessing, ok);
        qn_push(list, o, ok);
    }
    return list;
}

static void put_measured(qn_json *o, const char *key, double v, bool *ok)
{
    qn_put(o, key, v > 0 ? qn_json_new_measured(v) : qn_json_new_null(), ok);
}

static qn_json *machine_json(const bench_job *j, bool *ok)
{
    const quern_machine_rates *m = &j->bench.best_limits;
    qn_json *o = qn_json_new_object(), *peaks = qn_json_new_object();
    put_measured(peaks, "fma_f32", m->peak_fma_f32, ok);
    put_measured(peaks, "avx2_int8", m->peak_avx2_int8, ok);
    put_measured(peaks, "vnni_int8", m->peak_vnni_int8, ok);
    put_measured(peaks, "amx_int8", m->peak_amx_int8, ok);
    put_measured(peaks, "amx_bf16", m->peak_amx_bf16, ok);
    put_measured(peaks, "neon_int8", m->peak_neon_int8, ok);
    put_measured(peaks, "i8mm_int8", m->peak_i8mm_int8, ok);
    qn_put_text(o, "cpu", j->machine.cpu, ok);
    qn_put_text(o, "read_isa", j->machine.isa_reading, ok);
    put_measured(o, "read_bandwidth_bytes_per_s", m->read_bandwidth_all, ok);
    put_measured(o, "cached_bandwidth_bytes_per_s", m->read_bandwidth_cached, ok);
    put_measured(o, "mapped_bandwidth_bytes_per_s", j->mapped_bandwidth, ok);
    qn_put(o, "peak_ops_per_s", peaks, ok);
    return o;
}

static qn_json *cost_json(const bench_job *j, bool *ok)
{
    const qn_opts *o = &j->cli->opts;
    if (!qn_opts_given(o, QN_OPT_BENCH_PRICE)) {
        return qn_json_new_null();
    }
    const double prefill = j->bench.n_prefill > 0 ? cost_per_million(j, &j->bench.prefill[0]) : (double)NAN;
    const double decode = j->bench.n_decode > 0 ? cost_per_million(j, &j->bench.decode[0]) : (double)NAN;
    qn_json *c = qn_json_new_object();
    qn_put_measured(c, "price_per_hour", qn_opts_real(o, QN_OPT_BENCH_PRICE, 0), ok);
    qn_put_measured(c, "prefill_per_million_tokens", prefill, ok);
    qn_put_measured(c, "decode_per_million_tokens", decode, ok);
    qn_json *together = qn_json_new_array();
    for (size_t i = 0; i < j->bench.n_batch; i++) {
        qn_json *one = qn_json_new_object();
        qn_put_count(one, "parallel", j->bench.batch[i].n, ok);
        qn_put_measured(one, "per_million_tokens", cost_per_million(j, &j->bench.batch[i]), ok);
        qn_push(together, one, ok);
    }
    qn_put(c, "batch", together, ok);
    return c;
}

/* The parts as run has them, and what of the process was in memory when the model had been measured. */
static qn_json *memory_json(const bench_job *j, bool *ok)
{
    qn_json *o = qn_answer_memory(j->bench.engine, &j->memory, ok);
    qn_put(o, "mapped_resident", j->mapped_bytes > 0 ? qn_json_new_int((int64_t)j->mapped_bytes) : qn_json_new_null(), ok);
    qn_put(o, "private_resident", j->private_bytes > 0 ? qn_json_new_int((int64_t)j->private_bytes) : qn_json_new_null(), ok);
    return o;
}

static double utilization(const bench_job *j)
{
    return j->bench.cpu_seconds / (j->bench.seconds * (double)quern_engine_get_info(j->bench.engine)->n_threads);
}

static qn_json *make_document(const bench_job *j, bool *all_ok)
{
    bool ok = true;
    const quern_model_info *m = quern_model_get_info(j->model);
    const quern_engine_info *e = quern_engine_get_info(j->bench.engine);
    qn_json *doc = qn_json_new_object();
    qn_put_text(doc, "schema", "quern.bench/1", &ok);
    qn_put_text(doc, "model", m->name, &ok);
    qn_put_text(doc, "architecture", m->architecture, &ok);
    qn_put_text(doc, "weights", m->weights, &ok);
    qn_put_count(doc, "params", m->n_parameters, &ok);
    qn_put_count(doc, "bytes", m->weight_bytes, &ok);
    qn_put_count(doc, "threads", e->n_threads, &ok);
    qn_put_text(doc, "isa", e->isa, &ok);
    qn_put_text(doc, "kv_type", qn_settings_kv_name(e->kv_type), &ok);
    qn_put_count(doc, "n_batch", e->n_batch, &ok);
    qn_put_measured(doc, "load_s", j->load_s, &ok);
    qn_put(doc, "read_in", qn_settings_read_in_json(&j->read_in, &ok), &ok);
    qn_put_measured(doc, "spread_max", QN_BENCH_SPREAD_MAX, &ok);
    qn_put_measured(doc, "drift_max", QN_BENCH_DRIFT_MAX, &ok);
    qn_put(doc, "prefill", prefill_json(j, &ok), &ok);
    qn_put(doc, "decode", decode_json(j, &ok), &ok);
    qn_put(doc, "batch", batch_json(j, &ok), &ok);
    qn_put(doc, "replay", replay_json(j, &ok), &ok);
    qn_put_measured(doc, "ttft_ms", first_token_seconds(j) * 1e3, &ok);
    qn_put(doc, "machine", machine_json(j, &ok), &ok);
    qn_put_measured(doc, "cpu_utilization", utilization(j), &ok);
    qn_put_measured(doc, "energy_j", j->bench.energy_j, &ok);
    qn_put(doc, "memory", memory_json(j, &ok), &ok);
    qn_put_count(doc, "peak_rss_bytes", j->bench.peak.bytes, &ok);
    qn_put(doc, "cost", cost_json(j, &ok), &ok);
    *all_ok = ok;
    return doc;
}

/* ---- for people ---- */

/* What the share is of, at the rate that it is a share of. */
static const char *name_limit(char out[48], const qn_bench_limit *l)
{
    const double rate = fmax(l->before, l->after);
    if (l->is_memory) {
        (void)snprintf(out, 48, "%.1f GB/s%s", rate / 1e9, strcmp(l->bound, "cached_bandwidth") == 0 ? " from caches" : "");
    } else {
        (void)snprintf(out, 48, "%s%s", l->bound, l->besides != NULL ? " + fma_f32" : "");
    }
    return out;
}

/* limit NULL: of what has none, a known answer. */
static void add_row(qn_table *t, const char *name, const qn_bench_result *r, const qn_bench_limit *limit, const char *note)
{
    qn_number rate;
    char of[48];
    double median = qn_bench_median(r);
    qn_table_cell(t, "%s", name);
    qn_table_cell(t, "%s", isnan(median) ? "-" : qn_format_rate(rate, median));
    if (r->n_samples > 1) {
        qn_table_cell(t, "%.1f %%", qn_bench_spread(r) * 100);
    } else {
        qn_table_cell(t, "-");
    }
    if (limit == NULL || limit->refused != NULL) {
        qn_table_cell(t, "%s", qn_bench_refusal_text(limit != NULL ? limit->refused : NULL));
    } else {
        qn_table_cell(t, "%.0f %% of %s", limit->of_limit * 100, name_limit(of, limit));
    }
    qn_table_cell(t, "%s", note);
}

static void add_rows(const bench_job *j, qn_table *t)
{
    char name[64], note[96];
    qn_number a, b;
    qn_bench_limit limit;
    for (size_t i = 0; i < j->bench.n_prefill; i++) {
        const qn_bench_result *r = &j->bench.prefill[i];
        (void)snprintf(name, sizeof name, "prompt of %llu", (unsigned long long)r->n);
        (void)snprintf(note, sizeof note, "first token after %s", qn_format_seconds(a, (double)r->n / qn_bench_median(r)));
        limit = limit_of(j, QN_BENCH_PREFILL, r);
        add_row(t, name, r, &limit, r->n_samples > 0 ? note : "");
    }
    for (size_t i = 0; i < j->bench.n_decode; i++) {
        const qn_bench_result *r = &j->bench.decode[i];
        if (r->depth > 0) {
            (void)snprintf(name, sizeof name, "decode %llu after %llu", (unsigned long long)r->n, (unsigned long long)r->depth);
        } else {
            (void)snprintf(name, sizeof name, "decode %llu", (unsigned long long)r->n);
        }
        limit = limit_of(j, QN_BENCH_DECODE, r);
        (void)snprintf(note, sizeof note, "%s a token", qn_format_bytes(a, (uint64_t)limit.bytes));
        add_row(t, name, r, &limit, note);
    }
    for (size_t i = 0; i < j->bench.n_batch; i++) {
        const qn_bench_result *r = &j->bench.batch[i];
        (void)snprintf(name, sizeof name, "%llu sequence%s", (unsigned long long)r->n, r->n == 1 ? "" : "s together");
        (void)snprintf(note, sizeof note, r->n_latencies < QN_BENCH_P99_SAMPLES ? "a step %s, at most %s" : "a step %s, p99 %s",
                       qn_format_seconds(a, r->latency_p50_s), qn_format_seconds(b, r->latency_p99_s));
        limit = limit_of(j, QN_BENCH_BATCH, r);
        add_row(t, name, r, &limit, r->n_samples > 0 ? note : "");
    }
    for (size_t i = 0; i < j->replay.n_measured; i++) {
        const qn_replay_text *text = &j->replay.texts[i];
        (void)qn_format_rate(a, qn_bench_median(&text->plain));
        if (text->guessing.n_samples == 0 || text->plain.n_samples == 0) {
            (void)snprintf(note, sizeof note, "one token, which the prompt's last step gives");
        } else if (isnan(gain_of(text))) {
            (void)snprintf(note, sizeof note, "%s without guesses, samples differ too much; %zu of %zu right", a, text->n_right,
                           text->n_guessed);
        } else {
            (void)snprintf(note, sizeof note, "%.2f x %s without guesses; %zu of %zu right", gain_of(text), a, text->n_right,
                           text->n_guessed);
        }
        add_row(t, text->name, &text->guessing, NULL, note);
    }
}

/* One figure, with what is to be doubted of it; n results were asked for, of which this is the first. */
static bool print_one_cost(const bench_job *j, const qn_bench_result *r, size_t n, bool first, const char *of)
{
    const double cost = n > 0 ? cost_per_million(j, r) : (double)NAN;
    if (isnan(cost)) {
        return false;
    }
    (void)printf(cost > 0 && cost < 0.01 ? "%s%.2g %s" : "%s%.3f %s", first ? "a million tokens cost " : ", ", cost, of);
    if (r->n_samples > 1 && !qn_bench_is_steady(r)) {
        (void)printf(" (samples differ too much: +- %.0f %%)", qn_bench_spread(r) * 100);
    }
    return true;
}

/* Of what was measured. */
static void print_cost(const bench_job *j)
{
    if (!qn_opts_given(&j->cli->opts, QN_OPT_BENCH_PRICE)) {
        return;
    }
    bool any = print_one_cost(j, &j->bench.prefill[0], j->bench.n_prefill, true, "to read");
    any |= print_one_cost(j, &j->bench.decode[0], j->bench.n_decode, !any, "to write");
    for (size_t i = 0; i < j->bench.n_batch; i++) {
        char of[64];
        (void)snprintf(of, sizeof of, "with %llu sequence%s", (unsigned long long)j->bench.batch[i].n,
                       j->bench.batch[i].n == 1 ? "" : "s together");
        any |= print_one_cost(j, &j->bench.batch[i], 1, !any, of);
    }
    (void)printf("%s", any ? "\n" : "");
}

/* Planned parts; of the rest what was measured. */
static void print_memory(const bench_job *j)
{
    const quern_engine_plan *p = &quern_engine_get_info(j->bench.engine)->plan;
    const qn_memory_marks *m = &j->memory;
    qn_number a, b, c;
    (void)printf("\nmemory: weights %s%s, KV cache %s, buffers %s", qn_format_bytes(a, p->weights_mapped),
                 qn_model_ref_copies(j->cli) ? " copied" : " mapped", qn_format_bytes(b, p->kv), qn_format_bytes(c, p->activations));
    if (m->before_model > 0 && m->after_model >= m->before_model) {
        (void)printf(", the model's tables %s, the program %s", qn_format_bytes(a, m->after_model - m->before_model),
                     qn_format_bytes(b, m->before_model));
    }
}

/* What is to be doubted of the table's ratios, or why they are missing. */
typedef struct remarks {
    double worst; /* the largest spread of samples that differ too much; 0 if none do */
    double drift; /* the same of limits before and after */
    bool one_sample;
} remarks;

static void remark(remarks *all, const qn_bench_result *r, bool has_ratio)
{
    all->one_sample = all->one_sample || r->n_samples == 1;
    if (has_ratio && r->n_samples > 1 && !qn_bench_is_steady(r)) {
        all->worst = fmax(all->worst, qn_bench_spread(r));
    }
}

static void remark_limited(remarks *all, const bench_job *j, qn_bench_kind kind, const qn_bench_result *r)
{
    const qn_bench_limit limit = limit_of(j, kind, r);
    remark(all, r, limit.bound != NULL || qn_opts_given(&j->cli->opts, QN_OPT_BENCH_PRICE));
    if (limit.refused != NULL && strcmp(limit.refused, "limits_differ") == 0) {
        all->drift = fmax(all->drift, limit.drift);
    }
}

static void print_remarks(const bench_job *j)
{
    remarks all = {0};
    for (size_t i = 0; i < j->bench.n_prefill; i++) {
        remark_limited(&all, j, QN_BENCH_PREFILL, &j->bench.prefill[i]);
    }
    for (size_t i = 0; i < j->bench.n_decode; i++) {
        remark_limited(&all, j, QN_BENCH_DECODE, &j->bench.decode[i]);
    }
    for (size_t i = 0; i < j->bench.n_batch; i++) {
        remark_limited(&all, j, QN_BENCH_BATCH, &j->bench.batch[i]);
    }
    for (size_t i = 0; i < j->replay.n_measured; i++) {
        remark(&all, &j->replay.texts[i].guessing, true);
        remark(&all, &j->replay.texts[i].plain, true);
    }
    (void)printf("%s", all.worst > 0 || all.drift > 0 || all.one_sample ? "\n" : "");
    if (all.worst > 0) {
        (void)printf(
            "samples differ too much: +- (half their distance, as a part of the median) is up to %.1f %%; shares and gains are given up to "
            "%.0f %%\n",
            all.worst * 100, QN_BENCH_SPREAD_MAX * 100);
    }
    if (all.drift > 0) {
        (void)printf(
            "limit changed meanwhile: what the machine gave before and after differs by up to %.1f %%; shares are given up to %.0f %%\n",
            all.drift * 100, QN_BENCH_DRIFT_MAX * 100);
    }
    if (all.one_sample) {
        (void)printf("one sample tells nothing of the spread, so what is given here may be noise; -r 3 takes three\n");
    }
}

static void print_report(const bench_job *j)
{
    static const qn_table_column columns[] = {{"", false, 0, QN_STYLE_NONE},
                                              {"tok/s", true, 0, QN_STYLE_BOLD},
                                              {"+-", true, 0, QN_STYLE_DIM},
                                              {"limit", true, 0, QN_STYLE_NONE},
                                              {"", false, 0, QN_STYLE_DIM}};
    const quern_model_info *m = quern_model_get_info(j->model);
    const quern_engine_info *e = quern_engine_get_info(j->bench.engine);
    const qn_term *out = &j->cli->out;
    qn_number a, b, rate;
    (void)printf("%s%s%s  %s, %s parameters, %s, %s\n", qn_term_style(out, QN_STYLE_BOLD), m->name, qn_term_style(out, QN_STYLE_NONE),
                 m->architecture, qn_format_count(a, m->n_parameters), m->weights, qn_format_bytes(b, m->weight_bytes));
    (void)printf("%s  %s, %zu thread%s", j->machine.cpu, e->isa, e->n_threads, e->n_threads == 1 ? "" : "s");
    if (j->bench.best_limits.read_bandwidth_all > 0) {
        (void)printf(", reads %.1f GB/s", j->bench.best_limits.read_bandwidth_all / 1e9);
    }
    if (j->mapped_bandwidth > 0) {
        (void)printf(" (mapped file %.1f)", j->mapped_bandwidth / 1e9);
    }
    (void)printf("\n\n");
    qn_table *t = qn_table_create(columns, sizeof columns / sizeof columns[0]);
    add_rows(j, t);
    qn_table_print(t, out, 0);
    qn_table_destroy(t);
    print_remarks(j);
    (void)printf("\nloaded in %s, %s of memory at most, processors %.0f %% busy", qn_format_seconds(a, j->load_s),
                 qn_format_bytes(b, j->bench.peak.bytes), utilization(j) * 100);
    if (!isnan(j->bench.energy_j)) {
        (void)printf(", %.0f J", j->bench.energy_j);
    }
    if (j->read_in.cold_bytes > 0 && !j->read_in.skipped) {
        (void)printf("\n%s of it came from the disk in %s, %s/s", qn_format_bytes(a, j->read_in.cold_bytes),
                     qn_format_seconds(b, j->read_in.seconds),
                     qn_format_bytes(rate, (uint64_t)((double)j->read_in.cold_bytes / j->read_in.seconds)));
    }
    print_memory(j);
    (void)printf("\n");
    print_cost(j);
}

/* On standard output, and as a file if one was asked for. */
static quern_status give_results(bench_job *j, const char *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool ok;
    qn_json *doc = make_document(j, &ok);
    if (doc == NULL || !ok) {
        qn_json_free(doc);
        return qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: the JSON document");
    }
    if (!j->cli->json) {
        print_report(j);
    }
    if (report != NULL) {
        status = qn_bench_report_write(j->cli, doc, report, err);
    }
    if (j->cli->json) {
        quern_error printing;
        quern_status printed = qn_cli_write_json(j->cli, doc, ok, &printing); /* takes the document */
        if (status == QUERN_OK && printed != QUERN_OK) {
            status = printed;
            *err = printing;
        }
    } else {
        qn_json_free(doc);
    }
    return status;
}

quern_status qn_cmd_bench(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *path = NULL;
    const char *report = qn_opts_text(&cli->opts, QN_OPT_OUTPUT, NULL);
    qn_progress bar;
    bench_job *j = qn_calloc(1, sizeof *j);
    if (j == NULL) {
        QN_FAIL_MEMORY(err, "bench", sizeof *j);
    }
    j->cli = cli;
    if (report != NULL) {
        QN_TRY(qn_bench_report_check(cli, report, err));
    }
    QN_TRY(make_plan(j, err));
    QN_TRY(qn_model_ref_take(cli, NULL, &path, err));
    if (cli->opts.n_positional > 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "one model at a time: '%s'", cli->opts.positional[0]);
    }
    QN_TRY(open_engine(j, path, err));
    QN_TRY(quern_machine_detect(&j->machine, quern_engine_get_info(j->bench.engine)->isa, err));
    j->bench.plan = &j->plan;
    j->bench.rng = 1;
    j->bench.progress = &bar;
    want_limits(j);
    qn_signals_begin_stoppable(); /* before there is anything to see */
    qn_progress_begin(&bar, &cli->err, !cli->quiet, "bench", QN_UNIT_STEPS);
    qn_bench_begin(&j->bench, qn_replay_tokens(&j->replay, j->plan.repeat));
    status = qn_bench_run(&j->bench, err);
    if (status == QUERN_OK) {
        status = qn_replay_measure(&j->bench, &j->replay, err);
    }
    qn_bench_end(&j->bench);
    qn_progress_end(&bar);
    j->private_bytes = qn_private_memory_bytes();
    j->mapped_bytes = qn_mapped_memory_bytes();
    if (j->bench.limits_error.message[0] != '\0') {
        qn_cli_warn(cli, "limits of the machine are missing, of some figures at least: %s", j->bench.limits_error.message);
    }
    if (status == QUERN_OK) {
        status = measure_mapping(j, err);
    }
    qn_signals_end_stoppable();
    if (status == QUERN_OK || status == QUERN_ERROR_CANCELLED) {
        quern_error written;
        quern_status result = give_results(j, report, &written);
        if (result != QUERN_OK) {
            status = result;
            *err = written;
        }
    }
done:
    if (j != NULL) {
        quern_engine_destroy(j->bench.engine);
        quern_model_close(j->model);
        qn_replay_deinit(&j->replay);
        qn_free(j->bench.ids);
        qn_free(j->bench.logits);
    }
    qn_free(j);
    qn_free(path);
    return status;
}
