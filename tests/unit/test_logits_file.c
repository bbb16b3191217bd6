/* test_logits_file.c - logits of ids in a safetensors file: the golden values, the same bytes for any batch, clean failures. */
#include "test_files.h"

#include <math.h>

#include "formats/safetensors_read.h"
#include "quern/logits.h"

typedef struct fixture {
    char *dir;
    quern_model *model;
} fixture;

static int set_up(void **state)
{
    static fixture f;
    quern_error err;
    const char *path = qn_test_golden("hf/qwen3/config.json");
    if (path == NULL) {
        print_error("hf/qwen3 is in the repository's goldens\n");
        return -1;
    }
    char *dir = strdup(path);
    *strrchr(dir, '/') = '\0';
    quern_model_options options = {.without_tokenizer = true};
    assert_ok(quern_model_open(&f.model, dir, &options, &err));
    free(dir);
    f.dir = scratch_create();
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    scratch_remove(f->dir);
    quern_model_close(f->model);
    return 0;
}

/* The golden's own sequences as an ids document. */
static char *golden_ids(void)
{
    qn_json *root = read_json(qn_test_golden("hf/qwen3/golden.json"));
    qn_json *doc = qn_json_new_object(), *lists = qn_json_new_array();
    const qn_json *sequences = qn_json_get(root, "sequences");
    for (size_t i = 0; i < qn_json_length(sequences); i++) {
        assert_true(qn_json_append(lists, qn_json_clone(qn_json_get(qn_json_at(sequences, i), "ids"))));
    }
    assert_true(qn_json_set(doc, "sequences", lists));
    qn_buf b;
    qn_buf_init(&b, 1u << 20);
    assert_true(qn_json_write(doc, 0, &b));
    qn_json_free(doc);
    qn_json_free(root);
    return qn_buf_take(&b, NULL);
}

static quern_status write_logits(const fixture *f, const char *ids, size_t n_batch, const char *name, quern_logits_summary *out,
                                 quern_error *err)
{
    quern_logits_options options = {.engine = {.n_batch = n_batch, .kv_type = QUERN_KV_F32}};
    return quern_logits_write(f->model, &options, ids, strlen(ids), "ids.json", scratch_path(f->dir, name), out, err);
}

static double largest_difference(const qn_tensor *a, const qn_tensor *b, double *std)
{
    double most = 0, sum = 0, squares = 0;
    assert_int_equal(a->dtype, QN_DTYPE_F32);
    assert_int_equal(a->n_dims, 2);
    assert_true(a->shape[0] == b->shape[0] && a->shape[1] == b->shape[1]);
    for (uint64_t i = 0; i < a->n_elements; i++) {
        float x, y;
        memcpy(&x, a->data + i * 4, 4);
        memcpy(&y, b->data + i * 4, 4);
        most = fmax(most, fabs((double)x - (double)y));
        sum += (double)y;
        squares += (double)y * (double)y;
    }
    double mean = sum / (double)b->n_elements;
    *std = sqrt(squares / (double)b->n_elements - mean * mean);
    return most;
}

static void test_golden(void **state)
{
    const fixture *f = *state;
    quern_error err;
    quern_logits_summary summary;
    qn_safetensors *ours, *golden;
    char *ids = golden_ids();
    assert_ok(write_logits(f, ids, 0, "all.safetensors", &summary, &err));
    assert_ok(qn_safetensors_open(&ours, scratch_path(f->dir, "all.safetensors"), false, &err));
    assert_ok(qn_safetensors_open(&golden, qn_test_golden("hf/qwen3/golden.safetensors"), false, &err));
    assert_int_equal(summary.n_sequences, 3);
    assert_int_equal(summary.n_positions, 1 + 17 + 70);
    assert_int_equal(summary.kv_type, QUERN_KV_F32);
    assert_true(summary.bytes == qn_safetensors_file_bytes(ours, 0));
    assert_string_equal(qn_safetensors_metadata(ours, "kv_type"), "f32");
    for (int i = 0; i < 3; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "logits.%d", i);
        const qn_tensor *a = qn_safetensors_find(ours, name), *b = qn_safetensors_find(golden, name);
        assert_non_null(a);
        assert_non_null(b);
        double std, most = largest_difference(a, b, &std);
        assert_true(most <= 1e-3 * std);
    }
    qn_safetensors_close(ours);
    qn_safetensors_close(golden);
    quern_free(ids);
}

