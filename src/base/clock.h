/* clock.h - time. */
#ifndef QN_BASE_CLOCK_H
#define QN_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Monotonic nanoseconds. */
uint64_t qn_clock_ns(void);
/* Seconds between two qn_clock_ns readings. */
static inline double qn_clock_seconds(uint64_t begin_ns, uint64_t end_ns) { return (double)(end_ns - begin_ns) * 1e-9; }
/* "2026-11-21T12:00:00Z" (RFC 3339, UTC) into out[21]. SOURCE_DATE_EPOCH is respected. */
void qn_clock_rfc3339(char out[21]);
/* Peak resident set of this process in bytes, 0 if unknown. */
uint64_t qn_peak_rss_bytes(void);

#endif
