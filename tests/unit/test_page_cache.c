/* test_page_cache.c - weights into memory: what is cold is read in, what is short is told, copies are whole whichever way they were read. */
#define _FILE_OFFSET_BITS 64
#include "test_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/memory_info.h"
#include "base/page_cache.h"
#include "quern/engine.h"

enum { MIB = 1 << 20, FILE_BYTES = 70 * MIB + 1234 }; /* large enough for direct reads, and no whole number of blocks */

static uint8_t byte_at(size_t i) { return (uint8_t)(i * 2654435761u >> 13); }

static const char *make_file(const char *dir, size_t size)
{
    const char *path = scratch_path(dir, "data");
    uint8_t *bytes = qn_malloc(size);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = byte_at(i);
    }
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fflush(f), 0);
    assert_int_equal(fsync(fileno(f)), 0);
    (void)fclose(f);
    qn_free(bytes);
    return path;
}

/* Out of the page cache, if the file system has one and lets it go. */
static void forget(const char *path)
{
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)close(fd);
}

static bool count_calls(void *user, uint64_t done)
{
    uint64_t *last = user;
    assert_true(done > *last);
    *last = done;
    return true;
}

static bool refuse(void *user, uint64_t done)
{
    (void)done;
    ++*(int *)user;
    return false;
}

