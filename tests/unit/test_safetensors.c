/* test_safetensors.c - reading safetensors (goldens, corrupt files and folders, cut and changed files, failing memory), writing them, and
 * the JSON tokens under the reader. */
#include "test_files.h"

#include <dirent.h>

#include "base/alloc.h"
#include "base/json_tokens.h"
#include "formats/safetensors_read.h"
#include "formats/safetensors_write.h"

/* ---- goldens ---- */

static void goldens_open(void **state)
{
    (void)state;
    quern_error err;
    qn_safetensors *s;
    for (int copy = 0; copy < 2; copy++) {
        assert_ok(qn_safetensors_open(&s, qn_test_golden("hf/qwen3/model.safetensors"), copy != 0, &err));
        assert_int_equal(qn_safetensors_n_tensors(s), 24);
        const qn_tensor *t = qn_safetensors_find(s, "model.layers.1.self_attn.q_norm.weight");
        assert_non_null(t);
        assert_int_equal(t->dtype, QN_DTYPE_BF16);
        assert_int_equal(t->n_dims, 1);
        assert_int_equal(t->shape[0], 128);
        assert_int_equal(t->n_bytes, 256);
        t = qn_safetensors_find(s, "model.layers.0.mlp.down_proj.weight");
        assert_non_null(t);
        assert_int_equal(t->n_elements, 256 * 256);
        assert_null(qn_safetensors_find(s, "model.layers.2.mlp.down_proj.weight"));
        assert_string_equal(qn_safetensors_metadata(s, "format"), "pt");
        assert_null(qn_safetensors_metadata(s, "no such"));
        uint64_t end = qn_safetensors_tensor_at(s, 0)->file_offset;
        for (size_t i = 0; i < qn_safetensors_n_tensors(s); i++) {
            t = qn_safetensors_tensor_at(s, i);
            assert_int_equal(t->file_offset, end);
            end += t->n_bytes;
            assert_ptr_equal(qn_safetensors_find(s, t->name), t);
        }
        assert_int_equal(end, qn_safetensors_file_bytes(s, 0));
        qn_safetensors_close(s);
    }
}

static void shards_open_together(void **state)
{
    (void)state;
    quern_error err;
    qn_safetensors *s;
    char dir[1024];
    (void)snprintf(dir, sizeof dir, "%s", qn_test_golden("hf/qwen2_untied_sharded/config.json"));
    *strrchr(dir, '/') = '\0';
    qn_json *index = read_json(scratch_path(dir, "model.safetensors.index.json"));
    const qn_json *map = qn_json_get(index, "weight_map");
    assert_ok(qn_safetensors_open_dir(&s, dir, false, &err));
    assert_int_equal(qn_safetensors_n_files(s), 3);
    assert_int_equal(qn_safetensors_n_tensors(s), qn_json_length(map));
    assert_string_equal(qn_safetensors_path(s), dir);
    uint64_t total = 0;
    for (qn_json_iterator *it = qn_json_iter(map); it != NULL; it = qn_json_next(map, it)) {
        const qn_tensor *t = qn_safetensors_find(s, qn_json_iter_key(it, NULL));
        assert_non_null(t);
        assert_string_equal(qn_path_base(qn_safetensors_file_path(s, t->file_index)), qn_json_string(qn_json_iter_value(it), NULL));
        total += t->n_bytes;
    }
    int64_t total_size;
    assert_true(qn_json_int(qn_json_get(qn_json_get(index, "metadata"), "total_size"), &total_size));
    assert_int_equal(total, total_size);
    qn_json_free(index);
    qn_safetensors_close(s);
}

/* ---- corrupt files ---- */

