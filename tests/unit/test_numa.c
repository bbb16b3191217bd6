/* test_numa.c - memory nodes: what the system's lists say, who works where, the same bits on any layout; and, on a machine that has several nodes (or in
 * the emulated one of tools/check-numa.sh), that pages really lie where they are read. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "golden_run.h"
#include "test_files.h"

#include "base/cpu.h"
#include "base/numa.h"
#include "base/page_cache.h"
#include "base/thread_pool.h"
#include "engine/engine_int.h"
#include "model/model_int.h"
#include "quern/machine.h"

/* ---- a machine that is not there: these stand before the C library's ---- */

static const char *pretended_nodes; /* folder that stands for QN_NUMA_NODES; NULL: the real one */
static size_t pretended_processors; /* 0: the real ones */

FILE *fopen(const char *path, const char *mode)
{
    char own[4096];
    const size_t n = strlen(QN_NUMA_NODES);
    if (pretended_nodes != NULL && strncmp(path, QN_NUMA_NODES, n) == 0) {
        (void)snprintf(own, sizeof own, "%s%s", pretended_nodes, path + n);
        path = own;
    }
    const int how = mode[0] == 'r' ? O_RDONLY : O_WRONLY | O_CREAT | O_TRUNC, fd = open(path, how | O_CLOEXEC, 0666);
    return fd >= 0 ? fdopen(fd, mode[0] == 'r' ? "r" : "w") : NULL;
}

int sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t *set)
{
    if (pretended_processors == 0) {
        return syscall(SYS_sched_getaffinity, pid, bytes, set) < 0 ? -1 : 0;
    }
    memset(set, 0, bytes);
    for (size_t i = 0; i < pretended_processors; i++) {
        CPU_SET_S(i, bytes, set);
    }
    return 0;
}

int sched_setaffinity(pid_t pid, size_t bytes, const cpu_set_t *set)
{
    if (pretended_processors != 0) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_sched_setaffinity, pid, bytes, set);
}

/* Six processors on three nodes of one, two and three, the third without memory; a fourth node has none of them. */
static char *lay_out_three_nodes(void)
{
    char *dir = scratch_create();
    put_file(dir, "online", "0,2-4\n");
    put_file(dir, "has_memory", "0,2,4\n");
    put_file(dir, "node0/cpulist", "5\n");
    put_file(dir, "node2/cpulist", "0-1,90-99\n");
    put_file(dir, "node3/cpulist", "2-4\n");
    put_file(dir, "node4/cpulist", "\n");
    return dir;
}

static qn_numa *detect(const char *folder)
{
    quern_error err;
    qn_numa *numa;
    assert_ok(qn_numa_detect(&numa, folder, &err));
    return numa;
}

/* ---- lists and shares ---- */

