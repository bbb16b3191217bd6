/* manifest.c - the JSON of a run. See manifest.h. */
#include "quantize/manifest.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "quern/quern.h"

/* Building is checked once at the end: a set or append that failed leaves `ok` false. */
typedef struct builder {
    bool ok;
} builder;

static void set(builder *b, qn_json *object, const char *key, qn_json *value) { b->ok = qn_json_set(object, key, value) && b->ok; }
static void append(builder *b, qn_json *array, qn_json *value) { b->ok = qn_json_append(array, value) && b->ok; }
static void set_text(builder *b, qn_json *object, const char *key, const char *text) { set(b, object, key, qn_json_new_string(text)); }
static void set_count(builder *b, qn_json *object, const char *key, uint64_t n) { set(b, object, key, qn_json_new_int((int64_t)n)); }

double qn_output_bits_per_weight(const qn_job *job, const qn_output *o)
{
    return 8.0 * (double)o->tensor_bytes / (double)job->source.n_parameters;
}

static qn_json *file_entry(builder *b, const char *path, uint64_t bytes, const char *sha256)
{
    qn_json *v = qn_json_new_object();
    set_text(b, v, "path", path);
    set_count(b, v, "bytes", bytes);
    set_text(b, v, "sha256", sha256);
    return v;
}

static qn_json *source_entry(builder *b, const qn_job *job, const qn_hash_list *hashes)
{
    qn_json *v = qn_json_new_object();
    qn_json *files = qn_json_new_array();
    set_text(b, v, "name", job->source.name);
    set_text(b, v, "format", qn_source_format(&job->source));
    set_text(b, v, "architecture", job->source.config.architecture);
    set_count(b, v, "parameters", job->source.n_parameters);
    for (size_t i = 0; i < hashes->n_sources; i++) {
        const qn_hashed_file *f = &hashes->files[i];
        append(b, files, file_entry(b, f->relative, f->bytes, f->hex));
    }
    set(b, v, "files", files);
    return v;
}

static void sink_type(const qn_sink *sink, char *out, size_t cap)
{
    if (sink->coding == QN_CODING_AFFINE) {
        (void)snprintf(out, cap, "%ubit-g%u", (unsigned)sink->affine.bits, (unsigned)sink->affine.group);
    } else {
        (void)snprintf(out, cap, "%s", sink->coding == QN_CODING_MXFP4 ? "mxfp4-g32" : qn_dtype_get(sink->dtype)->name);
    }
}

static qn_json *shape_entry(builder *b, const qn_piece *p)
{
    uint64_t shape[3] = {p->n_parts, p->n_rows, p->n_cols};
    qn_json *v = qn_json_new_array();
    for (uint32_t i = 3 - p->what.n_dims; i < 3; i++) {
        append(b, v, qn_json_new_int((int64_t)shape[i]));
    }
    return v;
}

/* A tensor of zeros that came back as zeros has error 0; one that did not has no relative error. */
static double relative_rms(const qn_tensor_error *e)
{
    if (e->squared_error == 0) {
        return 0;
    }
    return e->squared_source > 0 ? sqrt(e->squared_error / e->squared_source) : NAN;
}

static qn_json *tensor_entries(builder *b, const qn_job *job, const qn_output *o)
{
    qn_json *list = qn_json_new_array();
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        const qn_sink *sink = &o->sinks[i];
        char type[32];
        qn_json *v = qn_json_new_object();
        sink_type(sink, type, sizeof type);
        set_text(b, v, "name", sink->name);
        set_text(b, v, "type", type);
        set(b, v, "shape", shape_entry(b, &job->source.pieces[i]));
        set(b, v, "rel_rmse", qn_json_new_real(relative_rms(&sink->error)));
        set(b, v, "max_abs_error", qn_json_new_real(sink->error.max_abs_error));
        append(b, list, v);
    }
    if (o->rope_divisors != NULL) {
        qn_json *v = qn_json_new_object();
        qn_json *shape = qn_json_new_array();
        append(b, shape, qn_json_new_int(job->source.config.rope.n_rot / 2));
        set_text(b, v, "name", "rope_freqs.weight");
        set_text(b, v, "type", "F32");
        set(b, v, "shape", shape);
        set(b, v, "rel_rmse", qn_json_new_real(0));
        set(b, v, "max_abs_error", qn_json_new_real(0));
        append(b, list, v);
    }
    return list;
}

static qn_json *gate_entry(builder *b, const qn_output *o)
{
    if (o->gate != NULL) {
        return qn_json_clone(o->gate);
    }
    qn_json *v = qn_json_new_object();
    set_text(b, v, "policy", "off");
    set_text(b, v, "verdict", "skipped");
    set(b, v, "reasons", qn_json_new_array());
    set(b, v, "suspect_tensors", qn_json_new_array());
    return v;
}

static uint64_t output_bytes(const qn_output *o)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < o->n_files; i++) {
        bytes += o->files[i].bytes;
    }
    return bytes;
}

