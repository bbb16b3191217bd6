/* calibrate_source.c - see calibrate_source.h. */
#include "quantize/calibrate_source.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/builtin_text.h"
#include "base/human_number.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "calibrate/imatrix.h"
#include "quant/feedback.h"
#include "quantize/pipeline.h"
#include "quantize/source_finite.h"

/* Up to this many parameters a source is calibrated without being asked. */
static const uint64_t auto_parameters_max = 1000000000u;

/* Chunks of the built-in text that are run: enough for the widest sites of such models (docs/formats.md). */
enum { BUILTIN_CHUNKS = 64, TOKENS_A_CHUNK = 512 };

/* Added to the diagonal of second moments, in units of its mean: what is fed back into a block costs plain error, which is bounded, and more damping
 * spends it better than feeding back a part (docs/formats.md). A tied embedding is also looked up, where every column counts alike. */
static const float damping = 0.3f, damping_of_lookup = 1.0f;

static bool is_fed_back(const qn_sink *sink) { return sink->coding != QN_CODING_BLOCKS || qn_feedback_supports(sink->dtype); }

/* Whether an output's encoder asks what matters, and whether it can feed errors back. */
static void find_wishes(const qn_job *job, bool *importance, bool *feedback)
{
    *importance = *feedback = false;
    for (size_t o = 0; o < job->n_outputs; o++) {
        for (size_t i = 0; i < job->source.n_pieces; i++) {
            const qn_sink *sink = &job->outputs[o].sinks[i];
            *feedback = *feedback || is_fed_back(sink);
            *importance = *importance || sink->coding != QN_CODING_BLOCKS ||
                          (sink->dtype != QN_DTYPE_F32 && sink->dtype != QN_DTYPE_F16 && sink->dtype != QN_DTYPE_BF16);
        }
    }
}

/* Where a piece's matrices read their input; QN_SITE_COUNT + 1 for pieces that multiply nothing. */
static unsigned site_of(const qn_job *job, const qn_recipe_tensor *t)
{
    if (t->n_dims < 2) {
        return QN_SITE_COUNT + 1;
    }
    switch (t->part) {
    case QN_PART_ATTN_Q:
    case QN_PART_ATTN_K:
    case QN_PART_ATTN_V: return QN_SITE_ATTN_IN;
    case QN_PART_ATTN_OUTPUT: return QN_SITE_ATTN_OUT;
    case QN_PART_FFN_GATE:
    case QN_PART_FFN_UP:
    case QN_PART_ROUTER: return QN_SITE_FFN_IN;
    case QN_PART_FFN_DOWN: return QN_SITE_FFN_OUT;
    case QN_PART_GATE_EXPS:
    case QN_PART_UP_EXPS: return QN_SITE_EXPERT_IN;
    case QN_PART_DOWN_EXPS: return QN_SITE_EXPERT_MID;
    case QN_PART_OUTPUT: return QN_SITE_HEAD;
    case QN_PART_TOKEN_EMBD: return job->source.config.tied_embeddings ? QN_SITE_HEAD : QN_SITE_COUNT + 1;
    default: return QN_SITE_COUNT + 1;
    }
}

/* ---- factors: each thread takes sites ---- */

typedef struct factoring {
    const qn_job *job;
    qn_statistics *statistics;
    atomic_size_t next;
} factoring;

static void factor_sites(void *arg, qn_member member)
{
    factoring *f = arg;
    (void)member;
    size_t n = (size_t)f->statistics->n_layers * QN_SITE_COUNT + 1;
    for (size_t i = atomic_fetch_add(&f->next, 1); i < n; i = atomic_fetch_add(&f->next, 1)) {
        qn_site_stats *s = &f->statistics->sites[n - 1 - i];
        bool lookup = i == 0 && f->job->source.config.tied_embeddings;
        if (s->moments != NULL && !qn_feedback_factor(s->moments, s->n_cols, lookup ? damping_of_lookup : damping)) {
            qn_free_aligned(s->moments);
            s->moments = NULL;
        }
    }
}

