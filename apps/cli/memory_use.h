/* memory_use.h - how much memory this process has, of its own and of mapped files. */
#ifndef QN_CLI_MEMORY_USE_H
#define QN_CLI_MEMORY_USE_H

#include <stdbool.h>
#include <stdint.h>

/* Resident bytes that are backed by no file; 0 where the system does not tell. */
uint64_t qn_private_memory_bytes(void);
/* Resident bytes of mapped files; 0 where the system does not tell. */
uint64_t qn_mapped_memory_bytes(void);

/* Readings around the opening of a model. */
typedef struct qn_memory_marks {
    uint64_t before_model, after_model;
} qn_memory_marks;

/* The most that was in memory at once, without what was there in pauses: what measuring itself needs does not count. Begins zeroed, running. */
typedef struct qn_memory_peak {
    uint64_t bytes;
    bool cannot_forget; /* the system keeps a pause's peak: from then on only what is in memory when a stretch ends is known */
} qn_memory_peak;

void qn_memory_peak_pause(qn_memory_peak *p);
void qn_memory_peak_go_on(qn_memory_peak *p);

#endif
