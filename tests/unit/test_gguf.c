/* test_gguf.c - reading GGUF (goldens, corrupt files, cut and changed files, shards, failing memory) and writing it. */
#include "test_files.h"

#include <dirent.h>
#include <math.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "formats/gguf_read.h"
#include "formats/gguf_write.h"

/* ---- goldens ---- */

static void check_key(const qn_gguf *g, const char *key, const qn_json *expected)
{
    quern_error err;
    bool found = false;
    const qn_gguf_value *v = qn_gguf_find(g, key);
    assert_non_null(v);
    double number;
    const char *text = qn_json_string(expected, NULL);
    switch (qn_json_get_kind(expected)) {
    case QN_JSON_INT: {
        uint64_t u;
        int64_t i;
        assert_true(qn_json_int(expected, &i));
        assert_ok(qn_gguf_get_u64(g, key, &u, &found, &err));
        assert_int_equal(u, i);
        break;
    }
    case QN_JSON_REAL: {
        double d;
        assert_true(qn_json_number(expected, &number));
        assert_ok(qn_gguf_get_f64(g, key, &d, &found, &err));
        assert_true(d == number);
        break;
    }
    case QN_JSON_BOOL: {
        bool b;
        assert_ok(qn_gguf_get_bool(g, key, &b, &found, &err));
        assert_int_equal(b, qn_json_bool(expected, !b));
        break;
    }
    default: {
        unsigned long long n;
        char element[4];
        if (text != NULL && sscanf(text, "[%llu x %3[a-z]]", &n, element) == 2) { /* an array, shortened */
            assert_int_equal(v->type, QN_GGUF_ARRAY);
            assert_int_equal(v->n, n);
            assert_int_equal(v->element == QN_GGUF_STRING, strcmp(element, "str") == 0);
            break;
        }
        if (text == NULL) { /* ["golden"] */
            assert_int_equal(v->n, qn_json_length(expected));
            const uint8_t *cursor = v->data;
            qn_span s = qn_gguf_next_string(&cursor);
            text = qn_json_string(qn_json_at(expected, 0), NULL);
            assert_memory_equal(s.data, text, s.len);
            break;
        }
        qn_span s;
        assert_ok(qn_gguf_get_string(g, key, &s, &found, &err));
        size_t len = strlen(text);
        bool cut = len > 3 && strcmp(text + len - 3, "...") == 0;
        assert_true(cut ? s.len > len - 3 : s.len == len);
        assert_memory_equal(s.data, text, cut ? len - 3 : len);
    }
    }
}

static void check_tensors(const qn_gguf *g, const qn_json *expected)
{
    assert_int_equal(qn_gguf_n_tensors(g), qn_json_length(expected));
    for (size_t i = 0; i < qn_gguf_n_tensors(g); i++) {
        const qn_tensor *t = qn_gguf_tensor_at(g, i);
        const qn_json *row = qn_json_at(expected, i);
        const qn_json *dims = qn_json_at(row, 1);
        int64_t offset;
        assert_string_equal(t->name, qn_json_string(qn_json_at(row, 0), NULL));
        assert_int_equal(t->n_dims, qn_json_length(dims));
        for (uint32_t d = 0; d < t->n_dims; d++) {
            int64_t dim;
            assert_true(qn_json_int(qn_json_at(dims, t->n_dims - 1 - d), &dim));
            assert_int_equal(t->shape[d], dim);
        }
        assert_string_equal(qn_dtype_get(t->dtype)->name, qn_json_string(qn_json_at(row, 2), NULL));
        assert_true(qn_json_int(qn_json_at(row, 3), &offset));
        assert_int_equal(t->file_offset, offset);
        assert_ptr_equal(qn_gguf_find_tensor(g, t->name), t);
    }
    assert_null(qn_gguf_find_tensor(g, "no such tensor"));
}

static void goldens_have_the_listed_keys_and_tensors(void **state)
{
    (void)state;
    const char *index_path = qn_test_golden("gguf/index.json");
    assert_non_null(index_path);
    qn_json *index = read_json(index_path);
    size_t n_opened = 0;
    for (qn_json_iterator *it = qn_json_iter(index); it != NULL; it = qn_json_next(index, it)) {
        const qn_json *expected = qn_json_iter_value(it);
        char name[256];
        (void)snprintf(name, sizeof name, "gguf/base/%s", qn_json_iter_key(it, NULL));
        const char *path = qn_test_golden(name);
        if (path == NULL) {
            (void)snprintf(name, sizeof name, "gguf/quant/%s", qn_json_iter_key(it, NULL));
            path = qn_test_golden(name);
        }
        for (int copy = 0; path != NULL && copy < 2; copy++) {
            quern_error err;
            qn_gguf *g;
            assert_ok(qn_gguf_open(&g, path, copy != 0, &err));
            const qn_json *kv = qn_json_get(expected, "kv");
            assert_int_equal(qn_gguf_n_keys(g), qn_json_length(kv));
            for (qn_json_iterator *k = qn_json_iter(kv); k != NULL; k = qn_json_next(kv, k)) {
                check_key(g, qn_json_iter_key(k, NULL), qn_json_iter_value(k));
            }
            check_tensors(g, qn_json_get(expected, "tensors"));
            assert_int_equal(qn_gguf_version(g), 3);
            assert_int_equal(qn_gguf_n_files(g), 1);
            assert_string_equal(qn_gguf_file_path(g, 0), path);
            if (copy != 0) {
                assert_int_equal((uintptr_t)(qn_gguf_tensor_at(g, 0)->data - qn_gguf_tensor_at(g, 0)->file_offset) % 64, 0);
            }
            qn_gguf_close(g);
            n_opened++;
        }
    }
    qn_json_free(index);
    print_message("%zu opened\n", n_opened);
    assert_true(n_opened == (qn_test_shared("goldens/gguf/base/gpt_oss.bf16.gguf") != NULL ? 2 * 37 : n_opened) && n_opened >= 4);
}