static void test_batch_changes_nothing(void **state)
{
    const fixture *f = *state;
    quern_error err;
    quern_logits_summary summary;
    char *ids = golden_ids();
    size_t size, size1;
    assert_ok(write_logits(f, ids, 0, "all.safetensors", &summary, &err));
    uint8_t *all = read_file(scratch_path(f->dir, "all.safetensors"), &size);
    for (size_t n_batch = 1; n_batch <= 7; n_batch += 6) {
        assert_ok(write_logits(f, ids, n_batch, "cut.safetensors", &summary, &err));
        uint8_t *cut = read_file(scratch_path(f->dir, "cut.safetensors"), &size1);
        assert_int_equal(size, size1);
        assert_memory_equal(all, cut, size);
        free(cut);
    }
    free(all);
    quern_free(ids);
}

static void test_failures(void **state)
{
    const fixture *f = *state;
    static const struct {
        const char *ids;
        const char *says;
    } bad[] = {
        {"{\"sequences\":[[1,2],[3,-1]]}", "ids.json: sequence 1, position 1"},
        {"{\"sequences\":[[512]]}", "from 0 to 511"},
        {"{\"sequences\":[[1.5]]}", "sequence 0, position 0"},
        {"{\"sequences\":[[\"1\"]]}", "sequence 0, position 0"},
        {"{\"sequences\":[[1],[]]}", "sequence 1: expected a list of at least one token id"},
        {"{\"sequences\":[5]}", "sequence 0: expected a list"},
        {"{\"sequences\":[]}", "at least one sequence"},
        {"{\"sequences\":{}}", "at least one sequence"},
        {"[[1]]", "expected {\"sequences\""},
        {"{\"sequences\":[[1]", "ids.json"},
    };
    size_t before = scratch_count(f->dir);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        quern_error err;
        quern_logits_summary summary;
        assert_int_equal(write_logits(f, bad[i].ids, 0, "bad.safetensors", &summary, &err), QUERN_ERROR_INVALID);
        if (strstr(err.message, bad[i].says) == NULL) {
            print_error("'%s' does not say '%s'\n", err.message, bad[i].says);
        }
        assert_non_null(strstr(err.message, bad[i].says));
    }
    assert_int_equal(scratch_count(f->dir), before);
}

static bool stop_at_once(void *user, size_t done, size_t total)
{
    (void)user;
    (void)done;
    (void)total;
    return false;
}

static void test_limits(void **state)
{
    const fixture *f = *state;
    static const char ids[] = "{\"sequences\":[[1,2,3,4,5]]}";
    quern_error err;
    quern_logits_summary summary;
    size_t before = scratch_count(f->dir);
    const char *path = scratch_path(f->dir, "limit.safetensors");
    quern_logits_options small = {.engine = {.n_ctx = 4}}, stopped = {.on_progress = stop_at_once}, bos = {.add_bos = true};
    assert_int_equal(quern_logits_write(f->model, &small, ids, strlen(ids), "ids", path, &summary, &err), QUERN_ERROR_CONTEXT_FULL);
    assert_non_null(strstr(err.message, "5 tokens, 4 fit"));
    assert_int_equal(quern_logits_write(f->model, &stopped, ids, strlen(ids), "ids", path, &summary, &err), QUERN_ERROR_CANCELLED);
    assert_int_equal(quern_logits_write(f->model, &bos, ids, strlen(ids), "ids", path, &summary, &err), QUERN_ERROR_UNSUPPORTED);
    path = scratch_path(f->dir, "missing/limit.safetensors");
    assert_int_equal(quern_logits_write(f->model, &(quern_logits_options){0}, ids, strlen(ids), "ids", path, &summary, &err),
                     QUERN_ERROR_IO);
    assert_int_equal(scratch_count(f->dir), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_batch_changes_nothing),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
