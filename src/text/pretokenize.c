/* pretokenize.c - running the steps. */
#include "text/pretokenize.h"

#include <string.h>

#include "base/alloc.h"

#define BLANK "\xe2\x96\x81" /* U+2581 */
enum { BLANK_LEN = 3 };

void qn_pretokenizer_deinit(qn_pretokenizer *p)
{
    for (size_t i = 0; i < p->n_steps; i++) {
        qn_free(p->steps[i].literal);
        qn_regex_destroy(p->steps[i].regex);
    }
    p->n_steps = 0;
}

void qn_pretokenize_buffers_init(qn_pretokenize_buffers *b)
{
    for (size_t i = 0; i < QN_STEPS_MAX; i++) {
        qn_buf_init(&b->text[i], SIZE_MAX / 2);
    }
}

void qn_pretokenize_buffers_deinit(qn_pretokenize_buffers *b)
{
    for (size_t i = 0; i < QN_STEPS_MAX; i++) {
        qn_buf_deinit(&b->text[i]);
    }
}

/* One call of qn_pretokenize. */
typedef struct run {
    const qn_pretokenizer *p;
    qn_pretokenize_buffers *buffers;
    qn_piece_fn piece;
    void *user;
    quern_error *err;
} run;

static quern_status run_step(const run *r, size_t step, const char *s, size_t n, bool at_start);

/* What a cutting step has found and not yet handed on. Parts come in order and without gaps. */
typedef struct parts {
    const run *run;
    size_t next_step;
    const char *s;
    bool at_start;
    qn_split_behavior behavior;
    bool have, pending_match, previous_match; /* of the pending part, of the last part put */
    size_t begin, end;                        /* the pending part */
} parts;

static quern_status flush(parts *q)
{
    quern_status status = QUERN_OK;
    if (q->have && q->end > q->begin) {
        status = run_step(q->run, q->next_step, q->s + q->begin, q->end - q->begin, q->at_start && q->begin == 0);
    }
    q->have = false;
    return status;
}

static quern_status put_part(parts *q, size_t begin, size_t end, bool match)
{
    bool join = false;
    switch (q->behavior) {
    case QN_SPLIT_ISOLATED: break;
    case QN_SPLIT_REMOVED:
        if (match) {
            return QUERN_OK;
        }
        break;
    case QN_SPLIT_CONTIGUOUS: join = q->have && q->pending_match == match; break;
    case QN_SPLIT_MERGED_WITH_PREVIOUS: join = q->have && match && !q->previous_match; break;
    case QN_SPLIT_MERGED_WITH_NEXT: join = q->have && q->pending_match && !match; break;
    }
    q->previous_match = match;
    if (join) {
        q->end = end;
        q->pending_match = q->behavior == QN_SPLIT_MERGED_WITH_NEXT ? false : q->pending_match;
        return QUERN_OK;
    }
    quern_status status = flush(q);
    q->have = true;
    q->pending_match = match;
    q->begin = begin;
    q->end = end;
    return status;
}

/* A match, and the part before it that none covers. */
static quern_status put_match(parts *q, const qn_step *step, size_t *covered, size_t begin, size_t end)
{
    quern_status status = QUERN_OK;
    if (begin > *covered) {
        status = put_part(q, *covered, begin, step->invert);
    }
    *covered = end;
    return status == QUERN_OK ? put_part(q, begin, end, !step->invert) : status;
}

static quern_status cut_by_regex(const run *r, const qn_step *step, parts *q, const char *s, size_t n, size_t *covered)
{
    quern_status status = QUERN_OK;
    qn_regex_search *search = NULL;
    bool found = true;
    QN_TRY(qn_regex_search_create(&search, step->regex, s, n, r->err));
    while (found) {
        size_t begin, end;
        QN_TRY(qn_regex_search_next(search, &found, &begin, &end, r->err));
        if (found) {
            QN_TRY(put_match(q, step, covered, begin, end));
        }
    }
done:
    qn_regex_search_destroy(search);
    return status;
}

static bool find_literal(const qn_step *step, const char *s, size_t n, size_t from, size_t *begin, size_t *end)
{
    while (from < n && n - from >= step->literal_len) {
        const char *hit = memchr(s + from, step->literal[0], n - from - step->literal_len + 1);
        if (hit == NULL) {
            return false;
        }
        from = (size_t)(hit - s);
        if (memcmp(hit, step->literal, step->literal_len) == 0) {
            *begin = from;
            *end = from + step->literal_len;
            return true;
        }
        from++;
    }
    return false;
}

