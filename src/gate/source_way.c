/* source_way.c - see source_way.h.
 *
 * Two kinds of evidence, counted in pairs, block by block and code by code: blocks that a known encoder makes exactly of the one kind of weights and not
 * of the other; and, where no encoder is known, codes that are the nearest ones of the one and not of the other. An encoder that chose codes together
 * leaves as many of these on either side.
 */
#include "gate/source_way.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "gate/known_encoders.h"
#include "quant/codec.h"

enum { TENSORS_MAX = 48, PLACES = 8, PLACE_ELEMENTS = 4096, N_WAYS = 3 };

/* Standard deviations of a difference that chance gives. All tensors together decide for a whole file, once; those without the ones that speak most only
 * have to agree: often there are few of them that tell much. */
static const double decisive = 4, agreeing = 2;

static const qn_dtype ways[N_WAYS] = {QN_DTYPE_F32, QN_DTYPE_F16, QN_DTYPE_BF16};

/* Of a way against none. */
typedef struct pairs {
    uint64_t blocks_for, blocks_against, codes_for, codes_against;
} pairs;

typedef struct search {
    const qn_checked_tensor *all;
    size_t chosen[TENSORS_MAX], n_chosen;
    pairs found[TENSORS_MAX][N_WAYS];
    bool unexplained[TENSORS_MAX]; /* by the weights as they are */
    bool compares;                 /* second round: with all ways */
    atomic_size_t next;
    atomic_bool out_of_memory;
} search;

/* One place of a tensor: values as read, rounded, stored, as an encoder makes them; and for each way what it explains. */
typedef struct place {
    float *x, *rounded, *y, *z;
    uint8_t *bytes;
    uint8_t *blocks[N_WAYS], *codes[N_WAYS];
} place;

static uint64_t place_rows(const qn_checked_tensor *t)
{
    uint64_t rows = PLACE_ELEMENTS / t->n_cols;
    return rows < 1 ? 1 : rows > t->n_rows ? t->n_rows : rows;
}

static size_t place_elements(const qn_checked_tensor *t) { return qn_align_up((size_t)(place_rows(t) * t->n_cols), 64); }

/* Marks the blocks that the encoder makes exactly of p->rounded. */
static void mark_blocks(const qn_checked_tensor *t, const place *p, qn_encoder encoder, size_t n, uint8_t *marks)
{
    size_t block = qn_checked_tensor_block(t);
    if (block == 1) {
        qn_checked_tensor_plain(t, p->rounded, p->z, n);
    } else {
        qn_known_encode(t, encoder, p->rounded, n, p->bytes, p->z);
    }
    for (size_t b = 0; b * block < n; b++) {
        marks[b] |= qn_known_same(p->y + b * block, p->z + b * block, block);
    }
}

/* Marks the codes that are nearest to p->rounded. Where scales are powers of two, a value of few bits often lies just between two levels, and then either
 * code is: only the rounded values would ever be spoken for, so codes of such types say nothing. */
static void mark_codes(const qn_checked_tensor *t, const place *p, uint64_t row, size_t n, uint8_t *marks)
{
    size_t block = qn_checked_tensor_block(t), n_cols = (size_t)t->n_cols;
    for (size_t at = 0; at < n && block > 1 && !qn_checked_tensor_has_powers_of_two(t); at += block) {
        qn_sub_blocks s;
        qn_known_scales(t, row + at / n_cols, at % n_cols / block, &s);
        for (size_t i = 0; i < block; i++) {
            double slack;
            bool usable = isfinite(s.scale[i / s.len]) && isfinite(s.offset[i / s.len]) && s.scale[i / s.len] != 0;
            marks[at + i] = !usable || qn_known_excess(&s, i / s.len, p->rounded[at + i], p->y[at + i], &slack) == 0;
        }
    }
}

