/* bench_ops.c - the speed of attention, of the row operations and of the sampler, as a share of what the machine can do in the same minute.
 *
 * usage: bench_ops [--isa NAME] [--threads N] [--dim 128] [--kv-heads 8] [--group 2] [--time SECONDS] [--clock cpu]
 *                  [--only attention|rows|sampler] [--json FILE --date YYYY-MM-DD]
 *
 * Attention of one token at depth reads each key and value once: the share is of the read bandwidth, the cache being several layers of
 * at least 4 x last-level cache together. Attention of 64 query rows (as the backend cuts a prefill) is arithmetic: the share is of the
 * multiply-add peak. Steps of 1 to 32 rows of one sequence go through the backend. (Float matrix products are in bench_matmul.) --clock cpu
 * as in bench_matmul. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/alloc.h"
#include "base/buf.h"
#include "base/cpu.h"
#include "base/json.h"
#include "kernels/ops.h"
#include "kernels/peak.h"
#include "quern/sampling.h"
#include "stopwatch.h"

typedef struct options {
    const char *isa_name, *only, *json, *date;
    size_t n_threads, dim, n_kv_heads, group;
    double seconds;
    bool cpu_clock;
} options;

typedef struct bench {
    options o;
    qn_pool *pool;
    qn_isa isa;
    const qn_ops *ops;
    double bandwidth, peak_fma;
    qn_json *rows;
} bench;

enum { QUERIES = 64 };

static void fail(const char *what)
{
    (void)fprintf(stderr, "bench_ops: %s\n", what);
    exit(1);
}

static void *allocate(size_t bytes)
{
    void *p = qn_malloc_aligned(bytes);
    if (p == NULL) {
        fail("out of memory");
    }
    return p;
}

static uint64_t random_state = 1;
static uint64_t random_bits(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return random_state >> 20;
}

static float random_float(void) { return (float)(random_bits() & 0xffffff) * 0x1p-23f - 1.0f; }

static double measure(const bench *b, qn_pool_fn fn, void *arg) { return timed_median(b->pool, b->o.cpu_clock, b->o.seconds, fn, arg); }

/* ---- yardsticks ---- */

static void fma_part(void *arg, qn_member m)
{
    read_task *y = arg;
    y->sink[m.index] = qn_peak_fma_f32(y->isa, 1000000);
}

static void take_yardsticks(bench *b, const void *memory, size_t bytes)
{
    static read_task y;
    y.data = memory;
    y.bytes = bytes & ~(size_t)4095;
    y.isa = b->isa;
    for (y.n_streams = 1; y.n_streams <= QN_PEAK_STREAMS; y.n_streams += QN_PEAK_STREAMS - 1) {
        const double rate = (double)y.bytes / measure(b, read_part, &y);
        b->bandwidth = rate > b->bandwidth ? rate : b->bandwidth;
    }
    double seconds = measure(b, fma_part, &y), ops = 0;
    for (size_t i = 0; i < b->o.n_threads; i++) {
        ops += (double)y.sink[i];
    }
    b->peak_fma = ops / seconds;
    printf("# %s, %zu threads: read %.1f GB/s over %zu MiB, f32 peak %.1f GFLOP/s\n", qn_isa_name(b->isa), b->o.n_threads,
           b->bandwidth * 1e-9, bytes >> 20, b->peak_fma * 1e-9);
}

static void report(bench *b, const char *what, const char *shape, double seconds, double rate, const char *unit, double limit)
{
    printf("%-28s %-28s %10.2f us %9.2f %-8s", what, shape, seconds * 1e6, rate * 1e-9, unit);
    if (limit > 0) {
        printf(" %5.1f %%", 100 * rate / limit);
    }
    printf("\n");
    (void)fflush(stdout);
    qn_json *row = qn_json_new_object();
    (void)qn_json_set(row, "operation", qn_json_new_string(what));
    (void)qn_json_set(row, "shape", qn_json_new_string(shape));
    (void)qn_json_set(row, "us", qn_json_new_real(seconds * 1e6));
    (void)qn_json_set(row, "rate", qn_json_new_real(rate * 1e-9));
    (void)qn_json_set(row, "unit", qn_json_new_string(unit));
    (void)qn_json_set(row, "% of limit", limit > 0 ? qn_json_new_real(100 * rate / limit) : qn_json_new_null());
    (void)qn_json_append(b->rows, row);
}

