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
/* The same into a set that has room for it, such as a copy's; false, too, where it has not. Allocates nothing. */
bool qn_affinity_read(qn_processors *set);
/* The calling thread runs on these only from now on, as threads do that it starts. False if the system refuses. */
bool qn_affinity_set(const qn_processors *p);

/* Those of `among` that a list as the kernel writes it names ("0-3,8,10-11"); false when out of memory. */
bool qn_processors_from_list(const char *list, const qn_processors *among, qn_processors *out);
/* An empty set with room for as much as `like` has; false when out of memory. */
bool qn_processors_init(qn_processors *p, const qn_processors *like);
/* What two sets of one size have in common, into a third; false if that is nothing. */
bool qn_processors_common(const qn_processors *a, const qn_processors *b, qn_processors *out);
/* Takes those out of p that are in `gone`, a set of the same size. */
void qn_processors_remove(qn_processors *p, const qn_processors *gone);
/* Whether processor i is in it. */
bool qn_processors_has(const qn_processors *p, size_t i);
size_t qn_processors_count(const qn_processors *p);
bool qn_processors_equal(const qn_processors *a, const qn_processors *b);
void qn_processors_deinit(qn_processors *p);

#endif
