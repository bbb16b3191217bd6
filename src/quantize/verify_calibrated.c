/* verify_calibrated.c - see verify_calibrated.h. */
#include "quantize/verify_calibrated.h"

#include <string.h>

#include "quantize/calibrate_source.h"
#include "quantize/slices.h"

/* Without being asked. Of the built-in calibration text, 32,768 tokens: as many operations as the gate spends on a measurement. */
static const uint64_t parameters_max = 300000000;

static bool on_calibration(void *user, const quern_quantize_progress *p)
{
    const qn_calibrated *c = user;
    return c->on_progress == NULL || c->on_progress(c->user, "calibration", p->tokens_done, p->tokens_total);
}

static quern_status calibrate(qn_calibrated *c, bool gguf, quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_quantize_options opt = {.source = c->source,
                                        .architecture = c->architecture,
                                        .output_dir = ".",
                                        .formats = gguf ? "gguf:Q4_0" : "mlx:4bit",
                                        .calibrate = c->how == QUERN_CALIBRATE_AUTO ? QUERN_CALIBRATE_BUILTIN : c->how,
                                        .calibration_text = c->text,
                                        .calibration_len = c->text_len,
                                        .calibration_name = c->text_name,
                                        .imatrix_path = c->imatrix_path,
                                        .memory_bytes = c->memory_bytes,
                                        .n_threads = c->n_threads,
                                        .on_progress = on_calibration,
                                        .user = c};
    qn_report report = {.opt = &opt};
    QN_TRY(qn_job_open(&c->job, &opt, UINT64_MAX, err));
    if (c->how != QUERN_CALIBRATE_AUTO || c->job.source.n_parameters <= parameters_max) {
        QN_TRY(qn_calibrate_source(&c->job, &opt, &report, err));
        c->usable = c->job.calibration.pieces != NULL;
    }
done:
    return status;
}

bool qn_calibrated_is_given(const qn_calibrated *c) { return c->how != QUERN_CALIBRATE_NONE && c->how != QUERN_CALIBRATE_AUTO; }

quern_status qn_calibrated_open(qn_calibrated *c, bool gguf, bool *usable, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    if (!c->tried) {
        c->tried = true;
        status = calibrate(c, gguf, &why);
        if (status != QUERN_OK &&
            (qn_calibrated_is_given(c) || status == QUERN_ERROR_MEMORY || status == QUERN_ERROR_IO || status == QUERN_ERROR_CANCELLED)) {
            return qn_error_set(err, status, "%s", why.message);
        }
    }
    *usable = c->usable;
    return QUERN_OK;
}

void qn_calibrated_close(qn_calibrated *c)
{
    if (c->tried) {
        qn_job_close(&c->job);
    }
    c->tried = c->usable = false;
}

/* ---- one tensor ---- */

quern_status qn_recoding_init(qn_recoding *r, const qn_calibrated *c, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n = c->job.source.n_pieces;
    *r = (qn_recoding){.view = c->job,
                       .sinks = qn_calloc(n, sizeof *r->sinks),
                       .pieces = qn_calloc(n, sizeof *r->pieces),
                       .all = c->job.calibration.pieces};
    if (r->sinks == NULL || r->pieces == NULL) {
        QN_FAIL_MEMORY(err, "a tensor's encoding", n * (sizeof *r->sinks + sizeof *r->pieces));
    }
    memcpy(r->pieces, r->all, n * sizeof *r->pieces);
    r->view.calibration.pieces = r->pieces;
    r->output.sinks = r->sinks;
    r->view.outputs = &r->output;
    r->view.n_outputs = 1;
done:
    return status;
}

void qn_recoding_deinit(qn_recoding *r)
{
    qn_free(r->sinks);
    qn_free(r->pieces);
    *r = (qn_recoding){0};
}

/* Rows of the output as the encoder makes them, decoded again. */
static bool recode(const void *user, size_t part, uint64_t first, uint64_t n, float *z)
{
    const qn_recoding *r = user;
    const qn_piece *p = &r->view.source.pieces[r->piece];
    const qn_sink *sink = &r->sinks[r->piece];
    const qn_slice slice = {.part = part, .first_row = first, .n_rows = n, .output_row = part * p->n_rows + first};
    size_t elements = qn_slice_elements_max(&r->view), buffer_bytes = qn_align_up(qn_slice_buffer_bytes(&r->view), 64), at = buffer_bytes;
    size_t begin[QN_STREAMS_MAX];
    for (size_t k = 0; k < sink->n_streams; k++) {
        begin[k] = at;
        at += qn_align_up(sink->row_bytes[k] * (size_t)n, 64);
    }
    uint8_t *memory = qn_malloc_aligned(at + 64);
    if (memory == NULL) {
        return false;
    }
    uint8_t *bytes[1][QN_STREAMS_MAX] = {0};
    qn_tensor_error error;
    qn_slice_result result;
    for (size_t k = 0; k < sink->n_streams; k++) {
        bytes[0][k] = memory + begin[k];
    }
    float *buffers = (float *)(void *)memory;
    qn_slice_convert(&r->view, r->piece, slice, buffers, elements, bytes, &error, &result);
    if (result.finite) {
        memcpy(z, buffers + 2 * elements, (size_t)(n * p->n_cols) * sizeof *z); /* where slices leave what they decoded */
    } else {
        memset(z, 0, (size_t)(n * p->n_cols) * sizeof *z);
    }
    qn_free_aligned(memory);
    return true;
}

void qn_recoding_set(qn_recoding *r, qn_checked_tensor *t, size_t piece, uint32_t permute_dim, bool fed_back)
{
    static const qn_coding codings[] = {
        [QN_STORED_BLOCKS] = QN_CODING_BLOCKS, [QN_STORED_AFFINE] = QN_CODING_AFFINE, [QN_STORED_MXFP4] = QN_CODING_MXFP4};
    static const size_t n_streams[] = {[QN_STORED_BLOCKS] = 1, [QN_STORED_AFFINE] = 3, [QN_STORED_MXFP4] = 2};
    if (piece >= r->view.source.n_pieces) {
        return;
    }
    const qn_piece *p = &r->view.source.pieces[piece];
    qn_sink *sink = &r->sinks[piece];
    r->piece = piece;
    r->pieces[piece].factor = fed_back ? r->all[piece].factor : NULL;
    if (p->n_parts != t->n_parts || p->n_rows != t->n_rows || p->n_cols != t->n_cols) { /* the source was replaced meanwhile */
        return;
    }
    *sink = (qn_sink){.name = t->name,
                      .coding = codings[t->storage],
                      .dtype = t->dtype,
                      .affine = t->affine,
                      .permute_dim = permute_dim,
                      .n_streams = n_streams[t->storage]};
    memcpy(sink->row_bytes, t->row_bytes, sizeof sink->row_bytes);
    t->recode = recode;
    t->recode_user = r;
}
