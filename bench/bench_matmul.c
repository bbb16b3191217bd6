/* bench_matmul.c - the speed of every matrix kernel as a share of what the machine can do in the same minute.
 *
 * usage: bench_matmul [--type Q4_K|MLX4] [--isa NAME] [--threads N] [--tokens 1,4,512] [--cols N] [--time SECONDS] [--clock cpu]
 *        [--kib WEIGHTS] [--streams 1|2|4] [--halves yes|no] [--json FILE --date YYYY-MM-DD]
 *
 * Few tokens (up to 16) are bound by memory: weights of at least 4 x all last-level caches (256 MiB to 1.5 GiB) are read, and the share is of the read
 * bandwidth that the same threads reach on a buffer of that size. More tokens are bound by arithmetic: the share is of the VPDPBUSD peak.
 * The yardsticks are taken before and after; the run says so when they moved by more than a tenth.
 * --streams, --halves: as if the processor read best from so many places, or took registers in halves (base/cpu.h); with halves, kernels of few tokens
 * hand most types on to those of matmul_lanes.h, which always read from two.
 * --clock cpu counts the busiest thread's processor time instead of wall time and keeps the best run instead of the median: for work on a kernel
 * while the machine is shared; such figures are not for the record. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/cpu.h"
#include "base/json.h"
#include "kernels/matmul.h"
#include "kernels/peak.h"
#include "random_weights.h"
#include "stopwatch.h"

typedef struct options {
    const char *type, *json, *date;
    const char *isa_name;
    size_t n_threads, n_cols;
    size_t weight_kib; /* 0: by the rule above */
    size_t tokens[16], n_tokens;
    double seconds;
    bool cpu_clock;
} options;

/* ---- yardsticks ---- */

static double measure_bandwidth(qn_pool *pool, bool cpu_clock, const void *data, size_t bytes)
{
    static read_task t;
    t.data = data;
    t.bytes = bytes & ~(size_t)4095;
    t.isa = qn_isa_best();
    double best = 0;
    for (int i = 0; i < 8; i++) {
        t.n_streams = i % 2 == 0 ? QN_PEAK_STREAMS : 1;
        double rate = (double)t.bytes / timed_run(pool, cpu_clock, read_part, &t);
        best = rate > best ? rate : best;
    }
    return best;
}

typedef struct peak_task {
    uint64_t ops[THREADS_MAX];
    uint64_t (*loop)(qn_isa isa, uint64_t rounds);
} peak_task;

static void peak_part(void *arg, qn_member m)
{
    peak_task *t = arg;
    t->ops[m.index] = t->loop(qn_isa_best(), 3000000);
}

static double measure_peak(qn_pool *pool, bool cpu_clock, uint64_t (*loop)(qn_isa isa, uint64_t rounds))
{
    double best = 0;
    for (int i = 0; i < 5; i++) {
        peak_task t = {.loop = loop};
        double seconds = timed_run(pool, cpu_clock, peak_part, &t);
        double rate = 0;
        for (size_t j = 0; j < THREADS_MAX; j++) {
            rate += (double)t.ops[j] / seconds;
        }
        best = rate > best ? rate : best;
    }
    return best;
}

/* ---- one measurement ---- */

typedef struct work {
    const qn_matmul_kernel *kernel;
    qn_matrix m;
    qn_act a;
    size_t n_tokens;
    float *y;
    void *scratch; /* QN_MATMUL_SCRATCH_BYTES a thread */
} work;

static void multiply_part(void *arg, qn_member m)
{
    work *w = arg;
    size_t r0, r1;
    qn_member_span(m, w->m.n_rows, QN_MATMUL_ROW_UNIT, &r0, &r1);
    if (r0 < r1) {
        w->kernel->fn(&w->m, r0, r1, &w->a, 0, w->n_tokens, w->y, w->m.n_rows, (char *)w->scratch + m.index * QN_MATMUL_SCRATCH_BYTES);
    }
}

