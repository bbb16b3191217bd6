/* measure.c - perplexity and divergence over a text, models side by side with a base.
 *
 * Owns the chunking and the statistics. Scores one row of logits with the kernels' double sums, so figures do not depend on the instruction set
 * or on the number of threads. */
#include "quern/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cpu.h"
#include "base/float_mode.h"
#include "base/thread_pool.h"
#include "engine/engine_int.h"
#include "kernels/ops.h"
#include "kernels/vmath.h"

enum { CTX_DEFAULT = 512, CTX_DEFAULT_MIN = 16, CTX_MIN = 4 };

/* Most bytes of logits held for one engine. */
enum { LOGITS_BYTES_MAX = 64 << 20 };

/* What one scored position gives of one model. */
typedef struct score {
    double nll;
    double kld;
    double delta_p;
    bool same_top;
} score;

typedef struct log_sum {
    float max;
    double sum;   /* of exp(x - max) */
    double value; /* log of the sum of exp(x) */
    size_t top;   /* the greatest logit's index */
} log_sum;

/* One model on its way through the text. */
typedef struct track {
    quern_engine *engine;
    quern_sequence *sequence;
    score *scores; /* (n_chunks, n_ctx - 1 - first) */
    bool broken;   /* its logits were not finite: it runs no further */
    size_t broken_chunk;
} track;

typedef struct job {
    quern_engine *base; /* or NULL */
    quern_sequence *base_sequence;
    double *base_nll;   /* (n_chunks, n_ctx - 1 - first) */
    log_sum *base_sums; /* (rows_cap): of the rows being scored */
    track *tracks;
    size_t n_tracks;
    const qn_ops *ops;
    qn_pool *pool;
    size_t n_ctx, first;         /* first scored position of a chunk */
    size_t n_vocab, rows_cap;    /* rows of logits that fit */
    float *logits, *base_logits; /* (rows_cap, n_vocab) */
    int32_t *ids;                /* one chunk, its first token replaced by BOS where that applies */
    /* the rows being scored */
    const int32_t *targets;
    score *rows_out;      /* of a model, or NULL: of the base */
    double *base_nll_out; /* of the same rows; NULL without a base */
    size_t n_rows;
    _Atomic(int) not_finite;
    qn_float_mode callers_mode; /* in which on_progress runs */
} job;

/* ---- scoring ---- */

static log_sum log_sum_exp(const qn_ops *ops, const float *x, size_t n)
{
    log_sum l = {.top = ops->argmax(x, n)};
    l.max = x[l.top];
    l.sum = ops->exp_sum(NULL, x, n, l.max, 1.0);
    l.value = (double)l.max + qn_log(l.sum);
    return l;
}

static void score_base_rows(void *arg, qn_member m)
{
    job *j = arg;
    size_t begin, end;
    qn_member_span(m, j->n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        const float *y = j->base_logits + r * j->n_vocab;
        j->base_sums[r] = log_sum_exp(j->ops, y, j->n_vocab);
        j->base_nll_out[r] = j->base_sums[r].value - (double)y[j->targets[r]];
        if (!isfinite(j->base_nll_out[r])) {
            atomic_store(&j->not_finite, 1);
        }
    }
}

static void score_rows(void *arg, qn_member m)
{
    job *j = arg;
    size_t begin, end;
    qn_member_span(m, j->n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        const float *x = j->logits + r * j->n_vocab;
        score *s = &j->rows_out[r];
        log_sum own = log_sum_exp(j->ops, x, j->n_vocab);
        s->nll = own.value - (double)x[j->targets[r]];
        if (j->base != NULL) {
            const float *y = j->base_logits + r * j->n_vocab;
            log_sum base = j->base_sums[r];
            /* sum p (log p - log q) = sum p (y - x) + log-sum of q's logits - log-sum of p's */
            s->kld = j->ops->exp_dot(y, x, j->n_vocab, base.max) / base.sum + (own.value - base.value);
            s->kld = s->kld > 0.0 ? s->kld : s->kld < 0.0 ? 0.0 : s->kld; /* rounding may give -1e-16; a NaN stays */
            s->delta_p = qn_exp(-s->nll) - qn_exp(-j->base_nll_out[r]);
            s->same_top = own.top == base.top;
        }
        if (!isfinite(s->nll) || !isfinite(s->kld)) {
            atomic_store(&j->not_finite, 1);
        }
    }
}

