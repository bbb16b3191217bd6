/* pipeline.c - the one pass. See pipeline.h.
 *
 * A step is a run of slices of one piece whose encoded bytes fit a chunk. All threads claim slices of the step; thread 0 first writes the
 * chunk of the step before it, so that writing and converting overlap. Some threads first hash a bit of the source.
 * Invariant: results lie where the slice's number says, so that neither order nor number of threads shows.
 */
#include "quantize/pipeline.h"

#include <string.h>

#include "base/human_number.h"
#include "quantize/slices.h"
#include "quantize/source_finite.h"

/* Texts, tables, tokenizer: what is not counted piece by piece. */
static const uint64_t other_bytes = (uint64_t)96 << 20;
enum { STEPS_SLICES_PER_THREAD = 6, STREAM_ALIGNMENT = 64, HASHING_MAX = 128 };

/* Encoded bytes of `rows` rows of a piece over all outputs, each stream aligned. */
static uint64_t encoded_bytes(const qn_job *job, size_t piece, uint64_t rows)
{
    uint64_t bytes = 0;
    for (size_t o = 0; o < job->n_outputs; o++) {
        const qn_sink *sink = &job->outputs[o].sinks[piece];
        for (size_t k = 0; k < sink->n_streams; k++) {
            bytes += (uint64_t)sink->row_bytes[k] * rows + STREAM_ALIGNMENT;
        }
    }
    return bytes;
}

quern_status qn_memory_plan_make(const qn_job *job, qn_memory_plan *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t slice_bytes = 0;
    size_t most_slices = 1;
    for (size_t i = 0; i < job->source.n_pieces; i++) {
        qn_slicing s = qn_slicing_of(job, i);
        uint64_t bytes = encoded_bytes(job, i, s.rows_a_slice);
        slice_bytes = bytes > slice_bytes ? bytes : slice_bytes;
        most_slices = s.n_slices > most_slices ? (size_t)s.n_slices : most_slices;
    }
    size_t slice_elements = qn_slice_elements_max(job);
    size_t thread_bytes = qn_slice_buffer_bytes(job);
    uint64_t fixed_bytes = other_bytes + job->calibration.bytes;
    uint64_t least = fixed_bytes + thread_bytes + 2 * slice_bytes;
    if (least > job->memory_bytes) {
        qn_number needed, limit;
        QN_FAIL(err, QUERN_ERROR_LIMIT, "quantizing needs at least %s of memory, the limit is %s", qn_format_bytes(needed, least),
                qn_format_bytes(limit, job->memory_bytes));
    }
    size_t n_threads = job->n_threads < most_slices ? job->n_threads : most_slices;
    while (n_threads > 1 && fixed_bytes + n_threads * (thread_bytes + 2 * slice_bytes) > job->memory_bytes) {
        n_threads--;
    }
    uint64_t chunk = (job->memory_bytes - fixed_bytes - n_threads * thread_bytes) / 2;
    uint64_t wanted = slice_bytes * n_threads * STEPS_SLICES_PER_THREAD;
    chunk = chunk > wanted ? wanted : chunk;
    *out = (qn_memory_plan){.n_threads = n_threads,
                            .slice_elements = slice_elements,
                            .thread_bytes = thread_bytes,
                            .chunk_bytes = (size_t)chunk,
                            .least_bytes = least,
                            .peak_bytes = fixed_bytes + n_threads * thread_bytes + 2 * chunk};
done:
    return status;
}

/* A step: what is converted, and where its bytes are until they are written. */
typedef struct step {
    size_t piece;
    qn_slicing slicing;
    uint64_t first_slice, n_slices;
    uint64_t first_row, n_rows; /* in the output */
    uint8_t *chunk;
    size_t (*offset)[QN_STREAMS_MAX]; /* in the chunk, one an output and stream */
    qn_slice_result *results;         /* one a slice */
    qn_tensor_error *errors;          /* [slice][output] */
    size_t cap_slices;
} step;

typedef struct pass {
    qn_job *job;
    const qn_memory_plan *plan;
    qn_pool *pool;
    qn_hash_list *hashes;
    float **buffers; /* one a thread */
    step steps[2];
    step *now, *before; /* before: converted and not yet written, or NULL */
    atomic_uint_fast64_t next;
    qn_hashed_file *hashing[HASHING_MAX]; /* the step's share of hashing: files, and how much of each */
    size_t n_hashing;
    uint64_t hash_bytes;
    qn_report *report;
    uint64_t bytes_done;
    quern_status write_status;
    quern_error write_err;
} pass;