static void fail(const char *what)
{
    (void)fprintf(stderr, "bench_matmul: %s\n", what);
    exit(1);
}

static void *allocate(size_t bytes)
{
    void *p = qn_malloc_pages(bytes); /* huge pages, as the engine maps weights */
    if (p == NULL) {
        fail("out of memory");
    }
    return p;
}

/* Blocks as Hugging Face's checkpoints have them; freed at the program's end. */
static qn_scale_grid unit_grid(size_t n_rows, size_t n_cols)
{
    enum { BLOCK = 128 };
    const size_t down = n_rows / BLOCK + 1, across = (n_cols + BLOCK - 1) / BLOCK;
    float *values = allocate(down * across * sizeof *values);
    for (size_t i = 0; i < down * across; i++) {
        values[i] = 1.0f;
    }
    return (qn_scale_grid){.values = values, .rows = BLOCK, .cols = BLOCK, .n_across = across};
}

/* Lays a matrix of about `bytes` bytes over `memory` and fills it: a random megabyte or so of whole rows, repeated. */
static void lay_matrix(qn_matrix *m, uint8_t *memory, size_t bytes)
{
    m->data = memory;
    if (m->dtype == QN_DTYPE_MLX_AFFINE) {
        m->row_bytes = m->n_cols / 8 * m->affine.bits;
        size_t group_bytes = 2 * (m->n_cols / m->affine.group);
        m->n_rows = bytes / (m->row_bytes + 2 * group_bytes) / 16 * 16;
        uint8_t *scales = memory + m->n_rows * m->row_bytes;
        uint8_t *biases = scales + m->n_rows * group_bytes;
        random_bytes(memory, m->n_rows * m->row_bytes);
        scale_mode mode = SCALES_USUAL;
        random_floats(scales, QN_DTYPE_BF16, 2 * m->n_rows * (m->n_cols / m->affine.group), &mode);
        m->scales = scales;
        m->biases = biases;
        return;
    }
    if (!qn_dtype_row_bytes(m->dtype, m->n_cols, &m->row_bytes)) {
        fail("the columns are no whole number of blocks");
    }
    m->n_rows = bytes / m->row_bytes / 16 * 16;
    if (m->dtype == QN_DTYPE_F8_E4M3) {
        m->grid = unit_grid(m->n_rows, m->n_cols);
    }
    size_t seed_rows = m->n_rows < 256 ? m->n_rows : 256;
    random_blocks(memory, m->dtype, seed_rows * m->row_bytes, SCALES_USUAL);
    for (size_t r = seed_rows; r < m->n_rows; r++) {
        memcpy(memory + r * m->row_bytes, memory + (r - seed_rows) * m->row_bytes, m->row_bytes);
    }
}

static size_t weight_bytes(const qn_matrix *m)
{
    size_t groups = m->dtype == QN_DTYPE_MLX_AFFINE ? m->n_cols / m->affine.group : 0;
    return m->n_rows * (m->row_bytes + 4 * groups);
}

/* ---- the table ---- */

typedef struct bench {
    options o;
    qn_pool *pool;
    qn_isa isa;
    uint8_t *memory; /* weights; also what bandwidth is measured on */
    size_t memory_bytes;
    double bandwidth, peak_int8, peak_fma;
    qn_json *rows;
} bench;

static void type_label(const qn_matmul_kernel *k, char out[32])
{
    if (k->dtype == QN_DTYPE_MLX_AFFINE) {
        (void)snprintf(out, 32, "MLX%u", k->mlx_bits);
    } else {
        (void)snprintf(out, 32, "%s", qn_dtype_get(k->dtype)->name);
    }
}

