/* calibration.h - what a run knows of the inputs of its matrices: from a text that the source read, or from an imatrix file.
 *
 * Owns the statistics; encoders get borrowed pointers. Without calibration every pointer is NULL.
 */
#ifndef QN_QUANTIZE_CALIBRATION_H
#define QN_QUANTIZE_CALIBRATION_H

#include "base/alloc.h"
#include "calibrate/statistics.h"
#include "quantize/source.h"
#include "quern/quantize.h"

/* What the encoders of one piece are given. */
typedef struct qn_piece_calibration {
    const float *importance; /* (n_parts, n_cols): mean of x^2 of what meets each column; NULL = none */
    const float *factor;     /* (n_cols, n_cols): qn_feedback_factor's, of matrices alone; NULL = none */
} qn_piece_calibration;

typedef struct qn_name_list {
    const char **names; /* in the calibration's arena */
    size_t n, cap;
} qn_name_list;

typedef struct qn_calibration {
    qn_arena arena;
    qn_piece_calibration *pieces; /* (n_pieces); NULL: the run is not calibrated */
    qn_statistics statistics;     /* its moments are the factors */
    bool has_statistics;
    bool feeds_back;      /* some matrix that an output stores in affine groups has a factor */
    const char *origin;   /* "builtin", "text" or "imatrix" */
    char text_sha256[65]; /* of the text, or of the imatrix file */
    uint64_t tokens;
    uint64_t bytes;                     /* of memory that stays in use */
    qn_name_list experts_without_data;  /* tensors of the source whose expert no token was sent to */
    qn_name_list matrices_without_data; /* of which an importance matrix has nothing but zeros: encoded as without one */
    char note[1280];                    /* why there is no calibration, or only a part of it; "" = nothing to say */
} qn_calibration;

void qn_calibration_deinit(qn_calibration *c);

/* The numbers of one piece, (n_parts, n_cols), from sums and counts; parts without data get the mean of those with data (ones if there are
 * none) and are listed. QUERN_ERROR_INVALID if a mean is beyond float32. */
quern_status qn_calibration_add(qn_calibration *c, size_t piece, const qn_piece *p, const double *sums, const double *counts,
                                quern_error *err);

#endif
