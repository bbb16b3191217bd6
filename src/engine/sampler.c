/* sampler.c - from logits to a token: penalties, bias, temperature, top-k, typical, top-p, min-p, draw.
 *
 * Owns the random state and the counts of tokens seen; knows nothing of models or sequences.
 *
 * What each stage does, exactly (order of tokens: larger logit first, then lower id):
 *   repeat     each token of the last penalty_window tokens, once: logit > 0 ? logit / penalty : logit * penalty
 *   presence,  each token of the answer, c times in it: logit = logit - frequency * c - presence
 *   frequency
 *   bias       logit + bias, in the order of the list
 *   greedy     temperature 0 ends here: the first token of the order
 *   weights    w = exp((logit - largest) * (1 / temperature)), in double, 0 below e^-700; every later stage sees the probabilities p of
 *              what is left, made to sum to 1
 *   top-k      the first k of the order
 *   typical    tokens by |-ln p - entropy|, smaller first, then in the order: the fewest whose p sum to typical_p or more, at least one
 *   top-p      the fewest first ones of the order whose p sum to top_p or more, at least one
 *   min-p      those with w >= min_p * (the largest w that is left)
 *   draw       u uniform in [0, 1) from 53 random bits, one a token whatever is left: the first token at which the running sum of p
 *              exceeds u; tokens in the order where top-k, typical or top-p is on, else by id
 * The logarithm of probability that is reported comes from the logits as they came.
 *
 * Invariant: a call that fails leaves the random state and the counts as they were.
 */
#include "quern/sampling.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/float_mode.h"
#include "kernels/ops.h"
#include "kernels/vmath.h"
#include "kernels/vmath_exp64.h"

/* How often each token occurred, and which did. `ids` may hold tokens whose count fell back to zero; `listed` says what is in it. */
typedef struct token_counts {
    uint32_t *count; /* (n_vocab) */
    bool *listed;    /* (n_vocab) */
    int32_t *ids;    /* (n_vocab), n used */
    size_t n;
} token_counts;

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

struct quern_sampler {
    quern_sampling settings;
    size_t n_vocab;
    const qn_ops *ops;
    double factor; /* 1 / temperature */
    uint64_t random_state;
    token_counts window, answer; /* count is NULL where the penalty is off */
    int32_t *recent;             /* ring of penalty_window tokens, NULL if all count */
    size_t n_recent, recent_at;
    float *unmodified;     /* (n_vocab) logits as they came, if penalties or bias change them */
    candidate *candidates; /* (cap) */
    double *weights;       /* (cap), of candidates */
    union {
        candidate *candidates; /* for sorting */
        double *terms;         /* weights by id */
    } scratch;                 /* (cap) */
    size_t cap;
};

_Static_assert(sizeof(candidate) <= sizeof(double), "scratch holds either");

/* Up to this k the best are kept in a heap while the logits are read once; above, radix selection reads them three times whatever k is. */
enum { HEAP_MAX = 1024, WINDOW_MAX = 1 << 20 };

/* ---- settings ---- */

quern_sampling quern_sampling_default(void)
{
    return (quern_sampling){
        .temperature = 0.0f, .top_k = 0, .top_p = 1.0f, .min_p = 0.0f, .typical_p = 1.0f, .repeat_penalty = 1.0f, .penalty_window = -1};
}

static bool is_fraction(float x) { return x >= 0.0f && x <= 1.0f; }

