/* speculate.c - see speculate.h.
 *
 * Expected tokens of a step with k guesses, each right with probability p given that those before it were: 1 + p + ... + p^k (Leviathan et al.,
 * arXiv 2211.17192). p is learnt by length of the match, the cost of a step by its number of rows; both are forgotten slowly, so that a text
 * that changes its nature is tried again.
 */
#include "engine/speculate.h"

#include <string.h>

#include "base/alloc.h"

enum { CANDIDATES_MAX = 16, MATCH_MAX = 32, HEADS_MIN = 1 << 8 };

/* A step of one more row is taken to cost this much more until it was measured. */
static const double unknown_row = 0.1;
static const double forget_cost = 0.2, forget_result = 0.98;
/* A gain below this is not worth the risk. */
static const double gain_min = 1.02;

/* Least match length of a class, and what is believed of it at first: p, as firmly as this many guesses. */
static const size_t class_from[QN_MATCH_CLASSES] = {3, 5, 8, 16};
static const double class_prior[QN_MATCH_CLASSES] = {0.5, 0.6, 0.75, 0.85}, prior_weight = 4;

quern_status qn_speculation_init(qn_speculation *s, qn_speculation_record *record, size_t n_ctx, quern_error *err)
{
    quern_status status = QUERN_OK;
    *s = (qn_speculation){.record = record, .cap = n_ctx, .n_heads = HEADS_MIN};
    while (s->n_heads < n_ctx) {
        s->n_heads *= 2;
    }
    s->tokens = qn_malloc_array(n_ctx, sizeof *s->tokens);
    s->previous = qn_malloc_array(n_ctx, sizeof *s->previous);
    s->heads = qn_calloc(s->n_heads, sizeof *s->heads);
    if (s->tokens == NULL || s->previous == NULL || s->heads == NULL) {
        QN_FAIL_MEMORY(err, "the index of earlier tokens", (2 * n_ctx + s->n_heads) * sizeof *s->heads);
    }
done:
    if (status != QUERN_OK) {
        qn_speculation_deinit(s);
    }
    return status;
}

void qn_speculation_deinit(qn_speculation *s)
{
    qn_free(s->tokens);
    qn_free(s->previous);
    qn_free(s->heads);
    *s = (qn_speculation){0};
}

/* Of the n-gram that ends at position `last`. */
static size_t head_of(const qn_speculation *s, size_t last)
{
    uint64_t h = 0;
    for (size_t i = 0; i < QN_MATCH_MIN; i++) {
        h = (h ^ (uint32_t)s->tokens[last - i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return (size_t)h & (s->n_heads - 1);
}

void qn_speculation_push(qn_speculation *s, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i < n && s->n_tokens < s->cap; i++) {
        size_t at = s->n_tokens++;
        s->tokens[at] = ids[i];
        if (at + 1 >= QN_MATCH_MIN) {
            uint32_t *head = &s->heads[head_of(s, at)];
            s->previous[at] = *head;
            *head = (uint32_t)at + 1;
        }
    }
}

/* Tokens before and at `at` that equal those before and at the end. */
static size_t match_length(const qn_speculation *s, size_t at)
{
    size_t n = 0, last = s->n_tokens - 1;
    while (n < MATCH_MAX && n <= at && s->tokens[at - n] == s->tokens[last - n]) {
        n++;
    }
    return n;
}

void qn_speculation_find(const qn_speculation *s, size_t n_max, qn_draft *out)
{
    size_t best = 0, from = 0;
    *out = (qn_draft){0};
    if (s->n_tokens < QN_MATCH_MIN + 1) {
        return;
    }
    size_t last = s->n_tokens - 1;
    uint32_t at = s->previous[last]; /* the last n-gram itself is its list's head */
    for (size_t i = 0; i < CANDIDATES_MAX && at != 0 && best < MATCH_MAX; i++, at = s->previous[at - 1]) {
        size_t n = match_length(s, at - 1);
        if (n > best) {
            best = n;
            from = at;
        }
    }
    if (best < QN_MATCH_MIN) {
        return;
    }
    out->n = n_max < QN_DRAFT_MAX ? n_max : QN_DRAFT_MAX;
    for (size_t i = 0; i < out->n; i++) {
        out->ids[i] = from + i <= last ? s->tokens[from + i] : out->ids[from + i - last - 1];
    }
    while (out->match_class + 1 < QN_MATCH_CLASSES && best >= class_from[out->match_class + 1]) {
        out->match_class++;
    }
}

/* ---- what pays ---- */

/* Seconds of a step; guessed from the nearest smaller step that is known. */
static double cost_of(const qn_speculation_record *r, size_t rows)
{
    size_t known = rows;
    while (known > 1 && r->cost[known] <= 0) {
        known--;
    }
    double base = r->cost[known] > 0 ? r->cost[known] : 1;
    return base * (1 + unknown_row * (double)(rows - known));
}

size_t qn_speculation_choose(const qn_speculation_record *r, const qn_draft *d)
{
    double p = (r->accepted[d->match_class] + prior_weight * class_prior[d->match_class]) / (r->tried[d->match_class] + prior_weight);
    double expected = 1, power = 1, best = gain_min / cost_of(r, 1);
    size_t n = 0;
    for (size_t k = 1; k <= d->n; k++) {
        power *= p;
        expected += power;
        double rate = expected / cost_of(r, k + 1);
        if (rate > best) {
            best = rate;
            n = k;
        }
    }
    return n;
}

void qn_speculation_note_cost(qn_speculation_record *r, size_t rows, double seconds)
{
    if (rows <= QN_DRAFT_MAX + 1 && seconds > 0) {
        double *c = &r->cost[rows];
        *c = *c > 0 ? *c + forget_cost * (seconds - *c) : seconds;
    }
    for (size_t i = 0; i < QN_MATCH_CLASSES; i++) {
        r->accepted[i] *= forget_result;
        r->tried[i] *= forget_result;
    }
}

void qn_speculation_note_result(qn_speculation_record *r, const qn_draft *d, size_t n_run, size_t n_accepted)
{
    r->accepted[d->match_class] += (double)n_accepted;
    r->tried[d->match_class] += (double)(n_accepted < n_run ? n_accepted + 1 : n_run);
}
