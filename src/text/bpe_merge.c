/* bpe_merge.c - the table of merges and merging itself: the pair of lowest rank first, of equals the leftmost.
 *
 * Short pieces search all pairs for the lowest rank; longer ones keep the pairs in a heap of (rank, position), which is O(n log n) for
 * any text. Both give the same symbols.
 */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_int.h"

/* ---- the table ---- */

static size_t slot_of(const qn_merge_table *m, uint64_t pair)
{
    uint64_t h = (pair ^ m->seed) * 0x9e3779b97f4a7c15u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return (size_t)(h >> 20) & m->mask;
}

/* Slots for n rules, all free; NULL when out of memory. At most two thirds full, so every search ends at a free slot. */
static qn_merge *make_slots(size_t n, size_t *n_slots)
{
    *n_slots = 16;
    while (*n_slots / 3 * 2 < n) {
        *n_slots *= 2;
    }
    qn_merge *slots = qn_malloc_array(*n_slots, sizeof *slots);
    if (slots != NULL) {
        memset(slots, 0xff, *n_slots * sizeof *slots);
    }
    return slots;
}

quern_status qn_merge_table_init(qn_merge_table *m, size_t n_expected, uint64_t seed, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_slots;
    *m = (qn_merge_table){.seed = seed};
    m->slots = make_slots(n_expected, &n_slots);
    if (m->slots == NULL) {
        QN_FAIL_MEMORY(err, "the merge table", n_slots * sizeof *m->slots);
    }
    m->mask = n_slots - 1;
    m->cap = n_slots / 3 * 2;
done:
    return status;
}

/* Of one rank (scores may give several rules the same) the lower pair first. */
static int compare_ranks(const void *a, const void *b)
{
    const qn_merge *x = a, *y = b;
    if (x->rank != y->rank) {
        return x->rank < y->rank ? -1 : 1;
    }
    return x->pair < y->pair ? -1 : x->pair > y->pair;
}

qn_merge *qn_merge_table_sorted(const qn_merge_table *m)
{
    qn_merge *list = qn_malloc_array(m->n + 1, sizeof *list);
    size_t n = 0;
    for (size_t i = 0; list != NULL && m->slots != NULL && i <= m->mask; i++) {
        if (m->slots[i].pair != QN_MERGE_FREE) {
            list[n++] = m->slots[i];
        }
    }
    if (n > 0) {
        qsort(list, n, sizeof *list, compare_ranks);
    }
    return list;
}

void qn_merge_table_deinit(qn_merge_table *m)
{
    qn_free(m->slots);
    m->slots = NULL;
}

/* The slot of a pair, or the free one where it belongs. */
static qn_merge *find_slot(const qn_merge_table *m, uint64_t pair)
{
    size_t i = slot_of(m, pair);
    while (m->slots[i].pair != QN_MERGE_FREE && m->slots[i].pair != pair) {
        i = (i + 1) & m->mask;
    }
    return &m->slots[i];
}

static bool grow(qn_merge_table *m)
{
    qn_merge *old = m->slots;
    size_t n_old = m->mask + 1, n_slots;
    qn_merge *slots = make_slots(2 * m->cap, &n_slots);
    if (slots == NULL) {
        return false;
    }
    m->slots = slots;
    m->mask = n_slots - 1;
    m->cap = n_slots / 3 * 2;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i].pair != QN_MERGE_FREE) {
            *find_slot(m, old[i].pair) = old[i];
        }
    }
    qn_free(old);
    return true;
}

bool qn_merge_table_add(qn_merge_table *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t result, bool replace)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    qn_merge *slot = find_slot(m, pair);
    if (slot->pair == QN_MERGE_FREE) {
        if (m->n == m->cap) {
            if (!grow(m)) {
                return false;
            }
            slot = find_slot(m, pair);
        }
        m->n++;
        *slot = (qn_merge){.pair = pair, .rank = rank, .result = result};
    } else if (replace) {
        slot->rank = rank;
        slot->result = result;
    }
    return true;
}

/* The rule for two neighbours, or NULL. */
static inline const qn_merge *find_merge(const qn_merge_table *m, uint32_t left, uint32_t right)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    for (size_t i = slot_of(m, pair);; i = (i + 1) & m->mask) {
        if (m->slots[i].pair == QN_MERGE_FREE) {
            return NULL; /* first: two unknown symbols make up the very pair that marks a free slot */
        }
        if (m->slots[i].pair == pair) {
            return &m->slots[i];
        }
    }
}

/* ---- short pieces ---- */

static inline uint32_t rank_of(const qn_merge_table *m, uint32_t left, uint32_t right, uint32_t *result)
{
    const qn_merge *rule = find_merge(m, left, right);
    if (rule == NULL) {
        *result = 0;
        return UINT32_MAX;
    }
    *result = rule->result;
    return rule->rank;
}

