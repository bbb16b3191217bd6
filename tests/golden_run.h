/* golden_run.h - running a model over token ids and comparing its logits with reference files; for tests of models and engine. */
#ifndef QN_TEST_GOLDEN_RUN_H
#define QN_TEST_GOLDEN_RUN_H

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "formats/safetensors_read.h"
#include "qn_test.h"
#include "quern/quern.h"

/* A list of ids read from a JSON array; free with qn_free. */
static inline int32_t *golden_ids(const qn_json *array, size_t *n)
{
    *n = qn_json_length(array);
    int32_t *ids = qn_malloc_array(*n + 1, sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < *n; i++) {
        int64_t v;
        assert_true(qn_json_int(qn_json_at(array, i), &v));
        ids[i] = (int32_t)v;
    }
    return ids;
}

static inline qn_json *golden_json(const char *path)
{
    char *text;
    size_t len;
    qn_json *root;
    quern_error err;
    assert_ok(qn_file_read(&text, &len, path, 1u << 26, &err));
    assert_ok(qn_json_parse(&root, text, len, 0, path, &err));
    qn_free(text);
    return root;
}

static inline quern_model *golden_open(const char *path)
{
    quern_model *m;
    quern_error err;
    assert_ok(quern_model_open(&m, path, NULL, &err));
    return m;
}

static inline quern_engine *golden_engine(const quern_model *m, const quern_engine_options *opt)
{
    quern_engine *e;
    quern_error err;
    assert_ok(quern_engine_create(&e, m, opt, &err));
    return e;
}

/* Logits of every position, computed `chunk` rows a step; free with qn_free. */
static inline float *golden_logits(quern_engine *e, const int32_t *ids, size_t n, size_t n_vocab, size_t chunk)
{
    quern_error err;
    quern_sequence *s;
    float *logits = qn_malloc_array(n * n_vocab, sizeof *logits);
    assert_non_null(logits);
    assert_ok(quern_sequence_create(&s, e, &err));
    for (size_t done = 0; done < n;) {
        size_t rows = n - done < chunk ? n - done : chunk;
        const quern_step_item item = {.sequence = s, .ids = ids + done, .n_ids = rows, .n_logits = rows, .logits = logits + done * n_vocab};
        assert_ok(quern_engine_step(e, &item, 1, &err));
        done += rows;
    }
    quern_sequence_destroy(s);
    return logits;
}

/* A float of a mapped file: safetensors aligns nothing. */
static inline double golden_float_at(const float *p, size_t i)
{
    float x;
    memcpy(&x, (const char *)p + i * sizeof x, sizeof x);
    return (double)x;
}

/* Differences between ours and a reference, both (n). */
typedef struct golden_difference {
    double max, rms, std; /* std of the reference */
} golden_difference;

static inline golden_difference golden_compare(const float *ours, const float *reference, size_t n)
{
    double max = 0, sum = 0, mean = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        double r = golden_float_at(reference, i), d = fabs((double)ours[i] - r);
        max = d > max || !(d == d) ? d : max;
        sum += d * d;
        mean += r;
        square += r * r;
    }
    mean /= (double)n;
    return (golden_difference){.max = max, .rms = sqrt(sum / (double)n), .std = sqrt(square / (double)n - mean * mean)};
}

static inline const float *golden_tensor(const qn_safetensors *file, const char *prefix, size_t i, size_t *n_rows)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%s%zu", prefix, i);
    const qn_tensor *t = qn_safetensors_find(file, name);
    assert_non_null(t);
    assert_int_equal(t->dtype, QN_DTYPE_F32);
    *n_rows = (size_t)t->shape[0];
    return (const float *)(const void *)t->data;
}

static inline size_t golden_argmax(const float *v, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        best = v[i] > v[best] ? i : best;
    }
    return best;
}

#endif