static const char *const places[][2] = {
    {"safetensors/header_len_0.safetensors", "has 0 bytes (expected 2 to"},
    {"safetensors/header_len_2p63.safetensors", "9223372036854775808 bytes, more than the file has left"},
    {"safetensors/header_array.safetensors", "found '[', expected '{'"},
    {"safetensors/header_bad_utf8.safetensors", "JSON at byte 8"},
    {"safetensors/duplicate_name.safetensors", "'a' is there twice"},
    {"safetensors/overlap.safetensors", "must not overlap"},
    {"safetensors/hole.safetensors", "no unused bytes"},
    {"safetensors/trailing_bytes.safetensors", "32 bytes follow the last tensor"},
    {"safetensors/shape_size_mismatch.safetensors", "needs 40"},
    {"safetensors/shape_wraps_to_0.safetensors", "does not fit"},
    {"safetensors/dtype_unknown.safetensors", "'F99'"},
    {"safetensors/no_offsets.safetensors", "is not complete"},
    {"safetensors/rank_300.safetensors", "more than 8 numbers"},
    {"dirs/index_dotdot", "plain name"},
    {"dirs/index_absolute", "/etc/passwd"},
    {"dirs/index_missing_shard", "model-00002-of-00002.safetensors"},
    {"dirs/index_wrong_shard", "'model.norm.weight'"},
    {"dirs/index_extra_name", "no shard has it"},
    {"dirs/index_not_object", "found '['"},
};

static void check_corrupt(const char *file, const char *path, const char *expect, void *user)
{
    size_t *n_refused = user;
    for (int copy = 0; copy < 2; copy++) {
        quern_error err;
        qn_safetensors *s;
        bool folder = strncmp(file, "dirs/", 5) == 0;
        quern_status status = folder ? qn_safetensors_open_dir(&s, path, copy != 0, &err) : qn_safetensors_open(&s, path, copy != 0, &err);
        if ((strcmp(expect, "ok") == 0 && status != QUERN_OK) || (strcmp(expect, "error") == 0 && status == QUERN_OK)) {
            print_error("%s: %s, expected %s: %s\n", file, quern_status_name(status), expect, status != QUERN_OK ? err.message : "");
            fail();
        }
        if (status != QUERN_OK) {
            assert_null(s);
            assert_int_equal(quern_status_exit_code(status), 3);
            assert_message(&err, path, NULL);
            for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
                if (strcmp(places[i][0], file) == 0) {
                    assert_message(&err, path, places[i][1]);
                }
            }
            ++*n_refused;
        }
        qn_safetensors_close(s);
    }
}

static void corrupt_files_are_refused(void **state)
{
    (void)state;
    size_t n_refused = 0;
    size_t n = for_each_corrupt("safetensors", check_corrupt, &n_refused);
    print_message("%zu files, %zu refusals\n", n, n_refused);
    assert_true(n >= 31 && n_refused >= 50);
    n_refused = 0;
    n = for_each_corrupt("hf_dir", check_corrupt, &n_refused);
    print_message("%zu folders, %zu refusals\n", n, n_refused);
    assert_true(n == 0 || (n == 10 && n_refused >= 14));
}

static uint64_t touch(const qn_safetensors *s)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < qn_safetensors_n_tensors(s); i++) {
        const qn_tensor *t = qn_safetensors_tensor_at(s, i);
        sum += strlen(t->name);
        for (size_t b = 0; b < t->n_bytes; b++) {
            sum += t->data[b];
        }
    }
    return sum;
}

static void cut_and_changed_files_never_crash(void **state)
{
    (void)state;
    static const uint8_t masks[] = {0x01, 0x02, 0x10, 0x20, 0x80, 0xff};
    static const char *const files[] = {"corrupt/safetensors/ok_control.safetensors",
                                        "corrupt/safetensors/ok_scalar_and_empty.safetensors"};
    uint64_t sum = 0;
    size_t n_opened = 0;
    size_t n_tried = 0;
    for (size_t f = 0; f < 2; f++) {
        size_t size;
        quern_error err;
        qn_safetensors *s;
        uint8_t *whole = read_file(qn_test_golden(files[f]), &size);
        for (size_t n = 0; n < size; n++) {
            uint8_t *cut = malloc(n != 0 ? n : 1);
            assert_non_null(cut);
            memcpy(cut, whole, n);
            assert_int_equal(qn_safetensors_parse(&s, cut, n, "cut.safetensors", &err), QUERN_ERROR_INVALID);
            assert_message(&err, "cut.safetensors", NULL);
            free(cut);
        }
        for (size_t at = 0; at < size; at++) {
            for (size_t m = 0; m < sizeof masks; m++) {
                whole[at] ^= masks[m];
                if (qn_safetensors_parse(&s, whole, size, "changed.safetensors", &err) == QUERN_OK) {
                    sum += touch(s);
                    n_opened++;
                } else {
                    assert_message(&err, "changed.safetensors", NULL);
                }
                n_tried++;
                qn_safetensors_close(s);
                whole[at] ^= masks[m];
            }
        }
        free(whole);
    }
    print_message("%zu of %zu changed files open (%llu)\n", n_opened, n_tried, (unsigned long long)sum);
    assert_true(n_opened > 0 && n_opened < n_tried);
}

