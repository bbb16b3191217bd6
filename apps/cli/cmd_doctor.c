/* cmd_doctor.c - quern doctor: what this machine can do, measured, and what Quern makes of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "config_file.h"
#include "demo_model.h"
#include "doctor_note.h"
#include "line_edit.h"
#include "model_ref.h"
#include "quern/machine.h"
#include "quern/quern.h"
#include "table.h"

typedef struct report {
    quern_machine machine;
    char *model_path;
    size_t n_threads;
    double mapped_bandwidth; /* over the model of -m; 0 = not asked */
    qn_layout layout;        /* of that model's pages */
    char *config, *data;     /* folders */
    char *python;            /* path of python3, NULL if none is on PATH */
    bool demo;
} report;

#define SANDBOX_WHY "running generated code is not in this version"

/* The first `name` on PATH that may be executed, in new memory. */
static char *find_program(const char *name)
{
    const char *path = getenv("PATH");
    while (path != NULL && *path != '\0') {
        size_t n = strcspn(path, ":");
        char *dir = qn_strndup(path, n);
        char *file = dir != NULL && n > 0 ? qn_path_join(dir, name) : NULL;
        qn_free(dir);
        if (file != NULL && qn_path_is_file(file)) {
            return file;
        }
        qn_free(file);
        path += n + (path[n] == ':');
    }
    return NULL;
}

static quern_status measure(qn_cli *cli, report *r, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_model *model = NULL;
    const quern_machine_options options = {.isa = qn_opts_text(&cli->opts, QN_OPT_ISA, NULL),
                                           .n_threads = (size_t)qn_opts_count(&cli->opts, QN_OPT_THREADS, 0)};
    QN_TRY(quern_machine_detect(&r->machine, options.isa, err));
    r->n_threads = options.n_threads != 0 ? options.n_threads : r->machine.n_cpus;
    if (cli->err.is_terminal) {
        qn_cli_note(cli, "measuring memory bandwidth and arithmetic, a few seconds ...");
    }
    QN_TRY(quern_machine_measure(&r->machine.rates, &options, err));
    if (qn_model_ref_given(cli)) {
        QN_TRY(qn_model_ref_take(cli, NULL, &r->model_path, err));
        QN_TRY(qn_model_ref_open(cli, r->model_path, QN_OPEN_WITHOUT_TOKENIZER, &model, err));
        quern_mapping_turns turns;
        QN_TRY(quern_machine_measure_mapping(model, &options, &r->mapped_bandwidth, &turns, err));
        r->layout = qn_layout_judge(&turns);
        r->mapped_bandwidth = r->layout.kind != QN_LAYOUT_UNKNOWN ? r->layout.mapped : r->mapped_bandwidth;
    }
done:
    quern_model_close(model);
    return status;
}

static qn_json *bandwidth_json(const report *r, bool *ok)
{
    qn_json *o = qn_json_new_object();
    qn_put_text(o, "isa", r->machine.isa_reading, ok);
    qn_put_measured(o, "read_one_thread_bytes_per_s", r->machine.rates.read_bandwidth_one, ok);
    qn_put_measured(o, "read_bytes_per_s", r->machine.rates.read_bandwidth_all, ok);
    qn_put(o, "mapped_bytes_per_s", r->mapped_bandwidth > 0 ? qn_json_new_measured(r->mapped_bandwidth) : qn_json_new_null(), ok);
    const bool compared = r->layout.kind != QN_LAYOUT_UNKNOWN;
    qn_put_measured(o, "mapped_page_layout_cost", compared ? r->layout.cost : (double)NAN, ok);
    qn_put_text(o, "mapped_page_layout", qn_layout_name(r->layout.kind), ok);
    qn_put_measured(o, "mapped_spread", compared ? r->layout.mapped_spread : (double)NAN, ok);
    qn_put_measured(o, "plain_bytes_per_s", compared ? r->layout.plain : (double)NAN, ok);
    qn_put_measured(o, "plain_spread", compared ? r->layout.plain_spread : (double)NAN, ok);
    qn_put(o, "one_thread_above_all",
           qn_json_new_bool(qn_one_above_all(r->machine.rates.read_bandwidth_one, r->machine.rates.read_bandwidth_all, r->n_threads)), ok);
    return o;
}

/* Of a machine whose processors have memory of their own; else an empty list. */
static qn_json *memory_nodes_json(const quern_machine *m, bool *ok)
{
    qn_json *list = qn_json_new_array();
    for (size_t i = 0; m->n_memory_nodes > 1 && i < m->n_memory_nodes && i < sizeof m->memory_nodes / sizeof m->memory_nodes[0]; i++) {
        qn_json *node = qn_json_new_object();
        qn_put_count(node, "id", (uint64_t)m->memory_nodes[i].id, ok);
        qn_put_count(node, "n_cpus", m->memory_nodes[i].n_cpus, ok);
        qn_push(list, node, ok);
    }
    return list;
}

/* A peak of 0 means that the chosen instruction set has no such unit; the machine may. */
static void put_peak(qn_json *o, const char *key, double v, bool *ok)
{
    qn_put(o, key, v > 0 ? qn_json_new_measured(v) : qn_json_new_null(), ok);
}