static void cold_pages_are_read_in(void **state)
{
    (void)state;
    quern_error err;
    char *dir = scratch_create();
    const char *path = make_file(dir, FILE_BYTES);
    forget(path);
    int fd = open(path, O_RDONLY);
    const uint8_t *p = mmap(NULL, FILE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(p != MAP_FAILED);
    (void)close(fd);
    /* three spans that begin and end anywhere, one of them empty */
    const qn_pages spans[] = {{p + 77, 9 * MIB}, {p + 10 * MIB, 0}, {p + 10 * MIB + 4095, FILE_BYTES - 10 * MIB - 4095}};
    const uint64_t all = spans[0].size + spans[2].size;
    uint64_t cold = qn_pages_cold_bytes(spans, 3), last = 0;
    assert_true(cold <= all);
    print_message("%.1f of %.1f MB were cold\n", (double)cold / 1e6, (double)all / 1e6);
    assert_ok(qn_pages_read_in(spans, 3, NULL, count_calls, &last, NULL, &err));
    assert_true(last <= all);
    assert_int_equal(qn_pages_cold_bytes(spans, 3), 0);
    assert_ok(qn_pages_read_in(spans, 0, NULL, NULL, NULL, NULL, &err));
    int calls = 0;
    quern_status status = qn_pages_read_in(spans, 3, NULL, refuse, &calls, NULL, &err);
    assert_true(calls <= 1); /* another thread may have had all the work */
    assert_int_equal(status, calls == 1 ? QUERN_ERROR_CANCELLED : QUERN_OK);
    (void)munmap((void *)(uintptr_t)p, FILE_BYTES);
    scratch_remove(dir);
}

static void shorter_files_are_told(void **state)
{
    (void)state;
    quern_error err;
    char *dir = scratch_create();
    const char *path = make_file(dir, 4 * MIB);
    int fd = open(path, O_RDONLY);
    const uint8_t *p = mmap(NULL, 4 * MIB, PROT_READ, MAP_PRIVATE, fd, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(truncate(path, MIB), 0);
    const qn_pages whole = {p, 4 * MIB}, rest = {p, MIB};
    assert_int_equal(qn_pages_read_in(&whole, 1, NULL, NULL, NULL, NULL, &err), QUERN_ERROR_IO);
    assert_non_null(strstr(err.message, "shorter"));
    assert_ok(qn_pages_read_in(&rest, 1, NULL, NULL, NULL, NULL, &err));
    uint8_t *data = qn_malloc_pages(4 * MIB);
    size_t got = 0;
    uint64_t cold = 0;
    assert_ok(qn_pages_read_file(fd, path, data, 4 * MIB, &got, &cold, &err)); /* asked for more than there is */
    assert_int_equal(got, MIB);
    qn_free_aligned(data);
    (void)close(fd);
    (void)munmap((void *)(uintptr_t)p, 4 * MIB);
    scratch_remove(dir);
}

static bool is_cold(const uint8_t *p, size_t size) { return qn_pages_cold_bytes(&(qn_pages){p, size}, 1) > size / 10 * 9; }

static size_t resident(const uint8_t *p, size_t size)
{
    const size_t page = qn_page_bytes(), n = (size + page - 1) / page;
    unsigned char *in_core = qn_calloc(n, 1);
    assert_int_equal(mincore((void *)(uintptr_t)p, size, in_core), 0);
    size_t all = 0;
    for (size_t i = 0; i < n; i++) {
        all += in_core[i] & 1;
    }
    qn_free(in_core);
    return all * page;
}

/* Here and there in a cold file, a few pages come and no more, and go before all of it is read; what was warm stays. */
static void single_pages_come_alone(void **state)
{
    (void)state;
    enum { N = 8, STEP = 8 * MIB, AT = 12345, BYTES = 6000 }; /* of two or three pages */
    quern_error err;
    char *dir = scratch_create();
    const char *path = make_file(dir, FILE_BYTES);
    forget(path);
    qn_mapping m;
    assert_ok(qn_mapping_open(&m, path, &err));
    assert_true(m.pages_known && m.cost.bytes == 0);
    if (is_cold(m.data, m.size)) {
        for (size_t i = 0; i < N; i++) {
            qn_pages_fetch(m.data + i * STEP + AT, BYTES);
        }
        for (size_t i = 0; i < N * BYTES; i++) {
            const size_t at = i / BYTES * STEP + AT + i % BYTES;
            assert_int_equal(m.data[at], byte_at(at));
        }
        const size_t before = resident(m.data, m.size);
        assert_true(before >= N * BYTES && before <= (size_t)N * 3 * qn_page_bytes());
        qn_pages_settle(m.data, m.size);
        const size_t after = resident(m.data, m.size);
        print_message("%zu bytes, then %zu\n", before, after);
        assert_true(after <= before / 2);
    } else {
        print_message("SKIP: cold_pages: this file system does not let go of a file\n");
    }
    const qn_pages all = {m.data, m.size};
    assert_ok(qn_pages_read_in(&all, 1, NULL, NULL, NULL, NULL, &err));
    qn_pages_fetch(m.data, 0);
    qn_pages_settle(m.data, m.size);
    qn_pages_settle(m.data, MIB);
    assert_int_equal(resident(m.data, m.size), qn_align_up(m.size, qn_page_bytes()));
    size_t wrong = 0;
    for (size_t i = 0; i < m.size; i++) {
        wrong += m.data[i] != byte_at(i);
    }
    assert_int_equal(wrong, 0);
    qn_mapping_close(&m);
    scratch_remove(dir);
}

static void check_copy(const char *path, size_t size)
{
    quern_error err;
    qn_mapping m;
    assert_ok(qn_mapping_open(&m, path, &err));
    const uint64_t cold = qn_pages_cold_bytes(&(qn_pages){m.data, m.size}, 1);
    qn_mapping_close(&m);
    assert_ok(qn_mapping_read(&m, path, &err));
    assert_true(m.cost.bytes == size && m.cost.cold_bytes == cold && m.cost.seconds > 0);
    assert_int_equal(m.size, size);
    assert_true(m.in_memory);
    size_t wrong = 0;
    for (size_t i = 0; i < size; i++) {
        wrong += m.data[i] != byte_at(i);
    }
    assert_int_equal(wrong, 0);
    qn_mapping_close(&m);
}

/* Cold files are read past the page cache, warm ones through it. */
static void copies_are_whole(void **state)
{
    (void)state;
    quern_error err;
    static const size_t sizes[] = {1, 4095, 4096, 8 * MIB, 8 * MIB + 1, FILE_BYTES};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *dir = scratch_create();
        const char *path = make_file(dir, sizes[i]);
        check_copy(path, sizes[i]);
        forget(path);
        check_copy(path, sizes[i]);
        for (uint64_t n = 1; n <= 3; n++) { /* the data, the pool and its threads */
            qn_mapping m;
            qn_alloc_fail_at(n);
            quern_status status = qn_mapping_read(&m, path, &err);
            qn_alloc_fail_at(0);
            assert_int_equal(status, QUERN_ERROR_MEMORY);
            assert_null(m.data);
        }
        scratch_remove(dir);
    }
}

/* Large files begin where huge pages can, and hold what the file does. */
static void mappings_are_aligned(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, FILE_BYTES};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *dir = scratch_create();
        int fd = open(make_file(dir, sizes[i]), O_RDONLY);
        const uint8_t *p = qn_pages_map(fd, sizes[i]);
        assert_true(p != MAP_FAILED);
        assert_true(sizes[i] < 2 * MIB || (uintptr_t)p % (2 * MIB) == 0);
        size_t wrong = 0;
        for (size_t k = 0; k < sizes[i]; k++) {
            wrong += p[k] != byte_at(k);
        }
        assert_int_equal(wrong, 0);
        (void)munmap((void *)(uintptr_t)p, sizes[i]);
        assert_true(qn_pages_map(fd, SIZE_MAX / 4) == MAP_FAILED);
        assert_true(qn_pages_map(-1, sizes[i]) == MAP_FAILED && errno == EBADF);
        (void)close(fd);
        scratch_remove(dir);
    }
}

