/* test_gate_sources.c - what the gate compares with: weights that went through a 16-bit float before they were quantized, and weights of which a type can
 * hold little (one constant value, numbers below what its scales reach). */
#include "faults.h"

#include <math.h>

#include "base/alloc.h"
#include "base/half.h"
#include "gate/known_encoders.h"
#include "gate/source_way.h"
#include "gate/verdict.h"
#include "quant/feedback.h"
#include "quern/quern.h"
#include "quern/verify.h"

/* ---- folders made of other folders ---- */

static float with_low_bits(fault_rng *r, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    bits |= (uint32_t)fault_next(r) & 0xffffu;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* The folder's weights with random low bits, as float32, or rounded from that to a 16-bit float; vectors stay float32 if asked for, as converters leave
 * them. The same bits every time. */
static char *make_source(const char *from, qn_dtype type, bool vectors_stay)
{
    quern_error err = {0};
    qn_safetensors *s;
    fault_rng r = {23};
    char *dir = new_dir();
    assert_ok(qn_safetensors_open_dir(&s, from, false, &err));
    size_t n = qn_safetensors_n_tensors(s), cap = 16 + 256 * n, len = 0, at = 0, offset = 0, total = 0;
    for (size_t i = 0; i < n; i++) {
        total += 4 * (size_t)qn_safetensors_tensor_at(s, i)->n_elements;
    }
    char *header = malloc(cap);
    uint8_t *data = malloc(total);
    assert_non_null(header);
    assert_non_null(data);
    for (size_t i = 0; i < n; i++) {
        const qn_tensor *t = qn_safetensors_tensor_at(s, i);
        size_t count = (size_t)t->n_elements;
        qn_dtype own = vectors_stay && t->n_dims == 1 ? QN_DTYPE_F32 : type;
        float *x = malloc(count * sizeof *x);
        assert_non_null(x);
        qn_decode_row(t->dtype, t->data, x, count);
        for (size_t k = 0; k < count; k++) {
            x[k] = with_low_bits(&r, x[k]);
        }
        qn_encode_row(own, x, data + at, count, NULL);
        at += count * qn_dtype_get(own)->block_bytes;
        free(x);
        char shape[64];
        (void)snprintf(shape, sizeof shape, t->n_dims == 1 ? "%zu" : "%zu,%zu", (size_t)t->shape[0], (size_t)t->shape[1]);
        len += (size_t)snprintf(header + len, cap - len, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                                i == 0 ? "{" : ",", t->name, qn_dtype_get(own)->name, shape, offset, at);
        assert_true(len + 16 < cap && t->n_dims <= 2);
        offset = at;
    }
    header[len++] = '}';
    while (len % 8 != 0) {
        header[len++] = ' ';
    }
    uint64_t n_header = len;
    FILE *f = fopen(scratch_path(dir, "model.safetensors"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(&n_header, 8, 1, f), 1);
    assert_int_equal(fwrite(header, 1, len, f), len);
    assert_int_equal(fwrite(data, 1, at, f), at);
    assert_int_equal(fclose(f), 0);
    qn_safetensors_close(s);
    free(header);
    free(data);
    static const char *const texts[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        size_t size;
        uint8_t *text = read_file(scratch_path(from, texts[i]), &size);
        write_file(scratch_path(dir, texts[i]), text, size);
        free(text);
    }
    return dir;
}

typedef struct judged {
    bool sound;
    size_t n_reasons;
    char way[8]; /* source_rounded_to, or "" */
    char why[400];
} judged;

static judged judge(const char *path, const char *source)
{
    quern_error err = {0};
    const char *files[] = {path};
    quern_verify_options opt = {
        .files = files, .n_files = 1, .source = source, .policy = QUERN_GATE_OFF, .calibrate = QUERN_CALIBRATE_NONE, .n_threads = 2};
    quern_verify_result r;
    qn_json *doc;
    judged j = {0};
    assert_ok(quern_verify(&opt, &r, &err));
    assert_ok(qn_json_parse(&doc, r.json, r.len, QN_JSON_REJECT_DUPLICATES, "report", &err));
    const qn_json *o = qn_json_at(qn_json_get(doc, "outputs"), 0);
    const char *way = qn_json_string(qn_json_get(o, "source_rounded_to"), NULL);
    const char *why = qn_json_string(qn_json_at(qn_json_get(qn_json_get(o, "gate"), "reasons"), 0), NULL);
    j.n_reasons = qn_json_length(qn_json_get(qn_json_get(o, "gate"), "reasons"));
    j.sound = r.n_failed + r.n_unreadable == 0;
    (void)snprintf(j.way, sizeof j.way, "%s", way != NULL ? way : "");
    (void)snprintf(j.why, sizeof j.why, "%s", why != NULL ? why : "");
    qn_json_free(doc);
    quern_free(r.json);
    return j;
}

static void assert_judged(const char *path, const char *source, bool sound, const char *way)
{
    judged j = judge(path, source);
    if (j.sound != sound || strcmp(j.way, way) != 0) {
        fail_msg("%s is called %s, its source rounded to '%s' instead of '%s': %s", path, j.sound ? "sound" : "broken", j.way, way, j.why);
    }
}

/* Copies (NULL: turns a bit in) one tensor of a GGUF file into another of the same layout. */
static void replace(const char *to, const char *from, const char *tensor)
{
    quern_error err = {0};
    qn_gguf *g;
    size_t size, other_size;
    uint8_t *bytes = read_file(to, &size), *other = from != NULL ? read_file(from, &other_size) : NULL;
    assert_ok(qn_gguf_open(&g, to, false, &err));
    const qn_tensor *t = qn_gguf_find_tensor(g, tensor);
    assert_non_null(t);
    if (from != NULL) {
        assert_int_equal(size, other_size);
        memcpy(bytes + t->file_offset, other + t->file_offset, t->n_bytes);
    } else {
        bytes[t->file_offset + 100 * qn_dtype_get(t->dtype)->block_bytes] ^= 1;
    }
    qn_gguf_close(g);
    write_file(to, bytes, size);
    free(bytes);
    free(other);
}

/* What was made by way of a 16-bit float is sound, and said to be; a fault in it is one, and so is a tensor made by way of it in a file that was not. */
static void files_by_way_of_halves(void **state)
{
    static const char *const paths[] = {"gguf/tiny-Q8_0.gguf", "gguf/tiny-Q4_0.gguf", "gguf/tiny-Q4_K_M.gguf", "mlx/mxfp4-g32",
                                        "gguf/tiny-F16.gguf"};
    enum { N_PATHS = sizeof paths / sizeof paths[0] };
    const char *formats = "gguf:Q8_0,gguf:Q4_0,gguf:Q4_K_M,mlx:mxfp4,gguf:F16", *up = "blk.1.ffn_up.weight";
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *source = make_source(model_dir("qwen3"), QN_DTYPE_F32, true), *own = new_dir(), q4_0[1100];
    run r = {.opt = {.source = source, .output_dir = own, .name = "tiny", .formats = formats, .n_threads = 2}};
    run_quantize(&r, 0);
    assert_int_equal(r.status, QUERN_OK);
    qn_json_free(r.manifest);
    for (size_t i = 0; i < N_PATHS; i++) {
        assert_judged(scratch_path(own, paths[i]), source, true, "");
    }
    (void)snprintf(q4_0, sizeof q4_0, "%s", scratch_path(own, paths[1]));
    for (size_t k = 0; k < 2; k++) {
        qn_dtype type = k == 0 ? QN_DTYPE_F16 : QN_DTYPE_BF16;
        const char *way = qn_dtype_get(type)->name;
        char *rounded = make_source(model_dir("qwen3"), type, k == 0), *dir = new_dir(), path[1100];
        r.opt.source = rounded;
        r.opt.output_dir = dir;
        run_quantize(&r, 0);
        assert_int_equal(r.status, QUERN_OK);
        qn_json_free(r.manifest);
        for (size_t i = 0; i < N_PATHS; i++) {
            (void)snprintf(path, sizeof path, "%s", scratch_path(dir, paths[i]));
            /* rounded to the same type once more is nothing else */
            assert_judged(path, source, true, i == 4 && k == 0 ? "" : way);
        }
        (void)snprintf(path, sizeof path, "%s", scratch_path(dir, paths[1]));
        if (k == 0) {
            replace(q4_0, path, up);
            assert_judged(q4_0, source, false, "");
        }
        replace(path, NULL, up);
        assert_judged(path, source, false, way);
        drop_dir(dir);
        drop_dir(rounded);
    }
    drop_dir(own);
    drop_dir(source);
}

/* The last bit of three scales in ten, in every tensor alike: no other version of the encoder, which would not make the other seven exactly. */
static void the_same_in_every_tensor(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    quern_error err = {0};
    qn_gguf *g;
    fault_rng rng = {6};
    char *dir = new_dir(), path[1100];
    run r = quantize(model_dir("qwen3"), dir, "gguf:Q4_0");
    qn_json_free(r.manifest);
    (void)snprintf(path, sizeof path, "%s", scratch_path(dir, "gguf/tiny-Q4_0.gguf"));
    assert_judged(path, model_dir("qwen3"), true, "");
    size_t size, n_changed = 0;
    uint8_t *bytes = read_file(path, &size);
    assert_ok(qn_gguf_open(&g, path, false, &err));
    for (size_t i = 0; i < qn_gguf_n_tensors(g); i++) {
        const qn_tensor *t = qn_gguf_tensor_at(g, i);
        for (size_t at = 0; t->dtype == QN_DTYPE_Q4_0 && at < t->n_bytes; at += 18) {
            bool changes = fault_below(&rng, 10) < 3;
            bytes[t->file_offset + at] ^= changes;
            n_changed += changes;
        }
    }
    qn_gguf_close(g);
    assert_true(n_changed > 1000);
    write_file(path, bytes, size);
    free(bytes);
    judged j = judge(path, model_dir("qwen3"));
    assert_true(j.n_reasons >= 14); /* one a matrix of the two layers: not only those that other tests find */
    drop_dir(dir);
}

/* ---- single tensors ---- */

enum { ROWS = 64, COLS = 512, N = ROWS * COLS };

typedef struct weights {
    float x[N];
    uint8_t bytes[3][4 * N];
    qn_checked_tensor t;
} weights;

static void read_weights(const void *user, size_t part, uint64_t first, uint64_t n, float *x)
{
    const weights *w = user;
    (void)part;
    memcpy(x, w->x + first * COLS, (size_t)n * COLS * sizeof *x);
}

static float random_normal(fault_rng *r)
{
    double sum = 0;
    for (int i = 0; i < 12; i++) {
        sum += (double)fault_below(r, 1 << 20) / (1 << 20);
    }
    return (float)(sum - 6);
}

/* Encodes x as it is, or of `of` if that is given; MLX affine where bits > 0, with scales of type `dtype`. */
static void encode(weights *w, qn_storage storage, qn_dtype dtype, uint32_t bits, const float *of, const float *importance)
{
    const float *x = of != NULL ? of : w->x;
    w->t = (qn_checked_tensor){.name = "t",
                               .storage = storage,
                               .dtype = dtype,
                               .affine = {.bits = bits, .group = 64},
                               .n_parts = 1,
                               .n_rows = ROWS,
                               .n_cols = COLS,
                               .source_dtype = storage == QN_STORED_AFFINE ? dtype : QN_DTYPE_F32,
                               .read = read_weights,
                               .user = w};
    memset(w->bytes, 0, sizeof w->bytes);
    for (size_t k = 0; k < 3; k++) {
        w->t.streams[k] = w->bytes[k];
    }
    if (storage == QN_STORED_BLOCKS) {
        w->t.streams[1] = w->t.streams[2] = NULL;
        assert_true(qn_dtype_row_bytes(dtype, COLS, &w->t.row_bytes[0]));
        for (size_t i = 0; i < ROWS; i++) {
            qn_encode_row(dtype, x + i * COLS, w->bytes[0] + i * w->t.row_bytes[0], COLS, importance);
        }
    } else if (storage == QN_STORED_AFFINE) {
        w->t.row_bytes[0] = COLS / 8 * bits;
        w->t.row_bytes[1] = w->t.row_bytes[2] = COLS / 64 * qn_dtype_get(dtype)->block_bytes;
        qn_encode_affine_row_fitted(w->t.affine, x, (uint32_t *)(void *)w->bytes[0], w->bytes[1], w->bytes[2], dtype, N, importance);
    } else {
        w->t.streams[2] = NULL;
        w->t.row_bytes[0] = COLS / 2;
        w->t.row_bytes[1] = COLS / 32;
        qn_encode_mxfp4_row(x, w->bytes[0], w->bytes[1], N, importance);
    }
}

static bool is_sound(const weights *w, bool try_encoders, char *why, size_t cap)
{
    quern_error err = {0};
    qn_pool *pool;
    qn_tensor_figures f;
    qn_findings findings;
    qn_findings_init(&findings);
    assert_ok(qn_pool_create(&pool, 1, &err));
    assert_ok(qn_tensor_check(&w->t, &(qn_check_options){.error_limit = QN_ERROR_LIMIT, .try_encoders = try_encoders}, pool, &f, &err));
    assert_ok(qn_verdict_tensor(&w->t, 1, 0, &f, &findings, &err));
    bool sound = !findings.failed;
    (void)snprintf(why, cap, "%s", sound ? "" : findings.reasons.items[0]);
    qn_findings_deinit(&findings);
    qn_pool_destroy(pool);
    return sound;
}

typedef struct form {
    qn_storage storage;
    qn_dtype dtype;
    uint32_t bits;
} form;

static const form forms[] = {
    {QN_STORED_BLOCKS, QN_DTYPE_Q8_0, 0},  {QN_STORED_BLOCKS, QN_DTYPE_Q4_0, 0},   {QN_STORED_BLOCKS, QN_DTYPE_Q4_1, 0},
    {QN_STORED_BLOCKS, QN_DTYPE_Q5_0, 0},  {QN_STORED_BLOCKS, QN_DTYPE_Q5_1, 0},   {QN_STORED_BLOCKS, QN_DTYPE_Q2_K, 0},
    {QN_STORED_BLOCKS, QN_DTYPE_Q3_K, 0},  {QN_STORED_BLOCKS, QN_DTYPE_Q4_K, 0},   {QN_STORED_BLOCKS, QN_DTYPE_Q5_K, 0},
    {QN_STORED_BLOCKS, QN_DTYPE_Q6_K, 0},  {QN_STORED_BLOCKS, QN_DTYPE_IQ4_NL, 0}, {QN_STORED_BLOCKS, QN_DTYPE_IQ4_XS, 0},
    {QN_STORED_BLOCKS, QN_DTYPE_TQ1_0, 0}, {QN_STORED_BLOCKS, QN_DTYPE_TQ2_0, 0},  {QN_STORED_BLOCKS, QN_DTYPE_MXFP4, 0},
    {QN_STORED_MXFP4, QN_DTYPE_U8, 0},     {QN_STORED_AFFINE, QN_DTYPE_F16, 4},    {QN_STORED_AFFINE, QN_DTYPE_BF16, 4},
    {QN_STORED_AFFINE, QN_DTYPE_F32, 4},   {QN_STORED_AFFINE, QN_DTYPE_F16, 8},    {QN_STORED_AFFINE, QN_DTYPE_BF16, 2}};

static bool has_half_scales(const form *f)
{
    return f->storage == QN_STORED_BLOCKS ? f->dtype != QN_DTYPE_MXFP4 : f->storage == QN_STORED_AFFINE && f->dtype == QN_DTYPE_F16;
}

/* One value everywhere, two values, and normal ones, of any size: what Quern's encoder makes of it is the best that the type can hold. Beyond the range of
 * float16 scales nothing is held. */
static void what_a_type_can_hold(void **state)
{
    static const float sizes[] = {1, 0.0123f, -3e-4f, 1e-5f, 1e-6f, 1e-7f, 1e-8f, 1e-30f, 1e-40f, 60000, 1e30f, 1e38f};
    static weights w;
    char why[600];
    fault_rng r = {3};
    size_t n_wrong = 0;
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int kind = 0; kind < 3; kind++) {
            for (size_t k = 0; k < N; k++) {
                w.x[k] = kind == 0   ? sizes[i]
                         : kind == 1 ? (fault_below(&r, 2) == 0 ? -sizes[i] : sizes[i])
                                     : 0.2f * sizes[i] * random_normal(&r);
            }
            for (size_t k = 0; k < sizeof forms / sizeof forms[0]; k += QN_TEST_SANITIZED ? 3 : 1) {
                encode(&w, forms[k].storage, forms[k].dtype, forms[k].bits, NULL, NULL);
                for (int known = 0; known < 2; known++) {
                    bool sound = sizes[i] < 1e20f || !has_half_scales(&forms[k]);
                    if (is_sound(&w, known == 1, why, sizeof why) != sound) {
                        print_message("%s of %g, kind %d, %s, form %zu is judged wrongly: %s\n", qn_dtype_get(forms[k].dtype)->name,
                                      (double)sizes[i], kind, known ? "compared with encoders" : "not compared", k, why);
                        n_wrong++;
                    }
                }
            }
        }
    }
    assert_int_equal(n_wrong, 0);
}

