/* dtype.c - the table of element types. */
#include "quant/dtype.h"

#include <string.h>

#include "base/alloc.h"

static const qn_dtype_traits traits[QN_DTYPE_COUNT] = {
#define X(name, text, ggml_id, st_name, block_size, block_bytes) [QN_DTYPE_##name] = {text, ggml_id, st_name, block_size, block_bytes},
#include "quant/dtypes.inc"
#undef X
};

const qn_dtype_traits *qn_dtype_get(qn_dtype t) { return &traits[t]; }

bool qn_dtype_from_ggml_id(uint32_t id, qn_dtype *out)
{
    for (int i = 0; i < QN_DTYPE_COUNT; i++) {
        if (traits[i].ggml_id >= 0 && (uint32_t)traits[i].ggml_id == id) {
            *out = (qn_dtype)i;
            return true;
        }
    }
    return false;
}

bool qn_dtype_from_safetensors(const char *name, qn_dtype *out)
{
    for (int i = 0; i < QN_DTYPE_COUNT; i++) {
        if (traits[i].safetensors != NULL && strcmp(traits[i].safetensors, name) == 0) {
            *out = (qn_dtype)i;
            return true;
        }
    }
    return false;
}

bool qn_dtype_row_bytes(qn_dtype t, uint64_t n, size_t *bytes)
{
    const qn_dtype_traits *x = &traits[t];
    if (x->block_size == 0 || n % x->block_size != 0 || n / x->block_size > SIZE_MAX) {
        return false;
    }
    return qn_size_mul((size_t)(n / x->block_size), x->block_bytes, bytes);
}