static void mark(const qn_checked_tensor *t, const place *p, uint64_t row, size_t n, size_t way)
{
    static const qn_encoder known[] = {QN_ENCODER_PLAIN, QN_ENCODER_QUERN};
    qn_checked_tensor as = *t;
    as.by_way = ways[way];
    memcpy(p->rounded, p->x, n * sizeof *p->x);
    qn_known_narrow(&as, p->rounded, n);
    memset(p->blocks[way], 0, n);
    memset(p->codes[way], 1, n);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (qn_known_may_be(t, known[i])) {
            mark_blocks(t, p, known[i], n, p->blocks[way]);
        }
    }
    mark_codes(t, p, row, n, p->codes[way]);
}

static void compare(const uint8_t *own, const uint8_t *none, size_t n, uint64_t *n_for, uint64_t *n_against)
{
    for (size_t i = 0; i < n; i++) {
        *n_for += own[i] > none[i];
        *n_against += own[i] < none[i];
    }
}

/* Nothing is to be explained where all codes are the nearest ones and nearly all blocks known, or no encoder is. */
static bool is_explained(const place *p, size_t n, size_t n_blocks)
{
    size_t n_known = 0;
    bool nearest = memchr(p->codes[0], 0, n) == NULL;
    for (size_t i = 0; i < n_blocks; i++) {
        n_known += p->blocks[0][i];
    }
    return n_known == n_blocks || (nearest && n_blocks < n && n_known * 10 < n_blocks);
}

static void look_at(search *s, size_t index, const place *p)
{
    const qn_checked_tensor *t = &s->all[s->chosen[index]];
    pairs *found = s->found[index];
    size_t n_cols = (size_t)t->n_cols, block = qn_checked_tensor_block(t);
    uint64_t rows = place_rows(t), all = t->n_rows * t->n_parts;
    for (uint64_t i = 0; i < PLACES; i++) {
        uint64_t row = all / PLACES * i + all % PLACES * i / PLACES, part = row / t->n_rows, first = row % t->n_rows;
        first = first + rows > t->n_rows ? t->n_rows - rows : first;
        size_t n = (size_t)rows * n_cols;
        t->read(t->user, (size_t)part, first, rows, p->x);
        qn_checked_tensor_decode(t, part * t->n_rows + first, rows, p->y);
        if (qn_find_non_finite(p->x, n) < n) {
            continue;
        }
        mark(t, p, part * t->n_rows + first, n, 0);
        s->unexplained[index] = s->unexplained[index] || !is_explained(p, n, n / block);
        for (size_t way = 1; way < N_WAYS && s->compares; way++) {
            mark(t, p, part * t->n_rows + first, n, way);
            compare(p->blocks[way], p->blocks[0], n / block, &found[way].blocks_for, &found[way].blocks_against);
            compare(p->codes[way], p->codes[0], n, &found[way].codes_for, &found[way].codes_against);
        }
    }
}

static void run_tensors(void *arg, qn_member m)
{
    search *s = arg;
    (void)m;
    for (size_t i = atomic_fetch_add(&s->next, 1); i < s->n_chosen; i = atomic_fetch_add(&s->next, 1)) {
        const qn_checked_tensor *t = &s->all[s->chosen[i]];
        size_t n = place_elements(t);
        float *memory = qn_malloc_aligned(5 * n * sizeof *memory + 256 + 2 * N_WAYS * n);
        if (memory == NULL) {
            atomic_store(&s->out_of_memory, true);
            return;
        }
        place p = {.x = memory, .rounded = memory + n, .y = memory + 2 * n, .z = memory + 3 * n, .bytes = (uint8_t *)(memory + 4 * n)};
        for (size_t way = 0; way < N_WAYS; way++) {
            p.blocks[way] = p.bytes + 4 * n + 256 + 2 * way * n;
            p.codes[way] = p.blocks[way] + n;
        }
        look_at(s, i, &p);
        qn_free_aligned(memory);
    }
}

/* How many standard deviations more speak for than against. */
static double weight(uint64_t n_for, uint64_t n_against)
{
    return ((double)n_for - (double)n_against) / sqrt((double)(n_for + n_against) + 1);
}

