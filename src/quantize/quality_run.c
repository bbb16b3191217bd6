/* quality_run.c - see quality_run.h. */
#include "quantize/quality_run.h"

#include <stdio.h>

#include "base/builtin_text.h"
#include "quantize/source_finite.h"

bool qn_status_is_of_content(quern_status status)
{
    return status == QUERN_ERROR_INVALID || status == QUERN_ERROR_UNSUPPORTED || status == QUERN_ERROR_NOT_FOUND;
}

/* These end a run; everything else is said of the output. */
static bool ends_run(quern_status status)
{
    return status == QUERN_ERROR_MEMORY || status == QUERN_ERROR_IO || status == QUERN_ERROR_CANCELLED;
}

void qn_quality_run_init(qn_quality_run *r)
{
    if (r->text == NULL) {
        r->text = qn_builtin_text_gate(&r->text_len);
    }
}

void qn_quality_run_deinit(qn_quality_run *r) { qn_quality_base_close(&r->base); }

quern_status qn_quality_run_begin(qn_quality_run *r, qn_verified *v, bool *ready, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    *ready = false;
    if (!r->opened) {
        r->opened = true;
        status = qn_quality_base_open(&r->base, r->source, r->architecture, r->text, r->text_len, r->n_threads, &why);
        if (ends_run(status)) {
            QN_FAIL(err, status, "%s", why.message);
        }
        (void)snprintf(r->why_not, sizeof r->why_not, "%s", status != QUERN_OK ? why.message : "");
        r->base.memory_bytes = r->memory_bytes;
        status = QUERN_OK;
    }
    *ready = r->why_not[0] == '\0';
    if (!*ready) {
        QN_TRY(qn_findings_unmeasured(&v->findings, err, "quality was not measured: %s", r->why_not));
    }
done:
    return status;
}

static quern_status find_memory(const qn_quality_run *r, const qn_quality_item *items, size_t n, qn_quality_memory *memory,
                                quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_subjects = 0;
    qn_quality_subject *subjects = qn_calloc(n, sizeof *subjects);
    if (subjects == NULL) {
        QN_FAIL_MEMORY(err, "the outputs", n * sizeof *subjects);
    }
    for (size_t i = 0; i < n; i++) {
        if (items[i].own != NULL) {
            subjects[n_subjects++].own = items[i].own;
        }
    }
    QN_TRY(qn_quality_memory_of(&r->base, subjects, n_subjects, memory, err));
done:
    qn_free(subjects);
    return status;
}

quern_status qn_quality_run_fits(const qn_quality_run *r, const qn_quality_item *items, size_t n, bool *fits, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_quality_memory memory;
    QN_TRY(find_memory(r, items, n, &memory, err));
    *fits = memory.needs <= memory.has && (r->memory_bytes == 0 || memory.working <= r->memory_bytes);
done:
    return status;
}

/* Some layers instead of the whole, where it does not fit or the user wants that. */
static quern_status sample_if_needed(qn_quality_run *r, qn_quality_item *item, bool *sampled, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_quality_memory memory;
    *sampled = r->sample_layers > 0;
    if (!*sampled) {
        QN_TRY(find_memory(r, item, 1, &memory, err));
        bool bounded = r->memory_bytes != 0 && memory.working > r->memory_bytes;
        *sampled = bounded || memory.needs > memory.has;
        QN_TRY(!*sampled ? QUERN_OK
                         : qn_findings_note(
                               &item->v->findings, err, "source and output need %.2f GB of memory together%s, %s %.2f GB for them",
                               (double)(bounded ? memory.working : memory.needs) / 1e9, bounded ? " beside their weights" : "",
                               bounded ? "--memory allows" : "the machine has", (double)(bounded ? r->memory_bytes : memory.has) / 1e9));
    }
    if (*sampled) {
        QN_TRY(
            qn_verified_sample(item->v, &r->base, item->own, r->sample_layers > 0 ? r->sample_layers : QN_SAMPLE_LAYERS, r->policy, err));
    }
done:
    return status;
}

