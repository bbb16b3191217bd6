/* test_base.c - error messages, arena, buffer, JSON, UTF-8, files, thread pool, control groups. */
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

#include "qn_test.h"
#include "test_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/builtin_text.h"
#include "base/cgroup.h"
#include "base/cpu.h"
#include "base/fs.h"
#include "base/half.h"
#include "base/json.h"
#include "base/out_file.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "base/utf8.h"

static void error_is_cut_at_a_character(void **state)
{
    (void)state;
    quern_error err;
    char text[2000];
    for (size_t i = 0; i + 1 < sizeof text; i += 2) {
        memcpy(text + i, "\xc3\xa4", 2);
    }
    text[sizeof text - 1] = '\0';
    (void)qn_error_set(&err, QUERN_ERROR_INVALID, "%s", text);
    assert_true(qn_utf8_valid(err.message, strlen(err.message)));
    assert_true(strlen(err.message) > 1000);
    (void)qn_error_set(&err, QUERN_ERROR_INVALID, "a\x1b[31mb");
    assert_string_equal(err.message, "a?[31mb");
}

static void arena_aligns_and_respects_its_ceiling(void **state)
{
    (void)state;
    qn_arena a;
    qn_arena_init(&a, 1 << 20);
    for (size_t i = 1; i < 200; i++) {
        char *p = qn_arena_alloc_aligned(&a, i);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t k = 0; k < i; k++) {
            assert_int_equal(p[k], 0);
            p[k] = 1;
        }
    }
    assert_null(qn_arena_alloc(&a, 1 << 20));
    assert_null(qn_arena_alloc_array(&a, SIZE_MAX / 2, 3));
    qn_arena_deinit(&a);
}

static void json_round_trip(void **state)
{
    (void)state;
    static const char text[] = "{\"b\":1,\"a\":[true,null,-2.5,\"x\\u00e4\"],\"c\":{}}";
    qn_json *v;
    quern_error err;
    assert_int_equal(qn_json_parse(&v, text, sizeof text - 1, 0, "t", &err), QUERN_OK);
    qn_buf b;
    qn_buf_init(&b, 1 << 20);
    assert_true(qn_json_write(v, 0, &b));
    assert_string_equal(qn_buf_text(&b), "{\"b\":1,\"a\":[true,null,-2.5,\"x\xc3\xa4\"],\"c\":{}}");
    qn_json_free(v);
    qn_buf_deinit(&b);
}

/* On request an integer beyond 64 bits becomes a real; its neighbours, and digits in strings, stay what they are. */
static void json_wide_integers(void **state)
{
    (void)state;
    static const char text[] =
        "[9223372036854775807,9223372036854775808,-1000000000000000019884624838656,\"99999999999999999999\\\"9\",1e2]";
    qn_json *v;
    quern_error err;
    int64_t integer;
    double real;
    assert_int_equal(qn_json_parse(&v, text, sizeof text - 1, QN_JSON_WIDE_INTEGERS, "t", &err), QUERN_OK);
    assert_true(qn_json_int(qn_json_at(v, 0), &integer) && integer == INT64_MAX);
    assert_false(qn_json_int(qn_json_at(v, 1), &integer));
    assert_true(qn_json_number(qn_json_at(v, 1), &real) && real > 9.2e18 && real < 9.3e18);
    assert_true(qn_json_number(qn_json_at(v, 2), &real) && real < -9.9e29 && real > -1.1e30);
    assert_string_equal(qn_json_string(qn_json_at(v, 3), NULL), "99999999999999999999\"9");
    qn_json_free(v);
}

