/* numa.h - machines whose processors have memory of their own: nodes, who works on which, and what lies where.
 *
 * Reading another node's memory takes longer and shares the link between them, so a node's threads should find what they read in their own. One rule
 * says where that is, for those who place pages and for those who hand out work: of anything that is cut into parts, a node has the part that its
 * share of the processors is worth (qn_numa_cut). A wrong place costs time, never a result: everything here is advice, and a system that refuses it
 * is left alone.
 *
 * NULL stands for a machine with one memory, or one of which nothing is known; every function takes it. */
#ifndef QN_BASE_NUMA_H
#define QN_BASE_NUMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/affinity.h"
#include "base/error.h"

#define QN_NUMA_NODES "/sys/devices/system/node" /* "online", "has_memory", "nodeN/cpulist" */

typedef struct qn_numa_node {
    int id;                        /* the system's number */
    qn_processors processors;      /* that the process may use; never empty */
    size_t n_processors, n_before; /* n_before: of the nodes before this one */
    bool has_memory;               /* that this process may use */
} qn_numa_node;

typedef struct qn_numa {
    size_t n_nodes, n_processors;
    bool places; /* pages may be placed: nobody has asked for another policy (numactl --membind), and the system tells */
    qn_numa_node nodes[];
} qn_numa;

/* The nodes that have processors of the calling thread's affinity; NULL if fewer than two have, or QUERN_NUMA is "off" (anything but that, "on" and
 * nothing is QUERN_ERROR_USAGE). `folder`: QN_NUMA_NODES, or a test's own. */
quern_status qn_numa_detect(qn_numa **out, const char *folder, quern_error *err);
void qn_numa_destroy(qn_numa *numa);
size_t qn_numa_n_nodes(const qn_numa *numa); /* at least 1 */

/* The node that member i of a team works on: as many members a node as its processors are worth; ascending. Fewer members than nodes: all on 0. */
size_t qn_numa_node_of(const qn_numa *numa, size_t member, size_t n_members);
/* The part [*begin, *end) of n items that a node has, cut at multiples of `unit`. The parts are disjoint, in order, and cover [0, n). */
void qn_numa_cut(const qn_numa *numa, size_t node, size_t n, size_t unit, size_t *begin, size_t *end);

/* Moves to a node what other nodes have of [data, data + size), in granules: 4096 bytes, or as large as the pages are that the memory consists of, so that
 * none is in two parts. A granule belongs to whom its middle belongs. What is not in memory, or another process has mapped too, stays. Bytes moved. */
size_t qn_numa_bring(const qn_numa *numa, size_t node, const void *data, size_t size, size_t granule);
/* Pages of [data, data + size) that nobody has touched yet will come from all nodes in turn; qn_numa_forget before the memory is freed. */
void qn_numa_interleave(const qn_numa *numa, void *data, size_t size);
void qn_numa_forget(const qn_numa *numa, void *data, size_t size);

#endif