static bool cancel(void *user, size_t done, size_t total)
{
    assert_true(done <= total);
    ++*(int *)user;
    return false;
}

static uint64_t bytes_of(const char *path)
{
    quern_error err;
    uint64_t bytes;
    int fd;
    assert_ok(qn_file_open(&fd, &bytes, path, &err));
    (void)close(fd);
    return bytes;
}

static void models_are_read_in(void **state)
{
    (void)state;
    quern_error err;
    const char *path = qn_test_golden("gguf/quant/qwen3.Q4_K_M.gguf");
    for (int copied = 0; copied < 2; copied++) {
        const quern_model_options opt = {.copy_weights = copied != 0};
        quern_model *m;
        quern_read_in r;
        assert_ok(quern_model_open(&m, path, &opt, &err));
        assert_ok(quern_model_read_in(m, 0, NULL, NULL, &r, &err));
        const uint64_t whole = quern_model_get_info(m)->weight_bytes; /* vectors are copied anyway */
        assert_true(r.bytes > whole / 10 * 9 && (copied ? r.bytes == bytes_of(path) : r.bytes <= whole));
        assert_true(r.cold_bytes <= r.bytes && !r.skipped && r.seconds > 0);
        assert_ok(quern_model_read_in(m, 0, NULL, NULL, NULL, &err));
        int calls = 0;
        quern_status status = quern_model_read_in(m, 0, cancel, &calls, &r, &err);
        assert_int_equal(status, calls > 0 ? QUERN_ERROR_CANCELLED : QUERN_OK);
        quern_model_close(m);
    }
    quern_model *m;
    assert_ok(quern_model_open(&m, path, NULL, &err));
    for (uint64_t n = 1; n <= 3; n++) {
        qn_alloc_fail_at(n);
        quern_status status = quern_model_read_in(m, 0, NULL, NULL, NULL, &err);
        qn_alloc_fail_at(0);
        assert_int_equal(status, QUERN_ERROR_MEMORY);
    }
    quern_model_close(m);
    const quern_model_options opt = {.without_weights = true};
    assert_ok(quern_model_open(&m, path, &opt, &err));
    assert_int_equal(quern_model_read_in(m, 0, NULL, NULL, NULL, &err), QUERN_ERROR_USAGE);
    quern_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cold_pages_are_read_in), cmocka_unit_test(shorter_files_are_told),  cmocka_unit_test(copies_are_whole),
        cmocka_unit_test(mappings_are_aligned),   cmocka_unit_test(single_pages_come_alone), cmocka_unit_test(models_are_read_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
