/* sensitivity.h - how far the source's predictions move when one of its matrices (or a group of like ones) is stored coarsely.
 *
 * Runs the source beside itself: one engine as it is, one in which the matrices at hand are replaced by their quantized form.
 */
#ifndef QN_QUANTIZE_SENSITIVITY_H
#define QN_QUANTIZE_SENSITIVITY_H

#include "quantize/job.h"
#include "quantize/report.h"

/* A form in which a matrix can be stored. */
typedef struct qn_stored_form {
    qn_dtype dtype;   /* of GGUF; QN_DTYPE_MLX_AFFINE for MLX */
    qn_affine affine; /* MLX */
    qn_dtype plain;   /* MLX: type of scales and biases */
} qn_stored_form;

/* Bytes of a row of n_cols, a whole number of blocks or groups. */
size_t qn_stored_row_bytes(const qn_stored_form *f, size_t n_cols);

/* Sum of squared errors, over a sample of the piece's rows, of each of n forms; the sample depends on the shape only. */
quern_status qn_stored_errors(const qn_piece *p, const qn_stored_form *forms, size_t n, double *squared_error, quern_error *err);

/* divergence[g]: mean KLD in nats on the built-in calibration text when all pieces i with group[i] == g are stored as probe[i] and everything
 * else as in the source; float32 activations and KV cache. group (n_pieces): QN_NO_GROUP for pieces that stay.
 * The number of tokens falls with the size of the model. QUERN_ERROR_LIMIT if the quantized pieces of a group exceed job->memory_bytes. */
#define QN_NO_GROUP SIZE_MAX
quern_status qn_sensitivity_measure(const qn_job *job, const size_t *group, size_t n_groups, const qn_stored_form *probe,
                                    double *divergence, qn_report *report, quern_error *err);

#endif