/* Runs positions [at, at + n) of the chunk in one engine; logits of all rows, or of none. */
static quern_status run_rows(quern_engine *e, quern_sequence *s, const int32_t *ids, size_t n, float *logits, quern_error *err)
{
    const quern_step_item item = {.sequence = s, .ids = ids, .n_ids = n, .n_logits = logits != NULL ? n : 0, .logits = logits};
    return quern_engine_step(e, &item, 1, err);
}

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static quern_status fail_not_finite(const quern_engine *e, size_t chunk, quern_error *err)
{
    return qn_error_set(err, QUERN_ERROR_INVALID, "%s: logits that are not finite in chunk %zu", e->model->info.path, chunk);
}

/* Positions [at, at + n) of a chunk, in the base and in every model that still runs. */
static quern_status run_batch(job *j, size_t chunk, size_t at, size_t n, bool scored, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t place = chunk * (j->n_ctx - 1 - j->first) + (scored ? at - j->first : 0);
    j->targets = j->ids + at + 1;
    j->n_rows = n;
    if (j->base != NULL) {
        QN_TRY(run_rows(j->base, j->base_sequence, j->ids + at, n, scored ? j->base_logits : NULL, err));
        j->base_nll_out = j->base_nll + place;
        if (scored) {
            qn_pool_run(j->pool, score_base_rows, j);
        }
        if (atomic_load(&j->not_finite) != 0) {
            QN_TRY(fail_not_finite(j->base, chunk, err));
        }
    }
    for (size_t i = 0; i < j->n_tracks; i++) {
        track *t = &j->tracks[i];
        if (t->broken) {
            continue;
        }
        QN_TRY(run_rows(t->engine, t->sequence, j->ids + at, n, scored ? j->logits : NULL, err));
        if (scored) {
            j->rows_out = t->scores + place;
            qn_pool_run(j->pool, score_rows, j);
        }
        if (atomic_exchange(&j->not_finite, 0) != 0) {
            t->broken = true;
            t->broken_chunk = chunk;
        }
    }
done:
    return status;
}

static quern_status run_chunk(job *j, size_t chunk, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t last = j->n_ctx - 1; /* the last token is only predicted, never run */
    size_t batch = last;
    if (j->base != NULL) {
        batch = smaller(batch, j->base->info.n_batch);
        QN_TRY(quern_sequence_truncate(j->base_sequence, 0, err));
    }
    for (size_t i = 0; i < j->n_tracks; i++) {
        batch = smaller(batch, j->tracks[i].engine->info.n_batch);
        QN_TRY(quern_sequence_truncate(j->tracks[i].sequence, 0, err));
    }
    for (size_t at = 0; at < last;) {
        bool scored = at >= j->first;
        size_t n = smaller(scored ? last - at : j->first - at, scored ? smaller(batch, j->rows_cap) : batch);
        QN_TRY(run_batch(j, chunk, at, n, scored, err));
        at += n;
    }
done:
    return status;
}

/* ---- statistics ---- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear interpolation between the two nearest of n sorted values. */
static double percentile(const double *sorted, size_t n, double fraction)
{
    double at = fraction * (double)(n - 1);
    size_t i = (size_t)at;
    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

typedef struct moments {
    double mean, error; /* of the mean: sqrt((E[x^2] - E[x]^2) / (n - 1)) */
} moments;

static moments moments_of(double sum, double square, size_t n)
{
    double mean = sum / (double)n, variance = square / (double)n - mean * mean;
    return (moments){.mean = mean, .error = n > 1 && variance > 0.0 ? sqrt(variance / (double)(n - 1)) : 0.0};
}

/* scores: of a model; NULL: of the base. */
static void fill_perplexity(quern_perplexity *out, const job *j, const score *scores, size_t n_chunks, size_t n_bytes)
{
    size_t n = n_chunks * (j->n_ctx - 1 - j->first);
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        double x = scores != NULL ? scores[i].nll : j->base_nll[i];
        sum += x;
        square += x * x;
    }
    moments m = moments_of(sum, square, n);
    double ppl = qn_exp(m.mean);
    *out = (quern_perplexity){.n_ctx = j->n_ctx,
                              .n_chunks = n_chunks,
                              .n_tokens = n,
                              .ppl = ppl,
                              .ppl_error = ppl * m.error,
                              .nll = m.mean,
                              .bits_per_byte = n_bytes > 0 ? sum / qn_log(2.0) / (double)n_bytes : NAN};
}

