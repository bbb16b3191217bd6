/* safetensors_write.h - writes one safetensors file, streamed, named only when complete. */
#ifndef QN_FORMATS_SAFETENSORS_WRITE_H
#define QN_FORMATS_SAFETENSORS_WRITE_H

#include "base/checksum.h"
#include "base/out_file.h"
#include "formats/safetensors_read.h"

typedef struct qn_safetensors_writer qn_safetensors_writer;

/* final_path NULL: nothing is written, only planned (see data_writer.h). */
quern_status qn_safetensors_writer_create(qn_safetensors_writer **out, const char *final_path, quern_error *err);
void qn_safetensors_writer_destroy(qn_safetensors_writer *w);
quern_status qn_safetensors_put_metadata(qn_safetensors_writer *w, const char *key, const char *value, quern_error *err);
quern_status qn_safetensors_declare(qn_safetensors_writer *w, const char *name, qn_dtype t, const uint64_t *shape, uint32_t n_dims,
                                    quern_error *err);
quern_status qn_safetensors_writer_begin_data(qn_safetensors_writer *w, quern_error *err);
quern_status qn_safetensors_write_data(qn_safetensors_writer *w, size_t index, uint64_t offset, const void *data, size_t size,
                                       quern_error *err);
/* For a file that an earlier run left (see data_writer.h): attach it to a writer made without a path, before begin_data; after that, keep. */
quern_status qn_safetensors_writer_attach(qn_safetensors_writer *w, const char *final_path, qn_out_file *file, quern_error *err);
quern_status qn_safetensors_writer_keep(qn_safetensors_writer *w, size_t n_tensors, quern_error *err);
quern_status qn_safetensors_writer_check(const qn_safetensors_writer *w, size_t index, uint64_t offset, uint64_t size, qn_checksum *sum,
                                         quern_error *err);
quern_status qn_safetensors_writer_commit(qn_safetensors_writer *w, quern_error *err);
/* For a file that gets its name together with others: as commit up to the padding, but nothing is synced or named. The file stays the
 * writer's; the caller commits it. prefix: bytes from the beginning on that are in the file and will not change. */
quern_status qn_safetensors_writer_finish(qn_safetensors_writer *w, quern_error *err);
qn_out_file *qn_safetensors_writer_file(const qn_safetensors_writer *w);
uint64_t qn_safetensors_writer_prefix(qn_safetensors_writer *w);
uint64_t qn_safetensors_writer_bytes(const qn_safetensors_writer *w);

#endif
