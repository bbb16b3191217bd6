/* cpu_attention.c - attention over a step: cut by (rows of a sequence, key/value head), or for few rows at depth by
 * (rows of a sequence, key/value head, chunk of 256 positions) with the chunks merged row by row in order afterwards. Both ways give
 * the same bits, because the kernel's contract merges the same chunks in the same order. */
#include <string.h>

#include "backend/cpu_int.h"

/* Blocks of rows are split over chunks where there are fewer than this many items for a thread. */
enum { SPLIT_BELOW = 2 };

typedef struct query_block {
    const float *q[QN_CPU_QUERY_BLOCK];
    float *out[QN_CPU_QUERY_BLOCK];
    size_t position[QN_CPU_QUERY_BLOCK];
    size_t first[QN_CPU_QUERY_BLOCK];
    size_t n;
} query_block;

static size_t first_visible(const qn_heads *h, size_t position)
{
    return h->window == 0 || position < h->window ? 0 : position - h->window + 1;
}

/* Adds the queries of one row that read kv_head; query g of them writes out + g * out_stride. */
static void add_row(query_block *b, const qn_heads *h, const qn_step_rows *rows, size_t row, size_t kv_head, const float *q, float *out,
                    size_t out_stride)
{
    size_t group = h->n_heads / h->n_kv_heads;
    for (size_t g = 0; g < group; g++) {
        b->q[b->n] = q + (row * h->n_heads + kv_head * group + g) * h->head_dim;
        b->out[b->n] = out + g * out_stride;
        b->position[b->n] = rows->position[row];
        b->first[b->n] = first_visible(h, rows->position[row]);
        b->n++;
    }
}

static qn_attn_args make_args(const query_block *b, const qn_heads *h, const qn_kv_view *view, size_t kv_head, void *scratch)
{
    return (qn_attn_args){.kv = view,
                          .kv_head = kv_head,
                          .n_queries = b->n,
                          .q = b->q,
                          .out = b->out,
                          .position = b->position,
                          .first = b->first,
                          .scale = h->scale,
                          .scratch = scratch};
}

/* Rows of the block that begins at `row`: all of one sequence, before row `end`, as many as one call takes. */
static size_t block_rows(const qn_heads *h, const qn_step_rows *rows, size_t row, size_t end)
{
    size_t most = QN_CPU_QUERY_BLOCK / (h->n_heads / h->n_kv_heads), n = 1;
    while (n < most && row + n < end && rows->view[row + n] == rows->view[row]) {
        n++;
    }
    return n;
}

static void attend_blocks(qn_cpu *c, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, float *out)
{
    query_block block;
    qn_cpu_begin_phase(c, m);
    size_t mine = qn_cpu_claim(c, m), item = 0, group = h->n_heads / h->n_kv_heads;
    for (size_t row = 0; row < rows->n_rows;) {
        size_t n = block_rows(h, rows, row, rows->n_rows);
        for (; mine < item + h->n_kv_heads; mine = qn_cpu_claim(c, m)) {
            size_t kv_head = mine - item;
            block.n = 0;
            for (size_t i = 0; i < n; i++) {
                size_t head = (row + i) * h->n_heads + kv_head * group;
                add_row(&block, h, rows, row + i, kv_head, q, out + head * h->head_dim, h->head_dim);
            }
            qn_attn_args args = make_args(&block, h, rows->view[row], kv_head, c->lanes[m.index].scratch);
            c->ops->attention(&args);
        }
        item += h->n_kv_heads;
        row += n;
    }
    qn_cpu_end_phase(c, m);
}

/* ---- split over chunks ---- */

/* A pass of the split: rows [begin, end) of the step, whose partial results stand in c->parts. */
typedef struct split_pass {
    size_t begin, end;
    size_t n_parts; /* chunks up to the deepest row of the step, so parts of each (row, head) */
} split_pass;

static float *part_at(const qn_cpu *c, const qn_heads *h, const split_pass *s, size_t row, size_t head, size_t part)
{
    return c->parts + (((row - s->begin) * h->n_heads + head) * s->n_parts + part) * (h->head_dim + 2);
}

/* One chunk for n rows of a sequence. A row that sees none of it gets an empty part, which is not merged. */
static void attend_part(qn_cpu *c, const qn_heads *h, const qn_step_rows *rows, const split_pass *s, size_t row, size_t n, size_t kv_head,
                        size_t part, const float *q, void *scratch)
{
    size_t group = h->n_heads / h->n_kv_heads;
    query_block block = {.n = 0};
    float ml[QN_CPU_QUERY_BLOCK][2];
    for (size_t i = 0; i < n; i++) {
        float *out = part_at(c, h, s, row + i, kv_head * group, part) + 2;
        add_row(&block, h, rows, row + i, kv_head, q, out, s->n_parts * (h->head_dim + 2));
    }
    qn_attn_args args = make_args(&block, h, rows->view[row], kv_head, scratch);
    c->ops->attention_partial(&args, part, part + 1, &ml[0][0]);
    for (size_t i = 0; i < block.n; i++) {
        memcpy(block.out[i] - 2, ml[i], sizeof ml[i]);
    }
}

