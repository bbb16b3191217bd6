/* line_edit.c - the only file that knows libedit; without it lines are read plainly. */
#include "line_edit.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "signals.h"

#ifdef QUERN_HAVE_LIBEDIT
#include <histedit.h>
#include <wchar.h>
#endif

#define LINE_BYTES_MAX ((size_t)16 << 20)
enum { HISTORY_LINES = 1000 };

struct qn_line_edit {
    const qn_term *screen;
    bool interactive;
    qn_buf line;
    char *history_path;
    char prompt[64]; /* with colour between two \1, as EL_PROMPT_ESC wants it */
#ifdef QUERN_HAVE_LIBEDIT
    EditLine *editor;
    History *history;
#endif
};

#ifdef QUERN_HAVE_LIBEDIT
const char *qn_line_edit_library(void) { return "libedit"; }

static char *give_prompt(EditLine *editor)
{
    void *data = NULL;
    (void)el_get(editor, EL_CLIENTDATA, &data);
    return data != NULL ? ((qn_line_edit *)data)->prompt : NULL;
}

/* libedit counts characters as the locale does: without a UTF-8 locale it would take each byte of a letter for one. */
static void use_utf8_locale(void)
{
    if (setlocale(LC_CTYPE, "") == NULL || strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
        (void)setlocale(LC_CTYPE, "C.UTF-8");
    }
}

/* The next character, for libedit: 1, 0 at the end of input, -1 with errno. Bytes that are no character are skipped. */
static int read_character(EditLine *editor, wchar_t *out)
{
    mbstate_t state = {0};
    (void)editor;
    for (;;) {
        char byte;
        if (!qn_signals_wait_input(STDIN_FILENO)) {
            return -1;
        }
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return (int)n;
        }
        size_t used = mbrtowc(out, &byte, 1, &state);
        if (used <= 1) {
            return 1;
        }
        if (used == (size_t)-1) {
            memset(&state, 0, sizeof state);
        }
    }
}

static void open_editor(qn_line_edit *e)
{
    HistEvent event;
    use_utf8_locale();
    e->editor = el_init("quern", stdin, e->screen->file, stderr);
    if (e->editor == NULL) {
        return; /* plain reading goes on */
    }
    (void)el_set(e->editor, EL_CLIENTDATA, e);
    (void)el_set(e->editor, EL_PROMPT_ESC, give_prompt, '\1');
    (void)el_set(e->editor, EL_EDITOR, "emacs");
    (void)el_set(e->editor, EL_SIGNAL, 0); /* Ctrl-C is ours */
    (void)el_set(e->editor, EL_GETCFN, read_character);
    (void)el_set(e->editor, EL_BIND, "^R", "em-inc-search-prev", NULL);
    (void)el_set(e->editor, EL_BIND, "\\e[H", "ed-move-to-beg", NULL);
    (void)el_set(e->editor, EL_BIND, "\\e[F", "ed-move-to-end", NULL);
    (void)el_set(e->editor, EL_BIND, "\\e[3~", "ed-delete-next-char", NULL);
    (void)el_set(e->editor, EL_BIND, "\\e[1;5C", "em-next-word", NULL);
    (void)el_set(e->editor, EL_BIND, "\\e[1;5D", "ed-prev-word", NULL);
    (void)el_source(e->editor, NULL); /* the user's ~/.editrc */
    e->history = history_init();
    if (e->history != NULL) {
        (void)history(e->history, &event, H_SETSIZE, HISTORY_LINES);
        (void)history(e->history, &event, H_SETUNIQUE, 1);
        (void)el_set(e->editor, EL_HIST, history, e->history);
        if (e->history_path != NULL) {
            (void)history(e->history, &event, H_LOAD, e->history_path);
        }
    }
}

static void close_editor(qn_line_edit *e)
{
    if (e->history != NULL) {
        history_end(e->history);
    }
    if (e->editor != NULL) {
        el_end(e->editor);
    }
}

void qn_line_edit_remember(qn_line_edit *e, const char *line)
{
    HistEvent event;
    if (e->history == NULL || line[0] == '\0') {
        return;
    }
    (void)history(e->history, &event, H_ENTER, line);
    if (e->history_path != NULL) {
        mode_t mask = umask(077); /* the file is private from its first moment on */
        (void)history(e->history, &event, H_SAVE, e->history_path);
        (void)umask(mask);
    }
}