static quern_status write_json(qn_cli *cli, const report *r, quern_error *err)
{
    bool ok = true;
    const quern_machine *m = &r->machine;
    qn_json *doc = qn_json_new_object(), *isa = qn_json_new_object(), *available = qn_json_new_array(), *peaks = qn_json_new_object();
    qn_json *sandbox = qn_json_new_object(), *optional = qn_json_new_object(), *folders = qn_json_new_object();
    for (size_t i = 0; i < m->n_isa_available; i++) {
        qn_push(available, qn_json_new_string(m->isa_available[i]), &ok);
    }
    qn_put(isa, "available", available, &ok);
    qn_put_text(isa, "chosen", m->isa_chosen, &ok);
    put_peak(peaks, "fma_f32", m->rates.peak_fma_f32, &ok);
    put_peak(peaks, "avx2_int8", m->rates.peak_avx2_int8, &ok);
    put_peak(peaks, "vnni_int8", m->rates.peak_vnni_int8, &ok);
    put_peak(peaks, "amx_int8", m->rates.peak_amx_int8, &ok);
    put_peak(peaks, "amx_bf16", m->rates.peak_amx_bf16, &ok);
    put_peak(peaks, "neon_int8", m->rates.peak_neon_int8, &ok);
    put_peak(peaks, "i8mm_int8", m->rates.peak_i8mm_int8, &ok);
    qn_put(sandbox, "tier", qn_json_new_null(), &ok);
    qn_put_text(sandbox, "why", SANDBOX_WHY, &ok);
    qn_put(optional, "demo_model", qn_json_new_bool(r->demo), &ok);
    qn_put(optional, "line_editing", qn_json_new_bool(strcmp(qn_line_edit_library(), "none") != 0), &ok);
    qn_put_text(optional, "python3", r->python, &ok);
    qn_put_text(folders, "home", r->data, &ok);
    qn_put_text(folders, "config", r->config, &ok);
    qn_put_text(doc, "schema", "quern.doctor/1", &ok);
    qn_put_text(doc, "quern_version", quern_version(), &ok);
    qn_put_text(doc, "cpu", m->cpu, &ok);
    qn_put_count(doc, "n_cpus", m->n_cpus, &ok);
    qn_put(doc, "memory_nodes", memory_nodes_json(m, &ok), &ok);
    qn_put_count(doc, "memory_bytes", m->memory_bytes, &ok);
    qn_put_count(doc, "memory_available_bytes", m->memory_available_bytes, &ok);
    qn_put_count(doc, "last_level_cache_bytes", m->last_level_cache_bytes, &ok);
    qn_put(doc, "isa", isa, &ok);
    qn_put(doc, "bandwidth", bandwidth_json(r, &ok), &ok);
    qn_put(doc, "peak_ops_per_s", peaks, &ok);
    qn_put(doc, "sandbox", sandbox, &ok);
    qn_put(doc, "optional", optional, &ok);
    qn_put(doc, "folders", folders, &ok);
    return qn_cli_write_json(cli, doc, ok, err);
}

static void row(qn_table *t, const char *name, const char *value, const char *note)
{
    qn_table_cell(t, "%s", name);
    qn_table_cell(t, "%s", value);
    qn_table_cell(t, "%s", note);
}

/* unit_isa: the weakest instruction set with this unit. */
static void peak_row(qn_table *t, const quern_machine *m, const char *name, double ops, const char *unit_isa, const char *absent)
{
    char text[64], unused[64];
    bool has_unit = false;
    for (size_t i = 0; i < m->n_isa_available; i++) {
        has_unit = has_unit || strcmp(m->isa_available[i], unit_isa) == 0;
    }
    (void)snprintf(text, sizeof text, "%.0f G op/s", ops / 1e9);
    (void)snprintf(unused, sizeof unused, "not with %s", m->isa_chosen);
    row(t, name, ops > 0 ? text : "-", ops > 0 ? "" : has_unit ? unused : absent);
}

/* A path as people write it: the home folder as ~. */
static void folder_row(qn_table *t, const char *name, const char *path, const char *note)
{
    const char *home = getenv("HOME");
    size_t n = home != NULL ? strlen(home) : 0;
    bool inside = path != NULL && n > 1 && strncmp(path, home, n) == 0 && path[n] == '/';
    qn_table_cell(t, "%s", name);
    qn_table_cell(t, "%s%s", inside ? "~" : "", path == NULL ? "-" : inside ? path + n : path);
    qn_table_cell(t, "%s", note);
}

/* Processors with memory of their own: how many of the threads' each has. */
static void nodes_row(qn_table *t, const quern_machine *m, qn_buf *text)
{
    char count[32];
    size_t shown = sizeof m->memory_nodes / sizeof m->memory_nodes[0];
    shown = m->n_memory_nodes < shown ? m->n_memory_nodes : shown;
    qn_buf_reset(text);
    for (size_t i = 0; i < shown; i++) {
        (void)qn_buf_printf(text, "%s%zu", i == 0 ? "with " : i + 1 < m->n_memory_nodes ? ", " : " and ", m->memory_nodes[i].n_cpus);
    }
    (void)qn_buf_printf(text, "%s of the processors; QUERN_NUMA=off ignores them", shown < m->n_memory_nodes ? ", ..." : "");
    (void)snprintf(count, sizeof count, "%zu", m->n_memory_nodes);
    row(t, "memory nodes", count, qn_buf_text(text));
}

