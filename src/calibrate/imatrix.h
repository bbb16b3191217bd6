/* imatrix.h - files of importance, in both forms of llama.cpp: what `llama-imatrix` writes can be read, and what is written here it can read.
 *
 * GGUF form: general.type "imatrix", imatrix.datasets (strings), imatrix.chunk_count and imatrix.chunk_size (u32), and for each matrix NAME
 * the F32 tensors NAME.in_sum2 (n_matrices, n_cols), sums of x^2, and NAME.counts (n_matrices, 1), rows that were added up.
 *
 * Older form, little-endian:
 *   int32 n_entries, then each:  int32 length, NAME, int32 n_calls, int32 n_values, n_values float32: mean of x^2 times n_calls
 *   at the end, maybe:           int32 number of chunks, int32 length, name of the text
 */
#ifndef QN_CALIBRATE_IMATRIX_H
#define QN_CALIBRATE_IMATRIX_H

#include "base/alloc.h"
#include "base/error.h"

/* Importance of column i of matrix k: sums[k * n_cols + i] / counts[k]; a count of 0 = no data. The older form does not say how many matrices
 * an entry has: n_counts is then 1, and the count holds for all. */
typedef struct qn_imatrix_entry {
    const char *name; /* the tensor's in GGUF: "blk.0.ffn_down.weight" */
    size_t n_values, n_counts;
    const float *sums, *counts;
} qn_imatrix_entry;

typedef struct qn_imatrix {
    qn_arena arena;
    qn_imatrix_entry *entries;
    size_t n_entries;
    uint32_t n_chunks, chunk_tokens; /* 0 = not said */
} qn_imatrix;

/* QUERN_ERROR_INVALID names `what` and the entry: what is cut off, doubled, of the wrong size, negative or not finite. The result does not refer
 * to data. On failure *out needs no deinit. */
quern_status qn_imatrix_parse(qn_imatrix *out, const uint8_t *data, size_t size, const char *what, quern_error *err);
quern_status qn_imatrix_read(qn_imatrix *out, const char *path, quern_error *err);
void qn_imatrix_deinit(qn_imatrix *m);
/* NULL if there is no entry of that name. */
const qn_imatrix_entry *qn_imatrix_find(const qn_imatrix *m, const char *name);

/* Writes the GGUF form, or the older one to a path that ends in ".dat". dataset: name of the text. */
quern_status qn_imatrix_write(const qn_imatrix *m, const char *path, const char *dataset, quern_error *err);

#endif
