/* quality.c - see quality.h. The limits stand in one table below; docs/quality.md says where they come from. */
#include "gate/quality.h"

#include <math.h>
#include <string.h>

#include "base/sha256.h"
#include "engine/engine_int.h"
#include "gate/plain_model.h"
#include "quern/machine.h"

enum { TOKENS_MIN = 4096, TASKS_OF_LARGE_MODELS = 8 };

/* Multiply-adds times two for one measurement; with two cores some minutes. Small models get all of the text. */
static const double operations_max = 2e13;
static const uint64_t large_model_parameters = 500000000;

const char *quern_gate_policy_name(quern_gate_policy p)
{
    static const char *const names[] = {[QUERN_GATE_OFF] = "off", [QUERN_GATE_DEFAULT] = "default", [QUERN_GATE_STRICT] = "strict"};
    return names[p];
}

/* "sample:8" */
bool quern_gate_policy_parse(const char *text, quern_gate_policy *policy, size_t *sample_layers)
{
    static const char sample[] = "sample:";
    *sample_layers = 0;
    for (int p = QUERN_GATE_OFF; p <= QUERN_GATE_STRICT; p++) {
        if (strcmp(text, quern_gate_policy_name((quern_gate_policy)p)) == 0) {
            *policy = (quern_gate_policy)p;
            return true;
        }
    }
    const char *digits = text + sizeof sample - 1;
    if (strncmp(text, sample, sizeof sample - 1) != 0 || *digits == '\0' || strspn(digits, "0123456789") != strlen(digits) ||
        strlen(digits) > 4) {
        return false;
    }
    for (; *digits != '\0'; digits++) {
        *sample_layers = 10 * *sample_layers + (size_t)(*digits - '0');
    }
    *policy = QUERN_GATE_DEFAULT;
    return *sample_layers > 0;
}

quern_engine_options qn_quality_engine_options(const qn_quality_base *b, size_t n_ctx)
{
    return (quern_engine_options){
        .n_threads = b->n_threads, .n_ctx = n_ctx, .kv_type = QUERN_KV_F32, .arithmetic = QUERN_ARITHMETIC_F32_ACTIVATIONS};
}

static size_t n_tasks(const qn_quality_base *b)
{
    return quern_model_get_info(b->model)->n_parameters > large_model_parameters ? TASKS_OF_LARGE_MODELS : QN_N_TASKS;
}

/* One engine runs both the text and the tasks. */
static size_t context_tokens(const qn_quality_base *b)
{
    size_t tasks = n_tasks(b) * (QN_TASK_TOKENS + QN_TASK_PROMPT_TOKENS);
    return b->n_ctx > tasks ? b->n_ctx : tasks;
}

quern_status qn_quality_check_text(const quern_tokenizer *t, size_t n_ctx_train, const char *text, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_ids ids = {0};
    size_t needed = 2 * quern_measure_chunk_tokens(n_ctx_train);
    int flags = QUERN_ENCODE_PARSE_SPECIAL | (quern_tokenizer_get_info(t)->add_bos ? QUERN_ENCODE_ADD_BOS : 0); /* as quern_measure does */
    QN_TRY(quern_tokenizer_encode(t, text, len, flags, &ids, err));
    if (ids.len < needed) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "the gate's text has %zu tokens; at least %zu are needed, two chunks of %zu", ids.len, needed,
                needed / 2);
    }
done:
    quern_ids_deinit(&ids);
    return status;
}

