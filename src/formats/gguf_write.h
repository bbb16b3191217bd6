/* gguf_write.h - writes GGUF v3. Keys first, then tensor declarations, then tensor data in declared order, streamed.
 * The file gets its name only when everything has been written and synced. */
#ifndef QN_FORMATS_GGUF_WRITE_H
#define QN_FORMATS_GGUF_WRITE_H

#include "base/buf.h"
#include "base/checksum.h"
#include "base/out_file.h"
#include "formats/gguf_read.h"

typedef struct qn_gguf_writer qn_gguf_writer;

/* final_path NULL: nothing is written, only planned (see data_writer.h). */
quern_status qn_gguf_writer_create(qn_gguf_writer **out, const char *final_path, quern_error *err);
void qn_gguf_writer_destroy(qn_gguf_writer *w); /* without commit: removes what was written */

/* Keys; a key or tensor twice is QUERN_ERROR_INTERNAL, found by begin_data. general.alignment (u32) rules the data if it is put. */
quern_status qn_gguf_put_u32(qn_gguf_writer *w, const char *key, uint32_t v, quern_error *err);
quern_status qn_gguf_put_u64(qn_gguf_writer *w, const char *key, uint64_t v, quern_error *err);
quern_status qn_gguf_put_i32(qn_gguf_writer *w, const char *key, int32_t v, quern_error *err);
quern_status qn_gguf_put_f32(qn_gguf_writer *w, const char *key, float v, quern_error *err);
quern_status qn_gguf_put_f64(qn_gguf_writer *w, const char *key, double v, quern_error *err);
quern_status qn_gguf_put_bool(qn_gguf_writer *w, const char *key, bool v, quern_error *err);
quern_status qn_gguf_put_string(qn_gguf_writer *w, const char *key, const char *s, size_t len, quern_error *err);
/* Fixed-size elements, n of them, little-endian bytes. */
quern_status qn_gguf_put_array(qn_gguf_writer *w, const char *key, qn_gguf_type element, const void *data, uint64_t n, quern_error *err);
quern_status qn_gguf_put_strings(qn_gguf_writer *w, const char *key, const qn_span *strings, uint64_t n, quern_error *err);
/* Copies a key as another file has it. */
quern_status qn_gguf_put_value(qn_gguf_writer *w, const qn_gguf_value *v, quern_error *err);

/* Appends a whole GGUF file with the keys put so far and no tensors, for reading them back. */
quern_status qn_gguf_writer_keys(const qn_gguf_writer *w, qn_buf *out, quern_error *err);

/* Declares a tensor: shape row-major (last fastest). Order of declaration is order of data. */
quern_status qn_gguf_declare(qn_gguf_writer *w, const char *name, qn_dtype t, const uint64_t *shape, uint32_t n_dims, quern_error *err);
/* After the last declaration: writes header, keys and infos. */
quern_status qn_gguf_writer_begin_data(qn_gguf_writer *w, quern_error *err);
/* Bytes of tensor number `index` at `offset` in it; any order, any pieces, one thread at a time. */
quern_status qn_gguf_write_data(qn_gguf_writer *w, size_t index, uint64_t offset, const void *data, size_t size, quern_error *err);
/* For a file that an earlier run left (see data_writer.h): attach it to a writer made without a path, before begin_data; after that, keep. */
quern_status qn_gguf_writer_attach(qn_gguf_writer *w, const char *final_path, qn_out_file *file, quern_error *err);
quern_status qn_gguf_writer_keep(qn_gguf_writer *w, size_t n_tensors, quern_error *err);
quern_status qn_gguf_writer_check(const qn_gguf_writer *w, size_t index, uint64_t offset, uint64_t size, qn_checksum *sum,
                                  quern_error *err);
/* Checks that every byte was written, pads, syncs, renames. */
quern_status qn_gguf_writer_commit(qn_gguf_writer *w, quern_error *err);
/* For a file that gets its name together with others: as commit up to the padding, but nothing is synced or named. The file stays the
 * writer's; the caller commits it. prefix: bytes from the beginning on that are in the file and will not change. */
quern_status qn_gguf_writer_finish(qn_gguf_writer *w, quern_error *err);
qn_out_file *qn_gguf_writer_file(const qn_gguf_writer *w);
uint64_t qn_gguf_writer_prefix(qn_gguf_writer *w);
uint64_t qn_gguf_writer_bytes(const qn_gguf_writer *w); /* final size; valid after begin_data */

#endif