/* What is lossy is held against its plain encoding too, and its suspects are looked for. */
static quern_status judge(qn_quality_run *r, qn_quality_item *item, quern_progress_callback on_progress, void *user, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_findings *f = &item->v->findings;
    QN_TRY(qn_quality_judge(&item->figures, r->policy, qn_verified_bits(item->v), f, err));
    if (f->lossy) {
        QN_TRY(qn_quality_measure_plain(&r->base, item->own, on_progress, user, &item->figures, err));
        QN_TRY(qn_quality_judge_plain(&item->figures, f, err));
        QN_TRY(qn_verified_find_suspects(item->v, &r->base, item->own, err));
    }
done:
    return status;
}

/* What the run of one output came to, said of it; or of the source, which then does not run for the others either. */
static quern_status say(qn_quality_run *r, qn_quality_item *item, quern_status result, const quern_error *why, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_findings *f = &item->v->findings;
    if (ends_run(result)) {
        QN_FAIL(err, result, "%s", why->message);
    }
    if (result != QUERN_OK && r->base.broken) {
        if (r->why_not[0] == '\0') {
            quern_error explained = *why;
            if (result == QUERN_ERROR_INVALID) {
                status = qn_source_explain_overflow(&item->v->job->source, &explained);
            }
            if (status != QUERN_OK) {
                QN_FAIL(err, status, "%s", explained.message);
            }
            (void)snprintf(r->why_not, sizeof r->why_not, "the source does not run: %s", explained.message);
        }
        QN_TRY(qn_findings_unmeasured(f, err, "quality was not measured: %s", r->why_not));
    } else if (qn_status_is_of_content(result)) {
        QN_TRY(qn_findings_fail(f, NULL, err, "it does not run: %s", why->message));
    } else if (result != QUERN_OK) {
        QN_TRY(qn_findings_unmeasured(f, err, "quality was not measured: %s", why->message));
    }
done:
    return status;
}

typedef struct group {
    qn_quality_subject *subjects;
    qn_quality_item **items; /* of each subject */
    size_t n;
} group;

static quern_status measure_group(qn_quality_run *r, group *g, quern_progress_callback on_progress, void *user, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    quern_status whole = qn_quality_measure(&r->base, g->subjects, g->n, on_progress, user, &why);
    for (size_t i = 0; i < g->n; i++) {
        qn_quality_subject *s = &g->subjects[i];
        qn_quality_item *item = g->items[i];
        QN_TRY(say(r, item, whole != QUERN_OK ? whole : s->status, whole != QUERN_OK ? &why : &s->why, err));
        item->figures = s->figures;
        if (item->figures.measured) {
            status = judge(r, item, on_progress, user, &why);
            QN_TRY(say(r, item, status, &why, err));
        }
    }
done:
    return status;
}

quern_status qn_quality_run_measure(qn_quality_run *r, qn_quality_item *items, size_t n, quern_progress_callback on_progress, void *user,
                                    quern_error *err)
{
    quern_status status = QUERN_OK;
    group g = {.subjects = qn_calloc(n, sizeof *g.subjects), .items = qn_calloc(n, sizeof(qn_quality_item *))};
    if (g.subjects == NULL || g.items == NULL) {
        QN_FAIL_MEMORY(err, "the outputs", n * sizeof *g.subjects);
    }
    for (size_t i = 0; i < n; i++) {
        qn_quality_item *item = &items[i];
        quern_error why = item->why;
        bool sampled = false;
        status = item->opened;
        if (status == QUERN_OK && (n == 1 || r->sample_layers > 0)) {
            status = sample_if_needed(r, item, &sampled, &why);
        }
        if (status == QUERN_OK && !sampled) {
            g.items[g.n] = item;
            g.subjects[g.n++].own = item->own;
        }
        QN_TRY(say(r, item, status, &why, err));
    }
    if (g.n > 0) {
        QN_TRY(measure_group(r, &g, on_progress, user, err));
    }
done:
    qn_free(g.subjects);
    qn_free(g.items);
    return status;
}
