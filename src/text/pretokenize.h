/* pretokenize.h - cutting a text into the pieces that BPE sees.
 *
 * A pre-tokenizer is a list of steps. A step cuts each piece of the step before it, or changes its text (a blank in front, blanks made
 * visible). Steps run depth first, so that memory does not grow with the number of pieces.
 * What cuts is a scanner (hand-written, linear, for an expression that published tokenizers use; scanners.c), a literal string, or a
 * regular expression (regex_pcre2.c).
 */
#ifndef QN_TEXT_PRETOKENIZE_H
#define QN_TEXT_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>
#include "base/buf.h"
#include "base/error.h"
#include "text/regex_pcre2.h"
#include "text/scanners.h"

typedef enum qn_step_kind {
    QN_STEP_SCANNER,
    QN_STEP_LITERAL,
    QN_STEP_REGEX,        /* these cut */
    QN_STEP_PREFIX_SPACE, /* a blank in front of every piece that does not begin with one */
    QN_STEP_BLANKS        /* Metaspace: ' ' becomes U+2581 */
} qn_step_kind;

/* What becomes of a match; the names are those of tokenizer.json. */
typedef enum qn_split_behavior {
    QN_SPLIT_REMOVED,
    QN_SPLIT_ISOLATED,
    QN_SPLIT_MERGED_WITH_PREVIOUS,
    QN_SPLIT_MERGED_WITH_NEXT,
    QN_SPLIT_CONTIGUOUS
} qn_split_behavior;

typedef enum qn_prepend { QN_PREPEND_NEVER, QN_PREPEND_FIRST, QN_PREPEND_ALWAYS } qn_prepend;

typedef struct qn_step {
    qn_step_kind kind;
    const qn_scanner *scanner;
    char *literal; /* owned */
    size_t literal_len;
    qn_regex *regex; /* owned */
    qn_split_behavior behavior;
    bool invert;
    qn_prepend prepend; /* BLANKS: put U+2581 in front of the first or of every piece that does not begin with it */
} qn_step;

enum { QN_STEPS_MAX = 16 };

typedef struct qn_pretokenizer {
    size_t n_steps;
    qn_step steps[QN_STEPS_MAX];
} qn_pretokenizer;

void qn_pretokenizer_deinit(qn_pretokenizer *p);

/* Text of steps that change it, one buffer a step; belongs to one call. */
typedef struct qn_pretokenize_buffers {
    qn_buf text[QN_STEPS_MAX];
} qn_pretokenize_buffers;
void qn_pretokenize_buffers_init(qn_pretokenize_buffers *b);
void qn_pretokenize_buffers_deinit(qn_pretokenize_buffers *b);

/* Called for every piece, in order, never empty. */
typedef quern_status (*qn_piece_fn)(void *user, const char *s, size_t n);
/* at_start: s begins where the whole text begins. */
quern_status qn_pretokenize(const qn_pretokenizer *p, qn_pretokenize_buffers *buffers, const char *s, size_t n, bool at_start,
                            qn_piece_fn piece, void *user, quern_error *err);

#endif
