/* source.h - the checkpoint that is converted, opened and checked as a whole: a Hugging Face or MLX folder, or a GGUF file.
 *
 * Weights are F32, F16 or BF16; FP8 with scales (Hugging Face); or, with a warning, Q8_0 (GGUF) and 8-bit affine (MLX).
 * Owns the mapping, the configuration, the tokenizer and the list of pieces. Whatever the source's format, pieces come in one order, and
 * their rows as Hugging Face orders them. Invariant: after a successful open every tensor of the architecture is there with the shape that
 * the configuration demands, and every tensor of the files belongs to a piece (or to the few that are known to carry nothing), so that
 * nothing is dropped silently.
 */
#ifndef QN_QUANTIZE_SOURCE_H
#define QN_QUANTIZE_SOURCE_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"
#include "formats/gguf_read.h"
#include "formats/safetensors_read.h"
#include "quantize/parts.h"
#include "quantize/recipe.h"
#include "quern/tokenizer.h"
#include "text/template_list.h"

/* What turns a part's codes into weights. */
typedef struct qn_piece_scales {
    qn_scale_grid grid;             /* F8_E4M3 */
    const uint8_t *scales, *biases; /* MLX_AFFINE */
} qn_piece_scales;

/* One tensor as outputs have it: a vector, a matrix, or the matrices of all experts of a layer. */
typedef struct qn_piece {
    qn_recipe_tensor what;
    const qn_tensor **parts; /* n_parts of one shape: experts in order; else one. Experts that a file stacks are views of its tensor */
    size_t n_parts;
    uint64_t n_rows, n_cols; /* of each part; a vector is one row */
    qn_dtype dtype;          /* as stored: read rows with qn_piece_decode */
    size_t row_bytes;        /* as stored, without scales */
    qn_dtype plain;          /* F32, F16 or BF16: what an output keeps that keeps the source's type */
    qn_affine affine;        /* MLX_AFFINE, with the type of its scales: */
    qn_dtype affine_dtype;
    const qn_piece_scales *scales; /* (n_parts), for types that have some; else NULL */
    uint32_t interleave_dim;       /* stored as GGUF's order of q and k rows in heads of this size; 0 = in order */
} qn_piece;

/* A file of a model folder that is made and not copied. */
typedef struct qn_source_text {
    const char *name;
    const char *data;
    size_t len;
} qn_source_text;

enum { QN_SOURCE_TEXTS_MAX = 8 };

typedef struct qn_source {
    qn_arena arena;
    const char *path;
    const char *name;        /* the folder's, or the file's without ".gguf" and its type */
    qn_safetensors *weights; /* one of the two */
    qn_gguf *gguf;
    qn_model_config config;
    quern_tokenizer *tokenizer;
    char *config_json; /* texts of the folder's files, NULL where absent; for a GGUF file made from its metadata */
    size_t config_len;
    char *generation_json;
    size_t generation_len;
    qn_json *generation; /* that text parsed, once for all who ask; NULL where there is none */
    qn_template_list templates;
    qn_source_text texts[QN_SOURCE_TEXTS_MAX]; /* GGUF: tokenizer files and the like, once they were asked for (gguf_to_hf.h) */
    size_t n_texts;
    qn_piece *pieces;
    size_t n_pieces;
    uint64_t n_parameters;
    uint64_t weight_bytes;      /* of all pieces */
    const float *rope_divisors; /* GGUF's rope_freqs.weight (n_rot / 2), or NULL */
    const char *warning;        /* NULL, or what every output of this source should say */
    bool as_other;              /* read as an architecture that it does not name */
    const char *as;             /* the architecture that was asked for, or NULL */
} qn_source;

/* `as` (NULL = what the source says): the architecture to read it as. */
quern_status qn_source_open(qn_source *out, const char *path, const char *as, quern_error *err);
void qn_source_close(qn_source *s);

/* "safetensors", "mlx" or "gguf". */
const char *qn_source_format(const qn_source *s);
/* The weight files. */
size_t qn_source_n_files(const qn_source *s);
const char *qn_source_file_path(const qn_source *s, size_t i);

/* Bytes of all parts as stored, without scales. */
uint64_t qn_piece_bytes(const qn_piece *p);

/* Rows of a part of the source as float32: n_rows * n_cols values, in Hugging Face's order. Thread safe. */
void qn_piece_decode(const qn_piece *p, size_t part, uint64_t first_row, uint64_t n_rows, float *x);

/* ---- between the files of the source ---- */

/* source_pieces.c: sorts the tensors into pieces. */
quern_status qn_source_sort_tensors(qn_source *s, quern_error *err);
/* source_gguf.c: everything but the pieces of a GGUF file. */
quern_status qn_source_open_gguf(qn_source *s, const char *as, quern_error *err);
/* source.c: makes s->generation of s->generation_json. */
quern_status qn_source_parse_generation(qn_source *s, quern_error *err);

#endif