/* But a scale that is lost where the type can hold it is a fault, however small the weights are. */
static void lost_scales(void **state)
{
    static const struct {
        form form;
        float size;
    } cases[] = {{{QN_STORED_BLOCKS, QN_DTYPE_Q8_0, 0}, 1e-4f},   {{QN_STORED_BLOCKS, QN_DTYPE_Q4_0, 0}, 1e-5f},
                 {{QN_STORED_BLOCKS, QN_DTYPE_TQ2_0, 0}, 1e-5f},  {{QN_STORED_BLOCKS, QN_DTYPE_Q4_K, 0}, 1e-3f},
                 {{QN_STORED_BLOCKS, QN_DTYPE_MXFP4, 0}, 1e-30f}, {{QN_STORED_MXFP4, QN_DTYPE_U8, 0}, 1e-30f},
                 {{QN_STORED_AFFINE, QN_DTYPE_F16, 4}, 1e-4f},    {{QN_STORED_AFFINE, QN_DTYPE_BF16, 4}, 2e-6f},
                 {{QN_STORED_AFFINE, QN_DTYPE_F32, 4}, 2e-6f}};
    static weights w;
    char why[600];
    fault_rng r = {4};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const form *f = &cases[i].form;
        for (size_t k = 0; k < N; k++) {
            w.x[k] = 0.2f * cases[i].size * random_normal(&r);
        }
        for (int all = 0; all < 2; all++) {
            encode(&w, f->storage, f->dtype, f->bits, NULL, NULL);
            assert_true(is_sound(&w, false, why, sizeof why));
            size_t stream = f->storage == QN_STORED_BLOCKS ? 0 : 1,
                   block = f->storage == QN_STORED_BLOCKS  ? qn_dtype_get(f->dtype)->block_bytes
                           : f->storage == QN_STORED_MXFP4 ? 1
                                                           : qn_dtype_get(f->dtype)->block_bytes;
            size_t n = w.t.row_bytes[stream] * ROWS;
            memset(w.bytes[stream], 0, all ? n : block);
            if (f->storage == QN_STORED_AFFINE) {
                memset(w.bytes[2], 0, all ? n : block);
            }
            if (is_sound(&w, false, why, sizeof why)) {
                fail_msg("%s, weights of %g: %s lost, and called sound", qn_dtype_get(f->dtype)->name, (double)cases[i].size,
                         all ? "all scales are" : "a scale is");
            }
        }
    }
}