/* ---- corrupt files ---- */

/* What only somebody who knows models can find wrong: these open here and are refused above. */
static bool is_about_models(const char *file)
{
    static const char *const prefixes[] = {
        "no_architecture",  "architecture_",       "block_count_",   "head_count_",    "embedding_length_",   "eps_nan",
        "freq_base_0",      "rope_dim_",           "vocab_mismatch", "tokens_are_u32", "eos_out_of_range",    "merges_bad",
        "token_type_short", "missing_output_norm", "scale_nan",      "norm_inf",       "extra_unknown_tensor"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        if (strncmp(file + strlen("gguf/"), prefixes[i], strlen(prefixes[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* What the message must say beyond the file's name, for faults whose place is a name. */
static const char *const places[][2] = {
    {"gguf/duplicate_key.gguf", "'llama.block_count'"},
    {"gguf/duplicate_tensor.gguf", "'blk.0.attn_k.weight'"},
    {"gguf/alignment_3.gguf", "'general.alignment' is 3 (expected a power of two"},
    {"gguf/alignment_string.gguf", "'general.alignment' has type string, expected an integer"},
    {"gguf/n_dims_5.gguf", "5 dimensions (expected 1 to 4)"},
    {"gguf/dim_0.gguf", "is 0 (expected at least 1)"},
    {"gguf/row_not_block_multiple.gguf", "rows of 33 elements in blocks of 32"},
    {"gguf/type_9999.gguf", "type number 9999"},
    {"gguf/type_removed_4.gguf", "removed type number 4"},
    {"gguf/offset_unaligned.gguf", "offset 33 is no multiple of the alignment 32"},
    {"gguf/offset_overlap.gguf", "must not share bytes"},
    {"gguf/trunc_data_last_byte.gguf", "go past the end of the file (21599 bytes)"},
    {"gguf/bad_magic.gguf", "expected \"GGUF\""},
    {"gguf/version_99.gguf", "version 99"},
    {"gguf/big_endian.gguf", "big-endian"},
    {"gguf/bool_value_7.gguf", "a bool is 7"},
    {"gguf/array_nested_2000.gguf", "array"},
};

static void check_corrupt(const char *file, const char *path, const char *expect, void *user)
{
    size_t *n_refused = user;
    for (int copy = 0; copy < 2; copy++) {
        quern_error err;
        qn_gguf *g;
        quern_status status = qn_gguf_open(&g, path, copy != 0, &err);
        bool fine = strcmp(expect, "ok") == 0 || is_about_models(file);
        bool refused = strcmp(expect, "error") == 0 && !is_about_models(file);
        if ((fine && status != QUERN_OK) || (refused && status == QUERN_OK)) {
            print_error("%s: %s, expected %s: %s\n", file, quern_status_name(status), expect, status != QUERN_OK ? err.message : "");
            fail();
        }
        if (status != QUERN_OK) {
            assert_null(g);
            assert_int_equal(quern_status_exit_code(status), 3);
            assert_message(&err, path, NULL);
            for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
                if (strcmp(places[i][0], file) == 0) {
                    assert_message(&err, path, places[i][1]);
                }
            }
            ++*n_refused;
        }
        qn_gguf_close(g);
    }
}

static void corrupt_files_are_refused(void **state)
{
    (void)state;
    size_t n_refused = 0;
    size_t n = for_each_corrupt("gguf", check_corrupt, &n_refused);
    print_message("%zu files, %zu refusals\n", n, n_refused);
    assert_true(n >= 83 && n_refused >= 100);
}

/* Reads every byte that an open file promises, so that ASan can object. */
static uint64_t touch(const qn_gguf *g)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < qn_gguf_n_keys(g); i++) {
        const qn_gguf_value *v = qn_gguf_key_at(g, i);
        const uint8_t *cursor = v->data;
        int64_t integer;
        double real;
        for (size_t b = 0; b < v->n_bytes; b++) {
            sum += v->data[b];
        }
        for (uint64_t k = 0; k < v->n; k++) {
            sum += qn_gguf_element_i64(v, k, &integer) ? 1u : 0u;
            sum += qn_gguf_element_f64(v, k, &real) ? 1u : 0u;
            if (v->element == QN_GGUF_STRING) {
                qn_span s = qn_gguf_next_string(&cursor);
                sum += s.len > 0 ? (uint64_t)s.data[s.len - 1] : 0;
            }
        }
        assert_true(v->element != QN_GGUF_STRING || cursor == v->data + v->n_bytes);
    }
    for (size_t i = 0; i < qn_gguf_n_tensors(g); i++) {
        const qn_tensor *t = qn_gguf_tensor_at(g, i);
        sum += t->data[0] + t->data[t->n_bytes - 1] + strlen(t->name);
    }
    return sum;
}

static void every_cut_is_refused(void **state)
{
    (void)state;
    size_t size;
    uint8_t *whole = read_file(qn_test_golden("corrupt/gguf/ok_base.gguf"), &size);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = malloc(n != 0 ? n : 1);
        quern_error err;
        qn_gguf *g;
        assert_non_null(cut);
        memcpy(cut, whole, n);
        quern_status status = qn_gguf_parse(&g, cut, n, "cut.gguf", &err);
        assert_int_equal(status, QUERN_ERROR_INVALID);
        assert_message(&err, "cut.gguf", NULL);
        free(cut);
    }
    free(whole);
}

static void changed_bytes_never_crash(void **state)
{
    (void)state;
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    size_t size;
    size_t n_opened = 0;
    uint64_t sum = 0;
    uint8_t *whole = read_file(qn_test_golden("corrupt/gguf/ok_base.gguf"), &size);
    quern_error err;
    qn_gguf *g;
    assert_ok(qn_gguf_parse(&g, whole, size, "ok", &err));
    size_t header = (size_t)qn_gguf_tensor_at(g, 0)->file_offset;
    qn_gguf_close(g);
    for (size_t at = 0; at < header; at++) {
        for (size_t m = 0; m < sizeof masks; m++) {
            whole[at] ^= masks[m];
            quern_status status = qn_gguf_parse(&g, whole, size, "changed.gguf", &err);
            if (status == QUERN_OK) {
                sum += touch(g);
                n_opened++;
            } else {
                assert_message(&err, "changed.gguf", NULL);
            }
            qn_gguf_close(g);
            whole[at] ^= masks[m];
        }
    }
    free(whole);
    print_message("%zu of %zu changed files open (%llu)\n", n_opened, header * sizeof masks, (unsigned long long)sum);
    assert_true(n_opened > 0 && n_opened < header * sizeof masks);
}

/* ---- hand-made hostile files ---- */

typedef struct image {
    uint8_t bytes[1024];
    size_t n;
} image;

static void add_int(image *m, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        m->bytes[m->n++] = (uint8_t)(v >> (8 * i));
    }
}
static void add_text(image *m, const char *s, size_t len)
{
    add_int(m, len, 8);
    memcpy(m->bytes + m->n, s, len);
    m->n += len;
}
static image begin_image(uint64_t n_tensors, uint64_t n_keys)
{
    image m = {.n = 4};
    memcpy(m.bytes, "GGUF", 4);
    add_int(&m, 3, 4);
    add_int(&m, n_tensors, 8);
    add_int(&m, n_keys, 8);
    return m;
}
static void add_info(image *m, const char *name, uint64_t columns, uint64_t rows, uint32_t type, uint64_t offset)
{
    add_text(m, name, strlen(name));
    add_int(m, 2, 4);
    add_int(m, columns, 8);
    add_int(m, rows, 8);
    add_int(m, type, 4);
    add_int(m, offset, 8);
}

static void assert_refused(const image *m, const char *fragment)
{
    quern_error err;
    qn_gguf *g;
    quern_status status = qn_gguf_parse(&g, m->bytes, m->n, "made.gguf", &err);
    assert_int_equal(quern_status_exit_code(status), 3);
    assert_message(&err, "made.gguf", fragment);
}

static void hostile_headers_are_refused(void **state)
{
    (void)state;
    image m = begin_image(1, 0);
    add_info(&m, "a", (uint64_t)1 << 62, (uint64_t)1 << 62, 0, 0);
    assert_refused(&m, "elements does not fit");
    m = begin_image(1, 0);
    add_info(&m, "a", ((uint64_t)1 << 62) - 1, 1, 0, 0);
    assert_refused(&m, "bytes does not fit");
    m = begin_image(1, 0);
    add_info(&m, "a", 8, 1, 0, UINT64_MAX - 31);
    assert_refused(&m, "go past the end");
    m = begin_image(1, 0);
    add_info(&m, "a\xff", 8, 1, 0, 0);
    assert_refused(&m, "is no text");
    m = begin_image(1, 0);
    add_info(&m, "", 8, 1, 0, 0);
    assert_refused(&m, "is no text");
    m = begin_image(1, 0);
    add_info(&m, "a", 256, 1, 16, 0);
    assert_refused(&m, "IQ2_XXS, which this version cannot read");
    m = begin_image(0, 1);
    add_text(&m, "a\0b", 3);
    add_int(&m, QN_GGUF_U8, 4);
    add_int(&m, 1, 1);
    assert_refused(&m, "is no text");
    m = begin_image(0, 1);
    add_text(&m, "general.alignment", 17);
    add_int(&m, QN_GGUF_I32, 4);
    add_int(&m, 0xffffffe0u, 4);
    assert_refused(&m, "no negative number");
    m = begin_image(0, 1);
    add_text(&m, "k", 1);
    add_int(&m, QN_GGUF_ARRAY, 4);
    add_int(&m, QN_GGUF_BOOL, 4);
    add_int(&m, 3, 8);
    add_int(&m, 0x020100, 3);
    assert_refused(&m, "a bool is 2");
    m = begin_image(0, 1);
    add_text(&m, "k", 1);
    add_int(&m, QN_GGUF_ARRAY, 4);
    add_int(&m, QN_GGUF_STRING, 4);
    add_int(&m, 2, 8);
    add_text(&m, "x", 1);
    add_int(&m, UINT64_MAX, 8);
    assert_refused(&m, "string 1 at byte");
    m = begin_image(0, 2);
    add_text(&m, "split.count", 11);
    add_int(&m, QN_GGUF_U16, 4);
    add_int(&m, 2, 2);
    add_text(&m, "split.no", 8);
    add_int(&m, QN_GGUF_U16, 4);
    add_int(&m, 2, 2);
    assert_refused(&m, "split.tensors.count");
}

static void typed_reading_is_strict(void **state)
{
    (void)state;
    quern_error err;
    qn_gguf *g;
    image m = begin_image(0, 6);
    add_text(&m, "i8", 2), add_int(&m, QN_GGUF_I8, 4), add_int(&m, 0x80, 1);
    add_text(&m, "u64", 3), add_int(&m, QN_GGUF_U64, 4), add_int(&m, UINT64_MAX, 8);
    add_text(&m, "f32", 3), add_int(&m, QN_GGUF_F32, 4), add_int(&m, 0x3fc00000u, 4);
    add_text(&m, "bool", 4), add_int(&m, QN_GGUF_BOOL, 4), add_int(&m, 1, 1);
    add_text(&m, "text", 4), add_int(&m, QN_GGUF_STRING, 4), add_text(&m, "abc", 3);
    add_text(&m, "i16s", 4), add_int(&m, QN_GGUF_ARRAY, 4), add_int(&m, QN_GGUF_I16, 4), add_int(&m, 2, 8), add_int(&m, 0x7ffffffe, 4);
    assert_ok(qn_gguf_parse(&g, m.bytes, m.n, "typed.gguf", &err));
    uint64_t u = 7;
    int64_t i = 7;
    double d = 7;
    bool b = false;
    bool found = true;
    qn_span s = {0};
    assert_int_equal(qn_gguf_get_u64(g, "i8", &u, &found, &err), QUERN_ERROR_INVALID);
    assert_message(&err, "typed.gguf", "'i8' is -128, expected no negative number");
    assert_ok(qn_gguf_get_u64(g, "u64", &u, &found, &err));
    assert_true(found && u == UINT64_MAX);
    assert_false(qn_gguf_element_i64(qn_gguf_find(g, "u64"), 0, &i));
    assert_true(qn_gguf_element_i64(qn_gguf_find(g, "i8"), 0, &i) && i == -128);
    assert_false(qn_gguf_element_i64(qn_gguf_find(g, "i8"), 1, &i));
    assert_true(qn_gguf_element_i64(qn_gguf_find(g, "i16s"), 0, &i) && i == -2);
    assert_true(qn_gguf_element_i64(qn_gguf_find(g, "i16s"), 1, &i) && i == 32767);
    assert_false(qn_gguf_element_i64(qn_gguf_find(g, "i16s"), 2, &i));
    assert_ok(qn_gguf_get_f64(g, "f32", &d, &found, &err));
    assert_true(found && d == 1.5);
    assert_int_equal(qn_gguf_get_f64(g, "u64", &d, &found, &err), QUERN_ERROR_INVALID);
    assert_int_equal(qn_gguf_get_u64(g, "f32", &u, &found, &err), QUERN_ERROR_INVALID);
    assert_int_equal(qn_gguf_get_u64(g, "bool", &u, &found, &err), QUERN_ERROR_INVALID);
    assert_int_equal(qn_gguf_get_u64(g, "i16s", &u, &found, &err), QUERN_ERROR_INVALID);
    assert_message(&err, "typed.gguf", "'i16s' has type array of i16, expected an integer");
    assert_ok(qn_gguf_get_bool(g, "bool", &b, &found, &err));
    assert_true(found && b);
    assert_int_equal(qn_gguf_get_bool(g, "i8", &b, &found, &err), QUERN_ERROR_INVALID);
    assert_ok(qn_gguf_get_string(g, "text", &s, &found, &err));
    assert_true(found && s.len == 3 && memcmp(s.data, "abc", 3) == 0);
    assert_int_equal(qn_gguf_get_string(g, "bool", &s, &found, &err), QUERN_ERROR_INVALID);
    assert_ok(qn_gguf_get_u64(g, "absent", &u, &found, &err));
    assert_false(found);
    qn_gguf_close(g);
}

/* ---- writing ---- */

static quern_status put_every_type(qn_gguf_writer *w, quern_error *err)
{
    static const qn_span words[] = {{"one", 3}, {"", 0}, {"tw\0o", 4}};
    static const int16_t shorts[] = {-1, 2, 300};
    static const uint8_t bools[] = {1, 0, 1};
    static const double reals[] = {0.5, -1e300};
    quern_status status = QUERN_OK;
    QN_TRY(qn_gguf_put_u32(w, "u32", 4000000000u, err));
    QN_TRY(qn_gguf_put_u64(w, "u64", (uint64_t)1 << 63, err));
    QN_TRY(qn_gguf_put_i32(w, "i32", -5, err));
    QN_TRY(qn_gguf_put_f32(w, "f32", 0.25f, err));
    QN_TRY(qn_gguf_put_bool(w, "bool", true, err));
    QN_TRY(qn_gguf_put_string(w, "string", "h\xc3\xa4", 3, err));
    QN_TRY(qn_gguf_put_array(w, "shorts", QN_GGUF_I16, shorts, 3, err));
    QN_TRY(qn_gguf_put_array(w, "bools", QN_GGUF_BOOL, bools, 3, err));
    QN_TRY(qn_gguf_put_array(w, "reals", QN_GGUF_F64, reals, 2, err));
    QN_TRY(qn_gguf_put_strings(w, "words", words, 3, err));
    QN_TRY(qn_gguf_put_strings(w, "nothing", NULL, 0, err));
done:
    return status;
}

static const uint64_t shape_a[] = {3, 5};
static const uint64_t shape_b[] = {2, 2, 64};
static const uint64_t shape_c[] = {1};

/* Declares a, b, c and writes their bytes 0, 1, 2, ... in an odd order. */
static quern_status write_three_tensors(qn_gguf_writer *w, bool leave_a_gap, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint8_t bytes[256];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)i;
    }
    QN_TRY(qn_gguf_declare(w, "a", QN_DTYPE_F32, shape_a, 2, err));
    QN_TRY(qn_gguf_declare(w, "b", QN_DTYPE_Q8_0, shape_b, 3, err)); /* 4 rows of 68 bytes */
    QN_TRY(qn_gguf_declare(w, "c", QN_DTYPE_I8, shape_c, 1, err));
    QN_TRY(qn_gguf_writer_begin_data(w, err));
    QN_TRY(qn_gguf_write_data(w, 2, 0, bytes, 1, err));
    QN_TRY(qn_gguf_write_data(w, 0, 0, bytes, 10, err));
    QN_TRY(qn_gguf_write_data(w, 0, 20, bytes + 20, 40, err));
    QN_TRY(qn_gguf_write_data(w, 1, 0, bytes, 256, err));
    QN_TRY(qn_gguf_write_data(w, 0, 10, bytes + 10, leave_a_gap ? 9 : 10, err));
    QN_TRY(qn_gguf_write_data(w, 1, 256, bytes, 16, err));
