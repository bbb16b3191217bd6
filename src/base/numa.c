/* numa.c - see numa.h. The only file that asks the system about memory nodes. */
#define _GNU_SOURCE
#include "base/numa.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#endif

#include "base/alloc.h"

enum {
    NODES_MAX = 1024,
    LIST_BYTES = 16 << 10, /* of a list of processors or nodes: more than the kernel writes for 4096 of them, each second one */
    ASKED_PAGES = 512,     /* in one call */
    SAMPLED_PAGES = 16     /* a span in which one page of so many is at home everywhere is at home */
};

/* ---- what the system says ---- */

/* The first line of FOLDER/NAME, "" if there is none. */
static void read_list(const char *folder, const char *name, char text[LIST_BYTES])
{
    char path[4096 + 64];
    text[0] = '\0';
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
    if (f != NULL) {
        if (fgets(text, LIST_BYTES, f) == NULL) {
            text[0] = '\0';
        }
        (void)fclose(f);
    }
}

/* Adds node `id` unless none of its processors may be used. */
static bool add_node(qn_numa *numa, const char *folder, int id, bool has_memory, const qn_processors *allowed, char text[LIST_BYTES])
{
    char name[64];
    (void)snprintf(name, sizeof name, "node%d/cpulist", id);
    read_list(folder, name, text);
    qn_numa_node node = {.id = id, .n_before = numa->n_processors, .has_memory = has_memory};
    if (!qn_processors_from_list(text, allowed, &node.processors)) {
        return false;
    }
    node.n_processors = qn_processors_count(&node.processors);
    if (node.n_processors == 0) {
        qn_processors_deinit(&node.processors);
        return true;
    }
    numa->n_processors += node.n_processors;
    numa->nodes[numa->n_nodes++] = node;
    return true;
}

static bool is_set(const qn_processors *set, size_t i)
{
    const size_t bits = sizeof *set->words * CHAR_BIT;
    return (set->words[i / bits] >> i % bits & 1u) != 0;
}

static bool is_switched_off(void)
{
    const char *wish = getenv("QUERN_NUMA");
    return wish != NULL && strcmp(wish, "off") == 0;
}

quern_status qn_numa_detect(qn_numa **out, const char *folder, quern_error *err)
{
    quern_status status = QUERN_OK;
    unsigned long every[NODES_MAX / (sizeof(unsigned long) * CHAR_BIT)];
    const qn_processors any = {every, sizeof every / sizeof every[0]};
    qn_processors allowed = {0}, online = {0}, with_memory = {0};
    qn_numa *numa = NULL;
    char *text = NULL;
    *out = NULL;
    memset(every, 0xff, sizeof every);
    if (is_switched_off() || !qn_affinity_get(&allowed)) {
        goto done;
    }
    text = qn_malloc(LIST_BYTES);
    if (text == NULL) {
        QN_FAIL_MEMORY(err, "the memory nodes", (size_t)LIST_BYTES);
    }
    /* lists of nodes are written as lists of processors are */
    read_list(folder, "online", text);
    bool complete = qn_processors_from_list(text, &any, &online);
    read_list(folder, "has_memory", text);
    complete = complete && qn_processors_from_list(text, &any, &with_memory);
    size_t n = complete ? qn_processors_count(&online) : 0;
    if (complete && n < 2) {
        goto done;
    }
    numa = qn_calloc(1, sizeof *numa + n * sizeof numa->nodes[0]);
    complete = complete && numa != NULL;
    for (size_t id = 0; complete && id < NODES_MAX; id++) {
        complete = !is_set(&online, id) || add_node(numa, folder, (int)id, is_set(&with_memory, id), &allowed, text);
    }
    if (!complete) {
        QN_FAIL_MEMORY(err, "the memory nodes", sizeof *numa + n * sizeof numa->nodes[0]);
    }
    if (numa->n_nodes >= 2) {
        *out = numa;
        numa = NULL;
    }
done:
    qn_processors_deinit(&allowed);
    qn_processors_deinit(&online);
    qn_processors_deinit(&with_memory);
    qn_free(text);
    qn_numa_destroy(numa);
    return status;
}

void qn_numa_destroy(qn_numa *numa)
{
    if (numa == NULL) {
        return;
    }
    for (size_t i = 0; i < numa->n_nodes; i++) {
        qn_processors_deinit(&numa->nodes[i].processors);
    }
    qn_free(numa);
}

size_t qn_numa_n_nodes(const qn_numa *numa) { return numa != NULL ? numa->n_nodes : 1; }

/* ---- shares ---- */