/* ---- attention ---- */

/* Keys and values of some layers; pages of all layers are cut from two blocks of memory. */
typedef struct attention_work {
    const bench *b;
    qn_kv_view view;
    const void **k_pages, **v_pages; /* (n_layers, n_pages) */
    size_t n_pages, n_layers, layer;
    size_t n_queries, depth;
    float *memory; /* per kv head: queries, then outputs */
    void *scratch[THREADS_MAX];
} attention_work;

static void attend_part(void *arg, qn_member m)
{
    attention_work *w = arg;
    size_t begin, end, dim = w->view.head_dim, group = w->b->o.group, n = w->n_queries;
    qn_kv_view view = w->view;
    view.k_pages = w->k_pages + w->layer * w->n_pages;
    view.v_pages = w->v_pages + w->layer * w->n_pages;
    qn_member_span(m, view.n_kv_heads, 1, &begin, &end);
    for (size_t h = begin; h < end; h++) {
        const float *q[QUERIES];
        float *out[QUERIES];
        size_t position[QUERIES], first[QUERIES];
        for (size_t i = 0; i < n; i++) {
            q[i] = w->memory + (h * QUERIES + i) * 2 * dim;
            out[i] = w->memory + (h * QUERIES + i) * 2 * dim + dim;
            position[i] = w->depth + i / group; /* rows of consecutive tokens, the heads of a token together */
            first[i] = 0;
        }
        qn_attn_args args = {&view, h, n, q, out, position, first, 0.09f, w->scratch[m.index]};
        w->b->ops->attention(&args);
    }
    qn_member_barrier(m);
    if (m.index == 0) {
        w->layer = (w->layer + 1) % w->n_layers;
    }
}

/* A step of rows of one sequence through the backend, which cuts it for the threads: guesses being checked, short prompts. */
typedef struct step_work {
    qn_backend *backend;
    qn_heads heads;
    qn_step_rows rows;
    const float *q;
    qn_input input;
} step_work;

enum { STEP_ROWS_MAX = 32 };

static void step_part(void *arg, qn_member m)
{
    step_work *w = arg;
    w->backend->attend(w->backend, m, &w->heads, &w->rows, w->q, &w->input);
}

/* Seconds of a step: the median, or the best of the busiest thread's processor time; layer after layer, as attend_part. */
static double measure_step(const bench *b, step_work *w, attention_work *memory)
{
    enum { RUNS_MAX = 200 };
    static stopwatch clock;
    double times[RUNS_MAX];
    size_t n = 0;
    qn_kv_view view = memory->view;
    const qn_kv_view *views[STEP_ROWS_MAX];
    for (size_t i = 0; i < STEP_ROWS_MAX; i++) {
        views[i] = &view;
    }
    w->rows.view = views;
    clock.fn = step_part;
    clock.arg = w;
    for (double total = 0; n < 4 || (n < RUNS_MAX && total < b->o.seconds); n++) {
        view.k_pages = memory->k_pages + memory->layer * memory->n_pages;
        view.v_pages = memory->v_pages + memory->layer * memory->n_pages;
        memory->layer = (memory->layer + 1) % memory->n_layers;
        uint64_t begin = qn_clock_ns();
        w->backend->run(w->backend, timed_part, &clock);
        times[n] = qn_clock_seconds(begin, qn_clock_ns());
        if (b->o.cpu_clock) {
            times[n] = clock.busy[0];
            for (size_t i = 1; i < b->o.n_threads; i++) {
                times[n] = clock.busy[i] > times[n] ? clock.busy[i] : times[n];
            }
        }
        total += times[n];
    }
    qsort(times, n, sizeof times[0], compare_doubles);
    return b->o.cpu_clock ? times[0] : times[n / 2];
}