static quern_status write_step(const qn_job *job, const step *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t o = 0; o < job->n_outputs; o++) {
        const qn_output *output = &job->outputs[o];
        qn_sink *sink = &output->sinks[s->piece];
        const qn_output_file *file = &output->files[sink->file];
        for (size_t k = 0; k < sink->n_streams; k++) {
            const uint8_t *data = s->chunk + s->offset[o][k];
            uint64_t at = s->first_row * sink->row_bytes[k];
            size_t n = (size_t)s->n_rows * sink->row_bytes[k];
            if (file->gguf != NULL) {
                QN_TRY(qn_gguf_write_data(file->gguf, sink->stream_tensor[k], at, data, n, err));
            } else {
                QN_TRY(qn_safetensors_write_data(file->safetensors, sink->stream_tensor[k], at, data, n, err));
            }
            qn_checksum_update(&sink->written[k], data, n);
        }
    }
done:
    return status;
}

static void convert_slice(pass *p, uint64_t number, size_t thread)
{
    step *s = p->now;
    const qn_piece *piece = &p->job->source.pieces[s->piece];
    qn_slice slice = qn_slice_at(piece, &s->slicing, s->first_slice + number);
    uint8_t *bytes[QN_TARGETS_MAX][QN_STREAMS_MAX] = {{NULL}};
    for (size_t o = 0; o < p->job->n_outputs; o++) {
        const qn_sink *sink = &p->job->outputs[o].sinks[s->piece];
        for (size_t k = 0; k < sink->n_streams; k++) {
            bytes[o][k] = s->chunk + s->offset[o][k] + (size_t)(slice.output_row - s->first_row) * sink->row_bytes[k];
        }
    }
    qn_slice_convert(p->job, s->piece, slice, p->buffers[thread], p->plan->slice_elements, bytes, s->errors + number * p->job->n_outputs,
                     &s->results[number]);
}

static void work(void *arg, qn_member member)
{
    pass *p = arg;
    if (member.index == 0 && p->before != NULL) {
        p->write_status = write_step(p->job, p->before, &p->write_err);
    }
    uint64_t total = p->n_hashing + p->now->n_slices;
    for (uint64_t i = atomic_fetch_add(&p->next, 1); i < total; i = atomic_fetch_add(&p->next, 1)) {
        if (i < p->n_hashing) {
            qn_hashed_file_advance(p->hashing[i], p->hash_bytes);
        } else {
            convert_slice(p, i - p->n_hashing, member.index);
        }
    }
}

static uint64_t written_prefix(const qn_output_file *f)
{
    if (f->gguf != NULL) {
        return qn_gguf_writer_prefix(f->gguf);
    }
    return f->safetensors != NULL ? qn_safetensors_writer_prefix(f->safetensors) : f->bytes;
}

/* Up to a quarter of the threads hash a source each, together about as many bytes as the step reads; and of each output what has been
 * written since, once that is worth a task. */
static void share_hashing(pass *p, uint64_t step_bytes)
{
    const uint64_t worth_bytes = 1 << 20;
    size_t most = p->plan->n_threads / 4 > 0 ? p->plan->n_threads / 4 : 1;
    most = most < HASHING_MAX / 2 ? most : HASHING_MAX / 2;
    p->n_hashing = 0;
    for (size_t i = 0; i < p->hashes->n_sources && p->n_hashing < most; i++) {
        if (!qn_hashed_file_finished(&p->hashes->files[i])) {
            p->hashing[p->n_hashing++] = &p->hashes->files[i];
        }
    }
    p->hash_bytes = (step_bytes + step_bytes / 16) / (p->n_hashing > 0 ? p->n_hashing : 1) + 4096;
    size_t number = p->hashes->n_sources;
    for (size_t o = 0; o < p->job->n_outputs; o++) {
        for (size_t k = 0; k < p->job->outputs[o].n_files; k++, number++) {
            qn_hashed_file *f = &p->hashes->files[number];
            f->available = written_prefix(&p->job->outputs[o].files[k]);
            if (qn_hashed_file_pending(f) >= worth_bytes && p->n_hashing < HASHING_MAX) {
                p->hashing[p->n_hashing++] = f;
            }
        }
    }
}