static void print_report(qn_cli *cli, const report *r)
{
    static const qn_table_column columns[] = {
        {NULL, false, 0, QN_STYLE_DIM}, {NULL, false, 0, QN_STYLE_NONE}, {NULL, false, 0, QN_STYLE_DIM}};
    const quern_machine *m = &r->machine;
    qn_table *t = qn_table_create(columns, 3);
    qn_number a, b;
    qn_buf text;
    qn_buf_init(&text, 4096);
    row(t, "processor", m->cpu, "");
    (void)qn_buf_printf(&text, "%zu", m->n_cpus);
    row(t, "threads", qn_buf_text(&text), "that this process may use");
    if (m->n_memory_nodes > 1) {
        nodes_row(t, m, &text);
    }
    qn_buf_reset(&text);
    (void)qn_buf_printf(&text, "%s free", qn_format_bytes(a, m->memory_available_bytes));
    row(t, "memory", qn_format_bytes(b, m->memory_bytes), qn_buf_text(&text));
    row(t, "last-level cache", qn_format_bytes(a, m->last_level_cache_bytes), "");
    qn_buf_reset(&text);
    for (size_t i = 0; i < m->n_isa_available; i++) {
        (void)qn_buf_printf(&text, "%s%s", i > 0 ? " " : "", m->isa_available[i]);
    }
    row(t, "instruction sets", qn_buf_text(&text), "");
    row(t, "chosen", m->isa_chosen, "QUERN_ISA, --isa or the settings choose another");
    qn_buf_reset(&text);
    (void)qn_buf_printf(&text, "%.1f GB/s", m->rates.read_bandwidth_all / 1e9);
    char one[128];
    qn_one_thread_note(m->rates.read_bandwidth_one, m->rates.read_bandwidth_all, r->n_threads, one, sizeof one);
    row(t, "reading memory", qn_buf_text(&text), one);
    if (r->mapped_bandwidth > 0) {
        qn_buf_reset(&text);
        (void)qn_buf_printf(&text, "%.1f GB/s", r->mapped_bandwidth / 1e9);
        char note[160];
        qn_layout_note(&r->layout, note, sizeof note);
        row(t, "reading the model", qn_buf_text(&text), note);
    }
    peak_row(t, m, "float32", m->rates.peak_fma_f32, "scalar", "");
#if defined(__aarch64__)
    peak_row(t, m, "int8", m->rates.peak_neon_int8, "neon", "no dot product");
    peak_row(t, m, "int8 matrices", m->rates.peak_i8mm_int8, "i8mm", "no I8MM");
#else
    if (m->rates.peak_avx2_int8 > 0) {
        peak_row(t, m, "int8 (AVX2)", m->rates.peak_avx2_int8, "avx2", "");
    }
    peak_row(t, m, "int8", m->rates.peak_vnni_int8, "avx512vnni", "no VNNI");
    peak_row(t, m, "int8 tiles", m->rates.peak_amx_int8, "amx", "no AMX");
    if (m->rates.peak_amx_bf16 > 0) {
        peak_row(t, m, "bfloat16 tiles", m->rates.peak_amx_bf16, "amx", "");
    }
#endif
    row(t, "demo model", r->demo ? "built in" : "-", r->demo ? "quern run \"...\"" : "not in this build");
    row(t, "line editing", qn_line_edit_library(), "");
    row(t, "python3", r->python != NULL ? r->python : "-", r->python != NULL ? "" : "not on PATH");
    row(t, "sandbox", "-", SANDBOX_WHY);
    folder_row(t, "stored models", r->data, "QUERN_HOME");
    folder_row(t, "settings", r->config, "");
    qn_table_print(t, &cli->out, 0);
    qn_table_destroy(t);
    qn_buf_deinit(&text);
}

quern_status qn_cmd_doctor(qn_cli *cli, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t demo_bytes = 0;
    report r = {.demo = qn_demo_model_find(&demo_bytes) != NULL};
    char *folder = NULL;
    if (cli->opts.n_positional > 0) {
        qn_cli_hint(cli, "quern doctor -m MODEL measures how fast a mapped model is read");
        QN_FAIL(err, QUERN_ERROR_USAGE, "doctor takes no argument: '%s'", cli->opts.positional[0]);
    }
    QN_TRY(measure(cli, &r, err));
    folder = qn_config_folder();
    r.config = folder != NULL ? qn_path_join(folder, "config") : NULL;
    r.data = qn_data_folder();
    r.python = find_program("python3");
    if (cli->json) {
        QN_TRY(write_json(cli, &r, err));
    } else {
        print_report(cli, &r);
    }
done:
    qn_free(folder);
    qn_free(r.config);
    qn_free(r.data);
    qn_free(r.python);
    qn_free(r.model_path);
    return status;
}