/* Rows of zeros (pruned models have them) are seen when they are not zero in the output, though weights by x^2 see nothing there. */
static void values_where_the_source_is_zero(void **state)
{
    static const form kinds[] = {{QN_STORED_BLOCKS, QN_DTYPE_Q4_K, 0},
                                 {QN_STORED_BLOCKS, QN_DTYPE_Q6_K, 0},
                                 {QN_STORED_BLOCKS, QN_DTYPE_Q4_0, 0},
                                 {QN_STORED_BLOCKS, QN_DTYPE_IQ4_XS, 0},
                                 {QN_STORED_AFFINE, QN_DTYPE_BF16, 4}};
    static weights w;
    static float all[N];
    char why[600];
    fault_rng r = {6};
    (void)state;
    for (size_t i = 0; i < N; i++) {
        all[i] = 0.02f * random_normal(&r);
        w.x[i] = i / COLS % 6 == 0 ? 0 : all[i];
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        encode(&w, kinds[i].storage, kinds[i].dtype, kinds[i].bits, NULL, NULL);
        if (!is_sound(&w, false, why, sizeof why)) {
            fail_msg("%s: zero rows are sound: %s", qn_dtype_get(kinds[i].dtype)->name, why);
        }
        encode(&w, kinds[i].storage, kinds[i].dtype, kinds[i].bits, all, NULL);
        if (is_sound(&w, false, why, sizeof why)) {
            fail_msg("%s: rows that are zero in the source only are called sound", qn_dtype_get(kinds[i].dtype)->name);
        }
    }
}