static qn_json *output_entry(builder *b, const qn_job *job, const qn_output *o)
{
    qn_json *v = qn_json_new_object();
    qn_json *files = qn_json_new_array();
    qn_json *warnings = qn_json_new_array();
    set_text(b, v, "format", o->target.gguf != NULL ? "gguf" : "mlx");
    set_text(b, v, "type", o->type);
    set_text(b, v, "path", o->relative);
    for (size_t i = 0; i < o->n_files; i++) {
        append(b, files, file_entry(b, o->files[i].relative, o->files[i].bytes, o->files[i].sha256));
    }
    set(b, v, "files", files);
    set_count(b, v, "bytes", output_bytes(o));
    set(b, v, "bits_per_weight", qn_json_new_measured(qn_output_bits_per_weight(job, o)));
    for (size_t i = 0; i < o->n_warnings; i++) {
        append(b, warnings, qn_json_new_string(o->warnings[i]));
    }
    set(b, v, "warnings", warnings);
    set(b, v, "tensors", tensor_entries(b, job, o));
    set(b, v, "quality", o->quality != NULL ? qn_json_clone(o->quality) : qn_json_new_null());
    set(b, v, "gate", gate_entry(b, o));
    return v;
}

static qn_json *names_entry(builder *b, const qn_name_list *names)
{
    qn_json *list = qn_json_new_array();
    for (size_t i = 0; i < names->n; i++) {
        append(b, list, qn_json_new_string(names->names[i]));
    }
    return list;
}

static qn_json *calibration_entry(builder *b, const qn_calibration *c)
{
    if (c->pieces == NULL) {
        return qn_json_new_null();
    }
    qn_json *v = qn_json_new_object();
    set_text(b, v, "from", c->origin);
    set_text(b, v, strcmp(c->origin, "imatrix") == 0 ? "imatrix_sha256" : "text_sha256", c->text_sha256);
    set_count(b, v, "tokens", c->tokens);
    set(b, v, "error_feedback", qn_json_new_bool(c->feeds_back));
    set(b, v, "experts_without_data", names_entry(b, &c->experts_without_data));
    set(b, v, "matrices_without_data", names_entry(b, &c->matrices_without_data));
    return v;
}

quern_status qn_manifest_write(const qn_job *job, const qn_hash_list *hashes, const qn_earlier_outputs *earlier, qn_buf *out,
                               quern_error *err)
{
    quern_status status = QUERN_OK;
    builder b = {.ok = true};
    char created[21];
    qn_json *root = qn_json_new_object();
    qn_json *outputs = qn_json_new_array();
    qn_clock_rfc3339(created);
    set_text(&b, root, "schema", "quern.manifest/1");
    set_text(&b, root, "created", created);
    set_text(&b, root, "quern_version", quern_version());
    set(&b, root, "source", source_entry(&b, job, hashes));
    set(&b, root, "calibration", calibration_entry(&b, &job->calibration));
    if (job->calibration.note[0] != '\0') {
        set_text(&b, root, "calibration_note", job->calibration.note);
    }
    for (size_t i = 0; i < job->n_outputs; i++) {
        append(&b, outputs, output_entry(&b, job, &job->outputs[i]));
    }
    for (size_t i = 0; i < qn_json_length(earlier->kept); i++) {
        append(&b, outputs, qn_json_clone(qn_json_at(earlier->kept, i)));
    }
    set(&b, root, "outputs", outputs);
    set(&b, root, "warnings", qn_json_clone(earlier->warnings));
    if (!b.ok || !qn_json_write(root, 2, out) || !qn_buf_append_char(out, '\n')) {
        QN_FAIL_MEMORY(err, "manifest.json", out->len);
    }
done:
    qn_json_free(root);
    return status;
}

quern_status qn_plan_write(const qn_job *job, const qn_memory_plan *memory, uint64_t needed_bytes, uint64_t disk_free_bytes, qn_buf *out,
                           quern_error *err)
{
    quern_status status = QUERN_OK;
    builder b = {.ok = true};
    qn_json *root = qn_json_new_object();
    qn_json *outputs = qn_json_new_array();
    uint64_t total = 0;
    for (size_t i = 0; i < job->n_outputs; i++) {
        const qn_output *o = &job->outputs[i];
        qn_json *v = qn_json_new_object();
        qn_json *warnings = qn_json_new_array();
        set_text(&b, v, "format", o->target.gguf != NULL ? "gguf" : "mlx");
        set_text(&b, v, "type", o->type);
        set_text(&b, v, "path", o->relative);
        set_count(&b, v, "bytes", output_bytes(o));
        set(&b, v, "bits_per_weight", qn_json_new_measured(qn_output_bits_per_weight(job, o)));
        for (size_t k = 0; k < o->n_warnings; k++) {
            append(&b, warnings, qn_json_new_string(o->warnings[k]));
        }
        set(&b, v, "warnings", warnings);
        append(&b, outputs, v);
        total += output_bytes(o);
    }
    set_text(&b, root, "schema", "quern.quantize_plan/1");
    set_text(&b, root, "source", job->source.name);
    set_text(&b, root, "architecture", job->source.config.architecture);
    set_count(&b, root, "parameters", job->source.n_parameters);
    set(&b, root, "outputs", outputs);
    set_count(&b, root, "total_bytes", total);
    set_count(&b, root, "disk_free_bytes", disk_free_bytes);
    set(&b, root, "fits", qn_json_new_bool(needed_bytes <= disk_free_bytes));
    set_count(&b, root, "peak_memory_bytes", memory->peak_bytes);
    set_count(&b, root, "threads", memory->n_threads);
    if (!b.ok || !qn_json_write(root, 2, out) || !qn_buf_append_char(out, '\n')) {
        QN_FAIL_MEMORY(err, "the plan", out->len);
    }
done:
    qn_json_free(root);
    return status;
}