quern_status quern_sampling_check(const quern_sampling *s, size_t n_vocab, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (!(s->temperature >= 0.0f && s->temperature <= 1e6f)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "temperature must be 0 or more (at most 1e6), not %g", (double)s->temperature);
    }
    if (s->temperature > 0.0f && s->temperature < 1e-6f) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "temperature must be 0 or at least 1e-6, not %g", (double)s->temperature);
    }
    if (s->top_k < 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "top_k must be 0 (off) or more, not %d", s->top_k);
    }
    if (!is_fraction(s->top_p)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "top_p must be between 0 and 1, not %g", (double)s->top_p);
    }
    if (!is_fraction(s->min_p)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "min_p must be between 0 and 1, not %g", (double)s->min_p);
    }
    if (!is_fraction(s->typical_p)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "typical_p must be between 0 and 1, not %g", (double)s->typical_p);
    }
    if (!(s->repeat_penalty > 0.0f && s->repeat_penalty <= 1e6f)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "repeat_penalty must be above 0 (at most 1e6), not %g", (double)s->repeat_penalty);
    }
    if (!(fabsf(s->presence_penalty) <= 1e6f)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "presence_penalty must be a number between -1e6 and 1e6, not %g", (double)s->presence_penalty);
    }
    if (!(fabsf(s->frequency_penalty) <= 1e6f)) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "frequency_penalty must be a number between -1e6 and 1e6, not %g", (double)s->frequency_penalty);
    }
    if (s->penalty_window < -1 || s->penalty_window > WINDOW_MAX) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "penalty_window must be -1 (all tokens) or 0 to %d, not %d", WINDOW_MAX, s->penalty_window);
    }
    for (size_t i = 0; i < s->n_logit_bias; i++) {
        const quern_logit_bias *b = &s->logit_bias[i];
        if (b->id < 0 || (size_t)b->id >= n_vocab) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "logit_bias names token %d; the vocabulary has ids 0 to %zu", b->id, n_vocab - 1);
        }
        if (!(b->bias <= 1e6f && (b->bias >= -1e6f || b->bias == -INFINITY))) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "logit_bias of token %d must be between -1e6 and 1e6 or -infinity, not %g", b->id,
                    (double)b->bias);
        }
    }
done:
    return status;
}

/* ---- counts ---- */

static bool counts_init(token_counts *c, size_t n_vocab)
{
    c->count = qn_calloc(n_vocab, sizeof *c->count);
    c->listed = qn_calloc(n_vocab, sizeof *c->listed);
    c->ids = qn_malloc_array(n_vocab, sizeof *c->ids);
    return c->count != NULL && c->listed != NULL && c->ids != NULL;
}

static void counts_deinit(token_counts *c)
{
    qn_free(c->count);
    qn_free(c->listed);
    qn_free(c->ids);
}

static void counts_add(token_counts *c, int32_t id)
{
    c->count[id]++;
    if (!c->listed[id]) {
        c->listed[id] = true;
        c->ids[c->n++] = id;
    }
}

/* Drops tokens that no longer occur from the list. */
static void counts_compact(token_counts *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->count[c->ids[i]] > 0) {
            c->ids[kept++] = c->ids[i];
        } else {
            c->listed[c->ids[i]] = false;
        }
    }
    c->n = kept;
}

/* A token enters the window; the one that falls out on the other side leaves. */
static void window_add(quern_sampler *s, int32_t id)
{
    if (s->window.count == NULL) {
        return;
    }
    counts_add(&s->window, id);
    if (s->recent == NULL) {
        return;
    }
    if (s->n_recent == (size_t)s->settings.penalty_window) {
        s->window.count[s->recent[s->recent_at]]--;
    } else {
        s->n_recent++;
    }
    s->recent[s->recent_at] = id;
    s->recent_at = s->recent_at + 1 == (size_t)s->settings.penalty_window ? 0 : s->recent_at + 1;
}

/* ---- random numbers: the splitmix64 sequence (Steele, Lea, Flood 2014) from a scrambled seed ---- */

