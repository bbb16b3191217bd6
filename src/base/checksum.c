/* checksum.c - see checksum.h. Four independent lanes of a multiply and a rotation each, so that a core keeps up with memory. */
#include "base/checksum.h"

#include <string.h>

#include "base/bytes.h"

static const uint64_t odd_a = 0x9e3779b97f4a7c15u, odd_b = 0xd6e8feb86659fd93u;

static uint64_t rotate(uint64_t x, unsigned n) { return x << n | x >> (64 - n); }

/* Every step can be undone, so two blocks that differ never come together in a lane. */
static uint64_t mix(uint64_t lane, uint64_t word) { return rotate((lane ^ word) * odd_a, 29) + odd_b; }

static void add_block(qn_checksum *c, const uint8_t *p)
{
    for (size_t i = 0; i < 4; i++) {
        c->lane[i] = mix(c->lane[i], qn_load_u64(p + 8 * i));
    }
}

void qn_checksum_init(qn_checksum *c) { *c = (qn_checksum){{0}, 0, {0}}; }

void qn_checksum_update(qn_checksum *c, const void *data, size_t size)
{
    const uint8_t *p = data;
    size_t waiting = (size_t)(c->n_bytes % QN_CHECKSUM_BLOCK);
    c->n_bytes += size;
    if (waiting > 0) {
        size_t n = QN_CHECKSUM_BLOCK - waiting < size ? QN_CHECKSUM_BLOCK - waiting : size;
        memcpy(c->tail + waiting, p, n);
        p += n;
        size -= n;
        if (waiting + n < QN_CHECKSUM_BLOCK) {
            return;
        }
        add_block(c, c->tail);
    }
    for (; size >= QN_CHECKSUM_BLOCK; size -= QN_CHECKSUM_BLOCK, p += QN_CHECKSUM_BLOCK) {
        add_block(c, p);
    }
    if (size > 0) {
        memcpy(c->tail, p, size);
    }
}

uint64_t qn_checksum_value(const qn_checksum *c)
{
    qn_checksum last = *c;
    size_t waiting = (size_t)(c->n_bytes % QN_CHECKSUM_BLOCK);
    if (waiting > 0) {
        memset(last.tail + waiting, 0, QN_CHECKSUM_BLOCK - waiting);
        add_block(&last, last.tail);
    }
    uint64_t sum = last.n_bytes;
    for (size_t i = 0; i < 4; i++) {
        sum = mix(sum, last.lane[i]);
    }
    sum = (sum ^ sum >> 32) * odd_b;
    return sum ^ sum >> 29;
}