/* Scales that are powers of two put many values of 16 bits just between two levels, where either code is the nearest; calibrated codes of float32 weights
 * are not, and that speaks for no way. */
static void codes_of_powers_of_two(void **state)
{
    enum { N_TENSORS = 12 };
    static weights w[N_TENSORS];
    static float factor[COLS * COLS];
    qn_checked_tensor all[N_TENSORS];
    quern_error err = {0};
    qn_dtype way;
    qn_pool *pool;
    fault_rng r = {13};
    float *scratch = qn_malloc_aligned(qn_feedback_scratch(COLS) * sizeof *scratch);
    (void)state;
    assert_non_null(scratch);
    assert_ok(qn_pool_create(&pool, 2, &err));
    for (size_t j = 0; j < COLS; j++) {
        for (size_t i = 0; i <= j; i++) {
            factor[j * COLS + i] = powf(0.9f, (float)(j - i));
        }
    }
    assert_true(qn_feedback_factor(factor, COLS, 0.01f));
    for (size_t m = 0; m < N_TENSORS; m++) {
        for (size_t p = 0; p < N; p++) {
            w[m].x[p] = 0.02f * random_normal(&r);
        }
        encode(&w[m], QN_STORED_BLOCKS, QN_DTYPE_MXFP4, 0, NULL, NULL);
        qn_encode_blocks_feedback(QN_DTYPE_MXFP4, factor, NULL, w[m].x, ROWS, COLS, w[m].bytes[0], scratch);
        all[m] = w[m].t;
    }
    assert_ok(qn_source_way_find(all, N_TENSORS, pool, &way, &err));
    assert_int_equal(way, QN_DTYPE_F32);
    qn_pool_destroy(pool);
    qn_free_aligned(scratch);
}