quern_status qn_quality_base_open(qn_quality_base *b, const char *source, const char *as, const char *text, size_t len, size_t n_threads,
                                  quern_error *err)
{
    quern_status status = QUERN_OK;
    *b = (qn_quality_base){.text = text, .text_len = len, .n_threads = n_threads};
    QN_TRY(qn_sha256_bytes(text, len, b->text_sha256, err));
    QN_TRY(quern_model_open(&b->model, source, &(quern_model_options){.architecture = as}, err));
    const quern_model_info *info = quern_model_get_info(b->model);
    b->n_ctx = quern_measure_chunk_tokens(info->n_ctx_train);
    double tokens = operations_max / (2.0 * (double)info->n_parameters);
    tokens = tokens < TOKENS_MIN ? TOKENS_MIN : tokens;
    b->max_chunks = tokens < 1e9 ? (size_t)tokens / b->n_ctx : 0;
    if (quern_model_get_tokenizer(b->model) == NULL) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: no tokenizer, so there is no text to predict", source);
    }
    QN_TRY(qn_quality_check_text(quern_model_get_tokenizer(b->model), info->n_ctx_train, text, len, err));
done:
    return status;
}

void qn_quality_base_close(qn_quality_base *b)
{
    quern_engine_destroy(b->engine);
    quern_model_close(b->model);
    *b = (qn_quality_base){0};
}

/* As a user runs it. */
static quern_engine_options as_run_options(const qn_quality_base *b)
{
    return (quern_engine_options){
        .n_threads = b->n_threads, .n_ctx = b->n_ctx, .kv_type = QUERN_KV_F16, .arithmetic = QUERN_ARITHMETIC_AS_RUN};
}

quern_status qn_quality_memory_of(const qn_quality_base *b, const qn_quality_subject *subjects, size_t n, qn_quality_memory *memory,
                                  quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_engine_options exact = qn_quality_engine_options(b, context_tokens(b)), as_run = as_run_options(b);
    quern_engine_plan plan;
    quern_machine machine;
    QN_TRY(quern_engine_make_plan(b->model, &exact, &plan, err));
    QN_TRY(quern_machine_detect(&machine, NULL, err));
    /* What an engine of the source holds already is not in what is available; its weights, which are mapped, are. */
    memory->needs = b->engine != NULL ? plan.weights_mapped : plan.total;
    memory->working = plan.total - plan.weights_mapped;
    memory->has = machine.memory_available_bytes / 10 * 9;
    for (size_t i = 0; i < n; i++) {
        QN_TRY(quern_engine_make_plan(subjects[i].own, &exact, &plan, err));
        memory->needs += plan.total;
        memory->working += plan.total - plan.weights_mapped;
        QN_TRY(quern_engine_make_plan(subjects[i].own, &as_run, &plan, err));
        memory->needs += plan.total - plan.weights_mapped;
        memory->working += plan.total - plan.weights_mapped;
    }
done:
    return status;
}

static bool does_not_run(quern_status status) { return status == QUERN_ERROR_INVALID || status == QUERN_ERROR_UNSUPPORTED; }

/* ---- measuring ---- */

enum { EXACT, AS_RUN, N_KINDS };

typedef struct run {
    qn_quality_base *base;
    qn_quality_subject *subjects;
    quern_engine *(*engines)[N_KINDS];
    quern_measured *measured; /* of those that run, two a subject in order */
    size_t n, n_measured;
} run;

/* What is wrong with one output's engine is that output's own. */
static quern_status create_engines(run *r, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_quality_base *b = r->base;
    const quern_engine_options options[N_KINDS] = {[EXACT] = qn_quality_engine_options(b, context_tokens(b)), [AS_RUN] = as_run_options(b)};
    if (b->engine == NULL) {
        status = quern_engine_create(&b->engine, b->model, &options[EXACT], err);
        b->broken = does_not_run(status);
        QN_TRY(status);
    }
    for (size_t i = 0; i < r->n; i++) {
        qn_quality_subject *s = &r->subjects[i];
        if (s->own->config.n_vocab != b->model->config.n_vocab) {
            s->status = qn_error_set(&s->why, QUERN_ERROR_INVALID, "%u tokens in the vocabulary, the source has %u", s->own->config.n_vocab,
                                     b->model->config.n_vocab);
        }
        for (int k = 0; k < N_KINDS && s->status == QUERN_OK; k++) {
            s->status = quern_engine_create(&r->engines[i][k], s->own, &options[k], &s->why);
        }
        for (int k = 0; k < N_KINDS && s->status == QUERN_OK; k++) {
            r->measured[r->n_measured++].engine = r->engines[i][k];
        }
    }
done:
    return status;
}