static uint64_t scramble(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double next_uniform(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    return (double)(scramble(*state) >> 11) * 0x1p-53;
}

/* ---- creation ---- */

static bool uses_window(const quern_sampling *s) { return s->repeat_penalty != 1.0f && s->penalty_window != 0; }
static bool uses_answer(const quern_sampling *s) { return s->presence_penalty != 0.0f || s->frequency_penalty != 0.0f; }

quern_status quern_sampler_create(quern_sampler **out, const quern_sampling *settings, size_t n_vocab, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_sampler *s = NULL;
    *out = NULL;
    if (n_vocab == 0 || n_vocab > INT32_MAX) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "a sampler needs a vocabulary of 1 to 2147483647 tokens, not %zu", n_vocab);
    }
    QN_TRY(quern_sampling_check(settings, n_vocab, err));
    s = qn_calloc(1, sizeof *s);
    if (s == NULL) {
        QN_FAIL_MEMORY(err, "sampler", sizeof *s);
    }
    s->settings = *settings;
    s->n_vocab = n_vocab;
    s->ops = qn_ops_get(qn_isa_best());
    s->random_state = scramble(settings->seed + 0x9e3779b97f4a7c15u);
    bool ok = true;
    if (uses_window(settings)) {
        ok = counts_init(&s->window, n_vocab);
        if (settings->penalty_window > 0) {
            s->recent = qn_malloc_array((size_t)settings->penalty_window, sizeof *s->recent);
            ok = ok && s->recent != NULL;
        }
    }
    if (uses_answer(settings)) {
        ok = counts_init(&s->answer, n_vocab) && ok;
    }
    if (uses_window(settings) || uses_answer(settings) || settings->n_logit_bias > 0) {
        s->unmodified = qn_malloc_array(n_vocab, sizeof *s->unmodified);
        ok = ok && s->unmodified != NULL;
    }
    if (settings->temperature > 0.0f) {
        s->factor = 1.0 / (double)settings->temperature;
        s->cap = settings->top_k > 0 && (size_t)settings->top_k < n_vocab ? (size_t)settings->top_k : n_vocab;
        s->candidates = qn_malloc_array(s->cap, sizeof *s->candidates);
        s->scratch.terms = qn_malloc_array(s->cap, sizeof *s->scratch.terms);
        s->weights = qn_malloc_array(s->cap, sizeof *s->weights);
        ok = ok && s->candidates != NULL && s->scratch.terms != NULL && s->weights != NULL;
    }
    if (!ok) {
        QN_FAIL(err, QUERN_ERROR_MEMORY, "out of memory: a sampler for %zu tokens", n_vocab);
    }
    *out = s;
    s = NULL;
done:
    quern_sampler_destroy(s);
    return status;
}

void quern_sampler_destroy(quern_sampler *s)
{
    if (s == NULL) {
        return;
    }
    counts_deinit(&s->window);
    counts_deinit(&s->answer);
    qn_free(s->recent);
    qn_free(s->unmodified);
    qn_free(s->candidates);
    qn_free(s->scratch.terms);
    qn_free(s->weights);
    qn_free(s);
}

quern_status quern_sampler_accept_prompt(quern_sampler *s, const int32_t *ids, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= s->n_vocab) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "prompt token %zu has id %d; the vocabulary has ids 0 to %zu", i, ids[i], s->n_vocab - 1);
        }
    }
    for (size_t i = 0; i < n; i++) {
        window_add(s, ids[i]);
    }
done:
    return status;
}

/* ---- penalties and bias ---- */

static void modify_logits(quern_sampler *s, float *logits)
{
    const quern_sampling *p = &s->settings;
    if (s->window.count != NULL) {
        counts_compact(&s->window);
        for (size_t i = 0; i < s->window.n; i++) {
            float *l = &logits[s->window.ids[i]];
            *l = *l > 0.0f ? *l / p->repeat_penalty : *l * p->repeat_penalty;
        }
    }
    for (size_t i = 0; i < s->answer.n; i++) {
        float *l = &logits[s->answer.ids[i]], count = (float)s->answer.count[s->answer.ids[i]];
        *l = *l - p->frequency_penalty * count - p->presence_penalty;
    }
    for (size_t i = 0; i < p->n_logit_bias; i++) {
        logits[p->logit_bias[i].id] += p->logit_bias[i].bias;
    }
}

/* ---- the first k of the order ---- */

static bool is_before(candidate a, candidate b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); }

/* A heap with the last of the order at the root. */
static void sift_down(candidate *heap, size_t n, size_t i)
{
    candidate x = heap[i];
    for (size_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && is_before(heap[child], heap[child + 1])) {
            child++;
        }
        if (!is_before(x, heap[child])) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = x;
}

