/* speculate.h - guessing the next tokens from what the text has said before, to run several rows in one step (n-gram lookup; no second model).
 *
 * Owns the history of a sequence as an index of its n-grams, and the decision how many guesses are worth their cost. What a guess is worth is
 * decided by whoever samples: a row of logits has the same bits whether its token came as a guess or alone, so the output does not depend on
 * anything here. Invariant: decisions read clocks, drafts do not.
 */
#ifndef QN_ENGINE_SPECULATE_H
#define QN_ENGINE_SPECULATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    QN_DRAFT_MAX = 15,   /* guesses a step */
    QN_MATCH_MIN = 3,    /* tokens that must have been there before */
    QN_MATCH_CLASSES = 4 /* by length of the match */
};

/* What was learnt; outlives the texts. */
typedef struct qn_speculation_record {
    double cost[QN_DRAFT_MAX + 2];                              /* [rows] seconds of a step; 0 = not yet known */
    double accepted[QN_MATCH_CLASSES], tried[QN_MATCH_CLASSES]; /* guesses that were right, and that were looked at */
} qn_speculation_record;

typedef struct qn_speculation {
    qn_speculation_record *record; /* borrowed */
    int32_t *tokens;               /* (cap) */
    size_t n_tokens, cap;
    uint32_t *heads;    /* (n_heads): the last position where an n-gram of this hash ends, plus 1; 0 = none */
    uint32_t *previous; /* (cap): the one before it */
    size_t n_heads;     /* a power of two */
} qn_speculation;

/* The guess for what follows the tokens so far. */
typedef struct qn_draft {
    int32_t ids[QN_DRAFT_MAX];
    size_t n;
    size_t match_class;
} qn_draft;

/* Room for n_ctx tokens. */
quern_status qn_speculation_init(qn_speculation *s, qn_speculation_record *record, size_t n_ctx, quern_error *err);
void qn_speculation_deinit(qn_speculation *s);
/* Appends tokens to the history; those beyond n_ctx are left out. */
void qn_speculation_push(qn_speculation *s, const int32_t *ids, size_t n);
/* Continues the longest match of the last tokens (the most recent of equals) by at most n_max tokens; a match that runs into the end repeats.
 * out->n == 0 without a match of QN_MATCH_MIN tokens. */
void qn_speculation_find(const qn_speculation *s, size_t n_max, qn_draft *out);
/* How many of the draft's guesses to run: the number with the most tokens a second by what was learnt, 0 if none pays. */
size_t qn_speculation_choose(const qn_speculation_record *r, const qn_draft *d);
/* A step of `rows` rows took so long. */
void qn_speculation_note_cost(qn_speculation_record *r, size_t rows, double seconds);
/* Of n_run guesses the first n_accepted were right. */
void qn_speculation_note_result(qn_speculation_record *r, const qn_draft *d, size_t n_run, size_t n_accepted);

#endif
