/* tasks.h - short Python tasks: how many of a model's answers parse, and how many are degenerate.
 *
 * Answers are greedy. Whether they parse is CPython's own word (ast.parse in a child process with limits); nothing is ever executed.
 */
#ifndef QN_GATE_TASKS_H
#define QN_GATE_TASKS_H

#include "quern/engine.h"

enum { QN_N_TASKS = 20, QN_TASK_TOKENS = 96 };

typedef struct qn_task_result {
    size_t n;
    size_t n_degenerate; /* empty, or ending in the same few tokens again and again */
    double syntax_valid; /* share; NAN without python3 */
    size_t n_crashed;    /* of those that do not parse: python3 itself crashed on them */
} qn_task_result;

/* Runs the first n tasks; the engine needs a context of n * (QN_TASK_TOKENS + QN_TASK_PROMPT_TOKENS) tokens. */
quern_status qn_tasks_run(quern_engine *e, const quern_tokenizer *t, size_t n, qn_task_result *out, quern_error *err);
enum { QN_TASK_PROMPT_TOKENS = 160 };

/* python_check.c: for each of n texts whether it parses as Python. Texts that the parser did not survive are not valid, and counted. *available
 * false: there is no python3, or it did not answer, or crashed on more than a few. python: the interpreter, NULL = where systems have it. */
quern_status qn_python_check(const char *python, const char *const *texts, size_t n, bool *valid, size_t *n_crashed, bool *available,
                             quern_error *err);

#endif