/* A header text and `data_bytes` zero bytes as a file in memory. */
static quern_status parse_header(const char *json, size_t data_bytes, qn_safetensors **s, quern_error *err, uint8_t **bytes)
{
    size_t len = strlen(json);
    *bytes = calloc(1, 8 + len + data_bytes);
    assert_non_null(*bytes);
    for (size_t i = 0; i < 8; i++) {
        (*bytes)[i] = (uint8_t)(len >> (8 * i));
    }
    memcpy(*bytes + 8, json, len);
    return qn_safetensors_parse(s, *bytes, 8 + len + data_bytes, "made", err);
}

static void headers_are_read_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        size_t data_bytes;
        const char *fragment; /* NULL: fine */
    } cases[] = {
        {"{}", 0, NULL},
        {"{} \n\t ", 0, NULL},
        {"{}x", 0, "behind the header"},
        {"{}", 1, "1 bytes follow"},
        {"{\"a\\u00e4\\ud83d\\ude00\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, NULL},
        {"{\"a\":{\"shape\":[],\"data_offsets\":[0,4],\"dtype\":\"F32\"},}", 4, "expected a key"},
        {"{,\"a\":{\"shape\":[],\"data_offsets\":[0,4],\"dtype\":\"F32\"}}", 4, "expected a key"},
        {"{\"a\":{\"shape\":[1,],\"data_offsets\":[0,4],\"dtype\":\"F32\"}}", 4, "an integer"},
        {"{\"a\":{\"shape\":[1 1],\"data_offsets\":[0,4],\"dtype\":\"F32\"}}", 4, "',' or ']'"},
        {"{\"a\":{\"shape\":[01],\"data_offsets\":[0,4],\"dtype\":\"F32\"}}", 4, "no JSON"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4,8],\"dtype\":\"F32\"}}", 4, "more than 2"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[4],\"dtype\":\"F32\"}}", 4, "not complete"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4],\"dtype\":\"F32\",\"x\":1}}", 4, "unknown field"},
        {"{\"a\":{\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4],\"dtype\":\"F32\"}}", 4, "a field twice"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4],\"dtype\":1}}", 4, "found an integer, expected a string"},
        {"{\"\":{\"shape\":[1],\"data_offsets\":[0,4],\"dtype\":\"F32\"}}", 4, "a tensor's name"},
        {"{\"a\\u0000b\":{\"shape\":[1],\"data_offsets\":[0,4],\"dtype\":\"F32\"}}", 4, "NUL"},
        {"{\"a\\ud83d\":{\"shape\":[1],\"data_offsets\":[0,4],\"dtype\":\"F32\"}}", 4, "no JSON"},
        {"{\"a\":[]}", 0, "found '['"},
        {"{\"a\":null}", 0, "found null"},
        {"{\"__metadata__\":{\"k\":\"v\",\"l\":\"\"}}", 0, NULL},
        {"{\"__metadata__\":{\"k\":1}}", 0, "__metadata__: found an integer"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "there twice"},
        {"{\"a\":{\"shape\":[9223372036854775808],\"data_offsets\":[0,0],\"dtype\":\"I8\"}}", 0, "does not fit"},
        {"{\"a\":{\"shape\":[18446744073709551616],\"data_offsets\":[0,0],\"dtype\":\"I8\"}}", 0, "an integer from 0"},
        {"{\"a\":{\"shape\":[4],\"data_offsets\":[2,6],\"dtype\":\"I8\"},\"b\":{\"shape\":[2],\"data_offsets\":[0,2],\"dtype\":\"I8\"}}", 6,
         NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        quern_error err;
        qn_safetensors *s;
        uint8_t *bytes;
        quern_status status = parse_header(cases[i].json, cases[i].data_bytes, &s, &err, &bytes);
        if ((status == QUERN_OK) != (cases[i].fragment == NULL)) {
            print_error("%s: %s\n", cases[i].json, status == QUERN_OK ? "opened" : err.message);
            fail();
        }
        if (status != QUERN_OK) {
            assert_message(&err, "made", cases[i].fragment);
        }
        qn_safetensors_close(s);
        free(bytes);
    }
    quern_error err;
    qn_safetensors *s;
    uint8_t *bytes;
    assert_ok(parse_header(cases[4].json, 2, &s, &err, &bytes));
    assert_non_null(qn_safetensors_find(s, "a\xc3\xa4\xf0\x9f\x98\x80"));
    qn_safetensors_close(s);
    free(bytes);
}