/* Reals come back exactly, with no more digits than that takes. */
static void json_reals_are_short_and_exact(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *text;
    } cases[] = {{0.1, "[0.1]"},       {1e-6, "[1e-6]"}, {1.0 / 3, "[0.3333333333333333]"},
                 {5e-324, "[5e-324]"}, {1e6, "[1e6]"},   {-2.5, "[-2.5]"}};
    qn_buf b;
    qn_json *v;
    qn_buf_init(&b, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        v = qn_json_new_array();
        assert_true(qn_json_append(v, qn_json_new_real(cases[i].v)));
        qn_buf_reset(&b);
        assert_true(qn_json_write(v, 0, &b));
        assert_string_equal(qn_buf_text(&b), cases[i].text);
        qn_json_free(v);
    }
    v = qn_json_new_array();
    assert_true(qn_json_append(v, qn_json_new_measured(1234.56789)) && qn_json_append(v, qn_json_new_float(0.1f)) &&
                qn_json_append(v, qn_json_new_float(16777217.0f)) && qn_json_append(v, qn_json_new_measured(NAN)) &&
                qn_json_append(v, qn_json_new_float(INFINITY)));
    qn_buf_reset(&b);
    assert_true(qn_json_write(v, 0, &b));
    assert_string_equal(qn_buf_text(&b), "[1234.57,0.1,16777216.0,null,null]");
    qn_json_free(v);
    qn_buf_deinit(&b);
}

static void json_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "{", "[1,]", "{\"a\":1,\"a\":2}", "1 2", "\"\xff\"", "1e999", "99999999999999999999", "nul"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        qn_json *v;
        quern_error err;
        assert_int_equal(qn_json_parse(&v, bad[i], strlen(bad[i]), QN_JSON_REJECT_DUPLICATES, "t", &err), QUERN_ERROR_INVALID);
        assert_null(v);
    }
    char deep[4096];
    memset(deep, '[', sizeof deep);
    qn_json *v;
    quern_error err;
    assert_int_equal(qn_json_parse(&v, deep, sizeof deep, 0, "t", &err), QUERN_ERROR_INVALID);
    assert_non_null(strstr(err.message, "nested deeper"));
}

static void utf8_strictness(void **state)
{
    (void)state;
    static const char *const bad[] = {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80", "\xff", "\xc3"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(qn_utf8_valid(bad[i], strlen(bad[i])));
    }
    for (uint32_t cp = 0; cp <= 0x10ffff; cp++) {
        if (cp >= 0xd800 && cp <= 0xdfff) {
            continue;
        }
        char s[4];
        uint32_t back;
        size_t n = qn_utf8_encode(cp, s);
        assert_int_equal(qn_utf8_decode(s, n, &back), n);
        assert_int_equal(back, cp);
        assert_int_equal(qn_utf8_complete_prefix(s, n), n);
        if (n > 1) {
            assert_int_equal(qn_utf8_complete_prefix(s, n - 1), 0);
        }
    }
}

static void half_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = qn_f32_from_f16((uint16_t)h);
        if (f == f) {
            assert_int_equal(qn_f16_from_f32(f), h);
        }
        float g = qn_f32_from_bf16((uint16_t)h);
        if (g == g) {
            assert_int_equal(qn_bf16_from_f32(g), h);
        }
    }
#if defined(__FLT16_MANT_DIG__)
    uint32_t seed = 1; /* against the compiler's own conversion, over random bit patterns */
    for (int i = 0; i < 2000000; i++) {
        seed = seed * 1664525u + 1013904223u;
        float f = qn_f32_from_bits(seed);
        if (f == f) {
            _Float16 r = (_Float16)f;
            uint16_t bits;
            memcpy(&bits, &r, 2);
            assert_int_equal(qn_f16_from_f32(f), bits);
        }
    }
#endif
}