done:
    return status;
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    quern_error err;
    char *dir = scratch_create();
    const char *path = scratch_path(dir, "t.gguf");
    const char *again = scratch_path(dir, "again.gguf");
    for (uint32_t alignment = 8; alignment <= 4096; alignment *= 8) {
        qn_gguf_writer *w;
        qn_gguf *g;
        assert_ok(qn_gguf_writer_create(&w, path, &err));
        assert_ok(put_every_type(w, &err));
        assert_ok(qn_gguf_put_u32(w, "general.alignment", alignment, &err));
        assert_ok(write_three_tensors(w, false, &err));
        uint64_t bytes = qn_gguf_writer_bytes(w);
        assert_ok(qn_gguf_writer_commit(w, &err));
        qn_gguf_writer_destroy(w);
        assert_ok(qn_gguf_open(&g, path, false, &err));
        assert_int_equal(qn_gguf_file_bytes(g, 0), bytes);
        assert_int_equal(bytes % alignment, 0);
        assert_int_equal(qn_gguf_n_keys(g), 12);
        int64_t i;
        double d;
        assert_true(qn_gguf_element_i64(qn_gguf_find(g, "u32"), 0, &i) && i == 4000000000);
        assert_true(qn_gguf_element_i64(qn_gguf_find(g, "i32"), 0, &i) && i == -5);
        assert_true(qn_gguf_element_i64(qn_gguf_find(g, "shorts"), 2, &i) && i == 300);
        assert_true(qn_gguf_element_f64(qn_gguf_find(g, "f32"), 0, &d) && d == 0.25);
        assert_true(qn_gguf_element_f64(qn_gguf_find(g, "reals"), 1, &d) && d == -1e300);
        assert_int_equal(qn_gguf_find(g, "bools")->n, 3);
        assert_int_equal(qn_gguf_find(g, "nothing")->n, 0);
        const uint8_t *cursor = qn_gguf_find(g, "words")->data;
        (void)qn_gguf_next_string(&cursor);
        assert_int_equal(qn_gguf_next_string(&cursor).len, 0);
        assert_memory_equal(qn_gguf_next_string(&cursor).data, "tw\0o", 4);
        assert_int_equal(qn_gguf_n_tensors(g), 3);
        static const size_t sizes[] = {60, 272, 1};
        for (size_t k = 0; k < 3; k++) {
            const qn_tensor *t = qn_gguf_tensor_at(g, k);
            assert_int_equal(t->n_bytes, sizes[k]);
            assert_int_equal(t->file_offset % alignment, 0);
            for (size_t b = 0; b < t->n_bytes; b++) {
                assert_int_equal(t->data[b], (uint8_t)b);
            }
        }
        assert_int_equal(qn_gguf_tensor_at(g, 1)->shape[0], 2);
        assert_int_equal(qn_gguf_tensor_at(g, 1)->shape[2], 64);

        /* copied key by key, in order, the file is the same to the byte */
        assert_ok(qn_gguf_writer_create(&w, again, &err));
        for (size_t k = 0; k < qn_gguf_n_keys(g); k++) {
            assert_ok(qn_gguf_put_value(w, qn_gguf_key_at(g, k), &err));
        }
        assert_ok(write_three_tensors(w, false, &err));
        assert_ok(qn_gguf_writer_commit(w, &err));
        qn_gguf_writer_destroy(w);
        size_t size_1;
        size_t size_2;
        uint8_t *bytes_1 = read_file(path, &size_1);
        uint8_t *bytes_2 = read_file(again, &size_2);
        assert_int_equal(size_1, size_2);
        assert_memory_equal(bytes_1, bytes_2, size_1);
        free(bytes_1);
        free(bytes_2);
        qn_gguf_close(g);
    }
    scratch_remove(dir);
}

