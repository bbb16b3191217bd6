/* tasks.c - see tasks.h. All tasks advance together, one token a step, so that weights are read once a step. */
#include "gate/tasks.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "engine/engine_int.h"

static const char *const prompts[QN_N_TASKS] = {
    "def add(a, b):\n    \"\"\"Return the sum of a and b.\"\"\"\n",
    "def is_even(n):\n    \"\"\"Return True if n is even.\"\"\"\n",
    "def factorial(n):\n    \"\"\"Return n factorial.\"\"\"\n",
    "def reverse_string(s):\n    \"\"\"Return s reversed.\"\"\"\n",
    "def largest(values):\n    \"\"\"Return the largest value of a list.\"\"\"\n",
    "def count_words(text):\n    \"\"\"Return the number of words in text.\"\"\"\n",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "def is_palindrome(s):\n    \"\"\"Return True if s reads the same backwards.\"\"\"\n",
    "def mean(values):\n    \"\"\"Return the arithmetic mean of values.\"\"\"\n",
    "def unique(items):\n    \"\"\"Return the items without repetitions, in order.\"\"\"\n",
    "def gcd(a, b):\n    \"\"\"Return the greatest common divisor of a and b.\"\"\"\n",
    "def read_lines(path):\n    \"\"\"Return the lines of a file as a list.\"\"\"\n",
    "def merge(a, b):\n    \"\"\"Merge two sorted lists into one sorted list.\"\"\"\n",
    "def flatten(lists):\n    \"\"\"Turn a list of lists into one list.\"\"\"\n",
    "def count_vowels(s):\n    \"\"\"Return how many vowels s has.\"\"\"\n",
    "def is_prime(n):\n    \"\"\"Return True if n is a prime number.\"\"\"\n",
    "class Stack:\n    \"\"\"A last-in, first-out stack.\"\"\"\n\n    def __init__(self):\n",
    "class Counter:\n    \"\"\"Counts how often each item was added.\"\"\"\n\n    def __init__(self):\n",
    "def binary_search(items, target):\n    \"\"\"Return the index of target in a sorted list, or -1.\"\"\"\n",
    "def to_celsius(fahrenheit):\n    \"\"\"Convert a temperature.\"\"\"\n",
};

typedef struct answer {
    quern_sequence *sequence;
    quern_ids prompt;
    int32_t ids[QN_TASK_TOKENS];
    size_t n_ids;
    int32_t next;
    bool ended;
} answer;

static bool is_stop(const quern_model_info *info, int32_t id)
{
    for (size_t i = 0; i < info->n_stop_ids; i++) {
        if (info->stop_ids[i] == id) {
            return true;
        }
    }
    return false;
}

static int32_t most_likely(const float *logits, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (int32_t)best;
}

static void take_token(answer *a, const quern_model_info *info, int32_t id)
{
    if (is_stop(info, id) || a->n_ids == QN_TASK_TOKENS) {
        a->ended = true;
        return;
    }
    a->ids[a->n_ids++] = id;
    a->next = id;
    a->ended = a->n_ids == QN_TASK_TOKENS;
}

static quern_status begin_answer(quern_engine *e, const quern_tokenizer *t, const char *prompt, float *logits, answer *a, quern_error *err)
{
    quern_status status = QUERN_OK;
    int flags = quern_tokenizer_get_info(t)->add_bos ? QUERN_ENCODE_ADD_BOS : 0;
    const quern_model_info *info = &e->model->info;
    QN_TRY(quern_tokenizer_encode(t, prompt, strlen(prompt), flags, &a->prompt, err));
    size_t n = a->prompt.len < QN_TASK_PROMPT_TOKENS ? a->prompt.len : QN_TASK_PROMPT_TOKENS;
    QN_TRY(quern_sequence_create(&a->sequence, e, err));
    for (size_t at = 0; at < n;) {
        size_t here = n - at < e->info.n_batch ? n - at : e->info.n_batch;
        bool last = at + here == n;
        const quern_step_item item = {
            .sequence = a->sequence, .ids = a->prompt.data + at, .n_ids = here, .n_logits = last ? 1 : 0, .logits = logits};
        QN_TRY(quern_engine_step(e, &item, 1, err));
        at += here;
    }
    take_token(a, info, most_likely(logits, info->n_vocab));
done:
    return status;
}

