/* checksum.h - a fast checksum of bytes, to find damage (torn writes, flipped bits) and nothing else: it is easy to forge.
 *
 * Depends on the bytes only and not on how they were cut into updates.
 */
#ifndef QN_BASE_CHECKSUM_H
#define QN_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

enum { QN_CHECKSUM_BLOCK = 32 };

typedef struct qn_checksum {
    uint64_t lane[4];
    uint64_t n_bytes;
    uint8_t tail[QN_CHECKSUM_BLOCK]; /* n_bytes % 32 of them */
} qn_checksum;

/* All zeros is a good beginning too. */
void qn_checksum_init(qn_checksum *c);
void qn_checksum_update(qn_checksum *c, const void *data, size_t size);
/* Of all so far; more may follow. */
uint64_t qn_checksum_value(const qn_checksum *c);

#endif
