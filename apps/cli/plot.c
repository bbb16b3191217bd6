/* plot.c - writes a script for gnuplot, runs it without a shell and takes the SVG from its output. See plot.h. */
#include "plot.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { SCRIPT_BYTES_MAX = 1 << 20, SVG_BYTES_MAX = 16 << 20, PANEL_WIDTH = 900, PANEL_HEIGHT = 520, READ_BYTES = 1 << 14 };

static const char *const colours[] = {"#1f5fa8", "#c2571a", "#2f7d4f", "#7a3e9d"};

/* A text in double quotes: what has a meaning inside them, or is no printable ASCII, becomes '?'. */
static void append_quoted(qn_buf *out, const char *text)
{
    (void)qn_buf_append_char(out, '"');
    for (const char *c = text; *c != 0; c++) {
        bool plain = *c >= ' ' && *c <= '~' && *c != '"' && *c != '\\' && *c != '`' && *c != '$';
        (void)qn_buf_append_char(out, plain ? *c : '?');
    }
    (void)qn_buf_append_char(out, '"');
}

static void append_panel(qn_buf *out, const qn_plot_panel *p, size_t number)
{
    (void)qn_buf_append_str(out, "set title ");
    append_quoted(out, p->title);
    (void)qn_buf_append_str(out, "\nset xlabel ");
    append_quoted(out, p->x_label);
    (void)qn_buf_append_str(out, "\nset ylabel ");
    append_quoted(out, p->y_label);
    (void)qn_buf_append_str(out, p->log_y ? "\nset logscale y\nset format y \"%.0e\"\n" : "\nunset logscale\nset format y \"%g\"\n");
    (void)qn_buf_append_str(out, p->lines ? "set xrange [0:*]\nset yrange [0:*]\n" : "set autoscale\n");
    for (size_t s = 0; s < p->n_series; s++) {
        if (p->series[s].n == 0) {
            continue;
        }
        (void)qn_buf_printf(out, "$d%zu_%zu << END_OF_POINTS\n", number, s);
        for (size_t i = 0; i < p->series[s].n; i++) {
            const qn_plot_point *point = &p->series[s].points[i];
            (void)qn_buf_printf(out, "%.17g %.17g ", point->x, point->y);
            append_quoted(out, point->label);
            (void)qn_buf_append_char(out, '\n');
        }
        (void)qn_buf_append_str(out, "END_OF_POINTS\n");
    }
    const char *joint = "plot ";
    for (size_t s = 0; s < p->n_series; s++) {
        if (p->series[s].n == 0) {
            continue;
        }
        const char *colour = colours[s % (sizeof colours / sizeof colours[0])];
        (void)qn_buf_printf(out, "%s$d%zu_%zu using 1:2 with %s pt 7 ps 0.6 lc rgb \"%s\" title ", joint, number, s,
                            p->lines ? "linespoints" : "points", colour);
        joint = ", ";
        append_quoted(out, p->series[s].name);
        (void)qn_buf_printf(out,
                            ", $d%zu_%zu using 1:2:3 with labels left offset char 0.5,%s rotate by %s font \",9\" tc rgb \"%s\" notitle",
                            number, s, s % 2 == 0 ? "0.4" : "-0.4", s % 2 == 0 ? "52" : "-52", colour);
    }
    (void)qn_buf_append_char(out, '\n');
}

static void append_script(qn_buf *out, const qn_plot_panel *panels, size_t n)
{
    (void)qn_buf_printf(out, "set terminal svg size %d,%zu noenhanced font \"sans-serif,12\" background \"#ffffff\" name \"quern\"\n",
                        PANEL_WIDTH, PANEL_HEIGHT * n);
    (void)qn_buf_printf(
        out,
        "set multiplot layout %zu,1\nset grid lc rgb \"#dddddd\"\nset key top right\nset border 3\nset tics nomirror\nset offsets 0.1,0.9,0,0\n",
        n);
    for (size_t i = 0; i < n; i++) {
        append_panel(out, &panels[i], i);
    }
    (void)qn_buf_append_str(out, "unset multiplot\n");
}

