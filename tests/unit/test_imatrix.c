/* test_imatrix.c - importance files in both forms: what is written comes back, files made by hand are read, bad ones are refused by name. */
#include "qn_test.h"

#include <math.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "calibrate/imatrix.h"

static const float dense_sums[4] = {8.0f, 2.0f, 0.5f, 0.0f}, dense_count[1] = {4.0f};
static const float expert_sums[6] = {6.0f, 3.0f, 0.0f, 0.0f, 10.0f, 20.0f}, expert_counts[3] = {3.0f, 0.0f, 10.0f};

static qn_imatrix sample(qn_imatrix_entry entries[2])
{
    entries[0] = (qn_imatrix_entry){.name = "blk.0.attn_q.weight", .n_values = 4, .n_counts = 1, .sums = dense_sums, .counts = dense_count};
    entries[1] = (qn_imatrix_entry){
        .name = "blk.1.ffn_up_exps.weight", .n_values = 6, .n_counts = 3, .sums = expert_sums, .counts = expert_counts};
    return (qn_imatrix){.entries = entries, .n_entries = 2, .n_chunks = 5, .chunk_tokens = 512};
}

static char *scratch_path(const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof path, "%s/qn_imatrix_%d_%s", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp", (int)getpid(), name);
    return path;
}

static void gguf_form_round_trip(void **state)
{
    (void)state;
    quern_error err;
    qn_imatrix_entry entries[2];
    qn_imatrix m = sample(entries), back;
    const char *path = scratch_path("a.gguf");
    assert_ok(qn_imatrix_write(&m, path, "some text", &err));
    assert_ok(qn_imatrix_read(&back, path, &err));
    assert_int_equal(back.n_entries, 2);
    assert_int_equal(back.n_chunks, 5);
    assert_int_equal(back.chunk_tokens, 512);
    for (size_t i = 0; i < 2; i++) {
        const qn_imatrix_entry *e = qn_imatrix_find(&back, entries[i].name);
        assert_non_null(e);
        assert_int_equal(e->n_values, entries[i].n_values);
        assert_int_equal(e->n_counts, entries[i].n_counts);
        assert_memory_equal(e->sums, entries[i].sums, e->n_values * sizeof(float));
        assert_memory_equal(e->counts, entries[i].counts, e->n_counts * sizeof(float));
    }
    assert_null(qn_imatrix_find(&back, "blk.0.attn_k.weight"));
    qn_imatrix_deinit(&back);
    (void)unlink(path);
}

static void older_form_round_trip(void **state)
{
    (void)state;
    quern_error err;
    qn_imatrix_entry entries[2];
    qn_imatrix m = sample(entries), back;
    const char *path = scratch_path("b.dat");
    assert_ok(qn_imatrix_write(&m, path, "some text", &err));
    assert_ok(qn_imatrix_read(&back, path, &err));
    assert_int_equal(back.n_entries, 2);
    assert_int_equal(back.n_chunks, 5);
    const qn_imatrix_entry *e = qn_imatrix_find(&back, "blk.1.ffn_up_exps.weight");
    assert_non_null(e);
    assert_int_equal(e->n_counts, 1);
    assert_int_equal(e->n_values, 6);
    static const float means[6] = {2.0f, 1.0f, 0.0f, 0.0f, 1.0f, 2.0f};
    for (size_t i = 0; i < 6; i++) {
        assert_true(fabsf(e->sums[i] / e->counts[0] - means[i]) < 1e-6f);
    }
    qn_imatrix_deinit(&back);
    (void)unlink(path);
}

/* ---- files made by hand ---- */

static void put_i32(qn_buf *b, int32_t v) { assert_true(qn_buf_append(b, &v, sizeof v)); }
static void put_u64(qn_buf *b, uint64_t v) { assert_true(qn_buf_append(b, &v, sizeof v)); }
static void put_f32(qn_buf *b, float v) { assert_true(qn_buf_append(b, &v, sizeof v)); }