/* The first k of n logits, in order. */
static void select_by_heap(candidate *out, size_t k, const float *logits, size_t n)
{
    for (size_t i = 0; i < k; i++) {
        out[i] = (candidate){logits[i], (int32_t)i};
    }
    for (size_t i = k / 2; i-- > 0;) {
        sift_down(out, k, i);
    }
    for (size_t i = k; i < n; i++) {
        if (logits[i] > out[0].logit) { /* an equal logit has a higher id, so it comes later */
            out[0] = (candidate){logits[i], (int32_t)i};
            sift_down(out, k, 0);
        }
    }
    for (size_t end = k; end-- > 1;) { /* the last goes to the end, again and again */
        candidate last = out[0];
        out[0] = out[end];
        out[end] = last;
        sift_down(out, end, 0);
    }
}

/* An integer that grows as x falls; equal for both zeros. */
static uint32_t descending_key(float x)
{
    uint32_t u;
    x += 0.0f;
    memcpy(&u, &x, sizeof u);
    return (u & 0x80000000u) != 0 ? u : ~(u | 0x80000000u);
}

enum { RADIX_BITS = 11, RADIX_SIZE = 1 << RADIX_BITS, RADIX_PASSES = 3 };

static uint32_t digit(uint32_t key, int pass) { return key >> (pass * RADIX_BITS) & (RADIX_SIZE - 1); }

/* The key of the k-th of n logits (k from 1), and in *n_equal how many with that key are among the first k. */
static uint32_t kth_key(const float *logits, size_t n, size_t k, size_t *n_equal)
{
    uint32_t prefix = 0, mask = 0;
    for (int pass = RADIX_PASSES; pass-- > 0;) {
        size_t count[RADIX_SIZE] = {0};
        for (size_t i = 0; i < n; i++) {
            uint32_t key = descending_key(logits[i]);
            if ((key & mask) == prefix) {
                count[digit(key, pass)]++;
            }
        }
        uint32_t d = 0;
        while (count[d] < k) {
            k -= count[d++];
        }
        prefix |= d << (pass * RADIX_BITS);
        mask |= (RADIX_SIZE - 1u) << (pass * RADIX_BITS);
    }
    *n_equal = k;
    return prefix;
}

/* Sorts n candidates into the order; they come by ascending id, and every pass keeps equals as they are. The result is in `a`. */
static void sort_candidates(candidate *a, candidate *spare, size_t n)
{
    candidate *from = a, *to = spare;
    for (int pass = 0; pass < RADIX_PASSES; pass++) {
        size_t start[RADIX_SIZE] = {0}, sum = 0;
        for (size_t i = 0; i < n; i++) {
            start[digit(descending_key(from[i].logit), pass)]++;
        }
        for (size_t d = 0; d < RADIX_SIZE; d++) {
            size_t here = start[d];
            start[d] = sum;
            sum += here;
        }
        for (size_t i = 0; i < n; i++) {
            to[start[digit(descending_key(from[i].logit), pass)]++] = from[i];
        }
        candidate *swap = from;
        from = to;
        to = swap;
    }
    memcpy(a, from, n * sizeof *a); /* three passes end in spare */
}

static void select_by_radix(candidate *out, candidate *spare, size_t k, const float *logits, size_t n)
{
    size_t n_equal, at = 0;
    uint32_t last = kth_key(logits, n, k, &n_equal);
    for (size_t i = 0; i < n; i++) {
        uint32_t key = descending_key(logits[i]);
        if (key < last || (key == last && n_equal > 0)) {
            n_equal -= key == last ? 1 : 0;
            out[at++] = (candidate){logits[i], (int32_t)i};
        }
    }
    sort_candidates(out, spare, k);
}

/* ---- stages on candidates and their weights ---- */

static double sum_of(const double *w, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += w[i];
    }
    return sum;
}

/* -ln p of candidate i up to a constant that is ln of the weights' sum. */
static double surprise(const quern_sampler *s, size_t i, float top) { return ((double)top - (double)s->candidates[i].logit) * s->factor; }