static quern_status make_factors(const qn_job *job, qn_statistics *statistics, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_pool *pool = NULL;
    factoring f = {.job = job, .statistics = statistics};
    QN_TRY(qn_pool_create(&pool, job->n_threads, err));
    qn_pool_run(pool, factor_sites, &f);
done:
    qn_pool_destroy(pool);
    return status;
}

/* ---- from a text ---- */

static quern_status take_statistics(qn_job *job, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_calibration *c = &job->calibration;
    double *counts = NULL;
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        const qn_piece *p = &job->source.pieces[i];
        unsigned site = site_of(job, &p->what);
        if (site > QN_SITE_COUNT) {
            continue;
        }
        const qn_site_stats *s = qn_statistics_get(&c->statistics, p->what.layer, (qn_site)site);
        counts = qn_malloc_array(p->n_parts, sizeof *counts);
        if (counts == NULL) {
            QN_FAIL_MEMORY(err, "importance", p->n_parts * sizeof *counts);
        }
        for (size_t k = 0; k < p->n_parts; k++) {
            counts[k] = (double)s->n_rows[k];
        }
        QN_TRY(qn_calibration_add(c, i, p, s->square_sums, counts, err));
        c->pieces[i].factor = p->n_parts == 1 ? s->moments : NULL;
        qn_free(counts);
        counts = NULL;
    }
done:
    qn_free(counts);
    return status;
}

static uint64_t moments_bytes(const qn_statistics *s)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i <= (size_t)s->n_layers * QN_SITE_COUNT; i++) {
        bytes += s->sites[i].moments != NULL ? (uint64_t)s->sites[i].n_cols * s->sites[i].n_cols * sizeof(float) : 0;
    }
    return bytes;
}

/* Kinds of input whose second moments were wanted, and how many of them have none: what did not fit, and what had no factor. */
static size_t count_kinds(const qn_statistics *s, size_t *without)
{
    size_t n = 0;
    *without = 0;
    for (size_t i = 0; i <= (size_t)s->n_layers * QN_SITE_COUNT; i++) {
        const qn_site_stats *site = &s->sites[i];
        if (site->n_cols > 0 && site->n_parts == 1) {
            n++;
            *without += site->moments == NULL;
        }
    }
    return n;
}

static bool some_error_is_fed_back(const qn_job *job)
{
    for (size_t o = 0; o < job->n_outputs; o++) {
        for (size_t i = 0; i < job->source.n_pieces; i++) {
            if (is_fed_back(&job->outputs[o].sinks[i]) && job->calibration.pieces[i].factor != NULL) {
                return true;
            }
        }
    }
    return false;
}

/* After take_statistics. */
static void note_feedback(qn_job *job)
{
    qn_calibration *c = &job->calibration;
    qn_number limit;
    size_t without, n = count_kinds(&c->statistics, &without), unfit = c->statistics.n_without_moments;
    c->feeds_back = some_error_is_fed_back(job);
    char others[80] = "";
    if (without > unfit) {
        (void)snprintf(others, sizeof others, "%sthe second moments of %zu have no factor", unfit > 0 ? "; " : "", without - unfit);
    }
    if (unfit > 0) {
        (void)snprintf(
            c->note, sizeof c->note,
            "errors are not fed back in %zu of the model's %zu kinds of input: the second moments of %zu do not fit the half of --memory %s "
            "that is for them%s",
            without, n, unfit, qn_format_bytes(limit, job->memory_bytes), others);
    } else if (without > 0) {
        (void)snprintf(c->note, sizeof c->note, "errors are not fed back in %zu of the model's %zu kinds of input: %s", without, n, others);
    }
}

