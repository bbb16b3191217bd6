/* python_check.c - asks CPython whether texts parse. See tasks.h.
 *
 * The child gets the texts on its standard input and gives one character once it has them, then one a text, each at once; it is isolated (-I), has no
 * site packages, an empty environment, and limits on time, memory and files. It parses and never executes. A child that ends before that first
 * character, or takes too long, counts as no python3; one that ends later has met a text that its parser does not survive.
 */
#include "gate/tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

enum {
    SECONDS_MAX = 20, /* of all children together */
    CRASHES_MAX = 8,  /* more are no single texts' fault */
    TEXTS_BYTES_MAX = 16 << 20
};

static const char script[] = "import ast,sys,json,os\n"
                             "texts=json.loads(sys.stdin.buffer.read().decode('utf-8','replace'))\n"
                             "os.write(1,b'+')\n"
                             "for text in texts:\n"
                             "    try:\n"
                             "        ast.parse(text)\n"
                             "        os.write(1,b'1')\n"
                             "    except (SyntaxError,ValueError,RecursionError,MemoryError):\n"
                             "        os.write(1,b'0')\n";

static void append_json(qn_buf *b, const char *text)
{
    (void)qn_buf_append_char(b, '"');
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') {
            (void)qn_buf_append_char(b, '\\');
            (void)qn_buf_append_char(b, *p);
        } else if (c < 0x20) {
            (void)qn_buf_printf(b, "\\u%04x", c);
        } else {
            (void)qn_buf_append_char(b, *p);
        }
    }
    (void)qn_buf_append_char(b, '"');
}

/* In the child; only async-signal-safe calls. */
static void become_python(const char *python, int in, int out)
{
    static char *const argv[] = {"python3", "-I", "-S", "-B", "-c", (char *)(uintptr_t)script, NULL};
    static char *const environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin", NULL};
    static const char *const places[] = {"/usr/bin/python3", "/usr/local/bin/python3", "/bin/python3"};
    const struct rlimit memory = {.rlim_cur = (rlim_t)1 << 30, .rlim_max = (rlim_t)1 << 30};
    const struct rlimit seconds = {.rlim_cur = SECONDS_MAX, .rlim_max = SECONDS_MAX};
    const struct rlimit nothing = {.rlim_cur = 0, .rlim_max = 0};
    int null = open("/dev/null", O_WRONLY);
    (void)setrlimit(RLIMIT_AS, &memory);
    (void)setrlimit(RLIMIT_CPU, &seconds);
    (void)setrlimit(RLIMIT_FSIZE, &nothing);
    (void)setrlimit(RLIMIT_CORE, &nothing);
    if (dup2(in, 0) == 0 && dup2(out, 1) == 1 && dup2(null, 2) == 2) {
        for (size_t i = 0; python == NULL && i < sizeof places / sizeof places[0]; i++) {
            (void)execve(places[i], argv, environment);
        }
        if (python != NULL) {
            (void)execve(python, argv, environment);
        }
    }
}

/* Feeds and reads until the answer is complete, the child closes, or time is up. Returns characters read. */
static size_t converse(int to, int from, const qn_buf *text, char *answer, size_t n, uint64_t begin_ns)
{
    size_t sent = 0, got = 0;
    while (got < n && qn_clock_seconds(begin_ns, qn_clock_ns()) < SECONDS_MAX) {
        struct pollfd fds[2] = {{.fd = from, .events = POLLIN}, {.fd = to, .events = POLLOUT}};
        if (poll(fds, to >= 0 ? 2 : 1, 100) < 0 && errno != EINTR) {
            break;
        }
        if (to >= 0 && (fds[1].revents & (POLLOUT | POLLERR)) != 0) {
            ssize_t w = write(to, text->data + sent, text->len - sent);
            sent += w > 0 ? (size_t)w : 0;
            if (sent == text->len || (w < 0 && errno != EAGAIN && errno != EINTR)) {
                (void)close(to);
                to = -1;
            }
        }
        if ((fds[0].revents & (POLLIN | POLLHUP)) != 0) {
            ssize_t r = read(from, answer + got, n - got);
            if (r == 0 || (r < 0 && errno != EAGAIN && errno != EINTR)) {
                break;
            }
            got += r > 0 ? (size_t)r : 0;
        }
    }
    if (to >= 0) {
        (void)close(to);
    }
    return got;
}

