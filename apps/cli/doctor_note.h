/* doctor_note.h - what readings of memory allow to be said, and what would be noise in a precise dress. */
#ifndef QN_CLI_DOCTOR_NOTE_H
#define QN_CLI_DOCTOR_NOTE_H

#include <stdbool.h>
#include <stddef.h>

#include "quern/machine.h"

typedef enum qn_layout_kind {
    QN_LAYOUT_UNKNOWN, /* not compared */
    QN_LAYOUT_FREE,
    QN_LAYOUT_COSTS,
    QN_LAYOUT_NOISE /* the readings differ too much to tell */
} qn_layout_kind;

/* What the page layout of a mapped file costs, by medians of readings in turns. */
typedef struct qn_layout {
    qn_layout_kind kind;
    double mapped, plain;               /* medians, bytes/s */
    double mapped_spread, plain_spread; /* half the distance of the readings, as a part of the median */
    double cost;                        /* the part of plain memory's speed that is lost, 0 or more; NaN unless FREE or COSTS */
} qn_layout;

/* A cost is told where it is above 5 % and above both spreads; that there is none where it is not above 5 % and both spreads are at most 10 %. */
qn_layout qn_layout_judge(const quern_mapping_turns *turns);
/* What stands beside the mapped bandwidth. */
void qn_layout_note(const qn_layout *l, char *out, size_t size);
/* "free", "costs", "noise", or NULL */
const char *qn_layout_name(qn_layout_kind kind);

/* Whether one thread read faster than n_threads by more than 5 %: all of them have at least what one has. */
bool qn_one_above_all(double one, double all, size_t n_threads);
/* What stands beside the bandwidth of all threads. */
void qn_one_thread_note(double one, double all, size_t n_threads, char *out, size_t size);

#endif