static void out_file_replaces_regular_files_only(void **state)
{
    (void)state;
    char dir[] = "/tmp/quern-test-XXXXXX";
    char path[64];
    char link_path[64];
    struct stat st;
    quern_error err = {0};
    qn_out_file *f = NULL;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/fifo", dir);
    (void)snprintf(link_path, sizeof link_path, "%s/link", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(symlink("fifo", link_path), 0);
    assert_int_equal(qn_out_file_create(&f, path, &err), QUERN_ERROR_IO);
    assert_null(f);
    assert_non_null(strstr(err.message, "fifo: is a FIFO"));
    assert_int_equal(qn_out_file_create(&f, link_path, &err), QUERN_ERROR_IO);
    assert_int_equal(qn_out_file_create(&f, dir, &err), QUERN_ERROR_IO);
    assert_non_null(strstr(err.message, "is a folder"));
    assert_true(lstat(path, &st) == 0 && S_ISFIFO(st.st_mode));
    assert_int_equal(unlink(link_path), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0); /* nothing was left beside them */
}

static void out_file_appears_only_when_committed(void **state)
{
    (void)state;
    char dir[] = "/tmp/quern-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = qn_path_join(dir, "a.bin");
    quern_error err;
    qn_out_file *f;
    assert_int_equal(qn_out_file_create(&f, path, &err), QUERN_OK);
    assert_int_equal(qn_out_file_write(f, "hello", 5, &err), QUERN_OK);
    assert_false(qn_path_exists(path));
    qn_out_file_close(f);
    assert_false(qn_path_exists(path));
    assert_int_equal(qn_out_file_create(&f, path, &err), QUERN_OK);
    assert_int_equal(qn_out_file_write(f, "hello", 5, &err), QUERN_OK);
    assert_int_equal(qn_out_file_write_at(f, 1, "E", 1, &err), QUERN_OK);
    assert_int_equal(qn_out_file_write(f, "!", 1, &err), QUERN_OK);
    assert_int_equal(qn_out_file_commit(f, &err), QUERN_OK);
    qn_out_file_close(f);
    char *text;
    size_t n;
    assert_int_equal(qn_file_read(&text, &n, path, 100, &err), QUERN_OK);
    assert_string_equal(text, "hEllo!");
    char hex[65];
    assert_int_equal(qn_sha256_file(path, hex, &err), QUERN_OK);
    char hex2[65];
    assert_int_equal(qn_sha256_bytes("hEllo!", 6, hex2, &err), QUERN_OK);
    assert_string_equal(hex, hex2);
    qn_free(text);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0); /* nothing else was left in it */
    qn_free(path);
}

typedef struct sum_job {
    _Atomic(uint64_t) total;
    uint32_t slot[8];
} sum_job;

static void folders_are_listed_in_order(void **state)
{
    static const char *const made[] = {"b", "a.txt", ".hidden", "B"}, *const expected[] = {"B", "a.txt", "b", "sub"};
    (void)state;
    quern_error err;
    char *dir = scratch_create();
    const char **names;
    size_t n;
    qn_arena arena;
    qn_arena_init(&arena, 0);
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        write_file(scratch_path(dir, made[i]), (const uint8_t *)"x", 1);
    }
    assert_int_equal(mkdir(scratch_path(dir, "sub"), 0700), 0);
    assert_int_equal(qn_dir_list(dir, 4, &arena, &names, &n, &err), QUERN_OK);
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(names[i], expected[i]);
    }
    assert_int_equal(qn_dir_list(dir, 3, &arena, &names, &n, &err), QUERN_ERROR_LIMIT);
    assert_int_equal(qn_dir_list(scratch_path(dir, "none"), 3, &arena, &names, &n, &err), QUERN_OK);
    assert_int_equal(n, 0);
    qn_alloc_fail_at(1);
    assert_int_equal(qn_dir_list(dir, 4, &(qn_arena){0}, &names, &n, &err), QUERN_ERROR_MEMORY);
    qn_alloc_fail_at(0);
    qn_arena_deinit(&arena);
    scratch_remove(dir);
}

static void sum_part(void *arg, qn_member m)
{
    sum_job *job = arg;
    for (int round = 0; round < 50; round++) {
        job->slot[m.index] = (uint32_t)round;
        qn_member_barrier(m);
        for (size_t i = 0; i < m.n_threads; i++) {
            job->total += job->slot[i];
        }
        qn_member_barrier(m);
    }
    size_t a, b;
    qn_member_span(m, 1003, 16, &a, &b);
    job->total += (b - a) * 1000000u;
}