/* A file of llama.cpp's tools, taken apart and written again, is the same to the byte. */
static void goldens_copy_to_the_byte(void **state)
{
    (void)state;
    static const char *const names[] = {"gguf/base/qwen3.bf16.gguf", "gguf/base/llama3_rope.f16.gguf", "gguf/quant/qwen3.Q4_K_M.gguf",
                                        "gguf/quant/qwen3.Q2_K.gguf", "corrupt/gguf/ok_alignment_64.gguf"};
    char *dir = scratch_create();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        quern_error err;
        qn_gguf *g;
        qn_gguf_writer *w;
        const char *path = qn_test_golden(names[i]);
        const char *copy = scratch_path(dir, "copy.gguf");
        assert_non_null(path);
        assert_ok(qn_gguf_open(&g, path, false, &err));
        assert_ok(qn_gguf_writer_create(&w, copy, &err));
        for (size_t k = 0; k < qn_gguf_n_keys(g); k++) {
            assert_ok(qn_gguf_put_value(w, qn_gguf_key_at(g, k), &err));
        }
        for (size_t k = 0; k < qn_gguf_n_tensors(g); k++) {
            const qn_tensor *t = qn_gguf_tensor_at(g, k);
            assert_ok(qn_gguf_declare(w, t->name, t->dtype, t->shape, t->n_dims, &err));
        }
        assert_ok(qn_gguf_writer_begin_data(w, &err));
        for (size_t k = 0; k < qn_gguf_n_tensors(g); k++) {
            const qn_tensor *t = qn_gguf_tensor_at(g, k);
            assert_ok(qn_gguf_write_data(w, k, 0, t->data, t->n_bytes, &err));
        }
        assert_ok(qn_gguf_writer_commit(w, &err));
        qn_gguf_writer_destroy(w);
        qn_gguf_close(g);
        size_t size;
        size_t copy_size;
        uint8_t *bytes = read_file(path, &size);
        uint8_t *copy_bytes = read_file(copy, &copy_size);
        assert_true(copy_size >= size && copy_size - size < 64); /* ours ends padded, some tools leave the last padding out */
        assert_memory_equal(bytes, copy_bytes, size);
        free(bytes);
        free(copy_bytes);
    }
    scratch_remove(dir);
}

