/* signals.c - handlers that do nothing but set a flag or die cleanly; everything in them is async-signal-safe. */
#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"

enum { EXIT_INTERRUPTED = 130 };

static atomic_int stoppable;
static atomic_int interrupts; /* since the last begin */

static void on_interrupt(int sig)
{
    (void)sig;
    int saved_errno = errno;
    int before = atomic_fetch_add(&interrupts, 1);
    if (before > 0 || atomic_load(&stoppable) == 0) {
        qn_out_file_remove_all_temporary();
        if (isatty(STDERR_FILENO)) {
            static const char reset[] = "\033[0m\n";
            ssize_t ignored = write(STDERR_FILENO, reset, sizeof reset - 1);
            (void)ignored;
        }
        _exit(EXIT_INTERRUPTED);
    }
    errno = saved_errno;
}

static void on_terminate(int sig)
{
    qn_out_file_remove_all_temporary();
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

void qn_signals_install(void)
{
    struct sigaction a;
    memset(&a, 0, sizeof a);
    (void)sigemptyset(&a.sa_mask);
    a.sa_handler = on_interrupt; /* without SA_RESTART: a read at the prompt must end */
    (void)sigaction(SIGINT, &a, NULL);
    a.sa_handler = on_terminate;
    (void)sigaction(SIGTERM, &a, NULL);
    struct sigaction hangup;
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) { /* nohup stays nohup */
        (void)sigaction(SIGHUP, &a, NULL);
    }
}

void qn_signals_begin_stoppable(void)
{
    atomic_store(&interrupts, 0);
    atomic_store(&stoppable, 1);
}

void qn_signals_end_stoppable(void) { atomic_store(&stoppable, 0); }

bool qn_signals_stopped(void) { return atomic_load(&interrupts) > 0; }
