/* source.h - the checkpoint that is converted: a Hugging Face folder with float weights, opened and checked as a whole.
 *
 * Owns the mapping, the configuration, the tokenizer and the list of pieces. Invariant: after a successful open every tensor of the
 * architecture is there with the shape that the configuration demands, and every tensor of the files belongs to a piece (or to the few that
 * are known to carry nothing), so that nothing is dropped silently.
 */
#ifndef QN_QUANTIZE_SOURCE_H
#define QN_QUANTIZE_SOURCE_H

#include "base/alloc.h"
#include "base/buf.h"
#include "formats/safetensors_read.h"
#include "quantize/parts.h"
#include "quantize/recipe.h"
#include "quern/tokenizer.h"
#include "text/template_list.h"

/* One tensor as outputs have it: a vector, a matrix, or the matrices of all experts of a layer. */
typedef struct qn_piece {
    qn_recipe_tensor what;
    const qn_tensor **parts; /* n_parts of one shape: experts in order; else one */
    size_t n_parts;
    uint64_t n_rows, n_cols; /* of each part; a vector is one row */
    qn_dtype dtype;
} qn_piece;

typedef struct qn_source {
    qn_arena arena;
    const char *dir;
    const char *name; /* the folder's */
    qn_safetensors *weights;
    qn_model_config config;
    quern_tokenizer *tokenizer;
    char *config_json; /* texts of the folder's files, NULL where absent */
    size_t config_len;
    char *generation_json;
    size_t generation_len;
    qn_template_list templates;
    qn_piece *pieces;
    size_t n_pieces;
    uint64_t n_parameters;
    uint64_t weight_bytes; /* of all pieces */
} qn_source;

quern_status qn_source_open(qn_source *out, const char *dir, quern_error *err);
void qn_source_close(qn_source *s);

#endif
