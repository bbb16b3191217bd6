/* recipe.h - which type each tensor gets: llama.cpp's default mixtures for GGUF, mlx-lm's recipes for MLX.
 *
 * Decides from shapes and places only; never looks at values.
 */
#ifndef QN_QUANTIZE_RECIPE_H
#define QN_QUANTIZE_RECIPE_H

#include "quantize/parts.h"
#include "quantize/targets.h"

/* What the mixtures need to know of a model. */
typedef struct qn_recipe_model {
    qn_family family;
    uint32_t n_layers, n_heads, n_kv_heads, n_experts;
    bool tied;
} qn_recipe_model;

typedef struct qn_recipe_tensor {
    qn_part part;
    uint32_t layer;
    bool bias;
    uint32_t n_dims; /* 1 vector, 2 matrix, 3 stacked experts */
    uint64_t n_cols; /* of a row */
} qn_recipe_tensor;

qn_recipe_model qn_recipe_model_of(const qn_model_config *config);

/* True for tensors whose type a recipe chooses; the others (vectors, norms, the router) stay F32 in GGUF. */
bool qn_recipe_applies(const qn_recipe_tensor *t);
/* The type in a GGUF file. */
qn_dtype qn_recipe_gguf(const qn_gguf_recipe *recipe, const qn_recipe_model *m, const qn_recipe_tensor *t);
/* The type to use instead of t where rows of n_cols are no whole number of its blocks. */
qn_dtype qn_recipe_fallback(qn_dtype t, uint64_t n_cols);
/* Bits and group in an MLX folder; bits 0 = stays as it is. */
qn_affine qn_recipe_mlx(const qn_mlx_recipe *recipe, uint32_t group, const qn_recipe_model *m, const qn_recipe_tensor *t);

#endif