/* Chunks first .. last of one query, in order, then the division. */
static void merge_parts(const qn_cpu *c, const qn_heads *h, const split_pass *s, size_t row, size_t head, size_t first, size_t last,
                        float *out)
{
    const float *p = part_at(c, h, s, row, head, first);
    float ml[2] = {p[0], p[1]};
    memcpy(out, p + 2, h->head_dim * sizeof *out);
    for (size_t part = first + 1; part <= last; part++) {
        p = part_at(c, h, s, row, head, part);
        c->ops->attention_merge(ml, out, p, p + 2, h->head_dim);
    }
    for (size_t d = 0; d < h->head_dim; d++) {
        out[d] /= ml[1];
    }
}

static void attend_pass(qn_cpu *c, qn_member m, const qn_heads *h, const qn_step_rows *rows, const split_pass *s, const float *q,
                        float *out)
{
    qn_cpu_begin_phase(c, m);
    size_t mine = qn_cpu_claim(c, m), item = 0;
    for (size_t row = s->begin; row < s->end;) {
        size_t n_rows = block_rows(h, rows, row, s->end), first = SIZE_MAX, last = 0;
        for (size_t r = row; r < row + n_rows; r++) {
            size_t from = first_visible(h, rows->position[r]) / QN_ATTN_CHUNK, to = rows->position[r] / QN_ATTN_CHUNK;
            first = from < first ? from : first;
            last = to > last ? to : last;
        }
        size_t n = last - first + 1;
        for (; mine < item + n * h->n_kv_heads; mine = qn_cpu_claim(c, m)) {
            size_t k = mine - item;
            attend_part(c, h, rows, s, row, n_rows, k % h->n_kv_heads, first + k / h->n_kv_heads, q, c->lanes[m.index].scratch);
        }
        item += n * h->n_kv_heads;
        row += n_rows;
    }
    qn_cpu_end_phase(c, m);
    size_t begin, end;
    qn_member_span(m, (s->end - s->begin) * h->n_heads, 1, &begin, &end);
    for (size_t i = s->begin * h->n_heads + begin; i < s->begin * h->n_heads + end; i++) {
        size_t row = i / h->n_heads;
        size_t first = first_visible(h, rows->position[row]) / QN_ATTN_CHUNK, last = rows->position[row] / QN_ATTN_CHUNK;
        merge_parts(c, h, s, row, i % h->n_heads, first, last, out + i * h->head_dim);
    }
    qn_member_barrier(m);
}

/* As many rows a pass as the memory of parts holds: QN_CPU_SPLIT_ROWS of the longest context, more of a shorter one. */
static void attend_split(qn_cpu *c, qn_member m, const qn_heads *h, const qn_step_rows *rows, size_t deepest, const float *q, float *out)
{
    split_pass s = {.n_parts = deepest / QN_ATTN_CHUNK + 1};
    size_t most = QN_CPU_SPLIT_ROWS * c->split_parts / s.n_parts;
    for (; s.begin < rows->n_rows; s.begin = s.end) {
        s.end = rows->n_rows - s.begin < most ? rows->n_rows : s.begin + most;
        attend_pass(c, m, h, rows, &s, q, out);
    }
}

/* Whether blocks of rows would be too few items for the threads. */
static bool blocks_are_few(const qn_heads *h, const qn_step_rows *rows, size_t n_threads)
{
    size_t n = 0;
    for (size_t row = 0; row < rows->n_rows && n < SPLIT_BELOW * n_threads; n += h->n_kv_heads) {
        row += block_rows(h, rows, row, rows->n_rows);
    }
    return n < SPLIT_BELOW * n_threads;
}

void qn_cpu_attention(qn_cpu *c, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, float *out)
{
    size_t deepest = 0;
    for (size_t r = 0; r < rows->n_rows; r++) {
        deepest = rows->position[r] > deepest ? rows->position[r] : deepest;
    }
    bool few = rows->n_rows <= QN_CPU_SPLIT_ROWS || blocks_are_few(h, rows, m.n_threads);
    if (few && m.n_threads > 1 && deepest >= 2 * QN_ATTN_CHUNK) {
        attend_split(c, m, h, rows, deepest, q, out);
    } else {
        attend_blocks(c, m, h, rows, q, out);
    }
}
