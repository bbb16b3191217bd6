/* safetensors_int.h - what the files of the safetensors reader share.
 *
 *   u64 header length N, little-endian | N bytes of JSON, padded with spaces | data
 *
 * The JSON is {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__": {"key": "text"}};
 * offsets count from the data, and the tensors cover it without holes.
 */
#ifndef QN_FORMATS_SAFETENSORS_INT_H
#define QN_FORMATS_SAFETENSORS_INT_H

#include "base/alloc.h"
#include "formats/safetensors_read.h"

/* As the reference implementation has it; the largest published headers are a few megabytes. */
#define QN_SAFETENSORS_HEADER_MAX 100000000u

typedef struct qn_st_pair {
    const char *name;  /* metadata: key; index: tensor */
    const char *value; /* metadata: text; index: shard */
} qn_st_pair;

typedef struct qn_st_pairs {
    qn_st_pair *items;
    size_t n, cap;
} qn_st_pairs;

typedef struct qn_st_tensors {
    qn_tensor *items;
    size_t n, cap;
} qn_st_tensors;

/* Reads one file: tensors to the end of *tensors, in the order of their data; metadata to the end of *metadata (may be NULL).
 * Strings come from arena. */
quern_status qn_safetensors_parse_file(const uint8_t *data, size_t size, const char *path, uint32_t file_index, qn_st_tensors *tensors,
                                       qn_st_pairs *metadata, qn_arena *arena, quern_error *err);

/* The weight_map of model.safetensors.index.json: tensor to shard, each shard a plain name ending in .safetensors. */
quern_status qn_safetensors_parse_index(const char *json, size_t size, const char *path, qn_st_pairs *map, qn_arena *arena,
                                        quern_error *err);

#endif