/* Small errors in every block, among its smallest values: a weight by size sees nothing of them. Types whose encoders have no such weight are held to the
 * plain error of each block, the others to that of the tensor. */
static void errors_among_the_smallest(void **state)
{
    static const struct {
        form form;
        float step; /* about that of the type for these weights */
    } cases[] = {{{QN_STORED_BLOCKS, QN_DTYPE_Q8_0, 0}, 0.00035f}, {{QN_STORED_BLOCKS, QN_DTYPE_Q5_0, 0}, 0.0028f},
                 {{QN_STORED_BLOCKS, QN_DTYPE_Q4_1, 0}, 0.0055f},  {{QN_STORED_AFFINE, QN_DTYPE_BF16, 4}, 0.006f},
                 {{QN_STORED_AFFINE, QN_DTYPE_F16, 8}, 0.0004f},   {{QN_STORED_BLOCKS, QN_DTYPE_Q6_K, 0}, 0.0012f},
                 {{QN_STORED_BLOCKS, QN_DTYPE_Q5_K, 0}, 0.0025f},  {{QN_STORED_BLOCKS, QN_DTYPE_Q4_K, 0}, 0.005f}};
    enum { GROUP = 32, N_SMALL = 3 };
    static weights w;
    static float other[N];
    char why[600];
    fault_rng r = {12};
    (void)state;
    for (size_t i = 0; i < N; i++) {
        w.x[i] = 0.02f * random_normal(&r);
    }
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const form *f = &cases[k].form;
        encode(&w, f->storage, f->dtype, f->bits, NULL, NULL);
        if (!is_sound(&w, false, why, sizeof why)) {
            fail_msg("%s, unharmed: %s", qn_dtype_get(f->dtype)->name, why);
        }
        memcpy(other, w.x, sizeof other);
        for (size_t at = 0; at < N; at += GROUP) {
            for (size_t n = 0; n < N_SMALL; n++) {
                size_t least = at;
                for (size_t i = at; i < at + GROUP; i++) { /* of those left as they are */
                    bool left = other[i] == w.x[i], better = other[least] != w.x[least] || fabsf(w.x[i]) < fabsf(w.x[least]);
                    least = left && better ? i : least;
                }
                other[least] += (fault_below(&r, 2) == 0 ? -1.2f : 1.2f) * cases[k].step;
            }
        }
        encode(&w, f->storage, f->dtype, f->bits, other, NULL);
        if (is_sound(&w, false, why, sizeof why)) {
            fail_msg("%s: errors among the smallest values of each block are called sound", qn_dtype_get(f->dtype)->name);
        }
    }
}