static void place_streams(const qn_job *job, step *s)
{
    size_t at = 0;
    for (size_t o = 0; o < job->n_outputs; o++) {
        const qn_sink *sink = &job->outputs[o].sinks[s->piece];
        for (size_t k = 0; k < sink->n_streams; k++) {
            s->offset[o][k] = at;
            at += qn_align_up(sink->row_bytes[k] * (size_t)s->n_rows, STREAM_ALIGNMENT);
        }
    }
}

/* Adds up what the slices found, in their order. */
static quern_status gather(pass *p, quern_error *err)
{
    const step *s = p->now;
    const qn_piece *piece = &p->job->source.pieces[s->piece];
    for (uint64_t i = 0; i < s->n_slices; i++) {
        qn_slice slice = qn_slice_at(piece, &s->slicing, s->first_slice + i);
        const qn_slice_result *r = &s->results[i];
        if (!r->finite) {
            return qn_source_fail_not_finite(&p->job->source, piece, slice.part, r->bad_row, r->bad_column, err);
        }
        float *greatest = &p->job->greatest[s->piece];
        *greatest = r->greatest > *greatest ? r->greatest : *greatest;
        for (size_t o = 0; o < p->job->n_outputs; o++) {
            const qn_tensor_error *e = &s->errors[i * p->job->n_outputs + o];
            qn_tensor_error *sum = &p->job->outputs[o].sinks[s->piece].error;
            sum->squared_error += e->squared_error;
            sum->squared_source += e->squared_source;
            sum->max_abs_error = e->max_abs_error > sum->max_abs_error ? e->max_abs_error : sum->max_abs_error;
        }
    }
    return QUERN_OK;
}

static void release_sources(const pass *p, const step *s)
{
    const qn_piece *piece = &p->job->source.pieces[s->piece];
    size_t row = piece->row_bytes;
    for (uint64_t i = 0; i < s->n_slices; i++) {
        qn_slice slice = qn_slice_at(piece, &s->slicing, s->first_slice + i);
        qn_mapped_span_release(piece->parts[slice.part]->data + slice.first_row * row, (size_t)slice.n_rows * row);
    }
}

static quern_status convert_step(pass *p, size_t piece, const qn_slicing *slicing, uint64_t first, uint64_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_piece *source = &p->job->source.pieces[piece];
    step *s = p->before == &p->steps[0] ? &p->steps[1] : &p->steps[0];
    qn_slice begin = qn_slice_at(source, slicing, first);
    qn_slice last = qn_slice_at(source, slicing, first + n - 1);
    s->piece = piece;
    s->slicing = *slicing;
    s->first_slice = first;
    s->n_slices = n;
    s->first_row = begin.output_row;
    s->n_rows = last.output_row + last.n_rows - begin.output_row;
    place_streams(p->job, s);
    uint64_t source_bytes = s->n_rows * source->row_bytes;
    share_hashing(p, source_bytes);
    p->now = s;
    p->write_status = QUERN_OK;
    atomic_store(&p->next, 0);
    qn_pool_run(p->pool, work, p);
    if (p->write_status != QUERN_OK) {
        QN_FAIL(err, p->write_status, "%s", p->write_err.message);
    }
    p->before = s;
    QN_TRY(gather(p, err));
    release_sources(p, s);
    p->bytes_done += source_bytes;
done:
    return status;
}

/* How many slices from `first` on fit a chunk. */
static uint64_t slices_that_fit(const pass *p, size_t piece, const qn_slicing *slicing, uint64_t first)
{
    uint64_t a_slice = encoded_bytes(p->job, piece, slicing->rows_a_slice);
    uint64_t n = p->plan->chunk_bytes / a_slice;
    uint64_t left = slicing->n_slices - first;
    n = n < left ? n : left;
    return n < p->steps[0].cap_slices ? n : p->steps[0].cap_slices;
}

/* Formats whose scales are float16 cannot hold magnitudes beyond it. */
static quern_status warn_of_range(pass *p, size_t piece, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t o = 0; o < p->job->n_outputs && p->job->greatest[piece] > 65504.0f; o++) {
        qn_output *output = &p->job->outputs[o];
        const qn_sink *sink = &output->sinks[piece];
        if (sink->coding == QN_CODING_BLOCKS && sink->dtype != QN_DTYPE_F32 && sink->dtype != QN_DTYPE_BF16 &&
            sink->dtype != QN_DTYPE_MXFP4) {
            QN_TRY(qn_job_warn(p->job, output, err, "tensor %s holds magnitudes up to %g; %s is limited by float16 (65504)", sink->name,
                               (double)p->job->greatest[piece], qn_dtype_get(sink->dtype)->name));
        }
    }
