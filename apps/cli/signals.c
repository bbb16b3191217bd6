/* signals.c - handlers that do nothing but set a flag or die cleanly; everything in them is async-signal-safe. */
#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "base/out_file.h"

enum { EXIT_INPUT_OUTPUT = 5, EXIT_INTERRUPTED = 130 };

static atomic_int stoppable;
static atomic_int interrupts; /* since the last begin */
static atomic_int postponed;  /* a signal that came while files got their names */

static void write_text(const char *text, size_t n)
{
    ssize_t ignored = write(STDERR_FILENO, text, n);
    (void)ignored;
}

static void on_interrupt(int sig)
{
    (void)sig;
    int saved_errno = errno;
    int before = atomic_fetch_add(&interrupts, 1);
    if ((before > 0 || atomic_load(&stoppable) == 0) && qn_out_files_abandon_all()) {
        if (isatty(STDERR_FILENO)) {
            static const char reset[] = "\033[0m\n";
            write_text(reset, sizeof reset - 1);
        }
        _exit(EXIT_INTERRUPTED);
    }
    errno = saved_errno;
}

static void on_terminate(int sig)
{
    int saved_errno = errno;
    if (qn_out_files_abandon_all()) {
        (void)signal(sig, SIG_DFL);
        (void)raise(sig);
    }
    atomic_store(&postponed, sig);
    errno = saved_errno;
}

/* A page of a mapped file could not be read. The first thread that meets it ends the program; others wait for that. */
static void on_bus_error(int sig)
{
    static atomic_flag met = ATOMIC_FLAG_INIT;
    static const char text[] = "quern: a mapped file became shorter while it was read, or its disk failed: stopped\n";
    (void)sig;
    while (atomic_flag_test_and_set(&met)) {
        (void)pause();
    }
    (void)qn_out_files_abandon_all();
    if (isatty(STDERR_FILENO)) {
        static const char new_line[] = "\033[0m\n"; /* below a bar or an answer */
        write_text(new_line, sizeof new_line - 1);
    }
    write_text(text, sizeof text - 1);
    _exit(EXIT_INPUT_OUTPUT);
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
    a.sa_handler = on_bus_error;
    (void)sigaction(SIGBUS, &a, NULL);
    a.sa_handler = SIG_IGN; /* a write beyond the limit on file sizes then fails, with a message */
    (void)sigaction(SIGXFSZ, &a, NULL);
}

void qn_signals_begin_stoppable(void)
{
    atomic_store(&interrupts, 0);
    atomic_store(&stoppable, 1);
}

void qn_signals_end_stoppable(void)
{
    atomic_store(&stoppable, 0);
    int sig = atomic_load(&postponed);
    if (sig != 0) {
        on_terminate(sig);
    }
}

bool qn_signals_stopped(void) { return atomic_load(&interrupts) > 0; }

/* A signal between a look at the flag and a read would be lost until the next key: it is kept back, except during the wait itself. */
bool qn_signals_wait_input(int fd)
{
    sigset_t interrupt, before;
    int ready = -1;
    (void)sigemptyset(&interrupt);
    (void)sigaddset(&interrupt, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &interrupt, &before);
    while (!qn_signals_stopped() && ready < 0) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fd, &set);
        ready = pselect(fd + 1, &set, NULL, NULL, NULL, &before);
        if (ready < 0 && errno != EINTR) {
            break; /* the read itself will say what is wrong */
        }
    }
    bool stopped = qn_signals_stopped();
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    errno = stopped ? EINTR : 0;
    return !stopped;
}