static void half_written_files_leave_nothing(void **state)
{
    (void)state;
    quern_error err;
    qn_gguf_writer *w;
    char *dir = scratch_create();
    const char *path = scratch_path(dir, "t.gguf");
    assert_ok(qn_gguf_writer_create(&w, path, &err));
    assert_ok(write_three_tensors(w, true, &err));
    assert_int_equal(qn_gguf_writer_commit(w, &err), QUERN_ERROR_INTERNAL);
    assert_message(&err, path, "tensor 'a' is not complete");
    qn_gguf_writer_destroy(w);
    assert_int_equal(scratch_count(dir), 0);
    assert_ok(qn_gguf_writer_create(&w, path, &err));
    assert_ok(write_three_tensors(w, false, &err));
    assert_int_equal(qn_gguf_write_data(w, 0, 59, "x", 1, &err), QUERN_ERROR_INTERNAL);  /* twice */
    assert_int_equal(qn_gguf_write_data(w, 0, 59, "xx", 2, &err), QUERN_ERROR_INTERNAL); /* past its end */
    assert_int_equal(qn_gguf_write_data(w, 3, 0, "x", 1, &err), QUERN_ERROR_INTERNAL);
    qn_gguf_writer_destroy(w);
    assert_int_equal(scratch_count(dir), 0);
    assert_int_equal(qn_gguf_writer_create(&w, scratch_path(dir, "no/such/t.gguf"), &err), QUERN_ERROR_IO);
    scratch_remove(dir);
}

