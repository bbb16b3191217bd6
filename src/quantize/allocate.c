/* allocate.c - see allocate.h. */
#include "quantize/allocate.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/alloc.h"

/* From one vertex of an item's hull to the next larger one. */
typedef struct climb {
    size_t item, from, to;
    uint64_t bytes;
    double gain; /* loss avoided per byte */
} climb;

/* Fewer bytes, and of equal ones less loss. */
static size_t find_smallest(const qn_candidate *c, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        if (c[i].bytes < c[best].bytes || (c[i].bytes == c[best].bytes && c[i].loss < c[best].loss)) {
            best = i;
        }
    }
    return best;
}

/* The next vertex of the hull: the larger candidate to which the loss falls most steeply; n if none is better. */
static size_t find_next(const qn_candidate *c, size_t n, size_t from, double *gain)
{
    size_t best = n;
    *gain = 0;
    for (size_t i = 0; i < n; i++) {
        if (c[i].bytes <= c[from].bytes || c[i].loss >= c[from].loss) {
            continue;
        }
        double g = (c[from].loss - c[i].loss) / (double)(c[i].bytes - c[from].bytes);
        if (best == n || g > *gain || (g >= *gain && c[i].bytes > c[best].bytes)) {
            best = i;
            *gain = g;
        }
    }
    return best;
}

static int compare_climbs(const void *a, const void *b)
{
    const climb *x = a, *y = b;
    if (x->gain < y->gain || x->gain > y->gain) {
        return x->gain < y->gain ? 1 : -1;
    }
    if (x->item != y->item) {
        return x->item > y->item ? 1 : -1;
    }
    return x->bytes > y->bytes ? 1 : x->bytes < y->bytes ? -1 : 0;
}

quern_status qn_allocate(const qn_candidate *candidates, size_t n_items, size_t n_candidates, uint64_t limit, size_t *chosen,
                         quern_error *err)
{
    quern_status status = QUERN_OK;
    climb *climbs = qn_malloc_array(n_items * n_candidates, sizeof *climbs);
    size_t n_climbs = 0;
    uint64_t used = 0;
    if (climbs == NULL) {
        QN_FAIL_MEMORY(err, "the choice of types", n_items * n_candidates * sizeof *climbs);
    }
    for (size_t i = 0; i < n_items; i++) {
        const qn_candidate *c = candidates + i * n_candidates;
        chosen[i] = find_smallest(c, n_candidates);
        used += c[chosen[i]].bytes;
        double gain;
        for (size_t at = chosen[i], to = find_next(c, n_candidates, at, &gain); to < n_candidates;
             at = to, to = find_next(c, n_candidates, at, &gain)) {
            climbs[n_climbs++] = (climb){i, at, to, c[to].bytes - c[at].bytes, gain};
        }
    }
    if (used > limit) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "the smallest types take %llu bytes, the limit is %llu", (unsigned long long)used,
                (unsigned long long)limit);
    }
    qsort(climbs, n_climbs, sizeof *climbs, compare_climbs);
    for (size_t k = 0; k < n_climbs; k++) {
        const climb *s = &climbs[k];
        if (chosen[s->item] == s->from && s->bytes <= limit - used) { /* a step that did not fit blocks the ones above it */
            chosen[s->item] = s->to;
            used += s->bytes;
        }
    }
done:
    qn_free(climbs);
    return status;
}