static void put_old_entry(qn_buf *b, const char *name, int32_t n_calls, float first, float second)
{
    put_i32(b, (int32_t)strlen(name));
    assert_true(qn_buf_append_str(b, name));
    put_i32(b, n_calls);
    put_i32(b, 2);
    put_f32(b, first);
    put_f32(b, second);
}

/* The older form byte by byte: with or without what may follow the last entry. */
static void older_form_by_hand(void **state)
{
    (void)state;
    for (int tail = 0; tail < 3; tail++) {
        quern_error err;
        qn_imatrix m;
        qn_buf b;
        qn_buf_init(&b, 1 << 16);
        put_i32(&b, 2);
        put_old_entry(&b, "blk.0.ffn_down.weight", 10, 5.0f, 20.0f);
        put_old_entry(&b, "output.weight", 0, 0.0f, 0.0f);
        if (tail > 0) {
            put_i32(&b, 10);
        }
        if (tail > 1) {
            put_i32(&b, 8);
            assert_true(qn_buf_append_str(&b, "wiki.txt"));
        }
        assert_ok(qn_imatrix_parse(&m, (const uint8_t *)b.data, b.len, "by hand", &err));
        assert_int_equal(m.n_chunks, tail > 0 ? 10 : 0);
        const qn_imatrix_entry *e = qn_imatrix_find(&m, "blk.0.ffn_down.weight");
        assert_non_null(e);
        assert_true(e->sums[0] / e->counts[0] == 0.5f && e->sums[1] / e->counts[0] == 2.0f);
        assert_true(qn_imatrix_find(&m, "output.weight")->counts[0] == 0.0f);
        qn_imatrix_deinit(&m);
        for (size_t cut = 0; cut < b.len; cut++) { /* a file that ends early is refused, but where it ends behind an entry's end */
            qn_imatrix part;
            bool whole = qn_imatrix_parse(&part, (const uint8_t *)b.data, cut, "cut", &err) == QUERN_OK;
            assert_true(!whole || (tail > 0 && cut == b.len - (tail > 1 ? 16 : 4)) || (tail > 1 && cut == b.len - 12));
            if (whole) {
                qn_imatrix_deinit(&part);
            }
        }
        qn_buf_deinit(&b);
    }
}

static void put_string(qn_buf *b, const char *s)
{
    put_u64(b, strlen(s));
    assert_true(qn_buf_append_str(b, s));
}

static void put_tensor(qn_buf *b, const char *name, uint64_t n_cols, uint64_t n_rows, uint64_t offset)
{
    put_string(b, name);
    put_i32(b, 2); /* dimensions, the fastest first */
    put_u64(b, n_cols);
    put_u64(b, n_rows);
    put_i32(b, 0); /* F32 */
    put_u64(b, offset);
}

/* A GGUF of one entry with two columns and two experts, byte by byte; sums_name and first_sum vary. */
static void make_gguf(qn_buf *b, const char *type, const char *counts_name, uint64_t n_counts, float first_sum)
{
    static const float sums[4] = {0, 4.0f, 9.0f, 18.0f}, counts[2] = {2.0f, 9.0f};
    qn_buf_reset(b);
    assert_true(qn_buf_append(b, "GGUF", 4));
    put_i32(b, 3);
    put_u64(b, 2); /* tensors */
    put_u64(b, 2); /* keys */
    put_string(b, "general.type");
    put_i32(b, 8);
    put_string(b, type);
    put_string(b, "imatrix.chunk_count");
    put_i32(b, 4);
    put_i32(b, 7);
    put_tensor(b, "blk.3.ffn_gate_exps.weight.in_sum2", 2, 2, 0);
    put_tensor(b, counts_name, 1, n_counts, 32);
    assert_true(qn_buf_append_zeros(b, (32 - b->len % 32) % 32));
    put_f32(b, first_sum);
    assert_true(qn_buf_append(b, sums + 1, 12));
    assert_true(qn_buf_append_zeros(b, 16));
    assert_true(qn_buf_append(b, counts, 4 * (size_t)n_counts));
    assert_true(qn_buf_append_zeros(b, 32 - 4 * (size_t)n_counts));
}

