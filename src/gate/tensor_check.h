/* tensor_check.h - one tensor of an output, block by block, against the rows of the source that it was made from.
 *
 * Owns the figures and the counts; verdict.h turns them into sentences, diagnose.h says what happened. Values are streamed through buffers of a
 * fixed size a thread; what grows with the tensor is the figures of each slice of 65,536 values, some hundred bytes. Invariant: all figures are
 * the same for any number of threads.
 */
#ifndef QN_GATE_TENSOR_CHECK_H
#define QN_GATE_TENSOR_CHECK_H

#include "base/error.h"
#include "base/thread_pool.h"
#include "quant/dtype.h"

/* How the output stores rows. */
typedef enum qn_storage {
    QN_STORED_BLOCKS, /* one stream: rows of `dtype`, plain or quantized */
    QN_STORED_AFFINE, /* three streams: MLX packed words, scales, biases (of type `dtype`) */
    QN_STORED_MXFP4   /* two streams: MLX packed nibbles, e8m0 scales */
} qn_storage;

/* Rows [first, first + n) of a part of the source, in the order in which the output has them: n * n_cols values. Called by several threads. */
typedef void (*qn_read_rows_fn)(const void *user, size_t part, uint64_t first, uint64_t n, float *x);

/* The same rows as the encoder makes them that the output may come from, decoded again; false: out of memory. */
typedef bool (*qn_recode_rows_fn)(const void *user, size_t part, uint64_t first, uint64_t n, float *z);

typedef struct qn_checked_tensor {
    const char *name; /* as in the output */
    qn_storage storage;
    qn_dtype dtype;
    qn_affine affine;
    const uint8_t *streams[3]; /* n_parts * n_rows rows each */
    size_t row_bytes[3];
    size_t n_parts;
    uint64_t n_rows, n_cols; /* of a part */
    qn_dtype source_dtype;
    qn_dtype by_way; /* F16 or BF16: what the weights were rounded to before they were quantized; anything else: they were not */
    qn_read_rows_fn read;
    const void *user;
    uint64_t rows_together;   /* 0, or what recode wants first and n to be multiples of */
    qn_recode_rows_fn recode; /* NULL: no such encoder */
    const void *recode_user;
} qn_checked_tensor;

typedef enum qn_fault_kind {
    QN_FAULT_NOT_FINITE, /* a decoded value is NaN or infinite; figure: the value */
    QN_FAULT_RANGE,      /* plain types: the source's value is finite and rounds to no finite value of the type; figure: its magnitude */
    QN_FAULT_NOT_EQUAL,  /* plain types: not the rounded source; figure: the difference */
    QN_FAULT_ERROR, /* the block's error beyond the limit; figure: error / error of the plain encoder, the least over the type's measures */
    QN_FAULT_NOT_NEAREST, /* a code that is not the nearest; figure: by how many steps */
    QN_FAULT_NOT_ROUNDED, /* and not explained by the rounding of the scale either */
    QN_FAULT_NOT_ENCODER, /* not what the encoder that wrote the other blocks makes of the source */
    QN_FAULT_KINDS
} qn_fault_kind;

typedef struct qn_fault_place {
    uint64_t row;   /* counted over all parts */
    uint64_t block; /* in the row; groups for MLX */
    size_t sub;     /* sub-block in the block */
    double figure;
} qn_fault_place;

typedef struct qn_fault_count {
    uint64_t n_blocks; /* with at least one */
    uint64_t n_subs;   /* sub-blocks, for the two kinds about codes */
    uint64_t n_rows;   /* with at least one */
    uint64_t last_row;
    qn_fault_place first, second, worst; /* second: first of the next row that has one */
} qn_fault_count;

/* Which encoder wrote a tensor, as far as that can be told. PLAIN: llama.cpp or mlx without an importance matrix. */
typedef enum qn_encoder { QN_ENCODER_UNKNOWN, QN_ENCODER_QUERN, QN_ENCODER_PLAIN, QN_ENCODER_RECODE } qn_encoder;

