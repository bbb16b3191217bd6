/* verify_report.c - see verify_report.h. */
#include "quantize/verify_report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sha256.h"
#include "model/folder_files.h"

typedef struct builder {
    bool ok;
} builder;

static void set(builder *b, qn_json *object, const char *key, qn_json *value) { b->ok = qn_json_set(object, key, value) && b->ok; }
static void append(builder *b, qn_json *array, qn_json *value) { b->ok = qn_json_append(array, value) && b->ok; }
static void set_text(builder *b, qn_json *object, const char *key, const char *text) { set(b, object, key, qn_json_new_string(text)); }
static void set_count(builder *b, qn_json *object, const char *key, uint64_t n) { set(b, object, key, qn_json_new_int((int64_t)n)); }

const char *qn_verdict_name(const qn_findings *f, quern_gate_policy policy)
{
    if (f->failed) {
        return "fail";
    }
    if (policy == QUERN_GATE_OFF) {
        return "skipped";
    }
    return f->lossy ? "lossy" : f->unmeasured ? "skipped" : "pass";
}

qn_json *qn_gate_to_json(quern_gate_policy policy, size_t sample_layers, const qn_findings *f)
{
    static const char *const states[] = {[QN_CERTIFICATE_UNCHECKED] = "not checked",
                                         [QN_CERTIFICATE_ROUGH] = "agrees roughly",
                                         [QN_CERTIFICATE_AGREES] = "agrees",
                                         [QN_CERTIFICATE_DIFFERS] = "differs"};
    builder b = {.ok = true};
    qn_json *v = qn_json_new_object();
    char sample[32];
    (void)snprintf(sample, sizeof sample, "sample:%zu", sample_layers);
    set_text(&b, v, "policy", sample_layers > 0 ? sample : quern_gate_policy_name(policy));
    set_text(&b, v, "verdict", qn_verdict_name(f, policy));
    set(&b, v, "reasons", qn_text_list_to_json(&f->reasons));
    set(&b, v, "suspect_tensors", qn_text_list_to_json(&f->suspects));
    set(&b, v, "notes", qn_text_list_to_json(&f->notes));
    set(&b, v, "warnings", qn_text_list_to_json(&f->warnings));
    if (f->certificate != QN_CERTIFICATE_NONE) {
        set_text(&b, v, "certificate", states[f->certificate]);
    }
    if (f->sampled != NULL) {
        set(&b, v, "sample", qn_json_clone(f->sampled));
    }
    if (!b.ok) {
        qn_json_free(v);
    }
    return b.ok ? v : NULL;
}

static void type_of(const qn_checked_tensor *t, char *out, size_t cap)
{
    if (t->storage == QN_STORED_AFFINE) {
        (void)snprintf(out, cap, "%ubit-g%u", (unsigned)t->affine.bits, (unsigned)t->affine.group);
    } else {
        (void)snprintf(out, cap, "%s", t->storage == QN_STORED_MXFP4 ? "mxfp4-g32" : qn_dtype_get(t->dtype)->name);
    }
}

static qn_json *tensor_entry(builder *b, const qn_checked_tensor *t, const qn_tensor_figures *f, const qn_piece *p)
{
    static const char *const encoders[] = {
        [QN_ENCODER_UNKNOWN] = NULL, [QN_ENCODER_QUERN] = "quern", [QN_ENCODER_PLAIN] = "plain", [QN_ENCODER_RECODE] = "quern, calibrated"};
    uint64_t shape[3] = {t->n_parts, t->n_rows, t->n_cols};
    char type[32];
    qn_json *v = qn_json_new_object(), *dims = qn_json_new_array();
    type_of(t, type, sizeof type);
    for (uint32_t i = 3 - p->what.n_dims; i < 3; i++) {
        append(b, dims, qn_json_new_int((int64_t)shape[i]));
    }
    double relative = f->squared_error == 0 ? 0 : f->squared_source > 0 ? sqrt(f->squared_error / f->squared_source) : NAN;
    set_text(b, v, "name", t->name);
    set_text(b, v, "type", type);
    set(b, v, "shape", dims);
    set(b, v, "rel_rmse", qn_json_new_real(relative));
    set(b, v, "max_abs_error", qn_json_new_real(f->max_abs_error));
    if (encoders[f->encoder] != NULL) {
        set_text(b, v, "encoder", encoders[f->encoder]);
    }
    return v;
}

