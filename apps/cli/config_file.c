/* config_file.c - a line reader; what names mean is opts.c's business. */
#include "config_file.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"

enum { CONFIG_BYTES_MAX = 1 << 20, LINE_BYTES_MAX = 8192 };

/* The value of an environment variable that names an absolute path, else NULL (as the XDG specification wants it). */
static const char *absolute_path_of(const char *variable)
{
    const char *v = getenv(variable);
    return v != NULL && v[0] == '/' ? v : NULL;
}

/* $variable/quern, or $HOME/fallback/quern. */
static char *base_folder(const char *variable, const char *fallback)
{
    const char *base = absolute_path_of(variable);
    if (base != NULL) {
        return qn_path_join(base, "quern");
    }
    const char *home = getenv("HOME");
    if (home == NULL || home[0] == '\0') {
        return NULL;
    }
    char *dir = qn_path_join(home, fallback);
    char *joined = dir != NULL ? qn_path_join(dir, "quern") : NULL;
    qn_free(dir);
    return joined;
}

char *qn_config_folder(void) { return base_folder("XDG_CONFIG_HOME", ".config"); }

char *qn_data_folder(void)
{
    const char *home = getenv("QUERN_HOME");
    return home != NULL && home[0] != '\0' ? qn_strdup(home) : base_folder("XDG_DATA_HOME", ".local/share");
}

/* Cuts white space off both ends, in place. */
static char *trim(char *s)
{
    s += strspn(s, " \t\r");
    size_t n = strlen(s);
    while (n > 0 && strchr(" \t\r", s[n - 1]) != NULL) {
        s[--n] = '\0';
    }
    return s;
}

static quern_status parse_line(qn_opts *o, char *line, const char *place, quern_error *err)
{
    char *text = trim(line);
    if (text[0] == '\0' || text[0] == '#') {
        return QUERN_OK;
    }
    char *equals = strchr(text, '=');
    if (equals == NULL) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "%s: expected 'name = value', found '%s'", place, text);
    }
    *equals = '\0';
    char *name = trim(text), *value = trim(equals + 1);
    size_t n = strlen(value);
    if (n >= 2 && value[0] == '"' && value[n - 1] == '"') { /* quotes keep outer spaces */
        value[n - 1] = '\0';
        value++;
    }
    return qn_opts_set_config(o, name, value, place, err);
}

quern_status qn_config_file_parse(qn_opts *o, const char *text, size_t len, const char *name, quern_error *err)
{
    quern_status status = QUERN_OK;
    char line[LINE_BYTES_MAX], place[512];
    size_t number = 0;
    for (size_t at = 0; at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end != NULL ? (size_t)(end - (text + at)) : len - at;
        number++;
        (void)snprintf(place, sizeof place, "%s:%zu", name, number);
        if (n >= sizeof line || memchr(text + at, '\0', n) != NULL) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "%s: not a line of text of at most %d bytes", place, (int)LINE_BYTES_MAX - 1);
        }
        memcpy(line, text + at, n);
        line[n] = '\0';
        QN_TRY(parse_line(o, line, place, err));
        at += n + 1;
    }
done:
    return status;
}

quern_status qn_config_file_read(qn_opts *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *folder = qn_config_folder();
    char *path = folder != NULL ? qn_path_join(folder, "config") : NULL;
    char *text = NULL;
    size_t len = 0;
    if (path != NULL && qn_path_exists(path)) {
        QN_TRY(qn_file_read(&text, &len, path, CONFIG_BYTES_MAX, err));
        QN_TRY(qn_config_file_parse(o, text, len, path, err));
    }
done:
    qn_free(text);
    qn_free(path);
    qn_free(folder);
    return status;
}