/* Encoders that nobody knows show by their codes which weights they had. */
static void codes_tell_the_way(void **state)
{
    static const form kinds[] = {
        {QN_STORED_BLOCKS, QN_DTYPE_Q4_K, 0}, {QN_STORED_BLOCKS, QN_DTYPE_Q6_K, 0}, {QN_STORED_BLOCKS, QN_DTYPE_Q2_K, 0}};
    static const qn_dtype ways[] = {QN_DTYPE_F32, QN_DTYPE_F16, QN_DTYPE_BF16};
    enum { N_TENSORS = 12 };
    static weights w[N_TENSORS];
    static float rounded[N], importance[COLS];
    qn_checked_tensor all[N_TENSORS];
    quern_error err = {0};
    qn_pool *pool;
    fault_rng r = {5};
    (void)state;
    assert_ok(qn_pool_create(&pool, 2, &err));
    for (size_t k = 0; k < COLS; k++) {
        importance[k] = 0.05f + random_normal(&r) * random_normal(&r);
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        qn_dtype type = kinds[i].dtype;
        for (size_t k = 0; k < 3; k++) {
            qn_dtype way;
            for (size_t m = 0; m < N_TENSORS; m++) {
                for (size_t p = 0; p < N; p++) {
                    w[m].x[p] = 0.02f * random_normal(&r);
                }
                memcpy(rounded, w[m].x, sizeof rounded);
                encode(&w[m], kinds[i].storage, type, 0, NULL, NULL);
                w[m].t.by_way = ways[k];
                qn_known_narrow(&w[m].t, rounded, N);
                encode(&w[m], kinds[i].storage, type, 0, rounded, importance);
                all[m] = w[m].t;
            }
            assert_ok(qn_source_way_find(all, N_TENSORS, pool, &way, &err));
            if (type != QN_DTYPE_Q2_K || ways[k] != QN_DTYPE_F16) { /* 4 levels hardly tell 11 bits from 24 in so few codes */
                assert_int_equal(way, ways[k]);
            }
        }
    }
    qn_pool_destroy(pool);
}