static void nodes_are_those_with_processors(void **state)
{
    (void)state;
    char *dir = lay_out_three_nodes();
    pretended_processors = 6;
    qn_numa *numa = detect(dir);
    assert_non_null(numa);
    assert_int_equal(numa->n_nodes, 3);
    assert_int_equal(numa->n_processors, 6);
    static const struct {
        int id;
        size_t n, before;
    } want[] = {{0, 1, 0}, {2, 2, 1}, {3, 3, 3}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(numa->nodes[i].id, want[i].id);
        assert_int_equal(numa->nodes[i].n_processors, want[i].n);
        assert_int_equal(numa->nodes[i].n_before, want[i].before);
        assert_int_equal(qn_processors_count(&numa->nodes[i].processors), want[i].n);
    }
    assert_true(numa->nodes[0].has_memory && !numa->nodes[2].has_memory);
    qn_numa_destroy(numa);
    pretended_processors = 2; /* both on node 2 */
    assert_null(detect(dir));
    pretended_processors = 3;
    numa = detect(dir);
    assert_int_equal(qn_numa_n_nodes(numa), 2);
    qn_numa_destroy(numa);
    pretended_processors = 6;
    assert_int_equal(setenv("QUERN_NUMA", "off", 1), 0);
    assert_null(detect(dir));
    assert_int_equal(setenv("QUERN_NUMA", "on", 1), 0);
    numa = detect(dir);
    assert_non_null(numa);
    qn_numa_destroy(numa);
    quern_error said;
    assert_int_equal(setenv("QUERN_NUMA", "0", 1), 0);
    assert_int_equal(qn_numa_detect(&numa, dir, &said), QUERN_ERROR_USAGE);
    assert_null(numa);
    assert_int_equal(unsetenv("QUERN_NUMA"), 0);
    for (uint64_t nth = 1;; nth++) { /* out of memory at each allocation in turn */
        quern_error err;
        qn_alloc_fail_at(nth);
        quern_status status = qn_numa_detect(&numa, dir, &err);
        const uint64_t made = qn_alloc_count();
        qn_alloc_fail_at(0);
        if (made < nth) {
            assert_int_equal(status, QUERN_OK);
            assert_non_null(numa);
            qn_numa_destroy(numa);
            break;
        }
        assert_null(numa);
        assert_true(status == QUERN_ERROR_MEMORY || (status == QUERN_OK && nth == 1)); /* the affinity: then nothing is known */
    }
    pretended_processors = 0;
    scratch_remove(dir);
}

/* Whatever stands in the lists: no node, or some, and an end. */
static void odd_lists_are_survived(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "",     "\n",   ",",   "-",  "0-",        "0--1", "1-0", "0,,1", "0-18446744073709551615", "99999999999999999999999",
        "0-1,", " 0-1", "0x1", "-5", "0-1\n2-3\n"};
    char *dir = lay_out_three_nodes();
    pretended_processors = 6;
    assert_null(detect(scratch_path(dir, "not there")));
    for (size_t i = 0; i < 2 * sizeof lists / sizeof lists[0]; i++) {
        put_file(dir, i % 2 == 0 ? "online" : "node2/cpulist", lists[i / 2]);
        qn_numa *numa = detect(dir);
        assert_true(qn_numa_n_nodes(numa) <= 6);
        qn_numa_destroy(numa);
        put_file(dir, "online", "0-4");
    }
    char *longest = malloc(1 << 20);
    assert_non_null(longest);
    memset(longest, '1', (1 << 20) - 1);
    longest[(1 << 20) - 1] = '\0';
    put_file(dir, "node2/cpulist", longest);
    free(longest);
    qn_numa_destroy(detect(dir));
    pretended_processors = 0;
    scratch_remove(dir);
}

static void parts_cover_everything_once(void **state)
{
    (void)state;
    char *dir = lay_out_three_nodes();
    pretended_processors = 6;
    qn_numa *numa = detect(dir);
    pretended_processors = 0;
    static const size_t sizes[] = {0, 1, 2, 15, 16, 17, 95, 96, 97, 1000, 151936, SIZE_MAX / 64}, units[] = {1, 16, 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t u = 0; u < 3; u++) {
            size_t at = 0, begin, end;
            for (size_t node = 0; node < 3; node++) {
                qn_numa_cut(numa, node, sizes[i], units[u], &begin, &end);
                assert_int_equal(begin, at);
                assert_true(begin <= end && (begin % units[u] == 0 || begin == sizes[i]));
                const size_t fair = sizes[i] / 6 * (node + 1);
                assert_true(end - begin <= fair + 2 * units[u] + 6 && end - begin + 2 * units[u] + 6 >= fair);
                at = end;
            }
            assert_int_equal(at, sizes[i]);
            qn_numa_cut(NULL, 0, sizes[i], units[u], &begin, &end);
            assert_true(begin == 0 && end == sizes[i]);
        }
    }
    for (size_t n = 1; n <= 40; n++) {
        size_t members[3] = {0}, last = 0;
        for (size_t i = 0; i < n; i++) {
            const size_t node = qn_numa_node_of(numa, i, n);
            assert_true(node >= last && node < 3);
            members[node]++;
            last = node;
        }
        for (size_t node = 0; node < 3 && n >= 3; node++) { /* rounded fairly */
            assert_true(6 * members[node] + 6 > n * (node + 1) && 6 * members[node] < n * (node + 1) + 6);
        }
        assert_true(n >= 3 || members[0] == n);
    }
    assert_int_equal(qn_numa_node_of(NULL, 7, 8), 0);
    qn_numa_destroy(numa);
    scratch_remove(dir);
}