static void fill_divergence(quern_divergence *out, const score *scores, const double *base_nll, size_t n, double *sorted)
{
    double kld = 0, kld_square = 0, delta = 0, delta_square = 0, ratio = 0, ratio_square = 0;
    size_t same = 0;
    for (size_t i = 0; i < n; i++) {
        const score *s = &scores[i];
        double r = s->nll - base_nll[i];
        sorted[i] = s->kld;
        kld += s->kld;
        kld_square += s->kld * s->kld;
        delta += s->delta_p;
        delta_square += s->delta_p * s->delta_p;
        ratio += r;
        ratio_square += r * r;
        same += s->same_top ? 1 : 0;
    }
    qsort(sorted, n, sizeof *sorted, compare_doubles);
    moments k = moments_of(kld, kld_square, n), r = moments_of(ratio, ratio_square, n);
    *out = (quern_divergence){.kld_mean = k.mean,
                              .kld_error = k.error,
                              .kld_median = percentile(sorted, n, 0.5),
                              .kld_p90 = percentile(sorted, n, 0.9),
                              .kld_p99 = percentile(sorted, n, 0.99),
                              .kld_p999 = percentile(sorted, n, 0.999),
                              .kld_max = sorted[n - 1],
                              .kld_min = sorted[0],
                              .top1_agreement = (double)same / (double)n,
                              .delta_p_mean = delta / (double)n,
                              .delta_p_rms = sqrt(delta_square / (double)n),
                              .ppl_ratio = qn_exp(r.mean),
                              .ppl_ratio_error = qn_exp(r.mean) * r.error};
}

/* ---- the run ---- */

static quern_status get_ids(const quern_engine *e, const quern_measure_options *opt, quern_ids *own, const int32_t **ids, size_t *n,
                            quern_error *err)
{
    quern_status status = QUERN_OK;
    *ids = opt->ids;
    *n = opt->n_ids;
    if (opt->ids == NULL) {
        const quern_tokenizer *t = e->model->tokenizer;
        if (t == NULL || opt->text == NULL) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "measuring needs a text and a model with a tokenizer, or token ids");
        }
        int flags = (opt->no_special ? 0 : QUERN_ENCODE_PARSE_SPECIAL) | (quern_tokenizer_get_info(t)->add_bos ? QUERN_ENCODE_ADD_BOS : 0);
        QN_TRY(quern_tokenizer_encode(t, opt->text, opt->len, flags, own, err));
        *ids = own->data;
        *n = own->len;
    }
done:
    return status;
}

static quern_status check_engine(const quern_engine *e, const quern_engine *base, size_t n_ctx, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t fits = e->info.n_ctx;
    if (base != NULL) {
        fits = smaller(fits, base->info.n_ctx);
        if (base->model->config.n_vocab != e->model->config.n_vocab) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s has %u tokens, the base %s has %u: their predictions cannot be compared",
                    e->model->info.path, e->model->config.n_vocab, base->model->info.path, base->model->config.n_vocab);
        }
    }
    if (n_ctx < CTX_MIN || n_ctx > fits) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "chunks of %zu tokens; expected %d to the engine's context of %zu", n_ctx, CTX_MIN, fits);
    }
done:
    return status;
}

