/* quality_run.c - see quality_run.h. */
#include "quantize/quality_run.h"

#include <stdio.h>

#include "base/builtin_text.h"

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
        status = qn_quality_base_open(&r->base, r->source, r->text, r->text_len, r->n_threads, &why);
        if (ends_run(status)) {
            QN_FAIL(err, status, "%s", why.message);
        }
        (void)snprintf(r->why_not, sizeof r->why_not, "%s", status != QUERN_OK ? why.message : "");
        status = QUERN_OK;
    }
    *ready = r->why_not[0] == '\0';
    if (!*ready) {
        QN_TRY(qn_findings_note(&v->findings, err, "quality was not measured: %s", r->why_not));
    }
done:
    return status;
}

/* The whole, or some layers where it does not fit or the user wants that. */
static quern_status run_both(qn_quality_run *r, qn_verified *v, const quern_model *own, quern_progress_callback on_progress, void *user,
                             qn_quality *q, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_quality_memory memory;
    bool fits;
    QN_TRY(qn_quality_fits(&r->base, own, &memory, &fits, err));
    if (!fits) {
        QN_TRY(qn_findings_note(&v->findings, err, "source and output need %.1f GB of memory together, the machine has %.1f GB for them",
                                (double)memory.needs / 1e9, (double)memory.has / 1e9));
    }
    if (!fits || r->sample_layers > 0) {
        QN_TRY(qn_verified_sample(v, &r->base, own, r->sample_layers > 0 ? r->sample_layers : QN_SAMPLE_LAYERS, r->policy, err));
    } else {
        QN_TRY(qn_quality_measure(&r->base, own, on_progress, user, q, err));
    }
done:
    return status;
}

quern_status qn_quality_run_measure(qn_quality_run *r, qn_verified *v, const quern_model *own, quern_status opened, quern_error *why,
                                    quern_progress_callback on_progress, void *user, qn_quality *q, quern_error *err)
{
    quern_status status = opened;
    double bits = 8.0 * (double)v->tensor_bytes / (double)v->job->source.n_parameters;
    if (status == QUERN_OK) {
        status = run_both(r, v, own, on_progress, user, q, why);
    }
    if (ends_run(status)) {
        QN_FAIL(err, status, "%s", why->message);
    }
    if (status == QUERN_OK && q->measured) {
        QN_TRY(qn_quality_judge(q, r->policy, bits, &v->findings, err));
        QN_TRY(v->findings.lossy ? qn_verified_find_suspects(v, &r->base, own, err) : QUERN_OK);
    } else if (status != QUERN_OK && r->base.broken) {
        (void)snprintf(r->why_not, sizeof r->why_not, "the source does not run: %s", why->message);
        status = qn_findings_note(&v->findings, err, "quality was not measured: %s", r->why_not);
    } else if (qn_status_is_of_content(status)) {
        status = qn_findings_fail(&v->findings, NULL, err, "it does not run: %s", why->message);
    } else if (status != QUERN_OK) {
        status = qn_findings_note(&v->findings, err, "quality was not measured: %s", why->message);
    }
done:
    return status;
}
