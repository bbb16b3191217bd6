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
    *out = (qn_processors){0};
#if defined(__linux__)
    /* The kernel refuses a mask that is smaller than its own, whose size it does not tell. */
    for (size_t bits = 1024; bits <= MASK_BITS_MAX; bits *= 2) {
        unsigned long *words = qn_calloc(bits / WORD_BITS, sizeof *words);
        if (words != NULL && sched_getaffinity(0, bits / CHAR_BIT, (cpu_set_t *)(void *)words) == 0) {
            *out = (qn_processors){words, bits / WORD_BITS};
            return true;
        }
        bool larger = words != NULL && errno == EINVAL;
        qn_free(words);
        if (!larger) {
            break;
        }
    }
#endif
    return false;
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
    *out = (qn_processors){qn_calloc(among->n_words, sizeof *out->words), among->n_words};
    if (out->words == NULL) {
        *out = (qn_processors){0};
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