/* ---- threads ---- */

typedef struct seen_nodes {
    const qn_numa *numa;
    bool right[8];
} seen_nodes;

static void look_around(void *arg, qn_member m)
{
    seen_nodes *seen = arg;
    qn_processors own;
    const bool known = qn_affinity_get(&own);
    seen->right[m.index] = known && m.node == qn_numa_node_of(seen->numa, m.index, m.n_threads) &&
                           qn_processors_equal(&own, &seen->numa->nodes[m.node].processors);
    qn_processors_deinit(&own);
}

/* The first two processors of this process, one a node, on the real machine. */
static char *lay_out_own_processors(void)
{
    char text[64];
    qn_processors own;
    size_t found[2], n = 0;
    assert_true(qn_affinity_get(&own));
    for (size_t i = 0; i < own.n_words * sizeof(long) * CHAR_BIT && n < 2; i++) {
        if (qn_processors_has(&own, i)) {
            found[n++] = i;
        }
    }
    qn_processors_deinit(&own);
    if (n < 2) {
        return NULL;
    }
    char *dir = scratch_create();
    put_file(dir, "online", "0-1\n");
    put_file(dir, "has_memory", "0-1\n");
    (void)snprintf(text, sizeof text, "%zu\n", found[0]);
    put_file(dir, "node0/cpulist", text);
    (void)snprintf(text, sizeof text, "%zu\n", found[1]);
    put_file(dir, "node1/cpulist", text);
    return dir;
}

/* The same for tests that are nothing without it. */
static char *two_own_nodes(void)
{
    char *dir = lay_out_own_processors();
    if (dir == NULL) {
        print_message("SKIP: two_processors: this process has one processor\n");
        skip();
    }
    return dir;
}

static void members_run_on_their_node(void **state)
{
    (void)state;
    quern_error err;
    qn_processors before, after;
    char *dir = two_own_nodes();
    qn_numa *numa = detect(dir);
    assert_int_equal(qn_numa_n_nodes(numa), 2);
    for (size_t n = 1; n <= 5; n++) {
        qn_pool *pool;
        assert_true(qn_affinity_get(&before));
        assert_ok(qn_pool_create_on(&pool, n, numa, &err));
        for (int run = 0; run < 3; run++) {
            seen_nodes seen = {.numa = numa};
            qn_pool_run(pool, look_around, &seen);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(seen.right[i], n >= 2); /* one thread is left alone */
            }
            assert_true(qn_affinity_get(&after));
            assert_true(qn_processors_equal(&before, &after));
            qn_processors_deinit(&after);
        }
        qn_pool_destroy(pool);
        qn_processors_deinit(&before);
    }
    qn_numa_destroy(numa);
    scratch_remove(dir);
}

static void bind_anew(void *arg, qn_member m)
{
    if (m.index == 0) {
        (void)qn_affinity_set(arg);
    }
}