static double weight_of(const pairs *p) { return weight(p->blocks_for, p->blocks_against) + weight(p->codes_for, p->codes_against); }

static int compare_weights(const void *a, const void *b)
{
    double x = weight_of(a), y = weight_of(b);
    return (x > y) - (x < y);
}

static void add_pairs(pairs *sum, const pairs *p)
{
    sum->blocks_for += p->blocks_for;
    sum->blocks_against += p->blocks_against;
    sum->codes_for += p->codes_for;
    sum->codes_against += p->codes_against;
}

/* Sums over the tensors that tell the two apart at all, and without the quarter of them that speaks most for this way: a few that went another way
 * do not turn the rest. */
static void sum_up(const search *s, size_t way, pairs *all, pairs *most)
{
    pairs told[TENSORS_MAX];
    size_t n = 0;
    *all = *most = (pairs){0};
    for (size_t i = 0; i < s->n_chosen; i++) {
        const pairs *p = &s->found[i][way];
        if (p->blocks_for + p->blocks_against + p->codes_for + p->codes_against > 0) {
            told[n++] = *p;
        }
    }
    if (n > 0) {
        qsort(told, n, sizeof *told, compare_weights);
    }
    for (size_t i = 0; i < n; i++) {
        add_pairs(all, &told[i]);
        if (i < n - n / 4) {
            add_pairs(most, &told[i]);
        }
    }
}

/* One kind of evidence speaks for the way, and the other does not deny it. */
static bool speaks(const pairs *p, double least)
{
    double blocks = weight(p->blocks_for, p->blocks_against), codes = weight(p->codes_for, p->codes_against);
    return (blocks > least && codes > -decisive) || (codes > least && blocks > -decisive);
}

static qn_dtype decide(const search *s)
{
    qn_dtype best = QN_DTYPE_F32;
    double greatest = 0;
    for (size_t way = 1; way < N_WAYS; way++) {
        pairs all, most;
        sum_up(s, way, &all, &most);
        if (speaks(&all, decisive) && speaks(&most, agreeing) && weight_of(&all) > greatest) {
            greatest = weight_of(&all);
            best = ways[way];
        }
    }
    return best;
}

/* Matrices that are stored in fewer bits than float32, evenly over the output. */
static bool is_of_use(const qn_checked_tensor *t) { return t->n_rows > 1 && !(t->storage == QN_STORED_BLOCKS && t->dtype == QN_DTYPE_F32); }

quern_status qn_source_way_find(const qn_checked_tensor *all, size_t n_all, qn_pool *pool, qn_dtype *way, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_useful = 0, seen = 0;
    *way = QN_DTYPE_F32;
    search *s = qn_calloc(1, sizeof *s);
    if (s == NULL) {
        QN_FAIL_MEMORY(err, "a sample of tensors", sizeof *s);
    }
    s->all = all;
    atomic_init(&s->next, 0);
    atomic_init(&s->out_of_memory, false);
    for (size_t i = 0; i < n_all; i++) {
        n_useful += is_of_use(&all[i]);
    }
    for (size_t i = 0; i < n_all; i++) {
        if (is_of_use(&all[i])) {
            bool due = n_useful <= TENSORS_MAX || seen * TENSORS_MAX / n_useful != (seen + 1) * TENSORS_MAX / n_useful;
            if (due && s->n_chosen < TENSORS_MAX) {
                s->chosen[s->n_chosen++] = i;
            }
            seen++;
        }
    }
    qn_pool_run(pool, run_tensors, s);
    for (size_t i = 0; i < s->n_chosen; i++) {
        s->compares = s->compares || s->unexplained[i];
    }
    if (s->compares) { /* what the others are counts too */
        atomic_store(&s->next, 0);
        qn_pool_run(pool, run_tensors, s);
    }
    if (atomic_load(&s->out_of_memory)) {
        QN_FAIL_MEMORY(err, "a sample of tensors", TENSORS_MAX * sizeof *s->found);
    }
    *way = decide(s);
done:
    qn_free(s);
    return status;
}
