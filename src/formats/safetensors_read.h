/* safetensors_read.h - safetensors: one file, or the shards of a model folder through its index, read in place.
 *
 * Invariant: after a successful open all tensor spans lie inside their files, do not overlap, and match shape and dtype; names are
 * unique over all shards; shard names are plain names inside the folder (a symbolic link may point elsewhere, as in the hub cache).
 */
#ifndef QN_FORMATS_SAFETENSORS_READ_H
#define QN_FORMATS_SAFETENSORS_READ_H

#include <stdbool.h>
#include "base/error.h"
#include "base/fs.h"
#include "formats/tensor.h"

typedef struct qn_safetensors qn_safetensors;

quern_status qn_safetensors_open(qn_safetensors **out, const char *path, bool copy, quern_error *err);
/* model.safetensors, or the shards named by model.safetensors.index.json. */
quern_status qn_safetensors_open_dir(qn_safetensors **out, const char *dir, bool copy, quern_error *err);
/* The shards of a folder at the paths where they are for now; no index is read. `what` names them together in messages. */
quern_status qn_safetensors_open_files(qn_safetensors **out, const char *what, const char *const *paths, size_t n, quern_error *err);
quern_status qn_safetensors_parse(qn_safetensors **out, const uint8_t *data, size_t size, const char *what, quern_error *err);
void qn_safetensors_close(qn_safetensors *s);

const char *qn_safetensors_path(const qn_safetensors *s);
size_t qn_safetensors_n_files(const qn_safetensors *s);
const char *qn_safetensors_file_path(const qn_safetensors *s, size_t i);
uint64_t qn_safetensors_file_bytes(const qn_safetensors *s, size_t i);
/* How its bytes came here; NULL for memory that the caller owns. */
const qn_mapping *qn_safetensors_file_mapping(const qn_safetensors *s, size_t i);
size_t qn_safetensors_n_tensors(const qn_safetensors *s);
const qn_tensor *qn_safetensors_tensor_at(const qn_safetensors *s, size_t i); /* in file order */
const qn_tensor *qn_safetensors_find(const qn_safetensors *s, const char *name);
/* A string of the __metadata__ object, NULL if absent. */
const char *qn_safetensors_metadata(const qn_safetensors *s, const char *key);
/* The same by number: the key, and *value. */
size_t qn_safetensors_n_metadata(const qn_safetensors *s);
const char *qn_safetensors_metadata_at(const qn_safetensors *s, size_t i, const char **value);

#endif
