/* tensor_file.h - finds a tensor's bytes in a trusted safetensors file of the reference data, without the reader under test.
 */
#ifndef QN_TENSOR_FILE_H
#define QN_TENSOR_FILE_H

#include "qn_test.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"

typedef struct tensor_file {
    char *bytes;
    size_t size;
    qn_json *header;
    const uint8_t *data;
} tensor_file;

static inline bool tensor_file_open(tensor_file *f, const char *golden)
{
    quern_error err = {0};
    const char *path = qn_test_golden(golden);
    if (path == NULL) {
        print_message("SKIP: %s: reference file is absent\n", golden);
        return false;
    }
    assert_ok(qn_file_read(&f->bytes, &f->size, path, (size_t)64 << 20, &err));
    uint64_t header_bytes;
    memcpy(&header_bytes, f->bytes, sizeof header_bytes);
    assert_true(header_bytes + 8 <= f->size);
    assert_ok(qn_json_parse(&f->header, f->bytes + 8, (size_t)header_bytes, 0, golden, &err));
    f->data = (const uint8_t *)f->bytes + 8 + header_bytes;
    return true;
}

static inline const void *tensor_file_find(const tensor_file *f, const char *name, size_t *n_bytes)
{
    const qn_json *offsets = qn_json_get(qn_json_get(f->header, name), "data_offsets");
    int64_t begin;
    int64_t end;
    if (offsets == NULL || !qn_json_int(qn_json_at(offsets, 0), &begin) || !qn_json_int(qn_json_at(offsets, 1), &end)) {
        return NULL;
    }
    if (n_bytes != NULL) {
        *n_bytes = (size_t)(end - begin);
    }
    return f->data + begin;
}

static inline void tensor_file_close(tensor_file *f)
{
    qn_json_free(f->header);
    qn_free(f->bytes);
}

#endif
