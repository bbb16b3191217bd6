/* progress.h - a bar on stderr: only on a terminal, never in the way of results.
 *
 *   quantize  ━━━━━━━━━━━━━━━━━━━━          62 %  tensor 37/310  9.1 GiB / 14.5 GiB  412 MiB/s  0:13 left
 *
 * Invariant: the line appears only for work that takes a while, is redrawn at most ten times a second, and is gone when the bar has ended.
 */
#ifndef QN_CLI_PROGRESS_H
#define QN_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "term.h"

typedef enum qn_progress_unit { QN_UNIT_BYTES, QN_UNIT_TOKENS, QN_UNIT_STEPS } qn_progress_unit;

typedef struct qn_progress {
    const qn_term *term;
    const char *label;
    qn_progress_unit unit;
    bool enabled;
    bool drawn;
    uint64_t started_ns, drawn_ns;
    const char *item; /* what is counted beside the amount ("tensor"), or NULL; left out where there is no room for it */
    size_t item_number, n_items;
} qn_progress;

/* Nothing is ever drawn if `enabled` is false or the stream is no terminal. label is borrowed. */
void qn_progress_begin(qn_progress *p, const qn_term *term, bool enabled, const char *label, qn_progress_unit unit);
/* total 0 = unknown. */
void qn_progress_update(qn_progress *p, uint64_t done, uint64_t total);
/* With the next update: it is item `number` of n, counted from 1. name is borrowed. */
void qn_progress_set_item(qn_progress *p, const char *name, size_t number, size_t n);
/* Removes the bar. */
void qn_progress_end(qn_progress *p);

/* The line for a state, without escape sequences except colours; `seconds` since the beginning, `columns` wide at most. */
void qn_progress_format(const qn_progress *p, uint64_t done, uint64_t total, double seconds, size_t columns, qn_buf *out);

#endif
