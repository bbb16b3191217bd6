/* calibration.c - see calibration.h. */
#include "quantize/calibration.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

void qn_calibration_deinit(qn_calibration *c)
{
    if (c->has_statistics) {
        qn_statistics_deinit(&c->statistics);
    }
    qn_arena_deinit(&c->arena);
    memset(c, 0, sizeof *c);
}

static quern_status list_without_data(qn_calibration *c, qn_name_list *list, const char *name, bool shared, size_t part, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (list->n == list->cap) {
        size_t cap = list->cap != 0 ? 2 * list->cap : 64;
        const char **names = qn_arena_alloc_array(&c->arena, cap, sizeof *names);
        if (names == NULL) {
            QN_FAIL_MEMORY(err, "the list of matrices without data", cap * sizeof *names);
        }
        if (list->n > 0) {
            memcpy(names, list->names, list->n * sizeof *names);
        }
        list->names = names;
        list->cap = cap;
    }
    char text[QN_TENSOR_NAME_MAX + 32];
    (void)snprintf(text, sizeof text, "%s", name);
    if (shared) {
        (void)snprintf(text, sizeof text, "%s[%zu]", name, part);
    }
    char *copy = qn_arena_strndup(&c->arena, text, strlen(text));
    if (copy == NULL) {
        QN_FAIL_MEMORY(err, "the list of matrices without data", strlen(name) + 1);
    }
    list->names[list->n++] = copy;
done:
    return status;
}

quern_status qn_calibration_add(qn_calibration *c, size_t piece, const qn_piece *p, const double *sums, const double *counts,
                                quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_cols = (size_t)p->n_cols, n, n_with = 0;
    if (!qn_size_mul(n_cols, p->n_parts, &n)) {
        QN_FAIL_MEMORY(err, "importance", SIZE_MAX);
    }
    float *importance = qn_arena_alloc_array(&c->arena, n, sizeof *importance);
    double *mean = qn_arena_alloc_array(&c->arena, n_cols, sizeof *mean); /* zeroed */
    if (importance == NULL || mean == NULL) {
        QN_FAIL_MEMORY(err, "importance", n * sizeof *importance);
    }
    for (size_t part = 0; part < p->n_parts; part++) {
        n_with += counts[part] > 0;
        for (size_t i = 0; i < n_cols && counts[part] > 0; i++) {
            double sum = sums[part * n_cols + i];
            if (!(sum <= FLT_MAX && sum / counts[part] <= FLT_MAX)) { /* counts below 1 are in no honest file, but may be in a file */
                QN_FAIL(err, QUERN_ERROR_INVALID,
                        "importance of tensor %s: column %zu has the sum %g over %g rows, more than float32 holds", p->parts[part]->name, i,
                        sum, counts[part]);
            }
            double v = (double)(float)sum / counts[part]; /* as an imatrix file holds it: both ways, one result */
            importance[part * n_cols + i] = (float)v;
            mean[i] += v;
        }
    }
    for (size_t part = 0; part < p->n_parts; part++) {
        if (counts[part] > 0) {
            continue;
        }
        for (size_t i = 0; i < n_cols; i++) {
            importance[part * n_cols + i] = n_with > 0 ? (float)(mean[i] / (double)n_with) : 1.0f;
        }
        bool shared = p->n_parts > 1 && strcmp(p->parts[0]->name, p->parts[1]->name) == 0; /* one tensor that stacks all experts */
        qn_name_list *list = p->n_parts > 1 ? &c->experts_without_data : &c->matrices_without_data;
        QN_TRY(list_without_data(c, list, p->parts[part]->name, shared, part, err));
    }
    c->pieces[piece].importance = importance;
done:
    return status;
}