static size_t merge_short(const qn_merge_table *m, uint32_t *symbols, size_t n)
{
    uint32_t ranks[QN_MERGE_SHORT], results[QN_MERGE_SHORT];
    for (size_t i = 0; i + 1 < n; i++) {
        ranks[i] = rank_of(m, symbols[i], symbols[i + 1], &results[i]);
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) {
            best = ranks[i] < ranks[best] ? i : best;
        }
        if (ranks[best] == UINT32_MAX) {
            break;
        }
        symbols[best] = results[best];
        for (size_t i = best + 1; i + 1 < n; i++) {
            symbols[i] = symbols[i + 1];
            ranks[i] = ranks[i + 1];
            results[i] = results[i + 1];
        }
        n--;
        if (best > 0) {
            ranks[best - 1] = rank_of(m, symbols[best - 1], symbols[best], &results[best - 1]);
        }
        if (best + 1 < n) {
            ranks[best] = rank_of(m, symbols[best], symbols[best + 1], &results[best]);
        }
    }
    return n;
}

/* ---- long pieces ---- */

static void sift_down(uint64_t *heap, size_t n, size_t i)
{
    uint64_t key = heap[i];
    for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && heap[child + 1] < heap[child]) {
            child++;
        }
        if (heap[child] >= key) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
}

static void push(uint64_t *heap, size_t *n, uint64_t key)
{
    size_t i = (*n)++;
    while (i > 0 && heap[(i - 1) / 2] > key) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = key;
}

static uint64_t pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0];
    heap[0] = heap[--*n];
    if (*n > 1) {
        sift_down(heap, *n, 0);
    }
    return top;
}

/* prev and next hold positions; next[last] = n. A symbol swallowed by its left neighbour has next = its own position. */
static size_t merge_long(const qn_merge_table *m, uint32_t *symbols, size_t n, qn_merge_work *w)
{
    uint64_t *heap = w->heap;
    uint32_t *prev = w->prev, *next = w->next;
    size_t n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        prev[i] = (uint32_t)(i - 1); /* wraps for the first, which is never followed */
        next[i] = (uint32_t)(i + 1);
        const qn_merge *rule = i + 1 < n ? find_merge(m, symbols[i], symbols[i + 1]) : NULL;
        if (rule != NULL) {
            heap[n_heap++] = (uint64_t)rule->rank << 32 | i;
        }
    }
    for (size_t i = n_heap / 2; i-- > 0;) {
        sift_down(heap, n_heap, i);
    }
    while (n_heap > 0) {
        uint64_t key = pop(heap, &n_heap);
        size_t at = (uint32_t)key, right = next[at];
        if (right == at || right == n) {
            continue; /* swallowed, or the last one */
        }
        const qn_merge *rule = find_merge(m, symbols[at], symbols[right]);
        if (rule == NULL || rule->rank != (uint32_t)(key >> 32)) {
            continue; /* out of date: what stands here now was entered when it came to be */
        }
        symbols[at] = rule->result;
        size_t after = next[right];
        next[at] = (uint32_t)after;
        next[right] = (uint32_t)right;
        if (after < n) {
            prev[after] = (uint32_t)at;
            rule = find_merge(m, symbols[at], symbols[after]);
            if (rule != NULL) {
                push(heap, &n_heap, (uint64_t)rule->rank << 32 | at);
            }
        }
        if (at > 0) {
            size_t before = prev[at];
            rule = find_merge(m, symbols[before], symbols[at]);
            if (rule != NULL) {
                push(heap, &n_heap, (uint64_t)rule->rank << 32 | before);
            }
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i = next[i]) {
        symbols[kept++] = symbols[i];
    }
    return kept;
}

size_t qn_merge_symbols(const qn_merge_table *m, uint32_t *symbols, size_t n, qn_merge_work *w)
{
    return n <= QN_MERGE_SHORT ? merge_short(m, symbols, n) : merge_long(m, symbols, n, w);
}

void qn_merge_work_deinit(qn_merge_work *w)
{
    qn_free(w->symbols);
    qn_free(w->prev);
    qn_free(w->next);
    qn_free(w->heap);
    *w = (qn_merge_work){0};
}

quern_status qn_merge_work_reserve(qn_merge_work *w, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (n <= w->cap) {
        return QUERN_OK;
    }
    if (n >= UINT32_MAX) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "a piece of %zu characters without a place to cut: at most %u can be encoded", n, UINT32_MAX - 1);
    }
    size_t cap = n < SIZE_MAX / 64 ? n + n / 2 : n;
    qn_merge_work_deinit(w);
    w->symbols = qn_malloc_array(cap, sizeof *w->symbols);
    w->prev = qn_malloc_array(cap, sizeof *w->prev);
    w->next = qn_malloc_array(cap, sizeof *w->next);
    w->heap = qn_malloc_array(cap, 2 * sizeof *w->heap); /* one entry a pair at first, then two for each of n - 1 merges that took one */
    if (w->symbols == NULL || w->prev == NULL || w->next == NULL || w->heap == NULL) {
        qn_merge_work_deinit(w);
        QN_FAIL_MEMORY(err, "merging a long piece", cap * (3 * sizeof *w->symbols + 2 * sizeof *w->heap));
    }
    w->cap = cap;
done:
    return status;
}