static void take_figures(qn_quality *q, const quern_measured *exact, const quern_measured *as_run, const quern_perplexity *source)
{
    const quern_divergence *d = &exact->divergence, *e = &as_run->divergence;
    q->n_ctx = exact->perplexity.n_ctx;
    q->n_chunks = exact->perplexity.n_chunks;
    q->n_tokens = exact->perplexity.n_tokens;
    q->ppl = exact->perplexity.ppl;
    q->ppl_source = source->ppl;
    q->ppl_ratio = d->ppl_ratio;
    q->ppl_ratio_error = d->ppl_ratio_error;
    q->kld_mean = d->kld_mean;
    q->kld_p99 = d->kld_p99;
    q->kld_max = d->kld_max;
    q->top1_agreement = d->top1_agreement;
    q->ran = as_run->status == QUERN_OK;
    if (q->ran) {
        q->as_run.ppl = as_run->perplexity.ppl;
        q->as_run.ppl_ratio = e->ppl_ratio;
        q->as_run.kld_mean = e->kld_mean;
        q->as_run.kld_p99 = e->kld_p99;
        q->as_run.kld_max = e->kld_max;
        q->as_run.top1_agreement = e->top1_agreement;
    }
}

static quern_measure_options text_of(const qn_quality_base *b)
{
    return (quern_measure_options){.text = b->text, .len = b->text_len, .n_ctx = b->n_ctx, .max_chunks = b->max_chunks};
}

/* If the source fails by itself, the blame and the message are the source's. */
static void find_blame(qn_quality_base *b, quern_error *err)
{
    quern_perplexity unused;
    quern_measure_options options = text_of(b);
    b->broken = does_not_run(quern_measure(b->engine, NULL, &options, &unused, NULL, NULL, err));
}

static quern_status measure_text(run *r, quern_progress_callback on_progress, void *user, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_perplexity source;
    quern_measure_options options = text_of(r->base);
    options.on_progress = on_progress;
    options.user = user;
    status = quern_measure_beside(r->measured, r->n_measured, r->base->engine, &options, &source, err);
    if (status == QUERN_ERROR_INVALID) {
        find_blame(r->base, err);
    }
    QN_TRY(status);
    size_t at = 0;
    for (size_t i = 0; i < r->n; i++) {
        qn_quality_subject *s = &r->subjects[i];
        if (s->status == QUERN_OK) {
            const quern_measured *exact = &r->measured[at + EXACT], *as_run = &r->measured[at + AS_RUN];
            s->status = exact->status;
            s->why = exact->error;
            at += N_KINDS;
            if (s->status == QUERN_OK) {
                take_figures(&s->figures, exact, as_run, &source);
            }
        }
    }
done:
    return status;
}

static quern_status answer_tasks(run *r, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_quality_base *b = r->base;
    const quern_tokenizer *t = quern_model_get_tokenizer(b->model);
    if (!b->answered) {
        status = qn_tasks_run(b->engine, t, n_tasks(b), &b->answers, err);
        b->broken = does_not_run(status);
        QN_TRY(status);
        b->answered = true;
    }
    for (size_t i = 0; i < r->n; i++) {
        qn_quality_subject *s = &r->subjects[i];
        qn_task_result answers;
        if (s->status == QUERN_OK) {
            s->status = qn_tasks_run(r->engines[i][EXACT], t, n_tasks(b), &answers, &s->why);
        }
        if (s->status == QUERN_OK) {
            s->figures.n_tasks = answers.n;
            s->figures.syntax_valid_source = b->answers.syntax_valid;
            s->figures.syntax_valid = answers.syntax_valid;
            s->figures.n_crashed_source = b->answers.n_crashed;
            s->figures.n_crashed = answers.n_crashed;
            s->figures.n_degenerate_source = b->answers.n_degenerate;
            s->figures.n_degenerate = answers.n_degenerate;
            s->figures.measured = true;
        }
    }
done:
    return status;
}