/* ---- JSON tokens ---- */

static void json_values_are_skipped_whole(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool good;
    } cases[] = {
        {"{}", true},        {"[]", true},        {"1", true},
        {"-0.5e+7", true},   {"\"a\\n\"", true},  {"{\"a\":[1,{\"b\":null},[]],\"c\":true}", true},
        {"[[],[[]]]", true}, {"{", false},        {"[1,]", false},
        {"{\"a\"}", false},  {"{\"a\":}", false}, {"{\"a\":1,}", false},
        {"[1}", false},      {"]", false},        {",", false},
        {"{1:2}", false},    {"[1 2]", false},    {"1.", false},
        {"-", false},        {"1e", false},       {"\"\t\"", false},
        {"\"\\x\"", false},  {"tru", false},      {"{\"a\":]}", false},
        {"[:]", false},      {"", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_json_tokens s;
        qn_json_tokens_init(&s, cases[i].text, strlen(cases[i].text));
        (void)qn_json_tokens_next(&s);
        bool good = qn_json_tokens_skip(&s);
        if (good != cases[i].good) {
            print_error("'%s' is %s\n", cases[i].text, good ? "skipped" : "refused");
        }
        assert_int_equal(good, cases[i].good);
        assert_true(!good || qn_json_tokens_next(&s) == QN_JSON_TOKEN_END);
    }
    char deep[1200];
    for (size_t depth = 511; depth <= 513; depth++) {
        memset(deep, '[', depth);
        memset(deep + depth, ']', depth);
        qn_json_tokens s;
        qn_json_tokens_init(&s, deep, 2 * depth);
        (void)qn_json_tokens_next(&s);
        assert_int_equal(qn_json_tokens_skip(&s), depth <= 512);
    }
}

/* ---- writing ---- */

static const uint64_t shape_a[] = {3, 5};
static const uint64_t shape_empty[] = {0, 4};

static quern_status write_four(qn_safetensors_writer *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint8_t bytes[60];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)i;
    }
    QN_TRY(qn_safetensors_put_metadata(w, "format", "mlx", err));
    QN_TRY(qn_safetensors_declare(w, "weight \"quoted\"", QN_DTYPE_F32, shape_a, 2, err));
    QN_TRY(qn_safetensors_declare(w, "scalar", QN_DTYPE_BF16, NULL, 0, err));
    QN_TRY(qn_safetensors_declare(w, "empty", QN_DTYPE_U8, shape_empty, 2, err));
    QN_TRY(qn_safetensors_declare(w, "words", QN_DTYPE_U32, shape_a, 2, err));
    QN_TRY(qn_safetensors_writer_begin_data(w, err));
    QN_TRY(qn_safetensors_write_data(w, 3, 30, bytes + 30, 30, err));
    QN_TRY(qn_safetensors_write_data(w, 1, 0, bytes, 2, err));
    QN_TRY(qn_safetensors_write_data(w, 0, 0, bytes, 60, err));
    QN_TRY(qn_safetensors_write_data(w, 3, 0, bytes, 30, err));