static quern_status cut(const run *r, size_t index, const char *s, size_t n, bool at_start)
{
    quern_status status = QUERN_OK;
    const qn_step *step = &r->p->steps[index];
    parts q = {.run = r, .next_step = index + 1, .s = s, .at_start = at_start, .behavior = step->behavior};
    size_t covered = 0, begin, end;
    if (step->kind == QN_STEP_REGEX) {
        QN_TRY(cut_by_regex(r, step, &q, s, n, &covered));
    } else {
        for (size_t at = 0; at < n; at = end) {
            bool found = step->kind == QN_STEP_SCANNER ? qn_scanner_find(step->scanner, s, n, at, &begin, &end)
                                                       : find_literal(step, s, n, at, &begin, &end);
            if (!found) {
                break;
            }
            QN_TRY(put_match(&q, step, &covered, begin, end));
        }
    }
    if (covered < n) {
        QN_TRY(put_part(&q, covered, n, step->invert));
    }
    QN_TRY(flush(&q));
done:
    return status;
}

/* The whole cutting is one scanner that isolates what it matches everywhere: the case of most models. */
static quern_status cut_simply(const run *r, const qn_scanner *scanner, const char *s, size_t n)
{
    quern_status status = QUERN_OK;
    size_t begin, end;
    for (size_t at = 0; at < n; at = end) {
        (void)qn_scanner_find(scanner, s, n, at, &begin, &end);
        QN_TRY(r->piece(r->user, s + begin, end - begin));
    }
done:
    return status;
}

static quern_status prefix_space(const run *r, size_t index, const char *s, size_t n, bool at_start)
{
    quern_status status = QUERN_OK;
    qn_buf *b = &r->buffers->text[index];
    if (n == 0 || s[0] == ' ') {
        return run_step(r, index + 1, s, n, at_start);
    }
    qn_buf_reset(b);
    if (!qn_buf_append_char(b, ' ') || !qn_buf_append(b, s, n)) {
        QN_FAIL_MEMORY(r->err, "a text with a blank in front", n + 1);
    }
    QN_TRY(run_step(r, index + 1, b->data, b->len, at_start));
done:
    return status;
}

static quern_status show_blanks(const run *r, size_t index, const char *s, size_t n, bool at_start)
{
    quern_status status = QUERN_OK;
    const qn_step *step = &r->p->steps[index];
    qn_buf *b = &r->buffers->text[index];
    bool begins = n > 0 && (s[0] == ' ' || (n >= BLANK_LEN && memcmp(s, BLANK, BLANK_LEN) == 0));
    qn_buf_reset(b);
    if (!begins && (step->prepend == QN_PREPEND_ALWAYS || (step->prepend == QN_PREPEND_FIRST && at_start))) {
        (void)qn_buf_append(b, BLANK, BLANK_LEN);
    }
    for (size_t i = 0; i < n;) {
        const char *space = memchr(s + i, ' ', n - i);
        size_t end = space != NULL ? (size_t)(space - s) : n;
        (void)qn_buf_append(b, s + i, end - i);
        if (space != NULL) {
            (void)qn_buf_append(b, BLANK, BLANK_LEN);
            end++;
        }
        i = end;
    }
    if (b->failed) {
        QN_FAIL_MEMORY(r->err, "a text with visible blanks", n * BLANK_LEN);
    }
    QN_TRY(run_step(r, index + 1, qn_buf_text(b), b->len, at_start));
done:
    return status;
}

/* Recursion is as deep as the list of steps is long. */
static quern_status run_step(const run *r, size_t step, const char *s, size_t n, bool at_start)
{
    if (step == r->p->n_steps) {
        return n > 0 ? r->piece(r->user, s, n) : QUERN_OK;
    }
    switch (r->p->steps[step].kind) {
    case QN_STEP_PREFIX_SPACE: return prefix_space(r, step, s, n, at_start);
    case QN_STEP_BLANKS: return show_blanks(r, step, s, n, at_start);
    case QN_STEP_SCANNER:
    case QN_STEP_LITERAL:
    case QN_STEP_REGEX: break;
    }
    const qn_step *last = &r->p->steps[step];
    if (step + 1 == r->p->n_steps && last->kind == QN_STEP_SCANNER && last->behavior == QN_SPLIT_ISOLATED &&
        qn_scanner_is_total(last->scanner)) {
        return cut_simply(r, last->scanner, s, n);
    }
    return cut(r, step, s, n, at_start);
}

quern_status qn_pretokenize(const qn_pretokenizer *p, qn_pretokenize_buffers *buffers, const char *s, size_t n, bool at_start,
                            qn_piece_fn piece, void *user, quern_error *err)
{
    run r = {.p = p, .buffers = buffers, .piece = piece, .user = user, .err = err};
    return run_step(&r, 0, s, n, at_start);
}