/* Who has bound the calling thread, before a run or within it, is right. */
static void callers_stay_where_they_were_put(void **state)
{
    (void)state;
    quern_error err;
    qn_processors before, after;
    char *dir = two_own_nodes();
    qn_numa *numa = detect(dir);
    qn_pool *pool;
    assert_true(qn_affinity_get(&before));
    assert_ok(qn_pool_create_on(&pool, 2, numa, &err));
    qn_processors *const other = &numa->nodes[1].processors;
    assert_true(qn_affinity_set(other)); /* not one of member 0's node */
    seen_nodes seen = {.numa = numa};
    qn_pool_run(pool, look_around, &seen);
    assert_true(!seen.right[0] && seen.right[1]);
    assert_true(qn_affinity_get(&after) && qn_processors_equal(&after, other));
    qn_processors_deinit(&after);
    assert_true(qn_affinity_set(&before));
    qn_pool_run(pool, bind_anew, other);
    assert_true(qn_affinity_get(&after) && qn_processors_equal(&after, other));
    qn_processors_deinit(&after);
    assert_true(qn_affinity_set(&before));
    qn_processors_deinit(&before);
    qn_pool_destroy(pool);
    qn_numa_destroy(numa);
    scratch_remove(dir);
}

static void caches_are_counted(void **state)
{
    (void)state;
    char *dir = scratch_create();
    pretended_processors = 6;
    assert_int_equal(qn_cpu_last_level_cache_count(dir), 1); /* nothing is known */
    const size_t otherwise = qn_cpu_last_level_cache_bytes(dir);
    assert_true(otherwise >= 1 << 20);
    put_file(dir, "cpu0/cache/index3/size", "12288K\n");
    assert_int_equal(qn_cpu_last_level_cache_bytes(dir), 12 << 20);
    put_file(dir, "cpu0/cache/index3/size", "96M");
    assert_int_equal(qn_cpu_last_level_cache_bytes(dir), 96 << 20);
    put_file(dir, "cpu0/cache/index3/size", "nothing");
    assert_int_equal(qn_cpu_last_level_cache_bytes(dir), otherwise);
    static const char *const lists[] = {"0-1,8-9", "0-1,8-9", "2-3,10-11", "2-3,10-11", "4-5", "4-5"};
    for (size_t i = 0; i < 6; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "cpu%zu/cache/index3/shared_cpu_list", i);
        put_file(dir, name, lists[i]);
    }
    assert_int_equal(qn_cpu_last_level_cache_count(dir), 3);
    pretended_processors = 3;
    assert_int_equal(qn_cpu_last_level_cache_count(dir), 2);
    put_file(dir, "cpu2/cache/index3/shared_cpu_list", "7");
    assert_int_equal(qn_cpu_last_level_cache_count(dir), 1);
    pretended_processors = 0;
    scratch_remove(dir);
}

/* ---- whole models ---- */

enum { N_IDS = 70 };

static float *logits_of(const quern_model *m, size_t threads, size_t chunk)
{
    static int32_t ids[N_IDS];
    for (size_t i = 0; i < N_IDS; i++) {
        ids[i] = (int32_t)((i * 131 + 7) % 251);
    }
    const quern_engine_options opt = {.n_threads = threads, .n_ctx = 128, .n_batch = N_IDS};
    quern_engine *e = golden_engine(m, &opt);
    float *logits = golden_logits(e, ids, N_IDS, quern_model_get_info(m)->n_vocab, chunk);
    quern_engine_destroy(e);
    return logits;
}