size_t qn_numa_node_of(const qn_numa *numa, size_t member, size_t n_members)
{
    size_t node = 0;
    if (numa == NULL || n_members < numa->n_nodes) {
        return 0;
    }
    /* where the middle of the member's share of the processors lies */
    const size_t middle = (2 * member + 1) * numa->n_processors / (2 * n_members);
    while (node + 1 < numa->n_nodes && middle >= numa->nodes[node + 1].n_before) {
        node++;
    }
    return node;
}

void qn_numa_cut(const qn_numa *numa, size_t node, size_t n, size_t unit, size_t *begin, size_t *end)
{
    *begin = 0;
    *end = n;
    if (numa == NULL) {
        return;
    }
    const qn_numa_node *x = &numa->nodes[node];
    const size_t units = (n + unit - 1) / unit, whole = units / numa->n_processors, rest = units % numa->n_processors;
    const size_t before = x->n_before, until = x->n_before + x->n_processors;
    const size_t first = (before * whole + before * rest / numa->n_processors) * unit;
    const size_t last = (until * whole + until * rest / numa->n_processors) * unit;
    *begin = first < n ? first : n;
    *end = last < n ? last : n;
}

/* ---- pages ---- */

#if defined(__linux__) && defined(SYS_move_pages) && defined(SYS_mbind)

/* Every step-th page of [data, data + ASKED_PAGES pages) that is in memory but elsewhere than in node `id`; how many. */
static size_t find_strangers(int id, const uint8_t *data, size_t n_pages, size_t page, size_t step, void **strangers)
{
    void *asked[ASKED_PAGES];
    int where[ASKED_PAGES];
    size_t n = 0, found = 0;
    for (size_t i = 0; i < n_pages && n < ASKED_PAGES; i += step) {
        asked[n++] = (void *)(uintptr_t)(data + i * page);
    }
    if (syscall(SYS_move_pages, 0, n, asked, NULL, where, 0) != 0) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        if (where[i] >= 0 && where[i] != id) {
            strangers[found++] = asked[i];
        }
    }
    return found;
}

size_t qn_numa_bring(const qn_numa *numa, size_t node, const void *data, size_t size)
{
    const long page_said = sysconf(_SC_PAGESIZE);
    const size_t page = page_said > 0 ? (size_t)page_said : 4096, skip = (size_t)(-(uintptr_t)data & (page - 1));
    void *strangers[ASKED_PAGES];
    int to[ASKED_PAGES], where[ASKED_PAGES];
    size_t moved = 0;
    if (numa == NULL || !numa->nodes[node].has_memory || size < skip + page) {
        return 0;
    }
    const int id = numa->nodes[node].id;
    const uint8_t *first = (const uint8_t *)data + skip;
    const size_t n_pages = (size - skip) / page; /* one that a span shares with another one's is of no matter */
    bool found = false;
    for (size_t at = 0; at < n_pages && !found; at += ASKED_PAGES * SAMPLED_PAGES) {
        found = find_strangers(id, first + at * page, n_pages - at, page, SAMPLED_PAGES, strangers) > 0;
    }
    for (size_t at = 0; found && at < n_pages; at += ASKED_PAGES) {
        const size_t n = find_strangers(id, first + at * page, n_pages - at, page, 1, strangers);
        for (size_t i = 0; i < n; i++) {
            to[i] = id;
            where[i] = -1;
        }
        if (n > 0 && syscall(SYS_move_pages, 0, n, strangers, to, where, MPOL_MF_MOVE) < 0) {
            break; /* not allowed here */
        }
        for (size_t i = 0; i < n; i++) {
            moved += where[i] == id ? page : 0;
        }
    }
    return moved;
}

void qn_numa_interleave(const qn_numa *numa, void *data, size_t size)
{
    unsigned long mask[NODES_MAX / (sizeof(unsigned long) * CHAR_BIT)] = {0};
    const size_t bits = sizeof mask[0] * CHAR_BIT, page = 4096;
    uint8_t *first = (uint8_t *)qn_align_up((uintptr_t)data, page);
    for (size_t i = 0; i < qn_numa_n_nodes(numa) && numa != NULL; i++) {
        if (numa->nodes[i].has_memory) {
            mask[(size_t)numa->nodes[i].id / bits] |= 1ul << (size_t)numa->nodes[i].id % bits;
        }
    }
    if (numa != NULL && size >= 2 * page) {
        /* advice: without it pages come from the node of who touches them first. The system counts one bit too many. */
        (void)syscall(SYS_mbind, first, (size - page) & ~(page - 1), MPOL_INTERLEAVE, mask, (unsigned long)NODES_MAX + 1, 0);
    }
}

#else

size_t qn_numa_bring(const qn_numa *numa, size_t node, const void *data, size_t size)
{
    (void)numa, (void)node, (void)data, (void)size;
    return 0;
}

void qn_numa_interleave(const qn_numa *numa, void *data, size_t size) { (void)numa, (void)data, (void)size; }

#endif