static void report(bench *b, const work *w, const char *label, double seconds)
{
    double rate = (double)weight_bytes(&w->m) / seconds;
    double ops = 2.0 * (double)w->m.n_rows * (double)w->m.n_cols * (double)w->n_tokens / seconds;
    double peak = w->a.kind == QN_ACT_F32 || b->peak_int8 <= 0 ? b->peak_fma : b->peak_int8;
    printf("%-34s %-9s %6zu x %-6zu %4zu  %9.3f ms %7.2f GB/s %5.1f %%  %8.1f GOP/s %5.1f %%\n", w->kernel->name, label, w->m.n_rows, w->m.n_cols,
           w->n_tokens, seconds * 1e3, rate * 1e-9, 100 * rate / b->bandwidth, ops * 1e-9, 100 * ops / peak);
    (void)fflush(stdout);
    if (b->rows == NULL) {
        return;
    }
    qn_json *row = qn_json_new_object();
    (void)qn_json_set(row, "kernel", qn_json_new_string(w->kernel->name));
    (void)qn_json_set(row, "type", qn_json_new_string(label));
    (void)qn_json_set(row, "rows", qn_json_new_int((int64_t)w->m.n_rows));
    (void)qn_json_set(row, "columns", qn_json_new_int((int64_t)w->m.n_cols));
    (void)qn_json_set(row, "tokens", qn_json_new_int((int64_t)w->n_tokens));
    (void)qn_json_set(row, "ms", qn_json_new_real(seconds * 1e3));
    (void)qn_json_set(row, "GB/s", qn_json_new_real(rate * 1e-9));
    (void)qn_json_set(row, "% of bandwidth", qn_json_new_real(100 * rate / b->bandwidth));
    (void)qn_json_set(row, "GOP/s", qn_json_new_real(ops * 1e-9));
    (void)qn_json_set(row, "% of peak", qn_json_new_real(100 * ops / peak));
    (void)qn_json_append(b->rows, row);
}

static void bench_kernel(bench *b, const qn_matmul_kernel *k, size_t n_tokens)
{
    enum { FEW = 16 };
    static const size_t prefill_bytes = (size_t)8 << 20; /* more rows tell nothing new about arithmetic */
    char label[32];
    type_label(k, label);
    work w = {.kernel = k, .n_tokens = n_tokens};
    w.m = (qn_matrix){.dtype = k->dtype, .affine = {k->mlx_bits, 64}, .affine_dtype = QN_DTYPE_BF16, .n_cols = b->o.n_cols};
    size_t bytes = n_tokens <= FEW ? b->memory_bytes : prefill_bytes;
    if (b->o.weight_kib != 0) {
        bytes = b->o.weight_kib << 10 < b->memory_bytes ? b->o.weight_kib << 10 : b->memory_bytes;
    }
    lay_matrix(&w.m, b->memory, bytes);
    uint32_t block;
    qn_act_kind kind = qn_act_kind_for(k->dtype, w.m.affine, &block);
    void *act_memory = allocate(qn_act_bytes(kind, block, n_tokens, w.m.n_cols));
    qn_act_bind(&w.a, kind, block, n_tokens, w.m.n_cols, act_memory);
    float *x = allocate(n_tokens * w.m.n_cols * sizeof *x);
    for (size_t i = 0; i < n_tokens * w.m.n_cols; i++) {
        x[i] = random_unit();
    }
    if (kind == QN_ACT_I8) {
        qn_act_quantize(b->isa, &w.a, x, w.m.n_cols, 0, n_tokens);
    } else {
        for (size_t t = 0; t < n_tokens; t++) {
            memcpy(w.a.f + t * w.a.f_stride, x + t * w.m.n_cols, w.m.n_cols * sizeof *x);
        }
    }
    size_t n_threads = qn_pool_n_threads(b->pool);
    w.y = allocate(n_tokens * w.m.n_rows * sizeof *w.y);
    w.scratch = allocate(n_threads * QN_MATMUL_SCRATCH_BYTES);
    memset(w.y, 0, n_tokens * w.m.n_rows * sizeof *w.y);
    memset(w.scratch, 0, n_threads * QN_MATMUL_SCRATCH_BYTES);
    report(b, &w, label, timed_median(b->pool, b->o.cpu_clock, b->o.seconds, multiply_part, &w));
    qn_free_aligned(w.scratch);
    qn_free_aligned(w.y);
    qn_free_aligned(x);
    qn_free_aligned(act_memory);
}