static void bits_do_not_depend_on_nodes(void **state)
{
    (void)state;
    quern_error err;
    static const char *const files[] = {"gguf/quant/qwen3.Q4_K_M.gguf", "mlx/qwen3.q4_g64", "hf/qwen3_moe"};
    char *layouts[] = {lay_out_three_nodes(), lay_out_own_processors()};
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        if (qn_test_golden(files[f]) == NULL) {
            print_message("SKIP: %s: not beside the checkout\n", files[f]);
            continue;
        }
        quern_model *m = golden_open(qn_test_golden(files[f]));
        const size_t bytes = N_IDS * quern_model_get_info(m)->n_vocab * sizeof(float);
        float *want = logits_of(m, 1, N_IDS);
        for (size_t layout = 0; layout < 2; layout++) {
            if (layouts[layout] == NULL) {
                continue;
            }
            pretended_nodes = layouts[layout];
            pretended_processors = layout == 0 ? 6 : 0;
            quern_read_in r;
            assert_ok(quern_model_read_in(m, 0, NULL, NULL, &r, &err));
            for (size_t threads = 1; threads <= 7; threads += 2) {
                float *have = logits_of(m, threads, threads % 4 == 1 ? 1 : 37);
                if (memcmp(want, have, bytes) != 0) {
                    fail_msg("%s: other bits with %zu threads on layout %zu", files[f], threads, layout);
                }
                qn_free(have);
            }
            pretended_nodes = NULL;
            pretended_processors = 0;
        }
        qn_free(want);
        quern_model_close(m);
    }
    for (size_t i = 0; i < 2; i++) {
        if (layouts[i] != NULL) {
            scratch_remove(layouts[i]);
        }
    }
}

/* The members of an engine's steps run on their nodes, and a step allocates nothing for it. */
static void engines_bind_their_members(void **state)
{
    (void)state;
    quern_error err;
    char *dir = two_own_nodes();
    quern_model *m = golden_open(qn_test_golden("gguf/quant/qwen3.Q4_K_M.gguf"));
    float *logits = qn_malloc_array(quern_model_get_info(m)->n_vocab, sizeof *logits);
    const quern_engine_options opt = {.n_threads = 4, .n_ctx = 128};
    quern_sequence *s;
    pretended_nodes = dir;
    quern_engine *e = golden_engine(m, &opt);
    assert_int_equal(qn_numa_n_nodes(e->numa), 2);
    seen_nodes seen = {.numa = e->numa};
    e->backend->run(e->backend, look_around, &seen);
    for (size_t i = 0; i < 4; i++) {
        assert_true(seen.right[i]);
    }
    assert_ok(quern_sequence_create(&s, e, &err));
    qn_alloc_fail_at(0); /* counts from here */
    for (int32_t id = 0; id < 20; id++) {
        const quern_step_item item = {.sequence = s, .ids = &id, .n_ids = 1, .n_logits = 1, .logits = logits};
        assert_ok(quern_engine_step(e, &item, 1, &err));
    }
    assert_int_equal(qn_alloc_count(), 0);
    pretended_nodes = NULL;
    quern_sequence_destroy(s);
    quern_engine_destroy(e);
    qn_free(logits);
    quern_model_close(m);
    scratch_remove(dir);
}

static void machines_tell_their_nodes(void **state)
{
    (void)state;
    quern_error err;
    quern_machine machine;
    char *dir = lay_out_three_nodes();
    pretended_nodes = dir;
    pretended_processors = 6;
    assert_ok(quern_machine_detect(&machine, NULL, &err));
    pretended_nodes = NULL;
    pretended_processors = 0;
    assert_int_equal(machine.n_memory_nodes, 3);
    assert_int_equal(machine.memory_nodes[1].id, 2);
    assert_int_equal(machine.memory_nodes[2].n_cpus, 3);
    scratch_remove(dir);
}

/* ---- pages, where there are several nodes ---- */

/* How many of a span's whole pages lie in their part's own node, and in how many nodes any lie; only pages that are in memory. */
static size_t pages_at_home(const qn_numa *numa, const uint8_t *data, size_t size, size_t *present)
{
    size_t home = 0;
    *present = 0;
    for (size_t node = 0; node < numa->n_nodes; node++) {
        size_t begin, end;
        qn_numa_cut(numa, node, size, 1, &begin, &end);
        for (size_t at = qn_align_up(begin, 4096); at + 4096 <= end; at += 4096) {
            void *page = (void *)(uintptr_t)(data + at);
            int where = -1;
            (void)*(const volatile uint8_t *)page; /* pages that the system watches for its own balancing seem absent */
            assert_int_equal(syscall(SYS_move_pages, 0, 1ul, &page, NULL, &where, 0), 0);
            *present += where >= 0;
            home += where == numa->nodes[node].id;
        }
    }
    return home;
}