/* rope_freqs.weight, which has been compared exactly and belongs to no piece. */
static qn_json *divisors_entry(builder *b, const qn_verified *v)
{
    qn_json *o = qn_json_new_object(), *dims = qn_json_new_array();
    append(b, dims, qn_json_new_int(v->job->source.config.rope.n_rot / 2));
    set_text(b, o, "name", "rope_freqs.weight");
    set_text(b, o, "type", "F32");
    set(b, o, "shape", dims);
    set(b, o, "rel_rmse", qn_json_new_real(0));
    set(b, o, "max_abs_error", qn_json_new_real(0));
    return o;
}

static quern_status file_entry(builder *b, qn_json *files, const char *path, uint64_t bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    char hex[65];
    QN_TRY(qn_sha256_file(path, hex, err));
    qn_json *v = qn_json_new_object();
    set_text(b, v, "path", path);
    set_count(b, v, "bytes", bytes);
    set_text(b, v, "sha256", hex);
    append(b, files, v);
done:
    return status;
}

static bool is_weight_file(const qn_verified *v, const char *name)
{
    for (size_t i = 0; i < qn_safetensors_n_files(v->safetensors); i++) {
        if (strcmp(qn_path_base(qn_safetensors_file_path(v->safetensors, i)), name) == 0) {
            return true;
        }
    }
    return false;
}

/* Weights first, as a manifest has them; of a folder everything else behind them. */
static quern_status list_files(qn_verified *v, builder *b, qn_json *files, uint64_t *bytes, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n = v->gguf != NULL ? qn_gguf_n_files(v->gguf) : qn_safetensors_n_files(v->safetensors), n_names = 0;
    const char **names = NULL;
    char *path = NULL;
    for (size_t i = 0; i < n; i++) {
        const char *weights = v->gguf != NULL ? qn_gguf_file_path(v->gguf, i) : qn_safetensors_file_path(v->safetensors, i);
        uint64_t size = v->gguf != NULL ? qn_gguf_file_bytes(v->gguf, i) : qn_safetensors_file_bytes(v->safetensors, i);
        *bytes += size;
        QN_TRY(file_entry(b, files, weights, size, err));
    }
    if (v->gguf == NULL) {
        QN_TRY(qn_folder_list_files(v->path, &v->findings.arena, &names, &n_names, err));
    }
    for (size_t i = 0; i < n_names; i++) {
        int fd = -1;
        uint64_t size;
        if (is_weight_file(v, names[i])) {
            continue;
        }
        qn_free(path);
        path = qn_path_join(v->path, names[i]);
        if (path == NULL) {
            QN_FAIL_MEMORY(err, names[i], strlen(v->path));
        }
        QN_TRY(qn_file_open(&fd, &size, path, err));
        (void)close(fd);
        *bytes += size;
        QN_TRY(file_entry(b, files, path, size, err));
    }
done:
    qn_free(path);
    return status;
}

enum { TYPES_MAX = 64 };

static bool is_of_layers(const qn_recipe_tensor *what)
{
    return what->n_dims >= 2 && what->part != QN_PART_TOKEN_EMBD && what->part != QN_PART_OUTPUT && what->part != QN_PART_ROUTER;
}

/* The type of most bytes of the layers' matrices (of all tensors where there are none). The embedding does not count: in small models it is
 * most of the file, and the mixes of llama.cpp give it a type of its own. */