/* Reads a file descriptor to its end. */
static quern_status read_all(int fd, qn_buf *out, quern_error *err)
{
    char part[READ_BYTES];
    for (;;) {
        ssize_t n = read(fd, part, sizeof part);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return qn_error_set(err, QUERN_ERROR_IO, "gnuplot's picture: %s", strerror(errno));
        }
        if (n == 0) {
            return out->failed ? qn_error_set(err, QUERN_ERROR_LIMIT, "gnuplot's picture is larger than %d bytes", SVG_BYTES_MAX)
                               : QUERN_OK;
        }
        (void)qn_buf_append(out, part, (size_t)n);
    }
}

/* Starts gnuplot with the script on its stdin, `out` as its stdout and `messages` as its stderr. */
static quern_status start(FILE *script, int out, FILE *messages, pid_t *pid, quern_error *err)
{
    char name[] = "gnuplot", option[] = "--default-settings";
    char *const arguments[] = {name, option, NULL};
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: starting gnuplot");
    }
    int failed = posix_spawn_file_actions_adddup2(&actions, fileno(script), STDIN_FILENO);
    failed = failed != 0 ? failed : posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    failed = failed != 0 ? failed : posix_spawn_file_actions_adddup2(&actions, fileno(messages), STDERR_FILENO);
    failed = failed != 0 ? failed : posix_spawnp(pid, name, &actions, NULL, arguments, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (failed == ENOENT) {
        return qn_error_set(err, QUERN_ERROR_UNAVAILABLE,
                            "pictures are drawn by gnuplot, which is not installed "
                            "(Debian: apt-get install gnuplot-nox)");
    }
    return failed != 0 ? qn_error_set(err, QUERN_ERROR_IO, "gnuplot: %s", strerror(failed)) : QUERN_OK;
}

/* Waits for gnuplot; its first message is the error's. */
static quern_status finish(pid_t pid, FILE *messages, quern_error *err)
{
    int how;
    char line[200] = "no message";
    while (waitpid(pid, &how, 0) < 0) {
        if (errno != EINTR) {
            return qn_error_set(err, QUERN_ERROR_IO, "gnuplot: %s", strerror(errno));
        }
    }
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0) {
        return QUERN_OK;
    }
    rewind(messages);
    if (fgets(line, sizeof line, messages) != NULL) {
        line[strcspn(line, "\n")] = 0;
    }
    return qn_error_set(err, QUERN_ERROR_IO, "gnuplot failed: %s", line);
}

quern_status qn_plot_svg(const qn_plot_panel *panels, size_t n, qn_buf *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_buf script;
    FILE *input = tmpfile(), *messages = tmpfile();
    int ends[2] = {-1, -1};
    pid_t pid = -1;
    qn_buf_init(&script, SCRIPT_BYTES_MAX);
    if (input == NULL || messages == NULL || pipe(ends) != 0 || fcntl(ends[0], F_SETFD, FD_CLOEXEC) != 0 ||
        fcntl(ends[1], F_SETFD, FD_CLOEXEC) != 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "gnuplot's script: %s", strerror(errno));
    }
    append_script(&script, panels, n);
    if (script.failed) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "the picture has too many points");
    }
    if (fwrite(qn_buf_text(&script), 1, script.len, input) != script.len || fflush(input) != 0) {
        QN_FAIL(err, QUERN_ERROR_IO, "gnuplot's script: %s", strerror(errno));
    }
    rewind(input);
    QN_TRY(start(input, ends[1], messages, &pid, err));
    (void)close(ends[1]);
    ends[1] = -1;
    status = read_all(ends[0], out, err);
    (void)close(ends[0]); /* a gnuplot that still writes ends now */
    ends[0] = -1;
    if (status != QUERN_OK) {
        (void)finish(pid, messages, NULL);
        goto done;
    }
    QN_TRY(finish(pid, messages, err));
done:
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) {
            (void)close(ends[i]);
        }
    }
    if (input != NULL) {
        (void)fclose(input);
    }
    if (messages != NULL) {
        (void)fclose(messages);
    }
    qn_buf_deinit(&script);
    return status;
}
