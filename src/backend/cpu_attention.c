/* cpu_attention.c - attention over a step: cut by (rows of a sequence, key/value head), or for few rows at depth by
 * (row, key/value head, chunk of 256 positions) with the chunks merged in order afterwards. Both ways give the same bits, because
 * the kernel's contract merges the same chunks in the same order. */
#include <string.h>

#include "backend/cpu_int.h"

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

/* Adds the queries of one row that read kv_head. */
static void add_row(query_block *b, const qn_heads *h, const qn_step_rows *rows, size_t row, size_t kv_head, const float *q, float *out)
{
    size_t group = h->n_heads / h->n_kv_heads;
    for (size_t g = 0; g < group; g++) {
        size_t at = (row * h->n_heads + kv_head * group + g) * h->head_dim;
        b->q[b->n] = q + at;
        b->out[b->n] = out + at;
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

/* Rows of one block: up to `most`, all of one sequence. */
static size_t block_rows(const qn_step_rows *rows, size_t row, size_t most)
{
    size_t n = 1;
    while (n < most && row + n < rows->n_rows && rows->view[row + n] == rows->view[row]) {
        n++;
    }
    return n;
}

static void attend_blocks(qn_cpu *c, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, float *out)
{
    size_t group = h->n_heads / h->n_kv_heads, most = QN_CPU_QUERY_BLOCK / group;
    most = most > 0 ? most : 1;
    query_block block;
    qn_cpu_begin_phase(c, m);
    size_t mine = qn_cpu_claim(c, m), item = 0;
    for (size_t row = 0; row < rows->n_rows;) {
        size_t n = block_rows(rows, row, most);
        for (; mine < item + h->n_kv_heads; mine = qn_cpu_claim(c, m)) {
            size_t kv_head = mine - item;
            block.n = 0;
            for (size_t i = 0; i < n; i++) {
                add_row(&block, h, rows, row + i, kv_head, q, out);
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

static float *part_at(const qn_cpu *c, const qn_heads *h, size_t row, size_t head, size_t part)
{
    return c->parts + ((row * h->n_heads + head) * c->split_parts + part) * (h->head_dim + 2);
}

static void attend_part(qn_cpu *c, const qn_heads *h, const qn_step_rows *rows, size_t row, size_t kv_head, size_t part, const float *q,
                        void *scratch)
{
    size_t group = h->n_heads / h->n_kv_heads;
    query_block block = {.n = 0};
    float ml[QN_CPU_QUERY_BLOCK][2];
    add_row(&block, h, rows, row, kv_head, q, NULL);
    for (size_t g = 0; g < group; g++) {
        block.out[g] = part_at(c, h, row, kv_head * group + g, part) + 2;
    }
    qn_attn_args args = make_args(&block, h, rows->view[row], kv_head, scratch);
    c->ops->attention_partial(&args, part, part + 1, &ml[0][0]);
    for (size_t g = 0; g < group; g++) {
        memcpy(block.out[g] - 2, ml[g], sizeof ml[g]);
    }
}

/* Chunks first .. last of one query, in order, then the division. */
static void merge_parts(const qn_cpu *c, const qn_heads *h, size_t row, size_t head, size_t first, size_t last, float *out)
{
    const float *p = part_at(c, h, row, head, first);
    float ml[2] = {p[0], p[1]};
    memcpy(out, p + 2, h->head_dim * sizeof *out);
    for (size_t part = first + 1; part <= last; part++) {
        p = part_at(c, h, row, head, part);
        c->ops->attention_merge(ml, out, p, p + 2, h->head_dim);
    }
    for (size_t d = 0; d < h->head_dim; d++) {
        out[d] /= ml[1];
    }
}

static void attend_split(qn_cpu *c, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, float *out)
{
    qn_cpu_begin_phase(c, m);
    size_t mine = qn_cpu_claim(c, m), item = 0;
    for (size_t row = 0; row < rows->n_rows; row++) {
        size_t first = first_visible(h, rows->position[row]) / QN_ATTN_CHUNK, n = rows->position[row] / QN_ATTN_CHUNK - first + 1;
        for (; mine < item + n * h->n_kv_heads; mine = qn_cpu_claim(c, m)) {
            size_t k = mine - item;
            attend_part(c, h, rows, row, k % h->n_kv_heads, first + k / h->n_kv_heads, q, c->lanes[m.index].scratch);
        }
        item += n * h->n_kv_heads;
    }
    qn_cpu_end_phase(c, m);
    size_t begin, end;
    qn_member_span(m, rows->n_rows * h->n_heads, 1, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        size_t row = i / h->n_heads;
        size_t first = first_visible(h, rows->position[row]) / QN_ATTN_CHUNK, last = rows->position[row] / QN_ATTN_CHUNK;
        merge_parts(c, h, row, i % h->n_heads, first, last, out + i * h->head_dim);
    }
    qn_member_barrier(m);
}

void qn_cpu_attention(qn_cpu *c, qn_member m, const qn_heads *h, const qn_step_rows *rows, const float *q, float *out)
{
    size_t deepest = 0;
    for (size_t r = 0; r < rows->n_rows; r++) {
        deepest = rows->position[r] > deepest ? rows->position[r] : deepest;
    }
    bool few = rows->n_rows <= QN_CPU_SPLIT_ROWS && h->n_heads / h->n_kv_heads <= QN_CPU_QUERY_BLOCK;
    if (few && m.n_threads > 1 && deepest >= 2 * QN_ATTN_CHUNK) {
        attend_split(c, m, h, rows, q, out);
    } else {
        attend_blocks(c, m, h, rows, q, out);
    }
}
