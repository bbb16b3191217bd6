/* human_number.h - sizes, counts, durations and rates as people read them, three significant digits where they say something.
 */
#ifndef QN_BASE_HUMAN_NUMBER_H
#define QN_BASE_HUMAN_NUMBER_H

#include <stdint.h>

/* Each function writes into and returns buf. */
typedef char qn_number[32];
const char *qn_format_bytes(qn_number buf, uint64_t bytes);   /* "14.5 MiB" */
const char *qn_format_count(qn_number buf, uint64_t n);       /* "7.61 M" */
const char *qn_format_grouped(qn_number buf, uint64_t n);     /* "7,606,272" */
const char *qn_format_seconds(qn_number buf, double seconds); /* "85 ms", "1.24 s", "3:05" */
const char *qn_format_rate(qn_number buf, double per_second); /* "41.3", "512" */

#endif