static void bench_steps(bench *b, attention_work *memory, size_t n_parts, const char *format)
{
    static const size_t depths[] = {2048, 16384}, n_rows[] = {1, 2, 4, 8, 20, 32};
    size_t dim = b->o.dim, n_heads = b->o.n_kv_heads * b->o.group, cols = n_heads * dim, position[STEP_ROWS_MAX];
    const qn_cpu_options opt = {.n_threads = b->o.n_threads,
                                .isa = b->isa,
                                .max_cols = cols,
                                .hidden_size = cols,
                                .max_rows = STEP_ROWS_MAX,
                                .n_heads = n_heads,
                                .head_dim = dim,
                                .n_ctx = 16384 + STEP_ROWS_MAX};
    step_work w = {.heads = {.n_heads = n_heads, .n_kv_heads = b->o.n_kv_heads, .head_dim = dim, .scale = 0.09f}};
    quern_error err;
    if (qn_cpu_create(&w.backend, &opt, &err) != QUERN_OK) {
        fail(err.message);
    }
    void *input = allocate(qn_input_bytes(1u << QN_FORM_F32, STEP_ROWS_MAX, cols));
    qn_input_bind(&w.input, 1u << QN_FORM_F32, STEP_ROWS_MAX, cols, input);
    float *q = allocate(STEP_ROWS_MAX * cols * sizeof *q);
    for (size_t i = 0; i < STEP_ROWS_MAX * cols; i++) {
        q[i] = random_float();
    }
    w.q = q;
    w.rows.position = position;
    for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++) {
        memory->n_pages = (depths[d] + STEP_ROWS_MAX) / QN_KV_PAGE + 1;
        memory->n_layers = n_parts / (2 * memory->n_pages);
        memory->layer = 0;
        for (size_t r = 0; r < sizeof n_rows / sizeof n_rows[0]; r++) {
            char shape[64];
            w.rows.n_rows = n_rows[r];
            for (size_t i = 0; i < n_rows[r]; i++) {
                position[i] = depths[d] + i;
            }
            (void)snprintf(shape, sizeof shape, "%s, depth %zu, %zu rows", format, depths[d], n_rows[r]);
            double seconds = measure_step(b, &w, memory), flops = 4.0 * (double)depths[d] * (double)(cols * n_rows[r]);
            report(b, "attention, one sequence", shape, seconds, flops / seconds, "GFLOP/s", b->peak_fma);
        }
    }
    qn_free_aligned(q);
    qn_free_aligned(input);
    w.backend->destroy(w.backend);
}