static void pool_barriers_and_spans(void **state)
{
    (void)state;
    for (size_t n = 1; n <= 5; n++) {
        qn_pool *p;
        quern_error err;
        assert_int_equal(qn_pool_create(&p, n, &err), QUERN_OK);
        for (int run = 0; run < 20; run++) {
            sum_job job = {0};
            qn_pool_run(p, sum_part, &job);
            assert_int_equal(job.total, n * n * (49 * 50 / 2) + 1003u * 1000000u);
        }
        qn_pool_destroy(p);
    }
    quern_error err;
    qn_pool *p;
    assert_int_equal(qn_pool_create(&p, 0, &err), QUERN_ERROR_USAGE);
    assert_int_equal(qn_pool_create(&p, 5000, &err), QUERN_ERROR_USAGE);
}

/* One member is not on a core for a while in every round, a different one each time, and nobody is at the end of the run. */
static void sum_slowly(void *arg, qn_member m)
{
    sum_job *job = arg;
    for (size_t round = 0; round < 2 * m.n_threads; round++) {
        if (round % m.n_threads == m.index) {
            const struct timespec away = {.tv_nsec = 3000000}; /* longer than anyone spins */
            (void)nanosleep(&away, NULL);
        }
        job->slot[m.index] = (uint32_t)round;
        qn_member_barrier(m);
        for (size_t i = 0; i < m.n_threads; i++) {
            job->total += job->slot[i];
        }
        qn_member_barrier(m);
    }
}

static void pool_waits_for_members_without_a_core(void **state)
{
    (void)state;
    quern_error err;
    for (size_t n = 2; n <= 4; n++) {
        qn_pool *p;
        assert_int_equal(qn_pool_create(&p, n, &err), QUERN_OK);
        for (int run = 0; run < 4; run++) {
            sum_job job = {0};
            qn_pool_run(p, sum_slowly, &job);
            assert_int_equal(job.total, n * n * (2 * n * (2 * n - 1) / 2));
        }
        qn_pool_destroy(p);
    }
}

/* Stands before the C library's: a machine of so many processors, whose set no smaller mask holds. */
static size_t pretended_processors;

int sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t *set)
{
    if (pretended_processors == 0) {
        return syscall(SYS_sched_getaffinity, pid, bytes, set) < 0 ? -1 : 0;
    }
    memset(set, 0, bytes);
    for (size_t i = 0; i < pretended_processors; i++) {
        if (i / 8 >= bytes) {
            errno = EINVAL;
            return -1;
        }
        CPU_SET_S(i, bytes, set);
    }
    return 0;
}

static void processors_beyond_a_fixed_mask_count(void **state)
{
    (void)state;
    size_t quota = qn_cgroup_cores(QN_CGROUP_SELF, QN_CGROUP_MOUNT);
    static const size_t counts[] = {3, 1024, 1025, 5000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t expected = counts[i] < 1024 ? counts[i] : 1024; /* the largest team */
        pretended_processors = counts[i];
        assert_int_equal(qn_cpu_usable_count(), quota < expected ? quota : expected);
    }
    pretended_processors = 0;
}