/* Both ends close on exec; the child's copies on 0 and 1 stay. */
static bool make_pipe(int ends[2])
{
    if (pipe(ends) != 0) {
        ends[0] = ends[1] = -1;
        return false;
    }
    return fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 && fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0;
}

/* One child for texts[0, n). `read`: it is python3 and has the texts. Returns how many it answered before it ended or time was up. */
static size_t ask(const char *python, const char *const *texts, size_t n, uint64_t begin_ns, bool *valid, bool *read, quern_error *err,
                  quern_status *failed)
{
    quern_status status = QUERN_OK;
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    size_t got = 0;
    qn_buf json, answer;
    qn_buf_init(&json, TEXTS_BYTES_MAX);
    qn_buf_init(&answer, n + 2);
    *read = false;
    (void)qn_buf_append_char(&json, '[');
    for (size_t i = 0; i < n; i++) {
        (void)qn_buf_append_str(&json, i > 0 ? "," : "");
        append_json(&json, texts[i]);
    }
    (void)qn_buf_append_char(&json, ']');
    if (json.failed || !qn_buf_append_zeros(&answer, n + 1)) {
        QN_FAIL_MEMORY(err, "texts for python3", json.len);
    }
    if (!make_pipe(in) || !make_pipe(out)) {
        goto done;
    }
    pid_t child = fork();
    if (child == 0) {
        become_python(python, in[0], out[1]);
        (void)raise(SIGKILL);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    in[0] = out[1] = -1;
    if (child > 0) {
        (void)fcntl(in[1], F_SETFL, O_NONBLOCK);
        got = converse(in[1], out[0], &json, answer.data, n + 1, begin_ns);
        in[1] = -1;
        (void)kill(child, SIGKILL);
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    *read = got > 0;
    got -= got > 0;
    for (size_t i = 0; i < got; i++) {
        valid[i] = answer.data[i + 1] == '1';
    }
done:
    for (size_t k = 0; k < 2; k++) {
        if (in[k] >= 0) {
            (void)close(in[k]);
        }
        if (out[k] >= 0) {
            (void)close(out[k]);
        }
    }
    qn_buf_deinit(&json);
    qn_buf_deinit(&answer);
    *failed = status;
    return got;
}

quern_status qn_python_check(const char *python, const char *const *texts, size_t n, bool *valid, size_t *n_crashed, bool *available,
                             quern_error *err)
{
    quern_status status = QUERN_OK;
    sigset_t pipe_signal, before;
    uint64_t begin_ns = qn_clock_ns();
    bool read = true, in_time = true;
    size_t done = 0;
    *n_crashed = 0;
    (void)sigemptyset(&pipe_signal); /* a child that went away is an error of write, in this thread only */
    (void)sigaddset(&pipe_signal, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    while (status == QUERN_OK && read && in_time && done < n && *n_crashed <= CRASHES_MAX) {
        done += ask(python, texts + done, n - done, begin_ns, valid + done, &read, err, &status);
        in_time = qn_clock_seconds(begin_ns, qn_clock_ns()) < SECONDS_MAX;
        if (status == QUERN_OK && read && in_time && done < n) { /* it ended over this one, and another child goes on behind it */
            valid[done++] = false;
            ++*n_crashed;
        }
    }
    const struct timespec at_once = {0};
    (void)sigtimedwait(&pipe_signal, NULL, &at_once);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    *available = status == QUERN_OK && done == n && *n_crashed <= CRASHES_MAX;
    for (size_t i = 0; i < n; i++) {
        valid[i] = *available && valid[i];
    }
    return status;
}