quern_status qn_quality_measure(qn_quality_base *b, qn_quality_subject *subjects, size_t n, quern_progress_callback on_progress, void *user,
                                quern_error *err)
{
    quern_status status = QUERN_OK;
    run r = {.base = b, .subjects = subjects, .n = n};
    r.engines = qn_calloc(n, sizeof *r.engines);
    r.measured = qn_calloc(N_KINDS * n, sizeof *r.measured);
    if (r.engines == NULL || r.measured == NULL) {
        QN_FAIL_MEMORY(err, "the measurement", n * (sizeof *r.engines + N_KINDS * sizeof *r.measured));
    }
    QN_TRY(create_engines(&r, err));
    if (r.n_measured > 0) {
        QN_TRY(measure_text(&r, on_progress, user, err));
        QN_TRY(answer_tasks(&r, err));
    }
done:
    for (size_t i = 0; r.engines != NULL && i < n; i++) {
        for (int k = 0; k < N_KINDS; k++) {
            quern_engine_destroy(r.engines[i][k]);
        }
    }
    qn_free(r.engines);
    qn_free(r.measured);
    return status;
}

quern_status qn_quality_measure_plain(qn_quality_base *b, const quern_model *own, quern_progress_callback on_progress, void *user,
                                      qn_quality *q, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_machine machine;
    qn_plain_model plain = {0};
    quern_engine *engine = NULL;
    quern_perplexity mine, theirs;
    quern_divergence d;
    const quern_engine_options options = qn_quality_engine_options(b, b->n_ctx);
    quern_measure_options text = text_of(b);
    text.on_progress = on_progress;
    text.user = user;
    QN_TRY(quern_machine_detect(&machine, NULL, err));
    uint64_t bytes = qn_plain_model_bytes(own);
    if (bytes > machine.memory_available_bytes / 2 || (b->memory_bytes != 0 && bytes > b->memory_bytes)) {
        goto done;
    }
    QN_TRY(qn_plain_model_make(&plain, b->model, own, b->engine->info.n_threads, err));
    QN_TRY(quern_engine_create(&engine, &plain.model, &options, err));
    status = quern_measure(engine, b->engine, &text, &mine, &theirs, &d, err);
    if (status == QUERN_ERROR_INVALID) { /* plain encoding itself overflows: that says nothing of the output */
        status = QUERN_OK;
        goto done;
    }
    QN_TRY(status);
    q->has_plain = true;
    q->plain.ppl_ratio = d.ppl_ratio;
    q->plain.kld_mean = d.kld_mean;
    q->plain.top1_agreement = d.top1_agreement;
done:
    quern_engine_destroy(engine);
    qn_plain_model_free(&plain);
    return status;
}

/* ---- limits ---- */

typedef struct limits {
    double ppl_ratio, kld_mean, top1;
    double block_error; /* where layers are sampled */
} limits;

/* [policy strict][fewer than 4 bits a weight] */
static const limits table[2][2] = {
    {{.ppl_ratio = 1.05, .kld_mean = 0.05, .top1 = 0.80, .block_error = 0.12},
     {.ppl_ratio = 1.20, .kld_mean = 0.20, .top1 = 0.65, .block_error = 0.25}},
    {{.ppl_ratio = 1.02, .kld_mean = 0.01, .top1 = 0.90, .block_error = 0.06},
     {.ppl_ratio = 1.05, .kld_mean = 0.05, .top1 = 0.80, .block_error = 0.12}},
};
static const double bits_of_few = 4.0;

double qn_quality_block_limit(quern_gate_policy policy, double bits)
{
    return table[policy == QUERN_GATE_STRICT ? 1 : 0][bits < bits_of_few ? 1 : 0].block_error;
}