static qn_numa *real_nodes(void)
{
    qn_numa *numa = detect(QN_NUMA_NODES);
    if (numa == NULL) {
        print_message("SKIP: memory_nodes: this machine has one memory for all its processors\n");
        skip();
    }
    return numa;
}

/* With `cold`, out of the page cache, if the file system has one and lets it go. */
static uint8_t *map_file(const char *path, size_t size, bool cold)
{
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    if (cold) {
        assert_true(fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    }
    uint8_t *mapped = qn_pages_map(fd, size);
    assert_true(mapped != MAP_FAILED);
    (void)close(fd);
    return mapped;
}

/* n spans of `size` bytes each, in memory of which one node has all: brought to their nodes, and the second time there is nothing left to do. */
static void bring_spans(const qn_numa *numa, const char *name, uint8_t *data, size_t size, size_t n, bool exact)
{
    quern_error err;
    uint64_t moved = 0, again = 0;
    size_t present = 0, home = 0, before = 0;
    qn_pages *spans = malloc(n * sizeof *spans);
    assert_non_null(spans);
    for (size_t i = 0; i < n; i++) {
        size_t there;
        spans[i] = (qn_pages){data + i * size, size};
        before += pages_at_home(numa, spans[i].data, size, &there);
    }
    assert_ok(qn_pages_read_in(spans, n, numa, NULL, NULL, &moved, &err));
    for (size_t i = 0; i < n; i++) {
        size_t there;
        home += pages_at_home(numa, spans[i].data, size, &there);
        present += there;
    }
    assert_ok(qn_pages_read_in(spans, n, numa, NULL, NULL, &again, &err));
    print_message("%s, %zu x %zu bytes: %zu of %zu pages at home, then %zu; %zu bytes moved, then %zu\n", name, n, size, before, present,
                  home, (size_t)moved, (size_t)again);
    assert_true(moved > 0 && again <= moved / 50);
    assert_true(exact ? home >= present - present / 50 : home > present / 3); /* before, the larger of uneven nodes may have had more */
    free(spans);
}

/* A file that one node has written, and so has in its memory, and memory that one thread has touched. Plain memory is in huge pages, which hold parts of
 * several spans where these are small: then a page is one node's, and stays it. */
static void pages_are_brought_to_their_readers(void **state)
{
    (void)state;
    static const struct {
        size_t bytes, n;
        bool exact_in_huge_pages;
    } cases[] = {{24 << 20, 1, true}, {22 << 20, 2, false}, {9 << 20, 5, false}, {2304 << 10, 20, false}, {860160, 40, false}};
    qn_processors own;
    qn_numa *numa = real_nodes();
    assert_true(qn_affinity_get(&own));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t size = cases[i].bytes * cases[i].n;
        char *dir = scratch_create();
        const char *path = scratch_path(dir, "data");
        uint8_t *memory = qn_malloc_pages(size);
        assert_non_null(memory);
        assert_true(qn_affinity_set(&numa->nodes[numa->n_nodes - 1].processors));
        memset(memory, 7, size);
        write_file(path, memory, size);
        assert_true(qn_affinity_set(&own));
        uint8_t *mapped = map_file(path, size, false);
        bring_spans(numa, "mapped", mapped, cases[i].bytes, cases[i].n, true);
        bring_spans(numa, "plain", memory, cases[i].bytes, cases[i].n, cases[i].exact_in_huge_pages);
        assert_int_equal(munmap(mapped, size), 0);
        qn_free_aligned(memory);
        scratch_remove(dir);
    }
    qn_processors_deinit(&own);
    qn_numa_destroy(numa);
}