/* Candidates are in order, so -ln p grows along them and the set is a range that grows from where -ln p passes the entropy. */
static size_t keep_typical(quern_sampler *s, size_t n, float top)
{
    const double *w = s->weights;
    double total = sum_of(w, n), entropy = 0.0; /* the constant is in neither entropy nor surprise: only differences count */
    for (size_t i = 0; i < n && w[i] > 0.0; i++) {
        entropy += w[i] / total * surprise(s, i, top);
    }
    double goal = (double)s->settings.typical_p * total, sum = 0.0;
    size_t begin = 0;
    while (begin < n && surprise(s, begin, top) < entropy) {
        begin++;
    }
    size_t end = begin;
    while (end - begin < n && (sum < goal || end == begin)) {
        double before = begin == 0 ? (double)INFINITY : entropy - surprise(s, begin - 1, top);
        double after = end == n ? (double)INFINITY : surprise(s, end, top) - entropy;
        bool take_before = begin > 0 && before <= after;
        sum += take_before ? w[--begin] : w[end++];
    }
    /* Of equal logits at the lower end the loop took the highest ids; the lowest are due. */
    size_t equal_begin = begin, equal_end = begin;
    while (equal_begin > 0 && s->candidates[equal_begin - 1].logit == s->candidates[begin].logit) {
        equal_begin--;
    }
    while (equal_end < end && s->candidates[equal_end].logit == s->candidates[begin].logit) {
        equal_end++;
    }
    memmove(s->candidates, s->candidates + equal_begin, (equal_end - begin) * sizeof *s->candidates);
    memmove(s->candidates + (equal_end - begin), s->candidates + equal_end, (end - equal_end) * sizeof *s->candidates);
    memmove(s->weights, s->weights + begin, (end - begin) * sizeof *s->weights);
    return end - begin;
}

/* total: sum of the weights that top_p is a share of. */
static size_t keep_top_p(const quern_sampler *s, size_t n, double total)
{
    double goal = (double)s->settings.top_p * total, sum = 0.0;
    size_t kept = 0;
    while (kept < n && (sum < goal || kept == 0)) {
        sum += s->weights[kept++];
    }
    return kept;
}

/* Works on any order of candidates. */
static size_t keep_min_p(quern_sampler *s, size_t n)
{
    double largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        largest = s->weights[i] > largest ? s->weights[i] : largest;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (s->weights[i] >= (double)s->settings.min_p * largest) {
            s->candidates[kept] = s->candidates[i];
            s->weights[kept++] = s->weights[i];
        }
    }
    return kept;
}

static int32_t draw(quern_sampler *s, size_t n)
{
    double goal = next_uniform(&s->random_state) * sum_of(s->weights, n), sum = 0.0;
    size_t i = 0;
    for (; i + 1 < n; i++) {
        sum += s->weights[i];
        if (sum > goal) {
            break;
        }
    }
    while (s->weights[i] == 0.0) { /* the sums met at the end: step back to what can be drawn */
        i--;
    }
    return s->candidates[i].id;
}

static double weight_of(const quern_sampler *s, float logit, float top) { return qn_exp_term(((double)logit - (double)top) * s->factor); }

static size_t gather_top_k(quern_sampler *s, const float *logits, float top)
{
    if (s->cap <= HEAP_MAX) {
        select_by_heap(s->candidates, s->cap, logits, s->n_vocab);
    } else {
        select_by_radix(s->candidates, s->scratch.candidates, s->cap, logits, s->n_vocab);
    }
    for (size_t i = 0; i < s->cap; i++) {
        s->weights[i] = weight_of(s, s->candidates[i].logit, top);
    }
    return s->cap;
}

/* All tokens; in order if `ordered`, else by id. */
static size_t gather_all(quern_sampler *s, const float *logits, float top, bool ordered)
{
    for (size_t i = 0; i < s->n_vocab; i++) {
        s->candidates[i] = (candidate){logits[i], (int32_t)i};
    }
    if (!ordered) {
        (void)s->ops->exp_sum(s->weights, logits, s->n_vocab, top, s->factor);
        return s->n_vocab;
    }
    sort_candidates(s->candidates, s->scratch.candidates, s->n_vocab);
    (void)s->ops->exp_sum(s->scratch.terms, logits, s->n_vocab, top, s->factor);
    for (size_t i = 0; i < s->n_vocab; i++) {
        s->weights[i] = s->scratch.terms[s->candidates[i].id];
    }
    return s->n_vocab;
}

