/* fallback_check.c - see fallback_check.h. */
#include "quantize/fallback_check.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"

static const double share_told = 0.1; /* of all elements */

enum { PAIRS_MAX = 16 };

/* Tensors that should be of one type and are of another. */
typedef struct pair {
    const char *from, *to;
    size_t n;
} pair;

typedef struct fallbacks {
    pair pairs[PAIRS_MAX];
    size_t n_pairs, n_tensors, n_matrices;
    double elements, all;
} fallbacks;

static const char *type_of(const qn_dtype t) { return qn_dtype_get(t)->name; }

/* The type that a sink's tensor was to have, or NULL where it has it. "" is what an MLX folder's type asks for: the caller knows it. */
static const char *asked_for(const qn_output *o, const qn_piece *p, const qn_sink *s)
{
    if (o->target.gguf != NULL) {
        return s->asked != s->dtype ? type_of(s->asked) : NULL;
    }
    bool in_groups = o->target.mlx->mode != QN_MLX_PLAIN && o->target.group != 0 && p->what.n_dims > 1;
    return in_groups && s->coding == QN_CODING_BLOCKS && p->n_cols % o->target.group != 0 ? "" : NULL;
}

static void add(fallbacks *f, const char *from, const char *to)
{
    size_t i = 0;
    while (i < f->n_pairs && (strcmp(f->pairs[i].from, from) != 0 || strcmp(f->pairs[i].to, to) != 0)) {
        i++;
    }
    if (i < PAIRS_MAX) { /* there are not so many types to fall from */
        f->n_pairs += i == f->n_pairs;
        f->pairs[i].from = from;
        f->pairs[i].to = to;
        f->pairs[i].n++;
    }
}

static void find(const qn_job *job, const qn_output *o, fallbacks *f)
{
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        const qn_piece *p = &job->source.pieces[i];
        double n = (double)p->n_rows * (double)p->n_parts * (double)p->n_cols;
        const char *from = asked_for(o, p, &o->sinks[i]);
        f->all += n;
        f->n_matrices += p->what.n_dims > 1;
        if (from != NULL) {
            f->elements += n;
            f->n_tensors++;
            add(f, from, type_of(o->sinks[i].dtype));
        }
    }
}

quern_status qn_fallbacks_warn(qn_job *job, qn_output *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    fallbacks f = {0};
    qn_buf list;
    qn_buf_init(&list, 1u << 12);
    find(job, o, &f);
    if (f.elements <= share_told * f.all) {
        goto done;
    }
    for (size_t i = 0; i < f.n_pairs; i++) {
        const pair *p = &f.pairs[i];
        bool said = p->from[0] != '\0';
        (void)qn_buf_printf(&list, "%s%s%s%s in %zu", i > 0 ? ", " : "", p->to, said ? " instead of " : "", p->from, p->n);
    }
    QN_TRY(qn_job_warn(
        job, o, err,
        "%.0f %% of the weights are not of the type asked for, since their rows are no whole number of its %s: %zu of %zu matrices (%s)",
        100 * f.elements / f.all, o->target.gguf != NULL ? "blocks" : "groups", f.n_tensors, f.n_matrices, qn_buf_text(&list)));
done:
    qn_buf_deinit(&list);
    return status;
}