done:
    return status;
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    quern_error err;
    qn_safetensors_writer *w;
    qn_safetensors *s;
    char *dir = scratch_create();
    const char *path = scratch_path(dir, "t.safetensors");
    assert_ok(qn_safetensors_writer_create(&w, path, &err));
    assert_ok(write_four(w, &err));
    assert_false(qn_path_exists(path));
    uint64_t bytes = qn_safetensors_writer_bytes(w);
    assert_ok(qn_safetensors_writer_commit(w, &err));
    qn_safetensors_writer_destroy(w);
    assert_ok(qn_safetensors_open(&s, path, false, &err));
    assert_int_equal(qn_safetensors_file_bytes(s, 0), bytes);
    assert_int_equal(qn_safetensors_n_tensors(s), 4);
    assert_string_equal(qn_safetensors_metadata(s, "format"), "mlx");
    const qn_tensor *t = qn_safetensors_find(s, "weight \"quoted\"");
    assert_non_null(t);
    assert_int_equal(t->file_offset % 64, 0);
    assert_int_equal(t->shape[1], 5);
    t = qn_safetensors_find(s, "scalar");
    assert_int_equal(t->n_dims, 0);
    assert_int_equal(t->n_bytes, 2);
    assert_int_equal(qn_safetensors_find(s, "empty")->n_bytes, 0);
    t = qn_safetensors_find(s, "words");
    for (size_t i = 0; i < 60; i++) {
        assert_int_equal(t->data[i], i);
    }
    qn_safetensors_close(s);
    scratch_remove(dir);
}

static void half_written_files_leave_nothing(void **state)
{
    (void)state;
    quern_error err;
    qn_safetensors_writer *w;
    char *dir = scratch_create();
    assert_ok(qn_safetensors_writer_create(&w, scratch_path(dir, "t.safetensors"), &err));
    assert_ok(write_four(w, &err));
    assert_int_equal(qn_safetensors_declare(w, "late", QN_DTYPE_F32, shape_a, 2, &err), QUERN_ERROR_INTERNAL);
    qn_safetensors_writer_destroy(w);
    assert_int_equal(scratch_count(dir), 0);
    assert_ok(qn_safetensors_writer_create(&w, scratch_path(dir, "t.safetensors"), &err));
    assert_ok(qn_safetensors_declare(w, "a", QN_DTYPE_F32, shape_a, 2, &err));
    assert_int_equal(qn_safetensors_declare(w, "a", QN_DTYPE_F32, shape_a, 2, &err), QUERN_ERROR_INTERNAL);
    assert_int_equal(qn_safetensors_declare(w, "q", QN_DTYPE_Q8_0, shape_a, 2, &err), QUERN_ERROR_INVALID);
    assert_ok(qn_safetensors_put_metadata(w, "k", "v", &err));
    assert_int_equal(qn_safetensors_put_metadata(w, "k", "v", &err), QUERN_ERROR_INTERNAL);
    assert_ok(qn_safetensors_writer_begin_data(w, &err));
    assert_int_equal(qn_safetensors_writer_commit(w, &err), QUERN_ERROR_INTERNAL);
    assert_message(&err, "t.safetensors", "tensor 'a' is not complete");
    qn_safetensors_writer_destroy(w);
    assert_int_equal(scratch_count(dir), 0);
    scratch_remove(dir);
}

/* ---- folders and failing memory ---- */

static void write_single(const char *path, const char *name)
{
    quern_error err;
    qn_safetensors_writer *w;
    float value = 1;
    assert_ok(qn_safetensors_writer_create(&w, path, &err));
    assert_ok(qn_safetensors_declare(w, name, QN_DTYPE_F32, NULL, 0, &err));
    assert_ok(qn_safetensors_writer_begin_data(w, &err));
    assert_ok(qn_safetensors_write_data(w, 0, 0, &value, sizeof value, &err));
    assert_ok(qn_safetensors_writer_commit(w, &err));
    qn_safetensors_writer_destroy(w);
}