/* Of an encoder that chose codes together nothing tells the way; then a quarter of the tensors, planted, plain and by way of BF16, must not. */
static void few_do_not_turn_the_way(void **state)
{
    enum { N_TENSORS = 12, N_PLANTED = 3 };
    static weights w[N_TENSORS];
    static float other[N];
    qn_checked_tensor all[N_TENSORS];
    quern_error err = {0};
    qn_dtype way;
    qn_pool *pool;
    fault_rng r = {11};
    (void)state;
    assert_ok(qn_pool_create(&pool, 2, &err));
    for (size_t planted = N_PLANTED; planted <= N_TENSORS; planted += N_TENSORS - N_PLANTED) {
        for (size_t m = 0; m < N_TENSORS; m++) {
            for (size_t p = 0; p < N; p++) {
                w[m].x[p] = 0.02f * random_normal(&r);
                other[p] = w[m].x[p] + (m < planted ? 0 : 0.002f * random_normal(&r)); /* a step of Q4_0 is 0.007 */
            }
            encode(&w[m], QN_STORED_BLOCKS, QN_DTYPE_Q4_0, 0, NULL, NULL);
            w[m].t.by_way = m < planted ? QN_DTYPE_BF16 : QN_DTYPE_F32;
            qn_known_narrow(&w[m].t, other, N);
            encode(&w[m], QN_STORED_BLOCKS, QN_DTYPE_Q4_0, 0, other, NULL);
            all[m] = w[m].t;
        }
        assert_ok(qn_source_way_find(all, N_TENSORS, pool, &way, &err));
        assert_int_equal(way, planted == N_TENSORS ? QN_DTYPE_BF16 : QN_DTYPE_F32);
    }
    qn_pool_destroy(pool);
}