/* The tokens among which top-p will find its share, in order; *total is the sum of all tokens' weights. Tokens are put into bins by the
 * first digit of their key; bins are taken until their weights surely reach the share, so that only a nucleus is sorted and not the
 * vocabulary. */
static size_t gather_nucleus(quern_sampler *s, const float *logits, float top, double *total)
{
    double bin[RADIX_SIZE] = {0}, sum = 0.0;
    *total = s->ops->exp_sum(s->scratch.terms, logits, s->n_vocab, top, s->factor);
    for (size_t i = 0; i < s->n_vocab; i++) {
        bin[digit(descending_key(logits[i]), RADIX_PASSES - 1)] += s->scratch.terms[i];
    }
    uint32_t last = 0;
    double enough = (double)s->settings.top_p * *total * (1.0 + 1e-9); /* far more than sums in another order differ by */
    while (last + 1 < RADIX_SIZE && (sum += bin[last]) < enough) {
        last++;
    }
    size_t n = 0;
    for (size_t i = 0; i < s->n_vocab; i++) {
        if (digit(descending_key(logits[i]), RADIX_PASSES - 1) <= last) {
            s->candidates[n++] = (candidate){logits[i], (int32_t)i};
        }
    }
    sort_candidates(s->candidates, s->scratch.candidates, n);
    for (size_t i = 0; i < n; i++) {
        s->weights[i] = weight_of(s, s->candidates[i].logit, top);
    }
    return n;
}

static int32_t choose(quern_sampler *s, const float *logits, float top)
{
    const quern_sampling *p = &s->settings;
    size_t n;
    double total = -1.0; /* of the weights that top_p is a share of, where it is not the sum of what is left */
    if (s->cap < s->n_vocab) {
        n = gather_top_k(s, logits, top);
    } else if (p->top_p < 1.0f && p->typical_p >= 1.0f) {
        n = gather_nucleus(s, logits, top, &total);
    } else {
        n = gather_all(s, logits, top, p->typical_p < 1.0f);
    }
    if (p->typical_p < 1.0f) {
        n = keep_typical(s, n, top);
    }
    if (p->top_p < 1.0f) {
        n = keep_top_p(s, n, total >= 0.0 ? total : sum_of(s->weights, n));
    }
    if (p->min_p > 0.0f) {
        n = keep_min_p(s, n);
    }
    return draw(s, n);
}

/* The index of the largest logit; fails unless that is a finite number. */
static quern_status find_largest(const quern_sampler *s, const float *logits, const char *when, size_t *at, quern_error *err)
{
    quern_status status = QUERN_OK;
    *at = s->ops->argmax(logits, s->n_vocab);
    if (isnan(logits[*at])) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "logit %zu is not a number%s", *at, when);
    }
    if (logits[*at] == INFINITY) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "logit %zu is infinite%s", *at, when);
    }
    if (logits[*at] == -INFINITY) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "no token is possible: every logit is -infinity%s", when);
    }
done:
    return status;
}

quern_status quern_sampler_sample(quern_sampler *s, float *logits, int32_t *id, float *logprob, quern_error *err)
{
    quern_status status = QUERN_OK;
    const float *unmodified = logits;
    size_t largest, largest_unmodified;
    const qn_float_mode before = qn_float_mode_enter();
    QN_TRY(find_largest(s, logits, "", &largest_unmodified, err));
    largest = largest_unmodified;
    if (s->unmodified != NULL) {
        memcpy(s->unmodified, logits, s->n_vocab * sizeof *logits);
        unmodified = s->unmodified;
        modify_logits(s, logits);
        QN_TRY(find_largest(s, logits, " after penalties and bias", &largest, err));
    }
    *id = s->settings.temperature > 0.0f ? choose(s, logits, logits[largest]) : (int32_t)largest;
    if (logprob != NULL) {
        float top = unmodified[largest_unmodified];
        *logprob = (float)((double)unmodified[*id] - (double)top - qn_log(s->ops->exp_sum(NULL, unmodified, s->n_vocab, top, 1.0)));
    }
    window_add(s, *id);
    if (s->answer.count != NULL) {
        counts_add(&s->answer, *id);
    }
done:
    qn_float_mode_leave(before);
    return status;
}