static void folders_follow_their_index(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        quern_status status;
    } cases[] = {
        {"{\"metadata\":{\"total_size\":8,\"x\":[1,{}]},\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}", QUERN_OK},
        {"{\"weight_map\":{\"a\":\"1.safetensors\"}}", QUERN_OK},
        {"{\"weight_map\":{}}", QUERN_ERROR_INVALID},
        {"{}", QUERN_ERROR_INVALID},
        {"[]", QUERN_ERROR_INVALID},
        {"", QUERN_ERROR_INVALID},
        {"{\"weight_map\":{\"a\":\"1.safetensors\"},\"weight_map\":{}}", QUERN_ERROR_INVALID},
        {"{\"weight_map\":{\"a\":1}}", QUERN_ERROR_INVALID},
        {"{\"weight_map\":{\"a\":\"2.safetensors\"}}", QUERN_ERROR_INVALID},
        {"{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"3.safetensors\"}}", QUERN_ERROR_NOT_FOUND},
        {"{\"weight_map\":{\"a\":\"1.bin\"}}", QUERN_ERROR_INVALID},
        {"{\"weight_map\":{\"a\":\"..\"}}", QUERN_ERROR_INVALID},
        {"{\"weight_map\":{\"a\":\".safetensors\"}}", QUERN_ERROR_INVALID},
        {"{\"weight_map\":{\"a\":\"./1.safetensors\"}}", QUERN_ERROR_INVALID},
        {"{\"weight_map\":{\"a\":\"1.safetensors\\u0000\"}}", QUERN_ERROR_INVALID},
        {"{\"weight_map\":{\"a\":\"1.safetensors\"},\"m\":[}", QUERN_ERROR_INVALID},
    };
    char *dir = scratch_create();
    quern_error err;
    qn_safetensors *s;
    assert_int_equal(qn_safetensors_open_dir(&s, dir, false, &err), QUERN_ERROR_NOT_FOUND);
    assert_message(&err, dir, "neither model.safetensors");
    write_single(scratch_path(dir, "1.safetensors"), "a");
    write_single(scratch_path(dir, "2.safetensors"), "b");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(scratch_path(dir, "model.safetensors.index.json"), cases[i].json, strlen(cases[i].json));
        quern_status status = qn_safetensors_open_dir(&s, dir, i % 2 == 0, &err);
        if (status != cases[i].status) {
            print_error("%s: %s %s\n", cases[i].json, quern_status_name(status), status != QUERN_OK ? err.message : "");
        }
        assert_int_equal(status, cases[i].status);
        if (status != QUERN_OK) {
            assert_message(&err, dir, NULL);
        }
        qn_safetensors_close(s);
    }
    write_single(scratch_path(dir, "model.safetensors"), "c"); /* goes before an index */
    assert_ok(qn_safetensors_open_dir(&s, dir, false, &err));
    assert_non_null(qn_safetensors_find(s, "c"));
    qn_safetensors_close(s);
    scratch_remove(dir);
}

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    static const char json[] = "{\"weight_map\":{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}}";
    char *dir = scratch_create();
    write_single(scratch_path(dir, "1.safetensors"), "a");
    write_single(scratch_path(dir, "2.safetensors"), "b");
    write_file(scratch_path(dir, "model.safetensors.index.json"), json, sizeof json - 1);
    for (int copy = 0; copy < 2; copy++) {
        bool opened = false;
        for (uint64_t n = 1; !opened; n++) {
            quern_error err;
            qn_safetensors *s;
            qn_alloc_fail_at(n);
            quern_status status = qn_safetensors_open_dir(&s, dir, copy != 0, &err);
            qn_alloc_fail_at(0);
            opened = status == QUERN_OK;
            assert_true(opened || status == QUERN_ERROR_MEMORY);
            qn_safetensors_close(s);
            assert_true(n < 100);
        }
    }
    bool written = false;
    for (uint64_t n = 1; !written; n++) {
        quern_error err;
        qn_safetensors_writer *w;
        qn_alloc_fail_at(n);
        quern_status status = qn_safetensors_writer_create(&w, scratch_path(dir, "w.safetensors"), &err);
        status = status == QUERN_OK ? write_four(w, &err) : status;
        status = status == QUERN_OK ? qn_safetensors_writer_commit(w, &err) : status;
        qn_alloc_fail_at(0);
        written = status == QUERN_OK;
        assert_true(written || status == QUERN_ERROR_MEMORY);
        qn_safetensors_writer_destroy(w);
        assert_true(n < 100);
    }
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens_open),
        cmocka_unit_test(shards_open_together),
        cmocka_unit_test(corrupt_files_are_refused),
        cmocka_unit_test(cut_and_changed_files_never_crash),
        cmocka_unit_test(headers_are_read_strictly),
        cmocka_unit_test(json_values_are_skipped_whole),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(half_written_files_leave_nothing),
        cmocka_unit_test(folders_follow_their_index),
        cmocka_unit_test(every_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