static quern_status prepare(job *j, size_t n_chunks, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t row_bytes = j->n_vocab * sizeof(float), scored = j->n_ctx - 1 - j->first;
    j->rows_cap = row_bytes < LOGITS_BYTES_MAX ? smaller(LOGITS_BYTES_MAX / row_bytes, scored) : 1;
    j->logits = qn_malloc_aligned(j->rows_cap * row_bytes);
    j->ids = qn_malloc_array(j->n_ctx, sizeof *j->ids);
    bool fits = j->logits != NULL && j->ids != NULL;
    if (j->base != NULL) {
        j->base_logits = qn_malloc_aligned(j->rows_cap * row_bytes);
        j->base_sums = qn_malloc_array(j->rows_cap, sizeof *j->base_sums);
        j->base_nll = qn_calloc(n_chunks * scored, sizeof *j->base_nll);
        fits = fits && j->base_logits != NULL && j->base_sums != NULL && j->base_nll != NULL;
    }
    for (size_t i = 0; i < j->n_tracks; i++) {
        j->tracks[i].scores = qn_calloc(n_chunks * scored, sizeof *j->tracks[i].scores);
        fits = fits && j->tracks[i].scores != NULL;
    }
    if (!fits) {
        QN_FAIL_MEMORY(err, "scores and logits", 2 * j->rows_cap * row_bytes + n_chunks * scored * j->n_tracks * sizeof(score));
    }
    for (size_t i = 0; i < j->n_tracks; i++) {
        QN_TRY(quern_sequence_create(&j->tracks[i].sequence, j->tracks[i].engine, err));
    }
    if (j->base != NULL) {
        QN_TRY(quern_sequence_create(&j->base_sequence, j->base, err));
    }
    QN_TRY(qn_pool_create(&j->pool, j->tracks[0].engine->info.n_threads, err));
done:
    return status;
}

/* Bytes of text that the scored tokens of a chunk stand for. */
static quern_status count_bytes(const job *j, size_t *n_bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *text = NULL;
    size_t len = 0;
    if (j->tracks[0].engine->model->tokenizer != NULL) {
        QN_TRY(quern_tokenizer_decode(j->tracks[0].engine->model->tokenizer, j->ids + j->first + 1, j->n_ctx - 1 - j->first, true, &text,
                                      &len, err));
        *n_bytes += len;
    }
done:
    quern_free(text);
    return status;
}

static bool all_broken(const job *j)
{
    size_t i = 0;
    while (i < j->n_tracks && j->tracks[i].broken) {
        i++;
    }
    return i == j->n_tracks;
}

/* Whether the caller wants more. */
static bool report_progress(job *j, const quern_measure_options *opt, size_t done, size_t total)
{
    qn_float_mode_leave(j->callers_mode);
    bool more = opt->on_progress == NULL || opt->on_progress(opt->user, done, total);
    j->callers_mode = qn_float_mode_enter();
    return more;
}

static quern_status run_chunks(job *j, const int32_t *ids, size_t n_chunks, const quern_measure_options *opt, size_t *n_bytes,
                               quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_tokenizer *t = j->tracks[0].engine->model->tokenizer;
    const quern_tokenizer_info *info = t != NULL ? quern_tokenizer_get_info(t) : NULL;
    for (size_t chunk = 0; chunk < n_chunks && !all_broken(j); chunk++) {
        memcpy(j->ids, ids + chunk * j->n_ctx, j->n_ctx * sizeof *ids);
        if (info != NULL && info->add_bos && info->bos_id >= 0) {
            j->ids[0] = info->bos_id;
        }
        QN_TRY(run_chunk(j, chunk, err));
        QN_TRY(count_bytes(j, n_bytes, err));
        if (!report_progress(j, opt, chunk + 1, n_chunks)) {
            QN_FAIL(err, QUERN_ERROR_CANCELLED, "interrupted after %zu of %zu chunks", chunk + 1, n_chunks);
        }
    }
done:
    return status;
}

static quern_status fill_results(const job *j, quern_measured *models, size_t n_chunks, size_t n_bytes, quern_perplexity *base_out,
                                 quern_error *err)
{
    quern_status status = QUERN_OK;
    double *sorted = NULL;
    size_t n = n_chunks * (j->n_ctx - 1 - j->first);
    if (j->base != NULL && !all_broken(j)) {
        sorted = qn_malloc_array(n, sizeof *sorted);
        if (sorted == NULL) {
            QN_FAIL_MEMORY(err, "percentiles", n * sizeof *sorted);
        }
        fill_perplexity(base_out, j, NULL, n_chunks, n_bytes);
    }
    for (size_t i = 0; i < j->n_tracks; i++) {
        const track *t = &j->tracks[i];
        if (t->broken) {
            models[i].status = fail_not_finite(t->engine, t->broken_chunk, &models[i].error);
            continue;
        }
        models[i].status = QUERN_OK;
        fill_perplexity(&models[i].perplexity, j, t->scores, n_chunks, n_bytes);
        if (j->base != NULL) {
            fill_divergence(&models[i].divergence, t->scores, j->base_nll, n, sorted);
        }
    }
done:
    qn_free(sorted);
    return status;
}

