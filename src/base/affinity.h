/* affinity.h - which processors a thread may run on. Where the system does not tell, nothing is known and nothing can be bound. */
#ifndef QN_BASE_AFFINITY_H
#define QN_BASE_AFFINITY_H

#include <stdbool.h>
#include <stddef.h>

/* A set of processor numbers. */
typedef struct qn_processors {
    unsigned long *words;
    size_t n_words;
} qn_processors;

/* The calling thread's; false, and an empty set, where that is not known. */
bool qn_affinity_get(qn_processors *out);
/* The calling thread runs on these only from now on, as threads do that it starts. False if the system refuses. */
bool qn_affinity_set(const qn_processors *p);

/* Those of `among` that a list as the kernel writes it names ("0-3,8,10-11"); false when out of memory. */
bool qn_processors_from_list(const char *list, const qn_processors *among, qn_processors *out);
size_t qn_processors_count(const qn_processors *p);
bool qn_processors_equal(const qn_processors *a, const qn_processors *b);
void qn_processors_deinit(qn_processors *p);

#endif