static void doubles_are_not_written(void **state)
{
    (void)state;
    quern_error err;
    qn_gguf_writer *w;
    char *dir = scratch_create();
    for (int tensor = 0; tensor < 2; tensor++) {
        assert_ok(qn_gguf_writer_create(&w, scratch_path(dir, "t.gguf"), &err));
        for (int i = 0; i < 2; i++) {
            if (tensor != 0) {
                assert_ok(qn_gguf_declare(w, "same", QN_DTYPE_F32, shape_c, 1, &err));
            } else {
                assert_ok(qn_gguf_put_u32(w, "same", 1, &err));
            }
        }
        assert_int_equal(qn_gguf_writer_begin_data(w, &err), QUERN_ERROR_INTERNAL);
        assert_message(&err, "t.gguf", "'same' is put twice");
        assert_int_equal(qn_gguf_declare(w, "odd", QN_DTYPE_Q4_K, shape_b, 3, &err), QUERN_ERROR_INVALID);
        assert_int_equal(qn_gguf_declare(w, "none", QN_DTYPE_U8, shape_b, 3, &err), QUERN_ERROR_INVALID);
        assert_int_equal(qn_gguf_put_u32(w, "general.alignment", 24, &err), QUERN_ERROR_INVALID);
        qn_gguf_writer_destroy(w);
    }
    scratch_remove(dir);
}