/* QN_LINE_READ with the line in e->line; *plain is set if there is no editor. */
static qn_line_result read_edited(qn_line_edit *e, bool *plain)
{
    *plain = e->editor == NULL;
    if (*plain) {
        return QN_LINE_END;
    }
    int n = 0;
    errno = 0;
    const char *text = el_gets(e->editor, &n);
    if (text == NULL || n <= 0) {
        return errno == EINTR ? QN_LINE_INTERRUPTED : QN_LINE_END;
    }
    (void)qn_buf_append(&e->line, text, (size_t)n);
    return QN_LINE_READ;
}
#else
const char *qn_line_edit_library(void) { return "none"; }
static void open_editor(qn_line_edit *e) { (void)e; }
static void close_editor(qn_line_edit *e) { (void)e; }
void qn_line_edit_remember(qn_line_edit *e, const char *line)
{
    (void)e;
    (void)line;
}
static qn_line_result read_edited(qn_line_edit *e, bool *plain)
{
    (void)e;
    *plain = true;
    return QN_LINE_END;
}
#endif

qn_line_edit *qn_line_edit_create(const qn_term *screen, const char *history_path)
{
    qn_line_edit *e = qn_calloc(1, sizeof *e);
    if (e == NULL) {
        return NULL;
    }
    e->screen = screen;
    e->interactive = isatty(STDIN_FILENO) == 1;
    e->history_path = history_path != NULL ? qn_strdup(history_path) : NULL;
    qn_buf_init(&e->line, LINE_BYTES_MAX);
    if (e->interactive && screen->is_terminal) {
        open_editor(e);
    }
    return e;
}

void qn_line_edit_destroy(qn_line_edit *e)
{
    if (e != NULL) {
        close_editor(e);
        qn_buf_deinit(&e->line);
        qn_free(e->history_path);
        qn_free(e);
    }
}

bool qn_line_edit_is_interactive(const qn_line_edit *e) { return e->interactive; }

static qn_line_result read_plain(qn_line_edit *e, const char *prompt)
{
    char chunk[4096];
    if (e->interactive) {
        (void)fputs(prompt, e->screen->file);
        (void)fflush(e->screen->file);
    }
    if (e->interactive && !qn_signals_wait_input(STDIN_FILENO)) {
        return QN_LINE_INTERRUPTED;
    }
    errno = 0;
    while (fgets(chunk, sizeof chunk, stdin) != NULL) {
        size_t n = strlen(chunk);
        (void)qn_buf_append(&e->line, chunk, n);
        if (n > 0 && chunk[n - 1] == '\n') {
            return QN_LINE_READ;
        }
    }
    bool interrupted = ferror(stdin) != 0 && errno == EINTR;
    clearerr(stdin);
    return interrupted ? QN_LINE_INTERRUPTED : e->line.len > 0 ? QN_LINE_READ : QN_LINE_END;
}

qn_line_result qn_line_edit_read(qn_line_edit *e, const char *prompt, const char **line, size_t *len)
{
    const char *begin = qn_term_style(e->screen, QN_STYLE_ACCENT), *end = qn_term_style(e->screen, QN_STYLE_NONE);
    const char *mark = begin[0] != '\0' ? "\1" : "";
    size_t last = strlen(prompt) - 1; /* libedit loses an escape sequence that no character follows: the last one is uncoloured */
    (void)snprintf(e->prompt, sizeof e->prompt, "%s%s%s%.*s%s%s%s%s", mark, begin, mark, (int)last, prompt, mark, end, mark, prompt + last);
    bool plain;
    qn_buf_reset(&e->line);
    qn_line_result result = read_edited(e, &plain);
    if (plain) {
        result = read_plain(e, prompt);
    }
    while (e->line.len > 0 && (e->line.data[e->line.len - 1] == '\n' || e->line.data[e->line.len - 1] == '\r')) {
        e->line.data[--e->line.len] = '\0';
    }
    *line = qn_buf_text(&e->line);
    *len = e->line.len;
    return result;
}
