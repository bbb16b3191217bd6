/* numa.c - see numa.h. The only file that asks the system about memory nodes. */
#define _GNU_SOURCE
#include "base/numa.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/syscall.h>
#endif

#include "base/alloc.h"
#include "base/memory_info.h"

enum {
    NODES_MAX = 1024,
    LIST_BYTES = 16 << 10, /* of a list of processors or nodes: more than the kernel writes for 4096 of them, each second one */
    ASKED_PAGES = 512,     /* in one call */
    SAMPLED_PAGES = 16     /* where one page of so many is at home everywhere, all are */
};

/* Of Linux's calls about memory, set_mempolicy(2) and move_pages(2); its own header is not everywhere. */
enum { POLICY_DEFAULT = 0, POLICY_INTERLEAVE = 3, POLICY_LOCAL = 4, POLICY_MEMS_ALLOWED = 1 << 2, MOVE_OWN = 1 << 1 };

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

static quern_status read_wish(bool *off, quern_error *err)
{
    const char *wish = getenv("QUERN_NUMA");
    *off = wish != NULL && strcmp(wish, "off") == 0;
    if (wish != NULL && wish[0] != '\0' && !*off && strcmp(wish, "on") != 0) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "QUERN_NUMA: '%s', expected on or off", wish);
    }
    return QUERN_OK;
}

