/* verify_calibrated.h - what quantize makes of a tensor with a calibration, done again to compare a file with.
 *
 * Owns a second opening of the source with its calibration: the one that the user names, or the built-in text when the first file looks as if it
 * had been made with it. Invariant: without being asked, a source for which that costs more than a measurement of quality, or which cannot be
 * run, is not calibrated on; files are then judged without.
 */
#ifndef QN_QUANTIZE_VERIFY_CALIBRATED_H
#define QN_QUANTIZE_VERIFY_CALIBRATED_H

#include "gate/tensor_check.h"
#include "quantize/job.h"
#include "quern/verify.h"

typedef struct qn_calibrated {
    const char *source, *architecture;
    quern_calibrate how; /* NONE is not opened */
    const char *text;    /* TEXT */
    size_t text_len;
    const char *text_name;    /* for messages; NULL = none */
    const char *imatrix_path; /* IMATRIX */
    uint64_t memory_bytes;    /* as quern_quantize_options has it */
    size_t n_threads;
    quern_verify_callback on_progress; /* may be NULL */
    void *user;
    bool tried, usable;
    qn_job job;
} qn_calibrated;

/* Whether the user named the calibration: then it is made before any file is looked at, and every tensor is compared with it. */
bool qn_calibrated_is_given(const qn_calibrated *c);
/* *usable: qn_recoding_set may be called. gguf: the family of the file that asks. Errors of AUTO are memory, input/output and interruption, of the
 * others all that qn_calibrate_source has. Calls after the first give the same answer. */
quern_status qn_calibrated_open(qn_calibrated *c, bool gguf, bool *usable, quern_error *err);
void qn_calibrated_close(qn_calibrated *c);

/* One tensor at a time. */
typedef struct qn_recoding {
    qn_job view; /* one output, of which only the sink of the piece counts */
    qn_output output;
    qn_sink *sinks;
    qn_piece_calibration *pieces; /* its own, so that one can go without its factor */
    const qn_piece_calibration *all;
    size_t piece;
} qn_recoding;

quern_status qn_recoding_init(qn_recoding *r, const qn_calibrated *c, quern_error *err);
void qn_recoding_deinit(qn_recoding *r);
/* Lets the check of t compare with what quantize makes of piece number `piece`, stored as t is; fed_back: errors too, where there are second
 * moments for that. r stays in use until t->recode is NULL again. */
void qn_recoding_set(qn_recoding *r, qn_checked_tensor *t, size_t piece, uint32_t permute_dim, bool fed_back);

#endif
