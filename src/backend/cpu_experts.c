/* cpu_experts.c - the mixture-of-experts block: route, sort rows by expert, multiply each expert's rows together, add up in rank order.
 *
 * Only chosen experts' weights are read. An output row's bits depend on its own input and route alone: sorting changes where a row is
 * computed, never how. */
#include <string.h>

#include "backend/cpu_int.h"
#include "kernels/vmath.h"

/* Output rows of an expert's matrix that are claimed at a time. */
enum { EXPERT_CHUNK_ROWS = 128 };

/* The n_used largest logits, best first, the lowest index on ties; then softmax over all experts at the chosen ones, normalised if asked.
 * Sums run in index order (chosen: rank order). */
static void route_row(const qn_experts *e, const float *logits, int32_t *chosen, float *weight)
{
    float max = logits[0], sum = 0.0f;
    for (size_t i = 1; i < e->n_experts; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    for (size_t i = 0; i < e->n_experts; i++) {
        sum += qn_expf(logits[i] - max);
    }
    for (size_t rank = 0; rank < e->n_used; rank++) {
        size_t best = e->n_experts;
        for (size_t i = 0; i < e->n_experts; i++) {
            bool taken = false;
            for (size_t k = 0; k < rank && !taken; k++) {
                taken = chosen[k] == (int32_t)i;
            }
            /* A NaN logit is taken like any other rather than leaving a rank empty; it spreads to the output, where it is reported. */
            if (!taken && (best == e->n_experts || logits[i] > logits[best])) {
                best = i;
            }
        }
        chosen[rank] = (int32_t)best;
        weight[rank] = qn_expf(logits[best] - max) / sum;
    }
    if (e->normalize) {
        float total = 0.0f;
        for (size_t rank = 0; rank < e->n_used; rank++) {
            total += weight[rank];
        }
        for (size_t rank = 0; rank < e->n_used; rank++) {
            weight[rank] /= total;
        }
    }
}

/* A counting sort of (row, rank) pairs by expert; rows stay in order within an expert. */
static void sort_slots(const qn_experts *e, size_t n_rows, qn_expert_buffers *b)
{
    size_t n = n_rows * e->n_used;
    memset(b->first, 0, (e->n_experts + 1) * sizeof *b->first);
    for (size_t i = 0; i < n; i++) {
        b->first[b->chosen[i] + 1]++;
    }
    for (size_t i = 0; i < e->n_experts; i++) {
        b->first[i + 1] += b->first[i];
    }
    for (size_t i = 0; i < n; i++) {
        b->slot[i] = b->first[b->chosen[i]]++;
    }
    for (size_t i = e->n_experts; i > 0; i--) {
        b->first[i] = b->first[i - 1];
    }
    b->first[0] = 0;
}

/* Copies one input row, in the forms both inputs have, to a slot. */
static void copy_row(const qn_input *from, size_t row, qn_input *to, size_t slot)
{
    memcpy(to->f + slot * to->n_cols, from->f + row * from->n_cols, to->n_cols * sizeof(float));
    for (int form = QN_FORM_I8_32; form < QN_FORM_COUNT; form++) {
        if ((to->mask >> form & 1u) != 0) {
            const qn_act *a = &from->forms[form], *b = &to->forms[form];
            memcpy(b->q + slot * b->q_stride, a->q + row * a->q_stride, b->q_stride * sizeof *b->q);
            memcpy(b->d + slot * b->d_stride, a->d + row * a->d_stride, b->d_stride * sizeof *b->d);
            memcpy(b->sum16 + slot * b->s_stride, a->sum16 + row * a->s_stride, b->s_stride * sizeof *b->sum16);
        }
    }
}

static void multiply_piece(qn_cpu *c, qn_lane *lane, const qn_matrix *w, size_t r0, size_t r1, const qn_input *in, size_t slot0,
                           size_t slot1, float *y)
{
    qn_cpu_multiply_rows(c, lane, w, r0, r1, &in->forms[qn_form_for(w, c->f32_activations)], slot0, slot1, y, w->n_rows);
}

/* Products of the experts that have rows, as far as their rows lie in a node's memory: piece number i is (expert, chunk of rows) in order. With
 * `second` both matrices per chunk. */
static void multiply_share(qn_cpu *c, qn_member m, size_t node, const qn_experts *e, const qn_matrix *first, float *y_first,
                           const qn_matrix *second, float *y_second, const qn_input *in, const qn_expert_buffers *b)
{
    size_t begin, end, item = 0, mine = qn_cpu_claim_of(c, m, node);
    qn_lane *lane = &c->lanes[m.index];
    qn_numa_cut(c->numa, node, first[0].n_rows, QN_MATMUL_ROW_UNIT, &begin, &end);
    const size_t per_expert = (end - begin + EXPERT_CHUNK_ROWS - 1) / EXPERT_CHUNK_ROWS;
    for (size_t i = 0; i < e->n_experts; i++) {
        if (b->first[i] == b->first[i + 1]) {
            continue;
        }
        for (; mine < item + per_expert; mine = qn_cpu_claim_of(c, m, node)) {
            size_t r0 = begin + (mine - item) * EXPERT_CHUNK_ROWS, r1 = r0 + EXPERT_CHUNK_ROWS < end ? r0 + EXPERT_CHUNK_ROWS : end;
            multiply_piece(c, lane, &first[i], r0, r1, in, b->first[i], b->first[i + 1], y_first);
            if (second != NULL) {
                multiply_piece(c, lane, &second[i], r0, r1, in, b->first[i], b->first[i + 1], y_second);
            }
        }
        item += per_expert;
    }
}

static void multiply_experts(qn_cpu *c, qn_member m, const qn_experts *e, const qn_matrix *first, float *y_first, const qn_matrix *second,
                             float *y_second, const qn_input *in, const qn_expert_buffers *b)
{
    qn_cpu_begin_phase(c, m);
    for (size_t turn = 0; turn < c->n_nodes; turn++) {
        multiply_share(c, m, qn_cpu_node_in_turn(c, m, turn), e, first, y_first, second, y_second, in, b);
    }
    qn_cpu_end_phase(c, m);
}

static void gate_slots(qn_cpu *c, qn_member m, size_t n_slots, qn_expert_buffers *b)
{
    size_t n = b->mid.n_cols, begin, end;
    qn_member_span(m, n_slots, 1, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        c->ops->silu_mul(b->mid.f + i * n, b->gate + i * n, b->up + i * n, n);
        qn_cpu_quantize_rows(c, &b->mid, i, i + 1);
    }
    qn_member_barrier(m);
}

/* x (+)= sum over ranks in order, each element one fmaf chain from 0. The first rank's own row serves as the running sum. */
static void combine_row(const qn_cpu *c, const qn_experts *e, const qn_expert_buffers *b, size_t row, size_t n, float *x, bool keep)
{
    const size_t at = row * e->n_used;
    float *sum = b->out + (size_t)b->slot[at] * n;
    for (size_t i = 0; i < n; i++) {
        sum[i] *= b->weight[at]; /* fmaf(w, v, 0): the product rounded once */
    }
    for (size_t rank = 1; rank < e->n_used; rank++) {
        c->ops->axpy(sum, b->weight[at + rank], b->out + (size_t)b->slot[at + rank] * n, n);
    }
    if (keep) {
        c->ops->add(x, sum, n);
    } else {
        memcpy(x, sum, n * sizeof *x);
    }
}

void qn_cpu_mix_experts(qn_backend *backend, qn_member m, const qn_experts *e, const qn_input *input, size_t n_rows, qn_expert_buffers *b,
                        float *x, bool keep)
{
    qn_cpu *c = (qn_cpu *)backend;
    size_t begin, end, hidden = input->n_cols, n_slots = n_rows * e->n_used;
    qn_member_span(m, n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        route_row(e, b->router + r * e->n_experts, b->chosen + r * e->n_used, b->weight + r * e->n_used);
    }
    qn_member_barrier(m);
    if (m.index == 0) {
        sort_slots(e, n_rows, b);
    }
    qn_member_barrier(m);
    qn_member_span(m, n_slots, 1, &begin, &end);
    for (size_t k = begin; k < end; k++) {
        copy_row(input, k / e->n_used, &b->in, b->slot[k]);
    }
    qn_member_barrier(m);
    multiply_experts(c, m, e, e->gate, b->gate, e->up, b->up, &b->in, b);
    gate_slots(c, m, n_slots, b);
    multiply_experts(c, m, e, e->down, b->out, NULL, NULL, &b->mid, b);
    qn_member_span(m, n_rows, 1, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        combine_row(c, e, b, r, hidden, x + r * hidden, keep);
    }
    qn_member_barrier(m);
}