static void bench_attention(bench *b, qn_kv_format format)
{
    static const size_t depths[] = {1024, 4096, 16384};
    size_t dim = b->o.dim, row_bytes = qn_kv_row_bytes(format, dim), part = b->o.n_kv_heads * QN_KV_PAGE * row_bytes;
    const char *name = format == QN_KV_FORMAT_F16 ? "f16" : format == QN_KV_FORMAT_F32 ? "f32" : "q8_0";
    const size_t bytes = bytes_beyond_caches((size_t)1 << 30);
    size_t n_parts = bytes / part > 600 ? bytes / part : 600;
    uint8_t *memory = allocate(n_parts * part);
    uint16_t tile[4096];
    /* As float16: 0.03 to 1.0, as float32 ordinary numbers too. q8_0 has codes of any size and scales of 0.004 to 0.016: with larger ones weights of
     * 1e-40 would come out of the softmax, and arithmetic on such numbers is slow. */
    const uint16_t least = format == QN_KV_FORMAT_Q8_0 ? 0x1c00u : 0x2800u, span = format == QN_KV_FORMAT_Q8_0 ? 0x800u : 0x1400u;
    for (size_t i = 0; i < 4096; i++) {
        tile[i] = (uint16_t)(least + random_bits() % span);
    }
    for (size_t at = 0; at + sizeof tile <= n_parts * part; at += sizeof tile) {
        memcpy(memory + at, tile, sizeof tile);
    }
    take_yardsticks(b, memory, n_parts * part);
    attention_work w = {.b = b, .view = {format, NULL, NULL, b->o.n_kv_heads, dim}};
    const void **pages = allocate(n_parts * sizeof *pages);
    w.memory = allocate(b->o.n_kv_heads * QUERIES * 2 * dim * sizeof(float));
    for (size_t i = 0; i < b->o.n_kv_heads * QUERIES * 2 * dim; i++) {
        w.memory[i] = random_float();
    }
    for (size_t i = 0; i < b->o.n_threads; i++) {
        w.scratch[i] = allocate(QN_ATTN_SCRATCH_BYTES(QUERIES, dim));
    }
    for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++) {
        char shape[64];
        w.n_pages = depths[d] / QN_KV_PAGE + 1;
        w.n_layers = n_parts / (2 * w.n_pages);
        for (size_t i = 0; i < n_parts; i++) { /* a page's K part and V part lie together, as in the pool */
            pages[(i & 1) * (n_parts / 2) + i / 2] = memory + i * part;
        }
        w.k_pages = pages;
        w.v_pages = pages + n_parts / 2;
        w.n_queries = b->o.group;
        w.depth = depths[d] - 1;
        w.layer = 0;
        double seconds = measure(b, attend_part, &w), kv_bytes = 2.0 * (double)(depths[d] * b->o.n_kv_heads * row_bytes);
        (void)snprintf(shape, sizeof shape, "%s, depth %zu", name, depths[d]);
        report(b, "attention, one token", shape, seconds, kv_bytes / seconds, "GB/s", b->bandwidth);
        w.n_queries = QUERIES / b->o.group * b->o.group;
        seconds = measure(b, attend_part, &w);
        double flops = 4.0 * (double)depths[d] * (double)(dim * b->o.n_kv_heads * w.n_queries);
        report(b, "attention, 64 query rows", shape, seconds, flops / seconds, "GFLOP/s", b->peak_fma);
    }
    bench_steps(b, &w, n_parts, name);
    for (size_t i = 0; i < b->o.n_threads; i++) {
        qn_free_aligned(w.scratch[i]);
    }
    qn_free_aligned(w.memory);
    qn_free_aligned(pages);
    qn_free_aligned(memory);
}

/* ---- row operations: one thread, data in cache, as in a step ---- */

enum { ROW = 4096, VOCAB = 152064 };

typedef struct row_work {
    const bench *b;
    int which;
    float *x, *y, *w; /* (VOCAB) each */
    double sink;
} row_work;

static const char *const row_names[] = {"rms_norm 4096",        "rms_norm 128",     "add 4096",      "silu_mul 4096", "rope_half 128",
                                        "rope_interleaved 128", "kv_store f16 128", "argmax 152064", "exp_sum 152064"};
enum { N_ROW_NAMES = sizeof row_names / sizeof row_names[0], REPEATS = 100 };

static void row_part(void *arg, qn_member m)
{
    row_work *w = arg;
    const qn_ops *ops = w->b->ops;
    if (m.index != 0) {
        return;
    }
    for (size_t i = 0; i < (w->which < 7 ? REPEATS : 1); i++) {
        switch (w->which) {
        case 0: ops->rms_norm(w->y, w->x, w->w, ROW, 1e-6f); break;
        case 1: ops->rms_norm(w->y, w->x, w->w, 128, 1e-6f); break;
        case 2: ops->add(w->y, w->x, ROW); break;
        case 3: ops->silu_mul(w->y, w->x, w->w, ROW); break;
        case 4: ops->rope_half(w->y, w->w, 128); break;
        case 5: ops->rope_interleaved(w->y, w->w, 128); break;
        case 6: ops->kv_store(QN_KV_FORMAT_F16, w->y, w->y + 4096, 0, 128, i % 64, w->x, w->w); break;
        case 7: w->sink += (double)ops->argmax(w->x, VOCAB); break;
        default: w->sink += ops->exp_sum(NULL, w->x, VOCAB, 10.0f, 1.0); break;
        }
    }
}

