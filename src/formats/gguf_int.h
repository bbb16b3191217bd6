/* gguf_int.h - what the files of the GGUF reader share: one file's contents, and the list of tensors over all files.
 *
 * A GGUF file, little-endian, nothing aligned before the data:
 *
 *   "GGUF" | u32 version | u64 n_tensors | u64 n_keys | keys | tensor infos | padding | data
 *   string       u64 length | bytes
 *   key          string name | u32 type | value            array value: u32 element type | u64 n | elements
 *   tensor info  string name | u32 n_dims | u64 dim (fastest first) ... | u32 type | u64 offset
 *
 * Padding brings the data to a multiple of general.alignment (32 where the key is absent); offsets count from the data and
 * are multiples of it too.
 */
#ifndef QN_FORMATS_GGUF_INT_H
#define QN_FORMATS_GGUF_INT_H

#include "base/alloc.h"
#include "base/name_index.h"
#include "formats/gguf_read.h"

#define QN_GGUF_ALIGNMENT_DEFAULT 32u
/* A power of two from 8 (numbers stay aligned) to 16 MiB (beyond every page size). */
#define QN_GGUF_ALIGNMENT_MIN 8u
#define QN_GGUF_ALIGNMENT_MAX (1u << 24)
#define QN_GGUF_DIMS_MAX 4u
#define QN_GGUF_KEY_MAX 65535u /* bytes, as the format says */

/* Bytes of a value of fixed size; 0 for strings, arrays and unknown numbers. */
size_t qn_gguf_type_bytes(uint32_t type);

typedef struct qn_gguf_keys {
    qn_gguf_value *items;
    size_t n, cap;
    qn_name_index index;
} qn_gguf_keys;

typedef struct qn_tensor_list {
    qn_tensor *items;
    size_t n, cap;
} qn_tensor_list;

void qn_gguf_keys_deinit(qn_gguf_keys *keys);
const qn_gguf_value *qn_gguf_keys_find(const qn_gguf_keys *keys, const char *key);

/* Reads one file: its keys into *keys (zeroed by the caller, who frees it also on failure), its tensors to the end of
 * *tensors with names from arena. */
quern_status qn_gguf_parse_file(const uint8_t *data, size_t size, const char *path, uint32_t file_index, uint32_t *version,
                                qn_gguf_keys *keys, qn_tensor_list *tensors, qn_arena *arena, quern_error *err);

/* The typed getters of gguf_read.h for the keys of one file. */
quern_status qn_gguf_keys_get_u64(const qn_gguf_keys *keys, const char *path, const char *key, uint64_t *out, bool *found,
                                  quern_error *err);

#endif