static bool on_tokens(void *user, size_t done, size_t total)
{
    quern_quantize_progress p = {.stage = QUERN_QUANTIZE_CALIBRATE, .tensor = "", .tokens_done = done, .tokens_total = total};
    return qn_report_progress(user, &p, done == total, NULL) == QUERN_OK;
}

static quern_status from_text(qn_job *job, const char *text, size_t len, const char *name, size_t max_chunks, bool feedback,
                              qn_report *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_calibration *c = &job->calibration;
    quern_model *model = NULL;
    qn_memory_plan plan;
    quern_error why = {0};
    qn_statistics_options options = {.text_name = name,
                                     .n_threads = job->n_threads,
                                     .max_chunks = max_chunks,
                                     .memory_bytes = job->memory_bytes,
                                     .on_progress = on_tokens,
                                     .user = report};
    QN_TRY(qn_memory_plan_make(job, &plan, err));
    options.moments_bytes = feedback ? (job->memory_bytes - plan.least_bytes) / 2 : 0; /* the rest is for the pass */
    QN_TRY(qn_sha256_bytes(text, len, c->text_sha256, err));
    QN_TRY(quern_model_open(&model, job->source.path, &(quern_model_options){.architecture = job->source.as}, err));
    status = qn_statistics_collect(&c->statistics, model, text, len, &options, &why);
    if (status != QUERN_OK && c->statistics.overflowed) {
        quern_status found = qn_source_explain_overflow(&job->source, &why);
        status = found != QUERN_OK ? found : status;
    }
    if (status != QUERN_OK) {
        QN_FAIL(err, status, "%s", why.message);
    }
    c->has_statistics = true;
    c->tokens = c->statistics.n_tokens;
    QN_TRY(make_factors(job, &c->statistics, err));
    QN_TRY(take_statistics(job, err));
    c->bytes = moments_bytes(&c->statistics) + c->statistics.arena.used_bytes + c->arena.used_bytes;
    if (feedback) {
        note_feedback(job);
    }
done:
    quern_model_close(model);
    return status;
}

/* ---- from and to an imatrix file ---- */

/* The entry for a piece: by its name in GGUF; a tied embedding may stand as what it is when it multiplies. */
static const qn_imatrix_entry *find_entry(const qn_job *job, const qn_imatrix *m, const qn_recipe_tensor *t)
{
    char name[96];
    qn_part_gguf_name(t->part, t->layer, t->bias, name, sizeof name);
    const qn_imatrix_entry *e = qn_imatrix_find(m, name);
    if (e == NULL && t->part == QN_PART_TOKEN_EMBD && job->source.config.tied_embeddings) {
        e = qn_imatrix_find(m, "output.weight");
    }
    return e;
}

/* An entry of the older form has one count for all; an expert whose values are all zero had no data. */
static bool has_data(const float *sums, size_t n, float count)
{
    bool any = false;
    for (size_t i = 0; i < n && !any; i++) {
        any = sums[i] > 0;
    }
    return any && count > 0;
}

static quern_status take_entry(qn_job *job, size_t piece, const qn_imatrix_entry *e, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_piece *p = &job->source.pieces[piece];
    size_t n_cols = (size_t)p->n_cols;
    double *sums = NULL, *counts = NULL;
    if (e->n_values / p->n_parts != n_cols || e->n_values % p->n_parts != 0 || (e->n_counts != 1 && e->n_counts != p->n_parts)) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: entry %s has %zu values and %zu counts; %s has %" PRIu64 " columns in %zu matri%s: made for another model", path,
                e->name, e->n_values, e->n_counts, job->source.name, p->n_cols, p->n_parts, p->n_parts == 1 ? "x" : "ces");
    }
    sums = qn_malloc_array(e->n_values, sizeof *sums);
    counts = qn_malloc_array(p->n_parts, sizeof *counts);
    if (sums == NULL || counts == NULL) {
        QN_FAIL_MEMORY(err, path, e->n_values * sizeof *sums);
    }
    for (size_t i = 0; i < e->n_values; i++) {
        sums[i] = (double)e->sums[i];
    }
    for (size_t k = 0; k < p->n_parts; k++) {
        float count = e->counts[e->n_counts == 1 ? 0 : k];
        counts[k] = has_data(e->sums + k * n_cols, n_cols, count) ? (double)count : 0;
    }
    QN_TRY(qn_calibration_add(&job->calibration, piece, p, sums, counts, err));