done:
    return status;
}

static quern_status report(const pass *p, size_t piece, bool finished, quern_error *err)
{
    quern_quantize_progress progress = {
        .stage = QUERN_QUANTIZE_CONVERT,
        .tensor = p->job->outputs[0].sinks[piece].name,
        .tensors_done = piece + (finished ? 1 : 0),
        .tensors_total = p->job->source.n_pieces,
        .bytes_done = p->bytes_done,
        .bytes_total = p->job->source.weight_bytes,
    };
    return qn_report_progress(p->report, &progress, finished, err);
}

static quern_status allocate(pass *p, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n_outputs = p->job->n_outputs;
    size_t cap_slices = p->plan->n_threads * STEPS_SLICES_PER_THREAD * 4; /* small slices: more than a chunk of large ones */
    p->buffers = qn_calloc(p->plan->n_threads, sizeof *p->buffers);
    if (p->buffers == NULL) {
        QN_FAIL_MEMORY(err, "buffers", p->plan->n_threads * sizeof *p->buffers);
    }
    for (size_t i = 0; i < p->plan->n_threads; i++) {
        p->buffers[i] = qn_malloc_aligned(p->plan->thread_bytes);
        if (p->buffers[i] == NULL) {
            QN_FAIL_MEMORY(err, "buffers of a thread", p->plan->thread_bytes);
        }
    }
    for (size_t i = 0; i < 2; i++) {
        step *s = &p->steps[i];
        s->cap_slices = cap_slices;
        s->chunk = qn_malloc_aligned(p->plan->chunk_bytes);
        s->offset = qn_calloc(n_outputs, sizeof *s->offset);
        s->results = qn_calloc(cap_slices, sizeof *s->results);
        s->errors = qn_malloc_array(cap_slices * n_outputs, sizeof *s->errors);
        if (s->chunk == NULL || s->offset == NULL || s->results == NULL || s->errors == NULL) {
            QN_FAIL_MEMORY(err, "encoded rows", p->plan->chunk_bytes);
        }
    }
done:
    return status;
}

static void release(pass *p)
{
    for (size_t i = 0; p->buffers != NULL && i < p->plan->n_threads; i++) {
        qn_free_aligned(p->buffers[i]);
    }
    qn_free(p->buffers);
    for (size_t i = 0; i < 2; i++) {
        qn_free_aligned(p->steps[i].chunk);
        qn_free(p->steps[i].offset);
        qn_free(p->steps[i].results);
        qn_free(p->steps[i].errors);
    }
}

quern_status qn_pipeline_run(qn_job *job, const qn_memory_plan *plan, qn_pool *pool, qn_hash_list *hashes, qn_journal *journal,
                             qn_report *r, quern_error *err)
{
    quern_status status = QUERN_OK;
    pass p = {.job = job, .plan = plan, .pool = pool, .hashes = hashes, .report = r};
    QN_TRY(allocate(&p, err));
    for (size_t i = 0; i < job->n_continued; i++) {
        p.bytes_done += qn_piece_bytes(&job->source.pieces[i]);
        QN_TRY(warn_of_range(&p, i, err));
    }
    for (size_t i = job->n_continued; i < job->source.n_pieces; i++) {
        qn_slicing slicing = qn_slicing_of(job, i);
        job->greatest[i] = 0;
        for (uint64_t first = 0; first < slicing.n_slices;) {
            uint64_t n = slices_that_fit(&p, i, &slicing, first);
            QN_TRY(convert_step(&p, i, &slicing, first, n, err));
            QN_TRY(qn_journal_note_if_due(journal, p.before->piece, err)); /* the step at hand waits in memory, all before it are written */
            first += n;
            QN_TRY(report(&p, i, first == slicing.n_slices, err));
        }
        QN_TRY(warn_of_range(&p, i, err));
    }
    if (p.before != NULL) {
        QN_TRY(write_step(job, p.before, err));
        p.before = NULL;
    }
done:
    if (status == QUERN_ERROR_CANCELLED || status == QUERN_ERROR_IO) { /* the note may fail, too: then an earlier one counts */
        (void)qn_journal_note(journal, p.before != NULL ? p.before->piece : job->n_continued, NULL);
    }
    qn_journal_wait(journal);
    release(&p);
    return status;
}