static void type_of_most(const qn_verified *v, bool layers, char *out, size_t cap)
{
    struct {
        char name[32];
        uint64_t bytes;
    } types[TYPES_MAX];
    size_t n = 0, most = 0;
    for (size_t i = 0; i < v->n_tensors; i++) {
        const qn_checked_tensor *t = &v->tensors[i];
        const qn_recipe_tensor *what = &v->rows[i].piece->what;
        char name[32];
        size_t k = 0;
        if (layers && !is_of_layers(what)) {
            continue;
        }
        type_of(t, name, sizeof name);
        while (k < n && strcmp(types[k].name, name) != 0) {
            k++;
        }
        if (k == n && n < TYPES_MAX) {
            types[n].bytes = 0;
            memcpy(types[n++].name, name, sizeof name);
        }
        if (k < n) {
            types[k].bytes += t->row_bytes[0] * t->n_rows * t->n_parts;
            most = types[k].bytes > types[most].bytes ? k : most;
        }
    }
    (void)snprintf(out, cap, "%s", n > 0 ? types[most].name : "unknown");
}

/* Whether a recipe would store the tensor as it is stored. */
static bool follows(const qn_checked_tensor *t, const qn_target *target, const qn_recipe_model *m, const qn_recipe_tensor *what)
{
    if (target->gguf != NULL) {
        return t->storage == QN_STORED_BLOCKS && t->dtype == qn_recipe_gguf(target->gguf, m, what);
    }
    qn_affine a = qn_recipe_mlx(target->mlx, target->group, m, what);
    bool mxfp4 = target->mlx->mode == QN_MLX_MXFP4;
    return a.bits == 0
               ? t->storage == QN_STORED_BLOCKS
               : t->storage == (mxfp4 ? QN_STORED_MXFP4 : QN_STORED_AFFINE) && t->affine.bits == a.bits && t->affine.group == a.group;
}

/* Whether nine tenths of the layers' matrices, by elements, have the types of the recipe of that name. */
static bool has_recipe(const qn_verified *v, const char *name)
{
    qn_recipe_model m = qn_recipe_model_of(&v->job->source.config);
    qn_target targets[QN_TARGETS_MAX];
    size_t n = 0;
    char format[64];
    uint64_t all = 0, alike = 0;
    (void)snprintf(format, sizeof format, "%s:%s", v->gguf != NULL ? "gguf" : "mlx", name);
    if (qn_targets_parse(format, targets, &n, NULL) != QUERN_OK || n != 1) {
        return false;
    }
    for (size_t i = 0; i < v->n_tensors; i++) {
        const qn_checked_tensor *t = &v->tensors[i];
        const qn_recipe_tensor *what = &v->rows[i].piece->what;
        uint64_t elements = t->n_parts * t->n_rows * t->n_cols;
        if (is_of_layers(what)) {
            all += elements;
            alike += follows(t, &targets[0], &m, what) ? elements : 0;
        }
    }
    return all > 0 && (double)alike >= 0.9 * (double)all;
}

/* "4.50bpw", "4.50bpw-g64": types mixed to that size at most. */
static bool has_size(const qn_verified *v, const char *name)
{
    size_t n_whole = strspn(name, "0123456789");
    double bits = 0;
    if (n_whole < 1 || n_whole > 2 || name[n_whole] != '.' || strspn(name + n_whole + 1, "0123456789") != 2) {
        return false;
    }
    for (size_t i = 0; i < n_whole + 3; i++) {
        bits = i == n_whole ? bits : 10 * bits + (name[i] - '0');
    }
    const char *end = name + n_whole + 3;
    bool mixed = strncmp(end, "bpw", 3) == 0 && (end[3] == '\0' || strncmp(end + 3, "-g", 2) == 0);
    return mixed && qn_verified_bits(v) <= bits / 100 + 0.005;
}