static void groups_of_version_2(void **state)
{
    (void)state;
    char *dir = scratch_create();
    const char *self = put_file(dir, "self", "0::/a.slice/b.scope\n");
    assert_int_equal(qn_cgroup_cores(self, dir), SIZE_MAX);
    assert_true(qn_cgroup_memory_available(self, dir) == UINT64_MAX);
    put_file(dir, "cpu.max", "800000 100000\n");
    assert_int_equal(qn_cgroup_cores(self, dir), 8);
    put_file(dir, "a.slice/cpu.max", "250000 100000\n");
    assert_int_equal(qn_cgroup_cores(self, dir), 3);
    put_file(dir, "a.slice/b.scope/cpu.max", "max 100000\n");
    assert_int_equal(qn_cgroup_cores(self, dir), 3);
    put_file(dir, "a.slice/b.scope/cpu.max", "1000 100000\n");
    assert_int_equal(qn_cgroup_cores(self, dir), 1);
    put_file(dir, "a.slice/memory.max", "1000000\n");
    put_file(dir, "a.slice/memory.current", "700000\n");
    put_file(dir, "a.slice/memory.stat", "anon 500000\nfile 200000\nfile_mapped 100000\n");
    put_file(dir, "a.slice/b.scope/memory.max", "max\n");
    put_file(dir, "a.slice/b.scope/memory.current", "700000\n");
    assert_int_equal(qn_cgroup_memory_available(self, dir), 500000);
    put_file(dir, "a.slice/b.scope/memory.max", "600000\n"); /* exceeded */
    assert_int_equal(qn_cgroup_memory_available(self, dir), 0);
    /* A container: the path is the host's; the mount's root is what holds. So it is where no path is known, or one outside. */
    assert_int_equal(qn_cgroup_cores(put_file(dir, "self", "0::/docker/0123\n"), dir), 8);
    assert_int_equal(qn_cgroup_cores(put_file(dir, "self", "0::/../a.slice/b.scope\n"), dir), 8);
    assert_int_equal(qn_cgroup_cores(put_file(dir, "self", "0::/a.slice/..\n"), dir), 8);
    assert_int_equal(qn_cgroup_cores(put_file(dir, "self", "0::/\n"), dir), 8);
    assert_int_equal(qn_cgroup_cores(scratch_path(dir, "nothing"), dir), 8);
    put_file(dir, "cpu.max", "0 0\n");
    assert_int_equal(qn_cgroup_cores(self, dir), SIZE_MAX);
    put_file(dir, "cpu.max", "");
    assert_int_equal(qn_cgroup_cores(self, dir), SIZE_MAX);
    scratch_remove(dir);
}

/* What a group's files keep in memory counts as free; what programs share without a file does not. */
static void memory_that_a_group_gives_back(void **state)
{
    (void)state;
    static const struct {
        const char *stat;
        uint64_t available; /* of 1000000, 700000 in use */
    } cases[] = {{"anon 1\nfile 699999\n", 999999},
                 {"anon 0\nfile 700000\n", 1000000},
                 {"anon 0\nfile 700001\n", 1000000}, /* the two are not read at the same moment */
                 {"anon 500000\nfile 200000\nshmem 150000\n", 350000},
                 {"anon 500000\nfile 200000\nshmem 200000\n", 300000},
                 {"anon 500000\nfile 200000\nshmem 200001\n", 300000},
                 {"anon 700000\n", 300000}};
    char *dir = scratch_create();
    put_file(dir, "memory.max", "1000000\n");
    put_file(dir, "memory.current", "700000\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_file(dir, "memory.stat", cases[i].stat);
        assert_int_equal(qn_cgroup_memory_available(put_file(dir, "self", "0::/\n"), dir), cases[i].available);
    }
    scratch_remove(dir);
}

