/* parts.h - the places of the architectures that are converted, and what a place is called in Hugging Face, GGUF and MLX files.
 *
 * One row a place; everything that names a tensor derives from the table.
 */
#ifndef QN_QUANTIZE_PARTS_H
#define QN_QUANTIZE_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/config.h"

typedef enum qn_part {
    QN_PART_TOKEN_EMBD,
    QN_PART_OUTPUT_NORM,
    QN_PART_OUTPUT,
    QN_PART_ATTN_NORM,
    QN_PART_ATTN_Q,
    QN_PART_ATTN_K,
    QN_PART_ATTN_V,
    QN_PART_ATTN_OUTPUT,
    QN_PART_ATTN_Q_NORM,
    QN_PART_ATTN_K_NORM,
    QN_PART_FFN_NORM,
    QN_PART_FFN_GATE,
    QN_PART_FFN_UP,
    QN_PART_FFN_DOWN,
    QN_PART_ROUTER,
    QN_PART_GATE_EXPS,
    QN_PART_UP_EXPS,
    QN_PART_DOWN_EXPS,
    QN_PART_COUNT
} qn_part;

/* "blk.3.attn_q.weight"; layer is ignored for parts outside of layers. */
void qn_part_gguf_name(qn_part part, uint32_t layer, bool bias, char *out, size_t cap);
/* "model.layers.3.mlp.experts.7.gate_proj.weight"; expert only matters for the expert parts. */
void qn_part_hf_name(qn_family family, qn_part part, uint32_t layer, uint32_t expert, bool bias, char *out, size_t cap);
/* The module that MLX quantizes, "model.layers.3.mlp.switch_mlp.gate_proj", without ".weight". */
void qn_part_mlx_module(qn_family family, qn_part part, uint32_t layer, char *out, size_t cap);

bool qn_part_is_norm(qn_part part);
bool qn_part_is_expert(qn_part part);

#endif