static quern_status advance(quern_engine *e, answer *answers, size_t n, float *logits, bool *done_all, quern_error *err)
{
    quern_status status = QUERN_OK;
    const quern_model_info *info = &e->model->info;
    quern_step_item items[QN_N_TASKS];
    answer *of[QN_N_TASKS];
    size_t n_items = 0;
    for (size_t i = 0; i < n; i++) {
        if (!answers[i].ended) {
            of[n_items] = &answers[i];
            items[n_items] = (quern_step_item){.sequence = answers[i].sequence,
                                               .ids = &answers[i].next,
                                               .n_ids = 1,
                                               .n_logits = 1,
                                               .logits = logits + n_items * info->n_vocab};
            n_items++;
        }
    }
    *done_all = n_items == 0;
    if (n_items > 0) {
        QN_TRY(quern_engine_step(e, items, n_items, err));
    }
    for (size_t k = 0; k < n_items; k++) {
        take_token(of[k], info, most_likely(items[k].logits, info->n_vocab));
    }
done:
    return status;
}

/* The last 32 tokens (or all, if there are fewer) are one cycle of at most 8 tokens, three times or more. */
static bool ends_in_cycle(const int32_t *ids, size_t n)
{
    enum { TAIL = 32, PERIOD_MAX = 8 };
    size_t tail = n < TAIL ? n : TAIL;
    for (size_t period = 1; period <= PERIOD_MAX && 3 * period <= tail; period++) {
        size_t i = n - tail + period;
        while (i < n && ids[i] == ids[i - period]) {
            i++;
        }
        if (i == n && tail >= 12) {
            return true;
        }
    }
    return false;
}

static bool is_blank(const char *s) { return s[strspn(s, " \t\r\n")] == '\0'; }

/* The prompt with the answer up to where its function or class ends: the first line at the margin, or the last whole line. */
static char *make_program(const char *prompt, const char *text, bool complete)
{
    size_t end = 0, n = strlen(text);
    for (size_t line = 0; line < n;) {
        const char *newline = strchr(text + line, '\n');
        size_t next = newline != NULL ? (size_t)(newline - text) + 1 : n;
        bool margin = line > 0 && strchr(" \t\r\n", text[line]) == NULL;
        if (margin || (newline == NULL && !complete)) {
            break;
        }
        end = next;
        line = next;
    }
    size_t len = strlen(prompt);
    char *program = qn_malloc(len + end + 2);
    if (program != NULL) {
        memcpy(program, prompt, len);
        memcpy(program + len, text, end);
        program[len + end] = '\n';
        program[len + end + 1] = '\0';
    }
    return program;
}

static quern_status judge_answers(const quern_tokenizer *t, const answer *answers, size_t n, qn_task_result *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *programs[QN_N_TASKS] = {0};
    bool valid[QN_N_TASKS] = {0}, available = false;
    size_t n_valid = 0;
    for (size_t i = 0; i < n; i++) {
        char *text = NULL;
        size_t len = 0;
        QN_TRY(quern_tokenizer_decode(t, answers[i].ids, answers[i].n_ids, false, &text, &len, err));
        out->n_degenerate += is_blank(text) || ends_in_cycle(answers[i].ids, answers[i].n_ids);
        programs[i] = make_program(prompts[i], text, answers[i].n_ids < QN_TASK_TOKENS);
        quern_free(text);
        if (programs[i] == NULL) {
            QN_FAIL_MEMORY(err, "an answer", len);
        }
    }
    QN_TRY(qn_python_check(NULL, (const char *const *)programs, n, valid, &out->n_crashed, &available, err));
    for (size_t i = 0; i < n; i++) {
        n_valid += valid[i];
    }
    out->n = n;
    out->syntax_valid = available ? (double)n_valid / (double)n : NAN;
done:
    for (size_t i = 0; i < n; i++) {
        qn_free(programs[i]);
    }
    return status;
}

quern_status qn_tasks_run(quern_engine *e, const quern_tokenizer *t, size_t n, qn_task_result *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    answer *answers = NULL;
    float *logits = NULL;
    bool done_all = false;
    size_t row_bytes = (size_t)e->model->info.n_vocab * sizeof *logits;
    n = n < QN_N_TASKS ? n : QN_N_TASKS;
    *out = (qn_task_result){.syntax_valid = NAN};
    answers = qn_calloc(n, sizeof *answers);
    logits = qn_malloc_aligned(n * row_bytes);
    if (answers == NULL || logits == NULL) {
        QN_FAIL_MEMORY(err, "the tasks", n * (row_bytes + sizeof *answers));
    }
    for (size_t i = 0; i < n; i++) {
        QN_TRY(begin_answer(e, t, prompts[i], logits, &answers[i], err));
    }
    while (!done_all) {
        QN_TRY(advance(e, answers, n, logits, &done_all, err));
    }
    QN_TRY(judge_answers(t, answers, n, out, err));
done:
    for (size_t i = 0; answers != NULL && i < n; i++) {
        quern_sequence_destroy(answers[i].sequence);
        quern_ids_deinit(&answers[i].prompt);
    }
    qn_free(answers);
    qn_free_aligned(logits);
    return status;
}