/* Whether pages lie where they are touched first, and which nodes this process may have memory of. */
static void read_policy(qn_numa *numa)
{
#if defined(__linux__) && defined(SYS_get_mempolicy)
    unsigned long allowed[NODES_MAX / (sizeof(unsigned long) * CHAR_BIT)] = {0};
    const qn_processors nodes = {allowed, sizeof allowed / sizeof allowed[0]};
    int mode = -1;
    numa->places = syscall(SYS_get_mempolicy, &mode, NULL, 0ul, NULL, 0ul) == 0 && (mode == POLICY_DEFAULT || mode == POLICY_LOCAL) &&
                   syscall(SYS_get_mempolicy, NULL, allowed, (unsigned long)NODES_MAX, NULL, (unsigned long)POLICY_MEMS_ALLOWED) == 0;
    for (size_t i = 0; numa->places && i < numa->n_nodes; i++) {
        numa->nodes[i].has_memory = numa->nodes[i].has_memory && qn_processors_has(&nodes, (size_t)numa->nodes[i].id);
    }
#else
    (void)numa;
#endif
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
    bool off;
    QN_TRY(read_wish(&off, err));
    if (off || !qn_affinity_get(&allowed)) {
        goto done;
    }
    text = qn_malloc(LIST_BYTES);
    if (text == NULL) {
        QN_FAIL_MEMORY(err, "the memory nodes", (size_t)LIST_BYTES);
    }
    /* lists of nodes are written as lists of processors are */
    read_list(folder, "online", text);
    bool complete = qn_processors_from_list(text, &any, &online);
    const size_t n = qn_processors_count(&online);
    if (complete && n < 2) {
        goto done;
    }
    read_list(folder, "has_memory", text);
    complete = complete && qn_processors_from_list(text, &any, &with_memory);
    numa = qn_calloc(1, sizeof *numa + n * sizeof numa->nodes[0]);
    complete = complete && numa != NULL;
    for (size_t id = 0; complete && id < NODES_MAX; id++) {
        complete = !qn_processors_has(&online, id) || add_node(numa, folder, (int)id, qn_processors_has(&with_memory, id), &allowed, text);
    }
    if (!complete) {
        QN_FAIL_MEMORY(err, "the memory nodes", sizeof *numa + n * sizeof numa->nodes[0]);
    }
    if (numa->n_nodes >= 2) {
        read_policy(numa);
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

/* Of every step-th of n_pages pages, ASKED_PAGES of them at most: those that are in memory, but elsewhere than in node `id`; how many. */
static size_t find_strangers(int id, uintptr_t first, size_t n_pages, size_t page, size_t step, void **strangers)
{
    void *asked[ASKED_PAGES];
    int where[ASKED_PAGES];
    size_t n = 0, found = 0;
    for (size_t i = 0; i < n_pages && n < ASKED_PAGES; i += step) {
        asked[n++] = (void *)(first + i * page);
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

/* How many of n pages came to node `id`; *refused if the system does not let us move any. */
static size_t move_pages_to(int id, void **pages, size_t n, bool *refused)
{
    enum { UNTRIED = INT_MIN };
    int to[ASKED_PAGES], where[ASKED_PAGES];
    size_t moved = 0;
    for (size_t done = 0; done < n && !*refused;) {
        for (size_t i = done; i < n; i++) {
            to[i] = id;
            where[i] = UNTRIED;
        }
        *refused = syscall(SYS_move_pages, 0, n - done, pages + done, to + done, where + done, MOVE_OWN) < 0;
        size_t i = done;
        for (; i < n && where[i] != UNTRIED; i++) {
            moved += where[i] == id;
        }
        done = i > done ? i : done + 1; /* it ends a call behind pages that it could not move */
    }
    return moved;
}

size_t qn_numa_bring(const qn_numa *numa, size_t node, const void *data, size_t size, size_t granule)
{
    void *strangers[ASKED_PAGES];
    size_t moved = 0;
    if (numa == NULL || !numa->places || !numa->nodes[node].has_memory) {
        return 0;
    }
    const size_t page = qn_page_bytes(), unit = granule > page ? granule : page;
    const uintptr_t first = ((uintptr_t)data + unit / 2 - 1) / unit * unit, end = ((uintptr_t)data + size + unit / 2 - 1) / unit * unit;
    const size_t n_pages = (end - first) / page;
    const int id = numa->nodes[node].id;
    bool found = false, refused = false;
    for (size_t at = 0; at < n_pages && !found; at += ASKED_PAGES * SAMPLED_PAGES) {
        found = find_strangers(id, first + at * page, n_pages - at, page, SAMPLED_PAGES, strangers) > 0;
    }
    for (size_t at = 0; found && at < n_pages && !refused; at += ASKED_PAGES) {
        const size_t n = find_strangers(id, first + at * page, n_pages - at, page, 1, strangers);
        moved += move_pages_to(id, strangers, n, &refused);
    }
    return moved * page;
}

/* advice: without it pages come from the node of who touches them first */
static void set_policy(const qn_numa *numa, void *data, size_t size, int policy)
{
    unsigned long mask[NODES_MAX / (sizeof(unsigned long) * CHAR_BIT)] = {0};
    const size_t bits = sizeof mask[0] * CHAR_BIT, page = qn_page_bytes();
    const uintptr_t first = qn_align_up((uintptr_t)data, page), end = ((uintptr_t)data + size) & ~(page - 1);
    for (size_t i = 0; policy != POLICY_DEFAULT && i < numa->n_nodes; i++) {
        if (numa->nodes[i].has_memory) {
            mask[(size_t)numa->nodes[i].id / bits] |= 1ul << (size_t)numa->nodes[i].id % bits;
        }
    }
    if (end > first) { /* the system counts one bit too many */
        (void)syscall(SYS_mbind, first, end - first, policy, policy != POLICY_DEFAULT ? mask : NULL,
                      policy != POLICY_DEFAULT ? NODES_MAX + 1ul : 0ul, 0);
    }
}

void qn_numa_interleave(const qn_numa *numa, void *data, size_t size)
{
    if (numa != NULL && numa->places) {
        set_policy(numa, data, size, POLICY_INTERLEAVE);
    }
}

void qn_numa_forget(const qn_numa *numa, void *data, size_t size)
{
    if (numa != NULL && numa->places) {
        set_policy(numa, data, size, POLICY_DEFAULT);
    }
}

#else

size_t qn_numa_bring(const qn_numa *numa, size_t node, const void *data, size_t size, size_t granule)
{
    (void)numa, (void)node, (void)data, (void)size, (void)granule;
    return 0;
}

void qn_numa_interleave(const qn_numa *numa, void *data, size_t size) { (void)numa, (void)data, (void)size; }
void qn_numa_forget(const qn_numa *numa, void *data, size_t size) { (void)numa, (void)data, (void)size; }

#endif