/* "Q4_K_M" where the file says so and its tensors are of that recipe, or most of its bytes of that type; else by most bytes, with a note. */
static quern_status output_type(qn_verified *v, char *out, size_t cap, quern_error *err)
{
    const char *said = v->said_type;
    type_of_most(v, true, out, cap);
    if (strcmp(out, "unknown") == 0) {
        type_of_most(v, false, out, cap);
    }
    if (said == NULL) {
        return QUERN_OK;
    }
    if (strncmp(said, out, strlen(out)) != 0 && !has_recipe(v, said) && !has_size(v, said)) {
        return qn_findings_note(&v->findings, err, "%s says %s, most bytes of the layers' matrices are %s", v->said_by, said, out);
    }
    (void)snprintf(out, cap, "%s", said);
    return QUERN_OK;
}

/* As a manifest has it, and how many tensors show it; null: none of them. */
static qn_json *calibration_entry(builder *b, const qn_verified_origin *origin)
{
    if (origin->n_tensors == 0) {
        return qn_json_new_null();
    }
    qn_json *v = qn_json_new_object();
    set_text(b, v, "from", origin->from);
    set_text(b, v, strcmp(origin->from, "imatrix") == 0 ? "imatrix_sha256" : "text_sha256", origin->sha256);
    set_count(b, v, "tensors", origin->n_tensors);
    return v;
}

quern_status qn_verified_to_json(qn_verified *v, quern_gate_policy policy, size_t sample_layers, qn_json *quality, qn_json **out,
                                 quern_error *err)
{
    quern_status status = QUERN_OK;
    builder b = {.ok = true};
    uint64_t bytes = 0;
    char type[64];
    qn_json *o = qn_json_new_object(), *files = qn_json_new_array(), *tensors = qn_json_new_array();
    qn_json *warnings = qn_json_new_array();
    *out = NULL;
    QN_TRY(output_type(v, type, sizeof type, err));
    set_text(&b, o, "format", v->gguf != NULL ? "gguf" : "mlx");
    set_text(&b, o, "type", type);
    set_text(&b, o, "path", v->path);
    QN_TRY(list_files(v, &b, files, &bytes, err));
    for (size_t i = 0; i < v->n_tensors; i++) {
        append(&b, tensors, tensor_entry(&b, &v->tensors[i], &v->figures[i], v->rows[i].piece));
    }
    if (v->gguf != NULL && qn_gguf_find_tensor(v->gguf, "rope_freqs.weight") != NULL && v->output->rope_divisors != NULL) {
        append(&b, tensors, divisors_entry(&b, v));
    }
    for (size_t i = 0; i < v->output->n_warnings; i++) { /* of the source in this format */
        append(&b, warnings, qn_json_new_string(v->output->warnings[i]));
    }
    set(&b, o, "files", files);
    files = NULL;
    set_count(&b, o, "bytes", bytes);
    set(&b, o, "bits_per_weight", qn_json_new_measured(8.0 * (double)v->tensor_bytes / (double)v->job->source.n_parameters));
    set(&b, o, "warnings", warnings);
    warnings = NULL;
    set(&b, o, "tensors", tensors);
    tensors = NULL;
    set_text(&b, o, "data_sha256", v->data_sha256);
    set(&b, o, "calibration", calibration_entry(&b, &v->origin));
    if (v->source_way != QN_DTYPE_F32) {
        set_text(&b, o, "source_rounded_to", qn_dtype_get(v->source_way)->name);
    }
    if (v->origin.note != NULL) {
        set_text(&b, o, "calibration_note", v->origin.note);
    }
    set(&b, o, "quality", quality);
    quality = NULL;
    set(&b, o, "gate", qn_gate_to_json(policy, sample_layers, &v->findings));
    if (!b.ok) {
        QN_FAIL_MEMORY(err, "the report", v->n_tensors * 200);
    }
    *out = o;
    o = NULL;
done:
    qn_json_free(o);
    qn_json_free(files);
    qn_json_free(tensors);
    qn_json_free(warnings);
    qn_json_free(quality);
    return status;
}