static void gguf_form_by_hand(void **state)
{
    (void)state;
    quern_error err;
    qn_imatrix m;
    qn_buf b;
    qn_buf_init(&b, 1 << 16);
    make_gguf(&b, "imatrix", "blk.3.ffn_gate_exps.weight.counts", 2, 6.0f);
    assert_ok(qn_imatrix_parse(&m, (const uint8_t *)b.data, b.len, "by hand", &err));
    const qn_imatrix_entry *e = qn_imatrix_find(&m, "blk.3.ffn_gate_exps.weight");
    assert_non_null(e);
    assert_int_equal(m.n_chunks, 7);
    assert_int_equal(e->n_values, 4);
    assert_int_equal(e->n_counts, 2);
    assert_true(e->sums[0] / e->counts[0] == 3.0f && e->sums[3] / e->counts[1] == 2.0f);
    qn_imatrix_deinit(&m);
    qn_buf_deinit(&b);
}

static void assert_refused(const qn_buf *b, const char *expected)
{
    quern_error err;
    qn_imatrix m;
    assert_int_equal(qn_imatrix_parse(&m, (const uint8_t *)b->data, b->len, "bad.dat", &err), QUERN_ERROR_INVALID);
    if (strstr(err.message, expected) == NULL || strstr(err.message, "bad.dat") == NULL) {
        print_error("'%s' does not say '%s'\n", err.message, expected);
    }
    assert_non_null(strstr(err.message, expected));
    assert_non_null(strstr(err.message, "bad.dat"));
}

static void bad_files_are_refused_by_name(void **state)
{
    (void)state;
    qn_buf b;
    qn_buf_init(&b, 1 << 16);
    make_gguf(&b, "model", "blk.3.ffn_gate_exps.weight.counts", 2, 6.0f);
    assert_refused(&b, "general.type");
    make_gguf(&b, "imatrix", "blk.4.ffn_gate_exps.weight.counts", 2, 6.0f);
    assert_refused(&b, "blk.3.ffn_gate_exps.weight.counts");
    make_gguf(&b, "imatrix", "blk.3.ffn_gate_exps.weight.counts", 1, 6.0f);
    assert_refused(&b, "a count a row");
    make_gguf(&b, "imatrix", "blk.3.ffn_gate_exps.weight.counts", 2, NAN);
    assert_refused(&b, "blk.3.ffn_gate_exps.weight.in_sum2");
    make_gguf(&b, "imatrix", "blk.3.ffn_gate_exps.weight.counts", 2, -1.0f);
    assert_refused(&b, "not negative");
    qn_buf_reset(&b);
    assert_refused(&b, "no importance matrix");
    put_i32(&b, 1000000);
    assert_refused(&b, "no importance matrix");
    qn_buf_reset(&b);
    put_i32(&b, 1);
    put_old_entry(&b, "blk.0.ffn_up.weight", 3, 1.0f, INFINITY);
    assert_refused(&b, "blk.0.ffn_up.weight");
    qn_buf_reset(&b);
    put_i32(&b, 1);
    put_old_entry(&b, "blk.0.ffn_up.weight", -3, 1.0f, 1.0f);
    assert_refused(&b, "blk.0.ffn_up.weight");
    qn_buf_reset(&b);
    put_i32(&b, 2);
    put_old_entry(&b, "blk.0.ffn_up.weight", 3, 1.0f, 1.0f);
    put_old_entry(&b, "blk.0.ffn_up.weight", 3, 1.0f, 1.0f);
    assert_refused(&b, "twice");
    qn_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_form_round_trip), cmocka_unit_test(older_form_round_trip),         cmocka_unit_test(older_form_by_hand),
        cmocka_unit_test(gguf_form_by_hand),    cmocka_unit_test(bad_files_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