/* The kernel that the selection would take: the row with the largest reached min_tokens of the strongest level up to b->isa. */
static bool is_selected(const bench *b, const qn_matmul_kernel *k, size_t n_tokens)
{
    if (k->isa > b->isa || k->min_tokens > n_tokens) {
        return false;
    }
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        const qn_matmul_kernel *o = qn_matmul_kernel_at(i);
        if (o->dtype == k->dtype && o->mlx_bits == k->mlx_bits && o->isa <= b->isa && o->min_tokens <= n_tokens &&
            (o->isa > k->isa || (o->isa == k->isa && o->min_tokens > k->min_tokens))) {
            return false;
        }
    }
    return true;
}

static void take_yardsticks(bench *b)
{
    b->bandwidth = measure_bandwidth(b->pool, b->o.cpu_clock, b->memory, b->memory_bytes);
    b->peak_int8 = measure_peak(b->pool, b->o.cpu_clock, qn_peak_int8);
    b->peak_fma = measure_peak(b->pool, b->o.cpu_clock, qn_peak_fma_f32);
    printf("# %zu threads: read %.1f GB/s over %zu MiB, int8 peak %.3f TOPS, f32 peak %.3f TFLOPS\n", qn_pool_n_threads(b->pool),
           b->bandwidth * 1e-9, b->memory_bytes >> 20, b->peak_int8 * 1e-12, b->peak_fma * 1e-12);
}

static void write_json(const bench *b)
{
    qn_json *machine = qn_json_new_object();
    (void)qn_json_set(machine, "cpu", qn_json_new_string(qn_cpu_name()));
    (void)qn_json_set(machine, "cores", qn_json_new_int((int64_t)qn_pool_n_threads(b->pool)));
    (void)qn_json_set(machine, "isa", qn_json_new_string(qn_isa_name(b->isa)));
    (void)qn_json_set(machine, "last_level_cache_bytes", qn_json_new_int((int64_t)qn_cpu_last_level_cache_bytes(QN_CPU_PROCESSORS)));
    (void)qn_json_set(machine, "read_bytes_per_s", qn_json_new_real(b->bandwidth));
    (void)qn_json_set(machine, "int8_ops_per_s", qn_json_new_real(b->peak_int8));
    (void)qn_json_set(machine, "f32_ops_per_s", qn_json_new_real(b->peak_fma));
    qn_json *root = qn_json_new_object();
    (void)qn_json_set(root, "schema", qn_json_new_string("quern.bench-result/1"));
    (void)qn_json_set(root, "title", qn_json_new_string("Matrix kernels"));
    (void)qn_json_set(root, "date", qn_json_new_string(b->o.date));
    (void)qn_json_set(root, "machine", machine);
    (void)qn_json_set(root, "version", qn_json_new_string("quern"));
    (void)qn_json_set(root, "what", qn_json_new_string("Every matrix kernel alone, random weights; shares are of the read bandwidth and the "
                                                       "VPDPBUSD (for float types: multiply-add) peak measured in the same run."));
    (void)qn_json_set(root, "command", qn_json_new_string("build/bench_matmul --json FILE --date YYYY-MM-DD"));
    (void)qn_json_set(root, "rows", qn_json_clone(b->rows));
    (void)qn_json_set(root, "notes", qn_json_new_array());
    qn_buf text;
    qn_buf_init(&text, (size_t)64 << 20);
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

static void parse_tokens(options *o, const char *text)
{
    o->n_tokens = 0;
    while (*text != '\0' && o->n_tokens < sizeof o->tokens / sizeof o->tokens[0]) {
        char *end;
        o->tokens[o->n_tokens++] = strtoul(text, &end, 10);
        text = *end == ',' ? end + 1 : end;
        if (*end != ',' && *end != '\0') {
            fail("--tokens wants numbers and commas");
        }
    }
}

static options parse_options(int argc, char **argv)
{
    options o = {.date = "", .n_cols = 4096, .seconds = 0.4, .n_threads = qn_cpu_usable_count()};
    parse_tokens(&o, "1,2,4,8,16,512");
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) {
            fail("every option takes a value");
        }
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "--type") == 0) {
            o.type = value;
        } else if (strcmp(argv[i], "--isa") == 0) {
            o.isa_name = value;
        } else if (strcmp(argv[i], "--threads") == 0) {
            o.n_threads = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--tokens") == 0) {
            parse_tokens(&o, value);
        } else if (strcmp(argv[i], "--cols") == 0) {
            o.n_cols = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--time") == 0) {
            o.seconds = strtod(value, NULL);
        } else if (strcmp(argv[i], "--clock") == 0) {
            o.cpu_clock = strcmp(value, "cpu") == 0;
        } else if (strcmp(argv[i], "--kib") == 0) {
            o.weight_kib = strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--streams") == 0) {
            const size_t n = strtoul(value, NULL, 10);
            qn_cpu_set_read_streams(n);
            if (qn_cpu_read_streams() != n) {
                fail("--streams wants 1, 2 or 4");
            }
        } else if (strcmp(argv[i], "--halves") == 0) {
            if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0) {
                fail("--halves wants yes or no");
            }
            qn_cpu_set_half_registers(strcmp(value, "yes") == 0 ? QN_YES : QN_NO);
        } else if (strcmp(argv[i], "--json") == 0) {
            o.json = value;
        } else if (strcmp(argv[i], "--date") == 0) {
            o.date = value;
        } else {
            fail("unknown option");
        }
    }
    return o;
}