done:
    qn_free(sums);
    qn_free(counts);
    return status;
}

static quern_status from_imatrix(qn_job *job, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_calibration *c = &job->calibration;
    qn_imatrix m = {0};
    size_t n_found = 0, n_wanted = 0;
    bool any = false;
    if (path == NULL) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "the path of an imatrix file is needed");
    }
    QN_TRY(qn_imatrix_read(&m, path, err));
    QN_TRY(qn_sha256_file(path, c->text_sha256, err));
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        const qn_recipe_tensor *t = &job->source.pieces[i].what;
        const qn_imatrix_entry *e = t->n_dims > 1 ? find_entry(job, &m, t) : NULL;
        bool wanted = site_of(job, t) <= QN_SITE_COUNT && t->part != QN_PART_ROUTER; /* files leave routers out: write_imatrix */
        n_wanted += wanted;
        if (e != NULL) {
            QN_TRY(take_entry(job, i, e, path, err));
            n_found += wanted;
            any = true;
        }
    }
    if (!any) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: none of its %zu entries is a matrix of %s (the first is %s)", path, m.n_entries,
                job->source.name, m.entries[0].name);
    }
    c->tokens = (uint64_t)m.n_chunks * m.chunk_tokens;
    c->bytes = c->arena.used_bytes;
    if (n_found < n_wanted) {
        (void)snprintf(c->note, sizeof c->note, "the imatrix has nothing for %zu of %zu matrices; they are encoded without importance",
                       n_wanted - n_found, n_wanted);
    }
done:
    qn_imatrix_deinit(&m);
    return status;
}

/* One entry a piece that a site feeds. */
static quern_status write_imatrix(const qn_job *job, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_statistics *s = &job->calibration.statistics;
    qn_imatrix m = {.n_chunks = (uint32_t)s->n_chunks, .chunk_tokens = (uint32_t)s->chunk_tokens};
    qn_arena_init(&m.arena, 0);
    m.entries = qn_arena_alloc_array(&m.arena, job->source.n_pieces, sizeof *m.entries);
    if (m.entries == NULL) {
        QN_FAIL_MEMORY(err, path, job->source.n_pieces * sizeof *m.entries);
    }
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        const qn_piece *p = &job->source.pieces[i];
        unsigned number = site_of(job, &p->what);
        char name[96];
        if (number > QN_SITE_COUNT || p->what.part == QN_PART_ROUTER) {
            continue;
        }
        const qn_site_stats *site = qn_statistics_get(s, p->what.layer, (qn_site)number);
        size_t n = site->n_cols * site->n_parts;
        float *sums = qn_arena_alloc_array(&m.arena, n, sizeof *sums),
              *counts = qn_arena_alloc_array(&m.arena, site->n_parts, sizeof *counts);
        qn_part_gguf_name(p->what.part, p->what.layer, false, name, sizeof name);
        char *copy = qn_arena_strndup(&m.arena, name, strlen(name));
        if (sums == NULL || counts == NULL || copy == NULL) {
            QN_FAIL_MEMORY(err, path, n * sizeof *sums);
        }
        for (size_t k = 0; k < n; k++) {
            sums[k] = (float)site->square_sums[k];
        }
        for (size_t k = 0; k < site->n_parts; k++) {
            counts[k] = (float)site->n_rows[k];
        }
        m.entries[m.n_entries++] = (qn_imatrix_entry){
            .name = copy, .n_values = n, .n_counts = site->n_parts, .sums = sums, .counts = counts};
    }
    QN_TRY(qn_imatrix_write(&m, path, job->calibration.origin, err));