/* From a disk: every node's threads read their part, so that nothing need be moved. */
static void cold_pages_come_to_their_readers(void **state)
{
    (void)state;
    enum { BYTES = 120 << 20 };
    quern_error err;
    qn_numa *numa = real_nodes();
    char *dir = scratch_create();
    const char *path = scratch_path(dir, "data");
    uint8_t *bytes = malloc(BYTES);
    assert_non_null(bytes);
    memset(bytes, 3, BYTES);
    write_file(path, bytes, BYTES);
    free(bytes);
    uint8_t *mapped = map_file(path, BYTES, true);
    const qn_pages span = {mapped, BYTES};
    if (qn_pages_cold_bytes(&span, 1) > BYTES / 2) {
        uint64_t moved = 0;
        size_t present;
        assert_ok(qn_pages_read_in(&span, 1, numa, NULL, NULL, &moved, &err));
        const size_t home = pages_at_home(numa, mapped, BYTES, &present);
        print_message("cold: %zu of %zu pages at home, %zu bytes moved\n", home, present, (size_t)moved);
        assert_true(home >= present - present / 50);
        assert_true(moved <= BYTES / 4); /* a piece that another node's thread took in the end */
    } else {
        print_message("SKIP: cold_pages: this file system does not let go of a file\n");
    }
    assert_int_equal(munmap(mapped, BYTES), 0);
    qn_numa_destroy(numa);
    scratch_remove(dir);
}

/* An engine brings all of it together: a model's matrices by nodes, members on theirs, keys and values from all. */
static void engines_use_all_nodes(void **state)
{
    (void)state;
    quern_error err;
    quern_read_in r;
    qn_numa *numa = real_nodes();
    quern_model *m = golden_open(QUERN_SOURCE_DIR "/models/quern-coder-8m");
    assert_ok(quern_model_read_in(m, 0, NULL, NULL, &r, &err));
    size_t present = 0, home = 0, there;
    for (uint32_t i = 0; i < m->config.n_layers; i++) {
        const qn_matrix *const all[] = {&m->weights.layers[i].gate.w, &m->weights.layers[i].up.w, &m->weights.layers[i].down.w};
        for (size_t k = 0; k < 3; k++) {
            home += pages_at_home(numa, all[k]->data, all[k]->n_rows * all[k]->row_bytes, &there);
            present += there;
        }
    }
    print_message("model: %zu of %zu pages at home, %zu bytes moved\n", home, present, (size_t)r.moved_bytes);
    assert_true(present > 0 && home >= present - present / 20);
    const quern_engine_options opt = {.n_threads = 4, .n_ctx = 8192};
    quern_engine *e = golden_engine(m, &opt);
    assert_non_null(e->numa);
    seen_nodes seen = {.numa = e->numa};
    e->backend->run(e->backend, look_around, &seen);
    for (size_t i = 0; i < 4; i++) {
        assert_true(seen.right[i]);
    }
    const size_t bytes = e->pool.n_pages * e->pool.page_bytes;
    memset(e->pool.memory, 1, bytes);
    home = pages_at_home(numa, e->pool.memory, bytes, &present);
    print_message("keys and values: %zu of %zu pages would be at home\n", home, present);
    assert_true(home > present / 5 && home < present - present / 5); /* half of them on two nodes */
    quern_engine_destroy(e);
    quern_model_close(m);
    qn_numa_destroy(numa);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_are_those_with_processors),    cmocka_unit_test(odd_lists_are_survived),
        cmocka_unit_test(parts_cover_everything_once),        cmocka_unit_test(members_run_on_their_node),
        cmocka_unit_test(bits_do_not_depend_on_nodes),        cmocka_unit_test(machines_tell_their_nodes),
        cmocka_unit_test(pages_are_brought_to_their_readers), cmocka_unit_test(engines_use_all_nodes),
        cmocka_unit_test(callers_stay_where_they_were_put),   cmocka_unit_test(caches_are_counted),
        cmocka_unit_test(engines_bind_their_members),         cmocka_unit_test(cold_pages_come_to_their_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