int main(int argc, char **argv)
{
    bench b = {.o = parse_options(argc, argv), .isa = qn_isa_best()};
    quern_error err;
    if (b.o.isa_name != NULL && (!qn_isa_from_name(b.o.isa_name, &b.isa) || !qn_isa_available(b.isa))) {
        fail("no such instruction set here");
    }
    if (b.o.n_threads > THREADS_MAX) {
        fail("too many threads");
    }
    if (qn_pool_create(&b.pool, b.o.n_threads, &err) != QUERN_OK) {
        fail("cannot make the threads");
    }
    b.memory_bytes = bytes_beyond_caches((size_t)1536 << 20);
    b.memory = allocate(b.memory_bytes);
    memset(b.memory, 1, b.memory_bytes);
    b.rows = b.o.json != NULL ? qn_json_new_array() : NULL;
    take_yardsticks(&b);
    double bandwidth = b.bandwidth, peak = b.peak_int8;
    for (size_t i = 0; i < qn_matmul_kernel_count(); i++) {
        const qn_matmul_kernel *k = qn_matmul_kernel_at(i);
        char label[32];
        type_label(k, label);
        if ((b.o.type != NULL && strcmp(b.o.type, label) != 0) || !qn_isa_available(k->isa)) {
            continue;
        }
        for (size_t j = 0; j < b.o.n_tokens; j++) {
            if (is_selected(&b, k, b.o.tokens[j])) {
                bench_kernel(&b, k, b.o.tokens[j]);
            }
        }
    }
    take_yardsticks(&b);
    double moved = b.bandwidth / bandwidth, moved_peak = peak > 0 ? b.peak_int8 / peak : 1;
    if (moved < 0.9 || moved > 1.1 || moved_peak < 0.9 || moved_peak > 1.1) {
        printf("# the yardsticks moved by more than a tenth: other load on this machine, measure again\n");
    }
    if (b.rows != NULL) {
        write_json(&b);
        qn_json_free(b.rows);
    }
    qn_free_aligned(b.memory);
    qn_pool_destroy(b.pool);
    return 0;
}