static quern_status judge_tasks(const qn_quality *q, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    /* A fifth of the tasks fewer; one more is an accident of greedy answers. */
    if (isfinite(q->syntax_valid) && q->syntax_valid < q->syntax_valid_source - 0.2 - 0.5 / (double)q->n_tasks) {
        QN_TRY(qn_findings_lossy(f, err, "%.0f %% of %zu Python answers parse, of the source's %.0f %%", 100 * q->syntax_valid, q->n_tasks,
                                 100 * q->syntax_valid_source));
    }
    if (isfinite(q->syntax_valid) && isfinite(q->syntax_valid_source) && q->n_crashed + q->n_crashed_source > 0) {
        QN_TRY(qn_findings_note(f, err, "python3 crashed on %zu of %zu Python answers, and on %zu of the source's; they count as not valid",
                                q->n_crashed, q->n_tasks, q->n_crashed_source));
    } else if (isfinite(q->syntax_valid) != isfinite(q->syntax_valid_source) || q->n_crashed + q->n_crashed_source > 0) {
        QN_TRY(qn_findings_note(
            f, err, "syntax_valid is not known of both: python3 crashed on %zu of the answers and %zu of the source's, or did not end",
            q->n_crashed, q->n_crashed_source));
    }
    if (q->n_degenerate > q->n_degenerate_source + q->n_tasks / 5) {
        QN_TRY(qn_findings_lossy(f, err, "%zu of %zu Python answers are empty or repeat themselves, of the source's %zu", q->n_degenerate,
                                 q->n_tasks, q->n_degenerate_source));
    }
done:
    return status;
}

quern_status qn_quality_judge(const qn_quality *q, quern_gate_policy policy, double bits, qn_findings *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool few = bits < bits_of_few;
    const limits *l = &table[policy == QUERN_GATE_STRICT ? 1 : 0][few ? 1 : 0];
    const char *at = few ? "below 4 bits" : "at 4 bits and more";
    if (!(q->ppl_ratio - q->ppl_ratio_error <= l->ppl_ratio)) {
        QN_TRY(qn_findings_lossy(f, err, "perplexity is %.4f +- %.4f times the source's (%.4f, %.4f); the policy %s wants at most %.2f %s",
                                 q->ppl_ratio, q->ppl_ratio_error, q->ppl, q->ppl_source, quern_gate_policy_name(policy), l->ppl_ratio,
                                 at));
    }
    if (!(q->kld_mean <= l->kld_mean)) {
        QN_TRY(qn_findings_lossy(f, err, "KLD from the source is %.5f nats in the mean (99 %%: %.4f); the policy %s wants at most %.2f %s",
                                 q->kld_mean, q->kld_p99, quern_gate_policy_name(policy), l->kld_mean, at));
    }
    if (!(q->top1_agreement >= l->top1)) {
        QN_TRY(qn_findings_lossy(f, err, "%.2f %% of the most likely tokens are the source's; the policy %s wants at least %.0f %% %s",
                                 100 * q->top1_agreement, quern_gate_policy_name(policy), 100 * l->top1, at));
    }
    if (!q->ran) {
        QN_TRY(
            qn_findings_lossy(f, err, "by Quern's own arithmetic (int8 activations, float16 keys and values) its logits are not finite"));
    }
    QN_TRY(judge_tasks(q, f, err));
done:
    return status;
}

/* Encoders with more effort than plain ones are better; 5 % more is noise of one text. */
static const double plain_room = 1.05;

quern_status qn_quality_judge_plain(const qn_quality *q, qn_findings *f, quern_error *err)
{
    if (!q->has_plain) {
        return QUERN_OK;
    }
    bool as_likely = q->ppl_ratio - 2 * q->ppl_ratio_error <= plain_room * q->plain.ppl_ratio;
    if (q->kld_mean <= plain_room * q->plain.kld_mean && as_likely) {
        return qn_findings_note(f, err,
                                "the loss is that of the type on this model: plain encoding in the same types has a KLD of %.5f and a "
                                "perplexity ratio of %.4f",
                                q->plain.kld_mean, q->plain.ppl_ratio);
    }
    return qn_findings_lossy(f, err,
                             "plain encoding in the same types has a KLD of %.5f and a perplexity ratio of %.4f: the type alone does not "
                             "explain the loss",
                             q->plain.kld_mean, q->plain.ppl_ratio);
}

