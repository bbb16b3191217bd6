/* affinity.c - see affinity.h. The only file that asks the system for a thread's processors, or sets them. */
#define _GNU_SOURCE
#include "base/affinity.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

enum { WORD_BITS = sizeof(unsigned long) * CHAR_BIT, MASK_BITS_MAX = 1 << 20 };

bool qn_affinity_get(qn_processors *out)
{
    /* The kernel refuses a mask that is smaller than its own, whose size it does not tell. */
    for (size_t bits = 1024; bits <= MASK_BITS_MAX; bits *= 2) {
        *out = (qn_processors){qn_calloc(bits / WORD_BITS, sizeof *out->words), bits / WORD_BITS};
        if (out->words != NULL && qn_affinity_read(out)) {
            return true;
        }
        bool larger = out->words != NULL && errno == EINVAL;
        qn_processors_deinit(out);
        if (!larger) {
            break;
        }
    }
    return false;
}

bool qn_affinity_read(qn_processors *set)
{
#if defined(__linux__)
    memset(set->words, 0, set->n_words * sizeof *set->words); /* the C library may write less than all of it */
    return sched_getaffinity(0, set->n_words * sizeof *set->words, (cpu_set_t *)(void *)set->words) == 0;
#else
    (void)set;
    errno = ENOSYS;
    return false;
#endif
}

bool qn_affinity_set(const qn_processors *p)
{
#if defined(__linux__)
    return sched_setaffinity(0, p->n_words * sizeof *p->words, (const cpu_set_t *)(const void *)p->words) == 0;
#else
    (void)p;
    return false;
#endif
}

/* A number, and *s behind it; SIZE_MAX if none is there. */
static size_t take_number(const char **s)
{
    if (!isdigit((unsigned char)**s)) {
        return SIZE_MAX;
    }
    char *end;
    unsigned long n = strtoul(*s, &end, 10);
    *s = end;
    return n;
}

bool qn_processors_from_list(const char *list, const qn_processors *among, qn_processors *out)
{
    if (!qn_processors_init(out, among)) {
        return false;
    }
    for (const char *s = list;;) {
        size_t first = take_number(&s), last = first;
        if (*s == '-') {
            s++;
            last = take_number(&s);
        }
        if (first == SIZE_MAX || last == SIZE_MAX) {
            return true;
        }
        for (size_t i = first; i <= last && i < among->n_words * WORD_BITS; i++) {
            out->words[i / WORD_BITS] |= among->words[i / WORD_BITS] & 1ul << i % WORD_BITS;
        }
        if (*s++ != ',') {
            return true;
        }
    }
}

bool qn_processors_init(qn_processors *p, const qn_processors *like)
{
    *p = (qn_processors){qn_calloc(like->n_words, sizeof *p->words), like->n_words};
    if (p->words == NULL) {
        *p = (qn_processors){0};
    }
    return p->words != NULL;
}

bool qn_processors_common(const qn_processors *a, const qn_processors *b, qn_processors *out)
{
    unsigned long any = 0;
    for (size_t i = 0; i < out->n_words; i++) {
        out->words[i] = a->words[i] & b->words[i];
        any |= out->words[i];
    }
    return any != 0;
}

void qn_processors_remove(qn_processors *p, const qn_processors *gone)
{
    for (size_t i = 0; i < p->n_words; i++) {
        p->words[i] &= ~gone->words[i];
    }
}

bool qn_processors_has(const qn_processors *p, size_t i)
{
    return i / WORD_BITS < p->n_words && (p->words[i / WORD_BITS] >> i % WORD_BITS & 1u) != 0;
}

size_t qn_processors_count(const qn_processors *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_words; i++) {
        n += (size_t)__builtin_popcountl(p->words[i]);
    }
    return n;
}

bool qn_processors_equal(const qn_processors *a, const qn_processors *b)
{
    return a->n_words == b->n_words && (a->n_words == 0 || memcmp(a->words, b->words, a->n_words * sizeof *a->words) == 0);
}

void qn_processors_deinit(qn_processors *p)
{
    qn_free(p->words);
    *p = (qn_processors){0};
}