/* Least squares of the source against scale * level (offsets held), and against decoded values (what all scales and offsets together are too large or
 * small): gain 1 is sound. */
typedef struct qn_tensor_sums {
    double source_by_level, level_by_level;
    double source_by_value, squared_value;
    double squared_error, squared_source;
    double error_steps; /* sum over elements of (source - decoded) / step, a step being the mean distance of levels */
    uint64_t n_steps;   /* elements */
} qn_tensor_sums;

/* Plain encoding's, Quern's; and of scales that are powers of two, the nearest one to greatest / 6 (mlx's kernels for Metal) and the one under which
 * the greatest value lies in the last octave (llama.cpp). */
enum { QN_SCALE_RULES = 4 };

typedef struct qn_tensor_figures {
    uint64_t n_blocks, n_subs;
    uint64_t n_relaxed; /* blocks beyond the usual limit that a wider error_limit let pass */
    double squared_error, squared_source, max_abs_error;
    double tested_error, tested_plain; /* of the blocks that are not exactly a known encoder's: squared error, and that of plain encoding */
    uint64_t n_tested;
    /* Where llama.cpp's search is the encoder: its blocks that joined multiply-adds would have made otherwise, and blocks that are what they make. */
    uint64_t n_telling, n_joined;
    double error_limit; /* for their ratio, block by block */
    qn_fault_count faults[QN_FAULT_KINDS];
    qn_encoder encoder;
    double share;  /* of a sample's blocks that are exactly what that one of Quern's encoders makes which makes most of them: */
    qn_encoder of; /* QUERN or RECODE; where no encoder is known */
    bool is_held;  /* set by the caller: the encoder is the one that made the other tensors, so whatever is not its work is a fault */
    bool others_are_nearest; /* set by the caller: the others of this type have only nearest codes, so any other code here is a fault */
    qn_tensor_sums sums;     /* over the sub-blocks that have something to say of scales (tensor_check.c) */
    qn_tensor_sums rules[QN_SCALE_RULES]; /* of what known encoders make of the source there; only where the sums alone would be a fault */
    float low, high;                      /* least and greatest decoded value */
    float plain_low, plain_high;          /* the same of what plain encoding gives, where it is more than the smallest scale's rounding */
    size_t n_zero_parts;                  /* parts that are all zero where plain encoding leaves something that the type can hold */
    size_t zero_part;                     /* the first of them */
} qn_tensor_figures;

#define QN_ERROR_LIMIT 1.25

typedef struct qn_check_options {
    double
        error_limit; /* at least QN_ERROR_LIMIT; of a block's error over that of plain encoding: 1.25; more where an unknown importance has been followed */
    qn_encoder encoder; /* UNKNOWN: none is known beforehand; else the one to compare with, however little of the tensor is its work */
    bool try_encoders;  /* compare with what known encoders make of the source: sharper, and takes as long as encoding */
} qn_check_options;

/* Memory that the check of a tensor takes on so many threads. */
size_t qn_tensor_check_bytes(const qn_checked_tensor *t, size_t n_threads);
quern_status qn_tensor_check(const qn_checked_tensor *t, const qn_check_options *opt, qn_pool *pool, qn_tensor_figures *out,
                             quern_error *err);
/* Decodes rows [first, first + n) of the output, counted over all parts. */
void qn_checked_tensor_decode(const qn_checked_tensor *t, uint64_t first, uint64_t n, float *y);
/* Whole blocks x of the source (n elements) as plain encoding in the output's type gives them back. */
void qn_checked_tensor_plain(const qn_checked_tensor *t, const float *x, float *z, size_t n);
/* Whether the type's scales are powers of two. */
bool qn_checked_tensor_has_powers_of_two(const qn_checked_tensor *t);
/* Elements of a block: the unit of places. 1 for plain types. */
size_t qn_checked_tensor_block(const qn_checked_tensor *t);

#endif