/* ---- JSON ---- */

typedef struct builder {
    qn_json *object;
    bool ok;
} builder;

static void set(builder *b, const char *key, qn_json *value) { b->ok = qn_json_set(b->object, key, value) && b->ok; }

typedef struct named_real {
    const char *key;
    double value;
} named_real;

static void set_reals(builder *b, const named_real *reals, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        set(b, reals[i].key, qn_json_new_real(reals[i].value));
    }
}

static void set_as_run(builder *b, const qn_quality *q)
{
    const named_real reals[] = {{"ppl", q->as_run.ppl},           {"ppl_ratio", q->as_run.ppl_ratio},
                                {"kld_mean", q->as_run.kld_mean}, {"kld_p99", q->as_run.kld_p99},
                                {"kld_max", q->as_run.kld_max},   {"top1_agreement", q->as_run.top1_agreement}};
    builder own = {.object = q->ran ? qn_json_new_object() : qn_json_new_null(), .ok = true};
    if (q->ran) {
        set(&own, "arithmetic", qn_json_new_string("as_run"));
        set(&own, "kv_type", qn_json_new_string("f16"));
        set_reals(&own, reals, sizeof reals / sizeof reals[0]);
    }
    set(b, "as_run", own.object);
    b->ok = b->ok && own.ok;
}

static void set_plain(builder *b, const qn_quality *q)
{
    const named_real reals[] = {
        {"ppl_ratio", q->plain.ppl_ratio}, {"kld_mean", q->plain.kld_mean}, {"top1_agreement", q->plain.top1_agreement}};
    builder own = {.object = q->has_plain ? qn_json_new_object() : qn_json_new_null(), .ok = true};
    if (q->has_plain) {
        set_reals(&own, reals, sizeof reals / sizeof reals[0]);
    }
    set(b, "plain", own.object);
    b->ok = b->ok && own.ok;
}

qn_json *qn_quality_to_json(const qn_quality *q, const qn_quality_base *base)
{
    if (!q->measured) {
        return qn_json_new_null();
    }
    const named_real reals[] = {{"ppl_source", q->ppl_source},
                                {"ppl", q->ppl},
                                {"ppl_ratio", q->ppl_ratio},
                                {"ppl_ratio_error", q->ppl_ratio_error},
                                {"kld_mean", q->kld_mean},
                                {"kld_p99", q->kld_p99},
                                {"kld_max", q->kld_max},
                                {"top1_agreement", q->top1_agreement},
                                {"syntax_valid_source", q->syntax_valid_source},
                                {"syntax_valid", q->syntax_valid}};
    builder b = {.object = qn_json_new_object(), .ok = true};
    set(&b, "arithmetic", qn_json_new_string("f32_activations"));
    set(&b, "text_sha256", qn_json_new_string(base->text_sha256));
    set(&b, "tokens", qn_json_new_int((int64_t)q->n_tokens));
    set(&b, "n_ctx", qn_json_new_int((int64_t)q->n_ctx));
    set(&b, "chunks", qn_json_new_int((int64_t)q->n_chunks));
    set_reals(&b, reals, sizeof reals / sizeof reals[0]);
    set_as_run(&b, q);
    set_plain(&b, q);
    set(&b, "n_tasks", qn_json_new_int((int64_t)q->n_tasks));
    set(&b, "degenerate_source", qn_json_new_int((int64_t)q->n_degenerate_source));
    set(&b, "degenerate", qn_json_new_int((int64_t)q->n_degenerate));
    if (!b.ok) {
        qn_json_free(b.object);
    }
    return b.ok ? b.object : NULL;
}
