/* slices.h - the smallest unit of work: some rows of a piece through all outputs.
 *
 * Where a piece is cut depends on the model only, so that every sum, and with it every figure of the manifest, is the same for any number of
 * threads, any memory bound and whatever other formats are asked for.
 */
#ifndef QN_QUANTIZE_SLICES_H
#define QN_QUANTIZE_SLICES_H

#include "quantize/job.h"

typedef struct qn_slicing {
    uint64_t rows_a_slice; /* the last slice of a part may have fewer */
    uint64_t slices_a_part;
    uint64_t n_slices;
} qn_slicing;

/* One slice: n_rows rows of part number `part` from first_row on. */
typedef struct qn_slice {
    size_t part;
    uint64_t first_row, n_rows;
    uint64_t output_row; /* first_row counted over all parts: the row in the output */
} qn_slice;

qn_slicing qn_slicing_of(const qn_job *job, size_t piece);
qn_slice qn_slice_at(const qn_piece *p, const qn_slicing *s, uint64_t index);

/* GGUF's order of rope for families that rotate neighbours: within each head of `dim` rows halves become neighbours, out 2i + j = in
 * j * dim/2 + i. The row of the input that row r of the output is. */
static inline uint64_t qn_interleaved_from(uint64_t r, uint64_t dim)
{
    uint64_t within = r % dim;
    return r - within + within % 2 * (dim / 2) + within / 2;
}

/* Whole heads in that order; out does not overlap x. */
void qn_interleave_rows(const float *x, size_t n_rows, size_t n_cols, size_t dim, float *out);

/* Elements of the largest slice; and bytes of buffers that a thread needs for any. */
size_t qn_slice_elements_max(const qn_job *job);
size_t qn_slice_buffer_bytes(const qn_job *job);

/* What one slice gave. */
typedef struct qn_slice_result {
    bool finite;
    uint64_t bad_row, bad_column; /* of the first value that is not finite, rows of the part */
    float greatest;               /* magnitude */
} qn_slice_result;

/* Decodes a slice and encodes it for every output. bytes[o][k] is where stream k of output o begins for this slice's first row; errors has
 * one entry an output. buffers: qn_slice_buffer_bytes, aligned to 64. */
void qn_slice_convert(const qn_job *job, size_t piece, qn_slice slice, float *buffers, size_t elements_max,
                      uint8_t *(*bytes)[QN_STREAMS_MAX], qn_tensor_error *errors, qn_slice_result *result);

#endif