static void bench_rows(bench *b)
{
    row_work w = {.b = b, .x = allocate(VOCAB * sizeof(float)), .y = allocate(VOCAB * sizeof(float)), .w = allocate(VOCAB * sizeof(float))};
    for (size_t i = 0; i < VOCAB; i++) {
        w.x[i] = random_float() * 10.0f;
        w.y[i] = random_float();
        w.w[i] = random_float();
    }
    static const double elements[] = {ROW, 128, ROW, ROW, 128, 128, 256, VOCAB, VOCAB};
    for (w.which = 0; w.which < N_ROW_NAMES; w.which++) {
        double seconds = measure(b, row_part, &w) / (w.which < 7 ? REPEATS : 1);
        report(b, row_names[w.which], "one thread", seconds, elements[w.which] / seconds, "Gelem/s", 0);
    }
    qn_free_aligned(w.x);
    qn_free_aligned(w.y);
    qn_free_aligned(w.w);
}

/* ---- the sampler on a vocabulary of 152064 ---- */

typedef struct sampler_work {
    quern_sampler *sampler;
    float *logits;
    bool logprob;
} sampler_work;

static void sample_part(void *arg, qn_member m)
{
    sampler_work *w = arg;
    if (m.index == 0) {
        int32_t id;
        float logprob;
        quern_error err;
        if (quern_sampler_sample(w->sampler, w->logits, &id, w->logprob ? &logprob : NULL, &err) != QUERN_OK) {
            fail(err.message);
        }
    }
}

static void bench_sampler(bench *b)
{
    static const struct {
        const char *what;
        float temperature;
        int32_t top_k;
        float top_p, typical_p;
        bool logprob;
    } settings[] = {
        {"greedy", 0.0f, 0, 1.0f, 1.0f, false},
        {"top-k 20, top-p 0.8", 0.7f, 20, 0.8f, 1.0f, false},
        {"the same, logprob", 0.7f, 20, 0.8f, 1.0f, true},
        {"top-k 5000", 1.0f, 5000, 1.0f, 1.0f, false},
        {"top-p 0.95", 1.0f, 0, 0.95f, 1.0f, false},
        {"temperature alone", 1.0f, 0, 1.0f, 1.0f, false},
        {"typical 0.95", 1.0f, 0, 1.0f, 0.95f, false},
    };
    sampler_work w = {.logits = allocate(VOCAB * sizeof(float))};
    for (size_t i = 0; i < VOCAB;
         i++) { /* a bell of width 3, the best about 13 above the middle: flatter than a model's, so slower than usual */
        w.logits[i] = 3.0f * (random_float() + random_float() + random_float() + random_float() + random_float() + random_float()) / 1.4f;
    }
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        quern_sampling s = quern_sampling_default();
        s.temperature = settings[i].temperature;
        s.top_k = settings[i].top_k;
        s.top_p = settings[i].top_p;
        s.typical_p = settings[i].typical_p;
        w.logprob = settings[i].logprob;
        quern_error err;
        if (quern_sampler_create(&w.sampler, &s, VOCAB, &err) != QUERN_OK) {
            fail(err.message);
        }
        double seconds = measure(b, sample_part, &w);
        report(b, "sampler, 152064 tokens", settings[i].what, seconds, VOCAB / seconds, "Gelem/s", 0);
        quern_sampler_destroy(w.sampler);
    }
    qn_free_aligned(w.logits);
}

/* ---- program ---- */

