/* background.c - see background.h. */
#include "base/background.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/alloc.h"

struct qn_background {
    pthread_t thread;
    void (*fn)(void *arg);
    void *arg;
    atomic_bool finished;
};

static void *run(void *arg)
{
    qn_background *b = arg;
    b->fn(b->arg);
    atomic_store_explicit(&b->finished, true, memory_order_release);
    return NULL;
}

quern_status qn_background_start(qn_background **out, void (*fn)(void *arg), void *arg, quern_error *err)
{
    quern_status status = QUERN_OK;
    sigset_t all, before;
    qn_background *b = qn_calloc(1, sizeof *b);
    *out = NULL;
    if (b == NULL) {
        QN_FAIL_MEMORY(err, "a thread", sizeof *b);
    }
    b->fn = fn;
    b->arg = arg;
    (void)sigfillset(&all); /* the program's signals are not this thread's to take */
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    int refused = pthread_create(&b->thread, NULL, run, b);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (refused != 0) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "the system refused a thread");
    }
    *out = b;
    b = NULL;
done:
    qn_free(b);
    return status;
}

bool qn_background_finished(const qn_background *b) { return atomic_load_explicit(&b->finished, memory_order_acquire); }

void qn_background_join(qn_background *b)
{
    if (b != NULL) {
        (void)pthread_join(b->thread, NULL);
        qn_free(b);
    }
}