static void groups_of_version_1(void **state)
{
    (void)state;
    char *dir = scratch_create();
    const char *self = put_file(dir, "self", "12:cpuset:/x\n4:cpu,cpuacct:/docker/1\n3:memory:/docker/1\n1:name=systemd:/y\n0::/z\n");
    assert_int_equal(qn_cgroup_cores(self, dir), SIZE_MAX);
    put_file(dir, "cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put_file(dir, "cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    assert_int_equal(qn_cgroup_cores(self, dir), SIZE_MAX);
    put_file(dir, "cpu,cpuacct/docker/1/cpu.cfs_quota_us", "150000\n");
    put_file(dir, "cpu,cpuacct/docker/1/cpu.cfs_period_us", "50000\n");
    assert_int_equal(qn_cgroup_cores(self, dir), 3);
    put_file(dir, "cpu/cpu.cfs_quota_us", "200000\n"); /* in a container, under the other name */
    put_file(dir, "cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(qn_cgroup_cores(self, dir), 2);
    put_file(dir, "cpuset/cpu.cfs_quota_us", "1\n");
    put_file(dir, "cpuset/cpu.cfs_period_us", "1\n");
    assert_int_equal(qn_cgroup_cores(self, dir), 2);
    put_file(dir, "memory/memory.limit_in_bytes", "9223372036854771712\n"); /* no limit, as version 1 says it */
    put_file(dir, "memory/memory.usage_in_bytes", "900000000\n");
    assert_true(qn_cgroup_memory_available(self, dir) > (uint64_t)1 << 60);
    put_file(dir, "memory/docker/1/memory.limit_in_bytes", "1000000\n");
    put_file(dir, "memory/docker/1/memory.usage_in_bytes", "800000\n");
    put_file(dir, "memory/docker/1/memory.stat", "cache 400000\ninactive_file 1\ntotal_inactive_file 300000\n");
    assert_int_equal(qn_cgroup_memory_available(self, dir), 500000);
    put_file(dir, "memory/docker/1/memory.stat", "total_inactive_file 800000\n");
    assert_int_equal(qn_cgroup_memory_available(self, dir), 1000000);
    put_file(dir, "memory/docker/1/memory.stat", "total_inactive_file 800001\n");
    assert_int_equal(qn_cgroup_memory_available(self, dir), 1000000);
    scratch_remove(dir);
}

static void isa_names(void **state)
{
    (void)state;
    qn_isa isa;
    assert_true(qn_isa_available(QN_ISA_SCALAR));
    assert_true(qn_isa_from_name("avx512vnni", &isa));
    assert_int_equal(isa, QN_ISA_AVX512VNNI);
    for (int i = 0; i < QN_ISA_COUNT; i++) {
        assert_true(qn_isa_from_name(qn_isa_name((qn_isa)i), &isa));
        assert_int_equal(isa, i);
    }
    assert_true(qn_isa_available(QN_ISA_NEON) || !qn_isa_available(QN_ISA_I8MM));
    assert_false(qn_isa_from_name("sse9", &isa));
    assert_true(qn_isa_available(qn_isa_best()));
}

static void check_builtin_text(const char *name, const char *text, size_t len)
{
    quern_error err;
    char *file = NULL;
    size_t file_len = 0;
    assert_int_equal(qn_file_read_member(&file, &file_len, QUERN_SOURCE_DIR "/models/texts", name, 1 << 20, &err), QUERN_OK);
    assert_non_null(file);
    assert_int_equal(file_len, len);
    assert_memory_equal(file, text, len);
    assert_true(qn_utf8_valid(text, len));
    qn_free(file);
}

static void builtin_texts_are_the_files(void **state)
{
    (void)state;
    size_t calibration_len, gate_len;
    const char *calibration = qn_builtin_text_calibration(&calibration_len);
    const char *gate = qn_builtin_text_gate(&gate_len);
    check_builtin_text("calibration.txt", calibration, calibration_len);
    check_builtin_text("gate.txt", gate, gate_len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_is_cut_at_a_character),
        cmocka_unit_test(arena_aligns_and_respects_its_ceiling),
        cmocka_unit_test(json_round_trip),
        cmocka_unit_test(json_reals_are_short_and_exact),
        cmocka_unit_test(json_refuses),
        cmocka_unit_test(json_wide_integers),
        cmocka_unit_test(utf8_strictness),
        cmocka_unit_test(builtin_texts_are_the_files),
        cmocka_unit_test(half_round_trip),
        cmocka_unit_test(out_file_appears_only_when_committed),
        cmocka_unit_test(out_file_replaces_regular_files_only),
        cmocka_unit_test(folders_are_listed_in_order),
        cmocka_unit_test(pool_barriers_and_spans),
        cmocka_unit_test(pool_waits_for_members_without_a_core),
        cmocka_unit_test(processors_beyond_a_fixed_mask_count),
        cmocka_unit_test(groups_of_version_2),
        cmocka_unit_test(memory_that_a_group_gives_back),
        cmocka_unit_test(groups_of_version_1),
        cmocka_unit_test(isa_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
