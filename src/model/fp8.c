/* fp8.c - see fp8.h. */
#include "model/fp8.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "quant/codec.h"

static bool has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

bool qn_fp8_is_input_scale_name(const char *name) { return has_suffix(name, ".input_scale"); }

bool qn_fp8_is_scale_name(const char *name)
{
    return has_suffix(name, ".weight_scale_inv") || has_suffix(name, ".weight_scale") || qn_fp8_is_input_scale_name(name);
}

/* The block a scale stands for, and that the tensor has as many scales as there are blocks. */
static quern_status measure_grid(qn_scale_grid *g, const qn_model_config *c, const qn_tensor *weight, const qn_tensor *scale,
                                 const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    bool blocks = c->fp8_block_rows != 0 && has_suffix(scale->name, "_inv");
    uint64_t n_rows = weight->shape[0], n_cols = weight->shape[1];
    *g = (qn_scale_grid){.rows = UINT32_MAX, .cols = UINT32_MAX, .n_across = 1}; /* one for all: larger than any matrix */
    if (!blocks) {
        if (scale->n_elements != 1) {
            QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: tensor %s has %" PRIu64 " elements, expected one scale for the whole tensor%s", path,
                    scale->name, scale->n_elements, c->fp8_block_rows == 0 ? " (config.json gives no weight_block_size)" : "");
        }
        goto done;
    }
    uint64_t down = (n_rows + c->fp8_block_rows - 1) / c->fp8_block_rows, across = (n_cols + c->fp8_block_cols - 1) / c->fp8_block_cols;
    if (scale->n_dims != 2 || scale->shape[0] != down || scale->shape[1] != across) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: tensor %s has %" PRIu32 " dimensions and %" PRIu64 " elements, expected (%" PRIu64 ", %" PRIu64
                "): one scale a block of %" PRIu32 " x %" PRIu32 " of (%" PRIu64 ", %" PRIu64 ")",
                path, scale->name, scale->n_dims, scale->n_elements, down, across, c->fp8_block_rows, c->fp8_block_cols, n_rows, n_cols);
    }
    *g = (qn_scale_grid){.rows = c->fp8_block_rows, .cols = c->fp8_block_cols, .n_across = (size_t)across};
done:
    return status;
}

quern_status qn_fp8_read_grid(qn_scale_grid *out, qn_arena *arena, const qn_model_config *config, const qn_tensor *weight,
                              const qn_tensor *scale, const char *path, quern_error *err)
{
    quern_status status = QUERN_OK;
    *out = (qn_scale_grid){0};
    if (config->quant_method == NULL || strcmp(config->quant_method, "fp8") != 0) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: tensor %s has type F8_E4M3, but config.json does not say quant_method fp8", path,
                weight->name);
    }
    if (scale == NULL) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s has type F8_E4M3, but %s_scale_inv is missing", path, weight->name, weight->name);
    }
    if (scale->dtype != QN_DTYPE_F32 && scale->dtype != QN_DTYPE_BF16 && scale->dtype != QN_DTYPE_F16) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "%s: tensor %s has type %s, expected F32, F16 or BF16", path, scale->name,
                qn_dtype_get(scale->dtype)->name);
    }
    QN_TRY(measure_grid(out, config, weight, scale, path, err));
    size_t n = (size_t)scale->n_elements;
    float *values = qn_arena_alloc_array(arena, n, sizeof *values);
    if (values == NULL) {
        QN_FAIL_MEMORY(err, scale->name, n * sizeof *values);
    }
    qn_decode_row(scale->dtype, scale->data, values, n);
    size_t bad = qn_find_non_finite(values, n);
    if (bad < n) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s holds a value that is not finite at index %zu", path, scale->name, bad);
    }
    for (size_t i = 0; i < n; i++) {
        if (fabsf(values[i]) > QN_SCALE_GRID_MAX) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor %s holds %g at index %zu, expected at most %g", path, scale->name,
                    (double)values[i], i, (double)QN_SCALE_GRID_MAX);
        }
    }
    out->values = values;
done:
    return status;
}
