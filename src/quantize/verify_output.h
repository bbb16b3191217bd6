/* verify_output.h - one output, ours or another's, opened and compared with the source tensor by tensor.
 *
 * Owns the list of its tensors (which of them belongs to which place of the source) and what was found. The tests themselves are in src/gate.
 */
#ifndef QN_QUANTIZE_VERIFY_OUTPUT_H
#define QN_QUANTIZE_VERIFY_OUTPUT_H

#include "base/thread_pool.h"
#include "gate/findings.h"
#include "gate/quality.h"
#include "gate/tensor_check.h"
#include "quantize/job.h"
#include "quantize/verify_calibrated.h"
#include "quern/verify.h"

/* Layers of a model that does not fit, if nobody says how many. */
enum { QN_SAMPLE_LAYERS = 8 };

/* Where the rows of a tensor come from. */
typedef struct qn_piece_rows {
    const qn_piece *piece;
    uint32_t permute_dim;
} qn_piece_rows;

/* How it was calibrated. */
typedef struct qn_verified_origin {
    size_t n_tensors; /* that are what Quern makes with the calibration that was tried */
    const char *from; /* what that was: "builtin", "text" or "imatrix"; with n_tensors > 0 only */
    char sha256[65];  /* of it */
    const char *note; /* NULL, or which calibration to name instead */
} qn_verified_origin;

typedef struct qn_verified {
    const qn_job *job;
    const qn_output *output; /* planned from the source for the same family: gives the names and the order of rows */
    qn_gguf *gguf;           /* one of the two, opened */
    qn_safetensors *safetensors;
    const char *path; /* for messages */
    qn_findings findings;
    qn_checked_tensor *tensors;
    qn_tensor_figures *figures;
    qn_piece_rows *rows;
    size_t n_tensors, cap_tensors;
    uint64_t tensor_bytes;
    char data_sha256[65]; /* over all tensors' bytes in the order of the headers */
    qn_verified_origin origin;
    qn_dtype source_way;   /* F16 or BF16 if the weights went through that before they were quantized, else F32 */
    const char *said_type; /* what the file says that it is, or NULL; by whom: */
    const char *said_by;   /* "quern.type", "general.file_type" or "config.json" */
} qn_verified;

typedef struct qn_verify_run {
    qn_pool *pool;
    bool try_encoders;
    bool importance;           /* the file says that it was made with an importance matrix */
    bool other_version;        /* its certificate names another version of Quern */
    qn_calibrated *calibrated; /* NULL: tensors are not compared with what a calibrated encoder makes */
    quern_verify_callback on_progress;
    void *user;
} qn_verify_run;

/* gguf or safetensors, and path are set by the caller, who keeps owning them; init zeroes the rest. */
void qn_verified_init(qn_verified *v, const qn_job *job, const qn_output *output, const char *path);
void qn_verified_deinit(qn_verified *v);
/* Bits a weight, all tensors together; once bound. */
double qn_verified_bits(const qn_verified *v);
/* Finds every tensor; what is missing, shaped otherwise or superfluous is a reason to fail. config: of an MLX folder, else NULL. */
quern_status qn_verified_bind(qn_verified *v, const qn_model_config *config, quern_error *err);
/* Checks all tensors that were found, and hashes the data. (verify_check.c) */
quern_status qn_verified_check(qn_verified *v, const qn_verify_run *run, quern_error *err);
/* Fills data_sha256. */
quern_status qn_verified_hash(qn_verified *v, quern_error *err);
/* For a lossy output: names the tensors that its loss comes from. */
quern_status qn_verified_find_suspects(qn_verified *v, qn_quality_base *base, const quern_model *own, quern_error *err);
/* Instead of running the whole: some layers by themselves (sample.h); reasons and the list go to the findings. */
quern_status qn_verified_sample(qn_verified *v, qn_quality_base *base, const quern_model *own, size_t n, quern_gate_policy policy,
                                quern_error *err);
/* Compares what the file claims of itself (quern.quality.data_sha256) with what was hashed. claim may be NULL. */
quern_status qn_verified_check_claim(qn_verified *v, const char *claim, size_t len, quern_error *err);

#endif
