/* targets.h - what `--formats` asks for: "gguf:Q4_K_M,mlx:4bit-g32" as a list.
 */
#ifndef QN_QUANTIZE_TARGETS_H
#define QN_QUANTIZE_TARGETS_H

#include "base/error.h"
#include "quant/dtype.h"

/* A GGUF mixture by llama.cpp's name and number. */
typedef struct qn_gguf_recipe {
    const char *name;   /* "Q4_K_M" */
    uint32_t file_type; /* general.file_type */
    qn_dtype base;      /* the type of most matrices */
} qn_gguf_recipe;

typedef enum qn_mlx_mode { QN_MLX_PLAIN, QN_MLX_AFFINE, QN_MLX_MXFP4 } qn_mlx_mode;

typedef struct qn_mlx_recipe {
    const char *name; /* "4bit", "mixed_4_6", "mxfp4", "bf16" */
    qn_mlx_mode mode;
    uint32_t bits;      /* of most matrices */
    uint32_t high_bits; /* mixed recipes: of the sensitive ones; else 0 */
} qn_mlx_recipe;

typedef struct qn_target {
    const qn_gguf_recipe *gguf; /* one of the two is not NULL */
    const qn_mlx_recipe *mlx;
    uint32_t group;         /* MLX: 32, 64 or 128 */
    double bits_per_weight; /* 0, or the size that types are mixed to (mix.h) */
} qn_target;

enum { QN_TARGETS_MAX = 64 };

/* Parses a comma list; an entry twice, an unknown one or an empty list is QUERN_ERROR_USAGE. */
quern_status qn_targets_parse(const char *formats, qn_target out[QN_TARGETS_MAX], size_t *n, quern_error *err);
/* Whether types can be mixed instead of the one that the target names: no float types, no mxfp4. */
bool qn_target_can_mix(const qn_target *t);
/* "Q4_K_M", "4bit-g64", "bf16", "4.50bpw", "4.50bpw-g64": the type in the manifest and the file or folder name. */
void qn_target_name(const qn_target *t, char *out, size_t cap);
/* The recipe's name for GGUF's general.file_type; NULL for others. */
const char *qn_gguf_file_type_name(uint32_t file_type);

#endif
