/* search.h - the inner loops of the encoders: for 16 small blocks at a time, the scale (and min) with the least weighted error.
 *
 * Blocks stand in columns: element i of block c is x[16*i + c] (64-byte aligned arrays, len rows), its weight w[16*i + c] >= 0 with at
 * least one positive weight a column. Columns never influence each other. Compiled for several instruction sets with equal results:
 * search_body.h, included by search_<isa>.c.
 *
 * "Error" is the sum over a column of w * (x - decoded)^2.
 */
#ifndef QN_QUANT_SEARCH_H
#define QN_QUANT_SEARCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cpu.h"

enum { QN_COLUMNS = 16, QN_COLUMN_LENGTH_MAX = 256 };

/* Candidates for affine codes 0..q_max: the code 0 is put `low` steps above the least value and q_max `high` steps below the greatest,
 * for every pair of clips; a step is (greatest - least) / q_max. */
typedef struct qn_clip_grid {
    const float *clips;
    size_t n;
} qn_clip_grid;

/* Sets of levels that a scaled value is rounded to. */
typedef enum qn_levels {
    QN_LEVELS_INTEGER, /* whole numbers q_low..q_high */
    QN_LEVELS_IQ4,     /* qn_iq4_levels */
    QN_LEVELS_FP4      /* qn_fp4_doubled */
} qn_levels;

typedef struct qn_level_set {
    qn_levels kind;
    float low, high; /* least and greatest level */
} qn_level_set;

/* Columns of sixteen rows whose codes are chosen one column after another (feedback_panel.h): row r of column k at [16 * k + r]. */
typedef struct qn_feedback_columns {
    const float *x; /* the weights */
    const float
        *factor; /* [stride * k + i], i < k: the share of column i's error that column k takes up; [stride * k + k]: what column k counts */
    size_t stride, n;
    const float *sums;                                /* what columns before these ask for */
    const float *strength, *scale, *inverse, *offset; /* (16); a value is scale * level + offset */
    qn_level_set set;
    float *error, *levels; /* out: weight minus decoded, and the levels */
    float *squared;        /* (16), added to: error^2 */
} qn_feedback_columns;

/* The trials of ggml's own search for scale and minimum, whose weights are the root mean square and the magnitude together; of magnitudes alone, and
 * errors that are not squared, where `absolute`. */
typedef struct qn_llama_offsets {
    float top;         /* greatest level */
    float first, step; /* trial k has first + k * step more levels */
    int n_steps;
    bool absolute;
} qn_llama_offsets;

/* And of its search for a scale alone, with the squares of the values as weights. */
typedef struct qn_llama_scales {
    bool iq4; /* the levels are qn_iq4_levels */
    float low, high, step;
    int n_trials; /* on either side */
} qn_llama_scales;

/* Values below this are no scale. */
#define QN_LLAMA_NEGLIGIBLE 1e-15f

typedef struct qn_search {
    /* x ~ scale * q - min for codes q in 0..q_max: least squares from every candidate of the grid, then `n_refine` rounds of
     * rounding again with the best. scale >= 0; min >= 0 unless free_min. */
    void (*fit_affine)(const float *x, const float *w, size_t len, float q_max, const qn_clip_grid *grid, size_t n_refine, bool free_min,
                       float *scale, float *min);
    /* Codes and error for scales and mins as given (of either sign; with scale 0 all codes are 0). */
    void (*affine_error)(const float *x, const float *w, size_t len, float q_max, const float *scale, const float *min, float *error);
    void (*affine_codes)(const float *x, size_t len, float q_max, const float *scale, const float *min, float *codes);

    /* x ~ scale * level. Candidates: the element of greatest magnitude is put at each of `targets` (in level units, not zero). */
    void (*fit_scale)(const float *x, const float *w, size_t len, const qn_level_set *set, const float *targets, size_t n_targets,
                      float *scale);
    void (*scale_error)(const float *x, const float *w, size_t len, const qn_level_set *set, const float *scale, float *error);
    /* The levels themselves (not their indices). */
    void (*scale_levels)(const float *x, size_t len, const qn_level_set *set, const float *scale, float *levels);

    /* sums[16 * k + r] += factor[stride * k + i] * error[16 * i + r] for k < n and, in order, i in [begin, end). */
    void (*feedback_sums)(const float *factor, size_t stride, size_t n, const float *error, size_t begin, size_t end, float *sums);
    /* Each code the nearest to weight + strength * (sums + what the columns of this call before it ask for); to the weight where that is not finite. */
    void (*feedback_codes)(const qn_feedback_columns *c);

    /* What ggml finds, in its arithmetic: x ~ scale * level + min, min <= 0; x ~ scale * level. fused: with multiply-adds that round once. */
    void (*llama_offsets)(const float *x, size_t len, const qn_llama_offsets *o, bool fused, float *scale, float *min);
    void (*llama_scales)(const float *x, size_t len, const qn_llama_scales *o, bool fused, float *scale);
} qn_search;

/* The strongest compiled and available form at or below `isa`. */
const qn_search *qn_search_get(qn_isa isa);

#endif