/* ---- split files ---- */

typedef struct shard_options {
    uint32_t number, count, total;
    const char *tensor;
} shard_options;

static void write_shard(const char *path, shard_options o)
{
    quern_error err;
    qn_gguf_writer *w;
    float value = (float)o.number;
    assert_ok(qn_gguf_writer_create(&w, path, &err));
    assert_ok(qn_gguf_put_u32(w, "split.no", o.number, &err));
    assert_ok(qn_gguf_put_u32(w, "split.count", o.count, &err));
    assert_ok(qn_gguf_put_u32(w, "split.tensors.count", o.total, &err));
    assert_ok(qn_gguf_declare(w, o.tensor, QN_DTYPE_F32, shape_c, 1, &err));
    assert_ok(qn_gguf_writer_begin_data(w, &err));
    assert_ok(qn_gguf_write_data(w, 0, 0, &value, sizeof value, &err));
    assert_ok(qn_gguf_writer_commit(w, &err));
    qn_gguf_writer_destroy(w);
}

static void split_files_open_together(void **state)
{
    (void)state;
    quern_error err;
    qn_gguf *g;
    char *dir = scratch_create();
    char paths[3][600];
    static const char *const names[] = {"zero", "one", "two"};
    for (uint32_t i = 0; i < 3; i++) {
        (void)snprintf(paths[i], sizeof paths[i], "%s/m-%05u-of-00003.gguf", dir, i + 1);
        write_shard(paths[i], (shard_options){.number = i, .count = 3, .total = 3, .tensor = names[i]});
    }
    for (int copy = 0; copy < 2; copy++) {
        assert_ok(qn_gguf_open(&g, paths[0], copy != 0, &err));
        assert_int_equal(qn_gguf_n_files(g), 3);
        assert_int_equal(qn_gguf_n_tensors(g), 3);
        for (uint32_t i = 0; i < 3; i++) {
            const qn_tensor *t = qn_gguf_find_tensor(g, names[i]);
            float value;
            assert_non_null(t);
            memcpy(&value, t->data, sizeof value);
            assert_true(value == (float)i);
            assert_int_equal(t->file_index, i);
            assert_string_equal(qn_gguf_file_path(g, i), paths[i]);
        }
        qn_gguf_close(g);
    }
    assert_int_equal(qn_gguf_open(&g, paths[1], false, &err), QUERN_ERROR_INVALID);
    assert_message(&err, paths[1], "-00001-of-00003.gguf");

    write_shard(paths[1], (shard_options){.number = 1, .count = 3, .total = 3, .tensor = "zero"});
    assert_int_equal(qn_gguf_open(&g, paths[0], false, &err), QUERN_ERROR_INVALID);
    assert_message(&err, paths[1], "'zero' is there twice");
    write_shard(paths[1], (shard_options){.number = 2, .count = 3, .total = 3, .tensor = "one"});
    assert_int_equal(qn_gguf_open(&g, paths[0], false, &err), QUERN_ERROR_INVALID);
    assert_message(&err, paths[1], "says it is shard 2 of 3");
    write_shard(paths[1], (shard_options){.number = 1, .count = 4, .total = 3, .tensor = "one"});
    assert_int_equal(qn_gguf_open(&g, paths[0], false, &err), QUERN_ERROR_INVALID);
    write_shard(paths[1], (shard_options){.number = 1, .count = 3, .total = 4, .tensor = "one"});
    assert_int_equal(qn_gguf_open(&g, paths[0], false, &err), QUERN_ERROR_INVALID);
    for (uint32_t i = 0; i < 3; i++) {
        write_shard(paths[i], (shard_options){.number = i, .count = 3, .total = 4, .tensor = names[i]});
    }
    assert_int_equal(qn_gguf_open(&g, paths[0], false, &err), QUERN_ERROR_INVALID);
    assert_message(&err, paths[0], "split.tensors.count is 4");
    assert_int_equal(unlink(paths[2]), 0);
    assert_int_equal(qn_gguf_open(&g, paths[0], false, &err), QUERN_ERROR_NOT_FOUND);
    assert_message(&err, paths[2], "shard 3 of 3");
    const char *other = scratch_path(dir, "renamed.gguf");
    write_shard(other, (shard_options){.number = 0, .count = 3, .total = 3, .tensor = "zero"});
    assert_int_equal(qn_gguf_open(&g, other, false, &err), QUERN_ERROR_INVALID);
    assert_message(&err, other, "-00001-of-00003.gguf");
    size_t size;
    uint8_t *bytes = read_file(other, &size);
    assert_int_equal(qn_gguf_parse(&g, bytes, size, "memory", &err), QUERN_ERROR_UNSUPPORTED);
    free(bytes);
    scratch_remove(dir);
}

/* ---- failing memory, speed ---- */