static void write_json(const bench *b)
{
    qn_json *machine = qn_json_new_object();
    (void)qn_json_set(machine, "cpu", qn_json_new_string(qn_cpu_name()));
    (void)qn_json_set(machine, "cores", qn_json_new_int((int64_t)b->o.n_threads));
    (void)qn_json_set(machine, "isa", qn_json_new_string(qn_isa_name(b->isa)));
    (void)qn_json_set(machine, "read_bytes_per_s", qn_json_new_real(b->bandwidth));
    (void)qn_json_set(machine, "f32_ops_per_s", qn_json_new_real(b->peak_fma));
    qn_json *root = qn_json_new_object();
    (void)qn_json_set(root, "schema", qn_json_new_string("quern.bench-result/1"));
    (void)qn_json_set(root, "title", qn_json_new_string("Attention, row operations, sampler"));
    (void)qn_json_set(root, "date", qn_json_new_string(b->o.date));
    (void)qn_json_set(root, "machine", machine);
    (void)qn_json_set(root, "version", qn_json_new_string("quern"));
    (void)qn_json_set(root, "what",
                      qn_json_new_string("Operations alone, random data; shares are of the read bandwidth (one token) and of the float32 "
                                         "multiply-add peak (64 query rows) measured in the same run."));
    (void)qn_json_set(root, "command", qn_json_new_string("build/bench_ops --json FILE --date YYYY-MM-DD"));
    (void)qn_json_set(root, "rows", qn_json_clone(b->rows));
    (void)qn_json_set(root, "notes", qn_json_new_array());
    qn_buf text;
    qn_buf_init(&text, (size_t)1 << 24);
    if (!qn_json_write(root, 1, &text)) {
        fail("out of memory");
    }
    FILE *f = fopen(b->o.json, "w");
    if (f == NULL || fwrite(text.data, 1, text.len, f) != text.len || fputc('\n', f) == EOF || fclose(f) != 0) {
        fail("cannot write the JSON file");
    }
    qn_buf_deinit(&text);
    qn_json_free(root);
}

static options parse_options(int argc, char **argv)
{
    options o = {.only = "", .date = "", .dim = 128, .n_kv_heads = 8, .group = 2, .seconds = 0.3, .n_threads = qn_cpu_usable_count()};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) {
            fail("every option takes a value");
        }
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--isa") == 0) {
            o.isa_name = value;
        } else if (strcmp(argv[i], "--threads") == 0) {
            o.n_threads = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--dim") == 0) {
            o.dim = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--kv-heads") == 0) {
            o.n_kv_heads = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--group") == 0) {
            o.group = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--time") == 0) {
            o.seconds = strtod(value, NULL);
        } else if (strcmp(argv[i], "--clock") == 0) {
            o.cpu_clock = strcmp(value, "cpu") == 0;
        } else if (strcmp(argv[i], "--only") == 0) {
            o.only = value;
        } else if (strcmp(argv[i], "--json") == 0) {
            o.json = value;
        } else if (strcmp(argv[i], "--date") == 0) {
            o.date = value;
        } else {
            fail("unknown option");
        }
    }
    if (o.n_threads == 0 || o.n_threads > THREADS_MAX || o.dim == 0 || o.dim > 512 || o.dim % 2 != 0 || o.n_kv_heads == 0 || o.group == 0 ||
        o.group > QUERIES) {
        fail("a number is out of range");
    }
    return o;
}

int main(int argc, char **argv)
{
    bench b = {.o = parse_options(argc, argv), .isa = qn_isa_best(), .rows = qn_json_new_array()};
    if (b.o.isa_name != NULL && (!qn_isa_from_name(b.o.isa_name, &b.isa) || !qn_isa_available(b.isa))) {
        fail("no such instruction set here");
    }
    b.ops = qn_ops_get(b.isa);
    quern_error err;
    if (qn_pool_create(&b.pool, b.o.n_threads, &err) != QUERN_OK) {
        fail(err.message);
    }
    bool all = b.o.only[0] == '\0';
    if (all || strcmp(b.o.only, "attention") == 0) {
        bench_attention(&b, QN_KV_FORMAT_F16);
        bench_attention(&b, QN_KV_FORMAT_F32);
        if (b.o.dim % QN_KV_BLOCK == 0) {
            bench_attention(&b, QN_KV_FORMAT_Q8_0);
        }
    }
    if (all || strcmp(b.o.only, "rows") == 0) {
        bench_rows(&b);
    }
    if (all || strcmp(b.o.only, "sampler") == 0) {
        bench_sampler(&b);
    }
    if (b.o.json != NULL) {
        write_json(&b);
    }
    qn_json_free(b.rows);
    qn_pool_destroy(b.pool);
    return 0;
}
