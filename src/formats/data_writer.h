/* data_writer.h - the data part that GGUF and safetensors files have in common when written: a header, then the bytes of
 * declared tensors at known places, written in any order and any pieces.
 *
 * Owns the output file and the account of what has been written. Invariant: a file gets its name only when every byte of
 * every tensor has been written exactly once.
 */
#ifndef QN_FORMATS_DATA_WRITER_H
#define QN_FORMATS_DATA_WRITER_H

#include "base/checksum.h"
#include "base/out_file.h"
#include "formats/tensor.h"

typedef struct qn_written_span {
    uint64_t begin, end;
} qn_written_span;

typedef struct qn_data_slot {
    char *name;
    qn_tensor tensor;         /* dtype, shape, n_bytes; file_offset from begin_data on */
    qn_written_span *written; /* disjoint, sorted, neighbours merged: one entry when written in order */
    size_t n_written, cap_written;
} qn_data_slot;

typedef struct qn_data_writer {
    qn_out_file *file;
    char *path;
    qn_data_slot *slots;
    size_t n_slots, cap_slots;
    size_t n_complete;    /* slots from the first on that are known to be written */
    uint64_t total_bytes; /* of the finished file, from begin on */
    bool began, finished;
} qn_data_writer;

/* A writer without a file (final_path NULL) only plans: it takes declarations and, at begin, knows how large the file would be. */
quern_status qn_data_writer_init(qn_data_writer *w, const char *final_path, quern_error *err);
void qn_data_writer_deinit(qn_data_writer *w); /* without commit: removes what was written */
/* Before begin: a writer without a file goes on with one that an earlier run left, whose place is final_path. Takes the file, also on
 * failure. */
quern_status qn_data_writer_attach(qn_data_writer *w, const char *final_path, qn_out_file *file, quern_error *err);
/* After begin: the first n tensors stand in the attached file; what follows them is to be written. */
quern_status qn_data_writer_keep(qn_data_writer *w, size_t n, quern_error *err);
/* Adds bytes [offset, offset + size) of a tensor, as the file has them, to *sum. */
quern_status qn_data_writer_check(const qn_data_writer *w, size_t index, uint64_t offset, uint64_t size, qn_checksum *sum,
                                  quern_error *err);

/* Adds a tensor; its place follows at begin. */
quern_status qn_data_writer_declare(qn_data_writer *w, const char *name, qn_dtype t, const uint64_t *shape, uint32_t n_dims,
                                    quern_error *err);
/* Gives every tensor its offset behind a header of header_bytes, each tensor and the end at a multiple of `alignment`
 * (a power of two). Nothing is written yet. */
quern_status qn_data_writer_place(qn_data_writer *w, uint64_t header_bytes, uint64_t alignment, quern_error *err);
/* Writes the header, exactly as long as announced. */
quern_status qn_data_writer_begin(qn_data_writer *w, const void *header, size_t size, quern_error *err);
quern_status qn_data_writer_write(qn_data_writer *w, size_t index, uint64_t offset, const void *data, size_t size, quern_error *err);
/* How many bytes from the file's beginning on are in the file and will not change. */
uint64_t qn_data_writer_prefix(qn_data_writer *w);
/* Checks that every byte was written, and pads. The file keeps its temporary name; it stays the writer's. */
quern_status qn_data_writer_finish(qn_data_writer *w, quern_error *err);
/* finish, unless that was done; then the file gets its name. */
quern_status qn_data_writer_commit(qn_data_writer *w, quern_error *err);

#endif