static void every_failing_allocation_is_reported(void **state)
{
    (void)state;
    char *dir = scratch_create();
    char paths[2][600];
    for (uint32_t i = 0; i < 2; i++) {
        (void)snprintf(paths[i], sizeof paths[i], "%s/m-%05u-of-00002.gguf", dir, i + 1);
        write_shard(paths[i], (shard_options){.number = i, .count = 2, .total = 2, .tensor = i == 0 ? "a" : "b"});
    }
    for (int copy = 0; copy < 2; copy++) {
        bool opened = false;
        for (uint64_t n = 1; !opened; n++) {
            quern_error err;
            qn_gguf *g;
            qn_alloc_fail_at(n);
            quern_status status = qn_gguf_open(&g, paths[0], copy != 0, &err);
            qn_alloc_fail_at(0);
            opened = status == QUERN_OK;
            if (!opened) {
                assert_int_equal(status, QUERN_ERROR_MEMORY);
                assert_null(g);
            }
            qn_gguf_close(g);
            assert_true(n < 100);
        }
    }
    bool written = false;
    for (uint64_t n = 1; !written; n++) {
        quern_error err;
        qn_gguf_writer *w;
        qn_alloc_fail_at(n);
        quern_status status = qn_gguf_writer_create(&w, scratch_path(dir, "w.gguf"), &err);
        status = status == QUERN_OK ? put_every_type(w, &err) : status;
        status = status == QUERN_OK ? write_three_tensors(w, false, &err) : status;
        status = status == QUERN_OK ? qn_gguf_writer_commit(w, &err) : status;
        qn_alloc_fail_at(0);
        written = status == QUERN_OK;
        assert_true(written || status == QUERN_ERROR_MEMORY);
        qn_gguf_writer_destroy(w);
        assert_true(n < 200);
    }
    scratch_remove(dir);
}

/* A vocabulary as large as Qwen's and 400 tensors: the time users wait before a model is there. */
static void large_headers_open_fast(void **state)
{
    (void)state;
    enum { N_TOKENS = 150000, N_TENSORS = 400 };
    char *dir = scratch_create();
    const char *path = scratch_path(dir, "large.gguf");
    quern_error err;
    qn_gguf_writer *w;
    char *text = malloc((size_t)N_TOKENS * 16);
    qn_span *words = malloc((size_t)N_TOKENS * sizeof *words);
    int32_t *types = calloc(N_TOKENS, sizeof *types);
    uint8_t zeros[256] = {0};
    uint64_t shape[] = {64};
    assert_true(text != NULL && words != NULL && types != NULL);
    for (size_t i = 0; i < N_TOKENS; i++) {
        int n = snprintf(text + 16 * i, 16, "tok%zu", i);
        words[i] = (qn_span){.data = text + 16 * i, .len = (size_t)n};
    }
    assert_ok(qn_gguf_writer_create(&w, path, &err));
    assert_ok(qn_gguf_put_strings(w, "tokenizer.ggml.tokens", words, N_TOKENS, &err));
    assert_ok(qn_gguf_put_strings(w, "tokenizer.ggml.merges", words, N_TOKENS, &err));
    assert_ok(qn_gguf_put_array(w, "tokenizer.ggml.token_type", QN_GGUF_I32, types, N_TOKENS, &err));
    for (size_t i = 0; i < N_TENSORS; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "blk.%zu.weight", i);
        assert_ok(qn_gguf_declare(w, name, QN_DTYPE_F32, shape, 1, &err));
    }
    assert_ok(qn_gguf_writer_begin_data(w, &err));
    for (size_t i = 0; i < N_TENSORS; i++) {
        assert_ok(qn_gguf_write_data(w, i, 0, zeros, sizeof zeros, &err));
    }
    assert_ok(qn_gguf_writer_commit(w, &err));
    qn_gguf_writer_destroy(w);
    double best = 1e9;
    uint64_t allocations = 0;
    for (int i = 0; i < 5; i++) {
        qn_gguf *g;
        qn_alloc_fail_at(0);
        uint64_t begin = qn_clock_ns();
        assert_ok(qn_gguf_open(&g, path, false, &err));
        best = fmin(best, qn_clock_seconds(begin, qn_clock_ns()));
        allocations = qn_alloc_count();
        assert_int_equal(qn_gguf_n_tensors(g), N_TENSORS);
        qn_gguf_close(g);
    }
    print_message("opened in %.2f ms with %llu allocations\n", best * 1e3, (unsigned long long)allocations);
    assert_true(allocations < 64);
    assert_true(best < (QN_TEST_SANITIZED ? 1.0 : 0.030));
    free(text);
    free(words);
    free(types);
    scratch_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goldens_have_the_listed_keys_and_tensors),
        cmocka_unit_test(corrupt_files_are_refused),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(changed_bytes_never_crash),
        cmocka_unit_test(hostile_headers_are_refused),
        cmocka_unit_test(typed_reading_is_strict),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(goldens_copy_to_the_byte),
        cmocka_unit_test(half_written_files_leave_nothing),
        cmocka_unit_test(doubles_are_not_written),
        cmocka_unit_test(split_files_open_together),
        cmocka_unit_test(every_failing_allocation_is_reported),
        cmocka_unit_test(large_headers_open_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