done:
    qn_imatrix_deinit(&m);
    return status;
}

/* ---- what was asked for ---- */

static void note_too_large(qn_calibration *c, const qn_job *job)
{
    const double macs_a_second = 1.5e10; /* of one thread, float weights, about */
    double seconds = (double)job->source.n_parameters * BUILTIN_CHUNKS * TOKENS_A_CHUNK / macs_a_second / (double)job->n_threads;
    qn_number n;
    (void)snprintf(
        c->note, sizeof c->note,
        "not calibrated: %s parameters are more than %s; --calibrate builtin makes most types better and takes roughly %.0f minutes",
        qn_format_count(n, job->source.n_parameters), "1.0 B", seconds / 60 < 1 ? 1.0 : seconds / 60);
}

static quern_status calibrate(qn_job *job, const quern_quantize_options *opt, bool feedback, qn_report *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_calibration *c = &job->calibration;
    size_t len;
    const char *builtin = qn_builtin_text_calibration(&len);
    switch (opt->calibrate) {
    case QUERN_CALIBRATE_NONE: break;
    case QUERN_CALIBRATE_AUTO:
    case QUERN_CALIBRATE_BUILTIN:
        c->origin = "builtin";
        QN_TRY(from_text(job, builtin, len, NULL, BUILTIN_CHUNKS, feedback, report, err));
        break;
    case QUERN_CALIBRATE_TEXT:
        c->origin = "text";
        QN_TRY(from_text(job, opt->calibration_text, opt->calibration_len, opt->calibration_name, 0, feedback, report, err));
        break;
    case QUERN_CALIBRATE_IMATRIX:
        c->origin = "imatrix";
        QN_TRY(from_imatrix(job, opt->imatrix_path, err));
        break;
    }
    if (opt->imatrix_out != NULL) {
        QN_TRY(write_imatrix(job, opt->imatrix_out, err));
    }
done:
    return status;
}

static quern_status check_options(const quern_quantize_options *opt, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (opt->imatrix_out != NULL && (opt->calibrate == QUERN_CALIBRATE_NONE || opt->calibrate == QUERN_CALIBRATE_IMATRIX)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "an imatrix can only be written by a run that calibrates on a text");
    }
    if (opt->calibrate == QUERN_CALIBRATE_TEXT && opt->calibration_text == NULL) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "a calibration text is needed");
    }
done:
    return status;
}

quern_status qn_calibrate_source(qn_job *job, const quern_quantize_options *opt, qn_report *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_calibration *c = &job->calibration;
    bool importance, feedback, optional = opt->calibrate == QUERN_CALIBRATE_AUTO && opt->imatrix_out == NULL;
    QN_TRY(check_options(opt, err));
    find_wishes(job, &importance, &feedback);
    if (opt->calibrate == QUERN_CALIBRATE_NONE || (!importance && opt->imatrix_out == NULL)) {
        return QUERN_OK;
    }
    if (optional && job->source.n_parameters > auto_parameters_max) {
        note_too_large(c, job);
        return QUERN_OK;
    }
    qn_arena_init(&c->arena, 0);
    c->pieces = qn_arena_alloc_array(&c->arena, job->source.n_pieces, sizeof *c->pieces);
    if (c->pieces == NULL) {
        QN_FAIL_MEMORY(err, "calibration", job->source.n_pieces * sizeof *c->pieces);
    }
    status = calibrate(job, opt, feedback, report, err);
    if (status != QUERN_OK && optional && status != QUERN_ERROR_CANCELLED && status != QUERN_ERROR_MEMORY) {
        qn_calibration_deinit(c);
        (void)snprintf(c->note, sizeof c->note, "not calibrated: %s", err != NULL ? err->message : quern_status_name(status));
        status = QUERN_OK;
    }
done:
    return status;
}
