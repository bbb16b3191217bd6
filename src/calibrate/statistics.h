/* statistics.h - what flows into a model's matrices over a text: how much each input column carries, and how columns go together.
 *
 * A site is a place where matrices read their input; those that read the same input share it (q, k and v; gate and up). Sums run in the order
 * of the text, so that figures do not depend on threads or instruction set.
 */
#ifndef QN_CALIBRATE_STATISTICS_H
#define QN_CALIBRATE_STATISTICS_H

#include "base/alloc.h"
#include "quern/model.h"

typedef enum qn_site {
    QN_SITE_ATTN_IN,  /* q, k, v */
    QN_SITE_ATTN_OUT, /* o */
    QN_SITE_FFN_IN,   /* gate, up; in a layer with experts the router */
    QN_SITE_FFN_OUT,  /* down */
    QN_SITE_EXPERT_IN,
    QN_SITE_EXPERT_MID,
    QN_SITE_COUNT,
    QN_SITE_HEAD = QN_SITE_COUNT /* the output matrix; once, in no layer */
} qn_site;

typedef struct qn_site_stats {
    size_t n_cols;       /* 0: the layer has no such site */
    size_t n_parts;      /* experts, else 1 */
    double *square_sums; /* (n_parts, n_cols): of x^2 */
    uint64_t *n_rows;    /* (n_parts): rows that were added up */
    float *moments;      /* (n_cols, n_cols): element [j][i], i <= j, is the sum of x_i x_j; NULL where it was not wanted or did not fit */
} qn_site_stats;

typedef struct qn_statistics {
    qn_arena arena;
    uint32_t n_layers;
    qn_site_stats *sites; /* (n_layers, QN_SITE_COUNT), then the head's */
    size_t n_chunks, chunk_tokens;
    size_t n_tokens;          /* that were run */
    size_t n_without_moments; /* sites whose moments did not fit moments_bytes; widest first */
    bool overflowed;          /* after a failure: activations were not finite, or too large to be squared */
} qn_statistics;

typedef struct qn_statistics_options {
    const char *text_name;  /* for messages; NULL = none */
    size_t n_threads;       /* 0 = all */
    size_t max_chunks;      /* 0 = all; fewer than the text has are spread evenly over it */
    uint64_t moments_bytes; /* most memory for second moments; 0 = none are collected */
    uint64_t memory_bytes;  /* most memory for all of it but the mapped weights */
    size_t logits_bytes;    /* most memory for logits, of a chunk's last rows: the head is observed at those. 0 = 64 MiB */
    bool (*on_progress)(void *user, size_t tokens_done, size_t tokens_total); /* false cancels; may be NULL */
    void *user;
} qn_statistics_options;

/* Runs the model over the text in chunks of 512 tokens, each from an empty context. QUERN_ERROR_LIMIT with both numbers if memory_bytes is too
 * little; QUERN_ERROR_INVALID if the text is shorter than a chunk or activations overflow; QUERN_ERROR_CANCELLED. On failure *out needs no
 * deinit. */
quern_status qn_statistics_collect(qn_statistics *out, const quern_model *m, const char *text, size_t len, const qn_statistics_options *opt,
                                   quern_error *err);
void qn_statistics_deinit(qn_statistics *s);

const qn_site_stats *qn_statistics_get(const qn_statistics *s, uint32_t layer, qn_site site);

#endif