size_t quern_measure_chunk_tokens(size_t n_ctx_train)
{
    size_t n = n_ctx_train != 0 && n_ctx_train < CTX_DEFAULT ? n_ctx_train : CTX_DEFAULT;
    return n < CTX_DEFAULT_MIN ? CTX_DEFAULT_MIN : n;
}

quern_status quern_measure_beside(quern_measured *models, size_t n, quern_engine *base, const quern_measure_options *opt,
                                  quern_perplexity *base_out, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_ids own = {0};
    const int32_t *ids = NULL;
    size_t n_ids = 0, n_bytes = 0, n_ctx = opt->n_ctx;
    qn_isa isa = QN_ISA_SCALAR;
    job j = {.base = base, .callers_mode = qn_float_mode_enter()};
    if (n == 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "no model to measure");
    }
    if (n_ctx == 0) {
        n_ctx = quern_measure_chunk_tokens((base != NULL ? base : models[0].engine)->model->config.n_ctx_train);
    }
    j.n_ctx = n_ctx;
    j.first = n_ctx / 2;
    (void)qn_isa_from_name(models[0].engine->info.isa, &isa);
    j.ops = qn_ops_get(isa);
    j.n_vocab = models[0].engine->model->config.n_vocab;
    j.tracks = qn_calloc(n, sizeof *j.tracks);
    if (j.tracks == NULL) {
        QN_FAIL_MEMORY(err, "the models' scores", n * sizeof *j.tracks);
    }
    for (; j.n_tracks < n; j.n_tracks++) {
        quern_engine *e = models[j.n_tracks].engine;
        QN_TRY(check_engine(e, base != NULL ? base : models[0].engine, n_ctx, err));
        j.tracks[j.n_tracks].engine = e;
    }
    QN_TRY(get_ids(models[0].engine, opt, &own, &ids, &n_ids, err));
    size_t n_chunks = n_ids / n_ctx;
    if (n_chunks < 2) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "the text has %zu tokens; at least %zu are needed for chunks of %zu", n_ids, 2 * n_ctx, n_ctx);
    }
    n_chunks = opt->max_chunks != 0 ? smaller(n_chunks, opt->max_chunks) : n_chunks;
    QN_TRY(prepare(&j, n_chunks, err));
    QN_TRY(run_chunks(&j, ids, n_chunks, opt, &n_bytes, err));
    QN_TRY(fill_results(&j, models, n_chunks, n_bytes, base_out, err));
done:
    qn_float_mode_leave(j.callers_mode);
    for (size_t i = 0; i < j.n_tracks; i++) {
        quern_sequence_destroy(j.tracks[i].sequence);
        qn_free(j.tracks[i].scores);
    }
    qn_free(j.tracks);
    quern_ids_deinit(&own);
    qn_pool_destroy(j.pool);
    quern_sequence_destroy(j.base_sequence);
    qn_free(j.base_nll);
    qn_free(j.base_sums);
    qn_free_aligned(j.logits);
    qn_free_aligned(j.base_logits);
    qn_free(j.ids);
    return status;
}

quern_status quern_measure(quern_engine *engine, quern_engine *base, const quern_measure_options *opt, quern_perplexity *out,
                           quern_perplexity *base_out, quern_divergence *divergence, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_measured m = {.engine = engine};
    QN_TRY(quern_measure_beside(&m, 1, base, opt, base_out, err));
    if (m.status != QUERN_OK) {
        QN_FAIL(err, m.status, "%s", m.error.message);
    }
    *out = m.perplexity;
    if (base != NULL) {
        *divergence = m.divergence;
    }
done:
    return status;
}