/* Between its greatest levels fp4 has a gap of four scale units, at whose middle either neighbour will do. */
static void ties_of_fp4(void **state)
{
    static float x[32], y[32], z[32];
    qn_sub_blocks s = {.n = 1, .len = 32, .scale = {0.5f}, .stored = 0.5f, .levels = qn_fp4_levels()};
    const qn_checked_tensor t = {.storage = QN_STORED_MXFP4, .dtype = QN_DTYPE_U8, .n_parts = 1, .n_rows = 1, .n_cols = 32};
    (void)state;
    x[7] = 5;
    y[7] = 6;
    z[7] = 4;
    assert_true(qn_known_explains(&t, &s, x, y, z));
    assert_true(qn_known_explains(&t, &s, x, z, y));
    z[7] = 3; /* no neighbour */
    assert_false(qn_known_explains(&t, &s, x, y, z));
    x[7] = 4.5f; /* nearer to 4 */
    z[7] = 4;
    assert_false(qn_known_explains(&t, &s, x, y, z));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(files_by_way_of_halves),
                                       cmocka_unit_test(the_same_in_every_tensor),
                                       cmocka_unit_test(what_a_type_can_hold),
                                       cmocka_unit_test(lost_scales),
                                       cmocka_unit_test(codes_tell_the_way),
                                       cmocka_unit_test(codes_of_powers_of_two),
                                       cmocka_unit_test(errors_among_the_smallest),
                                       cmocka_unit_test(few_do_not_turn_the_way),
                                       cmocka_unit_test(ties_of_fp4),
                                       cmocka_unit_test(values_where_the_source_is_zero)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
